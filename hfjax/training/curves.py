"""training.png: the scalars of a run over its steps, a panel for each subject."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from hfjax.task import Axis, Metric, Metrics, meaning
from hfjax.training.experiment import Headline
from hfjax.training.numbers import factor

MOST_PANELS = 8
COLOURS = ("#2a6fbb", "#d1603d", "#3c9d6d", "#8b5fbf", "#b8860b", "#17a2a2", "#d16ba5", "#444444")
GREY = "#6f6f6f"
PUBLISHED = (0, (8, 2, 1, 2, 1, 2))
STYLES = {"": "-", "control": "--", "floor": ":", "chance": "-."}

Records = Sequence[Mapping[str, Any]]


def training_curves(
    records: Records,
    *,
    metrics: Metrics | None = None,
    headline: Sequence[Headline] = (),
    axis: Axis | None = None,
) -> Figure:
    """The scalars of metrics.jsonl over training: training as lines, evaluations as points.

    The panels with the headline come first, then the others as declared, at most eight. A scalar
    stands beside its controls, floor, chance level and published value. Scalars without a
    declaration have a panel for each name. In a population the line is the median over the seeds
    and the band spans the quartiles.
    """
    metrics, axis = metrics or {}, axis or Axis()
    names = list(dict.fromkeys(n for r in records for n in r if n.startswith(("train/", "eval/"))))
    every = panels(names, metrics, headline)
    shown = dict(list(every.items())[:MOST_PANELS])
    columns = min(3, max(1, len(shown)))
    rows = -(-max(1, len(shown)) // columns)
    figure = Figure(figsize=(4.4 * columns, 3.6 * rows), layout="constrained")
    below = ScaledTranslation(0, -0.42, figure.dpi_scale_trans)  # inches, for the axis' label
    published = {h.name: h for h in headline if h.published is not None}
    last = axis.per_step * max((r["step"] for r in records), default=0)
    legends = []
    for number, (title, members) in enumerate(shown.items(), start=1):
        ax = figure.add_subplot(rows, columns, number, xlabel=axis.label)
        ax.set_title(textwrap.fill(title, 46), fontsize=10)
        colours = _draw_panel(ax, records, members, metrics, axis)
        if last:
            ax.set_xlim(-0.02 * last, 1.02 * last)  # of all panels
        for name in [name for name in members if name in published]:
            colour = colours[name] if len(colours) > 1 else "black"
            _draw_published(ax, published[name], meaning(name, metrics), colour)
        where = {"bbox_to_anchor": (0.5, 0), "bbox_transform": ax.transAxes + below}
        legend = ax.legend(loc="upper center", fontsize=7, frameon=False, **where)
        legends.append(len(legend.get_texts()))
    tallest = [max(legends[row * columns :][:columns], default=0) for row in range(rows)]
    figure.set_figheight(sum(2.7 + 0.13 * lines for lines in tallest))
    seeds = max((np.size(r[n]) for r in records for n in names if n in r), default=1)
    if seeds > 1:
        figure.suptitle(f"{seeds} models: median, and a band between the quartiles", fontsize=10)
    if len(every) > len(shown):
        left = ", ".join(list(every)[MOST_PANELS:])
        figure.supxlabel(f"only in metrics.jsonl: {left}", fontsize=7)
    return figure


def panels(
    names: Sequence[str], metrics: Metrics, headline: Sequence[Headline]
) -> dict[str, list[str]]:
    """{title: names of its scalars}; first those with a headline, then in the order declared."""
    patterns = list(metrics)
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
    ax: Axes, records: Records, names: Sequence[str], metrics: Metrics, axis: Axis
) -> dict[str, str]:
    """Draw scalars; -> the colours of those that are no control, floor or chance level."""
    own = [n for n in names if not (m := meaning(n, metrics)) or not m.role]
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(own)}
    units, positive, log = [], True, False
    levels: dict[tuple[str, float], str] = {}
    for name in names:
        metric = meaning(name, metrics)
        unit, role = (metric.unit, metric.role) if metric else ("", "")
        colour = colours.get(metric.of if metric and role else name, GREY)
        steps, values = _series(records, name)
        x, y = axis.per_step * steps, factor(unit) * values
        positive &= bool(np.all(y[np.isfinite(y)] > 0))
        label = _label(name, metric)
        if metric and role and len(own) > 1 and (compared := meaning(metric.of, metrics)):
            label = f"{label}: {compared.label}"
        _draw_line(ax, x, y, name, label=label, colour=colour, style=STYLES[role])
        units.append(unit)
        if metric:
            log |= metric.log
            if metric.level:
                levels[metric.level] = unit
    for (label, value), unit in levels.items():
        ax.axhline(factor(unit) * value, color=GREY, ls="-.", lw=1, label=label)
    unit = " / ".join(dict.fromkeys(filter(None, units)))
    ax.set_ylabel(textwrap.fill(unit or _plain_label(own, metrics, ax), 28))
    if log and positive:
        ax.set_yscale("log")
    return colours


def _plain_label(own: Sequence[str], metrics: Metrics, ax: Axes) -> str:
    """The y axis of plain numbers: what the only scalar is, or the beginning of the title."""
    only = meaning(own[0], metrics) if len(own) == 1 else None
    return only.label if only else ax.get_title().partition(":")[0]


def _label(name: str, metric: Metric | None) -> str:
    if metric is None:
        return name
    split = {"frozen": "weights fixed"}.get(metric.split, metric.split)
    return f"{metric.label} ({split})" if split else metric.label


def _draw_line(
    ax: Axes, x: np.ndarray, y: np.ndarray, name: str, *, label: str, colour: str, style: str
) -> None:
    marker = "o" if (name.startswith("eval/") and style == "-") or len(x) == 1 else None
    if y.ndim == 2:
        low, y, high = _quartiles(y)
        ax.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
    ax.plot(x, y, style, marker=marker, ms=3, lw=1.2, color=colour, label=label)


def _quartiles(values: np.ndarray) -> np.ndarray:
    """[time, seed] -> [quartile, time]; NaN where no seed has a number."""
    out = np.full((3, len(values)), np.nan)
    some = np.isfinite(values).any(axis=1)
    out[:, some] = np.nanquantile(values[some], (0.25, 0.5, 0.75), axis=1)
    return out


def _draw_published(ax: Axes, headline: Headline, metric: Metric | None, colour: str) -> None:
    """The published value as a line, with the first setting of that run which is known.

    Black where there is one scalar; else in the colour of its scalar, which it names.
    """
    assert headline.published is not None
    settings = ", ".join(
        f"{p.rpartition('.')[2]} {v}" for p, v in [*(headline.at or {}).items()][:1]
    )
    value = factor(metric.unit if metric else "") * headline.published
    label = f"{headline.kind}, {settings}" if settings else headline.kind
    if colour != "black" and metric:
        label = f"{label}: {metric.label}"
    ax.axhline(value, color=colour, lw=1, ls=PUBLISHED, label=textwrap.fill(label, 70))


def _series(records: Records, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps [time] and values [time] or [time, seed] of a scalar; null becomes NaN."""
    points = [(r["step"], np.array(r[name], float)) for r in records if r.get(name) is not None]
    if not points:
        return np.zeros(0), np.zeros(0)
    steps, values = zip(*points, strict=True)
    return np.array(steps), np.stack(values)
