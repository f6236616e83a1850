"""Theta gates: hand-worked values, shares of a cycle, and edges that do not wander."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from hfjax import theta


def test_square_is_one_in_the_first_half_of_a_cycle():
    t = np.array([0, 0.025, 0.075, 0.1, 0.175, 0.2, 0.3])  # s; a cycle at 5 Hz is 0.2 s
    np.testing.assert_array_equal(theta.square(t), [1, 1, 1, 0, 0, 1, 0])


def test_an_offset_of_half_a_cycle_swaps_the_halves():
    t = np.arange(16) * 0.025
    np.testing.assert_array_equal(theta.square(t, offset=0.5), 1 - theta.square(t))


@pytest.mark.parametrize("fraction", [0.0, 0.25, 0.5, 1.0])
def test_the_fraction_is_the_share_of_a_cycle_spent_at_one(fraction):
    t = np.arange(4000) / 4000 / 5
    assert theta.square(t, fraction=fraction).mean() == pytest.approx(fraction, abs=1e-3)


def test_sine_by_hand():
    # Half a cycle in is phase 1/2, a quarter of the fraction's half is the peak.
    values = theta.sine(np.array([0, 0.05, 0.1, 0.15]))
    np.testing.assert_allclose(values, [0.5, 1, 0.5, 0], atol=1e-12)


@pytest.mark.parametrize("fraction", [0.3, 0.5, 0.7])
def test_a_sine_spends_the_fraction_above_one_half(fraction):
    values = theta.sine(np.linspace(0, 0.2, 100_000, endpoint=False), fraction=fraction)
    assert np.mean(values > 0.5) == pytest.approx(fraction, abs=1e-3)


def test_gates_take_jax_arrays_too():
    t = np.arange(8) * 0.025
    for gate in (theta.square, theta.sine, functools.partial(theta.constant, theta=0.25)):
        values = gate(jnp.asarray(t, jnp.float32))
        np.testing.assert_allclose(values, gate(t), atol=1e-5)


@pytest.mark.parametrize("frequency_hz", [5.0, 6.25, 7.0, 9.9])
def test_the_table_repeats_without_a_seam(frequency_hz):
    gate = functools.partial(theta.square, frequency_hz=frequency_hz)
    table = theta.tabulate(gate, dt_s=0.025)
    assert len(table) == 40_000
    later = gate((np.arange(2000) + 40_000) * 0.025)
    np.testing.assert_array_equal(table[:2000], later)


def test_every_cycle_of_the_table_is_alike():
    cycles = theta.tabulate(theta.square, dt_s=0.025).reshape(-1, 8)
    np.testing.assert_array_equal(cycles, np.broadcast_to([1, 1, 1, 1, 0, 0, 0, 0], cycles.shape))


@pytest.mark.parametrize(
    ("dt_s", "settings", "cycle"),
    [
        (0.025, {"frequency_hz": 8.0, "fraction": 0.6}, [1, 1, 1, 0, 0]),
        (0.025, {"frequency_hz": 8.0, "fraction": 0.4}, [1, 1, 0, 0, 0]),
        (0.025, {"frequency_hz": 8.0, "fraction": 0.4, "offset": 0.2}, [1, 0, 0, 0, 1]),
        (0.01, {"frequency_hz": 5.0, "fraction": 0.6}, [1] * 12 + [0] * 8),
        (0.01, {"frequency_hz": 5.0, "fraction": 0.3, "offset": 0.1}, [1] * 4 + [0] * 14 + [1] * 2),
    ],
)
def test_edges_on_a_step_stay_there_in_every_cycle(dt_s, settings, cycle):
    table = theta.tabulate(functools.partial(theta.square, **settings), dt_s=dt_s)
    cycles = table.reshape(-1, len(cycle))
    np.testing.assert_array_equal(cycles, np.broadcast_to(cycle, cycles.shape))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: theta.square(0.0, fraction=1.2), "fraction must be between 0 and 1, but is 1.2"),
        (lambda: theta.square(0.0, fraction=-0.1), "fraction must be between 0 and 1, but is -0.1"),
        (lambda: theta.sine(0.0, fraction=1.0), "inside"),
        (lambda: theta.square(0.0, frequency_hz=0.0), "frequency_hz must be positive, but is 0.0"),
        (lambda: theta.constant(0.0, theta=2.0), "theta must be between 0 and 1, but is 2.0"),
        (lambda: theta.tabulate(theta.square, dt_s=0.0), "dt_s must be positive"),
        (lambda: theta.tabulate(theta.square, dt_s=0.03), "dt_s must divide 1000 s, but is 0.03"),
        (lambda: theta.tabulate(lambda t: 2 + 0 * t, dt_s=0.025), "must stay between 0 and 1"),
        (lambda: theta.tabulate(lambda t: 0.5, dt_s=0.025), "one value for each time"),
    ],
)
def test_impossible_gates_are_refused(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
