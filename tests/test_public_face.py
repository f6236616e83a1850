"""What `import hfjax` offers, and how fast."""

import ast
import pathlib
import pkgutil
import subprocess
import sys

import hfjax

SCRIPT = """
import sys, time
start_s = time.process_time()
import hfjax
seconds = time.process_time() - start_s
assert seconds < 0.2, seconds
assert not {"jax", "fiddle", "orbax", "matplotlib"} & set(sys.modules)

names = dir(hfjax)
for name in hfjax.__all__:
    assert name in names, name
assert hfjax.__version__ == "VERSION"
assert hfjax.ratemaps.__name__ == "hfjax.ratemaps"
assert hfjax.data.recordings.__name__ == "hfjax.data.recordings"
assert hfjax.Task is hfjax.task.Task
assert "reservoir" in dir(hfjax.models)
assert not hasattr(hfjax, "ratemap")

assert hfjax.run.__module__ == "hfjax.notebook"
from hfjax import notebook
from hfjax.training import run as train
assert hfjax.run is notebook.run
assert hfjax.training.run is train
assert hfjax.load is notebook.load
assert hfjax.Experiment is train.Experiment
"""


def test_modules_and_trainer_are_imported_when_they_are_used():
    script = SCRIPT.replace("VERSION", hfjax.__version__)
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


def test_an_editor_sees_every_module_and_every_member():
    modules = {m.name for m in pkgutil.iter_modules(hfjax.__path__) if not m.name.startswith("_")}
    assert set(hfjax.__all__) == modules | {
        "Experiment",
        "Run",
        "Task",
        "load",
        "pretrained",
        "run",
    }
    source = ast.parse(pathlib.Path(hfjax.__file__).read_text())
    (block,) = (node for node in source.body if isinstance(node, ast.If))
    imported = {a.name for node in block.body for a in node.names}
    assert imported == set(hfjax.__all__)
    assert {n for n in dir(hfjax) if not n.startswith("__")} == set(hfjax.__all__)


def test_type_checkers_see_the_package_as_typed():
    assert (pathlib.Path(hfjax.__file__).parent / "py.typed").exists()
