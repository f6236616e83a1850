"""Models beside cells: units along a rat's path, as spikes, through the recordings' pipeline."""

import csv
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
import small_recordings as small

from hfjax import compare
from hfjax.data import recordings
from hfjax.task import PATH
from hfjax.training import run as train
from tests.contract import check_figures

EXTENT = np.array([[-0.6, 0.6], [-0.6, 0.6]])  # of the model's box
TILTS = np.linspace(0, 1, 4)


@pytest.fixture(scope="module")
def path():
    times, places, headings = small.walk(minutes=8.0)
    centres = np.random.default_rng(3).uniform((0, 0), (1.2, 0.8), (4, 2))
    counts = {
        f"place{i}": np.random.default_rng(i).poisson(
            0.04 * 15 * np.exp(-((places - c) ** 2).sum(1) / (2 * 0.12**2))
        )
        for i, c in enumerate(centres)
    }
    return recordings.from_arrays(
        name="rat", times=times, positions=places, head_direction=headings, counts=counts
    )


def activity(positions):
    """Four grid cells [time, unit] in the model's box; the last is shifted below zero."""
    rates = np.stack([small.grid_rate(np.asarray(positions), tilt=t) for t in TILTS], axis=1)
    return rates - np.array([0, 0, 0, 5.0])


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Makes a trained run: its readout is a file, its task a stand-in."""

    def make(name, *, apply=None, dt_s=None, seeds=1, **readout):
        folder = tmp_path / name / "readout"
        folder.mkdir(parents=True)
        if not readout:
            line = -0.6 + 1.2 * (np.arange(40) + 0.5) / 40
            lattice = np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)
            readout = {
                "rate_maps": activity(lattice).T.reshape(4, 40, 40),
                "extent_m": EXTENT,
            }
        np.savez(folder / "000000010.npz", **readout)
        loaded = (
            SimpleNamespace(apply=apply, inputs=PATH, dt_s=dt_s),
            {},
            SimpleNamespace(seeds=seeds),
            (),
        )
        monkeypatch.setattr(train, "load", lambda workdir: loaded)
        return str(tmp_path / name)

    return make


def test_a_unit_is_driven_along_the_path_in_the_models_box(run):
    seen = []

    def apply(state, positions):
        seen.append(positions)
        return jnp.stack(
            [positions[:, 0], positions[:, 1], 0 * positions[:, 0], positions[:, 0]], 1
        )

    line = np.stack([np.linspace(1.0, 3.4, 50), np.linspace(0.0, 1.2, 50)], axis=1)
    rates, driven = compare.rates_along(run("a", apply=apply), line, dt_s=0.02, num_units=9, seed=0)
    assert driven == "path"
    assert rates.shape == (50, 4)
    # 2.4 m x 1.2 m become 1.2 m x .6 m around 0; what is below 0 is lifted.
    assert rates.min() == 0
    assert sorted(np.round(rates.max(axis=0), 5)) == [0, 0.6, 1.2, 1.2]
    rates, driven = compare.rates_along(run("b"), line, dt_s=0.02, num_units=2, seed=0)
    assert driven == "map"
    assert rates.shape == (50, 2)
    inside = np.stack([np.linspace(-0.6, 0.6, 50), np.linspace(-0.3, 0.3, 50)], axis=1)
    expected = activity(inside) - np.minimum(activity(inside).min(axis=0), 0)
    distance = np.abs(rates[:, :, None] - expected[:, None]).mean(axis=0).min(axis=1)
    assert distance.max() < 1.0  # of 20 Hz: the nearest bin is up to 2 cm away
    _, driven = compare.rates_along(
        run("c", apply=apply, seeds=3), line, dt_s=0.02, num_units=2, seed=0
    )
    assert driven == "map"  # the state of a population has one more axis


def test_a_path_has_the_models_time_step(run):
    def speed(state, positions):  # m a step
        steps = jnp.linalg.norm(jnp.diff(positions, axis=0, prepend=positions[:1]), axis=1)
        return jnp.stack([steps, positions[:, 0]], axis=1)

    line = np.stack([np.linspace(0, 1.2, 51), np.zeros(51)], axis=1)  # 1.2 m in one second
    workdir = run("a", apply=speed, dt_s=0.025)
    rates, _ = compare.rates_along(workdir, line, dt_s=0.02, num_units=2, seed=0)
    steps, places = rates[:, rates[-1].argsort()].T
    np.testing.assert_allclose(steps[2:], 1.2 * 0.025, rtol=1e-4)
    np.testing.assert_allclose(places, np.linspace(0, 1.2, 51), atol=1e-5)


def test_spikes_have_the_recorded_mean_rates():
    rates = np.abs(np.random.default_rng(0).normal(size=(20_000, 50)))
    rates[:, 7] = 0
    counts = compare.poisson_counts(rates, np.array([2.0, 8.0]), dt_s=0.02, seed=1)
    mean = counts.mean(axis=0) / 0.02
    assert mean[7] == 0
    near = np.abs(np.delete(mean, 7)[:, None] - [2.0, 8.0])
    assert near.min(axis=1).max() < 0.8  # five standard errors of 3200 spikes
    assert set(near.argmin(axis=1)) == {0, 1}
    correlation = np.corrcoef(rates[:, 0], counts[:, 0])[0, 1]
    assert correlation > 0.05


def test_spikes_of_a_model_score_less_than_its_rates(run, path):
    population = compare.modelled(
        run("grids"), path, np.array([1.0]), num_units=4, num_shuffles=49, seed=0
    )
    (scored,) = population.scored
    assert population.driven == "map"
    assert scored.cleaned.units == tuple(f"grids_00{i}" for i in range(4))
    assert (population.noiseless > 1.0).all()
    assert scored.columns["grid_score"].mean() < population.noiseless.mean()
    # In the model's box of 1.2 m, as in the rat's of 1.2 m x .8 m, spacing is .4 m.
    np.testing.assert_allclose(scored.columns["grid_spacing_m"], 0.4, rtol=0.08)
    line = compare.row(population, num_cells=4, seed=0)
    assert line["cells"] == 4
    assert line["median grid score without spikes"] > line["median grid score"]
    assert line["spacing / longer side"] == pytest.approx(
        line["spacing of grid cells (cm)"] / 120, rel=0.05
    ) or np.isnan(line["spacing / longer side"])


def test_position_is_decoded_from_place_cells(path):
    centres = np.stack(np.meshgrid(np.linspace(0, 1.2, 7), np.linspace(0, 0.8, 5)), -1)
    rates = 20 * np.exp(
        -((path.positions_m[:, None] - centres.reshape(-1, 2)) ** 2).sum(-1) / (2 * 0.12**2)
    )
    cleaned = recordings.clean(path)._replace(
        counts=np.random.default_rng(0).poisson(0.04 * rates), units=tuple(map(str, range(35)))
    )
    scored = SimpleNamespace(cleaned=cleaned)
    many = compare.decoding_errors_cm(scored, num_cells=35, seed=0)
    few = compare.decoding_errors_cm(scored, num_cells=5, seed=0)
    assert many["bayesian"] < 12
    assert many["bayesian"] < few["bayesian"] < few["mean position"] + 5
    assert many["ridge"] < many["mean position"]
    known = np.isfinite(cleaned.positions_m[:, 0])
    places = cleaned.positions_m[: len(known) // 5 * 5].reshape(-1, 5, 2)[:, 2]
    places = places[np.isfinite(places[:, 0])]
    split = int(0.8 * len(places))
    away = np.linalg.norm(places[split:] - places[:split].mean(axis=0), axis=1)
    assert many["mean position"] == pytest.approx(100 * away.mean(), rel=1e-4)


def test_the_command_writes_a_table_and_a_figure(run, path, tmp_path, capsys):
    folder = tmp_path / "recordings" / "ca1"
    folder.mkdir(parents=True)
    np.savez(
        folder / "rat.npz",
        t=path.times_s,
        pos=path.positions_m,
        head_direction=path.head_direction,
        counts=np.stack(list(path.counts.values()), axis=1),
    )
    out = tmp_path / "out"
    code = compare.main(
        [run("grids"), f"--recordings={folder.parent}", f"--out={out}", "--num_shuffles=49"]
    )
    assert code == 0, capsys.readouterr().err
    with (out / "table.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(r["population"], r["driven by"], r["cells"]) for r in rows] == [
        ("ca1", "recorded", "4"),
        ("grids", "map", "4"),
    ]
    assert rows[0]["median grid score without spikes"] == ""
    assert float(rows[0]["bayesian error_cm, 4 cells"]) > 0
    assert (out / "compare.png").stat().st_size > 10_000
    assert "ca1 (4 cells): " in capsys.readouterr().out


def test_the_figure_can_be_read(run, path):
    model = compare.modelled(
        run("grids"), path, np.array([5.0]), num_units=4, num_shuffles=49, seed=0
    )
    cells = model._replace(name="cells", driven="", noiseless=np.zeros(0))
    check_figures({"compare": compare.draw([cells, model])})


@pytest.mark.parametrize(
    ("readout", "match"),
    [
        ({"loss": np.zeros(3)}, "has no units with rate maps in two dimensions"),
        ({"rate_maps": np.zeros((3, 20)), "extent_m": EXTENT}, "has no units with rate maps"),
    ],
)
def test_a_run_without_spatial_units_is_refused(readout, match, run):
    with pytest.raises(ValueError, match=match):
        compare.rates_along(run("a", **readout), np.zeros((5, 2)), dt_s=1.0, num_units=3, seed=0)


def test_a_mistyped_flag_is_told_in_one_sentence(capsys):
    with pytest.raises(SystemExit, match="2"):
        compare.main(["run", "--recording=cells", "--ouput=here"])
    assert capsys.readouterr().err.startswith("hfjax: --ouput is no flag; did you mean '--out'?")


def test_a_folder_without_recordings_is_refused(run, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    code = compare.main([run("a"), f"--recordings={tmp_path / 'empty'}", f"--out={tmp_path / 'o'}"])
    assert code == 2
    assert "contains no recordings (npz or nwb)" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_a_run_that_is_not_there_is_told_before_any_cell_is_scored(
    path, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(recordings, "score", lambda *a, **k: pytest.fail("scored a cell"))
    monkeypatch.setattr(compare, "_recordings", lambda folder: {"cells": [path]})
    code = compare.main([str(tmp_path / "none"), f"--recordings={tmp_path}", f"--out={tmp_path}"])
    assert code == 2
    assert "none holds no run" in capsys.readouterr().err
