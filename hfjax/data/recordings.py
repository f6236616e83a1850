"""Recorded trajectories as NumPy arrays, read on the host before training."""

import importlib.util
import pathlib
from collections.abc import Sequence

import numpy as np

from hfjax import arena, check
from hfjax.errors import DataFileError, one_line
from hfjax.files import npz_names, read_npz


def sargolini(
    *, num_steps: int = 500, dt_s: float = 0.02, max_gap_s: float = 0.1
) -> dict[str, np.ndarray]:
    """The trajectory of a rat in a square arena, cut into pieces of equal length.

    Ten minutes of foraging in a box of 1 m x 1 m, tracked at 50 Hz. Otherwise like `trajectory`.
    num_steps, dt_s, max_gap_s: as in `trajectory`.
    Source: Sargolini et al. 2006 (doi:10.1126/science.1125572), as shipped with RatInABox.
    """
    # The arena was 1 m wide: metres are widths.
    times_s, positions = _recording(_shipped("sargolini"))
    return _pieces(times_s, positions - 0.5, num_steps, dt_s, max_gap_s)


def tanni(
    *,
    num_steps: int = 500,
    dt_s: float = 0.02,
    max_gap_s: float = 0.1,
    length_s: float = 1200.0,
) -> dict[str, np.ndarray]:
    """The trajectory of a rat in an arena of 3.5 m x 2.5 m, tracked at 30 Hz.

    The first length_s of two hours. Both coordinates are in widths of 3.5 m, so that the trajectory
    keeps its shape and covers five sevenths of a square. Otherwise like `trajectory`.
    length_s: duration that is used, from the start (s). num_steps, dt_s, max_gap_s: as in
    `trajectory`.
    Source: Tanni et al. 2022 (doi:10.1016/j.cub.2022.06.046), as shipped with RatInABox.
    """
    check.positive(length_s=length_s)
    times_s, positions = _recording(_shipped("tanni"))
    first = times_s < times_s[0] + length_s
    positions = (positions[first] - (1.75, 1.25)) / 3.5
    return _pieces(times_s[first], positions, num_steps, dt_s, max_gap_s)


def trajectory(
    *,
    path: str | None = None,
    width_m: float | None = None,
    num_steps: int = 500,
    dt_s: float = 0.02,
    max_gap_s: float | None = None,
) -> dict[str, np.ndarray]:
    """A recorded trajectory from a file, cut into pieces of equal length.

    The file is an npz with times "t" [sample] (s) and positions "pos" [sample, 2] (m), as in
    RatInABox, or "d", as pynapple saves a TsdFrame. Samples with a NaN are left out, and positions
    are interpolated to one every dt_s. The trajectory is cut where two remaining samples are more
    than max_gap_s apart. Without max_gap_s there must be no NaN, and no interval above five times
    the median interval. Each stretch between cuts is divided into pieces of num_steps steps; the
    remainder is dropped.

    path       the file.
    width_m    width of the arena (m); None for the larger extent of the trajectory.
    num_steps  time steps of a piece.
    dt_s       duration of a time step (s).
    max_gap_s  interval between samples at which the trajectory is cut (s).

    -> {"rat_positions": [piece, num_steps + 1, 2]}, float32, in widths of the arena and centred on
    the extent of the trajectory: in [-1/2, 1/2]. A model scales them to its box. The first position
    of a piece is its start.
    Raises ValueError where times are not finite or do not increase; a position is NaN or an
    interval too long, and max_gap_s is not given; the animal never moves, and width_m is not given;
    a number is not positive; or no stretch is long enough for one piece. Raises DataFileError where
    the file is not such an npz.
    """
    if path is None:
        raise ValueError("give the file of the trajectory: --fdl_set=\"data.path='FILE'\"")
    times_s, positions = _recording(pathlib.Path(path).expanduser())
    missing = ~np.isfinite(positions).all(axis=1)
    if max_gap_s is None:
        max_gap_s = _usual_gap_s(path, times_s, missing)
    tracked = positions[~missing]
    if not len(tracked):
        raise ValueError(f"all positions in {path} are NaN")
    low, high = tracked.min(axis=0), tracked.max(axis=0)
    if width_m is None and np.array_equal(low, high):
        raise ValueError(f"the animal in {path} never moves; give width_m, the width of its arena")
    width_m = float((high - low).max()) if width_m is None else width_m
    check.positive(width_m=width_m)
    return _pieces(times_s, (positions - (low + high) / 2) / width_m, num_steps, dt_s, max_gap_s)


