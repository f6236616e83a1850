"""Environments as functions, and behind gymnasium's interface."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hfjax import arena, cells, envs

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import gymnasium
    from gymnasium.utils.env_checker import check_env

    from hfjax import gym

ROOM = arena.box(1.0)
GOAL = functools.partial(
    envs.arena_with_goal, environment=ROOM, motion=arena.motion(dt_s=0.1), goal=(0.5, 0.5)
)


def rollouts(env, policy, *, count, num_steps):
    """States [time, rollout, ...], rewards and terminals [time, rollout] of a policy(state)."""

    @jax.jit
    def run(key):
        def move(carry, key):
            state, done = carry
            new, reward, terminal = jax.vmap(env.step)(
                state, jax.vmap(policy)(state), jax.random.split(key, count)
            )
            return (new, done | terminal), (new, reward, terminal)

        start_key, key = jax.random.split(key)
        state = jax.vmap(env.reset)(jax.random.split(start_key, count))
        _, path = jax.lax.scan(
            move, (state, jnp.zeros(count, bool)), jax.random.split(key, num_steps)
        )
        return state, path

    return run(jax.random.key(0))


def test_goals_that_leave_no_place_and_drifts_that_diverge_are_refused():
    corner = float(np.sqrt(0.5))
    for radius_m in (corner + 1e-6, corner - 1e-4):  # no place at all, and almost none
        with pytest.raises(ValueError, match="leaves no place to start from"):
            GOAL(radius_m=radius_m)
    with pytest.raises(ValueError, match="leaves no place to start from"):
        envs.arena_with_goal(
            environment=arena.track(1.0), motion=arena.motion(), goal=(0.5,), radius_m=0.4999
        )
    with pytest.raises(ValueError, match="drift_ratio must be below twice"):
        GOAL(drift_ratio=14.0)
    assert np.isnan(envs.quadrant_reward([[np.nan, 1.0], [0.0, np.nan]])).all()


def test_an_animal_that_is_driven_to_the_goal_gets_there_and_stays():
    env = GOAL(held_steps=2)
    start, (state, reward, terminal) = rollouts(
        env,
        lambda agent: 5 * (0.5 - agent.position) / jnp.linalg.norm(agent.position - 0.5),
        count=100,
        num_steps=60,
    )
    distance = np.linalg.norm(start.position - 0.5, axis=-1)
    assert distance.min() >= 0.1
    assert distance.max() > 0.55
    assert terminal[-1].all()
    np.testing.assert_array_equal(reward, terminal)
    first = np.argmax(terminal, axis=0)
    assert (np.diff(terminal.astype(int), axis=0) >= 0).all()
    # At 0.2 m/s or a bit more: a clipped action, and 0.2 s in a step.
    shortest = (distance - 0.1) / (0.2 * 0.2)
    assert np.median((first + 1) / shortest) < 1.6
    assert np.quantile((first + 1) / shortest, 0.1) > 0.5
    after = np.asarray(state.position)[-1]
    np.testing.assert_array_equal(after, np.asarray(state.position)[first, np.arange(100)])


def test_without_an_action_it_gets_there_seldom():
    _, (_, _, terminal) = rollouts(GOAL(), lambda agent: jnp.zeros(2), count=100, num_steps=60)
    assert terminal[-1].mean() < 0.3


def test_observations_are_positions_or_rates():
    agent = jax.jit(GOAL().reset)(jax.random.key(1))
    np.testing.assert_array_equal(GOAL().observe(agent), agent.position)
    centres = jnp.array([[0.2, 0.2], [0.8, 0.3]])
    code = functools.partial(cells.gaussian, centres=centres, sigma_m=0.2)
    env = GOAL(code=code, num_cells=2)
    expected = np.exp(
        -(np.linalg.norm(np.asarray(agent.position) - np.asarray(centres), axis=1) ** 2) / 0.08
    )
    np.testing.assert_allclose(env.observe(agent), expected, rtol=1e-5)
    assert env.observation_high.tolist() == [1, 1]


def test_impossible_arenas_are_refused():
    for settings, message in (
        ({"goal": (1.5, 0.5)}, "must be a place inside the environment"),
        ({"goal": (0.5,)}, "must be a place inside the environment"),
        ({"radius_m": 0.0}, "radius_m must be positive"),
        ({"radius_m": 0.71}, "leaves no place to start from"),  # half the diagonal is 0.7071
        ({"environment": arena.track(), "goal": (0.3,), "radius_m": 0.7}, "leaves no place"),
        ({"held_steps": 0}, "held_steps must be at least 1"),
        ({"num_cells": 3}, "given together"),
    ):
        with pytest.raises(ValueError, match=message):
            GOAL(**settings)


def test_an_animal_can_start_in_the_corners_that_a_large_goal_leaves():
    agent = jax.jit(GOAL(radius_m=0.65).reset)(jax.random.key(0))
    assert float(jnp.linalg.norm(agent.position - 0.5)) >= 0.65


def test_the_pendulum_is_gymnasiums_step_by_step():
    theirs = gymnasium.make("Pendulum-v1").unwrapped
    theirs.reset(seed=0)
    torques = np.random.default_rng(0).uniform(-3, 3, 200)  # some beyond what it can do
    theirs.state = np.array([2.5, -3.0])
    env = envs.pendulum()
    with jax.enable_x64(True):
        state = envs.Pendulum(*map(jnp.asarray, theirs.state))

        @jax.jit
        def run(state, torques):
            def move(state, torque):
                state, reward, terminal = env.step(state, torque[None], None)
                return state, (env.observe(state), reward, terminal)

            return jax.lax.scan(move, state, torques)[1]

        seen, rewards, terminals = jax.device_get(run(state, jnp.asarray(torques)))
    for torque, observation, reward in zip(torques, seen, rewards, strict=True):
        expected, expected_reward, terminal, *_ = theirs.step(np.array([torque]))
        np.testing.assert_allclose(observation, expected, atol=1e-6)  # theirs is float32
        np.testing.assert_allclose(reward, expected_reward, rtol=1e-9)
        assert not terminal
    assert not terminals.any()
    start = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), 500))
    assert 3 < np.abs(start.angle).max() <= np.pi
    assert 0.9 < np.abs(start.velocity).max() <= 1


def test_the_wind_blows_outwards():
    env = envs.windy_grid()
    step = jax.jit(jax.vmap(env.step, (None, None, 0)))
    keys = jax.random.split(jax.random.key(0), 500)
    at = jnp.array([2.0, -3.0])
    for action, move in ((0, (-1, 0)), (1, (1, 0)), (2, (0, -1)), (3, (0, 1))):
        new, reward, terminal = step(at, jnp.array([float(action)]), keys)
        blown = (np.asarray(new) - np.asarray(at) - np.array(move)) * (1, -1)
        assert blown.min() >= -1e-6
        assert 0.24 < blown.max() <= 0.25 + 1e-6
        assert np.all(reward == -2)  # of the state before: x > 0 > y
        assert not terminal.any()
    new, *_ = step(jnp.array([4.9, 0.0]), jnp.array([1.0]), keys)
    np.testing.assert_allclose(new, [[5, 0]] * 500)  # no wind along an axis, and a border
    np.testing.assert_array_equal(env.reset(keys[0]), [0, 0])
    corners = jnp.array([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0], [0.0, 2.0]])
    np.testing.assert_array_equal(envs.quadrant_reward(corners), [1, 2, -1, -2, 0])
    with pytest.raises(ValueError, match="size must be positive"):
        envs.windy_grid(size=0.0)


def test_gymnasiums_own_checker_finds_nothing():
    env = gym.GymEnv(GOAL(), max_steps=7)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*render.*|.*spec.*")
        check_env(env, skip_render_check=True)
    first, _ = env.reset(seed=3)
    again, info = env.reset(seed=3)
    np.testing.assert_array_equal(first, again)
    path = [env.step(np.array([1.0, 0.0])) for _ in range(7)]
    assert [truncated for *_, truncated, _ in path] == [False] * 6 + [True]
    assert path[-1][0][0] > first[0]
    np.testing.assert_allclose(path[-1][4]["state"].position, path[-1][0], rtol=1e-6)
    assert isinstance(info["state"], arena.Agent)
    with pytest.raises(ValueError, match="max_steps must be at least 1"):
        gym.GymEnv(GOAL(), max_steps=0)
    with pytest.raises(RuntimeError, match="call reset"):
        gym.GymEnv(GOAL(), max_steps=1).step(np.zeros(2))


def test_the_mountain_car_is_that_of_gymnasium():
    """Figures of gymnasium 1.0 MountainCarContinuous-v0 are its equations, written out here."""
    env = envs.mountain_car()
    x, v = -0.5, 0.0
    state = envs.MountainCar(jnp.float32(x), jnp.float32(v))
    for force in (1.0, -1.0, 3.0, 0.5):
        state, reward, terminal = env.step(state, jnp.array([force]), jax.random.key(0))
        v += 0.0015 * min(max(force, -1), 1) - 0.0025 * np.cos(3 * x)
        x += v
        np.testing.assert_allclose(env.observe(state), [x, v], rtol=1e-5)
        np.testing.assert_allclose(reward, -0.1 * force**2, rtol=1e-6)
        assert not terminal
    wall = env.step(envs.MountainCar(-1.19, -0.07), jnp.array([-1.0]), jax.random.key(0))[0]
    np.testing.assert_allclose(wall, [-1.2, 0], rtol=1e-6)
    goal, reward, terminal = env.step(
        envs.MountainCar(0.44, 0.05), jnp.array([0.0]), jax.random.key(0)
    )
    assert terminal
    np.testing.assert_allclose(reward, 100)
    stays = env.step(goal, jnp.array([-1.0]), jax.random.key(0))[0]
    np.testing.assert_array_equal(stays, goal)
