"""Labelled samples for classification: images, digits, a line, XOR."""

import jax
import jax.numpy as jnp
import numpy as np

from hfjax import check
from hfjax.data import image_files


def from_arrays(
    train_inputs: np.ndarray,
    train_labels: np.ndarray,
    test_inputs: np.ndarray,
    test_labels: np.ndarray,
    *,
    num_classes: int,
) -> dict[str, np.ndarray]:
    """A training set and a test set for `models.biohsic` and `models.reservoir`.

    inputs [sample, ...], labels [sample], whole numbers in 0 .. num_classes - 1.
    -> {"train_inputs", "train_targets", "test_inputs", "test_targets"}, targets [sample, class]
    one-hot, float32. Raises ValueError where a label is not such a number, a set is empty, the
    numbers of inputs and labels differ, or the shapes of inputs differ between the two sets.
    """
    check.at_least(2, num_classes=num_classes)
    train_inputs, test_inputs = np.asarray(train_inputs), np.asarray(test_inputs)
    if not train_inputs.ndim or not test_inputs.ndim:
        raise ValueError("inputs must be [sample, ...], but are a single number")
    if train_inputs.shape[1:] != test_inputs.shape[1:]:
        raise ValueError(
            f"training samples have the shape {train_inputs.shape[1:]}, but test samples "
            f"{test_inputs.shape[1:]}"
        )
    sets = {}
    for name, inputs, labels in (
        ("train", train_inputs, train_labels),
        ("test", test_inputs, test_labels),
    ):
        labels = np.asarray(labels)
        if labels.ndim != 1 or labels.dtype.kind not in "iufb":
            raise ValueError(
                f"labels must be numbers [sample], but those of the {name} set are "
                f"{labels.dtype} {labels.shape}"
            )
        if len(inputs) != len(labels) or len(inputs) == 0:
            raise ValueError(f"the {name} set has {len(inputs)} samples and {len(labels)} labels")
        bad = np.flatnonzero(~np.isin(labels, np.arange(num_classes)))
        if len(bad):
            raise ValueError(
                f"labels must be whole numbers from 0 to {num_classes - 1}, but label {bad[0]} of "
                f"the {name} set is {labels[bad[0]]}"
            )
        sets[f"{name}_inputs"] = np.asarray(inputs)
        sets[f"{name}_targets"] = np.eye(num_classes, dtype=np.float32)[labels.astype(int)]
    return sets


def _split(
    inputs: np.ndarray, labels: np.ndarray, *, num_train: int, num_classes: int
) -> dict[str, np.ndarray]:
    """`from_arrays` with the first num_train samples as the training set."""
    if not 1 <= num_train < len(inputs):
        raise ValueError(f"num_train must be from 1 to {len(inputs) - 1}, but is {num_train}")
    cut = slice(num_train), slice(num_train, None)
    return from_arrays(
        *(array[part] for part in cut for array in (inputs, labels)), num_classes=num_classes
    )


# --- Points ---


def linear(
    *, num_samples: int = 1000, num_train: int = 900, seed: int = 42, line_seed: int = 24
) -> dict[str, np.ndarray]:
    """Points in [-1, 1]^2 on either side of a random line through 0: y = [w.x > 0].

    num_samples  points in all.
    num_train    points for training; the others are for testing.
    seed         seed of the points.
    line_seed    seed of the line.

    -> as `from_arrays`, inputs [sample, 2], float32. Raises ValueError for a number out of range.
    Source: `load_dataset("linear")` of biological-hsic, with its seeds.
    """
    check.at_least(2, num_samples=num_samples)
    x = jax.random.uniform(jax.random.key(seed), (num_samples, 2), minval=-1, maxval=1)
    w = jax.random.normal(jax.random.key(line_seed), (2,))
    return _split(np.asarray(x), np.asarray(x @ w > 0, int), num_train=num_train, num_classes=2)


