"""Environments to act in, as pure step functions: pendulum, windy grid world, arena with a goal."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hfjax import arena, check


class Env(NamedTuple):
    """An environment; vmap its functions for many at once, scan `step` for a rollout.

    reset (key) -> state.
    step (state, action [action], key) -> (state, reward [], terminal [] of bool).
    observe (state) -> [observation].
    observation_low, observation_high [observation], action_low, action_high [action]: their bounds.
    """

    reset: Callable[[jax.Array], Any]
    step: Callable[[Any, jax.Array, jax.Array], tuple[Any, jax.Array, jax.Array]]
    observe: Callable[[Any], jax.Array]
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

    w += (3 g / 2 l sin(theta) + 3 u / (m l^2)) dt, held within 8 rad/s; theta += w dt,
    g = 10 m/s^2, m = 1 kg, l = 1 m. The reward, of the state before the step, is
    -(theta^2 + w^2 / 10 + u^2 / 1000), theta in [-pi, pi). Observations: cos, sin of theta, w.
    Source: gymnasium `PendulumEnv`.
    """

    def reset(key: jax.Array) -> Pendulum:
        u = jax.random.uniform(key, (2,), minval=-1, maxval=1)
        return Pendulum(jnp.pi * u[0], u[1])

    def step(state: Pendulum, action: jax.Array, key: jax.Array):
        del key
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
    """-(theta^2 + w^2 / 10 + u^2 / 1000), theta taken to [-pi, pi); any shape, three times."""
    return -(arena.wrap_angle(angle) ** 2 + 0.1 * velocity**2 + 0.001 * torque**2)


def windy_grid(*, size: float = 10.0, wind: float = 0.25) -> Env:
    """A square around 0 with a wind that blows outwards, in which four actions move by 1.

    x += move + U(0, wind) sign(x), held within +-size/2 in each coordinate; from 0. The action, a
    number from 0 to 3 in an array [1], moves left, right, down or up. The reward, of the state
    before the step, is `quadrant_reward`.
    Raises ValueError where size is not positive or wind is negative.
    Source: distributional-sr `WindyCartesianEnv`.
    """
    check.positive(size=size)
    check.not_negative(wind=wind)

    def reset(key: jax.Array) -> jax.Array:
        del key
        return jnp.zeros(2)

    def step(state: jax.Array, action: jax.Array, key: jax.Array):
        moves = jnp.array([[-1, 0], [1, 0], [0, -1], [0, 1]], state.dtype)
        move = moves[jnp.clip(action[0].astype(int), 0, 3)]
        blown = wind * jax.random.uniform(key, (2,), state.dtype) * jnp.sign(state)
        new = jnp.clip(state + move + blown, -size / 2, size / 2)
        return new, quadrant_reward(state), jnp.zeros((), bool)

    half = np.full(2, size / 2)
    return Env(reset, step, lambda state: state, -half, half, np.array([0.0]), np.array([3.0]))


def quadrant_reward(position: jax.Array) -> jax.Array:
    """1 where x, y > 0; 2 where x < 0 < y; -1 where x, y < 0; -2 where y < 0 < x; else 0.

    position [..., 2] -> [...]. Source: distributional-sr `windy_gridworld_quadrants`.
    """
    x, y = position[..., 0], position[..., 1]
    above, below = jnp.where(x < 0, 2.0, 1.0), jnp.where(x < 0, -1.0, -2.0)
    return jnp.where((x == 0) | (y == 0), 0.0, jnp.where(y > 0, above, below))


def arena_with_goal(
    *,
    environment: arena.Environment,
    motion: arena.Motion,
    goal: tuple[float, ...],
    radius_m: float = 0.1,
    code: Callable[[jax.Array], jax.Array] | None = None,
    num_cells: int | None = None,
    speed_mps: float = 0.2,
    drift_ratio: float = 5.0,
    held_steps: int = 1,
) -> Env:
    """An animal that moves at random, and whose actions are velocities to drift to.

    The action, in [-1, 1]^dim, times speed_mps is the velocity to which the animal drifts
    (`arena.step`, drift_ratio) for held_steps of motion.dt_s. It ends, with reward 1, where the
    animal is nearer than radius_m to `goal` [dim] (m); until then the reward is 0. It starts
    anywhere else in the environment.
    Observations are its position (m), or the rates code(position) of num_cells cells, in [0, 1].

    Raises ValueError where the goal lies outside or its disc covers the environment, a number is
    not positive, or only one of code and num_cells is given.
    Source: the goal-directed agent of the thesis on hippocampal maps (dsm-hippocampus), with its
    radius.
    """
    check.positive(radius_m=radius_m, speed_mps=speed_mps, drift_ratio=drift_ratio)
    check.at_least(1, held_steps=held_steps)
    num_dims = environment.num_dims
    at = np.asarray(goal, float)
    if at.shape != (num_dims,) or not bool(arena.contains(environment, jnp.asarray(at))):
        raise ValueError(f"the goal must be a place inside the environment, but is {goal}")
    if (code is None) != (num_cells is None):
        raise ValueError("code and num_cells must be given together")
    low, high = np.asarray(environment.extent).T
    farthest = environment.boundary if num_dims == 2 else np.stack([low, high])
    if np.linalg.norm(farthest - at, axis=-1).max() <= radius_m:
        raise ValueError(f"a goal with radius_m {radius_m} leaves no place to start from")

    def distance(position: jax.Array) -> jax.Array:
        return jnp.linalg.norm(position - jnp.asarray(at, position.dtype))

    def reset(key: jax.Array) -> arena.Agent:
        def draw(carry):
            key, _ = carry
            key, start_key = jax.random.split(key)
            return key, arena.start(start_key, environment=environment, motion=motion)

        return jax.lax.while_loop(
            lambda carry: distance(carry[1].position) < radius_m, draw, draw((key, None))
        )[1]

    def step(agent: arena.Agent, action: jax.Array, key: jax.Array):
        velocity = speed_mps * jnp.clip(action, -1, 1)

        def move(agent, noise):
            moved = arena.step(
                agent,
                noise,
                environment=environment,
                motion=motion,
                drift_velocity=velocity,
                drift_ratio=drift_ratio,
            )
            # Who has arrived stays.
            there = distance(agent.position) < radius_m
            return jax.tree.map(lambda a, b: jnp.where(there, a, b), agent, moved), None

        agent, _ = jax.lax.scan(move, agent, jax.random.normal(key, (held_steps, num_dims)))
        there = distance(agent.position) < radius_m
        return agent, there.astype(agent.position.dtype), there

    def observe(agent: arena.Agent) -> jax.Array:
        return agent.position if code is None else code(agent.position)

    return Env(
        reset,
        step,
        observe,
        observation_low=low if num_cells is None else np.zeros(num_cells),
        observation_high=high if num_cells is None else np.ones(num_cells),
        action_low=-np.ones(num_dims),
        action_high=np.ones(num_dims),
    )


Reward = Callable[[jax.Array, jax.Array], jax.Array]  # (states, actions) -> [...]


def pendulum_angle(s: jax.Array) -> jax.Array:
    """Of the pendulum's cos, sin, velocity [..., 3]: 0 upright, in [-pi, pi)."""
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
