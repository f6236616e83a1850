"""Rate maps: mean activity per bin of the arena, and smoothing."""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from hfjax import check
from hfjax.ratemaps.arrays import both_axes, floating, floating_maps
from hfjax.ratemaps.sums import BinSums, add_sums, mean_by_bin, sum_by_bin

Extent = tuple[tuple[float, float], tuple[float, float]]


class RateMapSums(NamedTuple):
    """Sums behind a rate map: samples per bin [x, y], summed activity + lost [x, y, unit].

    The count is exact up to 2^31 samples of a bin; lost is what rounding took from the activity.
    """

    occupancy: jax.Array
    activity: jax.Array
    lost: jax.Array


def rate_map_sums(*, num_units: int, num_bins: int, dtype: Any = jnp.float32) -> RateMapSums:
    """Zero sums, for `add_samples` and `mean_maps`.

    -> occupancy [x, y] (int32), activity and lost [x, y, unit] of dtype.
    Raises ValueError if num_units or num_bins is below 1.
    """
    check.at_least(1, num_units=num_units, num_bins=num_bins)
    return RateMapSums(
        jnp.zeros((num_bins, num_bins), jnp.int32),
        jnp.zeros((num_bins, num_bins, num_units), dtype),
        jnp.zeros((num_bins, num_bins, num_units), dtype),
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
    num_bins, num_units = sums.activity.shape[0], sums.activity.shape[-1]
    chex.assert_shape(positions, (activity.shape[0], 2))
    chex.assert_shape(activity, (None, num_units))
    bins = _bin_index(positions, num_bins, extent)
    new = sum_by_bin(activity.astype(sums.activity.dtype), bins, num_bins**2)
    return RateMapSums(*add_sums(BinSums(*sums), _on_map(new, num_bins)))


def _on_map(sums: BinSums, num_bins: int) -> BinSums:
    """Sums of flat bins as sums of bins [x, y]."""
    return BinSums(*(a.reshape(num_bins, num_bins, *a.shape[1:]) for a in sums))


def mean_maps(sums: RateMapSums, *, unvisited: float = np.nan) -> jax.Array:
    """Mean activity in each bin, from sums -> [unit, x, y]; `unvisited` in bins never visited."""
    return jnp.moveaxis(mean_by_bin(BinSums(*sums), empty=unvisited), -1, 0)


def rate_maps(
    positions: jax.Array, activity: jax.Array, *, num_bins: int, extent: Extent
) -> jax.Array:
    """Mean activity of each unit in each bin of the arena.

    positions [sample, 2] and activity [sample, unit], NumPy or JAX arrays -> maps [unit, x, y] with
    num_bins bins along each axis of extent ((x_min, x_max), (y_min, y_max)); NaN in bins that were
    never visited. Samples outside the extent are left out.

    Raises ValueError if num_bins is below 1 or the extent is empty.
    Source: GridScorer.calculate_ratemap (DeepMind), the statistic "mean". Deviation from
    compute_ratemaps of Sorscher et al., which has 0 where this function has NaN.
    """
    positions, activity = jnp.asarray(positions), floating(activity)
    chex.assert_rank([positions, activity], 2)
    chex.assert_shape(positions, (activity.shape[0], 2))
    check.at_least(1, num_bins=num_bins)
    bins = _bin_index(positions, num_bins, extent)
    sums = sum_by_bin(activity, bins, num_bins**2)
    return jnp.moveaxis(mean_by_bin(_on_map(sums, num_bins)), -1, 0)


def _bin_index(positions: jax.Array, num_bins: int, extent: Extent) -> jax.Array:
    """Flat index of the bin [sample] of positions [sample, 2]; num_bins**2 for those outside."""
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
    """Gaussian smoothing over the visited bins; unvisited bins (not finite) stay as they are.

    out(x) = sum_v g(x - v) f(v) / sum_v g(x - v) over the visited bins v, with g a Gaussian of
    standard deviation sigma_bins. Space outside the map counts as unvisited.

    maps [unit, x, y] -> [unit, x, y]. Raises ValueError if sigma_bins is not above 0.
    """
    maps = floating_maps(maps)
    check.positive(sigma_bins=sigma_bins)
    bins = [np.arange(size) for size in maps.shape[1:]]
    kernels = [
        jnp.asarray(np.exp(-((i[:, None] - i) ** 2) / (2 * sigma_bins**2)), maps.dtype)
        for i in bins
    ]
    visited = jnp.isfinite(maps)
    total = both_axes(kernels[0], jnp.where(visited, maps, 0), kernels[1])
    weight = both_axes(kernels[0], visited.astype(maps.dtype), kernels[1])
    return jnp.where(visited, total / jnp.where(visited, weight, 1), maps)
