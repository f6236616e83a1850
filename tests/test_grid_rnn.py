from functools import partial

import fiddle as fdl
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fiddle.experimental import serialization

import fdl_configs
from hfjax import arena, cells, networks
from hfjax.data import recordings
from hfjax.models import grid_rnn
from hfjax.models.grid_rnn import Params, State

TINY = {
    "num_grid": 12,
    "num_place": 20,
    "sigma_m": 0.4,
    "batch_size": 8,
    "num_steps": 5,
    "rollout_steps": 12,
    "num_rollouts": 4,
    "num_map_walks": 400,
    "num_bins": 10,
    "num_noise_maps": 20,
}


def waves(*shape, frequency):
    """Arbitrary numbers that are the same everywhere."""
    return np.sin(frequency * (1 + np.arange(np.prod(shape)))).reshape(shape)


def test_three_steps_equal_the_original():
    """Loss and decoded error before three steps of Adam, against grid-pattern-formation.

    The golden numbers came from running its `RNN.compute_loss`, `PlaceCells` (with these centres)
    and torch.optim.Adam of torch 2.13 on the same numbers in float64.
    """
    num_place, num_grid = 16, 6
    task = grid_rnn.task(
        num_grid=num_grid,
        num_place=num_place,
        sigma_m=0.5,
        batch_size=2,
        num_steps=3,
        learning_rate=0.01,
        weight_decay=0.01,
    )
    params = Params(
        encoder=2 * waves(num_place, num_grid, frequency=1.7),
        network=networks.RNNParams(
            inputs=3 * waves(2, num_grid, frequency=0.9),
            recurrent=0.8 * waves(num_grid, num_grid, frequency=1.3),
        ),
        decoder=2 * waves(num_grid, num_place, frequency=0.7),
    )
    params = jax.tree.map(jnp.float32, params)
    centres = jnp.float32(1.1 * waves(num_place, 2, frequency=2.3))
    state = task.init(jax.random.key(0), ())._replace(params=params, place_centres=centres)
    start = 0.9 * waves(2, 2, frequency=3.1)
    displacements = 0.2 * waves(2, 3, 2, frequency=1.9)
    positions = start[:, None] + np.cumsum(displacements, axis=1)
    walk = grid_rnn.walk_along(jnp.float32(np.concatenate([start[:, None], positions], axis=1)))

    seen = []
    for _ in range(3):
        state, scalars = jax.jit(task.step)(state, walk, jax.random.key(0))
        seen.append((scalars["loss"], scalars["error_cm"]))
    golden = [
        (6.427546401948879, 68.08180270632215),
        (5.978704512696246, 70.8625510629791),
        (5.5717246062211405, 70.8625510629791),
    ]
    np.testing.assert_allclose(np.array(seen), golden, rtol=2e-5)


def test_loss_of_a_tanh_network_equals_numpy():
    """Every equation of the docstring once more, in NumPy and float64."""
    task = grid_rnn.task(
        **TINY,
        weight_decay=0.3,
        encoder_gain=5.0,
        network=grid_rnn.vanilla(nonlinearity=networks.tanh),
        place_code=cells.gaussian,
    )
    state = task.init(jax.random.key(1), ())
    walk = task.sample((), jax.random.key(2))
    scalars = jax.jit(task.step)(state, walk, jax.random.key(3))[1]

    params, centres = jax.tree.map(np.float64, (state.params, state.place_centres))
    start, positions, v = (np.float64(x) for x in (walk.start, walk.positions, walk.displacements))

    def code(x):
        d_sq = ((x[..., None, :] - centres) ** 2).sum(axis=-1)
        return np.exp(-d_sq / (2 * 0.4**2))

    h, losses = code(start) @ params.encoder, []
    for t in range(5):
        h = np.tanh(v[:, t] @ params.network.inputs + h @ params.network.recurrent)
        y = h @ params.decoder
        log_q = y - np.log(np.exp(y).sum(axis=-1, keepdims=True))
        losses.append(-(code(positions[:, t]) * log_q).sum(axis=-1))
    np.testing.assert_allclose(scalars["code_loss"], np.mean(losses), rtol=1e-5)
    decay = 0.3 * (params.network.recurrent**2).sum()
    np.testing.assert_allclose(scalars["loss"], np.mean(losses) + decay, rtol=1e-5)


def test_encoder_gain_scales_the_first_weights_only():
    plain, gained = (
        grid_rnn.task(**TINY, encoder_gain=gain).init(jax.random.key(0), ()) for gain in (1.0, 30.0)
    )
    np.testing.assert_allclose(gained.params.encoder, 30 * plain.params.encoder, rtol=1e-6)
    np.testing.assert_array_equal(gained.params.decoder, plain.params.decoder)
    np.testing.assert_array_equal(gained.place_centres, plain.place_centres)
    assert np.abs(plain.params.encoder).max() <= 20**-0.5


