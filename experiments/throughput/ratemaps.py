"""Rate maps and grid scores of a population, against SciPy's way, unit by unit."""

from functools import partial

import jax
import numpy as np
import scipy.ndimage
import scipy.signal

from experiments.throughput.core import Row, Section, medians_ms
from hfjax import ratemaps

NUM_SAMPLES, NUM_BINS, NUM_SCIPY = 4000, 32, 32
EXTENT = ((0.0, 1.0), (0.0, 1.0))


def scipy_grid_score(rate_map: np.ndarray) -> float:
    """The 60-degree ring score of one map as the field's scorers compute it."""
    n = len(rate_map)
    ones = np.ones_like(rate_map)
    count = scipy.signal.convolve2d(ones, ones)
    total, square = (scipy.signal.convolve2d(ones, f) / count for f in (rate_map, rate_map**2))
    product = scipy.signal.correlate2d(rate_map, rate_map) / count
    std = np.sqrt(np.maximum(square - total**2, 1e-12))
    sac = (product - total * total[::-1, ::-1]) / (std * std[::-1, ::-1])
    lag = np.arange(1 - n, n)
    radius = np.hypot(lag[:, None], lag)
    turned = [
        scipy.ndimage.rotate(sac, angle, reshape=False) for angle in (30, 45, 60, 90, 120, 135, 150)
    ]
    scores = []
    for outer in ratemaps.RING_OUTER:
        ring = (radius > ratemaps.RING_INNER * n) & (radius <= outer * n)
        ours = sac[ring] - sac[ring].mean()
        c = [np.mean(ours * other[ring]) / (np.mean(ours**2) + 1e-5) for other in turned]
        scores.append((c[2] + c[4]) / 2 - (c[0] + c[3] + c[6]) / 3)
    return float(max(scores))


def scoring(repeats: int, quick: bool) -> list[Row]:
    """Rate maps, ring scores and Moser scores."""
    num_units, num_scipy = (16, 2) if quick else (4096, NUM_SCIPY)
    keys = jax.random.split(jax.random.key(3), 3)
    maps = ratemaps.low_pass_noise_maps(keys[0], num_units=num_units, num_bins=NUM_BINS)
    positions = jax.random.uniform(keys[1], (NUM_SAMPLES, 2))
    activity = jax.random.normal(keys[2], (NUM_SAMPLES, num_units))
    mean = jax.jit(partial(ratemaps.rate_maps, num_bins=NUM_BINS, extent=EXTENT))
    rings, circles = jax.jit(ratemaps.grid_scores), jax.jit(ratemaps.moser_grid_scores)
    some = np.asarray(maps[:num_scipy], np.float64)
    times = medians_ms(
        {
            "mean": lambda: mean(positions, activity),
            "rings": lambda: rings(maps),
            "circles": lambda: circles(maps),
            "scipy": lambda: [scipy_grid_score(rate_map) for rate_map in some],
        },
        repeats,
    )
    scipy_ms = times["scipy"] * num_units / num_scipy
    size = f"{num_units} maps of {NUM_BINS} x {NUM_BINS}"
    return [
        Row(f"rate maps of {num_units} units, {NUM_SAMPLES} samples", times["mean"]),
        Row(f"grid_scores, {size}", times["rings"]),
        Row(
            "the same by SciPy, unit by unit",
            scipy_ms,
            f"{scipy_ms / times['rings']:.0f} x (scaled up from {num_scipy} units)",
        ),
        Row(f"moser_grid_scores, {size}", times["circles"]),
    ]


SECTIONS = {"scoring": Section(scoring, 3)}
