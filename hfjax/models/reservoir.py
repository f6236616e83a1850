"""A reservoir that learns to tell the global signal: where the third factor could come from.

The three-factor rule of `biohsic` needs, beside local activity, a signal that depends on all
samples in working memory. Here a recurrent network with fixed random weights sees one sample after
the other, its past being its only memory, and its outputs learn, by a reward-modulated Hebbian rule
(RMHebb), to give that signal.

Source: Daruwalla & Lipasti 2024; `train-reservoir.py` and `reservoir.py` of biological-hsic; the
rule after Hoerzer, Legenstein & Maass 2014.
"""

from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from hfjax import check, figures, kernels, networks
from hfjax.models import biohsic
from hfjax.task import HostReadout, Readout, Scalars, Task, Whole

NUM_TRACED = 10  # windows whose outputs are kept for the figure


class Weights(NamedTuple):
    """Fixed weights, [to, from]: recurrent [unit, unit], inputs [unit, in], feedback [unit, out].

    The transpose of the layout elsewhere: one row-wise product with a vector takes two thirds of
    the time of a column-wise one.
    """

    recurrent: jax.Array
    inputs: jax.Array
    feedback: jax.Array


class Trace(NamedTuple):
    """outputs [window, time, out] and targets [window, out] of NUM_TRACED windows."""

    outputs: jax.Array
    targets: jax.Array


class State(NamedTuple):
    """What a checkpoint holds.

    readout W_o [out, unit]; u [unit]; z [sample, out], the activity that goes with each sample.
    steps: epochs done. errors [epoch, window]: squared error, normalised as in `task`, of every
    window so far. early, late: traces of the first windows, and of the last ones.
    """

    weights: Weights
    readout: jax.Array
    u: jax.Array
    z: jax.Array
    steps: jax.Array
    shuffle_seed: jax.Array
    errors: jax.Array
    early: Trace
    late: Trace


def init_weights(
    key: jax.Array, *, num_units: int, num_in: int, num_out: int, kept: float = 0.9
) -> Weights:
    """W_i, W_f uniform in [-1, 1]; W_r normal with variance 1 / ((1 - kept) num_units), times mask.

    `kept` is the probability with which a recurrent weight is not zero. As published: the original
    calls 1 - kept = 0.1 the sparsity, scales as if a tenth of the weights were there, and keeps
    nine tenths. Raises ValueError where kept is not above 0 and below 1.
    """
    if not 0 < kept < 1:
        raise ValueError(f"kept must be above 0 and below 1, but is {kept}")
    normal_key, mask_key, input_key, feedback_key = jax.random.split(key, 4)
    scale = ((1 - kept) * num_units) ** -0.5
    normal = scale * jax.random.normal(normal_key, (num_units, num_units))
    mask = jax.random.bernoulli(mask_key, kept, (num_units, num_units))
    return Weights(
        recurrent=jnp.where(mask, normal, 0.0),
        inputs=jax.random.uniform(input_key, (num_units, num_in), minval=-1, maxval=1),
        feedback=jax.random.uniform(feedback_key, (num_units, num_out), minval=-1, maxval=1),
    )


