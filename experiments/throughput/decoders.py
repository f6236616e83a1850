"""Decoders of position, fitted and asked in one call."""

import jax

from experiments.throughput.core import Row, Section, medians_ms
from hfjax import cells, decoders

NUM_CELLS = 50


def decoding(repeats: int, quick: bool) -> list[Row]:
    """Fifty place cells: a thousand samples to fit, a thousand to read."""
    num_samples, num_steps = (20, 2) if quick else (1000, 2000)
    keys = jax.random.split(jax.random.key(0), 4)
    centres = jax.random.uniform(keys[0], (NUM_CELLS, 2))
    targets, queries = (jax.random.uniform(key, (num_samples, 2)) for key in keys[1:3])
    rates, asked = (cells.gaussian(x, centres, sigma_m=0.2) for x in (targets, queries))

    @jax.jit
    def ensemble(rates: jax.Array, targets: jax.Array, asked: jax.Array) -> decoders.Decoded:
        predict = decoders.network_ensemble(rates, targets, keys[3], num_steps=num_steps)
        return predict(asked)

    ridge, process = jax.jit(decoders.ridge_decoder), jax.jit(decoders.gaussian_process)
    times = medians_ms(
        {
            "ridge": lambda: ridge(rates, targets, asked),
            "process": lambda: process(rates, targets, asked),
            "ensemble": lambda: ensemble(rates, targets, asked),
        },
        repeats,
    )
    size = f"{num_samples} samples of {NUM_CELLS} cells"
    per_s = 1e3 * 5 * num_steps / times["ensemble"]
    return [
        Row(f"ridge_decoder, {size}", times["ridge"]),
        Row(f"gaussian_process, {size}", times["process"]),
        Row(
            f"network_ensemble of 5, {num_steps} steps", times["ensemble"], f"{per_s:,.0f} steps/s"
        ),
    ]


SECTIONS = {"decoders": Section(decoding, 3)}
