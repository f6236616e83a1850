"""Reading recordings of animals with their cells, and cleaning them."""

import sys

import jax.numpy as jnp
import numpy as np
import pytest
import small_recordings as small

from hfjax import ratemaps
from hfjax.data import recordings
from hfjax.errors import DataFileError

TIMES, PLACES, HEADINGS = small.walk()
SPIKES = small.poisson(TIMES, small.grid_rate(PLACES))


def session(**changes):
    given = {"name": "rat", "times": TIMES, "positions": PLACES, "spike_times": {"a": SPIKES}}
    return recordings.from_arrays(**{**given, **changes})


def texts(recording):
    return [problem.text for problem in recording.problems]


# --- Files ---


def test_an_npz_of_one_unit_is_read(tmp_path):
    np.savez(
        tmp_path / "cell.npz", t=TIMES, pos=PLACES, head_direction=HEADINGS, spike_times=SPIKES
    )
    read = recordings.load(tmp_path / "cell.npz")
    np.testing.assert_array_equal(read.positions_m, PLACES)
    np.testing.assert_array_equal(read.head_direction, HEADINGS)
    np.testing.assert_array_equal(read.spike_times_s["cell"], SPIKES)
    assert (read.name, list(read.spike_times_s), read.counts) == ("cell", ["cell"], {})
    assert read.problems == ()


def test_an_npz_of_several_units_is_read(tmp_path):
    times = np.concatenate([SPIKES[:5], SPIKES[3:9]])
    units = np.array([7] * 5 + [2] * 6)
    np.savez(tmp_path / "two.npz", t=TIMES, pos=PLACES, spike_times=times, spike_units=units)
    read = recordings.load(tmp_path / "two.npz").spike_times_s
    np.testing.assert_array_equal(read["7"], SPIKES[:5])
    np.testing.assert_array_equal(read["2"], SPIKES[3:9])


def test_an_npz_of_counts_is_read(tmp_path):
    counts = np.arange(3 * len(TIMES)).reshape(-1, 3) % 4
    np.savez(tmp_path / "ca1.npz", t=TIMES, pos=PLACES, counts=counts, bin_s=0.04)
    read = recordings.load(tmp_path / "ca1.npz")
    assert list(read.counts) == ["ca1_0", "ca1_1", "ca1_2"]
    np.testing.assert_array_equal(np.stack(list(read.counts.values()), 1), counts)
    cleaned = recordings.clean(read)
    np.testing.assert_array_equal(cleaned.counts, counts)
    assert cleaned.spike_times_s == {}


def test_a_csv_of_counts_and_one_of_spike_times_are_read(tmp_path):
    table = np.column_stack([TIMES, PLACES, HEADINGS, np.arange(len(TIMES)) % 2])
    np.savetxt(
        tmp_path / "a.csv", table, "%.9g", ",", header="t,x,y,head_direction,m1", comments=""
    )
    read = recordings.load(tmp_path / "a.csv")
    np.testing.assert_allclose(read.positions_m, PLACES, atol=1e-8)
    np.testing.assert_allclose(read.head_direction, HEADINGS, atol=1e-8)
    assert list(read.counts) == ["m1"]
    assert read.counts["m1"].sum() == len(TIMES) // 2
    np.savetxt(tmp_path / "b.csv", table[:, :3], "%.9g", ",", header="t,x,y", comments="")
    lines = ["unit,time", *(f"mec {n % 2},{t!r}" for n, t in enumerate(SPIKES.tolist()))]
    (tmp_path / "b_spikes.csv").write_text("\n".join(lines))
    read = recordings.load(tmp_path / "b.csv")
    np.testing.assert_array_equal(read.spike_times_s["mec 0"], SPIKES[::2])
    np.testing.assert_array_equal(read.spike_times_s["mec 1"], SPIKES[1::2])
    (tmp_path / "b_spikes.csv").unlink()
    with pytest.raises(DataFileError, match="has no spikes: give a column of counts"):
        recordings.load(tmp_path / "b.csv")


LED = 0.03 * np.stack([np.cos(HEADINGS), np.sin(HEADINGS)], axis=1)


