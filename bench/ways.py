"""What a derivative costs, in units of the function's own cost and memory.

    cheap gradient   reverse mode over forward alone, for several scalar functions: the cheap
                     gradient principle bounds the operations by 4 to 5 times
    inputs, outputs  whole Jacobians by forward and by reverse mode as one side grows
    softmax          the pullback in O(K) against the K x K Jacobian and a product
    memory           the peak of a pullback against that of the whole Jacobian

Times are medians; each pair of ways must agree before it is timed. Memory is tracemalloc's peak.
"""

from __future__ import annotations

import argparse
import sys
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

import _harness  # noqa: F401  one thread, set before NumPy is imported
import numpy as np

import wengert as wg
from wengert import comparison

rng = np.random.default_rng(0)


def median(run: Callable[[], Any], seconds: float) -> float:
    return comparison.timed(run, seconds)


def peak(run: Callable[[], Any]) -> int:
    run()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    run()
    top = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return top - before


def mlp(weights: list[Any], x: Any) -> Any:
    for w in weights:
        x = np.tanh(x @ w)
    return np.sum(x * x)


def programs() -> list[tuple[str, Callable[[Any], Any], Any]]:
    square = rng.standard_normal((300, 300)) / 17
    layers = [rng.standard_normal((256, 256)) / 16 for _ in range(4)]
    batch = rng.standard_normal((256, 256))
    return [
        ("sum(tanh(x)^2), 10^6 inputs", lambda x: np.sum(np.tanh(x) ** 2),
         rng.standard_normal(10**6)),
        ("sum(exp(sin(x)) / (1 + x^2)), 10^6", lambda x: np.sum(np.exp(np.sin(x)) / (1 + x * x)),
         rng.standard_normal(10**6)),
        ("product x1 x2 .. xn, 10^5", lambda x: np.prod(x), 1 + rng.standard_normal(10**5) / 1e3),
        ("logsumexp, 10^6", lambda x: wg.logsumexp(x, axis=0), rng.standard_normal(10**6)),
        ("sum(A A), 300 x 300", lambda a: np.sum(a @ a), square),
        ("log det (A A' + 1), 300 x 300",
         lambda a: np.linalg.slogdet(a @ a.T + np.eye(300))[1], square),
        ("MLP 256-256-256-256-256, batch 256, in all weights",
         lambda ws: mlp(ws, batch), layers),
    ]  # fmt: skip


def cheap_gradient(seconds: float) -> None:
    print("| function | forward alone | value and gradient | ratio |\n|-|-|-|-|")
    for name, f, x in programs():
        verdict = wg.jvp(f, (x,), (wg.tree.map(np.ones_like, x),))[1]
        g = wg.grad(f)(x)
        total = sum(np.sum(v) for v in wg.tree.leaves(g))
        assert np.isclose(verdict, total, rtol=1e-8), name
        runs = partial(f, x), partial(wg.value_and_grad(f), x)
        turns = [[median(run, seconds / 3) for run in runs] for _ in range(3)]
        a, b = np.median(turns, axis=0)
        print(f"| {name} | {1e3 * a:.3g} ms | {1e3 * b:.3g} ms | {b / a:.2f} |")


def growth(seconds: float) -> None:
    w = rng.standard_normal((512, 512)) / 22
    found = wg.compare(
        lambda x: np.tanh(w @ x), rng.standard_normal(512), seconds=seconds, scaling=True,
        ways=["reverse mode"],
    )  # fmt: skip
    for word in ("inputs", "outputs"):
        print(f"\n| {word} | forward mode | reverse mode |\n|-|-|-|")
        for n, a, b in getattr(found.scaling, word):
            print(f"| {n} | {1e3 * a:.3g} ms | {1e3 * b:.3g} ms |")


def softmax(seconds: float) -> None:
    print("\n| K | pullback | K x K Jacobian and a product | memory of each |\n|-|-|-|-|")
    for k in (100, 1000, 4000):
        x, g = rng.standard_normal(k), rng.standard_normal(k)

        def pullback(x: Any = x, g: Any = g) -> Any:
            return wg.vjp(wg.softmax, x)[1](g)[0]

        def whole(x: Any = x, g: Any = g) -> Any:
            return g @ wg.jacrev(wg.softmax)(x)

        assert np.allclose(pullback(), whole(), atol=1e-14)
        a, b = median(pullback, seconds), median(whole, seconds)
        m, n = peak(pullback), peak(whole)
        print(f"| {k} | {1e6 * a:.0f} us | {1e6 * b:.0f} us | {m / 1e3:.0f} kB, {n / 1e3:.0f} kB |")


def memory(seconds: float) -> None:
    print("\n| y = tanh(W x), n in and out | pullback | Jacobian | memory of each |\n|-|-|-|-|")
    for n in (100, 400, 1600):
        w, x, g = rng.standard_normal((n, n)) / n, rng.standard_normal(n), rng.standard_normal(n)

        def f(x: Any, w: Any = w) -> Any:
            return np.tanh(w @ x)

        def pullback(f: Any = f, x: Any = x, g: Any = g) -> Any:
            return wg.vjp(f, x)[1](g)[0]

        def whole(f: Any = f, x: Any = x, g: Any = g) -> Any:
            return g @ wg.jacobian(f)(x)

        assert np.allclose(pullback(), whole(), atol=1e-12)
        a, b = median(pullback, seconds), median(whole, seconds)
        top, all_ = peak(pullback), peak(whole)
        print(
            f"| {n} | {1e6 * a:.0f} us | {1e6 * b:.0f} us | "
            f"{top / 1e3:.0f} kB, {all_ / 1e6:.2f} MB |"
        )


PARTS = {"gradient": cheap_gradient, "growth": growth, "softmax": softmax, "memory": memory}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each figure")
    parser.add_argument("--only", choices=PARTS)
    args = parser.parse_args()
    start = time.perf_counter()
    for name, part in PARTS.items():
        if args.only in (None, name):
            part(args.seconds)
    print(f"\n{time.perf_counter() - start:.0f} s", file=sys.stderr)
