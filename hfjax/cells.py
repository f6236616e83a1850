"""Spatial codes: place cells, head-direction cells, and reading a position back from them."""

import functools
import math
import operator
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.buffer_callback import buffer_callback

from hfjax import check

# (positions [..., dim], centres [place, dim]) -> squared distances [..., place] (m^2)
DistanceSq = Callable[[jax.Array, jax.Array], jax.Array]


def place_centres(key: jax.Array, *, num_place: int, width_m: float) -> jax.Array:
    """Centres of place fields, uniform in a square box centred on 0 -> [place, 2] (m)."""
    check.at_least(1, num_place=num_place)
    check.positive(width_m=width_m)
    return jax.random.uniform(key, (num_place, 2), minval=-width_m / 2, maxval=width_m / 2)


def lattice_centres(key: jax.Array, *, num_place: int, width_m: float) -> jax.Array:
    """Centres of place fields on a square lattice that fills the box evenly -> [place, 2] (m).

    For sqrt(num_place) = n a side: (i + 1/2) width_m / n - width_m / 2. `key` is not used.
    Raises ValueError where num_place is not a square number, or width_m is not positive.
    """
    del key
    side = math.isqrt(max(num_place, 0))
    if side < 1 or side**2 != num_place:
        raise ValueError(f"num_place must be a square number for a lattice, but is {num_place}")
    check.positive(width_m=width_m)
    x = (jnp.arange(side) + 0.5) * (width_m / side) - width_m / 2
    return jnp.stack(jnp.meshgrid(x, x, indexing="ij"), axis=-1).reshape(-1, 2)


def jittered_centres(
    key: jax.Array, *, num_place: int, width_m: float, num_dims: int = 1, jitter: float = 0.45
) -> jax.Array:
    """Centres of place fields on an even lattice, each jittered -> [place, dim] (m).

    On a ring (num_dims 1) or torus of circumference width_m, centred on 0, with n cells along each
    axis: (i + 1/2 + u) width_m / n - width_m / 2, u uniform in +-jitter.
    Raises ValueError where num_place is not n^num_dims, jitter is outside [0, 0.5], or width_m is
    not positive.
    Source: RatInABox 1.6.3 `Environment.sample_positions`, "uniform_jitter".
    """
    check.at_least(1, num_place=num_place, num_dims=num_dims)
    check.positive(width_m=width_m)
    side = round(num_place ** (1 / num_dims))
    if side**num_dims != num_place:
        raise ValueError(
            f"num_place must be a number to the power {num_dims} for a lattice in {num_dims} "
            f"dimensions, but is {num_place}"
        )
    if not 0 <= jitter <= 0.5:
        raise ValueError(f"jitter must be between 0 and 0.5 (half a cell), but is {jitter}")
    axes = jnp.meshgrid(*[jnp.arange(side) + 0.5] * num_dims, indexing="ij")
    lattice = jnp.stack(axes, axis=-1).reshape(-1, num_dims)
    u = jax.random.uniform(key, lattice.shape, minval=-jitter, maxval=jitter)
    return (lattice + u) * (width_m / side) - width_m / 2


def _offsets(positions: jax.Array, centres: jax.Array) -> list[jax.Array]:
    chex.assert_equal_shape_suffix([positions, centres], 1)
    chex.assert_rank(centres, 2)
    leading = (1,) * (positions.ndim - 1)
    return [
        positions[..., axis, None] - centres[:, axis].reshape((*leading, -1))
        for axis in range(centres.shape[1])
    ]


def euclidean_sq(positions: jax.Array, centres: jax.Array) -> jax.Array:
    """Squared distances. positions [..., dim], centres [place, dim] (m) -> [..., place] (m^2).

    Differences are taken before squaring: in two dimensions a matrix product saves nothing, and
    |x|^2 + |c|^2 - 2 x c cancels in float32 (and still more in the TF32 of a GPU's product).
    """
    return functools.reduce(operator.add, [dx**2 for dx in _offsets(positions, centres)])


def periodic_sq(width_m: float) -> DistanceSq:
    """Squared distances on a ring, or on the torus that a square box of this width makes.

    Returns a function of the form of `euclidean_sq`; both arguments must lie in the box.
    Raises ValueError where width_m is not positive.
    """
    check.positive(width_m=width_m)

    def distance_sq(positions: jax.Array, centres: jax.Array) -> jax.Array:
        apart = [jnp.abs(dx) for dx in _offsets(positions, centres)]
        return functools.reduce(operator.add, [jnp.minimum(dx, width_m - dx) ** 2 for dx in apart])

    return distance_sq


