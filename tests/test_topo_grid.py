"""Units on a sheet: halving and restoring, penalties, time constants, order of the sheet."""

import functools
from typing import NamedTuple

import fiddle as fdl
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

import fdl_configs
from hfjax import arena, cells, missing, networks
from hfjax.models import path_integration, topo_grid
from hfjax.training import overrides
from tests.contract import check_figures

jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


# --- The sheet ---

# PyTorch 2.15.0: x = torch.arange(n * n, dtype=float64).reshape(1, 1, n, n) ** 2 / 10, then
# F.interpolate(F.interpolate(x, scale_factor=0.5, mode="bilinear", align_corners=False),
# size=(n, n), mode="bilinear", align_corners=False), for n = 4 and n = 5.
RESTORED_4 = [
    [1.05, 1.4, 2.1, 2.45],
    [3.65, 4.2, 5.3, 5.85],
    [8.85, 9.8, 11.7, 12.65],
    [11.45, 12.6, 14.9, 16.05],
]
RESTORED_5 = [
    [1.55, 1.71, 2.35, 2.99, 3.15],
    [3.15, 3.35, 4.15, 4.95, 5.15],
    [9.55, 9.91, 11.35, 12.79, 13.15],
    [15.95, 16.47, 18.55, 20.63, 21.15],
    [17.55, 18.11, 20.35, 22.59, 23.15],
]


def test_halving_and_restoring_equals_pytorchs_interpolate(float64):
    for side, golden in ((4, RESTORED_4), (5, RESTORED_5)):
        values = jnp.arange(side * side, dtype=float) ** 2 / 10
        actual = topo_grid.restored(values, sheet=(side, side))
        np.testing.assert_allclose(actual.reshape(side, side), golden, rtol=1e-12, atol=1e-12)


def test_a_plane_is_restored_inside_and_every_feature_by_itself(float64):
    row, column = jnp.meshgrid(jnp.arange(6.0), jnp.arange(6.0), indexing="ij")
    plane = (2 * row + 3 * column).reshape(-1)
    actual = topo_grid.restored(jnp.stack([plane, -plane], axis=1), sheet=(6, 6))
    inside = (slice(1, -1), slice(1, -1))
    np.testing.assert_allclose(
        actual[:, 0].reshape(6, 6)[inside], plane.reshape(6, 6)[inside], rtol=1e-12
    )
    np.testing.assert_allclose(actual[:, 1], -actual[:, 0], rtol=1e-12)


@pytest.mark.parametrize(
    ("num_units", "sheet", "message"),
    [
        (1, None, "num_units must be at least 4, but is 1"),
        (-4, None, "num_units must be at least 4, but is -4"),
        (17, None, "num_units must not be prime, for a sheet, but is 17"),
        (12, (3, 5), r"of num_units \(12\) in all, but is 3 x 5"),
        (12, (1, 12), "two or more rows and columns"),
    ],
)
def test_sheets_that_do_not_hold_the_units_are_refused(num_units, sheet, message):
    with pytest.raises(ValueError, match=message):
        topo_grid.task(num_units=num_units, sheet=sheet)


def test_a_sheet_is_as_nearly_square_as_its_units_allow():
    assert topo_grid.sheet_of(4096) == (64, 64)
    assert topo_grid.sheet_of(24) == (4, 6)
    assert topo_grid.sheet_of(24, (12, 2)) == (12, 2)
    rows = topo_grid.gradient_tau(jax.random.key(0), sheet=(3, 4), tau_min=1.0, tau_max=5.0)
    np.testing.assert_allclose(rows.reshape(3, 4), np.repeat([[1], [3], [5]], 4, axis=1))
    radial = topo_grid.radial_tau(jax.random.key(0), sheet=(3, 5), tau_min=1.0, tau_max=9.0)
    np.testing.assert_allclose(radial.reshape(3, 5)[[1, 0, 2], [2, 0, 4]], [1, 9, 9], rtol=1e-6)


