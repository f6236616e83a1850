import pathlib
import re
import runpy
import signal
import subprocess

import fiddle as fdl
import numpy as np
import pytest
import toy
from matplotlib.figure import Figure

from experiments import faults, harness, paper_scale
from hfjax.errors import STOPPED, InputError

EXPERIMENTS = pathlib.Path(harness.__file__).parent


@pytest.fixture(autouse=True)
def script(tmp_path, monkeypatch):
    """The script of a paper, with a RESULTS.md, in a folder where runs go too."""
    monkeypatch.chdir(tmp_path)
    paper = tmp_path / "experiments" / "paper"
    paper.mkdir(parents=True)
    (paper / "RESULTS.md").write_text("Before\n<!-- losses -->\nold\n<!-- end -->\nAfter\n")
    return paper / "run.py"


def small() -> fdl.Config:
    return toy.config()


def short(cfg: fdl.Config) -> None:
    cfg.num_steps = cfg.eval_every = cfg.save_every = 10


ROWS = {
    "plain": harness.Row("test_harness.small"),
    "wide, slow": harness.Row(
        "test_harness.small", settings={"task.num_units": 6, "task.learning_rate": 0.01}
    ),
}
BUDGETS = {"small": ("short",), "full": ()}


def losses(study):
    runs = study.train_rows(ROWS)
    study.save("curves", Figure())
    for run in runs.values():
        study.keep(run, "weights", "weights")
    rows = {row: run.evaluation() for row, run in runs.items()}
    return harness.scalar_table(rows, {"loss": "loss", "absent": "absent"})


def run(script, *flags):
    sections = {"losses": harness.Section(losses, seeds=3), "other": harness.Section(lambda s: "")}
    harness.main(str(script), "About.", sections, budgets=BUDGETS, argv=flags)


def test_a_row_is_a_config_with_fiddlers_settings_and_seeds():
    row = harness.Row("test_harness.small", ("short",), {"task.num_units": 7, "chunk": 2})
    config = harness.make_config(row, seeds=5)
    assert (config.num_steps, config.task.num_units, config.chunk, config.seeds) == (10, 7, 2, 5)
    assert toy.config().num_steps == 40


def test_a_whole_section_replaces_its_text_and_its_figures(script, capsys):
    run(script, "--only=losses")
    text = (script.parent / "RESULTS.md").read_text()
    assert text.startswith("Before\n<!-- losses -->\n|  | loss | absent |\n")
    assert text.endswith("|  |\n<!-- end -->\nAfter\n")
    assert "| wide, slow | " in text
    assert "old" not in text
    assert {p.name for p in script.parent.glob("*.png")} == {"curves.png", "weights.png"}
    done = harness.pathlib.Path("runs/paper/small/losses/wide_slow-3seeds")
    finished = (done / "metrics.jsonl").stat().st_mtime_ns
    run(script, "--only=losses")
    assert (done / "metrics.jsonl").stat().st_mtime_ns == finished  # nothing is trained twice
    assert text == (script.parent / "RESULTS.md").read_text()


def test_parts_of_a_section_replace_their_own_texts(script, capsys):
    results = script.parent / "RESULTS.md"
    results.write_text("<!-- a -->\n<!-- end -->\nbetween\n<!-- b, full -->\nold\n<!-- end -->\n")
    sections = {"a": harness.Section(lambda study: {"a": "1", "b": "2", "c": "3"})}
    harness.main(str(script), "About.", sections, budgets=BUDGETS, argv=[])
    first = "<!-- a -->\n1\n<!-- end -->\nbetween\n"
    assert results.read_text() == first + "<!-- b, full -->\nold\n<!-- end -->\n"
    assert "\n\n3\n\n" in capsys.readouterr().out  # a part without a place
    harness.main(str(script), "About.", sections, budgets=BUDGETS, argv=["--budget=full"])
    assert results.read_text() == first + "<!-- b, full -->\n2\n<!-- end -->\n"


