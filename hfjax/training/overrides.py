"""Settings given as text, `task.network.nonlinearity=tanh`: paths, values, functions by name."""

import ast
import copy
import difflib
import functools
import importlib
import inspect
import os
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import fiddle as fdl

from hfjax.errors import InputError, nearest, one_line
from hfjax.training.config import fields, function_name, settings
from hfjax.training.hints import (
    Hint,
    fits,
    hints_of,
    in_words,
    is_union,
    takes_function,
    wrong_type,
)


def set_value(config: fdl.Config, path: str, text: str, names: Mapping[str, Any]) -> None:
    """Set the setting at a dotted path to what a text says.

    The text is a Python literal, a string without quotes where a string is expected, words between
    commas where a list of strings is expected, or a function where one is expected: by name, as
    `networks.tanh`, or as `module:function`. Names are looked up in the module of the current
    value, then in `names` and the modules among them, then in the modules of hfjax. A part of the
    config, such as task.network, keeps the arguments that the new function takes too. A function
    that makes a function, such as a schedule, becomes a part of the config.
    Raises InputError where there is no such setting or function, or the value is of another type.
    """

    def changed(current: Any, hint: Hint) -> Any:
        return _value(path, text, current, hint, names)

    _change(config, steps(path), None, changed, config, path)


def set_object(config: fdl.Config, path: str, value: Any) -> None:
    """Set the setting at a dotted path to a Python value.

    A function in place of a part of the config keeps the arguments that it takes too. Raises
    InputError where there is no such setting.
    """

    def changed(current: Any, _: Hint) -> Any:
        is_part = isinstance(current, fdl.Buildable) and not isinstance(value, fdl.Buildable)
        return with_function(current, value) if is_part and callable(value) else value

    _change(config, steps(path), None, changed, config, path)


def check_path(config: fdl.Config, path: str) -> None:
    """Raise InputError, with the nearest match, where a dotted path names no setting."""
    _change(copy.deepcopy(config), steps(path), None, lambda current, _: current, config, path)


# --- Paths ---


def steps(path: str) -> list[str | int]:
    """The names and indices of a path. Raises InputError where it is none."""
    if not re.fullmatch(r"[^.\[\]]+(\.[^.\[\]]+|\[\d+\])*", path):
        raise InputError(f"{path!r} is no path of a setting, as task.num_grid or show[0] is.")
    return [int(i) if i else name for name, i in re.findall(r"([^.\[\]]+)|\[(\d+)\]", path)]


def _change(
    node: Any,
    steps: Sequence[str | int],
    hint: Hint,
    change: Callable[[Any, Hint], Any],
    config: fdl.Config,
    path: str,
) -> Any:
    """`node` with what the steps lead to replaced by change(value, type annotation)."""
    if not steps:
        return change(node, hint)
    step, *rest = steps
    if inspect.isfunction(node):
        node = fdl.Partial(node)  # whose settings can then be set
    if isinstance(node, fdl.Buildable):
        function = fdl.get_callable(node)
        known = node.__arguments__ if isinstance(step, int) else fields(function)
        if step not in known:
            raise InputError(_no_such_setting(config, path, node, str(step)))
        if isinstance(step, int):
            node[step] = _change(node[step], rest, None, change, config, path)
        else:
            below = hints_of(function).get(step)
            current = getattr(node, step, None)
            setattr(node, step, _change(current, rest, below, change, config, path))
        return node
    if isinstance(node, list | tuple) and isinstance(step, int) and step < len(node):
        items = list(node)
        items[step] = _change(items[step], rest, None, change, config, path)
        return type(node)(items)
    raise InputError(_no_such_setting(config, path, None, str(step)))


