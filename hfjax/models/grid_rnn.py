"""A recurrent network that learns to path-integrate, and whose units become spatial cells.

The network gets the place code of a start and then the displacement of each step. It is trained to
give the place code along the walk.

Source: Sorscher, Mel, Ganguli & Ocko, NeurIPS 2019, and Sorscher et al., Neuron 2023; their
repository grid-pattern-formation.
"""

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec

from hfjax import arena, cells, check, networks
from hfjax.models import path_integration
from hfjax.models.path_integration import EvaluationSettings, Integrator, World
from hfjax.task import Init, Metric, Scalars, Task, declares, logged

# --- Recurrent networks ---


class NetworkInit(Protocol):
    """(key, *, num_in, num_units) -> params."""

    def __call__(self, key: jax.Array, /, *, num_in: int, num_units: int) -> Any:
        """Initial parameters of a recurrent network."""


class NetworkApply(Protocol):
    """(params, starts [batch, num_starts * unit], inputs [batch, time, in]) -> hidden."""

    def __call__(self, params: Any, starts: jax.Array, inputs: jax.Array, /) -> jax.Array:
        """Hidden activity [batch, time, unit]."""


class NetworkWeights(Protocol):
    """(params) -> a matrix of recurrent weights, (from, to)."""

    def __call__(self, params: Any, /) -> jax.Array:
        """The matrix."""


class RecurrentNetwork(NamedTuple):
    """A recurrent network as functions; made by `vanilla` or `lstm`.

    num_starts: how many vectors of [unit] the network starts from.
    recurrent (params) -> all recurrent weights [unit, ...], on which the weight decay acts.
    weights (params) -> the recurrent weights [unit, unit] that are analysed.
    """

    init: NetworkInit
    num_starts: int
    apply: NetworkApply
    recurrent: NetworkWeights
    weights: NetworkWeights


def vanilla(
    *,
    nonlinearity: networks.Nonlinearity = networks.relu,
    recurrent_init: networks.RecurrentInit = networks.uniform_fan_in,
    input_gain: float = 1.0,
    bias: bool = False,
) -> RecurrentNetwork:
    """h_t = f(v_t W_i + h_tm1 W_h), without biases, as published; see `networks.rnn_init`.

    nonlinearity    nonlinearity f of the units.
    recurrent_init  draws the initial recurrent weights W_h.
    input_gain      factor of the initial input weights W_i.
    bias            whether units have a bias: weights of one more input, which is always 1.
    """
    check.positive(input_gain=input_gain)
    init = partial(networks.rnn_init, recurrent_init=recurrent_init, input_gain=input_gain)
    apply = partial(networks.rnn, nonlinearity=nonlinearity)

    def init_with_bias(key: jax.Array, /, *, num_in: int, num_units: int) -> networks.RNNParams:
        return init(key, num_in=num_in + 1, num_units=num_units)

    def apply_with_bias(params: Any, starts: jax.Array, inputs: jax.Array, /) -> jax.Array:
        ones = jnp.ones_like(inputs[..., :1])
        return apply(params, starts, jnp.concatenate([inputs, ones], axis=-1))

    return RecurrentNetwork(
        init=init_with_bias if bias else init,
        num_starts=1,
        apply=apply_with_bias if bias else apply,
        recurrent=lambda params: params.recurrent,
        weights=lambda params: params.recurrent,
    )


