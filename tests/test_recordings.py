import pathlib
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.io

from hfjax import arena
from hfjax.data import recordings
from hfjax.data.recordings import report
from hfjax.errors import DataFileError


def test_rat_runs_as_far_and_as_fast_as_a_rat():
    paths = recordings.sargolini()["rat_positions"]
    assert paths.shape[1:] == (501, 2)
    assert paths.shape[0] >= 50  # nearly all of the 60 pieces of 10 s in 10 minutes
    assert paths.dtype == np.float32
    assert np.isfinite(paths).all()
    assert np.abs(paths).max() <= 0.5
    # It visits all four corners of a centred box.
    corners = {(bool(x), bool(y)) for x, y in paths.reshape(-1, 2)[::50] > 0.3 * np.ones(2)}
    assert len(corners) == 4
    # The arena is 1 m wide, so widths per second are m/s; rats run at less than 1 m/s.
    speed = np.linalg.norm(np.diff(paths, axis=1), axis=-1) / 0.02
    assert 0.08 < np.median(speed) < 0.15
    assert speed.max() < 1.0


def test_pieces_of_a_stretch_follow_each_other():
    whole = recordings.sargolini(num_steps=100)["rat_positions"]
    half = recordings.sargolini(num_steps=50)["rat_positions"]
    np.testing.assert_array_equal(half[0], whole[0, :51])
    np.testing.assert_array_equal(half[1], whole[0, 50:])


def test_gaps_cut_the_path_and_short_stretches_are_dropped(monkeypatch):
    def two_stretches(times_s, positions, *, dt_s, max_gap_s):
        assert positions.shape == (len(times_s), 2)
        assert (dt_s, max_gap_s) == (0.04, 0.1)
        return [np.full((7, 2), 1.0), np.full((3, 2), 2.0), np.full((4, 2), 3.0)]

    monkeypatch.setattr(arena, "resample_trajectory", two_stretches)
    paths = recordings.sargolini(num_steps=3, dt_s=0.04)["rat_positions"]
    # Seven positions hold two pieces of three steps, three none, and four just one.
    assert [float(path[0, 0]) for path in paths] == [1.0, 1.0, 3.0]
    with pytest.raises(ValueError, match=r"num_steps must be at most 6, .* but is 7"):
        recordings.sargolini(num_steps=7, dt_s=0.04)


def test_a_piece_has_at_least_one_step():
    with pytest.raises(ValueError, match="num_steps must be at least 1, but is 0"):
        recordings.sargolini(num_steps=0)


def test_tanni_keeps_the_shape_of_its_arena():
    paths = recordings.tanni(num_steps=100, length_s=300.0)["rat_positions"]
    assert np.abs(paths[..., 0]).max() < 0.52
    assert np.abs(paths[..., 1]).max() < 0.5 * 2.6 / 3.5
    assert 100 <= len(paths) <= 150  # 2 s each, of 300 s less the gaps
    speed_mps = 3.5 * np.linalg.norm(np.diff(paths, axis=1), axis=-1) / 0.02
    assert 0.05 < np.median(speed_mps) < 0.5


def write(path, times_s, positions, **names):
    np.savez(path, **{names.get("t", "t"): times_s, names.get("pos", "pos"): positions})
    return str(path)


TIMES_S = 0.1 * np.arange(21)
POSITIONS = np.stack([TIMES_S, 5 + TIMES_S**2], axis=1)  # 2 m and 4 m wide


