"""Periodic coordinates."""

import jax
import jax.numpy as jnp
import numpy as np

Bound = float | np.ndarray | jax.Array


def wrap_angle(angle: jax.Array) -> jax.Array:
    """The same angle in [-pi, pi)."""
    return wrap(angle, -jnp.pi, jnp.pi)


def wrap(x: jax.Array, low: Bound, high: Bound) -> jax.Array:
    """x shifted by whole periods of high - low, into [low, high).

    A position goes back into its periodic box. With low = -high, a difference between two positions
    becomes that to the nearest image.
    """
    return jnp.mod(x - low, high - low) + low
