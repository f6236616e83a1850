"""The manual of a config, and the meanings of parameters in docstrings."""

import fiddle as fdl

import fdl_configs
from hfjax import networks
from hfjax.training import schedules
from hfjax.training.config import UNSET, NumSteps, settings
from hfjax.training.manual import meanings, setting_lines, value_in_words


def explained(a, b, c, d, *, e=1, f=None, untold=0):
    """One line.

    a: the first. It has two sentences. b, c: the next
    two. In between, in c: there is a colon. d (x, y) -> z: a function.

    e         in columns, on
              two lines.
    f (int): as others write it.
    Raises ValueError where f: is wrong.

    Source: untold.
    """


def test_meanings_are_read_from_a_docstring():
    assert meanings(explained) == {
        "a": "the first. It has two sentences",
        "b": "the next two. In between, in c: there is a colon",
        "c": "the next two. In between, in c: there is a colon",
        "d": "(x, y) -> z: a function",
        "e": "in columns, on two lines",
        "f": "as others write it",
    }


def test_values_are_shown_as_they_are_set():
    assert value_in_words(networks.relu) == "hfjax.networks:relu"
    assert value_in_words(fdl.Config(networks.relu)) == "hfjax.networks:relu"
    assert value_in_words((networks.relu,)) == "(hfjax.networks:relu,)"
    assert value_in_words("text") == "'text'"
    assert " at 0x" not in value_in_words(object())


def test_every_setting_of_every_config_has_a_line_without_a_memory_address():
    for make in fdl_configs.configs().values():
        text = "\n".join(setting_lines(make()))
        assert " at 0x" not in text
        for setting in settings(make()):
            shown = f"  {setting.path} " in text
            left_to_the_caller = setting.is_partial and setting.value is UNSET
            assert shown != left_to_the_caller, setting.path


def test_a_schedule_that_follows_the_run_shows_its_number_of_steps():
    config = fdl_configs.make("grid_rnn", "laptop")
    config.num_steps = 777
    text = "\n".join(setting_lines(config))
    assert any(
        isinstance(s.node, fdl.Config) and NumSteps in s.node.__argument_tags__.get(s.name, ())
        for s in settings(config)
    )
    line = next(line for line in text.splitlines() if "learning_rate.num_steps" in line)
    assert "777" in line


def test_schedules_explain_their_settings():
    assert "optimizer updates" in meanings(schedules.cosine)["updates_per_step"]
