"""RatInABox's motion: its constants, the agent, and one step."""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hfjax import check
from hfjax.arena.environment import (
    Environment,
    facing_walls,
    thickness_m,
    uniform_positions,
)
from hfjax.arena.periodic import wrap


class Motion(NamedTuple):
    """Constants of RatInABox's motion. `motion` makes them and explains each."""

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
    """Constants of RatInABox's motion, fitted there to the rats of Sargolini et al. 2006.

    dt_s: length of a step.
    speed_mean_mps: in two dimensions the scale of the Rayleigh distribution of speeds; in one
        dimension the mean velocity.
    speed_std_mps: in one dimension the standard deviation of velocity. In two dimensions only
        whether it is 0 matters: 0 makes the speed constant.
    speed_coherence_s, rotation_coherence_s: time constants of speed and rotational velocity.
    rotation_std_radps: standard deviation of rotational velocity.
    thigmotaxis: from 0 (the animal avoids walls) to 1 (it follows them).
    wall_distance_m: walls act on the animal within this distance.
    wall_strength: strength of that action.
    head_direction_s: time constant with which the head follows the direction of movement.

    Raises ValueError where a time or a length is not positive; a spread or a strength is negative;
    speed_mean_mps is not finite; thigmotaxis is outside [0, 1]; or dt_s is at least twice a
    coherence time, for which the process is unstable (RatInABox accepts it, and its velocities grow
    without bound). In two dimensions `start` and `step` also refuse a negative speed_mean_mps.
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
    """One animal. Use vmap for many.

    position [dim] (m), velocity [dim] (m/s): the state of the motion model.
    rotational_velocity [] (rad/s): state in two dimensions.
    measured_velocity [dim] (m/s): displacement of the last step over dt, after all walls.
    head_direction [dim]: unit vector; in one dimension the sign of the measured velocity.
    """

    position: jax.Array
    velocity: jax.Array
    rotational_velocity: jax.Array
    measured_velocity: jax.Array
    head_direction: jax.Array


def as_agent(agent: Agent) -> Agent:
    """The same animal with arrays of floating-point numbers where it has lists or whole numbers."""
    return Agent(*map(check.floats, agent))


def check_drift(drift_ratio: float, motion: Motion) -> None:
    """Raise ValueError for a drift that would make the velocity grow without bound, or negative.

    v += dt drift_ratio / T (drift - v) overshoots by more than it corrects where dt drift_ratio is
    above 2 T. A ratio that is traced by JAX is not checked.
    """
    if isinstance(drift_ratio, jax.core.Tracer):
        return
    check.not_negative(drift_ratio=drift_ratio)
    if drift_ratio * motion.dt_s >= 2 * motion.speed_coherence_s:
        raise ValueError(
            f"drift_ratio must be below twice speed_coherence_s / dt_s "
            f"({2 * motion.speed_coherence_s / motion.dt_s:g}), but is {drift_ratio}"
        )


def start(key: jax.Array, *, environment: Environment, motion: Motion) -> Agent:
    """An animal at a uniform position and with a uniform heading, at the mean speed.

    Raises ValueError where speed_mean_mps is negative in two dimensions.
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

    1. The velocity changes at random (`_turned_velocity`; in one dimension `_random_velocity`).
    2. A drift velocity, if given, attracts it: v += dt drift_ratio / T (drift - v), with T the
       coherence time of speed.
    3. Nearby walls act on velocity and position (`_wall_forces`).
    4. The animal moves. A step that would cross a wall becomes a bounce (`_bounce`). At the end of
       a track the animal is set back to 1 cm from it. Periodic positions are wrapped.

    An animal exactly on a wall is not pushed by that wall, and moves away from it: into the
    environment, or in front of an inner wall (`facing_walls`). The step is differentiable, bounces
    included; which wall is met does not depend on the gradient.

    noise: standard normal [2] (turn, speed), in one dimension [1]. -> Agent.
    Raises ValueError where speed_mean_mps is negative in two dimensions, drift_ratio is negative,
    or drift_ratio dt is at least twice the coherence time of speed: the velocity would grow without
    bound, as it does in RatInABox.
    Source: RatInABox 1.15.3 `Agent.update`. Deviations: those of `_bounce`; and an animal that did
    not move keeps its head direction, where RatInABox draws one at random.
    """
    agent, noise = as_agent(agent), check.floats(noise)
    rotation = agent.rotational_velocity
    if environment.num_dims == 1:
        velocity = _random_velocity(agent.velocity, noise, motion)
    else:
        velocity, rotation = _turned_velocity(agent.velocity, rotation, noise, motion)
    if drift_velocity is not None:
        check_drift(drift_ratio, motion)
        rate = drift_ratio * motion.dt_s / motion.speed_coherence_s
        velocity += rate * (check.floats(drift_velocity) - velocity)
    position, velocity = _move(agent.position, velocity, environment, motion)
    measured = (position - agent.position) / motion.dt_s
    head = turn_head(agent.head_direction, measured, motion)
    if environment.periodic:
        low, high = np.asarray(environment.extent, np.float32).T
        position = wrap(position, low, high)
    return Agent(position, velocity, rotation, measured, head)


def _random_velocity(velocity: jax.Array, noise: jax.Array, motion: Motion) -> jax.Array:
    """Velocity [1] after dt of an Ornstein-Uhlenbeck process around speed_mean, in one dimension.

    dv = dt / T (mean - v) + std sqrt(2 dt / T) N(0, 1).
    """
    kappa = motion.dt_s / motion.speed_coherence_s
    velocity += kappa * (motion.speed_mean_mps - velocity)
    return velocity + motion.speed_std_mps * math.sqrt(2 * kappa) * noise


def _turned_velocity(
    velocity: jax.Array, rotation: jax.Array, noise: jax.Array, motion: Motion
) -> tuple[jax.Array, jax.Array]:
    """Velocity [2] and rotational velocity [] after dt, in two dimensions.

    Rotational velocity w is an Ornstein-Uhlenbeck process around 0 and turns the velocity by w dt.
    The speed is that of `_next_speed`. An animal at rest starts along x.
    """
    check.not_negative(speed_mean_mps=motion.speed_mean_mps)
    kappa = motion.dt_s / motion.rotation_coherence_s
    w = (1 - kappa) * rotation
    w += motion.rotation_std_radps * math.sqrt(2 * kappa) * noise[0]
    cosine, sine = jnp.cos(w * motion.dt_s), jnp.sin(w * motion.dt_s)
    x, y = velocity
    speed_sq = x**2 + y**2
    still = speed_sq < 1e-16  # slower than 1e-8 m/s: no direction to turn
    scale = _next_speed(speed_sq, noise[1], motion) * jnp.where(
        still, 1, jax.lax.rsqrt(jnp.where(still, 1, speed_sq))
    )
    turned_x = jnp.where(still, 1, cosine * x - sine * y)
    turned_y = jnp.where(still, 0, sine * x + cosine * y)
    return scale * jnp.stack([turned_x, turned_y]), w


def _next_speed(speed_sq: jax.Array, noise: jax.Array, motion: Motion) -> jax.Array:
    """Speed (m/s) after dt: Rayleigh distributed, with the memory of a normal variable z.

    The speed s and z have the same quantile, s = sigma sqrt(-2 log(1 - Phi(z))), and z is an
    Ornstein-Uhlenbeck process of unit variance. Both directions use the smaller tail of the normal
    distribution, which keeps the precision of float32.
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


