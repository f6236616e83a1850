"""Spatial codes: place, grid, head-direction and vector cells."""

import functools
import math
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import chex
import jax
import jax.numpy as jnp
import numpy as np

from hfjax import check


class DistanceSq(Protocol):
    """Squared distances: Euclidean, periodic, or around walls."""

    def __call__(self, positions: jax.Array, centres: jax.Array, /) -> jax.Array:
        """positions [..., dim], centres [place, dim] (m) -> [..., place] (m^2)."""


class PlaceCentres(Protocol):
    """Draws the centres of place fields, as `place_centres` does."""

    def __call__(self, key: jax.Array, /, *, num_place: int, width_m: check.Width) -> jax.Array:
        """Centres [place, 2] (m) in a box centred on 0; width_m: (width, height) of the box."""


def place_centres(key: jax.Array, *, num_place: int, width_m: check.Width) -> jax.Array:
    """Centres of place fields, uniform in a rectangular box centred on 0 -> [place, 2] (m).

    width_m: the side of a square, or (width, height).
    Raises ValueError where num_place is below 1 or a width is not positive.
    """
    check.at_least(1, num_place=num_place)
    half = as_row(check.widths(width_m, 2), 2) / 2
    return jax.random.uniform(key, (num_place, 2), minval=-half, maxval=half)


def beyond_walls(
    key: jax.Array,
    *,
    num_place: int,
    width_m: check.Width,
    margin_m: float,
    draw: PlaceCentres = place_centres,
) -> jax.Array:
    """Centres of place fields in a box and in a rim around it -> [place, 2] (m).

    Positions near a wall then have as many fields around them as those in the middle.

    width_m   of the box: the side of a square, or (width, height).
    margin_m  width of the rim (m).
    draw      draws centres in the wider box, as `place_centres` does.

    Raises ValueError where margin_m is negative, or `draw` does.
    """
    check.not_negative(margin_m=margin_m)
    wider = tuple(width + 2 * margin_m for width in check.widths(width_m, 2))
    return draw(key, num_place=num_place, width_m=wider)


def lattice_centres(key: jax.Array, *, num_place: int, width_m: check.Width) -> jax.Array:
    """Centres of place fields on a square lattice in a rectangular box -> [place, 2] (m).

    With n centres along an axis of width w: (i + 1/2) w / n - w / 2. width_m: the side of a square,
    or (width, height). `key` is not used. Raises ValueError where num_place centres do not make a
    lattice of equal distances along both axes (in a square box: a square number), or a width is not
    positive.
    """
    del key
    widths = check.widths(width_m, 2)
    per_m = math.sqrt(max(num_place, 0) / math.prod(widths))
    counts = [round(w * per_m) for w in widths]
    spacings = [w / max(n, 1) for w, n in zip(widths, counts, strict=True)]
    if num_place < 1 or math.prod(counts) != num_place or not math.isclose(*spacings, rel_tol=1e-3):
        kind = "a square number" if widths[0] == widths[1] else "a number that fits the box"
        raise ValueError(f"num_place must be {kind} for a lattice, but is {num_place}")
    axes = [
        (jnp.arange(n) + 0.5) * spacing - w / 2
        for n, spacing, w in zip(counts, spacings, widths, strict=True)
    ]
    return jnp.stack(jnp.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)


def jittered_centres(
    key: jax.Array, *, num_place: int, width_m: check.Width, num_dims: int = 1, jitter: float = 0.45
) -> jax.Array:
    """Centres of place fields on a regular lattice, each jittered -> [place, dim] (m).

    The box (ring, torus or walled) is centred on 0; width_m is its width along every dimension, or
    one for each. For n cells in a box of volume V the lattice constant is about delta =
    (V / n)^(1/dim), and the jitter is uniform in +-jitter delta. Where no whole number of cells
    fits an axis, the lattice has fewer than n points. The remaining centres lie around centres that
    are already there, at half the jitter.
    These can lie outside the box, by at most (3/2 jitter - 1/2) delta, as in RatInABox.
    Raises ValueError where num_place or num_dims is below 1, jitter is outside [0, 0.5], or a width
    is not positive.
    Source: RatInABox `Environment.sample_positions`, "uniform_jitter".
    """
    check.at_least(1, num_place=num_place, num_dims=num_dims)
    widths = check.widths(width_m, num_dims)
    if not 0 <= jitter <= 0.5:
        raise ValueError(f"jitter must be between 0 and 0.5 (half a cell), but is {jitter}")
    delta = (math.prod(widths) / num_place) ** (1 / num_dims)
    lines = []
    for width in widths:
        cells_along = width / delta
        count = min(int(cells_along + 1e-9), num_place)
        middle = np.full(1, cells_along / 2)
        lines.append(np.linspace(0.5, cells_along - 0.5, count) if count > 1 else middle)
    axes = np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1)
    lattice = jnp.asarray(axes.reshape(-1, num_dims), jnp.float32)
    centres = lattice + jax.random.uniform(key, lattice.shape, minval=-jitter, maxval=jitter)
    if remaining := num_place - len(centres):
        choice_key, near_key = jax.random.split(jax.random.fold_in(key, 1))
        around = centres[jax.random.choice(choice_key, len(centres), (remaining,))]
        near = jax.random.uniform(near_key, around.shape, minval=-jitter / 2, maxval=jitter / 2)
        centres = jnp.concatenate([centres, around + near])
    return centres * delta - as_row(widths, 2) / 2


