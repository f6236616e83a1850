"""Sums of many samples by bin that keep float32's precision, however many samples a bin gets.

Adding samples one after another loses digits with their number: 1e7 samples of 0.1 give a mean of
0.1088, and a count of float32 stops at 2^24.
"""

from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hfjax.ratemaps.arrays import finite_or_zero

FEW = 64  # samples that are added one after another: they lose 1e-6 at most
CHUNK = 8192  # samples that are added at once


class BinSums(NamedTuple):
    """Sums by bin: samples [bin] (exact), total + lost [bin, column].

    lost: what rounding took from the total.
    """

    samples: jax.Array
    total: jax.Array
    lost: jax.Array


def sum_by_bin(values: jax.Array, bins: jax.Array, num_bins: int) -> BinSums:
    """Sums and counts of the values in each bin, precise to 1e-6 of their size.

    values [sample, column], bins [sample] (int); samples outside of 0 to num_bins - 1 are left out.
    A NaN or an infinity affects only its own bin and column. Counts are exact up to 2^31 samples.
    """
    chex.assert_rank([values, bins], [2, 1])
    length, num_columns = values.shape
    num_chunks = -(-length // CHUNK)
    if num_chunks <= 1:
        return _sum_chunk(values, bins, num_bins)
    zero = jnp.zeros((num_bins, num_columns), values.dtype)

    def add_chunk(i: jax.Array, sums: BinSums) -> BinSums:
        # The last chunk begins earlier, without its samples of the chunk before.
        start = jnp.minimum(i * CHUNK, length - CHUNK)
        new = start + jnp.arange(CHUNK) >= i * CHUNK
        some = lax.dynamic_slice_in_dim(values, start, CHUNK)
        into = jnp.where(new, lax.dynamic_slice_in_dim(bins, start, CHUNK), num_bins)
        return add_sums(sums, _sum_chunk(some, into, num_bins))

    start = BinSums(jnp.zeros(num_bins, jnp.int32), zero, zero)
    return lax.fori_loop(0, num_chunks, add_chunk, start)


def add_sums(a: BinSums, b: BinSums) -> BinSums:
    """The sums of both, with the rounding error of the addition (Knuth's two-sum)."""
    total = a.total + b.total
    part = total - a.total
    lost = (a.total - (total - part)) + (b.total - part)
    lost = jnp.where(jnp.isfinite(total), lost + a.lost + b.lost, 0)
    return BinSums(a.samples + b.samples, total, lost)


def mean_by_bin(sums: BinSums, *, empty: float = np.nan) -> jax.Array:
    """The mean of each bin [..., column]; `empty` in bins without a sample."""
    count = sums.samples[..., None]
    mean = (sums.total + sums.lost) / jnp.maximum(count, 1).astype(sums.total.dtype)
    return jnp.where(count > 0, mean, empty)


def _sum_chunk(values: jax.Array, bins: jax.Array, num_bins: int) -> BinSums:
    """`sum_by_bin` of one chunk: plain sums where no bin gets more than FEW samples.

    `segment_sum` is 10 to 30 times as fast on a CPU as a product with a one-hot matrix.
    """
    count = jax.ops.segment_sum(jnp.ones_like(bins), bins, num_bins)

    plain = partial(jax.ops.segment_sum, segment_ids=bins, num_segments=num_bins)
    in_parts = partial(_sum_in_parts, bins=bins, num_bins=num_bins)
    if values.shape[0] <= FEW:
        total = plain(values)
    else:
        total = lax.cond(jnp.max(count) <= FEW, plain, in_parts, values)
    return BinSums(count, total, jnp.zeros_like(total))


def _sum_in_parts(values: jax.Array, bins: jax.Array, num_bins: int) -> jax.Array:
    """Sums of the leading digits of values, without rounding, plus those of the digits that follow.

    values [sample, column]. The leading digits of a bin and column are
    multiples of one number, so large that their sum over all samples fits into a float. The
    following ones are so small that the rounding of their sum does not matter.
    """
    size = jax.ops.segment_max(jnp.abs(finite_or_zero(values)), bins, num_bins)
    # Adding a large number rounds to multiples of its last digit.
    large = (1.5 * values.shape[0] * jnp.maximum(size, 0))[bins]
    leading = jnp.where(jnp.isfinite(large), (values + large) - large, values)
    following = finite_or_zero(values) - finite_or_zero(leading)
    parts = jnp.concatenate([leading, following], axis=1)
    leading, following = jnp.split(jax.ops.segment_sum(parts, bins, num_bins), 2, axis=1)
    return leading + following
