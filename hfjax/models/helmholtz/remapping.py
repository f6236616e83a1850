"""Remapping: the place fields of a trained path integrator are shuffled, and it learns again.

Only the synapses between HPC and EC learn. EC's attractor stays frozen (George et al., NeurIPS
2023, figure 4). Source: HelmholtzHippocampus `figs34.ipynb`, section 4. Theta has the sign of the
code, opposite to that of the paper's figures 2 and S1, where theta is 1 in wake.
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
from hfjax.models.helmholtz.machine import (
    HelmholtzState,
    Machine,
    check_duration,
    init_machine,
    learn_block,
    loss_metrics,
    make_machine,
)
from hfjax.models.helmholtz.path_integration import (
    AS_PUBLISHED,
    Protocol,
    check_setting,
    circuit_for,
    maps_readout,
    measure_path_integration,
    test_metrics,
)
from hfjax.models.helmholtz.track import RING, PlaceWorld, Track, place_world
from hfjax.task import Axis, HostReadout, Metric, Readout, Scalars, Task, logged, no_batch

CONDITIONS = {"before": "before", "after": "right after", "relearned": "relearned"}  # and labels
NOTE = "Position, 1 s after the senses are cut. Fields are shuffled after 'before'."


class Relearning(NamedTuple):
    """What the new environment adds to a trained path integrator.

    centres   [place, dim] (m), the place fields there.
    synapses  those before the relearning.
    steps     [], blocks of relearning so far; while 0, the present synapses are those from before.
    """

    centres: jax.Array
    synapses: dict[str, Synapses]
    steps: jax.Array


class RemappingState(NamedTuple):
    """A path integrator, as `path_integration.task` trains it, and its relearning.

    The trainer's `init_from` copies the state of another run, but not what is in `fresh`.
    """

    circuit: CircuitState
    world: PlaceWorld
    fresh: Relearning


class Condition(NamedTuple):
    """One test: a circuit in a world, the machine and track that move its animal.

    fit_thetas  theta by step while the decoders are fitted.
    """

    state: HelmholtzState
    machine: Machine
    track: Track
    fit_thetas: np.ndarray | jax.Array


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

    track, circuit, gate, protocol, dt_s, block_s, loss_from_s   as in `path_integration.task`.
    pretraining_s   simulated time for which `init` trains a path integrator (s).
    relearning_speed_mean_mps   mean velocity along each axis while relearning (m/s).

    The trainer's `init_from` can replace that path integrator by another. In the original the mean
    velocity helps the bump to form. A step is a block of relearning among the new place fields. The
    weights into EC's apical dendrites, the attractor, stay frozen. Evaluation: see `evaluate`.

    Deviations: the tests of the original have 1 s with theta alternating, and 1 s without the
    senses. It also sets the rates to zero at the remapping, which has no effect: they are computed
    anew before anything reads them.
    Raises ValueError for impossible numbers and circuits.
    """
    layers = circuit_for(track, circuit)
    check_setting(track, layers, protocol, dt_s=dt_s)
    check_duration(dt_s=dt_s, block_s=block_s, pretraining_s=pretraining_s)
    if pretraining_s < block_s:
        raise ValueError(
            f"pretraining_s must be at least block_s ({block_s}), but is {pretraining_s}"
        )
    new_track = track._replace(speed_mean_mps=relearning_speed_mean_mps)
    attractor_frozen = frozen(layers, only=lambda name: name.startswith("EC/apical/"))
    make = partial(make_machine, gate=gate, dt_s=dt_s, loss_from_s=loss_from_s)
    integrator = make(layers, place_world(track, dt_s=dt_s))
    relearner = make(attractor_frozen, place_world(new_track, dt_s=dt_s))
    num_steps = integrator.steps(block_s)
    return Task(
        init=partial(
            _init,
            integrator=integrator,
            relearner=relearner,
            num_steps=num_steps,
            num_blocks=round(pretraining_s / block_s),
        ),
        sample=no_batch,
        step=partial(_step, relearner=relearner, num_steps=num_steps),
        evaluate=partial(
            evaluate,
            integrator=integrator,
            relearner=relearner,
            tracks=(track, new_track),
            protocol=protocol,
        ),
        figures=draw,
        metrics=metrics(layers, protocol),
        axis=Axis("minutes relearning", block_s / 60),
    )