def test_morans_i_worked_by_hand():
    morans_i = jit(functools.partial(topo_grid.morans_i, sheet=(2, 2), num_shuffles=50))
    everyone = jnp.ones(4, bool)
    # Rows of 1 and -1: two pairs alike, two opposite. Columns likewise; a chessboard: all opposite.
    for values, expected in (([1, 1, -1, -1], 0.0), ([1, -1, 1, -1], 0.0), ([1, -1, -1, 1], -1.0)):
        actual = morans_i(jnp.array(values, float)[:, None], everyone, jax.random.key(0))
        np.testing.assert_allclose(actual.statistic, expected, atol=1e-6)
    # Three that count, in an L: mean 2, deviations 1, -1, 0; pairs (1)(-1) and (1)(0).
    # 3 / 2 * (-1 + 0) / (1 + 1 + 0) = -3/4, whatever the fourth is.
    among = jnp.array([True, True, True, False])
    actual = morans_i(jnp.array([[3.0], [1.0], [2.0], [99.0]]), among, jax.random.key(0))
    np.testing.assert_allclose(actual.statistic, -0.75, rtol=1e-6)
    assert float(morans_i(jnp.ones((4, 1)), everyone, jax.random.key(0)).statistic) == 0
    alone = jnp.array([True, False, False, True])
    assert float(morans_i(jnp.eye(4)[:, :1], alone, jax.random.key(0)).statistic) == 0


def test_shuffles_deal_the_values_among_those_that_count():
    side = 12
    row = jnp.repeat(jnp.arange(side, dtype=float), side)
    among = jax.random.bernoulli(jax.random.key(1), 0.7, (side**2,))
    values = jnp.where(among, row, 1e6)[:, None]
    actual = jit(functools.partial(topo_grid.morans_i, sheet=(side, side)))(
        values, among, jax.random.key(0)
    )
    assert 0.8 < actual.statistic < 1.1
    count = int(among.sum())
    # Its mean under permutation is -1/(N - 1), its variance about 1 / number of pairs.
    m = np.asarray(among).reshape(side, side)
    pairs = (m[1:] & m[:-1]).sum() + (m[:, 1:] & m[:, :-1]).sum()
    np.testing.assert_allclose(actual.shuffled_std, pairs**-0.5, rtol=0.2)
    np.testing.assert_allclose(
        actual.shuffled_mean, -1 / (count - 1), atol=4 * pairs**-0.5 / 200**0.5
    )


def test_spearman_equals_scipys_with_ties_and_left_outs():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 8, 60).astype(float), rng.normal(size=60)
    b += 0.3 * a
    among = rng.uniform(size=60) < 0.7
    expected = scipy.stats.spearmanr(a[among], b[among]).statistic
    actual = jit(topo_grid.spearman)(jnp.asarray(a), jnp.asarray(b), jnp.asarray(among))
    np.testing.assert_allclose(actual, expected, rtol=1e-5)
    assert float(topo_grid.spearman(jnp.ones(60), jnp.asarray(b), jnp.asarray(among))) == 0


# --- Time constants ---


def test_first_time_constants():
    make = {"sheet": (5, 5), "tau_min": 1.0, "tau_max": 9.0}
    key = jax.random.key(0)
    rows = topo_grid.gradient_tau(key, **make).reshape(5, 5)
    np.testing.assert_allclose(rows, np.repeat([[1], [3], [5], [7], [9]], 5, axis=1))
    radial = topo_grid.radial_tau(key, **make).reshape(5, 5)
    np.testing.assert_allclose(radial[[0, 2, 2], [0, 2, 4]], [9, 1, 1 + 8 / 2**0.5], rtol=1e-6)
    stripes = topo_grid.striped_tau(key, **make, num_stripes=2).reshape(5, 5)
    np.testing.assert_allclose(stripes[:, 0], [1, 1, 9, 9, 9])  # the row that is left: the last
    np.testing.assert_allclose(topo_grid.equal_tau(key, **make), 5)
    random = topo_grid.random_tau(key, sheet=(50, 50), tau_min=1.0, tau_max=9.0)
    assert scipy.stats.kstest(random, "uniform", (1, 8)).pvalue > 1e-3
    with pytest.raises(ValueError, match="num_stripes must be at most 5"):
        topo_grid.striped_tau(key, **make, num_stripes=6)


@pytest.mark.parametrize(("low", "high"), [(5.0, 2.0), (0.5, 50.0), (-1.0, 3.0), (1.0, np.inf)])
def test_bounds_of_tau_that_make_no_sense_are_refused(low, high):
    with pytest.raises(ValueError, match="1 <= tau_min <= tau_max must hold"):
        topo_grid.leaky_units(tau_min=low, tau_max=high)


def leaky_setting(num_units=5, batch=3, time=6):
    keys = jax.random.split(jax.random.key(0), 4)
    params = networks.LeakyRNNParams(
        inputs=jax.random.normal(keys[0], (2, num_units)),
        recurrent=0.7 * jax.random.normal(keys[1], (num_units, num_units)),
        # In the middle, below and above the bounds 1 and 8, and on both.
        log_tau=jnp.log(jnp.array([3.0, 0.5, 20.0, 1.0, 8.0])),
    )
    h0 = jax.random.normal(keys[2], (batch, num_units))
    return params, h0, jax.random.normal(keys[3], (batch, time, 2))


