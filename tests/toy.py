"""A task small enough to test the trainer with: a linear map learns to copy its input."""

import functools
import pathlib
import time
from typing import Any, NamedTuple

import fiddle as fdl
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import PartitionSpec
from matplotlib.figure import Figure

from hfjax.task import Task
from hfjax.training.experiment import Experiment


def task(
    *,
    num_units: int = 4,
    batch_size: int = 8,
    learning_rate: float = 0.1,
    nan_at: int = -1,
    gates: str | None = None,
    shares: bool = False,
) -> Task:
    """Regression of x on x; `nan_at` poisons the loss at that step.

    gates   a folder: step n writes the file `at_n` there where a file `wait_n` exists, and waits
            until that is gone, so that a test can act at a known moment.
    shares  whether devices may share the weights.
    """
    if num_units < 1:
        raise ValueError(f"num_units must be at least 1, but is {num_units}.")
    optimizer = optax.adam(learning_rate)

    def init(key, data):
        weights = jax.random.normal(key, (num_units, num_units))
        params = {"w": weights}
        return {"params": params, "opt_state": optimizer.init(params), "steps": jnp.int32(0)}

    def sample(data, key):
        return jax.random.normal(key, (batch_size, num_units))

    def step(state, batch, key):
        if gates is not None:
            jax.debug.callback(functools.partial(_wait, pathlib.Path(gates)), state["steps"])
        noise = 0.01 * jax.random.normal(key, batch.shape)

        def loss_of(params):
            return jnp.mean((batch @ params["w"] - batch - noise) ** 2)

        loss, gradient = jax.value_and_grad(loss_of)(state["params"])
        loss = jnp.where(state["steps"] == nan_at, jnp.nan, loss)
        updates, opt_state = optimizer.update(gradient, state["opt_state"])
        params = optax.apply_updates(state["params"], updates)
        return (
            {"params": params, "opt_state": opt_state, "steps": state["steps"] + 1},
            {"loss": loss, "norm": jnp.linalg.norm(params["w"])},
        )

    def evaluate(state, data, key):
        x = jax.random.normal(key, (16, num_units))
        error = jnp.mean((x @ state["params"]["w"] - x) ** 2)
        return {"loss": error}, {"weights": state["params"]["w"]}

    sharding = {"*.w": PartitionSpec("model")} if shares else {}
    return Task(init, sample, step, evaluate, _figures, sharding=sharding)


def _wait(gates, step):
    if (gates / f"wait_{step}").exists():
        (gates / f"at_{step}").touch()
        while (gates / f"wait_{step}").exists():
            time.sleep(0.01)


def _figures(readout):
    figure = Figure((2, 2))
    figure.add_subplot().imshow(readout["weights"])
    return {"weights": figure}


class Pair(NamedTuple):
    """A container of data."""

    first: Any
    second: Any


MADE = []  # names of the data that were made


def arrays(*, num: int = 6) -> dict[str, np.ndarray]:
    """Data that a config can name."""
    MADE.append("arrays")
    return {"x": np.zeros((num, 2), np.float32)}


def config() -> fdl.Config:
    """40 steps in chunks of 5."""
    return fdl.Config(
        Experiment,
        task=fdl.Config(task),
        num_steps=40,
        chunk=5,
        eval_every=20,
        save_every=10,
        keep=2,
    )
