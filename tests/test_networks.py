from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import ClosedJaxpr, Jaxpr
from jax.sharding import NamedSharding, PartitionSpec

from hfjax import networks
from tests.small import in_bfloat16


def problem(seed=0, batch=6, time=7, num_in=2, num_units=5):
    """Parameters, initial state, inputs and a gradient from outside, in the default precision."""
    keys = jax.random.split(jax.random.key(seed), 4)
    params = networks.rnn_init(
        keys[0],
        num_in=num_in,
        num_units=num_units,
        recurrent_init=partial(networks.near_identity, gain=0.7),
    )
    h0 = jax.random.normal(keys[1], (batch, num_units))
    inputs = jax.random.normal(keys[2], (batch, time, num_in))
    return params, h0, inputs, jax.random.normal(keys[3], (batch, time, num_units))


def gradients(apply, nonlinearity, params, h0, inputs, from_outside):
    """Of everything that can be differentiated, for a loss that also bends."""

    def loss(*arguments):
        hidden = apply(*arguments, nonlinearity=nonlinearity)
        return jnp.sum(from_outside * hidden + 0.1 * hidden**3)

    return jax.grad(loss, argnums=(0, 1, 2))(params, h0, inputs)


def test_rnn_worked_by_hand():
    params = networks.RNNParams(
        inputs=jnp.array([[1.0, 0.0]]), recurrent=jnp.array([[0.5, 2.0], [-1.0, 0.0]])
    )
    h0, inputs = jnp.array([[1.0, 1.0]]), jnp.array([[[2.0], [-3.0]]])
    # h_1 = relu(2 + 0.5 - 1, 2) = (1.5, 2); h_2 = relu(-3 + 0.75 - 2, 3) = (0, 3).
    expected = [[[1.5, 2.0], [0.0, 3.0]]]
    for apply in (networks.rnn, networks.rnn_plain):
        hidden = apply(params, h0, inputs, nonlinearity=networks.relu)
        np.testing.assert_allclose(hidden, expected, rtol=1e-6)


def softplus(x):
    return jax.nn.softplus(x)


@pytest.mark.parametrize("nonlinearity", [networks.relu, networks.tanh, softplus])
def test_gradients_equal_those_of_the_plain_scan(nonlinearity):
    with jax.enable_x64(True):
        arguments = problem()
        fast = jax.jit(partial(gradients, networks.rnn, nonlinearity))(*arguments)
        plain = jax.jit(partial(gradients, networks.rnn_plain, nonlinearity))(*arguments)
        for ours, theirs in zip(jax.tree.leaves(fast), jax.tree.leaves(plain), strict=True):
            assert ours.dtype == jnp.float64
            assert np.abs(theirs).max() > 0.1
            np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10)


def test_gradients_equal_finite_differences():
    with jax.enable_x64(True):
        params, h0, inputs, from_outside = problem(batch=2, time=3, num_units=3)

        @jax.jit
        def loss(recurrent):
            hidden = networks.rnn(
                params._replace(recurrent=recurrent), h0, inputs, nonlinearity=networks.tanh
            )
            return jnp.sum(from_outside * hidden)

        gradient = jax.grad(loss)(params.recurrent)
        for i, j in np.ndindex(3, 3):
            step = np.zeros((3, 3))
            step[i, j] = 1e-6
            slope = (loss(params.recurrent + step) - loss(params.recurrent - step)) / 2e-6
            np.testing.assert_allclose(gradient[i, j], slope, rtol=1e-6, atol=1e-8)


