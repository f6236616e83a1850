"""The command line in processes of its own: signals, kills, faults, flags."""

import os
import shutil
import signal
import stat
import time

import numpy as np
import pytest
from fiddle.experimental import serialization

import hfjax
from hfjax.training import log, redraw
from hfjax.training import workdir as wd
from tests import toy
from tests.command_line import finish, start, tree, wait_until
from tests.command_line import hfjax as command


@pytest.fixture(scope="module")
def toy_config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "toy.json"
    path.write_text(serialization.dump_json(toy.config()))
    return f"--fdl_config_file={path}"


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, toy_config):
    """A complete run of the slow toy (its clock does not change its numbers)."""
    workdir = tmp_path_factory.mktemp("uninterrupted")
    code, out, error = command(toy_config, "--fdl_set=task.slow_s=0.001", f"--workdir={workdir}")
    assert code == 0, error
    assert "Complete after 40 steps" in out
    return workdir


def assert_same_result(workdir, reference):
    assert (workdir / "metrics.jsonl").read_bytes() == (reference / "metrics.jsonl").read_bytes()
    ours, theirs = hfjax.load(workdir).state, hfjax.load(reference).state
    np.testing.assert_array_equal(ours["params"]["w"], theirs["params"]["w"])
    np.testing.assert_array_equal(ours["opt_state"][0].nu["w"], theirs["opt_state"][0].nu["w"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_saves_and_the_same_command_goes_on(tmp_path, toy_config, number):
    slow = (toy_config, "--fdl_set=task.slow_s=0.1", f"--workdir={tmp_path}")
    process = start(*slow)
    wait_until(lambda: b'"step": 5,' in read(tmp_path / "metrics.jsonl"), process)
    process.send_signal(number)
    code, out, error = finish(process)
    assert code == 0, error
    assert f"Stopped by {number.name}" in out
    assert "Give the same command again to go on" in out
    step = max(int(p.name) for p in (tmp_path / "checkpoints").iterdir())
    assert step % 5 == 0
    assert 5 <= step < 40
    code, out, error = command(*slow)
    assert code == 0, error
    assert f"Resuming at step {step} of 40" in out
    assert "Complete after 40 steps" in out


def read(path):
    return path.read_bytes() if path.exists() else b""


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_bit_identical(tmp_path, toy_config, uninterrupted):
    slow = (toy_config, "--fdl_set=task.slow_s=0.001", f"--workdir={tmp_path}")
    rng = np.random.default_rng(0)
    for marker in (b'"step": 0,', b'"step": 10,', b'"step": 25,', b'"step": 30, "eval'):
        process = start(*slow)
        wait_until(lambda m=marker: m in read(tmp_path / "metrics.jsonl"), process)
        time.sleep(rng.uniform(0, 0.3))
        process.kill()
        finish(process)
    code, out, error = command(*slow)
    assert code == 0, error
    assert "Complete after 40 steps" in out
    assert_same_result(tmp_path, uninterrupted)


def test_damaged_newest_checkpoint_is_set_aside(tmp_path, toy_config, uninterrupted):
    workdir = tmp_path / "run"
    shutil.copytree(uninterrupted, workdir)
    for file in (workdir / "checkpoints" / "40").rglob("d/*"):  # every array's bytes
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    code, out, error = command(toy_config, "--fdl_set=task.slow_s=0.001", f"--workdir={workdir}")
    assert code == 0
    assert error == ""
    assert "warning: the checkpoint of step 40 cannot be read" in out
    assert "Resuming at step 30 of 40" in out
    assert (workdir / "corrupt_checkpoints" / "40").is_dir()
    assert_same_result(workdir, uninterrupted)


def test_full_disk_ends_in_a_sentence_with_the_last_checkpoint_intact(tmp_path, toy_config):
    large = (toy_config, "--fdl_set=task.num_units=200", f"--workdir={tmp_path}")
    process = start(*large, "--fdl_set=task.slow_s=0.1")
    wait_until(lambda: (tmp_path / "checkpoints" / "10").exists(), process)
    process.send_signal(signal.SIGTERM)
    finish(process)
    before = hfjax.load(tmp_path).state
    code, _, error = command(*large, "--fdl_set=task.slow_s=0.1", largest_file_kib=60)
    assert code == 1
    assert "the workdir cannot be written" in error
    assert f"newest good checkpoint is that of step {before['steps']} " in error
    assert "Traceback" not in error
    after = hfjax.load(tmp_path).state
    np.testing.assert_array_equal(after["params"]["w"], before["params"]["w"])


def test_workdir_that_cannot_be_written_is_refused(tmp_path, toy_config):
    if os.geteuid() == 0:  # root may write anywhere but here
        workdir = "/proc/hfjax"
    else:
        tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
        workdir = tmp_path / "run"
    code, _, error = command(toy_config, f"--workdir={workdir}")
    assert code == 2
    assert error.startswith(f"hfjax: the workdir {workdir} cannot be written")
    assert error.count("\n") == 1


def test_workdir_of_another_config_is_refused_untouched(toy_config, uninterrupted):
    before = tree(uninterrupted)
    code, _, error = command(toy_config, f"--workdir={uninterrupted}", "--seed=3")
    assert code == 2
    assert "task.slow_s is 0.001 there, 0.0 here; seed is 0 there, 3 here" in error
    assert tree(uninterrupted) == before


def test_nan_ends_with_exit_code_1(tmp_path, toy_config):
    code, _, error = command(toy_config, "--fdl_set=task.nan_at=26", f"--workdir={tmp_path}")
    assert code == 1
    assert error.startswith("hfjax: training stopped at step 27: loss is nan; ")
    assert "step 20" in error
    assert (tmp_path / "checkpoints" / "20").exists()


def test_wandb_goes_on_in_the_same_run_and_its_failure_stops_nothing(tmp_path, toy_config):
    flags = (toy_config, "--fdl_set=task.slow_s=0.1", "--writers=wandb,jsonl,terminal")
    online = (*flags, f"--workdir={tmp_path}/run", "--wandb_mode=offline")
    process = start(*online)
    wait_until(lambda: b'"step": 5,' in read(tmp_path / "run" / "metrics.jsonl"), process)
    process.send_signal(signal.SIGTERM)
    assert finish(process)[0] == 0
    code, _, error = command(*online)
    assert code == 0, error
    run_id = (tmp_path / "run" / "wandb" / "run_id").read_text()
    parts = list((tmp_path / "run" / "wandb").glob("offline-run-*"))
    assert len(parts) == 2
    assert all(part.name.endswith(run_id) for part in parts)

    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "wandb").write_text("a file where W&B wants a folder")
    code, out, error = command(*flags, f"--workdir={tmp_path}/other")
    assert code == 0, error
    assert "warning: the wandb writer failed and is off" in out
    assert "Complete after 40 steps" in out


def test_tensorboard_and_profile_leave_their_files(tmp_path, toy_config):
    pytest.importorskip("tensorboardX")
    code, out, error = command(
        toy_config, f"--workdir={tmp_path}", "--writers=tensorboard,terminal", "--profile"
    )
    assert code == 0, error
    assert list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))
    assert list((tmp_path / "profile").rglob("*.trace.json.gz"))
    assert "A trace of steps 5 to 10" in out
    assert not (tmp_path / "metrics.jsonl").exists()


