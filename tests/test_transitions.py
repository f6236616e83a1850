"""Data sets of transitions, the policies that make them, and what evaluation says of them."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from hfjax import envs
from hfjax.data import policies, transitions
from hfjax.errors import DataFileError
from hfjax.models import dsm
from hfjax.training.experiment import Experiment

jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def counter(goal=5):
    """Counts its own steps, and is terminal at `goal`."""

    def step(state, action, key):
        return state + 1, state.astype(float), state + 1 >= goal

    return envs.Env(
        lambda key: jnp.int32(0), step, lambda s: s[None].astype(float), *[np.zeros(1)] * 4
    )


def still(observation, key):
    return jnp.zeros(1)


def test_rollouts_begin_anew_and_say_where_they_ended():
    make = functools.partial(
        transitions.rollouts, counter(), still, jax.random.key(0), num_envs=2, num_steps=14
    )
    seen, last = make(episode_steps=4)
    np.testing.assert_array_equal(seen[0, :, 0], [0, 1, 2, 3] * 3 + [0, 1])
    np.testing.assert_array_equal(last[1], [False, False, False, True] * 3 + [False] * 2)
    # Terminal at 5, which is shown once, as the last.
    seen, last = make(episode_steps=100)
    np.testing.assert_array_equal(seen[0, :, 0], [0, 1, 2, 3, 4, 5] * 2 + [0, 1])
    np.testing.assert_array_equal(last[0], ([False] * 5 + [True]) * 2 + [False] * 2)


def test_monte_carlo_returns_are_discounted_sums():
    returns = transitions.monte_carlo_returns(
        counter(100),
        still,
        lambda seen, action: jnp.stack([seen[0], jnp.ones(())]),
        jnp.array([0, 7], jnp.int32),
        jax.random.key(0),
        gamma=0.5,
        num_rollouts=3,
        num_steps=10,
    )
    discounts = 0.5 ** np.arange(10)
    for source, start in enumerate((0, 7)):
        expected = [(discounts * (start + np.arange(10))).sum(), discounts.sum()]
        np.testing.assert_allclose(returns[source], np.repeat([expected], 3, axis=0).T, rtol=1e-6)
    next_one = transitions.monte_carlo_returns(
        counter(100),
        still,
        lambda seen, action: seen,
        jnp.array([7], jnp.int32),
        jax.random.key(0),
        gamma=0.0,
        num_rollouts=1,
        from_source=False,
    )
    np.testing.assert_allclose(next_one, [[[8.0]]])


@functools.cache
def pendulum():
    return transitions.pendulum(num_transitions=2_000, num_rollouts=40)


@functools.cache
def windy():
    return transitions.windy_grid(num_transitions=400, num_rollouts=500)


@pytest.mark.parametrize(("of_task", "of_data"), [(True, False), (False, True)])
def test_returns_that_count_the_source_otherwise_than_the_task_are_one_clear_sentence(
    of_task, of_data
):
    maker = functools.partial(
        transitions.pendulum, num_transitions=200, num_rollouts=2, from_source=of_data
    )
    made = transitions.saved_or_made(maker=maker)
    steps = {"num_steps": 1, "chunk": 1, "eval_every": 1, "save_every": 1}
    sentence = f"task.from_source is {of_task}, but .* from_source={of_data}; set data.maker"
    with pytest.raises(ValueError, match=sentence):
        Experiment(task=dsm.task(from_source=of_task), data=made, **steps)
    Experiment(task=dsm.task(from_source=of_data), data=made, **steps)
    del made["from_source"]  # a file of an older version
    Experiment(task=dsm.task(from_source=of_task), data=made, **steps)


def test_the_pendulum_swings_up_and_stays():
    made = pendulum()
    assert made["states"].shape == (2_000, 3)
    np.testing.assert_array_equal(np.flatnonzero(made["last"]), np.arange(199, 2000, 200))
    height = made["states"].reshape(-1, 200, 3)[:, -30:, 0]
    assert np.median(height) > 0.95
    np.testing.assert_allclose(made["sources"][4], [-1, 0, 0], atol=1e-6)
    default, plain = made["mc_returns"][:, 0], made["mc_returns"][:, 1]
    assert (default < plain).all()  # the torque has its price
    # By hand: hanging, without moving, costs pi^2 a step; nobody does worse than 20 steps of it.
    assert (plain[4] > -(np.pi**2 + 0.1 * 64) / 0.05).all()


def test_rounding_decides_no_reward_of_a_source_of_the_pendulum():
    sources = pendulum()["sources"]
    angles = np.arctan2(sources[:, 1], sources[:, 0])
    turned = [
        np.stack([np.cos(angles + turn), np.sin(angles + turn), sources[:, 2]], axis=-1)
        for turn in (-1e-3, 1e-3)
    ]
    for name, reward in envs.PENDULUM_REWARDS.items():
        before, after = (np.asarray(reward(s, np.zeros((9, 1)))) for s in turned)
        np.testing.assert_allclose(before, after, atol=0.02, err_msg=name)


def test_a_policys_actions_are_the_tanh_of_a_normal_variable(tmp_path):
    def layer(kernel, bias):
        return {"kernel": jnp.array(kernel), "bias": jnp.array(bias)}

    policy = policies.GaussianPolicy(
        params={
            "Dense_0": layer([[1.0, -1.0]], [0.0, 0.5]),
            "mean": layer([[0.3], [0.1]], [0.1]),
            "log_std": layer([[0.0], [0.0]], [-1.0]),
        },
        low=jnp.array([-2.0]),
        high=jnp.array([4.0]),
    )
    keys = jax.random.split(jax.random.key(0), 4000)
    actions = jax.vmap(lambda key: policies.act(policy, jnp.array([2.0]), key))(keys)
    # Hidden (2, 0); mean 0.7; deviation 1/e; [-1, 1] is stretched to [-2, 4].
    normal = np.arctanh((np.asarray(actions)[:, 0] - 1) / 3)
    assert scipy.stats.kstest(normal, scipy.stats.norm(0.7, np.exp(-1)).cdf).pvalue > 1e-3
    policies.save(tmp_path / "p.npz", policy, command="by hand")
    again = policies.load(str(tmp_path / "p.npz"))
    np.testing.assert_allclose(policies.act(again, jnp.array([2.0]), keys[0]), actions[0])
    with pytest.raises(
        ValueError, match="there is no policy tiger; there are arena_goal, pendulum"
    ):
        policies.load("tiger")


def test_the_trained_animal_reaches_its_goal():
    env = policies.goal_env()
    policy = policies.load("arena_goal")

    def reaches(key):
        start_key, key = jax.random.split(key)

        def move(carry, key):
            agent, done = carry
            action_key, step_key = jax.random.split(key)
            action = policies.act(policy, env.observe(agent), action_key)
            agent, _, terminal = env.step(agent, action, step_key)
            return (agent, done | terminal), None

        start = env.reset(start_key), jnp.zeros((), bool)
        return jax.lax.scan(move, start, jax.random.split(key, 300))[0][1]

    reached = jax.jit(jax.vmap(reaches))(jax.random.split(jax.random.key(0), 400))
    assert np.mean(reached) >= 0.95


@pytest.mark.parametrize("behaviour", transitions.BEHAVIOURS)
def test_place_cells_along_every_behaviour(behaviour):
    behave = transitions.BEHAVIOURS[behaviour]
    if behaviour == "actor_critic":
        behave = functools.partial(behave, training_steps=1_000)
    track = behave(jax.random.split(jax.random.key(0))[0], 1_000)  # made once, for both gammas
    made = transitions.place_cells(behaviour=lambda key, num_steps: track, num_steps=1_000)
    assert made["states"].shape == (1_000, 50)
    assert made["states"].min() >= 0
    assert made["states"].max() <= 1
    positions = made["positions"]
    nearest = np.argmin(np.linalg.norm(positions[:, None] - made["centres"], axis=-1), axis=1)
    assert (made["states"].argmax(axis=1) == nearest).all()
    assert made["last"][-1] or behaviour == "goal"
    if behaviour == "goal":
        ends = positions[:-1][made["last"][:-1]]
        assert len(ends) > 3
        assert np.median(np.linalg.norm(ends - 0.5, axis=1)) < 0.1
    if behaviour == "wall":
        crossed = (positions[1:, 0] > 0.4) != (positions[:-1, 0] > 0.4)
        assert not np.any(crossed & (positions[1:, 1] < 0.85))
    # What follows, at a gamma of 0: the rates themselves, at the first visit's lattice bin.
    now = transitions.place_cells(
        behaviour=lambda key, num_steps: track, num_steps=1_000, gamma=0.0
    )
    bins = np.clip((positions * 20).astype(int), 0, 19) @ (20, 1)
    np.testing.assert_allclose(
        now["empirical"][bins[0]], made["states"][bins == bins[0]].mean(axis=0), rtol=1e-4
    )


def test_what_follows_is_discounted_until_the_episode_ends():
    def three_places(key, num_steps):
        positions = np.array([[0.05, 0.05], [0.55, 0.55], [0.95, 0.95], [0.05, 0.55]], np.float32)
        last = np.array([False, False, True, True])
        return transitions.Track(transitions.arena.box(1.0), positions, last)

    made = transitions.place_cells(behaviour=three_places, num_steps=4, gamma=0.5, lattice=10)
    r = made["states"]
    np.testing.assert_allclose(made["empirical"][0], r[0] / 2 + r[1] / 4 + r[2] / 4, rtol=1e-5)
    np.testing.assert_allclose(made["empirical"][99], r[2], rtol=1e-5)
    np.testing.assert_allclose(made["empirical"][5], r[3], rtol=1e-5)
    assert np.isnan(made["empirical"][1]).all()
    np.testing.assert_allclose(made["occupancy"][[0, 5, 55, 99]], 0.25)


# --- Files ---


def test_a_data_set_is_made_once_and_read_again(tmp_path):
    path = str(tmp_path / "sets" / "p.npz")
    few = {"num_transitions": 600, "num_rollouts": 5}
    maker = functools.partial(transitions.pendulum, **few)
    made = transitions.saved_or_made(path=path, maker=maker)
    read = transitions.saved_or_made(path=path, maker=maker)
    assert jax.tree.structure(made) == jax.tree.structure(read)
    for a, b in zip(*map(jax.tree.leaves, (made, read)), strict=True):
        np.testing.assert_array_equal(a, b)
    with np.load(path) as file:
        arrays = dict(file)
    recipe = json.loads(str(arrays["recipe"]))
    assert recipe["maker"] == "pendulum"
    assert recipe["gamma"] == 0.95
    other = functools.partial(maker, num_rollouts=6)
    with pytest.raises(ValueError, match="was made with num_rollouts=5, not with num_rollouts=6"):
        transitions.saved_or_made(path=path, maker=other)
    windy = functools.partial(transitions.windy_grid, **few)
    with pytest.raises(ValueError, match=r"was made with .*maker=pendulum.*maker=windy_grid"):
        transitions.saved_or_made(path=path, maker=windy)
    with pytest.raises(ValueError, match="a data set is an npz file, but its path is plain"):
        transitions.saved_or_made(path="plain", maker=maker)
    del arrays["policy/low"]
    np.savez(tmp_path / "lacks.npz", **arrays)
    with pytest.raises(DataFileError, match=r"lacks 'low' of its policy"):
        transitions.saved_or_made(path=str(tmp_path / "lacks.npz"), maker=maker)


@pytest.mark.parametrize("kind", ["text", "empty", "cut", "overwritten", "npy", "pickled"])
def test_a_file_that_is_no_data_set_is_told_in_a_sentence(kind, tmp_path):
    path = tmp_path / "bad.npz"
    np.savez_compressed(path, recipe="{}", states=np.arange(10_000.0))
    whole = path.read_bytes()
    if kind == "npy":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    elif kind == "pickled":
        np.savez(path, recipe=np.array({"maker": "pendulum"}, dtype=object))
    else:
        middle = len(whole) // 2
        overwritten = whole[: middle - 50] + b"\xff" * 100 + whole[middle + 50 :]
        path.write_bytes(
            {"text": b"no zip", "empty": b"", "cut": whole[:middle], "overwritten": overwritten}[
                kind
            ]
        )
    with pytest.raises(DataFileError, match="is not a data set of transitions"):
        transitions.saved_or_made(path=str(path), maker=transitions.pendulum)
    with pytest.raises(ValueError, match="does not hold a policy"):
        policies.load(str(path))


def test_impossible_data_sets_are_refused():
    for make, message in (
        (lambda: transitions.place_cells(num_cells=0), "num_cells must be at least 1"),
        (lambda: transitions.pendulum(gamma=1.0), "gamma must be at least 0 and below 1"),
        (lambda: transitions.windy_grid(num_rollouts=0), "num_rollouts must be at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


# --- Evaluation ---


def test_distances_equal_scipys():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=37), 0.3 + 1.4 * rng.normal(size=200)
    actual = jit(dsm.distances)(jnp.asarray(x), jnp.asarray(y))
    np.testing.assert_allclose(
        actual["wasserstein"], scipy.stats.wasserstein_distance(x, y), rtol=1e-4
    )
    expected = scipy.stats.cramervonmises_2samp(x, y, method="asymptotic").statistic
    np.testing.assert_allclose(actual["cramer_von_mises"], expected, rtol=1e-4)
    np.testing.assert_allclose(
        actual["kolmogorov_smirnov"], scipy.stats.ks_2samp(x, y).statistic, rtol=1e-5
    )
    certain = jit(dsm.distances)(jnp.zeros(5), jnp.full(9, 2.0))
    np.testing.assert_allclose(certain["wasserstein"], 2)
    np.testing.assert_allclose(certain["kolmogorov_smirnov"], 1)


def test_rewards_of_the_pendulum_worked_by_hand():
    left = jnp.array([0.0, 1.0, -3.0])  # at pi / 2, turning back at 3 rad/s
    torque = jnp.array([5.0])  # of which 2 can be had
    expected = {
        "default": -((np.pi / 2) ** 2 + 0.9 + 0.004),
        "no action penalty": -((np.pi / 2) ** 2 + 0.9),
        "above horizon": -0.4,
        "stay left": 0.0,
        "stay right": 1.0,
        "slow": -3.0,
        "counter-clockwise": 0.0,
    }
    for name, reward in envs.PENDULUM_REWARDS.items():
        np.testing.assert_allclose(reward(left, torque), expected[name], rtol=1e-6, err_msg=name)


def no_layers(states, key, num_inner):
    return ()


def test_a_model_that_knows_the_truth_is_as_near_as_the_floor():
    """Atoms that are Monte-Carlo futures: their returns are the rewards' mean over 1 - gamma."""
    made = windy()
    truth = jnp.asarray(made["mc_returns"])  # of a reward: the first number of a state

    def samples(sources, key, num_inner):
        chosen = truth[:, 0, :100] * 0.05  # as many atoms
        known = jnp.asarray(made["sources"])
        which = jnp.argmin(jnp.sum((sources[:, None] - known[None]) ** 2, axis=-1), axis=1)
        return jnp.broadcast_to(chosen[which, :, None, None], (len(sources), 100, num_inner, 2))

    model = dsm.Predictor(samples, no_layers, samples)
    scalars, readout = dsm.evaluate_returns(
        model,
        made,
        jax.random.key(0),
        gamma=0.95,
        rewards={"first": lambda s, a: s[..., 0]},
        num_inner=3,
    )
    np.testing.assert_allclose(readout["returns"][:, 0], truth[:, 0, :100], rtol=1e-4)
    assert scalars["wasserstein_mean"] < 2 * scalars["random_wasserstein_mean"]
    assert scalars["wasserstein_mean"] < 0.2
    assert scalars["sampling_noise"] < 1e-6  # all samples of an atom are alike
    # The controls, again: five sources, one reward, a hundred atoms.
    quantiles = scipy.stats.norm.ppf((np.arange(100) + 0.5) / 100)
    for distance, function in (
        ("wasserstein", lambda a, b: scipy.stats.wasserstein_distance(a, b) / np.std(truth)),
        ("kolmogorov_smirnov", lambda a, b: scipy.stats.ks_2samp(a, b).statistic),
    ):
        expected = np.mean([function(t[0].mean() + t[0].std() * quantiles, t[0]) for t in truth])
        actual = scalars[f"gaussian_{distance}_mean"]
        np.testing.assert_allclose(actual, expected, rtol=1e-3, err_msg=distance)
    other, _ = dsm.windy_returns(model, made, jax.random.key(0), gamma=0.9, num_inner=3)
    assert other["wasserstein_mean"] == -np.inf  # missing


