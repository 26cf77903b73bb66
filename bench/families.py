"""Each family of operations, forward and backward, against PyTorch eager and HIPS autograd.

A row is one operation on its own, in float64 on one thread: recorded ("forward"), or recorded,
summed with weights and reversed ("backward": the gradient of every operand), on small arrays (8
numbers, 8 by 8) and large ones (100,000 numbers, 512 by 512). The three are called in turns.
Each ratio is wengert's time over the peer's, of the shortest times and of the medians; the last
column names the peers that are faster in both.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from _harness import machine, peer

import wengert as wg

torch, autograd = peer("torch"), peer("autograd")
anp = autograd.numpy if autograd is not None else None
SIZES = {"small": (8, 8), "large": (100_000, 512)}  # of vectors, and of matrices on a side
Thunk = Callable[[], Any]


@dataclass
class Row:
    """One operation: the operands for a size, and the function of each library."""

    family: str
    name: str
    operands: Callable[[int, int], list[Any]]
    wengert: Any
    torch: Any
    autograd: Any = None


@dataclass
class Timed:
    family: str
    name: str
    size: str
    sweep: str
    times: dict[str, tuple[float, float]] = field(default_factory=dict)  # us: shortest, median

    def ratio(self, other: str) -> tuple[float, float] | None:
        if other not in self.times:
            return None
        return tuple(a / b for a, b in zip(self.times["wengert"], self.times[other]))  # type: ignore  # two entries for two

    @property
    def slower(self) -> str:
        ratios = {k: self.ratio(k) for k in ("torch", "autograd")}
        return " ".join(k for k, r in ratios.items() if r is not None and min(r) > 1)


# ------------------------------------------------------------------ operands
def numbers(shape: Any, low: float = 0.2, high: float = 0.9) -> Any:
    return np.random.default_rng(sum(shape) + 1).uniform(low, high, shape)


def vector(n: int, k: int) -> list[Any]:
    return [numbers((n,))]


def two_vectors(n: int, k: int) -> list[Any]:
    return [numbers((n,)), numbers((n,), 1.1, 1.9)]


def matrix(n: int, k: int) -> list[Any]:
    return [numbers((k, k))]


def two_matrices(n: int, k: int) -> list[Any]:
    return [numbers((k, k)), numbers((k, k), 1.1, 1.9)]


def matrix_and_row(n: int, k: int) -> list[Any]:
    return [numbers((k, k)), numbers((k,), 1.1, 1.9)]


def regular(n: int, k: int) -> list[Any]:
    k = min(k, 128)
    return [numbers((k, k)) + k * np.eye(k)]


def definite(n: int, k: int) -> list[Any]:
    k = min(k, 128)
    a = numbers((k, k))
    return [a @ a.T + k * np.eye(k)]


def system(n: int, k: int) -> list[Any]:
    (a,) = regular(n, k)
    return [a, numbers((len(a), 4))]


# ------------------------------------------------------------------ the rows
def shared(family: str, operands: Any, names: str, **torch_names: str) -> Iterator[Row]:
    """Functions that go by the same name in all three."""
    for name in names.split():
        theirs = torch_names.get(name, name)
        yield Row(
            family,
            name,
            operands,
            getattr(np, name),
            getattr(torch, theirs, None),
            getattr(anp, name, None),
        )


def pick(k: int) -> Any:
    return np.arange(k)[::-1] * 3 % k


def filled(buffer: Any) -> Any:
    def f(x: Any) -> Any:
        z = buffer(x)
        z[1:-1] = x[2:]
        z[0] = x[0]
        return z

    return f


def joined(m: Any, name: str) -> Any:
    return lambda a, b: getattr(m, name)([a, b])


def rows() -> Iterator[Row]:
    F = torch.nn.functional if torch is not None else None
    for name, f in (
        ("x + y", lambda a, b: a + b),
        ("x * y", lambda a, b: a * b),
        ("x / y", lambda a, b: a / b),
    ):
        yield Row("arithmetic", name, two_vectors, f, f, f)
    for name, f in (
        ("x * 2 + 1", lambda a: a * 2.0 + 1.0),
        ("x**2", lambda a: a**2),
        ("x**3", lambda a: a**3),
    ):
        yield Row("arithmetic", name, vector, f, f, f)
    yield Row("arithmetic", "matrix + row", matrix_and_row, *[lambda a, b: a + b] * 3)
    yield Row("arithmetic", "x**y", two_vectors, *[lambda a, b: a**b] * 3)
    yield from shared("arithmetic", two_vectors, "maximum arctan2")
    yield from shared("functions", vector, "exp log sqrt sin tan tanh arctan log1p sinh abs")
    ours = {n: getattr(wg, n) for n in ("relu", "sigmoid", "gelu", "softplus", "silu")}
    plain = {
        "relu": lambda x: anp.maximum(x, 0.0),
        "sigmoid": lambda x: 1 / (1 + anp.exp(-x)),
        "softplus": lambda x: anp.logaddexp(x, 0.0),
        "silu": lambda x: x / (1 + anp.exp(-x)),
    }
    for name, f in ours.items():
        theirs = None if torch is None else torch.sigmoid if name == "sigmoid" else getattr(F, name)
        yield Row("activations", name, vector, f, theirs, plain.get(name) if anp else None)
    for name, f in {
        "sum": lambda x: x.sum(),
        "sum of rows": lambda x: x.sum(1),
        "mean of columns": lambda x: x.mean(0),
        "max of rows": lambda x: x.max(1),
        "prod of rows": lambda x: x.prod(1),
        "var": lambda x: x.var(),
    }.items():
        theirs = {
            "max of rows": lambda x: x.amax(1),
            "var": lambda x: x.var(correction=0),
        }.get(name, f)
        m = {
            "max of rows": lambda x: anp.max(x, 1),
            "prod of rows": lambda x: anp.prod(x, 1),
            "mean of columns": lambda x: anp.mean(x, 0),
            "var": lambda x: anp.var(x),
            "sum": lambda x: anp.sum(x),
            "sum of rows": lambda x: anp.sum(x, 1),
        }[name]
        yield Row("reductions", name, matrix, f, theirs, m)
    yield Row(
        "reductions",
        "norm",
        vector,
        lambda x: np.linalg.norm(x),
        lambda x: torch.linalg.norm(x),
        lambda x: anp.linalg.norm(x),
    )
    yield Row(
        "reductions",
        "cumsum",
        vector,
        lambda x: np.cumsum(x),
        lambda x: torch.cumsum(x, 0),
        lambda x: anp.cumsum(x),
    )
    for name, f in {
        "reshape": lambda x: x.reshape(-1),
        "transpose": lambda x: x.T,
        "x[:, None]": lambda x: x[:, None],
    }.items():
        yield Row("shapes", name, matrix, f, f, f)
    yield Row(
        "shapes",
        "broadcast",
        lambda n, k: [numbers((k,))],
        lambda x: np.broadcast_to(x, (x.shape[0],) * 2),
        lambda x: torch.broadcast_to(x, (x.shape[0],) * 2),
        lambda x: x + np.zeros((x.shape[0],) * 2),
    )
    for name, f in {
        "x[1:-1]": lambda x: x[1:-1],
        "x[::2]": lambda x: x[::2],
        "x[3]": lambda x: x[3],
    }.items():
        yield Row("reading", name, vector, f, f, f)
    yield Row(
        "reading",
        "x[i], an array",
        matrix,
        lambda x: x[pick(len(x))],
        lambda x: x[torch.from_numpy(pick(len(x)).copy())],
        lambda x: x[pick(len(x))],
    )
    yield Row("reading", "x[mask]", vector, *[lambda x: x[x > 0.5]] * 3)
    yield Row(
        "reading",
        "where",
        two_vectors,
        lambda a, b: np.where(a > 0.5, a, b),
        lambda a, b: torch.where(a > 0.5, a, b),
        lambda a, b: anp.where(a > 0.5, a, b),
    )
    yield Row("reading", "sort", vector, np.sort, lambda x: torch.sort(x)[0], anp and anp.sort)
    yield Row(
        "writing",
        "slices into zeros",
        vector,
        filled(lambda x: wg.zeros(len(x))),
        filled(lambda x: torch.zeros(len(x), dtype=x.dtype)),
    )
    products = {
        "matmul": lambda m: lambda a, b: a @ b,
        "matrix @ vector": lambda m: lambda a, b: a @ b,
        "einsum ij,kj->ik": lambda m: lambda a, b: m.einsum("ij,kj->ik", a, b),
        "einsum ij,ij->i": lambda m: lambda a, b: m.einsum("ij,ij->i", a, b),
        "outer": lambda m: lambda a, b: m.outer(a[0], b),
    }
    for name, make in products.items():
        xs = matrix_and_row if name in ("matrix @ vector", "outer") else two_matrices
        yield Row("products", name, xs, make(np), make(torch), make(anp))
    yield Row(
        "softmax",
        "softmax",
        matrix,
        lambda x: wg.softmax(x),
        lambda x: torch.softmax(x, -1),
        lambda x: (lambda e: e / anp.sum(e, -1, keepdims=True))(
            anp.exp(x - anp.max(x, -1, keepdims=True))
        ),
    )
    yield Row(
        "softmax",
        "log_softmax",
        matrix,
        lambda x: wg.log_softmax(x),
        lambda x: torch.log_softmax(x, -1),
    )
    yield Row(
        "softmax",
        "logsumexp",
        matrix,
        lambda x: wg.logsumexp(x, -1),
        lambda x: torch.logsumexp(x, -1),
    )
    yield Row(
        "softmax",
        "cross_entropy",
        matrix,
        lambda x: wg.cross_entropy(x, pick(len(x))),
        lambda x: F.cross_entropy(x, torch.from_numpy(pick(len(x)).copy())),
    )
    for name in ("concatenate", "stack"):
        theirs = {
            "concatenate": lambda a, b: torch.cat([a, b]),
            "stack": lambda a, b: torch.stack([a, b]),
        }
        yield Row(
            "joining",
            name,
            two_vectors,
            joined(np, name),
            theirs[name],
            joined(anp, name),
        )
    for name, xs in (
        ("inv", regular),
        ("det", regular),
        ("cholesky", definite),
        ("solve", system),
        ("eigh", definite),
    ):
        symmetric = name in ("cholesky",)

        def linear(m: Any, name: str = name, symmetric: bool = symmetric) -> Any:
            f = getattr(m, name, None)
            if name == "eigh":
                return lambda a: f((a + a.T) / 2)[0]
            return (lambda a: f((a + a.T) / 2)) if symmetric else f

        yield Row("linalg", name, xs, linear(np.linalg), linear(torch.linalg), linear(anp.linalg))
    for name in ("erf", "gammaln", "i0e"):
        import autograd.scipy.special as asp
        import scipy.special as sp

        yield Row(
            "special",
            name,
            vector,
            getattr(sp, name),
            getattr(torch.special, name),
            getattr(asp, name, None),
        )


# ------------------------------------------------------------------ running
def thunks(row: Row, size: str, sweep: str) -> dict[str, Thunk]:
    xs = row.operands(*SIZES[size])
    weight = numbers(np.shape(values(row.wengert(*[wg.tensor(x) for x in xs]))))
    out: dict[str, Thunk] = {}
    leaves = [wg.tensor(x, requires_grad=True) for x in xs]
    out["wengert"] = reverse(row.wengert, leaves, wg.tensor(weight), sweep)
    if torch is not None and row.torch is not None:
        theirs = [torch.tensor(x, requires_grad=True) for x in xs]
        out["torch"] = reverse(row.torch, theirs, torch.tensor(weight), sweep)
    if autograd is not None and row.autograd is not None:
        f = row.autograd
        if sweep == "backward":
            pull = autograd.grad(lambda xs: anp.sum(f(*xs) * weight))
            out["autograd"] = lambda: pull(tuple(xs))
        else:  # its forward pass cannot be had alone: start a trace, and drop it
            out["autograd"] = lambda: autograd.core.make_vjp(lambda v: f(v, *xs[1:]), xs[0])[1]
    return out


def reverse(f: Any, leaves: list[Any], weight: Any, sweep: str) -> Thunk:
    def backward() -> Any:
        (f(*leaves) * weight).sum().backward()
        got = [leaf.grad for leaf in leaves]
        for leaf in leaves:
            leaf.grad = None
        return got

    return backward if sweep == "backward" else lambda: f(*leaves)


def values(x: Any) -> Any:
    return np.asarray(x.detach().numpy() if hasattr(x, "detach") else x)


def agree(row: Row, fs: dict[str, Thunk]) -> None:
    """All have computed the same numbers."""
    ours, *others = (f() for f in fs.values())
    for other in others:
        pairs = zip(ours, other) if isinstance(ours, list) else [(ours, other)]
        for a, b in pairs:
            np.testing.assert_allclose(values(a), values(b), 1e-7, 1e-9, err_msg=row.name)


def measured(fs: dict[str, Thunk], seconds: float) -> dict[str, tuple[float, float]]:
    """Shortest and median time of each in us, called in turns."""
    clock = time.perf_counter_ns
    times: dict[str, list[int]] = {name: [] for name in fs}
    for f in list(fs.values()) * 3:
        f()
    gc.collect()
    end = clock() + int(seconds * 1e9)
    while clock() < end or len(times["wengert"]) < 15:
        for name, f in fs.items():
            start = clock()
            f()
            times[name].append(clock() - start)
    return {name: (min(t) / 1e3, statistics.median(t) / 1e3) for name, t in times.items()}


def table(figures: list[Timed], markdown: bool) -> str:
    out = []
    for f in figures:
        cells = [f.family, f.name, f.size, f.sweep, f"{f.times['wengert'][0]:.4g} us"]
        for other in ("torch", "autograd"):
            r = f.ratio(other)
            cells.append("" if r is None else f"{r[0]:.2f} / {r[1]:.2f}")
        out.append([*cells, f.slower])
    head = ["family", "operation", "size", "pass", "ours", "/ torch", "/ autograd", "slower than"]
    if markdown:
        lines = ["| " + " | ".join(r) + " |" for r in (head, *out)]
        return "\n".join([lines[0], "|" + "-|" * len(head), *lines[1:]])
    widths = [max(len(r[i]) for r in (head, *out)) for i in range(len(head))]
    lines = ["  ".join(f"{c:<{w}}" for c, w in zip(r, widths)).rstrip() for r in (head, *out)]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=0.3, help="time for each row")
    parser.add_argument(
        "--only", default="", help="families or operations whose name contains this"
    )
    parser.add_argument("--size", choices=tuple(SIZES))
    parser.add_argument("--slower", action="store_true", help="print only rows that a peer wins")
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    options = parser.parse_args()
    here = machine()
    print(__doc__.split("\n")[0], *[f"  {k:<18}{v}" for k, v in here.items()], "", sep="\n")
    figures = []
    for row in rows():
        if options.only not in f"{row.family} {row.name}":
            continue
        for size in SIZES if options.size is None else [options.size]:
            for sweep in ("forward", "backward"):
                fs = thunks(row, size, sweep)
                agree(row, fs)
                figures.append(
                    Timed(row.family, row.name, size, sweep, measured(fs, options.seconds))
                )
    print(table([f for f in figures if f.slower or not options.slower], options.markdown))
    lost = sum(bool(f.slower) for f in figures)
    print(f"\n{len(figures)} rows; a peer is faster in {lost}")
    if options.json:
        rows_ = [{**asdict(f), "slower": f.slower} for f in figures]
        options.json.write_text(json.dumps({"machine": here, "figures": rows_}, indent=1) + "\n")


if __name__ == "__main__":
    main()
