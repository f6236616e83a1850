"""Training from the first step to the last: checkpoints, evaluations, signals, loading.

The device runs `chunk` steps in one `lax.scan`; the host acts only between chunks. Every random
key is a function of the seed and the step, so a resumed run draws what an uninterrupted run would
have drawn.
"""

import contextlib
import os
import pathlib
import signal
import threading
import time
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import fiddle as fdl
import jax
import jax.numpy as jnp
import numpy as np

from hfjax.errors import InputError, SaveError, TrainingFailed, one_line
from hfjax.task import Task
from hfjax.training import log as logs
from hfjax.training import workdir as wd
from hfjax.training.config import fill_in_num_steps, flatten
from hfjax.training.experiment import Experiment, build
from hfjax.training.programs import Programs, TrainState, make_programs

__all__ = ["Experiment", "Loaded", "build", "load", "make_programs", "run", "save_figures"]

# Parts of a state that init_from leaves as they were initialised.
NOT_COPIED = ("opt_state", "fresh")


def run(
    config: fdl.Config,
    workdir: str | os.PathLike,
    *,
    writers: Sequence[str] = ("wandb", "jsonl", "terminal"),
    wandb: Mapping[str, Any] | None = None,
    profile: bool = False,
    devices: Sequence[jax.Device] | None = None,
) -> bool:
    """Train `config` in `workdir` to its end, or until a signal; the same call again resumes.

    writers  of hfjax.training.log.WRITERS.
    wandb    keyword arguments of hfjax.training.log.Wandb: mode, project, name, group, tags.
    profile  write a trace of one chunk to WORKDIR/profile, for TensorBoard or Perfetto.
    devices  that divide the batch, or the seeds of a population (default: all).

    Returns True where the run is complete, False where a signal stopped it. Raises InputError
    (nothing written) where config, devices or workdir do not allow the run, and TrainingFailed
    where a scalar stops being finite or the disk cannot be written; the newest complete checkpoint
    then stands.
    """
    workdir = pathlib.Path(workdir)
    config = fdl.deepcopy_with(config)
    fill_in_num_steps(config)
    fdl.materialize_defaults(config)  # what is stored then holds, whatever later defaults say
    experiment = build(config)
    num_steps = experiment.num_steps
    devices = devices or jax.devices()
    programs = make_programs(experiment, devices)
    initial = None if wd.has_checkpoints(workdir) else _initial_state(experiment, programs)
    if first_process := jax.process_index() == 0:  # the only one that writes, but for Orbax
        wd.claim(workdir, config)

    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(_stop_on_signal())
        checkpoints = stack.enter_context(wd.Checkpoints(workdir, keep=experiment.keep))
        restored, unreadable = checkpoints.restore_newest(programs.abstract)
        train_state = restored or initial or _initial_state(experiment, programs)
        step = int(train_state.step)
        evaluated = wd.has_readout(workdir, step)
        if first_process:
            with _disk_errors(checkpoints):
                logs.rewind_metrics(workdir / "metrics.jsonl", step, evaluated=evaluated)
        if step == num_steps and evaluated:  # nothing to record, only to tell
            writers = tuple(set(writers) & {"terminal"})
        log = logs.Log(
            writers if first_process else (),
            workdir,
            first_step=step,
            num_steps=num_steps,
            show=experiment.show,
            config=flatten(config),
            wandb=wandb or {},
        )
        stack.callback(log.close)
        for bad_step, error in unreadable.items() if first_process else ():
            log.warn(
                f"warning: the checkpoint of step {bad_step} cannot be read and was moved to "
                f"{checkpoints.set_aside(bad_step)} ({one_line(error)})"
            )
        models = f"{experiment.seeds} models" if experiment.seeds > 1 else "one model"
        if step < num_steps:
            log.say(
                f"{'Resuming at' if step else 'From'} step {step} of {num_steps}: {models} on "
                f"{len(devices)} {devices[0].platform.upper()} device(s), workdir {workdir}"
            )

        warm = False  # the first chunk's time is mostly compilation
        while not stop.signal:
            if not evaluated and _due(step, experiment.eval_every, num_steps):
                log.doing("evaluating")
                scalars, readout = jax.device_get(programs.evaluate(train_state.state))
                if first_process:
                    with _disk_errors(checkpoints):
                        _record_evaluation(experiment, workdir, log, step, scalars, readout)
                evaluated = True
            if step == num_steps:
                break

            log.doing("training" if warm else "compiling")
            length = min(experiment.chunk - step % experiment.chunk, num_steps - step)
            traced = profile and (warm or step + length == num_steps)
            start_s = time.perf_counter()
            with jax.profiler.trace(workdir / "profile") if traced else contextlib.nullcontext():
                train_state, scalars = programs.chunk(train_state, length)
                scalars = jax.device_get(scalars)  # waits for the chunk
            if traced:
                profile = False
                log.say(f"A trace of steps {step} to {step + length} lies in {workdir}/profile.")
            _check_finite(scalars, step, checkpoints)
            record = {f"train/{name}": values.mean(0) for name, values in scalars.items()}
            if warm:
                record["perf/steps_per_s"] = length / (time.perf_counter() - start_s)
            step, evaluated, warm = step + length, False, True
            log.scalars(step, record)
            if _due(step, experiment.save_every, num_steps):
                with _disk_errors(checkpoints):
                    checkpoints.save(step, train_state)

        with _disk_errors(checkpoints):
            if checkpoints.newest() != step:
                checkpoints.save(step, train_state)
            checkpoints.wait()
    complete = step == num_steps and evaluated
    log.say(_ending(workdir, step, complete, stop.signal))
    return complete


