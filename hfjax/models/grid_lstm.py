"""An LSTM that learns to path-integrate from speed and turning.

The network of Banino et al., Nature 2018, in the small form of Sorscher et al. 2019 that gives
square grids: its outputs are place cells and head-direction cells, and spatial cells form in a
linear layer with dropout between the LSTM and these. Evaluation and figures: see `grid_rnn`.

Source: `square_grid_cells.ipynb` of the repository grid-pattern-formation.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from hfjax import arena, cells, check, networks
from hfjax.models import grid_rnn
from hfjax.task import Task


class Dense(NamedTuple):
    """A linear layer: weights [in, out], bias [out]."""

    weights: jax.Array
    bias: jax.Array


class Params(NamedTuple):
    """What is trained.

    place_start [place, 2 * unit], heading_start [cell, 2 * unit]: from the codes at the start to
    the LSTM's first h and c. linear: from h to the linear layer. outputs: from the linear layer to
    place cells and head-direction cells, two Dense.
    """

    place_start: jax.Array
    heading_start: jax.Array
    network: networks.LSTMParams
    linear: Dense
    outputs: tuple[Dense, Dense]


class State(NamedTuple):
    """What a checkpoint holds; place_centres [place, 2] (m) and preferred_headings [cell] (rad)."""

    params: Params
    opt_state: Any
    place_centres: jax.Array
    preferred_headings: jax.Array


def egocentric_inputs(walk: arena.Walk) -> jax.Array:
    """Step length (m), cosine and sine of the turn before it: a Walk -> [batch, time, 3].

    Source: the notebook's ego_v, theta_x, theta_y. Deviation: there an input holds the turn after
    the step, and the heading target is that of the next step.
    """
    before = jnp.concatenate([walk.start_heading[:, None], walk.headings[:, :-1]], axis=1)
    turn = walk.headings - before
    length = jnp.linalg.norm(walk.displacements, axis=-1)
    return jnp.stack([length, jnp.cos(turn), jnp.sin(turn)], axis=-1)


def task(
    *,
    num_units: int = 128,
    num_linear: int = 512,
    num_place: int = 256,
    num_head_direction: int = 12,
    sigma_m: float = 0.05,
    kappa: float = 20.0,
    batch_size: int = 100,
    num_steps: int = 100,
    dt_s: float = 0.02,
    learning_rate: float = 1e-2,
    weight_decay: float = 1e-5,
    dropout: float = 0.5,
    gradient_clip: float = 1e-5,
    width_m: float = 2.2,
    rollout_steps: int = 500,
    num_rollouts: int = 100,
    num_map_walks: int = 2000,
    num_bins: int = 32,
    num_noise_maps: int = 1000,
) -> Task:
    """Path integration from speed and turning to place and head-direction cells, as a Task.

    (h_0, c_0) = p_0 W_p + d_0 W_d;  h_t, c_t = LSTM(h_tm1, c_tm1, [s_t, cos a_t, sin a_t])
    g_t = h_t W_g + b_g;  y_t, z_t = two linear layers on dropout(g_t)
    loss = mean cross-entropy of softmax(y_t) with the place code p_t, and of softmax(z_t) with the
           head-direction code d_t, + weight_decay / 2 * sum of the two layers' squared weights
    Adam; the gradients of the two output layers are cut to +-gradient_clip, number by number.

    num_units: of the LSTM; num_linear: of the linear layer g, whose rate maps are shown.
    sigma_m, kappa: width of the place and concentration of the head-direction code. dropout: the
    share of g set to 0. Evaluation as in `grid_rnn.evaluation`, without dropout.

    step's scalars: loss, place_loss, head_direction_loss, error_cm, and head_direction_accuracy,
    the share of moments at which the most active head-direction cell is the right one.
    Raises ValueError where a size is below 1, or a width, a time, a rate or gradient_clip is not
    positive, kappa or weight_decay is negative, or dropout is outside [0, 1).

    Source and defaults: the notebook, with its initial weights (Glorot uniform; forget gate's bias
    1, other biases 0). Deviations: walks are drawn anew for each step, where the notebook has
    10,000 stored ones; near a wall the speed drops to a quarter of a new draw and not of the last
    speed; evaluation is without dropout; see `egocentric_inputs`.
    """
    check.at_least(
        1,
        num_units=num_units,
        num_linear=num_linear,
        num_head_direction=num_head_direction,
        batch_size=batch_size,
        num_steps=num_steps,
        rollout_steps=rollout_steps,
        num_rollouts=num_rollouts,
        num_map_walks=num_map_walks,
        num_noise_maps=num_noise_maps,
    )
    check.positive(
        sigma_m=sigma_m, dt_s=dt_s, learning_rate=learning_rate, gradient_clip=gradient_clip
    )
    if num_place < 3:
        raise ValueError(f"num_place must be at least 3 for decoding, but is {num_place}")
    check.not_negative(kappa=kappa, weight_decay=weight_decay)
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be at least 0 and below 1, but is {dropout}")

    box = grid_rnn.walled_box(width_m=width_m)
    place_code = partial(cells.softmax_gaussian, sigma_m=sigma_m)
    heading_code = partial(cells.head_direction_code, kappa=kappa)
    optimizer = optax.adam(learning_rate)

    def walks(key: jax.Array, count: int, length: int) -> arena.Walk:
        return arena.sorscher_walk(
            key, batch_size=count, num_steps=length, width_m=width_m, dt_s=dt_s
        )

    def init(key: jax.Array, data: Any) -> State:
        del data
        keys = jax.random.split(key, 8)
        params = Params(
            place_start=_two_starts(keys[0], num_place, num_units),
            heading_start=_two_starts(keys[1], num_head_direction, num_units),
            network=_lstm_init(keys[2], num_in=3, num_units=num_units),
            linear=_dense(keys[3], num_units, num_linear),
            outputs=(
                _dense(keys[4], num_linear, num_place),
                _dense(keys[5], num_linear, num_head_direction),
            ),
        )
        centres = cells.place_centres(keys[6], num_place=num_place, width_m=width_m)
        preferred = jax.random.uniform(
            keys[7], (num_head_direction,), minval=-jnp.pi, maxval=jnp.pi
        )
        return State(params, optimizer.init(params), centres, preferred)

    def sample(data: Any, key: jax.Array) -> arena.Walk:
        del data
        return walks(key, batch_size, num_steps)

    def linear_layer(params: Params, state: State, walk: arena.Walk) -> jax.Array:
        start = place_code(walk.start, state.place_centres) @ params.place_start
        start += heading_code(walk.start_heading, state.preferred_headings) @ params.heading_start
        h0, c0 = jnp.split(start, 2, axis=-1)
        h = networks.lstm(params.network, h0, c0, egocentric_inputs(walk))
        return _apply(params.linear, h)

    def forward(state: State, walk: arena.Walk):
        g = linear_layer(state.params, state, walk)
        return g, _apply(state.params.outputs[0], g)

    def loss(params: Params, state: State, walk: arena.Walk, key: jax.Array):
        g = linear_layer(params, state, walk)
        kept = jax.random.bernoulli(key, 1 - dropout, g.shape)
        g = jnp.where(kept, g / (1 - dropout), 0)
        y, z = (_apply(layer, g) for layer in params.outputs)
        place = place_code(walk.positions, state.place_centres)
        heading = heading_code(walk.headings, state.preferred_headings)
        place_loss = jnp.mean(grid_rnn.cross_entropy(y, place))
        heading_loss = jnp.mean(grid_rnn.cross_entropy(z, heading))
        decay = weight_decay / 2 * sum(jnp.sum(layer.weights**2) for layer in params.outputs)
        error_m = jnp.linalg.norm(walk.positions - box.decode(y, state.place_centres), axis=-1)
        right = jnp.argmax(z, axis=-1) == jnp.argmax(heading, axis=-1)
        total = place_loss + heading_loss + decay
        return total, {
            "loss": total,
            "place_loss": place_loss,
            "head_direction_loss": heading_loss,
            "error_cm": 100 * jnp.mean(error_m),
            "head_direction_accuracy": jnp.mean(right),
        }

    def step(state: State, batch: arena.Walk, key: jax.Array):
        gradient, scalars = jax.grad(loss, has_aux=True)(state.params, state, batch, key)
        gradient = gradient._replace(
            outputs=jax.tree.map(
                lambda g: jnp.clip(g, -gradient_clip, gradient_clip), gradient.outputs
            )
        )
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return state._replace(params=params, opt_state=opt_state), scalars

    evaluate = grid_rnn.evaluation(
        forward=forward,
        weights=lambda state: None,  # the linear layer's units do not project to each other
        num_units=num_linear,
        code=place_code,
        walks=walks,
        box=box,
        dt_s=dt_s,
        num_steps=num_steps,
        rollout_steps=rollout_steps,
        num_rollouts=num_rollouts,
        num_map_walks=num_map_walks,
        num_bins=num_bins,
        num_noise_maps=num_noise_maps,
    )
    return Task(init, sample, step, evaluate, grid_rnn.draw)


def _glorot(key: jax.Array, num_in: int, num_out: int) -> jax.Array:
    return jax.nn.initializers.glorot_uniform()(key, (num_in, num_out))


def _two_starts(key: jax.Array, num_in: int, num_units: int) -> jax.Array:
    return jnp.concatenate([_glorot(k, num_in, num_units) for k in jax.random.split(key)], axis=1)


def _dense(key: jax.Array, num_in: int, num_out: int) -> Dense:
    return Dense(_glorot(key, num_in, num_out), jnp.zeros(num_out))


def _apply(layer: Dense, x: jax.Array) -> jax.Array:
    return networks.linear(layer.weights, x) + layer.bias.reshape((1,) * (x.ndim - 1) + (-1,))


def _lstm_init(key: jax.Array, *, num_in: int, num_units: int) -> networks.LSTMParams:
    """One Glorot draw for inputs and recurrence together, and an open forget gate."""
    kernel = _glorot(key, num_in + num_units, 4 * num_units)
    bias = jnp.zeros(4 * num_units).at[num_units : 2 * num_units].set(1.0)
    return networks.LSTMParams(kernel[:num_in], kernel[num_in:], bias)