def test_redraw_draws_the_same_figures_again(uninterrupted):
    names = sorted(p.name for p in (uninterrupted / "figures").iterdir())
    step, readout = wd.load_readout(uninterrupted)
    assert step == 40
    assert readout["weights"].shape == (4, 4)
    for path in (uninterrupted / "figures").iterdir():
        path.unlink()
    assert redraw.main([str(uninterrupted)]) == 0
    assert sorted(p.name for p in (uninterrupted / "figures").iterdir()) == names


@pytest.mark.slow
def test_a_small_grid_rnn_from_start_to_end(tmp_path):
    """The main job as a person runs it, made small: W&B, JSONL and terminal, then redrawn."""
    small = {
        "task.num_grid": 32,
        "task.num_place": 64,
        "task.batch_size": 20,
        "task.evaluation.num_map_walks": 500,
        "task.evaluation.num_rollouts": 10,
        "task.evaluation.num_noise_maps": 50,
        "num_steps": 200,
        "eval_every": 200,
        "save_every": 100,
    }
    code, out, error = command(
        "--fdl_config=grid_rnn",
        "--fiddler=laptop",
        *(f"--fdl_set={path}={value}" for path, value in small.items()),
        f"--workdir={tmp_path}/run",
        "--writers=wandb,jsonl,terminal",
        "--wandb_mode=offline",
        "--wandb_tags=small,test",
    )
    assert code == 0, error
    assert error == ""
    assert "warning" not in out
    assert "Complete after 200 steps" in out
    run = tmp_path / "run"
    assert sorted(p.name for p in run.iterdir()) == [
        "checkpoints",
        "config.json",
        "config.py",
        "figures",
        "metrics.jsonl",
        "provenance.json",
        "readout",
        "wandb",
    ]
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == ["100", "200"]
    figures = {p.stem for p in (run / "figures").iterdir()}
    assert {"rate_maps", "autocorrelograms", "grid_scores", "trajectories", "training"} <= figures
    records = log.read_metrics(run / "metrics.jsonl")
    first, last = (r for r in records if "eval/error_cm" in r)
    assert last["step"] == 200
    assert last["eval/error_cm"] < first["eval/error_cm"]
    assert {"eval/rat_error_cm", "eval/rollout_error_cm", "eval/noise_share_above_0.3"} <= set(last)
    _, state, config = hfjax.load(run)
    assert state.params.network.recurrent.shape == (32, 32)
    assert config.task.num_grid == 32
