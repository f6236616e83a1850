"""The command line in this process: flags, configs, settings and their texts."""

import os
import pathlib
import subprocess
import sys

import pytest
from fiddle.experimental import serialization

import fdl_configs
import hfjax
from hfjax.__main__ import main
from hfjax.training import config_text
from tests import toy


@pytest.fixture(scope="module")
def toy_config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "toy.json"
    path.write_text(serialization.dump_json(toy.config()))
    return f"--fdl_config_file={path}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fdl_config=grid_rn"], "did you mean 'grid_rnn'? Choose from"),
        (
            ["--fdl_config=grid_lstm", "--fiddler=lapto"],
            "--fiddler=lapto is not for grid_lstm; did you mean 'laptop'? Choose from laptop,",
        ),
        (["--fdl_config=grid_lstm", "--fiddler=tanh_maps"], "tanh_maps is not for grid_lstm"),
        (
            ["--fdl_config=biohsic", "--fiddler=digits", "--fiddler=fashion_mnist"],
            "--fiddler=fashion_mnist",
        ),
        (
            ["TOY", "--fdl_set=task.num_unit=3"],
            "there is no setting 'task.num_unit'; did you mean 'task.num_units'?",
        ),
        (["TOY", "--fdl_set=num_units=3"], "did you mean 'task.num_units'?"),
        (["TOY", "--fdl_set=task.num_units='x'"], "task.num_units must be a whole number"),
        (
            ["TOY", "--fdl_set=task.num_units=x"],
            "task.num_units must be a whole number, but is 'x'",
        ),
        (["TOY", "--fdl_set=task.num_units.x=3"], "'task.num_units' has no settings of its own"),
        (["TOY", "--fdl_set=task=nowhere:task"], "the module 'nowhere' cannot be imported"),
        (["TOY", "--fdl_set=task=tests.toy:tusk"], "there is no function 'tests.toy:tusk'"),
        (["TOY", "--fdl_set=task.num_units=0"], "num_units must be at least 1, but is 0"),
        (["TOY", "--fdl_set=chunk=100"], "chunk must be at most num_steps"),
        (["TOY", "--fdl_set=chunk"], "has no value"),
        (["TOY", "--fdl_set==3"], "'' is no path of a setting"),
        (["TOY", "--fdl_set=task..num_units=3"], "is no path of a setting"),
        (["TOY", "--fdl_set=.num_steps=3"], "is no path of a setting"),
        (["TOY", "--wrkdir=x"], "Did you mean: workdir"),
        (["TOY", "--writers=wandd"], "--writers has no 'wandd'; did you mean 'wandb'"),
        (["TOY", "--seeds=many"], "flag --seeds"),
        (["TOY", "--wandb_mode=on"], "--wandb_mode has no 'on'; did you mean"),
        (["--fdl_config_file=nowhere"], "nowhere"),
        (["--fdl_config=nowhere.to_be_seen"], "the module 'nowhere' cannot be imported"),
        (["--fdl_config=tests.toy.confg"], "did you mean 'config'"),
        (["--fdl_config=tests.toy.task"], "tests.toy:task is no config: it returns Task, not fdl."),
        (["--fdl_config=json.dumps"], "json:dumps is no config: it needs the argument 'obj'."),
        (["--fdl_config=sys:exit"], "exit failed: SystemExit"),
        (["--fdl_config=.x"], "'.x' is no name of a config, as grid_rnn or my_module.my_config."),
        (["--fdl_config=x..y"], "'x..y' is no name of a config"),
        (["TOY", "--fiddler=wide"], "--fiddler=wide is not for from_file; there is none to choose"),
        (["TOY", "--fdl_set=task=3"], "task must be a Task, but is 3."),
        (["TOY", "--fdl_set=zzz=3"], "there is no setting 'zzz'; settings: task, data, num_steps,"),
        (["TOY", "--wandb_mode=?"], "--wandb_mode has no '?'; choose from auto,"),
        (["TOY", "--workdir=az://bucket/run"], "az://bucket/run is an address, but only paths of"),
        (
            ["TOY", "--workdir=/dev/null"],
            "the workdir /dev/null is a file, where a folder",
        ),
        (["TOY", "--init_from=az://bucket/run"], "az://bucket/run is an address, but only paths"),
        (["TOY", "--workdir=~nobody_here/run"], "home folder of an unknown user"),
        (
            ["--fdl_config=biohsic", "--fiddler=cifar10", "--fiddler=digits"],
            "--fiddler=cifar10 and --fiddler=digits both set data; give one of them.",
        ),
        (
            ["--fdl_config=grid_rnn", "--fiddler=lstm", "--fiddler=tanh"],
            "tanh does not go with --fiddler=lstm: lstm has no setting 'nonlinearity'.",
        ),
        (
            ["--fdl_config=pattern_formation", "--fdl_set=task.optimizer=tanh"],
            "task.optimizer must be a GradientTransformation or None, but hfjax.networks:tanh make",
        ),
        (
            ["--fdl_config=pattern_formation", "--fdl_set=task.nonlinearity=linear_init"],
            "`init` of the task fails with these settings and data: TypeError: linear_init() miss",
        ),
        (
            ["--fdl_config=biohsic", "--fiddler=digits", "--fdl_set=data=mnist_1k"],
            "there is no function 'mnist_1k'; did you mean 'mnist_10k'",
        ),
        (
            ["--fdl_config=helmholtz", "--fdl_set=task.circuit=relu"],
            "task.circuit must be a tuple of items, each a Source or a Feedforward or a Pyramidal "
            "or None, but hfjax.networks:relu makes an array.",
        ),
        (["--fdl_config=helmholtz", "--fdl_set=data=3"], "helmholtz takes no data, for its task"),
        (["--fdl_config=grid_rnn", "--fiddler=recorded"], "data.path is not set; give --fdl_set="),
        (["--fdl_config=reservoir", "--fdl_set=data=3"], "`sample` of the task fails"),
        (["TOY", "stray"], "unexpected argument 'stray'"),
        (["TOY", "--init_from=nowhere"], "nowhere holds no run"),
        (["--seed=1"], "--fdl_config is missing"),
        (["TOY", "--data_dir=x"], "--data_dir is not for from_file: its data have no setting data"),
        (
            ["--fdl_config=helmholtz", "--fdl_set=task.gate.fraction=1.5"],
            "the gate's fraction must be between 0 and 1, but is 1.5",
        ),
        (
            ["--fdl_config=biohsic", "--fiddler=digits", "--fdl_set=task.memory.window=1"],
            "at least 2",
        ),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    tmp_path, capsys, toy_config, arguments, message
):
    arguments = [toy_config if a == "TOY" else a for a in arguments]
    if not any(a.startswith("--workdir") for a in arguments):
        arguments = [*arguments, f"--workdir={tmp_path}/run"]
    assert main(["hfjax", *arguments]) == 2
    out, error = capsys.readouterr()
    assert message in error
    assert error.startswith("hfjax: ")
    assert error.count("\n") == 1
    assert out == ""
    assert not (tmp_path / "run").exists()


