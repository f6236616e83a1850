"""Many runs in one command, and a table over them.

    python -m hfjax.sweep --fdl_config=grid_rnn --fiddler=laptop \
        --grid task.optimizer.learning_rate=1e-4,3e-4 --grid seed=0..4

trains every combination in a folder that is named by what differs, below --workdir. The same
command resumes what is unfinished and leaves what is complete. At its end come a table over the
runs, sweep.csv with every scalar of the last evaluation, and sweep.png with one of them. The flags
of `python -m hfjax` apply to every run, but for those that join several processes. Exit codes are
those of `python -m hfjax`; 1 where a run failed and the others are complete.
"""

import contextlib
import itertools
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from absl import flags

from hfjax import __main__ as command
from hfjax.errors import STOPPED, InputError, SaveError, check_allowed, one_line
from hfjax.files import local_path, write_atomically
from hfjax.output import unbreakable_output

SWEEP: command.Flags = {
    "grid": (
        flags.DEFINE_multi_string,
        [],
        "PATH=VALUES: values between commas, or whole numbers FIRST..LAST; may be repeated",
    ),
    "launcher": (
        flags.DEFINE_string,
        "local",
        "local (one run after the other), processes (all at once, on this machine) or slurm",
    ),
    "slurm": (
        flags.DEFINE_multi_string,
        [],
        "NAME=VALUE: a parameter of submitit, as timeout_min=120 or slurm_partition=gpu",
    ),
    "vmap": (flags.DEFINE_bool, False, "train all runs in one program, as one population"),
    "scalar": (flags.DEFINE_string, None, "what sweep.png shows (default: the headline)"),
}
LAUNCHERS = {"local": "", "processes": "local", "slurm": "slurm"}  # submitit's name of a cluster
OWN_FLAGS = ("seed", "seeds", "init_from")  # settings that a flag would override
POLL_S = 2.0
QUEUE_POLL_S = 10.0  # of SLURM, which others ask too
LONGEST_NAME = 255  # of a folder, on most file systems (bytes)
YEAR_MIN = 365 * 24 * 60


class Point(NamedTuple):
    """One run of a sweep."""

    settings: Mapping[str, str]  # what differs: path -> value, as text
    workdir: pathlib.Path
    arguments: tuple[str, ...]  # of `python -m hfjax`
    config: Any  # complete


@unbreakable_output()
def main(argv: Sequence[str]) -> int:
    """Run the command line; returns the exit code."""
    if len(argv) == 1 or {"--help", "-h"} & set(argv[1:]):
        own = command._table({f"--{name}": text for name, (_, _, text) in SWEEP.items()})
        sys.stdout.write(f"{__doc__}\nFlags:\n{own}\n")
        return 0
    try:
        values = command.parsed(argv, {**command.WHAT_TO_RUN, **command.HOW_TO_RUN, **SWEEP})
        if values.fdl_help:
            return command.main(["hfjax", *_given(values)])
        check_allowed("--launcher", [values.launcher], LAUNCHERS)
        _check_alone(values)
        points = expand(values)
        if values.print_config:
            return max(command.main(["hfjax", *point.arguments]) for point in points)
        return _launch(points, values)
    except (InputError, flags.Error) as error:
        sys.stderr.write(f"hfjax: {one_line(error)}\n")
        return 2
    except (OSError, SaveError) as error:
        sys.stderr.write(
            f"hfjax: the sweep cannot be written ({one_line(error)}); make room and give the same "
            "command again to go on.\n"
        )
        return 1


def _check_alone(values: flags.FlagValues) -> None:
    """Raise InputError where several processes would each train the whole sweep."""
    from hfjax.training import processes

    for name in ("coordinator", "process_id"):
        if values[name].value is not None:
            raise InputError(f"--{name} joins the processes of one run; a sweep runs in one.")
    if values.num_processes is None and processes.is_cluster_of_several():
        raise InputError(
            "a sweep runs in one process, but this is one of several; start it once, or give "
            "--num_processes=1."
        )
    if values.num_processes not in (None, 1):
        raise InputError("--num_processes must be 1 in a sweep, which runs in one process.")


# --- From flags to runs ---


def values_of(text: str) -> list[str]:
    """The values of a grid: FIRST..LAST, or what is between the commas outside of brackets."""
    if whole := re.fullmatch(r"(-?\d+)\.\.(-?\d+)", text):
        first, last = map(int, whole.groups())
        return [str(n) for n in range(first, last + 1)]
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def expand(values: flags.FlagValues) -> list[Point]:
    """Every combination of the grids, with its config checked. Raises InputError."""
    grids: dict[str, list[str]] = {}
    for grid in values.grid:
        path, equals, text = grid.partition("=")
        options = values_of(text) if equals else []
        if not options or "" in options or len(set(options)) < len(options) or path in grids:
            raise InputError(
                f"--grid={grid} is no grid; write PATH=VALUE,VALUE or PATH=FIRST..LAST, each value "
                "and each path once."
            )
        grids[path] = options
    if not grids:
        raise InputError("--grid is missing: what differs between the runs, as seed=0..4.")
    given, folder = _given(values, without=("workdir", *grids)), _folder(values)
    if not values["wandb_group"].present:
        given.append(f"--wandb_group={folder.name}")
    combinations = (dict(zip(grids, c, strict=True)) for c in itertools.product(*grids.values()))
    return [_point(folder, given, settings) for settings in combinations]


