"""The device programs: keys, chunks, populations, devices."""

import dataclasses
import functools
import math

import fiddle as fdl
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hfjax.errors import InputError
from hfjax.task import Whole
from hfjax.training import programs
from hfjax.training.experiment import Experiment
from hfjax.training.programs import make_mesh, make_programs
from tests import toy


def experiment(**settings):
    config = toy.config()
    for name, value in settings.items():
        owner = config if name in Experiment.__dataclass_fields__ else config.task
        setattr(owner, name, value)
    return fdl.build(config)


@functools.cache
def after_20_steps(num_devices, seeds, seed=5):
    made = make_programs(experiment(seeds=seeds, seed=seed), jax.devices()[:num_devices])
    return made.chunk(made.init(), 20)


def test_chunks_equal_a_plain_loop_over_steps():
    task = experiment().task
    init_key, train_key, _ = jax.random.split(jax.random.key(5), 3)
    state, losses = task.init(init_key, ()), []
    for i in range(7):
        sample_key, step_key = jax.random.split(jax.random.fold_in(train_key, i))
        state, scalars = task.step(state, task.sample((), sample_key), step_key)
        losses.append(scalars["loss"])
    made = make_programs(experiment(seed=5), jax.devices()[:1])
    train_state, first = made.chunk(made.init(), 3)
    train_state, second = made.chunk(train_state, 4)
    assert train_state.step == 7
    np.testing.assert_allclose(train_state.state["params"]["w"], state["params"]["w"], rtol=1e-5)
    np.testing.assert_allclose(jnp.concatenate([first["loss"], second["loss"]]), losses, rtol=1e-5)


def test_matmul_precision_is_that_of_the_training_steps_alone():
    seen = []

    def note(place):
        seen.append((place, jax.config.jax_default_matmul_precision))

    def step(state, batch, key):
        note("step")
        return task.step(state, batch, key)

    def evaluate(state, data, key):
        note("evaluate")
        return task.evaluate(state, data, key)

    plain = experiment()
    task = plain.task
    noted = task._replace(step=step, evaluate=evaluate)
    make_programs(
        dataclasses.replace(plain, task=noted, matmul_precision="bfloat16"), jax.devices()[:1]
    ).trace(2)
    assert set(seen) == {("step", "bfloat16"), ("evaluate", None)}
    with pytest.raises(ValueError, match=r"one of bfloat16, .* but is 'half'"):
        experiment(matmul_precision="half")


def test_member_of_a_population_is_the_single_run_of_its_seed():
    many, scalars = after_20_steps(1, 8)
    alone, alone_scalars = after_20_steps(1, 1, seed=12)
    assert scalars["loss"].shape == (20, 8)
    np.testing.assert_allclose(scalars["loss"][:, 7], alone_scalars["loss"], rtol=1e-4)
    np.testing.assert_allclose(
        many.state["params"]["w"][7], alone.state["params"]["w"], rtol=1e-4, atol=1e-5
    )
    assert not np.allclose(scalars["loss"][:, 0], scalars["loss"][:, 1])


@pytest.mark.parametrize("seeds", [1, 2])
def test_the_check_before_a_run_traces_nothing_twice(seeds):
    """A start takes no longer because its programs are traced before the workdir is written."""
    plain, calls = experiment(seeds=seeds), []

    def counted(name):
        function = getattr(plain.task, name)
        return lambda *arguments: (calls.append(name), function(*arguments))[1]

    task = plain.task._replace(**{n: counted(n) for n in ("init", "step", "evaluate")})
    made = make_programs(dataclasses.replace(plain, task=task), jax.devices()[:1])
    made.trace(5)
    train_state, _ = made.chunk(made.init(), 5)
    made.evaluate(train_state.state)
    assert sorted(calls) == ["evaluate", "init", "step"]


@pytest.mark.parametrize(("num_devices", "seeds", "seed"), [(2, 1, 12), (8, 1, 12), (8, 8, 5)])
def test_devices_divide_the_work_and_change_nothing(num_devices, seeds, seed):
    state_one, scalars_one = after_20_steps(1, seeds, seed)
    state, scalars = after_20_steps(num_devices, seeds, seed)
    np.testing.assert_allclose(scalars["loss"], scalars_one["loss"], rtol=1e-5)
    weights = state.state["params"]["w"]
    assert len(weights.sharding.device_set) == num_devices
    assert weights.sharding.is_fully_replicated == (seeds == 1)
    np.testing.assert_allclose(weights, state_one.state["params"]["w"], rtol=1e-4, atol=1e-5)


def test_a_whole_batch_is_given_to_every_device():
    """Of a size, 6, that eight devices cannot divide. One model then uses one device."""
    divided = experiment(batch_size=6, seeds=8)
    sample, step = divided.task.sample, divided.task.step
    whole = divided.task._replace(
        sample=lambda data, key: Whole(sample(data, key)),
        step=lambda state, batch, key: step(state, batch.data, key),
    )
    one = make_programs(divided, jax.devices()[:1])
    eight = make_programs(dataclasses.replace(divided, task=whole), jax.devices()[:8])
    state_one, _ = one.chunk(one.init(), 5)
    state, _ = eight.chunk(eight.init(), 5)
    weights = state.state["params"]["w"]
    assert len(weights.sharding.device_set) == 8
    np.testing.assert_allclose(weights, state_one.state["params"]["w"], rtol=1e-4, atol=1e-5)
    alone = dataclasses.replace(divided, task=whole, seeds=1)
    assert make_programs(alone, jax.devices()[:8]).mesh.size == 1


