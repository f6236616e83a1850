"""Where a run's numbers and pictures go: terminal, JSONL file, W&B, TensorBoard, Aim.

A writer has `scalars(step, values)`, `images(step, paths)` and `close()`. Values are floats, or
[seed] arrays in a population. A writer that fails is switched off with a warning; one that may be
slow works in its own thread. Neither ever stops the training.
"""

import contextlib
import json
import logging
import os
import pathlib
import queue
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

from hfjax.errors import one_line
from hfjax.files import write_atomically
from hfjax.output import in_notebook
from hfjax.task import Metrics, meaning
from hfjax.training.numbers import in_words

Values = Mapping[str, np.ndarray]  # by name: floats, in a population [seed]
Say = Callable[[str], None]  # shows one line of text
Open = Callable[[], "Writer"]
WANDB_SETTINGS = ("mode", "project", "name", "group", "tags", "artifacts")  # of `Wandb`


class Writer(Protocol):
    """A place for numbers and pictures."""

    def scalars(self, step: int, values: Values) -> None:
        """Record named scalars, each a float or [seed]."""

    def images(self, step: int, paths: Mapping[str, pathlib.Path]) -> None:
        """Record named PNG files."""

    def close(self) -> None:
        """Finish what is pending."""


class Write(Protocol):
    """(method, *arguments): calls a method of a writer."""

    def __call__(self, method: str, /, *arguments: Any) -> None:
        """Call `scalars`, `images` or `close`; never raises."""


def summary(values: Values) -> dict[str, float]:
    """Population scalars as median and quartiles: name, name_q25, name_q75; floats as they are."""
    flat = {}
    for name, value in values.items():
        flat[name] = float(np.median(value))
        if np.ndim(value):
            flat[f"{name}_q25"], flat[f"{name}_q75"] = np.quantile(value, (0.25, 0.75)).tolist()
    return flat


# --- Terminal ---


