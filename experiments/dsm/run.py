"""The tables and figures of RESULTS.md.

    python experiments/dsm/run.py                             # everything, at laptop size
    python experiments/dsm/run.py --only=returns              # pendulum and windy grid
    python experiments/dsm/run.py --only=behaviours/goal      # place cells, one of five behaviours
    python experiments/dsm/run.py --only=perturbation         # moved place cells: DSM against SR
    python experiments/dsm/run.py --only=profile              # maps over the course of learning
    python experiments/dsm/run.py --only=policies             # returns of the pendulum's policy
    python experiments/dsm/run.py --only=returns --budget=full    # the paper's constants, for a GPU

Each table shows the evaluation before training (a random model, the control) and the last one.
"""

import functools
from collections.abc import Mapping

import numpy as np
import scipy.stats

from experiments import harness
from experiments.dsm import policies as pendulum
from experiments.harness import Row, Run, Study
from hfjax import envs, figures
from hfjax.models import dsm

RETURN_ROWS = {
    "pendulum": Row("dsm"),
    "pendulum, gamma models": Row("gamma_ensemble"),
    "windy grid": Row("dsm_windy"),
}
BEHAVIOUR_ROWS = {
    name.replace("_", " "): Row("dsm_place_cells", (name,))
    for name in ("random_walk", "high_thigmotaxis", "goal", "teleport", "wall")
}
PERTURBATION_ROWS = {
    "DSM": Row("dsm_place_cells"),
    "SR, mean of 10": Row("successor", settings={"task.num_outer": 10}),
    "SR, one": Row("successor"),
}
# An evaluation, which leaves its maps, after every 100 of the first 1000 updates.
FIRST_UPDATES = {
    "num_steps": 10,
    "task.optimizer.learning_rate": 1e-3,
    **dict.fromkeys(("chunk", "eval_every", "save_every", "keep_every"), 1),
}
PROFILE_ROWS = {
    name.replace("_", " "): Row("dsm_place_cells", (name,), FIRST_UPDATES)
    for name in ("random_walk", "high_thigmotaxis")
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
DISTANCES = {
    "Wasserstein": "wasserstein",
    "Cramer-von Mises": "cramer_von_mises",
    "Kolmogorov-Smirnov": "kolmogorov_smirnov",
}
RETURNS = {
    "mean": "{}_mean",
    "median": "{}_median",
    "min": "{}_min",
    "max": "{}_max",
    "normal fit": "gaussian_{}_mean",
    "random true returns": "random_{}_mean",
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


def evaluations(runs: Mapping[str, Run]) -> dict[str, harness.Scalars]:
    """{row: scalars} of every run, before training and at its end."""
    return {
        label: run.evaluation(index)
        for row, run in runs.items()
        for label, index in ((f"{row}, untrained", 0), (row, -1))
    }


def returns(study: Study) -> dict[str, str]:
    """Return distributions against Monte Carlo: three distances, and by reward."""
    runs = study.train_rows(RETURN_ROWS)
    for row in ("pendulum", "windy grid"):
        if row in runs:
            for figure in ("samples", "cdf"):
                study.keep(runs[row], figure, f"{row.replace(' ', '_')}_{figure}")
    scalars = evaluations(runs)
    tables = []
    for heading, distance in DISTANCES.items():
        columns = {title: name.format(distance) for title, name in RETURNS.items()}
        tables.append(f"**{heading}**\n\n{harness.scalar_table(scalars, columns)}")
    parts = {"returns": "\n\n".join(tables)}
    pendulum = {row: values for row, values in scalars.items() if "wasserstein_slow" in values}
    if pendulum:
        by_reward = {r: f"wasserstein_{r.replace(' ', '_')}" for r in envs.PENDULUM_REWARDS}
        parts["returns by reward"] = harness.scalar_table(pendulum, by_reward)
    return parts


def behaviours(study: Study) -> dict[str, str]:
    """Predicted maps, decoded places and fields, for each behaviour."""
    runs = study.train_rows(BEHAVIOUR_ROWS)
    for row in ("random walk", "goal"):
        if row in runs:
            for figure in ("samples", "rate_maps", "hidden_maps", "predictions"):
                study.keep(runs[row], figure, f"{row.replace(' ', '_')}_{figure}")
    fields = {row: run.evaluation() for row, run in runs.items()}
    return {
        "behaviours": harness.scalar_table(evaluations(runs), COLUMNS["behaviours"]),
        "fields": harness.scalar_table(fields, FIELDS),
    }


def perturbation(study: Study) -> dict[str, str]:
    """Similarity of maps after place cells moved; with at least two seeds, intervals over seeds."""
    runs = study.train_rows(PERTURBATION_ROWS)
    parts = {"evaluations": harness.scalar_table(evaluations(runs), COLUMNS["perturbation"])}
    readouts = {row: run.readouts() for row, run in runs.items()}
    if all("similarity_cells" in readout for readout in readouts.values()):  # not of older runs
        cosines = {row: np.moveaxis(r["similarity_cells"], 0, 1) for row, r in readouts.items()}
        study.save("similarity_histogram", dsm.draw_similarity_histogram(cosines), dpi=110)
    if study.seeds > 1:
        curves = {row: readout["similarity"].mean(axis=2) for row, readout in readouts.items()}
        place_cells = next(iter(readouts.values()))["place_similarity"].mean(axis=2)
        # Both [seed, moved].
        parts["perturbation"] = similarity_table(study, curves, place_cells)
    return parts


def similarity_table(
    study: Study, curves: Mapping[str, np.ndarray], place_cells: np.ndarray
) -> str:
    """Mean cosine and its 95 % interval over seeds, and paired differences to the first row."""
    first, *others = curves
    models = {**curves, "place cells themselves": place_cells}
    differences = {f"{first} less {other}": curves[first] - curves[other] for other in others}
    lines, drawn = [], {}
    for row, values in {**models, **differences}.items():
        mean = values.mean(axis=0)
        half = scipy.stats.t.ppf(0.975, len(values) - 1) * scipy.stats.sem(values)
        lines.append([row, *(f"{m:.3f} ± {h:.3f}" for m, h in zip(mean, half, strict=True))])
        if row in models:
            drawn[row] = mean, mean - half, mean + half
    study.save("similarity", dsm.draw_similarity(drawn, spread="95 % interval over seeds"), dpi=110)
    return harness.table(["place cells moved", *map(str, dsm.MOVED)], lines)


def profile(study: Study) -> str:
    """How early the predicted maps stop changing, and look as the rates that follow."""
    lines, curves = [], dict[str, np.ndarray]()
    for row, run in study.train_rows(PROFILE_ROWS).items():
        steps = sorted(int(file.stem) for file in (run.workdir / "readout").glob("*.npz"))
        maps = [run.readouts(index)["maps"] for index in range(len(steps))]  # [seed, cell, x, y]
        unknown = np.full(study.seeds, np.nan)
        likeness: dict[str, list[np.ndarray]] = {
            "cosine with the maps before": [unknown, *map(cosine, maps, maps[1:])],
            "cosine with the last maps": [cosine(values, maps[-1]) for values in maps],
            "correlation with the rates that follow": list(run.curve("eval/map_correlation")),
        }
        curves |= {f"{row}: {name}": np.stack(values) for name, values in likeness.items()}
        for step, *values in zip(steps, *likeness.values(), strict=True):
            cells = (harness.spread(v) if np.isfinite(v).all() else "" for v in values)
            lines.append([row, str(100 * step), *cells])
    figure = figures.curves_with_spread(
        curves,
        x_label="updates / 100",
        y_label="likeness of maps",
        title=f"Predicted maps over the course of learning: median of {study.seeds} models",
    )
    study.save("profile", figure, dpi=110)
    return harness.table(["", "updates", *likeness], lines)


def cosine(maps: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Mean over cells of the cosine of two maps [seed, cell, x, y] -> [seed]."""
    a, b = (x.reshape(*x.shape[:2], -1) for x in (maps, others))
    norms = np.linalg.norm(a, axis=2) * np.linalg.norm(b, axis=2)
    return (np.sum(a * b, axis=2) / np.maximum(norms, 1e-12)).mean(axis=1)


def policies(study: Study) -> str:
    """Returns of the pendulum's policy and of the optimal one, from the same starts."""
    num_episodes, optimal = 4_000, pendulum.optimal
    if study.budget == harness.QUICK:
        num_episodes = 10
        optimal = functools.partial(optimal, num_angles=20, num_velocities=21, num_torques=3)
    rows = {
        "as it comes with hfjax": pendulum.trained(),
        "its mean action": pendulum.without_noise(),
        "optimal": optimal(),
    }
    lines = []
    for name, act in rows.items():
        returns = pendulum.episode_returns(act, num_episodes=num_episodes)
        error = scipy.stats.sem(returns)
        lines.append([name, f"{returns.mean():.1f} ± {error:.1f}", f"{returns.std(ddof=1):.0f}"])
    head = ["policy", "mean ± standard error", "standard deviation"]
    return harness.table(head, lines)


SECTIONS = {
    "returns": harness.Section(returns, seeds=3),
    "behaviours": harness.Section(behaviours, seeds=10),
    "perturbation": harness.Section(perturbation, seeds=10),
    "profile": harness.Section(profile, seeds=3),
    "policies": harness.Section(policies, seeds=1),
}

if __name__ == "__main__":
    harness.main(__file__, __doc__, SECTIONS, budgets={"laptop": ("laptop",), "full": ()})
