"""One module of grid cells on its torus of phases, and how few dimensions a population uses.

Source: Sorscher et al., Neuron 2023, figures on the toroidal manifold and the sorted weights;
grid-pattern-formation `utils`.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hfjax import check, figures
from hfjax.task import HostReadout, Readout


class Lattices(NamedTuple):
    """Hexagonal lattices, each as three plane waves: the third is the second less the first.

    spacings_m [spacing], orientations [orientation] (rad, of the fields),
    waves [spacing, orientation, wave, bin]: phases k_a x (rad) at the middles of bins.
    """

    spacings_m: jax.Array
    orientations: jax.Array
    waves: jax.Array


def candidate_lattices(*, width_m: check.Width, num_bins: tuple[int, int]) -> Lattices:
    """Lattices of 28 spacings (0.15 to 0.8 of the box's longer side) x 20 orientations.

    width_m: of a square box, or (width, height); num_bins along x and y.
    """
    sides_m = check.widths(width_m, 2)
    middles = (
        side * ((jnp.arange(n) + 0.5) / n - 0.5) for side, n in zip(sides_m, num_bins, strict=True)
    )
    x = jnp.stack(jnp.meshgrid(*middles, indexing="ij"), axis=-1).reshape(-1, 2)
    spacings_m = max(sides_m) * jnp.geomspace(0.15, 0.8, 28)
    orientations = jnp.arange(20) * (jnp.pi / 60)
    # Waves stand at 30 degrees to the axes along which fields are neighbours.
    angles = orientations[:, None] + (jnp.pi / 6 + jnp.arange(3) * (jnp.pi / 3))[None, :]
    directions = jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=-1)
    k = (4 * jnp.pi / 3**0.5 / spacings_m)[:, None, None, None] * directions[None]
    return Lattices(spacings_m, orientations, jnp.einsum("soac,bc->soab", k, x))


def torus(
    maps: jax.Array,
    grid_score: jax.Array,
    recurrent: jax.Array | None,
    *,
    width_m: check.Width,
    threshold: float = 0.37,
    min_lattice_share: float = 0.3,
) -> Readout:
    """Low-dimensional structure: components of the maps, and one module of grid cells on its torus.

    Grid cells of one spacing and orientation differ only in phase, a point on a torus. With the
    lattice's wave vectors k_1, k_2 (60 degrees apart) and k_3 = k_2 - k_1, unit u has the phases
        phi_ua = -arg sum_x r_u(x) exp(-i k_a x).

    The lattice is the one of `candidate_lattices` whose three waves hold the largest share of the
    maps' variance, on average over units with a grid score above `threshold`. Its module are those
    of them in which it holds more than `min_lattice_share`.

    maps [unit, x, y], grid_score [unit], recurrent [unit, unit] (from, to) or None; width_m: of a
    square box, or (width, height)
    -> a dict with
    component_share [component]: shares of the maps' variance, largest first;
    lattice_spacings_m [28], lattice_share [28] (best orientation);
    module [unit] (bool), module_spacing_m, module_orientation_rad (of the fields, in [0, pi/3)),
    module_phases [unit, 2] (rad), 0 outside the module;
    population_phase [3, x, y, 2]: real and imaginary part of sum_u r_u(x) exp(i phi_ua);
    population_wave [3, x, y] = k_a x, the phase that the population should have there;
    and what `weights_by_phase` returns, where there are recurrent weights.
    All numbers of an empty module are 0.

    Source: Sorscher et al. 2023, figures on the toroidal manifold and the sorted weights;
    grid-pattern-formation `utils`. Deviation: there units are sorted onto a square of whole
    numbers. Here phase differences are used as they are, so that any number of units will do.
    """
    num_units, num_x, num_y = maps.shape
    r, component_share = _normalised_maps(maps.reshape(num_units, -1))
    lattices = candidate_lattices(width_m=width_m, num_bins=(num_x, num_y))
    grid = grid_score > threshold
    (spacing, orientation), mean_share, unit_share, phases = _best_lattice(r, grid, lattices)
    module = grid & (unit_share > min_lattice_share)
    population = jnp.einsum("ub,ua->ab", r * module[:, None], jnp.exp(1j * phases))
    population = jnp.stack([jnp.real(population), jnp.imag(population)], axis=-1)
    readout = {
        "component_share": component_share,
        "lattice_spacings_m": lattices.spacings_m,
        "lattice_share": jnp.max(mean_share, axis=1),
        "module": module,
        "module_spacing_m": lattices.spacings_m[spacing],
        "module_orientation_rad": lattices.orientations[orientation],
        "module_phases": phases[:, :2] * module[:, None],
        "population_phase": population.reshape(3, num_x, num_y, 2),
        "population_wave": lattices.waves[spacing, orientation].reshape(3, num_x, num_y),
    }
    if recurrent is not None:
        readout |= weights_by_phase(recurrent, phases[:, :2], module)
    return readout


class _Fit(NamedTuple):
    """The lattice that fits units best.

    best: indices of its spacing and its orientation. mean_share [spacing, orientation] of each
    lattice, over units. Of the best one: unit_share [unit], phases [unit, wave] (rad).
    """

    best: tuple[jax.Array, ...]
    mean_share: jax.Array
    unit_share: jax.Array
    phases: jax.Array


def _best_lattice(r: jax.Array, among: jax.Array, lattices: Lattices) -> _Fit:
    """The lattice with the largest share of the variance of maps r [unit, bin], on average over
    the units in `among` [unit] (bool)."""
    # [unit, spacing, orientation, wave]
    real = jnp.einsum("ub,soab->usoa", r, jnp.cos(lattices.waves))
    imaginary = jnp.einsum("ub,soab->usoa", r, jnp.sin(lattices.waves))
    share = jnp.sum(real**2 + imaginary**2, axis=-1) * (2 / r.shape[1])
    mean_share = jnp.sum(jnp.where(among[:, None, None], share, 0), axis=0)
    mean_share /= jnp.maximum(jnp.sum(among), 1)
    best = jnp.unravel_index(jnp.argmax(mean_share), mean_share.shape)
    phases = jnp.arctan2(imaginary[:, *best], real[:, *best])  # -arg of the sum with exp(-i k x)
    return _Fit(best, mean_share, share[:, *best], phases)


def _normalised_maps(flat: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Maps [unit, bin] less their mean and of norm 1, and the shares of their components [bin].

    Components are of the maps before they get norm 1: a strong unit counts for more.
    """
    known = jnp.isfinite(flat)
    count = jnp.maximum(jnp.sum(known, axis=1, keepdims=True), 1)
    mean = jnp.sum(jnp.where(known, flat, 0), axis=1, keepdims=True) / count
    r = jnp.where(known, flat - mean, 0)
    variance = jnp.maximum(_eigenvalues(r.T @ r)[::-1], 0)
    component_share = variance / jnp.maximum(jnp.sum(variance), 1e-30)
    norm = jnp.sqrt(jnp.sum(r**2, axis=1, keepdims=True))
    return jnp.where(norm > 0, r / jnp.where(norm > 0, norm, 1), 0), component_share


@jax.custom_batching.sequential_vmap
def _eigenvalues(A: jax.Array) -> jax.Array:
    """Eigenvalues of a symmetric matrix, rising; under vmap one matrix after the other.

    On a CPU of two cores, batches of decompositions that run at once wait for each other's threads
    for ever, as those of `decoders`: so did the evaluation of a population of `conformal`.
    """
    return jnp.linalg.eigvalsh(A)


def _all_pairs(values: jax.Array) -> jax.Array:
    """[n] -> [n n, 2], the first of a pair varying slowest."""
    return jnp.stack(jnp.meshgrid(values, values, indexing="ij"), axis=-1).reshape(-1, 2)


def weights_by_phase(recurrent: jax.Array, phases: jax.Array, module: jax.Array) -> Readout:
    """The mean weight between two units of a module as a function of their phase difference.

    In a continuous attractor the weight between two units depends on the difference of their phases
    only. Its mean over all pairs of the module's M units has the Fourier coefficients
        c_m = 1/M^2 sum_uv exp(i m phi_u) W_uv exp(-i m phi_v),   m in {-3..3}^2,
    and a hexagonal attractor shows in m = +-(1, 0), +-(0, 1), +-(1, -1).

    recurrent W [unit, unit] (from, to), phases [unit, 2] (rad), module [unit] (bool)
    -> module_power [7, 7] = |c_m|^2 (0 at m = 0, sum 1); module_weights [24, 24]: the mean weight
    less its mean, at phase differences 2 pi j / 24.
    """
    num_units = module.shape[0]
    chex.assert_shape(recurrent, (num_units, num_units))
    m = _all_pairs(jnp.arange(-3, 4)).astype(phases.dtype)
    turned = jnp.exp(1j * (phases @ m.T)) * module[:, None]
    count = jnp.maximum(jnp.sum(module), 1)
    # Less the mean weight, which a finite number of phases would spread over all coefficients.
    centred = recurrent - (module @ recurrent @ module) / count**2
    c = jnp.sum(turned * (centred.astype(turned.dtype) @ turned.conj()), axis=0) / count**2
    c = jnp.where(jnp.all(m == 0, axis=1), 0, c)
    power = jnp.abs(c) ** 2
    d = _all_pairs(jnp.arange(24) * (2 * jnp.pi / 24))
    return {
        "module_power": (power / jnp.maximum(jnp.sum(power), 1e-30)).reshape(7, 7),
        "module_weights": jnp.real(jnp.exp(1j * (d @ m.T)) @ c).reshape(24, 24),
    }


# --- Figures ---


def draw(readout: HostReadout) -> Figure:
    """How few dimensions the population uses, and one module of grid cells on its torus.

    readout: what `torus` returns, and grid_score_60. A module of fewer than ten units is not drawn,
    and the figure says so.
    """
    module = np.asarray(readout["module"])
    if module.sum() < 10:
        figure = Figure(figsize=(9.0, 4.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        figure.supxlabel(
            f"No torus of phases and no sorted weights: only {module.sum()} of {len(module)} units "
            "belong to a common\nhexagonal grid (at least 10 are needed)",
            fontsize=9,
        )
    else:
        figure = Figure(figsize=(13.2, 8.6), layout="constrained")
        (left, right, phases), (ring, weights, power) = figure.subplots(2, 3)
        _draw_phases(phases, readout)
        _draw_ring(ring, readout)
        if "module_weights" in readout:
            _draw_weights(weights, readout)
            _draw_power(power, readout)
        else:
            weights.set_axis_off()
            power.set_axis_off()
    _draw_components(left, readout["component_share"])
    _draw_lattice(right, readout)
    figure.suptitle("Low-dimensional structure of the population", fontsize=12)
    return figure


def _draw_components(ax: Axes, share: np.ndarray) -> None:
    """Principal components of the rate maps"""
    shown = share[:60]
    ax.plot(
        np.arange(1, len(shown) + 1),
        100 * np.cumsum(shown),
        "o-",
        color=figures.SIMULATED,
        markersize=3,
    )
    ax.set_ylim(0, 103)
    ax.set_xlabel("number of principal components")
    ax.set_ylabel("variance of all rate maps held (%)")
    ax.set_title("Principal components of the rate maps", fontsize=10)


def _draw_lattice(ax: Axes, readout: HostReadout) -> None:
    """Which grid the units share"""
    ax.plot(
        readout["lattice_spacings_m"],
        100 * readout["lattice_share"],
        "o-",
        color=figures.SIMULATED,
        markersize=3,
    )
    module = np.asarray(readout["module"])
    ax.axvline(float(readout["module_spacing_m"]), color="black", linestyle=":", linewidth=0.8)
    ax.set_ylim(0, None)
    ax.set_xlabel("spacing of a hexagonal lattice (m)")
    ax.set_ylabel("variance of grid units' maps held (%)")
    ax.set_title(
        f"Strongest common lattice: {float(readout['module_spacing_m']):.2f} m, "
        f"{np.degrees(float(readout['module_orientation_rad'])):.0f} degrees\n"
        f"its module: {module.sum()} of {len(module)} units",
        fontsize=10,
    )


def _draw_phases(ax: Axes, readout: HostReadout) -> None:
    """Units on the torus of phases"""
    module = np.asarray(readout["module"])
    phases = np.mod(np.degrees(np.asarray(readout["module_phases"])[module]), 360)
    image = ax.scatter(
        phases[:, 0],
        phases[:, 1],
        c=np.asarray(readout["grid_score_60"])[module],
        s=14,
        cmap="viridis",
    )
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.7)
    bar.set_label("grid score")
    for set_limits, set_ticks in ((ax.set_xlim, ax.set_xticks), (ax.set_ylim, ax.set_yticks)):
        set_limits(0, 360)
        set_ticks([0, 90, 180, 270, 360])
    ax.set_aspect("equal")
    ax.set_xlabel("phase along lattice wave 1 (degrees)")
    ax.set_ylabel("phase along lattice wave 2 (degrees)")
    ax.set_title(
        "Units of the module on the torus of phases\n(opposite edges are the same)", fontsize=10
    )


def _draw_ring(ax: Axes, readout: HostReadout) -> None:
    """The population's activity as a ring"""
    ring = np.asarray(readout["population_phase"])[0].reshape(-1, 2)
    ring = ring / np.abs(ring).max()
    wave = np.mod(np.degrees(np.asarray(readout["population_wave"])[0].ravel()), 360)
    image = ax.scatter(ring[:, 0], ring[:, 1], c=wave, s=14, cmap="twilight", vmin=0, vmax=360)
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.7, ticks=[0, 90, 180, 270, 360])
    bar.set_label("phase of the place along wave 1 (degrees)")
    ax.set_xlim(-1.1, 1.1)
    ax.set_ylim(-1.1, 1.1)
    ax.set_aspect("equal")
    ax.set_xlabel("activity summed with cos of the units' phase")
    ax.set_ylabel("activity summed with sin")
    ax.set_title(
        "The population at each place of the box\n(a ring in order: one circle of the torus)",
        fontsize=10,
    )


def _draw_weights(ax: Axes, readout: HostReadout) -> None:
    """Recurrent weights against phase difference"""
    weights = np.fft.fftshift(np.asarray(readout["module_weights"]))
    top = np.abs(weights).max() or 1.0
    image = ax.imshow(
        weights.T,
        origin="lower",
        extent=(-187.5, 172.5, -187.5, 172.5),
        cmap="RdBu_r",
        vmin=-top,
        vmax=top,
    )
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.7)
    bar.set_label("mean weight less its mean")
    ax.set_xticks([-180, -90, 0, 90])
    ax.set_yticks([-180, -90, 0, 90])
    ax.set_xlabel("difference of phase 1, to less from (degrees)")
    ax.set_ylabel("difference of phase 2 (degrees)")
    ax.set_title("Recurrent weights sorted on the torus", fontsize=10)


def _draw_power(ax: Axes, readout: HostReadout) -> None:
    """Fourier power of the sorted recurrent weights"""
    power = 100 * np.asarray(readout["module_power"])
    image = ax.imshow(power.T, origin="lower", extent=(-3.5, 3.5, -3.5, 3.5), cmap="magma", vmin=0)
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.7)
    bar.set_label("share of power (%)")
    modes = np.array([(1, 0), (-1, 0), (0, 1), (0, -1), (1, -1), (-1, 1)])
    ax.plot(*modes.T, "o", markersize=13, markerfacecolor="none", markeredgecolor="#58c5d8")
    total = sum(power[m + 3, n + 3] for m, n in modes)
    ax.set_xlabel("periods along phase 1")
    ax.set_ylabel("periods along phase 2")
    ax.set_title(
        f"Fourier power of the sorted weights\nsix circled modes: {total:.0f} %, by chance 12.5 %",
        fontsize=10,
    )
