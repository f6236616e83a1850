from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hfjax import arena, cells
from hfjax.data import recordings
from hfjax.models import path_integration
from hfjax.models.grid_rnn import State

WORLD = path_integration.World(
    box=path_integration.walled_box(),
    motion=arena.sorscher_walk,
    dt_s=0.02,
    place_centres=cells.place_centres,
    place_code=cells.softmax_surround,
    sigma_m=0.12,
)


def test_decoder_floor():
    """The published code leaves 4.18 cm (sheet of the system, measured on the original)."""

    def floor_cm(key):
        centre_key, position_key = jax.random.split(key)
        box = path_integration.walled_box()
        centres = cells.place_centres(centre_key, num_place=512, width_m=2.2)
        x = jax.random.uniform(position_key, (1000, 2), minval=-1.1, maxval=1.1)
        code = cells.softmax_surround(x, centres, sigma_m=0.12)
        return 100 * jnp.mean(jnp.linalg.norm(box.offset(x, box.decode(code, centres)), axis=-1))

    floors = jax.jit(jax.vmap(floor_cm))(jax.random.split(jax.random.key(0), 8))
    assert np.mean(floors) == pytest.approx(4.18, abs=0.12)


def test_periodic_box_decodes_across_the_seam():
    box = path_integration.periodic_box(width_m=2.0)
    centres = jnp.array([[0.9, 0.0], [-0.9, 0.0], [-0.9, 0.2], [0.0, -0.5]])
    decoded = box.decode(jnp.array([3.0, 2.0, 1.0, 0.0]), centres)
    # On the circle: x = 0.9, 1.1, 1.1 has its mean direction near 1.033, which is -0.967.
    np.testing.assert_allclose(decoded, [-0.967, 0.0667], atol=2e-3)
    np.testing.assert_allclose(
        box.offset(jnp.array([0.9, 0.2]), jnp.array([-0.9, 0.5])), [0.2, 0.3], atol=1e-6
    )
    walled = path_integration.walled_box(width_m=2.0)
    np.testing.assert_allclose(
        walled.offset(jnp.array([0.9, 0.2]), jnp.array([-0.9, 0.5])), [-1.8, 0.3], rtol=1e-6
    )


def test_walk_along_recorded_positions():
    positions = jnp.array([[[0.0, 0.0], [0.0, 2.0], [-1.0, 2.0]]])
    walk = path_integration.walk_along(positions)
    np.testing.assert_array_equal(walk.start, [[0, 0]])
    np.testing.assert_array_equal(walk.positions, positions[:, 1:])
    np.testing.assert_array_equal(walk.displacements, [[[0, 2], [-1, 0]]])
    np.testing.assert_allclose(walk.headings, [[np.pi / 2, np.pi]])
    np.testing.assert_allclose(walk.start_heading, [np.pi / 2])


@pytest.mark.slow
def test_evaluation_of_a_perfect_network():
    """A network that outputs the true code has no error above the floor, on all kinds of walk."""
    centres = cells.place_centres(jax.random.key(0), num_place=512, width_m=2.2)

    def forward(state, walk):
        x = walk.positions
        # Three units: x, y and a constant.
        activity = jnp.concatenate([x, jnp.ones_like(x[..., :1])], axis=-1)
        return activity, path_integration.code(WORLD, x, state.place_centres)

    integrator = path_integration.Integrator(
        forward, weights=lambda state: jnp.eye(3), num_units=3, world=WORLD
    )
    settings = path_integration.EvaluationSettings(
        num_steps=10,
        rollout_steps=40,
        num_rollouts=20,
        num_map_walks=3000,
        num_bins=11,
        num_noise_maps=400,
    )
    evaluate = partial(path_integration.evaluate, integrator=integrator, settings=settings)
    rat = {key: value[:20, :101] for key, value in recordings.sargolini().items()}
    state = State(params=(), opt_state=(), place_centres=centres)
    scalars, readout = jax.jit(evaluate)(state, rat, jax.random.key(1))

    for name in ("", "rollout_", "rat_", "rat_rollout_"):
        assert scalars[f"{name}error_above_floor_cm"] == pytest.approx(0, abs=1e-4)
        assert 2.5 < scalars[f"{name}floor_cm"] < 6
    # 3,000 walks of 10 steps in a box 2.2 m wide: bins are 0.2 m wide, and x is known in each.
    middles = 0.2 * np.arange(-5, 6)
    maps = readout["rate_maps"]
    np.testing.assert_allclose(maps[0], np.repeat(middles[:, None], 11, 1), atol=0.06)
    np.testing.assert_allclose(maps[1], np.repeat(middles[None, :], 11, 0), atol=0.06)
    np.testing.assert_allclose(maps[2], 1, rtol=1e-6)
    # Low-pass noise: the sheet has 21 % above 0.3, and 5 % above 0.8.
    assert 0.1 < scalars["noise_share_above_0.3"] < 0.35
    assert scalars["grid_share_above_0.8"] == 0
    np.testing.assert_array_equal(readout["rat_positions_m"], 2.2 * rat["rat_positions"][:4, 1:])
    assert readout["rat_rollout_error_cm"].shape == (3, 100)
    short = {"rat_positions": rat["rat_positions"][:, :9]}
    with pytest.raises(ValueError, match="num_steps must be at most 8"):
        jax.eval_shape(evaluate, state, short, jax.random.key(1))


