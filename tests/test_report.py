"""The last lines of a run, and the panels of training.png."""

import dataclasses
import functools

import fiddle as fdl
import numpy as np
import pytest

import fdl_configs
from hfjax.task import Axis, Metric, declares, logged, meaning, metrics_of
from hfjax.training import curves, report, workdir
from hfjax.training.experiment import Headline, build, build_without_data
from tests import toy

METRICS = logged(
    step={"loss": Metric("squared error", split="training", better="lower", panel="Error")},
    evaluation={
        "loss": Metric("squared error", "cm", split="held out", better="lower", panel="Error"),
        "floor": Metric("floor", "cm", role="floor", of="loss"),
        "share_*": Metric("grid cells above {}", "% of units", panel="Grid cells"),
        "secret": Metric("not drawn"),
    },
)


def experiment_and_config(seeds=1, **published):
    config = toy.config()
    config.seeds = seeds
    config.headline = (
        fdl.Config(Headline, name="eval/loss", **published),
        fdl.Config(Headline, name="eval/share_0.8"),
    )
    experiment = build(config)
    task = experiment.task._replace(metrics=METRICS, axis=Axis("minutes", 0.5))
    object.__setattr__(experiment, "task", task)
    return experiment, config


def lines_of(latest, before=None, seeds=1, **published):
    experiment, config = experiment_and_config(seeds, **published)
    arguments = {"before": before or {}, "latest": latest}
    text = report.ending(workdir.pathlib.Path("runs/x"), 40, experiment, config, **arguments)
    assert all(len(line) <= 80 for line in text.splitlines())
    assert len(text.splitlines()) <= 10
    return " ".join(text.split())


def test_a_number_stands_beside_its_floor_its_start_and_the_published_value():
    text = lines_of(
        {"eval/loss": 5.71, "eval/floor": 2.9, "eval/share_0.8": 0.225},
        {"eval/loss": 84.0},
        published=4.42,
        source="Sorscher et al. 2023",
        at={"task.num_units": 4096, "num_steps": 40},
    )
    assert (
        "Complete after 40 steps (20 minutes). "
        "Published: Sorscher et al. 2023 (num_units 4096; here 4)."
    ) in text
    assert "squared error 5.71 cm; floor 2.9; began at 84; published 4.42 grid" in text
    assert "grid cells above 0.8 22.5 % of units" in text


@pytest.mark.parametrize(("last", "worse"), [(0.5, True), (0.0505, False), (0.01, False)])
def test_a_number_that_got_worse_is_said_to_have_got_worse(last, worse):
    text = lines_of({"eval/loss": last}, {"eval/loss": 0.05})
    assert ("began at 0.05: it got worse" in text) == worse


def test_a_value_that_is_not_published_is_called_what_it_is():
    text = lines_of({"eval/loss": 1.0}, published=2.0, source="NumPy", kind="original's code")
    assert "Complete after 40 steps (20 minutes). Original's code: NumPy." in text
    assert "1 cm; original's code 2" in text


def test_settings_of_the_published_run_that_this_config_does_not_have_are_passed_over():
    at = {"task.no_such_part.size": 3, "task.num_units": 8}
    text = lines_of({"eval/loss": 1.0}, published=2.0, source="Someone", at=at)
    assert "Published: Someone (num_units 8; here 4). squared error 1 cm; published 2" in text


def test_the_start_is_left_out_where_it_takes_a_line_of_its_own_or_is_the_same():
    latest = {"eval/loss": 1.234567, "eval/floor": 1.234567}
    assert "began at" not in lines_of(latest, latest, published=1.2345)
    long = {"source": "x", "kind": "published in a place with a long name"}
    assert "began at" not in lines_of(latest, {"eval/loss": 9.0}, published=1.0, **long)
    assert "began at 0.5: it got worse" in lines_of(latest, {"eval/loss": 0.5}, **long)


