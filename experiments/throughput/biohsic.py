"""Windows of biohsic in one device program, against one program a window, sent from Python."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

from experiments.throughput.core import Row, Section, Timed, medians_ms, rounded, training_step
from hfjax.data import labelled
from hfjax.models import biohsic

Data = dict[str, np.ndarray]


def made_images(shape: tuple[int, ...]) -> Data:
    """Random bytes in ten classes: the time of a window does not depend on what is seen."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (1200, *shape)).astype(np.uint8), np.arange(1200) % 10
    return labelled.from_arrays(
        images[:1100], labels[:1100], images[1100:], labels[1100:], num_classes=10
    )


def first_samples(data: Data, num_train: int) -> Data:
    """The first samples of a data set, and a hundred for tests."""
    return {
        name: values[: num_train if name.startswith("train") else 100]
        for name, values in data.items()
    }


def repeated(function: Timed, times: int) -> Timed:
    """A function that calls another so many times and waits for each call."""

    def run() -> Any:
        result = None
        for _ in range(times):
            result = jax.block_until_ready(function())
        return result

    return run


def windows(
    repeats: int,
    quick: bool,
    *,
    samples: Callable[[], Data],
    num_seeds: tuple[int, ...] = (1,),
    num_windows: int = 100,
    in_bfloat16: bool = False,
    **settings: Any,
) -> list[Row]:
    """One model and populations, and if told so also with the products of one model rounded.

    settings: of the task.
    """
    window, dispatched = settings["memory"].window, 2 if quick else 50
    if quick:
        num_windows, num_seeds = 2, num_seeds[:2]
    data = samples()
    block, single = (first_samples(data, n) for n in (num_windows + window - 1, window))
    task = biohsic.task(**settings, num_hsic=4)
    rows = []
    for count in num_seeds:
        programs = {
            "scan": training_step(task, block, count),
            "loop": repeated(training_step(task, single, count), dispatched),
        }
        if in_bfloat16 and count == 1:
            programs["bfloat16"] = training_step(rounded(task), block)
        times = medians_ms(programs, repeats)
        per_window, per_call = times["scan"] / num_windows, times["loop"] / dispatched
        models = f", {count} models" if count > 1 else ""
        rows += [
            Row(f"a window{models}", per_window, f"{1e3 / per_window:.0f} windows/s"),
            Row(
                f"the same sent from Python{models}",
                per_call,
                f"{1e3 / per_call:.0f} windows/s, {per_call / per_window:.1f} x",
            ),
        ]
        if "bfloat16" in times:
            rows.append(
                Row(
                    "the same with matmul_precision=bfloat16",
                    times["bfloat16"] / num_windows,
                    f"{times['bfloat16'] / times['scan']:.2f} x a window",
                )
            )
    return rows


LIF: dict[str, Any] = {
    "encode": biohsic.over_255,
    "memory": biohsic.sliding_windows(window=64),
    "time_steps": 20,
    "num_windows": 800,
    "num_seeds": (1, 5, 30),
}
MLP: dict[str, Any] = {
    "samples": partial(made_images, (28, 28, 1)),
    "memory": biohsic.sliding_windows(window=6),
    "num_windows": 1000,
    "num_seeds": (1, 30),
}
LINEAR: dict[str, Any] = {
    "samples": labelled.linear,
    "network": biohsic.lif_mlp(hidden=(4,)),
    "bottleneck": biohsic.Bottleneck(10.0, 0.5, 0.25, 1.0),
    **LIF,
}
XOR: dict[str, Any] = {
    "samples": labelled.xor,
    "network": biohsic.lif_mlp(hidden=(10, 4)),
    "bottleneck": biohsic.Bottleneck(10.0, 0.3, 0.25, 2.0),
    **LIF,
}
CNN: dict[str, Any] = {
    "samples": partial(made_images, (32, 32, 3)),
    "network": biohsic.cnn(channels=(128, 256)),
    "memory": biohsic.sliding_windows(window=6),
    "bottleneck": biohsic.Bottleneck(50.0, 1.0, 0.1, 0.5),
    "encode": biohsic.cifar_pixels,
    "augment": biohsic.crop_and_flip,
    "num_windows": 40,
    "in_bfloat16": True,
}

SECTIONS = {
    "biohsic_mlp": Section(partial(windows, **MLP), 5),
    "biohsic_linear": Section(partial(windows, **LINEAR), 5),
    "biohsic_xor": Section(partial(windows, **XOR), 5),
    "biohsic_cnn": Section(partial(windows, **CNN), 5),
}