def as_row(x: Any, ndim: int) -> jax.Array:
    """A vector x [cell] with leading axes of length 1: [1, ..., 1, cell] of ndim dimensions."""
    return check.floats(x).reshape((1,) * (ndim - 1) + (-1,))


Sigma = float | Sequence[float] | np.ndarray | jax.Array  # of all cells, or [place] of each


def _sigma(sigma_m: Sigma, centres: jax.Array, ndim: int) -> float | jax.Array:
    """sigma_m of all cells, or a row [1, ..., place] of ndim dimensions; checked unless traced."""
    shape = np.shape(sigma_m)
    if shape not in ((), (len(centres),)):
        raise ValueError(
            f"sigma_m must be one number, or one for each of the {len(centres)} cells, but has the "
            f"shape {shape}"
        )
    if not isinstance(sigma_m, jax.core.Tracer):
        values = np.ravel(np.asarray(sigma_m, float)).tolist()
        for value in values:
            check.positive(sigma_m=value)
    checked: Any = sigma_m
    return as_row(checked, ndim) if shape else checked


def _offsets(positions: jax.Array, centres: jax.Array) -> list[jax.Array]:
    """positions [..., dim] minus centres [place, dim], for each dimension: list of [..., place]."""
    positions, centres = check.floats(positions), check.floats(centres)
    chex.assert_equal_shape_suffix([positions, centres], 1)
    chex.assert_rank(centres, 2)
    return [
        positions[..., axis, None] - as_row(centres[:, axis], positions.ndim)
        for axis in range(centres.shape[1])
    ]


def euclidean_sq(positions: jax.Array, centres: jax.Array) -> jax.Array:
    """Squared distances. positions [..., dim], centres [place, dim] (m) -> [..., place] (m^2).

    Computed from differences. The expansion |x|^2 + |c|^2 - 2 x c is no faster in two dimensions
    and loses precision in float32, still more in the TF32 products of a GPU.
    """
    return functools.reduce(operator.add, [dx**2 for dx in _offsets(positions, centres)])


def periodic_sq(width_m: check.Width) -> DistanceSq:
    """Squared distances to the nearest image, on a ring or a torus.

    d^2 = sum over axes of min(|dx|, width - |dx|)^2. width_m: the width of a ring or of a square
    torus, or one for each dimension, as in `periodic_sq((1.0, 0.5))` for
    `arena.box(1.0, 0.5, periodic=True)`. Returns a function of the form of `euclidean_sq`; both
    arguments must lie in the box.
    Raises ValueError where a width is not positive; the function, where their number is not that
    of the dimensions.
    """
    check.widths(width_m, np.size(width_m))
    # Not `arena.wrap`: this form is 30 times as fast on a CPU, and exact near 0.

    def distance_sq(positions: jax.Array, centres: jax.Array) -> jax.Array:
        apart = [jnp.abs(dx) for dx in _offsets(positions, centres)]
        periods = check.widths(width_m, len(apart))
        squares = [
            jnp.minimum(dx, width - dx) ** 2 for dx, width in zip(apart, periods, strict=True)
        ]
        return functools.reduce(operator.add, squares)

    return distance_sq


