"""Leaky layers."""

import jax.numpy as jnp
import numpy as np
import pytest

from hfjax.models import biohsic


def dense(kernel, bias):
    return {"params": {"Dense_0": {"kernel": jnp.array(kernel), "bias": jnp.array(bias)}}}


def test_a_leaky_layer_goes_a_fifth_of_its_way_in_a_millisecond():
    layers = biohsic.lif_mlp(hidden=(2,), dt_s=1e-3, tau_s=5e-3)(1)
    params = dense([[1.0, -1.0]], [0.5, 0.0]), dense([[1.0], [2.0]], [0.0])
    u = (jnp.array([[1.0, 2.0]]), jnp.array([[-3.0]]))
    (z, outputs), (u_1, u_2) = biohsic.forward(layers, params, u, jnp.array([[3.0]]))
    # Drives 3.5 and -3: 1 + 0.2 * 2.5 = 1.5 and 2 - 0.2 * 5 = 1; the norm makes them +1 and -1.
    np.testing.assert_allclose(u_1, [[1.5, 1.0]], rtol=1e-6)
    np.testing.assert_allclose(z, [[1, -1]], rtol=1e-4)
    np.testing.assert_allclose(u_2, [[-3 + 0.2 * (1 - 2 + 3)]], rtol=1e-4)
    np.testing.assert_array_equal(outputs, u_2)


def test_leaky_layers_rest_at_zero():
    states = biohsic.at_rest(biohsic.lif_mlp(hidden=(5, 4))(3), 7)
    assert [u.shape for u in states] == [(7, 5), (7, 4), (7, 3)]
    assert not any(np.any(u) for u in states)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden": (0,)}, r"hidden\[0\] must be at least 1"),
        ({"tau_s": 0.0}, "tau_s must be positive"),
        ({"dt_s": 1.0}, "dt_s must be at most tau_s"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        biohsic.lif_mlp(**settings)
