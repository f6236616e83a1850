"""Foreign files against the promise of the loaders: one sentence, or data as documented.

Files are cut, overwritten, empty, of other types and shapes. Small here; more examples by
`pytest --hypothesis-profile=large tests/test_fuzz_data.py`.
"""

import functools
import gzip
import io
import pathlib
import pickle
import tempfile

import numpy as np
import pytest
import scipy.io
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hfjax import files
from hfjax.data import labelled, pickles, policies, recordings, transitions
from hfjax.errors import DataFileError

DTYPES = st.sampled_from(["f8", "f4", ">f8", "f2", "i8", "u1", "?", "c16", "U3", "M8[s]", "O"])
LARGE = [0.0, -1.0, np.nan, np.inf, -np.inf, 1e308, -1e308, 5e-324]
SOME = st.integers(0, 30)


@st.composite
def arrays(draw, shape):
    """An array of any type: regular numbers with some extreme ones among them."""
    count = int(np.prod(shape))
    values = 0.1 * np.arange(count) if draw(st.booleans()) else np.sin(np.arange(count))
    for _ in range(draw(st.integers(0, 2)) if count else 0):
        values[draw(st.integers(0, count - 1))] = draw(st.sampled_from(LARGE))
    dtype = draw(st.just("f8") | DTYPES)
    with np.errstate(all="ignore"):
        return (
            np.nan_to_num(values, nan=0, posinf=9, neginf=-9)
            .clip(-9, 9)
            .astype(dtype)
            .reshape(shape)
            if dtype in ("i8", "u1", "M8[s]")
            else values.astype(dtype).reshape(shape)
        )


@st.composite
def spoiled(draw, content):
    """Bytes as they are, cut, or with some of them overwritten."""
    content = bytearray(content)
    if content and draw(st.booleans()):
        for _ in range(draw(st.integers(1, 4))):
            content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    return bytes(content[: draw(st.just(len(content)) | st.integers(0, len(content)))])


def one_sentence(read, file="", errors=(ValueError, DataFileError)):
    """What read() returns, or None where it raises one sentence that names the file."""
    try:
        return read()
    except errors as error:
        message = str(error)
        assert "\n" not in message
        assert len(message) < 1000
        assert str(file) in message or message.startswith(
            ("num_steps", "dt_s", "max_gap_s", "width_m", "lost", "time_unit_s", "position_unit_m")
        ), message


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory() as path:
        yield pathlib.Path(path)


@st.composite
def recording(draw):
    """Name and content of a file of times and positions, in one of the forms."""
    count = draw(SOME)
    times = draw(arrays((draw(st.just(count) | SOME),)))
    positions = draw(arrays((count, draw(st.sampled_from([2, 2, 2, 0, 1, 3])))))
    named = {"t": times, draw(st.sampled_from(["pos", "d", "x"])): positions}
    if draw(st.booleans()):
        named["columns"] = draw(st.sampled_from([np.array(["x", "y"], object), np.arange(2)]))
    form = draw(st.sampled_from([".npz", ".csv", ".mat"]))
    buffer = io.BytesIO()
    if form == ".npz":
        np.savez(buffer, **named)
    elif form == ".mat":
        keep = {n: a for n, a in named.items() if a.dtype.kind in "fiu" and a.dtype != "f2"}
        scipy.io.savemat(buffer, keep)
    else:
        rows = [",".join(map(str, row)) for row in positions.tolist()]
        lines = [f"{t},{row}" for t, row in zip(times.tolist(), rows, strict=False)]
        buffer.write("\n".join([*draw(st.sampled_from([[], ["t,x,y"]])), *lines]).encode())
    return form, draw(spoiled(buffer.getvalue()))


SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "width_m": st.sampled_from([1.0, 1e-300, 1e300, 0.0, np.nan]),
        "dt_s": st.sampled_from([0.1, 1e-300, 1e300, -1.0, np.inf]),
        "max_gap_s": st.sampled_from([0.5, 1e-300, 1e300, np.nan]),
        "time_unit_s": st.sampled_from([1.0, 1e-3, 1e-300, 1e300, 0.0]),
        "position_unit_m": st.sampled_from([1.0, 0.01, 1e-300, 1e300]),
        "columns": st.sampled_from([("x", "y"), (0, 1), ("d.0", "d.1"), (0,), "xy", (5, -1)]),
        "time": st.sampled_from(["t", 0, "nope", "pos.0", -3]),
        "lost": st.sampled_from([0, [], [-1, 9], "x", np.nan]),
        "drop_repeated_times": st.booleans(),
    },
)


