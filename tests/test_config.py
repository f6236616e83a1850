"""Settings of configs by path, fiddlers, checks and differences."""

from typing import Any

import fiddle as fdl
import jax
import numpy as np
import optax
import pytest

from hfjax.errors import InputError
from hfjax.training import config as c
from hfjax.training import schedules


def small(x):
    return x


def large(x):
    return 2 * x


def part(*, size: int = 1, function: Any = small):
    return size, function


def other_part(*, size: int = 1):
    return size


def required(*, rate: float):
    return rate


def whole(*, part=None, rate: float = 1.0, sizes: tuple[int, ...] = (1, 2), optimizer=None):
    return part, rate, sizes, optimizer


@pytest.fixture
def config():
    return fdl.Config(whole, part=fdl.Config(part, size=3), rate=0.5)


# --- Settings by path ---


def test_settings_are_listed_with_defaults_from_outside_in(config):
    listed = {s.path: s.value for s in c.settings(config)}
    assert list(listed) == ["part", "part.size", "part.function", "rate", "sizes", "optimizer"]
    assert listed["part.size"] == 3
    assert listed["part.function"] is small
    assert listed["sizes"] == (1, 2)


def test_flatten_keeps_what_each_part_and_function_is(config):
    config.part.function = jax.nn.relu
    config.optimizer = fdl.Config(optax.chain, fdl.Config(optax.sgd, learning_rate=0.1))
    assert c.flatten(config) == {
        "part": f"{__name__}:part",
        "part.size": 3,
        "part.function": "jax.nn:relu",
        "rate": 0.5,
        "optimizer": "optax:chain",
        "optimizer[0]": "optax:sgd",
        "optimizer[0].learning_rate": 0.1,
    }


def test_a_difference_in_a_function_alone_is_a_difference(config):
    other = fdl.deepcopy_with(config)
    assert c.differing_paths(config, other) == []
    fdl.update_callable(other.part, other_part)
    assert c.differing_paths(config, other) == ["part"]
    assert c.difference(config, other) == (
        f"part is {__name__}:part there, {__name__}:other_part here"
    )


# --- Paths of files ---


def reads(*, path: str | None = None, data_dir: str | None = None, policy: str = "pendulum"):
    return path, data_dir, policy


def test_paths_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    given = fdl.Config(whole, part=fdl.Config(reads, path="a/b.npz", data_dir="~/mnist"), rate=2.0)
    made = c.absolute_paths(given)
    assert made.part.path == f"{tmp_path}/a/b.npz"
    assert made.part.data_dir == "/home/me/mnist"
    assert "policy" not in made.part.__arguments__
    assert given.part.path == "a/b.npz"
    given.part.policy, given.part.path, given.part.data_dir = "mine.npz", "gs://b/c", None
    made = c.absolute_paths(given)
    assert made.part.policy == f"{tmp_path}/mine.npz"
    assert made.part.path == "gs://b/c"  # for the function to judge
    assert made.part.data_dir is None


# --- Fiddlers ---


def set_rate(cfg):
    cfg.rate = 2.0


def set_size(cfg):
    cfg.part.size = 5


def double_rate(cfg):
    cfg.rate = 2 * cfg.rate


def without_part(cfg):
    cfg.part = None


def test_fiddlers_that_commute_are_applied(config):
    c.apply_fiddlers(config, {"set_rate": set_rate, "set_size": set_size})
    assert (config.rate, config.part.size) == (2.0, 5)


def test_two_fiddlers_that_set_the_same_are_refused_and_change_nothing(config):
    before = fdl.deepcopy_with(config)
    sentence = "--fiddler=set_rate and --fiddler=double_rate both set rate; give one of them."
    with pytest.raises(InputError, match=sentence):
        c.apply_fiddlers(
            config, {"set_size": set_size, "set_rate": set_rate, "double_rate": double_rate}
        )
    assert config == before


def test_a_fiddler_that_another_makes_impossible_is_refused(config):
    with pytest.raises(InputError, match="--fiddler=set_size does not go with --fiddler=without_"):
        c.apply_fiddlers(config, {"without_part": without_part, "set_size": set_size})
    with pytest.raises(InputError, match="--fiddler=set_size does not fit: 'NoneType' object"):
        c.apply_fiddlers(fdl.Config(whole), {"set_size": set_size})


def by_source(cfg):
    cfg.part = fdl.Config(part, size=7)
    cfg.rate = 7 * cfg.rate


def by_other_source(cfg):
    cfg.part = fdl.Config(other_part)
    cfg.rate = 8.0


