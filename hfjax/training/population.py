"""Runs that differ in numbers and seeds only, trained as one population in one program.

A population of the trainer differs in its seeds. Here the task is built inside of `vmap`, so that
its hyperparameters are arrays with a [run] axis. Every member draws what its own run would draw.
"""

import contextlib
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import fiddle as fdl
import jax
import jax.numpy as jnp
import numpy as np
from fiddle import daglish

from hfjax.errors import InputError, one_line
from hfjax.files import write_atomically
from hfjax.task import HostReadout, Readout, Scalars, Task, Whole
from hfjax.training import config_text, provenance
from hfjax.training import run as train
from hfjax.training import workdir as wd
from hfjax.training.experiment import Experiment, build, build_task
from hfjax.training.log import read_metrics
from hfjax.training.overrides import steps
from hfjax.training.programs import TrainState, seed_keys

FOLDER = "population"  # of the common run, beside the folders of its members


class Members(NamedTuple):
    """The state of all runs."""

    step: jax.Array  # steps done, from which a run's keys follow
    state: Any  # every leaf [run, ...]


def task(*, base: str, settings: Mapping[str, Sequence[float]], seeds: Sequence[int]) -> Task:
    """The task of several runs: every array of state, scalars and readout is [run, ...].

    base      the config of a run as JSON, without its data.
    settings  {path: [run]}, numbers that replace those of `base`.
    seeds     of the runs.

    Raises InputError where the task cannot be built from numbers that are not yet known, as where
    a number decides on a shape or is checked when the task is made.
    """
    config = config_text.from_json(base)
    shared = _built(config.task)
    values = {path: jnp.asarray(numbers, jnp.float32) for path, numbers in settings.items()}
    init_keys, train_keys, eval_keys = jnp.stack([seed_keys(seed, 1)[:, 0] for seed in seeds], 1)
    member = _builder(config)
    for path, numbers in values.items():
        with _in_a_sentence(path):
            jax.eval_shape(jax.vmap(lambda v: jnp.zeros(len(member(v)))), {path: numbers})

    def init(key: jax.Array, data: Any) -> Members:
        states = jax.vmap(lambda v, k: member(v).init(k, data))(values, init_keys)
        return Members(jnp.int32(0), states)

    def step(members: Members, batch: Whole, key: jax.Array) -> tuple[Members, Scalars]:
        def one(numbers: Any, state: Any, key: jax.Array) -> tuple[Any, Scalars]:
            sample_key, step_key = jax.random.split(jax.random.fold_in(key, members.step))
            own = member(numbers)
            return own.step(state, own.sample(batch.data, sample_key), step_key)

        states, scalars = jax.vmap(one)(values, members.state, train_keys)
        return Members(members.step + 1, states), scalars

    def evaluate(members: Members, data: Any, key: jax.Array) -> tuple[Scalars, Readout]:
        return jax.vmap(lambda v, s, k: member(v).evaluate(s, data, k))(
            values, members.state, eval_keys
        )

    def figures(readout: HostReadout) -> dict[str, Any]:
        return {}  # every run has its own

    sample = lambda data, key: Whole(data)  # noqa: E731
    return Task(init, sample, step, evaluate, figures, shared.metrics, shared.axis)


def _builder(config: fdl.Buildable) -> Callable[[Mapping[str, jax.Array]], Task]:
    """(numbers by path) -> the task of a run. What does not depend on them is made at once."""

    def member(numbers: Mapping[str, Any]) -> Task:
        own = fdl.deepcopy_with(config)
        for path, number in numbers.items():
            *parents, last = steps(path)
            node = own
            for parent in parents:
                node = node[parent] if isinstance(parent, int) else getattr(node, parent)
            setattr(node, str(last), number)
        with jax.ensure_compile_time_eval():
            return _built(own.task)

    return member


