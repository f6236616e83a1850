"""Decoders: worked by hand, against scikit-learn and the originals, and where they know nothing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from sklearn.gaussian_process import GaussianProcessRegressor, kernels

from hfjax import cells, decoders


def test_decoding_is_the_mean_of_the_best_centres():
    outputs = jnp.array([[[0.1, 0.5, 0.2, 0.4, 0.3]]])
    centres = jnp.array([[0.0, 0.0], [0.3, 0.1], [-0.4, 0.5], [1.0, -1.0], [-0.9, -0.2]])
    # Golden: `get_nearest_cell_pos` of the original gives (0.13333333, -0.36666667).
    decoded = decoders.decode_position(outputs, centres)
    np.testing.assert_allclose(decoded, [[[0.4 / 3, -1.1 / 3]]], atol=1e-6)
    best = decoders.decode_position(outputs, centres, top=1)
    np.testing.assert_allclose(best, [[[0.3, 0.1]]], atol=1e-6)
    tied = decoders.decode_position(jnp.zeros((1, 1, 5)), centres, top=2)
    np.testing.assert_allclose(tied, [[[0.15, 0.05]]], atol=1e-6)


def test_decoder_floor_of_the_published_code():
    # The sheet's floor: 4.18 cm from the true position through 512 cells and back.
    rng = np.random.default_rng(5)
    centres, positions = rng.uniform(-1.1, 1.1, (512, 2)), rng.uniform(-1.1, 1.1, (4000, 2))
    x, c = jnp.asarray(positions, jnp.float32), jnp.asarray(centres, jnp.float32)
    decoded = decoders.decode_position(cells.softmax_surround(x, c, sigma_m=0.12), c)
    error_cm = 100 * np.linalg.norm(decoded - positions, axis=-1).mean()
    assert 3.9 < error_cm < 4.5


def test_more_cells_than_there_are_cannot_be_averaged():
    with pytest.raises(ValueError, match="top must be between 1 and 4"):
        decoders.decode_position(jnp.zeros((2, 4)), jnp.zeros((4, 2)), top=5)


def test_angles_code_and_back():
    positions = jnp.array([[-0.7, 0.2], [0.99, -0.99]])
    code = cells.angles_code(positions, width_m=2.0)
    np.testing.assert_allclose(code[0, 0], np.cos(-0.7 * np.pi), rtol=1e-5)
    decoded = decoders.decode_angles(3.0 * code, width_m=2.0)
    np.testing.assert_allclose(decoded, positions, atol=1e-5)


def ring_of_rates(seed, num_samples):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-0.5, 0.5, (num_samples, 1))
    centres = (np.arange(20)[:, None] + 0.5) / 20 - 0.5
    rates = np.exp(-((np.mod(x - centres.T + 0.5, 1) - 0.5) ** 2) / (2 * 0.1**2))
    return x, rates + 0.01 * rng.normal(size=rates.shape)


def test_a_population_solves_one_ridge_regression_at_a_time():
    """A batch of LU decompositions waits for the thread pool: several at once wait for ever."""
    arrays = (jnp.ones((3, *shape)) for shape in ((20, 7), (20, 2), (5, 7)))
    program = jax.jit(jax.vmap(decoders.ridge_decoder)).lower(*arrays).as_text()
    factored = [line for line in program.splitlines() if "lapack_sgetrf_ffi" in line]
    assert factored
    assert all("tensor<7x7xf32>" in line and "tensor<3x" not in line for line in factored)


def test_ridge_decoder_equals_scikit_learns():
    from sklearn.linear_model import Ridge

    x, rates = ring_of_rates(0, 300)
    _, queries = ring_of_rates(1, 50)
    targets = np.concatenate([np.cos(2 * np.pi * x), np.sin(2 * np.pi * x)], axis=1)
    with jax.enable_x64(True):
        actual = decoders.ridge_decoder(*map(jnp.asarray, (rates, targets, queries)), alpha=0.1)
    expected = Ridge(alpha=0.1).fit(rates, targets).predict(queries)
    np.testing.assert_allclose(actual, expected, atol=1e-9)


def test_gaussian_process_decoder_equals_its_equation():
    x, rates = ring_of_rates(0, 300)
    y, queries = ring_of_rates(1, 50)
    targets = np.asarray(cells.angles_code(jnp.asarray(x), width_m=1.0), np.float32)

    def kernel(a, b):
        return np.exp(-np.sum((a[:, None] - b[None]) ** 2, axis=-1) / 2)

    arguments = [np.asarray(a, np.float32) for a in (rates, targets, queries)]
    actual = jax.jit(decoders.gaussian_process_decoder)(*arguments)
    X, Y, Q = (a.astype(np.float64) for a in arguments)
    expected = kernel(Q, X) @ np.linalg.solve(kernel(X, X) + 1e-10 * np.eye(300), Y)
    np.testing.assert_allclose(actual, expected, atol=1e-3)
    error = decoders.decode_angles(actual, width_m=1.0) - y
    assert np.abs(np.mod(error + 0.5, 1) - 0.5).mean() < 0.02
    many = jax.vmap(decoders.gaussian_process_decoder)(*(jnp.stack([a, a]) for a in arguments))
    np.testing.assert_allclose(many[1], actual, atol=1e-5)


def samples(num=300, seed=0):
    """Rates of place cells at random places of the left half of a box, and the places."""
    rng = np.random.default_rng(seed)
    centres = jnp.asarray(rng.uniform(size=(20, 2)), jnp.float32)
    positions = jnp.asarray(rng.uniform(size=(num, 2)) * (0.5, 1), jnp.float32)

    def code(positions):
        return cells.gaussian(jnp.asarray(positions, jnp.float32), centres, sigma_m=0.2)

    return code, positions


def test_gaussian_process_equals_scikit_learns():
    code, positions = samples()
    queries = code(np.random.default_rng(1).uniform(size=(40, 2)))
    actual = jax.jit(decoders.gaussian_process)(code(positions), positions, queries)
    m = np.asarray(positions, float).mean(axis=0)
    s = (np.asarray(positions, float) - m).std()
    model = GaussianProcessRegressor(
        kernels.ConstantKernel(s**2) * kernels.RBF(1.0), alpha=(0.03 * s) ** 2, optimizer=None
    ).fit(np.asarray(code(positions), float), np.asarray(positions, float) - m)
    mean, std = model.predict(np.asarray(queries, float), return_std=True)
    np.testing.assert_allclose(actual.mean, mean + m, atol=2e-4)
    np.testing.assert_allclose(actual.std, std[:, 0], rtol=2e-2, atol=2e-4)


def test_both_know_where_they_were_and_that_they_were_not_elsewhere():
    code, positions = samples(1000)
    rng = np.random.default_rng(2)
    seen, unseen = rng.uniform(size=(2, 50, 2)) * (0.5, 1) + np.array([[[0.0, 0]], [[0.5, 0]]])
    queries = code(np.concatenate([seen, unseen]))
    for decoded in (
        decoders.gaussian_process(code(positions), positions, queries),
        jax.jit(lambda rates, key: decoders.network_ensemble(rates, positions, key)(queries))(
            code(positions), jax.random.key(0)
        ),
    ):
        distance = np.linalg.norm(decoded.mean[:50] - seen, axis=1)
        assert np.median(distance) < 0.01
        std = np.asarray(decoded.std).reshape(100, -1).max(axis=1)
        assert np.median(std[50:]) > 3 * np.median(std[:50])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_networks": 1}, "num_networks must be at least 2"),
        ({"num_steps": 0}, "num_steps must be at least 1"),
    ],
)
def test_impossible_ensembles_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        decoders.network_ensemble(
            jnp.zeros((3, 2)), jnp.zeros((3, 1)), jax.random.key(0), **settings
        )


def test_an_impossible_process_is_refused():
    with pytest.raises(ValueError, match="length must be positive"):
        decoders.gaussian_process(
            jnp.zeros((3, 2)), jnp.zeros((3, 1)), jnp.zeros((1, 2)), length=0.0
        )


def test_the_bayesian_decoder_finds_the_most_probable_bin():
    """Against Bayes' rule in float64 NumPy, with counts of simulated place cells."""
    rng = np.random.default_rng(0)
    centres = rng.uniform(0, 1, (20, 2))
    places = rng.uniform(0, 1, (4000, 2))
    rates = 4 * np.exp(-((places[:, None] - centres) ** 2).sum(-1) / (2 * 0.15**2))
    counts = rng.poisson(rates).astype(float)
    decode = functools.partial(decoders.bayesian_decoder, num_bins=10, sigma_bins=0.7)
    got = np.asarray(
        decode(
            *(jnp.asarray(a, jnp.float32) for a in (counts[:3500], places[:3500], counts[3500:]))
        )
    )
    low, high = places[:3500].min(axis=0), places[:3500].max(axis=0)
    width = (high - low) / 10
    edges = [np.linspace(low[i], high[i], 11) for i in (0, 1)]

    def smooth(weights):
        sums = np.histogram2d(*places[:3500].T, bins=edges, weights=weights)[0]
        return scipy.ndimage.gaussian_filter(sums, 0.7, mode="constant", truncate=9)

    time = smooth(np.ones(3500))
    mean = np.stack([np.maximum(smooth(n) / time, 1e-3) for n in counts[:3500].T])
    log_p = np.einsum("qc,cxy->qxy", counts[3500:], np.log(mean)) - mean.sum(0) + np.log(time)
    best = np.stack(np.unravel_index(log_p.reshape(500, -1).argmax(1), (10, 10)), 1)
    same = np.linalg.norm(got - (low + (best + 0.5) * width), axis=1) < 1e-5
    assert same.mean() > 0.99  # roundings decide between bins that are as probable
    assert np.linalg.norm(got - places[3500:], axis=1).mean() < 0.1


def test_the_bayesian_decoder_never_answers_with_a_bin_that_was_not_visited():
    places = jnp.array([[0.0, 0.0], [0.1, 0.0], [1.0, 1.0]])
    counts = jnp.array([[5.0], [5.0], [0.0]])
    got = decoders.bayesian_decoder(counts, places, jnp.array([[9.0], [0.0]]), num_bins=4)
    np.testing.assert_allclose(got, [[0.125, 0.125], [0.875, 0.875]], atol=1e-6)
    with pytest.raises(ValueError, match="num_bins must be at least 1"):
        decoders.bayesian_decoder(counts, places, counts, num_bins=0)


@pytest.mark.parametrize(
    ("width", "expected"), [(1, [1, 0, 2, 4]), (2, [1, 1, 2, 6]), (9, [7] * 4)]
)
def test_counts_in_windows(width, expected):
    counts = np.array([[1, 10], [0, 0], [2, 20], [4, 40]])
    sums = decoders.windowed(counts, width)  # an even window has one sample more before than after
    np.testing.assert_array_equal(sums, np.array(expected)[:, None] * [1, 10])
    with pytest.raises(ValueError, match="width must be at least 1"):
        decoders.windowed(counts, 0)
