"""The autoencoder: a Helmholtz machine that infers latents from their mixture.

Figures 1, 2 and S1 of George et al., NeurIPS 2023. Source: HelmholtzHippocampus `figs12.ipynb`.
Theta has the sign of the code: inference, the paper's wake with theta = 1, is theta = 0 here.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from hfjax import check, plasticity, theta
from hfjax.models.helmholtz.circuit import (
    Activity,
    Circuit,
    Feedforward,
    Projection,
    Pyramidal,
    Source,
    check_layers,
    normal_weights,
)
from hfjax.models.helmholtz.figures import (
    autocorrelations,
    before_and_after,
    draw_modes,
    predictions,
)
from hfjax.models.helmholtz.machine import (
    ONE_MINUTE,
    Arrays,
    HelmholtzState,
    Machine,
    Modes,
    World,
    check_duration,
    check_modes,
    init_machine,
    learn_block,
    loss_metrics,
    make_machine,
    mode_metrics,
    modes_readout,
    run_modes,
    shown,
    simulated_minutes,
)
from hfjax.task import HostReadout, Metric, Readout, Scalars, Task, logged, no_batch

# --- The latents ---


def gaussian_process_coefficients(
    *, time_scale_s: float, dt_s: float, jitter: float = 1e-5
) -> tuple[np.ndarray, float]:
    """Weights [past] and standard deviation of the next value of a process, given its past.

    With C the RBF kernel exp(-tau^2 / 2 T^2) over 3 T at steps of dt, plus jitter on its diagonal,
    C_N its block for the past and k its last column: weights k C_N^-1, variance kappa - k C_N^-1 k.
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
    """num_steps of the process at once: X = M past + R xi, xi ~ N(0, 1).

    The recursion is linear, so a run over a block is two matrices, M [time, past] and R [time,
    draw], computed here in float64 by running the recursion on unit vectors. For the same draws
    the values equal those of sampling one after the other.
    """
    a, std = gaussian_process_coefficients(time_scale_s=time_scale_s, dt_s=dt_s)
    values = np.zeros((len(a) + num_steps, len(a) + num_steps))  # [value, past value or draw]
    values[: len(a), : len(a)] = np.eye(len(a))
    for i in range(num_steps):
        values[len(a) + i] = a @ values[i : i + len(a)]
        values[len(a) + i, len(a) + i] += std
    block = values[len(a) :]
    return block[:, : len(a)], block[:, len(a) :]


def latents(*, num_latents: int, time_scale_s: float | tuple[float, ...], dt_s: float) -> World:
    """Independent Gaussian processes as the rates of the source layer "latents".

    time_scale_s: of all processes, or one of each. The state of the world is the past of each
    process [past, latent], zeros at the start, as published. Its other array is "latents" [time,
    latent].
    Raises ValueError where there are not as many time scales as latents.
    """
    scales = np.atleast_1d(np.asarray(time_scale_s, float))
    if len(scales) not in (1, num_latents):
        raise ValueError(
            f"time_scale_s must be one number or num_latents ({num_latents}), but has {len(scales)}"
        )
    lengths = [
        len(gaussian_process_coefficients(time_scale_s=float(scale), dt_s=dt_s)[0])
        for scale in scales
    ]
    num_past = max(lengths)

    def start(key: jax.Array) -> jax.Array:
        del key
        return jnp.zeros((num_past, num_latents))

    def block(past: jax.Array, key: jax.Array, num_steps: int) -> tuple[jax.Array, Arrays, Arrays]:
        xi = jax.random.normal(key, (num_steps, num_latents))
        columns = []
        for group, (scale, length) in enumerate(zip(scales, lengths, strict=True)):
            of = slice(None) if len(scales) == 1 else slice(group, group + 1)
            M, R = gaussian_process_block(time_scale_s=float(scale), dt_s=dt_s, num_steps=num_steps)
            recent = past[num_past - length :, of]
            columns.append(
                jnp.asarray(M, past.dtype) @ recent + jnp.asarray(R, past.dtype) @ xi[:, of]
            )
        x = jnp.concatenate(columns, axis=1)
        past = jnp.concatenate([past, x])[-num_past:]
        return past, {"latents": x}, {"latents": x}

    return World(start, block)