class Terminal:
    """Progress with the scalars that matter: a bar, or a line in a notebook, that updates in place.

    Where the output is neither, as in a log file, plain lines.
    """

    def __init__(
        self,
        first_step: int,
        num_steps: int,
        show: Sequence[str],
        *,
        metrics: Metrics | None = None,
        every_s: float = 10.0,
    ):
        """show: names without train/ or eval/; every_s: least time between two plain lines."""
        self.console = Console(soft_wrap=True, highlight=False, force_jupyter=False)
        self._num_steps, self._show, self._every_s = num_steps, show, every_s
        self._metrics = metrics or {}
        self._last_line_s = -np.inf
        self._first: tuple[int, float] | None = None  # a step, and when it was done
        self._cell = _Cell() if in_notebook() else None
        self._activity, self._line = "starting", f"step {first_step} of {num_steps}"
        is_wide = self.console.width >= 100
        rate = [TextColumn("{task.fields[rate]}", table_column=_fixed())] if is_wide else []
        self._progress = Progress(
            TextColumn("{task.description}", table_column=_fixed()),
            BarColumn(bar_width=20 if is_wide else 10),
            MofNCompleteColumn(table_column=_fixed()),
            TimeRemainingColumn(compact=True, table_column=_fixed()),
            *rate,
            # What does not fit is cut off here, and not from the bar.
            TextColumn(
                "{task.fields[scalars]}",
                table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"),
            ),
            console=self.console,
            disable=not self.console.is_terminal or self._cell is not None,
            expand=True,
        )
        self._bar = self._progress.add_task(
            "starting", completed=first_step, total=num_steps, rate="", scalars=""
        )
        self._progress.start()

    def say(self, text: str) -> None:
        """Print a line above the progress bar."""
        self._progress.console.print(text, markup=False)

    def doing(self, text: str) -> None:
        """Name the current activity."""
        self._activity = text
        self._progress.update(self._bar, description=text)
        self._show_in_cell()

    def scalars(self, step: int, values: Values) -> None:
        """Show the chosen scalars; evaluations always leave a line."""
        evaluated = any(name.startswith("eval/") for name in values)
        part = "eval" if evaluated else "train"
        shown = {
            f"{part}/{n}": values[f"{part}/{n}"] for n in self._show if f"{part}/{n}" in values
        }
        text = ", ".join(self._labelled(name, value) for name, value in shown.items())
        if evaluated:
            self.say(f"step {step:>7}  evaluation: {text}")
            return
        rate = f"{values['perf/steps_per_s']:.4g} steps/s" if "perf/steps_per_s" in values else ""
        medians = {name: np.median(value) for name, value in shown.items()}
        short = ", ".join(self._labelled(name, value) for name, value in medians.items())
        self._progress.update(self._bar, completed=step, rate=rate, scalars=short)
        rest = [part for part in (rate, self._time_left(step)) if part]
        self._line = f"step {step:>7} of {self._num_steps}  {text}  {', '.join(rest)}".rstrip()
        self._show_in_cell()
        now_s = time.monotonic()
        due = now_s - self._last_line_s > self._every_s or step == self._num_steps
        if not self.console.is_terminal and self._cell is None and due:
            self._last_line_s = now_s
            self.say(self._line)

    def _time_left(self, step: int) -> str:
        """How long the rest takes, in words; "" before that is known."""
        now_s = time.monotonic()
        if self._first is None:  # compiling is over
            self._first = step, now_s
        steps, seconds = step - self._first[0], now_s - self._first[1]
        if not steps or step == self._num_steps:
            return ""
        left_s = round(seconds / steps * (self._num_steps - step))
        minutes, hours = left_s // 60, left_s // 3600
        if hours:
            return f"{hours} h {minutes % 60:02} min left"
        return f"{minutes} min {left_s % 60:02} s left" if minutes else f"{left_s} s left"

    def _labelled(self, name: str, value: np.ndarray) -> str:
        metric = meaning(name, self._metrics)
        label = metric.label if metric else name.partition("/")[2]
        return f"{label} {in_words(value, metric)}"

    def _show_in_cell(self) -> None:
        if self._cell is not None:
            self._cell.show(f"{self._activity}: {self._line}")

    def images(self, step: int, paths: Mapping[str, pathlib.Path]) -> None:
        """A terminal shows no pictures."""

    def close(self) -> None:
        """Stop the progress bar."""
        self._progress.stop()


def _fixed() -> Column:
    return Column(no_wrap=True)


class _Cell:
    """A line below the cell of a notebook that each text replaces."""

    def __init__(self) -> None:
        from IPython.display import display

        self._handle = display({"text/plain": ""}, raw=True, display_id=True)

    def show(self, text: str) -> None:
        """Show a text in place of the one before."""
        self._handle.update({"text/plain": text}, raw=True)


# --- JSONL ---


class Jsonl:
    """metrics.jsonl: one record a line, {"step": n, name: number or one number a seed}.

    The file is a function of the config alone (no clock), so that two runs can be compared byte by
    byte; numbers that are not finite are null.
    """

    def __init__(self, path: pathlib.Path):
        """Append to `path`."""
        self._file = path.open("a")

    def scalars(self, step: int, values: Values) -> None:
        """Write one record, on disk when this returns."""
        kept = {n: _json_number(v) for n, v in values.items() if not n.startswith("perf/")}
        self._file.write(json.dumps({"step": step, **kept}) + "\n")
        self._file.flush()

    def images(self, step: int, paths: Mapping[str, pathlib.Path]) -> None:
        """Pictures have a folder of their own."""

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _json_number(value: Any) -> Any:
    if np.ndim(value):
        return [_json_number(v) for v in value]
    return float(value) if np.isfinite(value) else None


