"""Score and draw recorded cells: `python -m hfjax.data.recordings FILES --out=DIR`."""

import argparse
import inspect
import pathlib
import sys
from collections.abc import Callable, Sequence

import jax
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from hfjax.data.recordings import report
from hfjax.data.recordings.cleaning import clean
from hfjax.data.recordings.loading import ENDINGS, load
from hfjax.data.recordings.scoring import Scored, score
from hfjax.errors import OneSentence, one_line
from hfjax.files import local_path

EXAMPLE = """\
  python -m hfjax.data.recordings sessions/ --out=cells
  python -m hfjax.data.recordings rat.nwb --out=cells --min_speed_mps=0.05
  python -m hfjax.data.recordings rat.csv --spikes=spikes.csv --pixels_per_metre=340 --out=cells

A folder stands for the recordings in it: npz, csv, tsv, txt and nwb files. What they contain:
hfjax.data.recordings.load. Written are cells.csv, settings.json, overview.png and sheets/*.png.
Exit code 2 where a recording could not be used; the others are written all the same.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    options = vars(_parser().parse_args(arguments))
    jax.config.update("jax_numpy_rank_promotion", "raise")
    paths, out = options.pop("paths"), options.pop("out")
    if (pixels := options.pop("pixels_per_metre")) is not None:
        options["position_unit_m"] = 1 / pixels if pixels > 0 else pixels
    given = {name: value for name, value in options.items() if value is not None}
    console = Console(soft_wrap=True, highlight=False)
    try:
        folder = local_path(out)
        files = _files(paths)
        if any(file.exists() for file in files):  # a folder that cannot be written is told at once
            folder.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        return _refused(error)
    with _progress(console) as progress:
        scored, refused = _scored(files, given, progress)
        if scored:
            bar = progress.add_task("drawing", total=report.num_files(scored))
            try:
                report.write(folder, scored, given=given, done=lambda name: progress.advance(bar))
            except OSError as error:
                return _refused(error)
    for line in report.summary(scored) if scored else ():
        console.print(line, markup=False)
    for reason in refused:
        _refused(reason)
    if scored:
        console.print(f"{folder}: cells.csv, settings.json, overview.png, sheets/", markup=False)
    return 2 if refused else 0


def _refused(error: Exception) -> int:
    """Tell an error in one sentence; returns the exit code."""
    sys.stderr.write(f"hfjax: {one_line(error)}\n")
    return 2


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def _files(paths: Sequence[str]) -> list[pathlib.Path]:
    """The recordings among files and folders. Raises ValueError where a folder has none."""
    files = []
    for path in map(local_path, paths):
        if not path.is_dir():
            files.append(path)
            continue
        found = sorted(f for f in path.iterdir() if f.suffix.lower() in ENDINGS)
        found = [f for f in found if not f.stem.endswith("_spikes")]
        if not found:
            raise ValueError(f"{path} contains no recordings: none of {', '.join(ENDINGS)}")
        files += found
    return files


def _scored(
    files: Sequence[pathlib.Path], given: dict[str, object], progress: Progress
) -> tuple[list[Scored], list[Exception]]:
    """The analysis of each file, and the errors of those that cannot be used."""
    scored: list[Scored] = []
    refused: list[Exception] = []
    bar = progress.add_task("scoring", total=len(files))
    stems = [file.stem for file in files]
    for file in files:
        progress.update(bar, description=f"scoring {file.stem[:30]}")
        try:
            session = load(file, **_of(load, given))
            if stems.count(file.stem) > 1:  # day1 of several rats
                session = session._replace(name=f"{file.absolute().parent.name}_{session.name}")
            one = score(clean(session, **_of(clean, given)), **_of(score, given))
            if len(one.maps):
                scored.append(one)
        except (ValueError, OSError, ModuleNotFoundError) as error:
            refused.append(error)
        progress.advance(bar)
    progress.update(bar, description="scored")
    return scored, refused


# --- Flags ---

PAIRS = "numbers as 0:600,900:1200"


def _of(function: Callable, given: dict[str, object]) -> dict:
    """The settings that a function takes."""
    return {n: v for n, v in given.items() if n in inspect.signature(function).parameters}


def _pairs(text: str) -> list[list[float]]:
    """0:600,900:1200 as [[0, 600], [900, 1200]]."""
    pairs = [[float(number) for number in pair.split(":")] for pair in text.split(",")]
    if any(len(pair) != 2 for pair in pairs):
        raise argparse.ArgumentTypeError(f"must be pairs of {PAIRS}, but is {text!r}")
    return pairs


def _two(text: str) -> list[list[float]]:
    """The extent of a box, 0:2.4,0:1.5."""
    pairs = _pairs(text)
    if len(pairs) != 2:
        raise argparse.ArgumentTypeError(f"must be X0:X1,Y0:Y1, but is {text!r}")
    return pairs


def _words(text: str) -> list[str]:
    return text.split(",")


def _floats(text: str) -> list[float]:
    return [float(number) for number in text.split(",") if number]


def _parser() -> argparse.ArgumentParser:
    parser = OneSentence(
        prog="hfjax.data.recordings",
        usage="python -m hfjax.data.recordings FILE_OR_FOLDER ... --out=DIR [--SETTING=VALUE ...]",
        description="Score every cell of recordings, test it against shuffles, and draw it.",
        epilog=f"Examples:\n{EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paths", nargs="+", metavar="FILE_OR_FOLDER")
    parser.add_argument("--out", required=True, help="folder to write to")
    special: dict[str, tuple[Callable, str]] = {
        "spikes": (str, "file of spike times, for a csv"),
        "position": (str, "name of the series of positions in an NWB file"),
        "leds": (_words, "names of two series in an NWB file, FRONT,BACK"),
        "lost": (_floats, "values that mark lost tracking, separated by commas; empty for none"),
        "epochs_s": (_pairs, f"times to use (s), {PAIRS}"),
        "extent_m": (_two, "of the arena, X0:X1,Y0:Y1 (m)"),
    }
    parser.add_argument("--pixels_per_metre", type=float, help="where positions are in pixels")
    for function in (load, clean, score):
        text = _meanings(function)
        for name, parameter in inspect.signature(function).parameters.items():
            if parameter.kind is not parameter.KEYWORD_ONLY:
                continue
            kind, what = special.get(name, (None, text.get(name, "")))
            default = parameter.default
            number = int if isinstance(default, int) else float
            shown = "" if default is None else f" (default {default:g})"
            parser.add_argument(f"--{name}", type=kind or number, help=f"{what}{shown}")
    return parser


def _meanings(function: Callable) -> dict[str, str]:
    """{argument: meaning} from a docstring, whose lines are "name  meaning"."""
    meanings: dict[str, str] = {}
    name = ""
    for line in (inspect.getdoc(function) or "").split("\n"):
        first, _, rest = line.partition("  ")
        if first.isidentifier() and rest.strip():
            name = first
            meanings[name] = rest.strip()
        elif name and line.startswith(" ") and line.strip():
            meanings[name] += f" {line.strip()}"
        else:
            name = ""
    meanings.setdefault("time_unit_s", "unit of the tracking's times (s), 0.001 for ms")
    meanings.setdefault("spike_unit_s", "unit of the spike times (s)")
    meanings.setdefault("position_unit_m", "unit of the positions (m), 0.01 for cm")
    return {key: text.replace("%", "%%") for key, text in meanings.items()}


if __name__ == "__main__":
    sys.exit(main())
