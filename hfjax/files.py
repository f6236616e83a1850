"""Reading and writing files so that a killed process or a foreign file does no harm."""

import os
import pathlib
import zipfile
import zlib

# What reading an npz raises where the file is of another format (TypeError: an npy) or damaged.
UNREADABLE = (OSError, ValueError, KeyError, EOFError, TypeError, zlib.error, zipfile.BadZipFile)


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