def metrics(circuit: Circuit, protocol: Protocol) -> dict[str, Metric]:
    """What the scalars mean: those of `test_metrics`, in each of the `conditions`."""
    evaluation = {}
    for name, label in CONDITIONS.items():
        for scalar, metric in test_metrics(protocol).items():
            shown = scalar in ("error_1s_m", "stays_error_1s_m")
            shown |= name == "relearned" and scalar == "chance_error_m"
            panel = "Error 1 s after the senses are cut" if shown else ""
            of = f"{name}_{metric.of}" if metric.of else ""
            if scalar == "error_1s_m":
                learns = name == "relearned"
                better = metric.better if learns else ""
                metric = metric._replace(
                    label="error at 1 s", note=NOTE, better=better, series=label, learns=learns
                )
            evaluation[f"{name}_{scalar}"] = metric._replace(
                label=metric.label if metric.role else f"{metric.label}, {label}",
                of=of if shown else "",
                role=metric.role if shown else "",
                panel=panel,
            )
    return logged(step=loss_metrics(circuit), evaluation=evaluation)


def _init(
    key: jax.Array,
    data: Any,
    *,
    integrator: Machine,
    relearner: Machine,
    num_steps: int,
    num_blocks: int,
) -> RemappingState:
    """A path integrator after num_blocks of learning, and shuffled place fields."""
    init_key, centre_key, shuffle_key, train_key = jax.random.split(key, 4)
    learn = partial(learn_block, machine=integrator, num_steps=num_steps)
    state, _ = jax.lax.scan(
        lambda state, key: learn(state, (), key),
        init_machine(init_key, data, machine=integrator),
        jax.random.split(train_key, num_blocks),
    )
    centres = relearner.world.start(centre_key).centres
    centres = jax.random.permutation(shuffle_key, centres)
    fresh = Relearning(centres, state.circuit.synapses, jnp.int32(0))
    return RemappingState(state.circuit, state.world, fresh)


def _step(
    state: RemappingState, batch: tuple[()], key: jax.Array, *, relearner: Machine, num_steps: int
) -> tuple[RemappingState, Scalars]:
    """A block of relearning. The state keeps the old place fields and synapses."""
    there = HelmholtzState(state.circuit, _new_world(state))
    moved, losses = learn_block(there, batch, key, machine=relearner, num_steps=num_steps)
    fresh = state.fresh._replace(synapses=_old_synapses(state), steps=state.fresh.steps + 1)
    world = moved.world._replace(centres=state.world.centres)
    return RemappingState(moved.circuit, world, fresh), losses


def _new_world(state: RemappingState) -> PlaceWorld:
    """The animal among the new place fields."""
    return state.world._replace(centres=state.fresh.centres)


def _old_synapses(state: RemappingState) -> dict[str, Synapses]:
    """The synapses from before the relearning: the present ones until its first block."""
    unchanged = state.fresh.steps == 0
    return jax.tree.map(
        lambda now, then: jnp.where(unchanged, now, then),
        state.circuit.synapses,
        state.fresh.synapses,
    )


# --- Evaluation ---


def conditions(
    state: RemappingState, *, integrator: Machine, relearner: Machine, tracks: tuple[Track, Track]
) -> dict[str, Condition]:
    """Before the remapping, right after it, and with the relearned synapses.

    Right after it, the decoders are fitted to inferred activity: alternation would mix the two
    maps. The relearned circuit is tested at the new mean speed, as in the original.
    """
    old = state.circuit._replace(synapses=_old_synapses(state))
    track, new_track = tracks
    return {
        "before": Condition(HelmholtzState(old, state.world), integrator, track, integrator.thetas),
        "after": Condition(HelmholtzState(old, _new_world(state)), integrator, track, np.zeros(1)),
        "relearned": Condition(
            HelmholtzState(state.circuit, _new_world(state)),
            relearner,
            new_track,
            relearner.thetas,
        ),
    }


