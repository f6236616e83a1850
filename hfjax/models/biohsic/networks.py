"""Networks as tuples of layers, each a Flax module that the local rules apply by itself."""

from collections.abc import Callable
from typing import Any, Protocol

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from hfjax import check
from hfjax.networks import product

Params = Any  # of a layer, as `init` of its module returns them; of a network, a tuple of those
LayerState = Any  # arrays [sample, unit] that a layer keeps between time steps; () for none


class Layer(nn.Module):
    """A layer: apply(params, u, below [sample, ...]) -> (z [sample, ...], u).

    u is the layer's state, which it keeps for each sample from one time step to the next.
    """

    def rest(self, num_samples: int) -> LayerState:
        """The state at rest. This layer keeps none."""
        del num_samples
        return ()


class Network(Protocol):
    """(num_classes) -> layers. The last one gives the outputs [sample, class]; the others are
    hidden and learn by HSIC. Made by `mlp`, `cnn` or `lif_mlp`."""

    def __call__(self, num_classes: int, /) -> tuple[Layer, ...]:
        """The layers for a data set with this number of classes."""


# (u of all layers) -> u: what happens to the state between windows.
BetweenWindows = Callable[[tuple], tuple]

# --- Layers ---


def flat(x: jax.Array) -> jax.Array:
    """[sample, ...] -> [sample, number]."""
    return x.reshape(x.shape[0], -1)


def normalised(a: jax.Array) -> jax.Array:
    """layer_norm(relu(a)): (r - mean) / sqrt(variance + 1e-6) over the last axis, r = max(a, 0).

    Without scale or bias. Equal to `flax.linen.LayerNorm`, which makes the rule a fifth slower in
    an MLP on the CPU: XLA computes the gradient of the norm anew for each weight, in its fusion of
    the rank-one gradient with the optimizer, and that of Flax's formula has more operations.
    """
    r = nn.relu(a)
    centred = r - jnp.mean(r, axis=-1, keepdims=True)
    return centred / jnp.sqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + 1e-6)


def average_pool_2x2(images: jax.Array) -> jax.Array:
    """Means of 2 x 2 blocks: images [sample, x, y, channel] -> [sample, x/2, y/2, channel].

    Raises ValueError where a side is odd: `flax.linen.avg_pool` would drop its last pixels.
    """
    _, width, height, _ = images.shape
    if width % 2 or height % 2:
        raise ValueError(
            f"2 x 2 pooling needs even sides, but the layer below has {width} x {height}; the "
            "sides of the images must be divisible by 2 once for each convolution"
        )
    return nn.avg_pool(images, (2, 2), strides=(2, 2))


def convolution_as_product(
    images: jax.Array, kernel: jax.Array, *settings: Any, **more: Any
) -> jax.Array:
    """3 x 3 convolution with zeros around the images, as one product of all patches:
    [sample, x, y, channel], kernel [3, 3, channel, out] -> [sample, x, y, out].

    Takes the place of `jax.lax.conv_general_dilated` in `flax.linen.Conv`, whose further arguments
    are its defaults and ignored here. On the CPU it is as fast for one model. In a population it is
    3.5 times as fast, since XLA has to make a grouped convolution of the other. Rounded as in
    `networks.product`.
    """
    del settings, more
    chex.assert_shape(kernel, (3, 3, images.shape[-1], None))
    samples, width, height, channels = images.shape
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    patches = jnp.concatenate(
        [padded[:, i : i + width, j : j + height] for i in range(3) for j in range(3)], axis=-1
    )
    out = product(patches.reshape(-1, 9 * channels), kernel.reshape(9 * channels, -1))
    return out.reshape(samples, width, height, -1)


class Dense(Layer):
    """z = layer_norm(relu(z_below W + b)): below [sample, ...] -> [sample, size]."""

    size: int

    @nn.compact
    def __call__(self, u: LayerState, below: jax.Array) -> tuple[jax.Array, LayerState]:
        """Activity, and the state unchanged."""
        return normalised(nn.Dense(self.size)(flat(below))), u


