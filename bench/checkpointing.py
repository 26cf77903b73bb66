"""Depth against peak memory and time, for each kind of activation checkpointing.

A tanh network of so many layers, h = tanh(h @ W + b), forward and backward. The peak is what
tracemalloc saw between start and end, beyond the parameters and the input (NumPy reports its arrays
to it). The time is the processor time of a step with the kind over that of a step without, the
shortest of several in turns. Before anything is measured the gradients of every kind are compared
with the plain ones, bit for bit. With PyTorch installed, the times of its own kinds (its memory is
not seen by tracemalloc).
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import time
import tracemalloc
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from _harness import machine, peer

import wengert as wg
from wengert import nn

Step = Callable[[], Any]


def network(depth: int, width: int) -> list[Any]:
    return [
        nn.Sequential(nn.Linear(width, width, init="xavier", rng=i), nn.Tanh())
        for i in range(depth)
    ]


def kinds(depth: int, width: int, batch: int) -> dict[str, tuple[Step, list[Any]]]:
    """By name: one step, and its parameters."""
    layers = network(depth, width)
    parameters = nn.Sequential(*layers).parameters()
    data = np.random.default_rng(0).normal(size=(batch, width)).astype(np.float32)
    x = wg.tensor(data)
    whole = 2 * depth * data.nbytes  # what the plain tape keeps

    def step(f: Callable[[Any], Any]) -> Step:
        def run() -> None:
            for p in parameters:
                p.grad = None
            np.sum(f(x)).backward()

        return run

    def budget(part: float) -> Step:
        plain = step(nn.Sequential(*layers))

        def run() -> None:
            with wg.memory_budget(whole * part):
                plain()

        return run

    each = nn.Sequential(*[wg.checkpoint(layer) for layer in layers])
    dots = wg.checkpoint_sequential(layers, policy=wg.checkpoint.policies.dots)
    made = {
        "none": step(nn.Sequential(*layers)),
        "sqrt(L)": step(wg.checkpoint_sequential(layers)),
        "equal parts": step(wg.checkpoint_sequential(layers, round(depth**0.5))),
        "recursive": step(wg.checkpoint_sequential(layers, recursive=True)),
        "each layer": step(each),
        "policy dots": step(dots),
        "budget 1/2": budget(1 / 2),
        "budget 1/5": budget(1 / 5),
        "budget 1/10": budget(1 / 10),
    }
    return {name: (run, parameters) for name, run in made.items()}


def peak(run: Step) -> float:
    """MB, beyond what was there before."""
    run()
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    run()
    most = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    return most / 1e6


def slower(run: Step, plain: Step, seconds: float) -> float:
    """The shortest time of a step over that of a plain one, called in turns on this thread."""
    times: list[list[float]] = [[], []]
    run()
    plain()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[0]) < 3:
        for f, into in ((run, times[0]), (plain, times[1])):
            start = time.thread_time()
            f()
            into.append(time.thread_time() - start)
    return min(times[0]) / min(times[1])


def rows(depth: int, width: int, batch: int, seconds: float, only: str) -> Iterable[list[Any]]:
    made = kinds(depth, width, batch)
    plain, parameters = made["none"]
    plain()
    want = [p.grad.numpy().copy() for p in parameters]
    base = peak(plain)
    yield ["wengert", depth, "none", base, 1.0, 1.0]
    for name, (run, _) in made.items():
        if name == "none" or only not in name:
            continue
        run()
        for p, w in zip(parameters, want, strict=True):
            assert np.array_equal(p.grad.numpy(), w), f"{name}: another gradient"
        mine = peak(run)
        yield ["wengert", depth, name, mine, base / mine, slower(run, plain, seconds)]


# ------------------------------------------------------------------ PyTorch


def torch_step(torch: Any, kind: str, depth: int, width: int, batch: int) -> Step:
    from torch.utils.checkpoint import checkpoint, checkpoint_sequential

    class Layer(torch.nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(width, width)

        def forward(self, x: Any) -> Any:
            return torch.tanh(self.linear(x))

    layers = [Layer() for _ in range(depth)]
    model = torch.nn.Sequential(*layers)
    x = torch.randn(batch, width, requires_grad=True)

    def forward() -> Any:
        if kind == "sqrt(L)":
            return checkpoint_sequential(model, round(depth**0.5), x, use_reentrant=False)
        if kind == "each layer":
            h = x
            for layer in layers:
                h = checkpoint(layer, h, use_reentrant=False)
            return h
        return model(x)

    def run() -> None:
        model.zero_grad()
        x.grad = None
        forward().sum().backward()

    return run


def torch_rows(torch: Any, depth: int, width: int, batch: int, seconds: float) -> Iterable[Any]:
    if torch is None:
        return
    plain = torch_step(torch, "none", depth, width, batch)
    for kind in ("sqrt(L)", "each layer"):
        run = torch_step(torch, kind, depth, width, batch)
        yield ["PyTorch", depth, kind, None, None, slower(run, plain, seconds)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip())
    parser.add_argument("--depths", type=int, nargs="+", default=[25, 50, 100, 200])
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--seconds", type=float, default=2.0, help="time for each comparison")
    parser.add_argument("--only", default="", help="kinds whose name contains this")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    o = parser.parse_args()
    torch = peer("torch")
    here = machine()
    print((__doc__ or "").split("\n")[0], *[f"  {k:<18}{v}" for k, v in here.items()], sep="\n")
    print(f"  width {o.width}, batch {o.batch}, float32, process {os.getpid()}\n")
    print(f"{'':8} {'depth':>5}  {'kind':<12} {'peak MB':>8} {'less by':>8} {'time':>6}")
    found = []
    for depth in o.depths:
        made = rows(depth, o.width, o.batch, o.seconds, o.only)
        others = () if o.only else torch_rows(torch, depth, o.width, o.batch, o.seconds)
        for row in chain(made, others):
            who, n, kind, mb, less, ratio = row
            memory = " " * 17 if mb is None else f"{mb:>8.1f} {less:>8.1f}"
            print(f"{who:8} {n:>5}  {kind:<12} {memory} {ratio:>6.2f}", flush=True)
            found.append(row)
    if o.json:
        o.json.write_text(json.dumps({"machine": here, "rows": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