def read_metrics(path: str | os.PathLike) -> list[dict[str, Any]]:
    """The complete records of a metrics.jsonl; a last line cut short by a kill is left out."""
    records = []
    if pathlib.Path(path).exists():
        for line in pathlib.Path(path).read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                records.append(json.loads(line))
    return records


def rewind_metrics(path: pathlib.Path, step: int, *, evaluated: bool) -> None:
    """Cut metrics.jsonl back to the records of a run that has done `step` steps.

    evaluated  whether the evaluation at `step` itself is complete; its record is then kept.
    """

    def keep(record: Mapping[str, Any]) -> bool:
        is_evaluation = any(name.startswith("eval/") for name in record)
        return record["step"] < step + (evaluated or not is_evaluation)

    text = "".join(json.dumps(record) + "\n" for record in read_metrics(path) if keep(record))
    if path.exists() and path.read_text() != text:
        write_atomically(path, text.encode())


# --- W&B, TensorBoard, Aim ---


class Wandb:
    """Weights & Biases; a resumed run goes on in the same W&B run, whose id the workdir holds.

    mode       "online", "offline", "disabled", or "auto": online where a key is configured.
    artifacts  whether `checkpoint` sends checkpoints, as versions of the artifact checkpoint-RUN.
    """

    def __init__(
        self,
        workdir: pathlib.Path,
        config: Mapping[str, Any],
        *,
        mode: str = "auto",
        project: str = "hfjax",
        name: str | None = None,
        group: str | None = None,
        tags: Sequence[str] = (),
        artifacts: bool = False,
        say: Say,
        warn: Say,
    ):
        """Start or continue the run; never asks. Offline, with a warning, if W&B cannot be reached.

        The run's URL is shown, and kept in WORKDIR/wandb/url.
        """
        import wandb  # takes a second, which runs without W&B do not need

        id_file = workdir / "wandb" / "run_id"
        id_file.parent.mkdir(parents=True, exist_ok=True)
        run_id = id_file.read_text() if id_file.exists() else secrets.token_hex(4)
        id_file.write_text(run_id)

        def start(mode: Any) -> Any:
            return wandb.init(
                dir=workdir,
                id=run_id,
                resume="allow",
                mode=mode,
                project=project,
                name=name or workdir.name,
                group=group,
                tags=list(tags),
                config=dict(config),
                allow_val_change=True,  # a resumed run may have another command line
                settings=wandb.Settings(silent=True, console="off", init_timeout=60),
            )

        self._image, self._artifact = wandb.Image, wandb.Artifact if artifacts else None
        try:
            if mode == "auto":
                mode = os.environ.get("WANDB_MODE") or (
                    "online" if wandb.login(prompt=False) else "offline"
                )
            self._run = start(mode)
        except Exception as error:
            if mode not in ("auto", "online"):
                raise
            warn(f"warning: W&B cannot be reached ({one_line(error)}); it is logged offline.")
            mode = "offline"
            self._run = start(mode)
        if mode == "online":
            (workdir / "wandb" / "url").write_text(f"{self._run.url}\n")
            say(f"W&B: {self._run.url}")
        # W&B's own step only grows; a run that was killed goes back to its checkpoint's step.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def scalars(self, step: int, values: Values) -> None:
        """Log scalars; a population's as median and quartiles."""
        self._run.log({"step": step, **summary(values)})

    def images(self, step: int, paths: Mapping[str, pathlib.Path]) -> None:
        """Log figures."""
        pictures = {f"figures/{n}": self._image(str(p)) for n, p in paths.items()}
        self._run.log({"step": step, **pictures})

    def checkpoint(self, step: int, folder: pathlib.Path) -> None:
        """Send a complete checkpoint, if asked to."""
        if self._artifact is None:
            return
        artifact = self._artifact(
            f"checkpoint-{self._run.id}", type="model", metadata={"step": step}
        )
        artifact.add_dir(str(folder))
        self._run.log_artifact(artifact, aliases=["latest", f"step-{step}"])

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


