"""Other ways to relearn after a remapping, as tasks made from `hfjax.models.helmholtz.remapping`.

Read by `run.py`, section `remapping_variants`.
"""

import jax
import jax.numpy as jnp

from hfjax.models.helmholtz import path_integration
from hfjax.models.helmholtz.circuit import init_circuit
from hfjax.models.helmholtz.remapping import RemappingState
from hfjax.task import Scalars, Task

RELEARNED = "HPC/apical/EC", "EC/basal/HPC"
Stepped = tuple[RemappingState, Scalars]


def in_turn(*, first: Task, then: Task, num_first: int) -> Task:
    """Relearning by `first` for num_first blocks, then by `then`, which is also the one tested."""

    def step(state: RemappingState, batch: tuple[()], key: jax.Array) -> Stepped:
        is_first = state.fresh.steps < num_first
        return jax.lax.cond(is_first, first.step, then.step, state, batch, key)

    return then._replace(step=step)


def drawn_anew(*, task: Task) -> Task:
    """Relearning that starts from new random synapses between HPC and EC (100 place cells)."""

    def step(state: RemappingState, batch: tuple[()], key: jax.Array) -> Stepped:
        is_first = state.fresh.steps == 0
        old = state.circuit.synapses
        drawn = init_circuit(jax.random.fold_in(key, 1), path_integration.path_integrator())
        new = old | {name: drawn.synapses[name] for name in RELEARNED}
        start = jax.tree.map(lambda a, b: jnp.where(is_first, a, b), new, old)
        circuit = state.circuit._replace(synapses=start)
        moved, losses = task.step(state._replace(circuit=circuit), batch, key)
        before = jax.tree.map(lambda a, b: jnp.where(is_first, a, b), old, moved.fresh.synapses)
        return moved._replace(fresh=moved.fresh._replace(synapses=before)), losses

    return task._replace(step=step)
