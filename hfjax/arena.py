"""Where animals move, and how: environments, RatInABox's motion, other walks, recorded paths."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import shapely

from hfjax import check

# (position [batch, 2], heading [batch], *, width_m, border_m)
#   -> (position in the box [batch, 2], further turn [batch] (rad), factor on the speed [batch])
Boundary = Callable[..., tuple[jax.Array, jax.Array, jax.Array]]


class Walk(NamedTuple):
    """A batch of paths. positions_t = positions_tm1 + displacements_t, from `start` on.

    start [batch, 2] (m), start_heading [batch] (rad): direction of the step that led to the start.
    positions [batch, time, 2] (m), displacements [batch, time, 2] (m per step).
    headings [batch, time] (rad, in [-pi, pi)): direction of the step that leads to positions_t.
    In a periodic box positions are folded into the box; displacements are as walked, unfolded.
    """

    start: jax.Array
    start_heading: jax.Array
    positions: jax.Array
    displacements: jax.Array
    headings: jax.Array


def wrap_angle(angle: jax.Array) -> jax.Array:
    """The same angle in [-pi, pi)."""
    return jnp.mod(angle + jnp.pi, 2 * jnp.pi) - jnp.pi


def avoid_walls(
    position: jax.Array, heading: jax.Array, *, width_m: float, border_m: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Near a wall and heading at it: turn until parallel to the wall, at a quarter of the speed.

    With a the heading relative to the outward normal of the nearest wall, and only where the wall
    is nearer than border_m and |a| < pi/2: turn = sign(a) (pi/2 - |a|), speed factor 1/4.

    position [batch, 2] (m, box centred on 0), heading [batch] (rad)
    -> position [batch, 2] as it came, turn [batch] (rad), speed factor [batch].
    Source: Sorscher et al. 2019, after Raudies & Hasselmo 2012; grid-pattern-formation
    `avoid_wall`. As there, nothing holds the animal inside: a long step can end outside the box
    (then the wall counts as near), and a heading exactly along the normal is not turned.
    """
    # Walls in the order east, north, west, south: the outward normal of wall k points to k pi/2.
    to_wall = jnp.concatenate([width_m / 2 - position, width_m / 2 + position], axis=-1)
    normal = jnp.argmin(to_wall, axis=-1).astype(heading.dtype) * (jnp.pi / 2)
    a = wrap_angle(heading - normal)
    blocked = (jnp.min(to_wall, axis=-1) < border_m) & (jnp.abs(a) < jnp.pi / 2)
    turn = jnp.where(blocked, jnp.sign(a) * (jnp.pi / 2 - jnp.abs(a)), 0)
    return position, turn, jnp.where(blocked, 0.25, 1).astype(heading.dtype)


