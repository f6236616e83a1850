from functools import partial

import chex
import fiddle as fdl
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from fiddle.experimental import serialization

import fdl_configs
from hfjax import cells, networks
from hfjax.errors import InputError
from hfjax.models import grid_rnn, path_integration
from hfjax.models.grid_rnn import Params
from hfjax.training.config import fill_in_num_steps

TINY = {
    "num_grid": 12,
    "num_place": 20,
    "sigma_m": 0.4,
    "batch_size": 8,
    "num_steps": 5,
}


def waves(*shape, frequency):
    """Arbitrary numbers that are the same everywhere."""
    return np.sin(frequency * (1 + np.arange(np.prod(shape)))).reshape(shape)


def test_three_steps_equal_the_original():
    """Loss and decoded error before three steps of Adam, against grid-pattern-formation.

    The golden numbers came from running its `RNN.compute_loss`, `PlaceCells` (with these centres)
    and torch.optim.Adam of torch 2.13 on the same numbers in float64.
    """
    num_place, num_grid = 16, 6
    task = grid_rnn.task(
        num_grid=num_grid,
        num_place=num_place,
        sigma_m=0.5,
        batch_size=2,
        num_steps=3,
        optimizer=optax.adam(0.01),
        weight_decay=0.01,
    )
    params = Params(
        encoder=2 * waves(num_place, num_grid, frequency=1.7),
        network=networks.RNNParams(
            inputs=3 * waves(2, num_grid, frequency=0.9),
            recurrent=0.8 * waves(num_grid, num_grid, frequency=1.3),
        ),
        decoder=2 * waves(num_grid, num_place, frequency=0.7),
    )
    params = jax.tree.map(jnp.float32, params)
    centres = jnp.float32(1.1 * waves(num_place, 2, frequency=2.3))
    state = task.init(jax.random.key(0), ())._replace(params=params, place_centres=centres)
    start = 0.9 * waves(2, 2, frequency=3.1)
    displacements = 0.2 * waves(2, 3, 2, frequency=1.9)
    positions = start[:, None] + np.cumsum(displacements, axis=1)
    walk = path_integration.walk_along(
        jnp.float32(np.concatenate([start[:, None], positions], axis=1))
    )

    seen, step = [], jax.jit(task.step)
    for _ in range(3):
        state, scalars = step(state, walk, jax.random.key(0))
        seen.append((scalars["loss"], scalars["error_cm"]))
    golden = [
        (6.427546401948879, 68.08180270632215),
        (5.978704512696246, 70.8625510629791),
        (5.5717246062211405, 70.8625510629791),
    ]
    np.testing.assert_allclose(np.array(seen), golden, rtol=2e-5)


def test_loss_of_a_tanh_network_equals_numpy():
    """Every equation of the docstring once more, in NumPy and float64."""
    task = grid_rnn.task(
        **TINY,
        weight_decay=0.3,
        encoder_gain=5.0,
        network=grid_rnn.vanilla(nonlinearity=networks.tanh),
        place_code=cells.gaussian,
    )
    state = task.init(jax.random.key(1), ())
    walk = task.sample((), jax.random.key(2))
    scalars = jax.jit(task.step)(state, walk, jax.random.key(3))[1]

    params, centres = jax.tree.map(np.float64, (state.params, state.place_centres))
    start, positions, v = (np.float64(x) for x in (walk.start, walk.positions, walk.displacements))

    def code(x):
        d_sq = ((x[..., None, :] - centres) ** 2).sum(axis=-1)
        return np.exp(-d_sq / (2 * 0.4**2))

    h, losses = code(start) @ params.encoder, []
    for t in range(5):
        h = np.tanh(v[:, t] @ params.network.inputs + h @ params.network.recurrent)
        y = h @ params.decoder
        log_q = y - np.log(np.exp(y).sum(axis=-1, keepdims=True))
        losses.append(-(code(positions[:, t]) * log_q).sum(axis=-1))
    np.testing.assert_allclose(scalars["code_loss"], np.mean(losses), rtol=1e-5)
    decay = 0.3 * (params.network.recurrent**2).sum()
    np.testing.assert_allclose(scalars["loss"], np.mean(losses) + decay, rtol=1e-5)


