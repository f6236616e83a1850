"""Grid scores by rings of the autocorrelogram."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hfjax.ratemaps.arrays import floating_maps, matmul, over_blocks
from hfjax.ratemaps.autocorrelogram import (
    Autocorrelogram,
    autocorrelograms,
    cubic_weights,
    half_plane,
    rotation_taps,
    spline_prefilter,
)

RING_INNER = 0.2
RING_OUTER = tuple(float(r) for r in np.linspace(0.4, 1.0, 10))
GRID_SCORE_THRESHOLDS = (0.3, 0.37, 0.8)  # above which the field has counted grid cells
ROTATIONS = (30, 45, 60, 90, 120, 135, 150)  # degrees


class GridScores(NamedTuple):
    """Best score of each unit [unit], and the index of the ring that gave it [unit]."""

    score_60: jax.Array
    score_90: jax.Array
    ring_60: jax.Array
    ring_90: jax.Array


def grid_scores(
    maps: jax.Array,
    *,
    ring_inner: float = RING_INNER,
    ring_outer: Sequence[float] = RING_OUTER,
    autocorrelogram: Autocorrelogram = autocorrelograms,
) -> GridScores:
    """Grid scores by rings of the autocorrelogram: how hexagonal and how square a map is.

    With c(a) the correlation of a ring of the autocorrelogram with the same ring of the
    autocorrelogram rotated by a degrees,

        score_60 = [c(60) + c(120)]/2 - [c(30) + c(90) + c(150)]/3,
        score_90 = c(90) - [c(45) + c(135)]/2,

    each the best of ten rings, from radius 0.2 to 0.4 ... 1.0 times the width of the map (in an
    oblong map, the shorter one). Rotation is by cubic splines; values from outside the
    autocorrelogram are 0.

    maps [unit, x, y], bins square, not finite where unvisited -> GridScores of [unit] arrays.
    ring_inner, ring_outer: radii as a fraction of the (shorter) width of the map.
    autocorrelogram: `autocorrelograms` (unvisited bins count as 0, as in the original) or
    `masked_autocorrelograms`.

    Raises ValueError if a ring contains no bin.
    Source: GridScorer of Banino et al. 2018 and of Sorscher et al. 2019 (of square maps), with
    their ring masks and the rotation of scipy.ndimage.rotate(order=3, reshape=False). As there,
    1e-5 is added to the variance of a ring, which keeps flat rings at 0 (and slightly lowers the
    scores of faint ones). Equal to the original within 1e-4 in float32, with two exceptions:
    flanks below 1e-30 of the peak of a map are 0 in float32, while the original in float64 still
    correlates them; and a map that is constant but not 0 scores 0, where the original correlates
    rounding errors.
    """
    maps = floating_maps(maps)
    rings = _ring_tables(maps.shape[1:], ring_inner, ring_outer)
    return over_blocks(partial(_block_scores, rings=rings, autocorrelogram=autocorrelogram), maps)


class _RingTables(NamedTuple):
    """Constants of the rings, in float64 on the host.

    bins [pixel]: flat indices of the bins of all rings in the autocorrelogram [x, y].
    average [ring, pixel]: rows sum to 1, so that it averages over each ring.
    taps, weights [angle, pixel, tap]: reads of the rotations, see `rotation_taps`.
    prefilter [x, x] and [y, y]: from samples to spline coefficients.
    """

    bins: np.ndarray
    average: np.ndarray
    taps: np.ndarray
    weights: np.ndarray
    prefilter: list[np.ndarray]


def _ring_tables(shape: tuple[int, ...], inner: float, outer: Sequence[float]) -> _RingTables:
    """Tables for maps [x, y].

    An autocorrelogram and its rotated copies are symmetric about the centre, so that half of each
    ring is enough.
    """
    size = [2 * n - 1 for n in shape]
    num_bins = min(shape)
    half, radius = half_plane([n - 1 for n in shape])
    used = half & (radius > inner * num_bins) & (radius <= max(outer) * num_bins)
    pixels = np.argwhere(used)
    rings = np.stack([radius[used] <= r * num_bins for r in outer]).astype(np.float64)
    if not np.all(rings.any(axis=1)):
        raise ValueError(
            f"each ring must contain a bin, but with {num_bins} bins the rings from {inner} to "
            f"{tuple(outer)} do not"
        )
    taps, weights = rotation_taps(pixels, size, ROTATIONS, cubic_weights)
    return _RingTables(
        bins=pixels[:, 0] * size[1] + pixels[:, 1],
        average=rings / rings.sum(axis=1, keepdims=True),
        taps=taps,
        weights=weights,
        prefilter=[spline_prefilter(n) for n in size],
    )


def _block_scores(
    maps: jax.Array, *, rings: _RingTables, autocorrelogram: Autocorrelogram
) -> GridScores:
    """`grid_scores` of one block."""
    c = dict(zip(ROTATIONS, _ring_correlations(autocorrelogram(maps), rings), strict=True))
    score_60 = (c[60] + c[120]) / 2 - (c[30] + c[90] + c[150]) / 3
    score_90 = c[90] - (c[45] + c[135]) / 2
    return GridScores(
        jnp.max(score_60, axis=0),
        jnp.max(score_90, axis=0),
        jnp.argmax(score_60, axis=0),
        jnp.argmax(score_90, axis=0),
    )


def _ring_correlations(sac: jax.Array, rings: _RingTables) -> jax.Array:
    """Correlations of rings with rotated rings: [unit, x, y] -> [angle, ring, unit]."""
    average = jnp.asarray(rings.average, sac.dtype)
    along_x, along_y = (jnp.asarray(a, sac.dtype) for a in rings.prefilter)
    # Units go to the last axis: a gathered tap is then one contiguous row.
    sac = jnp.moveaxis(sac, 0, -1)
    coefficients = jnp.einsum(
        "ix,xyu,jy->iju", along_x, sac, along_y, precision=lax.Precision.HIGHEST
    ).reshape(-1, sac.shape[-1])
    straight = sac.reshape(-1, sac.shape[-1])[rings.bins]
    weights = jnp.asarray(rings.weights[..., None], sac.dtype)
    rotated = jnp.sum(coefficients[rings.taps] * weights, axis=2)  # [angle, pixel, unit]
    mean = matmul(average, straight)
    variance = matmul(average, straight**2) - mean**2 + 1e-5
    product = matmul(average, rotated * straight[None]) - mean[None] * matmul(average, rotated)
    return product / variance[None]
