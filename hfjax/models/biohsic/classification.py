"""Classification by layers that learn on windows of a shuffled epoch, as a Task."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from hfjax import check, kernels
from hfjax.models.biohsic.figures import draw
from hfjax.models.biohsic.inputs import carry_on, no_augmentation, pixels
from hfjax.models.biohsic.learners import Update, biological_rule, cross_entropy, forward
from hfjax.models.biohsic.memory import Samples, WorkingMemory, sliding_windows
from hfjax.models.biohsic.networks import Network, mlp
from hfjax.task import Readout, Scalars, Task, Whole

EVALUATED_AT_ONCE = 256  # samples; bounds the memory of a convolutional network
MAP_POINTS = 101  # a decision map of 2-D inputs has so many points in each direction


class State(NamedTuple):
    """What a checkpoint holds.

    u: the layers' state, for each slot of the window. memory: contents of the working memory.
    steps: how many steps were done; with shuffle_seed it gives the order of every epoch.
    plane [epoch, layer, 2]: HSIC(x, z) and HSIC(y, z) at the end of each epoch so far, then zeros.
    """

    params: tuple
    opt_state: Any
    u: tuple
    memory: Any
    steps: jax.Array
    shuffle_seed: jax.Array
    plane: jax.Array


def task(
    *,
    network: Network | None = None,
    learner: Callable[..., Update] = biological_rule,
    memory: WorkingMemory | None = None,
    window: int = 6,
    stride: int = 1,
    gamma: float = 2.0,
    sigmas: tuple[float, float, float] = (0.5, 0.1, 1.0),
    time_steps: int = 1,
    between_windows: Callable[[tuple], tuple] = carry_on,
    encode: Callable[[jax.Array], jax.Array] = pixels,
    augment: Callable[[jax.Array, jax.Array], jax.Array] = no_augmentation,
    learning_rate: float | optax.Schedule = 1e-4,
    b1: float = 0.9,
    b2: float = 0.99,
    weight_decay: float = 1e-4,
    steps_per_epoch: int = 1,
    history_epochs: int = 50,
    num_eval: int = 10_000,
    num_hsic: int = 256,
) -> Task:
    """Classification by layers that learn on windows of a shuffled epoch, as a Task.

    An epoch is a permutation of the training samples, over which windows of `window` samples slide
    by `stride`; every window is time_steps time steps of the network and as many updates by AdamW.
    A `step` of the task is a scan over 1/steps_per_epoch of an epoch; the windows that are left
    when they cannot be divided so, fewer than steps_per_epoch, are dropped. The permutation is a
    function of the state (`shuffle_seed` and the number of the epoch), so that a resumed run goes
    on within the epoch. A `batch` of the task is the whole training set.

    network: defaults to `mlp()`. learner: `biological_rule`, `hsic_gradient`, `back_propagation`.
    memory: `sliding_windows()` (default) or `ring_buffer()`. gamma, sigmas (of x, y, z): see
    `kernels`. between_windows (u) -> u: `carry_on` or `from_rest`, for layers with a state. encode
    (inputs) -> x, augment (key, inputs) -> inputs: on the device, window by window.
    `data` is what `labelled.from_arrays` returns. history_epochs: how many epochs the state can
    recall of the information plane. num_eval: at most so many samples of each set are evaluated;
    num_hsic: on so many is HSIC measured (unbiased).

    step's scalars, means over its windows: loss and accuracy before the update (of the mean output
    over the second half of the time steps), what the learner reports; and hsic_xz_1, hsic_yz_1, ...
    of each layer after the step. Evaluation: the same for test and training samples, from rest.
    Raises ValueError for a window below 2, gamma, a sigma or the learning rate not positive, b1 or
    b2 outside [0, 1), a stride beyond the window, and data that do not fit.

    Source: biological-hsic, `train-biohsic`, `train-hsic`, `train-bp`; the defaults are those of
    its MNIST runs. Deviations: the order of samples differs between seeds; training accuracy is
    that before the update.
    """
    check.at_least(2, window=window)
    check.at_least(
        1,
        stride=stride,
        time_steps=time_steps,
        steps_per_epoch=steps_per_epoch,
        history_epochs=history_epochs,
        num_eval=num_eval,
    )
    check.at_least(4, num_hsic=num_hsic)
    check.positive(gamma=gamma)
    check.positive(**{f"sigma_{name}": s for name, s in zip("xyz", sigmas, strict=True)})
    check.not_negative(weight_decay=weight_decay)
    check.below_one(b1=b1, b2=b2)
    if not callable(learning_rate):
        check.positive(learning_rate=learning_rate)
    if stride > window:
        raise ValueError(f"stride must be at most window ({window}), but is {stride}")
    net = mlp() if network is None else network
    remembered = sliding_windows() if memory is None else memory
    optimizer = optax.adamw(learning_rate, b1=b1, b2=b2, weight_decay=weight_decay)
    sigma_x, sigma_y, sigma_z = sigmas
    view = {"window": window, "stride": stride}

    def windows_per_step(num_samples: int) -> int:
        if num_samples < window:
            raise ValueError(
                f"window must be at most the {num_samples} training samples, but is {window}"
            )
        per_epoch = (num_samples - window) // stride + 1
        if per_epoch < steps_per_epoch:
            raise ValueError(
                f"steps_per_epoch must be at most {per_epoch}, the windows of an epoch, but is "
                f"{steps_per_epoch}"
            )
        return per_epoch // steps_per_epoch

    def training_set(data: Any) -> Samples:
        return Samples(data["train_inputs"], data["train_targets"])

    def init(key: jax.Array, data: Any) -> State:
        check_data(data)
        param_key, shuffle_key = jax.random.split(key)
        train = training_set(data)
        for name, targets in (("training", train.targets), ("test", data["test_targets"])):
            if len(targets) < 4:
                raise ValueError(f"HSIC needs at least 4 {name} samples, but has {len(targets)}")
        windows_per_step(train.targets.shape[0])
        seen = jax.eval_shape(lambda inputs: encode(augment(key, inputs)), train.inputs[:window])
        params = net.init(
            param_key,
            input_shape=seen.shape[1:],
            num_classes=train.targets.shape[1],
        )
        return State(
            params=params,
            opt_state=optimizer.init(params),
            u=net.rest(params, window),
            memory=remembered.init(train, window=window),
            steps=jnp.int32(0),
            shuffle_seed=jax.random.bits(shuffle_key, (), jnp.uint32),
            plane=jnp.zeros((history_epochs, len(net.layers), 2)),
        )

    def sample(data: Any, key: jax.Array) -> Whole:
        del key
        return Whole(training_set(data))

    def respond(params: tuple, inputs: jax.Array) -> tuple:
        """Activity of each layer from rest, the mean over the second half of the time steps."""
        x = encode(inputs)

        def time_step(u, _):
            activity, u = forward(net, params, u, x)
            return u, activity

        _, activity = jax.lax.scan(time_step, net.rest(params, len(x)), length=time_steps)
        return jax.tree.map(lambda a: jnp.mean(a[time_steps // 2 :], axis=0), activity)

    def information(params: tuple, samples: Samples) -> jax.Array:
        """HSIC(x, z) and HSIC(y, z) of each layer [layer, 2], over the first num_hsic samples."""
        inputs, y = jax.tree.map(lambda a: a[:num_hsic], samples)
        Kx = kernels.rbf_kernel(encode(inputs), sigma=sigma_x)
        Ky = kernels.rbf_kernel(y, sigma=sigma_y)
        points = []
        for z in respond(params, inputs):
            Kz = kernels.rbf_kernel(z, sigma=sigma_z)
            points.append(jnp.stack([kernels.unbiased_hsic(K, Kz) for K in (Kx, Ky)]))
        return jnp.stack(points)

    def step(state: State, batch: Whole, key: jax.Array) -> tuple[State, dict[str, jax.Array]]:
        train: Samples = batch.data
        num_samples = train.targets.shape[0]
        num_windows = windows_per_step(num_samples)
        epoch, part = jnp.divmod(state.steps, steps_per_epoch)
        epoch_key = jax.random.fold_in(jax.random.key(state.shuffle_seed), epoch)
        order = jax.random.permutation(epoch_key, num_samples)
        first = part * num_windows
        contents = remembered.start(state.memory, train, order, first, **view)

        def at_window(carry, i):
            params, opt_state, u, contents = carry
            contents, (inputs, y) = remembered.recall(contents, train, order, i, **view)
            x = encode(augment(jax.random.fold_in(key, i), inputs))
            Kx = kernels.rbf_kernel(x, sigma=sigma_x)
            Ky = kernels.rbf_kernel(y, sigma=sigma_y)

            def time_step(carry, _):
                params, opt_state, u = carry
                gradient, outputs, u, reports = learner(
                    net, params, u, x, y, Kx, Ky, gamma=gamma, sigma_z=sigma_z
                )
                updates, opt_state = optimizer.update(gradient, opt_state, params)
                return (optax.apply_updates(params, updates), opt_state, u), (outputs, reports)

            (params, opt_state, u), (outputs, reports) = jax.lax.scan(
                time_step, (params, opt_state, between_windows(u)), length=time_steps
            )
            late = jnp.mean(outputs[time_steps // 2 :], axis=0)
            scalars = _scores(late, y) | jax.tree.map(jnp.mean, reports)
            return (params, opt_state, u, contents), scalars

        (params, opt_state, u, contents), scalars = jax.lax.scan(
            at_window,
            (state.params, state.opt_state, state.u, contents),
            first + jnp.arange(num_windows),
        )
        point = information(params, train)
        state = State(
            params,
            opt_state,
            u,
            contents,
            state.steps + 1,
            state.shuffle_seed,
            state.plane.at[epoch].set(point, mode="drop"),
        )
        return state, jax.tree.map(jnp.mean, scalars) | _named(point)

    def evaluate(state: State, data: Any, key: jax.Array) -> tuple[Scalars, Readout]:
        del key

        def outputs_of(inputs: jax.Array) -> jax.Array:
            return jax.lax.map(
                lambda one: respond(state.params, one[None])[-1][0],
                inputs,
                batch_size=EVALUATED_AT_ONCE,
            )

        train = training_set(data)
        test = Samples(data["test_inputs"], data["test_targets"])
        scalars: dict[str, jax.Array] = {}
        for prefix, samples in (("train_", train), ("test_", test)):
            inputs, y = jax.tree.map(lambda a: a[:num_eval], samples)
            outputs = outputs_of(inputs)
            scalars |= {prefix + name: value for name, value in _scores(outputs, y).items()}
        point = information(state.params, test)
        confusion = jax.nn.one_hot(jnp.argmax(outputs, axis=1), y.shape[1], axis=0) @ y
        readout = {
            "plane": state.plane,
            "epochs_done": -(-state.steps // steps_per_epoch),
            "test_plane": point,
            "confusion": confusion.T,
        }
        if train.inputs.shape[1:] == (2,):
            low, high = (f(train.inputs, axis=0) for f in (jnp.min, jnp.max))
            grid = jnp.linspace(low, high, MAP_POINTS)
            points = jnp.stack(jnp.meshgrid(grid[:, 0], grid[:, 1], indexing="ij"), axis=-1)
            p = jax.nn.softmax(outputs_of(points.reshape(-1, 2)))[:, 1]
            readout |= {
                "decision_map": p.reshape(MAP_POINTS, MAP_POINTS),
                "decision_extent": jnp.stack([low, high]),
                "test_inputs": test.inputs[:num_eval],
                "test_classes": jnp.argmax(y, axis=1),
            }
        return scalars | _named(point), readout

    return Task(init, sample, step, evaluate, draw)


def _scores(outputs: jax.Array, y: jax.Array) -> dict[str, jax.Array]:
    right = jnp.argmax(outputs, axis=-1) == jnp.argmax(y, axis=-1)
    return {"loss": cross_entropy(outputs, y), "accuracy": jnp.mean(right.astype(y.dtype))}


def _named(plane: jax.Array) -> dict[str, jax.Array]:
    return {
        f"hsic_{pair}_{layer + 1}": plane[layer, column]
        for layer in range(plane.shape[0])
        for column, pair in enumerate(("xz", "yz"))
    }


def check_data(data: Any) -> None:
    """Raise ValueError, in one sentence, where labelled data are not, or do not fit each other."""
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