class TensorBoard:
    """TensorBoard event files under WORKDIR/tensorboard (extra `tensorboard`)."""

    def __init__(self, workdir: pathlib.Path):
        """Open the event file."""
        import tensorboardX  # an extra

        self._writer = tensorboardX.SummaryWriter(str(workdir / "tensorboard"))

    def scalars(self, step: int, values: Values) -> None:
        """Write scalars; a population's as median and quartiles."""
        for name, value in summary(values).items():
            self._writer.add_scalar(name, value, step)

    def images(self, step: int, paths: Mapping[str, pathlib.Path]) -> None:
        """Write figures."""
        from matplotlib.image import imread

        for name, path in paths.items():
            self._writer.add_image(f"figures/{name}", imread(path), step, dataformats="HWC")

    def close(self) -> None:
        """Flush and close."""
        self._writer.close()


class Aim:
    """Aim (extra `aim`); a resumed run goes on in the same Aim run, whose hash WORKDIR/aim holds.

    Runs share the repository `.aim` that is nearest above the workdir. Where there is none, it is
    made beside the workdir: `aim up --repo=runs` shows all runs below runs/.
    """

    def __init__(self, workdir: pathlib.Path, config: Mapping[str, Any]):
        """Start or continue the run."""
        import aim  # an extra

        # The lock of the workdir keeps others from this run; Aim's own outlives a process.
        logging.getLogger("aim.sdk.lock_manager").setLevel(logging.ERROR)
        hash_file, above = workdir / "aim", workdir.resolve().parents
        known = hash_file.read_text() if hash_file.exists() else None
        self._run = aim.Run(
            known,
            repo=str(next((f for f in above if (f / ".aim").is_dir()), above[0])),
            experiment=config.get("fdl_config"),
            force_resume=known is not None,
            system_tracking_interval=None,
            capture_terminal_logs=False,
        )
        hash_file.write_text(self._run.hash)
        self._run.name, self._image = workdir.name, aim.Image
        self._run["hparams"] = json.loads(json.dumps(dict(config), default=str))

    def scalars(self, step: int, values: Values) -> None:
        """Track scalars, train/ and eval/ as context; a population's as median and quartiles."""
        for name, value in summary(values).items():
            subset, _, short = name.rpartition("/")
            self._run.track(value, name=short, step=step, context={"subset": subset})

    def images(self, step: int, paths: Mapping[str, pathlib.Path]) -> None:
        """Track figures."""
        for name, path in paths.items():
            self._run.track(self._image(str(path)), name=f"figures/{name}", step=step)

    def close(self) -> None:
        """Finish the run."""
        self._run.close()


# --- All together ---


def guarded(name: str, make: Open, warn: Say) -> Write:
    """`write(method, *args)` of a writer; when it fails it warns once and is off from then on."""
    writer: Writer | None = None

    def attempt(call: Callable, *args: Any) -> Any:
        nonlocal writer
        try:
            return call(*args)
        except Exception as error:
            writer = None
            reason = one_line(error)
            warn(f"warning: the {name} writer failed and is off ({reason}); training goes on.")

    def write(method: str, *args: Any) -> None:
        if writer:
            attempt(getattr(writer, method), *args)

    writer = attempt(make)
    return write


def in_background(
    name: str, make: Open, warn: Say, *, backlog: int = 1000, patience_s: float = 60.0
) -> Write:
    """`guarded` in its own thread: `write` returns at once, `write("close")` waits.

    backlog     calls that may wait; further ones are dropped, with a warning.
    patience_s  how long closing waits for them.
    """
    calls: queue.Queue = queue.Queue(maxsize=backlog)
    state = {"dropping": False}

    def work() -> None:
        write = guarded(name, make, warn)
        while True:
            call = calls.get()
            write(*call)
            if call[0] == "close":
                return

    thread = threading.Thread(target=work, daemon=True)
    thread.start()

    def write(method: str, *args: Any) -> None:
        if method == "close":
            with contextlib.suppress(queue.Full):
                calls.put((method,), timeout=patience_s)
            thread.join(patience_s)
            if thread.is_alive():
                warn(f"warning: the {name} writer did not finish; its last records are lost.")
            return
        try:
            calls.put_nowait((method, *args))
        except queue.Full:
            if not state["dropping"]:
                warn(f"warning: the {name} writer is slow; records are being dropped.")
            state["dropping"] = True

    return write


