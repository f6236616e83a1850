"""One run in several real processes, which talk over the loopback."""

import atexit
import contextlib
import json
import re
import shutil
import signal
import time

import jax
import numpy as np
import pytest

import hfjax
from hfjax.errors import InputError
from hfjax.training import log, processes
from hfjax.training import run as train
from hfjax.training import workdir as wd
from tests import toy
from tests.command_line import finish, hfjax_here, start, start_together, tree, wait_until

TOY = "--fdl_config=tests.toy.config"
LONG = (TOY, "--fdl_set=num_steps=1000000", "--fdl_set=eval_every=1000000")


def said(text):
    """What a process says itself: Gloo writes to stdout too."""
    return "".join(line for line in text.splitlines(True) if not line.startswith("[Gloo]"))


def run_together(num_processes, num_devices, *arguments):
    """(stdout of the first process) of a run that all complete in silence."""
    ended = [finish(p) for p in start_together(num_processes, num_devices, *arguments)]
    assert [(code, error) for code, _, error in ended] == num_processes * [(0, "")]
    assert [said(out) for _, out, _ in ended[1:]] == (num_processes - 1) * [""]
    return said(ended[0][1])


def assert_equal_within_rounding(workdir, reference):
    ours, theirs = (log.read_metrics(w / "metrics.jsonl") for w in (workdir, reference))
    assert [r.keys() for r in ours] == [r.keys() for r in theirs]
    for our, their in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(list(our.values()), list(their.values()), rtol=2e-5)


def test_two_processes_do_the_run_of_one(tmp_path, complete_run):
    """The same loss, one set of files, one W&B run, one terminal. One process reads it."""
    workdir = tmp_path / "run"
    out = run_together(2, 1, TOY, f"--workdir={workdir}", "--writers=wandb,jsonl,terminal")
    assert "From step 0 of 40: one model on 2 CPU device(s) of 2 processes" in out
    assert out.count("Complete after 40 steps") == 1
    assert_equal_within_rounding(workdir, complete_run)
    assert len(list((workdir / "wandb").glob("offline-run-*"))) == 1
    shutil.rmtree(workdir / "wandb")
    files = {re.sub(r"/(d|ocdbt\.process_\d+)/.*|process_\d+", "", p) for p in tree(workdir)}
    assert files >= {"config.json", "config.py", "figures/weights.png", "readout/000000040.npz"}
    weights = wd.load_readout(workdir)[1]["weights"]
    np.testing.assert_array_equal(hfjax.load(workdir).state["params"]["w"], weights)
    (record,) = json.loads((workdir / "provenance.json").read_text())
    assert (record["devices"]["number"], record["devices"]["processes"]) == (2, 2)


def test_four_processes_go_on_from_what_one_wrote(tmp_path, complete_run):
    """They restore, evaluate and record the same bits, on two devices each."""
    workdir = tmp_path / "run"
    shutil.copytree(complete_run, workdir)
    (workdir / "readout" / "000000040.npz").unlink()
    out = run_together(4, 2, TOY, f"--workdir={workdir}")
    assert "Complete after 40 steps" in out
    np.testing.assert_array_equal(
        wd.load_readout(workdir)[1]["weights"], wd.load_readout(complete_run)[1]["weights"]
    )


def test_a_signal_to_one_process_stops_both_at_the_same_chunk(tmp_path):
    first, second = start_together(2, 1, *LONG, f"--workdir={tmp_path}/run")
    metrics = tmp_path / "run" / "metrics.jsonl"
    wait_until(lambda: len(log.read_metrics(metrics)) > 3, first)
    second.send_signal(signal.SIGTERM)
    (code, out, error), (code_of_second, *_) = finish(first), finish(second)
    assert (code, code_of_second, error) == (75, 75, "")
    step = int(re.search(r"Stopped by SIGTERM at step (\d+); everything is saved", out)[1])
    assert log.read_metrics(metrics)[-1]["step"] == step
    assert hfjax.load(tmp_path / "run").state["steps"] == step


