"""Returns of the pendulum's policy, and the best that any policy can reach, by dynamic programming.

Read by `run.py`, section `policies`.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from hfjax import envs
from hfjax.data import policies

EPISODE_STEPS = 200
Act = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]  # (observation, time, key) -> action


def episode_returns(act: Act, *, num_episodes: int, seed: int = 0) -> np.ndarray:
    """Undiscounted returns of episodes of 200 steps from the starts of Pendulum-v1: [episode]."""
    env = envs.pendulum()

    def step(
        state: envs.Pendulum, now: tuple[jax.Array, jax.Array]
    ) -> tuple[envs.Pendulum, jax.Array]:
        time, key = now
        state, reward, _ = env.step(state, act(env.observe(state), time, key), key)
        return state, reward

    def episode(key: jax.Array) -> jax.Array:
        reset_key, key = jax.random.split(key)
        times = jnp.arange(EPISODE_STEPS), jax.random.split(key, EPISODE_STEPS)
        return jax.lax.scan(step, env.reset(reset_key), times)[1].sum()

    keys = jax.random.split(jax.random.key(seed), num_episodes)
    return np.asarray(jax.jit(functools.partial(jax.lax.map, episode, batch_size=500))(keys))


def trained() -> Act:
    """The policy that comes with hfjax: random actions, as in the data."""
    policy = policies.load("pendulum")
    return lambda observation, time, key: policies.act(policy, observation, key)


def without_noise() -> Act:
    """The same with the mean action in place of a random one."""
    policy = policies.load("pendulum")
    still = jax.tree.map(jnp.zeros_like, policy.params["log_std"])
    still["bias"] -= 20.0  # exp(-20), the smallest deviation of `policies.act`
    policy = policy._replace(params={**policy.params, "log_std": still})
    return lambda observation, time, key: policies.act(policy, observation, key)


def optimal(*, num_angles: int = 360, num_velocities: int = 321, num_torques: int = 33) -> Act:
    """Actions with the highest value to go: V_t(s) = max_u r(s, u) + V_{t+1}(f(s, u)), V_200 = 0.

    V is on a lattice of angles in [-pi, pi) and velocities in [-8, 8], bilinear between its points.
    """
    env = envs.pendulum()
    torques = jnp.linspace(-2.0, 2.0, num_torques)
    angle = jnp.linspace(-jnp.pi, jnp.pi, num_angles, endpoint=False)
    lattice = envs.Pendulum(
        *jnp.meshgrid(angle, jnp.linspace(-8, 8, num_velocities), indexing="ij")
    )

    def interpolated(values: jax.Array, state: envs.Pendulum) -> jax.Array:
        x = (state.angle + jnp.pi) / (2 * jnp.pi) * num_angles
        y = (state.velocity + 8) / 16 * (num_velocities - 1)
        at = [x % num_angles, jnp.clip(y, 0, num_velocities - 1)]
        joined = jnp.concatenate([values, values[:1]])  # -pi again at pi
        return jax.scipy.ndimage.map_coordinates(joined, at, order=1, mode="nearest")

    def action_value(values: jax.Array, state: envs.Pendulum, torque: jax.Array) -> jax.Array:
        after, reward, _ = env.step(state, torque[None], jax.random.key(0))
        return reward + interpolated(values, after)

    def backward(values: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        of_all = jax.lax.map(lambda u: action_value(values, lattice, u), torques)
        return of_all.max(axis=0), values

    empty = jnp.zeros(lattice.angle.shape)
    # later [time before the end, angle, velocity]: the values of the state after the action.
    _, later = jax.jit(lambda: jax.lax.scan(backward, empty, None, length=EPISODE_STEPS))()

    def act(observation: jax.Array, time: jax.Array, key: jax.Array) -> jax.Array:
        state = envs.Pendulum(envs.pendulum_angle(observation), observation[2])
        values = later[EPISODE_STEPS - 1 - time]
        best = jnp.argmax(jax.vmap(lambda u: action_value(values, state, u))(torques))
        return torques[best][None]

    return act