def test_objectives_by_hand():
    outputs, code = jnp.array([0.0, jnp.log(3.0)]), jnp.array([1.0, 2.0])
    # q = (1/4, 3/4): -(1 ln 1/4 + 2 ln 3/4) = 3 ln 4 - 2 ln 3
    expected = 3 * np.log(4) - 2 * np.log(3)
    np.testing.assert_allclose(grid_rnn.cross_entropy(outputs, code), expected, rtol=1e-6)
    np.testing.assert_allclose(
        grid_rnn.squared_error(jnp.array([1.0, 2.0]), jnp.array([0.0, 4.0])), 5.0
    )


def test_lstm_starts_from_two_halves():
    network = grid_rnn.lstm()
    params = network.init(jax.random.key(0), num_in=2, num_units=3)
    starts, v = jnp.asarray(waves(4, 6, frequency=1.1)), jnp.asarray(waves(4, 5, 2, frequency=0.3))
    np.testing.assert_array_equal(
        network.apply(params, starts, v), networks.lstm(params, starts[:, :3], starts[:, 3:], v)
    )
    np.testing.assert_array_equal(network.weights(params), params.recurrent[:, 6:9])


@pytest.mark.parametrize(
    "choice",
    [
        {},
        {"network": grid_rnn.lstm()},
        {"place_code": cells.difference_of_gaussians, "objective": grid_rnn.squared_error},
        {"box": grid_rnn.periodic_box()},
    ],
    ids=["published", "lstm", "dog", "periodic"],
)
def test_loss_falls(choice):
    task = grid_rnn.task(**TINY, learning_rate=1e-2, weight_decay=0.0, **choice)
    walk = task.sample((), jax.random.key(0))

    def step(state, _):
        return task.step(state, walk, jax.random.key(0))

    _, scalars = jax.jit(partial(jax.lax.scan, step, length=60))(
        task.init(jax.random.key(1), ()), None
    )
    loss = scalars["code_loss"]
    assert np.isfinite(loss).all()
    assert loss[-1] < 0.95 * loss[0]


def test_decoder_floor():
    """The published code leaves 4.18 cm (sheet of the system, measured on the original)."""

    def floor_cm(key):
        centre_key, position_key = jax.random.split(key)
        box = grid_rnn.walled_box()
        centres = cells.place_centres(centre_key, num_place=512, width_m=2.2)
        x = jax.random.uniform(position_key, (1000, 2), minval=-1.1, maxval=1.1)
        code = cells.softmax_surround(x, centres, sigma_m=0.12)
        return 100 * jnp.mean(jnp.linalg.norm(box.offset(x, box.decode(code, centres)), axis=-1))

    floors = jax.jit(jax.vmap(floor_cm))(jax.random.split(jax.random.key(0), 8))
    assert np.mean(floors) == pytest.approx(4.18, abs=0.12)


def test_periodic_box_decodes_across_the_seam():
    box = grid_rnn.periodic_box(width_m=2.0)
    centres = jnp.array([[0.9, 0.0], [-0.9, 0.0], [-0.9, 0.2], [0.0, -0.5]])
    decoded = box.decode(jnp.array([3.0, 2.0, 1.0, 0.0]), centres)
    # On the circle: x = 0.9, 1.1, 1.1 has its mean direction near 1.033, which is -0.967.
    np.testing.assert_allclose(decoded, [-0.967, 0.0667], atol=2e-3)
    np.testing.assert_allclose(
        box.offset(jnp.array([0.9, 0.2]), jnp.array([-0.9, 0.5])), [0.2, 0.3], atol=1e-6
    )
    walled = grid_rnn.walled_box(width_m=2.0)
    np.testing.assert_allclose(
        walled.offset(jnp.array([0.9, 0.2]), jnp.array([-0.9, 0.5])), [-1.8, 0.3], rtol=1e-6
    )


def test_walk_along_recorded_positions():
    positions = jnp.array([[[0.0, 0.0], [0.0, 2.0], [-1.0, 2.0]]])
    walk = grid_rnn.walk_along(positions)
    np.testing.assert_array_equal(walk.start, [[0, 0]])
    np.testing.assert_array_equal(walk.positions, positions[:, 1:])
    np.testing.assert_array_equal(walk.displacements, [[[0, 2], [-1, 0]]])
    np.testing.assert_allclose(walk.headings, [[np.pi / 2, np.pi]])
    np.testing.assert_allclose(walk.start_heading, [np.pi / 2])


