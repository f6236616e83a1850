"""The distributional successor measure: targets, losses, adversaries, and chains known exactly."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hfjax import kernels, networks
from hfjax.models import dsm

jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


# --- Targets ---


def enumerated(states, last, H, bootstrap, from_source):
    """The target sample of one stretch and horizon, by walking along it."""
    n = len(states) - 1
    ends = [i for i in range(n + 1) if last[i]]
    if ends:
        H = min(H, ends[0] + 1 if from_source else ends[0])
    steps = H - 1 if from_source else H  # how far ahead of s_0
    if steps < n:
        return states[steps]
    if ends or bootstrap is None:
        return states[n]
    return bootstrap


@pytest.mark.parametrize("from_source", [True, False])
@pytest.mark.parametrize("with_bootstrap", [True, False])
def test_targets_equal_an_enumeration(from_source, with_bootstrap):
    n = 3
    # Every place of an end, two ends, and none; a state is its number, a bootstrap 100 and more.
    cases = [*(np.arange(n + 1) == i for i in range(n + 1)), np.zeros(n + 1, bool)]
    cases.append(np.array([False, True, False, True]))
    last = np.array(cases)
    batch, outer, inner = len(last), 2, 6
    states = (10.0 * np.arange(batch)[:, None] + np.arange(n + 1))[..., None]
    drawn = np.broadcast_to(np.arange(1, inner + 1), (batch, outer, inner))
    bootstrap = 100.0 + np.arange(batch * outer * inner).reshape(batch, outer, inner, 1)

    def given(key, p, shape, dtype):
        return jnp.asarray(drawn, dtype)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax.random, "geometric", given)
        H = dsm.horizons(
            jax.random.key(0),
            jnp.asarray(last),
            gamma=0.9,
            num_outer=outer,
            num_inner=inner,
            from_source=from_source,
        )
    actual = dsm.target_samples(
        jnp.asarray(states),
        jnp.asarray(last),
        H,
        jnp.asarray(bootstrap) if with_bootstrap else None,
        from_source=from_source,
    )
    for b in range(batch):
        for o in range(outer):
            for i in range(inner):
                beyond = bootstrap[b, o, i] if with_bootstrap else None
                expected = enumerated(states[b], last[b], drawn[b, o, i], beyond, from_source)
                np.testing.assert_array_equal(actual[b, o, i], expected, err_msg=f"{b} {o} {i}")


def test_horizons_are_geometric():
    H = jit(functools.partial(dsm.horizons, gamma=0.75, num_outer=50, num_inner=100))(
        jax.random.key(0), jnp.zeros((20, 4), bool)
    )
    share = [(np.asarray(H) == h).mean() for h in (1, 2, 3)]
    np.testing.assert_allclose(share, [0.25, 0.1875, 0.140625], atol=0.005)
    ones = dsm.horizons(
        jax.random.key(0), jnp.zeros((2, 4), bool), gamma=0.0, num_outer=3, num_inner=4
    )
    assert np.all(np.asarray(ones) == 1)


# --- Losses ---


def loops(x, y, inner, outer, *, bandwidth=None):
    """The objective by loops over atoms and samples, in NumPy, as it is defined."""
    z = np.concatenate([x, y])
    n = len(x)

    def mmd(a, b):
        def mean(p, q, skip):
            values = [
                inner(np.sum((p[i] - q[j]) ** 2))
                for i in range(len(p))
                for j in range(len(q))
                if not (skip and i == j)
            ]
            return np.mean(values)

        return max(mean(a, a, True) + mean(b, b, True) - 2 * mean(a, b, False), 0)

    d = np.array([[mmd(a, b) if a is not b else 0 for b in z] for a in z])
    within_x = [d[i, j] for i in range(n) for j in range(n) if i != j]
    within_y = [d[i, j] for i in range(n, len(z)) for j in range(n, len(z)) if i != j]
    across = [d[i, j] for i in range(n) for j in range(n, len(z))]
    w = bandwidth or max(np.median([*within_x, *within_y, *across]), 1e-6)
    k = outer(d / w)
    return k[:n, :n].mean() + k[n:, n:].mean() - 2 * k[:n, n:].mean()


def rational(d):
    return sum((1 + d / (2 * b)) ** -b for b in (0.2, 0.5, 1, 2, 5))


def two_sets(seed=0, num_outer=4, num_inner=3, dim=2):
    keys = jax.random.split(jax.random.key(seed), 2)
    shape = (num_outer, num_inner, dim)
    return jax.random.normal(keys[0], shape), 1 + 1.3 * jax.random.normal(keys[1], shape)


@pytest.mark.parametrize("bandwidth", [None, 0.4])
def test_the_objective_equals_double_loops(float64, bandwidth):
    x, y = two_sets()
    actual = dsm.between_atoms(x, y, learned_target=True, bandwidth=bandwidth)
    expected = loops(
        np.asarray(x), np.asarray(y), rational, lambda d: (1 + d) ** -0.5, bandwidth=bandwidth
    )
    np.testing.assert_allclose(actual, expected, rtol=1e-12)


KERNELS = {
    "rational quadratic": (kernels.rational_quadratic, rational),
    "others' powers": (
        functools.partial(kernels.rational_quadratic, bandwidths=(0.7, 3.0)),
        lambda d: (1 + d / 1.4) ** -0.7 + (1 + d / 6) ** -3.0,
    ),
    "inverse multiquadric": (kernels.inverse_multiquadric, lambda d: (1 + d) ** -0.5),
    "gaussian": (functools.partial(kernels.gaussian, bandwidths=(2.0,)), lambda d: np.exp(-d / 2)),
    "cauchy": (kernels.cauchy, lambda d: 1 / (1 + d)),
    "energy": (functools.partial(kernels.minus_distance, alpha=1.5), lambda d: -(d**0.75)),
}


@pytest.mark.parametrize("name", KERNELS)
def test_mmd_equals_double_loops_for_every_kernel(float64, name):
    ours, plain = KERNELS[name]
    x, y = (np.asarray(a).reshape(-1, 2) for a in two_sets(3))
    y = y[:9]

    def mean(p, q, skip=False):
        d = [
            plain(np.sum((a - b) ** 2))
            for i, a in enumerate(p)
            for j, b in enumerate(q)
            if not (skip and i == j)
        ]
        return np.mean(d)

    unbiased = mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y)
    np.testing.assert_allclose(kernels.mmd_sq(x, y, ours), unbiased, rtol=1e-10)
    biased = mean(x, x) + mean(y, y) - 2 * mean(x, y)
    np.testing.assert_allclose(kernels.mmd_sq(x, y, ours, unbiased=False), biased, rtol=1e-10)


@pytest.mark.parametrize("name", KERNELS)
def test_the_fused_form_equals_the_plain_one_and_its_gradients(name, monkeypatch):
    monkeypatch.setattr(kernels, "ROWS_AT_ONCE", 9)  # three atoms
    inner = KERNELS[name][0]

    def plain(x, y):
        S = kernels.mean_kernels(jnp.concatenate([x, y]), inner)
        return kernels.outer_mmd_sq(S, len(x), kernel=kernels.inverse_multiquadric)

    @jit
    def fused(x, y):
        def both(learned_target):
            objective = functools.partial(
                dsm.between_atoms, learned_target=learned_target, inner=inner
            )
            return jax.value_and_grad(objective, argnums=(0, 1))(x, y)

        return both(True), both(False)

    with jax.enable_x64(True):
        x, y = two_sets(1, num_outer=5)
        exact, exact_gradient = jit(jax.value_and_grad(plain, argnums=(0, 1)))(x, y)
    # In float32 only the published kernel, to save compilations.
    for x64 in (True, False) if name == "rational quadratic" else (True,):
        tolerance = 1e-10 if x64 else 2e-5
        if not x64:
            x, y = np.asarray(x, np.float32), np.asarray(y, np.float32)
        with jax.enable_x64(x64):
            learned, fixed = fused(x, y)
        for value, gradient in (learned, fixed):
            np.testing.assert_allclose(value, exact, atol=tolerance)
            np.testing.assert_allclose(gradient[0], exact_gradient[0], atol=tolerance)
        np.testing.assert_allclose(learned[1][1], exact_gradient[1], atol=tolerance)
        assert not np.any(fixed[1][1])


@pytest.mark.parametrize("x64", [True, False])
def test_numbers_of_a_rank_are_those_of_a_sort(x64):
    rng = np.random.default_rng(0)
    with jax.enable_x64(x64):
        for size in (1, 2, 7, 100):
            x = np.concatenate([np.zeros(3), rng.integers(0, 4, 5), rng.exponential(size=size)])
            x[0] = 1e30
            x = jnp.asarray(x)
            k = jnp.arange(x.size)
            np.testing.assert_array_equal(kernels._kth_smallest(x, k), np.sort(x))


def test_the_median_form_equals_loops(float64):
    x, y = two_sets(2, num_outer=3)
    z = np.concatenate([x, y])

    def pair(a, b):
        def distances(p, q):
            return np.array([[np.sum((s - t) ** 2) for t in q] for s in p])

        aa, bb, ab = distances(a, a), distances(b, b), distances(a, b)
        off = ~np.eye(3, dtype=bool)
        w = np.median(np.concatenate([aa[off], bb[off], ab.ravel()]))
        k = [np.exp(-d / w) for d in (aa, bb, ab)]
        return max(k[0][off].mean() + k[1][off].mean() - 2 * k[2].mean(), 0)

    d = np.array([[0 if a is b else pair(a, b) for b in z] for a in z])
    off = ~np.eye(3, dtype=bool)
    w = np.median(np.concatenate([d[:3, :3][off], d[3:, 3:][off], d[:3, 3:].ravel()]))
    k = np.exp(-d / w)
    expected = k[:3, :3].mean() + k[3:, 3:].mean() - 2 * k[:3, 3:].mean()
    actual = dsm.between_atoms_by_median(x, y, learned_target=False)
    np.testing.assert_allclose(actual, expected, rtol=1e-10)


def test_gamma_models_compare_each_atom_with_its_own_target(float64):
    x, y = two_sets()
    each = [kernels.mmd_sq(a, b, kernels.rational_quadratic) for a, b in zip(x, y, strict=True)]
    actual = dsm.each_atom(x, y, learned_target=False)
    np.testing.assert_allclose(actual, np.mean(each), rtol=1e-12)


# --- Networks ---


def unit(x):
    return x / np.linalg.norm(x)


def normalised(layer, u):
    """W / sigma by one step of power iteration, written out; and the new u."""
    W = np.asarray(layer["kernel"])
    v = unit(u @ W.T)
    u = unit(v @ W)
    sigma = (v @ W @ u.T)[0, 0]
    return W / sigma, np.asarray(layer["bias"]), u


def leaky(x):
    return np.where(x > 0, x, x / 100)


def test_the_residual_adversary_equals_its_equations_written_out():
    rival = dsm.residual_adversary(num_units=5, num_blocks=2, num_outputs=3)
    init = jit(functools.partial(rival.init, dim=2, num_outer=4))
    params, spectral = init(jax.random.key(0))
    samples = jax.random.normal(jax.random.key(1), (6, 4, 3, 2))
    embedded, after = jit(rival.embed)(params, spectral, samples)

    def layer(x, *path):
        of_layer = functools.reduce(lambda tree, name: tree[name], path, params["layer_instance"])
        name = "/".join(("layer_instance", *path, "kernel/u"))
        W, b, u = normalised(of_layer, np.asarray(spectral[name]))
        np.testing.assert_allclose(after[name], u, atol=1e-5)
        return x @ W + b

    x = layer(np.asarray(samples).reshape(-1, 2), "Dense_0")
    for block in ("MLP_0", "MLP_1"):
        y = layer(leaky(x), block, "Dense_0")
        y = layer(leaky(y), block, "Dense_1")
        x = x + layer(leaky(y), block, "Dense_2")
    expected = layer(leaky(x), "Dense_1").reshape(6, 4, 3, 3)
    np.testing.assert_allclose(embedded, expected, rtol=1e-4, atol=1e-5)


def test_atoms_equal_one_layer_of_noise_and_state():
    sizes = {"latent_dims": 3, "hidden": (6, 5)}
    params = jit(functools.partial(dsm.atoms_init, num_outer=2, dim=4, **sizes))(jax.random.key(0))
    states, key = jax.random.normal(jax.random.key(1), (7, 4)), jax.random.key(2)
    *_, samples = jit(functools.partial(dsm.atom_activity, num_inner=5, **sizes))(
        params, states, key
    )
    noise = np.asarray(jax.random.normal(key, (2, 7 * 5, 3))).reshape(2, 7, 5, 3)
    for atom in range(2):
        own = jax.tree.map(lambda a, atom=atom: np.asarray(a[atom]), params)
        z_and_s = np.concatenate(
            [noise[atom], np.repeat(np.asarray(states)[:, None], 5, axis=1)], axis=-1
        )
        first = np.concatenate([own["of_noise"]["kernel"], own["of_state"]["kernel"]])
        x = leaky(z_and_s @ first + own["of_state"]["bias"])
        x = leaky(x @ own["Dense_0"]["kernel"] + own["Dense_0"]["bias"])
        expected = x @ own["Dense_1"]["kernel"] + own["Dense_1"]["bias"]
        np.testing.assert_allclose(samples[:, atom], expected, rtol=1e-4, atol=1e-5)


def test_initial_weights_of_atoms_are_those_of_one_layer():
    sizes = {"num_outer": 20, "dim": 30, "latent_dims": 10, "hidden": (50, 40)}
    params = jit(functools.partial(dsm.atoms_init, **sizes))(jax.random.key(0))
    for name, fan_in in (("of_state", 40), ("of_noise", 40), ("Dense_0", 50)):
        weights = np.asarray(params[name]["kernel"])
        np.testing.assert_allclose(weights.std() * fan_in**0.5, 1, rtol=0.03)
        assert np.abs(weights).max() * fan_in**0.5 < 2 / 0.8796 + 1e-3  # cut at two deviations
    assert not np.any(params["of_state"]["bias"])


def chain_data(transition, num_steps, seed=0):
    """A trajectory of a Markov chain whose states are one-hot."""
    rng = np.random.default_rng(seed)
    cumulated = np.cumsum(transition, axis=1)
    s, visited = 0, []
    for u in rng.uniform(size=num_steps):
        visited.append(s)
        s = min(int(np.searchsorted(cumulated[s], u)), len(transition) - 1)
    states = np.eye(len(transition), dtype=np.float32)[visited]
    return {"states": jnp.asarray(states), "last": jnp.zeros(num_steps, bool)}


CHAIN = np.array(
    [
        [0.1, 0.6, 0.3, 0.0, 0.0],
        [0.0, 0.2, 0.8, 0.0, 0.0],
        [0.3, 0.0, 0.0, 0.7, 0.0],
        [0.0, 0.0, 0.0, 0.1, 0.9],
        [0.8, 0.2, 0.0, 0.0, 0.0],
    ]
)
SMALL = {
    "num_outer": 4,
    "num_inner": 4,
    "latent_dims": 3,
    "hidden": (16,),
    "batch_size": 8,
    "adversary": dsm.residual_adversary(num_units=8, num_outputs=3),
}


QUICK = {
    "gamma": 0.8,
    "num_inner": 16,
    "latent_dims": 4,
    "hidden": (32, 32),
    "batch_size": 16,
    "adversary": dsm.no_adversary(),
    "optimizer": optax.adam(optax.cosine_decay_schedule(3e-3, 2500), eps=1e-6),
}


def mean_atoms(state, source):
    """Mean of each atom's samples after a state: [atom, state]."""
    samples = dsm.sample_atoms(
        state.atoms,
        jnp.eye(5)[source : source + 1],
        jax.random.key(5),
        num_inner=2000,
        latent_dims=4,
        hidden=(32, 32),
    )
    return np.asarray(samples).mean(axis=2)[0]


