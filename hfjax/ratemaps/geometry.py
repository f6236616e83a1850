"""Geometry of grids: spacing, orientation, phase, plane waves."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hfjax.ratemaps.arrays import (
    floating_maps,
    less_their_mean,
    matmul,
    over_blocks,
    wrapped,
)
from hfjax.ratemaps.autocorrelogram import block_autocorrelograms, lags
from hfjax.ratemaps.maps import Extent
from hfjax.ratemaps.morphology import over_neighbours, shifted


class GridGeometry(NamedTuple):
    """Spacing [unit] (m), orientation [unit] (rad, in [0, pi/3)), lattice axes [unit, 3, 2] (m)."""

    spacing: jax.Array
    orientation: jax.Array
    axes: jax.Array


def spacing_orientation(maps: jax.Array, *, bin_width_m: float) -> GridGeometry:
    """Grid spacing and orientation from the six peaks nearest to the autocorrelogram's centre.

    Peaks are local maxima (of 3 x 3 bins, above 0.1) beyond the first minimum of the
    autocorrelogram's radial mean and within 0.9 of the map (in an oblong map, within the ellipse of
    0.9 of its sides), interpolated by a parabola along each axis. The nearest peak is chosen, then
    twice the nearest one at least 30 degrees from those already chosen; as r(-d) = r(d), three
    peaks are enough. Spacing is their mean distance.
    Orientation is the mean of their directions modulo 60 degrees, from the x axis towards the y
    axis.

    maps [unit, x, y], bins square, not finite (counted as 0) where unvisited; bin_width_m in metres
    -> GridGeometry, NaN for a unit with fewer than three such peaks. For recordings use
    `recording_lattice`, which leaves unvisited bins out.

    Source: Hafting et al. 2005, methods; opexebo's grid_score_stats differs in peaks at whole bins,
    in 15 degrees instead of 30, and in how it masks the centre and the edge.
    """
    maps = floating_maps(maps)
    return over_blocks(partial(_block_geometry, bin_width_m=bin_width_m), maps)


def _block_geometry(maps: jax.Array, *, bin_width_m: float) -> GridGeometry:
    """`spacing_orientation` of one block."""
    sac = block_autocorrelograms(maps)
    x, y, candidate = peaks(sac)
    lag_x, lag_y = lags(maps.shape[1:])
    distance = np.hypot(lag_x, lag_y).reshape(-1, 1)
    sides = np.hypot(lag_x / maps.shape[1], lag_y / maps.shape[2]).reshape(-1, 1)
    candidate &= jnp.asarray(sides <= 0.9)
    candidate &= jnp.asarray(distance, sac.dtype) > _first_valley(sac)[None].astype(sac.dtype)
    axes = three_nearest(x, y, candidate) * bin_width_m
    theta = jnp.arctan2(axes[..., 1], axes[..., 0])
    mean_6 = jnp.arctan2(jnp.mean(jnp.sin(6 * theta), 1), jnp.mean(jnp.cos(6 * theta), 1))
    spacing = jnp.mean(jnp.hypot(axes[..., 0], axes[..., 1]), axis=1)
    return GridGeometry(spacing, wrapped(mean_6 / 6, np.pi / 3), axes)


def _first_valley(sac: jax.Array) -> jax.Array:
    """The radius (bins) of the first minimum of the radial mean: [unit, d_x, d_y] -> [unit]."""
    shape = [(n + 1) // 2 for n in sac.shape[1:]]
    shell = np.round(np.hypot(*lags(shape))).astype(int)
    n = min(shape)
    shells = np.stack([(shell == k) / np.sum(shell == k) for k in range(n)]).reshape(n, -1)
    radial = matmul(sac.reshape(len(sac), -1), jnp.asarray(shells.T, sac.dtype))
    rises = radial[:, 1:] > radial[:, :-1]
    return jnp.where(jnp.any(rises, axis=1), jnp.argmax(rises, axis=1), n)


def peaks(sac: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Bins of the autocorrelograms: interpolated x and y (bins), and whether it is a peak.

    A peak is the maximum of 3 x 3 bins, all finite or outside, above 0.1 and in one half: the other
    half has the same. sac [unit, d_x, d_y] -> three arrays [bin, unit].
    """
    num_units, dtype = sac.shape[0], sac.dtype
    lag_x, lag_y = lags([(n + 1) // 2 for n in sac.shape[1:]])
    half = (lag_x > 0) | ((lag_x == 0) & (lag_y > 0))
    s = jnp.moveaxis(sac, 0, -1)
    s = jnp.where(jnp.isfinite(s), s, jnp.inf)  # no neighbour of an unknown bin is a maximum
    around = over_neighbours(jnp.maximum, s, -jnp.inf, diagonal=True)
    candidate = (s >= around) & (s > 0.1) & jnp.isfinite(s) & jnp.asarray(half)[..., None]
    x = jnp.asarray(lag_x, dtype)[..., None]
    y = jnp.asarray(lag_y, dtype)[..., None]
    x = x + _peak_offset(shifted(s, 1, 0, 0.0), s, shifted(s, -1, 0, 0.0))
    y = y + _peak_offset(shifted(s, 0, 1, 0.0), s, shifted(s, 0, -1, 0.0))
    x, y, candidate = (a.reshape(-1, num_units) for a in (x, y, candidate))
    return x, y, candidate


def _peak_offset(before: jax.Array, peak: jax.Array, after: jax.Array) -> jax.Array:
    """Where the parabola through three neighbouring bins has its maximum, in bins from the peak."""
    bend = jnp.maximum(2 * peak - before - after, jnp.finfo(peak.dtype).tiny)
    return (after - before) / (2 * bend)


def three_nearest(x: jax.Array, y: jax.Array, candidate: jax.Array) -> jax.Array:
    """The three peaks nearest to the centre, at least 30 degrees apart -> [unit, 3, 2] (bins).

    x, y, candidate [bin, unit] as from `peaks`. NaN where there is no such peak.
    """
    r = jnp.hypot(x, y)
    axes = []
    for _ in range(3):
        nearest = jnp.argmin(jnp.where(candidate, r, jnp.inf), axis=0)[None]
        px, py, pr, is_peak = (
            jnp.take_along_axis(a, nearest, axis=0)[0] for a in (x, y, r, candidate)
        )
        axes.append(jnp.where(is_peak[:, None], jnp.stack([px, py], axis=1), jnp.nan))
        # |cos| of the angle between two axes is below cos 30 degrees.
        candidate &= jnp.abs(x * px[None] + y * py[None]) < np.cos(np.pi / 6) * r * pr[None]
    return jnp.stack(axes, axis=1)


def grid_phases(
    maps: jax.Array, *, spacing: jax.Array, orientation: jax.Array, extent: Extent
) -> jax.Array:
    """Spatial phases of the units of one grid module, on the unit torus.

    The lattice is x = u a_1 + v a_2 with a_1, a_2 of length spacing at orientation and orientation
    + 60 degrees. A unit of phase (u, v) fires around u a_1 + v a_2 and all points a lattice vector
    away, from the origin of the coordinates of extent. A constant and the three plane waves of the
    shortest reciprocal vectors are fitted to the visited bins by least squares; the phases of the
    first two are (u, v). (A plain Fourier sum is biased where the arena does not contain a whole
    number of periods.)

    maps [unit, x, y]; spacing (in the units of extent) and orientation (rad) scalars; extent as in
    `rate_maps` -> [unit, 2] in [0, 1). Use vmap for a separate spacing of each unit.
    Source: the phase plane of Yoon et al. 2013 and Gardner et al. 2022.
    """
    maps = floating_maps(maps)
    basis = _lattice_basis(
        maps.shape[1:], maps.dtype, spacing=spacing, orientation=orientation, extent=extent
    )
    return over_blocks(partial(_block_phases, basis=basis), maps)


def _lattice_basis(
    shape: tuple[int, ...],
    dtype: Any,
    *,
    spacing: jax.Array,
    orientation: jax.Array,
    extent: Extent,
) -> jax.Array:
    """A constant, and the cosines and sines of the lattice's three plane waves -> [7, bin]."""
    x, y = (
        jnp.asarray(low + (np.arange(size) + 0.5) * (high - low) / size, dtype)
        for size, (low, high) in zip(shape, extent, strict=True)
    )
    # Reciprocal vectors: b_i . a_j = 1 if i = j, else 0.
    angles = jnp.asarray(orientation, dtype) + jnp.asarray([-np.pi / 6, np.pi / 2], dtype)
    b = jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=1) * (2 / np.sqrt(3) / spacing)
    b = jnp.concatenate([b, jnp.sum(b, axis=0, keepdims=True)])
    turns = b[:, 0, None, None] * x[None, :, None] + b[:, 1, None, None] * y[None, None, :]
    waves = 2 * np.pi * turns.reshape(3, -1)
    return jnp.concatenate([jnp.ones_like(waves[:1]), jnp.cos(waves), jnp.sin(waves)])


def _block_phases(maps: jax.Array, *, basis: jax.Array) -> jax.Array:
    """`grid_phases` of one block, by least squares over the visited bins."""
    f = less_their_mean(maps).reshape(maps.shape[0], -1)
    weight = jnp.isfinite(maps).astype(f.dtype).reshape(f.shape)
    highest = lax.Precision.HIGHEST
    gram = jnp.einsum("kp,up,lp->ukl", basis, weight, basis, precision=highest)
    drive = jnp.einsum("kp,up->uk", basis, f, precision=highest)
    k = _least_squares(gram, drive)
    return wrapped(jnp.arctan2(k[:, 4:6], k[:, 1:3]) / (2 * np.pi), 1)


def _least_squares(gram: jax.Array, drive: jax.Array) -> jax.Array:
    """Solves gram k = drive for normal equations [unit, k, k], [unit, k] -> [unit, k].

    Gauss-Jordan elimination along the diagonal, of all units at once: a batch of LU decompositions
    may wait for ever for the threads of a CPU (see `decoders.ridge_decoder`). A coefficient that
    the visited bins do not determine is 0.
    """
    size = gram.shape[1]
    least = size * jnp.finfo(gram.dtype).eps * jnp.diagonal(gram, axis1=1, axis2=2)
    rows = jnp.concatenate([gram, drive[..., None]], axis=2)
    for i in range(size):
        determined = rows[:, i, i, None] > least[:, i, None]
        pivot = jnp.where(determined, rows[:, i] / jnp.where(determined, rows[:, i, i, None], 1), 0)
        others = jnp.where(np.arange(size)[None] == i, 0, rows[:, :, i])
        rows = rows - others[:, :, None] * pivot[:, None]
        rows = rows.at[:, i].set(pivot)
    return rows[:, :, -1]


class PlaneWaves(NamedTuple):
    """The strongest wave cos(k.x - phase) of each map, x from the middle of the map, all [unit].

    wavelength 2 pi / |k| (m), direction of k (rad, in [0, pi)), phase (rad, in [-pi, pi)).
    """

    wavelength: jax.Array
    direction: jax.Array
    phase: jax.Array


def plane_waves(maps: jax.Array, *, bin_width_m: float) -> PlaneWaves:
    """The strongest plane wave of each map.

    The mean is subtracted (unvisited bins count as the mean), the map is padded to four times its
    width, and the highest peak of the power spectrum is interpolated by a parabola. The spacing of
    a hexagonal grid is 2/sqrt(3) times the wavelength, and its axes are 30 degrees from the
    direction.

    maps [unit, x, y], bin_width_m -> PlaneWaves; for a map without variance the wavelength is
    infinite.
    """
    maps = floating_maps(maps)
    return over_blocks(partial(_block_waves, bin_width_m=bin_width_m), maps)


def _block_waves(maps: jax.Array, *, bin_width_m: float) -> PlaneWaves:
    """`plane_waves` of one block."""
    centred = less_their_mean(maps)
    size = [4 * n for n in maps.shape[1:]]
    power = jnp.abs(jnp.fft.fft2(centred, s=size)) ** 2
    f_x, f_y = _strongest_frequency(power, bin_width_m)
    flat = jnp.max(power, axis=(1, 2)) == 0
    frequency = jnp.hypot(f_x, f_y)
    wavelength = jnp.where(flat, jnp.inf, 1 / jnp.where(flat, 1, frequency))
    # k and -k are the same wave: the half plane of directions from 0 to pi.
    sign = jnp.where((f_y < 0) | ((f_y == 0) & (f_x < 0)), -1, 1)
    k_x, k_y = sign * f_x, sign * f_y
    x, y = (bin_width_m * (jnp.arange(n, dtype=maps.dtype) - (n - 1) / 2) for n in maps.shape[1:])
    turns = k_x[:, None, None] * x[None, :, None] + k_y[:, None, None] * y[None, None, :]
    along, across = (
        jnp.sum(centred * f(2 * np.pi * turns), axis=(1, 2)) for f in (jnp.cos, jnp.sin)
    )
    direction = wrapped(jnp.arctan2(k_y, k_x), np.pi)
    return PlaneWaves(wavelength, direction, jnp.arctan2(across, along))


def _strongest_frequency(power: jax.Array, bin_width_m: float) -> list[jax.Array]:
    """The frequency (1/m) of the highest peak along x and y, each [unit], between modes.

    power [unit, k_x, k_y]: the spectrum, of which half is searched.
    """
    size = power.shape[1:]
    best = jnp.argmax(power[:, :, : size[1] // 2 + 1].reshape(power.shape[0], -1), axis=1)
    index = jnp.unravel_index(best, (size[0], size[1] // 2 + 1))
    unit = jnp.arange(power.shape[0])
    frequency = []
    for axis, (i, length) in enumerate(zip(index, size, strict=True)):
        step = np.eye(2, dtype=int)[axis]
        low, mid, high = (
            power[unit, (index[0] + k * step[0]) % size[0], (index[1] + k * step[1]) % size[1]]
            for k in (-1, 0, 1)
        )
        bend = 2 * mid - low - high
        offset = jnp.where(bend > 0, (high - low) / jnp.where(bend > 0, 2 * bend, 1), 0)
        signed = jnp.where(i > length // 2, i - length, i).astype(power.dtype)
        frequency.append((signed + offset) / (length * bin_width_m))
    return frequency