@given(recording(), SETTINGS)
def test_a_recording_gives_finite_positions_in_its_arena_or_one_sentence(folder, file, settings):
    form, content = file
    path = folder / f"rat{form}"
    path.write_bytes(content)
    settings = {"num_steps": 3, "dt_s": 0.1, **settings}
    made = one_sentence(functools.partial(recordings.trajectory, path=str(path), **settings), path)
    if made is not None:
        pieces = made["rat_positions"]
        assert pieces.shape[1:] == (4, 2)
        assert np.abs(pieces).max() <= 0.5501


@functools.cache
def data_set():
    buffer = io.BytesIO()
    policy = policies.to_arrays(policies.load("pendulum"))
    of_policy = {f"policy/{name}": array[..., :3] for name, array in policy.items()}
    np.savez(buffer, recipe='{"maker": "pendulum"}', states=np.zeros((9, 3)), **of_policy)
    return buffer.getvalue()


@given(st.data())
def test_a_data_set_or_a_policy_is_read_or_refused_in_one_sentence(folder, data):
    path = folder / "set.npz"
    if data.draw(st.booleans()):
        path.write_bytes(data.draw(spoiled(data_set())))
    else:
        recipe = data.draw(st.sampled_from(["{}", "3", "[", "null", '{"maker": 1}']))
        names = st.sampled_from(["low", "high", "mean/kernel", "mean/bias", "policy/low", "states"])
        np.savez(path, recipe=recipe, **data.draw(st.dictionaries(names, arrays((2,)), max_size=5)))
    read = functools.partial(transitions.saved_or_made, path=str(path), maker=transitions.pendulum)
    one_sentence(read, path)
    one_sentence(functools.partial(policies.load, str(path)), path, ValueError)


@functools.cache
def packed_digits():
    rng = np.random.default_rng(0)
    images = bytes((0, 0, 8, 3)) + np.array([9, 28, 28], ">u4").tobytes() + rng.bytes(9 * 784)
    labels = bytes((0, 0, 8, 1)) + np.array([9], ">u4").tobytes() + bytes(range(9))
    return images, labels


@given(st.data())
def test_digits_are_read_or_refused_in_one_sentence(folder, data):
    for kind, content in zip(("images-idx3", "labels-idx1"), packed_digits(), strict=True):
        packed = gzip.compress(content) if data.draw(st.booleans()) else content
        (folder / f"t10k-{kind}-ubyte").write_bytes(data.draw(spoiled(packed)))
    read = functools.partial(labelled.mnist_10k, data_dir=str(folder), num_train=5)
    made = one_sentence(read, folder)
    assert made is None or len(made["train_inputs"]) == 5


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.data(), PLAIN, st.integers(3, 4))
def test_plain_pickles_are_read_as_pickle_reads_them_and_others_refused(data, value, protocol):
    content = pickle.dumps(value, protocol=protocol)
    assert pickles.plain(content) == value
    with_array = pickle.dumps(
        {"data": np.arange(6, dtype="u1").reshape(2, 3), "v": value}, protocol
    )
    assert pickles.plain(with_array)["data"].tolist() == [[0, 1, 2], [3, 4, 5]]
    for spoilt in (data.draw(spoiled(with_array)), data.draw(st.binary())):
        one_sentence(functools.partial(pickles.plain, spoilt))


@given(st.data())
def test_labels_are_checked_before_they_are_counted(data):
    shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
    sets = [data.draw(arrays(data.draw(shapes))) for _ in range(4)]
    num_classes = data.draw(st.integers(-1, 5))
    made = one_sentence(functools.partial(labelled.from_arrays, *sets, num_classes=num_classes))
    if made is not None:
        assert made["train_targets"].sum() == len(made["train_inputs"])


@given(st.data())
def test_a_series_is_written_and_read_again_or_refused(folder, data):
    times, values = data.draw(arrays((data.draw(SOME),))), data.draw(arrays((data.draw(SOME), 2)))
    path = folder / "series.npz"
    path.unlink(missing_ok=True)
    one_sentence(lambda: recordings.save_series(path, times, values, columns=("x", "y")))
    if path.exists():
        np.testing.assert_array_equal(files.read_npz(path)["d"], values)
