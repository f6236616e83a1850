"""Environments to act in, as pure step functions: pendulum, windy grid world, arena with a goal."""

import functools
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import shapely

from hfjax import arena, check


class Reset(Protocol):
    """(key) -> state."""

    def __call__(self, key: jax.Array, /) -> Any:
        """The first state of an episode."""


class Step(Protocol):
    """(state, action, key) -> (state, reward, terminal)."""

    def __call__(
        self, state: Any, action: jax.Array, key: jax.Array, /
    ) -> tuple[Any, jax.Array, jax.Array]:
        """action [action] -> the next state, reward [], and whether the episode ends [] of bool."""


class Observe(Protocol):
    """(state) -> observation."""

    def __call__(self, state: Any, /) -> jax.Array:
        """What the agent observes of a state: [observation]."""


class Code(Protocol):
    """(position) -> rates."""

    def __call__(self, position: jax.Array, /) -> jax.Array:
        """position [..., dim] (m) -> [..., cell]."""


class Env(NamedTuple):
    """An environment: vmap its functions for many at once, scan `step` for a rollout.

    observation_low, observation_high [observation], action_low, action_high [action] are bounds.
    """

    reset: Reset
    step: Step
    observe: Observe
    observation_low: np.ndarray
    observation_high: np.ndarray
    action_low: np.ndarray
    action_high: np.ndarray


class Pendulum(NamedTuple):
    """angle [] (rad, 0 upright, not wrapped), velocity [] (rad/s)."""

    angle: jax.Array
    velocity: jax.Array


def pendulum() -> Env:
    """Gymnasium's Pendulum-v1: a torque of at most 2 N m, a step of 50 ms; it never ends.

    w += (3 g / 2 l sin(theta) + 3 u / (m l^2)) dt, clipped to +-8 rad/s; theta += w dt,
    g = 10 m/s^2, m = 1 kg, l = 1 m. The reward is `pendulum_reward` of the state before the step.
    Observations: cos(theta), sin(theta), w.
    Source: gymnasium `PendulumEnv`.
    """

    def reset(key: jax.Array) -> Pendulum:
        u = jax.random.uniform(key, (2,), minval=-1, maxval=1)
        return Pendulum(jnp.pi * u[0], u[1])

    def step(
        state: Pendulum, action: jax.Array, key: jax.Array
    ) -> tuple[Pendulum, jax.Array, jax.Array]:
        del key
        state, action = Pendulum(*map(check.floats, state)), check.floats(action)
        u = jnp.clip(action[0], -2, 2)
        reward = pendulum_reward(state.angle, state.velocity, u)
        velocity = state.velocity + (15 * jnp.sin(state.angle) + 3 * u) * 0.05
        velocity = jnp.clip(velocity, -8, 8)
        return Pendulum(state.angle + 0.05 * velocity, velocity), reward, jnp.zeros((), bool)

    def observe(state: Pendulum) -> jax.Array:
        return jnp.stack([jnp.cos(state.angle), jnp.sin(state.angle), state.velocity])

    bound = np.array([1.0, 1.0, 8.0])
    return Env(reset, step, observe, -bound, bound, np.array([-2.0]), np.array([2.0]))


def pendulum_reward(angle: jax.Array, velocity: jax.Array, torque: jax.Array) -> jax.Array:
    """-(theta^2 + w^2 / 10 + u^2 / 1000), theta wrapped to [-pi, pi); arguments of one shape."""
    velocity, torque = check.floats(velocity), check.floats(torque)
    return -(arena.wrap_angle(angle) ** 2 + 0.1 * velocity**2 + 0.001 * torque**2)


class MountainCar(NamedTuple):
    """position [], velocity [] (per step)."""

    position: jax.Array
    velocity: jax.Array


CAR_GOAL = 0.45  # position