def plausible(experiment, *, all_worse=False):
    """Scalars of a headline and its controls before and after; the first one gets worse, or all."""
    metrics, names = experiment.task.metrics, [h.name for h in experiment.headline]
    controls = [n for n, m in metrics.items() if m.role and m.of in names]
    spread = np.linspace(0.8, 1.2, experiment.seeds) if experiment.seeds > 1 else 1.0
    before, latest = {}, {}
    for name in [*names, *controls]:
        metric = meaning(name, metrics)
        usual = 0.4321 if metric.unit.startswith("%") else 43.21 if metric.unit == "cm" else 0.04321
        latest[name] = usual * spread
        if name.startswith("eval/"):
            improves = name != names[0] and not all_worse
            change = 2.0 if (metric.better == "lower") == improves else 0.5
            before[name] = change * latest[name]
    return before, latest


CONFIGS = fdl_configs.configs()


@pytest.mark.parametrize("name", CONFIGS)
def test_the_ending_of_every_config_fits_ten_lines(name, tmp_path, monkeypatch):
    (tmp_path / "runs" / "x" / "wandb" / "offline-run-1").mkdir(parents=True)
    (tmp_path / "runs" / "x" / "metrics.jsonl").touch()
    monkeypatch.chdir(tmp_path)
    # `trained` needs a file of weights, and ends as its config does.
    others = [(f,) for f in fdl_configs.fiddlers_of(CONFIGS[name]) if f != "trained"]
    for fiddlers in ((), *others):
        config = fdl_configs.make(name, *fiddlers)
        experiment = build_without_data(config)
        assert experiment.headline
        for seeds, all_worse in ((1, False), (8, False), (8, True)):
            experiment = dataclasses.replace(experiment, seeds=seeds)
            before, latest = plausible(experiment, all_worse=all_worse)
            steps = experiment.num_steps, experiment, config
            where = workdir.pathlib.Path("runs/x")
            text = report.ending(where, *steps, before=before, latest=latest)
            assert len(text.splitlines()) <= 10, text
            assert all(len(line) <= 80 for line in text.splitlines()), text
            assert "W&B" in text
            first = meaning(experiment.headline[0].name, experiment.task.metrics)
            progress = experiment.headline[0].name in before and first.better
            assert ("worse" in text) == bool(progress), text


def test_the_ending_names_what_the_writers_have_left(tmp_path):
    assert report.places(tmp_path)[0].endswith("/  (figures, config, checkpoints)")
    (tmp_path / "metrics.jsonl").touch()
    assert "(figures/training.png, config, metrics, checkpoints)" in report.places(tmp_path)[0]


def test_a_population_shows_median_and_quartiles():
    seeds = {"eval/loss": np.arange(5.0), "eval/floor": np.ones(5)}
    text = lines_of(seeds, {"eval/loss": np.full(5, 9.0)}, seeds=5)
    assert "Median of 5 models (quartiles)" in text
    assert "2 (1 to 3) cm; floor 1; began at 9" in text


def test_without_declarations_the_names_are_the_labels():
    experiment, config = build(toy.config()), toy.config()
    arguments = {"before": {}, "latest": {"eval/loss": 0.25, "train/norm": 1.0}}
    text = report.ending(workdir.pathlib.Path("runs/x"), 40, experiment, config, **arguments)
    assert "eval/loss  0.25\n" in text


def test_panels_begin_with_the_headline_and_hold_what_is_compared():
    names = ["eval/floor", "eval/loss", "train/loss", "eval/share_0.8", "eval/secret", "eval/new"]
    headline = [Headline("eval/share_0.8")]
    assert curves.panels(names, METRICS, headline) == {
        "Grid cells": ["eval/share_0.8"],
        "Error": ["train/loss", "eval/loss", "eval/floor"],
        "new": ["eval/new"],
    }


