"""The distributional successor measure: a distribution over discounted future occupancies.

The discounted occupancy of a state under a policy says where the agent will be. If the future is
random, so is the occupancy. The model has several atoms. Each atom generates samples of one
possible occupancy; all atoms together represent the distribution over occupancies, and with it the
distribution of the return of any reward. The model learns from transitions, by bootstrapping.

Source: Wiltzer, Farebrother et al., ICML 2024; their repository distributional-sr.
"""

from functools import partial
from typing import Any, NamedTuple, Protocol

import chex
import jax
import jax.numpy as jnp
import optax

from hfjax import check
from hfjax.models.dsm.adversaries import Adversary, residual_adversary
from hfjax.models.dsm.atoms import MakeAtom, atom_activity, atoms_init, sample_atoms
from hfjax.models.dsm.atoms import atom as default_atom
from hfjax.models.dsm.objectives import Objective, between_atoms
from hfjax.task import (
    Animations,
    Axis,
    Figures,
    HostReadout,
    Inputs,
    Metric,
    Readout,
    Scalars,
    Task,
    logged,
    metrics_of,
)

PAIRS_AT_ONCE = 2**23  # pairs of samples; bounds the memory of the kernels

# --- Targets ---


def horizons(
    key: jax.Array,
    last: jax.Array,
    *,
    gamma: float,
    num_outer: int,
    num_inner: int,
    from_source: bool = True,
) -> jax.Array:
    """Horizon H of each target sample: last [batch, time] of bool -> [batch, outer, inner].

    H ~ Geometric(1 - gamma). If the episode ends at step t of the stretch, H is at most t + 1, or t
    without from_source. Source: distributional-sr `train_step`.
    """
    shape = (last.shape[0], num_outer, num_inner)
    if gamma == 0:
        H = jnp.ones(shape, jnp.int32)
    else:
        H = jax.random.geometric(key, 1 - gamma, shape, dtype=jnp.int32)
    end = jnp.argmax(last, axis=1).astype(jnp.int32) + int(from_source)
    ends = jnp.any(last, axis=1)
    return jnp.where(ends[:, None, None], jnp.minimum(end[:, None, None], H), H)


def target_samples(
    states: jax.Array,
    last: jax.Array,
    H: jax.Array,
    bootstrap: jax.Array | None,
    *,
    from_source: bool = True,
) -> jax.Array:
    """Target samples of the occupancy of s_0, from a stretch s_0 .. s_n of a trajectory.

    With i = H - 1 (i = H without from_source), a sample is
        s_i          if i < n,
        s_n          if i >= n, and the episode ends in the stretch or there is no bootstrap,
        bootstrap    otherwise.

    states [batch, n + 1, dim], last [batch, n + 1] of bool: the last state of an episode, H [batch,
    outer, inner] from `horizons`, bootstrap [batch, outer, inner, dim]: samples of the model at s_n
    -> [batch, outer, inner, dim]. Source: distributional-sr `train_step`.
    """
    index = jnp.minimum(H - int(from_source), states.shape[1] - 1)
    samples = jax.vmap(lambda s, i: s[i])(states, index)
    if bootstrap is None:
        return samples
    chex.assert_equal_shape([samples, bootstrap])
    goes_on = ~jnp.any(last, axis=1)[:, None, None] & (index == states.shape[1] - 1)
    return jnp.where(goes_on[..., None], bootstrap, samples)


# --- Evaluation ---


class Samples(Protocol):
    """(states, key, num_inner) -> samples."""

    def __call__(self, states: jax.Array, key: jax.Array, num_inner: int, /) -> jax.Array:
        """states [batch, dim] -> [batch, outer, inner, dim]."""


class HiddenLayers(Protocol):
    """(states, key, num_inner) -> activity of the hidden layers."""

    def __call__(
        self, states: jax.Array, key: jax.Array, num_inner: int, /
    ) -> tuple[jax.Array, ...]:
        """states [batch, dim] -> each layer [batch, outer, unit], a mean over num_inner samples."""


