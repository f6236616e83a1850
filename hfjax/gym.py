"""Any of `envs` as a gymnasium environment, for agents of other libraries (extra `rl`)."""

from typing import Any

import gymnasium
import jax
import numpy as np

from hfjax import check
from hfjax.envs import Env


class GymEnv(gymnasium.Env):
    """One environment, stepped by hand: the interface of gymnasium 1.

        env = GymEnv(envs.arena_with_goal(...), max_steps=200)
        observation, info = env.reset(seed=0)
        observation, reward, terminated, truncated, info = env.step(env.action_space.sample())

    An episode is cut off (truncated) after max_steps steps. info["state"] is the environment's
    state. Every step is a call of a compiled function, some 0.3 ms; for many environments at once,
    vmap and scan the functions of `envs` instead.
    Raises ValueError where max_steps is below 1; `step` raises RuntimeError before the first reset.
    """

    def __init__(self, env: Env, *, max_steps: int):
        check.at_least(1, max_steps=max_steps)
        self._reset, self._step = jax.jit(env.reset), jax.jit(env.step)
        self._observe = jax.jit(env.observe)
        self.max_steps = max_steps
        self.observation_space: gymnasium.spaces.Box = gymnasium.spaces.Box(
            env.observation_low.astype(np.float32), env.observation_high.astype(np.float32)
        )
        self.action_space = gymnasium.spaces.Box(
            env.action_low.astype(np.float32), env.action_high.astype(np.float32)
        )
        self._state: Any = None
        self._steps = 0

    def _key(self) -> jax.Array:
        return jax.random.key(int(self.np_random.integers(2**32)))

    def _seen(self) -> np.ndarray:
        observation = np.asarray(self._observe(self._state), np.float32)
        # Rounding may put it a hair outside.
        return np.clip(observation, self.observation_space.low, self.observation_space.high)

    def _info(self) -> dict[str, Any]:
        return {"state": jax.device_get(self._state)}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode -> (observation, info)."""
        super().reset(seed=seed, options=options)
        self._state, self._steps = self._reset(self._key()), 0
        return self._seen(), self._info()

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """-> (observation, reward, terminated, truncated, info)."""
        if self._state is None:
            raise RuntimeError("call reset before the first step")
        self._state, reward, terminal = self._step(
            self._state, np.asarray(action, np.float32), self._key()
        )
        self._steps += 1
        truncated = not terminal and self._steps >= self.max_steps
        return self._seen(), float(reward), bool(terminal), truncated, self._info()
