"""The config `topo_grid` and its fiddlers: time constants on a sheet of leaky units."""

import fiddle as fdl

from fdl_configs.shared import recorded, tanni
from fdl_configs.topo_grid_plain import laptop, sheet_grids, sorscher, topo_grid_plain
from hfjax import networks
from hfjax.models import topo_grid as model


def topo_grid() -> fdl.Config:
    """Leaky units whose time constants are learned and penalised where neighbours' differ.

        python -m hfjax --fdl_config=topo_grid --workdir=runs/topo_grid

    tau from 1 to 50 steps, drawn uniformly; Glorot-uniform weights. Published: pictures.
    Fiddlers: laptop, sorscher; gradient_tau, radial_tau, striped_tau, equal_tau, fixed_tau,
    ramp_tau; tanni, recorded.
    """
    cfg = topo_grid_plain()
    cfg.task.units = fdl.Config(
        model.leaky_units, tau_min=1.0, tau_max=50.0, tau_init=model.random_tau, learned=True
    )
    cfg.task.encoder_init = networks.glorot_init
    cfg.task.penalty = fdl.Partial(
        model.unlike_tau, smoothness=1.0, spread=0.1, spread_term=model.less_than_variance
    )
    return cfg


def gradient_tau(cfg: fdl.Config) -> None:
    """topo_grid with tau rising from row to row at first."""
    cfg.task.units.tau_init = model.gradient_tau


def radial_tau(cfg: fdl.Config) -> None:
    """topo_grid with tau rising from the middle of the sheet at first."""
    cfg.task.units.tau_init = model.radial_tau


def striped_tau(cfg: fdl.Config) -> None:
    """topo_grid with four stripes of tau at first, as if of four modules."""
    cfg.task.units.tau_init = fdl.Partial(model.striped_tau, num_stripes=4)


def equal_tau(cfg: fdl.Config) -> None:
    """topo_grid with one tau for all at first."""
    cfg.task.units.tau_init = model.equal_tau


def fixed_tau(cfg: fdl.Config) -> None:
    """topo_grid with tau as it was drawn, not learned: a control."""
    cfg.task.units.learned = False
    cfg.task.penalty = model.no_penalty


def ramp_tau(cfg: fdl.Config) -> None:
    """topo_grid with the second form of the penalty: sorted, tau should rise in even steps."""
    cfg.task.penalty.spread_term = model.off_the_ramp