def test_training_png_names_splits_and_units_and_the_published_value():
    records = [
        {"step": 0, "eval/loss": 9.0, "eval/floor": 1.0, "eval/share_0.8": 0.1},
        {"step": 10, "train/loss": 5.0},
        {"step": 20, "train/loss": None},
        {"step": 20, "eval/loss": 2.0, "eval/floor": 1.0, "eval/share_0.8": 0.3},
    ]
    headline = [Headline("eval/loss", 1.5, at={"task.num_units": 8})]
    figure = curves.training_curves(
        records, metrics=METRICS, headline=headline, axis=Axis("minutes", 0.5)
    )
    error, cells = figure.axes
    labels = [text.get_text() for text in error.get_legend().get_texts()]
    assert labels == [
        "squared error (training)",
        "squared error (held out)",
        "floor 1 (squared error)",
        "published 1.5 (squared error, num_units 8)",
    ]
    assert (error.get_xlabel(), error.get_ylabel()) == ("minutes", "cm")
    assert cells.get_ylabel() == "% of units"
    np.testing.assert_allclose(cells.lines[0].get_xydata(), [[0, 10], [10, 30]])
    box = error.get_legend().get_bbox_to_anchor().transformed(error.transAxes.inverted())
    assert box.y1 < 0  # below the lines


def test_what_is_compared_in_a_panel_can_be_told_apart():
    metrics = logged(
        step={},
        evaluation={
            "a": Metric("error a", panel="Errors", level=("silent", 1.0)),
            "b": Metric("error b", panel="Errors", level=("silent", 1.0)),
        },
    )
    records = [{"step": step, "eval/a": 1.0, "eval/b": 2.0} for step in (0, 10)]
    headline = [Headline("eval/a", 0.5), Headline("eval/b", 0.6, kind="original's code")]
    (ax,) = curves.training_curves(records, metrics=metrics, headline=headline).axes
    lines = {line.get_label(): line for line in ax.lines}
    assert len(lines) == len(ax.lines) == 5  # the level is drawn once
    assert lines["published 0.5 (error a)"].get_color() == lines["error a"].get_color()
    assert lines["original's code 0.6 (error b)"].get_color() == lines["error b"].get_color()
    assert lines["error a"].get_color() != lines["error b"].get_color()
    assert "silent 1" in lines


def test_a_series_has_one_colour_in_all_panels_and_those_of_a_panel_differ():
    def walks(name, series, panel):
        return Metric(name, "cm", panel=panel, series=series)

    metrics = logged(
        step={},
        evaluation={
            "a": walks("simulated, short", "simulated", "20 steps"),
            "b": walks("rat, short", "rat", "20 steps"),
            "c": walks("rat, long", "rat", "500 steps"),
            "d": walks("simulated, long", "simulated", "500 steps"),
            "e": walks("others", "others", "500 steps"),
        },
    )
    records = [{"step": s, **{f"eval/{n}": 1.0 for n in "abcde"}} for s in (0, 10)]
    figure = curves.training_curves(records, metrics=metrics)
    colours = [{ln.get_label(): ln.get_color() for ln in ax.lines} for ax in figure.axes]
    assert [list(of) for of in colours] == [["simulated", "rat"], ["rat", "simulated", "others"]]
    assert {name: colours[1][name] for name in colours[0]} == colours[0]
    assert all(len(set(of.values())) == len(of) for of in colours)


def test_what_does_not_learn_is_a_level_at_its_newest_value_and_no_curve():
    records = [
        {"step": s, "eval/loss": [9.0 - s / 10] * 3, "eval/floor": [s / 20, None, 1.0 + s / 20]}
        for s in (0, 10, 20)
    ]
    (ax,) = curves.training_curves(records, metrics=METRICS).axes
    curve, floor = ax.lines
    assert len(curve.get_xdata()) == 3
    assert (floor.get_label(), set(floor.get_ydata())) == ("floor 1.5", {1.5})
    assert len(ax.collections) == 1  # a band for the curve alone

    metrics = {"eval/before": Metric("error before", "m", panel="Error", learns=False)}
    records = [{"step": s, "eval/before": 0.1} for s in (0, 10)]
    (line,) = curves.training_curves(records, metrics=metrics).axes[0].lines
    assert (line.get_label(), len(line.get_xdata())) == ("error before 0.1", 2)
    assert line.get_xdata()[1] == 1  # across the axes


