"""Kernel matrices; HSIC and the global signal that replaces its gradient; MMD.

The Hilbert-Schmidt independence criterion (HSIC) of two variables compares their kernel matrices
over N samples. It is large if samples that are similar in one variable are similar in the other.
The first axis is the sample; all further axes are flattened.

Sources: Gretton et al. 2005 (HSIC), Song et al. 2012 (the unbiased estimator), Daruwalla & Lipasti
2024 (the global signal; `projectlib/hsic.py` of biological-hsic), Gretton et al. 2012 (MMD),
Wiltzer et al. 2024 (MMD of atoms; `kernels.py` of distributional-sr).
"""

import functools
import operator
from typing import Protocol

import chex
import jax
import jax.numpy as jnp
import numpy as np

from hfjax import check


def _rows(x: jax.Array) -> jax.Array:
    return x.reshape(x.shape[0], -1)


def rbf_kernel(x: jax.Array, *, sigma: float) -> jax.Array:
    """K_pq = exp(-|x_p - x_q|^2 / (2 s^2)), s = sigma sqrt(d): x [sample, ...] -> [sample, sample].

    d is the flattened size of a sample. The distances come from one matrix product,
    |a - b|^2 = |a|^2 + |b|^2 - 2 a.b. The mean is subtracted first, so that a common offset costs
    no precision. The diagonal is exactly 1. Raises ValueError where sigma is not positive.
    """
    check.positive(sigma=sigma)
    x = _rows(x)
    x = x - jnp.mean(x, axis=0, keepdims=True)
    inner = jnp.dot(x, x.T, precision=jax.lax.Precision.HIGHEST)
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
    """HSIC(x, z) - gamma HSIC(y, z): a layer z minimises it.

    It discards information about the input x and keeps information about the target y.
    """
    return hsic(Kx - gamma * Ky, Kz)