class Predictor(NamedTuple):
    """A trained model, as an evaluation uses it.

    of_same_noise: as `samples`, but all states and atoms have the same num_inner draws of noise.
    """

    samples: Samples
    hidden: HiddenLayers
    of_same_noise: Samples


class Evaluation(Protocol):
    """(model, data, key, *, gamma) -> (scalars, readout)."""

    def __call__(
        self, model: Predictor, data: Any, key: jax.Array, /, *, gamma: float
    ) -> tuple[Scalars, Readout]:
        """Compare a model with what its data set holds; gamma is the discount of the model."""


# --- Target networks ---


class TargetUpdate(Protocol):
    """(target, params, steps) -> target."""

    def __call__(self, target: Any, params: Any, steps: jax.Array, /) -> Any:
        """The new target network after update number `steps`."""


def soft_update(target: Any, params: Any, steps: jax.Array, *, rate: float = 0.01) -> Any:
    """target + rate (params - target), at every step.

    rate: share of the way that the target goes in an update. Raises ValueError unless
    0 < rate <= 1.
    """
    del steps
    if not 0 < rate <= 1:
        raise ValueError(f"rate must be above 0 and at most 1, but is {rate}")
    return optax.incremental_update(params, target, rate)


def hard_update(target: Any, params: Any, steps: jax.Array, *, period: int = 100) -> Any:
    """The params at every period-th step, otherwise the unchanged target.

    period: updates between two copies of the atoms' network. Raises ValueError where it is below 1.
    """
    check.at_least(1, period=period)
    return optax.periodic_update(params, target, steps, period)


# --- The task ---


class State(NamedTuple):
    """What a checkpoint holds.

    atoms, target: from `atoms_init`. spectral: vectors of the adversary's power iteration.
    opt_state: of the atoms, and of the adversary. steps: number of updates.
    """

    atoms: Any
    target: Any
    adversary: Any
    spectral: Any
    opt_state: tuple[optax.OptState, optax.OptState]
    steps: jax.Array


class Stretch(NamedTuple):
    """Pieces of a trajectory: states [..., time, dim], last [..., time]: last of an episode."""

    states: jax.Array
    last: jax.Array


class Settings(NamedTuple):
    """Size and form of the model and definition of its targets; see `task`."""

    gamma: float
    horizon: int
    num_outer: int
    num_inner: int
    latent_dims: int
    hidden: tuple[int, ...]
    bootstrap: bool
    from_source: bool
    atom: MakeAtom

    def network(self) -> dict[str, Any]:
        """The settings of the atoms' network, as functions of `atoms` take them."""
        return {"latent_dims": self.latent_dims, "hidden": self.hidden, "make": self.atom}


class Training(NamedTuple):
    """How the atoms and the adversary learn; see `task`. optimizers: of atoms, of adversary."""

    adversary: Adversary
    objective: Objective
    optimizers: tuple[optax.GradientTransformation, optax.GradientTransformation]
    target_update: TargetUpdate
    steps: tuple[int, int]
    energy_penalty: float