@pytest.mark.parametrize("number", [2, 4, 5, 7, 8])
def test_panels_have_one_size_and_rows_are_even_and_centred(number):
    records = [{"step": s, **{f"eval/x{i}": 1.0 for i in range(number)}} for s in (0, 10)]
    figure = curves.training_curves(records)
    figure.draw_without_rendering()
    boxes = [ax.get_position() for ax in figure.axes]
    assert len(boxes) == number
    np.testing.assert_allclose([box.width for box in boxes], boxes[0].width, rtol=0.06)
    rows = {}
    for box in boxes:
        rows.setdefault(round(box.y0, 2), []).append((box.x0 + box.x1) / 2)
    sizes = sorted(map(len, rows.values()))
    assert sizes[-1] <= 3
    assert sizes[-1] - sizes[0] <= 1
    middles = [np.mean(row) for row in rows.values()]
    np.testing.assert_allclose(middles, middles[0], atol=0.02)


def test_titles_break_into_even_lines():
    assert curves.balanced("Distance to the true position, walks of 20 steps", 46) == (
        "Distance to the true\nposition, walks of 20 steps"
    )
    assert curves.balanced("Loss", 46) == "Loss"


def drawn(experiment):
    """The panels of a config, from records of all its scalars, after layout."""
    names = [n.replace("*", f"hidden_{i}") for n in experiment.task.metrics for i in range(2)]
    records = [{"step": step, **dict.fromkeys(names, 0.5)} for step in (0, 10)]
    metrics, axis = experiment.task.metrics, experiment.task.axis
    figure = curves.training_curves(
        records, metrics=metrics, headline=experiment.headline, axis=axis
    )
    figure.draw_without_rendering()
    return figure


MODELS = {fdl.get_callable(make().task): name for name, make in CONFIGS.items()}


@pytest.mark.parametrize("name", MODELS.values())
def test_training_png_of_every_model_hides_and_clips_nothing(name):
    figure = drawn(build_without_data(fdl_configs.make(name)))
    panels = [ax.get_window_extent() for ax in figure.axes]
    for ax in figure.axes:
        legend = ax.get_legend()
        labels = [text.get_text() for text in legend.get_texts()]
        assert len(set(labels)) == len(labels), labels
        box = legend.get_window_extent()
        assert not any(box.overlaps(panel) for panel in panels), labels
        for part in (legend, ax.title, ax.yaxis.label):
            box = part.get_window_extent()
            assert box.x0 >= 0, labels
            assert box.y0 >= 0, labels
            assert box.x1 <= figure.bbox.x1, labels
            assert box.y1 <= figure.bbox.y1, labels
        assert ax.get_ylabel()
        assert ax.get_ylabel() != ax.get_title()


def test_a_scalar_of_one_step_is_a_point_on_the_axis_of_the_whole_run():
    records = [{"step": 0, "eval/b": 1.0}, {"step": 50, "train/a": 1.0, "eval/b": 2.0}]
    a, b = curves.training_curves(records).axes
    assert [ax.lines[0].get_marker() for ax in (a, b)] == ["o", "o"]
    assert a.get_xlim() == b.get_xlim() == (-1, 51)


def test_training_png_stays_small():
    records = [{"step": s, **{f"train/x{i}": 1.0 for i in range(30)}} for s in range(3)]
    figure = curves.training_curves(records)
    assert len(figure.axes) == curves.MOST_PANELS
    assert 120 * figure.get_figheight() <= 1400


def test_a_function_that_is_given_declares_its_scalars():
    @declares({"norm_*": Metric("layer {}")})
    def learner():
        pass

    metrics = logged(step=metrics_of(functools.partial(learner)), evaluation={})
    assert meaning("train/norm_2", metrics).label == "layer 2"
    assert meaning("eval/norm_2", metrics) is None
    assert metrics_of(print) == {}
