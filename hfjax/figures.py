"""Generic panels: NumPy arrays -> Matplotlib figures. The figures of one model are in its file.

Nothing is shown and nothing is global, so figures can be drawn on a machine without a screen.

A function that draws a single panel takes `ax`: it draws there and leaves the rest of that figure
alone; by default it makes a figure. It returns the figure in either case. Functions that draw many
panels always make a figure.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib
import matplotlib.path
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

if TYPE_CHECKING:
    from hfjax.arena import Environment

SIMULATED, RAT, GREY = "#2a6fbb", "#d1603d", "#8a8a8a"
COLOURS = (SIMULATED, RAT, "#3c9d6d", "#8b5fbf")


def axes_or_new(ax: Axes | None, size_inches: tuple[float, float]) -> Axes:
    """The given axes, or those of a new figure."""
    if ax is not None:
        return ax
    return Figure(figsize=size_inches, layout="constrained").subplots()


def figure_of(ax: Axes) -> Figure:
    """The figure of axes, also where they are in a subfigure."""
    figure = ax.figure
    assert figure is not None
    return figure if isinstance(figure, Figure) else figure.figure


# --- Maps over space ---

Extent = Sequence[Sequence[float]] | np.ndarray  # ((left, right), (bottom, top)) (m)
SPACE = ("x (m)", "y (m)")  # axis labels
NOT_VISITED = "0.82"  # the grey of bins without a value (NaN)
WHOLE_SCALE = "activity: lowest (0)\nto highest (1) of each unit"
CORRELATION = "correlation of the map\nwith itself, shifted"
SHIFT_LABELS = ("shift in x (m)", "shift in y (m)")


def spatial_map(
    values: np.ndarray,
    *,
    extent_m: Extent,
    title: str,
    limits: tuple[float, float] | None = None,
    colour_map: str = "viridis",
    colour_label: str | None = None,
    axis_labels: tuple[str, str] = SPACE,
    walls: np.ndarray | None = None,
    ax: Axes | None = None,
) -> Figure:
    """A map [x, y] as an image, x to the right and y up; its frame is the outline of the box.

    Bins without a value (NaN) are grey. limits: of the colours; the map's own where they are None.
    colour_label: of a colour bar beside the panel; None for none. walls [wall, end, 2] (m).
    """
    ax = axes_or_new(ax, (4.2, 3.6))
    (left, right), (bottom, top) = np.asarray(extent_m, float)
    low, high = limits or (None, None)
    image = ax.imshow(
        np.asarray(values).T,
        origin="lower",
        extent=(left, right, bottom, top),
        vmin=low,
        vmax=high,
        cmap=_with_grey(colour_map),
        interpolation="nearest",
    )
    for wall in () if walls is None else walls:
        ax.plot(*np.asarray(wall).T, color="black", linewidth=2, solid_capstyle="butt")
    ax.set_title(title, fontsize=10)
    ax.set_xlabel(axis_labels[0])
    ax.set_ylabel(axis_labels[1])
    if colour_label is not None:
        figure_of(ax).colorbar(image, ax=ax, label=colour_label, shrink=0.85)
    return figure_of(ax)


def whole_scale(maps: np.ndarray) -> np.ndarray:
    """Maps [unit, x, y], each from 0 at its lowest to 1 at its highest activity; NaN stays.

    A unit without any change in activity is 0.
    """
    visited = np.isfinite(maps)
    low = np.where(visited, maps, np.inf).min(axis=(1, 2), keepdims=True)
    high = np.where(visited, maps, -np.inf).max(axis=(1, 2), keepdims=True)
    rising = high > low
    scaled = np.where(visited & rising, maps - low, 0) / np.where(rising, high - low, 1)
    return np.where(visited, scaled, np.nan)


def rate_map(
    rates: np.ndarray,
    *,
    extent_m: Extent,
    title: str,
    colour_label: str | None = "activity",
    ax: Axes | None = None,
) -> Figure:
    """The rate map [x, y] of one unit, from its lowest to its highest activity."""
    return spatial_map(rates, extent_m=extent_m, title=title, colour_label=colour_label, ax=ax)


def autocorrelogram(
    correlogram: np.ndarray,
    *,
    extent_m: Extent,
    title: str,
    colour_label: str | None = CORRELATION,
    ax: Axes | None = None,
) -> Figure:
    """Spatial autocorrelogram [2 x - 1, 2 y - 1] of a map that spans extent_m."""
    return spatial_map(
        correlogram,
        extent_m=_shifts(extent_m),
        title=title,
        limits=(-1, 1),
        colour_map="RdBu_r",
        colour_label=colour_label,
        axis_labels=SHIFT_LABELS,
        ax=ax,
    )


def _shifts(extent_m: Extent) -> np.ndarray:
    """The largest shifts of a map in both directions of x and of y."""
    widths = np.ptp(np.asarray(extent_m, float), axis=1, keepdims=True)
    return np.concatenate([-widths, widths], axis=1)


def rate_maps(
    maps: np.ndarray,
    labels: Sequence[str],
    *,
    extent_m: Extent,
    title: str,
    colour_label: str = WHOLE_SCALE,
    axis_labels: tuple[str, str] = SPACE,
) -> Figure:
    """`rate_map` of each unit [unit, x, y], from its lowest to its highest activity, with a label.

    Bins that were never visited (NaN) are grey; a unit without any change in activity is dark.
    """
    if not np.isfinite(maps).all():
        colour_label += "\ngrey: never visited"

    return _tiles(
        whole_scale(maps),
        labels,
        extent_m=extent_m,
        title=title,
        limits=(0, 1),
        colour_label=colour_label,
        axis_labels=axis_labels,
    )


def autocorrelograms(
    correlograms: np.ndarray, labels: Sequence[str], *, extent_m: Extent, title: str
) -> Figure:
    """`autocorrelogram` of each map [unit, 2 x - 1, 2 y - 1], with a label."""

    return _tiles(
        correlograms,
        labels,
        extent_m=_shifts(extent_m),
        title=title,
        limits=(-1, 1),
        colour_map="RdBu_r",
        colour_label=CORRELATION,
        axis_labels=SHIFT_LABELS,
    )


def _tiles(
    tiles: np.ndarray,
    labels: Sequence[str],
    *,
    extent_m: Extent,
    title: str,
    limits: tuple[float, float],
    colour_map: str = "viridis",
    colour_label: str,
    axis_labels: tuple[str, str],
) -> Figure:
    """Small multiples: each tile [tile, x, y] with its label and axes, under one colour bar.

    All are drawn into one panel, whose unit is an inch: sixty panels would take a second.
    """
    columns = min(8, len(tiles))
    rows = -(-len(tiles) // columns)
    gap_x, gap_y, left, bottom, right = 0.1, 0.27, 0.65, 0.55, 1.2
    tile_x, tile_y = (1.05 * length / max(_sizes(extent_m)) for length in _sizes(extent_m))
    inner, tall = columns * (tile_x + gap_x) - gap_x, rows * (tile_y + gap_y) - gap_y
    top = 0.42 + 0.19 * len(title.splitlines())
    width = max(left + inner + right, 0.085 * _longest(title))
    height = max(bottom + tall + top, 2.6)
    low = height - top - tall  # of the panel
    figure = Figure(figsize=(width, height))
    ax = figure.add_axes((left / width, low / height, inner / width, tall / height))
    for number in range(len(tiles)):
        row, column = divmod(number, columns)
        x, y = column * (tile_x + gap_x), tall - tile_y - row * (tile_y + gap_y)
        outer = column == 0, number + columns >= len(tiles)  # whose axes have numbers
        frame = (x, x + tile_x, y, y + tile_y)
        image = _tile(ax, tiles[number], labels[number], frame, extent_m, outer)
        image.set(clim=limits, cmap=_with_grey(colour_map))
    ax.set(xlim=(0, inner), ylim=(0, tall))
    ax.set_axis_off()
    title_x, title_y = (width / 2 - left) / inner, (tall + top - 0.1) / tall
    ax.set_title(title, x=title_x, y=title_y, pad=0, va="top", fontsize=11)
    middle_x, middle_y = (left + inner / 2) / width, (bottom + height - top) / 2 / height
    figure.supxlabel(axis_labels[0], x=middle_x, y=0.08 / height, fontsize=9)
    figure.supylabel(axis_labels[1], x=0.1 / width, y=middle_y, fontsize=9)
    bar_height = min(3.0, height - top - bottom) / height
    bar_ax = figure.add_axes(
        ((left + inner + 0.15) / width, middle_y - bar_height / 2, 0.14 / width, bar_height)
    )
    figure.colorbar(ax.get_images()[0], cax=bar_ax)
    bar_ax.set_ylabel(colour_label, fontsize=8)
    bar_ax.tick_params(labelsize=8)
    return figure


def _sizes(extent_m: Extent) -> tuple[float, float]:
    """Width and height of an extent."""
    width, height = np.ptp(np.asarray(extent_m, float), axis=1)
    return float(width), float(height)


def _tile(
    ax: Axes,
    tile: np.ndarray,
    label: str,
    frame: tuple[float, float, float, float],
    extent_m: Extent,
    outer: tuple[bool, bool],
    walls: np.ndarray | None = None,
) -> AxesImage:
    """A tile [x, y] in a frame (left, right, bottom, top) of inches, with its label and ticks.

    outer  whether its y axis and its x axis have numbers.
    walls  [wall, end, 2] (m), inside.
    """
    image = ax.imshow(np.asarray(tile).T, origin="lower", extent=frame, interpolation="nearest")
    left, right, bottom, top = frame
    lines = [[(left, bottom), (right, bottom), (right, top), (left, top), (left, bottom)]]
    (low_x, high_x), (low_y, high_y) = np.asarray(extent_m, float)
    ticks_x, ticks_y = _inner_ticks(extent_m)
    for tick in ticks_x:
        x = left + (right - left) * (tick - low_x) / (high_x - low_x)
        lines.append([(x, bottom), (x, bottom - 0.03)])
        if outer[1]:
            ax.text(x, bottom - 0.05, f"{tick:.3g}", fontsize=6, ha="center", va="top")
    for tick in ticks_y:
        y = bottom + (top - bottom) * (tick - low_y) / (high_y - low_y)
        lines.append([(left, y), (left - 0.03, y)])
        if outer[0]:
            ax.text(left - 0.05, y, f"{tick:.3g}", fontsize=6, ha="right", va="center")
    ax.add_collection(LineCollection(lines, colors="black", linewidths=0.8, clip_on=False))
    if walls is not None and len(walls):
        corner, size = np.array([left, bottom]), np.array([right - left, top - bottom])
        low, high = np.asarray(extent_m, float).T
        inside = corner + size * (np.asarray(walls, float) - low) / (high - low)
        ax.add_collection(LineCollection(list(inside), colors="black", linewidths=2))
    ax.text((left + right) / 2, top + 0.03, label, fontsize=8, ha="center", va="bottom")
    return image


def _with_grey(colour_map: str) -> Colormap:
    """A map of colours in which a value that is missing is grey."""
    return matplotlib.colormaps[colour_map].with_extremes(bad=NOT_VISITED)


def _inner_ticks(extent_m: Extent) -> list[list[float]]:
    """Three ticks along each axis, short of the edges, where labels of neighbours would touch."""
    ticks = []
    for low, high in np.asarray(extent_m, float):
        middle, last = (low + high) / 2, np.floor(4.5 * (high - low)) / 10
        ticks.append([middle - last, middle, middle + last])
    return ticks


def _longest(text: str) -> int:
    """Characters of the longest line."""
    return max(map(len, text.splitlines()))


class MapRow(NamedTuple):
    """A row of maps [map, x, y] under one scale of colours, with its label and that of its bar."""

    maps: np.ndarray
    label: str
    colour_label: str
    limits: tuple[float, float]
    colour_map: str = "viridis"


def map_rows(
    rows: Sequence[MapRow],
    *,
    columns: Sequence[str],
    extent_m: Extent,
    title: str,
    walls: np.ndarray | None = None,
    axis_labels: tuple[str, str] = SPACE,
) -> Figure:
    """Rows of maps, such as several maps of the same cells; a colour bar for each row.

    A row is one panel, whose unit is an inch: a panel for each map would take seconds.
    """
    gap_x, gap_y, left, bottom, right = 0.1, 0.12, 1.0, 0.55, 1.0
    top = 0.5 + 0.19 * len(title.splitlines())
    longest = 13.0  # inches; many columns or rows are smaller
    side = min(
        1.2,
        (longest - left - right) / len(columns) - gap_x,
        (longest - bottom - top) / len(rows) - gap_y,
    )
    end = left + len(columns) * (side + gap_x) - gap_x
    width, height = end + right, bottom + len(rows) * (side + gap_y) - gap_y + top
    width = max(width, 0.085 * _longest(title))
    figure = Figure(figsize=(width, height))
    figure.suptitle(title, fontsize=11, y=1 - 0.1 / height)
    for number, row in enumerate(rows):
        y = height - top - side - number * (side + gap_y)
        ax = figure.add_axes((left / width, y / height, (end - left) / width, side / height))
        for column, (values, heading) in enumerate(zip(row.maps, columns, strict=True)):
            x = column * (side + gap_x)
            outer = column == 0, number == len(rows) - 1  # whose axes have numbers
            label = "" if number else heading
            image = _tile(ax, values, label, (x, x + side, 0.0, side), extent_m, outer, walls)
            image.set(clim=row.limits, cmap=_with_grey(row.colour_map))
        ax.set(xlim=(0, end - left), ylim=(0, side))
        ax.set_axis_off()
        words: dict[str, Any] = {"fontsize": 8, "rotation": 90, "multialignment": "center"}
        ax.text(-0.33, side / 2, row.label, ha="right", va="center", **words)
        bar_ax = figure.add_axes(
            ((end + 0.12) / width, (y + 0.05) / height, 0.12 / width, (side - 0.1) / height)
        )
        figure.colorbar(ax.get_images()[0], cax=bar_ax)
        bar_ax.set_ylabel(row.colour_label, fontsize=7)
        bar_ax.tick_params(labelsize=7)
    figure.supxlabel(axis_labels[0], x=(left + end) / 2 / width, y=0.08 / height, fontsize=9)
    figure.supylabel(
        axis_labels[1], x=0.1 / width, y=(bottom + height - top) / 2 / height, fontsize=9
    )
    return figure


def map_sheet(
    maps: np.ndarray,
    *,
    columns: int,
    extent_m: np.ndarray,
    title: str,
    ax: Axes | None = None,
) -> Figure:
    """The rate maps [unit, x, y] of a whole population, side by side in rows of `columns`.

    Each is drawn from its lowest to its highest activity; bins that were never visited are grey. A
    bin is a whole number of pixels at 120 dpi, so that thousands of units can be seen.
    extent_m [2, 2]: ends of x and y; the title says how wide a map is.
    """
    width, height = _sizes(extent_m)
    size = f"{width:.3g} m wide" + ("" if width == height else f" and {height:.3g} m high")
    title += f"\neach {size}, from its lowest (dark) to its highest activity (yellow)"
    picture = map_picture(maps, columns=columns)
    if ax is None:
        ax = _sheet_axes(picture.shape, title)
    ax.imshow(picture, interpolation="nearest")
    ax.set_axis_off()
    ax.set_title(title, fontsize=11)
    return figure_of(ax)


def map_picture(maps: np.ndarray, *, columns: int) -> np.ndarray:
    """Maps [unit, x, y] side by side in rows of `columns`: colours [row, column, channel].

    Each is drawn from its lowest to its highest activity, with white between the maps.
    """
    num_units, num_x, num_y = maps.shape
    rows = -(-num_units // columns)
    picture = np.ones((rows * (num_y + 1), columns * (num_x + 1), 4))
    colours = _with_grey("viridis")
    tiles = colours(np.ma.masked_invalid(whole_scale(maps).transpose(0, 2, 1)[:, ::-1]))
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        y, x = row * (num_y + 1), column * (num_x + 1)
        picture[y : y + num_y, x : x + num_x] = tile
    return picture


def _sheet_axes(shape: tuple[int, ...], title: str) -> Axes:
    """Axes of a new figure in which a picture [y, x, ...] has whole pixels at 120 dpi."""
    times = max(1, round(1000 / max(shape[:2])))
    height, width = (n * times / 120 for n in shape[:2])
    top, edge = 0.2 + 0.22 * len(title.splitlines()), 0.1
    full_width = max(width, 0.085 * _longest(title)) + 2 * edge
    full_height = height + top + edge
    figure = Figure(figsize=(full_width, full_height))
    left = (full_width - width) / 2
    return figure.add_axes(
        (left / full_width, edge / full_height, width / full_width, height / full_height)
    )


# --- Scores and distributions ---


def ecdf(
    samples: Mapping[str, np.ndarray],
    *,
    limits: tuple[float, float],
    x_label: str,
    title: str,
    ax: Axes | None = None,
) -> Figure:
    """Empirical distribution functions of samples {label: [sample]}: F(x) = share of values <= x.

    limits: of x; every curve runs from 0 at the lower to 1 at the upper one.
    """
    ax = axes_or_new(ax, (5.0, 3.6))
    for number, (label, values) in enumerate(samples.items()):
        x = np.concatenate([[limits[0]], np.sort(values), [limits[1]]])
        F = np.concatenate([np.arange(len(values) + 1) / len(values), [1.0]])
        colour = COLOURS[number % len(COLOURS)]
        ax.step(x, F, where="post", color=colour, linewidth=1.2, label=label)
    ax.set_xlim(limits)
    ax.set_ylim(-0.03, 1.03)
    ax.set_xlabel(x_label)
    ax.set_ylabel("share of values up to x")
    ax.set_title(title, fontsize=10)
    ax.legend(fontsize=8)
    return figure_of(ax)


def score_histogram(
    scores: np.ndarray,
    noise_scores: np.ndarray,
    *,
    thresholds: Sequence[float],
    what: str,
    x_label: str = "grid score (60 degrees): how hexagonal a rate map is",
    ax: Axes | None = None,
) -> Figure:
    """Histograms of grid scores [unit] and of the scores of noise maps [map], with thresholds.

    The text beside each threshold gives the shares above it. what: the plural for the scored maps,
    such as "units".
    """
    ax = axes_or_new(ax, (7.5, 4.4))
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
    ax.set_xlabel(x_label)
    ax.set_ylabel("share of maps (%)")
    ax.set_title(f"Grid scores of all {what}, and of noise that is only smooth", fontsize=11)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, fontsize=9)
    return figure_of(ax)


# --- Paths ---


def trajectory(
    true: np.ndarray,
    decoded: np.ndarray,
    *,
    extent_m: Extent,
    title: str,
    ax: Axes | None = None,
) -> Figure:
    """A true and a decoded path, both [time, 2] (m), in the outline of their box."""
    ax = axes_or_new(ax, (3.6, 3.6))
    longest = np.ptp(np.asarray(extent_m, float), axis=1) / 2
    ax.plot(*box_outline(extent_m), color=GREY, linewidth=1, label="box")
    ax.plot(*broken_at_jumps(true, longest), color="black", linewidth=1.2, label="true")
    ax.plot(*broken_at_jumps(decoded, longest), color=RAT, linewidth=0.8, label="decoded")
    ax.plot(*true[0], "o", color="black", markersize=5, label="start")
    set_space(ax, extent_m, title, margin=0.04)
    return figure_of(ax)


def box_outline(extent: Extent) -> np.ndarray:
    """The rectangle ((left, right), (bottom, top)) as a closed line [x or y, corner]."""
    (left, right), (bottom, top) = np.asarray(extent, float)
    return np.array([(left, right, right, left, left), (bottom, bottom, top, top, bottom)])


def set_space(ax: Axes, extent_m: Extent, title: str, *, margin: float) -> None:
    """Equal aspect, title and labels of a panel of space; margin: in widths of the extent."""
    low, high = np.asarray(extent_m, float).T
    around = margin * (high - low).max()
    ax.set(xlim=(low[0] - around, high[0] + around), ylim=(low[1] - around, high[1] + around))
    ax.set_aspect("equal")
    ax.set_title(title, fontsize=9)
    ax.set_xlabel("x (m)", fontsize=8)
    ax.set_ylabel("y (m)", fontsize=8)
    ax.tick_params(labelsize=7)


def trajectories(
    paths: Mapping[str, tuple[np.ndarray, np.ndarray]], *, extent_m: Extent, dt_s: float
) -> Figure:
    """`trajectory` of each path; each label has a row.

    paths {label: (true, decoded)}, both [path, time, 2] (m).
    """
    columns = max(true.shape[0] for true, _ in paths.values())
    figure = Figure(figsize=(2.9 * columns + 0.4, 3.0 * len(paths) + 0.9), layout="constrained")
    axes = figure.subplots(len(paths), columns, squeeze=False)
    lengths = {f"{dt_s * true.shape[1]:g} s" for true, _ in paths.values()}
    figure.suptitle(
        f"Where the animal walked in {' and '.join(sorted(lengths))}, and the position that is "
        "decoded from the network,\nwhich got only the start and the displacements",
        fontsize=11,
    )
    for row, (label, (true, decoded)) in zip(axes, paths.items(), strict=True):
        for ax in row[len(true) :]:
            ax.set_axis_off()
        for number, ax in enumerate(row[: len(true)]):
            title = f"{label} {number + 1}"
            trajectory(true[number], decoded[number], extent_m=extent_m, title=title, ax=ax)
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9
    )
    return figure


def broken_at_jumps(path: np.ndarray, longest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x and y of a path [time, 2], with NaN where it crosses the seam of a periodic box.

    longest [2]: steps above it, along x or y, are such jumps.
    """
    jump = (np.abs(np.diff(path, axis=0)) > longest).any(axis=1)
    x, y = np.insert(path, np.flatnonzero(jump) + 1, np.nan, axis=0).T
    return x, y


