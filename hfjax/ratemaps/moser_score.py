"""Grid scores by expanding circles around the central field of the autocorrelogram."""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hfjax.ratemaps.arrays import floating, matmul, over_blocks
from hfjax.ratemaps.autocorrelogram import block_autocorrelograms, linear_weights, rotation_taps
from hfjax.ratemaps.morphology import flood, grown, over_neighbours

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
    maps = floating(maps)
    chex.assert_rank(maps, 3)
    if maps.shape[1] != maps.shape[2] or maps.shape[1] < 8:
        raise ValueError(f"maps must be square with at least 8 bins, but are {maps.shape[1:]}")
    num_bins = maps.shape[1]
    size = 2 * (round(1.8 * num_bins) // 2) + 1
    size = size - 2 if size > round(1.8 * num_bins) else size
    edge = size // 2  # the largest radius, and the index of the centre
    cut = slice(num_bins - 1 - edge, num_bins + edge)

    pixels, inside, upto, radii = _circles(edge)
    taps, weights = rotation_taps(pixels, size, MOSER_ANGLES, linear_weights)
    weights_t = jnp.asarray(weights[..., None], maps.dtype)
    masks = jnp.asarray(np.concatenate([inside, upto]), maps.dtype)
    num_radii = radii.shape[1]

    def score(block: jax.Array) -> MoserScores:
        sac = jnp.moveaxis(block_autocorrelograms(block, FAINTEST)[:, cut, cut], 0, -1)
        central = _central_radius(sac)
        flat = sac.reshape(size**2, -1)
        straight = flat[pixels[:, 0] * size + pixels[:, 1]]
        turned = jnp.sum(flat[taps] * weights_t, axis=2)  # [angle, pixel, unit]
        spread = jnp.broadcast_to(straight[None], turned.shape)
        sums = matmul(
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

    return over_blocks(score, maps)


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
    eroded = jnp.minimum(sac, over_neighbours(jnp.minimum, sac, jnp.inf))
    level = flood(eroded, lambda x: jnp.minimum(grown(x, diagonal=True), sac))
    peak = level[edge, edge]
    level = level / jnp.where(peak > 0, peak, 1)[None, None]
    low = jnp.where(level >= 0.19, level, -1)  # below the last threshold nothing counts
    marker = jnp.full_like(low, -1).at[edge, edge].set(1)
    reach = flood(marker, lambda x: jnp.minimum(grown(x), low))
    frame = jnp.full_like(reach, 2).at[1:-1, 1:-1].set(0)
    frame = jnp.where(frame > 0, reach, 2)
    ring = flood(
        frame,
        lambda x: jnp.maximum(jnp.minimum(x, over_neighbours(jnp.minimum, x, 2.0)), reach),
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
