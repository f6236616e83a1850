"""The Helmholtz machine against a float64 reference, the original's figures, and by its modes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

from hfjax import networks, plasticity, theta
from hfjax.models import helmholtz as model
from hfjax.models.helmholtz import Feedforward, Projection, Pyramidal, Source
from hfjax.models.helmholtz import path_integration as path

DT_S, NUM_STEPS = 0.025, 200


def wave(shape, scale, phase):
    """Fixed numbers that look irregular: scale sin(1.7 i + phase)."""
    return scale * np.sin(1.7 * np.arange(np.prod(shape)) + phase).reshape(shape)


def given(values):
    """Initial weights that are these numbers."""
    return lambda key, num_post, num_pre: jnp.asarray(values)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


AUTOENCODER_WEIGHTS = {
    "features/in/latents": wave((6, 3), 1.0, 0.3),
    "HPC/apical/EC": wave((6, 3), 0.5, 1.0),
    "EC/basal/HPC": wave((3, 6), 0.5, 2.0),
    "EC/apical/EC": wave((3, 3), 0.3, 0.5),
}
LATENTS = np.stack([np.sin(0.03 * (i + 1) * np.arange(NUM_STEPS) + i) for i in range(3)], 1)


def small_autoencoder(noise=0.0):
    """Three latents, six features, eta 0.01, L1 and L2 on EC's recurrent weights."""

    def learned(source, weights, **penalties):
        return Projection(source, given(weights), learning_rate=0.01, **penalties)

    w = AUTOENCODER_WEIGHTS
    return (
        Source("latents", 3),
        Feedforward("features", 6, (Projection("latents", given(w["features/in/latents"])),)),
        Pyramidal(
            "HPC",
            6,
            basal=(Projection("features", None),),
            apical=(learned("EC", w["HPC/apical/EC"]),),
            basal_noise=noise,
            apical_noise=noise,
        ),
        Pyramidal(
            "EC",
            3,
            basal=(learned("HPC", w["EC/basal/HPC"]),),
            apical=(learned("EC", w["EC/apical/EC"], l1=0.002, l2=0.005),),
            basal_noise=noise,
            apical_noise=2 * noise,
        ),
    )


RING_WEIGHTS = {
    "HPC/apical/EC": wave((8, 8), 0.5, 1.0),
    "EC/basal/HPC": wave((8, 8), 0.5, 2.0),
    "EC/apical/EC": wave((8, 8), 0.3, 0.5),
    "EC/apical/CVC": wave((8, 16), 0.3, 0.7),
}


def small_ring(noise=0.0):
    """`path_integrator` with 8 cells and these weights."""

    def with_weights(name, projections):
        return tuple(
            p._replace(weights=given(RING_WEIGHTS[f"{name}/{p.source}"]))
            if f"{name}/{p.source}" in RING_WEIGHTS
            else p
            for p in projections
        )

    return tuple(
        layer._replace(
            basal=with_weights(f"{layer.name}/basal", layer.basal),
            apical=with_weights(f"{layer.name}/apical", layer.apical),
        )
        if isinstance(layer, Pyramidal)
        else layer
        for layer in path.path_integrator(num_place=8, noise=noise)
    )


def ring_sources():
    """Place cells of width 0.1 at 8 places along a fixed path, and two velocity cells."""
    step = np.arange(NUM_STEPS)
    x, v = np.cumsum(0.01 * np.sin(0.05 * step)), 1.5 * np.sin(0.05 * step)
    away = np.abs(np.mod(x[:, None] - np.arange(8) / 8 + 0.5, 1) - 0.5)
    features = np.exp(-(away**2) / (2 * 0.1**2))
    return {"features": features, "VC": np.stack([np.maximum(v, 0), np.maximum(-v, 0)], 1)}


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


# References: the equations of the paper once more, in plain NumPy, without hfjax ----------------


