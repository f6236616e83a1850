"""The tables and figures of RESULTS.md, one command each.

    python experiments/biohsic/tables.py lif                   # linear and XOR, and variants
    python experiments/biohsic/tables.py lif_baselines         # the same data by back-propagation
    python experiments/biohsic/tables.py digits                # scikit-learn's digits, all methods
    python experiments/biohsic/tables.py cnn_digits --seeds=5  # the same, convolutional networks
    python experiments/biohsic/tables.py memory                # windows of 2 to 32, digits
    python experiments/biohsic/tables.py mnist_10k --data_dir=FOLDER
    python experiments/biohsic/tables.py reservoir --data_dir=FOLDER --seeds=1
    python experiments/biohsic/tables.py reservoir_digits --seeds=1    # needs no file
    python experiments/biohsic/tables.py mnist --data_dir=FOLDER         # also fashion_mnist
    python experiments/biohsic/tables.py cifar10 --data_dir=FOLDER --seeds=1

Each row is a run of `python -m hfjax`, a population of --seeds models, in runs/biohsic/TABLE/ROW;
the same command again goes on where it was stopped. Prints tables in Markdown, draws the figure of
a table beside this file where all of its rows were asked for, and copies there the figures of runs
that RESULTS.md shows.
"""

import argparse
import functools
import pathlib
import shutil

import fiddle as fdl
import numpy as np

import fdl_configs
from hfjax import figures
from hfjax.errors import InputError, nearest
from hfjax.models import biohsic
from hfjax.training import log
from hfjax.training import run as train

HERE = pathlib.Path(__file__).parent

# table -> {row: (config, fiddlers, settings)}
IMAGES = {
    "rule": (),
    "HSIC gradient": ("hsic_gradient",),
    "back-propagation": ("back_propagation",),
    "single layer": ("single_layer",),
}


def _images(data: str) -> dict:
    return {row: ("biohsic", (data, *fiddlers), {}) for row, fiddlers in IMAGES.items()}


CNN = {"network": fdl.Config(biohsic.cnn, channels=(16, 32))}
RESERVOIR: dict[str, dict] = {
    "no noise": {},
    "noise in units 0.05": {"cell.unit_noise": 0.05},
    "noise in outputs 0.5": {"cell.output_noise": 0.5},
    "both": {"cell.unit_noise": 0.05, "cell.output_noise": 0.5},
}

TABLES: dict[str, dict] = {
    "lif": {
        f"{data}{''.join(', ' + f for f in fiddlers)}": ("biohsic_lif", (data, *fiddlers), {})
        for data in ("linear", "xor")
        for fiddlers in ((), ("unscaled",), ("reset",), ("unscaled", "reset"))
    },
    "lif_baselines": {
        f"{data}{''.join(', ' + f for f in fiddlers)}, batches of {size}": (
            "biohsic_lif",
            (data, *fiddlers, "back_propagation"),
            {"memory.window": size, "memory.stride": size},
        )
        for data in ("linear", "xor")
        for fiddlers in ((), ("unscaled",))
        for size in (256, 6)
    },
    "digits": _images("digits"),
    "mnist_10k": _images("mnist_10k"),
    "mnist": {row: ("biohsic", fiddlers, {}) for row, fiddlers in IMAGES.items()},
    "fashion_mnist": _images("fashion_mnist"),
    "cifar10": _images("cifar10"),
    "cnn_digits": {
        "rule": (
            "biohsic",
            ("digits",),
            {
                **CNN,
                "bottleneck": fdl.Config(biohsic.Bottleneck, 50.0, 1.0, 0.1, 0.5),
                "optimizer.learning_rate": 5e-5,
            },
        ),
        "back-propagation": ("biohsic", ("digits", "back_propagation"), CNN),
    },
    "memory": {
        str(window): ("biohsic", ("digits",), {"memory.window": window})
        for window in (2, 4, 8, 16, 32)
    },
    "reservoir": {row: ("reservoir", (), settings) for row, settings in RESERVOIR.items()},
    "reservoir_digits": {
        row: ("reservoir", ("laptop",), settings) for row, settings in RESERVOIR.items()
    },
}

# (table, row, figure of the run) -> its name in RESULTS.md
FIGURES = {
    ("lif", "linear", "decision_boundary"): "linear_decision_boundary",
    ("lif", "xor", "decision_boundary"): "xor_decision_boundary",
    ("lif", "xor", "information_plane"): "xor_information_plane",
    ("mnist_10k", "rule", "information_plane"): "mnist_10k_information_plane",
    ("reservoir", "no noise", "traces"): "reservoir_traces",
    ("reservoir", "no noise", "error"): "reservoir_error",
}


def workdir(table: str, row: str) -> pathlib.Path:
    """Where the run of a row lies."""
    return pathlib.Path("runs", "biohsic", table, row.replace(", ", "-").replace(" ", "_"))


