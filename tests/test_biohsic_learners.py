"""The three-factor rule and its baselines against equations written out."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from hfjax.models import biohsic
from tests.biohsic_small import jit, numpy_dense_layer, same, setting, unflattened, weights
from tests.test_kernels import reference_signal

BOTTLENECK = biohsic.Bottleneck(gamma=2.0, sigma_x=0.5, sigma_y=0.3, sigma_z=0.7)
MLP = biohsic.mlp(hidden=(7, 5))
LEARNERS = (biohsic.biological_rule, biohsic.hsic_gradient, biohsic.back_propagation)


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


@functools.cache
def learned(learner):
    """A learner as one compiled function of (params, u, window), for the layers of MLP."""
    layers = MLP(3)
    return jit(lambda params, u, window: learner(layers, params, u, window, BOTTLENECK))


def test_the_rule_equals_the_equations(float64):
    _, (params, u, window) = setting(MLP, (4,), BOTTLENECK)
    update = learned(biohsic.biological_rule)(params, u, window)
    x, y, Kx, Ky = map(np.asarray, window)
    below = x
    for number, layer_params in enumerate(params[:-1]):
        a, std, z = numpy_dense_layer(layer_params, below)
        xi = reference_signal(Kx, Ky, z, 2.0, 0.7)
        # Layer norm and relu, backwards, for the newest sample.
        back = (xi - xi.mean() - z[-1] * (xi * z[-1]).mean()) / std[-1]
        back *= a[-1] > 0
        kernel, bias = weights(update.gradient[number])
        np.testing.assert_allclose(kernel, np.outer(below[-1], back), rtol=1e-9, atol=1e-15)
        np.testing.assert_allclose(bias, back, rtol=1e-9, atol=1e-15)
        np.testing.assert_allclose(
            update.scalars[f"signal_norm_{number + 1}"], np.linalg.norm(xi), rtol=1e-10
        )
        below = z
    kernel, bias = weights(params[-1])
    outputs = below @ kernel + bias
    p = scipy.special.softmax(outputs, axis=1)
    np.testing.assert_allclose(update.outputs, outputs, rtol=1e-10)
    np.testing.assert_allclose(
        weights(update.gradient[-1])[0], below.T @ (p - y) / len(x), rtol=1e-9, atol=1e-15
    )


@pytest.mark.parametrize(
    ("network", "input_shape"),
    [(biohsic.cnn(channels=(3, 4)), (8, 4, 2)), (biohsic.lif_mlp(hidden=(6, 5)), (3,))],
)
def test_the_rule_moves_each_layer_along_its_signal_at_the_newest_sample(
    float64, network, input_shape
):
    layers, (params, u, window) = setting(network, input_shape, BOTTLENECK)
    u = jax.tree.map(lambda a: a + 0.1 * jnp.arange(a.size).reshape(a.shape) % 0.7, u)

    @jit
    def learn(params):
        update = biohsic.biological_rule(layers, params, u, window, BOTTLENECK)
        return update, *biohsic.forward(layers, params, u, window.x)

    update, activity, states = learn(params)
    same(states, update.u, rtol=1e-12, atol=1e-15)
    signals = [
        reference_signal(*map(np.asarray, (window.Kx, window.Ky, z)), 2.0, 0.7)
        for z in activity[:2]
    ]

    @jit
    def along(params):
        def moved(number, layer_params):
            changed = (*params[:number], layer_params, *params[number + 1 :])
            z = biohsic.forward(layers, changed, u, window.x)[0][number][-1]
            return jnp.sum(signals[number] * z)

        return [jax.grad(functools.partial(moved, number))(params[number]) for number in (0, 1)]

    for got, expected in zip(update.gradient[:2], along(params), strict=True):
        for a, b in zip(weights(got), weights(expected), strict=True):
            assert np.abs(b).max() > 1e-6
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-14)


def test_hsic_gradient_is_that_of_each_layers_own_objective(float64):
    layers, (params, u, window) = setting(MLP, (4,), BOTTLENECK)
    x, y, Kx, Ky = window
    update = learned(biohsic.hsic_gradient)(params, u, window)
    N, H = len(x), np.eye(len(x)) - 1 / len(x)

    def own_objective(params, number):
        z = biohsic.forward(layers, params, u, x)[0][number]
        if number == 2:
            return -jnp.mean(jnp.sum(y * jax.nn.log_softmax(z), axis=1))
        distance_sq = jnp.sum((z[:, None] - z[None]) ** 2, axis=-1)
        Kz = jnp.exp(-distance_sq / (2 * 0.7**2 * z.shape[1]))
        return jnp.trace((Kx - 2.0 * Ky) @ H @ Kz @ H) / (N - 1) ** 2

    gradients = jit(
        lambda params: [
            jax.grad(functools.partial(own_objective, number=n))(params) for n in range(3)
        ]
    )(params)
    for number, gradient in enumerate(gradients):
        same(update.gradient[number], gradient[number], rtol=1e-8, atol=1e-14)
        if number:  # the objective does depend on the layers below, whose gradient is cut
            assert np.abs(weights(gradient[0])[0]).max() > 1e-6


@pytest.mark.parametrize("learner", LEARNERS)
def test_a_gradient_crosses_layers_in_back_propagation_alone(float64, learner):
    _, (params, u, window) = setting(MLP, (4,), BOTTLENECK)
    before = learned(learner)(params, u, window).gradient
    for above in (1, 2):
        changed = [*params]
        changed[above] = jax.tree.map(lambda a: a + 0.5 * jnp.cos(a * 99), params[above])
        after = learned(learner)(tuple(changed), u, window).gradient
        assert not np.allclose(weights(after[above])[0], weights(before[above])[0])
        unchanged = np.array_equal(weights(after[0])[0], weights(before[0])[0])
        assert unchanged == (learner is not biohsic.back_propagation)


def test_back_propagation_descends_the_cross_entropy(float64):
    _, (params, u, window) = setting(MLP, (4,), BOTTLENECK)
    update = learned(biohsic.back_propagation)(params, u, window)
    x, y = map(np.asarray, window[:2])

    def loss(params):
        z = x
        for layer_params in params[:-1]:
            z = numpy_dense_layer(layer_params, z)[2]
        kernel, bias = weights(params[-1])
        return -np.mean(np.sum(y * scipy.special.log_softmax(z @ kernel + bias, axis=1), axis=1))

    direction = jax.tree.map(lambda a: np.asarray(unflattened(a.shape)), params)
    ahead, behind = (
        loss(jax.tree.map(lambda a, d, e=e: np.asarray(a) + e * d, params, direction))
        for e in (1e-6, -1e-6)
    )
    slope = sum(
        np.sum(g * d)
        for g, d in zip(*map(jax.tree.leaves, (update.gradient, direction)), strict=True)
    )
    np.testing.assert_allclose((ahead - behind) / 2e-6, slope, rtol=1e-6)


@pytest.mark.parametrize("learner", LEARNERS[1:])
def test_the_baselines_hand_on_the_state_of_leaky_layers(learner):
    layers, (params, u, window) = setting(biohsic.lif_mlp(hidden=(6, 5)), (3,), BOTTLENECK)
    u = jax.tree.map(lambda a: a + jnp.cos(jnp.arange(a.size)).reshape(a.shape), u)
    update = jit(lambda *args: learner(layers, *args, BOTTLENECK))(params, u, window)
    activity, states = biohsic.forward(layers, params, u, window.x)
    same((update.u, update.outputs), (states, activity[-1]), rtol=1e-5, atol=1e-6)