def _move(
    before: jax.Array, velocity: jax.Array, environment: Environment, motion: Motion
) -> tuple[jax.Array, jax.Array]:
    """Position [dim] after dt, not yet wrapped, and the velocity [dim] there."""
    dt = motion.dt_s
    if len(environment.walls):
        acceleration, push = _wall_forces(before, environment.walls, motion)
        velocity += dt * acceleration
        position = before + dt * push + dt * velocity
        position, velocity = _bounce(before, position, velocity, environment, motion)
    else:
        position = before + dt * velocity
    if environment.num_dims == 1 and not environment.periodic:
        low, high = environment.extent[0]
        outside = (position < low) | (position > high)
        back = min(0.01, (high - low) / 2)
        position = jnp.where(outside, jnp.clip(position, low + back, high - back), position)
    return position, velocity


def turn_head(head: jax.Array, velocity: jax.Array, motion: Motion) -> jax.Array:
    """Head direction [dim] after a step at a measured velocity [dim].

    The low-passed direction of movement, as a unit vector: h' ~ (1 - k) h + k v / |v| with
    k = min(1, dt / head_direction_s). In one dimension the sign of the velocity. An animal that did
    not move keeps its head direction.
    """
    if len(velocity) == 1:
        turned = jnp.sign(velocity)
    else:
        rate = min(1, motion.dt_s / motion.head_direction_s)
        turned = unit_vector((1 - rate) * head + rate * unit_vector(velocity))
    return jnp.where(jnp.sum(velocity**2) > 0, turned, head)


def unit_vector(vector: jax.Array) -> jax.Array:
    """v / |v| of a vector [dim]; what is shorter than 1e-19, with no square in float32, stays."""
    length_sq = jnp.sum(vector**2)
    return vector * jax.lax.rsqrt(jnp.where(length_sq > 0, length_sq, 1))


