"""A JAX-first functional zoo of models of the hippocampal formation."""

import importlib
from typing import Any

_HOME = dict.fromkeys(("Experiment", "load", "run"), "hfjax.training.run") | {"Task": "hfjax.task"}
__all__ = ["Experiment", "Task", "load", "run"]


def __getattr__(name: str) -> Any:
    # The trainer's imports (Orbax, Fiddle) take seconds that an analysis script need not wait for.
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'hfjax' has no attribute {name!r}")
