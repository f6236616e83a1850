"""Helpers around Fiddle configs: checks of types and names, differences, and their messages."""

import inspect
import types
import typing
from collections.abc import Callable
from typing import Any

import fiddle as fdl
import numpy as np
from fiddle import daglish, printing

from hfjax.errors import InputError, nearest


class NumSteps(fdl.Tag):
    """The experiment's num_steps, for a schedule that ends with the run: `NumSteps.new()`."""


def fill_in_num_steps(config: fdl.Buildable) -> None:
    """Give every argument tagged NumSteps, and not set otherwise, the value of config.num_steps."""
    for node, _ in daglish.iterate(config):
        if isinstance(node, fdl.Buildable):
            for name, tags in node.__argument_tags__.items():
                if NumSteps in tags and name not in node.__arguments__:
                    setattr(node, name, config.num_steps)


def flatten(config: fdl.Buildable) -> dict[str, Any]:
    """{dotted path: value} of every setting, functions by their name."""
    flat = printing.as_dict_flattened(config)
    return {k: getattr(v, "__name__", v) if callable(v) else v for k, v in flat.items()}


def difference(stored: fdl.Buildable, given: fdl.Buildable, most: int = 5) -> str:
    """The first settings in which two configs differ, as text."""
    old, new = flatten(stored), flatten(given)
    paths = [p for p in dict.fromkeys([*old, *new]) if old.get(p) != new.get(p)]
    shown = [f"{p} is {old.get(p, 'unset')} there, {new.get(p, 'unset')} here" for p in paths]
    more = f", and {len(shown) - most} more" if len(shown) > most else ""
    return ("; ".join(shown[:most]) or "they call another function") + more


def check_path(config: fdl.Buildable, path: str) -> None:
    """Raise InputError, with the nearest match, where a dotted path names no field of a config."""
    node: Any = config
    for depth, name in enumerate(path.split(".")):
        if not isinstance(node, fdl.Buildable):
            parent = ".".join(path.split(".")[:depth])
            raise InputError(f"there is no field {path!r}: {parent!r} has no fields of its own.")
        fields = inspect.signature(fdl.get_callable(node)).parameters
        name = name.partition("[")[0]  # an item of a list or dict is Fiddle's to find
        if name not in fields:
            raise InputError(f"there is no field {path!r}: {nearest(name, fields)}")
        node = getattr(node, name, None)


def check_types(config: fdl.Buildable) -> None:
    """Raise InputError where a setting is not of the type that its function's signature names.

    Only plain types are judged (numbers, strings, booleans, None, functions, tuples of these); an
    int is accepted as a float. Whatever else a signature names is left to the function itself.
    """
    for node, path in daglish.iterate(config):
        if not isinstance(node, fdl.Buildable):
            continue
        function = fdl.get_callable(node)
        try:
            hints = typing.get_type_hints(
                function.__init__ if inspect.isclass(function) else function
            )
        except (NameError, TypeError):
            continue  # a library's annotation that cannot be evaluated
        for name, value in fdl.ordered_arguments(node).items():
            if name in hints and not _fits(value, hints[name]):
                where = daglish.path_str((*path, daglish.Attr(name))).lstrip(".")
                raise InputError(
                    f"{where} must be {_spoken(hints[name])}, but is {value!r} "
                    f"({type(value).__name__})."
                )


def _fits(value: Any, hint: Any) -> bool:
    if isinstance(value, fdl.Buildable):
        return True  # what it will make is for its own function to check
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if Callable in (hint, origin):
        return callable(value)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, h) for h in arguments)
    if origin is tuple:
        if not isinstance(value, tuple | list):
            return False
        if arguments[-1:] == (Ellipsis,):
            return all(_fits(v, arguments[0]) for v in value)
        return len(value) == len(arguments) and all(map(_fits, value, arguments))
    if hint in (bool, str, types.NoneType):
        return isinstance(value, hint)
    if hint in (int, float):
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        return whole or (hint is float and isinstance(value, float | np.floating))
    return True


def _spoken(hint: Any) -> str:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(map(_spoken, typing.get_args(hint)))
    words = {int: "a whole number", float: "a number", str: "a string", bool: "True or False"}
    if Callable in (hint, typing.get_origin(hint)):
        return "a function"
    return words.get(hint, "None" if hint is types.NoneType else str(hint))
