"""Faults on purpose: what a run loses to kills, full disks, damaged files and bad input.

    python -m experiments.faults                  # everything; the table goes into FAULTS.md
    python -m experiments.faults --only=kills     # one part, to the terminal
    python -m experiments.faults --size=.1        # a tenth of the cases

Every case works on a copy in a folder of its own, and ends by giving the same command again. It has
failed where an exception reaches the user, where the run goes on from an earlier step than that of
the newest checkpoint, or where the end differs from that of an undisturbed run: its metrics.jsonl
byte by byte and its parameters bit by bit.
"""

import argparse
import contextlib
import io
import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from typing import NamedTuple
from unittest import mock

import jax
import numpy as np

import hfjax
from experiments import harness
from hfjax.__main__ import main as hfjax_main
from hfjax.errors import STOPPED
from hfjax.training import lock, log, provenance, redraw

HERE = pathlib.Path(__file__).resolve().parent
STEPS = ("num_steps=40", "chunk=5", "eval_every=20", "save_every=10")
SMALL_RNN = (
    "--fdl_config=grid_rnn",
    "--fiddler=laptop",
    "--fdl_set=task.num_grid=32",
    "--fdl_set=task.num_place=64",
    "--fdl_set=task.batch_size=20",
    "--fdl_set=task.evaluation.num_map_walks=200",
    "--fdl_set=task.evaluation.num_rollouts=4",
    "--fdl_set=task.evaluation.rollout_steps=60",
    "--fdl_set=task.evaluation.num_noise_maps=20",
)
CONFIGS = {
    "grid_rnn": SMALL_RNN,
    "grid_rnn, 3 seeds": (*SMALL_RNN, "--seeds=3"),
    "pattern_formation": (
        "--fdl_config=pattern_formation",
        "--fiddler=laptop",
        "--fdl_set=task.num_maps=4",
    ),
}


class Case(NamedTuple):
    """One fault: what it came to."""

    outcome: str  # "" where all is as it should be
    lost: int = 0  # steps that had to be done again


class Reference(NamedTuple):
    """A config's flags, and its undisturbed run."""

    flags: tuple[str, ...]
    workdir: pathlib.Path


def command(*flags: str) -> tuple[int, str]:
    """Run the command line in this process: (exit code, stderr). An exception is code -1."""
    error = io.StringIO()
    if not any(f.startswith("--writers") for f in flags):
        flags = (*flags, "--writers=jsonl,terminal")
    hooks = sys.excepthook, sys.unraisablehook
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(error):
        try:
            code = hfjax_main(["hfjax", *flags])
        except BaseException:
            return -1, traceback.format_exc()
        finally:
            sys.excepthook, sys.unraisablehook = hooks
    return code, error.getvalue()


def difference(run: pathlib.Path, reference: pathlib.Path) -> str:
    """How a run ended otherwise than the undisturbed one; "" where it did not."""
    names = [p / "metrics.jsonl" for p in (run, reference)]
    if names[0].read_bytes() != names[1].read_bytes():
        return "other metrics"
    ours, theirs = (jax.tree.leaves(hfjax.load(p).state) for p in (run, reference))
    same = all(np.array_equal(a, b, equal_nan=True) for a, b in zip(ours, theirs, strict=True))
    return "" if same else "other parameters"


def finished(reference: Reference, run: pathlib.Path, saved: int | None = None) -> Case:
    """Give the command again, and compare.

    saved  the step it has to go on from, by default that of the newest checkpoint.
    """
    saved, before = newest(run) if saved is None else saved, recorded(run)
    starts = len(provenance.read(run))
    code, error = command(*reference.flags, f"--workdir={run}")
    begun = [start["step"] for start in provenance.read(run)[starts:]]  # none where it was complete
    lost = max(0, before - begun[0]) if begun else 0
    if code:
        return Case(f"exit code {code}: {error.strip().splitlines()[-1]}", lost)
    if begun and begun[0] < saved:
        return Case(f"went on from step {begun[0]}, though step {saved} was saved", lost)
    return Case(difference(run, reference.workdir), lost)


