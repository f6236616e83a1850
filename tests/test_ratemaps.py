from functools import partial

import jax
import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
import scipy.special
import scipy.stats

from hfjax import ratemaps

EXTENT = ((-1.1, 1.1), (-1.1, 1.1))


def jit(f, **hyperparameters):
    """f compiled, with its results as NumPy arrays: comparing those compiles nothing more."""
    compiled = jax.jit(partial(f, **hyperparameters))
    return lambda *args, **kwargs: jax.tree.map(np.asarray, compiled(*args, **kwargs))


grid_scores = jit(ratemaps.grid_scores)
moser_grid_scores = jit(ratemaps.moser_grid_scores)


def closed_form_maps(n):
    """Maps [name -> (n, n)] of many kinds without a random generator, whose draws may change."""
    x, y = np.meshgrid((np.arange(n) + 0.5) / n, (np.arange(n) + 0.5) / n, indexing="ij")

    def waves(spacing, orientation, order, x_0, y_0):
        angles = orientation + np.pi / order * np.arange(order)
        k = 2 * np.pi / spacing / (np.sin(np.pi / 3) if order == 3 else 1)
        return sum(np.cos(k * (np.cos(a) * (x - x_0) + np.sin(a) * (y - y_0))) for a in angles)

    hexagonal = waves(0.4, 0.3, 3, 0.1, 0.45)
    gap = np.maximum(hexagonal, 0)
    gap[2:5, 3:9] = np.nan
    gap[-1] = np.nan
    return {
        "hexagonal": hexagonal,
        "hexagonal_fields": np.maximum(waves(0.55, 1.0, 3, 0.3, 0.2) - 0.5, 0),
        "square": waves(0.35, 0.2, 2, 0.3, 0.2),
        "stripes": waves(0.3, 0.7, 1, 0.0, 0.0),
        "gap": gap,
        "field": np.maximum(np.exp(-((x - 0.3) ** 2 + (y - 0.6) ** 2) / 0.05) - 0.2, 0),
        "clutter": sum(
            np.sin(k * (2.1 + np.sqrt(k)) * (x - 0.5) + k**2 + (7.3 - k**1.5) * (y + 0.1)) / k
            for k in range(1, 9)
        ),
    }


def stacked_maps(n):
    return np.stack(list(closed_form_maps(n).values())).astype(np.float32)


def grid_map(*, spacing, orientation, phase, n, extent=EXTENT):
    """Three plane waves; lattice axes at orientation + k 60 degrees, a field at phase u, v."""
    (x_0, x_1), (y_0, y_1) = extent
    x, y = np.meshgrid(
        x_0 + (np.arange(n) + 0.5) / n * (x_1 - x_0),
        y_0 + (np.arange(n) + 0.5) / n * (y_1 - y_0),
        indexing="ij",
    )
    axes = spacing * np.array(
        [[np.cos(a), np.sin(a)] for a in (orientation, orientation + np.pi / 3)]
    )
    peak = np.asarray(phase) @ axes
    out = np.zeros((n, n))
    for angle in orientation + np.radians([-30, 30, 90]):
        k = 4 * np.pi / np.sqrt(3) / spacing * np.array([np.cos(angle), np.sin(angle)])
        out += np.cos(k[0] * (x - peak[0]) + k[1] * (y - peak[1]))
    return out


# --- Rate maps ---


def test_rate_maps_by_hand():
    positions = np.array(
        [[0.1, 0.1], [0.4, 0.2], [0.9, 0.1], [1.0, 1.0], [1.2, 0.5], [np.nan, 0.5], [-0.1, 0.2]]
    )
    activity = np.stack([np.array([1, 3, 5, 7, 100, 100, 100]), np.arange(7)], axis=1)
    maps = jit(ratemaps.rate_maps, num_bins=2, extent=((0, 1), (0, 1)))(positions, activity)
    expected = [[[2, np.nan], [5, 7]], [[0.5, np.nan], [2, 3]]]
    np.testing.assert_array_equal(maps, expected)


