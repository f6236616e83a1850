"""Networks of leaky integrators for `biohsic`: activity takes time, and every millisecond learns.

Source: Daruwalla & Lipasti 2024; `lif.py` and `train-lif-biohsic.py` of biological-hsic. The
original calls the units leaky integrate-and-fire; they are rate units and do not spike.
"""

from functools import partial

import jax
import jax.numpy as jnp

from hfjax import check, networks
from hfjax.models.biohsic.networks import Network, dense_stack


def lif_mlp(
    *, hidden: tuple[int, ...] = (10, 4), dt_s: float = 1e-3, tau_s: float = 5e-3
) -> Network:
    """u_t = u_tm1 + (dt/tau) (z_below W + b - u_tm1), z = layer_norm(relu(u)); the outputs are u.

    The state u [sample, unit] of each layer belongs to a slot of the window; what becomes of it
    between windows is `between_windows` of `biohsic.task`. In one time step activity goes through
    all layers. Raises ValueError for a size below 1, times that are not positive, and a dt above
    tau.
    """
    check.at_least(1, **{f"hidden[{i}]": size for i, size in enumerate(hidden)})
    check.positive(dt_s=dt_s, tau_s=tau_s)
    if dt_s > tau_s:
        raise ValueError(f"dt_s must be at most tau_s ({tau_s}), but is {dt_s}")

    def integrate(params: networks.DenseParams, u: jax.Array, below: jax.Array) -> jax.Array:
        drive = networks.dense(params, below.reshape(below.shape[0], -1))
        return networks.leaky_step(u, drive, dt_s=dt_s, tau_s=tau_s)

    def layer(params, u, below):
        u = integrate(params, u, below)
        return networks.layer_norm(networks.relu(u)), u

    def outputs(params, u, below):
        u = integrate(params, u, below)
        return u, u

    def rest(params: tuple, num_samples: int) -> tuple:
        return tuple(jnp.zeros((num_samples, *p.bias.shape), p.bias.dtype) for p in params)

    return Network(
        init=partial(dense_stack, hidden=tuple(hidden)),
        rest=rest,
        layers=(layer,) * len(hidden) + (outputs,),
    )
