"""A reservoir that learns the global signal: a possible source of the third factor.

The three-factor rule of `biohsic` needs local activity and a signal that depends on all samples in
working memory. Here a recurrent network with fixed random weights sees one sample after the other;
its activity is its only memory. Its outputs learn the signal by a reward-modulated Hebbian rule
(RMHebb).

Source: Daruwalla & Lipasti 2024; `train-reservoir.py` and `reservoir.py` of biological-hsic; the
rule after Hoerzer, Legenstein & Maass 2014.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hfjax import check, figures, kernels, networks
from hfjax.models import biohsic
from hfjax.task import Axis, HostReadout, Metric, Readout, Scalars, Task, Whole, logged

NUM_TRACED = 10  # windows whose outputs are kept for the figure
Rate = Callable[[jax.Array], jax.Array | float]  # time step in an epoch -> learning rate
Noise = tuple[jax.Array | float, jax.Array | float]  # of r [unit] and of o [out]; 0.0 for none


class Weights(NamedTuple):
    """Fixed weights, [to, from]: recurrent [unit, unit], inputs [unit, in], feedback [unit, out].

    The transpose of the layout elsewhere: for one vector x the product W x with rows [to] takes two
    thirds of the time of x W with rows [from].
    """

    recurrent: jax.Array
    inputs: jax.Array
    feedback: jax.Array


class Cell(NamedTuple):
    """Settings of the units, as published.

    recurrent_gain  factor of the recurrent weights.
    dt_s            duration of a time step (s), at most tau_s.
    tau_s           time constant of the units (s).
    unit_noise      half-width of uniform noise of the rates, new in each time step.
    output_noise    half-width of uniform noise of the outputs, new in each time step.
    """

    recurrent_gain: float = 1.2
    dt_s: float = 1e-3
    tau_s: float = 5e-3
    unit_noise: float = 0.0
    output_noise: float = 0.0


PUBLISHED = Cell()


class Trace(NamedTuple):
    """outputs [window, time, out] and targets [window, out] of NUM_TRACED windows."""

    outputs: jax.Array
    targets: jax.Array


class State(NamedTuple):
    """What a checkpoint holds.

    readout W_o [out, unit]; u [unit]; z [sample, out], the activity that goes with each sample.
    steps: epochs done. errors [epoch, window]: squared error, normalised as in `task`, of every
    window so far. early, late: traces of the first windows of training, and of the last ones.
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


ERROR = Metric(
    "error while learning",
    split="training",
    better="lower",
    level=("silent outputs", 1.0),
    panel="Error of the outputs",
    measure="squared error / power of the signal",
    log=True,
)
METRICS = logged(
    step={
        "error": ERROR,
        "last_step_error": ERROR._replace(label="error, last step of a window", level=None),
        "signal_rms": Metric("root mean square of the signal", split="training"),
    },
    evaluation={
        "frozen_error": ERROR._replace(label="error without learning", split="frozen"),
        "replay_error": ERROR._replace(
            label="error, window replayed",
            split="replay",
            note="Outputs follow the signal of the present window only, and forget it again.",
        ),
    },
)


class Settings(NamedTuple):
    """The arguments of `task`, for the functions that it binds."""

    num_units: int
    num_out: int
    num_samples: int
    window: int
    time_steps: int
    gamma: float
    sigma: float
    cell: Cell
    learning_rate: float | optax.Schedule
    num_epochs: int
    eval_windows: int

    @property
    def num_windows(self) -> int:
        """Windows in an epoch; they slide by one."""
        return self.num_samples - self.window + 1

    def rate(self, epochs: jax.Array) -> Rate:
        """The learning rate at each time step of the epoch that follows so many epochs."""
        learning_rate = self.learning_rate
        if not callable(learning_rate):
            return lambda time: learning_rate
        before = epochs * self.num_windows * self.time_steps
        return lambda time: learning_rate(before + time)


class Windows(NamedTuple):
    """What successive windows gave.

    readout, u: W_o and the units' state after the last window. outputs [window, time, out], targets
    [window, out]. replayed [window, time, out]: outputs of a second run through each window,
    without learning and without an effect on what follows.
    """

    readout: jax.Array
    u: jax.Array
    outputs: jax.Array
    targets: jax.Array
    replayed: jax.Array


