"""Scores and significance of recorded cells, and what `python -m hfjax.data.recordings` writes."""

import csv
import json
import shutil
import types

import jax
import numpy as np
import pytest
import small_recordings as small
from rich.console import Console

from hfjax import ratemaps
from hfjax.data import recordings
from hfjax.data.recordings import __main__ as command
from hfjax.data.recordings import report, scoring, sheets
from tests.contract import check_figures

# The columns that the issue of real recordings names, in its order.
FIRST = [
    *("name", "num_spikes", "mean_rate_hz", "peak_rate_hz", "grid_score", "grid_score_p"),
    *("grid_spacing_m", "border_score", "border_score_p", "head_direction_length"),
    *("head_direction_p", "information_bits_per_spike", "information_p"),
]
UNITS = ("grid", "border", "direction", "uniform", "silent")


@pytest.fixture(scope="module")
def session():
    """Eight minutes of cells whose tuning is known."""
    times, places, headings = small.walk(minutes=8.0)
    wall = 15 * np.exp(-(places[:, 0] ** 2) / (2 * 0.08**2))
    rates = {
        "grid": small.grid_rate(places),
        "border": wall,
        "direction": 12 * np.exp(2 * (np.cos(headings - 1.0) - 1)),
        "uniform": np.full(len(times), 3.0),
        "silent": np.zeros(len(times)),
    }
    spikes = {n: small.poisson(times, rate, seed=i) for i, (n, rate) in enumerate(rates.items())}
    return recordings.from_arrays(
        name="rat", times=times, positions=places, head_direction=headings, spike_times=spikes
    )


@pytest.fixture(scope="module")
def scored(session):
    return recordings.score(recordings.clean(session), bin_width_m=0.04, num_shuffles=199)


def test_each_cell_is_found_by_its_own_score_only(scored):
    p = {name: dict(zip(UNITS, scored.columns[name], strict=True)) for name in scored.columns}
    assert scored.cleaned.units == UNITS
    assert p["grid_score_p"]["grid"] == 1 / 200
    assert p["border_score_p"]["border"] < 0.02
    assert p["head_direction_p"]["direction"] == 1 / 200
    for unit in ("grid", "border"):
        assert p["information_p"][unit] == 1 / 200
    for column in ("grid_score_p", "border_score_p", "head_direction_p", "information_p"):
        assert p[column]["uniform"] > 0.02
        assert np.isnan(p[column]["silent"])
    assert not p["grid_score_p"]["border"] < 0.02  # a field along a whole wall may have no score
    assert p["head_direction_p"]["grid"] > 0.02


def test_the_table_has_the_known_values(scored, session):
    table = {name: dict(zip(UNITS, v, strict=True)) for name, v in scored.columns.items()}
    for unit, spikes in session.spike_times_s.items():
        assert table["num_spikes"][unit] == len(spikes)
        assert table["mean_rate_hz"][unit] == pytest.approx(len(spikes) / 480)
    assert table["grid_spacing_m"]["grid"] == pytest.approx(0.4, rel=0.03)
    turn = table["grid_orientation_deg"]["grid"] - np.rad2deg(0.2)
    assert (turn + 30) % 60 - 30 == pytest.approx(30, abs=3) or abs(turn % 60 - 30) < 3
    assert abs(table["head_direction_deg"]["direction"] - np.rad2deg(1.0)) < 5
    # The mean vector length of exp(2 cos) is I_1(2) / I_0(2) = .6978.
    assert table["head_direction_length"]["direction"] == pytest.approx(0.698, abs=0.03)
    assert table["peak_rate_hz"]["silent"] == 0
    # 20 Hz at the peaks, less by smoothing with 4.5 cm at a spacing of 40 cm, more by noise.
    assert 13 < table["peak_rate_hz"]["grid"] < 22


