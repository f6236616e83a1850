"""Fiddle configs: their settings by dotted path, fiddlers, checks, and differences."""

import contextlib
import inspect
import itertools
import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import fiddle as fdl
import numpy as np
from fiddle import daglish

from hfjax.errors import InputError, one_line
from hfjax.files import local_path
from hfjax.training.hints import fits, hints_of, wrong_type

UNSET = inspect.Parameter.empty  # the value of a setting that is not set and has no default
# Settings of optimizers and schedules that must be positive numbers.
POSITIVE = ("learning_rate", "init_value", "peak_value", "max_delta", "max_norm")


class NumSteps(fdl.Tag):
    """The experiment's num_steps, for a schedule that ends with the run: `NumSteps.new()`."""


def fill_in_num_steps(config: fdl.Buildable) -> None:
    """Give every argument tagged NumSteps, and not set otherwise, the value of config.num_steps."""
    for node, _ in daglish.iterate(config):
        if isinstance(node, fdl.Buildable):
            for name, tags in node.__argument_tags__.items():
                if NumSteps in tags and name not in node.__arguments__:
                    setattr(node, name, config.num_steps)


# --- Settings by path ---


class Setting(NamedTuple):
    """A parameter of one of the functions of a config; `value` is its default where it is unset."""

    path: str  # dotted, as task.network.nonlinearity; an item of a tuple is [i]
    node: fdl.Buildable  # that has the parameter
    name: str  # of the parameter; empty for an item
    value: Any

    @property
    def function(self) -> Callable:
        """The function that has the parameter."""
        return fdl.get_callable(self.node)

    @property
    def is_partial(self) -> bool:
        """Whether the caller of the function gives it more arguments."""
        return isinstance(self.node, fdl.Partial)


def settings(config: fdl.Buildable) -> Iterator[Setting]:
    """Every setting of a config, set or not, each before those below it."""
    yield from _settings_below(config, "")


def _settings_below(node: Any, path: str) -> Iterator[Setting]:
    if isinstance(node, fdl.Buildable):
        for name in fields(fdl.get_callable(node)):
            value = getattr(node, name, UNSET)
            below = f"{path}.{name}" if path else name
            yield Setting(below, node, name, value)
            yield from _settings_below(value, below)
    for i, value in _items(node):
        if isinstance(value, fdl.Buildable):
            yield Setting(f"{path}[{i}]", value, "", value)
            yield from _settings_below(value, f"{path}[{i}]")


def _items(node: Any) -> Iterator[tuple[int, Any]]:
    """The numbered items of a list or tuple, or of a config of a function that takes *args."""
    if isinstance(node, fdl.Buildable):
        yield from ((i, v) for i, v in node.__arguments__.items() if isinstance(i, int))
    elif isinstance(node, list | tuple):
        yield from enumerate(node)


def has_parts(value: Any) -> bool:
    """Whether a value is a list or tuple whose items have settings; they are listed by item."""
    return isinstance(value, list | tuple) and any(isinstance(v, fdl.Buildable) for v in value)


def fields(function: Callable) -> list[str]:
    """The names of a function's parameters, without *args and **kwargs."""
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [n for n, p in inspect.signature(function).parameters.items() if p.kind not in several]


def flatten(config: fdl.Buildable) -> dict[str, Any]:
    """{dotted path: value} of what is set; a function, and that of a part, is `module:name`."""
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


# --- Paths of files ---


def absolute_paths(config: fdl.Buildable) -> fdl.Buildable:
    """A copy in which every path of a file or folder is absolute, with ~ expanded.

    It then leads to the same file from any current directory. A path is a string named `path` or
    `init_from`, or one whose name ends in _path, _dir, _file or _folder, or that ends in .npz.
    An address of another storage, or pretrained:NAME, stays as it is, for the function that takes
    it to judge.
    """
    config = fdl.deepcopy_with(config)
    for setting in list(settings(config)):
        value = setting.value
        is_path = re.fullmatch(r"path|init_from|\w+_(path|dir|file|folder)", setting.name)
        if not isinstance(value, str) or not value or value.startswith("pretrained:"):
            continue
        if is_path or value.endswith(".npz"):
            with contextlib.suppress(ValueError):
                setattr(setting.node, setting.name, os.path.abspath(local_path(value)))
    return config


# --- Fiddlers ---


