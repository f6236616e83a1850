"""Motion and trajectories, against RatInABox's agent."""

from functools import partial

import jax

from experiments.throughput.core import Row, Section, Timed, medians_ms, without_warnings
from hfjax import arena, cells

BATCH_SIZE, NUM_STEPS, NUM_PLACE = 200, 20, 512
NUM_AGENTS = 1000


def updates(environment: object, num_updates: int, dt_s: float) -> Timed:
    """So many steps of one agent of RatInABox in its environment."""
    with without_warnings():
        from ratinabox.Agent import Agent

        agent = Agent(environment, {"dt": dt_s})

    def run() -> None:
        for _ in range(num_updates):
            agent.update()

    return run


def walks(repeats: int, quick: bool) -> list[Row]:
    """A batch of trajectories and its place code, against RatInABox's agent."""
    with without_warnings():
        from ratinabox.Environment import Environment

        room = Environment(params={"scale": 2.2})
    key, num_updates = jax.random.key(2), 10 if quick else 500
    walk = jax.jit(partial(arena.sorscher_walk, batch_size=BATCH_SIZE, num_steps=NUM_STEPS))
    centres = cells.place_centres(key, num_place=NUM_PLACE, width_m=2.2)
    code = jax.jit(partial(cells.softmax_surround, sigma_m=0.12))
    positions = walk(key).positions
    times = medians_ms(
        {
            "walk": lambda: walk(key),
            "code": lambda: code(positions, centres),
            "ratinabox": updates(room, num_updates, 0.02),
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


def steps(repeats: int, quick: bool) -> list[Row]:
    """RatInABox's motion, a thousand animals at once, against RatInABox itself."""
    walls = {
        "open box": (),
        "box with an inner wall": [[[0.5, 0.0], [0.5, 0.6]]],
    }
    rows = []
    for name, inner in walls.items():
        environment = arena.box(1.0, inner_walls=inner)
        rows += steps_in(name, environment, repeats, num_steps=10 if quick else 1000)
    return rows


def steps_in(
    name: str, environment: arena.Environment, repeats: int, *, num_steps: int
) -> list[Row]:
    """The same in one environment."""
    motion, num_updates = arena.motion(), num_steps // 2
    keys = jax.random.split(jax.random.key(0), (2, NUM_AGENTS))
    start = partial(arena.start, environment=environment, motion=motion)
    agents = jax.jit(jax.vmap(start))(keys[0])
    # Only the last state is kept: motion is measured, not the writing of a gigabyte.
    walk = partial(arena.walk, environment=environment, motion=motion, num_steps=num_steps)
    ours = jax.jit(jax.vmap(lambda agent, key: walk(agent, key)[0]))
    times = medians_ms(
        {
            "ours": lambda: ours(agents, keys[1]),
            "ratinabox": updates(arena.to_ratinabox(environment), num_updates, motion.dt_s),
        },
        repeats,
    )
    rate = NUM_AGENTS * num_steps / times["ours"]  # a millisecond
    their_rate = num_updates / times["ratinabox"]
    return [
        Row(
            f"{name}, {NUM_AGENTS} animals x {num_steps} steps",
            times["ours"],
            f"{rate / 1e3:.1f} M steps/s, {rate / their_rate:,.0f} x RatInABox",
        ),
        Row(
            f"{name}, RatInABox, {num_updates} steps of one",
            times["ratinabox"],
            f"{1e3 * their_rate:,.0f} steps/s",
        ),
    ]


SECTIONS = {"walks": Section(walks, 20), "arena": Section(steps, 5)}