@pytest.fixture
def written(tmp_path):
    """Writes an NWB file and gives its path."""
    pynwb = pytest.importorskip("pynwb")

    def write(file):
        with pynwb.NWBHDF5IO(str(tmp_path / "session.nwb"), "w") as stream:
            stream.write(file)
        return tmp_path / "session.nwb"

    return write


def test_an_nwb_file_with_two_leds_is_read(written):
    front = (PLACES + LED).copy()
    front[5] = np.nan
    file = small.nwb_file(TIMES, front, PLACES - LED, [SPIKES, SPIKES[::3]], names=["t1c1", "t2c1"])
    read = recordings.load(written(file))
    np.testing.assert_allclose(np.delete(read.positions_m, 5, 0), np.delete(PLACES, 5, 0))
    np.testing.assert_allclose(read.positions_m[5], (PLACES - LED)[5])
    turn = np.angle(np.exp(1j * (read.head_direction - HEADINGS)))
    assert np.flatnonzero(~(np.abs(turn) < 1e-9)).tolist() == [5]
    assert list(read.spike_times_s) == ["t1c1", "t2c1"]
    np.testing.assert_array_equal(read.spike_times_s["t2c1"], SPIKES[::3])


def test_the_leds_of_an_nwb_file_can_be_chosen(written):
    path = written(small.nwb_file(TIMES, PLACES + LED, PLACES - LED, [SPIKES]))
    turned = recordings.load(path, leds=("SpatialSeriesLED2", "SpatialSeriesLED1"))
    straight = recordings.load(path).head_direction
    np.testing.assert_allclose((turned.head_direction - straight) % (2 * np.pi), np.pi)
    one = recordings.load(path, position="SpatialSeriesLED1")
    np.testing.assert_allclose(one.positions_m, PLACES + LED)
    assert one.head_direction is None
    assert list(one.spike_times_s) == ["unit0"]
    with pytest.raises(
        DataFileError, match=r"'LED1'.*choose from SpatialSeriesLED1, SpatialSeriesLED2"
    ):
        recordings.load(path, position="LED1")


def test_a_compass_and_a_regular_rate_of_an_nwb_file_are_read(written):
    behavior = pytest.importorskip("pynwb.behavior")
    file = small.nwb_file(TIMES, None, None, [SPIKES])
    position = file.processing["behavior"]["Position"]
    position.create_spatial_series(
        name="xy", data=1000 * PLACES, rate=25.0, unit="mm", reference_frame="corner"
    )
    compass = behavior.CompassDirection(name="CompassDirection")
    compass.create_spatial_series(
        name="hd", data=np.rad2deg(HEADINGS), rate=25.0, unit="degrees", reference_frame="x"
    )
    file.processing["behavior"].add(compass)
    read = recordings.load(written(file))
    np.testing.assert_allclose(read.times_s, TIMES)
    np.testing.assert_allclose(read.positions_m, PLACES)
    np.testing.assert_allclose(read.head_direction, HEADINGS)


def test_objects_of_pynapple_are_read():
    nap = pytest.importorskip("pynapple")
    units = nap.TsGroup({3: nap.Ts(SPIKES), 8: nap.Ts(SPIKES[::2])})
    frame = nap.TsdFrame(TIMES, PLACES, columns=["x", "y"])
    read = recordings.from_pynapple(units, frame, head_direction=nap.Tsd(TIMES, HEADINGS))
    np.testing.assert_array_equal(read.positions_m, PLACES)
    np.testing.assert_array_equal(read.head_direction, HEADINGS)
    np.testing.assert_allclose(read.spike_times_s["8"], SPIKES[::2], atol=1e-9)
    assert read.epochs_s is None
    epochs = nap.IntervalSet([10.02, 50.02], [20.02, 70.02])
    apart = nap.TsdFrame(TIMES, PLACES, columns=["x", "y"], time_support=epochs)
    read = recordings.from_pynapple(units, apart)
    np.testing.assert_array_equal(read.epochs_s, [[10.02, 20.02], [50.02, 70.02]])
    assert len(recordings.clean(read).times_s) == 250 + 500
    with pytest.raises(ValueError, match="must have the times of position"):
        recordings.from_pynapple(units, frame, head_direction=nap.Tsd(TIMES[1:], HEADINGS[1:]))


