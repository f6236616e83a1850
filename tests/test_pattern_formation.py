"""Pattern formation against a NumPy float64 reference, hand-worked numbers and invariants."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hfjax import cells
from hfjax.models import pattern_formation as pf
from hfjax.networks import relu, tanh
from tests.contract import check_figures

BINS, WIDTH = 15, 2.2


def reference_convolve(maps, covariance):
    """Direct sum over cyclic shifts: (Sigma * g)(x) = sum_s Sigma(s) g(x - s)."""
    out = np.zeros_like(maps)
    for i in range(BINS):
        for j in range(BINS):
            out += covariance[i, j] * np.roll(maps, (i, j), axis=(1, 2))
    return out


def reference_covariance(place_cells):
    """sum_x sum_i p_i(x) p_i(x + s) for every cyclic shift s, by shifting, less its mean."""
    covariance = np.zeros((BINS, BINS))
    for i in range(BINS):
        for j in range(BINS):
            shifted = np.roll(place_cells, (-i, -j), axis=(0, 1))
            covariance[i, j] = np.sum(place_cells * shifted)
    return covariance - covariance.mean()


def reference_run(maps, covariance, phi, lr, iterations, *, compete):
    for _ in range(iterations):
        h = reference_convolve(maps, covariance)
        if compete:
            new = maps.copy()
            for i in range(len(maps)):
                deflated = h[i] - sum(np.sum(h[i] * maps[j]) * maps[j] for j in range(i + 1))
                new[i] += lr * (deflated + phi(maps[i]))
            maps = new
        else:
            maps = phi(maps + lr * (-maps + h))
    return maps


def run(maps, spectrum, update, iterations, *, learning_rate, nonlinearity):
    optimizer = optax.sgd(learning_rate)
    update = functools.partial(update, optimizer=optimizer, nonlinearity=nonlinearity)

    @jax.jit
    def iterate(maps):
        start = maps, optimizer.init(maps)
        return jax.lax.fori_loop(0, iterations, lambda _, state: update(*state, spectrum), start)

    return np.asarray(iterate(maps)[0])


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def place_setting(float64):
    """White-noise maps, the spectrum in use and the covariance by direct shifting."""
    key = jax.random.key(3)
    spectrum = pf.place_code_spectrum(key, num_bins=BINS, width_m=WIDTH, num_place=40)
    centres = cells.place_centres(key, num_place=40, width_m=WIDTH)
    positions = pf.bin_centres(num_bins=BINS, width_m=WIDTH)
    place_cells = np.asarray(cells.softmax_surround(positions, centres, sigma_m=0.12))
    maps = np.random.default_rng(0).normal(size=(5, BINS, BINS))
    return maps, spectrum, reference_covariance(place_cells)


def test_a_path_meets_the_maps_where_it_goes():
    task = pf.task(num_maps=3, num_bins=BINS, width_m=WIDTH)
    state = task.init(jax.random.key(0), ())
    maps = np.asarray(pf.unit_peak(state.maps))
    x = pf.bin_centres(num_bins=BINS, width_m=WIDTH)
    path = jnp.stack([x[2, 5], x[0, 14], (x[3, 4] + x[4, 4]) / 2, (x[7, 7] + 3 * x[7, 8]) / 4])
    expected = [
        maps[:, 2, 5],
        maps[:, 0, 14],
        (maps[:, 3, 4] + maps[:, 4, 4]) / 2,
        (maps[:, 7, 7] + 3 * maps[:, 7, 8]) / 4,
    ]
    np.testing.assert_allclose(jax.jit(task.apply)(state, path), expected, atol=1e-5)


def test_spectrum_is_the_transform_of_the_covariance_averaged_over_shifts(place_setting):
    _, spectrum, covariance = place_setting
    np.testing.assert_allclose(spectrum, np.fft.fft2(covariance).real, atol=1e-10)
    assert spectrum[0, 0] == 0


def test_gaussian_spectrum_keeps_its_zero_mode(float64):
    spectrum = pf.gaussian_spectrum(jax.random.key(0), num_bins=55, width_m=WIDTH, sigma_m=0.12)
    # A Gaussian sampled every 2.2/54 m sums to 2 pi sigma^2 / dx^2; at the mode of one cycle per
    # period, 2.2 * 55/54 m, it is that times exp(-2 pi^2 sigma^2 k^2).
    total = 2 * np.pi * 0.12**2 / (2.2 / 54) ** 2
    k = 54 / (55 * 2.2)
    np.testing.assert_allclose(spectrum[0, 0], total, rtol=1e-10)
    np.testing.assert_allclose(
        spectrum[1, 0], total * np.exp(-2 * np.pi**2 * 0.12**2 * k**2), rtol=1e-10
    )


def test_single_map_tanh_equals_numpy(place_setting):
    maps, spectrum, covariance = place_setting
    settings = {"learning_rate": 0.02, "nonlinearity": tanh}
    got = run(jnp.asarray(maps), spectrum, pf.independent_maps, 20, **settings)
    expected = reference_run(maps, covariance, np.tanh, 0.02, 20, compete=False)
    assert np.abs(expected).max() > 0.2  # the nonlinearity is at work
    np.testing.assert_allclose(got, expected, atol=1e-10)


def test_single_map_relu_equals_numpy_up_to_scale(place_setting):
    maps, spectrum, covariance = place_setting
    settings = {"learning_rate": 0.5, "nonlinearity": relu}
    got = run(jnp.asarray(maps), spectrum, pf.independent_unit_maps, 20, **settings)
    expected = reference_run(maps, covariance, lambda x: np.maximum(x, 0), 0.5, 20, compete=False)
    peak = expected.max(axis=(1, 2), keepdims=True)
    assert peak.min() > 1e6  # it diverges without the division
    np.testing.assert_allclose(got, expected / peak, atol=1e-10)


@pytest.mark.parametrize(
    ("phi", "reference"),
    [(tanh, np.tanh), (pf.steep_relu, lambda x: 30 * np.maximum(x, 0))],
)
def test_competing_maps_equal_numpy(float64, phi, reference):
    spectrum = pf.gaussian_spectrum(jax.random.key(0), num_bins=BINS, width_m=WIDTH, sigma_m=0.3)
    covariance = np.fft.ifft2(np.asarray(spectrum)).real
    maps = 0.05 * np.random.default_rng(1).normal(size=(6, BINS, BINS))
    settings = {"learning_rate": 8e-3, "nonlinearity": phi}
    got = run(jnp.asarray(maps), spectrum, pf.competing_maps, 40, **settings)
    expected = reference_run(maps, covariance, reference, 8e-3, 40, compete=True)
    np.testing.assert_allclose(got, expected, atol=1e-10)


def test_competing_linear_maps_become_the_top_eigenvectors(float64):
    """Without its nonlinear term the rule is Sanger's: orthonormal maps in eigenvalue order."""
    spectrum = pf.gaussian_spectrum(jax.random.key(0), num_bins=BINS, width_m=WIDTH, sigma_m=0.4)
    maps = 1e-3 * jax.random.normal(jax.random.key(1), (5, BINS, BINS))
    settings = {"learning_rate": 0.02, "nonlinearity": jnp.zeros_like}
    got = run(maps, spectrum, pf.competing_maps, 1500, **settings)
    gram = np.einsum("ixy,jxy->ij", got, got)
    np.testing.assert_allclose(gram, np.eye(5), atol=1e-3)
    eigenvalues = np.einsum("ixy,ixy->i", got, np.asarray(pf.convolve(jnp.asarray(got), spectrum)))
    np.testing.assert_allclose(eigenvalues, np.sort(np.ravel(spectrum))[::-1][:5], rtol=1e-3)


