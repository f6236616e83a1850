"""Weights of the original in `grid_rnn`; their files are made here, with the original's names."""

import fiddle as fdl
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fdl_configs
from hfjax.data.grid_weights import grid_weights
from hfjax.errors import DataFileError
from hfjax.models import grid_rnn, path_integration
from tests.small import torch_weights

PLACE, UNITS = 7, 5


def keras_file(path, weights):
    """The same as the list of arrays [from, to] that the original's .npy holds, pickled."""
    arrays = np.empty(len(weights), object)
    for i, array in enumerate(weights.values()):
        arrays[i] = array.T
    np.save(path, arrays, allow_pickle=True)
    return str(path)


@pytest.fixture
def npz(tmp_path):
    np.savez(tmp_path / "weights.npz", **torch_weights(PLACE, UNITS))
    return str(tmp_path / "weights.npz")


def test_both_kinds_of_file_give_the_same_weights(tmp_path, npz):
    ours = grid_weights(path=npz)
    listed = grid_weights(path=keras_file(tmp_path / "weights.npy", torch_weights(PLACE, UNITS)))
    assert set(ours) == set(listed)
    for name in ours:
        np.testing.assert_array_equal(ours[name], listed[name])
    np.testing.assert_array_equal(ours["inputs"], torch_weights(PLACE, UNITS)["RNN.weight_ih_l0"].T)


def test_default_centres_are_those_of_the_original(npz, tmp_path):
    """NumPy's seed 0: all x first, then all y; worked out by its global generator."""
    rng = np.random.RandomState(0)
    x, y = (rng.uniform(-1.1, 1.1, (PLACE,)) for _ in range(2))
    np.testing.assert_allclose(
        grid_weights(path=npz)["place_centres"], np.stack([x, y], 1), rtol=1e-6
    )
    np.save(tmp_path / "centres.npy", np.ones((PLACE, 2)))
    own = grid_weights(path=npz, centres_path=str(tmp_path / "centres.npy"))
    np.testing.assert_array_equal(own["place_centres"], 1)


def test_a_run_starts_from_them_and_computes_as_the_original_does(npz):
    """From the command line's fiddler to the activity, against torch's equation in NumPy."""
    config = fdl_configs.make("grid_rnn", "trained").task
    config.num_grid, config.num_place, config.weights.path = UNITS, PLACE, npz
    task = fdl.build(config)
    state = task.init(jax.random.key(0), ())
    walk = path_integration.walk_along(
        jnp.array([[[0.1, 0.2], [0.3, 0.1], [0.2, -0.1]]], jnp.float32)
    )
    activity = task.apply(state, jnp.concatenate([walk.start[:, None], walk.positions], 1)[0])
    w = torch_weights(PLACE, UNITS)
    code = path_integration.code(
        path_integration.World(
            path_integration.walled_box(), None, 0.02, None, config.place_code, 0.12
        ),
        walk.start,
        state.place_centres,
    )
    h = w["encoder.weight"] @ np.asarray(code[0])
    for t, v in enumerate(np.asarray(walk.displacements[0])):
        h = np.maximum(w["RNN.weight_ih_l0"] @ v + w["RNN.weight_hh_l0"] @ h, 0)
        np.testing.assert_allclose(activity[t + 1], h, rtol=1e-4, atol=1e-5)
    assert np.abs(h).max() > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_grid": 4}, "the weights have num_place=7 and num_grid=5, but the task has 7 and 4"),
        ({"network": fdl.Config(grid_rnn.lstm)}, "use vanilla"),
    ],
)
def test_weights_that_do_not_fit_the_task(npz, change, message):
    config = fdl_configs.make("grid_rnn", "trained").task
    config.num_grid, config.num_place, config.weights.path = UNITS, PLACE, npz
    for name, value in change.items():
        setattr(config, name, value)
    with pytest.raises(ValueError, match=message):
        fdl.build(config)


def test_files_that_are_no_weights(tmp_path):
    with pytest.raises(ValueError, match="path must be set"):
        grid_weights()
    with pytest.raises(DataFileError, match="cannot be read"):
        grid_weights(path=str(tmp_path / "none.npy"))
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(DataFileError, match=r"no array 'encoder\.weight'"):
        grid_weights(path=str(tmp_path / "other.npz"))
    weights = torch_weights(PLACE, UNITS)
    three = dict(list(weights.items())[:3])
    with pytest.raises(DataFileError, match="has 3 arrays"):
        grid_weights(path=keras_file(tmp_path / "three.npy", three))
    weights["RNN.weight_ih_l0"] = weights["RNN.weight_ih_l0"][:, :1]
    with pytest.raises(DataFileError, match=r"inputs has the shape \(1, 5\) in place of \(2, 5\)"):
        grid_weights(path=keras_file(tmp_path / "wrong.npy", weights))
