"""A workdir on object storage: an S3 server on the loopback."""

import json
import pathlib

import numpy as np
import pytest

import hfjax
from hfjax.errors import InputError
from hfjax.training import mirror, redraw
from hfjax.training import run as train
from tests import toy
from tests.command_line import finish, hfjax_here, start_together, stop_after

TOY = "--fdl_config=tests.toy.config"
RUN = "s3://bucket/runs/one"


@pytest.fixture(scope="module")
def server():
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def storage(server, monkeypatch):
    """An empty bucket, and no mirror yet: each process has its own."""
    s3fs = pytest.importorskip("s3fs")
    for name, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "name",
        "AWS_SECRET_ACCESS_KEY": "word",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(mirror, "_opened", {})
    s3fs.S3FileSystem.clear_instance_cache()
    storage = s3fs.S3FileSystem()
    if storage.exists("bucket"):
        storage.rm("bucket", recursive=True)
    storage.mkdir("bucket")
    return storage


def test_a_run_on_object_storage_goes_on_elsewhere_and_is_loaded(
    monkeypatch, storage, complete_run
):
    """Stopped on one machine; the next one has nothing but the address."""
    with monkeypatch.context() as patch:
        stop_after(15, patch)
        code, out, error = hfjax_here(TOY, f"--workdir={RUN}")
    assert (code, error) == (75, "")
    assert f"Give the same command again to go on (workdir {RUN})" in out
    mirror._opened.clear()
    code, out, error = hfjax_here(TOY, f"--workdir={RUN}")
    assert (code, error) == (0, "")
    assert "Resuming at step 15 of 40" in out
    assert f"{RUN}/  (figures" in out

    names = {name.removeprefix("bucket/runs/one/") for name in storage.find("bucket/runs/one")}
    assert {"config.json", "provenance.json", "figures/weights.png"} <= names
    steps = {name.split("/")[1] for name in names if name.startswith("checkpoints/")}
    assert steps == {"30", "40"}  # older ones are deleted there too
    assert not any("tmp" in name or "lock" in name for name in names)
    metrics = storage.cat_file("bucket/runs/one/metrics.jsonl")
    assert metrics == (complete_run / "metrics.jsonl").read_bytes()

    mirror._opened.clear()
    ours, theirs = hfjax.load(RUN).state, hfjax.load(complete_run).state
    np.testing.assert_array_equal(ours["params"]["w"], theirs["params"]["w"])
    storage.rm("bucket/runs/one/figures", recursive=True)
    assert set(redraw.redraw(RUN)) == {"training", "weights"}
    assert storage.exists("bucket/runs/one/figures/weights.png")
    config = toy.config()
    config.init_from, config.num_steps = RUN, 5
    assert train.run(config, "s3://bucket/runs/two", writers=("jsonl",))


@pytest.mark.slow
def test_two_processes_without_a_common_disk_write_and_go_on(storage, complete_run):
    """The first one gathers what each has of the weights; on fewer devices they go on."""
    same = (TOY, "--fdl_set=task.shares=True", f"--workdir={RUN}")
    ended = [finish(p) for p in start_together(2, 2, *same, "--model_devices=2")]
    assert [(code, error) for code, _, error in ended] == 2 * [(0, "")], ended
    storage.rm("bucket/runs/one/checkpoints/40", recursive=True)
    storage.rm("bucket/runs/one/readout/000000040.npz")
    ended = [finish(p) for p in start_together(2, 1, *same)]
    assert [(code, error) for code, _, error in ended] == 2 * [(0, "")], ended
    assert "Resuming at step 30 of 40: one model on 2 CPU device(s) of 2 processes" in ended[0][1]
    assert storage.cat_file("bucket/runs/one/metrics.jsonl").count(b"\n") == len(
        (complete_run / "metrics.jsonl").read_bytes().splitlines()
    )
    mirror._opened.clear()
    ours, theirs = hfjax.load(RUN).state, hfjax.load(complete_run).state
    np.testing.assert_allclose(ours["params"]["w"], theirs["params"]["w"], rtol=2e-5, atol=1e-7)


def test_a_mark_that_goes_while_files_are_listed_is_left_out(tmp_path, monkeypatch):
    """Figures are drawn beside the training, and take their mark away when they are done."""
    (tmp_path / "there").mkdir()
    made = mirror.Mirror(f"file://{tmp_path}/there")
    for name in ("config.json", ".undrawn"):
        (made.folder / name).write_text("{}")
    state = mirror._state

    def goes(path):
        if path.name == ".undrawn":
            path.unlink()
        return state(path)

    monkeypatch.setattr(mirror, "_state", goes)
    made.push()
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["config.json"]


def test_storage_that_fails_for_a_while_does_not_end_a_run(monkeypatch, storage):
    put, calls = type(storage)._put_file, []  # what put_file runs

    async def fails_at_first(self, *arguments, **settings):
        calls.append(arguments)
        if len(calls) < 3:
            raise OSError("no route to host")
        return await put(self, *arguments, **settings)

    async def fails(self, *arguments, **settings):
        raise OSError("no route to host")

    monkeypatch.setattr(type(storage), "_put_file", fails_at_first)
    storage.clear_instance_cache()  # the methods of an instance are made with it
    code, out, error = hfjax_here(TOY, f"--workdir={RUN}")
    assert (code, error) == (0, "")
    assert f"warning: {RUN}: no route to host" in out
    assert hfjax.load(RUN).state["steps"] == 40

    # What was never sent is sent by the next run of this process, and not overwritten before.
    monkeypatch.setattr(type(storage), "_put_file", fails)
    storage.clear_instance_cache()
    code, out, error = hfjax_here(TOY, f"--workdir={RUN}_2")
    assert code == 1
    assert f"{RUN}_2: no route to host; the files are in " in error
    folder = pathlib.Path(error.partition("the files are in ")[2].partition(")")[0])
    assert json.loads((folder / "config.json").read_text())
    monkeypatch.setattr(type(storage), "_put_file", put)
    mirror._opened[f"{RUN}_2"]._storage = type(storage)(skip_instance_cache=True)
    assert hfjax_here(TOY, f"--workdir={RUN}_2")[0] == 0
    mirror._opened.clear()
    assert hfjax.load(f"{RUN}_2").state["steps"] == 40


def test_a_run_that_fails_leaves_its_last_records_on_the_storage(storage):
    code, _, error = hfjax_here(TOY, f"--workdir={RUN}", "--fdl_set=task.nan_at=27")
    assert code == 1
    assert f"the newest good checkpoint is that of step 20 in {RUN}/checkpoints." in error
    metrics = storage.cat_file("bucket/runs/one/metrics.jsonl").splitlines()
    assert json.loads(metrics[-1])["step"] == 25


def test_storage_that_cannot_be_read_is_one_sentence(storage):
    code, _, error = hfjax_here(TOY, "--workdir=s3://no-bucket-of-ours/run")
    assert code in (1, 2)
    assert error.startswith("hfjax: ")
    assert error.count("\n") == 1
    with pytest.raises(InputError, match="s3://bucket/nothing holds no run"):
        hfjax.load("s3://bucket/nothing")