def wrap_around(
    position: jax.Array, heading: jax.Array, *, width_m: float, border_m: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """A box without walls: who leaves on one side enters on the other.

    Shapes as in `avoid_walls`; the turn is 0, the speed factor 1, and border_m is not used.
    """
    del border_m
    folded = jnp.mod(position + width_m / 2, width_m) - width_m / 2
    return folded, jnp.zeros_like(heading), jnp.ones_like(heading)


def sorscher_walk(
    key: jax.Array,
    *,
    batch_size: int,
    num_steps: int,
    width_m: float = 2.2,
    dt_s: float = 0.02,
    speed_scale_mps: float = 0.13 * 2 * np.pi,
    turn_std_radps: float = 11.52,
    border_m: float = 0.03,
    boundary: Boundary = avoid_walls,
) -> Walk:
    """Random walks with a new Rayleigh speed and a normal turn at each step, in a square box.

    x_t = x_tm1 + c_tm1 s_tm1 dt (cos, sin)(theta_tm1),   s ~ Rayleigh(speed_scale_mps)
    theta_t = theta_tm1 + w_tm1 + N(0, turn_std_radps) dt
    where turn w and speed factor c come from `boundary` at x_tm1, theta_tm1. x_0 is uniform in the
    box (m, centred on 0), theta_0 uniform on the circle.

    -> Walk with batch_size paths of num_steps. As published, `start` is the position after a first
    step that is not part of the path, and `start_heading` the direction of that step.
    Raises ValueError where a size, a length or a time is not positive, or a spread is negative.
    Source: Sorscher et al. 2019, supplement; grid-pattern-formation `generate_trajectory`.
    Deviation: none in the law of the walk; the random numbers are other ones.
    """
    check.at_least(1, batch_size=batch_size, num_steps=num_steps)
    check.positive(width_m=width_m, dt_s=dt_s)
    check.not_negative(
        speed_scale_mps=speed_scale_mps, turn_std_radps=turn_std_radps, border_m=border_m
    )

    position_key, heading_key, speed_key, turn_key = jax.random.split(key, 4)
    # One step before the start, and one look at the boundary after the end, which folds the last
    # position into a periodic box.
    drawn = (num_steps + 2, batch_size)
    # jax.random.rayleigh takes the logarithm of a draw that can be 0: one infinite step in 2^23.
    uniform = jax.random.uniform(speed_key, drawn)
    steps = (speed_scale_mps * dt_s) * jnp.sqrt(-2 * jnp.log1p(-uniform))
    turns = jax.random.normal(turn_key, drawn) * (turn_std_radps * dt_s)
    position_0 = jax.random.uniform(
        position_key, (batch_size, 2), minval=-width_m / 2, maxval=width_m / 2
    )
    heading_0 = jax.random.uniform(heading_key, (batch_size,), minval=-jnp.pi, maxval=jnp.pi)

    def move(state, noise):
        position, heading = state
        step, turn = noise
        position, further_turn, factor = boundary(
            position, heading, width_m=width_m, border_m=border_m
        )
        direction = jnp.stack([jnp.cos(heading), jnp.sin(heading)], axis=-1)
        displacement = (factor * step)[:, None] * direction
        moved = (position + displacement, heading + turn + further_turn)
        return moved, (position, heading, displacement)

    _, (positions, headings, displacements) = jax.lax.scan(
        move, (position_0, heading_0), (steps, turns)
    )
    headings = wrap_angle(headings)
    return Walk(
        start=positions[1],
        start_heading=headings[0],
        positions=positions[2:].swapaxes(0, 1),
        displacements=displacements[1:-1].swapaxes(0, 1),
        headings=headings[1:-1].swapaxes(0, 1),
    )


class PeriodicWalk(NamedTuple):
    """An animal on a ring (one dim) or torus: position [dim] (m) and velocity [dim] (m/s)."""

    position: jax.Array
    velocity: jax.Array


def periodic_walk_start(
    key: jax.Array, *, num_dims: int, width_m: float, speed_mean_mps: float, speed_std_mps: float
) -> PeriodicWalk:
    """A draw from the stationary state of `periodic_walk`: uniform position, normal velocity.

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
    """A walk around a ring or torus whose velocity is an Ornstein-Uhlenbeck process.

    Each step moves first, then draws the velocity of the next one, along each axis by itself:
    x_t = x_tm1 + dt v_tm1, v_t = v_tm1 + dt (mean - v_tm1) / T + std sqrt(2 dt / T) N(0, 1).

    -> (the animal after the last step, the path: positions and velocities [time, dim]).
    Positions lie in [-width_m / 2, width_m / 2).
    Raises ValueError where num_steps is below 1, width_m, dt_s or coherence_s is not positive,
    speed_std_mps is negative, speed_mean_mps not finite, or dt_s is above coherence_s.
    Source: the one-dimensional motion of RatInABox 1.6.3 `Agent.update` (1.15 draws the velocity
    first). Deviation: in two dimensions RatInABox draws turn and speed apart from each other; here
    the two components of the velocity are independent.
    """
    check.at_least(1, num_steps=num_steps)
    check.positive(width_m=width_m, dt_s=dt_s, coherence_s=coherence_s)
    check.not_negative(speed_std_mps=speed_std_mps)
    if not math.isfinite(speed_mean_mps):
        raise ValueError(f"speed_mean_mps must be a finite number, but is {speed_mean_mps}")
    if dt_s > coherence_s:
        raise ValueError(f"dt_s ({dt_s}) must not be above coherence_s ({coherence_s})")
    kappa = dt_s / coherence_s
    noise = (
        speed_std_mps
        * (2 * kappa) ** 0.5
        * jax.random.normal(key, (num_steps, *walk.position.shape), walk.position.dtype)
    )

    def move(walk, noise):
        position = walk.position + dt_s * walk.velocity
        position = jnp.mod(position + width_m / 2, width_m) - width_m / 2
        velocity = walk.velocity + kappa * (speed_mean_mps - walk.velocity) + noise
        walk = PeriodicWalk(position, velocity)
        return walk, walk

    return jax.lax.scan(move, walk, noise)


class Environment(NamedTuple):
    """Where an animal can be, as plain numbers; made by `box`, `polygon`, `track` and others.

    boundary [corner, 2] (m): the outer polygon; on a track [0, 2].
    inner_walls [wall, end, 2] (m): thin straight walls inside.
    holes: polygons [corner, 2] (m) inside, that nobody enters.
    extent: (lowest, highest) coordinate (m) along each dimension.
    periodic: who leaves on one side enters on the other.
    """

    boundary: np.ndarray
    inner_walls: np.ndarray
    holes: tuple[np.ndarray, ...]
    extent: tuple[tuple[float, float], ...]
    periodic: bool

    @property
    def num_dims(self) -> int:
        """1 on a track, 2 elsewhere."""
        return len(self.extent)

    @property
    def walls(self) -> np.ndarray:
        """All walls [wall, end, 2] (m), in RatInABox's order: boundary, inner walls, holes."""
        outer = () if self.periodic else (self.boundary,)
        return np.concatenate(
            [*map(_edges, outer), self.inner_walls, *map(_edges, self.holes)]
        ).reshape(-1, 2, 2)


def _edges(corners: np.ndarray) -> np.ndarray:
    """The sides of a polygon: [corner, 2] -> [side, end, 2]."""
    return np.stack([np.roll(corners, -1, axis=0), corners], axis=1)


def polygon(
    corners: Any, *, inner_walls: Any = (), holes: Sequence[Any] = (), periodic: bool = False
) -> Environment:
    """An environment with any straight-edged outline, walls within it and holes in it.

    corners [corner, 2] (m), inner_walls [wall, end, 2] (m), holes: sequence of [corner, 2] (m).
    Raises ValueError where a coordinate is not finite, an outline crosses itself or has no area,
    a wall or a hole lies outside (a wall by more than a billionth, which is rounding), a wall has
    no length, holes overlap or share a side, or a periodic outline is not a rectangle along the
    axes.
    Source: RatInABox `Environment`.
    """
    outline = _outline(corners, "the boundary")
    walls = np.asarray(inner_walls, float).reshape(-1, 2, 2)
    space = shapely.Polygon(outline)
    low, high = outline.min(axis=0), outline.max(axis=0)
    within = space.buffer(1e-9 * (high - low).max())
    for wall in walls:
        if not (np.isfinite(wall).all() and within.covers(shapely.LineString(wall))):
            raise ValueError(f"the wall {wall.tolist()} lies outside the environment, or partly so")
        if np.array_equal(*wall):
            raise ValueError(f"the wall {wall.tolist()} has no length")
    cut = tuple(_outline(hole, "a hole") for hole in holes)
    for hole in cut:
        if not space.contains(shapely.Polygon(hole)):
            raise ValueError(f"the hole {hole.tolist()} does not lie inside the environment")
    if not shapely.Polygon(outline, cut).is_valid:
        raise ValueError("holes must not overlap, nor share a side with another or the boundary")
    if periodic and not space.equals(shapely.box(*low, *high)):
        raise ValueError("a periodic environment must be a rectangle along the axes")
    extent = tuple((float(a), float(b)) for a, b in zip(low, high, strict=True))
    return Environment(outline, walls, cut, extent, periodic)


def _outline(corners: Any, name: str) -> np.ndarray:
    outline = np.asarray(corners, float)
    if outline.ndim != 2 or outline.shape[1] != 2 or len(outline) < 3:
        raise ValueError(f"{name} must be at least three corners (x, y), but is {corners}")
    if not (np.isfinite(outline).all() and shapely.Polygon(outline).is_valid):
        raise ValueError(f"{name} must not cross itself or be flat, but is {outline.tolist()}")
    return outline


def box(
    width_m: float = 1.0,
    height_m: float | None = None,
    *,
    inner_walls: Any = (),
    holes: Sequence[Any] = (),
    periodic: bool = False,
    centred: bool = False,
) -> Environment:
    """A rectangle (a square where height_m is None), from the origin or centred on it.

    inner_walls, holes, periodic and what is raised: as for `polygon`.
    """
    height_m = width_m if height_m is None else height_m
    check.positive(width_m=width_m, height_m=height_m)
    corners = np.array([(0, 0), (width_m, 0), (width_m, height_m), (0, height_m)], float)
    if centred:
        corners -= (width_m / 2, height_m / 2)
    return polygon(corners, inner_walls=inner_walls, holes=holes, periodic=periodic)


def track(length_m: float = 1.0, *, periodic: bool = False) -> Environment:
    """A linear track from 0 to length_m, or a ring of that circumference."""
    check.positive(length_m=length_m)
    nothing = np.zeros((0, 2, 2))
    return Environment(nothing[:, 0], nothing, (), ((0.0, float(length_m)),), periodic)


def from_ratinabox(environment: Any) -> Environment:
    """The environment of a RatInABox `Environment`: outline, walls, holes, boundary conditions."""
    periodic = environment.boundary_conditions == "periodic"
    if environment.dimensionality == "1D":
        return track(environment.scale, periodic=periodic)
    holes = [np.asarray(hole, float) for hole in environment.holes]
    sides = sum(map(len, holes)) + (0 if periodic else len(environment.boundary))
    # RatInABox keeps all walls in one array, those added later last; sides of polygons are there.
    drawn = {
        tuple(wall.ravel())
        for hole in [*holes, environment.boundary]
        for wall in _edges(np.asarray(hole, float))
    }
    walls = np.asarray(environment.walls, float).reshape(-1, 2, 2)
    inner = [wall for wall in walls if tuple(wall.ravel()) not in drawn]
    if len(inner) != len(walls) - sides:
        raise ValueError("the environment's walls are not those of its boundary and holes")
    return polygon(environment.boundary, inner_walls=inner, holes=holes, periodic=periodic)


def to_ratinabox(environment: Environment) -> Any:
    """A RatInABox `Environment` with the same outline, walls, holes and boundary conditions.

    Raises ValueError for a periodic box that does not start at the origin, which it has not.
    """
    from ratinabox import Environment as RatInABoxEnvironment  # slow to import

    conditions = "periodic" if environment.periodic else "solid"
    right = environment.extent[0][1]
    if environment.num_dims == 1:
        return RatInABoxEnvironment(
            {"dimensionality": "1D", "scale": right, "boundary_conditions": conditions}
        )
    top = environment.extent[1][1]
    shape: dict[str, Any] = {"boundary": environment.boundary.tolist()}
    at_origin = np.array([(0, 0), (right, 0), (right, top), (0, top)])
    if environment.boundary.shape == (4, 2) and np.array_equal(environment.boundary, at_origin):
        shape = {"scale": top, "aspect": right / top}
    elif environment.periodic:
        raise ValueError("RatInABox's periodic boxes start at the origin")
    return RatInABoxEnvironment(
        {
            **shape,
            "walls": environment.inner_walls.tolist(),
            "holes": [hole.tolist() for hole in environment.holes],
            "boundary_conditions": conditions,
        }
    )


def contains(environment: Environment, positions: jax.Array) -> jax.Array:
    """Which positions lie inside, and in no hole: [..., dim] (m) -> [...] of bool."""
    if environment.num_dims == 1:
        low, high = environment.extent[0]
        return (positions[..., 0] >= low) & (positions[..., 0] <= high)

    def inside(corners: np.ndarray) -> jax.Array:
        """By the number of sides that lie to the right."""
        odd = jnp.zeros(positions.shape[:-1], bool)
        x, y = positions[..., 0], positions[..., 1]
        for (x1, y1), (x0, y0) in _edges(corners):
            if y0 != y1:
                crosses = (y0 > y) != (y1 > y)
                odd ^= crosses & (x < x0 + (y - y0) * ((x1 - x0) / (y1 - y0)))
        return odd

    allowed = inside(environment.boundary)
    for hole in environment.holes:
        allowed &= ~inside(hole)
    return allowed


def uniform_positions(key: jax.Array, environment: Environment, count: int) -> jax.Array:
    """Positions uniform over all that is inside and in no hole -> [count, dim] (m).

    By a triangulation: a triangle with its share of the area, then uniform in it.
    """
    if environment.num_dims == 1:
        low, high = environment.extent[0]
        return jax.random.uniform(key, (count, 1), minval=low, maxval=high)
    space = shapely.Polygon(environment.boundary, environment.holes)
    pieces = shapely.constrained_delaunay_triangles(space).geoms
    a, b, c = np.stack([shapely.get_coordinates(p)[:3] for p in pieces], axis=1)
    which_key, within_key = jax.random.split(key)
    area = jnp.asarray([p.area for p in pieces])
    which = jax.random.categorical(which_key, jnp.log(area), shape=(count,))
    u = jax.random.uniform(within_key, (2, count, 1))
    u = jnp.where(u[0] + u[1] > 1, 1 - u, u)  # the parallelogram folded onto the triangle
    a, b, c = (jnp.asarray(corner)[which] for corner in (a, b, c))
    return a + u[0] * (b - a) + u[1] * (c - a)


class Motion(NamedTuple):
    """Constants of RatInABox's motion; made by `motion`, which tells them."""

    dt_s: float
    speed_mean_mps: float
    speed_std_mps: float
    speed_coherence_s: float
    rotation_std_radps: float
    rotation_coherence_s: float
    thigmotaxis: float
    wall_distance_m: float
    wall_strength: float
    head_direction_s: float


def motion(
    *,
    dt_s: float = 0.05,
    speed_mean_mps: float = 0.08,
    speed_std_mps: float = 0.08,
    speed_coherence_s: float = 0.7,
    rotation_std_radps: float = math.radians(120),
    rotation_coherence_s: float = 0.08,
    thigmotaxis: float = 0.5,
    wall_distance_m: float = 0.1,
    wall_strength: float = 1.0,
    head_direction_s: float = 0.15,
) -> Motion:
    """Constants of RatInABox's motion, fitted there to rats of Sargolini et al. 2006.

    dt_s: a step. speed_mean_mps: in two dimensions the scale of the Rayleigh distribution of
    speeds, in one the mean velocity. speed_std_mps: in one dimension its deviation; in two, 0 makes
    the speed constant, and any other number is not used. *_coherence_s: times over which speed and
    rotational velocity are forgotten. thigmotaxis: 0 shuns walls, 1 follows them. wall_distance_m:
    how far a wall is felt, wall_strength: how much. head_direction_s: time over which the head
    follows the direction of movement.

    In two dimensions `start` and `step` raise ValueError where speed_mean_mps is negative.
    Raises ValueError where a time or a length is not positive, a spread, a speed or a strength is
    negative, thigmotaxis is outside [0, 1], or dt_s is twice a coherence time or more, with which
    a step no longer forgets (RatInABox takes it, and its velocities grow without bound).
    Source: RatInABox 1.15.3 `Agent.default_params`.
    """
    constants = Motion(**locals())
    check.positive(
        dt_s=dt_s,
        speed_coherence_s=speed_coherence_s,
        rotation_coherence_s=rotation_coherence_s,
        wall_distance_m=wall_distance_m,
        head_direction_s=head_direction_s,
    )
    check.not_negative(
        speed_std_mps=speed_std_mps,
        rotation_std_radps=rotation_std_radps,
        wall_strength=wall_strength,
    )
    if not math.isfinite(speed_mean_mps):
        raise ValueError(f"speed_mean_mps must be a finite number, but is {speed_mean_mps}")
    if not 0 <= thigmotaxis <= 1:
        raise ValueError(f"thigmotaxis must be between 0 and 1, but is {thigmotaxis}")
    for name in ("speed_coherence_s", "rotation_coherence_s"):
        if dt_s >= 2 * getattr(constants, name):
            raise ValueError(
                f"dt_s must be below twice {name} ({getattr(constants, name)}), but is {dt_s}"
            )
    return constants


class Agent(NamedTuple):
    """An animal; batches by vmap.

    position [dim] (m), velocity [dim] (m/s): what the motion model remembers.
    rotational_velocity [] (rad/s), in two dimensions.
    measured_velocity [dim] (m/s): of the step that was taken, walls and all.
    head_direction [dim]: unit vector, in one dimension the sign of the measured velocity.
    """

    position: jax.Array
    velocity: jax.Array
    rotational_velocity: jax.Array
    measured_velocity: jax.Array
    head_direction: jax.Array


def start(key: jax.Array, *, environment: Environment, motion: Motion) -> Agent:
    """An animal anywhere inside, heading anywhere, at the mean speed.

    Source: RatInABox `Agent.initialise_position_and_velocity`.
    """
    position_key, heading_key = jax.random.split(key)
    position = uniform_positions(position_key, environment, 1)[0]
    if environment.num_dims == 1:
        direction = jnp.ones(1)
    else:
        check.not_negative(speed_mean_mps=motion.speed_mean_mps)
        heading = jax.random.uniform(heading_key, minval=-jnp.pi, maxval=jnp.pi)
        direction = jnp.stack([jnp.cos(heading), jnp.sin(heading)])
    velocity = motion.speed_mean_mps * direction
    return Agent(position, velocity, jnp.zeros(()), velocity, direction)


def step(
    agent: Agent,
    noise: jax.Array,
    *,
    environment: Environment,
    motion: Motion,
    drift_velocity: jax.Array | None = None,
    drift_ratio: float = 1.0,
) -> Agent:
    """One step of dt of RatInABox's motion.

    Two dimensions: rotational velocity w is an Ornstein-Uhlenbeck process with deviation
    rotation_std and turns the velocity by w dt; speed is Rayleigh distributed, moved on as the
    normal variable of the same quantile. One dimension: velocity is such a process around
    speed_mean. A drift velocity, if given, draws the velocity to it within the speed's coherence
    time over drift_ratio. Then walls push (`_walls_push`), the step is taken, and one that would
    cross a wall is replaced by a bounce (`_bounce`). Periodic boxes and rings are closed; at the
    end of a track the animal is set back to 1 cm from it.

    noise: standard normal [2] (turn, speed), in one dimension [1]. -> Agent.
    Source: RatInABox 1.15.3 `Agent.update`. Deviations: see `_bounce`; an animal that did not move
    keeps its head direction (there: a random one).
    """
    dt, T = motion.dt_s, motion.speed_coherence_s
    if environment.num_dims == 1:
        velocity, w = agent.velocity, agent.rotational_velocity
        velocity += dt / T * (motion.speed_mean_mps - velocity)
        velocity += motion.speed_std_mps * math.sqrt(2 * dt / T) * noise
    else:
        check.not_negative(speed_mean_mps=motion.speed_mean_mps)
        kappa = dt / motion.rotation_coherence_s
        w = (1 - kappa) * agent.rotational_velocity
        w += motion.rotation_std_radps * math.sqrt(2 * kappa) * noise[0]
        cosine, sine = jnp.cos(w * dt), jnp.sin(w * dt)
        x, y = agent.velocity
        speed_sq = x**2 + y**2
        still = speed_sq < 1e-16  # then: as slow as 1e-8 m/s, along x
        scale = _next_speed(speed_sq, noise[1], motion) * jnp.where(
            still, 1, jax.lax.rsqrt(jnp.where(still, 1, speed_sq))
        )
        velocity = scale * jnp.stack(
            [jnp.where(still, 1, cosine * x - sine * y), jnp.where(still, 0, sine * x + cosine * y)]
        )
    if drift_velocity is not None:
        velocity += drift_ratio * dt / T * (drift_velocity - velocity)

    before = agent.position
    walls = environment.walls
    if not len(walls):
        position = before + dt * velocity
    else:
        acceleration, push = _walls_push(before, walls, motion)
        velocity += dt * acceleration
        position = before + dt * push + dt * velocity
        position, velocity = _bounce(before, position, velocity, environment, motion)
    if environment.num_dims == 1 and not environment.periodic:
        low, high = environment.extent[0]
        outside = (position < low) | (position > high)
        position = jnp.where(outside, jnp.clip(position, low + 0.01, high - 0.01), position)

    measured = (position - before) / dt
    moved = jnp.sum(measured**2) > 0
    if environment.num_dims == 1:
        head = jnp.where(moved, jnp.sign(measured), agent.head_direction)
    else:
        rate = min(1, dt / motion.head_direction_s)
        head = (1 - rate) * agent.head_direction + rate * _unit(measured)
        head = jnp.where(moved, _unit(head), agent.head_direction)
    if environment.periodic:
        low, high = np.asarray(environment.extent, np.float32).T
        position = low + jnp.mod(position - low, high - low)
    return Agent(position, velocity, w, measured, head)


def _unit(vector: jax.Array) -> jax.Array:
    """A vector [2] at length 1, and 0 as it is."""
    length_sq = jnp.sum(vector**2)
    return vector * jax.lax.rsqrt(jnp.where(length_sq > 0, length_sq, 1))


def _next_speed(speed_sq: jax.Array, noise: jax.Array, motion: Motion) -> jax.Array:
    """The speed (m/s) after dt: that of the quantile's normal variable after an OU step.

    s = sigma sqrt(-2 log(1 - Phi(z))), and back; both by the smaller tail, which keeps its digits.
    """
    sigma = motion.speed_mean_mps
    if not motion.speed_std_mps or not sigma:
        return jnp.full_like(speed_sq, sigma)
    a = speed_sq / (2 * sigma**2)
    low = -jnp.expm1(-a)  # P(slower)
    fast = low > 0.5
    tail = jnp.clip(jnp.where(fast, jnp.exp(-a), low), 1e-6, 0.5)
    z = jax.scipy.special.ndtri(tail)
    z = jnp.where(fast, -z, z)
    kappa = motion.dt_s / motion.speed_coherence_s
    z = (1 - kappa) * z + math.sqrt(2 * kappa) * noise
    tail = jax.scipy.special.erfc(jnp.abs(z) * math.sqrt(0.5)) / 2
    half_sq = jnp.where(z > 0, -jnp.log(tail), -jnp.log1p(-tail))
    return sigma * jnp.sqrt(2 * half_sq)


def _walls_push(position, walls: np.ndarray, motion: Motion) -> tuple[jax.Array, jax.Array]:
    """What walls nearer than d do, with x the distance, n away from the wall, v the mean speed.

    acceleration 3 (1 - thigmotaxis)^2 v^2/d^2 (d - x) n (m/s^2), as of a spring that turns the
    animal round, and a shift of the position at 6 thigmotaxis^2 v (1 - sqrt(1 - (d - x)^2/d^2)) n
    (m/s), which the velocity does not feel, so that the animal goes on along the wall. In a
    periodic environment walls beyond the seam are not felt.
    Source: RatInABox `Agent._wall_velocity_update`.
    """
    d, v = motion.wall_distance_m, motion.wall_strength * motion.speed_mean_mps
    acceleration = [jnp.zeros_like(position[0])] * 2
    push = list(acceleration)
    for corner, end in walls:
        side = end - corner
        offset = position[0] - corner[0], position[1] - corner[1]
        along = (offset[0] * side[0] + offset[1] * side[1]) / (side @ side)
        along = jnp.clip(along, 0, 1)
        away = offset[0] - along * side[0], offset[1] - along * side[1]
        distance_sq = away[0] ** 2 + away[1] ** 2
        per_distance = jax.lax.rsqrt(jnp.maximum(distance_sq, 1e-30))
        near = jnp.maximum(d - distance_sq * per_distance, 0) / d
        spring = v**2 / d * near * per_distance
        belt = v * (1 - jnp.sqrt(1 - near**2)) * per_distance
        for axis in (0, 1):
            acceleration[axis] = acceleration[axis] + spring * away[axis]
            push[axis] = push[axis] + belt * away[axis]
    return (
        3 * (1 - motion.thigmotaxis) ** 2 * jnp.stack(acceleration),
        6 * motion.thigmotaxis**2 * jnp.stack(push),
    )


def _bounce(before, position, velocity, environment, motion) -> tuple[jax.Array, jax.Array]:
    """Where a step ends that must not cross a wall, and the velocity there.

    While it crosses one: the velocity is reflected in that wall, its length set to half the mean
    speed, and the step begun again from `before`.
    Source: RatInABox `Agent._check_and_handle_wall_collisions`. Deviations: walls are a millionth
    of the environment thick, where RatInABox moves them at random by 1e-9 m, so that corners are
    closed; in a periodic environment walls also stand beyond the seam, where RatInABox's animals
    pass through them; after ten bounces in one step the animal stays where it was.
    """
    walls = environment.walls
    if environment.periodic:
        around = np.meshgrid(*[(0, low - high, high - low) for low, high in environment.extent])
        walls = walls + np.stack(around, axis=-1).reshape(-1, 1, 1, 2)
        walls = walls.reshape(-1, 2, 2)
    thick = 1e-6 * max(high - low for low, high in environment.extent)
    lengths = np.linalg.norm(walls[:, 1] - walls[:, 0], axis=-1)
    tangents = (walls[:, 1] - walls[:, 0]) / lengths[:, None]

    def first_wall(position):
        """Whether the step crosses a wall, and the direction of the first in the list [2]."""
        crossed, t = jnp.zeros((), bool), [jnp.zeros_like(position[0])] * 2
        for k in reversed(range(len(walls))):
            (x, y), (tx, ty) = walls[k, 0], tangents[k]
            side_before = ty * (before[0] - x) - tx * (before[1] - y)
            side_after = ty * (position[0] - x) - tx * (position[1] - y)
            flip = jnp.where(side_before < 0, -1, 1)
            a, b = flip * side_before, flip * side_after
            reach = jnp.clip(a / jnp.where(a - b > 0, a - b, 1), 0, 1)
            along_before = tx * (before[0] - x) + ty * (before[1] - y)
            along_after = tx * (position[0] - x) + ty * (position[1] - y)
            along = along_before + reach * (along_after - along_before)
            hit = (b < thick) & (b < a) & (along > -thick) & (along < lengths[k] + thick)
            crossed = crossed | hit
            t = [jnp.where(hit, tx, t[0]), jnp.where(hit, ty, t[1])]
        return crossed, jnp.stack(t)

    def again(carry):
        position, velocity, _, tangent, count = carry
        velocity = 2 * jnp.sum(velocity * tangent) * tangent - velocity
        velocity = 0.5 * abs(motion.speed_mean_mps) * _unit(velocity)
        position = before + motion.dt_s * velocity
        position = jnp.where(count < 10, position, before)
        return position, velocity, *first_wall(position), count + 1

    position, velocity, *_ = jax.lax.while_loop(
        lambda carry: carry[2] & (carry[4] < 11),
        again,
        (position, velocity, *first_wall(position), jnp.int32(0)),
    )
    return position, velocity


def walk(
    agent: Agent,
    key: jax.Array,
    *,
    environment: Environment,
    motion: Motion,
    num_steps: int,
    drift: Callable[[Agent], jax.Array] | None = None,
    drift_ratio: float = 1.0,
) -> tuple[Agent, Agent]:
    """Many steps -> (the animal after the last, the animal after each: leaves [time, ...]).

    drift (agent) -> velocity [dim] (m/s) to drift to, e.g. `towards`; without it a random walk.
    Raises ValueError where num_steps is below 1.
    """
    check.at_least(1, num_steps=num_steps)
    noise = jax.random.normal(key, (num_steps, environment.num_dims))

    def move(agent: Agent, noise: jax.Array):
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


def towards(goal: Any, *, speed_mps: float) -> Callable[[Agent], jax.Array]:
    """A drift for `walk`: straight to a goal [dim] (m) at a speed, whatever stands between."""
    check.positive(speed_mps=speed_mps)

    def drift(agent: Agent) -> jax.Array:
        offset = jnp.asarray(goal, agent.position.dtype) - agent.position
        distance = jnp.linalg.norm(offset)
        return speed_mps * offset / jnp.where(distance > 0, distance, 1)

    return drift


def random_walk(
    key: jax.Array,
    *,
    batch_size: int,
    num_steps: int,
    environment: Environment,
    motion: Motion,
) -> Walk:
    """Paths of RatInABox's animals in the form of `sorscher_walk`, centred on the environment.

    -> Walk: batch_size paths of num_steps of dt, each from `start`. Displacements are those
    walked: in a periodic box unfolded.
    Raises ValueError where a size is below 1, or the environment is a track.
    """
    check.at_least(1, batch_size=batch_size, num_steps=num_steps)
    if environment.num_dims != 2:
        raise ValueError("random_walk needs an environment of two dimensions")
    start_key, walk_key = jax.random.split(key)

    def one(start_key, walk_key):
        agent = start(start_key, environment=environment, motion=motion)
        _, path = walk(agent, walk_key, environment=environment, motion=motion, num_steps=num_steps)
        return agent, path

    keys = jax.random.split(start_key, batch_size), jax.random.split(walk_key, batch_size)
    first, path = jax.vmap(one)(*keys)
    centre = jnp.asarray([(low + high) / 2 for low, high in environment.extent])
    heading = lambda v: jnp.arctan2(v[..., 1], v[..., 0])  # noqa: E731
    return Walk(
        start=first.position - centre[None],
        start_heading=heading(first.velocity),
        positions=path.position - centre[None, None],
        displacements=motion.dt_s * path.measured_velocity,
        headings=heading(path.measured_velocity),
    )


def along(positions: jax.Array, *, motion: Motion, environment: Environment | None = None) -> Agent:
    """An animal led along given positions (m), e.g. recorded ones: [time + 1, dim] -> [time, ...].

    The first position is where it starts. Velocities are those of the steps, of dt each, and the
    head follows as in `step`. In a periodic environment, if given, steps go the shortest way round.
    Source: RatInABox `Agent.import_trajectory`. Deviations: positions are given on the clock
    already (`resample_trajectory`), not interpolated by splines, which leave the environment;
    RatInABox imports into solid boundaries only.
    """
    chex.assert_rank(positions, 2)
    steps = positions[1:] - positions[:-1]
    if environment is not None and environment.periodic:
        widths = jnp.asarray([[high - low for low, high in environment.extent]], steps.dtype)
        steps = jnp.mod(steps + widths / 2, widths) - widths / 2
    velocities = steps / motion.dt_s
    rate = min(1, motion.dt_s / motion.head_direction_s)

    def turn(head, velocity):
        new = (
            jnp.sign(velocity)
            if len(velocity) == 1
            else _unit((1 - rate) * head + rate * _unit(velocity))
        )
        head = jnp.where(jnp.sum(velocity**2) > 0, new, head)
        return head, head

    first = velocities[0]
    _, heads = jax.lax.scan(turn, jnp.sign(first) if len(first) == 1 else _unit(first), velocities)
    if positions.shape[1] == 2:
        directions = jnp.arctan2(velocities[:, 1], velocities[:, 0])
        turns = wrap_angle(jnp.diff(directions, prepend=directions[:1])) / motion.dt_s
    else:
        turns = jnp.zeros(len(velocities))
    return Agent(positions[1:], velocities, turns, velocities, heads)


def teleport(
    key: jax.Array, *, environment: Environment, num_steps: int, num_places: int
) -> jax.Array:
    """Positions between random places, each reached from the last in a straight line.

    num_places uniform places (`uniform_positions`), spread evenly over num_steps + 1 ticks, with
    linear interpolation -> [num_steps + 1, dim] (m), for `along`.
    Raises ValueError where a number is below 1, or places are fewer than 2.
    Source: the thesis' `teleport` agent (dsm-hippocampus). Deviation: its splines between places
    leave the box; straight lines do not (a convex one).
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
    """Recorded positions on a regular clock, by linear interpolation, cut where tracking was lost.

    Samples with a NaN are dropped. Between two samples further apart than max_gap_s the path is
    cut; each piece starts at its own first sample. Runs on the host.

    times_s [sample] (s, increasing), positions [sample, 2]
    -> list of pieces [time, 2], dt_s apart, each of at least two positions, in their order.
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
