"""Layers that learn by themselves: the information bottleneck as a three-factor Hebbian rule.

Each layer z of a network lowers HSIC(x, z) - gamma HSIC(y, z): it forgets the input x but for what
tells of the target y. HSIC compares samples, so a layer needs those of the recent past, the window
in working memory. The biological rule changes a layer by its newest activity alone, before and
behind its weights, times a global signal that the window gives; no error goes through a layer.

Source: Daruwalla & Lipasti, Frontiers in Computational Neuroscience 2024; their repository
biological-hsic. Beside the rule stand their baselines on the same networks and data: the gradient
of each layer's own HSIC objective, and back-propagation.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

from hfjax import check, figures, kernels, networks
from hfjax.task import HostReadout, Readout, Scalars, Task, Whole

EVALUATED_AT_ONCE = 256  # samples; bounds the memory of a convolutional network
MAP_POINTS = 101  # a decision map of 2-D inputs has so many points in each direction

# Networks --------------------------------------------------------------------------------------

# (params, u, below [sample, ...]) -> (z [sample, ...], u). u is what the layer keeps for each
# sample from one time step to the next, () where it keeps nothing.
Layer = Callable[[Any, Any, jax.Array], tuple[jax.Array, Any]]


class Network(NamedTuple):
    """A network as its layers; made by `mlp`, `cnn`, or `biohsic_lif.lif_mlp`.

    init (key, *, input_shape, num_classes) -> params, a tuple with an entry for each layer.
    rest (params, num_samples) -> u, likewise: the layers' state at rest.
    layers: the last one gives the outputs [sample, class], the others learn by HSIC.
    """

    init: Callable[..., tuple]
    rest: Callable[[tuple, int], tuple]
    layers: tuple[Layer, ...]


def _flat(x: jax.Array) -> jax.Array:
    return x.reshape(x.shape[0], -1)


def _normalised(a: jax.Array) -> jax.Array:
    return networks.layer_norm(networks.relu(a))


def _dense_layer(params: networks.DenseParams, u: Any, below: jax.Array):
    return _normalised(networks.dense(params, _flat(below))), u


def _conv_layer(params: networks.DenseParams, u: Any, below: jax.Array):
    return _normalised(networks.conv_3x3(params, below)), u


def _pooled_conv_layer(params: networks.DenseParams, u: Any, below: jax.Array):
    return _conv_layer(params, u, networks.average_pool_2x2(below))


def _outputs(params: networks.DenseParams, u: Any, below: jax.Array):
    return networks.dense(params, _flat(below)), u


def _pooled_outputs(params: networks.DenseParams, u: Any, below: jax.Array):
    return _outputs(params, u, networks.average_pool_2x2(below))


def _keeps_nothing(params: tuple, num_samples: int) -> tuple:
    del num_samples
    return ((),) * len(params)


def dense_stack(
    key: jax.Array, *, input_shape: tuple[int, ...], num_classes: int, hidden: tuple[int, ...]
) -> tuple[networks.DenseParams, ...]:
    """Parameters of dense layers of the sizes `hidden`, and of the outputs."""
    sizes = (int(np.prod(input_shape)), *hidden, num_classes)
    keys = jax.random.split(key, len(sizes) - 1)
    return tuple(
        networks.dense_init(k, num_in=num_in, num_out=num_out)
        for k, num_in, num_out in zip(keys, sizes[:-1], sizes[1:], strict=True)
    )


def mlp(*, hidden: tuple[int, ...] = (128, 64)) -> Network:
    """z = layer_norm(relu(z_below W + b)) for each size in `hidden`, and linear outputs.

    With no hidden layer this is the single linear layer. Raises ValueError for a size below 1.
    """
    check.at_least(1, **{f"hidden[{i}]": size for i, size in enumerate(hidden)})
    return Network(
        init=partial(dense_stack, hidden=tuple(hidden)),
        rest=_keeps_nothing,
        layers=(_dense_layer,) * len(hidden) + (_outputs,),
    )


def cnn(*, channels: tuple[int, ...] = (128, 256)) -> Network:
    """z = layer_norm(relu(3 x 3 convolution)), the norm over channels; 2 x 2 means between layers.

    For images [x, y, channel] whose sides can be halved as often as there are layers; other inputs
    raise ValueError, as do no layers, and a size below 1.
    """
    check.at_least(1, **{f"channels[{i}]": size for i, size in enumerate(channels)})
    check.at_least(1, number_of_layers=len(channels))

    def init(key: jax.Array, *, input_shape: tuple[int, ...], num_classes: int):
        halvings = 2 ** len(channels)
        if len(input_shape) != 3 or input_shape[0] % halvings or input_shape[1] % halvings:
            raise ValueError(
                f"{len(channels)} convolutions with pooling need images [x, y, channel] with sides "
                f"that are multiples of {halvings}, but the inputs have the shape {input_shape}"
            )
        keys = jax.random.split(key, len(channels) + 1)
        convolutions = tuple(
            networks.dense_init(k, num_in=9 * num_in, num_out=num_out)
            for k, num_in, num_out in zip(
                keys[:-1], (input_shape[2], *channels[:-1]), channels, strict=True
            )
        )
        pixels = (input_shape[0] // halvings) * (input_shape[1] // halvings)
        outputs = networks.dense_init(keys[-1], num_in=pixels * channels[-1], num_out=num_classes)
        return (*convolutions, outputs)

    return Network(
        init=init,
        rest=_keeps_nothing,
        layers=(_conv_layer, *(_pooled_conv_layer,) * (len(channels) - 1), _pooled_outputs),
    )


# Learners --------------------------------------------------------------------------------------


class Update(NamedTuple):
    """What a learner makes of a window: the gradient to descend, and what the network did.

    gradient: like params. outputs [window, class]. u: the layers' state after this time step.
    scalars: what the learner has to report.
    """

    gradient: tuple
    outputs: jax.Array
    u: tuple
    scalars: dict[str, jax.Array]


def cross_entropy(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Mean over samples of -sum_c y_c log softmax(outputs)_c: [sample, class] twice -> scalar."""
    return jnp.mean(optax.softmax_cross_entropy(outputs, targets))


