"""grid_rnn over many accelerators: what is measured here, and what follows for larger sizes.

    python -m experiments.scaling                    # measure here, then print the prediction
    python -m experiments.scaling --prediction       # the prediction alone

Measured: the time of a training step against units, batch and seeds, and over the devices that JAX
sees; and the bytes that a step moves between devices and the memory that it takes on each, read
from the compiled program. On real accelerators the prediction for their number stands beside the
measured time.
"""

import argparse
import math
import os
import pathlib
import re
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

import fdl_configs
from experiments import harness
from experiments.throughput.core import medians_ms, training_step
from experiments.throughput.grid_rnn import BATCH_SIZE, NUM_PLACE, NUM_STEPS
from hfjax.errors import InputError
from hfjax.models import grid_rnn
from hfjax.training.experiment import build
from hfjax.training.programs import Programs, make_programs

WORD_BYTES = 4
WIDE = 16_384  # units of the table of memory
COLLECTIVE = re.compile(
    r"= (.*?) (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)(?:-start)?\("
)


class Accelerator(NamedTuple):
    """Published rates of one accelerator and its links; share is what a program reaches of them."""

    flop_per_s: float
    memory_bytes_per_s: float
    link_bytes_per_s: float  # to the others of its island, one direction
    network_bytes_per_s: float  # between islands
    island: int  # accelerators joined by fast links
    latency_s: float  # of one collective
    share: float


# NVIDIA's data sheet of the H100 SXM: TF32 without sparsity, HBM3, NVLink 4, one 400 Gb/s adapter
# for each GPU. The share and the latency are assumptions, to be replaced by a measurement.
H100 = Accelerator(494e12, 3.35e12, 450e9, 50e9, 8, 20e-6, 0.5)


# --- Prediction ---


def parameters(units: int) -> int:
    """Numbers that are trained: recurrent, decoder, encoder and input weights."""
    return units * units + 2 * units * NUM_PLACE + 2 * units


def operations(units: int, batch: int = BATCH_SIZE) -> int:
    """Floating-point operations of a step: three products with the recurrent matrix and with the
    decoder for each time, and two with the encoder; two operations for each of their numbers.
    """
    each_time = 3 * units * units + 3 * units * NUM_PLACE
    return 2 * batch * (NUM_STEPS * each_time + 2 * units * NUM_PLACE)


def collective_s(moved: float, devices: int, kind: Accelerator) -> float:
    """A ring all-reduce of so many bytes: 2 (n - 1) / n of them over the slowest link, and n hops.

    moved  bytes of the array on each device.
    """
    if devices == 1:
        return 0.0
    link = kind.link_bytes_per_s if devices <= kind.island else kind.network_bytes_per_s
    rounds = math.ceil(math.log2(devices))
    return 2 * (devices - 1) / devices * moved / (kind.share * link) + rounds * kind.latency_s


def step_s(
    units: int, devices: int, kind: Accelerator, *, batch: int = BATCH_SIZE, shards: int = 1
) -> float:
    """Seconds of a training step: work / rate, and communication that does not overlap with it.

    The batch is divided by devices / shards, the recurrent matrix by shards. Work is the larger of
    the products' operations and of reading the weights in every one of the 2 T products of time.
    """
    copies = devices // shards
    read = 2 * NUM_STEPS * WORD_BYTES * units * units / shards
    update = 7 * WORD_BYTES * parameters(units) / shards  # gradient, two moments: read and write
    memory_s = (read + update) / (kind.share * kind.memory_bytes_per_s)
    work_s = max(operations(units, batch) / devices / (kind.share * kind.flop_per_s), memory_s)
    gradients_s = collective_s(WORD_BYTES * parameters(units) / shards, copies, kind)
    state = WORD_BYTES * batch / copies * units
    hidden_s = 2 * NUM_STEPS * collective_s(state, shards, kind)
    return work_s + gradients_s + hidden_s


