"""Imports point one way: which part of hfjax may import which, read from the source."""

import ast
import pathlib

ROOT = pathlib.Path(__file__).parent.parent
GROUND = {"task", "check", "errors", "files", "missing", "output", "_lazy"}
# What each part may import, besides itself and the ground floor. A part that is not named here is
# one of the building blocks below the models.
ABOVE_THE_FLOOR = {
    "__init__": {"notebook", "training", "task"},
    "__main__": {"_completion", "configs", "notebook", "training"},
    "_completion": set(),
    "configs": {"fdl_configs"},
    "notebook": {"arena", "configs", "movies", "training"},
    "sweep": {"training", "__main__"},
    "compare": {"data", "decoders", "figures", "ratemaps", "training"},
    "training": set(),
    "data": {
        *("arena", "cells", "decoders", "envs", "figures", "gym", "networks", "ratemaps"),
        "visibility",
    },
}
NOT_FOR_MODELS = {
    "training",
    "data",
    "files",
    "output",
    "fdl_configs",
    "__main__",
    "notebook",
    "sweep",
}


def imported(path):
    """Dotted names of hfjax and fdl_configs that a file imports when it runs."""
    tree = ast.parse(path.read_text())
    for_types = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    ]
    skipped = {id(inner) for block in for_types for inner in ast.walk(block)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part(name):
    """The room of a dotted name: hfjax.arena.walks -> arena; None outside the project."""
    first, *rest = name.split(".")
    if first == "fdl_configs":
        return "fdl_configs"
    return rest[0] if first == "hfjax" and rest else None


def arrows():
    for folder in ("hfjax", "fdl_configs"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            here = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            for name in imported(path):
                if part(name) not in (None, part(here)):
                    yield here, part(name)


def allowed(file, to):
    here = part(file)
    if here in GROUND:
        return False
    if here == "models":
        return to not in NOT_FOR_MODELS
    if here in ABOVE_THE_FLOOR:
        return to in GROUND | ABOVE_THE_FLOOR[here]
    return here == "fdl_configs" or to in GROUND or to not in NOT_FOR_MODELS | {"models"}


def test_imports_point_down():
    every = set(arrows())
    assert len(every) > 50  # the reader of imports works
    assert not sorted(f"{file} imports {to}" for file, to in every if not allowed(file, to))


def test_there_is_no_circle_of_modules():
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in (ROOT / "hfjax").rglob("*.py")
    }

    def target(name):
        while name and name not in modules:
            name = name.rpartition(".")[0]
        return name

    below = {
        module: {target(name) for name in imported(path)} - {module, "hfjax", ""}
        for module, path in modules.items()
    }
    # A package's face imports its rooms, and they each other, never the face.
    remaining = set(below)
    while free := {module for module in remaining if not below[module] & remaining}:
        remaining -= free
    assert not remaining, f"these modules import each other in a circle: {sorted(remaining)}"
