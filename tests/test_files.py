"""Reading npz files that others wrote, damaged ones among them."""

import ast
import pathlib
import pickle
import re
import struct
import zipfile

import numpy as np
import pytest

from hfjax import files


class Trap:
    """Raises when unpickled."""

    def __reduce__(self):
        return (exec, ("raise AssertionError('unpickled')",))


def test_only_the_named_arrays_are_read_and_nothing_is_unpickled(tmp_path):
    path = tmp_path / "some.npz"
    arrays = {
        "f": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "empty": np.zeros((0, 2)),
        "scalar": np.array("text"),
        "big_endian": np.arange(3, dtype=">i2"),
    }
    np.savez_compressed(path, trap=np.array([Trap()], object), **arrays)
    assert files.npz_names(path) == ["trap", *arrays]
    for name, array in files.read_npz(path, arrays).items():
        np.testing.assert_array_equal(array, arrays[name])
        assert array.dtype == arrays[name].dtype
        assert array.flags.writeable
    with pytest.raises(ValueError, match="array 'trap' holds Python objects"):
        files.read_npz(path)
    with pytest.raises(AssertionError, match="unpickled"):  # the trap works
        pickle.loads(pickle.dumps(Trap()))
    with pytest.raises(ValueError, match="it has no array 'missing'"):
        files.read_npz(path, ["missing"])


def npy(shape, values, version=1):
    """An array of float64 whose header may lie."""
    header = str({"descr": "<f8", "fortran_order": False, "shape": shape}).encode() + b"\n"
    size = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes((version, 0)) + size + header + values


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy((10**13,), b"12345678"), "array 'a' has 8 bytes, not those of its header"),
        (npy((-1,), b""), "array 'a' has 0 bytes, not those of its header"),
        (npy((1,), b""), "array 'a' has 0 bytes, not those of its header"),
        (npy((1,), b"12345678", version=3), "version (3, 0) of the npy format"),
        (b"no array", "magic string is not correct"),
        (npy("(" * 3000, b""), "shape is not valid: '((("),
    ],
)
def test_a_header_that_lies_is_refused_without_memory_for_what_it_claims(
    tmp_path, content, message
):
    with zipfile.ZipFile(tmp_path / "lies.npz", "w") as archive:
        archive.writestr("a.npy", content)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        files.read_npz(tmp_path / "lies.npz")
    assert len(str(caught.value)) <= 200


def test_other_compressions_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.npy", bytes(1_000_000))
    with pytest.raises(ValueError, match="packed in another way"):
        files.read_npz(tmp_path / "bomb.npz")


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        files.read_npz(tmp_path / "none.npz")


def test_nothing_is_ever_unpickled():
    """No module imports a reader that executes what a file says. submitit has its own job files."""
    readers = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "torch"}
    root = pathlib.Path(__file__).parent.parent
    sources = [p for f in ("hfjax", "fdl_configs", "experiments") for p in (root / f).rglob("*.py")]
    assert len(sources) > 50
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in getattr(node, "names", []) if hasattr(alias, "name")]
            names += [getattr(node, "module", None) or ""]
            assert not readers & {name.partition(".")[0] for name in names}, path
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert isinstance(node.value, ast.Constant)
                assert node.value.value is False
