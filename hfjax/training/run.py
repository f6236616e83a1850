"""Training from the first step to the last: checkpoints, evaluations, signals, loading.

The device runs `chunk` steps in one `lax.scan`; the host acts only between chunks. Every random
key is a function of the seed and the step, so a resumed run draws what an uninterrupted run would
have drawn.
"""

import contextlib
import dataclasses
import functools
import os
import pathlib
import signal
import threading
import time
import types
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import fiddle as fdl
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from hfjax.errors import InputError, SaveError, TrainingFailed, check_allowed, one_line
from hfjax.missing import on_host
from hfjax.output import DEFAULT_WRITERS, WANDB_MODES, WRITERS, unbreakable_output
from hfjax.task import HostReadout, Task
from hfjax.training import config_text, mirror, pretrained, processes, provenance, report
from hfjax.training import log as logs
from hfjax.training import workdir as wd
from hfjax.training.config import flatten
from hfjax.training.curves import training_curves
from hfjax.training.drawing import Drawer
from hfjax.training.experiment import (
    Experiment,
    Headline,
    build,
    build_task,
    build_without_data,
    complete,
)
from hfjax.training.log import Say
from hfjax.training.programs import (
    Programs,
    TrainState,
    abstract_state,
    make_mesh,
    make_programs,
    put,
)

__all__ = ["Experiment", "Loaded", "build", "load", "make_programs", "run", "save_figures"]


class Session(NamedTuple):
    """What the host works with between chunks."""

    experiment: Experiment
    programs: Programs
    workdir: pathlib.Path
    checkpoints: wd.Checkpoints
    log: logs.Log
    draw: Drawer  # (step, readout): figures, in the background
    writes: bool  # one process writes all files; each writes its part of a checkpoint


class Stop:
    """Whether a signal asks the run to stop."""

    def __init__(self) -> None:
        """No signal came yet. say: answers it."""
        self.signal: signal.Signals | None = None
        self.say: Say = lambda text: None