def test_a_trajectory_from_a_file(tmp_path):
    path = write(tmp_path / "rat.npz", TIMES_S, POSITIONS)
    paths = recordings.trajectory(path=path, num_steps=10, dt_s=0.1)["rat_positions"]
    expected = (POSITIONS - (1, 7)) / 4
    np.testing.assert_allclose(paths, np.stack([expected[:11], expected[10:]]), atol=1e-6)
    wide = recordings.trajectory(path=path, num_steps=10, dt_s=0.1, width_m=8.0)["rat_positions"]
    np.testing.assert_allclose(wide, paths / 2, atol=1e-6)
    lost = POSITIONS.copy()
    lost[8:12, 0] = np.nan
    # Four tenths of a second are no gap, where samples are a tenth apart.
    kept = np.delete(np.arange(21), [8, 9, 10])
    sparse = write(tmp_path / "sparse.npz", TIMES_S[kept], POSITIONS[kept])
    bridged = recordings.trajectory(path=sparse, num_steps=20, dt_s=0.1)["rat_positions"]
    assert bridged.shape == (1, 21, 2)
    path = write(tmp_path / "lost.npz", TIMES_S, lost)
    cut = recordings.trajectory(path=path, num_steps=7, dt_s=0.1, max_gap_s=0.2)["rat_positions"]
    np.testing.assert_allclose(cut, np.stack([expected[:8], expected[12:20]]), atol=1e-6)


@pytest.mark.parametrize(
    ("times_s", "positions", "message"),
    [
        (TIMES_S, np.where(POSITIONS[3] == POSITIONS, np.nan, POSITIONS), "1 of 21 positions"),
        (TIMES_S[::-1], POSITIONS, "must be finite and increase, but do not at row 1"),
        (np.where(TIMES_S[5] == TIMES_S, np.nan, TIMES_S), POSITIONS, "but do not at row 5"),
        (np.where(TIMES_S == 0, np.nan, TIMES_S), POSITIONS, "but do not at row 0"),
        (
            np.where(TIMES_S > 0.75, TIMES_S + 0.5, TIMES_S),
            POSITIONS,
            "rows 7 and 8 .* 0.6 s apart",
        ),
        (TIMES_S, np.ones((21, 2)), "never moves; give width_m"),
        (np.char.add(TIMES_S.astype(str), " s"), POSITIONS, "must contain numbers only"),
        (TIMES_S[:1], POSITIONS[:1], "must contain at least two samples, not 1"),
        (TIMES_S, POSITIONS[:5], r"their shapes are \(21,\) and \(5, 2\)"),
        (TIMES_S, np.full((21, 2), np.nan), "21 of 21 positions"),
    ],
)
def test_a_bad_trajectory_raises_one_sentence(tmp_path, times_s, positions, message):
    path = write(tmp_path / "rat.npz", times_s, positions)
    with pytest.raises((ValueError, OSError), match=message) as caught:
        recordings.trajectory(path=path, num_steps=3, dt_s=0.1)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_a_trajectory_raises_one_sentence(tmp_path):
    (tmp_path / "text.npz").write_text("t,x,y")
    np.save(tmp_path / "bare.npy", POSITIONS)
    other = write(tmp_path / "other.npz", TIMES_S, POSITIONS, pos="position")
    for path, message in (
        (tmp_path / "none.npz", "there is no file"),
        (tmp_path / "text.npz", "is not an npz of arrays"),
        (tmp_path / "bare.npy", "is not an npz of arrays"),
        (other, "no positions under the name pos; give .* two of 't', 'position'"),
    ):
        with pytest.raises(DataFileError, match=message):
            recordings.trajectory(path=str(path))


def test_a_series_has_the_layout_of_pynapples_frames_and_is_read_again(tmp_path):
    recordings.save_series(tmp_path / "series.npz", TIMES_S, POSITIONS, columns=("x", "y"))
    with np.load(tmp_path / "series.npz") as file:
        # The names that pynapple 0.11 looks for: EXPECTED_ENTRIES["TsdFrame"] of its interface_npz.
        assert set(file) == {"t", "d", "start", "end", "columns", "type"}
        assert file["type"].tolist() == ["TsdFrame"]
        assert (file["start"], file["end"]) == (TIMES_S[0], TIMES_S[-1])
        assert file["columns"].tolist() == ["x", "y"]
        np.testing.assert_array_equal(file["d"], POSITIONS)
    paths = recordings.trajectory(path=str(tmp_path / "series.npz"), num_steps=20, dt_s=0.1)
    np.testing.assert_allclose(paths["rat_positions"][0], (POSITIONS - (1, 7)) / 4, atol=1e-6)
    for times_s, columns, message in (
        (TIMES_S, ("x",), "values must be"),
        (TIMES_S[::-1], ("x", "y"), "times_s must be finite and increase"),
        (np.where(TIMES_S == 0, np.nan, TIMES_S), ("x", "y"), "times_s must be finite"),
        (np.where(TIMES_S > 1.95, np.inf, TIMES_S), ("x", "y"), "times_s must be finite"),
    ):
        with pytest.raises(ValueError, match=message):
            recordings.save_series(tmp_path / "bad.npz", times_s, POSITIONS, columns=columns)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no more"])
