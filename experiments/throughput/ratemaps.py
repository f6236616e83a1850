"""Rate maps, grid scores and shuffles of a population, against SciPy and opexebo, one by one.

opexebo is timed where it is installed. Version 0.7.2 needs numpy < 2.4: `pip install opexebo
"numpy<2.4"` in an environment of its own.
"""

import importlib.util
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage
import scipy.signal

from experiments.throughput.core import Row, Section, medians_ms
from hfjax import ratemaps

NUM_SAMPLES, NUM_BINS, NUM_SCIPY = 4000, 32, 32
EXTENT = ((0.0, 1.0), (0.0, 1.0))
ARENA = (2.4, 1.45)  # m


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


def simulated_cell(num_samples: int) -> tuple[np.ndarray, np.ndarray]:
    """A walk [sample, 2] at 50 Hz in 2.4 m x 1.45 m, and the samples of a grid cell's spikes."""
    rng = np.random.default_rng(0)
    step = scipy.ndimage.gaussian_filter1d(rng.normal(size=(num_samples, 2)), 25, axis=0)
    path = np.mod(np.cumsum(0.004 * step / step.std(), axis=0), 2 * np.asarray(ARENA))
    path = np.where(path > ARENA, 2 * np.asarray(ARENA) - path, path)
    angles = np.radians([-20, 40, 100])
    waves = path @ np.stack([np.cos(angles), np.sin(angles)]) * 4 * np.pi / np.sqrt(3) / 0.5
    rate_hz = 12 * np.exp(4 * (np.cos(waves).sum(axis=1) / 3 - 1))
    return path, np.repeat(np.arange(num_samples), rng.poisson(rate_hz / 50)).astype(np.int32)


def scipy_recording_score(
    bins: np.ndarray, samples: np.ndarray, time_s: np.ndarray, convolve: Callable
) -> float:
    """`recording_grid_scores` of one spike train in SciPy's way, with rotations of the map.

    convolve: scipy.signal.fftconvolve or convolve2d.
    """
    blur = partial(scipy.ndimage.gaussian_filter, sigma=1.5, mode="constant")
    spikes = np.bincount(bins[samples], minlength=time_s.size).reshape(time_s.shape)
    smooth = blur(time_s)
    mask = (smooth >= 0.02).astype(float)
    rate = np.where(mask > 0, blur(spikes.astype(float)) / np.maximum(smooth, 0.02), 0)
    rate = mask * (rate - rate.sum() / mask.sum())
    flip = (slice(None, None, -1),) * 2
    overlap = partial(convolve, in2=mask[flip])
    n = np.rint(overlap(mask))
    known, n = n >= 20, np.maximum(n, 1)
    mean, square = overlap(rate) / n, overlap(rate**2) / n
    variance = np.maximum(square - mean**2, 1e-12)
    product = convolve(rate, rate[flip]) / n - mean * mean[flip]
    sac = np.where(known, product / np.sqrt(variance * variance[flip]), 0)
    side = max(sac.shape)
    pad = [((side - size) // 2,) * 2 for size in sac.shape]
    sac, known = np.pad(sac, pad), np.pad(known, pad)
    turned = [scipy.ndimage.rotate(sac, a, reshape=False, order=1) for a in range(30, 151, 30)]
    label, _ = scipy.ndimage.label(sac > 0.2)
    central = np.sqrt(np.sum(label == label[side // 2, side // 2]) / np.pi)
    radius = np.hypot(*(np.indices(sac.shape) - side // 2))
    scores = [-2.0]
    for outer in range(int(1.5 * central) + 1, int(min(6 * central, min(time_s.shape) - 1))):
        ring = known & (radius >= central) & (radius <= outer)
        c = [np.corrcoef(sac[ring], other[ring])[0, 1] for other in turned]
        scores.append(min(c[1], c[3]) - max(c[0], c[2], c[4]))
    return max(scores)


def opexebo_score(bins: np.ndarray, samples: np.ndarray, time_s: np.ndarray) -> float:
    """opexebo's grid score of one spike train: rates, smoothing, autocorrelogram, score."""
    from opexebo import analysis, general

    spikes = np.bincount(bins[samples], minlength=time_s.size).reshape(time_s.shape)
    rates = np.ma.masked_where(time_s == 0, spikes / np.maximum(time_s, 1e-9))
    smooth = general.smooth(rates, 1.5)
    return analysis.grid_score(analysis.autocorrelation(smooth))[0]


def shuffling(repeats: int, quick: bool) -> list[Row]:
    """Circular shuffles of the grid score of one cell of 30 minutes, bins of 3 cm."""
    num_shuffles, num_scipy = (8, 2) if quick else (1000, 10)
    num_samples = 4000 if quick else 90_000
    path, samples = simulated_cell(num_samples)
    num_bins, extent = ratemaps.bins_of(((0, ARENA[0]), (0, ARENA[1])), 0.03)
    bins = ratemaps.position_bins(jnp.asarray(path), num_bins=num_bins, extent=extent)
    time_s = ratemaps.occupancy(bins, 0.02, num_bins=num_bins)
    some = np.random.default_rng(1).integers(1000, num_samples - 1000, num_scipy)
    shifts = ratemaps.random_shifts(
        jax.random.key(0),
        num_units=1,
        num_shuffles=num_shuffles,
        num_samples=num_samples,
        min_shift=1000,
    )

    def score(trains: jax.Array) -> jax.Array:
        spikes = ratemaps.spike_maps(trains, bins, num_bins=num_bins)
        return ratemaps.recording_grid_scores(ratemaps.firing_rate_maps(spikes, time_s)).score

    shuffles = jax.jit(partial(ratemaps.shuffled_scores, score, num_samples=num_samples))
    flat, seconds = np.asarray(bins), np.asarray(time_s, np.float64)
    others: dict[str, Callable] = {
        "SciPy, Fourier transforms": partial(
            scipy_recording_score, convolve=scipy.signal.fftconvolve
        ),
        "SciPy, convolve2d": partial(scipy_recording_score, convolve=scipy.signal.convolve2d),
    }
    if importlib.util.find_spec("opexebo"):
        others["opexebo's grid_score"] = opexebo_score

    def one_by_one(score_of: Callable) -> list[float]:
        return [score_of(flat, (samples + k) % num_samples, seconds) for k in some]

    times = medians_ms(
        {"shuffles": lambda: shuffles(samples[None], shifts)}
        | {name: partial(one_by_one, other) for name, other in others.items()},
        repeats,
    )
    size = f"{num_bins[0]} x {num_bins[1]} bins"
    rows = [
        Row(f"{num_shuffles} shuffles of the grid score of one cell, {size}", times["shuffles"])
    ]
    for name in others:
        ms = times[name] * num_shuffles / num_scipy
        ratio = ms / times["shuffles"]
        remark = f"{ratio:.0f} x (scaled up from {num_scipy} shuffles)"
        rows.append(Row(f"the same by {name}, one by one", ms, remark))
    return rows


SECTIONS = {"scoring": Section(scoring, 3), "shuffling": Section(shuffling, 3)}
