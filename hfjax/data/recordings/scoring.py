"""Rate maps, scores and significance of every cell of a recording."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hfjax import check, ratemaps
from hfjax.data.recordings.cleaning import Cleaned

DIRECTIONS = 60  # bins of head direction, 6 degrees each
# The scores that are tested against shuffles, and the column of their p-value.
TESTED = {
    "grid_score": "grid_score_p",
    "border_score": "border_score_p",
    "head_direction_length": "head_direction_p",
    "information_bits_per_spike": "information_p",
}
SIGNIFICANT = 0.01
KINDS = ("grid", "border", "head-direction", "spatial", "place")


class Scored(NamedTuple):
    """What the analysis of a recording gives.

    cleaned           the recording.
    extent_m          of the maps, ((x_min, x_max), (y_min, y_max)) (m).
    maps              [unit, x, y], firing rates (Hz); NaN where not visited.
    correlograms      [unit, 2 x - 1, 2 y - 1], autocorrelograms.
    direction_curves  [unit, direction] (Hz); None without head direction.
    columns           {column: [unit]}: the table of the cells.
    thresholds        {score: 95th percentile of the shuffles of all units}.
    choices           every choice that was made, cleaning included.
    """

    cleaned: Cleaned
    extent_m: ratemaps.Extent
    maps: np.ndarray
    correlograms: np.ndarray
    direction_curves: np.ndarray | None
    columns: Mapping[str, np.ndarray]
    thresholds: Mapping[str, float]
    choices: Mapping[str, float]


def kinds(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Which cells are of each of KINDS, at p < .01: {kind: [unit]}.

    A spatial cell carries information about position, as grid and border cells do too; a place cell
    is a spatial cell that is neither of them. columns: of `Scored`.
    """
    p = {name: columns[name] < SIGNIFICANT for name in TESTED.values()}
    grid, border, spatial = p["grid_score_p"], p["border_score_p"], p["information_p"]
    each = (grid, border, p["head_direction_p"], spatial, spatial & ~grid & ~border)
    return dict(zip(KINDS, each, strict=True))


