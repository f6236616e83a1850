"""Generic panels: NumPy arrays -> Matplotlib figures. The figures of one model are in its file.

Nothing is shown and nothing is global, so figures can be drawn on a machine without a screen.

A function that draws a single panel takes `ax`: it draws there and leaves the rest of that figure
alone; by default it makes a figure. It returns the figure in either case. Functions that draw many
panels always make a figure.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

if TYPE_CHECKING:
    from hfjax.arena import Environment

SIMULATED, RAT, GREY = "#2a6fbb", "#d1603d", "#8a8a8a"
COLOURS = (SIMULATED, RAT, "#3c9d6d", "#8b5fbf")


def _panel(ax: Axes | None, size_inches: tuple[float, float]) -> Axes:
    """The given axes, or those of a new figure."""
    if ax is not None:
        return ax
    return Figure(figsize=size_inches, layout="constrained").subplots()


def _figure_of(ax: Axes) -> Figure:
    """The figure of axes, also where they are in a subfigure."""
    figure = ax.figure
    assert figure is not None
    return figure if isinstance(figure, Figure) else figure.figure


def _tiles(
    tiles: np.ndarray,
    labels: Sequence[str],
    *,
    half_m: float,
    title: str,
    unit: str,
    colour_label: str,
    limits: tuple[float, float],
    colour_map: str,
    axis_labels: tuple[str, str],
) -> Figure:
    """Small multiples [tile, x, y] under one colour bar; ticks at the outer left and bottom."""
    columns = min(8, len(tiles))
    rows = -(-len(tiles) // columns)
    # Placed by hand, in inches: a layout engine takes seconds on so many axes.
    side, gap_x, gap_y, left, bottom, right, top = 1.05, 0.1, 0.27, 0.65, 0.6, 1.1, 0.85
    width = left + columns * side + (columns - 1) * gap_x + right
    height = bottom + rows * side + (rows - 1) * gap_y + top
    figure = Figure(figsize=(width, height))
    figure.suptitle(title, fontsize=11, y=1 - 0.12 / height)
    last = np.floor(9 * half_m) / 10  # short of the edge, where labels of neighbours would touch
    ticks = [-last, 0, last]
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        x = left + column * (side + gap_x)
        y = height - top - side - row * (side + gap_y)
        ax = figure.add_axes((x / width, y / height, side / width, side / height))
        image = ax.imshow(
            tile.T,
            origin="lower",
            extent=(-half_m, half_m, -half_m, half_m),
            vmin=limits[0],
            vmax=limits[1],
            cmap=colour_map,
            interpolation="nearest",
        )
        ax.set_title(labels[number], fontsize=8, pad=2)
        ax.set_xticks(ticks)
        ax.set_yticks(ticks)
        lowest = number + columns >= len(tiles)
        ax.tick_params(length=2, pad=1, labelsize=6, labelbottom=lowest, labelleft=column == 0)
    middle_x = (left + width - right) / 2 / width
    middle_y = (bottom + height - top) / 2 / height
    figure.text(middle_x, 0.1 / height, f"{axis_labels[0]} ({unit})", ha="center", fontsize=9)
    figure.text(
        0.12 / width, middle_y, f"{axis_labels[1]} ({unit})", va="center", rotation=90, fontsize=9
    )
    bar_height = min(3.5, height - top - bottom) / height
    bar_ax = figure.add_axes(
        ((width - right + 0.15) / width, middle_y - bar_height / 2, 0.14 / width, bar_height)
    )
    bar = figure.colorbar(image, cax=bar_ax)
    bar.set_label(colour_label, fontsize=9)
    bar_ax.tick_params(labelsize=8)
    return figure


def rate_maps(
    maps: np.ndarray,
    labels: Sequence[str],
    *,
    width_m: float,
    title: str,
    colour_label: str = "activity: lowest (0)\nto highest (1) of each unit",
    axis_labels: tuple[str, str] = ("x", "y"),
) -> Figure:
    """Rate maps [unit, x, y], each from its own lowest to its own highest activity, with a label.

    Bins that were never visited (NaN) stay white; a unit without any change in activity is dark.
    """
    visited = np.isfinite(maps)
    low = np.where(visited, maps, np.inf).min(axis=(1, 2), keepdims=True)
    high = np.where(visited, maps, -np.inf).max(axis=(1, 2), keepdims=True)
    rising = high > low
    tiles = np.where(visited & rising, maps - low, 0) / np.where(rising, high - low, 1)
    return _tiles(
        np.where(visited, tiles, np.nan),
        labels,
        half_m=width_m / 2,
        title=title,
        unit="m",
        colour_label=colour_label,
        limits=(0, 1),
        colour_map="viridis",
        axis_labels=axis_labels,
    )


def autocorrelograms(
    correlograms: np.ndarray, labels: Sequence[str], *, width_m: float, title: str
) -> Figure:
    """Spatial autocorrelograms [unit, 2 x - 1, 2 y - 1] of maps that span width_m, with labels."""
    return _tiles(
        correlograms,
        labels,
        half_m=width_m,
        title=title,
        unit="m",
        colour_label="correlation of the map\nwith itself, shifted",
        limits=(-1, 1),
        colour_map="RdBu_r",
        axis_labels=("shift in x", "shift in y"),
    )


def score_histogram(
    scores: np.ndarray,
    noise_scores: np.ndarray,
    *,
    thresholds: Sequence[float],
    what: str,
    ax: Axes | None = None,
) -> Figure:
    """Histograms of grid scores [unit] and of the scores of noise maps [map], with thresholds.

    The text beside each threshold gives the shares above it. what: the plural for the scored maps,
    such as "units".
    """
    ax = _panel(ax, (7.5, 4.4))
    low = min(-0.6, *(np.floor(10 * s.min()) / 10 for s in (scores, noise_scores)))
    high = max(1.4, *(np.ceil(10 * s.max()) / 10 for s in (scores, noise_scores)))
    bins = np.arange(low, high + 0.05, 0.1).tolist()
    for values, colour, label in (
        (noise_scores, GREY, f"low-pass noise maps ({len(noise_scores)})"),
        (scores, SIMULATED, f"{what} ({len(scores)})"),
    ):
        weights = np.full(len(values), 100 / len(values))
        ax.hist(values, bins, weights=weights, histtype="stepfilled", color=colour, alpha=0.25)
        ax.hist(values, bins, weights=weights, histtype="step", color=colour, label=label)
    top = ax.get_ylim()[1]
    ax.set_ylim(0, 1.32 * top)
    for place, threshold in enumerate(sorted(thresholds)):
        ax.axvline(threshold, color="black", linewidth=0.8, linestyle=":")
        share, noise = (100 * np.mean(s > threshold) for s in (scores, noise_scores))
        right = place > 0
        ax.annotate(
            f"above {threshold}:\n{what} {share:.1f} %\nnoise {noise:.1f} %",
            (threshold, 1.30 * top),
            xytext=(4 if right else -4, 0),
            textcoords="offset points",
            va="top",
            ha="left" if right else "right",
            fontsize=8,
        )
    ax.set_xlabel("grid score (60 degrees): how hexagonal a rate map is")
    ax.set_ylabel("share of maps (%)")
    ax.set_title(f"Grid scores of all {what}, and of noise that is only smooth", fontsize=11)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, fontsize=9)
    return _figure_of(ax)


def trajectories(
    paths: Mapping[str, tuple[np.ndarray, np.ndarray]], *, width_m: float, dt_s: float
) -> Figure:
    """True and decoded paths; each label has a row, each path a panel.

    paths {label: (true, decoded)}, both [path, time, 2] (m).
    """
    columns = max(true.shape[0] for true, _ in paths.values())
    figure = Figure(figsize=(2.9 * columns + 0.4, 3.0 * len(paths) + 0.9), layout="constrained")
    axes = figure.subplots(len(paths), columns, squeeze=False)
    half = width_m / 2
    length_s = 0.0
    for row, (label, (true, decoded)) in zip(axes, paths.items(), strict=True):
        for column, ax in enumerate(row):
            if column >= len(true):
                ax.set_axis_off()
                continue
            length_s = dt_s * true.shape[1]
            ax.plot(
                *_broken_at_jumps(true[column], half), color="black", linewidth=1.2, label="true"
            )
            ax.plot(
                *_broken_at_jumps(decoded[column], half),
                color=RAT,
                linewidth=0.8,
                alpha=0.8,
                label="decoded",
            )
            ax.plot(*true[column, 0], "o", color="black", markersize=5, label="start")
            ax.set_xlim(-1.08 * half, 1.08 * half)
            ax.set_ylim(-1.08 * half, 1.08 * half)
            ax.set_aspect("equal")
            ax.set_title(f"{label} {column + 1}", fontsize=9)
            ax.set_xlabel("x (m)", fontsize=8)
            ax.set_ylabel("y (m)", fontsize=8)
            ax.tick_params(labelsize=7)
    figure.suptitle(
        f"Where the animal walked in {length_s:g} s, and where the network believes it walked\n"
        "given only the start and the displacements",
        fontsize=11,
    )
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9
    )
    return figure


def _broken_at_jumps(path: np.ndarray, longest: float) -> tuple[np.ndarray, np.ndarray]:
    """x and y of a path [time, 2], with NaN where it crosses the seam of a periodic box."""
    jump = np.abs(np.diff(path, axis=0)).max(axis=1) > longest
    x, y = np.insert(path, np.flatnonzero(jump) + 1, np.nan, axis=0).T
    return x, y


def error_over_time(
    errors: Mapping[str, tuple[np.ndarray, np.ndarray]], *, dt_s: float, ax: Axes | None = None
) -> Figure:
    """Decoding error over time with the decoder's floor; median lines, bands between quartiles.

    errors {label: (error, floor)}, both [quartile, time] (cm), quartiles 25, 50 and 75 %.
    """
    ax = _panel(ax, (7.5, 4.2))
    for colour, (label, (error, floor)) in zip(COLOURS, errors.items(), strict=False):
        time_s = dt_s * np.arange(1, error.shape[1] + 1)
        ax.fill_between(time_s, error[0], error[2], color=colour, alpha=0.2, linewidth=0)
        ax.plot(time_s, error[1], color=colour, label=f"{label}: network")
        ax.plot(
            time_s,
            floor[1],
            color=colour,
            linestyle=":",
            linewidth=1.2,
            label=f"{label}: floor (true position, coded and decoded)",
        )
    ax.set_xlim(0, None)
    ax.set_ylim(0, None)
    ax.set_xlabel("time since the start (s)")
    ax.set_ylabel("distance to the true position (cm)")
    ax.set_title("Path integration error: median over walks, band from 25 to 75 %", fontsize=11)
    ax.legend(fontsize=8)
    return _figure_of(ax)


def curves_with_spread(
    curves: Mapping[str, np.ndarray],
    *,
    x_label: str,
    y_label: str,
    title: str,
    ax: Axes | None = None,
) -> Figure:
    """Mean over seeds of curves {label: [x, seed]}, x from 0, in a band of a standard deviation."""
    ax = _panel(ax, (7.5, 4.6))
    for number, (label, values) in enumerate(curves.items()):
        colour, dashed = COLOURS[number % len(COLOURS)], number >= len(COLOURS)
        x, mean, std = np.arange(len(values)), values.mean(axis=1), values.std(axis=1)
        ax.fill_between(x, mean - std, mean + std, color=colour, alpha=0.15, linewidth=0)
        ax.plot(x, mean, "--" if dashed else "-", color=colour, label=label)
    ax.set_xlabel(x_label)
    ax.set_ylabel(y_label)
    ax.set_title(title, fontsize=11)
    ax.legend(fontsize=8)
    return _figure_of(ax)


def points_with_spread(
    values: Mapping[int, np.ndarray],
    *,
    x_label: str,
    y_label: str,
    title: str,
    ax: Axes | None = None,
) -> Figure:
    """Values {x: [seed]} on a logarithmic axis: every seed a dot, their means joined."""
    ax = _panel(ax, (6.0, 4.2))
    for x, seeds in values.items():
        ax.plot(np.full(len(seeds), x), seeds, ".", color=GREY, markersize=4, alpha=0.6)
    means = [seeds.mean() for seeds in values.values()]
    ax.plot(list(values), means, "o-", color=SIMULATED, label="mean over seeds")
    ax.plot([], [], ".", color=GREY, label="a seed")
    ax.set_xscale("log", base=2)
    ax.set_xticks(list(values), [str(x) for x in values])
    ax.set_xlabel(x_label)
    ax.set_ylabel(y_label)
    ax.set_title(title, fontsize=11)
    ax.legend(fontsize=8)
    return _figure_of(ax)


def arenas(
    walks: Mapping[str, tuple["Environment", np.ndarray]],
    *,
    dt_s: float,
    centres: np.ndarray | None = None,
    num_bins: int = 30,
    title: str,
) -> Figure:
    """Paths in their environments and, below, how long the animal was where; a column each.

    walks {label: (environment, positions [time, 2] (m))}, dt_s between positions; a path may be
    cut by NaN. centres [place, 2] (m): of firing fields, drawn in all environments. Occupancy is
    the time in a bin over the mean of all bins, the longer side being num_bins wide.
    Raises ValueError where an environment is a track.
    """
    for label, (environment, _) in walks.items():
        if environment.num_dims != 2:
            raise ValueError(f"arenas have two dimensions, but {label} is a track")
    figure = Figure(figsize=(0.9 + 3.0 * len(walks), 6.4), layout="constrained")
    figure.suptitle(title, fontsize=11)
    axes = figure.subplots(2, len(walks), squeeze=False)
    for (label, (environment, positions)), (above, below) in zip(
        walks.items(), axes.T, strict=True
    ):
        _path_in_arena(above, environment, positions)
        if centres is not None:
            above.plot(*centres.T, "+", color=GREY, markersize=5, label="centres of fields")
        above.set_title(f"{label}\n{dt_s * (len(positions) - 1) / 60:.3g} min", fontsize=9)
        image = _occupancy(below, environment, positions, num_bins)
        bar = figure.colorbar(image, ax=below, shrink=0.75)
        bar.ax.tick_params(labelsize=7)
        _walls(above, environment, colour="black")
        _walls(below, environment, colour="white")
    bar.set_label("time in a bin / mean of all", fontsize=8)
    for row in axes:
        row[0].set_ylabel("y (m)", fontsize=8)
    axes[0, 0].legend(fontsize=7, loc="upper left", bbox_to_anchor=(0, -0.16), ncols=2)
    return figure


def _path_in_arena(ax: Axes, environment: "Environment", positions: np.ndarray) -> None:
    """A path [time, 2] (m), cut where it jumps through a periodic boundary, and its start."""
    longest = max(high - low for low, high in environment.extent)
    jumps = np.abs(np.diff(positions, axis=0)).max(axis=1) > longest / 2
    path = np.insert(positions, np.flatnonzero(jumps) + 1, np.nan, axis=0)
    ax.plot(*path.T, color=SIMULATED, linewidth=0.5, alpha=0.7)
    ax.plot(*positions[0], "o", color=RAT, markersize=5, label="start")


def _occupancy(
    ax: Axes, environment: "Environment", positions: np.ndarray, num_bins: int
) -> AxesImage:
    """Time in each bin over the mean of all; the longer side is num_bins wide."""
    (left, right), (bottom, top) = environment.extent
    seen = positions[np.isfinite(positions).all(axis=1)]
    side = max(right - left, top - bottom) / num_bins
    edges = [
        np.linspace(low, high, 1 + max(1, round((high - low) / side)))
        for low, high in environment.extent
    ]
    counts, *_ = np.histogram2d(seen[:, 0], seen[:, 1], bins=edges)
    share = counts / max(counts.mean(), 1e-30)
    return ax.imshow(
        share.T,
        origin="lower",
        extent=(left, right, bottom, top),
        vmin=0,
        vmax=max(2.0, float(np.quantile(share, 0.99))),
        cmap="magma",
    )


def _walls(ax: Axes, environment: "Environment", *, colour: str) -> None:
    """The walls of an environment, and axes in metres around it."""
    for wall in environment.walls:
        ax.plot(*wall.T, color=colour, linewidth=1.5, solid_capstyle="round")
    (left, right), (bottom, top) = environment.extent
    margin = 0.03 * max(right - left, top - bottom)
    ax.set_xlim(left - margin, right + margin)
    ax.set_ylim(bottom - margin, top + margin)
    ax.set_aspect("equal")
    ax.tick_params(labelsize=7)
    ax.set_xlabel("x (m)", fontsize=8)
