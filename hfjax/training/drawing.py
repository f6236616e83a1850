"""Drawing in a thread of its own, while the device trains."""

from collections.abc import Callable
from concurrent import futures
from typing import Any


class Drawer:
    """Calls a function in a thread; a call that still waits gives way to a newer one.

    So the device never waits for figures, and the newest readout is always drawn.
    """

    def __init__(self, draw: Callable[..., None]):
        """Start no thread yet."""
        self._draw = draw
        self._thread = futures.ThreadPoolExecutor(1, thread_name_prefix="figures")
        self._calls: list[futures.Future] = []

    def __call__(self, *arguments: Any) -> None:
        """Call the function later. Raises what an earlier call has raised."""
        self._calls = [call for call in self._calls if not call.cancel() and not _is_over(call)]
        self._calls.append(self._thread.submit(self._draw, *arguments))

    def finish(self) -> None:
        """Wait for the last call. Raises what a call has raised."""
        self._thread.shutdown()
        for call in self._calls:
            call.result()

    def close(self) -> None:
        """Wait for the last call."""
        self._thread.shutdown()


def _is_over(call: futures.Future) -> bool:
    """Whether a call has returned. Raises what it has raised."""
    return call.done() and (call.result() is None)
