"""Where a run came from: software, commit, command, devices, and the shapes of its data.

provenance.json is a list with one record for each start of the run, the newest last.
"""

import contextlib
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from fiddle.experimental import serialization

import hfjax
from hfjax.files import write_atomically
from hfjax.training.experiment import Experiment

PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "fiddle",
    "numpy",
    "scipy",
    "scikit-learn",
    "ratinabox",
)
Record = dict[str, Any]  # as JSON holds it


def software(origin: Mapping[str, Any]) -> Record:
    """What a run is made of: `origin` (config and fiddlers), versions, commit and command line."""
    return {
        **origin,
        "command": shlex.join(sys.orig_argv),
        "hfjax": hfjax.__version__,
        "commit": commit(pathlib.Path(hfjax.__file__).parent),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def record(
    made_by: Record, devices: Sequence[jax.Device], step: int, experiment: Experiment
) -> Record:
    """One start of a run: time, first step, `software`, devices, seeds and shapes of the data."""
    return {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "step": step,
        **made_by,
        "devices": {
            "platform": devices[0].platform,
            "kind": devices[0].device_kind,
            "number": len(devices),
            "processes": len({device.process_index for device in devices}),
        },
        "seeds": experiment.seeds,
        "data": shapes_to_json(experiment.data),
    }


def append(workdir: pathlib.Path, new: Record) -> None:
    """Add a record to WORKDIR/provenance.json."""
    text = json.dumps([*read(workdir), new], indent=1)
    write_atomically(workdir / "provenance.json", text.encode())


def newest(workdir: str | os.PathLike) -> Record:
    """The newest record of a run, {} where there is none."""
    return (read(workdir) or [{}])[-1]


def read(workdir: str | os.PathLike) -> list[Record]:
    """The records of a run; none where there is no file, or a damaged one."""
    with contextlib.suppress(OSError, ValueError):
        records = json.loads((pathlib.Path(workdir) / "provenance.json").read_text())
        return [r for r in records if isinstance(r, dict)] if isinstance(records, list) else []
    return []


def versions(workdir: str | os.PathLike, otherwise: str | None = None) -> str:
    """The versions of hfjax that wrote a run and that is here, as text.

    otherwise  the version that wrote it, where there is no provenance.json.
    """
    wrote = newest(workdir)
    at = f" ({wrote['commit'][:7]})" if wrote.get("commit") else ""
    version = wrote.get("hfjax", otherwise) or "of an unknown version"
    return f"written by hfjax {version}{at}, this is hfjax {hfjax.__version__}"


def commit(folder: pathlib.Path) -> str | None:
    """The Git commit of a checkout, with `-dirty` where tracked files were changed.

    None where `folder` is not tracked by Git, as a package that was installed by pip.
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    with contextlib.suppress(OSError, subprocess.SubprocessError):
        if git("ls-files", "__init__.py"):
            return git("describe", "--always", "--dirty", "--exclude=*", "--abbrev=40")
    return None


def _version(package: str) -> str | None:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    return None


# --- Shapes of the data, from which a state is restored without the data ---


def shapes_to_json(data: Any) -> Any:
    """The structure of a pytree as JSON, its arrays as text like "float32[100,2]".

    None where Fiddle cannot store a container.
    """

    def text(leaf: Any) -> str:
        shape = jax.typeof(leaf)
        weak = " weak" if shape.weak_type else ""
        return f"{shape.dtype}[{','.join(map(str, shape.shape))}]{weak}"

    try:
        return json.loads(serialization.dump_json(jax.tree.map(text, data)))
    except Exception:  # Fiddle knows tuples, lists, dicts and NamedTuples
        return None


def shapes_from_json(stored: Any) -> Any:
    """The pytree of jax.ShapeDtypeStruct that `shapes_to_json` wrote.

    Raises an error of any type where a container's type is not importable here.
    """

    def shape(text: str) -> jax.ShapeDtypeStruct:
        dtype, numbers, weak = re.fullmatch(r"(\w+)\[([\d,]*)\]( weak)?", text).groups()  # type: ignore[union-attr]
        sizes = [int(n) for n in numbers.split(",") if n]
        return jax.ShapeDtypeStruct(sizes, dtype, weak_type=bool(weak))

    return jax.tree.map(shape, serialization.load_json(json.dumps(stored)))