def train_row(table: str, row: str, *, seeds: int, data_dir: str | None) -> list[dict]:
    """Train the population of a row, or take it where it is complete; -> its records."""
    name, fiddlers, settings = TABLES[table][row]
    config = fdl_configs.make(name, *fiddlers)
    for setting, value in settings.items():
        *parents, last = setting.split(".")
        setattr(functools.reduce(getattr, parents, config.task), last, value)
    if data_dir and hasattr(config.data, "data_dir"):
        config.data.data_dir = data_dir
    config.seeds = seeds
    if not train.run(config, workdir(table, row), writers=("jsonl", "terminal")):
        raise SystemExit(0)  # stopped by a signal, and saved
    return log.read_metrics(workdir(table, row) / "metrics.jsonl")


def curve(records: list[dict], name: str) -> np.ndarray:
    """A scalar over the records that have it: [record, seed]."""
    values = [np.atleast_1d(record[name]) for record in records if name in record]
    return np.asarray(values, float)


def spread(values: np.ndarray) -> str:
    """Mean and standard deviation over seeds, lowest and highest."""
    return f"{values.mean():.3g} ± {values.std():.2g} ({values.min():.3g}-{values.max():.3g})"


def accuracy_table(runs: dict[str, list[dict]]) -> None:
    """Test accuracy at the last epoch, and at the epoch whose mean is best."""
    print("| | test accuracy (%), last epoch | best epoch | its number | training, last epoch |")
    print("|---|---|---|---|---|")
    for row, records in runs.items():
        test = 100 * curve(records, "eval/test_accuracy")
        best = 1 + int(test[1:].mean(axis=1).round(4).argmax())  # the first of equals
        training = 100 * curve(records, "eval/train_accuracy")[-1]
        print(
            f"| {row} | {spread(test[-1])} | {spread(test[best])} | {best} | {spread(training)} |"
        )


def information_table(runs: dict[str, list[dict]]) -> None:
    """HSIC of each layer with input and class at the last epoch, test samples, mean over seeds."""
    print("\n| | layer | HSIC(x, z) | HSIC(y, z) |")
    print("|---|---|---|---|")
    for row, records in runs.items():
        num_layers = sum(name.startswith("eval/hsic_xz_") for name in records[-1])
        for layer in range(1, 1 + num_layers):
            x, y = (curve(records, f"eval/hsic_{pair}_{layer}")[-1].mean() for pair in ("xz", "yz"))
            print(f"| {row} | {layer} | {x:.2g} | {y:.2g} |")


def reservoir_table(runs: dict[str, list[dict]]) -> None:
    """Normalised errors of the reservoir, first epoch and last."""
    names = ("train/error", "train/last_step_error", "eval/replay_error", "eval/frozen_error")
    print("| | " + " | ".join(f"{name}, epoch 1, 10" for name in names) + " |")
    print("|---" * (1 + len(names)) + "|")
    for row, records in runs.items():
        cells = []
        for name in names:
            values = np.median(curve(records, name), axis=1)
            first = 1 if name.startswith("eval") else 0  # evaluation begins before training
            cells.append(f"{values[first]:.2g}, {values[-1]:.2g}")
        print(f"| {row} | {' | '.join(cells)} |")


def main() -> None:
    """Train the rows of a table, print it, draw it, and copy figures of its runs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--data_dir", help="folder of the data set's files")
    parser.add_argument("--row", action="append", help="only this row (may be repeated)")
    options = parser.parse_args()
    known = TABLES[options.table]
    for row in options.row or ():
        if row not in known:
            parser.error(f"{options.table} has no row {row!r}; {nearest(row, known)}")
    try:
        runs = {
            row: train_row(options.table, row, seeds=options.seeds, data_dir=options.data_dir)
            for row in options.row or known
        }
    except InputError as error:
        parser.error(str(error))
    print()
    for (table, row, name), shown in FIGURES.items():
        if table == options.table and row in runs:
            drawn = workdir(table, row) / "figures" / f"{name}.png"
            shutil.copy(drawn, HERE / f"{shown}.png")
    if options.table.startswith("reservoir"):
        reservoir_table(runs)
        return
    accuracy_table(runs)
    information_table(runs)
    if len(runs) < len(known):
        print(f"\n{len(runs)} of {len(known)} rows: the figure of the table is left as it is")
        return
    accuracies = {row: 100 * curve(records, "eval/test_accuracy") for row, records in runs.items()}
    figure = (
        figures.points_with_spread(
            {int(row): values[-1] for row, values in accuracies.items()},
            x_label="samples in working memory (window)",
            y_label="test accuracy (%)",
            title="The rule with a longer and a shorter memory",
        )
        if options.table == "memory"
        else figures.curves_with_spread(
            accuracies,
            x_label="epoch",
            y_label="test accuracy (%)",
            title=f"{options.table}: mean of {options.seeds} models, band of one deviation",
        )
    )
    figure.savefig(HERE / f"{options.table}.png", dpi=110)


if __name__ == "__main__":
    main()
