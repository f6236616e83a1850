"""An experiment as device programs: seeds under vmap, devices in a mesh, steps under scan.

The mesh has three axes. "seed" divides the members of a population, "batch" the batch, "model" the
arrays that the task names in `Task.sharding`. Of several processes each has a part of it.
"""

import contextlib
import fnmatch
import functools
import linecache
import math
import textwrap
import traceback
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding

from hfjax.errors import InputError, one_line
from hfjax.task import Readout, Scalars, Task, Whole
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


class Lower(Protocol):
    """(length) -> the program of a chunk, to compile and to inspect."""

    def __call__(self, length: int, /) -> jax.stages.Lowered:
        """The chunk of a length as lowered by JAX: its text, collectives, memory."""


class Programs(NamedTuple):
    """The experiment as device programs, and the shapes and placement of its state."""

    init: InitProgram
    chunk: ChunkProgram
    evaluate: EvaluateProgram
    abstract: TrainState  # of jax.ShapeDtypeStruct
    trace: Trace
    mesh: Mesh  # (seed, batch, model)
    lower: Lower


def make_programs(
    experiment: Experiment, devices: Sequence[jax.Device], *, model_devices: int = 1
) -> Programs:
    """Jit the task over a mesh of as many of the devices as can share its work; see `make_mesh`.

    Raises InputError where `make_mesh` does, and where `init` or `sample` of the task fail; so does
    the `trace` of the result for `step` and `evaluate`.
    """
    task, population = experiment.task, experiment.seeds > 1
    keys = seed_keys(experiment.seed, experiment.seeds)
    batch_size = _batch_size(experiment, keys[0, 0])
    mesh = make_mesh(
        devices, seeds=experiment.seeds, batch_size=batch_size, model_devices=model_devices
    )
    replicated = NamedSharding(mesh, PartitionSpec())
    over_seeds = functools.partial(_over_seeds, population=population)
    divided = NamedSharding(mesh, PartitionSpec("batch")) if batch_size else None
    data = put(experiment.data, replicated)
    init_keys, train_keys, eval_keys = put(
        list(keys) if population else list(keys[:, 0]),
        NamedSharding(mesh, PartitionSpec("seed")) if population else replicated,
    )

    init_state = functools.partial(_init, over_seeds(task.init, 0, None))
    with in_a_sentence("init"):
        begun = jax.eval_shape(init_state, init_keys, data)
    abstract = placed(begun, mesh, task, population=population)
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    init = jax.jit(init_state, out_shardings=shardings)
    one_step = over_seeds(
        functools.partial(_step, task, divided, experiment.matmul_precision), 0, 0, None, None
    )
    chunk = jax.jit(
        functools.partial(_chunk, one_step),
        static_argnums=3,
        donate_argnums=0,
        out_shardings=(shardings, replicated),
    )
    evaluate = jax.jit(
        over_seeds(task.evaluate, 0, None, 0),
        out_shardings=replicated,
        compiler_options=compiled_quickly(devices[0].platform),
    )

    def trace(length: int) -> None:
        with in_a_sentence("step"):
            chunk.eval_shape(abstract, train_keys, data, length)
        with in_a_sentence("evaluate"):
            evaluate.eval_shape(abstract.state, data, eval_keys)

    return Programs(
        init=lambda: init(init_keys, data),
        chunk=lambda train_state, length: chunk(train_state, train_keys, data, length),
        evaluate=lambda state: evaluate(state, data, eval_keys),
        abstract=abstract,
        trace=trace,
        mesh=mesh,
        lower=lambda length: chunk.lower(abstract, train_keys, data, length),
    )


def compiled_quickly(platform: str) -> dict[str, int] | None:
    """Options of XLA for an evaluation, which is a long program that seldom runs.

    On a CPU LLVM then optimizes less. Of eleven configs most compile it in 10 to 50 % less time,
    and all run it as fast.
    """
    if platform != "cpu" or jax.config.read("jax_disable_most_optimizations"):
        return None
    return {"xla_backend_optimization_level": 1}


def seed_keys(seed: int, seeds: int) -> jax.Array:
    """Keys of the members seed, seed + 1, ...: [init / train / evaluate, seed]."""
    members = [jax.random.split(jax.random.key(seed + i), 3) for i in range(seeds)]
    return jnp.stack(members, axis=1)


def _batch_size(experiment: Experiment, key: jax.Array) -> int | None:
    """The size of the batch, None where there is none that devices could divide."""
    with in_a_sentence("sample"):
        batch = jax.eval_shape(experiment.task.sample, experiment.data, key)
    leaves = [] if isinstance(batch, Whole) else jax.tree.leaves(batch)
    return leaves[0].shape[0] if leaves else None


# --- Devices ---


