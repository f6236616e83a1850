"""Maps that a successor measure of place cells predicts: fields, moved cells, decoded places."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hfjax import cells, missing
from hfjax.data import transitions
from hfjax.models import dsm
from hfjax.models.dsm import maps, place_maps
from tests.contract import check_figures

AXIS = (np.arange(20) + 0.5) / 20
LATTICE = jnp.asarray(np.stack(np.meshgrid(AXIS, AXIS, indexing="ij"), -1).reshape(-1, 2))


@functools.cache
def data():
    return transitions.place_cells(num_steps=4_000)


@functools.partial(jax.jit, static_argnames="gamma")
def _evaluate(made, table, repeats, gamma=0.95):
    """With a model whose every sample is the state, or the row of a table [place, cell]."""

    def samples(states, key, num_inner):
        rows = jnp.where(repeats, states, table[: len(states)])
        return jnp.broadcast_to(rows[:, None, None], (len(states), 2, num_inner, 50))

    model = dsm.Predictor(samples, lambda states, key, num_inner: (), of_same_noise=samples)
    return dsm.evaluate_place_maps(model, made, jax.random.key(0), gamma=gamma, num_inner=33)


def evaluate(made, table=None):
    return _evaluate(made, made["sources"] if table is None else table, table is None)


def test_a_model_that_knows_what_follows_has_its_maps_and_places():
    known = jnp.asarray(data()["empirical"])
    known = jnp.where(jnp.isnan(known), data()["sources"], known)
    scalars, readout = evaluate(data(), known)
    np.testing.assert_allclose(scalars["map_correlation"], 1, rtol=1e-5)
    np.testing.assert_allclose(scalars["map_error"], 0, atol=1e-5)
    np.testing.assert_allclose(scalars["atom_spread"], 0, atol=1e-6)
    for decoder in ("ridge", "gp", "ensemble"):
        np.testing.assert_allclose(scalars[f"{decoder}_error_cm"], 0, atol=1e-2)
    cell_3 = np.asarray(known)[:, 3].reshape(20, 20)
    np.testing.assert_allclose(readout["maps"][3], cell_3, rtol=1e-5)
    assert scalars["place_information"] > scalars["information"] > 0  # the future is blurred
    for name in ("field_size", "shift_cm", "shift_to_centre_cm"):
        # Places that were not visited are 0 here and unknown there.
        np.testing.assert_allclose(scalars[name], scalars[f"empirical_{name}"], rtol=0.1, atol=0.5)


@functools.cache
def repeating():
    return evaluate(data())


def test_a_model_that_repeats_the_state_decodes_the_place_itself():
    scalars, readout = repeating()
    np.testing.assert_allclose(scalars["place_correlation"], scalars["map_correlation"], rtol=1e-5)
    for decoder, most in (("ridge", 0.03), ("gp", 0.03), ("ensemble", 0.03)):
        apart = np.linalg.norm(readout[f"decoded_{decoder}"] - LATTICE, axis=1)
        assert np.median(apart) < most, decoder
    for name in ("ridge", "gp", "ensemble"):
        error, control = scalars[f"{name}_error_cm"], scalars[f"{name}_place_error_cm"]
        np.testing.assert_allclose(error, control, rtol=1e-3)
    np.testing.assert_allclose(scalars["map_error"], scalars["place_error"], rtol=1e-4)
    np.testing.assert_allclose(
        readout["shown"][:, 0, 0], readout["shown_sources"], atol=0.05
    )  # a lattice of nine places, decoded
    # Along the walk too, with what followed in the data beside it.
    steps = np.asarray(readout["walk_steps"])
    np.testing.assert_array_equal(steps, 10 * np.arange(80))
    np.testing.assert_array_equal(readout["walk_m"], data()["positions"][steps])
    assert readout["walk_atoms_m"].shape == (80, 2, 8, 2)
    apart = readout["walk_atoms_m"] - readout["walk_m"][:, None, None]
    assert np.quantile(np.linalg.norm(apart, axis=-1), 0.95) < 0.05
    ahead = readout["walk_futures_m"] - readout["walk_m"][:, None]
    assert 0.1 < np.median(np.linalg.norm(ahead, axis=-1)) < 0.4  # 20 steps ahead in the mean
    assert next(place_maps.animate_place_maps(missing.on_host(readout))["atoms"]).width > 200
    assert place_maps.animate_place_maps({}) == {}  # of an older version
    # Maps of the model are the cells' own, whatever moves.
    np.testing.assert_allclose(readout["similarity"], readout["place_similarity"], rtol=1e-4)
    np.testing.assert_allclose(readout["similarity"][0], 1, rtol=1e-5)


def test_the_more_cells_move_the_less_alike_are_the_maps():
    _, readout = repeating()
    similarity = np.asarray(readout["similarity"])
    assert similarity.shape == (len(dsm.MOVED), 5)
    assert (np.diff(similarity.mean(axis=1)) < 0).all()
    # One of fifty cells moves: 49 maps stay, whichever it is, and draws do not add up.
    assert (similarity[1] > 0.98).all()
    assert (similarity[1] < 1).all()
    assert np.std(similarity[-1]) < 0.05


def test_fields_worked_by_hand():
    """A square of 4 x 4 places, rates 1 and, in one row, 2: the middle lies towards that row."""
    square = np.zeros((20, 20))
    square[4:8, 10:14] = 1.0
    square[7, 10:14] = 2.0
    square[0, 0] = 0.9  # below half the maximum
    square += 3  # a rate everywhere: no field
    gap = square.copy()
    gap[4, 10:14] = np.nan
    maps = jnp.asarray(np.stack([square, gap]).reshape(2, -1))
    actual = dsm.fields(maps, LATTICE)
    np.testing.assert_allclose(actual.area, [16 / 400, 12 / 396], rtol=1e-6)
    x = (4.5 + 5.5 + 6.5 + 2 * 7.5) / 5 / 20
    np.testing.assert_allclose(actual.centre[0], [x, 12 / 20], rtol=1e-5)
    np.testing.assert_allclose(actual.variance[0, 1], 1.25 / 400, rtol=1e-4)


def test_field_statistics_worked_by_hand():
    """Gaussian fields, one at a wall and one inside, moved and drawn out in known ways."""
    fine = (np.arange(120) + 0.5) / 120
    lattice = jnp.asarray(np.stack(np.meshgrid(fine, fine, indexing="ij"), -1).reshape(-1, 2))

    def bump(middle, sigma):
        return jnp.exp(
            -0.5 * jnp.sum(((lattice - jnp.array([middle])) / jnp.array([sigma])) ** 2, 1)
        )

    own = jnp.stack([bump((0.15, 0.5), (0.04, 0.04)), bump((0.5, 0.7), (0.05, 0.05))])
    now = jnp.stack([bump((0.15, 0.5), (0.04, 0.08)), bump((0.5, 0.65), (0.05, 0.05))])
    actual = dsm.field_statistics(now, own, lattice)
    np.testing.assert_allclose(actual["wall_elongation"], 2, rtol=0.05)
    np.testing.assert_allclose(actual["field_size"], 1.5, rtol=0.05)  # between 1 and 2
    np.testing.assert_allclose(actual["shift_cm"], 2.5, rtol=0.05)
    np.testing.assert_allclose(actual["shift_to_centre_cm"], 2.5, rtol=0.05)
    outwards = dsm.field_statistics(own, now, lattice)
    np.testing.assert_allclose(outwards["shift_to_centre_cm"], -2.5, rtol=0.05)
    np.testing.assert_allclose(outwards["wall_elongation"], 0.5, rtol=0.05)


def test_another_discount_than_that_of_the_data_gives_no_number():
    other = {**data(), "gamma": np.float32(0.5)}
    scalars, _ = evaluate(other)
    for name in ("empirical_field_size", "map_correlation", "map_error", "gp_error_cm"):
        assert scalars[name] == -np.inf, name  # missing
    assert np.isfinite(scalars["field_size"])


def walls_in(ax):
    """How many walls are drawn in a row of maps: lines of two points, thicker than a frame."""
    thick = [c for c in ax.collections if c.get_linewidths()[0] == 2]
    return sum(len(c.get_segments()) for c in thick)


@pytest.mark.slow
def test_figures_are_drawn_of_an_untrained_model():
    task = dsm.task(
        num_outer=3,
        num_inner=2,
        hidden=(9, 5),
        batch_size=2,
        adversary=dsm.no_adversary(),
        evaluation=dsm.evaluate_place_maps,
        draw=dsm.draw_place_maps,
    )
    state = jax.jit(task.init)(jax.random.key(0), data())
    _, readout = jax.jit(task.evaluate)(state, data(), jax.random.key(1))
    readout = jax.device_get(readout)
    assert readout["hidden_maps_1"].shape == (9, 20, 20)
    assert readout["hidden_maps_2"].shape == (5, 20, 20)
    drawn = task.figures(readout)
    assert set(drawn) == {
        "rate_maps",
        "atom_maps",
        "noise",
        "hidden_maps",
        "hidden_layer_1",
        "hidden_layer_2",
        "heading",
        "predictions",
        "samples",
        "similarity",
        "similarity_histogram",
        "moved_maps",
    }
    check_figures(drawn)
    rows = [text.get_text() for ax in drawn["rate_maps"].axes for text in ax.texts]
    assert "model, mean of\n3 atoms" in rows
    # A model of one atom is drawn once; walls and goals stand in every panel over the box.
    single = {**readout, "atom_maps": readout["atom_maps"][:1]}
    single |= {"walls": np.array([[[0.4, 0.0], [0.4, 0.9]]]), "goals": np.array([[0.5, 0.5]])}
    drawn = task.figures(single)
    check_figures(drawn)
    rows = [ax for ax in drawn["rate_maps"].axes if ax.get_images()]
    assert len(rows) == 3
    assert all(walls_in(ax) == len(ax.get_images()) == 8 for ax in rows)
    for ax in (ax for ax in drawn["samples"].axes if ax.has_data()):
        assert {"wall", "goal"} <= {line.get_label() for line in ax.lines}
        np.testing.assert_allclose([ax.get_xlim(), ax.get_ylim()], [[-0.06, 1.06]] * 2, rtol=1e-6)


def test_cells_without_centres_move_around_the_edges():
    """Four cells, each with one place; two of them move, their maps keep their one place."""
    own = np.zeros((400, 4), np.float32)
    own[[0, 21, 399, 210], range(4)] = 1.0
    moves = jnp.array([True, False, True, False])
    moved = place_maps.moved_rates(
        {"sources": own}, moves, jax.random.key(0), distance_sq=cells.euclidean_sq
    )
    np.testing.assert_array_equal(np.sum(moved, axis=0), 1)
    np.testing.assert_array_equal(moved[:, 1::2], own[:, 1::2])
    assert (np.argmax(np.asarray(moved)[:, ::2], axis=0) != np.array([0, 399])).all()


def test_units_that_follow_the_heading_are_found_and_others_are_not():
    """A path of random turns; a unit with a cosine of the heading, and a constant one."""
    turn = np.random.default_rng(0).uniform(-np.pi, np.pi, 3_000)
    steps = 0.01 * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    path = {
        "positions": np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)]),
        "states": np.append(turn, 0.0)[:, None],
        "last": np.zeros(3_001, bool),
    }

    def hidden(states, key, num_inner):
        return (jnp.stack([1 + jnp.cos(states), 3 + 0 * states], axis=2),)  # [place, outer, unit]

    model = dsm.Predictor(None, hidden, None)
    scalars, readout = place_maps.tuning_to_heading(model, path, jax.random.key(0))
    # (1/2pi) int (1 + cos t) cos t dt = 1/2; the constant, less its minimum, is silent.
    np.testing.assert_allclose(readout["heading_lengths"], [0.5, 0], atol=0.02)
    assert scalars["heading_share"] == 0.5
    assert scalars["shuffled_heading_share"] == 0
    assert readout["heading_curves"].shape == (2, 20)


@pytest.mark.slow
def test_a_model_of_positions_that_knows_what_follows_has_no_error():
    made = transitions.positions(num_steps=3_000)
    known = maps.mean_by_place(
        maps.discounted_states(jnp.asarray(made["states"]), jnp.asarray(made["last"]), gamma=0.95),
        jnp.asarray(made["positions"]),
        place_maps.BOX,
    )
    expected = transitions.discounted_rates(made["states"], made["last"], gamma=0.95)
    _, expected = transitions.mean_by_place(expected, made["positions"], lattice=20)
    np.testing.assert_allclose(
        np.where(known == -np.inf, np.nan, known), expected, rtol=1e-3, atol=1e-3
    )

    def samples(states, key, num_inner):
        rows = jnp.where(known == -jnp.inf, 0, known) if len(states) == 400 else states
        return jnp.broadcast_to(rows[:, None, None], (len(states), 2, num_inner, 2))

    model = dsm.Predictor(samples, lambda states, key, num_inner: (), samples)
    scalars, readout = dsm.evaluate_positions(model, made, jax.random.key(0), gamma=0.95)
    np.testing.assert_allclose(scalars["position_error_cm"], 0, atol=1e-3)
    assert scalars["place_error_cm"] > 1
    np.testing.assert_allclose(scalars["atom_spread_cm"], 0, atol=1e-3)

    # Two of twelve atoms lie 1 m from the others: sqrt(1/6 * 5/6) m.
    def apart(states, key, num_inner):
        atoms = jnp.arange(12)[None, :, None, None] >= 10
        return jnp.broadcast_to(jnp.where(atoms, 1.0, 0.0), (len(states), 12, num_inner, 2))

    apart_model = model._replace(samples=apart)
    scalars, spread = dsm.evaluate_positions(apart_model, made, jax.random.key(0), gamma=0.95)
    np.testing.assert_allclose(scalars["atom_spread_cm"], 37.2678, rtol=1e-4)
    readout = {n: np.where(x == -np.inf, np.nan, x) for n, x in jax.device_get(readout).items()}
    check_figures(dsm.draw_positions(readout))
    many = readout | {"state_maps": np.maximum(spread["state_maps"], 0)}
    drawn = maps.draw_plane_maps(many, place_maps.BOX)["atom_maps"]
    assert [len(row) for ax in drawn.axes if (row := ax.get_images())] == 2 * [2 + maps.MOST_ATOMS]
