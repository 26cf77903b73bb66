"""What a recorded graph holds in memory: by operation, line and module, and what would save it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import tree
from ..errors import ArgumentError, describe, place
from ..given import one_of
from ..hollow import Hollow
from ..trace import Leaf, Tensor, looked
from .severed import disconnected

__all__ = ["Memory", "Plan", "Row", "explain_memory"]

CALLS: deque[tuple[int, int, Any]] = deque(maxlen=16384)  # (first, last seq, ref) of module calls
DEAR = frozenset(["MatMul", "Affine", "Einsum", "Conv", "Attention", "FFT", "Solve", "Eigh", "SVD"])


@dataclass(frozen=True)
class Row:
    """What the nodes of one operation, line and module hold."""

    op: str
    line: str
    module: str
    kind: str  # "activation", "parameter" or "input"
    bytes: int
    nodes: int


@dataclass(frozen=True)
class Plan:
    """One way of checkpointing: what would be held at most, and which share is computed again."""

    name: str
    bytes: int
    again: int  # operations evaluated once more in a sweep
    how: str


class Memory:
    """The report of `explain_memory`: `str()` is a table.

    Attributes:
        rows: a Row for each operation, line, module and kind, the largest first.
        plans: a Plan for each kind of checkpointing.
        total: bytes of activations and copies of inputs, which go when the graph goes.
        parameters: bytes of parameters that the graph refers to, which stay.
        nodes: how many operations are recorded.
    """

    def __init__(self, rows: list[Row], plans: list[Plan], nodes: int) -> None:
        self.rows, self.plans, self.nodes = rows, plans, nodes
        self.parameters = sum(r.bytes for r in rows if r.kind == "parameter")
        self.total = sum(r.bytes for r in rows if r.kind != "parameter")

    def by(self, what: str) -> dict[str, int]:
        """Bytes by "op", "line", "module" or "kind", the largest first; parameters left out."""
        one_of("report.by(what)", "column", what, ("op", "line", "module", "kind"))
        out: dict[str, int] = {}
        for r in self.rows:
            if r.kind != "parameter" or what == "kind":
                key = getattr(r, what)
                out[key] = out.get(key, 0) + r.bytes
        return dict(sorted(out.items(), key=lambda item: -item[1]))

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        head = f"{size(self.total)} held by {self.nodes:,} recorded operations"
        if self.parameters:
            head += f", and {size(self.parameters)} of parameters"
        shown = self.rows[:20]
        table = [("bytes", "kind", "op", "nodes", "module", "line")]
        table += [
            (size(r.bytes), r.kind, r.op, f"{r.nodes:,}", r.module or "-", r.line) for r in shown
        ]
        lines = [head, *columns(table)]
        if len(self.rows) > len(shown):
            rest = sum(r.bytes for r in self.rows[len(shown) :])
            lines.append(f"  and {len(self.rows) - len(shown)} more rows with {size(rest)}")
        if self.plans:
            plans = [("checkpointing", "held at most", "computed again", "")]
            plans += [
                (p.name, size(p.bytes), f"{p.again:,} of {self.nodes:,}", p.how) for p in self.plans
            ]
            lines += ["", *columns(plans, left=(0, 3))]
        return "\n".join(lines)


def columns(table: Sequence[tuple[str, ...]], left: tuple[int, ...] = (1, 2, 4, 5)) -> list[str]:
    wide = [max(map(len, column)) for column in zip(*table)]
    return [
        ("  " + "  ".join(
            cell.ljust(w) if i in left else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, wide))
        )).rstrip()
        for row in table
    ]  # fmt: skip


def size(n: int) -> str:
    """
    >>> size(512), size(123456), size(3 * 2**30)
    ('512 B', '120.6 KiB', '3.0 GiB')
    """
    if n < 1024:
        return f"{n} B"
    power = min(int(math.log(n, 1024)), 4)
    return f"{n / 1024**power:.1f} {('KiB', 'MiB', 'GiB', 'TiB')[power - 1]}"


@dataclass
class Held:
    """A buffer that the graph holds, and the node it is put down to."""

    node: int
    kind: str
    bytes: int
    maker: str  # the operation that computed it, "" for one that nothing recorded made


def explain_memory(results: Any) -> Memory:
    """What the recorded graph of some results holds, and what checkpointing would leave of it.

    Every buffer is counted once, views by the buffer that they look into, and put down to the
    oldest operation that keeps it.

    Args:
        results: a recorded tensor such as a loss, or a pytree of them.

    Raises:
        DisconnectedError: nothing in it is recorded.

    >>> import numpy as np, wengert as wg
    >>> w = wg.tensor(np.ones((100, 100)), requires_grad=True)
    >>> w.name = "w"
    >>> h = np.tanh(wg.ones(50, 100) @ w)
    >>> memory = explain_memory(np.sum(h * h))
    >>> memory.by("op")  # the input; what tanh was taken of; what was squared
    {'MatMul': 40000, 'tanh': 40000, 'mul': 40000}
    >>> memory.total
    120000
    """
    leaves = [looked(t) for t in tree.leaves(results) if isinstance(t, Tensor)]
    if not leaves and not isinstance(results, Tensor):
        raise ArgumentError(
            "explain_memory(results)", f"recorded tensors are needed, not {describe(results)}"
        )
    roots = [t.node for t in leaves if t.node is not None]
    if not roots:
        raise disconnected("explain_memory(results)", "the result", leaves[0].level)
    nodes = recorded(roots)
    held = list(buffers(nodes))
    modules = Modules(nodes)
    grouped: dict[tuple[str, str, str, str], list[Any]] = {}
    for h in held:
        n = nodes[h.node]
        key = (named(n), place(n.code, n.lasti), modules.of(n), h.kind)
        row = grouped.setdefault(key, [0, set()])
        row[0] += h.bytes
        row[1].add(h.node)
    rows = [Row(*key, total, len(ns)) for key, (total, ns) in grouped.items()]
    rows.sort(key=lambda r: (r.kind == "parameter", -r.bytes))
    return Memory(rows, plans(nodes, held, modules), len(nodes))


def named(n: Any) -> str:
    op = n.rule.op
    return getattr(op, "name", None) or (op if isinstance(op, type) else type(op)).__name__


def recorded(roots: list[Any]) -> list[Any]:
    """The nodes that results were computed by, oldest first."""
    seen: dict[int, Any] = {}
    waiting = list(roots)
    while waiting:
        n = waiting.pop()
        if id(n) not in seen and type(n) is not Leaf:
            seen[id(n)] = n
            waiting += list(n.parents)
    return sorted(seen.values(), key=lambda n: -n.seq)


def buffers(nodes: list[Any]) -> Iterator[Held]:
    """Every buffer once, for the oldest node that keeps it."""
    seen: set[int] = set()
    for k, n in enumerate(nodes):
        if n.res is None:  # freed by a sweep
            continue
        for name, value in zip(n.rule.names, n.res):
            for a, kind, maker in arrays(n, name, value):
                base = root(a)
                if id(base) not in seen:
                    seen.add(id(base))
                    yield Held(k, kind, base.nbytes, maker)


def root(a: Any) -> Any:
    while isinstance(a.base, np.ndarray | Hollow):
        a = a.base
    return a


def arrays(n: Any, name: str, value: Any) -> Iterator[tuple[Any, str, str]]:
    """(array, kind, maker) of one residual."""
    if name == "xs":
        for i, v in enumerate(value):
            yield from made_by(v, parent_of(n, i))
    elif name == "op":  # the index arrays of a gather are its parameters
        for field in getattr(value, "fields", ()):
            yield from made_by(getattr(value, field), n)
    elif name in ("y", "cache", "kink"):
        yield from made_by(value, n)
    else:
        op = n.rule.op
        names = getattr(op, "args", ())
        i = names.index(name) if name in names and not getattr(op, "variadic", False) else -1
        yield from made_by(value, parent_of(n, i))


def parent_of(n: Any, i: int) -> Any:
    live = n.rule.live
    parents = tuple(n.parents)
    return parents[live.index(i)] if i in live and live.index(i) < len(parents) else None


def views(n: Any) -> bool:
    rule = getattr(n, "rule", None)
    return rule is not None and bool(getattr(rule.op, "view", False))


def made_by(value: Any, maker: Any) -> Iterator[tuple[Any, str, str]]:
    while isinstance(value, Tensor):
        value = value.data
    if isinstance(value, tuple | list):
        for v in value:
            yield from made_by(v, maker)
    elif isinstance(value, np.ndarray | Hollow) and value.nbytes:
        while value.base is not None and views(maker):
            (maker,) = maker.parents  # a window on what was there before
        if type(maker) is Leaf:
            yield value, "parameter", ""
        elif maker is None:
            yield value, "input", ""
        else:
            yield value, "activation", named(maker)


# ------------------------------------------------------------------ modules


class Modules:
    """Which call of a module each node belongs to: the innermost that was running."""

    def __init__(self, nodes: list[Any]) -> None:
        low, high = (nodes[-1].seq, nodes[0].seq) if nodes else (0, 0)
        calls = [(a, b, ref()) for a, b, ref in CALLS if b <= high and a >= low]
        self.calls = sorted((c for c in calls if c[2] is not None), key=lambda c: (-c[0], c[1]))
        self.paths: dict[int, str] = {}
        for _, _, module in self.calls:  # the outermost come first
            if id(module) in self.paths:
                continue
            own = type(module).__name__
            for path, below in module.named_modules():
                self.paths.setdefault(id(below), path or own)

    def call_of(self, n: Any, depth: int | None = None) -> tuple[int, int, Any] | None:
        inside = [c for c in self.calls if c[1] < n.seq < c[0]]
        if not inside:
            return None
        return inside[-1] if depth is None else inside[min(depth, len(inside) - 1)]

    def of(self, n: Any) -> str:
        call = self.call_of(n)
        if call is not None:
            return self.paths[id(call[2])]
        for p in n.parents:  # no module was running: the parameter says where it belongs
            if type(p) is Leaf and p.name:
                return str(p.name.rpartition(".")[0])
        return ""


# ------------------------------------------------------------------ what checkpointing would leave


def plans(nodes: list[Any], held: list[Held], modules: Modules) -> list[Plan]:
    """Estimates from the order in which things were kept: a graph is read as a chain.

    With segments, the last buffer of each is held, and all of one segment while it is swept.
    """
    own = [h for h in held if h.kind != "parameter"]
    if len(own) < 4:
        return []
    n = len(nodes)
    total = sum(h.bytes for h in own)
    out = [Plan("none", total, 0, "everything is kept")]
    k = max(2, math.isqrt(len(own)))
    cut = [own[i * len(own) // k : (i + 1) * len(own) // k] for i in range(k)]
    last = n - cut[-1][0].node
    out.append(Plan("sqrt", segments(cut), n - last, f"{k} segments of equal length"))
    grouped: dict[Any, list[Held]] = {}
    for h in own:
        grouped.setdefault(modules.call_of(nodes[h.node], 1), []).append(h)
    if len(grouped) > 1:
        parts = list(grouped.values())
        again = sum(modules.call_of(m, 1) is not None for m in nodes)
        out.append(Plan("modules", segments(parts), again, f"{len(parts)} modules, each again"))
    sizes = [h.bytes for h in own]
    again = (n // 2) * max(1, math.ceil(math.log2(max(2, len(own)))))
    out.append(Plan("recursive", halves(sizes, 0, len(sizes)), again, "halves of halves"))
    dear = [h for h in own if h.maker in DEAR or h.kind == "input"]
    cheap = sum(named(m) not in DEAR for m in nodes)
    kept = sum(h.bytes for h in dear)
    if 0 < kept < total:
        out.append(Plan("policy", kept, cheap, "products are kept, the rest is computed again"))
    return out


def segments(cut: list[list[Held]]) -> int:
    ends = sum(part[-1].bytes for part in cut)
    return ends + max(sum(h.bytes for h in part[:-1]) for part in cut)


def halves(sizes: list[int], low: int, high: int) -> int:
    """The most that is held when each half is computed again from its middle."""
    if high - low <= 1:
        return sizes[low]
    mid = (low + high) // 2
    return max(sizes[mid - 1] + halves(sizes, mid, high), halves(sizes, low, mid))
