"""Cells against their equations, the originals, and the installed RatInABox at the same places."""

import importlib
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from scipy import special
from scipy.spatial.distance import cdist

from hfjax import arena, cells, visibility
from tests.against_ratinabox import ENVIRONMENTS, HOLE, their_agent

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    Neurons = importlib.import_module("ratinabox.Neurons")  # the class of that name hides it


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
    """In programs too, where a fused product and difference have two roundings of one distance."""
    centres = jnp.asarray(box(4, 64), jnp.float32)
    far = jnp.array([[40.0, -30.0], [0.0, 0.0], [3e3, 5e3], [1e5, 1.0]])
    for sigma in (0.12, np.linspace(0.1, 0.2, 64, dtype=np.float32)):
        p = jax.jit(lambda x, sigma=sigma: code(x, centres, sigma_m=sigma))(far)
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


@pytest.mark.parametrize("code", [*CODES, cells.gaussian_threshold, cells.top_hat])
def test_each_cell_may_have_its_own_sigma(code):
    positions, centres, sigma = box(5, 20).reshape(4, 5, 2), box(6, 3), [0.1, 0.3, 0.7]
    mixed = code(positions, centres, sigma_m=sigma)
    alike = code(positions, centres, sigma_m=[0.3] * 3)
    np.testing.assert_allclose(alike, code(positions, centres, sigma_m=0.3), atol=1e-6)
    if code in (cells.softmax_gaussian, cells.softmax_surround):
        d_sq = cdist(positions.reshape(-1, 2), centres, "sqeuclidean") / np.square(sigma)
        expected = reference(code, d_sq, 1.0).reshape(4, 5, 3)
    else:
        each = [code(positions, centres[[k]], sigma_m=sigma[k]) for k in range(3)]
        expected = np.concatenate(each, axis=-1)
    np.testing.assert_allclose(mixed, expected, atol=1e-5)
    for wrong, sentence in (
        ([0.1, 0.2], r"each of the 3 cells, but has the shape \(2,\)"),
        ([0.1, np.nan, 0.2], "must be positive, but is nan"),
        ([0.1, np.inf, 0.2], "must be finite"),
    ):
        with pytest.raises(ValueError, match=sentence):
            code(positions, centres, sigma_m=wrong)


def test_sigma_can_be_learned():
    slope = jax.grad(lambda s: jnp.sum(cells.gaussian([[0.1, 0]], [[0, 0], [1, 0]], sigma_m=s)))
    assert float(slope(0.1)) == pytest.approx(np.exp(-0.5) / 0.1, rel=1e-4)


