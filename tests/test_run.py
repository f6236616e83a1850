"""Training from the first step to the last, in this process; loading; init_from."""

import contextlib
import json
import shutil
import time

import fiddle as fdl
import jax
import numpy as np
import pytest
from matplotlib.figure import Figure

import hfjax
from hfjax import figures
from hfjax.errors import InputError
from hfjax.training import experiment, log, programs, provenance, redraw
from hfjax.training import run as train
from hfjax.training import workdir as wd
from tests import toy
from tests.command_line import hfjax_here, tree

TOY = "--fdl_config=tests.toy.config"


def make(**settings):
    config = toy.config()
    for name, value in settings.items():
        owner = config if name in train.Experiment.__dataclass_fields__ else config.task
        setattr(owner, name, value)
    return config


def run(config, workdir, num_devices=1):
    return train.run(config, workdir, writers=("jsonl",), devices=jax.devices()[:num_devices])


def records(workdir, kind):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [r for r in map(json.loads, lines) if f"{kind}/loss" in r]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"chunk": 50}, "chunk must be at most num_steps"),
        ({"eval_every": 7}, "eval_every must be a multiple of chunk"),
        ({"save_every": 4}, "save_every must be a multiple of chunk"),
        ({"num_steps": 0}, "num_steps must be at least 1"),
        ({"seed": 10**20}, "seed must be a number of 32 bits"),
        ({"seeds": 0}, "seeds must be at least 1"),
        ({"num_units": 0}, "num_units must be at least 1, but is 0"),
        ({"num_units": "many"}, "task.num_units must be a whole number, but is 'many'"),
        ({"num_units": True}, "task.num_units must be a whole number"),
        ({"learning_rate": None}, "task.learning_rate must be a number"),
        ({"show": "loss"}, "show must be"),
        ({"init_from": 3}, "init_from must be a string or None"),
        ({"data": np.zeros(3)}, "the config cannot be stored"),
    ],
)
def test_impossible_settings_are_refused_and_nothing_is_written(tmp_path, settings, message):
    with pytest.raises(InputError, match=message):
        run(make(**settings), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"writers": ("jsonll",)}, "writers has no 'jsonll'; did you mean 'jsonl'"),
        ({"wandb": {"projct": "mine"}}, "wandb has no 'projct'; did you mean 'project'"),
        ({"wandb": {"mode": "offlin"}}, r"wandb\['mode'\] has no 'offlin'; did you mean 'offline'"),
    ],
)
def test_writers_that_do_not_exist_are_refused_and_nothing_is_written(tmp_path, arguments, message):
    with pytest.raises(InputError, match=message):
        train.run(make(), tmp_path / "run", **arguments)
    assert not (tmp_path / "run").exists()


def test_run_writes_the_records_of_every_chunk_and_evaluation(complete_run):
    assert [r["step"] for r in records(complete_run, "eval")] == [0, 20, 40]
    assert [r["step"] for r in records(complete_run, "train")] == list(range(5, 41, 5))
    losses = [r["eval/loss"] for r in records(complete_run, "eval")]
    assert losses[-1] < 0.1 * losses[0]
    for folder, names in {
        "figures": ["training.png", "weights.png"],
        "checkpoints": ["30", "40"],
        "readout": ["000000020.npz", "000000040.npz"],
    }.items():
        assert sorted(p.name for p in (complete_run / folder).iterdir()) == names
    run = hfjax.load(complete_run)
    task, state, config = run.task, run.state, run.config
    assert config.task.num_units == 4
    np.testing.assert_array_equal(
        np.load(complete_run / "readout" / "000000040.npz")["weights"], state["params"]["w"]
    )
    assert set(task.figures({"weights": np.eye(4)})) == {"weights"}


def test_complete_run_is_left_as_it_is(complete_run):
    before = {p: p.stat().st_mtime_ns for p in complete_run.rglob("*.*")}
    code, out, _ = hfjax_here(TOY, f"--workdir={complete_run}")
    assert code == 0
    assert "Complete after 40 steps" in out
    assert {p: p.stat().st_mtime_ns for p in complete_run.rglob("*.*")} == before


class Killed(BaseException):
    """Ends a run as a kill does: nothing handles it."""


def test_killed_between_any_two_writes_it_ends_bit_identical(tmp_path, complete_run, monkeypatch):
    """A run whose every process dies at its sixth write, before or after it."""
    made = programs.make_programs(experiment.build(toy.config()), jax.devices()[:1])
    monkeypatch.setattr(train, "make_programs", lambda *_, **__: made)
    writes = [0]

    def dies(function, after):
        def write(*arguments, **settings):
            writes[0] += 1
            if writes[0] == 6 and not after:
                raise Killed
            result = function(*arguments, **settings)
            if writes[0] == 6:
                raise Killed
            return result

        return write

    for after in (False, True):
        workdir, deaths = tmp_path / str(after), 0
        with monkeypatch.context() as patch:
            for owner, name in (
                (log.Jsonl, "scalars"),
                (wd, "save_figures"),
                (wd, "save_readout"),
                (wd.Checkpoints, "save"),
            ):
                patch.setattr(owner, name, dies(getattr(owner, name), after))
            for _ in range(40):
                writes[0] = 0
                with contextlib.suppress(Killed):
                    if run(toy.config(), workdir):
                        break
                deaths += 1
        assert 3 <= deaths < 12
        written, expected = tree(workdir), tree(complete_run)
        assert written["metrics.jsonl"] == expected["metrics.jsonl"]
        assert written["readout/000000040.npz"] == expected["readout/000000040.npz"]


