"""Simulation of a circuit in its world: blocks, the gate's table, and noise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hfjax import theta
from hfjax.models import helmholtz as model
from hfjax.models.helmholtz import Source, machine
from tests.helmholtz_reference import (
    DT_S,
    LATENTS,
    reference_autoencoder,
    small_autoencoder,
)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def test_a_simulation_of_several_blocks_equals_the_reference():
    """900 steps are two blocks of 400 and a rest of 100; the gate's table wraps among them."""
    num_steps, first_step = 900, 3
    layers, latents = small_autoencoder(), np.tile(LATENTS, (5, 1))[:num_steps]

    def block(done, key, length):
        values = jax.lax.dynamic_slice_in_dim(jnp.asarray(latents), done, length)
        return done + length, {"latents": values}, {"latents": values}

    state = model.init_circuit(jax.random.key(0), layers)
    state = model.HelmholtzState(state._replace(step=jnp.int32(first_step)), jnp.int32(0))
    thetas = theta.tabulate(theta.square, dt_s=DT_S)[:640]  # 80 cycles, then again
    machine = model.Machine(layers, model.World(lambda key: None, block), thetas, DT_S, 0)
    end, recorded, others = jax.jit(
        lambda state, key: model.simulate(
            machine,
            state,
            key,
            num_steps=num_steps,
            record=lambda activity: activity["EC"].soma,
        )
    )(state, jax.random.key(1))
    np.testing.assert_array_equal(others["latents"], latents)
    assert int(end.circuit.step) == first_step + num_steps
    assert int(end.world) == num_steps
    draws = {"HPC": np.zeros((num_steps, 2, 6)), "EC": np.zeros((num_steps, 2, 3))}
    weights, somata = reference_autoencoder(0.0, draws, latents, first_step)[::4]
    for name, expected in weights.items():
        np.testing.assert_allclose(end.circuit.synapses[name].weights, expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(recorded, somata, rtol=0, atol=1e-9)


def test_noise_reaches_the_dendrites_that_it_is_drawn_for():
    """Without inputs a dendrite's rate is its noise: its size, and independence between blocks."""
    quiet = functools.partial(model.Pyramidal, basal=(), apical=())
    layers = (
        Source("x", 1),
        quiet("HPC", 50, basal_noise=0.1, apical_noise=0.0),
        quiet("EC", 30, basal_noise=0.0, apical_noise=0.3),
    )
    state = model.HelmholtzState(model.init_circuit(jax.random.key(0), layers), ())
    world = model.World(
        lambda key: (), lambda state, key, length: ((), {"x": jnp.zeros((length, 1))}, {})
    )
    machine = model.Machine(layers, world, np.zeros(1), DT_S, 0)
    _, recorded, _ = model.simulate(
        machine, state, jax.random.key(1), num_steps=1600, record=lambda activity: activity
    )
    # The discrete process' own standard deviation; 40 s are some 70 independent draws a unit.
    k = DT_S / 0.3
    std = 1 / np.sqrt(1 - k / 2)
    for name, part, sigma in (("HPC", "basal", 0.1), ("EC", "apical", 0.3)):
        values = np.asarray(getattr(recorded[name], part))[200:]
        assert values.std() == pytest.approx(sigma * std, rel=0.1)
    for name, part in (("HPC", "apical"), ("EC", "basal")):
        np.testing.assert_array_equal(getattr(recorded[name], part), 0)
    x = np.asarray(recorded["HPC"].basal)
    assert abs(np.corrcoef(x[300:400].ravel(), x[700:800].ravel())[0, 1]) < 0.2


@pytest.mark.parametrize(("num_shown", "units"), [(3, [0, 5, 10]), (1, [0]), (20, range(11))])
def test_units_that_are_shown_are_spread_over_their_layer(num_shown, units):
    rates = model.Rates(*(jnp.arange(11.0) + 100 * part for part in range(3)))
    shown = machine.shown({"EC": rates}, num_shown=num_shown)
    assert list(shown) == ["EC/basal", "EC/apical", "EC/soma"]
    np.testing.assert_array_equal(shown["EC/apical"], 100 + np.asarray(units))


def test_layers_with_gates_of_their_own_follow_these():
    """HPC is always in generation and EC alternates; a held mode holds both."""
    hpc_gate = functools.partial(theta.constant, theta=1.0)
    circuit = model.autoencoder_circuit(
        num_latents=3, num_features=6, hpc_gate=hpc_gate, soma_noise=0.1
    )
    world = model.latents(num_latents=3, time_scale_s=0.5, dt_s=DT_S)
    made = model.make_machine(circuit, world, gate=theta.square, dt_s=DT_S)
    state = model.init_machine(jax.random.key(0), (), machine=made)

    def run(of):
        return model.simulate(
            of, state, jax.random.key(1), num_steps=16, record=lambda activity: activity
        )[1]

    recorded = run(made)
    square = theta.tabulate(theta.square, dt_s=DT_S)[1:17, None]
    for layer, gate in (("HPC", 1.0), ("EC", square)):
        rates = recorded[layer]
        noise = rates.soma - ((1 - gate) * rates.basal + gate * rates.apical)
        assert 0.03 < np.std(noise) < 0.2  # that of the soma, and nothing else
        assert np.abs(noise).max() < 0.6
        # The noise is a slow process: a wrong gate would make it jump with theta.
        assert np.abs(np.diff(noise, axis=0)).max() < 0.15
    held = run(made._replace(thetas=np.zeros(1)))
    for rates in held.values():
        assert np.abs(rates.soma - rates.basal).max() < 0.6
    alike = model.make_machine(model.autoencoder_circuit(), world, gate=theta.square, dt_s=DT_S)
    assert alike.thetas.ndim == 1
