"""Drawing in a thread of its own, while the device trains."""

import math
import time
from collections.abc import Callable
from concurrent import futures
from typing import Any

REST = 3.0  # pause after a drawing, in its own time: so drawing takes a quarter of a core at most


class Drawer:
    """Calls a function in a thread, with pauses; a call that waits gives way to a newer one.

    So the device never waits for figures, many evaluations do not fill a core with drawing, and the
    newest readout is drawn in the end.
    """

    def __init__(self, draw: Callable[..., None]):
        """Start no thread yet."""
        self._draw = draw
        self._thread = futures.ThreadPoolExecutor(1, thread_name_prefix="figures")
        self._calls: list[futures.Future] = []
        self._waiting: tuple[Any, ...] | None = None
        self._rests_until_s = 0.0  # infinite during a drawing

    def __call__(self, *arguments: Any) -> None:
        """Call the function now or later. Raises what an earlier call has raised."""
        self._calls = [call for call in self._calls if not _is_over(call)]
        self._waiting = arguments
        if time.monotonic() >= self._rests_until_s:
            self._submit()

    def finish(self) -> None:
        """Draw what waits, and wait for it. Raises what a call has raised."""
        self.close()
        for call in self._calls:
            call.result()

    def close(self) -> None:
        """Draw what waits, and wait for it."""
        if self._waiting is not None:
            self._submit()
        self._thread.shutdown()

    def _submit(self) -> None:
        arguments, self._waiting, self._rests_until_s = self._waiting, None, math.inf
        assert arguments is not None
        self._calls.append(self._thread.submit(self._timed, *arguments))

    def _timed(self, *arguments: Any) -> None:
        start_s = time.monotonic()
        try:
            self._draw(*arguments)
        finally:
            end_s = time.monotonic()
            self._rests_until_s = end_s + REST * (end_s - start_s)


def _is_over(call: futures.Future) -> bool:
    """Whether a call has returned. Raises what it has raised."""
    return call.done() and call.result() is None