def global_signal(
    Kx: jax.Array, Ky: jax.Array, z: jax.Array, *, gamma: float, sigma: float
) -> jax.Array:
    """The third factor of the three-factor rule: a signal from working memory to a layer.

    Kx, Ky [sample, sample] of inputs and targets, z [sample, ...] the layer's activity, for the N
    samples in working memory, the newest last. -> xi [...], the shape of one z. It replaces the
    gradient of HSIC(x, z) - gamma HSIC(y, z) with respect to z_{N-1}; the caller descends.
    With k_p = exp(-|z_{N-1} - z_p|^2 / 2 s^2), s = sigma sqrt(d),
        alpha_p = (2 k_p / s^2) (z_{N-1} - z_p),     abar = sum_{p < N-1} alpha_p / N,
        M = Kx' - gamma Ky',  K'_pq = K_pq - mean of row q of K,
        xi = ( sum_{p < N-1} M_pp alpha_p / N + M_{N-1,N-1} abar ) / (N-1)^2,
    which is a weighted sum of the differences to the newest activity,
        xi = sum_p w_p (z_{N-1} - z_p),  w_p = 2 k_p (M_pp + M_{N-1,N-1}) / (s^2 N (N-1)^2).
    Only the diagonal of M and one row of the layer's kernel are needed: N distances, not N^2.

    Raises ValueError where gamma or sigma is not positive, or there are fewer than two samples.
    Source: Daruwalla & Lipasti 2024; `global_error` of biological-hsic, which computes all of M and
    all of the layer's kernel.
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


# --- Maximum mean discrepancy ---


class Kernel(Protocol):
    """d -> k(d): a kernel as a function of the squared distance."""

    def __call__(self, d: jax.Array, /) -> jax.Array:
        """d >= 0, of any shape -> the same shape, elementwise."""


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _rational_quadratic(d: jax.Array, bandwidths: tuple[float, ...]) -> jax.Array:
    return functools.reduce(operator.add, _rationals(d, bandwidths)[0])


@_rational_quadratic.defjvp
def _rational_quadratic_jvp(
    bandwidths: tuple[float, ...], primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """d/dd (1 + d / 2b)^-b = -(1 + d / 2b)^-b / (2 (1 + d / 2b)): no power is computed twice."""
    terms, reciprocals = _rationals(primals[0], bandwidths)
    slopes = (k * r for k, r in zip(terms, reciprocals, strict=True))
    slope = -functools.reduce(operator.add, slopes) / 2
    return functools.reduce(operator.add, terms), slope * tangents[0]


def _rationals(
    d: jax.Array, bandwidths: tuple[float, ...]
) -> tuple[list[jax.Array], list[jax.Array]]:
    """(1 + d / 2b)^-b and 1 / (1 + d / 2b) for each b; by products if b is a whole number."""
    terms, reciprocals = [], []
    for b in bandwidths:
        base = 1 + d / (2 * b)
        if b == 0.5:
            root = jax.lax.rsqrt(base)
            terms.append(root)
            reciprocals.append(root**2)
        else:
            r = 1 / base
            whole = b == int(b) and b <= 8
            terms.append(r ** int(b) if whole else jnp.exp(-b * jnp.log(base)))
            reciprocals.append(r)
    return terms, reciprocals


def rational_quadratic(
    d: jax.Array, *, bandwidths: tuple[float, ...] = (0.2, 0.5, 1.0, 2.0, 5.0)
) -> jax.Array:
    """sum_b (1 + d / 2b)^-b. Source: Wiltzer et al. 2024, the inner kernel."""
    return _rational_quadratic(d, tuple(bandwidths))


def inverse_multiquadric(d: jax.Array, *, bandwidths: tuple[float, ...] = (1.0,)) -> jax.Array:
    """sum_b (1 + d / b)^-1/2. Source: Wiltzer et al. 2024, the outer kernel."""
    return functools.reduce(operator.add, (jax.lax.rsqrt(1 + d / b) for b in bandwidths))


def gaussian(d: jax.Array, *, bandwidths: tuple[float, ...] = (1.0,)) -> jax.Array:
    """sum_b exp(-d / b)."""
    return functools.reduce(operator.add, (jnp.exp(-d / b) for b in bandwidths))


def cauchy(d: jax.Array, *, bandwidths: tuple[float, ...] = (1.0,)) -> jax.Array:
    """sum_b 1 / (1 + d / b)."""
    return functools.reduce(operator.add, (1 / (1 + d / b) for b in bandwidths))


def minus_distance(d: jax.Array, *, alpha: float = 1.0) -> jax.Array:
    """-d^(alpha / 2) = -|x - y|^alpha, 0 < alpha < 2: its MMD is the energy distance.

    alpha: exponent of the distance. The gradient at d = 0 is 0.

    Source: Székely & Rizzo 2013; distributional-sr `energy_distance`.
    """
    positive = d > 0
    return jnp.where(positive, -(jnp.where(positive, d, 1) ** (alpha / 2)), 0)


def squared_distances(x: jax.Array, y: jax.Array) -> jax.Array:
    """|x_p - y_q|^2 by one matrix product: [p, dim], [q, dim] -> [p, q].

    The mean of y is subtracted from both first, so that a common offset costs no precision.
    """
    centre = jnp.mean(y, axis=0, keepdims=True)
    x, y = x - centre, y - centre
    norms = jnp.sum(x**2, axis=1)[:, None] + jnp.sum(y**2, axis=1)[None]
    return jnp.maximum(norms - 2 * jnp.dot(x, y.T, precision=jax.lax.Precision.HIGHEST), 0)


def _mean_within(k: jax.Array, unbiased: bool) -> jax.Array:
    """Mean of a kernel matrix [sample, sample], if unbiased without the diagonal."""
    n = k.shape[0]
    return (jnp.sum(k) - jnp.trace(k)) / (n * (n - 1)) if unbiased else jnp.mean(k)


def mmd_sq(x: jax.Array, y: jax.Array, kernel: Kernel, *, unbiased: bool = True) -> jax.Array:
    """Squared maximum mean discrepancy of two samples: [p, dim], [q, dim] -> scalar.

    mean k(x, x') + mean k(y, y') - 2 mean k(x, y). The means within a sample leave out pairs of a
    point with itself if unbiased (U-statistic), and include them otherwise (V-statistic).
    Source: Gretton et al. 2012.
    """

    def within(z: jax.Array) -> jax.Array:
        d = squared_distances(z, z) * (1 - jnp.eye(z.shape[0], dtype=z.dtype))
        return _mean_within(kernel(d), unbiased)

    return within(x) + within(y) - 2 * jnp.mean(kernel(squared_distances(x, y)))


def mmd_sq_of_distances(
    d: jax.Array, num_x: int, *, kernel: Kernel, unbiased: bool, bandwidth: float | None = None
) -> jax.Array:
    """`mmd_sq` from squared distances d [x and y, x and y]; the first num_x points are x.

    The kernel is k(d / w), where w is `bandwidth`, or by default the `median_distance`.
    """
    k = kernel(d / (median_distance(d, num_x) if bandwidth is None else bandwidth))
    within = _mean_within(k[:num_x, :num_x], unbiased) + _mean_within(k[num_x:, num_x:], unbiased)
    return within - 2 * jnp.mean(k[:num_x, num_x:])


def median_distance(d: jax.Array, num_x: int) -> jax.Array:
    """Median of the distances between different points, at least 1e-6; its gradient is stopped.

    d [x and y, x and y], symmetric; the first num_x points are x. A distance between x and y counts
    once; a distance within x, or within y, counts twice.
    Source: distributional-sr `mmd`, adaptive_bandwidth.
    """
    n = d.shape[0]
    row, column = np.indices((n, n))
    counted = d[(row != column) & ~((row >= num_x) & (column < num_x))]
    middle = jnp.array([(counted.size - 1) // 2, counted.size // 2])
    return jax.lax.stop_gradient(jnp.maximum(jnp.mean(_kth_smallest(counted, middle)), 1e-6))


def _kth_smallest(x: jax.Array, k: jax.Array) -> jax.Array:
    """The numbers of rank k [k] (from 0) among x [sample] >= 0, in a sixth of the time of a sort.

    Non-negative floats have the same order as their bits read as integers. The bits of the result
    are determined one after another, from the highest.
    """
    integer = jnp.dtype(f"int{8 * x.dtype.itemsize}")
    bits = jax.lax.bitcast_convert_type(x, integer)

    def next_bit(i: jax.Array, known: jax.Array) -> jax.Array:
        trial = known | (jnp.ones((), integer) << (8 * integer.itemsize - 2 - i).astype(integer))
        fewer = jnp.sum(bits[None] < trial[:, None], axis=1) <= k
        return jnp.where(fewer, trial, known)

    result = jax.lax.fori_loop(0, 8 * integer.itemsize - 1, next_bit, jnp.zeros(k.shape, integer))
    return jax.lax.bitcast_convert_type(result, x.dtype)


def mean_kernels(z: jax.Array, kernel: Kernel) -> jax.Array:
    """Mean of k(x, x') - k(0) over the samples of each pair of atoms.

    z [atom, sample, dim] -> [atom, atom]; on the diagonal the mean over pairs of different samples.
    Subtracting k(0) keeps precision in small differences of large means. This plain form needs
    [atom, sample, atom, sample] numbers; it is the reference for `fused_mean_kernels`.
    """
    atoms, samples, dim = z.shape
    flat = z.reshape(-1, dim)
    d = squared_distances(flat, flat) * (1 - jnp.eye(len(flat), dtype=z.dtype))
    k = (kernel(d) - kernel(jnp.zeros((), z.dtype))).reshape(atoms, samples, atoms, samples)
    own = jnp.eye(atoms, dtype=z.dtype)
    return jnp.mean(k, axis=(1, 3)) * (1 + own / (samples - 1))


def atom_distances(S: jax.Array) -> jax.Array:
    """max(S_aa + S_bb - 2 S_ab, 0): squared MMD of each pair of atoms, S from `mean_kernels`."""
    own = jnp.diagonal(S)
    d = jnp.maximum(own[:, None] + own[None] - 2 * S, 0)
    return d * (1 - jnp.eye(len(S), dtype=S.dtype))


def outer_mmd_sq(
    S: jax.Array, num_x: int, *, kernel: Kernel, bandwidth: float | None = None
) -> jax.Array:
    """Squared MMD (V-statistic) of two sets of atoms; the distance of two atoms is their MMD.

    S [atom, atom]: `mean_kernels` of the num_x atoms of x, followed by those of y. kernel,
    bandwidth: as in `mmd_sq_of_distances`. Source: Wiltzer et al. 2024.
    """
    d = atom_distances(S)
    return mmd_sq_of_distances(d, num_x, kernel=kernel, unbiased=False, bandwidth=bandwidth)


ROWS_AT_ONCE = 192  # rows of a tile: at most so many samples, of whole atoms


def _tiles(atoms: int, samples: int) -> list[tuple[int, int]]:
    """First atom and end of each tile, four tiles at least; samples: of one atom."""
    size = max(1, min(ROWS_AT_ONCE // samples, -(-atoms // 4)))
    return [(a, min(a + size, atoms)) for a in range(0, atoms, size)]


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def fused_mean_kernels(z: jax.Array, kernel: Kernel, num_learned: int) -> jax.Array:
    """`mean_kernels` with a gradient for the first num_learned atoms only; for the others it is 0.

    The kernel of each pair of atoms is computed once, tile by tile, and its slope with it where the
    gradient needs it.
    """
    return _fused_forward(z, kernel, num_learned)[0]


_Residuals = tuple[jax.Array, list[jax.Array]]  # z, and the slopes of the kernel in each tile


def _fused_forward(z: jax.Array, kernel: Kernel, num_learned: int) -> tuple[jax.Array, _Residuals]:
    atoms, samples, dim = z.shape
    zero = kernel(jnp.zeros((), z.dtype))
    S = jnp.zeros((atoms, atoms), z.dtype)
    slopes = []
    for first, last in _tiles(atoms, samples):
        rows = z[first:last].reshape(-1, dim)
        columns = z[first:].reshape(-1, dim)
        d = squared_distances(rows, columns)
        # The distance of a point to itself must be exactly 0: some kernels have a corner there.
        d *= 1 - jnp.eye(len(rows), len(columns), dtype=z.dtype)
        if first < num_learned:
            k, slope = jax.jvp(kernel, (d,), (jnp.ones_like(d),))
            slopes.append(slope)
        else:
            k = kernel(d)
        sums = (k - zero).reshape(last - first, samples, atoms - first, samples).sum(axis=(1, 3))
        S = S.at[first:last, first:].set(sums).at[first:, first:last].set(sums.T)
    own = jnp.eye(atoms, dtype=z.dtype)
    S = S / samples**2 * (1 + own / (samples - 1))
    return S, (z, slopes)


def _fused_backward(
    kernel: Kernel, num_learned: int, residuals: _Residuals, G: jax.Array
) -> tuple[jax.Array]:
    """dz_p = sum_q w_pq (z_p - z_q), w_pq = 2 slope_pq G, by one matrix product with (z_q, 1).

    The weight of a pair of atoms multiplies the points, which are far fewer than the slopes.
    """
    del kernel
    z, slopes = residuals
    atoms, samples, dim = z.shape
    own = jnp.eye(atoms, dtype=z.dtype)
    G = 2 * G / samples**2 * (1 + own / (samples - 1))
    z = z - jnp.mean(z, axis=(0, 1), keepdims=True)  # a common offset would cost precision
    points = jnp.concatenate([z, jnp.ones((atoms, samples, 1), z.dtype)], axis=-1)
    product = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
    pulls = jnp.zeros_like(points)
    for (first, last), slope in zip(_tiles(atoms, samples), slopes, strict=False):
        # A tile holds both orders of a pair of its own atoms, and one order of all other pairs.
        once = np.arange(first, atoms)[None] < last
        weight = G[first:last, first:] + jnp.where(once, 0, G[first:, first:last].T)
        tile = slope.reshape(last - first, samples, -1)
        others = weight[:, :, None, None] * points[None, first:]
        of_rows = product("apq,aqf->apf", tile, others.reshape(last - first, -1, dim + 1))
        learned = max(num_learned - first, 0)
        of_columns = product("apq,apf->aqf", tile[:, :, : learned * samples], points[first:last])
        of_columns = of_columns.reshape(last - first, learned, samples, dim + 1)
        of_columns = product("ab,abqf->bqf", weight[:, :learned], of_columns)
        pulls = pulls.at[first:last].add(of_rows).at[first:num_learned].add(of_columns)
    gradient = pulls[..., -1:] * z - pulls[..., :-1]
    keep = jnp.arange(atoms) < num_learned
    return (jnp.where(keep[:, None, None], gradient, 0),)


fused_mean_kernels.defvjp(_fused_forward, _fused_backward)


class ScalarFunction(Protocol):
    """x -> scalar."""

    def __call__(self, x: jax.Array, /) -> jax.Array:
        """x of any shape -> a scalar."""


def with_gradient_at_once(
    function: ScalarFunction,
) -> ScalarFunction:
    """The same scalar function; it computes its gradient in the forward pass and stores only that.

    Under `lax.map` this bounds the memory: no residuals outlive their element.
    """

    @jax.custom_vjp
    def wrapped(x: jax.Array) -> jax.Array:
        return function(x)

    wrapped.defvjp(lambda x: jax.value_and_grad(function)(x), lambda gradient, g: (g * gradient,))
    return wrapped
