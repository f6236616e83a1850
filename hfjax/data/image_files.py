"""The files in which people have MNIST, Fashion-MNIST and CIFAR-10."""

import gzip
import io
import math
import pathlib
import tarfile
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pooch

from hfjax.data import pickles
from hfjax.errors import DataFileError, one_line
from hfjax.files import local_path, read_npz

_MOST_BYTES = 2**30  # of an unpacked file; the largest one here has 47 MB

Samples = tuple[np.ndarray, np.ndarray]


# --- Places ---


def _places(data_dir: str | None, name: str) -> list[pathlib.Path]:
    """Folders where files of a data set are looked for; the last one is the cache."""
    given = [local_path(data_dir)] if data_dir else []
    for folder in given:
        if not folder.is_dir():
            raise DataFileError(f"--data_dir must be a folder, but there is none at {folder}")
    return [*given, pathlib.Path(pooch.os_cache("hfjax")) / name]


def _first(names: Sequence[str], places: Sequence[pathlib.Path]) -> pathlib.Path | None:
    """The first file of one of these names in one of the folders."""
    return next((p / n for p in places for n in names if (p / n).is_file()), None)


def _download(name: str, places: Sequence[pathlib.Path], url: str, md5: str) -> pathlib.Path:
    """A file from its source, checked by its hash, in the last of the folders."""
    try:
        return pathlib.Path(
            pooch.retrieve(
                url + name,
                known_hash=f"md5:{md5}",
                fname=name,
                path=places[-1],
                downloader=pooch.HTTPDownloader(timeout=30),
            )
        )
    except Exception as error:
        raise _missing(name, places, f"{url}{name} ({one_line(error)})") from error


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
    """The content of a file, unpacked where it is a gzip, whatever its name."""
    try:
        content = path.read_bytes()
        if content[:2] != b"\x1f\x8b":
            return content
        with gzip.open(io.BytesIO(content)) as packed:
            unpacked = packed.read(_MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise _wrong(path, f"is cut short or damaged ({one_line(error)})") from error
    if len(unpacked) > _MOST_BYTES:
        raise _wrong(path, f"is another file: it unpacks to more than {_MOST_BYTES} bytes")
    return unpacked


def _check_ten_classes(path: pathlib.Path | str, labels: np.ndarray) -> None:
    """Raises DataFileError where a label in a file is not one of ten classes."""
    bad = np.flatnonzero(labels > 9)
    if len(bad):
        raise _wrong(path, f"contains {labels[bad[0]]} as label {bad[0]}, where 0 to 9 are allowed")


# --- MNIST and its like ---

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

_SOURCES = {"mnist": (_MNIST_URL, _MNIST_MD5), "fashion_mnist": (_FASHION_URL, _FASHION_MD5)}
# Where torchvision puts the files below its root.
_BELOW = {
    "mnist": ("MNIST/raw", "raw", "MNIST", "mnist"),
    "fashion_mnist": ("FashionMNIST/raw", "raw", "FashionMNIST", "fashion_mnist", "fashion-mnist"),
}


def mnist_like(data_dir: str | None, name: str, which: str) -> Samples:
    """Images [sample, row, column, 1] and labels [sample] of one set, "train" or "t10k".

    name: mnist or fashion_mnist. Each IDX file may be packed or not, whatever its ending; have a
    dot in its name (train-images.idx3-ubyte); and lie in a folder of its own name (Kaggle), or in
    MNIST/raw or FashionMNIST/raw (torchvision). mnist.npz is that of Keras.
    Raises DataFileError where a file is missing, damaged or of another data set.
    """
    roots = _places(data_dir, name)
    places = [root / below for root in roots for below in ("", *_BELOW[name])]
    labels_name = f"{which}-labels-idx1-ubyte"
    keras = ["mnist.npz"] if name == "mnist" else []
    present = _first([*_forms(labels_name), *keras], places)
    if present is not None and present.name in keras:
        path = present
        images, labels = _keras(path, {"train": "train", "t10k": "test"}[which])
    else:
        url, md5 = _SOURCES[name]
        arrays = []
        for stem, shape in ((f"{which}-images-idx3-ubyte", (28, 28)), (labels_name, ())):
            packed = f"{stem}.gz"
            path = _first(_forms(stem), places) or _download(packed, roots, url, md5[packed])
            arrays.append(_idx(path, shape))
        images, labels = arrays
    if len(images) != len(labels):
        raise _wrong(path, f"contains {len(labels)} labels for {len(images)} images")
    for other, first in _FIRST_LABELS.items():
        if other != name and labels[:10].tolist() == first[which]:
            raise _wrong(path, f"belongs to {other}, which has the same file names as {name}")
    _check_ten_classes(path, labels)
    return images[..., None], labels


def _forms(stem: str) -> list[str]:
    """The names that an IDX file is given, below a folder."""
    dotted = stem.replace("-idx", ".idx")
    names = [f"{stem}.gz", stem, f"{dotted}.gz", dotted]
    return [*names, *(f"{folder}/{name}" for folder in names for name in names)]


def _keras(path: pathlib.Path, which: str) -> Samples:
    """Images [sample, row, column] and labels [sample] of the npz of Keras."""
    try:
        images, labels = read_npz(path, (f"x_{which}", f"y_{which}")).values()
    except (OSError, ValueError) as error:
        raise _wrong(path, f"is not the mnist.npz of Keras ({one_line(error)})") from error
    if images.dtype != np.uint8 or images.shape[1:] != (28, 28):
        raise _wrong(path, f"contains images {images.dtype} {images.shape}, not bytes of 28 x 28")
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise _wrong(path, f"contains labels {labels.dtype} {labels.shape}, not one for each image")
    return images, labels


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
    expected = 4 + 4 * rank + math.prod(sizes)
    if len(content) != expected:
        raise _wrong(path, f"is cut short or too long ({len(content)} bytes, not {expected})")
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(sizes)


# --- CIFAR-10 ---

_CIFAR_URL = "https://www.cs.toronto.edu/~kriz/"
_CIFAR_ARCHIVE, _CIFAR_MD5 = "cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"
# The two versions, by the ending of their files: folder and archive.
_VERSIONS = {
    ".bin": ("cifar-10-batches-bin", _CIFAR_ARCHIVE),
    "": ("cifar-10-batches-py", "cifar-10-python.tar.gz"),
}
_BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
_CIFAR_RECORDS, _CIFAR_BYTES = 10_000, 1 + 3 * 32 * 32  # in a file, and in a record


def cifar10(data_dir: str | None) -> tuple[Samples, Samples]:
    """Images [sample, row, column, colour] and labels [sample], for training and for testing.

    The binary version or that for Python: the folder of the batches, which may be data_dir itself,
    or its archive. Raises DataFileError where a file is missing, damaged or another one.
    """
    places = _places(data_dir, "cifar10")
    for place in places:
        for ending, (below, archive) in _VERSIONS.items():
            for folder in (place, place / below):
                if any((folder / f"{batch}{ending}").is_file() for batch in _BATCHES):
                    return _cifar_sets(folder, ending, _in_folder(folder, ending))
            if (place / archive).is_file():
                contents = _in_archive(place / archive, ending)
                return _cifar_sets(place / archive, ending, contents)
    path = _download(_CIFAR_ARCHIVE, places, _CIFAR_URL, _CIFAR_MD5)
    return _cifar_sets(path, ".bin", _in_archive(path, ".bin"))


def _in_folder(folder: pathlib.Path, ending: str) -> list[bytes]:
    """The six files of a folder."""
    for batch in _BATCHES:
        if not (folder / f"{batch}{ending}").is_file():
            raise DataFileError(
                f"{batch}{ending} is not in {folder}; put it there, or delete the folder to "
                "download the archive again"
            )
    return [_read(folder / f"{batch}{ending}") for batch in _BATCHES]


def _in_archive(archive: pathlib.Path, ending: str) -> list[bytes]:
    """The six files of an archive."""
    contents = []
    try:
        with tarfile.open(archive) as tar:
            for batch in _BATCHES:
                member = tar.extractfile(f"{_VERSIONS[ending][0]}/{batch}{ending}")
                contents.append(member.read(_MOST_BYTES) if member else b"")
    except Exception as error:  # damage makes tarfile raise nearly anything
        reason = one_line(error)[:200]
        raise _wrong(archive, f"is cut short, damaged or another archive ({reason})") from error
    return contents


def _cifar_sets(
    where: pathlib.Path, ending: str, contents: Sequence[bytes]
) -> tuple[Samples, Samples]:
    """The sets of six files."""
    read = _binary_batch if ending else _python_batch
    parts = [
        read(content, f"{where}/{batch}{ending}")
        for batch, content in zip(_BATCHES, contents, strict=True)
    ]
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts[:-1], strict=True))
    return (images, labels), parts[-1]