def lstm() -> RecurrentNetwork:
    """A long short-term memory. The analysed weights are those from h to the new content g.

    The original code names this option and does not have it. The start of both h and c is read
    from the place code, as in its `square_grid_cells.ipynb`.
    """

    def init(key: jax.Array, *, num_in: int, num_units: int) -> Any:
        starts, inputs = jnp.zeros((1, 2 * num_units)), jnp.zeros((1, 1, num_in))
        return networks.LSTM(num_units).init(key, starts, inputs)["params"]

    def apply(params: Any, starts: jax.Array, inputs: jax.Array) -> jax.Array:
        module = networks.LSTM(starts.shape[-1] // 2)
        hidden: jax.Array = module.apply({"params": params}, starts, inputs)  # type: ignore[assignment]
        return hidden

    return RecurrentNetwork(
        init=init,
        num_starts=2,
        apply=apply,
        recurrent=networks.lstm_recurrent,
        weights=lambda params: params["cell"]["hg"]["kernel"],
    )


# --- The task ---


class Params(NamedTuple):
    """encoder W_e [place, starts * unit], the network's own, decoder W_d [unit, place]."""

    encoder: jax.Array
    network: Any
    decoder: jax.Array


class State(NamedTuple):
    """What a checkpoint holds. place_centres [place, 2] (m) are drawn anew for each seed."""

    params: Params
    opt_state: Any
    place_centres: jax.Array


# Devices that share a wide network each hold the weights from, and to, their part of the units.
SHARDING = MappingProxyType(
    {
        "*.network.recurrent": PartitionSpec("model"),
        "*.network.inputs": PartitionSpec(None, "model"),
        "*.encoder": PartitionSpec(None, "model"),
        "*.decoder": PartitionSpec("model"),
    }
)


class WeightInit(Protocol):
    """(key, *, num_in, num_out) -> weights [in, out], as `networks.linear_init`."""

    def __call__(self, key: jax.Array, /, *, num_in: int, num_out: int) -> jax.Array:
        """Initial weights of a linear layer."""


class Objective(Protocol):
    """(outputs [..., place], code [..., place]) -> loss [...]."""

    def __call__(self, outputs: jax.Array, code: jax.Array, /) -> jax.Array:
        """The loss of outputs where the code is the target."""


class Penalty(Protocol):
    """(params of the network, step) -> (addition to the loss, scalars by name)."""

    def __call__(self, params: Any, step: Any, /) -> tuple[jax.Array, Scalars]:
        """A penalty on the network's own parameters; step: updates so far, None if not counted."""


class Layers(NamedTuple):
    """The network and its two linear layers: from place cells, and to place cells.

    encoder_gain multiplies the encoder's initial weights.
    """

    network: RecurrentNetwork
    num_units: int
    num_place: int
    encoder_init: WeightInit
    encoder_gain: float
    decoder_init: WeightInit


# encoder [place, unit], inputs [2, unit], recurrent [unit, unit], decoder [unit, place], and
# place_centres [place, 2] (m), as `data.grid_weights` returns them.
Weights = Mapping[str, Any]


class Loss(NamedTuple):
    """The terms of the loss; see `task`."""

    objective: Objective
    weight_decay: float
    readout_decay: float
    activity_decay: float
    penalty: Penalty | None


class WarmUp(NamedTuple):
    """Short walks at first.

    num_steps    the first time steps of each walk that are seen.
    num_updates  updates for which that holds.
    """

    num_steps: int
    num_updates: int


@declares({"loss": Metric("squared error", measure="squared error, sum over cells")})
def squared_error(outputs: jax.Array, code: jax.Array) -> jax.Array:
    """sum_i (outputs_i - p_i)^2: [..., place] twice -> [...].

    For codes that can be negative: their cross-entropy has no lower bound.
    """
    return jnp.sum((outputs - code) ** 2, axis=-1)


def task(
    *,
    num_grid: int = 4096,
    num_place: int = 512,
    sigma_m: float = 0.12,
    batch_size: int = 200,
    num_steps: int = 20,
    dt_s: float = 0.02,
    optimizer: optax.GradientTransformation | None = None,
    weight_decay: float = 1e-4,
    readout_decay: float = 0.0,
    activity_decay: float = 0.0,
    encoder_gain: float = 1.0,
    network: RecurrentNetwork | None = None,
    box: path_integration.Box | None = None,
    motion: path_integration.Motion = arena.sorscher_walk,
    encoder_init: WeightInit = networks.linear_init,
    decoder_init: WeightInit = networks.linear_init,
    place_centres: cells.PlaceCentres = cells.place_centres,
    place_code: path_integration.PlaceCode = cells.softmax_surround,
    objective: Objective = path_integration.cross_entropy,
    weights: Weights | None = None,
    warm_up: WarmUp | None = None,
    evaluation: EvaluationSettings | None = None,
) -> Task:
    """Path integration from displacements to place cells, as a Task.

    h_0 = p_0 W_e;  h_t = f(v_t W_i + h_tm1 W_h);  y_t = h_t W_d
    loss = mean over batch and time of objective(y_t, p_t) + weight_decay sum W_h^2
           + readout_decay sum W_d^2 + activity_decay mean h_t^2.
    p_t [batch, place] is the place code at the position of step t, v_t [batch, 2] the displacement
    in metres. Weights start uniform in +-1/sqrt(fan in), the encoder's times encoder_gain.

    num_grid        recurrent units.
    num_place       place cells, 3 or more.
    sigma_m         width of the place fields (m).
    batch_size      walks in a training step.
    num_steps       time steps of a training walk.
    dt_s            duration of a time step (s).
    optimizer       optax optimizer; None for Adam with learning rate 1e-4.
    weight_decay    factor of the squared recurrent weights in the loss.
    readout_decay   factor of the squared decoder weights in the loss.
    activity_decay  factor of the mean squared activity of the units in the loss.
    encoder_gain    factor of the initial weights from place cells to units.
    network         recurrent network; None for `vanilla()`.
    box             where the animal walks; None for `walled_box()`.
    motion          draws the walks, as `arena.sorscher_walk` does.
    encoder_init    initial weights from place cells to units.
    decoder_init    initial weights from units to place cells.
    place_centres   draws the centres of the place fields, as `cells.place_centres` does.
    place_code      rates of the place cells at a position, as `cells.softmax_surround` gives them.
    objective       loss of outputs where the place code is the target.
    weights         trained weights of the original, and its place cells, from which to start, as
                    `data.grid_weights` returns them; None to draw them.
    warm_up         short walks at first; None for whole walks from the start.
    evaluation      how much is evaluated; None for the defaults of `EvaluationSettings`.

    `data` is () or what `recordings.sargolini` returns. Evaluation: `path_integration.evaluate`.

    step's scalars: loss; code_loss, the loss without decays; error_cm, the mean distance between
    true and decoded positions (at five steps evenly spread, of walks of ten or more).
    Raises ValueError where a size is below 1, or a width, a time or a gain is not positive, a
    decay is negative, weights have other sizes or another network than the task, or the walks of
    warm_up are longer than the others.

    Source: grid-pattern-formation `main`, `model`, `trainer`; the defaults are its published
    values. It has no readout_decay and no activity_decay (0 here), and no warm_up. Deviations:
    place centres are uniform with another generator, and differ between seeds; evaluation walks are
    held out by their keys.
    """
    check.at_least(1, num_grid=num_grid)
    network, box = network or vanilla(), box or path_integration.walled_box()
    drawn = assemble(
        layers=Layers(network, num_grid, num_place, encoder_init, encoder_gain, decoder_init),
        world=World(box, motion, dt_s, place_centres, place_code, sigma_m),
        loss=Loss(objective, weight_decay, readout_decay, activity_decay, penalty=None),
        optimizer=optimizer or optax.adam(1e-4),
        batch_size=batch_size,
        num_steps=num_steps,
        evaluation=evaluation or EvaluationSettings(),
        warm_up=warm_up,
    )
    if weights is None:
        return drawn
    check_weights(weights, network, num_grid=num_grid, num_place=num_place)
    return drawn._replace(init=partial(init_from_weights, init=drawn.init, weights=weights))


def assemble(
    *,
    layers: Layers,
    world: World,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    batch_size: int,
    num_steps: int,
    evaluation: EvaluationSettings,
    warm_up: WarmUp | None = None,
) -> Task:
    """The Task of a network in a world: what `grid_rnn.task` and `topo_grid.task` share.

    Raises ValueError where `task` does.
    """
    path_integration.check_settings(evaluation)
    path_integration.check_world(world)
    path_integration.check_num_place(layers.num_place)
    check.at_least(1, batch_size=batch_size, num_steps=num_steps)
    check.positive(encoder_gain=layers.encoder_gain)
    check.not_negative(
        weight_decay=loss.weight_decay,
        readout_decay=loss.readout_decay,
        activity_decay=loss.activity_decay,
    )
    if warm_up is not None:
        check_warm_up(warm_up, num_steps=num_steps, optimizer=optimizer)
    network = layers.network
    integrator = Integrator(
        forward=lambda state, walk: forward(
            state.params, state.place_centres, walk, network=network, world=world
        ),
        weights=lambda state: network.weights(state.params.network),
        num_units=layers.num_units,
        world=world,
    )
    return Task(
        init=partial(init, layers=layers, world=world, optimizer=optimizer),
        sample=partial(
            path_integration.sample, world=world, batch_size=batch_size, num_steps=num_steps
        ),
        step=partial(
            step, network=network, world=world, loss=loss, optimizer=optimizer, warm_up=warm_up
        ),
        evaluate=partial(path_integration.evaluate, integrator=integrator, settings=evaluation),
        figures=path_integration.draw,
        metrics=logged(
            step=step_metrics(num_steps, loss.objective),
            evaluation=path_integration.metrics(world, evaluation),
        ),
        apply=partial(path_integration.apply, integrator=integrator, num_steps=num_steps),
        dt_s=world.dt_s,
        decode=partial(path_integration.decode, integrator=integrator, num_steps=num_steps),
        sharding=SHARDING,
    )


def step_metrics(num_steps: int, objective: Objective) -> dict[str, Metric]:
    """What the scalars of `step` mean, but for those of a penalty."""
    losses = {"loss": "loss", "code_loss": "loss without decays and penalties"}
    return {
        **path_integration.loss_metrics(losses, objective),
        "error_cm": path_integration.training_error(num_steps),
    }


def check_warm_up(
    warm_up: WarmUp, *, num_steps: int, optimizer: optax.GradientTransformation
) -> None:
    """Raise ValueError where walks are not shorter, or updates are not counted."""
    check.at_least(1, num_steps=warm_up.num_steps, num_updates=warm_up.num_updates)
    if warm_up.num_steps > num_steps:
        raise ValueError(
            f"warm_up.num_steps must be at most num_steps, {num_steps}, but is {warm_up.num_steps}"
        )
    if count_updates(optimizer.init(())) is None:
        raise ValueError("warm_up needs an optimizer that counts its updates, as Adam does")


def init(
    key: jax.Array,
    data: Any,
    /,
    *,
    layers: Layers,
    world: World,
    optimizer: optax.GradientTransformation,
) -> State:
    """The state before training."""
    del data
    encoder_key, network_key, decoder_key, place_key = jax.random.split(key, 4)
    network, num_units, num_place = layers.network, layers.num_units, layers.num_place
    encoder = layers.encoder_init(
        encoder_key, num_in=num_place, num_out=network.num_starts * num_units
    )
    params = Params(
        encoder=layers.encoder_gain * encoder,
        network=network.init(network_key, num_in=2, num_units=num_units),
        decoder=layers.decoder_init(decoder_key, num_in=num_units, num_out=num_place),
    )
    centres = path_integration.draw_centres(world, place_key, num_place=num_place)
    return State(params, optimizer.init(params), centres)


def init_from_weights(key: jax.Array, data: Any, /, *, init: Init, weights: Weights) -> State:
    """The state of `init`, with these weights and place cells in place of its own."""
    state: State = init(key, data)
    w = {name: jnp.asarray(array) for name, array in weights.items()}
    network = networks.RNNParams(w["inputs"], w["recurrent"])
    return state._replace(
        params=Params(w["encoder"], network, w["decoder"]), place_centres=w["place_centres"]
    )


def check_weights(
    weights: Weights, network: RecurrentNetwork, *, num_grid: int, num_place: int
) -> None:
    """Raise ValueError where weights have other sizes, or are of another network."""
    params = jax.eval_shape(partial(network.init, num_in=2, num_units=num_grid), jax.random.key(0))
    if not isinstance(params, networks.RNNParams):
        raise ValueError("the original's weights are those of a vanilla network: use vanilla")
    theirs = weights["encoder"].shape
    if theirs != (num_place, num_grid):
        raise ValueError(
            f"the weights have num_place={theirs[0]} and num_grid={theirs[1]}, but the task has "
            f"{num_place} and {num_grid}"
        )


def forward(
    params: Params,
    centres: jax.Array,
    walk: arena.Walk,
    *,
    network: RecurrentNetwork,
    world: World,
) -> tuple[jax.Array, jax.Array]:
    """Hidden activity [batch, time, unit] and outputs [batch, time, place] along walks."""
    starts = networks.linear(params.encoder, path_integration.code(world, walk.start, centres))
    hidden = network.apply(params.network, starts, walk.displacements)
    return hidden, networks.linear(params.decoder, hidden)


def total_loss(
    params: Params,
    centres: jax.Array,
    walk: arena.Walk,
    updates: jax.Array | None = None,
    *,
    network: RecurrentNetwork,
    world: World,
    loss: Loss,
) -> tuple[jax.Array, tuple[jax.Array, Scalars]]:
    """-> the loss; the outputs [batch, time, place], and the scalars of a step but the error."""
    hidden, outputs = forward(params, centres, walk, network=network, world=world)
    targets = path_integration.code(world, walk.positions, centres)
    code_loss = jnp.mean(loss.objective(outputs, targets))
    total = code_loss + loss.weight_decay * jnp.sum(network.recurrent(params.network) ** 2)
    if loss.readout_decay:
        total += loss.readout_decay * jnp.sum(params.decoder**2)
    if loss.activity_decay:
        total += loss.activity_decay * jnp.mean(hidden**2)
    reports: Scalars = {}
    if loss.penalty is not None:
        added, reports = loss.penalty(params.network, updates)
        total += added
    return total, (outputs, {"loss": total, "code_loss": code_loss, **reports})


def count_updates(opt_state: Any) -> jax.Array | None:
    """How many updates an optimizer has made; None where it does not count, as plain descent."""
    counts = optax.tree_utils.tree_get_all_with_path(opt_state, "count")
    return counts[0][1] if counts else None


def step(
    state: State,
    batch: arena.Walk,
    key: jax.Array,
    /,
    *,
    network: RecurrentNetwork,
    world: World,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    warm_up: WarmUp | None,
) -> tuple[State, Scalars]:
    """One update on a batch of walks, or at first on their beginnings."""
    del key
    learn = partial(update, network=network, world=world, loss=loss, optimizer=optimizer)
    if warm_up is None:
        return learn(state, batch)
    done = count_updates(state.opt_state)
    assert done is not None  # see `check_warm_up`
    begun = beginnings(batch, warm_up.num_steps)
    is_early = _of_all_seeds(done) < warm_up.num_updates
    return jax.lax.cond(is_early, lambda: learn(state, begun), lambda: learn(state, batch))


@jax.custom_batching.custom_vmap
def _of_all_seeds(done: jax.Array) -> jax.Array:
    """Updates so far, one number for a population: `cond` then computes one branch, not both."""
    return done


@_of_all_seeds.def_vmap
def _of_one_seed(axis_size: int, in_batched: list[bool], done: jax.Array) -> tuple[jax.Array, bool]:
    del axis_size
    return (done[0] if in_batched[0] else done), False


def beginnings(walk: arena.Walk, num_steps: int) -> arena.Walk:
    """The first time steps of each walk."""
    return walk._replace(
        positions=walk.positions[:, :num_steps],
        displacements=walk.displacements[:, :num_steps],
        headings=walk.headings[:, :num_steps],
    )


def update(
    state: State,
    batch: arena.Walk,
    /,
    *,
    network: RecurrentNetwork,
    world: World,
    loss: Loss,
    optimizer: optax.GradientTransformation,
) -> tuple[State, Scalars]:
    """Descend the gradient of the loss on a batch of walks."""
    params, opt_state, centres = state
    differentiate = jax.grad(
        partial(total_loss, network=network, world=world, loss=loss), has_aux=True
    )
    gradient, (outputs, scalars) = differentiate(params, centres, batch, count_updates(opt_state))
    updates, opt_state = optimizer.update(gradient, opt_state, params)
    # Decoding all of a long walk would take a tenth of a small network's time.
    stride = max(1, batch.positions.shape[1] // 5)
    some = slice(stride // 2, None, stride)
    decoded = world.box.decode(outputs[:, some], centres)
    error_cm = path_integration.distance_cm(world, batch.positions[:, some], decoded)
    scalars["error_cm"] = jnp.mean(error_cm)
    return State(optax.apply_updates(params, updates), opt_state, centres), scalars
