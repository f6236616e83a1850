"""The manual of a config: its settings, with their values and meanings, as text."""

import copy
import inspect
import re
import shutil
import textwrap
from collections.abc import Callable, Collection, Iterator
from typing import Any

import fiddle as fdl

from hfjax.training.config import (
    UNSET,
    Setting,
    fill_in_num_steps,
    function_name,
    hints_of,
    in_words,
    settings,
)

_START = r"(?:^|(?<=[.;:]\s)|(?<=\n))\s*"  # of a line or a sentence
_NAMES = r"(?P<names>[a-zA-Z_]\w*(?:, (?:and )?[a-zA-Z_]\w*)*)"
_END = r"(?:(?P<colon> \([\w ,.|\[\]]*\):|:)\s|(?P<gap>[ ]{2,})|(?P<rest> \(| defaults? to ))"
_ENTRY = re.compile(_START + _NAMES + _END)


_COLUMN = 54  # where meanings begin
# What ends the explanation of the last parameter of a paragraph.
_AFTER = re.compile(r"(?<=[.;)]) (?=Raises |Source|Deviation|Evaluation|Returns|`)")


def setting_lines(config: fdl.Config) -> list[str]:
    """Every setting of a config: path, current value, and meaning where a docstring has it.

    Without a meaning: the first line about the function that is the value, or the type.
    """
    config = copy.deepcopy(config)
    fill_in_num_steps(config)
    columns = min(shutil.get_terminal_size((100, 24)).columns, 120)
    lines = []
    for setting in settings(config):
        if setting.value is UNSET and setting.is_partial:
            continue  # given by the caller of the function
        first = f"  {setting.path:<30} {value_in_words(setting.value):<20} "
        if len(first) > _COLUMN:
            lines.append(first.rstrip())
            first = ""
        meaning = meanings(setting.function).get(setting.name) or _otherwise(setting)
        wrapped = textwrap.wrap(meaning, max(30, columns - _COLUMN)) or [""]
        lines.append((first.ljust(_COLUMN) + wrapped[0]).rstrip())
        lines += [" " * _COLUMN + line for line in wrapped[1:]]
    return lines


def _otherwise(setting: Setting) -> str:
    value = setting.value
    function = fdl.get_callable(value) if isinstance(value, fdl.Buildable) else value
    is_function = inspect.isroutine(function) or isinstance(value, fdl.Buildable)
    if is_function and (doc := inspect.getdoc(function)):
        return doc.partition("\n")[0].rstrip(".")
    hint = hints_of(setting.function).get(setting.name)
    return "" if hint is None else in_words(hint)


def value_in_words(value: Any) -> str:
    """A value as --fdl_set takes it; a function, and that of a part, by its name."""
    if isinstance(value, fdl.Buildable):
        return function_name(fdl.get_callable(value))
    if value is UNSET:
        return "(not set)"
    if callable(value):
        return function_name(value)
    if isinstance(value, list | tuple):
        comma = "," if len(value) == 1 else ""
        return f"({', '.join(map(value_in_words, value))}{comma})"
    return re.sub(r" at 0x[0-9a-f]+", "", " ".join(repr(value).split()))


def meanings(function: Callable) -> dict[str, str]:
    """{parameter: meaning} of the parameters that a function's docstring explains.

    An explanation begins a line or a sentence: `name: text`, `name, other: text`, `name  text` in
    columns, or `name (signature) -> text`. It ends before the next one or at an empty line.
    """
    parameters = inspect.signature(function).parameters
    explained: dict[str, str] = {}
    for paragraph in re.split(r"\n\s*\n", inspect.getdoc(function) or ""):
        for names, text in _entries(paragraph, parameters):
            for name in names:
                explained.setdefault(name, text)
    return explained


def _entries(paragraph: str, parameters: Collection[str]) -> Iterator[tuple[list[str], str]]:
    starts = []
    for match in _ENTRY.finditer(paragraph):
        names = re.split(r", (?:and )?", match["names"])
        if all(name in parameters for name in names):
            starts.append((match, names))
    for i, (match, names) in enumerate(starts):
        end = starts[i + 1][0].start() if i + 1 < len(starts) else len(paragraph)
        begin = match.start("rest") if match["rest"] else match.end()
        text = _AFTER.split(" ".join(paragraph[begin:end].split()))[0]
        yield names, text.rstrip(".; ")
