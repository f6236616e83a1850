"""Updates of the successor measure, fused against plain."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from experiments.throughput.core import Row, Section, compiled_step, medians_ms
from hfjax import kernels
from hfjax.models import dsm
from hfjax.task import Task

THESIS: dict[str, Any] = {
    "num_outer": 10,
    "num_inner": 5,
    "latent_dims": 5,
    "batch_size": 32,
    "hidden": (32, 32, 32),
    "updates_per_step": 100,
}


def generic_powers(d: jax.Array) -> jax.Array:
    """The rational quadratic kernel of squared distances, by powers as XLA computes them."""
    return sum(((1 + d / (2 * b)) ** -b for b in (0.2, 0.5, 1.0, 2.0, 5.0)), jnp.zeros_like(d))


def plainly(kernel: Callable[[jax.Array], jax.Array]) -> dsm.Objective:
    """The paper's equations as they stand, differentiated by JAX.

    kernel: of squared distances. All [sample, sample] numbers of all atoms are in memory.
    """

    def objective(predicted: jax.Array, target: jax.Array, *, learned_target: bool) -> jax.Array:
        del learned_target
        S = kernels.mean_kernels(jnp.concatenate([predicted, target]), kernel)
        return kernels.outer_mmd_sq(S, len(predicted), kernel=kernels.inverse_multiquadric)

    return objective


def tasks(quick: bool) -> dict[str, tuple[Task, Any]]:
    """{name: (task, data)} of every measurement."""
    if quick:
        size = {"num_outer": 2, "num_inner": 2, "hidden": (4,)}
        thesis, paper = {**THESIS, **size, "updates_per_step": 1}, size
    else:
        thesis, paper = THESIS, {}
    last = jnp.zeros(1000, bool)
    states = jax.random.normal(jax.random.key(0), (1000, 3))
    rates = jax.random.uniform(jax.random.key(0), (1000, 50))
    pendulum, place_cells = ({"states": x, "last": last} for x in (states, rates))

    def paper_task(**settings: Any) -> tuple[Task, Any]:
        return dsm.task(**{**paper, "batch_size": 8, **settings}), pendulum

    adversary = dsm.residual_adversary(num_units=32)
    return {
        "thesis": (dsm.task(**thesis, adversary=adversary), place_cells),
        "laptop": (dsm.task(**thesis, adversary=dsm.no_adversary()), place_cells),
        "fused": paper_task(),
        "plain": paper_task(objective=plainly(generic_powers)),
        "no powers": paper_task(objective=plainly(kernels.rational_quadratic)),
        "paper": paper_task(batch_size=64),
    }


def updates(repeats: int, quick: bool) -> list[Row]:
    """Updates at the sizes of thesis and paper; plain at sizes that the plain form can hold."""
    steps = {name: compiled_step(*made) for name, made in tasks(quick).items()}
    memory = {name: used for name, (_, used) in steps.items()}
    times = medians_ms({name: run for name, (run, _) in steps.items()}, repeats)
    slower = {name: f"{times[name] / times['fused']:.1f} x" for name in ("plain", "no powers")}
    return [
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
        Row("the same, plain", times["plain"], f"{slower['plain']}, {memory['plain']}"),
        Row("the same, all plain except the powers", times["no powers"], slower["no powers"]),
        Row("the paper's batch of 64: one of each", times["paper"], memory["paper"]),
    ]


SECTIONS = {"dsm": Section(updates, 3)}
