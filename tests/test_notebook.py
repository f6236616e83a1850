"""Training and opening runs in Python: `hfjax.run`, `hfjax.load`, and what they return."""

import pathlib
import re
import types

import fiddle as fdl
import jax
import jax.numpy as jnp
import nbclient
import nbformat
import numpy as np
import pytest
import small_recordings
from matplotlib.figure import Figure

import fdl_configs
import hfjax
from hfjax import networks, notebook
from hfjax.errors import InputError
from hfjax.training import run as trainer
from hfjax.training import unstored
from hfjax.training import workdir as wd
from tests import toy
from tests.command_line import stop_after, tree
from tests.contract import tiny

ROOT = pathlib.Path(__file__).parent.parent
QUIET = {"writers": ("jsonl",)}


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
    device = jax.devices()[:1]
    monkeypatch.setattr(jax, "devices", lambda: device)


def with_change(*, change=lambda x: x, num_units=4):
    """The toy, whose evaluation changes its loss."""
    task = toy.task(num_units=num_units)

    def evaluate(state, data, key):
        scalars, readout = task.evaluate(state, data, key)
        return {"loss": change(scalars["loss"])}, readout

    return task._replace(evaluate=evaluate)


def changing(change, **settings):
    config = toy.config()
    config.task = fdl.Config(with_change, change=change)
    for name, value in settings.items():
        setattr(config, name, value)
    return config


# --- Training by name ---


