"""Circuits of neurons with two dendrites that learn to predict their soma.

A pyramidal neuron has a basal dendrite, driven bottom-up, an apical dendrite, driven top-down, and
a soma. Theta decides which dendrite drives the soma. Each dendrite learns to predict the soma by a
local rule. While theta is low, the apical dendrites (the generative model) learn from inferred
activity. While theta is high, the basal dendrites (the inference model) learn from generated
activity. This is a wake-sleep algorithm that alternates five times a second (George, Barry,
Stachenfeld, Clopath, Fukai, NeurIPS 2023). Theta here is that of the original code. The paper's
figures 2 and S1 show 1 - theta: there it is high in wake and low in sleep.

A circuit is data: a tuple of layers, each with its projections, in the order in which a step
updates them. An input from an earlier layer gives its new rate. An input from a later layer, or
from the layer itself, gives the rate of the previous step.

Source of equations and constants: the paper's section 2 and supplement, and its repository
HelmholtzHippocampus, written on RatInABox 1.6.3.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp

from hfjax import check, plasticity, theta
from hfjax.networks import Nonlinearity, identity, with_slope

NOISE_TIME_S = 0.3  # time constant of the Ornstein-Uhlenbeck noise of the dendrites
SOMA_NOISE_TIME_S = 0.5  # the same, of the somata
LOSS_TIME_S = 60.0  # time constant of the low-pass filter on the reported loss

# --- Circuits ---


class InitialWeights(Protocol):
    """(key, num_post, num_pre) -> weights."""

    def __call__(self, key: jax.Array, num_post: int, num_pre: int, /) -> jax.Array:
        """Weights [post, pre] before learning."""


def normal_weights(key: jax.Array, num_post: int, num_pre: int, *, scale: float = 1.0) -> jax.Array:
    """Weights from N(0, scale^2 / num_pre) -> [post, pre]."""
    return scale * num_pre**-0.5 * jax.random.normal(key, (num_post, num_pre))


class Projection(NamedTuple):
    """The input from one layer to a dendrite (or to a feedforward layer), and how it learns.

    source         name of the layer that gives the input.
    weights        the weights before learning; None for no synapses: unit i receives the rate of
                   input i mod num_pre.
    learning_rate  eta; 0 for fixed weights.
    bias           whether a constant 1 is appended to the input; its weights start at 0.
    l1, l2         penalties on the weights, in the units of the plasticity trace.
    sign           Dale's law: 1 keeps weights positive, -1 negative; 0 for no constraint.
    trace_time_s   time constant tau of the plasticity trace.
    rule           the local learning rule, one of `hfjax.plasticity`.
    """

    source: str
    weights: InitialWeights | None = normal_weights
    learning_rate: float = 0.0
    bias: bool = False
    l1: float = 0.0
    l2: float = 0.0
    sign: int = 0
    trace_time_s: float = 0.1
    rule: plasticity.Rule = plasticity.dendritic_prediction


class Source(NamedTuple):
    """A layer whose rates the world gives at every step."""

    name: str
    size: int


class Feedforward(NamedTuple):
    """A layer with rates f(sum of W x), without learning, dendrites or noise."""

    name: str
    size: int
    inputs: tuple[Projection, ...]
    nonlinearity: Nonlinearity = identity


class Pyramidal(NamedTuple):
    """Neurons with a basal and an apical dendrite, gated by theta.

    Dendrite: r = f(V) + noise, V = sum of W x over its inputs. Soma: s = (1 - theta) r_b + theta
    r_a + noise. basal_noise and apical_noise are the standard deviations of the noise, an
    Ornstein-Uhlenbeck process with a time constant of 0.3 s; soma_noise is that of the soma, whose
    time constant is 0.5 s.
    dendrite_time_s: time constant of both dendrites, V += dt / T (sum of W x - V); None: V follows
    its inputs at once, as published. gate: theta of this layer; None for that of the machine.
    """

    name: str
    size: int
    basal: tuple[Projection, ...]
    apical: tuple[Projection, ...]
    nonlinearity: Nonlinearity = identity
    basal_noise: float = 0.01
    apical_noise: float = 0.01
    soma_noise: float = 0.0
    dendrite_time_s: float | None = None
    gate: theta.Gate | None = None


Layer = Source | Feedforward | Pyramidal
Circuit = tuple[Layer, ...]
Choice = Callable[[str], bool]  # (name of a projection, LAYER/DENDRITE/SOURCE) -> whether it is in


def _projections(layer: Layer) -> list[tuple[str, Projection]]:
    """Every projection into a layer with its name, LAYER/DENDRITE/SOURCE."""
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


def frozen(circuit: Circuit, *, only: Choice = lambda name: True) -> Circuit:
    """The circuit without learning: in every projection, or in those that `only` selects."""

    def freeze(layer: Pyramidal, part: str) -> tuple[Projection, ...]:
        return tuple(
            p._replace(learning_rate=0.0) if only(f"{layer.name}/{part}/{p.source}") else p
            for p in getattr(layer, part)
        )

    return tuple(
        layer._replace(basal=freeze(layer, "basal"), apical=freeze(layer, "apical"))
        if isinstance(layer, Pyramidal)
        else layer
        for layer in circuit
    )


# --- Checks ---


def check_circuit(circuit: Circuit, *, dt_s: float) -> None:
    """Raise ValueError, in one sentence, for a circuit that cannot run at steps of dt_s.

    Causes: two layers of one name; a layer without units; an input from an unknown layer; a
    one-to-one input of the wrong size; two inputs from one layer to one dendrite; a negative rate
    or penalty; an impossible sign; learning into a feedforward layer; a step longer than the time
    constant of a trace or of the noise.
    """
    check.positive(dt_s=dt_s)
    sizes = {layer.name: layer.size for layer in circuit}
    if len(sizes) < len(circuit):
        raise ValueError(f"layers need different names, but two of {list(sizes)} are the same")
    check.at_least(1, **{f"the size of layer {name}": size for name, size in sizes.items()})
    if pyramidal(circuit) and dt_s > NOISE_TIME_S:
        raise ValueError(
            f"dt_s ({dt_s}) must not be above the noise's time constant ({NOISE_TIME_S})"
        )
    for layer in circuit:
        _check_layer(layer, sizes, dt_s)


def _check_layer(layer: Layer, sizes: Mapping[str, int], dt_s: float) -> None:
    names = [name for name, _ in _projections(layer)]
    if len(set(names)) < len(names):
        raise ValueError(f"a dendrite has two inputs from one layer, in {names}")
    if isinstance(layer, Pyramidal):
        check.not_negative(
            **{
                f"{layer.name}'s basal_noise": layer.basal_noise,
                f"{layer.name}'s apical_noise": layer.apical_noise,
                f"{layer.name}'s soma_noise": layer.soma_noise,
            }
        )
        if layer.dendrite_time_s is not None and not layer.dendrite_time_s >= dt_s:
            raise ValueError(
                f"{layer.name}'s dendrite_time_s must be at least dt_s ({dt_s}), but is "
                f"{layer.dendrite_time_s}"
            )
    for name, projection in _projections(layer):
        num_pre = sizes.get(projection.source)
        if num_pre is None:
            raise ValueError(
                f"{name}: there is no layer {projection.source!r}; the layers are {list(sizes)}"
            )
        _check_weights(name, projection, layer, num_pre)
        _check_learning(name, projection, layer, dt_s)


def _check_weights(name: str, projection: Projection, layer: Layer, num_pre: int) -> None:
    make = projection.weights
    if make is not None:
        shape = jax.eval_shape(lambda: make(jax.random.key(0), layer.size, num_pre)).shape
        if shape != (layer.size, num_pre):
            raise ValueError(
                f"{name} needs weights of shape {(layer.size, num_pre)}, but they have {shape}"
            )
    elif layer.size % num_pre:
        raise ValueError(
            f"{name} is one-to-one, so the size of {layer.name} ({layer.size}) must be a "
            f"multiple of the size of {projection.source} ({num_pre})"
        )
    elif projection != Projection(projection.source, None):
        raise ValueError(f"{name} is one-to-one, without synapses: it cannot learn")


def _check_learning(name: str, projection: Projection, layer: Layer, dt_s: float) -> None:
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


# --- State ---


class Synapses(NamedTuple):
    """weights [post, pre]; bias [post], or None where the input has none."""

    weights: jax.Array
    bias: jax.Array | None


class CircuitState(NamedTuple):
    """The state of a circuit. A projection's key is its name, LAYER/DENDRITE/SOURCE.

    rates      {layer: [unit]}, rates of the somata.
    noise      {pyramidal layer: [2, unit]}, of basal and apical dendrites; [3, unit], the last of
               the somata, where the layer has soma_noise.
    synapses   {projection: Synapses}, of every projection with synapses.
    traces     {projection: Synapses}, plasticity traces of the projections that learn.
    losses     {pyramidal layer: []}, mean |r_b - r_a|, low-passed.
    step       [], number of steps so far.
    potentials {pyramidal layer with a dendrite_time_s: [2, unit]}, of basal and apical dendrites.
    """

    rates: dict[str, jax.Array]
    noise: dict[str, jax.Array]
    synapses: dict[str, Synapses]
    traces: dict[str, Synapses]
    losses: dict[str, jax.Array]
    step: jax.Array
    potentials: dict[str, jax.Array]


class Rates(NamedTuple):
    """Rates of a pyramidal layer, each [unit] or [time, unit]."""

    basal: jax.Array
    apical: jax.Array
    soma: jax.Array


Activity = dict[str, Rates]  # {pyramidal layer: Rates}


def init_circuit(key: jax.Array, circuit: Circuit) -> CircuitState:
    """A circuit at rest: random weights; rates, noise and traces are 0."""
    synapses, traces = {}, {}
    neurons = pyramidal(circuit)
    sizes = {layer.name: layer.size for layer in circuit}
    for layer in circuit:
        for name, projection in _projections(layer):
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
        noise={layer.name: jnp.zeros((num_noises(layer), layer.size)) for layer in neurons},
        synapses=synapses,
        traces=traces,
        losses={layer.name: jnp.zeros(()) for layer in neurons},
        step=jnp.int32(0),
        potentials={
            layer.name: jnp.zeros((2, layer.size))
            for layer in neurons
            if layer.dendrite_time_s is not None
        },
    )


def num_noises(layer: Pyramidal) -> int:
    """Independent noises of a neuron: of its two dendrites, and of its soma if that has any."""
    return 3 if layer.soma_noise else 2


# --- Dynamics ---


def advance(
    state: CircuitState,
    sources: Mapping[str, jax.Array],
    theta_t: jax.Array | float,
    draws: Mapping[str, jax.Array],
    *,
    circuit: Circuit,
    dt_s: float,
    loss_from_step: int = 0,
) -> tuple[CircuitState, Activity]:
    """One step of a circuit: each layer in order, see `advance_pyramidal`.

    sources  {source layer: [unit]}, the rates at this step.
    theta_t  [], 1 for top-down; or [pyramidal layer], of each in their order.
    draws    {pyramidal layer: [2 or 3, unit]}, standard normal, for the noises in their order.
    loss_from_step  up to this step a loss is that of the step; after it, it is low-passed.
    -> (state, {pyramidal layer: Rates}).
    Source: HelmholtzHippocampus `PyramidalNeurons`, `DendriticCompartment`, `run_simulation`.
    """
    activity: Activity = {}
    for layer in circuit:
        if isinstance(layer, Pyramidal):
            theta_now = theta_t if jnp.ndim(theta_t) == 0 else jnp.asarray(theta_t)[len(activity)]
            state, activity[layer.name] = advance_pyramidal(
                state, theta_now, draws[layer.name], layer, dt_s=dt_s, loss_from_step=loss_from_step
            )
            continue
        if isinstance(layer, Source):
            rates = sources[layer.name]
        else:
            V = potential(layer, "in", layer.inputs, state.rates, state.synapses)
            rates = layer.nonlinearity(V)
        state = state._replace(rates={**state.rates, layer.name: rates})
    return state._replace(step=state.step + 1), activity


def advance_pyramidal(
    state: CircuitState,
    theta_t: jax.Array | float,
    draws: jax.Array,
    layer: Pyramidal,
    *,
    dt_s: float,
    loss_from_step: int,
) -> tuple[CircuitState, Rates]:
    """One step of a pyramidal layer: noise, dendrites, soma, loss, then its weights.

    With x the rates of the inputs, f the nonlinearity and n the noise: V = sum of W x,
    r = f(V) + n, s = (1 - theta) r_b + theta r_a (+ n_s). The target of learning is the soma with
    noise. draws [2 or 3, unit], standard normal.
    """
    noise = layer_noise(state.noise[layer.name], draws, layer, dt_s=dt_s)
    V = [
        potential(layer, part, projections, state.rates, state.synapses)
        for part, projections in (("basal", layer.basal), ("apical", layer.apical))
    ]
    if layer.dendrite_time_s is not None:
        kappa = dt_s / layer.dendrite_time_s
        V = list((1 - kappa) * state.potentials[layer.name] + kappa * jnp.stack(V))
        state = state._replace(potentials={**state.potentials, layer.name: jnp.stack(V)})
    (f_b, slope_b), (f_a, slope_a) = (with_slope(layer.nonlinearity, of) for of in V)
    r_b, r_a = f_b + noise[0], f_a + noise[1]
    s = (1 - theta_t) * r_b + theta_t * r_a
    if layer.soma_noise:
        s = s + noise[2]

    synapses, traces = _learn_layer(
        state, layer, s, {"basal": (r_b, slope_b), "apical": (r_a, slope_a)}, dt_s
    )
    loss, k = jnp.mean(jnp.abs(r_b - r_a)), dt_s / LOSS_TIME_S
    low_passed = (1 - k) * state.losses[layer.name] + k * loss
    loss = jnp.where(state.step > loss_from_step, low_passed, loss)
    state = state._replace(
        rates={**state.rates, layer.name: s},
        noise={**state.noise, layer.name: noise},
        synapses=synapses,
        traces=traces,
        losses={**state.losses, layer.name: loss},
    )
    return state, Rates(r_b, r_a, s)


def layer_noise(noise: jax.Array, draws: jax.Array, layer: Pyramidal, *, dt_s: float) -> jax.Array:
    """Ornstein-Uhlenbeck noise of a layer: n += -n dt/T + sigma sqrt(2 dt/T) N(0, 1).

    noise, draws [2, unit] (basal, apical dendrite), or [3, unit] with the soma -> the same shape.
    """

    def advanced(rows: slice, sigmas: tuple[float, ...], time_s: float) -> jax.Array:
        kappa = dt_s / time_s
        sigma = jnp.asarray([[sigma] for sigma in sigmas]) * (2 * kappa) ** 0.5
        return (1 - kappa) * noise[rows] + sigma * draws[rows]

    of_dendrites = advanced(slice(2), (layer.basal_noise, layer.apical_noise), NOISE_TIME_S)
    if not layer.soma_noise:
        return of_dendrites
    of_soma = advanced(slice(2, 3), (layer.soma_noise,), SOMA_NOISE_TIME_S)
    return jnp.concatenate([of_dendrites, of_soma])


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


def _learn_layer(
    state: CircuitState,
    layer: Pyramidal,
    soma: jax.Array,
    dendrites: Mapping[str, tuple[jax.Array, jax.Array]],
    dt_s: float,
) -> tuple[dict[str, Synapses], dict[str, Synapses]]:
    """All synapses and traces, after learning into a layer. dendrites {part: (rate, slope)}."""
    synapses, traces = dict(state.synapses), dict(state.traces)
    for part, (rate, slope) in dendrites.items():
        for projection in getattr(layer, part):
            if projection.learning_rate:
                name, x = f"{layer.name}/{part}/{projection.source}", state.rates[projection.source]
                synapses[name], traces[name] = _learn(
                    projection, synapses[name], traces[name], x, soma, rate, slope, dt_s
                )
    return synapses, traces


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

    def learn_weights(
        weights: jax.Array, trace: jax.Array, x: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
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

    weights, weights_trace = learn_weights(synapses.weights, trace.weights, x)
    bias, bias_trace = None, None
    if synapses.bias is not None and trace.bias is not None:
        column = learn_weights(synapses.bias[:, None], trace.bias[:, None], jnp.ones(1, x.dtype))
        bias, bias_trace = (values[:, 0] for values in column)
    return Synapses(weights, bias), Synapses(weights_trace, bias_trace)
