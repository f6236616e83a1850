"""What every config promises, as functions that a test of a new model can call.

`tiny` makes a config small. `SMALL` names sizes: an argument of that name gets that value wherever
a config of a task has it. A model that needs none of these names is tested at its own size.
"""

import fnmatch
import inspect
from collections.abc import Mapping

import fiddle as fdl
import jax
import jax.numpy as jnp
from fiddle import daglish
from fiddle.experimental import serialization
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hfjax.data.grid_weights import grid_weights
from hfjax.data.recordings import trajectories
from hfjax.task import Metrics, meaning
from hfjax.training import run as train
from hfjax.training import schedules
from tests import small

SMALL = {
    "batch_size": 8,
    "num_units": 16,
    # walks and their evaluation
    "num_grid": 9,
    "num_linear": 9,
    "num_nodes": 8,
    "num_place": 16,
    "num_steps": 5,
    "num_map_walks": 200,
    "num_rollouts": 4,
    "rollout_steps": 20,
    "num_bins": 21,
    "num_noise_maps": 8,
    "num_maps": 4,
    # labelled samples
    "steps_per_epoch": 1,
    "num_eval": 8,
    "num_hsic": 8,
    "time_steps": 2,
    "num_samples": 24,
    # simulated time
    "block_s": 0.5,
    "mode_s": 2.0,
    "between_s": 0.2,
    "correlate_s": 1.0,
    "max_lag_s": 0.5,
    "decoder_s": 10.0,
    "num_tests": 2,
    "spin_up_s": 0.5,
    "test_s": 2.0,
    "pretraining_s": 1.0,
    # atoms
    "num_outer": 2,
    "num_inner": 3,
    "hidden": (4,),
    "updates_per_step": 1,
}


def tiny(config: fdl.Config) -> fdl.Config:
    """Make a config small enough for a test: sizes, data and two steps; returns it."""
    data = config.data if isinstance(config.data, fdl.Config) else None
    arguments = set(inspect.signature(fdl.get_callable(data)).parameters) if data else set()
    if "data_dir" in arguments:  # files that are not here
        config.data = fdl.Config(small.noise)
    elif "maker" in arguments:
        config.data = fdl.Config(small.transitions, maker=data.maker)
    elif "path" in arguments and "max_gap_s" not in arguments:
        data.path = small.rates_file()
    elif "path" in arguments:
        data.path, data.max_gap_s = str(trajectories._shipped("sargolini")), 0.1
    for node, _ in daglish.iterate(config.data):
        if isinstance(node, fdl.Partial) and hasattr(node, "training_steps"):
            node.training_steps = 100  # of a policy
    for node, _ in daglish.iterate(config.task):
        if isinstance(node, fdl.Config):
            function = fdl.get_callable(node)
            if function is grid_weights:
                node.path = small.weights_file(SMALL["num_place"], SMALL["num_grid"])
            if (
                function.__module__.partition(".")[0] != "optax"
                and function.__module__ != schedules.__name__
            ):
                for name in set(SMALL) & set(inspect.signature(function).parameters):
                    setattr(node, name, SMALL[name])
    config.num_steps, config.chunk, config.eval_every, config.save_every = 2, 1, 2, 2
    return config


def same_structure(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert (x.shape, x.dtype, x.weak_type) == (y.shape, y.dtype, y.weak_type)


def check_shapes(config: fdl.Config) -> None:
    """The config survives JSON, and its task's functions fit together in shape and dtype."""
    restored = serialization.load_json(serialization.dump_json(config))
    assert serialization.dump_json(restored) == serialization.dump_json(config)
    experiment = train.build(restored)
    task, data, key = experiment.task, experiment.data, jax.random.key(0)
    state = jax.eval_shape(task.init, key, data)
    batch = jax.eval_shape(task.sample, data, key)
    assert len({leaf.shape[0] for leaf in jax.tree.leaves(batch)}) <= 1
    new_state, scalars = jax.eval_shape(task.step, state, batch, key)
    same_structure(new_state, state)
    evaluated, readout = jax.eval_shape(task.evaluate, state, data, key)
    for name, value in {**scalars, **evaluated}.items():
        assert value.shape == (), name
        assert jnp.issubdtype(value.dtype, jnp.floating), name
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in readout.values())
    assert set(experiment.show) <= {*scalars, *evaluated}
    logged = [*(f"train/{name}" for name in scalars), *(f"eval/{name}" for name in evaluated)]
    check_metrics(task.metrics, logged)
    assert {h.name for h in experiment.headline} <= set(logged)


