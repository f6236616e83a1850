"""Fiddlers of biohsic, biohsic_lif and reservoir: what they set together, in any order."""

import fiddle as fdl
import jax
import optax
import pytest

import fdl_configs
from hfjax import networks
from hfjax.data import labelled
from hfjax.errors import InputError
from hfjax.models import biohsic
from hfjax.training import run as train


@pytest.mark.parametrize(
    ("config", "fiddlers", "rate", "window", "stride", "steps", "epochs"),
    [
        ("biohsic", (), 1e-4, 6, 1, 65, 25),
        ("biohsic", ("fashion_mnist", "online"), 1e-4, 6, 1, 65, 25),
        ("biohsic", ("laptop", "hsic_gradient"), 1e-4, 6, 6, 5, 25),
        ("biohsic", ("mnist_10k", "single_layer"), 1e-3, 6, 6, 5, 25),
        ("biohsic", ("back_propagation",), 1e-3, 6, 6, 45, 25),
        ("biohsic", ("cifar10",), 5e-5, 6, 1, 495, 50),
        ("biohsic", ("cifar10_mlp", "hsic_gradient"), 5e-5, 6, 6, 45, 50),
        ("biohsic", ("cifar10", "back_propagation"), 5e-4, 16, 16, 45, 50),
        ("biohsic", ("cifar10", "single_layer"), 5e-4, 16, 16, 45, 50),
        ("biohsic", ("fashion_mnist", "cnn"), 1e-4, 6, 1, 65, 25),
        ("biohsic", ("cifar10", "cnn"), 5e-5, 6, 1, 495, 50),
        ("biohsic_lif", ("mnist", "reset"), 1e-4, 6, 1, 65, 25),
        ("biohsic_lif", ("digits", "reset"), 1e-4, 6, 1, 5, 25),
        ("biohsic_lif", ("linear", "reset", "unscaled"), 1e-4, 64, 1, 1, 25),
        ("biohsic_lif", ("linear", "back_propagation"), 1e-3, 256, 256, 1, 25),
    ],
)
def test_data_set_and_learner_set_the_published_numbers_in_either_order(
    config, fiddlers, rate, window, stride, steps, epochs
):
    cfg = fdl_configs.make(config, *fiddlers)
    assert cfg == fdl_configs.make(config, *reversed(fiddlers))
    assert cfg.task.optimizer.learning_rate == rate
    assert (cfg.task.memory.window, cfg.task.memory.stride) == (window, stride)
    assert (cfg.task.steps_per_epoch, cfg.num_steps) == (steps, epochs * steps)
    assert steps % cfg.chunk == 0
    assert cfg.chunk <= 15


def test_a_single_layer_stays_one_with_every_data_set():
    for data in ("cifar10", "cifar10_mlp", "digits"):
        cfg = fdl_configs.make("biohsic", "single_layer", data)
        assert cfg.task.network == fdl.Config(biohsic.mlp, hidden=())
    assert fdl_configs.make("biohsic_lif", "single_layer", "xor").task.network.hidden == ()
    for fiddlers in (("cifar10",), ("cifar10", "cnn"), ("cnn", "cifar10")):
        assert fdl_configs.make("biohsic", *fiddlers).task.network.channels == (128, 256)
    assert fdl_configs.make("biohsic", "cnn").task.network.channels == (16, 32)


def test_leaky_integrators_on_digits_have_the_defaults_of_the_original():
    task = fdl_configs.make("biohsic_lif", "mnist").task
    assert task.network == fdl.Config(biohsic.lif_mlp, hidden=(128, 64), dt_s=1e-3, tau_s=5e-3)
    assert fdl.build(task.bottleneck) == biohsic.Bottleneck(
        gamma=10.0, sigma_x=1.0, sigma_y=0.5, sigma_z=2.0
    )
    assert task.encode is biohsic.pixels
    with pytest.raises(InputError, match="mnist and --fiddler=back_propagation both set"):
        fdl_configs.make("biohsic_lif", "mnist", "back_propagation")


def test_the_window_in_the_state_keeps_its_size():
    cfg = fdl_configs.make("biohsic", "online", "digits")
    assert cfg.task.memory == fdl.Config(biohsic.ring_buffer, window=6, stride=1)


@pytest.mark.parametrize(
    ("config", "fiddlers", "message"),
    [
        ("biohsic", ("digits", "cifar10"), "digits and --fiddler=cifar10 both set"),
        ("biohsic", ("mnist_10k", "laptop"), "both set data; give one"),
        ("biohsic", ("hsic_gradient", "back_propagation"), "both set task.learner; give one"),
        ("biohsic_lif", ("xor", "linear"), "both set data; give one"),
    ],
)
def test_fiddlers_that_exclude_each_other_end_with_a_sentence(config, fiddlers, message):
    with pytest.raises(InputError, match=message):
        fdl_configs.make(config, *fiddlers)


def test_back_propagation_has_an_mlp_in_the_place_of_leaky_layers():
    for data_set, hidden in (("xor", (10, 4)), ("linear", (4,))):
        config = fdl_configs.make("biohsic_lif", "back_propagation", "unscaled", data_set)
        assert config.task.network == fdl.Config(biohsic.mlp, hidden=hidden)
        assert config.task.time_steps == 1
        assert config.task.encode is networks.identity
        experiment = train.build(config)
        state = jax.eval_shape(experiment.task.init, jax.random.key(0), experiment.data)
        kernels = [leaf for leaf in jax.tree.leaves(state.params) if leaf.ndim == 2]
        assert [leaf.shape[1] for leaf in kernels] == [*hidden, 2]


def test_the_optimizer_is_that_of_the_config():
    cfg = fdl_configs.make("biohsic", "digits")
    assert fdl.get_callable(cfg.task.optimizer) is optax.adamw
    cfg.task.optimizer = fdl.Config(optax.sgd, learning_rate=1e-2)
    experiment = train.build(cfg)
    state = jax.eval_shape(experiment.task.init, jax.random.key(0), experiment.data)
    assert not jax.tree.leaves(state.opt_state)


def test_the_reservoir_sees_digits_on_a_laptop():
    cfg = fdl_configs.make("reservoir", "laptop", "noise")
    assert fdl.get_callable(cfg.data) is labelled.digits
    assert (cfg.task.cell.unit_noise, cfg.task.cell.output_noise) == (0.05, 0.5)
