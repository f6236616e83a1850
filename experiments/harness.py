"""What the `run.py` of every paper shares: train rows, tables in Markdown, figures, flags.

A paper's script is a dictionary of sections. A section is a function of a `Study` that trains its
rows, saves its figures, and returns its text in Markdown:

    from experiments import harness

    ROWS = {"plain": harness.Row("topo_grid_plain"), "tau": harness.Row("topo_grid")}
    COLUMNS = {"error (cm)": "error_cm", "grid cells (%)": "grid_share_above_0.3"}

    def variants(study: harness.Study) -> str:
        runs = study.train_rows(ROWS)
        study.save("sheet", topo_grid.draw(runs["tau"].readout())["sheet"])
        return harness.scalar_table({row: run.evaluation() for row, run in runs.items()}, COLUMNS)

    if __name__ == "__main__":
        sections = {"variants": harness.Section(variants, seeds=3)}
        harness.main(__file__, __doc__, sections, budgets={"laptop": ("laptop",), "full": ()})

    python experiments/topo_grid/run.py                              # everything
    python experiments/topo_grid/run.py --only=variants --seeds=10   # one section
    python experiments/topo_grid/run.py --only=variants/tau --budget=full
    python experiments/topo_grid/run.py --budget=quick               # does the script run at all?

A row is a run of `python -m hfjax` without W&B, a population of seeds, in
runs/PAPER/BUDGET/SECTION/ROW-SEEDSseeds. The same command resumes a run that was stopped and does
not repeat one that is complete. Text goes to the terminal, and into RESULTS.md between the lines
`<!-- SECTION -->` and `<!-- end -->` where it has them. A section with several parts returns them
as {mark: text}; a part without such lines goes to the terminal only. Figures go beside the script.
A quick run, and a section of which only some rows are trained, leave RESULTS.md and the figures
there alone; their figures go to runs/PAPER/BUDGET/SECTION.
"""

import argparse
import math
import pathlib
import re
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import fiddle as fdl
import jax
import numpy as np
from matplotlib.figure import Figure

import fdl_configs
from hfjax.errors import STOPPED, InputError, TrainingFailed, nearest
from hfjax.ratemaps import GRID_SCORE_THRESHOLDS
from hfjax.training import log
from hfjax.training import run as train
from hfjax.training.workdir import load_readout

QUICK = "quick"  # the budget that only checks that everything runs
QUICK_STEPS = QUICK_SEEDS = 2

Scalars = dict[str, np.ndarray]  # name -> [seed]


class Row(NamedTuple):
    """One line of a table: a config, its fiddlers, and settings {dotted path: value} over them.

    config: a name as in --fdl_config, so also MODULE.NAME.
    """

    config: str
    fiddlers: tuple[str, ...] = ()
    settings: Mapping[str, Any] = {}


class Run(NamedTuple):
    """A trained population."""

    workdir: pathlib.Path
    records: list[dict[str, Any]]  # of metrics.jsonl

    def curve(self, name: str) -> np.ndarray:
        """A scalar, named with its train/ or eval/, over the records that have it: [record, seed].

        Raises KeyError where no record has it.
        """
        values = [record[name] for record in self.records if name in record]
        if not values:
            raise KeyError(f"{self.workdir} has no scalar {name!r}")
        return np.asarray([np.atleast_1d(np.asarray(v, float)) for v in values])  # null is NaN

    def evaluation(self, index: int = -1) -> Scalars:
        """The scalars of one evaluation without their eval/: the last, or 0 for the untrained."""
        records = [r for r in self.records if any(name.startswith("eval/") for name in r)]
        return {
            name.removeprefix("eval/"): np.atleast_1d(np.asarray(value, float))
            for name, value in records[index].items()
            if name.startswith("eval/")
        }

    def readouts(self, index: int = -1) -> dict[str, np.ndarray]:
        """A readout of all members, [seed, ...], also of a population of one.

        index: of the readouts on disk, the newest by default. A config keeps a few (`keep`).
        """
        _, readout = load_readout(self.workdir, index)
        if "drawn_seed" not in readout:
            return {name: values[None] for name, values in readout.items()}
        return {name: values for name, values in readout.items() if name != "drawn_seed"}

    def readout(self, member: int | None = None, index: int = -1) -> dict[str, np.ndarray]:
        """A readout of one member; by default of the median one, which the run draws."""
        if member is None:
            member = int(load_readout(self.workdir, index)[1].get("drawn_seed", 0))
        return {name: values[member] for name, values in self.readouts(index).items()}


