"""Morphology of maps [x, y, unit]: neighbours, dilation, reconstruction."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

Combine = Callable[[jax.Array, jax.Array], jax.Array]  # elementwise: jnp.maximum or jnp.minimum
Update = Callable[[jax.Array], jax.Array]  # maps [x, y, unit] -> maps of the same shape


def shifted(x: jax.Array, i: int, j: int, fill: Any) -> jax.Array:
    """x moved by (i, j) bins along its first two axes; `fill` comes in from outside."""
    padded = jnp.pad(x, ((1, 1), (1, 1), (0, 0)), constant_values=fill)
    return padded[1 - i : x.shape[0] + 1 - i, 1 - j : x.shape[1] + 1 - j]


def over_neighbours(combine: Combine, x: jax.Array, fill: Any, diagonal: bool = False) -> jax.Array:
    """combine (maximum or minimum) over the four neighbours of each bin, or all eight."""
    sides = [(1, 0), (-1, 0), (0, 1), (0, -1)]
    corners = [(1, 1), (1, -1), (-1, 1), (-1, -1)] if diagonal else []
    out = shifted(x, *sides[0], fill)
    for i, j in sides[1:] + corners:
        out = combine(out, shifted(x, i, j, fill))
    return out


def dilated(x: jax.Array, diagonal: bool = False) -> jax.Array:
    """The largest value of each bin and its four neighbours, or all eight."""
    low = -jnp.inf if jnp.issubdtype(x.dtype, jnp.floating) else 0
    return jnp.maximum(x, over_neighbours(jnp.maximum, x, low, diagonal))


def until_stable(x: jax.Array, update: Update) -> jax.Array:
    """Applies `update` until nothing changes."""
    return lax.while_loop(
        lambda pair: jnp.any(pair[0] != pair[1]),
        lambda pair: (pair[1], update(pair[1])),
        (x, update(x)),
    )[1]