def xor(
    *, num_samples: int = 1000, num_train: int = 900, noise_std: float = 0.1, seed: int = 42
) -> dict[str, np.ndarray]:
    """The corners of the unit square with Gaussian noise; class 1 where one coordinate is 1.

    num_samples  points in all.
    num_train    points for training; the others are for testing.
    noise_std    standard deviation of the noise along each axis.
    seed         seed of the corners and the noise.

    -> as `from_arrays`, inputs [sample, 2], float32. Raises ValueError for a number out of range.
    Source: `load_dataset("xor")` of biological-hsic, with its seed.
    """
    check.at_least(2, num_samples=num_samples)
    check.not_negative(noise_std=noise_std)
    corner_key, noise_key = jax.random.split(jax.random.key(seed))
    corners = jax.random.choice(
        corner_key, jnp.array([[0, 0], [0, 1], [1, 0], [1, 1]]), (num_samples,)
    )
    x = corners + noise_std * jax.random.normal(noise_key, corners.shape)
    y = np.asarray(corners[:, 0] != corners[:, 1], int)
    return _split(np.asarray(x), y, num_train=num_train, num_classes=2)


# --- Images ---


def _shuffled(inputs: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Samples in a random order, always the same, so that two parts have the same distribution."""
    order = np.random.default_rng(0).permutation(len(inputs))
    return inputs[order], labels[order]


def digits(*, num_train: int = 1500) -> dict[str, np.ndarray]:
    """1797 handwritten digits of 8 x 8 pixels, part of scikit-learn: nothing to download.

    num_train: images for training; the others are for testing.
    -> as `from_arrays`, inputs [sample, row, column, 1], bytes; shuffled, the first num_train for
    training. Source: Alpaydin & Kaynak 1998, the test set of optical digits of the UCI repository.
    """
    from sklearn.datasets import load_digits

    images, labels = _shuffled(*load_digits(return_X_y=True))
    images = np.round(images * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    return _split(images, labels, num_train=num_train, num_classes=10)


def mnist(*, data_dir: str | None = None) -> dict[str, np.ndarray]:
    """MNIST: 60,000 handwritten digits of 28 x 28 pixels for training, 10,000 for testing.

    data_dir: folder of the files; None for the user's cache.
    The four IDX files, or mnist.npz of Keras, are looked for in data_dir, then in the user's cache,
    and otherwise downloaded to the cache; see `image_files.mnist_like` for the places and forms.
    -> as `from_arrays`, inputs [sample, row, column, 1], bytes.
    Raises DataFileError where data_dir is not a folder, or a file is missing, damaged or of another
    data set. Source: LeCun, Bottou, Bengio & Haffner 1998.
    """
    train, test = (image_files.mnist_like(data_dir, "mnist", which) for which in ("train", "t10k"))
    return from_arrays(*train, *test, num_classes=10)


def fashion_mnist(*, data_dir: str | None = None) -> dict[str, np.ndarray]:
    """Fashion-MNIST: clothes in ten classes, with the file names of `mnist` and otherwise like it.

    data_dir: as in `mnist`.
    Source: Xiao, Rasul & Vollgraf 2017.
    """
    train, test = (
        image_files.mnist_like(data_dir, "fashion_mnist", which) for which in ("train", "t10k")
    )
    return from_arrays(*train, *test, num_classes=10)


def mnist_10k(*, data_dir: str | None = None, num_train: int = 8500) -> dict[str, np.ndarray]:
    """The 10,000 test images of MNIST, shuffled, the first num_train of them for training.

    For machines without the other files. Otherwise like `mnist`.
    data_dir: as in `mnist`. num_train: images for training; the others are for testing.
    """
    images, labels = _shuffled(*image_files.mnist_like(data_dir, "mnist", "t10k"))
    return _split(images, labels, num_train=num_train, num_classes=10)


def cifar10(*, data_dir: str | None = None) -> dict[str, np.ndarray]:
    """CIFAR-10: 50,000 colour photographs of 32 x 32 pixels for training, 10,000 for testing.

    data_dir: folder of the files; None for the user's cache.
    The binary version or the one for Python, as an archive or a folder, is looked for as in
    `mnist`; data_dir may also be the folder of the batches. No pickle is executed.
    -> as `from_arrays`, inputs [sample, row, column, 3], bytes.
    Raises DataFileError as `mnist` does. Source: Krizhevsky 2009.
    """
    train, test = image_files.cifar10(data_dir)
    return from_arrays(*train, *test, num_classes=10)
