"""Sweeps: what they expand to, their order, their table, and a whole sweep as one program."""

import contextlib
import csv
import signal
import subprocess
import sys
import types

import fiddle as fdl
import jax
import numpy as np
import pytest
import submitit

import hfjax
from hfjax import sweep
from hfjax.errors import STOPPED, InputError
from hfjax.training import comparison, log, population, processes
from hfjax.training.experiment import Headline, build_task
from hfjax.training.programs import seed_keys
from tests import toy
from tests.command_line import ROOT

TOY = ("sweep", "--fdl_config=tests.toy.config", "--writers=jsonl,terminal")
RATES = ("--grid", "task.learning_rate=1e-2,.3", "--grid", "seed=2..3")
NAMES = [f"learning_rate={rate},seed={seed}" for rate in ("1e-2", ".3") for seed in (2, 3)]


def table(folder):
    with (folder / "sweep.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module", autouse=True)
def one_device():
    device = jax.devices()[:1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "devices", lambda: device)
        yield


@pytest.fixture(scope="module")
def one_by_one(tmp_path_factory):
    """A sweep of four runs whose second one was stopped, and that was resumed."""
    folder = tmp_path_factory.mktemp("sweep") / "rates"
    write = log.Jsonl.scalars

    def then_stop(self, step, values):
        write(self, step, values)
        if NAMES[1] in self._file.name and step == 10:
            signal.raise_signal(signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log.Jsonl, "scalars", then_stop)
        assert sweep.main([*TOY, *RATES, f"--workdir={folder}"]) == STOPPED
    assert not (folder / "sweep.csv").exists()
    assert sweep.main([*TOY, *RATES, f"--workdir={folder}"]) == 0
    return folder


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0..3", ["0", "1", "2", "3"]),
        ("-1..0", ["-1", "0"]),
        ("1e-4, 3e-4", ["1e-4", "3e-4"]),
        ("(1,2),(3,)", ["(1,2)", "(3,)"]),
        ("tanh", ["tanh"]),
    ],
)
def test_values_of_a_grid(text, values):
    assert sweep.values_of(text) == values


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "--grid is missing"),
        (("--grid=seed",), "--grid=seed is no grid"),
        (("--grid=seed=1,1",), "is no grid"),
        (("--grid=seed=3..1",), "is no grid"),
        (("--grid=seed=1", "--grid=seed=2"), "is no grid"),
        (("--grid=task.num_unit=1,2",), "did you mean 'task.num_units'?"),
        (("--grid=task.num_units=4,x",), "task.num_units must be a whole number, but is 'x'"),
        (("--grid=seed=0..1", "--launcher=slurn"), "did you mean 'slurm'?"),
        (("--grid=seed=0..1", "--vmap", "--seeds=2"), "--vmap is a population already"),
        (("--grid=task.num_units=2,3", "--vmap"), "--vmap trains runs that differ in seeds and in"),
        (("--grid=seed=0..1", "--wrong"), "Unknown command line flag"),
        (("--grid=seed=0..1", "--process_id=1"), "--process_id joins the processes of one run"),
        (("--grid=seed=0..1", "--coordinator=a:1"), "--coordinator joins"),
        (("--grid=seed=0..1", "--num_processes=2"), "--num_processes must be 1 in a sweep"),
        (("--grid=seed=0..1", "--workdir=gs://a/b"), "gs://a/b is an address"),
        (("--grid=init_from=" + 256 * "x",), "is longer than 255 bytes; give shorter values"),
    ],
)
def test_a_wrong_sweep_is_one_sentence_and_writes_nothing(tmp_path, capsys, flags, message):
    assert sweep.main([*TOY, f"--workdir={tmp_path}/s", *flags]) == 2
    _, error = capsys.readouterr()
    assert message in error
    assert error.startswith("hfjax: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "s").exists()


def test_a_sweep_resumes_and_its_table_has_the_last_evaluation_of_every_run(one_by_one, capsys):
    assert sorted(p.name for p in one_by_one.iterdir()) == sorted(
        [*NAMES, "sweep.csv", "sweep.png"]
    )
    rows = table(one_by_one)
    assert [row["run"] for row in rows] == NAMES
    for row in rows:
        last = log.read_metrics(one_by_one / row["run"] / "metrics.jsonl")[-1]
        assert (row["state"], row["step"]) == ("complete", "40")
        assert float(row["eval/loss"]) == last["eval/loss"]
        assert row["seed"] == row["run"][-1]
    assert hfjax.load(one_by_one / NAMES[2]).config.task.learning_rate == 0.3
    before = (one_by_one / NAMES[0] / "metrics.jsonl").stat().st_mtime_ns
    assert sweep.main([*TOY, *RATES, f"--workdir={one_by_one}"]) == 0
    assert "4 runs, 4 of them complete" in capsys.readouterr().out
    assert (one_by_one / NAMES[0] / "metrics.jsonl").stat().st_mtime_ns == before


@pytest.mark.parametrize("vmap", [(), ("--vmap",)])
def test_the_folder_of_another_sweep_is_refused(one_by_one, capsys, vmap):
    others = (*TOY, *RATES, "--fdl_set=task.batch_size=9", f"--workdir={one_by_one}", *vmap)
    assert sweep.main(others) == 2
    assert f"{NAMES[0]} holds a run of another config (task.batch_size" in capsys.readouterr().err


def test_settings_and_manual_are_shown_and_nothing_is_written(tmp_path, capsys):
    flags = (*TOY, "--grid=seed=2..3", f"--workdir={tmp_path}/s")
    for extra in ((), ("--vmap",)):
        assert sweep.main([*flags, *extra, "--print_config"]) == 0
        shown = capsys.readouterr().out
        assert [line for line in shown.split("\n") if line.startswith("seed=")] == [
            "seed=2",
            "seed=3",
        ]
    assert sweep.main([*TOY, "--fdl_help"]) == 0
    assert capsys.readouterr().out.count("Settings (--fdl_set=PATH=VALUE)") == 1
    assert not (tmp_path / "s").exists()


def test_one_of_several_processes_is_no_place_for_a_sweep(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(processes, "is_cluster_of_several", lambda: True)
    flags = [*TOY, "--grid=seed=0..1", f"--workdir={tmp_path}/s", "--print_config"]
    assert sweep.main(flags) == 2
    assert "a sweep runs in one process" in capsys.readouterr().err
    assert sweep.main([*flags, "--num_processes=1"]) == 0


def test_a_failed_run_does_not_stop_the_others(tmp_path, capsys):
    flags = (*TOY, "--grid=task.nan_at=7,-1", f"--workdir={tmp_path}/s", "--scalar=eval/loss")
    assert sweep.main(flags) == 1
    assert [row["state"] for row in table(tmp_path / "s")] == ["unfinished", "complete"]
    assert "0 (unfinished)" in capsys.readouterr().out
    (tmp_path / "s" / "sweep.csv").unlink()
    assert sweep.main([*flags[:-1], "--scalar=eval/los"]) == 2
    assert "did you mean 'eval/loss'?" in capsys.readouterr().err
    assert len(table(tmp_path / "s")) == 2


def declares():
    """A task that says what its scalars mean."""
    return toy.task()._replace(metrics={"eval/loss": hfjax.task.Metric("loss")})


def declaring():
    """A config of `declares`."""
    config = toy.config()
    config.task = fdl.Config(declares)
    return config


def test_a_scalar_that_the_task_does_not_declare_is_told_before_training(tmp_path, capsys):
    flags = ("--grid=seed=0..1", f"--workdir={tmp_path}/s", "--scalar=eval/los")
    assert sweep.main(["sweep", "--fdl_config=tests.test_sweep.declaring", *flags]) == 2
    assert "did you mean 'eval/loss'?" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


def test_an_unexpected_error_of_a_run_does_not_stop_the_others(tmp_path, capsys, monkeypatch):
    def main(argv):
        started.append(argv)
        if len(started) == 1:
            raise RuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return 0

    started = []
    monkeypatch.setattr(sweep.command, "main", main)
    assert sweep.main([*TOY, "--grid=seed=0..1", f"--workdir={tmp_path}/s"]) == 1
    assert len(started) == 2
    assert "RESOURCE_EXHAUSTED" in capsys.readouterr().err


def test_a_full_disk_after_training_is_one_sentence(one_by_one, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(comparison, "write_atomically", full)
    assert sweep.main([*TOY, *RATES, f"--workdir={one_by_one}"]) == 1
    assert capsys.readouterr().err.startswith("hfjax: the sweep cannot be written ([Errno 28] No")


def test_as_one_program_every_run_is_what_it_is_alone(one_by_one, tmp_path):
    folder = tmp_path / "rates"
    assert sweep.main([*TOY, *RATES, "--vmap", f"--workdir={folder}"]) == 0
    for name in NAMES:
        alone, member = (hfjax.load(f / name) for f in (one_by_one, folder))
        for a, b in zip(*map(jax.tree.leaves, (alone.state, member.state)), strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)
        assert alone.config == member.config
        assert sorted(p.name for p in (folder / name / "figures").iterdir()) == [
            "training.png",
            "weights.png",
        ]
    for ours, theirs in zip(table(folder), table(one_by_one), strict=True):
        assert float(ours.pop("eval/loss")) == pytest.approx(float(theirs.pop("eval/loss")))
        assert ours == theirs
    (folder / NAMES[1] / "readout" / "000000040.npz").unlink()  # as if it had been interrupted
    assert sweep.main([*TOY, *RATES, "--vmap", f"--workdir={folder}"]) == 0
    assert sweep.main([*TOY, *RATES, f"--workdir={folder}"]) == 0  # opens the runs as its own


def test_seeds_alone_are_one_program():
    alone = [toy.config() for _ in range(2)]
    for seed, config in enumerate(alone, start=2):
        config.seed = seed
    members = build_task(population.make_config(alone, [{"seed": "2"}, {"seed": "3"}]))
    start = members.init(jax.random.key(0), ()).state["params"]["w"]
    for seed, weights in zip((2, 3), start, strict=True):
        own = toy.task().init(seed_keys(seed, 1)[0, 0], ())
        np.testing.assert_array_equal(weights, own["params"]["w"])


def checks(*, rate: float = 0.1):
    """A task that judges a number when it is made."""
    if rate < 0:
        raise ValueError("rate must not be negative.")
    return toy.task()


def checking():
    """A config of `checks`."""
    config = toy.config()
    config.task = fdl.Config(checks)
    return config


def test_a_number_that_is_judged_cannot_differ_within_a_program(tmp_path, capsys):
    flags = ("--grid=task.rate=.1,.2", "--vmap", f"--workdir={tmp_path}/s")
    assert sweep.main(["sweep", "--fdl_config=tests.test_sweep.checking", *flags]) == 2
    assert capsys.readouterr().err == (
        "hfjax: task.rate cannot differ within one program: the task checks its value, or decides "
        "by it, when it is made; leave out --vmap.\n"
    )
    assert not (tmp_path / "s").exists()


@pytest.mark.slow
def test_submitit_runs_every_point(tmp_path):
    flags = (*TOY[1:], "--launcher=processes", "--grid=seed=3", "--slurm=timeout_min=5")
    command = [sys.executable, "-m", "hfjax.sweep", *flags, f"--workdir={tmp_path}/s"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert [row["state"] for row in table(tmp_path / "s")] == ["complete"]


@pytest.mark.parametrize(("cluster", "signals"), [("slurm", [signal.SIGUSR2]), ("local", [])])
def test_a_job_that_slurm_stopped_hands_the_signal_on(monkeypatch, cluster, signals):
    raised = []
    monkeypatch.setattr(sweep.command, "main", lambda argv: STOPPED)
    monkeypatch.setattr(sweep.signal, "raise_signal", raised.append)
    assert sweep.Job(["--seed=1"], cluster)() == STOPPED
    assert raised == signals


def points(folder, *seeds):
    return [sweep.Point({}, folder / f"seed={n}", (f"--seed={n}",), None) for n in seeds]


def test_submitit_can_requeue_what_it_runs(tmp_path):
    executor = submitit.AutoExecutor(tmp_path, cluster="debug")
    (job,) = sweep._jobs(points(tmp_path, 1), executor)
    again = job.submission()._checkpoint_function()  # what submitit requeues
    assert again.function.arguments == ["--seed=1"]


class Queue:
    """SLURM, as submitit's executor shows it."""

    cluster = "slurm"
    batch = contextlib.nullcontext

    def __init__(self, folder):
        self.folder, self.states = folder, {}

    def submit(self, job):
        name = f"7_{len(self.states)}"
        self.states[name] = "PENDING"
        return types.SimpleNamespace(job_id=name)

    def job(self, folder, name):
        return types.SimpleNamespace(job_id=name)

    def listed(self):
        return {name for name, state in self.states.items() if state in ("PENDING", "RUNNING")}


def test_jobs_in_the_queue_are_not_submitted_again(tmp_path, monkeypatch):
    queue, three = Queue(tmp_path), points(tmp_path, 1, 2, 3)
    monkeypatch.setattr(submitit, "SlurmJob", queue.job)
    monkeypatch.setattr(sweep, "_in_queue", queue.listed)
    assert [job.job_id for job in sweep._jobs(three, queue)] == ["7_0", "7_1", "7_2"]
    queue.states |= {"7_0": "FAILED", "7_1": "RUNNING"}
    assert [job.job_id for job in sweep._jobs(three, queue)] == ["7_3", "7_1", "7_2"]
    with monkeypatch.context() as patch:
        patch.setattr(queue, "batch", None)  # submitit warns of one that is empty
        assert [job.job_id for job in sweep._jobs(three[:1], queue)] == ["7_3"]
    queue.states["7_3"] = "TIMEOUT"
    assert [job.job_id for job in sweep._jobs(three[:2], queue)] == ["7_4", "7_1"]


def test_a_job_is_open_until_its_result_is_there_or_squeue_lists_it_no_more(tmp_path, monkeypatch):
    (tmp_path / "squeue").write_text('#!/bin/sh\necho "7_0\n7_1"; echo "$@" >&2\n')
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (tmp_path / "7_0").touch()
    jobs = [
        types.SimpleNamespace(
            job_id=name, paths=types.SimpleNamespace(result_pickle=tmp_path / name)
        )
        for name in ("7_0", "7_1", "7_2")
    ]
    assert [job.job_id for job in sweep._open(jobs, "slurm")] == ["7_1"]
    (tmp_path / "squeue").write_text("#!/bin/sh\necho no controller >&2; exit 1\n")
    with pytest.raises(InputError, match=r"queue of SLURM cannot be read \(no controller\)"):
        sweep._open(jobs, "slurm")


class Interrupted:
    """A job that Ctrl-C meets while it runs; SIGTERM ends it."""

    job_id, paths = "12345678", types.SimpleNamespace(folder="there")

    def __init__(self):
        self.ends, self.polls = False, 0

    def done(self):
        self.polls += 1
        if self.polls == 1:
            raise KeyboardInterrupt
        return self.ends


@pytest.mark.parametrize(
    ("cluster", "said", "signalled"),
    [
        ("slurm", "The jobs go on. Give the same command again to wait for them", []),
        ("local", "Stopped; everything is saved.", [(12345678, signal.SIGTERM)]),
    ],
)
def test_ctrl_c_says_what_becomes_of_the_jobs(
    tmp_path, capsys, monkeypatch, cluster, said, signalled
):
    job, sent = Interrupted(), []

    def kill(process, number):
        sent.append((process, number))
        job.ends = True

    monkeypatch.setattr(sweep, "POLL_S", 0.0)
    monkeypatch.setattr(sweep.os, "kill", kill)
    monkeypatch.setattr(sweep, "_executor", lambda *_: None)
    monkeypatch.setattr(sweep, "_jobs", lambda *_: [job])
    monkeypatch.setattr(sweep, "_open", lambda jobs, cluster: [j for j in jobs if not j.done()])
    assert sweep._on_cluster(points(tmp_path, 1), cluster, ()) == STOPPED
    assert said in capsys.readouterr().out
    assert sent == signalled


def test_the_figure_has_medians_controls_and_the_published_value(tmp_path):
    metrics = {
        "eval/error": hfjax.task.Metric("error", "cm", "held out", level=("chance", 9.0)),
        "eval/untrained": hfjax.task.Metric("untrained", "cm", role="control", of="eval/error"),
    }
    results = [
        comparison.Result(
            {"rate": rate, "seed": seed, "rule": rule},
            tmp_path / f"{rate}{seed}{rule}",
            5,
            "complete",
            {"eval/error": float(rate) + float(seed), "eval/untrained": 8.0},
        )
        for rate in ("1", "20")
        for seed in ("0", "1", "5")
        for rule in ("hebb", "oja")
    ]
    task = toy.task()._replace(metrics=metrics)
    figure = comparison.draw(
        results, "eval/error", task, Headline("eval/error", 4.0, "A et al. 2020")
    )
    (ax,) = figure.axes
    lines = {line.get_label(): line for line in ax.lines}
    assert {"rule hebb", "rule oja", "untrained", "chance", "published, A et al. 2020"} <= set(
        lines
    )
    np.testing.assert_array_equal(lines["rule oja"].get_xydata(), [[1, 2], [20, 21]])
    assert lines["published, A et al. 2020"].get_ydata()[0] == 4
    assert ax.get_ylabel() == "error, held out (cm)"
    assert ax.get_xlabel() == "rate"
    assert ax.get_xscale() == "log"
