import re

import numpy as np
import pytest

from hfjax import arena
from hfjax.data import recordings
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
        (other, re.escape('must contain "t" and "pos" (or "d"), but contains t, position')),
    ):
        with pytest.raises(DataFileError, match=message):
            recordings.trajectory(path=str(path))
    with pytest.raises(ValueError, match="give the file"):
        recordings.trajectory()


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


def test_a_frame_of_pynapple_is_read_although_it_holds_python_objects(tmp_path):
    # The arrays of a TsdFrame that pynapple 0.11.4 saved, listed with np.load(allow_pickle=True):
    # "columns" and "_metadata" are arrays of Python objects.
    np.savez(
        tmp_path / "frame.npz",
        t=TIMES_S,
        d=POSITIONS,
        start=TIMES_S[:1],
        end=TIMES_S[-1:],
        columns=np.array(["x", "y"], object),
        type=np.array(["TsdFrame"]),
        _metadata=np.array({"unit": ["m", "m"]}, object),
    )
    paths = recordings.trajectory(path=str(tmp_path / "frame.npz"), num_steps=20, dt_s=0.1)
    np.testing.assert_allclose(paths["rat_positions"][0], (POSITIONS - (1, 7)) / 4, atol=1e-6)