def test_rate_maps_equal_scipy_and_stream():
    rng = np.random.default_rng(0)
    positions = rng.uniform(-1.2, 1.2, (3000, 2)).astype(np.float32)
    activity = rng.normal(size=(3000, 5)).astype(np.float32)
    extent = ((-1.1, 1.1), (-0.7, 1.0))
    maps = jit(ratemaps.rate_maps, num_bins=20, extent=extent)(positions, activity)
    expected = scipy.stats.binned_statistic_2d(
        positions[:, 0], positions[:, 1], activity.T, bins=20, range=extent
    )[0]
    np.testing.assert_allclose(maps, expected, atol=2e-6)

    def step(sums, chunk):
        return ratemaps.add_samples(sums, *chunk, extent=extent), None

    start = ratemaps.rate_map_sums(num_units=5, num_bins=20)
    chunks = positions.reshape(6, 500, 2), activity.reshape(6, 500, 5)
    sums, _ = jit(lambda c: jax.lax.scan(step, start, c))(chunks)
    np.testing.assert_allclose(jit(ratemaps.mean_maps)(sums), expected, atol=2e-6)
    inside = (np.abs(positions[:, 0]) <= 1.1) & (positions[:, 1] >= -0.7) & (positions[:, 1] <= 1)
    assert np.sum(sums.occupancy) == inside.sum()


def test_sums_stay_exact_over_long_recordings():
    """Plain sums in float32 give 0.1088 after 1e7 samples, and a count that stops at 2^24."""
    corner = ((0.0, 1.0), (0.0, 1.0))
    add = jit(ratemaps.add_samples, extent=corner)
    mean_maps = jit(ratemaps.mean_maps)
    rng = np.random.default_rng(0)
    positions = np.full((50_000, 2), 0.2, np.float32)
    activity = np.stack([np.full(50_000, 0.1), rng.gamma(0.1, size=50_000)], 1).astype(np.float32)
    exact = activity.astype(np.float64).mean(axis=0)
    once = add(ratemaps.rate_map_sums(num_units=2, num_bins=2), positions, activity)
    np.testing.assert_allclose(mean_maps(once)[:, 0, 0], exact, rtol=5e-7)
    # The sums after 1e7 samples, 1e8 samples, and at the end of float32's whole numbers.
    for num_before in (10_000_000, 100_000_000, 2**24):
        total = exact * num_before
        total = total.astype(np.float32), (total - total.astype(np.float32)).astype(np.float32)
        sums = ratemaps.RateMapSums(
            once.occupancy // 50_000 * num_before,
            *(np.zeros((2, 2, 2), np.float32) + x for x in total),
        )
        for _ in range(3):
            sums = add(sums, positions, activity)
        assert sums.occupancy[0, 0] == num_before + 150_000
        np.testing.assert_allclose(mean_maps(sums)[:, 0, 0], exact, rtol=5e-7)
        alone = add(sums, positions[:1], activity[:1])
        assert alone.occupancy[0, 0] == sums.occupancy[0, 0] + 1
        gained = (alone.activity - sums.activity).astype(np.float64) + (alone.lost - sums.lost)
        np.testing.assert_allclose(gained[0, 0], activity[0], atol=1e-5)


def test_a_million_samples_in_one_bin_and_in_one_direction():
    """Plain sums are 1 % off."""
    num = 1_000_000
    some = {"num_bins": 2, "extent": ((0.0, 1.0), (0.0, 1.0))}
    ones, tenths = np.full((num, 2), 0.2, np.float32), np.full((num, 1), 0.1, np.float32)
    mean = jit(ratemaps.rate_maps, **some)(ones, tenths)[0, 0, 0]
    np.testing.assert_allclose(mean, 0.1, rtol=5e-7)
    mean = jit(ratemaps.head_direction_curves, num_bins=3)(ones[:, 0], tenths)[0, 0]
    np.testing.assert_allclose(mean, 0.1, rtol=5e-7)


@pytest.mark.parametrize("num_samples", [1, 33, 40_000])
def test_sums_by_bin_of_any_number_of_samples(num_samples):
    rng = np.random.default_rng(num_samples)
    positions = rng.choice(
        [0.1, 0.3, 0.35, 0.8, 1.5], (num_samples, 2), p=[0.7, 0.1, 0.05, 0.05, 0.1]
    )
    activity = rng.normal(size=(num_samples, 3)) + np.array([[0, 1, 100]])
    activity[0, 1] = np.inf
    extent = ((0.0, 1.0), (0.0, 1.0))
    maps = jit(ratemaps.rate_maps, num_bins=4, extent=extent)(positions, np.float32(activity))
    expected = scipy.stats.binned_statistic_2d(*positions.T, activity.T, bins=4, range=extent)[0]
    np.testing.assert_array_equal(np.isfinite(maps), np.isfinite(expected))
    known = np.isfinite(expected)
    np.testing.assert_allclose(maps[known], expected[known], rtol=1e-6, atol=1e-6)