def mountain_car() -> Env:
    """Gymnasium's MountainCarContinuous-v0: a car in a valley whose engine is too weak.

    v += .0015 u - .0025 cos(3 x), clipped to +-.07, u the force clipped to +-1; x += v, clipped to
    [-1.2, .6]; v = 0 at the left edge. An episode starts at rest at x ~ U(-.6, -.4), and ends where
    x >= .45 and v >= 0; a car that is there stays. The reward is -.1 u^2, and 100 more at the end.
    Observations: x, v.
    Source: gymnasium `Continuous_MountainCarEnv`.
    """

    def arrived(state: MountainCar) -> jax.Array:
        return (state.position >= CAR_GOAL) & (state.velocity >= 0)

    def reset(key: jax.Array) -> MountainCar:
        return MountainCar(jax.random.uniform(key, minval=-0.6, maxval=-0.4), jnp.zeros(()))

    def step(
        state: MountainCar, action: jax.Array, key: jax.Array
    ) -> tuple[MountainCar, jax.Array, jax.Array]:
        del key
        state, action = MountainCar(*map(check.floats, state)), check.floats(action)
        force = jnp.clip(action[0], -1, 1)
        v = state.velocity + 0.0015 * force - 0.0025 * jnp.cos(3 * state.position)
        v = jnp.clip(v, -0.07, 0.07)
        x = jnp.clip(state.position + v, -1.2, 0.6)
        new = MountainCar(x, jnp.where((x == -1.2) & (v < 0), 0.0, v))
        there = arrived(state)
        new = jax.tree.map(lambda a, b: jnp.where(there, a, b), state, new)
        return new, 100.0 * arrived(new) - 0.1 * action[0] ** 2, arrived(new)

    low, high = np.array([-1.2, -0.07]), np.array([0.6, 0.07])
    return Env(reset, step, jnp.stack, low, high, np.array([-1.0]), np.array([1.0]))


