"""A Fiddle config as text: JSON that can be loaded, and Python that makes an equal config."""

import collections
import contextlib
import enum
import functools
import importlib
import inspect
import json
import math
import sys
from collections.abc import Callable, Iterator
from typing import Any

import fiddle as fdl
from fiddle import daglish
from fiddle.experimental import serialization

import hfjax
from hfjax.errors import InputError, one_line

WIDTH = 88  # of a line of Python, beyond which a call is broken into one line an argument
RESERVED = ("fdl", "config")  # names that the Python file uses itself


# --- JSON ---


def to_json(config: fdl.Buildable) -> str:
    """The config as JSON, with the version of hfjax that writes it.

    Raises InputError where a value has no name to import it by.
    """
    for value, _ in daglish.iterate(config):
        if callable(value) and not isinstance(value, fdl.Buildable):
            _register(value)
    try:
        stored = json.loads(serialization.dump_json(config))
    except Exception as error:  # UnserializableValueError, AttributeError, ImportError
        raise InputError(
            f"the config cannot be stored: {one_line(error)} (give numbers, strings, and functions "
            "of a module by name; data are made by a function)."
        ) from error
    return json.dumps({"hfjax": hfjax.__version__, **stored})


def _register(function: Callable) -> None:
    """Let Fiddle store a callable by its name also where it is no plain function (jax.nn.relu)."""
    try:
        module, name = function.__module__, function.__qualname__
        if _resolve(module, name) is function:
            serialization.register_constant(module, name, compare_by_identity=True)
    except Exception:
        pass  # a plain function or class needs no registration; dump_json refuses the others


def has_name(function: Any) -> bool:
    """Whether another process can import a function or class by its name.

    Those of a notebook or of a script (__main__) it cannot.
    """
    try:
        module, name = function.__module__, function.__qualname__
        return module != "__main__" and _resolve(module, name) is function
    except Exception:  # no name at all, or a module that fails
        return False


def from_json(text: str) -> fdl.Buildable:
    """The config of JSON text.

    Raises InputError where the text is damaged, or names a module, a function or an argument that
    does not exist here.
    """
    try:
        references = list(_references(json.loads(text)))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        reason = one_line(error) if text.strip() else "it is empty"
        raise InputError(f"is damaged ({reason})") from error
    for module, name in references:
        try:
            _resolve(module, name)
        except Exception as error:  # a module may raise anything when it is imported
            raise InputError(
                f"names {module}.{name}, which cannot be imported here ({one_line(error)})"
            ) from error
    try:
        config = serialization.load_json(text)
    except Exception as error:  # text of another format fails in a dozen ways
        raise InputError(f"is damaged ({one_line(error)})") from error
    _check_arguments(config)
    return config


def written_by(text: str) -> str | None:
    """The version of hfjax that wrote a config's JSON; None where the text does not have it."""
    with contextlib.suppress(ValueError, RecursionError):
        stored = json.loads(text)
        return stored.get("hfjax") if isinstance(stored, dict) else None
    return None


def _references(stored: Any) -> Iterator[tuple[str, str]]:
    """(module, name) of every function and class in a serialized config."""
    if isinstance(stored, list):
        for item in stored:
            yield from _references(item)
    elif isinstance(stored, dict):
        if stored.get("type") == "pyref":
            yield stored["module"], stored["name"]
        for item in stored.values():
            yield from _references(item)


def _resolve(module: str, name: str) -> Any:
    return functools.reduce(getattr, name.split("."), importlib.import_module(module))


def _check_arguments(config: fdl.Buildable) -> None:
    """Raise InputError where a function of the config has no argument of a stored name."""
    for node, _ in daglish.iterate(config):
        if not isinstance(node, fdl.Buildable):
            continue
        function: Any = fdl.get_callable(node)
        parameters = inspect.signature(function).parameters
        if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            continue
        for name in node.__arguments__:
            if isinstance(name, str) and name not in parameters:
                raise InputError(
                    f"sets {name!r} of {function.__module__}.{function.__qualname__}, which has no "
                    "such argument here"
                )


# --- Python ---


def to_python(config: fdl.Buildable) -> str:
    """Python source that defines `config`, equal to the given one, tags included.

    A Buildable that is used in several places becomes a variable, so that it stays one object.
    Raises InputError where a value cannot be written as Python.
    """
    writer = _Writer(config)
    body = writer.definitions()
    imports = "".join(f"{line}\n" for line in sorted(writer.imports))
    return (
        '"""The settings of this run: executing this file defines `config`, a Fiddle config."""\n\n'
        f"import fiddle as fdl\n\n{imports}\n{body}"
    )


