"""Rate maps driven bottom-up, and the attractor in the recurrent weights of EC."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hfjax import ratemaps
from hfjax.missing import MISSING
from hfjax.models.helmholtz.circuit import (
    Circuit,
    CircuitState,
    Feedforward,
    Pyramidal,
    potential,
    pyramidal,
)
from hfjax.models.helmholtz.track import FEATURES, Track, displacement, place_cells

FIELD_PEAK = 0.05  # a unit whose rate map stays below this has no field
MAP_BINS = {1: 100, 2: 20}  # num_dims -> bins of a rate map along each axis
OFFSET_BINS = {1: 25, 2: 20}  # num_dims -> bins of the distance between fields along each axis


class Fields(NamedTuple):
    """Fields of units: peaks [unit, dim] (m); active [unit], whether a unit has a field."""

    peaks: jax.Array
    active: jax.Array


class Attractor(NamedTuple):
    """Weights into EC as a function of the distance between the fields of post and pre.

    peaks     [EC unit, dim] (m), the peak of each unit's field.
    active    [EC unit], whether the unit has a field.
    offsets   [bin] (m), the bins of the distance along an axis, from -width / 2 to width / 2.
    means, stds  [block, bin, ...] (one bin axis for each dim), mean and standard deviation of the
                 weights over pairs of units. Block 0 is EC to EC; the CVC blocks follow in order.
    asymmetry [CVC block], sum of w sin(2 pi d / width) over the sum of |w|, where d is the distance
              in the direction of the block's velocity cell. Above 0 the block pushes the activity
              in its own direction.
    """

    peaks: jax.Array
    active: jax.Array
    offsets: jax.Array
    means: jax.Array
    stds: jax.Array
    asymmetry: jax.Array


# --- Rate maps ---


def map_positions(track: Track) -> np.ndarray:
    """Bin centres of rate maps, [position, dim] (m): 100 on a ring, 20 x 20 on a torus."""
    num_bins = MAP_BINS[track.num_dims]
    x = ((np.arange(num_bins) + 0.5) / num_bins - 0.5) * track.width_m
    axes = np.meshgrid(*[x] * track.num_dims, indexing="ij")
    return np.stack(axes, -1).reshape(-1, track.num_dims)


def bottom_up_maps(
    circuit: Circuit, state: CircuitState, track: Track, centres: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Rate maps of HPC and EC, driven through their basal dendrites without noise.

    -> two arrays [unit, position], at `map_positions`. All layers but these two and the place cells
    are silent. Source: HelmholtzHippocampus, rate maps with theta = 0.
    """

    def rates_at(features: jax.Array) -> tuple[jax.Array, jax.Array]:
        rates = _inferred(circuit, state, features)
        return rates["HPC"], rates["EC"]

    return _at_each_position(rates_at, track, centres)


