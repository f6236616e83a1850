"""Maps of firing rate from spikes, and what they have in common with any curve over bins.

A spike train is the list of the tracking samples in which its spikes fell, [spike], and the trains
of several units are [unit, spike], filled up with the number of samples. So a recording costs four
bytes a spike, and a circular shift of a train is an addition (`shuffled_scores`).
"""

import math
from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hfjax import check
from hfjax.ratemaps.maps import NumBins, bins_along_axes, blurred

Samples = jax.Array | np.ndarray


def spike_samples(
    times_s: np.ndarray, spike_times_s: Sequence[np.ndarray], *, max_gap_s: float | None = None
) -> np.ndarray:
    """The tracking sample nearest to each spike.

    times_s [sample] (s, increasing); spike_times_s: for each unit its times [spike] (s), in any
    order; max_gap_s: a spike farther than this from all samples is left out (None for the median
    interval between samples) -> [unit, spike] (int32), filled up with the number of samples.
    On the host, in float64.
    Raises ValueError if there are fewer than two samples or times_s do not increase.
    """
    times_s = np.asarray(times_s, np.float64)
    if len(times_s) < 2 or not np.all(np.diff(times_s) > 0):
        raise ValueError("times_s must be two or more, and increase from sample to sample")
    max_gap_s = float(np.median(np.diff(times_s))) if max_gap_s is None else max_gap_s
    check.positive(max_gap_s=max_gap_s)
    trains = []
    for spikes in spike_times_s:
        spikes = np.asarray(spikes, np.float64)
        after = np.clip(np.searchsorted(times_s, spikes), 1, len(times_s) - 1)
        nearest = after - (spikes - times_s[after - 1] < times_s[after] - spikes)
        near = np.abs(times_s[nearest] - spikes) <= max_gap_s
        trains.append(nearest[near])
    return _filled_up(trains, len(times_s))


def samples_of_counts(counts: np.ndarray) -> np.ndarray:
    """The sample of each spike, from the number of spikes in each sample.

    counts [sample, unit], whole numbers of 0 or more -> [unit, spike] (int32), filled up with the
    number of samples. On the host.
    Raises ValueError where a count is negative or no whole number.
    """
    counts = np.asarray(counts)
    chex.assert_rank(counts, 2)
    if not np.all((counts >= 0) & (counts == np.floor(counts))):
        raise ValueError("counts must be whole numbers of 0 or more")
    sample = np.arange(len(counts))
    return _filled_up([np.repeat(sample, n) for n in counts.T.astype(int)], len(counts))


def _filled_up(trains: Sequence[np.ndarray], num_samples: int) -> np.ndarray:
    out = np.full((len(trains), max(map(len, trains), default=0)), num_samples, np.int32)
    for row, train in zip(out, trains, strict=True):
        row[: len(train)] = train
    return out


def spikes_by_bin(samples: Samples, bins: Samples, num_bins: int) -> jax.Array:
    """How many spikes of each unit fell into each bin.

    samples [unit, spike] as from `spike_samples`; bins [sample] (int), of any kind: position
    (`position_bins`), direction (`direction_bins`), part of the recording. Spikes in samples whose
    bin is not in 0 to num_bins - 1 are left out -> [unit, bin] (float32, exact below 2^24).
    """
    samples, bins = jnp.asarray(samples), jnp.asarray(bins, jnp.int32)
    chex.assert_rank([samples, bins], [2, 1])
    bins = jnp.where((bins >= 0) & (bins < num_bins), bins, num_bins)
    into = jnp.append(bins, num_bins)[jnp.minimum(samples, len(bins))]
    unit = jnp.arange(len(samples))[:, None]
    counts = jnp.zeros((len(samples), num_bins + 1), jnp.int32).at[unit, into].add(1)
    return counts[:, :-1].astype(jnp.float32)


def spike_maps(samples: Samples, bins: Samples, *, num_bins: NumBins) -> jax.Array:
    """`spikes_by_bin` on a map -> [unit, x, y]; bins [sample] as from `position_bins`."""
    shape = bins_along_axes(num_bins)
    return spikes_by_bin(samples, bins, math.prod(shape)).reshape(-1, *shape)


def occupancy(bins: Samples, dt_s: Samples | float, *, num_bins: NumBins) -> jax.Array:
    """The time spent in each bin (s) -> [x, y].

    bins [sample] as from `position_bins`; dt_s: the duration of a sample (s), one or [sample].
    """
    shape = bins_along_axes(num_bins)
    bins = jnp.asarray(bins, jnp.int32)
    # Whole samples are counted exactly; durations that differ are summed as they are.
    if jnp.ndim(dt_s) == 0:
        total = jnp.bincount(bins, length=math.prod(shape) + 1) * jnp.asarray(dt_s, jnp.float32)
    else:
        total = jnp.bincount(bins, jnp.asarray(dt_s), length=math.prod(shape) + 1)
    return total[:-1].reshape(shape)


