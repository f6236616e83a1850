"""topo_grid: its training steps, and its batch by itself."""

from functools import partial

import jax

from experiments.throughput.core import (
    Row,
    Section,
    floor_ms,
    medians_ms,
    training_step,
    without_warnings,
)
from experiments.throughput.grid_rnn import BATCH_SIZE, NUM_STEPS, products
from hfjax.models import topo_grid

NUM_THEIRS = 10  # walks of RatInABox that are timed


def train_sheet(repeats: int, quick: bool, *, num_units: int) -> list[Row]:
    """The training steps with learned time constants and with topoloss, against their products."""
    num_units = 64 if quick else num_units
    tau = topo_grid.task(
        num_units=num_units, units=topo_grid.leaky_units(), penalty=topo_grid.unlike_tau
    )
    weights = topo_grid.task(num_units=num_units, penalty=topo_grid.unlike_weights)
    floor = products(num_units)
    times = medians_ms(
        {
            "tau": training_step(tau),
            "weights": training_step(weights),
            **{name: each.run for name, each in floor.items()},
        },
        repeats,
    )
    least_ms = floor_ms(floor, times)
    share = {name: f"{least_ms / times[name]:.0%}" for name in ("tau", "weights")}
    rate = "of the rate of its products alone"
    sample = jax.jit(tau.sample)
    return [
        Row("step of topo_grid, sampling included", times["tau"], f"{share['tau']} {rate}"),
        Row("step of topo_grid_topoloss", times["weights"], f"{share['weights']} {rate}"),
        Row("its matrix products (floor)", least_ms),
        *batches(partial(sample, (), jax.random.key(0)), 1 if quick else 10),
    ]


def batches(ours: partial, repeats: int) -> list[Row]:
    """A batch of walks, against that of the original: an agent of RatInABox for each walk."""
    from ratinabox.Agent import Agent
    from ratinabox.Environment import Environment

    with without_warnings():
        room = Environment({"scale": 2.2})
        settings = {"dt": 0.02, "speed_mean": 1.02, "speed_coherence_time": 0.5}

        def ratinabox() -> None:
            for _ in range(NUM_THEIRS):
                agent = Agent(room, settings)
                for _ in range(NUM_STEPS):
                    agent.update()

        times = medians_ms({"batch": ours, "ratinabox": ratinabox}, repeats)
    their_ms = times["ratinabox"] * BATCH_SIZE / NUM_THEIRS
    return [
        Row(f"a batch of {BATCH_SIZE} walks of {NUM_STEPS} steps", times["batch"]),
        Row(
            "the same by RatInABox",
            their_ms,
            f"{their_ms / times['batch']:,.0f} x (scaled up from {NUM_THEIRS} walks)",
        ),
    ]


SECTIONS = {
    "sheet_1024": Section(partial(train_sheet, num_units=1024), 10),
    "sheet_4096": Section(partial(train_sheet, num_units=4096), 3),
}
