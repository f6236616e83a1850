"""Writes gallery.md: every figure of the results, with the command that makes it."""

import pathlib
import re

HEAD = """# Gallery

Every figure of the results, with the command that makes it. Give it in a clone of the repository;
`python` is that of the environment in which hfjax is installed.
"""
FIGURE = re.compile(r"!\[(.*?)\]\((\S+\.png)\)")
COMMAND = re.compile(r"    (python .*?)(?:\s{2,}#.*)?")


def write(docs: pathlib.Path) -> None:
    """Reads the RESULTS.md of every paper: a figure belongs to the command before it."""
    pages = sorted((docs.parent / "experiments").glob("*/RESULTS.md"))
    text = "\n".join([HEAD, *(section for page in pages for section in _sections(page))])
    target = docs / "gallery.md"
    if not target.exists() or target.read_text() != text:
        target.write_text(text)


def _sections(page: pathlib.Path) -> list[str]:
    """The heading of a paper, and a card for each of its figures, also those that it only saves."""
    title, command, cards = "", "", {}
    for line in page.read_text().splitlines():
        title = title or line.removeprefix("# ")
        if found := COMMAND.fullmatch(line):
            command = found[1]
        cards |= {file: (label, command) for label, file in FIGURE.findall(line)}
    for path in sorted(page.parent.glob("*.png")):
        label = path.stem.replace("_", " ").capitalize()
        cards.setdefault(path.name, (label, f"python experiments/{page.parent.name}/run.py"))
    paths = {file: f"../experiments/{page.parent.name}/{file}" for file in cards}
    shown = [_card(label, paths[file], command) for file, (label, command) in cards.items()]
    return [f"## {title}\n", "::::{grid} 1 1 2 2\n:gutter: 2\n", *shown, "::::\n"] if shown else []


def _card(label: str, path: str, command: str) -> str:
    return f":::{{grid-item-card}} {label}\n![{label}]({path})\n\n```bash\n{command}\n```\n:::\n"
