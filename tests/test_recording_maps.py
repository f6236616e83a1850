"""Rate maps of rectangles, scores that hold on recordings, and their significance."""

import pathlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats

from hfjax import ratemaps
from hfjax.ratemaps.autocorrelogram import recording_half_plane
from tests.test_ratemaps import direct_autocorrelogram, jit, scipy_ring_scores

CELLS = pathlib.Path(__file__).parents[2] / "shared/data/recordings/grid_cells"
recorded = pytest.mark.skipif(not CELLS.exists(), reason="the recordings are not here")
SHAPE = (44, 30)  # bins of most tests, so that they share compiled programs
BIN_M = 0.04
EXTENT = ((0.0, 1.76), (0.0, 1.2))

recording_scores = jit(ratemaps.recording_grid_scores)
recording_autocorrelograms = jit(ratemaps.recording_autocorrelograms)
lattice = jit(ratemaps.recording_lattice, bin_width_m=BIN_M)


def grid_rates(positions, *, spacing, orientation, aspect=1.0, phase=(0.0, 0.0), peak_hz=15.0):
    """Rates of a grid cell [..., 2] -> [...]; its lattice is stretched along x by the aspect."""
    x = (np.asarray(positions) - phase) * [aspect**-0.5, aspect**0.5]
    angles = orientation + np.radians([-30, 30, 90])
    k = 4 * np.pi / np.sqrt(3) / spacing * np.stack([np.cos(angles), np.sin(angles)])
    return peak_hz * np.exp(2.0 * (np.cos(x @ k).sum(axis=-1) / 3 - 1) / 0.5)


def centres(shape=SHAPE, bin_m=BIN_M):
    return np.stack(np.meshgrid(*((np.arange(n) + 0.5) * bin_m for n in shape), indexing="ij"), -1)


def walk(num_samples, extent, seed=0, dt_s=0.02):
    """A smooth random walk that bounces between walls: [sample, 2]."""
    rng = np.random.default_rng(seed)
    velocity = scipy.ndimage.gaussian_filter1d(rng.normal(size=(num_samples, 2)), 25, axis=0)
    path = np.cumsum(velocity / velocity.std() * 0.2 * dt_s, axis=0)
    low, high = np.asarray(extent).T
    folded = np.mod(path - low, 2 * (high - low))
    return low + np.where(folded > high - low, 2 * (high - low) - folded, folded)


def maps_of(positions, samples, dt_s=0.02, shape=SHAPE, extent=EXTENT, min_visit_s=0.0):
    """Rate maps of spikes, with smoothing of 4.5 cm."""
    bins = ratemaps.position_bins(jnp.asarray(positions), num_bins=shape, extent=extent)
    width = (extent[0][1] - extent[0][0]) / shape[0]
    return ratemaps.firing_rate_maps(
        ratemaps.spike_maps(samples, bins, num_bins=shape),
        ratemaps.occupancy(bins, dt_s, num_bins=shape),
        sigma_bins=0.045 / width,
        min_visit_s=min_visit_s,
    )


# --- Maps ---


def test_square_bins_cover_a_rectangle():
    assert ratemaps.bins_of(((0.0, 1.2), (0.0, 0.6)), 0.03).num_bins == (40, 20)
    bins = ratemaps.bins_of(((-1.0, 1.0), (2.0, 3.1)), 0.3)
    assert bins.num_bins == (7, 4)
    np.testing.assert_allclose(bins.extent, [(-1.05, 1.05), (1.95, 3.15)])
    with pytest.raises(ValueError, match="bin_width_m must be positive, but is 0"):
        ratemaps.bins_of(((0, 1), (0, 1)), 0)
    with pytest.raises(ValueError, match="extent must rise"):
        ratemaps.bins_of(((0, 1), (1, 1)), 0.1)


def test_means_over_oblong_bins_equal_scipy():
    rng = np.random.default_rng(0)
    positions, activity = rng.uniform(0, 1, (2000, 2)), rng.normal(size=(2000, 2))
    extent = ((0.1, 0.9), (0.0, 0.5))
    maps = jit(ratemaps.rate_maps, num_bins=(8, 5), extent=extent)(positions, np.float32(activity))
    expected = scipy.stats.binned_statistic_2d(
        *positions.T, activity.T, bins=(8, 5), range=extent
    ).statistic
    np.testing.assert_allclose(maps, expected, atol=2e-6)
    sums = ratemaps.rate_map_sums(num_units=2, num_bins=(8, 5))
    sums = jit(ratemaps.add_samples, extent=extent)(sums, positions, np.float32(activity))
    np.testing.assert_allclose(ratemaps.mean_maps(sums), expected, atol=2e-6)


