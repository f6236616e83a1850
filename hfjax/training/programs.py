"""An experiment as device programs: seeds under vmap, devices in a mesh, steps under scan."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from hfjax.errors import InputError, one_line
from hfjax.task import Whole
from hfjax.training import workdir as wd
from hfjax.training.experiment import Experiment


class TrainState(NamedTuple):
    """What a checkpoint holds: the number of steps done, and the task's state.

    In a population every leaf of `state` has a leading [seed] axis.
    """

    step: jax.Array
    state: Any


class Programs(NamedTuple):
    """The experiment as device programs, and the shapes and placement of its state."""

    init: Callable  # () -> TrainState
    chunk: Callable  # (TrainState, length) -> (TrainState, {name: [step] or [step, seed]})
    evaluate: Callable  # (state) -> (scalars, readout)
    abstract: TrainState  # of jax.ShapeDtypeStruct


def make_programs(experiment: Experiment, devices: Sequence[jax.Device]) -> Programs:
    """Jit the task over a mesh of devices, which divides the batch or, in a population, the seeds.

    Raises InputError where the batch, or the seeds, cannot be divided among the devices.
    """
    task, seeds = experiment.task, experiment.seeds
    population = seeds > 1
    mesh = Mesh(np.array(devices), ("device",))
    replicated = NamedSharding(mesh, PartitionSpec())
    divided = NamedSharding(mesh, PartitionSpec("device"))
    state_placed = divided if population else replicated
    placed: Any = TrainState(replicated, state_placed)  # type: ignore[arg-type]

    keys = jnp.stack(
        [jax.random.split(jax.random.key(experiment.seed + i), 3) for i in range(seeds)], axis=1
    )  # [init / train / evaluate, seed]
    try:
        batch = jax.eval_shape(task.sample, experiment.data, keys[0, 0])
        jax.eval_shape(task.init, keys[0, 0], experiment.data)
    except ValueError as error:  # sizes that a task can only judge beside its data
        raise InputError(one_line(error)) from error
    whole = isinstance(batch, Whole)
    parts = () if whole else jax.tree.leaves(batch)
    sizes = {seeds} if population else {leaf.shape[0] for leaf in parts}
    for size in sizes:
        if size % len(devices):
            raise InputError(
                f"{'seeds' if population else 'the batch size'} must be a multiple of the number "
                f"of devices ({len(devices)}), but is {size}."
            )
    data = jax.device_put(experiment.data, replicated)
    init_keys, train_keys, eval_keys = jax.device_put(
        list(keys) if population else list(keys[:, 0]), state_placed
    )

    def over_seeds(function, *axes):
        return jax.vmap(function, in_axes=axes) if population else function

    def step(state, key, data, index):
        sample_key, step_key = jax.random.split(jax.random.fold_in(key, index))
        batch = task.sample(data, sample_key)
        if not (population or whole):
            batch = jax.lax.with_sharding_constraint(batch, divided)
        return task.step(state, batch, step_key)

    @functools.partial(jax.jit, out_shardings=placed)
    def init(keys, data):
        return TrainState(jnp.int32(0), over_seeds(task.init, 0, None)(keys, data))

    @functools.partial(
        jax.jit, static_argnums=3, donate_argnums=0, out_shardings=(placed, replicated)
    )
    def chunk(train_state, keys, data, length):
        def body(carry, _):
            state, scalars = over_seeds(step, 0, 0, None, None)(carry.state, keys, data, carry.step)
            return TrainState(carry.step + 1, state), scalars

        return jax.lax.scan(body, train_state, length=length)

    @functools.partial(jax.jit, out_shardings=replicated)
    def evaluate(state, keys, data):
        return over_seeds(task.evaluate, 0, None, 0)(state, data, keys)

    shapes = jax.eval_shape(init, init_keys, data)
    return Programs(
        init=lambda: init(init_keys, data),
        chunk=lambda train_state, length: chunk(train_state, train_keys, data, length),
        evaluate=lambda state: evaluate(state, eval_keys, data),
        abstract=TrainState(*map(wd.abstract, shapes, placed)),
    )
