"""Configs as JSON and as Python."""

import fiddle as fdl
import jax
import optax
import pytest

import fdl_configs
from hfjax.errors import InputError
from hfjax.training import config_text, schedules
from hfjax.training.config import NumSteps
from hfjax.training.experiment import complete
from tests import toy


def executed(source):
    names = {}
    exec(source, names)
    return names["config"]


def assert_equal(config):
    """Python and JSON make equal configs, with the same tags and the same shared nodes."""
    text = config_text.to_json(config)
    for back in (executed(config_text.to_python(config)), config_text.from_json(text)):
        assert back == config
        assert config_text.to_json(back) == text


@pytest.mark.parametrize(
    "name",
    ["topo_grid", "dsm_place_cells", "helmholtz", "biohsic", "pattern_formation", "one_step"],
)
def test_python_of_a_config_with_each_of_its_fiddlers_makes_an_equal_config(name):
    function = fdl_configs.configs()[name]
    for fiddler in (lambda _: None, *fdl_configs.fiddlers_of(function).values()):
        config = function()
        fiddler(config)
        assert_equal(config)
        assert_equal(complete(config))


def test_tags_shared_nodes_and_every_kind_of_value_are_kept():
    shared = fdl.Config(optax.adam, learning_rate=float("inf"))
    config = fdl.Config(
        toy.Pair,
        first=[shared, {"a": (1,), "b": shared, "c": None}, toy.Pair(True, "x\n'")],
        second=(
            fdl.Config(optax.chain, shared, fdl.Partial(jax.nn.relu)),
            fdl.Config(schedules.cosine, init_value=-0.0, num_steps=NumSteps.new(7)),
            jax.nn.relu,
        ),
    )
    assert_equal(config)
    back = executed(config_text.to_python(config))
    assert back.first[0] is back.first[1]["b"]
    assert back.second[1].__argument_tags__["num_steps"] == {NumSteps}
    assert back.second[2] is jax.nn.relu


def test_python_is_short_lines_that_begin_with_their_imports():
    lines = config_text.to_python(complete(toy.config())).splitlines()
    assert lines[2:7] == ["import fiddle as fdl", "", "from tests import toy", "import hfjax", ""]
    assert "    num_steps=40," in lines
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("value", [lambda x: x, object(), [{1, 2}, object()]])
def test_value_without_a_name_is_refused(value):
    with pytest.raises(InputError, match="cannot be stored"):
        config_text.to_json(fdl.Config(toy.Pair, first=value, second=0))
