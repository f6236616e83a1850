"""Recordings from files (npz, csv, NWB) and from objects of pynapple and pynwb."""

import importlib
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from hfjax.data import tables
from hfjax.data.recordings.sessions import Recording, from_arrays, two_leds
from hfjax.errors import DataFileError, nearest, one_line
from hfjax.files import local_path, npz_names, read_npz

ENDINGS = (".npz", ".csv", ".tsv", ".txt", ".nwb")
HEADINGS = ("head_direction", "head_direction_rad", "hd")
SPIKE_TIMES = ("spike_times", "spike_time", "spikes", "time", "t")
SPIKE_UNITS = ("unit", "units", "cell", "cluster", "id")


def load(
    path: str | pathlib.Path,
    *,
    spikes: str | pathlib.Path | None = None,
    position: str | None = None,
    leds: Sequence[str] | None = None,
    time_unit_s: float | None = None,
    spike_unit_s: float | None = None,
    position_unit_m: float | None = None,
    lost: float | Sequence[float] | None = None,
) -> Recording:
    """A recording from a file.

    npz: "t" [sample], "pos" [sample, 2]; "head_direction" [sample] if known; and "spike_times"
    [spike], of one unit or, with "spike_units" [spike], of several; or "counts" [sample, unit],
    with "unit_names" [unit] if known. A unit without a name has that of the file.
    csv, tsv, txt: columns t, x, y, and head_direction if known; any other column has the counts of
    a unit. Or spike times in a file of their own, with the columns unit and time: `spikes`, or
    NAME_spikes.csv beside NAME.csv.
    nwb: as `from_nwb`; needs the extra nwb.

    path      the file.
    spikes    file of spike times for a csv.
    position  name of the spatial series of positions in an NWB file.
    leds      names of two spatial series, front and back, in an NWB file.
    time_unit_s, spike_unit_s, position_unit_m, lost: as in `from_arrays`.

    Raises DataFileError, in one sentence, where the file cannot be read or is not as described;
    ModuleNotFoundError where an extra is missing; ValueError as `from_arrays`.
    """
    file = local_path(path)
    units = {
        "time_unit_s": time_unit_s,
        "spike_unit_s": spike_unit_s,
        "position_unit_m": position_unit_m,
        "lost": lost,
    }
    if not file.is_file():
        raise DataFileError(f"there is no file {file}")
    if file.suffix.lower() == ".nwb":
        return _load_nwb(file, position=position, leds=leds, **units)
    if position is not None or leds is not None:
        raise ValueError(f"position and leds name series of an NWB file, which {file} is not")
    if file.suffix.lower() == ".npz":
        return _load_npz(file, **units)
    if file.suffix.lower() in ENDINGS:
        return _load_text(file, spikes, **units)
    raise DataFileError(f"{file} is no recording: it must end in one of {', '.join(ENDINGS)}")


# --- npz ---


def _load_npz(file: pathlib.Path, **units: Any) -> Recording:
    """See `load`."""
    try:
        names = npz_names(file)
        wanted = ("head_direction", "spike_times", "spike_units", "counts", "unit_names")
        found = read_npz(file, [name for name in wanted if name in names])
    except (OSError, ValueError) as error:
        raise DataFileError(f"{file} is not an npz of arrays ({one_line(error)})") from error
    times, positions = tables.times_and_positions(file)
    spike_times, counts = {}, {}
    if "spike_times" in found:
        spike_times = _by_unit(file, found["spike_times"], found.get("spike_units"))
    elif "counts" in found:
        counts = _columns(file, found["counts"], found.get("unit_names"))
    else:
        raise DataFileError(f"{file} has neither spike_times nor counts, only {', '.join(names)}")
    return from_arrays(
        name=file.stem,
        times=times,
        positions=positions,
        head_direction=found.get("head_direction"),
        spike_times=spike_times,
        counts=counts,
        **units,
    )


def _by_unit(
    file: pathlib.Path, times: np.ndarray, units: np.ndarray | None
) -> dict[str, np.ndarray]:
    """{unit: [spike]} from times [spike] and the unit of each; one unit without the latter."""
    if units is None:
        return {file.stem: times}
    if units.shape != times.shape:
        raise DataFileError(
            f"{file} must name the unit of each of {times.shape} spikes, but has {units.shape}"
        )
    return {str(unit): times[units == unit] for unit in np.unique(units)}


def _columns(
    file: pathlib.Path, counts: np.ndarray, names: np.ndarray | None
) -> dict[str, np.ndarray]:
    """{unit: [sample]} from counts [sample, unit]."""
    if counts.ndim != 2 or (names is not None and names.shape != counts.shape[1:]):
        raise DataFileError(f"counts of {file} must be [sample, unit], but are {counts.shape}")
    digits = len(str(counts.shape[1] - 1))
    numbers = [f"{file.stem}_{number:0{digits}}" for number in range(counts.shape[1])]
    return dict(zip(numbers if names is None else map(str, names), counts.T, strict=True))


