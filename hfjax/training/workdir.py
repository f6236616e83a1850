"""A run's folder on disk: its config, metrics, readouts, figures and checkpoints.

config.json        the Fiddle config, loadable      config.py   the same as Python
metrics.jsonl      one record a line                figures/    the newest figures, PNG
readout/STEP.npz   arrays behind the figures        checkpoints/STEP   Orbax
provenance.json    software, commit, command and devices of every start
.lock              while a process writes here: its number and host
.undrawn           while the newest readout is not drawn yet
"""

import contextlib
import hashlib
import io
import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import fiddle as fdl
import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging as absl_logging
from jax.experimental import multihost_utils
from matplotlib.figure import Figure

from hfjax.errors import InputError, SaveError, one_line
from hfjax.files import local_path, read_npz, write_atomically
from hfjax.training import config_text, mirror, pretrained, processes, provenance
from hfjax.training.config import absolute_paths, difference
from hfjax.training.lock import locked
from hfjax.training.programs import put


def folder(workdir: str | os.PathLike) -> pathlib.Path:
    """The path of a workdir, with ~ expanded; of one on object storage, that of its mirror.

    pretrained:NAME is a trained model that comes with hfjax. Raises InputError where there is none
    of that name, for another address, as http://x, and where the storage cannot be read.
    """
    if pretrained.is_pretrained(workdir):
        return pretrained.folder(os.fspath(workdir))
    if mirror.is_address(workdir):
        return mirror.local_folder(os.fspath(workdir))
    try:
        return local_path(workdir)
    except ValueError as error:
        raise InputError(str(error)) from error


@contextlib.contextmanager
def claim(
    workdir: pathlib.Path,
    config: fdl.Buildable,
    *,
    break_lock: bool = False,
    overwrite: bool = False,
) -> Iterator[str]:
    """Hold `workdir` for a run of `config`, which is written there or is the one that is there.

    overwrite  delete the files of the run that is there.

    Yields a warning about the lock, or "". Raises InputError, with nothing changed, where the
    folder cannot be written, holds a run of another config (`OtherRun`, whose message names the
    first differences), or is in use by another process.
    """
    text, source = config_text.to_json(config), config_text.to_python(config)
    with contextlib.ExitStack() as stack:
        try:
            if workdir.exists() and not workdir.is_dir():
                raise InputError(f"the workdir {workdir} is a file, where a folder is needed.")
            workdir.mkdir(parents=True, exist_ok=True)
            if not overwrite:
                check_same(workdir, config)
            if not os.access(workdir, os.W_OK):
                raise PermissionError("no permission to write")
            warning = stack.enter_context(locked(workdir, break_lock=break_lock))
            if overwrite:
                _delete(workdir)
            if not check_same(workdir, config):  # which another process may have written by now
                write_atomically(workdir / "config.py", source.encode())
                write_atomically(workdir / "config.json", text.encode())
        except OSError as error:
            reason = error.strerror or error
            raise InputError(f"the workdir {workdir} cannot be written: {reason}.") from error
        yield warning


class OtherRun(InputError):
    """A workdir holds a run of another config; `differs` says where the configs differ."""

    def __init__(self, workdir: pathlib.Path, differs: str, advice: str):
        """Say what is there, and what to do."""
        super().__init__(
            f"{mirror.shown(workdir)} holds a run of another config ({differs}); {advice}"
        )
        self.workdir, self.differs = workdir, differs


UNDRAWN = ".undrawn"
DIGESTS = "digests.json"  # in the folder of a checkpoint
# What a run writes into its folder.
WRITTEN = (
    UNDRAWN,
    *("config.json", "config.py", "provenance.json", "metrics.jsonl"),
    *("figures", "readout", "checkpoints", "corrupt_checkpoints", "profile"),
    *("wandb", "tensorboard", "aim"),
)


