"""Eager recording and reversing of small programs, against PyTorch eager and HIPS autograd.

    chain       z * b + b, 50 times, on 8 float32 numbers, then sum and backward: 100 operations,
                with one leaf (z) and with two (b as well)
    forward     the same chain, recorded and dropped without a backward
    long chain  5,000 times: 10,000 operations
    MLP         20 layers of tanh(h @ W + b) on a 4 by 8 batch, every W and b a leaf
    grad        grad of sum(tanh(x)^2), a function of 8 numbers, as a transform

Times are those of one operation, or of one call where it says so. The last rows say what it costs
to note the user's line at every operation: wengert against a copy of itself that does not.
"""

from __future__ import annotations

import importlib
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from _harness import Case, cases, main, peer

import wengert

rng = np.random.default_rng(0)
START, SLOPE = rng.random(8, np.float32), rng.random(8, np.float32)
WEIGHTS = [(rng.standard_normal((8, 8)) / 3).astype(np.float32) for _ in range(20)]
BIASES = [rng.random(8, np.float32) for _ in range(20)]
BATCH = rng.random((4, 8), np.float32)
Thunk = Callable[[], Any]


def chain(z: Any, b: Any, times: int = 50) -> Any:
    for _ in range(times):
        z = z * b + b
    return z


def chains(leaf: Callable[[Any], Any], constant: Callable[[Any], Any]) -> dict[str, Thunk]:
    """The chains of a library whose tensors have `.backward()` and `.grad`."""
    a, b, leaf_b = leaf(START), constant(SLOPE), leaf(SLOPE)

    def one() -> Any:
        chain(a, b).sum().backward()
        g, a.grad = a.grad, None
        return g

    def two() -> Any:
        chain(a, leaf_b).sum().backward()
        g, a.grad, leaf_b.grad = leaf_b.grad, None, None
        return g

    def long() -> Any:
        chain(a, b, 5_000).sum().backward()
        g, a.grad = a.grad, None
        return g

    return {"one": one, "two": two, "long": long, "forward": lambda: chain(a, b)}


def network(leaf: Callable[[Any], Any], x: Any, tanh: Callable[[Any], Any]) -> Thunk:
    weights, biases = [leaf(w) for w in WEIGHTS], [leaf(b) for b in BIASES]

    def step() -> Any:
        h = x
        for w, b in zip(weights, biases):
            h = tanh(h @ w + b)
        h.sum().backward()
        g = weights[0].grad
        for p in (*weights, *biases):
            p.grad = None
        return g

    return step


def energy(x: Any, np: Any = np) -> Any:
    return np.sum(np.tanh(x) ** 2)


def of_wengert(wg: Any) -> dict[str, Thunk]:
    def leaf(x: Any) -> Any:
        return wg.tensor(x, requires_grad=True)

    pull, both = wg.grad(chain_sum), wg.grad(chain_sum, (0, 1))
    slope = wg.grad(energy)
    return {
        **chains(leaf, wg.tensor),
        "MLP": network(leaf, wg.tensor(BATCH), np.tanh),
        "grad": lambda: slope(START),
        "grad, one": lambda: pull(START, SLOPE),
        "grad, two": lambda: both(START, SLOPE)[1],
    }


def chain_sum(z: Any, b: Any) -> Any:
    return chain(z, b).sum()


def of_torch(torch: Any) -> dict[str, Thunk]:
    def leaf(x: Any) -> Any:
        return torch.tensor(x, requires_grad=True)

    slope, x = torch.func.grad(lambda x: energy(x, torch)), torch.tensor(START)
    return {
        **chains(leaf, torch.tensor),
        "MLP": network(leaf, torch.tensor(BATCH), torch.tanh),
        "grad": lambda: slope(x),
    }


def of_autograd(autograd: Any) -> dict[str, Thunk]:
    import autograd.numpy as anp

    pull, both = autograd.grad(chain_sum), autograd.grad(chain_sum, (0, 1))
    slope = autograd.grad(lambda x: energy(x, anp))
    return {
        "one": lambda: pull(START, SLOPE),
        "two": lambda: both(START, SLOPE)[1],
        "grad": lambda: slope(START),
    }


def without_lines() -> Any:
    """A second wengert, which does not note the user's line on the fast road."""
    here = Path(wengert.__file__).parent
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "wengert"
        shutil.copytree(here, copy, ignore=shutil.ignore_patterns("__pycache__"))
        road = copy / "ops" / "road.py"
        text = road.read_text()
        for capture, nothing in (
            (
                r"if (co|fr\.f_code)\.co_filename in LIBRARY:\s*"
                r"fr = user_frame\(fr\)(; co = fr\.f_code)?",
                "pass",
            ),
            (r"getframe\([^)]*\)", "None"),
            (r"user_frame\((\w+)\) if \1\.f_code\.co_filename in LIBRARY else \1", "None"),
            (r"\b(fr|frame)\.f_code\b", "None"),
            (r"\b(fr|frame)\.f_lasti\b", "0"),
        ):
            text = re.sub(capture, nothing, text)
        if "user_frame(" in text:
            print("without the user's line: road.py notes it in a new way", file=sys.stderr)
            return None
        road.write_text(text)
        original = {k: v for k, v in sys.modules.items() if k.partition(".")[0] == "wengert"}
        for name in original:
            del sys.modules[name]
        sys.path.insert(0, folder)
        try:
            return importlib.import_module("wengert")
        finally:
            sys.path.remove(folder)
            for name in [k for k in sys.modules if k.partition(".")[0] == "wengert"]:
                del sys.modules[name]
            sys.modules.update(original)


def programs() -> Iterator[Case]:
    ours = of_wengert(wengert)
    torch, autograd = peer("torch"), peer("autograd")

    def case(
        name: str, key: str, against: str, theirs: dict[str, Thunk], target: float | None = None,
        ops: int = 1, own: str = "",
    ) -> Case:  # fmt: skip
        a, b = ours[own or key], theirs[key]
        same(name, a(), b())
        return Case(name, against, a, b, target, ops)

    if torch is not None:
        peers = of_torch(torch)
        yield case("chain, one leaf", "one", "torch", peers, 0.5, 100)
        yield case("chain, two leaves", "two", "torch", peers, 0.6, 100)
        yield case("chain, forward", "forward", "torch", peers, None, 100)
        yield case("long chain", "long", "torch", peers, None, 10_000)
        yield case("MLP, a call", "MLP", "torch", peers, 0.75)
        yield case("grad, a call", "grad", "torch.func", peers)
    if autograd is not None:
        peers = of_autograd(autograd)
        yield case("chain, one leaf", "one", "autograd", peers, 0.2, 100)
        yield case("chain, two leaves", "two", "autograd", peers, 0.2, 100)
        for key in ("one", "two"):
            yield case(f"wg.grad of it, {key}", key, "autograd", peers, None, 100, f"grad, {key}")
        yield case("grad, a call", "grad", "autograd", peers)
    blind = without_lines()
    if blind is not None:
        peers = of_wengert(blind)
        for key, ops in (("one", 100), ("two", 100), ("forward", 100), ("MLP", 1)):
            yield case(f"the user's line: {key}", key, "without", peers, None, ops)


def same(name: str, a: Any, b: Any) -> None:
    """Both sides must have computed the same numbers."""
    a, b = (np.asarray(v.detach().numpy() if hasattr(v, "detach") else v) for v in (a, b))
    np.testing.assert_allclose(a, b, rtol=1e-4, err_msg=name)


if __name__ == "__main__":
    main(__doc__, cases(programs))