@pytest.mark.slow
def test_evaluation_of_a_perfect_network():
    """A network that outputs the true code has no error above the floor, on all kinds of walk."""
    box, num_steps = grid_rnn.walled_box(), 10
    code = partial(cells.softmax_surround, sigma_m=0.12)
    centres = cells.place_centres(jax.random.key(0), num_place=512, width_m=2.2)

    def forward(state, walk):
        x = walk.positions
        # Three units: x, y and a constant.
        activity = jnp.concatenate([x, jnp.ones_like(x[..., :1])], axis=-1)
        return activity, code(x, state.place_centres)

    evaluate = grid_rnn.evaluation(
        forward=forward,
        weights=lambda state: jnp.eye(3),
        num_units=3,
        code=code,
        walks=lambda key, count, length: arena.sorscher_walk(
            key, batch_size=count, num_steps=length
        ),
        box=box,
        dt_s=0.02,
        num_steps=num_steps,
        rollout_steps=40,
        num_rollouts=20,
        num_map_walks=3000,
        num_bins=11,
        num_noise_maps=400,
    )
    rat = {key: value[:20, :101] for key, value in recordings.sargolini().items()}
    state = State(params=(), opt_state=(), place_centres=centres)
    scalars, readout = jax.jit(evaluate)(state, rat, jax.random.key(1))

    for name in ("", "rollout_", "rat_", "rat_rollout_"):
        assert scalars[f"{name}error_above_floor_cm"] == pytest.approx(0, abs=1e-4)
        assert 2.5 < scalars[f"{name}floor_cm"] < 6
    # 3,000 walks of 10 steps in a box 2.2 m wide: bins are 0.2 m wide, and x is known in each.
    middles = 0.2 * np.arange(-5, 6)
    maps = readout["rate_maps"]
    np.testing.assert_allclose(maps[0], np.repeat(middles[:, None], 11, 1), atol=0.06)
    np.testing.assert_allclose(maps[1], np.repeat(middles[None, :], 11, 0), atol=0.06)
    np.testing.assert_allclose(maps[2], 1, rtol=1e-6)
    # Low-pass noise: the sheet has 21 % above 0.3, and 5 % above 0.8.
    assert 0.1 < scalars["noise_share_above_0.3"] < 0.35
    assert scalars["grid_share_above_0.8"] == 0
    np.testing.assert_array_equal(readout["rat_rollout_true_m"], 2.2 * rat["rat_positions"][:4, 1:])
    assert readout["rat_rollout_error_cm"].shape == (3, 100)
    short = {"rat_positions": rat["rat_positions"][:, :9]}
    with pytest.raises(ValueError, match="num_steps must be at most 8"):
        jax.eval_shape(evaluate, state, short, jax.random.key(1))


def module_of_grid_cells(spacing_m=0.8, orientation=0.2, num_units=80, num_bins=20):
    """Maps of ideal grid cells, and weights that depend on the difference of their phases."""
    rng = np.random.default_rng(0)
    angles = orientation + np.pi / 6 + np.arange(3) * np.pi / 3
    k = 4 * np.pi / np.sqrt(3) / spacing_m * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    phases = rng.uniform(-np.pi, np.pi, (num_units, 2))
    phases = np.column_stack([phases, phases[:, 1] - phases[:, 0]])
    middles = 2.2 * ((np.arange(num_bins) + 0.5) / num_bins - 0.5)
    x = np.stack(np.meshgrid(middles, middles, indexing="ij"), axis=-1)
    maps = np.cos(x @ k.T - phases[:, None, None, :]).sum(axis=-1)
    weights = np.cos(phases[:, None, :] - phases[None, :, :]).sum(axis=-1)
    return maps, weights, phases


