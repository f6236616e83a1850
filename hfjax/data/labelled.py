"""Labelled samples for classification: images, digits, a line, XOR."""

import gzip
import pathlib
import tarfile
import zlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import pooch

from hfjax import check
from hfjax.errors import DataFileError, one_line


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
    one-hot, float32. Raises ValueError where a label is out of range, a set is empty, the numbers
    of inputs and labels differ, or the shapes of inputs differ between the two sets.
    """
    check.at_least(2, num_classes=num_classes)
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
        if len(inputs) != len(labels) or len(inputs) == 0:
            raise ValueError(f"the {name} set has {len(inputs)} samples and {len(labels)} labels")
        labels = np.asarray(labels)
        bad = np.flatnonzero((labels < 0) | (labels >= num_classes) | (labels != labels // 1))
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


_MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_MNIST_MD5 = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}
_FASHION_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
_FASHION_MD5 = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
# The two data sets share their file names; the first labels identify them.
_FIRST_LABELS = {
    "mnist": {"train": [5, 0, 4, 1, 9, 2, 1, 3, 1, 4], "t10k": [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]},
    "fashion_mnist": {
        "train": [9, 0, 0, 3, 0, 2, 7, 2, 5, 5],
        "t10k": [9, 2, 1, 1, 6, 1, 4, 6, 5, 7],
    },
}
_CIFAR_URL = "https://www.cs.toronto.edu/~kriz/"
_CIFAR_ARCHIVE, _CIFAR_MD5 = "cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"
_CIFAR_FOLDER = "cifar-10-batches-bin"
_CIFAR_TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
_CIFAR_RECORDS, _CIFAR_BYTES = 10_000, 1 + 3 * 32 * 32  # in a file, and in a record


def mnist(*, data_dir: str | None = None) -> dict[str, np.ndarray]:
    """MNIST: 60,000 handwritten digits of 28 x 28 pixels for training, 10,000 for testing.

    data_dir: folder of the files; None for the user's cache.
    The four IDX files, packed or not, are looked for in data_dir, then in the user's cache, and
    otherwise downloaded to the cache. -> as `from_arrays`, inputs [sample, row, column, 1], bytes.
    Raises DataFileError where data_dir is not a folder, or a file is missing, damaged or of another
    data set. Source: LeCun, Bottou, Bengio & Haffner 1998.
    """
    return _idx_sets(data_dir, "mnist", _MNIST_URL, _MNIST_MD5)


def fashion_mnist(*, data_dir: str | None = None) -> dict[str, np.ndarray]:
    """Fashion-MNIST: clothes in ten classes, with the file names of `mnist` and otherwise like it.

    data_dir: as in `mnist`.
    Source: Xiao, Rasul & Vollgraf 2017.
    """
    return _idx_sets(data_dir, "fashion_mnist", _FASHION_URL, _FASHION_MD5)


def mnist_10k(*, data_dir: str | None = None, num_train: int = 8500) -> dict[str, np.ndarray]:
    """The 10,000 test images of MNIST, shuffled, the first num_train of them for training.

    For machines without the other files. Otherwise like `mnist`.
    data_dir: as in `mnist`. num_train: images for training; the others are for testing.
    """
    images, labels = _shuffled(*_idx_pair("t10k", data_dir, "mnist", _MNIST_URL, _MNIST_MD5))
    return _split(images, labels, num_train=num_train, num_classes=10)


def cifar10(*, data_dir: str | None = None) -> dict[str, np.ndarray]:
    """CIFAR-10: 50,000 colour photographs of 32 x 32 pixels for training, 10,000 for testing.

    data_dir: folder of the files; None for the user's cache.
    The binary version: its archive, or the folder cifar-10-batches-bin of the archive, is looked
    for as in `mnist`. -> as `from_arrays`, inputs [sample, row, column, 3], bytes.
    Raises DataFileError as `mnist` does. Source: Krizhevsky 2009.
    """
    places = _places(data_dir, "cifar10")
    folder = next((p / _CIFAR_FOLDER for p in places if (p / _CIFAR_FOLDER).is_dir()), None)
    if folder is None:
        archive = _locate((_CIFAR_ARCHIVE,), places, _CIFAR_URL, _CIFAR_MD5)
        contents = _archived(archive, (*_CIFAR_TRAIN, "test_batch.bin"))
    else:
        contents = {}
        for name in (*_CIFAR_TRAIN, "test_batch.bin"):
            if not (folder / name).is_file():
                raise DataFileError(
                    f"{name} is not in {folder}; put it there, or delete the folder to download "
                    "the archive again"
                )
            contents[name] = _read(folder / name)
    where = folder or archive
    parts = [_cifar_records(content, f"{where}/{name}") for name, content in contents.items()]
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts[:-1], strict=True))
    return from_arrays(images, labels, *parts[-1], num_classes=10)


def _places(data_dir: str | None, name: str) -> list[pathlib.Path]:
    """Folders where files of a data set are looked for; the last one is the cache."""
    given = [pathlib.Path(data_dir).expanduser()] if data_dir else []
    for folder in given:
        if not folder.is_dir():
            raise DataFileError(f"--data_dir must be a folder, but there is none at {folder}")
    return [*given, pathlib.Path(pooch.os_cache("hfjax")) / name]


def _locate(
    names: Sequence[str], places: Sequence[pathlib.Path], url: str, md5: str
) -> pathlib.Path:
    """The first file of one of these names in one of the folders, or names[0] downloaded."""
    for place in places:
        for name in names:
            if (place / name).is_file():
                return place / name
    try:
        return pathlib.Path(
            pooch.retrieve(
                url + names[0],
                known_hash=f"md5:{md5}",
                fname=names[0],
                path=places[-1],
                downloader=pooch.HTTPDownloader(timeout=30),
            )
        )
    except Exception as error:
        raise _missing(names[0], places, f"{url}{names[0]} ({one_line(error)})") from error


def _missing(name: str, places: Sequence[pathlib.Path], source: str) -> DataFileError:
    """The error for a file that is neither in the folders nor at its source."""
    folders = " and ".join(map(str, places))
    return DataFileError(
        f"{name} is not in {folders}, and the download failed: {source}; put the file there, give "
        "its folder by --data_dir=FOLDER, or use --fiddler=laptop, which needs no file"
    )


def _wrong(path: pathlib.Path | str, what: str) -> DataFileError:
    """The error for a file that is damaged or not the one expected."""
    return DataFileError(f"{path} {what}; replace it, or delete it to download it again")


def _read(path: pathlib.Path) -> bytes:
    """The content of a file, unpacked where it is a gzip."""
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _wrong(path, f"is cut short or damaged ({error})") from error


def _idx(path: pathlib.Path, shape: tuple[int, ...]) -> np.ndarray:
    """The values of an IDX file [item, *shape]. Format: 0 0 8 rank, big-endian sizes, values."""
    content = _read(path)
    rank = 1 + len(shape)
    if content[:4] != bytes((0, 0, 8, rank)):
        kind = "images" if shape else "labels"
        begin = f"begins with {content[:4].hex()}" if content else "is empty"
        raise _wrong(path, f"is not an IDX file of {kind} (it {begin})")
    if len(content) < 4 + 4 * rank:
        raise _wrong(path, f"is cut short ({len(content)} bytes, within its header)")
    sizes = tuple(np.frombuffer(content, ">u4", rank, offset=4).tolist())
    if sizes[1:] != shape:
        raise _wrong(path, f"contains images of {sizes[1:]} pixels, not of {shape}")
    expected = 4 + 4 * rank + int(np.prod(sizes))
    if len(content) != expected:
        raise _wrong(path, f"is cut short or too long ({len(content)} bytes, not {expected})")
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(sizes)


def _idx_pair(
    prefix: str, data_dir: str | None, name: str, url: str, md5: dict[str, str]
) -> tuple[np.ndarray, np.ndarray]:
    """Images [sample, row, column, 1] and labels [sample] of one set of the MNIST family."""
    arrays = []
    for kind, shape in (("images-idx3", (28, 28)), ("labels-idx1", ())):
        packed = f"{prefix}-{kind}-ubyte.gz"
        names = (packed, packed.removesuffix(".gz"))
        path = _locate(names, _places(data_dir, name), url, md5[packed])
        arrays.append(_idx(path, shape))
        if len(arrays[-1]) != len(arrays[0]):
            raise _wrong(path, f"contains {len(arrays[1])} labels for {len(arrays[0])} images")
    for other, first in _FIRST_LABELS.items():
        if other != name and arrays[1][:10].tolist() == first[prefix]:
            raise _wrong(path, f"belongs to {other}, which has the same file names as {name}")
    _check_ten_classes(path, arrays[1])
    return arrays[0][..., None], arrays[1]


def _check_ten_classes(path: pathlib.Path | str, labels: np.ndarray) -> None:
    """Raises DataFileError where a label in a file is not one of ten classes."""
    bad = np.flatnonzero(labels > 9)
    if len(bad):
        raise _wrong(path, f"contains {labels[bad[0]]} as label {bad[0]}, where 0 to 9 are allowed")


def _idx_sets(
    data_dir: str | None, name: str, url: str, md5: dict[str, str]
) -> dict[str, np.ndarray]:
    """Both sets of the MNIST family."""
    sets = [_idx_pair(prefix, data_dir, name, url, md5) for prefix in ("train", "t10k")]
    return from_arrays(*sets[0], *sets[1], num_classes=10)


def _archived(archive: pathlib.Path, names: Sequence[str]) -> dict[str, bytes]:
    """Files of the archive of CIFAR-10, by name."""
    contents = {}
    try:
        with tarfile.open(archive) as tar:
            for name in names:
                member = tar.extractfile(f"{_CIFAR_FOLDER}/{name}")
                contents[name] = member.read() if member else b""
    except (tarfile.TarError, EOFError, KeyError, zlib.error, gzip.BadGzipFile) as error:
        raise _wrong(archive, f"is cut short, damaged or another archive ({error})") from error
    return contents


def _cifar_records(content: bytes, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Images [record, row, column, colour] and labels [record] of a binary file of CIFAR-10."""
    expected = _CIFAR_RECORDS * _CIFAR_BYTES
    if len(content) != expected:
        raise _wrong(where, f"is cut short or another file ({len(content)} bytes, not {expected})")
    records = np.frombuffer(content, np.uint8).reshape(_CIFAR_RECORDS, _CIFAR_BYTES)
    _check_ten_classes(where, records[:, 0])
    images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), records[:, 0]