def trained(task, data, num_steps, seed=0):
    init_key, key = jax.random.split(jax.random.key(seed))

    def body(state, i):
        sample_key, step_key = jax.random.split(jax.random.fold_in(key, i))
        return task.step(state, task.sample(data, sample_key), step_key)

    @jax.jit
    def run(state):
        return jax.lax.scan(body, state, jnp.arange(num_steps))

    return run(jit(task.init)(init_key, data))


def test_an_update_of_both_is_adams_on_the_objective():
    """With the horizons given, everything written out again."""
    data = chain_data(CHAIN, 50)
    settings = {**SMALL, "adversary": dsm.mlp_adversary(hidden=(6,), num_outputs=3)}
    task = dsm.task(**settings, optimizer=optax.adam(1e-3, eps=1.5e-4))
    state = jit(task.init)(jax.random.key(0), data)
    state = state._replace(target=jit(task.init)(jax.random.key(9), data).atoms)
    batch = task.sample(data, jax.random.key(1))
    assert batch.states.shape == (8, 1, 2, 7, 5)
    after, scalars = jit(task.step)(state, batch, jax.random.key(2))
    rival_key, atoms_key = jax.random.split(jax.random.fold_in(jax.random.key(2), 0))

    def loss(atoms, params, which, key):
        states, last = batch.states[:, 0, which], batch.last[:, 0, which]
        horizon_key, predicted_key, bootstrap_key = jax.random.split(key, 3)
        draw = functools.partial(dsm.sample_atoms, num_inner=4, latent_dims=3, hidden=(16,))
        H = dsm.horizons(horizon_key, last, gamma=0.95, num_outer=4, num_inner=4)
        aims = dsm.target_samples(states, last, H, draw(state.target, states[:, -1], bootstrap_key))
        embed = functools.partial(networks.MLP((6, 3)).apply, {"params": params})
        x, y = draw(atoms, states[:, 0], predicted_key), aims
        values = []
        for one, other in zip(x, y, strict=True):
            z = jnp.concatenate([one, other]).reshape(-1, 5)
            S = kernels.mean_kernels(embed(z).reshape(8, 4, 3), kernels.rational_quadratic)
            values.append(kernels.outer_mmd_sq(S, 4, kernel=kernels.inverse_multiquadric))
        return jnp.mean(jnp.stack(values))

    value, gradient = jit(jax.value_and_grad(loss, argnums=1), static_argnums=2)(
        state.atoms, state.adversary, 0, rival_key
    )
    np.testing.assert_allclose(scalars["adversary_objective"], value, rtol=1e-4)
    for before, now, g in zip(
        *map(jax.tree.leaves, (state.adversary, after.adversary, gradient)), strict=True
    ):
        g = np.asarray(g)
        step = 1e-3 * g / (np.abs(g) + 1.5e-4)  # upwards
        np.testing.assert_allclose(now - before, step, rtol=2e-2, atol=3e-6)
    value, gradient = jit(jax.value_and_grad(loss), static_argnums=2)(
        state.atoms, after.adversary, 1, atoms_key
    )
    np.testing.assert_allclose(scalars["objective"], value, rtol=1e-4)
    for before, now, g in zip(
        *map(jax.tree.leaves, (state.atoms, after.atoms, gradient)), strict=True
    ):
        g = np.asarray(g)
        np.testing.assert_allclose(
            now - before, -1e-3 * g / (np.abs(g) + 1.5e-4), rtol=2e-2, atol=3e-6
        )
    for target, old, new in zip(
        *map(jax.tree.leaves, (after.target, state.target, after.atoms)), strict=True
    ):
        np.testing.assert_allclose(target, 0.99 * old + 0.01 * new, rtol=1e-4, atol=1e-7)