def test_torus_finds_the_lattice_the_phases_and_the_attractor():
    maps, weights, phases = module_of_grid_cells()
    rng = np.random.default_rng(1)
    # Twenty units that are no grid cells, though a scorer took half of them for some.
    maps = np.concatenate([maps, rng.normal(size=(20, 20, 20))])
    weights = np.pad(weights, (0, 20)) + 0.1 * rng.normal(size=(100, 100)) + 5
    score = np.where(np.arange(100) < 90, 1.0, 0.0)
    torus = jax.jit(partial(grid_rnn.torus, width_m=2.2))
    found = torus(*(jnp.float32(a) for a in (maps, score, weights)))

    np.testing.assert_array_equal(found["module"], np.arange(100) < 80)
    assert found["module_spacing_m"] == pytest.approx(0.8, rel=0.04)
    assert np.cos(6 * (found["module_orientation_rad"] - 0.2)) > np.cos(6 * 0.06)
    error = np.asarray(found["module_phases"])[:80] - phases[:80, :2]
    assert np.median(np.abs(np.angle(np.exp(1j * error)))) < 0.15
    np.testing.assert_array_equal(found["module_phases"][80:], 0)
    power = np.asarray(found["module_power"])
    assert power.sum() == pytest.approx(1, rel=1e-5)
    modes = [(1, 0), (-1, 0), (0, 1), (0, -1), (1, -1), (-1, 1)]
    assert sum(power[3 + m, 3 + n] for m, n in modes) > 0.9
    # The strongest weights are those between units of equal phase.
    assert np.unravel_index(found["module_weights"].argmax(), (24, 24)) == (0, 0)
    # Six components hold the maps of a grid module: cos and sin of three waves.
    assert found["component_share"].sum() == pytest.approx(1, rel=1e-4)

    shuffled = rng.permutation(80)
    weights[:80, :80] = weights[:80, :80][shuffled]
    power = np.asarray(torus(*(jnp.float32(a) for a in (maps, score, weights)))["module_power"])
    assert sum(power[3 + m, 3 + n] for m, n in modes) < 0.6


def test_torus_without_grid_cells_or_weights():
    maps, _, _ = module_of_grid_cells(num_units=10)
    found = jax.jit(lambda m, s: grid_rnn.torus(m, s, None, width_m=2.2))(
        jnp.float32(maps), jnp.zeros(10)
    )
    assert not found["module"].any()
    assert "module_power" not in found
    assert all(np.isfinite(x).all() for x in found.values())
    # Ideal grid maps: six components hold everything.
    np.testing.assert_allclose(np.sum(found["component_share"][:6]), 1, rtol=1e-4)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"num_grid": 0}, "num_grid must be at least 1, but is 0"),
        ({"num_place": 2}, "num_place must be at least 3 for decoding, but is 2"),
        ({"batch_size": -1}, "batch_size must be at least 1, but is -1"),
        ({"num_map_walks": 0}, "num_map_walks must be at least 1, but is 0"),
        ({"sigma_m": -0.1}, "sigma_m must be positive, but is -0.1"),
        ({"learning_rate": 0.0}, "learning_rate must be positive, but is 0.0"),
        ({"weight_decay": -1.0}, "weight_decay must not be negative, but is -1.0"),
    ],
)
def test_impossible_settings(setting, message):
    with pytest.raises(ValueError, match=message):
        grid_rnn.task(**setting)


@pytest.mark.parametrize("box", [grid_rnn.walled_box, grid_rnn.periodic_box])
def test_impossible_box(box):
    with pytest.raises(ValueError, match="width_m must be positive, but is -1"):
        box(width_m=-1.0)


@pytest.mark.parametrize(
    "fiddlers",
    [
        (),
        ("laptop",),
        ("laptop", "tanh"),
        ("laptop", "lstm"),
        ("gaussian",),
        ("dog",),
        ("no_surround", "periodic"),
    ],
    ids="+".join,
)
def test_configs_survive_json_and_build(fiddlers):
    config = fdl_configs.make("grid_rnn", *fiddlers)
    assert serialization.load_json(serialization.dump_json(config)) == config
    assert fdl.build(config).num_steps == (12_000 if "laptop" in fiddlers else 100_000)


def test_fiddlers_change_what_they_say():
    def changed(fiddler):
        return fdl_configs.make("grid_rnn", fiddler).task

    assert changed("tanh").network.nonlinearity is networks.tanh
    assert fdl.get_callable(changed("lstm").network) is grid_rnn.lstm
    assert changed("gaussian").place_code is cells.gaussian
    assert changed("dog").place_code is cells.difference_of_gaussians
    assert changed("dog").objective is grid_rnn.squared_error
    assert changed("no_surround").place_code is cells.softmax_gaussian
    assert fdl.get_callable(changed("periodic").box) is grid_rnn.periodic_box
    assert changed("laptop").num_grid == 256


def test_the_config_is_the_published_task():
    """The config spells out what the task's defaults, the published values, are anyway."""
    config = fdl_configs.grid_rnn().task
    spelled = config.__arguments__
    defaults = {p.name: p.default for p in config.__signature_info__.parameters.values()}
    for name, value in spelled.items():
        if name not in ("network", "box"):
            assert value == defaults[name], name


def test_a_fiddler_for_the_vanilla_network_refuses_the_lstm():
    with pytest.raises(ValueError, match="the fiddler tanh needs the vanilla network"):
        fdl_configs.make("grid_rnn", "lstm", "tanh")
