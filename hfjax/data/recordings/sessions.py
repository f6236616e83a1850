"""A recorded session: where an animal was, where it looked, and when its cells fired."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from hfjax import check
from hfjax.data import suspects
from hfjax.errors import DataFileError

MOST_M, LEAST_M = 30.0, 0.05  # plausible widths of an arena


class Problem(NamedTuple):
    """What was wrong in a recording and was set right, in one sentence.

    unit: name of the unit concerned; empty where it concerns the tracking.
    """

    unit: str
    text: str


class Recording(NamedTuple):
    """A session of one animal.

    name            of the session.
    times_s         [sample], of the tracking (s); they increase.
    positions_m     [sample, 2] (m); NaN where tracking was lost.
    head_direction  [sample] (rad, counter-clockwise from x); NaN where unknown. None without any.
    spike_times_s   {unit: [spike]}: times of spikes (s), in order.
    counts          {unit: [sample]}: spikes in the interval around each sample, for units whose
                    times are not known.
    epochs_s        [epoch, 2]: start and end (s) of the times to use; None for all.
    problems        what was set right when it was read.
    """

    name: str
    times_s: np.ndarray
    positions_m: np.ndarray
    head_direction: np.ndarray | None
    spike_times_s: Mapping[str, np.ndarray]
    counts: Mapping[str, np.ndarray]
    epochs_s: np.ndarray | None
    problems: tuple[Problem, ...] = ()


def from_arrays(
    *,
    name: str,
    times: np.ndarray,
    positions: np.ndarray,
    head_direction: np.ndarray | None = None,
    spike_times: Mapping[str, np.ndarray] | None = None,
    counts: Mapping[str, np.ndarray] | None = None,
    epochs: np.ndarray | None = None,
    time_unit_s: float | None = None,
    spike_unit_s: float | None = None,
    position_unit_m: float | None = None,
    lost: float | Sequence[float] | None = None,
) -> Recording:
    """A recording from arrays in any units; faults of a unit are set right and told.

    name             of the session, for messages.
    times            [sample], of the tracking, in time_unit_s.
    positions        [sample, 2], in position_unit_m; NaN where tracking was lost.
    head_direction   [sample] (rad); see `two_leds`.
    spike_times      {unit: [spike]}, in spike_unit_s.
    counts           {unit: [sample]}: spikes in the interval around each sample.
    epochs           [epoch, 2], start and end, in time_unit_s.
    time_unit_s      unit of the tracking's times (s): 0.001 for ms; None for seconds, checked.
    spike_unit_s     unit of the spike times (s); None for that of the tracking.
    position_unit_m  unit of the positions (m): 0.01 for cm, 1 / (pixels per metre) for pixels; None
                     for metres, checked.
    lost             values of a coordinate that mark lost tracking, such as -1; [] for none, None
                     to have them looked for, and refused.

    Set right, each with a `Problem`: samples at the time of the one before are dropped; spikes that
    are not in order are sorted; spikes at the same time, without a time, or outside of the tracking
    are left out. A unit without spikes stays, with a `Problem`.
    Raises ValueError in one sentence where times of the tracking are not finite or go back; all
    positions are lost; a unit of time or length is implausible; the clocks of spikes and tracking
    differ; or shapes do not match.
    """
    units = {"time_unit_s": time_unit_s, "position_unit_m": position_unit_m}
    units["spike_unit_s"] = spike_unit_s
    check.positive(**{key: unit for key, unit in units.items() if unit is not None})
    times_s = _floats(name, "times", times) * (1.0 if time_unit_s is None else time_unit_s)
    positions = _floats(name, "positions", positions)
    heading = None if head_direction is None else _floats(name, "head_direction", head_direction)
    counts = {unit: _floats(name, unit, values) for unit, values in (counts or {}).items()}
    _check_shapes(name, times_s, positions, {"head_direction": heading, **counts})
    kept, problems = _kept_samples(name, times_s)
    times_s, positions = times_s[kept], positions[kept]
    if time_unit_s is None:
        suspects.time_unit(name, times_s)
    positions_m = _in_metres(name, positions, position_unit_m, lost)
    scale = spike_unit_s or time_unit_s or 1.0
    spikes = {
        unit: _floats(name, unit, values).ravel() * scale
        for unit, values in (spike_times or {}).items()
    }
    _check_clocks(name, times_s, spikes)
    fine = {}
    for unit, values in spikes.items():
        fine[unit], found = _fine_spikes(unit, values, times_s)
        problems += found
    counts = {unit: values[kept] for unit, values in counts.items()}
    problems += [Problem(u, f"unit {u} has no spikes") for u, n in counts.items() if not n.any()]
    return Recording(
        name=name,
        times_s=times_s,
        positions_m=positions_m,
        head_direction=None if heading is None else heading[kept],
        spike_times_s=fine,
        counts=counts,
        epochs_s=_checked_epochs(name, epochs, time_unit_s),
        problems=tuple(problems),
    )


def two_leds(
    front: np.ndarray, back: np.ndarray, *, offset_rad: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Position and head direction from two LEDs on the head.

    The position is the middle of both, the direction that from back to front, plus offset_rad.
    Where one LED is lost, the position is that of the other, and the direction is NaN.

    front, back [sample, 2], any unit -> positions [sample, 2], directions [sample] (rad, 0 to
    2 pi). The mean vector length of a cell does not depend on which LED is in front.
    """
    front, back = np.asarray(front, float), np.asarray(back, float)
    middle = (front + back) / 2
    middle = np.where(np.isnan(middle), np.where(np.isnan(front), back, front), middle)
    x, y = (front - back).T
    known = np.hypot(x, y) > 0  # False where NaN
    return middle, np.where(known, (np.arctan2(y, x) + offset_rad) % (2 * np.pi), np.nan)


