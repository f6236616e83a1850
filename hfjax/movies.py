"""Moving pictures: figures whose frames become a GIF. Nothing is shown and nothing is global.

frames = movies.spikes_on_walk(positions_m, rates_hz, extent_m=box, dt_s=0.02)
movies.save("walk.gif", frames)
"""

import io
import os
import pathlib
from collections.abc import Iterable, Iterator

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from hfjax import check
from hfjax.figures import RAT, Extent, box_outline
from hfjax.files import write_atomically

DPI = 72


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
    figure = Figure(figsize=(3.6, 3.9), dpi=DPI, layout="constrained")
    ax = figure.subplots()
    ax.plot(*box_outline(extent_m), color="black", linewidth=1)
    ax.set_aspect("equal")
    ax.set(xlabel="x (m)", ylabel="y (m)")
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


def _frame(figure: Figure) -> Image.Image:
    """The figure now, in few colours."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    return image.quantize(32, dither=Image.Dither.NONE)


def save(
    path: str | os.PathLike, frames: Iterable[Image.Image], *, frame_s: float = 0.08
) -> pathlib.Path:
    """Write frames as a GIF that repeats; each is shown for frame_s. Returns the path."""
    first, *rest = frames
    buffer = io.BytesIO()
    duration_ms = round(1000 * frame_s)
    first.save(
        buffer,
        "GIF",
        save_all=True,
        append_images=rest,
        duration=duration_ms,
        loop=0,
        optimize=True,
    )
    write_atomically(pathlib.Path(path), buffer.getvalue())
    return pathlib.Path(path)