def test_a_hard_target_is_replaced_at_every_period():
    old, new = {"w": jnp.zeros(2)}, {"w": jnp.ones(2)}
    for steps, expected in ((2, 0), (3, 1), (4, 0), (6, 1)):
        actual = dsm.hard_update(old, new, jnp.int32(steps), period=3)
        np.testing.assert_array_equal(actual["w"], expected)


@pytest.mark.parametrize(
    ("update", "message"),
    [
        (functools.partial(dsm.soft_update, rate=-1.0), "rate must be above 0 and at most 1"),
        (functools.partial(dsm.soft_update, rate=2.0), "rate must be above 0 and at most 1"),
        (functools.partial(dsm.hard_update, period=0), "period must be at least 1"),
    ],
)
def test_impossible_targets_are_refused(update, message):
    with pytest.raises(ValueError, match=message):
        update({"w": jnp.zeros(2)}, {"w": jnp.ones(2)}, jnp.int32(1))


@pytest.mark.parametrize("make", [dsm.mlp_adversary, dsm.residual_adversary])
def test_separate_adversaries_see_an_atom_each(make):
    sizes = {"num_outputs": 3, "separate": True}
    sizes |= {"hidden": (6,)} if make is dsm.mlp_adversary else {"num_units": 6}
    rival = make(**sizes)
    params, u = jit(functools.partial(rival.init, dim=2, num_outer=4))(jax.random.key(0))
    samples = jax.random.normal(jax.random.key(1), (5, 4, 7, 2))
    actual, _ = jit(rival.embed)(params, u, samples)
    assert actual.shape == (5, 4, 7, 3)
    embed = jit(make(**{**sizes, "separate": False}).embed)
    for atom in range(4):
        of_atom = jax.tree.map(lambda a, atom=atom: a[atom], (params, u))
        alone, _ = embed(*of_atom, samples[:, atom : atom + 1])
        np.testing.assert_allclose(actual[:, atom], alone[:, 0], rtol=1e-4, atol=1e-6)


