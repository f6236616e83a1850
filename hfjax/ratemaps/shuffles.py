"""Controls for grid scores: low-pass noise maps, and the share of them above a threshold."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hfjax import check
from hfjax.ratemaps.arrays import both_axes
from hfjax.ratemaps.maps import NumBins, bins_along_axes
from hfjax.ratemaps.ring_score import GRID_SCORE_THRESHOLDS, GridScores, grid_scores
from hfjax.task import Metric

SCORE = Metric(
    "median grid score",
    better="higher",
    panel="Grid scores",
    measure="score, from -2 to 2",
    series="median",
)


def low_pass_noise_maps(
    key: jax.Array, *, num_units: int, num_bins: NumBins, sigma_bins: float = 2.0
) -> jax.Array:
    """Maps without structure except smoothness: low-pass filtered white Gaussian noise.

    The control for every count of grid cells: many such maps have a high grid score by chance. The
    filter is a Gaussian. The noise is drawn on a larger field and cut, so that the edges have the
    same statistics as the middle. Each bin has mean 0 and variance 1.

    num_bins: along each axis, or along (x, y) -> [unit, x, y]. Raises ValueError if a size is below
    1 or sigma_bins is not above 0.
    """
    check.at_least(1, num_units=num_units)
    check.positive(sigma_bins=sigma_bins)
    shape = bins_along_axes(num_bins)
    pad = int(np.ceil(4 * sigma_bins))
    noise = jax.random.normal(key, (num_units, *(n + 2 * pad for n in shape)))
    kernels = []
    for n in shape:
        offset = np.arange(n + 2 * pad) - np.arange(n)[:, None] - pad
        kernel = np.exp(-(offset**2) / (2 * sigma_bins**2))
        kernel /= np.sqrt(np.sum(kernel**2, axis=1, keepdims=True))
        kernels.append(jnp.asarray(kernel, noise.dtype))
    return both_axes(kernels[0], noise, kernels[1])


def share_metrics(what: str) -> dict[str, Metric]:
    """What the `shares` of `noise_control` mean, of `what`: units or maps."""
    metrics = {}
    for threshold in GRID_SCORE_THRESHOLDS:
        name = f"grid_share_above_{threshold}"
        metrics[name] = Metric(
            f"grid score above {threshold}",
            f"% of {what}",
            better="higher",
            panel=f"Share of {what} above a grid score",
            series=f"above {threshold}",
        )
        metrics[f"noise_share_above_{threshold}"] = Metric(
            "smooth noise", f"% of {what}", role="control", of=name
        )
    return metrics


class NoiseControl(NamedTuple):
    """Grid scores of maps [unit] and of noise maps [noise map], and shares of them by name."""

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
    """Grid scores of maps beside those of low-pass noise maps of the same size.

    For each threshold t, `shares` has the share of maps ("grid_share_above_t") and of noise maps
    ("noise_share_above_t") with a score_60 above t.

    maps [unit, x, y]; sigma_bins as in `low_pass_noise_maps` -> NoiseControl.
    Raises ValueError if num_noise_maps is below 1 or sigma_bins is not above 0.
    """
    num_units, num_x, num_y = maps.shape
    noise = low_pass_noise_maps(
        key, num_units=num_noise_maps, num_bins=(num_x, num_y), sigma_bins=sigma_bins
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
