"""Writes gallery.md: every figure of the results, and moving pictures, with their commands."""

import pathlib
import re

HEAD = """# Gallery

Every figure of the results, with the command that makes it. Give it in a clone of the repository;
`python` is that of the environment in which hfjax is installed.
"""
MOVIES = {  # file: (label, trained model)
    "walk": ("Spikes of a grid cell along a walk", "cpu_grids"),
    "bump": ("The bump on a ring after the senses are cut", "ring"),
    "atoms": ("Where the animal will be: atoms of the successor measure", "dsm_place_cells"),
}
FIGURE = re.compile(r"!\[(.*?)\]\((\S+\.png)\)")
COMMAND = re.compile(r"    (python .*?)(?:\s{2,}#.*)?")


def write(docs: pathlib.Path) -> None:
    """Reads the RESULTS.md of every paper: a figure belongs to the command before it."""
    pages = sorted((docs.parent / "experiments").glob("*/RESULTS.md"))
    sections = [section for page in pages for section in _sections(page)]
    text = "\n".join([HEAD, *sections, *_grid("Moving pictures", _movies())])
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
    return _grid(
        title, [_card(label, paths[file], command) for file, (label, command) in cards.items()]
    )


def _movies() -> list[str]:
    return [
        _card(
            label,
            f"_static/{name}.gif",
            f"python -c \"import hfjax; hfjax.load('pretrained:{model}')"
            f".animate('{name}', path='{name}.gif')\"",
        )
        for name, (label, model) in MOVIES.items()
    ]


def _grid(title: str, cards: list[str]) -> list[str]:
    return [f"## {title}\n", "::::{grid} 1 1 2 2\n:gutter: 2\n", *cards, "::::\n"] if cards else []


def _card(label: str, path: str, command: str) -> str:
    return f":::{{grid-item-card}} {label}\n![{label}]({path})\n\n```bash\n{command}\n```\n:::\n"
