"""Figures of returns and of sampled states, drawn from arrays made by hand."""

import jax
import jax.numpy as jnp
import numpy as np

from hfjax import envs
from hfjax.models import dsm
from hfjax.models.dsm import returns
from tests.contract import check_figures

SOURCES = np.array([[0.0, 0.0], [2.0, -2.0]])


def readout(num_rewards):
    """Two sources, three atoms; a third of the samples of the second source lies outside."""
    rng = np.random.default_rng(0)
    shown = rng.uniform(-4, 4, size=(2, 3, 8, 2))
    shown[1, 0] = 7.0
    return {
        "returns": np.broadcast_to([1.0, 2.0, 4.0], (2, num_rewards, 3)),
        "mc_returns": rng.normal(size=(2, num_rewards, 50)),
        "shown": shown,
        "shown_rewards": rng.normal(size=(num_rewards, 3, 8)),
        "shown_sources": SOURCES,
        "shown_futures": rng.uniform(-4, 4, size=(2, 20, 2)),
        "shown_extent": np.array([[-5.0, 5.0], [-5.0, 5.0]]),
    }


def test_figures_of_the_windy_grid():
    drawn = dsm.draw_windy(readout(1))
    check_figures(drawn)
    first, second = (ax for ax in drawn["samples"].axes if ax.has_data())
    assert (first.get_xlim(), first.get_ylim()) == (second.get_xlim(), second.get_ylim())
    assert first.get_aspect() == second.get_aspect() == 1
    assert second.get_title() == "source (2, -2)\n33.3 % of samples beyond the frame"
    assert "%" not in first.get_title()


def test_the_distribution_function_of_atoms_steps_at_each_atom():
    left, right = dsm.draw_windy(readout(1))["cdf"].axes
    atoms = next(line for line in left.lines if line.get_label() == "model")
    assert atoms.get_drawstyle() == "steps-post"
    x, share = atoms.get_xdata(), atoms.get_ydata()
    np.testing.assert_allclose(x[1:4], [1, 2, 4])
    np.testing.assert_allclose(share, [0, 1 / 3, 2 / 3, 1, 1])
    assert left.get_xlim() == right.get_xlim() == (x[0], x[-1])


def test_figures_of_the_pendulum_have_a_row_for_each_reward():
    drawn = dsm.draw_pendulum(readout(len(envs.PENDULUM_REWARDS)))
    check_figures(drawn)
    rows = [ax.get_ylabel() for ax in drawn["histogram"].axes if ax.get_ylabel()]
    assert rows == [name.replace(" ", "\n") for name in envs.PENDULUM_REWARDS]
    assert drawn["cdf"].axes[1].get_title() == "angle 2 rad\nvelocity -2 rad/s"


def test_rewards_of_the_middle_source_stand_in_the_order_of_the_atoms_returns():
    made = readout(len(envs.PENDULUM_REWARDS))
    made["returns"] = np.broadcast_to([4.0, 1.0, 2.0], (2, len(envs.PENDULUM_REWARDS), 3))
    figure = dsm.draw_pendulum(made)["rewards"]
    assert "angle 2, velocity -2" in figure.get_suptitle()
    samples, atoms, _ = figure.axes[1].lines
    np.testing.assert_allclose(atoms.get_ydata(), [1, 2, 4])
    expected = made["shown_rewards"][1][[1, 2, 0]]
    np.testing.assert_allclose(samples.get_ydata().reshape(3, 8), expected)
    del made["shown_rewards"]  # of an older version
    assert "rewards" not in dsm.draw_pendulum(made)


def test_coordinates_of_the_car_have_no_unit():
    drawn = returns.draw_car(readout(len(envs.CAR_REWARDS)))
    check_figures(drawn)
    assert drawn["cdf"].axes[1].get_title() == "position 2\nvelocity -2"


def test_histograms_of_a_row_share_an_axis_that_holds_all_bars_above_the_atoms():
    made = readout(len(envs.PENDULUM_REWARDS))
    made["mc_returns"][0, 0] = made["mc_returns"][0, 0].mean()  # one bin holds all of a panel
    for row in np.reshape(dsm.draw_pendulum(made)["histogram"].axes, (-1, 2)):
        limits = {ax.get_ylim() for ax in row}
        assert len(limits) == 1
        ((low, top),) = limits
        bars = [bar.get_height() for ax in row for bar in ax.patches]
        assert max(bars) <= top
        for ax in row:
            assert ax.get_yticks().min() == 0
            transform = ax.get_xaxis_transform()
            (atoms,) = ax.collections
            heights = [path.vertices[:, 1].max() for path in atoms.get_paths()]
            assert transform.transform((0, max(heights)))[1] < ax.transData.transform((0, 0))[1]
            assert low < 0


def test_futures_are_later_states_of_the_same_episode_near_the_source():
    # Two episodes along lines: y = 0 upwards in x, and y = 1 downwards.
    x = np.arange(200.0)
    states = np.concatenate([np.stack([x, 0 * x], 1), np.stack([199 - x, 0 * x + 1], 1)])
    last = np.isin(np.arange(400), (199, 399))
    futures = returns.futures(
        jnp.asarray(states),
        jnp.asarray(last),
        jnp.array([[100.0, 0.0], [100.0, 1.0]]),
        jax.random.key(0),
        gamma=0.5,
    )
    np.testing.assert_array_equal(futures["shown_extent"], [[0, 199], [0, 1]])
    up, down = np.asarray(futures["shown_futures"])
    # The nearest are all on the line of their source: every tenth state of the data is 20 a line,
    # and 32 are taken, so that some are of the other line, which is last in the order of distance.
    assert np.mean(up[:200, 1] == 0) == np.mean(down[:200, 1] == 1) == 1
    starts = np.sort(np.abs(np.arange(0, 200, 10) - 100))
    assert np.all(np.abs(up[:30, 0] - 100) <= starts[2] + 20)
    assert np.all(up[:10, 0] > 100)  # later, not the source itself
    assert np.all(down[:10, 0] < 100)
