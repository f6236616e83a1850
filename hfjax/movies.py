"""Moving pictures: figures whose frames become a GIF or an MP4.

    frames = movies.spikes_on_walk(positions_m, rates_hz, extent_m=box, dt_s=0.02)
    movies.save("walk.gif", frames)

Nothing is shown or global.
"""

import io
import os
import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from hfjax import check
from hfjax.errors import InputError
from hfjax.figures import (
    GREY,
    RAT,
    SIMULATED,
    WHOLE_SCALE,
    Extent,
    box_outline,
    map_picture,
)
from hfjax.files import write_atomically

DPI = 72
FORMATS = (".gif", ".mp4")


# --- A walk in a box ---


def _box(extent_m: Extent, walls: np.ndarray | None = None) -> tuple[Figure, Axes]:
    """A figure with the outline of a box and the walls [wall, end, 2] (m) inside it."""
    figure = Figure(figsize=(3.6, 3.9), dpi=DPI, layout="constrained")
    ax = figure.subplots()
    ax.plot(*box_outline(extent_m), color="black", linewidth=1)
    for wall in () if walls is None else walls:
        ax.plot(*wall.T, color="black", linewidth=2)
    ax.set_aspect("equal")
    ax.set(xlabel="x (m)", ylabel="y (m)")
    return figure, ax


def spikes_on_walk(
    positions_m: np.ndarray,
    rates_hz: np.ndarray,
    *,
    extent_m: Extent,
    dt_s: float,
    title: str = "",
    num_frames: int = 100,
    seed: int = 0,
) -> Iterator[Image.Image]:
    """Frames in which an animal walks, and a cell's Poisson spikes gather where it was.

    positions_m [time, 2] (m), every dt_s; rates_hz [time], 0 or more: of the cell. The spikes of a
    step lie at its position. Raises ValueError where dt_s is not positive, a rate is negative, or
    there are fewer steps than frames.

    Source: the animation in the README of grid-pattern-formation.
    """
    check.positive(dt_s=dt_s)
    if np.min(rates_hz) < 0:
        raise ValueError(f"rates_hz must be 0 or more, but the lowest is {np.min(rates_hz)}")
    check.at_least(num_frames, num_steps=len(positions_m))
    counts = np.random.default_rng(seed).poisson(np.asarray(rates_hz) * dt_s)
    figure, ax = _box(extent_m)
    (path,) = ax.plot([], [], color="0.75", linewidth=0.7)
    (spikes,) = ax.plot([], [], ".", color=RAT, markersize=3, markeredgewidth=0)
    (animal,) = ax.plot([], [], "o", color="black", markersize=5)
    walked = _broken_at_jumps(np.asarray(positions_m, float), extent_m)
    for end in np.linspace(0, len(walked), num_frames + 1).astype(int)[1:]:
        fired = np.repeat(walked[:end], counts[:end], axis=0)
        path.set_data(*walked[:end].T)
        spikes.set_data(*fired.T)
        animal.set_data(*np.asarray(positions_m)[end - 1 : end].T)
        ax.set_title(f"{title}\n{end * dt_s:.0f} s, {len(fired)} spikes".lstrip(), fontsize=9)
        yield _frame(figure)


def _broken_at_jumps(path: np.ndarray, extent_m: Extent) -> np.ndarray:
    """The path with NaN where it starts anew on the other side of a periodic box."""
    far = np.ptp(np.asarray(extent_m, float), axis=1) / 2
    jumps = np.any(np.abs(np.diff(path, axis=0)) > far, axis=1)
    return np.where(np.append(jumps, False)[:, None], np.nan, path)


def atoms_on_walk(
    positions_m: np.ndarray,
    atoms_m: np.ndarray,
    futures_m: np.ndarray,
    *,
    extent_m: Extent,
    steps: np.ndarray,
    walls: np.ndarray | None = None,
) -> Iterator[Image.Image]:
    """Frames in which an animal walks, and the atoms predict where it will be.

    Each atom of a distributional successor measure is a distribution of future states; its samples
    have one colour, and a cross is at their mean. Grey: where the animal went in the data.

    positions_m [time, 2], atoms_m [time, atom, sample, 2] and futures_m [time, future, 2] (m);
    steps [time]: of the data; walls [wall, end, 2] (m) inside the box. Raises ValueError where
    their times differ in number.
    """
    lengths = {len(positions_m), len(atoms_m), len(futures_m), len(steps)}
    if len(lengths) > 1:
        raise ValueError(f"all must have as many times, but they have {sorted(lengths)}")
    figure, ax = _box(extent_m, walls)
    (data,) = ax.plot([], [], ".", color="0.78", markersize=4, label="data: where it went")
    colours = [f"C{atom % 10}" for atom in range(atoms_m.shape[1])]
    drawn = [ax.plot([], [], ".", color=c, markersize=2.5)[0] for c in colours]
    means = [ax.plot([], [], "P", color=c, mec="white", mew=0.5, ms=6)[0] for c in colours]
    (path,) = ax.plot([], [], color=GREY, linewidth=0.7)
    (animal,) = ax.plot([], [], "o", mfc="none", mec="black", ms=12, mew=1.2, label="animal")
    ax.plot([], [], "P", color="C0", ms=6, label="model: mean of an atom")
    ax.plot([], [], ".", color="C0", ms=4, label="model: an atom's samples")
    (left, right), (bottom, top) = np.asarray(extent_m, float)
    margin = 0.06 * max(right - left, top - bottom)
    ax.set(xlim=(left - margin, right + margin), ylim=(bottom - margin, top + margin))
    figure.legend(loc="outside lower center", ncols=2, fontsize=7, handletextpad=0.2)
    for number, position in enumerate(positions_m):
        data.set_data(*futures_m[number].T)
        for dots, mean, samples in zip(drawn, means, atoms_m[number], strict=True):
            dots.set_data(*samples.T)
            mean.set_data(*samples.mean(axis=0, keepdims=True).T)
        path.set_data(*positions_m[max(0, number - 10) : number + 1].T)
        animal.set_data(*position[:, None])
        ax.set_title(f"Step {steps[number]} of a walk:\nwhere the animal will be", fontsize=9)
        yield _frame(figure)