def make_config(row: Row, *, seeds: int, data_dir: str | None = None) -> fdl.Config:
    """The config of a row. data_dir is for configs whose data lies in files."""
    config = fdl_configs.make(row.config, *row.fiddlers)
    for path, value in row.settings.items():
        *parents, name = path.split(".")
        node = config
        for parent in parents:
            node = getattr(node, parent)
        setattr(node, name, value)
    if data_dir and hasattr(config.data, "data_dir"):
        config.data.data_dir = data_dir
    config.seeds = seeds
    return config


def train_in(workdir: pathlib.Path, config: fdl.Config) -> Run:
    """Train to the end, resume, or take what is complete. A signal saves and exits with 75.

    Uses as many devices as divide the seeds.
    """
    devices = jax.devices()[: math.gcd(config.seeds, jax.device_count())]
    if not train.run(config, workdir, writers=("jsonl", "terminal"), devices=devices):
        raise SystemExit(STOPPED)
    return Run(workdir, log.read_metrics(workdir / "metrics.jsonl"))


class Study(NamedTuple):
    """What a section is handed: where things go, and what the flags asked for."""

    paper: pathlib.Path  # folder of the script
    section: str
    seeds: int
    budget: str
    budget_fiddlers: tuple[str, ...] = ()  # applied to every row, before its own
    only: tuple[str, ...] = ()  # rows; () for all
    data_dir: str | None = None

    @property
    def runs(self) -> pathlib.Path:
        """The folder of the section's runs."""
        return pathlib.Path("runs", self.paper.name, self.budget, self.section)

    @property
    def is_whole(self) -> bool:
        """Whether the result may replace the published one: all rows, and not a quick run."""
        return not self.only and self.budget != QUICK

    @property
    def folder(self) -> pathlib.Path:
        """Where figures go."""
        return self.paper if self.is_whole else self.runs

    def train(self, name: str, row: Row) -> Run:
        """Train a row with the budget's fiddlers and the seeds of the section."""
        row = row._replace(fiddlers=(*self.budget_fiddlers, *row.fiddlers))
        config = make_config(row, seeds=self.seeds, data_dir=self.data_dir)
        if self.budget == QUICK:
            config.num_steps = config.chunk = config.eval_every = config.save_every = QUICK_STEPS
        slug = re.sub(r"[^\w.+-]+", "_", name).strip("_")
        return train_in(self.runs / f"{slug}-{self.seeds}seeds", config)

    def chosen(self, rows: Mapping[str, Row]) -> dict[str, Row]:
        """All rows, or those that --only names. Raises InputError for an unknown name."""
        for name in self.only:
            if name not in rows:
                raise InputError(f"{self.section} has no row {name!r}; {nearest(name, rows)}")
        return {name: rows[name] for name in self.only or rows}

    def train_rows(self, rows: Mapping[str, Row]) -> dict[str, Run]:
        """Train the chosen rows."""
        return {name: self.train(name, row) for name, row in self.chosen(rows).items()}

    def save(self, name: str, figure: Figure, *, dpi: int = 100) -> None:
        """Write a figure as NAME.png and free its memory."""
        self.folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(self.folder / f"{name}.png", dpi=dpi)
        figure.clear()

    def keep(self, run: Run, figure: str, name: str) -> None:
        """Copy a figure that a run has drawn as NAME.png."""
        self.folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(run.workdir / "figures" / f"{figure}.png", self.folder / f"{name}.png")


# --- Text ---