@pytest.mark.parametrize("paper", sorted(p.parent.name for p in EXPERIMENTS.glob("*/run.py")))
def test_every_section_of_a_paper_has_its_place_in_the_results(paper):
    sections = runpy.run_path(str(EXPERIMENTS / paper / "run.py"))["SECTIONS"]
    text = (EXPERIMENTS / paper / "RESULTS.md").read_text()
    marks = re.findall(r"^<!-- (.*) -->$", text, re.MULTILINE)
    assert marks[1::2] == ["end"] * (len(marks) // 2)
    assert {*sections} - {*marks} <= {"figures"}


@pytest.mark.parametrize("flags", [["--only=losses/plain"], ["--only=losses", "--budget=quick"]])
def test_a_part_of_a_section_and_a_quick_run_leave_the_results_alone(script, flags, capsys):
    before = (script.parent / "RESULTS.md").read_text()
    run(script, *flags, "--seeds=1")
    assert (script.parent / "RESULTS.md").read_text() == before
    assert not list(script.parent.glob("*.png"))
    assert len(list(harness.pathlib.Path("runs").rglob("losses/curves.png"))) == 1
    assert "| plain | " in capsys.readouterr().out


def test_an_unknown_section_or_row_ends_with_one_sentence(script, capsys):
    for flag, sentence in {
        "--only=loses": "there is no section 'loses'; did you mean 'losses'?",
        "--only=losses/plan": "losses has no row 'plan'; did you mean 'plain'?",
    }.items():
        with pytest.raises(SystemExit) as stopped:
            run(script, flag)
        assert stopped.value.code == 2
        assert sentence in capsys.readouterr().err
    assert not harness.pathlib.Path("runs").exists()


def test_flags_choose_sections_rows_seeds_and_budget(script):
    chosen = []
    sections = {n: harness.Section(lambda s: chosen.append(s) or "", 4) for n in ("a", "b", "c")}

    def choose(*flags):
        chosen.clear()
        harness.main(str(script), "", sections, budgets=BUDGETS, argv=flags)
        return [(s.section, s.seeds, s.budget, s.budget_fiddlers, s.only) for s in chosen]

    assert choose("--only=c/x", "--only=b", "--only=c/y", "--only=b/x") == [
        ("b", 4, "small", ("short",), ()),
        ("c", 4, "small", ("short",), ("x", "y")),
    ]
    assert choose("--seeds=7", "--budget=full") == [(n, 7, "full", (), ()) for n in "abc"]
    assert choose("--budget=quick")[0] == ("a", 2, "quick", ("short",), ())


def test_scalars_of_a_run_have_an_axis_of_seeds_whatever_their_number():
    for seeds in (1, 3):
        row = harness.Row("test_harness.small", settings={"num_steps": 20, "eval_every": 10})
        config = harness.make_config(row, seeds=seeds)
        trained = harness.train_in(harness.pathlib.Path(f"runs/{seeds}"), config)
        curve = trained.curve("eval/loss")  # at steps 0, 10 and 20
        assert curve.shape == (3, seeds)
        assert trained.curve("train/loss").shape == (4, seeds)
        np.testing.assert_array_equal(trained.evaluation(0)["loss"], curve[0])
        np.testing.assert_array_equal(trained.evaluation()["loss"], curve[-1])
        weights = trained.readouts()["weights"]
        assert weights.shape == (seeds, 4, 4)
        drawn = harness.median_member(curve[-1])
        np.testing.assert_array_equal(trained.readout()["weights"], weights[drawn])
        np.testing.assert_array_equal(trained.readout(seeds - 1)["weights"], weights[-1])
        untrained = trained.readouts(0)["weights"]  # the oldest that was kept
        assert not np.array_equal(untrained, weights)
        np.testing.assert_array_equal(trained.readout(0, 0)["weights"], untrained[0])
        with pytest.raises(KeyError, match="no scalar 'eval/error'"):
            trained.curve("eval/error")


def test_a_run_that_a_signal_stopped_ends_the_script_with_75(monkeypatch):
    monkeypatch.setattr(harness.train, "run", lambda *args, **kwargs: False)
    with pytest.raises(SystemExit) as stopped:
        harness.train_in(harness.pathlib.Path("runs"), toy.config())
    assert stopped.value.code == 75


def test_spread_is_the_median_with_quartiles():
    assert harness.spread(np.array([1.0, 2.0, 3.0, 4.0, 100.0])) == "3 (2-4)"
    assert harness.spread(np.array([0.123456])) == "0.123"
    assert harness.spread(np.array([12345.6])) == "12,346"
    assert harness.spread(np.array([1.0, np.nan])) == "nan (nan-nan)"


def test_the_median_member_of_an_even_number_is_the_lower_of_two():
    assert harness.median_member(np.array([4.0, 1.0, 3.0, 2.0])) == 3


def test_a_table_of_scalars_gives_percent_and_leaves_absent_cells_empty():
    rows = {"a": {"share": np.array([0.25])}, "b": {}}
    columns = {"grid cells (%)": "share", "share": "share"}
    assert harness.scalar_table(rows, columns) == (
        "|  | grid cells (%) | share |\n| --- | --- | --- |\n| a | 25 | 0.25 |\n| b |  |  |"
    )


def test_a_file_without_the_section_stays_as_it_is(tmp_path):
    results = tmp_path / "RESULTS.md"
    assert not harness.replace_section(results, "a", "new")
    results.write_text("<!-- a -->\nnever closed\n")
    assert not harness.replace_section(results, "a", "new")
    assert results.read_text() == "<!-- a -->\nnever closed\n"


def test_rows_that_a_section_does_not_have_are_refused(tmp_path):
    study = harness.Study(tmp_path, "losses", seeds=1, budget="full", only=("nothing",))
    with pytest.raises(InputError, match="losses has no row 'nothing'"):
        study.train_rows(ROWS)


class Endless:
    """A process that outlives the budget, and SIGTERM."""

    def __init__(self, *_, **__):
        self.code = None

    def wait(self, timeout=None):
        if self.code is None:
            raise subprocess.TimeoutExpired("python", timeout)
        return self.code

    def send_signal(self, number):
        assert number == signal.SIGTERM

    def kill(self):
        self.code = -signal.SIGKILL


def test_a_part_that_does_not_stop_is_ended_and_left_for_the_next_start(monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", Endless)
    assert paper_scale.run_part("dsm", deadline_s=0.0) == STOPPED


@pytest.mark.parametrize(
    ("codes", "expected"), [((0, 0), 0), ((0, STOPPED), STOPPED), ((STOPPED, 3), 1), ((2, 0), 1)]
)
def test_a_scheduler_starts_again_only_what_can_go_on(monkeypatch, capsys, codes, expected):
    ends = dict(zip(("throughput, float32", "throughput, TF32"), codes, strict=True))
    monkeypatch.setattr(paper_scale, "PARTS", {n: paper_scale.PARTS[n] for n in ends})
    monkeypatch.setattr(paper_scale, "run_part", lambda name, _: ends[name])
    monkeypatch.setattr("sys.argv", ["paper_scale"])
    assert paper_scale.main() == expected
    assert ("Failed" in capsys.readouterr().out) == (expected == 1)
    assert (paper_scale.FOLDER / "results.md").exists()


@pytest.mark.parametrize(
    ("begins", "outcome"), [(10, ""), (5, "went on from step 5, though step 10")]
)
def test_a_run_that_goes_on_from_too_early_a_step_is_a_fault(
    tmp_path, monkeypatch, begins, outcome
):
    def go_on(*_):
        (tmp_path / "provenance.json").write_text(f'[{{"step": 0}}, {{"step": {begins}}}]')
        return 0, ""

    (tmp_path / "provenance.json").write_text('[{"step": 0}]')
    (tmp_path / "metrics.jsonl").write_text('{"step": 15}\n')
    (tmp_path / "checkpoints" / "10").mkdir(parents=True)
    monkeypatch.setattr(faults, "command", go_on)
    monkeypatch.setattr(faults, "difference", lambda *_: "")
    case = faults.finished(faults.Reference((), tmp_path), tmp_path)
    assert case.outcome.startswith(outcome)
    assert bool(case.outcome) == bool(outcome)
    assert case.lost == 15 - begins
