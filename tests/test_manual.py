"""The manual of a config, and the meanings of parameters in docstrings."""

import functools
import inspect
import re

import fiddle as fdl

import fdl_configs
from hfjax import networks
from hfjax.training import schedules
from hfjax.training.config import UNSET, NumSteps, function_name, settings
from hfjax.training.manual import meanings, setting_lines, value_in_words


def other(e):
    """e: what it is there."""


def explained(a, b, c, d, *, e=1, f=None, unexplained=0):
    """One line.

    a: the first. Its second sentence is not shown. b, c: the next
    two: in between, in c: there is a colon.
    d         in columns, on
              two lines. -> a result

    e: as in `other`.
    f (int): as :func:`others` write ``it``.
    Raises ValueError where f: is wrong.

    Source: unexplained.
    """


def test_meanings_are_read_from_a_docstring():
    assert meanings(explained) == {
        "a": "the first",
        "b": "the next two: in between, in c: there is a colon",
        "c": "the next two: in between, in c: there is a colon",
        "d": "in columns, on two lines",
        "e": "what it is there",
        "f": "as `others` write `it`",
    }


# --- The settings of our configs ---


@functools.cache
def own_meanings():
    """(function, {parameter: meaning}, names) of what configs call, alone and with each fiddler."""
    shown = {}
    for name, make in fdl_configs.configs().items():
        for fiddlers in [(), *((f,) for f in fdl_configs.fiddlers_of(make))]:
            for setting in settings(fdl_configs.make(name, *fiddlers)):
                if setting.name and not (setting.value is UNSET and setting.is_partial):
                    shown.setdefault(setting.function, set()).add(setting.name)
    return [(f, meanings(f), names) for f, names in shown.items()]


def test_every_setting_has_a_meaning_that_no_other_setting_of_its_function_has():
    missing, shared = [], []
    for function, explained, names in own_meanings():
        missing += [f"{function_name(function)}.{n}" for n in names if not explained.get(n)]
        texts = [explained[n] for n in names if n in explained]
        shared += [f"{function_name(function)}: {t}" for t in set(texts) if texts.count(t) > 1]
    assert not missing
    assert not shared


def test_a_meaning_is_one_sentence_of_its_own_function_or_of_the_one_it_names():
    for function, explained, names in own_meanings():
        docs = inspect.getdoc(function)
        for name in names:
            text, entry = explained[name], rf"\b{name}\b"
            named = re.search(rf"{entry}[\w,\s]*(?::|  )\s*as\s+in\s+`([\w.]+)`", docs)
            assert bool(named) != (text in plain(docs)), (function, name, text)
            assert not re.match(r"as in |see ", text), (function, name, text)
            # Nothing of the next entry, and no result.
            others = "|".join(set(explained) - {name}) or "$^"
            pattern = rf"\. [A-Z]|\b({others})(:|  )|(?<!\)) -> "
            assert not re.search(pattern, text), (function, name, text)


def plain(docs):
    return " ".join(re.sub(r":\w+:(?=`)|`(?=`)", "", docs).split())


def test_a_narrow_terminal_shows_a_meaning_below_its_setting():
    lines = setting_lines(fdl_configs.make("grid_rnn"), columns=80)
    i = lines.index("  task.dt_s                      0.02")
    assert lines[i + 1] == "      duration of a time step (s)"
    assert all(len(line) <= 80 for line in lines if line.startswith("      "))


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
