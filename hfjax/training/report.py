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
from hfjax.training.numbers import digits, in_words

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
    origins = _origins(headline, config)
    shared = origins[0] if len(set(origins)) == 1 else None
    lines = textwrap.wrap(_title(step, experiment, headline, shared), WIDTH)
    metrics = {h.name: meaning(h.name, experiment.task.metrics) for h in headline}
    labels = [(metrics[h.name] or Metric(h.name)).label for h in headline]
    column = min(28, max(map(len, labels), default=0))
    for one, label in zip(headline, labels, strict=True):
        differs = "" if shared or one.published is None else _differs(one, config)
        with_start, without = (
            _wrapped(f"{label:<{column}}  {'; '.join(parts)}{differs}", column)
            for parts in _comparisons(one, experiment, before=before, latest=latest)
        )
        lines += with_start if len(with_start) == len(without) else without
    for note in dict.fromkeys(m.note for m in metrics.values() if m and m.note):
        lines += textwrap.wrap(note, WIDTH, initial_indent="  ", subsequent_indent="  ")
    return "\n".join([*lines, *places(workdir)])


def headlines(experiment: Experiment, latest: Values) -> list[Headline]:
    """The experiment's headline, or for want of one what the terminal shows."""
    if experiment.headline:
        return list(experiment.headline)
    return [
        Headline(f"eval/{n}" if f"eval/{n}" in latest else f"train/{n}") for n in experiment.show
    ]


def _origins(headline: list[Headline], config: fdl.Buildable) -> list[str]:
    """Where each published value comes from, and how that run differs from this one."""
    return [f"{h.source}{_differs(h, config)}" for h in headline if h.published is not None]


def _title(step: int, experiment: Experiment, headline: list[Headline], origin: str | None) -> str:
    axis = experiment.task.axis
    parts = [f"Complete after {step} {axis.label.removeprefix('training ')}"]
    if axis.per_step != 1:
        parts[0] = f"Complete after {step} steps ({digits(step * axis.per_step)} {axis.label})"
    if experiment.seeds > 1:
        parts.append(f"Median of {experiment.seeds} models (quartiles)")
    sources: dict[str, dict[str, None]] = {}
    for one in headline:
        if one.published is not None and one.source:
            sources.setdefault(one.kind, {})[origin or one.source] = None
    parts += [f"{kind.capitalize()}: {', '.join(names)}" for kind, names in sources.items()]
    return ". ".join(parts) + "."


def _wrapped(text: str, column: int) -> list[str]:
    """The lines of a number; values begin in the same column."""
    lines = textwrap.wrap(
        text.replace(" %", "\0%"),  # a sign of percent stays with its number
        WIDTH,
        initial_indent="  ",
        subsequent_indent=" " * (column + 4),
        break_on_hyphens=False,
    )
    return [line.replace("\0%", " %") for line in lines]


def _comparisons(
    one: Headline, experiment: Experiment, *, before: Values, latest: Values
) -> tuple[list[str], list[str]]:
    """The value, its controls, the value at the start and the published one; and without the start.

    A start from which it got worse is in both; of what is no measure of progress there is none.
    """
    metrics = experiment.task.metrics
    metric = meaning(one.name, metrics)
    parts, start, published = [in_words(latest[one.name], metric)], [], []
    for name, value in latest.items():
        other = meaning(name, metrics)
        if other and other.role and other.of == one.name:
            parts.append(f"{other.label} {in_words(np.nanmedian(value), other, short=True)}")
    if metric and metric.level:
        label, level = metric.level
        parts.append(f"{label} {in_words(level, metric, short=True)}")
    worse = False
    if one.name in before and metric and metric.better:
        first, last = (float(np.nanmedian(values[one.name])) for values in (before, latest))
        worse = _is_worse(last, first, metric)
        if digits(first) != digits(last):
            in_short = in_words(first, metric, short=True)
            start = [f"began at {in_short}{': it got worse' * worse}"]
    if one.published is not None:
        published = [f"{one.kind} {in_words(one.published, metric, short=True)}"]
    return [*parts, *start, *published], [*parts, *start * worse, *published]


def _is_worse(value: float, before: float, metric: Metric) -> bool:
    change = {"lower": before - value, "higher": value - before}.get(metric.better, 0.0)
    return change < -0.02 * abs(before)


def _differs(one: Headline, config: fdl.Buildable) -> str:
    """In brackets the settings of the published run that this one does not share; or nothing."""
    here = {setting.path: _name(setting.value) for setting in settings(config)}
    other = {
        p: (_name(v), here[p]) for p, v in (one.at or {}).items() if here.get(p, v) != _name(v)
    }
    if not other:
        return ""
    there = ", ".join(f"{path.rpartition('.')[2]} {value}" for path, (value, _) in other.items())
    return f" ({there}; here {', '.join(value for _, value in other.values())})"


def _name(value: Any) -> str:
    """A setting's value for a reader; a function, and that of a part, by its name."""
    function = fdl.get_callable(value) if isinstance(value, fdl.Buildable) else value
    return function_name(function).rpartition(":")[2] if callable(function) else str(value)


def places(workdir: pathlib.Path) -> list[str]:
    """Where everything of a run is."""
    return [
        f"  files        {workdir}/  (figures/training.png, config, metrics, checkpoints)",
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