def check_metrics(metrics: Metrics, logged: list[str]) -> None:
    """Where a task declares its scalars, it declares all of them and no others."""
    if not metrics:
        return
    assert [name for name in logged if meaning(name, metrics) is None] == []
    for name, metric in metrics.items():
        matched = fnmatch.filter(logged, name)
        # Those of hidden layers, of which a network may have none.
        assert matched or "*" in name, f"{name} is declared, but is no scalar"
        for scalar in matched:
            assert not metric.of or metric.of in logged, f"{scalar} is compared with no scalar"
            assert bool(metric.of) == bool(metric.role), scalar
            if metric.panel and not metric.role:  # the y axis says more than the title
                assert metric.unit or metric.measure, f"{scalar} has neither unit nor measure"
                assert metric.measure.lower() != metric.panel.lower(), scalar


def check_population(config: fdl.Config) -> None:
    """Under vmap over seeds, every result gains a leading axis and nothing else changes."""
    experiment = train.build(config)
    task, data = experiment.task, experiment.data
    keys = jax.random.split(jax.random.key(0), 3)
    states = jax.eval_shape(jax.vmap(task.init, (0, None)), keys, data)
    batches = jax.eval_shape(jax.vmap(task.sample, (None, 0)), data, keys)
    new_states, scalars = jax.eval_shape(jax.vmap(task.step), states, batches, keys)
    same_structure(new_states, states)
    assert all(value.shape == (3,) for value in scalars.values())
    one_state = jax.eval_shape(task.init, keys[0], data)
    _, readout = jax.eval_shape(task.evaluate, one_state, data, keys[0])
    _, readouts = jax.eval_shape(jax.vmap(task.evaluate, (0, None, 0)), states, data, keys)
    assert {n: r.shape for n, r in readouts.items()} == {
        n: (3, *r.shape) for n, r in readout.items()
    }


# --- Figures ---

MOST_PIXELS = 1600  # of the longer side, at the 120 dpi of a run; sheets of all units may be larger


def check_figures(figures: Mapping[str, Figure]) -> None:
    """Every figure of a readout can be read without its code; nothing is rendered."""
    for name, figure in figures.items():
        if name != "all_maps":
            assert 120 * max(figure.get_size_inches()) <= MOST_PIXELS, name
        drawn = [d for ax in figure.axes for d in (*ax.get_images(), *ax.collections)]
        bars = [d.colorbar.ax for d in drawn if d.colorbar]
        assert all(bar.get_ylabel() or bar.get_xlabel() for bar in bars), name
        for ax in figure.axes:
            if ax not in bars:
                check_panel(ax, figure, name)


def check_panel(ax: Axes, figure: Figure, name: str) -> None:
    """A panel has a title, labels and equal aspect over space; its images a scale; an ECDF steps
    after its samples."""
    where = f"{name}, {ax.get_title() or ax}"
    titles = [ax.get_title(loc=loc) for loc in ("left", "center", "right")]
    if not ax.axison:
        assert any(titles) or figure.get_suptitle() or not ax.has_data(), where
        return
    assert any(titles) or figure.get_suptitle(), where
    x_label = figure.get_supxlabel() or shared_label(ax, figure, "x")
    y_label = figure.get_supylabel() or shared_label(ax, figure, "y")
    assert x_label, f"{where}: no x label"
    assert y_label, f"{where}: no y label"
    if x_label.startswith("x (") and y_label.startswith("y ("):
        assert ax.get_aspect() == 1, f"{where}: aspect {ax.get_aspect()}"
    scales = {
        (image.get_clim(), image.get_cmap().name)
        for other in figure.axes
        for image in other.get_images()
        if image.colorbar
    }
    for image in ax.get_images():
        assert (image.get_clim(), image.get_cmap().name) in scales, f"{where}: no colour bar"
    for line in ax.lines:
        assert line.get_drawstyle() in ("default", "steps-post"), where


def shared_label(ax: Axes, figure: Figure, axis: str) -> str:
    """The label of an axis, or of the outer panel: the lowest in its column (x), the first in its
    row (y)."""

    def label(ax: Axes) -> str:
        return ax.get_xlabel() if axis == "x" else ax.get_ylabel()

    def line(ax: Axes) -> set[int]:
        place = ax.get_subplotspec()
        return set(place.colspan if axis == "x" else place.rowspan) if place else set()

    def outwards(ax: Axes) -> int:
        place = ax.get_subplotspec()
        return -place.rowspan.stop if axis == "x" else place.colspan.start

    others = [other for other in figure.axes if other.axison and line(other) & line(ax)]
    return label(ax) or label(min(others, key=outwards, default=ax))
