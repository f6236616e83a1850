"""Maps that a successor measure of place cells predicts: fields, moved cells, decoded places."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hfjax import cells, missing
from hfjax.data import transitions
from hfjax.models import dsm
from hfjax.models.dsm import layers, maps, place_maps
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


def test_silenced_cells_of_a_model_that_repeats_the_state_are_lost_and_the_others_stay():
    scalars, readout = repeating()
    silenced = np.asarray(readout["silenced"])
    np.testing.assert_array_equal(silenced.sum(axis=2), np.array(dsm.MOVED)[:, None] * [[1] * 5])
    np.testing.assert_allclose(
        readout["silenced_similarity_cells"], 1.0 - silenced, rtol=1e-5, atol=1e-6
    )
    for count in (0, 20, 50):
        for name in ("silenced_similarity", "silenced_place_similarity"):
            np.testing.assert_allclose(
                scalars[f"{name}_{count}"], 1 - count / 50, rtol=1e-5, atol=1e-6
            )


def test_a_model_that_sums_the_cells_fills_in_the_silenced_ones():
    """Three cells with rates 1 at a place each; every predicted map is the sum of the three."""
    own = np.eye(4, 3, dtype=np.float32)
    rates = dsm.silenced_rates({"sources": own}, jnp.array([False, True, False]), jax.random.key(0))
    np.testing.assert_array_equal(rates, own * [[1, 0, 1]])

    def samples(states, key, num_inner):
        total = jnp.sum(states, axis=1).reshape(-1, 1, 1, 1)
        return jnp.broadcast_to(total, (4, 1, num_inner, 3))

    changed = dsm.similarity_when_changed(
        dsm.Predictor(samples, None, None),
        {"sources": own, "lattice": jnp.asarray(LATTICE[:4])},
        jax.random.key(0),
        change=dsm.silenced_rates,
        numbers=(0, 1, 3),
        num_draws=2,
    )
    # (1, 1, 1, 0) before; with one cell silenced a 1 is lost: cosine 2 / sqrt(2 * 3).
    expected = np.broadcast_to(np.array([1, (2 / 3) ** 0.5, 0]).reshape(3, 1, 1), (3, 2, 3))
    np.testing.assert_allclose(changed.predicted, expected, rtol=1e-6)
    np.testing.assert_array_equal(changed.place_cells, 1 - changed.chosen)
    assert changed.example.shape == (3, 4)


def test_figures_of_an_older_readout_are_drawn_without_what_it_lacks(monkeypatch):
    monkeypatch.setattr(layers, "embedded", lambda activity: activity[:, :2])
    old = {n: x for n, x in missing.on_host(repeating()[1]).items() if not n.startswith("layer_")}
    new = ("silenced", "silenced_similarity_cells", "std_atoms", "std_gp_empirical")
    old = {n: x for n, x in old.items() if n not in new and not n.startswith("data_")}
    old["hidden_maps_1"] = old["place_maps"]
    drawn = dsm.draw_place_maps(old)
    check_figures(drawn)
    assert len(drawn["similarity"].axes) == 1
    assert not {"layers", "data"} & set(drawn)


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
        "layers",
        "embedding",
        "all_hidden_maps",
        "all_maps",
        "data",
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

    def samples(states, key, num_inner):
        return jnp.zeros((len(states), 1, num_inner, 1))

    model = dsm.Predictor(samples, hidden, None)
    scalars, readout = layers.tuning_to_heading(model, path, jax.random.key(0))
    # (1/2pi) int (1 + cos t) cos t dt = 1/2; the constant, less its minimum, is silent.
    np.testing.assert_allclose(readout["heading_lengths"], [0.5, 0], atol=0.02)
    assert scalars["heading_share"] == 0.5
    assert scalars["shuffled_heading_share"] == 0
    assert readout["heading_curves"].shape == (2, 20)
    # The states are the heading itself, and tuned; outputs are silent.
    np.testing.assert_array_equal(readout["layer_heading_share"], [1, 0.5, 0])
    np.testing.assert_array_equal(readout["layer_shuffled_heading_share"], [0, 0, 0])


def test_held_out_r2_worked_by_hand():
    """A code that is x, decoded as (x, y) and as (x, x): half and all of the variance."""
    held = np.indices((20, 20)).sum(axis=0).ravel() % 2 == 1
    x = LATTICE[:, :1]
    targets = jnp.stack([LATTICE, jnp.concatenate([x, x], axis=1)], axis=1)
    r2 = layers.held_out_r2(x, targets, held=held)
    np.testing.assert_allclose(r2, [0.5, 1], atol=0.02)
    np.testing.assert_allclose(layers.held_out_r2(0 * x, targets, held=held), 0, atol=1e-6)


def test_layers_that_know_the_noise_hold_the_future_of_a_sample():
    """Outputs are noise; the first layer is the place, the second the noise, for two atoms."""

    def noise(states, key):
        return jax.random.normal(key, (len(states), 2, 2))

    def hidden(states, key, num_inner):
        place = jnp.broadcast_to(states[:, None], (len(states), 2, 2))
        return place, noise(states, key)

    def samples(states, key, num_inner):
        return noise(states, key)[:, :, None]

    model, made = dsm.Predictor(samples, hidden, None), {"lattice": LATTICE, "sources": LATTICE}
    place, future = layers.place_and_future(model, made, jax.random.key(0), decode=lambda r: r)
    assert place.shape == (4, 2)
    np.testing.assert_allclose(place[:2], 1, atol=1e-3)
    np.testing.assert_allclose(future[2:], 1, atol=1e-3)
    assert np.max(place[2:]) < 0.05
    assert np.max(future[:2]) < 0.05


def test_the_information_of_a_layer_is_that_of_its_maps_above_their_lowest():
    """Activity 3 in a quarter of the places and 1 elsewhere: log2(4) bits."""
    quarter = np.full((400, 1, 1), 1.0)
    quarter[:100] = 3.0
    made = data() | {"positions": data()["positions"][:50], "states": data()["states"][:50]}
    made["last"] = made["last"][:50]

    def samples(states, key, num_inner):
        return jnp.broadcast_to(states[:, None, None], (len(states), 1, num_inner, 50))

    model = dsm.Predictor(samples, lambda states, key, num_inner: (states[:, None],), None)
    scalars, readout = layers.evaluate_layers(
        model,
        made,
        jax.random.key(0),
        maps=(jnp.asarray(quarter),) * 3,
        decode=lambda rates: rates[:, :2],
    )
    np.testing.assert_allclose(readout["layer_information"], 2, rtol=1e-5)
    # Each layer repeats the state here.
    np.testing.assert_allclose(scalars["hidden_place_r2"], scalars["cells_place_r2"], rtol=1e-4)
    assert scalars["cells_place_r2"] > 0.95


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