def score(
    cleaned: Cleaned,
    *,
    bin_width_m: float = 0.03,
    smoothing_m: float = 0.045,
    min_occupancy_s: float = 0.02,
    num_shuffles: int = 1000,
    min_shift_s: float = 20.0,
    extent_m: ratemaps.Extent | None = None,
    seed: int = 0,
) -> Scored:
    """Scores of all cells of a recording, each tested against circular shifts of its spikes.

    All cells and all shuffles are one program on the device.

    cleaned          as from `clean`.
    bin_width_m      width of the square bins of rate maps (m).
    smoothing_m      standard deviation of the Gaussian that smooths spikes and occupancy (m).
    min_occupancy_s  a bin with less smoothed occupancy (s) counts as not visited.
    num_shuffles     circular shifts of each cell; the least p-value is 1 / (num_shuffles + 1).
    min_shift_s      least shift (s).
    extent_m         of the arena, ((x_min, x_max), (y_min, y_max)) (m); None for that of the path.
    seed             of the shifts.

    Columns: see `COLUMNS`. A cell that is silent, or has no score, is NaN there.
    Raises ValueError where a number is out of range, or the recording is shorter than two shifts.
    """
    check.positive(bin_width_m=bin_width_m, min_shift_s=min_shift_s)
    check.not_negative(smoothing_m=smoothing_m, min_occupancy_s=min_occupancy_s)
    positions = cleaned.positions_m
    if extent_m is None:
        low, high = np.nanmin(positions, axis=0), np.nanmax(positions, axis=0)
        extent_m = ((float(low[0]), float(high[0])), (float(low[1]), float(high[1])))
    bins = ratemaps.bins_of(extent_m, bin_width_m)
    num_x, num_y = bins.num_bins
    layout = Layout(
        num_bins=(_multiple_of(8, num_x), _multiple_of(8, num_y)),
        bin_width_m=bin_width_m,
        sigma_bins=smoothing_m / bin_width_m,
        min_occupancy_s=min_occupancy_s,
    )
    path = _path(cleaned, bins, layout)
    samples = ratemaps.samples_of_counts(cleaned.counts)
    samples = _padded(samples, 1, max(8192, _power_of_two(samples.shape[1])), len(positions))
    real = jax.device_get(_of_trains(samples, path, cleaned.dt_s, layout=layout))
    shifts = ratemaps.random_shifts(
        jax.random.key(seed),
        num_units=len(samples),
        num_shuffles=num_shuffles,
        num_samples=len(positions),
        min_shift=max(1, round(min_shift_s / cleaned.dt_s)),
    )
    shifts = jnp.pad(shifts, ((0, 0), (1, 0)))  # the recorded train: a shift of 0
    tested = jax.device_get(_of_shuffles(samples, shifts, path, len(positions), layout=layout))
    real |= {name: values[:, 0] for name, values in tested.items()}
    real["maps"] = real["maps"][:, :num_x, :num_y]
    null = {name: values[:, 1:] for name, values in tested.items()}
    far_x, far_y = (n - 1 for n in layout.num_bins)
    return Scored(
        cleaned=cleaned,
        extent_m=bins.extent,
        maps=real["maps"],
        correlograms=real["correlograms"][
            :, far_x + 1 - num_x : far_x + num_x, far_y + 1 - num_y : far_y + num_y
        ],
        direction_curves=None if cleaned.head_direction is None else real["direction_curves"],
        columns=_columns(cleaned, real, null),
        thresholds={
            name: float(ratemaps.population_threshold(jnp.asarray(values)))
            for name, values in null.items()
        },
        choices={
            **cleaned.choices,
            "bin_width_m": bin_width_m,
            "smoothing_m": smoothing_m,
            "min_occupancy_s": min_occupancy_s,
            "num_shuffles": num_shuffles,
            "min_shift_s": min_shift_s,
            "seed": seed,
        },
    )


class Layout(NamedTuple):
    """Settings of the maps that a program is compiled for.

    num_bins: filled up to multiples of 8, so that recordings share it.
    """

    num_bins: tuple[int, int]
    bin_width_m: float
    sigma_bins: float
    min_occupancy_s: float


class Path(NamedTuple):
    """Where the animal was: bins of position and direction [sample], and seconds in each.

    Samples that are not analysed have the number of bins. occupancy_s [x, y] is NaN where a map was
    filled up. halves and minutes [sample]: whether a
    sample lies in the first half, and in an odd minute.
    """

    bins: jax.Array
    occupancy_s: jax.Array
    directions: jax.Array
    direction_s: jax.Array
    halves: jax.Array
    minutes: jax.Array


