"""Dead code: operations have no effects, so a line that no output depends on goes."""

from __future__ import annotations

from ...graph import Graph, Var
from .rewriting import Rewriter

__all__ = ["dce"]


def dce(graph: Graph) -> Graph:
    """Without the lines that no output depends on.  Bit-exact.

    >>> import numpy as np
    >>> from wengert.transforms.staging import stage
    >>> print(dce(stage(lambda x: (np.sin(x), np.cos(x))[0], np.ones(3)).graph))
    in   %0: float64[3]
    %1: float64[3] = sin(%0)
    out  %1
    """
    live = {v.n for v in graph.outputs if isinstance(v, Var)}
    kept = []
    for line in reversed(graph.lines):
        if any(v.n in live for v in line.outputs):
            kept.append(line)
            live.update(x.n for x in line.inputs if isinstance(x, Var))
    r = Rewriter(graph)
    for line in reversed(kept):
        r.keep(line)
    return r.finish()
