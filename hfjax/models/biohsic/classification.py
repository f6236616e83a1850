"""Classification by layers that learn on windows of a shuffled epoch, as a Task."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from hfjax import check, kernels
from hfjax.models.biohsic.figures import draw
from hfjax.models.biohsic.inputs import Augment, Encode, no_augmentation, pixels
from hfjax.models.biohsic.learners import (
    MNIST,
    Bottleneck,
    Learner,
    biological_rule,
    check_bottleneck,
    cross_entropy,
    see,
)
from hfjax.models.biohsic.memory import Contents, Samples, WorkingMemory, sliding_windows
from hfjax.models.biohsic.networks import (
    BetweenWindows,
    Network,
    at_rest,
    carry_on,
    forward,
    init_params,
    mlp,
)
from hfjax.task import Axis, Inputs, Metric, Readout, Scalars, Task, Whole, logged, metrics_of

EVALUATED_AT_ONCE = 256  # samples; bounds the memory of a convolutional network
MAP_POINTS = 101  # points of a decision map in each direction


class State(NamedTuple):
    """What a checkpoint holds.

    u: the layers' state, for each slot of the window. memory: contents of the working memory.
    steps: number of steps done; with shuffle_seed it gives the order of every epoch.
    plane [epoch, layer, 2]: HSIC(x, z) and HSIC(y, z) at the end of each epoch so far, then zeros.
    """

    params: tuple
    opt_state: Any
    u: tuple
    memory: Contents
    steps: jax.Array
    shuffle_seed: jax.Array
    plane: jax.Array


class Learned(NamedTuple):
    """The part of the state that changes at every time step."""

    params: tuple
    opt_state: Any
    u: tuple


class Settings(NamedTuple):
    """The arguments of `task` with its defaults filled in, for the functions that it binds."""

    network: Network
    learner: Learner
    optimizer: optax.GradientTransformation
    memory: WorkingMemory
    bottleneck: Bottleneck
    time_steps: int
    between_windows: BetweenWindows
    encode: Encode
    augment: Augment
    steps_per_epoch: int
    history_epochs: int
    num_eval: int
    num_hsic: int


def task(
    *,
    network: Network | None = None,
    learner: Learner = biological_rule,
    optimizer: optax.GradientTransformation | None = None,
    memory: WorkingMemory | None = None,
    bottleneck: Bottleneck = MNIST,
    time_steps: int = 1,
    between_windows: BetweenWindows = carry_on,
    encode: Encode = pixels,
    augment: Augment = no_augmentation,
    steps_per_epoch: int = 1,
    history_epochs: int = 50,
    num_eval: int = 10_000,
    num_hsic: int = 256,
) -> Task:
    """Classification by layers that learn on windows of a shuffled epoch, as a Task.

    An epoch is a permutation of the training samples; windows slide over it. Each window lasts
    time_steps time steps of the network, with an update of the optimizer in each. A `step` of the
    task is a scan over 1/steps_per_epoch of an epoch. If the windows of an epoch cannot be divided
    by steps_per_epoch, the remaining ones are dropped. The permutation is a function of the state
    (`shuffle_seed` and the number of the epoch), so that a resumed run continues within the epoch.
    A `batch` of the task is the whole training set.

    network          layers of the network; None for `mlp()`.
    learner          `biological_rule`, `hsic_gradient` or `back_propagation`.
    optimizer        optax optimizer; None for adamw as published, with learning rate 1e-4.
    memory           window of samples and its stride; None for `sliding_windows()`.
    bottleneck       weight and kernel widths of the objective.
    time_steps       time steps of the network, and updates, in a window.
    between_windows  state of leaky layers at a new window: `carry_on` or `from_rest`.
    encode           inputs of the network from stored samples, window by window.
    augment          random changes of training samples, before encode.
    steps_per_epoch  training steps into which an epoch is divided.
    history_epochs   epochs for which the state keeps the information plane.
    num_eval         largest number of samples of each set that is evaluated.
    num_hsic         samples from which HSIC is estimated, without bias; 4 or more.

    `data` is what `labelled.from_arrays` returns.
    step's scalars are means over its windows: loss and accuracy before the update (of the mean
    output over the second half of the time steps), and what the learner reports; and hsic_xz_1,
    hsic_yz_1, ... of each layer after the step. Evaluation: the same for test and training samples,
    from rest. Raises ValueError for numbers below 1, a bottleneck with a number that is not
    positive, and data that do not fit.

    Source: biological-hsic, `train-biohsic`, `train-hsic`, `train-bp`; the defaults are those of
    its MNIST runs. Deviations: the order of samples differs between seeds; training accuracy is
    that before the update.
    """
    arguments = Settings(**locals())  # which have the same names
    check.at_least(1, time_steps=time_steps, steps_per_epoch=steps_per_epoch)
    check.at_least(1, history_epochs=history_epochs, num_eval=num_eval)
    check.at_least(4, num_hsic=num_hsic)
    check_bottleneck(bottleneck)
    published = optax.adamw(1e-4, b1=0.9, b2=0.99, weight_decay=1e-4)
    settings = arguments._replace(
        network=network or mlp(),
        optimizer=optimizer or published,
        memory=memory or sliding_windows(),
    )
    return Task(
        init=partial(init, settings),
        sample=sample,
        step=partial(step, settings),
        evaluate=partial(evaluate, settings),
        figures=draw,
        metrics=metrics(learner, num_layers=len(settings.network(2))),
        axis=Axis("epochs", 1 / steps_per_epoch),
        apply=partial(apply, settings),
        inputs=Inputs("samples as those of the data"),
    )


def metrics(learner: Learner, *, num_layers: int) -> dict[str, Metric]:
    """What the scalars mean: those of the steps, of the learner, and of the evaluation.

    num_layers: hidden ones and the outputs.
    """
    accuracy = Metric("accuracy", "% of samples", "training", "higher", panel="Accuracy")
    loss = Metric("loss", "nats", "training", "lower", panel="Cross-entropy")
    hsic = {
        f"hsic_{pair}_{layer}": Metric(
            "outputs" if layer == num_layers else f"layer {layer}",
            panel=f"Dependence of layer and {other}",
            measure="HSIC",
        )
        for pair, other in (("xz", "input"), ("yz", "class"))
        for layer in range(1, num_layers + 1)
    }
    held_out = {name: metric._replace(split="held out") for name, metric in hsic.items()}
    seen = {name: metric._replace(split="training") for name, metric in hsic.items()}
    return logged(
        step={
            "accuracy": accuracy._replace(label="accuracy while learning", series="while learning"),
            "loss": loss._replace(label="loss while learning", series="while learning"),
            **metrics_of(learner),
            **seen,
        },
        evaluation={
            "test_accuracy": accuracy._replace(
                label="test accuracy", split="held out", series="test"
            ),
            "train_accuracy": accuracy._replace(
                label="training accuracy", series="training samples"
            ),
            "chance_accuracy": Metric(
                "chance (largest class)", "% of samples", role="chance", of="test_accuracy"
            ),
            "test_loss": loss._replace(label="test loss", split="held out", series="test"),
            "train_loss": loss._replace(label="training loss", series="training samples"),
            **held_out,
        },
    )


# --- Data ---


def training_set(data: Any) -> Samples:
    """The training samples of labelled data."""
    return Samples(data["train_inputs"], data["train_targets"])


def held_out(data: Any) -> Samples:
    """The test samples of labelled data."""
    return Samples(data["test_inputs"], data["test_targets"])


def sample(data: Any, key: jax.Array) -> Whole:
    """The whole training set."""
    del key
    return Whole(training_set(data))


def check_data(data: Any) -> None:
    """Raise ValueError, in one sentence, where data are not labelled or do not fit each other."""
    names = ("train_inputs", "train_targets", "test_inputs", "test_targets")
    if not isinstance(data, dict) or not set(names) <= set(data):
        raise ValueError("the task needs labelled data, as labelled.from_arrays returns them")
    train, train_targets, test, test_targets = (data[name] for name in names)
    if train.shape[1:] != test.shape[1:]:
        raise ValueError(
            f"training inputs have the shape {train.shape[1:]}, but test inputs {test.shape[1:]}"
        )
    if train_targets.shape[1:] != test_targets.shape[1:]:
        raise ValueError(
            f"training targets have {train_targets.shape[1:]} classes, but test targets "
            f"{test_targets.shape[1:]}"
        )
    for name, inputs, targets in (("training", train, train_targets), ("test", test, test_targets)):
        if len(inputs) != len(targets):
            raise ValueError(
                f"there are {len(inputs)} {name} inputs, but {len(targets)} {name} targets"
            )


def windows_per_step(num_samples: int, *, memory: WorkingMemory, steps_per_epoch: int) -> int:
    """Number of windows in one step. Raises ValueError where there are too few samples."""
    if num_samples < memory.window:
        raise ValueError(
            f"window must be at most the {num_samples} training samples, but is {memory.window}"
        )
    per_epoch = (num_samples - memory.window) // memory.stride + 1
    if per_epoch < steps_per_epoch:
        raise ValueError(
            f"steps_per_epoch must be at most {per_epoch}, the windows of an epoch, but is "
            f"{steps_per_epoch}"
        )
    return per_epoch // steps_per_epoch


# --- Training ---


def init(settings: Settings, key: jax.Array, data: Any) -> State:
    """The state before training. Raises ValueError where the data do not fit, see `task`."""
    check_data(data)
    param_key, shuffle_key = jax.random.split(key)
    train, memory = training_set(data), settings.memory
    for name, targets in (("training", train.targets), ("test", data["test_targets"])):
        if len(targets) < 4:
            raise ValueError(f"HSIC needs at least 4 {name} samples, but has {len(targets)}")
    windows_per_step(len(train.targets), memory=memory, steps_per_epoch=settings.steps_per_epoch)
    layers = settings.network(train.targets.shape[1])
    x = jax.eval_shape(
        lambda inputs: settings.encode(settings.augment(key, inputs)),
        train.inputs[: memory.window],
    )
    params = init_params(param_key, layers, x)
    return State(
        params=params,
        opt_state=settings.optimizer.init(params),
        u=at_rest(layers, memory.window),
        memory=memory.init(train),
        steps=jnp.int32(0),
        shuffle_seed=jax.random.bits(shuffle_key, (), jnp.uint32),
        plane=jnp.zeros((settings.history_epochs, len(layers), 2)),
    )


def step(settings: Settings, state: State, batch: Whole, key: jax.Array) -> tuple[State, Scalars]:
    """Learning on the windows of one step, one after the other, and the information plane then."""
    train, memory, steps_per_epoch = batch.data, settings.memory, settings.steps_per_epoch
    num_samples = len(train.targets)
    num_windows = windows_per_step(num_samples, memory=memory, steps_per_epoch=steps_per_epoch)
    epoch, part = jnp.divmod(state.steps, steps_per_epoch)
    epoch_key = jax.random.fold_in(jax.random.key(state.shuffle_seed), epoch)
    order = jax.random.permutation(epoch_key, num_samples)
    first = part * num_windows

    def at_window(
        carry: tuple[Learned, Contents], i: jax.Array
    ) -> tuple[tuple[Learned, Contents], Scalars]:
        learned, contents = carry
        contents, (inputs, y) = memory.recall(contents, train, order, i)
        x = settings.encode(settings.augment(jax.random.fold_in(key, i), inputs))
        learned, scalars = learn_window(settings, learned, x, y)
        return (learned, contents), scalars

    learned = Learned(state.params, state.opt_state, state.u)
    contents = memory.start(state.memory, train, order, first)
    (learned, contents), scalars = jax.lax.scan(
        at_window, (learned, contents), first + jnp.arange(num_windows)
    )
    point = information(settings, learned.params, train)
    state = state._replace(
        **learned._asdict(),
        memory=contents,
        steps=state.steps + 1,
        plane=state.plane.at[epoch].set(point, mode="drop"),
    )
    return state, jax.tree.map(jnp.mean, scalars) | _named(point)


def learn_window(
    settings: Settings, learned: Learned, x: jax.Array, y: jax.Array
) -> tuple[Learned, Scalars]:
    """The time steps of one window, with an update in each: x [window, ...], y [window, class]."""
    layers = settings.network(y.shape[1])
    window = see(x, y, settings.bottleneck)

    def time_step(
        learned: Learned, _: None
    ) -> tuple[Learned, tuple[jax.Array, dict[str, jax.Array]]]:
        params, opt_state, u = learned
        update = settings.learner(layers, params, u, window, settings.bottleneck)
        change, opt_state = settings.optimizer.update(update.gradient, opt_state, params)
        params = optax.apply_updates(params, change)
        return Learned(params, opt_state, update.u), (update.outputs, update.scalars)

    learned = learned._replace(u=settings.between_windows(learned.u))
    learned, (outputs, reports) = jax.lax.scan(time_step, learned, length=settings.time_steps)
    late = jnp.mean(outputs[settings.time_steps // 2 :], axis=0)
    return learned, _scores(late, y) | jax.tree.map(jnp.mean, reports)


# --- Evaluation ---


def respond(
    settings: Settings, params: tuple, inputs: jax.Array, num_classes: int
) -> tuple[jax.Array, ...]:
    """Activity of each layer from rest, the mean over the second half of the time steps.

    inputs [sample, ...] as the data set has them -> [sample, ...] of each layer, outputs last.
    """
    layers = settings.network(num_classes)
    x = settings.encode(inputs)

    def time_step(u: tuple, _: None) -> tuple[tuple, tuple]:
        activity, u = forward(layers, params, u, x)
        return u, activity

    u = at_rest(layers, len(x))
    _, activity = jax.lax.scan(time_step, u, length=settings.time_steps)
    return jax.tree.map(lambda a: jnp.mean(a[settings.time_steps // 2 :], axis=0), activity)


def outputs_of(settings: Settings, params: tuple, inputs: jax.Array, num_classes: int) -> jax.Array:
    """The outputs of `respond` [sample, class], EVALUATED_AT_ONCE samples at a time."""

    def of_sample(sample: jax.Array) -> jax.Array:
        return respond(settings, params, sample[None], num_classes)[-1][0]

    return jax.lax.map(of_sample, inputs, batch_size=EVALUATED_AT_ONCE)


def apply(settings: Settings, state: State, inputs: jax.Array, /) -> jax.Array:
    """A Task's `apply`: outputs [sample, class] before the softmax, for inputs [sample, ...]."""
    num_classes = jax.tree.leaves(state.params[-1])[0].shape[-1]
    return outputs_of(settings, state.params, inputs, num_classes)


