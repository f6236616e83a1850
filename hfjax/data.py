"""Recorded data as pytrees of NumPy arrays, read on the host before training."""

import importlib.util
import pathlib

import numpy as np

from hfjax import arena, check


def sargolini(
    *, num_steps: int = 500, dt_s: float = 0.02, max_gap_s: float = 0.1
) -> dict[str, np.ndarray]:
    """A real rat's path through a square arena, cut into pieces of equal length.

    Ten minutes of foraging in a box of 1 m x 1 m, tracked at 50 Hz. Positions are interpolated to
    one every dt_s; tracking gaps longer than max_gap_s and missing samples cut the path; each
    stretch between cuts is divided into pieces of num_steps steps, and its remainder dropped.

    -> {"rat_positions": [piece, num_steps + 1, 2]}, float32, in widths of the arena and centred on
    0, so in [-1/2, 1/2]. A model scales them to the width of its own box. The first position of a
    piece is its start.
    Raises ValueError where num_steps is below 1, dt_s or max_gap_s is not positive, or no stretch
    is long enough for one piece.
    Source: Sargolini et al. 2006 (doi:10.1126/science.1125572), as shipped with RatInABox.
    """
    check.at_least(1, num_steps=num_steps)
    # Found, not imported: the file is all that is needed, and the import takes seconds.
    package = importlib.util.find_spec("ratinabox")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("the rat's path comes with the package ratinabox: install it")
    with np.load(pathlib.Path(package.origin).parent / "data" / "sargolini.npz") as recording:
        # The arena was 1 m wide, so that metres are widths.
        times_s, positions = recording["t"], recording["pos"] - 0.5
    stretches = arena.resample_trajectory(times_s, positions, dt_s=dt_s, max_gap_s=max_gap_s)
    pieces = [
        stretch[first : first + num_steps + 1]
        for stretch in stretches
        for first in range(0, len(stretch) - num_steps, num_steps)
    ]
    if not pieces:
        longest = max((len(stretch) - 1 for stretch in stretches), default=0)
        raise ValueError(
            f"num_steps must be at most {longest}, the longest stretch without a gap, "
            f"but is {num_steps}"
        )
    return {"rat_positions": np.stack(pieces).astype(np.float32)}
