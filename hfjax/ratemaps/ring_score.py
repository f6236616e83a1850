"""Grid scores by rings of the autocorrelogram."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hfjax.ratemaps.arrays import floating, matmul, over_blocks
from hfjax.ratemaps.autocorrelogram import (
    autocorrelograms,
    cubic_weights,
    rotation_taps,
    spline_prefilter,
)

RING_INNER = 0.2
RING_OUTER = tuple(float(r) for r in np.linspace(0.4, 1.0, 10))
GRID_SCORE_THRESHOLDS = (0.3, 0.37, 0.8)  # above which the field has counted grid cells


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
    maps = floating(maps)
    chex.assert_rank(maps, 3)
    if maps.shape[1] != maps.shape[2]:
        raise ValueError(f"maps must be square, but have shape {maps.shape[1:]}")
    num_bins = maps.shape[1]
    size = 2 * num_bins - 1
    pixels, rings = _ring_masks(num_bins, ring_inner, ring_outer)
    angles = (30, 45, 60, 90, 120, 135, 150)
    taps, weights = rotation_taps(pixels, size, angles, cubic_weights)
    prefilter = jnp.asarray(spline_prefilter(size), maps.dtype)
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
        mean = matmul(average, straight)
        variance = matmul(average, straight**2) - mean**2 + 1e-5
        product = matmul(average, turned * straight[None]) - mean[None] * matmul(average, turned)
        c = dict(zip(angles, product / variance[None], strict=True))
        score_60 = (c[60] + c[120]) / 2 - (c[30] + c[90] + c[150]) / 3
        score_90 = c[90] - (c[45] + c[135]) / 2
        return GridScores(
            jnp.max(score_60, axis=0),
            jnp.max(score_90, axis=0),
            jnp.argmax(score_60, axis=0),
            jnp.argmax(score_90, axis=0),
        )

    return over_blocks(score, maps)


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
