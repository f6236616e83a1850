"""Array operations that the scores share: blocks of units, full-precision products, dtypes."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

BLOCK = 64  # units per block: a row of 64 numbers keeps gathers and vector units busy


def over_blocks(f: Callable[[jax.Array], Any], maps: jax.Array) -> Any:
    """f over blocks of units, [unit, ...] -> pytree of [unit, ...], to bound the memory."""
    num_units = maps.shape[0]
    if num_units <= BLOCK:
        return f(maps)
    num_blocks = -(-num_units // BLOCK)
    padding = [(0, num_blocks * BLOCK - num_units)] + [(0, 0)] * (maps.ndim - 1)
    blocks = jnp.pad(maps, padding).reshape(num_blocks, BLOCK, *maps.shape[1:])
    out = lax.map(f, blocks)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:num_units], out)


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


def wide_range(maps: jax.Array) -> jax.Array:
    """Maps shifted and scaled to [0, 2^50], unit by unit; correlations do not change by this.

    An offset would cost the variances their digits. The wide range keeps squares of the faintest
    flanks of a place field (1e-34 of its peak) above the smallest float32.
    """
    low = jnp.min(maps, axis=(1, 2), keepdims=True)
    high = jnp.max(maps, axis=(1, 2), keepdims=True)
    return (maps - low) / jnp.where(high > low, high - low, 1) * 2.0**50