def test_distances_on_a_rectangular_torus_are_those_of_the_nearest_image():
    distance_sq = cells.periodic_sq((1.0, 0.5))
    worked = distance_sq([[0.45, 0.2]], [[-0.45, -0.2], [0.0, 0.2]])
    np.testing.assert_allclose(worked, [[0.02, 0.2025]], atol=1e-6)
    x, c = np.array([[2.0, 0.5]]) * box(2, 30, 1.0), np.array([[2.0, 0.5]]) * box(3, 20, 1.0)
    images = [cdist(x, c + np.array([2.0 * i, 0.5 * j])) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    found = cells.periodic_sq(np.array([2.0, 0.5]))(x, c)
    np.testing.assert_allclose(found, np.min(images, axis=0) ** 2, atol=1e-5)
    with pytest.raises(ValueError, match="does not fit positions of 1 dimensions"):
        distance_sq([[0.1]], [[0.2]])
    with pytest.raises(ValueError, match="width_m must be positive"):
        cells.periodic_sq((1.0, 0.0))
    code = cells.angles_code([[0.5, 0.5]], width_m=(2.0, 1.0))
    np.testing.assert_allclose(code, [[0, -1, 1, 0]], atol=1e-6)


def test_lists_are_accepted_where_arrays_are():
    head, grid = [[1, 0], [0, 1]], cells.Grid([1.0], [0.0], [[0.0, 0.0]])
    tuning = cells.VectorTuning([0.1], [0.1], [0.0], [0.5])
    places, centres = [[0, 0], [1, 1]], [[0.5, 0], [1, 0], [0, 1]]
    listed = {
        "one_hot": lambda f: cells.one_hot(f(places), f(centres)),
        "rectified": lambda f: cells.rectified_cosines(f(places), cells.Grid(*map(f, grid))),
        "shifted": lambda f: cells.shifted_cosines(f(places), cells.Grid(*map(f, grid))),
        "heads": lambda f: cells.head_direction_cells(f(head), preferred=f([0]), spread=f([0.5])),
        "velocity": lambda f: cells.velocity_cells(
            f(head), preferred=f([0]), spread=f([0.5]), scale_mps=0.1
        ),
        "objects": lambda f: cells.object_vector_cells(
            f(places),
            f(centres),
            cells.VectorTuning(*map(f, tuning)),
            head_direction=f(head),
            sees=f([[1], [0], [1]]),
        ),
        "angles": lambda f: cells.angles_code(f(places), width_m=2.0),
        "directions": lambda f: cells.head_direction_code(f([0, 1]), f([0, 1, 2]), kappa=1.0),
        "walls": lambda f: visibility.boundary_vector_cells(
            f(places), cells.VectorTuning(*map(f, tuning)), environment=ROOM
        ),
        "geodesic": lambda f: visibility.geodesic_sq(ROOM)(f(places), f(centres)),
        "sight": lambda f: visibility.line_of_sight_sq(ROOM)(f(places), f(centres)),
        "inside": lambda f: arena.contains(ROOM, f(places)),
        "wrap": lambda f: arena.wrap(f([0, 1, 2]), 0.0, 1.5),
        "along": lambda f: arena.along(f(places), motion=arena.motion()).velocity,
    }
    for name, values in listed.items():
        expected = values(lambda x: jnp.array(x, jnp.float32))
        np.testing.assert_array_equal(values(lambda x: x), expected, err_msg=name)


def test_an_unknown_position_has_no_rates():
    lost = jnp.array([jnp.nan, 0.5])
    for code in (*CODES, cells.gaussian_threshold, cells.top_hat):
        assert np.isnan(code(lost, jnp.zeros((3, 2)), sigma_m=0.1)).all()
    assert np.isnan(cells.one_hot(lost, jnp.zeros((3, 2)))).all()
    tuning = cells.VectorTuning(*(jnp.full(2, x) for x in (0.1, 0.1, 0.5, 0.5)))
    assert np.isnan(visibility.boundary_vector_cells(lost, tuning, environment=ROOM)).all()


def test_periodic_distances_on_a_ring():
    distance_sq = cells.periodic_sq(1.0)
    actual = distance_sq(jnp.array([[0.45]]), jnp.array([[-0.45], [0.0], [0.4]]))
    np.testing.assert_allclose(actual, [[0.01, 0.2025, 0.0025]], atol=1e-6)


# --- Against RatInABox ---

ROOM = arena.box(1.0, inner_walls=[[[0.4, 0.0], [0.4, 0.7]]])


# Two walls and a hole, and nothing convex about it.
MAZE = arena.box(
    1.2, 1.0, inner_walls=[[[0.3, 0.0], [0.3, 0.7]], [[0.8, 1.0], [0.8, 0.4]]], holes=[HOLE]
)


PLACES = {
    "gaussian": cells.gaussian,
    "gaussian_threshold": cells.gaussian_threshold,
    "diff_of_gaussians": lambda *a, **k: cells.difference_of_gaussians(*a, ratio=1.5, peak=1, **k),
    "top_hat": cells.top_hat,
    "one_hot": lambda *a, sigma_m, **k: cells.one_hot(*a, **k),
}


def agent_in(environment):
    np.random.seed(0)  # noqa: NPY002 (RatInABox draws from it)
    return their_agent(environment, arena.motion())


def places_in(environment, count=400):
    return np.asarray(arena.uniform_positions(jax.random.key(0), environment, count))


def theirs(kind, environment, positions, agent=None, **parameters):
    """Rates of RatInABox's cells [place, cell], and the cells."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = kind(agent or agent_in(environment), parameters)
        return made.get_state(evaluate_at=None, pos=np.asarray(positions, float)).T, made


@pytest.mark.parametrize(
    ("environment", "geometry"),
    [
        (ROOM, "euclidean"),
        (ROOM, "line_of_sight"),
        (ROOM, "geodesic"),
        (MAZE, "line_of_sight"),
        (ENVIRONMENTS["torus"], "euclidean"),
        (ENVIRONMENTS["ring"], "euclidean"),
    ],
    ids=["room", "room-sight", "room-geodesic", "maze-sight", "torus", "ring"],
)
def test_place_cells(environment, geometry):
    positions = places_in(environment)
    centres = np.asarray(arena.uniform_positions(jax.random.key(1), environment, 30))
    if environment.periodic:
        distance_sq = cells.periodic_sq(environment.extent[0][1])
    else:
        distance_sq = {
            "euclidean": lambda _: cells.euclidean_sq,
            "line_of_sight": visibility.line_of_sight_sq,
            "geodesic": visibility.geodesic_sq,
        }[geometry](environment)
    for description, code in PLACES.items():
        expected, _ = theirs(
            Neurons.PlaceCells,
            environment,
            positions,
            description=description,
            place_cell_centres=centres.astype(float),
            widths=0.2,
            wall_geometry=geometry,
        )
        ours = code(positions, centres, sigma_m=0.2, distance_sq=distance_sq)
        np.testing.assert_allclose(ours, expected, atol=1e-5, err_msg=description)
        assert 0.01 < np.mean(expected > 0) < 1 or description == "gaussian"


@pytest.mark.parametrize("environment", [ROOM, ENVIRONMENTS["ring"]], ids=["2d", "1d"])
def test_grid_cells(environment):
    positions = places_in(environment)
    for description, code in [
        ("rectified_cosines", cells.rectified_cosines),
        ("shifted_cosines", cells.shifted_cosines),
    ]:
        expected, made = theirs(Neurons.GridCells, environment, positions, description=description)
        phase = made.phase_offsets.reshape(30, environment.num_dims)
        orientation = getattr(made, "orientations", np.zeros(30))
        grid = cells.Grid(
            *(jnp.asarray(x, jnp.float32) for x in (made.gridscales, orientation)),
            jnp.asarray(phase, jnp.float32),
        )
        np.testing.assert_allclose(code(positions, grid), expected, atol=1e-5)
    spacing = 0.5 * 2 / np.sqrt(3)  # the nearest field lies across the waves, not along one
    one = cells.Grid(jnp.array([0.5]), jnp.zeros(1), jnp.zeros((1, 2)))
    peaks = jnp.array([[0.0, 0.0], [0.0, spacing], [spacing * np.sqrt(0.75), spacing / 2]])
    np.testing.assert_allclose(cells.rectified_cosines(peaks, one), 1, atol=1e-5)


def test_head_direction_velocity_and_speed_cells():
    agent = agent_in(ROOM)
    for _ in range(3):
        agent.update()
    heads = Neurons.HeadDirectionCells(agent, {"n": 7})
    preferred = jnp.linspace(0, 2 * np.pi, 8)[:-1]
    spread = jnp.full(7, np.pi / 4)
    ours = cells.head_direction_cells(
        jnp.asarray(agent.head_direction), preferred=preferred, spread=spread
    )
    np.testing.assert_allclose(ours, heads.get_state()[:, 0], atol=1e-5)
    moving = Neurons.VelocityCells(agent, {"n": 7})
    ours = cells.velocity_cells(
        jnp.asarray(agent.velocity), preferred=preferred, spread=spread, scale_mps=0.16
    )
    np.testing.assert_allclose(ours, moving.get_state()[:, 0], atol=1e-5)
    fast = Neurons.SpeedCell(agent, {}).get_state()
    velocity = jnp.asarray(agent.history["vel"][-1])
    np.testing.assert_allclose(cells.speed_cell(velocity, scale_mps=0.16), fast, atol=1e-5)
    two = cells.head_direction_cells(jnp.array([[0.3], [-2.0]]), preferred=None, spread=None)
    np.testing.assert_array_equal(two, [[1, 0], [0, 1]])


def tuning_of(made):
    return cells.VectorTuning(
        *(
            jnp.asarray(x, jnp.float32)
            for x in (
                made.tuning_distances,
                made.sigma_distances,
                made.tuning_angles,
                made.sigma_angles,
            )
        )
    )


@pytest.mark.parametrize("frame", ["allocentric", "egocentric"])
def test_vector_cells(frame):
    agent = agent_in(MAZE)
    agent.Environment.add_object([0.9, 0.2], type=0)
    agent.Environment.add_object([0.1, 0.8], type=1)
    agent.head_direction = np.array([0.6, 0.8])
    positions = places_in(MAZE, 100)
    head = jnp.broadcast_to(jnp.array([0.6, 0.8]), (100, 2)) if frame == "egocentric" else None

    def rates(kind, **parameters):
        made = kind(agent, {"reference_frame": frame, **parameters})
        return made.get_state(
            evaluate_at=None, pos=positions.astype(float), head_direction=agent.head_direction
        ).T, made

    expected, made = rates(Neurons.BoundaryVectorCells)
    ours = visibility.boundary_vector_cells(
        positions, tuning_of(made), environment=MAZE, head_direction=head
    )
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    for occlude in (True, False):
        expected, made = rates(
            Neurons.ObjectVectorCells, walls_occlude=occlude, tuning_distance=(0.1, 0.6)
        )
        sees = np.arange(2)[:, None] == made.tuning_types[None]
        ours = cells.object_vector_cells(
            positions,
            jnp.asarray(agent.Environment.objects["objects"], jnp.float32),
            tuning_of(made),
            head_direction=head,
            sees=jnp.asarray(sees, jnp.float32),
            distance_sq=visibility.line_of_sight_sq(MAZE) if occlude else cells.euclidean_sq,
        )
        # RatInABox adds 1e-6 m to x before it takes an angle, which turns what is near.
        near = np.linalg.norm(positions[:, None] - agent.Environment.objects["objects"], axis=-1)
        turned = 1e-6 / near.min(axis=1)[:, None] / made.sigma_angles
        assert np.all(np.abs(ours - expected) < 1e-5 + turned)


def test_jittered_centres_are_spread_as_ratinaboxs():
    environment = agent_in(arena.box(2.2)).Environment
    lattice = environment.sample_positions(512, method="uniform") + 0.0
    ours = (
        np.asarray(
            cells.jittered_centres(jax.random.key(0), num_place=512, width_m=2.2, num_dims=2)
        )
        + 1.1
    )
    delta = 2.2 / np.sqrt(512)
    lattice = lattice[: 22**2].reshape(22, 22, 2).swapaxes(0, 1).reshape(-1, 2)
    assert np.abs(ours[: 22**2] - lattice).max() <= 0.45 * delta + 1e-6
    assert np.abs(ours[: 22**2] - lattice).max() > 0.4 * delta
    # Those that are left can lie outside, as RatInABox's can: 1.5 x 0.45 - 0.5 of delta at most.
    keys = jax.random.split(jax.random.key(1), 20)
    made = lambda key: cells.jittered_centres(key, num_place=512, width_m=2.2, num_dims=2)  # noqa: E731
    many = np.stack([made(key) for key in keys])
    beyond = np.abs(many).max() - 1.1
    assert 0 < beyond < 0.175 * delta + 1e-6
    extra = np.abs(ours[22**2 :, None] - ours[None, : 22**2]).max(axis=-1).min(axis=1)
    assert extra.max() <= 0.45 * delta / 2 + 1e-6


def test_impossible_tunings_are_refused():
    with pytest.raises(ValueError, match="ratio must be above 1"):
        cells.difference_of_gaussians(jnp.zeros((1, 2)), jnp.zeros((1, 2)), sigma_m=1.0, ratio=1.0)
    grid = cells.Grid(jnp.ones(1), jnp.zeros(1), jnp.zeros((1, 2)))
    with pytest.raises(ValueError, match="width_ratio"):
        cells.rectified_cosines(jnp.zeros((1, 2)), grid, width_ratio=0.0)


@pytest.mark.parametrize("scale", [1.5, 2.0, 5.0])
def test_the_surround_is_as_wide_as_its_scale_says(scale):
    """The difference of two softmaxes, written out in NumPy."""
    rng = np.random.default_rng(0)
    positions, centres = rng.uniform(-1, 1, (7, 2)), rng.uniform(-1, 1, (20, 2))
    d_sq = ((positions[:, None] - centres[None]) ** 2).sum(axis=-1)
    q = scipy.special.softmax(-d_sq / (2 * 0.2**2), axis=1)
    q = q - scipy.special.softmax(-d_sq / (2 * scale * 0.2**2), axis=1)
    q = q + np.abs(q.min(axis=1, keepdims=True))
    actual = cells.softmax_surround(
        jnp.asarray(positions), jnp.asarray(centres), sigma_m=0.2, surround_scale=scale
    )
    np.testing.assert_allclose(actual, q / q.sum(axis=1, keepdims=True), rtol=1e-4, atol=1e-7)


def test_a_surround_as_narrow_as_the_centre_is_refused():
    with pytest.raises(ValueError, match="surround_scale must be above 1, but is 1"):
        cells.softmax_surround(jnp.zeros((1, 2)), jnp.zeros((3, 2)), sigma_m=0.2, surround_scale=1)


def test_centres_in_an_oblong_box_fill_it():
    key, box = jax.random.key(0), (2.0, 1.0)
    uniform = np.asarray(cells.place_centres(key, num_place=2000, width_m=box))
    np.testing.assert_allclose(np.ptp(uniform, axis=0), box, rtol=0.01)
    lattice = cells.lattice_centres(key, num_place=8, width_m=box)
    x, y = np.meshgrid([-0.75, -0.25, 0.25, 0.75], [-0.25, 0.25], indexing="ij")
    np.testing.assert_allclose(lattice, np.stack([x.ravel(), y.ravel()], 1), atol=1e-7)
    with pytest.raises(ValueError, match="num_place must be a number that fits the box"):
        cells.lattice_centres(key, num_place=9, width_m=box)
    jittered = cells.jittered_centres(key, num_place=8, width_m=box, num_dims=2)
    np.testing.assert_array_less(np.abs(jittered - lattice), 0.45 * 0.5 + 1e-6)
    with pytest.raises(ValueError, match="does not fit positions of 2 dimensions"):
        cells.place_centres(key, num_place=3, width_m=(1.0, 2.0, 3.0))


def test_centres_beyond_walls_fill_a_rim():
    key, box = jax.random.key(0), (2.0, 1.0)
    uniform = cells.beyond_walls(key, num_place=2000, width_m=box, margin_m=0.25)
    np.testing.assert_allclose(np.ptp(uniform, axis=0), (2.5, 1.5), rtol=0.01)
    lattice = cells.beyond_walls(
        key, num_place=15, width_m=box, margin_m=0.25, draw=cells.lattice_centres
    )
    np.testing.assert_allclose(np.asarray(lattice)[[0, -1]], [(-1.0, -0.5), (1.0, 0.5)], atol=1e-6)
    with pytest.raises(ValueError, match="margin_m must not be negative, but is -1"):
        cells.beyond_walls(key, num_place=3, width_m=1.0, margin_m=-1.0)
