"""The share of the machine's GEMM peak that the large MLP step reaches.

The peak is the best rate of `np.matmul` over several sizes, taken in turns with the step in the
same process and on as many threads; the products of the step alone are counted as its work.
"""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import mlp
from _peers import environment, parser, pin, report, strict

SIZES = [
    (512, 2048, 2048),
    (1024, 1024, 1024),
    (2048, 2048, 2048),
    (128, 512, 512),
    (256, 256, 256),
]
GOAL = 0.85


def flops(sizes: tuple[int, ...], batch: int) -> float:
    """Of the products of a step: forward, to the weights, and to all inputs but the first."""
    each = [2.0 * batch * n * m for n, m in pairwise(sizes)]
    return 3 * sum(each) - each[0]


def timed(f: Any) -> float:
    start = time.perf_counter()
    f()
    return time.perf_counter() - start


def measure(kind: str, options: Any) -> dict[str, Any]:
    import numpy as np

    _, sizes, batch, _ = mlp.SHAPES[-1]
    try:
        call, _ = mlp.ours(kind, sizes, batch)
    except Exception:  # the optimizer cannot be traced
        call, _ = mlp.written_out(kind, sizes, batch)
    products = []
    for m, k, n in SIZES:
        a, b = np.ones((m, k), np.float32), np.ones((k, n), np.float32)
        out = np.empty((m, n), np.float32)
        products.append((2.0 * m * k * n, lambda a=a, b=b, out=out: np.matmul(a, b, out=out)))
    best, step, end = 0.0, float("inf"), time.perf_counter() + options.seconds
    call()
    while time.perf_counter() < end:
        step = min(step, timed(call))
        for work, f in products:
            best = max(best, work / timed(f))
    rate = flops(sizes, batch) / step
    print(f"  large {kind}: {step * 1e3:.1f} ms, {rate / 1e9:.1f} GFLOP/s of {best / 1e9:.1f}: "
          f"{rate / best:.0%}, goal {GOAL:.0%}")  # fmt: skip
    ours, peer = (step * 1e3,) * 2, (flops(sizes, batch) / best * 1e3,) * 2
    return {
        "name": f"large {kind}", "against": "peak", "target": round(1 / GOAL, 3), "ours": ours,
        "peer": peer, "unit": "ms", "share": rate / best, "peak": best / 1e9,
    }  # fmt: skip


def main() -> None:
    import os
    import sys

    options = parser(__doc__).parse_args()
    if not options.child:  # the same script with the threads told
        command = [sys.executable, *sys.argv, "--child", "peak", "peak"]
        os.execve(sys.executable, command, environment(options.threads))
    strict()
    pin()
    report(__doc__, [measure(k, options) for k in ("sgd", "adam") if options.only in k], options)


if __name__ == "__main__":
    main()
