from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hfjax.models import grid_module
from tests.contract import check_figures
from tests.test_figures import drawn, texts


def module_of_grid_cells(spacing_m=0.8, orientation=0.2, num_units=80, num_bins=20):
    """Maps of ideal grid cells, and weights that depend on the difference of their phases."""
    rng = np.random.default_rng(0)
    angles = orientation + np.pi / 6 + np.arange(3) * np.pi / 3
    k = 4 * np.pi / np.sqrt(3) / spacing_m * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    phases = rng.uniform(-np.pi, np.pi, (num_units, 2))
    phases = np.column_stack([phases, phases[:, 1] - phases[:, 0]])
    middles = 2.2 * ((np.arange(num_bins) + 0.5) / num_bins - 0.5)
    x = np.stack(np.meshgrid(middles, middles, indexing="ij"), axis=-1)
    maps = np.cos(x @ k.T - phases[:, None, None, :]).sum(axis=-1)
    weights = np.cos(phases[:, None, :] - phases[None, :, :]).sum(axis=-1)
    return maps, weights, phases


def test_torus_finds_the_lattice_the_phases_and_the_attractor():
    maps, weights, phases = module_of_grid_cells()
    rng = np.random.default_rng(1)
    # Twenty units that are no grid cells, though a scorer took half of them for some.
    maps = np.concatenate([maps, rng.normal(size=(20, 20, 20))])
    weights = np.pad(weights, (0, 20)) + 0.1 * rng.normal(size=(100, 100)) + 5
    score = np.where(np.arange(100) < 90, 1.0, 0.0)
    torus = jax.jit(partial(grid_module.torus, width_m=2.2))
    actual = torus(*(jnp.float32(a) for a in (maps, score, weights)))

    np.testing.assert_array_equal(actual["module"], np.arange(100) < 80)
    assert actual["module_spacing_m"] == pytest.approx(0.8, rel=0.04)
    assert np.cos(6 * (actual["module_orientation_rad"] - 0.2)) > np.cos(6 * 0.06)
    error = np.asarray(actual["module_phases"])[:80] - phases[:80, :2]
    assert np.median(np.abs(np.angle(np.exp(1j * error)))) < 0.15
    np.testing.assert_array_equal(actual["module_phases"][80:], 0)
    power = np.asarray(actual["module_power"])
    assert power.sum() == pytest.approx(1, rel=1e-5)
    modes = [(1, 0), (-1, 0), (0, 1), (0, -1), (1, -1), (-1, 1)]
    assert sum(power[3 + m, 3 + n] for m, n in modes) > 0.9
    # The strongest weights are those between units of equal phase.
    assert np.unravel_index(actual["module_weights"].argmax(), (24, 24)) == (0, 0)
    # Six components hold the maps of a grid module: cos and sin of three waves.
    assert actual["component_share"].sum() == pytest.approx(1, rel=1e-4)

    shuffled = rng.permutation(80)
    weights[:80, :80] = weights[:80, :80][shuffled]
    power = np.asarray(torus(*(jnp.float32(a) for a in (maps, score, weights)))["module_power"])
    assert sum(power[3 + m, 3 + n] for m, n in modes) < 0.6


def test_torus_without_grid_cells_or_weights():
    maps, _, _ = module_of_grid_cells(num_units=10)
    actual = jax.jit(lambda m, s: grid_module.torus(m, s, None, width_m=2.2))(
        jnp.float32(maps), jnp.zeros(10)
    )
    assert not actual["module"].any()
    assert "module_power" not in actual
    assert all(np.isfinite(x).all() for x in actual.values())
    # Ideal grid maps: six components hold everything.
    np.testing.assert_allclose(np.sum(actual["component_share"][:6]), 1, rtol=1e-4)


def structure(module_size):
    rng = np.random.default_rng(1)
    module = np.arange(30) < module_size
    power = np.zeros((7, 7))
    for m, n in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, -1), (-1, 1)):
        power[3 + m, 3 + n] = 0.1
    return {
        "component_share": np.full(100, 0.01),
        "lattice_spacings_m": np.linspace(0.4, 1.6, 28),
        "lattice_share": rng.uniform(size=28),
        "module": module,
        "module_spacing_m": np.array(0.7),
        "module_orientation_rad": np.array(0.5),
        "module_phases": rng.uniform(-3, 3, size=(30, 2)),
        "population_phase": rng.normal(size=(3, 5, 5, 2)),
        "population_wave": rng.normal(size=(3, 5, 5)),
        "module_power": power,
        "module_weights": rng.normal(size=(24, 24)),
        "grid_score_60": rng.uniform(size=30),
    }


def test_low_dimensional_structure_of_a_module():
    figure = drawn(grid_module.draw(structure(12)))
    assert "its module: 12 of 30 units" in texts(figure)
    assert "six circled modes: 60 %" in texts(figure)
    check_figures({"low_dimensional_structure": figure})


def test_low_dimensional_structure_without_a_module_says_so():
    figure = drawn(grid_module.draw(structure(9)))
    assert "only 9 of 30 units" in texts(figure)
    assert len(figure.axes) == 2


def test_low_dimensional_structure_without_recurrent_weights():
    readout = structure(12)
    del readout["module_power"], readout["module_weights"]
    assert "on the torus" in texts(drawn(grid_module.draw(readout)))


def test_a_population_decomposes_one_matrix_at_a_time():
    """Batches of decompositions that run at once wait for each other's threads for ever."""
    torus = partial(grid_module.torus, width_m=2.2)
    arrays = jnp.ones((3, 4, 6, 6)), jnp.ones((3, 4)), jnp.ones((3, 4, 4))
    program = jax.jit(jax.vmap(torus)).lower(*arrays).as_text()
    decomposed = [line for line in program.splitlines() if "lapack_ssyevd_ffi" in line]
    assert decomposed
    assert all("tensor<36x36xf32>" in line and "tensor<3x" not in line for line in decomposed)
