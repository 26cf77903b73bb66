"""Filling an array row by row, z[i] = sin(z[i-1]) * x, and reversing it: what a row takes.

    z[i] =     the loop as it is written in NumPy, into wg.zeros
    list       the same rows in a list, joined by np.stack
    torch      the same two in PyTorch; its z[i] = needs a clone of every row that is read, or
               backward() refuses, and its backward pass copies the whole array for every row

A row has 8 float64 numbers. Flat columns mean O(n) in all; PyTorch's z[i] = is O(n^2) and is
left out where it would take minutes. Memory is the peak of Python's and NumPy's allocations,
which PyTorch's are not part of.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _harness import machine, peer

import wengert as wg

torch, autograd = peer("torch"), peer("autograd")
LENGTHS = (100, 1_000, 10_000, 30_000)
QUADRATIC = 3_000  # longest array for the forms that are not O(n)
START = np.linspace(0.5, 1.5, 8)


def ours(n: int) -> tuple[Any, Any]:
    x = wg.tensor(START, requires_grad=True)
    z = wg.zeros(n, 8)
    z[0] = x
    for i in range(1, n):
        z[i] = np.sin(z[i - 1]) * x
    return z.sum(), x


def ours_list(n: int) -> tuple[Any, Any]:
    x = wg.tensor(START, requires_grad=True)
    rows = [x]
    for _ in range(1, n):
        rows.append(np.sin(rows[-1]) * x)
    return np.stack(rows).sum(), x


def torch_list(n: int) -> tuple[Any, Any]:
    x = torch.tensor(START, requires_grad=True)
    rows = [x]
    for _ in range(1, n):
        rows.append(torch.sin(rows[-1]) * x)
    return torch.stack(rows).sum(), x


def torch_writes(n: int) -> tuple[Any, Any]:
    x = torch.tensor(START, requires_grad=True)
    z = torch.zeros(n, 8, dtype=torch.float64)
    z[0] = x
    for i in range(1, n):
        z[i] = torch.sin(z[i - 1].clone()) * x
    return z.sum(), x


FORMS: dict[str, tuple[Callable[[int], tuple[Any, Any]], int]] = {
    "wengert, z[i] =": (ours, LENGTHS[-1]),
    "wengert, list": (ours_list, LENGTHS[-1]),
}
if torch is not None:
    FORMS["torch, list"] = torch_list, LENGTHS[-1]
    FORMS["torch, z[i] ="] = torch_writes, QUADRATIC


def run(form: Callable[[int], tuple[Any, Any]], n: int) -> tuple[float, float, Any]:
    """(forward, backward) in seconds, and the gradient."""
    start = time.perf_counter()
    y, x = form(n)
    middle = time.perf_counter()
    y.backward()
    end = time.perf_counter()
    return middle - start, end - middle, np.asarray(x.grad)


def memory(form: Callable[[int], tuple[Any, Any]], n: int) -> float:
    """Peak bytes a row."""
    gc.collect()
    tracemalloc.start()
    run(form, n)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / n


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    options = parser.parse_args()
    here = machine()
    print(__doc__.split("\n")[0], *[f"  {k:<18}{v}" for k, v in here.items()], "", sep="\n")
    head = ("form", "rows", "forward", "backward", "median of both", "memory")
    print("{:<18}{:>8}{:>12}{:>12}{:>18}{:>14}".format(*head))
    figures = []
    for n in LENGTHS:
        times: dict[str, list[tuple[float, float]]] = {}
        first = None
        for _ in range(options.repeats if n > QUADRATIC else 3 * options.repeats):
            for name, (form, longest) in FORMS.items():  # in turns
                if n <= longest:
                    forward, backward, g = run(form, n)
                    first = g if first is None else first
                    np.testing.assert_allclose(g, first, 1e-9)
                    times.setdefault(name, []).append((forward / n * 1e6, backward / n * 1e6))
        for name, t in times.items():
            low = [min(column) for column in zip(*t)]
            middle = statistics.median(a + b for a, b in t)
            held = memory(FORMS[name][0], n) if name.startswith("wengert") else None
            size = "" if held is None else f"{held:9.0f} B"
            print(f"{name:<18}{n:>8}{low[0]:>9.2f} us{low[1]:>9.2f} us{middle:>15.2f} us{size:>14}")
            row = {"form": name, "rows": n, "forward": low[0], "backward": low[1]}
            figures.append({**row, "both": middle, "bytes": held})
    if options.json:
        options.json.write_text(json.dumps({"machine": here, "figures": figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
