"""What cannot be, or is probably not meant, in a recording of an animal's positions.

Each function raises ValueError with one sentence: what is suspected, and which argument of
`recordings.trajectory` settles it.
"""

import pathlib
from collections.abc import Sequence

import numpy as np

# Tracking has from 2 to some 1000 samples a second (the latter where it has the rate of the LFP).
SHORTEST_S, LONGEST_S = 7e-4, 0.5
_UNITS_S = {
    "milliseconds": 1e-3,
    "microseconds": 1e-6,
    "nanoseconds": 1e-9,
    "minutes": 60.0,
    "hours": 3600.0,
}


def time_unit(path: str | pathlib.Path, times: np.ndarray) -> None:
    """Refuse times [sample] that are probably not in seconds."""
    interval = float(np.median(times[1:] - times[:-1]))
    if SHORTEST_S <= interval <= LONGEST_S:
        return
    if interval == 1:
        suspicion = "the numbers of frames: give time_unit_s=1/FRAMES_PER_SECOND"
    else:
        likely = next(
            (n for n, s in _UNITS_S.items() if 4e-3 <= interval * s <= LONGEST_S), "another unit"
        )
        suspicion = f"in {likely}: give time_unit_s={_UNITS_S.get(likely, 'SECONDS')}"
    raise ValueError(
        f"times in {path} are {interval:g} apart (median), which are not seconds of a tracked "
        f"animal; they are probably {suspicion} (time_unit_s=1 where they are seconds)"
    )


def width(path: str | pathlib.Path, extent: float, width_m: float, unit_m: float | None) -> None:
    """Refuse an arena that is smaller than the trajectory, or, where no unit is given, far larger.

    extent: of the trajectory, in the units of the file.
    """
    unit = 1.0 if unit_m is None else unit_m
    ratio = extent * unit / width_m
    if ratio <= 1.1 and (unit_m is not None or ratio >= 0.05 or ratio == 0):
        return
    guesses = {"centimetres": 0.01, "millimetres": 0.001}
    likely = [n for n, metres in guesses.items() if 0.3 <= ratio * metres <= 1.1]
    if unit_m is not None or ratio <= 1.1 or not likely:
        suspicion = "check width_m and position_unit_m, the file's unit in metres"
    else:
        suspicion = f"are they in {likely[0]}? Then give position_unit_m={guesses[likely[0]]:g}"
    raise ValueError(
        f"positions in {path} extend over {extent * unit:g} m, but width_m is {width_m:g}; "
        f"{suspicion}"
    )


def marks(lost: float | Sequence[float]) -> np.ndarray:
    """The values that mark lost tracking."""
    try:
        return np.asarray(lost, float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"lost must be a number or a list of numbers, but is {lost!r}") from error


def lost_tracking(path: str | pathlib.Path, positions: np.ndarray, *, min_samples: int = 1) -> None:
    """Refuse values that probably mark lost tracking, such as 0, -1 or 1023.

    positions [sample, 2], finite, at least one. A value of a coordinate is suspected that is its
    lowest, highest or most frequent one, and that is reached and left by jumps: above a tenth of
    the extent of the other samples, and above five times nearly all their steps (the 99th
    percentile), and that min_samples samples have. What is suspected is set aside, and the others
    are looked at again, up to five times.
    """
    marks: list[float] = []
    first, rest = "", positions
    while len(rest) and len(marks) < 5 and (suspect := _mark(rest, min_samples)):
        axis, value = suspect
        marks.append(value)
        lost = rest[:, axis] == value
        first = first or f"{lost.sum()} of {len(rest)} positions in {path} have the {'xy'[axis]}"
        rest = rest[~(rest == value).any(axis=1)]
    if marks:
        give = marks[0] if len(marks) == 1 else marks
        raise ValueError(
            f"{first} {marks[0]:g}, a jump away from those before and after, which probably marks "
            f"lost tracking: give lost={give} to leave them out, or lost=[] to keep them"
        )


def _mark(positions: np.ndarray, min_samples: int) -> tuple[int, float] | None:
    """An axis, and a value along it that probably marks lost tracking."""
    for axis, along in enumerate(positions.T):
        values, counts = np.unique(along, return_counts=True)
        for value in (values[0], values[-1], values[np.argmax(counts)]):
            here = along == value
            if here.sum() >= min_samples and _jumps(along, here):
                return axis, float(value)
    return None


def _jumps(along: np.ndarray, here: np.ndarray) -> bool:
    """Whether the samples marked in `here` [sample] are reached and left by jumps."""
    borders = here[1:] != here[:-1]
    apart = ~here[1:] & ~here[:-1]
    if not borders.any() or not apart.any():
        return False
    steps = np.abs(along[1:] / 2 - along[:-1] / 2)  # halves, so that no difference overflows
    others = along[~here] / 2
    usual, jump = np.quantile(steps[apart], 0.99), np.median(steps[borders])
    return bool(jump / 5 > usual and jump > 0.1 * (others.max() - others.min()))


def interpolation(times_s: np.ndarray, dt_s: float, max_gap_s: float) -> None:
    """Refuse a dt_s that would interpolate a thousand positions for each sample."""
    intervals = times_s[1:] - times_s[:-1]
    count = float(intervals[intervals <= max_gap_s].sum()) / dt_s
    if count > 1000 * len(times_s):
        raise ValueError(
            f"dt_s = {dt_s:g} s would make {count:.3g} positions of {len(times_s)} samples; "
            "check dt_s and time_unit_s, the file's unit in seconds"
        )