def test_raw_maps_and_information_equal_those_of_pynapple():
    nap = pytest.importorskip("pynapple")
    trains = [SPIKES, np.sort(np.random.default_rng(5).uniform(0, TIMES[-1], 150))]
    extent, shape = ((0.0, small.WIDTH), (0.0, small.HEIGHT)), (12, 8)
    curves = nap.compute_tuning_curves(
        nap.TsGroup({i: nap.Ts(train) for i, train in enumerate(trains)}),
        nap.TsdFrame(TIMES, PLACES, columns=["x", "y"]),
        bins=list(shape),
        range=list(extent),
        fs=25.0,
    )
    seconds = 0.04 * len(TIMES)  # pynapple's own ends with the last sample, not an interval later
    information = nap.compute_mutual_information(curves, [len(t) / seconds for t in trains])
    bins = ratemaps.position_bins(jnp.asarray(PLACES), num_bins=shape, extent=extent)
    time = ratemaps.occupancy(bins, 0.04, num_bins=shape)
    spikes = ratemaps.spike_maps(ratemaps.spike_samples(TIMES, trains), bins, num_bins=shape)
    maps = ratemaps.firing_rate_maps(spikes, time, sigma_bins=0, min_occupancy_s=0)
    np.testing.assert_allclose(maps, curves.values, rtol=1e-5)
    out = ratemaps.spatial_information(maps, time)
    np.testing.assert_allclose(out.bits_per_spike, information["bits/spike"], rtol=1e-3)
    np.testing.assert_allclose(out.bits_per_second, information["bits/sec"], rtol=1e-3)


def test_a_missing_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynwb", None)
    (tmp_path / "a.nwb").write_bytes(b"")
    with pytest.raises(ModuleNotFoundError, match="install hfjax with the extra nwb"):
        recordings.load(tmp_path / "a.nwb")


def test_a_file_of_another_kind_is_named(tmp_path):
    pytest.importorskip("pynwb")
    for name, match in {
        "a.nwb": "is no NWB file",
        "a.npz": "is not an npz",
        "a.csv": "is empty",
        "a.docx": r"must end in one of \.npz",
    }.items():
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(DataFileError, match=match):
            recordings.load(tmp_path / name)
    with pytest.raises(DataFileError, match="there is no file"):
        recordings.load(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", t=TIMES, pos=PLACES)
    with pytest.raises(DataFileError, match="has neither spike_times nor counts, only t, pos"):
        recordings.load(tmp_path / "c.npz")


# --- Faults ---


def test_faults_of_a_unit_are_told_and_others_are_kept():
    fine = SPIKES[:50]
    units = {
        "fine": fine,
        "mixed": fine[::-1],
        "twice": np.repeat(fine, 2),
        "late": np.append(fine, [150.0, 151.0]),
        "holes": np.append(fine, np.nan),
        "empty": [],
    }
    read = session(spike_times=units)
    for unit in ("fine", "mixed", "twice", "late", "holes"):
        np.testing.assert_array_equal(read.spike_times_s[unit], fine)
    assert len(read.spike_times_s["empty"]) == 0
    told = {problem.unit: problem.text for problem in read.problems}
    assert told == {
        "mixed": "spikes of unit mixed were not in order and are sorted",
        "twice": "50 spikes of unit twice at a time of another are left out",
        "late": "2 of 52 spikes of unit late outside of the tracking (0 to 119.96 s) are left out",
        "holes": "1 spikes of unit holes without a time are left out",
        "empty": "unit empty has no spikes",
    }
    assert recordings.clean(read).counts.sum(axis=0).tolist() == [50, 50, 50, 50, 50, 0]


def test_counts_without_spikes_are_told():
    read = session(spike_times={}, counts={"b": np.zeros(len(TIMES))})
    assert texts(read) == ["unit b has no spikes"]


def test_repeated_times_are_told_and_times_that_go_back_refused():
    again = np.insert(TIMES, 7, TIMES[7])
    read = session(times=again, positions=np.insert(PLACES, 8, 9.0, axis=0))
    assert texts(read) == ["1 samples of rat at the time of the sample before are left out"]
    np.testing.assert_array_equal(read.times_s, TIMES)
    np.testing.assert_array_equal(read.positions_m, PLACES)
    with pytest.raises(ValueError, match="must be finite and increase, but do not at sample 5"):
        session(times=np.where(np.arange(len(TIMES)) == 5, -1.0, TIMES))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"positions": PLACES * np.nan}, "rat has no positions: all of them are NaN"),
        ({"positions": 250 * PLACES}, r"extend over 299\.7 m: are they in centimetres .*0\.01"),
        ({"positions": PLACES, "position_unit_m": 1e-3}, "extend over only 0.001"),
        ({"times": 1000 * TIMES}, "probably in milliseconds"),
        ({"spike_times": {"a": 1000 * SPIKES}}, "the clocks of spikes and tracking in rat differ"),
        ({"spike_times": {"a": SPIKES + 1e9}}, "spikes are from 1e"),
        ({"spike_times": {"a": SPIKES / 1000}}, "the clocks of spikes and tracking"),
        ({"positions": PLACES[:, :1]}, r"positions \[sample, 2\]"),
        ({"head_direction": HEADINGS[1:]}, "a number for each of 3000 samples"),
        ({"epochs": [[5.0, 2.0]]}, "each with a start before its end"),
        ({"positions": np.where(np.arange(3000)[:, None] % 50 < 3, -9.0, PLACES)}, "give lost=-9"),
    ],
)
def test_a_recording_that_cannot_be_meant_is_refused(changes, match):
    with pytest.raises((ValueError, DataFileError), match=match):
        session(**changes)