def test_the_mean_of_few_samples_is_noisy_and_the_controls_too():
    made = windy()

    def samples(sources, key, num_inner):
        return jax.random.normal(key, (len(sources), 30, num_inner, 2))

    scalars, _ = dsm.evaluate_returns(
        dsm.Predictor(samples, no_layers, samples),
        made,
        jax.random.key(0),
        gamma=0.95,
        rewards={"first": lambda s, a: s[..., 0]},
        num_inner=400,
    )
    # A deviation of 1 over 20 and sqrt(400): returns are noisy by 1.
    expected = 1 / np.std(made["mc_returns"])
    np.testing.assert_allclose(scalars["sampling_noise"], expected, rtol=0.05)
    assert scalars["random_wasserstein_mean"] > 0.3 * expected


def test_actions_are_asked_for_where_a_reward_depends_on_them():
    made = {**pendulum(), "mc_returns": pendulum()["mc_returns"][:, :1]}

    def samples(sources, key, num_inner):
        return jnp.broadcast_to(sources[:, None, None], (len(sources), 2, num_inner, 3))

    _, readout = dsm.evaluate_returns(
        dsm.Predictor(samples, no_layers, samples),
        made,
        jax.random.key(0),
        gamma=0.95,
        rewards={"torque": lambda s, a: a[..., 0]},
        act=lambda policy, state, key: policy.low + state[2:],
        num_inner=2,
    )
    expected = 20 * (-2 + np.asarray(made["sources"])[:, 2])
    np.testing.assert_allclose(readout["returns"][:, 0, 0], expected, rtol=1e-5)


