"""Reading and writing files so that a killed process or a foreign file does no harm."""

import io
import math
import os
import pathlib
import re
import zipfile
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

_NPY_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def local_path(path: str | os.PathLike[str]) -> pathlib.Path:
    """A path of this machine, with ~ and ~user expanded.

    Raises ValueError for an address of another storage, such as gs://bucket/folder or file:///x,
    and where there is no such user.
    """
    text = os.fspath(path)
    if re.match(r"file:|[A-Za-z][A-Za-z0-9+.-]+:/", text):
        raise ValueError(
            f"{text} is an address, but only paths of this machine can be read and written: "
            "give a folder or file, as runs/name."
        )
    if "\0" in text:
        raise ValueError(f"{text!r} is no path: it contains a zero byte.")
    try:
        return pathlib.Path(text).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{text} begins with the home folder of an unknown user.") from error


def write_atomically(path: pathlib.Path, content: bytes) -> None:
    """Write a file so that a reader, or a killed run, meets the old content or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def npz_names(path: pathlib.Path) -> list[str]:
    """The names of the arrays in an npz, in their order. Raises as `read_npz` does."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except OSError:
        raise
    except Exception as error:  # as in `read_npz`
        raise ValueError(_reason(error)) from error
    return [name.removesuffix(".npy") for name in names if name.endswith(".npy")]


def read_npz(
    path: pathlib.Path,
    names: Iterable[str] | None = None,
    *,
    objects: Callable[[bytes], Any] | None = None,
) -> dict[str, np.ndarray]:
    """The arrays of these names in an npz, by default all of them; nothing is unpickled.

    Arrays that are not named are not read, so they may hold Python objects. Memory is taken for
    what is in the file, never for what a header claims. objects: a reader of pickles that is safe,
    for an array of Python objects; it raises ValueError for what it does not admit.
    Raises OSError where the file cannot be opened. Raises ValueError, whose message is the reason,
    where it is not an npz, lacks an array, is damaged, or an array holds Python objects.
    """
    arrays = {}
    wanted = npz_names(path) if names is None else names
    try:
        with zipfile.ZipFile(path) as archive:
            for name in wanted:
                arrays[name] = _member(archive, name, objects)
    except OSError:
        raise
    except Exception as error:  # damage makes zipfile, zlib and numpy raise nearly anything
        raise ValueError(_reason(error)) from error
    return arrays


def _member(
    archive: zipfile.ZipFile, name: str, objects: Callable[[bytes], Any] | None
) -> np.ndarray:
    """One array of an open npz."""
    if f"{name}.npy" not in archive.namelist():
        raise ValueError(f"it has no array {name!r}")
    info = archive.getinfo(f"{name}.npy")
    # What numpy writes. Other compressions could unpack to more than a thousand times their size.
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"its array {name!r} is packed in another way than numpy's")
    with archive.open(info) as stream:
        return _npy(stream.read(), f"its array {name!r}", objects)


def read_npy(path: pathlib.Path, *, objects: Callable[[bytes], Any] | None = None) -> np.ndarray:
    """The array of an npy file; nothing is unpickled. objects: as in `read_npz`.

    Raises OSError where the file cannot be opened; ValueError, whose message is the reason, where
    it is not an npy, is damaged, or holds Python objects.
    """
    content = path.read_bytes()
    try:
        return _npy(content, "it", objects)
    except Exception as error:  # as in `read_npz`
        raise ValueError(_reason(error)) from error


def _npy(file: bytes, what: str, objects: Callable[[bytes], Any] | None) -> np.ndarray:
    """The array of an npy file's content."""
    content = io.BytesIO(file)
    version = np.lib.format.read_magic(content)
    if version not in _NPY_HEADERS:
        raise ValueError(f"{what} is in version {version} of the npy format")
    shape, fortran_order, dtype = _NPY_HEADERS[version](content)
    if dtype.hasobject and objects is not None:
        return np.asarray(objects(content.read()))
    if dtype.hasobject:
        raise ValueError(f"{what} holds Python objects, which are not unpickled")
    values = memoryview(file)[content.tell() :]
    if any(size < 0 for size in shape) or math.prod(shape) * dtype.itemsize != len(values):
        raise ValueError(f"{what} has {len(values)} bytes, not those of its header")
    if not len(values):
        return np.empty(shape, dtype)
    return np.frombuffer(values, dtype).reshape(shape, order="F" if fortran_order else "C").copy()


def _reason(error: Exception) -> str:
    """The beginning of an error's first line, or its type where it has no message."""
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__
