"""The analysis of the attractor, on weights made by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from hfjax.models import helmholtz
from hfjax.models.helmholtz import attractor
from hfjax.models.helmholtz.track import RING, place_cells
from tests.helmholtz_reference import RING_WEIGHTS, small_ring


def hand_made(num_units, recurrent, velocity):
    """A circuit state with nothing in it but EC's recurrent weights."""
    return helmholtz.CircuitState(
        rates={},
        noise={},
        synapses={
            "EC/apical/EC": helmholtz.Synapses(jnp.asarray(recurrent), None),
            "EC/apical/CVC": helmholtz.Synapses(jnp.asarray(velocity), None),
        },
        traces={},
        losses={},
        step=jnp.int32(0),
        potentials={},
    )


def test_an_attractor_made_by_hand_is_recovered():
    # Fields in a shuffled order; recurrent weights cos of the distance, the rightward block its
    # copy shifted by a quarter of the ring to the right, the leftward one to the left.
    rng = np.random.default_rng(0)
    peak = rng.permutation(25) * 4  # a bin of `attractor` is 4 positions wide
    maps = np.zeros((27, 100))
    maps[np.arange(25), peak] = 1.0  # units 25 and 26 have no field
    ahead = 2 * np.pi * (peak[:, None] - peak[None]) / 100
    recurrent, velocity = np.full((27, 27), 9.0), np.full((27, 54), 9.0)
    recurrent[:25, :25] = np.cos(ahead)
    velocity[:25, :25] = np.sin(ahead)
    velocity[:25, 27:52] = -np.sin(ahead)
    state = hand_made(27, recurrent.astype(np.float32), velocity.astype(np.float32))
    aligned = attractor.attractor(state, jnp.asarray(maps, jnp.float32), RING)
    np.testing.assert_array_equal(aligned.active, np.arange(27) < 25)
    offset = 2 * np.pi * np.asarray(aligned.offsets)
    expected = np.stack([np.cos(offset), np.sin(offset), -np.sin(offset)])
    np.testing.assert_allclose(aligned.means, expected, atol=1e-5)
    np.testing.assert_allclose(aligned.stds, 0, atol=2e-3)
    # sum of sin^2 over sum of |sin|: pi / 4, in the limit of many bins.
    np.testing.assert_allclose(aligned.asymmetry, np.pi / 4, atol=0.01)


def test_the_aligned_spread_is_that_of_the_weights():
    peak = np.tile(np.arange(25) * 4, 2)  # two units a place
    maps = np.zeros((50, 100))
    maps[np.arange(50), peak] = 1.0
    recurrent = np.where(np.arange(50)[:, None] < 25, 1.0, 3.0) * np.ones((50, 50))
    state = hand_made(50, recurrent.astype(np.float32), np.zeros((50, 100), np.float32))
    aligned = attractor.attractor(state, jnp.asarray(maps, jnp.float32), RING)
    np.testing.assert_allclose(aligned.means[0], 2.0, atol=1e-5)
    np.testing.assert_allclose(aligned.stds[0], 1.0, atol=1e-5)


def test_apical_maps_are_what_is_predicted_from_the_inferred_place():
    """The same in NumPy: place cells -> HPC -> EC -> conjunctive cells at rest -> dendrites."""
    circuit = small_ring()
    track = RING._replace(num_place=8, sigma_m=0.15)
    state = helmholtz.init_circuit(jax.random.key(0), circuit)
    centres = jnp.linspace(-0.5, 0.5, 8, endpoint=False)[:, None]
    hpc, ec = attractor.top_down_maps(circuit, state, track, centres)
    x = attractor.map_positions(track)[:, 0]
    away = np.abs(x[:, None] - np.asarray(centres)[None, :, 0])
    features = np.exp(-(np.minimum(away, 1 - away) ** 2) / (2 * 0.15**2))
    np.testing.assert_allclose(features, track_cells(track, centres), atol=1e-6)
    w = RING_WEIGHTS
    inferred = np.maximum(np.tanh(features @ w["EC/basal/HPC"].T), 0)
    conjunctive = np.maximum(np.tile(inferred, (1, 2)) - 1.0, 0)
    np.testing.assert_allclose(hpc.T, inferred @ w["HPC/apical/EC"].T, atol=1e-5)
    drive = inferred @ w["EC/apical/EC"].T + conjunctive @ w["EC/apical/CVC"].T
    np.testing.assert_allclose(ec.T, np.maximum(np.tanh(drive), 0), atol=1e-5)


def track_cells(track, centres):
    return place_cells(track, jnp.asarray(attractor.map_positions(track), jnp.float32), centres)


def test_likeness_of_maps_by_hand():
    maps = jnp.array([[0.0, 1.0, 2.0], [0.0, 1.0, 0.0], [5.0, 5.0, 5.0]])
    others = jnp.array([[1.0, 3.0, 5.0], [2.0, 0.0, 2.0], [0.0, 1.0, 2.0]])
    everywhere = attractor.map_likeness(maps, others, jnp.ones(3, bool))
    np.testing.assert_allclose(everywhere, 0.0, atol=1e-6)  # 1, -1 and 0
    first = attractor.map_likeness(maps, others, jnp.array([True, False, True]))
    np.testing.assert_allclose(first, 0.5, atol=1e-6)