def test_smooth_against_scipy_and_with_gaps():
    maps = stacked_maps(20)
    visited = np.isfinite(maps)
    blur = partial(scipy.ndimage.gaussian_filter, sigma=1.5, mode="constant", truncate=20.0)
    with np.errstate(invalid="ignore"):
        expected = np.stack([blur(np.nan_to_num(m).astype(np.float64)) for m in maps]) / np.stack(
            [blur(v.astype(np.float64)) for v in visited]
        )
    out = jit(ratemaps.smooth, sigma_bins=1.5)(maps)
    np.testing.assert_array_equal(np.isnan(out), ~visited)
    np.testing.assert_allclose(out[visited], expected[visited], atol=2e-5)
    flat = np.where(visited, 3.0, np.nan)
    np.testing.assert_allclose(jit(ratemaps.smooth, sigma_bins=2.0)(flat)[visited], 3.0, rtol=1e-6)


def test_low_pass_noise_has_the_covariance_of_its_filter():
    draw = jit(ratemaps.low_pass_noise_maps, num_units=4000, num_bins=12)
    maps = draw(jax.random.key(0))
    assert maps.shape == (4000, 12, 12)
    np.testing.assert_allclose(np.mean(maps), 0, atol=0.02)
    # Filtered white noise has covariance exp(-d^2 / 4 sigma^2), at the edge as in the middle.
    for d in (0, 1, 2, 4, 8):
        expected = np.exp(-(d**2) / 16)
        np.testing.assert_allclose(np.mean(maps[:, 0, 0] * maps[:, 0, d]), expected, atol=0.06)
        np.testing.assert_allclose(np.mean(maps[:, 2, 5] * maps[:, 2 + d, 5]), expected, atol=0.06)


# --- Autocorrelogram ---


def direct_autocorrelogram(f, visited):
    """Pearson's correlation over the pairs of bins at every shift, one after the other."""
    n = len(f)
    out = np.zeros((2 * n - 1, 2 * n - 1))
    for dx in range(1 - n, n):
        for dy in range(1 - n, n):
            here = np.s_[max(0, -dx) : n - max(0, dx), max(0, -dy) : n - max(0, dy)]
            there = np.s_[max(0, dx) : n - max(0, -dx), max(0, dy) : n - max(0, -dy)]
            both = visited[here] & visited[there]
            a, b = f[here][both], f[there][both]
            if both.sum() > 1 and np.ptp(a) > 0 and np.ptp(b) > 0:
                out[dx + n - 1, dy + n - 1] = np.corrcoef(a, b)[0, 1]
    return out


def test_autocorrelograms_against_definition():
    maps = stacked_maps(12)[[0, 4, 5, 6]].astype(np.float64)
    filled = np.nan_to_num(maps)
    full = np.stack([direct_autocorrelogram(m, np.isfinite(m)) for m in filled])
    visited = np.stack([direct_autocorrelogram(m, np.isfinite(m)) for m in maps])
    assert np.abs(full[1] - visited[1]).max() > 0.1
    # Two pairs or three have a correlation of 1 or so by chance, and no digits in float32.
    n = 12 - np.abs(np.arange(-11, 12))
    many = n[:, None] * n >= 9
    out = jit(ratemaps.autocorrelograms)(maps.astype(np.float32))
    np.testing.assert_allclose(out[:, many], full[:, many], atol=1e-3)
    np.testing.assert_allclose(out, out[:, ::-1, ::-1], atol=1e-5)
    with jax.enable_x64(True):
        out = jit(ratemaps.autocorrelograms)(maps)
        assert out.dtype == np.float64
        np.testing.assert_allclose(out[:, many], full[:, many], atol=1e-9)
        out = jit(ratemaps.masked_autocorrelograms)(maps)
        np.testing.assert_allclose(out[:, many], visited[:, many], atol=1e-9)