BOUNDS = {"tau_min": 1.0, "tau_max": 8.0}


def plain(params, h0, inputs, nonlinearity):
    """The equation as a loop, differentiated by JAX."""
    tau = jnp.clip(jnp.exp(params.log_tau), 1.0, 8.0)[None]
    h, hidden = h0, []
    for v in inputs.swapaxes(0, 1):
        f = nonlinearity(v @ params.inputs + h @ params.recurrent)
        h = (1 - 1 / tau) * h + f / tau
        hidden.append(h)
    return jnp.stack(hidden, axis=1)


@pytest.mark.parametrize("nonlinearity", [networks.relu, networks.tanh])
def test_leaky_units_and_all_their_gradients_equal_a_plain_loop(float64, nonlinearity):
    params, h0, inputs = leaky_setting()
    above = jax.random.normal(jax.random.key(7), (3, 6, 5))
    ours = functools.partial(networks.leaky_rnn, nonlinearity=nonlinearity, **BOUNDS)
    np.testing.assert_allclose(
        jit(ours)(params, h0, inputs), plain(params, h0, inputs, nonlinearity), rtol=1e-12
    )

    def gradients(function):
        return jit(jax.grad(lambda *a: jnp.sum(above * function(*a)), argnums=(0, 1, 2)))(
            params, h0, inputs
        )

    actual = gradients(ours)
    expected = gradients(functools.partial(plain, nonlinearity=nonlinearity))
    for got, wanted in zip(jax.tree.leaves(actual[1:]), jax.tree.leaves(expected[1:]), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-10, atol=1e-12)
    for name in ("inputs", "recurrent"):
        got, wanted = (getattr(x[0], name) for x in (actual, expected))
        np.testing.assert_allclose(got, wanted, rtol=1e-10, atol=1e-12)
    # jnp.clip halves the gradient on a bound (exp(log 1)); PyTorch's clamp and ours do not.
    wanted = np.array(expected[0].log_tau) * [1, 0, 0, 2, 1]
    assert np.abs(wanted[[0, 3, 4]]).min() > 1e-3
    np.testing.assert_allclose(actual[0].log_tau, wanted, rtol=1e-9, atol=1e-12)
    # And against differences of the loss itself.
    step = 1e-6
    moved = [params._replace(log_tau=params.log_tau.at[0].add(sign * step)) for sign in (1, -1)]
    up, down = (float(jnp.sum(above * jit(ours)(p, h0, inputs))) for p in moved)
    np.testing.assert_allclose(actual[0].log_tau[0], (up - down) / (2 * step), rtol=1e-6)


def test_units_that_do_not_learn_their_tau_have_no_gradient_in_it():
    for learned in (True, False):
        units = topo_grid.leaky_units(tau_max=8.0, learned=learned)
        params, h0, inputs = leaky_setting(num_units=4 + 1)

        def loss(params, units=units, h0=h0, inputs=inputs):
            return jnp.sum(units.network((2, 2)).apply(params, h0, inputs)) + jnp.sum(
                units.tau(params)
            )

        assert bool(jnp.any(jax.grad(loss)(params).log_tau != 0)) == learned


# --- Penalties ---


def test_unlike_weights_is_one_minus_the_mean_cosine(float64):
    side = 4
    params, *_ = leaky_setting()
    w = jax.random.normal(jax.random.key(3), (16, 16))
    loss, scalars = topo_grid.unlike_weights(
        params._replace(recurrent=w), None, sheet=(side, side), step=0, weight=2.0
    )
    incoming = np.asarray(w).T  # of unit u, as a row
    blurred = np.asarray(topo_grid.restored(jnp.asarray(incoming), sheet=(side, side)))
    cosine = [
        a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        for a, b in zip(incoming, blurred, strict=True)
    ]
    np.testing.assert_allclose(scalars["topographic_loss"], 1 - np.mean(cosine), rtol=1e-12)
    np.testing.assert_allclose(loss, 2 * (1 - np.mean(cosine)), rtol=1e-12)
    alike = params._replace(recurrent=jnp.ones((16, 1)) * jnp.ones((1, 16)))
    np.testing.assert_allclose(
        topo_grid.unlike_weights(alike, None, sheet=(side, side), step=0)[0], 0, atol=1e-12
    )


