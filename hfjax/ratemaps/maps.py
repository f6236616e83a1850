"""Rate maps: mean activity per bin of the arena, and smoothing."""

import math
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from hfjax import check
from hfjax.ratemaps.arrays import both_axes, floating, floating_maps
from hfjax.ratemaps.sums import BinSums, add_sums, mean_by_bin, sum_by_bin

Extent = tuple[tuple[float, float], tuple[float, float]]
NumBins = int | tuple[int, int]  # bins along each axis, or along x and y


class Bins(NamedTuple):
    """Square bins over a rectangle: how many along x and y, and the extent that they cover."""

    num_bins: tuple[int, int]
    extent: Extent


def bins_of(extent: Extent, bin_width_m: float) -> Bins:
    """The least square bins of a width that cover a rectangle.

    extent ((x_min, x_max), (y_min, y_max)) and bin_width_m (m) -> Bins, for `num_bins` and `extent`
    of the functions that make maps. A side that is no whole number of bins is extended by the same
    length at both ends. On the host.
    Raises ValueError if bin_width_m is not positive or the extent is empty or not finite.
    """
    check.positive(bin_width_m=bin_width_m)
    num_bins, covered = [], []
    for low, high in extent:
        low, high = float(low), float(high)
        check.finite(extent=low + high)
        _check_rises(extent, low, high)
        # A side of 1.2 m has 40 bins of 3 cm, although 1.2 / .03 is 40.000000000000004.
        num = max(int(np.ceil((high - low) / bin_width_m - 1e-6)), 1)
        middle, half = (low + high) / 2, num * bin_width_m / 2
        num_bins.append(num)
        covered.append((middle - half, middle + half))
    return Bins((num_bins[0], num_bins[1]), (covered[0], covered[1]))


def bins_along_axes(num_bins: NumBins) -> tuple[int, int]:
    """num_bins as a pair; ValueError if one is below 1."""
    x, y = num_bins if isinstance(num_bins, tuple) else (num_bins, num_bins)
    check.at_least(1, num_bins=min(x, y))
    return x, y


class RateMapSums(NamedTuple):
    """Sums behind a rate map: samples per bin [x, y], summed activity + lost [x, y, unit].

    The count is exact up to 2^31 samples of a bin; lost is what rounding took from the activity.
    """

    occupancy: jax.Array
    activity: jax.Array
    lost: jax.Array


def rate_map_sums(*, num_units: int, num_bins: NumBins, dtype: Any = jnp.float32) -> RateMapSums:
    """Zero sums, for `add_samples` and `mean_maps`.

    -> occupancy [x, y] (int32), activity and lost [x, y, unit] of dtype.
    num_bins: along each axis, or along (x, y).
    Raises ValueError if num_units or num_bins is below 1.
    """
    check.at_least(1, num_units=num_units)
    shape = bins_along_axes(num_bins)
    return RateMapSums(
        jnp.zeros(shape, jnp.int32),
        jnp.zeros((*shape, num_units), dtype),
        jnp.zeros((*shape, num_units), dtype),
    )


def add_samples(
    sums: RateMapSums, positions: jax.Array, activity: jax.Array, *, extent: Extent
) -> RateMapSums:
    """Adds samples to the sums of a rate map. Use it inside a scan over a long walk.

    positions [sample, 2] (in the units of extent), activity [sample, unit].
    extent ((x_min, x_max), (y_min, y_max)): a bin includes its lower edge, the last bin both edges
    (as `numpy.histogram2d`). Samples outside, or at a NaN position, are left out. A NaN in the
    activity affects only its own bin. Means stay precise to 1e-6 in float32 after any number of
    samples.
    """
    chex.assert_rank([positions, activity], 2)
    num_x, num_y, num_units = sums.activity.shape
    chex.assert_shape(positions, (activity.shape[0], 2))
    chex.assert_shape(activity, (None, num_units))
    bins = position_bins(positions, num_bins=(num_x, num_y), extent=extent)
    new = sum_by_bin(activity.astype(sums.activity.dtype), bins, num_x * num_y)
    return RateMapSums(*add_sums(BinSums(*sums), _on_map(new, (num_x, num_y))))


def _on_map(sums: BinSums, num_bins: tuple[int, ...]) -> BinSums:
    """Sums of flat bins as sums of bins [x, y]."""
    return BinSums(*(a.reshape(*num_bins, *a.shape[1:]) for a in sums))


