"""The tables and figures of RESULTS.md: the variants, their order on the sheet, tau and scale.

    python experiments/topo_grid/run.py                    # hexagons on a sheet of 16 x 16 units
    python experiments/topo_grid/run.py --budget=laptop    # as published, except for the size
    python experiments/topo_grid/run.py --budget=full      # as published, for a GPU
    python experiments/topo_grid/run.py --only=variants/tau

The sections `sheet` and `dealt_anew` read the runs of `variants`, and train them where they are
missing. See `experiments/harness.py`.
"""

import jax
import jax.numpy as jnp
import numpy as np

import hfjax
from experiments import harness
from hfjax.models import topo_grid

ROWS = {
    "plain": harness.Row("topo_grid_plain"),
    "topoloss": harness.Row("topo_grid_topoloss"),
    "tau": harness.Row("topo_grid"),
    "tau, penalty of the ramp": harness.Row("topo_grid", ("ramp_tau",)),
    "tau fixed as drawn": harness.Row("topo_grid", ("fixed_tau",)),
    "tau fixed, rising over rows": harness.Row("topo_grid", ("gradient_tau", "fixed_tau")),
}
SHOWN_SEEDS = 3  # in the table `dealt_anew`
# `sheet_grids` sets the place code and the walk itself.
SORSCHER_ROWS = {
    f"{name}, Sorscher's code and walk": ROWS[name]._replace(fiddlers=("sorscher",))
    for name in ("plain", "topoloss", "tau")
}
COLUMNS = {
    "error as trained (cm)": "train/error_cm",
    "20 steps (cm)": "error_cm",
    "20 steps of a rat (cm)": "rat_error_cm",
    "10 s (cm)": "rollout_error_cm",
    "score > 0.3 (%)": "grid_share_above_0.3",
    "noise > 0.3 (%)": "noise_share_above_0.3",
    "> 0.8 (%)": "grid_share_above_0.8",
    "noise > 0.8 (%)": "noise_share_above_0.8",
    "mean score": "mean_grid_score",
    "median": "median_grid_score",
    "max": "max_grid_score",
}
PUBLISHED = {
    "published, plain, 4096 units": {
        "error_cm": 4.5,
        "rollout_error_cm": 28.5,
        "grid_share_above_0.3": 0.455,
        "mean_grid_score": 0.34,
        "median_grid_score": 0.26,
        "max_grid_score": 1.5,
    },
    "published, topoloss": {
        "error_cm": 4.85,
        "rollout_error_cm": 92.0,
        "grid_share_above_0.3": 0.537,
        "mean_grid_score": 0.38,
        "median_grid_score": 0.34,
        "max_grid_score": 1.4,
    },
}
SHEET = {
    "scale": "moran_scale_z",
    "orientation": "moran_orientation_z",
    "phase": "moran_phase_z",
    "tau": "moran_tau_z",
    "Moran's I of tau": "moran_tau",
    "rank correlation of tau and scale": "tau_scale_correlation",
}


def runs_of(study: harness.Study) -> dict[str, harness.Run]:
    """The runs of `variants`, which the other sections read; complete ones are not repeated."""
    rows = ROWS if study.budget in ("sheet_grids", harness.QUICK) else ROWS | SORSCHER_ROWS
    return study._replace(section="variants").train_rows(rows)


def variants(study: harness.Study) -> str:
    """Errors and grid scores of every variant."""
    runs = runs_of(study)
    scalars = {
        name: run.evaluation() | {"train/error_cm": run.curve("train/error_cm")[-1]}
        for name, run in runs.items()
    }
    published = {
        name: {key: np.array([value]) for key, value in values.items()}
        for name, values in PUBLISHED.items()
    }
    return harness.scalar_table(scalars | published, COLUMNS)


def sheet(study: harness.Study) -> str:
    """Order of the sheet, and its figures for the first seed."""
    runs = runs_of(study)
    for name in ("plain", "topoloss", "tau"):
        if name not in runs:
            continue
        drawn = topo_grid.draw(runs[name].readout(0))
        study.save(f"sheet_{name}", drawn["sheet"], dpi=110)
        if name == "plain":
            study.save("rate_maps_plain", drawn["rate_maps"], dpi=90)
        if name == "tau":
            study.save("tau_and_scale", drawn["tau_and_scale"], dpi=110)
    return harness.scalar_table({name: run.evaluation() for name, run in runs.items()}, SHEET)


def dealt_anew(study: harness.Study) -> str:
    """Rank correlation of tau and scale, before and after the time constants are permuted.

    A line for each of the first seeds.
    """
    head = ["", "error (cm)", "tau and scale", "dealt anew: new tau and scale", "scale kept"]
    lines = [
        [f"{name}, seed {seed}", *permuted(run, seed)]
        for name, run in runs_of(study).items()
        if (ROWS | SORSCHER_ROWS)[name].config == "topo_grid"
        for seed in range(min(study.seeds, SHOWN_SEEDS))
    ]
    return harness.table(head, lines)


def permuted(run: harness.Run, seed: int) -> list[str]:
    """Permute the time constants of a trained network, map it again, and compare.

    Correlations are over units that are grid cells; that of the scale before with the scale after
    over those that are grid cells both times. Their number is in brackets.
    """
    loaded = hfjax.load(run.workdir)
    task, state = loaded.task, loaded.state
    member = jax.tree.map(lambda x: x[seed], state) if loaded.config.seeds > 1 else state
    leaky = member.params.network
    order = jax.random.permutation(jax.random.key(seed), len(leaky.log_tau))
    params = member.params._replace(network=leaky._replace(log_tau=leaky.log_tau[order]))
    evaluate = jax.jit(task.evaluate)
    (scalars, old), (new_scalars, new) = (
        evaluate(s, (), jax.random.key(100 + seed))
        for s in (member, member._replace(params=params))
    )
    is_grid, is_new_grid = (
        np.asarray(x["grid_score_60"]) > topo_grid.GRID_SCORE for x in (old, new)
    )

    def correlation(a: jax.Array, b: jax.Array, among: np.ndarray) -> str:
        return f"{float(topo_grid.spearman(a, b, jnp.asarray(among))):.2f} ({among.sum()})"

    return [
        f"{scalars['error_cm']:.1f} -> {new_scalars['error_cm']:.1f}",
        correlation(old["tau"], old["scale_m"], is_grid),
        correlation(new["tau"], new["scale_m"], is_new_grid),
        correlation(old["scale_m"], new["scale_m"], is_grid & is_new_grid),
    ]


SECTIONS = {
    "variants": harness.Section(variants, seeds=10),
    "sheet": harness.Section(sheet, seeds=10),
    "dealt_anew": harness.Section(dealt_anew, seeds=10),
}
BUDGETS = {"sheet_grids": ("sheet_grids",), "laptop": ("laptop",), "full": ()}

if __name__ == "__main__":
    harness.main(__file__, __doc__, SECTIONS, budgets=BUDGETS)