def _own_gradient(objective, layer: Layer, params, u, below):
    """objective(z), its gradient by the layer's own params, z and the layer's new u."""

    def value_of(params):
        z, new_u = layer(params, u, below)
        return objective(z), (z, new_u)

    (value, (z, new_u)), gradient = jax.value_and_grad(value_of, has_aux=True)(params)
    return value, gradient, z, new_u


def _push_back(signal: jax.Array, layer: Layer, params, u, below):
    """`signal` for the newest activity of a layer, pushed back to its params through that alone."""
    u, below = jax.tree.map(lambda a: a[-1:], (u, below))
    (gradient,) = jax.vjp(lambda params: layer(params, u, below)[0], params)[1](signal[None])
    return gradient


def biological_rule(
    network: Network,
    params: tuple,
    u: tuple,
    x: jax.Array,
    y: jax.Array,
    Kx: jax.Array,
    Ky: jax.Array,
    *,
    gamma: float,
    sigma_z: float,
) -> Update:
    """The three-factor rule: for each layer, its newest local activity times the global signal.

    With xi = `kernels.global_signal` of the layer, the gradient is xi pushed back through layer
    norm, relu and weights of this layer for the newest sample, whose activities before and behind
    the weights are the other two factors: of rank one for a dense layer. The outputs take the
    gradient of their own cross-entropy over the window.

    x [window, ...], y [window, class]; Kx, Ky [window, window] their kernel matrices; the newest
    sample is the last. Reports `signal_norm_1`, ..., |xi| of each layer.
    Source: Daruwalla & Lipasti 2024; `create_biohsic_step` of biological-hsic, which pushes back
    all samples through all layers, and then keeps what is here.
    """
    z, gradients, states, norms = x, [], [], {}
    for number, (layer, p, u_l) in enumerate(
        zip(network.layers[:-1], params[:-1], u[:-1], strict=True), start=1
    ):
        below = z
        z, new_u = layer(p, u_l, below)
        xi = kernels.global_signal(Kx, Ky, z, gamma=gamma, sigma=sigma_z)
        gradients.append(_push_back(xi, layer, p, u_l, below))
        states.append(new_u)
        norms[f"signal_norm_{number}"] = jnp.sqrt(jnp.sum(xi**2))
    _, gradient, outputs, new_u = _own_gradient(
        partial(cross_entropy, targets=y), network.layers[-1], params[-1], u[-1], z
    )
    return Update((*gradients, gradient), outputs, (*states, new_u), norms)