def make_mesh(
    devices: Sequence[jax.Device],
    *,
    seeds: int = 1,
    batch_size: int | None = None,
    model_devices: int = 1,
) -> Mesh:
    """The mesh (seed, batch, model) over as many of the devices as divide the work evenly.

    The size of "seed" divides seeds, that of "batch" divides batch_size (None: there is no batch to
    divide), that of "model" is model_devices. Every process has the same number of devices in it.
    Among divisions of as many devices that with the largest "seed" needs the least communication.

    Raises InputError where there are fewer devices than model_devices, where the processes cannot
    share these evenly, and where they cannot divide the work.
    """
    hosts: dict[int, list[jax.Device]] = {}
    for device in devices:
        hosts.setdefault(device.process_index, []).append(device)
    most = min(map(len, hosts.values()))
    if model_devices > len(hosts) * most:
        raise InputError(
            f"model_devices must be at most the number of devices ({len(hosts) * most}), but is "
            f"{model_devices}."
        )
    if math.lcm(model_devices, len(hosts)) > len(hosts) * most:
        raise InputError(
            f"model_devices={model_devices} cannot be shared evenly by {len(hosts)} processes of "
            f"{most} devices."
        )
    divisions = [
        (seed, batch)
        for seed in _divisors(seeds)
        # Without a batch to divide, the processes do the same work.
        for batch in (_divisors(batch_size) if batch_size else range(1, len(hosts) + 1))
        if seed * batch * model_devices <= len(hosts) * most
        and seed * batch * model_devices % len(hosts) == 0
    ]
    if not divisions:
        raise InputError(
            f"{len(hosts)} processes cannot divide a batch of {batch_size}"
            f"{f' and {seeds} seeds' if seeds > 1 else ''} evenly."
        )
    if batch_size:
        seed, batch = max(divisions, key=lambda division: (math.prod(division), division))
    else:
        seed, batch = max(divisions, key=lambda division: (division[0], -division[1]))
    each = seed * batch * model_devices // len(hosts)
    chosen = [device for host in hosts.values() for device in host[:each]]
    return Mesh(
        np.array(chosen).reshape(seed, batch, model_devices),
        ("seed", "batch", "model"),
        axis_types=(jax.sharding.AxisType.Auto,) * 3,
    )


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]


def put(tree: Any, sharding: Sharding) -> Any:
    """Arrays on the mesh; every process gives the same ones, and nothing is sent between them."""
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)

    def part(leaf: Any) -> jax.Array:
        array = leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return jax.tree.map(part, tree)


def abstract_state(task: Task, data: Any, seeds: int, mesh: Mesh) -> TrainState:
    """The train state as jax.ShapeDtypeStruct. Of `data` only the shapes matter."""
    init = functools.partial(_init, _over_seeds(task.init, 0, None, population=seeds > 1))
    keys = seed_keys(0, seeds)
    shapes = jax.eval_shape(init, keys[0] if seeds > 1 else keys[0, 0], data)
    return placed(shapes, mesh, task, population=seeds > 1)


def placed(shapes: TrainState, mesh: Mesh, task: Task, *, population: bool) -> TrainState:
    """Shapes with their shardings: a population over "seed", arrays of Task.sharding over "model".

    Raises InputError where the task names no array to shard over several devices, or one that they
    cannot divide evenly.
    """
    num_devices = mesh.shape["model"]
    sharded: list[str] = []

    def place(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        spec = next(
            (spec for pattern, spec in task.sharding.items() if fnmatch.fnmatchcase(name, pattern)),
            PartitionSpec(),
        )
        axes = ("seed", *spec) if population and path[0].name == "state" else tuple(spec)
        for size, axis in zip(leaf.shape, axes, strict=False):
            if axis == "model" and size % num_devices:
                raise InputError(
                    f"model_devices={num_devices} cannot divide {name} of shape "
                    f"{leaf.shape} evenly."
                )
        if "model" in axes:
            sharded.append(name)
        sharding = NamedSharding(mesh, PartitionSpec(*axes))
        return jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=sharding, weak_type=leaf.weak_type
        )

    tree = jax.tree.map_with_path(place, shapes)
    if num_devices > 1 and not sharded:
        raise InputError("model_devices must be 1: this model has no array that devices can share.")
    return tree


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
    return jax.vmap(function, in_axes=axes, spmd_axis_name="seed") if population else function


def _init(task_init: Callable, keys: jax.Array, data: Any) -> TrainState:
    return TrainState(jnp.int32(0), task_init(keys, data))


def _step(
    task: Task,
    batch_sharding: NamedSharding | None,
    matmul_precision: str | None,
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
    if matmul_precision is None:
        return task.step(state, batch, step_key)
    with jax.default_matmul_precision(matmul_precision):
        return task.step(state, batch, step_key)


def _chunk(
    one_step: Callable, train_state: TrainState, keys: jax.Array, data: Any, length: int
) -> tuple[TrainState, Scalars]:
    """`length` steps under scan; scalars are [step, ...]."""

    def body(carry: TrainState, _: None) -> tuple[TrainState, Scalars]:
        state, scalars = one_step(carry.state, keys, data, carry.step)
        return TrainState(carry.step + 1, state), scalars

    return jax.lax.scan(body, train_state, length=length)
