"""Rate maps driven bottom-up, and the attractor in the recurrent weights of EC."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hfjax.models.helmholtz.circuit import Circuit, CircuitState, potential, pyramidal
from hfjax.models.helmholtz.track import FEATURES, Track, apart, place_cells

FIELD_PEAK = 0.05  # a unit whose rate map stays below has no field


def map_positions(track: Track) -> np.ndarray:
    """Where rate maps are taken: [position, dim], 100 along a ring, 20 x 20 over a torus."""
    num_bins = 100 if track.num_dims == 1 else 20
    x = ((np.arange(num_bins) + 0.5) / num_bins - 0.5) * track.width_m
    return np.stack(np.meshgrid(*[x] * track.num_dims, indexing="ij"), -1).reshape(
        -1, track.num_dims
    )


def bottom_up_maps(
    circuit: Circuit, state: CircuitState, track: Track, centres: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Rate maps of HPC and EC driven through their basal dendrites, without noise.

    -> two arrays [unit, position], at the positions of the module's maps: 100 along a ring, 20 x 20
    over a torus. Layers other than these two and the place cells count as silent.
    Source: HelmholtzHippocampus, rate maps with theta = 0.
    """
    layers = {layer.name: layer for layer in pyramidal(circuit)}

    def at(features):
        rates = {name: jnp.zeros_like(values) for name, values in state.rates.items()}
        rates[FEATURES] = features
        for layer in (layers["HPC"], layers["EC"]):
            V = potential(layer, "basal", layer.basal, rates, state.synapses)
            rates[layer.name] = layer.nonlinearity(V)
        return rates["HPC"], rates["EC"]

    positions = jnp.asarray(map_positions(track), centres.dtype)
    return jax.vmap(at, out_axes=1)(place_cells(track, positions, centres))


class Attractor(NamedTuple):
    """Weights into EC against the distance between the peaks of the fields of post and pre.

    peaks     [EC unit, dim] (m), where each unit's field has its peak.
    active    [EC unit], whether it has a field at all.
    offsets   [bin] (m), the bins of the distance along an axis, from -width / 2 to width / 2.
    means, stds  [block, bin, ...] (one bin axis a dim), mean weight and standard deviation over
                 pairs of units; block 0 is EC to itself, then the CVC blocks in their order.
    asymmetry [CVC block], sum of w sin(2 pi d / width) over that of |w|, with d along the
              direction of the block's velocity cell: above 0 where it pushes activity its own way.
    """

    peaks: jax.Array
    active: jax.Array
    offsets: jax.Array
    means: jax.Array
    stds: jax.Array
    asymmetry: jax.Array


def attractor(circuit: CircuitState, maps: jax.Array, track: Track) -> Attractor:
    """The recurrent weights of EC, aligned by its fields and averaged.

    maps [EC unit, position], from `bottom_up_maps`. Units without a field are left out; a bin
    without any pair of units is NaN. There are 25 bins on a ring and 20 along each axis of a torus,
    which the positions of the maps fill evenly.
    Deviation from the original: aligned by the distance between fields, not by rank in their
    order; and the spread is that of the weights (there, of their mean, which is 0).
    """
    num_bins = 25 if track.num_dims == 1 else 20
    positions = jnp.asarray(map_positions(track), maps.dtype)
    peaks = positions[jnp.argmax(maps, axis=1)]
    active = jnp.max(maps, axis=1) > FIELD_PEAK
    recurrent = circuit.synapses["EC/apical/EC"].weights
    velocity = circuit.synapses["EC/apical/CVC"].weights
    num_units, num_blocks = recurrent.shape[0], 2 * track.num_dims
    blocks = jnp.stack([recurrent, *jnp.split(velocity, num_blocks, axis=1)])  # [block, post, pre]

    ahead = apart(peaks[:, None], peaks[None], track.width_m)  # [post, pre, dim]
    both = active[:, None] & active[None]
    # Halves go up, in spite of rounding: a bin then holds as many offsets as any other.
    index = jnp.floor(ahead / track.width_m * num_bins + 0.501).astype(jnp.int32) + num_bins // 2
    index = jnp.clip(index, 0, num_bins - 1)
    flat = sum(
        index[..., axis] * num_bins ** (track.num_dims - 1 - axis) for axis in range(track.num_dims)
    )
    flat = jnp.where(both, flat, num_bins**track.num_dims).reshape(-1)  # pairs to leave out: last

    def per_bin(values):
        total = jax.ops.segment_sum(values, flat, num_bins**track.num_dims + 1)
        return total[:-1]

    count = per_bin(jnp.ones_like(flat, maps.dtype))
    shape = (num_blocks + 1, *[num_bins] * track.num_dims)
    w = blocks.reshape(num_blocks + 1, num_units**2)
    means = jax.vmap(per_bin)(w) / count[None]
    variances = jnp.maximum(jax.vmap(per_bin)(w**2) / count[None] - means**2, 0)
    # The direction of block b: velocity cells are +x, (+y,) -x, (-y).
    directions = jnp.concatenate([jnp.eye(track.num_dims), -jnp.eye(track.num_dims)])
    along = jnp.einsum("ijd,bd->bij", ahead, directions.astype(maps.dtype))
    turned = jnp.sin(2 * jnp.pi * along / track.width_m) * both[None]
    asymmetry = jnp.sum(blocks[1:] * turned, axis=(1, 2)) / jnp.maximum(
        jnp.sum(jnp.abs(blocks[1:]) * both[None], axis=(1, 2)), 1e-12
    )
    offsets = (jnp.arange(num_bins) - num_bins // 2) * (track.width_m / num_bins)
    stds = jnp.sqrt(variances)
    return Attractor(peaks, active, offsets, means.reshape(shape), stds.reshape(shape), asymmetry)


def near_and_far(
    circuit: CircuitState, found: Attractor, track: Track
) -> tuple[jax.Array, jax.Array]:
    """Mean recurrent weight between units with fields less, and more, than sigma_m apart."""
    away = apart(found.peaks[:, None], found.peaks[None], track.width_m)
    near = jnp.linalg.norm(away, axis=-1) < track.sigma_m
    both = found.active[:, None] & found.active[None]
    w = circuit.synapses["EC/apical/EC"].weights

    def mean(mask):
        return jnp.sum(w * mask) / jnp.maximum(jnp.sum(mask), 1)

    return mean(near & both), mean(~near & both)


def field_order(maps: np.ndarray) -> np.ndarray:
    """Units with a field, in the order of the peaks of their maps [unit, position]."""
    active = np.flatnonzero(maps.max(axis=1) > FIELD_PEAK)
    return active[np.argsort(maps[active].argmax(axis=1), kind="stable")]


def by_position(maps: np.ndarray) -> np.ndarray:
    """For each position the unit, of those with a field, whose field is nearest on the ring."""
    order = field_order(maps)
    positions = np.arange(maps.shape[1])
    away = np.abs(positions[:, None] - maps[order].argmax(axis=1)[None])
    return order[np.minimum(away, len(positions) - away).argmin(axis=1)]
