"""Maps of what each atom predicts, and of its hidden units, over a lattice of states.

Source: the figures of the thesis on hippocampal maps (dsm-hippocampus).
"""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from hfjax import figures, missing, ratemaps
from hfjax.missing import MISSING
from hfjax.models.dsm.task import Predictor
from hfjax.task import HostReadout, Metric, Readout

MOST_ATOMS = 10  # in a figure, as many as the thesis has
NUM_SHOWN = 8  # units or cells in a row
NUM_NOISES = 5


class OfStates(Protocol):
    """(states) -> the two numbers of a state that figures show."""

    def __call__(self, states: jax.Array, /) -> jax.Array:
        """states [..., dim] -> [..., 2]."""


class ToStates(Protocol):
    """(coordinates) -> states."""

    def __call__(self, coordinates: jax.Array, /) -> jax.Array:
        """coordinates [..., 2] -> [..., dim]."""


class Plane(NamedTuple):
    """A plane of states, over which maps are drawn.

    coordinates, states: from states to the plane and back. extent: of the two coordinates. names:
    axis labels, with units. colour_maps: for values of each coordinate; a cyclic one for an angle.
    side: places along each axis.
    """

    coordinates: OfStates
    states: ToStates
    extent: tuple[tuple[float, float], tuple[float, float]]
    names: tuple[str, str]
    colour_maps: tuple[str, str] = ("viridis", "viridis")
    side: int = 20

    def lattice(self) -> np.ndarray:
        """The centres of side x side places: [place, 2]."""
        share = (np.arange(self.side) + 0.5) / self.side
        axes = (low + share * (high - low) for low, high in self.extent)
        return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)


def as_maps(x: jax.Array) -> jax.Array:
    """[place, ...] -> [..., x, y], of a square lattice."""
    side = round(len(x) ** 0.5)
    return jnp.moveaxis(x, 0, -1).reshape(*x.shape[1:], side, side)


