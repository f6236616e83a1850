"""Figures of recorded cells: a sheet for each, and an overview of all."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hfjax import figures, ratemaps
from hfjax.data.recordings.scoring import TESTED, Scored

MAX_LAG_S, LAG_BIN_S = 0.5, 0.01  # of the autocorrelogram of a spike train
PER_PAGE = 60  # cells on a page of the overview
LABELS = {
    "grid_score": "grid",
    "border_score": "border",
    "head_direction_length": "direction",
    "information_bits_per_spike": "bits/spike",
}


def cell_sheet(scored: Scored, unit: int) -> Figure:
    """One cell: path with spikes, rate map, autocorrelogram; directions, theta, and its numbers.

    unit: its number in the recording.
    """
    # Placed by hand, in inches: a layout engine takes longer than the rest.
    (left, right), (bottom, top) = scored.extent_m
    wide = float(np.clip(2.4 * (right - left) / (top - bottom), 1.9, 2.9))
    high = wide * (top - bottom) / (right - left)
    heading = _heading(scored, unit)
    width, low = 2 * (wide + 1.4) + wide + 1.6, 2.2
    height = 0.55 + low + 1.0 + high + 0.85 + 0.2 * heading.count("\n")
    figure = Figure(figsize=(width, height))
    figure.suptitle(heading, fontsize=11, y=1 - 0.12 / height)
    panels = []
    for number in range(6):
        row, column = divmod(number, 3)
        x, y = 0.65 + column * (wide + 1.4), 0.55 if row else 0.55 + low + 1.0
        size = (wide / width, (low if row else high) / height)
        projection = "polar" if number == 3 else None
        panels.append(figure.add_axes((x / width, y / height, *size), projection=projection))
    draw_path(scored, unit, panels[0])
    draw_map(scored, unit, panels[1])
    draw_correlogram(scored, unit, panels[2])
    draw_directions(scored, unit, panels[3])
    draw_theta(scored, unit, panels[4])
    draw_numbers(scored, unit, panels[5])
    return figure


def _heading(scored: Scored, unit: int) -> str:
    """Name, spikes and rate, and in a second line what was wrong, if anything."""
    row = _row(scored, unit)
    name = row["name"]
    session = "" if name.startswith(scored.cleaned.name) else f" of {scored.cleaned.name}"
    minutes = scored.cleaned.dt_s * len(scored.cleaned.times_s) / 60
    told = "; ".join(p.text for p in scored.cleaned.problems if p.unit in ("", name))
    return (
        f"{name}{session}: {row['num_spikes']} spikes in {minutes:.0f} min, "
        f"{row['mean_rate_hz']:.2f} Hz" + (f"\n{told[:150]}" if told else "")
    )


def _row(scored: Scored, unit: int) -> dict[str, Any]:
    """The columns of the table for one cell."""
    return {name: values[unit] for name, values in scored.columns.items()}


def in_words(p: float) -> str:
    """A p-value as text: p < .001, p = .03; "no score" without one."""
    if not np.isfinite(p):
        return "no score"
    if p < 0.001:
        return "p < .001"
    digits = 3 if p < 0.01 else 2
    return f"p = {p:.{digits}f}".replace("0.", ".")


def _number(value: float, digits: int = 2) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else "none"


# --- Panels ---


def draw_path(scored: Scored, unit: int, ax: Axes) -> None:
    """The path, and the positions of the cell's spikes."""
    positions, counts = scored.cleaned.positions_m, scored.cleaned.counts[:, unit]
    at = np.repeat(positions, counts.astype(int), axis=0)
    figures.spikes_on_path(positions, at, extent_m=scored.extent_m, title="path and spikes", ax=ax)


def draw_map(scored: Scored, unit: int, ax: Axes) -> None:
    """The rate map, from 0 to its peak."""
    row = _row(scored, unit)
    peak = float(row["peak_rate_hz"])
    information = _number(row["information_bits_per_spike"])
    figures.spatial_map(
        scored.maps[unit],
        extent_m=scored.extent_m,
        title=f"rate map, peak {peak:.1f} Hz\n{information} bits/spike, "
        f"{in_words(row['information_p'])}",
        limits=(0.0, peak if peak > 0 else 1.0),
        ax=ax,
    )
    _finish(ax)
    _colour_bar(ax, "rate (Hz)")


def draw_correlogram(scored: Scored, unit: int, ax: Axes) -> None:
    """The spatial autocorrelogram, with grid score and spacing."""
    row = _row(scored, unit)
    figures.autocorrelogram(
        scored.correlograms[unit],
        extent_m=scored.extent_m,
        title=f"autocorrelogram, grid score {_number(row['grid_score'])}, "
        f"{in_words(row['grid_score_p'])}\nspacing {_number(row['grid_spacing_m'])} m",
        colour_label=None,
        ax=ax,
    )
    _finish(ax)
    _colour_bar(ax, "correlation")


