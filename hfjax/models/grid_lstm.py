"""An LSTM that learns to path-integrate from speed and turning.

The network of Banino et al., Nature 2018, in the small form of Sorscher et al. 2019 that gives
square grids. Its outputs are place cells and head-direction cells. Spatial cells form in a linear
layer with dropout between the LSTM and the outputs. Evaluation and figures: `path_integration`.

Source: `square_grid_cells.ipynb` of the repository grid-pattern-formation.
"""

from functools import partial
from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from matplotlib.figure import Figure

from hfjax import arena, cells, check, figures, networks, ratemaps
from hfjax.models import path_integration
from hfjax.models.path_integration import EvaluationSettings, Integrator, World
from hfjax.task import HostReadout, Metric, Readout, Scalars, Task, logged

OUTPUT_LAYERS = ("place", "head_direction")


class State(NamedTuple):
    """What a checkpoint holds; place_centres [place, 2] (m) and preferred_headings [cell] (rad).

    params: those of `GridLSTM`.
    """

    params: Any
    opt_state: Any
    place_centres: jax.Array
    preferred_headings: jax.Array


class HeadingCode(Protocol):
    """(headings [...], preferred [cell]) (rad) -> rates [..., cell]."""

    def __call__(self, headings: jax.Array, preferred: jax.Array, /) -> jax.Array:
        """The head-direction code."""