def number(value: float) -> str:
    """Three significant digits; from a thousand on, whole numbers."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def spread(values: np.ndarray) -> str:
    """Median over seeds, and quartiles where there are several: 4.73 (4.7-4.81).

    The quartiles are NumPy's, linear between members. A NaN makes all of it nan.
    """
    low, median, high = (number(q) for q in np.quantile(values, (0.25, 0.5, 0.75)))
    return f"{median} ({low}-{high})" if np.size(values) > 1 else median


def median_member(values: np.ndarray) -> int:
    """The seed with the median value (the lower of two)."""
    return int(np.argsort(values)[(len(values) - 1) // 2])


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def scalar_table(rows: Mapping[str, Mapping[str, np.ndarray]], columns: Mapping[str, str]) -> str:
    """The spread of scalars: rows {label: {name: [seed]}}, columns {title: name}.

    A scalar that a row does not have leaves its cell empty. Shares become percent under a title
    that ends with (%).
    """

    def cell(scalars: Mapping[str, np.ndarray], title: str, name: str) -> str:
        if name not in scalars:
            return ""
        return spread(scalars[name] * (100 if title.endswith("(%)") else 1))

    cells = [
        [row, *(cell(scalars, *column) for column in columns.items())]
        for row, scalars in rows.items()
    ]
    return table(["", *columns], cells)


def share_table(run: Run) -> str:
    """Shares of units and of low-pass noise maps above each threshold of the grid score."""
    scalars = run.evaluation()
    rows = {
        f"above {threshold}": {
            name: scalars[f"{name}_share_above_{threshold}"] for name in ("grid", "noise")
        }
        for threshold in GRID_SCORE_THRESHOLDS
    }
    return scalar_table(rows, {"units (%)": "grid", "low-pass noise (%)": "noise"})


def replace_section(results: pathlib.Path, name: str, text: str) -> bool:
    """Put text between `<!-- name -->` and `<!-- end -->`; False where there is no such section."""
    start, end = f"<!-- {name} -->\n", "<!-- end -->"
    content = results.read_text() if results.exists() else ""
    before, mark, rest = content.partition(start)
    _, closed, after = rest.partition(end)
    if not (mark and closed):
        return False
    results.write_text(f"{before}{start}{text}\n{end}{after}")
    return True


# --- The command line ---


class Section(NamedTuple):
    """A part of RESULTS.md: the function that makes its text, and its usual number of seeds.

    Several parts that are apart in RESULTS.md are {mark: text}.
    """

    make: Callable[[Study], str | Mapping[str, str]]
    seeds: int = 1


def studies(
    paper: pathlib.Path,
    sections: Mapping[str, Section],
    budgets: Mapping[str, tuple[str, ...]],
    options: argparse.Namespace,
) -> list[Study]:
    """What the flags ask for, in the order of `sections`. Raises InputError for unknown names."""
    wanted = [name.partition("/")[::2] for name in options.only or sections]
    for name, _ in wanted:
        if name not in sections:
            raise InputError(f"there is no section {name!r}; {nearest(name, sections)}")
    rows = {name: [row for section, row in wanted if section == name] for name in sections}
    return [
        Study(
            paper=paper,
            section=name,
            seeds=options.seeds or (QUICK_SEEDS if options.budget == QUICK else section.seeds),
            budget=options.budget,
            budget_fiddlers=budgets.get(options.budget, next(iter(budgets.values()))),
            only=() if "" in rows[name] else tuple(rows[name]),
            data_dir=options.data_dir,
        )
        for name, section in sections.items()
        if rows[name]
    ]


def main(
    script: str,
    description: str | None,
    sections: Mapping[str, Section],
    *,
    budgets: Mapping[str, tuple[str, ...]] | None = None,
    argv: Sequence[str] | None = None,
) -> None:
    """Run all sections of a script, or those that were asked for.

    budgets: {name: fiddlers of every row}, the usual one first; a quick run is one of the usual
    budget, of two seeds and two steps a row. The text of another budget than the usual one has its
    place between `<!-- SECTION, BUDGET -->` and `<!-- end -->`.
    """
    budgets = budgets or {"full": ()}
    usual = next(iter(budgets))
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only",
        action="append",
        metavar="SECTION[/ROW]",
        help=f"of {', '.join(sections)}; may be repeated",
    )
    parser.add_argument("--seeds", type=int, help="in place of each section's own number")
    parser.add_argument("--budget", choices=(*budgets, QUICK), default=usual)
    parser.add_argument("--data_dir", help="folder of the data set's files, where a row needs any")
    options = parser.parse_args(argv)
    paper = pathlib.Path(script).resolve().parent
    try:
        for study in studies(paper, sections, budgets, options):
            print(f"{study.section}: {study.seeds} seeds, {study.budget}", flush=True)
            start_s = time.perf_counter()
            made = sections[study.section].make(study)
            parts = {study.section: made} if isinstance(made, str) else made
            minutes = (time.perf_counter() - start_s) / 60
            print("", *parts.values(), f"{minutes:.1f} min\n", sep="\n\n", flush=True)
            for name, text in parts.items() if study.is_whole else ():
                mark = name if study.budget == usual else f"{name}, {study.budget}"
                if replace_section(paper / "RESULTS.md", mark, text):
                    print(f"RESULTS.md: the section {mark} is replaced.\n", flush=True)
    except InputError as error:
        parser.error(str(error))
    except TrainingFailed as error:
        sys.exit(f"{parser.prog}: {error}")