def _usual_gap_s(path: str, times_s: np.ndarray, missing: np.ndarray) -> float:
    """Five times the median interval; ValueError for a longer interval or a missing position."""
    if missing.any():
        raise ValueError(
            f"{missing.sum()} of {len(missing)} positions in {path} are NaN, the first in row "
            f"{np.flatnonzero(missing)[0]}; give max_gap_s to cut the trajectory there"
        )
    intervals = np.diff(times_s)
    longest = np.argmax(intervals)
    max_gap_s = 5 * float(np.median(intervals))
    if intervals[longest] > max_gap_s:
        raise ValueError(
            f"rows {longest} and {longest + 1} of {path} are {intervals[longest]:g} s apart, more "
            f"than five times the median interval, {max_gap_s / 5:g} s; give max_gap_s to cut the "
            "trajectory at such gaps"
        )
    return max_gap_s


def _shipped(name: str) -> pathlib.Path:
    """The file of a recording that RatInABox ships."""
    # The package is located, not imported: its import takes seconds.
    package = importlib.util.find_spec("ratinabox")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("the recordings are part of the package ratinabox: install it")
    return pathlib.Path(package.origin).parent / "data" / f"{name}.npz"


def _recording(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    """Times [sample] (s), finite and increasing, and positions [sample, 2] of an npz."""
    try:
        names = npz_names(path)
        place = "pos" if "pos" in names else "d"
        if "t" not in names or place not in names:
            raise DataFileError(
                f'{path} must contain "t" and "pos" (or "d"), but contains {", ".join(names)}'
            )
        arrays = read_npz(path, ("t", place))  # pynapple stores pickled objects beside them
    except FileNotFoundError as error:
        raise DataFileError(f"there is no file {path}") from error
    except ValueError as error:
        raise DataFileError(f"{path} is not an npz of arrays ({one_line(error)})") from error
    times_s, positions = arrays["t"], arrays[place]
    if times_s.ndim != 1 or positions.shape != (len(times_s), 2):
        raise DataFileError(
            f"{path} must contain t [sample] and positions [sample, 2], but their shapes are "
            f"{times_s.shape} and {positions.shape}"
        )
    if len(times_s) < 2:
        raise DataFileError(f"{path} must contain at least two samples, not {len(times_s)}")
    try:
        times_s, positions = times_s.astype(float), positions.astype(float)
    except (TypeError, ValueError) as error:
        raise DataFileError(f"{path} must contain numbers only") from error
    fine = np.isfinite(times_s) & np.append(True, np.diff(times_s) > 0)  # later than before
    if not fine.all():
        raise ValueError(
            f"times in {path} must be finite and increase, but do not at row "
            f"{np.flatnonzero(~fine)[0]}"
        )
    return times_s, positions


def _pieces(
    times_s: np.ndarray, positions: np.ndarray, num_steps: int, dt_s: float, max_gap_s: float
) -> dict[str, np.ndarray]:
    """A trajectory, in widths of the arena, cut into pieces; see `trajectory`."""
    check.at_least(1, num_steps=num_steps)
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


def save_series(
    path: str | pathlib.Path, times_s: np.ndarray, values: np.ndarray, *, columns: Sequence[str]
) -> None:
    """Writes positions, velocities or rates over time as an npz that pynapple opens as a TsdFrame.

    times_s [time] (s), values [time, column], columns: their names, e.g. ("x", "y").
    `pynapple.load_file(path)` reads it, and so does `trajectory`. The npz contains "t", "d" and
    "columns" (these arrays), "start" and "end" [1] of the recording, and "type" (TsdFrame).
    Raises ValueError where shapes do not match, or times are not finite or do not increase.
    """
    times_s, values = np.asarray(times_s, float), np.asarray(values)
    if values.shape != (len(times_s), len(columns)):
        raise ValueError(
            f"values must be [{len(times_s)} times, {len(columns)} columns], but are {values.shape}"
        )
    if not (len(times_s) and np.isfinite(times_s).all() and np.all(np.diff(times_s) > 0)):
        raise ValueError("times_s must be finite and increase from sample to sample, but do not")
    np.savez_compressed(
        path,
        t=times_s,
        d=values,
        start=times_s[:1],
        end=times_s[-1:],
        columns=np.asarray(columns),
        type=np.array(["TsdFrame"]),
    )