def _binary_batch(content: bytes, where: str) -> Samples:
    """Images [record, row, column, colour] and labels [record] of a file of the binary version."""
    expected = _CIFAR_RECORDS * _CIFAR_BYTES
    if len(content) != expected:
        raise _wrong(where, f"is cut short or another file ({len(content)} bytes, not {expected})")
    records = np.frombuffer(content, np.uint8).reshape(_CIFAR_RECORDS, _CIFAR_BYTES)
    _check_ten_classes(where, records[:, 0])
    return _rows_and_columns(records[:, 1:]), records[:, 0]


def _python_batch(content: bytes, where: str) -> Samples:
    """The same of a file of the version for Python: a pickled dict with "data" and "labels"."""
    try:
        batch = pickles.plain(content)
    except ValueError as error:
        raise _wrong(where, f"is cut short or another file ({one_line(error)})") from error
    values, labels = (_entry(batch, name) for name in ("data", "labels"))
    right = isinstance(values, np.ndarray) and values.dtype == np.uint8
    if not right or values.shape != (_CIFAR_RECORDS, _CIFAR_BYTES - 1):
        raise _wrong(where, f"is another file: it has no data of {_CIFAR_RECORDS} images in bytes")
    bytes_only = isinstance(labels, list) and all(
        type(label) is int and 0 <= label < 256 for label in labels
    )
    if not bytes_only or len(labels) != _CIFAR_RECORDS:
        raise _wrong(where, f"is another file: it has no list of {_CIFAR_RECORDS} labels")
    _check_ten_classes(where, np.array(labels))
    return _rows_and_columns(values), np.array(labels, np.uint8)


def _entry(batch: Any, name: str) -> Any:
    """An entry of a pickled dict, whose keys are byte strings where it was pickled again."""
    return batch.get(name, batch.get(name.encode())) if isinstance(batch, dict) else None


def _rows_and_columns(values: np.ndarray) -> np.ndarray:
    """Images [record, colour x row x column] -> [record, row, column, colour]."""
    return np.ascontiguousarray(values.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