def test_the_program_that_recordings_share_gives_the_values_of_a_single_one(scored):
    cleaned, shape = scored.cleaned, scored.maps.shape[1:]
    assert shape == (30, 20)  # the program has 32 x 24 bins

    @jax.jit
    def alone(samples, positions, halves):
        bins = ratemaps.position_bins(positions, num_bins=shape, extent=scored.extent_m)
        time = ratemaps.occupancy(bins, cleaned.dt_s, num_bins=shape)
        spikes = ratemaps.spike_maps(samples, bins, num_bins=shape)
        maps = ratemaps.firing_rate_maps(spikes, time, sigma_bins=0.045 / 0.04)
        return {
            "maps": maps,
            "correlograms": ratemaps.recording_autocorrelograms(maps),
            "grid_score": ratemaps.recording_grid_scores(maps).score,
            "border_score": ratemaps.border_scores(maps, bin_width_m=0.04).score,
            "information_bits_per_spike": ratemaps.spatial_information(maps, time).bits_per_spike,
            "stability_halves": ratemaps.stability(
                samples, bins, halves, cleaned.dt_s, num_bins=shape, sigma_bins=0.045 / 0.04
            ),
        }

    out = alone(
        ratemaps.samples_of_counts(cleaned.counts),
        cleaned.positions_m.astype(np.float32),
        ratemaps.first_half(cleaned.times_s),
    )
    np.testing.assert_allclose(scored.maps, out.pop("maps"), rtol=1e-4, atol=1e-5)
    # At the faint flanks of a border cell float32 keeps two digits, and rounding decides whether a
    # shift on the very limit of what is too faint has a value.
    correlograms = scored.correlograms, np.asarray(out.pop("correlograms"))
    valued = [np.isfinite(a) for a in correlograms]
    assert np.mean(valued[0] != valued[1]) < 1e-3
    both = valued[0] & valued[1]
    np.testing.assert_allclose(*(a[both] for a in correlograms), atol=0.03)
    for name, values in out.items():
        np.testing.assert_allclose(scored.columns[name][:4], values[:4], atol=1e-3)


def test_shuffles_depend_on_the_seed_alone(session, scored):
    def columns(seed):
        cleaned = recordings.clean(session)
        return recordings.score(cleaned, bin_width_m=0.04, num_shuffles=199, seed=seed).columns

    again, other = columns(0), columns(1)
    for name, values in scored.columns.items():
        np.testing.assert_array_equal(values, again[name])
    one, another = (c["grid_score_percentile_95"][:4] for c in (again, other))
    assert not np.any(one == another)
    np.testing.assert_array_equal(other["grid_score"], again["grid_score"])


def test_settings_out_of_range_are_refused(session):
    cleaned = recordings.clean(session)
    with pytest.raises(ValueError, match="bin_width_m must be positive"):
        recordings.score(cleaned, bin_width_m=0)
    with pytest.raises(ValueError, match="at most half the recording"):
        recordings.score(cleaned, bin_width_m=0.04, min_shift_s=300)


def test_kinds_of_cells():
    low, high = 0.001, 0.5
    p = {
        "grid_score_p": np.array([low, high, high, np.nan, high]),
        "border_score_p": np.array([high, low, high, np.nan, 0.01]),
        "head_direction_p": np.array([high, high, low, np.nan, high]),
        "information_p": np.array([low, low, low, np.nan, low]),
    }
    found = {kind: np.flatnonzero(of).tolist() for kind, of in scoring.kinds(p).items()}
    assert found == {
        "grid": [0],
        "border": [1],
        "head-direction": [2],
        "spatial": [0, 1, 2, 4],
        "place": [2, 4],
    }


def test_further_columns_tell_cells_apart(scored):
    table = {name: dict(zip(UNITS, v, strict=True)) for name, v in scored.columns.items()}
    assert table["sparsity"]["border"] < table["sparsity"]["grid"] < table["sparsity"]["uniform"]
    for column in ("stability_halves", "stability_minutes", "coherence"):
        assert table[column]["grid"] > table[column]["uniform"] + 0.2
        assert np.isnan(table[column]["silent"])
    assert table["num_fields"]["grid"] >= 5
    assert table["num_fields"]["silent"] == 0
    assert np.isnan(table["largest_field_m2"]["silent"])
    # A field above a fifth of the peak is a disc of about half a spacing: pi (.1 m)^2.
    assert 0.02 < table["largest_field_m2"]["grid"] < 0.08
    assert table["head_direction_rayleigh_p"]["direction"] < 1e-9
    assert abs(table["speed_score"]["uniform"]) < 0.05  # the animal runs at one speed
    assert abs(table["theta_contrast"]["uniform"]) < 0.1


# --- The command ---


@pytest.fixture(scope="module")
def files(session, tmp_path_factory):
    """A folder with two recordings, one of which cannot be used, and a folder for the output."""
    folder = tmp_path_factory.mktemp("sessions")
    np.savez(
        folder / "rat.npz",
        t=session.times_s,
        pos=session.positions_m,
        head_direction=session.head_direction,
        counts=recordings.clean(session).counts,
        unit_names=UNITS,
    )
    np.savez(folder / "lost.npz", t=session.times_s, pos=np.full((12_000, 2), np.nan), counts=[])
    return folder


