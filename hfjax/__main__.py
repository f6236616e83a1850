"""The entry point: `python -m hfjax --fdl_config=grid_rnn`. Flags, configs and trainer meet here.

Exit codes: 0 the run is complete; 1 training failed; 2 bad input, nothing written; 75 a signal
stopped the run and it is saved, so the same command goes on. Heavy imports wait until the names on
the command line are checked.
"""

import inspect
import logging
import os
import re
import shutil
import sys
import textwrap
import traceback
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from absl import flags
from absl import logging as absl_logging

from hfjax.configs import names_beside, our_configs
from hfjax.errors import STOPPED, InputError, TrainingFailed, check_allowed, nearest, one_line
from hfjax.files import local_path
from hfjax.output import DEFAULT_WRITERS, WANDB_MODES, WRITERS, unbreakable_output

if TYPE_CHECKING:
    import fiddle as fdl
    import jax

EXAMPLE = "python -m hfjax --fdl_config=grid_rnn --fiddler=laptop"
Flags = dict[str, tuple[Callable[..., Any], Any, str]]  # {name: (define, default, meaning)}
WHAT_TO_RUN: Flags = {
    "fdl_config": (flags.DEFINE_string, None, "the config to run: a name, or module.name"),
    "fiddler": (
        flags.DEFINE_multi_string,
        [],
        "change the config by one of its fiddlers, a name or module.name; may be repeated",
    ),
    "fdl_set": (
        flags.DEFINE_multi_string,
        [],
        "path=value: change one setting, as task.num_grid=512; may be repeated",
    ),
    "fdl_config_file": (flags.DEFINE_string, None, "a config.json, in place of --fdl_config"),
    "fdl_help": (flags.DEFINE_bool, False, "show the settings of the config, and its fiddlers"),
    "print_config": (
        flags.DEFINE_bool,
        False,
        "check and show the final settings; run and write nothing",
    ),
}
HOW_TO_RUN: Flags = {
    "workdir": (
        flags.DEFINE_string,
        None,
        "folder of the run, or a gs:// or s3:// address; the same command resumes it (default: "
        "runs/CONFIG-FIDDLERS-SEED)",
    ),
    "seed": (flags.DEFINE_integer, None, "seed of the model, or of the first of a population"),
    "seeds": (flags.DEFINE_integer, None, "train a population of this many seeds in one program"),
    "break_lock": (
        flags.DEFINE_bool,
        False,
        "remove the lock of the workdir that a dead process of another host has left",
    ),
    "init_from": (
        flags.DEFINE_string,
        None,
        "workdir of another run, whose parameters this one starts from",
    ),
    "data_dir": (flags.DEFINE_string, None, "folder of the data set's files, where it needs any"),
    "writers": (
        flags.DEFINE_list,
        list(DEFAULT_WRITERS),
        f"any of {','.join(WRITERS)}",
    ),
    "wandb_mode": (
        flags.DEFINE_string,
        "auto",
        "auto (online where a key is configured, else offline), online, offline or disabled",
    ),
    "wandb_project": (flags.DEFINE_string, "hfjax", "W&B project"),
    "wandb_name": (flags.DEFINE_string, None, "W&B run name (default: the workdir's name)"),
    "wandb_group": (flags.DEFINE_string, None, "W&B group"),
    "wandb_tags": (flags.DEFINE_list, [], "W&B tags, separated by commas"),
    "wandb_artifacts": (flags.DEFINE_bool, False, "send every checkpoint to W&B, as an artifact"),
    "devices": (
        flags.DEFINE_integer,
        None,
        "use at most this many devices (default: as many as divide the batch and the seeds)",
    ),
    "model_devices": (
        flags.DEFINE_integer,
        1,
        "share the weights of each model among this many devices",
    ),
    "coordinator": (
        flags.DEFINE_string,
        None,
        "HOST:PORT of the first process, where clusters are not detected (SLURM, TPU ... are)",
    ),
    "num_processes": (
        flags.DEFINE_integer,
        None,
        "number of processes that train together; 1 trains alone on a cluster too",
    ),
    "process_id": (flags.DEFINE_integer, None, "number of this process, from 0"),
    "profile": (flags.DEFINE_bool, False, "write a trace of one chunk to WORKDIR/profile"),
    "animate": (
        flags.DEFINE_bool,
        False,
        "at the end, draw the model's moving pictures into WORKDIR/figures: a unit's spikes along "
        "a walk, rate maps over training, the bump on a ring ...",
    ),
    "animate_as": (
        flags.DEFINE_string,
        "gif",
        "gif, or mp4 where ffmpeg is installed",
    ),
}
ANIMATED = ("gif", "mp4")


