"""Labelled data: made points, and files of the published formats, small ones made here."""

import gzip
import hashlib
import pathlib
import tarfile

import numpy as np
import pytest

import fdl_configs
from hfjax.data import labelled
from hfjax.errors import DataFileError, InputError
from hfjax.training import run as train

NAMES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    """No download, and a cache that is empty."""

    def refuse(url, **_):
        raise ConnectionError(f"no network for {url}")

    monkeypatch.setattr(labelled.pooch, "retrieve", refuse)
    monkeypatch.setattr(labelled.pooch, "os_cache", lambda name: tmp_path / "cache" / name)
    (tmp_path / "cache" / "hfjax").mkdir(parents=True)


def idx(array):
    """An array of bytes as an IDX file."""
    header = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()


def made(num=30, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (num, 28, 28)), np.arange(num) % 10


def write_mnist(folder, *, packed=True):
    folder.mkdir(exist_ok=True)
    sets = {"train": made(30, 0), "test": made(20, 1)}
    for which, arrays in sets.items():
        for kind, array in zip(("images", "labels"), arrays, strict=True):
            name = NAMES[f"{which}_{kind}"]
            if packed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
            else:
                (folder / name).write_bytes(idx(array))
    return sets


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("loader", [labelled.mnist, labelled.fashion_mnist])
def test_idx_files_are_read_as_they_were_written(tmp_path, packed, loader):
    sets = write_mnist(tmp_path / "files", packed=packed)
    got = loader(data_dir=str(tmp_path / "files"))
    for which, (images, labels) in sets.items():
        assert got[f"{which}_inputs"].dtype == np.uint8
        np.testing.assert_array_equal(got[f"{which}_inputs"][..., 0], images)
        np.testing.assert_array_equal(got[f"{which}_targets"], np.eye(10)[labels])


def test_the_cache_is_looked_into_after_the_folder_given(tmp_path):
    sets = write_mnist(tmp_path / "cache" / "hfjax" / "mnist")
    (tmp_path / "elsewhere").mkdir()
    for folder in (None, str(tmp_path / "elsewhere")):
        got = labelled.mnist(data_dir=folder)
        np.testing.assert_array_equal(got["test_inputs"][..., 0], sets["test"][0])
    write_mnist(tmp_path / "cache" / "hfjax" / "mnist", packed=False)
    name = NAMES["test_images"] + ".gz"
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / name).write_bytes(gzip.compress(idx(made(20, 7)[0])))
    got = labelled.mnist(data_dir=str(tmp_path / "own"))
    np.testing.assert_array_equal(got["test_inputs"][..., 0], made(20, 7)[0])


def test_a_missing_file_is_fetched_by_its_hash_into_the_cache(tmp_path, monkeypatch):
    asked = []

    def retrieve(url, *, known_hash, fname, path, downloader):
        asked.append((url, known_hash))
        pathlib.Path(path).mkdir(parents=True, exist_ok=True)
        target = pathlib.Path(path) / fname
        target.write_bytes(gzip.compress(idx(made(20)["images" not in fname])))
        return str(target)

    monkeypatch.setattr(labelled.pooch, "retrieve", retrieve)
    assert len(labelled.mnist()["train_inputs"]) == 20
    assert len(labelled.mnist()["train_inputs"]) == 20  # from the cache, this time
    assert len(asked) == 4
    url, known_hash = asked[0]
    assert url.endswith("mnist/train-images-idx3-ubyte.gz")
    assert known_hash == "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873"


def test_ten_thousand_digits_are_cut_into_two_sets(tmp_path):
    images, labels = write_mnist(tmp_path / "files")["test"]
    got = labelled.mnist_10k(data_dir=str(tmp_path / "files"), num_train=15)
    both = np.concatenate([got["train_inputs"], got["test_inputs"]])[..., 0]
    classes = np.concatenate([got["train_targets"], got["test_targets"]]).argmax(axis=1)
    assert len(got["train_inputs"]) == 15
    order = [int(np.flatnonzero((images == image).all(axis=(1, 2)))[0]) for image in both]
    assert sorted(order) == list(range(20))
    assert order != list(range(20))
    np.testing.assert_array_equal(classes, labels[order])
    with pytest.raises(ValueError, match="num_train must be from 1 to 19, but is 20"):
        labelled.mnist_10k(data_dir=str(tmp_path / "files"), num_train=20)