def test_unlike_tau_both_ways(float64):
    tau = jnp.array([1.0, 4.0, 2.0, 9.0])  # a sheet of 2 x 2 is restored to its mean, 4
    roughness = (9 + 0 + 4 + 25) / 4
    variance = (9 + 0 + 4 + 25) / 3
    loss, scalars = topo_grid.unlike_tau(None, tau, sheet=(2, 2), step=0)
    np.testing.assert_allclose(loss, roughness - 0.1 * variance, rtol=1e-12)
    np.testing.assert_allclose(scalars["tau_roughness"], roughness, rtol=1e-12)
    found = [scalars[f"tau_{name}"] for name in ("mean", "std", "min", "max")]
    np.testing.assert_allclose(found, [tau.mean(), tau.std(), tau.min(), tau.max()], rtol=1e-12)
    # Sorted 1 2 4 9 against 1 11/3 19/3 9.
    ramp = ((5 / 3) ** 2 + (7 / 3) ** 2) / 4
    spread = {"smoothness": 0.5, "spread": 2.0, "spread_term": topo_grid.off_the_ramp}
    loss, _ = topo_grid.unlike_tau(None, tau, sheet=(2, 2), step=0, **spread)
    np.testing.assert_allclose(loss, 0.5 * roughness + 2 * ramp, rtol=1e-12)
    # No gradient through the ends: of 1 and 9 only what their own distance, 0, gives.
    gradient = jax.grad(topo_grid.off_the_ramp)(tau)
    np.testing.assert_allclose(gradient, [0, -7 / 6, -5 / 6, 0], rtol=1e-9, atol=1e-12)
    with pytest.raises(ValueError, match="needs units with time constants"):
        topo_grid.task(num_units=16, penalty=topo_grid.unlike_tau)


def test_the_floor_bounds_what_a_negative_code_can_gain(float64):
    code = jnp.array([1.0, -0.2])
    outputs = jnp.array([2.0, -1.0])
    p = np.exp([2, -1]) / np.exp([2, -1]).sum()
    actual = topo_grid.floored_cross_entropy(outputs, code)
    np.testing.assert_allclose(
        actual, -np.log(p[0] + 1e-10) + 0.2 * np.log(p[1] + 1e-10), rtol=1e-9
    )
    far = topo_grid.floored_cross_entropy(jnp.array([2.0, -1e4]), code)
    np.testing.assert_allclose(far, 0.2 * np.log(1e-10), rtol=1e-6)
    # Where the code is not negative it is that of grid_rnn.
    positive = jnp.abs(code)
    np.testing.assert_allclose(
        topo_grid.floored_cross_entropy(outputs, positive),
        path_integration.cross_entropy(outputs, positive),
        rtol=1e-7,
    )


# --- The task ---

SMALL = {
    "num_units": 16,
    "num_place": 16,
    "batch_size": 4,
    "num_steps": 5,
    "evaluation": path_integration.EvaluationSettings(
        num_steps=5,
        num_map_walks=200,
        num_rollouts=4,
        rollout_steps=20,
        num_bins=12,
        num_noise_maps=8,
    ),
}


def test_walks_are_ratinaboxs_and_as_fast_as_sorschers():
    def walk(width_m, boundary, num_steps):
        made = functools.partial(
            topo_grid.rat_walk,
            batch_size=300,
            num_steps=num_steps,
            width_m=width_m,
            dt_s=0.02,
            boundary=boundary,
        )
        return jit(made)(jax.random.key(0))

    walled = walk(2.2, arena.avoid_walls, 100)
    assert np.abs(walled.positions).max() <= 1.1
    steps = np.diff(np.concatenate([walled.start[:, None], walled.positions], axis=1), axis=1)
    np.testing.assert_allclose(steps, walled.displacements, atol=1e-6)
    around = walk(2.2, arena.wrap_around, 100)
    assert (np.abs(np.diff(around.positions, axis=1)).max(axis=-1) > 1.1).any()
    assert np.abs(around.displacements).max() < 0.2
    # Where no wall is met all start at 1.02 m/s, and after some coherence times of 0.5 s have
    # Rayleigh speeds of that scale.
    speed = np.linalg.norm(walk(1e3, arena.avoid_walls, 200).displacements, axis=-1) / 0.02
    np.testing.assert_allclose(np.median(speed[:, 0]), 1.02, rtol=0.05)
    np.testing.assert_allclose(np.sqrt((speed[:, 150:] ** 2).mean()), 2**0.5 * 1.02, rtol=0.05)
    assert scipy.stats.kstest(speed[:, -1], "rayleigh", (0, 1.02)).pvalue > 1e-3


