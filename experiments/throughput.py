"""How fast the models run here, each against a yardstick measured in the same run.

    python experiments/throughput.py            # everything, some minutes on 2 CPU cores
    python experiments/throughput.py --quick    # small sizes and few repeats, under a minute
    python experiments/throughput.py --only train_4096 --only walks

Times are medians. What is compared is timed in turns, so that a busy machine slows both alike. The
floor of a training step is the time of its large matrix products alone: each product measured by
itself at the step's own shapes, times how often the step needs it.

A section is a function (repeats, quick) -> rows, entered in SECTIONS.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import scipy.ndimage
import scipy.signal

from hfjax import arena, cells, networks, ratemaps
from hfjax.models import grid_rnn
from hfjax.task import Task

BATCH_SIZE, NUM_STEPS, NUM_PLACE = 200, 20, 512


class Row(NamedTuple):
    """One line of the table: what took how long, and a remark with its ratio to a yardstick."""

    what: str
    milliseconds: float
    remark: str = ""


def medians_ms(functions: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median time of each function, called in turns; the first call of each is not counted."""
    for function in functions.values():
        jax.block_until_ready(function())
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            start = time.perf_counter()
            jax.block_until_ready(function())
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: float(np.median(values)) for name, values in times.items()}


def products(num_units: int) -> dict[str, tuple[Callable[[], jax.Array], int, int]]:
    """The matrix products of one training step: name -> (function, calls in a step, flop each)."""
    total = BATCH_SIZE * NUM_STEPS
    keys = jax.random.split(jax.random.key(0), 6)
    h, recurrent, all_h, decoder, y, p = (
        jax.random.normal(key, shape)
        for key, shape in zip(
            keys,
            [
                (BATCH_SIZE, num_units),
                (num_units, num_units),
                (total, num_units),
                (num_units, NUM_PLACE),
                (total, NUM_PLACE),
                (BATCH_SIZE, NUM_PLACE),
            ],
            strict=True,
        )
    )

    forward, back, weights = (
        jax.jit(lambda a, b: a @ b),
        jax.jit(lambda a, b: a @ b.T),
        jax.jit(lambda a, b: a.T @ b),
    )
    small, large = 2 * BATCH_SIZE * num_units, 2 * total * num_units
    return {
        "h W_h": (lambda: forward(h, recurrent), NUM_STEPS, small * num_units),
        "d W_h^T": (lambda: back(h, recurrent), NUM_STEPS, small * num_units),
        "H^T D": (lambda: weights(all_h, all_h), 1, large * num_units),
        "H W_d": (lambda: forward(all_h, decoder), 1, large * NUM_PLACE),
        "Y W_d^T": (lambda: back(y, decoder), 1, large * NUM_PLACE),
        "H^T Y": (lambda: weights(all_h, y), 1, large * NUM_PLACE),
        "p W_e": (lambda: forward(p, decoder.T), 1, small * NUM_PLACE),
        "p^T d": (lambda: weights(p, h), 1, small * NUM_PLACE),
    }


def training_step(task: Task, seed: int = 0) -> Callable[[], Any]:
    """A function that trains one step further at each call: sampling, step, and new state."""
    init_key, key = jax.random.split(jax.random.key(seed))
    data: tuple[()] = ()
    state = jax.jit(task.init)(init_key, data)

    @partial(jax.jit, donate_argnums=0)
    def advance(state, key):
        key, sample_key, step_key = jax.random.split(key, 3)
        state, scalars = task.step(state, task.sample(data, sample_key), step_key)
        return state, key, scalars

    def run():
        nonlocal state, key
        state, key, scalars = advance(state, key)
        return state, scalars

    return run