@pytest.mark.parametrize("packed", [True, False])
def test_files_of_the_other_data_set_are_recognised_by_their_labels(tmp_path, packed):
    write_mnist(tmp_path / "files", packed=packed)
    path = tmp_path / "files" / (NAMES["test_labels"] + (".gz" if packed else ""))
    theirs = np.resize(labelled._FIRST_LABELS["mnist"]["t10k"], 20)
    path.write_bytes(gzip.compress(idx(theirs)) if packed else idx(theirs))
    labelled.mnist(data_dir=str(tmp_path / "files"))
    with pytest.raises(DataFileError, match=r"belongs to mnist, which has .* as fashion_mnist"):
        labelled.fashion_mnist(data_dir=str(tmp_path / "files"))


REAL = pathlib.Path(__file__).parents[2] / "shared" / "data" / "mnist"


@pytest.mark.skipif(not REAL.is_dir(), reason="the files of MNIST lie beside the repository or not")
def test_the_real_test_digits_of_mnist():
    got = labelled.mnist_10k(data_dir=str(REAL))
    with pytest.raises(DataFileError, match=r"belongs to mnist, which has .* as fashion"):
        labelled._idx_pair("t10k", str(REAL), "fashion_mnist", "", labelled._FASHION_MD5)
    counts = got["train_targets"].sum(axis=0) + got["test_targets"].sum(axis=0)
    # As published with the data set.
    np.testing.assert_array_equal(counts, [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009])
    assert got["train_inputs"].shape == (8500, 28, 28, 1)
    mean = np.concatenate([got["train_inputs"], got["test_inputs"]]).mean() / 255
    np.testing.assert_allclose(mean, 0.1325, atol=1e-4)
    for name, md5 in labelled._MNIST_MD5.items():
        if name.startswith("t10k"):  # the training files there were packed anew
            assert hashlib.md5((REAL / name).read_bytes()).hexdigest() == md5


def spoil(name, change, *, packed=True):
    def act(folder):
        path = folder / (name + (".gz" if packed else ""))
        path.write_bytes(change(path.read_bytes()))

    return act


def repacked(change):
    return lambda content: gzip.compress(change(gzip.decompress(content)))


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (
            lambda folder: (folder / (NAMES["test_labels"] + ".gz")).unlink(),
            r"t10k-labels-idx1-ubyte.gz is not in .*files and .*cache.*, and the download failed: "
            r"https://.* \(no network for .*\); put the file there, give its folder",
        ),
        (spoil(NAMES["test_images"], lambda c: c[:100]), "t10k-images.*gz is cut short or damaged"),
        (
            spoil(NAMES["train_images"], repacked(lambda c: c[:-1])),
            r"train-images.*gz is cut short or too long \(23535 bytes, not 23536\); replace it",
        ),
        (
            spoil(NAMES["train_images"], repacked(lambda c: c + b"0")),
            r"train-images.*gz is cut short or too long \(23537 bytes, not 23536\); replace it",
        ),
        (
            spoil(NAMES["train_labels"], repacked(lambda c: b"")),
            r"train-labels.*gz is not an IDX file of labels \(it is empty\); replace it",
        ),
        (
            spoil(NAMES["train_images"], repacked(lambda c: idx(np.zeros((9, 8, 8))))),
            r"train-images.* contains images of \(8, 8\) pixels, not of \(28, 28\)",
        ),
        (
            spoil(NAMES["train_images"], repacked(lambda c: c[:9])),
            r"train-images.* is cut short \(9 bytes, within its header\)",
        ),
        (
            spoil(NAMES["train_labels"], repacked(lambda c: idx(np.zeros((9, 28, 28))))),
            r"train-labels.* is not an IDX file of labels \(it begins with 00000803\)",
        ),
        (
            spoil(NAMES["train_labels"], repacked(lambda c: idx(np.zeros(9)))),
            r"train-labels.* contains 9 labels for 30 images",
        ),
        (
            spoil(NAMES["train_labels"], repacked(lambda c: c[:-2] + bytes((10, 9)))),
            r"train-labels.*gz contains 10 as label 28, where 0 to 9 are allowed; replace it",
        ),
        (spoil(NAMES["test_labels"], lambda c: b"<html>"), "t10k-labels.* is cut short or damaged"),
    ],
)
def test_a_bad_file_raises_one_sentence(tmp_path, act, message):
    write_mnist(tmp_path / "files")
    act(tmp_path / "files")
    with pytest.raises((OSError, ValueError), match=message) as caught:
        labelled.mnist(data_dir=str(tmp_path / "files"))
    assert "\n" not in str(caught.value)


