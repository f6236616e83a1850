"""From a recording to samples that can be analysed: regular, smoothed, and only while running."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from hfjax import check
from hfjax.data.recordings.sessions import Problem, Recording


class Cleaned(NamedTuple):
    """A recording at regular samples.

    name            of the session.
    dt_s            interval of the samples (s).
    times_s         [sample] (s), every dt_s, but for the gaps between epochs.
    positions_m     [sample, 2] (m); NaN where the sample is not analysed.
    head_direction  [sample] (rad); NaN where the sample is not analysed. None without any.
    speed_mps       [sample] (m/s); NaN where tracking was lost.
    counts          [sample, unit]: spikes of each unit in the interval around each sample.
    units           names of the units.
    spike_times_s   {unit: [spike]} (s), within the epochs; none for units that came as counts.
    choices         every choice that was made, by the name of its argument.
    shares          what became of the samples: "lost_tracking", "jumps", "interpolated", "slow",
                    "analysed", each a share of all samples.
    problems        of the recording, and of this cleaning.
    """

    name: str
    dt_s: float
    times_s: np.ndarray
    positions_m: np.ndarray
    head_direction: np.ndarray | None
    speed_mps: np.ndarray
    counts: np.ndarray
    units: tuple[str, ...]
    spike_times_s: Mapping[str, np.ndarray]
    choices: Mapping[str, float]
    shares: Mapping[str, float]
    problems: tuple[Problem, ...]


def clean(
    recording: Recording,
    *,
    max_jump_mps: float = 2.0,
    max_gap_s: float = 0.5,
    smoothing_s: float = 0.1,
    min_speed_mps: float = 0.025,
    max_speed_mps: float = 1.5,
    epochs_s: np.ndarray | None = None,
) -> Cleaned:
    """What is done to a recording before it is analysed, in this order.

    1. Jumps: a sample that is further from the last good one than max_jump_mps allows is lost.
    2. Samples are put at regular times, with the median interval; positions are interpolated
       linearly across gaps of up to max_gap_s, and stay NaN across longer ones.
    3. Positions are smoothed by a Gaussian in time.
    4. Speed is the central difference of the smoothed positions. Slower and faster samples are not
       analysed: while an animal sits, theta stops and cells replay.
    5. Spikes are counted in the interval around each sample. Only epochs are kept.

    max_jump_mps   speed (m/s) above which tracking has jumped; inf keeps every sample.
    max_gap_s      longest gap that is interpolated (s).
    smoothing_s    standard deviation of the smoothing (s); 0 for none. 0.1 s is that of the boxcar
                   of 0.4 s in Sargolini et al. 2006.
    min_speed_mps  least speed that is analysed (m/s); 0 for every sample with a position.
    max_speed_mps  greatest speed that is analysed (m/s).
    epochs_s       [epoch, 2], start and end (s); None for those of the recording.

    Raises ValueError where a number is negative, an epoch contains no sample, there are far more
    gaps than samples, or nothing is left to analyse.
    """
    choices = {
        "max_jump_mps": max_jump_mps,
        "max_gap_s": max_gap_s,
        "smoothing_s": smoothing_s,
        "min_speed_mps": min_speed_mps,
        "max_speed_mps": max_speed_mps,
    }
    _check_choices(choices)
    name, times = recording.name, recording.times_s
    dt_s = float(np.median(np.diff(times)))
    grid = _grid(name, times, dt_s)
    tracked = np.isfinite(recording.positions_m).all(axis=1)
    jumped = _jumps(times, recording.positions_m, tracked, max_jump_mps)
    good = tracked & ~jumped
    positions = _interpolated(grid, times[good], recording.positions_m[good], dt_s, max_gap_s)
    with_position = np.isfinite(positions[:, 0])
    positions = _smoothed(positions, smoothing_s / dt_s)
    speed = _speed(positions, dt_s)
    running = (speed >= min_speed_mps) & (speed <= max_speed_mps)
    analysed = running if min_speed_mps > 0 else with_position & ~(speed > max_speed_mps)
    epochs = recording.epochs_s if epochs_s is None else np.asarray(epochs_s, float)
    kept = _in_epochs(name, grid, epochs)
    if not (analysed & kept).any():
        raise ValueError(
            f"nothing of {name} is left to analyse: no sample has a position and a speed from "
            f"{min_speed_mps:g} to {max_speed_mps:g} m/s"
        )
    shares = {
        "lost_tracking": 1 - np.mean(tracked),
        "jumps": np.mean(jumped),
        "interpolated": max(0.0, np.mean(with_position) - np.mean(good)),
        "slow": np.mean((speed < min_speed_mps)[kept]),
        "analysed": np.mean(analysed[kept]),
    }
    counts, units = _counts(recording, grid)
    heading = recording.head_direction
    if heading is not None:
        heading = _interpolated_direction(grid, times, heading, dt_s, max_gap_s)
        heading = np.where(analysed, heading, np.nan)[kept]
    return Cleaned(
        name=name,
        dt_s=dt_s,
        times_s=grid[kept],
        positions_m=np.where(analysed[:, None], positions, np.nan)[kept],
        head_direction=heading,
        speed_mps=speed[kept],
        counts=counts[kept],
        units=units,
        spike_times_s={
            unit: spikes if epochs is None else spikes[_inside(spikes, epochs)]
            for unit, spikes in recording.spike_times_s.items()
        },
        choices=choices,
        shares={key: float(share) for key, share in shares.items()},
        problems=recording.problems,
    )


def _check_choices(choices: Mapping[str, float]) -> None:
    check.not_negative(**{n: v for n, v in choices.items() if not n.startswith("max_")})
    for name in ("max_jump_mps", "max_gap_s", "max_speed_mps"):
        if not choices[name] > 0:
            raise ValueError(f"{name} must be positive, but is {choices[name]}")


def _grid(name: str, times: np.ndarray, dt_s: float) -> np.ndarray:
    """Regular times; the recording's own where they are regular to a hundredth of an interval."""
    if np.abs(np.diff(times) / dt_s - 1).max() < 0.01:
        return times
    count = round((times[-1] - times[0]) / dt_s) + 1
    if count > 10 * len(times) + 1000:
        raise ValueError(
            f"the tracking of {name} covers {len(times) / count:.2g} of its duration of "
            f"{times[-1] - times[0]:.4g} s: give its sessions as epochs, or as files of their own"
        )
    return times[0] + dt_s * np.arange(count)