def train(repeats: int, quick: bool, *, num_units: int) -> list[Row]:
    """The published training step of grid_rnn, against its products and against a plain scan."""
    del quick
    plain = grid_rnn.vanilla()._replace(
        apply=partial(networks.rnn_plain, nonlinearity=networks.relu)
    )
    task = partial(
        grid_rnn.task,
        num_grid=num_units,
        num_place=NUM_PLACE,
        batch_size=BATCH_SIZE,
        num_steps=NUM_STEPS,
    )
    calls = products(num_units)
    times = medians_ms(
        {
            "step": training_step(task()),
            "plain": training_step(task(network=plain)),
            **{name: function for name, (function, _, _) in calls.items()},
        },
        repeats,
    )
    floor_ms = sum(count * times[name] for name, (_, count, _) in calls.items())
    flop = sum(count * each for _, count, each in calls.values())
    return [
        Row(
            "training step, sampling included",
            times["step"],
            f"{floor_ms / times['step']:.0%} of the rate of its products alone",
        ),
        Row("its matrix products (floor)", floor_ms, f"{flop / floor_ms / 1e6:.0f} Gflop/s"),
        Row(
            "the same step by plain scan and grad",
            times["plain"],
            f"{times['plain'] / times['step']:.2f} x the training step",
        ),
    ]


def recurrence(repeats: int, quick: bool) -> list[Row]:
    """The recurrent network by itself: output and gradients, custom against plain."""
    rows = []
    for num_units in (256, 1024) if quick else (256, 1024, 4096):
        keys = jax.random.split(jax.random.key(1), 4)
        params = networks.rnn_init(keys[0], num_in=2, num_units=num_units)
        h0 = jax.random.normal(keys[1], (BATCH_SIZE, num_units))
        inputs = 0.02 * jax.random.normal(keys[2], (BATCH_SIZE, NUM_STEPS, 2))
        above = jax.random.normal(keys[3], (BATCH_SIZE, NUM_STEPS, num_units))

        def gradients(apply, inputs, above, params, h0):
            def hidden(params, h0):
                return apply(params, h0, inputs, nonlinearity=networks.relu)

            return jax.vjp(hidden, params, h0)[1](above)

        times = medians_ms(
            {
                apply.__name__: partial(
                    jax.jit(partial(gradients, apply)), inputs, above, params, h0
                )
                for apply in (networks.rnn, networks.rnn_plain)
            },
            repeats,
        )
        rows += [
            Row(f"rnn, output and gradients, {num_units} units", times["rnn"]),
            Row(
                "the same by plain scan and grad",
                times["rnn_plain"],
                f"{times['rnn_plain'] / times['rnn']:.2f} x",
            ),
        ]
    return rows


def walks(repeats: int, quick: bool) -> list[Row]:
    """A batch of trajectories and its place code, against RatInABox's agent."""
    from ratinabox.Agent import Agent
    from ratinabox.Environment import Environment

    key = jax.random.key(2)
    walk = jax.jit(partial(arena.sorscher_walk, batch_size=BATCH_SIZE, num_steps=NUM_STEPS))
    centres = cells.place_centres(key, num_place=NUM_PLACE, width_m=2.2)
    code = jax.jit(partial(cells.softmax_surround, sigma_m=0.12))
    positions = walk(key).positions
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        agent = Agent(Environment(params={"scale": 2.2}), params={"dt": 0.02})
    num_updates = 100 if quick else 500

    def ratinabox():
        for _ in range(num_updates):
            agent.update()

    times = medians_ms(
        {
            "walk": lambda: walk(key),
            "code": lambda: code(positions, centres),
            "ratinabox": ratinabox,
        },
        repeats,
    )
    size = f"{BATCH_SIZE} x {NUM_STEPS}"
    ratinabox_ms = times["ratinabox"] * BATCH_SIZE * NUM_STEPS / num_updates
    return [
        Row(f"sorscher_walk, {size} positions", times["walk"]),
        Row(
            f"RatInABox, {size} positions",
            ratinabox_ms,
            f"{ratinabox_ms / times['walk']:.0f} x (scaled up from {num_updates} updates)",
        ),
        Row(f"place code of {NUM_PLACE} cells at {size} positions", times["code"]),
    ]


