"""Helpers that run the command line: in a separate process, or in this one."""

import contextlib
import io
import logging
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import jax
import pytest
from absl import logging as absl_logging

from hfjax.__main__ import main
from hfjax.training import log

ROOT = pathlib.Path(__file__).parent.parent
# Only a process that hangs reaches this limit; a busy machine does not.
LIMIT_S = 900


def start(
    *arguments: str, largest_file_kib: int | None = None, num_devices: int = 1
) -> subprocess.Popen:
    """Start the command line, by default with one CPU device, and W&B off unless asked for.

    largest_file_kib refuses larger writes as a full disk does: with an error half-way.
    """
    limit = f"ulimit -f {largest_file_kib}; " if largest_file_kib else ""
    environment = {
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        "COLUMNS": "120",
        "JAX_NUM_CPU_DEVICES": str(num_devices),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    if largest_file_kib:  # the cache is on the full disk too
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)
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


def start_together(num_processes: int, num_devices: int, *arguments: str) -> list[subprocess.Popen]:
    """Start processes of one run on the loopback, each with its own virtual devices."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [
        start(
            *arguments,
            f"--coordinator=127.0.0.1:{port}",
            f"--num_processes={num_processes}",
            f"--process_id={i}",
            num_devices=num_devices,
        )
        for i in range(num_processes)
    ]


def finish(process: subprocess.Popen) -> tuple[int, str, str]:
    """(exit code, stdout, stderr)."""
    out, error = process.communicate(timeout=LIMIT_S)
    return process.returncode, out, error


def hfjax(*arguments: str, largest_file_kib: int | None = None) -> tuple[int, str, str]:
    """Run the command line in a process to its end: (exit code, stdout, stderr)."""
    return finish(start(*arguments, largest_file_kib=largest_file_kib))


def hfjax_here(*arguments: str) -> tuple[int, str, str]:
    """Run the command line in this process, on one device: (exit code, stdout, stderr)."""
    if not any(a.startswith("--writers") for a in arguments):
        arguments = (*arguments, "--writers=jsonl,terminal")
    device, asyncio_logger = jax.devices()[:1], logging.getLogger("asyncio")
    hooks = sys.excepthook, sys.unraisablehook
    levels = absl_logging.get_verbosity(), asyncio_logger.level
    out, error = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(error),
    ):
        patch.setattr(jax, "devices", lambda: device)
        try:
            code = main(["hfjax", *arguments])
        finally:
            sys.excepthook, sys.unraisablehook = hooks
            absl_logging.set_verbosity(levels[0])
            asyncio_logger.setLevel(levels[1])
    return code, out.getvalue(), error.getvalue()


def wait_until(condition: Callable[[], bool], process: subprocess.Popen) -> None:
    """Wait for a condition while a process works on it."""
    deadline_s = time.monotonic() + LIMIT_S
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline_s, "the condition never came true"
        time.sleep(0.02)


def tree(folder: pathlib.Path) -> dict[str, bytes]:
    """{relative path: content} of every file below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def stop_after(last: int, patch: pytest.MonkeyPatch) -> None:
    """Have a run in this process stopped by SIGTERM once step `last` is recorded."""
    write = log.Jsonl.scalars

    def then_stop(self, step, values):
        write(self, step, values)
        if step == last:
            signal.raise_signal(signal.SIGTERM)

    patch.setattr(log.Jsonl, "scalars", then_stop)
