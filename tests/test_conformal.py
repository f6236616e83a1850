from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hfjax import arena, cells, networks
from hfjax.models import conformal, path_integration
from hfjax.models.conformal import Additive, Pairs, Params, Recurrent
from hfjax.training import schedules

SMALL = {"num_units": 4, "num_nodes": 12, "num_place": 16}


def waves(*shape, frequency):
    """Arbitrary numbers that are the same everywhere."""
    return np.sin(frequency * (1 + np.arange(np.prod(shape)))).reshape(shape)


# --- Against the original ---

# Loss terms, and F(v, dx) of the second pair: printed by the original's `GridCell` of model.py
# (torch 2.13, float64, on a CPU) with the numbers of `shared_weights`, for num_grid=6, 5 neurons,
# 8 directions, w_isometry=30 and s_fixed=10.
ORIGINAL = {
    "relu": (
        79706.9859374896,
        [1.8684473876216952, 0.10405866148358295, 0.0, 0.0, 1.1157853747774726],
    ),
    "tanh": (
        100533.51306242088,
        [
            0.9534531579966585,
            0.1036846916616439,
            -0.9077545577081229,
            -0.5488357402596373,
            0.8060979352600136,
        ],
    ),
    "linear": (
        3501.2870074419534,
        [
            0.5005419748611357,
            0.4326221717940124,
            0.1306264394131595,
            0.8095128794470834,
            0.36040499797052034,
        ],
    ),
    "additive": (
        69593.20540610548,
        [1.903510774186727, 0.18785476844028437, 0.0, 0.0, 0.6519433685460213],
    ),
}
ORIGINAL_ISOMETRY = 692.6443560571761


def shared_weights():
    """{name: (transition, its params)} of 5 units and 8 directions."""
    A, b = 0.8 * waves(1, 5, 5, frequency=1.3), 0.1 * waves(1, 5, frequency=2.1)
    # The original's B is (to, from).
    B = waves(8, 1, 5, 5, frequency=0.9).transpose(1, 0, 3, 2)
    square = Recurrent(A, B, np.array([0.1]))
    return {
        "relu": (conformal.recurrent(), square),
        "tanh": (conformal.recurrent(nonlinearity=networks.tanh), square),
        "linear": (conformal.linear(), B),
        "additive": (conformal.additive(), Additive(A, waves(1, 8, 5, frequency=0.9), b)),
    }


def shared_table():
    table = np.abs(waves(5, 6, 6, frequency=1.7))
    return (table / np.linalg.norm(table, axis=0)).transpose(1, 2, 0)[None]


def shared_pairs():
    """Four pairs; the last one's direction is between two of the eight."""
    nodes = np.array([[0.7, 1.2], [3.4, 2.9], [2.2, 4.1], [1.5, 1.5]])
    angle = np.array([1, 3, 6, 1.2]) * 2 * np.pi / 8
    step = np.array([0.9, 1.7, 0.4, 2.3])[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1) / 6
    start = (nodes + 0.5) / 6 - 0.5
    return Pairs(*map(jnp.float32, (start, step, start[:, None], step[:, None])))


def model(transition, **changes):
    defaults = {
        "transition": transition,
        "directions": conformal.discrete(num=8),
        "scales": (10.0,),
        "num_units": 5,
        "num_nodes": 6,
        "reach": 0.3,
        "spread": 1.25,
        "num_place": 16,
    }
    return conformal.Model(**{**defaults, **changes})


@pytest.mark.parametrize("name", ORIGINAL)
def test_losses_and_transitions_equal_the_original(name):
    transition, params = shared_weights()[name]
    params = jax.tree.map(jnp.float32, Params(shared_table(), params))
    pairs, of = shared_pairs(), model(transition)
    loss, moved = ORIGINAL[name]
    error = conformal.transition_error(params, pairs, of)
    np.testing.assert_allclose(30_000 * jnp.mean(error), loss, rtol=1e-5)
    isometry = conformal.isometry_error(params, pairs, of)
    np.testing.assert_allclose(30 * jnp.sum(isometry), ORIGINAL_ISOMETRY, rtol=1e-5)
    v = conformal.look_up(params.table, pairs.start[:, None])
    features = of.directions.features(pairs.step)
    np.testing.assert_allclose(
        transition.apply(params.transition, v, features)[1, 0], moved, atol=1e-5
    )