def spikes_on_path(
    positions: np.ndarray,
    spike_positions: np.ndarray,
    *,
    extent_m: Extent,
    title: str,
    ax: Axes | None = None,
) -> Figure:
    """Where an animal walked, and where it was at each spike of a cell.

    positions [sample, 2] (m), NaN where the path is interrupted; spike_positions [spike, 2] (m).
    """
    ax = axes_or_new(ax, (3.6, 3.6))
    ax.plot(*positions.T, color="0.75", linewidth=0.4)
    # Many spikes must not hide the structure of fields.
    size = float(np.clip(4 * (1000 / max(len(spike_positions), 1)) ** 0.5, 1.2, 4))
    ax.plot(*spike_positions.T, ".", color="#c1272d", markersize=size, markeredgewidth=0)
    set_space(ax, extent_m, title, margin=0.03)
    return figure_of(ax)


def direction_curve(rates: np.ndarray, *, title: str, ax: Axes | None = None) -> Figure:
    """A directional tuning curve [direction] (Hz) in polar axes; bin k is at 2 pi (k + 1/2) / num.

    ax: polar axes. Directions that never occurred (NaN) interrupt the line.
    """
    if ax is None:
        figure = Figure(figsize=(3.4, 3.6), layout="constrained")
        ax = figure.add_subplot(projection="polar")
    theta = 2 * np.pi * (np.arange(len(rates)) + 0.5) / len(rates)
    closed, around = np.append(rates, rates[0]), np.append(theta, theta[0] + 2 * np.pi)
    ax.plot(around, closed, color=SIMULATED, linewidth=1.2)
    ax.fill(theta, np.nan_to_num(rates), color=SIMULATED, alpha=0.2, linewidth=0)
    top = float(np.nanmax(rates, initial=0.0)) or 1.0
    ax.set_ylim(0, top)
    ax.set_yticks([top], [f"{top:.2g} Hz"], fontsize=7)
    ax.set_xticks(np.pi / 2 * np.arange(4), ["0°", "90°", "180°", "270°"], fontsize=7)
    ax.tick_params(pad=-1)
    ax.set_xlabel("direction", fontsize=8)
    ax.set_ylabel("rate, outwards", fontsize=8, labelpad=22)
    ax.set_title(title, fontsize=9)
    return figure_of(ax)