def test_an_empty_or_cut_trajectory_raises_one_sentence(content, tmp_path):
    (tmp_path / "rat.npz").write_bytes(content)
    with pytest.raises(DataFileError, match=r"rat.npz is not an npz of arrays"):
        recordings.trajectory(path=str(tmp_path / "rat.npz"))


def trajectory(path, **settings):
    """Twenty steps of a tenth of a second, in one piece."""
    settings = {"num_steps": 20, "dt_s": 0.1, **settings}
    (piece,) = recordings.trajectory(path=str(path), **settings)["rat_positions"]
    return piece


EXPECTED = (POSITIONS - (1, 7)) / 4
COLUMNS = {"t": TIMES_S, "x": POSITIONS[:, 0], "y": POSITIONS[:, 1], "head": np.cos(TIMES_S)}


def write_pynapple(path, columns=("x", "y"), values=POSITIONS):
    # The arrays of a TsdFrame that pynapple 0.11.4 saved, listed with np.load(allow_pickle=True):
    # "columns" and "_metadata" are arrays of Python objects.
    np.savez(
        path,
        t=TIMES_S,
        d=values,
        start=TIMES_S[:1],
        end=TIMES_S[-1:],
        columns=np.array(columns, object),
        type=np.array(["TsdFrame"]),
        _metadata=np.array({"unit": ["m", "m"]}, object),
    )


def test_a_frame_of_pynapple_is_read_although_it_holds_python_objects(tmp_path):
    write_pynapple(tmp_path / "frame.npz")
    np.testing.assert_allclose(trajectory(tmp_path / "frame.npz"), EXPECTED, atol=1e-6)


def write_text(path, names, *, header=True, mark=","):
    rows = np.stack([COLUMNS[name] for name in names], axis=1)
    lines = [mark.join(map(repr, row)) for row in rows.tolist()]
    path.write_text("\n".join([*([mark.join(names)] if header else []), *lines]) + "\n")


@pytest.mark.parametrize("columns", [("x", "y"), (2, 0)])
def test_columns_of_a_wider_frame_are_chosen_by_name_or_number(tmp_path, columns):
    write_pynapple(
        tmp_path / "frame.npz",
        ("y", "z", "x"),
        np.stack([COLUMNS["y"], COLUMNS["head"], COLUMNS["x"]], axis=1),
    )
    got = trajectory(tmp_path / "frame.npz", columns=columns)
    np.testing.assert_allclose(got, EXPECTED, atol=1e-6)
    write_text(tmp_path / "frame.csv", ("y", "t", "x", "head"))
    got = trajectory(tmp_path / "frame.csv", columns=columns, time="t")
    np.testing.assert_allclose(got, EXPECTED, atol=1e-6)
    with pytest.raises(DataFileError, match=r"must contain times .*; choose columns by time= and"):
        trajectory(tmp_path / "frame.npz")


@pytest.mark.parametrize("mark", [",", ";", "\t", " "])
def test_a_text_is_read_with_and_without_a_header(tmp_path, mark):
    for name, header in (("with.csv", True), ("without.txt", False)):
        write_text(tmp_path / name, ("t", "x", "y"), header=header, mark=mark)
        np.testing.assert_allclose(trajectory(tmp_path / name), EXPECTED, atol=1e-6)
    lines = (tmp_path / "without.txt").read_text().splitlines()
    # DeepLabCut's three rows of header, and its numbers of frames as times.
    above = [
        mark.join(("scorer", *"ss")),
        mark.join(("bodyparts", *"nn")),
        mark.join(("coords", *"xy")),
    ]
    frames = [mark.join([str(i), *line.split(mark)[1:]]) for i, line in enumerate(lines)]
    (tmp_path / "frames.csv").write_text("\n".join([*above, *frames]))
    got = trajectory(tmp_path / "frames.csv", time=0, time_unit_s=0.1)
    np.testing.assert_allclose(got, EXPECTED, atol=1e-6)


