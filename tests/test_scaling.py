"""The prediction of experiments/scaling.py against numbers worked out by hand."""

import jax
import pytest

from experiments import scaling
from experiments.throughput.core import flop
from experiments.throughput.grid_rnn import products

# 1 Tflop/s, 1 TB/s of memory, links of 100 and 10 GB/s, islands of 4, 1 ms a round, all reached.
PLAIN = scaling.Accelerator(1e12, 1e12, 100e9, 10e9, 4, 1e-3, 1.0)


def test_an_all_reduce_takes_its_bytes_over_the_slowest_link_and_its_rounds():
    assert scaling.collective_s(1e9, 1, PLAIN) == 0
    # 2 * 3/4 * 1 GB / 100 GB/s + 2 rounds; 2 * 7/8 * 1 GB / 10 GB/s + 3 rounds
    assert scaling.collective_s(1e9, 4, PLAIN) == pytest.approx(0.015 + 0.002)
    assert scaling.collective_s(1e9, 8, PLAIN) == pytest.approx(0.175 + 0.003)


def test_a_step_is_its_operations_or_its_reading_plus_communication():
    units, place, batch, time = 1000, 512, 200, 20
    weights = units**2 + 2 * units * place + 2 * units
    assert scaling.parameters(units) == weights
    # Three products with the recurrent matrix for each time, three with the decoder, two at the
    # start; two operations for each of their numbers.
    operations = 2 * batch * (3 * time * units**2 + 3 * time * units * place + 2 * units * place)
    assert scaling.operations(16) == flop(products(16))
    assert scaling.step_s(units, 1, PLAIN) == pytest.approx(operations / 1e12)
    halved = operations / 2e12 + 4 * weights / 100e9 + 1e-3  # 2 * 1/2 of the gradients
    assert scaling.step_s(units, 2, PLAIN) == pytest.approx(halved)
    # Of one sample, reading 40 x the matrix and 7 x all weights is slower than 1/200 of the work.
    read = 4 * (40 * units**2 + 7 * weights) / 1e12
    assert scaling.step_s(units, 1, PLAIN, batch=1) == pytest.approx(
        max(read, operations / batch / 1e12)
    )
    assert read > 0.3 * operations / batch / 1e12


def test_the_bytes_of_a_compiled_step_are_those_of_its_gradients():
    devices = jax.devices()
    assert sum(scaling.moved_bytes(scaling.programs_of(8, 4, devices[:1], 1)).values()) == 0
    moved = scaling.moved_bytes(scaling.programs_of(8, 4, devices[:2], 1))
    gradients = 4 * scaling.parameters(8)
    assert gradients <= moved["all-reduce"] < 1.1 * gradients


def test_the_weights_are_divided_between_devices():
    lines = scaling.memory(256).splitlines()[2:]
    sizes = {int(cells[2]): float(cells[3]) for cells in (line.split("|") for line in lines)}
    assert len(sizes) == sum(n <= len(jax.devices()) for n in (1, 2, 4, 8))
    for devices, size in sizes.items():  # parameters and two moments of Adam, in GB
        assert size == pytest.approx(3 * 4e-9 * scaling.parameters(256) / devices, rel=0.1)
