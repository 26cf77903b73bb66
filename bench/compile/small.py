"""A small function called from Python: three floats in, one float out.

spring: 1/2 k (x - l)^2 + damped motion, with sin and exp      rosenbrock: of three numbers
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from typing import Any

from _peers import Case, main

TARGETS: dict[str, float | None] = {"jax": 0.20, "torch": 0.20, "python": None}
ARGS = (1.3, 0.7, 2.1)


def spring(sin: Any, exp: Any) -> Any:
    def f(x: Any, t: Any, k: Any) -> Any:
        return 0.5 * k * (x - 1.0) * (x - 1.0) + exp(-0.1 * t) * sin(k * t) * x

    return f


def rosenbrock(sin: Any, exp: Any) -> Any:
    def f(x: Any, y: Any, z: Any) -> Any:
        return 100 * (y - x * x) ** 2 + (1 - x) ** 2 + 100 * (z - y * y) ** 2 + (1 - y) ** 2

    return f


FUNCTIONS = {"spring": spring, "rosenbrock": rosenbrock}


def ours(name: str) -> Any:
    import numpy as np

    import wengert as wg

    f = wg.compile(FUNCTIONS[name](np.sin, np.exp), wait=True)
    return lambda: f(*ARGS), [f(*ARGS)]


def plain(name: str) -> Any:
    import math

    f = FUNCTIONS[name](math.sin, math.exp)
    return lambda: f(*ARGS), [f(*ARGS)]


def jax_small(inline: bool, name: str) -> Any:
    import jax
    import jax.numpy as jnp

    if inline:
        jax.config.update("jax_cpu_enable_async_dispatch", False)
    f = jax.jit(FUNCTIONS[name](jnp.sin, jnp.exp))
    return lambda: float(f(*ARGS)), [f(*ARGS)]


def torch_small(form: str, name: str) -> Any:
    """Of tensors of no axes, made before: PyTorch has no functions of floats."""
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    f = FUNCTIONS[name](torch.sin, torch.exp)
    if form == "compile":
        f = torch.compile(f)
    xs = [torch.tensor(a, dtype=torch.float64) for a in ARGS]
    return lambda: float(f(*xs)), [f(*xs)]


def cases() -> Iterator[Case]:
    for name in FUNCTIONS:
        makers = {
            "wengert": partial(ours, name),
            "jax": partial(jax_small, False, name),
            "jax inline": partial(jax_small, True, name),
            "torch eager": partial(torch_small, "eager", name),
            "torch compile": partial(torch_small, "compile", name),
            "python": partial(plain, name),
        }
        yield Case(name, makers, TARGETS, 1e-5)


if __name__ == "__main__":
    main(__doc__, cases)