def test_units_are_converted():
    read = session(
        times=1000 * TIMES,
        positions=300 * PLACES,
        spike_times={"a": 30_000 * SPIKES},
        epochs=[[1000, 2000]],
        time_unit_s=1e-3,
        spike_unit_s=1 / 30_000,
        position_unit_m=1 / 300,
    )
    np.testing.assert_allclose(read.times_s, TIMES)
    np.testing.assert_allclose(read.positions_m, PLACES)
    np.testing.assert_allclose(read.spike_times_s["a"], SPIKES)
    np.testing.assert_allclose(read.epochs_s, [[1, 2]])


# --- Cleaning ---


def keep_all(recording, **changes):
    """Cleaned without smoothing and without a limit of speed, but for the changes."""
    settings = {"smoothing_s": 0.0, "min_speed_mps": 0.0, "max_speed_mps": 9.0} | changes
    return recordings.clean(recording, **settings)


def test_spikes_are_counted_at_the_nearest_sample():
    spikes = np.array([0.0, 0.019, 0.021, 0.1, 119.97])
    cleaned = keep_all(session(spike_times={"a": spikes}))
    assert cleaned.dt_s == pytest.approx(0.04)
    hits = np.flatnonzero(cleaned.counts[:, 0])
    assert hits.tolist() == [0, 1, 3, 2999]  # 0.1 s is between 2 and 3
    assert cleaned.counts[0, 0] == 2
    np.testing.assert_array_equal(cleaned.positions_m, PLACES)


def test_a_jump_is_lost_and_then_interpolated():
    jumped = PLACES.copy()
    jumped[1000:1003] += 0.5
    cleaned = keep_all(session(positions=jumped))
    line = np.linspace(PLACES[999], PLACES[1003], 5)
    np.testing.assert_allclose(cleaned.positions_m[999:1004], line)
    assert cleaned.shares["jumps"] == pytest.approx(3 / 3000)
    assert cleaned.shares["interpolated"] == pytest.approx(3 / 3000)
    kept = keep_all(session(positions=jumped), max_jump_mps=np.inf)
    np.testing.assert_array_equal(kept.positions_m[1001], jumped[1001])