def test_a_bad_label_is_named_by_its_place_in_the_file(tmp_path):
    """Also where the set is shuffled afterwards."""
    write_mnist(tmp_path / "files")
    spoil(NAMES["test_labels"], repacked(lambda c: c[:-2] + bytes((17, 9))))(tmp_path / "files")
    with pytest.raises(DataFileError, match=r"t10k-labels.*gz contains 17 as label 18, where"):
        labelled.mnist_10k(data_dir=str(tmp_path / "files"), num_train=15)


def test_a_download_with_another_hash_is_refused(monkeypatch):
    def retrieve(url, **_):
        raise ValueError(f"MD5 hash of downloaded file ({url}) does not match the known hash")

    monkeypatch.setattr(labelled.pooch, "retrieve", retrieve)
    with pytest.raises(DataFileError, match=r"\(MD5 hash .* does not match the known hash\);"):
        labelled.mnist()


@pytest.mark.parametrize("loader", [labelled.mnist, labelled.mnist_10k, labelled.cifar10])
def test_a_folder_that_does_not_exist_is_refused(tmp_path, loader):
    (tmp_path / "file").touch()
    for name in ("nowhere", "file"):
        with pytest.raises(DataFileError, match=f"must be a folder, but there is none at .*{name}"):
            loader(data_dir=str(tmp_path / name))


def test_without_files_a_run_ends_in_one_sentence():
    with pytest.raises(
        InputError, match=r"train-images-idx3-ubyte.gz is not in .*--fiddler=laptop"
    ):
        train.build(fdl_configs.make("biohsic"))
    config = fdl_configs.make("biohsic", "laptop")
    assert train.build(config).data["train_inputs"].shape == (1500, 8, 8, 1)


# --- CIFAR-10 ---


def write_cifar(folder, num=7):
    """The folder of the archive, with `num` records in each file -> {name: (images, labels)}."""
    folder = folder / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    sets = {}
    for seed, name in enumerate([*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]):
        images = np.random.default_rng(seed).integers(0, 256, (num, 32, 32, 3)).astype(np.uint8)
        labels = (np.arange(num) + seed) % 10
        content = b"".join(
            bytes([label]) + b"".join(image[:, :, colour].tobytes() for colour in range(3))
            for image, label in zip(images, labels, strict=True)
        )
        (folder / name).write_bytes(content)
        sets[name] = images, labels
    return sets


@pytest.fixture
def seven_records(monkeypatch):
    monkeypatch.setattr(labelled, "_CIFAR_RECORDS", 7)


@pytest.mark.parametrize("packed", [True, False])
def test_cifar_files_are_read_as_they_were_written(tmp_path, seven_records, packed):
    sets = write_cifar(tmp_path)
    where = tmp_path
    if packed:
        where = tmp_path / "packed"
        where.mkdir()
        with tarfile.open(where / "cifar-10-binary.tar.gz", "w:gz") as tar:
            tar.add(tmp_path / "cifar-10-batches-bin", "cifar-10-batches-bin")
    got = labelled.cifar10(data_dir=str(where))
    assert got["train_inputs"].shape == (35, 32, 32, 3)
    third, labels = sets["data_batch_3.bin"]
    np.testing.assert_array_equal(got["train_inputs"][14:21], third)
    np.testing.assert_array_equal(got["train_targets"][14:21].argmax(axis=1), labels)
    np.testing.assert_array_equal(got["test_inputs"], sets["test_batch.bin"][0])


