"""Small networks, windows and tasks for the tests of biohsic."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from hfjax import networks
from hfjax.data import labelled
from hfjax.models import biohsic

# Tests wait for the compiler, not for what it makes.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
NUM_CLASSES = 3


def setting(network, input_shape, bottleneck=None, size=6):
    """Layers, and (params, state at rest, window) for them, all of the precision in use."""
    layers = network(NUM_CLASSES)

    def make(key):
        keys = jax.random.split(key, 3)
        x = jax.random.normal(keys[1], (size, *input_shape))
        y = jax.nn.one_hot(jax.random.randint(keys[2], (size,), 0, NUM_CLASSES), NUM_CLASSES)
        params = biohsic.init_params(keys[0], layers, jax.ShapeDtypeStruct(x.shape, x.dtype))
        params = jax.tree.map(lambda a: a.astype(x.dtype), params)
        window = biohsic.see(x, y, bottleneck or biohsic.Bottleneck())
        return params, biohsic.at_rest(layers, size), window

    return layers, jit(make)(jax.random.key(0))


def weights(params):
    """kernel and bias of a layer."""
    (params,) = params["params"].values()
    return np.asarray(params["kernel"]), np.asarray(params["bias"])


def numpy_layer_norm(r):
    """(layer norm, standard deviation) of rows."""
    std = np.sqrt(r.var(axis=-1, keepdims=True) + 1e-6)
    return (r - r.mean(axis=-1, keepdims=True)) / std, std


def numpy_dense_layer(params, below):
    """Drive, standard deviation of the rectified drive, and activity."""
    kernel, bias = weights(params)
    a = below.reshape(len(below), -1) @ kernel + bias
    z, std = numpy_layer_norm(np.maximum(a, 0))
    return a, std, z


def blobs(num_train=40, shape=(3,), num_classes=NUM_CLASSES, num_test=20):
    """Labelled data: a Gaussian for each class."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, num_classes, num_train + num_test)
    inputs = rng.normal(size=(num_train + num_test, *shape)) + labels.reshape(-1, *[1] * len(shape))
    inputs = inputs.astype(np.float32)
    return labelled.from_arrays(
        inputs[:num_train],
        labels[:num_train],
        inputs[num_train:],
        labels[num_train:],
        num_classes=num_classes,
    )


def adamw():
    """The optimizer of SMALL."""
    return optax.adamw(1e-2, b1=0.9, b2=0.99, weight_decay=1e-4)


NETWORK = biohsic.mlp(hidden=(6,))
MEMORY = biohsic.sliding_windows(window=5)
SMALL = {
    "network": NETWORK,
    "encode": networks.identity,
    "memory": MEMORY,
    "optimizer": adamw(),
    "num_hsic": 8,
    "history_epochs": 2,
}


def run(task, samples, num_steps):
    """[(state, scalars)] after each step."""
    init_key, step_key = jax.random.split(jax.random.key(0))
    state = jit(task.init)(init_key, samples)
    step = jit(task.step)
    history = []
    for i in range(num_steps):
        key = jax.random.fold_in(step_key, i)
        state, scalars = step(state, task.sample(samples, key), key)
        history.append((state, scalars))
    return history


def same(a, b, rtol=0.0, atol=0.0):
    """Check that all leaves are near each other."""
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=rtol, atol=atol)


def epoch_order(state, epoch, num_samples):
    """The order of the samples in an epoch."""
    key = jax.random.fold_in(jax.random.key(state.shuffle_seed), epoch)
    return jax.random.permutation(key, num_samples)


def one_update(learner, layers, params, opt_state, u, window, bottleneck):
    """(params, opt_state, Update): a time step by hand, with the optimizer of SMALL."""
    update = learner(layers, params, u, window, bottleneck)
    change, opt_state = adamw().update(update.gradient, opt_state, params)
    return optax.apply_updates(params, change), opt_state, update


def unflattened(shape):
    """Numbers between -1 and 1 of a shape, always the same."""
    return jnp.cos(7.0 * jnp.arange(np.prod(shape, dtype=int))).reshape(shape)
