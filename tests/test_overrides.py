"""Settings given as text: paths, values, and functions by name."""

from collections.abc import Callable, Sequence
from typing import Any

import fiddle as fdl
import jax
import optax
import pytest

from hfjax import networks
from hfjax.errors import InputError
from hfjax.training.overrides import find_function, set_value


def big_network(*, size: int = 1, depth: int = 1):
    return size, depth


def small_network(*, size: int = 1, act: Callable = networks.relu):
    return size, act


def scaled(x, *, by: float = 1.0):
    return by * x


def task(
    *,
    network: Any = None,
    optimizer: optax.GradientTransformation | None = None,
    encode: Callable = networks.relu,
    path: str | None = None,
    hidden: tuple[int, ...] = (4, 4),
    rate: float | Callable = 0.1,
    columns: Sequence[int | str] | None = None,
):
    return network, optimizer, encode, path, hidden, rate, columns


@pytest.fixture
def config():
    return fdl.Config(task, network=fdl.Config(big_network, size=3, depth=2))


def changed(config, *assignments, **names):
    for assignment in assignments:
        path, _, text = assignment.partition("=")
        set_value(config, path, text, names)
    return config


def test_literals_and_strings_without_quotes(config):
    changed(config, "network.size=7", "path=/a/b=c.npz", "hidden=(8,)", "rate=1e-3")
    assert (config.network.size, config.path) == (7, "/a/b=c.npz")
    assert (config.hidden, config.rate) == ((8,), 1e-3)
    assert changed(config, "path='quoted'").path == "quoted"
    assert changed(config, "path=123").path == "123"
    assert changed(config, "path=None").path is None
    assert changed(config, "hidden=[8, 9]").hidden == (8, 9)


@pytest.mark.parametrize(
    "name", ["/x.npz", "my rats/1 b.npz", "a=b=c", "größe.npz", "~/x", "007", "1e5", "it's", "#1"]
)
def test_a_bare_name_of_a_file_is_a_string(config, name):
    assert changed(config, f"path={name}").path == name


def test_a_function_is_found_in_the_module_of_the_current_one(config):
    assert changed(config, "encode=tanh").encode is networks.tanh


def test_functions_by_alias_and_by_module(config):
    assert changed(config, "encode=nets.tanh", nets=networks).encode is networks.tanh
    assert changed(config, "encode=jax.nn.gelu").encode is jax.nn.gelu
    assert changed(config, "encode=jax.nn:silu").encode is jax.nn.silu
    assert changed(config, f"encode={__name__}:scaled").encode is scaled


def test_a_part_keeps_the_arguments_that_fit(config):
    changed(config, "network=small_network", "network.act=tanh")
    assert fdl.get_callable(config.network) is small_network
    assert config.network.__arguments__ == {"size": 3, "act": networks.tanh}


def test_a_part_in_the_place_of_none(config):
    changed(config, "optimizer=adam", "optimizer.learning_rate=0.1")
    assert config.optimizer == fdl.Config(optax.adam, learning_rate=0.1)
    changed(config, "optimizer=optax:adamw", "optimizer.weight_decay=0.5")
    assert config.optimizer == fdl.Config(optax.adamw, learning_rate=0.1, weight_decay=0.5)
    clip = fdl.Config(optax.clip_by_global_norm, max_norm=1.0)
    config.optimizer = fdl.Config(optax.chain, clip, config.optimizer)
    changed(config, "optimizer[0].max_norm=2.0", "optimizer[1]=sgd")
    assert config.optimizer[0].max_norm == 2.0
    assert config.optimizer[1] == fdl.Config(optax.sgd, learning_rate=0.1)
    # optax.chain is of another module than optax.sgd.
    assert changed(config, "optimizer=sgd").optimizer == fdl.Config(optax.sgd)


def test_a_function_gets_arguments_of_its_own(config):
    config.encode = scaled
    changed(config, "encode.by=3.0")
    assert fdl.build(config)[2](2.0) == 6.0


def test_a_schedule_is_a_part_with_settings(config):
    changed(config, "rate=optax:constant_schedule", "rate.value=0.5")
    assert config.rate == fdl.Config(optax.constant_schedule, value=0.5)


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("x, y", ["x", "y"]),
        ("[x,2]", ["x", 2]),
        ("['x', 'y']", ["x", "y"]),
        ("head", ["head"]),
        ("'head'", ["head"]),
        ("0,1", (0, 1)),
        ("None", None),
    ],
)
def test_lists_of_words_need_no_quotes(config, text, columns):
    assert changed(config, f"columns={text}").columns == columns


def test_an_item_of_a_tuple(config):
    assert changed(config, "hidden[1]=9").hidden == (4, 9)


@pytest.mark.parametrize(
    ("assignment", "sentence"),
    [
        ("size=3", r"no setting 'size'; did you mean 'network.size'\? Settings: network, opt"),
        ("network.siz=3", "did you mean 'network.size'"),
        ("network.sise.x=3", r"no setting 'network.sise.x'; did you mean 'network.size'"),
        ("zzz=3", r"no setting 'zzz'; settings: network, optimizer"),
        ("encode=qqq", "there is no function 'qqq'; write module:function for any other"),
        ("encode=.x", "'' is no name of a module"),
        ("optimizer=tanh", "optimizer must be a GradientTransformation or None, but hfjax.netw"),
        ("hidden=tanh", "hidden must be a tuple of whole numbers, but is 'tanh'"),
        ("hidden[5]=3", r"no setting 'hidden\[5\]'"),
        ("path.x=3", "'path' has no settings of its own"),
        ("hidden=many", r"hidden must be a tuple of whole numbers, but is 'many'"),
        ("encode=tanhh", "encode=tanhh: there is no function 'tanhh'; did you mean 'tanh'"),
        ("encode=jax.nn:tanhh", "there is no function 'jax.nn:tanhh'"),
        ("encode=nowhere:tanh", "the module 'nowhere' cannot be imported"),
        ("encode=jax:numpy", "'jax:numpy' is not a function"),
        ("encode=a b", "'a b' is neither a Python value nor a function"),
    ],
)
def test_what_cannot_be_set_is_one_sentence(config, assignment, sentence):
    before = fdl.deepcopy_with(config)
    with pytest.raises(InputError, match=sentence) as caught:
        changed(config, assignment)
    assert "\n" not in str(caught.value)
    assert config == before


def test_a_name_that_means_several_functions_is_refused():
    names = {"a": networks, "b": jax.nn}
    with pytest.raises(InputError, match=r"'relu' is not unique; write hfjax.networks:relu or jax"):
        find_function("relu", (), names)
    assert find_function("glorot_init", (), names) is networks.glorot_init
