"""Dead code: a line that no output depends on, and that does nothing but compute, goes."""

from __future__ import annotations

from ...graph import Graph, Var
from .rewriting import Rewriter, pure

__all__ = ["dce"]


def dce(graph: Graph) -> Graph:
    """Without the lines that no output depends on.  Bit-exact.

    A call of a function of the user's that NumPy knows nothing of (`wg.external`) stays.

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
        if any(v.n in live for v in line.outputs) or not pure(line.op):
            kept.append(line)
            live.update(x.n for x in line.inputs if isinstance(x, Var))
    r = Rewriter(graph)
    for line in reversed(kept):
        r.keep(line)
    return r.finish()
