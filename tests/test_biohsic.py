"""The three-factor rule and its baselines, working memory, leaky layers, and what they learn."""

import functools

import fiddle as fdl
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
from flax import linen as nn

import fdl_configs
from hfjax import figures, kernels, networks
from hfjax.data import labelled
from hfjax.models import biohsic
from hfjax.training import run as train
from tests.test_kernels import reference_kernel, reference_signal

# Tests wait for the compiler, not for what it makes.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
GAMMA, SIGMA_Z = 2.0, 0.7
LEARNERS = (biohsic.biological_rule, biohsic.hsic_gradient, biohsic.back_propagation)


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def setting(network, input_shape, window=6, num_classes=3, seed=0):
    """Params, state at rest, a window and its kernels."""

    @jit
    def make(key):
        keys = jax.random.split(key, 3)
        params = network.init(keys[0], input_shape=input_shape, num_classes=num_classes)
        x = jax.random.normal(keys[1], (window, *input_shape))
        y = jax.nn.one_hot(jax.random.randint(keys[2], (window,), 0, num_classes), num_classes)
        Kx, Ky = kernels.rbf_kernel(x, sigma=0.5), kernels.rbf_kernel(y, sigma=0.3)
        return params, network.rest(params, window), x, y, Kx, Ky

    return make(jax.random.key(seed))


def learn(learner, network, *arguments):
    chosen = functools.partial(learner, network, gamma=GAMMA, sigma_z=SIGMA_Z)
    return jit(chosen)(*arguments)


def numpy_dense_layer(params, below):
    a = below @ np.asarray(params.weights) + np.asarray(params.bias)
    r = np.maximum(a, 0)
    std = np.sqrt(r.var(axis=1, keepdims=True) + 1e-6)
    return a, std, (r - r.mean(axis=1, keepdims=True)) / std


# The rule --------------------------------------------------------------------------------------


def test_the_rule_equals_the_equations(float64):
    network = biohsic.mlp(hidden=(7, 5))
    params, u, x, y, Kx, Ky = setting(network, (4,))
    update = learn(biohsic.biological_rule, network, params, u, x, y, Kx, Ky)
    params, x, y, Kx, Ky = jax.tree.map(np.asarray, (params, x, y, Kx, Ky))
    below = x
    for number, layer in enumerate(params[:-1]):
        a, std, z = numpy_dense_layer(layer, below)
        xi = reference_signal(Kx, Ky, z, GAMMA, SIGMA_Z)
        # Layer norm and relu, backwards, for the newest sample.
        back = (xi - xi.mean() - z[-1] * (xi * z[-1]).mean()) / std[-1]
        back *= a[-1] > 0
        np.testing.assert_allclose(
            update.gradient[number].weights, np.outer(below[-1], back), rtol=1e-9, atol=1e-15
        )
        np.testing.assert_allclose(update.gradient[number].bias, back, rtol=1e-9, atol=1e-15)
        np.testing.assert_allclose(
            update.scalars[f"signal_norm_{number + 1}"], np.linalg.norm(xi), rtol=1e-10
        )
        below = z
    outputs = below @ params[-1].weights + params[-1].bias
    p = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(update.outputs, outputs, rtol=1e-10)
    np.testing.assert_allclose(
        update.gradient[-1].weights, below.T @ (p - y) / len(x), rtol=1e-9, atol=1e-15
    )


@pytest.mark.parametrize(
    ("network", "input_shape"),
    [(biohsic.cnn(channels=(3, 4)), (8, 4, 2)), (biohsic.lif_mlp(hidden=(6, 5)), (3,))],
)
def test_the_rule_moves_each_layer_along_its_signal_at_the_newest_sample(
    float64, network, input_shape
):
    params, u, x, y, Kx, Ky = setting(network, input_shape)
    u = jax.tree.map(lambda a: a + 0.1 * jnp.arange(a.size).reshape(a.shape) % 0.7, u)
    update = learn(biohsic.biological_rule, network, params, u, x, y, Kx, Ky)
    activity, states = jit(functools.partial(biohsic.forward, network))(params, u, x)
    for z, expected in zip(jax.tree.leaves(states), jax.tree.leaves(update.u), strict=True):
        np.testing.assert_allclose(z, expected, rtol=1e-12, atol=1e-15)
    for number in range(2):
        xi = reference_signal(*map(np.asarray, (Kx, Ky, activity[number])), GAMMA, SIGMA_Z)

        def along(layer_params, number=number, xi=xi):
            changed = (*params[:number], layer_params, *params[number + 1 :])
            return jnp.sum(xi * biohsic.forward(network, changed, u, x)[0][number][-1])

        expected = jit(jax.grad(along))(params[number])
        for got, wanted in zip(update.gradient[number], expected, strict=True):
            assert np.abs(wanted).max() > 1e-6
            np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-14)