def test_encoder_gain_scales_the_first_weights_only():
    plain, gained = (
        grid_rnn.task(**TINY, encoder_gain=gain).init(jax.random.key(0), ()) for gain in (1.0, 30.0)
    )
    np.testing.assert_allclose(gained.params.encoder, 30 * plain.params.encoder, rtol=1e-6)
    np.testing.assert_array_equal(gained.params.decoder, plain.params.decoder)
    np.testing.assert_array_equal(gained.place_centres, plain.place_centres)
    assert np.abs(plain.params.encoder).max() <= 20**-0.5


def test_objectives_by_hand():
    outputs, code = jnp.array([0.0, jnp.log(3.0)]), jnp.array([1.0, 2.0])
    # q = (1/4, 3/4): -(1 ln 1/4 + 2 ln 3/4) = 3 ln 4 - 2 ln 3
    expected = 3 * np.log(4) - 2 * np.log(3)
    np.testing.assert_allclose(path_integration.cross_entropy(outputs, code), expected, rtol=1e-6)
    np.testing.assert_allclose(
        grid_rnn.squared_error(jnp.array([1.0, 2.0]), jnp.array([0.0, 4.0])), 5.0
    )


def test_lstm_reads_both_starts_and_decays_all_recurrent_weights():
    network = grid_rnn.lstm()
    params = network.init(jax.random.key(0), num_in=2, num_units=3)
    starts, v = jnp.asarray(waves(4, 6, frequency=1.1)), jnp.asarray(waves(4, 5, 2, frequency=0.3))
    expected = networks.LSTM(3).apply({"params": params}, starts, v)
    np.testing.assert_array_equal(network.apply(params, starts, v), expected)
    np.testing.assert_array_equal(network.weights(params), params["cell"]["hg"]["kernel"])
    assert network.recurrent(params).shape == (3, 12)
    np.testing.assert_array_equal(network.recurrent(params)[:, 6:9], network.weights(params))


@pytest.mark.parametrize(
    "choice",
    [
        {},
        {"network": grid_rnn.lstm()},
        {"place_code": cells.difference_of_gaussians, "objective": grid_rnn.squared_error},
        {"box": path_integration.periodic_box()},
    ],
    ids=["published", "lstm", "dog", "periodic"],
)
def test_loss_falls(choice):
    task = grid_rnn.task(**TINY, optimizer=optax.adam(1e-2), weight_decay=0.0, **choice)
    walk = task.sample((), jax.random.key(0))

    def step(state, _):
        return task.step(state, walk, jax.random.key(0))

    _, scalars = jax.jit(partial(jax.lax.scan, step, length=60))(
        task.init(jax.random.key(1), ()), None
    )
    loss = scalars["code_loss"]
    assert np.isfinite(loss).all()
    assert loss[-1] < 0.95 * loss[0]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"num_grid": 0}, "num_grid must be at least 1, but is 0"),
        ({"num_place": 2}, "num_place must be at least 3 for decoding, but is 2"),
        ({"batch_size": -1}, "batch_size must be at least 1, but is -1"),
        (
            {"evaluation": path_integration.EvaluationSettings(num_map_walks=0)},
            "num_map_walks must be at least 1, but is 0",
        ),
        ({"sigma_m": -0.1}, "sigma_m must be positive, but is -0.1"),
        ({"encoder_gain": 0.0}, "encoder_gain must be positive, but is 0.0"),
        ({"weight_decay": -1.0}, "weight_decay must not be negative, but is -1.0"),
    ],
)
def test_impossible_settings(setting, message):
    with pytest.raises(ValueError, match=message):
        grid_rnn.task(**setting)


@pytest.mark.parametrize(
    "fiddlers",
    [
        (),
        ("laptop", "tanh"),
        ("laptop", "lstm"),
        ("gaussian",),
        ("dog",),
        ("no_surround", "periodic"),
    ],
    ids="+".join,
)
def test_configs_survive_json_and_build(fiddlers):
    config = fdl_configs.make("grid_rnn", *fiddlers)
    assert serialization.load_json(serialization.dump_json(config)) == config
    fill_in_num_steps(config)
    assert fdl.build(config).num_steps == (12_000 if "laptop" in fiddlers else 100_000)