def train_correlogram(
    lags_s: np.ndarray, counts: np.ndarray, *, title: str, ax: Axes | None = None
) -> Figure:
    """Autocorrelogram of a spike train: pairs of spikes [lag] by the time between them (s)."""
    ax = axes_or_new(ax, (3.6, 3.0))
    width_ms = 1000 * float(lags_s[1] - lags_s[0])
    ax.bar(1000 * lags_s, counts, width=width_ms, color="0.35")
    ax.set_xlim(1000 * lags_s[0] - width_ms / 2, 1000 * lags_s[-1] + width_ms / 2)
    ax.set_xlabel("time between spikes (ms)", fontsize=8)
    ax.set_ylabel("pairs of spikes", fontsize=8)
    ax.tick_params(labelsize=7)
    ax.set_title(title, fontsize=9)
    return figure_of(ax)


def error_over_time(
    errors: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    dt_s: float,
    levels: Mapping[str, float] | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Decoding error over time with the decoder's floor; median lines, bands between quartiles.

    errors {label: (error, floor)}, both [quartile, time] (cm), quartiles 25, 50 and 75 %.
    levels {label: cm}: horizontal lines, as that of chance.
    """
    ax = axes_or_new(ax, (7.5, 4.6))
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
    for style, (label, level) in zip(("--", "-."), (levels or {}).items(), strict=False):
        ax.axhline(level, color=GREY, linestyle=style, linewidth=1.2, label=label)
    ax.set_xlim(0, time_s[-1])
    ax.set_ylim(0, 1.05 * ax.get_ylim()[1])
    ax.set_xlabel("time since the start (s)")
    ax.set_ylabel("distance to the true position (cm)")
    ax.set_title("Path integration error: median over walks, band from 25 to 75 %", fontsize=11)
    ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.14), ncols=2)
    return figure_of(ax)


def curves_with_spread(
    curves: Mapping[str, np.ndarray],
    *,
    x_label: str,
    y_label: str,
    title: str,
    ax: Axes | None = None,
) -> Figure:
    """Median over seeds of curves {label: [x, seed]}, x = 0, 1, ..., in a band from 25 to 75 %."""
    ax = axes_or_new(ax, (7.5, 4.6))
    for number, (label, values) in enumerate(curves.items()):
        colour, dashed = COLOURS[number % len(COLOURS)], number >= len(COLOURS)
        x, (low, median, high) = np.arange(len(values)), np.quantile(values, (0.25, 0.5, 0.75), 1)
        ax.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
        ax.plot(x, median, "--" if dashed else "-", color=colour, label=label)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel(x_label)
    ax.set_ylabel(y_label)
    ax.set_title(title, fontsize=11)
    ax.legend(fontsize=8)
    return figure_of(ax)


def points_with_spread(
    values: Mapping[int, np.ndarray],
    *,
    x_label: str,
    y_label: str,
    title: str,
    ax: Axes | None = None,
) -> Figure:
    """Values {x: [seed]} on a logarithmic axis: every seed a dot, their means joined."""
    ax = axes_or_new(ax, (6.0, 4.2))
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
    return figure_of(ax)


def walked_path(
    environment: "Environment",
    positions: np.ndarray,
    *,
    title: str,
    centres: np.ndarray | None = None,
    ax: Axes | None = None,
) -> Figure:
    """A path [time, 2] (m) between the walls of its environment; it may be cut by NaN.

    centres [place, 2] (m): of firing fields. Raises ValueError where the environment is a track.
    """
    _check_arena(environment, title)
    ax = axes_or_new(ax, (4.0, 4.0))
    longest = np.ptp(np.asarray(environment.extent, float), axis=1) / 2
    ax.plot(*broken_at_jumps(positions, longest), color=SIMULATED, linewidth=0.5, alpha=0.7)
    ax.plot(*positions[0], "o", color=RAT, markersize=5, label="start")
    if centres is not None:
        ax.plot(*centres.T, "+", color=GREY, markersize=5, label="centres of fields")
    _draw_arena(ax, environment, title, "black")
    return figure_of(ax)


def occupancy(
    environment: "Environment", positions: np.ndarray, *, num_bins: int = 30
) -> np.ndarray:
    """Time in each bin over the mean of all bins inside: positions [time, 2] (m) -> [x, y].

    The longer side is num_bins wide. Bins outside the boundary and in holes are NaN.
    """
    seen = positions[np.isfinite(positions).all(axis=1)]
    side = max(high - low for low, high in environment.extent) / num_bins
    edges = [
        np.linspace(low, high, 1 + max(1, round((high - low) / side)))
        for low, high in environment.extent
    ]
    counts, *_ = np.histogram2d(seen[:, 0], seen[:, 1], bins=edges)
    middles = np.meshgrid(*[(e[1:] + e[:-1]) / 2 for e in edges], indexing="ij")
    points = np.stack([m.ravel() for m in middles], axis=1)
    outline, *holes = (
        matplotlib.path.Path(corners).contains_points(points).reshape(counts.shape)
        for corners in (environment.boundary, *environment.holes)
    )
    inside = (outline & ~np.any(holes, axis=0)) | (counts > 0)
    return np.where(inside, counts / max(counts[inside].mean(), 1e-30), np.nan)


def occupancy_map(
    environment: "Environment",
    positions: np.ndarray,
    *,
    title: str,
    num_bins: int = 30,
    limits: tuple[float, float] | None = None,
    colour_label: str | None = "time in a bin / mean of all",
    ax: Axes | None = None,
) -> Figure:
    """`occupancy` of a path [time, 2] (m), and the walls. Raises ValueError on a track."""
    _check_arena(environment, title)
    ax = axes_or_new(ax, (4.4, 3.6))
    spatial_map(
        occupancy(environment, positions, num_bins=num_bins),
        extent_m=environment.extent,
        title=title,
        limits=limits,
        colour_map="magma",
        colour_label=colour_label,
        ax=ax,
    )
    _draw_arena(ax, environment, title, "white")
    return figure_of(ax)


def _check_arena(environment: "Environment", title: str) -> None:
    if environment.num_dims != 2:
        raise ValueError(f"arenas have two dimensions, but {title.splitlines()[0]} is a track")


def _draw_arena(ax: Axes, environment: "Environment", title: str, wall_colour: str) -> None:
    """The walls of an environment, with equal aspect, title and labels."""
    for wall in environment.walls:
        ax.plot(*wall.T, color=wall_colour, linewidth=1.5, solid_capstyle="round")
    set_space(ax, environment.extent, title, margin=0.03)


def arenas(
    walks: Mapping[str, tuple["Environment", np.ndarray]],
    *,
    dt_s: float,
    centres: np.ndarray | None = None,
    num_bins: int = 30,
    title: str,
) -> Figure:
    """`walked_path` of each walk and, below, its `occupancy_map` in shared colours; a column each.

    walks {label: (environment, positions [time, 2] (m))}, dt_s between positions.
    Raises ValueError where an environment is a track.
    """
    width = min(3.0, 12 / len(walks))
    figure = Figure(figsize=(1.3 + width * len(walks), 6.4), layout="constrained")
    figure.suptitle(title, fontsize=11)
    axes = figure.subplots(2, len(walks), squeeze=False)
    for (label, (environment, positions)), ax in zip(walks.items(), axes[0], strict=True):
        minutes = dt_s * (len(positions) - 1) / 60
        text = f"{label}\n{minutes:.3g} min"
        walked_path(environment, positions, title=text, centres=centres, ax=ax)
    shares = [occupancy(*walk, num_bins=num_bins) for walk in walks.values()]
    most = max(float(np.nanquantile(share, 0.99)) for share in shares)
    # At most 5: an animal that stays at one place would make all other panels dark.
    limits = 0.0, float(np.clip(most, 2, 5))
    for (label, walk), ax in zip(walks.items(), axes[1], strict=True):
        occupancy_map(
            *walk, title=label, num_bins=num_bins, limits=limits, colour_label=None, ax=ax
        )
    bar = figure.colorbar(axes[1, -1].get_images()[0], ax=axes[1], shrink=0.75, extend="max")
    bar.set_label("time in a bin / mean of all", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    axes[0, 0].legend(fontsize=7, loc="upper left", bbox_to_anchor=(0, -0.22), ncols=2)
    return figure