def test_one_step_learns_the_next_state():
    """Of a ring of five states; the state itself, and what comes later, do not count."""
    ring = np.roll(np.eye(5), 1, axis=1)
    task = dsm.task(
        **{**QUICK, "gamma": 0.0, "optimizer": optax.adam(5e-3, eps=1e-6)},
        horizon=1,
        num_outer=1,
        objective=dsm.each_atom,
        bootstrap=False,
        from_source=False,
    )
    state, _ = trained(task, chain_data(ring, 200), 500)
    actual = np.concatenate([mean_atoms(state, source) for source in range(5)])
    np.testing.assert_allclose(actual, ring, atol=0.15)


def test_spectral_norms_stay_at_one_while_training():
    data = chain_data(CHAIN, 200)
    state, _ = trained(dsm.task(**SMALL), data, 300)
    norms = [
        np.linalg.norm(normalised(layer, np.asarray(state.spectral[f"{name}/kernel/u"]))[0], 2)
        for name, layer in layers(state.adversary)
    ]
    assert len(norms) == 8  # in and out, and two blocks of three
    # One power iteration an update follows the weights closely, not exactly.
    np.testing.assert_allclose(norms, 1, atol=5e-3)


def layers(tree, path=()):
    """("MLP_0/Dense_1", its parameters) of every dense layer."""
    if "kernel" in tree:
        yield "/".join(path), tree
        return
    for name, below in tree.items():
        yield from layers(below, (*path, name))