# --- A ring ---


def bump_on_ring(
    activity: Mapping[str, np.ndarray],
    *,
    true: np.ndarray,
    decoded: np.ndarray,
    decoded_times_s: np.ndarray,
    cut_s: float,
    dt_s: float,
    width_m: float,
    before_s: float = 2.0,
    after_s: float = 8.0,
    frame_s: float = 0.1,
) -> Iterator[Image.Image]:
    """Frames of a bump of activity on a ring, before and after the senses are cut.

    activity {population: [time, place]}: of the units whose fields are nearest to evenly spaced
    places from -width_m / 2 to width_m / 2, a mean over the frame_s of a frame; true [time]
    (m), every dt_s; decoded [reading] (m), at decoded_times_s [reading] (s from the start), of
    which a frame shows the newest; cut_s: from the start. The frames are those from before_s before
    the cut to after_s after it. Raises ValueError where a duration is not positive.
    """
    check.positive(dt_s=dt_s, width_m=width_m, before_s=before_s, after_s=after_s, frame_s=frame_s)
    every = max(1, round(frame_s / dt_s))
    first = max(every, round((cut_s - before_s) / dt_s))
    last = min(len(true), round((cut_s + after_s) / dt_s))
    figure = Figure(figsize=(1.0 + 2.7 * len(activity), 3.9), dpi=DPI, layout="constrained")
    axes = figure.subplots(1, len(activity), squeeze=False)[0]
    rings = [
        _Ring(ax, label, rates, width_m)
        for ax, (label, rates) in zip(axes, activity.items(), strict=True)
    ]
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8
    )
    for end in range(first, last + 1, every):
        since_s = end * dt_s - cut_s
        reading = max(0, int(np.searchsorted(decoded_times_s, end * dt_s + 1e-6)) - 1)
        for ring in rings:
            ring.show(slice(end - every, end), true[end - 1], decoded[reading])
        when = f"{since_s:.1f} s after the senses were cut"
        figure.suptitle(
            when if since_s > 1e-6 else f"{abs(since_s):.1f} s before the senses are cut",
            fontsize=10,
            color=RAT if since_s > 1e-6 else "black",
        )
        yield _frame(figure)


class _Ring:
    """A ring with the activity of a population around it."""

    def __init__(self, ax: Axes, label: str, rates: np.ndarray, width_m: float):
        """Draw the ring. rates [time, place]."""
        self._rates, self._width_m = rates, width_m
        self._top = max(float(np.quantile(rates.max(axis=1), 0.99)), 1e-6)
        around = np.linspace(0, 2 * np.pi, 200)
        ax.plot(np.cos(around), np.sin(around), color=GREY, linewidth=0.8)
        (self._bump,) = ax.fill(
            [], [], color="0.55", linewidth=0, label="rate of units whose field is there"
        )
        (self._true,) = ax.plot([], [], "o", color=SIMULATED, ms=8, label="animal")
        (self._decoded,) = ax.plot([], [], "X", color=RAT, ms=8, label="decoded from HPC")
        for place in (-0.25, 0.0, 0.25, 0.5):
            x, y = self._at(place * width_m, 0.5)
            text = f"{place * width_m:g}" + (" m" if place == 0 else "")
            ax.text(float(x), float(y), text, fontsize=8, ha="center", va="center")
        ax.set(xlim=(-1.75, 1.75), ylim=(-1.75, 1.75), title=label)
        ax.title.set_fontsize(9)
        ax.set_aspect("equal")
        ax.set_axis_off()

    def _at(self, position_m: np.ndarray | float, radius: np.ndarray | float) -> np.ndarray:
        """Where a position is drawn: [2, ...]; position 0 is at the right, above it the positive.

        radius: 1 on the ring.
        """
        angle = 2 * np.pi * np.asarray(position_m) / self._width_m
        return np.stack([radius * np.cos(angle), radius * np.sin(angle)])

    def show(self, steps: slice, true_m: float, decoded_m: float) -> None:
        """Show the mean activity over steps, and two positions."""
        rate = self._rates[steps].mean(axis=0)
        places = (np.arange(len(rate)) + 0.5) / len(rate) * self._width_m - self._width_m / 2
        outer = self._at(places, 1 + 0.7 * np.clip(rate / self._top, 0, 1))
        inner = self._at(places, 1.0)
        # Closed at the seam; the inner edge goes back around.
        both = [np.concatenate([x, x[:, :1]], axis=1) for x in (outer, inner)]
        self._bump.set_xy(np.concatenate([both[0], both[1][:, ::-1]], axis=1).T)
        self._true.set_data(*self._at(true_m, 0.9)[:, None])
        self._decoded.set_data(*self._at(decoded_m, 0.75)[:, None])


