"""Helpers around Fiddle configs: checks of types and names, differences, and their messages."""

import inspect
import itertools
import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

import fiddle as fdl
import numpy as np
from fiddle import daglish

from hfjax.errors import InputError, nearest, one_line


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
    """{dotted path: value} of every setting; a function, and that of a part, is `module:name`."""
    flat: dict[str, Any] = {}

    def visit(value: Any, path: str) -> None:
        if isinstance(value, fdl.Buildable):
            if path:
                flat[path] = function_name(fdl.get_callable(value))
            for name, child in value.__arguments__.items():
                visit(child, f"{path}[{name}]" if isinstance(name, int) else f"{path}.{name}")
        elif isinstance(value, list | tuple) and _has_parts(value):
            for i, child in enumerate(value):
                visit(child, f"{path}[{i}]")
        else:
            flat[path] = function_name(value) if callable(value) else value

    visit(config, "")
    return {path.removeprefix("."): value for path, value in flat.items()}


def _has_parts(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_has_parts, value))
    return callable(value) or isinstance(value, fdl.Buildable)


def function_name(function: Callable) -> str:
    """`module:name` of a function, by the shortest public module that has it."""
    owner = function if hasattr(function, "__qualname__") else type(function)
    module, name = owner.__module__ or "", owner.__qualname__
    parts = [part for part in module.split(".") if not part.startswith("_")]
    for length in range(1, len(parts) + 1):
        public = ".".join(parts[:length])
        if getattr(sys.modules.get(public), name, None) is function:
            return f"{public}:{name}"
    return f"{module}:{name}"


def apply_fiddlers(config: fdl.Config, fiddlers: Mapping[str, Callable[[Any], None]]) -> None:
    """Change a config by {name: fiddler}, in this order, where any order gives the same config.

    Raises InputError where two fiddlers give another config in the other order, with the first
    setting in which the two configs differ, and where a fiddler cannot change the config.
    """

    def changed(*names: str) -> fdl.Config:
        copy = fdl.deepcopy_with(config)
        for name in names:
            try:
                fiddlers[name](copy)
            except (AttributeError, TypeError, ValueError) as error:
                others = [f"--fiddler={other}" for other in names if other != name]
                after = " does not go with " + " ".join(others) if others else " does not fit"
                raise InputError(f"--fiddler={name}{after}: {one_line(error)}") from error
        return copy

    for first, second in itertools.combinations(fiddlers, 2):
        paths = differing_paths(changed(first, second), changed(second, first))
        if paths:
            raise InputError(
                f"--fiddler={first} and --fiddler={second} both set {paths[0]}; give one."
            )
    changed(*fiddlers)
    for fiddler in fiddlers.values():
        fiddler(config)


def differing_paths(old: fdl.Buildable, new: fdl.Buildable) -> list[str]:
    """The dotted paths of the settings in which two configs differ."""
    a, b = flatten(old), flatten(new)
    return [p for p in dict.fromkeys([*a, *b]) if p not in a or p not in b or a[p] != b[p]]


def difference(stored: fdl.Buildable, given: fdl.Buildable, most: int = 5) -> str:
    """The first settings in which two configs differ, as text."""
    old, new = flatten(stored), flatten(given)
    paths = differing_paths(stored, given)
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