def test_arrays_of_a_mat_file_are_chosen_by_name(tmp_path):
    # As MATLAB does, SciPy stores vectors as rows or columns.
    scipy.io.savemat(
        tmp_path / "rat.mat",
        {
            "post": TIMES_S[:, None],
            "posx": POSITIONS[:, 0],
            "posy": POSITIONS[:, 1],
            "both": np.column_stack([TIMES_S, POSITIONS]),
        },
    )
    for columns in (("posx", "posy"), ("both.1", "both.2")):
        got = trajectory(tmp_path / "rat.mat", time="post", columns=columns)
        np.testing.assert_allclose(got, EXPECTED, atol=1e-6)
    with pytest.raises(DataFileError, match="no times under the name t; give time=NAME, one of"):
        trajectory(tmp_path / "rat.mat")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "is empty"),
        ("a.csv", "t,x,y\n0,1,2\n1,2\n", "row 2 has 2 cells, not 3"),
        ("a.csv", "t,x,y\n0,1,2\n1,2,three\n", "numbers only, but has 'three' in row 1"),
        ("a.csv", "t,x,x,y\n0,1,2,3\n1,2,3,4\n", "several columns 'x'; give the number of one"),
        ("a.csv", "\x00\xff", "is not a text"),
        ("a.mat", "MATLAB", "is not a mat file, or damaged"),
        ("a.mat", f"{'MATLAB 7.3 MAT-file':124}\x00\x02IM", "is of MATLAB 7.3 .HDF5.: save it"),
        ("a.h5", "\x89HDF", "recordings are read from npz, csv, tsv, txt and mat files"),
    ],
)
def test_a_bad_table_raises_one_sentence(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content.encode("latin-1"))
    settings = {"columns": ("x", "y")} if "three" in content else {}
    with pytest.raises(DataFileError, match=message) as caught:
        trajectory(tmp_path / name, **settings)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("unit_s", "message"),
    [
        (1e-3, "in milliseconds: give time_unit_s=0.001 "),
        (1e-6, "in microseconds: give time_unit_s=1e-06 "),
        (1e-9, "in nanoseconds: give time_unit_s=1e-09 "),
        (0.1, "the numbers of frames: give time_unit_s=1/FRAMES_PER_SECOND "),
        (3600, "in hours: give time_unit_s=3600.0 "),
        (1e9, "in another unit: give time_unit_s=SECONDS "),
    ],
)
def test_times_that_are_not_seconds_are_refused_until_their_unit_is_given(
    tmp_path, unit_s, message
):
    times = np.round(TIMES_S / unit_s, 9) if unit_s <= 1 else TIMES_S / unit_s
    path = write(tmp_path / "rat.npz", times, POSITIONS)
    with pytest.raises(ValueError, match=message):
        trajectory(path)
    np.testing.assert_allclose(trajectory(path, time_unit_s=unit_s), EXPECTED, atol=1e-6)
    with pytest.raises(ValueError, match="time_unit_s must be positive"):
        trajectory(path, time_unit_s=0)


def test_a_unit_of_time_that_asks_for_too_many_positions_is_refused(tmp_path):
    path = write(tmp_path / "rat.npz", TIMES_S, POSITIONS)
    with pytest.raises(ValueError, match=r"would make 2e\+10 positions of 21 samples; check dt_s"):
        trajectory(path, time_unit_s=1e9)