def first_and_last(
    records: Sequence[Mapping[str, Any]],
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Scalars of the evaluation before training, and the latest of every scalar."""
    before: dict[str, np.ndarray] = {}
    latest: dict[str, np.ndarray] = {}
    for record in records:
        values = {name: np.array(value, float) for name, value in record.items() if "/" in name}
        before |= values if record["step"] == 0 else {}
        latest |= values
    return before, latest


class Log:
    """All writers of a run as one, and the lines that a person reads.

    sends_checkpoints: whether `checkpoint` should be called with those that are complete.
    before: scalars of the evaluation before training. latest: the newest value of every scalar.
    """

    def __init__(
        self,
        names: Sequence[str],
        workdir: pathlib.Path,
        *,
        first_step: int,
        num_steps: int,
        show: Sequence[str],
        metrics: Metrics,
        config: Mapping[str, Any],
        wandb: Mapping[str, Any],
    ):
        """Open the named writers; `wandb` are keyword arguments of `Wandb`."""
        self.before, self.latest = first_and_last(read_metrics(workdir / "metrics.jsonl"))
        self.terminal = None
        if "terminal" in names:
            self.terminal = Terminal(first_step, num_steps, show, metrics=metrics)
        self._stderr = Console(stderr=True, soft_wrap=True, highlight=False)
        makers: dict[str, tuple[Callable[[str, Open, Say], Write], Open]] = {
            "jsonl": (guarded, lambda: Jsonl(workdir / "metrics.jsonl")),
            "wandb": (
                in_background,
                lambda: Wandb(workdir, config, **wandb, say=self.say, warn=self.warn),
            ),
            "tensorboard": (in_background, lambda: TensorBoard(workdir)),
            "aim": (in_background, lambda: Aim(workdir, config)),
        }
        opened = {
            name: how(name, make, self.warn)
            for name, (how, make) in makers.items()
            if name in names
        }
        self._writers = list(opened.values())
        # The same in every process, also where only the first one writes.
        self.sends_checkpoints = bool(wandb.get("artifacts"))
        self._wandb = opened.get("wandb")
        if self.terminal:
            terminal = self.terminal
            self._writers.append(guarded("terminal", lambda: terminal, self.warn))

    def scalars(self, step: int, values: Values) -> None:
        """Record scalars with every writer."""
        self.before |= dict(values) if step == 0 else {}
        self.latest |= values
        for write in self._writers:
            write("scalars", step, values)

    def images(self, step: int, paths: Mapping[str, pathlib.Path]) -> None:
        """Record pictures with every writer."""
        for write in self._writers:
            write("images", step, paths)

    def checkpoint(self, step: int, folder: pathlib.Path) -> None:
        """Send a complete checkpoint to W&B, where that was asked for."""
        if self.sends_checkpoints and self._wandb is not None:
            self._wandb("checkpoint", step, folder)

    def say(self, text: str) -> None:
        """Show a line at the terminal, if that is a writer."""
        if self.terminal:
            self.terminal.say(text)

    def doing(self, text: str) -> None:
        """Name the current activity at the progress bar."""
        if self.terminal:
            self.terminal.doing(text)

    def warn(self, text: str) -> None:
        """Show a line at the terminal, or on stderr where that is no writer."""
        if self.terminal:
            self.terminal.say(text)
        else:
            self._stderr.print(text, markup=False)

    def close(self) -> None:
        """Finish every writer."""
        for write in self._writers:
            write("close")
