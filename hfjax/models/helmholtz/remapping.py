"""Remapping: the place fields of a trained path integrator are shuffled, and it learns again.

Only the synapses between HPC and EC learn; EC's attractor stays frozen (George et al., NeurIPS
2023, figure 4).
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from hfjax import theta
from hfjax.models.helmholtz import figures as panels
from hfjax.models.helmholtz.attractor import bottom_up_maps, field_order
from hfjax.models.helmholtz.circuit import Circuit, CircuitState, Synapses, frozen
from hfjax.models.helmholtz.machine import HelmholtzState, machine
from hfjax.models.helmholtz.path_integration import (
    AS_PUBLISHED,
    RING,
    Protocol,
    check_setting,
    measure_path_integration,
    path_integrator,
)
from hfjax.models.helmholtz.track import PlaceWorld, Track, place_world
from hfjax.task import HostReadout, Readout, Scalars, Task


class Relearning(NamedTuple):
    """What the new environment adds to a trained path integrator.

    centres   [place, dim] (m), the place fields there.
    synapses  those from before the relearning.
    steps     [], blocks of relearning done; while 0, the present synapses are those from before.
    """

    centres: jax.Array
    synapses: dict[str, Synapses]
    steps: jax.Array


class RemappingState(NamedTuple):
    """A path integrator, as `task` trains it, and its relearning.

    `fresh` is not copied by the trainer's `init_from`.
    """

    circuit: CircuitState
    world: PlaceWorld
    fresh: Relearning


def task(
    *,
    track: Track = RING,
    circuit: Circuit | None = None,
    gate: theta.Gate = theta.square,
    protocol: Protocol = AS_PUBLISHED,
    dt_s: float = 0.025,
    block_s: float = 10.0,
    pretraining_s: float = 1800.0,
    relearning_speed_mean_mps: float = 0.2,
    loss_from_s: float = 0.4,
) -> Task:
    """Remapping, figure 4: the place fields are shuffled, and HPC and EC learn each other again.

    `init` trains a path integrator for pretraining_s; the trainer's `init_from` puts another in its
    place. Each step is then a block of relearning among new place fields: the weights into EC's
    apical dendrites, the attractor, stay frozen. The mean speed is relearning_speed_mean_mps, which
    the original found to help the bump to form.

    Evaluation: the test of path integration in three conditions, before the remapping, right after
    it (decoders fitted to inferred activity, as alternation would mix the two maps), and with what
    has been relearned (tests at the new mean speed, as in the original). Scalars as in
    `measure_path_integration`, with the prefix before_, after_ or relearned_.

    Source: HelmholtzHippocampus `figs34.ipynb`, section 4. There the rates are also set to zero at
    the remapping, without effect: they are computed anew before anything reads them. Deviation: its
    tests have 1 s with theta on, and 1 s without the senses.
    Raises ValueError for impossible numbers and circuits.
    """
    by_default = partial(path_integrator, num_dims=track.num_dims, num_place=track.num_place)
    layers = by_default() if circuit is None else circuit
    check_setting(track, layers, protocol, dt_s=dt_s, block_s=block_s, pretraining_s=pretraining_s)
    thetas = theta.tabulate(gate, dt_s=dt_s)
    new_track = track._replace(speed_mean_mps=relearning_speed_mean_mps)
    new_world = place_world(new_track, dt_s=dt_s)
    attractor_frozen = frozen(layers, only=lambda name: name.startswith("EC/apical/"))
    make = partial(machine, thetas=thetas, dt_s=dt_s, block_s=block_s, loss_from_s=loss_from_s)
    integrator = make(layers, place_world(track, dt_s=dt_s))
    relearner = make(attractor_frozen, new_world)
    if pretraining_s < block_s:
        raise ValueError(
            f"pretraining_s must be at least block_s ({block_s}), but is {pretraining_s}"
        )
    conditions = ("before", "after", "relearned")

    def init(key: jax.Array, data: Any) -> RemappingState:
        init_key, centre_key, shuffle_key, train_key = jax.random.split(key, 4)
        state, _ = jax.lax.scan(
            lambda state, key: integrator.step(state, (), key),
            integrator.init(init_key, data),
            jax.random.split(train_key, round(pretraining_s / block_s)),
        )
        centres = new_world.start(centre_key).centres
        centres = jax.random.permutation(shuffle_key, centres)
        fresh = Relearning(centres, state.circuit.synapses, jnp.int32(0))
        return RemappingState(state.circuit, state.world, fresh)

    def step(
        state: RemappingState, batch: tuple[()], key: jax.Array
    ) -> tuple[RemappingState, dict[str, jax.Array]]:
        before = _before(state)
        there = state.world._replace(centres=state.fresh.centres)
        moved, losses = relearner.step(HelmholtzState(state.circuit, there), batch, key)
        fresh = state.fresh._replace(synapses=before, steps=state.fresh.steps + 1)
        world = moved.world._replace(centres=state.world.centres)
        return RemappingState(moved.circuit, world, fresh), losses

    def evaluate(state: RemappingState, data: Any, key: jax.Array) -> tuple[Scalars, Readout]:
        del data
        old = state.circuit._replace(synapses=_before(state))
        there = state.world._replace(centres=state.fresh.centres)
        cases = (
            (old, state.world, track, thetas),
            (old, there, track, np.zeros(1)),
            (state.circuit, there, new_track, thetas),
        )
        scalars: dict[str, jax.Array] = {}
        readout = {"dt_s": jnp.asarray(dt_s), "width_m": jnp.asarray(track.width_m)}
        for name, test_key, (circuit_state, world, here, fit_thetas) in zip(
            conditions, jax.random.split(key, 3), cases, strict=True
        ):
            tested, arrays = measure_path_integration(
                HelmholtzState(circuit_state, world),
                test_key,
                circuit=layers,
                track=here,
                thetas=thetas,
                fit_thetas=fit_thetas,
                protocol=protocol,
                dt_s=dt_s,
            )
            scalars |= {f"{name}_{what}": value for what, value in tested.items()}
            readout |= {f"{name}/{what}": value for what, value in arrays.items()}
            hpc_maps, ec_maps = bottom_up_maps(layers, circuit_state, track, world.centres)
            readout |= {f"{name}/maps/HPC": hpc_maps, f"{name}/maps/EC": ec_maps}
        return scalars, readout

    return Task(init, relearner.sample, step, evaluate, draw)


def _before(state: RemappingState) -> dict[str, Synapses]:
    """The synapses from before the relearning, which are the present ones until its first block."""
    unchanged = state.fresh.steps == 0
    return jax.tree.map(
        lambda now, then: jnp.where(unchanged, now, then),
        state.circuit.synapses,
        state.fresh.synapses,
    )


def draw(readout: HostReadout) -> dict[str, Figure]:
    """Figure 4: errors before, right after, and after relearning, and the maps of HPC and EC."""
    first = min(name for name in readout if name.startswith("before/errors/0_"))
    labels = {"before": "before", "after": "right after", "relearned": "relearned"}
    errors = {label: readout[name + first.removeprefix("before")] for name, label in labels.items()}
    times_s, chance = readout["before/times_s"], float(readout["before/errors/chance"])
    second = int(np.argmin(np.abs(times_s - min(1.0, times_s[-1]))))
    drawn = {
        "errors": panels.condition_bars(
            {
                f"{times_s[index]:g} s after the cut": {
                    label: values[:, index] for label, values in errors.items()
                }
                for index in (second, len(times_s) - 1)
            },
            level=chance,
            level_label="chance",
            title=f"Remapping: error of path integration (mean +- SEM of {len(errors['before'])} "
            "tests; a dot a test)",
        ),
        "error_over_time": panels.error_since_cut(
            errors, times_s=times_s, levels={"chance": chance}
        ),
    }
    order = field_order(readout["before/maps/EC"])
    if readout["before/example/true"].shape[1] == 1 and len(order):
        maps = {
            f"{layer}, {label}": readout[f"{name}/maps/{layer}"][order if layer == "EC" else ...]
            for layer in ("HPC", "EC")
            for name, label in labels.items()
        }
        drawn["rate_maps"] = panels.ring_maps(
            maps,
            width_m=float(readout["width_m"]),
            title="Rate maps; EC always in the order of its fields before the remapping",
        )
    return drawn