def test_centimetres_in_an_arena_of_metres_are_refused_until_their_unit_is_given(tmp_path):
    path = write(tmp_path / "rat.npz", TIMES_S, 100 * POSITIONS)
    with pytest.raises(
        ValueError, match=r"over 400 m, but width_m is 4; are they in centimetres\?"
    ):
        trajectory(path, width_m=4)
    got = trajectory(path, width_m=5, position_unit_m=0.01)
    np.testing.assert_allclose(got, 0.8 * EXPECTED, atol=1e-6)
    with pytest.raises(ValueError, match="over 4 m, but width_m is 100; check width_m and"):
        trajectory(write(tmp_path / "m.npz", TIMES_S, POSITIONS), width_m=100)
    assert np.abs(trajectory(tmp_path / "m.npz", width_m=100, position_unit_m=1)).max() < 0.021
    with pytest.raises(ValueError, match="over 4 m, but width_m is 2; check width_m and"):
        trajectory(tmp_path / "m.npz", width_m=2, position_unit_m=1)


@pytest.mark.parametrize("mark", [0.0, -1.0, 1023.0])
@pytest.mark.parametrize("axes", [(0, 1), (1,)])
def test_a_value_that_marks_lost_tracking_is_refused_until_it_is_named(tmp_path, mark, axes):
    lost = 100 + POSITIONS
    for row in (4, 5, 9):
        lost[row, list(axes)] = mark
    path = write(tmp_path / "rat.npz", TIMES_S, lost)
    with pytest.raises(
        ValueError, match=f"3 of 21 positions in .* the [xy] {mark:g}, .*lost={mark} "
    ):
        trajectory(path)
    with pytest.raises(
        ValueError, match=r"3 of 21 positions .* the first in row 4; give max_gap_s"
    ):
        trajectory(path, lost=mark)
    rows = [0, 1, 2, 3, 6, 7, 8, *range(10, 21)]
    got = trajectory(path, lost=[mark], max_gap_s=0.5)
    np.testing.assert_allclose(got[rows], EXPECTED[rows], atol=1e-6)
    assert np.ptp(trajectory(path, lost=[])[:, 1]) > 0.99
    with pytest.raises(ValueError, match="lost must be a number or a list of numbers, but is 'x'"):
        trajectory(path, lost="x")


def test_all_values_that_mark_lost_tracking_are_named_in_one_sentence(tmp_path):
    turn = np.arange(2000)[:, None] / (37, 53)
    lost = 320 + 300 * np.sin(turn)
    lost[100:200], lost[900:950] = 0, -1
    path = write(tmp_path / "rat.npz", np.arange(2000) / 50, lost)
    with pytest.raises(
        ValueError, match=r"50 of 2000 .* the x -1, .* give lost=\[-1\.0, 0\.0\] to"
    ):
        trajectory(path)


def test_repeated_times_are_dropped_on_request(tmp_path):
    rows = np.sort([*range(21), 3, 3, 20])
    path = write(tmp_path / "rat.npz", TIMES_S[rows], POSITIONS[rows])
    with pytest.raises(
        ValueError, match="do not at row 4; drop_repeated_times=True keeps the first"
    ):
        trajectory(path)
    got = trajectory(path, drop_repeated_times=True)
    np.testing.assert_allclose(got, EXPECTED, atol=1e-6)


REAL = pathlib.Path(__file__).parents[2] / "shared" / "data" / "recordings"


@pytest.mark.skipif(not REAL.is_dir(), reason="real recordings lie beside the repository or not")
def test_real_recordings_are_not_suspected():
    for path in REAL.glob("*/*.npz"):
        assert len(recordings.trajectory(path=str(path), max_gap_s=1.0)["rat_positions"]) > 100


def test_sheets_of_different_cells_have_different_names():
    cells = [
        (SimpleNamespace(cleaned=SimpleNamespace(name=session, units=(unit,))), 0)
        for session, unit in (("rat", "a/b"), ("rat", "a_b"), ("rat", "A B"), ("rat", "rat_a_b_2"))
    ]
    names = report.sheet_names(cells)
    assert names == ["rat_a_b.png", "rat_a_b_2.png", "rat_A_B_3.png", "rat_a_b_2_2.png"]
