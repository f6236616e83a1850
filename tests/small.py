"""Small data sets and tasks in place of large ones, as functions that a config can name."""

import functools
import inspect
import pathlib
import tempfile

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
    few = _FEW if "num_transitions" in inspect.signature(maker).parameters else {"num_steps": 400}
    return maker(**dict(settings), **few)


_FEW = {"num_transitions": 400, "num_rollouts": 12}


@functools.cache
def rates_file():
    """The path of an npz file with the rates of five cells along a path."""
    rng = np.random.default_rng(0)
    positions = np.clip(np.cumsum(0.03 * rng.normal(size=(400, 2)), axis=0), -0.5, 0.5)
    path = pathlib.Path(tempfile.mkdtemp()) / "rates.npz"
    np.savez(path, positions=positions, rates=rng.uniform(size=(400, 5)))
    return str(path)


def torch_weights(num_place, num_grid):
    """A state_dict of grid-pattern-formation: [to, from]."""
    rng = np.random.default_rng(0)
    shapes = {
        "encoder.weight": (num_grid, num_place),
        "RNN.weight_ih_l0": (num_grid, 2),
        "RNN.weight_hh_l0": (num_grid, num_grid),
        "decoder.weight": (num_place, num_grid),
    }
    return {name: 0.1 * rng.normal(size=shape).astype("f4") for name, shape in shapes.items()}


@functools.cache
def weights_file(num_place, num_grid):
    """The path of an npz file of `torch_weights`."""
    path = pathlib.Path(tempfile.mkdtemp()) / "weights.npz"
    np.savez(path, **torch_weights(num_place, num_grid))
    return str(path)


def without_evaluation(config):
    """A config whose evaluation measures and draws nothing, where only the training matters."""
    config.task, config.show = fdl.Config(_unevaluated, config.task), ()
    return config


def _unevaluated(task):
    return task._replace(evaluate=lambda state, data, key: ({}, {}), figures=lambda readout: {})


def in_bfloat16(x):
    """float32 numbers with the eight leading binary digits that bfloat16 keeps, in float64."""
    bits = np.asarray(x, np.float32).view(np.uint32).astype(np.uint64)
    bits += 0x7FFF + (bits >> 16 & 1)  # to nearest, ties to even
    return (bits & 0xFFFF0000).astype(np.uint32).view(np.float32).astype(float)
