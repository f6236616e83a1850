"""The trainer in this process: keys, chunks, populations, devices, checkpoints, loading."""

import dataclasses
import json

import fiddle as fdl
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hfjax
from hfjax.errors import InputError
from hfjax.task import Whole
from hfjax.training import run as train
from hfjax.training import workdir as wd
from tests import toy

QUIET = {"writers": ("jsonl",)}


def one_device():
    return jax.devices()[:1]


def make(num_devices=1, **settings):
    config = toy.config()
    for name, value in settings.items():
        owner = config if name in train.Experiment.__dataclass_fields__ else config.task
        setattr(owner, name, value)
    return config, train.make_programs(fdl.build(config), jax.devices()[:num_devices])


def test_chunks_equal_a_plain_loop_over_steps():
    config, programs = make(seed=5)
    task = fdl.build(config).task
    init_key, train_key, _ = jax.random.split(jax.random.key(5), 3)
    state, losses = task.init(init_key, ()), []
    for i in range(7):
        sample_key, step_key = jax.random.split(jax.random.fold_in(train_key, i))
        state, scalars = task.step(state, task.sample((), sample_key), step_key)
        losses.append(scalars["loss"])
    train_state, first = programs.chunk(programs.init(), 3)
    train_state, second = programs.chunk(train_state, 4)
    assert train_state.step == 7
    np.testing.assert_allclose(train_state.state["params"]["w"], state["params"]["w"], rtol=1e-5)
    np.testing.assert_allclose(jnp.concatenate([first["loss"], second["loss"]]), losses, rtol=1e-5)


def test_member_of_a_population_is_the_single_run_of_its_seed():
    _, population = make(seeds=3, seed=10)
    _, single = make(seed=12)
    many, scalars = population.chunk(population.init(), 20)
    alone, alone_scalars = single.chunk(single.init(), 20)
    assert scalars["loss"].shape == (20, 3)
    np.testing.assert_allclose(scalars["loss"][:, 2], alone_scalars["loss"], rtol=1e-4)
    np.testing.assert_allclose(
        many.state["params"]["w"][2], alone.state["params"]["w"], rtol=1e-4, atol=1e-5
    )
    assert not np.allclose(scalars["loss"][:, 0], scalars["loss"][:, 1])


@pytest.mark.parametrize("num_devices", [2, 8])
@pytest.mark.parametrize("seeds", [1, 8])
def test_devices_divide_the_work_and_change_nothing(num_devices, seeds):
    _, one = make(1, seeds=seeds)
    _, several = make(num_devices, seeds=seeds)
    state_one, scalars_one = one.chunk(one.init(), 20)
    state, scalars = several.chunk(several.init(), 20)
    np.testing.assert_allclose(scalars["loss"], scalars_one["loss"], rtol=1e-5)
    weights = state.state["params"]["w"]
    assert len(weights.sharding.device_set) == num_devices
    assert weights.sharding.is_fully_replicated == (seeds == 1)
    np.testing.assert_allclose(weights, state_one.state["params"]["w"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seeds", [1, 8])
def test_a_whole_batch_is_given_to_every_device(seeds):
    """Of a size, 6, that eight devices cannot divide."""
    experiment = fdl.build(make(batch_size=6, seeds=seeds)[0])
    sample, step = experiment.task.sample, experiment.task.step
    whole = experiment.task._replace(
        sample=lambda data, key: Whole(sample(data, key)),
        step=lambda state, batch, key: step(state, batch.data, key),
    )
    one = train.make_programs(experiment, jax.devices()[:1])
    eight = train.make_programs(dataclasses.replace(experiment, task=whole), jax.devices()[:8])
    state_one, _ = one.chunk(one.init(), 5)
    state, _ = eight.chunk(eight.init(), 5)
    weights = state.state["params"]["w"]
    assert len(weights.sharding.device_set) == 8
    np.testing.assert_allclose(weights, state_one.state["params"]["w"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 6}, "the batch size must be a multiple of the number of devices"),
        ({"seeds": 3}, "seeds must be a multiple of the number of devices"),
    ],
)
def test_indivisible_work_is_refused(settings, message):
    with pytest.raises(InputError, match=message):
        make(8, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"chunk": 50}, "chunk must be at most num_steps"),
        ({"eval_every": 7}, "eval_every must be a multiple of chunk"),
        ({"save_every": 4}, "save_every must be a multiple of chunk"),
        ({"num_steps": 0}, "num_steps must be at least 1"),
        ({"seeds": 0}, "seeds must be at least 1"),
        ({"num_units": 0}, "num_units must be at least 1, but is 0"),
        ({"num_units": "many"}, "task.num_units must be a whole number, but is 'many'"),
        ({"num_units": True}, "task.num_units must be a whole number"),
        ({"learning_rate": None}, "task.learning_rate must be a number"),
        ({"show": "loss"}, "show must be"),
        ({"init_from": 3}, "init_from must be a string or None"),
    ],
)
def test_impossible_settings_are_refused_and_nothing_is_written(tmp_path, settings, message):
    config = toy.config()
    for name, value in settings.items():
        owner = config if name in train.Experiment.__dataclass_fields__ else config.task
        setattr(owner, name, value)
    with pytest.raises(InputError, match=message):
        train.run(config, tmp_path / "run", **QUIET)
    assert not (tmp_path / "run").exists()


