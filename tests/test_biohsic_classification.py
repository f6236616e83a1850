"""The task of biohsic: windows of an epoch, time steps, evaluation, and what is learned."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special

from hfjax import kernels, missing
from hfjax.data import labelled
from hfjax.models import biohsic
from tests.biohsic_small import (
    MEMORY,
    NETWORK,
    SMALL,
    adamw,
    blobs,
    epoch_order,
    jit,
    numpy_dense_layer,
    one_update,
    run,
    same,
    weights,
)
from tests.contract import check_figures
from tests.test_kernels import reference_kernel

MNIST = biohsic.Bottleneck()
LEAKY_NETWORK = biohsic.lif_mlp(hidden=(6,))
LEAKY = {
    **SMALL,
    "network": LEAKY_NETWORK,
    "time_steps": 4,
    "bottleneck": MNIST._replace(gamma=10.0),
}

# --- Windows ---


@functools.cache
def two_epochs(steps_per_epoch, memory=MEMORY):
    """36 windows of 40 samples, twice: [(state, scalars)] of every step."""
    task = biohsic.task(**{**SMALL, "memory": memory}, steps_per_epoch=steps_per_epoch)
    return run(task, blobs(), 2 * steps_per_epoch)


def test_windows_slide_by_one_over_a_shuffled_epoch_and_each_updates_once():
    """A step against a plain loop: window i is order[i : i + 5], with one AdamW update."""
    samples, layers = blobs(), NETWORK(3)
    (state, scalars), (second, _) = two_epochs(1)
    init_key, _ = jax.random.split(jax.random.key(0))
    start = jit(biohsic.task(**SMALL).init)(init_key, samples)
    orders = [np.asarray(epoch_order(start, epoch, 40)) for epoch in (0, 1)]
    assert sorted(orders[0].tolist()) == list(range(40))
    assert orders[0].tolist() != orders[1].tolist()
    params, opt_state, losses = start.params, adamw().init(start.params), []

    @jit
    def update(params, opt_state, x, y):
        window = biohsic.see(x, y, MNIST)
        params, opt_state, update = one_update(
            biohsic.biological_rule, layers, params, opt_state, ((),) * 2, window, MNIST
        )
        return params, opt_state, update.outputs

    for order, reached in zip(orders, (state, second), strict=True):
        for i in range(36):
            rows = order[i : i + 5]
            x, y = samples["train_inputs"][rows], samples["train_targets"][rows]
            params, opt_state, outputs = update(params, opt_state, x, y)
            losses.append(float(optax.softmax_cross_entropy(outputs, y).mean()))
        same(reached.params, params, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(scalars["loss"], np.mean(losses[:36]), rtol=1e-5)


def test_the_online_form_equals_the_sliding_windows_step_by_step():
    sliding, online = two_epochs(3), two_epochs(3, biohsic.ring_buffer(window=5))
    for (a, scalars), (b, others) in zip(sliding, online, strict=True):
        same((a.params, scalars), (b.params, others), rtol=3e-6, atol=1e-7)


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


def test_every_window_is_augmented_with_its_own_key():
    """Inputs are uniform noise: over 600 windows, mean and variance are those of many draws."""

    def watch(layers, params, u, window, bottleneck):
        unmoved = jax.tree.map(jnp.zeros_like, params)
        x = window.x[0, 0]
        return biohsic.Update(unmoved, window.y, u, {"seen": x, "squared": x**2})

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


# --- Time steps ---


@pytest.mark.parametrize("between", [biohsic.carry_on, biohsic.from_rest])
def test_state_goes_on_in_its_slot_or_starts_from_rest(between):
    """One window in each step, whose 4 time steps are done by hand."""
    samples, layers = blobs(num_train=5), LEAKY_NETWORK(3)  # as many as a window: one an epoch
    history = run(biohsic.task(**LEAKY, between_windows=between), samples, 2)
    states = [state for state, _ in history]
    u = states[0].u
    if between is biohsic.from_rest:
        u = jax.tree.map(jnp.zeros_like, u)
    order = epoch_order(states[0], 1, 5)
    window = biohsic.see(
        *(samples[f"train_{name}"][order] for name in ("inputs", "targets")), LEAKY["bottleneck"]
    )

    @jit
    def time_step(params, opt_state, u):
        return one_update(
            biohsic.biological_rule, layers, params, opt_state, u, window, LEAKY["bottleneck"]
        )

    params, opt_state = states[0].params, states[0].opt_state
    outputs, norms = [], []
    for _ in range(4):
        params, opt_state, update = time_step(params, opt_state, u)
        u = update.u
        outputs.append(update.outputs)
        norms.append(update.scalars["signal_norm_1"])
    same((states[1].params, states[1].u), (params, u), rtol=2e-3, atol=1e-5)
    late = (outputs[2] + outputs[3]) / 2  # the second half of the time steps
    expected = optax.softmax_cross_entropy(late, window.y).mean()
    np.testing.assert_allclose(history[1][1]["loss"], expected, rtol=1e-3)
    # Reports are means over all time steps.
    np.testing.assert_allclose(history[1][1]["signal_norm_1"], np.mean(norms), rtol=5e-4)
    assert abs(np.mean(norms) / norms[-1] - 1) > 2e-3


def test_evaluation_starts_from_rest_and_takes_the_second_half():
    samples, layers = blobs(num_train=12), LEAKY_NETWORK(3)
    task = biohsic.task(**LEAKY)
    state = jit(task.init)(jax.random.key(3), samples)
    state = state._replace(u=jax.tree.map(lambda a: a + 5.0, state.u))  # must not matter
    scalars, _ = jit(task.evaluate)(state, samples, jax.random.key(0))
    u, outputs = biohsic.at_rest(layers, 20), []
    for _ in range(4):
        activity, u = biohsic.forward(layers, state.params, u, samples["test_inputs"])
        outputs.append(activity[-1])
    late, y = (outputs[2] + outputs[3]) / 2, samples["test_targets"]
    np.testing.assert_allclose(
        scalars["test_loss"], optax.softmax_cross_entropy(late, y).mean(), rtol=1e-5
    )
    right = np.mean(np.argmax(late, axis=1) == np.argmax(y, axis=1))
    np.testing.assert_allclose(scalars["test_accuracy"], right, rtol=1e-6)


# --- What is refused ---


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bottleneck": MNIST._replace(gamma=0.0)}, "gamma must be positive, but is 0.0"),
        ({"bottleneck": MNIST._replace(sigma_y=-0.1)}, "sigma_y must be positive, but is -0.1"),
        ({"bottleneck": MNIST._replace(gamma=np.inf)}, "gamma must be finite, but is inf"),
        ({"bottleneck": MNIST._replace(gamma=np.nan)}, "gamma must be positive, but is nan"),
        ({"num_hsic": 3}, "num_hsic must be at least 4, but is 3"),
        ({"time_steps": 0}, "time_steps must be at least 1"),
        ({"steps_per_epoch": 0}, "steps_per_epoch must be at least 1"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        biohsic.task(**settings)


@pytest.mark.parametrize(
    ("settings", "samples", "message"),
    [
        (
            {"memory": biohsic.sliding_windows(window=50)},
            blobs(),
            "window must be at most the 40 training samples, but is 50",
        ),
        ({"steps_per_epoch": 37}, blobs(), "steps_per_epoch must be at most 36"),
        ({}, {**blobs(), "test_inputs": np.ones((20, 4))}, r"have the shape \(3,\), but test"),
        ({}, {**blobs(), "test_targets": np.ones((20, 2))}, r"have \(3,\) classes, but test"),
        ({}, (), "the task needs labelled data"),
        ({}, {**blobs(), "train_targets": np.ones((39, 3))}, "40 training inputs, but 39 training"),
        ({}, {**blobs(), "test_inputs": np.ones((19, 3))}, "19 test inputs, but 20 test targets"),
        ({}, blobs(num_test=3), "HSIC needs at least 4 test samples, but has 3"),
        ({"encode": biohsic.cifar_pixels}, blobs(shape=(4, 4, 1)), r"3 colours, .* \(4, 4, 1\)"),
        ({"augment": biohsic.crop_and_flip}, blobs(), r"needs images .* inputs are \(3,\)"),
        ({"network": biohsic.cnn(channels=(4,))}, blobs(), r"needs images .* shape \(3,\)"),
        (
            {"network": biohsic.cnn(channels=(4, 4))},
            blobs(shape=(6, 6, 1)),
            "layer below has 3 x 3; the sides of the images must be divisible by 2 once for each",
        ),
    ],
)
def test_data_that_do_not_fit_are_refused(settings, samples, message):
    task = biohsic.task(**{**SMALL, **settings})
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(task.init, jax.random.key(0), samples)


# --- Evaluation ---


@functools.cache
def trained():
    """Three epochs on the digits: scalars of an evaluation before and after, and the readout."""
    samples = labelled.digits()
    task = biohsic.task(history_epochs=4, num_eval=300)
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
    assert after["hsic_yz_2"] > 1.1 * before["hsic_yz_2"]


def test_apply_gives_the_outputs_that_are_evaluated():
    samples, state, scalars, _ = evaluated()
    task = biohsic.task(**SMALL, num_eval=8)
    inputs = np.asarray(samples["test_inputs"][:8])
    outputs = jit(task.apply)(state, jnp.asarray(inputs))
    y = samples["test_targets"][:8]
    assert outputs.shape == y.shape
    right = np.argmax(outputs, axis=1) == np.argmax(y, axis=1)
    assert np.mean(right) == pytest.approx(float(scalars["test_accuracy"]))
    loss = -np.mean(np.sum(jax.nn.log_softmax(outputs) * y, axis=1))
    assert float(loss) == pytest.approx(float(scalars["test_loss"]), rel=1e-4)
    np.testing.assert_allclose(task.apply(state, jnp.asarray(inputs[3:4])), outputs[3:4], atol=1e-5)


@functools.cache
def evaluated():
    """Blobs in the plane after two steps: samples, state, scalars and readout."""
    samples = blobs(shape=(2,), num_classes=2)
    task = biohsic.task(**SMALL, num_eval=8)
    state = run(task, samples, 2)[-1][0]
    return samples, state, *jit(task.evaluate)(state, samples, jax.random.key(0))


def test_figures_are_drawn_from_the_readout():
    _, _, readout = trained()
    drawn = biohsic.draw(missing.on_host(readout))
    assert set(drawn) == {"information_plane", "objective", "confusion"}
    check_figures(drawn)
    # The objective of the first layer, gamma 2, after each epoch; the test samples' at the end.
    on_host = missing.on_host(readout)
    first, at_end, *_ = drawn["objective"].axes[0].lines
    np.testing.assert_allclose(
        first.get_ydata(), on_host["plane"][:3, 0, 0] - 2 * on_host["plane"][:3, 0, 1], rtol=1e-6
    )
    xz, yz = on_host["test_plane"][0]
    np.testing.assert_allclose(at_end.get_ydata(), xz - 2 * yz, rtol=1e-6)
    num_classes = len(readout["confusion"])
    assert list(drawn["confusion"].axes[0].get_xticks()) == list(range(num_classes))
    lines = drawn["information_plane"].axes[0].lines
    assert len(lines[0].get_xdata()) == 3  # epochs done
    assert readout["epochs_done"].dtype == np.int32  # 65 steps of 1/65 are not 1 in float32
    drawn = biohsic.draw(jax.tree.map(np.asarray, evaluated()[-1]))
    assert "decision_boundary" in drawn
    check_figures(drawn)


def test_the_decision_map_is_the_networks_answer_at_its_place():
    _, state, _, readout = evaluated()
    (left, bottom), (right, top) = np.asarray(readout["decision_extent"])
    at = jnp.array([[left + 0.2 * (right - left), bottom + 0.7 * (top - bottom)]])
    (_, outputs), _ = biohsic.forward(NETWORK(2), state.params, ((),) * 2, at)
    np.testing.assert_allclose(
        readout["decision_map"][20, 70], jax.nn.softmax(outputs)[0, 1], rtol=1e-4
    )


def test_confusion_counts_true_classes_in_rows():
    samples, _, scalars, readout = evaluated()
    np.testing.assert_array_equal(
        readout["confusion"].sum(axis=1), samples["test_targets"][:8].sum(axis=0)
    )
    np.testing.assert_allclose(
        np.trace(readout["confusion"]) / 8, scalars["test_accuracy"], rtol=1e-6
    )


def test_evaluated_scores_are_those_of_each_set():
    samples, state, scalars, _ = evaluated()
    kernel, bias = weights(state.params[1])
    for name in ("train", "test"):
        x, y = samples[f"{name}_inputs"][:8], samples[f"{name}_targets"][:8]
        outputs = numpy_dense_layer(state.params[0], x)[2] @ kernel + bias
        loss = -np.mean(np.sum(y * scipy.special.log_softmax(outputs, axis=1), axis=1))
        np.testing.assert_allclose(scalars[f"{name}_loss"], loss, rtol=1e-4)
        right = np.mean(outputs.argmax(axis=1) == y.argmax(axis=1))
        np.testing.assert_allclose(scalars[f"{name}_accuracy"], right, rtol=1e-6)


def test_information_is_the_unbiased_hsic_of_the_first_samples():
    samples, state, scalars, _ = evaluated()
    x, y = samples["test_inputs"][:8], samples["test_targets"][:8]
    z = numpy_dense_layer(state.params[0], x)[2]
    Kz = jnp.asarray(reference_kernel(z, 1.0))
    for pair, kernel in (("xz", reference_kernel(x, 0.5)), ("yz", reference_kernel(y, 0.1))):
        np.testing.assert_allclose(
            scalars[f"hsic_{pair}_1"], kernels.unbiased_hsic(jnp.asarray(kernel), Kz), rtol=1e-3
        )