def plane_waves(wave_numbers, phase=0.0):
    """Sum of cosines with integer wave numbers [(x, y), ...] on 55 bins."""
    x, y = np.meshgrid(np.arange(55), np.arange(55), indexing="ij")
    return sum(np.cos(2 * np.pi * (a * x + b * y) / 55 + phase) for a, b in wave_numbers)


def test_scale_and_orientation_of_plane_waves():
    # The period of the box of 55 bins is 2.2 * 55/54 m. 4 cycles in it along x: spacing
    # 2/sqrt(3) of the wavelength, fields 30 degrees off the wave; 3 along both axes: 45 + 30.
    # A uniform map has no wave.
    waves = [plane_waves([(4, 0)]) + 3, plane_waves([(3, 3)]), np.ones((55, 55))]
    maps = jnp.asarray(waves, jnp.float32)
    spacing_m, orientation_deg = pf.scale_and_orientation(maps, width_m=2.2)
    period = 2.2 * 55 / 54
    expected = [*(2 / np.sqrt(3) * period / np.array([4, np.sqrt(18)])), -np.inf]  # missing
    np.testing.assert_allclose(spacing_m, expected, rtol=1e-5)
    np.testing.assert_allclose(orientation_deg, [30, 15, -np.inf], atol=1e-3)


