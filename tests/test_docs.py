"""The documentation site."""

import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    # A broken link, a reference to a page that is gone, or an unreadable docstring is a warning.
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going"]
    done = subprocess.run(
        [*command, "-d", str(tmp_path / "trees"), "docs", str(tmp_path / "site")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    ratemaps = (tmp_path / "site/api/ratemaps.html").read_text()
    assert 'id="hfjax.ratemaps.grid_scores"' in ratemaps
    assert "Alias for field number" not in ratemaps
    running = (tmp_path / "site/api/running.html").read_text()
    assert re.search(r"<pre>(?:<[^>]+>)*run</span>", running)  # the code of a module's docstring
    parts = (tmp_path / "site/api/parts.html").read_text()
    assert re.search(r"<p>c_t = s\(f\) c_tm1", parts)  # an equation on a line of its own
    # Equations need no network; nor does anything else but links.
    helmholtz = (tmp_path / "site/systems/helmholtz.html").read_text()
    assert re.search(r"<mfrac>\s*<mrow>\s*<mi>d</mi>\s*<mi>t</mi>", helmholtz)
    assert not re.findall(r"(?:<script|<img|<link)[^>]+(?:src|href)=.https?:", helmholtz)
    # Every figure of the results is in the gallery, each with a command.
    figures = [p.name for p in (ROOT / "experiments").glob("*/*.png")]
    gallery = (ROOT / "docs/gallery.md").read_text()
    shown = re.findall(r"\(\.\./experiments/\w+/(\w+\.png)\)\n\n```bash\npython ", gallery)
    assert sorted(shown) == sorted(figures)
    moving = re.findall(r"\(_static/(\w+\.gif)\)\n\n```bash\npython ", gallery)
    assert sorted(moving) == sorted(p.name for p in (ROOT / "docs/_static").glob("*.gif"))


def test_every_paper_has_its_page_of_results():
    papers = {p.parent.name for p in (ROOT / "experiments").glob("*/RESULTS.md")}
    assert papers == {p.stem for p in (ROOT / "docs/results").glob("*.md")} - {"index"}


def test_every_public_module_is_in_the_api():
    text = "".join(p.read_text() for p in (ROOT / "docs/api").glob("*.md"))
    documented = set(re.findall(r"automodule:: (\S+)", text))
    modules = {"arena", "cells", "decoders", "envs", "figures", "gym", "kernels", "networks"}
    modules |= {"plasticity", "ratemaps", "task", "theta", "visibility"}
    models = {p.stem for p in (ROOT / "hfjax/models").iterdir() if not p.name.startswith("_")}
    missing = {f"hfjax.{m}" for m in modules} | {f"hfjax.models.{m}" for m in models}
    assert missing - documented == set()