@unbreakable_output()
def main(argv: Sequence[str]) -> int:
    """Run the command line; returns the exit code."""
    if {"--help", "-h", "-help", "--helpfull", "--helpshort"} & set(argv[1:]) or len(argv) == 1:
        sys.stdout.write(_help() + "\n")
        return 0
    if argv[1:] == ["list"]:
        sys.stdout.write(_models() + "\n")
        return 0
    if argv[1:] == ["completion"]:
        sys.stdout.write(_completion())
        return 0
    try:
        if argv[1] == "info":  # of a config
            argv = [
                argv[0],
                *(f"--fdl_config={name}" for name in argv[2:3]),
                "--fdl_help",
                *argv[3:],
            ]
        values = parsed(argv, {**WHAT_TO_RUN, **HOW_TO_RUN})
        if values.fdl_help and not (values.fdl_config or values.fdl_config_file):
            sys.stdout.write(_help() + "\n")
            return 0
        _check_names(values)
        shows = values.fdl_help or values.print_config
        if not shows:
            _join(values)
        chosen = _choose(values)
        _change(chosen, values)
        if values.fdl_help:
            sys.stdout.write(_manual(chosen))
        elif values.print_config:
            sys.stdout.write(_final_settings(chosen, values))
    except (InputError, flags.Error) as error:
        return _end(2, one_line(error))
    return 0 if shows else train(chosen.config, _workdir(chosen, values), values)


def _join(values: flags.FlagValues) -> None:
    """Join the processes of a run, before a config is built: that may use JAX."""
    from hfjax.training import processes

    processes.join(values.coordinator, values.num_processes, values.process_id)


def _end(code: int, sentence: str) -> int:
    """Say why the run ends, in all its processes; returns the exit code."""
    processes = sys.modules.get("hfjax.training.processes")  # if they were joined
    if processes is not None and processes.are_several():
        processes.end_all(code, sentence)
    sys.stderr.write(f"hfjax: {sentence}\n")
    return code


def parsed(argv: Sequence[str], defined: Flags) -> flags.FlagValues:
    """The values of the flags. Raises InputError or flags.Error."""
    values = flags.FlagValues()
    for name, (define, default, text) in defined.items():
        define(name, default, text, flag_values=values)
    if extra := values(list(argv))[1:]:
        raise InputError(f"unexpected argument {extra[0]!r}; flags are written --name=value.")
    return values


def command() -> None:
    """The console command `hfjax`, as `python -m hfjax`."""
    sys.exit(main(sys.argv))


def train(config: "fdl.Config", workdir: str, values: flags.FlagValues) -> int:
    """Train a config as the flags say; returns the exit code."""
    import jax

    from hfjax.training import processes
    from hfjax.training import run as training

    _quiet_background_errors()
    jax.config.update("jax_numpy_rank_promotion", "raise")
    try:
        is_complete = training.run(
            config,
            workdir,
            writers=values.writers,
            wandb={
                name: getattr(values, f"wandb_{name}")
                for name in ("mode", "project", "name", "group", "tags", "artifacts")
            },
            profile=values.profile,
            break_lock=values.break_lock,
            devices=_devices(values),
            model_devices=values.model_devices,
            origin={
                "fdl_config": values.fdl_config or str(values.fdl_config_file),
                "fiddlers": list(values.fiddler),
            },
        )
    except InputError as error:
        return _end(2, str(error))
    except TrainingFailed as error:
        return _end(1, str(error))
    except BaseException as error:
        if processes.are_several():
            traceback.print_exc()
            return _end(1, f"{type(error).__name__}: {one_line(error)}")
        raise
    if is_complete and values.animate and processes.is_first():
        return _animate(workdir, values.animate_as)
    return 0 if is_complete else STOPPED


