"""Settings of every test: eight virtual CPU devices, no surprise broadcasting, no network.

Most tests compile much and compute little, so programs are compiled quickly: without optimizations
and, with jaxlib 0.10, without XLA's newer fusion emitters. A test that computes for long is marked
`optimized`: its programs are optimized as a user's are. `HFJAX_TESTS_OPTIMIZED=1 pytest` compiles
all programs as a user's, in nearly twice the CPU time.
"""

import os
import pathlib
from importlib.metadata import version

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["WANDB_MODE"] = "offline"
# Processes that tests start compile as this one does.
os.environ.setdefault("HFJAX_TESTS_OPTIMIZED", "")
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "0" if os.environ["HFJAX_TESTS_OPTIMIZED"] else "1"
# XLA ends the process at a flag that it does not know, and later versions do not know this one.
os.environ["XLA_FLAGS"] = (
    "--xla_cpu_use_fusion_emitters=false"
    if not os.environ["HFJAX_TESTS_OPTIMIZED"] and version("jaxlib").startswith("0.10.")
    else ""
)

import hypothesis
import jax
import pytest

# Workers, processes and later sessions share what they compile.
CACHE = pathlib.Path(__file__).parent.parent / ".pytest_cache" / "jax"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")

# Fuzzing: few and always the same examples by default. A long search:
# `pytest --hypothesis-profile=large tests/test_fuzz_arena.py`.
hypothesis.settings.register_profile(
    "small",
    max_examples=20,
    deadline=None,  # an example that compiles is slow
    derandomize=True,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
hypothesis.settings.register_profile(
    "large", parent=hypothesis.settings.get_profile("small"), max_examples=2000, derandomize=False
)
hypothesis.settings.load_profile("small")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Optimize the programs of tests marked `optimized`, and of the fixtures that they make."""
    optimized = os.environ["HFJAX_TESTS_OPTIMIZED"] or item.get_closest_marker("optimized")
    jax.config.update("jax_disable_most_optimizations", not optimized)
    return (yield)


@pytest.fixture(scope="session")
def complete_run(tmp_path_factory):
    """The workdir of a complete run of the toy; tests that change it copy it."""
    from tests.command_line import hfjax_here

    workdir = tmp_path_factory.mktemp("complete") / "run"
    code, out, error = hfjax_here("--fdl_config=tests.toy.config", f"--workdir={workdir}")
    assert (code, error) == (0, "")
    assert "Complete after 40 steps" in out
    return workdir
