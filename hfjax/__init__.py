"""A JAX-first functional zoo of models of the hippocampal formation.

    import hfjax

    maps = hfjax.ratemaps.rate_maps(...)
    run = hfjax.run("grid_rnn", "laptop")
    run = hfjax.load("runs/grid_rnn-laptop")

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
        configs,
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
        movies,
        networks,
        notebook,
        output,
        plasticity,
        ratemaps,
        sweep,
        task,
        theta,
        training,
        visibility,
    )
    from hfjax.notebook import Run, load, run
    from hfjax.task import Task
    from hfjax.training.experiment import Experiment
    from hfjax.training.pretrained import pretrained

__version__ = "0.1.0"
__all__ = [
    "Experiment",
    "Run",
    "Task",
    "arena",
    "cells",
    "check",
    "compare",
    "configs",
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
    "movies",
    "networks",
    "notebook",
    "output",
    "plasticity",
    "pretrained",
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
        "Run": "hfjax.notebook",
        "Task": "hfjax.task",
        "load": "hfjax.notebook",
        "pretrained": "hfjax.training.pretrained",
        "run": "hfjax.notebook",
    },
)
