"""The table and figures of RESULTS.md: the three variants, and whether tau sets the scale.

    python experiments/topo_grid/variants.py sheet_grids    # hexagons, three seeds
    python experiments/topo_grid/variants.py laptop         # as published, but for the size
    python experiments/topo_grid/variants.py full           # as published, for a GPU

Each row is a run of `python -m hfjax`, a population of --seeds models, in runs/topo_grid/SIZE/ROW;
the same command again goes on where it was stopped. Prints tables in Markdown and draws the sheets
of the first seed beside this file.
"""

import argparse
import pathlib

import jax
import numpy as np

import fdl_configs
import hfjax
from hfjax.models import topo_grid
from hfjax.training import log
from hfjax.training import run as train
from hfjax.training.workdir import load_readout

HERE = pathlib.Path(__file__).parent

# row -> (config, fiddlers)
ROWS: dict[str, tuple[str, tuple[str, ...]]] = {
    "plain": ("topo_grid_plain", ()),
    "topoloss": ("topo_grid_topoloss", ()),
    "tau": ("topo_grid", ()),
    "tau, ramp": ("topo_grid", ("ramp_tau",)),
    "tau fixed": ("topo_grid", ("fixed_tau",)),
    "tau fixed, gradient": ("topo_grid", ("gradient_tau", "fixed_tau")),
    "plain, Sorscher's code": ("topo_grid_plain", ("sorscher",)),
    "topoloss, Sorscher's code": ("topo_grid_topoloss", ("sorscher",)),
    "tau, Sorscher's code": ("topo_grid", ("sorscher",)),
}
COLUMNS = {
    "error, 20 steps (cm)": "error_cm",
    "10 s (cm)": "rollout_error_cm",
    "score > 0.3 (%)": "grid_share_above_0.3",
    "noise > 0.3 (%)": "noise_share_above_0.3",
    "> 0.8 (%)": "grid_share_above_0.8",
    "noise > 0.8 (%)": "noise_share_above_0.8",
    "mean score": "mean_grid_score",
    "median": "median_grid_score",
    "max": "max_grid_score",
}
SHEET = {
    "scale": "moran_scale_z",
    "orientation": "moran_orientation_z",
    "phase": "moran_phase_z",
    "tau": "moran_tau_z",
    "Moran's I of tau": "moran_tau",
    "tau and scale, rank correlation": "tau_scale_correlation",
}


def workdir(size: str, row: str) -> pathlib.Path:
    """Where the run of a row lies."""
    return pathlib.Path("runs", "topo_grid", size, row.translate(str.maketrans(" ", "_", ",'")))


def train_row(size: str, row: str, *, seeds: int) -> dict[str, np.ndarray]:
    """Train the population of a row, or take it where it is complete; -> its last evaluation."""
    name, fiddlers = ROWS[row]
    config = fdl_configs.make(name, *fiddlers, *(() if size == "full" else (size,)))
    config.seeds = seeds
    if not train.run(config, workdir(size, row), writers=("jsonl", "terminal")):
        raise SystemExit(0)  # stopped by a signal, and saved
    records = log.read_metrics(workdir(size, row) / "metrics.jsonl")
    last = [record for record in records if "eval/error_cm" in record][-1]
    return {n.removeprefix("eval/"): np.atleast_1d(v) for n, v in last.items()}


def spread(values: np.ndarray) -> str:
    """Median over seeds, lowest and highest."""
    return f"{np.median(values):.3g} ({values.min():.3g}-{values.max():.3g})"


def table(runs: dict[str, dict[str, np.ndarray]], columns: dict[str, str]) -> None:
    """Print a row for each run."""
    print("\n| | " + " | ".join(columns) + " |\n|---" + "|---" * len(columns) + "|")
    for row, found in runs.items():
        cells = [
            spread((100 if title.endswith("(%)") else 1) * found[name]) if name in found else ""
            for title, name in columns.items()
        ]
        print(f"| {row} | {' | '.join(cells)} |")


def dealt_anew(size: str, row: str) -> None:
    """Give a trained network's time constants to other units at random, and map it again.

    Prints for each seed the rank correlation of scale with tau as trained, with the new tau, and of
    the scale before with the scale after, over units that are grid cells before and after.
    """
    task, state, config = hfjax.load(workdir(size, row))
    evaluate = jax.jit(task.evaluate)
    for seed in range(config.seeds):
        one = jax.tree.map(lambda x, seed=seed: x[seed], state) if config.seeds > 1 else state
        order = jax.random.permutation(jax.random.key(seed), len(one.params.network.log_tau))
        leaky = one.params.network
        other = one._replace(
            params=one.params._replace(network=leaky._replace(log_tau=leaky.log_tau[order]))
        )
        (scalars, old), (new_scalars, new) = (
            evaluate(s, (), jax.random.key(100 + seed)) for s in (one, other)
        )
        grid = [np.asarray(x["grid_score_60"]) > topo_grid.GRID_SCORE for x in (old, new)]
        both = grid[0] & grid[1]

        def correlation(a, b, among):
            return float(topo_grid.spearman(a, b, among))

        print(
            f"| {row}, seed {seed} | {scalars['error_cm']:.1f} -> {new_scalars['error_cm']:.1f} "
            f"| {correlation(old['tau'], old['scale_m'], grid[0]):.2f} ({grid[0].sum()}) "
            f"| {correlation(new['tau'], new['scale_m'], grid[1]):.2f} ({grid[1].sum()}) "
            f"| {correlation(old['scale_m'], new['scale_m'], both):.2f} ({both.sum()}) |"
        )


def main() -> None:
    """Train the rows, print the tables, draw the sheets."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("size", choices=("sheet_grids", "laptop", "full"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--row", action="append", choices=ROWS, help="only this row (repeatable)")
    options = parser.parse_args()
    rows = options.row or [
        row for row in ROWS if not (options.size == "sheet_grids" and "Sorscher" in row)
    ]
    runs = {row: train_row(options.size, row, seeds=options.seeds) for row in rows}
    table(runs, COLUMNS)
    print("\nMoran's I of the map over the sheet, in standard deviations of shuffled sheets:")
    table(runs, SHEET)
    print("\n| tau dealt anew | error (cm) | scale and tau | scale and new tau | scale kept |")
    print("|---|---|---|---|---|")
    for row in rows:
        if ROWS[row][0] == "topo_grid":
            dealt_anew(options.size, row)
    if options.size == "sheet_grids" and not options.row:
        for row in ("plain", "topoloss", "tau"):
            _, readout = load_readout(workdir(options.size, row))
            first = {n: v[0] for n, v in readout.items() if n != "drawn_seed"}
            drawn = topo_grid.draw(first if options.seeds > 1 else readout)
            drawn["sheet"].savefig(HERE / f"sheet_{row}.png", dpi=110)
            if row == "plain":
                drawn["rate_maps"].savefig(HERE / "rate_maps_plain.png", dpi=90)
            if row == "tau":
                drawn["tau_and_scale"].savefig(HERE / "tau_and_scale.png", dpi=110)


if __name__ == "__main__":
    main()
