"""Working memory: the window of recent samples, read from the data set or kept in the state."""

from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from hfjax import check

Contents = Any  # what a working memory keeps in the state of the task; () for nothing


class Samples(NamedTuple):
    """inputs [sample, ...] as the data set has them, targets [sample, class], one-hot."""

    inputs: jax.Array
    targets: jax.Array


class Start(Protocol):
    """(contents, data, order, i) -> contents."""

    def __call__(
        self, contents: Contents, data: Samples, order: jax.Array, i: jax.Array, /
    ) -> Contents:
        """The contents before window i of an epoch; order [sample] is the order of the epoch."""


class Recall(Protocol):
    """(contents, data, order, i) -> (contents, window)."""

    def __call__(
        self, contents: Contents, data: Samples, order: jax.Array, i: jax.Array, /
    ) -> tuple[Contents, Samples]:
        """Window i, oldest sample first; windows are recalled one after the other."""


class Clear(Protocol):
    """(data) -> contents."""

    def __call__(self, data: Samples, /) -> Contents:
        """The contents before training."""


class WorkingMemory(NamedTuple):
    """How the window of recent samples is kept; made by `sliding_windows` or `ring_buffer`.

    Window i of an epoch holds the samples order[i stride : i stride + window], oldest first.
    """

    window: int
    stride: int
    init: Clear
    start: Start
    recall: Recall


def _check_window(window: int, stride: int) -> None:
    check.at_least(2, window=window)
    check.at_least(1, stride=stride)
    if stride > window:
        raise ValueError(f"stride must be at most window ({window}), but is {stride}")


def _take(data: Samples, rows: jax.Array) -> Samples:
    return jax.tree.map(lambda a: jnp.take(a, rows, axis=0, mode="clip"), data)


# --- Read anew ---


def sliding_windows(*, window: int = 6, stride: int = 1) -> WorkingMemory:
    """All samples of a window are read anew from the data set: nothing is kept.

    window: samples in a window, 2 or more. stride: samples by which a window moves on.
    Raises ValueError for a window below 2, a stride below 1, and a stride above the window.
    """
    _check_window(window, stride)
    return WorkingMemory(
        window,
        stride,
        init=lambda data: (),
        start=lambda contents, data, order, i: contents,
        recall=partial(_read, window=window, stride=stride),
    )


def _read(
    contents: Contents,
    data: Samples,
    order: jax.Array,
    i: jax.Array,
    /,
    *,
    window: int,
    stride: int,
) -> tuple[Contents, Samples]:
    rows = jax.lax.dynamic_slice_in_dim(order, i * stride, window)
    return contents, _take(data, rows)


# --- Kept in a ring ---


class Ring(NamedTuple):
    """samples [window, ...] in a ring; slot `oldest` is overwritten next."""

    samples: Samples
    oldest: jax.Array


def ring_buffer(*, window: int = 6, stride: int = 1) -> WorkingMemory:
    """The online form: the window is kept in the state; `stride` samples in, one update out.

    window, stride: as in `sliding_windows`.
    Only the new samples are read. At the start of an epoch the ring is filled with the first
    window - stride samples, so that updates equal those of `sliding_windows`, step by step.
    Raises ValueError as `sliding_windows` does.
    """
    _check_window(window, stride)
    return WorkingMemory(
        window,
        stride,
        init=partial(_empty_ring, window=window),
        start=partial(_fill, window=window, stride=stride),
        recall=partial(_replace_oldest, window=window, stride=stride),
    )


def _empty_ring(data: Samples, /, *, window: int) -> Ring:
    empty = jax.tree.map(lambda a: jnp.zeros((window, *a.shape[1:]), a.dtype), data)
    return Ring(empty, jnp.int32(0))


def _push(ring: Ring, new: Samples) -> Ring:
    window, count = ring.samples.targets.shape[0], new.targets.shape[0]
    slots = (ring.oldest + jnp.arange(count)) % window
    samples = jax.tree.map(lambda kept, a: kept.at[slots].set(a), ring.samples, new)
    return Ring(samples, (ring.oldest + count) % window)


def _fill(
    ring: Ring, data: Samples, order: jax.Array, i: jax.Array, /, *, window: int, stride: int
) -> Ring:
    first = _push(_empty_ring(data, window=window), _take(data, order[: window - stride]))
    return jax.tree.map(partial(jnp.where, i == 0), first, ring)


def _replace_oldest(
    ring: Ring, data: Samples, order: jax.Array, i: jax.Array, /, *, window: int, stride: int
) -> tuple[Ring, Samples]:
    rows = jax.lax.dynamic_slice_in_dim(order, i * stride + window - stride, stride)
    ring = _push(ring, _take(data, rows))
    return ring, _take(ring.samples, (ring.oldest + jnp.arange(window)) % window)
