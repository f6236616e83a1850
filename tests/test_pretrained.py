"""Trained models that come with hfjax."""

import jax
import numpy as np
import pytest

import hfjax
from experiments import pretrained as packing
from hfjax.errors import InputError
from hfjax.training import pretrained
from hfjax.training import run as trainer
from tests import toy
from tests.command_line import hfjax_here, tree


@pytest.fixture
def packed(tmp_path, monkeypatch, complete_run):
    """The toy as a trained model of its name; the run that it is made of."""
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path / "models")
    monkeypatch.setattr(packing, "ROOT", tmp_path)
    model = packing.Model("tests.toy.config", (), "A linear map.")
    monkeypatch.setattr(packing, "MODELS", {"toy": model})
    monkeypatch.setattr(packing, "_card", lambda *_: "# pretrained:toy\n\nA linear map.\n")
    made = tmp_path / "runs" / "pretrained" / "toy"
    made.parent.mkdir(parents=True)
    made.symlink_to(complete_run)
    packing.make("toy")
    return hfjax.load(complete_run)


def test_it_opens_like_the_run_that_it_is_made_of_without_the_optimizer(packed):
    run = hfjax.load("pretrained:toy")
    np.testing.assert_array_equal(run.state["params"]["w"], packed.state["params"]["w"])
    assert run.state["steps"] == 40
    assert jax.tree.structure(run.state) == jax.tree.structure(packed.state)
    assert not np.any(run.state["opt_state"][0].mu["w"])
    assert run.step == 40
    assert run.metrics.eval.equals(packed.metrics.eval)
    weights, exact = run.readout["weights"], packed.readout["weights"]
    np.testing.assert_allclose(weights, exact, rtol=2.0**-packing.BITS)
    assert np.any(weights != exact)
    assert run.figures["weights"]._repr_png_().startswith(b"\x89PNG")  # drawn when it is wanted
    assert run.summary().split("\n")[:2] == packed.summary().split("\n")[:2]
    assert repr(hfjax.pretrained()) == "toy                  A linear map."
    assert "command" not in (pretrained.FOLDER / "toy" / "provenance.json").read_text()


def test_a_run_starts_from_it_and_cannot_change_it(packed, tmp_path):
    before = tree(pretrained.FOLDER)
    flags = ("--fdl_config=tests.toy.config", "--seed=7", "--fdl_set=num_steps=5")
    code, _, error = hfjax_here(*flags, "--init_from=pretrained:toy", f"--workdir={tmp_path}/new")
    assert (code, error) == (0, "")
    started = hfjax.load(tmp_path / "new")
    assert started.config.init_from == "pretrained:toy"  # in any folder and on any machine
    assert started.metrics.eval["loss"][0] < 0.1 * packed.metrics.eval["loss"][0]
    code, _, error = hfjax_here(*flags, "--workdir=pretrained:toy")
    assert code == 2
    assert "pretrained:toy cannot be trained on; name a --workdir" in error
    assert tree(pretrained.FOLDER) == before


def test_what_does_not_exist_or_does_not_fit_is_one_sentence(packed, tmp_path):
    with pytest.raises(InputError, match="there is no trained model 'toi'; did you mean 'toy'"):
        hfjax.load("pretrained:toi")
    with pytest.raises(InputError, match=r"\['params'\]\['w'\] is missing or of another shape"):
        trainer.load("pretrained:toy", task=toy.task(num_units=5))
    (pretrained.FOLDER / "toy" / "state.npz").write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"state\.npz cannot be read"):
        hfjax.load("pretrained:toy")


def test_every_trained_model_is_small_opens_and_has_a_card():
    cards = hfjax.pretrained()
    for name, card in cards.items():
        folder = pretrained.folder(f"pretrained:{name}")
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        assert size <= packing.MOST_BYTES
        run = hfjax.load(f"pretrained:{name}")
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(run.state) if x.dtype == "f4")
        assert run.is_complete
        for part in ("Licence", "Made by", "Paper"):
            assert part in card.text
