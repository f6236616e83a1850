"""An experiment as device programs: seeds under vmap, devices in a mesh, steps under scan."""

import contextlib
import functools
import linecache
import textwrap
import traceback
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from hfjax.errors import InputError, one_line
from hfjax.task import Readout, Scalars, Task, Whole
from hfjax.training import workdir as wd
from hfjax.training.experiment import Experiment

# Packages whose lines in a traceback say nothing about the model.
LIBRARIES = ("jax", "jaxlib", "flax", "optax", "chex", "numpy", "contextlib", "functools")


class TrainState(NamedTuple):
    """What a checkpoint holds: the number of steps done, and the task's state.

    In a population every leaf of `state` has a leading [seed] axis.
    """

    step: jax.Array
    state: Any


class InitProgram(Protocol):
    """() -> train state."""

    def __call__(self) -> TrainState:
        """The state before training."""


class ChunkProgram(Protocol):
    """(train state, length) -> (train state, scalars)."""

    def __call__(self, train_state: TrainState, length: int, /) -> tuple[TrainState, Scalars]:
        """`length` steps; each scalar is [step], in a population [step, seed]."""


class EvaluateProgram(Protocol):
    """(state) -> (scalars, readout)."""

    def __call__(self, state: Any, /) -> tuple[Scalars, Readout]:
        """The task's evaluation; in a population every array has a leading [seed] axis."""


class Trace(Protocol):
    """(length) -> None."""

    def __call__(self, length: int, /) -> None:
        """Trace a chunk of a length, and the evaluation, so that they are checked and cached."""


class Programs(NamedTuple):
    """The experiment as device programs, and the shapes and placement of its state."""

    init: InitProgram
    chunk: ChunkProgram
    evaluate: EvaluateProgram
    abstract: TrainState  # of jax.ShapeDtypeStruct
    trace: Trace


class Placement(NamedTuple):
    """How arrays are laid out over the devices."""

    replicated: NamedSharding  # each device holds the whole array
    divided: NamedSharding  # the first axis is divided among the devices
    train_state: Any  # TrainState of shardings: a population's states are divided


def make_programs(experiment: Experiment, devices: Sequence[jax.Device]) -> Programs:
    """Jit the task over a mesh of devices, which divides the batch or, in a population, the seeds.

    Raises InputError where the batch, or the seeds, cannot be divided among the devices, and where
    `init` or `sample` of the task fail; so does the `trace` of the result for `step` and
    `evaluate`.
    """
    task, population = experiment.task, experiment.seeds > 1
    keys = seed_keys(experiment.seed, experiment.seeds)
    divide_batch = _check_division(experiment, keys[0, 0], len(devices))
    placement = place(devices, population=population)
    over_seeds = functools.partial(_over_seeds, population=population)
    batch_sharding = placement.divided if divide_batch else None
    data = jax.device_put(experiment.data, placement.replicated)
    init_keys, train_keys, eval_keys = jax.device_put(
        list(keys) if population else list(keys[:, 0]), placement.train_state.state
    )

    one_step = over_seeds(functools.partial(_step, task, batch_sharding), 0, 0, None, None)
    init = jax.jit(
        functools.partial(_init, over_seeds(task.init, 0, None)),
        out_shardings=placement.train_state,
    )
    chunk = jax.jit(
        functools.partial(_chunk, one_step),
        static_argnums=3,
        donate_argnums=0,
        out_shardings=(placement.train_state, placement.replicated),
    )
    evaluate = jax.jit(over_seeds(task.evaluate, 0, None, 0), out_shardings=placement.replicated)
    with in_a_sentence("init"):
        begun = init.eval_shape(init_keys, data)

    def trace(length: int) -> None:
        with in_a_sentence("step"):
            chunk.eval_shape(begun, train_keys, data, length)
        with in_a_sentence("evaluate"):
            evaluate.eval_shape(begun.state, data, eval_keys)

    return Programs(
        init=lambda: init(init_keys, data),
        chunk=lambda train_state, length: chunk(train_state, train_keys, data, length),
        evaluate=lambda state: evaluate(state, data, eval_keys),
        abstract=TrainState(*map(wd.abstract, begun, placement.train_state)),
        trace=trace,
    )


def seed_keys(seed: int, seeds: int) -> jax.Array:
    """Keys of the members seed, seed + 1, ...: [init / train / evaluate, seed]."""
    members = [jax.random.split(jax.random.key(seed + i), 3) for i in range(seeds)]
    return jnp.stack(members, axis=1)


