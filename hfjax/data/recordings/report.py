"""The analysis of recordings as files: a table, a sheet for each cell, an overview."""

import csv
import io
import itertools
import json
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from hfjax.data.recordings import sheets
from hfjax.data.recordings.scoring import KINDS, SIGNIFICANT, Scored, kinds
from hfjax.files import write_atomically


def write(
    folder: pathlib.Path,
    scored: Sequence[Scored],
    *,
    given: Mapping[str, Any] | None = None,
    done: Callable[[str], None] = lambda name: None,
) -> None:
    """Write cells.csv, settings.json, overview.png and sheets/*.png of recordings.

    folder  is made where it does not exist; files of an earlier analysis are replaced.
    given   what was asked for, as units and epochs: it goes into settings.json too.
    done    is told the name of each file.
    """
    write_atomically(folder / "cells.csv", table(scored).encode())
    done("cells.csv")
    text = json.dumps({"given": dict(given or {}), **settings(scored)}, indent=2)
    write_atomically(folder / "settings.json", text.encode())
    done("settings.json")
    cells = [(one, unit) for one in scored for unit in range(len(one.maps))]
    for name, figure in _overviews(cells, _first_line(scored)):
        write_atomically(folder / name, _png(figure))
        done(name)
    for (one, unit), name in zip(cells, sheet_names(cells), strict=True):
        write_atomically(folder / "sheets" / name, _png(sheets.cell_sheet(one, unit)))
        done(f"sheets/{name}")


def num_files(scored: Sequence[Scored]) -> int:
    """How many files `write` writes."""
    cells = sum(len(one.maps) for one in scored)
    return 2 + -(-cells // sheets.PER_PAGE) + cells


def sheet_names(cells: Sequence[tuple[Scored, int]]) -> list[str]:
    """Names of the sheets of cells: session and unit, with characters that any system takes.

    Of cells whose names then are the same, also on systems that do not tell a from A, the later
    ones end with _2, _3, ....
    """
    names: dict[str, str] = {}
    for scored, unit in cells:
        session, name = scored.cleaned.name, scored.cleaned.units[unit]
        whole = name if name.startswith(session) else f"{session}_{name}"
        plain = re.sub(r"[^A-Za-z0-9._-]+", "_", whole)
        choices = itertools.chain([plain], (f"{plain}_{n}" for n in itertools.count(2)))
        free = next(choice for choice in choices if choice.lower() not in names)
        names[free.lower()] = f"{free}.png"
    return list(names.values())


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _overviews(cells: Sequence[tuple[Scored, int]], title: str) -> Iterator[tuple[str, Figure]]:
    """Name and figure of each page of the overview."""
    pages = [cells[i : i + sheets.PER_PAGE] for i in range(0, len(cells), sheets.PER_PAGE)]
    for number, page in enumerate(pages, 1):
        several = len(pages) > 1
        name = f"overview_{number}.png" if several else "overview.png"
        of = f" (page {number} of {len(pages)})" if several else ""
        yield name, sheets.overview(page, title=title + of)


# --- Table and settings ---


def table(scored: Sequence[Scored]) -> str:
    """The cells of all recordings as csv; a number that does not exist is left empty."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*scored[0].columns, "problems"])
    for one in scored:
        for unit, name in enumerate(one.cleaned.units):
            told = "; ".join(p.text for p in one.cleaned.problems if p.unit in ("", name))
            writer.writerow([*(_cell(values[unit]) for values in one.columns.values()), told])
    return stream.getvalue()


def _cell(value: Any) -> str:
    if isinstance(value, (str, np.integer)):
        return str(value)
    return f"{value:.6g}" if np.isfinite(value) else ""


def settings(scored: Sequence[Scored]) -> dict[str, Any]:
    """Every choice of the analysis, and for each recording what became of its samples."""
    return {
        "choices": _plain(scored[0].choices),
        "significant_below_p": SIGNIFICANT,
        "recordings": {
            one.cleaned.name: {
                "minutes": round(one.cleaned.dt_s * len(one.cleaned.times_s) / 60, 2),
                "sample_interval_s": round(one.cleaned.dt_s, 6),
                "shares_of_samples": {k: round(v, 4) for k, v in one.cleaned.shares.items()},
                "arena_m": np.round(one.extent_m, 3).tolist(),
                "bins": list(one.maps.shape[1:]),
                "population_threshold_percentile_95": _plain(one.thresholds),
                "problems": [problem.text for problem in one.cleaned.problems],
            }
            for one in scored
        },
    }


def _plain(values: Mapping[str, float]) -> dict[str, float | str | None]:
    """Numbers that JSON can hold."""
    return {
        key: value if np.isfinite(value) else None if np.isnan(value) else str(value)
        for key, value in values.items()
    }


# --- Summary ---


def counts(scored: Sequence[Scored]) -> dict[str, int]:
    """{kind: significant cells}, kinds as in `kinds`."""
    found = [kinds(one.columns) for one in scored]
    return {kind: sum(int(of[kind].sum()) for of in found) for kind in KINDS}


def _first_line(scored: Sequence[Scored]) -> str:
    cells = sum(len(one.maps) for one in scored)
    grid = counts(scored)["grid"]
    return f"{grid} of {cells} cells are grid cells at p < .01"


def summary(scored: Sequence[Scored]) -> list[str]:
    """What was found, in lines for the terminal."""
    cells = sum(len(one.maps) for one in scored)
    minutes = sum(one.cleaned.dt_s * len(one.cleaned.times_s) for one in scored) / 60
    shuffles = scored[0].choices["num_shuffles"]
    lines = [
        f"{cells} cells in {len(scored)} recordings of {minutes:.0f} minutes; each score against "
        f"{shuffles:.0f} circular shifts"
    ]
    lines += [
        f"{found} of {cells} are {kind} cells at p < .01" for kind, found in counts(scored).items()
    ]
    lines.append(f"By chance {SIGNIFICANT * cells:.1f} would be of each kind, but for place cells.")
    lines += [problem.text for one in scored for problem in one.cleaned.problems]
    return lines
