"""The entry point: `python -m hfjax --fdl_config=grid_rnn`. Flags, configs and trainer meet here.

Exit codes: 0 the run is complete, or was stopped by a signal and saved; 1 training failed; 2 bad
input, nothing written.
"""

import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

import jax
from absl import flags
from absl import logging as absl_logging
from fiddle import absl_flags
from fiddle.absl_flags import utils

import fdl_configs
from hfjax.errors import InputError, TrainingFailed, nearest, one_line
from hfjax.training import run as train
from hfjax.training.config import apply_fiddlers, check_path
from hfjax.training.log import WRITERS

EXAMPLE = "python -m hfjax --fdl_config=grid_rnn --fiddler=laptop --workdir=runs/laptop"
OWN_FLAGS = (
    flags.DEFINE_string(
        "workdir", None, "folder of the run; the same command resumes it (default: runs/CONFIG)"
    ),
    flags.DEFINE_integer("seed", None, "seed of the model, or of the first of a population"),
    flags.DEFINE_integer("seeds", None, "train a population of this many seeds in one program"),
    flags.DEFINE_string(
        "init_from", None, "workdir of another run, whose parameters this one starts from"
    ),
    flags.DEFINE_string("data_dir", None, "folder of the data set's files, where it needs any"),
    flags.DEFINE_list(
        "writers", ["wandb", "jsonl", "terminal"], "any of wandb,jsonl,terminal,tensorboard"
    ),
    flags.DEFINE_enum(
        "wandb_mode",
        "auto",
        ["auto", "online", "offline", "disabled"],
        "auto is online where a key is configured, else offline",
    ),
    flags.DEFINE_string("wandb_project", "hfjax", "W&B project"),
    flags.DEFINE_string("wandb_name", None, "W&B run name (default: the workdir's name)"),
    flags.DEFINE_string("wandb_group", None, "W&B group"),
    flags.DEFINE_list("wandb_tags", [], "W&B tags, separated by commas"),
    flags.DEFINE_bool("profile", False, "write a trace of one chunk to WORKDIR/profile"),
)
FIDDLE_FLAGS = {
    "fdl_config": "the config to run",
    "fiddler": "change the config by one of its fiddlers; may be repeated",
    "fdl_set": "path=value: override one setting, as task.num_grid=512; may be repeated",
    "fdl_config_file": "a config.json to run again, in place of --fdl_config",
    "fdl_help": "show the settings of a config and its fiddlers",
}


def _help() -> str:
    def table(rows):
        return "\n".join(f"  {name:<18} {text}" for name, text in rows.items())

    def dashed(rows):
        return table({f"--{name}": text for name, text in rows.items()})

    own = {flag.name: flags.FLAGS[flag.name].help for flag in OWN_FLAGS}
    sources = fdl_configs.sources().values()
    configs = {name: line for source in sources for name, line in source.configs.items()}
    fiddlers = {name: line for source in sources for name, line in source.fiddlers.items()}
    return (
        "hfjax: models of the hippocampal formation, one command each.\n\n"
        f"Example:\n  {EXAMPLE}\n\n"
        f"Configs (--fdl_config=NAME):\n{table(configs)}\n\n"
        f"Fiddlers (--fiddler=NAME):\n{table(fiddlers)}\n\n"
        f"What to run:\n{dashed(FIDDLE_FLAGS)}\n\n"
        f"How to run it:\n{dashed(own)}"
    )


def _config_from_flags():
    """The Fiddle config that the flags describe. Raises InputError in one sentence."""
    values: Any = flags.FLAGS
    overrides, values.fdl_set = values.fdl_set, []
    known = fdl_configs.configs()
    if values.fdl_config and values.fdl_config not in known:
        name = values.fdl_config
        raise InputError(f"--fdl_config={name} is unknown; {nearest(name, known)}")
    if values.fdl_config:
        function = known[values.fdl_config]
        config, fiddlers = function(), fdl_configs.fiddlers_of(function)
    else:
        config, fiddlers = absl_flags.create_buildable_from_flags(fdl_configs), {}
    for name in values.fiddler:
        if name not in fiddlers:
            raise InputError(f"--fiddler={name} is unknown; {nearest(name, fiddlers)}")
    apply_fiddlers(config, {name: fiddlers[name] for name in values.fiddler})
    for assignment in overrides:
        path, equals, _ = assignment.partition("=")
        if not equals:
            raise InputError(f"--fdl_set={assignment} has no value; write --fdl_set=path=value.")
        check_path(config, path)
        try:
            utils.set_value(config, assignment)
        except Exception as error:
            raise InputError(one_line(error)) from error
    for name in ("seed", "seeds", "init_from"):
        if values[name].value is not None:
            setattr(config, name, values[name].value)
    if values.data_dir is not None:
        check_path(config, "data.data_dir")
        config.data.data_dir = values.data_dir
    return config


def _quiet_background_errors() -> None:
    """Silence Orbax's threads, which repeat to stderr what they have raised here already."""
    absl_logging.set_verbosity(absl_logging.FATAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    sys.unraisablehook = lambda _: None
    shown = sys.excepthook

    def hook(kind, error, trace):
        if "Event loop is closed" not in str(error):
            shown(kind, error, trace)

    sys.excepthook = hook


def main(argv: Sequence[str]) -> int:
    """Run the command line; returns the exit code."""
    if {"--help", "-h", "-help", "--helpfull", "--helpshort"} & set(argv[1:]) or len(argv) == 1:
        sys.stdout.write(_help() + "\n")
        return 0
    flags.FLAGS.unparse_flags()
    try:
        extra = flags.FLAGS(list(argv))[1:]
        if extra:
            raise InputError(f"unexpected argument {extra[0]!r}; flags are written --name=value.")
        values = flags.FLAGS
        for name in values.writers:
            if name not in WRITERS:
                raise InputError(f"--writers has no {name!r}; {nearest(name, WRITERS)}")
        if not (values.fdl_config or values.fdl_config_file or values.fdl_help):
            raise InputError(f"--fdl_config is missing; {nearest('', fdl_configs.configs())}")
        config = _config_from_flags()
    except (InputError, flags.Error) as error:
        sys.stderr.write(f"hfjax: {one_line(error)}\n")
        return 2
    if values.fdl_help:
        return 0

    _quiet_background_errors()
    jax.config.update("jax_numpy_rank_promotion", "raise")
    try:
        train.run(
            config,
            values.workdir or os.path.join("runs", values.fdl_config or "from_file"),
            writers=values.writers,
            wandb={
                name: getattr(values, f"wandb_{name}")
                for name in ("mode", "project", "name", "group", "tags")
            },
            profile=values.profile,
        )
    except InputError as error:
        sys.stderr.write(f"hfjax: {error}\n")
        return 2
    except TrainingFailed as error:
        sys.stderr.write(f"hfjax: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