def test_a_process_that_dies_ends_the_other_with_a_sentence(tmp_path):
    first, second = start_together(2, 1, *LONG, f"--workdir={tmp_path}/run")
    wait_until((tmp_path / "run" / "checkpoints" / "10").exists, first)
    second.kill()
    begun_s = time.monotonic()
    code, _, error = finish(first)
    assert time.monotonic() - begun_s < 60
    assert code == 1
    assert "hfjax: another process of this run has ended (" in error
    assert "give the same command again to go on from the newest checkpoint" in error
    assert finish(second)[0] == -signal.SIGKILL
    step = int(hfjax.load(tmp_path / "run").state["steps"])
    assert step >= 10
    again = start(*LONG, f"--workdir={tmp_path}/run")
    wait_until((tmp_path / "run" / "checkpoints" / str(step + 20)).exists, again)
    again.send_signal(signal.SIGTERM)
    code, out, error = finish(again)
    assert (code, error) == (75, "")
    assert f"Resuming at step {step} of " in out


# --- Joining ---

SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "node[001-002]",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
}


@pytest.fixture
def joined(monkeypatch):
    """What jax.distributed.initialize is called with; the processes are none."""
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *args, **_: calls.append(args))
    monkeypatch.setattr(processes, "_watch", lambda complete: None)
    monkeypatch.setattr(atexit, "register", lambda function: None)
    return calls


@pytest.mark.parametrize(
    ("environment", "arguments", "call"),
    [
        ({}, (), None),
        (SLURM, (), (None, None, None)),
        (SLURM | {"SLURM_NTASKS": "1"}, (), None),
        (SLURM, (None, 1, None), None),
        (SLURM, ("a:1", 2, 0), ("a:1", 2, 0)),
        ({"OMPI_MCA_orte_hnp_uri": "1;tcp://a:1", "OMPI_COMM_WORLD_SIZE": "4"}, (), (None,) * 3),
        ({"KUBERNETES_SERVICE_HOST": "a"}, (), None),
    ],
)
def test_a_process_of_a_cluster_joins_the_others(monkeypatch, joined, environment, arguments, call):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    processes.join(*arguments)
    assert joined == [call] * (call is not None)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--coordinator=a:1",), "--num_processes is missing: --coordinator, --num_processes"),
        (("--num_processes=2", "--process_id=0"), "--coordinator is missing"),
        (
            ("--coordinator=a", "--num_processes=2", "--process_id=0"),
            "--coordinator must be HOST:PORT, but is a.",
        ),
        (
            ("--coordinator=a:1", "--num_processes=2", "--process_id=2"),
            "--process_id must be from 0 to --num_processes - 1, but is 2 of 2.",
        ),
        (("--devices=9",), "--devices must be from 1 to 1, the number of devices here, but is 9"),
        (("--model_devices=2",), "model_devices must be at most the number of devices (1)"),
    ],
)
def test_what_cannot_be_joined_is_one_sentence(tmp_path, flags, message):
    code, out, error = hfjax_here(TOY, f"--workdir={tmp_path}/run", *flags)
    assert (code, out) == (2, "")
    assert error.startswith(f"hfjax: {message}")
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_processes_with_other_settings_are_named(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    for contents, message in (([5, 5, 6], "process 2 has another config"), ([5, 5, 5], None)):
        monkeypatch.setattr(
            processes.multihost_utils, "process_allgather", lambda _, c=contents: np.array(c)
        )
        with pytest.raises(InputError, match=message) if message else contextlib.nullcontext():
            processes.check_same("config", 5)


def test_what_two_devices_cannot_share_is_named(tmp_path):
    config = toy.config()
    with pytest.raises(InputError, match="this model has no array that devices can share"):
        train.run(config, tmp_path / "run", devices=jax.devices()[:2], model_devices=2)