# --- Training ---


def maps_over_training(
    maps: Mapping[int, np.ndarray],
    *,
    extent_m: Extent,
    num_shown: int = 36,
    axis: tuple[str, float] = ("training steps", 1.0),
) -> Iterator[Image.Image]:
    """Frames of the rate maps of some units after more and more training.

    maps {step: [unit, x, y]}; num_shown evenly spaced units are drawn, the same in all frames, each
    from its lowest to its highest activity in a frame. axis: what the paper counts, and how much
    of it a step is. The last frame stays for a while. Raises ValueError for fewer than two steps.
    """
    check.at_least(2, num_evaluations=len(maps))
    num_units = min(len(next(iter(maps.values()))), num_shown)
    figure = Figure(figsize=(4.4, 4.5), dpi=DPI, layout="constrained")
    ax = figure.subplots()
    width_m = float(np.ptp(np.asarray(extent_m, float), axis=1)[0])
    figure.supxlabel(
        f"each map: {width_m:.3g} m wide; {WHOLE_SCALE.replace(chr(10), ' ')}", fontsize=7
    )
    for step, of_step in sorted(maps.items()):
        shown = np.linspace(0, len(of_step) - 1, num_units).astype(int)
        ax.clear()
        ax.imshow(map_picture(of_step[shown], columns=int(np.ceil(num_units**0.5))))
        ax.set_axis_off()
        label, per_step = axis
        of_all = f"{num_units} of {len(of_step)} units"
        ax.set_title(f"Rate maps after {step * per_step:,.10g} {label}\n{of_all}", fontsize=9)
        yield _frame(figure)


# --- Files ---


def _frame(figure: Figure) -> Image.Image:
    """The figure now."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    figure.set_layout_engine("none")  # axes stay where the first frame has put them
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])


def save(
    path: str | os.PathLike, frames: Iterable[Image.Image], *, frame_s: float = 0.08
) -> pathlib.Path:
    """Write frames as a GIF that repeats, or as an MP4; each is shown for frame_s.

    path  ends in .gif or .mp4. -> the path.
    Raises InputError for another ending, or .mp4 where ffmpeg is missing or fails.
    """
    path = pathlib.Path(path)
    if path.suffix not in FORMATS:
        raise InputError(f"an animation ends in .gif or .mp4, but {path.name} does not.")
    write = _gif if path.suffix == ".gif" else _mp4
    write_atomically(path, write(frames, frame_s))
    return path


def _gif(frames: Iterable[Image.Image], frame_s: float) -> bytes:
    # Few colours make small files.
    first, *rest = (f.convert("RGB").quantize(64, dither=Image.Dither.NONE) for f in frames)
    buffer = io.BytesIO()
    first.save(
        buffer,
        "GIF",
        save_all=True,
        append_images=rest,
        duration=round(1000 * frame_s),
        loop=0,
        optimize=True,
    )
    return buffer.getvalue()


def _mp4(frames: Iterable[Image.Image], frame_s: float) -> bytes:
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        raise InputError("an MP4 needs ffmpeg, which is not installed here; a .gif does not.")
    images = [np.asarray(frame.convert("RGB")) for frame in frames]
    height, width, _ = images[0].shape
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "movie.mp4")
        command = [
            *(ffmpeg, "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"),
            *("-s", f"{width}x{height}", "-r", f"{1 / frame_s:.6g}", "-i", "-"),
            # Most players take no other pixels, and these only for even sizes.
            *("-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2:color=white", "-pix_fmt", "yuv420p"),
            str(file),
        ]
        done = subprocess.run(
            command, input=b"".join(i.tobytes() for i in images), stderr=subprocess.PIPE
        )
        if done.returncode or not file.exists():
            reason = done.stderr.decode(errors="replace").strip().partition("\n")[0]
            raise InputError(f"ffmpeg could not write the MP4 ({reason}); a .gif needs no ffmpeg.")
        return file.read_bytes()