def test_the_command_writes_a_table_and_a_sheet_for_each_cell(files, tmp_path, capsys):
    out = tmp_path / "cells"
    code = command.main([str(files), f"--out={out}", "--bin_width_m=0.04", "--num_shuffles=199"])
    printed = capsys.readouterr()
    assert code == 2
    assert printed.err == "hfjax: counts of lost must be [sample, unit], but are (0,)\n".replace(
        "lost", str(files / "lost.npz")
    )
    with (out / "cells.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [name for name in rows[0] if name in FIRST] == FIRST
    assert [row["name"] for row in rows] == list(UNITS)
    by_name = {row["name"]: row for row in rows}
    assert float(by_name["grid"]["grid_score_p"]) == 0.005
    assert {path.name for path in out.rglob("*.png")} == {
        "overview.png",
        *(f"rat_{row['name']}.png" for row in rows),
    }
    settings = json.loads((out / "settings.json").read_text())
    assert settings["choices"]["bin_width_m"] == 0.04
    assert settings["given"] == {"bin_width_m": 0.04, "num_shuffles": 199}
    assert settings["choices"]["min_speed_mps"] == 0.025
    assert settings["recordings"]["rat"]["minutes"] == 8
    assert "5 cells in 1 recordings of 8 minutes" in printed.out
    assert "1 of 5 are grid cells at p < .01" in printed.out
    assert "1 of 5 are head-direction cells at p < .01" in printed.out


def test_recordings_of_the_same_name_are_told_apart(files, tmp_path, monkeypatch):
    paths = [tmp_path / rat / "day1.npz" for rat in ("a", "b")]
    for path in paths:
        path.parent.mkdir()
        shutil.copy(files / "rat.npz", path)
    monkeypatch.setattr(
        command, "score", lambda cleaned: types.SimpleNamespace(maps=[0], of=cleaned)
    )
    scored, refused = command._scored(paths, {}, command._progress(Console()))
    assert [one.of.name for one in scored] == ["a_day1", "b_day1"]
    assert not refused


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["nowhere.npz"], "there is no file nowhere.npz"),
        ([], "contains no recordings"),
        (["rat.npz", "--num_shuffles=0"], "num_shuffles must be at least 1"),
        (["rat.npz", "--position_unit_m=-1"], "position_unit_m must be positive"),
        (["rat.npz", "--epochs_s=900:1000"], "contains no sample of rat"),
    ],
)
def test_the_command_refuses_in_one_sentence(arguments, match, files, tmp_path, capsys):
    paths = [str(files / a) if a == "rat.npz" else a for a in arguments] or [str(tmp_path)]
    assert command.main([*paths, f"--out={tmp_path / 'out'}"]) == 2
    err = capsys.readouterr().err
    assert match in err
    assert err.count("\n") == 1
    assert not list((tmp_path / "out").rglob("*"))
    assert (tmp_path / "out").exists() == (arguments != [] and arguments != ["nowhere.npz"])


@pytest.mark.parametrize(
    ("argument", "match"),
    [
        ("--min_sped_mps=0.1", "--min_sped_mps is no flag; did you mean '--min_speed_mps'?"),
        ("--num_shuffles=many", "argument --num_shuffles: invalid int value: 'many'"),
    ],
)
def test_a_mistyped_flag_is_told_in_one_sentence(argument, match, capsys):
    with pytest.raises(SystemExit) as stopped:
        command.main(["rat.npz", argument])
    assert stopped.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith(f"hfjax: {match}")
    assert err.count("\n") == 1


def test_help_explains_every_setting(capsys):
    with pytest.raises(SystemExit):
        command.main(["--help"])
    text = capsys.readouterr().out
    for line in text.split("options:")[1].split("\n  --")[1:]:
        assert len(line.split(maxsplit=2)) == 3, line
    assert "least speed that is analysed (m/s); 0 for" in text


def test_a_cell_with_a_problem_is_told_in_the_table_and_on_its_sheet(scored):
    rows = list(csv.DictReader(report.table([scored]).splitlines()))
    assert [row["problems"] for row in rows] == ["", "", "", "", "unit silent has no spikes"]
    assert rows[4]["grid_score"] == ""
    figure = sheets.cell_sheet(scored, 4)
    assert "unit silent has no spikes" in figure.get_suptitle()
    figure.draw_without_rendering()
    check_figures({"sheet": figure, "grid": sheets.cell_sheet(scored, 0)})
    assert report.summary([scored])[-1] == "unit silent has no spikes"
