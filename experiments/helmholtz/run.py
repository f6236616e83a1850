"""All figures of this folder, and the tables of RESULTS.md, from scratch.

    python experiments/helmholtz/run.py                          # everything
    python experiments/helmholtz/run.py --only autoencoder --seeds 4

Each section trains its models, writes its figures, and puts its table in RESULTS.md between the
lines `<!-- SECTION -->` and `<!-- end -->`. Values are medians over seeds (quartiles in brackets).
"""

import argparse
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from hfjax import decoders, figures, plasticity, theta
from hfjax.models import helmholtz
from hfjax.models.helmholtz import figures as panels
from hfjax.models.helmholtz import path_integration as path
from hfjax.models.helmholtz import remapping as relearning
from hfjax.task import Task

HERE = pathlib.Path(__file__).parent
HALF_HOUR = 180  # blocks of 10 s
RIDGE = path.Protocol(decoders=(decoders.ridge_decoder,), decoder_s=300.0)

Runs = dict[str, np.ndarray]  # scalar -> [seed]


def population(
    task: Task, num_seeds: int, num_blocks: int = HALF_HOUR, *, before: bool = False
) -> tuple[Runs, dict[str, np.ndarray], list[Any]]:
    """Train and evaluate one model a seed.

    -> (scalars [seed] at the end; losses [seed, block]; readouts by seed). With `before`, scalars
    and readouts hold the untrained model's too, as before/NAME.
    """

    @jax.jit
    def train(key: jax.Array) -> tuple[Any, Any, Any]:
        init_key, train_key = jax.random.split(key)
        start = task.init(init_key, ())
        end, losses = jax.lax.scan(
            lambda state, key: task.step(state, (), key),
            start,
            jax.random.split(train_key, num_blocks),
        )
        return start, end, losses

    evaluate = jax.jit(lambda state, key: task.evaluate(state, (), key))
    scalars, losses, readouts = [], [], []
    for seed in range(num_seeds):
        key, first_key, last_key = jax.random.split(jax.random.key(seed), 3)
        start, end, loss = train(key)
        last, readout = jax.device_get(evaluate(end, last_key))
        if before:
            earlier, early_readout = jax.device_get(evaluate(start, first_key))
            for now, then in ((last, earlier), (readout, early_readout)):
                now |= {f"before/{name}": value for name, value in then.items()}
        last |= {f"end/{name}": values[-1] for name, values in jax.device_get(loss).items()}
        scalars.append(last)
        losses.append(jax.device_get(loss))
        readouts.append(readout)
    stack = partial(jax.tree.map, lambda *values: np.stack(values))
    return stack(*scalars), stack(*losses), readouts


