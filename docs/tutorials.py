"""Brings the notebooks, with their outputs, to the pages of the site, and opens them in Colab."""

import pathlib
import re

# Links of a notebook are those of the repository; the site has its own pages of results.
PAGES = (
    (re.compile(r"\(\.\./experiments/(\w+)/RESULTS\.md\)"), r"(../results/\1.md)"),
    (re.compile(r"\(\.\./docs/([\w/]+\.md)\)"), r"(../\1)"),
    (re.compile(r"\((\w+)\.md\)"), r"(\1.ipynb)"),
)


def write(docs: pathlib.Path) -> None:
    """Copy notebooks/*.ipynb to docs/notebooks, with links to pages of the site."""
    target = docs / "notebooks"
    target.mkdir(exist_ok=True)
    sources = {path.name: path.read_text() for path in (docs.parent / "notebooks").glob("*.ipynb")}
    for old in set(target.iterdir()) - {target / name for name in sources}:
        old.unlink()
    for name, text in sources.items():
        for link, page in PAGES:
            text = link.sub(page, text)
        path = target / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def launch_buttons(repository: str | None) -> dict[str, object]:
    """Options of the theme: a button on each notebook's page that opens it in Colab.

    repository: owner/name on GitHub, where its workflows build the site; None elsewhere, where no
    address is known and there is no button. The pages have the paths of the files in the
    repository, notebooks/NAME.ipynb.
    """
    if not repository:
        return {}
    return {
        "repository_url": f"https://github.com/{repository}",
        "repository_branch": "main",
        "launch_buttons": {"colab_url": "https://colab.research.google.com"},
    }