class Dendrite:
    """One dendrite of the reference: inputs {name: weights}, biases for some of them."""

    def __init__(self, weights, sigma, retanh=False, biases=(), l1=0.0, l2=0.0):
        self.weights = {name: w.copy() for name, w in weights.items()}
        self.bias = {name: np.zeros(len(w)) for name, w in weights.items() if name in biases}
        self.trace = {name: np.zeros_like(w) for name, w in weights.items()}
        self.bias_trace = {name: np.zeros_like(b) for name, b in self.bias.items()}
        self.noise, self.sigma, self.retanh, self.l1, self.l2 = 0.0, sigma, retanh, l1, l2

    def rate(self, inputs, xi):
        self.inputs = inputs
        V = sum(w @ inputs[name] + self.bias.get(name, 0.0) for name, w in self.weights.items())
        f = np.maximum(np.tanh(V), 0) if self.retanh else V
        self.slope = (1 - np.tanh(V) ** 2) * (V > 0) if self.retanh else np.ones_like(V)
        self.noise = (
            self.noise - self.noise * DT_S / 0.3 + np.sqrt(2 * self.sigma**2 * DT_S / 0.3) * xi
        )
        self.r = f + self.noise
        return self.r

    def learn(self, soma, eta=0.01, tau=0.1):
        delta = (soma - self.r) * self.slope
        k = DT_S / tau
        for name, w in self.weights.items():
            self.trace[name] = (1 - k) * self.trace[name] + k * np.outer(delta, self.inputs[name])
            self.weights[name] = w + eta * (self.trace[name] - self.l2 * w - self.l1 * np.sign(w))
            if name in self.bias:
                self.bias_trace[name] = (1 - k) * self.bias_trace[name] + k * delta
                self.bias[name] = self.bias[name] + eta * self.bias_trace[name]


def gate_at(step):
    return 1.0 if (step + 1) % 8 < 4 else 0.0  # 5 Hz at 25 ms; the first step is at 25 ms


def filtered(loss, now, step):
    return now if step <= 15 else (1 - DT_S / 60) * loss + DT_S / 60 * now


def reference_autoencoder(noise, draws, latents=LATENTS, first_step=0):
    w = AUTOENCODER_WEIGHTS
    hpc = Dendrite({"EC": w["HPC/apical/EC"]}, noise)
    ec_b = Dendrite({"HPC": w["EC/basal/HPC"]}, noise)
    ec_a = Dendrite({"EC": w["EC/apical/EC"]}, 2 * noise, l1=0.002, l2=0.005)
    hpc_noise, ec = np.zeros(6), np.zeros(3)
    loss_h, loss_e, somata = 0.0, 0.0, []
    for t in range(len(latents)):
        th = gate_at(t + first_step)
        hpc_noise = hpc_noise - hpc_noise * DT_S / 0.3
        hpc_noise = hpc_noise + np.sqrt(2 * noise**2 * DT_S / 0.3) * draws["HPC"][t, 0]
        h_b = w["features/in/latents"] @ latents[t] + hpc_noise
        h_a = hpc.rate({"EC": ec}, draws["HPC"][t, 1])
        h = (1 - th) * h_b + th * h_a
        hpc.learn(h)
        e_b = ec_b.rate({"HPC": h}, draws["EC"][t, 0])
        e_a = ec_a.rate({"EC": ec}, draws["EC"][t, 1])
        ec = (1 - th) * e_b + th * e_a
        ec_b.learn(ec)
        ec_a.learn(ec)
        loss_h = filtered(loss_h, np.mean(np.abs(h_b - h_a)), t)
        loss_e = filtered(loss_e, np.mean(np.abs(e_b - e_a)), t)
        somata.append(ec)
    weights = {
        "HPC/apical/EC": hpc.weights["EC"],
        "EC/basal/HPC": ec_b.weights["HPC"],
        "EC/apical/EC": ec_a.weights["EC"],
    }
    return weights, {}, {"HPC": loss_h, "EC": loss_e}, {"HPC": h, "EC": ec}, somata


