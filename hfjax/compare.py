"""Models beside cells: `python -m hfjax.compare RUN [RUN ...] --recordings=DIR --out=DIR`.

A model's units are driven along a rat's real path and turned into Poisson spikes with the mean
rates of the recorded cells. These spikes go through the recordings' own pipeline: the same rate
maps, scores and shuffles. So a model is not favoured by noiseless rates and even sampling.
"""

import argparse
import csv
import functools
import io
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from scipy import ndimage

from hfjax import check, decoders, figures, ratemaps
from hfjax.data import recordings
from hfjax.data.recordings.scoring import KINDS, SIGNIFICANT, kinds
from hfjax.errors import DataFileError, InputError, OneSentence, one_line
from hfjax.files import local_path, write_atomically
from hfjax.task import PATH

WINDOW_S, TRAINED = 1.4, 0.8  # of spikes that are decoded together; share of time to fit decoders


class Population(NamedTuple):
    """Cells that are compared.

    name            of the folder of recordings, or of the run.
    scored          one or more recordings.
    noiseless       grid score [unit] of a model's rates along the same path, without spikes; empty
                    for recorded cells.
    driven          how a model's units were driven: "path", or "map" where the model has no
                    `Task.apply` and the rate map gives the rate at each position, which is the same
                    where rates depend on position alone; "" for cells.
    """

    name: str
    scored: tuple[recordings.Scored, ...]
    noiseless: np.ndarray
    driven: str


# --- Models along a rat's path ---


def rates_along(
    workdir: str, positions_m: np.ndarray, *, dt_s: float, num_units: int, seed: int
) -> tuple[np.ndarray, str]:
    """Activity of some units of a run along a path, and how they were driven.

    The path is moved to the middle of the model's box, and scaled so that its longer side fits. It
    is sampled with the model's own time step, and the activity with that of the path again, both
    linearly.

    workdir      of a run.
    positions_m  [time, 2] (m), every dt_s.
    num_units    units at most; a random choice of them.
    seed         of the choice.

    -> activity [time, unit], 0 or more: that of a unit less its minimum, where it has negative
    values; and "path" or "map". Raises InputError where the run has neither `Task.apply` nor
    rate maps over two dimensions.
    """
    from hfjax.training.run import load

    task, state, config, _ = load(workdir)
    extent, maps = _maps_of(workdir)
    units = np.random.default_rng(seed).permutation(len(maps))[:num_units]
    units = units[np.ptp(np.nan_to_num(maps[units]), axis=(1, 2)) > 0]
    inside = _into(positions_m, extent)
    one_seed = config is None or config.seeds == 1
    if (drive := task.apply) is not None and task.inputs == PATH and one_seed:
        apply = jax.jit(lambda path: drive(state, path)[:, units])
        times_s = dt_s * np.arange(len(inside))
        own_dt_s = task.dt_s or dt_s
        own_s = own_dt_s * np.arange(1 + round(times_s[-1] / own_dt_s))
        activity = apply(jnp.asarray(_at(own_s, times_s, inside), jnp.float32))
        return _not_negative(_at(times_s, own_s, np.asarray(activity))), "path"
    return _not_negative(_looked_up(maps[units], extent, inside)), "map"