def softmax_gaussian(
    positions: jax.Array,
    centres: jax.Array,
    *,
    sigma_m: Sigma,
    distance_sq: DistanceSq = euclidean_sq,
) -> jax.Array:
    """Gaussian place fields, normalised over cells: p = softmax(-d^2 / 2 sigma^2).

    positions [..., 2], centres [place, 2] (m) -> [..., place], a distribution over cells.
    sigma_m: one number, or one for each cell [place].
    Raises ValueError where sigma_m is not positive.
    Source: Sorscher et al. 2019; Banino et al. 2018, eq. 1.
    """
    d_sq = distance_sq(positions, centres)
    weights = jnp.exp(_below_nearest(d_sq, _sigma(sigma_m, centres, d_sq.ndim)) / 2)
    return weights / jnp.sum(weights, axis=-1, keepdims=True)


def _below_nearest(d_sq: jax.Array, sigma: float | jax.Array) -> jax.Array:
    """u_i = min_j d_j^2 / sigma_j^2 - d_i^2 / sigma_i^2: [..., place], 0 at the nearest cell.

    The subtraction must not follow a product: a compiler fuses the two, and rounds the nearest
    cell's term in two ways. Far from all cells, the difference was large, and its exponential
    infinite or 0.
    """
    if not np.ndim(sigma):
        return (jnp.min(d_sq, axis=-1, keepdims=True) - d_sq) / sigma**2
    u = d_sq / sigma**2
    cells = jax.lax.broadcasted_iota(jnp.int32, u.shape, u.ndim - 1)
    nearest = cells == jnp.argmin(u, axis=-1, keepdims=True)
    return jnp.where(nearest, 0, jnp.minimum(jnp.min(u, axis=-1, keepdims=True) - u, 0))


def softmax_surround(
    positions: jax.Array,
    centres: jax.Array,
    *,
    sigma_m: Sigma,
    distance_sq: DistanceSq = euclidean_sq,
    surround_scale: float = 2.0,
) -> jax.Array:
    """Place fields with an inhibitory surround, the targets of the published networks.

    q = softmax(-d^2 / 2 sigma^2) - softmax(-d^2 / 2 s sigma^2)
    p = (q + |min q|) / sum(q + |min q|)
    with minimum and sum over cells, and s the surround_scale.

    positions [..., 2], centres [place, 2] (m) -> [..., place], a distribution over cells.
    sigma_m: one number, or one for each cell [place]. surround_scale: variance of the surround over
    that of the centre.
    Raises ValueError where sigma_m is not positive, or surround_scale not above 1.
    Source: Sorscher et al. 2019; grid-pattern-formation `get_activation`. The paper describes a
    difference of Gaussians (`difference_of_gaussians`); its code, followed here, takes this
    difference of softmaxes.
    Deviation: q is not computed as a difference of two numbers near 1, so that p is accurate, and
    not 0 / 0, where one cell is much nearer than all others. Where all others are so far that their
    activity underflows, p is uniform.
    """
    if not surround_scale > 1:
        raise ValueError(f"surround_scale must be above 1, but is {surround_scale}")
    # With u = d^2 / 2 s sigma^2, r = exp(min u - u), t = r^(s-1): q_i = r_i t_i / sum r t - r_i /
    # sum r. Times (sum r)(sum r t), which cancels in p: r_i (sum_j r_j (1 - t_j) - (1 - t_i) sum r)
    d_sq = distance_sq(positions, centres)
    x = _below_nearest(d_sq, _sigma(sigma_m, centres, d_sq.ndim)) / (2 * surround_scale)
    r, one_minus_t = jnp.exp(x), -jnp.expm1((surround_scale - 1) * x)
    q = r * (
        jnp.sum(r * one_minus_t, axis=-1, keepdims=True)
        - one_minus_t * jnp.sum(r, axis=-1, keepdims=True)
    )
    q -= jnp.min(q, axis=-1, keepdims=True)  # the minimum is never positive
    total = jnp.sum(q, axis=-1, keepdims=True)
    # Not `total > 0`: NaN stays NaN.
    return jnp.where(total == 0, 1 / len(centres), q / jnp.where(total == 0, 1, total))


def gaussian(
    positions: jax.Array,
    centres: jax.Array,
    *,
    sigma_m: Sigma,
    distance_sq: DistanceSq = euclidean_sq,
) -> jax.Array:
    """Gaussian place fields of peak 1: p = exp(-d^2 / 2 sigma^2).

    positions [..., dim], centres [place, dim] (m) -> [..., place], not normalised over cells.
    sigma_m: one number, or one for each cell [place].
    Raises ValueError where sigma_m is not positive.
    """
    d_sq = distance_sq(positions, centres)
    return jnp.exp(d_sq / (-2 * _sigma(sigma_m, centres, d_sq.ndim) ** 2))


