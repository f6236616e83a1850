"""Trained models beside recorded cells, and decoding of CA1 beside the published errors.

python experiments/compare/run.py --data_dir=FOLDER

FOLDER has the subfolders grid_cells (Krupic et al. 2018) and place_cells (Tampuu et al. 2019).
"""

import pathlib
from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments import harness
from experiments.harness import Row
from hfjax import compare, decoders
from hfjax.data import recordings

FOLDS = 10
WINDOWS_S = (0.2, 0.6, 1.4, 2.0, 2.8, 3.4)
DECODERS: dict[str, decoders.Decoder] = {
    "Bayesian": decoders.bayesian_decoder,
    "ridge": decoders.ridge_decoder,
}
NUM_UNITS, NUM_SHUFFLES = 24, 200
MODELS = {
    "grid_rnn": Row("grid_rnn", ("cpu_grids",)),
    "grid_lstm": Row("grid_lstm", ("laptop",)),
    "topo_grid_plain": Row("topo_grid_plain", ("sheet_grids",)),
    "topo_grid_topoloss": Row("topo_grid_topoloss", ("sheet_grids",)),
    "topo_grid": Row("topo_grid", ("sheet_grids",), {"num_steps": 2000}),
    "conformal": Row("conformal"),
    "helmholtz, torus": Row("helmholtz_path_integration", ("torus", "laptop")),
    "dsm_place_cells": Row("dsm_place_cells", ("laptop",)),
    "successor": Row("successor", ("laptop",)),
    "pattern_formation": Row("pattern_formation"),
}
SHARES = ("grid", "border", "head-direction", "spatial", "place")
COLUMNS = {  # title: column of the table, factor, digits
    "grid score": ("median grid score", 1, 2),
    "without spikes": ("median grid score without spikes", 1, 2),
    "spacing (cm)": ("spacing of grid cells (cm)", 1, 0),
    "spacing / side": ("spacing / longer side", 1, 2),
    "field (cm2)": ("largest field (cm2)", 1, 0),
    "bits/spike": ("median bits/spike", 1, 2),
}


def models(study: harness.Study) -> dict[str, str]:
    """Shares, medians and decoding of cells and of every model, and the figure."""
    folder = pathlib.Path(study.data_dir or "recordings")
    runs = {name: run.workdir for name, run in study.train_rows(MODELS).items()}
    found = compare.compared(
        folder, runs, num_units=NUM_UNITS, num_shuffles=NUM_SHUFFLES, tell=print
    )
    rows = compare.all_rows(found, seed=0)
    study.save("compare", compare.draw(found))
    return {"models": _populations(rows), "populations": _decoded(rows)}


def _text(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else ""


def _populations(rows: list[dict[str, Any]]) -> str:
    """Shares (%) and medians of each population."""
    lines = []
    for row in rows:
        shares = [_text(100 * row[f"{kind} cells"], 0) for kind in SHARES]
        medians = [_text(factor * row[name], digits) for name, factor, digits in COLUMNS.values()]
        lines.append([row["population"], row["driven by"], str(row["cells"]), *shares, *medians])
    head = ["population", "driven by", "units", *(f"{kind} (%)" for kind in SHARES), *COLUMNS]
    return harness.table(head, lines)


def _decoded(rows: list[dict[str, Any]]) -> str:
    """Mean decoding errors (cm) of each population that has some."""
    names = [name for name in rows[0] if "error_cm" in name]
    lines = [
        [row["population"], *(_text(row[name], 1) for name in names)]
        for row in rows
        if np.isfinite(row[names[0]])
    ]
    return harness.table(["population", *(n.replace(" error_cm", "") for n in names)], lines)


def fold_errors_cm(
    decoder: decoders.Decoder, session: recordings.Recording, window_s: float
) -> tuple[float, float]:
    """Mean and median error (cm) of ten folds, each a tenth of the session in one piece.

    Spikes are summed over a window around each sample, of all samples that have a position.
    """
    counts = np.stack(list(session.counts.values()), axis=1)
    width = round(window_s / float(np.median(np.diff(session.times_s))))
    X = jnp.asarray(decoders.windowed(counts, width), jnp.float32)
    Y = jnp.asarray(session.positions_m, jnp.float32)
    errors = []
    for fold in np.array_split(np.arange(len(X)), FOLDS):
        rest = np.setdiff1d(np.arange(len(X)), fold)
        got = decoder(X[rest], Y[rest], X[fold])
        errors.append(100 * np.linalg.norm(np.asarray(got - Y[fold]), axis=1))
    return float(np.mean([e.mean() for e in errors])), float(
        np.mean([np.median(e) for e in errors])
    )


def decoding(study: harness.Study) -> str:
    """Errors of each rat at each decoder's best window, chosen by the mean error."""
    folder = pathlib.Path(study.data_dir or "recordings") / "place_cells"
    rows = []
    for rat in ("R2192", "R2217", "R2336"):
        session = recordings.load(folder / f"{rat}.npz")
        for name, decoder in DECODERS.items():
            errors = {w: fold_errors_cm(decoder, session, w) for w in WINDOWS_S}
            best = min(errors, key=lambda w: errors[w][0])
            cells = f"{len(session.counts)} cells"
            rows.append(
                [rat, cells, name, f"{best:.1f}", *(f"{error:.1f}" for error in errors[best])]
            )
    head = ["rat", "", "decoder", "window (s)", "mean error (cm)", "median error (cm)"]
    return harness.table(head, rows)


SECTIONS = {"models": harness.Section(models), "decoding": harness.Section(decoding)}

if __name__ == "__main__":
    harness.main(__file__, __doc__, SECTIONS)
