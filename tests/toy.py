"""A task small enough to test the trainer with: a linear map learns to copy its input."""

import fiddle as fdl
import jax
import jax.numpy as jnp
import optax
from matplotlib.figure import Figure

from hfjax.task import Task
from hfjax.training.experiment import Experiment


def task(
    *,
    num_units: int = 4,
    batch_size: int = 8,
    learning_rate: float = 0.1,
    nan_at: int = -1,
    slow_s: float = 0.0,
) -> Task:
    """Regression of x on x; `nan_at` poisons the loss at that step, `slow_s` delays each step."""
    if num_units < 1:
        raise ValueError(f"num_units must be at least 1, but is {num_units}.")
    optimizer = optax.adam(learning_rate)

    def wait(_):
        import time

        time.sleep(slow_s)

    def init(key, data):
        weights = jax.random.normal(key, (num_units, num_units))
        params = {"w": weights}
        return {"params": params, "opt_state": optimizer.init(params), "steps": jnp.int32(0)}

    def sample(data, key):
        return jax.random.normal(key, (batch_size, num_units))

    def step(state, batch, key):
        if slow_s:
            jax.debug.callback(wait, state["steps"])
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

    def figures(readout):
        figure = Figure()
        figure.add_subplot().imshow(readout["weights"])
        return {"weights": figure}

    return Task(init, sample, step, evaluate, figures)


def config() -> fdl.Config:
    """40 steps in chunks of 5."""
    return fdl.Config(
        Experiment, task=fdl.Config(task), num_steps=40, chunk=5, eval_every=10, save_every=10
    )