def test_list_and_info_say_what_the_flags_say(capsys):
    def said(*arguments):
        return main(["hfjax", *arguments]), capsys.readouterr()

    code, listed = said("list")
    assert code == 0
    assert listed.out.startswith("  biohsic ")
    assert listed.out.strip() in said("--help")[1].out
    code, info = said("info", "grid_rnn", "--fiddler=tanh")
    assert code == 0
    assert info == said("--fdl_config=grid_rnn", "--fiddler=tanh", "--fdl_help")[1]
    assert "task.network.nonlinearity" in info.out
    code, wrong = said("info", "gridrnn")
    assert code == 2
    assert "--fdl_config=gridrnn is unknown; did you mean 'grid_rnn'" in wrong.err


def test_help_lists_each_model_with_its_configs_and_fiddlers(capsys):
    assert main(["hfjax", "--help"]) == 0
    out, error = capsys.readouterr()
    assert out.startswith("hfjax: models of the hippocampal formation")
    for word in ("--workdir", "--seeds", "--fdl_set", "Example:"):
        assert word in out
    assert "absl" not in out
    assert error == ""
    models = out.split("\n\n")
    topo_grid = next(m for m in models if m.startswith("  topo_grid_plain "))
    assert "topo_grid_topoloss" in topo_grid
    assert "sheet_grids" in topo_grid
    assert "gradient_tau" not in topo_grid


