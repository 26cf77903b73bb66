"""One training step of the digits network, eager, against PyTorch eager.

A 64-128-64-10 network with relu, float32, on batches of 32 real digits: forward, cross-entropy,
backward and the optimizer's step. PyTorch runs it in its usual form (nn.Sequential,
F.cross_entropy, torch.optim), with each of the implementations that its optimizers offer. Both
sides start from the same weights and must arrive at the same loss before they are timed.

They take turns in two ways: epoch by epoch (40 steps back to back, as a training loop runs them),
and step by step, where each step finds the caches as the other engine left them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle, pairwise
from typing import Any

import numpy as np
from _harness import Case, cases, main, peer

import wengert as wg
from wengert import nn, optim
from wengert.data import digits
from wengert.nn import functional as F

SIZES = (64, 128, 64, 10)
BATCH = 32
EPOCH = 40
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "SGD": {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-3},  # as the recipe has it
    "Adam": {"lr": 3e-3},
}
WAYS: dict[str, dict[str, bool]] = {
    "default": {},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}
Step = Callable[[], float]


def batches(count: int = 16) -> list[tuple[Any, Any]]:
    data = digits()
    rows = np.random.default_rng(0).permutation(len(data.labels))[: count * BATCH]
    return [(data.images[r], data.labels[r]) for r in rows.reshape(count, BATCH)]


def weights() -> list[Any]:
    rng = np.random.default_rng(0)
    return [
        (rng.standard_normal((m, n)) * np.sqrt(2 / m)).astype(np.float32)
        for m, n in pairwise(SIZES)
    ]


def ours(kind: str) -> Step:
    """One step, on the next batch; returns the loss before it."""
    layers: list[nn.Module] = []
    for w in weights():
        layers += [nn.Linear(*w.shape), nn.ReLU()]
        layers[-2].weight = nn.Parameter(w)
    model = nn.Sequential(*layers[:-1])
    optimizer = getattr(optim, kind)(model.parameters(), **OPTIMIZERS[kind])
    data = cycle([(wg.tensor(x), y) for x, y in batches()])

    def step() -> float:
        x, y = next(data)
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def theirs(torch: Any, kind: str, way: str) -> Step:
    layers: list[Any] = []
    for w in weights():
        linear = torch.nn.Linear(*w.shape)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(w.T.copy()))
            linear.bias.zero_()
        layers += [linear, torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers[:-1])
    optimizer = getattr(torch.optim, kind)(model.parameters(), **OPTIMIZERS[kind], **WAYS[way])
    data = cycle([(torch.from_numpy(x), torch.from_numpy(y)) for x, y in batches()])

    def step() -> float:
        x, y = next(data)
        loss = torch.nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def programs() -> Iterator[Case]:
    torch = peer("torch")
    if torch is None:
        return
    for kind in OPTIMIZERS:
        for way in WAYS:
            a, b = ours(kind), theirs(torch, kind, way)
            for _ in range(20):
                here, there = a(), b()
            np.testing.assert_allclose(here, there, rtol=1e-3, err_msg=f"{kind}, {way}")
            yield Case(f"{kind}, epochs", f"torch, {way}", many(a), many(b), 0.5, EPOCH)
            yield Case(f"{kind}, steps", f"torch, {way}", a, b, target=0.5)


def many(step: Step) -> Callable[[], None]:
    """An epoch of steps, back to back, as a training loop runs them."""

    def epoch() -> None:
        for _ in range(EPOCH):
            step()

    return epoch


if __name__ == "__main__":
    main(__doc__, cases(programs))
