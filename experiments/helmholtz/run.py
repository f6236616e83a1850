"""The tables and figures of RESULTS.md.

    python experiments/helmholtz/run.py                          # everything
    python experiments/helmholtz/run.py --only=autoencoder --seeds=4
    python experiments/helmholtz/run.py --only="ring_variants/eta .005"

See `experiments/harness.py`. Values are medians over seeds, with quartiles in brackets. A loss of a
row is that of its last block of 10 s, low-passed over 60 s.
"""

from collections.abc import Callable, Mapping
from typing import Any

import fiddle as fdl
import jax
import numpy as np
from matplotlib.figure import Figure

from experiments import harness
from experiments.harness import Row, Run, Study
from experiments.helmholtz import attempts
from hfjax import figures, plasticity, theta
from hfjax.models import helmholtz
from hfjax.models.helmholtz import figures as panels
from hfjax.models.helmholtz import path_integration as path
from hfjax.models.helmholtz import remapping as relearning
from hfjax.task import Scalars, Task
from hfjax.training.experiment import build_task

HALF_HOUR = 180  # steps: blocks of 10 s
BLOCKS_PER_MINUTE = 6
DPI = 80


def row(
    config: str, *fiddlers: str, half_hours: int = 1, settings: Mapping[str, Any] | None = None
) -> Row:
    """A row that learns for some half hours, with a record of every block."""
    num_steps = half_hours * HALF_HOUR
    lengths = {"num_steps": num_steps, "eval_every": num_steps, "chunk": 1}
    return Row(config, fiddlers, {**lengths, **(settings or {})})


