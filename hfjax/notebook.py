"""Training and opening runs in Python: `hfjax.run`, `hfjax.load`, and the `Run` that they return.

    run = hfjax.run("grid_rnn", "laptop", **{"task.num_grid": 512})
    run.show()                                  # its figures and its numbers
    run.metrics.eval["error_cm"]                # a pandas Series over training steps
    run.apply(positions_m).decoded_m            # your own path through the trained network

Scalars are pandas data frames, arrays NumPy's, figures pictures that a notebook shows.
"""

import dataclasses
import os
import pathlib
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import fiddle as fdl
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from hfjax import arena, movies
from hfjax.configs import names_beside, our_configs
from hfjax.errors import InputError, one_line
from hfjax.output import DEFAULT_WRITERS, in_notebook
from hfjax.task import PATH, Inputs, Task
from hfjax.training import log, mirror, overrides, pretrained, report, unstored
from hfjax.training import run as trainer
from hfjax.training import workdir as wd
from hfjax.training.experiment import Experiment, as_config, build
from hfjax.training.programs import in_a_sentence

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

__all__ = ["Applied", "Metrics", "Picture", "Readout", "Run", "load", "run"]


class Metrics(NamedTuple):
    """Scalars of a run: a row for each step, a column for each scalar.

    The index is `step`; of a population `step` and `seed`, the number of the member.
    """

    train: "pd.DataFrame"
    eval: "pd.DataFrame"


class Applied(NamedTuple):
    """What a trained model makes of a path, or of other inputs.

    activity [time, unit]; decoded_m [time, 2], where it believes to be, None where it does not say;
    inputs [time, 2], the path that it was given, as positions_m too. For models without a path:
    activity [n, ...] and inputs [n, ...] as their `Task.apply` says.
    """

    activity: jax.Array
    decoded_m: jax.Array | None
    inputs: jax.Array

    @property
    def positions_m(self) -> jax.Array:
        """The inputs, under the name that they have where they are a path."""
        return self.inputs


FRAME_S = {"walk": 0.08, "training": 0.5}  # how long a frame is shown; others 0.1 s
# Names of axes of arrays that mean the same in every model.
AXES = {
    "rate_maps": ("unit", "x", "y"),
    "grid_score_60": ("unit",),
    "positions_m": ("path", "time", "space"),
    "decoded_m": ("path", "time", "space"),
    "times_s": ("time",),
    "extent_m": ("space", "end"),
}


class Readout(dict[str, np.ndarray]):
    """The arrays behind a run's figures, by name."""

    def to_xarray(self) -> "xr.Dataset":
        """The same as an xarray Dataset.

        Arrays that mean the same in every model have named axes, with times (s) and the centres of
        bins (m) as coordinates; axes of others are called NAME_0, NAME_1, ... In a population the
        first axis of each array is `seed`. Raises InputError where xarray is not installed.
        """
        try:
            import xarray as xr
        except ImportError as error:
            raise InputError("to_xarray needs xarray: pip install 'hfjax[xarray]'.") from error
        seeds = ("seed",) if "drawn_seed" in self else ()
        sizes: dict[str, int] = {}
        arrays, coordinates = {}, {}
        for name in [*(n for n in AXES if n in self), *(n for n in self if n not in AXES)]:
            values = self[name]
            first = () if name == "drawn_seed" else seeds
            axes = (*first, *AXES.get(name, ()))
            shape = dict(zip(axes, values.shape, strict=False))
            if len(axes) != values.ndim or any(sizes.get(a, n) != n for a, n in shape.items()):
                axes = (*first, *(f"{name}_{i}" for i in range(values.ndim - len(first))))
            sizes.update(zip(axes, values.shape, strict=True))
            arrays[name] = (axes, values)
        if "rate_maps" in self and "extent_m" in self:
            extent = self["extent_m"].reshape(-1, 2, 2)[0]  # the same in a population
            for axis, (low, high) in zip("xy", extent, strict=True):
                edges = np.linspace(low, high, sizes.get(axis, 1) + 1)
                coordinates[axis] = (edges[:-1] + edges[1:]) / 2
        if not seeds and "times_s" in arrays:
            coordinates["time"] = arrays.pop("times_s")[1]
        return xr.Dataset(arrays, {n: c for n, c in coordinates.items() if n in sizes})