class Convolution(Layer):
    """z = layer_norm(relu(3 x 3 convolution)), the norm over channels.

    below [sample, x, y, channel] -> [sample, x, y, channels]; with `pooled`, `average_pool_2x2`
    comes first. Raises ValueError for inputs that are not images.
    """

    channels: int
    pooled: bool = False

    @nn.compact
    def __call__(self, u: LayerState, below: jax.Array) -> tuple[jax.Array, LayerState]:
        """Activity, and the state unchanged."""
        if below.ndim != 4:
            raise ValueError(
                "a convolution needs images [x, y, channel], but the inputs have the shape "
                f"{below.shape[1:]}"
            )
        if self.pooled:
            below = average_pool_2x2(below)
        convolution = nn.Conv(self.channels, (3, 3), conv_general_dilated=convolution_as_product)
        return normalised(convolution(below)), u


class Outputs(Layer):
    """z = z_below W + b: below [sample, ...] -> [sample, class]; `pooled` as in `Convolution`."""

    num_classes: int
    pooled: bool = False

    @nn.compact
    def __call__(self, u: LayerState, below: jax.Array) -> tuple[jax.Array, LayerState]:
        """Outputs, and the state unchanged."""
        if self.pooled:
            below = average_pool_2x2(below)
        return nn.Dense(self.num_classes)(flat(below)), u


# --- Networks ---


def mlp(*, hidden: tuple[int, ...] = (128, 64)) -> Network:
    """A `Dense` layer for each size in `hidden`, and linear outputs.

    hidden: units of each hidden layer.
    With no hidden layer this is the single linear layer. Raises ValueError for a size below 1.
    """
    check.at_least(1, **{f"hidden[{i}]": size for i, size in enumerate(hidden)})
    return lambda num_classes: (*(Dense(size) for size in hidden), Outputs(num_classes))


def cnn(*, channels: tuple[int, ...] = (128, 256)) -> Network:
    """A `Convolution` for each number of channels, with 2 x 2 pooling after each, and outputs.

    channels: output channels of each convolution.
    For images [x, y, channel] whose sides can be halved once for each convolution. Raises
    ValueError for no layers and for a size below 1, and `init_params` for inputs of another kind.
    """
    check.at_least(1, **{f"channels[{i}]": size for i, size in enumerate(channels)})
    check.at_least(1, number_of_layers=len(channels))
    return lambda num_classes: (
        *(Convolution(size, pooled=i > 0) for i, size in enumerate(channels)),
        Outputs(num_classes, pooled=True),
    )


def init_params(key: jax.Array, layers: tuple[Layer, ...], x: jax.ShapeDtypeStruct) -> tuple:
    """Parameters of all layers for inputs like x [sample, ...].

    Weights are normal (cut at two standard deviations) with variance 1 / inputs, biases 0.
    Source: Flax `Dense` and `Conv`, LeCun's initialisation.
    """
    below, params = x, []
    for layer_key, layer in zip(jax.random.split(key, len(layers)), layers, strict=True):
        u = jax.eval_shape(lambda layer=layer: layer.rest(x.shape[0]))
        params.append(layer.lazy_init(layer_key, u, below))
        below, _ = jax.eval_shape(layer.apply, params[-1], u, below)
    return tuple(params)


def at_rest(layers: tuple[Layer, ...], num_samples: int) -> tuple:
    """The state of all layers at rest."""
    return tuple(layer.rest(num_samples) for layer in layers)


def forward(
    layers: tuple[Layer, ...], params: tuple, u: tuple, x: jax.Array
) -> tuple[tuple, tuple]:
    """One time step: activity [sample, ...] of all layers, outputs last, and their new state."""
    z, activity, states = x, [], []
    for layer, p, u_l in zip(layers, params, u, strict=True):
        z, new_u = layer.apply(p, u_l, z)
        activity.append(z)
        states.append(new_u)
    return tuple(activity), tuple(states)


# --- Between windows ---


def carry_on(u: tuple) -> tuple:
    """The layers' state continues from window to window, slot by slot, as published.

    A slot then starts with the state left by another sample: the previous one, where windows slide
    by one.
    """
    return u


def from_rest(u: tuple) -> tuple:
    """All layers start each window at rest."""
    return jax.tree.map(jnp.zeros_like, u)