def test_faint_flanks_of_a_place_field_keep_their_digits():
    # The flanks of this field fall below 1e-30 of its peak: a Fourier transform has only noise
    # there, and squares of such values are below the smallest float32.
    x = (np.arange(20) + 0.5) / 20
    field = np.exp(-((x[:, None] - 0.2) ** 2 + (x[None] - 0.3) ** 2) / (2 * 0.07**2))
    field = field.astype(np.float32)
    expected = direct_autocorrelogram(field.astype(np.float64), np.isfinite(field))
    out = jit(ratemaps.autocorrelograms)(field[None])[0]
    n = 20 - np.abs(np.arange(-19, 20))
    far = (n[:, None] * n >= 25) & (n[:, None] * n < 150)
    np.testing.assert_allclose(out[far], expected[far], atol=1e-3)


# --- Grid scores by rings ---

# score_60, score_90 and the numbers of their rings, by GridScorer.get_scores of DeepMind's
# grid-cells (scores.py) on closed_form_maps in float32, rings 0.2 to
# linspace(0.4, 1, 10), SciPy 1.17.
GOLDEN_RINGS = {
    16: [
        (1.536900, 0.207273, 1, 7),
        (1.380967, -0.269434, 4, 0),
        (-0.320578, 1.469604, 7, 0),
        (0.416987, 0.098914, 0, 5),
        (1.508632, 0.162126, 1, 7),
        (-0.049060, 0.082685, 0, 5),
        (-0.307330, 0.129781, 9, 8),
    ],
    20: [
        (1.468299, 0.215082, 1, 7),
        (1.379487, -0.323150, 4, 0),
        (-0.319451, 1.495656, 7, 0),
        (0.361209, 0.095201, 0, 5),
        (1.465724, 0.188817, 1, 7),
        (-0.037892, 0.085539, 1, 5),
        (-0.303385, 0.116449, 9, 9),
    ],
    32: [
        (1.469360, 0.209312, 1, 7),
        (1.379849, -0.354839, 4, 0),
        (-0.318923, 1.474875, 7, 0),
        (0.378492, 0.091789, 0, 5),
        (1.478040, 0.207690, 1, 7),
        (-0.041083, 0.090258, 1, 5),
        (-0.307164, 0.116579, 9, 9),
    ],
}


@pytest.mark.parametrize("n", [16, 20, 32])
def test_grid_scores_of_the_original(n):
    scores = grid_scores(stacked_maps(n))
    golden = np.array(GOLDEN_RINGS[n])
    np.testing.assert_allclose(scores.score_60, golden[:, 0], atol=2e-5)
    np.testing.assert_allclose(scores.score_90, golden[:, 1], atol=2e-5)
    np.testing.assert_array_equal(scores.ring_60, golden[:, 2])
    np.testing.assert_array_equal(scores.ring_90, golden[:, 3])


def scipy_ring_scores(f):
    """Reference in float64 with scipy.ndimage.rotate, one map at a time."""
    n = min(f.shape)
    ones = np.ones_like(f)
    count = scipy.signal.correlate2d(ones, ones)
    first = scipy.signal.correlate2d(ones, f) / count
    second = scipy.signal.correlate2d(ones, f**2) / count
    variance = second - first**2
    valid = (count > 1) & (variance > 1e-14) & (variance[::-1, ::-1] > 1e-14)
    cov = scipy.signal.correlate2d(f, f) / count - first * first[::-1, ::-1]
    std = np.sqrt(np.where(valid, variance, 1))
    sac = np.where(valid, cov / (std * std[::-1, ::-1]), 0)
    lag_x, lag_y = (np.arange(1 - size, size) for size in f.shape)
    radius = np.hypot(lag_x[:, None], lag_y)
    best = [-np.inf, -np.inf]
    for outer in np.linspace(0.4, 1, 10):
        ring = (radius > 0.2 * n) & (radius <= outer * n)
        ours = sac[ring] - sac[ring].mean()
        c = {}
        for angle in (30, 45, 60, 90, 120, 135, 150):
            turned = scipy.ndimage.rotate(sac, angle, reshape=False, order=3)[ring]
            c[angle] = np.mean(ours * turned) / (np.mean(ours**2) + 1e-5)
        best[0] = max(best[0], (c[60] + c[120]) / 2 - (c[30] + c[90] + c[150]) / 3)
        best[1] = max(best[1], c[90] - (c[45] + c[135]) / 2)
    return best


def noise_maps(seed, num_units, num_bins, sigma_bins=2.0):
    white = np.random.default_rng(seed).normal(size=(num_units, num_bins + 20, num_bins + 20))
    smooth = scipy.ndimage.gaussian_filter(white, (0, sigma_bins, sigma_bins), mode="wrap")
    return smooth[:, 10:-10, 10:-10].astype(np.float32)