@unbreakable_output()
def run(
    config: fdl.Buildable,
    workdir: str | os.PathLike,
    *,
    experiment: Experiment | None = None,
    overwrite: bool = False,
    warning: str = "",
    writers: Sequence[str] = DEFAULT_WRITERS,
    wandb: Mapping[str, Any] | None = None,
    profile: bool = False,
    devices: Sequence[jax.Device] | None = None,
    model_devices: int = 1,
    origin: Mapping[str, Any] | None = None,
    break_lock: bool = False,
) -> bool:
    """Train `config` in `workdir` to its end, or until a signal; the same call again resumes.

    experiment  what is trained, where the config is only a record of it (see training.unstored).
    overwrite   delete the run that is in `workdir`, once all else is checked.
    warning     a sentence to show at the start.
    writers  of hfjax.output.WRITERS.
    wandb    keyword arguments of hfjax.training.log.Wandb: mode, project, name, group, tags,
             artifacts.
    profile  write a trace of one chunk to WORKDIR/profile, for TensorBoard or Perfetto.
    devices  that may share the work (default: all); see `programs.make_mesh`.
    model_devices  how many of them share the arrays that the task names in Task.sharding.
    origin   {"fdl_config": ..., "fiddlers": [...]}, which provenance.json and W&B record.
    break_lock  remove the lock that a dead process of another host has left (see training.lock).

    In several processes that jax.distributed has joined, each makes the same call, and all see the
    same workdir, on a disk or on object storage; only the first one writes and speaks.

    Returns True where the run is complete, False where a signal stopped it. Raises InputError
    (nothing written) where config, devices or workdir do not allow the run, and TrainingFailed (the
    newest checkpoint stands) where a scalar stops being finite or the disk cannot be written.
    """
    if pretrained.is_pretrained(workdir):
        raise InputError(
            f"{workdir} cannot be trained on; name a --workdir, and it as --init_from."
        )
    check_allowed("writers", writers, WRITERS)
    check_allowed("wandb", wandb or {}, logs.WANDB_SETTINGS)
    check_allowed("wandb['mode']", [(wandb or {}).get("mode", "auto")], WANDB_MODES)
    workdir = wd.folder(workdir)
    config = complete(config)
    experiment = experiment or build(config)
    devices = devices or available_devices()
    with processes.lost_peers(), contextlib.ExitStack() as stack:
        processes.check_same("config or data", _fingerprint(config, experiment.data))
        programs = make_programs(experiment, devices, model_devices=model_devices)
        initial = None
        # What ran before needs no check.
        if overwrite or not processes.agreed(wd.has_checkpoints(workdir)):
            programs.trace(min(experiment.chunk, experiment.num_steps))
            initial = _initial_state(experiment, programs)
        software = provenance.software(origin or {})
        warnings = [warning]
        if writes := processes.is_first():
            stack.callback(_send_rest, workdir)
            claim = wd.claim(workdir, config, break_lock=break_lock, overwrite=overwrite)
            warnings.append(stack.enter_context(claim))

        stop = stack.enter_context(_stop_on_signal())
        checkpoints = stack.enter_context(
            wd.Checkpoints(workdir, keep=experiment.keep, keep_every=experiment.keep_every)
        )
        restored, unreadable = checkpoints.restore_newest(programs.abstract)
        train_state = restored or initial or _initial_state(experiment, programs)
        step = int(train_state.step)
        evaluated = bool(processes.agreed(wd.has_readout(workdir, step)))
        used = list(programs.mesh.devices.flat)
        if step == experiment.num_steps and evaluated:  # nothing is left to record
            writers, warnings = tuple(set(writers) & {"terminal"}), warnings[1:]
        elif writes:
            start = provenance.record(software, used, step, experiment)
            _record_start(checkpoints, workdir, start, evaluated=evaluated)
        settings = {**flatten(config), **software}
        log = _open_log(experiment, workdir, writers if writes else (), step, settings, wandb or {})
        stack.callback(log.close)
        stop.say = log.say
        drawer = Drawer(functools.partial(_draw, experiment, workdir, log))
        stack.callback(drawer.close)
        session = Session(experiment, programs, workdir, checkpoints, log, drawer, writes)
        for text in filter(None, warnings):
            log.warn(text)
        _say_start(session, step, len(devices), unreadable)
        if writes and wd.has_undrawn(workdir):
            with contextlib.suppress(InputError):  # a readout that is damaged
                drawer(*wd.load_readout(workdir))
        step, evaluated = _train(session, train_state, evaluated, stop, profile)
    with _disk_errors(checkpoints):
        if writes:
            mirror.send(workdir)
    is_complete = step == experiment.num_steps and evaluated
    log.say(_ending(session, config, step) if is_complete else _stopped(workdir, step, stop.signal))
    return is_complete


def _fingerprint(config: fdl.Buildable, data: Any) -> int:
    """A number of a config and its data, to compare between processes; 0 where there is one."""
    if jax.process_count() == 1:
        return 0
    number = zlib.crc32(config_text.to_json(config).encode())
    for leaf in jax.tree.leaves(data):
        number = zlib.crc32(np.asarray(leaf).tobytes(), number)
    return number


def _record_start(
    checkpoints: wd.Checkpoints, workdir: pathlib.Path, start: provenance.Record, *, evaluated: bool
) -> None:
    """Add a start to the provenance, and drop what was logged after the step it starts from."""
    with _disk_errors(checkpoints):
        logs.rewind_metrics(workdir / "metrics.jsonl", start["step"], evaluated=evaluated)
        provenance.append(workdir, start)


def _open_log(
    experiment: Experiment,
    workdir: pathlib.Path,
    writers: Sequence[str],
    step: int,
    settings: Mapping[str, Any],
    wandb: Mapping[str, Any],
) -> logs.Log:
    return logs.Log(
        writers,
        workdir,
        first_step=step,
        num_steps=experiment.num_steps,
        show=experiment.show,
        metrics=experiment.task.metrics,
        config=settings,
        wandb=wandb,
    )