def windy_grid(*, size: float = 10.0, wind: float = 0.25) -> Env:
    """A square centred on 0 with a wind that blows outwards; an action moves by 1.

    x += move + U(0, wind) sign(x), clipped to +-size/2 in each coordinate; an episode starts at 0.
    The action [1] is 0, 1, 2 or 3: left, right, down or up. The reward is `quadrant_reward` of the
    state before the step.
    Raises ValueError where size is not positive or wind is negative.
    Source: distributional-sr `WindyCartesianEnv`.
    """
    check.positive(size=size)
    check.not_negative(wind=wind)

    def reset(key: jax.Array) -> jax.Array:
        del key
        return jnp.zeros(2)

    def step(
        state: jax.Array, action: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        state = check.floats(state)
        moves = jnp.array([[-1, 0], [1, 0], [0, -1], [0, 1]], state.dtype)
        move = moves[jnp.clip(jnp.asarray(action)[0].astype(int), 0, 3)]
        blown = wind * jax.random.uniform(key, (2,), state.dtype) * jnp.sign(state)
        new = jnp.clip(state + move + blown, -size / 2, size / 2)
        return new, quadrant_reward(state), jnp.zeros((), bool)

    half = np.full(2, size / 2)
    return Env(reset, step, check.floats, -half, half, np.array([0.0]), np.array([3.0]))


def quadrant_reward(position: jax.Array) -> jax.Array:
    """1 where x, y > 0; 2 where x < 0 < y; -1 where x, y < 0; -2 where y < 0 < x; else 0.

    position [..., 2] -> [...], NaN where a coordinate is.
    Source: distributional-sr `windy_gridworld_quadrants`.
    """
    position = check.floats(position)
    x, y = position[..., 0], position[..., 1]
    above, below = jnp.where(x < 0, 2.0, 1.0), jnp.where(x < 0, -1.0, -2.0)
    reward = jnp.where((x == 0) | (y == 0), 0.0, jnp.where(y > 0, above, below))
    return jnp.where(jnp.isnan(x + y), jnp.nan, reward)


class Goal(NamedTuple):
    """An animal in an arena and its goal; see `arena_with_goal`. centre [dim] (m)."""

    environment: arena.Environment
    motion: arena.Motion
    centre: np.ndarray
    radius_m: float
    speed_mps: float
    drift_ratio: float
    held_steps: int


def arena_with_goal(
    *,
    environment: arena.Environment,
    motion: arena.Motion,
    goal: tuple[float, ...],
    radius_m: float = 0.1,
    code: Code | None = None,
    num_cells: int | None = None,
    speed_mps: float = 0.2,
    drift_ratio: float = 5.0,
    held_steps: int = 1,
) -> Env:
    """An animal that moves randomly and drifts to the velocity of the action, to reach a goal.

    An action in [-1, 1]^dim times speed_mps is the drift velocity (`arena.step`, drift_ratio) for
    held_steps of motion.dt_s. An episode ends, with reward 1, when the animal is nearer than
    radius_m to `goal` [dim] (m); before that the reward is 0. The animal starts anywhere outside
    the goal. Observations are the position (m), or the rates code(position) of num_cells cells, in
    [0, 1].

    Raises ValueError where the goal is outside the environment or covers all of it but a
    thousandth, a number is not positive, drift_ratio is so high that `arena.step` refuses it, or
    only one of code and num_cells is given.
    Source: the goal-directed agent of the thesis on hippocampal maps (dsm-hippocampus), with its
    radius.
    """
    settings = Goal(
        environment, motion, np.asarray(goal, float), radius_m, speed_mps, drift_ratio, held_steps
    )
    check_goal(settings)
    if (code is None) != (num_cells is None):
        raise ValueError("code and num_cells must be given together")
    low, high = np.asarray(environment.extent).T

    def observe(agent: arena.Agent) -> jax.Array:
        return agent.position if code is None else code(agent.position)

    return Env(
        functools.partial(start_outside, settings=settings),
        functools.partial(step_to_goal, settings=settings),
        observe,
        observation_low=low if num_cells is None else np.zeros(num_cells),
        observation_high=high if num_cells is None else np.ones(num_cells),
        action_low=-np.ones(environment.num_dims),
        action_high=np.ones(environment.num_dims),
    )


def check_goal(settings: Goal) -> None:
    """Raise ValueError for a goal that cannot be, or that leaves no place to start from."""
    environment, centre, radius_m = settings.environment, settings.centre, settings.radius_m
    check.positive(
        radius_m=radius_m, speed_mps=settings.speed_mps, drift_ratio=settings.drift_ratio
    )
    check.at_least(1, held_steps=settings.held_steps)
    arena.check_drift(settings.drift_ratio, settings.motion)
    right_shape = centre.shape == (environment.num_dims,)
    if not right_shape or not bool(arena.contains(environment, jnp.asarray(centre))):
        raise ValueError(
            f"the goal must be a place inside the environment, but is {tuple(centre.tolist())}"
        )
    if _free_share(environment, centre, radius_m) < 1e-3:
        raise ValueError(f"a goal with radius_m {radius_m} leaves no place to start from")


def _free_share(environment: arena.Environment, centre: np.ndarray, radius_m: float) -> float:
    """The share of the environment's area (of a track's length) that a goal does not cover."""
    if environment.num_dims == 1:
        low, high = environment.extent[0]
        covered = min(high, centre[0] + radius_m) - max(low, centre[0] - radius_m)
        return float(1 - covered / (high - low))
    space = shapely.Polygon(environment.boundary, environment.holes)
    disc = shapely.Point(centre).buffer(radius_m, quad_segs=256)
    return float(space.difference(disc).area / space.area)


def at_goal(position: jax.Array, settings: Goal) -> jax.Array:
    """Whether a position [dim] (m) is nearer to the goal than its radius."""
    position = check.floats(position)
    offset = position - jnp.asarray(settings.centre, position.dtype)
    return jnp.linalg.norm(offset) < settings.radius_m


def start_outside(key: jax.Array, *, settings: Goal) -> arena.Agent:
    """A random animal outside the goal, by drawing until there is one."""

    def draw(carry: tuple[jax.Array, Any]) -> tuple[jax.Array, arena.Agent]:
        key, start_key = jax.random.split(carry[0])
        agent = arena.start(start_key, environment=settings.environment, motion=settings.motion)
        return key, agent

    def inside(carry: tuple[jax.Array, arena.Agent]) -> jax.Array:
        return at_goal(carry[1].position, settings)

    return jax.lax.while_loop(inside, draw, draw((key, None)))[1]


def step_to_goal(
    agent: arena.Agent, action: jax.Array, key: jax.Array, *, settings: Goal
) -> tuple[arena.Agent, jax.Array, jax.Array]:
    """One action for held_steps; an animal at the goal stays there."""
    agent = arena.as_agent(agent)
    velocity = settings.speed_mps * jnp.clip(check.floats(action), -1, 1)

    def move(agent: arena.Agent, noise: jax.Array) -> tuple[arena.Agent, None]:
        moved = arena.step(
            agent,
            noise,
            environment=settings.environment,
            motion=settings.motion,
            drift_velocity=velocity,
            drift_ratio=settings.drift_ratio,
        )
        there = at_goal(agent.position, settings)
        return jax.tree.map(lambda a, b: jnp.where(there, a, b), agent, moved), None

    noise = jax.random.normal(key, (settings.held_steps, settings.environment.num_dims))
    agent, _ = jax.lax.scan(move, agent, noise)
    there = at_goal(agent.position, settings)
    return agent, there.astype(agent.position.dtype), there


# --- Rewards ---


class Reward(Protocol):
    """(states, actions) -> rewards."""

    def __call__(self, states: jax.Array, actions: jax.Array, /) -> jax.Array:
        """states [..., state], actions [..., action] -> [...]."""


def pendulum_angle(s: jax.Array) -> jax.Array:
    """Angle (rad, 0 upright, in [-pi, pi)) from cos, sin, velocity [..., 3] -> [...]."""
    s = check.floats(s)
    return arena.wrap_angle(jnp.arctan2(s[..., 1], s[..., 0]))


def _torque(a: jax.Array) -> jax.Array:
    return jnp.clip(a[..., 0], -2, 2)


# Source: distributional-sr `rewards`, whose "default" lacks the cost of the action.
PENDULUM_REWARDS: dict[str, Reward] = {
    "default": lambda s, a: pendulum_reward(pendulum_angle(s), s[..., 2], _torque(a)),
    "no action penalty": lambda s, a: -(pendulum_angle(s) ** 2 + 0.1 * s[..., 2] ** 2),
    "above horizon": lambda s, a: (
        -((jnp.abs(pendulum_angle(s)) > jnp.pi / 2) + 0.1 * _torque(a) ** 2)
    ),
    "stay left": lambda s, a: jnp.minimum(s[..., 1], 0),
    "stay right": lambda s, a: jnp.maximum(s[..., 1], 0),
    "slow": lambda s, a: -jnp.abs(s[..., 2]),
    "counter-clockwise": lambda s, a: (s[..., 2] > 0).astype(s.dtype),
}
WINDY_REWARDS: dict[str, Reward] = {"quadrants": lambda s, a: quadrant_reward(s)}
CAR_REWARDS: dict[str, Reward] = {
    "cost of force": lambda s, a: -0.1 * jnp.clip(a[..., 0], -1, 1) ** 2,
    "at the goal": lambda s, a: (s[..., 0] >= CAR_GOAL).astype(s.dtype),
    "height": lambda s, a: jnp.sin(3 * s[..., 0]),
    "speed": lambda s, a: jnp.abs(s[..., 1]) / 0.07,
}