def test_training_does_not_wait_for_figures_and_the_newest_are_drawn(tmp_path, monkeypatch):
    save, drawn = train.save_figures, []

    def slow(workdir, task, readout, warn, **settings):
        deadline_s = time.monotonic() + 600
        while all(record["step"] < 40 for record in records(tmp_path, "train")):
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        drawn.append(readout["weights"])
        return save(workdir, task, readout, warn, **settings)

    monkeypatch.setattr(train, "save_figures", slow)
    assert run(toy.config(), tmp_path)
    # The first evaluation was being drawn; that at step 20 gave way to the last one.
    assert len(drawn) == 2
    np.testing.assert_array_equal(drawn[-1], wd.load_readout(tmp_path)[1]["weights"])
    assert not (tmp_path / ".undrawn").exists()


def test_what_a_kill_leaves_undrawn_is_drawn_at_the_next_start(tmp_path, monkeypatch):
    def killed(*_, **__):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(train, "save_figures", killed)
        with pytest.raises(Killed):
            run(make(num_steps=5, eval_every=5, save_every=5), tmp_path)
    assert not (tmp_path / "figures").exists()
    assert wd.has_undrawn(tmp_path)
    assert run(make(num_steps=5, eval_every=5, save_every=5), tmp_path)
    assert sorted(p.stem for p in (tmp_path / "figures").iterdir()) == ["training", "weights"]
    assert not wd.has_undrawn(tmp_path)


def test_last_chunk_may_be_shorter_and_a_population_records_every_seed(tmp_path):
    run(make(seeds=3, num_steps=13, eval_every=10, save_every=5), tmp_path)
    assert [r["step"] for r in records(tmp_path, "train")] == [5, 10, 13]
    last = records(tmp_path, "eval")[-1]
    assert last["step"] == 13
    assert len(last["eval/loss"]) == 3
    readout = np.load(tmp_path / "readout" / "000000013.npz")
    assert readout["weights"].shape == (3, 4, 4)
    drawn = last["eval/loss"][int(readout["drawn_seed"])]
    assert drawn == np.median(last["eval/loss"])
    assert hfjax.load(tmp_path).state["params"]["w"].shape == (3, 4, 4)


def test_checkpoint_is_restored_on_another_number_of_devices(tmp_path):
    run(make(num_steps=5), tmp_path, num_devices=8)
    mesh = programs.make_mesh(jax.devices()[:2], batch_size=2)
    shapes = programs.abstract_state(experiment.build(make()).task, (), 1, mesh)
    with wd.Checkpoints(tmp_path, read_only=True) as checkpoints:
        restored, _ = checkpoints.restore_newest(shapes)
    assert restored.step == 5
    assert len(restored.state["params"]["w"].sharding.device_set) == 2
    np.testing.assert_array_equal(
        restored.state["params"]["w"], hfjax.load(tmp_path).state["params"]["w"]
    )


def test_nan_ends_with_exit_code_1_and_keeps_the_last_good_checkpoint(tmp_path):
    code, _, error = hfjax_here(TOY, "--fdl_set=task.nan_at=26", f"--workdir={tmp_path}")
    assert code == 1
    assert error.startswith("hfjax: training stopped at step 27: loss is nan; ")
    assert "step 20" in error
    state = hfjax.load(tmp_path).state
    assert state["steps"] == 20
    assert np.isfinite(state["params"]["w"]).all()


def test_init_from_takes_the_parameters_and_not_the_optimizer(complete_run):
    donor = hfjax.load(complete_run).state
    assert np.any(donor["opt_state"][0].mu["w"])
    for seeds, member in ((1, ...), (2, 1)):
        begun = experiment.build(make(init_from=str(complete_run), seed=9, seeds=seeds))
        begun = train._initial_state(begun, train.make_programs(begun, jax.devices()[:1]))
        np.testing.assert_array_equal(begun.state["params"]["w"][member], donor["params"]["w"])
        assert begun.step == 0
        assert not np.any(begun.state["opt_state"][0].mu["w"])


def test_init_from_of_another_shape_is_refused(tmp_path, complete_run):
    config = make(init_from=str(complete_run), num_units=5)
    with pytest.raises(InputError, match=r"\['params'\]\['w'\] is of shape \(4, 4\) there and"):
        run(config, tmp_path / "second")
    assert not (tmp_path / "second").exists()


def test_load_says_what_is_missing(tmp_path):
    with pytest.raises(InputError, match="holds no run"):
        hfjax.load(tmp_path)


