"""The grid score that holds on recordings, and the lattice from the six nearest peaks."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hfjax.ratemaps.arrays import floating_maps, outermost, over_blocks, wrapped
from hfjax.ratemaps.autocorrelogram import recording_autocorrelograms, recording_half_plane
from hfjax.ratemaps.geometry import peaks, three_nearest

FIELD_LEVEL = 0.2  # the autocorrelogram at the edge of its central field
ANGLES = 60  # of half a turn: 3 degrees each, and 30 degrees are whole steps
OUTER = (1.5, 6.0)  # the annuli's outer radii, in radii of the central field
MAX_ASPECT = 1.5  # a longer ellipse is no distorted hexagon
PEAK_DISTANCE = (1.5, 6.0)  # where the six peaks are looked for, in the same unit


class RecordingScores(NamedTuple):
    """Grid score, and the annulus that gave it: its inner and outer radius in bins; all [unit]."""

    score: jax.Array
    central_radius: jax.Array
    outer_radius: jax.Array


class Lattice(NamedTuple):
    """The lattice of each unit, from the six peaks nearest to the autocorrelogram's centre.

    spacing [unit]: median distance of the peaks (m). orientation [unit]: their mean direction
    modulo 60 degrees (rad, in [0, pi/3), from the x axis towards the y axis). axes [unit, 3, 2]:
    three of the peaks (m); the others are opposite. Of the ellipse through the peaks: aspect
    [unit], its longer over its shorter axis, 1 or more, and direction [unit] of the longer one
    (rad, in [0, pi)).
    """

    spacing: jax.Array
    orientation: jax.Array
    axes: jax.Array
    aspect: jax.Array
    direction: jax.Array


def recording_grid_scores(
    maps: jax.Array, *, min_overlap: int = 20, correct_ellipse: bool = False
) -> RecordingScores:
    """Grid score of maps of any rectangle with gaps: growing annuli around the central field.

    With c(a) the Pearson correlation, over an annulus, of the autocorrelogram with itself rotated
    by a degrees,

        score = max over annuli of min[c(60), c(120)] - max[c(30), c(90), c(150)].

    The annuli begin at the radius R of the central field, that of a disc of its area, and end at
    each whole number of bins from 1.5 R to 6 R, which contains the six nearest fields even of
    sparse grids. The field ends on each ray where the autocorrelogram falls below .2. No radius
    depends on the size of the arena, except that none exceeds its shorter side, from the first
    visited row or column to the last.

    The autocorrelogram is that of `recording_autocorrelograms`: visited bins only, at least
    min_overlap of them. It is read on a polar grid of whole bins and 3 degrees (linear
    interpolation), on which a rotation is a shift; rings count in proportion to their radius. A
    pair of points counts where both are known, an annulus where half of its pairs count. As the
    autocorrelogram is symmetric, c(120) = c(60) and c(150) = c(30).

    correct_ellipse: first stretch the ellipse through the six nearest peaks to a circle of the same
    area; without six peaks, or where the ellipse is longer than 1.5 times its width, nothing is
    corrected.

    maps [unit, x, y], not finite where unvisited, bins square -> RecordingScores; NaN for a unit
    without a complete annulus, such as a silent one or a field as large as the arena.
    Source: Sargolini et al. 2006 and Langston et al. 2010 (growing annuli, min - max); Hafting et
    al. 2005 (visited bins only); Brandon et al. 2011 (the ellipse). No package computes exactly
    this. `moser_grid_scores` is opexebo's grid_score, `grid_scores` that of DeepMind and of
    Ganguli's group.
    """
    block = partial(_block_scores, min_overlap=min_overlap, correct_ellipse=correct_ellipse)
    return over_blocks(block, floating_maps(maps))


def recording_lattice(maps: jax.Array, *, bin_width_m: float, min_overlap: int = 20) -> Lattice:
    """Spacing, orientation, axes and ellipse of each unit's grid, from maps with gaps.

    The peaks are local maxima (of 3 x 3 bins, above 0.1, all eight neighbours known) of the
    autocorrelogram of `recording_autocorrelograms`, from 1.5 to 6 radii of its central field (see
    `recording_grid_scores`), interpolated by a parabola along each axis. The nearest is chosen,
    then twice the nearest at least 30 degrees from those already chosen; as r(-d) = r(d), three
    peaks stand for six. The ellipse d^T E d = 1 goes through all six.

    maps [unit, x, y], not finite where unvisited; bin_width_m (m) -> Lattice, NaN for a unit with
    fewer peaks, and an ellipse of NaN where the conic through them is a hyperbola.
    Source: Hafting et al. 2005, methods; Krupic et al. 2015 (the ellipse).
    """
    block = partial(_block_lattice, bin_width_m=bin_width_m, min_overlap=min_overlap)
    return over_blocks(block, floating_maps(maps))


def _block_scores(maps: jax.Array, *, min_overlap: int, correct_ellipse: bool) -> RecordingScores:
    """`recording_grid_scores` of one block."""
    ends = outermost(jnp.isfinite(maps))
    side = jnp.min(ends[..., 1] - ends[..., 0], axis=1) + 1
    if not correct_ellipse:
        far = min(maps.shape[1:]) - 1
        half = recording_half_plane(maps, (far, far), min_overlap=min_overlap)
        return _annulus_scores(_rings(half), side)
    sac = recording_autocorrelograms(maps, min_overlap=min_overlap)
    axes = _axes(sac, _central_radius(_rings(_half_of(sac))))
    return _annulus_scores(_stretched_rings(sac, _to_ellipse(*_ellipse(axes))), side)


def _block_lattice(maps: jax.Array, *, bin_width_m: float, min_overlap: int) -> Lattice:
    """`recording_lattice` of one block."""
    sac = recording_autocorrelograms(maps, min_overlap=min_overlap)
    axes = _axes(sac, _central_radius(_rings(_half_of(sac)))) * bin_width_m
    theta = jnp.arctan2(axes[..., 1], axes[..., 0])
    mean_6 = jnp.arctan2(jnp.mean(jnp.sin(6 * theta), 1), jnp.mean(jnp.cos(6 * theta), 1))
    spacing = jnp.median(jnp.hypot(axes[..., 0], axes[..., 1]), axis=1)
    aspect, direction = _ellipse(axes)
    return Lattice(spacing, wrapped(mean_6 / 6, np.pi / 3), axes, aspect, direction)


# --- The polar grid: [radius, angle, unit], so that what is read together lies together ---


def _half_of(sac: jax.Array) -> jax.Array:
    """Of autocorrelograms [unit, 2x-1, 2y-1], the shifts up to the shorter side with d_y >= 0."""
    num_x, num_y = ((n + 1) // 2 for n in sac.shape[1:])
    far = min(num_x, num_y) - 1
    return sac[:, num_x - 1 - far : num_x + far, num_y - 1 : num_y + far]


def _points(far: int) -> np.ndarray:
    """The points of the polar grid: radii of 1, 2 ... far bins, half a turn: [2, radius, angle]."""
    theta = np.pi / ANGLES * np.arange(ANGLES)
    # Exact 0 and 1 at 90 degrees: a rotated arena gives the same numbers.
    unit = np.round(np.stack([np.cos(theta), np.sin(theta)]), 15)
    return unit[:, None] * np.arange(1, far + 1)[:, None]


def _rings(half: jax.Array) -> jax.Array:
    """Half planes [unit, 2 far + 1, far + 1] on the polar grid; NaN where unknown."""
    far = half.shape[2] - 1
    x, y = jnp.asarray(_points(far), half.dtype)[..., None]
    return _interpolated(half, x + far, y)


def _stretched_rings(sac: jax.Array, matrix: jax.Array) -> jax.Array:
    """Autocorrelograms [unit, 2x-1, 2y-1] on the polar grid, each point d read at matrix d.

    matrix [unit, 2, 2].
    """
    num_x, num_y = ((n + 1) // 2 for n in sac.shape[1:])
    points = jnp.asarray(_points(min(num_x, num_y) - 1), sac.dtype)
    x, y = jnp.einsum("uij,jra->irau", matrix, points, precision=lax.Precision.HIGHEST)
    return _interpolated(sac, x + num_x - 1, y + num_y - 1)


def _interpolated(maps: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    """Linear interpolation of maps [unit, x, y] at x and y [..., 1 or unit] (bins) -> [..., unit].

    NaN outside, and where a bin that counts is not finite.
    """
    num_x, num_y = maps.shape[1:]
    i, j = (jnp.floor(a) for a in (x, y))
    flat = maps.reshape(len(maps), -1).T
    total = jnp.zeros((1,) * x.ndim, maps.dtype)
    for di in (0, 1):
        for dj in (0, 1):
            p, q = (i + di).astype(jnp.int32), (j + dj).astype(jnp.int32)
            weight = (1 - jnp.abs(x - p)) * (1 - jnp.abs(y - q))
            index = jnp.clip(p, 0, num_x - 1) * num_y + jnp.clip(q, 0, num_y - 1)
            inside = (p >= 0) & (p < num_x) & (q >= 0) & (q < num_y)
            value = _at(flat, index)
            # A bin next to a point on the grid's line counts by rounding only.
            counts = weight > 1e-4
            total = total + jnp.where(counts, jnp.where(inside, value, jnp.nan) * weight, 0)
    return total


def _at(flat: jax.Array, index: jax.Array) -> jax.Array:
    """Values of [bin, unit] at indices [..., 1 or unit] -> [..., unit]."""
    if index.shape[-1] == 1:
        return flat[index[..., 0]]
    return jax.vmap(lambda values, at: values[at], (-1, -1), -1)(flat, index)


def _central_radius(rings: jax.Array) -> jax.Array:
    """The radius (bins) of the disc with the area of the central field: -> [unit].

    On each ray the field ends where the autocorrelogram falls below FIELD_LEVEL, between two bins
    by linear interpolation, or at the last bin.
    """
    inner = jnp.concatenate([jnp.ones_like(rings[:1]), rings])  # radius 0, 1 ...
    below = ~(inner >= FIELD_LEVEL)
    ends = jnp.any(below, axis=0)
    at = jnp.where(ends, jnp.argmax(below, axis=0), len(rings))[None]
    high, low = (jnp.take_along_axis(inner, at - k, axis=0)[0] for k in (1, 0))
    part = (high - FIELD_LEVEL) / jnp.maximum(high - low, 1e-6)
    radius = at[0] - 1 + jnp.where(ends & jnp.isfinite(part), part, 1)
    return jnp.sqrt(jnp.mean(radius**2, axis=0))


def _annulus_scores(rings: jax.Array, side: jax.Array) -> RecordingScores:
    """The best annulus of autocorrelograms on a polar grid [radius, angle, unit].

    side [unit]: the shorter side of the arena (bins).
    """
    central = _central_radius(rings)
    radius = jnp.arange(1, len(rings) + 1, dtype=rings.dtype)[:, None]
    outside = (radius >= central[None]).astype(rings.dtype)
    # A loop, so that XLA computes the rings once and not anew in each of the sums.
    turns = ANGLES // 6 * jnp.arange(1, 4)
    c_30, c_60, c_90 = lax.map(lambda turn: _correlations(rings, turn, outside * radius), turns)
    g = c_60 - jnp.maximum(c_30, c_90)
    allowed = (radius >= OUTER[0] * central[None]) & (radius <= OUTER[1] * central[None])
    g = jnp.where(allowed & (radius < side[None]) & jnp.isfinite(g), g, -jnp.inf)
    best = jnp.max(g, axis=0)
    found = jnp.isfinite(best)
    outer = jnp.where(found, jnp.argmax(g, axis=0) + 1, jnp.nan)
    return RecordingScores(jnp.where(found, best, jnp.nan), central, outer)


def _correlations(rings: jax.Array, turn: jax.Array, weight: jax.Array) -> jax.Array:
    """Pearson's correlation of rings with themselves turned by so many angles.

    rings [radius, angle, unit]; weight [radius, unit]: the radius, from the central field on
    -> [radius, unit], over all rings up to each radius; NaN where fewer than half of the pairs are
    known.
    """
    turned = jnp.roll(rings, turn, axis=1)
    known = jnp.isfinite(rings) & jnp.isfinite(turned)
    f, g = jnp.where(known, rings, 0), jnp.where(known, turned, 0)
    terms = (known.astype(f.dtype), f, g, f**2, g**2, f * g)
    sums = jnp.stack([jnp.mean(a, axis=1) for a in terms])
    w, s, t, ss, tt, st = jnp.cumsum(sums * weight[None], axis=1)
    enough = (w > 0.5 * jnp.cumsum(weight, axis=0)) & (w > 0)
    w = jnp.where(enough, w, 1)
    power = (ss / w - (s / w) ** 2) * (tt / w - (t / w) ** 2)
    enough &= power > 1e-10
    return jnp.where(
        enough, (st / w - s * t / w**2) / jnp.sqrt(jnp.where(enough, power, 1)), jnp.nan
    )


# --- The lattice ---


def _axes(sac: jax.Array, central: jax.Array) -> jax.Array:
    """Three of the six nearest peaks [unit, 3, 2] (bins); NaN where there is none."""
    x, y, candidate = peaks(sac)
    r = jnp.hypot(x, y)
    low, high = (k * central[None] for k in PEAK_DISTANCE)
    return three_nearest(x, y, candidate & (r >= low) & (r <= high))


def _ellipse(axes: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Aspect and direction [unit] of the ellipse around 0 through three points [unit, 3, 2]."""
    x, y = axes[..., 0], axes[..., 1]
    size = jnp.mean(jnp.hypot(x, y), axis=1, keepdims=True)
    x, y = x / size, y / size
    rows = jnp.stack([x**2, 2 * x * y, y**2], axis=2)  # E_xx, E_xy, E_yy
    a, b, c = _cramer(rows)
    half_trace, split = (a + c) / 2, jnp.hypot((a - c) / 2, b)
    least = half_trace - split  # the eigenvalue of the longer axis
    aspect = jnp.sqrt((half_trace + split) / jnp.where(least > 0, least, jnp.nan))
    direction = wrapped(jnp.arctan2(-b, (c - a) / 2) / 2, np.pi)
    return aspect, jnp.where(jnp.isfinite(aspect), direction, jnp.nan)