def draw_directions(scored: Scored, unit: int, ax: Axes) -> None:
    """The rate by head direction."""
    row = _row(scored, unit)
    if scored.direction_curves is None:
        _without(ax, "no head direction\nin this recording")
        return
    figures.direction_curve(
        scored.direction_curves[unit],
        title=f"head direction, length {_number(row['head_direction_length'])}\n"
        f"{in_words(row['head_direction_p'])}",
        ax=ax,
    )


def draw_theta(scored: Scored, unit: int, ax: Axes) -> None:
    """The autocorrelogram of the spike train."""
    spikes = scored.cleaned.spike_times_s.get(scored.cleaned.units[unit])
    if spikes is None:
        bin_ms = 1000 * scored.cleaned.dt_s
        _without(ax, f"spikes are known\nin bins of {bin_ms:.0f} ms only:\nno theta")
        return
    counts = ratemaps.spike_autocorrelogram(spikes, bin_width_s=LAG_BIN_S, max_lag_s=MAX_LAG_S)
    figures.train_correlogram(
        LAG_BIN_S * (np.arange(-len(counts), len(counts)) + 0.5),
        np.concatenate([counts[::-1], counts]),
        title="spike train\n(theta: a peak at 100 to 170 ms)",
        ax=ax,
    )


def draw_numbers(scored: Scored, unit: int, ax: Axes) -> None:
    """The tested scores with their p-values, and the 95th percentile of the cell's own shuffles."""
    row = _row(scored, unit)
    lines = [("", "score", "95 % of shuffles", "")]
    for name, column in TESTED.items():
        high = row[f"{name}_percentile_95"]
        lines.append((LABELS[name], _number(row[name]), _number(high), in_words(row[column])))
    ax.set_axis_off()
    ax.set_title("against circular shifts of its spikes", fontsize=9)
    for number, line in enumerate(lines):
        for x, text in zip((-0.16, 0.33, 0.74, 0.8), line, strict=True):
            at = (x, 0.92 - 0.13 * number)
            side = "left" if x in (-0.16, 0.8) else "right"
            ax.text(*at, text, fontsize=8, ha=side, va="top", transform=ax.transAxes)


def _without(ax: Axes, text: str) -> None:
    """An empty panel that says why."""
    ax.set_axis_off()
    ax.text(0.5, 0.5, text, ha="center", va="center", fontsize=9, transform=ax.transAxes)


def _finish(ax: Axes) -> None:
    """The small print of a panel on a sheet."""
    ax.title.set_fontsize(9)
    ax.xaxis.label.set_fontsize(8)
    ax.yaxis.label.set_fontsize(8)
    ax.tick_params(labelsize=7)


def _colour_bar(ax: Axes, label: str) -> None:
    """A colour bar to the right of a panel, without a layout engine."""
    bar = ax.inset_axes((1.03, 0.0, 0.04, 1.0))
    figures.figure_of(ax).colorbar(ax.get_images()[0], cax=bar)
    bar.set_ylabel(label, fontsize=8)
    bar.tick_params(labelsize=7)


# --- Overview ---


def overview(cells: Sequence[tuple[Scored, int]], *, title: str) -> Figure:
    """Rate map and autocorrelogram of each cell, with peak rate and grid score.

    cells: recording and number of the unit.
    """
    columns = min(6, len(cells))
    rows = -(-len(cells) // columns)
    side, gap, line = 1.15, 0.12, 0.42
    step_x, step_y = 2 * side + 3 * gap, side + line
    width, height = max(columns * step_x + gap, 5.0), rows * step_y + 0.5
    figure = Figure(figsize=(width, height))
    figure.suptitle(title, fontsize=11, y=1 - 0.1 / height)
    colours, correlations = (
        matplotlib.colormaps[name].with_extremes(bad=figures.NOT_VISITED)
        for name in ("viridis", "RdBu_r")
    )
    for number, (scored, unit) in enumerate(cells):
        row, column = divmod(number, columns)
        x, y = gap + column * step_x, height - 0.5 - (row + 1) * step_y + gap
        for place, (values, limits, colour_map) in enumerate(
            (
                (scored.maps[unit], (0, None), colours),
                (scored.correlograms[unit], (-1, 1), correlations),
            )
        ):
            at = ((x + place * (side + gap)) / width, y / height, side / width, side / height)
            ax = figure.add_axes(at)
            ax.imshow(values.T, origin="lower", vmin=limits[0], vmax=limits[1], cmap=colour_map)
            ax.set_axis_off()
        values_of = _row(scored, unit)
        figure.text(
            (x + side + gap / 2) / width,
            (y + side + 0.02) / height,
            f"{values_of['name'][-32:]}\n{values_of['peak_rate_hz']:.1f} Hz, grid "
            f"{_number(values_of['grid_score'])} ({in_words(values_of['grid_score_p'])})",
            ha="center",
            va="bottom",
            fontsize=6.5,
        )
    return figure
