"""Draw a run's figures again from its saved readout: `python -m hfjax.training.redraw WORKDIR`."""

import argparse
import pathlib
import sys
from collections.abc import Sequence

from hfjax.errors import InputError
from hfjax.training import run as train
from hfjax.training import workdir as wd


def main(argv: Sequence[str] | None = None) -> int:
    """Draw and list the figures; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m hfjax.training.redraw", description=__doc__)
    parser.add_argument("workdir", type=pathlib.Path, help="folder of a run that was evaluated")
    workdir = parser.parse_args(argv).workdir
    try:
        experiment = train.build(wd.load_config(workdir))
        step, readout = wd.load_readout(workdir)
    except InputError as error:
        sys.stderr.write(f"hfjax: {error}\n")
        return 2
    problems: list[str] = []
    paths = train.save_figures(workdir, experiment.task, readout, problems.append)
    sys.stderr.writelines(f"{problem}\n" for problem in problems)
    for path in paths.values():
        sys.stdout.write(f"{path} (step {step})\n")
    return 0 if paths else 1


if __name__ == "__main__":
    sys.exit(main())
