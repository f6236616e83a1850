"""Times and positions from the files in which people keep recordings: npz, text and mat."""

import csv
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.io

from hfjax.data import pickles
from hfjax.errors import DataFileError, one_line
from hfjax.files import npz_names, read_npz

Column = str | int
# Names of times and of frames of positions that are looked for where none is given. The empty name
# is that of the index in a table that pandas wrote.
TIMES = ("t", "time", "times", "timestamp", "timestamps", "time_s", "")
FRAMES = ("pos", "d")


class Table(NamedTuple):
    """What a file offers: arrays by name, and the columns of one frame by name.

    names: of the arrays. read(name): one of them. frame: the name of the frame whose columns have
    numbers and `labels`, or None.
    """

    names: list[str]
    read: Callable[[str], np.ndarray]
    frame: str | None
    labels: list[str]


def times_and_positions(
    path: pathlib.Path, *, time: Column | None = None, columns: Sequence[Column] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Times [sample] and positions [sample, 2] of a file, as float64 and in the units of the file.

    The file is an npz, also one that pynapple wrote; a .csv, .tsv or .txt, with or without a
    header; or a .mat of MATLAB 5 to 7.2. Nothing is unpickled, and only what is needed is read.
    time: column of the times, by default the first of TIMES. columns: the two of the positions, by
    default "pos" or "d" [sample, 2], else "x" and "y", else the other two of three columns.
    A column is the name of an array [sample]; NAME.i, column i of an array [sample, column]; a name
    in the header of a text or among the columns of a pynapple frame; or the number of a column (in
    a text, "pos" or "d"), from 0.
    Raises DataFileError, in one sentence, where the file cannot be read, or has no such columns.
    """
    try:
        table = _READERS.get(path.suffix.lower(), _npz)(path)
        t = _column(table, _time_of(table) if time is None else time)
        chosen: list[Any] = _positions_of(table, time) if columns is None else list(columns)
        if columns is None and len(chosen) == 1:
            x = _numbers(table.read(chosen[0]), chosen[0])
        elif len(chosen) == 2 and not isinstance(columns, str):
            x = _together([_column(table, name) for name in chosen])
        else:
            raise ValueError(f"has two columns of positions, not those of columns={columns!r}")
    except FileNotFoundError as error:
        raise DataFileError(f"there is no file {path}") from error
    except OSError as error:
        raise DataFileError(
            f"{path} cannot be read ({error.strerror or one_line(error)})"
        ) from error
    except ValueError as error:
        raise DataFileError(f"{path} {one_line(error)}") from error
    if x.shape != (len(t), 2):
        raise DataFileError(
            f"{path} must contain times [sample] and positions [sample, 2], but their shapes are "
            f"{t.shape} and {x.shape}; choose columns by time= and columns=, such as "
            "columns=['x', 'y'] or columns=[0, 1]"
        )
    return t, x


def columns(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The named columns of a text, as the strings of its cells {name: [row]}.

    Raises DataFileError where the file cannot be read or is no table.
    """
    try:
        table = _text(path)
    except FileNotFoundError as error:
        raise DataFileError(f"there is no file {path}") from error
    except (OSError, ValueError) as error:
        raise DataFileError(f"{path} {one_line(error)}") from error
    cells = table.read("").reshape(-1, len(table.labels))
    return {
        label: np.array([cell.strip() for cell in column], str)
        for label, column in zip(table.labels, cells.T, strict=True)
        if label
    }


# --- Columns ---


def _time_of(table: Table) -> Column:
    """The column of the times where none is given."""
    if table.frame == "" and not any(table.labels):
        return 0  # a text without header
    for name in TIMES:
        for other in (*table.names, *table.labels):
            if name == other.lower():
                return other
    raise ValueError(f"has no times under the name t; give time=NAME, one of {_listed(table)}")


def _frame(names: Sequence[str]) -> str | None:
    """The name of the frame of positions among arrays."""
    return next((name for name in FRAMES if name in names), None)


def _positions_of(table: Table, time: Column | None) -> list[Any]:
    """The columns of the positions where none are given; a single one is a whole frame."""
    if (frame := _frame(table.names)) is not None:
        return [frame]
    known = [*table.names, *table.labels]
    if "x" in known and "y" in known:
        return ["x", "y"]
    if table.frame == "" and len(table.labels) == 3:
        used = _number(table, _time_of(table) if time is None else time)
        return [i for i in range(3) if i != used]
    raise ValueError(
        f"has no positions under the name pos; give columns=[X, Y], two of {_listed(table)}"
    )


def _column(table: Table, name: Column) -> np.ndarray:
    """One column [sample]."""
    if table.frame is not None and (isinstance(name, int) or name in table.labels):
        return _numbers(table.read(table.frame), table.frame, _number(table, name))
    if name in table.names:
        array = _numbers(table.read(str(name)), name)
        if array.ndim > 1 and array.size == max(array.shape):
            return array.ravel()  # a row or a column of MATLAB
        if array.ndim == 1:
            return array
        raise ValueError(
            f"has {name} of shape {array.shape}, not [sample]; choose a column of it: {name}.0"
        )
    array_name, _, number = str(name).rpartition(".")
    if array_name in table.names and number.isdecimal():
        return _numbers(table.read(array_name), array_name, int(number[:9]))
    raise ValueError(f"has no column {name!r}; it has {_listed(table)}")


def _number(table: Table, name: Column) -> int:
    """The number of a column of the frame."""
    if isinstance(name, str):
        if table.labels.count(name) > 1:
            raise ValueError(f"has several columns {name!r}; give the number of one, from 0")
        return table.labels.index(name)
    return name


def _numbers(array: np.ndarray, name: Column, column: int | None = None) -> np.ndarray:
    """An array, or one of its columns, as float64."""
    if column is not None:
        if array.ndim != 2 or not 0 <= column < array.shape[1]:
            raise ValueError(
                f"has {name or 'a table'} of shape {array.shape}, without a column {column}"
            )
        array = array[:, column]
    if array.dtype.kind == "O":  # of a text: a column of strings
        return _parsed(array)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"must contain numbers only, but {name} is of type {array.dtype}")
    return array.astype(float)