def test_p_values_are_those_of_scipy():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(4, 30)) + np.array([[0.0], [0.2], [0.4], [2.0]])
    truth = rng.normal(size=(4, 400))
    actual = jax.jit(dsm.p_values)(jnp.asarray(values), jnp.asarray(truth), jax.random.key(0))
    for name, function in (
        ("kolmogorov_smirnov", scipy.stats.ks_2samp),
        ("cramer_von_mises", scipy.stats.cramervonmises_2samp),
    ):
        expected = [function(*pair).pvalue for pair in zip(values, truth, strict=True)]
        # 500 random divisions: a standard error of at most .022.
        np.testing.assert_allclose(actual[name], expected, atol=0.07, err_msg=name)
        np.testing.assert_allclose(actual[name][3], 1 / 501, rtol=1e-5)


def test_rollouts_of_a_one_step_model_worked_by_hand():
    """The next state is half of the state; the reward its first number: s/2 + .9 s/4 + .81 s/8."""
    made = {**windy(), "gamma": np.float32(0.9)}

    def samples(states, key, num_inner):
        return jnp.broadcast_to(states[:, None, None] / 2, (len(states), 2, num_inner, 2))

    rolled = functools.partial(
        dsm.rollout_returns,
        dsm.Predictor(samples, no_layers, samples),
        made,
        jax.random.key(0),
        rewards={"first": lambda s, a: s[..., 0]},
        discount=0.9,
        num_rollouts=40,
        rollout_steps=3,
    )
    scalars, readout = jax.jit(functools.partial(rolled, gamma=0.0))()
    expected = made["sources"][:, :1] * (0.5 + 0.9 / 4 + 0.81 / 8)
    np.testing.assert_allclose(readout["returns"][:, 0], expected + np.zeros((1, 40)), rtol=1e-5)
    assert 0 < scalars["wasserstein_mean"] < np.inf


