"""Reading the pickles that data sets come in, without doing what they ask for."""

import math
import operator
import pickletools
from collections.abc import Callable
from typing import Any

import numpy as np

# The names by which NumPy pickles an array, and Python 3 a byte string for Python 2.
_RECONSTRUCT = {"numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct"}
_KNOWN = {*_RECONSTRUCT, "numpy ndarray", "numpy dtype", "_codecs encode"}
_MARK = object()


class _Global(str):
    """The name of something that a pickle imports; here it stays a name."""


class _DType(str):
    """A NumPy dtype of a pickle, still without its byte order."""


class _Array:
    """A NumPy array of a pickle, still without its content."""


def plain(content: bytes) -> Any:
    """The value of a pickle of numbers, strings, lists, tuples, dicts and NumPy arrays.

    A small machine over `pickletools.genops`, which imports and calls nothing: it knows the names
    by which NumPy pickles an array, and builds the array itself. Byte strings of
    Python 2 become str, decoded as Latin-1.
    Raises ValueError, whose message is the reason, where a pickle holds anything else or is
    damaged.
    """
    machine = _Machine()
    try:
        for operation, argument, _ in pickletools.genops(content):
            machine.do(operation.name, argument)
        (value,) = machine.stack
    except Exception as error:  # damage makes the parser of opcodes raise nearly anything
        reason = str(error).partition("\n")[0][:200] or type(error).__name__
        raise ValueError(f"it is not a pickle of plain data: {reason}") from error
    return value


class _Machine:
    """The stack and the memo of a pickle."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def do(self, name: str, argument: Any) -> None:
        """One operation."""
        if name in _VALUES:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in _OPERATIONS:
            _OPERATIONS[name](self, argument)
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise ValueError(f"it asks for {name}")

    def pop(self, count: int) -> list[Any]:
        """The last `count` values."""
        if count > len(self.stack):
            raise ValueError("it takes more values than it has")
        values = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return values

    def since_mark(self) -> list[Any]:
        """The values since the last mark, which is removed too."""
        count = next(i for i, value in enumerate(reversed(self.stack)) if value is _MARK)
        return self.pop(count + 1)[1:]

    def put(self, argument: int | None) -> None:
        """Remember the last value."""
        self.memo[len(self.memo) if argument is None else argument] = self.stack[-1]

    def get(self, argument: int) -> None:
        """Push a remembered value."""
        self.stack.append(self.memo[argument])

    def name(self, argument: str | None) -> None:
        """Push a known name."""
        name = " ".join(self.pop(2)) if argument is None else argument
        if name not in _KNOWN:
            raise ValueError(f"it asks for {'.'.join(name.split())}")
        self.stack.append(_Global(name))

    def append(self, values: list[Any]) -> None:
        """Append values to the list on top of the stack."""
        if type(self.stack[-1]) is not list:
            raise ValueError("it appends to something that is not a list")
        self.stack[-1].extend(values)

    def set_items(self, values: list[Any]) -> None:
        """Add keys and values, one after another, to the dict on top of the stack."""
        keys = values[::2]
        if type(self.stack[-1]) is not dict or not all(type(k) in (str, bytes, int) for k in keys):
            raise ValueError("it has a dict with keys that are not strings or numbers")
        self.stack[-1].update(zip(keys, values[1::2], strict=True))

    def new_dict(self, values: list[Any]) -> None:
        """Push a dict of these keys and values."""
        self.stack.append({})
        self.set_items(values)

    def call(self, _: None) -> None:
        """Replace a known name and its arguments by what it makes."""
        function, arguments = self.pop(2)
        if not isinstance(function, _Global):
            raise ValueError("it calls something that is not a function")
        if function in _RECONSTRUCT:
            self.stack.append(_Array())
        elif function == "numpy dtype":
            self.stack.append(_DType(arguments[0]))
        elif function == "_codecs encode":
            self.stack.append(arguments[0].encode("latin-1"))
        else:
            raise ValueError("it calls a class of arrays")

    def build(self, _: None) -> None:
        """Replace an unfinished dtype or array and its state by the finished one."""
        target, state = self.pop(2)
        if isinstance(target, _DType):
            self.stack.append(_DType(state[1].replace("|", "") + target))
        elif isinstance(target, _Array):
            self.stack.append(_array(*state[1:]))
        else:
            raise ValueError("it fills something that is not an array")


def _array(shape: Any, dtype: Any, fortran_order: bool, values: Any) -> np.ndarray:
    """An array from the state in which NumPy pickles it."""
    if not isinstance(dtype, _DType) or min(shape, default=0) < 0:
        raise ValueError("it has an array without dtype or shape")
    count = math.prod(map(operator.index, shape))
    if isinstance(values, list):
        array = np.empty(len(values), object)
        known = str | bytes | int | float | np.ndarray
        for index, value in enumerate(values):  # one by one: an assignment of all would nest arrays
            array[index] = value if isinstance(value, known) else None
    else:
        content = values.encode("latin-1") if isinstance(values, str) else values
        array = np.frombuffer(content, np.dtype(str(dtype)))
    if count != len(array):
        raise ValueError(f"its array has {len(array)} values, not those of its shape")
    return array.reshape(shape, order="F" if fortran_order else "C").copy()


_VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
}
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "MARK": lambda: _MARK,
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
}
_OPERATIONS: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine.put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.get),
    **dict.fromkeys(("GLOBAL", "STACK_GLOBAL"), _Machine.name),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.since_mark())),
    "TUPLE1": lambda machine, _: machine.stack.append(tuple(machine.pop(1))),
    "TUPLE2": lambda machine, _: machine.stack.append(tuple(machine.pop(2))),
    "TUPLE3": lambda machine, _: machine.stack.append(tuple(machine.pop(3))),
    "DICT": lambda machine, _: machine.new_dict(machine.since_mark()),
    "LIST": lambda machine, _: machine.stack.append(machine.since_mark()),
    "APPEND": lambda machine, _: machine.append(machine.pop(1)),
    "APPENDS": lambda machine, _: machine.append(machine.since_mark()),
    "SETITEM": lambda machine, _: machine.set_items(machine.pop(2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.since_mark()),
    "REDUCE": _Machine.call,
    "BUILD": _Machine.build,
}
