"""Moving pictures."""

import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from hfjax import movies
from hfjax.errors import InputError
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


def grey(image, level=140):
    """Rows and columns of the pixels of the bump, above the legend."""
    pixels = np.asarray(image.convert("RGB")).astype(int)
    is_bump = (np.ptp(pixels, axis=-1) < 4) & (abs(pixels[..., 0] - level) < 8)
    return np.argwhere(is_bump[: -image.height // 8])


def test_a_bump_on_the_ring_is_drawn_where_the_units_with_activity_are():
    """It is at 0 m before the cut and at 0.25 m after it; the animal and the decoded one too."""
    places = (np.arange(40) + 0.5) / 40 - 0.5
    true = np.repeat([0.0, 0.25], 20)
    activity = np.exp(-((places[None] - true[:, None]) ** 2) / 0.005)
    frames = list(
        movies.bump_on_ring(
            {"EC": activity},
            true=true,
            decoded=true[3::4],
            decoded_times_s=0.1 * np.arange(4, 44, 4),
            cut_s=2.0,
            dt_s=0.1,
            width_m=1.0,
            before_s=1.0,
            after_s=1.0,
            frame_s=0.2,
        )
    )
    assert len(frames) == 11  # from 1 s before the cut to 1 s after it
    centre = [frames[0].height / 2, frames[0].width / 2]
    before, after = (grey(frames[i]).mean(axis=0) - centre for i in (0, -1))
    assert before[1] > 3 * abs(before[0])  # at the right
    assert after[0] < -3 * abs(after[1])  # above
    rows = red(frames[6])[:, 0]
    title, legend = rows < 25, rows > 7 / 8 * frames[0].height
    assert title.any()  # the senses are cut
    assert red(frames[0])[:, 0].min() > 25
    decoded = red(frames[6])[~title & ~legend].mean(axis=0) - centre
    assert decoded[1] > 3 * abs(decoded[0])  # no reading yet since the jump


def coloured(image, rgb):
    """Rows and columns of the pixels of a colour, above the legend."""
    pixels = np.asarray(image.convert("RGB")).astype(int)
    return np.argwhere((abs(pixels - rgb) < 30).all(axis=-1)[: -image.height // 7])


def test_each_atom_has_its_colour_where_its_samples_are():
    walk = np.array([[-0.5, 0.0], [0.5, 0.0]])
    atoms = np.stack([np.full((2, 30, 2), -0.7), np.full((2, 30, 2), 0.7)], axis=1)
    atoms[1] *= -1
    given = {"extent_m": BOX, "steps": np.array([0, 10])}
    frames = list(movies.atoms_on_walk(walk, atoms, np.zeros((2, 5, 2)), **given))
    assert len(frames) == 2
    blue, orange = (31, 119, 180), (255, 127, 14)  # C0, C1
    for colour, frame, is_left in ((blue, 0, True), (orange, 0, False), (blue, 1, False)):
        rows, columns = coloured(frames[frame], colour).T
        assert (columns.mean() < frames[0].width / 2) == is_left
        assert (rows.mean() > frames[0].height / 2) == is_left  # low values are below
    with pytest.raises(ValueError, match=r"as many times, but they have \[2, 3\]"):
        next(movies.atoms_on_walk(walk, atoms, np.zeros((3, 5, 2)), **given))


def test_maps_of_the_same_units_appear_in_the_order_of_training():
    maps = np.zeros((100, 8, 8))
    maps[:, 0, 0] = 1
    later = np.zeros((100, 8, 8))
    later[:, :, 4:] = 1
    frames = list(movies.maps_over_training({200: later, 10: maps}, extent_m=BOX, num_shown=4))
    assert len(frames) == 2
    yellow = [len(coloured(frame, (253, 231, 37))) for frame in frames]
    assert 10 * yellow[0] < yellow[1]
    with pytest.raises(ValueError, match="num_evaluations must be at least 2"):
        next(movies.maps_over_training({10: maps}, extent_m=BOX))


FFMPEG = """#!{python}
import pathlib, sys
if "{fails}":
    sys.exit("{fails}")
size, rate = (sys.argv[sys.argv.index(flag) + 1] for flag in ("-s", "-r"))
pathlib.Path(sys.argv[-1]).write_text(f"{{size}} {{rate}} {{len(sys.stdin.buffer.read())}}")
"""


@pytest.fixture
def ffmpeg(tmp_path, monkeypatch):
    """A function that puts an ffmpeg on the path, which writes what it is given, or fails."""

    def install(fails=""):
        program = tmp_path / "bin" / "ffmpeg"
        program.parent.mkdir(exist_ok=True)
        program.write_text(FFMPEG.format(python=sys.executable, fails=fails))
        program.chmod(0o755)

    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return install


def test_an_mp4_is_made_by_ffmpeg_where_there_is_one(tmp_path, ffmpeg):
    frames = [Image.new("RGB", (5, 4))] * 3
    with pytest.raises(InputError, match=r"an MP4 needs ffmpeg, which is not installed here"):
        movies.save(tmp_path / "a.mp4", frames)
    ffmpeg()
    written = movies.save(tmp_path / "a.mp4", frames, frame_s=0.1)
    assert written.read_text() == f"5x4 10 {3 * 5 * 4 * 3}"
    ffmpeg(fails="Unknown encoder")
    with pytest.raises(InputError, match=r"ffmpeg could not write the MP4 \(Unknown encoder\)"):
        movies.save(tmp_path / "b.mp4", frames)
    assert not (tmp_path / "b.mp4").exists()
    with pytest.raises(InputError, match=r"ends in \.gif or \.mp4, but a\.avi does not"):
        movies.save(tmp_path / "a.avi", frames)


def test_an_mp4_of_the_real_ffmpeg_can_be_read(tmp_path):
    if not shutil.which("ffmpeg"):
        pytest.skip("ffmpeg is not installed here")
    frames = [Image.new("RGB", (51, 40), colour) for colour in ("red", "blue")]
    assert b"ftyp" in movies.save(tmp_path / "a.mp4", frames).read_bytes()[:16]


@pytest.fixture
def walked(tmp_path):
    """A run that can walk, with the readouts of two evaluations."""
    run = walked_run(tmp_path)
    readout = {
        "extent_m": np.array([[-1.1, 1.1]] * 2),
        "times_s": np.array([0.02, 0.04]),
        "rate_maps": np.eye(9)[:, :, None] * np.ones(9),
        "grid_score_60": np.array([0.1, 0.9, np.nan, 0.2, 0.3, 0.1, 0.1, 0.1, 0.1]),
    }
    for step in (1, 3):
        wd.save_readout(tmp_path, step, readout, keep=2)
    return run


def test_a_run_animates_its_best_unit(tmp_path, monkeypatch, walked):
    given = {}

    def spikes(positions, rates, **settings):
        given.update(settings, positions=positions, rates=rates)
        return [Image.new("P", (8, 8))] * 2

    monkeypatch.setattr(movies, "spikes_on_walk", spikes)
    assert walked.animate(minutes=0.05) == tmp_path / "figures" / "walk.gif"
    assert given["title"] == "unit 1"
    assert given["dt_s"] == pytest.approx(0.02)
    assert given["positions"].shape == (150, 2)
    assert given["rates"].max() == pytest.approx(20.0)
    assert given["rates"].min() == 0
    with pytest.raises(InputError, match="unit must be below 9, but is 9"):
        walked.animate(minutes=0.05, unit=9)


def test_a_run_names_its_animations_and_makes_one_of_all_readouts_that_are_kept(tmp_path, walked):
    def own(readout):
        assert readout["rate_maps"].shape == (9, 9, 9)
        return {"jump": iter([Image.new("RGB", (8, 8)), Image.new("RGB", (8, 8), "red")])}

    walked.task = walked.task._replace(animations=own)
    assert walked.animations == ("jump", "walk", "training")
    for name in ("jump", "training"):
        with Image.open(walked.animate(name)) as written:
            assert written.n_frames == 2
    assert walked.animate(path=tmp_path / "other.gif").exists()  # the first of them
    with pytest.raises(InputError, match="no animation 'fly'; there are jump, walk, training"):
        walked.animate("fly")
    wd.save_readout(tmp_path, 4, {"rate_maps": np.zeros((9, 9, 9))}, keep=1)
    assert walked.animations == ("jump",)


def test_the_command_says_what_cannot_be_animated(tmp_path, monkeypatch):
    flags = ("--fdl_config=tests.toy.config", "--fdl_set=num_steps=5", "--animate")
    monkeypatch.setenv("PATH", "")
    for ending, sentence in (
        ("mp4", "--animate_as=mp4 needs ffmpeg, which is not installed here"),
        ("avi", "--animate_as has no 'avi'; choose from gif, mp4"),
    ):
        code, out, error = hfjax_here(*flags, f"--animate_as={ending}", f"--workdir={tmp_path}/x")
        assert (code, out) == (2, "")
        assert sentence in error
    assert not (tmp_path / "x").exists()
    code, out, error = hfjax_here(*flags, f"--workdir={tmp_path}/run")
    assert code == 2
    assert "Complete after 5 steps" in out
    assert "run has no animation: neither walks in a box, nor" in error
