"""The tables and figures of RESULTS.md, one command each.

    python experiments/dsm/measures.py returns         # pendulum and windy grid, laptop size
    python experiments/dsm/measures.py behaviours      # place cells, five behaviours
    python experiments/dsm/measures.py perturbation    # moved place cells, against the SR
    python experiments/dsm/measures.py returns --full  # the paper's constants, for a GPU

Each row is a run of `python -m hfjax`, a population of --seeds models, in runs/dsm/TABLE/ROW; the
same command again goes on where it was stopped. Prints tables in Markdown, of the evaluation before
training (a random model, the control) and of the last, and copies figures beside this file.
"""

import argparse
import pathlib
import shutil
from typing import Any, NamedTuple

import numpy as np
import scipy.stats

import fdl_configs
from hfjax import envs
from hfjax.models import dsm
from hfjax.training import log
from hfjax.training import run as train
from hfjax.training.workdir import load_readout

HERE = pathlib.Path(__file__).parent


class Row(NamedTuple):
    """A config, its fiddlers (laptop goes first), and settings of the task."""

    config: str
    fiddlers: tuple[str, ...] = ()
    settings: tuple[tuple[str, Any], ...] = ()


TABLES: dict[str, dict[str, Row]] = {
    "returns": {
        "pendulum": Row("dsm"),
        "pendulum, gamma models": Row("gamma_ensemble"),
        "windy grid": Row("dsm_windy"),
    },
    "behaviours": {
        name.replace("_", " "): Row("dsm_place_cells", (name,))
        for name in ("random_walk", "high_thigmotaxis", "goal", "teleport", "wall")
    },
    "perturbation": {
        "DSM": Row("dsm_place_cells"),
        "SR, mean of 10": Row("successor", settings=(("num_outer", 10),)),
        "SR, one": Row("successor"),
    },
}
COLUMNS = {
    "behaviours": {
        "correlation with what follows": "map_correlation",
        "of the cells themselves": "place_correlation",
        "rms error": "map_error",
        "of the cells": "place_error",
        "decoded by ridge (cm)": "ridge_error_cm",
        "state repeated": "ridge_place_error_cm",
        "by GP": "gp_error_cm",
        "state repeated ": "gp_place_error_cm",
        "by networks": "ensemble_error_cm",
        "state repeated  ": "ensemble_place_error_cm",
        "between atoms": "atom_spread",
        "information (bits)": "information",
        "of the cells ": "place_information",
    },
    "perturbation": {
        "correlation with what follows": "map_correlation",
        "rms error": "map_error",
        "cosine, 0 moved": "similarity_0",
        "20": "similarity_20",
        "50": "similarity_50",
        "cells themselves, 20": "place_similarity_20",
        "cells themselves, 50": "place_similarity_50",
    },
}
RETURNS = {
    "mean": "{}_mean",
    "median": "{}_median",
    "min": "{}_min",
    "max": "{}_max",
    "normal fit": "gaussian_{}_mean",
    "floor": "floor_{}_mean",
    "sampling noise / std": "sampling_noise",
}
FIELDS = {
    "field size (own = 1)": "field_size",
    "in the data": "empirical_field_size",
    "shift (cm)": "shift_cm",
    "in the data ": "empirical_shift_cm",
    "shift to the middle (cm)": "shift_to_centre_cm",
    "in the data  ": "empirical_shift_to_centre_cm",
    "elongation at walls": "wall_elongation",
    "in the data   ": "empirical_wall_elongation",
}
FIGURES = ("samples", "cdf", "rate_maps", "hidden_maps", "predictions")
SHOWN = ("pendulum", "windy_grid", "random_walk", "goal")  # rows whose figures are kept


def train_row(table: str, row: str, *, seeds: int, full: bool) -> pathlib.Path:
    """Train the population of a row, or take it where it is complete; -> its workdir."""
    name, fiddlers, settings = TABLES[table][row]
    config = fdl_configs.make(name, *(() if full else ("laptop",)), *fiddlers)
    for field, value in settings:
        setattr(config.task, field, value)
    config.seeds = seeds
    workdir = pathlib.Path("runs", "dsm", table, row.replace(", ", "-").replace(" ", "_"))
    if not train.run(config, workdir, writers=("jsonl", "terminal")):
        raise SystemExit(0)  # stopped by a signal, and saved
    return workdir


