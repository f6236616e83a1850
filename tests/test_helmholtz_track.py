"""Place and velocity cells of an animal on a ring or torus."""

import jax
import numpy as np
import pytest

from hfjax.models.helmholtz.track import RING, Track, chance_error, place_world


def test_velocity_cells_are_the_rectified_scaled_velocity():
    world = place_world(RING, dt_s=0.025)
    start = world.start(jax.random.key(0))
    _, sources, others = world.block(start, jax.random.key(1), 100)
    v = np.asarray(others["velocities"])[:, 0]
    expected = np.stack([np.maximum(v, 0), np.maximum(-v, 0)], axis=1) / 0.5
    np.testing.assert_allclose(sources["VC"], expected, atol=1e-6)
    x, c = np.asarray(others["positions"]), np.asarray(start.centres)[:, 0]
    away = np.abs(np.mod(x - c + 0.5, 1) - 0.5)
    np.testing.assert_allclose(sources["features"], np.exp(-(away**2) / (2 * 0.06**2)), atol=1e-5)


def test_chance_is_a_quarter_of_the_ring():
    assert chance_error(RING) == pytest.approx(0.25, abs=1e-3)
    rng = np.random.default_rng(0)
    away = np.abs(rng.uniform(-0.5, 0.5, (100_000, 2)))  # standard error 0.0005
    torus = Track(num_dims=2)
    assert chance_error(torus) == pytest.approx(np.hypot(*away.T).mean(), abs=2e-3)
