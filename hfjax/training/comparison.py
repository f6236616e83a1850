"""A table and a figure over several runs that differ in some settings."""

import csv
import io
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import fiddle as fdl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hfjax.errors import InputError, nearest
from hfjax.files import write_atomically
from hfjax.task import Metric, Task, meaning
from hfjax.training import workdir as wd
from hfjax.training.curves import COLOURS, GREY, PUBLISHED, STYLES
from hfjax.training.experiment import Headline, build_headline, build_task
from hfjax.training.log import read_metrics
from hfjax.training.numbers import factor, in_words

Described = tuple[Mapping[str, str], pathlib.Path, fdl.Buildable]  # what differs, workdir, config


class Result(NamedTuple):
    """What a run has come to."""

    settings: Mapping[str, str]
    workdir: pathlib.Path
    step: int  # of its last evaluation; -1 before the first
    state: str  # complete, or unfinished
    scalars: Mapping[str, float]  # of that evaluation; the median of a population


def is_complete(workdir: pathlib.Path, config: fdl.Buildable) -> bool:
    """Whether the last step is done, evaluated and saved.

    Raises InputError where `workdir` holds a run of another config.
    """
    last = config.num_steps
    return (
        wd.check_same(workdir, config)
        and wd.has_readout(workdir, last)
        and (workdir / "checkpoints" / str(last)).is_dir()
    )


def check_scalar(name: str, config: fdl.Buildable) -> None:
    """Raise InputError where a task that declares its scalars has none of this name to compare."""
    metrics = build_task(config).metrics
    if metrics and not (name.startswith("eval/") and meaning(name, metrics)):
        raise _unknown(name, [n for n in metrics if n.startswith("eval/")])


def _unknown(name: str, names: Sequence[str]) -> InputError:
    return InputError(f"--scalar={name} is no scalar of these runs; {nearest(name, names)}")


def compare(runs: Sequence[Described], folder: pathlib.Path, scalar: str | None = None) -> str:
    """Write FOLDER/sweep.csv and sweep.png; returns the table as text.

    scalar  what the figure shows, as the log names it; by default the first of the headline.

    Raises InputError where no run has this scalar; the table is written nevertheless.
    """
    results = [_result(*run) for run in runs]
    config = runs[0][2]
    names = list(dict.fromkeys(name for result in results for name in result.scalars))
    if not names:
        return "No run has been evaluated yet.\n"
    write_atomically(folder / "sweep.csv", _csv(results, names).encode())
    task, headline = build_task(config), build_headline(config)
    shown = [h.name for h in headline if h.name in names] or names[:2]
    if scalar is not None:
        if scalar not in names:
            raise _unknown(scalar, names)
        shown = [scalar, *(name for name in shown if name != scalar)]
    published = {h.name: h for h in headline if h.published is not None}
    figure = draw(results, shown[0], task, published.get(shown[0]))
    wd.save_figure(folder / "sweep.png", figure)
    places = f"Table: {folder / 'sweep.csv'}\nFigure: {folder / 'sweep.png'}\n"
    return f"\n{_text(results, shown[:3], task)}\n{places}"


def _result(settings: Mapping[str, str], workdir: pathlib.Path, config: fdl.Buildable) -> Result:
    records = read_metrics(workdir / "metrics.jsonl")
    evaluations = [r for r in records if any(name.startswith("eval/") for name in r)]
    last = evaluations[-1] if evaluations else {"step": -1}
    scalars = {n: _median(v) for n, v in last.items() if n.startswith("eval/")}
    state = "complete" if is_complete(workdir, config) else "unfinished"
    return Result(settings, workdir, last["step"], state, scalars)


def _median(value: Any) -> float:
    """The median over a population; NaN for null."""
    values = np.array(value, float)
    return float(np.nanmedian(values)) if np.isfinite(values).any() else math.nan


