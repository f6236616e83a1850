"""Where configs are found: the package fdl_configs, and the names that a config's module has.

Nothing heavy is imported.
"""

import inspect
import pathlib
import sys
import types
from collections.abc import Callable
from typing import Any


def our_configs() -> types.ModuleType:
    """The package fdl_configs beside hfjax.

    The current directory may have a folder of that name too, which must not hide ours; its modules
    are then part of the package.
    """
    home = str(pathlib.Path(__file__).parent.parent)
    sys.path.insert(0, home)
    try:
        import fdl_configs
    finally:
        sys.path.remove(home)
    return fdl_configs


def names_beside(function: Callable) -> dict[str, Any]:
    """What the module of a config function imports, where functions are looked up by name."""
    module = vars(sys.modules[function.__module__])
    return {name: value for name, value in module.items() if not _is_config_code(value)}


def _is_config_code(value: Any) -> bool:
    """Whether a function is a config or a fiddler, whose names are no settings."""
    return inspect.isfunction(value) and any(
        "Config" in str(annotation) for annotation in value.__annotations__.values()
    )
