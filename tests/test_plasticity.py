"""Local rules against numbers worked by hand, and what each converges to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hfjax import plasticity

W = jnp.array([[1.0, -2.0], [0.5, 0.0], [0.0, 3.0]])
X = jnp.array([2.0, -1.0])
SOMA, DENDRITE, SLOPE = (
    jnp.array([1.0, 2.0, 0.0]),
    jnp.array([0.5, 2.0, 1.0]),
    jnp.array([1.0, 1, 0.5]),
)


def test_dendritic_prediction_by_hand():
    drive = plasticity.dendritic_prediction(W, X, SOMA, DENDRITE, SLOPE)
    np.testing.assert_allclose(drive, [[1.0, -0.5], [0, 0], [-1.0, 0.5]])


def test_hebb_by_hand():
    drive = plasticity.hebb(W, X, SOMA, DENDRITE, SLOPE)
    np.testing.assert_allclose(drive, [[2, -1], [4, -2], [0, 0]])


def test_oja_by_hand():
    drive = plasticity.oja(W, X, SOMA, DENDRITE, SLOPE)
    np.testing.assert_allclose(drive, [[2 - 1, -1 + 2], [4 - 2, -2], [0, 0]])


def test_low_pass_by_hand():
    trace = plasticity.low_pass(jnp.ones((1, 2)), jnp.array([[5.0, -3.0]]), kappa=0.25)
    np.testing.assert_allclose(trace, [[2.0, 0.0]])


def test_change_by_hand():
    trace = jnp.ones_like(W)
    changed = plasticity.change(W, trace, learning_rate=0.1, l1=0.5, l2=0.1)
    expected = W + 0.1 * (1 - 0.1 * W - 0.5 * jnp.sign(W))
    np.testing.assert_allclose(changed, expected, rtol=1e-6)
    np.testing.assert_allclose(changed[0], [1 + 0.1 * (1 - 0.1 - 0.5), -2 + 0.1 * (1 + 0.2 + 0.5)])


def test_dales_law_keeps_one_sign():
    np.testing.assert_array_equal(plasticity.dales_law(W, sign=1), [[1, 0], [0.5, 0], [0, 3]])
    np.testing.assert_array_equal(plasticity.dales_law(W, sign=-1), [[0, -2], [0, 0], [0, 0]])
    with pytest.raises(ValueError, match="must be 1 or -1, but is 2"):
        plasticity.dales_law(W, sign=2)


def train(rule, soma_of, num_steps=4000):
    """Weights [1, 3] of one linear dendrite, after learning from correlated inputs."""
    key = jax.random.key(0)
    mixing = jnp.array([[1.0, 0.8, 0.0], [0.0, 0.6, 0.3], [0.0, 0.0, 0.4]])

    def step(weights, key):
        x = jax.random.normal(key, (3,)) @ mixing
        dendrite = weights @ x
        drive = rule(weights, x, soma_of(x, dendrite), dendrite, jnp.ones(1))
        return plasticity.change(weights, drive, learning_rate=0.01), None

    weights, _ = jax.lax.scan(step, jnp.full((1, 3), 0.1), jax.random.split(key, num_steps))
    return weights, np.asarray(mixing.T @ mixing)


def test_dendritic_prediction_finds_the_somas_weights():
    true = jnp.array([[0.5, -1.0, 2.0]])
    weights, _ = train(plasticity.dendritic_prediction, lambda x, dendrite: true @ x, 10_000)
    np.testing.assert_allclose(weights, true, atol=0.01)


def test_oja_finds_the_first_principal_component_at_unit_length():
    weights, covariance = train(plasticity.oja, lambda x, dendrite: dendrite)
    first = np.linalg.eigh(covariance)[1][:, -1]
    assert np.linalg.norm(weights) == pytest.approx(1, abs=0.05)
    assert abs(np.dot(weights[0], first)) / np.linalg.norm(weights) > 0.99


def test_hebb_grows_without_bound():
    weights, _ = train(plasticity.hebb, lambda x, dendrite: dendrite, num_steps=1000)
    assert np.linalg.norm(weights) > 100