def _path(cleaned: Cleaned, bins: ratemaps.Bins, layout: Layout) -> Path:
    """The path, filled up so that recordings of similar length share a compiled program."""
    count = len(cleaned.times_s)
    where = np.asarray(
        ratemaps.position_bins(
            jnp.asarray(cleaned.positions_m, jnp.float32),
            num_bins=bins.num_bins,
            extent=bins.extent,
        )
    )
    heading = cleaned.head_direction
    headings = np.full(count, np.nan) if heading is None else heading
    which = np.asarray(ratemaps.direction_bins(jnp.asarray(headings), num_bins=DIRECTIONS))
    length = _multiple_of(16384, count)
    (num_x, num_y), (all_x, all_y) = bins.num_bins, layout.num_bins
    inside = where < num_x * num_y
    where = np.where(inside, where // num_y * all_y + where % num_y, all_x * all_y)
    arena = (np.arange(all_x) < num_x)[:, None] & (np.arange(all_y) < num_y)
    time = ratemaps.occupancy(jnp.asarray(where), cleaned.dt_s, num_bins=layout.num_bins)
    return Path(
        jnp.asarray(_padded(where, 0, length, all_x * all_y)),
        jnp.where(arena, time, jnp.nan),
        jnp.asarray(_padded(which, 0, length, DIRECTIONS)),
        jnp.asarray(np.bincount(which, minlength=DIRECTIONS + 1)[:-1] * cleaned.dt_s, jnp.float32),
        jnp.asarray(_padded(np.asarray(ratemaps.first_half(cleaned.times_s)), 0, length, 0)),
        jnp.asarray(_padded(np.asarray(ratemaps.odd_minutes(cleaned.times_s)), 0, length, 0)),
    )


def _padded(array: np.ndarray, axis: int, length: int, value: int) -> np.ndarray:
    """An array that is filled up with a value to a length along an axis."""
    after = [(0, 0)] * array.ndim
    after[axis] = (0, length - array.shape[axis])
    return np.pad(array, after, constant_values=value)


def _multiple_of(step: int, count: int) -> int:
    """The least multiple that is not below a count."""
    return -(-count // step) * step


def _power_of_two(count: int) -> int:
    return 1 << max(count - 1, 0).bit_length()


# --- Programs ---


def _rates(trains: jax.Array, path: Path, layout: Layout) -> tuple[jax.Array, jax.Array]:
    """Rate maps [unit, x, y] and directional curves [unit, direction] of spike trains (Hz)."""
    maps = ratemaps.firing_rate_maps(
        ratemaps.spike_maps(trains, path.bins, num_bins=layout.num_bins),
        path.occupancy_s,
        sigma_bins=layout.sigma_bins,
        min_occupancy_s=layout.min_occupancy_s,
    )
    time = path.direction_s[None]
    spikes = ratemaps.spikes_by_bin(trains, path.directions, DIRECTIONS)
    return maps, jnp.where(time > 0, spikes / jnp.where(time > 0, time, 1), jnp.nan)


def _tested(maps: jax.Array, curves: jax.Array, path: Path, layout: Layout) -> dict[str, jax.Array]:
    """The scores of TESTED, each [unit]."""
    information = ratemaps.spatial_information(maps, path.occupancy_s)
    return {
        "grid_score": ratemaps.recording_grid_scores(maps).score,
        "border_score": ratemaps.border_scores(maps, bin_width_m=layout.bin_width_m).score,
        "head_direction_length": ratemaps.head_direction_length(curves).length,
        "information_bits_per_spike": information.bits_per_spike,
    }


@functools.partial(jax.jit, static_argnames="layout")
def _of_shuffles(
    samples: jax.Array, shifts: jax.Array, path: Path, num_samples: int, *, layout: Layout
) -> dict[str, jax.Array]:
    """The scores of TESTED under every shift, each [unit, shuffle]."""

    def statistic(trains: jax.Array) -> dict[str, jax.Array]:
        return _tested(*_rates(trains, path, layout), path, layout)

    return ratemaps.shuffled_scores(statistic, samples, shifts, num_samples=num_samples)


@functools.partial(jax.jit, static_argnames="layout")
def _of_trains(
    samples: jax.Array, path: Path, dt_s: jax.Array, *, layout: Layout
) -> dict[str, Any]:
    """Maps, curves and the scores of the recorded trains, but for those of TESTED."""
    maps, curves = _rates(samples, path, layout)
    raw = ratemaps.firing_rate_maps(
        ratemaps.spike_maps(samples, path.bins, num_bins=layout.num_bins),
        path.occupancy_s,
        sigma_bins=0,
    )
    stable = [
        ratemaps.stability(
            samples,
            path.bins,
            part,
            dt_s,
            num_bins=layout.num_bins,
            sigma_bins=layout.sigma_bins,
            min_occupancy_s=layout.min_occupancy_s,
            arena=jnp.isfinite(path.occupancy_s),
        )
        for part in (path.halves, path.minutes)
    ]
    return {
        "maps": maps,
        "correlograms": ratemaps.recording_autocorrelograms(maps),
        "direction_curves": curves,
        "lattice": ratemaps.recording_lattice(maps, bin_width_m=layout.bin_width_m),
        "direction": ratemaps.head_direction_length(curves).direction,
        "rayleigh": ratemaps.rayleigh_test(
            ratemaps.spikes_by_bin(samples, path.directions, DIRECTIONS)
        ).p,
        "bits_per_s": ratemaps.spatial_information(maps, path.occupancy_s).bits_per_second,
        "sparsity": ratemaps.sparsity(maps, path.occupancy_s),
        "coherence": ratemaps.coherence(raw),
        "stable": stable,
        "fields": ratemaps.firing_fields(maps, bin_width_m=layout.bin_width_m),
    }


def _columns(
    cleaned: Cleaned, real: Mapping[str, Any], null: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The table of the cells, {column: [unit]}."""
    total = cleaned.counts.sum(axis=0).astype(int)
    lattice = real["lattice"]
    p, high = {}, {}
    for name, column in TESTED.items():
        tested = ratemaps.significance(jnp.asarray(real[name]), jnp.asarray(null[name]))
        p[column] = np.where(total > 0, tested.p, np.nan)
        high[f"{name}_percentile_95"] = np.asarray(tested.percentile_95)
        high[f"{name}_percentile_99"] = np.asarray(tested.percentile_99)
    visited = np.isfinite(real["maps"])
    fields, theta = real["fields"], _theta(cleaned)
    return {
        "recording": np.full(len(total), cleaned.name),
        "name": np.asarray(cleaned.units, str),
        "num_spikes": total,
        "mean_rate_hz": total / (cleaned.dt_s * len(cleaned.times_s)),
        "peak_rate_hz": np.where(visited, real["maps"], -np.inf).max(axis=(1, 2)),
        "grid_score": real["grid_score"],
        "grid_score_p": p["grid_score_p"],
        "grid_spacing_m": lattice.spacing,
        "grid_orientation_deg": np.rad2deg(lattice.orientation),
        "grid_ellipse": lattice.aspect,
        "border_score": np.where(total > 0, real["border_score"], np.nan),
        "border_score_p": p["border_score_p"],
        "head_direction_length": real["head_direction_length"],
        "head_direction_p": p["head_direction_p"],
        "head_direction_deg": np.rad2deg(real["direction"]) % 360,
        "information_bits_per_spike": real["information_bits_per_spike"],
        "information_p": p["information_p"],
        "information_bits_per_s": real["bits_per_s"],
        "sparsity": real["sparsity"],
        "coherence": real["coherence"],
        "stability_halves": real["stable"][0],
        "stability_minutes": real["stable"][1],
        "num_fields": fields.number,
        "largest_field_m2": np.fmax.reduce(fields.area_m2, axis=1),
        "first_field_peak_hz": fields.peak_hz[:, 0],
        "head_direction_rayleigh_p": real["rayleigh"],
        "speed_score": np.asarray(_speed_scores(cleaned)),
        "theta_contrast": theta.contrast,
        "theta_strength": theta.strength,
        "theta_frequency_hz": theta.frequency_hz,
        **high,
    }


def _speed_scores(cleaned: Cleaned) -> jax.Array:
    """Speed score of each cell, over the samples that are analysed."""
    analysed = np.isfinite(cleaned.positions_m[:, 0])
    return ratemaps.speed_scores(
        ratemaps.samples_of_counts(cleaned.counts),
        jnp.asarray(np.where(analysed, cleaned.speed_mps, np.nan), jnp.float32),
        dt_s=cleaned.dt_s,
        min_speed_m_s=cleaned.choices["min_speed_mps"],
    )


def _theta(cleaned: Cleaned) -> ratemaps.ThetaModulation:
    """Theta modulation [unit]; NaN for units whose spike times are not known."""
    trains = [cleaned.spike_times_s.get(unit, np.zeros(0)) for unit in cleaned.units]
    counts = np.stack([ratemaps.spike_autocorrelogram(train) for train in trains])
    return jax.device_get(ratemaps.theta_modulation(jnp.asarray(counts, jnp.float32)))