def test_objective_is_one_for_the_top_mode_and_the_mean_over_modes_else():
    spectrum = np.zeros((55, 55), np.float32)
    spectrum[4, 0] = spectrum[-4, 0] = 8
    spectrum[0, 2] = spectrum[0, -2] = 2
    maps = jnp.asarray([plane_waves([(4, 0)]), plane_waves([(4, 0), (0, 2)])], jnp.float32)
    got = pf.objective(maps, jnp.asarray(spectrum))
    np.testing.assert_allclose(got, [1, (8 + 2) / 2 / 8], rtol=1e-5)


def test_unit_peak_keeps_signs_and_zeros():
    maps = jnp.asarray([[[1.0, -4.0]], [[0.0, 0.0]], [[1e-30, 0.0]]])
    np.testing.assert_allclose(pf.unit_peak(maps), [[[0.25, -1]], [[0, 0]], [[1, 0]]])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_maps": 0}, "num_maps must be at least 1, but is 0"),
        ({"iterations_per_step": 0}, "iterations_per_step must be at least 1"),
        ({"num_bins": 3}, "num_bins must be at least 10"),
        ({"width_m": -1.0}, "width_m must be positive, but is -1.0"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        pf.task(**settings)


def test_dividing_maps_by_their_peak_needs_a_homogeneous_nonlinearity():
    task = pf.task(nonlinearity=tanh)
    with pytest.raises(ValueError, match="independent_unit_maps needs a nonlinearity"):
        jax.eval_shape(task.init, jax.random.key(0), ())
    task = pf.task(nonlinearity=tanh, update=pf.independent_maps)
    jax.eval_shape(task.init, jax.random.key(0), ())


def test_even_gaussian_box_is_refused():
    with pytest.raises(ValueError, match="num_bins must be odd"):
        pf.gaussian_spectrum(jax.random.key(0), num_bins=20, width_m=2.2)


def train_from_start(task, keys):
    def step(state, key):
        return task.step(state, (), key)

    return jax.lax.scan(step, task.init(keys[0], ()), keys)


@pytest.fixture(scope="module")
def evaluations():
    """{name: (scalars of all steps, scalars, readout)} of the published single-map runs."""
    tasks = {
        "relu": pf.task(num_noise_maps=64),
        "tanh": pf.task(
            num_noise_maps=64,
            update=pf.independent_maps,
            nonlinearity=tanh,
            optimizer=optax.sgd(1e-4),
        ),
    }
    evaluate = jax.jit(tasks["relu"].evaluate)  # the same for both
    results = {}
    for name, task in tasks.items():
        keys = jax.random.split(jax.random.key(0), 100)
        state, scalars = jax.jit(functools.partial(train_from_start, task))(keys)
        results[name] = (scalars, *evaluate(state, (), jax.random.key(1)))
    return results


def test_relu_gives_hexagons_on_the_ring_and_tanh_does_not(evaluations):
    """The paper's claim on a full-size box: breaking g -> -g turns mixtures into grids."""
    steps, scalars, readout = evaluations["relu"]
    assert steps["change"][-1] < 0.05
    assert scalars["grid_share_above_0.37"] > 0.7
    assert scalars["grid_share_above_0.37"] > 2 * scalars["noise_share_above_0.37"]
    assert evaluations["tanh"][1]["grid_share_above_0.37"] < 0.5
    k = np.linalg.norm(readout["wave_vectors"], axis=-1)
    top = k.flat[np.argmax(readout["spectrum"])]
    strongest = 2 / (np.sqrt(3) * np.asarray(readout["spacing_m"]))
    np.testing.assert_allclose(strongest, top, rtol=0.25)


def test_figures_are_drawn_from_the_readout(evaluations):
    readout = jax.tree.map(np.array, evaluations["relu"][2])
    readout["rate_maps"][0], readout["spacing_m"][0], readout["orientation_deg"][0] = (
        1,
        np.nan,
        np.nan,
    )
    before = {name: value.copy() for name, value in readout.items()}
    figures = pf.draw(readout)
    assert set(figures) == {"maps", "spectra", "covariance", "grid_scores", "scales"}
    check_figures(figures)
    for name, value in before.items():
        np.testing.assert_array_equal(readout[name], value)
