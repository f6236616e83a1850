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
import jax.numpy as jnp
import numpy as np
import scipy.ndimage
import scipy.signal

from hfjax import arena, cells, kernels, networks, ratemaps
from hfjax.data import labelled
from hfjax.models import (
    biohsic,
    dsm,
    grid_rnn,
    helmholtz,
    reservoir,
    topo_grid,
)
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


def train_sheet(repeats: int, quick: bool, *, num_units: int) -> list[Row]:
    """The training step of topo_grid with learned time constants, and its batch by itself.

    The batch is that of the original: an agent of RatInABox for each walk.
    """
    from ratinabox.Agent import Agent
    from ratinabox.Environment import Environment

    del quick
    task = topo_grid.task(
        num_units=num_units, units=topo_grid.leaky_units(), penalty=topo_grid.unlike_tau
    )
    weights_task = topo_grid.task(num_units=num_units, penalty=topo_grid.unlike_weights)
    sample, key = jax.jit(task.sample), jax.random.key(0)
    calls = products(num_units)
    times = medians_ms(
        {
            "tau": training_step(task),
            "weights": training_step(weights_task),
            **{name: function for name, (function, _, _) in calls.items()},
        },
        repeats,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        room, num_theirs = Environment({"scale": 2.2}), 10
        settings = {"dt": 0.02, "speed_mean": 1.02, "speed_coherence_time": 0.5}

        def ratinabox():
            for _ in range(num_theirs):
                agent = Agent(room, settings)
                for _ in range(NUM_STEPS):
                    agent.update()

        times |= medians_ms({"batch": lambda: sample((), key), "ratinabox": ratinabox}, 10)
    their_ms = times["ratinabox"] * BATCH_SIZE / num_theirs
    floor_ms = sum(count * times[name] for name, (_, count, _) in calls.items())
    share = {name: f"{floor_ms / times[name]:.0%}" for name in ("tau", "weights")}
    rate = "of the rate of its products alone"
    return [
        Row("step of topo_grid, sampling included", times["tau"], f"{share['tau']} {rate}"),
        Row("step of topo_grid_topoloss", times["weights"], f"{share['weights']} {rate}"),
        Row("its matrix products (floor)", floor_ms),
        Row(f"a batch of {BATCH_SIZE} walks of {NUM_STEPS} steps", times["batch"]),
        Row(
            "the same by RatInABox",
            their_ms,
            f"{their_ms / times['batch']:,.0f} x (scaled up from {num_theirs} walks)",
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


def arena_steps(repeats: int, quick: bool) -> list[Row]:
    """RatInABox's motion, a thousand animals at once, against RatInABox itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ratinabox.Agent import Agent
    num_agents, num_steps, num_updates = 1000, 100 if quick else 1000, 100 if quick else 500
    motion = arena.motion()
    walls = {
        "open box": (),
        "box with an inner wall": [[[0.5, 0.0], [0.5, 0.6]]],
    }
    rows = []
    for name, inner in walls.items():
        environment = arena.box(1.0, inner_walls=inner)
        keys = jax.random.split(jax.random.key(0), (2, num_agents))
        start = partial(arena.start, environment=environment, motion=motion)
        agents = jax.jit(jax.vmap(start))(keys[0])
        # Only the last state is kept: what is measured is motion, not writing a gigabyte.
        walk = partial(arena.walk, environment=environment, motion=motion, num_steps=num_steps)
        ours = jax.jit(jax.vmap(lambda a, k, walk=walk: walk(a, k)[0]))
        theirs = Agent(arena.to_ratinabox(environment), {"dt": motion.dt_s})

        def ratinabox(theirs=theirs):
            for _ in range(num_updates):
                theirs.update()

        def run(ours=ours, agents=agents, keys=keys):
            return ours(agents, keys[1])

        times = medians_ms({"ours": run, "ratinabox": ratinabox}, repeats)
        rate = num_agents * num_steps / times["ours"]  # a millisecond
        their_rate = num_updates / times["ratinabox"]
        rows += [
            Row(
                f"{name}, {num_agents} animals x {num_steps} steps",
                times["ours"],
                f"{rate / 1e3:.1f} M steps/s, {rate / their_rate:,.0f} x RatInABox",
            ),
            Row(
                f"{name}, RatInABox, {num_updates} steps of one",
                times["ratinabox"],
                f"{1e3 * their_rate:,.0f} steps/s",
            ),
        ]
    return rows


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


def measure_updates(repeats: int, quick: bool) -> list[Row]:
    """Updates of the successor measure, fused against plain, at sizes that the plain form can hold.

    The plain form is the paper's equations as they stand: all [sample, sample] numbers of all atoms
    in memory, kernels by generic powers, differentiated by JAX.
    """

    def generic_powers(d):
        return sum((1 + d / (2 * b)) ** -b for b in (0.2, 0.5, 1.0, 2.0, 5.0))

    def plainly(kernel):
        def objective(predicted, target, *, learned_target):
            del learned_target
            S = kernels.mean_kernels(jnp.concatenate([predicted, target]), kernel)
            return kernels.outer_mmd_sq(S, len(predicted), kernel=kernels.inverse_multiquadric)

        return objective

    data = {
        "states": jax.random.normal(jax.random.key(0), (1000, 3)),
        "last": jnp.zeros(1000, bool),
    }
    thesis: dict[str, Any] = {
        "num_outer": 10,
        "num_inner": 5,
        "latent_dims": 5,
        "batch_size": 32,
        "hidden": (32, 32, 32),
        "updates_per_step": 100,
    }
    rates = {"states": jax.random.uniform(jax.random.key(0), (1000, 50)), "last": data["last"]}
    tasks: dict[str, tuple[Task, Any]] = {
        "thesis": (dsm.task(**thesis, adversary=dsm.residual_adversary(num_units=32)), rates),
        "laptop": (dsm.task(**thesis, adversary=dsm.no_adversary()), rates),
        "fused": (dsm.task(batch_size=8), data),
    }
    if not quick:
        tasks["plain"] = dsm.task(batch_size=8, objective=plainly(generic_powers)), data
        without = plainly(kernels.rational_quadratic)
        tasks["no powers"] = dsm.task(batch_size=8, objective=without), data
        tasks["paper"] = dsm.task(batch_size=64), data

    memory: dict[str, str] = {}

    def advance(name: str, task: Task, data: Any) -> Callable[[], Any]:
        state = jax.jit(task.init)(jax.random.key(1), data)
        sample, key = jax.jit(task.sample), jax.random.key(3)
        step = jax.jit(task.step).lower(state, sample(data, key), key).compile()
        analysis = step.memory_analysis()
        used = analysis.temp_size_in_bytes / 1e9 if analysis else float("nan")
        memory[name] = f"{used:.2f} GB of temporaries"

        def run():
            nonlocal state
            state, scalars = step(state, sample(data, jax.random.key(2)), key)
            return scalars

        return run

    times = medians_ms({name: advance(name, *made) for name, made in tasks.items()}, repeats)
    rows = [
        Row(
            "thesis: 100 updates of adversary and of atoms",
            times["thesis"],
            f"{1e5 / times['thesis']:.0f} of each kind a second",
        ),
        Row(
            "the same without an adversary: 100 updates",
            times["laptop"],
            f"{1e5 / times['laptop']:.0f} a second",
        ),
        Row("51 atoms of 32 samples, batch 8: one of each", times["fused"], memory["fused"]),
    ]
    if not quick:
        rows += [
            Row(
                "the same, plain",
                times["plain"],
                f"{times['plain'] / times['fused']:.1f} x, {memory['plain']}",
            ),
            Row(
                "the same, plain but for the powers",
                times["no powers"],
                f"{times['no powers'] / times['fused']:.1f} x",
            ),
            Row("the paper's batch of 64: one of each", times["paper"], memory["paper"]),
        ]
    return rows


def epoch_of(task: Task, data: dict, num_seeds: int = 1) -> Callable[[], Any]:
    """A function that trains a block of windows further at each call, as the trainer does."""
    keys = jax.random.split(jax.random.key(0), num_seeds)
    state = jax.jit(jax.vmap(task.init, (0, None)))(keys, data)

    @partial(jax.jit, donate_argnums=0)
    def advance(state, data):
        batch = task.sample(data, keys[0])
        if num_seeds > 1:
            return jax.vmap(task.step, (0, None, 0))(state, batch, keys)
        one = jax.tree.map(lambda a: a[0], state)
        state, scalars = task.step(one, batch, keys[0])
        return jax.tree.map(lambda a: a[None], state), scalars

    data = jax.device_put(data)

    def run():
        nonlocal state
        state, scalars = advance(state, data)
        return state, scalars

    return run


def windows(
    repeats: int,
    quick: bool,
    *,
    samples: Callable[[], dict],
    num_seeds: tuple[int, ...] = (1,),
    num_windows: int = 100,
    **settings: Any,
) -> list[Row]:
    """Windows of biohsic in one device program, against one program a window, sent from Python."""
    window = settings["window"]
    first = num_windows if not quick else max(num_windows // 4, 2)
    data = samples()
    block = {
        name: values[: first + window - 1] if name.startswith("train") else values[:100]
        for name, values in data.items()
    }
    single = {
        name: values[:window] if name.startswith("train") else values
        for name, values in block.items()
    }
    task = biohsic.task(**settings, num_hsic=4)
    rows = []
    for count in num_seeds:
        dispatched = 10 if quick else 50
        one = epoch_of(task, single, count)

        def loop(one=one, dispatched=dispatched):
            for _ in range(dispatched):
                result = jax.block_until_ready(one())
            return result

        times = medians_ms({"scan": epoch_of(task, block, count), "loop": loop}, repeats)
        per_window, per_call = times["scan"] / first, times["loop"] / dispatched
        models = f", {count} models" if count > 1 else ""
        rows += [
            Row(f"a window{models}", per_window, f"{1e3 / per_window:.0f} windows/s"),
            Row(
                f"the same sent from Python{models}",
                per_call,
                f"{1e3 / per_call:.0f} windows/s, {per_call / per_window:.1f} x",
            ),
        ]
    return rows


def reservoir_windows(repeats: int, quick: bool) -> list[Row]:
    """Windows of 20 time steps of the reservoir of 2000 units, against Python window by window."""
    num_samples = 24 if quick else 100
    task = reservoir.task(num_samples=num_samples)
    data = labelled.digits()
    epoch = epoch_of(task, data)
    state = jax.jit(task.init)(jax.random.key(0), data)
    images, y = jax.device_put((data["test_inputs"], data["test_targets"]))
    x = biohsic.pixels(images.reshape(len(images), -1))

    @jax.jit
    def window(readout, u, first):
        recent = [jax.lax.dynamic_slice_in_dim(a, first, 10) for a in (x, y, state.z)]
        Kx, Ky = (kernels.rbf_kernel(a, sigma=0.5) for a in recent[:2])
        xi = kernels.global_signal(Kx, Ky, recent[2], gamma=2.0, sigma=0.5)
        drive = state.weights.inputs @ jnp.concatenate([a[-1] for a in recent])
        settings = {"recurrent_gain": 1.2, "dt_s": 1e-3, "tau_s": 5e-3}

        def time_step(carry, _):
            readout, u = carry
            u, r, o = reservoir.advance(state.weights, readout, u, drive, (0.0, 0.0), **settings)
            return (reservoir.rmhebb(readout, r, o, xi, rate=5e-4), u), o

        return jax.lax.scan(time_step, (readout, u), length=20)[0]

    def loop():
        carry = state.readout, state.u
        for first in range(num_samples - 9):
            carry = jax.block_until_ready(window(*carry, first))
        return carry

    times = medians_ms({"scan": epoch, "loop": loop}, repeats)
    per_window, per_call = (times[name] / (num_samples - 9) for name in ("scan", "loop"))
    return [
        Row(
            "a window of 20 time steps, 2000 units", per_window, f"{1e3 / per_window:.0f} windows/s"
        ),
        Row("a time step of it", per_window / 20),
        Row(
            "the same window sent from Python",
            per_call,
            f"{1e3 / per_call:.0f} windows/s, {per_call / per_window:.2f} x",
        ),
    ]


def made_images(shape: tuple[int, ...]) -> dict:
    """Random bytes in ten classes: the time of a window does not depend on what is seen."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (1200, *shape)).astype(np.uint8), np.arange(1200) % 10
    return labelled.from_arrays(
        images[:1100], labels[:1100], images[1100:], labels[1100:], num_classes=10
    )


LIF: dict[str, Any] = {
    "encode": biohsic.over_255,
    "window": 64,
    "gamma": 10.0,
    "time_steps": 20,
}


def helmholtz_steps(
    repeats: int, quick: bool, *, task: Callable[..., Task], seeds: tuple[int, ...], blocks: int
) -> list[Row]:
    """Theta steps of a circuit that learns, world and noise included, single and as populations.

    The yardstick is the same circuit, one device program a step, sent from Python.
    """
    blocks, block_steps, dispatched = max(1, blocks // 10) if quick else blocks, 400, 100
    one_step = task(block_s=0.025)
    whole = task()
    rows = []
    for count in seeds:
        keys = jax.random.split(jax.random.key(0), (blocks, count))

        def train(state, keys):
            def block(state, key):
                return jax.vmap(whole.step, (0, None, 0))(state, (), key)

            return jax.lax.scan(block, state, keys)

        start = jax.jit(jax.vmap(one_step.init, (0, None)))(keys[0], ())
        population = partial(jax.jit(train), start, keys)
        step = jax.jit(jax.vmap(one_step.step, (0, None, 0)))

        def loop(start=start, keys=keys[0], step=step):
            state = start
            for _ in range(dispatched):
                state, scalars = jax.block_until_ready(step(state, (), keys))
            return state, scalars

        times = medians_ms({"scan": population, "loop": loop}, repeats)
        per_s = 1e3 * blocks * block_steps * count / times["scan"]
        loop_per_s = 1e3 * dispatched * count / times["loop"]
        models = f", {count} seeds" if count > 1 else ""
        rows += [
            Row(
                f"{blocks * block_steps} steps{models}",
                times["scan"],
                f"{per_s:,.0f} steps/s" + (" together" if count > 1 else ""),
            ),
            Row(
                f"{dispatched} steps sent from Python{models}",
                times["loop"],
                f"{loop_per_s:,.0f} steps/s; the scan is {per_s / loop_per_s:.0f} x",
            ),
        ]
    return rows


# name -> (section, repeats, repeats when quick; 0 leaves it out then)
SECTIONS: dict[str, tuple[Callable[[int, bool], list[Row]], int, int]] = {
    "helmholtz": (partial(helmholtz_steps, task=helmholtz.task, seeds=(1, 64), blocks=30), 5, 3),
    "helmholtz_path_integration": (
        partial(helmholtz_steps, task=helmholtz.path_integration.task, seeds=(1, 64), blocks=6),
        5,
        0,
    ),
    "walks": (walks, 20, 5),
    "arena": (arena_steps, 5, 3),
    "recurrence": (recurrence, 7, 3),
    "scoring": (scoring, 3, 3),
    "train_256": (partial(train, num_units=256), 30, 7),
    "train_1024": (partial(train, num_units=1024), 10, 3),
    "train_4096": (partial(train, num_units=4096), 5, 0),
    "sheet_1024": (partial(train_sheet, num_units=1024), 10, 3),
    "sheet_4096": (partial(train_sheet, num_units=4096), 3, 0),
    "biohsic_mlp": (
        partial(
            windows,
            samples=partial(made_images, (28, 28, 1)),
            window=6,
            num_windows=1000,
            num_seeds=(1, 30),
        ),
        5,
        3,
    ),
    "biohsic_linear": (
        partial(
            windows,
            samples=labelled.linear,
            network=biohsic.lif_mlp(hidden=(4,)),
            sigmas=(0.5, 0.25, 1.0),
            num_windows=800,
            num_seeds=(1, 5, 30),
            **LIF,
        ),
        5,
        3,
    ),
    "biohsic_xor": (
        partial(
            windows,
            samples=labelled.xor,
            network=biohsic.lif_mlp(hidden=(10, 4)),
            sigmas=(0.3, 0.25, 2.0),
            num_windows=800,
            num_seeds=(1, 5, 30),
            **LIF,
        ),
        5,
        3,
    ),
    "biohsic_cnn": (
        partial(
            windows,
            samples=partial(made_images, (32, 32, 3)),
            network=biohsic.cnn(channels=(128, 256)),
            window=6,
            gamma=50.0,
            sigmas=(1.0, 0.1, 0.5),
            encode=biohsic.cifar_pixels,
            augment=biohsic.crop_and_flip,
            num_windows=40,
        ),
        5,
        3,
    ),
    "reservoir": (reservoir_windows, 5, 3),
    "dsm": (measure_updates, 3, 2),
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
