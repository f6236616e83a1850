"""Border scores, spatial information, and tuning to head direction."""

from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from hfjax import check
from hfjax.ratemaps.arrays import (
    finite_or_zero,
    floating,
    floating_maps,
    matmul,
    outermost,
    over_blocks,
)
from hfjax.ratemaps.morphology import dilated, until_stable
from hfjax.ratemaps.sums import mean_by_bin, sum_by_bin


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

    Firing fields are regions of bins connected through their edges, above field_threshold of the
    peak and larger than min_field_m2. c is the largest share of one wall that one field covers. d
    is the mean distance to the nearest wall over the bins of all fields, weighted by rate and
    divided by half the shorter side of the arena. The walls are the outermost rows and columns with
    a visited bin.

    maps [unit, x, y], rates of 0 or more; bin_width_m in metres -> BorderScores of [unit] arrays.
    A unit without a field has score -1, coverage 0 and distance 1. Unvisited bins (NaN or infinite)
    belong to no field and do not count as wall.

    Source: Solstad et al. 2008, supplement. As in the originals (opexebo's border_score, and
    scores.border_score of Ganguli's group) a bin at the wall has distance 1, not 1/2, so that the
    best score on 20 bins is 9/11. The code of Ganguli's group measures the coverage of its first
    field only, and averages d field by field; this function follows the paper.
    """
    maps = floating_maps(maps)
    score = partial(
        _block_border_scores,
        field_threshold=field_threshold,
        min_bins=min_field_m2 / bin_width_m**2,
    )
    return over_blocks(score, maps)


def _block_border_scores(
    maps: jax.Array, *, field_threshold: float, min_bins: float
) -> BorderScores:
    """`border_scores` of one block."""
    visited = jnp.isfinite(maps)
    rates = jnp.where(visited, maps, 0)
    fields = labelled_fields(rates, field_threshold)
    return jax.vmap(partial(_border_score, min_bins=min_bins))(rates, visited, fields)


def labelled_fields(rates: jax.Array, threshold: float) -> jax.Array:
    """Connected regions above a share of the peak: [unit, x, y] -> labels, 0 outside of fields."""
    above = rates > threshold * jnp.max(rates, axis=(1, 2), keepdims=True)
    number = jnp.arange(1, rates[0].size + 1).reshape(1, *rates.shape[1:])
    first = jnp.moveaxis(jnp.where(above, number, 0), 0, -1)
    label = until_stable(first, lambda x: jnp.where(first > 0, dilated(x), 0))
    return jnp.moveaxis(label, -1, 0)


def _wall_distance(shape: tuple[int, ...], walls: jax.Array) -> jax.Array:
    """Distance of each bin [x, y] to the nearest of walls [axis, 2] over half the shorter side.

    1 bin for a bin at the wall.
    """
    near = [
        jnp.minimum(np.arange(n) - low, high - np.arange(n)) + 1
        for n, (low, high) in zip(shape, walls, strict=True)
    ]
    side = jnp.min(walls[:, 1] - walls[:, 0]) + 1
    return jnp.minimum(near[0][:, None], near[1][None, :]) / (side / 2)


def _border_score(
    rate: jax.Array, visited: jax.Array, label: jax.Array, *, min_bins: float
) -> BorderScores:
    """The scalars of one map [x, y], with the labels of `labelled_fields`."""
    num_labels = label.size + 1
    sizes = jnp.zeros(num_labels, jnp.int32).at[label].add(1)
    large = (sizes > min_bins).at[0].set(False)  # label 0 is the background
    coverage = jnp.zeros((), rate.dtype)
    walls = outermost(visited[None])[0]
    for axis, wall in ((0, walls[0, 0]), (0, walls[0, 1]), (1, walls[1, 0]), (1, walls[1, 1])):
        along, here = (jnp.take(a, wall, axis=axis) for a in (label, visited))
        covered = jnp.zeros(num_labels, rate.dtype).at[along].add(1)
        share = jnp.where(large, covered, 0) / jnp.maximum(jnp.sum(here), 1)
        coverage = jnp.maximum(coverage, jnp.max(share))
    rate = jnp.where(large[label], rate, 0)
    total = jnp.sum(rate)
    distance = _wall_distance(rate.shape, walls).astype(rate.dtype)
    mean = jnp.sum(rate * distance) / jnp.where(total > 0, total, 1)
    mean = jnp.where(total > 0, mean, 1)
    return BorderScores((coverage - mean) / (coverage + mean), coverage, mean)


class SpatialInformation(NamedTuple):
    """Information about position in bits per spike and in bits per second; each [unit]."""

    bits_per_spike: jax.Array
    bits_per_second: jax.Array


def spatial_information(maps: jax.Array, occupancy: jax.Array) -> SpatialInformation:
    """Skaggs' spatial information of rate maps.

    With p the occupancy as a probability over the visited bins and l the rate,
    bits/s = sum_x p l log2(l / sum_x p l); bits/spike is this divided by the mean rate sum_x p l.

    maps [unit, x, y] of rates of 0 or more (1/s for bits/s), occupancy [x, y] (any unit)
    -> SpatialInformation. A silent unit has 0 bits/s and NaN bits/spike, a unit with a negative
    rate NaN for both.
    Source: Skaggs et al. 1993, eq. 1 and 2. Deviation from opexebo's rate_map_stats, which sets the
    logarithm to 0 where the rate is below the mean and so gets larger values.
    """
    maps = floating(maps)
    chex.assert_rank([maps, occupancy], [3, 2])
    chex.assert_shape(occupancy, maps.shape[1:])
    visited = jnp.isfinite(maps)
    p = jnp.where(visited, finite_or_zero(jnp.asarray(occupancy, maps.dtype))[None], 0)
    total = jnp.sum(p, axis=(1, 2), keepdims=True)
    p = p / jnp.where(total > 0, total, 1)
    rate = jnp.where(visited, maps, 0)
    mean = jnp.sum(p * rate, axis=(1, 2))
    ratio = rate / jnp.where(mean == 0, 1, mean)[:, None, None]
    bits = jnp.sum(p * ratio * jnp.log2(jnp.where(ratio > 0, ratio, 1)), axis=(1, 2))
    negative = jnp.any(rate < 0, axis=(1, 2))
    undefined = negative | (mean == 0)
    return SpatialInformation(
        jnp.where(undefined, jnp.nan, bits), jnp.where(negative, jnp.nan, bits * mean)
    )


def head_direction_curves(
    headings: jax.Array, activity: jax.Array, *, num_bins: int = 60
) -> jax.Array:
    """Mean activity of each unit in each bin of heading.

    headings [sample] (rad, of any range), activity [sample, unit] -> [unit, direction]. Bin k is
    centred on 2 pi (k + 1/2)/num_bins; NaN where a direction never occurred.
    Raises ValueError if num_bins is below 3.
    """
    headings, activity = jnp.asarray(headings), floating(activity)
    chex.assert_rank([headings, activity], [1, 2])
    chex.assert_shape(headings, (activity.shape[0],))
    bins = direction_bins(headings, num_bins=num_bins)
    return mean_by_bin(sum_by_bin(activity, bins, num_bins)).T


class DirectionTuning(NamedTuple):
    """Mean vector length [unit], 0 to 1, and preferred direction [unit] (rad, in (-pi, pi])."""

    length: jax.Array
    direction: jax.Array


def head_direction_length(curves: jax.Array) -> DirectionTuning:
    """Mean vector of directional tuning curves: R exp(i mu) = sum_k l_k exp(i theta_k) / sum_k l_k.

    curves [unit, direction] of rates of 0 or more, as from `head_direction_curves` (bins that
    are not finite are left out) -> DirectionTuning. The mean of rates, not of spikes, corrects for
    the animal's preference for some directions. Source: Zar, Biostatistical Analysis, eq. 26.13-14;
    opexebo's tuning_curve_stats (hd_mvl). As there, the result is not corrected for the width of
    bins (0.05 % at 60 bins).
    """
    curves = floating(curves)
    chex.assert_rank(curves, 2)
    num_bins = curves.shape[1]
    theta = 2 * np.pi * (np.arange(num_bins) + 0.5) / num_bins
    rate = finite_or_zero(curves)
    total = jnp.sum(rate, axis=1)
    total = jnp.where(total == 0, jnp.nan, total)
    x = matmul(rate, jnp.asarray(np.cos(theta), rate.dtype)) / total
    y = matmul(rate, jnp.asarray(np.sin(theta), rate.dtype)) / total
    return DirectionTuning(jnp.hypot(x, y), jnp.arctan2(y, x))


def direction_bins(headings: jax.Array, *, num_bins: int = 60) -> jax.Array:
    """The bin of each heading, for `spikes_by_bin`.

    headings [sample] (rad, of any range) -> [sample] (int32); num_bins where one is not finite.
    Bin k is centred on 2 pi (k + 1/2)/num_bins.
    Raises ValueError if num_bins is below 3.
    """
    check.at_least(3, num_bins=num_bins)
    turn = jnp.mod(jnp.asarray(headings) / (2 * np.pi), 1) * num_bins
    bins = jnp.where(jnp.isfinite(turn), jnp.clip(turn, 0, num_bins - 1), num_bins)
    return bins.astype(jnp.int32)


class Rayleigh(NamedTuple):
    """Rayleigh's z = n R^2 and its p-value, each [unit]."""

    z: jax.Array
    p: jax.Array


def rayleigh_test(counts: jax.Array) -> Rayleigh:
    """Rayleigh's test that the directions of a unit's spikes are not uniform.

    With n spikes and R the mean vector length of their directions,
    p = exp(sqrt(1 + 4 n + 4 n^2 (1 - R^2)) - (1 + 2 n)). The test takes spikes as independent and
    directions as evenly sampled. Bursts and a rat's habits make it far too liberal: use
    `shuffled_scores` of `head_direction_length` to decide, and this test to compare with papers.

    counts [unit, direction]: spikes in each bin of direction -> Rayleigh, NaN for a silent unit.
    Source: Zar, Biostatistical Analysis, eq. 27.4.
    """
    n = jnp.sum(floating(counts), axis=1)
    r = head_direction_length(counts).length
    root = jnp.sqrt(1 + 4 * n + 4 * n**2 * (1 - r**2))
    # sqrt(..) - (1 + 2n) without the difference of two large numbers.
    exponent = -4 * (n * r) ** 2 / (root + 1 + 2 * n)
    return Rayleigh(n * r**2, jnp.exp(exponent))
