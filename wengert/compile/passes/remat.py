"""Rematerialisation: a cheap value is computed again near its late use, and not kept till then."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...graph import Graph, Var
from ...ops.elementwise import Flat
from ...ops.linear import Broadcast, Cast, CastConstant
from ...primitive import Elementwise
from ..memory import nbytes, profile, views
from .rewriting import Rewriter, uses

__all__ = ["remat"]

CHEAP = (Elementwise, Flat, Broadcast, Cast, CastConstant)
ROUNDS = 256
DEPTH = 4  # lines that are run again for one value


def remat(graph: Graph, budget: int) -> Graph:
    """A graph whose intermediate values need at most `budget` bytes at one step, if that can be.

    At the fullest step, values that are alive but read only later, and that are cheap to compute,
    are computed again before that later use: by elementwise functions, casts and broadcasts, out of
    values that live till then anyway, or out of one that is kept for several of them. The most
    bytes go first. Where that is not enough the smallest peak that was found is given. Bit-exact:
    the same operations of the same operands.

    Args:
        graph: ordered as it will run.
        budget: bytes; `memory.peak` measures the same.

    >>> import numpy as np
    >>> from wengert.transforms.staging import stage
    >>> def f(x):
    ...     a, b = np.exp(x), np.sin(x)
    ...     return np.sum(np.cos(np.tan(b) * b)) + np.sum(a)
    >>> from wengert.compile.memory import peak
    >>> g = stage(f, np.ones(1000)).graph
    >>> peak(g), peak(remat(g, 0))
    (24000, 16000)
    """
    best, height = graph, profile(graph)
    for _ in range(ROUNDS):
        if height.max(initial=0) <= budget:
            break
        top = int(np.argmax(height))
        for chains in candidates(best, top):
            made = again(best, chains, top)
            lower = profile(made)
            if lowered(lower) < lowered(height):
                best, height = made, lower
                break
        else:
            break
    return best


def lowered(height: Any) -> tuple[int, int]:
    """Less is better: the peak, and then how much of the run is near it."""
    top = int(height.max(initial=0))
    return top, int(np.maximum(height - top * 15 // 16, 0).sum())


def readers(graph: Graph) -> dict[int, list[int]]:
    """The steps that read each variable or a view of it."""
    table = uses(graph)
    for k in sorted(views(graph), reverse=True):
        x, y = graph.lines[k].inputs[0], graph.lines[k].outputs[0]
        table[x.n] = sorted({*table[x.n], *table[y.n]})
    return table


Chains = dict[int, list[int]]  # line whose value is wanted again -> the lines to run for it


def candidates(graph: Graph, top: int) -> list[Chains]:
    """What to compute again of the values that are alive over step `top`; most bytes first."""
    table, windows = readers(graph), views(graph)
    maker = {v.n: k for k, line in enumerate(graph.lines) for v in line.outputs}
    free = {v.n for v in (*graph.inputs, *graph.outputs) if isinstance(v, Var)}

    def chain(k: int, late: int, size: int, depth: int, needed: set[int]) -> list[int]:
        """Lines that compute line k at step `late`, of what lives there and what is `needed`."""
        found: list[int] = []
        for x in graph.lines[k].inputs:
            if not isinstance(x, Var) or x.n in free or max(table[x.n], default=k) >= late:
                continue
            if x.aval.size * 8 <= size:  # it is kept, and costs little
                continue
            i = maker[x.n]
            if depth > 1 and i not in windows and isinstance(graph.lines[i].op, CHEAP):
                found += [j for j in chain(i, late, size, depth - 1, needed) if j not in found]
            else:
                needed.add(x.n)
        return [*found, k]

    alone: list[tuple[int, Chains]] = []
    by_need: dict[int, Chains] = {}
    gains: dict[int, int] = {}
    for k, line in enumerate(graph.lines[:top]):
        y = line.outputs[0]
        later = [u for u in table[y.n] if u > top]
        if not isinstance(line.op, CHEAP) or k in windows or y.n in free:
            continue
        if not later or top in table[y.n]:
            continue
        needed: set[int] = set()
        lines = chain(k, min(later), y.aval.size, DEPTH, needed)
        if not needed:
            alone.append((nbytes(y), {k: lines}))
        elif len(needed) == 1:
            (n,) = needed
            by_need.setdefault(n, {})[k] = lines
            gains.setdefault(n, -nbytes(graph.lines[maker[n]].outputs[0]))
            gains[n] += nbytes(y)
    found = alone + [(gains[n], chains) for n, chains in by_need.items() if gains[n] > 0]
    found.sort(key=lambda t: -t[0])
    return [chains for _, chains in found]


def again(graph: Graph, chains: Chains, top: int) -> Graph:
    """The graph with these values computed once more, for the readers after step `top`.

    A view of one that was made before then is made anew, too.
    """
    windows, r = views(graph), Rewriter(graph)
    made = {graph.lines[k].outputs[0].n: k for k in chains}  # and the earlier views of them
    for i, line in enumerate(graph.lines[: top + 1]):
        x = line.inputs[0] if i in windows else None
        if isinstance(x, Var) and x.n in made:
            made[line.outputs[0].n] = i
    fresh: set[int] = set()

    def renew(n: int) -> None:
        if n in fresh:
            return
        fresh.add(n)
        k = made[n]
        if k not in chains:
            renew(graph.lines[k].inputs[0].n)
            r.keep(graph.lines[k])
            return
        old = {}
        for i in chains[k][:-1]:
            v = graph.lines[i].outputs[0]
            if v.n in made:
                renew(v.n)
            else:
                old[v.n] = r.of[v.n]
                r.keep(graph.lines[i])
        r.keep(graph.lines[k])
        r.of.update(old)  # others go on with the values that there were

    for i, line in enumerate(graph.lines):
        if i > top:
            for x in line.inputs:
                if isinstance(x, Var) and x.n in made:
                    renew(x.n)
        r.keep(line)
    return r.finish()
