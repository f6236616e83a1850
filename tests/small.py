"""Small data sets and tasks in place of large ones, as functions that a config can name."""

import functools
import inspect

import fiddle as fdl
import numpy as np

from hfjax.data import labelled


def noise(*, shape: tuple[int, ...] = (8, 8, 3), num_train: int = 24, num_test: int = 24):
    """Bytes at random, in ten classes."""
    rng = np.random.default_rng(0)
    num = num_train + num_test
    images = rng.integers(0, 256, (num, *shape)).astype(np.uint8)
    labels = np.arange(num) % 10
    return labelled.from_arrays(
        images[:num_train],
        labels[:num_train],
        images[num_train:],
        labels[num_train:],
        num_classes=10,
    )


def transitions(*, maker):
    """Few transitions, made once for all configs that differ in other things."""
    kept = {n: v for n, v in maker.keywords.items() if not n.startswith("num_")}
    return _made(maker.func, tuple(kept.items()))


@functools.cache
def _made(maker, settings):
    few = {"num_steps": 400} if "num_cells" in inspect.signature(maker).parameters else _FEW
    return maker(**dict(settings), **few)


_FEW = {"num_transitions": 400, "num_rollouts": 12}


def without_evaluation(config):
    """A config whose evaluation measures and draws nothing, where only the training matters."""
    config.task, config.show = fdl.Config(_unevaluated, config.task), ()
    return config


def _unevaluated(task):
    return task._replace(evaluate=lambda state, data, key: ({}, {}), figures=lambda readout: {})