def _given(values: flags.FlagValues, without: Sequence[str] = ()) -> list[str]:
    """The flags of `python -m hfjax` that were given."""
    return [
        line
        for name in (*command.WHAT_TO_RUN, *command.HOW_TO_RUN)
        if values[name].present and name not in without
        for line in values[name].serialize().splitlines()
    ]


def _folder(values: flags.FlagValues) -> pathlib.Path:
    """The sweep's folder: --workdir, or runs/CONFIG-FIDDLERS-WHAT_DIFFERS. Raises InputError."""
    if values.workdir:
        try:
            return local_path(values.workdir).absolute()
        except ValueError as error:
            raise InputError(str(error)) from error
    paths = [grid.partition("=")[0].rpartition(".")[2] for grid in values.grid]
    name = (values.fdl_config or "from_file").rpartition(".")[2]
    return pathlib.Path("runs", "-".join([name, *sorted(values.fiddler), *paths])).absolute()


def _point(folder: pathlib.Path, given: Sequence[str], settings: Mapping[str, str]) -> Point:
    from hfjax.training.experiment import complete

    last = [path.rpartition(".")[2] for path in settings]
    names = [n if last.count(n) == 1 else p for p, n in zip(settings, last, strict=True)]
    parts = (f"{n}={v}" for n, v in zip(names, settings.values(), strict=True))
    workdir = folder / re.sub(r"[^\w.+=,-]+", "_", ",".join(parts))
    if len(workdir.name.encode()) > LONGEST_NAME:
        raise InputError(
            f"the values of --grid name the folder of a run, but {workdir.name[:40]}... is longer "
            f"than {LONGEST_NAME} bytes; give shorter values, as the name of a function or fiddler."
        )
    own = (
        f"--{path}={value}" if path in OWN_FLAGS else f"--fdl_set={path}={value}"
        for path, value in settings.items()
    )
    arguments = (*given, *own, f"--workdir={workdir}")
    values = command.parsed(["hfjax", *arguments], {**command.WHAT_TO_RUN, **command.HOW_TO_RUN})
    command._check_names(values)
    chosen = command._choose(values)
    command._change(chosen, values)
    return Point(dict(settings), workdir, arguments, complete(chosen.config))


# --- Running them ---


def _launch(points: Sequence[Point], values: flags.FlagValues) -> int:
    """Train what is unfinished, and make the table; returns the exit code.

    Raises InputError, before anything is trained, where a folder holds a run of another config, or
    the task has no such scalar.
    """
    from hfjax.training import comparison

    if values.scalar is not None:
        comparison.check_scalar(values.scalar, points[0].config)
    open_points = [p for p in points if not comparison.is_complete(p.workdir, p.config)]
    done = len(points) - len(open_points)
    sys.stdout.write(f"{len(points)} runs, {done} of them complete\n")
    sys.stdout.flush()
    cluster = LAUNCHERS[values.launcher]
    if values.vmap:
        code = _as_population(points, values) if open_points else 0
    elif cluster:
        code = _on_cluster(open_points, cluster, values.slurm)
    else:
        code = _in_turn(open_points)
    if code == STOPPED:
        return STOPPED
    table = comparison.compare(
        [(p.settings, p.workdir, p.config) for p in points], _folder(values), values.scalar
    )
    sys.stdout.write(table)
    return code


def _in_turn(points: Sequence[Point]) -> int:
    """One run after the other in this process; a failed one does not stop the others."""
    worst = 0
    for number, point in enumerate(points, start=1):
        sys.stdout.write(f"\n[{number} of {len(points)}] {point.workdir.name}\n")
        try:
            code = command.main(["hfjax", *point.arguments])
        except Exception:  # as one that is out of memory
            traceback.print_exc()
            code = 1
        if code == STOPPED:
            return _stopped()
        worst = max(worst, code)
    return worst


def _stopped() -> int:
    sys.stdout.write("Stopped; everything is saved. Give the same command again to go on.\n")
    return STOPPED


def _as_population(points: Sequence[Point], values: flags.FlagValues) -> int:
    """All runs in one program; then each has its own workdir."""
    from hfjax.training import population

    configs = [point.config for point in points]
    together = population.make_config(configs, [point.settings for point in points])
    folder = _folder(values) / population.FOLDER
    code = command.train(together, str(folder), values)
    if code == 0:
        population.split(folder, [point.workdir for point in points], configs)
    elif code == 1:
        sys.stderr.write(
            "hfjax: with --vmap a run that fails ends all of them; its values are listed in the "
            f"order of the runs ({', '.join(p.workdir.name for p in points)}). Leave out that run "
            "and name another --workdir, or leave out --vmap.\n"
        )
    return _stopped() if code == STOPPED else code