# --- Checks ---


def _floats(name: str, what: str, values: np.ndarray) -> np.ndarray:
    """An array as float64."""
    array = np.asarray(values)
    if array.dtype.kind not in "iufb":
        raise DataFileError(f"{what} of {name} must be numbers, but are of type {array.dtype}")
    return array.astype(float)


def _check_shapes(
    name: str,
    times: np.ndarray,
    positions: np.ndarray,
    per_sample: Mapping[str, np.ndarray | None],
) -> None:
    if times.ndim != 1 or positions.shape != (len(times), 2) or len(times) < 2:
        raise DataFileError(
            f"{name} must contain times [sample] and positions [sample, 2] of two samples or more, "
            f"but their shapes are {times.shape} and {positions.shape}"
        )
    for what, values in per_sample.items():
        if values is not None and values.shape != times.shape:
            raise DataFileError(
                f"{what} of {name} must have a number for each of {len(times)} samples, but is of "
                f"shape {values.shape}"
            )


def _kept_samples(name: str, times_s: np.ndarray) -> tuple[np.ndarray, list[Problem]]:
    """Which samples [sample] have a later time than all before."""
    back = np.flatnonzero(~np.isfinite(times_s) | np.append(False, times_s[1:] < times_s[:-1]))
    if len(back):
        raise ValueError(
            f"times in {name} must be finite and increase, but do not at sample {back[0]}: sort "
            "the samples by time, or give each session its own file"
        )
    kept = np.append(True, times_s[1:] > times_s[:-1])
    repeated = int(np.sum(~kept))
    if kept.sum() < 2:
        raise ValueError(f"all samples of {name} have the same time")
    text = f"{repeated} samples of {name} at the time of the sample before are left out"
    return kept, [Problem("", text)] if repeated else []