def task(
    *,
    num_units: int = 2000,
    num_out: int = 10,
    num_samples: int = 100,
    window: int = 10,
    time_steps: int = 20,
    gamma: float = 2.0,
    sigma: float = 0.5,
    cell: Cell = PUBLISHED,
    learning_rate: float | optax.Schedule = 5e-4,
    num_epochs: int = 10,
    eval_windows: int = 20,
) -> Task:
    """Learning the global signal by RMHebb, as a Task; a step is an epoch.

    The samples are the first num_samples test images with their targets, and for each an activity
    z [num_out], uniform in [0, 1]. Windows slide by one over a shuffled epoch. In the time_steps
    time steps of a window the input is the newest x, y, z, and the target is xi =
    `kernels.global_signal` of the window. W_o learns in every time step; u continues from window to
    window. `data` as in `biohsic.task`.

    num_units      units of the reservoir.
    num_out        outputs, one for each component of the global signal.
    num_samples    samples in an epoch.
    window         samples in a window, 2 or more.
    time_steps     time steps in a window.
    gamma          weight of the target y against the input x in the global signal.
    sigma          width of the Gaussian kernels of x, y, z, divided by the root of the dimensions.
    cell           gain, time constant and noise of the units.
    learning_rate  learning rate of `rmhebb`, for each time step, or an optax schedule over the time
                   steps of the run.
    num_epochs     epochs for which the state keeps the errors.
    eval_windows   windows that an evaluation runs through.

    The targets are of the order of 1e-4, so errors are relative to their power:
        error = mean over outputs, time and windows of (o - xi)^2, divided by the mean of xi^2.
    Outputs that stay 0 have error 1. step's scalars: error, while learning; last_step_error, the
    same for each window's last time step; signal_rms. Evaluation, over the first eval_windows
    windows in the order of the data set: frozen_error, without learning; replay_error, of a second
    run through each window, without learning, directly after it was learned, which is what the
    original reports. Learning in evaluation does not change the state.
    Raises ValueError for a window below 2, a size below 1, gamma, sigma, times, gain or learning
    rate not positive, a dt above tau, negative noise, and data that do not fit.

    Source: biological-hsic, `create_rmhebb_step` and `train-reservoir.py`. Deviation: there every
    window is run a second time in training, to measure its error.
    """
    settings = Settings(**locals())  # the arguments, which have the same names
    check.at_least(2, window=window)
    check.at_least(1, num_units=num_units, num_out=num_out, time_steps=time_steps)
    check.at_least(window + NUM_TRACED - 1, num_samples=num_samples)
    check.at_least(1, num_epochs=num_epochs, eval_windows=eval_windows)
    check.positive(gamma=gamma, sigma=sigma)
    if not callable(learning_rate):
        check.positive(learning_rate=learning_rate)
    check_cell(cell)
    return Task(
        init=partial(init, settings),
        sample=lambda data, key: Whole(samples_of(settings, data)),
        step=partial(step, settings),
        evaluate=partial(evaluate, settings),
        figures=draw,
        metrics=METRICS,
        axis=Axis("epochs"),
    )


def check_cell(cell: Cell) -> None:
    """Raise ValueError for a gain or time that is not positive, a dt above tau, negative noise."""
    check.positive(recurrent_gain=cell.recurrent_gain, dt_s=cell.dt_s, tau_s=cell.tau_s)
    check.not_negative(unit_noise=cell.unit_noise, output_noise=cell.output_noise)
    if cell.dt_s > cell.tau_s:
        raise ValueError(f"dt_s must be at most tau_s ({cell.tau_s}), but is {cell.dt_s}")


# --- Equations ---


