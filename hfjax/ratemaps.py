"""Rate maps of many units at once, and the scores that the field reads from them.

A rate map is an array [x, y], a population's maps are [unit, x, y]; a bin that was never visited is
NaN. All functions are pure, work on every unit in one program, and leave `jax.jit` to the caller.
Those with large intermediate results walk over blocks of units, so that 4096 maps of 32 x 32 bins
need little memory beyond the maps themselves.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hfjax import check

Extent = tuple[tuple[float, float], tuple[float, float]]

RING_INNER = 0.2
RING_OUTER = tuple(float(r) for r in np.linspace(0.4, 1.0, 10))
GRID_SCORE_THRESHOLDS = (0.3, 0.37, 0.8)  # above which the field has counted grid cells
BLOCK = 64  # units per block: a row of 64 numbers keeps gathers and vector units busy

# ---------------------------------------------------------------------------------------------
# Rate maps
# ---------------------------------------------------------------------------------------------


class RateMapSums(NamedTuple):
    """What a rate map is made of: samples per bin [x, y] and summed activity [x, y, unit]."""

    occupancy: jax.Array
    activity: jax.Array


def rate_map_sums(*, num_units: int, num_bins: int, dtype: Any = jnp.float32) -> RateMapSums:
    """Empty sums, to be filled by `add_samples` and read by `mean_maps`.

    -> occupancy [x, y], activity [x, y, unit], both zero.
    Raises ValueError if num_units or num_bins is below 1.
    """
    check.at_least(1, num_units=num_units, num_bins=num_bins)
    return RateMapSums(
        jnp.zeros((num_bins, num_bins), dtype),
        jnp.zeros((num_bins, num_bins, num_units), dtype),
    )


def add_samples(
    sums: RateMapSums, positions: jax.Array, activity: jax.Array, *, extent: Extent
) -> RateMapSums:
    """Adds samples to the sums of a rate map; made for use inside a scan over a long walk.

    positions [sample, 2] (in the units of extent), activity [sample, unit].
    extent ((x_min, x_max), (y_min, y_max)): a bin holds its lower edge, the last bin both its edges
    (as `numpy.histogram2d`). Samples outside, or at a NaN position, are left out.

    Samples are added by rows (`segment_sum`); on a CPU this is 10 to 30 times as quick as a product
    with a one-hot matrix, and a NaN in the activity spoils only its own bin.
    """
    chex.assert_rank([positions, activity], 2)
    num_bins, num_units = sums.occupancy.shape[0], sums.activity.shape[-1]
    chex.assert_shape(positions, (activity.shape[0], 2))
    chex.assert_shape(activity, (None, num_units))
    bins = _bin_index(positions, num_bins, extent)
    size = num_bins**2 + 1  # one more for the samples outside
    ones = jnp.ones(positions.shape[:1], sums.occupancy.dtype)
    occupancy = jax.ops.segment_sum(ones, bins, size)[:-1]
    total = jax.ops.segment_sum(activity.astype(sums.activity.dtype), bins, size)[:-1]
    return RateMapSums(
        sums.occupancy + occupancy.reshape(sums.occupancy.shape),
        sums.activity + total.reshape(sums.activity.shape),
    )


def mean_maps(sums: RateMapSums) -> jax.Array:
    """Mean activity in each bin, from sums -> [unit, x, y]; NaN in bins that were never visited."""
    occupancy = sums.occupancy[..., None]
    mean = sums.activity / jnp.maximum(occupancy, 1)
    return jnp.moveaxis(jnp.where(occupancy > 0, mean, jnp.nan), -1, 0)


def rate_maps(
    positions: jax.Array, activity: jax.Array, *, num_bins: int, extent: Extent
) -> jax.Array:
    """Mean activity of each unit in each bin of the arena.

    positions [sample, 2] and activity [sample, unit], NumPy or JAX arrays -> maps [unit, x, y] with
    num_bins bins along each axis of extent ((x_min, x_max), (y_min, y_max)); NaN in bins that were
    never visited. Samples outside the extent are left out.

    Raises ValueError if num_bins is below 1 or the extent is empty.
    Source: GridScorer.calculate_ratemap (DeepMind), of which it is the mean statistic; the loop of
    Sorscher et al.'s compute_ratemaps puts 0 where this function puts NaN.
    """
    positions, activity = jnp.asarray(positions), jnp.asarray(activity)
    chex.assert_rank([positions, activity], 2)
    sums = rate_map_sums(
        num_units=activity.shape[1],
        num_bins=num_bins,
        dtype=jnp.promote_types(activity.dtype, jnp.float32),
    )
    return mean_maps(add_samples(sums, positions, activity, extent=extent))


def _bin_index(positions: jax.Array, num_bins: int, extent: Extent) -> jax.Array:
    """Flat bin number [sample] of positions [sample, 2]; num_bins**2 for a position outside."""
    index, inside = [], []
    for axis, (low, high) in enumerate(extent):
        if not high > low:
            raise ValueError(f"extent must rise along each axis, but is {extent}")
        x = positions[:, axis]
        i = jnp.floor((x - low) * (num_bins / (high - low)))
        index.append(jnp.clip(i, 0, num_bins - 1).astype(jnp.int32))
        inside.append((x >= low) & (x <= high))
    return jnp.where(inside[0] & inside[1], index[0] * num_bins + index[1], num_bins**2)


def smooth(maps: jax.Array, sigma_bins: float) -> jax.Array:
    """Gaussian smoothing that neither spreads nor fills unvisited bins.

    out(x) = sum_v g(x - v) f(v) / sum_v g(x - v) over the visited bins v, with g a Gaussian of
    standard deviation sigma_bins. Space beyond the walls is unvisited too; NaN bins stay NaN.

    maps [unit, x, y] -> [unit, x, y]. Raises ValueError if sigma_bins is not above 0.
    """
    chex.assert_rank(maps, 3)
    check.positive(sigma_bins=sigma_bins)
    maps = _floating(maps)
    kernels = []
    for size in maps.shape[1:]:
        i = np.arange(size)
        kernels.append(
            jnp.asarray(np.exp(-((i[:, None] - i) ** 2) / (2 * sigma_bins**2)), maps.dtype)
        )
    visited = jnp.isfinite(maps)
    total = _both_axes(kernels[0], jnp.where(visited, maps, 0), kernels[1])
    weight = _both_axes(kernels[0], visited.astype(maps.dtype), kernels[1])
    return jnp.where(visited, total / jnp.where(visited, weight, 1), jnp.nan)


def low_pass_noise_maps(
    key: jax.Array, *, num_units: int, num_bins: int, sigma_bins: float = 2.0
) -> jax.Array:
    """Maps without structure but smoothness: white Gaussian noise under a Gaussian low-pass filter.

    The control for every count of grid cells: such maps have grid scores well above 0 by chance.
    The noise is drawn on a larger field and cut, so that edges do not differ from the middle; each
    bin has mean 0 and variance 1.

    -> [num_units, num_bins, num_bins]. Raises ValueError if a size is below 1 or sigma_bins is not
    above 0.
    """
    check.at_least(1, num_units=num_units, num_bins=num_bins)
    check.positive(sigma_bins=sigma_bins)
    pad = int(np.ceil(4 * sigma_bins))
    field = num_bins + 2 * pad
    noise = jax.random.normal(key, (num_units, field, field))
    offset = np.arange(field) - np.arange(num_bins)[:, None] - pad
    kernel = np.exp(-(offset**2) / (2 * sigma_bins**2))
    kernel /= np.sqrt(np.sum(kernel**2, axis=1, keepdims=True))
    k = jnp.asarray(kernel, noise.dtype)
    return _both_axes(k, noise, k)


# ---------------------------------------------------------------------------------------------
# Autocorrelogram
# ---------------------------------------------------------------------------------------------


def autocorrelograms(maps: jax.Array) -> jax.Array:
    """Spatial autocorrelogram: Pearson's correlation of a map with itself at every shift.

    r(d) = [<f(x) f(x+d)> - <f(x)> <f(x+d)>] / [std f(x) std f(x+d)], averages over the bins x at
    which both f(x) and f(x+d) lie in the map. Unvisited (NaN) bins count as 0, as in the scorers of
    DeepMind, Ganguli's group and opexebo; `masked_autocorrelograms` leaves them out instead.

    maps [unit, x, y] -> [unit, 2x-1, 2y-1], shift 0 in the middle, r(-d) = r(d). Where an
    overlap has no variance beyond rounding r is 0 (the originals have 0 or rounding noise there).
    """
    chex.assert_rank(maps, 3)
    return _over_blocks(_autocorrelograms, _floating(maps))


def masked_autocorrelograms(maps: jax.Array) -> jax.Array:
    """As `autocorrelograms`, with averages over the pairs of bins that were both visited.

    maps [unit, x, y], NaN where unvisited -> [unit, 2x-1, 2y-1]. Eight times the work.
    Source: Hafting et al. 2005, methods (the sum runs over visited bins).
    """
    chex.assert_rank(maps, 3)
    return _over_blocks(_masked_autocorrelograms, _floating(maps))


def _autocorrelograms(maps: jax.Array, faintest: float = 0.0) -> jax.Array:
    num_x, num_y = maps.shape[1:]
    f = _wide_range(jnp.nan_to_num(maps))
    # Row d of a window matrix marks the bins x for which x - d lies in the map too.
    windows = []
    for size in (num_x, num_y):
        shift = np.arange(1 - size, size)[:, None]
        x = np.arange(size)
        windows.append(jnp.asarray((x - shift >= 0) & (x - shift < size), f.dtype))
    count = jnp.sum(windows[0], 1)[:, None] * jnp.sum(windows[1], 1)[None, :]
    count = jnp.broadcast_to(count[None], (f.shape[0], *count.shape))
    total = _both_axes(windows[0], f, windows[1])
    square = _both_axes(windows[0], f**2, windows[1])
    return _autocorrelation(_correlate(f, f), count, total, square, faintest)


def _masked_autocorrelograms(maps: jax.Array) -> jax.Array:
    visited = jnp.isfinite(maps)
    mean = jnp.mean(maps, axis=(1, 2), keepdims=True, where=visited)
    mask = visited.astype(maps.dtype)
    f = _wide_range(jnp.where(visited, maps, jnp.nan_to_num(mean))) * mask
    left = jnp.concatenate([f, mask, mask, mask])
    right = jnp.concatenate([f, mask, f, f**2])
    product, count, total, square = jnp.split(_correlate(left, right), 4)
    return _autocorrelation(product, jnp.round(count), total, square)


def _autocorrelation(
    product: jax.Array,
    count: jax.Array,
    total: jax.Array,
    square: jax.Array,
    faintest: float = 0.0,
) -> jax.Array:
    """Correlation at each shift d [unit, d_x, d_y] from sums over the pairs [f(x), f(x+d)].

    product: of f(x) f(x+d); total and square: of f(x+d) and its square (those of f(x) are the same
    at -d). 0 where there is no variance, or where n std std' is no more than `faintest` times its
    largest value.
    """
    n = jnp.maximum(count, 1)
    mean = total / n
    mean_square = square / n
    variance = mean_square - mean**2
    # Below this a variance is the rounding of mean_square.
    valid = (count > 0) & (variance > 8 * jnp.finfo(product.dtype).eps * mean_square)
    std = jnp.sqrt(jnp.where(valid, variance, 1))
    opposite = (slice(None), slice(None, None, -1), slice(None, None, -1))
    valid &= valid[opposite]
    scale = std * std[opposite]
    power = jnp.where(valid, n * scale, 0)
    valid &= power > faintest * jnp.max(power, axis=(1, 2), keepdims=True)
    covariance = product / n - mean * mean[opposite]
    return jnp.where(valid, covariance / scale, 0)


def _correlate(a: jax.Array, b: jax.Array) -> jax.Array:
    """Sum_x a(x) b(x+d) at every shift d: [block, x, y] twice -> [block, 2x-1, 2y-1]."""
    forward = _correlate_forward(a, b)
    backward = forward if a is b else _correlate_forward(b, a)
    return jnp.concatenate([backward[:, ::-1, :0:-1], forward], axis=2)


def _correlate_forward(a: jax.Array, b: jax.Array) -> jax.Array:
    """The half of `_correlate` in which d_y >= 0: -> [block, 2x-1, y].

    One matrix product over y for each pair of rows, then sums along the diagonals of the row pairs.
    A Fourier transform is no quicker at this size, and its rounding is relative to the whole map's
    power: shifts at which only the faint flanks of a place field overlap would drown in it.
    """
    num_units, num_x, num_y = a.shape
    padded = jnp.pad(b, ((0, 0), (0, 0), (0, num_y - 1)))
    shifted = padded[:, :, np.arange(num_y)[:, None] + np.arange(num_y)]  # [unit, z, d_y, y]
    pairs = jnp.einsum("uxy,uzdy->uxzd", a, shifted, precision=lax.Precision.HIGHEST)
    # Rows of length 2x read as rows of length 2x - 1 slide by one bin per row: row x then has the
    # pair (x, z) at z - x, so that the diagonals stand in columns.
    skew = jnp.pad(pairs[:, ::-1], ((0, 0), (0, 0), (0, num_x), (0, 0)))
    skew = skew.reshape(num_units, 2 * num_x**2, num_y)[:, :-num_x]
    return jnp.sum(skew.reshape(num_units, num_x, 2 * num_x - 1, num_y), axis=1)


# ---------------------------------------------------------------------------------------------
# Grid score: rings
# ---------------------------------------------------------------------------------------------


class GridScores(NamedTuple):
    """Best score of each unit [unit] and the number of the ring that gave it [unit]."""

    score_60: jax.Array
    score_90: jax.Array
    ring_60: jax.Array
    ring_90: jax.Array


def grid_scores(
    maps: jax.Array,
    *,
    ring_inner: float = RING_INNER,
    ring_outer: Sequence[float] = RING_OUTER,
    autocorrelogram: Callable[[jax.Array], jax.Array] = autocorrelograms,
) -> GridScores:
    """Grid scores by rings of the autocorrelogram: how hexagonal and how square a map is.

    With c(a) the correlation of a ring of the autocorrelogram with the same ring of the
    autocorrelogram turned by a degrees,

        score_60 = [c(60) + c(120)]/2 - [c(30) + c(90) + c(150)]/3,
        score_90 = c(90) - [c(45) + c(135)]/2,

    each the best of ten rings, from radius 0.2 to 0.4 ... 1.0 times the map's width. Turning is by
    cubic splines; what comes from outside the autocorrelogram is 0.

    maps [unit, x, y], square, NumPy or JAX, NaN where unvisited -> GridScores of [unit] arrays.
    ring_inner, ring_outer: radii as a fraction of the map's width.
    autocorrelogram: `autocorrelograms` (NaN counts as 0, as in the original) or
    `masked_autocorrelograms`.

    Raises ValueError if the maps are not square or a ring holds no bin.
    Source: GridScorer of Banino et al. 2018 and of Sorscher et al. 2019, with their ring masks and
    the rotation of scipy.ndimage.rotate(order=3, reshape=False). The variance of a ring is raised
    by 1e-5 as there, which keeps flat rings at 0 (and takes a little from faint ones).
    Equal to the original within 1e-4 in float32, with two exceptions: flanks below 1e-30 of a map's
    peak are 0 in float32, while the original in float64 still correlates them; and a map that is
    constant but not 0 scores 0, where the original correlates its own rounding.
    """
    maps = _floating(maps)
    chex.assert_rank(maps, 3)
    if maps.shape[1] != maps.shape[2]:
        raise ValueError(f"maps must be square, but have shape {maps.shape[1:]}")
    num_bins = maps.shape[1]
    size = 2 * num_bins - 1
    pixels, rings = _ring_masks(num_bins, ring_inner, ring_outer)
    angles = (30, 45, 60, 90, 120, 135, 150)
    taps, weights = _rotation_taps(pixels, size, angles, _cubic_weights)
    prefilter = jnp.asarray(_spline_prefilter(size), maps.dtype)
    weights_t = jnp.asarray(weights[..., None], maps.dtype)
    # [ring, pixel], rows sum to 1: an average over the ring.
    average = jnp.asarray(rings / rings.sum(axis=1, keepdims=True), maps.dtype)

    def score(block: jax.Array) -> GridScores:
        sac = autocorrelogram(block)
        # Units go to the last axis: a gathered tap is then one contiguous row.
        sac = jnp.moveaxis(sac, 0, -1)
        coefficients = jnp.einsum(
            "ix,xyu,jy->iju", prefilter, sac, prefilter, precision=lax.Precision.HIGHEST
        ).reshape(size**2, -1)
        straight = sac.reshape(size**2, -1)[pixels[:, 0] * size + pixels[:, 1]]
        turned = jnp.sum(coefficients[taps] * weights_t, axis=2)  # [angle, pixel, unit]
        mean = _matmul(average, straight)
        variance = _matmul(average, straight**2) - mean**2 + 1e-5
        product = _matmul(average, turned * straight[None]) - mean[None] * _matmul(average, turned)
        c = dict(zip(angles, product / variance[None], strict=True))
        score_60 = (c[60] + c[120]) / 2 - (c[30] + c[90] + c[150]) / 3
        score_90 = c[90] - (c[45] + c[135]) / 2
        return GridScores(
            jnp.max(score_60, axis=0),
            jnp.max(score_90, axis=0),
            jnp.argmax(score_60, axis=0),
            jnp.argmax(score_90, axis=0),
        )

    return _over_blocks(score, maps)


def _ring_masks(
    num_bins: int, inner: float, outer: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Bins of all rings, pixels [pixel, 2], and the rings' masks [ring, pixel], made on the host.

    An autocorrelogram and its turned copies are symmetric about the centre, so that half of each
    ring is enough.
    """
    lag = np.arange(1 - num_bins, num_bins)
    radius = np.hypot(lag[:, None], lag[None, :])
    half = (lag[:, None] > 0) | ((lag[:, None] == 0) & (lag[None, :] > 0))
    used = half & (radius > inner * num_bins) & (radius <= max(outer) * num_bins)
    pixels = np.argwhere(used)
    rings = np.stack([radius[used] <= r * num_bins for r in outer]).astype(np.float64)
    if not np.all(rings.any(axis=1)):
        raise ValueError(
            f"each ring must hold a bin, but with {num_bins} bins the rings from {inner} to "
            f"{tuple(outer)} do not"
        )
    return pixels, rings