class Job:
    """A run as submitit's function: SLURM requeues it when it ends it before it is complete."""

    def __init__(self, arguments: Sequence[str], cluster: str):
        self.arguments, self.cluster = list(arguments), cluster

    def __call__(self) -> int:
        """Train; a run that SLURM stopped hands the signal on to submitit, which requeues it."""
        code = command.main(["hfjax", *self.arguments])
        if code == STOPPED and self.cluster == "slurm":
            signal.raise_signal(signal.SIGUSR2)
        return code

    def checkpoint(self) -> Any:
        """What runs after the requeue: the same command, which resumes."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _on_cluster(points: Sequence[Point], cluster: str, parameters: Sequence[str]) -> int:
    """Submit the runs as a job array, and wait for them. Raises InputError."""
    if not points:
        return 0
    jobs = _jobs(points, _executor(points[0].workdir.parent / "slurm", cluster, parameters))
    for job, point in zip(jobs, points, strict=True):
        sys.stdout.write(f"job {job.job_id}: {point.workdir.name}\n")
    leaves = "leaves the jobs in the queue" if cluster == "slurm" else "stops and saves the jobs"
    sys.stdout.write(f"Waiting; Ctrl-C {leaves}. Their output: {jobs[0].paths.folder}\n")
    sys.stdout.flush()
    try:
        while _open(jobs, cluster):
            time.sleep(QUEUE_POLL_S if cluster == "slurm" else POLL_S)
    except KeyboardInterrupt:
        if cluster == "slurm":
            sys.stdout.write(
                "The jobs go on. Give the same command again to wait for them; scancel ends them.\n"
            )
            return STOPPED
        while running := _open(jobs, cluster):
            for job in running:  # whose process hands the signal on to the run
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(job.job_id), signal.SIGTERM)
            time.sleep(POLL_S)
        return _stopped()
    if cluster == "slurm" and not all(job.paths.result_pickle.exists() for job in jobs):
        return 1  # as after a time limit
    if any(job.exception() is not None for job in jobs):
        return 1
    codes = [job.result() for job in jobs]
    return _stopped() if STOPPED in codes else max(codes)


def _open(jobs: Sequence[Any], cluster: str) -> list[Any]:
    """The jobs that wait or run."""
    if cluster != "slurm":
        return [job for job in jobs if not job.done()]
    without_result = [job for job in jobs if not job.paths.result_pickle.exists()]
    queue = _in_queue() if without_result else set()
    return [job for job in without_result if job.job_id in queue]


def _in_queue() -> set[str]:
    """The user's jobs that wait or run. submitit asks sacct, which not every cluster keeps."""
    command = ["squeue", "--noheader", "--array", "--me", "--format=%i"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        said = (getattr(error, "stderr", "") or one_line(error)).strip()
        raise InputError(f"the queue of SLURM cannot be read ({said}).") from error
    return set(listed.stdout.split())


def _executor(folder: pathlib.Path, cluster: str, parameters: Sequence[str]) -> Any:
    """Submitit's executor. Raises InputError."""
    try:
        import submitit
    except ImportError as error:
        raise InputError(
            "--launcher=slurm needs the extra `cluster`: pdm sync -G cluster"
        ) from error
    named = dict(parameter.partition("=")[::2] for parameter in parameters)
    numbers = {n: int(v) if v.isdigit() else v for n, v in named.items()}
    if cluster == "local":  # which otherwise ends a run after some minutes
        numbers = {"timeout_min": YEAR_MIN, **numbers}
    try:
        executor = submitit.AutoExecutor(folder, cluster=cluster)
        executor.update_parameters(**numbers)
    except Exception as error:  # of a wrong parameter, or where there is no SLURM
        raise InputError(f"submitit cannot submit: {one_line(error)}") from error
    return executor


def _jobs(points: Sequence[Point], executor: Any) -> list[Any]:
    """A job for each run: the one that an earlier start has submitted, or a new one.

    jobs.json beside the jobs' output holds {run: job} of SLURM. Raises InputError.
    """
    import submitit

    record = pathlib.Path(executor.folder, "jobs.json")
    known = json.loads(record.read_text()) if record.exists() else {}
    jobs: dict[str, Any] = {n: submitit.SlurmJob(executor.folder, i) for n, i in known.items()}
    queue = _in_queue() if jobs else set()
    jobs = {name: job for name, job in jobs.items() if job.job_id in queue}
    new = {p.workdir.name: Job(p.arguments, executor.cluster) for p in points}
    new = {name: job for name, job in new.items() if name not in jobs}
    try:
        with _without_ctrl_c(), executor.batch() if new else contextlib.nullcontext():
            jobs |= {name: executor.submit(job) for name, job in new.items()}
    except Exception as error:  # as sbatch, which refuses a partition
        raise InputError(f"submitit cannot submit: {one_line(error)}") from error
    if executor.cluster == "slurm":
        known |= {name: job.job_id for name, job in jobs.items()}
        write_atomically(record, json.dumps(known, indent=1).encode())
    return [jobs[point.workdir.name] for point in points]


@contextlib.contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Ignore SIGINT here and in the processes that are started: submitit's would kill the runs."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


if __name__ == "__main__":
    from hfjax import sweep  # whose Job submitit stores by its name

    sys.exit(sweep.main(sys.argv))