def test_walks_forget_their_speed_and_turn_as_told():
    """Without walls: the speed's normal variable within 0.5 s, 120 degrees/s within 80 ms."""
    walks = jit(
        functools.partial(
            topo_grid.rat_walk,
            batch_size=400,
            num_steps=200,
            width_m=2.2,
            dt_s=0.02,
            boundary=arena.wrap_around,
        )
    )(jax.random.key(0))
    speed = np.linalg.norm(np.asarray(walks.displacements, float), axis=-1) / 0.02
    z = scipy.stats.norm.ppf(scipy.stats.rayleigh(scale=1.02).cdf(speed[:, 100:]))
    lag = 25  # half a second, in which 1 - 0.02 / 0.5 is to be left at each step
    # Some 400 x 100 / 25 independent pairs.
    correlation = np.mean(z[:, lag:] * z[:, :-lag]) / np.mean(z**2)
    np.testing.assert_allclose(correlation, 0.96**25, atol=4 / 1600**0.5)
    turn = np.asarray(arena.wrap_angle(jnp.diff(walks.headings, axis=1))) / 0.02
    k = 0.02 / 0.08
    std = np.radians(120) / np.sqrt(1 - k / 2)  # of the discrete process, exactly
    np.testing.assert_allclose(turn[:, 50:].std(), std, rtol=0.02)
    correlation = np.mean(turn[:, 54:] * turn[:, 50:-4]) / np.mean(turn[:, 50:] ** 2)
    np.testing.assert_allclose(correlation, (1 - k) ** 4, atol=0.03)


def test_one_step_of_adam_on_the_clipped_gradient():
    """With the loss written out again."""
    task = topo_grid.task(
        **SMALL, units=topo_grid.leaky_units(), penalty=topo_grid.unlike_tau, weight_decay=1e-2
    )
    state = jit(task.init)(jax.random.key(0), ())
    batch = jit(task.sample)((), jax.random.key(1))
    after, scalars = jit(task.step)(state, batch, jax.random.key(2))
    code = functools.partial(
        topo_grid.difference_of_gaussians, centres=state.place_centres, sigma_m=0.12
    )

    def loss(params):
        h0 = code(batch.start) @ params.encoder
        leaky = params.network
        hidden = networks.leaky_rnn(
            leaky, h0, batch.displacements, nonlinearity=networks.relu, tau_min=1.0, tau_max=50.0
        )
        y = networks.linear(params.decoder, hidden)
        total = jnp.mean(topo_grid.floored_cross_entropy(y, code(batch.positions)))
        tau = jnp.clip(jnp.exp(leaky.log_tau), 1, 50)
        total += 1e-2 * jnp.sum(leaky.recurrent**2)
        total += jnp.mean((tau - topo_grid.restored(tau, sheet=(4, 4))) ** 2)
        return total - 0.1 * jnp.var(tau, ddof=1)

    value, gradient = jit(jax.value_and_grad(loss))(state.params)
    np.testing.assert_allclose(scalars["loss"], value, rtol=1e-5)
    norm = np.sqrt(sum(np.sum(np.asarray(g) ** 2) for g in jax.tree.leaves(gradient)))
    assert norm > 1
    # The first step of Adam is the sign of the gradient times the rate, except for its epsilon.
    for before, now, g in zip(
        *map(jax.tree.leaves, (state.params, after.params, gradient)), strict=True
    ):
        clipped = np.asarray(g) / norm
        expected = -1e-4 * clipped / (np.abs(clipped) + 1e-8)
        np.testing.assert_allclose(now - before, expected, rtol=2e-2, atol=2e-6)


