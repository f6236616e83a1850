"""Grid cells as a conformal isometry: a code of places, and the transition that moves it.

A module of grid cells codes each place x by a vector v(x) >= 0 of length 1. As the animal moves by
dx, a recurrent transition F moves the code: F(v(x), dx) = v(x + dx). The code is learned so that
near places differ in proportion to their distance: |v(x + dx) - v(x)| = s |dx|. This is enough for
hexagonal grids of a spacing proportional to 1 / s. Modules of several s tell all places of the box
apart, so that position is read out without tracking. World, evaluation: `path_integration`.

Source: Xu, Gao, Zhang, Wei & Wu, ICLR 2025 (arXiv 2405.16865); their repository
grid-cell-conformal-isometry.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

from hfjax import arena, cells, check, figures, missing, networks, ratemaps
from hfjax.models import grid_module, path_integration
from hfjax.models.path_integration import EvaluationSettings, Integrator, World
from hfjax.networks import Nonlinearity, relu
from hfjax.task import HostReadout, Metric, Readout, Scalars, Task, logged

# --- Directions of movement ---


class Features(Protocol):
    """(steps [..., 2]) -> features f [..., feature], so that dr B(theta) = sum_k f_k B_k."""

    def __call__(self, steps: jax.Array, /) -> jax.Array:
        """The features of displacements."""


class DrawAngles(Protocol):
    """(key, shape) -> angles (rad)."""

    def __call__(self, key: jax.Array, shape: tuple[int, ...], /) -> jax.Array:
        """Directions of the displacements that are trained."""


class Directions(NamedTuple):
    """How a displacement dx = dr (cos theta, sin theta) drives a transition, and which are trained.

    Made by `discrete` or `harmonics`. num: features.
    """

    num: int
    features: Features
    draw: DrawAngles


def discrete(*, num: int = 18) -> Directions:
    """One B(theta) for each of `num` directions, as published; others take the nearest.

    f_k = dr where 2 pi k / num is the direction nearest to theta, else 0.

    num  directions, evenly spaced from 0.

    Raises ValueError where num is below 3.
    """
    check.at_least(3, num=num)
    spacing = 2 * np.pi / num

    def features(steps: jax.Array) -> jax.Array:
        length, angle = _polar(steps)
        nearest = jnp.mod(jnp.round(angle / spacing).astype(int), num)
        return length[..., None] * jax.nn.one_hot(nearest, num, dtype=steps.dtype)

    def draw(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return spacing * jax.random.randint(key, shape, 0, num)

    return Directions(num, features, draw)


def harmonics(*, order: int = 1) -> Directions:
    """B(theta) as a Fourier series, for all directions.

    f = dr (cos theta, sin theta, ..., cos(order theta), sin(order theta)); of order 1 it is dx.

    order  highest harmonic.

    Raises ValueError where order is below 1. Deviation: the original has a table of B.
    """
    check.at_least(1, order=order)

    def features(steps: jax.Array) -> jax.Array:
        length, angle = _polar(steps)
        angles = angle[..., None] * _leading(jnp.arange(1, order + 1), angle)
        waves = jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=-1)
        return length[..., None] * waves.reshape(*length.shape, 2 * order)

    return Directions(2 * order, features, any_direction)


def any_direction(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Angles (rad) uniform on the circle."""
    return jax.random.uniform(key, shape, minval=-jnp.pi, maxval=jnp.pi)


