"""grid_lstm: its training step against its matrix products."""

from typing import Any

from experiments.throughput.core import (
    Product,
    Row,
    Section,
    dense,
    medians_ms,
    product,
    step_rows,
    training_step,
)
from hfjax.models import grid_lstm


def products(
    *, num_units: int, num_linear: int, num_place: int, batch_size: int, num_steps: int
) -> dict[str, Product]:
    """The matrix products of one training step: the LSTM's four gates, g, and the place cells."""
    gates, total = 4 * num_units, batch_size * num_steps
    return {
        "h W_h": product("A B", batch_size, num_units, gates, calls=num_steps),
        "d W_h^T": product("A B^T", batch_size, gates, num_units, calls=num_steps),
        "H^T D": product("A^T B", num_units, total, gates),
        **dense("H W_g", total, num_units, num_linear),
        **dense("G W_y", total, num_linear, num_place),
    }


def train(repeats: int, quick: bool) -> list[Row]:
    """The published training step."""
    sizes: dict[str, Any] = {
        "num_units": 16 if quick else 128,
        "num_linear": 32 if quick else 512,
        "num_place": 256,
        "batch_size": 100,
        "num_steps": 5 if quick else 100,
    }
    floor = products(**sizes)
    times = medians_ms(
        {
            "step": training_step(grid_lstm.task(**sizes)),
            **{name: each.run for name, each in floor.items()},
        },
        repeats,
    )
    return step_rows(floor, times)


SECTIONS = {"grid_lstm": Section(train, 5)}
