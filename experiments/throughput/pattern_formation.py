"""pattern_formation: iterations of its maps against their Fourier transforms alone."""

from functools import partial

import jax
import jax.numpy as jnp

from experiments.throughput.core import Row, Section, medians_ms, training_step
from hfjax.models import pattern_formation

ITERATIONS = 100


def iterations(repeats: int, quick: bool) -> list[Row]:
    """Independent maps, and the hierarchy of competing ones."""
    num_bins = 11 if quick else 55
    tasks = {
        "32 independent maps": pattern_formation.task(
            num_bins=num_bins, iterations_per_step=ITERATIONS
        ),
        "64 competing maps": pattern_formation.task(
            num_maps=64,
            num_bins=num_bins,
            covariance=pattern_formation.gaussian_spectrum,
            update=pattern_formation.competing_maps,
            nonlinearity=pattern_formation.steep_relu,
            iterations_per_step=ITERATIONS,
        ),
    }
    rows = []
    for what, task in tasks.items():
        num_maps = int(what.split()[0])
        maps = jax.random.normal(jax.random.key(0), (num_maps, num_bins, num_bins))
        times = medians_ms(
            {"step": training_step(task), "transforms": partial(transforms, maps)}, repeats
        )
        share = times["transforms"] / times["step"]
        rows += [
            Row(
                f"{ITERATIONS} iterations, {what}",
                times["step"],
                f"{share:.0%} of the rate of its transforms alone",
            ),
            Row("their Fourier transforms (floor)", times["transforms"]),
        ]
    return rows


@jax.jit
def transforms(maps: jax.Array) -> jax.Array:
    """The transforms of so many iterations, there and back."""

    def there_and_back(_: int, maps: jax.Array) -> jax.Array:
        return jnp.fft.irfft2(jnp.fft.rfft2(maps), s=maps.shape[-2:])

    return jax.lax.fori_loop(0, ITERATIONS, there_and_back, maps)


SECTIONS = {"pattern_formation": Section(iterations, 5)}