# --- Text ---


def _load_text(file: pathlib.Path, spikes: str | pathlib.Path | None, **units: Any) -> Recording:
    """See `load`."""
    times, positions = tables.times_and_positions(file)
    columns = tables.columns(file)
    headings = [name for name in columns if name.lower() in HEADINGS]
    others = [n for n in columns if n and n.lower() not in {*tables.TIMES, *HEADINGS, "x", "y"}]
    beside = file.with_name(f"{file.stem}_spikes{file.suffix}")
    source = local_path(spikes) if spikes is not None else beside
    spike_times = {}
    if spikes is not None or beside.is_file():
        of_spikes = tables.columns(source)
        time = _named(source, of_spikes, SPIKE_TIMES)
        unit = _named(source, of_spikes, SPIKE_UNITS)
        try:
            seconds = of_spikes[time].astype(float)
        except ValueError as error:
            raise DataFileError(f"{source} must have numbers as times ({error})") from error
        spike_times = _by_unit(source, seconds, of_spikes[unit])
    elif not others:
        raise DataFileError(
            f"{file} has no spikes: give a column of counts for each unit, or a file of spike "
            f"times with the columns unit and time, as {beside.name}"
        )
    try:
        numbers = {name: columns[name].astype(float) for name in (*headings[:1], *others)}
    except ValueError as error:
        raise DataFileError(f"{file} must contain numbers only ({one_line(error)})") from error
    return from_arrays(
        name=file.stem,
        times=times,
        positions=positions,
        head_direction=numbers[headings[0]] if headings else None,
        spike_times=spike_times,
        counts={name: numbers[name] for name in others},
        **units,
    )


def _named(file: pathlib.Path, columns: Mapping[str, Any], names: Sequence[str]) -> str:
    """The first of these names among the columns of a table."""
    for name in names:
        for column in columns:
            if column.lower() == name:
                return column
    raise DataFileError(f"{file} has no column {names[0]}; it has {', '.join(columns) or 'none'}")


# --- NWB ---


def _load_nwb(file: pathlib.Path, **settings: Any) -> Recording:
    pynwb = _extra("pynwb")
    try:
        with pynwb.NWBHDF5IO(str(file), "r", load_namespaces=True) as stream:
            return from_nwb(stream.read(), name=file.stem, **settings)
    except (ValueError, DataFileError, ModuleNotFoundError):
        raise
    except Exception as error:  # of another format, HDF5 and pynwb raise nearly anything
        raise DataFileError(f"{file} is no NWB file ({one_line(error)[:200]})") from error