def _animate(workdir: str, ending: str) -> int:
    """Draw all moving pictures of a run; returns the exit code."""
    from hfjax.notebook import load

    try:
        run = load(workdir)
        for name in run.animations or [None]:
            path = run.workdir / "figures" / f"{name}.{ending}"
            sys.stdout.write(f"  animation    {run.animate(name, path=path)}\n")
    except InputError as error:
        return _end(2, str(error))
    return 0


def _devices(values: flags.FlagValues) -> "list[jax.Device] | None":
    """The devices that --devices allows, as many of each process; None for all.

    Raises InputError where there are not so many.
    """
    from hfjax.training.run import available_devices

    if values.devices is None:
        return None
    devices = available_devices()
    processes = sorted({device.process_index for device in devices})
    if not len(processes) <= values.devices <= len(devices):
        raise InputError(
            f"--devices must be from {len(processes)} to {len(devices)}, the number of "
            f"{'processes and of ' if len(processes) > 1 else ''}devices here, but is "
            f"{values.devices}."
        )
    each = values.devices // len(processes)
    of_each = ([d for d in devices if d.process_index == p] for p in processes)
    return [device for own in of_each for device in own[:each]]


# --- From flags to a config ---


class Chosen(NamedTuple):
    """The config that the flags name."""

    name: str
    config: "fdl.Config"
    text: str  # the docstring of the config
    known: Mapping[str, Callable]  # its fiddlers, by name
    fiddlers: tuple[str, ...]  # that were applied
    names: Mapping[str, Any]  # what its module imports, where functions are looked up by name


def _check_names(values: flags.FlagValues) -> None:
    """Raise InputError for names of configs and fiddlers that are unknown, before any import."""
    name = values.fdl_config
    if values.fdl_config_file:
        return
    if not name:
        raise InputError(f"--fdl_config is missing; {nearest('', _known_configs())}")
    if name.isidentifier() and name not in _known_configs():
        raise InputError(f"--fdl_config={name} is unknown; {nearest(name, _known_configs())}")
    for source in our_configs().sources().values():
        if name in source.configs:
            _check_fiddlers(name, values.fiddler, source.fiddlers)


def _choose(values: flags.FlagValues) -> Chosen:
    """The config with its fiddlers applied. Raises InputError in one sentence."""
    configs = our_configs()
    if values.fdl_config_file:
        chosen = _from_file(values.fdl_config_file)
    else:
        function = configs.find(values.fdl_config)
        chosen = Chosen(
            name=function.__name__,
            config=_made(function),
            text=inspect.getdoc(function) or "",
            known=configs.fiddlers_of(function),
            fiddlers=(),
            names=names_beside(function),
        )
    from hfjax.training.config import apply_fiddlers
    from hfjax.training.overrides import find_function

    _check_fiddlers(chosen.name, values.fiddler, chosen.known)
    fiddlers = {
        name: chosen.known[name] if name in chosen.known else find_function(name)
        for name in values.fiddler
    }
    apply_fiddlers(chosen.config, fiddlers)
    return chosen._replace(fiddlers=tuple(re.split("[.:]", name)[-1] for name in fiddlers))


def _made(function: Callable) -> "fdl.Config":
    """What a config function returns. Raises InputError where that is no config."""
    import fiddle as fdl

    from hfjax.training.config import function_name

    name = function_name(function)
    if needed := _needed(function):
        raise InputError(f"{name} is no config: it needs the argument {needed!r}.")
    try:
        config = function()
    except (Exception, SystemExit) as error:  # a user's function may raise anything
        raise InputError(f"{name} failed: {type(error).__name__}: {one_line(error)}") from error
    if not isinstance(config, fdl.Config):
        kind = type(config).__name__
        raise InputError(f"{name} is no config: it returns {kind}, not fdl.Config.")
    return config