def apply_fiddlers(config: fdl.Config, fiddlers: Mapping[str, Callable[[Any], None]]) -> None:
    """Change a config by {name: fiddler}, where any order gives the same config.

    Raises InputError where two fiddlers give another config in the other order, with a setting
    that both of them change, and where a fiddler cannot change the config.
    """

    def changed(*names: str) -> fdl.Config:
        copy = fdl.deepcopy_with(config)
        for name in names:
            try:
                fiddlers[name](copy)
            except (AttributeError, TypeError, ValueError) as error:
                others = [f"--fiddler={other}" for other in names if other != name]
                after = "does not go with " + " ".join(others) if others else "does not fit"
                raise InputError(f"--fiddler={name} {after}: {_reason(error)}") from error
        return copy

    def check_order(names: tuple[str, ...]) -> None:
        paths = differing_paths(changed(*names), changed(*names[::-1]))
        if not paths:
            return
        alone = [differing_paths(config, changed(name)) for name in names]
        both = [p for p in paths if sum(any(_is_at(q, p) for q in own) for own in alone) > 1]
        outermost = min(both or paths, key=lambda path: path.count(".") + path.count("["))
        *most, last = (f"--fiddler={name}" for name in names)
        raise InputError(
            f"{', '.join(most)} and {last} {'both' if len(names) == 2 else 'all'} set {outermost}; "
            "give one of them."
        )

    names = tuple(fiddlers)
    for pair in itertools.combinations(names, 2):
        check_order(pair)
    check_order(names)
    for fiddler in fiddlers.values():
        fiddler(config)


def _is_at(path: str, outer: str) -> bool:
    """Whether a path is that of a setting or of a part of it."""
    return path == outer or path.startswith((f"{outer}.", f"{outer}["))


def _reason(error: Exception) -> str:
    """Why a fiddler failed, with Fiddle's sentences about parameters as ones about settings."""
    text = re.sub(r"<(?:function|class) '?([^\s'>]+)[^>]*>", r"\1", one_line(error))
    missing = re.match(r"No parameter named '(\w+)' exists for (\S+);", text)
    unset = re.match(r"No parameter '(\w+)' has been set on <\w+\[(\w+)", text)
    if missing:
        return f"{missing[2].rpartition('.')[2]} has no setting {missing[1]!r}."
    return f"{unset[1]!r} of {unset[2]} is not set." if unset else text


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


# --- Checks ---


def check_settings(config: fdl.Buildable) -> None:
    """Raise InputError where a setting is missing, of a wrong type, or a rate is not positive."""
    check_complete(config)
    check_types(config)
    check_optimizers(config)


def check_types(config: fdl.Buildable) -> None:
    """Raise InputError where a setting is not of the type that its function's signature names.

    See `hints.fits`. What another function makes is left to that function.
    """
    for node, path in daglish.iterate(config):
        if not isinstance(node, fdl.Buildable):
            continue
        hints = hints_of(fdl.get_callable(node))
        for name, value in fdl.ordered_arguments(node).items():
            if name in hints and not fits(value, hints[name]):
                where = daglish.path_str((*path, daglish.Attr(name))).lstrip(".")
                raise InputError(wrong_type(where, value, hints[name]))


def check_complete(config: fdl.Buildable) -> None:
    """Raise InputError where a setting without a default is not set."""
    for setting in settings(config):
        tags = setting.node.__argument_tags__.get(setting.name, ())
        if setting.value is UNSET and not setting.is_partial and NumSteps not in tags:
            raise InputError(f"{setting.path} is not set; give --fdl_set={setting.path}=VALUE.")


def check_optimizers(config: fdl.Buildable) -> None:
    """Raise InputError where a number of an optimizer or a schedule that must be positive is not.

    Judged are numbers named as in POSITIVE, of functions of optax and of hfjax's schedules. A
    schedule that rises may start from an init_value of 0.
    """
    for node, path in daglish.iterate(config):
        if not isinstance(node, fdl.Buildable):
            continue
        module = getattr(fdl.get_callable(node), "__module__", None) or ""
        if not (module.startswith("optax.") or module == "hfjax.training.schedules"):
            continue
        rises = any(_number(getattr(node, n, 0)) > 0 for n in ("peak_value", "end_value"))
        for name in POSITIVE:
            value = getattr(node, name, None)
            number = _number(value)
            zero_is_fine = name == "init_value" and rises and number == 0
            if math.isnan(number) or (number <= 0 and not zero_is_fine) or math.isinf(number):
                where = daglish.path_str((*path, daglish.Attr(name))).lstrip(".")
                raise InputError(f"{where} must be a positive number, but is {value!r}.")


def _number(value: Any) -> float:
    """A setting as a number; 1 where it is something else, such as a schedule."""
    is_number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return float(value) if is_number else 1.0
