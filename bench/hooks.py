"""What hooks cost where there are none: wengert against a checkout from before there were any.

    git worktree add /tmp/before COMMIT
    python bench/hooks.py --before /tmp/before

Both are loaded into one process and called in turns, on the programs of bench/eager.py:

    one, two    z * b + b, 50 times, with one leaf and with two, and backward
    forward     the same chain, recorded and dropped
    small       (x * x).sum().backward(), where what a sweep costs beside its nodes is the most
    MLP         20 layers, every weight a leaf
    grad        grad of sum(tanh(x)^2) as a transform

Without --before, and after it, come the figures of hooks that are used, against the same program
without them: one hook on each of the 100 results, one on a leaf, residuals that go through a pair
of functions that do nothing.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from _harness import Case, Figure, main, measure
from eager import START, of_wengert, same

import wengert

Thunk = Callable[[], Any]
BEFORE = "WENGERT_BEFORE"


def another(folder: Path) -> Any:
    """The wengert of another checkout, beside the one that is imported."""
    if not (folder / "wengert" / "__init__.py").exists():
        raise SystemExit(f"--before {folder}: there is no wengert/__init__.py in it")
    original = {k: v for k, v in sys.modules.items() if k.partition(".")[0] == "wengert"}
    for name in original:
        del sys.modules[name]
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module("wengert")
    finally:
        sys.path.remove(str(folder))
        for name in [k for k in sys.modules if k.partition(".")[0] == "wengert"]:
            del sys.modules[name]
        sys.modules.update(original)


def small(wg: Any) -> Thunk:
    x = wg.tensor(START, requires_grad=True)

    def step() -> Any:
        (x * x).sum().backward()
        g, x.grad = x.grad, None
        return g

    return step


def hooked(wg: Any, where: str) -> Thunk:
    """The chain of one leaf, with hooks that do nothing."""
    a, b = wg.tensor(START, requires_grad=True), wg.tensor(START)
    pair = (lambda t: t), (lambda t: t)

    def nothing(g: Any) -> None:
        return None

    if where == "leaf":
        a.register_hook(nothing)

    def chain() -> Any:
        z = a
        for _ in range(50):
            z = z * b
            if where == "results":
                z.register_hook(nothing)
            z = z + b
            if where == "results":
                z.register_hook(nothing)
        return z.sum()

    def step() -> Any:
        if where == "saved":
            with wg.saved_tensors_hooks(*pair):
                y = chain()
        else:
            y = chain()
        y.backward()
        g, a.grad = a.grad, None
        return g

    return step


def figures(options: argparse.Namespace) -> Iterable[Figure]:
    cases = []
    if BEFORE in os.environ:
        old = another(Path(os.environ[BEFORE]))
        ours, before = of_wengert(wengert), of_wengert(old)
        ours["small"], before["small"] = small(wengert), small(old)
        for name, ops in (
            ("one", 100), ("two", 100), ("forward", 100), ("small", 1), ("MLP", 1), ("grad", 1),
        ):  # fmt: skip
            same(name, ours[name](), before[name]())
            cases.append(Case(f"unused: {name}", "before", ours[name], before[name], None, ops))
    for where in ("results", "leaf", "saved"):
        a, b = hooked(wengert, where), hooked(wengert, "nowhere")
        np.testing.assert_array_equal(np.asarray(a()), np.asarray(b()))
        cases.append(Case(f"used: {where}", "unused", a, b, None, 100))
    return [measure(c, options.seconds) for c in cases if options.only in c.name]


if __name__ == "__main__":
    if "--before" in sys.argv:  # in the environment, for the processes of --runs
        at = sys.argv.index("--before")
        os.environ[BEFORE] = str(Path(sys.argv[at + 1]).resolve())
        del sys.argv[at : at + 2]
    main(__doc__, figures)