def _due(step: int, every: int, num_steps: int) -> bool:
    return step % every == 0 or step == num_steps


def _record_evaluation(experiment, workdir, log, step, scalars, readout) -> None:
    """Log, draw and save an evaluation; the readout comes last, as the mark that it is complete."""
    if experiment.seeds > 1:
        ranked = next((scalars[n] for n in experiment.show if n in scalars), None)
        order = np.arange(experiment.seeds) if ranked is None else np.argsort(ranked)
        readout = {**readout, "drawn_seed": order[(experiment.seeds - 1) // 2]}
    log.scalars(step, {f"eval/{name}": value for name, value in scalars.items()})
    log.images(step, save_figures(workdir, experiment.task, readout, log.warn))
    wd.save_readout(workdir, step, readout, experiment.keep)


def save_figures(
    workdir: pathlib.Path,
    task: Task,
    readout: Mapping[str, np.ndarray],
    warn: Callable[[str], None],
) -> dict[str, pathlib.Path]:
    """Draw a readout, and the curves of metrics.jsonl, into WORKDIR/figures: {name: path}.

    Of a population the task's figures show the member with the median score, named in a corner;
    the spread over the seeds is in the curves. A figure that cannot be drawn only warns: the
    readout stays.
    """
    member = readout.get("drawn_seed")
    if member is not None:
        readout = {n: v[int(member)] for n, v in readout.items() if n != "drawn_seed"}
    try:
        figures = dict(task.figures(readout))
        if member is not None:
            for figure in figures.values():
                text = f"population, member {int(member)}"
                figure.text(0.005, 0.995, text, fontsize=7, va="top")
        if records := logs.read_metrics(workdir / "metrics.jsonl"):
            figures["training"] = logs.training_curves(records)
    except Exception as error:
        warn(f"warning: the figures could not be drawn ({one_line(error)}); the readout is kept.")
        return {}
    return wd.save_figures(workdir, figures)


def _check_finite(scalars, first_step: int, checkpoints: wd.Checkpoints) -> None:
    """Raise TrainingFailed at the first step of a chunk whose scalars are not all finite."""
    bad = {name: ~np.isfinite(values) for name, values in scalars.items()}
    steps = [np.argmax(b.reshape(len(b), -1).any(1)) for b in bad.values() if b.any()]
    if steps:
        i = min(steps)
        found = [f"{n} is {np.array2string(scalars[n][i])}" for n, b in bad.items() if b[i].any()]
        raise TrainingFailed(
            f"training stopped at step {first_step + i + 1}: {', '.join(found)}; "
            f"{_what_stands(checkpoints)}"
        )


def _what_stands(checkpoints: wd.Checkpoints) -> str:
    newest = checkpoints.newest_on_disk()
    if newest is None:
        return "no checkpoint was saved before."
    return f"the newest good checkpoint is that of step {newest} in {checkpoints.directory}."


@contextlib.contextmanager
def _disk_errors(checkpoints: wd.Checkpoints) -> Iterator[None]:
    """Turn what a full or vanished disk raises into one sentence."""
    try:
        yield
    except (OSError, SaveError) as error:
        raise TrainingFailed(
            f"the workdir cannot be written ({one_line(error)}); {_what_stands(checkpoints)} "
            "Make room and give the same command again to go on from there."
        ) from error


@contextlib.contextmanager
def _stop_on_signal() -> Iterator[types.SimpleNamespace]:
    """Note SIGTERM or SIGINT in `.signal` instead of dying; a second SIGINT interrupts at once."""
    stop = types.SimpleNamespace(signal=None)

    def note(number, _):
        if stop.signal == number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.signal = signal.Signals(number)

    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread may handle signals
        return
    before = {s: signal.signal(s, note) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ending(workdir: pathlib.Path, step: int, complete: bool, stopped_by) -> str:
    if not complete:
        return (
            f"Stopped by {stopped_by.name} at step {step}; everything is saved. "
            f"Give the same command again to go on (workdir {workdir})."
        )
    figures = sorted(path.name for path in (workdir / "figures").glob("*.png"))
    offline = any((workdir / "wandb").glob("offline-run-*"))
    sync = f"\n  W&B          offline; send it by: wandb sync {workdir}/wandb/offline-run-*"
    return (
        f"Complete after {step} steps.\n"
        f"  figures      {workdir}/figures/  ({', '.join(figures)})\n"
        f"  metrics      {workdir}/metrics.jsonl\n"
        f"  config       {workdir}/config.json, config.py\n"
        f"  checkpoint   {workdir}/checkpoints/{step}\n"
        f"  readout      {workdir}/readout/{step:09d}.npz\n"
        f'  in Python    task, state, config = hfjax.load("{workdir}")' + (sync if offline else "")
    )


class Loaded(NamedTuple):
    """A run as `load` gives it back."""

    task: Task
    state: Any  # in a population every leaf has a leading [seed] axis
    config: fdl.Config


def load(workdir: str | os.PathLike) -> Loaded:
    """The task, the newest readable state and the config of a run.

    Raises InputError where `workdir` holds no run, or no checkpoint yet.
    """
    config = wd.load_config(workdir)
    experiment = build(config)
    programs = make_programs(experiment, jax.devices()[:1])
    with wd.Checkpoints(workdir, read_only=True) as checkpoints:
        restored, _ = checkpoints.restore_newest(programs.abstract)
    if restored is None:
        raise InputError(f"{workdir} holds no checkpoint yet.")
    return Loaded(experiment.task, restored.state, config)


def _initial_state(experiment: Experiment, programs: Programs) -> TrainState:
    """Fresh state, or the state of `init_from` with a fresh optimiser.

    Every array outside `opt_state` must stand in the other run under the same path and with the
    same shape; one model may found a whole population.
    """
    train_state = programs.init()
    if experiment.init_from is None:
        return train_state
    donors = {
        jax.tree_util.keystr(path): leaf
        for path, leaf in jax.tree.leaves_with_path(load(experiment.init_from).state)
    }

    def graft(path, leaf):
        name = jax.tree_util.keystr(path)
        if any(getattr(p, "name", getattr(p, "key", None)) in NOT_COPIED for p in path):
            return leaf
        donor = donors.get(name)
        if donor is None or donor.shape not in (leaf.shape, leaf.shape[1:]):
            there = "missing" if donor is None else f"of shape {donor.shape}"
            raise InputError(
                f"init_from={experiment.init_from} does not fit: {name.lstrip('.')} is "
                f"{there} there and of shape {leaf.shape} here."
            )
        return jax.device_put(jnp.broadcast_to(donor, leaf.shape), leaf.sharding)

    state = jax.tree.map_with_path(graft, train_state.state)
    return train_state._replace(state=state)