def task(
    *,
    gamma: float = 0.95,
    horizon: int = 6,
    num_outer: int = 51,
    num_inner: int = 32,
    latent_dims: int = 8,
    hidden: tuple[int, ...] = (256, 256, 256),
    atom: MakeAtom | None = None,
    batch_size: int = 64,
    optimizer: optax.GradientTransformation | None = None,
    adversary: Adversary | None = None,
    adversary_optimizer: optax.GradientTransformation | None = None,
    adversary_steps: int = 1,
    atom_steps: int = 1,
    energy_penalty: float = 0.0,
    objective: Objective = between_atoms,
    target_update: TargetUpdate = soft_update,
    bootstrap: bool = True,
    from_source: bool = True,
    updates_per_step: int = 1,
    evaluation: Evaluation | None = None,
    draw: Figures | None = None,
    animations: Animations | None = None,
) -> Task:
    """The distributional successor measure of the policy behind a data set, as a Task.

    The adversary's steps raise the objective; the atoms' steps lower it. Each step uses its own
    batch of batch_size stretches of horizon + 1 states. An update is adversary_steps and then
    atom_steps, each with an update of the target; a training step is updates_per_step of these.

    gamma             discount per time step, in [0, 1).
    horizon           time steps of a trajectory before a target is bootstrapped.
    num_outer         number of atoms.
    num_inner         samples of each atom, 2 or more.
    latent_dims       noise dimensions of a sample.
    hidden            hidden units of each layer of the atoms' network.
    atom              form of the atoms' network; None for `atom()`.
    batch_size        stretches of the trajectory in a step of either network.
    optimizer         optax optimizer of both networks, each with its own state; None for Adam with
                      learning rate 6.25e-5 and eps 1.5e-4.
    adversary         network that embeds samples; None for `residual_adversary()`.
    adversary_optimizer  optax optimizer of the adversary; None for `optimizer`.
    adversary_steps   steps of the adversary in an update.
    atom_steps        steps of the atoms in an update.
    energy_penalty    weight, in the atoms' objective, of the mean squared activity of their hidden
                      units.
    objective         `between_atoms`, `between_atoms_by_median` or `each_atom`.
    target_update     how the target network follows: `soft_update` or `hard_update`.
    bootstrap         whether targets beyond the horizon are samples of the target network.
    from_source       whether a state itself is part of its occupancy; see `target_samples`. The
                      returns of the data must be counted likewise.
    updates_per_step  updates of both networks in a training step.
    evaluation        `pendulum_returns`, `windy_returns` or `evaluate_place_maps`.
    draw              figures of the evaluation's readout.
    animations        moving pictures of the evaluation's readout.

    data: {"states" [time, dim], "last" [time] of bool, ...}, one or several trajectories, joined.

    Scalars of a step, means over its updates: objective (atoms' update, with the energy penalty);
    with an adversary also adversary_objective (its update) and embedding_norm (mean length of
    embedded samples).
    Raises ValueError where gamma is outside [0, 1), a size is below 1 (num_inner: 2), or the data
    are no trajectory or shorter than the horizon.

    Source: distributional-sr `train`, with the paper's constants for the pendulum. Deviations: one
    power iteration for predictions and targets of an update together; the diagonals of distance
    matrices are exactly 0.
    """
    settings = Settings(
        gamma,
        horizon,
        num_outer,
        num_inner,
        latent_dims,
        tuple(hidden),
        bootstrap,
        from_source,
        atom or default_atom(),
    )
    check_settings(settings)
    check.at_least(1, batch_size=batch_size, updates_per_step=updates_per_step)
    check.at_least(1, adversary_steps=adversary_steps, atom_steps=atom_steps)
    check.not_negative(energy_penalty=energy_penalty)
    jax.eval_shape(target_update, jnp.zeros(1), jnp.zeros(1), jnp.int32(1))  # its own checks, now
    optimizer = optimizer or optax.adam(6.25e-5, eps=1.5e-4)
    training = Training(
        adversary or residual_adversary(),
        objective,
        (optimizer, adversary_optimizer or optimizer),
        target_update,
        (adversary_steps, atom_steps),
        energy_penalty,
    )
    shape = (batch_size, updates_per_step, adversary_steps + atom_steps)
    return Task(
        init=partial(init_state, settings=settings, training=training),
        sample=partial(sample_stretches, shape=shape, horizon=horizon),
        step=partial(take_step, update=partial(update_both, settings=settings, training=training)),
        evaluate=partial(evaluate, settings=settings, evaluation=evaluation),
        figures=draw or no_figures,
        animations=animations,
        metrics=logged(
            step=step_metrics(training.adversary),
            evaluation=metrics_of(evaluation) if evaluation else {"updates": UPDATES},
        ),
        axis=Axis("updates", updates_per_step),
        apply=partial(apply, settings=settings),
        inputs=Inputs("states as those of the data"),
        check_data=partial(check_returns, from_source=from_source),
    )


