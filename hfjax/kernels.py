"""Kernel matrices, HSIC, and the global signal that takes the place of its gradient in a layer.

The Hilbert-Schmidt independence criterion of two variables, seen in N samples, compares their
kernel matrices: it is large where samples that are alike in one are alike in the other. Everywhere
here the first axis is the sample; all further axes are flattened.

Sources: Gretton et al. 2005 (HSIC), Song et al. 2012 (the unbiased estimator), Daruwalla & Lipasti
2024 (the global signal; `projectlib/hsic.py` of biological-hsic).
"""

import chex
import jax
import jax.numpy as jnp

from hfjax import check


def _rows(x: jax.Array) -> jax.Array:
    return x.reshape(x.shape[0], -1)


def rbf_kernel(x: jax.Array, *, sigma: float) -> jax.Array:
    """K_pq = exp(-|x_p - x_q|^2 / (2 s^2)), s = sigma sqrt(d): x [sample, ...] -> [sample, sample].

    d is the flattened size of a sample. The distances come from one matrix product,
    |a - b|^2 = |a|^2 + |b|^2 - 2 a.b, of samples from which their mean is taken first, so that a
    common offset costs no digits. The diagonal is exactly 1. Raises ValueError where sigma is not
    positive.
    """
    check.positive(sigma=sigma)
    x = _rows(x)
    x = x - jnp.mean(x, axis=0, keepdims=True)
    inner = x @ x.T
    norm_sq = jnp.diagonal(inner)
    distance_sq = jnp.maximum(norm_sq[:, None] + norm_sq[None] - 2 * inner, 0)
    off_diagonal = 1 - jnp.eye(x.shape[0], dtype=x.dtype)
    return jnp.exp(distance_sq * off_diagonal / (-2 * sigma**2 * x.shape[1]))


def hsic(K: jax.Array, L: jax.Array) -> jax.Array:
    """tr(K H L H) / (N - 1)^2, H = I - 1 1^T / N: two kernel matrices [sample, sample] -> scalar.

    The biased estimator, which is what training minimises; about 1/N for independent variables.
    """
    chex.assert_equal_shape([K, L])
    N = K.shape[0]
    rows, columns = jnp.mean(K, axis=0, keepdims=True), jnp.mean(K, axis=1, keepdims=True)
    return jnp.sum((K - rows - columns + jnp.mean(K)) * L) / (N - 1) ** 2


def unbiased_hsic(K: jax.Array, L: jax.Array) -> jax.Array:
    """The estimator without bias, 0 on average for independent variables: [sample, sample] twice.

    With zeros written on the diagonals of K and L,
        [ tr(K L) + (1^T K 1)(1^T L 1) / ((N-1)(N-2)) - 2 (1^T K L 1) / (N-2) ] / (N (N-3)).
    For reporting: its value does not depend on the number of samples, and can be below 0.
    Raises ValueError for fewer than four samples. Source: Song et al. 2012.
    """
    chex.assert_equal_shape([K, L])
    N = K.shape[0]
    if N < 4:
        raise ValueError(f"the unbiased HSIC needs at least 4 samples, but has {N}")
    off_diagonal = 1 - jnp.eye(N, dtype=K.dtype)
    K, L = K * off_diagonal, L * off_diagonal
    K_sums, L_sums = jnp.sum(K, axis=0), jnp.sum(L, axis=0)
    product_of_means = jnp.sum(K_sums) * jnp.sum(L_sums) / ((N - 1) * (N - 2))
    return (jnp.sum(K * L) + product_of_means - 2 * jnp.dot(K_sums, L_sums) / (N - 2)) / (
        N * (N - 3)
    )


def hsic_objective(Kx: jax.Array, Ky: jax.Array, Kz: jax.Array, *, gamma: float) -> jax.Array:
    """HSIC(x, z) - gamma HSIC(y, z), which a layer z minimises: forget x, keep what tells of y."""
    return hsic(Kx - gamma * Ky, Kz)


def global_signal(
    Kx: jax.Array, Ky: jax.Array, z: jax.Array, *, gamma: float, sigma: float
) -> jax.Array:
    """The third factor of the three-factor rule: what working memory tells a layer.

    Kx, Ky [sample, sample] of inputs and targets, z [sample, ...] the layer's activity; the samples
    are those in working memory, N of them, the newest last. -> xi [...], of the shape of one z; it
    stands in for the gradient of HSIC(x, z) - gamma HSIC(y, z) by z_{N-1}, and the caller descends.
    With k_p = exp(-|z_{N-1} - z_p|^2 / 2 s^2), s = sigma sqrt(d),
        alpha_p = (2 k_p / s^2) (z_{N-1} - z_p),     abar = sum_{p < N-1} alpha_p / N,
        M = Kx' - gamma Ky',  K'_pq = K_pq - mean of row q of K,
        xi = ( sum_{p < N-1} M_pp alpha_p / N + M_{N-1,N-1} abar ) / (N-1)^2,
    which is a weighted sum of the differences to the newest activity,
        xi = sum_p w_p (z_{N-1} - z_p),  w_p = 2 k_p (M_pp + M_{N-1,N-1}) / (s^2 N (N-1)^2).
    Only the diagonal of M and one row of the layer's kernel are needed: N distances, not N^2.

    Raises ValueError where gamma or sigma is not positive, or there are fewer than two samples.
    Source: Daruwalla & Lipasti 2024; `global_error` of biological-hsic, which forms all of M and of
    the layer's kernel.
    """
    check.positive(gamma=gamma, sigma=sigma)
    N = z.shape[0]
    check.at_least(2, window=N)
    chex.assert_shape([Kx, Ky], (N, N))
    m = _own_kernel_less_mean(Kx) - gamma * _own_kernel_less_mean(Ky)
    flat = _rows(z)
    difference = flat[-1:] - flat
    s_sq = sigma**2 * flat.shape[1]
    k = jnp.exp(jnp.sum(difference**2, axis=1) / (-2 * s_sq))
    w = 2 * k * (m + m[-1]) / (s_sq * N * (N - 1) ** 2)
    return (w @ difference).reshape(z.shape[1:])


def _own_kernel_less_mean(K: jax.Array) -> jax.Array:
    """The diagonal of K': K_pp - mean_q K_pq -> [sample]."""
    return jnp.diagonal(K) - jnp.mean(K, axis=1)
