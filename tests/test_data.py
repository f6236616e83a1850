import numpy as np
import pytest

from hfjax import arena, data


def test_rat_runs_as_far_and_as_fast_as_a_rat():
    paths = data.sargolini()["rat_positions"]
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
    whole = data.sargolini(num_steps=100)["rat_positions"]
    half = data.sargolini(num_steps=50)["rat_positions"]
    np.testing.assert_array_equal(half[0], whole[0, :51])
    np.testing.assert_array_equal(half[1], whole[0, 50:])


def test_gaps_cut_the_path_and_short_stretches_are_dropped(monkeypatch):
    def two_stretches(times_s, positions, *, dt_s, max_gap_s):
        assert positions.shape == (len(times_s), 2)
        assert (dt_s, max_gap_s) == (0.04, 0.1)
        return [np.full((7, 2), 1.0), np.full((3, 2), 2.0), np.full((4, 2), 3.0)]

    monkeypatch.setattr(arena, "resample_trajectory", two_stretches)
    paths = data.sargolini(num_steps=3, dt_s=0.04)["rat_positions"]
    # Seven positions hold two pieces of three steps, three none, and four just one.
    assert [float(path[0, 0]) for path in paths] == [1.0, 1.0, 3.0]
    with pytest.raises(ValueError, match=r"num_steps must be at most 6, .* but is 7"):
        data.sargolini(num_steps=7, dt_s=0.04)


def test_impossible_length():
    with pytest.raises(ValueError, match="num_steps must be at least 1, but is 0"):
        data.sargolini(num_steps=0)
