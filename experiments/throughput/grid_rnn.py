"""grid_rnn: its training step, and the recurrent network by itself."""

from collections.abc import Callable
from functools import partial

import jax

from experiments.throughput.core import (
    Product,
    Row,
    Section,
    dense,
    medians_ms,
    product,
    rounded,
    step_rows,
    training_step,
)
from hfjax import networks
from hfjax.models import grid_rnn

BATCH_SIZE, NUM_STEPS, NUM_PLACE = 200, 20, 512


def products(num_units: int) -> dict[str, Product]:
    """The matrix products of one training step."""
    total = BATCH_SIZE * NUM_STEPS
    return {
        "h W_h": product("A B", BATCH_SIZE, num_units, num_units, calls=NUM_STEPS),
        "d W_h^T": product("A B^T", BATCH_SIZE, num_units, num_units, calls=NUM_STEPS),
        "H^T D": product("A^T B", num_units, total, num_units),
        **dense("H W_d", total, num_units, NUM_PLACE),
        "p W_e": product("A B", BATCH_SIZE, NUM_PLACE, num_units),
        "p^T d": product("A^T B", NUM_PLACE, BATCH_SIZE, num_units),
    }


def train(repeats: int, quick: bool, *, num_units: int) -> list[Row]:
    """The published training step, against its products, a plain scan, and products in bfloat16."""
    num_units = 64 if quick else num_units
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
    floor = products(num_units)
    times = medians_ms(
        {
            "step": training_step(task()),
            "plain": training_step(task(network=plain)),
            "bfloat16": training_step(rounded(task())),
            **{name: each.run for name, each in floor.items()},
        },
        repeats,
    )
    return [
        *step_rows(floor, times),
        Row(
            "the same step by plain scan and grad",
            times["plain"],
            f"{times['plain'] / times['step']:.2f} x the training step",
        ),
        Row(
            "the same step with matmul_precision=bfloat16",
            times["bfloat16"],
            f"{times['bfloat16'] / times['step']:.2f} x the training step",
        ),
    ]


def recurrence(repeats: int, quick: bool) -> list[Row]:
    """The recurrent network by itself: output and gradients, custom against plain."""
    rows = []
    for num_units in (64,) if quick else (256, 1024, 4096):
        keys = jax.random.split(jax.random.key(1), 4)
        params = networks.rnn_init(keys[0], num_in=2, num_units=num_units)
        h0 = jax.random.normal(keys[1], (BATCH_SIZE, num_units))
        inputs = 0.02 * jax.random.normal(keys[2], (BATCH_SIZE, NUM_STEPS, 2))
        above = jax.random.normal(keys[3], (BATCH_SIZE, NUM_STEPS, num_units))
        times = medians_ms(
            {
                name: partial(jax.jit(partial(_gradients, apply)), params, h0, inputs, above)
                for name, apply in {"rnn": networks.rnn, "plain": networks.rnn_plain}.items()
            },
            repeats,
        )
        rows += [
            Row(f"rnn, output and gradients, {num_units} units", times["rnn"]),
            Row(
                "the same by plain scan and grad",
                times["plain"],
                f"{times['plain'] / times['rnn']:.2f} x",
            ),
        ]
    return rows


def _gradients(
    apply: Callable[..., jax.Array],  # networks.rnn or rnn_plain
    params: networks.RNNParams,
    h0: jax.Array,
    inputs: jax.Array,
    above: jax.Array,
) -> tuple[networks.RNNParams, jax.Array]:
    """Gradients of a recurrent network's parameters and first state, from those of its output."""

    def hidden(params: networks.RNNParams, h0: jax.Array) -> jax.Array:
        return apply(params, h0, inputs, nonlinearity=networks.relu)

    return jax.vjp(hidden, params, h0)[1](above)


SECTIONS = {
    "recurrence": Section(recurrence, 7),
    "train_256": Section(partial(train, num_units=256), 30),
    "train_1024": Section(partial(train, num_units=1024), 10),
    "train_4096": Section(partial(train, num_units=4096), 5),
}
