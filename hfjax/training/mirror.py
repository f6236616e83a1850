"""Workdirs on object storage, as gs://bucket/run or s3://bucket/run.

Object storage cannot rename or append, which a run's files need, and Orbax 0.12 writes arrays to
gs:// but not to s3://. So a run works in a folder of this machine. What is new on the storage is
fetched at the start, and what is new here is sent after every checkpoint and evaluation and at the
end. What could not be sent is never overwritten or deleted.
fsspec does the transfer (extra `cloud`). There is no lock between two runs of one address. Of the
processes of one run each has such a folder, and the first one sends.
"""

import atexit
import contextlib
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Mapping
from typing import Any

from hfjax.errors import InputError, SaveError, one_line

# What is incomplete: a checkpoint or file that is being written, the lock.
_UNFINISHED = re.compile(r"orbax-checkpoint-tmp|(^|/)\.[^/]*(lock|tmp)$")


def is_address(workdir: str | os.PathLike) -> bool:
    """Whether a workdir is on object storage."""
    return re.match(r"(gs|s3)://", os.fspath(workdir)) is not None


class Mirror:
    """A folder of this machine and its copy on object storage."""

    def __init__(self, address: str):
        """Make an empty local folder. Raises InputError where the address cannot be used."""
        try:
            import fsspec  # with gcsfs or s3fs, an extra

            self._storage, root = fsspec.core.url_to_fs(address)
        except ImportError as error:
            raise InputError(
                f"{address} needs packages that are not installed: pip install 'hfjax[cloud]'."
            ) from error
        self.address, self._root = address.rstrip("/"), root.rstrip("/")
        atexit.register(self._clean_up)
        self.folder = pathlib.Path(
            tempfile.mkdtemp(prefix="hfjax-"), self.address.rpartition("/")[2]
        )
        self.folder.mkdir()
        self._same: dict[str, tuple[int, int]] = {}  # {file: its state here when both were equal}
        self._there: dict[str, str] = {}  # {file: its state on the storage when it was fetched}

    def pull(self) -> None:
        """Fetch what is new on the storage. Raises InputError where that cannot be read."""
        try:
            self._storage.invalidate_cache()  # of names, which others may have changed
            files = self._files()
            for remote, info in self._storage.find(self._root, detail=True).items():
                name, state = remote.removeprefix(self._root + "/"), _version(info)
                is_changed = files.get(name) != self._same.get(name)
                if is_changed or (name in files and self._there.get(name) == state):
                    continue
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                self._storage.get_file(remote, str(self.folder / name))
                self._same[name], self._there[name] = _state(self.folder / name), state
        except Exception as error:
            raise InputError(f"{self.address} cannot be read ({one_line(error)}).") from error

    def push(self) -> None:
        """Send what is new, and delete what is gone. Raises SaveError where that fails."""
        files = self._files()
        try:
            for name, state in files.items():
                is_there = (self.folder / name).exists()  # a mark may be gone by now
                if is_there and self._same.get(name) != state:
                    self._storage.put_file(str(self.folder / name), f"{self._root}/{name}")
                    self._same[name] = state
            for name in self._same.keys() - files.keys():
                self._storage.rm_file(f"{self._root}/{name}")
                del self._same[name]
        except Exception as error:
            raise SaveError(
                f"{self.address}: {one_line(error)}; the files are in {self.folder}"
            ) from error

    def _clean_up(self) -> None:
        if self._files() == self._same:
            shutil.rmtree(self.folder.parent, ignore_errors=True)

    def _files(self) -> dict[str, tuple[int, int]]:
        """{path in the folder: its state} of the complete files, in order."""
        paths = sorted(p for p in self.folder.rglob("*") if p.is_file() and not p.is_symlink())
        names = {str(path.relative_to(self.folder)): path for path in paths}
        states = {}
        for name, path in names.items():
            if not _UNFINISHED.search(name):
                with contextlib.suppress(FileNotFoundError):  # a mark may be gone by now
                    states[name] = _state(path)
        return states


def _state(path: pathlib.Path) -> tuple[int, int]:
    """Size and time of a file here."""
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def _version(info: Mapping[str, Any]) -> str:
    """What changes with a file on the storage, as s3fs and gcsfs name it."""
    return " ".join(str(info.get(n)) for n in ("size", "ETag", "etag", "LastModified", "updated"))


_opened: dict[str, Mirror] = {}  # by address


def local_folder(address: str) -> pathlib.Path:
    """The folder of this machine for an address, with what is new there."""
    if address not in _opened:
        _opened[address] = Mirror(address)
    _opened[address].pull()
    return _opened[address].folder


def send(workdir: pathlib.Path) -> None:
    """Send what is new in a workdir, where it is a mirror. Raises SaveError where that fails."""
    if mirror := _mirror_of(workdir):
        mirror.push()


def is_mirror(workdir: pathlib.Path) -> bool:
    """Whether a folder is the mirror of an address."""
    return _mirror_of(workdir) is not None


def shown(workdir: pathlib.Path) -> str:
    """A workdir as a person knows it: by its address, where it is a mirror."""
    mirror = _mirror_of(workdir)
    return mirror.address if mirror else str(workdir)


def _mirror_of(workdir: pathlib.Path) -> Mirror | None:
    return next((mirror for mirror in _opened.values() if mirror.folder == workdir), None)