def _built(config: fdl.Buildable) -> Any:
    """As `fdl.build`, which refuses to be called while another config is built."""

    def build(value: Any, state: daglish.State) -> Any:
        if not state.is_traversable(value):
            return value
        value = state.map_children(value)
        if not isinstance(value, fdl.Buildable):
            return value
        given = value.__arguments__
        positional = [given[i] for i in sorted(n for n in given if isinstance(n, int))]
        return value.__build__(
            *positional, **{n: v for n, v in given.items() if isinstance(n, str)}
        )

    return daglish.MemoizedTraversal.run(build, config)


@contextlib.contextmanager
def _in_a_sentence(path: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a task may do anything with its settings
        reason = "the task checks its value, or decides by it, when it is made"
        if not isinstance(error, jax.errors.JAXTypeError):
            reason = f"the task cannot be made then ({one_line(error)[:120]})"
        raise InputError(
            f"{path} cannot differ within one program: {reason}; leave out --vmap."
        ) from error


# --- A sweep as one run ---


def make_config(
    configs: Sequence[fdl.Buildable], settings: Sequence[Mapping[str, str]]
) -> fdl.Config:
    """The config of all runs together. Raises InputError where they differ in more than numbers."""
    first = configs[0]
    paths = [path for path in settings[0] if path != "seed"]
    for path in paths:
        if not path.startswith("task.") or any(not _is_float(first, path, s) for s in settings):
            raise InputError(
                f"--vmap trains runs that differ in seeds and in numbers of the task, but {path} "
                f"is {settings[0][path]}; leave out --vmap."
            )
    if first.seeds > 1:
        raise InputError("--vmap is a population already; give seeds by --grid seed=0..4.")
    together = fdl.deepcopy_with(first)
    together.task = fdl.Config(
        task,
        base=config_text.to_json(fdl.copy_with(first, data=())),
        settings={path: [float(s[path]) for s in settings] for path in paths},
        seeds=[config.seed for config in configs],
    )
    together.seed = 0
    return together


def _is_float(config: fdl.Buildable, path: str, settings: Mapping[str, str]) -> bool:
    """Whether a setting is a number with a point there: whole numbers decide on shapes."""
    node: Any = config
    for step in steps(path):
        node = node[step] if isinstance(step, int) else getattr(node, step)
    try:
        return isinstance(node, float) and np.isfinite(float(settings[path]))
    except ValueError:
        return False


def split(
    folder: pathlib.Path, workdirs: Sequence[pathlib.Path], configs: Sequence[fdl.Buildable]
) -> None:
    """Give every member of the complete run in `folder` a workdir, as if it had been trained alone.

    `hfjax.load` and `python -m hfjax` open it.
    """
    state = train.load(folder).state.state
    records = read_metrics(folder / "metrics.jsonl")
    made_by = provenance.newest(folder)
    experiment: Experiment = build(configs[0])
    readouts = [wd.load_readout(folder, i) for i in range(len(list(folder.glob("readout/*.npz"))))]
    for i, (workdir, config) in enumerate(zip(workdirs, configs, strict=True)):
        with wd.claim(workdir, config), wd.Checkpoints(workdir) as checkpoints:
            lines = (
                json.dumps({n: v[i] if isinstance(v, list) else v for n, v in r.items()})
                for r in records
            )
            write_atomically(workdir / "metrics.jsonl", ("\n".join(lines) + "\n").encode())
            provenance.append(workdir, made_by)
            own = jax.tree.map(lambda leaf, i=i: leaf[i], state)
            if not wd.has_checkpoints(workdir):  # of an earlier start that was interrupted
                checkpoints.save(config.num_steps, TrainState(jnp.int32(config.num_steps), own))
                checkpoints.wait()
            for step, readout in readouts:
                member = {name: values[i] for name, values in readout.items()}
                wd.save_readout(workdir, step, member, config.keep, config.keep_every)
            task_of_run = build_task(config)
            train.save_figures(workdir, task_of_run, member, print, headline=experiment.headline)
