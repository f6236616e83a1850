"""Packages whose modules are imported at their first use, so that `import hfjax` is fast."""

import importlib
import pkgutil
import sys
from collections.abc import Callable, Mapping
from typing import Any


def attributes(
    package: str, members: Mapping[str, str] | None = None
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The functions __getattr__ and __dir__ of a package.

    members  {name: module} of the classes and functions that the package offers beside its
             modules.
    """
    members = members or {}

    def modules() -> set[str]:
        names = (module.name for module in pkgutil.iter_modules(sys.modules[package].__path__))
        return {name for name in names if not name.startswith("_")}

    def get(name: str) -> Any:
        if name in members:
            return getattr(importlib.import_module(members[name]), name)
        if name in modules():
            return importlib.import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    def directory() -> list[str]:
        present = {n for n in vars(sys.modules[package]) if n.startswith("__")}
        return sorted({*present, *modules(), *members})

    return get, directory
