"""Checks of hyperparameters: each raises ValueError with one sentence that names the first culprit.

`floats` reads coordinates.

    check.at_least(1, num_grid=num_grid, batch_size=batch_size)
    check.positive(dt_s=dt_s)
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jax


def at_least(least: int, **values: int) -> None:
    """Raise ValueError unless every value is `least` or more."""
    for name, value in values.items():
        if value < least:
            raise ValueError(f"{name} must be at least {least}, but is {value}")


def positive(**values: float) -> None:
    """Raise ValueError unless every value is above 0 and finite (NaN is neither)."""
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{name} must be positive, but is {value}")
    finite(**values)


Width = float | Sequence[float]  # of a square box or torus, or along each axis (m)


def widths(width_m: Width, num_dims: int) -> list[float]:
    """The width along each axis. Raise ValueError where one is not positive, or their number is not
    that of the dimensions."""
    each = [width_m] if isinstance(width_m, int | float) else list(width_m)
    for width in each:
        positive(width_m=width)
    if each == [width_m]:
        return each * num_dims
    if len(each) != num_dims:
        raise ValueError(f"width_m {width_m} does not fit positions of {num_dims} dimensions")
    return each


def not_negative(**values: float) -> None:
    """Raise ValueError unless every value is 0 or more and finite (NaN is neither)."""
    for name, value in values.items():
        if not value >= 0:
            raise ValueError(f"{name} must not be negative, but is {value}")
    finite(**values)


def finite(**values: float) -> None:
    """Raise ValueError where a value is NaN or infinite."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise ValueError(f"{name} must be finite, but is {value}")


def below_one(**values: float) -> None:
    """Raise ValueError unless every value is at least 0 and below 1 (NaN is not)."""
    for name, value in values.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name} must be at least 0 and below 1, but is {value}")


def floats(values: Any) -> "jax.Array":
    """Coordinates as an array of floating-point numbers: lists and whole numbers are accepted."""
    import jax.numpy as jnp

    array = jnp.asarray(values)
    return array if jnp.issubdtype(array.dtype, jnp.floating) else array.astype(float)