def test_grid_scores_against_scipy_and_over_blocks():
    maps = noise_maps(3, num_units=150, num_bins=20)
    maps[::3] = np.tanh(3 * maps[::3])
    maps[1::3] = np.maximum(maps[1::3], 0)
    scores = grid_scores(maps)
    picked = [0, 1, 2, 63, 64, 65, 127, 128, 129, 148, 149]
    expected = np.array([scipy_ring_scores(maps[i].astype(np.float64)) for i in picked])
    np.testing.assert_allclose(scores.score_60[picked], expected[:, 0], atol=3e-5)
    np.testing.assert_allclose(scores.score_90[picked], expected[:, 1], atol=3e-5)
    with jax.enable_x64(True):
        exact = jit(ratemaps.grid_scores)(maps[picked].astype(np.float64))
        assert exact.score_60.dtype == np.float64
        np.testing.assert_allclose(exact.score_60, expected[:, 0], atol=1e-10)
    # A population of seeds: the same numbers under vmap.
    seeds = jit(jax.vmap(ratemaps.grid_scores))(maps.reshape(2, 75, 20, 20))
    np.testing.assert_allclose(seeds.score_60.reshape(-1), scores.score_60, atol=5e-5)


def test_grid_scores_do_not_change_under():
    maps = stacked_maps(20)[[0, 1, 2, 3, 5, 6, 6]]
    scores = grid_scores(maps)
    for change in (
        lambda m: 7.5 * m + 30,
        lambda m: 1e-6 * m,
        lambda m: -m,  # an autocorrelogram does not know the sign
        lambda m: np.rot90(m, axes=(1, 2)),
        lambda m: m[:, :, ::-1],
        lambda m: np.swapaxes(m, 1, 2),
    ):
        changed = grid_scores(change(maps))
        np.testing.assert_allclose(changed.score_60, scores.score_60, atol=2e-4)
        np.testing.assert_allclose(changed.score_90, scores.score_90, atol=2e-4)


def test_grid_scores_of_maps_without_structure_are_zero():
    maps = np.stack([np.zeros((20, 20)), np.full((20, 20), 0.7), np.full((20, 20), np.nan)])
    scores = grid_scores(maps.astype(np.float32).repeat(3, axis=0)[:7])
    for values in scores:
        np.testing.assert_array_equal(values, 0)


def test_masked_autocorrelogram_mends_the_score_of_a_map_with_gaps():
    # A grid on a base rate: unvisited bins counted as 0 are then deep holes.
    full = np.array(3 + grid_map(spacing=0.8, orientation=0.2, phase=(0, 0), n=20), np.float32)
    gaps = np.where(np.random.default_rng(0).uniform(size=full.shape) < 0.3, np.nan, full)
    score = jit(ratemaps.grid_scores, autocorrelogram=ratemaps.masked_autocorrelograms)
    whole, holed = score(np.stack([full, gaps])).score_60
    zero_whole, zero_holed = grid_scores(np.stack([full, gaps, *[full] * 5])).score_60[:2]
    np.testing.assert_allclose(whole, zero_whole, atol=2e-5)
    assert abs(whole - holed) < 0.05
    assert abs(zero_whole - zero_holed) > 0.2


def test_share_of_noise_maps_above_thresholds():
    # Low-pass noise is no grid, and yet a quarter of it scores above 0.3.
    maps = noise_maps(1, num_units=150, num_bins=20)
    share = np.mean(grid_scores(maps).score_60 > 0.3)
    assert 0.18 < share < 0.34


# --- Grid scores by expanding circles ---

# Score and radius of the central field by opexebo (master, 2023): analysis.grid_score of
# analysis.autocorrelation of closed_form_maps in float32.
GOLDEN_MOSER = {
    16: [
        (1.319157, 1),
        (1.283680, 1),
        (-0.419713, 1),
        (0.503887, 5),
        (1.302210, 1),
        (-0.115514, 4),
        (-0.523135, 7),
    ],
    32: [
        (1.390246, 3),
        (1.354097, 4),
        (-0.384859, 3),
        (0.672564, 10),
        (1.394954, 3),
        (-0.068684, 7),
        (-0.438548, 14),
    ],
}


