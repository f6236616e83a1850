"""Periodic coordinates: positions in a periodic box, distances across its boundary, angles."""

import jax
import jax.numpy as jnp
import numpy as np

from hfjax import check

Bound = float | np.ndarray | jax.Array  # a scalar, or an array that broadcasts against x


def wrap(x: jax.Array, low: Bound, high: Bound) -> jax.Array:
    """x modulo the period high - low, in [low, high).

    Puts positions back into a periodic box. With bounds of -L/2 and L/2, a difference of two
    positions becomes the difference to the nearest image.
    """
    x = check.floats(x)
    wrapped = jnp.mod(x - low, high - low) + low
    return jnp.where(wrapped >= high, low, wrapped)  # rounding: just below low becomes high


def wrap_angle(angle: jax.Array) -> jax.Array:
    """The same angle (rad) in [-pi, pi)."""
    return wrap(angle, -jnp.pi, jnp.pi)