def reference_ring(noise, draws):
    w, sources = RING_WEIGHTS, ring_sources()
    hpc = Dendrite({"EC": w["HPC/apical/EC"]}, noise, biases=("EC",))
    ec_b = Dendrite({"HPC": w["EC/basal/HPC"]}, noise, retanh=True, biases=("HPC",))
    recurrent = {"EC": w["EC/apical/EC"], "CVC": w["EC/apical/CVC"]}
    ec_a = Dendrite(recurrent, noise, retanh=True)
    hpc_noise, ec, cvc, vc = np.zeros(8), np.zeros(8), np.zeros(16), np.zeros(2)
    loss_h = loss_e = 0.0
    for t in range(NUM_STEPS):
        th = gate_at(t)
        hpc_noise = hpc_noise - hpc_noise * DT_S / 0.3
        hpc_noise = hpc_noise + np.sqrt(2 * noise**2 * DT_S / 0.3) * draws["HPC"][t, 0]
        h_b = sources["features"][t] + hpc_noise
        h_a = hpc.rate({"EC": ec}, draws["HPC"][t, 1])
        h = (1 - th) * h_b + th * h_a
        hpc.learn(h)
        e_b = ec_b.rate({"HPC": h}, draws["EC"][t, 0])
        e_a = ec_a.rate({"EC": ec, "CVC": cvc}, draws["EC"][t, 1])
        ec = (1 - th) * e_b + th * e_a
        ec_b.learn(ec)
        ec_a.learn(ec)
        drive = np.concatenate([np.full(8, vc[0] - vc[1]), np.full(8, vc[1] - vc[0])])
        cvc = np.maximum(drive + np.concatenate([ec, ec]) - 1, 0)
        vc = sources["VC"][t]
        loss_h = filtered(loss_h, np.mean(np.abs(h_b - h_a)), t)
        loss_e = filtered(loss_e, np.mean(np.abs(e_b - e_a)), t)
    weights = {
        "HPC/apical/EC": hpc.weights["EC"],
        "EC/basal/HPC": ec_b.weights["HPC"],
        "EC/apical/EC": ec_a.weights["EC"],
        "EC/apical/CVC": ec_a.weights["CVC"],
    }
    biases = {"HPC/apical/EC": hpc.bias["EC"], "EC/basal/HPC": ec_b.bias["HPC"]}
    return weights, biases, {"HPC": loss_h, "EC": loss_e}, {"HPC": h, "EC": ec}


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
    for name, (total, squares, one) in original.items():
        weights, bias = state.synapses[name]
        bias = np.zeros(1) if bias is None else bias
        found = weights.sum() + bias.sum(), (weights**2).sum() + (bias**2).sum(), weights[1, 2]
        np.testing.assert_allclose(np.array(found), (total, squares, one), rtol=1e-9)
    for name, loss, soma in zip(("HPC", "EC"), losses, somata, strict=True):
        assert float(state.losses[name]) == pytest.approx(loss, rel=1e-9)
        assert float(state.rates[name].sum()) == pytest.approx(soma, rel=1e-9)


# The pieces ------------------------------------------------------------------------------------


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
    found = networks.with_slope(f, jnp.asarray([x]))
    np.testing.assert_allclose(np.array(found)[:, 0], (rate, slope), rtol=1e-9, atol=1e-12)


def test_a_block_of_latents_equals_sampling_one_value_after_the_other():
    settings = {"time_scale_s": 0.5, "dt_s": DT_S}
    a, std = model.gaussian_process_coefficients(**settings)
    M, R = model.gaussian_process_block(**settings, num_steps=80)
    rng = np.random.default_rng(0)
    xi, values = rng.normal(size=80), list(rng.normal(size=len(a)))
    past = np.array(values)
    for draw in xi:
        values.append(a @ values[-len(a) :] + std * draw)
    np.testing.assert_allclose(M @ past + R @ xi, values[len(a) :], atol=1e-9)


def test_latents_have_the_covariance_of_their_kernel():
    # The recursion forgets what is more than three time scales ago, which adds some 10 % of
    # variance (1.07 of standard deviation, found by running the original's sampler).
    world = model.latents(num_latents=2000, time_scale_s=0.5, dt_s=DT_S)
    block = jax.jit(world.block, static_argnums=2)
    past, _, _ = block(world.start(jax.random.key(0)), jax.random.key(1), 400)
    _, sources, others = block(past, jax.random.key(2), 40)
    x = np.asarray(sources["latents"])
    np.testing.assert_array_equal(x, others["latents"])
    lag = np.arange(40) * DT_S
    correlation = [np.mean(x[0] * x[i]) / np.mean(x[0] ** 2) for i in range(40)]
    # 2000 samples: a standard error of at most 0.03, and the forgetting.
    np.testing.assert_allclose(correlation, np.exp(-(lag**2) / (2 * 0.5**2)), atol=0.1)
    assert np.std(x) == pytest.approx(1.07, abs=0.05)