@pytest.fixture
def named_toy(monkeypatch, tmp_path):
    """The toy under the name of a config, with the current folder elsewhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fdl_configs, "make", lambda name, *fiddlers: toy.config())
    monkeypatch.setattr(fdl_configs, "find", lambda name: toy.config)


def test_a_name_and_settings_give_what_the_command_line_gives(named_toy, complete_run):
    run = hfjax.run("toy", "laptop", seed=0, **{"task.learning_rate": 0.1}, **QUIET)
    assert run.workdir == pathlib.Path("runs/toy-laptop-seed0")
    ours, theirs = tree(run.workdir), tree(complete_run)
    for name in ("metrics.jsonl", "config.json", "readout/000000040.npz"):
        assert ours[name] == theirs[name]
    assert run.is_complete
    assert repr(run) == "<Run runs/toy-laptop-seed0: step 40 of 40>"


def test_settings_may_be_values_texts_and_functions(monkeypatch):
    def configured(**settings):
        return notebook._configured("grid_rnn", ["cpu_grids"], settings)

    before = configured()
    config = configured(
        **{"task.network.nonlinearity": "tanh", "task.num_grid": 64, "num_steps": "200"}
    )
    assert config.task.network.nonlinearity is networks.tanh
    assert (config.task.num_grid, config.num_steps) == (64, 200)
    part = configured(**{"task.optimizer": sgd})  # keeps the learning rate
    assert fdl.get_callable(part.task.optimizer) is sgd
    assert part.task.optimizer.learning_rate == before.task.optimizer.learning_rate
    with pytest.raises(InputError, match=r"there is no setting 'task.num_grids'"):
        configured(**{"task.num_grids": 64})


def sgd(learning_rate: float = 1.0):
    return learning_rate


def test_wrong_calls_are_one_sentence(tmp_path):
    experiment = hfjax.Experiment(
        task=toy.task(), num_steps=10, chunk=5, eval_every=5, save_every=5
    )
    calls = {
        r"takes the name of a config": lambda: hfjax.run(3, workdir=tmp_path / "a"),
        r"give a workdir=": lambda: hfjax.run(toy.config()),
        r"'task.num_units' cannot change an Experiment": lambda: hfjax.run(
            experiment, workdir=tmp_path / "a", **{"task.num_units": 4}
        ),
        r"chunk must be at most num_steps": lambda: hfjax.run(
            experiment, workdir=tmp_path / "a", num_steps=1
        ),
        r"there is no config 'gridrnn'; did you mean 'grid_rnn'": lambda: hfjax.run("gridrnn"),
    }
    for sentence, call in calls.items():
        with pytest.raises(InputError, match=sentence) as raised:
            call()
        assert "\n" not in str(raised.value)
    assert not (tmp_path / "a").exists()


# --- Re-running a cell ---


def test_a_changed_cell_asks_for_another_workdir_or_overwrite(tmp_path):
    config = toy.config()
    hfjax.run(config, workdir=tmp_path, num_steps=10, **QUIET)
    (tmp_path / "notes.txt").write_text("mine")
    before = tree(tmp_path)
    changed = {"num_steps": 10, "task.learning_rate": 0.2}
    with pytest.raises(InputError) as raised:
        hfjax.run(config, workdir=tmp_path, **changed, **QUIET)
    assert str(raised.value) == (
        f"{tmp_path} holds another run (task.learning_rate is 0.1 there, 0.2 here); give another "
        "workdir=, or overwrite=True to delete that run."
    )
    with pytest.raises(InputError):  # what cannot run deletes nothing
        hfjax.run(
            config, workdir=tmp_path, overwrite=True, **{**changed, "task.num_units": 0}, **QUIET
        )
    assert tree(tmp_path) == before
    run = hfjax.run(config, workdir=tmp_path, overwrite=True, **changed, **QUIET)
    assert run.config.task.learning_rate == 0.2
    assert run.metrics.eval.index.tolist() == [0, 10]
    assert (tmp_path / "notes.txt").read_text() == "mine"


# --- Functions, arrays and tasks that no file holds ---


def test_a_lambda_trains_resumes_where_it_is_the_same_and_is_taken_back(
    tmp_path, capsys, monkeypatch
):
    def call(factor):
        config = changing(lambda loss: factor * loss)
        return hfjax.run(config, workdir=tmp_path, writers=("jsonl", "terminal"))

    with monkeypatch.context() as patch:
        stop_after(10, patch)
        run = call(2.0)
    assert (run.step, run.is_complete) == (10, False)
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("config.json cannot hold task.change (the function <lambda>)") == 1
    run = call(2.0)
    assert "Resuming at step 10 of 40" in capsys.readouterr().out
    assert run.is_complete
    plain = hfjax.run(toy.config(), workdir=tmp_path / "plain", **QUIET)
    np.testing.assert_allclose(run.metrics.eval["loss"], 2 * plain.metrics.eval["loss"], rtol=1e-6)
    with pytest.raises(InputError, match=r"task\.change\.fingerprint is \w{8} there, \w{8} here"):
        call(3.0)
    with pytest.raises(
        InputError, match=r"task.change .the function <lambda>. is not stored; give"
    ):
        hfjax.load(tmp_path)
    opened = hfjax.load(tmp_path, task=run.task)
    np.testing.assert_array_equal(opened.state["params"]["w"], run.state["params"]["w"])
    assert opened.is_complete


def test_an_experiment_with_arrays_as_data_trains_and_goes_on(tmp_path, capsys):
    def call(data):
        experiment = hfjax.Experiment(
            task=toy.task(), data=data, num_steps=10, chunk=5, eval_every=10, save_every=5
        )
        return hfjax.run(experiment, workdir=tmp_path, writers=("jsonl", "terminal"))

    first = call({"x": np.zeros((3, 2), np.float32)})
    assert "cannot hold task (a Task), data (arrays): this run" in " ".join(
        capsys.readouterr().out.split()
    )
    again = call({"x": jnp.zeros((3, 2))})
    assert "cannot hold" not in capsys.readouterr().out  # a complete run has nothing to say
    np.testing.assert_array_equal(first.state["params"]["w"], again.state["params"]["w"])
    with pytest.raises(InputError, match=r"holds another run .data.fingerprint is"):
        call({"x": np.ones((3, 2))})
    assert "Complete after 10 steps." in first.summary()
    assert hfjax.load(tmp_path, task=toy.task()).step == 10


SCALE = 2.0


def scaled(x):
    return SCALE * x


def test_fingerprints_tell_what_a_function_does(monkeypatch):
    def made(factor, offset=0.0):
        return lambda x, y=offset: factor * scaled(x) + y

    same = unstored.fingerprint(made(2.0))
    assert unstored.fingerprint(made(2.0)) == same
    # Another closure, default, constant, or function of the notebook.
    assert unstored.fingerprint(made(3.0)) != same
    assert unstored.fingerprint(made(2.0, 1.0)) != same
    assert unstored.fingerprint(lambda x: x + 1) != unstored.fingerprint(lambda x: x + 2)
    for part in (scaled, made):
        monkeypatch.setattr(part, "__module__", "__main__")
    own = unstored.fingerprint(made(2.0))
    assert own != same  # by its code, not by its name
    monkeypatch.setitem(globals(), "SCALE", 3.0)
    assert unstored.fingerprint(made(2.0)) != own
    # The content of arrays, their shape and type; objects by what they hold.
    zeros = np.zeros(4, np.float32)
    others = [zeros[:2], zeros + 1, zeros.astype(np.int32), zeros.reshape(2, 2), jax.random.key(0)]
    assert len({unstored.fingerprint(x) for x in (zeros, *others)}) == 6
    assert unstored.fingerprint(jnp.asarray(zeros)) != unstored.fingerprint(zeros[:2])
    spaces = [types.SimpleNamespace(a=n) for n in (1, 1, 2)]
    assert [unstored.fingerprint(s) == unstored.fingerprint(spaces[0]) for s in spaces] == [
        True,
        True,
        False,
    ]


# --- What a run gives ---


def test_metrics_have_a_row_for_each_step_and_of_a_population_for_each_seed(tmp_path):
    run = hfjax.run(toy.config(), workdir=tmp_path / "one", num_steps=10, **QUIET)
    assert run.metrics.train.index.tolist() == [5, 10]
    assert list(run.metrics.train.columns) == ["loss", "norm"]
    assert run.metrics.eval.index.name == "step"
    several = hfjax.run(toy.config(), workdir=tmp_path / "two", num_steps=10, seeds=2, **QUIET)
    table = several.metrics.eval
    assert table.index.tolist() == [(0, 0), (0, 1), (10, 0), (10, 1)]
    # Member 0 is the run of that seed.
    np.testing.assert_allclose(
        table.xs(0, level="seed")["loss"], run.metrics.eval["loss"], rtol=1e-5
    )
    assert several.draw()["weights"].texts[-1].get_text().startswith("population, member")
    with pytest.raises(InputError, match="has nothing that it could be applied to"):
        run.apply(np.zeros((3, 2)))


def test_figures_are_shown_by_their_paths_outside_of_a_notebook(complete_run, capsys):
    run = hfjax.load(complete_run)
    assert list(run.figures) == ["weights", "training"]
    assert run.figures["weights"]._repr_png_().startswith(b"\x89PNG")
    assert isinstance(run.draw()["weights"], Figure)
    np.testing.assert_array_equal(run.readout["weights"], run.state["params"]["w"])
    run.show()
    out = capsys.readouterr().out
    assert out.startswith(f"{complete_run}/figures/weights.png\n{complete_run}/figures/training")
    assert "Complete after 40 steps." in out
    assert f'run = hfjax.load("{complete_run}")' in out
    run.show("weights")
    assert capsys.readouterr().out == f"{complete_run}/figures/weights.png\n"
    with pytest.raises(InputError, match="no figure 'maps'; there are weights, training"):
        run.show("maps")


def walked_run(tmp_path):
    """A network of nine units as it begins, in a folder with a readout."""
    config = tiny(fdl_configs.make("grid_rnn", "cpu_grids"))
    config.task.num_steps = 5
    task = trainer.build(config).task
    state = task.init(jax.random.key(0), ())
    wd.save_readout(tmp_path, 0, {"extent_m": np.array([[-1.1, 1.1], [-1.1, 1.1]])}, keep=1)
    return notebook.Run(tmp_path, task, state, config, 0)


def test_a_path_is_walked_in_pieces_and_decoded(tmp_path):
    run = walked_run(tmp_path)
    rng = np.random.default_rng(0)
    path = np.cumsum(0.02 * rng.normal(size=(12, 2)), axis=0).astype(np.float32)
    walked = run.apply(path)
    params, centres = run.state.params, np.asarray(run.state.place_centres, np.float64)

    def place_code(x):  # softmax of Gaussians less that of wider ones, in a periodic box of 2.2 m
        away = np.abs(x - centres)
        square = (np.minimum(away, 2.2 - away) ** 2).sum(axis=1)
        near = np.exp(-square / (2 * 0.135**2))
        wide = np.exp(-square / (2 * 2 * 0.135**2))
        code = near / near.sum() - wide / wide.sum()
        code += abs(code.min())
        return code / code.sum()

    def mean_of_three(outputs):
        best = 2 * np.pi / 2.2 * centres[np.argsort(outputs)[-3:]]
        return np.arctan2(np.sin(best).mean(0), np.cos(best).mean(0)) * 2.2 / (2 * np.pi)

    hidden, activity, decoded = None, [], [mean_of_three(place_code(path[0]))]
    weights = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    for t in range(11):
        if t % 5 == 0:  # the place code anew
            hidden = place_code(path[t]) @ weights.encoder
        inputs = (path[t + 1] - path[t]) @ weights.network.inputs
        hidden = np.maximum(inputs + hidden @ weights.network.recurrent, 0)
        activity.append(hidden)
        decoded.append(mean_of_three(hidden @ weights.decoder))
    np.testing.assert_allclose(walked.activity[1:], activity, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(walked.activity[0], activity[0], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(walked.decoded_m, decoded, atol=1e-4)


def test_a_path_that_does_not_fit_is_refused_or_made_to_fit(tmp_path):
    run = walked_run(tmp_path)
    for wrong, sentence in (
        (np.zeros(3), r"must be numbers \[n, 2\], but these have the shape \(3,\)"),
        (np.zeros((4, 3)), r"must be numbers \[n, 2\], but these have the shape \(4, 3\)"),
        (np.zeros((1, 2)), "a path has two or more positions"),
        (np.full((4, 2), np.nan), "must be finite numbers, but some are not"),
        ([[0, 1], [2]], "positions .m. must be numbers .setting an array element"),
    ):
        with pytest.raises(InputError, match=sentence):
            run.apply(wrong)
    path = np.array([[0.0, 0.0], [4.4, 1.0], [2.0, 2.2]])
    with pytest.raises(InputError, match=r"x from -1.1 to 1.1 m and y from -1.1 to 1.1 m"):
        run.apply(path)
    fitted = run.apply(path, fit=True).positions_m
    np.testing.assert_allclose(fitted, [[-1.1, -0.55], [1.1, -0.05], [-0.1, 0.55]], atol=1e-6)
    small = run.apply(path / 10, fit=True).positions_m  # is moved, and not made larger
    np.testing.assert_allclose(small, path / 10 - [0.22, 0.11], atol=1e-6)


def test_a_model_is_applied_to_images(tmp_path):
    config = tiny(fdl_configs.make("biohsic", "digits"))
    made = trainer.build(config)
    state = made.task.init(jax.random.key(0), made.data)
    run = notebook.Run(tmp_path, made.task, state, config, 0)
    images = np.asarray(made.data["test_inputs"][:5])
    applied = run.apply(images)
    assert applied.activity.shape == (5, 10)
    assert applied.decoded_m is None
    np.testing.assert_array_equal(applied.inputs, images)
    with pytest.raises(InputError, match=r"fit=True is for paths in a box; .* takes samples as"):
        run.apply(images, fit=True)
    with pytest.raises(InputError, match=r"must be numbers \[n, \.\.\.\], but .* \(5,\)"):
        run.apply(np.zeros(5))
    with pytest.raises(InputError, match=r"`apply` of the task fails with these"):
        run.apply(np.zeros((5, 3)))


def test_a_readout_becomes_a_dataset_with_axes():
    rng = np.random.default_rng(0)
    one = {
        "rate_maps": rng.normal(size=(3, 4, 5)),
        "extent_m": np.array([[0.0, 0.8], [0.0, 0.5]]),
        "positions_m": rng.normal(size=(2, 6, 2)),
        "times_s": 0.1 * np.arange(6),
        "grid_score_60": np.zeros(7),  # of more units than have maps
        "losses": np.zeros((3, 2)),
        "spacing_m": np.array(0.4),
    }
    data = notebook.Readout(one).to_xarray()
    at = data.rate_maps.sel(x=0.3, y=0.45, method="nearest")
    np.testing.assert_array_equal(at, one["rate_maps"][:, 1, 4])
    np.testing.assert_allclose(data.x, [0.1, 0.3, 0.5, 0.7])
    np.testing.assert_allclose(data.positions_m.isel(time=3, space=1), one["positions_m"][:, 3, 1])
    np.testing.assert_allclose(data.time, one["times_s"])
    assert data.grid_score_60.dims == ("grid_score_60_0",)
    assert data.losses.dims == ("losses_0", "losses_1")
    assert data.spacing_m == 0.4
    several = {n: np.stack([v, v]) for n, v in one.items()} | {"drawn_seed": np.array(1)}
    data = notebook.Readout(several).to_xarray()
    assert data.rate_maps.dims == ("seed", "unit", "x", "y")
    assert data.times_s.dims == ("seed", "time")
    np.testing.assert_allclose(data.y, [0.05, 0.15, 0.25, 0.35, 0.45])


# --- In a notebook, and in the README ---

CELLS = """
import hfjax
from tests import toy
run = hfjax.run(toy.config(), workdir=WORKDIR, writers=("terminal", "jsonl"))
---
run.show("weights")
---
hfjax.run(toy.config(), workdir=WORKDIR, num_steps=10)
"""


@pytest.mark.slow
def test_a_notebook_shows_progress_in_place_figures_and_sentences(tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    cells = CELLS.replace("WORKDIR", repr(str(tmp_path / "run"))).split("---\n")
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    nbclient.NotebookClient(
        book,
        kernel_name="python3",
        allow_errors=True,
        resources={"metadata": {"path": str(ROOT)}},
    ).execute()
    first, shown, refused = (cell.outputs for cell in book.cells)
    progress = [o for o in first if o.output_type == "display_data"]
    assert len(progress) == 1  # one line, whose last text stands
    assert progress[0].data["text/plain"].startswith("complete: step      40 of 40  loss ")
    printed = "".join(o.text for o in first if o.output_type == "stream")
    assert printed.count("evaluation: loss") == 3
    assert "of 40  loss" not in printed
    assert [set(o.data) for o in shown] == [{"image/png", "text/plain"}]
    (error,) = refused
    assert error.traceback == [f"InputError: {error.evalue}"]
    assert "give another workdir=, or overwrite=True" in error.evalue


def drawing_little(task):
    return task._replace(figures=lambda readout: {"maps": Figure((1, 1))})


@pytest.mark.slow
@pytest.mark.optimized
def test_every_python_snippet_of_the_readme_runs(tmp_path, monkeypatch):
    """One after the other in the same process, as a reader would; models are made small."""
    make = fdl_configs.make
    monkeypatch.setattr(fdl_configs, "make", lambda *names: tiny(make(*names)))
    draw = trainer.draw
    monkeypatch.setattr(trainer, "draw", lambda task, readout: draw(drawing_little(task), readout))
    monkeypatch.chdir(tmp_path)
    times, places, headings = small_recordings.walk(minutes=0.8)
    spikes = small_recordings.poisson(times, small_recordings.grid_rate(places))
    np.savez("rat.npz", t=times, pos=places, head_direction=headings, spike_times=spikes)
    text = (ROOT / "README.md").read_text()
    snippets = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(snippets) >= 7
    names = {"__name__": "readme"}
    for snippet in snippets:
        exec(compile(snippet, "README.md", "exec"), names)
    assert names["walked"].decoded_m.shape == (501, 2)
    assert names["scores"].shape == (9,)