def firing_rate_maps(
    spikes: jax.Array,
    occupancy_s: jax.Array,
    *,
    sigma_bins: float = 1.5,
    min_occupancy_s: float = 0.02,
    min_visit_s: float = 0.0,
) -> jax.Array:
    """Firing rate of each unit in each bin, from spikes and time that are smoothed separately.

    rate(x) = sum_v g(x - v) spikes(v) / sum_v g(x - v) occupancy(v), with g a Gaussian of sum 1 and
    standard deviation sigma_bins (0 for none). A bin counts as unvisited, and is NaN, where the
    smoothed occupancy is below min_occupancy_s, the animal was in the bin itself for less than
    min_visit_s, or the occupancy is NaN: the bin does not belong to the arena. By default bins
    beyond a tilted wall that only the smoothing fills are kept. They repeat the rate at the wall,
    which lengthens the spacing of grid cells by 2 to 4 %; min_visit_s = .02 leaves them out.

    spikes [unit, x, y]; occupancy_s [x, y] (s) -> [unit, x, y] (Hz).
    Raises ValueError if a setting is negative.
    Source: the smoothing before division of Hafting et al. 2005 and of most groups since.
    opexebo's rate_map divides first and smooths the quotient.
    """
    check.not_negative(
        sigma_bins=sigma_bins, min_occupancy_s=min_occupancy_s, min_visit_s=min_visit_s
    )
    chex.assert_shape(spikes, (None, *occupancy_s.shape))
    arena = jnp.isfinite(occupancy_s)[None]
    time = jnp.where(arena, occupancy_s[None], 0)
    if sigma_bins > 0:
        spikes, time = blurred(spikes, sigma_bins), blurred(time, sigma_bins)
    visited = arena & (time >= min_occupancy_s) & (time > 0)
    visited &= occupancy_s[None] >= min_visit_s
    return jnp.where(visited, spikes / jnp.where(visited, time, 1), jnp.nan)


def adaptive_rate_maps(
    spikes: jax.Array,
    occupancy_s: jax.Array,
    *,
    dt_s: float,
    alpha: float = 200.0**2,
    max_radius_bins: int = 16,
) -> jax.Array:
    """Firing rates with a circle around each bin that grows until it contains enough data.

    The circle grows by one bin until N_spikes > alpha / (N_samples^2 r^2), with N_spikes and
    N_samples the spikes and tracking samples within the radius r (bins); the rate is
    N_spikes / (N_samples dt_s). So fields that are sampled well stay sharp.

    spikes [unit, x, y]; occupancy_s [x, y] (s); dt_s: the duration of a sample (s); alpha: the
    paper's scaling parameter, the square of the alpha = 200 of Wills et al. 2010, whose rule
    r >= 200 / (N_samples sqrt(N_spikes)) is this one; max_radius_bins: where the circle stops
    growing -> [unit, x, y] (Hz), NaN in bins never visited and where the largest circle is not
    enough.
    Raises ValueError if a number is not positive.
    Source: Skaggs, McNaughton, Wilson & Barnes 1996, Hippocampus 6:149, methods.
    """
    check.positive(dt_s=dt_s, alpha=alpha)
    check.at_least(1, max_radius_bins=max_radius_bins)
    chex.assert_shape(spikes, (None, *occupancy_s.shape))
    both = jnp.concatenate([spikes, jnp.round(occupancy_s / dt_s)[None]])
    discs = _discs(occupancy_s.shape, max_radius_bins)

    def grow(rates: jax.Array, radius: jax.Array) -> tuple[jax.Array, None]:
        sums = _disc_sums(both, jnp.asarray(discs, both.dtype)[radius - 1])
        num_spikes, num_samples = sums[:-1], sums[-1:]
        enough = num_spikes * (num_samples * radius) ** 2 > alpha
        rate = num_spikes / jnp.maximum(num_samples * dt_s, dt_s)
        return jnp.where(jnp.isnan(rates) & enough, rate, rates), None

    rates, _ = lax.scan(grow, jnp.full_like(spikes, jnp.nan), 1 + jnp.arange(max_radius_bins))
    return jnp.where(occupancy_s[None] > 0, rates, jnp.nan)


def _discs(shape: tuple[int, ...], max_radius: int) -> np.ndarray:
    """Discs around bin 0 of a padded, periodic array: [radius, x, y], on the host."""
    lags = [np.fft.fftfreq(n + max_radius, 1 / (n + max_radius)) for n in shape]
    distance = np.hypot(lags[0][:, None], lags[1][None])
    return distance[None] <= np.arange(1, max_radius + 1)[:, None, None]


def _disc_sums(counts: jax.Array, disc: jax.Array) -> jax.Array:
    """Sums of whole numbers [unit, x, y] over a disc around each bin, exact below 2^20."""
    shape = disc.shape
    spectrum = jnp.fft.rfft2(counts, s=shape) * jnp.fft.rfft2(disc)[None]
    sums = jnp.round(jnp.fft.irfft2(spectrum, s=shape))
    return sums[:, : counts.shape[1], : counts.shape[2]]
