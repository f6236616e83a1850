"""The Flax layers of biohsic against equations written out in NumPy, and their first weights."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from hfjax.models import biohsic
from hfjax.models.biohsic import networks
from tests.biohsic_small import jit, numpy_dense_layer, numpy_layer_norm, setting, weights
from tests.small import in_bfloat16


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def test_an_mlp_equals_the_equations(float64):
    layers, (params, u, window) = setting(biohsic.mlp(hidden=(7, 5)), (2, 2))
    activity, states = jit(partial(biohsic.forward, layers))(params, u, window.x)
    z = np.asarray(window.x)
    for layer_params, got in zip(params[:-1], activity[:-1], strict=True):
        z = numpy_dense_layer(layer_params, z)[2]
        np.testing.assert_allclose(got, z, rtol=1e-10)
    kernel, bias = weights(params[-1])
    np.testing.assert_allclose(activity[-1], z @ kernel + bias, rtol=1e-10)
    assert states == u == ((), (), ())


def numpy_pool(images):
    samples, width, height, channels = images.shape
    return images.reshape(samples, width // 2, 2, height // 2, 2, channels).mean(axis=(2, 4))


def numpy_convolution(params, images):
    kernel, bias = weights(params)
    _, width, height, _ = images.shape
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return bias + sum(
        padded[:, i : i + width, j : j + height] @ kernel[i, j] for i in range(3) for j in range(3)
    )


def test_a_cnn_equals_the_equations(float64):
    layers, (params, u, window) = setting(biohsic.cnn(channels=(3, 4)), (8, 4, 2))
    params = jax.tree.map(lambda a: a + 0.1 * jnp.cos(jnp.arange(a.size)).reshape(a.shape), params)
    activity, _ = jit(partial(biohsic.forward, layers))(params, u, window.x)
    first = numpy_layer_norm(np.maximum(numpy_convolution(params[0], np.asarray(window.x)), 0))[0]
    second = np.maximum(numpy_convolution(params[1], numpy_pool(first)), 0)
    second = numpy_layer_norm(second)[0]
    kernel, bias = weights(params[2])
    outputs = numpy_pool(second).reshape(len(second), -1) @ kernel + bias
    for got, expected in zip(activity, (first, second, outputs), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)


def test_the_convolution_as_a_product_equals_that_of_flax():
    """Activity and gradients."""
    keys = jax.random.split(jax.random.key(0), 2)
    images = jax.random.normal(keys[0], (2, 6, 4, 3))
    ours = nn.Conv(5, (3, 3), conv_general_dilated=networks.convolution_as_product)
    theirs = nn.Conv(5, (3, 3))
    params = jit(theirs.init)(keys[1], images)

    def both(module):
        def loss(params, images):
            out = module.apply(params, images)
            return jnp.sum(jnp.sin(out)), out

        return jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(params, images)

    for got, expected in zip(*map(jax.tree.leaves, (both(ours), both(theirs))), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.optimized  # XLA's simplifications must not undo the rounding
def test_bfloat16_rounds_images_and_kernel_of_a_convolution():
    rng = np.random.default_rng(0)
    images, kernel = rng.normal(size=(2, 6, 4, 3)), rng.normal(size=(3, 3, 3, 5))

    def convolved(images, kernel):
        return numpy_convolution({"params": {"": {"kernel": kernel, "bias": np.zeros(5)}}}, images)

    with jax.default_matmul_precision("bfloat16"):
        ours = jax.jit(networks.convolution_as_product)(jnp.float32(images), jnp.float32(kernel))
    expected = convolved(in_bfloat16(images), in_bfloat16(kernel))
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)
    assert np.abs(ours - convolved(images, kernel)).max() > 1e-3


def test_the_norm_equals_that_of_flax():
    """Of rectified drives, and its gradient."""
    a = 3 + 2 * jax.random.normal(jax.random.key(0), (4, 7))
    norm = nn.LayerNorm(use_scale=False, use_bias=False)

    def theirs(a):
        return norm.apply({}, nn.relu(a))

    def slope(f):
        return jit(jax.grad(lambda a: jnp.sum(jnp.sin(f(a)))))(a)

    np.testing.assert_allclose(networks.normalised(a), theirs(a), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(slope(networks.normalised), slope(theirs), rtol=1e-3, atol=1e-5)


def test_pooling_refuses_odd_sides():
    images = jnp.arange(8.0).reshape(1, 2, 4, 1)
    np.testing.assert_allclose(networks.average_pool_2x2(images).ravel(), [2.5, 4.5])
    with pytest.raises(ValueError, match="even sides, but the layer below has 3 x 4"):
        networks.average_pool_2x2(jnp.zeros((2, 3, 4, 1)))


@pytest.mark.parametrize(
    ("network", "input_shape", "fans"),
    [
        (biohsic.mlp(hidden=(300, 200)), (20, 20), (400, 300, 200)),
        (biohsic.cnn(channels=(60, 80)), (4, 4, 50), (9 * 50, 9 * 60, 80)),
        (biohsic.lif_mlp(hidden=(300,)), (400,), (400, 300)),
    ],
)
def test_weights_begin_normal_with_the_variance_of_one_over_their_inputs(
    network, input_shape, fans
):
    x = jax.ShapeDtypeStruct((2, *input_shape), jnp.float32)
    init = jit(lambda key: biohsic.init_params(key, network(30), x))
    for params, fan in zip(init(jax.random.key(0)), fans, strict=True):
        kernel, bias = weights(params)
        assert not np.any(bias)
        assert np.prod(kernel.shape[:-1]) == fan
        np.testing.assert_allclose(kernel.var(), 1 / fan, rtol=0.04)
        # Cut at two standard deviations of the normal distribution before the cut.
        np.testing.assert_allclose(np.abs(kernel).max() * np.sqrt(fan), 2 / 0.8796, rtol=0.01)


def test_networks_refuse_impossible_sizes():
    for call, message in (
        (lambda: biohsic.mlp(hidden=(4, 0)), r"hidden\[1\] must be at least 1, but is 0"),
        (lambda: biohsic.cnn(channels=()), "number_of_layers must be at least 1"),
        (lambda: biohsic.cnn(channels=(0,)), r"channels\[0\] must be at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
