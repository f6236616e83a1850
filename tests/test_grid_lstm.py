import fiddle as fdl
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fiddle.experimental import serialization

import fdl_configs
from hfjax import arena
from hfjax.models import grid_lstm

TINY = {
    "num_units": 6,
    "num_linear": 10,
    "num_place": 20,
    "num_head_direction": 4,
    "sigma_m": 0.4,
    "kappa": 3.0,
    "batch_size": 8,
    "num_steps": 5,
    "rollout_steps": 12,
    "num_rollouts": 4,
    "num_map_walks": 400,
    "num_bins": 8,
    "num_noise_maps": 20,
}


def test_egocentric_inputs_by_hand():
    walk = arena.Walk(
        start=jnp.zeros((1, 2)),
        start_heading=jnp.array([0.0]),
        positions=jnp.array([[[0.0, 2.0], [-1.0, 2.0]]]),
        displacements=jnp.array([[[0.0, 2.0], [-1.0, 0.0]]]),
        headings=jnp.array([[np.pi / 2, -np.pi]]),
    )
    # Two metres after a left turn, one after another left turn (pi/2 to -pi is 90 degrees).
    np.testing.assert_allclose(
        grid_lstm.egocentric_inputs(walk), [[[2, 0, 1], [1, 0, 1]]], atol=1e-6
    )


def test_inputs_and_start_determine_the_path():
    walk = arena.sorscher_walk(jax.random.key(0), batch_size=3, num_steps=30)
    length, cosine, sine = np.moveaxis(np.float64(grid_lstm.egocentric_inputs(walk)), -1, 0)
    heading = np.float64(walk.start_heading)[:, None] + np.cumsum(np.arctan2(sine, cosine), axis=1)
    steps = length[..., None] * np.stack([np.cos(heading), np.sin(heading)], axis=-1)
    positions = np.float64(walk.start)[:, None] + np.cumsum(steps, axis=1)
    np.testing.assert_allclose(positions, walk.positions, atol=1e-4)


def test_loss_without_dropout_equals_numpy():
    """Every equation of the docstring once more, in NumPy and float64."""
    task = grid_lstm.task(**TINY, dropout=0.0, weight_decay=0.1)
    state = task.init(jax.random.key(1), ())
    walk = task.sample((), jax.random.key(2))
    scalars = jax.jit(task.step)(state, walk, jax.random.key(3))[1]

    params, centres, preferred = jax.tree.map(
        np.float64, (state.params, state.place_centres, state.preferred_headings)
    )
    inputs, walk = jax.tree.map(np.float64, (grid_lstm.egocentric_inputs(walk), walk))

    def softmax(x):
        return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)

    def place(x):
        return softmax(-((x[..., None, :] - centres) ** 2).sum(axis=-1) / (2 * 0.4**2))

    def head_direction(theta):
        return softmax(3.0 * np.cos(theta[..., None] - preferred))

    def logistic(x):
        return 1 / (1 + np.exp(-x))

    start = place(walk.start) @ params.place_start
    start += head_direction(walk.start_heading) @ params.heading_start
    h, c = start[:, :6], start[:, 6:]
    place_loss, heading_loss, right = [], [], []
    for t in range(5):
        a = inputs[:, t] @ params.network.inputs + h @ params.network.recurrent
        i, f, g, o = np.split(a + params.network.bias, 4, axis=-1)
        c = logistic(f) * c + logistic(i) * np.tanh(g)
        h = logistic(o) * np.tanh(c)
        linear = h @ params.linear.weights + params.linear.bias
        y, z = (linear @ layer.weights + layer.bias for layer in params.outputs)
        target = head_direction(walk.headings[:, t])
        place_loss.append(-(place(walk.positions[:, t]) * np.log(softmax(y))).sum(axis=-1))
        heading_loss.append(-(target * np.log(softmax(z))).sum(axis=-1))
        right.append(z.argmax(axis=-1) == target.argmax(axis=-1))
    decay = 0.1 / 2 * sum((layer.weights**2).sum() for layer in params.outputs)
    np.testing.assert_allclose(scalars["place_loss"], np.mean(place_loss), rtol=1e-5)
    np.testing.assert_allclose(scalars["head_direction_loss"], np.mean(heading_loss), rtol=1e-5)
    total = np.mean(place_loss) + np.mean(heading_loss) + decay
    np.testing.assert_allclose(scalars["loss"], total, rtol=1e-5)
    np.testing.assert_allclose(scalars["head_direction_accuracy"], np.mean(right), rtol=1e-6)


