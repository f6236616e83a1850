"""Helpers that run `python -m hfjax` in a process of its own."""

import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable

ROOT = pathlib.Path(__file__).parent.parent


def start(*arguments: str, largest_file_kib: int | None = None) -> subprocess.Popen:
    """Start the command line with one CPU device and W&B off unless asked for.

    largest_file_kib refuses larger writes as a full disk does: with an error half-way.
    """
    limit = f"ulimit -f {largest_file_kib}; " if largest_file_kib else ""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "120"}
    environment.pop("XLA_FLAGS", None)
    if not any(a.startswith("--writers") for a in arguments):
        arguments = (*arguments, "--writers=jsonl,terminal")
    return subprocess.Popen(
        ["bash", "-c", f'{limit}exec "$@"', "bash", sys.executable, "-m", "hfjax", *arguments],
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(process: subprocess.Popen) -> tuple[int, str, str]:
    """(exit code, stdout, stderr), after at most five minutes."""
    out, error = process.communicate(timeout=300)
    return process.returncode, out, error


def hfjax(*arguments: str, largest_file_kib: int | None = None) -> tuple[int, str, str]:
    """Run the command line to its end: (exit code, stdout, stderr)."""
    return finish(start(*arguments, largest_file_kib=largest_file_kib))


def wait_until(condition: Callable[[], bool], process: subprocess.Popen) -> None:
    """Wait for a condition while a process works on it."""
    for _ in range(12_000):
        if condition():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    raise AssertionError("the condition never came true")


def tree(folder: pathlib.Path) -> dict[str, bytes]:
    """{relative path: content} of every file below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
