"""Significance of any score of spike trains, against circular shifts of the train."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import lax

from hfjax import check

Statistic = Callable[[jax.Array], Any]  # samples [unit, spike] -> pytree of [unit, ...]


def random_shifts(
    key: jax.Array, *, num_units: int, num_shuffles: int, num_samples: int, min_shift: int
) -> jax.Array:
    """Shifts, evenly distributed over min_shift to num_samples - min_shift.

    All in samples: 20 s, the field's usual least shift, are 1000 samples of 50 Hz
    -> [unit, shuffle] (int32).
    Raises ValueError if a number is below 1, or the recording is too short for two least shifts.
    """
    check.at_least(1, num_units=num_units, num_shuffles=num_shuffles, min_shift=min_shift)
    if num_samples < 2 * min_shift:
        raise ValueError(
            f"min_shift must be at most half the recording, {num_samples / 2:g} samples, "
            f"but is {min_shift}"
        )
    shape = (num_units, num_shuffles)
    return jax.random.randint(key, shape, min_shift, num_samples - min_shift + 1)


def shuffled_scores(
    statistic: Statistic,
    samples: jax.Array,
    shifts: jax.Array,
    *,
    num_samples: int,
    block: int = 64,
) -> Any:
    """A statistic of every unit under every circular shift of its spike train.

    A spike in sample i moves to sample (i + shift) mod num_samples. The train keeps its intervals,
    its bursts and its rate; what it has to do with the animal's behaviour is lost.

    statistic: [train, spike] -> pytree of arrays [train, ...], such as a score of the rate maps
    made from the trains; samples [unit, spike] as from `spike_samples`; shifts [unit, shuffle] as
    from `random_shifts`; num_samples: of the recording; block: trains that the statistic gets at
    once, which bounds the memory whatever the number of units and shuffles
    -> pytree of [unit, shuffle, ...].
    """
    samples, shifts = jnp.asarray(samples, jnp.int32), jnp.asarray(shifts, jnp.int32)
    chex.assert_rank([samples, shifts], 2)
    chex.assert_equal_shape_prefix([samples, shifts], 1)
    check.at_least(1, block=block)
    num_units, num_shuffles = shifts.shape
    total = num_units * num_shuffles
    num_blocks = -(-total // min(block, total))
    each = jnp.arange(num_blocks * min(block, total)).reshape(num_blocks, -1) % total
    flat = shifts.reshape(-1)

    def of_block(trains: jax.Array) -> Any:
        chosen = samples[trains // num_shuffles]
        moved = (chosen + flat[trains][:, None]) % num_samples
        return statistic(jnp.where(chosen < num_samples, moved, num_samples))

    out = lax.map(of_block, each)
    return jax.tree.map(
        lambda x: x.reshape(math.prod(x.shape[:2]), *x.shape[2:])[:total].reshape(
            num_units, num_shuffles, *x.shape[2:]
        ),
        out,
    )


class Significance(NamedTuple):
    """p-value [unit], and the 95th and 99th percentile of the unit's own shuffles [unit]."""

    p: jax.Array
    percentile_95: jax.Array
    percentile_99: jax.Array


def significance(scores: jax.Array, null: jax.Array) -> Significance:
    """p = (k + 1)/(n + 1), with k of n shuffles scoring as high as the unit or higher.

    scores [unit] and null [unit, shuffle] -> Significance. The test is one-sided: high scores are
    significant. A shuffle without a score (NaN) counts as lower than any score; a unit without one
    has p = NaN.
    Source: Phipson & Smyth 2010 (doi:10.2202/1544-6115.1585), on why p is not k/n.
    """
    chex.assert_rank([scores, null], [1, 2])
    chex.assert_equal_shape_prefix([scores, null], 1)
    low = jnp.where(jnp.isnan(null), -jnp.inf, null)
    above = jnp.sum(low >= scores[:, None], axis=1)
    p = (above + 1) / (null.shape[1] + 1)
    percentiles = _percentiles(low, (95.0, 99.0))
    return Significance(jnp.where(jnp.isnan(scores), jnp.nan, p), *percentiles)


def population_threshold(null: jax.Array, *, percentile: float = 95.0) -> jax.Array:
    """The percentile of the shuffles of all units together, the threshold of a population.

    null [unit, shuffle], NaN as in `significance` -> scalar.
    """
    low = jnp.where(jnp.isnan(null), -jnp.inf, null)
    return _percentiles(low.reshape(1, -1), (percentile,))[0][0]


def _percentiles(values: jax.Array, percentiles: tuple[float, ...]) -> list[jax.Array]:
    """Percentiles of [unit, value], -inf sorted first; NaN where one falls on those."""
    ordered = jnp.sort(values, axis=1)
    last = values.shape[1] - 1
    out = []
    for percentile in percentiles:
        at = percentile / 100 * last
        low, high = ordered[:, math.floor(at)], ordered[:, min(math.floor(at) + 1, last)]
        value = low + (at - math.floor(at)) * (high - low)
        out.append(jnp.where(jnp.isfinite(value), value, jnp.nan))
    return out