def _polar(steps: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Lengths and angles (rad) of vectors [..., 2]."""
    return jnp.hypot(steps[..., 0], steps[..., 1]), jnp.arctan2(steps[..., 1], steps[..., 0])


def _leading(values: jax.Array, like: jax.Array) -> jax.Array:
    """[n] with as many leading axes of 1 as `like` has axes."""
    return values.reshape((1,) * like.ndim + values.shape)


# --- Transitions ---


class TransitionInit(Protocol):
    """(key, *, num_modules, num_units, num_features) -> params."""

    def __call__(
        self, key: jax.Array, /, *, num_modules: int, num_units: int, num_features: int
    ) -> Any:
        """Initial parameters; each leaf is [module, ...]."""


class TransitionApply(Protocol):
    """(params, v [batch, module, unit], features [batch, feature]) -> v after the movement."""

    def __call__(self, params: Any, v: jax.Array, features: jax.Array, /) -> jax.Array:
        """Move the code."""


class TransitionWeights(Protocol):
    """(params) -> recurrent weights [module, unit, unit] (from, to), or None."""

    def __call__(self, params: Any, /) -> jax.Array | None:
        """The weights that are compared with the units' phases."""


class Transition(NamedTuple):
    """A transition as functions; made by `recurrent`, `additive`, `linear` or `normalised`."""

    init: TransitionInit
    apply: TransitionApply
    weights: TransitionWeights


class Recurrent(NamedTuple):
    """A [module, from, to], B [module, feature, from, to], b [module] of `recurrent`."""

    A: jax.Array
    B: jax.Array
    b: jax.Array


class Additive(NamedTuple):
    """A [module, from, to], B [module, feature, unit], b [module, unit] of `additive`."""

    A: jax.Array
    B: jax.Array
    b: jax.Array


# The standard deviation of normal weights, and the bound of uniform ones, before training.
SMALL_WEIGHT = 1e-3


def recurrent(*, nonlinearity: Nonlinearity = relu) -> Transition:
    """F(v, dx) = f(v A + dr v B(theta) + b), with one number b for each module.

    nonlinearity  f; published for relu and tanh.

    Deviation: the original's A connects all modules. Here each module has its own.
    """

    def init(key: jax.Array, *, num_modules: int, num_units: int, num_features: int) -> Recurrent:
        a_key, b_key = jax.random.split(key)
        square = (num_units, num_units)
        return Recurrent(
            A=_uniform(a_key, (num_modules, *square)),
            B=_normal(b_key, (num_modules, num_features, *square)),
            b=jnp.zeros(num_modules),
        )

    def apply(params: Recurrent, v: jax.Array, features: jax.Array) -> jax.Array:
        u = _by_module(v, params.A) + _turned(v, features, params.B)
        return nonlinearity(u + params.b[None, :, None])

    return Transition(init, apply, weights=lambda params: params.A)


def linear() -> Transition:
    """F(v, dx) = v + dr v B(theta), as published."""

    def init(key: jax.Array, *, num_modules: int, num_units: int, num_features: int) -> jax.Array:
        return _normal(key, (num_modules, num_features, num_units, num_units))

    def apply(params: jax.Array, v: jax.Array, features: jax.Array) -> jax.Array:
        return v + _turned(v, features, params)

    return Transition(init, apply, weights=lambda params: None)


def additive(*, nonlinearity: Nonlinearity = relu) -> Transition:
    """F(v, dx) = f(v A + dr B(theta) + b), with one number b for each unit.

    With `harmonics(order=1)` it is a vanilla recurrent network whose input is dx.

    nonlinearity  f; published for relu.

    Deviation: the original's A connects all modules. Here each module has its own.
    """

    def init(key: jax.Array, *, num_modules: int, num_units: int, num_features: int) -> Additive:
        a_key, b_key = jax.random.split(key)
        return Additive(
            A=_uniform(a_key, (num_modules, num_units, num_units)),
            B=_uniform(b_key, (num_modules, num_features, num_units)),
            b=jnp.zeros((num_modules, num_units)),
        )

    def apply(params: Additive, v: jax.Array, features: jax.Array) -> jax.Array:
        drive = jnp.einsum("bf,mfj->bmj", features, params.B)
        return nonlinearity(_by_module(v, params.A) + drive + params.b[None])

    return Transition(init, apply, weights=lambda params: params.A)


def normalised(*, transition: Transition) -> Transition:
    """F(v, dx) / |F(v, dx)| in each module: divisive normalisation of a transition F.

    A transition is trained over one step, from codes of length 1. It is nearly homogeneous in v, so
    a small error of length multiplies from step to step: the code fades in slow movement, and grows
    in fast movement. Here it keeps its length.

    transition  F, without normalisation.

    Deviation: the original has no such transition, and its repository does not integrate walks.
    Where F is 0 the result is 0.
    """

    def apply(params: Any, v: jax.Array, features: jax.Array) -> jax.Array:
        u = transition.apply(params, v, features)
        # The gradient of a root at 0 is infinite.
        return u * jax.lax.rsqrt(jnp.sum(u**2, axis=-1, keepdims=True) + 1e-12)

    return transition._replace(apply=apply)


def _normal(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return SMALL_WEIGHT * jax.random.normal(key, shape)


def _uniform(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jax.random.uniform(key, shape, minval=-SMALL_WEIGHT, maxval=SMALL_WEIGHT)


def _by_module(v: jax.Array, weights: jax.Array) -> jax.Array:
    """v [batch, module, from], weights [module, from, to] -> [batch, module, to]."""
    return jnp.einsum("bmi,mij->bmj", v, weights)


def _turned(v: jax.Array, features: jax.Array, B: jax.Array) -> jax.Array:
    """sum_k f_k v B_k, with f [batch, feature], v [batch, module, from], B [module, feature, from,
    to] -> [batch, module, to]."""
    driven = features[:, None, :, None] * v[:, :, None, :]
    return jnp.einsum("bmki,mkij->bmj", driven, B)


# --- The code ---


def look_up(table: jax.Array, places: jax.Array) -> jax.Array:
    """The code at places of the box, by bilinear interpolation between four nodes of the table.

    table [module, x, y, unit]: node (i, j) of n x n is at ((i + 1/2) / n - 1/2, ...).
    places [batch, module, 2] or [batch, 1, 2], in box widths from the middle
    -> [batch, module, unit].
    Deviation: in the half node next to a wall the code continues linearly. In the original it falls
    to half its size there, as if all were silent beyond the wall.
    """
    num_modules, n, _, num_units = table.shape
    u = (places + 0.5) * n - 0.5
    corner = jnp.clip(jnp.floor(u), 0, n - 2)
    along_x, along_y = jnp.split(u - corner, 2, axis=-1)
    i, j = jnp.moveaxis(corner.astype(int), -1, 0)
    index = (jnp.arange(num_modules)[None] * n + i) * n + j
    flat = table.reshape(-1, num_units)
    left = (1 - along_y) * flat[index] + along_y * flat[index + 1]
    right = (1 - along_y) * flat[index + n] + along_y * flat[index + n + 1]
    return (1 - along_x) * left + along_x * right


def project(table: jax.Array) -> jax.Array:
    """max(v, 0), of length 1 in each module, at every node: [module, x, y, unit]; 0 stays 0.

    Deviation: of K modules the original gives each a length of 1 / sqrt(K).
    """
    table = jnp.maximum(table, 0)
    return table / jnp.maximum(jnp.linalg.norm(table, axis=-1, keepdims=True), 1e-12)


class Pairs(NamedTuple):
    """Places and displacements, both in box widths from the middle.

    start, step [batch, 2]: for the transition. near, apart [batch, module, 2]: for the isometry.
    """

    start: jax.Array
    step: jax.Array
    near: jax.Array
    apart: jax.Array


def disc_lengths(key: jax.Array, shape: tuple[int, ...], reach: jax.Array | float) -> jax.Array:
    """Lengths [*shape] of vectors that are uniform over a disc; reach: its radius, or several."""
    return reach * jnp.sqrt(jax.random.uniform(key, shape))


def draw_pairs(
    key: jax.Array, lengths: jax.Array, *, draw: DrawAngles
) -> tuple[jax.Array, jax.Array]:
    """Places x and displacements dx [..., 2] of lengths [...], so that x and x + dx are in the box.

    The directions are those that `draw` allows; x is uniform. All in box widths.
    """
    angle_key, place_key = jax.random.split(key)
    angle = draw(angle_key, lengths.shape)
    dx = lengths[..., None] * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)
    low, high = jnp.maximum(-0.5, -0.5 - dx), jnp.minimum(0.5, 0.5 - dx)
    return low + (high - low) * jax.random.uniform(place_key, dx.shape), dx


# --- The task ---


class Params(NamedTuple):
    """table v [module, x, y, unit] (see `look_up`); the transition's own, each [module, ...]."""

    table: jax.Array
    transition: Any


class State(NamedTuple):
    """What a checkpoint holds. place_centres [place, 2] (m): where position is read out."""

    params: Params
    opt_state: Any
    place_centres: jax.Array


class Model(NamedTuple):
    """The modules and their transition.

    scales s [module] (per box width); reach (box widths): the longest step of the transition;
    spread: the largest change s |dx| of the isometry.
    """

    transition: Transition
    directions: Directions
    scales: tuple[float, ...]
    num_units: int
    num_nodes: int
    reach: float
    spread: float
    num_place: int


class Weights(NamedTuple):
    """Factors of the two terms of the loss."""

    transition: float
    isometry: float


def task(
    *,
    scales: Sequence[float] = (10.0,),
    num_units: int = 24,
    num_nodes: int = 40,
    transition: Transition | None = None,
    directions: Directions | None = None,
    reach: float = 0.075,
    spread: float = 1.25,
    transition_weight: float = 30_000.0,
    isometry_weight: float = 120_000.0,
    batch_size: int = 4000,
    optimizer: optax.GradientTransformation | None = None,
    num_place: int = 1600,
    sigma_m: float = 0.12,
    dt_s: float = 0.02,
    box: path_integration.Box | None = None,
    motion: path_integration.Motion = arena.sorscher_walk,
    evaluation: EvaluationSettings | None = None,
) -> Task:
    """A code of places in modules of grid cells that a transition moves, as a Task.

    loss = transition_weight mean sum_k |F_k(v_k(x), dx) - v_k(x + dx)|^2
           + isometry_weight mean sum_k (|v_k(x + dx) - v_k(x)| - s_k |dx|)^2
    Sums are over modules k, means over the batch. Lengths are in box widths. After each step v is
    made non-negative and normalised (`project`).

    scales             s of each module (per box width): the spacing is about 3.5 / s widths.
    num_units          units of a module.
    num_nodes          nodes of the code's table along each side of the box.
    transition         F; None for `recurrent()`.
    directions         how displacements drive F; None for `discrete()`.
    reach              longest displacement of the first term (box widths).
    spread             largest change s |dx| of the second term.
    transition_weight  factor of the first term.
    isometry_weight    factor of the second term.
    batch_size         pairs of places in a training step, for each term.
    optimizer          optax optimizer; None for Adam with learning rate 3e-3 after clipping.
    num_place          place cells that read position out, a square number: they lie on a lattice.
    sigma_m            width of the place fields of the floor (m).
    dt_s               duration of a time step of the evaluation's walks (s).
    box                where the animal walks; None for `walled_box()`.
    motion             draws the walks of the evaluation, as `arena.sorscher_walk` does.
    evaluation         how much is evaluated; None for the defaults of `EvaluationSettings`.

    Position is read out without tracking: place cell p has the output sum_k v_k . v_k(c_p), the
    match of the activity with the code of its centre c_p, and the three most active ones are
    decoded as in `grid_rnn`. One module is ambiguous; two or three are not.

    `data` is () or what `recordings.sargolini` returns. Evaluation: `evaluate`.
    `apply` looks the code up at a start, and moves it over as many steps as the evaluation's walks.
    step's scalars: loss; transition_error and isometry_error, the terms without their factors.
    Raises ValueError where a number is not positive, num_nodes below 2, there is no scale, or the
    box is not a walled square.

    Source and defaults: `nonlinear1_relu.py` of the original. Its isometry term is the sum over
    4000 pairs times 30: here a mean times 120,000. Its `linear_scale5`, 10 and 15 have spreads of
    1.25, 1.25 and 1.1. Deviations: several modules have their own s, and a spread in s |dx|, not
    in |dx|; v is normalised before the first step too; `look_up`, `project`, `recurrent`.
    """
    box = box or path_integration.walled_box()
    model = Model(
        transition or recurrent(),
        directions or discrete(),
        tuple(scales),
        num_units,
        num_nodes,
        reach,
        spread,
        num_place,
    )
    weights = Weights(transition_weight, isometry_weight)
    world = World(box, motion, dt_s, cells.lattice_centres, cells.softmax_gaussian, sigma_m)
    evaluation = evaluation or EvaluationSettings()
    check_model(model, weights, world)
    path_integration.check_settings(evaluation)
    check.at_least(1, batch_size=batch_size)
    optimizer = optimizer or optax.chain(optax.clip_by_global_norm(10.0), optax.adam(3e-3))
    integrator = Integrator(
        forward=partial(forward, model=model, width_m=box.width_m),
        weights=lambda state: None,  # those of each module: `measure_modules`
        num_units=len(model.scales) * num_units,
        world=world,
    )
    return Task(
        init=partial(init, model=model, world=world, optimizer=optimizer),
        sample=partial(sample, model=model, batch_size=batch_size),
        step=partial(step, model=model, weights=weights, optimizer=optimizer),
        evaluate=partial(evaluate, model=model, integrator=integrator, settings=evaluation),
        figures=draw,
        metrics=logged(step=STEP_METRICS, evaluation=metrics(model, world, evaluation)),
        apply=partial(
            path_integration.apply, integrator=integrator, num_steps=evaluation.num_steps
        ),
        dt_s=dt_s,
        decode=partial(
            path_integration.decode, integrator=integrator, num_steps=evaluation.num_steps
        ),
    )


def check_model(model: Model, weights: Weights, world: World) -> None:
    """Raise ValueError where `task` does."""
    check.at_least(1, modules=len(model.scales), num_units=model.num_units)
    check.at_least(2, num_nodes=model.num_nodes)
    check.positive(
        **{f"scales[{i}]": s for i, s in enumerate(model.scales)},
        reach=model.reach,
        spread=model.spread,
        transition_weight=weights.transition,
        isometry_weight=weights.isometry,
    )
    path_integration.check_world(world)
    path_integration.check_num_place(model.num_place)
    if world.box.boundary is arena.wrap_around:
        raise ValueError("the code has no periodic boundaries: box must be walled_box")
    if world.box.width_m != world.box.height_m:
        raise ValueError("the code's nodes lie on a square: box.height_m must be box.width_m")


def init(
    key: jax.Array,
    data: Any,
    /,
    *,
    model: Model,
    world: World,
    optimizer: optax.GradientTransformation,
) -> State:
    """The state before training: directions of the code at random."""
    del data
    table_key, transition_key, place_key = jax.random.split(key, 3)
    num_modules, n = len(model.scales), model.num_nodes
    table = jax.random.normal(table_key, (num_modules, n, n, model.num_units))
    transition = model.transition.init(
        transition_key,
        num_modules=num_modules,
        num_units=model.num_units,
        num_features=model.directions.num,
    )
    params = Params(project(table), transition)
    centres = path_integration.draw_centres(world, place_key, num_place=model.num_place)
    return State(params, optimizer.init(params), centres)


def sample(data: Any, key: jax.Array, /, *, model: Model, batch_size: int) -> Pairs:
    """Pairs of places for both terms of the loss."""
    del data
    step_key, start_key, apart_key, near_key = jax.random.split(key, 4)
    lengths = disc_lengths(step_key, (batch_size,), model.reach)
    start, step = draw_pairs(start_key, lengths, draw=model.directions.draw)
    reach = model.spread / jnp.asarray(model.scales)[None]
    lengths = disc_lengths(apart_key, (batch_size, len(model.scales)), reach)
    near, apart = draw_pairs(near_key, lengths, draw=any_direction)
    return Pairs(start, step, near, apart)


def transition_error(params: Params, pairs: Pairs, model: Model) -> jax.Array:
    """sum_k |F_k(v_k(x), dx) - v_k(x + dx)|^2 -> [batch]."""
    v = look_up(params.table, pairs.start[:, None])
    moved = model.transition.apply(params.transition, v, model.directions.features(pairs.step))
    goal = look_up(params.table, (pairs.start + pairs.step)[:, None])
    return jnp.sum((moved - goal) ** 2, axis=(1, 2))


def change(table: jax.Array, near: jax.Array, apart: jax.Array) -> jax.Array:
    """|v(x + dx) - v(x)| -> [batch, module], for places and displacements [batch, module, 2]."""
    difference = look_up(table, near + apart) - look_up(table, near)
    # The gradient of a root at 0 is infinite.
    return jnp.sqrt(jnp.sum(difference**2, axis=-1) + 1e-12)


def isometry_error(params: Params, pairs: Pairs, model: Model) -> jax.Array:
    """sum_k (|v_k(x + dx) - v_k(x)| - s_k |dx|)^2 -> [batch]."""
    wanted = jnp.asarray(model.scales)[None] * jnp.linalg.norm(pairs.apart, axis=-1)
    return jnp.sum((change(params.table, pairs.near, pairs.apart) - wanted) ** 2, axis=1)


def total_loss(
    params: Params, pairs: Pairs, *, model: Model, weights: Weights
) -> tuple[jax.Array, Scalars]:
    """-> the loss, and the scalars of a step."""
    transition = jnp.mean(transition_error(params, pairs, model))
    isometry = jnp.mean(isometry_error(params, pairs, model))
    loss = weights.transition * transition + weights.isometry * isometry
    return loss, {"loss": loss, "transition_error": transition, "isometry_error": isometry}


def step(
    state: State,
    batch: Pairs,
    key: jax.Array,
    /,
    *,
    model: Model,
    weights: Weights,
    optimizer: optax.GradientTransformation,
) -> tuple[State, Scalars]:
    """One update on a batch of pairs."""
    del key
    differentiate = jax.grad(partial(total_loss, model=model, weights=weights), has_aux=True)
    gradient, scalars = differentiate(state.params, batch)
    updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return state._replace(
        params=params._replace(table=project(params.table)), opt_state=opt_state
    ), scalars


# --- Evaluation ---

STEP_METRICS = {
    **{
        name: Metric(
            label, split="training", better="lower", panel=panel, measure=measure, log=True
        )
        for name, label, panel, measure in (
            ("loss", "loss", "Loss", "weighted sum of the terms"),
            ("transition_error", "transition", "Terms of the loss", "mean, without its factor"),
            ("isometry_error", "isometry", "Terms of the loss", "mean, without its factor"),
        )
    }
}

NUM_PLACES = 2048  # places at which the code itself is decoded
NUM_PAIRS = 512  # pairs of places for each distance of the isometry's curve
MAX_CHANGE = 1.8  # largest s |dx| of that curve; a code >= 0 of length 1 changes by at most 2^(1/2)


def metrics(model: Model, world: World, settings: EvaluationSettings) -> dict[str, Metric]:
    """What the scalars of `evaluate` mean."""
    scales = model.scales
    declared = path_integration.metrics(world, settings) | {
        "code_error_cm": Metric(
            "error of the code itself, without integration", "cm", better="lower"
        ),
        "isometry_deviation": Metric(
            "deviation from the isometry", "% of s |dx|", "held out", "lower", panel="Isometry"
        ),
        **{
            f"spacing_{k}_m": Metric(
                f"spacing, s = {s:g}", "m", panel="Spacing of the modules", series=f"s = {s:g}"
            )
            for k, s in enumerate(scales, 1)
        },
    }
    if len(scales) > 1:
        expected = float(_mean_ratio(np.asarray(scales)[::-1]))
        declared["spacing_ratio"] = Metric(
            "ratio of successive spacings", level=("of the modules' s", expected)
        )
    return declared


def _mean_ratio(values: Any) -> Any:
    """Geometric mean of the ratios of successive values: the (K-1)-th root of first / last."""
    return (values[0] / values[-1]) ** (1 / (len(values) - 1))


def evaluate(
    state: State,
    data: Any,
    key: jax.Array,
    *,
    model: Model,
    integrator: Integrator,
    settings: EvaluationSettings,
) -> tuple[Scalars, Readout]:
    """`path_integration.evaluate`, and what is particular to this code.

    -> scalars of `path_integration.evaluate`, `measure_isometry` and `measure_modules`, and
    code_error_cm, the error where the true code is read out; readout of all three, scales [module]
    and spread.
    """
    key, isometry_key, place_key = jax.random.split(key, 3)
    world = integrator.world
    width_m = world.box.width_m
    scalars, readout = path_integration.evaluate(
        state, data, key, integrator=integrator, settings=settings
    )
    isometry, curves = measure_isometry(state.params.table, isometry_key, model=model)
    modules, tori = measure_modules(state.params, readout, model=model, width_m=width_m)
    places = jax.random.uniform(place_key, (NUM_PLACES, 2), minval=-width_m / 2, maxval=width_m / 2)
    v = look_up(state.params.table, places[:, None] / width_m)
    decoded = world.box.decode(read_out(state, v, width_m), state.place_centres)
    error_cm = path_integration.distance_cm(world, places, decoded)
    scalars |= {"code_error_cm": jnp.mean(error_cm), **isometry, **modules}
    constants = {"scales": jnp.asarray(model.scales), "spread": jnp.asarray(model.spread)}
    return scalars, {**readout, **curves, **tori, **constants}


def forward(
    state: State, walk: arena.Walk, *, model: Model, width_m: float
) -> tuple[jax.Array, jax.Array]:
    """The code of the start, moved along walks -> activity [batch, time, unit] of all modules,
    outputs [batch, time, place]."""
    params = state.params
    features = model.directions.features(walk.displacements / width_m)

    def move(v: jax.Array, f: jax.Array) -> tuple[jax.Array, jax.Array]:
        v = model.transition.apply(params.transition, v, f)
        return v, v

    start = look_up(params.table, walk.start[:, None] / width_m)
    _, path = jax.lax.scan(move, start, features.swapaxes(0, 1))
    v = path.swapaxes(0, 1)
    return v.reshape(*v.shape[:2], -1), read_out(state, v, width_m)


def read_out(state: State, v: jax.Array, width_m: float) -> jax.Array:
    """Place cells: sum_k v_k . v_k(c_p), for v [..., module, unit] -> [..., place]."""
    fields = look_up(state.params.table, state.place_centres[:, None] / width_m)
    return networks.linear(fields.reshape(len(fields), -1).T, v.reshape(*v.shape[:-2], -1))


def measure_isometry(table: jax.Array, key: jax.Array, *, model: Model) -> tuple[Scalars, Readout]:
    """How far |v(x + dx) - v(x)| is from s |dx|.

    -> scalar isometry_deviation: the root-mean-square deviation over the trained disc, over the
    root mean square of s |dx|; readout isometry_wanted [distance], s |dx|, the same for each
    module, and isometry_change [quartile, module, distance].
    """
    key, disc_key, disc_pair_key = jax.random.split(key, 3)
    scales = jnp.asarray(model.scales)[None]
    shape = (NUM_PAIRS, len(model.scales))
    lengths = disc_lengths(disc_key, shape, model.spread / scales)
    changes = change(table, *draw_pairs(disc_pair_key, lengths, draw=any_direction))
    deviation = jnp.mean((changes - scales * lengths) ** 2) / jnp.mean((scales * lengths) ** 2)
    wanted = jnp.linspace(0, MAX_CHANGE, 37)[1:]

    def at(wanted: jax.Array, key: jax.Array) -> jax.Array:
        lengths = jnp.broadcast_to(wanted / scales, shape)
        changes = change(table, *draw_pairs(key, lengths, draw=any_direction))
        return jnp.quantile(changes, jnp.array(path_integration.QUARTILES), axis=0)

    curve = jax.vmap(at, out_axes=-1)(wanted, jax.random.split(key, len(wanted)))
    return {"isometry_deviation": jnp.sqrt(deviation)}, {
        "isometry_wanted": wanted,
        "isometry_change": curve,
    }


def measure_modules(
    params: Params, readout: Readout, *, model: Model, width_m: float
) -> tuple[Scalars, Readout]:
    """Each module's spacing and torus, from rate_maps [unit, x, y] and grid_score_60 [unit].

    -> scalars spacing_K_m of module K = 1, 2, ..., the median over its units, and spacing_ratio of
    several modules; readout unit_spacing_m, unit_orientation_rad [module, unit], and what
    `grid_module.torus` returns of each module, as torus_NAME [module, ...].
    """
    num_modules = len(model.scales)
    maps = readout["rate_maps"]
    geometry = ratemaps.spacing_orientation(maps, bin_width_m=width_m / maps.shape[1])
    spacing, orientation = (
        jnp.where(jnp.isfinite(x), x, missing.MISSING).reshape(num_modules, -1)
        for x in (geometry.spacing, geometry.orientation)
    )
    medians = jnp.stack([missing.median(units) for units in spacing])
    scalars = {f"spacing_{k}_m": median for k, median in enumerate(medians, 1)}
    if num_modules > 1:
        known = jnp.all(jnp.isfinite(medians))
        ratio = _mean_ratio(jnp.where(known, medians, 1.0))
        scalars["spacing_ratio"] = jnp.where(known, ratio, missing.MISSING)
    tori = jax.vmap(partial(grid_module.torus, width_m=width_m))(
        maps.reshape(num_modules, -1, *maps.shape[1:]),
        readout["grid_score_60"].reshape(num_modules, -1),
        model.transition.weights(params.transition),
    )
    return scalars, {
        "unit_spacing_m": spacing,
        "unit_orientation_rad": orientation,
        **{f"torus_{name}": value for name, value in tori.items()},
    }


# --- Figures ---


def draw(readout: HostReadout) -> dict[str, Figure]:
    """All figures of `evaluate`'s readout; "torus_K" is that of module K = 1, 2, ..."""
    num_units = readout["unit_spacing_m"].shape[1]
    tori = {}
    for k, s in enumerate(readout["scales"]):
        module = {
            name.removeprefix("torus_"): value[k]
            for name, value in readout.items()
            if name.startswith("torus_")
        }
        scores = readout["grid_score_60"][k * num_units : (k + 1) * num_units]
        figure = grid_module.draw({**module, "grid_score_60": scores})
        figure.suptitle(f"{_module(k, s)}: low-dimensional structure", fontsize=12)
        tori[f"torus_{k + 1}"] = figure
    return {
        **path_integration.draw_maps(readout),
        **path_integration.draw_paths(readout),
        "isometry": _draw_isometry(readout),
        "modules": _draw_modules(readout),
        **tori,
    }


def _module(k: int, s: float) -> str:
    return f"module {k + 1} (s = {s:g})"


def _draw_isometry(readout: HostReadout) -> Figure:
    """How the code changes with distance, and how far this is from the isometry."""
    width_m = float(np.ptp(readout["extent_m"][0]))
    wanted, change = readout["isometry_wanted"], readout["isometry_change"]
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for k, s in enumerate(readout["scales"]):
        distance_cm = 100 * width_m * wanted / s
        colour = figures.COLOURS[k % len(figures.COLOURS)]
        left.fill_between(distance_cm, *change[[0, 2], k], color=colour, alpha=0.25, lw=0)
        left.plot(distance_cm, change[1, k], color=colour, label=_module(k, s))
        left.plot(distance_cm, wanted, ":", color=colour, lw=1.2)
        error = 100 * (change[:, k] - wanted) / wanted
        right.fill_between(wanted, error[0], error[2], color=colour, alpha=0.25, lw=0)
        right.plot(wanted, error[1], color=colour, label=_module(k, s))
    left.plot([], [], ":", color="black", lw=1.2, label="isometry, s |dx|")
    left.axhline(2**0.5, color=figures.GREY, ls="--", lw=1, label="orthogonal codes, $\\sqrt{2}$")
    right.axhline(0, color="black", ls=":", lw=1.2)
    right.axvline(
        readout["spread"], color=figures.GREY, ls="--", lw=1, label="longest that is trained"
    )
    left.set(xlabel="distance |dx| (cm)", ylabel="change of the code |v(x + dx) - v(x)|")
    right.set(xlabel="s |dx|", ylabel="deviation from s |dx| (%)", ylim=(-60, 60))
    for ax, title in ((left, "Change of the code"), (right, "Deviation from the isometry")):
        ax.set_xlim(0, None)
        ax.set_title(title, fontsize=10)
        ax.legend(fontsize=8)
    figure.suptitle(
        "The isometry: medians over pairs of places, bands from 25 to 75 %", fontsize=11
    )
    return figure


def _draw_modules(readout: HostReadout) -> Figure:
    """Spacing and orientation of each unit, by module."""
    spacing_m, scales = readout["unit_spacing_m"], readout["scales"]
    orientation = np.degrees(readout["unit_orientation_rad"])
    grid = readout["grid_score_60"].reshape(spacing_m.shape) > 0.37
    figure = Figure(figsize=(10.5, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    medians = [np.median(m[np.isfinite(m)]) if np.isfinite(m).any() else np.nan for m in spacing_m]
    for ax, values in ((left, spacing_m), (right, orientation)):
        for k, units in enumerate(values):
            x = k + 0.5 * (np.arange(len(units)) / len(units) - 0.5)
            for shown, style in ((grid[k], {}), (~grid[k], {"mfc": "none"})):
                ax.plot(x[shown], units[shown], "o", ms=4, color=figures.SIMULATED, **style)
        ax.plot([], [], "o", ms=4, color=figures.SIMULATED, label="grid score above 0.37")
        ax.plot([], [], "o", ms=4, color=figures.SIMULATED, mfc="none", label="other units")
        labels = [f"{k + 1}\ns = {s:g}" for k, s in enumerate(scales)]
        ax.set_xticks(range(len(scales)), labels)
        ax.set(xlabel="module", xlim=(-0.6, len(scales) - 0.4))
    numbers = np.arange(len(scales))
    left.hlines(medians, numbers - 0.3, numbers + 0.3, color="black", lw=1.5, label="median")
    # Spacing is inversely proportional to s: the factor is that of the median module.
    factor = np.nanmedian(medians * scales) if np.isfinite(medians).any() else np.nan
    left.plot(numbers, factor / scales, "x", color=figures.RAT, label="proportional to 1 / s")
    left.set(ylabel="grid spacing (m)", ylim=(0, None))
    left.set_title(_ratio_title(medians), fontsize=10)
    right.set(ylabel="orientation (degrees)", ylim=(-3, 63), yticks=(0, 15, 30, 45, 60))
    right.set_title("Orientation (60 degrees are 0)", fontsize=10)
    left.legend(fontsize=8)
    return figure


def _ratio_title(medians: Sequence[float]) -> str:
    values = np.asarray(medians)
    ratios = ", ".join(f"{r:.2f}" for r in values[:-1] / values[1:])
    return f"Spacing; from module to module by a factor of {ratios}" if ratios else "Spacing"
