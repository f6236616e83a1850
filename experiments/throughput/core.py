"""What all measurements share: time functions in turns, train a task step by step, its memory."""

import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from hfjax.task import Task

Timed = Callable[[], Any]  # () -> arrays that are waited for


class Row(NamedTuple):
    """One line of the table: what took how long, and a remark with its ratio to a yardstick."""

    what: str
    milliseconds: float
    remark: str = ""


class Measure(Protocol):
    """(repeats, quick) -> rows."""

    def __call__(self, repeats: int, quick: bool, /) -> list[Row]:
        """Medians of so many repeats; quick asks for the smallest size."""


class Section(NamedTuple):
    """One name of --only: its measurement and its number of repeats."""

    measure: Measure
    repeats: int


def medians_ms(functions: Mapping[str, Timed], repeats: int) -> dict[str, float]:
    """Median time of each function, called in turns; the first call of each is not counted."""
    for function in functions.values():
        jax.block_until_ready(function())
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            start_s = time.perf_counter()
            jax.block_until_ready(function())
            times[name].append(1e3 * (time.perf_counter() - start_s))
    return {name: float(np.median(values)) for name, values in times.items()}


def training_step(task: Task, data: Any = (), num_seeds: int = 1) -> Timed:
    """A function that trains one step further at each call, as the trainer does.

    It samples, takes the step, and keeps the new state, which is donated. The first call makes the
    state. More than one seed is a population under vmap.
    """
    population = num_seeds > 1
    keys = jax.random.split(jax.random.key(0), num_seeds)
    data, keys = jax.device_put((data, keys if population else keys[0]))

    def step(state: Any, key: jax.Array, data: Any, index: jax.Array) -> Any:
        sample_key, step_key = jax.random.split(jax.random.fold_in(key, index))
        return task.step(state, task.sample(data, sample_key), step_key)

    init: Callable = jax.vmap(task.init, (0, None)) if population else task.init
    advance = jax.jit(jax.vmap(step, (0, 0, None, None)) if population else step, donate_argnums=0)
    state, index = None, 0

    def run() -> Any:
        nonlocal state, index
        state = jax.jit(init)(keys, data) if state is None else state
        state, scalars = advance(state, keys, data, index)
        index += 1
        return state, scalars

    return run


def rounded(task: Task) -> Task:
    """The task with the factors of the products of its steps in bfloat16."""

    def step(*arguments: Any) -> Any:
        with jax.default_matmul_precision("bfloat16"):
            return task.step(*arguments)

    return task._replace(step=step)


def compiled_step(task: Task, data: Any) -> tuple[Timed, str]:
    """A function that trains one step further at each call, and the memory of its temporaries."""
    state = jax.jit(task.init)(jax.random.key(1), data)
    sample, key = jax.jit(task.sample), jax.random.key(3)
    step = jax.jit(task.step).lower(state, sample(data, key), key).compile()
    analysis = step.memory_analysis()
    used_gb = analysis.temp_size_in_bytes / 1e9 if analysis else float("nan")

    def run() -> Any:
        nonlocal state
        state, scalars = step(state, sample(data, jax.random.key(2)), key)
        return scalars

    return run, f"{used_gb:.2f} GB of temporaries"


class Product(NamedTuple):
    """A matrix product of a training step: timed by itself, times its calls in a step."""

    run: Timed
    calls: int
    flop: int  # of one call


def product(shape: str, rows: int, inner: int, columns: int, *, calls: int = 1) -> Product:
    """A product [rows, inner] [inner, columns] of random matrices.

    shape: "A B", or with the stored transpose of one of them, "A B^T" or "A^T B".
    """
    a = jax.random.normal(jax.random.key(0), (inner, rows) if "A^T" in shape else (rows, inner))
    b = jax.random.normal(
        jax.random.key(1), (columns, inner) if "B^T" in shape else (inner, columns)
    )

    @jax.jit
    def multiply(a: jax.Array, b: jax.Array) -> jax.Array:
        return (a.T if "A^T" in shape else a) @ (b.T if "B^T" in shape else b)

    return Product(lambda: multiply(a, b), calls, 2 * rows * inner * columns)


def dense(
    name: str, samples: int, num_in: int, num_out: int, *, calls: int = 1
) -> dict[str, Product]:
    """The three products of a dense layer and its gradients: output, input's, and weights'."""
    return {
        f"{name}: output": product("A B", samples, num_in, num_out, calls=calls),
        f"{name}: d input": product("A B^T", samples, num_out, num_in, calls=calls),
        f"{name}: d weights": product("A^T B", num_in, samples, num_out, calls=calls),
    }


def floor_ms(products: Mapping[str, Product], times: Mapping[str, float]) -> float:
    """The time of a step's products alone, from `medians_ms` of each."""
    return sum(each.calls * times[name] for name, each in products.items())


def flop(products: Mapping[str, Product]) -> int:
    """The floating-point operations of a step's products."""
    return sum(each.calls * each.flop for each in products.values())


def step_rows(products: Mapping[str, Product], times: Mapping[str, float]) -> list[Row]:
    """A training step beside its products alone; `times` are the medians of both."""
    least_ms = floor_ms(products, times)
    return [
        Row(
            "training step, sampling included",
            times["step"],
            f"{least_ms / times['step']:.0%} of the rate of its products alone",
        ),
        Row(
            "its matrix products (floor)",
            least_ms,
            f"{flop(products) / least_ms / 1e6:.0f} Gflop/s",
        ),
    ]


@contextmanager
def without_warnings() -> Iterator[None]:
    """Silence RatInABox's import and its environments."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
