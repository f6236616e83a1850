"""How a data set becomes the input of a network, and the state of its layers between windows."""

import jax
import jax.numpy as jnp
import numpy as np


def pixels(images: jax.Array) -> jax.Array:
    """Bytes 0..255 -> -1..1, as published for MNIST: (x / 255 - 0.5) / 0.5; of any shape [...]."""
    return images.astype(float) / 127.5 - 1


def cifar_pixels(images: jax.Array) -> jax.Array:
    """Bytes [..., 3] -> each colour with mean 0 and variance 1 over CIFAR-10, as published.

    Raises ValueError where the last axis is not three colours.
    """
    if images.shape[-1:] != (3,):
        raise ValueError(
            f"cifar_pixels needs images of 3 colours, but the inputs are {images.shape[1:]}"
        )
    mean, std = np.array([0.4914, 0.4822, 0.4465]), np.array([0.247, 0.243, 0.261])
    scale = (1 / (255 * std)).reshape((1,) * (images.ndim - 1) + (3,))
    offset = (mean / std).reshape(scale.shape)
    images = images.astype(float)
    return images * scale.astype(images.dtype) - offset.astype(images.dtype)


def no_augmentation(key: jax.Array, images: jax.Array) -> jax.Array:
    """The images unchanged."""
    del key
    return images


def crop_and_flip(key: jax.Array, images: jax.Array) -> jax.Array:
    """Images [window, x, y, channel] shifted by -1..1 in x and y, each mirrored or not.

    Zeros come in at the rim. All images of a window are shifted alike, as in the original, which
    pads by 2 in all and crops the batch. The mirror turns the second axis, a row's pixels.
    Raises ValueError where inputs are not images.
    """
    if images.ndim != 4:
        raise ValueError(
            f"crop_and_flip needs images [x, y, channel], but the inputs are {images.shape[1:]}"
        )
    shift_key, flip_key = jax.random.split(key)
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    row, column = jax.random.randint(shift_key, (2,), 0, 3)
    cropped = jax.lax.dynamic_slice(padded, (0, row, column, 0), images.shape)
    mirrored = jax.random.bernoulli(flip_key, shape=(len(images), 1, 1, 1))
    return jnp.where(mirrored, cropped[:, :, ::-1], cropped)


def carry_on(u: tuple) -> tuple:
    """The layers' state goes on from one window to the next, slot by slot, as published.

    A slot then holds the state that another sample left: the one before, where windows slide by
    one.
    """
    return u


def from_rest(u: tuple) -> tuple:
    """Each window starts with all layers at rest."""
    return jax.tree.map(jnp.zeros_like, u)


def over_255(inputs: jax.Array) -> jax.Array:
    """The inputs divided by 255, as published; an oddity of the original, meant for bytes.

    All inputs are then so near each other that their kernel matrix is nearly 1 everywhere, and
    HSIC(x, z) about 3e-6: the input term of the objective does nothing.
    """
    return inputs / 255
