"""A JAX-first functional zoo of models of the hippocampal formation.

    import hfjax

    maps = hfjax.ratemaps.rate_maps(...)
    task, state, config = hfjax.load("runs/laptop")

Modules, and the trainer behind `Experiment`, `run` and `load`, are imported at their first use.
"""

from typing import TYPE_CHECKING

from hfjax import _lazy

if TYPE_CHECKING:  # the names that an editor completes; at run time _lazy gives them
    from hfjax import (
        arena,
        cells,
        check,
        compare,
        data,
        decoders,
        envs,
        errors,
        figures,
        files,
        gym,
        kernels,
        missing,
        models,
        networks,
        output,
        plasticity,
        ratemaps,
        sweep,
        task,
        theta,
        training,
        visibility,
    )
    from hfjax.task import Task
    from hfjax.training.experiment import Experiment
    from hfjax.training.run import load, run

__version__ = "0.1.0"
__all__ = [
    "Experiment",
    "Task",
    "arena",
    "cells",
    "check",
    "compare",
    "data",
    "decoders",
    "envs",
    "errors",
    "figures",
    "files",
    "gym",
    "kernels",
    "load",
    "missing",
    "models",
    "networks",
    "output",
    "plasticity",
    "ratemaps",
    "run",
    "sweep",
    "task",
    "theta",
    "training",
    "visibility",
]
__getattr__, __dir__ = _lazy.attributes(
    __name__,
    {
        "Experiment": "hfjax.training.experiment",
        "Task": "hfjax.task",
        "load": "hfjax.training.run",
        "run": "hfjax.training.run",
    },
)