def _rotation_taps(
    pixels: np.ndarray,
    size: int,
    angles: Sequence[float],
    kernel: Callable[[np.ndarray], np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Where a rotation about the centre reads, and with what weights; made on the host in float64.

    pixels [pixel, 2] of an array [size, size] -> flat indices [angle, pixel, tap] and weights of
    that shape. kernel: fractional position t [pixel] -> weights [pixel, k] of the k bins around it.
    Beyond the edge the array goes on by reflection about its outermost bin; a pixel that comes from
    outside the array reads 0.
    """
    centre = (size - 1) / 2
    x, y = (pixels - centre).T
    taps, weights = [], []
    for angle in angles:
        # Exact 0 and 1 at 90 degrees, or pixels from the very edge would count as outside.
        cos, sin = np.round([np.cos(np.radians(angle)), np.sin(np.radians(angle))], 15)
        source = np.stack([cos * x + sin * y, cos * y - sin * x]) + centre
        inside = np.all((source >= 0) & (source <= size - 1), axis=0)
        base = np.floor(source)
        w_x, w_y = kernel(source[0] - base[0]), kernel(source[1] - base[1])
        num_taps = w_x.shape[1]
        index = base[..., None].astype(int) + np.arange(num_taps) - (num_taps // 2 - 1)
        i, j = np.abs((index + size - 1) % (2 * size - 2) - (size - 1))
        taps.append((i[:, :, None] * size + j[:, None, :]).reshape(len(pixels), -1))
        w = w_x[:, :, None] * w_y[:, None, :] * inside[:, None, None]
        weights.append(w.reshape(len(pixels), -1))
    return np.stack(taps).astype(np.int32), np.stack(weights)


def _cubic_weights(t: np.ndarray) -> np.ndarray:
    """Cubic B-spline at the four knots around a point t past the second: [pixel] -> [pixel, 4]."""
    s = 1 - t
    return np.stack([s**3, 4 - 6 * t**2 + 3 * t**3, 4 - 6 * s**2 + 3 * s**3, t**3], axis=1) / 6


def _linear_weights(t: np.ndarray) -> np.ndarray:
    return np.stack([1 - t, t], axis=1)


def _spline_prefilter(size: int) -> np.ndarray:
    """Matrix [size, size] from samples to cubic-spline coefficients, edges reflected."""
    samples = np.eye(size) * 4 + np.eye(size, k=1) + np.eye(size, k=-1)
    samples[0, 1] = samples[-1, -2] = 2
    return np.linalg.inv(samples / 6)


# ---------------------------------------------------------------------------------------------
# Grid score: expanding circles
# ---------------------------------------------------------------------------------------------


class MoserScores(NamedTuple):
    """Grid score of each unit [unit], and the radius in bins of its central field [unit]."""

    score: jax.Array
    central_radius: jax.Array


FAINTEST = 2e-13  # opexebo's normxcorr2_general: 1000 roundings of float64
MOSER_ANGLES = (30, 60, 90, 120, 150)
# The central field is searched from a threshold of 0.95 of its peak downwards; where that field has
# a hole, from one of the others.
FIELD_STARTS = ((0.95, 0.93), *((j, j - 0.01) for j in np.linspace(0.96, 1.0, 4)))


def moser_grid_scores(maps: jax.Array) -> MoserScores:
    """Grid score of the Moser group: expanding circles around the autocorrelogram's central field.

    The autocorrelogram is cut to shifts of 0.9 of the map. With c(a) the Pearson correlation, over
    the annulus between the central field's radius R and a radius r, of the autocorrelogram with
    itself turned by a degrees (linear interpolation),

        g(r) = min[c(60), c(120)] - max[c(30), c(90), c(150)],    r = R+1 ... edge,

    and the score is the greatest mean of three neighbouring g(r). R = floor(sqrt(area/pi)) of the
    central field: the region around the centre above a threshold that sinks from 0.95 of the peak
    to 0.2 and stops before the region leaps in size, gets a hole, or stops growing.

    maps [unit, x, y], square, NaN (counted as 0) where unvisited -> MoserScores of [unit] arrays;
    score NaN and radius 0 where no central field of five bins is found.

    Raises ValueError if the maps are not square or have fewer than 8 bins along a side.
    Source: Sargolini et al. 2006; opexebo, analysis.autocorrelation, place_field and grid_score, of
    which the windowing of the mean (it leaves out the last window) is kept on purpose. No ellipse
    correction is made: opexebo reports the ellipse beside a score that does not use it. One rare
    case differs: where every starting threshold gives a field with a hole, opexebo may still return
    a score, and this function returns NaN.
    """
    maps = _floating(maps)
    chex.assert_rank(maps, 3)
    if maps.shape[1] != maps.shape[2] or maps.shape[1] < 8:
        raise ValueError(f"maps must be square with at least 8 bins, but are {maps.shape[1:]}")
    num_bins = maps.shape[1]
    size = 2 * (round(1.8 * num_bins) // 2) + 1
    size = size - 2 if size > round(1.8 * num_bins) else size
    edge = size // 2  # the largest radius, and the index of the centre
    cut = slice(num_bins - 1 - edge, num_bins + edge)

    pixels, inside, upto, radii = _circles(edge)
    taps, weights = _rotation_taps(pixels, size, MOSER_ANGLES, _linear_weights)
    weights_t = jnp.asarray(weights[..., None], maps.dtype)
    masks = jnp.asarray(np.concatenate([inside, upto]), maps.dtype)
    num_radii = radii.shape[1]

    def score(block: jax.Array) -> MoserScores:
        sac = jnp.moveaxis(_autocorrelograms(block, FAINTEST)[:, cut, cut], 0, -1)
        central = _central_radius(sac)
        flat = sac.reshape(size**2, -1)
        straight = flat[pixels[:, 0] * size + pixels[:, 1]]
        turned = jnp.sum(flat[taps] * weights_t, axis=2)  # [angle, pixel, unit]
        spread = jnp.broadcast_to(straight[None], turned.shape)
        sums = _matmul(
            masks,
            jnp.stack(
                [jnp.ones_like(turned), spread, turned, spread**2, turned**2, spread * turned]
            ),
        )  # [sum, angle, circle, unit]
        r = jnp.asarray(radii)[central].T  # [step, unit], 0 beyond the last step
        outer = jnp.take_along_axis(sums[:, :, : edge + 1], r[None, None], axis=2)
        inner = jnp.take_along_axis(sums[:, :, edge + 1 :], central[None, None, None], axis=2)
        n, s, t, ss, tt, st = outer - inner
        n = jnp.maximum(n, 1)
        power = (ss / n - (s / n) ** 2) * (tt / n - (t / n) ** 2)
        c = (st / n - (s / n) * (t / n)) / jnp.sqrt(jnp.where(power > 0, power, jnp.nan))
        g = jnp.minimum(c[1], c[3]) - jnp.maximum(jnp.maximum(c[0], c[2]), c[4])  # [step, unit]

        step = jnp.arange(num_radii)[:, None]
        num_steps = jnp.where(central > 0, edge - central, 0)[None]
        g = jnp.where(step < num_steps, g, jnp.nan)
        three = jnp.concatenate([g, jnp.full_like(g[:2], jnp.nan)])
        three = jnp.stack([three[:-2], three[1:-1], three[2:]])
        windows = jnp.where(step < num_steps - 3, jnp.nanmean(three, axis=0), jnp.nan)
        few = jnp.mean(g, axis=0, where=step < jnp.maximum(num_steps, 1))
        best = jnp.nanmax(jnp.where(jnp.isnan(windows), -jnp.inf, windows), axis=0)
        best = jnp.where(num_steps[0] <= 4, few, best)
        return MoserScores(jnp.where(jnp.isfinite(best), best, jnp.nan), central)

    return _over_blocks(score, maps)


def _circles(edge: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Host tables of the expanding circles about the centre of an array of 2 edge + 1 bins.

    -> pixels [pixel, 2] (half of the disc, as the autocorrelogram is symmetric); masks [radius,
    pixel] of the bins nearer than each whole radius, and of those not farther; and the outer radii
    [central radius, step], 0 beyond the last step.
    """
    lag = np.arange(-edge, edge + 1)
    distance = np.hypot(lag[:, None], lag[None, :])
    half = (lag[:, None] > 0) | ((lag[:, None] == 0) & (lag[None, :] > 0))
    used = half & (distance < edge)
    whole = np.arange(edge + 1)[:, None]
    radii = np.zeros((edge + 1, edge), np.int32)
    for central in range(1, edge):
        steps = np.linspace(max(3, central + 1), edge, edge - central).astype(int)
        radii[central, : len(steps)] = steps
    return np.argwhere(used), distance[used] < whole, distance[used] <= whole, radii


def _central_radius(sac: jax.Array) -> jax.Array:
    """Radius in whole bins of the field around the centre, [x, y, unit] -> [unit]; 0 if none.

    All thresholds are served by two floods. With p(x) the highest level at which x is still
    connected to the centre, the field at threshold q is {p >= q}; with b(x) the lowest level that
    separates x from the edge of the array, it has a hole where p < q <= b.
    """
    edge = sac.shape[0] // 2
    # Opening by reconstruction: peaks narrower than a cross of five bins are cut down.
    eroded = jnp.minimum(sac, _over_neighbours(jnp.minimum, sac, jnp.inf))
    level = _flood(eroded, lambda x: jnp.minimum(_grown(x, diagonal=True), sac))
    peak = level[edge, edge]
    level = level / jnp.where(peak > 0, peak, 1)[None, None]
    low = jnp.where(level >= 0.19, level, -1)  # below the last threshold nothing counts
    marker = jnp.full_like(low, -1).at[edge, edge].set(1)
    reach = _flood(marker, lambda x: jnp.minimum(_grown(x), low))
    frame = jnp.full_like(reach, 2).at[1:-1, 1:-1].set(0)
    frame = jnp.where(frame > 0, reach, 2)
    ring = _flood(
        frame,
        lambda x: jnp.maximum(jnp.minimum(x, _over_neighbours(jnp.minimum, x, 2.0)), reach),
    )

    def area(threshold: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Bins of the field [unit] at a threshold [unit], and whether it is free of holes."""
        q = threshold[None, None]
        hole = jnp.any((reach < q) & (ring >= q), axis=(0, 1))
        return jnp.sum(reach >= q, axis=(0, 1)).astype(sac.dtype), ~hole

    lists = []
    for start, _ in FIELD_STARTS:
        first = start if start == 0.95 else start - 0.01
        lists.append(np.round(np.linspace(first, 0.2, int((first - 0.2) / 0.02) + 1), 2))
    thresholds = np.full((len(lists), max(map(len, lists))), np.nan)
    for row, values in zip(thresholds, lists, strict=True):
        row[: len(values)] = values

    units = sac.shape[-1:]
    starts = jnp.asarray(FIELD_STARTS, sac.dtype)[..., None]
    areas, whole = lax.map(
        area, jnp.broadcast_to(starts, (*starts.shape[:2], *units)).reshape(-1, *units)
    )
    (high, low_area), whole = (
        jnp.moveaxis(areas.reshape(-1, 2, *units), 1, 0),
        jnp.all(whole.reshape(-1, 2, *units), axis=1),
    )
    usable = whole & (high > 0)  # [start, unit]
    found = jnp.any(usable, axis=0)
    start = jnp.argmax(usable, axis=0)
    last, first = (jnp.take_along_axis(a, start[None], axis=0)[0] for a in (low_area, high))
    last = jnp.where(found, last, 1)
    growth = last / jnp.where(found, first, 1)

    def sink(carry: Any, threshold: jax.Array) -> tuple[Any, None]:
        last, accepted, shrinking, still, going = carry
        now, whole = area(threshold)
        shrinking = jnp.where(now < last, shrinking + 1, 0)
        good = whole & (jnp.floor(now / last / growth) <= 2) & (shrinking < 3)
        still = jnp.where(now == last, still + 1, 0)
        going = going & good & (still < 10) & (threshold > 0)  # False beyond the list's end
        last, accepted = jnp.where(going, now, last), jnp.where(going, now, accepted)
        return (last, accepted, shrinking, still, going), None

    nothing = jnp.zeros(units, jnp.int32)
    carry = (last, jnp.zeros(units, sac.dtype), nothing, nothing, found)
    steps = jnp.asarray(thresholds, sac.dtype)[start].T
    (_, accepted, *_), _ = lax.scan(sink, carry, steps)
    radius = jnp.floor(jnp.sqrt(accepted / np.pi)).astype(jnp.int32)
    return jnp.where(accepted >= 5, jnp.minimum(radius, edge), 0)


# ---------------------------------------------------------------------------------------------
# Spacing, orientation, phase
# ---------------------------------------------------------------------------------------------


class GridGeometry(NamedTuple):
    """Spacing [unit] (m), orientation [unit] (rad, in [0, pi/3)), lattice axes [unit, 3, 2] (m)."""

    spacing: jax.Array
    orientation: jax.Array
    axes: jax.Array


def spacing_orientation(maps: jax.Array, *, bin_width_m: float) -> GridGeometry:
    """Grid spacing and orientation from the six peaks nearest to the autocorrelogram's centre.

    Peaks are local maxima (of 3 x 3 bins, above 0.1) beyond the first minimum of the
    autocorrelogram's radial mean and within 0.9 of the map, placed between bins by a parabola along
    each axis. The nearest is taken, then the nearest at least 30 degrees from those taken; as
    r(-d) = r(d), three stand for six. Spacing is their mean distance; orientation is the mean of
    their directions modulo 60 degrees, measured from the x axis towards the y axis.

    maps [unit, x, y], square, NaN (counted as 0) where unvisited; bin_width_m in metres
    -> GridGeometry, NaN for a unit with fewer than three such peaks.

    Raises ValueError if the maps are not square.
    Source: Hafting et al. 2005, methods; opexebo's grid_score_stats differs in peaks at whole bins,
    in 15 degrees instead of 30, and in how it masks the centre and the edge.
    """
    maps = _floating(maps)
    chex.assert_rank(maps, 3)
    if maps.shape[1] != maps.shape[2]:
        raise ValueError(f"maps must be square, but have shape {maps.shape[1:]}")
    n = maps.shape[1]
    lag = np.arange(1 - n, n)
    distance = np.hypot(lag[:, None], lag[None, :])
    shell = np.round(distance).astype(int)
    shells = np.stack([(shell == k) / np.sum(shell == k) for k in range(n)]).reshape(n, -1)
    half = (lag[:, None] > 0) | ((lag[:, None] == 0) & (lag[None, :] > 0))

    def geometry(block: jax.Array) -> GridGeometry:
        sac = _autocorrelograms(block)
        num_units, dtype = sac.shape[0], sac.dtype
        radial = _matmul(sac.reshape(num_units, -1), jnp.asarray(shells.T, dtype))
        rises = radial[:, 1:] > radial[:, :-1]
        valley = jnp.where(jnp.any(rises, axis=1), jnp.argmax(rises, axis=1), n)

        s = jnp.moveaxis(sac, 0, -1)
        around = _over_neighbours(jnp.maximum, s, -jnp.inf, diagonal=True)
        d = jnp.asarray(distance, dtype)[..., None]
        candidate = (s >= around) & (s > 0.1) & jnp.asarray(half & (distance <= 0.9 * n))[..., None]
        candidate &= d > valley[None, None].astype(dtype)
        before_x, after_x = _shifted(s, 1, 0, 0.0), _shifted(s, -1, 0, 0.0)
        before_y, after_y = _shifted(s, 0, 1, 0.0), _shifted(s, 0, -1, 0.0)
        bend_x = jnp.maximum(2 * s - before_x - after_x, jnp.finfo(dtype).tiny)
        bend_y = jnp.maximum(2 * s - before_y - after_y, jnp.finfo(dtype).tiny)
        x = jnp.asarray(lag, dtype)[:, None, None] + (after_x - before_x) / (2 * bend_x)
        y = jnp.asarray(lag, dtype)[None, :, None] + (after_y - before_y) / (2 * bend_y)
        x, y, candidate = (a.reshape(-1, num_units) for a in (x, y, candidate))
        r = jnp.hypot(x, y)
        axes = []
        for _ in range(3):
            rest = jnp.where(candidate, r, jnp.inf)
            nearest = jnp.argmin(rest, axis=0)[None]
            px, py, pr, ok = (
                jnp.take_along_axis(a, nearest, axis=0)[0] for a in (x, y, r, candidate)
            )
            axes.append(jnp.where(ok[:, None], jnp.stack([px, py], axis=1), jnp.nan))
            # cos of the angle between axes, either way round: at least 30 degrees apart
            candidate &= jnp.abs(x * px[None] + y * py[None]) < np.cos(np.pi / 6) * r * pr[None]
        axis = jnp.stack(axes, axis=1) * bin_width_m
        theta = jnp.arctan2(axis[..., 1], axis[..., 0])
        mean_6 = jnp.arctan2(jnp.mean(jnp.sin(6 * theta), 1), jnp.mean(jnp.cos(6 * theta), 1))
        spacing = jnp.mean(jnp.hypot(axis[..., 0], axis[..., 1]), axis=1)
        return GridGeometry(spacing, jnp.mod(mean_6 / 6, np.pi / 3), axis)

    return _over_blocks(geometry, maps)


def grid_phases(
    maps: jax.Array, *, spacing: jax.Array, orientation: jax.Array, extent: Extent
) -> jax.Array:
    """Spatial phases of the units of one grid module, on the unit torus.

    The lattice is x = u a_1 + v a_2 with a_1, a_2 of length spacing at orientation and orientation
    + 60 degrees; a unit of phase (u, v) fires around u a_1 + v a_2 and all points a lattice vector
    away, counted from the origin of extent's coordinates. A constant and the three plane waves of
    the lattice's shortest reciprocal vectors are fitted to the visited bins by least squares; the
    phases of the first two are (u, v). (A bare Fourier sum is biased where the arena does not hold
    a whole number of periods.)

    maps [unit, x, y]; spacing (in the units of extent) and orientation (rad) scalars; extent as in
    `rate_maps` -> [unit, 2] in [0, 1). For the spacing of each unit apart, vmap.
    Source: the phase plane of Yoon et al. 2013 and Gardner et al. 2022.
    """
    maps = _floating(maps)
    chex.assert_rank(maps, 3)
    dtype = maps.dtype
    x, y = (
        jnp.asarray(low + (np.arange(size) + 0.5) * (high - low) / size, dtype)
        for size, (low, high) in zip(maps.shape[1:], extent, strict=True)
    )
    # b_i . a_j = 1 if i = j, else 0
    angles = jnp.asarray(orientation, dtype) + jnp.asarray([-np.pi / 6, np.pi / 2], dtype)
    b = jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=1) * (2 / np.sqrt(3) / spacing)
    b = jnp.concatenate([b, jnp.sum(b, axis=0, keepdims=True)])
    turns = b[:, 0, None, None] * x[None, :, None] + b[:, 1, None, None] * y[None, None, :]
    waves = 2 * np.pi * turns.reshape(3, -1)
    basis = jnp.concatenate([jnp.ones_like(waves[:1]), jnp.cos(waves), jnp.sin(waves)])

    def phase(block: jax.Array) -> jax.Array:
        f = block.reshape(block.shape[0], -1)
        weight = jnp.isfinite(f).astype(dtype)
        f = jnp.where(weight > 0, f, 0)
        mean = jnp.sum(f, axis=1, keepdims=True) / jnp.maximum(jnp.sum(weight, 1, keepdims=True), 1)
        f = (f - mean) * weight
        highest = lax.Precision.HIGHEST
        gram = jnp.einsum("kp,up,lp->ukl", basis, weight, basis, precision=highest)
        drive = jnp.einsum("kp,up->uk", basis, f, precision=highest)
        k = jnp.linalg.solve(gram, drive[..., None])[..., 0]
        return jnp.mod(jnp.arctan2(k[:, 4:6], k[:, 1:3]) / (2 * np.pi), 1)

    return _over_blocks(phase, maps)


class PlaneWaves(NamedTuple):
    """Each map's strongest wave cos(k.x - phase), x from the map's middle, all [unit].

    wavelength 2 pi / |k| (m), direction of k (rad, in [0, pi)), phase (rad, in [-pi, pi)).
    """

    wavelength: jax.Array
    direction: jax.Array
    phase: jax.Array


def plane_waves(maps: jax.Array, *, bin_width_m: float) -> PlaneWaves:
    """The strongest plane wave of each map.

    The mean is taken off (unvisited bins count as the mean), the map is padded to four times its
    width, and the highest peak of the power spectrum is placed between modes by a parabola. The
    spacing of a hexagonal grid is 2/sqrt(3) times the wavelength, and its fields lie 30 degrees off
    the direction.

    maps [unit, x, y], bin_width_m -> PlaneWaves; for a map without variance the wavelength is
    infinite.
    """
    maps = _floating(maps)
    chex.assert_rank(maps, 3)
    size = [4 * n for n in maps.shape[1:]]

    def wave(block: jax.Array) -> PlaneWaves:
        visited = jnp.isfinite(block)
        mean = jnp.mean(block, axis=(1, 2), keepdims=True, where=visited)
        centred = jnp.where(visited, block - mean, 0)
        power = jnp.abs(jnp.fft.fft2(centred, s=size)) ** 2
        best = jnp.argmax(power[:, :, : size[1] // 2 + 1].reshape(block.shape[0], -1), axis=1)
        index = jnp.unravel_index(best, (size[0], size[1] // 2 + 1))
        unit = jnp.arange(block.shape[0])
        frequency = []
        for axis, (i, length) in enumerate(zip(index, size, strict=True)):
            step = np.eye(2, dtype=int)[axis]
            low, mid, high = (
                power[unit, (index[0] + k * step[0]) % size[0], (index[1] + k * step[1]) % size[1]]
                for k in (-1, 0, 1)
            )
            bend = 2 * mid - low - high
            offset = jnp.where(bend > 0, (high - low) / jnp.where(bend > 0, 2 * bend, 1), 0)
            signed = jnp.where(i > length // 2, i - length, i).astype(block.dtype)
            frequency.append((signed + offset) / (length * bin_width_m))
        flat = jnp.max(power, axis=(1, 2)) == 0
        wavelength = jnp.where(flat, jnp.inf, 1 / jnp.hypot(*frequency))
        # k and -k are one wave: the half plane of directions from 0 to pi.
        sign = jnp.where((frequency[1] < 0) | ((frequency[1] == 0) & (frequency[0] < 0)), -1, 1)
        k = [sign * f for f in frequency]
        x, y = (
            bin_width_m * (jnp.arange(n, dtype=block.dtype) - (n - 1) / 2) for n in block.shape[1:]
        )
        turns = k[0][:, None, None] * x[None, :, None] + k[1][:, None, None] * y[None, None, :]
        along, across = (
            jnp.sum(centred * f(2 * np.pi * turns), axis=(1, 2)) for f in (jnp.cos, jnp.sin)
        )
        direction = jnp.mod(jnp.arctan2(k[1], k[0]), np.pi)
        return PlaneWaves(wavelength, direction, jnp.arctan2(across, along))

    return _over_blocks(wave, maps)


# ---------------------------------------------------------------------------------------------
# Border score, spatial information, head direction
# ---------------------------------------------------------------------------------------------


class BorderScores(NamedTuple):
    """Border score, greatest coverage of a wall, mean firing distance; each [unit]."""

    score: jax.Array
    coverage: jax.Array
    distance: jax.Array


def border_scores(
    maps: jax.Array,
    *,
    bin_width_m: float,
    field_threshold: float = 0.3,
    min_field_m2: float = 0.02,
) -> BorderScores:
    """Border score b = (c - d)/(c + d), from -1 (central fields) towards 1 (fields along a wall).

    Firing fields are regions connected through edges of bins, above field_threshold of the map's
    peak, and larger than min_field_m2. c is the greatest share of one wall that one field covers; d
    is the distance to the nearest wall averaged over the bins of all fields, weighted by rate, and
    divided by half the shorter side of the arena.

    maps [unit, x, y], rates of 0 or more; bin_width_m in metres -> BorderScores of [unit] arrays;
    a unit without a field has score -1, coverage 0 and distance 1. Unvisited (NaN) bins belong to
    no field, and do not count as wall.

    Source: Solstad et al. 2008, supplement. As in the originals (opexebo's border_score, and
    Ganguli's scores.border_score) a bin at the wall has distance 1, not 1/2, so that the best score
    on 20 bins is 9/11. The latter's code measures the coverage of its first field only, and
    averages d field by field; the paper's definition stands here.
    """
    maps = _floating(maps)
    chex.assert_rank(maps, 3)
    num_x, num_y = maps.shape[1:]
    near = [np.minimum(np.arange(n) + 1, n - np.arange(n)) for n in (num_x, num_y)]
    distance = np.minimum(near[0][:, None], near[1][None, :]) / (min(num_x, num_y) / 2)
    walls = [np.s_[0, :], np.s_[-1, :], np.s_[:, 0], np.s_[:, -1]]
    num_labels = num_x * num_y + 1
    min_bins = min_field_m2 / bin_width_m**2

    def score(block: jax.Array) -> BorderScores:
        visited = jnp.isfinite(block)
        f = jnp.where(visited, block, 0)
        above = f > field_threshold * jnp.max(f, axis=(1, 2), keepdims=True)
        number = jnp.arange(1, num_labels).reshape(1, num_x, num_y)
        first = jnp.moveaxis(jnp.where(above, number, 0), 0, -1)
        label = _flood(first, lambda x: jnp.where(first > 0, _grown(x), 0))
        label = jnp.moveaxis(label, -1, 0)

        def one(f: jax.Array, visited: jax.Array, label: jax.Array) -> BorderScores:
            sizes = jnp.zeros(num_labels, jnp.int32).at[label].add(1)
            large = (sizes > min_bins).at[0].set(False)  # label 0 is the ground
            coverage = jnp.zeros((), f.dtype)
            for wall in walls:
                covered = jnp.zeros(num_labels, f.dtype).at[label[wall]].add(1)
                share = jnp.where(large, covered, 0) / jnp.maximum(jnp.sum(visited[wall]), 1)
                coverage = jnp.maximum(coverage, jnp.max(share))
            rate = jnp.where(large[label], f, 0)
            total = jnp.sum(rate)
            mean = jnp.sum(rate * jnp.asarray(distance, f.dtype)) / jnp.where(total > 0, total, 1)
            mean = jnp.where(total > 0, mean, 1)
            return BorderScores((coverage - mean) / (coverage + mean), coverage, mean)

        return jax.vmap(one)(f, visited, label)

    return _over_blocks(score, maps)


class SpatialInformation(NamedTuple):
    """Information about position in bits per spike and in bits per second; each [unit]."""

    bits_per_spike: jax.Array
    bits_per_second: jax.Array


def spatial_information(maps: jax.Array, occupancy: jax.Array) -> SpatialInformation:
    """Skaggs' spatial information of rate maps.

    With p the occupancy as a probability over the visited bins and l the rate,
    bits/s = sum_x p l log2(l / sum_x p l); bits/spike is this divided by the mean rate sum_x p l.

    maps [unit, x, y] of rates of 0 or more (1/s for bits/s), occupancy [x, y] (any unit)
    -> SpatialInformation; a silent unit has 0 bits/s and NaN bits/spike, a unit with a negative
    rate NaN.
    Source: Skaggs et al. 1993, eq. 1 and 2. opexebo's rate_map_stats sets the logarithm to 0 where
    the rate is below the mean, which makes the value larger; this is not done here.
    """
    maps = _floating(maps)
    chex.assert_rank([maps, occupancy], [3, 2])
    chex.assert_shape(occupancy, maps.shape[1:])
    visited = jnp.isfinite(maps)
    p = jnp.where(visited, jnp.asarray(occupancy, maps.dtype)[None], 0)
    p = p / jnp.sum(p, axis=(1, 2), keepdims=True)
    rate = jnp.where(visited, maps, 0)
    mean = jnp.sum(p * rate, axis=(1, 2))
    ratio = rate / jnp.where(mean == 0, 1, mean)[:, None, None]
    bits = jnp.sum(p * ratio * jnp.log2(jnp.where(ratio == 0, 1, ratio)), axis=(1, 2))
    return SpatialInformation(jnp.where(mean == 0, jnp.nan, bits), bits * mean)


def head_direction_curves(
    headings: jax.Array, activity: jax.Array, *, num_bins: int = 60
) -> jax.Array:
    """Mean activity of each unit in each bin of heading.

    headings [sample] (rad, any turn), activity [sample, unit] -> [unit, direction]; bin k is
    centred on 2 pi (k + 1/2)/num_bins; NaN where a direction never occurred.
    Raises ValueError if num_bins is below 3.
    """
    check.at_least(3, num_bins=num_bins)
    headings, activity = jnp.asarray(headings), _floating(activity)
    chex.assert_rank([headings, activity], [1, 2])
    chex.assert_shape(headings, (activity.shape[0],))
    turn = jnp.mod(headings / (2 * np.pi), 1) * num_bins
    # A NaN heading goes to a bin that is dropped.
    bins = jnp.where(jnp.isfinite(turn), jnp.clip(turn, 0, num_bins - 1), num_bins)
    bins = bins.astype(jnp.int32)
    count = jax.ops.segment_sum(jnp.ones(bins.shape, activity.dtype), bins, num_bins + 1)[:-1, None]
    total = jax.ops.segment_sum(activity, bins, num_bins + 1)[:-1]
    return jnp.where(count > 0, total / jnp.maximum(count, 1), jnp.nan).T


class DirectionTuning(NamedTuple):
    """Mean vector length [unit], 0 to 1, and preferred direction [unit] (rad, in (-pi, pi])."""

    length: jax.Array
    direction: jax.Array


def head_direction_length(curves: jax.Array) -> DirectionTuning:
    """Mean vector of directional tuning curves: R exp(i mu) = sum_k l_k exp(i theta_k) / sum_k l_k.

    curves [unit, direction] of rates of 0 or more, as from `head_direction_curves` (NaN is left
    out) -> DirectionTuning. Averaging rates, not spikes, takes off the animal's own preference for
    directions. Source: Zar, Biostatistical Analysis, eq. 26.13-14; opexebo's tuning_curve_stats
    (hd_mvl). The correction for the width of bins (0.05 % at 60 bins) is left out, as there.
    """
    curves = _floating(curves)
    chex.assert_rank(curves, 2)
    num_bins = curves.shape[1]
    theta = 2 * np.pi * (np.arange(num_bins) + 0.5) / num_bins
    rate = jnp.nan_to_num(curves)
    total = jnp.sum(rate, axis=1)
    total = jnp.where(total == 0, jnp.nan, total)
    x = _matmul(rate, jnp.asarray(np.cos(theta), rate.dtype)) / total
    y = _matmul(rate, jnp.asarray(np.sin(theta), rate.dtype)) / total
    return DirectionTuning(jnp.hypot(x, y), jnp.arctan2(y, x))


# ---------------------------------------------------------------------------------------------
# Floods: morphology on [x, y, unit]
# ---------------------------------------------------------------------------------------------


def _shifted(x: jax.Array, i: int, j: int, fill: Any) -> jax.Array:
    """x moved by (i, j) bins along its first two axes; `fill` comes in from outside."""
    padded = jnp.pad(x, ((1, 1), (1, 1), (0, 0)), constant_values=fill)
    return padded[1 - i : x.shape[0] + 1 - i, 1 - j : x.shape[1] + 1 - j]


def _over_neighbours(
    combine: Callable[[jax.Array, jax.Array], jax.Array],
    x: jax.Array,
    fill: Any,
    diagonal: bool = False,
) -> jax.Array:
    """combine (maximum or minimum) over the four neighbours of a bin, or all eight."""
    sides = [(1, 0), (-1, 0), (0, 1), (0, -1)]
    corners = [(1, 1), (1, -1), (-1, 1), (-1, -1)] if diagonal else []
    out = _shifted(x, *sides[0], fill)
    for i, j in sides[1:] + corners:
        out = combine(out, _shifted(x, i, j, fill))
    return out


def _grown(x: jax.Array, diagonal: bool = False) -> jax.Array:
    low = -jnp.inf if jnp.issubdtype(x.dtype, jnp.floating) else 0
    return jnp.maximum(x, _over_neighbours(jnp.maximum, x, low, diagonal))


def _flood(x: jax.Array, step: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """Applies `step` until nothing changes."""
    return lax.while_loop(
        lambda pair: jnp.any(pair[0] != pair[1]),
        lambda pair: (pair[1], step(pair[1])),
        (x, step(x)),
    )[1]


# ---------------------------------------------------------------------------------------------
# Helpers
# ---------------------------------------------------------------------------------------------


def _over_blocks(f: Callable[[jax.Array], Any], maps: jax.Array) -> Any:
    """f over blocks of units, [unit, ...] -> pytree of [unit, ...], to bound the memory."""
    num_units = maps.shape[0]
    if num_units <= BLOCK:
        return f(maps)
    num_blocks = -(-num_units // BLOCK)
    padding = [(0, num_blocks * BLOCK - num_units)] + [(0, 0)] * (maps.ndim - 1)
    blocks = jnp.pad(maps, padding).reshape(num_blocks, BLOCK, *maps.shape[1:])
    out = lax.map(f, blocks)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:num_units], out)


def _both_axes(left: jax.Array, maps: jax.Array, right: jax.Array) -> jax.Array:
    """left [a, x] maps [unit, x, y] right [b, y]^T -> [unit, a, b]."""
    return jnp.einsum("ax,uxy,by->uab", left, maps, right, precision=lax.Precision.HIGHEST)


def _matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    # In full precision on every device: scores are differences of near-equal sums.
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


def _floating(maps: jax.Array) -> jax.Array:
    maps = jnp.asarray(maps)
    return maps.astype(jnp.promote_types(maps.dtype, jnp.float32))


def _wide_range(maps: jax.Array) -> jax.Array:
    """Maps shifted and scaled to [0, 2^50], unit by unit; correlations do not change by this.

    An offset would cost the variances their digits. The wide range keeps squares of the faintest
    flanks of a place field (1e-34 of its peak) above the smallest float32.
    """
    low = jnp.min(maps, axis=(1, 2), keepdims=True)
    high = jnp.max(maps, axis=(1, 2), keepdims=True)
    return (maps - low) / jnp.where(high > low, high - low, 1) * 2.0**50