def init_weights(
    key: jax.Array, *, num_units: int, num_in: int, num_out: int, kept: float = 0.9
) -> Weights:
    """W_i, W_f uniform in [-1, 1]; W_r normal with variance 1 / ((1 - kept) num_units), masked.

    `kept` is the probability that a recurrent weight is not 0. As published: the original calls
    1 - kept = 0.1 the sparsity, and scales the weights as if it kept one tenth of them, but keeps
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
    weights: Weights, readout: jax.Array, u: jax.Array, drive: jax.Array, noise: Noise, cell: Cell
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """One time step: r = tanh(u) + noise, o = W_o r + noise,
    u += (dt/tau) (gain W_r r + W_i x + W_f o - u).

    u [unit]; drive W_i x [unit], the same in all time steps of a window.
    -> u [unit], r [unit], o [out].
    """
    chex.assert_shape(readout, (None, u.shape[0]))
    r = jnp.tanh(u) + noise[0]
    o = readout @ r + noise[1]
    total = cell.recurrent_gain * (weights.recurrent @ r) + drive + weights.feedback @ o
    return networks.leaky_step(u, total, dt_s=cell.dt_s, tau_s=cell.tau_s), r, o


def rmhebb(
    readout: jax.Array, r: jax.Array, o: jax.Array, target: jax.Array, *, rate: jax.Array | float
) -> jax.Array:
    """W_o - rate (o - target) r^T: readout [out, unit], r [unit], o and target [out]."""
    return readout - rate * jnp.outer(o - target, r)


def no_learning(time: jax.Array) -> float:
    """A learning rate of 0."""
    del time
    return 0.0


def draw_noise(key: jax.Array, settings: Settings) -> Noise:
    """Uniform noise of units and outputs. Without noise none is drawn, which saves a tenth of the
    time step."""

    def uniform(key: jax.Array, size: int, half: float) -> jax.Array | float:
        return jax.random.uniform(key, (size,), minval=-half, maxval=half) if half else 0.0

    unit_key, output_key = jax.random.split(key)
    return (
        uniform(unit_key, settings.num_units, settings.cell.unit_noise),
        uniform(output_key, settings.num_out, settings.cell.output_noise),
    )


def normalised_error(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Mean over outputs of (o - xi)^2, divided by the mean of xi^2 over all windows.

    outputs [window, time, out], targets [window, out] -> [window, time].
    """
    return jnp.mean((outputs - targets[:, None]) ** 2, axis=2) / jnp.mean(targets**2)


# --- Training ---


def samples_of(settings: Settings, data: Any) -> biohsic.Samples:
    """The first num_samples test images with their targets."""
    return biohsic.Samples(
        data["test_inputs"][: settings.num_samples], data["test_targets"][: settings.num_samples]
    )


def init(settings: Settings, key: jax.Array, data: Any) -> State:
    """The state before training. Raises ValueError where the data do not fit."""
    biohsic.check_data(data)
    x, y = samples_of(settings, data)
    num_samples, num_out = settings.num_samples, settings.num_out
    if len(x) < num_samples:
        raise ValueError(
            f"num_samples must be at most the {len(x)} test samples, but is {num_samples}"
        )
    weights_key, z_key, shuffle_key = jax.random.split(key, 3)
    empty = Trace(
        jnp.zeros((NUM_TRACED, settings.time_steps, num_out)), jnp.zeros((NUM_TRACED, num_out))
    )
    return State(
        weights=init_weights(
            weights_key,
            num_units=settings.num_units,
            num_in=int(np.prod(x.shape[1:])) + y.shape[1] + num_out,
            num_out=num_out,
        ),
        readout=jnp.zeros((num_out, settings.num_units)),
        u=jnp.zeros(settings.num_units),
        z=jax.random.uniform(z_key, (num_samples, num_out)),
        steps=jnp.int32(0),
        shuffle_seed=jax.random.bits(shuffle_key, (), jnp.uint32),
        errors=jnp.zeros((settings.num_epochs, settings.num_windows)),
        early=empty,
        late=empty,
    )


def step(settings: Settings, state: State, batch: Whole, key: jax.Array) -> tuple[State, Scalars]:
    """One epoch of learning, in a new order of the samples."""
    epoch_key = jax.random.fold_in(jax.random.key(state.shuffle_seed), state.steps)
    order = jax.random.permutation(epoch_key, settings.num_samples)
    ran = run_windows(settings, state, batch.data, order, key, rate=settings.rate(state.steps))
    errors = normalised_error(ran.outputs, ran.targets)
    first = Trace(ran.outputs[:NUM_TRACED], ran.targets[:NUM_TRACED])
    state = state._replace(
        readout=ran.readout,
        u=ran.u,
        steps=state.steps + 1,
        errors=state.errors.at[state.steps].set(jnp.mean(errors, axis=1), mode="drop"),
        early=jax.tree.map(partial(jnp.where, state.steps == 0), first, state.early),
        late=Trace(ran.outputs[-NUM_TRACED:], ran.targets[-NUM_TRACED:]),
    )
    scalars = {
        "error": jnp.mean(errors),
        "last_step_error": jnp.mean(errors[:, -1]),
        "signal_rms": jnp.sqrt(jnp.mean(ran.targets**2)),
    }
    return state, scalars