def best(units: int, devices: int, kind: Accelerator, batch: int) -> tuple[float, int]:
    """(seconds, shards) of the fastest way to use so many devices, shards within an island."""
    options = [s for s in (1, 2, 4, 8) if s <= devices and batch % (devices // s) == 0]
    return min((step_s(units, devices, kind, batch=batch, shards=s), s) for s in options)


def prediction() -> str:
    """The table: milliseconds of a step, for the published batch and for one that grows."""
    numbers = (1, 8, 64, 256)
    rows = []
    for units in (4096, 8192, 16_384, 32_768, 65_536):
        state_gb = 4 * WORD_BYTES * parameters(units) / 1e9  # with gradient and Adam's moments
        for name, batches in {
            "25 for each": [max(BATCH_SIZE, 25 * n) for n in numbers],
            "200 for each": [BATCH_SIZE * n for n in numbers],
        }.items():
            cells = []
            one_s = None
            for devices, batch in zip(numbers, batches, strict=True):
                seconds, shards = best(units, devices, H100, batch)
                rate = batch / seconds
                one_s = one_s or rate
                cells.append(f"{1e3 * seconds:.3g} ({rate / one_s:.3g} x, {shards})")
            rows.append([f"{units:,}", f"{state_gb:.3g}", name, *cells])
    head = ["units", "weights, gradient, Adam (GB)", "batch", *(f"{n} GPUs" for n in numbers)]
    return harness.table(head, rows)


# --- Measurement ---


def programs_of(units: int, batch: int, devices: Sequence[jax.Device], shards: int) -> Programs:
    """The trainer's own programs of grid_rnn at a size."""
    config = fdl_configs.make("grid_rnn")
    config.task.num_grid, config.task.batch_size = units, batch
    return make_programs(build(config), devices, model_devices=shards)


def compiled_step(programs: Programs) -> jax.stages.Compiled:
    """One step as it runs; nothing is allotted yet."""
    return jax.jit(lambda state: programs.chunk(state, 1)).lower(programs.abstract).compile()


def moved_bytes(programs: Programs) -> dict[str, int]:
    """Bytes of the results of each kind of collective in one compiled step.

    What stands in the loop over time is counted once for each time step.
    """
    sizes: dict[str, int] = {}
    computation = ""
    for line in (compiled_step(programs).as_text() or "").splitlines():
        if line and not line.startswith(" "):
            computation = line.split(" ")[0]
        if found := COLLECTIVE.search(line):
            shapes = re.findall(r"[a-z]+(\d+)\[([\d,]*)\]", found[1])
            size = sum(
                int(bits) // 8 * math.prod(int(n) for n in shape.split(",") if n)
                for bits, shape in shapes
            )
            times = NUM_STEPS if "body" in computation and size < 1e6 else 1
            sizes[found[2]] = sizes.get(found[2], 0) + size * times
    return sizes


def memory(units: int) -> str:
    """GB on each device for a step with the recurrent matrix in parts, as XLA allots them."""
    devices = jax.devices()
    rows = []
    for shards in (n for n in (1, 2, 4, 8) if n <= len(devices)):
        programs = programs_of(units, BATCH_SIZE, devices[:shards], shards)
        allotted = compiled_step(programs).memory_analysis()
        assert allotted is not None
        sizes = allotted.argument_size_in_bytes, allotted.temp_size_in_bytes
        rows.append([f"{units:,}", str(shards), *(f"{size / 1e9:.3g}" for size in sizes)])
    head = [
        "units",
        "devices, each with a part of the matrix",
        "weights and Adam (GB)",
        "while it runs (GB)",
    ]
    return harness.table(head, rows)


def measured(repeats: int) -> str:
    """Milliseconds of a step on one device here, against units, batch and seeds."""
    sizes = [(n, 200, 1) for n in (64, 128, 256, 512)]
    sizes += [(256, 50, 1), (256, 800, 1), (256, 200, 2), (256, 200, 4)]
    tasks = {
        size: training_step(
            grid_rnn.task(
                num_grid=size[0], num_place=NUM_PLACE, batch_size=size[1], num_steps=NUM_STEPS
            ),
            num_seeds=size[2],
        )
        for size in sizes
    }
    times = medians_ms({str(size): run for size, run in tasks.items()}, repeats)
    rows = []
    for units, batch, seeds in sizes:
        time_ms = times[str((units, batch, seeds))]
        rate = seeds * operations(units, batch) / time_ms / 1e6
        rows.append([str(units), str(batch), str(seeds), f"{time_ms:.1f}", f"{rate:.0f}"])
    return harness.table(["units", "batch", "seeds", "ms for a step", "Gflop/s"], rows)


def over_devices(units: int, batch: int, repeats: int) -> str:
    """A step over the devices here: time, bytes moved, and on accelerators the predicted time."""
    devices = jax.devices()
    numbers = [n for n in (1, 2, 4, 8) if n <= len(devices)]
    rows = []
    for number in numbers:
        for shards in sorted({1, number}):
            try:
                programs = programs_of(units, batch, devices[:number], shards)
            except InputError:  # a task whose matrices are not divided
                continue
            moved = ", ".join(f"{k} {v / 1e6:.3g}" for k, v in moved_bytes(programs).items())
            state = programs.init()
            times = []
            for _ in range(repeats + 1):
                start = time.perf_counter()
                state, scalars = programs.chunk(state, 1)
                jax.block_until_ready(scalars)
                times.append(1e3 * (time.perf_counter() - start))
            row = [str(number), str(shards), f"{np.median(times[1:]):.1f}", moved or "none"]
            if devices[0].platform != "cpu":
                seconds = step_s(units, number, H100, batch=batch, shards=shards)
                row.append(f"{1e3 * seconds:.3g}")
            rows.append(row)
    head = ["devices", "parts of the recurrent matrix", "ms for a step", "moved (MB)"]
    return harness.table([*head, "predicted (ms)"][: len(rows[0])], rows)


def main() -> int:
    """Print the tables, and put them into SCALING.md where they were all made."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prediction", action="store_true", help="the prediction alone")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--units", type=int, default=512, help="of the runs over devices")
    options = parser.parse_args()
    parts = {"prediction": prediction()}
    if not options.prediction:
        if os.environ.get("JAX_PLATFORMS") == "cpu":
            jax.config.update("jax_num_cpu_devices", 8)
        parts["memory"] = memory(WIDE)
        parts["devices"] = over_devices(options.units, BATCH_SIZE, options.repeats)
        parts["measured"] = measured(options.repeats)
    results = pathlib.Path(__file__).with_name("SCALING.md")
    for name, text in parts.items():
        print(f"\n{name}\n\n{text}", flush=True)
        harness.replace_section(results, name, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