@pytest.mark.parametrize("n", [16, 32])
def test_moser_scores_of_opexebo(n):
    out = moser_grid_scores(stacked_maps(n))
    golden = np.array(GOLDEN_MOSER[n])
    np.testing.assert_allclose(out.score, golden[:, 0], atol=2e-5)
    np.testing.assert_array_equal(out.central_radius, golden[:, 1])


def test_moser_score_is_nan_where_there_is_no_central_field():
    maps = np.zeros((7, 16, 16), np.float32)
    maps[1, 5, 4] = 1
    out = moser_grid_scores(maps)
    assert np.isnan(out.score).all()
    np.testing.assert_array_equal(out.central_radius, 0)


# --- Spacing, orientation, phase ---

spacing_orientation = jit(ratemaps.spacing_orientation, bin_width_m=2.2 / 32)
plane_waves = jit(ratemaps.plane_waves, bin_width_m=2.2 / 32)
MODULES = [(0.35, 0.1), (0.5, 0.5), (0.62, 1.0), (0.8, 0.02)]


def test_spacing_and_orientation_are_recovered():
    rng = np.random.default_rng(0)
    maps = [grid_map(spacing=s, orientation=o, phase=rng.uniform(size=2), n=32) for s, o in MODULES]
    maps = np.array(maps, np.float32)
    spacing, orientation = np.array(MODULES).T
    for fields in (maps, np.maximum(maps, 0), maps + 0.3 * rng.normal(size=maps.shape)):
        actual = spacing_orientation(fields.astype(np.float32))
        np.testing.assert_allclose(actual.spacing, spacing, rtol=0.02)
        error = np.angle(np.exp(6j * (actual.orientation - orientation))) / 6
        np.testing.assert_allclose(error, 0, atol=np.radians(1.5))
        assert np.all((actual.orientation >= 0) & (actual.orientation < np.pi / 3))
    wavelength = plane_waves(maps).wavelength
    np.testing.assert_allclose(wavelength * 2 / np.sqrt(3), spacing, rtol=0.03)


def test_no_spacing_without_three_peaks():
    maps = np.stack([closed_form_maps(32)["field"], *np.ones((3, 32, 32))]).astype(np.float32)
    actual = spacing_orientation(maps)
    assert np.isnan(actual.spacing).all()
    assert np.isnan(actual.orientation).all()
    wavelength = plane_waves(maps).wavelength
    np.testing.assert_array_equal(wavelength[1:], np.inf)


def test_phases_are_recovered():
    rng = np.random.default_rng(1)
    phase = rng.uniform(size=(80, 2))
    maps = np.stack([grid_map(spacing=0.7, orientation=0.4, phase=p, n=20) for p in phase])
    maps[::2] = np.maximum(maps[::2], 0)
    maps[1::2][rng.uniform(size=maps[1::2].shape) < 0.2] = np.nan
    actual = jit(ratemaps.grid_phases, extent=EXTENT)(
        maps.astype(np.float32), spacing=0.7, orientation=0.4
    )
    assert np.all((actual >= 0) & (actual < 1))
    error = np.abs(np.angle(np.exp(2j * np.pi * (actual - phase)))) / (2 * np.pi)
    assert error[::2].max() < 0.02
    assert error[1::2].max() < 1e-3


# --- Border score, spatial information, head direction ---


def border_scores(maps):
    """Of maps of 20 x 20 bins; filled up to 70 so that one compiled program serves all."""
    filled = np.zeros((70, 20, 20), np.float32)
    filled[: len(maps)] = maps
    out = jitted_border_scores(filled)
    return jax.tree.map(lambda x: x[: len(maps)], out)


jitted_border_scores = jit(ratemaps.border_scores, bin_width_m=0.11)


def reference_border_score(f, bin_width_m):
    label, number = scipy.ndimage.label(f > 0.3 * f.max())
    masks = [label == k for k in range(1, number + 1)]
    masks = [m for m in masks if m.sum() * bin_width_m**2 > 0.02]
    if not masks:
        return -1.0
    cover = max(w.mean() for m in masks for w in (m[0], m[-1], m[:, 0], m[:, -1]))
    i, j = np.indices(f.shape) + 1
    n, m = f.shape
    distance = np.minimum(np.minimum(i, n + 1 - i), np.minimum(j, m + 1 - j)) / (min(n, m) / 2)
    fields = np.any(masks, axis=0)
    d = np.average(distance[fields], weights=f[fields])
    return (cover - d) / (cover + d)


