"""The one interface that every model of the zoo implements."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Whole(NamedTuple):
    """A batch that is used as one, as a data set that a step goes through in its own order.

    Every device gets all of it, where other batches are divided among them.
    """

    data: Any


class Task(NamedTuple):
    """A model and its training problem as five pure functions; hyperparameters are closed over.

    init      (key, data) -> state. State is a pytree of arrays.
    sample    (data, key) -> batch. Every leaf is [batch, ...], or the batch is Whole; () where the
              state is its own data.
    step      (state, batch, key) -> (state, scalars). Scalars is a dict of rank-0 arrays.
    evaluate  (state, data, key) -> (scalars, readout). Jittable; the readout is a dict of arrays,
              saved beside the checkpoint, from which every figure can be drawn again later.
    figures   (readout) -> {name: matplotlib Figure}. Runs on the host on NumPy arrays.

    All but `figures` can be jitted and vmapped over a leading [seed] axis of state and key. A key
    is consumed once by the function that it is handed to.
    """

    init: Callable[..., Any]
    sample: Callable[..., Any]
    step: Callable[..., Any]
    evaluate: Callable[..., Any]
    figures: Callable[..., Any]
