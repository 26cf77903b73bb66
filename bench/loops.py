"""Long loops: peak memory and time of a gradient, against the number of steps.

    plain        every step is kept
    log          checkpoint=True: about log2 T states are kept
    revolve(c)   checkpoint=c states

The loop is h = tanh(W h + b x_t), 64 numbers, one float64 vector a step, W and b differentiated.
Memory is what `tracemalloc` sees above the inputs, at its highest during forward and backward;
time is that of value and gradient together, without tracemalloc, the shortest of three. The
gradients of all kinds are compared to the bit.

    python bench/loops.py [--steps 100,1000,10000]
"""

from __future__ import annotations

import argparse
import gc
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
from _harness import machine

import wengert as wg

SIZE = 64
rng = np.random.default_rng(0)
W = rng.standard_normal((SIZE, SIZE)) / SIZE**0.5
B = rng.standard_normal(SIZE)
KINDS: dict[str, Any] = {"plain": False, "log": True, "revolve(10)": 10, "revolve(100)": 100}


def gradient(xs: Any, checkpoint: Any) -> Callable[[], Any]:
    def loss(w: Any, b: Any) -> Any:
        def step(h: Any, x: Any) -> Any:
            return np.tanh(w @ h + b * x), None

        h, _ = wg.scan(step, np.zeros(SIZE), xs, checkpoint=checkpoint)
        return np.sum(h * h)

    g = wg.grad(loss, (0, 1))
    return lambda: g(W, B)


def peak(f: Callable[[], Any]) -> float:
    """The highest traced memory during f, in MB above what stood before."""
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    f()
    top = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return (top - before) / 1e6


def shortest(f: Callable[[], Any], times: int) -> tuple[float, Any]:
    best, result = float("inf"), None
    for _ in range(times):
        start = time.perf_counter()
        result = f()
        best = min(best, time.perf_counter() - start)
    return best, result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", default="100,1000,10000,100000")
    parser.add_argument("--most-plain", type=int, default=100_000, help="longest plain loop")
    parser.add_argument("--memory-to", type=int, default=10_000, help="longest traced loop")
    options = parser.parse_args()
    print(*[f"{k:<18}{v}" for k, v in machine().items()], sep="\n")
    print(f"\n{'T':>8}  {'kind':<14}{'peak MB':>9}{'s':>9}{'time ratio':>12}  same bits")
    for n in map(int, options.steps.split(",")):
        xs = rng.standard_normal(n)
        base: tuple[float, Any] | None = None
        for name, checkpoint in KINDS.items():
            if name == "plain" and n > options.most_plain:
                continue
            f = gradient(xs, checkpoint)
            seconds, result = shortest(f, 3 if n <= 1000 else 1)
            memory = f"{peak(f):9.3f}" if n <= options.memory_to else f"{'':>9}"
            base = base or (seconds, result)
            bits = all(np.array_equal(a, b) for a, b in zip(result, base[1]))
            print(
                f"{n:>8}  {name:<14}{memory}{seconds:9.3f}{seconds / base[0]:12.2f}  {bits}",
                flush=True,
            )


if __name__ == "__main__":
    main()
