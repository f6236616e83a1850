"""The actor-critic that seeks goals: its rule by hand, and that it learns."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hfjax import arena
from hfjax.data import actor_critic as model


def dense(layer, x):
    return x @ np.float64(layer["kernel"]) + np.float64(layer["bias"])


def test_a_step_of_learning_by_hand():
    """The last layers, whose gradients are the activity below them, in NumPy and float64."""
    rng = np.random.default_rng(0)
    room = arena.box(1.0)
    task = model.Task(
        room, arena.motion(dt_s=0.1), jnp.ones((1, 2)), jnp.asarray(rng.uniform(size=(6, 2)))
    )
    seeker = model.start(jax.random.key(0), task=task)
    actor, critic = seeker.brain
    x, after = rng.uniform(size=(2, 6))
    velocity, reward, rate, dt_s = np.array([0.2, -0.1]), 1.0, 0.3, 0.1
    traces = jax.tree.map(lambda p: jnp.full_like(p, 0.5), seeker.brain)
    brain, new_traces = model.learn(
        seeker.brain,
        traces,
        jnp.asarray(x),
        jnp.asarray(after),
        jnp.asarray(velocity),
        jnp.asarray(reward),
        rate=rate,
        dt_s=dt_s,
    )

    def hidden(x):
        return np.maximum(dense(critic["Dense_1"], np.maximum(dense(critic["Dense_0"], x), 0)), 0)

    values = [dense(critic["Dense_2"], hidden(state))[0] for state in (x, after)]
    delta = reward + (values[1] - values[0]) / dt_s - values[1] / 5.0
    k = dt_s / 5.0
    trace = (1 - k) * 0.5 + k * hidden(x)
    np.testing.assert_allclose(new_traces.critic["Dense_2"]["kernel"][:, 0], trace, rtol=1e-4)
    np.testing.assert_allclose(
        brain.critic["Dense_2"]["kernel"][:, 0],
        critic["Dense_2"]["kernel"][:, 0] + rate * delta * dt_s * trace,
        rtol=1e-4,
        atol=1e-6,
    )
    # log of the normal density of the velocity about 0.5 tanh(u), by u.
    u = dense(actor["Dense_1"], np.maximum(dense(actor["Dense_0"], x), 0))
    slope = (velocity - 0.5 * np.tanh(u)) / 0.1**2 * 0.5 * (1 - np.tanh(u) ** 2)
    np.testing.assert_allclose(
        new_traces.actor["Dense_1"]["bias"], (1 - k) * 0.5 + k * slope, rtol=1e-3
    )


@pytest.mark.optimized
def test_an_animal_with_one_goal_learns_to_find_it():
    room = arena.box(1.0)
    centres = arena.uniform_positions(jax.random.key(3), room, 50)
    task = model.Task(room, arena.motion(dt_s=0.1), jnp.array([[0.75, 0.7]]), centres)
    run = jax.jit(functools.partial(model.run, task=task))
    seeker = model.start(jax.random.key(0), task=task)
    found = []
    for part in range(12):
        rates = jnp.full(5_000, model.RATE if part else 0.0)
        seeker, (positions, _, arrived) = run(seeker, jax.random.key(part), rates)
        found.append(int(arrived.sum()))
        assert np.all((positions >= 0) & (positions <= 1))
        ends = np.asarray(positions)[np.asarray(arrived)]
        assert np.all(np.linalg.norm(ends - [0.75, 0.7], axis=1) < model.RADIUS_M)
    assert np.mean(found[-3:]) > 4 * found[0] > 0, found