def newest(run: pathlib.Path) -> int:
    """The step of the newest complete checkpoint, 0 where there is none."""
    steps = [int(p.name) for p in (run / "checkpoints").glob("*") if p.name.isdigit()]
    return max(steps, default=0)


def recorded(run: pathlib.Path) -> int:
    """The last step of metrics.jsonl."""
    return max((r["step"] for r in log.read_metrics(run / "metrics.jsonl")), default=0)


def copy(reference: Reference, scratch: pathlib.Path) -> pathlib.Path:
    """A copy of the undisturbed run."""
    return pathlib.Path(shutil.copytree(reference.workdir, scratch / "run"))


def stopped_at(reference: Reference, scratch: pathlib.Path, step: int) -> pathlib.Path:
    """A run that SIGTERM stopped after a step."""
    with at_step(step, lambda: signal.raise_signal(signal.SIGTERM)):
        code, error = command(*reference.flags, f"--workdir={scratch / 'run'}")
    assert code == STOPPED, error
    return scratch / "run"


@contextlib.contextmanager
def at_step(step: int, act: Callable[[], None]) -> Iterator[None]:
    """Act once a step of at least that number is recorded."""
    write = log.Jsonl.scalars
    acted = False

    def then_act(self: log.Jsonl, number: int, values: log.Values) -> None:
        nonlocal acted
        write(self, number, values)
        if number >= step and not acted:
            acted = True
            act()

    with mock.patch.object(log.Jsonl, "scalars", then_act):
        yield


# --- The faults: (reference, scratch, chance) -> case ---


def kill(reference: Reference, scratch: pathlib.Path, chance: random.Random) -> Case:
    """SIGKILL of a process at a random moment, from its first record to its end."""
    run = scratch / "run"
    process = start(*reference.flags, f"--workdir={run}")
    while process.poll() is None and not (run / "metrics.jsonl").exists():
        time.sleep(0.01)
    time.sleep(chance.uniform(0, 4))
    process.kill()
    process.wait()
    return finished(reference, run)


