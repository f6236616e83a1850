"""Train the models that come with hfjax, and pack them into hfjax/data/pretrained.

    python experiments/pretrained.py                # all that are not packed yet
    python experiments/pretrained.py cpu_grids      # anew

A run goes on where it was stopped (runs/pretrained/NAME).
"""

import argparse
import pathlib
import shutil
import sys
from typing import NamedTuple

import jax
import numpy as np

import fdl_configs
import hfjax
from hfjax.training import pretrained, provenance
from hfjax.training import run as trainer
from hfjax.training import workdir as wd

MOST_BYTES = 2 << 20
BITS = 12  # of the arrays behind figures
ROOT = pathlib.Path(__file__).parent.parent


class Model(NamedTuple):
    """A config, its fiddlers, and what the trained model shows."""

    config: str
    fiddlers: tuple[str, ...]
    shows: str
    seed: int = 0


MODELS = {
    "cpu_grids": Model(
        "grid_rnn",
        ("cpu_grids",),
        "A relu network with hexagonal grid cells, in a periodic box, after a minute of training.",
    ),
    "pattern_formation": Model(
        "pattern_formation",
        ("laptop",),
        "Maps that grow into hexagons under the covariance of a place code.",
    ),
    "helmholtz": Model(
        "helmholtz",
        ("laptop",),
        "A theta-gated Helmholtz machine, an autoencoder; the one of eight seeds with the median "
        "distance.",
        seed=4,
    ),
    "dsm_place_cells": Model(
        "dsm_place_cells",
        ("laptop",),
        "The distributional successor measure of an animal in a box.",
    ),
    "conformal": Model(
        "conformal",
        (),
        "A recurrent code of three modules of grid cells, in a walled box: it measures distances.",
    ),
    "topo_grid": Model(
        "topo_grid",
        ("sheet_grids",),
        "Leaky units on a sheet of 16 x 16 that learned their time constants, with grid cells.",
    ),
    "ring": Model(
        "helmholtz_path_integration",
        (),
        "A Helmholtz machine on a ring, whose learned attractor goes on without its senses.",
    ),
    "successor": Model(
        "successor",
        ("laptop",),
        "The successor representation of place cells in a box, learned from an animal's walk.",
    ),
    "digits": Model(
        "biohsic",
        ("digits",),
        "Layers that have learned digits by a three-factor Hebbian rule.",
    ),
}

CARD = """# pretrained:{name}

{shows}

Config `{config}`{fiddlers}, seed {seed}. Paper: {paper}. Made by `python experiments/pretrained.py
{name}` with hfjax {version}, JAX {jax}, on {device}.

```
{numbers}
```

Beside each number stand its control or floor, and the published value where there is one. Results
over seeds: {results}. The state of the optimizer is not kept, and arrays
behind figures are rounded to 12 binary digits. Where a rat's path is used, it is
that of Sargolini et al. 2006, as RatInABox ships it. Licence: MIT, as hfjax.
"""


def make(name: str) -> pathlib.Path:
    """Train a model and pack it; returns its folder. Raises ValueError where it is too large."""
    model = MODELS[name]
    workdir = ROOT / "runs" / "pretrained" / name
    config = fdl_configs.make(model.config, *model.fiddlers)
    config.seed, config.seeds = model.seed, 1
    if not trainer.run(config, workdir, writers=("jsonl", "terminal"), devices=jax.devices()[:1]):
        sys.exit(75)
    run = hfjax.load(workdir)
    folder = pretrained.FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "readout").mkdir(parents=True)
    for file in ("config.json", "metrics.jsonl"):
        shutil.copy(workdir / file, folder / file)
    readout = {n: _rounded(v) if v.dtype.kind == "f" else v for n, v in run.readout.items()}
    wd.save_readout(folder, run.step, readout, keep=1)
    pretrained.save_state(folder, run.state)
    made = provenance.newest(workdir)
    # Without the machine: its command line and its devices are on the card.
    kept = {n: made[n] for n in ("started", "step", "hfjax", "python", "packages", "seeds", "data")}
    provenance.append(folder, kept)
    (folder / "CARD.md").write_text(_card(name, model, run, made))
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if size > MOST_BYTES:
        raise ValueError(f"{folder} takes {size} bytes, more than {MOST_BYTES}.")
    return folder


def _rounded(values: np.ndarray) -> np.ndarray:
    """As float32, to BITS binary digits: such numbers are packed into half of the bytes."""
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.round(mantissa * 2**BITS) / 2**BITS, exponent).astype(np.float32)


def _card(name: str, model: Model, run: hfjax.Run, made: provenance.Record) -> str:
    source = next(s for s in fdl_configs.sources().values() if model.config in s.configs)
    numbers = run.summary().split("\n  files  ")[0]
    return CARD.format(
        name=name,
        shows=model.shows,
        config=model.config,
        fiddlers="".join(f", `{fiddler}`" for fiddler in model.fiddlers),
        seed=run.config.seed,
        paper=source.paper,
        results=source.results,
        version=made["hfjax"],
        jax=made["packages"]["jax"],
        device=f"a {made['devices']['platform'].upper()}",
        numbers=numbers,
    )


def main() -> None:
    """Make the models that the command line names, or those that are missing."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", choices=[*MODELS, []], metavar="NAME")
    names = parser.parse_args().names or [n for n in MODELS if n not in hfjax.pretrained()]
    for name in names:
        print(make(name))


if __name__ == "__main__":
    main()
