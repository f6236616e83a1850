"""Working memory: the window of recent samples."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Samples(NamedTuple):
    """inputs [sample, ...] as the data set has them, targets [sample, class], one-hot."""

    inputs: jax.Array
    targets: jax.Array


class WorkingMemory(NamedTuple):
    """How the window of recent samples is kept; made by `sliding_windows` or `ring_buffer`.

    `order` [sample] is the order of this epoch; window i holds the samples
    order[i stride : i stride + window], oldest first.
    init (data, *, window) -> contents.
    start (contents, data, order, i, *, window, stride) -> contents, before the windows i, i+1, ...
    recall (contents, data, order, i, *, window, stride) -> (contents, Samples of window i).
    """

    init: Callable[..., Any]
    start: Callable[..., Any]
    recall: Callable[..., tuple[Any, Samples]]


def _take(data: Samples, rows: jax.Array) -> Samples:
    return jax.tree.map(lambda a: jnp.take(a, rows, axis=0, mode="clip"), data)


def sliding_windows() -> WorkingMemory:
    """All samples of a window are read from the data set anew: nothing is kept."""

    def recall(contents, data, order, i, *, window, stride):
        rows = jax.lax.dynamic_slice_in_dim(order, i * stride, window)
        return contents, _take(data, rows)

    return WorkingMemory(
        init=lambda data, *, window: (),
        start=lambda contents, data, order, i, *, window, stride: contents,
        recall=recall,
    )


class Ring(NamedTuple):
    """samples [window, ...] in a ring, of which slot `oldest` is written over next."""

    samples: Samples
    oldest: jax.Array


def ring_buffer() -> WorkingMemory:
    """The online form: the window lies in the state; `stride` samples in (one), one update out.

    Only the new samples are read. At the start of an epoch the ring is filled with its first
    window - stride samples, so that updates are those of `sliding_windows`, step by step.
    """

    def init(data, *, window):
        empty = jax.tree.map(lambda a: jnp.zeros((window, *a.shape[1:]), a.dtype), data)
        return Ring(empty, jnp.int32(0))

    def push(ring, new, window):
        count = new.targets.shape[0]
        slots = (ring.oldest + jnp.arange(count)) % window
        samples = jax.tree.map(lambda kept, a: kept.at[slots].set(a), ring.samples, new)
        return Ring(samples, (ring.oldest + count) % window)

    def start(ring, data, order, i, *, window, stride):
        first = push(init(data, window=window), _take(data, order[: window - stride]), window)
        return jax.tree.map(partial(jnp.where, i == 0), first, ring)

    def recall(ring, data, order, i, *, window, stride):
        rows = jax.lax.dynamic_slice_in_dim(order, i * stride + window - stride, stride)
        ring = push(ring, _take(data, rows), window)
        return ring, _take(ring.samples, (ring.oldest + jnp.arange(window)) % window)

    return WorkingMemory(init, start, recall)
