"""Draw a run's figures again from its saved readout: `python -m hfjax.training.redraw WORKDIR`."""

import argparse
import contextlib
import os
import pathlib
import sys
import warnings
from collections.abc import Sequence

import fiddle as fdl

from hfjax.errors import InputError
from hfjax.task import Task
from hfjax.training import mirror
from hfjax.training import workdir as wd
from hfjax.training.experiment import build_headline, build_task
from hfjax.training.log import Say
from hfjax.training.run import save_figures


def redraw(
    workdir: str | os.PathLike,
    *,
    config: fdl.Buildable | None = None,
    task: Task | None = None,
    warn: Say = warnings.warn,
) -> dict[str, pathlib.Path]:
    """Draw the newest readout of a run into WORKDIR/figures: {name: path}.

    config  used in place of the workdir's, as when that names a function of a notebook.
    task    used in place of the config's task.
    warn    is called with a sentence where the figures cannot be drawn.

    Raises InputError where `workdir` holds no readout, or no config that can be loaded.
    """
    _, readout = wd.load_readout(workdir)
    if config is None:
        with contextlib.nullcontext() if task is None else contextlib.suppress(InputError):
            config = wd.load_config(workdir)
    if task is None:
        task = build_task(config)
    headline = () if config is None else build_headline(config)
    folder = wd.folder(workdir)
    paths = save_figures(folder, task, readout, warn, headline=headline)
    mirror.send(folder)
    return paths


def main(argv: Sequence[str] | None = None) -> int:
    """Draw and list the figures; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m hfjax.training.redraw", description=__doc__)
    parser.add_argument("workdir", help="folder of a run that was evaluated")
    workdir = parser.parse_args(argv).workdir
    problems: list[str] = []
    try:
        step, _ = wd.load_readout(workdir)
        paths = redraw(workdir, warn=problems.append)
    except InputError as error:
        sys.stderr.write(f"hfjax: {error}\n")
        return 2
    sys.stderr.writelines(f"{problem}\n" for problem in problems)
    for path in paths.values():
        sys.stdout.write(f"{path} (step {step})\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