class Picture(NamedTuple):
    """A figure of a run as PNG. A notebook shows it where it is the value of a cell."""

    path: pathlib.Path

    def _repr_png_(self) -> bytes:
        return self.path.read_bytes()


class Run:
    """A run: its model, its numbers and its figures.

    workdir  the folder.
    task     the `hfjax.task.Task`.
    state    the newest state; in a population every leaf has a leading [seed] axis.
    config   the Fiddle config.
    step     training steps done.
    """

    def __init__(self, workdir: pathlib.Path, task: Task, state: Any, config: Any, step: int):
        """Hold what `load` has read."""
        self.workdir, self.task, self.state = workdir, task, state
        self.config, self.step = config, step

    def __repr__(self) -> str:
        """One line: where it is, and how far."""
        of = f" of {self.config.num_steps}" if self.config is not None else ""
        return f"<Run {mirror.shown(self.workdir)}: step {self.step}{of}>"

    @property
    def is_complete(self) -> bool:
        """Whether it is trained to its end and evaluated there."""
        done = self.config is not None and self.step == self.config.num_steps
        return done and wd.has_readout(self.workdir, self.step)

    @property
    def metrics(self) -> Metrics:
        """All scalars so far, as pandas data frames."""
        records = log.read_metrics(self.workdir / "metrics.jsonl")
        return Metrics(*(_table(records, part) for part in ("train", "eval")))

    @property
    def readout(self) -> Readout:
        """The arrays behind the figures, of the newest evaluation."""
        return Readout(wd.load_readout(self.workdir)[1])

    @property
    def figures(self) -> dict[str, Picture]:
        """{name: picture} of the figures of the newest evaluation, `training` last."""
        folder = self.workdir
        if (folder / pretrained.STATE).exists():  # which comes without pictures
            folder = pathlib.Path(tempfile.mkdtemp(prefix="hfjax-"))
            wd.save_figures(folder, self.draw())
        paths = sorted((folder / "figures").glob("*.png"), key=lambda p: p.stem == "training")
        return {path.stem: Picture(path) for path in paths}

    def draw(self) -> dict[str, Figure]:
        """{name: Matplotlib figure} of the newest readout, to change them."""
        return trainer.draw(self.task, self.readout)

    def show(self, *names: str) -> None:
        """Show figures, by default all of them and then the numbers that matter.

        In a notebook the figures appear below the cell; elsewhere their paths are printed. Raises
        InputError where there is no figure of a name.
        """
        pictures = self.figures
        for name in names or pictures:
            if name not in pictures:
                raise InputError(f"there is no figure {name!r}; there are {', '.join(pictures)}.")
            if in_notebook():
                from IPython.display import display

                display(pictures[name])
            else:
                sys.stdout.write(f"{pictures[name].path}\n")
        if not names:
            sys.stdout.write(f"{self.summary()}\n")

    def summary(self) -> str:
        """The numbers that matter, beside their controls and published values, as text."""
        if not self.is_complete:
            return repr(self)
        records = log.read_metrics(self.workdir / "metrics.jsonl")
        before, latest = log.first_and_last(records)
        experiment = build(fdl.copy_with(self.config, task=self.task, data=()))
        return report.ending(
            self.workdir, self.step, experiment, self.config, before=before, latest=latest
        )

    @property
    def animations(self) -> tuple[str, ...]:
        """Names of the moving pictures that `animate` can make of this run."""
        own, readout = self.task.animations, self.readout
        names = [] if own is None else [*own(trainer.of_member(readout))]
        has_box = {"extent_m", "times_s"} <= readout.keys()
        if self._has_path and has_box and "drawn_seed" not in readout:
            names.append("walk")
        has_maps = {"rate_maps", "extent_m"} <= readout.keys()
        if has_maps and len(wd.readout_steps(self.workdir)) > 1:
            names.append("training")
        return tuple(names)

    def animate(
        self,
        name: str | None = None,
        *,
        path: str | os.PathLike | None = None,
        unit: int | None = None,
        minutes: float = 10.0,
        peak_hz: float = 20.0,
        seed: int = 0,
    ) -> pathlib.Path:
        """A moving picture as GIF or, where ffmpeg is installed, as MP4; returns its path.

        name  one of `animations`, by default the first: "walk", a unit's Poisson spikes along a
              walk in the model's box; "training", rate maps of all evaluations that `keep` and
              `keep_every` of the config have kept; or one of the model's own.
        path  of the file, which ends in .gif or .mp4; by default WORKDIR/figures/NAME.gif.

        Of a walk:
        unit     by default the one with the highest grid score.
        minutes  how long the animal walks, as RatInABox's does.
        peak_hz  rate where the unit is most active; 0 where it is least active.
        seed     of the walk and the spikes.

        Raises InputError where the run has no such animation, or the file cannot be made.
        """
        names = self.animations
        if not names:
            raise InputError(
                f"{self.workdir.name} has no animation: neither walks in a box, nor rate maps of "
                "several evaluations, nor one of the model's own."
            )
        name = names[0] if name is None else name
        if name not in names:
            raise InputError(f"there is no animation {name!r}; there are {', '.join(names)}.")
        if name == "walk":
            frames = self._spikes(unit=unit, minutes=minutes, peak_hz=peak_hz, seed=seed)
        elif name == "training":
            frames = self._maps_over_training()
        else:
            assert self.task.animations is not None
            frames = self.task.animations(trainer.of_member(self.readout))[name]
        return movies.save(
            path or self.workdir / "figures" / f"{name}.gif", frames, frame_s=FRAME_S.get(name, 0.1)
        )

    def _maps_over_training(self) -> Iterator[Image.Image]:
        """Frames of the rate maps of all evaluations that are kept."""
        steps = wd.readout_steps(self.workdir)
        kept = {
            s: trainer.of_member(wd.load_readout(self.workdir, i)[1]) for i, s in enumerate(steps)
        }
        return movies.maps_over_training(
            {step: readout["rate_maps"] for step, readout in kept.items()},
            extent_m=trainer.of_member(self.readout)["extent_m"],
            axis=self.task.axis,
        )

    def _spikes(
        self, *, unit: int | None, minutes: float, peak_hz: float, seed: int
    ) -> Iterator[Image.Image]:
        """Frames of a unit's spikes along a walk. Raises InputError for a unit that isn't there."""
        readout = self.readout
        extent, dt_s = readout["extent_m"], float(np.diff(readout["times_s"][:2])[0])
        if unit is None:
            unit = int(np.nanargmax(readout["grid_score_60"])) if "grid_score_60" in readout else 0
        walked = self.apply(_walk(extent, dt_s, minutes, seed))
        if not 0 <= unit < walked.activity.shape[1]:
            raise InputError(f"unit must be below {walked.activity.shape[1]}, but is {unit}.")
        activity = np.asarray(walked.activity[:, unit], float)
        rate = (activity - activity.min()) / max(float(np.ptp(activity)), 1e-12)
        return movies.spikes_on_walk(
            np.asarray(walked.positions_m),
            peak_hz * rate,
            extent_m=extent,
            dt_s=dt_s,
            title=f"unit {unit}",
            seed=seed,
        )

    @property
    def _has_path(self) -> bool:
        return self.task.apply is not None and self.task.inputs == PATH

    def apply(self, inputs: Any, *, fit: bool = False) -> Applied:
        """Drive the trained model along a path, or by whatever it takes.

        inputs  positions [time, 2] (m), every dt_s of the model, in its box, which is centred on 0
                (maps of pattern_formation are looked up there); of a ring [time, 1]; of biohsic
                images [n, ...] as in its data; of the distributional successor measure states
                [n, dim]. `task.inputs` says which.
        fit     move the path to the middle of the box and scale it so that it fits.

        A path-integrating network gets its place code anew after as many steps as it was trained
        on. Raises InputError where the model takes no inputs, the run is a population, the inputs
        have a wrong shape, or a position is outside of the box.
        """
        name, wanted = self.workdir.name, self.task.inputs
        if self.task.apply is None:
            raise InputError(f"the model of {name} has nothing that it could be applied to.")
        if self.config is not None and self.config.seeds > 1:
            raise InputError(f"{name} is a population; take a run with one seed.")
        if fit and not self._has_path:
            raise InputError(f"fit=True is for paths in a box; {name} takes {wanted.name}.")
        given = _finite(inputs, wanted)
        if self._has_path and len(given) < 2:
            raise InputError("a path has two or more positions, but this one has fewer.")
        if self._has_path and (extent := self.readout.get("extent_m")) is not None:
            given = _into(given, extent) if fit else _inside(given, extent)
        array, decode = jnp.asarray(given), self.task.decode
        with in_a_sentence("apply"):
            activity = jax.jit(self.task.apply)(self.state, array)
        decoded_m = None if decode is None else jax.jit(decode)(self.state, array)
        return Applied(activity, decoded_m, array)