@pytest.mark.parametrize("config", ["grid_rnn", "pattern_formation"])
def test_texts_fit_a_narrow_terminal(capsys, monkeypatch, config):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["hfjax", "--help"]) == 0
    assert main(["hfjax", f"--fdl_config={config}", "--fdl_help"]) == 0
    for line in capsys.readouterr().out.splitlines():
        assert len(line) <= 80 or line.startswith("    python -m hfjax")


def test_data_are_read_from_the_folder_of_data_dir(tmp_path, capsys):
    wrong = tmp_path / "t10k-images-idx3-ubyte"
    wrong.write_bytes(b"not an IDX file")
    arguments = ["--fdl_config=biohsic", "--fiddler=mnist_10k", f"--data_dir={tmp_path}"]
    assert main(["hfjax", *arguments, f"--workdir={tmp_path}/run"]) == 2
    assert str(wrong) in capsys.readouterr().err


# --- Texts ---


def test_the_manual_shows_the_settings_after_fiddlers_and_overrides(capsys):
    flags = ("--fiddler=torus", "--fdl_set=task.gate.fraction=0.25", "--fdl_help")
    assert main(["hfjax", "--fdl_config=helmholtz_path_integration", *flags]) == 0
    out, error = capsys.readouterr()
    assert error == ""
    assert out.startswith("helmholtz_path_integration changed by torus: Helmholtz machine on a")
    indented = [line for line in out.splitlines() if line.startswith("  ")]
    lines = {line.split()[0]: line for line in reversed(indented)}
    assert lines["task.circuit.num_place"].split()[1] == "225"
    assert lines["task.gate.fraction"].split()[1] == "0.25"
    assert "num_steps 180 training steps in all" in " ".join(out.split())
    assert "ridge_only" in lines
    assert "hierarchy" not in out
    assert " at 0x" not in out


def test_print_config_is_a_dry_run(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = ("--fiddler=laptop", "--seed=3", "--fdl_set=task.network.nonlinearity=tanh")
    assert main(["hfjax", "--fdl_config=grid_rnn", *flags, "--print_config"]) == 0
    out, error = capsys.readouterr()
    assert error == ""
    lines = out.splitlines()
    assert lines[0] == "# workdir runs/grid_rnn-laptop-seed3"
    assert "task.network.nonlinearity=hfjax.networks:tanh" in lines
    assert "task.num_grid=256" in lines
    assert "seed=3" in lines
    assert not list(tmp_path.iterdir())
    again = [f"--fdl_set={line}" for line in lines[1:]]
    assert main(["hfjax", "--fdl_config=grid_rnn", *again, "--print_config"]) == 0
    assert capsys.readouterr()[0].splitlines()[1:] == lines[1:]


def misfit():
    """A task whose step does not fit its state."""
    return toy.task()._replace(step=lambda state, batch, key: (batch, {}))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("chunk=0", "chunk must be at least 1"),
        ("eval_every=7", "eval_every must be a multiple of chunk"),
        ("seeds=0", "seeds must be at least 1"),
        ("task=3", "task must be a Task"),
        ("task.num_units=0", "num_units must be at least 1"),
        ("task=tests.test_main:misfit", "`step` of the task fails"),
        ("init_from=nowhere", "nowhere holds no run"),
        ("init_from=az://bucket/run", "az://bucket/run is an address"),
    ],
)
def test_a_dry_run_checks_what_needs_no_training(toy_config, capsys, setting, message):
    assert main(["hfjax", toy_config, f"--fdl_set={setting}", "--print_config"]) == 2
    out, error = capsys.readouterr()
    assert message in error
    assert error.count("\n") == 1
    assert out == ""


