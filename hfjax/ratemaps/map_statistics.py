"""Statistics of rate maps: sparsity, coherence, stability, and firing fields."""

from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from hfjax import check
from hfjax.ratemaps.arrays import finite_or_zero, floating, floating_maps, over_blocks
from hfjax.ratemaps.maps import NumBins, bins_along_axes
from hfjax.ratemaps.morphology import shifted
from hfjax.ratemaps.spikes import Samples, firing_rate_maps, occupancy, spike_maps
from hfjax.ratemaps.tuning import labelled_fields


def sparsity(maps: jax.Array, occupancy_s: jax.Array) -> jax.Array:
    """(sum_x p l)^2 / sum_x p l^2, with p the share of time and l the rate in a bin: [unit].

    1 for a unit that fires everywhere alike, and the share of the arena that its field takes for a
    unit that fires in one field. maps [unit, x, y] (NaN where unvisited), occupancy_s [x, y]; NaN
    for a silent unit. Source: Skaggs et al. 1996, methods; opexebo's rate_map_stats.
    """
    maps = floating_maps(maps)
    chex.assert_shape(occupancy_s, maps.shape[1:])
    p = jnp.where(jnp.isfinite(maps), finite_or_zero(occupancy_s)[None], 0)
    p = p / jnp.maximum(jnp.sum(p, axis=(1, 2), keepdims=True), jnp.finfo(p.dtype).tiny)
    rate = finite_or_zero(maps)
    mean, square = jnp.sum(p * rate, axis=(1, 2)), jnp.sum(p * rate**2, axis=(1, 2))
    return jnp.where(square > 0, mean**2 / jnp.where(square > 0, square, 1), jnp.nan)


def coherence(maps: jax.Array) -> jax.Array:
    """Pearson's correlation of each bin's rate with the mean of its neighbours: [unit].

    The neighbours are the visited ones of the eight around a bin; a bin without any is left out.
    maps [unit, x, y] that are not smoothed, not finite where unvisited. NaN where rates are alike.
    Source: Muller & Kubie 1989. They and later papers often give Fisher's z, arctanh of this.
    Deviation from opexebo's rate_map_coherence: there bins outside the arena count as rate 0.
    """
    s = jnp.moveaxis(floating_maps(maps), 0, -1)
    visited = jnp.isfinite(s)
    rate, known = jnp.where(visited, s, 0), visited.astype(s.dtype)
    around = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]
    total = sum((shifted(rate, i, j, 0) for i, j in around), jnp.zeros_like(rate))
    number = sum((shifted(known, i, j, 0) for i, j in around), jnp.zeros_like(rate))
    mean = jnp.where(visited & (number > 0), total / jnp.maximum(number, 1), jnp.nan)
    return map_correlations(jnp.moveaxis(s, -1, 0), jnp.moveaxis(mean, -1, 0))


def map_correlations(a: jax.Array, b: jax.Array, *, min_bins: int = 2) -> jax.Array:
    """Pearson's correlation of two maps of each unit, over the bins visited in both: [unit].

    a and b [unit, ...], not finite where unvisited; NaN where a map does not vary, or fewer than
    min_bins bins are left.
    """
    a, b = floating(a), floating(b)
    chex.assert_equal_shape([a, b])
    a, b = (x.reshape(len(x), -1) for x in (a, b))
    both = jnp.isfinite(a) & jnp.isfinite(b)
    count = jnp.maximum(jnp.sum(both, axis=1, keepdims=True), 1)

    def centred(x: jax.Array) -> jax.Array:
        mean = jnp.sum(jnp.where(both, x, 0), axis=1, keepdims=True) / count
        size = jnp.max(jnp.where(both, jnp.abs(x), 0), axis=1, keepdims=True)
        out = jnp.where(both, x - mean, 0)
        varies = jnp.max(jnp.abs(out), axis=1, keepdims=True) > 16 * jnp.finfo(x.dtype).eps * size
        return jnp.where(varies, out, 0)

    x, y = centred(a), centred(b)
    power = jnp.sum(x**2, axis=1) * jnp.sum(y**2, axis=1)
    enough = (power > 0) & (count[:, 0] >= min_bins)
    r = jnp.sum(x * y, axis=1) / jnp.sqrt(jnp.where(enough, power, 1))
    return jnp.where(enough, r, jnp.nan)


def first_half(times_s: Samples) -> jax.Array:
    """Whether a sample lies in the first half of the recording: times_s [sample] -> [sample]."""
    since_s = _since_start(times_s)
    return since_s < since_s[-1] / 2


def odd_minutes(times_s: Samples) -> jax.Array:
    """Whether a sample lies in the first, third ... minute: times_s [sample] (s) -> [sample]."""
    return jnp.floor(_since_start(times_s) / 60) % 2 == 0


def _since_start(times_s: Samples) -> jax.Array:
    """Times since the first one. Seconds since 1970 are not precise in float32."""
    exact_s = np.asarray(times_s)
    return jnp.asarray(exact_s - exact_s[0])


