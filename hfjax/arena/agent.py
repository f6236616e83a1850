"""RatInABox's motion: its constants, the agent, and one step of it."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hfjax import check
from hfjax.arena.environment import Environment, uniform_positions
from hfjax.arena.periodic import wrap


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
        head = (1 - rate) * agent.head_direction + rate * unit_vector(measured)
        head = jnp.where(moved, unit_vector(head), agent.head_direction)
    if environment.periodic:
        low, high = np.asarray(environment.extent, np.float32).T
        position = wrap(position, low, high)
    return Agent(position, velocity, w, measured, head)


def unit_vector(vector: jax.Array) -> jax.Array:
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
        velocity = 0.5 * abs(motion.speed_mean_mps) * unit_vector(velocity)
        position = before + motion.dt_s * velocity
        position = jnp.where(count < 10, position, before)
        return position, velocity, *first_wall(position), count + 1

    position, velocity, *_ = jax.lax.while_loop(
        lambda carry: carry[2] & (carry[4] < 11),
        again,
        (position, velocity, *first_wall(position), jnp.int32(0)),
    )
    return position, velocity