def test_default_workdirs_do_not_collide(tmp_path, capsys):
    def workdir(*flags):
        assert main(["hfjax", "--fdl_config=grid_lstm", *flags, "--print_config"]) == 0
        return capsys.readouterr()[0].splitlines()[0].removeprefix("# workdir ")

    assert workdir() == "runs/grid_lstm"
    assert workdir("--fiddler=tanni", "--fiddler=laptop") == "runs/grid_lstm-laptop-tanni"
    assert workdir("--seed=1", "--seeds=8") == "runs/grid_lstm-seed1-8seeds"
    assert workdir(f"--workdir={tmp_path}") == str(tmp_path)


# --- Configs from elsewhere ---

MINE = '''
import fiddle as fdl
from tests import toy

def mine() -> fdl.Config:
    """A config of a user."""
    return toy.config()

def wide(cfg: fdl.Config) -> None:
    """More units."""
    cfg.task.num_units = 77
'''


def test_a_config_of_the_current_directory_with_its_fiddlers(tmp_path, monkeypatch, capsys):
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "models.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])  # as of an installed command
    config = "--fdl_config=my_package.models.mine"
    assert main(["hfjax", config, "--fiddler=wide", "--print_config"]) == 0
    out = capsys.readouterr()[0]
    assert "task.num_units=77" in out
    assert out.startswith("# workdir runs/mine-wide\n")
    assert main(["hfjax", config, "--fiddler=wid", "--print_config"]) == 2
    assert "--fiddler=wid is not for mine; did you mean 'wide'" in capsys.readouterr()[1]
    ours = ("--fdl_config=pattern_formation", "--fiddler=my_package.models.wide")
    assert main(["hfjax", *ours, "--print_config"]) == 2
    assert "--fiddler=my_package.models.wide does not fit" in capsys.readouterr()[1]


def test_a_folder_fdl_configs_of_the_current_directory_hides_none_of_ours(tmp_path):
    theirs = tmp_path / "fdl_configs"
    theirs.mkdir()
    (theirs / "__init__.py").write_text("raise RuntimeError('not this one')")
    (theirs / "theirs.py").write_text(MINE)
    (theirs / "broken.py").write_text("def")
    program = """
import os, sys
sys.path.insert(0, os.getcwd())  # as python -m does
from hfjax.__main__ import main
from hfjax.training import config_text
assert main(["hfjax", "--help"]) == 0
for config in ("mine", "fdl_configs.theirs.mine", "pattern_formation"):
    assert main(["hfjax", f"--fdl_config={config}", "--print_config"]) == 0
"""
    environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parent.parent)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "A config of a user." in done.stdout
    assert done.stdout.count("task.num_units=4") == 2
    assert "task.num_maps=32" in done.stdout


def test_a_config_file_has_the_fiddlers_of_its_model(tmp_path, capsys):
    path = tmp_path / "config.json"
    path.write_text(serialization.dump_json(fdl_configs.make("pattern_formation")))
    flags = (f"--fdl_config_file={path}", "--fiddler=hierarchy", "--print_config")
    assert main(["hfjax", *flags]) == 0
    assert "task.num_maps=64" in capsys.readouterr()[0]


def test_a_config_file_that_names_what_is_not_here_says_which_name(tmp_path, capsys):
    path = tmp_path / "config.json"
    text = config_text.to_json(toy.config()).replace('"task"', '"tusk"')
    text = text.replace(f'"hfjax": "{hfjax.__version__}"', '"hfjax": "0.0.7"')
    for content, message in (
        (text, "tests.toy.tusk, which cannot be imported"),
        (text, f"written by hfjax 0.0.7, this is hfjax {hfjax.__version__}"),
        ("{", "damaged"),
        ("", "is damaged (it is empty)"),
    ):
        path.write_text(content)
        assert main(["hfjax", f"--fdl_config_file={path}", "--print_config"]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