def advance(
    weights: Weights,
    readout: jax.Array,
    u: jax.Array,
    drive: jax.Array,
    noise: tuple[jax.Array | float, jax.Array | float],
    *,
    recurrent_gain: float,
    dt_s: float,
    tau_s: float,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """One time step: r = tanh(u) + noise, o = W_o r + noise,
    u += (dt/tau) (gain W_r r + W_i x + W_f o - u).

    u [unit], drive W_i x [unit], the same in all time steps of a window; noise of r and of o.
    -> u [unit], r [unit], o [out].
    """
    chex.assert_shape(readout, (None, u.shape[0]))
    r = jnp.tanh(u) + noise[0]
    o = readout @ r + noise[1]
    total = recurrent_gain * (weights.recurrent @ r) + drive + weights.feedback @ o
    return networks.leaky_step(u, total, dt_s=dt_s, tau_s=tau_s), r, o


def rmhebb(readout: jax.Array, r: jax.Array, o: jax.Array, target: jax.Array, *, rate: float):
    """W_o - rate (o - target) r^T: readout [out, unit], r [unit], o and target [out]."""
    return readout - rate * jnp.outer(o - target, r)


def task(
    *,
    num_units: int = 2000,
    num_out: int = 10,
    num_samples: int = 100,
    window: int = 10,
    time_steps: int = 20,
    gamma: float = 2.0,
    sigma: float = 0.5,
    recurrent_gain: float = 1.2,
    dt_s: float = 1e-3,
    tau_s: float = 5e-3,
    learning_rate: float = 5e-4,
    unit_noise: float = 0.0,
    output_noise: float = 0.0,
    num_epochs: int = 10,
    eval_windows: int = 20,
) -> Task:
    """Learning the global signal by RMHebb, as a Task; a step is an epoch.

    The samples are the first num_samples test images with their targets, and for each an activity
    z [num_out], uniform in [0, 1]. Windows slide by one over a shuffled epoch. In the time_steps
    time steps of a window the input is the newest x, y, z and the target is xi =
    `kernels.global_signal` of the window; W_o learns in every one, and u goes on from window to
    window. unit_noise, output_noise: half-widths of uniform noise, new in each time step.
    num_epochs: of how many epochs the state keeps the errors. `data` as in `biohsic.task`.

    The targets are of the order of 1e-4, so that errors are given in their units:
        error = mean over outputs, time and windows of (o - xi)^2, over the mean of xi^2;
    1 is that of an output that stays 0. step's scalars: error, while learning; last_step_error,
    the same of each window's last time step; signal_rms. Evaluation, over the first eval_windows
    windows in the order of the data set: frozen_error, without learning; replay_error, of a second
    run through each window, without learning, directly after it was learned, which is what the
    original reports. What is learned in evaluation is thrown away.
    Raises ValueError for a window below 2, a size below 1, gamma, sigma, times, gain or learning
    rate not positive, a dt above tau, negative noise, and data that do not fit.

    Source: biological-hsic, `create_rmhebb_step` and `train-reservoir.py`. Deviation: there every
    window is run a second time in training, to measure its error.
    """
    check.at_least(2, window=window)
    check.at_least(1, num_units=num_units, num_out=num_out, time_steps=time_steps)
    check.at_least(window + NUM_TRACED - 1, num_samples=num_samples)
    check.at_least(1, num_epochs=num_epochs, eval_windows=eval_windows)
    check.positive(
        gamma=gamma,
        sigma=sigma,
        recurrent_gain=recurrent_gain,
        dt_s=dt_s,
        tau_s=tau_s,
        learning_rate=learning_rate,
    )
    check.not_negative(unit_noise=unit_noise, output_noise=output_noise)
    if dt_s > tau_s:
        raise ValueError(f"dt_s must be at most tau_s ({tau_s}), but is {dt_s}")
    num_windows = num_samples - window + 1

    def samples_of(data: Any) -> biohsic.Samples:
        return biohsic.Samples(
            data["test_inputs"][:num_samples], data["test_targets"][:num_samples]
        )

    def init(key: jax.Array, data: Any) -> State:
        biohsic.check_data(data)
        x, y = samples_of(data)
        if len(x) < num_samples:
            raise ValueError(
                f"num_samples must be at most the {len(x)} test samples, but is {num_samples}"
            )
        weights_key, z_key, shuffle_key = jax.random.split(key, 3)
        num_in = int(np.prod(x.shape[1:])) + y.shape[1] + num_out
        empty = Trace(
            jnp.zeros((NUM_TRACED, time_steps, num_out)), jnp.zeros((NUM_TRACED, num_out))
        )
        return State(
            weights=init_weights(weights_key, num_units=num_units, num_in=num_in, num_out=num_out),
            readout=jnp.zeros((num_out, num_units)),
            u=jnp.zeros(num_units),
            z=jax.random.uniform(z_key, (num_samples, num_out)),
            steps=jnp.int32(0),
            shuffle_seed=jax.random.bits(shuffle_key, (), jnp.uint32),
            errors=jnp.zeros((num_epochs, num_windows)),
            early=empty,
            late=empty,
        )

    def sample(data: Any, key: jax.Array) -> Whole:
        del key
        return Whole(samples_of(data))

    def uniform(key: jax.Array, size: int, half: float) -> jax.Array | float:
        # Without noise none is drawn: 2000 numbers would take a tenth of the time step.
        return jax.random.uniform(key, (size,), minval=-half, maxval=half) if half else 0.0

    def epoch(
        state: State,
        batch: biohsic.Samples,
        order: jax.Array,
        key: jax.Array,
        *,
        rate: float,
        count: int = num_windows,
        replay_steps: int = 0,
    ):
        """The first `count` windows of an epoch, one after the other.

        -> readout, u, outputs [window, time, out], targets [window, out], and the outputs of
        replay_steps further time steps of each window, without learning, which leave no trace.
        """
        x = biohsic.pixels(batch.inputs).reshape(num_samples, -1)
        y, z = batch.targets.astype(x.dtype), state.z

        def at_window(carry, i):
            rows = jax.lax.dynamic_slice_in_dim(order, i, window)
            Kx, Ky = (kernels.rbf_kernel(a[rows], sigma=sigma) for a in (x, y))
            xi = kernels.global_signal(Kx, Ky, z[rows], gamma=gamma, sigma=sigma)
            newest = rows[-1]
            drive = state.weights.inputs @ jnp.concatenate([x[newest], y[newest], z[newest]])

            def time_step(carry, t, rate=rate):
                readout, u = carry
                unit_key, output_key = jax.random.split(
                    jax.random.fold_in(key, i * (time_steps + replay_steps) + t)
                )
                noise = (
                    uniform(unit_key, num_units, unit_noise),
                    uniform(output_key, num_out, output_noise),
                )
                u, r, o = advance(
                    state.weights,
                    readout,
                    u,
                    drive,
                    noise,
                    recurrent_gain=recurrent_gain,
                    dt_s=dt_s,
                    tau_s=tau_s,
                )
                return (rmhebb(readout, r, o, xi, rate=rate), u), o

            carry, outputs = jax.lax.scan(time_step, carry, jnp.arange(time_steps))
            _, replayed = jax.lax.scan(
                partial(time_step, rate=0.0), carry, time_steps + jnp.arange(replay_steps)
            )
            return carry, (outputs, xi, replayed)

        (readout, u), (outputs, targets, replayed) = jax.lax.scan(
            at_window, (state.readout, state.u), jnp.arange(count)
        )
        return readout, u, outputs, targets, replayed

    def errors_of(outputs: jax.Array, targets: jax.Array) -> jax.Array:
        """Normalised squared error [window, time]."""
        return jnp.mean((outputs - targets[:, None]) ** 2, axis=2) / jnp.mean(targets**2)

    def step(state: State, batch: Whole, key: jax.Array):
        epoch_key = jax.random.fold_in(jax.random.key(state.shuffle_seed), state.steps)
        order = jax.random.permutation(epoch_key, num_samples)
        readout, u, outputs, targets, _ = epoch(state, batch.data, order, key, rate=learning_rate)
        errors = errors_of(outputs, targets)
        first = Trace(outputs[:NUM_TRACED], targets[:NUM_TRACED])
        last = Trace(outputs[-NUM_TRACED:], targets[-NUM_TRACED:])
        early = jax.tree.map(
            lambda new, old: jnp.where(state.steps == 0, new, old), first, state.early
        )
        state = state._replace(
            readout=readout,
            u=u,
            steps=state.steps + 1,
            errors=state.errors.at[state.steps].set(jnp.mean(errors, axis=1), mode="drop"),
            early=early,
            late=last,
        )
        scalars = {
            "error": jnp.mean(errors),
            "last_step_error": jnp.mean(errors[:, -1]),
            "signal_rms": jnp.sqrt(jnp.mean(targets**2)),
        }
        return state, scalars

    def evaluate(state: State, data: Any, key: jax.Array) -> tuple[Scalars, Readout]:
        frozen_key, replay_key = jax.random.split(key)
        some = partial(
            epoch,
            state,
            samples_of(data),
            jnp.arange(num_samples),
            count=min(eval_windows, num_windows),
        )
        _, _, frozen, targets, _ = some(frozen_key, rate=0.0)
        *_, replayed = some(replay_key, rate=learning_rate, replay_steps=time_steps)
        scalars = {
            "frozen_error": jnp.mean(errors_of(frozen, targets)),
            "replay_error": jnp.mean(errors_of(replayed, targets)),
        }
        readout = {
            "errors": state.errors,
            "epochs_done": state.steps,
            "time_step_s": jnp.asarray(dt_s),
        }
        for name, trace in (("early", state.early), ("late", state.late)):
            readout |= {f"{name}_outputs": trace.outputs, f"{name}_targets": trace.targets}
        return scalars, readout

    return Task(init, sample, step, evaluate, draw)


# Figures ---------------------------------------------------------------------------------------


def draw(readout: HostReadout) -> dict[str, Figure]:
    """Figures of a readout (see `task`): outputs against targets, and the error over windows."""
    return {"traces": _draw_traces(readout), "error": _draw_error(readout)}


def _draw_traces(readout: HostReadout) -> Figure:
    """Three outputs and their targets over time, in the first windows and in the last ones."""
    figure = Figure(figsize=(10, 5.6), layout="constrained")
    axes = figure.subplots(3, 2, sharex=True, squeeze=False)
    dt_s = float(readout["time_step_s"])
    for column, (name, title) in enumerate(
        (("early", "first windows of learning"), ("late", "last windows"))
    ):
        outputs, targets = readout[f"{name}_outputs"], readout[f"{name}_targets"]
        num_windows, time_steps, num_out = outputs.shape
        time_ms = 1e3 * dt_s * np.arange(num_windows * time_steps)
        for row, ax in enumerate(axes[:, column]):
            if row >= num_out:
                ax.set_axis_off()
                continue
            output = outputs[..., row].ravel()
            target = np.repeat(targets[:, row], time_steps)
            ax.plot(time_ms, 1e4 * target, color="black", lw=1.2, label="global signal")
            ax.plot(time_ms, 1e4 * output, color=figures.RAT, lw=0.8, label="output")
            ax.set_ylabel(f"output {row} (1e-4)", fontsize=8)
        axes[0, column].set_title(title, fontsize=10)
        axes[-1, column].set_xlabel(f"time (ms), a window is {1e3 * dt_s * time_steps:g} ms")
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9
    )
    return figure


def _draw_error(readout: HostReadout) -> Figure:
    """Normalised error of every window, over the windows."""
    num_epochs = min(int(readout["epochs_done"]), len(readout["errors"]))
    errors = readout["errors"][:num_epochs].ravel()
    per_epoch = readout["errors"].shape[1]
    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    ax = figure.subplots()
    ax.plot(
        np.arange(1, len(errors) + 1), np.maximum(errors, 1e-12), color=figures.SIMULATED, lw=0.8
    )
    for epoch in range(1, num_epochs):
        ax.axvline(epoch * per_epoch, color=figures.GREY, lw=0.5, ls=":")
    ax.axhline(1, color="black", lw=0.8, ls="--")
    ax.set_yscale("log")
    ax.set_xlabel(f"window (dotted: an epoch of {per_epoch})")
    ax.set_ylabel("squared error / power of the signal")
    ax.set_title("Error while learning; 1 is an output that stays 0", fontsize=11)
    return figure