def _needed(function: Callable) -> str | None:
    """The first argument that a function cannot be called without."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # of some functions written in C
        return None
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = (p.name for p in parameters if p.default is p.empty and p.kind not in several)
    return next(needed, None)


def _check_fiddlers(config: str, fiddlers: Iterable[str], known: Iterable[str]) -> None:
    for name in fiddlers:
        if not re.search("[.:]", name) and name not in known:
            raise InputError(f"--fiddler={name} is not for {config}; {nearest(name, known)}")


def _known_configs() -> list[str]:
    return [name for source in our_configs().sources().values() for name in source.configs]


def _from_file(path: str) -> Chosen:
    """The config of a file, with the fiddlers of every config of the same task."""
    import fiddle as fdl

    from hfjax.training import config_text, provenance

    text = ""
    try:
        file = local_path(path)
        text = file.read_text()
        config = config_text.from_json(text)
        task = fdl.get_callable(config.task)
    except InputError as error:
        versions = provenance.versions(file.parent, config_text.written_by(text))
        raise InputError(f"{path} {error}; {versions}.") from error
    except Exception as error:  # another file may raise anything
        raise InputError(f"{path} is no config ({one_line(error)}).") from error
    alike = [f for f in our_configs().configs().values() if fdl.get_callable(f().task) is task]
    known = {n: g for f in alike for n, g in our_configs().fiddlers_of(f).items()}
    names = {n: v for f in alike for n, v in names_beside(f).items()}
    return Chosen("from_file", config, f"The config of {path}.", known, (), names)


def _change(chosen: Chosen, values: flags.FlagValues) -> None:
    """Set what the flags set. Raises InputError in one sentence."""
    from hfjax.training.config import check_optimizers, check_settings, check_types
    from hfjax.training.overrides import check_path, set_value

    config = chosen.config
    task, data = config.task, config.data
    for assignment in values.fdl_set:
        path, equals, text = assignment.partition("=")
        if not equals:
            raise InputError(f"--fdl_set={assignment} has no value; write --fdl_set=path=value.")
        set_value(config, path, text, chosen.names)
    if data == () != config.data and config.task is task:
        raise InputError(f"{chosen.name} takes no data, for its task makes its own.")
    for name in ("seed", "seeds", "init_from"):
        if values[name].value is not None:
            setattr(config, name, values[name].value)
    if values.data_dir is not None:
        try:
            check_path(config, "data.data_dir")
        except InputError as error:
            raise InputError(
                f"--data_dir is not for {chosen.name}: its data have no setting data_dir."
            ) from error
        config.data.data_dir = values.data_dir
    if values.fdl_help:  # which also says what is not set
        check_types(config)
        check_optimizers(config)
    else:
        check_settings(config)
    check_allowed("--wandb_mode", [values.wandb_mode], WANDB_MODES)
    check_allowed("--animate_as", [values.animate_as], ANIMATED)
    check_allowed("--writers", values.writers, WRITERS)
    if values.animate_as == "mp4" and not shutil.which("ffmpeg"):
        raise InputError("--animate_as=mp4 needs ffmpeg, which is not installed here.")


def _workdir(chosen: Chosen, values: flags.FlagValues) -> str:
    """runs/CONFIG-FIDDLERS-SEED: runs of several configs, fiddlers or seeds do not collide."""
    seed = [] if values.seed is None else [f"seed{values.seed}"]
    seeds = [] if values.seeds is None else [f"{values.seeds}seeds"]
    parts = [chosen.name, *sorted(chosen.fiddlers), *seed, *seeds]
    return values.workdir or os.path.join("runs", "-".join(parts))


# --- Texts ---


def _columns() -> int:
    """The width of the terminal, of at most 120 columns; 100 where the output is no terminal."""
    return min(shutil.get_terminal_size((100, 24)).columns, 120)


def _wrapped(text: str, first: str = "", indent: int = 0) -> str:
    """`first` and a text, in lines that fit the terminal; those after the first are indented."""
    return textwrap.fill(
        text,
        max(_columns(), indent + 30),
        initial_indent=first.ljust(indent),
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _table(rows: Mapping[str, str], width: int = 18) -> str:
    lines = (_wrapped(text, f"  {name:<{width}} ", width + 3) for name, text in rows.items())
    return "\n".join(line.rstrip() for line in lines)


def _models() -> str:
    """What `list` shows: the models, each with its configs and fiddlers."""
    models = []
    for source in our_configs().sources().values():
        if source.configs:
            fiddlers = _wrapped(" ".join(source.fiddlers) or "none", "    fiddlers: ", 14)
            models.append(f"{_table(source.configs, 27)}\n{fiddlers}")
    return "\n\n".join(models)


def _completion() -> str:
    """What `completion` prints: a script for bash and zsh."""
    from hfjax import _completion

    rows = {**WHAT_TO_RUN, **HOW_TO_RUN}
    switches = [name for name, (define, _, _) in rows.items() if define is flags.DEFINE_bool]
    return _completion.script(
        [(source.configs, source.fiddlers) for source in our_configs().sources().values()],
        switches=switches,
        flags=[name for name in rows if name not in switches],
        values={"wandb_mode": WANDB_MODES, "animate_as": ANIMATED, "writers": WRITERS},
    )


def _help() -> str:
    """What `--help` shows: the models and all flags."""
    texts = [
        _table({f"--{name}": text for name, (_, _, text) in rows.items()})
        for rows in (WHAT_TO_RUN, HOW_TO_RUN)
    ]
    return (
        "hfjax: models of the hippocampal formation, one command each.\n\n"
        f"Example:\n  {EXAMPLE}\n\n"
        "Configs (--fdl_config=NAME), and the fiddlers that change them (--fiddler=NAME):\n\n"
        f"{_models()}\n\nSettings and fiddlers of one config (or: python -m hfjax info grid_rnn):\n"
        f"  {EXAMPLE} --fdl_help\n\n"
        f"What to run:\n{texts[0]}\n\nHow to run it:\n{texts[1]}"
    )


def _manual(chosen: Chosen) -> str:
    """What `--fdl_help` shows of one config."""
    from hfjax.training.manual import setting_lines

    lines = [(inspect.getdoc(f) or "").partition("\n")[0] for f in chosen.known.values()]
    fiddlers = dict(zip(chosen.known, lines, strict=True))
    changed = f" changed by {', '.join(chosen.fiddlers)}" if chosen.fiddlers else ""
    return (
        _introduction(f"{chosen.name}{changed}: {chosen.text}")
        + "\n\nSettings (--fdl_set=PATH=VALUE), their values now, and what they mean:\n"
        + "\n".join(setting_lines(chosen.config, _columns()))
        + f"\n\nFiddlers (--fiddler=NAME):\n{_table(fiddlers)}\n"
    )


def _introduction(text: str) -> str:
    """A docstring that fits the terminal. Commands, which are indented, stay on their lines."""
    paragraphs = []
    for paragraph in text.split("\n\n"):
        # A line with a heading, as "Published: ...", begins anew.
        parts = re.split(r"\n(?=[A-Z]\w*: )", paragraph)
        fits = max(map(len, paragraph.split("\n"))) <= _columns()
        is_command = paragraph.startswith("  ")
        wrapped = "\n".join(_wrapped(" ".join(part.split())) for part in parts)
        paragraphs.append(paragraph if fits or is_command else wrapped)
    return "\n\n".join(paragraphs)


def _final_settings(chosen: Chosen, values: flags.FlagValues) -> str:
    """What `--print_config` shows: every setting of the run, as --fdl_set takes them."""
    from hfjax.training.config import UNSET, fill_in_num_steps, has_parts, settings
    from hfjax.training.manual import value_in_words
    from hfjax.training.mirror import is_address
    from hfjax.training.run import check
    from hfjax.training.workdir import folder

    check(chosen.config)
    if not is_address(workdir := _workdir(chosen, values)):
        folder(workdir)
    fill_in_num_steps(chosen.config)
    shown = [
        f"{setting.path}={value_in_words(setting.value)}"
        for setting in settings(chosen.config)
        if setting.value is not UNSET and not has_parts(setting.value)
    ]
    return f"# workdir {_workdir(chosen, values)}\n" + "\n".join(shown) + "\n"


def _quiet_background_errors() -> None:
    """Silence Orbax's threads, which repeat to stderr what they have raised here already."""
    absl_logging.set_verbosity(absl_logging.FATAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    sys.unraisablehook = lambda _: None
    shown = sys.excepthook

    def hook(
        kind: type[BaseException], error: BaseException, trace: types.TracebackType | None
    ) -> None:
        if "Event loop is closed" not in str(error):
            shown(kind, error, trace)

    sys.excepthook = hook


if __name__ == "__main__":
    command()
