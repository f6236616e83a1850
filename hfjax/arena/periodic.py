"""Periodic coordinates: positions in a periodic box, distances across its boundary, angles."""

import jax
import jax.numpy as jnp
import numpy as np

Bound = float | np.ndarray | jax.Array  # a scalar, or an array that broadcasts against x


def wrap(x: jax.Array, low: Bound, high: Bound) -> jax.Array:
    """x modulo the period high - low, in [low, high).

    Puts positions back into a periodic box. With bounds of -L/2 and L/2, a difference of two
    positions becomes the difference to the nearest image.
    """
    return jnp.mod(x - low, high - low) + low


def wrap_angle(angle: jax.Array) -> jax.Array:
    """The same angle (rad) in [-pi, pi)."""
    return wrap(angle, -jnp.pi, jnp.pi)
