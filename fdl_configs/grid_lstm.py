"""The config `grid_lstm` and its fiddlers."""

import fiddle as fdl

from fdl_configs.shared import recorded, tanni
from hfjax.data import recordings
from hfjax.models import grid_lstm as model
from hfjax.training.run import Experiment


def grid_lstm() -> fdl.Config:
    """An LSTM that path-integrates from speed and turning, with head-direction cells and dropout.

        python -m hfjax --fdl_config=grid_lstm --workdir=runs/grid_lstm

    The network of the notebook on square grids: 128 LSTM units, 512 linear units with dropout.
    More than an hour on two CPU cores; not run to its end by us, see `laptop`.
    Fiddlers: laptop.
    """
    return fdl.Config(
        Experiment,
        task=fdl.Config(
            model.task,
            num_units=128,
            num_linear=512,
            num_place=256,
            num_head_direction=12,
            sigma_m=0.05,
            kappa=20.0,
            batch_size=100,
            num_steps=100,
            dt_s=0.02,
            learning_rate=1e-2,
            weight_decay=1e-5,
            dropout=0.5,
            gradient_clip=1e-5,
            width_m=2.2,
        ),
        data=fdl.Config(recordings.sargolini, num_steps=500, dt_s=0.02, max_gap_s=0.1),
        num_steps=20_000,
        chunk=50,
        eval_every=5_000,
        save_every=1_000,
        show=("loss", "error_cm", "head_direction_accuracy"),
    )


def laptop(cfg: fdl.Config) -> None:
    """grid_lstm for two CPU cores: fewer steps.

        python -m hfjax --fdl_config=grid_lstm --fiddler=laptop --workdir=runs/grid_lstm_laptop

    6 minutes. Expect an error of 14 cm over 100 steps (floor 7), the right head-direction cell at
    three moments of four, and no grid cells yet.
    """
    cfg.num_steps, cfg.eval_every, cfg.save_every = 1_500, 1_500, 500