def discounted_states(states: jax.Array, last: jax.Array, *, gamma: float) -> jax.Array:
    """(1 - gamma) sum_k gamma^k s_(t+k) of data: states [time, dim], last [time] -> [time, dim].

    The last state of an episode, and of the data, continues for ever.
    """

    def back(total: jax.Array, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        state, ends = now
        total = jnp.where(ends, state, (1 - gamma) * state + gamma * total)
        return total, total

    return jax.lax.scan(back, states[-1], (states, last), reverse=True)[1]


def mean_by_place(values: jax.Array, coordinates: jax.Array, plane: Plane) -> jax.Array:
    """Mean of values [time, dim] at each place of a plane's lattice: [place, dim], or MISSING."""
    low, high = np.asarray(plane.extent, np.float32).T
    share = (coordinates - low[None]) / (high - low)[None]
    x, y = jnp.clip((share * plane.side).astype(int), 0, plane.side - 1).T
    sums, visits = (
        jax.ops.segment_sum(v, x * plane.side + y, plane.side**2)
        for v in (values, jnp.ones((len(values), 1)))
    )
    return jnp.where(visits > 0, sums / jnp.maximum(visits, 1), MISSING)


def maps_over_plane(
    model: Predictor,
    states: jax.Array,
    last: jax.Array,
    key: jax.Array,
    *,
    plane: Plane,
    gamma: float,
    num_inner: int = 64,
) -> Readout:
    """Maps of the state that each atom predicts, of the data's, and of hidden units.

    A predicted map is the coordinates of an atom's mean sample, at each place of the lattice.
    states [time, dim] and last [time] are the data.
    -> state_maps [coordinate, map, x, y]: the data, the mean of all atoms, and each atom;
    hidden_atoms_L [atom, unit, x, y] of layer L (`most_varying`); noise_maps [noise, coordinate, x,
    y] (`noise_maps`).
    """
    maps_key, hidden_key, noise_key = jax.random.split(key, 3)
    lattice = plane.states(jnp.asarray(plane.lattice(), states.dtype))
    by_atom = jnp.mean(model.samples(lattice, maps_key, num_inner), axis=2)  # [place, outer, dim]
    known = mean_by_place(
        discounted_states(states, last, gamma=gamma), plane.coordinates(states), plane
    )
    shown = jnp.stack([known, jnp.mean(by_atom, axis=1)], axis=1)
    shown = jnp.concatenate([shown, by_atom], axis=1)
    coordinates = jnp.where(jnp.isfinite(shown[..., :1]), plane.coordinates(shown), MISSING)
    hidden = model.hidden(lattice, hidden_key, num_inner)
    return {
        "state_maps": jnp.moveaxis(as_maps(coordinates), 1, 0),
        "noise_maps": as_maps(plane.coordinates(of_noise(model, lattice, noise_key))),
        **most_varying(hidden),
    }


def compared(name: str, control: str, metric: Metric, label: str) -> dict[str, Metric]:
    """What a scalar and its control mean, by their names; label: of the control."""
    return {name: metric, control: Metric(label, metric.unit, role="control", of=name)}


def mean_information(rates: jax.Array) -> jax.Array:
    """Spatial information (bits), mean over cells, with equal occupancy: [place, cell] -> []."""
    occupancy = as_maps(jnp.full(len(rates), 1 / len(rates), rates.dtype))
    maps = jnp.maximum(as_maps(rates), 0)
    return missing.mean(ratemaps.spatial_information(maps, occupancy).bits_per_spike)


def of_noise(model: Predictor, states: jax.Array, key: jax.Array) -> jax.Array:
    """Samples of the first atom for NUM_NOISES draws of noise z, each the same at all states.

    states [place, dim] -> [place, noise, dim]. They show what the noise of an atom stands for.
    """
    return model.of_same_noise(states, key, NUM_NOISES)[:, 0]


def most_varying(hidden: tuple[jax.Array, ...]) -> Readout:
    """The units of each layer that vary most over the places, for each of MOST_ATOMS atoms.

    hidden: of each layer [place, outer, unit] -> hidden_atoms_L [atom, unit, x, y].
    """

    def of_layer(layer: jax.Array) -> jax.Array:
        maps = as_maps(layer[:, :MOST_ATOMS])
        spread = jnp.std(maps, axis=(2, 3))
        _, units = jax.lax.top_k(spread, min(NUM_SHOWN, spread.shape[1]))
        return jnp.take_along_axis(maps, units[:, :, None, None], axis=1)

    return {f"hidden_atoms_{i}": of_layer(layer) for i, layer in enumerate(hidden, start=1)}


# --- Figures ---


def atom_columns(num_atoms: int) -> list[str]:
    """Titles of the columns: data, the mean of all atoms, each atom."""
    return ["data", "mean of atoms", *(f"atom {i + 1}" for i in range(num_atoms))]


def draw_plane_maps(readout: HostReadout, plane: Plane) -> dict[str, Figure]:
    """Figures of `maps_over_plane`: state maps, effect of the noise, hidden units, of MOST_ATOMS.

    None where the readout has no such maps, as that of rollouts.
    """
    if "state_maps" not in readout:
        return {}
    maps, noises = readout["state_maps"][:, : 2 + MOST_ATOMS], readout["noise_maps"]
    first = plane.names[0].partition(" (")[0], plane.names[1].partition(" (")[0]

    def row(maps: np.ndarray, i: int) -> figures.MapRow:
        cyclic = plane.colour_maps[i] != "viridis"
        limits = plane.extent[i] if cyclic else (float(np.nanmin(maps)), float(np.nanmax(maps)))
        label = f"future\n{first[i]}"
        return figures.MapRow(maps, label, plane.names[i], limits, plane.colour_maps[i])

    space: dict[str, Any] = {"extent_m": plane.extent, "axis_labels": plane.names}
    return {
        "atom_maps": figures.map_rows(
            [row(maps[0], 0), row(maps[1], 1)],
            columns=atom_columns(maps.shape[1] - 2),
            title="Mean state that follows each state (discounted), as a map over states:\n"
            "in the data, and as the atoms predict it. Grey: states that the data do not have",
            **space,
        ),
        "noise": figures.map_rows(
            [row(noises[:, 0], 0), row(noises[:, 1], 1)],
            columns=[f"noise {i + 1}" for i in range(len(noises))],
            title="Effect of the noise z: samples of atom 1,\nwith the same z at all states",
            **space,
        ),
        **draw_hidden_atoms(readout, **space),
    }


def draw_hidden_atoms(readout: HostReadout, **space: Any) -> dict[str, Figure]:
    """One figure for each hidden layer: a row for each atom, its units that vary most.

    space: extent_m, axis_labels and walls of `figures.map_rows`.
    """
    drawn = {}
    for name in (n for n in readout if n.startswith("hidden_atoms_")):
        maps, number = readout[name], name.rpartition("_")[2]
        rows = [
            figures.MapRow(m, f"atom {i + 1}", "activity", (float(m.min()), float(m.max())))
            for i, m in enumerate(maps)
        ]
        drawn[f"hidden_layer_{number}"] = figures.map_rows(
            rows,
            columns=[f"no. {i + 1}" for i in range(maps.shape[1])],
            title=f"Hidden layer {number} of each atom: its {maps.shape[1]} units that vary most",
            **space,
        )
    return drawn