def _finite(inputs: Any, wanted: Inputs) -> np.ndarray:
    """The inputs as float32. Raises InputError where they are no finite numbers, or have a shape
    that the model does not take.
    """
    try:
        given = np.asarray(inputs, np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"{wanted.name} must be numbers ({one_line(error)}).") from error
    if given.ndim < 2 or (wanted.shape is not None and given.shape[1:] != wanted.shape):
        axes = ", ".join(["n", "..."] if wanted.shape is None else ["n", *map(str, wanted.shape)])
        raise InputError(
            f"{wanted.name} must be numbers [{axes}], but these have the shape {given.shape}."
        )
    if not np.isfinite(given).all():
        raise InputError(f"{wanted.name} must be finite numbers, but some are not.")
    return given


def _table(records: Sequence[Mapping[str, Any]], part: str) -> "pd.DataFrame":
    """The records of one part of the log, in a population one row a step and seed."""
    import pandas as pd  # slow to import

    rows = []
    for record in records:
        values = {
            n.partition("/")[2]: np.asarray(v, float)
            for n, v in record.items()
            if n.startswith(f"{part}/")
        }
        seeds = max((v.size for v in values.values() if v.ndim), default=0)
        for seed in range(seeds) if seeds else [None] if values else []:
            row = {n: float(v[seed] if v.ndim else v) for n, v in values.items()}
            rows.append({"step": record["step"], **({} if seed is None else {"seed": seed}), **row})
    if not rows:
        return pd.DataFrame(index=pd.Index([], name="step"))
    return pd.DataFrame(rows).set_index(["step", *(["seed"] if "seed" in rows[0] else [])])