# --- In NumPy ---


def test_a_normalised_transition_equals_numpy():
    """Also where a module is silent: it stays so, and its gradient is finite."""
    transition, params = shared_weights()["relu"]
    both = jax.tree.map(lambda x: jnp.float32(np.concatenate([x, -0.5 * x])), params)
    v = np.abs(waves(3, 2, 5, frequency=0.7))
    v[2] = 0
    features = waves(3, 8, frequency=1.1)
    silent = both._replace(b=jnp.zeros(2))
    apply = conformal.normalised(transition=transition).apply
    found = apply(silent, jnp.float32(v), jnp.float32(features))
    A, B, _ = jax.tree.map(np.float64, silent)
    u = np.einsum("bmi,mij->bmj", v, A) + np.einsum("bk,bmi,mkij->bmj", features, v, B)
    u = np.maximum(u, 0)
    length = np.linalg.norm(u, axis=-1, keepdims=True)
    np.testing.assert_allclose(found, u / np.where(length > 0, length, 1), atol=1e-5)
    slope = jax.grad(lambda p: jnp.sum(apply(p, jnp.float32(v), jnp.float32(features))))(silent)
    assert np.isfinite(slope.A).all()
    assert not np.any(found[2])


def bilinear(table, place):
    """table [x, y, unit], place [2] inside the outer nodes -> [unit]."""
    n = len(table)
    u = (place + 0.5) * n - 0.5
    i, j = np.floor(u).astype(int)
    p, q = u - (i, j)
    near = table[i, j] * (1 - q) + table[i, j + 1] * q
    far = table[i + 1, j] * (1 - q) + table[i + 1, j + 1] * q
    return near * (1 - p) + far * p


def test_the_loss_of_two_modules_equals_numpy():
    """Both terms with second harmonics, written out for one pair and one module at a time."""
    scales = (4.0, 7.0)
    task = conformal.task(
        scales=scales,
        directions=conformal.harmonics(order=2),
        transition_weight=3.0,
        isometry_weight=5.0,
        **SMALL,
    )
    state = task.init(jax.random.key(0), ())
    params = state.params._replace(
        transition=Recurrent(
            *map(
                jnp.float32,
                (
                    0.8 * waves(2, 4, 4, frequency=1.3),
                    waves(2, 4, 4, 4, frequency=0.9),
                    [0.1, -0.2],
                ),
            )
        )
    )
    places = 0.35 * waves(2, 6, 2, frequency=2.3)
    steps = 0.1 * waves(2, 6, 2, frequency=1.9)
    pairs = Pairs(
        places[0], steps[0], np.stack([places[1]] * 2, 1), np.stack([steps[1], -steps[1]], 1)
    )
    batch = Pairs(*map(jnp.float32, pairs))
    scalars = jax.jit(task.step)(state._replace(params=params), batch, jax.random.key(0))[1]

    table, (A, B, b) = jax.tree.map(np.float64, params)
    transition, isometry = [], []
    for i in range(6):
        (dx, dy), terms = pairs.step[i], [0.0, 0.0]
        r, theta = np.hypot(dx, dy), np.arctan2(dy, dx)
        f = r * np.array([np.cos(theta), np.sin(theta), np.cos(2 * theta), np.sin(2 * theta)])
        for k in range(2):
            v = bilinear(table[k], pairs.start[i])
            moved = np.maximum(0, v @ A[k] + sum(f[m] * (v @ B[k, m]) for m in range(4)) + b[k])
            terms[0] += ((moved - bilinear(table[k], pairs.start[i] + pairs.step[i])) ** 2).sum()
            near, apart = pairs.near[i, k], pairs.apart[i, k]
            change = np.linalg.norm(bilinear(table[k], near + apart) - bilinear(table[k], near))
            terms[1] += (change - scales[k] * np.linalg.norm(apart)) ** 2
        transition.append(terms[0])
        isometry.append(terms[1])
    np.testing.assert_allclose(scalars["transition_error"], np.mean(transition), rtol=1e-5)
    np.testing.assert_allclose(scalars["isometry_error"], np.mean(isometry), rtol=1e-4)
    total = 3 * np.mean(transition) + 5 * np.mean(isometry)
    np.testing.assert_allclose(scalars["loss"], total, rtol=1e-4)