def hsic_gradient(
    network: Network,
    params: tuple,
    u: tuple,
    x: jax.Array,
    y: jax.Array,
    Kx: jax.Array,
    Ky: jax.Array,
    *,
    gamma: float,
    sigma_z: float,
) -> Update:
    """Each layer by the gradient of its own objective over the window, the outputs as in the rule.

    The objective is `kernels.hsic_objective`; the layer's input is given, so that no gradient
    crosses a layer. Arguments as in `biological_rule`; reports `objective_1`, ... of each layer.
    Source: `create_hsic_step` of biological-hsic (Ma, Lewis & Kleijn 2020).
    """

    def objective(z):
        Kz = kernels.rbf_kernel(z, sigma=sigma_z)
        return kernels.hsic_objective(Kx, Ky, Kz, gamma=gamma)

    z, gradients, states, reports = x, [], [], {}
    for number, (layer, p, u_l) in enumerate(zip(network.layers, params, u, strict=True), start=1):
        last = number == len(network.layers)
        own = partial(cross_entropy, targets=y) if last else objective
        value, gradient, z, new_u = _own_gradient(own, layer, p, u_l, z)
        gradients.append(gradient)
        states.append(new_u)
        if not last:
            reports[f"objective_{number}"] = value
    return Update(tuple(gradients), z, tuple(states), reports)


def back_propagation(
    network: Network,
    params: tuple,
    u: tuple,
    x: jax.Array,
    y: jax.Array,
    Kx: jax.Array,
    Ky: jax.Array,
    *,
    gamma: float,
    sigma_z: float,
) -> Update:
    """The gradient of the cross-entropy through all layers of one time step.

    Arguments as in `biological_rule`, of which the kernels, gamma and sigma_z have no part in it.
    """
    del Kx, Ky, gamma, sigma_z

    def loss(params):
        activity, new_u = forward(network, params, u, x)
        return cross_entropy(activity[-1], y), (activity[-1], new_u)

    gradient, (outputs, new_u) = jax.grad(loss, has_aux=True)(params)
    return Update(gradient, outputs, new_u, {})


def forward(network: Network, params: tuple, u: tuple, x: jax.Array) -> tuple[tuple, tuple]:
    """Activity [sample, ...] of all layers, outputs last, and their new state, for inputs x."""
    z, activity, states = x, [], []
    for layer, p, u_l in zip(network.layers, params, u, strict=True):
        z, new_u = layer(p, u_l, z)
        activity.append(z)
        states.append(new_u)
    return tuple(activity), tuple(states)


# Working memory --------------------------------------------------------------------------------


class Samples(NamedTuple):
    """inputs [sample, ...] as the data set has them, targets [sample, class], one-hot."""

    inputs: jax.Array
    targets: jax.Array


class WorkingMemory(NamedTuple):
    """How the window of recent samples is kept; made by `sliding_windows` or `ring_buffer`.

    `order` [sample] is the order of this epoch; window i holds the samples
    order[i stride : i stride + window], oldest first.
    init (data, *, window) -> contents.
    start (contents, data, order, i, *, window, stride) -> contents, before the windows i, i+1, ...
    recall (contents, data, order, i, *, window, stride) -> (contents, Samples of window i).
    """

    init: Callable[..., Any]
    start: Callable[..., Any]
    recall: Callable[..., tuple[Any, Samples]]


def _take(data: Samples, rows: jax.Array) -> Samples:
    return jax.tree.map(lambda a: jnp.take(a, rows, axis=0, mode="clip"), data)