def test_a_conflict_is_named_by_the_outermost_setting_that_both_change(config):
    with pytest.raises(InputError, match=r"by_source and .* both set part; give"):
        c.apply_fiddlers(config, {"by_source": by_source, "by_other_source": by_other_source})


def test_what_a_part_does_not_have_is_in_words(config):
    config.part = fdl.Config(other_part)

    def use_large(cfg):
        cfg.part.function = large

    with pytest.raises(InputError, match="use_large does not fit: other_part has no setting 'func"):
        c.apply_fiddlers(config, {"use_large": use_large})
    with pytest.raises(InputError, match="'rate' of required is not set"):
        c.apply_fiddlers(fdl.Config(required), {"f": lambda cfg: cfg.rate.size})


def test_three_fiddlers_whose_order_matters_only_together_are_refused():
    def one(cfg):
        cfg.rate = 1.0 if cfg.rate == 0.0 else cfg.rate

    def two(cfg):
        cfg.rate = 2.0 if cfg.rate == 1.0 else cfg.rate

    def three(cfg):
        cfg.sizes = (3,) if cfg.rate == 2.0 else cfg.sizes

    fiddlers = {"one": one, "two": two, "three": three}
    c.apply_fiddlers(fdl.Config(whole, rate=5.0), fiddlers)
    with pytest.raises(InputError, match="set rate"):
        c.apply_fiddlers(fdl.Config(whole, rate=0.0), fiddlers)


# --- Checks ---


def test_a_wrong_type_is_named_with_its_path(config):
    config.part.size = "many"
    with pytest.raises(InputError, match=r"part.size must be a whole number, but is 'many'\."):
        c.check_types(config)


def test_a_setting_without_value_is_named():
    rates = fdl.Config(whole, optimizer=fdl.Config(optax.adam))
    with pytest.raises(InputError, match=r"optimizer.learning_rate is not set; give --fdl_set=opt"):
        c.check_complete(rates)
    c.check_complete(fdl.Config(whole, part=fdl.Partial(small)))
    follows = fdl.Config(schedules.cosine, init_value=0.1, num_steps=c.NumSteps.new())
    c.check_complete(fdl.Config(whole, optimizer=fdl.Config(optax.adam, learning_rate=follows)))


@pytest.mark.parametrize("rate", [0.0, -1e-3, float("nan"), float("inf")])
def test_learning_rates_are_positive(rate):
    chain = fdl.Config(
        optax.chain,
        fdl.Config(optax.clip_by_global_norm, max_norm=1.0),
        fdl.Config(optax.adam, learning_rate=rate),
    )
    with pytest.raises(InputError, match=r"optimizer.*learning_rate must be a positive number"):
        c.check_optimizers(fdl.Config(whole, optimizer=chain))
    schedule = fdl.Config(schedules.cosine, init_value=rate, num_steps=10)
    with pytest.raises(InputError, match=r"optimizer.learning_rate.init_value must be a positive"):
        c.check_optimizers(
            fdl.Config(whole, optimizer=fdl.Config(optax.sgd, learning_rate=schedule))
        )


def test_the_rate_begins_anew_at_a_restart_that_a_short_run_does_not_reach():
    settings = {"init_value": 2.0, "restart_value": 1.0, "restart_step": 10, "alpha": 0.5}
    rate = schedules.restarted_cosine(num_steps=30, **settings)
    np.testing.assert_allclose(
        [rate(step) for step in (0, 5, 10, 20, 30)], [2.0, 1.5, 1.0, 0.75, 0.5], rtol=1e-6
    )
    assert rate(9) < 1.06
    short = schedules.restarted_cosine(num_steps=5, **settings)
    assert short(5) == pytest.approx(1.5)
    with pytest.raises(ValueError, match="restart_step must be at least 1"):
        schedules.restarted_cosine(num_steps=30, **{**settings, "restart_step": 0})


def test_a_clipping_threshold_is_positive():
    clip = fdl.Config(optax.clip, max_delta=-1.0)
    with pytest.raises(InputError, match=r"optimizer.max_delta must be a positive number"):
        c.check_optimizers(fdl.Config(whole, optimizer=clip))


def test_a_warm_up_may_start_from_zero():
    rises = fdl.Config(
        optax.warmup_cosine_decay_schedule,
        init_value=0.0,
        peak_value=1e-3,
        warmup_steps=5,
        decay_steps=10,
    )
    optimizer = fdl.Config(optax.adam, learning_rate=rises)
    c.check_optimizers(fdl.Config(whole, optimizer=optimizer))
    rises.peak_value = 0.0
    with pytest.raises(InputError, match=r"init_value must be a positive number, but is 0\.0"):
        c.check_optimizers(fdl.Config(whole, optimizer=optimizer))
