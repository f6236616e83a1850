"""Type annotations of settings: whether a value fits one, and what to call it."""

import collections.abc
import contextlib
import inspect
import types
import typing
from collections.abc import Callable
from typing import Any

import fiddle as fdl
import jax
import numpy as np

Hint = Any  # a type annotation

ARRAYS = (jax.Array, np.ndarray, np.generic)
# What a value and several values of a plain type are called.
WORDS = {
    bool: ("True or False", "True or False"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    complex: ("a number", "numbers"),
    str: ("a string", "strings"),
    types.NoneType: ("None", "None"),
    Any: ("any value", "any values"),
}


def hints_of(function: Callable) -> dict[str, Hint]:
    """{parameter: type annotation} of a function or class, of those that can be evaluated."""
    has_init = inspect.isclass(function) and not hasattr(function, "_fields")  # no NamedTuple
    annotated = function.__init__ if has_init else function
    with contextlib.suppress(NameError, TypeError):
        return typing.get_type_hints(annotated)
    # One by one: optax.adamw has one that names what is not in its module.
    hints: dict[str, Hint] = {}
    scope = getattr(inspect.unwrap(annotated), "__globals__", {})
    for name, annotation in getattr(annotated, "__annotations__", {}).items():
        with contextlib.suppress(NameError, TypeError):
            hints |= typing.get_type_hints(
                types.SimpleNamespace(__annotations__={name: annotation}), scope
            )
    return hints


def fits(value: Any, hint: Hint) -> bool:
    """Whether a value is of an annotated type; True where the annotation cannot be judged.

    An int is accepted as a float, and what is neither a string nor a function as an array.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(value, fdl.Buildable) or hint is Any:
        return True  # what it will make is for its own function to check
    if is_union(hint):
        return any(fits(value, h) for h in arguments)
    if takes_function(hint):
        return callable(value)
    if origin is tuple:
        if not isinstance(value, tuple | list):
            return False
        if arguments[-1:] == (Ellipsis,):
            return all(fits(v, arguments[0]) for v in value)
        return len(value) == len(arguments) and all(map(fits, value, arguments))
    if origin in (list, collections.abc.Sequence):
        is_list = isinstance(value, list | tuple)
        return is_list and all(fits(v, arguments[0]) for v in value)
    if hint in (int, float):
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        return whole or (hint is float and isinstance(value, float | np.floating))
    if _is_array(hint):
        return not isinstance(value, str | types.NoneType) and not callable(value)
    is_plain = inspect.isclass(hint) and origin is None and not getattr(hint, "_is_protocol", False)
    return not is_plain or isinstance(value, hint)


def is_union(hint: Hint) -> bool:
    """Whether an annotation is of several types, as int | None."""
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def takes_function(hint: Hint) -> bool:
    """Whether an annotation is that of a function: Callable, a Protocol with __call__, or None."""
    if is_union(hint):
        return any(map(takes_function, typing.get_args(hint)))
    is_protocol = getattr(hint, "_is_protocol", False) and "__call__" in vars(hint)
    return Callable in (hint, typing.get_origin(hint)) or is_protocol


def _is_array(hint: Hint) -> bool:
    return inspect.isclass(hint) and hint is not Any and issubclass(hint, ARRAYS)


def wrong_type(path: str, value: Any, hint: Hint) -> str:
    """The sentence about a setting of another type than its annotation."""
    return f"{path} must be {in_words(hint)}, but is {value!r}."


def in_words(hint: Hint) -> str:
    """A type annotation for a reader."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if is_union(hint):
        words = list(dict.fromkeys(in_words(h) for h in arguments if h is not types.NoneType))
        if "an array" in words:  # of which numbers and booleans are the smallest
            words = [w for w in words if w not in ("True or False", "a whole number")]
        return " or ".join([*words, *["None" for h in arguments if h is types.NoneType]])
    if takes_function(hint):
        return "a function"
    if origin is tuple:
        return f"a tuple of {_several(arguments)}"
    if _is_array(hint):
        return "an array"
    if hint in WORDS:
        return WORDS[hint][0]
    if origin in (list, collections.abc.Sequence):
        return f"a list of {_several((arguments[0], ...))}"
    return f"{'an' if _name(hint)[0] in 'AEIOU' else 'a'} {_name(hint)}"


def _several(hints: tuple[Hint, ...]) -> str:
    if hints[-1:] != (Ellipsis,):
        return f"{len(hints)} items: {', '.join(map(in_words, hints))}"
    choices = typing.get_args(hints[0]) if is_union(hints[0]) else hints[:1]
    if all(choice in WORDS for choice in choices):
        return " or ".join(WORDS[choice][1] for choice in choices)
    return f"items, each {in_words(hints[0])}"


def _name(hint: Hint) -> str:
    return getattr(hint, "__name__", None) or str(hint).rpartition(".")[2]