def test_initial_weights():
    params = grid_lstm.task().init(jax.random.key(0), ()).params
    # Glorot: uniform within sqrt(6 / (fan in + fan out)); the LSTM's kernel is drawn as a whole.
    for weights, fan in (
        (params.place_start, 256 + 128),
        (params.network.recurrent, 131 + 512),
        (params.linear.weights, 128 + 512),
    ):
        bound = np.sqrt(6 / fan)
        assert 0.99 * bound < np.abs(weights).max() <= bound
    np.testing.assert_array_equal(params.network.bias, np.repeat([0, 1, 0, 0], 128))


def test_only_the_output_layers_gradients_are_cut():
    """Under a tiny limit Adam sees +-limit there, and its first step has one size."""
    limit, rate = 1e-9, 0.1
    task = grid_lstm.task(**TINY, dropout=0.0, gradient_clip=limit, learning_rate=rate)
    state = task.init(jax.random.key(1), ())
    walk = task.sample((), jax.random.key(2))
    new = jax.jit(task.step)(state, walk, jax.random.key(3))[0]
    change = jax.tree.map(lambda a, b: np.abs(a - b).max(), new.params, state.params)
    # Adam's first step is rate * g / (|g| + 1e-8).
    expected = rate * limit / (limit + 1e-8)
    for layer in change.outputs:
        np.testing.assert_allclose(layer, (expected, expected), rtol=1e-2)
    assert change.linear.weights > 0.9 * rate


def test_dropout_drops_the_given_share():
    """With everything dropped but one unit in a million, outputs are their biases."""
    task = grid_lstm.task(**TINY, dropout=1 - 1e-6)
    state = task.init(jax.random.key(1), ())
    walk = task.sample((), jax.random.key(2))
    scalars = jax.jit(task.step)(state, walk, jax.random.key(3))[1]
    np.testing.assert_allclose(scalars["place_loss"], np.log(20), rtol=1e-5)
    np.testing.assert_allclose(scalars["head_direction_loss"], np.log(4), rtol=1e-5)


def test_loss_falls():
    task = grid_lstm.task(**TINY, dropout=0.1)
    walk = task.sample((), jax.random.key(0))

    def step(state, key):
        return task.step(state, walk, key)

    _, scalars = jax.jit(lambda s, k: jax.lax.scan(step, s, k))(
        task.init(jax.random.key(1), ()), jax.random.split(jax.random.key(2), 150)
    )
    assert scalars["loss"][-10:].mean() < 0.9 * scalars["loss"][0]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"num_units": 0}, "num_units must be at least 1, but is 0"),
        ({"num_place": 1}, "num_place must be at least 3 for decoding, but is 1"),
        ({"sigma_m": 0.0}, "sigma_m must be positive, but is 0.0"),
        ({"gradient_clip": 0.0}, "gradient_clip must be positive, but is 0.0"),
        ({"kappa": -1.0}, "kappa must not be negative, but is -1.0"),
        ({"width_m": 0.0}, "width_m must be positive, but is 0.0"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, but is 1.0"),
    ],
)
def test_impossible_settings(setting, message):
    with pytest.raises(ValueError, match=message):
        grid_lstm.task(**setting)


@pytest.mark.parametrize("fiddlers", [(), ("laptop",)], ids=["published", "laptop"])
def test_configs_survive_json_and_build(fiddlers):
    config = fdl_configs.make("grid_lstm", *fiddlers)
    assert serialization.load_json(serialization.dump_json(config)) == config
    fdl.build(config)
