"""The last lines of a run: its numbers beside what they are compared with, and where all is.

They fit ten lines of 80 columns, unless the workdir has a long name.
"""

import pathlib
import shlex
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import fiddle as fdl
import numpy as np

from hfjax.task import Metric, meaning
from hfjax.training.config import function_name, settings
from hfjax.training.experiment import Experiment, Headline
from hfjax.training.numbers import digits, factor, in_words

WIDTH = 80
Values = Mapping[str, Any]


def ending(
    workdir: pathlib.Path,
    step: int,
    experiment: Experiment,
    config: fdl.Buildable,
    *,
    before: Values,
    latest: Values,
) -> str:
    """The last lines of a complete run; `before` are the scalars before training."""
    headline = [h for h in headlines(experiment, latest) if h.name in latest]
    lines = textwrap.wrap(_title(step, experiment, headline), WIDTH)
    metrics = {h.name: meaning(h.name, experiment.task.metrics) for h in headline}
    labels = [(metrics[h.name] or Metric(h.name)).label for h in headline]
    column = min(28, max(map(len, labels), default=0))
    for one, label in zip(headline, labels, strict=True):
        text = "; ".join(_comparison(one, experiment, config, before=before, latest=latest))
        lines += textwrap.wrap(
            f"{label:<{column}}  {text}",
            WIDTH,
            initial_indent="  ",
            subsequent_indent=" " * (column + 4),
            break_on_hyphens=False,
        )
    for note in dict.fromkeys(m.note for m in metrics.values() if m and m.note):
        lines += textwrap.wrap(note, WIDTH, initial_indent="  ", subsequent_indent="  ")
    return "\n".join([*lines, *places(workdir, step)])


def headlines(experiment: Experiment, latest: Values) -> list[Headline]:
    """The experiment's headline, or for want of one what the terminal shows."""
    if experiment.headline:
        return list(experiment.headline)
    return [
        Headline(f"eval/{n}" if f"eval/{n}" in latest else f"train/{n}") for n in experiment.show
    ]


def _title(step: int, experiment: Experiment, headline: list[Headline]) -> str:
    axis = experiment.task.axis
    parts = [f"Complete after {step} steps"]
    if axis.per_step != 1:
        parts[0] += f" ({digits(step * axis.per_step)} {axis.label})"
    if experiment.seeds > 1:
        parts.append(f"Median of {experiment.seeds} models (quartiles)")
    sources = dict.fromkeys(h.source for h in headline if h.published is not None and h.source)
    if sources:
        parts.append(f"Published: {', '.join(sources)}")
    return ". ".join(parts) + "."


def _comparison(
    one: Headline, experiment: Experiment, config: fdl.Buildable, *, before: Values, latest: Values
) -> Iterator[str]:
    """The parts of a line: the value, its controls, the value before training, the published."""
    metrics = experiment.task.metrics
    metric = meaning(one.name, metrics)
    yield in_words(latest[one.name], metric)
    for name, value in latest.items():
        other = meaning(name, metrics)
        if other and other.role and other.of == one.name:
            yield f"{other.label} {in_words(np.nanmedian(value), other, short=True)}"
    if metric and metric.level:
        label, value = metric.level
        yield f"{label} {in_words(value, metric, short=True)}"
    if one.name in before and metric:
        middle = float(np.nanmedian(before[one.name]))
        worse = _is_worse(float(np.nanmedian(latest[one.name])), middle, metric)
        yield f"untrained {in_words(middle, metric, short=True)}" + (
            ": it got worse" if worse else ""
        )
    if one.published is not None:
        yield _published(one, metric, config)


def _is_worse(value: float, before: float, metric: Metric) -> bool:
    change = {"lower": before - value, "higher": value - before}.get(metric.better, 0.0)
    return change < -0.02 * abs(before)


def _published(one: Headline, metric: Metric | None, config: fdl.Buildable) -> str:
    unit = metric.unit if metric else ""
    assert one.published is not None
    text = f"published {digits(factor(unit) * one.published)}" + " %" * unit.startswith("%")
    here = {setting.path: _name(setting.value) for setting in settings(config)}
    other = {
        p: (_name(v), here[p]) for p, v in (one.at or {}).items() if here.get(p, v) != _name(v)
    }
    if not other:
        return text
    there = ", ".join(f"{path.rpartition('.')[2]} {value}" for path, (value, _) in other.items())
    return f"{text} ({there}; here {', '.join(value for _, value in other.values())})"


def _name(value: Any) -> str:
    """A setting's value for a reader; a function, and that of a part, by its name."""
    function = fdl.get_callable(value) if isinstance(value, fdl.Buildable) else value
    return function_name(function).rpartition(":")[2] if callable(function) else str(value)


def places(workdir: pathlib.Path, step: int) -> list[str]:
    """Where everything of a run is."""
    figures = sorted(path.name for path in (workdir / "figures").glob("*.png"))
    drawn = f"  figures      {workdir}/figures/  ({', '.join(figures)})"
    if len(drawn) > WIDTH:
        drawn = f"  figures      {workdir}/figures/  ({len(figures)}; see training.png)"
    return [
        drawn,
        f"  the rest     {workdir}/  (config, metrics, readout, checkpoints/{step})",
        f'  in Python    task, state, config = hfjax.load("{workdir}")',
        *wandb_lines(workdir),
    ]


def wandb_lines(workdir: pathlib.Path) -> Iterator[str]:
    """Where the run is in W&B: its URL, or the command that sends what was logged offline."""
    folder = workdir / "wandb"
    if (folder / "url").exists():
        yield f"  W&B          {(folder / 'url').read_text().strip()}"
    if any(folder.glob("offline-run-*")):
        path = shlex.quote(str(folder))
        yield f"  W&B          offline; send it by: wandb sync {path}/offline-run-*"
