"""Trained weights of grid-pattern-formation, for `grid_rnn`."""

import pathlib
from collections.abc import Mapping

import numpy as np

from hfjax.data import pickles
from hfjax.errors import DataFileError, one_line
from hfjax.files import local_path, read_npy, read_npz

# Our names, in the order of the arrays of `example_trained_weights.npy`.
NAMES = ("encoder", "inputs", "recurrent", "decoder")
STATE_DICT = {
    "encoder": "encoder.weight",
    "inputs": "RNN.weight_ih_l0",
    "recurrent": "RNN.weight_hh_l0",
    "decoder": "decoder.weight",
}


def grid_weights(
    *, path: str | None = None, centres_path: str | None = None, width_m: float = 2.2
) -> Mapping[str, np.ndarray]:
    """Weights that the original has trained, for `task.weights` of `grid_rnn`.

    path          file of the weights: .npy, as the original's `models/example_trained_weights.npy`;
                  or .npz with the names of its PyTorch `state_dict`.
    centres_path  file of the centres [place, 2] (m), as `models/example_pc_centers.npy`;
                  None for those that the original draws by default, from NumPy's seed 0.
    width_m       side of the box (m), for the default centres.

    A .npz is made of a checkpoint by
        numpy.savez("weights.npz", **{name: w.numpy() for name, w in torch.load(path).items()})
    -> encoder [place, unit], inputs [2, unit], recurrent [unit, unit] (from, to), decoder
    [unit, place], place_centres [place, 2] (m), float32.
    PyTorch stores [to, from]; these are transposed. Pickled lists in a .npy are read without
    executing anything.
    Raises ValueError where path is None; DataFileError where a file cannot be read, lacks an array,
    or shapes do not fit together.
    """
    if path is None:
        raise ValueError("task.weights.path must be set: a .npy or .npz file of weights")
    file = local_path(path)
    weights = _of_state_dict(file) if file.suffix == ".npz" else _of_list(file)
    num_place, num_units = weights["encoder"].shape
    if centres_path is None:
        # The original draws y over the width too, which differs in oblong boxes only.
        drawn = np.random.RandomState(0).uniform(-width_m / 2, width_m / 2, (2, num_place)).T
    else:
        drawn = _read(local_path(centres_path))
    weights["place_centres"] = drawn
    shapes = {
        "inputs": (2, num_units),
        "recurrent": (num_units, num_units),
        "decoder": (num_units, num_place),
        "place_centres": (num_place, 2),
    }
    for name, shape in shapes.items():
        if weights[name].shape != shape:
            raise DataFileError(
                f"{file} has an encoder from {num_place} place cells to {num_units} units, but "
                f"{name} has the shape {weights[name].shape} in place of {shape}"
            )
    return {name: np.asarray(array, np.float32) for name, array in weights.items()}


def _read(file: pathlib.Path) -> np.ndarray:
    try:
        return read_npy(file, objects=pickles.plain)
    except (OSError, ValueError) as error:
        raise DataFileError(f"{file} cannot be read ({one_line(error)})") from error


def _of_state_dict(file: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        arrays = read_npz(file, STATE_DICT.values())
    except (OSError, ValueError) as error:
        raise DataFileError(f"{file} cannot be read ({one_line(error)})") from error
    return {name: _matrix(file, arrays[theirs].T) for name, theirs in STATE_DICT.items()}


def _of_list(file: pathlib.Path) -> dict[str, np.ndarray]:
    arrays = list(_read(file))
    if len(arrays) != len(NAMES):
        raise DataFileError(f"{file} has {len(arrays)} arrays, but weights are {', '.join(NAMES)}")
    return {name: _matrix(file, array) for name, array in zip(NAMES, arrays, strict=True)}


def _matrix(file: pathlib.Path, array: np.ndarray) -> np.ndarray:
    if np.ndim(array) != 2 or not np.issubdtype(array.dtype, np.floating):
        raise DataFileError(f"{file} has weights that are no matrices of numbers")
    return array
