"""Configs (functions that make one) and fiddlers (functions that change one).

A config is a public function of a module of this package, without parameters, annotated
`-> fdl.Config`. A fiddler is a public function `name(cfg: fdl.Config) -> None` of that module, or
imported into it; it works with every config defined there. `fdl_configs.NAME` is the config NAME,
also where a module has the same name; only the modules that are needed are imported.
"""

import ast
import contextlib
import functools
import importlib
import inspect
import pathlib
import pkgutil
import re
import sys
import types
import typing
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from hfjax.errors import InputError, nearest

if TYPE_CHECKING:
    import fiddle as fdl

# A folder fdl_configs elsewhere on the import path adds its modules; those here come first.
__path__ = pkgutil.extend_path(__path__, __name__)

__all__ = ["Config", "Fiddler", "Source", "configs", "fiddlers_of", "find", "make", "sources"]

Config = Callable[[], "fdl.Config"]
Fiddler = Callable[["fdl.Config"], None]


class Source(NamedTuple):
    """What a module defines, read without importing it.

    configs, fiddlers: {name: first line of the docstring}. paper, results: what follows "Paper:"
    and "Results:" in the module's docstring; empty where it does not say.
    """

    module: str
    configs: dict[str, str]
    fiddlers: dict[str, str]
    paper: str
    results: str


def sources() -> dict[str, Source]:
    """{module name: Source} of every module of this package that defines a config or a fiddler."""
    return _sources(tuple(__path__))


def configs() -> dict[str, Config]:
    """{name: function} of every config of this package, sorted by module and then as written."""
    return {
        name: getattr(importlib.import_module(source.module), name)
        for source in sources().values()
        for name in source.configs
    }


def fiddlers_of(config_function: Config) -> dict[str, Fiddler]:
    """{name: function} of the fiddlers in the module in which a config function is defined."""
    module = sys.modules[config_function.__module__]
    return {
        name: f
        for name, f in vars(module).items()
        if inspect.isfunction(f) and not name.startswith("_") and _is_fiddler(f)
    }


def make(name: str, *fiddlers: str) -> "fdl.Config":
    """The config of a name, changed by the fiddlers of these names.

    Raises InputError where a name is unknown, or where two fiddlers set the same thing.
    """
    from hfjax.training.config import apply_fiddlers

    function = find(name)
    known = fiddlers_of(function)
    for fiddler in fiddlers:
        if fiddler not in known:
            raise InputError(f"{name} has no fiddler {fiddler!r}; {nearest(fiddler, known)}")
    config = function()
    apply_fiddlers(config, {fiddler: known[fiddler] for fiddler in fiddlers})
    return config


def find(name: str) -> Config:
    """The config function NAME of this package, or MODULE.NAME (MODULE:NAME) of any other.

    The other module is installed or lies in the current directory. Raises InputError where there
    is no such function.
    """
    from hfjax.training.overrides import find_function

    if re.fullmatch(r"\w+([.:]\w+)+", name):
        return find_function(name)
    if not name.isidentifier():
        raise InputError(f"{name!r} is no name of a config, as grid_rnn or my_module.my_config.")
    function = _find(name)
    if function is None:
        known = [n for source in sources().values() for n in source.configs]
        raise InputError(f"there is no config {name!r}; {nearest(name, known)}")
    return function


def __getattr__(name: str) -> Any:
    function = None if name.startswith("_") else _find(name)
    if function is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return function


def __dir__() -> list[str]:
    return [*__all__, *(name for source in sources().values() for name in source.configs)]


class _Package(types.ModuleType):
    """The package: where a submodule defines a config of its own name, that name is the config."""

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, types.ModuleType):
            value = getattr(value, name, value)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def _find(name: str) -> Config | None:
    for source in sources().values():
        if name in source.configs:
            return getattr(importlib.import_module(source.module), name)
    return None


@functools.cache
def _sources(folders: tuple[str, ...]) -> dict[str, Source]:
    modules: dict[str, ast.Module] = {}
    for folder in map(pathlib.Path, folders):
        ours = folder == pathlib.Path(__file__).parent
        for path in sorted(folder.glob("[!_]*.py")):
            # A broken file of another folder is no reason to stop.
            with contextlib.suppress(*(() if ours else (OSError, SyntaxError, ValueError))):
                modules.setdefault(f"{__name__}.{path.stem}", ast.parse(path.read_text(), path))
    every = {name: _source(name, modules) for name in modules}
    return {name: source for name, source in every.items() if source.configs or source.fiddlers}


def _source(name: str, modules: dict[str, ast.Module]) -> Source:
    configs, fiddlers = {}, {}
    text = ast.get_docstring(modules[name]) or ""
    paper, results = (re.search(rf"^{word}: (.*)", text, re.M) for word in ("Paper", "Results"))
    for node in modules[name].body:
        if isinstance(node, ast.ImportFrom) and node.module in modules:
            there = _source(node.module, modules).fiddlers
            imported = {(n.asname or n.name): there.get(n.name) for n in node.names}
            fiddlers.update({n: line for n, line in imported.items() if line is not None})
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            first_line = (ast.get_docstring(node) or "").partition("\n")[0]
            parameters = [a.annotation for a in ast.walk(node.args) if isinstance(a, ast.arg)]
            if not parameters and _names_a_config(node.returns):
                configs[node.name] = first_line
            elif len(parameters) == 1 and _names_a_config(parameters[0]):
                fiddlers[node.name] = first_line
    return Source(name, configs, fiddlers, paper[1] if paper else "", results[1] if results else "")


def _names_a_config(annotation: ast.expr | None) -> bool:
    return annotation is not None and "fdl.Config" in ast.unparse(annotation)


def _is_fiddler(function: Callable) -> bool:
    import fiddle as fdl

    parameters = list(inspect.signature(function).parameters.values())
    if len(parameters) != 1:
        return False
    annotation = parameters[0].annotation
    return fdl.Config in (annotation, typing.get_origin(annotation)) or (
        isinstance(annotation, str) and "fdl.Config" in annotation
    )
