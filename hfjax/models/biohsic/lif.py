"""Layers of leaky integrators: activity takes time, and the network learns every millisecond.

Source: Daruwalla & Lipasti 2024; `lif.py` and `train-lif-biohsic.py` of biological-hsic. The
original calls the units leaky integrate-and-fire; they are rate units and do not spike.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from hfjax import check, networks
from hfjax.models.biohsic.networks import Layer, Network, flat, normalised


class LeakyDense(Layer):
    """u_t = u_tm1 + (dt/tau) (z_below W + b - u_tm1), z = layer_norm(relu(u)).

    below [sample, ...] -> z [sample, size], state u [sample, size]. The outputs of a network are
    such a layer with `linear`, where z = u.
    """

    size: int
    dt_s: float
    tau_s: float
    linear: bool = False

    def rest(self, num_samples: int) -> jax.Array:
        """u = 0 for each sample."""
        return jnp.zeros((num_samples, self.size))

    @nn.compact
    def __call__(self, u: jax.Array, below: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Activity and state after one time step."""
        drive = nn.Dense(self.size)(flat(below))
        u = networks.leaky_step(u, drive, dt_s=self.dt_s, tau_s=self.tau_s)
        return u if self.linear else normalised(u), u


def lif_mlp(
    *, hidden: tuple[int, ...] = (10, 4), dt_s: float = 1e-3, tau_s: float = 5e-3
) -> Network:
    """A `LeakyDense` layer for each size in `hidden`, and leaky linear outputs.

    hidden  units of each hidden layer.
    dt_s    duration of a time step (s), at most tau_s.
    tau_s   time constant of the units (s).

    The state of a layer belongs to a slot of the window; `between_windows` of `biohsic.task` says
    what happens to it between windows. In one time step activity passes through all layers. Raises
    ValueError for a size below 1, times that are not positive, and a dt above tau.
    """
    check.at_least(1, **{f"hidden[{i}]": size for i, size in enumerate(hidden)})
    check.positive(dt_s=dt_s, tau_s=tau_s)
    if dt_s > tau_s:
        raise ValueError(f"dt_s must be at most tau_s ({tau_s}), but is {dt_s}")
    return lambda num_classes: (
        *(LeakyDense(size, dt_s, tau_s) for size in hidden),
        LeakyDense(num_classes, dt_s, tau_s, linear=True),
    )
