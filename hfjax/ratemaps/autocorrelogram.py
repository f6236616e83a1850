"""Spatial autocorrelograms of rate maps, and their rotation about the centre."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft
from jax import lax

from hfjax import check
from hfjax.ratemaps.arrays import (
    both_axes,
    finite_or_zero,
    floating_maps,
    less_their_mean,
    over_blocks,
    wide_range,
)

FAINT_VARIANCE = 1e-5  # of the map's variance: 100 roundings of a float32 Fourier transform

Autocorrelogram = Callable[[jax.Array], jax.Array]  # maps [unit, x, y] -> [unit, 2x-1, 2y-1]
Kernel = Callable[[np.ndarray], np.ndarray]  # fraction of a bin [pixel] -> weights [pixel, bin]


def autocorrelograms(maps: jax.Array) -> jax.Array:
    """Spatial autocorrelogram: Pearson's correlation of a map with itself at every shift.

    r(d) = [<f(x) f(x+d)> - <f(x)> <f(x+d)>] / [std f(x) std f(x+d)], with averages over the bins x
    for which both x and x + d are in the map. Unvisited bins (not finite) count as 0, as in the
    scorers of DeepMind, Ganguli's group and opexebo; `masked_autocorrelograms` leaves them out.

    maps [unit, x, y] -> [unit, 2x-1, 2y-1], shift 0 in the middle, r(-d) = r(d). r is 0 where an
    overlap has no variance beyond rounding (the originals have 0 or rounding noise there).
    """
    return over_blocks(block_autocorrelograms, floating_maps(maps))


def masked_autocorrelograms(maps: jax.Array) -> jax.Array:
    """`autocorrelograms`, with averages over the pairs of bins that were both visited.

    maps [unit, x, y], not finite where unvisited -> [unit, 2x-1, 2y-1]. Eight times the work.
    Source: Hafting et al. 2005, methods (the sum runs over visited bins).
    """
    return over_blocks(masked_block_autocorrelograms, floating_maps(maps))


def recording_autocorrelograms(maps: jax.Array, *, min_overlap: int = 20) -> jax.Array:
    """Spatial autocorrelograms of maps with gaps: NaN where too few bins overlap.

    r(d) as in `masked_autocorrelograms`, over the pairs of bins that were both visited, by Fourier
    transform. NaN where fewer than min_overlap pairs remain, and where one side of the overlap has
    less than 1e-5 of the map's variance: there float32 has no digits, and rates no structure.

    maps [unit, x, y] of any rectangle, not finite where unvisited -> [unit, 2x-1, 2y-1], r(-d) =
    r(d). Equal to the definition in float64 within 1e-3, and within .03 at shifts where one side
    has little more than that variance.
    Source: Hafting et al. 2005, methods; the 20 bins of Sargolini et al. 2006, supplement.
    """
    check.at_least(1, min_overlap=min_overlap)

    def block(maps: jax.Array) -> jax.Array:
        reach = (maps.shape[1] - 1, maps.shape[2] - 1)
        half = recording_half_plane(maps, reach, min_overlap=min_overlap)
        return jnp.concatenate([half[:, ::-1, :0:-1], half], axis=2)

    return over_blocks(block, floating_maps(maps))


def recording_half_plane(maps: jax.Array, reach: tuple[int, int], *, min_overlap: int) -> jax.Array:
    """`recording_autocorrelograms` at the shifts |d_x| <= reach[0], 0 <= d_y <= reach[1].

    maps [unit, x, y] of one block -> [unit, 2 reach[0] + 1, reach[1] + 1].
    """
    f = less_their_mean(maps)
    mask = jnp.isfinite(maps).astype(f.dtype)
    product, count, total, square = _masked_sums(f, mask, reach)
    n = jnp.maximum(count, 1)
    mean = total / n
    variance = square / n - mean**2
    whole = jnp.sum(f**2, axis=(1, 2), keepdims=True) / jnp.sum(mask, axis=(1, 2), keepdims=True)
    valid = (count >= min_overlap) & (variance > FAINT_VARIANCE * whole)
    here, opposite = np.s_[:, :, reach[1] :], np.s_[:, ::-1, reach[1] :: -1]
    valid = valid[here] & valid[opposite]
    scale = jnp.sqrt(jnp.where(valid, variance[here] * variance[opposite], 1))
    r = ((product / n)[here] - mean[here] * mean[opposite]) / scale
    return jnp.where(valid, jnp.clip(r, -1, 1), jnp.nan)


def _masked_sums(f: jax.Array, mask: jax.Array, reach: tuple[int, int]) -> list[jax.Array]:
    """Sums over pairs [f(x), f(x+d)] at each shift d: of products, pairs, f(x+d), and its square.

    f (0 where unvisited) and mask [unit, x, y] -> four arrays [unit, d_x, d_y], |d| <= reach.
    """
    size = [
        scipy.fft.next_fast_len(n + far, real=True)
        for n, far in zip(f.shape[1:], reach, strict=True)
    ]
    of_f, of_square = (jnp.fft.rfft2(a, s=size) for a in (f, f**2))

    def summed(spectrum: jax.Array) -> jax.Array:
        out = jnp.fft.irfft2(spectrum, s=size)
        for axis, far in enumerate(reach, 1):
            ends = (size[axis - 1] - far, size[axis - 1]), (0, far + 1)
            parts = [lax.slice_in_dim(out, low, high, axis=axis) for low, high in ends]
            out = jnp.concatenate(parts, axis)
        return out

    def of_masks(mask: jax.Array) -> tuple[jax.Array, jax.Array]:
        of_mask = jnp.fft.rfft2(mask, s=size)
        count = jnp.round(summed(jnp.abs(of_mask) ** 2))
        whole = [(len(f), *a.shape[1:]) for a in (of_mask, count)]
        return jnp.broadcast_to(jnp.conj(of_mask), whole[0]), jnp.broadcast_to(count, whole[1])

    # The units of a recording were all visited in the same bins.
    same = jnp.all(mask == mask[:1])
    visited, count = lax.cond(same, lambda m: of_masks(m[:1]), of_masks, mask)
    spectra = (jnp.abs(of_f) ** 2, visited * of_f, visited * of_square)
    product, total, square = (summed(a) for a in spectra)
    return [product, count, total, square]


def block_autocorrelograms(maps: jax.Array, faintest: float = 0.0) -> jax.Array:
    """`autocorrelograms` of one block; `faintest` as in `_autocorrelation`."""
    num_x, num_y = maps.shape[1:]
    f = wide_range(finite_or_zero(maps))
    # Row d of a window matrix marks the bins x for which x - d is in the map too.
    windows = []
    for size in (num_x, num_y):
        shift = np.arange(1 - size, size)[:, None]
        x = np.arange(size)
        windows.append(jnp.asarray((x - shift >= 0) & (x - shift < size), f.dtype))
    count = jnp.sum(windows[0], 1)[:, None] * jnp.sum(windows[1], 1)[None, :]
    count = jnp.broadcast_to(count[None], (f.shape[0], *count.shape))
    total = both_axes(windows[0], f, windows[1])
    square = both_axes(windows[0], f**2, windows[1])
    return _autocorrelation(_correlate(f, f), count, total, square, faintest)


def masked_block_autocorrelograms(maps: jax.Array) -> jax.Array:
    """`masked_autocorrelograms` of one block."""
    visited = jnp.isfinite(maps)
    mask = visited.astype(maps.dtype)
    lowest = jnp.min(jnp.where(visited, maps, jnp.inf), axis=(1, 2), keepdims=True)
    f = wide_range(jnp.where(visited, maps, finite_or_zero(lowest))) * mask
    left = jnp.concatenate([f, mask, mask, mask])
    right = jnp.concatenate([f, mask, f, f**2])
    product, count, total, square = jnp.split(_correlate(left, right), 4)
    return _autocorrelation(product, jnp.round(count), total, square)


def _autocorrelation(
    product: jax.Array,
    count: jax.Array,
    total: jax.Array,
    square: jax.Array,
    faintest: float = 0.0,
) -> jax.Array:
    """Correlation at each shift d [unit, d_x, d_y] from sums over the pairs [f(x), f(x+d)].

    product: of f(x) f(x+d); total and square: of f(x+d) and its square (those of f(x) are the same
    at -d). 0 where there is no variance, or where n std std' is no more than `faintest` times its
    largest value.
    """
    n = jnp.maximum(count, 1)
    mean = total / n
    mean_square = square / n
    variance = mean_square - mean**2
    # Below this a variance is the rounding of mean_square.
    valid = (count > 0) & (variance > 8 * jnp.finfo(product.dtype).eps * mean_square)
    std = jnp.sqrt(jnp.where(valid, variance, 1))
    opposite = (slice(None), slice(None, None, -1), slice(None, None, -1))
    valid &= valid[opposite]
    scale = std * std[opposite]
    power = jnp.where(valid, n * scale, 0)
    valid &= power > faintest * jnp.max(power, axis=(1, 2), keepdims=True)
    covariance = product / n - mean * mean[opposite]
    return jnp.where(valid, covariance / scale, 0)


def _correlate(a: jax.Array, b: jax.Array) -> jax.Array:
    """Sum_x a(x) b(x+d) at every shift d: [block, x, y] twice -> [block, 2x-1, 2y-1]."""
    forward = _correlate_forward(a, b)
    backward = forward if a is b else _correlate_forward(b, a)
    return jnp.concatenate([backward[:, ::-1, :0:-1], forward], axis=2)


def _correlate_forward(a: jax.Array, b: jax.Array) -> jax.Array:
    """The half of `_correlate` in which d_y >= 0: -> [block, 2x-1, y].

    One matrix product over y for each pair of rows, then sums along the diagonals of the row pairs.
    A Fourier transform is no quicker at this size, and its rounding is relative to the whole map's
    power: shifts at which only the faint flanks of a place field overlap would drown in it.
    """
    num_units, num_x, num_y = a.shape
    padded = jnp.pad(b, ((0, 0), (0, 0), (0, num_y - 1)))
    shifted = padded[:, :, np.arange(num_y)[:, None] + np.arange(num_y)]  # [unit, z, d_y, y]
    pairs = jnp.einsum("uxy,uzdy->uxzd", a, shifted, precision=lax.Precision.HIGHEST)
    # Rows of length 2x read as rows of length 2x - 1 slide by one bin per row: row x then has the
    # pair (x, z) at z - x, so that the diagonals stand in columns.
    skew = jnp.pad(pairs[:, ::-1], ((0, 0), (0, 0), (0, num_x), (0, 0)))
    skew = skew.reshape(num_units, 2 * num_x**2, num_y)[:, :-num_x]
    return jnp.sum(skew.reshape(num_units, num_x, 2 * num_x - 1, num_y), axis=1)


def lags(shape: Sequence[int]) -> tuple[np.ndarray, ...]:
    """The shifts d_x and d_y [2x-1, 2y-1] of the autocorrelogram of maps [x, y]. On the host."""
    return np.meshgrid(*(np.arange(1 - n, n) for n in shape), indexing="ij")


def half_plane(edges: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Bins of an array of 2 edge + 1 along each axis: whether in one half, distance to the centre.

    The half has one bin of each pair at d and -d, without the centre. On the host.
    """
    x, y = lags([edge + 1 for edge in edges])
    return (x > 0) | ((x == 0) & (y > 0)), np.hypot(x, y)