def of_task(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the task, by path with __ for its dots, as those of a row."""
    return {f"task.{name.replace('__', '.')}": value for name, value in settings.items()}


def by_ridge(
    config: str, *fiddlers: str, half_hours: int = 1, num_tests: int = 50, **task_settings: Any
) -> Row:
    """A row of which ridge regression alone, fitted to 5 minutes, decodes position.

    task_settings: see `of_task`.
    """
    settings = {"task.protocol.decoder_s": 300.0, "task.protocol.num_tests": num_tests}
    settings |= of_task(task_settings)
    return row(config, "ridge_only", *fiddlers, half_hours=half_hours, settings=settings)


def ring(half_hours: int = 1, **task_settings: Any) -> Row:
    """A row of path integration on the ring."""
    return by_ridge("helmholtz_path_integration", half_hours=half_hours, **task_settings)


def remapped(half_hours: int = 1, **task_settings: Any) -> Row:
    """A row of remapping."""
    return by_ridge("helmholtz_remapping", half_hours=half_hours, **task_settings)


def attempt(wrap: Callable[..., Task], *, half_hours: int = 1, **parts: Any) -> Row:
    """A row of remapping by a task of `attempts`, made from the tasks of rows, or from numbers."""
    tasks = {
        name: harness.make_config(part, seeds=1).task if isinstance(part, Row) else part
        for name, part in parts.items()
    }
    return row(
        "helmholtz_remapping",
        half_hours=half_hours,
        settings={"task": fdl.Config(wrap, **tasks), "headline": ()},
    )


def autoencoder_row(*fiddlers: str, **task_settings: Any) -> Row:
    """A row of the autoencoder. task_settings: see `of_task`."""
    return row("helmholtz", *fiddlers, settings=of_task(task_settings))


AUTOENCODER_ROWS = {
    "as published": autoencoder_row(),
    "theta fraction .25": autoencoder_row(gate__fraction=0.25),
    "theta fraction .75": autoencoder_row(gate__fraction=0.75),
    "10 Hz": autoencoder_row(gate__frequency_hz=10.0),
    "sine gate": autoencoder_row("sine_gate"),
    "no L2": autoencoder_row(circuit__recurrent_l2=0.0),
    "L2 .05": autoencoder_row(circuit__recurrent_l2=0.05),
    "eta .003": autoencoder_row(circuit__learning_rate=0.003),
    "EC apical noise .01": autoencoder_row(circuit__apical_noise=0.01),
}
RULE_ROWS = {
    f"{rule.__name__}, {rate:g}": autoencoder_row(circuit__rule=rule, circuit__learning_rate=rate)
    for rule in (plasticity.dendritic_prediction, plasticity.oja, plasticity.hebb)
    for rate in (1e-3, 1e-4, 3e-5)
}
RING_ROWS = {
    "as published": ring(),
    "one hour": ring(2),
    "two hours": ring(4),
    "mean speed .2 m/s": ring(track__speed_mean_mps=0.2),
    "theta fraction .25": ring(gate__fraction=0.25),
    "theta fraction .75": ring(gate__fraction=0.75),
    "L2 .001": ring(circuit__recurrent_l2=0.001),
    "L2 .005": ring(circuit__recurrent_l2=0.005),
    "threshold .5": ring(circuit__threshold=0.5),
    "threshold 1.5": ring(circuit__threshold=1.5),
    "eta .005": ring(circuit__learning_rate=0.005),
    "eta .005, one hour": ring(2, circuit__learning_rate=0.005),
    "velocity cells x 1/1.2": ring(track__velocity_scale_mps=0.6),
    "velocity cells x 1/1.2, one hour": ring(2, track__velocity_scale_mps=0.6),
    "noise .05": ring(circuit__noise=0.05),
}
REMAPPING_ROWS = {
    "as published (mean speed .2 m/s)": remapped(),
    "mean speed 0": remapped(relearning_speed_mean_mps=0.0),
    "mean speed .5": remapped(relearning_speed_mean_mps=0.5),
    "mean speed .5, one hour": remapped(2, relearning_speed_mean_mps=0.5),
    "mean speed .35": remapped(relearning_speed_mean_mps=0.35),
    "mean speed 1": remapped(relearning_speed_mean_mps=1.0),
    "threshold 1.5, mean speed .5": remapped(relearning_speed_mean_mps=0.5, circuit__threshold=1.5),
    "mean speed .5, one hour; first hour": remapped(
        2, relearning_speed_mean_mps=0.5, pretraining_s=3600.0
    ),
    "theta fraction .25, mean speed .5": remapped(
        relearning_speed_mean_mps=0.5, gate__fraction=0.25
    ),
    "theta fraction .75, mean speed .5": remapped(
        relearning_speed_mean_mps=0.5, gate__fraction=0.75
    ),
    "mean speed .5 from the start": remapped(
        relearning_speed_mean_mps=0.5, track__speed_mean_mps=0.5
    ),
    "200 place cells, mean speed .5": remapped(
        relearning_speed_mean_mps=0.5, track__num_place=200, circuit__num_place=200
    ),
    "eta .005": remapped(circuit__learning_rate=0.005),
    "eta .005, mean speed .5": remapped(
        relearning_speed_mean_mps=0.5, circuit__learning_rate=0.005
    ),
    "theta fraction .75": remapped(gate__fraction=0.75),
    "theta fraction .75, eta .005, mean speed .5": remapped(
        relearning_speed_mean_mps=0.5, gate__fraction=0.75, circuit__learning_rate=0.005
    ),
    "fields of .12 m for 15 minutes, mean speed .5": attempt(
        attempts.in_turn,
        first=remapped(relearning_speed_mean_mps=0.5, track__sigma_m=0.12),
        then=remapped(relearning_speed_mean_mps=0.5),
        num_first=HALF_HOUR // 2,
    ),
    "mean speed .5 for 15 minutes, then .2": attempt(
        attempts.in_turn,
        first=remapped(relearning_speed_mean_mps=0.5),
        then=remapped(),
        num_first=HALF_HOUR // 2,
    ),
    "HPC and EC drawn anew, mean speed .5": attempt(
        attempts.drawn_anew, task=remapped(relearning_speed_mean_mps=0.5)
    ),
}
FREQUENCIES_HZ, FRACTIONS = (5.0, 6.0, 7.0, 8.0, 9.0, 10.0), (0.25, 0.5, 0.75)
SWEEP_ROWS = {
    f"{frequency:g} Hz, {fraction:g}": ring(
        num_tests=20, gate__frequency_hz=frequency, gate__fraction=fraction
    )
    for fraction in FRACTIONS
    for frequency in FREQUENCIES_HZ
}
TORUS_ROWS = {
    name: by_ridge("helmholtz_path_integration", "torus", half_hours=half_hours)
    for name, half_hours in (("half an hour", 1), ("two hours", 4))
}

# What the tables show: {title: name of a scalar of `scalars_of`}.
LOSSES = {"HPC": "HPC_loss", "EC": "EC_loss"}
COLUMNS = {
    "autoencoder_variants": {
        **LOSSES,
        "HPC, minute of inference": "inference_HPC_loss",
        "autocorrelation distance": "autocorrelation_distance",
    },
    "ring_variants": {
        **LOSSES,
        "error 1 s (m)": "error_1s_m",
        "error 20 s (m)": "error_end_m",
        "speed gain": "speed_gain",
    },
    "remapping_variants": {
        "HPC": "HPC_loss",
        "before, 1 s": "before_error_1s_m",
        "relearned, 1 s": "relearned_error_1s_m",
        "20 s": "relearned_error_end_m",
        "speed gain": "relearned_speed_gain",
        "reversed (%)": "reversed",
    },
    "sweep": {"HPC": "HPC_loss", "error 1 s (m)": "error_1s_m", "speed gain": "speed_gain"},
    "torus": {
        **LOSSES,
        "error 1 s (m)": "error_1s_m",
        "20 s": "error_end_m",
        "bump that stays, 1 s": "stays_error_1s_m",
        "at the cut": "perfect_error_m",
        "gain": "speed_gain",
    },
}
# line -> (its scalar of HPC and of EC, published)
AUTOENCODER_LINES = {
    "before, inference": ("before/inference_{}_loss_60s", ".735", ".501"),
    "before, generation": ("before/generation_{}_loss_60s", ".790", ".255"),
    "after 30 min, alternating": ("{}_loss", ".217", ".067"),
    "then a minute of inference": ("inference_{}_loss_60s", ".165", ".064"),
    "then a minute of generation": ("generation_{}_loss_60s", ".747", ".054"),
    **{
        f"mean over a minute of {mode}, {when}": (f"{prefix}{mode}_{{}}_loss", "", "")
        for mode in helmholtz.MODES
        for when, prefix in (("before", "before/"), ("after", ""))
    },
}
RING_LINES = {
    "HPC loss": ("HPC_loss", ".048"),
    "EC loss": ("EC_loss", ".024"),
    "error 1 s after the cut (m)": ("error_1s_m", ".068 [px]"),
    "error 20 s after the cut (m)": ("error_end_m", ""),
    "the same, ridge decoder, 1 s": ("ridge_error_1s_m", ""),
    "the same, ridge decoder, 20 s": ("ridge_error_end_m", ""),
    "control: bump that stays, 1 s": ("stays_error_1s_m", ""),
    "control: perfect integrator": ("perfect_error_m", ""),
    "speed gain of the bump": ("speed_gain", ""),
    "asymmetry of the rightward block": ("asymmetry_0", ""),
    "asymmetry of the leftward block": ("asymmetry_1", ""),
    "mean weight, fields < .06 m apart": ("recurrent_near", ""),
    "mean weight, the others": ("recurrent_far", ""),
    "share of EC units with a field": ("EC_share_with_field", ""),
}
CONDITION_COLUMNS = {
    "error 1 s (m)": "error_1s_m",
    "SEM over tests": "error_1s_sem_m",
    "error 20 s (m)": "error_end_m",
    "control: bump that stays, 1 s": "stays_error_1s_m",
    "error at the cut": "perfect_error_m",
    "speed gain": "speed_gain",
}


def scalars_of(run: Run) -> dict[str, np.ndarray]:
    """The last evaluation and the losses of the last block, each [seed]."""
    losses = {f"{layer}_loss": run.curve(f"train/{layer}_loss")[-1] for layer in LOSSES}
    return run.evaluation() | losses


def with_seeds(study: Study, text: str) -> str:
    """A section's text, and below it the number of seeds."""
    return f"{text}\n\n{study.seeds} seeds."


def variants(rows: Mapping[str, Row]) -> Callable[[Study], str]:
    """The section that shows what settings do."""

    def make(study: Study) -> str:
        runs = study.train_rows(rows)
        scalars = {name: scalars_of(run) for name, run in runs.items()}
        for values in scalars.values():
            if "relearned_speed_gain" in values:
                values["reversed"] = np.mean(values["relearned_speed_gain"] < 0, keepdims=True)
        return with_seeds(study, harness.scalar_table(scalars, COLUMNS[study.section]))

    return make


def loss_figure(run: Run, title: str) -> Figure:
    """Losses over simulated time: median over seeds, band between quartiles."""
    losses = {layer: run.curve(f"train/{layer}_loss") for layer in LOSSES}
    steps = [record["step"] for record in run.records if "train/HPC_loss" in record]
    figure = Figure(figsize=(5.5, 3.6), layout="constrained")
    ax = figure.subplots()
    for colour, (layer, values) in zip(figures.COLOURS, losses.items(), strict=False):
        low, median, high = np.quantile(values, (0.25, 0.5, 0.75), axis=1)
        minutes = np.array(steps) / BLOCKS_PER_MINUTE
        ax.fill_between(minutes, low, high, color=colour, alpha=0.25, linewidth=0)
        ax.plot(minutes, median, color=colour, label=layer)
    ax.set_yscale("log")
    ax.set_xlabel("simulated time of learning (min)")
    ax.set_ylabel("mean |basal - apical rate|, over 60 s")
    ax.set_title(f"{title}: median of {values.shape[1]} seeds, quartiles", fontsize=10)
    ax.legend(fontsize=8)
    return figure


# --- Autoencoder ---


def autoencoder(study: Study) -> str:
    """Figures 1, 2 and S1."""
    (run,) = study.train_rows({"as published": autoencoder_row()}).values()
    scalars = scalars_of(run)
    scalars |= {f"before/{name}": values for name, values in run.evaluation(0).items()}
    member = harness.median_member(scalars["HPC_loss"])
    for when, index in (("before", 0), ("after", -1)):
        for name, figure in helmholtz.draw(run.readout(member, index)).items():
            if name != "rates_alternating":
                study.save(f"autoencoder_{name}_{when}", figure, dpi=DPI)
    study.save("autoencoder_loss", loss_figure(run, "Autoencoder"), dpi=DPI)

    def here(name: str, layer: str) -> str:
        return harness.spread(scalars[name.format(layer)])

    lines = [
        [line, hpc, here(name, "HPC"), ec, here(name, "EC")]
        for line, (name, hpc, ec) in AUTOENCODER_LINES.items()
    ]
    before, after = (
        harness.spread(scalars[f"{prefix}autocorrelation_distance"]) for prefix in ("before/", "")
    )
    head = ["", "HPC published [nb]", "HPC here", "EC published [nb]", "EC here"]
    return with_seeds(
        study,
        f"{harness.table(head, lines)}\n\nDistance between the autocorrelations of latents and "
        f"generated EC activity (mean over 4 s of lags): {before} before, {after} after learning.",
    )


def hpc_losses(task: Task, *, num_blocks: int, seeds: int) -> np.ndarray:
    """HPC's loss after each block, also where it is no longer finite: [seed, block].

    The trainer would stop there.
    """

    def train(key: jax.Array) -> jax.Array:
        init_key, train_key = jax.random.split(key)

        def step(state: Any, key: jax.Array) -> tuple[Any, Scalars]:
            return task.step(state, (), key)

        keys = jax.random.split(train_key, num_blocks)
        return jax.lax.scan(step, task.init(init_key, ()), keys)[1]["HPC_loss"]

    keys = jax.vmap(jax.random.key)(np.arange(seeds))
    return np.asarray(jax.jit(jax.vmap(train))(keys))


def rules(study: Study) -> str:
    """Hebb and Oja in the autoencoder's circuit: how long until a rate is not finite."""
    num_blocks = harness.QUICK_STEPS if study.budget == harness.QUICK else HALF_HOUR
    lines = []
    for name, chosen in study.chosen(RULE_ROWS).items():
        task = build_task(harness.make_config(chosen, seeds=study.seeds))
        losses = hpc_losses(task, num_blocks=num_blocks, seeds=study.seeds)
        is_bad = ~np.isfinite(losses)
        diverged = is_bad[:, -1]
        minutes = (is_bad.argmax(axis=1) + 1) / BLOCKS_PER_MINUTE
        lines.append(
            [
                *name.split(", "),
                f"{diverged.mean():.0%}",
                harness.spread(minutes[diverged]) if diverged.any() else "",
                "" if diverged.all() else harness.spread(losses[~diverged, -1]),
            ]
        )
    head = ["rule", "eta", "seeds that diverge", "after (min)", "HPC loss of the rest"]
    return with_seeds(study, harness.table(head, lines))


# --- Path integration ---


def path_integration(study: Study) -> str:
    """Figure 3."""
    (run,) = study.train_rows({"as published": row("helmholtz_path_integration")}).values()
    scalars = scalars_of(run)
    drawn = path.draw(run.readout())
    for name in ("path_integration", "rate_maps", "weights", "rates_inference"):
        if name in drawn:  # a ring whose EC is silent has no maps
            study.save(f"ring_{name.removeprefix('path_')}", drawn[name], dpi=DPI)
    study.save("ring_loss", loss_figure(run, "Path integration"), dpi=DPI)
    study.save("ring_error", error_figure(run), dpi=DPI)
    lines = [
        [line, published, harness.spread(scalars[name])]
        for line, (name, published) in RING_LINES.items()
    ]
    return with_seeds(study, harness.table(["", "published", "here"], lines))


def error_figure(run: Run) -> Figure:
    """The error since the cut by each decoder, each seed a mean over its tests."""
    readouts = run.readouts()
    times_s = readouts["times_s"][0]
    stays = "a bump that stays where it was"
    names = {"Gaussian process": "0_gaussian_process", "ridge": "1_ridge", stays: "stays"}
    errors = {label: readouts[f"errors/{name}"].mean(axis=1) for label, name in names.items()}
    errors[stays][:, times_s < 0] = np.nan  # before the cut it would be an animal that never moves
    perfect = float(run.evaluation()["perfect_error_m"].mean())
    levels = {"perfect integrator": perfect, "chance": path.chance_error(path.RING)}
    figure = panels.error_since_cut(errors, times_s=times_s, levels=levels)
    seeds, tests = readouts["errors/stays"].shape[:2]
    title = f"Mean over {seeds} seeds (of {tests} tests each), band +-1 standard error"
    figure.axes[0].set_title(title, fontsize=10)
    return figure


def sweep(study: Study) -> str:
    """Theta frequency and fraction."""
    runs = study.train_rows(SWEEP_ROWS)
    scalars = {name: scalars_of(run) for name, run in runs.items()}
    errors = {name: values["error_1s_m"] for name, values in scalars.items()}
    study.save("sweep", sweep_figure(errors), dpi=DPI)
    lines = []
    for name, values in scalars.items():
        frequency, fraction = name.split(" Hz, ")
        gate = fdl.build(harness.make_config(SWEEP_ROWS[name], seeds=1).task.gate)
        kept = theta.tabulate(gate, dt_s=0.025).mean()
        cells = [harness.spread(values[column]) for column in COLUMNS["sweep"].values()]
        lines.append([frequency, fraction, f"{kept:.2f}", *cells])
    head = ["frequency (Hz)", "fraction", "in whole steps", *COLUMNS["sweep"]]
    return with_seeds(study, harness.table(head, lines))


def sweep_figure(errors: Mapping[str, np.ndarray]) -> Figure:
    """Error against frequency, one line a fraction; errors {row: [seed]} of the sweep."""
    figure = Figure(figsize=(5.5, 3.8), layout="constrained")
    ax = figure.subplots()
    for colour, fraction in zip(figures.COLOURS, FRACTIONS, strict=False):
        names = {f: f"{f:g} Hz, {fraction:g}" for f in FREQUENCIES_HZ}
        shown = [f for f, name in names.items() if name in errors]
        if not shown:
            continue
        quartiles = [np.quantile(errors[names[f]], (0.25, 0.5, 0.75)) for f in shown]
        low, median, high = np.transpose(quartiles)
        ax.fill_between(shown, low, high, color=colour, alpha=0.2, linewidth=0)
        ax.plot(shown, median, "o-", color=colour, label=f"theta fraction {fraction:g}")
    ax.axhline(0.25, color=figures.GREY, linestyle="--", linewidth=1.2, label="chance")
    ax.set_ylim(0, None)
    ax.set_xlabel("theta frequency (Hz)")
    ax.set_ylabel("error 1 s after the cut (m)")
    num_seeds = len(next(iter(errors.values())))
    ax.set_title(f"Median of {num_seeds} seeds, band between quartiles", fontsize=10)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    return figure


def torus(study: Study) -> str:
    """The circuit in two dimensions, and the figures of the last row."""
    runs = study.train_rows(TORUS_ROWS)
    *_, last = runs.values()
    drawn = path.draw(last.readout())
    study.save("torus_maps", drawn["rate_maps"], dpi=DPI)
    study.save("torus_weights", drawn["weights"], dpi=DPI)
    scalars = {name: scalars_of(run) for name, run in runs.items()}
    return with_seeds(study, harness.scalar_table(scalars, COLUMNS["torus"]))


# --- Remapping ---


def remapping(study: Study) -> str:
    """Figure 4."""
    (run,) = study.train_rows({"as published": row("helmholtz_remapping")}).values()
    scalars = scalars_of(run)
    maps = relearning.draw(run.readout()).get("rate_maps")
    if maps:
        study.save("remapping_maps", maps, dpi=DPI)
    study.save("remapping", remapping_figure(scalars), dpi=DPI)
    published = {"before": ".068", "after": ".24", "relearned": ".18"}
    lines = [
        [
            label,
            published[name],
            *(harness.spread(scalars[f"{name}_{n}"]) for n in CONDITION_COLUMNS.values()),
        ]
        for name, label in relearning.CONDITIONS.items()
    ]
    losses = ", ".join(
        f"{layer} {harness.spread(scalars[f'{layer}_loss'])} (published {value})"
        for layer, value in (("HPC", ".050"), ("EC", ".023"))
    )
    reversed_share = np.mean(scalars["relearned_speed_gain"] < 0)
    table = harness.table(["condition", "published, 1 s [px]", *CONDITION_COLUMNS], lines)
    return with_seeds(
        study,
        f"{table}\n\nLosses after relearning: {losses}. Seeds whose bump ran against the animal "
        f"after relearning (speed gain below 0): {reversed_share:.0%}.",
    )


def remapping_figure(scalars: Mapping[str, np.ndarray]) -> Figure:
    """Errors 1 s and 20 s after the cut in each condition, a dot a seed."""
    errors = {
        f"{when} after the cut": {
            label: scalars[f"{name}_error_{key}_m"] for name, label in relearning.CONDITIONS.items()
        }
        for when, key in (("1 s", "1s"), ("20 s", "end"))
    }
    num_seeds = len(scalars["before_error_1s_m"])
    title = f"Remapping: error of path integration (mean +- SEM of {num_seeds} seeds; a dot a seed)"
    return panels.bars_by_time(errors, level=0.25, level_label="chance", title=title)


SECTIONS = {
    "autoencoder": harness.Section(autoencoder, 20),
    "autoencoder_variants": harness.Section(variants(AUTOENCODER_ROWS), 20),
    "rules": harness.Section(rules, 10),
    "path_integration": harness.Section(path_integration, 20),
    "ring_variants": harness.Section(variants(RING_ROWS), 10),
    "remapping": harness.Section(remapping, 20),
    "remapping_variants": harness.Section(variants(REMAPPING_ROWS), 10),
    "sweep": harness.Section(sweep, 10),
    "torus": harness.Section(torus, 10),
}

if __name__ == "__main__":
    harness.main(__file__, __doc__, SECTIONS)
