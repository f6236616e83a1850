"""Configs of the theta-gated Helmholtz machine: autoencoder, path integration, remapping."""

from collections.abc import Callable

import fiddle as fdl

from hfjax import decoders, plasticity, theta
from hfjax.models import helmholtz as model
from hfjax.models import helmholtz_path_integration as path
from hfjax.training.run import Experiment


def helmholtz() -> fdl.Config:
    """Theta-gated Helmholtz machine, an autoencoder: figures 1, 2 and S1 of George et al. 2023.

        python -m hfjax --fdl_config=helmholtz --workdir=runs/helmholtz

    As published: 5 latents, 50 features, 30 simulated minutes in blocks of 10 s. Half a minute on
    two CPU cores, figures included; the learning itself is a fraction of a second. Expect losses of
    HPC .26 (.21-.28 over seeds; published .217) and EC .065 (.067).
    Fiddlers: sine_gate. Gate: --fdl_set=task.gate.fraction=0.25 lowers HPC's to .20.
    """
    return fdl.Config(
        Experiment,
        task=fdl.Config(
            model.task,
            circuit=fdl.Config(
                model.autoencoder,
                num_latents=5,
                num_features=50,
                learning_rate=1e-3,
                trace_time_s=0.1,
                recurrent_l2=0.005,
                recurrent_scale=0.1,
                apical_noise=0.05,
                rule=plasticity.dendritic_prediction,
            ),
            num_latents=5,
            time_scale_s=1.0,
            gate=fdl.Partial(theta.square, frequency_hz=5.0, fraction=0.5, offset=0.0),
            dt_s=0.025,
            block_s=10.0,
        ),
        num_steps=180,  # blocks of 10 s: 30 minutes
        chunk=6,
        eval_every=90,
        save_every=60,
        show=("HPC_loss", "EC_loss", "inference_HPC_loss"),
    )


def helmholtz_path_integration() -> fdl.Config:
    """Helmholtz machine on a ring: a learned attractor integrates paths, figure 3.

        python -m hfjax --fdl_config=helmholtz_path_integration --workdir=runs/ring

    As published: 100 place cells, 30 simulated minutes. A minute on two CPU cores, most of it in
    the Gaussian process that decodes position. Expect losses of HPC .044 and EC .023 (published
    .048, .024), and an error of .09 m one second after the senses are cut (.07-.10 over seeds;
    published .068; chance .25). eta .005 (--fdl_set=task.circuit.learning_rate=0.005) lowers it to
    .06. After 20 s nothing is left, with any setting tried.
    Fiddlers: sine_gate, ridge_only, torus.
    """
    return fdl.Config(
        Experiment,
        task=fdl.Config(
            path.task,
            box=fdl.Config(
                path.Box,
                num_dims=1,
                num_place=100,
                width_m=1.0,
                sigma_m=0.06,
                speed_mean_mps=0.0,
                speed_std_mps=0.5,
                coherence_s=0.7,
                velocity_scale_mps=0.5,
            ),
            circuit=fdl.Config(
                path.path_integrator,
                num_dims=1,
                num_place=100,
                learning_rate=0.01,
                trace_time_s=0.1,
                recurrent_scale=0.2,
                recurrent_l2=0.0,
                threshold=1.0,
                noise=0.01,
                rule=plasticity.dendritic_prediction,
            ),
            gate=fdl.Partial(theta.square, frequency_hz=5.0, fraction=0.5, offset=0.0),
            protocol=fdl.Config(
                path.Protocol,
                decoders=(decoders.gaussian_process_decoder, decoders.ridge_decoder),
                decoder_s=600.0,
                num_tests=50,
                spin_up_s=10.0,
                test_s=20.0,
            ),
            dt_s=0.025,
            block_s=10.0,
        ),
        num_steps=180,
        chunk=6,
        eval_every=180,
        save_every=60,
        show=("HPC_loss", "EC_loss", "error_1s_m"),
    )


def helmholtz_remapping() -> fdl.Config:
    """Helmholtz machine whose place fields are shuffled, and then relearned: figure 4.

        python -m hfjax --fdl_config=helmholtz_remapping --workdir=runs/remapping
        python -m hfjax --fdl_config=helmholtz_remapping --init_from=runs/ring --workdir=runs/again

    Trains a path integrator for 30 simulated minutes, for which --init_from puts another, shuffles
    its place fields, and relearns for 30 minutes with EC's recurrent weights frozen. A minute on
    two CPU cores. Expect an error 1 s after the cut of .1 m before, .24 right after, .22 relearned
    (published .068, .24, .18): a learned bump that often runs the wrong way round.
    Fiddlers: sine_gate, ridge_only, torus.
    """
    cfg = helmholtz_path_integration()
    fdl.update_callable(cfg.task, path.remapping)
    cfg.task.pretraining_s = 1800.0
    cfg.task.relearning_speed_mean_mps = 0.2
    cfg.show = ("HPC_loss", "EC_loss", "relearned_error_1s_m")
    return cfg


def sine_gate(cfg: fdl.Config) -> None:
    """A Helmholtz machine whose theta is a sine, so that both dendrites drive the soma together."""
    _helmholtz_only(cfg, "sine_gate", model.task, path.task, path.remapping)
    cfg.task.gate = fdl.Partial(theta.sine, frequency_hz=5.0, fraction=0.5, offset=0.0)


def ridge_only(cfg: fdl.Config) -> None:
    """helmholtz_path_integration or _remapping without the Gaussian process: faster evaluation."""
    _helmholtz_only(cfg, "ridge_only", path.task, path.remapping)
    cfg.task.protocol.decoders = (decoders.ridge_decoder,)


def torus(cfg: fdl.Config) -> None:
    """helmholtz_path_integration or _remapping in two dimensions: 225 place cells on a torus."""
    _helmholtz_only(cfg, "torus", path.task, path.remapping)
    box, circuit = cfg.task.box, cfg.task.circuit
    box.num_dims = circuit.num_dims = 2
    box.num_place = circuit.num_place = 225
    box.sigma_m = 0.1


def _helmholtz_only(cfg: fdl.Config, fiddler: str, *tasks: Callable) -> None:
    if fdl.get_callable(cfg.task) not in tasks:
        raise ValueError(
            f"the fiddler {fiddler} is for {', '.join(_NAMES[task] for task in tasks)}"
        )


_NAMES = {
    model.task: "helmholtz",
    path.task: "helmholtz_path_integration",
    path.remapping: "helmholtz_remapping",
}