def test_a_code_that_is_linear_in_position_is_looked_up_exactly_up_to_the_walls():
    x = (np.arange(6) + 0.5) / 6 - 0.5
    table = np.stack(np.meshgrid(3 * x, x + 1, indexing="ij"), axis=-1)[None]
    places = np.float32([[-0.5, 0.5], [0.49, -0.47], [0.1, 0.2]])
    found = conformal.look_up(jnp.float32(table), jnp.asarray(places)[:, None])[:, 0]
    np.testing.assert_allclose(
        found, np.stack([3 * places[:, 0], places[:, 1] + 1], axis=1), atol=1e-6
    )


def test_projection_by_hand():
    table = jnp.array([[3.0, 4.0], [-3.0, 4.0], [0.0, 0.0], [-1.0, -2.0]]).reshape(1, 2, 2, 2)
    wanted = [[0.6, 0.8], [0, 1], [0, 0], [0, 0]]
    np.testing.assert_allclose(conformal.project(table).reshape(4, 2), wanted, atol=1e-6)


def test_features_by_hand():
    east, north, turned = (2 * jnp.array([np.cos(a), np.sin(a)]) for a in np.radians([0, 90, -9]))
    of_18, first = conformal.discrete(), conformal.harmonics()
    np.testing.assert_allclose(of_18.features(east), 2 * np.eye(18)[0], atol=1e-6)
    # Nearest to direction 0, across the seam of the angle.
    np.testing.assert_allclose(of_18.features(turned), 2 * np.eye(18)[0], atol=1e-6)
    np.testing.assert_allclose(first.features(north), [0, 2], atol=1e-6)
    second = conformal.harmonics(order=2).features(north)
    np.testing.assert_allclose(second, [0, 2, -2, 0], atol=1e-6)


# --- Pairs ---


@pytest.mark.parametrize("directions", [conformal.discrete(num=6), conformal.harmonics()])
def test_pairs_stay_in_the_box_and_fill_their_discs(directions):
    task = conformal.task(scales=(5.0, 10.0), directions=directions, batch_size=4000, reach=0.2)
    pairs = jax.jit(task.sample)((), jax.random.key(0))
    for x, dx, reach in (
        (pairs.start, pairs.step, 0.2),
        (pairs.near[:, 0], pairs.apart[:, 0], 0.25),
        (pairs.near[:, 1], pairs.apart[:, 1], 0.125),
    ):
        assert np.abs(x).max() <= 0.5
        assert np.abs(x + dx).max() <= 0.5 + 1e-6
        # Uniform over a disc: the mean square of the length is half that of the radius.
        square = np.mean(np.sum(np.square(dx), axis=1))
        np.testing.assert_allclose(square, reach**2 / 2, rtol=0.03)
    angle = np.degrees(np.arctan2(pairs.step[:, 1], pairs.step[:, 0]))
    off = np.abs((angle + 30) % 60 - 30)
    assert (off.max() < 0.1) == (directions.num == 6)


# --- A code that is known ---


