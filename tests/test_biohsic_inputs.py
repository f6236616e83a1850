"""Scaling and augmentation of inputs."""

import jax
import jax.numpy as jnp
import numpy as np

from hfjax.models import biohsic
from tests.biohsic_small import jit


def test_bytes_become_numbers_about_zero():
    np.testing.assert_allclose(
        biohsic.pixels(jnp.array([0, 51, 255], jnp.uint8)), [-1, -0.6, 1], rtol=1e-6
    )
    white = biohsic.cifar_pixels(jnp.full((1, 1, 3), 255, jnp.uint8))[0, 0]
    np.testing.assert_allclose(
        white, [(1 - 0.4914) / 0.247, (1 - 0.4822) / 0.243, (1 - 0.4465) / 0.261], rtol=1e-5
    )


def test_bytes_over_255_lie_between_0_and_1():
    np.testing.assert_allclose(
        biohsic.over_255(jnp.array([0.0, 51.0, 255.0])), [0, 0.2, 1], rtol=1e-6
    )


def test_crop_and_flip_shifts_all_images_alike_and_mirrors_some():
    images = jax.random.normal(jax.random.key(0), (4, 5, 5, 2))
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    keys = jax.random.split(jax.random.key(0), 60)
    windows = np.asarray(jit(jax.vmap(biohsic.crop_and_flip, (0, None)))(keys, images))
    shifts, mirrored, mixed = set(), [], 0
    for got in windows:
        possible = []
        for row in range(3):
            for column in range(3):
                crop = padded[:, row : row + 5, column : column + 5]
                plain = [np.array_equal(a, b) for a, b in zip(got, crop, strict=True)]
                turned = [np.array_equal(a, b[:, ::-1]) for a, b in zip(got, crop, strict=True)]
                if all(p or t for p, t in zip(plain, turned, strict=True)):
                    possible.append((row, column))
                    mirrored += turned
                    mixed += any(turned) and not all(turned)
        assert len(possible) == 1
        shifts.update(possible)
    assert len(shifts) == 9
    assert 0.35 < np.mean(mirrored) < 0.65
    assert mixed > 40  # of 60 windows; 52 are expected where each image has its own coin
