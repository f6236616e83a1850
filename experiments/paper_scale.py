"""What to run when a GPU is at hand for minutes: the published sizes, in order of value.

    python -m experiments.paper_scale --budget_minutes=10
    python -m experiments.paper_scale --list
    python -m experiments.paper_scale --budget_minutes=5 --only=grid_rnn

Every part is a process of its own. When the time is up, the running one is stopped by SIGTERM and
saves. The same command goes on where it stopped; what is complete is not repeated. Everything goes
to runs/paper_scale: a table of the numbers (results.md), every run's metrics, figures and newest
checkpoint, and the tables of throughput.
"""

import argparse
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

import fdl_configs
from experiments import harness
from hfjax.errors import STOPPED
from hfjax.task import meaning
from hfjax.training.experiment import build_headline, build_task, complete
from hfjax.training.log import read_metrics
from hfjax.training.numbers import in_words

FOLDER = pathlib.Path("runs", "paper_scale")
PATIENCE_S = 120.0  # for the current chunk and the checkpoint, after the time is up


class Part(NamedTuple):
    """One process: its command, and the config where it is a run."""

    arguments: tuple[str, ...]  # of python
    config: str = ""


def _run(config: str, *flags: str) -> Part:
    arguments = ("-m", "hfjax", f"--fdl_config={config}", "--writers=jsonl,terminal", *flags)
    return Part((*arguments, "--fdl_set=keep=1"), config)


def _throughput(matmul: str) -> Part:
    """The training steps, with the precision of matrix products that JAX has a name for."""
    code = (
        f"import jax; jax.config.update('jax_default_matmul_precision', '{matmul}'); "
        "from experiments.throughput.__main__ import main; "
        "main(['--only=train_1024', '--only=train_4096', '--only=recurrence'])"
    )
    return Part(("-c", code))


PARTS = {
    "throughput, float32": _throughput("float32"),
    "throughput, TF32": _throughput("tensorfloat32"),
    "throughput, bfloat16": _throughput("bfloat16"),
    **{f"grid_rnn, seed {seed}": _run("grid_rnn", f"--seed={seed}") for seed in range(3)},
    "topo_grid": _run("topo_grid"),
    "topo_grid_topoloss": _run("topo_grid_topoloss"),
    "topo_grid_plain": _run("topo_grid_plain"),
    "dsm": _run("dsm"),
}


def run_part(name: str, deadline_s: float) -> int:
    """Run or resume a part until it is complete or the time is up.

    Returns 0 where it is complete, STOPPED where the same command goes on, else its exit code.
    """
    part = PARTS[name]
    slug = name.replace(", ", "-").replace(" ", "_")
    workdir = FOLDER / slug
    done = FOLDER / f"{slug}.txt"
    arguments = list(part.arguments)
    if part.config:
        arguments.append(f"--workdir={workdir}")
    elif done.exists():
        return 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / f"{slug}.part").open("w") as output:
        process = subprocess.Popen([sys.executable, *arguments], stdout=output)
        try:
            code = process.wait(max(0.0, deadline_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            code = _stop(process)
    if code == 0:
        pathlib.Path(output.name).replace(done)
    elif code != STOPPED:
        print(f"{name}: exit code {code}; see {output.name}")
    return code


def _stop(process: subprocess.Popen) -> int:
    """End a part whose time is up: 0 where it became complete, STOPPED where it goes on later."""
    process.send_signal(signal.SIGTERM)
    try:
        code = process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:  # it goes on from the newest checkpoint
        process.kill()
        code = process.wait()
    return STOPPED if code < 0 else code


def results(names: Sequence[str]) -> str:
    """A table of the runs: steps done, and the headline beside the published values."""
    rows = []
    for name in names:
        if not (config_name := PARTS[name].config):
            continue
        config = complete(fdl_configs.make(config_name))
        records = read_metrics(FOLDER / name.replace(", ", "-").replace(" ", "_") / "metrics.jsonl")
        evaluations = [r for r in records if any(n.startswith("eval/") for n in r)]
        if not evaluations:
            rows.append([name, "0", "", "", ""])
            continue
        metrics = build_task(config).metrics
        for headline in build_headline(config):
            metric = meaning(headline.name, metrics)
            label = metric.label if metric else headline.name
            value = evaluations[-1].get(headline.name)
            published = "" if headline.published is None else in_words(headline.published, metric)
            shown = "" if value is None else in_words(value, metric)
            rows.append([name, str(evaluations[-1]["step"]), label, shown, published])
    return harness.table(["run", "steps", "scalar", "value", "published"], rows)


def main() -> int:
    """Run the parts in their order until the time is up.

    Returns 1 where a part has failed, else 75 where some are left: only then a scheduler should
    start the command again.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--budget_minutes", type=float, default=10.0)
    parser.add_argument("--only", action="append", metavar="PART", help="a part, or how it begins")
    parser.add_argument("--list", action="store_true", help="print the parts and end")
    options = parser.parse_args()
    names = [n for n in PARTS if any(n.startswith(o) for o in options.only or [""])]
    if options.list or not names:
        print("\n".join(PARTS))
        return 0 if options.list else 2
    deadline_s = time.monotonic() + 60 * options.budget_minutes
    open_parts: list[str] = []
    failed: list[str] = []
    for name in names:
        start_s = time.monotonic()
        code = STOPPED if start_s >= deadline_s else run_part(name, deadline_s)
        if code:
            (open_parts if code == STOPPED else failed).append(name)
        print(f"{name}: {time.monotonic() - start_s:.0f} s", flush=True)
    text = results(names)
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "results.md").write_text(f"{text}\n")
    print(f"\n{text}\n\nEverything is in {FOLDER}.")
    if open_parts:
        print(f"Not complete: {', '.join(open_parts)}. Give the same command again to go on.")
    if failed:
        print(f"Failed: {', '.join(failed)}.")
    return 1 if failed else STOPPED if open_parts else 0


if __name__ == "__main__":
    sys.exit(main())