def sliding_windows() -> WorkingMemory:
    """All samples of a window are read from the data set anew: nothing is kept."""

    def recall(contents, data, order, i, *, window, stride):
        rows = jax.lax.dynamic_slice_in_dim(order, i * stride, window)
        return contents, _take(data, rows)

    return WorkingMemory(
        init=lambda data, *, window: (),
        start=lambda contents, data, order, i, *, window, stride: contents,
        recall=recall,
    )


class Ring(NamedTuple):
    """samples [window, ...] in a ring, of which slot `oldest` is written over next."""

    samples: Samples
    oldest: jax.Array


def ring_buffer() -> WorkingMemory:
    """The online form: the window lies in the state; `stride` samples in (one), one update out.

    Only the new samples are read. At the start of an epoch the ring is filled with its first
    window - stride samples, so that updates are those of `sliding_windows`, step by step.
    """

    def init(data, *, window):
        empty = jax.tree.map(lambda a: jnp.zeros((window, *a.shape[1:]), a.dtype), data)
        return Ring(empty, jnp.int32(0))

    def push(ring, new, window):
        count = new.targets.shape[0]
        slots = (ring.oldest + jnp.arange(count)) % window
        samples = jax.tree.map(lambda kept, a: kept.at[slots].set(a), ring.samples, new)
        return Ring(samples, (ring.oldest + count) % window)

    def start(ring, data, order, i, *, window, stride):
        first = push(init(data, window=window), _take(data, order[: window - stride]), window)
        return jax.tree.map(partial(jnp.where, i == 0), first, ring)

    def recall(ring, data, order, i, *, window, stride):
        rows = jax.lax.dynamic_slice_in_dim(order, i * stride + window - stride, stride)
        ring = push(ring, _take(data, rows), window)
        return ring, _take(ring.samples, (ring.oldest + jnp.arange(window)) % window)

    return WorkingMemory(init, start, recall)


# Inputs ----------------------------------------------------------------------------------------


def pixels(images: jax.Array) -> jax.Array:
    """Bytes 0..255 -> -1..1, as published for MNIST: (x / 255 - 0.5) / 0.5; of any shape [...]."""
    return images.astype(float) / 127.5 - 1


def cifar_pixels(images: jax.Array) -> jax.Array:
    """Bytes [..., 3] -> each colour with mean 0 and variance 1 over CIFAR-10, as published.

    Raises ValueError where the last axis is not three colours.
    """
    if images.shape[-1:] != (3,):
        raise ValueError(
            f"cifar_pixels needs images of 3 colours, but the inputs are {images.shape[1:]}"
        )
    mean, std = np.array([0.4914, 0.4822, 0.4465]), np.array([0.247, 0.243, 0.261])
    scale = (1 / (255 * std)).reshape((1,) * (images.ndim - 1) + (3,))
    offset = (mean / std).reshape(scale.shape)
    images = images.astype(float)
    return images * scale.astype(images.dtype) - offset.astype(images.dtype)


def no_augmentation(key: jax.Array, images: jax.Array) -> jax.Array:
    """The images unchanged."""
    del key
    return images


def crop_and_flip(key: jax.Array, images: jax.Array) -> jax.Array:
    """Images [window, x, y, channel] shifted by -1..1 in x and y, each mirrored or not.

    Zeros come in at the rim. All images of a window are shifted alike, as in the original, which
    pads by 2 in all and crops the batch. The mirror turns the second axis, a row's pixels.
    Raises ValueError where inputs are not images.
    """
    if images.ndim != 4:
        raise ValueError(
            f"crop_and_flip needs images [x, y, channel], but the inputs are {images.shape[1:]}"
        )
    shift_key, flip_key = jax.random.split(key)
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    row, column = jax.random.randint(shift_key, (2,), 0, 3)
    cropped = jax.lax.dynamic_slice(padded, (0, row, column, 0), images.shape)
    mirrored = jax.random.bernoulli(flip_key, shape=(len(images), 1, 1, 1))
    return jnp.where(mirrored, cropped[:, :, ::-1], cropped)


