"""Finding configs and fiddlers by name."""

import importlib
import subprocess
import sys

import pytest

import fdl_configs
from fdl_configs import __main__ as readme
from hfjax.errors import InputError


def test_a_config_is_found_by_name_also_where_a_module_has_that_name():
    importlib.import_module("fdl_configs.grid_rnn")
    assert fdl_configs.grid_rnn is importlib.import_module("fdl_configs.grid_rnn").grid_rnn
    assert fdl_configs.dsm_windy().task.gamma == 0.95
    with pytest.raises(AttributeError, match="no attribute 'laptop'"):
        _ = fdl_configs.laptop


def test_the_sources_list_what_the_imported_modules_have():
    for name, function in fdl_configs.configs().items():
        source = fdl_configs.sources()[function.__module__]
        assert name in source.configs
        assert list(source.fiddlers) == list(fdl_configs.fiddlers_of(function))
        assert "" not in [*source.configs.values(), *source.fiddlers.values()]


def test_every_fiddler_changes_every_config_of_its_module():
    for name, function in fdl_configs.configs().items():
        for fiddler in fdl_configs.fiddlers_of(function):
            fdl_configs.make(name, fiddler)


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(InputError, match="no config 'grid_rn'; did you mean 'grid_rnn'"):
        fdl_configs.make("grid_rn")
    with pytest.raises(InputError, match="grid_lstm has no fiddler 'lapto'; did you mean 'laptop'"):
        fdl_configs.make("grid_lstm", "lapto")


def test_help_and_typos_import_no_jax_and_a_config_no_other_model():
    program = (
        "import sys, fdl_configs; from hfjax.__main__ import main;"
        "assert main(['hfjax', '--help']) == 0;"
        "assert main(['hfjax', '--fdl_config=grid_rnn', '--fiddler=lapto']) == 2;"
        "assert 'jax' not in sys.modules;"
        "fdl_configs.make('pattern_formation');"
        "assert not {'hfjax.models.dsm', 'hfjax.models.biohsic'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_table_in_the_readme_is_that_of_the_configs():
    text = readme.README.read_text()
    assert readme.with_table(text) == text, "run python -m fdl_configs"
    rows = [line for line in readme.table().splitlines() if line.startswith("| `")]
    assert len(rows) == 1 + len(fdl_configs.configs())
    for results in {source.results for source in fdl_configs.sources().values()} - {""}:
        assert (readme.README.parent / results).is_file()


def test_a_readme_without_marks_is_refused():
    with pytest.raises(ValueError, match="the README needs the lines"):
        readme.with_table("# hfjax")