def _no_such_setting(config: fdl.Config, path: str, node: fdl.Buildable | None, name: str) -> str:
    """The sentence about a path that leads nowhere, with the setting that may be meant."""
    last = path.rpartition(".")[2]
    every = [setting.path for setting in settings(config) if setting.name]
    here = fields(fdl.get_callable(node)) if node is not None else []
    parent = path.rpartition(name)[0].removesuffix(".")
    same = [p for p in every if p.rpartition(".")[2] == last]
    near = difflib.get_close_matches(name, here, n=1, cutoff=0.6)
    anywhere = {p.rpartition(".")[2]: p for p in reversed(every)}
    far = difflib.get_close_matches(last, anywhere, n=1, cutoff=0.75)
    likely = same or [f"{parent}.{n}" if parent else n for n in near] or [anywhere[n] for n in far]
    guess = f" did you mean {' or '.join(map(repr, likely))}?" if likely else ""
    if node is None:
        end = guess or f" {parent!r} has no settings of its own."
    else:
        word = "Settings" if guess else "settings"
        end = f"{guess} {word}{' there' if parent else ''}: {', '.join(here) or 'none'}."
    return f"there is no setting {path!r};{end}"


# --- Values ---


def _value(path: str, text: str, current: Any, hint: Hint, names: Mapping[str, Any]) -> Any:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return _named(path, text, current, hint, names)
    if hint is not None and not fits(value, hint) and _takes_text(hint):
        return text
    if isinstance(value, str) and _takes_words(hint):
        return [value]
    if isinstance(current, tuple) and isinstance(value, list):
        return tuple(value)
    return value


def _named(path: str, text: str, current: Any, hint: Hint, names: Mapping[str, Any]) -> Any:
    """A function by its name, or a string that was given without quotes."""
    is_part = isinstance(current, fdl.Buildable)
    if is_part or callable(current) or takes_function(hint) or any(map(_is_class, _choices(hint))):
        try:
            function = find_function(text, _near(current, hint), names)
        except InputError as error:
            if _takes_text(hint) and not (is_part and hint is Any):
                return text
            raise InputError(f"{path}={text}: {one_line(error)}") from error
        _check_made(path, function, hint)
        if is_part:
            return with_function(current, function)
        is_function = callable(current) or takes_function(hint)
        return function if is_function and not _makes_function(function) else fdl.Config(function)
    if hint is None or _takes_text(hint):
        return text
    if _takes_words(hint):
        words = [word.strip() for word in text.strip("[]()").split(",")]
        return [int(w) if re.fullmatch(r"-?\d+", w) else w.strip("'\"") for w in words if w]
    raise InputError(wrong_type(path, text, hint))


def _check_made(path: str, function: Callable, hint: Hint) -> None:
    """Raise InputError where a function is annotated to make what an annotation does not allow."""
    made = function if inspect.isclass(function) else hints_of(function).get("return")
    choices: list[Any] = [typing.get_origin(c) or c for c in _choices(hint) if c is not Any]
    classes = [c for c in choices if _is_class(c) or c is tuple]
    made_class = typing.get_origin(made) or made
    if not inspect.isclass(made_class) or not classes or takes_function(hint):
        return
    if not any(issubclass(made_class, c) for c in classes):
        raise InputError(
            f"{path} must be {in_words(hint)}, but {function_name(function)} makes "
            f"{in_words(made)}."
        )


def _choices(hint: Hint) -> tuple[Hint, ...]:
    return typing.get_args(hint) if is_union(hint) else () if hint is None else (hint,)


def _takes_text(hint: Hint) -> bool:
    return any(choice in (str, Any) for choice in _choices(hint))


def _takes_words(hint: Hint) -> bool:
    """Whether an annotation is of a list of strings."""
    return any(
        typing.get_origin(c) is Sequence and _takes_text(typing.get_args(c)[0])
        for c in _choices(hint)
    )


def _makes_function(function: Callable) -> bool:
    """Whether a function is annotated to return a function, as a schedule of optax is."""
    return not inspect.isclass(function) and takes_function(hints_of(function).get("return"))


