"""The one interface that every model of the zoo implements.

A model and its training problem are five pure functions; hyperparameters are closed over. All but
`figures` can be jitted, and vmapped over a leading [seed] axis of state and key. A function
consumes each key that it is handed once.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from matplotlib.figure import Figure

Scalars = dict[str, jax.Array]  # rank-0 float arrays by name
Readout = dict[str, jax.Array]  # arrays by name
HostReadout = Mapping[str, np.ndarray]  # a readout on the host, as figures take it


class Whole(NamedTuple):
    """A batch that every device gets whole, as a data set that a step visits in its own order.

    Other batches are divided among the devices.
    """

    data: Any


class Init(Protocol):
    """(key, data) -> state, a pytree of arrays."""

    def __call__(self, key: jax.Array, data: Any, /) -> Any:
        """The state before training."""


class Sample(Protocol):
    """(data, key) -> batch."""

    def __call__(self, data: Any, key: jax.Array, /) -> Any:
        """Every leaf is [batch, ...]; or the batch is `Whole`; () where the state is the data."""


class Step(Protocol):
    """(state, batch, key) -> (state, scalars)."""

    def __call__(self, state: Any, batch: Any, key: jax.Array, /) -> tuple[Any, Scalars]:
        """One training step; the state keeps its structure, shapes and dtypes."""


class Evaluate(Protocol):
    """(state, data, key) -> (scalars, readout)."""

    def __call__(self, state: Any, data: Any, key: jax.Array, /) -> tuple[Scalars, Readout]:
        """The numbers of an evaluation, and the arrays from which its figures are drawn."""


class Figures(Protocol):
    """(readout) -> {name: figure}, on the host."""

    def __call__(self, readout: HostReadout, /) -> dict[str, Figure]:
        """Every figure of a readout, each a Matplotlib figure of its own."""


def no_batch(data: Any, key: jax.Array, /) -> tuple[()]:
    """The `sample` of a task whose state is its own data."""
    del data, key
    return ()


class Task(NamedTuple):
    """A model and its training problem.

    init      (key, data) -> state
    sample    (data, key) -> batch
    step      (state, batch, key) -> (state, scalars)
    evaluate  (state, data, key) -> (scalars, readout)
    figures   (readout) -> {name: Figure}
    """

    init: Init
    sample: Sample
    step: Step
    evaluate: Evaluate
    figures: Figures
