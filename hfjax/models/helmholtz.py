"""Theta-gated Helmholtz machine: dendrites that learn to predict their soma, and an autoencoder.

A pyramidal neuron has a basal dendrite, driven bottom-up, an apical dendrite, driven top-down, and
a soma that takes the rate of one or the other in turn, as theta says. Each dendrite learns, by a
local rule, to predict the soma. While theta is low, the apical dendrites (the generative model)
learn from inferred activity; while it is high, the basal ones (the inference model) learn from
generated activity: a wake-sleep algorithm that runs five times a second (George, Barry,
Stachenfeld, Clopath, Fukai, NeurIPS 2023).

A circuit is data: a tuple of layers in the order in which a step updates them, each with its
projections. An input that comes earlier in the order gives its new rate; a later one, and a layer
to itself, the rate of the step before. A new circuit is a new tuple (see `autoencoder`).

Source of equations and constants: the paper's section 2 and supplement, and its repository
HelmholtzHippocampus, written on RatInABox 1.6.3.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from hfjax import check, figures, plasticity, theta
from hfjax.networks import Nonlinearity, identity, with_slope
from hfjax.task import HostReadout, Readout, Scalars, Task

NOISE_TIME_S = 0.3  # of the dendrites' Ornstein-Uhlenbeck noise
LOSS_TIME_S = 60.0  # of the low-pass filter on the reported loss
BLOCK_STEPS = 400  # of simulated time whose noise is drawn at once, at most

# Circuits --------------------------------------------------------------------------------------


def normal_weights(key: jax.Array, num_post: int, num_pre: int, *, scale: float = 1.0) -> jax.Array:
    """Weights from N(0, scale^2 / num_pre) -> [post, pre]."""
    return scale * num_pre**-0.5 * jax.random.normal(key, (num_post, num_pre))


class Projection(NamedTuple):
    """Input from one layer to a dendrite (or to a feedforward layer), and how it learns.

    source         name of the layer that it comes from.
    weights        (key, num_post, num_pre) -> [post, pre], the weights at the start; None for
                   no synapses: unit i takes the rate of input i mod num_pre.
    learning_rate  eta; 0 for weights that stay as they are.
    bias           whether the input has a 1 appended; its weights start at 0.
    l1, l2         penalties on the weights, in the units of the plasticity trace.
    sign           Dale's law: 1 keeps weights positive, -1 negative, 0 does neither.
    trace_time_s   time constant tau of the plasticity trace.
    rule           one of `hfjax.plasticity`.
    """

    source: str
    weights: Callable[..., jax.Array] | None = normal_weights
    learning_rate: float = 0.0
    bias: bool = False
    l1: float = 0.0
    l2: float = 0.0
    sign: int = 0
    trace_time_s: float = 0.1
    rule: Callable[..., jax.Array] = plasticity.dendritic_prediction


class Source(NamedTuple):
    """A layer whose rates are given from outside at every step."""

    name: str
    size: int


class Feedforward(NamedTuple):
    """A layer with rates f(sum of W x); it does not learn, and has neither dendrites nor noise."""

    name: str
    size: int
    inputs: tuple[Projection, ...]
    nonlinearity: Nonlinearity = identity


class Pyramidal(NamedTuple):
    """Neurons with a basal and an apical dendrite, gated by theta.

    Dendrite: r = f(V) + noise, V = sum of W x over its inputs. Soma: s = (1 - theta) r_b + theta
    r_a. basal_noise and apical_noise are the standard deviations of the noise, an
    Ornstein-Uhlenbeck process with a time constant of 0.3 s.
    """

    name: str
    size: int
    basal: tuple[Projection, ...]
    apical: tuple[Projection, ...]
    nonlinearity: Nonlinearity = identity
    basal_noise: float = 0.01
    apical_noise: float = 0.01


Layer = Source | Feedforward | Pyramidal
Circuit = tuple[Layer, ...]


def _dendrites(layer: Layer) -> list[tuple[str, Projection]]:
    """Every projection into a layer, each with its name LAYER/DENDRITE/SOURCE."""
    parts: dict[str, tuple[Projection, ...]] = {}
    if isinstance(layer, Feedforward):
        parts = {"in": layer.inputs}
    elif isinstance(layer, Pyramidal):
        parts = {"basal": layer.basal, "apical": layer.apical}
    return [
        (f"{layer.name}/{part}/{projection.source}", projection)
        for part, projections in parts.items()
        for projection in projections
    ]


def pyramidal(circuit: Circuit) -> list[Pyramidal]:
    """The pyramidal layers of a circuit, in its order."""
    return [layer for layer in circuit if isinstance(layer, Pyramidal)]


def check_circuit(circuit: Circuit, *, dt_s: float) -> None:
    """Raise ValueError, in one sentence, for a circuit that cannot run at steps of dt_s.

    That is: two layers of one name, a layer without units, an input that names no layer of the
    circuit, one-to-one input of an unfitting size, two inputs from one layer to one dendrite, a
    negative rate or penalty, an impossible sign, learning into a feedforward layer, or a step that
    is longer than the time constant of a trace or of the noise.
    """
    check.positive(dt_s=dt_s)
    sizes = {layer.name: layer.size for layer in circuit}
    if len(sizes) < len(circuit):
        raise ValueError(f"every layer needs a name of its own, but they are {list(sizes)}")
    check.at_least(1, **{f"the size of layer {name}": size for name, size in sizes.items()})
    if pyramidal(circuit) and dt_s > NOISE_TIME_S:
        raise ValueError(
            f"dt_s ({dt_s}) must not be above the noise's time constant ({NOISE_TIME_S})"
        )
    for layer in circuit:
        names = [name for name, _ in _dendrites(layer)]
        if len(set(names)) < len(names):
            raise ValueError(f"a dendrite has two inputs from one layer, in {names}")
        if isinstance(layer, Pyramidal):
            check.not_negative(
                **{
                    f"{layer.name}'s basal_noise": layer.basal_noise,
                    f"{layer.name}'s apical_noise": layer.apical_noise,
                }
            )
        for name, projection in _dendrites(layer):
            _check_projection(name, projection, layer, sizes, dt_s)


def _check_projection(
    name: str, projection: Projection, layer: Layer, sizes: Mapping[str, int], dt_s: float
) -> None:
    num_pre = sizes.get(projection.source)
    if num_pre is None:
        raise ValueError(
            f"{name}: there is no layer {projection.source!r}; the layers are {list(sizes)}"
        )
    if projection.weights is None:
        if layer.size % num_pre:
            raise ValueError(
                f"{name} is one-to-one, so the size of {layer.name} ({layer.size}) must be a "
                f"multiple of the size of {projection.source} ({num_pre})"
            )
        if projection != Projection(projection.source, None):
            raise ValueError(f"{name} is one-to-one, without synapses: it cannot learn")
    else:
        make = projection.weights
        key = jax.random.key(0)
        shape = jax.eval_shape(lambda: make(key, layer.size, num_pre)).shape
        if shape != (layer.size, num_pre):
            raise ValueError(
                f"{name} needs weights of shape {(layer.size, num_pre)}, but they have {shape}"
            )
    check.not_negative(
        **{f"{name}'s {f}": getattr(projection, f) for f in ("learning_rate", "l1", "l2")}
    )
    if projection.sign not in (-1, 0, 1):
        raise ValueError(f"{name}'s sign must be -1, 0 or 1, but is {projection.sign}")
    check.positive(**{f"{name}'s trace_time_s": projection.trace_time_s})
    if isinstance(layer, Feedforward) and (projection.learning_rate or projection.bias):
        raise ValueError(f"{name} has a learning rate or a bias, but only pyramidal layers learn")
    if projection.learning_rate and dt_s > projection.trace_time_s:
        raise ValueError(
            f"dt_s ({dt_s}) must not be above the time constant of {name}'s plasticity trace "
            f"({projection.trace_time_s})"
        )


def check_layers(circuit: Circuit) -> None:
    """Raise ValueError unless HPC and EC are pyramidal layers of the circuit."""
    names = [layer.name for layer in pyramidal(circuit)]
    for name in ("HPC", "EC"):
        if name not in names:
            raise ValueError(f"the circuit needs a pyramidal layer {name!r}, but has {names}")


def frozen(circuit: Circuit, *, only: Callable[[str], bool] = lambda name: True) -> Circuit:
    """The circuit without learning, in all projections or those whose full name `only` accepts."""

    def still(layer: Layer, part: str, projections: tuple[Projection, ...]):
        return tuple(
            p._replace(learning_rate=0.0) if only(f"{layer.name}/{part}/{p.source}") else p
            for p in projections
        )

    return tuple(
        layer._replace(
            basal=still(layer, "basal", layer.basal), apical=still(layer, "apical", layer.apical)
        )
        if isinstance(layer, Pyramidal)
        else layer
        for layer in circuit
    )


# Dynamics --------------------------------------------------------------------------------------


class Synapses(NamedTuple):
    """weights [post, pre]; bias [post], or None where the input has none."""

    weights: jax.Array
    bias: jax.Array | None


class CircuitState(NamedTuple):
    """All that changes in a circuit; keys are names of layers, or LAYER/DENDRITE/SOURCE.

    rates      {layer: [unit]}, of the somata.
    noise      {pyramidal layer: [2, unit]}, of basal and apical dendrites.
    synapses   {projection: Synapses}, of all that have any.
    traces     {projection: Synapses}, plasticity traces of those that learn in the full circuit.
    losses     {pyramidal layer: []}, mean |r_b - r_a|, low-passed.
    step       [], steps done.
    """

    rates: dict[str, jax.Array]
    noise: dict[str, jax.Array]
    synapses: dict[str, Synapses]
    traces: dict[str, Synapses]
    losses: dict[str, jax.Array]
    step: jax.Array


class Rates(NamedTuple):
    """Rates of a pyramidal layer, each [unit] or [time, unit]."""

    basal: jax.Array
    apical: jax.Array
    soma: jax.Array


def init_circuit(key: jax.Array, circuit: Circuit) -> CircuitState:
    """A circuit at rest: rates, noise and traces 0, weights drawn."""
    synapses, traces = {}, {}
    sizes = {layer.name: layer.size for layer in circuit}
    for layer in circuit:
        for name, projection in _dendrites(layer):
            if projection.weights is None:
                continue
            key, weight_key = jax.random.split(key)
            weights = projection.weights(weight_key, layer.size, sizes[projection.source])
            if projection.sign:
                weights = plasticity.dales_law(weights, sign=projection.sign)
            bias = jnp.zeros(layer.size, weights.dtype) if projection.bias else None
            synapses[name] = Synapses(weights, bias)
            if projection.learning_rate:
                traces[name] = jax.tree.map(jnp.zeros_like, synapses[name])
    return CircuitState(
        rates={name: jnp.zeros(size) for name, size in sizes.items()},
        noise={layer.name: jnp.zeros((2, layer.size)) for layer in pyramidal(circuit)},
        synapses=synapses,
        traces=traces,
        losses={layer.name: jnp.zeros(()) for layer in pyramidal(circuit)},
        step=jnp.int32(0),
    )


def potential(
    layer: Layer,
    part: str,
    projections: tuple[Projection, ...],
    rates: Mapping[str, jax.Array],
    synapses: Mapping[str, Synapses],
) -> jax.Array:
    """V = sum of W x (+ bias) over the inputs of a dendrite -> [unit]."""
    V = jnp.zeros(layer.size)
    for projection in projections:
        x = rates[projection.source]
        if projection.weights is None:
            V = V + jnp.tile(x, layer.size // x.shape[0])
            continue
        weights, bias = synapses[f"{layer.name}/{part}/{projection.source}"]
        V = V + weights @ x
        if bias is not None:
            V = V + bias
    return V


def _learn(
    projection: Projection,
    synapses: Synapses,
    trace: Synapses,
    x: jax.Array,
    soma: jax.Array,
    dendrite: jax.Array,
    slope: jax.Array,
    dt_s: float,
) -> tuple[Synapses, Synapses]:
    """New synapses and traces of a projection. A bias is a weight whose input is 1."""

    def one(weights, trace, x):
        drive = projection.rule(weights, x, soma, dendrite, slope)
        trace = plasticity.low_pass(trace, drive, kappa=dt_s / projection.trace_time_s)
        weights = plasticity.change(
            weights,
            trace,
            learning_rate=projection.learning_rate,
            l1=projection.l1,
            l2=projection.l2,
        )
        if projection.sign:
            weights = plasticity.dales_law(weights, sign=projection.sign)
        return weights, trace

    weights, weights_trace = one(synapses.weights, trace.weights, x)
    bias, bias_trace = None, None
    if synapses.bias is not None and trace.bias is not None:
        column = one(synapses.bias[:, None], trace.bias[:, None], jnp.ones(1, x.dtype))
        bias, bias_trace = (values[:, 0] for values in column)
    return Synapses(weights, bias), Synapses(weights_trace, bias_trace)


def advance(
    state: CircuitState,
    sources: Mapping[str, jax.Array],
    theta_t: jax.Array,
    draws: Mapping[str, jax.Array],
    *,
    circuit: Circuit,
    dt_s: float,
    loss_from_step: int = 0,
) -> tuple[CircuitState, dict[str, Rates]]:
    """One step of a circuit: each layer in order, its dendrites, its soma, then its weights.

    With x the inputs' rates, f the nonlinearity and n Ornstein-Uhlenbeck noise:
    V = sum of W x, r = f(V) + n, n += -n dt/T + sigma sqrt(2 dt/T) N(0, 1), s = (1 - theta) r_b +
    theta r_a; then each learning projection by its rule, whose target is the soma with its noise.

    sources  {source layer: [unit]}, the rates at this step.
    theta_t  [], 1 for top-down.
    draws    {pyramidal layer: [2, unit]}, standard normal, for basal and apical noise.
    loss_from_step  before this step a loss is the step's own; from then on it is low-passed.
    -> (state, {pyramidal layer: Rates}).
    Source: HelmholtzHippocampus `PyramidalNeurons`, `DendriticCompartment`, `run_simulation`.
    """
    rates, noise = dict(state.rates), dict(state.noise)
    synapses, traces, losses = dict(state.synapses), dict(state.traces), dict(state.losses)
    activity = {}
    for layer in circuit:
        if isinstance(layer, Source):
            rates[layer.name] = sources[layer.name]
            continue
        if isinstance(layer, Feedforward):
            V = potential(layer, "in", layer.inputs, rates, synapses)
            rates[layer.name] = layer.nonlinearity(V)
            continue

        kappa = dt_s / NOISE_TIME_S
        sigma = jnp.asarray([[layer.basal_noise], [layer.apical_noise]]) * (2 * kappa) ** 0.5
        n = (1 - kappa) * noise[layer.name] + sigma * draws[layer.name]
        noise[layer.name] = n
        r_b, slope_b = with_slope(
            layer.nonlinearity, potential(layer, "basal", layer.basal, rates, synapses)
        )
        r_a, slope_a = with_slope(
            layer.nonlinearity, potential(layer, "apical", layer.apical, rates, synapses)
        )
        r_b, r_a = r_b + n[0], r_a + n[1]
        s = (1 - theta_t) * r_b + theta_t * r_a
        activity[layer.name] = Rates(r_b, r_a, s)

        loss, k = jnp.mean(jnp.abs(r_b - r_a)), dt_s / LOSS_TIME_S
        losses[layer.name] = jnp.where(
            state.step > loss_from_step, (1 - k) * losses[layer.name] + k * loss, loss
        )
        for part, projections, r, slope in (
            ("basal", layer.basal, r_b, slope_b),
            ("apical", layer.apical, r_a, slope_a),
        ):
            for projection in projections:
                if projection.learning_rate:
                    name, x = f"{layer.name}/{part}/{projection.source}", rates[projection.source]
                    synapses[name], traces[name] = _learn(
                        projection, synapses[name], traces[name], x, s, r, slope, dt_s
                    )
        rates[layer.name] = s
    return CircuitState(rates, noise, synapses, traces, losses, state.step + 1), activity


# A circuit in its world ------------------------------------------------------------------------


class World(NamedTuple):
    """What the source layers see, as two functions.

    start  (key) -> world state.
    block  (world state, key, num_steps) -> (world state, {source layer: [time, unit]}, other
           arrays [time, ...] that an analysis wants, by name).
    """

    start: Callable[..., Any]
    block: Callable[..., Any]


class HelmholtzState(NamedTuple):
    """A circuit and the world that drives it."""

    circuit: CircuitState
    world: Any


def _nothing(activity: dict[str, Rates]) -> tuple[()]:
    del activity
    return ()


def simulate(
    state: HelmholtzState,
    key: jax.Array,
    *,
    circuit: Circuit,
    world: World,
    thetas: np.ndarray,
    num_steps: int,
    dt_s: float,
    loss_from_step: int = 0,
    record: Callable[[dict[str, Rates]], Any] = _nothing,
) -> tuple[HelmholtzState, Any, dict[str, jax.Array]]:
    """A stretch of simulated time as one scan; all its noise is drawn beforehand.

    thetas  the gate by step [step], from `theta.tabulate`; a table of one entry holds a mode.
            As in the original, the first step is at time dt.
    record  what to keep of each step's {pyramidal layer: Rates}; nothing, unless given.
    -> (state, what was recorded [time, ...], the world's other arrays [time, ...]).
    """
    layers = pyramidal(circuit)
    names = [layer.name for layer in layers]
    ends = np.cumsum([layer.size for layer in layers])
    theta_table = jnp.asarray(thetas, state.circuit.losses[names[0]].dtype)

    def step(circuit_state, inputs):
        circuit_state, activity = advance(
            circuit_state, *inputs, circuit=circuit, dt_s=dt_s, loss_from_step=loss_from_step
        )
        return circuit_state, record(activity)

    def block(state, key, length):
        world_key, noise_key = jax.random.split(key)
        world_state, sources, others = world.block(state.world, world_key, length)
        xi = jax.random.normal(noise_key, (length, 2, ends[-1]))
        draws = dict(zip(names, jnp.split(xi, ends[:-1], axis=-1), strict=True))
        steps = state.circuit.step + 1 + jnp.arange(length)
        inputs = sources, theta_table[steps % len(thetas)], draws
        circuit_state, recorded = jax.lax.scan(step, state.circuit, inputs)
        return HelmholtzState(circuit_state, world_state), (recorded, others)

    # Noise is drawn in bulk, but for so many steps at a time as fit in the cache.
    length = min(num_steps, BLOCK_STEPS)
    num_blocks, rest = divmod(num_steps, length)
    keys = jax.random.split(key, num_blocks + bool(rest))
    state, kept = jax.lax.scan(partial(block, length=length), state, keys[:num_blocks])
    kept = jax.tree.map(lambda x: x.reshape(num_blocks * length, *x.shape[2:]), kept)
    if rest:
        state, last = block(state, keys[-1], rest)
        kept = jax.tree.map(lambda x, y: jnp.concatenate([x, y]), kept, last)
    return state, *kept


def steps_in(duration_s: float, *, dt_s: float) -> int:
    """A duration in steps, to the nearest."""
    return round(duration_s / dt_s)


def check_duration(*, dt_s: float, **durations: float) -> None:
    """Raise ValueError unless every duration is at least one step."""
    for name, value in durations.items():
        if not value >= dt_s:
            raise ValueError(f"{name} must be at least dt_s ({dt_s}), but is {value}")


class Machine(NamedTuple):
    """A circuit in a world as the first parts of a Task, and `simulate` with what they share.

    init, sample, step  as in `Task`; a step is block_s of simulated time, and its scalars are
                        LAYER_loss of every pyramidal layer, at the block's end.
    run                 `simulate` in this world: (state, key, circuit, thetas, num_steps, record).
    """

    init: Callable[..., HelmholtzState]
    sample: Callable[..., tuple[()]]
    step: Callable[..., tuple[HelmholtzState, dict[str, jax.Array]]]
    run: Callable[..., tuple[HelmholtzState, Any, dict[str, jax.Array]]]


def machine(
    circuit: Circuit,
    world: World,
    *,
    thetas: np.ndarray,
    dt_s: float,
    block_s: float,
    loss_from_s: float = 0.4,
) -> Machine:
    """A circuit that learns in its world.

    thetas       the gate by step, from `theta.tabulate`.
    loss_from_s  the low-pass filter on the losses starts here: two theta cycles, as published.
    Raises ValueError for an impossible circuit or duration.
    """
    check_circuit(circuit, dt_s=dt_s)
    check_duration(dt_s=dt_s, block_s=block_s, loss_from_s=loss_from_s)
    run = partial(
        simulate, world=world, dt_s=dt_s, loss_from_step=steps_in(loss_from_s, dt_s=dt_s) - 1
    )

    def init(key: jax.Array, data: Any) -> HelmholtzState:
        del data
        circuit_key, world_key = jax.random.split(key)
        return HelmholtzState(init_circuit(circuit_key, circuit), world.start(world_key))

    def sample(data: Any, key: jax.Array) -> tuple[()]:
        del data, key
        return ()

    def step(
        state: HelmholtzState, batch: tuple[()], key: jax.Array
    ) -> tuple[HelmholtzState, dict[str, jax.Array]]:
        del batch
        state, _, _ = run(
            state,
            key,
            circuit=circuit,
            thetas=thetas,
            num_steps=steps_in(block_s, dt_s=dt_s),
            record=_nothing,
        )
        return state, {f"{name}_loss": loss for name, loss in state.circuit.losses.items()}

    return Machine(init, sample, step, run)


MODES = ("inference", "generation", "alternating")


def run_modes(
    state: HelmholtzState,
    key: jax.Array,
    *,
    run: Callable[..., Any],
    circuit: Circuit,
    thetas: np.ndarray,
    num_steps: int,
    num_between: int,
    record: Callable[[dict[str, Rates]], Any],
) -> tuple[dict[str, jax.Array], dict[str, tuple[Any, dict[str, jax.Array]]]]:
    """The circuit held in each mode by its gate, its weights frozen; a short reset in between.

    Inference (theta = 0), generation (theta = 1), then alternating, num_steps each; before each,
    num_between alternating steps. All go on from one another, as after learning in the original's
    notebook, so that its low-passed losses can be compared. Deviation: before learning, the
    notebook has no alternating steps in between.

    -> (scalars: for each mode and layer the loss averaged over the stretch, MODE_LAYER_loss, and
    as published, low-passed over 60 s, MODE_LAYER_loss_60s;
    {mode: (what was recorded, the world's other arrays)}).
    """
    still = frozen(circuit)
    tables = {"inference": np.zeros(1), "generation": np.ones(1), "alternating": thetas}

    def losses_and(activity):
        losses = {name: jnp.mean(jnp.abs(r.basal - r.apical)) for name, r in activity.items()}
        return losses, record(activity)

    scalars, recorded = {}, {}
    for mode in MODES:
        key, between_key, mode_key = jax.random.split(key, 3)
        state, _, _ = run(state, between_key, circuit=still, thetas=thetas, num_steps=num_between)
        state, (losses, kept), others = run(
            state,
            mode_key,
            circuit=still,
            thetas=tables[mode],
            num_steps=num_steps,
            record=losses_and,
        )
        for name, loss in losses.items():
            scalars[f"{mode}_{name}_loss"] = jnp.mean(loss)
            scalars[f"{mode}_{name}_loss_60s"] = state.circuit.losses[name]
        recorded[mode] = kept, others
    return scalars, recorded


# The autoencoder -------------------------------------------------------------------------------


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


def autoencoder(
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

    circuit      the layers (default: `autoencoder`): a source layer "latents" of num_latents
                 units, pyramidal layers HPC and EC, and any others.
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
    layers = autoencoder(num_latents=num_latents) if circuit is None else circuit
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


def shown(activity: Mapping[str, Rates], num_shown: int) -> dict[str, jax.Array]:
    """The first units of every dendrite and soma, by the name LAYER/PART."""
    return {
        f"{name}/{part}": values[:num_shown]
        for name, rates in activity.items()
        for part, values in rates._asdict().items()
    }


# Figures ---------------------------------------------------------------------------------------


def draw_modes(readout: HostReadout, *, below: Sequence[str] = ()) -> dict[str, Figure]:
    """One figure a mode: dendrites and somata of a few units of each layer, over time."""
    drawn = {}
    explained = {
        "inference": "inference (theta = 0): somata follow basal dendrites",
        "generation": "generation (theta = 1): somata follow apical dendrites",
        "alternating": "alternating theta",
    }
    for mode in MODES:
        names = [
            f"{layer}/{part}" for layer in ("EC", "HPC") for part in ("apical", "soma", "basal")
        ]
        drawn[f"rates_{mode}"] = figures.stacked_traces(
            {name.replace("/", " "): readout[f"{mode}/{name}"] for name in [*names, *below]},
            dt_s=float(readout["dt_s"]),
            title=explained[mode],
        )
    return drawn


def draw(readout: HostReadout) -> dict[str, Figure]:
    """Rates in each mode (figures 1 and 2), and the autocorrelations of figure 2."""
    drawn = draw_modes(readout, below=("latents",))
    drawn["autocorrelation"] = figures.autocorrelations(
        {
            "latents": readout["autocorrelation/latents"],
            "EC, generated": readout["autocorrelation/EC"],
        },
        dt_s=float(readout["dt_s"]),
    )
    return drawn
