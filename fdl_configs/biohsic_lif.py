"""The config `biohsic_lif` and its fiddlers: the rule in networks of leaky integrators.

Paper: Daruwalla & Lipasti 2024
Results: experiments/biohsic/RESULTS.md
"""

import fiddle as fdl

from fdl_configs.biohsic import back_propagation, before_the_learner, single_layer
from hfjax import networks
from hfjax.data import labelled
from hfjax.models import biohsic as model
from hfjax.training.run import Experiment


def biohsic_lif() -> fdl.Config:
    """The three-factor rule in a network of leaky integrators, on XOR, as published.

        python -m hfjax --fdl_config=biohsic_lif --seeds=30 --workdir=runs/xor

    Layers [10, 4], windows of 64 that slide by one, 20 time steps and updates in each, 25 epochs.
    30 models in 3 minutes of one CPU core, from the command to its end, evaluations and figures
    included (one model: half a minute). Expect 100 % of the test samples (published: 96).
    Fiddlers: linear, xor, unscaled, reset; back_propagation, single_layer, which come last.
    """
    return fdl.Config(
        Experiment,
        task=fdl.Config(
            model.task,
            network=fdl.Config(model.lif_mlp, hidden=(10, 4), dt_s=1e-3, tau_s=5e-3),
            learner=model.biological_rule,
            memory=fdl.Config(model.sliding_windows),
            window=64,
            stride=1,
            gamma=10.0,
            sigmas=(0.3, 0.25, 2.0),
            time_steps=20,
            between_windows=model.carry_on,
            encode=model.over_255,
            learning_rate=1e-4,
            weight_decay=1e-4,
            steps_per_epoch=1,
        ),
        data=fdl.Config(labelled.xor, num_samples=1000, num_train=900),
        num_steps=25,
        chunk=1,
        eval_every=1,
        save_every=5,
        show=("loss", "test_accuracy"),
    )


def xor(cfg: fdl.Config) -> None:
    """biohsic_lif on XOR: the corners of a square with noise (the default)."""
    _lif_only(cfg, "xor")
    cfg.data = fdl.Config(labelled.xor, num_samples=1000, num_train=900)
    cfg.task.network.hidden, cfg.task.sigmas = (10, 4), (0.3, 0.25, 2.0)


def linear(cfg: fdl.Config) -> None:
    """biohsic_lif on points to either side of a line, with one hidden layer of 4.

    Expect 90 % of the test samples (published: 93.2), and with `reset` 95 %.
    """
    _lif_only(cfg, "linear")
    cfg.data = fdl.Config(labelled.linear, num_samples=1000, num_train=900)
    cfg.task.network.hidden, cfg.task.sigmas = (4,), (0.5, 0.25, 1.0)


def unscaled(cfg: fdl.Config) -> None:
    """biohsic_lif with the inputs as they are, not divided by 255 as published."""
    _lif_only(cfg, "unscaled")
    cfg.task.encode = networks.identity


def reset(cfg: fdl.Config) -> None:
    """biohsic_lif with all units at rest at the start of each window, each sample by itself."""
    _lif_only(cfg, "reset")
    cfg.task.between_windows = model.from_rest


def _lif_only(cfg: fdl.Config, fiddler: str) -> None:
    network = cfg.task.network if fdl.get_callable(cfg.task) is model.task else None
    if network is not None and fdl.get_callable(cfg.data) in (labelled.linear, labelled.xor):
        before_the_learner(cfg, fiddler)
    if network is None or fdl.get_callable(network) is not model.lif_mlp:
        raise ValueError(f"the fiddler {fiddler} changes the config biohsic_lif, and no other")
