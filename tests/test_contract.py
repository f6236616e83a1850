"""What every config promises: the Task contract, and a run that leaves all that it should.

A new config is covered by being in fdl_configs.
"""

import re

import fiddle as fdl
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fdl_configs
import hfjax
from hfjax.training import experiment, log, workdir
from hfjax.training import run as train
from tests.contract import check_figures, check_population, check_shapes, tiny


def cases():
    """Every config as it is, and every fiddler once with each task that it changes."""
    seen = set()
    for name, make in fdl_configs.configs().items():
        yield (name,)
        for fiddler in fdl_configs.fiddlers_of(make):
            kind = fdl.get_callable(make().task), fiddler
            if kind not in seen:
                seen.add(kind)
                yield name, fiddler


# One config of each model: the others differ in settings, whose shapes are tested as well.
MODELS = sorted(
    {
        fdl.get_callable(make().task): name
        for name, make in reversed(fdl_configs.configs().items())
    }.values()
)


@pytest.mark.parametrize("case", list(cases()), ids="-".join)
def test_shapes_and_dtypes_follow_the_contract(case):
    check_shapes(tiny(fdl_configs.make(*case)))


@pytest.mark.parametrize("name", MODELS)
def test_a_population_has_one_more_axis(name):
    check_population(tiny(fdl_configs.make(name)))


# Models whose units can be driven along a path of the user's.
APPLIED = ("conformal", "grid_rnn", "grid_lstm", "topo_grid")


@pytest.mark.parametrize("name", APPLIED)
def test_apply_follows_a_users_path(name):
    config = tiny(fdl_configs.make(name))
    task = experiment.build_task(config)
    state = task.init(jax.random.key(0), ())
    path = 0.3 * jnp.stack([jnp.cos(0.05 * jnp.arange(300)), jnp.sin(0.05 * jnp.arange(300))], 1)
    activity = jax.jit(task.apply)(state, path)
    assert activity.shape[0] == 300
    assert jnp.isfinite(activity).all()
    # What comes later does not matter, and a path of any length will do.
    walks = config.task.evaluation if name == "conformal" else config.task  # it trains on no walks
    num_steps = walks.num_steps
    np.testing.assert_allclose(
        task.apply(state, path[: num_steps + 3]), activity[: num_steps + 3], rtol=1e-4, atol=1e-5
    )
    # A piece begins anew at the place code of its start, so the first piece leaves no trace.
    later = task.apply(state, path[num_steps : 3 * num_steps])
    np.testing.assert_allclose(
        later[1:], activity[num_steps + 1 : 3 * num_steps], rtol=1e-4, atol=1e-5
    )
    assert jnp.abs(activity[5] - activity[6]).max() > 0
    with pytest.raises(ValueError, match="num_positions must be at least 2"):
        task.apply(state, path[:1])


@pytest.mark.parametrize("name", list(fdl_configs.configs()))
def test_every_config_has_a_laptop(name):
    assert "laptop" in fdl_configs.fiddlers_of(fdl_configs.configs()[name])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "seeds"), [*((m, 1) for m in MODELS), ("grid_rnn", 2)])
def test_a_short_run_leaves_finite_numbers_figures_and_a_checkpoint(
    tmp_path, monkeypatch, name, seeds
):
    config = tiny(fdl_configs.make(name))
    config.seeds = seeds
    save, drawn = workdir.save_figures, []

    def save_the_last(folder, figures):  # pictures of the untrained model take as long again
        drawn.append(figures)
        return save(folder, figures) if len(drawn) == 2 else {}

    monkeypatch.setattr(workdir, "save_figures", save_the_last)
    with jax.debug_nans(True):  # a missing number in a program is not NaN
        assert train.run(config, tmp_path, writers=("jsonl",), devices=jax.devices()[:1])
    records = log.read_metrics(tmp_path / "metrics.jsonl")
    assert [r["step"] for r in records] == [0, 1, 2, 2]
    trained = [v for r in records for n, v in r.items() if n.startswith("train/")]
    assert all(np.shape(v) == (() if seeds == 1 else (seeds,)) for v in trained)

    loaded = hfjax.load(tmp_path)
    leaves = jax.tree.leaves(loaded.state)
    assert all(np.isfinite(x).all() for x in leaves if x.dtype == jnp.float32)
    assert loaded.config.seeds == seeds
    step, _ = workdir.load_readout(tmp_path)
    assert step == 2
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {*drawn[-1]}
    assert {"training"} < {*drawn[-1]}
    for figures in drawn:
        check_figures({n: figure for n, figure in figures.items() if n != "training"})


@pytest.mark.slow
@pytest.mark.parametrize("name", ["grid_rnn", "topo_grid"])
def test_devices_share_a_wide_network_and_change_nothing(name):
    """Four hold a quarter of the weights and of Adam's moments, and send each other activities."""
    config = tiny(fdl_configs.make(name))
    units = {"grid_rnn": "num_grid", "topo_grid": "num_units"}[name]
    setattr(config.task, units, 64)
    experiment = train.build(config)
    whole = train.make_programs(experiment, jax.devices()[:1])
    shared = train.make_programs(experiment, jax.devices()[:8], model_devices=4)
    assert tuple(shared.mesh.shape.values()) == (1, 2, 4)
    state, scalars = whole.chunk(whole.init(), 3)
    state_shared, scalars_shared = shared.chunk(shared.init(), 3)
    np.testing.assert_allclose(scalars_shared["loss"], scalars["loss"], rtol=1e-5)
    for one, part in zip(*map(jax.tree.leaves, (state.state, state_shared.state)), strict=True):
        if one.shape == (64, 64):
            assert {shard.data.shape for shard in part.addressable_shards} == {(16, 64)}
        np.testing.assert_allclose(part, one, rtol=1e-3, atol=2e-5)
    program = shared.lower(3).compile()
    gathered = re.findall(r"= f32\[([\d,]+)\][^=]* all-gather\(", program.as_text())
    assert "4,64" in gathered  # the activity of the walks of a device
    assert not {"64,64", "4,16,64"} & set(gathered)  # never a matrix of weights
    memory, memory_shared = (
        p.memory_analysis().argument_size_in_bytes for p in (whole.lower(3).compile(), program)
    )
    assert memory_shared < 0.35 * memory


def with_batch_size(name):
    config = fdl_configs.make(name)
    return "batch_size" in fdl.get_callable(config.task).__kwdefaults__


@pytest.mark.parametrize("name", MODELS)
def test_eight_devices_are_enough_for_any_model(name):
    train.make_programs(train.build(tiny(fdl_configs.make(name))), jax.devices()[:8])


@pytest.mark.parametrize("name", list(filter(with_batch_size, MODELS)))
def test_devices_divide_the_batch_and_change_nothing(name):
    experiment = train.build(tiny(fdl_configs.make(name)))
    results = []
    for num_devices in (1, 8):
        programs = train.make_programs(experiment, jax.devices()[:num_devices])
        train_state, scalars = programs.chunk(programs.init(), 3)
        results.append((train_state.state, scalars))
    # The objective of dsm is a difference of means of about 1, in float32. Some gradients of
    # conformal are near 0 at the start, and Adam divides them by themselves: a step of 2e-2.
    atol = {"dsm": 1e-5, "conformal": 1e-4}.get(name, 1e-6)
    for single, divided in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(divided, single, rtol=1e-4, atol=atol)