def test_load_needs_no_data(tmp_path):
    """From the shapes in provenance.json; without that file the data are made."""
    run(make(data=fdl.Config(toy.arrays), num_steps=5), tmp_path)
    toy.MADE.clear()
    weights = hfjax.load(tmp_path).state["params"]["w"]
    assert toy.MADE == []
    (tmp_path / "provenance.json").unlink()
    np.testing.assert_array_equal(hfjax.load(tmp_path).state["params"]["w"], weights)
    assert toy.MADE == ["arrays"]


def test_the_home_folder_and_relative_paths_hold_anywhere(tmp_path, monkeypatch, complete_run):
    """A run started in one folder, from another run by a relative path, in ~."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(complete_run.parent)
    config = make(init_from=complete_run.name, num_steps=5)
    run(config, "~/second")
    assert (tmp_path / "second" / "config.json").exists()
    monkeypatch.chdir(tmp_path)
    loaded = hfjax.load("~/second")
    assert loaded.config.init_from == str(complete_run)
    assert run(loaded.config, "~/second")  # resumes, from another current folder
    assert redraw.redraw("~/second")
    assert run(make(init_from="~/second", num_steps=5), "~/third")


def test_a_run_whose_data_are_gone_is_opened(tmp_path, monkeypatch):
    """As on another machine."""
    run(make(data=fdl.Config(toy.arrays), num_steps=5), tmp_path)

    def gone(**_):
        raise OSError("there is no file")

    monkeypatch.setattr(toy, "arrays", gone)
    gone.__module__, gone.__qualname__ = "tests.toy", "arrays"
    assert hfjax.load(tmp_path).state["params"]["w"].shape == (4, 4)
    assert redraw.redraw(tmp_path)


def test_a_platform_that_is_not_there_is_one_sentence(tmp_path, monkeypatch):
    for error in (AssertionError(), RuntimeError("Unable to initialize (set JAX_PLATFORMS='')")):

        def devices(error=error):
            raise error

        monkeypatch.setattr(jax, "devices", devices)
        with pytest.raises(InputError, match="JAX has no device here for JAX_PLATFORMS=cpu"):
            train.run(toy.config(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_model_of_a_notebook_is_loaded_with_its_task_or_its_config(tmp_path, complete_run):
    """Whose config names a function that only the notebook has."""
    workdir = tmp_path / "run"
    shutil.copytree(complete_run, workdir)
    path = workdir / "config.json"
    path.write_text(path.read_text().replace('"tests.toy"', '"__main__"'))
    with pytest.raises(InputError, match=r"names __main__\.task, which cannot be imported here"):
        hfjax.load(workdir)
    expected = hfjax.load(complete_run).state["params"]["w"]
    by_task = hfjax.load(workdir, task=toy.task())
    np.testing.assert_array_equal(by_task.state["params"]["w"], expected)
    assert by_task.config is None
    by_config = hfjax.load(workdir, config=toy.config())
    np.testing.assert_array_equal(by_config.state["params"]["w"], expected)
    assert provenance.newest(workdir)["seeds"] == 1


def test_devices_that_cannot_share_the_work_are_idle_and_named(tmp_path, capsys):
    three = make(seeds=3, batch_size=2, num_steps=5, eval_every=5, save_every=5)
    assert train.run(three, tmp_path, writers=("terminal",))
    said = " ".join(capsys.readouterr().out.split())
    assert "3 models on 6 CPU device(s)" in said
    assert "Idle: 2 of 8 devices, which cannot divide the seeds and the batch evenly." in said


def panel_with_long_title():
    figure = Figure(figsize=(4.0, 3.0), layout="constrained")
    ax = figure.subplots()
    ax.set_title("A title that is as wide as the whole figure, and wider", fontsize=10)
    ax.set_xlabel("time (s)")
    return figure


def tiles():
    return figures.rate_maps(
        np.ones((8, 3, 3)), [""] * 8, extent_m=((0, 1), (0, 1)), title="A wide title. " * 8
    )


def sheet():
    maps = np.ones((9, 5, 5))
    return figures.map_sheet(maps, columns=3, extent_m=((0, 1), (0, 1)), title="All nine units")


@pytest.mark.parametrize("draw", [panel_with_long_title, tiles, sheet])
def test_the_name_of_the_member_that_is_drawn_lies_on_nothing(draw):
    figure = draw()
    train._name_member(figure, "population, member 13")
    figure.draw_without_rendering()
    name = figure.texts[-1]
    assert name.get_text() == "population, member 13"
    others = [*figure.texts[:-1], *(ax.title for ax in figure.axes)]
    others += [part for ax in figure.axes for part in (ax, ax.xaxis.label, ax.yaxis.label)]
    box = name.get_window_extent()
    assert figure.bbox.containsx(box.x0)
    assert figure.bbox.containsy(box.y0)
    assert figure.bbox.containsy(box.y1)
    for other in others:
        assert not box.overlaps(other.get_window_extent()), other