# --- The circuit ---


def autoencoder_circuit(
    *,
    num_latents: int = 5,
    num_features: int = 50,
    learning_rate: float = 1e-3,
    trace_time_s: float = 0.1,
    recurrent_l2: float = 0.005,
    recurrent_scale: float = 0.1,
    apical_noise: float = 0.05,
    soma_noise: float = 0.0,
    dendrite_time_s: float | None = None,
    hpc_gate: theta.Gate | None = None,
    ec_gate: theta.Gate | None = None,
    rule: plasticity.Rule = plasticity.dendritic_prediction,
) -> Circuit:
    """Latents, features (their mixture), HPC (a copy of the features) and EC (a compression).

    num_latents      latents, and units of EC.
    num_features     features, and units of HPC.
    learning_rate    learning rate of all learned weights, for each time step.
    trace_time_s     time constant of the plasticity traces (s).
    recurrent_l2     L2 penalty on the weights of EC onto itself.
    recurrent_scale  factor of the initial weights of EC onto itself.
    apical_noise     standard deviation of the noise in EC's apical dendrites.
    soma_noise       standard deviation of the noise in the somata of HPC and EC.
    dendrite_time_s  time constant of all dendrites (s); None for none.
    hpc_gate         theta of HPC as a function of time; None for that of the task.
    ec_gate          theta of EC as a function of time; None for that of the task.
    rule             plasticity of the learned weights, as `plasticity.dendritic_prediction`.

    EC's apical noise starts the activity in generation. The other dendrites have 0.01.
    Source: HelmholtzHippocampus `figs12.ipynb`.
    """
    learned = partial(Projection, learning_rate=learning_rate, trace_time_s=trace_time_s, rule=rule)
    recurrent = learned(
        "EC", weights=partial(normal_weights, scale=recurrent_scale), l2=recurrent_l2
    )
    copied = Projection("features", weights=None)
    neurons = partial(Pyramidal, soma_noise=soma_noise, dendrite_time_s=dendrite_time_s)
    return (
        Source("latents", num_latents),
        Feedforward("features", num_features, (Projection("latents"),)),
        neurons("HPC", num_features, basal=(copied,), apical=(learned("EC"),), gate=hpc_gate),
        neurons(
            "EC",
            num_latents,
            basal=(learned("HPC"),),
            apical=(recurrent,),
            apical_noise=apical_noise,
            gate=ec_gate,
        ),
    )


# --- The task ---


