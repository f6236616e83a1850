"""The tables and figures of RESULTS.md for conformal.

    python experiments/conformal/run.py                            # everything
    python experiments/conformal/run.py --only=conformal --seeds=3
    python experiments/conformal/run.py --only=variants/tanh

The table of the search in RESULTS.md is not made here. See `experiments/harness.py`.
"""

import jax
import numpy as np

import hfjax
from experiments import harness
from hfjax.training import run as train

DEFAULT = harness.Row("conformal", settings={"eval_every": 12_000})
VARIANTS = {
    "as it is": harness.Row("conformal"),
    "18 directions": harness.Row("conformal", ("discrete",)),
    "tanh": harness.Row("conformal", ("tanh",)),
    "linear": harness.Row("conformal", ("linear",)),
    "additive, 128 units a module": harness.Row("conformal", ("additive",)),
    "one module": harness.Row("conformal", ("one_module",)),
}
# Other walks for the evaluation of the trained models.
WALKS = {
    "60 s, Sorscher's walk": ("one_minute",),
    "60 s, RatInABox's animals": ("one_minute", "rat_walk"),
    "10 s, RatInABox's animals": ("rat_walk",),
}
ERRORS = {"error (cm)": "error_cm", "floor (cm)": "floor_cm"}
COLUMNS = {
    "20 steps (cm)": "error_cm",
    "10 s (cm)": "rollout_error_cm",
    "10 s of a rat (cm)": "rat_rollout_error_cm",
    "true code (cm)": "code_error_cm",
    "score > 0.3 (%)": "grid_share_above_0.3",
    "> 0.37 (%)": "grid_share_above_0.37",
    "> 0.8 (%)": "grid_share_above_0.8",
    "noise > 0.8 (%)": "noise_share_above_0.8",
    "deviation from isometry (%)": "isometry_deviation",
}


def conformal(study: harness.Study) -> dict[str, str]:
    """Errors, shares of grid cells and spacings of the default."""
    run = study.train("conformal", DEFAULT)
    for figure in ("all_maps", "isometry", "modules", "torus_2", "trajectories", "error_over_time"):
        study.keep(run, figure, figure)
    return {"conformal": errors(run), "shares": harness.share_table(run), "modules": spacings(run)}


def errors(run: harness.Run) -> str:
    """Error and floor on each kind of walk."""
    scalars = run.evaluation()
    rows = {
        "20 steps (0.4 s)": ("", scalars),
        "10 s": ("rollout_", scalars),
        "20 steps of a rat": ("rat_", scalars),
        "10 s of a rat": ("rat_rollout_", scalars),
    }
    for walk, fiddlers in WALKS.items():
        measured = evaluate_anew(run, fiddlers)
        rows[walk] = ("rollout_", measured)
        if "rat_walk" not in fiddlers:
            rows["60 s of a rat"] = ("rat_rollout_", measured)
    return harness.scalar_table(
        {
            label: {name: values[f"{kind}{name}"] for name in ERRORS.values()}
            for label, (kind, values) in rows.items()
        },
        ERRORS,
    )


def evaluate_anew(run: harness.Run, fiddlers: tuple[str, ...]) -> harness.Scalars:
    """Scalars [seed] of the trained models along other walks."""
    config = harness.make_config(harness.Row("conformal", fiddlers), seeds=1)
    config.task.evaluation.num_map_walks = 100  # the maps are those of the run
    experiment = train.build(config)
    state = hfjax.load(run.workdir).state
    evaluate = jax.jit(lambda state, key: experiment.task.evaluate(state, experiment.data, key)[0])
    seeds = state.place_centres.shape[0] if state.place_centres.ndim == 3 else 0
    members = [jax.tree.map(lambda x, i=i: x[i], state) for i in range(seeds)] or [state]
    found = [evaluate(member, jax.random.key(i)) for i, member in enumerate(members)]
    return {name: np.array([float(scalars[name]) for scalars in found]) for name in found[0]}


def spacings(run: harness.Run) -> str:
    """Spacing of each module, and their ratio beside that of the modules' s."""
    names = {f"spacing of module {k} (m)": f"spacing_{k}_m" for k in (1, 2, 3)}
    return harness.scalar_table({"conformal": run.evaluation()}, names | {"ratio": "spacing_ratio"})


def variants(study: harness.Study) -> str:
    """Other transitions, directions and numbers of modules."""
    runs = study.train_rows(VARIANTS)
    return harness.scalar_table({name: run.evaluation() for name, run in runs.items()}, COLUMNS)


def published(study: harness.Study) -> str:
    """One module with the published constants."""
    run = study.train("published", harness.Row("conformal", ("published",)))
    return harness.scalar_table({"published constants": run.evaluation()}, COLUMNS)


SECTIONS = {
    "conformal": harness.Section(conformal, seeds=10),
    "variants": harness.Section(variants, seeds=3),
    "published": harness.Section(published),
}

if __name__ == "__main__":
    harness.main(__file__, __doc__, SECTIONS)