def _extra(package: str) -> Any:
    """A package of the extra nwb."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"NWB files need {package}: install hfjax with the extra nwb (pdm sync -G nwb, or "
            f"pip install {package})"
        ) from error


def from_nwb(
    nwbfile: Any,
    *,
    name: str | None = None,
    position: str | None = None,
    leds: Sequence[str] | None = None,
    **units: Any,
) -> Recording:
    """A recording from an open NWBFile of pynwb.

    Positions are a spatial series [sample, 2] in a container Position of any processing module, or
    in the acquisition. Two series whose names contain LED are two LEDs, in the order of their
    names, front first; the head direction is the direction between them. Otherwise it is the series
    in a container CompassDirection, if there is one. Spike times are those of the table of units;
    its column unit_name names them. Conversion and unit of the series make metres.

    nwbfile   what `pynwb.NWBHDF5IO(...).read()` returns.
    name      of the session; None for its identifier.
    position  name of the series of positions; needed where there are several.
    leds      names of two series, front and back.
    units     time_unit_s, spike_unit_s, position_unit_m, lost: as in `from_arrays`; of NWB,
              seconds and what the file says by default.

    Raises DataFileError where there are no positions or units, or a name is not in the file, and
    ValueError as `from_arrays`.
    """
    name = name or nwbfile.identifier
    series = dict(_spatial_series(nwbfile))
    flat = {n: s for n, s in series.items() if len(s.data.shape) == 2 and s.data.shape[1] == 2}
    marked = sorted(n for n in flat if "led" in n.lower())
    chosen = list(leds) if leds is not None else marked if len(marked) == 2 else []
    if position is not None:
        chosen = [position]
    elif not chosen and len(flat) == 1:
        chosen = list(flat)
    missing = [n for n in chosen if n not in flat]
    if missing or not chosen:
        what = f"no series {missing[0]!r} of positions" if missing else "several or no positions"
        raise DataFileError(f"{name} has {what}; give position=: {nearest('', flat)}")
    if nwbfile.units is None or not len(nwbfile.units):
        raise DataFileError(f"{name} has no table of units, and so no spikes")
    places = [_values(flat[n], units.get("position_unit_m")) for n in chosen]
    times = _times(flat[chosen[0]])
    directions = None if len(places) == 2 else _compass(nwbfile, times)
    if len(places) == 2:
        if places[0].shape != places[1].shape:
            raise DataFileError(f"the two LEDs of {name} have different numbers of samples")
        places[0], directions = two_leds(*places)
    return from_arrays(
        name=name,
        times=times,
        positions=places[0],
        head_direction=directions,
        spike_times=dict(_nwb_units(nwbfile)),
        **units,
    )


def _spatial_series(nwbfile: Any) -> Iterator[tuple[str, Any]]:
    """Name and series of each spatial series of positions."""
    for container in _containers(nwbfile):
        if type(container).__name__ == "Position":
            yield from container.spatial_series.items()
        elif type(container).__name__ == "SpatialSeries":
            yield container.name, container


def _containers(nwbfile: Any) -> Iterator[Any]:
    for module in nwbfile.processing.values():
        yield from module.data_interfaces.values()
    yield from nwbfile.acquisition.values()


METRES = {"m": 1.0, "meter": 1.0, "metre": 1.0, "cm": 0.01, "centimeter": 0.01, "centimetre": 0.01}
METRES |= {"mm": 0.001, "millimeter": 0.001, "millimetre": 0.001}


def _values(series: Any, unit_m: float | None) -> np.ndarray:
    """Positions [sample, 2] of a series: in metres, or, where unit_m is given, as they are stored.

    A unit that is not a length, as pixels or n/a, leaves the numbers as they are.
    """
    values = np.asarray(series.data[:], float)
    if unit_m is not None:
        return values
    metres = METRES.get(str(series.unit).strip().lower().removesuffix("s"), 1.0)
    offset = float(getattr(series, "offset", 0.0) or 0.0)
    return (values * float(series.conversion) + offset) * metres


def _times(series: Any) -> np.ndarray:
    """Times [sample] (s) of a series."""
    if series.timestamps is not None:
        return np.asarray(series.timestamps[:], float)
    return float(series.starting_time or 0.0) + np.arange(len(series.data)) / float(series.rate)


def _compass(nwbfile: Any, times: np.ndarray) -> np.ndarray | None:
    """Head direction [sample] (rad) at these times, of a container CompassDirection."""
    for container in _containers(nwbfile):
        if type(container).__name__ != "CompassDirection":
            continue
        series = next(iter(container.spatial_series.values()))
        values = np.asarray(series.data[:], float).reshape(len(series.data), -1)[:, 0]
        values = values * float(series.conversion)
        angles = np.deg2rad(values) if "deg" in str(series.unit).lower() else values
        stamps = _times(series)
        if len(stamps) == len(times) and np.allclose(stamps, times):
            return angles
        x, y = (np.interp(times, stamps, f(angles), np.nan, np.nan) for f in (np.cos, np.sin))
        return np.arctan2(y, x)
    return None


def _nwb_units(nwbfile: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Name and spike times (s) of each unit."""
    table = nwbfile.units
    labels = next((n for n in ("unit_name", "name") if n in table.colnames), None)
    names = [str(label) for label in table[labels][:]] if labels else []
    if len(set(names)) != len(table):  # without names, or not one for each
        names = [f"unit{number}" for number in table.id[:]]
    for row, unit in enumerate(names):
        yield unit, np.asarray(table.get_unit_spike_times(row), float)


# --- pynapple ---


def from_pynapple(
    units: Any,
    position: Any,
    *,
    head_direction: Any = None,
    epochs: Any = None,
    name: str = "recording",
    position_unit_m: float | None = None,
    lost: float | Sequence[float] | None = None,
) -> Recording:
    """A recording from objects of pynapple, whose times are in seconds.

    units           TsGroup of spike times.
    position        TsdFrame of two columns, x and y.
    head_direction  Tsd (rad), at the times of position; None without any.
    epochs          IntervalSet of the times to use; None for the time support of position, where
                    that is several intervals.
    name            of the session.
    position_unit_m, lost: as in `from_arrays`.

    Raises ValueError as `from_arrays`, and where head_direction has other times than position.
    """
    times = np.asarray(position.t, float)
    if head_direction is not None and not np.array_equal(head_direction.t, times):
        raise ValueError(
            "head_direction must have the times of position: give "
            "head_direction.interpolate(position), or position.value_from(head_direction)"
        )
    support = position.time_support if epochs is None else epochs
    limits = np.stack([np.asarray(support.start), np.asarray(support.end)], axis=1)
    return from_arrays(
        name=name,
        times=times,
        positions=np.asarray(position.d),
        head_direction=None if head_direction is None else np.asarray(head_direction.d),
        spike_times={str(unit): np.asarray(units[unit].t) for unit in units.keys()},  # noqa: SIM118
        epochs=None if epochs is None and len(limits) == 1 else limits,
        position_unit_m=position_unit_m,
        lost=lost,
    )
