"""Small made data sets in the place of large ones, as functions that a config can name."""

import functools

import numpy as np

from hfjax import data


def noise(*, shape: tuple[int, ...] = (8, 8, 3), num_train: int = 24, num_test: int = 24):
    """Bytes at random, in ten classes."""
    rng = np.random.default_rng(0)
    num = num_train + num_test
    images = rng.integers(0, 256, (num, *shape)).astype(np.uint8)
    labels = np.arange(num) % 10
    return data.labelled(
        images[:num_train],
        labels[:num_train],
        images[num_train:],
        labels[num_train:],
        num_classes=10,
    )


def transitions(*, maker, behaviour: str | None, gamma: float):
    """Few transitions, made once for all configs that differ in other things."""
    return _made(maker, behaviour, gamma)


@functools.cache
def _made(maker, behaviour, gamma):
    if behaviour:
        return maker(behaviour=behaviour, num_steps=400, gamma=gamma)
    return maker(num_transitions=400, num_rollouts=8, gamma=gamma)