def rotation_taps(
    pixels: np.ndarray,
    shape: Sequence[int],
    angles: Sequence[float],
    kernel: Kernel,
) -> tuple[np.ndarray, np.ndarray]:
    """The bins that a rotation about the centre reads, and their weights; on the host in float64.

    pixels [pixel, 2] of an array of that shape, angles (degrees)
    -> flat indices [angle, pixel, tap] and weights of that shape. kernel: `linear_weights` or
    `cubic_weights`. Taps beyond the edge are reflected about the outermost bin. A pixel that is
    rotated in from outside the array has weights 0.
    """
    last = np.asarray(shape)[:, None] - 1
    x, y = pixels.T - last / 2
    taps, weights = [], []
    for angle in angles:
        # Exact 0 and 1 at 90 degrees, or pixels from the very edge would count as outside.
        cos, sin = np.round([np.cos(np.radians(angle)), np.sin(np.radians(angle))], 15)
        source = np.stack([cos * x + sin * y, cos * y - sin * x]) + last / 2
        inside = np.all((source >= 0) & (source <= last), axis=0)
        base = np.floor(source)
        w_x, w_y = kernel(source[0] - base[0]), kernel(source[1] - base[1])
        num_taps = w_x.shape[1]
        index = base[..., None].astype(int) + np.arange(num_taps) - (num_taps // 2 - 1)
        end = last[..., None]
        i, j = np.abs((index + end) % (2 * end) - end)
        taps.append((i[:, :, None] * shape[1] + j[:, None, :]).reshape(len(pixels), -1))
        w = w_x[:, :, None] * w_y[:, None, :] * inside[:, None, None]
        weights.append(w.reshape(len(pixels), -1))
    return np.stack(taps).astype(np.int32), np.stack(weights)


def cubic_weights(t: np.ndarray) -> np.ndarray:
    """Cubic B-spline at the four knots around a point t past the second: [pixel] -> [pixel, 4]."""
    s = 1 - t
    return np.stack([s**3, 4 - 6 * t**2 + 3 * t**3, 4 - 6 * s**2 + 3 * s**3, t**3], axis=1) / 6


def linear_weights(t: np.ndarray) -> np.ndarray:
    """Linear interpolation between the two bins around a point t past the first: -> [pixel, 2]."""
    return np.stack([1 - t, t], axis=1)


def spline_prefilter(size: int) -> np.ndarray:
    """Matrix [size, size] from samples to cubic-spline coefficients, edges reflected."""
    samples = np.eye(size) * 4 + np.eye(size, k=1) + np.eye(size, k=-1)
    samples[0, 1] = samples[-1, -2] = 2
    return np.linalg.inv(samples / 6)
