"""Errors whose message is one sentence for the person at the command line, and how to word one."""

import argparse
import difflib
import sys
from collections.abc import Collection, Iterable
from typing import Any, NoReturn

STOPPED = 75  # exit code of a run that a signal stopped and that is saved: EX_TEMPFAIL, try again


class InputError(ValueError):
    """The request cannot be carried out: a wrong name, type, value or file. Exit code 2."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows of it: the sentence."""
        return [f"InputError: {self}"]


class DataFileError(OSError):
    """A data file is missing, damaged or of another format."""


class SaveError(RuntimeError):
    """A checkpoint could not be saved."""


class TrainingFailed(RuntimeError):
    """Training cannot go on; the message says at which step, and what is on disk. Exit code 1."""


class OneSentence(argparse.ArgumentParser):
    """A command line whose mistakes are one sentence, with the nearest flag; exit code 2."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse, but a flag that does not exist is told first, with the closest one."""
        args = sys.argv[1:] if args is None else list(args)
        flags = [flag for action in self._actions for flag in action.option_strings]
        for name in (arg.partition("=")[0] for arg in args if arg.startswith("--")):
            if not any(flag.startswith(name) for flag in flags):
                self.error(f"{name} is no flag; {nearest(name, flags)}")
        return super().parse_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """One line on stderr."""
        self.exit(2, f"hfjax: {message}\n")


def one_line(error: BaseException) -> str:
    """The first line of an error's message, without the context that libraries append."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def nearest(name: str, allowed: Iterable[str]) -> str:
    """What follows a semicolon: the closest allowed name, and the list of all."""
    names = sorted(allowed)
    if not names:
        return "there is none to choose from."
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    begin = f"did you mean {close[0]!r}? Choose" if close else "choose"
    return f"{begin} from {', '.join(names)}."


def check_allowed(of: str, names: Iterable[str], allowed: Collection[str]) -> None:
    """Raise InputError, with the closest one, where one of the names is not allowed."""
    for name in names:
        if name not in allowed:
            raise InputError(f"{of} has no {name!r}; {nearest(name, allowed)}")
