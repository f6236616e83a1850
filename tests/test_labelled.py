"""Labelled data: made points, and files of the published formats, small ones made here."""

import gzip
import hashlib
import pathlib
import pickle
import struct
import tarfile

import numpy as np
import pytest

import fdl_configs
from hfjax.data import image_files, labelled
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

    monkeypatch.setattr(image_files.pooch, "retrieve", refuse)
    monkeypatch.setattr(image_files.pooch, "os_cache", lambda name: tmp_path / "cache" / name)
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


PLACES = {
    "dotted": lambda name: name.replace("-idx", ".idx"),
    "dotted_packed": lambda name: name.replace("-idx", ".idx") + ".gz",
    "kaggle": lambda name: f"{name}/{name}",
    "kaggle_dotted": lambda name: f"{name}/{name.replace('-idx', '.idx')}",
    "torchvision": lambda name: f"MNIST/raw/{name}",
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("packed", [True, False])
def test_files_are_read_where_and_as_people_have_them(tmp_path, place, packed):
    """Also a file that is packed without the ending, or has the ending without being packed."""
    sets = {"train": made(30, 0), "test": made(20, 1)}
    for which, arrays in sets.items():
        for kind, array in zip(("images", "labels"), arrays, strict=True):
            path = tmp_path / "files" / PLACES[place](NAMES[f"{which}_{kind}"])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(gzip.compress(idx(array)) if packed else idx(array))
    got = labelled.mnist(data_dir=str(tmp_path / "files"))
    np.testing.assert_array_equal(got["train_inputs"][..., 0], sets["train"][0])
    np.testing.assert_array_equal(got["test_targets"], np.eye(10)[sets["test"][1]])


def test_the_npz_of_keras_is_read(tmp_path):
    (images, labels), (more, their_labels) = made(30, 0), made(20, 1)
    write_mnist(tmp_path / "cache" / "hfjax" / "mnist")
    folder = tmp_path / "files"
    folder.mkdir()

    def write(**changes):
        # As https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz: all uint8.
        arrays = {"x_train": images, "y_train": labels, "x_test": more, "y_test": their_labels}
        arrays = {name: array.astype(np.uint8) for name, array in arrays.items()}
        np.savez(folder / "mnist.npz", **{**arrays, **changes})

    write(x_train=255 - images.astype(np.uint8))  # unlike the files in the cache
    got = labelled.mnist(data_dir=str(folder))
    np.testing.assert_array_equal(got["train_inputs"][..., 0], 255 - images)
    np.testing.assert_array_equal(got["test_targets"], np.eye(10)[their_labels])
    for changes, message in (
        ({"x_train": images / 255}, r"contains images float64 .*, not bytes of 28 x 28"),
        ({"y_train": np.eye(10)[labels]}, r"contains labels float64 \(30, 10\), not one for"),
        ({"y_train": labels[:5]}, "contains 5 labels for 30 images"),
        ({"x_train": np.array([None])}, "is not the mnist.npz of Keras .*Python objects"),
    ):
        write(**changes)
        with pytest.raises(DataFileError, match=message):
            labelled.mnist(data_dir=str(folder))


def test_a_gzip_that_unpacks_without_end_is_refused(tmp_path, monkeypatch):
    write_mnist(tmp_path / "files")
    monkeypatch.setattr(image_files, "_MOST_BYTES", 20_000)
    with pytest.raises(DataFileError, match="it unpacks to more than 20000 bytes"):
        labelled.mnist(data_dir=str(tmp_path / "files"))


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

    monkeypatch.setattr(image_files.pooch, "retrieve", retrieve)
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
    theirs = np.resize(image_files._FIRST_LABELS["mnist"]["t10k"], 20)
    path.write_bytes(gzip.compress(idx(theirs)) if packed else idx(theirs))
    labelled.mnist(data_dir=str(tmp_path / "files"))
    with pytest.raises(DataFileError, match=r"belongs to mnist, which has .* as fashion_mnist"):
        labelled.fashion_mnist(data_dir=str(tmp_path / "files"))


REAL = pathlib.Path(__file__).parents[2] / "shared" / "data" / "mnist"


@pytest.mark.skipif(not REAL.is_dir(), reason="the files of MNIST lie beside the repository or not")
def test_the_real_test_digits_of_mnist():
    got = labelled.mnist_10k(data_dir=str(REAL))
    with pytest.raises(DataFileError, match=r"belongs to mnist, which has .* as fashion"):
        image_files.mnist_like(str(REAL), "fashion_mnist", "t10k")
    counts = got["train_targets"].sum(axis=0) + got["test_targets"].sum(axis=0)
    # As published with the data set.
    np.testing.assert_array_equal(counts, [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009])
    assert got["train_inputs"].shape == (8500, 28, 28, 1)
    mean = np.concatenate([got["train_inputs"], got["test_inputs"]]).mean() / 255
    np.testing.assert_allclose(mean, 0.1325, atol=1e-4)
    for name, md5 in image_files._MNIST_MD5.items():
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
        (
            spoil(NAMES["test_labels"], lambda c: b"<html>"),
            "t10k-labels.* is not an IDX file of labels",
        ),
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

    monkeypatch.setattr(image_files.pooch, "retrieve", retrieve)
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


def python2_pickle(images, labels):
    """A batch of the version for Python, opcode by opcode as Python 2 wrote it.

    The opcodes are those of protocol 2 of cPickle: byte strings, and an array by _reconstruct.
    """

    def text(value):
        return b"U" + bytes([len(value)]) + value

    def of_array(array):
        values = array.tobytes()
        shape = b"".join(b"J" + struct.pack("<i", size) for size in array.shape)
        dtype = b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R"
        dtype += b"(K\x03" + text(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        made = (
            b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85"
            + text(b"b")
            + b"\x87R"
        )
        state = b"(K\x01" + shape + b"\x86" + dtype + b"\x89"
        return made + state + b"T" + struct.pack("<i", len(values)) + values + b"tb"

    rows = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    listed = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    names = b"](" + b"".join(text(b"leptodactylus_%d.png" % i) for i in labels) + b"e"
    entries = text(b"data") + of_array(rows) + text(b"labels") + listed
    entries += text(b"batch_label") + text(b"training batch 1 of 5") + text(b"filenames") + names
    return b"\x80\x02}(" + entries + b"u."


def write_python_cifar(folder, sets, dump=python2_pickle):
    folder.mkdir(parents=True, exist_ok=True)
    for name, (images, labels) in sets.items():
        (folder / name.removesuffix(".bin")).write_bytes(dump(images, labels))


def python3_pickle(images, labels):
    rows = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return pickle.dumps({b"data": rows, b"labels": labels.tolist()}, protocol=2)


@pytest.mark.parametrize("dump", [python2_pickle, python3_pickle])
def test_the_cifar_of_python_is_read(tmp_path, seven_records, dump):
    sets = write_cifar(tmp_path / "binary")
    expected = labelled.cifar10(data_dir=str(tmp_path / "binary"))
    write_python_cifar(tmp_path / "files" / "cifar-10-batches-py", sets, dump)
    packed = tmp_path / "packed"
    packed.mkdir()
    with tarfile.open(packed / "cifar-10-python.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "files" / "cifar-10-batches-py", "cifar-10-batches-py")
    for folder in (tmp_path / "files", tmp_path / "files" / "cifar-10-batches-py", packed):
        got = labelled.cifar10(data_dir=str(folder))
        for name, array in expected.items():
            np.testing.assert_array_equal(got[name], array)
    first = pickle.loads(python2_pickle(*sets["data_batch_1.bin"]), encoding="bytes")
    assert first[b"labels"] == sets["data_batch_1.bin"][1].tolist()  # it is a pickle


def test_data_dir_may_be_the_folder_of_the_batches(tmp_path, seven_records):
    write_cifar(tmp_path)
    expected = labelled.cifar10(data_dir=str(tmp_path))
    got = labelled.cifar10(data_dir=str(tmp_path / "cifar-10-batches-bin"))
    np.testing.assert_array_equal(got["train_inputs"], expected["train_inputs"])


class Trap:
    def __reduce__(self):
        return (exec, ("raise AssertionError('unpickled')",))


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (Trap(), r"asks for (__builtin__|builtins)\.exec"),
        ([1, 2], "no data of 7 images"),
        ({"data": np.zeros((7, 3072)), "labels": [0] * 7}, "no data of 7 images"),
        ({"data": np.zeros((7, 3072), np.uint8), "labels": [0] * 6}, "no list of 7 labels"),
        ({"data": np.zeros((7, 3072), np.uint8), "labels": [0.5] * 7}, "no list of 7 labels"),
        ({"data": np.zeros((7, 3072), np.uint8), "labels": [0, 12] + [0] * 5}, "12 as label 1"),
    ],
)
def test_a_pickle_of_something_else_is_refused(tmp_path, seven_records, batch, message):
    write_python_cifar(tmp_path, write_cifar(tmp_path / "binary"))
    (tmp_path / "data_batch_2").write_bytes(pickle.dumps(batch, protocol=2))
    with pytest.raises(DataFileError, match=rf"data_batch_2 .*{message}"):
        labelled.cifar10(data_dir=str(tmp_path))


@pytest.fixture
def seven_records(monkeypatch):
    monkeypatch.setattr(image_files, "_CIFAR_RECORDS", 7)


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
    content = bytearray(7 * image_files._CIFAR_BYTES)
    content[3 * image_files._CIFAR_BYTES] = 12
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