def run_windows(
    settings: Settings,
    state: State,
    batch: biohsic.Samples,
    order: jax.Array,
    key: jax.Array,
    *,
    rate: Rate,
    count: int | None = None,
    replay_steps: int = 0,
) -> Windows:
    """The first `count` windows (default: all) of an epoch with this order, one after the other.

    order [sample]; rate: learning rate at each time step, without those of the second runs;
    replay_steps: time steps of the second run, see `Windows`.
    """
    x = biohsic.pixels(batch.inputs).reshape(settings.num_samples, -1)
    samples = x, batch.targets.astype(x.dtype), state.z
    total_steps = settings.time_steps + replay_steps

    def at_window(
        carry: tuple[jax.Array, jax.Array], i: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, ...]]:
        rows = jax.lax.dynamic_slice_in_dim(order, i, settings.window)
        x, y, z = (a[rows] for a in samples)
        Kx, Ky = (kernels.rbf_kernel(a, sigma=settings.sigma) for a in (x, y))
        xi = kernels.global_signal(Kx, Ky, z, gamma=settings.gamma, sigma=settings.sigma)
        drive = state.weights.inputs @ jnp.concatenate([x[-1], y[-1], z[-1]])

        def time_step(
            carry: tuple[jax.Array, jax.Array], t: jax.Array, rate: Rate
        ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
            readout, u = carry
            noise = draw_noise(jax.random.fold_in(key, i * total_steps + t), settings)
            u, r, o = advance(state.weights, readout, u, drive, noise, settings.cell)
            readout = rmhebb(readout, r, o, xi, rate=rate(i * settings.time_steps + t))
            return (readout, u), o

        times = jnp.arange(total_steps)
        first, second = times[: settings.time_steps], times[settings.time_steps :]
        carry, outputs = jax.lax.scan(partial(time_step, rate=rate), carry, first)
        _, replayed = jax.lax.scan(partial(time_step, rate=no_learning), carry, second)
        return carry, (outputs, xi, replayed)

    windows = jnp.arange(settings.num_windows if count is None else count)
    carry, results = jax.lax.scan(at_window, (state.readout, state.u), windows)
    return Windows(*carry, *results)


# --- Evaluation ---


def evaluate(
    settings: Settings, state: State, data: Any, key: jax.Array
) -> tuple[Scalars, Readout]:
    """Errors without learning and of replayed windows, and the traces of training; see `task`."""
    frozen_key, replay_key = jax.random.split(key)
    run = partial(
        run_windows,
        settings,
        state,
        samples_of(settings, data),
        jnp.arange(settings.num_samples),
        count=min(settings.eval_windows, settings.num_windows),
    )
    frozen = run(frozen_key, rate=no_learning)
    learned = run(replay_key, rate=settings.rate(state.steps), replay_steps=settings.time_steps)
    scalars = {
        "frozen_error": jnp.mean(normalised_error(frozen.outputs, frozen.targets)),
        "replay_error": jnp.mean(normalised_error(learned.replayed, frozen.targets)),
    }
    readout = {
        "errors": state.errors,
        "epochs_done": state.steps,
        "times_s": settings.cell.dt_s * jnp.arange(NUM_TRACED * settings.time_steps),
    }
    for name, trace in (("early", state.early), ("late", state.late)):
        readout |= {f"{name}_outputs": trace.outputs, f"{name}_targets": trace.targets}
    return scalars, readout


# --- Figures ---


def draw(readout: HostReadout) -> dict[str, Figure]:
    """Figures of a readout (see `task`): outputs against targets, and the error over windows."""
    return {
        "traces": _draw_traces(readout),
        "outputs": draw_outputs(readout),
        "error": draw_error(readout),
    }


def _draw_traces(readout: HostReadout) -> Figure:
    """Three outputs and their targets over time, in the first and in the last windows."""
    figure = Figure(figsize=(10.5, 6.4), layout="constrained")
    figure.suptitle(
        "Outputs of the reservoir and the global signal that they learn (the truth)", fontsize=11
    )
    num_out = min(3, readout["early_outputs"].shape[-1])
    axes = figure.subplots(num_out, 2, sharex=True, sharey=True, squeeze=False)
    times_ms = 1e3 * readout["times_s"]
    columns = {"early": "first windows of learning", "late": "last windows of learning"}
    for column, (name, title) in enumerate(columns.items()):
        outputs, targets = readout[f"{name}_outputs"], readout[f"{name}_targets"]
        for row, ax in enumerate(axes[:, column]):
            draw_trace(outputs[..., row], targets[:, row], times_ms=times_ms, title=title, ax=ax)
            ax.set(title="" if row else title, ylabel="" if column else f"output {row} (1e-4)")
            ax.set_xlabel(ax.get_xlabel() if row == num_out - 1 else "")
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9
    )
    return figure


