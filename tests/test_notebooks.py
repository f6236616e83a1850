"""The notebooks run, with models made small, and their stored outputs are those of their text."""

import base64
import io
import re

import jax
import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from matplotlib.figure import Figure
from PIL import Image

import fdl_configs
import hfjax
from hfjax import notebook
from hfjax.training import run as trainer
from notebooks import make
from tests.contract import tiny

DRAW = trainer.draw
# What a notebook computes itself, made small: {notebook: {text of its code: text in its place}}.
SMALLER = {
    "recordings": {"num_shuffles=500": "num_shuffles=20"},
    "ratinabox": {
        "MINUTES = 0.1, 10": "MINUTES = 0.1, 1",
        "num_steps=6000": "num_steps=600",
        "range(30_000)": "range(300)",
    },
}
NAMES = sorted(path.stem for path in make.HERE.glob("*.md"))

RUN = notebook.run
# Trained models that come with hfjax and stand in for a config's run: {config: pretrained model}.
TRAINED = {
    "biohsic": "digits",
    "dsm_place_cells": "dsm_place_cells",
    "grid_rnn": "cpu_grids",
    "helmholtz_path_integration": "ring",
    "pattern_formation": "pattern_formation",
    "topo_grid": "topo_grid",
    "topo_grid_plain": "topo_grid",
    "topo_grid_topoloss": "topo_grid",
}
TRAIN = {"dsm": "dsm_windy"}  # trained in its place: the same numbers and figures, in half the time


def run_small(model, *fiddlers, workdir=None, **settings):
    """As hfjax.run; a run of one seed is one that comes with hfjax, or a tiny one."""
    if not isinstance(model, str):
        return RUN(model, workdir=workdir, writers=("jsonl",), **settings)
    config = notebook._configured(model, fiddlers, settings)  # which raises where a name is wrong
    if config.seeds == 1 and model in TRAINED:
        return hfjax.load(f"pretrained:{TRAINED[model]}")
    small = tiny(fdl_configs.make(TRAIN.get(model, model), *fiddlers))
    small.seeds = min(config.seeds, 2)
    return RUN(small, workdir=f"{TRAIN.get(model, model)}-{small.seeds}", writers=("jsonl",))


class Shell:
    """What a cell finds as get_ipython(), where there is no notebook."""

    def run_line_magic(self, *_, **__):
        """Do nothing: %matplotlib inline."""


def show(run, *names):
    """As Run.show, without pictures: nothing is rendered."""
    assert set(names) <= {*DRAW(run.task, run.readout), "training"}


def code_cells(nb):
    return [cell for cell in nb.cells if cell.cell_type == "code"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One for all notebooks: what several of them train is trained once."""
    return tmp_path_factory.mktemp("notebooks")


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # RatInABox's modules warn when Python compiles them
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs(name, folder, monkeypatch):
    device = jax.devices()[:1]
    monkeypatch.setattr(jax, "devices", lambda: device)
    monkeypatch.setattr(trainer, "draw", lambda *_: {"one": Figure((1, 1))})
    monkeypatch.setattr(notebook, "run", run_small)
    monkeypatch.setattr(notebook.Run, "show", show)
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.chdir(folder)
    names = {"__name__": "notebook", "get_ipython": Shell}
    magic = TransformerManager()
    sources = "\0".join(magic.transform_cell(c.source) for c in code_cells(make.read(name)))
    for text, smaller in SMALLER.get(name, {}).items():
        assert text in sources
        sources = sources.replace(text, smaller)
    for source in sources.split("\0"):
        exec(compile(source, f"{name}.md", "exec"), names)


@pytest.mark.parametrize("name", NAMES)
def test_stored_outputs_are_those_of_the_text(name):
    stored = nbformat.read(make.HERE / f"{name}.ipynb", as_version=4)
    nbformat.validate(stored)
    text = make.read(name)
    assert [(c.cell_type, c.source) for c in stored.cells] == [
        (c.cell_type, c.source) for c in text.cells
    ], f"python notebooks/make.py {name}"
    code = code_cells(stored)
    assert code[0].source == make.INSTALL
    opens = re.search(
        r"\]\((https://colab\.research\.google\.com/github/.*)\)", text.cells[0].source
    )
    assert opens[1].endswith(f"/hfjax/blob/main/notebooks/{name}.ipynb")
    assert [c.execution_count for c in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error"]
    written = "".join(o.get("text", "") + o.get("data", {}).get("text/plain", "") for o in outputs)
    assert not re.search(r"/(tmp|home|root|work|Users|usr)/|[A-Z]:\\", written)
    pictures = [o.data["image/png"] for o in outputs if "image/png" in o.get("data", {})]
    assert len(pictures) > 1
    for picture in pictures:
        assert min(Image.open(io.BytesIO(base64.b64decode(picture))).size) > 100
    assert (make.HERE / f"{name}.ipynb").stat().st_size < 1e6


def test_every_notebook_is_a_tutorial():
    page = (make.HERE.parent / "docs" / "tutorials.md").read_text()
    linked, listed = (
        re.findall(pattern, page, re.M)
        for pattern in (r"\(notebooks/(\w+)\.ipynb\)", r"^notebooks/(\w+)$")
    )
    assert sorted(linked) == sorted(listed) == NAMES


def test_a_page_opens_its_notebook_in_colab_where_the_address_is_known(monkeypatch):
    monkeypatch.syspath_prepend(str(make.HERE.parent / "docs"))
    import tutorials

    assert tutorials.launch_buttons(None) == {}
    assert tutorials.launch_buttons("owner/hfjax")["repository_url"].endswith(".com/owner/hfjax")


def test_texts_get_the_badge_and_the_one_cell_that_installs(tmp_path):
    path = tmp_path / "one.md"
    begin, cell = "---\n---\n\n# One\n\n", "```{code-cell} python\n"
    path.write_text(f"{begin}It is.\n\n{cell}try:\n    import hfjax\nold\n```\n\nx\n")
    badge = make.BADGE.replace("NAME", "one")
    for _ in range(2):  # the second time nothing changes
        make.stamp(path)
        text = path.read_text()
        assert text == f"{begin}{badge}\n\nIt is.\n\n{cell}{make.INSTALL}\n```\n\nx\n"


def test_outputs_lose_folders_of_this_machine_and_codes_of_colours(tmp_path):
    text = f"\x1b[31mred\x1b[0m {tmp_path}/runs/one {tmp_path}"
    assert make.tidied_text(text, tmp_path) == "red runs/one ."
