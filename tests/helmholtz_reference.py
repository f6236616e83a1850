"""Two small circuits, and the equations of the paper once more, in plain NumPy, without hfjax."""

import jax.numpy as jnp
import numpy as np

from hfjax.models.helmholtz import Feedforward, Projection, Pyramidal, Source
from hfjax.models.helmholtz import path_integration as path

DT_S, NUM_STEPS = 0.025, 200


def wave(shape, scale, phase):
    """Fixed numbers that look irregular: scale sin(1.7 i + phase)."""
    return scale * np.sin(1.7 * np.arange(np.prod(shape)) + phase).reshape(shape)


def given(values):
    """Initial weights that are these numbers."""
    return lambda key, num_post, num_pre: jnp.asarray(values)


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
