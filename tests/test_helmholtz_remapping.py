"""Remapping: shuffled place fields, relearned with the attractor frozen."""

import jax
import numpy as np
import pytest

import fdl_configs
import hfjax
from experiments.helmholtz import attempts
from hfjax import decoders, missing
from hfjax.models.helmholtz import remapping
from hfjax.models.helmholtz.circuit import init_circuit
from hfjax.models.helmholtz.path_integration import Protocol, path_integrator
from hfjax.task import Task
from hfjax.training import run as train
from tests import small
from tests.contract import check_figures, tiny

QUICK = Protocol(
    decoders=(decoders.ridge_decoder,), decoder_s=200.0, num_tests=20, spin_up_s=5.0, test_s=2.0
)


@pytest.fixture(scope="module")
def relearned():
    """(task, state after half an hour of learning, state and losses ten minutes later)."""
    task = remapping.task(protocol=QUICK)
    start = jax.jit(task.init)(jax.random.key(2), ())
    keys = jax.random.split(jax.random.key(3), 60)
    state, losses = jax.jit(lambda s, k: jax.lax.scan(lambda s, k: task.step(s, (), k), s, k))(
        start, keys
    )
    return task, start, state, losses


@pytest.mark.optimized
def test_the_new_fields_are_shuffled(relearned):
    _, start, state, _ = relearned
    old, new = (np.asarray(c)[:, 0] for c in (start.world.centres, start.fresh.centres))
    # Both cover the ring with a cell a centimetre, the new ones in no order.
    for centres in (old, new):
        np.testing.assert_array_equal(
            np.floor(np.sort(centres) * 100 + 50).astype(int), np.arange(100)
        )
    assert abs(np.corrcoef(old, new)[0, 1]) < 0.4  # 100 pairs: four standard errors
    np.testing.assert_array_equal(state.world.centres, start.world.centres)
    np.testing.assert_array_equal(state.fresh.centres, start.fresh.centres)


def test_only_the_synapses_between_hpc_and_ec_learn_again(relearned):
    _, start, state, losses = relearned
    before, now = start.circuit.synapses, state.circuit.synapses
    for name in before:
        frozen = name.startswith("EC/apical") or "/in/" in name
        assert np.array_equal(before[name].weights, now[name].weights) == frozen, name
        np.testing.assert_array_equal(state.fresh.synapses[name].weights, before[name].weights)
    assert losses["HPC_loss"][-1] < 0.15


@pytest.mark.slow
def test_the_three_conditions_are_measured_and_drawn(relearned):
    task, _, state, _ = relearned
    scalars, readout = jax.jit(task.evaluate)(state, (), jax.random.key(3))
    assert scalars["before_error_1s_m"] < scalars["after_error_1s_m"]
    # With alternating theta, position is decoded from the new code; right after, the two codes mix.
    assert scalars["relearned_perfect_error_m"] < scalars["after_perfect_error_m"] / 2
    figures = remapping.draw(missing.on_host(readout))
    assert set(figures) == {"errors", "error_over_time", "rate_maps"}
    check_figures(figures)


@pytest.mark.slow
def test_remapping_starts_from_another_run(tmp_path):
    configs = [
        small.without_evaluation(tiny(fdl_configs.make(name, "ridge_only")))
        for name in ("helmholtz_path_integration", "helmholtz_remapping")
    ]
    first, second = configs
    assert train.run(first, tmp_path / "first", writers=(), devices=jax.devices()[:1])
    second.init_from, second.seed, second.seeds = str(tmp_path / "first"), 7, 1
    assert train.run(second, tmp_path / "second", writers=(), devices=jax.devices()[:1])
    donor, state = (hfjax.load(tmp_path / name).state for name in ("first", "second"))
    np.testing.assert_array_equal(state.world.centres, donor.world.centres)
    for name, synapses in donor.circuit.synapses.items():
        np.testing.assert_array_equal(state.fresh.synapses[name].weights, synapses.weights)
    assert int(state.fresh.steps) == 2


def test_attempts_change_the_step_and_keep_the_synapses_from_before():
    circuit = init_circuit(jax.random.key(0), path_integrator())
    fresh = remapping.Relearning(np.zeros((100, 1)), circuit.synapses, np.int32(0))
    start = remapping.RemappingState(circuit, None, fresh)

    def learn(factor):
        def step(state, batch, key):  # scales all synapses, with the bookkeeping of remapping
            old = remapping._old_synapses(state)
            scaled = jax.tree.map(lambda w: factor * w, state.circuit.synapses)
            fresh = state.fresh._replace(synapses=old, steps=state.fresh.steps + 1)
            return remapping.RemappingState(state.circuit._replace(synapses=scaled), None, fresh), {
                "factor": np.float32(factor)
            }

        return Task(init=None, sample=None, step=step, evaluate=None, figures=None)

    def weights(state, name):
        return np.asarray(state.circuit.synapses[name].weights)

    learned = "EC/basal/HPC"
    anew = attempts.drawn_anew(task=learn(2.0))
    one, _ = anew.step(start, (), jax.random.key(1))
    two, _ = anew.step(one, (), jax.random.key(2))
    assert (
        abs(np.corrcoef(weights(start, learned).ravel(), weights(one, learned).ravel())[0, 1]) < 0.1
    )
    np.testing.assert_array_equal(weights(two, learned), 2 * weights(one, learned))
    np.testing.assert_array_equal(
        weights(one, "EC/apical/EC"), 2 * weights(start, "EC/apical/EC")
    )  # the attractor is kept
    for state in (one, two):
        np.testing.assert_array_equal(
            state.fresh.synapses[learned].weights, weights(start, learned)
        )

    two_phases = attempts.in_turn(first=learn(2.0), then=learn(3.0), num_first=2)
    factors, state = [], start
    for _ in range(3):
        state, scalars = two_phases.step(state, (), jax.random.key(0))
        factors.append(float(scalars["factor"]))
    assert factors == [2, 2, 3]