def test_a_spike_belongs_to_its_nearest_sample():
    times = np.array([10.0, 10.1, 10.2, 12.0])
    trains = [np.array([10.04, 10.06, 9.95, 11.0, 30.0, 12.05]), np.array([]), np.array([10.2])]
    samples = ratemaps.spike_samples(times, trains)
    np.testing.assert_array_equal(samples, [[0, 1, 0, 3], [4] * 4, [2, 4, 4, 4]])
    counts = np.array([[2, 0, 0], [1, 0, 0], [0, 0, 1], [1, 0, 0]])
    np.testing.assert_array_equal(
        np.sort(ratemaps.samples_of_counts(counts)), [[0, 0, 1, 3], [4] * 4, [2, 4, 4, 4]]
    )
    by_bin = ratemaps.spikes_by_bin(samples, np.array([1, 0, -1, 1]), 2)
    np.testing.assert_array_equal(by_bin, [[1, 3], [0, 0], [0, 0]])
    with pytest.raises(ValueError, match="increase"):
        ratemaps.spike_samples(np.array([0.0, 0.0]), [])
    with pytest.raises(ValueError, match="whole numbers"):
        ratemaps.samples_of_counts(np.array([[0.5]]))


def test_rates_are_smoothed_spikes_over_smoothed_seconds():
    rng = np.random.default_rng(1)
    positions = rng.uniform(0, 1, (4000, 2)) * [1.76, 0.8]  # a third is never visited
    positions[::9] = np.nan
    samples = np.sort(rng.integers(0, 4000, (2, 300)), axis=1).astype(np.int32)
    lost = np.isnan(positions[:, 0])
    time = np.histogram2d(*positions[~lost].T, bins=SHAPE, range=EXTENT)[0] * 0.02
    blur = partial(scipy.ndimage.gaussian_filter, sigma=1.125, mode="constant", truncate=8)
    expected = []
    for train in samples:
        where = positions[train[~lost[train]]]
        spikes = np.histogram2d(*where.T, bins=SHAPE, range=EXTENT)[0]
        with np.errstate(invalid="ignore", divide="ignore"):
            expected.append(np.where(blur(time) >= 0.02, blur(spikes) / blur(time), np.nan))
    maps = maps_of(positions, samples)
    np.testing.assert_array_equal(np.isnan(maps), np.isnan(expected))
    np.testing.assert_allclose(maps, expected, rtol=1e-3, atol=1e-4)
    raw = ratemaps.firing_rate_maps(
        np.ones((1, 2, 2)), np.array([[0.5, 0], [2, 4.0]]), sigma_bins=0
    )
    np.testing.assert_allclose(raw, [[[2, np.nan], [0.5, 0.25]]])


def test_adaptive_circles_grow_until_they_contain_enough():
    rng = np.random.default_rng(2)
    samples = rng.poisson(6, (20, 14)) * (rng.random((20, 14)) > 0.2)
    spikes = rng.binomial(samples, 0.3).astype(np.float32)
    alpha, expected = 3000.0, np.full((20, 14), np.nan)
    i, j = np.indices(samples.shape)
    for x, y in np.argwhere(samples > 0):
        for r in range(1, 7):
            disc = np.hypot(i - x, j - y) <= r
            if spikes[disc].sum() > alpha / (samples[disc].sum() * r) ** 2:
                expected[x, y] = spikes[disc].sum() / (samples[disc].sum() * 0.02)
                break
    assert np.isfinite(expected).sum() > 200
    maps = ratemaps.adaptive_rate_maps(
        spikes[None], samples * np.float32(0.02), dt_s=0.02, alpha=alpha, max_radius_bins=6
    )
    np.testing.assert_allclose(maps[0], expected, rtol=1e-5)


# --- Scores of rectangles by the definitions of others ---


def oblong_maps(num_x, num_y):
    """Closed-form maps: two grids, a grid with gaps, a field, and clutter."""
    x, y = np.moveaxis(centres((num_x, num_y), 1 / 16), -1, 0)

    def waves(spacing, orientation, x_0, y_0):
        k = 4 * np.pi / np.sqrt(3) / spacing
        angles = orientation + np.pi / 3 * np.arange(3)
        return sum(np.cos(k * (np.cos(a) * (x - x_0) + np.sin(a) * (y - y_0))) for a in angles)

    gap = np.maximum(waves(0.4, 0.3, 0.1, 0.45), 0)
    gap[2:5, 3:9] = np.nan
    gap[-1] = np.nan
    field = np.maximum(np.exp(-((x - 0.3) ** 2 + (y - 0.6) ** 2) / 0.05) - 0.2, 0)
    clutter = sum(
        np.sin(k * (2.1 + np.sqrt(k)) * (x - 0.5) + k**2 + (7.3 - k**1.5) * (y + 0.1)) / k
        for k in range(1, 9)
    )
    grids = waves(0.4, 0.3, 0.1, 0.45), np.maximum(waves(0.55, 1.0, 0.3, 0.2) - 0.5, 0)
    return np.stack([*grids, gap, field, clutter]).astype(np.float32)