def test_band_share_of_waves():
    x = np.arange(20) / 20
    band = np.cos(2 * np.pi * (3 * x[:, None] + 2 * x[None, :]))
    other = np.cos(2 * np.pi * (4 * x[:, None] - 1 * x[None, :]))
    third = np.cos(2 * np.pi * (1 * x[:, None] + 3 * x[None, :]))
    gradient = np.cos(2 * np.pi * x[:, None]) + 0 * x[None, :]
    flat = np.full((20, 20), 3.0)
    maps = np.stack([band + 7, band + other + third, gradient, flat])
    maps = np.concatenate([maps, maps[:1]])
    maps[-1, 0, 0] = np.nan
    shares = path_integration.band_share(jnp.float32(maps))
    np.testing.assert_allclose(shares[:4], [1, 1 / 3, 0, 0], atol=1e-6)
    assert shares[4] == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("box", [path_integration.walled_box, path_integration.periodic_box])
def test_impossible_box(box):
    with pytest.raises(ValueError, match="width_m must be positive, but is -1"):
        box(width_m=-1.0)


@pytest.mark.parametrize("make", [path_integration.walled_box, path_integration.periodic_box])
def test_distances_by_chance_are_those_of_uniform_positions(make):
    """Against a million draws; a square of 1 m has the known mean 52.14 cm."""
    for box in (make(width_m=1.0), make(width_m=2.0, height_m=0.5)):
        half = np.array(box.sides_m) / 2
        a, b = np.random.default_rng(0).uniform(-half, half, (2, 1_000_000, 2))
        away = b - a
        if make is path_integration.periodic_box:
            away = np.minimum(np.abs(away), 2 * half - np.abs(away))
        expected = 100 * np.hypot(*away.T)
        assert path_integration.mean_distance_cm(box) == pytest.approx(expected.mean(), rel=2e-3)
        assert path_integration.chance_cm(box) == pytest.approx(np.median(expected), rel=0.03)
    assert path_integration.mean_distance_cm(path_integration.walled_box(width_m=1.0)) == (
        pytest.approx(52.14, abs=0.01)
    )


def test_an_oblong_periodic_box_decodes_across_both_seams():
    box = path_integration.periodic_box(width_m=2.0, height_m=1.0)
    centres = jnp.array([[0.9, 0.45], [-0.9, -0.45], [-0.9, 0.45], [0.0, 0.0]])
    decoded = box.decode(jnp.array([3.0, 2.0, 1.0, 0.0]), centres)
    # x as in the square of 2 m; y of 0.45, 0.55 and 0.45 on a circle of 1 m: about 0.483.
    np.testing.assert_allclose(decoded, [-0.967, 0.483], atol=2e-3)
    offset = box.offset(jnp.array([0.9, 0.4]), jnp.array([-0.9, -0.4]))
    np.testing.assert_allclose(offset, [0.2, 0.2], atol=1e-6)


def test_an_oblong_box_is_evaluated_and_drawn_to_its_shape():
    """Two units that know x and y, and two place codes, in 2 m x 1 m."""
    box = path_integration.walled_box(width_m=2.0, height_m=1.0)
    world = WORLD._replace(box=box)
    state = State((), (), cells.place_centres(jax.random.key(0), num_place=30, width_m=(2.0, 1.0)))

    def forward(state, walk):
        x = jnp.concatenate([walk.positions, walk.positions[..., :1] < -0.8], axis=-1)
        return x, path_integration.code(world, walk.positions, state.place_centres)

    integrator = path_integration.Integrator(forward, lambda state: jnp.eye(3), 3, world)
    settings = path_integration.EvaluationSettings(5, 10, 4, 1500, 20, 50)
    rat = {"rat_positions": 0.4 * jnp.cos(jnp.arange(60.0)).reshape(1, 30, 2)}
    scalars, readout = jax.jit(
        partial(path_integration.evaluate, integrator=integrator, settings=settings)
    )(state, rat, jax.random.key(1))
    maps = readout["rate_maps"]
    assert maps.shape == (3, 20, 10)
    middles = 0.1 * np.arange(-9.5, 10)
    np.testing.assert_allclose(maps[0], np.repeat(middles[:, None], 10, 1), atol=0.04)
    np.testing.assert_allclose(maps[1], np.repeat(middles[None, 5:15], 20, 0), atol=0.04)
    assert np.abs(readout["rat_positions_m"]).max() <= 0.4  # a square of 1 m in the middle
    assert readout["place_fields"].shape == (16, 40, 20)
    walks = readout["walks_m"]
    assert walks.shape == (20, 6, 2)
    # The third unit fires along the left wall only.
    assert readout["border_units"][0] == 2
    assert readout["border_score"][2] > 0.5 > readout["border_score"][:2].max()
    assert scalars["border_share_above_0.5"] == pytest.approx(1 / 3)
    assert 0 <= scalars["border_noise_share_above_0.5"] < 0.3
    drawn = path_integration.draw(jax.tree.map(np.asarray, readout))
    for name in ("training_walks", "place_fields", "place_code", "border_maps", "all_maps"):
        drawn[name].draw_without_rendering()
    centres, walks = np.asarray(readout["place_centres_m"]), np.asarray(walks)
    for walk, panel in zip(walks, drawn["place_code"].axes[:8], strict=False):
        dots, cross = panel.collections[0], panel.lines[0]
        np.testing.assert_allclose(cross.get_xydata()[0], walk[-1], rtol=1e-6)
        strongest = dots.get_offsets()[np.argmax(dots.get_array())]
        nearest = np.argmin(np.linalg.norm(centres - walk[-1], axis=1))
        np.testing.assert_allclose(strongest, centres[nearest], rtol=1e-6)
    (ax,) = drawn["training_walks"].axes
    assert ax.get_xlim()[1] == pytest.approx(2 * ax.get_ylim()[1], rel=0.1)
    assert sum(len(line.get_xdata()) == 6 for line in ax.lines) == 20
    assert "33.3 % of 3 units" in drawn["border_maps"].axes[0].get_title()
    assert "2 m wide and 1 m high" in drawn["all_maps"].axes[0].get_title()