def _delete(workdir: pathlib.Path) -> None:
    """Delete what a run has written into a folder; other files stay. Raises OSError."""
    for name in WRITTEN:
        path = workdir / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def check_same(workdir: pathlib.Path, config: fdl.Buildable) -> bool:
    """Whether there is a stored config. Raises InputError where it is not `config`."""
    if not (workdir / "config.json").exists():
        return False
    stored = (workdir / "config.json").read_text(errors="replace")
    try:
        old = absolute_paths(config_text.from_json(stored))
        fdl.materialize_defaults(old)  # of settings that are newer than the run
        old = _without_words(old)
        new = _without_words(config)
        if config_text.to_json(old) == config_text.to_json(new):
            return True
        differs = difference(old, new)
    except InputError as error:
        versions = provenance.versions(workdir, config_text.written_by(stored))
        differs = f"its config.json {error}; {versions}"
    advice = "name another --workdir, or give the same settings again to resume that run."
    raise OtherRun(workdir, differs, advice)


def _without_words(config: fdl.Buildable) -> fdl.Buildable:
    """A copy without what only the terminal and training.png use; a later version may change it."""
    copy = fdl.deepcopy_with(config)
    for name in ("show", "headline"):
        copy.__arguments__.pop(name, None)
    return copy


def existing(workdir: str | os.PathLike) -> pathlib.Path:
    """The path of a workdir. Raises InputError where there is no such folder."""
    path = folder(workdir)
    if not path.is_dir():
        raise InputError(f"{workdir} holds no run: there is no such folder.")
    return path


def load_config(workdir: str | os.PathLike) -> fdl.Buildable:
    """The Fiddle config of a run.

    Raises InputError where `workdir` holds none, or one that is damaged or names what does not
    exist here; the message says what, and which version of hfjax wrote it.
    """
    path = existing(workdir) / "config.json"
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{mirror.shown(path.parent)} holds no run: {path} cannot be read."
        ) from error
    try:
        return config_text.from_json(text)
    except InputError as error:
        raise InputError(
            f"{path} {error}; {provenance.versions(path.parent, config_text.written_by(text))} "
            "(hfjax.load and redraw also take the run's task= or config=)."
        ) from error


# --- Readouts ---


def save_readout(
    workdir: pathlib.Path,
    step: int,
    readout: Mapping[str, Any],
    keep: int,
    keep_every: int | None = None,
) -> None:
    """Save a readout's arrays as readout/STEP.npz and drop all but the `keep` newest.

    keep_every: those of every so many steps are not dropped.
    """
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {name: np.asarray(value) for name, value in readout.items()}
    np.savez_compressed(buffer, **arrays)
    write_atomically(workdir / "readout" / f"{step:09d}.npz", buffer.getvalue())
    for old in sorted((workdir / "readout").glob("*.npz"))[:-keep]:
        if keep_every is None or int(old.stem) % keep_every:
            old.unlink()


def has_readout(workdir: pathlib.Path, step: int) -> bool:
    """Whether the evaluation at `step` is complete: its readout is the last thing written."""
    return (workdir / "readout" / f"{step:09d}.npz").exists()


def readout_steps(workdir: pathlib.Path) -> list[int]:
    """The steps of the readouts on disk, oldest first."""
    return sorted(int(path.stem) for path in (workdir / "readout").glob("*.npz"))


def newest_readout(workdir: pathlib.Path) -> int | None:
    """The step of the newest readout, None where there is none."""
    return max(readout_steps(workdir), default=None)


def mark_undrawn(workdir: pathlib.Path) -> None:
    """Note that the newest readout is not drawn yet."""
    write_atomically(workdir / UNDRAWN, b"")


def mark_drawn(workdir: pathlib.Path) -> None:
    """Note that the newest readout is drawn."""
    (workdir / UNDRAWN).unlink(missing_ok=True)


def has_undrawn(workdir: pathlib.Path) -> bool:
    """Whether there is a readout that a run had no time to draw."""
    return (workdir / UNDRAWN).exists() and newest_readout(workdir) is not None