# Score and radius of the central field by opexebo 0.7.2: analysis.grid_score of
# analysis.autocorrelation of oblong_maps.
GOLDEN_MOSER = {
    (26, 16): [(1.329326, 1), (1.290304, 1), (1.330744, 1), (-0.106608, 4), (-0.604438, 3)],
    (16, 26): [(1.337211, 1), (1.288385, 1), (1.325809, 1), (-0.123426, 4), (-0.538162, 7)],
}


@pytest.mark.parametrize("shape", list(GOLDEN_MOSER))
def test_moser_scores_of_opexebo_on_oblong_maps(shape):
    out = jit(ratemaps.moser_grid_scores)(oblong_maps(*shape))
    golden = np.array(GOLDEN_MOSER[shape])
    np.testing.assert_allclose(out.score, golden[:, 0], atol=1e-4)
    np.testing.assert_array_equal(out.central_radius, golden[:, 1])


def test_ring_scores_of_oblong_maps_equal_scipy():
    maps = oblong_maps(20, 14)[[0, 1, 3, 4]]
    expected = [scipy_ring_scores(m.astype(np.float64)) for m in maps]
    scores = jit(ratemaps.grid_scores)(maps)
    np.testing.assert_allclose(scores.score_60, np.array(expected)[:, 0], atol=5e-5)
    np.testing.assert_allclose(scores.score_90, np.array(expected)[:, 1], atol=5e-5)


# Sparsity by opexebo 0.7.2: analysis.rate_map_stats of oblong_maps(26, 16), at 0 or more, with
# an occupancy of 1 + (x + y) mod 5.
GOLDEN_SPARSITY = [0.278290, 0.195668, 0.278301, 0.096965, 0.369240]


def test_sparsity_of_opexebo():
    occupancy = 1.0 + np.indices((26, 16)).sum(axis=0) % 5
    out = ratemaps.sparsity(np.maximum(oblong_maps(26, 16), 0), occupancy)
    np.testing.assert_allclose(out, GOLDEN_SPARSITY, atol=2e-6)


def wall_maps(num_x, num_y):
    """A field along a wall, one along a part of a wall, one in a corner with another, and none."""
    x, y = np.moveaxis(centres((num_x, num_y), 1 / 16), -1, 0)
    wide, high = num_x / 16, num_y / 16
    part = np.exp(-(((high - y) / 0.15) ** 2)) / (1 + np.exp((x - 0.6) / 0.05))
    middle = 0.8 * np.exp(-((x - wide / 2) ** 2 + (y - high / 2) ** 2) / 0.02)
    corner = np.exp(-((x - wide) ** 2 + y**2) / 0.08)
    return np.stack([np.exp(-((x / 0.2) ** 2)), part, corner + middle, middle]).astype(np.float32)


# Score and coverage by opexebo 0.7.2: analysis.border_score(m, fields_map, fields, "rect") of
# wall_maps, with the fields of scipy.ndimage.label(m > 0.3 * m.max()) above 0.02 m^2 in float64.
GOLDEN_BORDER = {
    (26, 16): [(0.622184, 1.0), (0.327894, 0.384615), (-0.244801, 0.3125), (-1.0, 0.0)],
    (16, 26): [(0.60949, 1.0), (0.525002, 0.625), (-0.244801, 0.3125), (-1.0, 0.0)],
}


@pytest.mark.parametrize("shape", list(GOLDEN_BORDER))
def test_border_scores_of_opexebo_on_oblong_maps(shape):
    out = jit(ratemaps.border_scores, bin_width_m=1 / 16)(wall_maps(*shape))
    golden = np.array(GOLDEN_BORDER[shape])
    np.testing.assert_allclose(out.score, golden[:, 0], atol=2e-6)
    np.testing.assert_allclose(out.coverage, golden[:, 1], atol=1e-6)


# --- The score that holds on recordings ---


