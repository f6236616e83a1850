"""A circuit in its world: simulation, learning, and the modes of theta."""

from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from hfjax import check, theta
from hfjax.models.helmholtz.circuit import (
    Activity,
    Circuit,
    CircuitState,
    advance,
    check_circuit,
    frozen,
    init_circuit,
    num_noises,
    pyramidal,
)
from hfjax.task import Axis, Metric, Readout, Scalars

BLOCK_STEPS = 400  # noise is drawn for at most this many steps at a time, so that it fits the cache

Arrays = dict[str, jax.Array]

# --- Worlds ---


class Start(Protocol):
    """(key) -> world state."""

    def __call__(self, key: jax.Array, /) -> Any:
        """The state of the world before the first step."""


class Block(Protocol):
    """(world state, key, num_steps) -> (world state, rates of source layers, other arrays)."""

    def __call__(self, state: Any, key: jax.Array, num_steps: int, /) -> tuple[Any, Arrays, Arrays]:
        """A stretch of time.

        -> (world state, {source layer: [time, unit]}, {name: [time, ...]} for the analysis).
        """


class World(NamedTuple):
    """What drives the source layers of a circuit."""

    start: Start
    block: Block


class Record(Protocol):
    """(activity) -> what to keep."""

    def __call__(self, activity: Activity, /) -> Any:
        """What to keep of the activity {pyramidal layer: Rates} of one step, a pytree."""


def nothing(activity: Activity) -> tuple[()]:
    """A `Record` that keeps nothing."""
    del activity
    return ()


# --- Machines ---


class HelmholtzState(NamedTuple):
    """A circuit and the world that drives it."""

    circuit: CircuitState
    world: Any


class Machine(NamedTuple):
    """A circuit in its world, under a theta gate.

    thetas          theta at each step [step], from `theta.tabulate`, or [step, pyramidal layer]
                    where layers have gates of their own; the table repeats. A table of one entry
                    holds a mode. The first step is at time dt, as in the original.
    loss_from_step  up to this step a loss is that of the step; after it, it is low-passed.
    """

    circuit: Circuit
    world: World
    thetas: np.ndarray | jax.Array
    dt_s: float
    loss_from_step: int

    def steps(self, duration_s: float) -> int:
        """A duration in steps, to the nearest."""
        return steps_in(duration_s, dt_s=self.dt_s)

    def frozen(self) -> "Machine":
        """The machine without learning."""
        return self._replace(circuit=frozen(self.circuit))


def make_machine(
    circuit: Circuit, world: World, *, gate: theta.Gate, dt_s: float, loss_from_s: float = 0.4
) -> Machine:
    """A checked machine.

    gate         theta as a function of time, in layers without a gate of their own.
    loss_from_s  the low-pass filter on the losses starts here: two theta cycles, as published.
    Raises ValueError for an impossible circuit, gate or duration.
    """
    check_circuit(circuit, dt_s=dt_s)
    check_duration(dt_s=dt_s, loss_from_s=loss_from_s)
    gates = [layer.gate or gate for layer in pyramidal(circuit)]
    if all(own is gate for own in gates):
        thetas = theta.tabulate(gate, dt_s=dt_s)
    else:
        thetas = np.stack([theta.tabulate(own, dt_s=dt_s) for own in gates], axis=1)
    return Machine(circuit, world, thetas, dt_s, steps_in(loss_from_s, dt_s=dt_s) - 1)


def steps_in(duration_s: float, *, dt_s: float) -> int:
    """A duration in steps, to the nearest."""
    return round(duration_s / dt_s)


def check_duration(*, dt_s: float, **durations: float) -> None:
    """Raise ValueError unless every duration is at least one step."""
    for name, value in durations.items():
        if not value >= dt_s:
            raise ValueError(f"{name} must be at least dt_s ({dt_s}), but is {value}")


def init_machine(key: jax.Array, data: Any, *, machine: Machine) -> HelmholtzState:
    """The `init` of a task: a circuit at rest in a new world. `data` is not used."""
    del data
    circuit_key, world_key = jax.random.split(key)
    return HelmholtzState(
        init_circuit(circuit_key, machine.circuit), machine.world.start(world_key)
    )


