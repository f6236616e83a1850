"""Docstrings are plain text with a few habits; this turns them into reStructuredText.

Habits: paragraphs; tables `name   meaning`; lists `- item`; indented code; equations, each on lines
of its own; a paragraph, or a line in one, that starts with `->` (what is returned), `Raises`,
`Source:` or `Deviation`.
"""

import re

TABLE = re.compile(r"(\S(?:.*?\S)?)\s{2,}(\S.*)")
ITEM = re.compile(r"(?:-|\d+\.|\(\w\)) ")
LEAD = re.compile(r"(->|Raises|Sources?:|Deviations?\b[^:]{0,40}:)")
EQUATION = re.compile(r"\(?[\w']+(?:, \w+)*\)? \+?= ")
SPECIAL = re.compile(r"([*|\\]|_(?=\W|$))")


def process(app, what, name, obj, options, lines):
    """Sphinx's hook: changes the lines of a docstring in place."""
    paragraphs = re.split(r"\n\s*\n", "\n".join(lines).strip("\n"))
    lines[:] = [line for paragraph in paragraphs for line in (*_converted(paragraph), "")]


def skip_field(app, what, name, obj, skip, options):
    """Leaves out the fields of NamedTuples: the docstring of the class has their meaning."""
    return skip or (getattr(obj, "__doc__", None) or "").startswith("Alias for field number")


def _converted(paragraph: str) -> list[str]:
    """The lines of one paragraph."""
    lines = paragraph.splitlines()
    if not lines or all(line.startswith("    ") for line in lines):
        kind = "python" if re.search(r"^    (import|from) |=|\(", paragraph, re.M) else "text"
        return [f".. code-block:: {kind}", "", *lines] if lines else []
    if TABLE.fullmatch(lines[0]) and not lines[0].startswith((" ", "- ")):
        return _table(lines)
    return _prose(lines)


def _table(lines: list[str]) -> list[str]:
    """`name   meaning`, continued on indented lines, as a definition list."""
    out: list[str] = []
    for line in lines:
        row = TABLE.fullmatch(line)
        if row and not line.startswith(" "):
            out += [f"``{row[1].replace('`', '')}``", f"    {_escaped(row[2])}"]
        else:
            out.append(f"    {_escaped(line.strip())}")
    return out


def _prose(lines: list[str]) -> list[str]:
    """Prose, in which items of a list, leads and equations start a paragraph of their own."""
    blocks: list[list[str]] = []
    for line in lines:
        if not blocks or ITEM.match(line) or LEAD.match(line) or _begins_equation(line, blocks):
            blocks.append([])
        blocks[-1].append(line.strip())
    out: list[str] = []
    for block in blocks:
        out += [_with_bold_lead(_escaped(" ".join(block))), ""]
    return out


def _begins_equation(line: str, blocks: list[list[str]]) -> bool:
    """Whether a line begins an equation: `name = `, after a line with a mark at its end."""
    return bool(EQUATION.match(line)) and blocks[-1][-1].endswith((",", ";", ":", ".", ")"))


def _with_bold_lead(text: str) -> str:
    lead = LEAD.match(text)
    if not lead:
        return text
    return f"**{'Returns' if lead[1] == '->' else lead[1]}**{text[lead.end() :]}"


def _escaped(text: str) -> str:
    """Text in which only backticks have a meaning, also before a letter (`map`s)."""
    text = re.sub(r"(`[^`]+`)(?=\w)", r"\1\0", text)
    parts = re.split(r"(`[^`]*`)", text)
    escaped = [part if i % 2 else SPECIAL.sub(r"\\\1", part) for i, part in enumerate(parts)]
    return "".join(escaped).replace("\0", "\\ ")
