import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special
from scipy.spatial.distance import cdist

from hfjax import cells

CODES = (
    cells.softmax_gaussian,
    cells.softmax_surround,
    cells.gaussian,
    cells.difference_of_gaussians,
)
# Centres and positions of the golden numbers, in the published box.
CENTRES = np.array(
    [[0.0, 0.0], [0.3, 0.1], [-0.1, 0.2], [0.2, -0.25], [-0.9, -0.2], [1.0, -1.0], [-1.05, -0.9]]
)
POSITIONS = np.array([[0.05, -0.02], [1.05, -0.95]])


def reference(code, d_sq, sigma):
    """The codes written from the equations, with the extra digits that their differences cost."""
    d_sq = d_sq.astype(np.longdouble)
    if code is cells.gaussian:
        return np.exp(-d_sq / (2 * sigma**2))
    if code is cells.difference_of_gaussians:
        return np.exp(-d_sq / (2 * sigma**2)) - 0.5 * np.exp(-d_sq / (2 * 2 * sigma**2))
    centre = special.softmax(-d_sq / (2 * sigma**2), axis=-1)
    if code is cells.softmax_gaussian:
        return centre
    q = centre - special.softmax(-d_sq / (2 * 2 * sigma**2), axis=-1)
    q += np.abs(q.min(axis=-1, keepdims=True))
    return q / q.sum(axis=-1, keepdims=True)


def box(seed, count, width_m=2.2):
    return np.random.default_rng(seed).uniform(-width_m / 2, width_m / 2, (count, 2))


def test_centres_fill_the_box():
    centres = cells.place_centres(jax.random.key(0), num_place=4000, width_m=3.0)
    assert centres.shape == (4000, 2)
    assert np.abs(centres).max() <= 1.5
    np.testing.assert_allclose(np.mean(centres, axis=0), 0, atol=0.05)
    np.testing.assert_allclose(np.std(centres, axis=0), 3 / np.sqrt(12), rtol=0.02)
    assert abs(np.corrcoef(centres.T)[0, 1]) < 0.05


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("sigma", [0.05, 0.12, 1.0])
def test_codes_equal_their_equations(code, sigma):
    positions, centres = box(0, 300), box(1, 512)
    expected = reference(code, cdist(positions, centres, "sqeuclidean"), sigma)
    p = jax.jit(lambda x, c: code(x, c, sigma_m=sigma))(
        jnp.asarray(positions.reshape(3, 100, 2), jnp.float32), jnp.asarray(centres, jnp.float32)
    )
    assert p.shape == (3, 100, 512)
    assert p.dtype == jnp.float32
    np.testing.assert_allclose(p.reshape(300, 512), expected, atol=1e-5)
    with jax.enable_x64(True):
        p = code(jnp.asarray(positions), jnp.asarray(centres), sigma_m=sigma)
        assert p.dtype == jnp.float64
        np.testing.assert_allclose(p, expected, atol=1e-12)


# Golden: `PlaceCells.get_activation` of grid-pattern-formation (torch 2.13, float32, sigma 0.25,
# surround 2, box 2.2 m) with `us` set to CENTRES, at POSITIONS; DoG and periodic as named.
GOLDEN = {
    ("gaussian", "walls"): [
        [0.37117893, 0.20534350, 0.21544039, 0.20782246, 0.00021453, 0.00000013, 0.00000005],
        [0.00000011, 0.00000171, 0.00000000, 0.00006378, 0.00000000, 0.99993443, 0.00000000],
    ],
    ("gaussian", "periodic"): [
        [0.37117893, 0.20534350, 0.21544039, 0.20782246, 0.00021453, 0.00000013, 0.00000005],
        [0.00000006, 0.00000088, 0.00000001, 0.00003273, 0.00359851, 0.51312500, 0.48324281],
    ],
    ("surround", "walls"): [
        [0.58276510, 0.00000000, 0.03048108, 0.00740168, 0.09555916, 0.14166771, 0.14212534],
        [0.13680980, 0.11931894, 0.14238940, 0.00000000, 0.14285655, 0.31576866, 0.14285664],
    ],
    ("surround", "periodic"): [
        [0.58276510, 0.00000000, 0.03048108, 0.00740168, 0.09555916, 0.14166771, 0.14212534],
        [0.14222941, 0.14041388, 0.14257503, 0.12803350, 0.00000000, 0.25343832, 0.19330992],
    ],
}


@pytest.mark.parametrize(("shape", "arena"), GOLDEN)
def test_codes_equal_the_originals(shape, arena):
    code = {"gaussian": cells.softmax_gaussian, "surround": cells.softmax_surround}[shape]
    distance_sq = {"walls": cells.euclidean_sq, "periodic": cells.periodic_sq(2.2)}[arena]
    p = code(jnp.asarray(POSITIONS), jnp.asarray(CENTRES), sigma_m=0.25, distance_sq=distance_sq)
    np.testing.assert_allclose(p, GOLDEN[shape, arena], atol=2e-6)


def test_surround_where_one_cell_is_much_nearer_than_all_others():
    # To first order in the small r of the second cell: q = (r, -r, 0, 0, 0), so p = (2, 0, 1, 1, 1)
    # / 5, where a plain difference of float32 softmaxes is 0 everywhere.
    centres = jnp.array([[1.0, -1.0], [0.5, -0.8], [-0.4, 0.5], [0.0, 0.0], [-0.9, -0.2]])
    p = cells.softmax_surround(jnp.array([[1.05, -1.08]]), centres, sigma_m=0.06)
    np.testing.assert_allclose(p, [[0.4, 0.0, 0.2, 0.2, 0.2]], atol=1e-6)
    alone = cells.softmax_surround(jnp.zeros((1, 2)), centres[:1], sigma_m=0.1)
    np.testing.assert_array_equal(alone, [[1.0]])