def test_what_lies_where_on_a_sheet_made_by_hand():
    """Maps of waves whose wavelength follows the rows, whose direction the columns, and tau.

    A grid's three waves count as one orientation: each unit shows any of them. A unit that is no
    grid cell has a tau unlike all others.
    """
    side, num_bins = 8, 32
    row, column = np.divmod(np.arange(side**2), side)
    rng = np.random.default_rng(0)
    wavelength = 0.3 + 0.05 * row
    direction = 0.1 + 0.06 * column + np.pi / 3 * rng.integers(0, 3, side**2)
    phase = rng.uniform(-np.pi, np.pi, side**2)
    tau = np.where(np.arange(side**2) == 5, 30.0, row)
    x = (np.arange(num_bins) + 0.5) / num_bins * 2.2 - 1.1
    maps = np.stack(
        [
            np.cos(2 * np.pi / w * (np.cos(d) * x[:, None] + np.sin(d) * x[None]) - p)
            for w, d, p in zip(wavelength, direction, phase, strict=True)
        ]
    ).astype(np.float32)
    score = np.where(np.arange(side**2) == 5, 0.1, 1.0).astype(np.float32)
    measure = jit(functools.partial(topo_grid.measure_sheet, sheet=(side, side), width_m=2.2))
    scalars, readout = measure(maps, score, jnp.asarray(tau, float), jax.random.key(0))
    np.testing.assert_allclose(readout["scale_m"], wavelength, rtol=0.03)
    error = np.angle(np.exp(2j * (readout["wave_direction_rad"] - direction))) / 2
    assert np.abs(error).max() < 0.03
    turned = np.angle(np.exp(1j * (readout["wave_phase_rad"] - phase)))
    assert np.abs(turned).max() < 0.3
    assert scalars["grid_units"] == 63
    for name in ("scale", "orientation"):
        assert scalars[f"moran_{name}"] > 0.8, name
        assert scalars[f"moran_{name}_z"] > 5, name
    assert abs(scalars["moran_phase_z"]) < 3
    # Order of tau counts over all units, its correlation with the scale over grid cells.
    x = tau.reshape(side, side) - tau.mean()
    alike = (x[1:] * x[:-1]).sum() + (x[:, 1:] * x[:, :-1]).sum()
    pairs = 2 * side * (side - 1)
    expected = side**2 / pairs * alike / (x**2).sum()
    assert expected < 0.7
    np.testing.assert_allclose(scalars["moran_tau"], expected, rtol=1e-4)
    grid = score > 0.3
    expected = scipy.stats.spearmanr(tau[grid], readout["scale_m"][grid]).statistic
    assert expected > 0.98
    assert scipy.stats.spearmanr(tau, readout["scale_m"]).statistic < expected - 0.03
    np.testing.assert_allclose(scalars["tau_scale_correlation"], expected, rtol=1e-5)
    np.testing.assert_allclose(
        scalars["tau_scale_z"], scalars["tau_scale_correlation"] * 62**0.5, rtol=1e-5
    )


@pytest.mark.slow
def test_figures_of_the_sheet_are_drawn_from_the_readout():
    for units, sheet in ((topo_grid.plain_units(), (2, 8)), (topo_grid.leaky_units(), (4, 4))):
        task = topo_grid.task(**SMALL, units=units, sheet=sheet)
        state = jit(task.init)(jax.random.key(0), ())
        scalars, readout = jit(task.evaluate)(state, (), jax.random.key(1))
        drawn = topo_grid.draw(missing.on_host(readout))
        check_figures(drawn)
        panels = [ax.get_title() for ax in drawn["sheet"].axes if ax.get_images()]
        leaky = units.tau is not None
        assert ("tau_and_scale" in drawn) == leaky == ("moran_tau" in scalars)
        if leaky:
            written = drawn["tau_and_scale"].axes[0].get_title()
            assert f"rho {scalars['tau_scale_correlation']:.2f}, z" in written
        assert len(panels) - leaky == 4
        assert panels[0] == "grid score"
        image = drawn["sheet"].axes[0].get_images()[0].get_array()
        np.testing.assert_allclose(image, np.reshape(readout["grid_score_60"], sheet))
        assert f"sheet of {sheet[0]} x {sheet[1]}" in drawn["sheet"].get_suptitle()
        assert f"sheet of {sheet[0]} x {sheet[1]}" in drawn["all_maps"].axes[0].get_title()


def test_place_cells_are_ratinaboxs():
    centres = topo_grid.jittered_lattice(jax.random.key(0), num_place=512, width_m=2.2)
    assert centres.shape == (512, 2)
    # The 28 that a lattice of 22 x 22 leaves can lie a bit outside: see `cells.jittered_centres`.
    assert np.abs(centres[: 22**2]).max() <= 1.1
    assert np.abs(centres).max() <= 1.1 + 0.175 * 2.2 / 512**0.5
    at = jnp.array([[0.3, -0.2]])
    np.testing.assert_allclose(
        topo_grid.difference_of_gaussians(at, centres, sigma_m=0.12),
        cells.difference_of_gaussians(at, centres, sigma_m=0.12, ratio=1.5, peak=1.0),
    )
    peak = topo_grid.difference_of_gaussians(centres[:3], centres[:3], sigma_m=0.12)
    np.testing.assert_allclose(np.diagonal(peak), 1, rtol=1e-5)


# --- Configs ---


@pytest.mark.parametrize("name", ["topo_grid_plain", "topo_grid_topoloss", "topo_grid"])
def test_fiddlers_commute(name):
    for pair in (
        ("laptop", "sorscher"),
        ("laptop", "gaussian"),
        ("laptop", "periodic"),
        ("sheet_grids", "tanh"),
        ("sheet_grids", "periodic"),
    ):
        assert fdl_configs.make(name, *pair) == fdl_configs.make(name, *pair[::-1]), pair
    task = fdl_configs.make(name, "laptop", "sorscher").task
    assert task.encoder_gain == 10 * fdl_configs.make(name, "laptop").task.encoder_gain == 100
    assert task.evaluation.num_map_walks == 5000


