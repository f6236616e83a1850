"""The tables and figures of RESULTS.md, one command each.

    python experiments/dsm/measures.py returns         # pendulum and windy grid, laptop size
    python experiments/dsm/measures.py behaviours      # place cells, five behaviours
    python experiments/dsm/measures.py returns --full  # the paper's constants, for a GPU

Each row is a run of `python -m hfjax`, a population of --seeds models, in runs/dsm/TABLE/ROW; the
same command again goes on where it was stopped. Prints a table in Markdown, of the evaluation
before training (a random model, the control) and the last, and copies figures beside this file.
"""

import argparse
import pathlib
import shutil

import numpy as np

import fdl_configs
from hfjax import log, train

HERE = pathlib.Path(__file__).parent

# table -> {row: (config, fiddlers)}
TABLES: dict[str, dict[str, tuple[str, tuple[str, ...]]]] = {
    "returns": {
        "pendulum": ("dsm", ()),
        "pendulum, gamma models": ("gamma_ensemble", ()),
        "windy grid": ("dsm_windy", ()),
    },
    "behaviours": {
        name.replace("_", " "): ("dsm_place_cells", (name,))
        for name in ("random_walk", "high_thigmotaxis", "goal", "teleport", "wall")
    },
}
COLUMNS = {
    "returns": {
        "Wasserstein / std, mean": "wasserstein_mean",
        "median": "wasserstein_median",
        "max": "wasserstein_max",
        "Cramer-von Mises, mean": "cramer_von_mises_mean",
        "Kolmogorov-Smirnov, mean": "kolmogorov_smirnov_mean",
        "normal fit, Wasserstein": "gaussian_wasserstein_mean",
        "Monte Carlo itself": "floor_wasserstein_mean",
    },
    "behaviours": {
        "correlation with what follows": "map_correlation",
        "of the cells themselves": "place_correlation",
        "rms error": "map_error",
        "decoded (cm)": "decoded_error_cm",
        "deviation between atoms": "atom_spread",
        "information (bits)": "information",
        "of the cells": "place_information",
    },
}


def train_row(table: str, row: str, *, seeds: int, full: bool) -> list[dict]:
    """Train the population of a row, or take it where it is complete; -> its records."""
    name, fiddlers = TABLES[table][row]
    config = getattr(fdl_configs, name)()
    for fiddler in (*fiddlers, *(() if full else ("laptop",))):
        getattr(fdl_configs, fiddler)(config)
    config.seeds = seeds
    workdir = pathlib.Path("runs", "dsm", table, row.replace(", ", "-").replace(" ", "_"))
    if not train.run(config, workdir, writers=("jsonl", "terminal")):
        raise SystemExit(0)  # stopped by a signal, and saved
    for figure in (workdir / "figures").glob("*.png"):
        if figure.stem in ("samples", "cdf_default", "cdf_quadrants", "rate_maps", "predictions"):
            shutil.copy(figure, HERE / f"{workdir.name}_{figure.name}")
    return log.read_metrics(workdir / "metrics.jsonl")


def spread(values: np.ndarray) -> str:
    """Median over seeds, lowest and highest."""
    return f"{np.median(values):.3g} ({values.min():.3g}-{values.max():.3g})"


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
    columns = COLUMNS[options.table]
    runs = {
        row: train_row(options.table, row, seeds=options.seeds, full=options.full)
        for row in options.row or TABLES[options.table]
    }
    print("\n| | " + " | ".join(columns) + " |\n|---" + "|---" * len(columns) + "|")
    for row, records in runs.items():
        evaluated = [r for r in records if f"eval/{next(iter(columns.values()))}" in r]
        for label, record in ((f"{row}, untrained", evaluated[0]), (row, evaluated[-1])):
            cells = [spread(np.atleast_1d(record[f"eval/{name}"])) for name in columns.values()]
            print(f"| {label} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