def _walk(extent: np.ndarray, dt_s: float, minutes: float, seed: int) -> np.ndarray:
    """A walk [time, 2] (m) of RatInABox's animal in a box."""
    low, size = extent[:, 0], np.ptp(extent, axis=1)
    room, motion = arena.box(*map(float, size)), arena.motion(dt_s=dt_s)
    start_key, walk_key = jax.random.split(jax.random.key(seed))
    agent = arena.start(start_key, environment=room, motion=motion)
    num_steps = round(60 * minutes / dt_s)
    _, path = arena.walk(agent, walk_key, environment=room, motion=motion, num_steps=num_steps)
    return np.asarray(path.position) + low


def _into(path: np.ndarray, extent: np.ndarray) -> np.ndarray:
    """A path [time, 2] in a box: its longer side fits, and the middles coincide."""
    low, high = path.min(axis=0), path.max(axis=0)
    size = np.ptp(extent, axis=1)
    scale = size.min() / max(float((high - low).max()), 1e-9)
    return ((path - (low + high) / 2) * min(scale, 1.0) + np.mean(extent, axis=1)).astype(
        np.float32
    )


def _inside(path: np.ndarray, extent: np.ndarray) -> np.ndarray:
    """The path; raises InputError where it leaves the box."""
    low, high = extent[:, 0], extent[:, 1]
    slack = 1e-3 * np.ptp(extent, axis=1)
    if (path < low - slack).any() or (path > high + slack).any():
        (left, right), (bottom, top) = extent
        raise InputError(
            f"the path leaves the model's box, x from {left:g} to {right:g} m and y from "
            f"{bottom:g} to {top:g} m: move it, or give fit=True, which moves it to the middle and "
            "makes it smaller where needed."
        )
    return path


# --- Train and open ---