def test_hsic_gradient_is_that_of_each_layers_own_objective(float64):
    network = biohsic.mlp(hidden=(7, 5))
    arguments = setting(network, (4,))
    params, u, x, y, Kx, Ky = arguments
    update = learn(biohsic.hsic_gradient, network, *arguments)
    N, H = len(x), np.eye(len(x)) - 1 / len(x)

    def own_objective(params, number):
        z = biohsic.forward(network, params, u, x)[0][number]
        if number == 2:
            return -jnp.mean(jnp.sum(y * jax.nn.log_softmax(z), axis=1))
        distance_sq = jnp.sum((z[:, None] - z[None]) ** 2, axis=-1)
        Kz = jnp.exp(-distance_sq / (2 * SIGMA_Z**2 * z.shape[1]))
        return jnp.trace((Kx - GAMMA * Ky) @ H @ Kz @ H) / (N - 1) ** 2

    for number in range(3):
        gradient = jit(jax.grad(own_objective), static_argnums=1)(params, number)
        for got, wanted in zip(update.gradient[number], gradient[number], strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-8, atol=1e-14)
        if number:  # the objective does feel the layers below, whose gradient is cut
            assert np.abs(gradient[0].weights).max() > 1e-6


@pytest.mark.parametrize("learner", LEARNERS)
def test_a_gradient_crosses_layers_in_back_propagation_alone(float64, learner):
    network = biohsic.mlp(hidden=(7, 5))
    params, *rest = setting(network, (4,))
    before = learn(learner, network, params, *rest).gradient
    for above in (1, 2):
        changed = [*params]
        changed[above] = jax.tree.map(lambda a: a + 0.5 * jnp.cos(a * 99), params[above])
        after = learn(learner, network, tuple(changed), *rest).gradient
        assert not np.allclose(after[above].weights, before[above].weights)
        same = np.array_equal(after[0].weights, before[0].weights)
        assert same == (learner is not biohsic.back_propagation)


def test_back_propagation_descends_the_cross_entropy(float64):
    network = biohsic.mlp(hidden=(7, 5))
    params, u, x, y, Kx, Ky = setting(network, (4,))
    update = learn(biohsic.back_propagation, network, params, u, x, y, Kx, Ky)

    def loss(params):
        z = np.asarray(x)
        for layer in params[:-1]:
            z = numpy_dense_layer(layer, z)[2]
        outputs = z @ params[-1].weights + params[-1].bias
        return -np.mean(np.sum(np.asarray(y) * scipy.special.log_softmax(outputs, axis=1), 1))

    params = jax.tree.map(np.asarray, params)
    direction = jax.tree.map(lambda a: np.cos(7.0 * np.arange(a.size)).reshape(a.shape), params)
    ahead, behind = (
        loss(jax.tree.map(lambda a, d, e=e: a + e * d, params, direction)) for e in (1e-6, -1e-6)
    )
    slope = sum(
        np.sum(g * d)
        for g, d in zip(*map(jax.tree.leaves, (update.gradient, direction)), strict=True)
    )
    np.testing.assert_allclose((ahead - behind) / 2e-6, slope, rtol=1e-6)


# Working memory --------------------------------------------------------------------------------


def blobs(num_train=40, shape=(3,), num_classes=3, dtype=np.float32, num_test=20):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, num_classes, num_train + num_test)
    inputs = rng.normal(size=(num_train + num_test, *shape)) + labels.reshape(-1, *[1] * len(shape))
    inputs = inputs.astype(dtype)
    return labelled.from_arrays(
        inputs[:num_train],
        labels[:num_train],
        inputs[num_train:],
        labels[num_train:],
        num_classes=num_classes,
    )