def start(*flags: str, within: tuple[str, ...] = ()) -> subprocess.Popen:
    """The command line in a process of its own, which another command may start."""
    return subprocess.Popen(
        [*within, sys.executable, "-m", "hfjax", *flags, "--writers=jsonl,terminal"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=HERE.parent,
        text=True,
    )


def full_disk(reference: Reference, scratch: pathlib.Path, chance: random.Random) -> Case:
    """From a random step on, no file may be larger than a random number of bytes."""
    run, limits = scratch / "run", resource.getrlimit(resource.RLIMIT_FSIZE)
    size = int(10 ** chance.uniform(2.5, 4.5))

    def fill() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))

    try:
        with at_step(chance.choice(range(0, 40, 5)), fill):
            code, error = command(*reference.flags, f"--workdir={run}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    if code not in (0, 1) or error.count("\n") > 1:
        return Case(f"exit code {code}: {error.strip().splitlines()[-1]}")
    return finished(reference, run)


def damaged_checkpoint(reference: Reference, scratch: pathlib.Path, chance: random.Random) -> Case:
    """A file of the newest checkpoint is cut short, or one of its bits is flipped."""
    run = copy(reference, scratch)
    files = sorted(p for p in (run / "checkpoints" / "40").rglob("*") if p.is_file())
    damage(chance.choice([p for p in files if p.stat().st_size]), chance)
    return finished(reference, run, saved=30)  # the one before


def damaged_readout(reference: Reference, scratch: pathlib.Path, chance: random.Random) -> Case:
    """The newest readout is cut short, or one of its bits is flipped; then it is read and drawn."""
    run = copy(reference, scratch)
    damage(run / "readout" / "000000040.npz", chance)
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            code = redraw.main([str(run)])
    except BaseException:
        return Case(f"redraw: {traceback.format_exc().splitlines()[-1]}")
    if code not in (0, 2):
        return Case(f"redraw: exit code {code}")
    return finished(reference, run)


def damaged_record(reference: Reference, scratch: pathlib.Path, chance: random.Random) -> Case:
    """metrics.jsonl, provenance.json or config.json of a run half-way is damaged: no traceback."""
    run = stopped_at(reference, scratch, 20)
    damage(run / chance.choice(("metrics.jsonl", "provenance.json", "config.json")), chance)
    code, error = command(*reference.flags, f"--workdir={run}")
    fine = code == 0 or (code == 2 and error.count("\n") == 1)
    return Case("" if fine else f"exit code {code}: {error.strip().splitlines()[-1]}")


def damage(path: pathlib.Path, chance: random.Random) -> None:
    """Cut a file short, or flip one of its bits."""
    content = bytearray(path.read_bytes())
    place = chance.randrange(len(content))
    if chance.random() < 0.5:
        content = content[:place]
    else:
        content[place] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def clock_jumps(reference: Reference, scratch: pathlib.Path, chance: random.Random) -> Case:
    """The system's clock jumps once, by up to ten years either way: at worst a save times out."""
    run, now, jump_s = scratch / "run", time.time, 0.0

    def jump() -> None:
        nonlocal jump_s
        jump_s = chance.uniform(-3e8, 3e8)

    with mock.patch("time.time", lambda: now() + jump_s):  # noqa: PT008 - it changes
        with at_step(chance.choice(range(0, 40, 5)), jump):
            code, error = command(*reference.flags, f"--workdir={run}")
        if code not in (0, 1) or error.count("\n") > 1:
            return Case(f"exit code {code}: {error.strip().splitlines()[-1]}")
        return finished(reference, run)


def read_only(reference: Reference, scratch: pathlib.Path, chance: random.Random) -> Case:
    """The workdir of a run half-way may not be written: one sentence, and nothing changes."""
    run = stopped_at(reference, scratch, 20)
    before = tree(run)
    protect: tuple[str, ...] = ()
    if os.geteuid() == 0:  # root may write anywhere but on a file system that is read-only
        mount = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
        protect = ("unshare", "--mount", "bash", "-c", mount, str(run))
    else:
        run.chmod(0o555)
    process = start(*reference.flags, f"--workdir={run}", within=protect)
    error = process.communicate()[1]
    run.chmod(0o755)
    if process.returncode != 2 or error.count("\n") != 1:
        return Case(f"exit code {process.returncode}: {error.strip().splitlines()[-1:]}")
    if tree(run) != before:
        return Case("a file changed")
    return finished(reference, run)


def two_at_once(reference: Reference, scratch: pathlib.Path, chance: random.Random) -> Case:
    """A second process starts in the same workdir."""
    run = scratch / "run"
    first = start(*reference.flags, f"--workdir={run}")
    while first.poll() is None and not lock.holder(run):
        time.sleep(0.01)
    first.send_signal(signal.SIGSTOP)  # so that it is there for as long as the second looks
    code, error = command(*reference.flags, f"--workdir={run}")
    first.send_signal(signal.SIGCONT)
    first.communicate()
    if code != 2 or f"in use by process {first.pid} " not in error or first.returncode:
        return Case(f"exit codes {first.returncode} and {code}: {error.strip()}")
    return Case(difference(run, reference.workdir))


def no_wandb(reference: Reference, scratch: pathlib.Path, chance: random.Random) -> Case:
    """W&B is asked for, but its server cannot be reached."""
    unreachable = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "0" * 40}
    with mock.patch.dict(os.environ, unreachable):
        flags = (*reference.flags, f"--workdir={scratch / 'run'}", "--wandb_mode=online")
        code, error = command(*flags, "--writers=jsonl,terminal,wandb")
    if code:
        return Case(f"exit code {code}: {error.strip().splitlines()[-1]}")
    return Case(difference(scratch / "run", reference.workdir))


def bad_command_line(reference: Reference, scratch: pathlib.Path, chance: random.Random) -> Case:
    """A valid command line with random letters changed: one sentence, or what it now says."""
    run = copy(reference, scratch)
    flags = list(reference.flags)
    for _ in range(chance.randint(1, 3)):
        i = chance.randrange(len(flags))
        flags[i] = garbled(flags[i], chance)
    return said(run, *flags, f"--workdir={run}", *half_of_them_only_show(chance))


def bad_config_file(reference: Reference, scratch: pathlib.Path, chance: random.Random) -> Case:
    """A config.json with random letters changed."""
    run = copy(reference, scratch)
    text = (run / "config.json").read_text()
    for _ in range(chance.randint(1, 3)):
        text = garbled(text, chance)
    (scratch / "garbled.json").write_text(text)
    file = f"--fdl_config_file={scratch / 'garbled.json'}"
    return said(run, file, f"--workdir={run}", *half_of_them_only_show(chance))