class _Writer:
    """Expressions of a config's values, the imports that they need, and shared nodes."""

    def __init__(self, config: fdl.Buildable):
        """Count how often each node of `config` is used."""
        self.config = config
        self.imports: set[str] = set()
        nodes = [v for v, _ in daglish.iterate(config, memoized=False)]
        buildables = [id(v) for v in nodes if isinstance(v, fdl.Buildable)]
        self.shared = {i for i, n in collections.Counter(buildables).items() if n > 1}
        self.variables: dict[int, str] = {}
        self.statements: list[str] = []
        # The last part of a module's name stands for it where no other module ends with it.
        modules = {_home(v)[0] for node in nodes for v in _named(node)}
        ends = collections.Counter(module.rpartition(".")[2] for module in modules)
        self.short = {m for m in modules if ends[m.rpartition(".")[2]] == 1}
        self.short -= {m for m in modules if m.rpartition(".")[2] in RESERVED}

    def definitions(self) -> str:
        """The statements that define shared nodes and `config`."""
        value = self.expression(self.config, 0)
        return "\n".join([*self.statements, f"config = {value}"]) + "\n"

    def expression(self, value: Any, indent: int) -> str:
        """Python that makes `value`; lines after the first begin at `indent`."""
        if isinstance(value, fdl.Buildable):
            return self._buildable(value, indent)
        if isinstance(value, enum.Enum):
            return f"{self._name(type(value))}.{value.name}"
        if isinstance(value, float) and not math.isfinite(value):
            return f'float("{value}")'
        if isinstance(value, dict):
            items = [f"{key!r}: {self.expression(v, indent + 4)}" for key, v in value.items()]
            return _enclose("{", items, "}", indent)
        if hasattr(value, "_fields"):  # a NamedTuple
            items = [f"{n}={self.expression(v, indent + 4)}" for n, v in value._asdict().items()]
            return _enclose(f"{self._name(type(value))}(", items, ")", indent)
        if isinstance(value, list | tuple):
            items = [self.expression(v, indent + 4) for v in value]
            if isinstance(value, list):
                return _enclose("[", items, "]", indent)
            return f"({items[0]},)" if len(items) == 1 else _enclose("(", items, ")", indent)
        if value is None or isinstance(value, bool | int | float | str | bytes):
            return repr(value)
        if callable(value):
            return self._name(value)
        raise InputError(f"the config cannot be written as Python: {value!r}.")

    def _buildable(self, node: fdl.Buildable, indent: int) -> str:
        if id(node) in self.variables:
            return self.variables[id(node)]
        shared = id(node) in self.shared
        inside = 4 if shared else indent + 4
        items = [self._name(fdl.get_callable(node))]
        for name, value in fdl.ordered_arguments(node).items():
            text = self.expression(value, inside)
            for tag in node.__argument_tags__.get(name, ()):
                text = f"{self._name(tag)}.new({text})"
            items.append(text if isinstance(name, int) else f"{name}={text}")
        for name, tags in node.__argument_tags__.items():
            if name not in node.__arguments__:  # the trainer fills it in
                items += [f"{name}={self._name(tag)}.new()" for tag in tags]
        text = _enclose(f"fdl.{type(node).__name__}(", items, ")", 0 if shared else indent)
        if not shared:
            return text
        self.variables[id(node)] = f"shared_{len(self.variables)}"
        self.statements.append(f"{self.variables[id(node)]} = {text}")
        return self.variables[id(node)]

    def _name(self, value: Any) -> str:
        module, name = _home(value)
        if module == "builtins":
            return name
        package, _, last = module.rpartition(".")
        if _is_hidden(module):
            alias = f"{module}.{name}".replace(".", "_")
            self.imports.add(f"from {module} import {name} as {alias}")
            return alias
        if module not in self.short:
            self.imports.add(f"import {module}")
            return f"{module}.{name}"
        self.imports.add(f"from {package} import {last}" if package else f"import {module}")
        return f"{last}.{name}"


def _named(node: Any) -> list[Any]:
    """The functions, classes and tags by which a value is written."""
    if isinstance(node, fdl.Buildable):
        tags = [tag for tags in node.__argument_tags__.values() for tag in tags]
        return [fdl.get_callable(node), *tags]
    if isinstance(node, enum.Enum) or hasattr(node, "_fields"):
        return [type(node)]
    return [node] if callable(node) else []


def _home(value: Any) -> tuple[str, str]:
    """(module, name) of a function or class; the outermost package that offers it is its module.

    Raises InputError where it has no name.
    """
    try:
        module, name = value.__module__, value.__qualname__
    except AttributeError as error:
        raise InputError(f"the config cannot be written as Python: {value!r}.") from error
    parts = module.split(".")
    for length in range(1, len(parts)):
        package = ".".join(parts[:length])
        with contextlib.suppress(AttributeError, ImportError):
            if _resolve(package, name) is value:
                return package, name
    return module, name


def _is_hidden(module: str) -> bool:
    """Whether a package has another attribute of a module's name, as a function `task`."""
    top, *rest = module.split(".")
    try:
        return functools.reduce(getattr, rest, sys.modules[top]) is not sys.modules[module]
    except AttributeError:
        return False  # not imported by its package yet


def _enclose(opening: str, items: list[str], closing: str, indent: int) -> str:
    """Items on the line of `opening` where they fit, else one a line."""
    line = opening + ", ".join(items) + closing
    if len(line) + indent <= WIDTH and "\n" not in line:
        return line
    inside = " " * (indent + 4)
    lines = "".join(f"{inside}{item},\n" for item in items)
    return f"{opening}\n{lines}{' ' * indent}{closing}"
