"""The table of the README: the same small gradients, imports and sizes, in every engine installed.

Functions are written once and run on each engine's own arrays; the engines take turns, each call is
timed alone, and the median stands. JAX is shown as written and under `jax.jit`.

    python bench/peers.py
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from _harness import machine, peer

import wengert as wg

torch, jax, autograd = peer("torch"), peer("jax"), peer("autograd")
x = np.random.default_rng(0).random(8).astype(np.float32)
b = np.random.default_rng(1).random(8).astype(np.float32)


def chain(m: Any, b: Any) -> Callable[[Any], Any]:
    def f(z: Any) -> Any:
        for _ in range(50):
            z = z * b + b
        return m.sum(z)

    return f


def small(m: Any, b: Any) -> Callable[[Any], Any]:
    return lambda z: m.sum(m.tanh(z) * m.sin(z))


def engines(make: Any) -> dict[str, Callable[[], Any]]:
    """Name -> the gradient of make's function, called once."""
    g = wg.grad(make(np, b))
    found: dict[str, Callable[[], Any]] = {"wengert": lambda: g(x)}
    if torch is not None:
        xt = torch.tensor(x)
        gt = torch.func.grad(make(torch, torch.tensor(b)))
        found["torch.func"] = lambda: gt(xt)
    if jax is not None:
        xj = jax.numpy.asarray(x)
        gj = jax.grad(make(jax.numpy, jax.numpy.asarray(b)))
        gc = jax.jit(gj)
        found["jax.grad"] = lambda: gj(xj).block_until_ready()
        found["jax.jit"] = lambda: gc(xj).block_until_ready()
    if autograd is not None:
        ga = autograd.grad(make(importlib.import_module("autograd.numpy"), b))
        found["autograd"] = lambda: ga(x)
    return found


def medians(calls: dict[str, Callable[[], Any]], seconds: float = 4.0) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(3):
        for f in calls.values():
            f()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times["wengert"]) < 10:
        for name, f in calls.items():
            start = time.perf_counter()
            f()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(t) * 1e6 for name, t in times.items()}


def importing(name: str) -> float:
    """The shortest of five fresh imports, in seconds."""
    code = f"import time; t = time.perf_counter(); import {name}; print(time.perf_counter() - t)"
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
        for _ in range(5)
    ]
    return min(float(r.stdout) for r in runs)


def size(name: str) -> float:
    """The installed package in MB, without what it depends on."""
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    files = Path(spec.origin).parent.rglob("*")
    return sum(f.stat().st_size for f in files if f.is_file() and f.suffix != ".pyc") / 1e6


def main() -> None:
    print(*[f"{k:<18}{v}" for k, v in machine().items()], sep="\n")
    for title, make in (("chain of 100 operations", chain), ("sum(tanh(x) sin(x))", small)):
        print(f"\ngradient of {title} on 8 float32 numbers, median us")
        for name, t in medians(engines(make)).items():
            print(f"  {name:<12}{t:10.1f}")
    print("\nimport, seconds, and installed size, MB")
    for name in ("numpy", "wengert", "torch", "jax", "jaxlib", "autograd"):
        if importlib.util.find_spec(name):
            print(
                f"  {name:<10}{version(name) if name != 'wengert' else wg.__version__:<14}", end=""
            )
            print(f"{importing(name):8.2f} {size(name):9.1f}")


if __name__ == "__main__":
    main()
