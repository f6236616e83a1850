"""A run's folder: its lock, damage that it survives, its provenance, and drawing it again."""

import errno
import fcntl
import json
import os
import pathlib
import shutil
import socket
import stat
import sys

import filelock
import jax
import numpy as np
import pytest

import hfjax
from hfjax.errors import InputError
from hfjax.training import config_text, lock, provenance, redraw
from hfjax.training import workdir as wd
from tests import toy
from tests.command_line import hfjax_here, tree

TOY = "--fdl_config=tests.toy.config"


@pytest.fixture
def copy(tmp_path, complete_run):
    """A complete run that a test may change."""
    return pathlib.Path(shutil.copytree(complete_run, tmp_path / "run"))


def replace(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_workdir_that_cannot_be_written_is_refused(tmp_path):
    if os.geteuid() == 0:  # root may write anywhere but here
        workdir = "/proc/hfjax"
    else:
        tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
        workdir = tmp_path / "run"
    code, _, error = hfjax_here(TOY, f"--workdir={workdir}")
    assert code == 2
    assert error.startswith(f"hfjax: the workdir {workdir} cannot be written")
    assert error.count("\n") == 1


def test_workdir_of_another_config_is_refused_untouched(complete_run):
    before = tree(complete_run)
    flags = (TOY, f"--workdir={complete_run}", "--seed=3", "--fdl_set=task.nan_at=7")
    code, _, error = hfjax_here(*flags)
    assert code == 2
    assert "task.nan_at is -1 there, 7 here; seed is 0 there, 3 here" in error
    assert tree(complete_run) == before


def test_a_second_process_is_told_who_uses_the_workdir(copy):
    with lock.locked(copy):
        before = tree(copy)
        for flags in ((), ("--break_lock",)):  # which is not for a process that lives
            code, _, error = hfjax_here(TOY, f"--workdir={copy}", *flags)
            assert code == 2
            process = f"process {os.getpid()} on {socket.gethostname()} (since 20"
            assert f"the workdir {copy} is in use by {process}" in error
            assert "Stop that first" in error
            assert error.count("\n") == 1
        assert tree(copy) == before
    assert hfjax_here(TOY, f"--workdir={copy}")[0] == 0
    assert not (copy / lock.NAME).exists()


def test_the_lock_of_another_host_is_waited_for_and_broken_on_request(copy, monkeypatch):
    monkeypatch.setattr(lock, "PATIENCE_S", 0.1)
    with filelock.FileLock(copy / lock.NAME):
        (copy / lock.NAME).write_text("12\nnode7\n")
        code, _, error = hfjax_here(TOY, f"--workdir={copy}")
        assert code == 2
        assert "locked by process 12 on node7 (since" in error
        assert "waiting 0.1 s at most" in error
        assert "If that process is dead, remove its lock by --break_lock." in error
        code, out, _ = hfjax_here(TOY, f"--workdir={copy}", "--break_lock")
        assert code == 0
        assert "warning: the lock of process 12 on node7" in out
        assert "was removed" in out


@pytest.mark.parametrize(
    ("process", "host", "warning"),
    [("12", "node7", True), ("4194305", socket.gethostname(), False)],
)
def test_a_lock_left_by_a_killed_process_stops_nothing(copy, process, host, warning):
    (copy / lock.NAME).write_text(f"{process}\n{host}\n")
    code, out, _ = hfjax_here(TOY, f"--workdir={copy}")
    assert code == 0
    assert (f"warning: the lock of process 12 on {host}" in out) == warning


@pytest.mark.parametrize("missing", [errno.ENOSYS, errno.ENOLCK])
def test_without_locks_of_the_file_system_the_file_is_the_lock(copy, monkeypatch, missing):
    def flock(*_):
        raise OSError(missing, os.strerror(missing))

    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.setattr(lock, "PATIENCE_S", 0.1)
    with lock.locked(copy):
        code, _, error = hfjax_here(TOY, f"--workdir={copy}")
        assert code == 2
        assert f"in use by process {os.getpid()} on {socket.gethostname()}" in error
    assert not (copy / lock.NAME).exists()
    (copy / lock.NAME).write_text("12\nnode7\n")
    code, _, error = hfjax_here(TOY, f"--workdir={copy}")
    assert code == 2
    assert "in use by process 12 on node7" in error
    assert hfjax_here(TOY, f"--workdir={copy}", "--break_lock")[0] == 0
    (copy / lock.NAME).write_text(f"4194305\n{socket.gethostname()}\n")  # no such process
    assert hfjax_here(TOY, f"--workdir={copy}")[0] == 0


def test_damaged_newest_checkpoint_is_set_aside(copy, complete_run):
    for file in (copy / "checkpoints" / "40").rglob("d/*"):  # every array's bytes
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    code, out, error = hfjax_here(TOY, f"--workdir={copy}")
    assert (code, error) == (0, "")
    assert "warning: the checkpoint of step 40 cannot be read" in out
    assert "Resuming at step 30 of 40" in out
    assert (copy / "corrupt_checkpoints" / "40").is_dir()
    assert tree(copy)["metrics.jsonl"] == tree(complete_run)["metrics.jsonl"]
    np.testing.assert_array_equal(
        hfjax.load(copy).state["params"]["w"], hfjax.load(complete_run).state["params"]["w"]
    )


def test_a_bit_that_flips_in_any_file_of_a_checkpoint_is_noticed(tmp_path):
    """Also among the bytes of an array, which TensorStore takes as they come."""
    state = {"w": np.arange(300.0, dtype=np.float32), "steps": np.int32(7)}
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state)
    with wd.Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(7, state)
        checkpoints.wait()
        np.testing.assert_array_equal(checkpoints.restore(7, abstract)["w"], state["w"])
        folder = tmp_path / "checkpoints" / "7"
        arrays = [path for path in (folder / "default").rglob("*") if path.is_file()]
        assert len(arrays) > 3
        for file in (folder / wd.DIGESTS, *arrays):
            content = file.read_bytes()
            file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
            with pytest.raises(InputError, match=r"step 7 .* cannot be read"):
                checkpoints.restore(7, abstract)
            file.write_bytes(content)
        (folder / wd.DIGESTS).unlink()  # as before there were any
        assert checkpoints.restore(7, abstract)["steps"] == 7


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"name": "task"', '"name": "tusk"', "names tests.toy.tusk, which cannot be imported"),
        ('"tests.toy"', '"tests.joy"', "names tests.joy.task, which cannot be imported"),
        ('"num_units"', '"num_cells"', "sets 'num_cells' of tests.toy.task, which has no such"),
        ('"tests.toy"', '"tests.to', "is damaged"),
        ('"root"', '"boot"', "is damaged"),
        ('"module"', '"nodule"', "is damaged"),
    ],
)
def test_config_that_cannot_be_loaded_is_one_sentence(copy, capsys, old, new, message):
    """In load, redraw, and a run that would resume or start from it."""
    replace(copy / "config.json", old, new)
    if new == '"tests.to':
        text = (copy / "config.json").read_text()
        (copy / "config.json").write_text(text[: text.index(new)])
    for call in (hfjax.load, redraw.redraw):
        with pytest.raises(InputError, match=f"config.json {message}") as error:
            call(copy)
        assert f"written by hfjax {hfjax.__version__}" in str(error.value)
        assert "\n" not in str(error.value)
    assert redraw.main([str(copy)]) == 2
    assert message in capsys.readouterr().err
    before = tree(copy)
    for flags in ((f"--workdir={copy}",), (f"--init_from={copy}", f"--workdir={copy}_2")):
        code, _, error = hfjax_here(TOY, *flags)
        assert code == 2
        assert message in error
        assert error.count("\n") == 1
    assert tree(copy) == before


