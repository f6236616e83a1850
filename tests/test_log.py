"""W&B, TensorBoard, Aim and traces."""

import pathlib
import re
import sys
import types

import pytest

from hfjax.errors import STOPPED
from hfjax.training import log
from tests.command_line import hfjax_here, stop_after

TOY = ("--fdl_config=tests.toy.config", "--writers=wandb,jsonl,terminal")


def test_wandb_goes_on_in_the_same_run_and_its_failure_stops_nothing(tmp_path, monkeypatch):
    offline = (*TOY, f"--workdir={tmp_path}/run", "--wandb_mode=offline")
    with monkeypatch.context() as patch:
        stop_after(5, patch)
        code, out, error = hfjax_here(*offline)
    assert (code, error) == (STOPPED, "")
    assert "Stopped by SIGTERM at step 5" in out
    sync = f"wandb sync {tmp_path}/run/wandb/offline-run-*"
    assert sync in out
    code, out, error = hfjax_here(*offline)
    assert (code, error) == (0, "")
    assert sync in out
    run_id = (tmp_path / "run" / "wandb" / "run_id").read_text()
    parts = list((tmp_path / "run" / "wandb").glob("offline-run-*"))
    assert len(parts) == 2  # in the same second W&B ends the second name with run_id-1
    assert all(re.search(rf"-{run_id}(-\d+)?$", part.name) for part in parts)

    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "wandb").write_text("a file where W&B wants a folder")
    code, out, error = hfjax_here(*TOY, f"--workdir={tmp_path}/other")
    assert (code, error) == (0, "")
    assert "warning: the wandb writer failed and is off" in out
    assert "Complete after 40 steps" in out


class Artifact:
    """As W&B's, it takes what is in a folder at that time."""

    def __init__(self, name, type, metadata):
        self.name, self.type, self.metadata = name, type, metadata

    def add_dir(self, folder):
        self.files = {p.relative_to(folder) for p in pathlib.Path(folder).rglob("*") if p.is_file()}


def test_wandb_gets_settings_origin_and_checkpoints_of_a_run_whose_url_is_shown(
    tmp_path, monkeypatch
):
    given, sent = {}, []

    def init(**settings):
        given.update(settings)
        return types.SimpleNamespace(
            url="https://wandb.example/run",
            define_metric=lambda *_, **__: None,
            log=lambda values: None,
            finish=lambda: None,
            id="7",
            log_artifact=lambda artifact, aliases: sent.append((artifact, aliases)),
        )

    fake = types.SimpleNamespace(
        init=init,
        Settings=dict,
        Image=str,
        login=lambda **_: True,
        __name__="wandb",
        Artifact=Artifact,
    )
    monkeypatch.setitem(sys.modules, "wandb", fake)
    flags = (*TOY, "--wandb_mode=online", "--wandb_group=g", "--fdl_set=num_steps=5")
    flags = (*flags, "--wandb_artifacts")
    code, out, error = hfjax_here(*flags, f"--workdir={tmp_path}/run")
    assert (code, error) == (0, "")
    assert "W&B: https://wandb.example/run" in out
    assert "  W&B          https://wandb.example/run" in out.split("Complete after")[1]
    assert given["mode"] == "online"
    assert given["group"] == "g"
    config = given["config"]
    assert config["task.num_units"] == 4
    assert config["fdl_config"] == "tests.toy.config"
    assert config["fiddlers"] == []
    assert {"command", "commit", "hfjax", "packages"} <= set(config)
    saved = tmp_path / "run" / "checkpoints" / "5"
    artifact, aliases = sent[-1]
    assert (artifact.name, artifact.metadata, aliases) == (
        "checkpoint-7",
        {"step": 5},
        ["latest", "step-5"],
    )
    assert (
        artifact.files == {p.relative_to(saved) for p in saved.rglob("*") if p.is_file()} != set()
    )


def test_tensorboard_and_profile_leave_their_files(tmp_path):
    pytest.importorskip("tensorboardX")
    code, out, error = hfjax_here(
        *TOY, f"--workdir={tmp_path}", "--writers=tensorboard,terminal", "--profile"
    )
    assert (code, error) == (0, "")
    assert list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))
    assert list((tmp_path / "profile").rglob("*.trace.json.gz"))
    assert "A trace of steps 5 to 10" in out
    assert not (tmp_path / "metrics.jsonl").exists()


def test_aim_goes_on_in_the_same_run(tmp_path, monkeypatch):
    aim = pytest.importorskip("aim")
    flags = (*TOY, f"--workdir={tmp_path}/run", "--writers=aim,jsonl,terminal")
    with monkeypatch.context() as patch:
        stop_after(5, patch)
        code, _, error = hfjax_here(*flags)
    assert (code, error) == (STOPPED, "")
    first = (tmp_path / "run" / "aim").read_text()
    code, out, error = hfjax_here(*flags)
    assert (code, error) == (0, "")
    assert "warning" not in out
    assert (tmp_path / "run" / "aim").read_text() == first
    run = aim.Run(
        first,
        repo=str(tmp_path),
        system_tracking_interval=None,
        capture_terminal_logs=False,
    )
    assert (run.name, run.experiment) == ("run", "tests.toy.config")
    assert run["hparams"]["task.num_units"] == 4
    counts = {
        (metric.name, metric.context.to_dict()["subset"]): len(metric.values.sparse_list()[1])
        for metric in run.metrics()
    }
    records = log.read_metrics(tmp_path / "run" / "metrics.jsonl")
    for name in ("train/loss", "eval/loss"):
        subset, short = name.split("/")
        assert counts[short, subset] == sum(name in record for record in records) > 0