def stability(
    samples: Samples,
    bins: Samples,
    part: Samples,
    dt_s: Samples | float,
    *,
    num_bins: NumBins,
    sigma_bins: float = 1.5,
    min_occupancy_s: float = 0.02,
    arena: jax.Array | None = None,
) -> jax.Array:
    """Correlation of the rate maps of two parts of a recording: [unit].

    samples [unit, spike] as from `spike_samples`; bins [sample] as from `position_bins`; part
    [sample] (bool): as from `first_half` or `odd_minutes`; dt_s, sigma_bins and min_occupancy_s as
    in `occupancy` and `firing_rate_maps`; arena [x, y] (bool): the bins that belong to it, None for
    all.
    """
    maps = []
    outside = bins_along_axes(num_bins)[0] * bins_along_axes(num_bins)[1]
    for chosen in (jnp.asarray(part), ~jnp.asarray(part)):
        some = jnp.where(chosen, jnp.asarray(bins), outside)
        spikes = spike_maps(samples, some, num_bins=num_bins)
        time = occupancy(some, dt_s, num_bins=num_bins)
        time = time if arena is None else jnp.where(arena, time, jnp.nan)
        maps.append(
            firing_rate_maps(spikes, time, sigma_bins=sigma_bins, min_occupancy_s=min_occupancy_s)
        )
    return map_correlations(*maps)


class FiringFields(NamedTuple):
    """The fields of each unit, the largest peak first; NaN after the last.

    number [unit]: of all fields, also beyond max_fields. area_m2 and peak_hz [unit, field];
    peak_bin [unit, field, 2]: the bin of the peak along x and y. labels [unit, x, y]: 1, 2 ...
    in the order of the fields, 0 outside.
    """

    number: jax.Array
    area_m2: jax.Array
    peak_hz: jax.Array
    peak_bin: jax.Array
    labels: jax.Array


def firing_fields(
    maps: jax.Array,
    *,
    bin_width_m: float,
    threshold: float = 0.2,
    min_peak_hz: float = 1.0,
    min_area_m2: float = 0.02,
    max_fields: int = 20,
) -> FiringFields:
    """Firing fields: regions of bins, connected through their edges, above a share of the peak.

    A field has rates above threshold times the unit's peak, an area of at least min_area_m2 and a
    peak of at least min_peak_hz. maps [unit, x, y] (Hz), smoothed, not finite where unvisited;
    bin_width_m (m) -> FiringFields.
    Raises ValueError if a number is out of its range.
    Source: the 20 % of Muller, Kubie & Ranck 1987 and of most place-field papers. opexebo's
    place_field searches a threshold for each peak instead, and so divides fields that touch.
    """
    check.positive(bin_width_m=bin_width_m)
    check.not_negative(threshold=threshold, min_peak_hz=min_peak_hz, min_area_m2=min_area_m2)
    check.at_least(1, max_fields=max_fields)
    maps = floating_maps(maps)
    bin_m2 = bin_width_m**2
    max_fields = min(max_fields, maps[0].size)

    def of_block(block: jax.Array) -> FiringFields:
        rates = finite_or_zero(block)
        one = partial(
            _fields,
            min_bins=min_area_m2 / bin_m2 * (1 - 1e-6),
            min_peak=min_peak_hz,
            num=max_fields,
        )
        fields = jax.vmap(one)(rates, labelled_fields(rates, threshold))
        return fields._replace(area_m2=fields.area_m2 * bin_m2)

    return over_blocks(of_block, maps)


def _fields(
    rate: jax.Array, label: jax.Array, *, min_bins: float, min_peak: float, num: int
) -> FiringFields:
    """`firing_fields` of one map [x, y], with areas in bins."""
    flat, of = rate.reshape(-1), label.reshape(-1)
    size = jnp.zeros(flat.size + 1, flat.dtype).at[of].add(1)
    peak = jnp.zeros(flat.size + 1, flat.dtype).at[of].max(flat)
    good = ((size >= min_bins) & (peak >= min_peak) & (peak > 0)).at[0].set(False)
    order = jnp.argsort(jnp.where(good, -peak, jnp.inf))  # labels, the highest peak first
    rank = jnp.zeros_like(order).at[order].set(1 + jnp.arange(len(order)))
    best = order[:num]
    where = jnp.argmax((of[None] == best[:, None]) & (flat[None] == peak[best][:, None]), axis=1)
    place = jnp.stack(jnp.divmod(where, rate.shape[1]), axis=1)
    chosen = good[best]
    return FiringFields(
        jnp.sum(good),
        jnp.where(chosen, size[best], jnp.nan),
        jnp.where(chosen, peak[best], jnp.nan),
        jnp.where(chosen[:, None], place, jnp.nan),
        jnp.where(good[label], rank[label], 0),
    )
