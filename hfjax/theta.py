"""Theta gates: which dendrite drives the soma, as a function of time.

A gate maps a time (s) to theta in [0, 1]. At theta = 1 the apical dendrites drive the somata
(top-down, generation); at theta = 0 the basal dendrites do (bottom-up, inference). Bind the keyword
arguments with `functools.partial`; the result is a function of time alone.

Sign: that of the original code, HelmholtzHippocampus. The paper (George et al. 2023, figures 2 and
S1) has the opposite one: its theta is 1 in wake (inference) and 0 in sleep (generation).
"""

from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from hfjax import check

WRAP_S = 1000  # length of `tabulate`'s table: whole cycles for every multiple of 0.001 Hz


class Gate(Protocol):
    """(t_s) -> theta."""

    def __call__(self, t_s: Any, /) -> Any:
        """Theta in [0, 1] at times t_s (s), a NumPy or JAX array; the same shape."""


def _numpy_of(values: Any) -> Any:
    """jax.numpy for a JAX array, numpy for everything else."""
    return jnp if isinstance(values, jax.Array) else np


def _check_fraction(value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"the gate's fraction must be between 0 and 1, but is {value}")


def _wrapped(cycles: Any) -> Any:
    """Phase in [0, 1) of a time in cycles.

    Rounded to 1e-9 cycles: a step on a phase boundary must not fall just before it.
    """
    numpy = _numpy_of(cycles)
    return numpy.mod(numpy.round(numpy.mod(cycles, 1.0), 9), 1.0)


def square(
    t_s: Any, *, frequency_hz: float = 5.0, fraction: float = 0.5, offset: float = 0.0
) -> Any:
    """1 (generation) in the first `fraction` of each cycle, 0 (inference) in the rest.

    theta = [(phase + offset) mod 1 < fraction], phase = t f mod 1. t_s any shape -> the same shape.

    frequency_hz  theta cycles per second.
    fraction      share of a cycle that is generation.
    offset        phase at time 0, in cycles.

    Raises ValueError where fraction is outside [0, 1] or frequency_hz is not positive.
    Source: HelmholtzHippocampus `theta_gating`, "square"; George et al. 2023, sec. 2, with the
    opposite sign of theta in figures 2 and S1.
    """
    _check_fraction(fraction)
    check.positive(frequency_hz=frequency_hz)
    return 1.0 * (_wrapped(t_s * frequency_hz + offset) < round(fraction, 9))


def sine(t_s: Any, *, frequency_hz: float = 5.0, fraction: float = 0.5, offset: float = 0.0) -> Any:
    """A sine between 0 (inference) and 1 (generation), above one half for `fraction` of each cycle.

    theta = (1 + sin 2 pi phase) / 2, phase = ((t f mod 1)^n + offset) mod 1, n = ln 0.5 / ln
    fraction, so that the first half of the sine ends there. t_s any shape -> the same shape.

    frequency_hz  theta cycles per second.
    fraction      share of a cycle in which generation prevails.
    offset        phase at time 0, in cycles.

    Raises ValueError where fraction is not inside (0, 1) or frequency_hz is not positive.
    Source: HelmholtzHippocampus `theta_gating`, "sine", with the code's sign of theta.
    """
    _check_fraction(fraction)
    if fraction in (0, 1):
        raise ValueError(f"a sine gate needs a fraction inside (0, 1), but it is {fraction}")
    check.positive(frequency_hz=frequency_hz)
    numpy = _numpy_of(t_s)
    warped = _wrapped(t_s * frequency_hz) ** float(np.log(0.5) / np.log(fraction))
    return 0.5 * (1 + numpy.sin(2 * np.pi * _wrapped(warped + offset)))


def constant(t_s: Any, *, theta: float) -> Any:
    """The same theta at all times: 0 for inference, 1 for generation.

    t_s any shape -> the same shape. Raises ValueError where theta is outside [0, 1].
    """
    if not 0 <= theta <= 1:
        raise ValueError(f"theta must be between 0 and 1, but is {theta}")
    numpy = _numpy_of(t_s)
    return numpy.full(numpy.shape(t_s), float(theta))


def tabulate(gate: Gate, *, dt_s: float) -> np.ndarray:
    """Theta at the steps 0, dt, 2 dt, ... of 1000 s, computed on the host in float64: [step].

    Step k of a simulation reads index k mod len(table). Time in float32 would blur the edges of a
    square gate after some minutes. The table repeats without a seam for every frequency that is a
    multiple of 0.001 Hz. A fraction of a cycle is rounded to whole steps.
    Raises ValueError where dt_s is not positive or does not divide 1000 s, and where the gate does
    not return one number in [0, 1] for each time.
    """
    check.positive(dt_s=dt_s)
    num_steps = round(WRAP_S / dt_s)
    if abs(num_steps * dt_s - WRAP_S) > 1e-6:
        raise ValueError(f"dt_s must divide {WRAP_S} s, but is {dt_s}")
    table = np.asarray(gate(np.arange(num_steps) * dt_s), np.float64)
    if table.shape != (num_steps,):
        raise ValueError(
            f"a theta gate must return one value for each time: {(num_steps,)} values, but it "
            f"returned {table.shape}"
        )
    if not ((table >= 0) & (table <= 1)).all():
        raise ValueError("a theta gate must stay between 0 and 1")
    return table