def _say_start(
    session: Session,
    step: int,
    num_devices: int,
    unreadable: Mapping[int, Exception],
) -> None:
    """Say where the run starts; damaged checkpoints are moved away with a warning."""
    for damaged, error in unreadable.items() if session.writes else ():
        session.log.warn(
            f"warning: the checkpoint of step {damaged} cannot be read and was moved to "
            f"{session.checkpoints.set_aside(damaged)} ({one_line(error)})"
        )
    experiment, mesh = session.experiment, session.programs.mesh
    models = f"{experiment.seeds} models" if experiment.seeds > 1 else "one model"
    hosts = f" of {jax.process_count()} processes" if jax.process_count() > 1 else ""
    if step < experiment.num_steps:
        session.log.say(
            f"{'Resuming at' if step else 'From'} step {step} of {experiment.num_steps}: {models} "
            f"on {mesh.size} {mesh.devices.flat[0].platform.upper()} device(s){hosts}, workdir "
            f"{mirror.shown(session.workdir)}"
        )
        if idle := num_devices - mesh.size:
            session.log.say(
                f"Idle: {idle} of {num_devices} devices, which cannot divide the "
                f"{'seeds and the batch' if experiment.seeds > 1 else 'batch'} evenly."
            )


# --- The loop ---


def _train(
    session: Session,
    train_state: TrainState,
    evaluated: bool,
    stop: Stop,
    profile: bool,
) -> tuple[int, bool]:
    """Run chunks until the last step or a signal: (steps done, whether that step is evaluated)."""
    experiment, log, checkpoints = session.experiment, session.log, session.checkpoints
    num_steps = experiment.num_steps
    step = int(train_state.step)
    warm = False  # the first chunk's time is mostly compilation
    while not (number := processes.largest(stop.signal or 0)):
        if not evaluated and _due(step, experiment.eval_every, num_steps):
            _evaluate(session, step, train_state)
            evaluated = True
        if step == num_steps:
            break
        log.doing("training" if warm else "compiling")
        length = min(experiment.chunk - step % experiment.chunk, num_steps - step)
        traced = profile and (warm or step + length == num_steps)
        train_state, scalars, seconds = _run_chunk(session, train_state, step, length, traced)
        _check_finite(scalars, step, checkpoints)
        record = {f"train/{name}": values.mean(0) for name, values in scalars.items()}
        if warm:
            record["perf/steps_per_s"] = np.array(length / seconds)
        step, evaluated, warm, profile = step + length, False, True, profile and not traced
        log.scalars(step, record)
        if _due(step, experiment.save_every, num_steps):
            _save(session, step, train_state)
    stop.signal = signal.Signals(number) if number else None  # of any process
    if checkpoints.newest() != step:
        _save(session, step, train_state)
    with _disk_errors(checkpoints):
        checkpoints.wait()
        log.doing("drawing")
        session.draw.finish()
    log.doing("complete" if step == num_steps and evaluated else "stopped")
    return step, evaluated


def _due(step: int, every: int, num_steps: int) -> bool:
    return step % every == 0 or step == num_steps


def _run_chunk(
    session: Session, train_state: TrainState, step: int, length: int, traced: bool
) -> tuple[TrainState, dict[str, np.ndarray], float]:
    """(state, scalars, seconds) of one chunk, with a trace of it in WORKDIR/profile if asked."""
    folder = session.workdir / "profile"
    start_s = time.perf_counter()
    with jax.profiler.trace(folder) if traced else contextlib.nullcontext():
        train_state, scalars = session.programs.chunk(train_state, length)
        values = jax.device_get(scalars)  # waits for the chunk
    if traced:
        session.log.say(f"A trace of steps {step} to {step + length} is in {folder}.")
    return train_state, values, time.perf_counter() - start_s


def _save(session: Session, step: int, train_state: TrainState) -> None:
    with _disk_errors(session.checkpoints):
        session.checkpoints.save(step, train_state)
        if mirror.is_mirror(session.workdir):
            session.checkpoints.wait()  # only a complete checkpoint is sent
        if session.log.sends_checkpoints:
            session.checkpoints.wait()
            session.log.checkpoint(step, session.checkpoints.directory / str(step))
    if session.writes:
        _send(session)


def _send(session: Session) -> None:
    """Send what is new to object storage; where that fails, the next time sends it too."""
    try:
        mirror.send(session.workdir)
    except SaveError as error:
        session.log.warn(f"warning: {one_line(error)}; training goes on.")


def _send_rest(workdir: pathlib.Path) -> None:
    """Send what a run that fails leaves; `run` says where that of a complete one cannot be sent."""
    with contextlib.suppress(SaveError):
        mirror.send(workdir)


def _evaluate(session: Session, step: int, train_state: TrainState) -> None:
    session.log.doing("evaluating")
    scalars, readout = map(on_host, session.programs.evaluate(train_state.state))
    if session.writes:
        with _disk_errors(session.checkpoints):
            _record_evaluation(session, step, scalars, readout)
        _send(session)


