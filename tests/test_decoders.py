"""Decoders with an uncertainty: against scikit-learn, and where they know nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor, kernels

from hfjax import cells, decoders


def samples(num=300, seed=0):
    """Rates of place cells at random places of the left half of a box, and the places."""
    rng = np.random.default_rng(seed)
    centres = jnp.asarray(rng.uniform(size=(20, 2)), jnp.float32)
    positions = jnp.asarray(rng.uniform(size=(num, 2)) * (0.5, 1), jnp.float32)

    def code(positions):
        return cells.gaussian(jnp.asarray(positions, jnp.float32), centres, sigma_m=0.2)

    return code, positions


def test_gaussian_process_equals_scikit_learns():
    code, positions = samples()
    queries = code(np.random.default_rng(1).uniform(size=(40, 2)))
    found = jax.jit(decoders.gaussian_process)(code(positions), positions, queries)
    m = np.asarray(positions, float).mean(axis=0)
    s = (np.asarray(positions, float) - m).std()
    model = GaussianProcessRegressor(
        kernels.ConstantKernel(s**2) * kernels.RBF(1.0), alpha=(0.03 * s) ** 2, optimizer=None
    ).fit(np.asarray(code(positions), float), np.asarray(positions, float) - m)
    mean, std = model.predict(np.asarray(queries, float), return_std=True)
    np.testing.assert_allclose(found.mean, mean + m, atol=2e-4)
    np.testing.assert_allclose(found.std, std[:, 0], rtol=2e-2, atol=2e-4)


def test_both_know_where_they_were_and_that_they_were_not_elsewhere():
    code, positions = samples(1000)
    rng = np.random.default_rng(2)
    seen, unseen = rng.uniform(size=(2, 50, 2)) * (0.5, 1) + np.array([[[0.0, 0]], [[0.5, 0]]])
    queries = code(np.concatenate([seen, unseen]))
    for decoded in (
        decoders.gaussian_process(code(positions), positions, queries),
        jax.jit(decoders.network_ensemble)(code(positions), positions, queries, jax.random.key(0)),
    ):
        distance = np.linalg.norm(decoded.mean[:50] - seen, axis=1)
        assert np.median(distance) < 0.01
        std = np.asarray(decoded.std).reshape(100, -1).max(axis=1)
        assert np.median(std[50:]) > 3 * np.median(std[:50])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_networks": 1}, "num_networks must be at least 2"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
    ],
)
def test_impossible_ensembles_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        decoders.network_ensemble(
            jnp.zeros((3, 2)), jnp.zeros((3, 1)), jnp.zeros((1, 2)), jax.random.key(0), **settings
        )


def test_an_impossible_process_is_refused():
    with pytest.raises(ValueError, match="length must be positive"):
        decoders.gaussian_process(
            jnp.zeros((3, 2)), jnp.zeros((3, 1)), jnp.zeros((1, 2)), length=0.0
        )
