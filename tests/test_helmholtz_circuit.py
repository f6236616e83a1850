"""A circuit against a float64 reference in NumPy, against the original, and piece by piece."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hfjax import networks, plasticity, theta
from hfjax.models import helmholtz as model
from hfjax.models.helmholtz import Feedforward, Projection, Pyramidal, Source
from tests.helmholtz_reference import (
    AUTOENCODER_WEIGHTS,
    DT_S,
    LATENTS,
    NUM_STEPS,
    given,
    reference_autoencoder,
    reference_ring,
    ring_sources,
    small_autoencoder,
    small_ring,
)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def run(circuit, sources, draws=None):
    """The circuit over NUM_STEPS with the square gate: (state, rates by step)."""
    thetas = theta.tabulate(theta.square, dt_s=DT_S)[1 : NUM_STEPS + 1]
    if draws is None:
        draws = {
            layer.name: np.zeros((NUM_STEPS, 2, layer.size)) for layer in model.pyramidal(circuit)
        }

    def body(state, inputs):
        return model.advance(state, *inputs, circuit=circuit, dt_s=DT_S, loss_from_step=15)

    start = model.init_circuit(jax.random.key(0), circuit)
    return jax.jit(lambda *inputs: jax.lax.scan(body, start, inputs))(
        {name: jnp.asarray(x) for name, x in sources.items()}, jnp.asarray(thetas), draws
    )


@pytest.mark.parametrize("noise", [0.0, 0.03])
@pytest.mark.parametrize(
    ("circuit", "sources", "reference"),
    [
        (small_autoencoder, lambda: {"latents": LATENTS}, reference_autoencoder),
        (small_ring, ring_sources, reference_ring),
    ],
    ids=["autoencoder", "ring"],
)
def test_two_hundred_steps_equal_the_reference(circuit, sources, reference, noise):
    layers = circuit(noise)
    rng = np.random.default_rng(1)
    draws = {
        layer.name: rng.normal(size=(NUM_STEPS, 2, layer.size)) for layer in model.pyramidal(layers)
    }
    state, _ = run(layers, sources(), draws)
    weights, biases, losses, somata, *_ = reference(noise, draws)
    for name, expected in weights.items():
        np.testing.assert_allclose(state.synapses[name].weights, expected, rtol=0, atol=1e-9)
    for name, expected in biases.items():
        np.testing.assert_allclose(state.synapses[name].bias, expected, rtol=0, atol=1e-9)
    for name in ("HPC", "EC"):
        assert float(state.losses[name]) == pytest.approx(losses[name], abs=1e-9)
        np.testing.assert_allclose(state.rates[name], somata[name], rtol=0, atol=1e-9)


# What the original gives for the same weights and inputs, noise off, L1 and L2 as above. Made by
# running HelmholtzHippocampus' PyramidalNeurons and run_simulation on RatInABox 1.6.3 (NumPy
# 1.24.4) for 200 steps at the times 25 ms k + 1 ns (so that rounding cannot move the gate's edges):
# sum of weights and biases, sum of their squares, weight [1, 2].
ORIGINAL_AUTOENCODER = {
    "HPC/apical/EC": (0.020042099666454538, 3.562407846018745, 0.06781559275647943),
    "EC/basal/HPC": (-0.1869408963513282, 2.0130087876782814, 0.14131350348538732),
    "EC/apical/EC": (0.40969249698580246, 0.851980419714819, -0.08996308543121496),
}
ORIGINAL_RING = {
    "HPC/apical/EC": (2.7016014181795773, 8.274389084891045, -0.36705571455676517),
    "EC/basal/HPC": (0.4388846543276179, 8.040668492528958, 0.07588073066234542),
    "EC/apical/EC": (0.6908554024978699, 2.894002720113698, -0.2827171975047473),
    "EC/apical/CVC": (0.6110164445506094, 5.72634164808478, -0.031107185401776996),
}


@pytest.mark.parametrize(
    ("circuit", "sources", "original", "losses", "somata"),
    [
        (
            small_autoencoder,
            lambda: {"latents": LATENTS},
            ORIGINAL_AUTOENCODER,
            (0.35844321685147557, 0.5592864394245439),
            (-0.3405259018365493, 0.3252419775928438),
        ),
        (
            small_ring,
            ring_sources,
            ORIGINAL_RING,
            (0.29642294377763123, 0.034746063023644434),
            (1.576138158603597, 0.35469708481008155),
        ),
    ],
    ids=["autoencoder", "ring"],
)
def test_two_hundred_steps_equal_the_original(circuit, sources, original, losses, somata):
    state, _ = run(circuit(), sources())
    for name, expected in original.items():
        weights, bias = (np.zeros(1) if x is None else np.asarray(x) for x in state.synapses[name])
        sums = weights.sum() + bias.sum(), (weights**2).sum() + (bias**2).sum()
        np.testing.assert_allclose((*sums, weights[1, 2]), expected, rtol=1e-9)
    for name, loss, soma in zip(("HPC", "EC"), losses, somata, strict=True):
        assert float(state.losses[name]) == pytest.approx(loss, rel=1e-9)
        assert float(state.rates[name].sum()) == pytest.approx(soma, rel=1e-9)


@pytest.mark.parametrize(
    ("f", "x", "rate", "slope"),
    [
        (networks.identity, 2.0, 2.0, 1.0),
        (functools.partial(networks.threshold_relu, gain=2.0, threshold=1.0), 3.0, 4.0, 2.0),
        (functools.partial(networks.threshold_relu, gain=2.0, threshold=1.0), 1.0, 0.0, 0.0),
        (networks.retanh, 0.5, np.tanh(0.5), 1 - np.tanh(0.5) ** 2),
        (networks.retanh, -0.5, 0.0, 0.0),
        (
            functools.partial(networks.retanh, threshold=1.0),
            1.5,
            np.tanh(0.5),
            1 / np.cosh(0.5) ** 2,
        ),
        (networks.sigmoid, 1.0, 0.5, np.log(19) / 4),
        (networks.sigmoid, 2.0, 0.95, np.log(19) * 0.95 * 0.05),
        (networks.softplus, 0.0, np.log(2), 0.5),
    ],
)
def test_nonlinearities_and_their_slopes_by_hand(f, x, rate, slope):
    value_and_slope = networks.with_slope(f, jnp.asarray([x]))
    np.testing.assert_allclose(
        np.array(value_and_slope)[:, 0], (rate, slope), rtol=1e-9, atol=1e-12
    )


def test_dales_law_holds_from_the_start_and_while_learning():
    layers = tuple(
        layer._replace(apical=tuple(p._replace(sign=1) for p in layer.apical))
        if layer.name == "EC"
        else layer
        for layer in small_autoencoder()
    )
    state, _ = run(layers, {"latents": LATENTS})
    weights = np.asarray(state.synapses["EC/apical/EC"].weights)
    assert (weights >= 0).all()
    assert (weights > 0).any()


def test_a_frozen_projection_keeps_its_weights_and_the_others_learn():
    layers = model.frozen(small_autoencoder(), only=lambda name: name == "EC/apical/EC")
    state, _ = run(layers, {"latents": LATENTS})
    for name, start in AUTOENCODER_WEIGHTS.items():
        same = np.array_equal(state.synapses[name].weights, start)
        assert same == (name in ("EC/apical/EC", "features/in/latents"))


@pytest.mark.parametrize(("value", "part"), [(0.0, "basal"), (1.0, "apical")])
def test_the_gate_decides_which_dendrite_drives_the_soma(value, part):
    layers = small_autoencoder(noise=0.1)
    state = model.init_circuit(jax.random.key(0), layers)
    draws = {"HPC": jnp.ones((2, 6)), "EC": -jnp.ones((2, 3))}
    sources = {"latents": jnp.ones(3)}
    _, activity = model.advance(state, sources, value, draws, circuit=layers, dt_s=DT_S)
    for rates in activity.values():
        np.testing.assert_array_equal(rates.soma, getattr(rates, part))
        assert not np.array_equal(rates.basal, rates.apical)


def test_a_circuit_learns_by_the_rule_that_it_names():
    layers = model.autoencoder_circuit(rule=plasticity.hebb, learning_rate=0.01)
    start = model.init_circuit(jax.random.key(0), layers)
    ec, features = jnp.arange(5.0), start.synapses["features/in/latents"].weights @ jnp.ones(5)
    start = start._replace(rates={**start.rates, "EC": ec})
    draws = {"HPC": jnp.zeros((2, 50)), "EC": jnp.zeros((2, 5))}
    state, _ = model.advance(start, {"latents": jnp.ones(5)}, 0.0, draws, circuit=layers, dt_s=DT_S)
    grown = state.synapses["HPC/apical/EC"].weights - start.synapses["HPC/apical/EC"].weights
    # Inference: HPC's soma is its features; kappa is 0.025 / 0.1.
    np.testing.assert_allclose(grown, 0.01 * 0.25 * np.outer(features, ec), atol=1e-12)


# --- Bad input ---


def ec(**changes):
    projection = Projection("EC", learning_rate=0.01)._replace(**changes)
    return (Pyramidal("EC", 4, basal=(), apical=(projection,)),)


@pytest.mark.parametrize(
    ("circuit", "dt_s", "sentence"),
    [
        (ec(source="CA3"), DT_S, "there is no layer 'CA3'; the layers are"),
        (ec(weights=given(np.zeros((4, 3)))), DT_S, r"shape \(4, 4\), but they have \(4, 3\)"),
        (ec(learning_rate=-1.0), DT_S, "learning_rate must not be negative, but is -1.0"),
        (ec(sign=3), DT_S, "sign must be -1, 0 or 1, but is 3"),
        (ec(), 0.2, r"dt_s \(0.2\) must not be above the time constant of EC/apical/EC"),
        (ec(trace_time_s=1.0), 0.4, r"dt_s \(0.4\) must not be above the noise's"),
        (ec(), 0.0, "dt_s must be positive"),
        (ec(weights=None), DT_S, "cannot learn"),
        ((*ec(), *ec()), DT_S, "layers need different names"),
        ((Pyramidal("EC", 0, (), ()),), DT_S, "the size of layer EC must be at least 1"),
        ((Pyramidal("EC", 4, (), (), apical_noise=-1.0),), DT_S, "apical_noise must not be negat"),
        (
            (Source("x", 3), Feedforward("y", 4, (Projection("x", None),))),
            DT_S,
            r"must be a multiple of the size of x \(3\)",
        ),
        (
            (Source("x", 3), Feedforward("y", 4, (Projection("x", learning_rate=0.1),))),
            DT_S,
            "only pyramidal layers learn",
        ),
        (
            (Source("x", 3), Pyramidal("y", 4, (Projection("x"), Projection("x")), ())),
            DT_S,
            "two inputs from one layer",
        ),
    ],
)
def test_an_impossible_circuit_is_refused(circuit, dt_s, sentence):
    with pytest.raises(ValueError, match=sentence):
        model.check_circuit(circuit, dt_s=dt_s)


def relaxing(**settings):
    """One pyramidal layer of two units, which a source of one unit drives with weights 2 and -1."""
    driven = Projection("x", given([[2.0], [-1.0]]))
    neurons = Pyramidal("EC", 2, (driven,), (), basal_noise=0.0, apical_noise=0.0)
    return (Source("x", 1), neurons._replace(**settings))


def steps_of(circuit, *, num_steps, thetas, draws=None):
    """Activity of EC, step by step, driven by 1."""
    layer = circuit[-1]
    if draws is None:
        draws = np.zeros((num_steps, model.circuit.num_noises(layer), layer.size))

    def body(state, inputs):
        return model.advance(
            state,
            {"x": jnp.ones(1)},
            inputs[0],
            {"EC": inputs[1]},
            circuit=circuit,
            dt_s=DT_S,
            loss_from_step=0,
        )

    start = model.init_circuit(jax.random.key(0), circuit)
    return jax.lax.scan(body, start, (jnp.asarray(thetas), jnp.asarray(draws)))[1]["EC"]


def test_a_dendrite_relaxes_with_its_time_constant():
    """V_k = (1 - (1 - dt / T)^k) W x, here the rate of a linear dendrite; without T at once."""
    k = np.arange(1, 13)[:, None]
    slow = steps_of(relaxing(dendrite_time_s=0.1), num_steps=12, thetas=np.zeros(12))
    np.testing.assert_allclose(slow.basal, (1 - 0.75**k) * [[2.0, -1.0]], rtol=1e-12)
    np.testing.assert_allclose(slow.soma, slow.basal)
    fast = steps_of(relaxing(), num_steps=12, thetas=np.zeros(12))
    np.testing.assert_allclose(fast.basal, np.tile([[2.0, -1.0]], (12, 1)))
    with pytest.raises(ValueError, match="EC's dendrite_time_s must be at least dt_s"):
        model.circuit.check_circuit(relaxing(dendrite_time_s=0.01), dt_s=DT_S)
    with pytest.raises(ValueError, match="EC's soma_noise must not be negative"):
        model.circuit.check_circuit(relaxing(soma_noise=-1.0), dt_s=DT_S)


def test_noise_of_the_soma_is_that_of_its_own_process():
    """n += -n dt / 0.5 s + sigma sqrt(2 dt / 0.5 s) xi, in NumPy; the dendrites have none."""
    num_steps, sigma, kappa = 40, 0.2, DT_S / 0.5
    draws = np.random.default_rng(0).normal(size=(num_steps, 3, 2))
    noisy = steps_of(
        relaxing(soma_noise=sigma), num_steps=num_steps, thetas=np.zeros(num_steps), draws=draws
    )
    noise, expected = np.zeros(2), []
    for xi in draws[:, 2]:
        noise = (1 - kappa) * noise + sigma * np.sqrt(2 * kappa) * xi
        expected.append(np.array([2.0, -1.0]) + noise)
    np.testing.assert_allclose(noisy.soma, expected, rtol=1e-12)
    np.testing.assert_allclose(noisy.basal, np.tile([[2.0, -1.0]], (num_steps, 1)))
