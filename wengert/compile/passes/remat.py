"""Rematerialisation: a cheap value is computed again near its late use, and not kept till then."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...graph import Graph, Var
from ...ops.elementwise import Flat
from ...ops.linear import Broadcast, Cast, CastConstant
from ...primitive import Elementwise
from ..memory import profile, views
from .rewriting import Rewriter, uses

__all__ = ["remat"]

CHEAP = (Elementwise, Flat, Broadcast, Cast, CastConstant)
ROUNDS = 256
DEPTH = 4  # lines that are run again for one value


def remat(graph: Graph, budget: int) -> Graph:
    """A graph whose intermediate values need at most `budget` bytes at one step, if that can be.

    At the fullest step, values that are alive but read only later, and that are cheap to compute
    out of values that live till then anyway, are computed again before that later use: elementwise
    functions, casts and broadcasts. The largest go first. Where that is not enough the smallest
    peak that was found is given. Bit-exact: the same operations of the same operands.

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
        for chain in candidates(best, int(np.argmax(height))):
            made = again(best, chain, int(np.argmax(height)))
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


def candidates(graph: Graph, top: int) -> list[list[int]]:
    """The values alive over step `top` that are cheap to compute after it: the lines to run again.

    Those of most bytes first.
    """
    table, windows = readers(graph), views(graph)
    maker = {v.n: k for k, line in enumerate(graph.lines) for v in line.outputs}
    free = {v.n for v in (*graph.inputs, *graph.outputs) if isinstance(v, Var)}

    def chain(k: int, late: int, size: int, depth: int) -> list[int] | None:
        """Lines that compute line k at step `late` out of what lives there; None: not cheaply."""
        line = graph.lines[k]
        if not isinstance(line.op, CHEAP) or depth == 0:
            return None
        found: list[int] = []
        for x in line.inputs:
            if not isinstance(x, Var) or x.n in free or max(table[x.n], default=k) >= late:
                continue
            if x.aval.size * 8 <= size:  # it is kept, and costs little
                continue
            if maker[x.n] in windows:
                return None
            more = chain(maker[x.n], late, size, depth - 1)
            if more is None:
                return None
            found.extend(i for i in more if i not in found)
        return [*found, k]

    found = []
    for k, line in enumerate(graph.lines[:top]):
        y = line.outputs[0]
        later = [u for u in table[y.n] if u > top]
        if not isinstance(line.op, CHEAP) or y.n in free or not later or top in table[y.n]:
            continue
        if k in windows:
            continue
        lines = chain(k, min(later), y.aval.size, DEPTH)
        if lines is not None:
            found.append((-y.aval.size * y.aval.dtype.itemsize, len(lines), k, lines))
    return [lines for *_, lines in sorted(found)]


def again(graph: Graph, chain: list[int], top: int) -> Graph:
    """The graph with these lines run once more, for the readers of the last one after step `top`.

    A view of it that was made before then is made anew, too.
    """
    windows, r = views(graph), Rewriter(graph)
    y = graph.lines[chain[-1]].outputs[0]
    made = {y.n: chain[-1]}  # y and the earlier views of it, and the lines that make them
    for i, line in enumerate(graph.lines[: top + 1]):
        if i in windows and line.inputs[0].n in made:
            made[line.outputs[0].n] = i
    fresh: set[int] = set()

    def renew(n: int) -> None:
        if n in fresh:
            return
        fresh.add(n)
        if n != y.n:
            renew(graph.lines[made[n]].inputs[0].n)
            r.keep(graph.lines[made[n]])
            return
        old = {v.n: r.of[v.n] for i in chain[:-1] for v in graph.lines[i].outputs}
        for i in chain:
            r.keep(graph.lines[i])
        r.of.update(old)  # others go on with the values that there were

    for i, line in enumerate(graph.lines):
        if i > top:
            for x in line.inputs:
                if isinstance(x, Var) and x.n in made:
                    renew(x.n)
        r.keep(line)
    return r.finish()