def test_fiddlers_change_what_they_say():
    def changed(fiddler):
        return fdl_configs.make("topo_grid", fiddler).task

    assert changed("tanh").units.nonlinearity is networks.tanh
    assert changed("gaussian").place_code is cells.gaussian
    assert fdl.get_callable(changed("periodic").box) is path_integration.periodic_box
    assert changed("gradient_tau").units.tau_init is topo_grid.gradient_tau
    assert changed("fixed_tau").units.learned is False
    assert changed("ramp_tau").penalty.spread_term is topo_grid.off_the_ramp


def test_the_config_is_the_published_task():
    """The config spells out what the task's defaults, the published values, are anyway."""
    config = fdl_configs.topo_grid_plain().task
    defaults = {p.name: p.default for p in config.__signature_info__.parameters.values()}
    for name, value in config.__arguments__.items():
        if name not in ("box", "units", "motion", "optimizer", "evaluation"):
            assert value == defaults[name], name
    published, spelled = topo_grid.published_optimizer(), fdl.build(config.optimizer)
    params = {"a": jnp.ones(3), "b": jnp.array([4.0, -5.0])}
    gradient = jax.tree.map(lambda x: 0.3 * x, params)
    updates = [o.update(gradient, o.init(params), params)[0] for o in (published, spelled)]
    jax.tree.map(np.testing.assert_array_equal, *updates)


def test_lines_are_resampled_as_worked_by_hand():
    # Three pixels to one, whose centre is that of the middle one, and back: constant.
    sheet = jnp.arange(6.0)[:, None] * jnp.ones((1, 4))
    actual = topo_grid.shrunk_and_restored(sheet, factors=(3.0, 1.0))
    # Means 1 and 4 at centres 1.5 and 4.5: on their line between them, constant beyond.
    np.testing.assert_allclose(actual[:, 2], [1, 1, 2, 3, 4, 4], rtol=1e-6)
    actual = topo_grid.shrunk_and_restored(sheet, factors=(3.0, 1.0), interpolate=topo_grid.nearest)
    np.testing.assert_allclose(actual[:, 0], [0, 0, 0, 3, 3, 3])
    # Half-way between four equidistant pixels: -3/32, 19/32, 19/32, -3/32 where a = -3/4.
    weights = topo_grid.cubic(2, 4, 2.0)
    np.testing.assert_allclose(weights[1], [0, -3 / 32, 19 / 32, 16 / 32], rtol=1e-12)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-12)
    with pytest.raises(ValueError, match=r"factors\[1\] must be from 1 to 4, but is 5"):
        topo_grid.shrunk_and_restored(sheet, factors=(1.0, 5.0))


def test_the_penalty_takes_any_layer_and_a_rectangular_sheet():
    """Filters of a convolution, six units on a sheet of 2 x 3, against loops."""
    kernel = np.random.default_rng(0).normal(size=(3, 3, 2, 6))
    sheet = topo_grid.incoming(jnp.asarray(kernel), shape=(2, 3))
    np.testing.assert_allclose(sheet[1, 0], kernel[..., 3].ravel(), rtol=1e-6)
    loss = topo_grid.unlike_neighbours(sheet, factors=(2.0, 1.0))
    filters = kernel.reshape(-1, 6).T
    cosines = []
    for unit in range(6):  # shrunk by 2 along rows: both rows become their mean
        mean = (filters[unit] + filters[(unit + 3) % 6]) / 2
        w = filters[unit]
        cosines.append(w @ mean / np.linalg.norm(w) / np.linalg.norm(mean))
    np.testing.assert_allclose(loss, 1 - np.mean(cosines), rtol=1e-5)
    biases = np.array([[1.0, 3.0], [1.0, 3.0]])
    np.testing.assert_allclose(
        topo_grid.unlike_neighbours(jnp.asarray(biases), factors=(1.0, 2.0)),
        1 - 16 / np.sqrt(20 * 16),  # against a mean of 2 everywhere
        rtol=1e-5,
    )


def test_input_weights_can_be_penalised_in_place_of_recurrent_ones():
    class Params(NamedTuple):
        inputs: jax.Array
        recurrent: jax.Array

    params = Params(jnp.ones((2, 4)), jax.random.normal(jax.random.key(0), (4, 4)))
    alike, _ = topo_grid.unlike_weights(
        params, None, sheet=(2, 2), step=0, of=topo_grid.input_weights
    )
    np.testing.assert_allclose(alike, 0, atol=1e-6)
    assert topo_grid.unlike_weights(params, None, sheet=(2, 2), step=0)[0] > 0.1