def _is_class(hint: Hint) -> bool:
    """Whether an annotation is a class of which a function may make an instance."""
    return inspect.isclass(hint) and hint.__module__ != "builtins"


def with_function(part: fdl.Buildable, function: Callable) -> fdl.Buildable:
    """A part of a config with another function, and those of its arguments that fit."""
    new = type(part)(function)
    known = fields(function)
    for name, value in part.__arguments__.items():
        if name in known:
            setattr(new, name, value)
    for name, tags in part.__argument_tags__.items():
        if name in known:
            fdl.set_tags(new, name, tags)
    return new


# --- Functions by name ---


def find_function(
    text: str,
    near: Sequence[types.ModuleType] = (),
    names: Mapping[str, Any] = types.MappingProxyType({}),
) -> Callable:
    """The function that a name, `alias.name` or `module:name` means; see `set_value`.

    Raises InputError where there is none, or where a name means several.
    """
    module, colon, attribute = text.partition(":")
    if not colon and "." in text:
        alias, _, rest = text.partition(".")
        if alias in names:
            return _attribute(names[alias], rest, text)
        module, _, attribute = text.rpartition(".")
    if attribute:
        return _attribute(import_module(module), attribute, text)
    if not text.isidentifier():
        raise InputError(f"{text!r} is neither a Python value nor a function.")
    aliased = [value for value in names.values() if isinstance(value, types.ModuleType)]
    ours = [m for n, m in sys.modules.items() if re.match(r"hfjax\.(?!training)", n)]
    for places in (near, [types.SimpleNamespace(**names), *aliased], ours):
        meant = {id(f): f for place in places if callable(f := getattr(place, text, None))}
        if len(meant) > 1:
            several = " or ".join(sorted(map(function_name, meant.values())))
            raise InputError(f"the name {text!r} is not unique; write {several}.")
        if meant:
            return next(iter(meant.values()))
    known = [n for place in near for n, f in vars(place).items() if inspect.isfunction(f)]
    close = difflib.get_close_matches(text, known, n=1, cutoff=0.5)
    guess = f"did you mean {close[0]!r}? Write" if close else "write"
    raise InputError(f"there is no function {text!r}; {guess} module:function for any other.")


def import_module(name: str) -> types.ModuleType:
    """A module that is installed, or lies in the current directory.

    Raises InputError, in one sentence, where it cannot be imported.
    """
    if not all(part.isidentifier() for part in name.split(".")):
        raise InputError(f"{name!r} is no name of a module.")
    if not {"", os.getcwd()} & {*sys.path}:
        sys.path.append(os.getcwd())
    try:
        return importlib.import_module(name)
    except Exception as error:  # a user's module may raise anything
        raise InputError(
            f"the module {name!r} cannot be imported ({type(error).__name__}: {one_line(error)})."
        ) from error


def _attribute(module: Any, attribute: str, text: str) -> Callable:
    try:
        function = functools.reduce(getattr, attribute.split("."), module)
    except AttributeError as error:
        known = [n for n, f in vars(module).items() if inspect.isfunction(f)]
        close = nearest(attribute, known) if len(known) < 40 else ""
        raise InputError(f"there is no function {text!r}; {close}".rstrip("; ")) from error
    if not callable(function):
        raise InputError(f"{text!r} is not a function.")
    return function


def _near(current: Any, hint: Hint) -> list[types.ModuleType]:
    """The modules of a value's function and of the classes that an annotation names."""
    function = fdl.get_callable(current) if isinstance(current, fdl.Buildable) else current
    owners = [getattr(function, "__module__", None)] if callable(function) else []
    homes = [c.__module__ for c in _choices(hint) if inspect.isclass(c)]
    owners += [*homes, *(home.partition(".")[0] for home in homes)]
    kept = [name for name in owners if name in sys.modules and name not in ("builtins", "hfjax")]
    return [sys.modules[name] for name in dict.fromkeys(kept)]
