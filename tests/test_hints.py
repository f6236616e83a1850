"""Type annotations of settings: whether a value fits one, and what to call it."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import fiddle as fdl
import jax
import numpy as np
import optax
import pytest

from hfjax.task import Task
from hfjax.training import hints


class Callback(Protocol):
    def __call__(self, x: float) -> float: ...


class Pair(NamedTuple):
    first: int


def small(x):
    return x


@pytest.mark.parametrize(
    ("hint", "good", "bad", "words"),
    [
        (int, 3, 3.0, "a whole number"),
        (int, 3, True, "a whole number"),
        (float, 3, "3", "a number"),
        (float | None, None, "x", "a number or None"),
        (None | str, "x", 3, "a string or None"),
        (tuple[int, ...], (1, 2), (1, 2.5), "a tuple of whole numbers"),
        (tuple[str, ...], (), "loss", "a tuple of strings"),
        (tuple[int, float], [1, 2], (1, "x"), "a tuple of 2 items: a whole number, a number"),
        (tuple[Pair | Callback, ...], (Pair(1),), (3,), "a tuple of items, each a Pair or a fun"),
        (Callback, small, 3, "a function"),
        (Callable[[int], int], small, None, "a function"),
        (Callback | None, None, 3, "a function or None"),
        (Task, fdl.Config(small), 3, "a Task"),
        (Pair | None, Pair(1), (1,), "a Pair or None"),
        (optax.GradientTransformation, optax.sgd(0.1), 3, "a GradientTransformation"),
        (jax.Array, np.zeros(3), "x", "an array"),
        (jax.Array | None, [1.0], small, "an array or None"),
        (Sequence[int], (1, 2), 3, "a list of whole numbers"),
        (Sequence[int | str] | None, ["x", 2], "x", "a list of whole numbers or strings or None"),
        (Sequence[Pair], [Pair(1)], [3], "a list of items, each a Pair"),
        (jax.typing.ArrayLike, True, "x", "an array or a number"),
    ],
)
def test_types(hint, good, bad, words):
    assert hints.fits(good, hint)
    assert not hints.fits(bad, hint)
    assert hints.in_words(hint).startswith(words)


def test_any_value_fits():
    assert hints.fits("x", Any)
    assert hints.in_words(Any) == "any value"


def test_one_annotation_without_a_meaning_costs_no_other():
    """As in optax.adamw, whose `mask` names what its module does not have."""
    found = hints.hints_of(optax.adamw)
    assert hints.takes_function(found["learning_rate"])
    assert found["nesterov"] is bool
    assert not hints.fits("optax:exponential_decay", found["learning_rate"])
