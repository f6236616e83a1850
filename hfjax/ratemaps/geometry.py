"""Geometry of grids: spacing, orientation, phase, plane waves."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hfjax.ratemaps.arrays import floating, matmul, over_blocks
from hfjax.ratemaps.autocorrelogram import block_autocorrelograms
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
    autocorrelogram's radial mean and within 0.9 of the map, placed between bins by a parabola along
    each axis. The nearest is taken, then the nearest at least 30 degrees from those taken; as
    r(-d) = r(d), three stand for six. Spacing is their mean distance; orientation is the mean of
    their directions modulo 60 degrees, measured from the x axis towards the y axis.

    maps [unit, x, y], square, NaN (counted as 0) where unvisited; bin_width_m in metres
    -> GridGeometry, NaN for a unit with fewer than three such peaks.

    Raises ValueError if the maps are not square.
    Source: Hafting et al. 2005, methods; opexebo's grid_score_stats differs in peaks at whole bins,
    in 15 degrees instead of 30, and in how it masks the centre and the edge.
    """
    maps = floating(maps)
    chex.assert_rank(maps, 3)
    if maps.shape[1] != maps.shape[2]:
        raise ValueError(f"maps must be square, but have shape {maps.shape[1:]}")
    n = maps.shape[1]
    lag = np.arange(1 - n, n)
    distance = np.hypot(lag[:, None], lag[None, :])
    shell = np.round(distance).astype(int)
    shells = np.stack([(shell == k) / np.sum(shell == k) for k in range(n)]).reshape(n, -1)
    half = (lag[:, None] > 0) | ((lag[:, None] == 0) & (lag[None, :] > 0))

    def geometry(block: jax.Array) -> GridGeometry:
        sac = block_autocorrelograms(block)
        num_units, dtype = sac.shape[0], sac.dtype
        radial = matmul(sac.reshape(num_units, -1), jnp.asarray(shells.T, dtype))
        rises = radial[:, 1:] > radial[:, :-1]
        valley = jnp.where(jnp.any(rises, axis=1), jnp.argmax(rises, axis=1), n)

        s = jnp.moveaxis(sac, 0, -1)
        around = over_neighbours(jnp.maximum, s, -jnp.inf, diagonal=True)
        d = jnp.asarray(distance, dtype)[..., None]
        candidate = (s >= around) & (s > 0.1) & jnp.asarray(half & (distance <= 0.9 * n))[..., None]
        candidate &= d > valley[None, None].astype(dtype)
        before_x, after_x = shifted(s, 1, 0, 0.0), shifted(s, -1, 0, 0.0)
        before_y, after_y = shifted(s, 0, 1, 0.0), shifted(s, 0, -1, 0.0)
        bend_x = jnp.maximum(2 * s - before_x - after_x, jnp.finfo(dtype).tiny)
        bend_y = jnp.maximum(2 * s - before_y - after_y, jnp.finfo(dtype).tiny)
        x = jnp.asarray(lag, dtype)[:, None, None] + (after_x - before_x) / (2 * bend_x)
        y = jnp.asarray(lag, dtype)[None, :, None] + (after_y - before_y) / (2 * bend_y)
        x, y, candidate = (a.reshape(-1, num_units) for a in (x, y, candidate))
        r = jnp.hypot(x, y)
        axes = []
        for _ in range(3):
            rest = jnp.where(candidate, r, jnp.inf)
            nearest = jnp.argmin(rest, axis=0)[None]
            px, py, pr, ok = (
                jnp.take_along_axis(a, nearest, axis=0)[0] for a in (x, y, r, candidate)
            )
            axes.append(jnp.where(ok[:, None], jnp.stack([px, py], axis=1), jnp.nan))
            # cos of the angle between axes, either way round: at least 30 degrees apart
            candidate &= jnp.abs(x * px[None] + y * py[None]) < np.cos(np.pi / 6) * r * pr[None]
        axis = jnp.stack(axes, axis=1) * bin_width_m
        theta = jnp.arctan2(axis[..., 1], axis[..., 0])
        mean_6 = jnp.arctan2(jnp.mean(jnp.sin(6 * theta), 1), jnp.mean(jnp.cos(6 * theta), 1))
        spacing = jnp.mean(jnp.hypot(axis[..., 0], axis[..., 1]), axis=1)
        return GridGeometry(spacing, jnp.mod(mean_6 / 6, np.pi / 3), axis)

    return over_blocks(geometry, maps)


