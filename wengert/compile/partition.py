"""A graph and its pullback, cut in two: what the first half keeps for the second.

The joint graph has the operands and the cotangents of the results as inputs, and the results and
the cotangents of the operands as outputs. Everything that does not depend on a cotangent can be
computed in the first half. What crosses over is chosen as a minimum cut: a value is kept, at the
price of its bytes, or computed again from what is kept; operands are there for nothing. Only cheap
operations are computed again; under a budget, costlier ones too, the least time for a byte first.

References:
    H. He, S. Yu (2023), Transcending runtime-memory tradeoffs in checkpointing by being fusion
    aware, MLSys: the cut of a joint graph.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any

from ..graph import Graph, Line, Var
from ..ops.contract import MatMul
from ..ops.linear import CastConstant
from ..primitive import Elementwise
from .views import is_window

__all__ = ["halves", "minimum_cut"]

INFINITE = 1 << 60


def cheap(line: Line) -> bool:
    """Whether a line is computed again rather than kept."""
    op = line.op
    return is_window(op) or isinstance(op, Elementwise | CastConstant) or type(op).__name__ in (
        "Flat", "Cast",
    )  # fmt: skip


def price(line: Line) -> float:
    """Operations for a byte of the value, roughly."""
    out = line.outputs[0]
    if isinstance(line.op, MatMul):
        a = line.inputs[0]
        return float(2 * a.shape[-1])
    ins = sum(x.size for x in line.inputs if isinstance(x, Var))
    return max(1.0, ins / max(1, out.size))


def nbytes(v: Var) -> int:
    return math.prod(v.shape) * v.dtype.itemsize


def minimum_cut(
    values: list[int],
    weight: dict[int, int],
    edges: list[tuple[int, int]],
    sources: set[int],
    sinks: set[int],
) -> set[int]:
    """The lightest set of values that every path from a source to a sink goes through.

    Each value is two nodes, joined by an edge of its weight; edges between values are infinite.
    Dinic's algorithm.

    >>> sorted(minimum_cut([0, 1, 2], {0: 8, 1: 2, 2: 8}, [(0, 1), (1, 2)], {0}, {2}))
    [1]
    """
    number = {v: i for i, v in enumerate(values)}
    n = 2 * len(values) + 2
    start, end = n - 2, n - 1
    graph: list[list[int]] = [[] for _ in range(n)]
    to: list[int] = []
    room: list[int] = []

    def edge(a: int, b: int, c: int) -> None:
        graph[a].append(len(to))
        to.append(b)
        room.append(c)
        graph[b].append(len(to))
        to.append(a)
        room.append(0)

    for v in values:
        edge(2 * number[v], 2 * number[v] + 1, weight[v])
    for a, b in edges:
        edge(2 * number[a] + 1, 2 * number[b], INFINITE)
    for v in sources:
        edge(start, 2 * number[v], INFINITE)
    for v in sinks:
        edge(2 * number[v] + 1, end, INFINITE)

    def levels() -> list[int]:
        level = [-1] * n
        level[start] = 0
        todo = deque([start])
        while todo:
            a = todo.popleft()
            for e in graph[a]:
                if room[e] > 0 and level[to[e]] < 0:
                    level[to[e]] = level[a] + 1
                    todo.append(to[e])
        return level

    while (level := levels())[end] >= 0:
        at = [0] * n
        while True:
            path: list[int] = []
            a = start
            while a != end:
                while at[a] < len(graph[a]):
                    e = graph[a][at[a]]
                    if room[e] > 0 and level[to[e]] == level[a] + 1:
                        break
                    at[a] += 1
                if at[a] == len(graph[a]):
                    if a == start:
                        break
                    back = path.pop()
                    a = to[back ^ 1]
                    at[a] += 1
                    continue
                path.append(graph[a][at[a]])
                a = to[path[-1]]
            if a != end:
                break
            flow = min(room[e] for e in path)
            for e in path:
                room[e] -= flow
                room[e ^ 1] += flow
    level = levels()
    return {v for v in values if level[2 * number[v]] >= 0 > level[2 * number[v] + 1]}


def halves(
    joint: Graph, operands: int, results: int, budget: int | None = None
) -> tuple[Graph, Graph, list[int], int]:
    """The two halves of a joint graph.

    Args:
        joint: its first `operands` inputs are the operands, the others cotangents; its first
            `results` outputs the results, the others the cotangents of operands.
        budget: bytes that may cross over; None for no limit.

    Returns:
        (first, second, used, kept): first(operands) gives the results and what is kept;
        second(kept.., operands[i] for i in used.., cotangents..) the rest; `kept` in bytes.
    """
    late = {v.n for v in joint.inputs[operands:]}
    for line in joint.lines:
        if any(isinstance(x, Var) and x.n in late for x in line.inputs):
            late.update(v.n for v in line.outputs)
    maker = {v.n: line for line in joint.lines for v in line.outputs}
    needed = {y.n for y in joint.outputs[results:] if isinstance(y, Var) and y.n not in late}
    for line in joint.lines:
        if line.outputs[0].n in late:
            needed |= {x.n for x in line.inputs if isinstance(x, Var) and x.n not in late}
    early = list(joint.inputs[:operands])
    early += [v for line in joint.lines for v in line.outputs if v.n not in late]
    weight = {v.n: nbytes(v) for v in early}
    given = {v.n for v in joint.inputs[:operands]}
    for n in given:
        weight[n] = 0
    again = {n for n, line in maker.items() if n not in late and cheap(line)}
    dear = sorted((n for n in maker if n not in late and n not in again),
                  key=lambda n: price(maker[n]))  # fmt: skip
    while True:
        edges = [
            (x.n, n) for n in again for x in maker[n].inputs if isinstance(x, Var)
        ]  # fmt: skip
        sources = {v.n for v in early if v.n not in again}
        cut = minimum_cut([v.n for v in early], weight, edges, sources, needed)
        kept = sum(weight[n] for n in cut)
        if budget is None or kept <= budget or not dear:
            break
        step = max(1, len(dear) // 8)
        again |= set(dear[:step])
        dear = dear[step:]
    names = {v.n: v for v in early}
    keep = [n for n in sorted(cut) if n not in given]
    first = cut_out(joint, joint.inputs[:operands], [*joint.outputs[:results],
                                                    *[names[n] for n in keep]])  # fmt: skip
    used = sorted(i for i, v in enumerate(joint.inputs[:operands]) if v.n in cut or v.n in needed)
    inputs = [names[n] for n in keep] + [joint.inputs[i] for i in used] + joint.inputs[operands:]
    second = cut_out(joint, inputs, joint.outputs[results:])
    return first, second, used, kept


def cut_out(graph: Graph, inputs: list[Var], outputs: list[Any]) -> Graph:
    """The part of a graph that computes `outputs` from `inputs`, computed within it or not."""
    maker = {v.n: line for line in graph.lines for v in line.outputs}
    stop = {v.n for v in inputs}
    wanted: set[int] = set()
    todo = [y.n for y in outputs if isinstance(y, Var)]
    while todo:
        n = todo.pop()
        if n in stop or n in wanted:
            continue
        wanted.add(n)
        todo += [x.n for x in maker[n].inputs if isinstance(x, Var)]
    new = Graph()
    known: dict[int, Any] = {v.n: new.input(v.aval) for v in inputs}
    for line in graph.lines:
        if not any(v.n in wanted for v in line.outputs):
            continue
        y = new.emit(line.op, [known[x.n] if isinstance(x, Var) else x for x in line.inputs])
        new.lines[-1].where = line.where
        for v, w in zip(line.outputs, y if isinstance(y, tuple) else (y,)):
            known.setdefault(v.n, w)
    new.outputs = [known[y.n] if isinstance(y, Var) else y for y in outputs]
    return new
