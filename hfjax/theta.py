"""Theta gating: how much of a soma's drive comes from above, as a function of time.

A gate is a function of time (s) to theta in [0, 1]: at 1 the apical dendrites drive the somata
(top-down, generation), at 0 the basal dendrites (bottom-up, inference). Set the keyword arguments
with `functools.partial`; what is left is a function of time alone.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hfjax import check

Gate = Callable[[Any], Any]

# `tabulate` wraps here: a whole number of cycles for every multiple of 0.001 Hz.
WRAP_S = 1000


def _numpy_of(values: Any) -> Any:
    """The NumPy that values belong to: JAX's for a JAX array, else NumPy itself."""
    return jnp if isinstance(values, jax.Array) else np


def _fraction(value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"the gate's fraction must be between 0 and 1, but is {value}")


def _wrapped(cycles: Any) -> Any:
    """A time in cycles as a phase in [0, 1).

    Rounded, so that a step that falls on a phase boundary does not land just before it.
    """
    numpy = _numpy_of(cycles)
    return numpy.mod(numpy.round(numpy.mod(cycles, 1.0), 9), 1.0)


def square(
    t_s: Any, *, frequency_hz: float = 5.0, fraction: float = 0.5, offset: float = 0.0
) -> Any:
    """1 in the first `fraction` of each cycle, 0 in the rest.

    theta = [(phase + offset) mod 1 < fraction], phase = t f mod 1. t_s any shape -> the same shape.
    Raises ValueError where fraction is outside [0, 1] or frequency_hz is not positive.
    Source: George et al. 2023, sec. 2; HelmholtzHippocampus `theta_gating`, "square".
    """
    _fraction(fraction)
    check.positive(frequency_hz=frequency_hz)
    return 1.0 * (_wrapped(t_s * frequency_hz + offset) < round(fraction, 9))


def sine(t_s: Any, *, frequency_hz: float = 5.0, fraction: float = 0.5, offset: float = 0.0) -> Any:
    """A sine between 0 and 1 that spends `fraction` of each cycle above one half.

    theta = (1 + sin 2 pi phase) / 2, phase = ((t f mod 1)^n + offset) mod 1, n = ln 0.5 / ln
    fraction, so that the sine's first half ends at `fraction`. t_s any shape -> the same shape.
    Raises ValueError where fraction is not inside (0, 1) or frequency_hz is not positive.
    Source: HelmholtzHippocampus `theta_gating`, "sine".
    """
    _fraction(fraction)
    if fraction in (0, 1):
        raise ValueError(f"a sine gate needs a fraction inside (0, 1), but it is {fraction}")
    check.positive(frequency_hz=frequency_hz)
    numpy = _numpy_of(t_s)
    warped = _wrapped(t_s * frequency_hz) ** float(np.log(0.5) / np.log(fraction))
    return 0.5 * (1 + numpy.sin(2 * np.pi * _wrapped(warped + offset)))


def constant(t_s: Any, *, theta: float) -> Any:
    """The same theta at all times: 0 holds a circuit in inference, 1 in generation.

    t_s any shape -> the same shape. Raises ValueError where theta is outside [0, 1].
    """
    if not 0 <= theta <= 1:
        raise ValueError(f"theta must be between 0 and 1, but is {theta}")
    numpy = _numpy_of(t_s)
    return numpy.full(numpy.shape(t_s), float(theta))


def tabulate(gate: Gate, *, dt_s: float) -> np.ndarray:
    """The gate at steps 0, dt, 2 dt, ... of 1000 s, found on the host in float64: [step].

    A simulation reads step k at index k mod the table's length. Time in float32 would blur the
    edges of a square gate after some minutes; the table repeats without a seam for every frequency
    that is a multiple of 0.001 Hz. A fraction of a cycle is kept to whole steps.
    Raises ValueError where dt_s is not positive or does not divide 1000 s, where the gate gives
    anything but one number a time, or where it leaves [0, 1].
    """
    check.positive(dt_s=dt_s)
    num_steps = round(WRAP_S / dt_s)
    if abs(num_steps * dt_s - WRAP_S) > 1e-6:
        raise ValueError(f"dt_s must divide {WRAP_S} s, but is {dt_s}")
    table = np.asarray(gate(np.arange(num_steps) * dt_s), np.float64)
    if table.shape != (num_steps,):
        raise ValueError(
            f"a theta gate must give one value a time, but gives {table.shape} for {(num_steps,)}"
        )
    if not ((table >= 0) & (table <= 1)).all():
        raise ValueError("a theta gate must stay between 0 and 1")
    return table
