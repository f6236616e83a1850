"""The reservoir and RMHebb against NumPy, and that its outputs come to follow the global signal."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hfjax import missing
from hfjax.models import biohsic, reservoir
from tests import small
from tests.command_line import hfjax_here
from tests.contract import check_figures
from tests.test_kernels import reference_kernel, reference_signal

# Tests wait for the compiler, not for what it makes.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
SMALL = {"num_units": 60, "num_out": 3, "num_samples": 16, "window": 5, "time_steps": 8}
DATA = small.noise(shape=(3, 3, 1), num_train=1, num_test=16)


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def trained(epochs, **settings):
    """The task, its states from the first on, and the scalars of every epoch."""
    task = reservoir.task(**{**SMALL, **settings})
    state = jit(task.init)(jax.random.key(0), DATA)
    step, states, history = jit(task.step), [state], []
    for i in range(epochs):
        key = jax.random.key(i)
        state, scalars = step(state, task.sample(DATA, key), key)
        states.append(state)
        history.append(scalars)
    return task, states, history


def order_of(state):
    """The samples' order in the epoch that follows."""
    key = jax.random.fold_in(jax.random.key(state.shuffle_seed), state.steps)
    return np.asarray(jax.random.permutation(key, 16))


def reference_epoch(state, order, *, rate, gamma=2.0, sigma=0.5):
    """Windows, time steps and rule written from the equations.

    rate: learning rate, one or one of each time step.
    -> W_o, u, outputs, targets, and the outputs of each window's second run, which learns nothing.
    """
    rates = iter(np.broadcast_to(rate, 12 * 8))
    x = np.asarray(DATA["test_inputs"], np.float64).reshape(16, -1) / 127.5 - 1
    y, z = np.asarray(DATA["test_targets"], np.float64), np.asarray(state.z)
    W_r, W_i, W_f = map(np.asarray, state.weights)
    W_o, u = np.asarray(state.readout).copy(), np.asarray(state.u).copy()
    outputs, targets, replayed = [], [], []
    for i in range(12):
        rows = order[i : i + 5]
        xi = reference_signal(
            reference_kernel(x[rows], sigma),
            reference_kernel(y[rows], sigma),
            z[rows],
            gamma,
            sigma,
        )
        newest = rows[-1]
        v = np.concatenate([x[newest], y[newest], z[newest]])
        for _ in range(8):
            r = np.tanh(u)
            o = W_o @ r
            u = u + 0.001 / 0.005 * (1.2 * W_r @ r + W_i @ v + W_f @ o - u)
            W_o = W_o - next(rates) * np.outer(o - xi, r)
            outputs.append(o)
            targets.append(xi)
        again = u
        for _ in range(8):
            r = np.tanh(again)
            o = W_o @ r
            again = again + 0.001 / 0.005 * (1.2 * W_r @ r + W_i @ v + W_f @ o - again)
            replayed.append(o)
    return W_o, u, *map(np.array, (outputs, targets, replayed))