def task(
    *,
    circuit: Circuit | None = None,
    num_latents: int = 5,
    time_scale_s: float | tuple[float, ...] = 1.0,
    gate: theta.Gate = theta.square,
    dt_s: float = 0.025,
    block_s: float = 10.0,
    modes: Modes = ONE_MINUTE,
    correlate_s: float = 50.0,
    max_lag_s: float = 4.0,
    loss_from_s: float = 0.4,
) -> Task:
    """The autoencoder of figures 1, 2 and S1: it sees a mixture of latents and recovers them.

    circuit       the layers; None for `autoencoder_circuit` of num_latents.
    num_latents   latents, as many as the circuit's source layer has units.
    time_scale_s  time scale of the latents, which are Gaussian processes (s); or one of each.
    gate          theta as a function of time while learning, in layers without one of their own; 1
                  for generation.
    dt_s          duration of a time step (s).
    block_s       simulated time of a training step (s).
    modes         how inference, generation and their alternation are evaluated.
    correlate_s   last part of generation, of which EC's autocorrelation is taken (s).
    max_lag_s     largest lag of the autocorrelation (s).
    loss_from_s   time at which the low-pass filter on the losses starts (s).

    A circuit has a source layer "latents", pyramidal layers HPC and EC, and any others.

    Step scalars: HPC_loss and EC_loss, mean |r_b - r_a| low-passed over 60 s, at the end of the
    block. Evaluation, with frozen weights: see `run_modes`; autocorrelation_distance is the mean
    over lags of the difference between latents and generated EC activity.

    Raises ValueError for impossible numbers and circuits.
    """
    layers = autoencoder_circuit(num_latents=num_latents) if circuit is None else circuit
    check_modes(modes, dt_s=dt_s)
    check_duration(dt_s=dt_s, block_s=block_s, correlate_s=correlate_s, max_lag_s=max_lag_s)
    _check_sources(layers, num_latents)
    world = latents(num_latents=num_latents, time_scale_s=time_scale_s, dt_s=dt_s)
    machine = make_machine(layers, world, gate=gate, dt_s=dt_s, loss_from_s=loss_from_s)
    lags = Lags(machine.steps(correlate_s), machine.steps(max_lag_s))
    if lags.num_steps > machine.steps(modes.mode_s):
        raise ValueError(
            f"correlate_s must be at most modes.mode_s ({modes.mode_s}), but is {correlate_s}"
        )
    if lags.num_lags >= lags.num_steps:
        raise ValueError(f"max_lag_s must be below correlate_s ({correlate_s}), but is {max_lag_s}")
    return Task(
        init=partial(init_machine, machine=machine),
        sample=no_batch,
        step=partial(learn_block, machine=machine, num_steps=machine.steps(block_s)),
        evaluate=partial(evaluate, machine=machine, modes=modes, lags=lags),
        figures=draw,
        metrics=logged(
            step=loss_metrics(layers),
            evaluation={
                "autocorrelation_distance": DISTANCE,
                **mode_metrics(layers),
                **untrained_metrics(layers),
            },
        ),
        axis=simulated_minutes(block_s),
    )


def _check_sources(circuit: Circuit, num_latents: int) -> None:
    check_layers(circuit)
    sizes = {layer.name: layer.size for layer in circuit if isinstance(layer, Source)}
    if sizes != {"latents": num_latents}:
        raise ValueError(
            f"the circuit must have one source layer, 'latents', of num_latents ({num_latents}) "
            f"units, but has {sizes}"
        )


# --- Evaluation ---


DISTANCE = Metric(
    "autocorrelation distance",
    split="frozen",
    better="lower",
    panel="Autocorrelation: generated EC against latents",
    measure="mean absolute difference",
)


class Lags(NamedTuple):
    """The autocorrelation of the last num_steps, at num_lags lags."""

    num_steps: int
    num_lags: int


def evaluate(
    state: HelmholtzState, data: Any, key: jax.Array, *, machine: Machine, modes: Modes, lags: Lags
) -> tuple[Scalars, Readout]:
    """The modes, before and after learning, and the autocorrelation of latents and generated EC.

    "Before learning" is a new circuit that has not learned. Its losses of the modes are controls:
    scalars untrained_MODE_LAYER_loss.
    Readout: what `modes_readout` returns, with MODE/latents [time, unit], and the same after
    untrained/; autocorrelation/latents, autocorrelation/EC and autocorrelation/EC_untrained [lag,
    unit], the last two of generated activity.
    """
    del data

    def some_and_ec(activity: Activity) -> tuple[Arrays, jax.Array]:
        return shown(activity, num_shown=modes.num_shown), activity["EC"].soma

    def run(of: tuple[HelmholtzState, jax.Array]) -> tuple[Scalars, dict[str, Any]]:
        return run_modes(machine, *of, modes=modes, record=some_and_ec)

    circuit_key, run_key = jax.random.split(jax.random.fold_in(key, 1))
    untrained = init_machine(circuit_key, (), machine=machine)
    both = jax.tree.map(lambda *of: jnp.stack(of), (state, key), (untrained, run_key))
    # One after the other, as one program.
    (scalars, recorded), (control, recorded_control) = (
        jax.tree.map(lambda x, i=i: x[i], jax.lax.map(run, both)) for i in range(2)
    )
    scalars |= {f"untrained_{name}": v for name, v in control.items() if name.endswith("_loss")}

    of_latents, of_ec = (
        autocorrelation(x[-lags.num_steps :], num_lags=lags.num_lags)
        for x in (recorded["generation"][1]["latents"], recorded["generation"][0][1])
    )
    scalars["autocorrelation_distance"] = jnp.mean(
        jnp.abs(jnp.mean(of_latents, axis=1) - jnp.mean(of_ec, axis=1))
    )
    generated = recorded_control["generation"][0][1]
    before = _rates(recorded_control, machine, untrained, modes)
    return scalars, {
        **_rates(recorded, machine, state, modes),
        **{f"untrained/{name}": values for name, values in before.items()},
        "autocorrelation/latents": of_latents,
        "autocorrelation/EC": of_ec,
        "autocorrelation/EC_untrained": autocorrelation(
            generated[-lags.num_steps :], num_lags=lags.num_lags
        ),
    }