def test_short_gaps_are_interpolated_and_long_ones_are_not():
    holed = PLACES.copy()
    holed[100:111] = np.nan  # 0.48 s between samples
    holed[200:213] = np.nan  # 0.56 s
    cleaned = keep_all(session(positions=holed))
    np.testing.assert_allclose(
        cleaned.positions_m[99:112], np.linspace(PLACES[99], PLACES[111], 13)
    )
    assert np.isnan(cleaned.positions_m[200:213]).all()
    assert np.isfinite(cleaned.positions_m).all(axis=1).sum() == 3000 - 13
    assert cleaned.shares["lost_tracking"] == pytest.approx(24 / 3000)
    assert cleaned.shares["analysed"] == pytest.approx(2987 / 3000)


def test_irregular_samples_become_regular():
    rng = np.random.default_rng(1)
    kept = np.sort(rng.permutation(3000)[:2800])
    irregular = session(times=TIMES[kept], positions=PLACES[kept], head_direction=HEADINGS[kept])
    cleaned = keep_all(irregular)
    np.testing.assert_allclose(np.diff(cleaned.times_s), 0.04)
    inside = slice(kept[0], kept[-1] + 1)
    # Between samples a straight line is off by at most acceleration dt^2 / 8, reflections aside.
    error = np.linalg.norm(cleaned.positions_m - PLACES[inside], axis=1)
    assert np.quantile(error, 0.99) < 0.003
    turn = np.angle(np.exp(1j * (cleaned.head_direction - HEADINGS[inside])))
    assert np.quantile(np.abs(turn), 0.99) < 0.2
    assert cleaned.counts.sum() == len(irregular.spike_times_s["a"])


def test_smoothing_is_a_gaussian_in_time():
    noisy = PLACES + np.random.default_rng(2).normal(0, 0.01, PLACES.shape)
    noisy[500:600] = np.nan
    smooth = keep_all(session(positions=noisy), smoothing_s=0.1, max_jump_mps=np.inf).positions_m
    kernel = np.exp(-((0.04 * np.arange(-10, 11)) ** 2) / (2 * 0.1**2))
    for middle in (700, 495):
        window = noisy[middle - 10 : middle + 11]
        weight = kernel * np.isfinite(window[:, 0])
        expected = np.nansum(weight[:, None] * window, axis=0) / weight.sum()
        np.testing.assert_allclose(smooth[middle], expected, atol=1e-6)
    assert np.isnan(smooth[500:600]).all()


def test_slow_samples_are_not_analysed():
    pause = PLACES.copy()
    pause[1000:2000] = PLACES[1000]
    cleaned = keep_all(session(positions=pause), min_speed_mps=0.05, max_jump_mps=np.inf)
    analysed = np.isfinite(cleaned.positions_m[:, 0])
    assert not analysed[1001:1999].any()
    assert analysed[:1000].mean() > 0.98  # all but reflections at a wall
    assert cleaned.shares["slow"] == pytest.approx(1 / 3, abs=0.01)
    np.testing.assert_allclose(np.median(cleaned.speed_mps[:1000]), 0.2, rtol=0.01)


def test_only_epochs_are_kept():
    epochs = np.array([[10.0, 20.0], [60.0, 61.0]])
    cleaned = keep_all(session(), epochs_s=epochs)
    assert cleaned.times_s[[0, 250, 251, -1]].tolist() == pytest.approx([10, 20, 60, 61])
    inside = np.histogram(SPIKES, [10, 20, 60, 61])[0][[0, 2]].sum()
    assert len(cleaned.spike_times_s["a"]) == inside
    with pytest.raises(ValueError, match="from 500 to 600 s contains no sample of rat"):
        keep_all(session(), epochs_s=[[500, 600]])


def test_what_cannot_be_cleaned_is_refused():
    with pytest.raises(ValueError, match="smoothing_s must not be negative"):
        recordings.clean(session(), smoothing_s=-1)
    with pytest.raises(ValueError, match="max_gap_s must be positive"):
        recordings.clean(session(), max_gap_s=0)
    with pytest.raises(ValueError, match="nothing of rat is left to analyse"):
        recordings.clean(session(), min_speed_mps=1.4)
    far = np.append(TIMES, TIMES + 1e6)
    sparse = session(times=far, positions=np.tile(PLACES, (2, 1)), spike_times={})
    with pytest.raises(ValueError, match="give its sessions as epochs"):
        recordings.clean(sparse)