def scipy_grid_score(rate_map: np.ndarray) -> float:
    """The 60-degree ring score of one map as the field's scorers find it: SciPy, one by one."""
    n = len(rate_map)
    ones = np.ones_like(rate_map)
    count = scipy.signal.convolve2d(ones, ones)
    total, square = (scipy.signal.convolve2d(ones, f) / count for f in (rate_map, rate_map**2))
    product = scipy.signal.correlate2d(rate_map, rate_map) / count
    std = np.sqrt(np.maximum(square - total**2, 1e-12))
    sac = (product - total * total[::-1, ::-1]) / (std * std[::-1, ::-1])
    lag = np.arange(1 - n, n)
    radius = np.hypot(lag[:, None], lag)
    turned = [
        scipy.ndimage.rotate(sac, angle, reshape=False) for angle in (30, 45, 60, 90, 120, 135, 150)
    ]
    scores = []
    for outer in ratemaps.RING_OUTER:
        ring = (radius > ratemaps.RING_INNER * n) & (radius <= outer * n)
        ours = sac[ring] - sac[ring].mean()
        c = [np.mean(ours * other[ring]) / (np.mean(ours**2) + 1e-5) for other in turned]
        scores.append((c[2] + c[4]) / 2 - (c[0] + c[3] + c[6]) / 3)
    return float(max(scores))


def scoring(repeats: int, quick: bool) -> list[Row]:
    """Rate maps and grid scores of a population, against SciPy's way, one unit after the other."""
    num_units, num_bins, num_scipy = (512 if quick else 4096), 32, 32
    keys = jax.random.split(jax.random.key(3), 3)
    maps = ratemaps.low_pass_noise_maps(keys[0], num_units=num_units, num_bins=num_bins)
    positions = jax.random.uniform(keys[1], (BATCH_SIZE * NUM_STEPS, 2))
    activity = jax.random.normal(keys[2], (BATCH_SIZE * NUM_STEPS, num_units))
    unit_square = ((0.0, 1.0), (0.0, 1.0))
    mean = jax.jit(partial(ratemaps.rate_maps, num_bins=num_bins, extent=unit_square))
    rings, circles = jax.jit(ratemaps.grid_scores), jax.jit(ratemaps.moser_grid_scores)
    some = np.asarray(maps[:num_scipy], np.float64)
    times = medians_ms(
        {
            "mean": lambda: mean(positions, activity),
            "rings": lambda: rings(maps),
            "circles": lambda: circles(maps),
            "scipy": lambda: [scipy_grid_score(rate_map) for rate_map in some],
        },
        repeats,
    )
    scipy_ms = times["scipy"] * num_units / num_scipy
    size = f"{num_units} maps of {num_bins} x {num_bins}"
    return [
        Row(f"rate maps of {num_units} units, {len(positions)} samples", times["mean"]),
        Row(f"grid_scores, {size}", times["rings"]),
        Row(
            "the same by SciPy, unit by unit",
            scipy_ms,
            f"{scipy_ms / times['rings']:.0f} x (scaled up from {num_scipy} units)",
        ),
        Row(f"moser_grid_scores, {size}", times["circles"]),
    ]


# name -> (section, repeats, repeats when quick; 0 leaves it out then)
SECTIONS: dict[str, tuple[Callable[[int, bool], list[Row]], int, int]] = {
    "walks": (walks, 20, 5),
    "recurrence": (recurrence, 7, 3),
    "scoring": (scoring, 3, 3),
    "train_256": (partial(train, num_units=256), 30, 7),
    "train_1024": (partial(train, num_units=1024), 10, 3),
    "train_4096": (partial(train, num_units=4096), 5, 0),
}


def main() -> None:
    """Print the table of all sections, or of those that were asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", action="append", choices=SECTIONS, help="run this section (may be repeated)"
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, few repeats")
    options = parser.parse_args()

    device = jax.devices()[0]
    print(f"{jax.device_count()} x {device.device_kind} ({device.platform}), jax {jax.__version__}")
    for name, (section, repeats, quick_repeats) in SECTIONS.items():
        if options.only and name not in options.only:
            continue
        count = quick_repeats if options.quick else repeats
        if count == 0 and options.only:
            count = 1
        if count == 0:
            continue
        print(f"\n{name} (median of {count})")
        for what, milliseconds, remark in section(count, options.quick):
            print(f"  {what:<52}{milliseconds:>11.2f} ms   {remark}".rstrip(), flush=True)


if __name__ == "__main__":
    main()
