"""Moving pictures."""

import numpy as np
import pytest
from PIL import Image

from hfjax import movies, notebook
from hfjax.training import workdir as wd
from tests.command_line import hfjax_here
from tests.test_notebook import one_device, walked_run

BOX = ((-1.0, 1.0), (-1.0, 1.0))
__all__ = ["one_device"]


def red(image):
    """Rows and columns of the red pixels of a frame."""
    pixels = np.asarray(image.convert("RGB")).astype(int)
    return np.argwhere((pixels[..., 0] > 180) & (pixels[..., 2] < 120))


def test_spikes_gather_where_the_cell_fires():
    """A cell that fires only on the right half of a line, from the middle of the walk on."""
    path = np.stack([np.linspace(-0.9, 0.9, 100), np.zeros(100)], axis=1)
    rates = np.where(path[:, 0] > 0, 1e4, 0.0)
    frames = list(movies.spikes_on_walk(path, rates, extent_m=BOX, dt_s=0.1, num_frames=4))
    assert len(frames) == 4
    counts = [len(red(frame)) for frame in frames]
    assert counts[0] == counts[1] == 0
    assert 0 < counts[2] < counts[3]
    rows, columns = red(frames[-1]).T
    middle = frames[-1].width / 2
    assert columns.min() > middle - 15
    assert np.ptp(rows) < 12  # on the line


def test_the_gif_holds_every_frame_and_a_path_that_crosses_the_seam_is_broken(tmp_path):
    path = np.array([[0.9, 0.0], [0.95, 0.0], [-0.95, 0.0], [-0.9, 0.0]])
    broken = movies._broken_at_jumps(path, BOX)
    np.testing.assert_array_equal(np.isnan(broken[:, 0]), [False, True, False, False])
    frames = movies.spikes_on_walk(path, np.ones(4), extent_m=BOX, dt_s=1.0, num_frames=4)
    with Image.open(movies.save(tmp_path / "a.gif", frames, frame_s=0.1)) as written:
        assert written.n_frames == 4
        assert written.info["duration"] == 100
        assert written.info["loop"] == 0


def test_what_cannot_be_drawn_is_one_sentence():
    path = np.zeros((10, 2))
    for wrong, sentence in (
        ({"dt_s": 0.0}, "dt_s must be positive"),
        ({"rates_hz": -np.ones(10)}, "rates_hz must be 0 or more, but the lowest is -1"),
        ({"num_frames": 11}, "num_steps must be at least 11"),
    ):
        given = {"rates_hz": np.ones(10), "dt_s": 0.1, "num_frames": 5, **wrong}
        with pytest.raises(ValueError, match=sentence):
            next(movies.spikes_on_walk(path, given.pop("rates_hz"), extent_m=BOX, **given))


def test_a_run_animates_its_best_unit(tmp_path, monkeypatch):
    run = walked_run(tmp_path)
    readout = {
        "extent_m": np.array([[-1.1, 1.1]] * 2),
        "times_s": np.array([0.02, 0.04]),
        "grid_score_60": np.array([0.1, 0.9, np.nan, 0.2, 0.3, 0.1, 0.1, 0.1, 0.1]),
    }
    wd.save_readout(tmp_path, 1, readout, keep=1)
    given = {}

    def spikes(positions, rates, **settings):
        given.update(settings, positions=positions, rates=rates)
        return [Image.new("P", (8, 8))] * 2

    monkeypatch.setattr(movies, "spikes_on_walk", spikes)
    assert run.animate(minutes=0.05) == tmp_path / "figures" / "walk.gif"
    assert given["title"] == "unit 1"
    assert given["dt_s"] == pytest.approx(0.02)
    assert given["positions"].shape == (150, 2)
    assert given["rates"].max() == pytest.approx(20.0)
    assert given["rates"].min() == 0
    with pytest.raises(notebook.InputError, match="unit must be below 9, but is 9"):
        run.animate(minutes=0.05, unit=9)


def test_the_command_says_where_a_model_has_no_walks(tmp_path):
    code, out, error = hfjax_here(
        "--fdl_config=tests.toy.config",
        "--fdl_set=num_steps=5",
        "--animate",
        f"--workdir={tmp_path}/run",
    )
    assert code == 2
    assert "Complete after 5 steps" in out
    assert "there is no animation: run has no walks in a box" in error