def test_truncated_returns_have_the_mean_of_discounted_ones_and_more_spread():
    """A reward of 1 for ever: the return is 1 / (1 - gamma); truncated, the random length."""
    still = envs.Env(
        *(lambda key: jnp.zeros(1), lambda s, a, key: (s, 0.0, False), lambda s: s),
        *(np.zeros(1),) * 4,
    )
    returns = functools.partial(
        transitions.monte_carlo_returns,
        still,
        lambda o, key: o,
        lambda o, a: jnp.ones(1),
        jnp.zeros((1, 1)),
        jax.random.key(0),
        gamma=0.8,
        num_rollouts=4_000,
    )
    np.testing.assert_allclose(returns()[0, 0], 5, rtol=1e-5)
    lengths = returns(truncated=True)[0, 0]
    np.testing.assert_allclose(lengths, np.round(lengths))
    np.testing.assert_allclose(lengths.mean(), 5, rtol=0.05)
    np.testing.assert_allclose(lengths.var(), 0.8 / 0.2**2, rtol=0.1)  # of a geometric number


def test_policies_of_the_windy_grid_go_to_their_side():
    up, down = (
        transitions.windy_grid(moves=moves, num_transitions=400, num_rollouts=1)["states"][:, 1]
        for moves in (transitions.upwards, transitions.downwards)
    )
    assert up[100:200].mean() > 2
    assert down[100:200].mean() < -2