@pytest.mark.slow
def test_one_atom_learns_the_successor_representation_of_a_chain():
    task = dsm.task(**QUICK, horizon=3, num_outer=1, objective=dsm.each_atom)
    state, _ = trained(task, chain_data(CHAIN, 20_000), 2500)
    actual = np.concatenate([mean_atoms(state, source) for source in range(5)])
    analytic = 0.2 * np.linalg.inv(np.eye(5) - 0.8 * CHAIN)
    np.testing.assert_allclose(actual, analytic, atol=0.06)


@pytest.mark.optimized
@pytest.mark.slow
def test_atoms_learn_which_futures_there_are_and_how_likely():
    """From 0 to 1 and then 3, or to 2 and then 4, with equal odds; the episode ends there."""
    left = np.random.default_rng(0).uniform(size=(2000, 1)) < 0.5
    visited = np.where(left, [[0, 1, 3]], [[0, 2, 4]]).reshape(-1)
    data = {
        "states": jnp.eye(5)[visited],
        "last": jnp.asarray(np.tile([False, False, True], 2000)),
    }
    state, _ = trained(dsm.task(**QUICK, horizon=2, num_outer=8), data, 2500)
    atoms = mean_atoms(state, 0)
    went_left = atoms[:, 3] > atoms[:, 4]
    assert 2 <= went_left.sum() <= 6
    # gamma = 0.8: 0.2 at once, 0.16 after a step, 0.64 from then on.
    futures = np.array([[0.2, 0.16, 0, 0.64, 0], [0.2, 0, 0.16, 0, 0.64]])
    expected = np.where(went_left[:, None], futures[0], futures[1])
    assert np.median(np.abs(atoms - expected).max(axis=1)) < 0.15
    np.testing.assert_allclose(atoms.mean(axis=0)[0], 0.2, atol=0.06)
    np.testing.assert_allclose(atoms.mean(axis=0)[3:].sum(), 0.64, atol=0.08)
    # Where the future is no longer open all atoms agree.
    np.testing.assert_allclose(
        np.median(mean_atoms(state, 1), axis=0), [0, 0.2, 0, 0.8, 0], atol=0.1
    )