def circles(scales):
    """A state whose codes are known, and its model: each module's is two circles, along x and y.

    v = (cos s x, sin s x, cos s y, sin s y) / 2^(1/2), which a displacement turns: B holds the
    derivatives of the rotations. |dv| = s / 2^(1/2) |dx| for small dx.
    """
    line = (np.arange(80) + 0.5) / 80 - 0.5
    x, y = np.meshgrid(line, line, indexing="ij")
    table = np.stack(
        [np.stack([f(s * u) for u in (x, y) for f in (np.cos, np.sin)], -1) for s in scales]
    ) / np.sqrt(2)
    turn = np.array([[0, 1.0], [-1, 0]])  # row vectors: (cos, sin) -> (-sin, cos)
    B = np.zeros((len(scales), 2, 4, 4))
    for k, s in enumerate(scales):
        B[k, 0, :2, :2] = B[k, 1, 2:, 2:] = s * turn
    params = Params(jnp.float32(table), jnp.float32(B))
    centres = cells.lattice_centres(jax.random.key(0), num_place=1600, width_m=2.2)
    of = model(conformal.linear(), directions=conformal.harmonics(), scales=tuple(scales))
    return conformal.State(params, (), centres), of


def walked(box, *, num_steps):
    return arena.sorscher_walk(
        jax.random.key(0), batch_size=20, num_steps=num_steps, width_m=box.width_m
    )


def errors_cm(state, of, walk, box):
    run = jax.jit(partial(conformal.forward, model=of, width_m=box.width_m))
    _, outputs = run(state, walk)
    decoded = box.decode(outputs, state.place_centres)
    return 100 * np.linalg.norm(decoded - walk.positions, axis=-1)


def test_a_known_code_is_integrated_and_read_out_without_tracking():
    """2 rad across the box. The lattice of place cells, 5.5 cm apart, sets the error."""
    (state, of), box = circles([2.0]), path_integration.walled_box()
    assert errors_cm(state, of, walked(box, num_steps=50), box).mean() < 2.5


def test_normalisation_keeps_a_code_from_fading():
    """A transition that loses a tenth of its length a step: module 2 is lost, or both are kept."""
    (state, of), box = circles([2.0, 9.0]), path_integration.walled_box()
    fading = of.transition._replace(
        apply=lambda params, v, f: (
            jnp.array([1.0, 0.9])[None, :, None] * of.transition.apply(params, v, f)
        )
    )
    kept = conformal.normalised(transition=fading)
    walk = walked(box, num_steps=100)
    for transition, wanted in ((fading, 0.0), (kept, 1.0)):
        run = jax.jit(
            partial(
                conformal.forward,
                model=of._replace(transition=transition),
                width_m=box.width_m,
            )
        )
        v = run(state, walk)[0].reshape(20, 100, 2, 4)
        np.testing.assert_allclose(np.linalg.norm(v[:, -1, 1], axis=-1), wanted, atol=1e-2)


def test_a_periodic_code_is_ambiguous_and_a_second_module_makes_it_unique():
    """20 rad are 3.2 periods across the box: most places are not told from their copies."""
    box = path_integration.walled_box()
    walk = walked(box, num_steps=2)
    assert errors_cm(*circles([20.0]), walk, box).mean() > 40
    assert errors_cm(*circles([20.0, 5.0]), walk, box).mean() < 4


def test_the_isometry_of_a_known_code():
    """A pair of circles changes by (sin^2(s dx / 2) + sin^2(s dy / 2))^(1/2) 2^(1/2)."""
    state, of = circles([8.0])
    measure = jax.jit(partial(conformal.measure_isometry, model=of._replace(spread=0.8)))
    scalars, curves = measure(state.params.table, jax.random.key(0))
    angle = np.linspace(0, np.pi / 2, 200)
    wanted = np.array(curves["isometry_wanted"])[:, None]
    halves = wanted * np.cos(angle) / 2, wanted * np.sin(angle) / 2
    change = np.sqrt(2 * (np.sin(halves[0]) ** 2 + np.sin(halves[1]) ** 2))
    np.testing.assert_allclose(
        curves["isometry_change"][1, 0], np.median(change, axis=1), rtol=0.02
    )
    # Over the disc, by the mean square of the change at each length, weighted by the length.
    lengths = np.linspace(0, 0.8, 400)[:, None]
    halves = lengths * np.cos(angle) / 2, lengths * np.sin(angle) / 2
    change = np.sqrt(2 * (np.sin(halves[0]) ** 2 + np.sin(halves[1]) ** 2))
    square = np.mean((change - lengths) ** 2, axis=1) @ lengths[:, 0]
    deviation = np.sqrt(square / np.sum(lengths**3))
    np.testing.assert_allclose(scalars["isometry_deviation"], deviation, rtol=0.1)