def _maps_of(workdir: str | pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    """Extent [2, 2] (m) and rate maps [unit, x, y] of the newest readout.

    Raises InputError where there are none.
    """
    from hfjax.training.workdir import load_readout

    _, arrays = load_readout(workdir)
    for maps, extent in (("rate_maps", "extent_m"), ("maps", "shown_extent")):
        if maps in arrays and extent in arrays and arrays[maps].ndim >= 3:
            found = arrays[maps]
            return arrays[extent], found.reshape(-1, *found.shape[-2:])
    raise InputError(f"{workdir} has no units with rate maps in two dimensions.")


def _into(positions_m: np.ndarray, extent: np.ndarray) -> np.ndarray:
    """A path [time, 2] in a box: its longer side fits, and the middles coincide."""
    low, high = positions_m.min(axis=0), positions_m.max(axis=0)
    scale = np.ptp(extent, axis=1).min() / (high - low).max()
    return (positions_m - (low + high) / 2) * scale + np.mean(extent, axis=1)


def _at(times_s: np.ndarray, known_s: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Values [known, n] at other times, linear in between -> [time, n]."""
    return np.stack([np.interp(times_s, known_s, column) for column in values.T], axis=1)


def _looked_up(maps: np.ndarray, extent: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Maps [unit, x, y] at positions [time, 2] -> [time, unit], linear between middles of bins."""
    shape = np.array(maps.shape[1:])
    place = (positions - extent[:, 0]) / np.ptp(extent, axis=1) * shape - 0.5
    read = functools.partial(ndimage.map_coordinates, order=1, mode="nearest")
    return np.stack([read(values, place.T) for values in np.nan_to_num(maps)], axis=1)


def _not_negative(activity: np.ndarray) -> np.ndarray:
    return activity - np.minimum(activity.min(axis=0, keepdims=True), 0)


def poisson_counts(
    activity: np.ndarray, mean_rates_hz: np.ndarray, *, dt_s: float, seed: int
) -> np.ndarray:
    """Spikes of Poisson processes whose rates follow an activity.

    activity [time, unit], 0 or more; mean_rates_hz: from which each unit draws its mean rate; dt_s
    of a sample -> counts [time, unit]. A unit that is never active has no spikes.
    """
    rng = np.random.default_rng(seed)
    mean = activity.mean(axis=0, keepdims=True)
    chosen = rng.choice(mean_rates_hz, activity.shape[1])[None]
    return rng.poisson(
        np.where(mean > 0, activity / np.where(mean > 0, mean, 1), 0) * chosen * dt_s
    )


def modelled(
    workdir: str,
    path: recordings.Recording,
    mean_rates_hz: np.ndarray,
    *,
    name: str | None = None,
    num_units: int,
    num_shuffles: int,
    seed: int,
) -> Population:
    """A run's units as if they had been recorded along a path; see the module.

    name: of the population; None for that of the run's folder.
    """
    whole = recordings.clean(path, min_speed_mps=0, max_speed_mps=np.inf, max_gap_s=np.inf)
    known = np.isfinite(whole.positions_m[:, 0])
    index = np.arange(len(known))
    complete = _at(index, index[known], whole.positions_m[known])
    activity, driven = rates_along(
        workdir, complete, dt_s=whole.dt_s, num_units=num_units, seed=seed
    )
    counts = poisson_counts(activity, mean_rates_hz, dt_s=whole.dt_s, seed=seed)
    name = name or pathlib.Path(workdir).name
    units = tuple(f"{name}_{number:03}" for number in range(counts.shape[1]))
    cleaned = recordings.clean(path)._replace(
        name=name, counts=counts, units=units, spike_times_s={}, problems=()
    )
    scored = recordings.score(cleaned, num_shuffles=num_shuffles, seed=seed)
    return Population(name, (scored,), _noiseless(scored, activity), driven)


def _noiseless(scored: recordings.Scored, activity: np.ndarray) -> np.ndarray:
    """Grid score [unit] of the mean activity in each bin of the same path and smoothing."""
    choices = scored.choices
    maps = ratemaps.rate_maps(
        jnp.asarray(scored.cleaned.positions_m, jnp.float32),
        jnp.asarray(activity, jnp.float32),
        num_bins=(scored.maps.shape[1], scored.maps.shape[2]),
        extent=scored.extent_m,
    )
    smooth = ratemaps.smooth(maps, choices["smoothing_m"] / choices["bin_width_m"])
    return np.asarray(ratemaps.recording_grid_scores(smooth).score)


# --- Decoding ---


def decoding_errors_cm(scored: recordings.Scored, *, num_cells: int, seed: int) -> dict[str, float]:
    """Mean error (cm) of position from spikes in windows of 1.4 s, on the last fifth of the time.

    {"bayesian", "ridge", "mean position"}, of a random subsample of num_cells cells. Spikes are
    counted in steps of .2 s. All samples with a position count.
    """
    cleaned = scored.cleaned
    step = max(1, round(0.2 / cleaned.dt_s))
    window = max(1, round(WINDOW_S / (step * cleaned.dt_s)))
    length = len(cleaned.counts) // step * step
    cells = np.random.default_rng(seed).permutation(cleaned.counts.shape[1])[:num_cells]
    counts = cleaned.counts[:length, cells].reshape(-1, step, len(cells)).sum(axis=1)
    sums = decoders.windowed(counts, window)
    places = cleaned.positions_m[:length].reshape(-1, step, 2)[:, step // 2]
    known = np.isfinite(places[:, 0])
    windows = jnp.asarray(sums[known], jnp.float32)
    targets = jnp.asarray(places[known], jnp.float32)
    split = int(TRAINED * len(windows))
    fitted = windows[:split], targets[:split], windows[split:]
    predicted = {
        "bayesian": decoders.bayesian_decoder(*fitted),
        "ridge": decoders.ridge_decoder(*fitted, alpha=1.0),
        "mean position": jnp.broadcast_to(
            targets[:split].mean(axis=0)[None], targets[split:].shape
        ),
    }
    return {
        name: float(100 * jnp.mean(jnp.linalg.norm(got - targets[split:], axis=1)))
        for name, got in predicted.items()
    }


# --- Table and figure ---


def _all(population: Population, column: str) -> np.ndarray:
    return np.concatenate([scored.columns[column] for scored in population.scored])


def shares(population: Population) -> dict[str, float]:
    """The share of cells of each kind; NaN where no head direction was recorded."""
    found = [kinds(scored.columns) for scored in population.scored]
    share = {k: float(np.mean(np.concatenate([of[k] for of in found]))) for k in KINDS}
    if all(scored.direction_curves is None for scored in population.scored):
        share["head-direction"] = np.nan
    return share


def _median(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else np.nan


def row(population: Population, *, num_cells: int, seed: int) -> dict[str, Any]:
    """What the table says of a population."""
    cells = len(_all(population, "grid_score"))
    is_grid = _all(population, "grid_score_p") < SIGNIFICANT
    spacing = _all(population, "grid_spacing_m")[is_grid]
    sides = _sides_m(population)
    decoded = {
        f"{name} error_cm, {of}": error
        for of, size in ((f"{num_cells} cells", num_cells), ("all cells", 0))
        for name, error in _mean_errors_cm(population, num_cells, size, seed).items()
    }
    return {
        "population": population.name,
        "driven by": population.driven or "recorded",
        "cells": cells,
        **{f"{kind} cells": share for kind, share in shares(population).items()},
        "median grid score": _median(_all(population, "grid_score")),
        "median grid score without spikes": _median(population.noiseless),
        "spacing of grid cells (cm)": 100 * _median(spacing),
        "spacing / longer side": _median(spacing / sides[is_grid]),
        "largest field (cm2)": 1e4 * _median(_all(population, "largest_field_m2")),
        "median bits/spike": _median(_all(population, "information_bits_per_spike")),
        **decoded,
    }


def _mean_errors_cm(population: Population, least: int, size: int, seed: int) -> dict[str, float]:
    """`decoding_errors_cm`, the mean over recordings of at least so many cells, 2 or more.

    size: of the random subsample; 0 for all cells.
    """
    errors = [
        decoding_errors_cm(s, num_cells=size or len(s.maps), seed=seed)
        for s in population.scored
        if len(s.maps) >= least > 1
    ]
    return {
        name: float(np.mean([e[name] for e in errors])) if errors else np.nan
        for name in ("bayesian", "ridge", "mean position")
    }


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as csv; a number that does not exist is left empty."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(rows[0])
    for one in rows:
        writer.writerow(
            [
                v if isinstance(v, (str, int)) else f"{v:.4g}" if np.isfinite(v) else ""
                for v in one.values()
            ]
        )
    return stream.getvalue()


class Panel(NamedTuple):
    """A distribution over cells: its column, label, limits, factor, and whether of grid cells."""

    column: str
    label: str
    limits: tuple[float, float]
    factor: float = 1.0
    of_grid_cells: bool = False


PANELS = (
    Panel("grid_score", "grid score", (-1.0, 1.5)),
    Panel("grid_spacing_m", "spacing of grid cells (cm)", (0.0, 150.0), 100.0, True),
    Panel("spacing / side", "spacing / longer side of the arena", (0.0, 0.8), 1.0, True),
    Panel("largest_field_m2", "largest field (cm$^2$)", (0.0, 6000.0), 1e4),
    Panel("information_bits_per_spike", "information (bits/spike)", (0.0, 4.0)),
)


def draw(populations: Sequence[Population]) -> Figure:
    """Shares of significant cells, and distributions of score, spacing, field and information."""
    figure = Figure(figsize=(13.3, 8), layout="constrained")
    axes = figure.subplots(2, 3).ravel()
    figure.suptitle(
        "Models (hatched, dotted) and cells through the same pipeline: spikes along a rat's path"
    )
    _draw_shares(populations, axes[0])
    for ax, panel in zip(axes[1:], PANELS, strict=True):
        _draw_distributions(populations, panel, ax)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, fontsize=9)
    return figure


def _draw_distributions(populations: Sequence[Population], panel: Panel, ax: Any) -> None:
    """The cumulative distribution of a column in each population; values beyond are at the edge."""
    for population, colour in zip(populations, _colours(len(populations)), strict=True):
        if panel.column == "spacing / side":
            values = _all(population, "grid_spacing_m") / _sides_m(population)
        else:
            values = panel.factor * _all(population, panel.column)
        if panel.of_grid_cells:
            values = values[_all(population, "grid_score_p") < SIGNIFICANT]
        values = np.clip(values[np.isfinite(values)], *panel.limits)
        if len(values) > 2:  # of one cell or two there is no distribution
            x = np.concatenate([[panel.limits[0]], np.sort(values), [panel.limits[1]]])
            F = np.concatenate([np.arange(len(values) + 1) / len(values), [1.0]])
            style = ":" if population.driven else "-"
            ax.step(x, F, style, where="post", color=colour, linewidth=1.8)
    ax.set(
        xlim=panel.limits, ylim=(-0.03, 1.03), xlabel=panel.label, ylabel="share of cells up to x"
    )


def _sides_m(population: Population) -> np.ndarray:
    """The longer side of each cell's arena [cell] (m)."""
    sides = [
        np.full(len(s.maps), np.ptp(np.asarray(s.extent_m), axis=1).max())
        for s in population.scored
    ]
    return np.concatenate(sides)


def _colours(count: int) -> list[Any]:
    import matplotlib

    return [
        matplotlib.colormaps["tab20"]((2 * number + number // 10) % 20) for number in range(count)
    ]


def _draw_shares(populations: Sequence[Population], ax: Any) -> None:
    """Bars of the share of each kind of cell, one group for each kind."""
    width = 0.8 / len(populations)
    for number, (population, colour) in enumerate(
        zip(populations, _colours(len(populations)), strict=True)
    ):
        heights = [100 * share for share in shares(population).values()]
        x = np.arange(len(heights)) + (number - (len(populations) - 1) / 2) * width
        hatch = "//" if population.driven else None
        ax.bar(
            x, heights, width, color=colour, hatch=hatch, edgecolor="white", label=population.name
        )
    ax.axhline(100 * SIGNIFICANT, color=figures.GREY, linestyle=":", linewidth=1)
    ax.set_xticks(np.arange(len(KINDS)), [kind.replace("-", "-\n") for kind in KINDS])
    ax.set(
        ylabel="cells at p < .01 (%)", xlabel="kind of cell (dotted line: chance)", ylim=(0, 105)
    )


# --- The command ---


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    options = _parser().parse_args(arguments)
    jax.config.update("jax_numpy_rank_promotion", "raise")
    console = Console(soft_wrap=True, highlight=False)
    out = local_path(options.out)
    try:
        found = compared(
            options.recordings,
            {pathlib.Path(run).name: run for run in options.runs},
            num_units=options.num_units,
            num_shuffles=options.num_shuffles,
            seed=options.seed,
            tell=lambda line: console.print(line, markup=False),
        )
        rows = all_rows(found, seed=options.seed)
        write_atomically(out / "table.csv", table(rows).encode())
        buffer = io.BytesIO()
        draw(found).savefig(buffer, format="png", dpi=120)
        write_atomically(out / "compare.png", buffer.getvalue())
    except (ValueError, OSError, ModuleNotFoundError) as error:
        sys.stderr.write(f"hfjax: {one_line(error)}\n")
        return 2
    for one in rows:
        share = {kind: one[f"{kind} cells"] for kind in KINDS}
        text = ", ".join(f"{100 * x:.0f} % {kind}" for kind, x in share.items() if np.isfinite(x))
        console.print(f"{one['population']} ({one['cells']} cells): {text}", markup=False)
    console.print(f"{out}: table.csv, compare.png", markup=False)
    return 0


def compared(
    folder: str | pathlib.Path,
    runs: Mapping[str, str | pathlib.Path],
    *,
    num_units: int = 64,
    num_shuffles: int = 500,
    seed: int = 0,
    tell: Callable[[str], None] = lambda line: None,
) -> list[Population]:
    """The recordings of a folder, by subfolder, and then runs {name: workdir} along a rat's path.

    The path is that of the recording with the shortest interval between samples, and of those the
    one with the least lost tracking. Mean rates are drawn from all recorded cells.

    num_units     units at most of a run.
    num_shuffles  circular shifts of each cell.
    seed          of all random choices.
    tell          is told what happens.

    Raises InputError, DataFileError or ValueError where a run or a recording cannot be used.
    """
    check.at_least(1, num_units=num_units, num_shuffles=num_shuffles)
    groups = _recordings(local_path(folder))
    for run in runs.values():  # before minutes of scoring
        _maps_of(run)
    score = functools.partial(recordings.score, num_shuffles=num_shuffles, seed=seed)
    populations = []
    for name, sessions in groups.items():
        tell(f"scoring {name}")
        scored = tuple(score(recordings.clean(session)) for session in sessions)
        populations.append(Population(name, scored, np.zeros(0), ""))
    path = min(
        (s for sessions in groups.values() for s in sessions),
        key=lambda s: (np.median(np.diff(s.times_s)), np.isnan(s.positions_m).mean()),
    )
    rates = np.concatenate([_all(p, "mean_rate_hz") for p in populations])
    settings = {"num_units": num_units, "num_shuffles": num_shuffles, "seed": seed}
    for name, run in runs.items():
        tell(f"driving {name} along {path.name}")
        populations.append(modelled(str(run), path, rates[rates > 0], name=name, **settings))
    return populations


def all_rows(populations: Sequence[Population], *, seed: int) -> list[dict[str, Any]]:
    """The rows of the table; decoding is from subsamples of the size of the smallest population.

    A population of single cells has no decoding.
    """
    largest = [max(len(s.maps) for s in p.scored) for p in populations]
    size = min((number for number in largest if number > 1), default=1)
    return [row(p, num_cells=size, seed=seed) for p in populations]


def _recordings(folder: pathlib.Path) -> dict[str, list[recordings.Recording]]:
    """The recordings of a folder and its subfolders, by the folder that they are in."""
    files = sorted(f for f in folder.rglob("*") if f.suffix.lower() in (".npz", ".nwb"))
    if not files:
        raise DataFileError(f"{folder} contains no recordings (npz or nwb)")
    groups: dict[str, list[recordings.Recording]] = {}
    for file in files:
        groups.setdefault(file.parent.name, []).append(recordings.load(file))
    return groups


def _parser() -> argparse.ArgumentParser:
    parser = OneSentence(
        prog="hfjax.compare",
        usage="python -m hfjax.compare RUN [RUN ...] --recordings=DIR --out=DIR",
        description="Models' units and recorded cells, measured in the same way.",
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a trained run")
    parser.add_argument("--recordings", required=True, help="folder of recordings")
    parser.add_argument("--out", required=True, help="folder to write table.csv and compare.png to")
    parser.add_argument("--num_units", type=int, default=64, help="units of a model (default 64)")
    parser.add_argument("--num_shuffles", type=int, default=500, help="default 500")
    parser.add_argument("--seed", type=int, default=0, help="of all random choices (default 0)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