def _jumps(
    times: np.ndarray, positions: np.ndarray, tracked: np.ndarray, max_mps: float
) -> np.ndarray:
    """Samples [sample] that cannot be reached from the last good one at max_mps."""
    jumped = np.zeros(len(times), bool)
    index = np.flatnonzero(tracked)
    steps = np.linalg.norm(np.diff(positions[index], axis=0), axis=1)
    if len(index) < 2 or not (steps > max_mps * np.diff(times[index])).any():
        return jumped
    last = index[0]
    for now in index[1:]:
        distance = np.hypot(*(positions[now] - positions[last]))
        if distance > max_mps * (times[now] - times[last]):
            jumped[now] = True
        else:
            last = now
    return jumped


def _interpolated(
    grid: np.ndarray, times: np.ndarray, values: np.ndarray, dt_s: float, max_gap_s: float
) -> np.ndarray:
    """Values [sample, column] at the times of a grid; NaN within gaps above max_gap_s."""
    after = np.clip(np.searchsorted(times, grid), 1, max(1, len(times) - 1))
    before = after - 1
    if len(times) < 2:
        return np.full((len(grid), values.shape[1]), np.nan)
    near = np.minimum(np.abs(grid - times[before]), np.abs(grid - times[after])) < dt_s / 2
    between = (grid > times[before]) & (grid < times[after])
    known = near | (between & (times[after] - times[before] <= max_gap_s + dt_s / 2))
    columns = [np.where(known, np.interp(grid, times, column), np.nan) for column in values.T]
    return np.stack(columns, axis=1)


def _interpolated_direction(
    grid: np.ndarray, times: np.ndarray, angles: np.ndarray, dt_s: float, max_gap_s: float
) -> np.ndarray:
    """Directions [sample] (rad) at the times of a grid, by their unit vectors."""
    known = np.isfinite(angles)
    vectors = np.stack([np.cos(angles[known]), np.sin(angles[known])], axis=1)
    x, y = _interpolated(grid, times[known], vectors, dt_s, max_gap_s).T
    return np.arctan2(y, x) % (2 * np.pi)


def _smoothed(positions: np.ndarray, sigma: float) -> np.ndarray:
    """Positions smoothed by a Gaussian of sigma samples, over samples that have one."""
    if sigma == 0:
        return positions
    known = np.isfinite(positions[:, :1])
    smooth = ndimage.gaussian_filter1d(
        np.where(known, positions, 0.0), sigma, axis=0, mode="constant"
    )
    weight = ndimage.gaussian_filter1d(known.astype(float), sigma, axis=0, mode="constant")
    return np.where(known, smooth / np.where(known, weight, 1), np.nan)


def _speed(positions: np.ndarray, dt_s: float) -> np.ndarray:
    """Speed [sample] (m/s): central differences, one-sided beside a gap."""
    steps = np.diff(positions, axis=0, prepend=np.nan, append=np.nan)
    before, after = steps[:-1], steps[1:]
    before, after = (
        np.where(np.isnan(before), after, before),
        np.where(np.isnan(after), before, after),
    )
    return np.linalg.norm((before + after) / 2, axis=1) / dt_s


def _counts(recording: Recording, grid: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Spikes in the interval around each time of the grid [sample, unit], and the units' names."""
    edges = (grid[1:] + grid[:-1]) / 2
    columns = {
        unit: np.bincount(np.searchsorted(edges, spikes, side="right"), minlength=len(grid))
        for unit, spikes in recording.spike_times_s.items()
    }
    nearest = np.searchsorted(edges, recording.times_s, side="right")
    for unit, values in recording.counts.items():
        columns[unit] = np.bincount(nearest, values, minlength=len(grid))
    if not columns:
        return np.zeros((len(grid), 0), np.float32), ()
    return np.stack(list(columns.values()), axis=1).astype(np.float32), tuple(columns)


def _inside(times: np.ndarray, epochs: np.ndarray) -> np.ndarray:
    """Which times [time] are in an epoch."""
    inside = np.zeros(len(times), bool)
    for start, end in epochs:
        inside |= (times >= start) & (times <= end)
    return inside


def _in_epochs(name: str, grid: np.ndarray, epochs: np.ndarray | None) -> np.ndarray:
    """Which samples [sample] are in an epoch; all without epochs."""
    if epochs is None:
        return np.ones(len(grid), bool)
    for start, end in epochs:
        if not ((grid >= start) & (grid <= end)).any():
            raise ValueError(
                f"the epoch from {start:g} to {end:g} s contains no sample of {name}, whose "
                f"tracking is from {grid[0]:.6g} to {grid[-1]:.6g} s"
            )
    return _inside(grid, epochs)
