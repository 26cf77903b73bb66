"""Where every intermediate value of a program lives: one arena, planned ahead.

A *block* is a piece of the arena, held from the step that first writes it to the step that last
reads it. `blocks` finds those of a graph: a view shares the block of its source and keeps it alive,
and an elementwise line may write over an operand that dies there. `plan` gives each block an
offset, such that no two that are alive at one step overlap; `check` makes sure. The least arena any
plan could have is the largest sum of sizes alive at one step, the `lower_bound`.

References:
    Y. Pisarchyk, J. Lee (2020), Efficient Memory Management for Deep Neural Net Inference,
    arXiv:2001.03288: the greedy placements by size.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..graph import Graph, Line, Var
from ..ops.elementwise import Flat
from ..ops.index import GetItem, is_basic
from ..ops.linear import Broadcast, Reshape, Transpose
from ..primitive import Elementwise

__all__ = [
    "Block",
    "Homes",
    "Plan",
    "blocks",
    "check",
    "overwritable",
    "peak",
    "plan",
    "profile",
    "views",
]

ALIGN = 64  # bytes: a cache line, and the widest vector


@dataclass(frozen=True, slots=True)
class Block:
    """`size` bytes that are in use from step `start` to step `stop`, both included."""

    size: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Offsets of blocks in an arena of `size` bytes, and the size that no plan can undercut."""

    blocks: tuple[Block, ...]
    offsets: tuple[int, ...]
    size: int
    lower_bound: int

    def __str__(self) -> str:
        rows = [
            f"{o:>10} {b.size:>10} bytes   steps {b.start} to {b.stop}"
            for b, o in sorted(zip(self.blocks, self.offsets), key=lambda p: (p[1], p[0].start))
        ]
        head = f"arena of {self.size} bytes; at least {self.lower_bound} are alive at one step"
        return "\n".join([head, *rows])