def test_checkpoint_is_restored_on_another_number_of_devices(tmp_path):
    config, _ = make()
    train.run(config, tmp_path, **QUIET, devices=jax.devices()[:8])
    _, programs = make(2)
    with wd.Checkpoints(tmp_path, read_only=True) as checkpoints:
        restored, _ = checkpoints.restore_newest(programs.abstract)
    assert restored.step == 40
    assert len(restored.state["params"]["w"].sharding.device_set) == 2
    np.testing.assert_array_equal(
        restored.state["params"]["w"], hfjax.load(tmp_path).state["params"]["w"]
    )


def test_run_writes_what_a_person_finds_in_a_workdir(tmp_path):
    config, _ = make()
    assert train.run(config, tmp_path, **QUIET, devices=one_device()) is True
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records if "eval/loss" in r] == [0, 10, 20, 30, 40]
    assert [r["step"] for r in records if "train/loss" in r] == list(range(5, 41, 5))
    losses = [r["eval/loss"] for r in records if "eval/loss" in r]
    assert losses[-1] < 0.1 * losses[0]
    assert sorted(p.name for p in (tmp_path / "figures").iterdir()) == [
        "training.png",
        "weights.png",
    ]
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["20", "30", "40"]
    assert sorted(p.stem for p in (tmp_path / "readout").iterdir()) == [
        "000000020",
        "000000030",
        "000000040",
    ]
    assert "\n    num_steps=40,\n" in (tmp_path / "config.py").read_text()

    task, state, loaded = hfjax.load(tmp_path)
    assert loaded.task.num_units == 4
    np.testing.assert_array_equal(
        np.load(tmp_path / "readout" / "000000040.npz")["weights"], state["params"]["w"]
    )
    assert set(task.figures({"weights": np.eye(4)})) == {"weights"}


def test_complete_run_is_left_as_it_is(tmp_path):
    config, _ = make()
    train.run(config, tmp_path, **QUIET, devices=one_device())
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.*")}
    assert train.run(config, tmp_path, **QUIET, devices=one_device()) is True
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.*")} == before


def test_last_chunk_may_be_shorter(tmp_path):
    config, _ = make(num_steps=13, eval_every=5, save_every=5)
    train.run(config, tmp_path, **QUIET, devices=one_device())
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records if "train/loss" in r] == [5, 10, 13]
    assert records[-1]["step"] == 13
    assert "eval/loss" in records[-1]


def test_population_records_every_seed(tmp_path):
    config, _ = make(seeds=3)
    train.run(config, tmp_path, **QUIET, devices=one_device())
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert len(last["eval/loss"]) == 3
    readout = np.load(tmp_path / "readout" / "000000040.npz")
    assert readout["weights"].shape == (3, 4, 4)
    drawn = last["eval/loss"][int(readout["drawn_seed"])]
    assert drawn == np.median(last["eval/loss"])
    assert hfjax.load(tmp_path).state["params"]["w"].shape == (3, 4, 4)


def test_nan_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path):
    config, _ = make(nan_at=26)
    with pytest.raises(train.TrainingFailed, match=r"step 27: loss is nan; .* step 20 "):
        train.run(config, tmp_path, **QUIET, devices=one_device())
    state = hfjax.load(tmp_path).state
    assert state["steps"] == 20
    assert np.isfinite(state["params"]["w"]).all()


def test_init_from_takes_the_parameters_and_not_the_optimiser(tmp_path):
    config, _ = make()
    train.run(config, tmp_path / "first", **QUIET, devices=one_device())
    donor = hfjax.load(tmp_path / "first").state
    config, programs = make(init_from=str(tmp_path / "first"), seed=9)
    begun = train._initial_state(fdl.build(config), programs)
    np.testing.assert_array_equal(begun.state["params"]["w"], donor["params"]["w"])
    assert begun.step == 0
    assert not np.any(begun.state["opt_state"][0].mu["w"])
    assert np.any(donor["opt_state"][0].mu["w"])

    config, programs = make(init_from=str(tmp_path / "first"), seeds=2)
    founded = train._initial_state(fdl.build(config), programs)
    np.testing.assert_array_equal(founded.state["params"]["w"][1], donor["params"]["w"])


def test_init_from_of_another_shape_is_refused(tmp_path):
    config, _ = make()
    train.run(config, tmp_path / "first", **QUIET, devices=one_device())
    config, _ = make(init_from=str(tmp_path / "first"), num_units=5)
    with pytest.raises(InputError, match=r"\['params'\]\['w'\] is of shape \(4, 4\) there and"):
        train.run(config, tmp_path / "second", **QUIET, devices=one_device())
    assert not (tmp_path / "second").exists()


def test_load_says_what_is_missing(tmp_path):
    with pytest.raises(InputError, match="holds no run"):
        hfjax.load(tmp_path)