@pytest.mark.parametrize("text", ["", "null", "[1]", "3", "[" * 100_000, "{}", "\xff\x00"])
def test_a_config_of_another_format_is_one_sentence(copy, text):
    (copy / "config.json").write_text(text, encoding="latin1")
    message = "config.json (is damaged|cannot be read)"
    for call in (hfjax.load, redraw.redraw):
        with pytest.raises(InputError, match=message) as error:
            call(copy)
        assert str(copy) in str(error.value)
    code, _, error = hfjax_here(TOY, f"--workdir={copy}")
    assert code == 2
    assert f"{copy} holds a run of another config (its config.json is damaged" in error


def test_a_missing_folder_holds_no_run(tmp_path, capsys):
    for call in (hfjax.load, redraw.redraw):
        with pytest.raises(InputError, match="nowhere holds no run: there is no such folder"):
            call(tmp_path / "nowhere")
    assert redraw.main([str(tmp_path / "nowhere")]) == 2
    assert "there is no such folder" in capsys.readouterr().err


def test_provenance_names_software_command_devices_and_every_start(copy):
    (record,) = provenance.read(copy)
    assert record["hfjax"] == hfjax.__version__
    assert record["fdl_config"] == "tests.toy.config"
    assert record["fiddlers"] == []
    assert record["packages"]["jax"] == jax.__version__
    assert record["devices"] == {"platform": "cpu", "kind": "cpu", "number": 1, "processes": 1}
    assert record["command"].split()[0] in (sys.orig_argv[0], f"'{sys.orig_argv[0]}'")
    for part in ("checkpoints", "readout"):
        shutil.rmtree(next((copy / part).glob("*40*")), ignore_errors=True)
    assert hfjax_here(TOY, f"--workdir={copy}")[0] == 0
    assert [r["step"] for r in provenance.read(copy)] == [0, 30]