def test_distances_worked_by_hand():
    x, c = jnp.array([[1.0, -1.0]]), jnp.array([[-1.0, 1.0], [0.0, -0.5], [1.0, -1.0]])
    np.testing.assert_allclose(cells.euclidean_sq(x, c), [[8.0, 1.25, 0.0]], rtol=1e-6)
    np.testing.assert_allclose(cells.periodic_sq(2.2)(x, c), [[0.08, 1.25, 0.0]], rtol=1e-5)


def test_periodic_distance_is_the_nearest_copy():
    x, c = box(2, 50), box(3, 40)
    copies = [cdist(x, c + 2.2 * np.array([i, j])) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    d_sq = cells.periodic_sq(2.2)(jnp.asarray(x), jnp.asarray(c))
    np.testing.assert_allclose(d_sq, np.min(copies, axis=0) ** 2, atol=1e-5)


@pytest.mark.parametrize("code", [cells.softmax_gaussian, cells.softmax_surround])
def test_softmax_codes_are_distributions_even_far_from_every_centre(code):
    far = jnp.array([[40.0, -30.0], [0.0, 0.0]])
    p = code(far, jnp.asarray(box(4, 64), jnp.float32), sigma_m=0.12)
    assert np.isfinite(p).all()
    assert (p >= 0).all()
    np.testing.assert_allclose(p.sum(axis=-1), 1, rtol=1e-5)


def test_difference_of_gaussians_has_peak_a_half_and_no_integral():
    side = np.linspace(-1.5, 1.5, 301)
    x = jnp.asarray(np.stack(np.meshgrid(side, side), axis=-1), jnp.float32)
    p = cells.difference_of_gaussians(x, jnp.zeros((1, 2)), sigma_m=0.2)[..., 0]
    assert float(p[150, 150]) == pytest.approx(0.5)
    assert float(p.min()) == pytest.approx(-1 / 16, abs=1e-3)  # e^2 - e/2 at e = 1/4
    np.testing.assert_allclose(np.sum(p) * 0.01**2, 0, atol=1e-4)


def test_head_direction_code():
    preferred = np.linspace(-np.pi, np.pi, 12, endpoint=False)
    headings = np.random.default_rng(7).uniform(-np.pi, np.pi, (3, 4))
    expected = np.exp(20 * np.cos(headings[..., None] - preferred))
    expected /= expected.sum(axis=-1, keepdims=True)
    p = cells.head_direction_code(jnp.asarray(headings), jnp.asarray(preferred), kappa=20.0)
    np.testing.assert_allclose(p, expected, atol=1e-5)
    flat = cells.head_direction_code(jnp.zeros(2), jnp.asarray(preferred), kappa=0.0)
    np.testing.assert_allclose(flat, 1 / 12, rtol=1e-6)


@pytest.mark.parametrize("code", CODES)
def test_codes_refuse_a_sigma_that_is_not_positive(code):
    with pytest.raises(ValueError, match=r"sigma_m must be positive, but is -0\.1"):
        code(jnp.zeros((1, 2)), jnp.zeros((3, 2)), sigma_m=-0.1)


def test_impossible_arguments_are_refused():
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="num_place must be at least 1, but is 0"):
        cells.place_centres(key, num_place=0, width_m=2.2)
    with pytest.raises(ValueError, match="width_m must be positive, but is 0"):
        cells.place_centres(key, num_place=3, width_m=0)
    with pytest.raises(ValueError, match="width_m must be positive, but is -1"):
        cells.periodic_sq(-1)
    with pytest.raises(ValueError, match="kappa must not be negative, but is -1"):
        cells.head_direction_code(jnp.zeros(2), jnp.zeros(3), kappa=-1)
    with pytest.raises(AssertionError):
        cells.euclidean_sq(jnp.zeros((3, 3)), jnp.zeros((4, 2)))


def test_lattice_centres_fill_the_box_evenly():
    centres = cells.lattice_centres(jax.random.key(0), num_place=4, width_m=2.0)
    np.testing.assert_allclose(centres, [[-0.5, -0.5], [-0.5, 0.5], [0.5, -0.5], [0.5, 0.5]])
    with pytest.raises(ValueError, match="num_place must be a square number"):
        cells.lattice_centres(jax.random.key(0), num_place=5, width_m=2.0)


def test_jittered_centres_keep_to_their_cells():
    key = jax.random.key(0)
    ring = np.asarray(cells.jittered_centres(key, num_place=50, width_m=2.0))
    assert ring.shape == (50, 1)
    np.testing.assert_array_equal(np.floor((ring[:, 0] + 1) / 2 * 50), np.arange(50))
    torus = np.asarray(cells.jittered_centres(key, num_place=16, width_m=1.0, num_dims=2))
    cell = np.floor((torus + 0.5) * 4)
    np.testing.assert_array_equal(cell[:, 0], np.repeat(np.arange(4), 4))
    np.testing.assert_array_equal(cell[:, 1], np.tile(np.arange(4), 4))
    even = cells.jittered_centres(key, num_place=4, width_m=1.0, jitter=0.0)
    np.testing.assert_allclose(even[:, 0], [-0.375, -0.125, 0.125, 0.375], atol=1e-6)
    with pytest.raises(ValueError, match="jitter must be between"):
        cells.jittered_centres(key, num_place=16, width_m=1.0, jitter=0.6)


def test_periodic_distances_on_a_ring():
    distance_sq = cells.periodic_sq(1.0)
    found = distance_sq(jnp.array([[0.45]]), jnp.array([[-0.45], [0.0], [0.4]]))
    np.testing.assert_allclose(found, [[0.01, 0.2025, 0.0025]], atol=1e-6)