def _rates(
    recorded: dict[str, Any], machine: Machine, state: HelmholtzState, modes: Modes
) -> Readout:
    """`modes_readout` of what `evaluate` records, with the latents."""
    traces = {
        mode: {**some, "latents": others["latents"][:, : modes.num_shown]}
        for mode, ((some, _), others) in recorded.items()
    }
    return modes_readout(traces, machine=machine, state=state, modes=modes)


def untrained_metrics(circuit: Circuit) -> dict[str, Metric]:
    """What the losses of a circuit before learning mean: controls."""
    return {
        f"untrained_{name}": Metric(f"{metric.label}, before learning", role="control", of=name)
        for name, metric in mode_metrics(circuit).items()
        if name.endswith("_loss")
    }


def autocorrelation(x: jax.Array, *, num_lags: int) -> jax.Array:
    """Correlation of the activity of each unit with itself, at lags 0, 1, ... num_lags - 1 steps.

    Pearson's r between x[lag:] and x[:-lag], each with its own mean removed.
    x [time, unit] -> [lag, unit]. Raises ValueError unless 1 <= num_lags < time.
    Source: HelmholtzHippocampus `autocorrelations`.
    """
    num_steps = x.shape[0]
    if not 1 <= num_lags < num_steps:
        raise ValueError(
            f"num_lags must be between 1 and {num_steps - 1} (steps less one), but is {num_lags}"
        )

    def at_lag(lag: jax.Array) -> jax.Array:
        later = jnp.roll(x, -lag, axis=0)  # x[lag:]; the part that wraps around is masked
        inside = (jnp.arange(num_steps) < num_steps - lag)[:, None]
        count = num_steps - lag
        a, b = (
            jnp.where(inside, y - jnp.sum(y * inside, axis=0, keepdims=True) / count, 0)
            for y in (later, x)
        )
        scale = jnp.sqrt(jnp.sum(a**2, axis=0) * jnp.sum(b**2, axis=0))
        return jnp.sum(a * b, axis=0) / jnp.maximum(scale, jnp.finfo(x.dtype).tiny)

    return jax.lax.map(at_lag, jnp.arange(num_lags))


def draw(readout: HostReadout) -> dict[str, Figure]:
    """Rates in each mode (figures 1 and 2), before beside after learning (S1), the prediction over
    the stimulus and the autocorrelations (2c, 2d)."""
    drawn = draw_modes(readout, below=("latents",))
    drawn["before_and_after"] = before_and_after(readout)
    drawn["prediction"] = predictions(
        readout["inference/HPC/basal"],
        readout["inference/HPC/apical"],
        dt_s=float(readout["dt_s"]),
        title="Inference after learning (theta = 0; 1 in the paper): what HPC gets through its\n"
        "basal dendrites, and what its apical dendrites predict from EC",
    )
    drawn["autocorrelation"] = autocorrelations(
        {
            "latents: the truth": readout["autocorrelation/latents"],
            "EC, generated after learning": readout["autocorrelation/EC"],
            "EC, generated before learning": readout["autocorrelation/EC_untrained"],
        },
        dt_s=float(readout["dt_s"]),
        title="Autocorrelation of the latents, and of the activity\n"
        "that EC generates in sleep (theta = 1; 0 in the paper)",
    )
    return drawn