def grid_phases(
    maps: jax.Array, *, spacing: jax.Array, orientation: jax.Array, extent: Extent
) -> jax.Array:
    """Spatial phases of the units of one grid module, on the unit torus.

    The lattice is x = u a_1 + v a_2 with a_1, a_2 of length spacing at orientation and orientation
    + 60 degrees; a unit of phase (u, v) fires around u a_1 + v a_2 and all points a lattice vector
    away, counted from the origin of extent's coordinates. A constant and the three plane waves of
    the lattice's shortest reciprocal vectors are fitted to the visited bins by least squares; the
    phases of the first two are (u, v). (A bare Fourier sum is biased where the arena does not hold
    a whole number of periods.)

    maps [unit, x, y]; spacing (in the units of extent) and orientation (rad) scalars; extent as in
    `rate_maps` -> [unit, 2] in [0, 1). For the spacing of each unit apart, vmap.
    Source: the phase plane of Yoon et al. 2013 and Gardner et al. 2022.
    """
    maps = floating(maps)
    chex.assert_rank(maps, 3)
    dtype = maps.dtype
    x, y = (
        jnp.asarray(low + (np.arange(size) + 0.5) * (high - low) / size, dtype)
        for size, (low, high) in zip(maps.shape[1:], extent, strict=True)
    )
    # b_i . a_j = 1 if i = j, else 0
    angles = jnp.asarray(orientation, dtype) + jnp.asarray([-np.pi / 6, np.pi / 2], dtype)
    b = jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=1) * (2 / np.sqrt(3) / spacing)
    b = jnp.concatenate([b, jnp.sum(b, axis=0, keepdims=True)])
    turns = b[:, 0, None, None] * x[None, :, None] + b[:, 1, None, None] * y[None, None, :]
    waves = 2 * np.pi * turns.reshape(3, -1)
    basis = jnp.concatenate([jnp.ones_like(waves[:1]), jnp.cos(waves), jnp.sin(waves)])

    def phase(block: jax.Array) -> jax.Array:
        f = block.reshape(block.shape[0], -1)
        weight = jnp.isfinite(f).astype(dtype)
        f = jnp.where(weight > 0, f, 0)
        mean = jnp.sum(f, axis=1, keepdims=True) / jnp.maximum(jnp.sum(weight, 1, keepdims=True), 1)
        f = (f - mean) * weight
        highest = lax.Precision.HIGHEST
        gram = jnp.einsum("kp,up,lp->ukl", basis, weight, basis, precision=highest)
        drive = jnp.einsum("kp,up->uk", basis, f, precision=highest)
        k = jnp.linalg.solve(gram, drive[..., None])[..., 0]
        return jnp.mod(jnp.arctan2(k[:, 4:6], k[:, 1:3]) / (2 * np.pi), 1)

    return over_blocks(phase, maps)


class PlaneWaves(NamedTuple):
    """Each map's strongest wave cos(k.x - phase), x from the map's middle, all [unit].

    wavelength 2 pi / |k| (m), direction of k (rad, in [0, pi)), phase (rad, in [-pi, pi)).
    """

    wavelength: jax.Array
    direction: jax.Array
    phase: jax.Array


def plane_waves(maps: jax.Array, *, bin_width_m: float) -> PlaneWaves:
    """The strongest plane wave of each map.

    The mean is taken off (unvisited bins count as the mean), the map is padded to four times its
    width, and the highest peak of the power spectrum is placed between modes by a parabola. The
    spacing of a hexagonal grid is 2/sqrt(3) times the wavelength, and its fields lie 30 degrees off
    the direction.

    maps [unit, x, y], bin_width_m -> PlaneWaves; for a map without variance the wavelength is
    infinite.
    """
    maps = floating(maps)
    chex.assert_rank(maps, 3)
    size = [4 * n for n in maps.shape[1:]]

    def wave(block: jax.Array) -> PlaneWaves:
        visited = jnp.isfinite(block)
        mean = jnp.mean(block, axis=(1, 2), keepdims=True, where=visited)
        centred = jnp.where(visited, block - mean, 0)
        power = jnp.abs(jnp.fft.fft2(centred, s=size)) ** 2
        best = jnp.argmax(power[:, :, : size[1] // 2 + 1].reshape(block.shape[0], -1), axis=1)
        index = jnp.unravel_index(best, (size[0], size[1] // 2 + 1))
        unit = jnp.arange(block.shape[0])
        frequency = []
        for axis, (i, length) in enumerate(zip(index, size, strict=True)):
            step = np.eye(2, dtype=int)[axis]
            low, mid, high = (
                power[unit, (index[0] + k * step[0]) % size[0], (index[1] + k * step[1]) % size[1]]
                for k in (-1, 0, 1)
            )
            bend = 2 * mid - low - high
            offset = jnp.where(bend > 0, (high - low) / jnp.where(bend > 0, 2 * bend, 1), 0)
            signed = jnp.where(i > length // 2, i - length, i).astype(block.dtype)
            frequency.append((signed + offset) / (length * bin_width_m))
        flat = jnp.max(power, axis=(1, 2)) == 0
        wavelength = jnp.where(flat, jnp.inf, 1 / jnp.hypot(*frequency))
        # k and -k are one wave: the half plane of directions from 0 to pi.
        sign = jnp.where((frequency[1] < 0) | ((frequency[1] == 0) & (frequency[0] < 0)), -1, 1)
        k = [sign * f for f in frequency]
        x, y = (
            bin_width_m * (jnp.arange(n, dtype=block.dtype) - (n - 1) / 2) for n in block.shape[1:]
        )
        turns = k[0][:, None, None] * x[None, :, None] + k[1][:, None, None] * y[None, None, :]
        along, across = (
            jnp.sum(centred * f(2 * np.pi * turns), axis=(1, 2)) for f in (jnp.cos, jnp.sin)
        )
        direction = jnp.mod(jnp.arctan2(k[1], k[0]), np.pi)
        return PlaneWaves(wavelength, direction, jnp.arctan2(across, along))

    return over_blocks(wave, maps)