def draw_outputs(readout: HostReadout) -> Figure:
    """All outputs and their targets over time as images, in the first and in the last windows."""
    figure = Figure(figsize=(10.5, 6.0), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True, sharey=True)
    times_ms = 1e3 * readout["times_s"]
    num_out = readout["early_outputs"].shape[-1]
    top = 1e4 * max(float(np.abs(readout[f"{name}_targets"]).max()) for name in ("early", "late"))
    top = top or 1.0  # before learning there are none
    figure.suptitle(
        f"All {num_out} outputs of the reservoir and the global signal that they learn (the truth)",
        fontsize=11,
    )
    for column, (name, title) in enumerate(
        {"early": "first windows of learning", "late": "last windows of learning"}.items()
    ):
        outputs = readout[f"{name}_outputs"].reshape(-1, num_out)
        targets = np.repeat(readout[f"{name}_targets"], len(outputs) // NUM_TRACED, axis=0)
        for row, (label, values) in enumerate(
            {"global signal": targets, "output": outputs}.items()
        ):
            ax = axes[row, column]
            image = ax.imshow(
                1e4 * values.T,
                aspect="auto",
                extent=(0, times_ms[-1] + times_ms[1], num_out - 0.5, -0.5),
                vmin=-top,
                vmax=top,
                cmap="RdBu_r",
                interpolation="nearest",
            )
            ax.set_title(f"{label}, {title}", fontsize=10)
            ax.set_ylabel("" if column else "number of the output")
            ax.set_xlabel("time (ms)" if row else "")
    figure.colorbar(image, ax=axes, label="signal, output (1e-4)", shrink=0.8, extend="both")
    return figure


def draw_trace(
    outputs: np.ndarray,
    targets: np.ndarray,
    *,
    times_ms: np.ndarray,
    title: str,
    ax: Axes | None = None,
) -> Figure:
    """One output [window, time] over time, and its target [window], which steps from window to
    window."""
    ax = figures.axes_or_new(ax, (6.0, 2.6))
    time_steps = outputs.shape[1]
    target = np.repeat(targets, time_steps)
    ax.step(times_ms, 1e4 * target, where="post", color="black", lw=1.2, label="global signal")
    ax.plot(times_ms, 1e4 * outputs.ravel(), color=figures.RAT, lw=0.8, label="output")
    ax.set_xlim(times_ms[0], times_ms[-1])
    ax.set_xlabel(f"time (ms); a window is {times_ms[1] * time_steps:g} ms")
    ax.set_ylabel("output (1e-4)")
    ax.set_title(title, fontsize=10)
    return figures.figure_of(ax)


def draw_error(readout: HostReadout, *, ax: Axes | None = None) -> Figure:
    """Normalised error of every window, over the windows, and the median of each epoch."""
    ax = figures.axes_or_new(ax, (7.5, 4.6))
    num_epochs = min(int(readout["epochs_done"]), len(readout["errors"]))
    errors = np.maximum(readout["errors"][:num_epochs], 1e-12)
    per_epoch = readout["errors"].shape[1]
    epochs = 1 + np.arange(errors.size) / per_epoch
    ax.plot(epochs, errors.ravel(), color=figures.SIMULATED, lw=0.5, alpha=0.6, label="a window")
    ax.hlines(
        np.median(errors, axis=1) if num_epochs else [],
        np.arange(1, num_epochs + 1),
        np.arange(2, num_epochs + 2),
        color=figures.RAT,
        lw=2,
        label="median of the epoch",
    )
    ax.axhline(1, color="black", lw=0.8, ls="--", label="outputs that stay 0 (control)")
    ax.set_yscale("log")
    ax.set_xticks(np.arange(1, num_epochs + 2))
    ax.set_xlabel(f"epoch of {per_epoch} windows (a tick where it starts)")
    ax.set_ylabel("squared error / power of the signal")
    ax.set_title("Error of each window while it is learned", fontsize=11)
    ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.14), ncols=3)
    return figures.figure_of(ax)
