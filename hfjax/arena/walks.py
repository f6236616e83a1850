"""Behaviours: random walks, goals, recorded and simulated paths."""

import functools
import math
from typing import Any, NamedTuple, Protocol

import chex
import jax
import jax.numpy as jnp
import numpy as np

from hfjax import check
from hfjax.arena.agent import (
    Agent,
    Motion,
    as_agent,
    check_drift,
    start,
    step,
    turn_head,
    unit_vector,
)
from hfjax.arena.environment import Environment, uniform_positions
from hfjax.arena.periodic import wrap, wrap_angle

# --- Walks in a rectangular box ---


class Walk(NamedTuple):
    """A batch of paths: positions_t = positions_tm1 + displacements_t, beginning with `start`.

    start [batch, 2] (m), start_heading [batch] (rad): position, and direction of the step to it.
    positions [batch, time, 2] (m), displacements [batch, time, 2] (m per step).
    headings [batch, time] (rad, in [-pi, pi)): direction of the step to positions_t.
    In a periodic box positions are wrapped into the box, and displacements are not.
    """

    start: jax.Array
    start_heading: jax.Array
    positions: jax.Array
    displacements: jax.Array
    headings: jax.Array


class Boundary(Protocol):
    """What the edges of a rectangular box do to a batch of animals."""

    def __call__(
        self, position: jax.Array, heading: jax.Array, *, width_m: check.Width, border_m: float
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """(position [batch, 2] (m), heading [batch]) -> (position, turn (rad), speed factor)."""


def _half(width_m: check.Width) -> jax.Array:
    """Half the width along x and y [1, 2] (m)."""
    return jnp.asarray([check.widths(width_m, 2)]) / 2


def avoid_walls(
    position: jax.Array, heading: jax.Array, *, width_m: check.Width, border_m: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Walls: near a wall and heading towards it, turn parallel to it, at a quarter of the speed.

    Let a be the heading relative to the outward normal of the nearest wall. If that wall is nearer
    than border_m and |a| < pi/2: turn = sign(a) (pi/2 - |a|), speed factor = 1/4.

    position [batch, 2] (m, box centred on 0), heading [batch] (rad); width_m: the side of a square,
    or (width, height)
    -> position [batch, 2] unchanged, turn [batch] (rad), speed factor [batch].
    Source: Sorscher et al. 2019, after Raudies & Hasselmo 2012; grid-pattern-formation
    `avoid_wall`. As there, the animal can leave the box by a long step (the wall then counts as
    near), and a heading exactly along the normal is not turned.
    """
    position, heading = check.floats(position), check.floats(heading)
    # Walls in the order east, north, west, south: the outward normal of wall k points to k pi/2.
    half = _half(width_m).astype(position.dtype)
    to_wall = jnp.concatenate([half - position, half + position], axis=-1)
    normal = jnp.argmin(to_wall, axis=-1).astype(heading.dtype) * (jnp.pi / 2)
    a = wrap_angle(heading - normal)
    blocked = (jnp.min(to_wall, axis=-1) < border_m) & (jnp.abs(a) < jnp.pi / 2)
    turn = jnp.where(blocked, jnp.sign(a) * (jnp.pi / 2 - jnp.abs(a)), 0)
    return position, turn, jnp.where(blocked, 0.25, 1).astype(heading.dtype)


def wrap_around(
    position: jax.Array, heading: jax.Array, *, width_m: check.Width, border_m: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Periodic boundaries: the position is wrapped, the turn is 0, and the speed factor is 1.

    Shapes as in `avoid_walls`. border_m is not used.
    """
    del border_m
    heading = check.floats(heading)
    position, half = check.floats(position), _half(width_m)
    wrapped = wrap(position, -half.astype(position.dtype), half.astype(position.dtype))
    return wrapped, jnp.zeros_like(heading), jnp.ones_like(heading)


def sorscher_walk(
    key: jax.Array,
    *,
    batch_size: int,
    num_steps: int,
    width_m: check.Width = 2.2,
    dt_s: float = 0.02,
    speed_scale_mps: float = 0.13 * 2 * np.pi,
    turn_std_radps: float = 11.52,
    border_m: float = 0.03,
    boundary: Boundary = avoid_walls,
) -> Walk:
    """Random walks in a rectangular box, with independent speeds (Rayleigh) and turns (normal).

    x_t = x_tm1 + c_tm1 s_tm1 dt (cos, sin)(theta_tm1),   s ~ Rayleigh(speed_scale_mps)
    theta_t = theta_tm1 + w_tm1 + N(0, turn_std_radps) dt
    The turn w and the speed factor c come from `boundary` at x_tm1, theta_tm1. x_0 is uniform in
    the box (m, centred on 0), theta_0 is uniform on the circle. width_m: the side of a square, or
    (width, height).

    -> Walk of batch_size paths of num_steps. As published, `start` is the position after a first
    step that is not part of the path, and `start_heading` the direction of that step.
    Raises ValueError where a size, a length or a time is not positive, or a spread is negative.
    Source: Sorscher et al. 2019, supplement; grid-pattern-formation `generate_trajectory`.
    Deviation: none in the distribution of the walk; the random numbers differ.
    """
    check.at_least(1, batch_size=batch_size, num_steps=num_steps)
    check.positive(dt_s=dt_s)
    half_m = _half(width_m)
    check.not_negative(
        speed_scale_mps=speed_scale_mps, turn_std_radps=turn_std_radps, border_m=border_m
    )
    position_key, heading_key, speed_key, turn_key = jax.random.split(key, 4)
    # Two more steps than asked for: one before the start, and one whose boundary call wraps the
    # last position into a periodic box.
    drawn = (num_steps + 2, batch_size)
    steps_m = (speed_scale_mps * dt_s) * _rayleigh(speed_key, drawn)
    turns = jax.random.normal(turn_key, drawn) * (turn_std_radps * dt_s)
    position_0 = jax.random.uniform(position_key, (batch_size, 2), minval=-half_m, maxval=half_m)
    heading_0 = jax.random.uniform(heading_key, (batch_size,), minval=-jnp.pi, maxval=jnp.pi)
    at_boundary = functools.partial(boundary, width_m=width_m, border_m=border_m)
    _, (positions, headings, displacements) = jax.lax.scan(
        functools.partial(_sorscher_step, boundary=at_boundary),
        (position_0, heading_0),
        (steps_m, turns),
    )
    headings = wrap_angle(headings)
    return Walk(
        start=positions[1],
        start_heading=headings[0],
        positions=positions[2:].swapaxes(0, 1),
        displacements=displacements[1:-1].swapaxes(0, 1),
        headings=headings[1:-1].swapaxes(0, 1),
    )


def _rayleigh(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Draws of the Rayleigh distribution of scale 1, all finite.

    `jax.random.rayleigh` takes the logarithm of a uniform draw that can be 0, and then is infinite.
    """
    return jnp.sqrt(-2 * jnp.log1p(-jax.random.uniform(key, shape)))


def _sorscher_step(
    state: tuple[jax.Array, jax.Array], noise: tuple[jax.Array, jax.Array], *, boundary: Any
) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array, jax.Array]]:
    """One step of `sorscher_walk`, for a scan.

    state: position [batch, 2], heading [batch]; noise: step length (m) and turn (rad), [batch].
    -> (the next state, (position, heading and displacement of this step)).
    """
    position, heading = state
    step_m, turn = noise
    position, further_turn, factor = boundary(position, heading)
    direction = jnp.stack([jnp.cos(heading), jnp.sin(heading)], axis=-1)
    displacement = (factor * step_m)[:, None] * direction
    moved = (position + displacement, heading + turn + further_turn)
    return moved, (position, heading, displacement)


# --- Walks on a ring or torus ---


class PeriodicWalk(NamedTuple):
    """An animal on a ring (one dim) or torus: position [dim] (m) and velocity [dim] (m/s)."""

    position: jax.Array
    velocity: jax.Array


def periodic_walk_start(
    key: jax.Array, *, num_dims: int, width_m: float, speed_mean_mps: float, speed_std_mps: float
) -> PeriodicWalk:
    """A stationary state of `periodic_walk`: uniform position, normal velocity.

    Deviation: RatInABox starts at the mean velocity.
    """
    position_key, velocity_key = jax.random.split(key)
    position = jax.random.uniform(
        position_key, (num_dims,), minval=-width_m / 2, maxval=width_m / 2
    )
    velocity = speed_mean_mps + speed_std_mps * jax.random.normal(velocity_key, (num_dims,))
    return PeriodicWalk(position, velocity)


def periodic_walk(
    walk: PeriodicWalk,
    key: jax.Array,
    *,
    num_steps: int,
    width_m: float = 1.0,
    dt_s: float = 0.025,
    speed_mean_mps: float = 0.0,
    speed_std_mps: float = 0.5,
    coherence_s: float = 0.7,
) -> tuple[PeriodicWalk, PeriodicWalk]:
    """A walk on a ring or torus. The velocity is an Ornstein-Uhlenbeck process along each axis.

    x_t = x_tm1 + dt v_tm1,
    v_t = v_tm1 + dt (mean - v_tm1) / T + std sqrt(2 dt / T) N(0, 1), drawn after the move.

    -> (the animal after the last step, the path: positions and velocities [time, dim]).
    Positions are in [-width_m / 2, width_m / 2).
    Raises ValueError where num_steps is below 1, width_m, dt_s or coherence_s is not positive,
    speed_std_mps is negative, speed_mean_mps is not finite, or dt_s is above coherence_s.
    Source: the one-dimensional motion of RatInABox 1.6.3 `Agent.update` (1.15 draws the velocity
    before the move). Deviation: in two dimensions RatInABox has independent turns and speeds; here
    the two components of the velocity are independent.
    """
    check.at_least(1, num_steps=num_steps)
    check.positive(width_m=width_m, dt_s=dt_s, coherence_s=coherence_s)
    check.not_negative(speed_std_mps=speed_std_mps)
    if not math.isfinite(speed_mean_mps):
        raise ValueError(f"speed_mean_mps must be a finite number, but is {speed_mean_mps}")
    if dt_s > coherence_s:
        raise ValueError(f"dt_s ({dt_s}) must not be above coherence_s ({coherence_s})")
    walk = PeriodicWalk(*map(check.floats, walk))
    kappa = dt_s / coherence_s
    noise = (
        speed_std_mps
        * (2 * kappa) ** 0.5
        * jax.random.normal(key, (num_steps, *walk.position.shape), walk.position.dtype)
    )

    def move(walk: PeriodicWalk, noise: jax.Array) -> tuple[PeriodicWalk, PeriodicWalk]:
        position = wrap(walk.position + dt_s * walk.velocity, -width_m / 2, width_m / 2)
        velocity = walk.velocity + kappa * (speed_mean_mps - walk.velocity) + noise
        walk = PeriodicWalk(position, velocity)
        return walk, walk

    return jax.lax.scan(move, walk, noise)


# --- RatInABox's animals ---


class Drift(Protocol):
    """A behaviour as a velocity to drift to."""

    def __call__(self, agent: Agent, /) -> jax.Array:
        """The velocity [dim] (m/s) at the state of the animal."""


def walk(
    agent: Agent,
    key: jax.Array,
    *,
    environment: Environment,
    motion: Motion,
    num_steps: int,
    drift: Drift | None = None,
    drift_ratio: float = 1.0,
) -> tuple[Agent, Agent]:
    """num_steps of `step` -> (the animal after the last, the animal after each [time, ...]).

    drift: the velocity to drift to, such as `towards`; without it the walk is random.
    Raises ValueError where num_steps is below 1, and as `step` does.
    """
    check.at_least(1, num_steps=num_steps)
    if drift is not None:
        check_drift(drift_ratio, motion)
    agent = as_agent(agent)
    noise = jax.random.normal(key, (num_steps, environment.num_dims))

    def move(agent: Agent, noise: jax.Array) -> tuple[Agent, Agent]:
        agent = step(
            agent,
            noise,
            environment=environment,
            motion=motion,
            drift_velocity=None if drift is None else drift(agent),
            drift_ratio=drift_ratio,
        )
        return agent, agent

    return jax.lax.scan(move, agent, noise)


def towards(goal: Any, *, speed_mps: float) -> Drift:
    """A drift for `walk`: straight to a goal [dim] (m) at a constant speed, regardless of walls.

    At the goal itself the drift is 0.
    Raises ValueError where speed_mps is not positive.
    """
    check.positive(speed_mps=speed_mps)

    def drift(agent: Agent, /) -> jax.Array:
        position = check.floats(agent.position)
        return speed_mps * unit_vector(check.floats(goal).astype(position.dtype) - position)

    return drift


def random_walk(
    key: jax.Array,
    *,
    batch_size: int,
    num_steps: int,
    environment: Environment,
    motion: Motion,
) -> Walk:
    """Random walks of RatInABox's animals, in the form of `sorscher_walk`.

    -> Walk of batch_size paths of num_steps of dt. The origin is the centre of the environment.
    Raises ValueError where a size is below 1, or the environment is a track.
    """
    check.at_least(1, batch_size=batch_size, num_steps=num_steps)
    if environment.num_dims != 2:
        raise ValueError("random_walk needs an environment of two dimensions")
    start_key, walk_key = jax.random.split(key)
    first = jax.vmap(functools.partial(start, environment=environment, motion=motion))(
        jax.random.split(start_key, batch_size)
    )
    _, path = jax.vmap(
        functools.partial(walk, environment=environment, motion=motion, num_steps=num_steps)
    )(first, jax.random.split(walk_key, batch_size))
    centre = jnp.asarray([(low + high) / 2 for low, high in environment.extent])
    return Walk(
        start=first.position - centre[None],
        start_heading=_direction(first.velocity),
        positions=path.position - centre[None, None],
        displacements=motion.dt_s * path.measured_velocity,
        headings=_direction(path.measured_velocity),
    )


def _direction(vector: jax.Array) -> jax.Array:
    """The angle (rad) of vectors [..., 2] from the x axis -> [...]."""
    return jnp.arctan2(vector[..., 1], vector[..., 0])


# --- Given paths ---


def along(positions: jax.Array, *, motion: Motion, environment: Environment | None = None) -> Agent:
    """An animal that follows given positions: [time + 1, dim] (m) -> [time, ...].

    The first position is the start. Velocities are displacements over dt, and the head turns as in
    `step`. In a periodic environment, if one is given, each step takes the shortest way.
    Source: RatInABox `Agent.import_trajectory`. Deviations: positions must be dt apart already
    (`resample_trajectory`); RatInABox interpolates by splines, which leave the environment, and
    imports into solid boundaries only.
    Raises ValueError where there are fewer than two positions.
    """
    positions = check.floats(positions)
    chex.assert_rank(positions, 2)
    check.at_least(2, positions=len(positions))
    steps = positions[1:] - positions[:-1]
    if environment is not None and environment.periodic:
        widths = jnp.asarray([[high - low for low, high in environment.extent]], steps.dtype)
        steps = wrap(steps, -widths / 2, widths / 2)
    velocities = steps / motion.dt_s

    def turn(head: jax.Array, velocity: jax.Array) -> tuple[jax.Array, jax.Array]:
        head = turn_head(head, velocity, motion)
        return head, head

    first = velocities[0]
    first_head = jnp.sign(first) if len(first) == 1 else unit_vector(first)
    _, heads = jax.lax.scan(turn, first_head, velocities)
    if positions.shape[1] == 2:
        directions = _direction(velocities)
        turns = wrap_angle(jnp.diff(directions, prepend=directions[:1])) / motion.dt_s
    else:
        turns = jnp.zeros(len(velocities))
    return Agent(positions[1:], velocities, turns, velocities, heads)


def teleport(
    key: jax.Array, *, environment: Environment, num_steps: int, num_places: int
) -> jax.Array:
    """Positions on straight lines between random places.

    num_places uniform places (`uniform_positions`), evenly spaced in time over num_steps + 1 ticks,
    with linear interpolation -> [num_steps + 1, dim] (m), for `along`.
    Raises ValueError where num_steps is below 1 or num_places is below 2.
    Source: the `teleport` agent of dsm-hippocampus. Deviation: its splines between places leave the
    box; straight lines stay inside a convex one.
    """
    check.at_least(1, num_steps=num_steps)
    check.at_least(2, num_places=num_places)
    places = uniform_positions(key, environment, num_places)
    clock = jnp.linspace(0, num_places - 1, num_steps + 1)
    ticks = jnp.arange(num_places, dtype=clock.dtype)
    return jax.vmap(lambda x: jnp.interp(clock, ticks, x), 1, 1)(places)


def resample_trajectory(
    times_s: np.ndarray, positions: np.ndarray, *, dt_s: float, max_gap_s: float
) -> list[np.ndarray]:
    """Recorded positions at regular times, by linear interpolation, without gaps in tracking.

    Samples with a NaN are dropped. The path is cut where two samples are further apart than
    max_gap_s. Each piece starts at its own first sample. Runs on the host.

    times_s [sample] (s, increasing), positions [sample, 2]
    -> pieces [time, 2] in their order, dt_s between positions, each of two positions or more.
    Raises ValueError where times do not increase, or dt_s or max_gap_s is not positive.
    """
    times_s = np.asarray(times_s, dtype=np.float64)
    positions = np.asarray(positions, dtype=np.float64)
    chex.assert_rank(times_s, 1)
    chex.assert_shape(positions, (times_s.shape[0], 2))
    check.positive(dt_s=dt_s, max_gap_s=max_gap_s)

    tracked = np.isfinite(times_s) & np.isfinite(positions).all(axis=-1)
    times_s, positions = times_s[tracked], positions[tracked]
    intervals = np.diff(times_s)
    if np.any(intervals <= 0):
        raise ValueError("times_s must increase from sample to sample, but do not")

    pieces = []
    for sample in np.split(np.arange(len(times_s)), np.flatnonzero(intervals > max_gap_s) + 1):
        if len(sample) < 2:
            continue
        t, x = times_s[sample], positions[sample]
        # The small term keeps a last sample that rounding put just after its tick.
        count = int(np.floor((t[-1] - t[0]) / dt_s + 1e-6)) + 1
        if count < 2:
            continue
        clock = t[0] + dt_s * np.arange(count)
        pieces.append(np.stack([np.interp(clock, t, x[:, axis]) for axis in (0, 1)], axis=-1))
    return pieces