# --- Bad input ---


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gamma": 1.0}, "gamma must be at least 0 and below 1, but is 1.0"),
        ({"gamma": -0.1}, "gamma must be at least 0"),
        ({"horizon": 0}, "horizon must be at least 1"),
        ({"num_inner": 1}, "num_inner must be at least 2"),
        ({"hidden": (3, 0)}, r"hidden\[1\] must be at least 1"),
        (
            {"target_update": functools.partial(dsm.soft_update, rate=-1.0)},
            "rate must be above 0 and at most 1",
        ),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        dsm.task(**settings)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((), 'must have the "states" of a trajectory'),
        (
            {"states": jnp.zeros((5, 2)), "last": jnp.zeros(4, bool)},
            r"they are \(5, 2\) and \(4,\)",
        ),
        ({"states": jnp.zeros((7, 2)), "last": jnp.zeros(7, bool)}, "horizon must be at most 5"),
    ],
)
def test_data_that_are_no_trajectory_are_refused(data, message):
    task = dsm.task(**SMALL)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(task.init, jax.random.key(0), data)


def test_apply_samples_the_atoms_at_given_states():
    task = dsm.task(**SMALL)
    data = {"states": jnp.zeros((50, 2)), "last": jnp.zeros(50, bool).at[-1].set(True)}
    state = task.init(jax.random.key(0), data)
    states = jax.random.normal(jax.random.key(1), (4, 2))
    samples = jax.jit(task.apply)(state, states)
    expected = dsm.sample_atoms(
        state.atoms,
        states,
        jax.random.key(0),
        SMALL["num_inner"],
        latent_dims=SMALL["latent_dims"],
        hidden=SMALL["hidden"],
        make=dsm.atom(),
    )
    assert samples.shape == (4, SMALL["num_outer"], SMALL["num_inner"], 2)
    np.testing.assert_allclose(samples, expected, rtol=1e-5, atol=1e-6)
    assert jnp.std(samples, axis=2).min() > 0


