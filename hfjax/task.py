"""The one interface that every model of the zoo implements.

A model and its training problem are five pure functions; hyperparameters are closed over. All but
`figures` can be jitted, and vmapped over a leading [seed] axis of state and key. A function
consumes each key that it is handed once.

A task also declares what its scalars mean (`Metric`), so that figures, terminal and the end of a
run need not guess it from a name.
"""

import fnmatch
import functools
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeVar

import jax
import numpy as np
from jax.sharding import PartitionSpec
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from PIL import Image

Scalars = dict[str, jax.Array]  # rank-0 float arrays by name
Readout = dict[str, jax.Array]  # arrays by name
HostReadout = Mapping[str, np.ndarray]  # a readout on the host, as figures take it


class Whole(NamedTuple):
    """A batch that every device gets whole, as a data set that a step visits in its own order.

    Other batches are divided among the devices.
    """

    data: Any


class Init(Protocol):
    """(key, data) -> state, a pytree of arrays."""

    def __call__(self, key: jax.Array, data: Any, /) -> Any:
        """The state before training."""


class Sample(Protocol):
    """(data, key) -> batch."""

    def __call__(self, data: Any, key: jax.Array, /) -> Any:
        """Every leaf is [batch, ...]; or the batch is `Whole`; () where the state is the data."""


class Step(Protocol):
    """(state, batch, key) -> (state, scalars)."""

    def __call__(self, state: Any, batch: Any, key: jax.Array, /) -> tuple[Any, Scalars]:
        """One training step; the state keeps its structure, shapes and dtypes."""


class Evaluate(Protocol):
    """(state, data, key) -> (scalars, readout)."""

    def __call__(self, state: Any, data: Any, key: jax.Array, /) -> tuple[Scalars, Readout]:
        """The numbers of an evaluation, and the arrays from which its figures are drawn.

        A number that does not exist is `missing.MISSING`, and NaN once it is on the host.
        """


class Figures(Protocol):
    """(readout) -> {name: figure}, on the host."""

    def __call__(self, readout: HostReadout, /) -> dict[str, Figure]:
        """Every figure of a readout, each a Matplotlib figure of its own."""


class Animations(Protocol):
    """(readout) -> {name: frames}, on the host."""

    def __call__(self, readout: HostReadout, /) -> "dict[str, Iterator[Image.Image]]":
        """The moving pictures of a readout; a frame is drawn when it is asked for."""


class Inputs(NamedTuple):
    """What a model is applied to: an array [n, *shape].

    name   in the plural, with the unit.
    shape  of one of them; None where only the state knows it.
    """

    name: str
    shape: tuple[int, ...] | None = None


PATH = Inputs("positions (m)", (2,))  # of an animal, one after the other, in the box centred on 0


class Apply(Protocol):
    """(state, inputs) -> activity, for inputs that a user gives, as `Task.inputs` says."""

    def __call__(self, state: Any, inputs: jax.Array, /) -> jax.Array:
        """inputs [n, ...] -> activity [n, ...]; along a path [time, 2] (m) -> [time, unit]."""


class Decode(Protocol):
    """(state, positions) -> decoded positions, along the animal's path that a user gives."""

    def __call__(self, state: Any, positions: jax.Array, /) -> jax.Array:
        """positions [time, 2] (m), as in `PATH` -> where the model believes to be, [time, 2]."""


class CheckData(Protocol):
    """(data) -> None."""

    def __call__(self, data: Any, /) -> None:
        """Raise ValueError where settings of data, a dict of arrays, and of the task disagree."""


def no_batch(data: Any, key: jax.Array, /) -> tuple[()]:
    """The `sample` of a task whose state is its own data."""
    del data, key
    return ()


# --- What scalars mean ---

Split = Literal["", "training", "held out", "replay", "frozen"]
Role = Literal["", "control", "floor", "chance"]
Better = Literal["", "lower", "higher"]
Function = TypeVar("Function", bound=Callable)