def top_down_maps(
    circuit: Circuit, state: CircuitState, track: Track, centres: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Rate maps of the apical dendrites of HPC and EC, without noise, of an animal at rest.

    What they predict for a place that the circuit has inferred: HPC and EC are driven bottom-up
    once, other layers then from these without velocity, and the dendrites from all of them.
    -> two arrays [unit, position], at `map_positions`. Source: HelmholtzHippocampus
    `PyramidalNeurons.plot_rate_map`, route "apical".
    """

    def rates_at(features: jax.Array) -> tuple[jax.Array, jax.Array]:
        rates = _inferred(circuit, state, features)
        for layer in circuit:
            if isinstance(layer, Feedforward):
                V = potential(layer, "in", layer.inputs, rates, state.synapses)
                rates[layer.name] = layer.nonlinearity(V)
        hpc, ec = (
            layer.nonlinearity(potential(layer, "apical", layer.apical, rates, state.synapses))
            for layer in _hpc_and_ec(circuit)
        )
        return hpc, ec

    return _at_each_position(rates_at, track, centres)


def _hpc_and_ec(circuit: Circuit) -> list[Pyramidal]:
    layers = {layer.name: layer for layer in pyramidal(circuit)}
    return [layers["HPC"], layers["EC"]]


def _inferred(circuit: Circuit, state: CircuitState, features: jax.Array) -> dict[str, jax.Array]:
    """Rates of all layers: HPC and EC driven bottom-up, all but them and the place cells silent."""
    rates = {name: jnp.zeros_like(values) for name, values in state.rates.items()}
    rates[FEATURES] = features
    for layer in _hpc_and_ec(circuit):
        V = potential(layer, "basal", layer.basal, rates, state.synapses)
        rates[layer.name] = layer.nonlinearity(V)
    return rates


def _at_each_position(rates_at: Any, track: Track, centres: jax.Array) -> Any:
    """rates_at (place cells' rates) at each of `map_positions`, the last axis of its results."""
    positions = jnp.asarray(map_positions(track), centres.dtype)
    return jax.vmap(rates_at, out_axes=1)(place_cells(track, positions, centres))


def map_likeness(maps: jax.Array, others: jax.Array, among: jax.Array) -> jax.Array:
    """Mean over the units in `among` [unit] of the correlation of two maps [unit, position].

    0 where there are no such units; a map without variance counts as 0.
    """
    a, b = (x - jnp.mean(x, axis=1, keepdims=True) for x in (maps, others))
    scale = jnp.linalg.norm(a, axis=1) * jnp.linalg.norm(b, axis=1)
    r = jnp.sum(a * b, axis=1) / jnp.maximum(scale, 1e-12)
    return jnp.sum(jnp.where(among, r, 0)) / jnp.maximum(jnp.sum(among), 1)


def as_images(maps: jax.Array, track: Track) -> jax.Array:
    """Maps [unit, position] as [unit, x, y]; on a ring y is a single bin."""
    num_bins = MAP_BINS[track.num_dims]
    return maps.reshape(len(maps), num_bins, num_bins if track.num_dims == 2 else 1)


def fields_of(maps: jax.Array, track: Track) -> Fields:
    """Where the maps [unit, position] have their peak, and whether it is a field."""
    positions = jnp.asarray(map_positions(track), maps.dtype)
    return Fields(positions[jnp.argmax(maps, axis=1)], jnp.max(maps, axis=1) > FIELD_PEAK)


# --- Weights ---


def attractor(circuit: CircuitState, maps: jax.Array, track: Track) -> Attractor:
    """The recurrent weights of EC, aligned by its fields and averaged.

    maps [EC unit, position], from `bottom_up_maps`. Units without a field are left out. A bin
    without a pair of units is MISSING. There are 25 bins on a ring and 20 along each axis of a
    torus; the positions of the maps fill them evenly.
    Deviation from the original: aligned by the distance between fields, not by their rank; and the
    spread is that of the weights (in the original, that of their mean, which is 0).
    """
    fields = fields_of(maps, track)
    recurrent = circuit.synapses["EC/apical/EC"].weights
    velocity = circuit.synapses["EC/apical/CVC"].weights
    by_velocity = jnp.stack(jnp.split(velocity, 2 * track.num_dims, axis=1))
    blocks = jnp.concatenate([recurrent[None], by_velocity])  # [block, post, pre]
    ahead = displacement(fields.peaks[:, None], fields.peaks[None], width_m=track.width_m)
    both = fields.active[:, None] & fields.active[None]  # [post, pre]
    means, stds = _aligned(blocks, ahead, both, track)
    asymmetry = _asymmetry(by_velocity, ahead, both, track)
    num_bins = OFFSET_BINS[track.num_dims]
    offsets = (jnp.arange(num_bins) - num_bins // 2) * (track.width_m / num_bins)
    return Attractor(fields.peaks, fields.active, offsets, means, stds, asymmetry)


def _aligned(
    blocks: jax.Array, ahead: jax.Array, both: jax.Array, track: Track
) -> tuple[jax.Array, jax.Array]:
    """Mean and standard deviation of weights by the displacement of post from pre.

    blocks [block, post, pre], ahead [post, pre, dim] (m), both [post, pre] -> two arrays
    [block, bin, ...].
    """
    num_bins, num_dims = OFFSET_BINS[track.num_dims], track.num_dims
    # 0.501: offsets half-way between bins go up in spite of rounding. All bins hold as many.
    index = jnp.floor(ahead / track.width_m * num_bins + 0.501).astype(jnp.int32) + num_bins // 2
    index = jnp.clip(index, 0, num_bins - 1)
    flat = sum(index[..., axis] * num_bins ** (num_dims - 1 - axis) for axis in range(num_dims))
    # Pairs to leave out go to a bin after the last.
    flat = jnp.where(both, flat, num_bins**num_dims).reshape(-1)
    w = blocks.reshape(len(blocks), -1).T  # [pair, block]
    sums = ratemaps.sum_by_bin(jnp.concatenate([w, w**2], axis=1), flat, num_bins**num_dims)
    means, squares = jnp.split(ratemaps.mean_by_bin(sums, empty=MISSING).T, 2)
    variances = jnp.where(means > MISSING, jnp.maximum(squares - means**2, 0), MISSING)
    shape = (len(blocks), *[num_bins] * num_dims)
    return means.reshape(shape), jnp.sqrt(variances).reshape(shape)


def _asymmetry(
    by_velocity: jax.Array, ahead: jax.Array, both: jax.Array, track: Track
) -> jax.Array:
    """See `Attractor.asymmetry`; by_velocity [CVC block, post, pre] -> [CVC block]."""
    # The direction of each block: velocity cells are +x, (+y,) -x, (-y).
    directions = jnp.concatenate([jnp.eye(track.num_dims), -jnp.eye(track.num_dims)])
    along = jnp.einsum("ijd,bd->bij", ahead, directions.astype(ahead.dtype))
    pushed = jnp.sum(
        by_velocity * (jnp.sin(2 * jnp.pi * along / track.width_m) * both[None]), axis=(1, 2)
    )
    total = jnp.sum(jnp.abs(by_velocity) * both[None], axis=(1, 2))
    return pushed / jnp.maximum(total, 1e-12)


def near_and_far(
    circuit: CircuitState, fields: Fields | Attractor, track: Track
) -> tuple[jax.Array, jax.Array]:
    """Mean recurrent weight between units with fields less, and more, than sigma_m apart."""
    away = displacement(fields.peaks[:, None], fields.peaks[None], width_m=track.width_m)
    near = jnp.linalg.norm(away, axis=-1) < track.sigma_m
    both = fields.active[:, None] & fields.active[None]
    w = circuit.synapses["EC/apical/EC"].weights

    def mean_of(mask: jax.Array) -> jax.Array:
        return jnp.sum(w * mask) / jnp.maximum(jnp.sum(mask), 1)

    return mean_of(near & both), mean_of(~near & both)


# --- The order of fields, on the host ---


def field_order(maps: np.ndarray) -> np.ndarray:
    """Units with a field, in the order of the peaks of their maps [unit, position]."""
    active = np.flatnonzero(maps.max(axis=1) > FIELD_PEAK)
    return active[np.argsort(maps[active].argmax(axis=1), kind="stable")]


def unit_at_each_position(maps: np.ndarray) -> np.ndarray:
    """For each position of a ring, the unit whose field is nearest; maps [unit, position]."""
    order = field_order(maps)
    positions = np.arange(maps.shape[1])
    away = np.abs(positions[:, None] - maps[order].argmax(axis=1)[None])
    return order[np.minimum(away, len(positions) - away).argmin(axis=1)]