def test_a_recurrent_atom_equals_its_equation_written_out():
    sizes = {"num_outer": 1, "dim": 2, "latent_dims": 3, "hidden": (4, 5)}
    make = dsm.atom(activation=jnp.tanh, output=jnp.exp, feedback=2)
    params = dsm.atoms_init(jax.random.key(0), make=make, **sizes)
    states = jax.random.normal(jax.random.key(1), (3, 2))
    del sizes["num_outer"], sizes["dim"]
    _, second, samples = dsm.atom_activity(
        params, states, jax.random.key(2), 1, make=make, shared=True, **sizes
    )
    p = jax.tree.map(lambda a: np.asarray(a[0], float), params)
    z = np.asarray(jax.random.normal(jax.random.key(2), (1, 1, 3)), float)[0]
    s = np.asarray(states, float)
    first = np.tanh(
        s @ p["of_state"]["kernel"] + p["of_state"]["bias"] + z @ p["of_noise"]["kernel"]
    )
    u = first @ p["Dense_0"]["kernel"] + p["Dense_0"]["bias"]
    h = np.tanh(u)
    h = np.tanh(u + np.tanh(u + h @ p["feedback"]["kernel"]) @ p["feedback"]["kernel"])
    np.testing.assert_allclose(second[:, 0, 0], h, rtol=1e-5)
    out = np.exp(h @ p["Dense_1"]["kernel"] + p["Dense_1"]["bias"])
    np.testing.assert_allclose(samples[:, 0, 0], out, rtol=1e-5)


