"""Environments to act in, as pure step functions: an arena with a goal."""

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

    Raises ValueError where the goal lies outside, a number is not positive, or only one of code and
    num_cells is given.
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