def learn_block(
    state: HelmholtzState, batch: tuple[()], key: jax.Array, *, machine: Machine, num_steps: int
) -> tuple[HelmholtzState, Scalars]:
    """The `step` of a task: num_steps of the simulation.

    Scalars: LAYER_loss of every pyramidal layer, at the end of the block.
    """
    del batch
    state, _, _ = simulate(machine, state, key, num_steps=num_steps)
    return state, {f"{name}_loss": loss for name, loss in state.circuit.losses.items()}


# --- Simulation ---


def simulate(
    machine: Machine,
    state: HelmholtzState,
    key: jax.Array,
    *,
    num_steps: int,
    record: Record = nothing,
) -> tuple[HelmholtzState, Any, Arrays]:
    """A stretch of simulated time, as scans over blocks of at most BLOCK_STEPS.

    -> (state, what was recorded [time, ...], the world's other arrays [time, ...]).
    """
    length = min(num_steps, BLOCK_STEPS)
    num_blocks, rest = divmod(num_steps, length)
    keys = jax.random.split(key, num_blocks + bool(rest))
    block = partial(_simulate_block, machine=machine, record=record)
    state, kept = jax.lax.scan(partial(block, num_steps=length), state, keys[:num_blocks])
    kept = jax.tree.map(lambda x: x.reshape(num_blocks * length, *x.shape[2:]), kept)
    if rest:
        state, last = block(state, keys[-1], num_steps=rest)
        kept = jax.tree.map(lambda x, y: jnp.concatenate([x, y]), kept, last)
    return state, *kept


def _simulate_block(
    state: HelmholtzState, key: jax.Array, *, machine: Machine, record: Record, num_steps: int
) -> tuple[HelmholtzState, tuple[Any, Arrays]]:
    """One scan. Rates of the source layers and all noise are drawn before it."""
    layers = pyramidal(machine.circuit)
    ends = np.cumsum([layer.size for layer in layers])

    def step(state: CircuitState, inputs: tuple[Any, ...]) -> tuple[CircuitState, Any]:
        state, activity = advance(
            state,
            *inputs,
            circuit=machine.circuit,
            dt_s=machine.dt_s,
            loss_from_step=machine.loss_from_step,
        )
        return state, record(activity)

    world_key, noise_key = jax.random.split(key)
    world, sources, others = machine.world.block(state.world, world_key, num_steps)
    xi = jax.random.normal(noise_key, (num_steps, 2, ends[-1]))
    if any(num_noises(layer) == 3 for layer in layers):
        soma_key = jax.random.fold_in(noise_key, 1)
        xi = jnp.concatenate([xi, jax.random.normal(soma_key, (num_steps, 1, ends[-1]))], axis=1)
    parts = jnp.split(xi, ends[:-1], axis=-1)
    draws = {
        layer.name: part[:, : num_noises(layer)] for layer, part in zip(layers, parts, strict=True)
    }
    thetas = jnp.asarray(machine.thetas, state.circuit.losses[layers[0].name].dtype)
    steps = state.circuit.step + 1 + jnp.arange(num_steps)
    inputs = sources, thetas[steps % len(thetas)], draws
    circuit, recorded = jax.lax.scan(step, state.circuit, inputs)
    return HelmholtzState(circuit, world), (recorded, others)


# --- Modes ---

MODES = ("inference", "generation", "alternating")


class Modes(NamedTuple):
    """How the modes are evaluated.

    mode_s     duration of each mode (s).
    between_s  duration of the alternation before each mode (s).
    num_shown  units of each layer whose rates the figures show.
    """

    mode_s: float = 60.0
    between_s: float = 6.0
    num_shown: int = 5


ONE_MINUTE = Modes()


def check_modes(modes: Modes, *, dt_s: float) -> None:
    """Raise ValueError for an impossible evaluation of the modes."""
    check_duration(dt_s=dt_s, mode_s=modes.mode_s, between_s=modes.between_s)
    check.at_least(1, num_shown=modes.num_shown)


