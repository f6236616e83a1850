"""Small recordings that the tests make: a rat in a box, and cells whose tuning is known."""

import datetime

import numpy as np

WIDTH, HEIGHT = 1.2, 0.8  # of the box (m)


def walk(*, minutes=2.0, rate_hz=25.0, seed=0):
    """Times [sample] (s), positions [sample, 2] (m) and head direction [sample] (rad) in a box.

    A point that runs at 0.2 m/s, turns smoothly at random, and is reflected by the walls.
    """
    rng = np.random.default_rng(seed)
    count, dt = round(60 * minutes * rate_hz), 1 / rate_hz
    turns = np.convolve(rng.normal(0, 1, count + 24), np.ones(25) / 5, mode="valid")
    angle = np.cumsum(0.14 * turns)
    steps = 0.2 * dt * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    size = np.array([WIDTH, HEIGHT])
    free = np.cumsum(steps, axis=0) + size / 2
    folded = np.abs((free + size) % (2 * size) - size)
    return dt * np.arange(count), folded, angle % (2 * np.pi)


def poisson(times, rate, *, seed=0):
    """Spike times [spike] (s) of a Poisson process with rate [sample] (Hz) at these times."""
    rng = np.random.default_rng(seed)
    dt = np.median(np.diff(times))
    counts = rng.poisson(rate * dt)
    spikes = np.repeat(times, counts)
    return np.sort(spikes + rng.uniform(-dt / 2, dt / 2, len(spikes)))


def grid_rate(positions, *, spacing=0.4, peak_hz=20.0, tilt=0.2):
    """Rate [sample] (Hz) of an ideal grid cell: three plane waves, clipped at zero."""
    angles = tilt + np.pi / 3 * np.arange(3)
    waves = np.stack([np.cos(angles), np.sin(angles)]) * 4 * np.pi / (np.sqrt(3) * spacing)
    return peak_hz * np.clip(np.cos(positions @ waves).sum(axis=1) / 3, 0, None)


def nwb_file(times, front, back, spikes, *, names=None):
    """An NWBFile with the layout of DANDI 000582: two LEDs in cm with conversion, and units."""
    from pynwb import NWBFile
    from pynwb.behavior import Position

    start = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    file = NWBFile(
        session_description="a rat in a box", identifier="session", session_start_time=start
    )
    position = Position(name="Position")
    for number, led in enumerate((front, back), 1):
        if led is not None:
            position.create_spatial_series(
                name=f"SpatialSeriesLED{number}",
                data=100 * led,
                timestamps=times,
                unit="meters",
                conversion=0.01,
                reference_frame="unknown",
            )
    file.create_processing_module("behavior", "tracking").add(position)
    if names is not None:
        file.add_unit_column("unit_name", "name of the unit")
    for number, unit in enumerate(spikes):
        extra = {} if names is None else {"unit_name": names[number]}
        file.add_unit(spike_times=unit, **extra)
    return file