def half_of_them_only_show(chance: random.Random) -> tuple[str, ...]:
    """A flag with which a command runs nothing; the others meet the complete run that is there."""
    return ("--print_config",) if chance.random() < 0.5 else ()


def garbled(text: str, chance: random.Random) -> str:
    """A text with a letter replaced, a piece left out, doubled, or moved."""
    i, j = sorted((chance.randrange(len(text) + 1), chance.randrange(len(text) + 1)))
    j = min(j, i + chance.choice((1, 1, 3, 20)))
    letter = chance.choice("0123456789-+.,:;=[](){}'\"\\/~ \t\0eExné∞%$*")
    return chance.choice(
        (
            text[:i] + letter + text[i + 1 :],
            text[:i] + text[j:],
            text[:j] + text[i:],
            text[:i] + text[j:] + text[i:j],
        )
    )


def said(run: pathlib.Path, *flags: str) -> Case:
    """One sentence and exit code 2, or 0; no file changes."""
    before = tree(run)
    code, error = command(*flags)
    if code not in (0, 2) or error.count("\n") != (code == 2):
        return Case(f"{' '.join(flags)}: exit code {code}: {error[-300:]}")
    return Case("" if tree(run) == before else f"{' '.join(flags)}: a file changed")


def tree(folder: pathlib.Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


class Fault(NamedTuple):
    """A fault, and how often it is tried with each config."""

    make: Callable[[Reference, pathlib.Path, random.Random], Case]
    times: int


FAULTS = {
    "kills": Fault(kill, 10),
    "full_disk": Fault(full_disk, 10),
    "damaged_checkpoint": Fault(damaged_checkpoint, 20),
    "damaged_readout": Fault(damaged_readout, 20),
    "damaged_record": Fault(damaged_record, 10),
    "clock_jumps": Fault(clock_jumps, 3),
    "read_only": Fault(read_only, 1),
    "two_at_once": Fault(two_at_once, 2),
    "no_wandb": Fault(no_wandb, 1),
    "bad_command_line": Fault(bad_command_line, 67),
    "bad_config_file": Fault(bad_config_file, 67),
}


def campaign(only: list[str], configs: list[str], size: float, scratch: pathlib.Path) -> str:
    """Try every fault with every config; returns the table."""
    references = {}
    for name in configs:
        flags = (*CONFIGS[name], *(f"--fdl_set={setting}" for setting in STEPS))
        references[name] = Reference(flags, scratch / name)
        code, error = command(*flags, f"--workdir={scratch / name}")
        assert code == 0, error
    rows = []
    for fault in only:
        make, times = FAULTS[fault]
        for name, reference in references.items():
            cases = []
            for number in range(max(1, round(size * times))):
                chance = random.Random(f"{fault} {name} {number}")
                with tempfile.TemporaryDirectory(dir=scratch) as folder:
                    case = make(reference, pathlib.Path(folder), chance)
                if case.outcome:
                    print(f"{fault}, {name}, case {number}: {case.outcome}", flush=True)
                cases.append(case)
            failed = sum(bool(case.outcome) for case in cases)
            lost = max(case.lost for case in cases)
            what = (make.__doc__ or "").partition(":")[0].strip().rstrip(".")
            rows.append([what, name, str(len(cases)), str(failed), str(lost)])
            print(" | ".join(rows[-1]), flush=True)
    return harness.table(["fault", "config", "cases", "failed", "most steps done again"], rows)


def main() -> int:
    """Run the campaign."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=list(FAULTS))
    parser.add_argument("--config", action="append", choices=list(CONFIGS))
    parser.add_argument("--size", type=float, default=1.0, help="share of the cases")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = campaign(
            options.only or list(FAULTS),
            options.config or list(CONFIGS),
            options.size,
            pathlib.Path(folder),
        )
    print(f"\n{text}")
    if not options.only and not options.config and options.size == 1:
        harness.replace_section(HERE / "FAULTS.md", "campaign", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