def _csv(results: Sequence[Result], names: Sequence[str]) -> str:
    """A line for each run: what differs, its state, and every scalar of its last evaluation."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["run", *results[0].settings, "state", "step", *names])
    for result in results:
        values = [result.scalars.get(name, "") for name in names]
        rows.writerow(
            [result.workdir.name, *result.settings.values(), result.state, result.step, *values]
        )
    return text.getvalue()


def _text(results: Sequence[Result], names: Sequence[str], task: Task) -> str:
    """The table as a person reads it."""
    metrics = [meaning(name, task.metrics) for name in names]
    labels = [m.label if m else n for n, m in zip(names, metrics, strict=True)]
    lines = [[*(p.rpartition(".")[2] for p in results[0].settings), "step", *labels]]
    for result in results:
        step = str(result.step) + ("" if result.state == "complete" else f" ({result.state})")
        values = (
            in_words(result.scalars[n], m) if n in result.scalars else ""
            for n, m in zip(names, metrics, strict=True)
        )
        lines.append([*result.settings.values(), step, *values])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "".join(
        "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() + "\n"
        for line in lines
    )


# --- The figure ---


def draw(results: Sequence[Result], name: str, task: Task, published: Headline | None) -> Figure:
    """A scalar over the first setting that is a number; colours for the others, points for seeds.

    Lines join the medians over the seeds. Controls and chance levels are grey, the published value
    is black.
    """
    metric = meaning(name, task.metrics) or Metric(name)
    x_path = next(
        (p for p in results[0].settings if p != "seed" and _are_numbers(results, p)), None
    )
    groups: dict[str, list[Result]] = {}
    for result in results:
        others = [
            f"{p.rpartition('.')[2]} {v}"
            for p, v in result.settings.items()
            if p not in ("seed", x_path)
        ]
        groups.setdefault(", ".join(others), []).append(result)
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    ax = figure.add_subplot()
    place = _places(results, x_path, list(groups))
    for number, (label, members) in enumerate(groups.items()):
        colour = COLOURS[number % len(COLOURS)]
        _draw_group(ax, members, name, place, metric, label=label or metric.label, colour=colour)
    for other in dict.fromkeys(n for r in results for n in r.scalars):
        control = meaning(other, task.metrics)
        if control and control.role and control.of == name:
            _draw_group(
                ax,
                results,
                other,
                place,
                control,
                label=control.label,
                colour=GREY,
                style=STYLES[control.role],
            )
    if metric.level:
        ax.axhline(
            factor(metric.unit) * metric.level[1], color=GREY, ls="-.", lw=1, label=metric.level[0]
        )
    if published is not None and published.published is not None:
        ax.axhline(
            factor(metric.unit) * published.published,
            color="black",
            ls=PUBLISHED,
            lw=1,
            label=f"{published.kind}, {published.source}".rstrip(", "),
        )
    _label_axes(ax, results, x_path, list(groups), metric)
    return figure


def _are_numbers(results: Sequence[Result], path: str) -> bool:
    values = {_number(r.settings[path]) for r in results}
    return None not in values and len(values) > 1


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _places(
    results: Sequence[Result], x_path: str | None, groups: Sequence[str]
) -> dict[str, float]:
    """{name of a run: its place on the x axis}."""
    if x_path is not None:
        return {r.workdir.name: float(r.settings[x_path]) for r in results}
    labels = {
        r.workdir.name: ", ".join(
            f"{p.rpartition('.')[2]} {v}" for p, v in r.settings.items() if p != "seed"
        )
        for r in results
    }
    return {name: float(groups.index(label)) for name, label in labels.items()}


def _draw_group(
    ax: Axes,
    results: Sequence[Result],
    name: str,
    place: Mapping[str, float],
    metric: Metric,
    *,
    label: str,
    colour: str,
    style: str = "-",
) -> None:
    points = [(place[r.workdir.name], r.scalars[name]) for r in results if name in r.scalars]
    if not points:
        return
    x, y = np.array(points).T
    y = factor(metric.unit) * y
    middle = sorted(set(x))
    medians = [np.nanmedian(y[x == place]) for place in middle]
    ax.plot(middle, medians, style, marker="_", ms=14, lw=1.2, color=colour, label=label)
    if style == "-":
        ax.plot(x, y, "o", ms=4, alpha=0.6, color=colour)


def _label_axes(
    ax: Axes,
    results: Sequence[Result],
    x_path: str | None,
    groups: Sequence[str],
    metric: Metric,
) -> None:
    unit = f" ({metric.unit})" if metric.unit else ""
    split = f", {metric.split}" if metric.split else ""
    ax.set_ylabel(f"{metric.label}{split}{unit}")
    if x_path is None:
        ax.set_xticks(range(len(groups)), groups)
        ax.set_xlim(-0.5, len(groups) - 0.5)
    else:
        ax.set_xlabel(x_path)
        x = [float(r.settings[x_path]) for r in results]
        if min(x) > 0 and max(x) >= 9 * min(x):
            ax.set_xscale("log")
    if metric.log:
        ax.set_yscale("log")
    unfinished = sum(r.state != "complete" for r in results)
    seeds = len({r.settings.get("seed") for r in results})
    notes = [f"points: {seeds} seeds; line: median"] if seeds > 1 else []
    notes += [f"{unfinished} of {len(results)} runs are unfinished"] if unfinished else []
    ax.set_title("; ".join(notes), fontsize=9)
    ax.legend(fontsize=8, frameon=False)
