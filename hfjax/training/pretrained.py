"""Trained models that come with hfjax: small runs, without the state of their optimizers.

    hfjax.pretrained()                        # {name: card}
    run = hfjax.load("pretrained:cpu_grids")

Each is a folder of hfjax/data/pretrained: a run's config, numbers and readout, its state as
state.npz, and a card. `python experiments/pretrained.py` makes them.
"""

import io
import pathlib
import types
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hfjax.errors import InputError, nearest
from hfjax.files import read_npz, write_atomically

PREFIX = "pretrained:"
FOLDER = pathlib.Path(__file__).parent.parent / "data" / "pretrained"
STATE = "state.npz"
# Parts of a state that neither init_from copies nor a trained model keeps.
NOT_COPIED = ("opt_state", "fresh")


class Card(NamedTuple):
    """What a trained model is: what it shows, its numbers, licence, and how it was made."""

    name: str
    text: str

    def __repr__(self) -> str:
        """The text itself."""
        return self.text


class Cards(dict[str, Card]):
    """{name: card}; shown as one line each."""

    def __repr__(self) -> str:
        """Each name with the first sentence of its card."""
        lines = (f"{name:<20} {_first_sentence(card.text)}" for name, card in self.items())
        return "\n".join(lines)


def pretrained() -> Mapping[str, Card]:
    """The trained models that come with hfjax, {name: card}; `hfjax.load("pretrained:NAME")`."""
    folders = sorted(path.parent for path in FOLDER.glob(f"*/{STATE}"))
    return Cards({f.name: Card(f.name, (f / "CARD.md").read_text()) for f in folders})


def _first_sentence(text: str) -> str:
    return next(line for line in text.splitlines() if line and not line.startswith("#"))


def is_pretrained(workdir: Any) -> bool:
    """Whether a workdir is named as one of these models."""
    return isinstance(workdir, str) and workdir.startswith(PREFIX)


def folder(workdir: str) -> pathlib.Path:
    """The folder of pretrained:NAME. Raises InputError where there is no such model."""
    name = workdir.removeprefix(PREFIX)
    if name not in (known := pretrained()):
        raise InputError(f"there is no trained model {name!r}; {nearest(name, known)}")
    return FOLDER / name


def is_kept(path: tuple[Any, ...]) -> bool:
    """Whether a trained model keeps the array of a state at a path."""
    return not any(getattr(p, "name", getattr(p, "key", None)) in NOT_COPIED for p in path)


def save_state(workdir: pathlib.Path, state: Any) -> None:
    """Write a state's arrays to state.npz by their paths, but for `NOT_COPIED`."""
    arrays: dict[str, Any] = {
        jax.tree_util.keystr(path): np.asarray(leaf)
        for path, leaf in jax.tree.leaves_with_path(state)
        if is_kept(path)
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_atomically(workdir / STATE, buffer.getvalue())


def load_state(workdir: pathlib.Path, abstract: Any) -> Any:
    """The state of a folder that has a state.npz; what that does not hold is 0.

    abstract  the state as jax.ShapeDtypeStruct. Raises InputError where an array does not fit it.
    """
    try:
        arrays = types.MappingProxyType(read_npz(workdir / STATE))
    except (OSError, ValueError) as error:
        raise InputError(f"{workdir / STATE} cannot be read ({error}).") from error

    def leaf(path: tuple[Any, ...], shape: jax.ShapeDtypeStruct) -> jax.Array:
        stored = arrays.get(jax.tree_util.keystr(path))
        if stored is None and not is_kept(path):
            return jnp.zeros(shape.shape, shape.dtype)
        if stored is None or (stored.shape, stored.dtype) != (shape.shape, shape.dtype):
            raise InputError(
                f"{workdir / STATE} does not fit this version of the model: "
                f"{jax.tree_util.keystr(path).lstrip('.')} is missing or of another shape."
            )
        return jnp.asarray(stored)

    return jax.tree.map_with_path(leaf, abstract)
