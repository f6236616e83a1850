"""Decoding of CA1 by our decoders, beside the published errors: Tampuu et al. 2019.

python experiments/compare/run.py --data_dir=FOLDER    # of R2192.npz, R2217.npz and R2336.npz
"""

import pathlib

import jax.numpy as jnp
import numpy as np

from experiments import harness
from hfjax import decoders
from hfjax.data import recordings

FOLDS = 10
WINDOWS_S = (0.2, 0.6, 1.4, 2.0, 2.8, 3.4)
DECODERS: dict[str, decoders.Decoder] = {
    "Bayesian": decoders.bayesian_decoder,
    "ridge": decoders.ridge_decoder,
}


def fold_errors_cm(
    decoder: decoders.Decoder, session: recordings.Recording, window_s: float
) -> tuple[float, float]:
    """Mean and median error (cm) of ten folds, each a tenth of the session in one piece.

    Spikes are summed over a window around each sample, of all samples that have a position.
    """
    counts = np.stack(list(session.counts.values()), axis=1)
    width = round(window_s / float(np.median(np.diff(session.times_s))))
    sums = np.stack([np.convolve(n, np.ones(width), mode="same") for n in counts.T], axis=1)
    X, Y = jnp.asarray(sums, jnp.float32), jnp.asarray(session.positions_m, jnp.float32)
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
    folder = pathlib.Path(study.data_dir or "recordings")
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


SECTIONS = {"decoding": harness.Section(decoding)}

if __name__ == "__main__":
    harness.main(__file__, __doc__, SECTIONS)
