"""Controls: maps without spatial structure, and scores beside theirs."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hfjax import check
from hfjax.ratemaps.arrays import both_axes
from hfjax.ratemaps.ring_score import GRID_SCORE_THRESHOLDS, GridScores, grid_scores


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
    return both_axes(k, noise, k)


class NoiseControl(NamedTuple):
    """Grid scores of maps beside those of low-pass noise, see `noise_control`."""

    scores: GridScores
    noise_scores: GridScores
    shares: dict[str, jax.Array]


def noise_control(
    maps: jax.Array,
    key: jax.Array,
    *,
    num_noise_maps: int,
    sigma_bins: float = 2.0,
    thresholds: Sequence[float] = GRID_SCORE_THRESHOLDS,
) -> NoiseControl:
    """Grid scores of maps, and of as many low-pass noise maps as wanted, with the shares above.

    maps [unit, x, y], square. -> NoiseControl: the `grid_scores` of the maps [unit] and of the
    noise maps [noise map]; shares: for each threshold t the share of maps ("grid_share_above_t")
    and of noise maps ("noise_share_above_t") whose score_60 is above it.
    """
    num_units, num_bins = maps.shape[:2]
    noise = low_pass_noise_maps(
        key, num_units=num_noise_maps, num_bins=num_bins, sigma_bins=sigma_bins
    )
    both = grid_scores(jnp.concatenate([maps, noise]))
    scores = GridScores(*(x[:num_units] for x in both))
    noise_scores = GridScores(*(x[num_units:] for x in both))
    shares = {
        f"{name}_share_above_{threshold}": jnp.mean(values.score_60 > threshold)
        for threshold in thresholds
        for name, values in (("grid", scores), ("noise", noise_scores))
    }
    return NoiseControl(scores, noise_scores, shares)