def load_readout(workdir: str | os.PathLike, index: int = -1) -> tuple[int, dict[str, np.ndarray]]:
    """(step, arrays) of one of a run's readouts on disk, oldest first; by default of the newest.

    Raises InputError where none can be read.
    """
    paths = sorted((existing(workdir) / "readout").glob("*.npz"))
    if not paths:
        raise InputError(f"{workdir} holds no readout yet: its run has not been evaluated.")
    try:
        return int(paths[index].stem), read_npz(paths[index])
    except (OSError, ValueError) as error:
        raise InputError(f"{paths[index]} cannot be read ({one_line(error)}).") from error


def save_figures(workdir: pathlib.Path, figures: Mapping[str, Figure]) -> dict[str, pathlib.Path]:
    """Save Matplotlib figures as figures/NAME.png and return their paths."""
    paths = {name: workdir / "figures" / f"{name}.png" for name in figures}
    for name, figure in figures.items():
        save_figure(paths[name], figure)
    return paths


def save_figure(path: pathlib.Path, figure: Figure) -> None:
    """Save a Matplotlib figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    write_atomically(path, buffer.getvalue())


# --- Checkpoints ---


def has_checkpoints(workdir: pathlib.Path) -> bool:
    """Whether there is any complete checkpoint, readable or not."""
    return any(path.name.isdigit() for path in (workdir / "checkpoints").glob("*"))


def _digests(checkpoint: pathlib.Path) -> dict[str, str]:
    """SHA-256 of the files with arrays in a checkpoint."""
    digests = {}
    for path in sorted((checkpoint / "default").rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                name = path.relative_to(checkpoint).as_posix()
                digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


class Checkpoints:
    """A run's Orbax checkpoints: saved asynchronously, the `keep` newest of them kept.

    Of several processes that see one folder, each saves and restores its part. Where each has a
    mirror of its own, the first one gathers and saves everything, and each restores from its copy.
    keep_every: checkpoints of every so many steps are kept too.
    """

    def __init__(
        self,
        workdir: str | os.PathLike,
        *,
        keep: int | None = None,
        keep_every: int | None = None,
        read_only: bool = False,
    ):
        """Open WORKDIR/checkpoints."""
        path, this = folder(workdir), jax.process_index()
        self.directory = path / "checkpoints"
        self._gathers = mirror.is_mirror(path) and jax.process_count() > 1
        reads_alone = jax.process_count() > 1 and (self._gathers or read_only)
        if reads_alone and not read_only:  # Orbax makes no folder then
            self.directory.mkdir(exist_ok=True)
        verbosity = absl_logging.get_verbosity()
        if read_only:  # Orbax would warn of that
            absl_logging.set_verbosity(absl_logging.ERROR)
        self._manager = ocp.CheckpointManager(
            self.directory.absolute(),
            options=ocp.CheckpointManagerOptions(
                max_to_keep=keep,
                keep_period=keep_every,
                cleanup_tmp_directories=not read_only,
                read_only=read_only,
                create=not reads_alone,
                async_options=ocp.AsyncOptions(post_finalization_callback=self._seal),
                multiprocessing_options=ocp.options.MultiprocessingOptions(
                    primary_host=this,
                    active_processes={this},
                    barrier_sync_key_prefix=f"process_{this}",
                )
                if reads_alone
                else ocp.options.MultiprocessingOptions(),
            ),
        )
        self._reads_alone, self._newest = reads_alone, self._manager.latest_step()
        absl_logging.set_verbosity(verbosity)

    def __enter__(self) -> "Checkpoints":
        """Return self: __init__ has opened the folder."""
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        """Close; an error that is already being raised is not replaced by another."""
        if error_type and jax.process_count() > 1:  # closing waits for all processes
            return
        with contextlib.suppress(*([Exception] if error_type else [])):
            self._manager.close()

    def newest(self) -> int | None:
        """Step of the checkpoint that was restored, or saved since: the same in all processes."""
        return self._newest

    def newest_on_disk(self) -> int | None:
        """Step of the newest complete checkpoint."""
        with contextlib.suppress(Exception):  # a save that failed raises here once more
            self._manager.wait_until_finished()
        return max(self._manager.all_steps(read=True), default=None)

    def save(self, step: int, train_state: Any) -> None:
        """Begin saving. Raises SaveError where this, or the save before it, failed."""
        try:
            if self._gathers:
                train_state = multihost_utils.process_allgather(train_state, tiled=True)
            if not self._gathers or processes.is_first():
                self._manager.save(step, args=ocp.args.StandardSave(train_state))
        except Exception as error:  # Orbax and TensorStore raise many types
            raise SaveError(one_line(error)) from error
        self._newest = step

    def wait(self) -> None:
        """Wait until everything is on disk. Raises SaveError where saving failed."""
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise SaveError(one_line(error)) from error

    def restore(self, step: int, abstract_state: Any) -> Any:
        """The state at a step. Raises InputError where it is not on disk, or cannot be read."""
        steps = sorted(self._manager.all_steps())
        if step not in steps:
            raise InputError(
                f"{self.directory} holds no checkpoint of step {step}; it holds {steps} "
                "(keep_every= keeps more)."
            )
        try:
            return self._restore(step, abstract_state)
        except Exception as error:  # as in `restore_newest`
            raise InputError(
                f"the checkpoint of step {step} in {self.directory} cannot be read "
                f"({one_line(error)[:200]})."
            ) from error

    def restore_newest(self, abstract_state: Any) -> tuple[Any, dict[int, Exception]]:
        """(state, {step: error} of newer checkpoints that are damaged); None if there is none.

        abstract_state  pytree of jax.ShapeDtypeStruct; its shardings place the arrays, on any
                        number of devices.

        Raises InputError where there are checkpoints but none of them can be read.
        """
        damaged: dict[int, Exception] = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                state = self._restore(step, abstract_state)
            except Exception as error:  # a damaged file raises any of a dozen types
                damaged[step] = error
            else:
                self._newest = step
                return state, damaged
        self._newest = None
        if damaged:
            raise InputError(
                f"no checkpoint in {self.directory} can be read "
                f"(step {max(damaged)}: {one_line(damaged[max(damaged)])[:200]})."
            )
        return None, {}

    def _seal(self) -> None:
        """Write the digests of a checkpoint's files before Orbax gives it its final name.

        TensorStore checks its own records, and not the bytes of arrays.
        """
        if not processes.is_first():
            return
        with contextlib.suppress(OSError):  # without digests a checkpoint is not checked
            for path in self.directory.iterdir():
                if not path.name.isdigit():  # those of earlier saves have theirs, or none
                    write_atomically(path / DIGESTS, json.dumps(_digests(path)).encode())

    def _check(self, step: int) -> None:
        """Raise ValueError, in every process, where a file is not as it was saved."""
        path = self.directory / str(step)
        is_same = True
        if (self._reads_alone or processes.is_first()) and (path / DIGESTS).exists():
            is_same = json.loads((path / DIGESTS).read_text()) == _digests(path)
        if not (is_same if self._reads_alone else processes.agreed(is_same)):
            raise ValueError("a file is not as it was saved")

    def _restore(self, step: int, abstract_state: Any) -> Any:
        self._check(step)
        if not self._reads_alone:
            return self._manager.restore(step, args=ocp.args.StandardRestore(abstract_state))
        here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        local = jax.tree.map(lambda leaf: leaf.update(sharding=here), abstract_state)
        state = self._manager.restore(step, args=ocp.args.StandardRestore(local))
        return jax.tree.map(lambda leaf, there: put(leaf, there.sharding), state, abstract_state)

    def set_aside(self, step: int) -> pathlib.Path:
        """Move a damaged checkpoint to corrupt_checkpoints and return its new path."""
        target = self.directory.with_name("corrupt_checkpoints") / str(step)
        target.parent.mkdir(exist_ok=True)
        while target.exists():
            target = target.with_name(target.name + "_")
        os.replace(self.directory / str(step), target)
        self._manager.reload()
        return target