def run_modes(
    machine: Machine, state: HelmholtzState, key: jax.Array, *, modes: Modes, record: Record
) -> tuple[Scalars, dict[str, tuple[Any, Arrays]]]:
    """Inference (theta = 0), generation (theta = 1) and alternation, with frozen weights.

    Each mode continues from the previous one, after between_s of alternation, as after learning in
    the notebook of the original: its low-passed losses can be compared. Deviation: before learning,
    the notebook has no alternation between the modes.

    -> (scalars: for each mode and layer MODE_LAYER_loss, the mean loss over the mode, and
    MODE_LAYER_loss_60s, low-passed over 60 s as published;
    {mode: (what was recorded, the world's other arrays)}).
    """
    still = machine.frozen()
    thetas = jnp.asarray(machine.thetas)
    tables = jnp.stack([jnp.zeros_like(thetas), jnp.ones_like(thetas), thetas])  # as in MODES

    def losses_and(activity: Activity) -> tuple[Arrays, Any]:
        losses = {name: jnp.mean(jnp.abs(r.basal - r.apical)) for name, r in activity.items()}
        return losses, record(activity)

    def run_mode(carry: tuple[HelmholtzState, jax.Array], thetas: jax.Array) -> tuple[Any, Any]:
        state, key = carry
        key, between_key, mode_key = jax.random.split(key, 3)
        state, _, _ = simulate(still, state, between_key, num_steps=still.steps(modes.between_s))
        state, (losses, kept), others = simulate(
            still._replace(thetas=thetas),
            state,
            mode_key,
            num_steps=still.steps(modes.mode_s),
            record=losses_and,
        )
        means = jax.tree.map(jnp.mean, losses)
        return (state, key), (means, state.circuit.losses, (kept, others))

    _, (means, low_passed, recorded) = jax.lax.scan(run_mode, (state, key), tables)
    scalars: Scalars = {}
    for i, mode in enumerate(MODES):
        scalars |= {f"{mode}_{name}_loss": loss[i] for name, loss in means.items()}
        scalars |= {f"{mode}_{name}_loss_60s": loss[i] for name, loss in low_passed.items()}
    by_mode = {mode: jax.tree.map(lambda x, i=i: x[i], recorded) for i, mode in enumerate(MODES)}
    return scalars, by_mode


LOSS = "mean |basal - apical rate|"


def loss_metrics(circuit: Circuit) -> dict[str, Metric]:
    """What the scalars of `learn_block` mean: losses of pyramidal layers."""
    return {
        f"{layer.name}_loss": Metric(
            f"loss of {layer.name}",
            split="training",
            better="lower",
            panel="Losses, low-passed over 60 s",
            measure=LOSS,
            series=layer.name,
        )
        for layer in pyramidal(circuit)
    }


def mode_metrics(circuit: Circuit) -> dict[str, Metric]:
    """What the scalars of `run_modes` mean."""
    metrics = {}
    for layer in pyramidal(circuit):
        for mode in MODES:
            loss = Metric(f"loss of {layer.name}, {mode}", split="frozen")
            metrics[f"{mode}_{layer.name}_loss"] = loss._replace(
                panel=f"Mean loss of {layer.name} in each mode", measure=LOSS, series=mode
            )
            metrics[f"{mode}_{layer.name}_loss_60s"] = loss._replace(
                label=f"{loss.label}, low-passed"
            )
    return metrics


def simulated_minutes(block_s: float) -> Axis:
    """Training in minutes of simulated time, by steps of block_s."""
    return Axis("minutes simulated", block_s / 60)


def shown(activity: Activity, *, num_shown: int) -> Arrays:
    """Units evenly spread over every dendrite and soma, by the name LAYER/PART."""

    def some(values: jax.Array) -> jax.Array:
        last = len(values) - 1
        return values[np.linspace(0, last, min(num_shown, last + 1)).astype(int)]

    return {
        f"{name}/{part}": some(values)
        for name, rates in activity.items()
        for part, values in rates._asdict().items()
    }


def modes_readout(
    recorded: dict[str, Arrays], *, machine: Machine, state: HelmholtzState, modes: Modes
) -> Readout:
    """The readout that `figures.draw_modes` draws: MODE/LAYER/PART [time, unit], dt_s, and
    alternating/theta [time], or [time, pyramidal layer] where layers have their own gates.

    state: that before `run_modes`, whose step number says where in its cycle theta was.
    """
    readout: Readout = {"dt_s": jnp.asarray(machine.dt_s)}
    for mode, rates in recorded.items():
        readout |= {f"{mode}/{name}": values for name, values in rates.items()}
    before = (MODES.index("alternating") + 1) * machine.steps(modes.between_s)
    before += MODES.index("alternating") * machine.steps(modes.mode_s)
    steps = state.circuit.step + 1 + before + jnp.arange(machine.steps(modes.mode_s))
    readout["alternating/theta"] = jnp.asarray(machine.thetas)[steps % len(machine.thetas)]
    return readout