def test_border_scores():
    wall = np.zeros((20, 20))
    wall[0] = 2
    half = np.zeros((20, 20))
    half[:10, -2:] = 1
    centre = np.zeros((20, 20))
    centre[8:12, 8:12] = 1
    small = np.zeros((20, 20))
    small[0, 3] = small[10, 10] = 1
    out = border_scores(np.stack([wall, half, centre, small, np.zeros((20, 20))]))
    # wall: c = 1, d = 1/10; half: c = 1/2; d the mean of 1/10 and 2/10, less the corner's one bin
    d = (10 * 0.1 + 9 * 0.2 + 0.1) / 20
    expected = [0.9 / 1.1, (0.5 - d) / (0.5 + d), -1, -1, -1]
    np.testing.assert_allclose(out.score, expected, atol=1e-6)
    np.testing.assert_allclose(out.coverage, [1, 0.5, 0, 0, 0], atol=1e-6)

    noise = np.maximum(noise_maps(5, num_units=70, num_bins=20, sigma_bins=1.2), 0)
    expected = [reference_border_score(f.astype(np.float64), 0.11) for f in noise]
    np.testing.assert_allclose(border_scores(noise).score, expected, atol=1e-5)


def test_border_score_leaves_unvisited_bins_out():
    f = np.zeros((5, 20, 20))
    f[:, 0] = 1
    f[:, 0, :5] = np.nan
    np.testing.assert_allclose(border_scores(f).coverage, 1)


def test_spatial_information():
    uniform = np.full((4, 4), 3.0)
    one_bin = np.zeros((4, 4))
    one_bin[1, 2] = 5
    silent = np.zeros((4, 4))
    halves = np.zeros((4, 4))
    halves[:2] = 4
    out = jit(ratemaps.spatial_information)(
        np.stack([uniform, one_bin, silent, halves]), np.full((4, 4), 7.0)
    )
    np.testing.assert_allclose(out.bits_per_spike, [0, 4, np.nan, 1], atol=1e-6)
    np.testing.assert_allclose(out.bits_per_second, [0, 4 * 5 / 16, 0, 2], atol=1e-6)
    # Rates 1 and 3 in bins occupied 3/4 and 1/4 of the time, a third bin never visited: mean 3/2.
    out = jit(ratemaps.spatial_information)(
        np.array([[[1.0, 3.0, np.nan]]]), np.array([[3.0, 1.0, 0.0]])
    )
    expected = 0.5 * np.log2(2 / 3) + 0.5 * np.log2(2)
    np.testing.assert_allclose(out.bits_per_spike, [expected], atol=1e-6)
    np.testing.assert_allclose(out.bits_per_second, [1.5 * expected], atol=1e-6)


def test_head_direction_length():
    rng = np.random.default_rng(0)
    # Headings that favour one direction must not show in the tuning.
    headings = rng.vonmises(2.0, 0.5, 40000)
    preferred, kappa = np.array([0.5, -2.0]), np.array([2.0, 8.0])
    activity = np.exp(kappa * np.cos(headings[:, None] - preferred))
    activity = np.concatenate([activity, np.ones_like(activity[:, :1])], axis=1)
    headings[:50] = np.nan
    curves = jit(ratemaps.head_direction_curves, num_bins=60)(headings + 4 * np.pi, activity)
    assert curves.shape == (3, 60)
    out = jit(ratemaps.head_direction_length)(curves)
    expected = scipy.special.i1(kappa) / scipy.special.i0(kappa)
    np.testing.assert_allclose(out.length[:2], expected, atol=5e-3)
    np.testing.assert_allclose(out.direction[:2], preferred, atol=5e-3)
    assert out.length[2] < 1e-5
    by_hand = jit(ratemaps.head_direction_length)(np.array([[1.0, 0, 0, 0], [1, 0, np.nan, 1]]))
    np.testing.assert_allclose(by_hand.length, [1, np.sqrt(0.5)], atol=1e-6)
    np.testing.assert_allclose(by_hand.direction, [np.pi / 4, 0], atol=1e-6)


# --- Bins that are not finite ---


SETTINGS = {
    "grid_scores": {},
    "moser_grid_scores": {},
    "spacing_orientation": {"bin_width_m": 0.1},
    "plane_waves": {"bin_width_m": 0.1},
    "border_scores": {"bin_width_m": 0.1},
    "autocorrelograms": {},
    "masked_autocorrelograms": {},
    "smooth": {"sigma_bins": 1.0},
    "grid_phases": {"spacing": 0.7, "orientation": 0.4, "extent": EXTENT},
}


