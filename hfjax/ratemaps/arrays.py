"""What the scores share: blocks of units, products in full precision, checks of shape and dtype."""

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
from jax import lax

BLOCK = 64  # units per block: a row of 64 numbers keeps gathers and vector units busy
OfBlock = Callable[[jax.Array], Any]  # maps [block, ...] -> pytree of [block, ...]


def over_blocks(function: OfBlock, maps: jax.Array) -> Any:
    """A function of blocks applied to [unit, ...] -> pytree of [unit, ...], in bounded memory."""
    num_units = maps.shape[0]
    if num_units <= BLOCK:
        return function(maps)
    num_blocks = -(-num_units // BLOCK)
    padding = [(0, num_blocks * BLOCK - num_units)] + [(0, 0)] * (maps.ndim - 1)
    blocks = jnp.pad(maps, padding).reshape(num_blocks, BLOCK, *maps.shape[1:])
    out = lax.map(function, blocks)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:num_units], out)


def outermost(visited: jax.Array) -> jax.Array:
    """The first and the last row and column with a visited bin.

    visited [unit, x, y] -> [unit, axis, 2] (int32); 0 and the last index where there is none.
    """
    ends = []
    for axis, other in ((1, 2), (2, 1)):
        along, last = jnp.any(visited, axis=other), visited.shape[axis] - 1
        ends.append([jnp.argmax(along, axis=1), last - jnp.argmax(along[:, ::-1], axis=1)])
    return jnp.stack([jnp.stack(end, axis=1) for end in ends], axis=1).astype(jnp.int32)


def both_axes(left: jax.Array, maps: jax.Array, right: jax.Array) -> jax.Array:
    """left [a, x] maps [unit, x, y] right [b, y]^T -> [unit, a, b]."""
    return jnp.einsum("ax,uxy,by->uab", left, maps, right, precision=lax.Precision.HIGHEST)


def matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    """a @ b in full precision on every device: scores are differences of near-equal sums."""
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


def floating(maps: jax.Array) -> jax.Array:
    """Maps as floating-point numbers, float32 at least."""
    maps = jnp.asarray(maps)
    return maps.astype(jnp.promote_types(maps.dtype, jnp.float32))


def floating_maps(maps: jax.Array) -> jax.Array:
    """`floating`, with an AssertionError where maps are not [unit, x, y]."""
    maps = floating(maps)
    chex.assert_rank(maps, 3)
    return maps


def finite_or_zero(maps: jax.Array) -> jax.Array:
    """The values, and 0 where one is not finite: there the bin counts as unvisited."""
    return jnp.where(jnp.isfinite(maps), maps, 0)


def less_their_mean(maps: jax.Array) -> jax.Array:
    """Maps [unit, x, y] less their mean over the visited bins, over their range.

    Unvisited bins are 0. A constant map is 0 everywhere: rounding must not look like structure.
    """
    visited = jnp.isfinite(maps)
    maps = maps / 16  # neither must the range overflow, nor 1 / range underflow
    low = jnp.min(jnp.where(visited, maps, jnp.inf), axis=(1, 2), keepdims=True)
    above = jnp.where(visited, maps - low, 0)
    width = jnp.max(above, axis=(1, 2), keepdims=True)
    size = jnp.max(jnp.abs(finite_or_zero(maps)), axis=(1, 2), keepdims=True)
    varies = width > 16 * jnp.finfo(maps.dtype).eps * size
    above = above / jnp.where(varies, width, 1)
    count = jnp.maximum(jnp.sum(visited, axis=(1, 2), keepdims=True), 1).astype(maps.dtype)
    mean = jnp.sum(above, axis=(1, 2), keepdims=True) / count
    return jnp.where(visited & varies, above - mean, 0)


def wrapped(x: jax.Array, period: float) -> jax.Array:
    """x modulo a period, in [0, period): a remainder that rounds up to the period is 0."""
    remainder = jnp.mod(x, period)
    return jnp.where(remainder >= period, 0, remainder)


def wide_range(maps: jax.Array) -> jax.Array:
    """Maps shifted and scaled to [0, 2^50], for each unit; this does not change correlations.

    An offset would cost the variances their precision. The wide range keeps the squares of the
    faintest flanks of a place field (1e-34 of its peak) above the smallest float32.
    """
    maps = maps / 16  # neither must high - low overflow, nor 1 / (high - low) underflow
    low = jnp.min(maps, axis=(1, 2), keepdims=True)
    high = jnp.max(maps, axis=(1, 2), keepdims=True)
    return (maps - low) / jnp.where(high > low, high - low, 1) * 2.0**50