def test_fiddlers_change_what_they_say():
    def changed(fiddler):
        return fdl_configs.make("grid_rnn", fiddler).task

    assert changed("tanh").network.nonlinearity is networks.tanh
    assert fdl.get_callable(changed("lstm").network) is grid_rnn.lstm
    assert changed("gaussian").place_code is cells.gaussian
    assert changed("dog").place_code is cells.difference_of_gaussians
    assert changed("dog").objective is grid_rnn.squared_error
    assert changed("no_surround").place_code is cells.softmax_gaussian
    assert fdl.get_callable(changed("periodic").box) is path_integration.periodic_box
    assert changed("laptop").num_grid == 256


def test_fiddlers_commute_or_say_that_they_do_not_go_together():
    for names in (("laptop", "lstm"), ("cpu_grids", "lstm"), ("cpu_grids", "periodic")):
        assert fdl_configs.make("grid_rnn", *names) == fdl_configs.make("grid_rnn", *names[::-1])
    with pytest.raises(InputError, match="fiddler=tanh does not go with --fiddler=lstm"):
        fdl_configs.make("grid_rnn", "tanh", "lstm")
    with pytest.raises(InputError, match=r"both set task\.place_code"):
        fdl_configs.make("grid_rnn", "gaussian", "no_surround")


def test_the_config_is_the_published_task():
    """The config spells out what the task's defaults, the published values, are anyway."""
    config = fdl_configs.grid_rnn().task
    defaults = {p.name: p.default for p in config.__signature_info__.parameters.values()}
    for name, value in config.__arguments__.items():
        if name not in ("network", "box", "optimizer", "evaluation"):
            assert value == defaults[name], name
    assert fdl.build(config.evaluation) == path_integration.EvaluationSettings()
    assert config.optimizer == fdl.Config(optax.adam, learning_rate=1e-4)


def test_first_updates_see_the_beginnings_of_walks():
    settings = TINY | {"optimizer": optax.adam(0.01)}
    whole = grid_rnn.task(**settings)
    begun = grid_rnn.task(**settings | {"num_steps": 2})
    warm = grid_rnn.task(**settings, warm_up=grid_rnn.WarmUp(num_steps=2, num_updates=1))
    start = whole.init(jax.random.key(0), ())
    batch = whole.sample((), jax.random.key(1))
    short = batch._replace(
        positions=batch.positions[:, :2],
        displacements=batch.displacements[:, :2],
        headings=batch.headings[:, :2],
    )
    first, scalars = jax.jit(warm.step)(start, batch, jax.random.key(2))
    expected, expected_scalars = begun.step(start, short, jax.random.key(2))
    chex.assert_trees_all_close(first, expected, atol=1e-4)
    chex.assert_trees_all_close(scalars, expected_scalars, atol=1e-4)
    second, _ = jax.jit(warm.step)(first, batch, jax.random.key(2))
    chex.assert_trees_all_close(second, whole.step(first, batch, jax.random.key(2))[0], atol=1e-4)
    two = jax.tree.map(lambda x: jnp.stack([x, x]), (start, batch))
    of_two = jax.vmap(warm.step, in_axes=(0, 0, None))
    assert "cond[" in str(jax.make_jaxpr(of_two)(*two, jax.random.key(2)))  # one branch a step
    moved, _ = jax.jit(of_two)(*two, jax.random.key(2))
    chex.assert_trees_all_close(jax.tree.map(lambda x: x[1], moved), expected, atol=1e-4)
    with pytest.raises(ValueError, match=r"warm_up\.num_steps must be at most num_steps, 5"):
        grid_rnn.task(**settings, warm_up=grid_rnn.WarmUp(num_steps=6, num_updates=1))
    plain = {"optimizer": optax.sgd(0.01), "warm_up": grid_rnn.WarmUp(num_steps=2, num_updates=1)}
    with pytest.raises(ValueError, match="needs an optimizer that counts its updates"):
        grid_rnn.task(**settings | plain)