@pytest.mark.parametrize("name", list(SETTINGS))
def test_every_bin_that_is_not_finite_counts_as_unvisited(name):
    maps = np.maximum(grid_map(spacing=0.7, orientation=0.4, phase=(0.2, 0.7), n=16), 0)
    maps = np.stack([maps] * 3).astype(np.float32)
    maps[:, 3, 4], maps[:, 9, 9] = np.array([[np.nan, np.inf, -np.inf], [np.nan, -np.inf, np.nan]])
    results = jax.tree.leaves(jit(getattr(ratemaps, name), **SETTINGS[name])(maps))
    for values in results:
        finite = np.isfinite(values)
        np.testing.assert_array_equal(finite, finite[:1].repeat(3, axis=0))
        assert finite.any()
        values = np.where(finite, values, 0)
        np.testing.assert_allclose(values, values[:1].repeat(3, axis=0), rtol=1e-5, atol=1e-5)


def test_information_and_direction_leave_out_what_is_not_finite():
    maps = np.random.default_rng(0).uniform(size=(1, 5, 5)).repeat(4, axis=0)
    maps[:, 2, 3] = [np.nan, np.inf, -np.inf, 0.5]
    occupancy = np.ones((5, 5))
    information = jit(ratemaps.spatial_information)
    first, *others = information(maps, occupancy).bits_per_spike[:3]
    np.testing.assert_allclose(others, first, rtol=1e-6)
    occupancy[2, 3] = np.nan
    np.testing.assert_allclose(information(maps, occupancy).bits_per_spike, first, rtol=1e-6)
    curves = np.array([[1.0, 2.0, mark, 4.0] for mark in (np.nan, np.inf, -np.inf)])
    actual = jit(ratemaps.head_direction_length)(curves)
    np.testing.assert_allclose(actual.length, actual.length[0].repeat(3), rtol=1e-6)
    assert np.isfinite(actual.length).all()


def test_a_constant_map_has_no_wave():
    maps = np.stack([np.full((20, 20), value) for value in (0.7, 0.1, -1e-8, 3e7, 1 / 3)])
    maps[2:, 3, 4] = np.nan
    actual = jit(ratemaps.plane_waves, bin_width_m=0.1)(maps.astype(np.float32))
    np.testing.assert_array_equal(actual.wavelength, np.inf)
    assert np.isfinite(actual.direction).all()
    assert np.isfinite(actual.phase).all()


def test_phases_of_few_bins_are_numbers():
    """Fewer visited bins than coefficients: a solution exists, and is not unique."""
    maps = np.full((3, 20, 20), np.nan, np.float32)
    maps[0, :2, :2] = [[1, 2], [3, 4]]
    maps[1] = 5
    actual = jit(ratemaps.grid_phases, extent=EXTENT, spacing=0.7, orientation=0.4)(maps)
    assert np.all((actual >= 0) & (actual < 1))


# --- Impossible values ---


def test_impossible_values_raise():
    key = jax.random.key(0)
    x, a = np.zeros((5, 2)), np.zeros((5, 1))
    with pytest.raises(ValueError, match="num_bins must be at least 1, but is 0"):
        ratemaps.rate_maps(x, a, num_bins=0, extent=EXTENT)
    with pytest.raises(ValueError, match="extent must rise"):
        ratemaps.rate_maps(x, a, num_bins=2, extent=((0, 1), (1, 1)))
    with pytest.raises(ValueError, match="num_units must be at least 1, but is 0"):
        ratemaps.low_pass_noise_maps(key, num_units=0, num_bins=4)
    with pytest.raises(ValueError, match="sigma_bins must be positive, but is -1"):
        ratemaps.low_pass_noise_maps(key, num_units=1, num_bins=4, sigma_bins=-1)
    with pytest.raises(ValueError, match="num_bins must be at least 8, but is 6"):
        ratemaps.moser_grid_scores(np.zeros((1, 6, 6)))
    with pytest.raises(ValueError, match="each ring must contain a bin"):
        ratemaps.grid_scores(np.zeros((1, 20, 20)), ring_inner=0.5)
    with pytest.raises(AssertionError):
        ratemaps.rate_maps(x, np.zeros((4, 1)), num_bins=2, extent=EXTENT)