def plan(items: Sequence[Block], align: int = ALIGN) -> Plan:
    """An offset for every block: the best of three greedy orders, each into the tightest gap.

    >>> p = plan([Block(64, 0, 1), Block(128, 1, 2), Block(64, 2, 3)])
    >>> p.offsets, p.size, p.lower_bound
    ((128, 0, 128), 192, 192)
    """
    size = np.array([-(-b.size // align) * align for b in items], np.int64)
    start = np.array([b.start for b in items], np.int64)
    stop = np.array([b.stop for b in items], np.int64)
    bound = int(alive(size, start, stop).max(initial=0))
    best: tuple[int, Any] = (0, np.zeros(0, np.int64))
    orders = (
        np.lexsort((start, -size)),
        np.lexsort((-size, start)),
        np.lexsort((start, -size * (stop - start + 1))),
    )
    for k, order in enumerate(orders):
        offsets = placed(order, size, start, stop)
        total = int((offsets + size).max(initial=0))
        if k == 0 or total < best[0]:
            best = (total, offsets)
        if total == bound:
            break
    return Plan(tuple(items), tuple(best[1].tolist()), best[0], bound)


def alive(size: Any, start: Any, stop: Any, steps: int = 0) -> Any:
    """The sum of sizes in use at each step."""
    change = np.zeros(max(int(stop.max(initial=-1)) + 2, steps + 1), np.int64)
    np.add.at(change, start, size)
    np.add.at(change, stop + 1, -size)
    return np.cumsum(change)[:-1]


def placed(order: Any, size: Any, start: Any, stop: Any) -> Any:
    """Offsets, block after block: the smallest gap between those alive with it, or above them."""
    offsets = np.zeros(len(size), np.int64)
    done = np.zeros(len(size), bool)
    for i in order:
        near = np.flatnonzero(done & (start <= stop[i]) & (start[i] <= stop) & (size > 0))
        near = near[np.argsort(offsets[near], kind="stable")]
        tops = np.concatenate([[0], np.maximum.accumulate((offsets + size)[near])])
        room = offsets[near] - tops[:-1]
        fits = np.flatnonzero(room >= size[i])
        offsets[i] = tops[fits[np.argmin(room[fits])]] if len(fits) else tops[-1]
        done[i] = True
    return offsets


def check(made: Plan) -> None:
    """Raise ValueError if two blocks that are in use at one step overlap, or one sticks out."""
    for b, o in zip(made.blocks, made.offsets, strict=True):
        if o < 0 or o + b.size > made.size:
            raise ValueError(f"{b} at {o} is not inside an arena of {made.size} bytes")
        if o % ALIGN:
            raise ValueError(f"{b} at {o} is not aligned")
    order = sorted(range(len(made.blocks)), key=lambda i: made.offsets[i])
    open_: list[int] = []
    for i in order:
        b, o = made.blocks[i], made.offsets[i]
        open_ = [j for j in open_ if made.offsets[j] + made.blocks[j].size > o]
        for j in open_:
            c = made.blocks[j]
            if b.size and c.size and b.start <= c.stop and c.start <= b.stop:
                raise ValueError(f"{b} at {o} and {c} at {made.offsets[j]} overlap")
        open_.append(i)
    if made.size < made.lower_bound:
        raise ValueError(f"{made.size} bytes are less than the {made.lower_bound} in use at once")


# ------------------------------------------------------------------ of a graph


@dataclass(frozen=True, slots=True)
class Homes:
    """The block of every variable; one without (an input, an output, a view of either) is absent.

    `over[k]` is the operand that line k writes its value over.
    """

    blocks: tuple[Block, ...]
    of: Mapping[int, int]
    over: Mapping[int, int]


def nbytes(v: Any) -> int:
    return int(v.aval.size) * int(v.aval.dtype.itemsize)


def views(graph: Graph, broadcast: bool = True) -> set[int]:
    """The lines whose value can be a window on their operand, if all others are in row-major order.

    A reshape of a window is a copy, unless the window is the whole.
    """
    plain = {v.n for v in graph.inputs}  # in row-major order, without gaps
    found = set()
    for k, line in enumerate(graph.lines):
        x = line.inputs[0] if line.inputs else None
        kind, whole = type(line.op), isinstance(x, Var) and x.n in plain
        if not isinstance(x, Var):
            is_view = False
        elif kind is Reshape:
            is_view = whole
        elif kind is GetItem:
            is_view = is_basic(line.op.index)
        else:
            is_view = kind is Transpose or (broadcast and kind is Broadcast)
        if is_view:
            found.add(k)
        if not is_view or kind is Reshape:
            plain.update(v.n for v in line.outputs)
    return found


def overwritable(line: Line) -> tuple[int, ...]:
    """The operands that an elementwise line may write its value over: those of the same type."""
    if not isinstance(line.op, Elementwise | Flat):
        return ()
    out = line.outputs[0].aval
    return tuple(i for i, x in enumerate(line.inputs) if isinstance(x, Var) and x.aval == out)


def blocks(
    graph: Graph,
    viewing: Collection[int] | None = None,
    over: Mapping[int, Iterable[int]] | None = None,
    placed_too: Collection[int] = (),
) -> Homes:
    """The blocks of a graph whose line k is step k, and whose outputs are read at the last step.

    Args:
        graph: inputs, constants and the values that are outputs have their memory elsewhere.
        viewing: the lines whose value is a window on the first operand (default: `views`).
        over: for each line the operands that it may write over (default: `overwritable`).
        placed_too: outputs that have a block all the same.
    """
    viewing = views(graph) if viewing is None else viewing
    end = len(graph.lines)
    results = {v.n for v in graph.outputs if isinstance(v, Var)}
    root: dict[int, int] = {v.n: v.n for v in graph.inputs}
    last: dict[int, int] = {}  # by root: the last step that reads it or a window on it
    for k, line in enumerate(graph.lines):
        for v in line.outputs:
            x = line.inputs[0] if k in viewing else None
            root[v.n] = root[x.n] if isinstance(x, Var) else v.n
            last[root[v.n]] = max(last.get(root[v.n], k), k)
        for x in line.inputs:
            if isinstance(x, Var):
                last[root[x.n]] = k
    for n in results:
        last[root[n]] = end

    outside = {v.n for v in graph.inputs} | {n for n in results if root[n] == n}
    outside -= {*placed_too} - {v.n for v in graph.inputs}
    of: dict[int, int] = {}
    written: dict[int, int] = {}
    found: list[Block] = []
    for k, line in enumerate(graph.lines):
        if k in viewing and isinstance(line.inputs[0], Var):
            if root[line.inputs[0].n] in of:
                of[line.outputs[0].n] = of[root[line.inputs[0].n]]
            continue
        for v in line.outputs:
            if v.n in outside or (k in viewing):
                continue
            i = None
            if len(line.outputs) == 1:
                allowed = overwritable(line) if over is None else over.get(k, ())
                i = dying(line, k, allowed, root, last, of, results)
            if i is None:
                of[v.n] = len(found)
                found.append(Block(nbytes(v), k, last[v.n]))
            else:
                written[k] = i
                b = of[v.n] = of[line.inputs[i].n]
                found[b] = Block(found[b].size, found[b].start, last[v.n])
    return Homes(tuple(found), of, written)


def dying(
    line: Line,
    k: int,
    allowed: Iterable[int],
    root: Mapping[int, int],
    last: Mapping[int, int],
    of: Mapping[int, int],
    results: Collection[int],
) -> int | None:
    """The first operand that may be written over, as nothing else needs its block any more."""
    for i in allowed:
        x = line.inputs[i]
        if not isinstance(x, Var) or root[x.n] != x.n or x.n not in of or last[x.n] != k:
            continue
        others = [y for y in line.inputs if isinstance(y, Var) and y is not x]
        if all(of.get(y.n) != of[x.n] for y in others):
            return i
    return None


def profile(graph: Graph) -> Any:
    """The bytes of intermediate values that are in use at each line, and at the end."""
    items = blocks(graph).blocks
    size = np.array([-(-b.size // ALIGN) * ALIGN for b in items], np.int64)
    start = np.array([b.start for b in items], np.int64)
    stop = np.array([b.stop for b in items], np.int64)
    return alive(size, start, stop, len(graph.lines) + 1)


def peak(graph: Graph) -> int:
    """The bytes of intermediate values that are in use at one step, at most.

    >>> import numpy as np
    >>> from wengert.transforms.staging import stage
    >>> peak(stage(lambda x: np.sum(np.tanh(x) * x), np.ones(100)).graph)
    832
    """
    return int(profile(graph).max(initial=0))
