"""Write the table of models into the README: `python -m fdl_configs`."""

import pathlib
import re
import sys

import fdl_configs

README = pathlib.Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- models: made by python -m fdl_configs -->", "<!-- end of models -->"


def table() -> str:
    """The models as Markdown: a row for each config."""
    rows = ["| `--fdl_config=` | what it is | fiddlers | results |", "|---|---|---|---|"]
    for source in fdl_configs.sources().values():
        fiddlers = " ".join(f"`{n}`" for n in sorted(source.fiddlers, key="laptop".__ne__))
        folder = pathlib.PurePath(source.results).parent.name
        results = f"[{folder}]({source.results})" if source.results else ""
        for name, line in source.configs.items():
            paper = f" ({source.paper})" if source.paper and source.paper not in line else ""
            rows.append(f"| `{name}` | {line.rstrip('.')}{paper} | {fiddlers} | {results} |")
            fiddlers = f"as `{next(iter(source.configs))}`"
    return "\n".join(rows)


def with_table(text: str) -> str:
    """A README with the table between its two marks made new. Raises ValueError without marks."""
    marked = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)
    if not marked.search(text):
        raise ValueError(f"the README needs the lines {BEGIN} and {END}.")
    return marked.sub(lambda _: f"{BEGIN}\n\n{table()}\n\n{END}", text)


if __name__ == "__main__":
    README.write_text(with_table(README.read_text()))
    sys.stdout.write(f"{README} has {len(table().splitlines()) - 2} configs.\n")
