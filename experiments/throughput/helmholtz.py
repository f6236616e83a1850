"""Theta steps of Helmholtz circuits that learn, world and noise included."""

from functools import cache, partial
from typing import Any, Protocol

import jax

from experiments.throughput.core import Row, Section, Timed, medians_ms
from hfjax.models import helmholtz
from hfjax.task import Task

BLOCK_STEPS, DISPATCHED = 400, 100


class MakeTask(Protocol):
    """(block_s) -> Task."""

    def __call__(self, *, block_s: float = ...) -> Task:
        """A step of the task is one block."""


def scan(task: Task, keys: jax.Array) -> Timed:
    """Blocks of a population, keys [block, seed], as one device program."""

    @jax.jit
    def train(state: Any, keys: jax.Array) -> Any:
        def block(state: Any, key: jax.Array) -> Any:
            return jax.vmap(task.step, (0, None, 0))(state, (), key)

        return jax.lax.scan(block, state, keys)

    @cache
    def start() -> Any:
        return jax.jit(jax.vmap(task.init, (0, None)))(keys[0], ())

    return lambda: train(start(), keys)


def loop(task: Task, keys: jax.Array, dispatched: int) -> Timed:
    """So many steps of a population, keys [seed], each sent from Python."""
    step = jax.jit(jax.vmap(task.step, (0, None, 0)))

    @cache
    def start() -> Any:
        return jax.jit(jax.vmap(task.init, (0, None)))(keys, ())

    def run() -> Any:
        state, scalars = start(), {}
        for _ in range(dispatched):
            state, scalars = jax.block_until_ready(step(state, (), keys))
        return state, scalars

    return run


def steps(
    repeats: int, quick: bool, *, task: MakeTask, seeds: tuple[int, ...], blocks: int
) -> list[Row]:
    """One model and populations, against one device program a step, sent from Python."""
    blocks, dispatched = (1, 2) if quick else (blocks, DISPATCHED)
    rows = []
    for count in (1, 2) if quick else seeds:
        keys = jax.random.split(jax.random.key(0), (blocks, count))
        programs = {
            "scan": scan(task(), keys),
            "loop": loop(task(block_s=0.025), keys[0], dispatched),
        }
        times = medians_ms(programs, repeats)
        per_s = 1e3 * blocks * BLOCK_STEPS * count / times["scan"]
        loop_per_s = 1e3 * dispatched * count / times["loop"]
        models = f", {count} seeds" if count > 1 else ""
        rows += [
            Row(
                f"{blocks * BLOCK_STEPS} steps{models}",
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


SECTIONS = {
    "helmholtz": Section(partial(steps, task=helmholtz.task, seeds=(1, 64), blocks=30), 5),
    "helmholtz_path_integration": Section(
        partial(steps, task=helmholtz.path_integration.task, seeds=(1, 64), blocks=6), 5
    ),
}
