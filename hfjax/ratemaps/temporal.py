"""Tuning in time: to the animal's speed, and to the theta rhythm."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from hfjax import check
from hfjax.ratemaps.arrays import floating
from hfjax.ratemaps.map_statistics import map_correlations
from hfjax.ratemaps.spikes import Samples, spikes_by_bin

TROUGH_S, PEAK_S = (0.05, 0.07), (0.1, 0.14)  # lags of half a theta cycle and of a whole one
THETA_HZ = (5.0, 11.0)


def speed_scores(
    samples: Samples,
    speeds_m_s: jax.Array,
    *,
    dt_s: float,
    sigma_s: float = 0.25,
    min_speed_m_s: float = 0.02,
) -> jax.Array:
    """Speed score: Pearson's correlation of speed and smoothed firing rate over time: [unit].

    The spike counts of the samples are smoothed with a Gaussian of sigma_s (s). Samples with a
    speed below min_speed_m_s or NaN are left out of the correlation.

    samples [unit, spike] as from `spike_samples`; speeds_m_s [sample] (m/s), smoothed as you like;
    dt_s: the duration of a sample (s). NaN for a silent unit.
    Raises ValueError if a number is out of its range.
    Source: Kropff et al. 2015; opexebo's speed_score["2016"] is the same, except that it also
    smooths the speed and has a sigma of .5 s.
    """
    check.positive(dt_s=dt_s, sigma_s=sigma_s)
    check.not_negative(min_speed_m_s=min_speed_m_s)
    speeds = floating(speeds_m_s)
    chex.assert_rank(speeds, 1)
    num_samples = len(speeds)
    counts = spikes_by_bin(samples, jnp.arange(num_samples), num_samples)
    rates = _smoothed(counts, sigma_s / dt_s)
    speeds = jnp.where(speeds >= min_speed_m_s, speeds, jnp.nan)
    return map_correlations(rates, jnp.broadcast_to(speeds[None], rates.shape))


def _smoothed(series: jax.Array, sigma: float) -> jax.Array:
    """Series [unit, sample] convolved with a Gaussian of sum 1; 0 before and after."""
    far = int(np.ceil(4 * sigma))
    g = np.exp(-(np.arange(-far, far + 1) ** 2) / (2 * sigma**2))
    kernel = jnp.asarray(g / g.sum(), series.dtype)
    return jax.vmap(lambda x: jnp.convolve(x, kernel, mode="same"))(
        jnp.pad(series, ((0, 0), (far, far)))
    )[:, far : far + series.shape[1]]


def spike_autocorrelogram(
    spike_times_s: np.ndarray, *, bin_width_s: float = 0.005, max_lag_s: float = 0.5
) -> np.ndarray:
    """How many pairs of a unit's spikes are a lag apart: [lag].

    spike_times_s [spike] (s), in any order. Bin k counts pairs with a lag from k to k + 1
    bin_width_s, up to max_lag_s. On the host, as times need float64.
    Raises ValueError if a width is not positive or a time not finite.
    """
    check.positive(bin_width_s=bin_width_s, max_lag_s=max_lag_s)
    times = np.sort(np.asarray(spike_times_s, np.float64))
    if not np.all(np.isfinite(times)):
        raise ValueError("spike_times_s must be finite")
    num_lags = round(max_lag_s / bin_width_s)
    counts = np.zeros(num_lags, np.int64)
    for step in range(1, len(times)):
        # 1e-6 of a bin: a lag of exactly k bins belongs to bin k.
        lag = np.floor((times[step:] - times[:-step]) / bin_width_s + 1e-6).astype(np.int64)
        near = lag[lag < num_lags]
        if not len(near):
            break
        counts += np.bincount(near, minlength=num_lags)
    return counts


class ThetaModulation(NamedTuple):
    """Three measures [unit] of theta in a spike train's autocorrelogram.

    contrast: (b - a)/(b + a), a the mean at lags of 50 to 70 ms, b at 100 to 140 ms; -1 to 1.
    strength: mean power within 1 Hz of the highest peak at 5 to 11 Hz, over the mean power of 1 to
    50 Hz; theta cells have 3 to 5 and more. frequency_hz: of that peak.
    """

    contrast: jax.Array
    strength: jax.Array
    frequency_hz: jax.Array


def theta_modulation(autocorrelograms: jax.Array, *, bin_width_s: float = 0.005) -> ThetaModulation:
    """Theta modulation from spike autocorrelograms.

    autocorrelograms [unit, lag] as from `spike_autocorrelogram` -> ThetaModulation. The spectrum is
    that of the two-sided autocorrelogram less its mean, under a Hann window, at steps of .125 Hz.
    NaN where there are no pairs.
    Raises ValueError if bin_width_s is not positive or the lags do not reach 140 ms.
    Source: contrast: Cacucci et al. 2004; opexebo's theta_modulation_index, which sums bins (16 for
    the peak, 8 for the trough, so that a flat train has 1/3) where this is a mean. strength, the
    theta index: Boccara et al. 2010 and Yartsev et al. 2011, with thresholds of 3 and 5.
    """
    check.positive(bin_width_s=bin_width_s)
    counts = floating(autocorrelograms)
    chex.assert_rank(counts, 2)
    if counts.shape[1] * bin_width_s < PEAK_S[1]:
        raise ValueError(f"autocorrelograms must reach lags of {PEAK_S[1]} s, but do not")
    lag = (np.arange(counts.shape[1]) + 0.5) * bin_width_s
    a, b = (
        jnp.mean(counts[:, (lag > low) & (lag < high)], axis=1) for low, high in (TROUGH_S, PEAK_S)
    )
    contrast = jnp.where(a + b > 0, (b - a) / jnp.where(a + b > 0, a + b, 1), jnp.nan)
    frequency = np.arange(1, 50, 0.125)
    # The bin of lag 0 is full of bursts and refractory time; the two sides are symmetric.
    window = 0.5 + 0.5 * np.cos(np.pi * lag / lag[-1])
    waves = np.cos(2 * np.pi * lag[:, None] * frequency) * window[:, None]
    mean = jnp.sum(counts * jnp.asarray(window, counts.dtype)[None], axis=1, keepdims=True)
    centred = counts - mean / window.sum()
    power = jnp.matmul(centred, jnp.asarray(waves, counts.dtype), precision="highest") ** 2
    theta = (frequency >= THETA_HZ[0]) & (frequency <= THETA_HZ[1])
    best = jnp.argmax(jnp.where(jnp.asarray(theta)[None], power, -1), axis=1)
    peak_hz = jnp.asarray(frequency, counts.dtype)[best]
    near = jnp.abs(jnp.asarray(frequency, counts.dtype)[None] - peak_hz[:, None]) <= 1
    whole = jnp.mean(power, axis=1)
    defined = whole > 0
    strength = jnp.mean(power, axis=1, where=near) / jnp.where(defined, whole, 1)
    strength, peak_hz = (jnp.where(defined, x, jnp.nan) for x in (strength, peak_hz))
    return ThetaModulation(contrast, strength, peak_hz)
