"""Layered drawings of directed graphs, after Sugiyama.

1. Columns: a vertex stands as far from the sink as its longest path to it, so that arrows point one
   way and a parameter stands right before the operation that uses it.
2. Long edges are cut into pieces, one a column, so that they are routed around the boxes.
3. Order within a column: each vertex to the mean place of its neighbours, sweeping to and fro; the
   order with the fewest crossings is kept.
4. Heights: each vertex wants to be level with its neighbours, the heavy ones most; the heights
   nearest to that in least squares, in the given order, come from isotonic regression.

References:
    K. Sugiyama, S. Tagawa, M. Toda (1981), Methods for Visual Understanding of Hierarchical System
    Structures, IEEE Transactions on Systems, Man, and Cybernetics 11(2).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["Placed", "place", "spread"]

V = Hashable
Edge = tuple[V, V]


@dataclass
class Placed:
    """Where everything goes: centres of vertices, and the points that each edge passes through."""

    centres: dict[V, tuple[float, float]]
    routes: dict[Edge, list[tuple[float, float]]]
    width: float
    height: float


@dataclass(frozen=True)
class _Bend:
    """A place where a long edge crosses a column."""

    edge: Edge
    column: int


def place(
    sizes: Mapping[V, tuple[float, float]],
    edges: Sequence[Edge],
    heavy: Mapping[V, float] | None = None,
    *,
    gap: tuple[float, float] = (64.0, 26.0),
) -> Placed:
    """Lay out an acyclic graph from left to right.

    Args:
        sizes: (width, height) of every vertex; the order breaks ties.
        edges: (from, to) pairs, each at most once, without a cycle.
        heavy: how much a vertex insists on being level with its neighbours; 1 if not given.
        gap: the space between columns, and between vertices of a column.

    Example:
        >>> box = (40.0, 20.0)
        >>> drawn = place({"w": box, "x": box, "*": box}, [("w", "*"), ("x", "*")])
        >>> [drawn.centres[v] for v in ("w", "x", "*")]
        [(20.0, 10.0), (20.0, 56.0), (124.0, 33.0)]
    """
    column = _columns(list(sizes), edges)
    columns: list[list[V]] = [[] for _ in range(1 + max(column.values(), default=0))]
    for v in sizes:
        columns[column[v]].append(v)
    pieces, chains = _cut(edges, column, columns)
    columns = _ordered(columns, pieces)
    weight = {v: (heavy or {}).get(v, 1.0) for v in sizes}
    tall = {v: sizes[v][1] for v in sizes}
    heights = _heights(columns, pieces, weight, tall, gap[1])

    widths = [max((sizes[v][0] for v in c if v in sizes), default=0.0) for c in columns]
    middles, x = [], 0.0
    for width in widths:
        middles.append(x + width / 2)
        x += width + gap[0]
    top = min(heights[v] - tall.get(v, 0) / 2 for v in heights) if heights else 0.0
    bottom = max(heights[v] + tall.get(v, 0) / 2 for v in heights) if heights else 0.0
    where = {v: (middles[i], heights[v] - top) for i, c in enumerate(columns) for v in c}
    return Placed(
        centres={v: where[v] for v in sizes},
        routes={e: [where[v] for v in chain] for e, chain in chains.items()},
        width=max(x - gap[0], 0.0),
        height=bottom - top,
    )


def _columns(vertices: list[V], edges: Sequence[Edge]) -> dict[V, int]:
    """Longest paths to the sinks, without recursion."""
    successors: dict[V, list[V]] = {v: [] for v in vertices}
    waiting = dict.fromkeys(vertices, 0)
    predecessors: dict[V, list[V]] = {v: [] for v in vertices}
    for a, b in edges:
        successors[a].append(b)
        predecessors[b].append(a)
        waiting[a] += 1
    far = dict.fromkeys(vertices, 0)
    ready = [v for v in vertices if not waiting[v]]
    while ready:
        b = ready.pop()
        for a in predecessors[b]:
            far[a] = max(far[a], far[b] + 1)
            waiting[a] -= 1
            if not waiting[a]:
                ready.append(a)
    last = max(far.values(), default=0)
    return {v: last - far[v] for v in vertices}


def _cut(
    edges: Sequence[Edge], column: dict[V, int], columns: list[list[V]]
) -> tuple[list[Edge], dict[Edge, list[V]]]:
    """Pieces from one column to the next, and the chain of vertices and bends of every edge."""
    pieces: list[Edge] = []
    chains: dict[Edge, list[V]] = {}
    for edge in edges:
        a, b = edge
        chain: list[V] = [a]
        for between in range(column[a] + 1, column[b]):
            bend = _Bend(edge, between)
            columns[between].append(bend)
            chain.append(bend)
        chain.append(b)
        chains[edge] = chain
        pieces += pairwise(chain)
    return pieces, chains


def _neighbours(pieces: Sequence[Edge]) -> tuple[dict[V, list[V]], dict[V, list[V]]]:
    left: dict[V, list[V]] = {}
    right: dict[V, list[V]] = {}
    for a, b in pieces:
        right.setdefault(a, []).append(b)
        left.setdefault(b, []).append(a)
    return left, right


def _ordered(columns: list[list[V]], pieces: Sequence[Edge]) -> list[list[V]]:
    left, right = _neighbours(pieces)
    best, fewest = [c[:] for c in columns], _crossings(columns, right)
    current = [c[:] for c in columns]
    for sweep in range(8):
        forward = sweep % 2 == 1
        side = left if forward else right
        indices = range(len(current)) if forward else range(len(current) - 1, -1, -1)
        rank: dict[V, float] = {v: i for c in current for i, v in enumerate(c)}
        for i in indices:
            current[i].sort(
                key=lambda v: (
                    sum(rank[n] for n in side[v]) / len(side[v]) if side.get(v) else rank[v]
                )
            )
            rank.update({v: j for j, v in enumerate(current[i])})
        crossings = _crossings(current, right)
        if crossings < fewest:
            best, fewest = [c[:] for c in current], crossings
    return best


def _crossings(columns: list[list[V]], right: Mapping[V, list[V]]) -> int:
    total = 0
    for here, there in pairwise(columns):
        rank = {v: i for i, v in enumerate(there)}
        ends = [[rank[n] for n in right.get(v, []) if n in rank] for v in here]
        total += sum(
            1
            for i, above in enumerate(ends)
            for below in ends[i + 1 :]
            for x in above
            for y in below
            if x > y
        )
    return total


def _heights(
    columns: list[list[V]],
    pieces: Sequence[Edge],
    weight: Mapping[V, float],
    tall: Mapping[V, float],
    gap: float,
) -> dict[V, float]:
    left, right = _neighbours(pieces)
    heights: dict[V, float] = {}
    for column in columns:
        y = 0.0
        for v in column:
            heights[v] = y + tall.get(v, 0.0) / 2
            y += tall.get(v, 0.0) + gap
        for v in column:
            heights[v] -= (y - gap) / 2
    for sweep in range(60):
        for column in columns if sweep % 2 == 0 else columns[::-1]:
            wishes, weights = [], []
            for v in column:
                near = [*left.get(v, []), *right.get(v, [])]
                total = sum(weight.get(n, 1.0) for n in near)
                wish = sum(weight.get(n, 1.0) * heights[n] for n in near)
                wishes.append(wish / total if near else heights[v])
                weights.append(weight.get(v, 1.0))
            room = [(tall.get(a, 0.0) + tall.get(b, 0.0)) / 2 + gap for a, b in pairwise(column)]
            heights.update(zip(column, spread(wishes, weights, room)))
    return heights


def spread(wishes: list[float], weights: list[float], room: list[float]) -> list[float]:
    """The y that minimise sum_i weight_i (y_i - wish_i)^2 subject to y_(i+1) - y_i >= room_i.

    With z_i = y_i - room_0 - ... - room_(i-1) the condition says that z does not fall: isotonic
    regression, solved by pooling neighbours that violate it.

    Example:
        >>> spread([0.0, 0.0, 9.0], [1.0, 1.0, 1.0], [2.0, 2.0])
        [-1.0, 1.0, 9.0]
    """
    offsets = [0.0]
    for r in room:
        offsets.append(offsets[-1] + r)
    pools: list[list[float]] = []  # [mean, weight, count]
    for wish, weight, offset in zip(wishes, weights, offsets):
        pools.append([wish - offset, weight, 1])
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            mean, heavy, count = pools.pop()
            pool = pools[-1]
            pool[0] = (pool[0] * pool[1] + mean * heavy) / (pool[1] + heavy)
            pool[1] += heavy
            pool[2] += count
    z = [mean for mean, _, count in pools for _ in range(int(count))]
    return [a + b for a, b in zip(z, offsets)]
