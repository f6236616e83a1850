import inspect

import jax
import pytest

from experiments.throughput import __main__ as command
from experiments.throughput import core, dsm


def traced_ms(functions, repeats):
    """In place of times: every function is traced, which finds wrong names, settings and shapes.

    To compile them all would take minutes.
    """
    assert repeats == 1
    for function in functions.values():
        jax.eval_shape(function)
    return dict.fromkeys(functions, 2.0)


@pytest.mark.parametrize("name", command.SECTIONS)
def test_a_section_runs_at_its_smallest_size(name, monkeypatch, capsys):
    for _, module in inspect.getmembers(command, inspect.ismodule):
        monkeypatch.setattr(module, "medians_ms", traced_ms, raising=False)
    monkeypatch.setattr(jax, "block_until_ready", lambda traced: traced)  # slow where there is none
    monkeypatch.setattr(dsm, "compiled_step", lambda *made: (core.training_step(*made), "0 GB"))
    command.main(["--quick", f"--only={name}"])
    _, _, title, *rows = capsys.readouterr().out.splitlines()
    assert title == f"{name} (median of 1)"
    assert rows
    assert all(" ms" in row for row in rows)


def test_sections_are_listed_by_name(capsys):
    command.main(["--list"])
    assert capsys.readouterr().out.split() == list(command.SECTIONS)


def test_what_is_compared_is_timed_in_turns():
    called = []
    functions = {name: lambda name=name: called.append(name) for name in "ab"}
    times = core.medians_ms(functions, 3)
    assert "".join(called) == "ab" * 4  # the first of each is not counted
    assert times.keys() == {"a", "b"}


def test_the_floor_is_each_product_times_its_calls():
    products = {
        "ab": core.product("A B", 2, 3, 4, calls=5),
        "abt": core.product("A B^T", 2, 3, 4),
        "atb": core.product("A^T B", 2, 3, 4),
    }
    assert all(jax.eval_shape(each.run).shape == (2, 4) for each in products.values())
    assert core.floor_ms(products, {"ab": 10.0, "abt": 1.0, "atb": 2.0}) == 53
    assert core.flop(products) == 7 * 2 * 2 * 3 * 4


def test_a_training_step_goes_on_from_the_state_before():
    from toy import task

    for seeds in (1, 3):
        run = core.training_step(task(), num_seeds=seeds)
        counts = [jax.device_get(run()[0]["steps"]).tolist() for _ in range(3)]
        assert counts == ([1, 2, 3] if seeds == 1 else [[1] * 3, [2] * 3, [3] * 3])
    run, memory = core.compiled_step(task(), ())
    assert run()["loss"] != run()["loss"]
    assert memory.endswith("GB of temporaries")
