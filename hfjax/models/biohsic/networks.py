"""Networks as their layers: MLP and CNN."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from hfjax import check, networks

# (params, u, below [sample, ...]) -> (z [sample, ...], u). u is what the layer keeps for each
# sample from one time step to the next, () where it keeps nothing.
Layer = Callable[[Any, Any, jax.Array], tuple[jax.Array, Any]]


class Network(NamedTuple):
    """A network as its layers; made by `mlp`, `cnn`, or `lif.lif_mlp`.

    init (key, *, input_shape, num_classes) -> params, a tuple with an entry for each layer.
    rest (params, num_samples) -> u, likewise: the layers' state at rest.
    layers: the last one gives the outputs [sample, class], the others learn by HSIC.
    """

    init: Callable[..., tuple]
    rest: Callable[[tuple, int], tuple]
    layers: tuple[Layer, ...]


def _flat(x: jax.Array) -> jax.Array:
    return x.reshape(x.shape[0], -1)


def _normalised(a: jax.Array) -> jax.Array:
    return networks.layer_norm(networks.relu(a))


def _dense_layer(params: networks.DenseParams, u: Any, below: jax.Array):
    return _normalised(networks.dense(params, _flat(below))), u


def _conv_layer(params: networks.DenseParams, u: Any, below: jax.Array):
    return _normalised(networks.conv_3x3(params, below)), u


def _pooled_conv_layer(params: networks.DenseParams, u: Any, below: jax.Array):
    return _conv_layer(params, u, networks.average_pool_2x2(below))


def _outputs(params: networks.DenseParams, u: Any, below: jax.Array):
    return networks.dense(params, _flat(below)), u


def _pooled_outputs(params: networks.DenseParams, u: Any, below: jax.Array):
    return _outputs(params, u, networks.average_pool_2x2(below))


def _keeps_nothing(params: tuple, num_samples: int) -> tuple:
    del num_samples
    return ((),) * len(params)


def dense_stack(
    key: jax.Array, *, input_shape: tuple[int, ...], num_classes: int, hidden: tuple[int, ...]
) -> tuple[networks.DenseParams, ...]:
    """Parameters of dense layers of the sizes `hidden`, and of the outputs."""
    sizes = (int(np.prod(input_shape)), *hidden, num_classes)
    keys = jax.random.split(key, len(sizes) - 1)
    return tuple(
        networks.dense_init(k, num_in=num_in, num_out=num_out)
        for k, num_in, num_out in zip(keys, sizes[:-1], sizes[1:], strict=True)
    )


def mlp(*, hidden: tuple[int, ...] = (128, 64)) -> Network:
    """z = layer_norm(relu(z_below W + b)) for each size in `hidden`, and linear outputs.

    With no hidden layer this is the single linear layer. Raises ValueError for a size below 1.
    """
    check.at_least(1, **{f"hidden[{i}]": size for i, size in enumerate(hidden)})
    return Network(
        init=partial(dense_stack, hidden=tuple(hidden)),
        rest=_keeps_nothing,
        layers=(_dense_layer,) * len(hidden) + (_outputs,),
    )


def cnn(*, channels: tuple[int, ...] = (128, 256)) -> Network:
    """z = layer_norm(relu(3 x 3 convolution)), the norm over channels; 2 x 2 means between layers.

    For images [x, y, channel] whose sides can be halved as often as there are layers; other inputs
    raise ValueError, as do no layers, and a size below 1.
    """
    check.at_least(1, **{f"channels[{i}]": size for i, size in enumerate(channels)})
    check.at_least(1, number_of_layers=len(channels))

    def init(key: jax.Array, *, input_shape: tuple[int, ...], num_classes: int):
        halvings = 2 ** len(channels)
        if len(input_shape) != 3 or input_shape[0] % halvings or input_shape[1] % halvings:
            raise ValueError(
                f"{len(channels)} convolutions with pooling need images [x, y, channel] with sides "
                f"that are multiples of {halvings}, but the inputs have the shape {input_shape}"
            )
        keys = jax.random.split(key, len(channels) + 1)
        convolutions = tuple(
            networks.dense_init(k, num_in=9 * num_in, num_out=num_out)
            for k, num_in, num_out in zip(
                keys[:-1], (input_shape[2], *channels[:-1]), channels, strict=True
            )
        )
        pixels = (input_shape[0] // halvings) * (input_shape[1] // halvings)
        outputs = networks.dense_init(keys[-1], num_in=pixels * channels[-1], num_out=num_classes)
        return (*convolutions, outputs)

    return Network(
        init=init,
        rest=_keeps_nothing,
        layers=(_conv_layer, *(_pooled_conv_layer,) * (len(channels) - 1), _pooled_outputs),
    )