class Metric(NamedTuple):
    """What a scalar means.

    label   in plain words, without unit and split; {} stands for what a * of its name matched.
    unit    as "cm". Where it begins with %, the scalar is a share from 0 to 1 and is shown in
            percent, as in "% of units". Empty for a plain number.
    split   of the data: training, held out (new draws too), replay (seen before, without
            learning), frozen (weights fixed); empty where this makes no difference.
    better  "lower" or "higher"; empty where neither is progress.
    role    a control, floor or chance level of the scalar named `of`; else empty.
    of      as the log names it: eval/error_cm.
    level   (label, value) of a constant to compare with, such as chance.
    panel   title of its panel in training.png; empty where it is not drawn.
    measure what a plain number of that panel measures, for its y axis: "cosine".
    series  what it is called in that panel, as "rat's path"; a series has one colour in all panels.
            Empty: the label.
    learns  False where training leaves it as it is: a level in that panel, no curve.
    log     whether that panel has a logarithmic axis.
    note    a sentence for the end of a run.
    """

    label: str
    unit: str = ""
    split: Split = ""
    better: Better = ""
    role: Role = ""
    of: str = ""
    level: tuple[str, float] | None = None
    panel: str = ""
    measure: str = ""
    series: str = ""
    learns: bool = True
    log: bool = False
    note: str = ""


Metrics = Mapping[str, Metric]  # by name; a * stands for any text, as in hsic_xz_*


class Axis(NamedTuple):
    """The paper's measure of training: `label` says what, per_step is how much of it a step is."""

    label: str = "training steps"
    per_step: float = 1.0


def declares(metrics: Metrics) -> Callable[[Function], Function]:
    """Declare the scalars that a function reports, beside its code; see `metrics_of`.

    For functions that a config hands to a task: its builder then knows their scalars.
    """

    def mark(function: Function) -> Function:
        function.metrics = metrics  # type: ignore[attr-defined]
        return function

    return mark


def metrics_of(function: Any) -> dict[str, Metric]:
    """The metrics that `declares` gave a function, or the function of a partial; else {}."""
    while isinstance(function, functools.partial):
        function = function.func
    return dict(getattr(function, "metrics", {}))


def logged(*, step: Metrics, evaluation: Metrics) -> dict[str, Metric]:
    """Metrics as the log names them: train/NAME of a step, eval/NAME of an evaluation.

    An `of` without a slash is in the same part of the log.
    """

    def named(part: str, metrics: Metrics) -> dict[str, Metric]:
        return {
            f"{part}/{name}": metric._replace(of=f"{part}/{metric.of}")
            if metric.of and "/" not in metric.of
            else metric
            for name, metric in metrics.items()
        }

    return named("train", step) | named("eval", evaluation)


def meaning(name: str, metrics: Metrics) -> Metric | None:
    """The declaration of a scalar as the log names it, or None."""
    if name in metrics:
        return metrics[name]
    for pattern, metric in metrics.items():
        if "*" in pattern and fnmatch.fnmatchcase(name, pattern):
            before, after = pattern.split("*", 1)
            matched = name[len(before) : len(name) - len(after)].replace("_", " ")
            return metric._replace(label=metric.label.replace("{}", matched))
    return None


# --- Tasks ---


class Task(NamedTuple):
    """A model and its training problem.

    init      (key, data) -> state
    sample    (data, key) -> batch
    step      (state, batch, key) -> (state, scalars)
    evaluate  (state, data, key) -> (scalars, readout)
    figures   (readout) -> {name: Figure}
    metrics   {name in the log: Metric}, made by `logged`; a scalar without one has neutral labels
    axis      how the paper measures training
    sharding  {path in the train state: PartitionSpec} of arrays that devices can share over their
              axis "model", as {"*.recurrent": PartitionSpec("model")}; a * stands for any text, so
              that a pattern finds a parameter and what the optimizer keeps of it
    animations  (readout) -> {name: frames}, the model's own moving pictures; None without any
    apply     (state, inputs) -> activity for a user's inputs; None where a model takes none
    inputs    what `apply` takes: by default a path
    dt_s      time (s) between the positions of `apply` and `decode`
    decode    (state, positions) -> decoded positions along it; None where it does not say
    check_data  (data) -> None, with a ValueError where the two disagree; None without a check
    """

    init: Init
    sample: Sample
    step: Step
    evaluate: Evaluate
    figures: Figures
    metrics: Metrics = MappingProxyType({})
    axis: Axis = Axis()
    sharding: Mapping[str, PartitionSpec] = MappingProxyType({})
    animations: Animations | None = None
    apply: Apply | None = None
    inputs: Inputs = PATH
    dt_s: float | None = None
    decode: Decode | None = None
    check_data: CheckData | None = None

    def __deepcopy__(self, memo: dict) -> "Task":
        """Itself: it holds functions and constants. A config may then hold a Task."""
        return self
