"""Settings that no file can hold: the functions and arrays of a notebook.

The run then has them from this process, and config.json a mark in their place: what it was, and a
fingerprint of it. A run resumes where the fingerprints are the same.
"""

import enum
import functools
import hashlib
import types
from collections.abc import Iterator
from typing import Any

import fiddle as fdl
import jax
import numpy as np
from fiddle import daglish

from hfjax.errors import InputError
from hfjax.task import Task
from hfjax.training.config_text import has_name

PLAIN = (types.NoneType, bool, int, float, str, bytes, enum.Enum)
CONTAINERS = (dict, list, tuple)


def not_stored(*, what: str, fingerprint: str, **settings: Any) -> Any:
    """Stands in a stored config for a setting that no file can hold. Raises InputError.

    what         it is, in words.
    fingerprint  of its content: of a function its code and what it refers to.
    settings     of a function, where it had any in the config.
    """
    del fingerprint, settings
    raise InputError(f"{what} is not stored; give hfjax.load the task= that was trained.")


def storable(config: fdl.Buildable) -> tuple[Any, list[str]]:
    """A copy that config.json can hold, and what it does not hold, each in words.

    Not held are functions that cannot be imported by another process (lambdas, and those of a
    notebook), arrays, and objects.
    """
    missing: list[str] = []

    def mark(value: Any, state: daglish.State, kind: str, **settings: Any) -> fdl.Config:
        path = daglish.path_str(state.current_path).lstrip(".")
        missing.append(f"{path} ({kind})")
        return fdl.Config(not_stored, what=missing[-1], fingerprint=fingerprint(value), **settings)

    def visit(value: Any, state: daglish.State) -> Any:
        if isinstance(value, fdl.Buildable):
            own = state.map_children(value)
            function = fdl.get_callable(value)
            if has_name(function):
                return own
            named = {n: v for n, v in own.__arguments__.items() if isinstance(n, str)}
            return mark(function, state, _kind(function), **named)
        if _is_storable(value):
            return value
        has_parts = isinstance(value, CONTAINERS) and any(_buildables(value))
        return state.map_children(value) if has_parts else mark(value, state, _kind(value))

    return daglish.MemoizedTraversal.run(visit, config), missing


def _is_storable(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_storable, [*value, *value.values()]))
    if isinstance(value, list | tuple):
        return has_name(type(value)) and all(map(_is_storable, value))
    return isinstance(value, PLAIN) or (callable(value) and has_name(value))


def _buildables(value: Any) -> Iterator[fdl.Buildable]:
    return (v for v, _ in daglish.iterate(value) if isinstance(v, fdl.Buildable))


def _kind(value: Any) -> str:
    """What a value is, in two or three words."""
    if isinstance(value, Task):
        return "a Task"
    leaves = jax.tree.leaves(value)
    if leaves and all(isinstance(leaf, jax.Array | np.ndarray | np.generic) for leaf in leaves):
        return "an array" if leaves[0] is value else "arrays"
    if callable(value):
        return f"the function {getattr(value, '__name__', type(value).__name__)}"
    return f"a {type(value).__name__}"


# --- Fingerprints ---


def fingerprint(value: Any) -> str:
    """Eight hexadecimal digits of a value's content, the same in every process.

    A function counts by its code, its defaults, and the variables and functions of its module that
    it refers to; one that can be imported by its name.
    """
    total = hashlib.sha256()
    for part in _content(value, frozenset()):
        total.update(part if isinstance(part, bytes) else str(part).encode())
        total.update(b"\0")
    return total.hexdigest()[:8]


def _content(value: Any, above: frozenset[int]) -> Iterator[Any]:
    """What tells a value from others, as bytes and texts. above: ids of what it is a part of."""
    if isinstance(value, PLAIN):
        yield repr(value)
        return
    if id(value) in above:  # a function that calls itself
        return
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        if isinstance(value, jax.Array) and jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
            value = jax.random.key_data(value)
        array = np.asarray(value)
        yield from (array.dtype, array.shape, array.tobytes())
        return
    yield type(value).__qualname__
    for part in _parts(value):
        yield from _content(part, above | {id(value)})


def _parts(value: Any) -> list[Any]:
    """The values of which one is made."""
    if callable(value) and has_name(value):
        return [value.__module__, value.__qualname__]
    if isinstance(value, types.FunctionType):
        return _parts_of_function(value)
    if isinstance(value, types.CodeType):
        return [value.co_code, *value.co_names, *value.co_consts]
    if isinstance(value, types.MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, functools.partial):
        return [value.func, value.args, value.keywords]
    if isinstance(value, dict):
        return [part for item in value.items() for part in item]
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, set | frozenset):
        return sorted(map(repr, value))
    if isinstance(value, fdl.Buildable):
        return [fdl.get_callable(value), value.__arguments__]
    if hasattr(value, "__dict__") and not isinstance(value, type | types.ModuleType):
        return [vars(value)]
    text = repr(value)
    return [id(value) if " at 0x" in text else text]  # then the very same object


def _parts_of_function(function: types.FunctionType) -> list[Any]:
    referred = [
        function.__globals__[name]
        for name in _names(function.__code__)
        if name in function.__globals__
    ]
    return [
        function.__code__,
        function.__defaults__,
        function.__kwdefaults__,
        [cell.cell_contents for cell in function.__closure__ or ()],
        [value for value in referred if not isinstance(value, types.ModuleType)],
    ]


def _names(code: types.CodeType) -> list[str]:
    inner = [c for c in code.co_consts if isinstance(c, types.CodeType)]
    return [*code.co_names, *(name for one in inner for name in _names(one))]
