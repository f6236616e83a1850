"""Numbers that are missing: a bin that was never visited, a score that does not exist.

On the host they are NaN. In a task's programs they are `MISSING`: a NaN there would stop every run
under JAX_DEBUG_NANS, and hide the NaN that is looked for. The trainer writes NaN in their place
when an evaluation comes to the host (`on_host`).
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

MISSING = -np.inf


def on_host(arrays: Mapping[str, jax.Array]) -> dict[str, np.ndarray]:
    """Arrays of a program on the host, with NaN in place of `MISSING`."""
    host = jax.device_get(dict(arrays))
    return {name: _with_nan(np.asarray(array)) for name, array in host.items()}


def _with_nan(array: np.ndarray) -> np.ndarray:
    if not np.issubdtype(array.dtype, np.floating) or not np.any(array == MISSING):
        return array
    return np.where(array == MISSING, np.asarray(np.nan, array.dtype), array)


def mean(values: jax.Array) -> jax.Array:
    """The mean of those that are finite, `MISSING` if none is: [...] -> scalar."""
    known = jnp.isfinite(values)
    count = jnp.sum(known)
    total = jnp.sum(jnp.where(known, values, 0))
    return jnp.where(count > 0, total / jnp.maximum(count, 1), MISSING)


def median(values: jax.Array) -> jax.Array:
    """The median of those that are finite, `MISSING` if none is: [value] -> scalar."""
    known = jnp.isfinite(values)
    count = jnp.sum(known)
    rising = jnp.sort(jnp.where(known, values, jnp.inf))
    last = jnp.maximum(count - 1, 0)
    middle = (rising[last // 2] + rising[(last + 1) // 2]) / 2
    return jnp.where(count > 0, middle, MISSING)