def test_autocorrelation_equals_numpys():
    x = np.random.default_rng(0).normal(size=(50, 3)).cumsum(axis=0)
    found = model.autocorrelation(jnp.asarray(x), num_lags=20)
    for lag in (0, 1, 19):
        expected = [np.corrcoef(x[lag:, i], x[: 50 - lag, i])[0, 1] for i in range(3)]
        np.testing.assert_allclose(found[lag], expected, atol=1e-9)


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
    end, recorded, others = jax.jit(
        lambda state, key: model.simulate(
            state,
            key,
            circuit=layers,
            world=model.World(lambda key: None, block),
            thetas=thetas,
            num_steps=num_steps,
            dt_s=DT_S,
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
    _, recorded, _ = model.simulate(
        state,
        jax.random.key(1),
        circuit=layers,
        world=world,
        thetas=np.zeros(1),
        num_steps=1600,
        dt_s=DT_S,
        record=lambda activity: activity,
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


# Bad input -------------------------------------------------------------------------------------


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
        ((*ec(), *ec()), DT_S, "a name of its own"),
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


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"gate": functools.partial(theta.square, fraction=1.5)}, "between 0 and 1, but is 1.5"),
        ({"circuit": small_autoencoder()}, r"num_latents \(5\) units, but has {'latents': 3}"),
        ({"correlate_s": 100.0}, "correlate_s must be at most mode_s"),
        ({"max_lag_s": 50.0}, "max_lag_s must be below correlate_s"),
        ({"block_s": 0.0}, r"block_s must be at least dt_s \(0.025\), but is 0.0"),
        ({"circuit": (Source("latents", 5),)}, "needs a pyramidal layer 'HPC', but has"),
        ({"time_scale_s": float("nan")}, "time_scale_s must be at least dt_s"),
        ({"time_scale_s": 0.01}, "time_scale_s must be at least dt_s"),
        ({"num_shown": 0}, "num_shown must be at least 1"),
    ],
)
def test_an_impossible_task_is_refused(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        model.task(**settings)


# The task --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_thirty_minutes_of_learning_match_the_published_losses():
    # Published, one seed: HPC .217 and EC .067 after learning, .735 and .501 before in inference.
    with jax.enable_x64(False):
        task = model.task()
        keys = jax.random.split(jax.random.key(0), 8)
        state = jax.jit(jax.vmap(task.init, (0, None)))(keys, ())
        train = jax.jit(lambda s, k: jax.lax.scan(lambda s, k: task.step(s, (), k), s, k))
        evaluate = jax.jit(jax.vmap(task.evaluate, (0, None, 0)))
        before, _ = evaluate(state, (), keys)
        state, scalars = jax.vmap(train)(state, jax.vmap(lambda k: jax.random.split(k, 180))(keys))
        after, readout = evaluate(state, (), keys)
    # Medians of 64 seeds lie at .26 and .065, quartiles at .21 and .30, .064 and .067.
    assert 0.18 < np.median(scalars["HPC_loss"][:, -1]) < 0.33
    assert 0.06 < np.median(scalars["EC_loss"][:, -1]) < 0.072
    for name in ("inference_HPC_loss", "inference_EC_loss", "alternating_HPC_loss"):
        assert np.median(after[name]) < np.median(before[name]) / 2, name
    # Generated activity takes on the time scale of the latents, in most seeds.
    assert np.median(after["autocorrelation_distance"]) < np.median(
        before["autocorrelation_distance"]
    )
    figures = model.draw(jax.tree.map(lambda x: np.asarray(x[0]), readout))
    assert set(figures) == {*(f"rates_{mode}" for mode in model.MODES), "autocorrelation"}
    assert all(isinstance(figure, Figure) for figure in figures.values())


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
