"""Settings of every test: eight virtual CPU devices, no surprise broadcasting, no network."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["WANDB_MODE"] = "offline"

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def complete_run(tmp_path_factory):
    """The workdir of a complete run of the toy; tests that change it copy it."""
    from tests.command_line import hfjax_here

    workdir = tmp_path_factory.mktemp("complete") / "run"
    code, out, error = hfjax_here("--fdl_config=tests.toy.config", f"--workdir={workdir}")
    assert (code, error) == (0, "")
    assert "Complete after 40 steps" in out
    return workdir