def carry_on(u: tuple) -> tuple:
    """The layers' state goes on from one window to the next, slot by slot, as published.

    A slot then holds the state that another sample left: the one before, where windows slide by
    one.
    """
    return u


def from_rest(u: tuple) -> tuple:
    """Each window starts with all layers at rest."""
    return jax.tree.map(jnp.zeros_like, u)


# The task --------------------------------------------------------------------------------------


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


# Figures ---------------------------------------------------------------------------------------


def draw(readout: HostReadout) -> dict[str, Figure]:
    """Figures of a readout (see `task`): information plane, confusion, map of 2-D inputs."""
    drawn = {"information_plane": _draw_plane(readout), "confusion": _draw_confusion(readout)}
    if "decision_map" in readout:
        drawn["decision_boundary"] = _draw_decision(readout)
    return drawn


def _draw_plane(readout: HostReadout) -> Figure:
    """Each layer's way through the plane of HSIC(x, z) and HSIC(y, z), an epoch a point."""
    num_epochs = min(int(readout["epochs_done"]), len(readout["plane"]))
    path = readout["plane"][:num_epochs]
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    ax = figure.subplots()
    num_layers = path.shape[1]
    for layer in range(num_layers):
        colour = figures.COLOURS[layer % len(figures.COLOURS)]
        name = "outputs" if layer == num_layers - 1 else f"layer {layer + 1}"
        ax.plot(*path[:, layer].T, ".-", color=colour, lw=0.8, label=name)
        for epoch in (0, num_epochs - 1) if num_epochs > 1 else ():
            ax.annotate(str(epoch + 1), path[epoch, layer], fontsize=8)
        ax.plot(*readout["test_plane"][layer], "s", color=colour, mfc="none")
    ax.plot([], [], "s", color="black", mfc="none", label="now, test samples")
    ax.set_xlabel("HSIC(x, z): what the layer keeps of the input")
    ax.set_ylabel("HSIC(y, z): what it tells of the class")
    ax.set_title(f"Information plane, training samples after epochs 1 to {num_epochs}", fontsize=11)
    ax.legend(fontsize=8)
    return figure


def _draw_confusion(readout: HostReadout) -> Figure:
    """Which class was taken for which, in per cent of the true class."""
    confusion = readout["confusion"]
    share = 100 * confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(5.6, 4.8), layout="constrained")
    ax = figure.subplots()
    image = ax.imshow(share, cmap="Blues", vmin=0, vmax=100)
    figure.colorbar(image, ax=ax, label="share of the true class (%)")
    for (row, column), value in np.ndenumerate(share):
        colour = "white" if value > 60 else "black"
        ax.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=7, color=colour)
    ax.set(xlabel="class given", ylabel="true class")
    right = 100 * np.trace(confusion) / max(confusion.sum(), 1)
    ax.set_title(f"Test samples: {right:.1f} % right", fontsize=11)
    return figure


def _draw_decision(readout: HostReadout) -> Figure:
    """Probability of class 1 over the plane of inputs, with the test samples."""
    (left, bottom), (right, top) = readout["decision_extent"]
    figure = Figure(figsize=(5.8, 4.8), layout="constrained")
    ax = figure.subplots()
    image = ax.imshow(
        readout["decision_map"].T,
        origin="lower",
        extent=(left, right, bottom, top),
        cmap="RdBu_r",
        vmin=0,
        vmax=1,
        alpha=0.7,
    )
    figure.colorbar(image, ax=ax, label="probability of class 1")
    classes = readout["test_classes"]
    for number, colour, marker in ((0, "#16467a", "o"), (1, "#8c1c13", "^")):
        shown = readout["test_inputs"][classes == number]
        ax.plot(*shown.T, marker, color=colour, ms=4, mfc="none", label=f"class {number}")
    ax.set(xlabel="input 1", ylabel="input 2")
    ax.set_title("Decision of the network, and test samples", fontsize=11)
    ax.legend(fontsize=8, loc="upper right")
    return figure
