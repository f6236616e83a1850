"""What every config promises: the Task contract, and a run that leaves all that it should.

A new config is covered by being in fdl_configs; TINY makes it small enough to test.
"""

import functools

import fiddle as fdl
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fiddle.experimental import serialization
from matplotlib.figure import Figure

import fdl_configs
import hfjax
from hfjax.data import recordings
from hfjax.models import dsm
from hfjax.training import log, workdir
from hfjax.training import run as train
from tests import small

_WALKS = {
    "batch_size": 4,
    "num_steps": 5,
    "num_place": 16,
    "evaluation.num_steps": 5,
    "evaluation.num_map_walks": 200,
    "evaluation.num_rollouts": 4,
    "evaluation.rollout_steps": 20,
    "evaluation.num_bins": 12,
    "evaluation.num_noise_maps": 8,
}
_PLACES = {
    "block_s": 0.5,
    "track.num_place": 16,
    "circuit.num_place": 16,
    "protocol.decoder_s": 10.0,
    "protocol.num_tests": 2,
    "protocol.spin_up_s": 0.5,
    "protocol.test_s": 2.0,
}
_ATOMS = {
    "num_outer": 2,
    "num_inner": 3,
    "hidden": (4,),
    "batch_size": 8,
    "adversary.num_units": 4,
    "updates_per_step": 1,
}
TINY = {
    "biohsic": {"steps_per_epoch": 1, "num_eval": 8, "num_hsic": 8},
    "biohsic_lif": {"time_steps": 2, "num_eval": 8, "num_hsic": 8},
    "dsm": _ATOMS,
    "dsm_place_cells": _ATOMS,
    "dsm_windy": _ATOMS,
    "gamma_ensemble": _ATOMS,
    "one_step": _ATOMS,
    "successor": _ATOMS,
    "grid_rnn": {**_WALKS, "num_grid": 9},
    "grid_lstm": {**_WALKS, "num_units": 6, "num_linear": 9},
    "helmholtz": {
        "block_s": 0.5,
        "modes.mode_s": 2.0,
        "modes.between_s": 0.2,
        "correlate_s": 1.0,
        "max_lag_s": 0.5,
    },
    "helmholtz_path_integration": {**_PLACES, "modes.mode_s": 2.0, "modes.between_s": 0.2},
    "helmholtz_remapping": {**_PLACES, "pretraining_s": 1.0},
    "reservoir": {"num_units": 20, "num_samples": 24, "window": 5, "time_steps": 3},
    "topo_grid": {**_WALKS, "num_units": 16},
    "topo_grid_plain": {**_WALKS, "num_units": 16},
    "topo_grid_topoloss": {**_WALKS, "num_units": 16},
    "pattern_formation": {"num_maps": 4, "num_bins": 21, "num_noise_maps": 8},
}


def tiny(name, *fiddlers):
    """A config made small."""
    config = fdl_configs.make(name, *fiddlers)
    if hasattr(config.data, "data_dir"):  # files that are not here
        config.data = fdl.Config(small.noise)
    if "maker" in _arguments(config.data):
        config.data = fdl.Config(small.transitions, maker=config.data.maker)
    elif "path" in _arguments(config.data):
        config.data.path, config.data.max_gap_s = str(recordings._shipped("sargolini")), 0.1
    for path, value in TINY[name].items():
        *parents, field = path.split(".")
        owner = functools.reduce(getattr, parents, config.task)
        if field == "num_units" and fdl.get_callable(owner) in (
            dsm.mlp_adversary,
            dsm.no_adversary,
        ):
            continue  # a fiddler has put another adversary there
        setattr(owner, field, value)
    config.num_steps, config.chunk, config.eval_every, config.save_every = 2, 1, 2, 2
    return config


def _arguments(config):
    return config.__arguments__ if isinstance(config, fdl.Config) else {}


def same_structure(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert (x.shape, x.dtype, x.weak_type) == (y.shape, y.dtype, y.weak_type)


def cases():
    """Every config as it is, and every fiddler once with each kind of network that it changes."""
    seen = set()
    for name, make in fdl_configs.configs().items():
        yield (name,)
        for fiddler in fdl_configs.fiddlers_of(make):
            kind = fdl.get_callable(make().task), fiddler
            if kind not in seen:
                seen.add(kind)
                yield name, fiddler


CASES = list(cases())


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_shapes_and_dtypes_follow_the_contract(case):
    config = tiny(*case)
    restored = serialization.load_json(serialization.dump_json(config))
    assert serialization.dump_json(restored) == serialization.dump_json(config)
    task, data = (experiment := train.build(restored)).task, experiment.data
    key = jax.random.key(0)
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

    keys = jax.random.split(key, 3)
    states = jax.eval_shape(jax.vmap(task.init, (0, None)), keys, data)
    batches = jax.eval_shape(jax.vmap(task.sample, (None, 0)), data, keys)
    new_states, many = jax.eval_shape(jax.vmap(task.step), states, batches, keys)
    same_structure(new_states, states)
    assert all(value.shape == (3,) for value in many.values())
    _, readouts = jax.eval_shape(jax.vmap(task.evaluate, (0, None, 0)), states, data, keys)
    assert all(readouts[n].shape == (3, *readout[n].shape) for n in readout)


# One config of each model: the others differ in settings, whose shapes are tested above.
MODELS = sorted(
    {
        fdl.get_callable(make().task): name
        for name, make in reversed(fdl_configs.configs().items())
    }.values()
)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize("name", MODELS)
def test_a_short_run_leaves_finite_numbers_figures_and_a_checkpoint(
    tmp_path, monkeypatch, name, seeds
):
    config = tiny(name)
    config.seeds = seeds
    if seeds > 1:  # drawn as one of its members is, which the other case sees
        monkeypatch.setattr(train, "save_figures", lambda *_: {})
    assert train.run(config, tmp_path, writers=("jsonl",), devices=jax.devices()[:1])
    records = log.read_metrics(tmp_path / "metrics.jsonl")
    assert [r["step"] for r in records] == [0, 1, 2, 2]
    trained = [v for r in records for n, v in r.items() if n.startswith("train/")]
    assert all(np.shape(v) == (() if seeds == 1 else (seeds,)) for v in trained)

    task, state, stored = hfjax.load(tmp_path)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state) if x.dtype == jnp.float32)
    assert stored.seeds == seeds
    step, readout = workdir.load_readout(tmp_path)
    assert step == 2
    if seeds == 1:
        figures = task.figures(readout)
        assert all(isinstance(figure, Figure) for figure in figures.values())
        drawn = {path.stem for path in (tmp_path / "figures").iterdir()}
        assert drawn == {*figures, "training"}


@pytest.mark.parametrize("name", MODELS)
def test_eight_devices_are_enough_for_any_model(name):
    config = tiny(name)
    if "batch_size" in TINY[name]:
        config.task.batch_size = 8
    train.make_programs(train.build(config), jax.devices()[:8])


@pytest.mark.parametrize("name", [name for name in MODELS if "batch_size" in TINY[name]])
def test_devices_divide_the_batch_and_change_nothing(name):
    config = tiny(name)
    config.task.batch_size = 8
    experiment = train.build(config)
    results = []
    for num_devices in (1, 8):
        programs = train.make_programs(experiment, jax.devices()[:num_devices])
        train_state, scalars = programs.chunk(programs.init(), 3)
        results.append((train_state.state, scalars))
    for one, eight in zip(*map(jax.tree.leaves, results), strict=True):
        # atol: the MMD of dsm is a difference of means of about 1, in float32.
        np.testing.assert_allclose(eight, one, rtol=1e-4, atol=1e-5)
