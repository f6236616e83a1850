"""The autoencoder: its latents, the autocorrelation, and learning beside the published losses."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hfjax import theta
from hfjax.models import helmholtz as model
from hfjax.models.helmholtz import Modes, Source, autoencoder
from tests.contract import check_figures
from tests.helmholtz_reference import DT_S, small_autoencoder


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def test_a_block_of_latents_equals_sampling_one_value_after_the_other():
    settings = {"time_scale_s": 0.5, "dt_s": DT_S}
    a, std = model.gaussian_process_coefficients(**settings)
    M, R = model.gaussian_process_block(**settings, num_steps=80)
    rng = np.random.default_rng(0)
    xi, values = rng.normal(size=80), list(rng.normal(size=len(a)))
    past = np.array(values)
    for draw in xi:
        values.append(a @ values[-len(a) :] + std * draw)
    np.testing.assert_allclose(M @ past + R @ xi, values[len(a) :], atol=1e-9)


def test_latents_have_the_covariance_of_their_kernel():
    # The recursion leaves out what is more than three time scales ago, which adds some 10 % of
    # variance (1.07 of standard deviation, measured by running the original's sampler).
    world = model.latents(num_latents=2000, time_scale_s=0.5, dt_s=DT_S)
    block = jax.jit(world.block, static_argnums=2)
    past, _, _ = block(world.start(jax.random.key(0)), jax.random.key(1), 400)
    _, sources, others = block(past, jax.random.key(2), 40)
    x = np.asarray(sources["latents"])
    np.testing.assert_array_equal(x, others["latents"])
    lag = np.arange(40) * DT_S
    correlation = [np.mean(x[0] * x[i]) / np.mean(x[0] ** 2) for i in range(40)]
    # 2000 samples: a standard error of at most 0.03, and the forgetting.
    np.testing.assert_allclose(correlation, np.exp(-(lag**2) / (2 * 0.5**2)), atol=0.1)
    assert np.std(x) == pytest.approx(1.07, abs=0.05)


def test_autocorrelation_equals_numpys():
    x = np.random.default_rng(0).normal(size=(50, 3)).cumsum(axis=0)
    correlations = model.autocorrelation(jnp.asarray(x), num_lags=20)
    for lag in (0, 1, 19):
        expected = [np.corrcoef(x[lag:, i], x[: 50 - lag, i])[0, 1] for i in range(3)]
        np.testing.assert_allclose(correlations[lag], expected, atol=1e-9)


@pytest.mark.slow
def test_thirty_minutes_of_learning_match_the_published_losses():
    # Published, one seed: HPC .217 and EC .067 after learning, .735 and .501 before in inference.
    with jax.enable_x64(False):
        task = model.task()
        keys = jax.random.split(jax.random.key(0), 8)
        state = jax.jit(jax.vmap(task.init, (0, None)))(keys, ())
        train = jax.jit(lambda s, k: jax.lax.scan(lambda s, k: task.step(s, (), k), s, k))
        evaluate = jax.jit(jax.vmap(task.evaluate, (0, None, 0)))
        before, _ = evaluate(state, (), keys)
        state, scalars = jax.vmap(train)(state, jax.vmap(lambda k: jax.random.split(k, 180))(keys))
        after, readout = evaluate(state, (), keys)
    # Medians of 64 seeds lie at .26 and .065, quartiles at .21 and .30, .064 and .067.
    assert 0.18 < np.median(scalars["HPC_loss"][:, -1]) < 0.33
    assert 0.06 < np.median(scalars["EC_loss"][:, -1]) < 0.072
    for name in ("inference_HPC_loss", "inference_EC_loss", "alternating_HPC_loss"):
        assert np.median(after[name]) < np.median(before[name]) / 2, name
    # Generated activity takes on the time scale of the latents, in most seeds.
    assert np.median(after["autocorrelation_distance"]) < np.median(
        before["autocorrelation_distance"]
    )
    figures = model.draw(jax.tree.map(lambda x: np.asarray(x[0]), readout))
    assert set(figures) == {
        *(f"rates_{mode}" for mode in model.MODES),
        *("autocorrelation", "before_and_after", "prediction"),
    }
    check_figures(figures)
    # The circuits that have not learned are as bad as those before learning, and published so.
    for name in ("inference_HPC_loss", "inference_EC_loss"):
        assert np.median(after[f"untrained_{name}"]) == pytest.approx(
            np.median(before[name]), rel=0.4
        )
        assert np.median(after[name]) < np.median(after[f"untrained_{name}"]) / 2
    # The prediction lies over the stimulus, as in figure 2c.
    stimulus, prediction = (
        np.asarray(readout[f"inference/HPC/{part}"][0]) for part in ("basal", "apical")
    )
    r = [np.corrcoef(a, b)[0, 1] for a, b in zip(stimulus.T, prediction.T, strict=True)]
    assert np.median(r) > 0.8
    headings = [ax.get_title(loc="left") for ax in figures["prediction"].axes]
    assert headings == [f"unit {i + 1}: correlation {x:.2f}" for i, x in enumerate(r)]
    # The control has not learned: what it generates has no memory.
    at_1s = round(1.0 / DT_S)
    untrained, trained = (
        np.median(readout[f"autocorrelation/{name}"][:, at_1s]) for name in ("EC_untrained", "EC")
    )
    assert untrained < trained - 0.2
    # Two seconds of alternating theta are drawn, with theta itself: ten cycles of 5 Hz.
    top, *_ = figures["rates_alternating"].axes
    assert top.get_ylabel() == "theta"
    assert len(top.lines[0].get_xdata()) == round(2 / DT_S)
    assert np.sum(np.abs(np.diff(top.lines[0].get_ydata()))) == pytest.approx(20, abs=1)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"gate": functools.partial(theta.square, fraction=1.5)}, "between 0 and 1, but is 1.5"),
        ({"circuit": small_autoencoder()}, r"num_latents \(5\) units, but has {'latents': 3}"),
        ({"correlate_s": 100.0}, "correlate_s must be at most modes.mode_s"),
        ({"max_lag_s": 50.0}, "max_lag_s must be below correlate_s"),
        ({"block_s": 0.0}, r"block_s must be at least dt_s \(0.025\), but is 0.0"),
        ({"circuit": (Source("latents", 5),)}, "needs a pyramidal layer 'HPC', but has"),
        ({"time_scale_s": float("nan")}, "time_scale_s must be at least dt_s"),
        ({"time_scale_s": 0.01}, "time_scale_s must be at least dt_s"),
        ({"modes": Modes(num_shown=0)}, "num_shown must be at least 1"),
    ],
)
def test_an_impossible_task_is_refused(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        model.task(**settings)


def test_each_latent_can_have_its_time_scale():
    both = autoencoder.latents(num_latents=2, time_scale_s=(0.2, 0.5), dt_s=0.025)
    key = jax.random.key(0)
    past, _, latents = both.block(both.start(key), key, 60)
    _, _, later = both.block(past, jax.random.key(1), 60)
    for index, scale in enumerate((0.2, 0.5)):
        # The same draws, in a world of this time scale alone.
        alone = autoencoder.latents(num_latents=2, time_scale_s=scale, dt_s=0.025)
        past, _, expected = alone.block(alone.start(key), key, 60)
        _, _, expected_later = alone.block(past, jax.random.key(1), 60)
        for actual, known in ((latents, expected), (later, expected_later)):
            np.testing.assert_allclose(
                actual["latents"][:, index], known["latents"][:, index], rtol=1e-4, atol=1e-5
            )
    with pytest.raises(ValueError, match=r"one number or num_latents \(2\), but has 3"):
        autoencoder.latents(num_latents=2, time_scale_s=(1.0, 1.0, 1.0), dt_s=0.025)
