"""The tables and figures of RESULTS.md for grid_rnn and grid_lstm.

    python experiments/grid_rnn/run.py                           # everything
    python experiments/grid_rnn/run.py --only=cpu_grids --seeds=3

See `experiments/harness.py`. The published size needs a GPU: `python -m hfjax
--fdl_config=grid_rnn`; published_1024 takes an hour or two on a CPU with AMX, longer on others. The
table of the search in RESULTS.md is not made here: it came from a separate script of the same
equations.
"""

from experiments import harness

LAPTOP = harness.Row("grid_rnn", ("laptop",), {"eval_every": 12_000})
CPU_GRIDS = harness.Row("grid_rnn", ("cpu_grids",))
WALLED_GRIDS = harness.Row("grid_rnn", ("walled_grids",))
PUBLISHED_1024 = harness.Row(
    "grid_rnn",
    settings={
        "task.num_grid": 1024,
        "num_steps": 30_000,
        "eval_every": 3_000,
        "matmul_precision": "bfloat16",
    },
)
LSTM = harness.Row("grid_lstm", ("laptop",))

ERRORS = {"error (cm)": "error_cm", "floor (cm)": "floor_cm"}


def errors(run: harness.Run, steps: str) -> str:
    """Error and floor on the four kinds of walk. steps: the length of the short ones."""
    kinds = {
        steps: "",
        "500 steps (10 s)": "rollout_",
        f"real rat (Sargolini), {steps}": "rat_",
        "real rat, 500 steps": "rat_rollout_",
    }
    scalars = run.evaluation()
    rows = {
        label: {name: scalars[f"{kind}{name}"] for name in ERRORS.values()}
        for label, kind in kinds.items()
    }
    return harness.scalar_table(rows, ERRORS)


def laptop(study: harness.Study) -> dict[str, str]:
    """Path integration in minutes."""
    run = study.train("laptop", LAPTOP)
    return {"laptop": errors(run, "20 steps"), "shares of laptop": harness.share_table(run)}


def cpu_grids(study: harness.Study) -> dict[str, str]:
    """Hexagons in a minute, and their figures."""
    run = study.train("cpu_grids", CPU_GRIDS)
    for figure in ("rate_maps", "low_dimensional_structure"):
        study.keep(run, figure, figure)
    return {"cpu_grids": harness.share_table(run), "errors of cpu_grids": errors(run, "20 steps")}


def walled_grids(study: harness.Study) -> dict[str, str]:
    """Hexagons and integration over 10 s in a box with walls."""
    run = study.train("walled_grids", WALLED_GRIDS)
    for figure in ("rate_maps", "grid_scores", "error_over_time", "trajectories"):
        study.keep(run, figure, f"walled_{figure}")
    return {
        "walled_grids": harness.share_table(run),
        "errors of walled_grids": errors(run, "20 steps"),
    }


def published_1024(study: harness.Study) -> str:
    """Errors and shares of grid cells over the training of 1024 units, else as published."""
    run = study.train("published_1024", PUBLISHED_1024)
    for figure in ("training", "rate_maps"):
        study.keep(run, figure, f"published_1024_{figure}")
    evaluated = [record["step"] for record in run.records if "eval/error_cm" in record]
    rows = {f"{step:,} steps": run.evaluation(i) for i, step in enumerate(evaluated)}
    return harness.scalar_table(
        rows,
        {
            "20 steps (cm)": "error_cm",
            "10 s (cm)": "rollout_error_cm",
            "score > 0.3 (%)": "grid_share_above_0.3",
            "noise > 0.3 (%)": "noise_share_above_0.3",
            "> 0.8 (%)": "grid_share_above_0.8",
            "noise > 0.8 (%)": "noise_share_above_0.8",
        },
    )


def grid_lstm(study: harness.Study) -> dict[str, str]:
    """The LSTM with head-direction cells."""
    run = study.train("grid_lstm", LSTM)
    accuracy = 100 * run.curve("train/head_direction_accuracy")[-1]
    heading = (
        f"Right head-direction cell: {harness.spread(accuracy)} % of time steps (chance 8.3 %)."
    )
    return {
        "grid_lstm": errors(run, "100 steps"),
        "shares": harness.share_table(run),
        "heading": heading,
    }


SECTIONS = {
    "laptop": harness.Section(laptop, seeds=3),
    "cpu_grids": harness.Section(cpu_grids, seeds=10),
    "walled_grids": harness.Section(walled_grids, seeds=10),
    "published_1024": harness.Section(published_1024),
    "grid_lstm": harness.Section(grid_lstm),
}

if __name__ == "__main__":
    harness.main(__file__, __doc__, SECTIONS)