def run(
    model: str | fdl.Buildable | Experiment,
    *fiddlers: str,
    workdir: str | os.PathLike | None = None,
    overwrite: bool = False,
    writers: Sequence[str] = DEFAULT_WRITERS,
    wandb: Mapping[str, Any] | None = None,
    devices: Sequence[jax.Device] | None = None,
    **settings: Any,
) -> Run:
    """Train a model to its end; the same call goes on with what was stopped.

        run = hfjax.run("grid_rnn", "laptop", **{"task.num_grid": 512, "seed": 1})

    model      name of a config, a Fiddle config, or an `Experiment`.
    fiddlers   names of the fiddlers that change the config of a name.
    workdir    folder of the run; by default runs/CONFIG-FIDDLERS-SEED where model is a name.
    overwrite  train anew where the folder holds a run, which is deleted.
    writers, wandb, devices  as in `hfjax.training.run.run`.
    settings   {path: value}: "task.num_grid": 512, or seed=1. A text is read as --fdl_set reads it,
               so that "tanh" is a function where one is expected.

    Functions of a notebook, lambdas and arrays may be settings, and the task of an Experiment is
    any `hfjax.task.Task`. config.json cannot hold them, which the run says. It goes on where they
    are the same, and `load(workdir, task=...)` opens it.

    Raises InputError where a name or a setting is wrong, or the folder holds another run, and
    TrainingFailed where a scalar stops being finite. An interrupted run is saved and returned.
    """
    if isinstance(model, Experiment):
        experiment = _replaced(model, fiddlers, settings)
        config = as_config(experiment)
    else:
        config = trainer.complete(_configured(model, fiddlers, settings))
        experiment = build(config)
    workdir = workdir or _default_workdir(model, fiddlers, settings)
    stored, missing = unstored.storable(config)
    warning = (
        f"config.json cannot hold {', '.join(missing)}: this run goes on as long as that stays the "
        "same, and hfjax.load(workdir, task=...) opens it."
    )
    try:
        trainer.run(
            stored,
            workdir,
            experiment=experiment,
            overwrite=overwrite,
            warning=warning if missing else "",
            writers=writers,
            wandb=wandb,
            devices=devices,
        )
    except wd.OtherRun as error:
        raise InputError(
            f"{mirror.shown(error.workdir)} holds another run ({error.differs}); give another "
            "workdir=, or overwrite=True to delete that run."
        ) from None
    return load(workdir, config=config, task=experiment.task)


def load(
    workdir: str | os.PathLike,
    *,
    config: fdl.Buildable | None = None,
    task: Task | None = None,
    step: int | None = None,
) -> Run:
    """Open a run. Its data are not needed.

    workdir  its folder, or pretrained:NAME, one of `hfjax.pretrained()`.
    config  used in place of the workdir's, as when that names a function of a notebook.
    task    used in place of the config's task, as one that config.json does not hold.
    step    of the checkpoint; None for the newest. `keep_every` of a config keeps more than a few.

    Raises InputError where `workdir` holds no run, or no checkpoint yet, or none of that step, or a
    config that names what does not exist here.
    """
    loaded = trainer.load(workdir, config=config, task=task, step=step)
    return Run(wd.folder(workdir), *loaded)


def _configured(
    model: str | fdl.Buildable, fiddlers: Sequence[str], settings: Mapping[str, Any]
) -> fdl.Buildable:
    """The config that the arguments of `run` mean. Raises InputError."""
    names: Mapping[str, Any] = {}  # where functions are looked up
    if isinstance(model, str):
        config = our_configs().make(model, *fiddlers)
        names = names_beside(our_configs().find(model))
    elif isinstance(model, fdl.Buildable) and not fiddlers:
        config = fdl.deepcopy_with(model)
    else:
        raise InputError(
            "hfjax.run takes the name of a config and those of fiddlers, or a Fiddle config, or an "
            f"Experiment, but not {(model, *fiddlers)!r}."
        )
    for path, value in settings.items():
        if isinstance(value, str):
            overrides.set_value(config, path, value, names)
        else:
            overrides.set_object(config, path, value)
    return config


def _replaced(
    experiment: Experiment, fiddlers: Sequence[str], settings: Mapping[str, Any]
) -> Experiment:
    """The Experiment with other settings of its own. Raises InputError."""
    own = {field.name for field in dataclasses.fields(experiment)}
    if wrong := [*fiddlers, *(name for name in settings if name not in own)]:
        raise InputError(
            f"{wrong[0]!r} cannot change an Experiment, whose task is made already; give its own "
            f"settings, {', '.join(sorted(own))}."
        )
    try:
        return dataclasses.replace(experiment, **settings)
    except ValueError as error:
        raise InputError(one_line(error)) from error


def _default_workdir(
    model: Any, fiddlers: Sequence[str], settings: Mapping[str, Any]
) -> pathlib.Path:
    """runs/CONFIG-FIDDLERS-SEED, as on the command line. Raises InputError without a name."""
    if not isinstance(model, str):
        raise InputError("give a workdir=, the folder of the run.")
    seeds = [f"{settings['seeds']}seeds"] if "seeds" in settings else []
    seed = [f"seed{settings['seed']}"] if "seed" in settings else []
    return pathlib.Path("runs", "-".join([model, *sorted(fiddlers), *seed, *seeds]))