def hexagons(*, spacing_m, orientation, num_units=12, num_bins=20):
    """Maps [unit, x, y] of one module in a box of 2.2 m, at phases spread over the lattice."""
    line = 2.2 * ((np.arange(num_bins) + 0.5) / num_bins - 0.5)
    x = np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1)
    angles = orientation + np.pi / 6 + np.arange(3) * np.pi / 3
    k = 4 * np.pi / 3**0.5 / spacing_m * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    shifts = 2.2 * waves(num_units, 2, frequency=2.7)
    return np.cos((x[None] - shifts[:, None, None]) @ k.T).sum(axis=-1)


def test_spacing_and_torus_of_each_module():
    """Two modules of known lattices: .9 m at 10 degrees, and .6 m at 25 degrees."""
    maps = np.concatenate(
        [
            hexagons(spacing_m=0.9, orientation=np.radians(10)),
            hexagons(spacing_m=0.6, orientation=np.radians(25)),
        ]
    )
    readout = {"rate_maps": jnp.float32(maps), "grid_score_60": jnp.ones(24)}
    of = model(conformal.linear(), scales=(8.0, 12.0), num_units=12)
    measure = jax.jit(partial(conformal.measure_modules, model=of, width_m=2.2))
    scalars, tori = measure(Params(jnp.zeros(()), jnp.zeros(())), readout)
    np.testing.assert_allclose(scalars["spacing_1_m"], 0.9, rtol=0.03)
    np.testing.assert_allclose(scalars["spacing_2_m"], 0.6, rtol=0.03)
    np.testing.assert_allclose(scalars["spacing_ratio"], 1.5, rtol=0.04)
    np.testing.assert_allclose(tori["torus_module_spacing_m"], [0.9, 0.6], rtol=0.05)
    assert tori["torus_module"].all()
    found = np.degrees(tori["unit_orientation_rad"])
    np.testing.assert_allclose(np.median(found, axis=1), [10, 25], atol=2)


# --- Settings ---


def test_impossible_settings_are_named():
    for settings, message in (
        ({"scales": ()}, "modules"),
        ({"scales": (10.0, -1.0)}, r"scales\[1\]"),
        ({"num_nodes": 1}, "num_nodes"),
        ({"reach": 0.0}, "reach"),
        ({"isometry_weight": float("nan")}, "isometry_weight"),
        ({"batch_size": 0}, "batch_size"),
        ({"box": path_integration.periodic_box()}, "walled_box"),
    ):
        with pytest.raises(ValueError, match=message):
            conformal.task(**settings)
    for make, setting in ((conformal.discrete, "num"), (conformal.harmonics, "order")):
        with pytest.raises(ValueError, match=setting):
            make(**{setting: 0})


def test_the_trapezoid_rises_stays_and_falls():
    rate = schedules.trapezoid(peak_value=2.0, num_steps=100, rising=0.1, flat=0.3)
    found = [float(rate(step)) for step in (0, 4, 9, 10, 39, 40, 70, 99)]
    np.testing.assert_allclose(found, [0.2, 1.0, 2.0, 2.0, 2.0, 2.0, 1.0, 2 / 60], rtol=1e-5)
    # Corners between two steps, 1.5 and 3, are at steps 2 and 3.
    rate = schedules.trapezoid(peak_value=1.0, num_steps=10)
    found = [float(rate(step)) for step in range(10)]
    falling = [1 - step / 7 for step in range(7)]
    np.testing.assert_allclose(found, [0.5, 1.0, 1.0, *falling], rtol=1e-5)
    with pytest.raises(ValueError, match="rising_and_flat"):
        schedules.trapezoid(peak_value=1.0, num_steps=10, rising=0.5, flat=0.5)