def test_commit_is_marked_where_tracked_files_were_changed(tmp_path):
    assert provenance.commit(tmp_path) is None  # no repository
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")

    def git(*arguments):
        name = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        provenance.subprocess.run(
            ["git", "-C", str(tmp_path), *name, *arguments], check=True, capture_output=True
        )

    git("init")
    assert provenance.commit(package) is None  # a package that the repository does not track
    git("add", ".")
    git("commit", "-m", "first")
    clean = provenance.commit(package)
    assert len(clean) == 40
    (package / "__init__.py").write_text("changed = 1")
    assert provenance.commit(package) == f"{clean}-dirty"


@pytest.mark.parametrize("damage", ["[", '{"a": 1}', "null", "[1]"])
def test_damaged_provenance_stops_nothing(copy, damage):
    (copy / "provenance.json").write_text(damage)
    np.testing.assert_array_equal(provenance.read(copy), [])
    assert hfjax.load(copy).config.task.num_units == 4
    provenance.append(copy, {"step": 7})
    assert provenance.newest(copy) == {"step": 7}


def test_shapes_of_data_are_stored_and_read_back():
    data = {
        "x": np.zeros((3, 2), np.uint8),
        "pair": (np.float32(1), [1.5, 2]),
        "named": toy.Pair(np.zeros(4, bool), ()),
    }
    stored = json.loads(json.dumps(provenance.shapes_to_json(data)))
    back = provenance.shapes_from_json(stored)
    assert jax.tree.structure(back) == jax.tree.structure(data)
    for ours, theirs in zip(jax.tree.leaves(back), jax.tree.leaves(data), strict=True):
        assert jax.typeof(theirs).shape == ours.shape
        assert jax.typeof(theirs).dtype == ours.dtype
        assert jax.typeof(theirs).weak_type == ours.weak_type


def test_redraw_draws_the_same_figures_again(copy):
    names = sorted(p.name for p in (copy / "figures").iterdir())
    step, readout = wd.load_readout(copy)
    assert step == 40
    assert readout["weights"].shape == (4, 4)
    shutil.rmtree(copy / "figures")
    assert redraw.main([str(copy)]) == 0
    assert sorted(p.name for p in (copy / "figures").iterdir()) == names
    shutil.rmtree(copy / "figures")
    (copy / "config.json").unlink()
    for settings in ({"task": toy.task()}, {"config": toy.config()}):
        assert sorted(redraw.redraw(copy, **settings)) == ["training", "weights"]


def test_training_curves_are_drawn_where_a_figure_of_the_task_cannot(copy, capsys):
    task = toy.task()._replace(figures=lambda readout: {"maps": readout["maps"]})
    shutil.rmtree(copy / "figures")
    warnings = []
    assert sorted(redraw.redraw(copy, task=task, warn=warnings.append)) == ["training"]
    assert warnings == [
        "warning: the figures could not be drawn ('maps'); the readout is kept.",
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(redraw, "build_task", lambda config: task)
        assert redraw.main([str(copy)]) == 1
    assert capsys.readouterr().err == warnings[0] + "\n"


def test_damaged_readout_is_one_sentence(copy, capsys):
    path = copy / "readout" / "000000040.npz"
    path.write_bytes(path.read_bytes()[:100])
    assert redraw.main([str(copy)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"hfjax: {path} cannot be read")
    assert error.count("\n") == 1


def test_checkpoints_and_readouts_of_every_so_many_steps_stay(tmp_path):
    steps = ("--fdl_set=eval_every=10", "--fdl_set=save_every=10", "--fdl_set=num_steps=30")
    code, _, error = hfjax_here(
        TOY, f"--workdir={tmp_path}", *steps, "--fdl_set=keep=1", "--fdl_set=keep_every=20"
    )
    assert (code, error) == (0, "")
    kept = [0, 20, 30]  # the last one is the newest
    assert sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir()) == kept[1:]
    assert sorted(int(p.stem) for p in (tmp_path / "readout").iterdir()) == kept
    states = [hfjax.load(tmp_path, step=step).state for step in kept[1:]]
    assert [int(state["steps"]) for state in states] == kept[1:]
    with pytest.raises(InputError, match=r"no checkpoint of step 10; it holds \[20, 30\]"):
        hfjax.load(tmp_path, step=10)
    code, _, error = hfjax_here(TOY, f"--workdir={tmp_path}/no", "--fdl_set=keep_every=7")
    assert code == 2
    assert "keep_every must be a multiple of chunk" in error


def test_a_run_from_before_a_setting_existed_goes_on(copy):
    config = wd.load_config(copy)
    del config.keep_every
    del config.task.nan_at
    (copy / "config.json").write_text(config_text.to_json(config))
    code, _, error = hfjax_here(TOY, f"--workdir={copy}")
    assert (code, error) == (0, "")
    code, _, error = hfjax_here(TOY, f"--workdir={copy}", "--fdl_set=task.nan_at=7")
    assert code == 2
    assert "task.nan_at is -1 there, 7 here" in error
