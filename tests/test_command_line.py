"""The command line in separate processes: signals, kills, a full disk, the main job."""

import json
import signal

import numpy as np
import pytest

import hfjax
from hfjax.errors import STOPPED
from hfjax.training import log
from tests.command_line import finish, hfjax_here, start, stop_after, wait_until
from tests.command_line import hfjax as command

TOY = "--fdl_config=tests.toy.config"


@pytest.fixture
def gates(tmp_path):
    folder = tmp_path / "gates"
    folder.mkdir()
    return folder


def open_gate(gates, step):
    (gates / f"wait_{step}").unlink()


def start_until(gates, step, *arguments):
    """A process that stands in the middle of `step`."""
    (gates / f"wait_{step}").touch()
    process = start(*arguments)
    wait_until((gates / f"at_{step}").exists, process)
    return process


def read(path):
    return path.read_bytes() if path.exists() else b""


def assert_same_result(workdir, reference):
    assert (workdir / "metrics.jsonl").read_bytes() == (reference / "metrics.jsonl").read_bytes()
    ours, theirs = hfjax.load(workdir).state, hfjax.load(reference).state
    np.testing.assert_array_equal(ours["params"]["w"], theirs["params"]["w"])
    np.testing.assert_array_equal(ours["opt_state"][0].nu["w"], theirs["opt_state"][0].nu["w"])


@pytest.mark.slow
def test_stopped_and_killed_it_goes_on_and_ends_bit_identical(tmp_path, gates):
    """SIGTERM in a chunk, SIGKILL in a chunk, SIGKILL at an evaluation, SIGUSR2, and to the end.

    Nobody reads the last part: its stdout is closed, as by `| head -1`, and its terminal too.
    """
    toy = (TOY, f"--fdl_set=task.gates={gates}")
    run = (*toy, f"--workdir={tmp_path}/run")
    metrics = tmp_path / "run" / "metrics.jsonl"

    process = start_until(gates, 7, *run)
    process.send_signal(signal.SIGTERM)
    open_gate(gates, 7)
    code, out, error = finish(process)
    assert (code, error) == (STOPPED, "")
    assert "From step 0 of 40: one model" in out
    assert "Stopped by SIGTERM at step 10; everything is saved. Give the same command again" in out
    assert [p.name for p in (tmp_path / "run" / "checkpoints").iterdir()] == ["10"]

    process = start_until(gates, 17, *run)
    process.kill()
    assert finish(process)[0] == -signal.SIGKILL
    assert b'"step": 15' in read(metrics)  # is not in a checkpoint, and made again

    open_gate(gates, 17)
    process = start(*run)
    wait_until(lambda: b'"step": 20, "eval' in read(metrics), process)
    process.kill()  # near the evaluation's figures, readout and checkpoint
    finish(process)

    process = start_until(gates, 32, *run)
    process.send_signal(signal.SIGUSR2)
    open_gate(gates, 32)
    code, out, error = finish(process)
    assert (code, error) == (STOPPED, "")
    assert "Resuming at step" in out
    assert "Stopped by SIGUSR2 at step 35" in out

    process = start_until(gates, 37, *run)
    with process:
        assert "Resuming at step 35 of 40" in process.stdout.readline()
        process.stdout.close()
        process.send_signal(signal.SIGHUP)
        open_gate(gates, 37)
        assert process.stderr.read() == ""
    assert process.returncode == 0
    starts = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert len(starts) == 5
    assert [s["step"] for s in starts][::4] == [0, 35]

    assert hfjax_here(*toy, f"--workdir={tmp_path}/uninterrupted")[0] == 0
    assert_same_result(tmp_path / "run", tmp_path / "uninterrupted")


def test_full_disk_ends_in_a_sentence_with_the_last_checkpoint_intact(tmp_path, monkeypatch):
    large = (TOY, "--fdl_set=task.num_units=200", f"--workdir={tmp_path}")
    with monkeypatch.context() as patch:
        stop_after(10, patch)
        code, out, _ = hfjax_here(*large)
    assert code == STOPPED
    assert "Stopped by SIGTERM at step 10" in out
    before = hfjax.load(tmp_path).state
    code, _, error = command(*large, largest_file_kib=60)
    assert code == 1
    assert "the workdir cannot be written" in error
    assert "newest good checkpoint is that of step 10 " in error
    assert error.count("\n") == 1
    after = hfjax.load(tmp_path).state
    np.testing.assert_array_equal(after["params"]["w"], before["params"]["w"])


@pytest.mark.slow
def test_a_small_grid_rnn_from_start_to_end(tmp_path):
    """The main job as a person runs it, made small: W&B, JSONL and terminal."""
    small = {
        "task.num_grid": 32,
        "task.num_place": 64,
        "task.batch_size": 20,
        "task.evaluation.num_map_walks": 200,
        "task.evaluation.num_rollouts": 4,
        "task.evaluation.rollout_steps": 60,
        "task.evaluation.num_noise_maps": 20,
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
    assert (code, error) == (0, "")
    assert "warning" not in out
    assert "Complete after 200 steps" in out
    assert f"wandb sync {tmp_path}/run/wandb/offline-run-*" in out
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
    (start_of_run,) = json.loads((run / "provenance.json").read_text())
    assert start_of_run["fdl_config"] == "grid_rnn"
    assert start_of_run["fiddlers"] == ["laptop"]
    assert "-m hfjax --fdl_config=grid_rnn --fiddler=laptop" in start_of_run["command"]
    loaded = hfjax.load(run)
    state, config = loaded.state, loaded.config
    assert state.params.network.recurrent.shape == (32, 32)
    assert config.task.num_grid == 32
