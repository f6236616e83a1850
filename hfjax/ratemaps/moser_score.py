"""Grid scores by expanding circles around the central field of the autocorrelogram."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hfjax import check
from hfjax.ratemaps.arrays import floating_maps, matmul, over_blocks
from hfjax.ratemaps.autocorrelogram import (
    block_autocorrelograms,
    half_plane,
    linear_weights,
    rotation_taps,
)
from hfjax.ratemaps.morphology import dilated, over_neighbours, until_stable

FAINTEST = 2e-13  # opexebo's normxcorr2_general: 1000 roundings of float64
MOSER_ANGLES = (30, 60, 90, 120, 150)
# The central field is searched from a threshold of 0.95 of its peak downwards; where that field has
# a hole, from one of the others.
FIELD_STARTS = ((0.95, 0.93), *((j, j - 0.01) for j in np.linspace(0.96, 1.0, 4)))


class MoserScores(NamedTuple):
    """Grid score of each unit [unit], and the radius in bins of its central field [unit]."""

    score: jax.Array
    central_radius: jax.Array


def moser_grid_scores(maps: jax.Array) -> MoserScores:
    """Grid score of the Moser group: expanding circles around the autocorrelogram's central field.

    The autocorrelogram is cut to shifts of 0.9 of the map. With c(a) the Pearson correlation, over
    the annulus between the central field's radius R and a radius r, of the autocorrelogram with
    itself rotated by a degrees (linear interpolation),

        g(r) = min[c(60), c(120)] - max[c(30), c(90), c(150)],    r = R+1 ... edge,

    and the score is the greatest mean of three neighbouring g(r). R = floor(sqrt(area/pi)) of the
    central field: the region around the centre above a threshold. The threshold is lowered from
    0.95 of the peak to 0.2, and stops before the region jumps in size, gets a hole, or stops
    growing.

    maps [unit, x, y], bins square, not finite (counted as 0) where unvisited; the edge of an oblong
    map is that of its shorter side -> MoserScores of [unit]
    arrays; score NaN and radius 0 where there is no central field of at least five bins.

    Raises ValueError if the maps have fewer than 8 bins along an axis.
    Source: Sargolini et al. 2006; opexebo, analysis.autocorrelation, place_field and grid_score, of
    which the windowing of the mean (it omits the last window) is kept on purpose. No ellipse
    correction is made: opexebo reports the ellipse beside a score that does not use it. One rare
    case differs: where every starting threshold gives a field with a hole, opexebo may still return
    a score, and this function returns NaN.
    """
    maps = floating_maps(maps)
    check.at_least(8, num_bins=min(maps.shape[1:]))
    return over_blocks(partial(_block_scores, circles=_circles(maps.shape[1:])), maps)


class _Circles(NamedTuple):
    """Constants of the expanding circles, on the host.

    edge: the largest radius, half of the cut autocorrelogram's shorter side.
    cut: its bins in the whole autocorrelogram, along each axis. bins [pixel]: flat indices of half
    of the disc, which is enough as the autocorrelogram is symmetric.
    masks [2 (edge + 1), pixel]: bins nearer than each whole radius, then bins not farther.
    radii [central radius, step]: outer radii of the annuli, 0 after the last step.
    taps, weights [angle, pixel, tap]: reads of the rotations, see `rotation_taps`.
    """

    edge: int
    cut: tuple[slice, ...]
    bins: np.ndarray
    masks: np.ndarray
    radii: np.ndarray
    taps: np.ndarray
    weights: np.ndarray


def _circles(num_bins: tuple[int, ...]) -> _Circles:
    """Tables for maps of num_bins along x and y."""
    edges = [(round(1.8 * n) - 1) // 2 for n in num_bins]
    edge = min(edges)
    half, distance = half_plane(edges)
    used = half & (distance < edge)
    whole = np.arange(edge + 1)[:, None]
    radii = np.zeros((edge + 1, edge), np.int32)
    for central in range(1, edge):
        steps = np.linspace(max(3, central + 1), edge, edge - central).astype(int)
        radii[central, : len(steps)] = steps
    pixels = np.argwhere(used)
    shape = [2 * e + 1 for e in edges]
    taps, weights = rotation_taps(pixels, shape, MOSER_ANGLES, linear_weights)
    return _Circles(
        edge=edge,
        cut=tuple(slice(n - 1 - e, n + e) for n, e in zip(num_bins, edges, strict=True)),
        bins=pixels[:, 0] * shape[1] + pixels[:, 1],
        masks=np.concatenate([distance[used] < whole, distance[used] <= whole]),
        radii=radii,
        taps=taps,
        weights=weights,
    )


def _block_scores(maps: jax.Array, *, circles: _Circles) -> MoserScores:
    """`moser_grid_scores` of one block."""
    sac = block_autocorrelograms(maps, FAINTEST)[:, *circles.cut]
    sac = jnp.moveaxis(sac, 0, -1)
    central = _central_radius(sac)
    c = _annulus_correlations(sac, central, circles)
    g = jnp.minimum(c[1], c[3]) - jnp.maximum(jnp.maximum(c[0], c[2]), c[4])  # [step, unit]
    num_steps = jnp.where(central > 0, circles.edge - central, 0)
    return MoserScores(_best_window(g, num_steps), central)


def _annulus_correlations(sac: jax.Array, central: jax.Array, circles: _Circles) -> jax.Array:
    """Correlations over annuli with the rotated annuli -> [angle, step, unit].

    sac [x, y, unit], central radius [unit]. Sums over annuli are differences of sums over discs.
    """
    weights = jnp.asarray(circles.weights[..., None], sac.dtype)
    masks = jnp.asarray(circles.masks, sac.dtype)
    flat = sac.reshape(-1, sac.shape[-1])
    straight = flat[circles.bins]
    rotated = jnp.sum(flat[circles.taps] * weights, axis=2)  # [angle, pixel, unit]
    same = jnp.broadcast_to(straight[None], rotated.shape)
    sums = matmul(
        masks,
        jnp.stack([jnp.ones_like(rotated), same, rotated, same**2, rotated**2, same * rotated]),
    )  # [sum, angle, circle, unit]
    r = jnp.asarray(circles.radii)[central].T  # [step, unit]
    num_radii = circles.edge + 1
    outer = jnp.take_along_axis(sums[:, :, :num_radii], r[None, None], axis=2)
    inner = jnp.take_along_axis(sums[:, :, num_radii:], central[None, None, None], axis=2)
    n, s, t, ss, tt, st = outer - inner
    n = jnp.maximum(n, 1)
    power = (ss / n - (s / n) ** 2) * (tt / n - (t / n) ** 2)
    return (st / n - (s / n) * (t / n)) / jnp.sqrt(jnp.where(power > 0, power, jnp.nan))


def _best_window(g: jax.Array, num_steps: jax.Array) -> jax.Array:
    """The greatest mean of three neighbouring g [step, unit] -> [unit]; NaN where there is none.

    Only the first num_steps [unit] count; up to four of them are averaged as a whole.
    """
    step = jnp.arange(len(g))[:, None]
    g = jnp.where(step < num_steps[None], g, jnp.nan)
    three = jnp.concatenate([g, jnp.full_like(g[:2], jnp.nan)])
    three = jnp.stack([three[:-2], three[1:-1], three[2:]])
    windows = jnp.where(step < num_steps[None] - 3, jnp.nanmean(three, axis=0), jnp.nan)
    few = jnp.mean(g, axis=0, where=step < jnp.maximum(num_steps[None], 1))
    best = jnp.nanmax(jnp.where(jnp.isnan(windows), -jnp.inf, windows), axis=0)
    best = jnp.where(num_steps <= 4, few, best)
    return jnp.where(jnp.isfinite(best), best, jnp.nan)


# --- The central field ---


class _Levels(NamedTuple):
    """Two levels of each bin [x, y, unit] that give the central field at every threshold q.

    reach: the highest level at which the bin is connected to the centre; the field is {reach >= q}.
    enclosed: the lowest level that separates the bin from the edge of the array; the field has a
    hole where reach < q <= enclosed.
    """

    reach: jax.Array
    enclosed: jax.Array


def _central_levels(sac: jax.Array) -> _Levels:
    """Levels relative to the central peak, after an opening that removes narrow peaks."""
    centre = sac.shape[0] // 2, sac.shape[1] // 2
    # Opening by reconstruction: peaks narrower than a cross of five bins are cut down.
    eroded = jnp.minimum(sac, over_neighbours(jnp.minimum, sac, jnp.inf))
    level = until_stable(eroded, lambda x: jnp.minimum(dilated(x, diagonal=True), sac))
    peak = level[centre]
    level = level / jnp.where(peak > 0, peak, 1)[None, None]
    low = jnp.where(level >= 0.19, level, -1)  # the lowest threshold is 0.2
    start = jnp.full_like(low, -1).at[centre].set(1)
    reach = until_stable(start, lambda x: jnp.minimum(dilated(x), low))
    frame = jnp.full_like(reach, 2).at[1:-1, 1:-1].set(0)
    frame = jnp.where(frame > 0, reach, 2)
    enclosed = until_stable(
        frame,
        lambda x: jnp.maximum(jnp.minimum(x, over_neighbours(jnp.minimum, x, 2.0)), reach),
    )
    return _Levels(reach, enclosed)


def _field_area(threshold: jax.Array, levels: _Levels) -> tuple[jax.Array, jax.Array]:
    """Area of the field in bins [unit] at a threshold [unit], and whether it is free of holes."""
    q = threshold[None, None]
    hole = jnp.any((levels.reach < q) & (levels.enclosed >= q), axis=(0, 1))
    return jnp.sum(levels.reach >= q, axis=(0, 1)).astype(q.dtype), ~hole


def _threshold_lists() -> np.ndarray:
    """Falling thresholds [start, step] for each of FIELD_STARTS, NaN after the end of a list."""
    lists = []
    for start, _ in FIELD_STARTS:
        first = start if start == 0.95 else start - 0.01
        lists.append(np.round(np.linspace(first, 0.2, int((first - 0.2) / 0.02) + 1), 2))
    thresholds = np.full((len(lists), max(map(len, lists))), np.nan)
    for row, values in zip(thresholds, lists, strict=True):
        row[: len(values)] = values
    return thresholds


class _FieldStart(NamedTuple):
    """Where the search for each unit's central field starts, all [unit].

    exists: whether any start gives a field without a hole; number: of that start, in FIELD_STARTS.
    area: bins at its lower threshold; growth: that over the bins at its higher threshold.
    """

    exists: jax.Array
    number: jax.Array
    area: jax.Array
    growth: jax.Array


def _field_start(levels: _Levels) -> _FieldStart:
    """The first of FIELD_STARTS that gives a field without a hole at both of its thresholds."""
    units = levels.reach.shape[-1:]
    starts = jnp.asarray(FIELD_STARTS, levels.reach.dtype)[..., None]
    areas, whole = lax.map(
        partial(_field_area, levels=levels),
        jnp.broadcast_to(starts, (*starts.shape[:2], *units)).reshape(-1, *units),
    )
    high, low = jnp.moveaxis(areas.reshape(-1, 2, *units), 1, 0)
    usable = jnp.all(whole.reshape(-1, 2, *units), axis=1) & (high > 0)  # [start, unit]
    exists = jnp.any(usable, axis=0)
    number = jnp.argmax(usable, axis=0)
    area, first = (jnp.take_along_axis(a, number[None], axis=0)[0] for a in (low, high))
    area = jnp.where(exists, area, 1)
    return _FieldStart(exists, number, area, area / jnp.where(exists, first, 1))


class _Search(NamedTuple):
    """State of the search while the threshold falls, all [unit]."""

    area: jax.Array
    accepted: jax.Array  # the area of the field that counts
    num_shrinking: jax.Array
    num_still: jax.Array
    going: jax.Array


def _lower_threshold(
    search: _Search, threshold: jax.Array, *, levels: _Levels, growth: jax.Array
) -> tuple[_Search, None]:
    """One step of the search: accept the field at a lower threshold [unit], or stop."""
    area, whole = _field_area(threshold, levels)
    num_shrinking = jnp.where(area < search.area, search.num_shrinking + 1, 0)
    good = whole & (jnp.floor(area / search.area / growth) <= 2) & (num_shrinking < 3)
    num_still = jnp.where(area == search.area, search.num_still + 1, 0)
    # The last condition is False after the end of the list of thresholds, which is NaN.
    going = search.going & good & (num_still < 10) & (threshold > 0)
    kept, accepted = (jnp.where(going, area, x) for x in (search.area, search.accepted))
    return _Search(kept, accepted, num_shrinking, num_still, going), None


def _central_radius(sac: jax.Array) -> jax.Array:
    """Radius in whole bins of the field around the centre, [x, y, unit] -> [unit]; 0 if none."""
    levels = _central_levels(sac)
    start = _field_start(levels)
    units = sac.shape[-1:]
    zero = jnp.zeros(units, jnp.int32)
    search = _Search(start.area, jnp.zeros(units, sac.dtype), zero, zero, start.exists)
    thresholds = jnp.asarray(_threshold_lists(), sac.dtype)[start.number].T
    search, _ = lax.scan(
        partial(_lower_threshold, levels=levels, growth=start.growth), search, thresholds
    )
    radius = jnp.floor(jnp.sqrt(search.accepted / np.pi)).astype(jnp.int32)
    return jnp.where(search.accepted >= 5, jnp.minimum(radius, min(sac.shape[:2]) // 2), 0)
