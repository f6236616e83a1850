"""training.png: the scalars of a run over its steps, a panel for each subject."""

import fnmatch
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from hfjax.task import Axis, Metric, Metrics, meaning
from hfjax.training.experiment import Headline
from hfjax.training.numbers import digits, factor

MOST_PANELS = 8
COLOURS = ("#2a6fbb", "#d1603d", "#3c9d6d", "#8b5fbf", "#b8860b", "#17a2a2", "#d16ba5", "#444444")
GREY = "#6f6f6f"
PUBLISHED = (0, (8, 2, 1, 2, 1, 2))
STYLES = {"control": "--", "floor": ":", "chance": "-."}

Records = Sequence[Mapping[str, Any]]


def training_curves(
    records: Records,
    *,
    metrics: Metrics | None = None,
    headline: Sequence[Headline] = (),
    axis: Axis | None = None,
) -> Figure:
    """The scalars of metrics.jsonl over training: training as lines, evaluations as points.

    The panels with the headline come first, then the others as declared, at most eight. Controls,
    floors, chance levels and published values do not learn: they are horizontal lines, controls at
    their newest value. Scalars without a declaration have a panel for each name. In a population
    the line is the median over the seeds and the band spans the quartiles.
    """
    metrics, axis = metrics or {}, axis or Axis()
    names = list(dict.fromkeys(n for r in records for n in r if n.startswith(("train/", "eval/"))))
    every = panels(names, metrics, headline)
    shown = dict(list(every.items())[:MOST_PANELS])
    figure = Figure(layout="constrained")
    axes = _axes_in_rows(figure, len(shown))
    colours = series_colours(shown.values(), metrics)
    below = ScaledTranslation(0, -0.42, figure.dpi_scale_trans)  # inches, for the axis' label
    last = axis.per_step * max((r["step"] for r in records), default=0)
    lines = []
    for ax, (title, members) in zip(axes, shown.items(), strict=True):
        split = _shared_split(members, metrics)
        ax.set_title(balanced(f"{title} ({split})" if split else title, 52), fontsize=10)
        ax.set_xlabel(axis.label)
        _draw_panel(ax, records, members, metrics, axis, colours)
        _draw_published(ax, members, headline, metrics, colours)
        if last:
            ax.set_xlim(-0.02 * last, 1.02 * last)  # of all panels
        where = {"bbox_to_anchor": (0.5, 0), "bbox_transform": ax.transAxes + below}
        lines.append(_draw_legend(ax, where))
    tallest = [max((lines[i] for i in row), default=0) for row in rows_of(len(shown))]
    figure.set_figheight(sum(2.7 + 0.13 * number for number in tallest))
    seeds = max((np.size(r[n]) for r in records for n in names if n in r), default=1)
    if seeds > 1:
        figure.suptitle(f"{seeds} models: median, and a band between the quartiles", fontsize=10)
    if len(every) > len(shown):
        left = textwrap.fill(f"only in metrics.jsonl: {', '.join(list(every)[MOST_PANELS:])}", 150)
        figure.supxlabel(left, fontsize=7)
    return figure


