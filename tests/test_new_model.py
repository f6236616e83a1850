"""A new model takes a model file and a config file; everything else finds them."""

import importlib
import sys

import numpy as np
import pytest

import fdl_configs
import hfjax
from fdl_configs.__main__ import table
from tests.command_line import hfjax_here
from tests.contract import check_population, check_shapes, tiny

MODEL = '''
"""Oja's rule finds the first principal component of its inputs (Oja 1982)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from matplotlib.figure import Figure

from hfjax import check
from hfjax.task import Task


class State(NamedTuple):
    """weights [input]."""

    weights: jax.Array


def task(*, num_inputs: int = 3, batch_size: int = 8, rate: float = 0.1) -> Task:
    """dw = rate y (x - y w), y = w.x, averaged over a batch; the inputs vary most along axis 0."""
    check.at_least(1, num_inputs=num_inputs, batch_size=batch_size)
    spread = jnp.ones(num_inputs).at[0].set(3.0)

    def init(key, data):
        return State(jax.random.normal(key, (num_inputs,)))

    def sample(data, key):
        return spread[None] * jax.random.normal(key, (batch_size, num_inputs))

    def step(state, batch, key):
        y = batch @ state.weights
        change = jnp.mean(y[:, None] * (batch - y[:, None] * state.weights[None]), axis=0)
        return State(state.weights + rate * change), {"length": jnp.linalg.norm(state.weights)}

    def evaluate(state, data, key):
        cosine = state.weights[0] / jnp.linalg.norm(state.weights)
        return {"alignment": jnp.abs(cosine)}, {"weights": state.weights}

    def figures(readout):
        figure = Figure()
        ax = figure.add_subplot(xlabel="input", ylabel="weight")
        ax.bar(range(num_inputs), readout["weights"])
        return {"weights": figure}

    return Task(init, sample, step, evaluate, figures)
'''

CONFIG = '''
"""Oja's rule.

Paper: Oja 1982
"""

import fiddle as fdl
import oja_model

from hfjax.training.run import Experiment


def oja() -> fdl.Config:
    """A neuron that finds the first principal component."""
    return fdl.Config(
        Experiment,
        task=fdl.Config(oja_model.task, num_inputs=3, rate=0.02),
        num_steps=400,
        chunk=50,
        eval_every=200,
        save_every=200,
        show=("length", "alignment"),
    )


def laptop(cfg: fdl.Config) -> None:
    """oja as it is, which a laptop runs in seconds."""


def wide(cfg: fdl.Config) -> None:
    """oja with ten inputs."""
    cfg.task.num_inputs = 10
'''


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """The two files, with the config in a folder that fdl_configs looks into."""
    (tmp_path / "fdl_configs").mkdir()
    (tmp_path / "oja_model.py").write_text(MODEL)
    (tmp_path / "fdl_configs" / "oja.py").write_text(CONFIG)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(
        fdl_configs, "__path__", [*fdl_configs.__path__, str(tmp_path / "fdl_configs")]
    )
    importlib.invalidate_caches()
    yield
    for name in ("oja_model", "fdl_configs.oja"):
        sys.modules.pop(name, None)
    vars(fdl_configs).pop("oja", None)


def test_two_files_make_a_model(toy, tmp_path):
    assert "oja" in fdl_configs.configs()
    assert set(fdl_configs.fiddlers_of(fdl_configs.configs()["oja"])) == {"laptop", "wide"}
    for fiddlers in ((), ("laptop",), ("wide",)):
        check_shapes(tiny(fdl_configs.make("oja", *fiddlers)))
    check_population(tiny(fdl_configs.make("oja")))
    code, out, _ = hfjax_here("--help")
    assert code == 0
    assert "A neuron that finds the first principal component." in out
    assert "| `oja` | A neuron that finds" in table()

    workdir = tmp_path / "run"
    code, out, error = hfjax_here("--fdl_config=oja", "--fiddler=wide", f"--workdir={workdir}")
    assert (code, error) == (0, "")
    assert "Complete after 400 steps" in out
    assert (workdir / "figures" / "weights.png").exists()
    weights = hfjax.load(workdir).state.weights
    assert weights.shape == (10,)
    np.testing.assert_allclose(abs(weights[0]), 1, atol=0.1)  # the component, of length 1
