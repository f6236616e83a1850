"""Makes NAME.ipynb, with outputs, from NAME.md: the form that Colab, GitHub and the site show.

    python notebooks/make.py                    # all
    python notebooks/make.py first_hour dsm     # some
    python notebooks/make.py --text             # new text and code, outputs as they are

A notebook is written as NAME.md (MyST). This command runs it at its full size, in
runs/notebooks/NAME: what is trained there is opened, so delete that folder to train anew. Pictures
are stored with a palette, so that a notebook stays small. It needs the extra `docs`.
"""

import argparse
import base64
import io
import pathlib
import re
import sys
import time
from typing import Any

HERE = pathlib.Path(__file__).parent
WORK = HERE.parent / "runs" / "notebooks"

# The address of the repository, for the badge and the first cell of every notebook: change it here,
# then give `python notebooks/make.py --text`.
REPOSITORY = "https://github.com/OWNER/hfjax"
INSTALL = f"""try:
    import hfjax
except ImportError:  # as in Colab
    %pip install -q git+{REPOSITORY}"""
COLAB = "https://colab.research.google.com"
OPENED = REPOSITORY.replace("https://github.com", f"{COLAB}/github")
BADGE = (
    f"[![Open in Colab]({COLAB}/assets/colab-badge.svg)]({OPENED}/blob/main/notebooks/NAME.ipynb)"
)

WIDTH = 960  # pixels of a stored picture, at most
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def main() -> None:
    """Make the notebooks that are named on the command line."""
    try:
        import jupytext
        import nbclient
    except ImportError as error:
        sys.exit(f"{error.name} is missing: pdm sync -G docs, or pip install jupytext myst-nb.")
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    names = sorted(path.stem for path in HERE.glob("*.md"))
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}")
    parser.add_argument("--text", action="store_true", help="keep outputs, run nothing")
    flags = parser.parse_args()
    if unknown := set(flags.names) - set(names):
        parser.error(f"no notebook {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    for name in flags.names or names:
        stamp(HERE / f"{name}.md")
        start = time.monotonic()
        notebook = with_old_outputs(name) if flags.text else executed(name)
        write(notebook, HERE / f"{name}.ipynb")
        sys.stdout.write(f"{name}: {time.monotonic() - start:.0f} s\n")


def stamp(path: pathlib.Path) -> None:
    """Write into the text of a notebook what holds the address of the repository.

    That is the badge below the title, and the first code cell, which installs hfjax.
    """
    text = path.read_text()
    title = re.compile(r"(?<=\n)(# .*\n\n)(\[!\[Open in Colab.*\n\n)?")
    badge = BADGE.replace("NAME", path.stem)
    cell = re.compile(r"(?<=```\{code-cell\} python\n)try:\n    import hfjax\n.*?(?=\n```)", re.S)
    new = cell.sub(lambda _: INSTALL, text, count=1)
    new = title.sub(lambda found: f"{found[1]}{badge}\n\n", new, count=1)
    if new != text:
        path.write_text(new)


def read(name: str) -> Any:
    """The notebook of a text, without outputs. Cells are named by their place, not at random."""
    import jupytext

    notebook = jupytext.read(HERE / f"{name}.md")
    for number, cell in enumerate(notebook.cells):
        cell.id = f"{name.replace('_', '-')}-{number}"
    return notebook


def with_old_outputs(name: str) -> Any:
    """The text's notebook with the outputs that are stored, cell by cell."""
    import nbformat

    notebook, old = read(name), nbformat.read(HERE / f"{name}.ipynb", as_version=4)
    codes = [[c for c in n.cells if c.cell_type == "code"] for n in (notebook, old)]
    if len(codes[0]) != len(codes[1]):
        sys.exit(f"{name}: cells were added or removed; run it anew, without --text.")
    for cell, before in zip(*codes, strict=True):
        cell.outputs, cell.execution_count = before.outputs, before.execution_count
    return notebook


def executed(name: str) -> Any:
    """The notebook after a run, with outputs that hold no paths of this machine."""
    import nbclient

    folder = WORK / name
    folder.mkdir(parents=True, exist_ok=True)
    notebook = read(name)
    client = nbclient.NotebookClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        coalesce_streams=True,
    )
    client.execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            warned = [output for output in cell.outputs if output.get("name") == "stderr"]
            sys.stderr.write("".join(output.text for output in warned))  # to be read, not stored
            kept = [output for output in cell.outputs if output not in warned]
            cell.outputs = [tidied(output, folder) for output in kept]
    return notebook


def tidied(output: Any, folder: pathlib.Path) -> Any:
    """An output without escape codes, absolute paths and pictures that are large."""
    if "text" in output:
        output.text = tidied_text(output.text, folder)
    data = output.get("data", {})
    if "metadata" in output:  # a stream has none
        output.metadata = {}
    for kind, value in data.items():
        if kind == "image/png":
            data[kind] = base64.b64encode(smaller(base64.b64decode(value))).decode()
        elif kind.startswith("text/"):
            data[kind] = tidied_text(value, folder)
    return output


def tidied_text(text: str, folder: pathlib.Path) -> str:
    """Text with paths from the notebook's folder."""
    return ANSI.sub("", text).replace(f"{folder}/", "").replace(str(folder), ".")


def smaller(png: bytes) -> bytes:
    """A picture of at most WIDTH pixels, with a palette."""
    from PIL import Image

    picture = Image.open(io.BytesIO(png)).convert("RGB")
    if picture.width > WIDTH:
        size = WIDTH, round(picture.height * WIDTH / picture.width)
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    stored = io.BytesIO()
    # An octree keeps the colours of small things, such as dots and colour bars; a median cut merges
    # them with what covers more of the picture.
    palette = picture.quantize(method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    palette.save(stored, "PNG", optimize=True)
    return stored.getvalue()


def write(notebook: Any, path: pathlib.Path) -> None:
    """Write a notebook, with the metadata that do not depend on this machine."""
    import nbformat

    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = nbformat.from_dict(
        {"kernelspec": kernel, "language_info": {"name": "python"}}
    )
    for cell in notebook.cells:
        cell.metadata = {}
    nbformat.validate(notebook)
    nbformat.write(notebook, path)


if __name__ == "__main__":
    main()