def test_same_noise_is_that_of_every_state_and_atom():
    sizes = {"latent_dims": 3, "hidden": (4,)}
    params = dsm.atoms_init(jax.random.key(0), num_outer=1, dim=2, **sizes)
    params = jax.tree.map(lambda a: jnp.concatenate([a, a]), params)  # two equal atoms
    states = jnp.ones((5, 2))
    *_, samples = dsm.atom_activity(params, states, jax.random.key(1), 3, shared=True, **sizes)
    np.testing.assert_allclose(samples, np.broadcast_to(samples[:1, :1], (5, 2, 3, 2)), rtol=1e-5)
    assert np.std(samples[0, 0, :, 0]) > 1e-3
    *_, samples = dsm.atom_activity(params, states, jax.random.key(1), 3, **sizes)
    assert np.std(samples[:, 0, 0, 0]) > 1e-3


def test_each_network_has_its_optimizer_and_number_of_steps():
    data = {"states": jnp.ones((40, 2)) * jnp.arange(40.0)[:, None], "last": jnp.zeros(40, bool)}
    task = dsm.task(
        **{**SMALL, "adversary": dsm.mlp_adversary(hidden=(6,), num_outputs=3)},
        optimizer=optax.adam(0.0),
        adversary_optimizer=optax.adam(1e-2),
        adversary_steps=3,
        atom_steps=2,
        target_update=functools.partial(dsm.soft_update, rate=1.0),
    )
    before = task.init(jax.random.key(0), data)
    batch = task.sample(data, jax.random.key(1))
    assert batch.states.shape[1:3] == (1, 5)
    after, _ = jit(task.step)(before, batch, jax.random.key(2))
    of_atoms, of_adversary = (opt[0].count for opt in after.opt_state)
    assert (int(of_atoms), int(of_adversary), int(after.steps)) == (2, 3, 2)
    chex.assert_trees_all_equal(before.atoms, after.atoms)
    changes = jax.tree.map(lambda a, b: a - b, before.adversary, after.adversary)
    farthest = max(float(jnp.max(jnp.abs(change))) for change in jax.tree.leaves(changes))
    # Adam's first steps are as long as its learning rate, and some of the three go the same way.
    assert 1.5e-2 < farthest < 3.1e-2


def test_the_energy_penalty_is_the_mean_squared_activity_of_hidden_units():
    data = {"states": jax.random.normal(jax.random.key(3), (40, 2)), "last": jnp.zeros(40, bool)}
    settings = {**SMALL, "adversary": dsm.no_adversary(), "optimizer": optax.sgd(0.0)}
    values = {}
    for penalty in (0.0, 2.0):
        task = dsm.task(**settings, energy_penalty=penalty)
        state = task.init(jax.random.key(0), data)
        batch = task.sample(data, jax.random.key(1))
        values[penalty] = jit(task.step)(state, batch, jax.random.key(2))[1]["objective"]
    step_key = jax.random.split(jax.random.fold_in(jax.random.key(2), 0))[1]
    *hidden, _ = dsm.atom_activity(
        state.atoms,
        batch.states[:, 0, 1, 0],
        jax.random.split(step_key, 3)[1],
        SMALL["num_inner"],
        latent_dims=SMALL["latent_dims"],
        hidden=SMALL["hidden"],
    )
    energy = np.mean([np.mean(np.square(h)) for h in hidden])
    np.testing.assert_allclose(values[2.0] - values[0.0], 2 * energy, rtol=1e-3)