def information(settings: Settings, params: tuple, samples: Samples) -> jax.Array:
    """Unbiased HSIC(x, z) and HSIC(y, z) of each layer [layer, 2], over num_hsic samples."""
    inputs, y = jax.tree.map(lambda a: a[: settings.num_hsic], samples)
    window = see(settings.encode(inputs), y, settings.bottleneck)
    points = []
    for z in respond(settings, params, inputs, y.shape[1]):
        Kz = kernels.rbf_kernel(z, sigma=settings.bottleneck.sigma_z)
        points.append(jnp.stack([kernels.unbiased_hsic(K, Kz) for K in (window.Kx, window.Ky)]))
    return jnp.stack(points)


def evaluate(
    settings: Settings, state: State, data: Any, key: jax.Array
) -> tuple[Scalars, Readout]:
    """Scores of both sets, information plane and confusion of the test set; see `task`."""
    del key
    train, test = training_set(data), held_out(data)
    num_classes = test.targets.shape[1]
    scalars: Scalars = {}
    for prefix, samples in (("train_", train), ("test_", test)):
        inputs, y = jax.tree.map(lambda a: a[: settings.num_eval], samples)
        outputs = outputs_of(settings, state.params, inputs, num_classes)
        scalars |= {prefix + name: value for name, value in _scores(outputs, y).items()}
    scalars["chance_accuracy"] = jnp.max(jnp.mean(y, axis=0))
    point = information(settings, state.params, test)
    confusion = jax.nn.one_hot(jnp.argmax(outputs, axis=1), num_classes, axis=0) @ y
    readout = {
        "plane": state.plane,
        "epochs_done": -(-state.steps // settings.steps_per_epoch),
        "test_plane": point,
        "gamma": jnp.asarray(settings.bottleneck.gamma),
        "confusion": confusion.T,
    }
    if train.inputs.shape[1:] == (2,):
        readout |= decision_map(settings, state.params, train) | {
            "test_inputs": test.inputs[: settings.num_eval],
            "test_classes": jnp.argmax(y, axis=1),
        }
    return scalars | _named(point), readout


def decision_map(settings: Settings, params: tuple, train: Samples) -> Readout:
    """Probability of class 1 on a grid over the plane of the training inputs [sample, 2].

    -> decision_map [x, y] and decision_extent [low or high, x or y].
    """
    low, high = (f(train.inputs, axis=0) for f in (jnp.min, jnp.max))
    grid = jnp.linspace(low, high, MAP_POINTS)
    points = jnp.stack(jnp.meshgrid(grid[:, 0], grid[:, 1], indexing="ij"), axis=-1)
    outputs = outputs_of(settings, params, points.reshape(-1, 2), train.targets.shape[1])
    p = jax.nn.softmax(outputs)[:, 1]
    return {
        "decision_map": p.reshape(MAP_POINTS, MAP_POINTS),
        "decision_extent": jnp.stack([low, high]),
    }


def _scores(outputs: jax.Array, y: jax.Array) -> Scalars:
    right = jnp.argmax(outputs, axis=-1) == jnp.argmax(y, axis=-1)
    return {"loss": cross_entropy(outputs, y), "accuracy": jnp.mean(right.astype(y.dtype))}


def _named(plane: jax.Array) -> Scalars:
    return {
        f"hsic_{pair}_{layer + 1}": plane[layer, column]
        for layer in range(plane.shape[0])
        for column, pair in enumerate(("xz", "yz"))
    }