def softmax_gaussian(
    positions: jax.Array,
    centres: jax.Array,
    *,
    sigma_m: float,
    distance_sq: DistanceSq = euclidean_sq,
) -> jax.Array:
    """Gaussian place fields normalised over cells: p = softmax(-d^2 / 2 sigma^2).

    positions [..., 2], centres [place, 2] (m) -> [..., place], a distribution over cells.
    Raises ValueError where sigma_m is not positive.
    Source: Sorscher et al. 2019; Banino et al. 2018, eq. 1.
    """
    check.positive(sigma_m=sigma_m)
    return jax.nn.softmax(distance_sq(positions, centres) / (-2 * sigma_m**2), axis=-1)


def softmax_surround(
    positions: jax.Array,
    centres: jax.Array,
    *,
    sigma_m: float,
    distance_sq: DistanceSq = euclidean_sq,
) -> jax.Array:
    """Place fields with an inhibitory surround, as the published networks were trained on.

    q = softmax(-d^2 / 2 sigma^2) - softmax(-d^2 / 4 sigma^2);  p = (q + |min q|) / sum(q + |min q|)
    with minimum and sum over the cells.

    positions [..., 2], centres [place, 2] (m) -> [..., place], a distribution over cells.
    Raises ValueError where sigma_m is not positive.
    Source: Sorscher et al. 2019; grid-pattern-formation `get_activation`. The paper speaks of a
    difference of Gaussians; its code, followed here, takes this difference of softmaxes. The
    difference of Gaussians itself is `difference_of_gaussians`.
    Deviation: q is not formed as a difference of two numbers near 1, so that p is right, and not
    0 / 0, also where one cell is much nearer than all others. Where all others are too far for the
    number format, p is uniform.
    """
    check.positive(sigma_m=sigma_m)
    # With r = exp((min d^2 - d^2) / 4 sigma^2): q_i = r_i^2 / sum r^2 - r_i / sum r. Times
    # (sum r)(sum r^2), which p does not feel, that is r_i (sum_j r_j (1 - r_j) - (1 - r_i) sum r).
    d_sq = distance_sq(positions, centres)
    x = (jnp.min(d_sq, axis=-1, keepdims=True) - d_sq) / (4 * sigma_m**2)
    r, one_minus_r = jnp.exp(x), -jnp.expm1(x)
    q = r * (
        jnp.sum(r * one_minus_r, axis=-1, keepdims=True)
        - one_minus_r * jnp.sum(r, axis=-1, keepdims=True)
    )
    q -= jnp.min(q, axis=-1, keepdims=True)  # the least is never positive
    total = jnp.sum(q, axis=-1, keepdims=True)
    return jnp.where(total > 0, q / jnp.where(total > 0, total, 1), 1 / centres.shape[0])


def gaussian(
    positions: jax.Array,
    centres: jax.Array,
    *,
    sigma_m: float,
    distance_sq: DistanceSq = euclidean_sq,
) -> jax.Array:
    """Gaussian place fields, each with peak 1: p = exp(-d^2 / 2 sigma^2).

    positions [..., dim], centres [place, dim] (m) -> [..., place]; not normalised over cells.
    Raises ValueError where sigma_m is not positive.
    """
    check.positive(sigma_m=sigma_m)
    return jnp.exp(distance_sq(positions, centres) / (-2 * sigma_m**2))


def difference_of_gaussians(
    positions: jax.Array,
    centres: jax.Array,
    *,
    sigma_m: float,
    distance_sq: DistanceSq = euclidean_sq,
) -> jax.Array:
    """Gaussian centre minus a surround of twice its variance and the same integral.

    p = exp(-d^2 / 2 sigma^2) - exp(-d^2 / 4 sigma^2) / 2; peak 1/2, integral over the plane 0.

    positions [..., 2], centres [place, 2] (m) -> [..., place]; negative in the surround, and not
    normalised over cells. Raises ValueError where sigma_m is not positive.
    Source: Sorscher et al. 2019, the difference of Gaussians of the text, times 2 pi sigma^2.
    """
    check.positive(sigma_m=sigma_m)
    d_sq = distance_sq(positions, centres)
    return jnp.exp(d_sq / (-2 * sigma_m**2)) - jnp.exp(d_sq / (-4 * sigma_m**2)) / 2


def decode_position(outputs: jax.Array, centres: jax.Array, *, top: int = 3) -> jax.Array:
    """Position read from place cells: the mean centre of the `top` cells with largest output.

    outputs [..., place], centres [place, 2] (m) -> [..., 2] (m). Of equal outputs the cell with
    the lower index is taken.
    Raises ValueError where top is below 1 or above the number of cells.
    Source: Sorscher et al. 2019; grid-pattern-formation `get_nearest_cell_pos`.
    """
    num_place = outputs.shape[-1]
    chex.assert_shape(centres, (num_place, 2))
    if not 1 <= top <= num_place:
        raise ValueError(f"top must be between 1 and {num_place} (place cells), but is {top}")
    _, best = jax.lax.top_k(outputs, top)
    return jnp.mean(centres[best], axis=-2)