SMALL = {
    "network": biohsic.mlp(hidden=(6,)),
    "encode": networks.identity,
    "window": 5,
    "learning_rate": 1e-2,
    "num_hsic": 8,
    "history_epochs": 2,
}


def run(task, samples, num_steps, seed=0):
    init_key, step_key = jax.random.split(jax.random.key(seed))
    state = jit(task.init)(init_key, samples)
    step = jit(task.step)
    history = []
    for i in range(num_steps):
        key = jax.random.fold_in(step_key, i)
        state, scalars = step(state, task.sample(samples, key), key)
        history.append((state, scalars))
    return history


@functools.cache
def two_epochs(steps_per_epoch, memory=biohsic.sliding_windows):
    """36 windows of 40 samples, twice: [(state, scalars)] of every step."""
    task = biohsic.task(**SMALL, steps_per_epoch=steps_per_epoch, memory=memory())
    return run(task, blobs(), 2 * steps_per_epoch)


def same(a, b, rtol=0.0, atol=0.0):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=rtol, atol=atol)


def test_windows_slide_by_one_over_a_shuffled_epoch_and_each_updates_once():
    """A step against a plain loop: window i is order[i : i + 5], one AdamW update each."""
    samples = blobs()
    (state, scalars), (second, _) = two_epochs(1)
    init_key, _ = jax.random.split(jax.random.key(0))
    start = jit(biohsic.task(**SMALL).init)(init_key, samples)
    shuffle = jax.random.key(start.shuffle_seed)
    orders = [jax.random.permutation(jax.random.fold_in(shuffle, e), 40) for e in (0, 1)]
    assert sorted(orders[0].tolist()) == list(range(40))
    assert orders[0].tolist() != orders[1].tolist()
    optimizer = optax.adamw(1e-2, b1=0.9, b2=0.99, weight_decay=1e-4)
    network, params = SMALL["network"], start.params
    opt_state, losses = optimizer.init(params), []

    @jit
    def update(params, opt_state, x, y):
        Kx, Ky = kernels.rbf_kernel(x, sigma=0.5), kernels.rbf_kernel(y, sigma=0.1)
        found = biohsic.biological_rule(
            network, params, ((),) * 2, x, y, Kx, Ky, gamma=2.0, sigma_z=1.0
        )
        updates, opt_state = optimizer.update(found.gradient, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, found.outputs

    for epoch, reached in enumerate((state, second)):
        for i in range(36):
            rows = np.asarray(orders[epoch])[i : i + 5]
            x, y = samples["train_inputs"][rows], samples["train_targets"][rows]
            params, opt_state, outputs = update(params, opt_state, x, y)
            losses.append(float(optax.softmax_cross_entropy(outputs, y).mean()))
        same(reached.params, params, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(scalars["loss"], np.mean(losses[:36]), rtol=1e-5)


def test_the_online_form_equals_the_sliding_windows_step_by_step():
    sliding, online = two_epochs(3), two_epochs(3, biohsic.ring_buffer)
    for (a, scalars), (b, others) in zip(sliding, online, strict=True):
        same((a.params, scalars), (b.params, others), rtol=1e-6)


@pytest.mark.parametrize("memory", [biohsic.ring_buffer, biohsic.sliding_windows])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_memory_holds_the_window_oldest_first(memory, stride):
    samples = biohsic.Samples(jnp.arange(10) * 10, jnp.eye(10))
    kept, order = memory(), jnp.array([3, 1, 4, 0, 5, 9, 8, 2, 6, 7])
    view = {"window": 4, "stride": stride}
    recall = jit(functools.partial(kept.recall, **view))
    contents = kept.start(kept.init(samples, window=4), samples, order, 0, **view)
    for i in range(6 // stride + 1):
        contents, window = recall(contents, samples, order, i)
        np.testing.assert_array_equal(window.inputs, 10 * order[i * stride : i * stride + 4])
        np.testing.assert_array_equal(jnp.argmax(window.targets, axis=1), window.inputs / 10)


def test_parts_of_an_epoch_make_the_epoch():
    whole, parts = two_epochs(1), two_epochs(3)
    for epoch in (0, 1):
        # Not the reports, which a step averages over its own windows.
        same(whole[epoch][0].params, parts[3 * epoch + 2][0].params, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(whole[-1][0].plane, parts[-1][0].plane, rtol=1e-4, atol=1e-7)
    for number, (state, scalars) in enumerate(parts):
        points = [[scalars[f"hsic_xz_{layer}"], scalars[f"hsic_yz_{layer}"]] for layer in (1, 2)]
        epoch = number // 3
        np.testing.assert_array_equal(state.plane[epoch], points)  # the newest of its epoch
        assert not np.any(state.plane[epoch + 1 :])
        if epoch:
            np.testing.assert_array_equal(state.plane[0], parts[2][0].plane[0])
    np.testing.assert_allclose(
        whole[0][1]["loss"], np.mean([scalars["loss"] for _, scalars in parts[:3]]), rtol=1e-5
    )


# Leaky layers ----------------------------------------------------------------------------------


def test_a_leaky_layer_goes_a_fifth_of_its_way_in_a_millisecond():
    network = biohsic.lif_mlp(hidden=(2,), dt_s=1e-3, tau_s=5e-3)
    params = (
        networks.DenseParams(jnp.array([[1.0, -1.0]]), jnp.array([0.5, 0.0])),
        networks.DenseParams(jnp.array([[1.0], [2.0]]), jnp.array([0.0])),
    )
    u = (jnp.array([[1.0, 2.0]]), jnp.array([[-3.0]]))
    (z, outputs), (u_1, u_2) = biohsic.forward(network, params, u, jnp.array([[3.0]]))
    # Drives 3.5 and -3: 1 + 0.2 * 2.5 = 1.5 and 2 - 0.2 * 5 = 1; the norm makes them +1 and -1.
    np.testing.assert_allclose(u_1, [[1.5, 1.0]], rtol=1e-6)
    np.testing.assert_allclose(z, [[1, -1]], rtol=1e-4)
    np.testing.assert_allclose(u_2, [[-3 + 0.2 * (1 - 2 + 3)]], rtol=1e-4)
    np.testing.assert_array_equal(outputs, u_2)


@pytest.mark.parametrize("learner", LEARNERS[1:])
def test_the_baselines_hand_on_the_state_of_leaky_layers(learner):
    network = biohsic.lif_mlp(hidden=(6, 5))
    params, u, x, y, Kx, Ky = setting(network, (3,))
    u = jax.tree.map(lambda a: a + jnp.cos(jnp.arange(a.size)).reshape(a.shape), u)
    update = learn(learner, network, params, u, x, y, Kx, Ky)
    activity, states = jit(functools.partial(biohsic.forward, network))(params, u, x)
    same((update.u, update.outputs), (states, activity[-1]), rtol=1e-5, atol=1e-6)


LEAKY = {**SMALL, "network": biohsic.lif_mlp(hidden=(6,)), "time_steps": 4, "gamma": 10.0}


def test_state_goes_on_in_its_slot_or_starts_from_rest():
    """One window in each step, whose 4 time steps are done by hand."""
    samples = blobs(num_train=5)  # as many as a window: an epoch is one window
    optimizer = optax.adamw(1e-2, b1=0.9, b2=0.99, weight_decay=1e-4)
    for between in (biohsic.carry_on, biohsic.from_rest):
        history = run(biohsic.task(**LEAKY, between_windows=between), samples, 2)
        states = [state for state, _ in history]
        u = (
            states[0].u
            if between is biohsic.carry_on
            else jax.tree.map(jnp.zeros_like, states[0].u)
        )
        order = jax.random.permutation(
            jax.random.fold_in(jax.random.key(states[0].shuffle_seed), 1), 5
        )
        x, y = (samples[f"train_{name}"][order] for name in ("inputs", "targets"))
        Kx, Ky = kernels.rbf_kernel(x, sigma=0.5), kernels.rbf_kernel(y, sigma=0.1)
        params, opt_state = states[0].params, states[0].opt_state

        @jit
        def time_step(params, opt_state, u, x=x, y=y, Kx=Kx, Ky=Ky):
            found = biohsic.biological_rule(
                LEAKY["network"], params, u, x, y, Kx, Ky, gamma=10.0, sigma_z=1.0
            )
            updates, opt_state = optimizer.update(found.gradient, opt_state, params)
            params = optax.apply_updates(params, updates)
            return params, opt_state, found.u, found.outputs, found.scalars["signal_norm_1"]

        outputs, norms = [], []
        for _ in range(4):
            params, opt_state, u, out, norm = time_step(params, opt_state, u)
            outputs.append(out)
            norms.append(norm)
        same((states[1].params, states[1].u), (params, u), rtol=2e-3, atol=1e-5)
        late = (outputs[2] + outputs[3]) / 2  # the second half of the time steps
        expected = optax.softmax_cross_entropy(late, y).mean()
        np.testing.assert_allclose(history[1][1]["loss"], expected, rtol=1e-3)
        # Reports are means over all time steps.
        np.testing.assert_allclose(history[1][1]["signal_norm_1"], np.mean(norms), rtol=1e-3)
        assert abs(np.mean(norms) / norms[-1] - 1) > 0.01


def test_evaluation_starts_from_rest_and_takes_the_second_half():
    samples = blobs(num_train=12)
    task = biohsic.task(**LEAKY)
    state = jit(task.init)(jax.random.key(3), samples)
    state = state._replace(u=jax.tree.map(lambda a: a + 5.0, state.u))  # must not matter
    scalars, _ = jit(task.evaluate)(state, samples, jax.random.key(0))
    u = LEAKY["network"].rest(state.params, 20)
    outputs = []
    for _ in range(4):
        activity, u = biohsic.forward(LEAKY["network"], state.params, u, samples["test_inputs"])
        outputs.append(activity[-1])
    late, y = (outputs[2] + outputs[3]) / 2, samples["test_targets"]
    np.testing.assert_allclose(
        scalars["test_loss"], optax.softmax_cross_entropy(late, y).mean(), rtol=1e-5
    )
    right = np.mean(np.argmax(late, axis=1) == np.argmax(y, axis=1))
    np.testing.assert_allclose(scalars["test_accuracy"], right, rtol=1e-6)


# Inputs ----------------------------------------------------------------------------------------


def test_bytes_become_numbers_about_zero():
    np.testing.assert_allclose(
        biohsic.pixels(jnp.array([0, 51, 255], jnp.uint8)), [-1, -0.6, 1], rtol=1e-6
    )
    white = biohsic.cifar_pixels(jnp.full((1, 1, 3), 255, jnp.uint8))[0, 0]
    np.testing.assert_allclose(
        white, [(1 - 0.4914) / 0.247, (1 - 0.4822) / 0.243, (1 - 0.4465) / 0.261], rtol=1e-5
    )


def test_crop_and_flip_shifts_all_images_alike_and_mirrors_some():
    images = jax.random.normal(jax.random.key(0), (4, 5, 5, 2))
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifts, mirrored, mixed = set(), [], 0
    augment = jit(biohsic.crop_and_flip)
    for seed in range(60):
        got = np.asarray(augment(jax.random.key(seed), images))
        found = []
        for row in range(3):
            for column in range(3):
                crop = padded[:, row : row + 5, column : column + 5]
                plain = [np.array_equal(a, b) for a, b in zip(got, crop, strict=True)]
                turned = [np.array_equal(a, b[:, ::-1]) for a, b in zip(got, crop, strict=True)]
                if all(p or t for p, t in zip(plain, turned, strict=True)):
                    found.append((row, column))
                    mirrored += turned
                    mixed += any(turned) and not all(turned)
        assert len(found) == 1
        shifts.update(found)
    assert len(shifts) == 9
    assert 0.35 < np.mean(mirrored) < 0.65
    assert mixed > 40  # of 60 windows; 52 are expected where each image has its own coin


def test_bytes_over_255_lie_between_0_and_1():
    np.testing.assert_allclose(
        biohsic.over_255(jnp.array([0.0, 51.0, 255.0])), [0, 0.2, 1], rtol=1e-6
    )


def test_every_window_is_augmented_with_a_key_of_its_own():
    """Inputs made uniform noise: mean and variance over 600 windows tell one draw from many."""

    def watch(network, params, u, x, y, Kx, Ky, *, gamma, sigma_z):
        del network, Kx, Ky, gamma, sigma_z
        unmoved = jax.tree.map(jnp.zeros_like, params)
        return biohsic.Update(unmoved, y, u, {"seen": x[0, 0], "squared": x[0, 0] ** 2})

    task = biohsic.task(
        **{**SMALL, "network": biohsic.mlp(hidden=())},
        learner=watch,
        augment=lambda key, inputs: jnp.zeros_like(inputs) + jax.random.uniform(key),
    )
    history = run(task, blobs(num_train=604), 2)
    seen = [float(scalars["seen"]) for _, scalars in history]
    for mean, (_, scalars) in zip(seen, history, strict=True):
        np.testing.assert_allclose(mean, 1 / 2, atol=0.05)
        np.testing.assert_allclose(scalars["squared"] - mean**2, 1 / 12, atol=0.015)
    assert seen[0] != seen[1]  # and in the next epoch with others


# The task --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": 1}, "window must be at least 2, but is 1"),
        ({"gamma": 0.0}, "gamma must be positive, but is 0.0"),
        ({"sigmas": (0.5, -0.1, 1.0)}, "sigma_y must be positive, but is -0.1"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"stride": 7}, r"stride must be at most window \(6\), but is 7"),
        ({"num_hsic": 3}, "num_hsic must be at least 4, but is 3"),
        ({"time_steps": 0}, "time_steps must be at least 1"),
        ({"gamma": float("inf")}, "gamma must be finite, but is inf"),
        ({"gamma": float("nan")}, "gamma must be positive, but is nan"),
        ({"weight_decay": float("inf")}, "weight_decay must be finite, but is inf"),
        ({"b1": 1.0}, "b1 must be at least 0 and below 1, but is 1.0"),
        ({"b2": -0.1}, "b2 must be at least 0 and below 1, but is -0.1"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        biohsic.task(**settings)


def test_networks_refuse_impossible_sizes():
    for call, message in (
        (lambda: biohsic.mlp(hidden=(4, 0)), r"hidden\[1\] must be at least 1, but is 0"),
        (lambda: biohsic.cnn(channels=()), "number_of_layers must be at least 1"),
        (lambda: biohsic.lif_mlp(tau_s=0.0), "tau_s must be positive"),
        (lambda: biohsic.lif_mlp(dt_s=1.0), "dt_s must be at most tau_s"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize(
    ("settings", "samples", "message"),
    [
        ({"window": 50}, blobs(), "window must be at most the 40 training samples, but is 50"),
        ({"steps_per_epoch": 37}, blobs(), "steps_per_epoch must be at most 36"),
        ({}, {**blobs(), "test_inputs": np.ones((20, 4))}, r"have the shape \(3,\), but test"),
        ({}, {**blobs(), "test_targets": np.ones((20, 2))}, r"have \(3,\) classes, but test"),
        ({}, (), "the task needs labelled data"),
        ({}, {**blobs(), "train_targets": np.ones((39, 3))}, "40 training inputs, but 39 training"),
        ({}, {**blobs(), "test_inputs": np.ones((19, 3))}, "19 test inputs, but 20 test targets"),
        ({}, blobs(num_test=3), "HSIC needs at least 4 test samples, but has 3"),
        ({"encode": biohsic.cifar_pixels}, blobs(shape=(4, 4, 1)), r"3 colours, .* \(4, 4, 1\)"),
        ({"augment": biohsic.crop_and_flip}, blobs(), r"needs images .* inputs are \(3,\)"),
        ({"network": biohsic.cnn(channels=(4,))}, blobs(), r"need images .* shape \(3,\)"),
        (
            {"network": biohsic.cnn(channels=(4, 4))},
            blobs(shape=(6, 6, 1)),
            r"multiples of 4, but the inputs have the shape \(6, 6, 1\)",
        ),
    ],
)
def test_data_that_do_not_fit_are_refused(settings, samples, message):
    task = biohsic.task(**{**SMALL, **settings})
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(task.init, jax.random.key(0), samples)


@functools.cache
def trained():
    """Three epochs on the digits: scalars of an evaluation before and after, and the readout."""
    samples = labelled.digits()
    task = biohsic.task(history_epochs=4)
    evaluate = jit(task.evaluate)
    init_key, _ = jax.random.split(jax.random.key(0))
    before, _ = evaluate(jit(task.init)(init_key, samples), samples, jax.random.key(0))
    history = run(task, samples, 3)
    after, readout = evaluate(history[-1][0], samples, jax.random.key(0))
    return before, after, readout


def test_the_rule_learns_digits_and_gathers_information_on_the_class():
    before, after, _ = trained()
    assert before["test_accuracy"] < 0.3
    assert after["test_accuracy"] > 0.8
    assert after["hsic_yz_2"] > 1.2 * before["hsic_yz_2"]


def test_figures_are_drawn_from_the_readout():
    _, _, readout = trained()
    drawn = biohsic.draw(jax.tree.map(np.asarray, readout))
    assert set(drawn) == {"information_plane", "confusion"}
    lines = drawn["information_plane"].axes[0].lines
    assert len(lines[0].get_xdata()) == 3  # epochs done
    assert readout["epochs_done"].dtype == np.int32  # 65 steps of 1/65 are not 1 in float32
    task, samples = biohsic.task(**LEAKY), blobs(shape=(2,), num_classes=2)
    _, readout = jit(task.evaluate)(
        jit(task.init)(jax.random.key(0), samples), samples, jax.random.key(0)
    )
    drawn = biohsic.draw(jax.tree.map(np.asarray, readout))
    assert "decision_boundary" in drawn
    for figure in drawn.values():
        assert any(axes.has_data() for axes in figure.axes)


def test_the_decision_map_is_the_networks_answer_at_its_place():
    samples = blobs(shape=(2,), num_classes=2)
    task = biohsic.task(**SMALL)
    state = jit(task.init)(jax.random.key(1), samples)
    _, readout = jit(task.evaluate)(state, samples, jax.random.key(0))
    (left, bottom), (right, top) = np.asarray(readout["decision_extent"])
    at = jnp.array([[left + 0.2 * (right - left), bottom + 0.7 * (top - bottom)]])
    outputs = biohsic.forward(SMALL["network"], state.params, ((),) * 2, at)[0][-1]
    np.testing.assert_allclose(
        readout["decision_map"][20, 70], jax.nn.softmax(outputs)[0, 1], rtol=1e-4
    )


def test_confusion_counts_true_classes_in_rows():
    samples = blobs()
    task = biohsic.task(**SMALL)
    state = run(task, samples, 2)[-1][0]
    scalars, readout = jit(task.evaluate)(state, samples, jax.random.key(0))
    np.testing.assert_array_equal(
        readout["confusion"].sum(axis=1), samples["test_targets"].sum(axis=0)
    )
    np.testing.assert_allclose(
        np.trace(readout["confusion"]) / 20, scalars["test_accuracy"], rtol=1e-6
    )


def test_evaluated_scores_are_those_of_each_set():
    samples = blobs()
    task = biohsic.task(**SMALL, num_eval=8)
    state = jit(task.init)(jax.random.key(0), samples)
    scalars, _ = jit(task.evaluate)(state, samples, jax.random.key(0))
    for name in ("train", "test"):
        x, y = samples[f"{name}_inputs"][:8], samples[f"{name}_targets"][:8]
        z = numpy_dense_layer(state.params[0], x)[2]
        outputs = z @ np.asarray(state.params[1].weights) + np.asarray(state.params[1].bias)
        loss = -np.mean(np.sum(y * scipy.special.log_softmax(outputs, axis=1), axis=1))
        np.testing.assert_allclose(scalars[f"{name}_loss"], loss, rtol=1e-4)
        right = np.mean(outputs.argmax(axis=1) == y.argmax(axis=1))
        np.testing.assert_allclose(scalars[f"{name}_accuracy"], right, rtol=1e-6)


def test_information_is_the_unbiased_hsic_of_the_first_samples():
    samples = blobs()
    task = biohsic.task(**SMALL)
    state = jit(task.init)(jax.random.key(0), samples)
    scalars, _ = jit(task.evaluate)(state, samples, jax.random.key(0))
    x, y = samples["test_inputs"][:8], samples["test_targets"][:8]
    z = numpy_dense_layer(state.params[0], x)[2]
    Kz = jnp.asarray(reference_kernel(z, 1.0))
    for pair, kernel in (("xz", reference_kernel(x, 0.5)), ("yz", reference_kernel(y, 0.1))):
        np.testing.assert_allclose(
            scalars[f"hsic_{pair}_1"], kernels.unbiased_hsic(jnp.asarray(kernel), Kz), rtol=1e-3
        )


# Fiddlers --------------------------------------------------------------------------------------


fiddled = fdl_configs.make


@pytest.mark.parametrize(
    ("config", "fiddlers", "message"),
    [
        ("biohsic", ("single_layer", "cifar10"), "cifar10 comes .* learner is back_propagation"),
        ("biohsic", ("hsic_gradient", "digits"), "digits comes .* learner is hsic_gradient"),
        ("biohsic", ("mnist_10k", "fashion_mnist"), "fashion_mnist .* data set is mnist_10k"),
        ("biohsic", ("laptop", "cifar10_mlp"), "cifar10_mlp .* data set is digits already"),
        ("biohsic", ("hsic_gradient", "single_layer"), "learner is hsic_gradient already"),
        ("biohsic_lif", ("back_propagation", "linear"), "linear comes .* back_propagation"),
        ("biohsic_lif", ("single_layer", "unscaled"), "unscaled comes .* back_propagation"),
    ],
)
def test_fiddlers_in_an_order_that_undoes_one_are_refused(config, fiddlers, message):
    with pytest.raises(ValueError, match=message):
        fiddled(config, *fiddlers)


def test_back_propagation_has_an_mlp_in_the_place_of_leaky_layers():
    for data_set, hidden in (("xor", (10, 4)), ("linear", (4,))):
        config = fiddled("biohsic_lif", data_set, "unscaled", "back_propagation")
        assert config.task.network == fdl.Config(biohsic.mlp, hidden=hidden)
        assert (config.task.window, config.task.stride, config.task.time_steps) == (256, 256, 1)
        assert config.num_steps == 25
        assert config.task.encode is networks.identity
        experiment = train.build(config)
        state = jax.eval_shape(experiment.task.init, jax.random.key(0), experiment.data)
        assert [p.bias.shape for p in state.params] == [*((size,) for size in hidden), (2,)]
    assert fiddled("biohsic_lif", "single_layer").task.network.hidden == ()


def test_curves_and_points_show_means_over_seeds():
    values = np.array([[1.0, 3.0], [2.0, 6.0], [5.0, 5.0]])
    labels = {"x_label": "epoch", "y_label": "accuracy", "title": "title"}
    ax = figures.curves_with_spread({"rule": values}, **labels).axes[0]
    np.testing.assert_allclose(ax.lines[0].get_xydata(), [[0, 2], [1, 4], [2, 5]])
    assert ax.get_legend_handles_labels()[1] == ["rule"]
    ax = figures.points_with_spread({2: values[0], 8: values[1]}, **labels).axes[0]
    means = next(line for line in ax.lines if line.get_label() == "mean over seeds")
    np.testing.assert_allclose(means.get_xydata(), [[2, 2], [8, 4]])


# The pieces of networks.py that stand in these networks -------------------------------------------


def test_convolution_and_pooling_equal_flax():
    keys = jax.random.split(jax.random.key(0), 3)
    images = jax.random.normal(keys[0], (2, 6, 4, 3))
    params = networks.DenseParams(
        jax.random.normal(keys[1], (27, 5)), jax.random.normal(keys[2], (5,))
    )
    kernel = {"kernel": params.weights.reshape(3, 3, 3, 5), "bias": params.bias}
    expected = nn.Conv(5, (3, 3), padding=1).apply({"params": kernel}, images)
    np.testing.assert_allclose(networks.conv_3x3(params, images), expected, rtol=1e-4, atol=1e-4)
    pooled = nn.avg_pool(images, (2, 2), strides=(2, 2))
    np.testing.assert_allclose(networks.average_pool_2x2(images), pooled, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="even sides, but these are of 3 x 4"):
        networks.average_pool_2x2(images[:, :3])


def test_layer_norm_equals_flax():
    x = 3 + 2 * jax.random.normal(jax.random.key(0), (4, 7))
    norm = nn.LayerNorm(use_scale=False, use_bias=False)
    np.testing.assert_allclose(networks.layer_norm(x), norm.apply({}, x), rtol=1e-4, atol=1e-5)


def test_dense_weights_have_the_variance_of_one_over_their_inputs():
    params = networks.dense_init(jax.random.key(0), num_in=400, num_out=300)
    np.testing.assert_allclose(np.var(params.weights), 1 / 400, rtol=0.02)
    assert not np.any(params.bias)
    with pytest.raises(ValueError, match="num_in must be at least 1, but is 0"):
        networks.dense_init(jax.random.key(0), num_in=0, num_out=3)
