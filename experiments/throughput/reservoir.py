"""Windows of 20 time steps of the reservoir of 2000 units, against Python window by window."""

from typing import Any

import jax
import jax.numpy as jnp

from experiments.throughput.core import Row, Section, Timed, medians_ms, training_step
from hfjax import kernels
from hfjax.data import labelled
from hfjax.models import biohsic, reservoir

WINDOW, TIME_STEPS = 10, 20


def one_window(
    state: Any, x: jax.Array, y: jax.Array, readout: jax.Array, u: jax.Array, first: int
) -> tuple[jax.Array, jax.Array]:
    """The window of samples from `first` on, by the model's own functions: (readout, u)."""
    recent = [jax.lax.dynamic_slice_in_dim(a, first, WINDOW) for a in (x, y, state.z)]
    Kx, Ky = (kernels.rbf_kernel(a, sigma=0.5) for a in recent[:2])
    xi = kernels.global_signal(Kx, Ky, recent[2], gamma=2.0, sigma=0.5)
    drive = state.weights.inputs @ jnp.concatenate([a[-1] for a in recent])
    cell = reservoir.Cell()

    def time_step(carry: tuple[jax.Array, jax.Array], _: None) -> tuple[Any, jax.Array]:
        readout, u = carry
        u, r, o = reservoir.advance(state.weights, readout, u, drive, (0.0, 0.0), cell)
        return (reservoir.rmhebb(readout, r, o, xi, rate=5e-4), u), o

    return jax.lax.scan(time_step, (readout, u), length=TIME_STEPS)[0]


def loop(state: Any, x: jax.Array, y: jax.Array, num_windows: int) -> Timed:
    """An epoch, each window sent from Python."""
    window = jax.jit(one_window)

    def run() -> Any:
        carry = state.readout, state.u
        for first in range(num_windows):
            carry = jax.block_until_ready(window(state, x, y, *carry, first))
        return carry

    return run


def windows(repeats: int, quick: bool) -> list[Row]:
    """An epoch of a hundred samples as one device program."""
    num_samples = 20 if quick else 100
    num_windows = num_samples - WINDOW + 1
    task, data = reservoir.task(num_samples=num_samples), labelled.digits()
    state = jax.jit(task.init)(jax.random.key(0), data)
    images, y = jax.device_put((data["test_inputs"], data["test_targets"]))
    x = biohsic.pixels(images.reshape(len(images), -1))
    times = medians_ms(
        {"scan": training_step(task, data), "loop": loop(state, x, y, num_windows)}, repeats
    )
    per_window, per_call = (times[name] / num_windows for name in ("scan", "loop"))
    return [
        Row(
            f"a window of {TIME_STEPS} time steps, 2000 units",
            per_window,
            f"{1e3 / per_window:.0f} windows/s",
        ),
        Row("a time step of it", per_window / TIME_STEPS),
        Row(
            "the same window sent from Python",
            per_call,
            f"{1e3 / per_call:.0f} windows/s, {per_call / per_window:.2f} x",
        ),
    ]


SECTIONS = {"reservoir": Section(windows, 5)}