def mean_maps(sums: RateMapSums, *, unvisited: float = np.nan) -> jax.Array:
    """Mean activity in each bin, from sums -> [unit, x, y]; `unvisited` in bins never visited."""
    return jnp.moveaxis(mean_by_bin(BinSums(*sums), empty=unvisited), -1, 0)


def rate_maps(
    positions: jax.Array, activity: jax.Array, *, num_bins: NumBins, extent: Extent
) -> jax.Array:
    """Mean activity of each unit in each bin of the arena.

    positions [sample, 2] and activity [sample, unit], NumPy or JAX arrays -> maps [unit, x, y] with
    num_bins bins along each axis, or along (x, y), of extent ((x_min, x_max), (y_min, y_max)); NaN
    in bins that were never visited. Samples outside the extent are left out.

    Raises ValueError if num_bins is below 1 or the extent is empty.
    Source: GridScorer.calculate_ratemap (DeepMind), the statistic "mean". Deviation from
    compute_ratemaps of Sorscher et al., which has 0 where this function has NaN.
    """
    positions, activity = jnp.asarray(positions), floating(activity)
    chex.assert_rank([positions, activity], 2)
    chex.assert_shape(positions, (activity.shape[0], 2))
    shape = bins_along_axes(num_bins)
    bins = position_bins(positions, num_bins=shape, extent=extent)
    sums = sum_by_bin(activity, bins, math.prod(shape))
    return jnp.moveaxis(mean_by_bin(_on_map(sums, shape)), -1, 0)


def position_bins(positions: jax.Array, *, num_bins: NumBins, extent: Extent) -> jax.Array:
    """The flat index of the bin of each position: i_x num_y + i_y, for an array [x, y].

    positions [sample, 2]; num_bins and extent as in `rate_maps` -> [sample] (int32). A position
    outside the extent, or NaN, has the number of bins as its index, which sums leave out.
    Raises ValueError if num_bins is below 1 or the extent is empty.
    """
    shape = bins_along_axes(num_bins)
    index, inside = [], []
    for axis, (num, (low, high)) in enumerate(zip(shape, extent, strict=True)):
        _check_rises(extent, low, high)
        x = positions[:, axis]
        i = jnp.floor((x - low) * (num / (high - low)))
        index.append(jnp.clip(i, 0, num - 1).astype(jnp.int32))
        inside.append((x >= low) & (x <= high))
    return jnp.where(inside[0] & inside[1], index[0] * shape[1] + index[1], math.prod(shape))


def _check_rises(extent: Extent, low: float, high: float) -> None:
    if not high > low:
        raise ValueError(f"extent must rise along each axis, but is {extent}")


def smooth(maps: jax.Array, sigma_bins: float) -> jax.Array:
    """Gaussian smoothing over the visited bins; unvisited bins (not finite) stay as they are.

    out(x) = sum_v g(x - v) f(v) / sum_v g(x - v) over the visited bins v, with g a Gaussian of
    standard deviation sigma_bins. Space outside the map counts as unvisited.

    maps [unit, x, y] -> [unit, x, y]. Raises ValueError if sigma_bins is not above 0.
    """
    maps = floating_maps(maps)
    visited = jnp.isfinite(maps)
    total = blurred(jnp.where(visited, maps, 0), sigma_bins)
    weight = blurred(visited.astype(maps.dtype), sigma_bins)
    return jnp.where(visited, total / jnp.where(visited, weight, 1), maps)


def blurred(maps: jax.Array, sigma_bins: float) -> jax.Array:
    """Maps [unit, x, y] convolved with a Gaussian of standard deviation sigma_bins and sum 1.

    Space outside the map counts as 0. Raises ValueError if sigma_bins is not above 0.
    """
    check.positive(sigma_bins=sigma_bins)
    kernels = []
    for size in maps.shape[1:]:
        far = max(size - 1, int(np.ceil(8 * sigma_bins)))
        g = np.exp(-(np.arange(-far, far + 1) ** 2) / (2 * sigma_bins**2))
        i = np.arange(size)
        kernels.append(jnp.asarray((g / g.sum())[i[:, None] - i + far], maps.dtype))
    return both_axes(kernels[0], maps, kernels[1])
