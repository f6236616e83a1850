"""Spatial codes: place cells, head-direction cells, and reading a position back from them."""

import math
from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from hfjax import check

# (positions [..., 2], centres [place, 2]) -> squared distances [..., place] (m^2)
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


def _offsets(positions: jax.Array, centres: jax.Array, axis: int) -> jax.Array:
    chex.assert_axis_dimension(positions, -1, 2)
    chex.assert_shape(centres, (None, 2))
    x = positions[..., axis, None]
    return x - centres[:, axis].reshape((1,) * (x.ndim - 1) + (-1,))


def euclidean_sq(positions: jax.Array, centres: jax.Array) -> jax.Array:
    """Squared distances. positions [..., 2], centres [place, 2] (m) -> [..., place] (m^2).

    Differences are taken before squaring: in two dimensions a matrix product saves nothing, and
    |x|^2 + |c|^2 - 2 x c cancels in float32 (and still more in the TF32 of a GPU's product).
    """
    dx, dy = _offsets(positions, centres, 0), _offsets(positions, centres, 1)
    return dx**2 + dy**2


def periodic_sq(width_m: float) -> DistanceSq:
    """Squared distances on the torus that a square box of this width makes.

    Returns a function of the form of `euclidean_sq`; both arguments must lie in the box.
    Raises ValueError where width_m is not positive.
    """
    check.positive(width_m=width_m)

    def distance_sq(positions: jax.Array, centres: jax.Array) -> jax.Array:
        dx, dy = (jnp.abs(_offsets(positions, centres, axis)) for axis in (0, 1))
        return jnp.minimum(dx, width_m - dx) ** 2 + jnp.minimum(dy, width_m - dy) ** 2

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

    positions [..., 2], centres [place, 2] (m) -> [..., place]; not normalised over cells.
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