def difference_of_gaussians(
    positions: jax.Array,
    centres: jax.Array,
    *,
    sigma_m: Sigma,
    ratio: float = math.sqrt(2),
    peak: float = 0.5,
    distance_sq: DistanceSq = euclidean_sq,
) -> jax.Array:
    """A Gaussian centre minus a Gaussian surround that is wider and has the same integral.

    p = a (exp(-d^2 / 2 sigma^2) - exp(-d^2 / 2 (ratio sigma)^2) / ratio^2), with a such that p has
    the maximum `peak`. Its integral over the plane is 0.

    positions [..., 2], centres [place, 2] (m) -> [..., place], negative in the surround and not
    normalised over cells.
    sigma_m: one number, or one for each cell [place].
    Raises ValueError where sigma_m or peak is not positive, or ratio is not above 1.
    Source: Sorscher et al. 2019, the difference of Gaussians of the text, times 2 pi sigma^2: ratio
    sqrt(2), peak 1/2. RatInABox `PlaceCells`, "diff_of_gaussians": ratio 1.5, peak 1.
    """
    check.positive(peak=peak)
    if not ratio > 1:
        raise ValueError(f"ratio must be above 1, but is {ratio}")
    d_sq = distance_sq(positions, centres)
    sigma = _sigma(sigma_m, centres, d_sq.ndim)
    surround = jnp.exp(d_sq / (-2 * (ratio * sigma) ** 2)) / ratio**2
    return (jnp.exp(d_sq / (-2 * sigma**2)) - surround) * (peak / (1 - 1 / ratio**2))


def gaussian_threshold(
    positions: jax.Array,
    centres: jax.Array,
    *,
    sigma_m: Sigma,
    distance_sq: DistanceSq = euclidean_sq,
) -> jax.Array:
    """Gaussian place fields that end at one sigma: max(0, g - e^-1/2) / (1 - e^-1/2).

    positions [..., dim], centres [place, dim] (m) -> [..., place], peak 1.
    sigma_m: one number, or one for each cell [place].
    Raises ValueError where sigma_m is not positive.
    Source: RatInABox `PlaceCells`, "gaussian_threshold".
    """
    level = math.exp(-0.5)
    g = gaussian(positions, centres, sigma_m=sigma_m, distance_sq=distance_sq)
    return jnp.maximum(g - level, 0) / (1 - level)


def top_hat(
    positions: jax.Array,
    centres: jax.Array,
    *,
    sigma_m: Sigma,
    distance_sq: DistanceSq = euclidean_sq,
) -> jax.Array:
    """Place cells with rate 1 within sigma_m of the centre, and 0 elsewhere.

    positions [..., dim], centres [place, dim] (m) -> [..., place].
    sigma_m: one number, or one for each cell [place].
    Raises ValueError where sigma_m is not positive.
    Source: RatInABox `PlaceCells`, "top_hat".
    """
    d_sq = distance_sq(positions, centres)
    within = d_sq < _sigma(sigma_m, centres, d_sq.ndim) ** 2
    return jnp.where(jnp.isnan(d_sq), d_sq, within.astype(d_sq.dtype))


def one_hot(
    positions: jax.Array,
    centres: jax.Array,
    *,
    distance_sq: DistanceSq = euclidean_sq,
) -> jax.Array:
    """The cell with the nearest centre has rate 1, all others 0. Ties go to the lowest index.

    positions [..., dim], centres [place, dim] (m) -> [..., place].
    Source: RatInABox `PlaceCells`, "one_hot".
    """
    d_sq = distance_sq(positions, centres)
    nearest = jax.nn.one_hot(jnp.argmin(d_sq, axis=-1), d_sq.shape[-1], dtype=d_sq.dtype)
    return jnp.where(jnp.isnan(d_sq), d_sq, nearest)


class Grid(NamedTuple):
    """Parameters of grid cells: period_m [cell], orientation [cell] (rad), phase [cell, dim] (rad).

    period_m is the wavelength of the plane waves (RatInABox's `gridscale`). In two dimensions the
    distance between neighbouring fields is 2 / sqrt(3) of it.
    """

    period_m: jax.Array
    orientation: jax.Array
    phase: jax.Array


