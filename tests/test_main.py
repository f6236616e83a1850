"""The command line in this process: flags, configs, settings and their texts."""

import pytest
from fiddle.experimental import serialization

from hfjax.__main__ import main
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
        (["TOY", "--wrkdir=x"], "Did you mean: workdir"),
        (["TOY", "--writers=wandd"], "--writers has no 'wandd'; did you mean 'wandb'"),
        (["TOY", "--seeds=many"], "flag --seeds"),
        (["TOY", "--wandb_mode=on"], "--wandb_mode has no 'on'; did you mean"),
        (["--fdl_config_file=nowhere"], "nowhere"),
        (["--fdl_config=nowhere.to_be_seen"], "the module 'nowhere' cannot be imported"),
        (["--fdl_config=tests.toy.confg"], "did you mean 'config'"),
        (["TOY", "stray"], "unexpected argument 'stray'"),
        (["TOY", "--init_from=nowhere"], "nowhere holds no run"),
        (["--seed=1"], "--fdl_config is missing"),
        (["TOY", "--data_dir=x"], "there is no setting 'data.data_dir'"),
        (
            ["--fdl_config=helmholtz", "--fdl_set=task.gate.fraction=1.5"],
            "the gate's fraction must be between 0 and 1, but is 1.5",
        ),
        (["--fdl_config=biohsic", "--fiddler=digits", "--fdl_set=task.window=1"], "at least 2"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    tmp_path, capsys, toy_config, arguments, message
):
    arguments = [toy_config if a == "TOY" else a for a in arguments]
    assert main(["hfjax", *arguments, f"--workdir={tmp_path}/run"]) == 2
    out, error = capsys.readouterr()
    assert message in error
    assert error.startswith("hfjax: ")
    assert error.count("\n") == 1
    assert out == ""
    assert not (tmp_path / "run").exists()


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


def test_data_are_read_from_the_folder_of_data_dir(tmp_path, capsys):
    wrong = tmp_path / "t10k-images-idx3-ubyte"
    wrong.write_bytes(b"not an IDX file")
    arguments = ["--fdl_config=biohsic", "--fiddler=mnist_10k", f"--data_dir={tmp_path}"]
    assert main(["hfjax", *arguments, f"--workdir={tmp_path}/run"]) == 2
    assert str(wrong) in capsys.readouterr().err