# --- Walls ---


def _wall_forces(
    position: jax.Array, walls: np.ndarray, motion: Motion
) -> tuple[jax.Array, jax.Array]:
    """Action of walls [wall, end, 2] nearer than d: acceleration [2] (m/s^2) and shift [2] (m/s).

    With x the distance to a wall, n its normal towards the animal, v the mean speed times
    wall_strength, and t the thigmotaxis, summed over walls:
    acceleration = 3 (1 - t)^2 v^2 / d^2 (d - x) n, a spring that turns the animal back;
    shift = 6 t^2 v (1 - sqrt(1 - (d - x)^2 / d^2)) n, of the position alone,
    so that the animal continues along the wall. In a periodic environment walls do not act across
    the periodic boundary. At x = 0 there is no normal, and n is 0.
    Source: RatInABox `Agent._wall_velocity_update`, which moves the animal at random by 1e-6 m, so
    that a wall under it pushes it to either side.
    """
    d, v = motion.wall_distance_m, motion.wall_strength * motion.speed_mean_mps
    acceleration = [jnp.zeros_like(position[0])] * 2
    shift = list(acceleration)
    for corner, end in walls:
        side = end - corner
        offset = position[0] - corner[0], position[1] - corner[1]
        along = (offset[0] * side[0] + offset[1] * side[1]) / (side @ side)
        # Not `clip`: at an end it would take half of the slope.
        along = jnp.where(along > 1, 1, jnp.where(along < 0, 0, along))
        away = offset[0] - along * side[0], offset[1] - along * side[1]
        distance_sq = away[0] ** 2 + away[1] ** 2
        touches = distance_sq < 1e-24
        per_distance = jax.lax.rsqrt(jnp.where(touches, 1, distance_sq))
        near = jnp.maximum(d - distance_sq * per_distance, 0) / d
        spring = v**2 / d * near * per_distance
        # Rounding can lift `near` above 1, and the slope of the root at 0 is infinite.
        belt = v * (1 - jnp.sqrt(jnp.maximum(1 - near**2, 1e-16))) * per_distance
        for axis in (0, 1):
            acceleration[axis] = acceleration[axis] + spring * away[axis]
            shift[axis] = shift[axis] + belt * away[axis]
    return (
        3 * (1 - motion.thigmotaxis) ** 2 * jnp.stack(acceleration),
        6 * motion.thigmotaxis**2 * jnp.stack(shift),
    )


class _Barriers(NamedTuple):
    """Walls as a step meets them, on the host: ends, tangents, lengths, and half thickness (m).

    An animal in a side of a polygon, up to half its thickness, is in front of it. In an inner wall
    it is where it is: `behind` (m) is how far behind the wall it can be and still count as before.
    """

    walls: np.ndarray  # [wall, end, 2]
    tangents: np.ndarray  # [wall, 2]
    lengths: np.ndarray  # [wall]
    behind: np.ndarray  # [wall]
    thickness: float


def _barriers(environment: Environment) -> _Barriers:
    """All walls that a step can cross; in a periodic environment also their images."""
    walls, one_sided = facing_walls(environment)
    if environment.periodic:
        around = np.meshgrid(*[(0, low - high, high - low) for low, high in environment.extent])
        walls = walls + np.stack(around, axis=-1).reshape(-1, 1, 1, 2)
        walls, one_sided = walls.reshape(-1, 2, 2), np.tile(one_sided, 9)
    lengths = np.linalg.norm(walls[:, 1] - walls[:, 0], axis=-1)
    tangents = (walls[:, 1] - walls[:, 0]) / lengths[:, None]
    thickness = thickness_m(environment)
    return _Barriers(walls, tangents, lengths, np.where(one_sided, thickness, 0), thickness)


def _first_crossed(
    before: jax.Array, after: jax.Array, barriers: _Barriers
) -> tuple[jax.Array, jax.Array]:
    """Whether a step crosses a wall [], and the tangent [2] of the first such wall in the list."""
    thick = barriers.thickness
    crossed, tangent = jnp.zeros((), bool), [jnp.zeros_like(after[0])] * 2
    for k in reversed(range(len(barriers.walls))):
        (x, y), (tx, ty) = barriers.walls[k, 0], barriers.tangents[k]
        side_before = ty * (before[0] - x) - tx * (before[1] - y)
        side_after = ty * (after[0] - x) - tx * (after[1] - y)
        flip = jnp.where(side_before < -barriers.behind[k], -1, 1)
        a, b = flip * side_before, flip * side_after
        reach = jnp.clip(a / jnp.where(a - b > 0, a - b, 1), 0, 1)
        along_before = tx * (before[0] - x) + ty * (before[1] - y)
        along_after = tx * (after[0] - x) + ty * (after[1] - y)
        along = along_before + reach * (along_after - along_before)
        hit = (b < thick) & (b < a) & (along > -thick) & (along < barriers.lengths[k] + thick)
        crossed = crossed | hit
        tangent = [jnp.where(hit, tx, tangent[0]), jnp.where(hit, ty, tangent[1])]
    return crossed, jnp.stack(tangent)