def test_epochs_equal_the_equations(float64):
    """Two of them: the second goes on from the first, and leaves what that one noted."""
    _, states, history = trained(2, learning_rate=0.01, num_epochs=3)
    for epoch, scalars in enumerate(history):
        start, state = states[epoch : epoch + 2]
        readout, u, outputs, targets, _ = reference_epoch(start, order_of(start), rate=0.01)
        assert np.abs(readout - start.readout).max() > 1e-6
        np.testing.assert_allclose(state.readout, readout, rtol=1e-6, atol=1e-12)
        np.testing.assert_allclose(state.u, u, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(
            state.late.outputs.reshape(-1, 3), outputs[16:], rtol=1e-5, atol=1e-12
        )
        np.testing.assert_allclose(state.late.targets, targets[::8][2:], rtol=1e-8)
        error = np.mean((outputs - targets) ** 2, axis=1) / np.mean(targets**2)
        np.testing.assert_allclose(scalars["error"], error.mean(), rtol=1e-6)
        np.testing.assert_allclose(scalars["last_step_error"], error[7::8].mean(), rtol=1e-6)
        rows = error.reshape(12, 8).mean(axis=1)
        np.testing.assert_allclose(state.errors[epoch], rows, rtol=1e-6)
        np.testing.assert_array_equal(state.errors[:epoch], start.errors[:epoch])
        assert not np.any(state.errors[epoch + 1 :])
        if epoch == 0:
            np.testing.assert_allclose(
                state.early.outputs.reshape(-1, 3), outputs[:80], rtol=1e-5, atol=1e-12
            )
            np.testing.assert_allclose(state.early.targets, targets[::8][:10], rtol=1e-8)
        else:
            for kept, before in zip(state.early, start.early, strict=True):
                np.testing.assert_array_equal(kept, before)


def test_a_schedule_counts_the_time_steps_of_the_run(float64):
    decay = optax.exponential_decay(0.01, transition_steps=50, decay_rate=0.5)
    _, (_, start, state), _ = trained(2, learning_rate=decay)
    rates = 0.01 * 0.5 ** ((96 + np.arange(96)) / 50)
    readout, *_ = reference_epoch(start, order_of(start), rate=rates)
    np.testing.assert_allclose(state.readout, readout, rtol=1e-6, atol=1e-12)


def test_a_schedule_is_named_on_the_command_line():
    code, out, error = hfjax_here(
        "--fdl_config=reservoir",
        "--fdl_set=task.learning_rate=optax:exponential_decay",
        "--fdl_set=task.learning_rate.init_value=1e-3",
        "--fdl_set=task.learning_rate.transition_steps=1820",
        "--fdl_set=task.learning_rate.decay_rate=0.5",
        "--print_config",
    )
    assert (code, error) == (0, "")
    assert "task.learning_rate.decay_rate=0.5" in out


def test_frozen_and_replayed_errors(float64):
    """Both errors against the equations; untrained outputs stay 0, whose error is 1."""
    task, (start, _, state), _ = trained(2, learning_rate=0.01)
    evaluate = jit(task.evaluate)
    scalars, _ = evaluate(start, DATA, jax.random.key(0))
    np.testing.assert_allclose(scalars["frozen_error"], 1, rtol=1e-9)
    scalars, _ = evaluate(state, DATA, jax.random.key(0))
    _, _, frozen, targets, _ = reference_epoch(state, np.arange(16), rate=0.0)
    *_, replayed = reference_epoch(state, np.arange(16), rate=0.01)
    for name, outputs in (("frozen_error", frozen), ("replay_error", replayed)):
        expected = np.mean((outputs - targets) ** 2) / np.mean(targets**2)
        np.testing.assert_allclose(scalars[name], expected, rtol=1e-5)
    assert scalars["replay_error"] < 0.5


def test_outputs_come_to_follow_the_signal_within_a_window():
    _, (*_, state), history = trained(2, num_units=300, time_steps=20, learning_rate=5e-3)
    assert history[0]["last_step_error"] < 0.01
    outputs, targets = map(np.asarray, state.late)
    assert np.abs(outputs[:, -1] - targets).max() < 0.2 * np.abs(targets).max()


def test_weights_are_as_published():
    weights = jit(functools.partial(reservoir.init_weights, num_units=400, num_in=7, num_out=3))(
        jax.random.key(0)
    )
    recurrent = np.asarray(weights.recurrent)
    zero = recurrent == 0
    np.testing.assert_allclose(zero.mean(), 0.1, atol=0.005)
    np.testing.assert_allclose(recurrent[~zero].std(), 1 / np.sqrt(0.1 * 400), rtol=0.01)
    for name, shape in (("inputs", (400, 7)), ("feedback", (400, 3))):
        values = np.asarray(getattr(weights, name))
        assert values.shape == shape
        np.testing.assert_allclose([values.min(), values.max()], [-1, 1], atol=0.02)
        np.testing.assert_allclose(values.var(), 1 / 3, rtol=0.1)


@pytest.mark.parametrize("kept", [0.0, 1.0])
def test_weights_that_cannot_be_scaled_are_refused(kept):
    with pytest.raises(ValueError, match=f"kept must be above 0 and below 1, but is {kept}"):
        reservoir.init_weights(jax.random.key(0), num_units=4, num_in=1, num_out=1, kept=kept)


def test_rmhebb_worked_by_hand():
    got = reservoir.rmhebb(
        jnp.zeros((2, 2)),
        jnp.array([1.0, -2.0]),
        jnp.array([0.5, 0.0]),
        jnp.array([0.0, 1.0]),
        rate=0.1,
    )
    np.testing.assert_allclose(got, [[-0.05, 0.1], [0.1, -0.2]], rtol=1e-6)


def test_noise_shakes_outputs_within_its_bounds():
    """Without learning to speak of, outputs are their noise."""
    _, (_, quiet), _ = trained(1, learning_rate=1e-9)
    noise = reservoir.Cell(output_noise=0.3, unit_noise=0.1)
    _, (_, noisy), _ = trained(1, learning_rate=1e-9, cell=noise)
    assert np.abs(quiet.late.outputs).max() < 1e-6
    values = np.asarray(noisy.late.outputs)
    assert 0.28 < np.abs(values).max() <= 0.3 + 1e-5
    np.testing.assert_allclose(values.var(), 0.3**2 / 3, rtol=0.2)
    assert len(np.unique(values)) == values.size  # new in every time step


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": 1}, "window must be at least 2, but is 1"),
        ({"gamma": 0.0}, "gamma must be positive"),
        ({"sigma": -1.0}, "sigma must be positive, but is -1.0"),
        ({"num_samples": 13}, "num_samples must be at least 14, but is 13"),
        ({"cell": reservoir.Cell(unit_noise=-0.1)}, "unit_noise must not be negative"),
        ({"num_units": 0}, "num_units must be at least 1"),
        (
            {"cell": reservoir.Cell(tau_s=5e-4)},
            r"dt_s must be at most tau_s \(0.0005\), but is 0.001",
        ),
        ({"learning_rate": np.inf}, "learning_rate must be finite, but is inf"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        reservoir.task(**{**SMALL, **settings})


def test_too_few_samples_are_refused():
    task = reservoir.task(**{**SMALL, "num_samples": 17})
    with pytest.raises(ValueError, match="num_samples must be at most the 16 test samples, but is"):
        jax.eval_shape(task.init, jax.random.key(0), DATA)
    with pytest.raises(ValueError, match="the task needs labelled data"):
        jax.eval_shape(task.init, jax.random.key(0), ())


def test_figures_are_drawn_from_the_readout():
    task, (*_, state), _ = trained(2)
    _, readout = jit(task.evaluate)(state, DATA, jax.random.key(0))
    drawn = reservoir.draw(missing.on_host(readout))
    assert set(drawn) == {"traces", "outputs", "error"}
    check_figures(drawn)
    assert len(drawn["error"].axes[0].lines[0].get_xdata()) == 24
    limits = {ax.get_ylim() for ax in drawn["traces"].axes}
    assert len(limits) == 1  # outputs can be compared
    late = drawn["traces"].axes[1].lines
    np.testing.assert_allclose(
        late[1].get_ydata(), 1e4 * np.asarray(state.late.outputs)[..., 0].ravel(), rtol=1e-5
    )
    # All outputs as images [output, time]: targets above, which are the same within a window.
    images = [ax.get_images()[0].get_array() for ax in drawn["outputs"].axes[:4]]
    outputs, targets = (np.asarray(a) for a in (state.late.outputs, state.late.targets))
    np.testing.assert_allclose(images[3], 1e4 * outputs.reshape(-1, outputs.shape[-1]).T, rtol=1e-5)
    per_window = images[1].reshape(targets.shape[1], len(targets), -1)
    np.testing.assert_allclose(
        per_window, 1e4 * np.repeat(targets.T[..., None], per_window.shape[2], 2), rtol=1e-5
    )


def test_the_signal_is_that_of_the_rule():
    """The target is the global signal of a layer with activity z in `biohsic`."""
    _, (_, state), _ = trained(1)
    order = jax.random.permutation(jax.random.fold_in(jax.random.key(state.shuffle_seed), 0), 16)
    rows = np.asarray(order[:5])
    x = np.asarray(biohsic.pixels(jnp.asarray(DATA["test_inputs"][rows])))
    y, z = DATA["test_targets"][rows], np.asarray(state.z)[rows]
    xi = reference_signal(reference_kernel(x, 0.5), reference_kernel(y, 0.5), z, 2.0, 0.5)
    np.testing.assert_allclose(state.early.targets[0], xi, rtol=1e-3, atol=1e-8)