def apply(state: State, states: jax.Array, /, *, settings: Settings) -> jax.Array:
    """A Task's `apply`: num_inner samples of the future states of each atom, for given states.

    The noise is that of `jax.random.key(0)`. states [n, dim] -> [n, outer, inner, dim].
    """
    key, network = jax.random.key(0), settings.network()
    return sample_atoms(state.atoms, states, key, settings.num_inner, **network)


UPDATES = Metric("updates of both networks")


def step_metrics(adversary: Adversary) -> dict[str, Metric]:
    """What the scalars of a step mean. An adversary raises the objective, so that its value is no
    measure of progress."""
    objective = Metric(
        "objective of the atoms", split="training", panel="Objective", measure="squared MMD"
    )
    if not adversary.learns:
        return {"objective": objective._replace(better="lower")}
    title = "Objective: the adversary raises it, the atoms lower it"
    return {
        "objective": objective._replace(panel=title),
        "adversary_objective": objective._replace(label="objective of the adversary", panel=title),
        "embedding_norm": Metric(
            "mean length", split="training", panel="Embedded samples", measure="Euclidean norm"
        ),
    }


def check_settings(settings: Settings) -> None:
    """Raise ValueError for settings that no model can have."""
    check.below_one(gamma=settings.gamma)
    check.at_least(
        1,
        horizon=settings.horizon,
        num_outer=settings.num_outer,
        latent_dims=settings.latent_dims,
        hidden_layers=len(settings.hidden),
        **{f"hidden[{i}]": size for i, size in enumerate(settings.hidden)},
    )
    check.at_least(2, num_inner=settings.num_inner)


def check_data(data: Any, *, horizon: int) -> None:
    """Raise ValueError unless data are a trajectory that is longer than the horizon."""
    if not isinstance(data, dict) or not {"states", "last"} <= set(data):
        raise ValueError('data must have the "states" of a trajectory, and "last"')
    states, last = data["states"], data["last"]
    if states.ndim != 2 or last.shape != states.shape[:1]:
        raise ValueError(
            f"states must be [time, dim] and last [time], but they are {states.shape} and "
            f"{last.shape}"
        )
    if len(states) < horizon + 2:
        raise ValueError(
            f"horizon must be at most {len(states) - 2}, two less than the number of states, but "
            f"is {horizon}"
        )


def check_returns(data: Any, *, from_source: bool) -> None:
    """Raise ValueError where the returns of data include the source's reward and the task not, or
    the other way round. Files of older versions do not say."""
    of_data = bool(data.get("from_source", from_source))
    if of_data != from_source:
        raise ValueError(
            f"task.from_source is {from_source}, but the returns of the data were made with "
            f"from_source={of_data}; set data.maker.from_source={from_source} too, where the maker "
            "has that setting"
        )


def init_state(
    key: jax.Array,
    data: Any,
    *,
    settings: Settings,
    training: Training,
) -> State:
    """The state before training; the target network starts as a copy of the atoms."""
    check_data(data, horizon=settings.horizon)
    adversary, optimizers = training.adversary, training.optimizers
    dim = data["states"].shape[1]
    atoms_key, adversary_key = jax.random.split(key)
    atoms = atoms_init(
        atoms_key,
        num_outer=settings.num_outer,
        dim=dim,
        **settings.network(),
    )
    params, spectral = adversary.init(adversary_key, dim=dim, num_outer=settings.num_outer)
    opt_state = optimizers[0].init(atoms), optimizers[1].init(params)
    target = jax.tree.map(jnp.copy, atoms)
    return State(atoms, target, params, spectral, opt_state, jnp.int32(0))


def sample_stretches(
    data: Any, key: jax.Array, *, shape: tuple[int, int, int], horizon: int
) -> Stretch:
    """Random stretches [batch, update, step, time, ...] of horizon + 1 states.

    shape: (batch, update, step); the steps of the adversary come first, then those of the atoms.
    """
    first = jax.random.randint(key, shape, 0, len(data["states"]) - horizon - 1)
    index = first[..., None] + jnp.arange(horizon + 1).reshape(1, 1, 1, -1)
    return Stretch(data["states"][index], data["last"][index])