def test_bad_cifar_files_raise_one_sentence(tmp_path, seven_records):
    with pytest.raises(
        DataFileError, match=r"cifar-10-binary.tar.gz is not in .* the download failed"
    ):
        labelled.cifar10()
    write_cifar(tmp_path)
    batch = tmp_path / "cifar-10-batches-bin" / "data_batch_2.bin"
    batch.write_bytes(batch.read_bytes()[:-5])
    with pytest.raises(DataFileError, match=r"data_batch_2.bin is cut short or another file"):
        labelled.cifar10(data_dir=str(tmp_path))
    content = bytearray(7 * labelled._CIFAR_BYTES)
    content[3 * labelled._CIFAR_BYTES] = 12
    batch.write_bytes(content)
    with pytest.raises(DataFileError, match=r"data_batch_2.bin contains 12 as label 3, where"):
        labelled.cifar10(data_dir=str(tmp_path))
    batch.unlink()
    with pytest.raises(DataFileError, match=r"data_batch_2.bin is not in .*batches-bin"):
        labelled.cifar10(data_dir=str(tmp_path))
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "cifar-10-binary.tar.gz").write_bytes(b"not an archive")
    with pytest.raises(DataFileError, match=r"tar.gz is cut short, damaged or another"):
        labelled.cifar10(data_dir=str(bad))


# --- Points ---


def test_linear_points_lie_on_either_side_of_a_line():
    points = labelled.linear()
    x = np.concatenate([points["train_inputs"], points["test_inputs"]])
    y = np.concatenate([points["train_targets"], points["test_targets"]]).argmax(axis=1)
    assert x.shape == (1000, 2)
    assert len(points["train_inputs"]) == 900
    assert np.abs(x).max() <= 1
    angles = np.linspace(0, 2 * np.pi, 3601)
    directions = np.stack([np.cos(angles), np.sin(angles)])
    assert ((x @ directions > 0) == y[:, None]).all(axis=0).any()
    assert 0.4 < y.mean() < 0.6


def test_xor_points_lie_about_the_corners():
    points = labelled.xor()
    x, y = points["train_inputs"], points["train_targets"].argmax(axis=1)
    corner = np.round(x).clip(0, 1)
    np.testing.assert_array_equal(y, corner[:, 0] != corner[:, 1])
    np.testing.assert_allclose((x - corner).std(axis=0), 0.1, rtol=0.1)
    counts = np.unique(corner, axis=0, return_counts=True)[1]
    assert counts.min() > 180
    assert not np.array_equal(labelled.xor(seed=1)["train_inputs"], x)


def test_digits_are_bytes_in_an_order_that_stays():
    first, second = labelled.digits(), labelled.digits(num_train=1000)
    assert first["train_inputs"].dtype == np.uint8
    assert first["train_inputs"].max() == 255
    assert len(second["test_inputs"]) == 797
    np.testing.assert_array_equal(first["train_inputs"][:1000], second["train_inputs"])
    assert (first["test_targets"].sum(axis=0) > 15).all()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, 3], "from 0 to 2, but label 2 of the train set is 3"),
        ([0, -1, 1], "label 1 of the train set is -1"),
        ([0, 1], "the train set has 3 samples and 2 labels"),
        ([0, 0.5, 1], "label 1 of the train set is 0.5"),
    ],
)
def test_bad_labels_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        labelled.from_arrays(np.ones((3, 2)), np.array(labels), np.ones((1, 2)), [0], num_classes=3)


def test_samples_of_two_shapes_are_refused():
    with pytest.raises(ValueError, match=r"samples have the shape \(2,\), but test samples \(4,\)"):
        labelled.from_arrays(np.ones((1, 2)), [0], np.ones((1, 4)), [0], num_classes=2)
