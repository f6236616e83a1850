"""Working memory: which samples a window holds."""

import jax.numpy as jnp
import numpy as np
import pytest

from hfjax.models import biohsic


@pytest.mark.parametrize("memory", [biohsic.ring_buffer, biohsic.sliding_windows])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_memory_holds_the_window_oldest_first(memory, stride):
    samples = biohsic.Samples(jnp.arange(10) * 10, jnp.eye(10))
    kept, order = memory(window=4, stride=stride), jnp.array([3, 1, 4, 0, 5, 9, 8, 2, 6, 7])
    contents = kept.start(kept.init(samples), samples, order, 0)
    for i in range(6 // stride + 1):
        contents, window = kept.recall(contents, samples, order, i)
        np.testing.assert_array_equal(window.inputs, 10 * order[i * stride : i * stride + 4])
        np.testing.assert_array_equal(jnp.argmax(window.targets, axis=1), window.inputs / 10)


@pytest.mark.parametrize("memory", [biohsic.ring_buffer, biohsic.sliding_windows])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": 1}, "window must be at least 2, but is 1"),
        ({"stride": 0}, "stride must be at least 1, but is 0"),
        ({"stride": 7}, r"stride must be at most window \(6\), but is 7"),
    ],
)
def test_impossible_windows_are_refused(memory, settings, message):
    with pytest.raises(ValueError, match=message):
        memory(**settings)
