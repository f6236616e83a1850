"""Adversaries: the learned embedding in which predicted and target samples are compared."""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from flax import linen as nn

from hfjax import check, networks


class InitAdversary(Protocol):
    """(key, *, dim, num_outer) -> (params, spectral)."""

    def __call__(self, key: jax.Array, /, *, dim: int, num_outer: int) -> tuple[Any, Any]:
        """Parameters, and the vectors of the power iteration (() if there are none)."""


class Embed(Protocol):
    """(params, spectral, samples [batch, outer, inner, dim]) -> (embedded, spectral)."""

    def __call__(self, params: Any, spectral: Any, samples: jax.Array, /) -> tuple[jax.Array, Any]:
        """Embedded samples [batch, outer, inner, out], and the new vectors."""


class Adversary(NamedTuple):
    """An embedding trained to make predicted and target samples differ.

    learns: whether it has parameters to train.
    """

    init: InitAdversary
    embed: Embed
    learns: bool = True


def residual_adversary(
    *,
    num_units: int = 256,
    num_blocks: int = 2,
    layers_per_block: int = 2,
    num_outputs: int = 8,
    separate: bool = False,
) -> Adversary:
    """Residual network with spectral normalisation: every matrix has a largest singular value of 1.

    `networks.ResidualMLP` in Flax's SpectralNorm, with one step of power iteration at each
    embedding; no gradient flows through that step.

    num_units         units of each hidden layer.
    num_blocks        number of residual blocks.
    layers_per_block  layers in a residual block.
    num_outputs       dimensions of an embedded sample.
    separate          whether each atom has its own network.

    Raises ValueError where a size is below 1.
    Source: distributional-sr `ResidualMLP`; Miyato et al. 2018.
    """
    check.at_least(
        1,
        num_units=num_units,
        num_blocks=num_blocks,
        layers_per_block=layers_per_block,
        num_outputs=num_outputs,
    )
    network = nn.SpectralNorm(
        networks.ResidualMLP(num_units, num_blocks, layers_per_block, num_outputs),
        collection_name="spectral",
    )

    def init(key: jax.Array, sample: jax.Array) -> tuple[Any, Any]:
        variables = network.init(key, sample, update_stats=False)
        return variables["params"], variables["spectral"]

    def embed(params: Any, spectral: Any, samples: jax.Array) -> tuple[jax.Array, Any]:
        variables = {"params": params, "spectral": spectral}
        embedded, new = network.apply(variables, samples, update_stats=True, mutable=["spectral"])
        return embedded, new["spectral"]

    return _adversary(init, embed, separate)


def mlp_adversary(
    *, hidden: tuple[int, ...] = (256, 256, 256), num_outputs: int = 8, separate: bool = False
) -> Adversary:
    """`networks.MLP`, without a bound on its slope.

    hidden       units of each hidden layer.
    num_outputs  dimensions of an embedded sample.
    separate     whether each atom has its own network.

    Raises ValueError where a size is below 1.
    """
    check.at_least(
        1, num_outputs=num_outputs, **{f"hidden[{i}]": size for i, size in enumerate(hidden)}
    )
    network = networks.MLP((*hidden, num_outputs))

    def init(key: jax.Array, sample: jax.Array) -> tuple[Any, Any]:
        return network.init(key, sample)["params"], ()

    def embed(params: Any, spectral: Any, samples: jax.Array) -> tuple[jax.Array, Any]:
        embedded: Any = network.apply({"params": params}, samples)
        return embedded, spectral

    return _adversary(init, embed, separate)


def no_adversary() -> Adversary:
    """Samples are compared as they are."""
    return Adversary(
        lambda key, *, dim, num_outer: ((), ()),
        lambda params, spectral, samples: (samples, spectral),
        learns=False,
    )


class _InitNetwork(Protocol):
    def __call__(self, key: jax.Array, sample: jax.Array, /) -> tuple[Any, Any]: ...


def _adversary(init_network: _InitNetwork, embed_rows: Embed, separate: bool) -> Adversary:
    """One network for all atoms, or one for each, from a network of samples [sample, dim]."""

    def embed(params: Any, spectral: Any, samples: jax.Array) -> tuple[jax.Array, Any]:
        # One leading axis: its weight gradient is then a plain matrix product.
        rows, spectral = embed_rows(params, spectral, samples.reshape(-1, samples.shape[-1]))
        return rows.reshape(*samples.shape[:-1], rows.shape[-1]), spectral

    def init(key: jax.Array, *, dim: int, num_outer: int) -> tuple[Any, Any]:
        sample = jnp.zeros((1, dim))
        if separate:
            return jax.vmap(init_network, (0, None))(jax.random.split(key, num_outer), sample)
        return init_network(key, sample)

    if separate:
        return Adversary(init, jax.vmap(embed, in_axes=(0, 0, 1), out_axes=(1, 0)))
    return Adversary(init, embed)