def _parsed(cells: np.ndarray) -> np.ndarray:
    """Strings as numbers; nothing is NaN."""
    numbers = np.empty(len(cells))
    for row, cell in enumerate(cells):
        try:
            numbers[row] = float(cell) if cell.strip() else np.nan
        except ValueError as error:
            raise ValueError(
                f"must contain numbers only, but has {cell[:40]!r} in row {row} of its data"
            ) from error
    return numbers


def _together(arrays: list[np.ndarray]) -> np.ndarray:
    """Columns side by side [sample, 2]."""
    if len(arrays[0]) != len(arrays[1]):
        lengths = " and ".join(str(len(array)) for array in arrays)
        raise ValueError(f"has positions of different lengths: {lengths}")
    return np.stack(arrays, axis=1)


def _listed(table: Table) -> str:
    """The columns and arrays of a file, for a message."""
    known = [repr(name) for name in (*table.labels, *(n for n in table.names if n))]
    more = "" if len(known) <= 20 else f" and {len(known) - 20} more"
    return (", ".join(known[:20]) or "no columns with names") + more


# --- Files ---


def _npz(path: pathlib.Path) -> Table:
    """An npz of arrays."""
    try:
        names = npz_names(path)
    except ValueError as error:
        raise ValueError(
            f"is not an npz of arrays ({one_line(error)}); recordings are read from npz, csv, tsv, "
            "txt and mat files"
        ) from error
    frame = _frame(names)
    labels: list[str] = []
    if frame and "columns" in names:  # pynapple's: strings, numbers, or pickled strings
        columns = read_npz(path, ["columns"], objects=pickles.plain)["columns"]
        labels = [str(label) for label in columns.ravel()]

    def read(name: str) -> np.ndarray:
        try:
            return read_npz(path, [name])[name]
        except ValueError as error:
            raise ValueError(f"is not an npz of arrays ({one_line(error)})") from error

    return Table(names, read, frame, labels)


def _mat(path: pathlib.Path) -> Table:
    """A mat file of MATLAB 5 to 7.2."""

    def attempt(reading: Callable[[], Any]) -> Any:
        try:
            return reading()
        except FileNotFoundError:
            raise
        except NotImplementedError as error:
            raise ValueError("is of MATLAB 7.3 (HDF5): save it with -v7") from error
        except Exception as error:  # damage makes SciPy raise nearly anything
            raise ValueError(f"is not a mat file, or damaged ({one_line(error)[:200]})") from error

    file = str(path)
    names = [name for name, *_ in attempt(lambda: scipy.io.whosmat(file, appendmat=False))]

    def read(name: str) -> np.ndarray:
        return attempt(
            lambda: np.asarray(scipy.io.loadmat(file, appendmat=False, variable_names=[name])[name])
        )

    frame = _frame(names)
    return Table(names, read, frame, [])


def _text(path: pathlib.Path) -> Table:
    """A table of text: comma, semicolon, tab or blanks between cells, and # before comments."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError("is not a text") from error
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not lines:
        raise ValueError("is empty")
    delimiter = next((mark for mark in "\t;," if mark in lines[0]), None)
    try:
        rows = list(csv.reader(lines, delimiter=delimiter) if delimiter else map(str.split, lines))
    except csv.Error as error:
        raise ValueError(f"is not a table ({error})") from error
    first = 0
    while first < len(rows) and _is_header(rows[first], strict=first > 0):
        first += 1
    width = len(rows[0])
    ragged = next((i for i, row in enumerate(rows) if len(row) != width), None)
    if ragged is not None:
        raise ValueError(f"is not a table: row {ragged} has {len(rows[ragged])} cells, not {width}")
    labels = [cell.strip() for cell in rows[first - 1]] if first else [""] * width
    cells = np.array(rows[first:], object).reshape(len(rows) - first, width)
    return Table([], lambda name: cells, "", labels)


def _is_header(row: list[str], *, strict: bool) -> bool:
    """Whether a row holds a name, or, to be strict, only names (the second, and later ones)."""
    numbers = [_is_number(cell) for cell in row if cell.strip()]
    return bool(numbers) and (not any(numbers) if strict else not all(numbers))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


_READERS = {".csv": _text, ".tsv": _text, ".txt": _text, ".mat": _mat}