def _in_metres(
    name: str, positions: np.ndarray, unit_m: float | None, lost: float | Sequence[float] | None
) -> np.ndarray:
    """Positions (m), NaN where tracking was lost."""
    missing = ~np.isfinite(positions).all(axis=1)
    if lost is None and not missing.all():
        # A jump that occurs once is left to the cleaning.
        suspects.lost_tracking(name, positions[~missing], min_samples=10)
    elif lost is not None:
        missing |= np.isin(positions, suspects.marks(lost)).any(axis=1)
    if missing.all():
        raise ValueError(f"{name} has no positions: all of them are NaN or mark lost tracking")
    tracked = positions[~missing] * (unit_m or 1.0)
    extent = float((tracked.max(axis=0) - tracked.min(axis=0)).max())
    if extent > MOST_M:
        likely = (
            "check position_unit_m, the file's unit in metres"
            if unit_m is not None
            else "are they in centimetres (then give position_unit_m=0.01), millimetres (0.001) "
            "or pixels (1 / pixels per metre)?"
        )
        raise ValueError(f"positions in {name} extend over {extent:.4g} m: {likely}")
    if extent < LEAST_M:
        raise ValueError(
            f"positions in {name} extend over only {extent:.3g} m: does the animal move, and is "
            "the unit metres (position_unit_m)?"
        )
    return np.where(missing[:, None], np.nan, positions * (unit_m or 1.0))


def _check_clocks(name: str, times_s: np.ndarray, spikes: Mapping[str, np.ndarray]) -> None:
    """Refuse spike times of another clock, or in another unit, than those of the tracking."""
    every = np.concatenate([np.zeros(0), *spikes.values()])
    every = every[np.isfinite(every)]
    if len(every) < 20:
        return
    start, end = float(times_s[0]), float(times_s[-1])
    outside = float(np.mean((every < start) | (every > end)))
    last = float(every.max())
    squeezed = last - start < 0.02 * (end - start)
    if outside <= 0.98 and not squeezed:  # a session may be a small part of what was recorded
        return
    raise ValueError(
        f"the clocks of spikes and tracking in {name} differ: spikes are from {every.min():.6g} to "
        f"{last:.6g} s, tracking is from {start:.6g} to {end:.6g} s; give spike_unit_s, or shift "
        "one of them"
    )


def _fine_spikes(
    unit: str, spikes: np.ndarray, times_s: np.ndarray
) -> tuple[np.ndarray, list[Problem]]:
    """Spikes of one unit in order, without those that cannot be used."""
    texts = []
    finite = spikes[np.isfinite(spikes)]
    if len(finite) < len(spikes):
        texts.append(f"{len(spikes) - len(finite)} spikes of unit {unit} without a time")
    ordered = np.unique(finite)
    if len(ordered) < len(finite):
        texts.append(f"{len(finite) - len(ordered)} spikes of unit {unit} at a time of another")
    half_s = float(np.median(np.diff(times_s))) / 2
    inside = (ordered >= times_s[0] - half_s) & (ordered <= times_s[-1] + half_s)
    if not inside.all():
        texts.append(
            f"{np.sum(~inside)} of {len(ordered)} spikes of unit {unit} outside of the tracking "
            f"({times_s[0]:.6g} to {times_s[-1]:.6g} s)"
        )
    problems = [Problem(unit, f"{text} are left out") for text in texts]
    if np.any(finite[1:] < finite[:-1]):
        problems.append(Problem(unit, f"spikes of unit {unit} were not in order and are sorted"))
    if not inside.any():
        problems.append(Problem(unit, f"unit {unit} has no spikes"))
    return ordered[inside], problems


def _checked_epochs(
    name: str, epochs: np.ndarray | None, unit_s: float | None
) -> np.ndarray | None:
    if epochs is None:
        return None
    epochs_s = _floats(name, "epochs", epochs) * (unit_s or 1.0)
    if epochs_s.ndim != 2 or epochs_s.shape[1] != 2 or not (epochs_s[:, 0] < epochs_s[:, 1]).all():
        raise ValueError(f"epochs of {name} must be [epoch, 2], each with a start before its end")
    return epochs_s
