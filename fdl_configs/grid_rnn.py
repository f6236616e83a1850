"""Configs of the path-integrating networks: `grid_rnn` and its fiddlers."""

import fiddle as fdl

from fdl_configs.shared import recorded, tanni
from hfjax import cells, networks
from hfjax.data import recordings
from hfjax.models import grid_rnn as model
from hfjax.training import schedules
from hfjax.training.config import NumSteps
from hfjax.training.run import Experiment


def grid_rnn() -> fdl.Config:
    """A recurrent network that learns to path-integrate, as published: 4096 relu units.

        python -m hfjax --fdl_config=grid_rnn --workdir=runs/grid_rnn

    Meant for a GPU; on two CPU cores a step takes seconds: see `laptop`.
    Not run to its end by us; on a GPU expect hours. Published for such networks: 4.4 cm over 20
    steps (floor 4.2), some 14 % of units above grid score 0.3, 5 % above 0.8, by seed up to 35 %.
    Fiddlers: laptop, cpu_grids, tanh, lstm, gaussian, dog, no_surround, periodic.
    """
    return fdl.Config(
        Experiment,
        task=fdl.Config(
            model.task,
            num_grid=4096,
            num_place=512,
            sigma_m=0.12,
            batch_size=200,
            num_steps=20,
            dt_s=0.02,
            learning_rate=1e-4,
            weight_decay=1e-4,
            encoder_gain=1.0,
            network=fdl.Config(
                model.vanilla,
                nonlinearity=networks.relu,
                recurrent_init=networks.uniform_fan_in,
            ),
            box=fdl.Config(model.walled_box, width_m=2.2),
            place_code=cells.softmax_surround,
            objective=model.cross_entropy,
        ),
        data=fdl.Config(recordings.sargolini, num_steps=500, dt_s=0.02, max_gap_s=0.1),
        num_steps=100_000,
        chunk=50,
        eval_every=10_000,
        save_every=2_000,
        show=("loss", "error_cm"),
    )


def tanh(cfg: fdl.Config) -> None:
    """grid_rnn with tanh units."""
    _vanilla(cfg, "tanh").nonlinearity = networks.tanh


def lstm(cfg: fdl.Config) -> None:
    """grid_rnn with a long short-term memory. With `laptop`, give `laptop` first."""
    cfg.task.network = fdl.Config(model.lstm)


def gaussian(cfg: fdl.Config) -> None:
    """grid_rnn with Gaussian place fields of peak 1, not normalised over cells."""
    cfg.task.place_code = cells.gaussian


def dog(cfg: fdl.Config) -> None:
    """grid_rnn with a true difference of Gaussians as place code, learned by squared error.

    This code is negative in its surround, so that a cross-entropy with it has no lower bound.
    """
    cfg.task.place_code, cfg.task.objective = cells.difference_of_gaussians, model.squared_error


def no_surround(cfg: fdl.Config) -> None:
    """grid_rnn with place fields without inhibitory surround: a softmax of Gaussians."""
    cfg.task.place_code = cells.softmax_gaussian


def periodic(cfg: fdl.Config) -> None:
    """grid_rnn in a box without walls: who leaves on one side enters on the other."""
    cfg.task.box = fdl.Config(model.periodic_box, width_m=cfg.task.box.width_m)


def laptop(cfg: fdl.Config) -> None:
    """grid_rnn for two CPU cores: 256 units that start by remembering.

        python -m hfjax --fdl_config=grid_rnn --fiddler=laptop --workdir=runs/laptop

    The published initial weights and constants leave so small a network at the uniform code for
    thousands of steps. A recurrent matrix near the identity, larger encoder weights, a larger
    learning rate, which falls to 0 at the end, and a weaker decay let it leave at once.
    4 minutes. Expect an error of 4.7 cm over 20 steps (floor 4.4), 17 cm over 10 s, 36 cm over 10 s
    of a real rat's path; no more grid cells than in smooth noise (see `cpu_grids` for these).
    """
    _vanilla(cfg, "laptop").recurrent_init = fdl.Partial(
        networks.near_identity, gain=1.0, scale=0.1
    )
    task = cfg.task
    task.num_grid, task.batch_size = 256, 100
    task.weight_decay, task.encoder_gain = 1e-5, 100.0
    cfg.num_steps, cfg.chunk, cfg.eval_every, cfg.save_every = 12_000, 100, 4_000, 1_000
    task.learning_rate = fdl.Config(schedules.cosine, init_value=2e-3, num_steps=NumSteps.new())


def cpu_grids(cfg: fdl.Config) -> None:
    """grid_rnn with hexagonal grid cells after a minute on two CPU cores.

        python -m hfjax --fdl_config=grid_rnn --fiddler=cpu_grids --workdir=runs/cpu_grids

    Expect 22 % of units above grid score 0.8 (20-28 % over ten seeds) where smooth noise has 4 %,
    and an error of 5.7 cm over 20 steps (floor 2.9). The walks are short, the box periodic, the
    place cells on a lattice and mean activity penalised; it does not integrate over 10 s.
    """
    network = _vanilla(cfg, "cpu_grids")
    network.recurrent_init = fdl.Partial(networks.near_identity, gain=1.0, scale=1.0)
    network.input_gain = 11.3
    task = cfg.task
    task.num_grid, task.num_place, task.sigma_m = 256, 256, 0.135
    task.box = fdl.Config(model.periodic_box, width_m=task.box.width_m)
    task.place_centres = cells.lattice_centres
    task.batch_size, task.num_steps = 100, 5
    task.learning_rate = fdl.Config(
        schedules.cosine, init_value=2e-3, num_steps=NumSteps.new(), alpha=0.05
    )
    task.weight_decay, task.readout_decay, task.activity_decay = 1e-4, 1e-5, 25.0
    task.encoder_gain = 3.0
    cfg.num_steps, cfg.chunk, cfg.eval_every, cfg.save_every = 4_000, 100, 1_000, 1_000


def _vanilla(cfg: fdl.Config, fiddler: str) -> fdl.Config:
    if fdl.get_callable(cfg.task.network) is not model.vanilla:
        raise ValueError(f"the fiddler {fiddler} needs the vanilla network; do not add lstm")
    return cfg.task.network
