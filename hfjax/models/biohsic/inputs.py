"""How samples of a data set become inputs of a network: scaling and augmentation."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

# (inputs [sample, ...] as the data set has them) -> x [sample, ...], floating point.
Encode = Callable[[jax.Array], jax.Array]
# (key, inputs [window, ...]) -> inputs [window, ...], changed at random.
Augment = Callable[[jax.Array, jax.Array], jax.Array]


def pixels(images: jax.Array) -> jax.Array:
    """(x / 255 - 0.5) / 0.5, as published for MNIST: bytes 0..255 -> -1..1, any shape."""
    return images.astype(float) / 127.5 - 1


def cifar_pixels(images: jax.Array) -> jax.Array:
    """(x / 255 - mean) / std, as published, by the statistics of each colour over CIFAR-10.

    Bytes [..., 3] -> [..., 3]. Raises ValueError where the last axis is not three colours.
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
    """Shift images [window, x, y, channel] by -1, 0 or 1 pixels in x and y; mirror half of them.

    The border is filled with zeros. All images of a window have the same shift, as in the original,
    which pads the batch by one pixel on each side and crops it. The mirror reverses axis y, the
    pixels of a row. Raises ValueError where inputs are not images.
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


def over_255(inputs: jax.Array) -> jax.Array:
    """x / 255, any shape, as published; the original divides points in the plane as if they were
    bytes.

    All inputs are then so close that their kernel matrix is nearly 1 everywhere and HSIC(x, z) is
    about 3e-6: the input term of the objective has no effect.
    """
    return inputs / 255
