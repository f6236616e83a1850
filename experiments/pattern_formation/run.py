"""The table of RESULTS.md: shares of maps above a grid score, for every form of the recurrence.

    python experiments/pattern_formation/run.py                          # everything
    python experiments/pattern_formation/run.py --only=shares/hierarchy --seeds=3
    python experiments/pattern_formation/run.py --budget=quick           # does it run at all?

Values are medians over seeds, with the lowest and highest seed in brackets.
"""

import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from experiments import harness

FORMS = {
    "relu": ("single map, relu (the config)", ()),
    "tanh_maps": ("single map, tanh (`tanh_maps`)", ("tanh_maps",)),
    "saturated_maps": ("single map, tanh at lr 5e-3 (`saturated_maps`)", ("saturated_maps",)),
    "hierarchy": ("hierarchy, 30 relu (`hierarchy`)", ("hierarchy",)),
    "hierarchy_tanh": ("hierarchy, tanh (`hierarchy_tanh`)", ("hierarchy_tanh",)),
}
REFERENCES = {"relu": ".94", "tanh_maps": ".16", "hierarchy": ".48", "hierarchy_tanh": ".08"}
THRESHOLDS = ("0.3", "0.37", "0.8")


def share_and_range(shares: np.ndarray) -> str:
    """Median (lowest-highest) of shares [seed], two digits without the leading zero."""
    middle, low, high = (
        f"{value:.2f}".removeprefix("0")
        for value in (np.median(shares), shares.min(), shares.max())
    )
    return f"{middle} ({low}-{high})"


def shares(study: harness.Study) -> str:
    """Share of maps above each grid score, beside the same share of low-pass noise."""
    rows = {name: harness.Row("pattern_formation", fs) for name, (_, fs) in FORMS.items()}
    runs = study.train_rows(rows)
    lines = []
    for name, run in runs.items():
        scalars = run.evaluation()
        cells = [share_and_range(scalars[f"grid_share_above_{t}"]) for t in THRESHOLDS]
        num_maps = run.readouts()["grid_score_60"].shape[1]
        lines.append([FORMS[name][0], str(num_maps), *cells, REFERENCES.get(name, "")])
    first = next(iter(runs.values()))
    noise = first.evaluation()
    cells = [share_and_range(noise[f"noise_share_above_{t}"]) for t in THRESHOLDS]
    num_noise = first.readouts()["noise_grid_score_60"].shape[1]
    lines.append(["low-pass noise", str(num_noise), *cells, ""])
    head = ["form", "maps", *(f"> {t}" for t in THRESHOLDS), "reference, > 0.37"]
    return harness.table(head, lines)


SECTIONS = {"shares": harness.Section(shares, seeds=10)}

if __name__ == "__main__":
    harness.main(__file__, __doc__, SECTIONS)
