import fiddle as fdl
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from fiddle.experimental import serialization

import fdl_configs
from hfjax import arena, networks
from hfjax.models import grid_lstm
from tests.test_networks import lstm_in_numpy

TINY = {
    "num_units": 6,
    "num_linear": 10,
    "num_place": 20,
    "num_head_direction": 4,
    "sigma_m": 0.4,
    "kappa": 3.0,
    "batch_size": 8,
    "num_steps": 5,
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

    start = place(walk.start) @ params["place_start"]["kernel"]
    start += head_direction(walk.start_heading) @ params["head_direction_start"]["kernel"]
    hidden = lstm_in_numpy(params["lstm"], start, inputs)
    linear, *outputs = (params[name] for name in ("linear", "place", "head_direction"))
    g = hidden @ linear["kernel"] + linear["bias"]
    y, z = (g @ layer["kernel"] + layer["bias"] for layer in outputs)
    target = head_direction(walk.headings)
    place_loss = -(place(walk.positions) * np.log(softmax(y))).sum(axis=-1)
    heading_loss = -(target * np.log(softmax(z))).sum(axis=-1)
    right = z.argmax(axis=-1) == target.argmax(axis=-1)
    decay = 0.1 / 2 * sum((layer["kernel"] ** 2).sum() for layer in outputs)
    np.testing.assert_allclose(scalars["place_loss"], np.mean(place_loss), rtol=1e-5)
    np.testing.assert_allclose(scalars["head_direction_loss"], np.mean(heading_loss), rtol=1e-5)
    total = np.mean(place_loss) + np.mean(heading_loss) + decay
    np.testing.assert_allclose(scalars["loss"], total, rtol=1e-5)
    np.testing.assert_allclose(scalars["head_direction_accuracy"], np.mean(right), rtol=1e-6)
    right = y.argmax(axis=-1) == place(walk.positions).argmax(axis=-1)
    assert 0 < np.mean(right) < 1
    np.testing.assert_allclose(scalars["place_accuracy"], np.mean(right), rtol=1e-6)


def test_initial_weights():
    params = grid_lstm.task().init(jax.random.key(0), ()).params
    # Glorot: uniform within sqrt(6 / (fan in + fan out)); the LSTM's kernel is one matrix.
    for weights, fan in (
        (params["place_start"]["kernel"], 256 + 128),
        (params["head_direction_start"]["kernel"], 12 + 128),
        (networks.lstm_recurrent(params["lstm"]), 131 + 512),
        (params["linear"]["kernel"], 128 + 512),
        (params["place"]["kernel"], 512 + 256),
        (params["head_direction"]["kernel"], 512 + 12),
    ):
        bound = np.sqrt(6 / fan)
        assert 0.99 * bound < np.abs(weights).max() <= bound
        np.testing.assert_allclose(np.std(weights), bound / np.sqrt(3), rtol=0.05)
    cell = params["lstm"]["cell"]
    for gate, bias in (("i", 0), ("f", 1), ("g", 0), ("o", 0)):
        np.testing.assert_array_equal(cell[f"h{gate}"]["bias"], np.full(128, bias))
    for name in ("linear", "place", "head_direction"):
        np.testing.assert_array_equal(params[name]["bias"], 0)


def test_only_the_output_layers_gradients_are_clipped():
    """Adam's first step in a parameter is rate * g / (|g| + 1e-8)."""
    limit, rate = 1e-9, 0.1
    optimizer = optax.chain(grid_lstm.clip_output_gradients(max_delta=limit), optax.adam(rate))
    task = grid_lstm.task(**TINY, dropout=0.0, optimizer=optimizer)
    state = task.init(jax.random.key(1), ())
    walk = task.sample((), jax.random.key(2))
    new = jax.jit(task.step)(state, walk, jax.random.key(3))[0]
    change = jax.tree.map(lambda a, b: np.abs(a - b).max(), new.params, state.params)
    for name in ("place", "head_direction"):
        np.testing.assert_allclose(
            list(change[name].values()), rate * limit / (limit + 1e-8), rtol=1e-2
        )
    for name in ("place_start", "head_direction_start", "linear"):
        assert change[name]["kernel"] > 0.9 * rate
    with pytest.raises(ValueError, match="max_delta must be positive, but is 0"):
        grid_lstm.clip_output_gradients(max_delta=0.0)


def test_the_config_is_the_published_task():
    """The config spells out what the task's defaults, the published values, are anyway."""
    config = fdl_configs.grid_lstm().task
    defaults = {p.name: p.default for p in config.__signature_info__.parameters.values()}
    for name, value in config.__arguments__.items():
        if name not in ("optimizer", "evaluation"):
            assert value == defaults[name], name
    # Both optimizers do the same with a gradient.
    params = grid_lstm.task(**TINY).init(jax.random.key(0), ()).params
    gradient = jax.tree.map(
        lambda x: 1e-3 * jnp.cos(1 + jnp.arange(x.size)).reshape(x.shape), params
    )
    updates = [
        optimizer.update(gradient, optimizer.init(params), params)[0]
        for optimizer in (fdl.build(config.optimizer), grid_lstm.published_optimizer())
    ]
    jax.tree.map(np.testing.assert_array_equal, *updates)


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
