"""What is trained and how: the root of every config."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import fiddle as fdl

from hfjax.errors import InputError, one_line
from hfjax.task import Task
from hfjax.training.config import absolute_paths, check_settings, fill_in_num_steps

COUNTS = ("num_steps", "chunk", "eval_every", "save_every", "keep", "seeds")
PRECISIONS = ("bfloat16", "tensorfloat32", "float32")  # names that JAX knows


class Headline(NamedTuple):
    """A number that matters, for the end of a run and the panels of training.png.

    name       as the log names it: eval/error_cm.
    published  the published value, in the scalar's own unit (a share from 0 to 1).
    source     of the published value: "George et al. 2023".
    at         settings of the published run by their paths, a function by its name; where this run
               has another value, its end says so. The most important one first, for training.png.
    kind       the words before that value: "published", or what else it is.
    """

    name: str
    published: float | None = None
    source: str = ""
    at: dict[str, Any] | None = None
    kind: str = "published"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """A task, its data and how to train it; the root of every config.

    task        the model that is trained.
    data        data of the task, a pytree of arrays; () where the task makes its own.
    num_steps   training steps in all.
    chunk       steps in one device program; the host logs, and looks for signals, between chunks.
    eval_every  steps between evaluations, a multiple of chunk; steps 0 and num_steps count too.
    save_every  steps between checkpoints, a multiple of chunk; num_steps counts too.
    keep        how many of the newest checkpoints and readouts stay on disk.
    keep_every  checkpoints and readouts of every so many steps stay too, for a profile of learning;
                a multiple of chunk. None for the newest alone.
    show        names of the two or three scalars that the terminal shows during training.
    headline    the two or three numbers that the run ends with, the most important one first; of a
                population, the member with the median of the first one that is evaluated is drawn.
                Without any, the run ends with those of show.
    seed        seed of the (first) model.
    seeds       number of models; more than one is a population under vmap, whose member i is the
                run of seed + i.
    matmul_precision  of the training steps: "bfloat16" or "tensorfloat32" round the factors of
                matrix products, for speed, "float32" does not. None for JAX's own choice, which
                differs by device; evaluations have it in any case. On a CPU only bfloat16 has a
                meaning, and only for `networks.rnn`, `leaky_rnn`, `linear` and `biohsic.cnn`.
    init_from   workdir of another run, whose newest checkpoint gives every part of the initial
                state, except those named `opt_state` (the optimizer's) or `fresh`.
    """

    task: Task
    data: Any = ()
    num_steps: int
    chunk: int = 100
    eval_every: int
    save_every: int
    keep: int = 3
    keep_every: int | None = None
    show: tuple[str, ...] = ("loss",)
    headline: tuple[Headline, ...] = ()
    seed: int = 0
    seeds: int = 1
    matmul_precision: str | None = None
    init_from: str | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for counts that cannot be run, and data that do not fit the task."""
        for name in (*COUNTS, *["keep_every"] * (self.keep_every is not None)):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, but is {getattr(self, name)}.")
        if not -(2**31) <= self.seed < 2**32:
            raise ValueError(f"seed must be a number of 32 bits, but is {self.seed}.")
        if self.matmul_precision not in (None, *PRECISIONS):
            raise ValueError(
                f"matmul_precision must be one of {', '.join(PRECISIONS)} or None, but is "
                f"{self.matmul_precision!r}."
            )
        if self.chunk > self.num_steps:
            raise ValueError(
                f"chunk must be at most num_steps, but chunk is {self.chunk} and num_steps is "
                f"{self.num_steps}."
            )
        for name in ("eval_every", "save_every", "keep_every"):
            if (getattr(self, name) or 0) % self.chunk:
                raise ValueError(
                    f"{name} must be a multiple of chunk ({self.chunk}), but is "
                    f"{getattr(self, name)}."
                )
        if self.task.check_data is not None and isinstance(self.data, dict):
            self.task.check_data(self.data)


def as_config(experiment: Experiment) -> fdl.Config:
    """An Experiment that was made in Python as a config; its task and data are values there."""
    values = {f.name: getattr(experiment, f.name) for f in dataclasses.fields(experiment)}
    values["headline"] = tuple(fdl.Config(Headline, **h._asdict()) for h in experiment.headline)
    return fdl.Config(Experiment, **values)


def complete(config: fdl.Buildable) -> fdl.Buildable:
    """A copy with NumSteps filled in and every default spelled out, as a workdir stores it.

    What is stored then holds, also where a later version has other defaults. Paths are absolute,
    so that they hold in any current directory.
    """
    config = absolute_paths(config)
    fill_in_num_steps(config)
    fdl.materialize_defaults(config)
    return config


def build(config: fdl.Buildable) -> Experiment:
    """The Experiment of a config. Raises InputError, in one sentence, where a setting is wrong."""
    return _build(config, lambda whole: whole)


def build_without_data(config: fdl.Buildable) -> Experiment:
    """The Experiment of a config with () as data, which are not made. Raises as `build` does."""
    config = fdl.copy_with(config, data=())
    return _build(config, lambda whole: whole)


def build_task(config: fdl.Buildable) -> Task:
    """The Task of a config, without its data. Raises InputError as `build` does."""
    return _build(config, lambda whole: whole.task)


def build_headline(config: fdl.Buildable) -> tuple[Headline, ...]:
    """The headline of a config, without its task and data; () in a config of an older version."""
    return tuple(fdl.build(headline) for headline in getattr(config, "headline", ()))


def _build(config: fdl.Buildable, part: Callable[[Any], Any]) -> Any:
    config = fdl.deepcopy_with(config)
    fill_in_num_steps(config)
    check_settings(config)
    try:
        return fdl.build(part(config))
    except (ValueError, OSError) as error:
        raise InputError(one_line(error)) from error
    except Exception as error:  # a function that does not fit may raise anything
        raise InputError(f"{type(error).__name__}: {one_line(error)}") from error