def _waves(positions: jax.Array, grid: Grid) -> jax.Array:
    """Mean of the plane waves of each cell, 1 at field centres: [..., dim] -> [..., cell]."""
    grid = Grid(*map(check.floats, grid))
    row = functools.partial(as_row, ndim=positions.ndim)
    k = 2 * jnp.pi / grid.period_m
    if positions.shape[-1] == 1:
        return jnp.cos(row(k) * positions - row(grid.phase))
    offsets = [positions[..., axis, None] - row(grid.phase[:, axis] / k) for axis in (0, 1)]
    angles = [grid.orientation + turn for turn in (0, jnp.pi / 3, 2 * jnp.pi / 3)]
    waves = [
        jnp.cos(row(k) * (row(jnp.cos(a)) * offsets[0] + row(jnp.sin(a)) * offsets[1]))
        for a in angles
    ]
    return (waves[0] + waves[1] + waves[2]) / 3


def rectified_cosines(
    positions: jax.Array, grid: Grid, *, width_ratio: float = 4 / (3 * math.sqrt(3))
) -> jax.Array:
    """Grid cells: max(0, c - l) / (1 - l), with c the mean of three plane waves at 60 degrees.

    With r = width_ratio, the level l is the value of c at r / 2 periods from the centre of a field,
    so that r periods is the width of a field: l = (2 cos(sqrt(3) pi r / 2) + 1) / 3. In one
    dimension there is one wave, and l = cos(pi r).

    positions [..., dim] (m) -> [..., cell], peak 1.
    Raises ValueError where width_ratio is not above 0 and at most 1.
    Source: RatInABox `GridCells`, "rectified_cosines".
    """
    if not 0 < width_ratio <= 1:
        raise ValueError(f"width_ratio must be above 0 and at most 1, but is {width_ratio}")
    positions = check.floats(positions)
    if positions.shape[-1] == 1:
        level = math.cos(math.pi * width_ratio)
    else:
        level = (2 * math.cos(math.sqrt(3) * math.pi * width_ratio / 2) + 1) / 3
    return jnp.maximum(_waves(positions, grid) - level, 0) / (1 - level)


def shifted_cosines(positions: jax.Array, grid: Grid) -> jax.Array:
    """Grid cells without a threshold: 2/3 (c + 1/2), c as in `rectified_cosines`; 1-D (c + 1) / 2.

    positions [..., dim] (m) -> [..., cell], from 0 to 1.
    Source: Solstad et al. 2006, eq. 2; RatInABox `GridCells`, "shifted_cosines".
    """
    positions = check.floats(positions)
    c = _waves(positions, grid)
    return (c + 1) / 2 if positions.shape[-1] == 1 else (c + 0.5) * (2 / 3)


def von_mises(angle: jax.Array, spread: jax.Array) -> jax.Array:
    """exp((cos(angle) - 1) / spread^2): peak 1, nearly Gaussian for a small spread."""
    return jnp.exp(-2 * (jnp.sin(angle / 2) / spread) ** 2)  # cos - 1 would lose precision


def head_direction_cells(
    direction: jax.Array, *, preferred: jax.Array, spread: jax.Array
) -> jax.Array:
    """Von Mises tuning, peak 1: exp((cos(theta - mu) - 1) / spread^2).

    direction [..., 2], of any length; preferred, spread [cell] (rad) -> [..., cell].
    In one dimension, direction [..., 1], there are two cells, max(0, sign) and max(0, -sign);
    preferred and spread are not used.
    Source: RatInABox `HeadDirectionCells`, with equally spaced preferred directions and a spread of
    45 degrees. For a distribution over cells see `head_direction_code`.
    """
    direction = check.floats(direction)
    if direction.shape[-1] == 1:
        sign = jnp.sign(direction)
        return jnp.maximum(jnp.concatenate([sign, -sign], axis=-1), 0)
    theta = heading_angle(direction)
    ndim = direction.ndim
    return von_mises(theta - as_row(preferred, ndim), as_row(spread, ndim))


def velocity_cells(
    velocity: jax.Array, *, preferred: jax.Array, spread: jax.Array, scale_mps: float
) -> jax.Array:
    """Head-direction cells of the direction of movement, times speed / scale_mps.

    velocity [..., dim] (m/s); preferred, spread [cell] (rad) -> [..., cell].
    Raises ValueError where scale_mps is not positive.
    Source: RatInABox `VelocityCells`, whose scale is speed_mean + speed_std.
    """
    return speed_cell(velocity, scale_mps=scale_mps) * head_direction_cells(
        velocity, preferred=preferred, spread=spread
    )


def speed_cell(velocity: jax.Array, *, scale_mps: float) -> jax.Array:
    """A cell whose rate is speed / scale_mps: velocity [..., dim] (m/s) -> [..., 1].

    Raises ValueError where scale_mps is not positive.
    Source: RatInABox `SpeedCell`, whose scale is speed_mean + speed_std.
    """
    check.positive(scale_mps=scale_mps)
    return root(jnp.sum(check.floats(velocity) ** 2, axis=-1, keepdims=True)) / scale_mps


