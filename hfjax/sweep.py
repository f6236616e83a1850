"""Many runs in one command, and a table over them.

    python -m hfjax.sweep --fdl_config=grid_rnn --fiddler=laptop \
        --grid task.optimizer.learning_rate=1e-4,3e-4 --grid seed=0..4

trains every combination in a folder that is named by what differs, below --workdir. The same
command resumes what is unfinished and leaves what is complete. At its end come a table over the
runs, sweep.csv with every scalar of the last evaluation, and sweep.png with one of them. All flags
of `python -m hfjax` apply to every run. Exit codes are those of `python -m hfjax`; 1 where a run
failed and the others are complete.
"""

import itertools
import pathlib
import re
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from absl import flags

from hfjax import __main__ as command
from hfjax.errors import STOPPED, InputError, nearest, one_line
from hfjax.files import local_path
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
        if values.launcher not in LAUNCHERS:
            nearby = nearest(values.launcher, LAUNCHERS)
            raise InputError(f"--launcher has no {values.launcher!r}; {nearby}")
        return _launch(expand(values), values)
    except (InputError, flags.Error) as error:
        sys.stderr.write(f"hfjax: {one_line(error)}\n")
        return 2


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
    given = [
        line
        for name in (*command.WHAT_TO_RUN, *command.HOW_TO_RUN)
        if values[name].present and name not in ("workdir", *grids)
        for line in values[name].serialize().splitlines()
    ]
    folder = _folder(values)
    if not values["wandb_group"].present:
        given.append(f"--wandb_group={folder.name}")
    combinations = (dict(zip(grids, c, strict=True)) for c in itertools.product(*grids.values()))
    return [_point(folder, given, settings) for settings in combinations]


def _folder(values: flags.FlagValues) -> pathlib.Path:
    """The sweep's folder: --workdir, or runs/CONFIG-FIDDLERS-WHAT_DIFFERS."""
    if values.workdir:
        return local_path(values.workdir).absolute()
    paths = [grid.partition("=")[0].rpartition(".")[2] for grid in values.grid]
    name = (values.fdl_config or "from_file").rpartition(".")[2]
    return pathlib.Path("runs", "-".join([name, *sorted(values.fiddler), *paths])).absolute()


def _point(folder: pathlib.Path, given: Sequence[str], settings: Mapping[str, str]) -> Point:
    from hfjax.training.experiment import complete

    last = [path.rpartition(".")[2] for path in settings]
    names = [n if last.count(n) == 1 else p for p, n in zip(settings, last, strict=True)]
    parts = (f"{n}={v}" for n, v in zip(names, settings.values(), strict=True))
    workdir = folder / re.sub(r"[^\w.+=,-]+", "_", ",".join(parts))
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
    """Train what is unfinished, and make the table; returns the exit code."""
    from hfjax.training import comparison

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
        sys.stdout.write("Stopped; everything is saved. Give the same command again to go on.\n")
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
        code = command.main(["hfjax", *point.arguments])
        if code == STOPPED:
            return STOPPED
        worst = max(worst, code)
    return worst


def _as_population(points: Sequence[Point], values: flags.FlagValues) -> int:
    """All runs in one program; then each has its own workdir."""
    from hfjax.training import population

    configs = [point.config for point in points]
    together = population.make_config(configs, [point.settings for point in points])
    folder = _folder(values) / population.FOLDER
    code = command.train(together, str(folder), values)
    if code == 0:
        population.split(folder, [point.workdir for point in points], configs)
    return code


class Job:
    """A run as submitit's function: requeued when the scheduler ends it before it is complete."""

    def __init__(self, arguments: Sequence[str]):
        self.arguments = list(arguments)

    def __call__(self) -> int:
        """Train; a run that was stopped hands the signal on to submitit, which requeues the job."""
        code = command.main(["hfjax", *self.arguments])
        if code == STOPPED:
            signal.raise_signal(signal.SIGUSR2)
        return code

    def checkpoint(self) -> Any:
        """What runs after the requeue: the same command, which resumes."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _on_cluster(points: Sequence[Point], cluster: str, parameters: Sequence[str]) -> int:
    """Submit the runs as a job array, and wait for them. Ctrl-C leaves the jobs where they are."""
    try:
        import submitit
    except ImportError as error:
        raise InputError(
            "--launcher=slurm needs the extra `cluster`: pdm sync -G cluster"
        ) from error
    if not points:
        return 0
    folder = points[0].workdir.parent / "slurm"
    try:
        executor = submitit.AutoExecutor(folder, cluster=cluster)
        named = dict(parameter.partition("=")[::2] for parameter in parameters)
        executor.update_parameters(**{n: int(v) if v.isdigit() else v for n, v in named.items()})
    except Exception as error:  # of a wrong parameter, or where there is no SLURM
        raise InputError(f"submitit cannot submit: {one_line(error)}") from error
    jobs = executor.map_array(lambda job: job(), [Job(p.arguments) for p in points])
    for job, point in zip(jobs, points, strict=True):
        sys.stdout.write(f"job {job.job_id}: {point.workdir.name}\n")
    sys.stdout.write(f"Waiting; Ctrl-C leaves the jobs in the queue. Their output: {folder}\n")
    sys.stdout.flush()
    try:
        while not all(job.done() for job in jobs):
            time.sleep(POLL_S)
    except KeyboardInterrupt:
        return STOPPED
    failed = [job for job in jobs if job.exception() is not None]
    return 1 if failed else max(job.result() for job in jobs)


if __name__ == "__main__":
    from hfjax import sweep  # whose Job submitit stores by its name

    sys.exit(sweep.main(sys.argv))