def spread(values: np.ndarray, digits: int = 3) -> str:
    """Median (lower quartile-upper quartile)."""
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    return f"{median:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def median_member(values: np.ndarray) -> int:
    """The seed with the median value (the lower of two)."""
    return int(np.argsort(values)[(len(values) - 1) // 2])


def save(name: str, figure: Figure) -> None:
    """Write HERE/name.png."""
    figure.savefig(HERE / f"{name}.png", dpi=80)


def loss_figure(losses: Mapping[str, np.ndarray], title: str) -> Figure:
    """Losses [seed, block] over simulated time: median, band between quartiles."""
    figure = Figure(figsize=(5.5, 3.6), layout="constrained")
    ax = figure.subplots()
    for colour, (name, values) in zip(figures.COLOURS, losses.items(), strict=False):
        low, median, high = np.quantile(values, [0.25, 0.5, 0.75], axis=0)
        minutes = np.arange(1, values.shape[1] + 1) / 6
        ax.fill_between(minutes, low, high, color=colour, alpha=0.25, linewidth=0)
        ax.plot(minutes, median, color=colour, label=name.removesuffix("_loss"))
    ax.set_yscale("log")
    ax.set_xlabel("simulated time of learning (min)")
    ax.set_ylabel("mean |basal - apical rate|, over 60 s")
    ax.set_title(f"{title}: median of {len(values)} seeds, quartiles", fontsize=10)
    ax.legend(fontsize=8)
    return figure


# --- Sections ---


def autoencoder(num_seeds: int) -> str:
    """Figures 1, 2 and S1."""
    scalars, losses, readouts = population(helmholtz.task(), num_seeds, before=True)
    member = median_member(scalars["end/HPC_loss"])
    now = {n: v for n, v in readouts[member].items() if not n.startswith("before/")}
    then = {n.removeprefix("before/"): v for n, v in readouts[member].items() if n not in now}
    for when, readout in (("before", then), ("after", now)):
        for name, figure in helmholtz.draw(readout).items():
            if name != "rates_alternating":
                save(f"autoencoder_{name}_{when}", figure)
    save("autoencoder_loss", loss_figure(losses, "Autoencoder"))

    published = {
        "before, inference": ("before/inference_{}_loss_60s", ".735", ".501"),
        "before, generation": ("before/generation_{}_loss_60s", ".790", ".255"),
        "after 30 min, alternating": ("end/{}_loss", ".217", ".067"),
        "then a minute of inference": ("inference_{}_loss_60s", ".165", ".064"),
        "then a minute of generation": ("generation_{}_loss_60s", ".747", ".054"),
    }
    rows = [
        [what, hpc, spread(scalars[name.format("HPC")]), ec, spread(scalars[name.format("EC")])]
        for what, (name, hpc, ec) in published.items()
    ]
    rows += [
        [
            f"mean over a minute of {mode}, {when}",
            "",
            spread(scalars[f"{prefix}{mode}_HPC_loss"]),
            "",
            spread(scalars[f"{prefix}{mode}_EC_loss"]),
        ]
        for mode in helmholtz.MODES
        for when, prefix in (("before", "before/"), ("after", ""))
    ]
    distance = [spread(scalars[f"{p}autocorrelation_distance"]) for p in ("before/", "")]
    return (
        table(["", "HPC published [nb]", "HPC here", "EC published [nb]", "EC here"], rows)
        + "\n\nDistance between the autocorrelations of latents and generated EC activity (mean "
        f"over 4 s of lags): {distance[0]} before, {distance[1]} after learning."
    )


def autoencoder_variants(num_seeds: int) -> str:
    """What the settings of the autoencoder do to its losses."""
    square = partial(partial, theta.square)
    variants: dict[str, dict[str, Any]] = {
        "as published": {},
        "theta fraction .25": {"gate": square(fraction=0.25)},
        "theta fraction .75": {"gate": square(fraction=0.75)},
        "10 Hz": {"gate": square(frequency_hz=10.0)},
        "sine gate": {"gate": theta.sine},
        "no L2": {"circuit": helmholtz.autoencoder_circuit(recurrent_l2=0.0)},
        "L2 .05": {"circuit": helmholtz.autoencoder_circuit(recurrent_l2=0.05)},
        "eta .003": {"circuit": helmholtz.autoencoder_circuit(learning_rate=0.003)},
        "EC apical noise .01": {"circuit": helmholtz.autoencoder_circuit(apical_noise=0.01)},
    }
    names = ("end/HPC_loss", "end/EC_loss", "inference_HPC_loss", "autocorrelation_distance")
    rows = []
    for what, settings in variants.items():
        scalars, _, _ = population(helmholtz.task(**settings), num_seeds)
        rows.append([what, *(spread(scalars[name]) for name in names)])
    head = ["", "HPC", "EC", "HPC, minute of inference", "autocorrelation distance"]
    return table(head, rows)


def rules(num_seeds: int) -> str:
    """Hebb and Oja in the autoencoder's circuit: how long until a rate is not finite."""
    rows = []
    for rule in (plasticity.dendritic_prediction, plasticity.oja, plasticity.hebb):
        for rate in (1e-3, 1e-4, 3e-5):
            task = helmholtz.task(
                circuit=helmholtz.autoencoder_circuit(rule=rule, learning_rate=rate)
            )

            @jax.jit
            def losses_of(key: jax.Array, task: Task = task) -> jax.Array:
                init_key, train_key = jax.random.split(key)
                keys = jax.random.split(train_key, HALF_HOUR)
                start = task.init(init_key, ())
                return jax.lax.scan(lambda s, k: task.step(s, (), k), start, keys)[1]["HPC_loss"]

            losses = np.stack([losses_of(jax.random.key(seed)) for seed in range(num_seeds)])
            failed = ~np.isfinite(losses)
            share = failed[:, -1].mean()
            when = (failed.argmax(axis=1) + 1) / 6  # minutes
            rows.append(
                [
                    rule.__name__,
                    f"{rate:g}",
                    f"{share:.0%}",
                    spread(when[failed[:, -1]], 1) if share else "",
                    "" if share == 1 else spread(losses[~failed[:, -1], -1]),
                ]
            )
    return table(["rule", "eta", "seeds that diverge", "after (min)", "HPC loss of the rest"], rows)


RING_NAMES = {
    "error 1 s after the cut (m)": "error_1s_m",
    "error 20 s after the cut (m)": "error_end_m",
    "the same, ridge decoder, 1 s": "ridge_error_1s_m",
    "the same, ridge decoder, 20 s": "ridge_error_end_m",
    "control: bump that stays, 1 s": "stays_error_1s_m",
    "control: perfect integrator": "perfect_error_m",
    "speed gain of the bump": "speed_gain",
    "asymmetry of the rightward block": "asymmetry_0",
    "asymmetry of the leftward block": "asymmetry_1",
    "mean weight, fields < .06 m apart": "recurrent_near",
    "mean weight, the others": "recurrent_far",
    "share of EC units with a field": "EC_share_with_field",
}


def path_integration(num_seeds: int) -> str:
    """Figure 3."""
    scalars, losses, readouts = population(path.task(), num_seeds)
    member = median_member(scalars["error_1s_m"])
    drawn = path.draw(readouts[member])
    for name in ("path_integration", "rate_maps", "weights", "rates_inference"):
        save(f"ring_{name.removeprefix('path_')}", drawn[name])
    save("ring_loss", loss_figure(losses, "Path integration"))
    by_seed = {
        label: np.stack([readout[name].mean(axis=0) for readout in readouts])
        for label, name in (
            ("Gaussian process", "errors/0_gaussian_process"),
            ("ridge", "errors/1_ridge"),
            ("a bump that stays where it was", "errors/stays"),
        )
    }
    times_s = readouts[0]["times_s"]
    by_seed["a bump that stays where it was"][:, times_s < 0] = np.nan
    levels = {"perfect integrator": float(scalars["perfect_error_m"].mean()), "chance": 0.25}
    figure = panels.error_since_cut(by_seed, times_s=times_s, levels=levels)
    figure.axes[0].set_title(
        f"Mean over {num_seeds} seeds (of 50 tests each), band +-1 standard error", fontsize=10
    )
    save("ring_error", figure)
    published = {"end/HPC_loss": ".048", "end/EC_loss": ".024", "error_1s_m": ".068 [px]"}
    names = {"HPC loss": "end/HPC_loss", "EC loss": "end/EC_loss", **RING_NAMES}
    rows = [[what, published.get(n, ""), spread(scalars[n])] for what, n in names.items()]
    return table(["", "published", "here"], rows)


def ring_variants(num_seeds: int) -> str:
    """What the settings do to path integration, by the ridge decoder."""
    square = partial(partial, theta.square)
    circuit = path.path_integrator
    variants: dict[str, tuple[dict[str, Any], int]] = {
        "as published": ({}, 1),
        "one hour": ({}, 2),
        "two hours": ({}, 4),
        "mean speed .2 m/s": ({"track": path.Track(speed_mean_mps=0.2)}, 1),
        "theta fraction .25": ({"gate": square(fraction=0.25)}, 1),
        "theta fraction .75": ({"gate": square(fraction=0.75)}, 1),
        "L2 .001": ({"circuit": circuit(recurrent_l2=0.001)}, 1),
        "L2 .005": ({"circuit": circuit(recurrent_l2=0.005)}, 1),
        "threshold .5": ({"circuit": circuit(threshold=0.5)}, 1),
        "threshold 1.5": ({"circuit": circuit(threshold=1.5)}, 1),
        "eta .005": ({"circuit": circuit(learning_rate=0.005)}, 1),
        "eta .005, one hour": ({"circuit": circuit(learning_rate=0.005)}, 2),
        "velocity cells x 1/1.2": ({"track": path.Track(velocity_scale_mps=0.6)}, 1),
        "velocity cells x 1/1.2, one hour": ({"track": path.Track(velocity_scale_mps=0.6)}, 2),
        "noise .05": ({"circuit": circuit(noise=0.05)}, 1),
    }
    names = ("end/HPC_loss", "end/EC_loss", "error_1s_m", "error_end_m", "speed_gain")
    rows = []
    for what, (settings, half_hours) in variants.items():
        task = path.task(protocol=RIDGE, **settings)
        scalars, _, _ = population(task, num_seeds, HALF_HOUR * half_hours)
        rows.append([what, *(spread(scalars[name]) for name in names)])
    return table(["", "HPC", "EC", "error 1 s (m)", "error 20 s (m)", "speed gain"], rows)


CONDITIONS = {"before": "before", "after": "right after", "relearned": "relearned"}


def remapping(num_seeds: int) -> str:
    """Figure 4."""
    scalars, _, readouts = population(relearning.task(), num_seeds)
    member = median_member(scalars["relearned_error_1s_m"])
    save("remapping_maps", relearning.draw(readouts[member])["rate_maps"])
    figure = panels.condition_bars(
        {
            f"{when} after the cut": {
                label: scalars[f"{name}_error_{key}_m"] for name, label in CONDITIONS.items()
            }
            for when, key in (("1 s", "1s"), ("20 s", "end"))
        },
        level=0.25,
        level_label="chance",
        title=f"Remapping: error of path integration (mean +- SEM of {num_seeds} seeds; a dot a "
        "seed)",
    )
    save("remapping", figure)
    published = {"before": ".068", "after": ".24", "relearned": ".18"}
    rows = [
        [
            label,
            published[name],
            spread(scalars[f"{name}_error_1s_m"]),
            spread(scalars[f"{name}_error_1s_sem_m"]),
            spread(scalars[f"{name}_error_end_m"]),
            spread(scalars[f"{name}_stays_error_1s_m"]),
            spread(scalars[f"{name}_perfect_error_m"]),
            spread(scalars[f"{name}_speed_gain"], 2),
        ]
        for name, label in CONDITIONS.items()
    ]
    losses = ", ".join(
        f"{layer} {spread(scalars[f'end/{layer}_loss'])} (published {value})"
        for layer, value in (("HPC", ".050"), ("EC", ".023"))
    )
    reversed_share = np.mean(scalars["relearned_speed_gain"] < 0)
    return (
        table(
            [
                "condition",
                "published, 1 s [px]",
                "error 1 s (m)",
                "SEM over tests",
                "error 20 s (m)",
                "control: bump that stays, 1 s",
                "error at the cut",
                "speed gain",
            ],
            rows,
        )
        + f"\n\nLosses after relearning: {losses}. Seeds whose bump ran against the animal after "
        f"relearning (speed gain below 0): {reversed_share:.0%}."
    )


def remapping_variants(num_seeds: int) -> str:
    """What the settings do to relearning, by the ridge decoder."""
    hour = {"pretraining_s": 3600.0}
    variants: dict[str, tuple[dict[str, Any], int]] = {
        "as published (mean speed .2 m/s)": ({}, 1),
        "mean speed 0": ({"relearning_speed_mean_mps": 0.0}, 1),
        "mean speed .5": ({"relearning_speed_mean_mps": 0.5}, 1),
        "mean speed .5, one hour": ({"relearning_speed_mean_mps": 0.5}, 2),
        "mean speed .35": ({"relearning_speed_mean_mps": 0.35}, 1),
        "mean speed 1": ({"relearning_speed_mean_mps": 1.0}, 1),
        "threshold 1.5, mean speed .5": (
            {
                "relearning_speed_mean_mps": 0.5,
                "circuit": path.path_integrator(threshold=1.5),
            },
            1,
        ),
        "mean speed .5, one hour; first hour": ({"relearning_speed_mean_mps": 0.5, **hour}, 2),
        "theta fraction .25, mean speed .5": (
            {"relearning_speed_mean_mps": 0.5, "gate": partial(theta.square, fraction=0.25)},
            1,
        ),
    }
    names = ("end/HPC_loss", "before_error_1s_m", "relearned_error_1s_m", "relearned_error_end_m")
    rows = []
    for what, (settings, half_hours) in variants.items():
        task = relearning.task(protocol=RIDGE, **settings)
        scalars, _, _ = population(task, num_seeds, HALF_HOUR * half_hours)
        gain = scalars["relearned_speed_gain"]
        rows.append(
            [
                what,
                *(spread(scalars[n]) for n in names),
                spread(gain, 2),
                f"{np.mean(gain < 0):.0%}",
            ]
        )
    head = ["", "HPC", "before, 1 s", "relearned, 1 s", "20 s", "speed gain", "reversed"]
    return table(head, rows)


def sweep(num_seeds: int) -> str:
    """Theta frequency and fraction: all gates of a seed at once, as a population under vmap."""
    frequencies, fractions, dt_s = (5.0, 6.0, 7.0, 8.0, 9.0, 10.0), (0.25, 0.5, 0.75), 0.025
    gates = [(f, share) for share in fractions for f in frequencies]
    tables = jnp.stack(
        [
            theta.tabulate(partial(theta.square, frequency_hz=f, fraction=share), dt_s=dt_s)
            for f, share in gates
        ]
    ).astype(jnp.float32)
    track = path.RING
    machine = helmholtz.make_machine(
        path.path_integrator(),
        helmholtz.place_world(track, dt_s=dt_s),
        gate=theta.square,
        dt_s=dt_s,
        loss_from_s=dt_s,
    )

    @jax.jit
    @partial(jax.vmap, in_axes=(0, None))
    def member(thetas: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        keys = jax.random.split(key, 4)
        gated = machine._replace(thetas=thetas)
        state = helmholtz.HelmholtzState(
            helmholtz.init_circuit(keys[0], machine.circuit), machine.world.start(keys[1])
        )
        state, _, _ = helmholtz.simulate(gated, state, keys[2], num_steps=72_000)
        scalars, _ = path.measure_path_integration(
            gated, state, keys[3], track=track, protocol=RIDGE._replace(num_tests=20)
        )
        return scalars["error_1s_m"], scalars["speed_gain"], state.circuit.losses["HPC"]

    members = [jax.device_get(member(tables, jax.random.key(seed))) for seed in range(num_seeds)]
    error, gain, loss = (np.stack(values, axis=1) for values in zip(*members, strict=True))
    figure = Figure(figsize=(5.5, 3.8), layout="constrained")
    ax = figure.subplots()
    for colour, share in zip(figures.COLOURS, fractions, strict=False):
        here = [i for i, gate in enumerate(gates) if gate[1] == share]
        low, median, high = np.quantile(error[here], [0.25, 0.5, 0.75], axis=1)
        ax.fill_between(frequencies, low, high, color=colour, alpha=0.2, linewidth=0)
        ax.plot(frequencies, median, "o-", color=colour, label=f"theta fraction {share:g}")
    ax.axhline(0.25, color=figures.GREY, linestyle="--", linewidth=1.2, label="chance")
    ax.set_ylim(0, None)
    ax.set_xlabel("theta frequency (Hz)")
    ax.set_ylabel("error 1 s after the cut (m)")
    ax.set_title(f"Median of {num_seeds} seeds, band between quartiles", fontsize=10)
    ax.legend(fontsize=8)
    save("sweep", figure)
    kept = np.asarray(tables.mean(axis=1))
    rows = [
        [
            f"{f:g}",
            f"{share:g}",
            f"{kept[i]:.2f}",
            spread(loss[i]),
            spread(error[i]),
            spread(gain[i], 2),
        ]
        for i, (f, share) in enumerate(gates)
    ]
    head = ["frequency (Hz)", "fraction", "in whole steps", "HPC", "error 1 s (m)", "speed gain"]
    return table(head, rows)


def torus(num_seeds: int) -> str:
    """The circuit in two dimensions."""
    track = path.Track(num_dims=2, num_place=225, sigma_m=0.1)
    rows, names = [], ("end/HPC_loss", "end/EC_loss", "error_1s_m", "error_end_m")
    for what, half_hours in (("half an hour", 1), ("two hours", 4)):
        task = path.task(track=track, protocol=RIDGE)
        scalars, _, readouts = population(task, num_seeds, HALF_HOUR * half_hours)
        rows.append(
            [
                what,
                *(spread(scalars[name]) for name in names),
                spread(scalars["stays_error_1s_m"]),
                spread(scalars["perfect_error_m"]),
                spread(scalars["speed_gain"], 2),
            ]
        )
    drawn = path.draw(readouts[median_member(scalars["error_1s_m"])])
    save("torus_maps", drawn["rate_maps"])
    save("torus_weights", drawn["weights"])
    head = ["", "HPC", "EC", "error 1 s (m)", "20 s", "bump that stays, 1 s", "at the cut", "gain"]
    return table(head, rows)


# name -> (section, seeds)
SECTIONS: dict[str, tuple[Callable[[int], str], int]] = {
    "autoencoder": (autoencoder, 20),
    "autoencoder_variants": (autoencoder_variants, 20),
    "rules": (rules, 8),
    "path_integration": (path_integration, 20),
    "ring_variants": (ring_variants, 8),
    "remapping": (remapping, 20),
    "remapping_variants": (remapping_variants, 8),
    "sweep": (sweep, 5),
    "torus": (torus, 3),
}


def write(name: str, text: str) -> None:
    """Put a section's table between its marks in RESULTS.md."""
    results = HERE / "RESULTS.md"
    content = results.read_text()
    start, end = f"<!-- {name} -->\n", "<!-- end -->"
    before, _, rest = content.partition(start)
    if not rest:
        raise ValueError(f"RESULTS.md has no line {start.strip()}")
    results.write_text(before + start + text + "\n" + end + rest.partition(end)[2])


def main() -> None:
    """Run all sections, or those that were asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=SECTIONS, help="may be repeated")
    parser.add_argument("--seeds", type=int, help="in place of each section's own number")
    options = parser.parse_args()
    for name, (section, num_seeds) in SECTIONS.items():
        if options.only and name not in options.only:
            continue
        num_seeds = options.seeds or num_seeds
        print(f"{name}: {num_seeds} seeds", flush=True)
        start = time.perf_counter()
        text = section(num_seeds)
        minutes = (time.perf_counter() - start) / 60
        write(name, f"{text}\n\n{num_seeds} seeds, {minutes:.1f} min.")
        print(f"{text}\n{minutes:.1f} min\n", flush=True)


if __name__ == "__main__":
    main()