def _cramer(rows: jax.Array) -> list[jax.Array]:
    """Solves rows [unit, 3, 3] z = (1, 1, 1) by Cramer's rule -> three arrays [unit]."""
    u, v, w = (rows[:, :, i] for i in range(3))
    ones = jnp.ones_like(u)

    def det(p: jax.Array, q: jax.Array, r: jax.Array) -> jax.Array:
        return jnp.sum(p * jnp.cross(q, r), axis=1)

    whole = det(u, v, w)
    whole = jnp.where(jnp.abs(whole) > 1e-6, whole, jnp.nan)
    return [det(ones, v, w) / whole, det(u, ones, w) / whole, det(u, v, ones) / whole]


def _to_ellipse(aspect: jax.Array, direction: jax.Array) -> jax.Array:
    """The matrix [unit, 2, 2] that maps a circle to the ellipse of the same area."""
    usable = aspect <= MAX_ASPECT
    stretch = jnp.sqrt(jnp.where(usable, aspect, 1))
    cos, sin = (f(jnp.where(usable, direction, 0)) for f in (jnp.cos, jnp.sin))
    along, across = stretch, 1 / stretch
    xx, yy = along * cos**2 + across * sin**2, along * sin**2 + across * cos**2
    xy = (along - across) * cos * sin
    return jnp.stack([jnp.stack([xx, xy], axis=1), jnp.stack([xy, yy], axis=1)], axis=1)