def test_the_penalty_is_that_of_an_oblong_sheet():
    task = topo_grid.task(
        **{**SMALL, "num_units": 12}, sheet=(2, 6), penalty=topo_grid.unlike_weights
    )
    state = jit(task.init)(jax.random.key(0), ())
    _, scalars = jit(task.step)(state, jit(task.sample)((), jax.random.key(1)), jax.random.key(2))
    w = np.asarray(state.params.network.recurrent, float).T.reshape(2, 6, 12)
    smooth = np.asarray(topo_grid.shrunk_and_restored(jnp.asarray(w)))
    cosines = (w * smooth).sum(2) / np.linalg.norm(w, axis=2) / np.linalg.norm(smooth, axis=2)
    assert float(scalars["topographic_loss"]) == pytest.approx(1 - cosines.mean(), rel=1e-4)


def test_biases_and_outgoing_weights_can_be_penalised():
    units = topo_grid.plain_units(bias=True)
    network = units.network((2, 2))
    params = network.init(jax.random.key(0), num_in=2, num_units=4)
    assert params.inputs.shape == (3, 4)
    # h = f(v W_i + h W_h + b), in NumPy.
    h, v = np.array([[0.3, -0.1, 0.2, 0.5]]), np.array([[[0.7, -0.4]]])
    expected = np.maximum(
        v[:, 0] @ params.inputs[:2] + h @ params.recurrent + params.inputs[2][None], 0
    )
    actual = network.apply(params, jnp.asarray(h), jnp.asarray(v))
    np.testing.assert_allclose(actual[:, 0], expected, atol=1e-6)
    alike = params._replace(inputs=params.inputs.at[2].set(0.5))
    unlike = params._replace(inputs=params.inputs.at[2].set(jnp.array([1.0, -1.0, 1.0, -1.0])))
    penalise = functools.partial(
        topo_grid.unlike_weights, sheet=(2, 2), step=0, of=topo_grid.biases
    )
    np.testing.assert_allclose(penalise(alike, None)[0], 0, atol=1e-6)
    np.testing.assert_allclose(penalise(unlike, None)[0], 1, atol=1e-6)  # restored to 0
    with pytest.raises(ValueError, match="no biases"):
        topo_grid.task(
            **SMALL, penalty=functools.partial(topo_grid.unlike_weights, of=topo_grid.biases)
        )
    turned = params._replace(recurrent=params.recurrent.T)
    outgoing, incoming = (
        topo_grid.unlike_weights(of_params, None, sheet=(2, 2), step=0, of=of)[0]
        for of_params, of in (
            (turned, topo_grid.outgoing_weights),
            (params, topo_grid.recurrent_weights),
        )
    )
    np.testing.assert_allclose(outgoing, incoming, rtol=1e-6)
    as_they_are = topo_grid.unlike_weights(turned, None, sheet=(2, 2), step=0)[0]
    assert abs(float(as_they_are - incoming)) > 1e-3


def test_the_weight_of_the_penalty_follows_a_schedule_of_the_command_line():
    config = fdl_configs.make("topo_grid_topoloss").task
    overrides.set_value(config, "penalty.weight", "optax:linear_schedule", {})
    for name, value in (("init_value", "0.0"), ("end_value", "1.0"), ("transition_steps", "4")):
        overrides.set_value(config, f"penalty.weight.{name}", value, {})
    for name, value in SMALL.items():
        setattr(config, name, value)
    task = fdl.build(config)
    state = jit(task.init)(jax.random.key(0), ())
    batch, step = jit(task.sample)((), jax.random.key(1)), jit(task.step)
    weights, added = [], []
    for _ in range(6):
        decay = 1e-4 * float(jnp.sum(jnp.square(state.params.network.recurrent)))
        state, scalars = step(state, batch, jax.random.key(2))
        weights.append(float(scalars["topographic_weight"]))
        added.append(float(scalars["loss"] - scalars["code_loss"]) - decay)
        np.testing.assert_allclose(added[-1], weights[-1] * scalars["topographic_loss"], atol=1e-4)
    np.testing.assert_allclose(weights, [0, 0.25, 0.5, 0.75, 1, 1], atol=1e-6)
    config.optimizer = fdl.Config(optax.sgd, learning_rate=1e-3)
    with pytest.raises(ValueError, match="needs an optimizer that counts"):
        fdl.build(config)
