"""The last lines of a run: its numbers beside what they are compared with, and where all is.

They fit ten lines of 80 columns, unless the workdir has a long name: where they would not, they
say less.
"""

import functools
import pathlib
import shlex
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import fiddle as fdl
import numpy as np

from hfjax.task import Metric, meaning
from hfjax.training import mirror, unstored
from hfjax.training.config import function_name, settings
from hfjax.training.experiment import Experiment, Headline
from hfjax.training.numbers import digits, in_words

WIDTH, MOST_LINES = 80, 10
# What is left out or shortened, one after the other, until the lines are few enough.
SHORTER = ("start", "repeated controls", "python", "settings")
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
    lines: list[str] = []
    for number in range(len(SHORTER) + 1):
        numbers = _numbers(
            step, experiment, config, before=before, latest=latest, shorter=SHORTER[:number]
        )
        lines = [*numbers, *places(workdir, python="python" not in SHORTER[:number])]
        if len(lines) <= MOST_LINES:
            break
    return "\n".join(lines)


def _numbers(
    step: int,
    experiment: Experiment,
    config: fdl.Buildable,
    *,
    before: Values,
    latest: Values,
    shorter: Sequence[str],
) -> list[str]:
    """The title and the numbers; shorter: parts of SHORTER."""
    headline = [h for h in headlines(experiment, latest) if h.name in latest]
    other = {h.name: _other_settings(h, config) for h in headline if h.published is not None}
    shared = set.intersection(*map(set, other.values())) if other else set()
    in_brackets = functools.partial(_in_brackets, brief="settings" in shorter)
    title = _title(step, experiment, headline, in_brackets(next(iter(other.values()), []), shared))
    lines = textwrap.wrap(title, WIDTH)
    metrics = {h.name: meaning(h.name, experiment.task.metrics) for h in headline}
    labels = [(metrics[h.name] or Metric(h.name)).label for h in headline]
    column = min(28, max(map(len, labels), default=0))
    said: set[str] = set()  # labels of controls
    for one, label in zip(headline, labels, strict=True):
        own = other.get(one.name, [])
        differs = in_brackets(own, set(own) - shared)
        with_start, without = (
            _wrapped(f"{label:<{column}}  {'; '.join(parts)}{differs}", column)
            for parts in _comparisons(
                one, experiment, before=before, latest=latest, shorter=shorter, said=said
            )
        )
        lines += with_start if len(with_start) == len(without) else without
    for note in dict.fromkeys(m.note for m in metrics.values() if m and m.note):
        lines += textwrap.wrap(note, WIDTH, initial_indent="  ", subsequent_indent="  ")
    return lines


def headlines(experiment: Experiment, latest: Values) -> list[Headline]:
    """The experiment's headline, or for want of one what the terminal shows."""
    if experiment.headline:
        return list(experiment.headline)
    return [
        Headline(f"eval/{n}" if f"eval/{n}" in latest else f"train/{n}") for n in experiment.show
    ]


def _title(step: int, experiment: Experiment, headline: list[Headline], differs: str) -> str:
    axis = experiment.task.axis
    parts = [f"Complete after {step} {axis.label.removeprefix('training ')}"]
    if axis.per_step != 1:
        parts[0] = f"Complete after {step} steps ({digits(step * axis.per_step)} {axis.label})"
    if experiment.seeds > 1:
        parts.append(f"Median of {experiment.seeds} models (quartiles)")
    sources: dict[str, dict[str, None]] = {}
    for one in headline:
        if one.published is not None and one.source:
            sources.setdefault(one.kind, {})[one.source] = None
    parts += [f"{kind.capitalize()}: {', '.join(names)}" for kind, names in sources.items()]
    return f"{'. '.join(parts)}{differs}."


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
    one: Headline,
    experiment: Experiment,
    *,
    before: Values,
    latest: Values,
    shorter: Sequence[str],
    said: set[str],
) -> tuple[list[str], list[str]]:
    """The value, its controls, the value at the start and the published one; and without the start.

    A start from which it got worse is in both; of what is no measure of progress there is none.
    said: labels of the controls that stand with earlier numbers; those of this one are added.
    """
    metrics = experiment.task.metrics
    metric = meaning(one.name, metrics)
    parts, start, published = [in_words(latest[one.name], metric)], [], []
    for name, value in latest.items():
        other = meaning(name, metrics)
        if other and other.role and other.of == one.name:
            if "repeated controls" in shorter and other.label in said:
                continue
            said.add(other.label)
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
            if worse and "start" in shorter:
                start = [f"was {in_short}: worse"]
    if one.published is not None:
        published = [f"{one.kind} {in_words(one.published, metric, short=True)}"]
    return [*parts, *start, *published], [*parts, *start * worse, *published]


def _is_worse(value: float, before: float, metric: Metric) -> bool:
    change = {"lower": before - value, "higher": value - before}.get(metric.better, 0.0)
    return change < -0.02 * abs(before)


def _other_settings(one: Headline, config: fdl.Buildable) -> list[tuple[str, str, str]]:
    """(name, value there, value here) of each setting that the published run does not share."""
    here = {setting.path: _name(setting.value) for setting in settings(config)}
    return [
        (path.rpartition(".")[2], _name(value), here[path])
        for path, value in (one.at or {}).items()
        if path in here and here[path] != _name(value)
    ]


def _in_brackets(
    other: list[tuple[str, str, str]], shown: set[tuple[str, str, str]], *, brief: bool
) -> str:
    """Those settings of `other` that are in `shown`, or nothing; brief: not which."""
    names = [setting for setting in other if setting in shown]
    if not names or brief:
        return " (other settings)" if names else ""
    there = ", ".join(f"{name} {value}" for name, value, _ in names)
    return f" ({there}; here {', '.join(value for _, _, value in names)})"


def _name(value: Any) -> str:
    """A setting's value for a reader; a function, and that of a part, by its name."""
    function = fdl.get_callable(value) if isinstance(value, fdl.Buildable) else value
    if function is unstored.not_stored:
        return value.what
    return function_name(function).rpartition(":")[2] if callable(function) else str(value)


def places(workdir: pathlib.Path, *, python: bool = True) -> list[str]:
    """Where everything of a run is; python: also how Python loads it."""
    shown = mirror.shown(workdir)
    # The writer jsonl may be left out, and with it what training.png is drawn from.
    metrics = (workdir / "metrics.jsonl").exists()
    held = "figures/training.png, config, metrics" if metrics else "figures, config"
    return [
        f"  files        {shown}/  ({held}, checkpoints)",
        *[f'  in Python    run = hfjax.load("{shown}")'] * python,
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
