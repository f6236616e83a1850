"""Recorded trajectories as NumPy arrays, read on the host before training."""

import importlib.util
import pathlib
from collections.abc import Sequence

import numpy as np

from hfjax import arena, check
from hfjax.data import suspects, tables
from hfjax.errors import DataFileError
from hfjax.files import local_path


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
    path: str,
    width_m: float | None = None,
    num_steps: int = 500,
    dt_s: float = 0.02,
    max_gap_s: float | None = None,
    time: tables.Column | None = None,
    columns: Sequence[tables.Column] | None = None,
    time_unit_s: float | None = None,
    position_unit_m: float | None = None,
    lost: float | Sequence[float] | None = None,
    drop_repeated_times: bool = False,
) -> dict[str, np.ndarray]:
    """A recorded trajectory from a file, cut into pieces of equal length.

    The file: an npz with times "t" [sample] (s) and positions "pos" [sample, 2] (m), as in
    RatInABox, or "d", as pynapple saves a TsdFrame; or a csv, tsv, txt or mat.

    Samples without a position (NaN) are left out, and positions are interpolated to one every dt_s.
    The trajectory is cut where two remaining samples are more than max_gap_s apart. Without
    max_gap_s there must be no NaN, and no interval above five times the median interval. Each
    stretch between cuts is divided into pieces of num_steps steps; the remainder is dropped.
    Times and sizes that are implausible in s and m are refused where no unit is given.

    path                 the file.
    width_m              width of the arena (m); None for the larger extent of the trajectory.
    num_steps            time steps of a piece.
    dt_s                 duration of a time step (s).
    max_gap_s            interval between samples at which the trajectory is cut (s).
    time                 column of the times, a name or number, as in `tables.times_and_positions`.
    columns              the two columns of the positions, names or numbers, as there.
    time_unit_s          unit of the file's times (s): 0.001 for ms; None for seconds.
    position_unit_m      unit of the file's positions (m): 0.01 for cm; None for metres.
    lost                 values of a coordinate that mark lost tracking, such as -1; [] for none,
                         None to have them looked for, and refused.
    drop_repeated_times  whether to keep only the first of samples with the same time.

    -> {"rat_positions": [piece, num_steps + 1, 2]}, float32, in widths of the arena and centred on
    the extent of the trajectory: in [-1/2, 1/2], or up to .55 where width_m is given and the
    animal leaned over the walls. A model scales them to its box. The first position of a piece is
    its start.
    Raises ValueError where times are not finite or do not increase; a position is NaN or an
    interval too long, and max_gap_s is not given; the animal never moves, and width_m is not given;
    the extent is above 1.1 width_m; a unit is implausible, or a value seems to mark lost tracking;
    dt_s gives more than a thousand positions for each sample; a number is not positive; or no
    stretch is long enough for one piece. Raises DataFileError where the file is not as described.
    """
    units = {"time_unit_s": time_unit_s, "position_unit_m": position_unit_m}
    check.positive(**{name: unit for name, unit in units.items() if unit is not None})
    times_s, positions = _recording(
        local_path(path),
        time=time,
        columns=columns,
        time_unit_s=time_unit_s,
        drop_repeated_times=drop_repeated_times,
    )
    missing = ~np.isfinite(positions).all(axis=1)
    if lost is None and not missing.all():
        suspects.lost_tracking(path, positions[~missing])
    elif lost is not None:
        missing |= np.isin(positions, suspects.marks(lost)).any(axis=1)
    if max_gap_s is None:
        max_gap_s = _usual_gap_s(path, times_s, missing)
    positions = _in_widths(path, positions, missing, width_m, position_unit_m)
    return _pieces(times_s, positions, num_steps, dt_s, max_gap_s)