def test_the_noisy_car_pumps_itself_to_the_goal():
    data = transitions.mountain_car(num_transitions=2_000, num_rollouts=20)
    at_goal = data["states"][:, 0] >= envs.CAR_GOAL
    assert at_goal.any()
    assert data["last"][at_goal].all()  # an episode ends there
    of_goal = list(envs.CAR_REWARDS).index("at the goal")
    # From a fast start near the goal the car arrives, and stays: a reward of 1 for ever.
    assert data["mc_returns"][8, of_goal].max() > 5
    assert data["mc_returns"].shape == (9, len(envs.CAR_REWARDS), 20)


def test_thigmotaxis_is_what_the_behaviours_say():
    near = {}
    for name in ("low_thigmotaxis", "high_thigmotaxis"):
        positions = transitions.BEHAVIOURS[name](jax.random.key(0), 3_000).positions
        near[name] = np.mean(np.minimum(positions, 1 - positions).min(axis=1) < 0.1)
    assert near["high_thigmotaxis"] > near["low_thigmotaxis"] + 0.1


def test_own_cells_are_read_and_what_is_missing_is_told(tmp_path):
    """A path in a box of 4 m by 2 m; a cell that fires in its left half, and a silent one."""
    rng = np.random.default_rng(0)
    xy = np.concatenate([[(10, 0), (14, 1.9)], rng.uniform((10, 0), (14, 2), size=(4_998, 2))])
    rates = np.stack([8.0 * (xy[:, 0] < 12), np.zeros(5_000)], axis=1)
    file = tmp_path / "own.npz"
    np.savez(file, positions=xy, rates=rates)
    data = transitions.recorded_rates(path=str(file), lattice=10)
    own = data["sources"].reshape(10, 10, 2)
    np.testing.assert_array_equal(own[:5, :, 0], 1)  # places beyond 2 m as the nearest visited
    np.testing.assert_array_equal(own[5:, :, 0], 0)
    np.testing.assert_array_equal(own[..., 1], 0)
    seen = np.isfinite(data["empirical"][:, 0]).reshape(10, 10)
    assert seen[:, :5].all()
    assert not seen[:, 5:].any()
    assert data["last"].sum() == 1
    np.savez(file, rates=rates, speed=xy)
    with pytest.raises(DataFileError, match=r"own.npz lacks positions; it has rates, speed"):
        transitions.recorded_rates(path=str(file))
    np.savez(file, positions=xy[1:], rates=rates)
    with pytest.raises(ValueError, match=r"rates \[time, cell\], but they are \(4999, 2\)"):
        transitions.recorded_rates(path=str(file))
    with pytest.raises(ValueError, match=r"data\.path must be set"):
        transitions.recorded_rates()