def root(x: jax.Array) -> jax.Array:
    """sqrt(x), with the slope 0 at 0 in place of an infinite one: for distances."""
    return jnp.where(x == 0, 0, jnp.sqrt(jnp.where(x == 0, 1, x)))


class VectorTuning(NamedTuple):
    """Tuning of vector cells to the distance and the direction of an object or a wall, all [cell].

    distance, distance_spread (m): Gaussian. angle, angle_spread (rad): von Mises; the angle is from
    the x axis, or from the head direction if one is given.
    """

    distance: jax.Array
    distance_spread: jax.Array
    angle: jax.Array
    angle_spread: jax.Array

    def rate(self, distance: jax.Array, angle: jax.Array) -> jax.Array:
        """Rates for an object at each distance (m) and angle (rad), both [...] -> [..., cell]."""
        distance, angle = check.floats(distance), check.floats(angle)
        tuning = [as_row(x, distance.ndim + 1) for x in self]
        away = (distance[..., None] - tuning[0]) / tuning[1]
        return jnp.exp(-(away**2) / 2) * von_mises(angle[..., None] - tuning[2], tuning[3])


def heading_angle(head_direction: jax.Array | None) -> jax.Array | float:
    """The angle of a head direction [..., 2] -> [..., 1] (rad); 0 where none is given."""
    if head_direction is None:
        return 0.0
    head_direction = check.floats(head_direction)
    return _angle(head_direction[..., 0], head_direction[..., 1])[..., None]


def _angle(x: jax.Array, y: jax.Array) -> jax.Array:
    """arctan2(y, x), with the slope 0 at the origin, where the angle is 0."""
    nowhere = (x == 0) & (y == 0)
    return jnp.arctan2(jnp.where(nowhere, 0, y), jnp.where(nowhere, 1, x))


def object_vector_cells(
    positions: jax.Array,
    objects: jax.Array,
    tuning: VectorTuning,
    *,
    head_direction: jax.Array | None = None,
    sees: jax.Array | None = None,
    distance_sq: DistanceSq = euclidean_sq,
) -> jax.Array:
    """Cells that fire at a preferred distance and direction of an object; a sum over objects.

    positions [..., 2], objects [object, 2] (m), head_direction [..., 2] for egocentric cells,
    sees [object, cell]: 0 for objects of a type that the cell is not tuned to -> [..., cell].
    distance_sq: `visibility.line_of_sight_sq(environment)` if walls occlude objects.
    Source: Hoydal et al. 2019; RatInABox `ObjectVectorCells`.
    """
    offset = [-dx for dx in _offsets(positions, objects)]
    angle = _angle(*offset) - heading_angle(head_direction)
    rates = tuning.rate(root(distance_sq(positions, objects)), angle)
    if sees is not None:
        sees = check.floats(sees)
        rates *= sees.reshape((1,) * (rates.ndim - 2) + sees.shape)
    return jnp.sum(rates, axis=-2)


def angles_code(positions: jax.Array, *, width_m: check.Width) -> jax.Array:
    """A position on a ring or torus as cosine and sine of its angle along each axis.

    positions [..., dim] (m) -> [..., 2 dim]: cosines first, then sines. The code is continuous
    across the periodic boundary, so that a regression can learn it. width_m: of every dimension, or
    one for each.
    """
    positions = check.floats(positions)
    per_m = 2 * np.pi / np.asarray(width_m, float)
    angle = positions * (as_row(per_m, positions.ndim) if per_m.ndim else float(per_m))
    return jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1)


def head_direction_code(headings: jax.Array, preferred: jax.Array, *, kappa: float) -> jax.Array:
    """Head-direction cells: von Mises responsibilities, softmax(kappa cos(theta - mu)).

    headings [...] and preferred directions [cell] (rad) -> [..., cell], a distribution over cells.
    Raises ValueError where kappa is negative.
    Source: Banino et al. 2018, eq. 2; grid-pattern-formation `square_grid_cells.ipynb`.
    """
    check.not_negative(kappa=kappa)
    headings, preferred = check.floats(headings), check.floats(preferred)
    chex.assert_rank(preferred, 1)
    mu = as_row(preferred, headings.ndim + 1)
    return jax.nn.softmax(kappa * jnp.cos(headings[..., None] - mu), axis=-1)
