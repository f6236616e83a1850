"""The autoencoder: a Helmholtz machine that infers latents from their mixture.

Figures 1, 2 and S1 of George et al., NeurIPS 2023.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from hfjax import check, plasticity, theta
from hfjax.models.helmholtz.circuit import (
    Circuit,
    Feedforward,
    Projection,
    Pyramidal,
    Source,
    check_layers,
    normal_weights,
)
from hfjax.models.helmholtz.figures import autocorrelations, draw_modes
from hfjax.models.helmholtz.machine import (
    HelmholtzState,
    World,
    check_duration,
    machine,
    run_modes,
    shown,
    steps_in,
)
from hfjax.task import HostReadout, Readout, Scalars, Task


def gaussian_process_coefficients(
    *, time_scale_s: float, dt_s: float, jitter: float = 1e-5
) -> tuple[np.ndarray, float]:
    """Mean weights [past] and standard deviation of a process' next value, given its past.

    With C the RBF kernel exp(-tau^2 / 2 T^2) over 3 T at steps of dt, plus jitter on its diagonal,
    C_N its part for the past and k its last column: weights k C_N^-1, variance kappa - k C_N^-1 k.
    The first weight belongs to the oldest value.
    Raises ValueError where time_scale_s is below dt_s, or jitter is not positive.
    Source: MacKay 2003, eqs 45.42 and 45.43; HelmholtzHippocampus `GaussianProcessSampler`.
    """
    check.positive(dt_s=dt_s, jitter=jitter)
    if not time_scale_s >= dt_s:
        raise ValueError(f"time_scale_s must be at least dt_s ({dt_s}), but is {time_scale_s}")
    t = np.arange(round(3 * time_scale_s / dt_s)) * dt_s
    C = np.exp(-((t[:, None] - t[None]) ** 2) / (2 * time_scale_s**2)) + jitter * np.eye(len(t))
    k = C[:-1, -1]
    weights = np.linalg.solve(C[:-1, :-1], k)
    return weights, float(np.sqrt(C[-1, -1] - k @ weights))


def gaussian_process_block(
    *, time_scale_s: float, dt_s: float, num_steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """The process' recursion over num_steps at once: X = M past + R xi, xi ~ N(0, 1).

    The recursion is linear, so that its run over a block is two matrices, found here in float64 by
    running it: M [time, past] from each past value by itself, R [time, draw] from each draw.
    Equal, draw by draw, to sampling one value after the other.
    """
    a, std = gaussian_process_coefficients(time_scale_s=time_scale_s, dt_s=dt_s)
    values = np.zeros((len(a) + num_steps, len(a) + num_steps))  # [value, past value or draw]
    values[: len(a), : len(a)] = np.eye(len(a))
    for i in range(num_steps):
        values[len(a) + i] = a @ values[i : i + len(a)]
        values[len(a) + i, len(a) + i] += std
    block = values[len(a) :]
    return block[:, : len(a)], block[:, len(a) :]


def latents(*, num_latents: int, time_scale_s: float, dt_s: float) -> World:
    """Independent Gaussian processes as the rates of the source layer "latents".

    The world's state is the past of each process [past, latent], zeros at the start, as published.
    Its other array is "latents" [time, latent].
    """
    num_past = len(gaussian_process_coefficients(time_scale_s=time_scale_s, dt_s=dt_s)[0])

    def start(key: jax.Array) -> jax.Array:
        del key
        return jnp.zeros((num_past, num_latents))

    def block(past: jax.Array, key: jax.Array, num_steps: int):
        M, R = gaussian_process_block(time_scale_s=time_scale_s, dt_s=dt_s, num_steps=num_steps)
        xi = jax.random.normal(key, (num_steps, num_latents))
        x = jnp.asarray(M, past.dtype) @ past + jnp.asarray(R, past.dtype) @ xi
        past = jnp.concatenate([past, x])[-num_past:]
        return past, {"latents": x}, {"latents": x}

    return World(start, block)


def autoencoder_circuit(
    *,
    num_latents: int = 5,
    num_features: int = 50,
    learning_rate: float = 1e-3,
    trace_time_s: float = 0.1,
    recurrent_l2: float = 0.005,
    recurrent_scale: float = 0.1,
    apical_noise: float = 0.05,
    rule: Callable[..., jax.Array] = plasticity.dendritic_prediction,
) -> Circuit:
    """Latents, their mixture in the features, HPC that copies it, and EC that must compress it.

    apical_noise is EC's alone: it seeds activity in generation. The other dendrites have 0.01.
    Source: HelmholtzHippocampus `figs12.ipynb`.
    """
    learned: Callable[..., Projection] = partial(
        Projection, learning_rate=learning_rate, trace_time_s=trace_time_s, rule=rule
    )
    return (
        Source("latents", num_latents),
        Feedforward("features", num_features, (Projection("latents"),)),
        Pyramidal(
            "HPC",
            num_features,
            basal=(Projection("features", weights=None),),
            apical=(learned("EC"),),
        ),
        Pyramidal(
            "EC",
            num_latents,
            basal=(learned("HPC"),),
            apical=(
                learned(
                    "EC",
                    weights=partial(normal_weights, scale=recurrent_scale),
                    l2=recurrent_l2,
                ),
            ),
            apical_noise=apical_noise,
        ),
    )


def autocorrelation(x: jax.Array, *, num_lags: int) -> jax.Array:
    """Correlation of each unit's activity with itself, at lags 0, 1, ... num_lags - 1 steps.

    Pearson's r between x[lag:] and x[:-lag], each with the mean of its own stretch removed.
    x [time, unit] -> [lag, unit]. Raises ValueError unless 1 <= num_lags < time.
    Source: HelmholtzHippocampus `autocorrelations`.
    """
    num_steps = x.shape[0]
    if not 1 <= num_lags < num_steps:
        raise ValueError(
            f"num_lags must be between 1 and {num_steps - 1} (steps less one), but is {num_lags}"
        )

    def at(lag):
        here = jnp.roll(x, -lag, axis=0)  # x[lag:], then what wrapped round, which is masked
        inside = (jnp.arange(num_steps) < num_steps - lag)[:, None]
        count = num_steps - lag
        a, b = (
            jnp.where(inside, y - jnp.sum(y * inside, axis=0, keepdims=True) / count, 0)
            for y in (here, x)
        )
        scale = jnp.sqrt(jnp.sum(a**2, axis=0) * jnp.sum(b**2, axis=0))
        return jnp.sum(a * b, axis=0) / jnp.maximum(scale, jnp.finfo(x.dtype).tiny)

    return jax.lax.map(at, jnp.arange(num_lags))


def task(
    *,
    circuit: Circuit | None = None,
    num_latents: int = 5,
    time_scale_s: float = 1.0,
    gate: theta.Gate = theta.square,
    dt_s: float = 0.025,
    block_s: float = 10.0,
    mode_s: float = 60.0,
    between_s: float = 6.0,
    correlate_s: float = 50.0,
    max_lag_s: float = 4.0,
    num_shown: int = 5,
    loss_from_s: float = 0.4,
) -> Task:
    """The autoencoder of figures 1, 2 and S1: latents that it never sees, found in their mixture.

    circuit      the layers (default: `autoencoder_circuit`): a source layer "latents" of
                 num_latents units, pyramidal layers HPC and EC, and any others.
    time_scale_s of the latents, which are Gaussian processes.
    gate         theta as a function of time while learning.
    block_s      simulated time of one `step`.
    mode_s, between_s    duration of each mode in an evaluation, and of the resets before it.
    correlate_s, max_lag_s   the end of generation that is correlated with itself, up to this lag.
    num_shown    units of each layer whose rates go to the figures.
    loss_from_s  the low-pass filter on the losses starts here.

    Step scalars: HPC_loss and EC_loss, mean |r_b - r_a| low-passed over 60 s, at the end of the
    block. Evaluation: see `run_modes`, and autocorrelation_distance, the mean over lags of the
    difference between latents and generated EC activity. The weights are frozen throughout it.

    Raises ValueError for impossible numbers and circuits.
    """
    check_duration(
        dt_s=dt_s,
        mode_s=mode_s,
        between_s=between_s,
        correlate_s=correlate_s,
        max_lag_s=max_lag_s,
    )
    check.at_least(1, num_shown=num_shown)
    layers = autoencoder_circuit(num_latents=num_latents) if circuit is None else circuit
    check_layers(layers)
    sizes = {layer.name: layer.size for layer in layers if isinstance(layer, Source)}
    if sizes != {"latents": num_latents}:
        raise ValueError(
            f"the circuit must have one source layer, 'latents', of num_latents ({num_latents}) "
            f"units, but has {sizes}"
        )
    thetas = theta.tabulate(gate, dt_s=dt_s)
    world = latents(num_latents=num_latents, time_scale_s=time_scale_s, dt_s=dt_s)
    learner = machine(
        layers, world, thetas=thetas, dt_s=dt_s, block_s=block_s, loss_from_s=loss_from_s
    )
    num_mode, num_between, num_correlated, num_lags = (
        steps_in(duration_s, dt_s=dt_s)
        for duration_s in (mode_s, between_s, correlate_s, max_lag_s)
    )
    if num_correlated > num_mode:
        raise ValueError(f"correlate_s must be at most mode_s ({mode_s}), but is {correlate_s}")
    if num_lags >= num_correlated:
        raise ValueError(f"max_lag_s must be below correlate_s ({correlate_s}), but is {max_lag_s}")

    def evaluate(state: HelmholtzState, data: Any, key: jax.Array) -> tuple[Scalars, Readout]:
        del data
        scalars, recorded = run_modes(
            state,
            key,
            run=learner.run,
            circuit=layers,
            thetas=thetas,
            num_steps=num_mode,
            num_between=num_between,
            record=lambda activity: (shown(activity, num_shown), activity["EC"].soma),
        )
        readout = {"dt_s": jnp.asarray(dt_s)}
        for mode, ((some, _), others) in recorded.items():
            readout |= {f"{mode}/{name}": rates for name, rates in some.items()}
            readout[f"{mode}/latents"] = others["latents"][:, :num_shown]
        (_, generated), others = recorded["generation"]
        for name, x in (("latents", others["latents"]), ("EC", generated)):
            readout[f"autocorrelation/{name}"] = autocorrelation(
                x[-num_correlated:], num_lags=num_lags
            )
        scalars["autocorrelation_distance"] = jnp.mean(
            jnp.abs(
                jnp.mean(readout["autocorrelation/latents"], axis=1)
                - jnp.mean(readout["autocorrelation/EC"], axis=1)
            )
        )
        return scalars, readout

    return Task(learner.init, learner.sample, learner.step, evaluate, draw)


def draw(readout: HostReadout) -> dict[str, Figure]:
    """Rates in each mode (figures 1 and 2), and the autocorrelations of figure 2."""
    drawn = draw_modes(readout, below=("latents",))
    drawn["autocorrelation"] = autocorrelations(
        {
            "latents": readout["autocorrelation/latents"],
            "EC, generated": readout["autocorrelation/EC"],
        },
        dt_s=float(readout["dt_s"]),
    )
    return drawn