class Run(Protocol):
    """(params, state, walk, dropout key or none) -> g, y, z of `GridLSTM` along walks."""

    def __call__(
        self, params: Any, state: State, walk: arena.Walk, key: jax.Array | None = None, /
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Run the network."""


class TotalLoss(Protocol):
    """(params, state, walk, key) -> the loss, and the scalars of a step."""

    def __call__(
        self, params: Any, state: State, walk: arena.Walk, key: jax.Array, /
    ) -> tuple[jax.Array, Scalars]:
        """The loss of a batch."""


class GridLSTM(nn.Module):
    """LSTM, linear layer with dropout, and two linear output layers.

    (h_0, c_0) = p_0 W_p + d_0 W_d;  h_t, c_t = LSTM(h_tm1, c_tm1, v_t)
    g_t = h_t W_g + b_g;  y_t, z_t = two linear layers on dropout(g_t)

    place p_0 [batch, place], heading d_0 [batch, cell]: codes at the start; inputs v
    [batch, time, 3] -> g [batch, time, linear], y [batch, time, place], z [batch, time, cell].
    With `training`, dropout draws from the random stream "dropout".
    Initial weights as in the notebook, which has those of TensorFlow 1: Glorot uniform (the LSTM's
    for inputs and recurrence together); forget gate's bias 1, other biases 0.
    """

    num_units: int
    num_linear: int
    num_place: int
    num_head_direction: int
    dropout: float

    @nn.compact
    def __call__(
        self, place: jax.Array, heading: jax.Array, inputs: jax.Array, *, training: bool
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Run along walks."""
        glorot = nn.initializers.glorot_uniform()

        def start(name: str, code: jax.Array) -> jax.Array:
            halves = nn.Dense(
                2 * self.num_units, use_bias=False, kernel_init=_glorot_halves, name=name
            )
            return halves(code)

        def dense(name: str, size: int, x: jax.Array) -> jax.Array:
            # One leading axis: see `networks.linear`.
            flat = nn.Dense(size, kernel_init=glorot, name=name)(x.reshape(-1, x.shape[-1]))
            return flat.reshape(*x.shape[:-1], size)

        starts = start("place_start", place) + start("head_direction_start", heading)
        bound = (6 / (inputs.shape[-1] + self.num_units + 4 * self.num_units)) ** 0.5
        lstm = networks.LSTM(self.num_units, bound, nn.initializers.zeros, name="lstm")
        g = dense("linear", self.num_linear, lstm(starts, inputs))
        kept = nn.Dropout(self.dropout, deterministic=not training)(g)
        y = dense("place", self.num_place, kept)
        return g, y, dense("head_direction", self.num_head_direction, kept)


def _glorot_halves(key: jax.Array, shape: tuple[int, int], dtype: Any = jnp.float32) -> jax.Array:
    """Glorot-uniform weights of two layers side by side: those to h_0 and those to c_0."""
    bound = (6 / (shape[0] + shape[1] // 2)) ** 0.5
    return networks.symmetric_uniform(bound)(key, shape, dtype)


def egocentric_inputs(walk: arena.Walk) -> jax.Array:
    """Step length (m), cosine and sine of the turn before it: a Walk -> [batch, time, 3].

    Source: the notebook's ego_v, theta_x, theta_y. Deviation: there an input holds the turn after
    the step, and the heading target is that of the next step.
    """
    before = jnp.concatenate([walk.start_heading[:, None], walk.headings[:, :-1]], axis=1)
    turn = walk.headings - before
    length = jnp.linalg.norm(walk.displacements, axis=-1)
    return jnp.stack([length, jnp.cos(turn), jnp.sin(turn)], axis=-1)


def clip_output_gradients(*, max_delta: float = 1e-5) -> optax.GradientTransformation:
    """Clip the gradients of the two output layers, number by number.

    max_delta: largest magnitude of a number of the gradient.
    Part of the published method; for `optax.chain`. Raises ValueError where max_delta is not
    positive.
    """
    check.positive(max_delta=max_delta)

    def of_output_layers(params: Any) -> Any:
        return {
            name: jax.tree.map(lambda _, clipped=name in OUTPUT_LAYERS: clipped, layer)
            for name, layer in params.items()
        }

    return optax.masked(optax.clip(max_delta), of_output_layers)


def published_optimizer() -> optax.GradientTransformation:
    """Adam with learning rate 1e-2 after `clip_output_gradients`."""
    return optax.chain(clip_output_gradients(), optax.adam(1e-2))


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
    optimizer: optax.GradientTransformation | None = None,
    weight_decay: float = 1e-5,
    dropout: float = 0.5,
    width_m: float = 2.2,
    evaluation: EvaluationSettings | None = None,
) -> Task:
    """Path integration from speed and turning to place and head-direction cells, as a Task.

    loss = mean cross-entropy of softmax(y_t) with the place code p_t, and of softmax(z_t) with the
           head-direction code d_t, + weight_decay / 2 * sum of the two layers' squared weights
    y_t, z_t: the outputs of `GridLSTM` on inputs [s_t, cos a_t, sin a_t] (`egocentric_inputs`).

    num_units           units of the LSTM.
    num_linear          units of the linear layer g, whose rate maps are shown.
    num_place           place cells, 3 or more.
    num_head_direction  head-direction cells.
    sigma_m             width of the place fields (m).
    kappa               concentration of the head-direction code; its width is about kappa^-1/2 rad.
    batch_size          walks in a training step.
    num_steps           time steps of a training walk.
    dt_s                duration of a time step (s).
    optimizer           optax optimizer; None for `published_optimizer()`.
    weight_decay        factor of half the squared weights of the two output layers in the loss.
    dropout             share of g that is set to 0 in training.
    width_m             side of the box (m).
    evaluation          how much is evaluated; None for 2000 walks of num_steps and maps of 32 x 32
                        bins.

    Evaluation: `evaluate`.
    step's scalars: loss, place_loss, head_direction_loss, error_cm; place_accuracy and
    head_direction_accuracy, the shares of moments at which the most active cell is the right one.
    Raises ValueError where a size is below 1, or a width or a time is not positive, kappa or
    weight_decay is negative, or dropout is outside [0, 1).

    Source and defaults: the notebook. Deviations: walks are drawn anew for each step, where the
    notebook has 10,000 stored ones; near a wall the speed drops to a quarter of a new draw and not
    of the last speed; evaluation is without dropout; see `egocentric_inputs`.
    """
    check.at_least(1, batch_size=batch_size, num_steps=num_steps)
    check.not_negative(kappa=kappa, weight_decay=weight_decay)
    network = GridLSTM(num_units, num_linear, num_place, num_head_direction, dropout)
    return assemble(
        network=network,
        world=World(
            box=path_integration.walled_box(width_m=width_m),
            motion=arena.sorscher_walk,
            dt_s=dt_s,
            place_centres=cells.place_centres,
            place_code=cells.softmax_gaussian,
            sigma_m=sigma_m,
        ),
        heading_code=partial(cells.head_direction_code, kappa=kappa),
        weight_decay=weight_decay,
        optimizer=optimizer or published_optimizer(),
        batch_size=batch_size,
        num_steps=num_steps,
        evaluation=evaluation or EvaluationSettings(num_steps, num_map_walks=2000, num_bins=32),
    )


def check_network(network: GridLSTM) -> None:
    """Raise ValueError where a size is below 1, or the dropout outside [0, 1)."""
    check.at_least(
        1,
        num_units=network.num_units,
        num_linear=network.num_linear,
        num_head_direction=network.num_head_direction,
    )
    check.below_one(dropout=network.dropout)
    path_integration.check_num_place(network.num_place)


def assemble(
    *,
    network: GridLSTM,
    world: World,
    heading_code: HeadingCode,
    weight_decay: float,
    optimizer: optax.GradientTransformation,
    batch_size: int,
    num_steps: int,
    evaluation: EvaluationSettings,
) -> Task:
    """The Task of a network in a world. Raises ValueError where `task` does."""
    check_network(network)
    path_integration.check_world(world)
    path_integration.check_settings(evaluation)
    run = partial(forward, network=network, world=world, heading_code=heading_code)
    integrator = Integrator(
        forward=lambda state, walk: run(state.params, state, walk)[:2],
        weights=lambda state: None,  # the linear layer's units do not project to each other
        num_units=network.num_linear,
        world=world,
    )
    loss = partial(
        total_loss, run=run, heading_code=heading_code, world=world, weight_decay=weight_decay
    )
    return Task(
        init=partial(init, network=network, world=world, optimizer=optimizer),
        sample=partial(
            path_integration.sample, world=world, batch_size=batch_size, num_steps=num_steps
        ),
        step=partial(step, loss=loss, optimizer=optimizer),
        evaluate=partial(evaluate, integrator=integrator, settings=evaluation),
        figures=draw,
        metrics=logged(
            step=step_metrics(num_steps, network=network),
            evaluation=path_integration.metrics(world, evaluation) | square_metrics(),
        ),
        apply=partial(path_integration.apply, integrator=integrator, num_steps=num_steps),
        dt_s=world.dt_s,
        decode=partial(path_integration.decode, integrator=integrator, num_steps=num_steps),
    )


def step_metrics(num_steps: int, *, network: GridLSTM) -> dict[str, Metric]:
    """What the scalars of `step` mean."""
    losses = {
        "loss": "loss",
        "place_loss": "loss of place cells",
        "head_direction_loss": "loss of head-direction cells",
    }

    def right(cells: str, number: int) -> Metric:
        return Metric(
            f"right {cells} cell",
            "% of time steps",
            "training",
            "higher",
            level=("chance", 1 / number),
            panel=f"The most active {cells} cell is the right one",
        )

    return {
        **path_integration.loss_metrics(losses, path_integration.cross_entropy),
        "error_cm": path_integration.training_error(num_steps),
        "place_accuracy": right("place", network.num_place),
        "head_direction_accuracy": right("head-direction", network.num_head_direction),
    }


def init(
    key: jax.Array,
    data: Any,
    /,
    *,
    network: GridLSTM,
    world: World,
    optimizer: optax.GradientTransformation,
) -> State:
    """The state before training."""
    del data
    network_key, place_key, heading_key = jax.random.split(key, 3)
    place = jnp.zeros((1, network.num_place))
    heading = jnp.zeros((1, network.num_head_direction))
    variables = network.init(network_key, place, heading, jnp.zeros((1, 1, 3)), training=False)
    params = variables["params"]
    forget_gate = params["lstm"]["cell"]["hf"]
    forget_gate["bias"] = jnp.ones_like(forget_gate["bias"])  # open at first
    centres = path_integration.draw_centres(world, place_key, num_place=network.num_place)
    preferred = jax.random.uniform(
        heading_key, (network.num_head_direction,), minval=-jnp.pi, maxval=jnp.pi
    )
    return State(params, optimizer.init(params), centres, preferred)


def forward(
    params: Any,
    state: State,
    walk: arena.Walk,
    dropout_key: jax.Array | None = None,
    *,
    network: GridLSTM,
    world: World,
    heading_code: HeadingCode,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """g, y, z of `GridLSTM` along walks; with dropout where dropout_key is given.

    state gives the preferred places and directions of the codes.
    """
    outputs: Any = network.apply(
        {"params": params},
        path_integration.code(world, walk.start, state.place_centres),
        heading_code(walk.start_heading, state.preferred_headings),
        egocentric_inputs(walk),
        training=dropout_key is not None,
        rngs=None if dropout_key is None else {"dropout": dropout_key},
    )
    return outputs


def total_loss(
    params: Any,
    state: State,
    walk: arena.Walk,
    key: jax.Array,
    *,
    run: Run,
    heading_code: HeadingCode,
    world: World,
    weight_decay: float,
) -> tuple[jax.Array, Scalars]:
    """-> the loss, and the scalars of a step."""
    _, y, z = run(params, state, walk, key)
    place = path_integration.code(world, walk.positions, state.place_centres)
    heading = heading_code(walk.headings, state.preferred_headings)
    place_loss = jnp.mean(path_integration.cross_entropy(y, place))
    heading_loss = jnp.mean(path_integration.cross_entropy(z, heading))
    squares = [jnp.sum(params[name]["kernel"] ** 2) for name in OUTPUT_LAYERS]
    total = place_loss + heading_loss + weight_decay / 2 * sum(squares)
    decoded = world.box.decode(y, state.place_centres)
    right = [
        jnp.mean(jnp.argmax(output, axis=-1) == jnp.argmax(target, axis=-1))
        for output, target in ((y, place), (z, heading))
    ]
    return total, {
        "loss": total,
        "place_loss": place_loss,
        "head_direction_loss": heading_loss,
        "error_cm": jnp.mean(path_integration.distance_cm(world, walk.positions, decoded)),
        "place_accuracy": right[0],
        "head_direction_accuracy": right[1],
    }


def step(
    state: State,
    batch: arena.Walk,
    key: jax.Array,
    /,
    *,
    loss: TotalLoss,
    optimizer: optax.GradientTransformation,
) -> tuple[State, Scalars]:
    """One update on a batch of walks."""
    gradient, scalars = jax.grad(loss, has_aux=True)(state.params, state, batch, key)
    updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return state._replace(params=params, opt_state=opt_state), scalars


# --- Square grids ---

SQUARE_SCORE = 0.3  # 90-degree grid score above which maps are counted


def square_metrics() -> dict[str, Metric]:
    """What the scalars of square grids mean."""
    name = f"square_share_above_{SQUARE_SCORE}"
    share = Metric(
        f"square grid score above {SQUARE_SCORE}",
        "% of units",
        panel="Share of units above a 90-degree score",
    )
    noise = Metric("smooth noise", "% of units", role="control", of=name)
    return {name: share, f"square_noise_share_above_{SQUARE_SCORE}": noise}


def evaluate(
    state: State,
    data: Any,
    key: jax.Array,
    /,
    *,
    integrator: Integrator,
    settings: EvaluationSettings,
) -> tuple[Scalars, Readout]:
    """`path_integration.evaluate`, and how square the grids are: this network is known for these.

    -> also scalars square_share_above_0.3, of the 90-degree score, and its control
    square_noise_share_above_0.3; readout square_units [best] and square_maps (smoothed), those
    with the highest of these scores.
    """
    scalars, readout = path_integration.evaluate(
        state, data, key, integrator=integrator, settings=settings
    )
    score, noise = readout["grid_score_90"], readout["noise_grid_score_90"]
    best = jnp.argsort(-score)[: path_integration.NUM_BEST]
    shares = {
        f"square_share_above_{SQUARE_SCORE}": jnp.mean(score > SQUARE_SCORE),
        f"square_noise_share_above_{SQUARE_SCORE}": jnp.mean(noise > SQUARE_SCORE),
    }
    maps = ratemaps.smooth(readout["rate_maps"][best], 1.0)
    return scalars | shares, readout | {"square_units": best, "square_maps": maps}


def draw(readout: HostReadout) -> dict[str, Figure]:
    """All figures of `path_integration`, and those of square grids."""
    scores, units = readout["grid_score_90"], readout["square_units"]
    return {
        **path_integration.draw(readout),
        "square_maps": figures.rate_maps(
            readout["square_maps"],
            [f"{score:.2f}" for score in scores[units]],
            extent_m=readout["extent_m"],
            title=f"Smoothed rate maps of the {len(units)} units with the highest 90-degree scores "
            f"(of {len(scores)})\nabove each map: its score; a square grid has a high one",
        ),
        "square_scores": figures.score_histogram(
            scores,
            readout["noise_grid_score_90"],
            thresholds=(SQUARE_SCORE,),
            what="units",
            x_label="grid score (90 degrees): how square a rate map is",
        ),
    }