def _in_widths(
    path: str,
    positions: np.ndarray,
    missing: np.ndarray,
    width_m: float | None,
    unit_m: float | None,
) -> np.ndarray:
    """Positions in widths of the arena, centred on their extent; NaN where missing."""
    tracked = positions[~missing]
    if not len(tracked):
        raise ValueError(f"{path} has no positions: all of them are NaN or mark lost tracking")
    low, high = tracked.min(axis=0), tracked.max(axis=0)
    half = float((high / 2 - low / 2).max())  # halves, so that no difference overflows
    if width_m is None and half == 0:
        raise ValueError(f"the animal in {path} never moves; give width_m, the width of its arena")
    if width_m is not None:
        check.positive(width_m=width_m)
        suspects.width(path, 2 * half, width_m, unit_m)
        half = width_m / (1.0 if unit_m is None else unit_m) / 2
    return (np.where(missing[:, None], np.nan, positions) / 2 - (low / 4 + high / 4)) / half


def _usual_gap_s(path: str, times_s: np.ndarray, missing: np.ndarray) -> float:
    """Five times the median interval; ValueError for a longer interval or a missing position."""
    if missing.any():
        raise ValueError(
            f"{missing.sum()} of {len(missing)} positions in {path} are NaN or mark lost tracking, "
            f"the first in row {np.flatnonzero(missing)[0]}; give max_gap_s to cut the trajectory "
            "there"
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


def _recording(
    path: pathlib.Path,
    *,
    time: tables.Column | None = None,
    columns: Sequence[tables.Column] | None = None,
    time_unit_s: float | None = None,
    drop_repeated_times: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Times [sample] (s), finite and increasing, and positions [sample, 2] of a file."""
    times, positions = tables.times_and_positions(path, time=time, columns=columns)
    with np.errstate(over="ignore"):
        times = times * (1.0 if time_unit_s is None else time_unit_s)
    if drop_repeated_times:
        first = np.append(True, times[1:] != times[:-1])[: len(times)]
        times, positions = times[first], positions[first]
    if len(times) < 2:
        raise DataFileError(f"{path} must contain at least two samples, not {len(times)}")
    # Above 1e300, an interval could overflow.
    fine = (np.abs(times) < 1e300) & np.append(True, times[1:] > times[:-1])
    if not fine.all():
        row = np.flatnonzero(~fine)[0]
        same = row > 0 and times[row] == times[row - 1]
        raise ValueError(
            f"times in {path} must be finite and increase, but do not at row {row}"
            + ("; drop_repeated_times=True keeps the first of equal times" if same else "")
        )
    if time_unit_s is None:
        suspects.time_unit(path, times)
    return times, positions


def _pieces(
    times_s: np.ndarray, positions: np.ndarray, num_steps: int, dt_s: float, max_gap_s: float
) -> dict[str, np.ndarray]:
    """A trajectory, in widths of the arena, cut into pieces; see `trajectory`."""
    check.at_least(1, num_steps=num_steps)
    check.positive(dt_s=dt_s, max_gap_s=max_gap_s)
    suspects.interpolation(times_s, dt_s, max_gap_s)
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
    times_s, values = np.asarray(times_s), np.asarray(values)
    for name, array in (("times_s", times_s), ("values", values)):
        if array.dtype.kind not in "iufb":
            raise ValueError(f"{name} must be real numbers, but are of type {array.dtype}")
    times_s = times_s.astype(float)
    if times_s.ndim != 1:
        raise ValueError(f"times_s must be [time], but are {times_s.shape}")
    if values.shape != (len(times_s), len(columns)):
        raise ValueError(
            f"values must be [{len(times_s)} times, {len(columns)} columns], but are {values.shape}"
        )
    if not (len(times_s) and np.isfinite(times_s).all() and np.all(times_s[1:] > times_s[:-1])):
        raise ValueError("times_s must be finite and increase from sample to sample, but do not")
    np.savez_compressed(
        local_path(path),
        t=times_s,
        d=values,
        start=times_s[:1],
        end=times_s[-1:],
        columns=np.asarray(columns),
        type=np.array(["TsdFrame"]),
    )