def angles_code(positions: jax.Array, *, width_m: float) -> jax.Array:
    """A position on a ring or torus as (cos, sin) of its angle along each axis.

    positions [..., dim] (m) -> [..., 2 dim]: cosines first, then sines. Continuous across the seam,
    so that a regression can learn it.
    """
    angle = positions * (2 * jnp.pi / width_m)
    return jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1)


def decode_angles(code: jax.Array, *, width_m: float) -> jax.Array:
    """The inverse of `angles_code`, whatever the length of each (cos, sin).

    code [..., 2 dim] -> positions [..., dim] (m), in [-width_m / 2, width_m / 2].
    """
    cosine, sine = jnp.split(code, 2, axis=-1)
    return jnp.arctan2(sine, cosine) * (width_m / (2 * jnp.pi))


def ridge_decoder(
    rates: jax.Array, targets: jax.Array, queries: jax.Array, *, alpha: float = 0.01
) -> jax.Array:
    """Linear regression with a quadratic penalty and a free intercept.

    min |Y - X W - b|^2 + alpha |W|^2 over the samples, then read at the queries. With `angles_code`
    as targets it is the circular decoder of the field.

    rates [sample, cell], targets [sample, out], queries [query, cell] -> [query, out].
    Raises ValueError where alpha is not positive.
    Source: HelmholtzHippocampus `train_decoder`, "linear_regression".
    """
    check.positive(alpha=alpha)
    chex.assert_equal_shape_prefix([rates, targets], 1)
    mean, mean_target = jnp.mean(rates, axis=0), jnp.mean(targets, axis=0)
    X, Y = rates - mean[None], targets - mean_target[None]
    W = jnp.linalg.solve(X.T @ X + alpha * jnp.eye(X.shape[1], dtype=X.dtype), X.T @ Y)
    return (queries - mean[None]) @ W + mean_target[None]


def gaussian_process_decoder(rates: jax.Array, targets: jax.Array, queries: jax.Array) -> jax.Array:
    """Mean of a Gaussian process with a unit RBF kernel, by scikit-learn on the host in float64.

    rates [sample, cell], targets [sample, out], queries [query, cell] -> [query, out].
    Kernel (length 1, not fitted) and jitter (1e-10) are those of scikit-learn's defaults in 2023.
    Under vmap the members are fitted one after the other.
    Source: HelmholtzHippocampus `train_decoder`, "gaussian_process".
    """
    chex.assert_equal_shape_prefix([rates, targets], 1)

    def fit_and_predict(rates, targets, queries):
        from sklearn.gaussian_process import GaussianProcessRegressor, kernels  # slow to import

        X, Y, Q = (np.asarray(a).astype(np.float64) for a in (rates, targets, queries))
        # optimizer=None: newer versions would otherwise fit the kernel's length, for minutes.
        model = GaussianProcessRegressor(kernels.RBF(1.0), optimizer=None).fit(X, Y)
        # In pieces: the kernel between all queries and samples would take gigabytes.
        pieces = np.array_split(Q, max(1, len(Q) // 2000))
        predicted = np.concatenate([model.predict(piece) for piece in pieces])
        return predicted.reshape(len(Q), -1).astype(dtype)

    def in_place(context, out, *arguments):
        np.asarray(out)[...] = fit_and_predict(*arguments)

    dtype = targets.dtype
    shape = jax.ShapeDtypeStruct((queries.shape[0], targets.shape[1]), dtype)
    # On a CPU with one core a pure_callback was seen to wait for ever: its arguments are copied by
    # the thread that the callback holds. A callback on the buffers themselves copies nothing.
    on_cpu = buffer_callback(in_place, shape, vmap_method="sequential")
    elsewhere = functools.partial(
        jax.pure_callback, fit_and_predict, shape, vmap_method="sequential"
    )
    return jax.lax.platform_dependent(rates, targets, queries, cpu=on_cpu, default=elsewhere)


def head_direction_code(headings: jax.Array, preferred: jax.Array, *, kappa: float) -> jax.Array:
    """Head-direction cells: von Mises responsibilities, softmax(kappa cos(theta - mu)).

    headings [...] and preferred directions [cell] (rad) -> [..., cell], a distribution over cells.
    Raises ValueError where kappa is negative.
    Source: Banino et al. 2018, eq. 2; grid-pattern-formation `square_grid_cells.ipynb`.
    """
    check.not_negative(kappa=kappa)
    chex.assert_rank(preferred, 1)
    mu = preferred.reshape((1,) * headings.ndim + (-1,))
    return jax.nn.softmax(kappa * jnp.cos(headings[..., None] - mu), axis=-1)