def evaluate(
    state: RemappingState,
    data: Any,
    key: jax.Array,
    *,
    integrator: Machine,
    relearner: Machine,
    tracks: tuple[Track, Track],
    protocol: Protocol,
) -> tuple[Scalars, Readout]:
    """`measure_path_integration` and rate maps in each of the `conditions`.

    Names are those of `measure_path_integration`: CONDITION_NAME of a scalar, CONDITION/NAME of an
    array.
    """
    del data
    scalars: Scalars = {}
    readout: Readout = {"dt_s": jnp.asarray(integrator.dt_s)}
    cases = conditions(state, integrator=integrator, relearner=relearner, tracks=tracks)
    for (name, case), test_key in zip(cases.items(), jax.random.split(key, 3), strict=True):
        tested, arrays = measure_path_integration(
            case.machine,
            case.state,
            test_key,
            track=case.track,
            protocol=protocol,
            fit_thetas=case.fit_thetas,
        )
        maps = bottom_up_maps(
            case.machine.circuit, case.state.circuit, case.track, case.state.world.centres
        )
        arrays |= maps_readout(*maps, case.track)
        scalars |= {f"{name}_{scalar}": value for scalar, value in tested.items()}
        readout |= {f"{name}/{array}": value for array, value in arrays.items()}
    return scalars, readout


# --- Figures ---


def draw(readout: HostReadout) -> dict[str, Figure]:
    """Figure 4: errors before, right after, and after relearning, and the maps of HPC and EC."""
    first = min(name for name in readout if name.startswith("before/errors/0_"))
    suffix = first.removeprefix("before")
    errors = {label: readout[name + suffix] for name, label in CONDITIONS.items()}
    times_s, chance = readout["before/times_s"], float(readout["before/errors/chance"])
    drawn = {
        "errors": _draw_errors(errors, times_s, chance),
        "error_over_time": panels.error_since_cut(
            errors, times_s=times_s, levels={"chance": chance}
        ),
    }
    order = field_order(readout["before/rate_maps"][:, :, 0])
    if readout["before/positions_m"].shape[-1] == 1 and len(order):
        drawn["rate_maps"] = _draw_maps(readout, order)
    return drawn


def _draw_errors(errors: dict[str, np.ndarray], times_s: np.ndarray, chance: float) -> Figure:
    after_1s = int(np.argmin(np.abs(times_s - min(1.0, times_s[-1]))))
    num_tests = len(errors["before"])
    return panels.bars_by_time(
        {
            f"{times_s[index]:g} s after the cut": {
                label: values[:, index] for label, values in errors.items()
            }
            for index in (after_1s, len(times_s) - 1)
        },
        level=chance,
        level_label="chance",
        title=f"Remapping: error of path integration (mean +- SEM of {num_tests} tests; a dot a "
        "test)",
    )


def _draw_maps(readout: HostReadout, order: np.ndarray) -> Figure:
    hpc, ec = (
        {label: readout[f"{name}/{maps}"][:, :, 0] for name, label in CONDITIONS.items()}
        for maps in ("HPC_rate_maps", "rate_maps")
    )
    low, high = readout["before/extent_m"][0]
    by_field = field_order(hpc[CONDITIONS["before"]])
    return panels.ring_maps(
        [
            {f"HPC, {label}": maps[by_field] for label, maps in hpc.items()},
            {f"EC, {label}": maps[order] for label, maps in ec.items()},
        ],
        width_m=float(high - low),
        title="Rate maps; units always in the order of their fields before the remapping",
    )