def mean_objective(
    state: State,
    batch: Stretch,
    key: jax.Array,
    *,
    learned_target: bool,
    settings: Settings,
    training: Training,
) -> tuple[jax.Array, tuple[Any, jax.Array]]:
    """The objective, averaged over a batch -> (value, (new spectral, mean embedding norm))."""
    num_outer, num_inner = settings.num_outer, settings.num_inner
    adversary, from_source = training.adversary, settings.from_source
    horizon_key, predicted_key, bootstrap_key = jax.random.split(key, 3)
    network = settings.network()
    *hidden, predicted = atom_activity(
        state.atoms, batch.states[:, 0], predicted_key, num_inner, **network
    )
    beyond = None
    if settings.bootstrap:
        beyond = sample_atoms(
            state.target, batch.states[:, -1], bootstrap_key, num_inner, **network
        )
    H = horizons(
        horizon_key,
        batch.last,
        gamma=settings.gamma,
        num_outer=num_outer,
        num_inner=num_inner,
        from_source=from_source,
    )
    aims = target_samples(batch.states, batch.last, H, beyond, from_source=from_source)
    x, spectral = adversary.embed(state.adversary, state.spectral, predicted)
    y, _ = adversary.embed(state.adversary, state.spectral, aims)
    at_once = max(1, PAIRS_AT_ONCE // (2 * num_outer * num_inner) ** 2)
    values = jax.lax.map(
        lambda pair: training.objective(*pair, learned_target=learned_target),
        (x, y),
        batch_size=min(at_once, len(x)),
    )
    value = jnp.mean(values)
    if training.energy_penalty and not learned_target:
        energy = jnp.mean(jnp.stack([jnp.mean(h**2) for h in hidden]))
        value = value + training.energy_penalty * energy
    return value, (spectral, jnp.mean(jnp.linalg.norm(x, axis=-1)))


class Distance(Protocol):
    """(state, batch, key, *, learned_target) -> (value, (spectral, norm)): `mean_objective`."""

    def __call__(
        self, state: State, batch: Stretch, key: jax.Array, /, *, learned_target: bool
    ) -> tuple[jax.Array, tuple[Any, jax.Array]]:
        """The distance between prediction and target that both networks train on."""


class Update(Protocol):
    """(state, batch, key) -> (state, scalars)."""

    def __call__(self, state: State, batch: Stretch, key: jax.Array, /) -> tuple[State, Scalars]:
        """A step of one network; or an update of both, whose batch is [step, batch, ...]."""


def update_both(
    state: State,
    batches: Stretch,
    key: jax.Array,
    *,
    settings: Settings,
    training: Training,
) -> tuple[State, Scalars]:
    """The steps of the adversary, if it learns, and then those of the atoms and their target.

    batches [step, batch, ...]. Scalars are those of the last step of each network.
    """
    adversary_key, atoms_key = jax.random.split(key)
    distance = partial(mean_objective, settings=settings, training=training)
    number, optimizers = training.steps[0], training.optimizers
    for_adversary = jax.tree.map(lambda a: a[:number], batches)
    for_atoms = jax.tree.map(lambda a: a[number:], batches)
    scalars: Scalars = {}
    if training.adversary.learns:
        update = partial(update_adversary, distance=distance, optimizer=optimizers[1])
        state, scalars = _each(update, state, for_adversary, adversary_key)
    update = partial(
        update_atoms,
        distance=distance,
        optimizer=optimizers[0],
        target_update=training.target_update,
    )
    state, of_atoms = _each(update, state, for_atoms, atoms_key)
    return state, {**scalars, **of_atoms}


def _each(update: Update, state: State, batches: Stretch, key: jax.Array) -> tuple[State, Scalars]:
    """One update for each of the batches [step, ...]; the scalars of the last."""
    number = len(batches.states)
    if number == 1:
        return update(state, jax.tree.map(lambda a: a[0], batches), key)
    state, scalars = jax.lax.scan(
        lambda state, now: update(state, *now), state, (batches, jax.random.split(key, number))
    )
    return state, jax.tree.map(lambda a: a[-1], scalars)


def update_adversary(
    state: State,
    batch: Stretch,
    key: jax.Array,
    *,
    distance: Distance,
    optimizer: optax.GradientTransformation,
) -> tuple[State, Scalars]:
    """One step of the adversary up the gradient of the objective."""

    def gain(params: Any) -> tuple[jax.Array, tuple[Any, jax.Array]]:
        return distance(state._replace(adversary=params), batch, key, learned_target=True)

    gradient_of = jax.value_and_grad(gain, has_aux=True)
    (value, (spectral, norm)), gradient = gradient_of(state.adversary)
    atoms_opt, adversary_opt = state.opt_state
    gradient = jax.tree.map(jnp.negative, gradient)
    changes, adversary_opt = optimizer.update(gradient, adversary_opt, state.adversary)
    state = state._replace(
        adversary=optax.apply_updates(state.adversary, changes),
        spectral=spectral,
        opt_state=(atoms_opt, adversary_opt),
    )
    return state, {"adversary_objective": value, "embedding_norm": norm}


def update_atoms(
    state: State,
    batch: Stretch,
    key: jax.Array,
    *,
    distance: Distance,
    optimizer: optax.GradientTransformation,
    target_update: TargetUpdate,
) -> tuple[State, Scalars]:
    """One step of the atoms down the gradient of the objective; their target follows."""

    def cost(atoms: Any) -> tuple[jax.Array, Any]:
        return distance(state._replace(atoms=atoms), batch, key, learned_target=False)

    (value, _), gradient = jax.value_and_grad(cost, has_aux=True)(state.atoms)
    atoms_opt, adversary_opt = state.opt_state
    changes, atoms_opt = optimizer.update(gradient, atoms_opt, state.atoms)
    atoms = optax.apply_updates(state.atoms, changes)
    steps = state.steps + 1
    target = target_update(state.target, atoms, steps)
    state = state._replace(
        atoms=atoms, target=target, opt_state=(atoms_opt, adversary_opt), steps=steps
    )
    return state, {"objective": value}


def take_step(
    state: State, batch: Stretch, key: jax.Array, *, update: Update
) -> tuple[State, Scalars]:
    """All updates of a batch from `sample_stretches`, one after another; scalars are means."""
    by_update = jax.tree.map(lambda a: jnp.moveaxis(a, (1, 2), (0, 1)), batch)

    def body(state: State, now: tuple[Stretch, jax.Array]) -> tuple[State, Scalars]:
        stretches, number = now
        return update(state, stretches, jax.random.fold_in(key, number))

    numbers = jnp.arange(batch.states.shape[1])
    state, scalars = jax.lax.scan(body, state, (by_update, numbers))
    return state, jax.tree.map(jnp.mean, scalars)


def evaluate(
    state: State, data: Any, key: jax.Array, *, settings: Settings, evaluation: Evaluation | None
) -> tuple[Scalars, Readout]:
    """The evaluation of a `Predictor`; without one, the number of updates."""
    if evaluation is None:
        return {"updates": state.steps.astype(float)}, {"updates": state.steps}

    def samples(states: jax.Array, key: jax.Array, num_inner: int) -> jax.Array:
        return atom_activity(state.atoms, states, key, num_inner, **settings.network())[-1]

    def of_same_noise(states: jax.Array, key: jax.Array, num_inner: int) -> jax.Array:
        shared = {**settings.network(), "shared": True}
        return atom_activity(state.atoms, states, key, num_inner, **shared)[-1]

    def hidden(states: jax.Array, key: jax.Array, num_inner: int) -> tuple[jax.Array, ...]:
        layers = atom_activity(state.atoms, states, key, num_inner, **settings.network())
        return tuple(jnp.mean(x, axis=2) for x in layers[:-1])

    model = Predictor(samples, hidden, of_same_noise)
    return evaluation(model, data, key, gamma=settings.gamma)


def no_figures(readout: HostReadout) -> dict[str, Any]:
    """No figures."""
    del readout
    return {}
