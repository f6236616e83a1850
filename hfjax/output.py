"""Where output goes: the names of the writers, and a standard output that may go away."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

WRITERS = ("wandb", "jsonl", "terminal", "tensorboard", "aim")  # of hfjax.training.log
DEFAULT_WRITERS = WRITERS[:3]
WANDB_MODES = ("auto", "online", "offline", "disabled")


class _Forgiving:
    """A text stream whose reader may leave; what is written afterwards is dropped."""

    def __init__(self, stream: Any):
        # Python has no stream where it was started with a closed one. The null device then takes
        # its number, which the next file would have: what C code prints would land in there.
        self._stream = stream or open(os.devnull, "w")  # noqa: SIM115

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text, or drop it."""
        try:
            return self._stream.write(text)
        except OSError:
            self._discard()
            return len(text)

    def flush(self) -> None:
        """Flush, or drop what is buffered."""
        try:
            self._stream.flush()
        except OSError:
            self._discard()

    def _discard(self) -> None:
        """Send the stream to the null device: Python flushes it once more when it exits."""
        with contextlib.suppress(OSError):  # a stream without a file
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)


def in_notebook() -> bool:
    """Whether this is a cell of a notebook (Jupyter, Colab, VS Code), which can show pictures."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and getattr(shell, "kernel", None) is not None


@contextlib.contextmanager
def unbreakable_output() -> Iterator[None]:
    """Within it, a closed stdout or stderr raises nothing: `python -m hfjax ... | head -1` goes on.

    The reader of a pipe that ends gives EPIPE, a terminal that is closed EIO.
    """
    with (
        contextlib.redirect_stdout(_Forgiving(sys.stdout)),
        contextlib.redirect_stderr(_Forgiving(sys.stderr)),
    ):
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