def rows_of(number: int) -> list[list[int]]:
    """The panels of each row: at most three, and as even as can be."""
    rows = max(1, -(-number // 3))
    return [row.tolist() for row in np.array_split(np.arange(number), rows)]


def _axes_in_rows(figure: Figure, number: int) -> list[Axes]:
    """Panels of one size; a row that has fewer than the others is centred."""
    rows = rows_of(number)
    widest = max(map(len, rows))
    figure.set_figwidth(4.4 * max(1, widest))
    if not widest:
        return []
    grid = figure.add_gridspec(len(rows), 2 * widest)
    return [
        figure.add_subplot(grid[i, widest - len(row) + 2 * j : widest - len(row) + 2 * j + 2])
        for i, row in enumerate(rows)
        for j in range(len(row))
    ]


def balanced(text: str, width: int) -> str:
    """Wrap into as few lines as textwrap does, and these as even as can be."""
    lines = len(textwrap.wrap(text, width))
    return next(
        textwrap.fill(text, w)
        for w in range(1, width + 1)
        if len(textwrap.wrap(text, w)) == lines or w == width
    )


def series_colours(shown: Iterable[Sequence[str]], metrics: Metrics) -> dict[str, str]:
    """{series: colour}, the same in all panels; those of one panel differ.

    shown  names of the scalars of each panel.
    """
    together: dict[str, set[str]] = {}
    for members in shown:
        inside = list(dict.fromkeys(_series(n, metrics) for n in members if _is_own(n, metrics)))
        for series in inside:
            together.setdefault(series, set()).update(inside)
    colours: dict[str, str] = {}
    for number, (series, others) in enumerate(together.items()):
        taken = {colours[other] for other in others if other in colours}
        free = [c for c in COLOURS if c not in taken]
        colours[series] = free[0] if free else COLOURS[number % len(COLOURS)]
    return colours


def panels(
    names: Sequence[str], metrics: Metrics, headline: Sequence[Headline]
) -> dict[str, list[str]]:
    """{title: names of its scalars}; first those with a headline, then in the order declared.

    The scalars of a panel are in the order declared, too.
    """
    patterns = list(metrics)
    in_order = [name for pattern in patterns for name in fnmatch.filter(names, pattern)]
    names = list(dict.fromkeys([*in_order, *names]))
    titles: dict[str, str] = {}
    for name in names:
        metric = meaning(name, metrics)
        if metric is None:
            titles[name] = name.partition("/")[2]
        elif title := _panel_of(metric, metrics):
            titles[name] = title
    first = [titles[h.name] for h in headline if h.name in titles]
    declared = [_panel_of(metrics[pattern], metrics) for pattern in patterns]
    order = list(dict.fromkeys([*first, *declared, *titles.values()]))
    grouped = {title: [n for n in names if titles.get(n) == title] for title in order}
    return {title: members for title, members in grouped.items() if members}


def _panel_of(metric: Metric, metrics: Metrics) -> str:
    """Its own panel, or that of the scalar to which it is compared."""
    if metric.panel or not metric.of:
        return metric.panel
    compared = meaning(metric.of, metrics)
    return compared.panel if compared else ""


def _draw_panel(
    ax: Axes,
    records: Records,
    names: Sequence[str],
    metrics: Metrics,
    axis: Axis,
    colours: Mapping[str, str],
) -> None:
    """Draw what learns as curves, then that to which it is compared as levels."""
    declared = [metric for name in names if (metric := meaning(name, metrics))]
    own = [name for name in names if _is_own(name, metrics)]
    learning = [n for n in own if not (metric := meaning(n, metrics)) or metric.learns]
    positive = True
    for above, name in zip(reversed(range(len(learning))), learning, strict=True):
        metric = meaning(name, metrics)
        steps, values = _values(records, name)
        x, y = axis.per_step * steps, factor(metric.unit if metric else "") * values
        positive &= bool(np.all(y[np.isfinite(y)] > 0))
        line = _draw_line(ax, x, y, name, colours[_series(name, metrics)])
        line.set_label(_label(name, names, metrics))
        line.set_markersize(3 + 0.7 * above)  # the points of equal curves are all seen
    for name in names:
        if name not in learning:
            _draw_level(ax, records, name, metrics, colours, several=len(own) > 1)
    for (label, value), unit in {m.level: m.unit for m in declared if m.level}.items():
        y_level = factor(unit) * value
        ax.axhline(y_level, color=GREY, ls="-.", lw=1, label=f"{label} {digits(y_level)}")
    measures = dict.fromkeys(m.unit or m.measure for m in declared if not m.role)
    ax.set_ylabel(balanced(" / ".join(filter(None, measures)), 24))
    if positive and any(metric.log for metric in declared):
        ax.set_yscale("log")


def _is_own(name: str, metrics: Metrics) -> bool:
    """Whether a scalar is no control, floor or chance level of another one."""
    metric = meaning(name, metrics)
    return not (metric and metric.role)


def _series(name: str, metrics: Metrics) -> str:
    metric = meaning(name, metrics)
    return (metric.series or metric.label) if metric else name


def _split(name: str, metrics: Metrics) -> str:
    metric = meaning(name, metrics)
    split = metric.split if metric else ""
    return {"frozen": "weights fixed"}.get(split, split)


def _shared_split(names: Sequence[str], metrics: Metrics) -> str:
    """The split of all scalars of a panel that learn, or nothing."""
    splits = {_split(name, metrics) for name in names if _is_own(name, metrics)}
    return splits.pop() if len(splits) == 1 else ""


def _label(name: str, names: Sequence[str], metrics: Metrics) -> str:
    """The series of a scalar, and its split where the panel has several."""
    split = "" if _shared_split(names, metrics) else _split(name, metrics)
    label = _series(name, metrics)
    return f"{label} ({split})" if split and split not in label else label


def _draw_level(
    ax: Axes,
    records: Records,
    name: str,
    metrics: Metrics,
    colours: Mapping[str, str],
    *,
    several: bool,
) -> None:
    """What does not learn, as a line at its newest value (the median over seeds).

    several  whether the panel has several scalars, so that a control says to which it belongs.
    """
    metric = meaning(name, metrics)
    assert metric is not None
    values = _values(records, name)[1]
    if not len(values) or not np.isfinite(values[-1]).any():
        return
    y = factor(metric.unit) * float(np.nanmedian(values[-1]))
    if not metric.role:
        series = _series(name, metrics)
        ax.axhline(y, color=colours[series], lw=1.2, label=f"{series} {digits(y)}")
        return
    of = _series(metric.of, metrics)
    label = f"{metric.label} {digits(y)}{f' ({of})' * several}"
    ax.axhline(y, color=colours.get(of, GREY), ls=STYLES[metric.role], lw=1, label=label)


def _draw_legend(ax: Axes, where: Mapping[str, Any]) -> int:
    """Below the panel, in two columns where these are narrow enough; -> its lines."""
    labels = ax.get_legend_handles_labels()[1]
    half = -(-len(labels) // 2)
    width = sum(max(map(len, part), default=0) for part in (labels[:half], labels[half:]))
    columns = 2 if len(labels) > 2 and width <= 72 else 1
    close = {"columnspacing": 1.0, "handlelength": 1.8, "handletextpad": 0.5}
    ax.legend(loc="upper center", fontsize=7, frameon=False, ncols=columns, **close, **where)
    return -(-len(labels) // columns)


def _draw_line(ax: Axes, x: np.ndarray, y: np.ndarray, name: str, colour: str) -> Line2D:
    marker = "o" if name.startswith("eval/") or len(x) == 1 else None
    if y.ndim == 2:
        low, y, high = _quartiles(y)
        ax.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
    return ax.plot(x, y, marker=marker, lw=1.2, color=colour)[0]


def _quartiles(values: np.ndarray) -> np.ndarray:
    """[time, seed] -> [quartile, time]; NaN where no seed has a number."""
    out = np.full((3, len(values)), np.nan)
    some = np.isfinite(values).any(axis=1)
    out[:, some] = np.nanquantile(values[some], (0.25, 0.5, 0.75), axis=1)
    return out


def _draw_published(
    ax: Axes,
    names: Sequence[str],
    headline: Sequence[Headline],
    metrics: Metrics,
    colours: Mapping[str, str],
) -> None:
    """Published values as lines, with the first setting of that run which is known.

    Black where the panel has one scalar; else in the colour of its scalar, which it names.
    """
    several = sum(_is_own(name, metrics) for name in names) > 1
    for one in headline:
        if one.name not in names or one.published is None:
            continue
        metric = meaning(one.name, metrics)
        series = _series(one.name, metrics)
        value = factor(metric.unit if metric else "") * one.published
        setting = [f"{p.rpartition('.')[2]} {v}" for p, v in (one.at or {}).items()][:1]
        where = ", ".join([*[series] * several, *setting])
        label = f"{one.kind} {digits(value)}" + f" ({where})" * bool(where)
        colour = colours[series] if several else "black"
        ax.axhline(value, color=colour, lw=1, ls=PUBLISHED, label=textwrap.fill(label, 70))


def _values(records: Records, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps [time] and values [time] or [time, seed] of a scalar; null becomes NaN."""
    points = [(r["step"], np.array(r[name], float)) for r in records if r.get(name) is not None]
    if not points:
        return np.zeros(0), np.zeros(0)
    steps, values = zip(*points, strict=True)
    return np.array(steps), np.stack(values)
