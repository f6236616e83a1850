"""The completion script, asked by bash itself."""

import shutil
import subprocess

import pytest

from hfjax.__main__ import main


@pytest.fixture
def offered(capsys):
    """A function: what bash offers after the words of a line, which it cuts at each equals sign."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash")
    assert main(["hfjax", "completion"]) == 0
    script = capsys.readouterr().out

    def ask(*words):
        ask = 'COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _hfjax; echo "${COMPREPLY[*]}"'
        answer = subprocess.run(
            [bash, "-c", f"{script}\n{ask}", "bash", "hfjax", *words],
            capture_output=True,
            text=True,
            check=True,
        )
        assert not answer.stderr
        return answer.stdout.split()

    return ask


def test_configs_fiddlers_flags_and_values_are_offered(offered):
    assert offered("--fdl_config", "=", "grid") == ["grid_lstm", "grid_rnn"]
    assert offered("info", "topo_grid_p") == ["topo_grid_plain"]
    assert offered("li") == ["list"]
    assert offered("--fdl_s") == ["--fdl_set="]
    assert offered("--break") == ["--break_lock"]  # takes no value
    assert offered("--animate_as", "=") == ["gif", "mp4"]
    assert offered("--writers", "=", "j") == ["jsonl"]
    assert offered("--seed", "=") == []
    assert "list" not in offered("list", "")
    assert "grid_rnn" in offered("--fdl_config", "=")


def test_fiddlers_are_those_of_the_config_on_the_line(offered):
    line = ("--fdl_config", "=", "grid_rnn", "--fiddler", "=")
    assert offered(*line, "cpu") == ["cpu_grids"]
    assert "pendulum" not in offered(*line)
    assert offered("--fdl_config", "=", "conformal", "--fiddler", "=", "one") == [
        "one_module",
        "one_minute",
    ]
    assert offered("--fiddler", "=", "lap") == []
    assert offered("info", "grid_rnn", "--fiddler", "=", "cpu") == ["cpu_grids"]


def test_a_value_may_be_a_word_of_its_own(offered):
    assert offered("--fdl_config", "grid") == ["grid_lstm", "grid_rnn"]
    assert offered("--fdl_config", "grid_rnn", "--fiddler", "cpu") == ["cpu_grids"]


def test_shells_that_keep_a_flag_and_its_value_in_one_word_are_served_too(offered):
    assert offered("--fdl_config=grid_rnn", "--fiddler=cpu") == ["--fiddler=cpu_grids"]


def test_paths_are_left_to_the_shell(offered):
    assert offered("--workdir", "=", "r") == []