def place(devices: Sequence[jax.Device], *, population: bool) -> Placement:
    """The layout on a mesh with one axis, `device`."""
    mesh = Mesh(np.array(devices), ("device",))
    replicated = NamedSharding(mesh, PartitionSpec())
    divided = NamedSharding(mesh, PartitionSpec("device"))
    state = divided if population else replicated
    return Placement(replicated, divided, TrainState(replicated, state))  # type: ignore[arg-type]


def abstract_state(task: Task, data: Any, seeds: int, placement: Placement) -> TrainState:
    """The train state as jax.ShapeDtypeStruct. Of `data` only the shapes matter."""
    init = functools.partial(_init, _over_seeds(task.init, 0, None, population=seeds > 1))
    keys = seed_keys(0, seeds)
    shapes = jax.eval_shape(init, keys[0] if seeds > 1 else keys[0, 0], data)
    return TrainState(*map(wd.abstract, shapes, placement.train_state))


def _check_division(experiment: Experiment, key: jax.Array, num_devices: int) -> bool:
    """Whether devices divide the batch. Raises InputError where they cannot divide the work."""
    with in_a_sentence("sample"):
        batch = jax.eval_shape(experiment.task.sample, experiment.data, key)
    population, whole = experiment.seeds > 1, isinstance(batch, Whole)
    parts = () if whole else jax.tree.leaves(batch)
    sizes = {experiment.seeds} if population else {leaf.shape[0] for leaf in parts}
    for size in sizes:
        if size % num_devices:
            raise InputError(
                f"{'seeds' if population else 'the batch size'} must be a multiple of the number "
                f"of devices ({num_devices}), but is {size}."
            )
    return not (population or whole)


@contextlib.contextmanager
def in_a_sentence(part: str) -> Iterator[None]:
    """Raise InputError where a function of the task, named `part`, fails while it is traced.

    A ValueError that the model itself raises is a sentence already, as about sizes that can only
    be judged beside the data. Of any other error the sentence gives type and place.
    """
    try:
        yield
    except Exception as error:
        frames = [(f, n) for f, n in traceback.walk_tb(error.__traceback__) if _is_of_model(f)]
        frame, line = frames[-1] if frames else (None, 0)
        source = linecache.getline(frame.f_code.co_filename, line) if frame else ""
        if isinstance(error, ValueError) and source.lstrip().startswith("raise "):
            raise InputError(one_line(error)) from error
        text = f"{type(error).__name__}: {textwrap.shorten(str(error), 300, placeholder=' ...')}"
        place = f" ({frame.f_code.co_filename}, line {line})" if frame else ""
        raise InputError(
            f"`{part}` of the task fails with these settings and data: {text}{place}"
        ) from error


def _is_of_model(frame: types.FrameType) -> bool:
    """Whether a frame is neither of this module nor of a package that traces."""
    module = frame.f_globals.get("__name__", "")
    return module != __name__ and module.partition(".")[0] not in LIBRARIES


# --- What is jitted ---


def _over_seeds(function: Callable, *axes: int | None, population: bool) -> Callable:
    """`function` under vmap over the [seed] axes in a population, else as it is."""
    return jax.vmap(function, in_axes=axes) if population else function


def _init(task_init: Callable, keys: jax.Array, data: Any) -> TrainState:
    return TrainState(jnp.int32(0), task_init(keys, data))


def _step(
    task: Task,
    batch_sharding: NamedSharding | None,
    state: Any,
    key: jax.Array,
    data: Any,
    index: jax.Array,
) -> tuple[Any, Scalars]:
    """Step number `index`. Its keys depend on that number and the seed alone."""
    sample_key, step_key = jax.random.split(jax.random.fold_in(key, index))
    batch = task.sample(data, sample_key)
    if batch_sharding is not None:
        batch = jax.lax.with_sharding_constraint(batch, batch_sharding)
    return task.step(state, batch, step_key)


def _chunk(
    one_step: Callable, train_state: TrainState, keys: jax.Array, data: Any, length: int
) -> tuple[TrainState, Scalars]:
    """`length` steps under scan; scalars are [step, ...]."""

    def body(carry: TrainState, _: None) -> tuple[TrainState, Scalars]:
        state, scalars = one_step(carry.state, keys, data, carry.step)
        return TrainState(carry.step + 1, state), scalars

    return jax.lax.scan(body, train_state, length=length)
