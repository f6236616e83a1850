"""Animals that learn to seek goals while they walk, by an actor-critic on place cells.

Source: dsm-hippocampus `actor_critic_rat` and `make_dataset_rat_PC_random_AC`, after RatInABox's
tutorial of reinforcement learning.
"""

from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from hfjax import arena, cells, networks

RADIUS_M = 0.1  # of a goal
EPISODE_S = 15.0  # an episode without success ends after this time
TIME_S = 5.0  # of the discount and of the eligibility traces
RATE = 0.1  # of learning, per second; ten times the original's, in fewer steps
SPEED_MPS, NOISE_MPS = 0.5, 0.1  # largest mean of the actor's velocity, and its deviation


class Network(nn.Module):
    """Relu layers and linear outputs: [cell] -> [output]."""

    hidden: tuple[int, ...]
    num_out: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """The outputs."""
        for size in self.hidden:
            x = networks.relu(nn.Dense(size)(x))
        return nn.Dense(self.num_out)(x)


ACTOR, CRITIC = Network((50,), 2), Network((20, 20), 1)


class Brain(NamedTuple):
    """Parameters of the actor and of the critic, or their eligibility traces."""

    actor: Any
    critic: Any


class Seeker(NamedTuple):
    """An animal that seeks a goal: agent, number of its goal, time in the episode (s), brain and
    traces."""

    agent: arena.Agent
    goal: jax.Array
    time_s: jax.Array
    brain: Brain
    traces: Brain


class Task(NamedTuple):
    """Where the animal seeks; goals [goal, 2] and centres of place cells [cell, 2] (m)."""

    environment: arena.Environment
    motion: arena.Motion
    goals: jax.Array
    centres: jax.Array
    width_m: float = 0.2


def place_code(position: jax.Array, task: Task) -> jax.Array:
    """Rates of Gaussian place cells at a position [2] -> [cell]."""
    return cells.gaussian(position, task.centres, sigma_m=task.width_m)


def mean_velocity(actor: Any, x: jax.Array) -> jax.Array:
    """Mean of the actor's velocity (m/s) for place cells x [cell] -> [2]."""
    outputs: Any = ACTOR.apply({"params": actor}, x)
    return SPEED_MPS * jnp.tanh(outputs)


def value(critic: Any, x: jax.Array) -> jax.Array:
    """The critic's value for place cells x [cell]."""
    outputs: Any = CRITIC.apply({"params": critic}, x)
    return outputs[0]


def learn(
    brain: Brain,
    traces: Brain,
    before: jax.Array,
    after: jax.Array,
    velocity: jax.Array,
    reward: jax.Array,
    *,
    rate: jax.Array | float,
    dt_s: float,
) -> tuple[Brain, Brain]:
    """One step of actor-critic learning in continuous time -> (brain, traces).

    delta = r + (V(x') - V(x)) / dt - V(x') / T,
    e += dt / T (gradient - e), with the gradients of V(x) and of log pi(velocity | x),
    parameters += rate delta dt e.

    before x, after x' [cell], velocity [2] (m/s), reward [].
    Source: Doya 2000; `BaseActorCritic`. Deviation: there delta lags a step behind.
    """

    def log_probability(actor: Any) -> jax.Array:
        return -jnp.sum((velocity - mean_velocity(actor, before)) ** 2) / (2 * NOISE_MPS**2)

    gradient = Brain(jax.grad(log_probability)(brain.actor), jax.grad(value)(brain.critic, before))
    k = dt_s / TIME_S
    traces = jax.tree.map(lambda e, g: (1 - k) * e + k * g, traces, gradient)
    now, then = value(brain.critic, before), value(brain.critic, after)
    delta = reward + (then - now) / dt_s - then / TIME_S
    return jax.tree.map(lambda p, e: p + rate * delta * dt_s * e, brain, traces), traces


def advance(
    seeker: Seeker, key_and_rate: tuple[jax.Array, jax.Array], *, task: Task
) -> tuple[Seeker, tuple[jax.Array, jax.Array, jax.Array]]:
    """One step -> (seeker, (position [2] (m), whether the episode ended, whether at the goal)).

    key_and_rate: of the step, and rate of learning in it, 0 for none. The position is that before
    the animal is set to a new random place for the next episode.
    """
    key, rate = key_and_rate
    act_key, walk_key, start_key, goal_key = jax.random.split(key, 4)
    x = place_code(seeker.agent.position, task)
    velocity = mean_velocity(seeker.brain.actor, x) + NOISE_MPS * jax.random.normal(act_key, (2,))
    agent = arena.step(
        seeker.agent,
        jax.random.normal(walk_key, (2,)),
        environment=task.environment,
        motion=task.motion,
        drift_velocity=velocity,
    )
    arrived = jnp.linalg.norm(agent.position - task.goals[seeker.goal]) < RADIUS_M
    brain, traces = learn(
        seeker.brain,
        seeker.traces,
        x,
        place_code(agent.position, task),
        velocity,
        arrived.astype(x.dtype),
        rate=rate,
        dt_s=task.motion.dt_s,
    )
    time_s = seeker.time_s + task.motion.dt_s
    ended = arrived | (time_s > EPISODE_S)
    fresh = Seeker(
        arena.start(start_key, environment=task.environment, motion=task.motion),
        jax.random.randint(goal_key, (), 0, len(task.goals)),
        jnp.zeros_like(time_s),
        brain,
        jax.tree.map(jnp.zeros_like, traces),
    )
    goes_on = Seeker(agent, seeker.goal, time_s, brain, traces)
    following = jax.tree.map(partial(jnp.where, ended), fresh, goes_on)
    return following, (agent.position, ended, arrived)


def start(key: jax.Array, *, task: Task) -> Seeker:
    """An animal that has not learned yet."""
    agent_key, goal_key, actor_key, critic_key = jax.random.split(key, 4)
    x = jnp.zeros(len(task.centres))
    brain = Brain(ACTOR.init(actor_key, x)["params"], CRITIC.init(critic_key, x)["params"])
    return Seeker(
        arena.start(agent_key, environment=task.environment, motion=task.motion),
        jax.random.randint(goal_key, (), 0, len(task.goals)),
        jnp.zeros(()),
        brain,
        jax.tree.map(jnp.zeros_like, brain),
    )


def run(
    seeker: Seeker, key: jax.Array, rates: jax.Array, *, task: Task
) -> tuple[Seeker, tuple[jax.Array, jax.Array, jax.Array]]:
    """A step of `advance` for each rate of learning in rates [time].

    -> (seeker, (positions [time, 2] (m), ended [time], arrived [time])).
    """
    keys = jax.random.split(key, len(rates))
    return jax.lax.scan(partial(advance, task=task), seeker, (keys, rates))
