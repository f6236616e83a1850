"""A circuit in its world: simulation, learning, and the three modes of theta."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hfjax.models.helmholtz.circuit import (
    Circuit,
    CircuitState,
    Rates,
    advance,
    check_circuit,
    frozen,
    init_circuit,
    pyramidal,
)

BLOCK_STEPS = 400  # of simulated time whose noise is drawn at once, at most


class World(NamedTuple):
    """What the source layers see, as two functions.

    start  (key) -> world state.
    block  (world state, key, num_steps) -> (world state, {source layer: [time, unit]}, other
           arrays [time, ...] that an analysis wants, by name).
    """

    start: Callable[..., Any]
    block: Callable[..., Any]


class HelmholtzState(NamedTuple):
    """A circuit and the world that drives it."""

    circuit: CircuitState
    world: Any


def _nothing(activity: dict[str, Rates]) -> tuple[()]:
    del activity
    return ()


def simulate(
    state: HelmholtzState,
    key: jax.Array,
    *,
    circuit: Circuit,
    world: World,
    thetas: np.ndarray,
    num_steps: int,
    dt_s: float,
    loss_from_step: int = 0,
    record: Callable[[dict[str, Rates]], Any] = _nothing,
) -> tuple[HelmholtzState, Any, dict[str, jax.Array]]:
    """A stretch of simulated time as one scan; all its noise is drawn beforehand.

    thetas  the gate by step [step], from `theta.tabulate`; a table of one entry holds a mode.
            As in the original, the first step is at time dt.
    record  what to keep of each step's {pyramidal layer: Rates}; nothing, unless given.
    -> (state, what was recorded [time, ...], the world's other arrays [time, ...]).
    """
    layers = pyramidal(circuit)
    names = [layer.name for layer in layers]
    ends = np.cumsum([layer.size for layer in layers])
    theta_table = jnp.asarray(thetas, state.circuit.losses[names[0]].dtype)

    def step(circuit_state, inputs):
        circuit_state, activity = advance(
            circuit_state, *inputs, circuit=circuit, dt_s=dt_s, loss_from_step=loss_from_step
        )
        return circuit_state, record(activity)

    def block(state, key, length):
        world_key, noise_key = jax.random.split(key)
        world_state, sources, others = world.block(state.world, world_key, length)
        xi = jax.random.normal(noise_key, (length, 2, ends[-1]))
        draws = dict(zip(names, jnp.split(xi, ends[:-1], axis=-1), strict=True))
        steps = state.circuit.step + 1 + jnp.arange(length)
        inputs = sources, theta_table[steps % len(thetas)], draws
        circuit_state, recorded = jax.lax.scan(step, state.circuit, inputs)
        return HelmholtzState(circuit_state, world_state), (recorded, others)

    # Noise is drawn in bulk, but for so many steps at a time as fit in the cache.
    length = min(num_steps, BLOCK_STEPS)
    num_blocks, rest = divmod(num_steps, length)
    keys = jax.random.split(key, num_blocks + bool(rest))
    state, kept = jax.lax.scan(partial(block, length=length), state, keys[:num_blocks])
    kept = jax.tree.map(lambda x: x.reshape(num_blocks * length, *x.shape[2:]), kept)
    if rest:
        state, last = block(state, keys[-1], rest)
        kept = jax.tree.map(lambda x, y: jnp.concatenate([x, y]), kept, last)
    return state, *kept


def steps_in(duration_s: float, *, dt_s: float) -> int:
    """A duration in steps, to the nearest."""
    return round(duration_s / dt_s)


def check_duration(*, dt_s: float, **durations: float) -> None:
    """Raise ValueError unless every duration is at least one step."""
    for name, value in durations.items():
        if not value >= dt_s:
            raise ValueError(f"{name} must be at least dt_s ({dt_s}), but is {value}")


class Machine(NamedTuple):
    """A circuit in a world as the first parts of a Task, and `simulate` with what they share.

    init, sample, step  as in `Task`; a step is block_s of simulated time, and its scalars are
                        LAYER_loss of every pyramidal layer, at the block's end.
    run                 `simulate` in this world: (state, key, circuit, thetas, num_steps, record).
    """

    init: Callable[..., HelmholtzState]
    sample: Callable[..., tuple[()]]
    step: Callable[..., tuple[HelmholtzState, dict[str, jax.Array]]]
    run: Callable[..., tuple[HelmholtzState, Any, dict[str, jax.Array]]]


def machine(
    circuit: Circuit,
    world: World,
    *,
    thetas: np.ndarray,
    dt_s: float,
    block_s: float,
    loss_from_s: float = 0.4,
) -> Machine:
    """A circuit that learns in its world.

    thetas       the gate by step, from `theta.tabulate`.
    loss_from_s  the low-pass filter on the losses starts here: two theta cycles, as published.
    Raises ValueError for an impossible circuit or duration.
    """
    check_circuit(circuit, dt_s=dt_s)
    check_duration(dt_s=dt_s, block_s=block_s, loss_from_s=loss_from_s)
    run = partial(
        simulate, world=world, dt_s=dt_s, loss_from_step=steps_in(loss_from_s, dt_s=dt_s) - 1
    )

    def init(key: jax.Array, data: Any) -> HelmholtzState:
        del data
        circuit_key, world_key = jax.random.split(key)
        return HelmholtzState(init_circuit(circuit_key, circuit), world.start(world_key))

    def sample(data: Any, key: jax.Array) -> tuple[()]:
        del data, key
        return ()

    def step(
        state: HelmholtzState, batch: tuple[()], key: jax.Array
    ) -> tuple[HelmholtzState, dict[str, jax.Array]]:
        del batch
        state, _, _ = run(
            state,
            key,
            circuit=circuit,
            thetas=thetas,
            num_steps=steps_in(block_s, dt_s=dt_s),
            record=_nothing,
        )
        return state, {f"{name}_loss": loss for name, loss in state.circuit.losses.items()}

    return Machine(init, sample, step, run)


MODES = ("inference", "generation", "alternating")


def run_modes(
    state: HelmholtzState,
    key: jax.Array,
    *,
    run: Callable[..., Any],
    circuit: Circuit,
    thetas: np.ndarray,
    num_steps: int,
    num_between: int,
    record: Callable[[dict[str, Rates]], Any],
) -> tuple[dict[str, jax.Array], dict[str, tuple[Any, dict[str, jax.Array]]]]:
    """The circuit held in each mode by its gate, its weights frozen; a short reset in between.

    Inference (theta = 0), generation (theta = 1), then alternating, num_steps each; before each,
    num_between alternating steps. All go on from one another, as after learning in the original's
    notebook, so that its low-passed losses can be compared. Deviation: before learning, the
    notebook has no alternating steps in between.

    -> (scalars: for each mode and layer the loss averaged over the stretch, MODE_LAYER_loss, and
    as published, low-passed over 60 s, MODE_LAYER_loss_60s;
    {mode: (what was recorded, the world's other arrays)}).
    """
    still = frozen(circuit)
    tables = {"inference": np.zeros(1), "generation": np.ones(1), "alternating": thetas}

    def losses_and(activity):
        losses = {name: jnp.mean(jnp.abs(r.basal - r.apical)) for name, r in activity.items()}
        return losses, record(activity)

    scalars, recorded = {}, {}
    for mode in MODES:
        key, between_key, mode_key = jax.random.split(key, 3)
        state, _, _ = run(state, between_key, circuit=still, thetas=thetas, num_steps=num_between)
        state, (losses, kept), others = run(
            state,
            mode_key,
            circuit=still,
            thetas=tables[mode],
            num_steps=num_steps,
            record=losses_and,
        )
        for name, loss in losses.items():
            scalars[f"{mode}_{name}_loss"] = jnp.mean(loss)
            scalars[f"{mode}_{name}_loss_60s"] = state.circuit.losses[name]
        recorded[mode] = kept, others
    return scalars, recorded


def shown(activity: Mapping[str, Rates], num_shown: int) -> dict[str, jax.Array]:
    """The first units of every dendrite and soma, by the name LAYER/PART."""
    return {
        f"{name}/{part}": values[:num_shown]
        for name, rates in activity.items()
        for part, values in rates._asdict().items()
    }