def reference_score(rate_map):
    """The definition in float64 NumPy and SciPy on the Cartesian autocorrelogram, by rotation."""
    visited = np.isfinite(rate_map)
    f = np.where(visited, rate_map, 0).astype(np.float64)
    sums = partial(scipy.signal.fftconvolve)
    f = np.where(visited, f - f[visited].mean(), 0)
    flip, mask = (slice(None, None, -1),) * 2, visited.astype(float)
    n = np.rint(sums(mask, mask[flip]))
    known, n = n >= 20, np.maximum(n, 1)
    mean, square = sums(f, mask[flip]) / n, sums(f**2, mask[flip]) / n
    scale = np.sqrt(np.maximum((square - mean**2) * (square - mean**2)[flip], 1e-20))
    sac = np.where(known, (sums(f, f[flip]) / n - mean * mean[flip]) / scale, np.nan)
    side = max(sac.shape)
    pad = [((side - s) // 2,) * 2 for s in sac.shape]
    sac = np.pad(sac, pad, constant_values=np.nan)
    r = np.arange(0, min(rate_map.shape) - 1, 0.1)
    rays = np.stack([f(np.radians(np.arange(0, 360, 2)))[:, None] * r for f in (np.cos, np.sin)])
    along = scipy.ndimage.map_coordinates(np.nan_to_num(sac), rays + side // 2, order=1)
    low = along < 0.2
    ends = np.where(low.any(axis=1), r[np.argmax(low, axis=1)], r[-1])
    radius = np.sqrt(np.mean(ends**2))
    turn = partial(scipy.ndimage.rotate, reshape=False, order=1)
    turned = {}
    for angle in (30, 60, 90, 120, 150):
        weight = turn(np.isfinite(sac).astype(float), angle)
        value = turn(np.nan_to_num(sac), angle)
        turned[angle] = np.where(weight > 0.99, value / np.maximum(weight, 0.9), np.nan)
    distance = np.hypot(*(np.indices(sac.shape) - side // 2))
    scores = []
    for outer in np.arange(np.ceil(1.5 * radius), 1 + min(6 * radius, min(rate_map.shape) - 1)):
        ring = (distance >= radius) & (distance <= outer)
        c = {}
        for angle, other in turned.items():
            both = ring & np.isfinite(sac) & np.isfinite(other)
            c[angle] = np.corrcoef(sac[both], other[both])[0, 1]
        scores.append(min(c[60], c[120]) - max(c[30], c[90], c[150]))
    return max(scores)


def noisy_maps():
    """Grid cells of several kinds, and noise, with a corner that was never visited."""
    rng = np.random.default_rng(3)
    settings = [(0.35, 0.1, 1.0), (0.5, 0.6, 1.0), (0.6, 0.3, 1.2), (0.45, 0.9, 1.1)]
    rates = [grid_rates(centres(), spacing=s, orientation=o, aspect=a) for s, o, a in settings]
    blur = partial(scipy.ndimage.gaussian_filter, sigma=2.5)
    maps = np.stack([*rates, *(40 * blur(rng.normal(size=SHAPE)) for _ in range(4))])
    maps += [blur(rng.normal(size=SHAPE)) * 8 for _ in maps]
    maps[:, :9, :7] = np.nan
    return maps.astype(np.float32)


def test_recording_autocorrelograms_equal_their_definition():
    maps = noisy_maps()[:2, :17, :13]
    n = np.stack([np.isfinite(m) for m in maps])
    out = recording_autocorrelograms(maps)
    for m, visited, ours in zip(maps, n, out, strict=True):
        # The reference is of square maps: unvisited bins fill the map up.
        filled = np.full((17, 17), np.nan)
        filled[:, :13] = m
        expected = direct_autocorrelogram(filled, np.isfinite(filled))[:, 4:-4]
        count = scipy.signal.correlate2d(visited.astype(int), visited.astype(int))
        np.testing.assert_array_equal(np.isnan(ours), count < 20)
        known = count >= 20
        np.testing.assert_allclose(np.asarray(ours)[known], expected[known], atol=1e-4)


def test_recording_scores_equal_rotation_in_float64():
    maps = noisy_maps()
    expected = [reference_score(m) for m in maps]
    assert max(expected) > 1
    assert min(expected) < 0.1
    np.testing.assert_allclose(recording_scores(maps).score, expected, atol=0.06)


def test_recording_scores_do_not_depend_on_the_frame():
    maps = noisy_maps()
    scores = recording_scores(maps).score
    for change in (
        lambda m: m[:, ::-1],
        lambda m: m[:, :, ::-1],
        lambda m: 0.01 * m + 7,
        lambda m: np.pad(m, ((0, 0), (0, 0), (7, 7)), constant_values=np.nan)[:, :, 7:-7],
    ):
        np.testing.assert_allclose(recording_scores(change(maps)).score, scores, atol=2e-3)
    turned = jit(ratemaps.recording_grid_scores)(np.rot90(maps, axes=(1, 2)))
    np.testing.assert_allclose(turned.score, scores, atol=2e-3)


def test_units_that_share_their_gaps_score_as_units_that_do_not():
    maps = noisy_maps()
    scores = recording_scores(maps).score
    maps[-1, 20, 10] = np.nan
    np.testing.assert_allclose(recording_scores(maps).score[:-1], scores[:-1], atol=1e-4)
    assert np.isfinite(scores).all()


def test_the_half_plane_is_the_middle_of_the_whole_autocorrelogram():
    maps = noisy_maps()[:2, :17, :13]
    half = jit(recording_half_plane, reach=(9, 7), min_overlap=20)(maps)
    whole = recording_autocorrelograms(maps)
    np.testing.assert_allclose(half, whole[:, 16 - 9 : 16 + 10, 12 : 12 + 8], atol=2e-5)
    assert np.isnan(whole[:, 0, 0]).all()
    assert np.isfinite(half).sum() > 250


def test_bins_that_are_not_of_the_arena_change_nothing():
    maps = noisy_maps()
    filled = np.pad(maps, ((0, 0), (0, 4), (0, 2)), constant_values=np.nan)
    for of in (
        lambda m: jit(ratemaps.recording_grid_scores)(m).score,
        lambda m: jit(ratemaps.border_scores, bin_width_m=BIN_M)(np.maximum(m, 0)).score,
    ):
        np.testing.assert_allclose(of(filled), of(maps), atol=2e-4)
    rng = np.random.default_rng(0)
    spikes, time = rng.poisson(1.0, (2, 9, 6)).astype(np.float32), rng.random((9, 6)) + 0.1
    more = np.pad(spikes, ((0, 0), (0, 3), (2, 0)))
    time_s = np.pad(time, ((0, 3), (2, 0)), constant_values=np.nan)
    rates = ratemaps.firing_rate_maps(more, time_s)
    np.testing.assert_allclose(rates[:, :9, 2:], ratemaps.firing_rate_maps(spikes, time), rtol=1e-5)
    assert np.isnan(rates).sum() == 2 * (12 * 8 - 9 * 6)


def test_a_silent_unit_and_a_flat_one_have_no_score():
    maps = np.stack([np.zeros(SHAPE), np.full(SHAPE, np.nan), np.full(SHAPE, 3.0)])
    maps = np.concatenate([noisy_maps()[:5], maps]).astype(np.float32)
    assert np.isnan(recording_scores(maps).score[5:]).all()
    assert np.isnan(lattice(maps).spacing[5:]).all()


def test_lattice_of_round_and_stretched_grids():
    settings = [(0.35, 0.1, 1.0), (0.45, 0.4, 1.25), (0.55, 0.9, 1.0), (0.5, 0.2, 1.15)]
    maps = [grid_rates(centres(), spacing=s, orientation=o, aspect=a) for s, o, a in settings]
    maps = np.stack([*maps, *maps]).astype(np.float32)
    maps[:, :9, :7] = np.nan
    out = lattice(maps)
    spacing, orientation, aspect = np.array(settings).T
    round_ = aspect == 1
    np.testing.assert_allclose(out.spacing[:4][round_], spacing[round_], rtol=0.02)
    np.testing.assert_allclose(out.orientation[:4][round_], orientation[round_], atol=0.03)
    np.testing.assert_allclose(out.aspect[:4], aspect, atol=0.06)
    stretched = out.direction[:4][~round_]
    assert np.all(np.abs((stretched + np.pi / 2) % np.pi - np.pi / 2) < 0.15)  # along x
    plain = recording_scores(maps).score[:4]
    mended = jit(ratemaps.recording_grid_scores, correct_ellipse=True)(maps).score[:4]
    assert np.all(mended[~round_] > plain[~round_] + 0.05)
    np.testing.assert_allclose(mended[round_], plain[round_], atol=0.1)


def poisson_samples(rates, dt_s, seed):
    """Spikes of rates [unit, sample] (Hz), NaN where the position is: samples [unit, spike]."""
    rng = np.random.default_rng(seed)
    return ratemaps.samples_of_counts(rng.poisson(np.nan_to_num(rates) * dt_s).T)


def recover(positions, dt_s, extent):
    """Scores and relative errors of spacing of simulated grid cells on a path."""
    settings = [(0.35, 0.1), (0.42, 0.5), (0.5, 0.8), (0.55, 0.3), (0.45, 0.95), (0.4, 0.7)]
    rates = [grid_rates(positions, spacing=s, orientation=o, phase=(o, s)) for s, o in settings]
    samples = poisson_samples(np.stack(rates), dt_s, seed=5)
    maps = maps_of(positions, samples, dt_s, extent=extent, min_visit_s=dt_s)
    maps = np.concatenate([maps, maps])[:8]
    error = lattice(maps).spacing[:6] / np.array(settings)[:, 0] - 1
    return recording_scores(maps).score[:6], error


def test_simulated_grid_cells_on_a_simulated_walk():
    scores, error = recover(walk(60_000, EXTENT), 0.02, EXTENT)
    assert np.all(scores > 0.9)
    assert np.all(np.abs(error) < 0.03)


def recording(name):
    cell = np.load(CELLS / f"{name}.npz")
    return cell["t"], cell["pos"].astype(np.float64), cell["spike_times"]


@recorded
def test_simulated_grid_cells_on_a_rats_path():
    # Path: Krupic et al. 2018 (Science 359:1143), published with Rule et al. 2023.
    _, positions, _ = recording("r2405_191216c_cell1990")
    low, high = np.nanmin(positions, axis=0), np.nanmax(positions, axis=0)
    middle = (low + high) / 2 - np.array([0.88, 0.6])
    # 1.82 m x 1.1 m: the outermost 3 cm of the long sides are left out.
    scores, error = recover(positions - middle, 0.02, EXTENT)
    assert np.all(scores > 0.9)
    assert np.all(np.abs(error) < 0.03)


# What an independent scorer found in these cells, over smoothing 3 to 6 cm and bins 3 to 5 cm:
# lowest and highest gridness, and spacing (m). float64 NumPy/SciPy; the autocorrelogram over
# visited bins with at least 20 common ones, growing annuli, min(60, 120) - max(30, 90, 150).
# Cells: Krupic et al. 2018 (Science 359:1143), published with Rule et al. 2023.
ELEVEN = {
    "r2288_180515b_tet2_cell2_GC": (0.64, 0.76, 0.71),
    "r2298_290615c_tet6_cell6_GC": (-0.39, -0.17, 0.61),
    "r2375_070416a_tet1_cell1_GC": (1.12, 1.25, 0.51),
    "r2375_210416a_tet3_cell3_GC": (0.64, 0.75, 0.58),
    "r2383_160516b_tet4_cell4_GC": (0.77, 0.91, 0.94),
    "r2405_011216a_cell2955": (0.96, 1.11, 0.49),
    "r2405_051216b_cell1816": (1.04, 1.19, 0.49),
    "r2405_121216b_cell1880": (0.14, 0.44, 0.49),
    "r2405_191216c_cell1640": (0.34, 0.49, 0.52),
    "r2405_191216c_cell1962": (0.33, 0.72, 0.46),
    "r2405_191216c_cell1990": (1.03, 1.19, 0.50),
}


@recorded
def test_eleven_recorded_cells_score_as_by_an_independent_scorer():
    shape, maps = (84, 50), []  # of the largest arena, in bins of 3 cm
    for name in ELEVEN:
        times, positions, spikes = recording(name)
        low, high = np.nanmin(positions, axis=0), np.nanmax(positions, axis=0)
        bins, extent = ratemaps.bins_of(tuple(zip(low, high, strict=True)), 0.03)
        extent = tuple((a, a + 0.03 * n) for (a, _), n in zip(extent, shape, strict=True))
        samples = ratemaps.spike_samples(times, [spikes])
        rates = np.array(maps_of(positions, samples, shape=shape, extent=extent)[0])
        rates[bins[0] :] = rates[:, bins[1] :] = np.nan
        maps.append(rates)
    out = jit(ratemaps.recording_grid_scores)(np.stack(maps))
    spacing = jit(ratemaps.recording_lattice, bin_width_m=0.03)(np.stack(maps)).spacing
    low, high, expected = np.array(list(ELEVEN.values())).T
    # The table is rounded to two digits.
    assert np.all((out.score > low - 0.005) & (out.score < high + 0.005)), out.score
    # The table's spacing is rounded by 1 %, and noise moves the peaks of the weaker grids.
    error = np.abs(spacing / expected - 1)
    assert np.median(error) < 0.025
    assert np.all(error[out.score > 0.68] < 0.035)


# --- Significance ---


def test_a_shuffle_is_a_circular_shift():
    samples = np.array([[0, 3, 9, 10], [4, 10, 10, 10]], np.int32)
    shifts = np.array([[2, 5, 7], [1, 6, 9]])
    bins = np.arange(10)
    out = ratemaps.shuffled_scores(
        lambda s: {"counts": ratemaps.spikes_by_bin(s, bins, 10)},
        samples,
        shifts,
        num_samples=10,
        block=4,
    )["counts"]
    counts = np.array([[1, 0, 0, 1, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 1, 0, 0, 0, 0, 0]])
    expected = [[np.roll(c, k) for k in row] for c, row in zip(counts, shifts, strict=True)]
    np.testing.assert_array_equal(out, expected)
    shifts = ratemaps.random_shifts(
        jax.random.key(0), num_units=3, num_shuffles=500, num_samples=100, min_shift=20
    )
    assert (shifts.min(), shifts.max()) == (20, 80)
    with pytest.raises(ValueError, match="min_shift must be at most half the recording"):
        ratemaps.random_shifts(
            jax.random.key(0), num_units=1, num_shuffles=1, num_samples=30, min_shift=20
        )


def test_p_values_and_percentiles_by_hand():
    null = np.stack([np.arange(99.0), np.where(np.arange(99) < 10, np.nan, 1.0)])
    out = ratemaps.significance(np.array([95.0, np.nan]), null)
    np.testing.assert_allclose(out.p, [0.05, np.nan])  # 95, 96, 97, 98: (4 + 1) / 100
    np.testing.assert_allclose(out.percentile_95, [np.percentile(null[0], 95), 1], rtol=1e-6)
    np.testing.assert_allclose(out.percentile_99[0], np.percentile(null[0], 99), rtol=1e-6)
    pooled = ratemaps.population_threshold(null, percentile=90)
    expected = np.percentile(np.nan_to_num(null, nan=-1e9), 90)
    np.testing.assert_allclose(pooled, expected, rtol=1e-6)


@pytest.mark.optimized
def test_one_in_twenty_cells_without_spatial_tuning_is_significant():
    """320 bursting cells that know nothing of space; 39 shuffles, so that p <= .05 is exact."""
    extent, shape, num = ((0.0, 1.0), (0.0, 0.75)), (20, 15), 320
    positions = walk(30_000, extent, seed=8)
    rng = np.random.default_rng(9)
    drive = scipy.ndimage.gaussian_filter1d(rng.normal(size=(num, 30_000)), 25, mode="wrap")
    samples = poisson_samples(np.exp(1.5 * drive / drive.std()), 0.02, seed=10)
    bins = ratemaps.position_bins(jnp.asarray(positions), num_bins=shape, extent=extent)
    time = ratemaps.occupancy(bins, 0.02, num_bins=shape)

    def statistic(trains):
        spikes = ratemaps.spike_maps(trains, bins, num_bins=shape)
        maps = ratemaps.firing_rate_maps(spikes, time)
        information = ratemaps.spatial_information(maps, time).bits_per_spike
        return ratemaps.recording_grid_scores(maps).score, information

    shifts = ratemaps.random_shifts(
        jax.random.key(1), num_units=num, num_shuffles=39, num_samples=30_000, min_shift=1000
    )
    null = jit(ratemaps.shuffled_scores, statistic=statistic, num_samples=30_000)(
        samples=samples, shifts=shifts
    )
    for scores, shuffled in zip(jit(statistic)(samples), null, strict=True):
        p = np.asarray(ratemaps.significance(scores, shuffled).p)
        positives = int(np.sum(p <= 0.05 + 1e-6))
        assert scipy.stats.binomtest(positives, num, 0.05).pvalue > 0.01, positives


# --- Other statistics ---


def test_coherence_and_correlations_of_maps():
    maps = noisy_maps()[3:5]
    filled = np.pad(maps, ((0, 0), (1, 1), (1, 1)), constant_values=np.nan)
    around = [
        filled[:, 1 + i : 45 + i, 1 + j : 31 + j]
        for i in (-1, 0, 1)
        for j in (-1, 0, 1)
        if (i, j) != (0, 0)
    ]
    mean = np.nansum(around, axis=0) / np.maximum(np.isfinite(around).sum(axis=0), 1)
    for f, near, ours in zip(maps, mean, jit(ratemaps.coherence)(maps), strict=True):
        both = np.isfinite(f)
        np.testing.assert_allclose(ours, np.corrcoef(f[both], near[both])[0, 1], atol=1e-5)
    # By hand: rates 0, 1, 5 in a row, whose neighbours have 1, 2.5, 1; in a square of four the mean
    # of the others falls by a third of what the rate rises.
    row = ratemaps.coherence(np.array([[[0.0], [1.0], [5.0], [np.nan]]]))
    np.testing.assert_allclose(row, -1.5 / np.sqrt(14 * 1.5), rtol=1e-5)
    square = ratemaps.coherence(np.array([[[1.0, 2.0], [3.0, 6.0]]]))
    np.testing.assert_allclose(square, -1, rtol=1e-5)
    flat = ratemaps.map_correlations(np.full((1, 4, 4), 0.1), np.arange(16.0).reshape(1, 4, 4))
    assert np.isnan(flat[0])


def test_stability_of_a_cell_that_stays_and_of_one_that_moves():
    positions = walk(60_000, EXTENT, seed=4)
    times = np.arange(60_000) * 0.02
    first = np.asarray(ratemaps.first_half(times))
    assert first.sum() == 30_000
    assert first[0]
    odd = np.asarray(ratemaps.odd_minutes(times))
    np.testing.assert_array_equal(odd[[0, 2999, 3000, 5999, 6000]], [1, 1, 0, 0, 1])
    since_1970 = 1.7e9 + times  # float32 knows these to two minutes
    np.testing.assert_array_equal(ratemaps.first_half(since_1970)[:-2], first[:-2])
    np.testing.assert_array_equal(ratemaps.odd_minutes(since_1970 + 0.001), odd)
    stays = grid_rates(positions, spacing=0.5, orientation=0.2)
    moved = grid_rates(positions, spacing=0.5, orientation=0.2, phase=(0.25, 0.0))
    samples = poisson_samples(np.stack([stays, np.where(first, stays, moved)]), 0.02, seed=6)
    bins = ratemaps.position_bins(jnp.asarray(positions), num_bins=SHAPE, extent=EXTENT)
    halves, minutes = (
        ratemaps.stability(samples, bins, part, 0.02, num_bins=SHAPE) for part in (first, odd)
    )
    assert halves[0] > 0.6
    assert halves[1] < 0.2
    assert minutes[0] > 0.6
    assert minutes[1] > halves[1] + 0.2


def test_firing_fields_by_hand():
    rate = np.zeros((12, 9))
    rate[1:4, 1:4] = 3
    rate[2, 2] = 10
    rate[6:11, 4:6] = 4
    rate[8, 5] = 6
    rate[0, 8] = 9  # too small
    rate[11, 8] = np.nan
    fields = jit(ratemaps.firing_fields, bin_width_m=0.1, min_area_m2=0.02, max_fields=3)
    out = fields(np.stack([rate, np.zeros((12, 9))]))
    np.testing.assert_array_equal(out.number, [2, 0])
    np.testing.assert_allclose(out.area_m2[0], [0.09, 0.10, np.nan], rtol=1e-6)
    np.testing.assert_allclose(out.peak_hz[0], [10, 6, np.nan])
    np.testing.assert_allclose(out.peak_bin[0], [[2, 2], [8, 5], [np.nan, np.nan]])
    assert out.labels[0, 2, 2] == 1
    assert out.labels[0, 8, 4] == 2
    assert out.labels[0, 0, 8] == 0


def test_rayleigh_p_values_of_uniform_directions_are_uniform():
    rng = np.random.default_rng(11)
    counts = rng.multinomial(80, np.full(60, 1 / 60), size=2000)
    out = ratemaps.rayleigh_test(counts)
    assert scipy.stats.kstest(np.asarray(out.p), "uniform").pvalue > 0.01
    tuned = rng.multinomial(80, scipy.special.softmax(np.cos(np.arange(60) / 60 * 2 * np.pi)))
    assert ratemaps.rayleigh_test(tuned[None]).p[0] < 1e-6
    # Zar's Example 27.1: n = 8, r = .82522, z = 5.448, .001 < P < .002
    angles = np.radians([45, 55, 81, 96, 110, 117, 132, 154])
    bins = ratemaps.direction_bins(angles, num_bins=3600)
    out = ratemaps.rayleigh_test(np.bincount(bins, minlength=3600)[None])
    np.testing.assert_allclose(out.z, 5.448, atol=0.005)
    assert 0.001 < out.p[0] < 0.002


def test_speed_score_is_a_correlation_over_time():
    rng = np.random.default_rng(12)
    speeds = np.abs(scipy.ndimage.gaussian_filter1d(rng.normal(size=20_000), 40)) * 2
    speeds[500:900] = np.nan
    rates = np.stack([3 + 40 * np.nan_to_num(speeds), np.full(20_000, 5.0)])
    counts = rng.poisson(rates * 0.02).T
    samples = ratemaps.samples_of_counts(counts)
    out = jit(ratemaps.speed_scores, dt_s=0.02)(samples, speeds.astype(np.float32))
    smooth = scipy.ndimage.gaussian_filter1d(
        counts.astype(float), 12.5, axis=0, mode="constant", truncate=4
    )
    kept = speeds >= 0.02
    expected = [np.corrcoef(smooth[kept, k], speeds[kept])[0, 1] for k in (0, 1)]
    assert expected[0] > 0.5 > abs(expected[1])
    np.testing.assert_allclose(out, expected, atol=2e-3)


def test_theta_modulation_of_spike_trains():
    rng = np.random.default_rng(13)
    grid = np.arange(0, 600, 0.001)
    rhythm = 10 * (1 + 0.9 * np.cos(2 * np.pi * 8 * grid))
    trains = [grid[rng.random(len(grid)) < r * 0.001] for r in (rhythm, 0 * grid + 10)]
    few = trains[0][:300]
    lag = (few[None] - few[:, None])[np.triu_indices(300, 1)]
    expected = np.histogram(lag + 1e-9, bins=np.arange(101) * 0.005)[0]
    np.testing.assert_array_equal(ratemaps.spike_autocorrelogram(few[::-1]), expected)
    counts = np.stack([ratemaps.spike_autocorrelogram(train) for train in trains])
    out = ratemaps.theta_modulation(np.concatenate([counts, 0 * counts[:1]]))
    # Means of 1 + .405 cos(2 pi 8 lag) over 50 to 70 and 100 to 140 ms.
    a, b = (
        1 + 0.405 * np.mean(np.cos(2 * np.pi * 8 * np.linspace(*ends, 1001)))
        for ends in ((0.05, 0.07), (0.1, 0.14))
    )
    np.testing.assert_allclose(out.contrast, [(b - a) / (b + a), 0, np.nan], atol=0.03)
    assert out.strength[0] > 5
    assert not out.strength[1] > 5
    assert np.isnan(out.strength[2])
    np.testing.assert_allclose(out.frequency_hz[0], 8, atol=0.5)
    with pytest.raises(ValueError, match="must reach lags"):
        ratemaps.theta_modulation(np.ones((1, 10)))