class _Bounce(NamedTuple):
    """A step under test: its end, the velocity there, the wall it crosses, bounces so far."""

    position: jax.Array
    velocity: jax.Array
    crossed: jax.Array
    tangent: jax.Array
    num_bounces: jax.Array


def _reflect(bounce: _Bounce, before: jax.Array, barriers: _Barriers, motion: Motion) -> _Bounce:
    """One bounce: reflect the velocity in the wall, at half the mean speed, and step again."""
    _, velocity, _, tangent, num_bounces = bounce
    velocity = 2 * jnp.sum(velocity * tangent) * tangent - velocity
    velocity = 0.5 * abs(motion.speed_mean_mps) * unit_vector(velocity)
    position = before + motion.dt_s * velocity
    position = jnp.where(num_bounces < 10, position, before)
    return _Bounce(position, velocity, *_first_crossed(before, position, barriers), num_bounces + 1)


def _bounce(
    before: jax.Array,
    position: jax.Array,
    velocity: jax.Array,
    environment: Environment,
    motion: Motion,
) -> tuple[jax.Array, jax.Array]:
    """End [2] of a step that must not cross a wall, and the velocity [2] there.

    While the step crosses a wall, the velocity is reflected in that wall and set to half the mean
    speed, and the step starts again at `before`.
    Source: RatInABox `Agent._check_and_handle_wall_collisions`. Deviations: walls are thick, by a
    millionth of the environment, which closes corners, where RatInABox moves walls at random by
    1e-9 m. In a periodic environment walls also stop a step across the periodic boundary, which
    RatInABox lets through. After ten bounces in one step the animal stays where it was.
    """
    barriers = _barriers(environment)

    @jax.custom_jvp
    def bounced(
        before: jax.Array, position: jax.Array, velocity: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        end = _bounces(before, position, velocity, barriers, motion)
        return end.position, end.velocity

    @bounced.defjvp
    def slopes(primals: Any, tangents: Any) -> Any:
        before, position, velocity = primals
        end = _bounces(before, position, velocity, barriers, motion)
        return (end.position, end.velocity), _bounce_slopes(end, velocity, tangents, motion)

    return bounced(before, position, velocity)


def _bounces(
    before: jax.Array,
    position: jax.Array,
    velocity: jax.Array,
    barriers: _Barriers,
    motion: Motion,
) -> _Bounce:
    """The end of a step after all its bounces."""
    return jax.lax.while_loop(
        lambda bounce: bounce.crossed & (bounce.num_bounces < 11),
        functools.partial(_reflect, before=before, barriers=barriers, motion=motion),
        _Bounce(position, velocity, *_first_crossed(before, position, barriers), jnp.int32(0)),
    )


def _bounce_slopes(
    end: _Bounce,
    velocity: jax.Array,
    tangents: tuple[jax.Array, jax.Array, jax.Array],
    motion: Motion,
) -> tuple[jax.Array, jax.Array]:
    """Tangents [2] of position and velocity after n bounces, from those of `bounced`'s arguments.

    The bounces are a rotation or a reflection R with determinant (-1)^n, at a constant speed c:
    v' = c R v / |v|. So only the part of dv across v counts, and
    dv' = c det(R) (dv . v_perp) v'_perp / |v|, with unit vectors v_perp and v'_perp a quarter turn
    to the left of v and of v'.
    """
    d_before, d_position, d_velocity = tangents
    speed_sq = jnp.sum(velocity**2)
    per_speed = jax.lax.rsqrt(jnp.where(speed_sq > 0, speed_sq, 1))
    turn = jnp.where(end.num_bounces % 2 == 1, -1, 1) * 0.5 * abs(motion.speed_mean_mps)
    across = d_velocity[1] * velocity[0] - d_velocity[0] * velocity[1]
    x, y = unit_vector(end.velocity)
    slope = (turn * across * per_speed**2) * jnp.stack([-y, x])
    slope = jnp.where(end.num_bounces > 0, slope, d_velocity)
    moved = d_before + jnp.where(end.num_bounces < 11, motion.dt_s, 0) * slope
    return jnp.where(end.num_bounces > 0, moved, d_position), slope
