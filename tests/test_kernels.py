"""Kernels, HSIC and the global signal against references written from the equations, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hfjax import kernels


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def samples(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def reference_kernel(x, sigma):
    x = x.reshape(len(x), -1)
    s = sigma * np.sqrt(x.shape[1])
    return np.array([[np.exp(-np.sum((a - b) ** 2) / (2 * s**2)) for b in x] for a in x])


def reference_signal(Kx, Ky, z, gamma, sigma):
    """The sheet's equations, term by term."""
    N, flat = len(z), z.reshape(len(z), -1)
    s_sq = sigma**2 * flat.shape[1]
    Kz = reference_kernel(z, sigma)
    alpha = np.array([2 * Kz[N - 1, p] / s_sq * (flat[N - 1] - flat[p]) for p in range(N)])
    abar = sum(alpha[p] for p in range(N - 1)) / N
    M = np.zeros((N, N))
    for p in range(N):
        for q in range(N):
            M[p, q] = (Kx[p, q] - Kx[q].mean()) - gamma * (Ky[p, q] - Ky[q].mean())
    first = sum(M[p, p] * alpha[p] / N for p in range(N - 1))
    return ((first + M[N - 1, N - 1] * abar) / (N - 1) ** 2).reshape(z.shape[1:])


def test_rbf_kernel_worked_by_hand():
    # Two points 5 apart in two dimensions: s^2 = 2 * 2^2 = 8, exp(-25/16).
    K = kernels.rbf_kernel(jnp.array([[0.0, 0.0], [3.0, 4.0]]), sigma=2.0)
    np.testing.assert_allclose(K, [[1, np.exp(-25 / 16)], [np.exp(-25 / 16), 1]], rtol=1e-14)


@pytest.mark.parametrize("shape", [(7, 3), (6, 4, 5, 2), (5,)])
def test_rbf_kernel_equals_the_definition(shape):
    x = samples(0, *shape)
    np.testing.assert_allclose(
        kernels.rbf_kernel(jnp.asarray(x), sigma=0.7), reference_kernel(x, 0.7), rtol=1e-12
    )


def test_rbf_kernel_keeps_its_digits_far_from_the_origin_in_float32():
    x = samples(1, 6, 50)
    K = kernels.rbf_kernel(jnp.asarray(x + 1000, jnp.float32), sigma=0.5)
    assert K.dtype == jnp.float32
    np.testing.assert_allclose(K, reference_kernel(x, 0.5), atol=1e-4)
    np.testing.assert_array_equal(np.diagonal(K), 1)


def test_hsic_equals_the_trace():
    K, L = (reference_kernel(samples(seed, 9, 4), 0.8) for seed in (0, 1))
    H = np.eye(9) - np.ones((9, 9)) / 9
    expected = np.trace(K @ H @ L @ H) / 8**2
    np.testing.assert_allclose(kernels.hsic(jnp.asarray(K), jnp.asarray(L)), expected, rtol=1e-12)


def test_hsic_objective_forgets_x_and_keeps_y():
    Kx, Ky, Kz = (jnp.asarray(reference_kernel(samples(s, 8, 3), 0.8)) for s in range(3))
    objective = kernels.hsic_objective(Kx, Ky, Kz, gamma=3.0)
    np.testing.assert_allclose(
        objective, kernels.hsic(Kx, Kz) - 3 * kernels.hsic(Ky, Kz), rtol=1e-12
    )


def test_unbiased_hsic_is_the_mean_over_distinct_quadruples():
    """The U-statistic that defines it: E over distinct i, j, q, r of
    K_ij L_ij + K_ij L_qr - 2 K_ij L_iq."""
    K, L = (reference_kernel(samples(seed, 6, 2), 0.8) for seed in (3, 4))
    terms = [
        K[i, j] * L[i, j] + K[i, j] * L[q, r] - 2 * K[i, j] * L[i, q]
        for i in range(6)
        for j in range(6)
        for q in range(6)
        for r in range(6)
        if len({i, j, q, r}) == 4
    ]
    got = kernels.unbiased_hsic(jnp.asarray(K), jnp.asarray(L))
    np.testing.assert_allclose(got, np.mean(terms), rtol=1e-10)


def test_unbiased_hsic_of_independent_variables_is_zero_on_average_and_the_biased_one_is_not():
    def both(key):
        x, z = (jax.random.normal(k, (8, 2)) for k in jax.random.split(key))
        K, L = kernels.rbf_kernel(x, sigma=0.5), kernels.rbf_kernel(z, sigma=0.5)
        return jnp.stack([kernels.unbiased_hsic(K, L), kernels.hsic(K, L)])

    values = np.asarray(jax.jit(jax.vmap(both))(jax.random.split(jax.random.key(0), 2000)))
    mean, error = values.mean(axis=0), values.std(axis=0) / np.sqrt(2000)
    assert abs(mean[0]) < 3 * error[0]
    assert mean[1] > 30 * error[1]


@pytest.mark.parametrize("shape", [(6, 5), (2, 3), (4, 3, 3, 2)])
def test_global_signal_equals_the_equations(shape):
    z = samples(5, *shape)
    Kx, Ky = (reference_kernel(samples(s, shape[0], 3), 0.6) for s in (6, 7))
    got = kernels.global_signal(
        jnp.asarray(Kx), jnp.asarray(Ky), jnp.asarray(z), gamma=2.5, sigma=0.9
    )
    expected = reference_signal(Kx, Ky, z, 2.5, 0.9)
    assert np.abs(expected).max() > 1e-4
    np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-16)


def test_global_signal_of_two_samples_worked_by_hand():
    # N = 2, d = 1, sigma = 1, z = 0, 1: k_0 = e^{-1/2}, alpha_0 = 2 k_0, abar = alpha_0 / 2.
    # Kx = [[1, a], [a, 1]] has M_pp = 1 - (1 + a)/2 = (1 - a)/2 at gamma Ky -> gamma (1 - b)/2.
    a, b, gamma = 0.2, 0.6, 3.0
    Kx, Ky = (jnp.array([[1.0, v], [v, 1.0]]) for v in (a, b))
    m = (1 - a) / 2 - gamma * (1 - b) / 2
    alpha = 2 * np.exp(-0.5)
    got = kernels.global_signal(Kx, Ky, jnp.array([[0.0], [1.0]]), gamma=gamma, sigma=1.0)
    np.testing.assert_allclose(got, [m * alpha / 2 + m * alpha / 2], rtol=1e-13)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda K, z: kernels.rbf_kernel(z, sigma=0.0), "sigma must be positive, but is 0.0"),
        (
            lambda K, z: kernels.global_signal(K, K, z, gamma=-1.0, sigma=1.0),
            "gamma must be positive, but is -1.0",
        ),
        (
            lambda K, z: kernels.global_signal(K[:1, :1], K[:1, :1], z[:1], gamma=1.0, sigma=1.0),
            "window must be at least 2, but is 1",
        ),
        (lambda K, z: kernels.unbiased_hsic(K, K), "needs at least 4 samples, but has 3"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(jnp.eye(3), jnp.ones((3, 2)))