def spread(values: np.ndarray) -> str:
    """Median over seeds, lowest and highest."""
    return f"{np.median(values):.3g} ({values.min():.3g}-{values.max():.3g})"


def print_table(evaluated: dict[str, dict[str, Any]], columns: dict[str, str]) -> None:
    """A row for each evaluation."""
    print("\n| | " + " | ".join(columns) + " |\n|---" + "|---" * len(columns) + "|")
    for row, record in evaluated.items():
        cells = [spread(np.atleast_1d(record[f"eval/{name}"])) for name in columns.values()]
        print(f"| {row} | {' | '.join(cells)} |")


def compare_when_moved(workdirs: dict[str, pathlib.Path]) -> None:
    """Mean cosine with its 95 % interval over seeds, a row a model; of the differences to the
    first, too, of the same draws; and the figure."""
    readouts = {row: load_readout(workdir)[1] for row, workdir in workdirs.items()}
    curves = {row: readout["similarity"].mean(axis=2) for row, readout in readouts.items()}
    first, *others = curves
    itself = next(iter(readouts.values()))["place_similarity"].mean(axis=2)  # [seed, moved]
    rows = {**curves, "place cells themselves": itself}
    rows |= {f"{first} less {other}": curves[first] - curves[other] for other in others}
    print("\n| place cells moved | " + " | ".join(map(str, dsm.MOVED)) + " |")
    print("|---" * (len(dsm.MOVED) + 1) + "|")
    drawn = {}
    for row, values in rows.items():
        mean = values.mean(axis=0)
        half = scipy.stats.t.ppf(0.975, len(values) - 1) * scipy.stats.sem(values)
        drawn[row] = mean, mean - half, mean + half
        cells = [f"{m:.3f} ± {h:.3f}" for m, h in zip(mean, half, strict=True)]
        print(f"| {row} | {' | '.join(cells)} |")
    drawn = {row: curve for row, curve in drawn.items() if " less " not in row}
    spread = "95 % interval over seeds"
    dsm.draw_similarity(drawn, spread=spread).savefig(HERE / "similarity.png", dpi=110)


def main() -> None:
    """Train the rows of a table and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--full", action="store_true", help="as published, not laptop size")
    parser.add_argument("--row", action="append", help="only this row (may be repeated)")
    options = parser.parse_args()
    if options.table == "perturbation" and options.seeds < 2:
        parser.error("perturbation gives intervals over seeds, so that --seeds must be at least 2")
    rows = options.row or list(TABLES[options.table])
    for row in rows:
        if row not in TABLES[options.table]:
            parser.error(f"{row} is none of the rows {', '.join(TABLES[options.table])}")
    workdirs = {
        row: train_row(options.table, row, seeds=options.seeds, full=options.full) for row in rows
    }
    evaluated: dict[str, dict[str, Any]] = {}
    for row, workdir in workdirs.items():
        records = [
            record
            for record in log.read_metrics(workdir / "metrics.jsonl")
            if any(name.startswith("eval/") for name in record)
        ]
        evaluated |= {f"{row}, untrained": records[0], row: records[-1]}
        for figure in (workdir / "figures").glob("*.png"):
            if figure.stem in FIGURES and workdir.name in SHOWN:
                shutil.copy(figure, HERE / f"{workdir.name}_{figure.name}")
    if options.table == "returns":
        for distance in ("wasserstein", "cramer_von_mises", "kolmogorov_smirnov"):
            print(f"\n{distance}")
            print_table(evaluated, {t: name.format(distance) for t, name in RETURNS.items()})
        pendulum = {row: r for row, r in evaluated.items() if "eval/wasserstein_slow" in r}
        by_reward = [reward.replace(" ", "_") for reward in envs.PENDULUM_REWARDS]
        print_table(pendulum, {reward: f"wasserstein_{reward}" for reward in by_reward})
    else:
        print_table(evaluated, COLUMNS[options.table])
    if options.table == "behaviours":
        print_table({row: evaluated[row] for row in rows}, FIELDS)
    if options.table == "perturbation" and not options.row:
        compare_when_moved(workdirs)


if __name__ == "__main__":
    main()
