"""The notebooks of the site run, with models made small."""

import pathlib

import jax
import jupytext
import pytest
from matplotlib.figure import Figure

import fdl_configs
from hfjax.training import run as trainer
from tests.contract import tiny

NOTEBOOKS = sorted((pathlib.Path(__file__).parent.parent / "docs" / "notebooks").glob("*.md"))


@pytest.mark.slow
@pytest.mark.optimized
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    make, device = fdl_configs.make, jax.devices()[:1]
    monkeypatch.setattr(fdl_configs, "make", lambda *names: tiny(make(*names)))

    figures = ("rate_maps", "grid_scores", "error_over_time")  # that the notebooks show
    monkeypatch.setattr(trainer, "draw", lambda *_: dict.fromkeys(figures, Figure((1, 1))))
    monkeypatch.setattr(jax, "devices", lambda: device)
    monkeypatch.chdir(tmp_path)
    cells = [cell.source for cell in jupytext.read(path).cells if cell.cell_type == "code"]
    assert len(cells) > 3
    names = {"__name__": "notebook"}
    for source in cells:
        exec(compile(source, path.name, "exec"), names)