def _record_evaluation(
    session: Session, step: int, scalars: Mapping[str, np.ndarray], readout: HostReadout
) -> None:
    """Log and save an evaluation, and have it drawn.

    The readout comes after its record, as the mark that the evaluation is complete, and before it
    the mark that it is not drawn yet: what a kill leaves undrawn is drawn at the next start.
    """
    experiment, workdir, log = session.experiment, session.workdir, session.log
    if experiment.seeds > 1:
        names = [h.name.removeprefix("eval/") for h in experiment.headline] + [*experiment.show]
        ranked = next((scalars[n] for n in names if n in scalars), None)
        order = np.arange(experiment.seeds) if ranked is None else np.argsort(ranked)
        readout = {**readout, "drawn_seed": order[(experiment.seeds - 1) // 2]}
    log.scalars(step, {f"eval/{name}": value for name, value in scalars.items()})
    wd.mark_undrawn(workdir)
    wd.save_readout(workdir, step, readout, experiment.keep, experiment.keep_every)
    session.draw(step, readout)


def _draw(
    experiment: Experiment,
    workdir: pathlib.Path,
    log: logs.Log,
    step: int,
    readout: HostReadout,
) -> None:
    """Draw the readout of a step."""
    drawn = save_figures(workdir, experiment.task, readout, log.warn, headline=experiment.headline)
    log.images(step, drawn)
    if wd.newest_readout(workdir) == step:
        wd.mark_drawn(workdir)


def save_figures(
    workdir: pathlib.Path,
    task: Task,
    readout: HostReadout,
    warn: Say,
    *,
    headline: Sequence[Headline] = (),
) -> dict[str, pathlib.Path]:
    """Draw a readout, and the curves of metrics.jsonl, into WORKDIR/figures: {name: path}.

    Of a population the task's figures show the member with the median score, named below them;
    the spread over the seeds is in the curves. A figure that cannot be drawn only warns: the
    readout stays.
    """
    figures: dict[str, Figure] = {}
    with _drawing("figures", warn):
        figures |= draw(task, readout)
    with _drawing("training curves", warn):
        if records := logs.read_metrics(workdir / "metrics.jsonl"):
            figures["training"] = training_curves(
                records, metrics=task.metrics, headline=headline, axis=task.axis
            )
    return wd.save_figures(workdir, figures)


@contextlib.contextmanager
def _drawing(what: str, warn: Say) -> Iterator[None]:
    """Turn whatever drawing raises into a warning."""
    try:
        yield
    except Exception as error:
        warn(f"warning: the {what} could not be drawn ({one_line(error)}); the readout is kept.")


def draw(task: Task, readout: HostReadout) -> dict[str, Figure]:
    """{name: figure} of a readout; of a population those of one member, named below them."""
    figures = dict(task.figures(of_member(readout)))
    if "drawn_seed" in readout:
        for figure in figures.values():
            _name_member(figure, f"population, member {int(readout['drawn_seed'])}")
    return figures


def of_member(readout: HostReadout) -> HostReadout:
    """The readout of one model; of a population that of the member that is drawn."""
    member = readout.get("drawn_seed")
    if member is None:
        return readout
    return {n: v[int(member)] for n, v in readout.items() if n != "drawn_seed"}


def _name_member(figure: Figure, text: str, *, strip_in: float = 0.2) -> None:
    """Write a text below a figure, in a strip that is added for it.

    A figure whose axes are placed by hand keeps its size: its margin above the title is free.
    """
    engine = figure.get_layout_engine()
    if not isinstance(engine, ConstrainedLayoutEngine):
        figure.text(0.005, 0.995, text, fontsize=7, va="top")
        return
    height = figure.get_figheight() + strip_in
    figure.set_figheight(height)
    engine.set(rect=(0, strip_in / height, 1, 1 - strip_in / height))
    figure.text(0.005, 0.03 / height, text, fontsize=7, va="bottom")


# --- What can go wrong ---


def _check_finite(
    scalars: Mapping[str, np.ndarray], first_step: int, checkpoints: wd.Checkpoints
) -> None:
    """Raise TrainingFailed at the first step of a chunk whose scalars are not all finite."""
    bad = {name: ~np.isfinite(values) for name, values in scalars.items()}
    steps = [np.argmax(b.reshape(len(b), -1).any(1)) for b in bad.values() if b.any()]
    if steps:
        i = min(steps)
        named = [f"{n} is {np.array2string(scalars[n][i])}" for n, b in bad.items() if b[i].any()]
        raise TrainingFailed(
            f"training stopped at step {first_step + i + 1}: {', '.join(named)}; "
            f"{_what_stands(checkpoints)}"
        )


def _what_stands(checkpoints: wd.Checkpoints) -> str:
    newest = checkpoints.newest_on_disk()
    if newest is None:
        return "no checkpoint was saved before."
    workdir = mirror.shown(checkpoints.directory.parent)
    return f"the newest good checkpoint is that of step {newest} in {workdir}/checkpoints."


@contextlib.contextmanager
def _disk_errors(checkpoints: wd.Checkpoints) -> Iterator[None]:
    """Turn the errors of a full or missing disk into one sentence."""
    try:
        yield
    except (OSError, SaveError) as error:
        processes.check_lost(error)
        raise TrainingFailed(
            f"the workdir cannot be written ({one_line(error)}); {_what_stands(checkpoints)} "
            "Once it can be written, give the same command again to go on from there."
        ) from error


@contextlib.contextmanager
def _stop_on_signal() -> Iterator[Stop]:
    """Note SIGTERM or SIGINT in `.signal` instead of dying; a second SIGINT interrupts at once.

    SIGUSR1 and SIGUSR2, with which schedulers announce the end of the time, count too.
    SIGHUP, the end of the terminal or of the ssh connection, is ignored.
    """
    stop = Stop()

    def note(number: int, _: types.FrameType | None) -> None:
        if stop.signal == number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.signal = signal.Signals(number)

    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread may handle signals
        return
    names = ("SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2")  # Windows has the first two
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.signal(number, note) for number in numbers}
    if hasattr(signal, "SIGHUP"):  # not on Windows
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with _answered(numbers, stop):
            yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _answered(numbers: Sequence[int], stop: Stop) -> Iterator[None]:
    """Answer the first signal at once, from a thread.

    Python calls `note` when the main thread is back from the device, after a chunk or a
    compilation; the signal's number is in the pipe before.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)

    def answer() -> None:
        while byte := os.read(reading, 1):
            if byte[0] in numbers:
                name = signal.Signals(byte[0]).name
                again = " (Ctrl-C again: end at once)" if name == "SIGINT" else ""
                stop.say(f"{name}: finishing this chunk, then saving{again}.")
                return

    previous = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous)
        os.close(writing)
        thread.join()
        os.close(reading)


# --- The ending ---


def _ending(session: Session, config: fdl.Buildable, step: int) -> str:
    log = session.log
    return report.ending(
        session.workdir,
        step,
        session.experiment,
        config,
        before=log.before,
        latest=log.latest,
    )


def _stopped(workdir: pathlib.Path, step: int, stopped_by: signal.Signals | None) -> str:
    name = stopped_by.name if stopped_by else "a signal"
    stopped = (
        f"Stopped by {name} at step {step}; everything is saved. "
        f"Give the same command again to go on (workdir {mirror.shown(workdir)})."
    )
    return "\n".join([stopped, *report.wandb_lines(workdir)])


# --- Without training ---


def available_devices() -> list[jax.Device]:
    """The devices that JAX sees. Raises InputError where JAX_PLATFORMS asks for others."""
    try:
        return jax.devices()
    except (RuntimeError, AssertionError) as error:  # a plugin that is missing fails by an assert
        asked = getattr(jax.config, "jax_platforms", None)
        reason = one_line(error).partition(" (set JAX_PLATFORMS")[0]
        if isinstance(error, AssertionError):
            reason = "its plugin is not installed"
        raise InputError(
            f"JAX has no device here for JAX_PLATFORMS={asked} ({reason}); "
            "unset JAX_PLATFORMS to use what is here."
        ) from error


def check(config: fdl.Buildable) -> None:
    """Check all of a config that can be checked without its data, and without training.

    Where data are not made by a function, all programs are traced too, and `init_from` is compared
    with the state. Raises InputError.
    """
    config = complete(config)
    experiment = build_without_data(config)
    if not isinstance(config.data, fdl.Buildable):
        experiment = dataclasses.replace(experiment, data=config.data)
        programs = make_programs(experiment, available_devices())
        programs.trace(min(experiment.chunk, experiment.num_steps))
        _donors(experiment, programs.abstract.state)
    elif experiment.init_from is not None:
        load(experiment.init_from)


# --- Runs that exist ---


class Loaded(NamedTuple):
    """A run as `load` gives it back."""

    task: Task
    state: Any  # in a population every leaf has a leading [seed] axis
    config: Any  # the Fiddle config
    step: int  # training steps done


def load(
    workdir: str | os.PathLike,
    *,
    config: fdl.Buildable | None = None,
    task: Task | None = None,
    step: int | None = None,
) -> Loaded:
    """The task, the newest readable state and the config of a run. Its data are not needed.

    Only where provenance.json is missing, which holds the shapes of the data, they are made.

    config  used in place of the workdir's, as when that names a function of a notebook.
    task    used in place of the config's task; the config is None where it cannot be loaded.
    step    of the checkpoint; None for the newest. `keep_every` of a config keeps more than a few.

    Raises InputError where `workdir` holds no run, or no checkpoint yet, or none of that step, or a
    config that names what does not exist here.
    """
    workdir = wd.folder(workdir)
    if config is None:
        try:
            config = wd.load_config(workdir)
        except InputError:
            if task is None or not provenance.read(workdir):
                raise
    if task is None:
        task = build_task(config)
    seeds = provenance.newest(workdir)["seeds"] if config is None else config.seeds
    available_devices()
    mesh = make_mesh(jax.local_devices()[:1])
    shapes = abstract_state(task, _data_shapes(workdir, config), seeds, mesh)
    if (workdir / pretrained.STATE).exists():
        step = wd.newest_readout(workdir) or 0
        return Loaded(task, pretrained.load_state(workdir, shapes.state), config, step)
    with wd.Checkpoints(workdir, read_only=True) as checkpoints:
        if step is not None:
            restored = checkpoints.restore(step, shapes)
            return Loaded(task, restored.state, config, int(restored.step))
        restored, _ = checkpoints.restore_newest(shapes)
    if restored is None:
        raise InputError(f"{mirror.shown(workdir)} holds no checkpoint yet.")
    return Loaded(task, restored.state, config, int(restored.step))


def _data_shapes(workdir: str | os.PathLike, config: fdl.Buildable | None) -> Any:
    """The run's data as jax.ShapeDtypeStruct, or the data where the shapes are not stored."""
    stored = provenance.newest(workdir).get("data")
    if stored is not None:
        with contextlib.suppress(Exception):  # a container that was renamed
            return provenance.shapes_from_json(stored)
    if config is None:
        raise InputError(f"the shapes of the data of {workdir} are unknown: give its config=.")
    return build(config).data


def _initial_state(experiment: Experiment, programs: Programs) -> TrainState:
    """A new state, or the state of `init_from` with a new optimizer state."""
    train_state = programs.init()
    donors = _donors(experiment, train_state.state)

    def graft(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        donor = donors.get(jax.tree_util.keystr(path))
        if donor is None:
            return leaf
        return put(jnp.broadcast_to(donor, leaf.shape), leaf.sharding)

    return train_state._replace(state=jax.tree.map_with_path(graft, train_state.state))


def _donors(experiment: Experiment, state: Any) -> dict[str, jax.Array]:
    """{path: array} of the run `init_from`, for each array of `state` that a trained model keeps.

    Each of them needs an array of the same path and shape there. One model may be the start of a
    whole population. Raises InputError where an array is missing or of another shape.
    """
    if experiment.init_from is None:
        return {}
    there = {
        jax.tree_util.keystr(path): leaf
        for path, leaf in jax.tree.leaves_with_path(load(experiment.init_from).state)
    }
    donors = {}
    for path, leaf in jax.tree.leaves_with_path(state):
        if not pretrained.is_kept(path):
            continue
        name = jax.tree_util.keystr(path)
        donor = there.get(name)
        if donor is None or donor.shape not in (leaf.shape, leaf.shape[1:]):
            is_there = "missing" if donor is None else f"of shape {donor.shape}"
            raise InputError(
                f"init_from={experiment.init_from} does not fit: {name.lstrip('.')} is "
                f"{is_there} there and of shape {leaf.shape} here."
            )
        donors[name] = donor
    return donors
