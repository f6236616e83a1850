"""The lock of a workdir: one run at a time writes it.

The operating system locks WORKDIR/.lock (flock) for as long as the process lives, so SIGKILL frees
it too. On a network file system (NFS, GPFS, CephFS, Lustre mounted with -o flock) the server does
so between hosts. It frees the lock of a host that died within about a minute; a start on another
host waits for that. A job that is requeued therefore goes on without a person.

Where a file system has no such locks, filelock's SoftFileLock takes the place: then the file itself
is the lock. On the same host it ends with its process too. One of a dead process of another host
stays, and `break_lock` removes it. An address, as gs://bucket/run, has no lock.

The file holds the process number and the host, each on a line; its time says since when.
"""

import contextlib
import datetime
import errno
import os
import pathlib
import secrets
import socket
import sys
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import filelock

from hfjax.errors import InputError

NAME = ".lock"
PATIENCE_S = 120.0  # for the lock of another host, which may have died
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


class Holder(NamedTuple):
    """Who uses a workdir."""

    process: str
    host: str
    since: str  # local time of this host

    @property
    def is_here(self) -> bool:
        """Whether the process is, or was, one of this host."""
        return self.host == socket.gethostname()

    def __str__(self) -> str:
        """In words."""
        return f"process {self.process} on {self.host} (since {self.since})"


def holder(workdir: pathlib.Path) -> Holder | None:
    """Who uses a workdir, or used it and was killed; None where no one is named."""
    path = workdir / NAME
    try:
        lines = path.read_text(errors="replace").split("\n")
        seconds = path.stat().st_mtime
    except OSError:
        return None
    if len(lines) < 2 or not lines[0].isdecimal():
        return None
    since = datetime.datetime.fromtimestamp(seconds).isoformat(" ", "minutes")
    return Holder(lines[0], lines[1], since)


@contextlib.contextmanager
def locked(workdir: pathlib.Path, *, break_lock: bool = False) -> Iterator[str]:
    """Hold the lock of an existing workdir; yields a warning, "" where there is nothing to say.

    break_lock  remove the lock of another host first: its process is known to be dead.

    Raises InputError where another process has the lock, and OSError where there is no file.
    """
    path = workdir / NAME
    before = holder(workdir)
    if break_lock and before and not before.is_here:
        path.unlink(missing_ok=True)
    lock = _acquired(workdir)
    warning = ""
    if before and not before.is_here:
        warning = f"warning: the lock of {before} was {'removed' if break_lock else 'left behind'}."
    is_soft = isinstance(lock, filelock.SoftFileLock)  # which writes and removes the file itself
    try:
        if not is_soft:
            path.write_text(f"{os.getpid()}\n{socket.gethostname()}\n")
        yield warning
    finally:
        if not is_soft:  # filelock, waiting for it elsewhere, then opens a new one
            path.unlink(missing_ok=True)
        lock.release()


def _acquired(workdir: pathlib.Path) -> filelock.BaseFileLock:
    """The lock, held. Waits for another host's; raises InputError where it stays held."""
    lock = _kind_of_lock(workdir)(workdir / NAME)
    for _ in range(2):  # filelock 3 only removes the soft lock of a dead process the first time
        with contextlib.suppress(filelock.Timeout):
            lock.acquire(timeout=0)
            return lock
    other = holder(workdir)
    if other is None or other.is_here:
        hint = "Stop that first, or name another --workdir."
    else:
        hint = "If that process is dead, remove its lock by --break_lock."
        sys.stderr.write(
            f"hfjax: {workdir} is locked by {other}; waiting {PATIENCE_S:g} s at most\n"
        )
        with contextlib.suppress(filelock.Timeout):
            lock.acquire(timeout=PATIENCE_S, poll_interval=0.5)
            return lock
    raise InputError(f"the workdir {workdir} is in use by {other or 'another process'}. {hint}")


def _kind_of_lock(workdir: pathlib.Path) -> type[filelock.BaseFileLock]:
    """What locks files in a folder: the operating system, where it can."""
    path = workdir / f"{NAME}.{secrets.token_hex(4)}"
    trial = filelock.FileLock(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # filelock warns where it turns it into a soft lock
            trial.acquire(timeout=0)
        return type(trial)
    except UserWarning:
        return filelock.SoftFileLock
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return filelock.SoftFileLock
    finally:
        trial.release()
        path.unlink(missing_ok=True)
