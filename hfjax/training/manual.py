"""The manual of a config: its settings, with their values and meanings, as text."""

import copy
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Collection, Iterator
from typing import Any

import fiddle as fdl

from hfjax.training.config import (
    UNSET,
    Setting,
    fill_in_num_steps,
    function_name,
    has_parts,
    settings,
)
from hfjax.training.hints import hints_of, in_words

_START = r"(?:^|(?<=[.;:]\s)|(?<=\n))\s*"  # of a line or a sentence
_NAMES = r"(?P<names>[a-zA-Z_]\w*(?:,\s+(?:and )?[a-zA-Z_]\w*)*)"
_END = r"(?:(?P<colon> \([\w ,.|\[\]]*\):|:)\s|(?P<gap>[ ]{2,}))"
_ENTRY = re.compile(_START + _NAMES + _END)
_SENTENCE_END = re.compile(r"(?<=\.) (?=[A-Z`]|->)")
_AS_IN = re.compile(r"as in `([\w.]+)`")
_MARKUP = re.compile(r":\w+:(?=`)|`(?=`)")  # of reStructuredText

_COLUMN = 54  # where meanings begin
_NARROW = 100  # a terminal with fewer columns shows a meaning below its setting


def setting_lines(config: fdl.Config, columns: int = 100) -> list[str]:
    """Every setting of a config: path, current value, and meaning where a docstring has it.

    Without a meaning: the first line about the function that is the value, or the type. Lines fit
    the columns of a terminal.
    """
    config = copy.deepcopy(config)
    fill_in_num_steps(config)
    column = 6 if columns < _NARROW else _COLUMN
    lines = []
    for setting in settings(config):
        if setting.value is UNSET and setting.is_partial:
            continue  # given by the caller of the function
        value = "(below)" if has_parts(setting.value) else value_in_words(setting.value)
        first = f"  {setting.path:<30} {value:<20} "
        if len(first) > column:
            lines += textwrap.wrap(
                first.rstrip(),
                columns,
                subsequent_indent=" " * 6,
                break_long_words=False,
                break_on_hyphens=False,
            )
            first = ""
        meaning = meanings(setting.function).get(setting.name) or _otherwise(setting)
        wrapped = textwrap.wrap(meaning, max(30, columns - column)) or [""]
        lines.append((first.ljust(column) + wrapped[0]).rstrip())
        lines += [" " * column + line for line in wrapped[1:]]
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

    An explanation begins a line or a sentence: `name: text`, `name, other: text`, or `name  text`
    in columns. It ends before the next one or at an empty line; its first sentence is the meaning.
    Where that is "as in `module.function`", the meaning is that of the same name there.
    """
    parameters = inspect.signature(function).parameters
    explained: dict[str, str] = {}
    for paragraph in re.split(r"\n\s*\n", inspect.getdoc(function) or ""):
        for names, text in _entries(paragraph, parameters):
            for name in names:
                explained.setdefault(name, _meaning_elsewhere(function, name, text))
    return explained


def _meaning_elsewhere(function: Callable, name: str, text: str) -> str:
    """The text, or that of the function which it names as the place of the explanation."""
    named = _AS_IN.fullmatch(text)
    if named is None:
        return text
    head, *rest = named[1].split(".")
    module = sys.modules[function.__module__]
    other = getattr(module, head, None) or sys.modules.get(f"{module.__package__}.{head}")
    for attribute in rest:
        other = getattr(other, attribute, None)
    return meanings(other).get(name, text) if callable(other) else text


def _entries(paragraph: str, parameters: Collection[str]) -> Iterator[tuple[list[str], str]]:
    starts = []
    for match in _ENTRY.finditer(paragraph):
        names = re.split(r",\s+(?:and )?", match["names"])
        if all(name in parameters for name in names):
            starts.append((match, names))
    for i, (match, names) in enumerate(starts):
        end = starts[i + 1][0].start() if i + 1 < len(starts) else len(paragraph)
        text = " ".join(_MARKUP.sub("", paragraph[match.end() : end]).split())
        yield names, _SENTENCE_END.split(text)[0].rstrip(".; ")