@pytest.mark.parametrize(
    ("seeds", "batch_size", "model_devices", "mesh"),
    [
        (1, 8, 1, (1, 8, 1)),
        (1, 100, 1, (1, 5, 1)),  # of 1, 2, 4, 5, 10 ...
        (5, None, 1, (5, 1, 1)),
        (1, None, 1, (1, 1, 1)),
        (3, 8, 1, (1, 8, 1)),  # 8 devices, where (3, 2) is 6
        (2, 8, 1, (2, 4, 1)),  # as many as (1, 8), with less communication
        (1, 6, 4, (1, 2, 4)),
        (1, 7, 8, (1, 1, 8)),
    ],
)
def test_as_many_of_eight_devices_as_divide_the_work_are_used(
    seeds, batch_size, model_devices, mesh
):
    made = make_mesh(
        jax.devices()[:8], seeds=seeds, batch_size=batch_size, model_devices=model_devices
    )
    assert tuple(made.shape.values()) == mesh


@dataclasses.dataclass(frozen=True)
class Device:
    """A device of a process that is not here."""

    process_index: int
    id: int


@pytest.mark.parametrize(
    ("processes", "local", "seeds", "batch_size", "mesh"),
    [
        (2, 4, 1, 100, (1, 4, 1)),  # 5 does not divide into two equal parts
        (2, 4, 4, 6, (4, 2, 1)),
        (4, 1, 1, 8, (1, 4, 1)),
        (4, 2, 1, None, (1, 4, 1)),  # each process does the same work
        (3, 2, 2, None, (2, 3, 1)),
    ],
)
def test_every_process_has_as_many_devices_in_the_mesh(
    monkeypatch, processes, local, seeds, batch_size, mesh
):
    monkeypatch.setattr(programs, "Mesh", lambda devices, *_, **__: devices)
    devices = [Device(p, i) for p in range(processes) for i in range(local)]
    made = make_mesh(devices, seeds=seeds, batch_size=batch_size)
    assert made.shape == mesh
    used = [device.process_index for device in made.flat]
    assert used == sorted(list(range(processes)) * (len(used) // processes))


@pytest.mark.parametrize(
    ("processes", "settings", "message"),
    [
        (3, {"batch_size": 100}, "3 processes cannot divide a batch of 100 evenly"),
        (3, {"batch_size": 100, "seeds": 2}, "a batch of 100 and 2 seeds evenly"),
        (1, {"batch_size": 8, "model_devices": 4}, r"at most the number of devices \(2\)"),
        (
            2,
            {"batch_size": 200, "model_devices": 3},
            "model_devices=3 cannot be shared evenly by 2",
        ),
        (2, {"model_devices": 3}, "model_devices=3 cannot be shared evenly by 2"),
    ],
)
def test_what_no_division_allows_is_refused(processes, settings, message):
    devices = [Device(p, i) for p in range(processes) for i in range(2)]
    with pytest.raises(InputError, match=message):
        make_mesh(devices, **settings)


# --- Tracing ---


def test_what_was_traced_is_not_traced_again():
    """So that the check before a run costs nothing."""
    calls = []

    def counted(name, function):
        return lambda *arguments: [calls.append(name), function(*arguments)][1]

    whole = experiment()
    task = whole.task
    parts = {name: counted(name, getattr(task, name)) for name in ("init", "step", "evaluate")}
    whole = dataclasses.replace(whole, task=task._replace(**parts))
    made = make_programs(whole, jax.devices()[:2])
    made.trace(5)
    assert sorted(calls) == ["evaluate", "init", "step"]
    train_state, _ = made.chunk(made.init(), 5)
    made.evaluate(train_state.state)
    assert len(calls) == 3


def needs_two(*_):
    raise ValueError("window must be at least 2.")


@pytest.mark.parametrize(
    ("part", "function", "message"),
    [
        ("init", needs_two, r"^window must be at least 2\.$"),
        ("sample", lambda data, key: data.x, r"`sample` of .*: AttributeError: .*test_programs.py"),
        ("step", lambda state, batch, key: math.sin(state), r"`step` of the task .*test_programs"),
        ("step", lambda state, batch, key: (batch, {}), "`step` of .* scan body function carry"),
        ("step", lambda state, batch, key: state, "`step` of the task fails"),
        ("evaluate", lambda state, data, key: {}["x"], "`evaluate` of the task .* KeyError: 'x'"),
        ("evaluate", lambda state, data, key: jnp.zeros(3) @ jnp.ones(2), "`evaluate` of .* shap"),
    ],
)
@pytest.mark.parametrize("seeds", [1, 2])
def test_a_function_that_does_not_fit_is_one_sentence(part, function, message, seeds):
    whole = experiment(seeds=seeds)
    whole = dataclasses.replace(whole, task=whole.task._replace(**{part: function}))
    with pytest.raises(InputError, match=message) as caught:
        make_programs(whole, jax.devices()[:1]).trace(5)
    assert "\n" not in str(caught.value)


@pytest.mark.optimized
def test_evaluations_are_compiled_quickly_on_cpus_if_programs_are_optimized_at_all():
    assert programs.compiled_quickly("cpu") == {"xla_backend_optimization_level": 1}
    assert programs.compiled_quickly("gpu") is None
    jax.config.update("jax_disable_most_optimizations", True)  # until the next test
    assert programs.compiled_quickly("cpu") is None


def test_the_options_of_an_evaluation_are_those_of_no_other_program(monkeypatch):
    monkeypatch.setattr(programs, "compiled_quickly", lambda platform: {"no_such_option": 1})
    made = make_programs(experiment(), jax.devices()[:1])
    state, _ = made.chunk(made.init(), 2)
    with pytest.raises(Exception, match="no_such_option"):
        made.evaluate(state.state)
