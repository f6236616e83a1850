"""The config `grid_lstm` and its fiddlers.

Paper: Banino et al. 2018
Results: experiments/grid_rnn/RESULTS.md
"""

import fiddle as fdl
import optax

from fdl_configs.shared import recorded, tanni
from hfjax.data import recordings
from hfjax.models import grid_lstm as model
from hfjax.models import path_integration
from hfjax.training.experiment import Headline
from hfjax.training.run import Experiment


def grid_lstm() -> fdl.Config:
    """An LSTM that path-integrates from speed and turning, with head-direction cells and dropout.

        python -m hfjax --fdl_config=grid_lstm --workdir=runs/grid_lstm

    The network of the notebook on square grids: 128 LSTM units, 512 linear units with dropout.
    An hour and a half on two CPU cores. Expect an error of 7.2 cm over 100 steps (floor 6.2), and
    square grids, not hexagons (one seed, the default). Fewer steps: `laptop`.
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
            optimizer=fdl.Config(
                optax.chain,
                fdl.Config(model.clip_output_gradients, max_delta=1e-5),
                fdl.Config(optax.adam, learning_rate=1e-2),
            ),
            weight_decay=1e-5,
            dropout=0.5,
            width_m=2.2,
            evaluation=fdl.Config(
                path_integration.EvaluationSettings,
                num_steps=100,
                rollout_steps=500,
                num_rollouts=100,
                num_map_walks=2000,
                num_bins=32,
                num_noise_maps=1000,
            ),
        ),
        data=fdl.Config(recordings.sargolini, num_steps=500, dt_s=0.02, max_gap_s=0.1),
        num_steps=20_000,
        chunk=50,
        eval_every=5_000,
        save_every=1_000,
        show=("loss", "error_cm", "head_direction_accuracy"),
        headline=(
            fdl.Config(Headline, name="eval/error_cm"),
            fdl.Config(Headline, name="train/head_direction_accuracy"),
            fdl.Config(
                Headline,
                name="eval/grid_share_above_0.37",
                published=129 / 512,
                source="Banino et al. 2018",
            ),
        ),
    )


def laptop(cfg: fdl.Config) -> None:
    """Fewer steps, for two CPU cores: 6 minutes.

        python -m hfjax --fdl_config=grid_lstm --fiddler=laptop --workdir=runs/grid_lstm_laptop

    Expect an error of 12 cm over 100 steps (three seeds: 11.9 to 13.2; floor 6), the right
    head-direction cell in three of four time steps, and no grid cells yet. Seed 0, the default, has
    the median of the three errors (12.4).
    """
    cfg.num_steps, cfg.eval_every, cfg.save_every = 1_500, 1_500, 500
