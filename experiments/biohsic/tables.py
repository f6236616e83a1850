"""The tables and figures of RESULTS.md, one command each.

    python experiments/biohsic/tables.py lif                   # linear and XOR, and variants
    python experiments/biohsic/tables.py digits                # scikit-learn's digits, all methods
    python experiments/biohsic/tables.py mnist_10k --data_dir=FOLDER
    python experiments/biohsic/tables.py memory                # windows of 2 to 32, digits
    python experiments/biohsic/tables.py reservoir
    python experiments/biohsic/tables.py mnist --data_dir=FOLDER         # also fashion_mnist
    python experiments/biohsic/tables.py cifar10 --data_dir=FOLDER --seeds=1

Each row is a run of `python -m hfjax`, a population of --seeds models, in runs/biohsic/TABLE/ROW;
the same command again goes on where it was stopped. Prints a table in Markdown and draws its figure
beside this file.
"""

import argparse
import pathlib

import numpy as np

import fdl_configs
from hfjax import figures, log, train

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


TABLES: dict[str, dict] = {
    "lif": {
        f"{data}{''.join(', ' + f for f in fiddlers)}": ("biohsic_lif", (data, *fiddlers), {})
        for data in ("linear", "xor")
        for fiddlers in ((), ("unscaled",), ("reset",), ("unscaled", "reset"))
    },
    "digits": _images("digits"),
    "mnist_10k": _images("mnist_10k"),
    "mnist": {row: ("biohsic", fiddlers, {}) for row, fiddlers in IMAGES.items()},
    "fashion_mnist": _images("fashion_mnist"),
    "cifar10": _images("cifar10"),
    "memory": {
        str(window): ("biohsic", ("digits",), {"task.window": window})
        for window in (2, 4, 8, 16, 32)
    },
    "reservoir": {
        "no noise": ("reservoir", (), {}),
        "noise in units 0.05": ("reservoir", (), {"task.unit_noise": 0.05}),
        "noise in outputs 0.5": ("reservoir", (), {"task.output_noise": 0.5}),
        "both": ("reservoir", ("noise",), {}),
    },
}


def train_row(table: str, row: str, *, seeds: int, data_dir: str | None) -> list[dict]:
    """Train the population of a row, or take it where it is complete; -> its records."""
    name, fiddlers, settings = TABLES[table][row]
    config = getattr(fdl_configs, name)()
    for fiddler in fiddlers:
        getattr(fdl_configs, fiddler)(config)
    for path, value in settings.items():
        setattr(config.task, path.removeprefix("task."), value)
    if data_dir and hasattr(config.data, "data_dir"):
        config.data.data_dir = data_dir
    elif name == "reservoir" and not data_dir:
        fdl_configs.laptop(config)
    config.seeds = seeds
    workdir = pathlib.Path("runs", "biohsic", table, row.replace(", ", "-").replace(" ", "_"))
    if not train.run(config, workdir, writers=("jsonl", "terminal")):
        raise SystemExit(0)  # stopped by a signal, and saved
    return log.read_metrics(workdir / "metrics.jsonl")


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
        best = 1 + int(test[1:].mean(axis=1).argmax())
        training = 100 * curve(records, "eval/train_accuracy")[-1]
        print(
            f"| {row} | {spread(test[-1])} | {spread(test[best])} | {best} | {spread(training)} |"
        )


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
    """Train the rows of a table and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--data_dir", help="folder of the data set's files")
    parser.add_argument("--row", action="append", help="only this row (may be repeated)")
    options = parser.parse_args()
    rows = options.row or list(TABLES[options.table])
    runs = {
        row: train_row(options.table, row, seeds=options.seeds, data_dir=options.data_dir)
        for row in rows
    }
    print()
    if options.table == "reservoir":
        reservoir_table(runs)
        return
    accuracy_table(runs)
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