def test_gradients_under_vmap_over_seeds():
    with jax.enable_x64(True):
        singles = [problem(seed) for seed in range(3)]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *singles)
        one = partial(gradients, networks.rnn, networks.relu)
        together = jax.jit(jax.vmap(one))(*stacked)
        plain = jax.jit(partial(gradients, networks.rnn_plain, networks.relu))
        for seed, arguments in enumerate(singles):
            expected = plain(*arguments)
            for ours, theirs in zip(
                jax.tree.leaves(together), jax.tree.leaves(expected), strict=True
            ):
                np.testing.assert_allclose(ours[seed], theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.optimized  # XLA's simplifications must not undo the rounding
@pytest.mark.parametrize("num_devices", [1, 8])
def test_bfloat16_rounds_the_factors_of_a_product_and_of_its_gradient(monkeypatch, num_devices):
    monkeypatch.setattr(jax, "device_count", lambda: num_devices)
    x, y, g = (
        np.random.default_rng(seed).normal(size=shape).astype(np.float32)
        for seed, shape in enumerate([(7, 5), (5, 3), (7, 3)])
    )
    with jax.default_matmul_precision("bfloat16"):
        ours, back = jax.vjp(jax.jit(networks.product), jnp.asarray(x), jnp.asarray(y))
        dx, dy = back(jnp.asarray(g))
    assert ours.dtype == dx.dtype == dy.dtype == jnp.float32
    x, y, g = in_bfloat16(x), in_bfloat16(y), in_bfloat16(g)
    for array, expected in ((ours, x @ y), (dx, g @ y.T), (dy, x.T @ g)):
        np.testing.assert_allclose(array, expected, rtol=1e-5, atol=1e-6)


def test_only_float32_is_rounded():
    with jax.enable_x64(True), jax.default_matmul_precision("bfloat16"):
        x = jnp.full((2, 2), 1 / 3, jnp.float64)
        assert jnp.abs(networks.product(x, x) - x @ x).max() < 1e-15
        assert networks.product(jnp.ones((2, 2), int), x).dtype == jnp.float64


@pytest.mark.parametrize("leaky", [False, True])
def test_gradients_of_a_network_in_bfloat16_are_near_those_in_float32(leaky):
    params, h0, inputs, from_outside = problem(batch=16, time=6, num_units=64)
    params = params._replace(recurrent=params.recurrent / 4)
    apply = networks.rnn
    if leaky:
        params = networks.LeakyRNNParams(*params, jnp.ones(64))
        apply = partial(networks.leaky_rnn, tau_min=1.0, tau_max=10.0)
    one = partial(gradients, apply, networks.tanh)
    exact = jax.jit(one)(params, h0, inputs, from_outside)
    with jax.default_matmul_precision("bfloat16"):
        near = jax.jit(one)(params, h0, inputs, from_outside)
    recurrent = [found[0].recurrent for found in (near, exact)]
    assert not np.allclose(*recurrent, rtol=1e-5)
    for ours, theirs in zip(jax.tree.leaves(near), jax.tree.leaves(exact), strict=True):
        assert jnp.linalg.norm(ours - theirs) < 0.02 * jnp.linalg.norm(theirs)


@pytest.mark.parametrize("precision", [None, "bfloat16"])
def test_a_sharded_batch_stays_where_it_is(precision):
    with jax.default_matmul_precision(precision):
        check_sharded_batch()


def check_sharded_batch():
    params, h0, inputs, from_outside = problem(batch=16, num_units=8)
    devices = jax.sharding.Mesh(np.array(jax.devices()), ("batch",))
    along_batch = NamedSharding(devices, PartitionSpec("batch"))
    one = jax.jit(partial(gradients, networks.rnn, networks.tanh))
    expected = one(params, h0, inputs, from_outside)
    sharded = jax.device_put((h0, inputs, from_outside), along_batch)
    program = one.lower(params, *sharded).compile()
    # Only sums of weight gradients cross devices; gathering activity would undo the sharding.
    assert "all-gather" not in program.as_text()
    for ours, theirs in zip(
        jax.tree.leaves(program(params, *sharded)), jax.tree.leaves(expected), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def scan_carries(jaxpr):
    for equation in jaxpr.eqns:
        if equation.primitive.name == "scan":
            yield from (x.aval.shape for x in equation.outvars)  # other outputs begin with time
        for inner in jax.tree.leaves(equation.params, is_leaf=lambda x: isinstance(x, ClosedJaxpr)):
            if isinstance(inner, ClosedJaxpr | Jaxpr):
                yield from scan_carries(getattr(inner, "jaxpr", inner))


def test_no_weight_gradient_is_carried_through_time():
    arguments = problem()
    for apply, carried in ((networks.rnn, False), (networks.rnn_plain, True)):
        traced = jax.make_jaxpr(partial(gradients, apply, networks.relu))(*arguments)
        assert ((5, 5) in set(scan_carries(traced.jaxpr))) == carried


def test_relu_has_slope_0_at_0():
    assert jax.grad(networks.relu)(0.0) == 0
    np.testing.assert_array_equal(networks.relu(jnp.array([-1.0, 0.0, 2.0])), [0.0, 0.0, 2.0])
    np.testing.assert_allclose(networks.tanh(jnp.array([0.5])), np.tanh([0.5]), rtol=1e-6)


def lstm_in_numpy(params, starts, inputs):
    """Hidden activity [batch, time, unit] of an LSTM, from its equations in float64."""
    cell = jax.tree.map(lambda x: np.asarray(x, np.float64), params["cell"])
    (h, c), inputs = np.split(np.asarray(starts, np.float64), 2, axis=1), np.float64(inputs)

    def logistic(x):
        return 1 / (1 + np.exp(-x))

    def a(gate, v, h):
        from_h = cell[f"h{gate}"]
        return v @ cell[f"i{gate}"]["kernel"] + h @ from_h["kernel"] + from_h["bias"]

    hidden = []
    for v in inputs.swapaxes(0, 1):
        i, f, g, o = (a(gate, v, h) for gate in "ifgo")
        c = logistic(f) * c + logistic(i) * np.tanh(g)
        h = logistic(o) * np.tanh(c)
        hidden.append(h)
    return np.stack(hidden, axis=1)


def test_lstm_equals_its_equations():
    keys = jax.random.split(jax.random.key(1), 3)
    starts = jax.random.normal(keys[0], (2, 8))
    inputs = jax.random.normal(keys[1], (2, 5, 3))
    lstm = networks.LSTM(4)
    hidden, variables = jax.jit(lstm.init_with_output)(keys[2], starts, inputs)
    expected = lstm_in_numpy(variables["params"], starts, inputs)
    np.testing.assert_allclose(hidden, expected, atol=1e-6)
    with pytest.raises(AssertionError):
        lstm.apply(variables, starts[:1], inputs)


def test_linear_is_a_product_over_the_last_axis():
    keys = jax.random.split(jax.random.key(2), 3)
    weights = networks.linear_init(keys[0], num_in=6, num_out=3)
    x, g = jax.random.normal(keys[1], (4, 5, 6)), jax.random.normal(keys[2], (4, 5, 3))
    np.testing.assert_allclose(networks.linear(weights, x), x @ weights, rtol=1e-5, atol=1e-6)
    gradient = jax.grad(lambda w: jnp.sum(g * networks.linear(w, x)))(weights)
    expected = np.einsum("bti,bto->io", np.asarray(x), np.asarray(g))
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5)


def test_initial_weights_have_their_published_range():
    key = jax.random.key(3)
    linear = networks.linear_init(key, num_in=400, num_out=100)
    params = networks.rnn_init(key, num_in=2, num_units=400)
    lstm = jax.jit(networks.LSTM(400).init)(key, jnp.zeros((1, 800)), jnp.zeros((1, 1, 3)))
    cell = lstm["params"]["cell"]
    lstm_inputs = [cell[f"i{gate}"]["kernel"] for gate in "ifgo"]
    lstm_recurrent = networks.lstm_recurrent(lstm["params"])
    assert params.inputs.shape == (2, 400)
    assert params.recurrent.shape == (400, 400)
    assert lstm_recurrent.shape == (400, 1600)
    for weights in (linear, *params, np.stack(lstm_inputs), lstm_recurrent):
        assert np.abs(weights).max() <= 0.05
        np.testing.assert_allclose(np.std(weights), 0.05 / np.sqrt(3), rtol=0.05)
    # PyTorch's two biases in one: twice the range, and twice the variance.
    biases = np.stack([cell[f"h{gate}"]["bias"] for gate in "ifgo"])
    np.testing.assert_allclose(np.std(biases), 0.05 * np.sqrt(2 / 3), rtol=0.05)


def test_near_identity():
    key = jax.random.key(4)
    noise = networks.uniform_fan_in(key, 30)
    weights = networks.near_identity(key, 30, gain=0.9, scale=0.5)
    np.testing.assert_allclose(weights, 0.9 * np.eye(30) + 0.5 * noise, atol=1e-6)
    np.testing.assert_allclose(networks.near_identity(key, 30, scale=0.0), np.eye(30), atol=0)


def test_impossible_sizes_and_shapes_are_refused():
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="num_units must be at least 1, but is 0"):
        networks.rnn_init(key, num_in=2, num_units=0)
    with pytest.raises(ValueError, match="num_out must be at least 1, but is 0"):
        networks.linear_init(key, num_in=2, num_out=0)
    params, h0, inputs, _ = problem()
    with pytest.raises(AssertionError):
        networks.rnn(params, h0[:1], inputs, nonlinearity=networks.relu)
    with pytest.raises(AssertionError):
        networks.rnn(params, h0, inputs[..., :1], nonlinearity=networks.relu)
