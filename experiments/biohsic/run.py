"""The tables and figures of RESULTS.md.

    python experiments/biohsic/run.py --only=lif                  # linear and XOR, and variants
    python experiments/biohsic/run.py --only=lif_baselines        # the same by back-propagation
    python experiments/biohsic/run.py --only=digits               # scikit-learn's digits
    python experiments/biohsic/run.py --only=cnn_digits           # the same, convolutional networks
    python experiments/biohsic/run.py --only=memory               # windows of 2 to 32, digits
    python experiments/biohsic/run.py --only=memory_cifar10 --data_dir=FOLDER     # small CNN
    python experiments/biohsic/run.py --only=reservoir_digits     # the reservoir, needs no file
    python experiments/biohsic/run.py --only=mnist_10k --only=reservoir --data_dir=FOLDER
    python experiments/biohsic/run.py --only=mnist --only=fashion_mnist --data_dir=FOLDER
    python experiments/biohsic/run.py --only=cifar10 --data_dir=FOLDER       # the first epochs
    python experiments/biohsic/run.py --only=cifar10_small --data_dir=FOLDER

Without --only all of them run, which needs the files of all data sets and a day or more. See
`experiments/harness.py`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import fiddle as fdl
import numpy as np
from matplotlib.figure import Figure

import fdl_configs
from experiments import harness
from experiments.harness import Row, Run, Study
from hfjax import figures
from hfjax.models import biohsic

LEARNERS = {
    "rule": (),
    "HSIC gradient": ("hsic_gradient",),
    "back-propagation": ("back_propagation",),
    "single layer": ("single_layer",),
}
WITH_LAYERS = tuple(name for name in LEARNERS if name != "single layer")
CNN = {"task.network": fdl.Config(biohsic.cnn, channels=(16, 32))}
CIFAR_CONSTANTS = {
    "task.bottleneck": fdl.Config(
        biohsic.Bottleneck, gamma=50.0, sigma_x=1.0, sigma_y=0.1, sigma_z=0.5
    ),
    "task.optimizer.learning_rate": 5e-5,
}

SMALL = {"task.network.channels": (16, 32)}
WINDOWS = (2, 4, 8, 16, 32)
SPLITS = {"test": "test", "train": "training"}  # as scalars name them: as figures do


def images(*data: str) -> dict[str, Row]:
    """All learners on one data set."""
    return {name: Row("biohsic", (*data, *learner)) for name, learner in LEARNERS.items()}


def for_epochs(epochs: int, config: str, *fiddlers: str, settings: Mapping[str, Any] = {}) -> Row:
    """A row of fewer epochs than published; a larger number continues its run."""
    steps = epochs * fdl_configs.make(config, *fiddlers).task.steps_per_epoch
    return Row(config, fiddlers, {"num_steps": steps, **settings})


def first_epochs(
    epochs: int,
    *data: str,
    learners: Iterable[str] = LEARNERS,
    settings: Mapping[str, Any] = {},
) -> dict[str, Row]:
    """Learners for fewer epochs than published. The single layer has none of the settings."""
    return {
        name: for_epochs(
            epochs,
            "biohsic",
            *(*data, *LEARNERS[name]),
            settings={} if name == "single layer" else settings,
        )
        for name in learners
    }


def toy(data: str, *fiddlers: str) -> str:
    """The name of a row on one of the two toy problems."""
    return ", ".join((data, *fiddlers))


ACCURACY_ROWS = {
    "lif": {
        toy(data, *fiddlers): Row("biohsic_lif", (data, *fiddlers))
        for data in ("linear", "xor")
        for fiddlers in ((), ("unscaled",), ("reset",), ("unscaled", "reset"))
    },
    "lif_baselines": {
        f"{toy(data, *fiddlers)}, batches of {size}": Row(
            "biohsic_lif",
            (data, *fiddlers, "back_propagation"),
            {"task.memory.window": size, "task.memory.stride": size},
        )
        for data in ("linear", "xor")
        for fiddlers in ((), ("unscaled",))
        for size in (256, 6)
    },
    "digits": images("digits"),
    "mnist_10k": images("mnist_10k"),
    "mnist": images(),
    "fashion_mnist": images("fashion_mnist"),
    "cifar10": first_epochs(
        5,
        "cifar10",
        learners=("rule", "back-propagation"),
        settings={"matmul_precision": "bfloat16"},
    ),
    "cifar10_small": first_epochs(10, "cifar10", settings=SMALL),
    "cnn_digits": {
        "rule": Row("biohsic", ("digits",), CNN | CIFAR_CONSTANTS),
        "back-propagation": Row("biohsic", ("digits", "back_propagation"), CNN),
    },
    "cnn_mnist": first_epochs(3, "cnn", learners=WITH_LAYERS),
    "cnn_fashion_mnist": first_epochs(3, "fashion_mnist", "cnn", learners=WITH_LAYERS),
    "lif_digits": {
        "rule": Row("biohsic_lif", ("digits",)),
        "rule, reset": Row("biohsic_lif", ("digits", "reset")),
    },
    "lif_mnist": {
        "rule": for_epochs(5, "biohsic_lif", "mnist"),
        "rule, reset": for_epochs(5, "biohsic_lif", "mnist", "reset"),
    },
    "memory": {
        str(window): Row("biohsic", ("digits",), {"task.memory.window": window})
        for window in WINDOWS
    },
    "memory_cifar10": {
        str(window): for_epochs(
            2, "biohsic", "cifar10", settings={"task.memory.window": window, **SMALL}
        )
        for window in WINDOWS
    },
}
# Of other sections 30.
SEEDS = {
    **dict.fromkeys(("mnist", "mnist_10k", "fashion_mnist", "cnn_digits", "lif_digits"), 10),
    **dict.fromkeys(("cifar10", "cifar10_small", "memory_cifar10"), 1),
    **dict.fromkeys(("cnn_mnist", "cnn_fashion_mnist", "lif_mnist"), 1),
}
# Columns of other sources: {section: {title: {row: text}}}
COMPARED = {
    "lif": {
        "published (%)": {"linear": "93.2", "xor": "96.0"},
        "original, 5 models (%)": {"linear": "86.4 ± 5.6", "xor": "90.6 ± 21"},
    },
    "mnist": {"published (%)": {"rule": "91.7", "back-propagation": "97.5"}},
    "cifar10": {"published (%)": {"rule": "59.9", "back-propagation": "79.1"}},
    "memory_cifar10": {
        "published (%)": {"2": "59.7", "4": "60.0", "8": "59.4", "16": "58.5", "32": "57.2"}
    },
    "mnist_10k": {
        "original, one seed (%)": {
            "rule": "87.7 after 4 epochs (ours: 87.2)",
            "HSIC gradient": "89.4 after 5 epochs (ours: 88.7)",
            "back-propagation": "95.0 after 5 epochs (ours: 93.5)",
        }
    },
}
RESERVOIR_ERRORS = {
    "while learning": "train/error",
    "last step": "train/last_step_error",
    "replayed": "eval/replay_error",
    "frozen": "eval/frozen_error",
}
NOISE: dict[str, dict[str, Any]] = {
    "no noise": {},
    "noise in units 0.05": {"task.cell.unit_noise": 0.05},
    "noise in outputs 0.5": {"task.cell.output_noise": 0.5},
    "both": {"task.cell.unit_noise": 0.05, "task.cell.output_noise": 0.5},
}
# (section, row, figure of the run) -> its name in RESULTS.md
KEPT = {
    ("lif", "linear", "decision_boundary"): "linear_decision_boundary",
    ("lif", "xor", "decision_boundary"): "xor_decision_boundary",
    ("lif", "xor", "information_plane"): "xor_information_plane",
    ("mnist_10k", "rule", "information_plane"): "mnist_10k_information_plane",
    ("mnist", "rule", "information_plane"): "mnist_information_plane",
    ("reservoir", "no noise", "traces"): "reservoir_traces",
    ("reservoir", "no noise", "error"): "reservoir_error",
}


def train_rows(study: Study, rows: Mapping[str, Row]) -> dict[str, Run]:
    """Train the rows of a section, and keep those figures of its runs that RESULTS.md shows."""
    runs = study.train_rows(rows)
    for (section, row, figure), name in KEPT.items():
        if section == study.section and row in runs:
            study.keep(runs[row], figure, name)
    return runs


# --- Networks that classify ---


def accuracies(study: Study) -> dict[str, str]:
    """Accuracy of every row, HSIC of its layers, and the figure of the section."""
    runs = train_rows(study, ACCURACY_ROWS[study.section])
    compared = COMPARED.get(study.section, {})
    if study.section.startswith("memory"):
        figure = draw_memory(runs)
    else:
        models = f"median of {study.seeds} models, band 25 to 75 %"
        title = f"{study.section}: {models if study.seeds > 1 else 'one model'}"
        figure = draw_accuracies(runs, compared.get("published (%)", {}), title)
    study.save(study.section, figure, dpi=110)
    return {
        study.section: accuracy_table(runs, compared),
        f"layers of {study.section}": information_table(runs),
    }


def draw_accuracies(runs: Mapping[str, Run], published: Mapping[str, str], title: str) -> Figure:
    """Accuracy of test and of training samples over epochs, from the first epoch's upwards."""
    figure = Figure(figsize=(11.0, 4.8), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    low, before = 100.0, set()
    for ax, (split, label) in zip(axes, SPLITS.items(), strict=True):
        curves = {row: 100 * run.curve(f"eval/{split}_accuracy") for row, run in runs.items()}
        figures.curves_with_spread(
            curves, x_label="epoch", y_label="accuracy (%)", title=f"{label} samples", ax=ax
        )
        low = min(low, *(np.nanmin(np.quantile(c[1:], 0.25, axis=1)) for c in curves.values()))
        before |= {f"{np.median(c[0]):.3g}" for c in curves.values()}
    ours = {line.get_label(): line for line in axes[0].lines}
    for row, value in published.items():
        if row in ours:
            style = ":" if ours[row].get_linestyle() == "-" else "-."
            line = {"color": ours[row].get_color(), "linestyle": style}
            axes[0].axhline(float(value), **line, label=f"{row}, published {value}")
    for ax in axes:
        ax.get_legend().remove()
    figure.legend(handles=list(axes[0].lines), loc="outside lower center", ncols=3, fontsize=8)
    height = max(100 - low, 1.0)
    bottom = low - 0.05 * height
    axes[0].set_ylim(bottom, 100 + 0.02 * height)
    untrained = sorted(before, key=float)
    if float(untrained[0]) < bottom:
        span = " to ".join(dict.fromkeys((untrained[0], untrained[-1])))
        title += f"\nbefore learning, below the axis: {span} %"
    figure.suptitle(title, fontsize=11)
    return figure


def draw_memory(runs: Mapping[str, Run]) -> Figure:
    """Accuracy by the window, of test and of training samples, after each fifth of the epochs."""
    figure = Figure(figsize=(11.0, 4.6), layout="constrained")
    figure.suptitle("The rule with a longer and a shorter memory", fontsize=11)
    axes = figure.subplots(1, 2, sharey=True)
    for ax, (split, label) in zip(axes, SPLITS.items(), strict=True):
        curves = {int(row): 100 * run.curve(f"eval/{split}_accuracy") for row, run in runs.items()}
        figures.points_with_spread(
            {window: values[-1] for window, values in curves.items()},
            x_label="samples in working memory (window)",
            y_label="accuracy (%)",
            title=f"{label} samples, after the last epoch",
            ax=ax,
        )
        num_epochs = min(len(values) for values in curves.values()) - 1
        for epoch in sorted({fifth * num_epochs // 5 for fifth in range(1, 5)} - {0}):
            ax.plot(
                list(curves),
                [values[epoch].mean() for values in curves.values()],
                "--",
                color=figures.SIMULATED,
                lw=0.8,
                alpha=0.2 + 0.75 * epoch / num_epochs,
                label=f"mean after epoch {epoch} of {num_epochs}",
            )
        ax.legend(fontsize=7)
    return figure


def accuracy_table(runs: Mapping[str, Run], compared: Mapping[str, Mapping[str, str]]) -> str:
    """Test accuracy at the last epoch, and at the epoch whose mean over seeds is best.

    compared: more columns, {title: {row: text}}.
    """
    own = ("last epoch (%)", "best epoch (%)", "its number", "training, last epoch (%)")
    head = ["", *own, *compared]
    lines = []
    for row, run in runs.items():
        test = 100 * run.curve("eval/test_accuracy")
        best = 1 + int(test[1:].mean(axis=1).round(4).argmax())  # ties go to the first epoch
        training = 100 * run.curve("eval/train_accuracy")[-1]
        cells = (harness.spread(test[-1]), harness.spread(test[best]), str(best))
        others = (texts.get(row, "") for texts in compared.values())
        lines.append([row, *cells, harness.spread(training), *others])
    return harness.table(head, lines)


def information_table(runs: Mapping[str, Run]) -> str:
    """HSIC of each layer with input and class at the last epoch, test samples."""
    lines = []
    for row, run in runs.items():
        scalars = run.evaluation()
        num_layers = sum(name.startswith("hsic_xz_") for name in scalars)
        lines += [
            [row, str(i), *(harness.spread(scalars[f"hsic_{pair}_{i}"]) for pair in ("xz", "yz"))]
            for i in range(1, 1 + num_layers)
        ]
    return harness.table(["", "layer", "HSIC(x, z)", "HSIC(y, z)"], lines)


# --- The reservoir ---


def reservoir(study: Study) -> str:
    """Normalised errors after the first epoch and the last, without and with noise."""
    fiddlers = ("laptop",) if study.section == "reservoir_digits" else ()
    rows = {name: Row("reservoir", fiddlers, settings) for name, settings in NOISE.items()}
    lines = []
    for row, run in train_rows(study, rows).items():
        cells = []
        for name in RESERVOIR_ERRORS.values():
            values = np.median(run.curve(name), axis=1)
            first = 1 if name.startswith("eval") else 0  # evaluation begins before training
            cells.append(f"{values[first]:.2g}, {values[-1]:.2g}")
        lines.append([row, *cells])
    return harness.table(["after the first epoch, after the last", *RESERVOIR_ERRORS], lines)


SECTIONS = {
    **{name: harness.Section(accuracies, SEEDS.get(name, 30)) for name in ACCURACY_ROWS},
    "reservoir": harness.Section(reservoir),
    "reservoir_digits": harness.Section(reservoir),
}

if __name__ == "__main__":
    harness.main(__file__, __doc__, SECTIONS)
