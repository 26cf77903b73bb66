"""Constants: a line whose operands are all known is evaluated now."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...graph import Graph, Line, Var
from ...types import Aval
from .rewriting import Rewriter, pure, rewrite

__all__ = ["fold"]

FREE = 64  # elements that a constant may have whatever it is made of


def fold(graph: Graph) -> Graph:
    """Lines of constants alone become constants.  Bit-exact: the operation's own value.

    Nothing large is made of something small: the broadcast of a number stays a line.

    >>> import numpy as np
    >>> from wengert.graph import Graph
    >>> from wengert.trace import OPS
    >>> from wengert.types import Aval
    >>> g = Graph()
    >>> x = g.input(Aval((2,), np.dtype(float)))
    >>> y = g.emit(OPS["mul"], (x, g.emit(OPS["sqrt"], (4.0,))))
    >>> g.outputs = [y]
    >>> print(fold(g))
    in   %0: float64[2]
    %1: float64[2] = mul(%0, np.float64(2.0))
    out  %1
    """
    return rewrite(graph, folded)


def folded(r: Rewriter, line: Line, xs: tuple[Any, ...]) -> Any:
    if any(isinstance(x, Var) for x in xs) or not pure(line.op):
        return None
    size = sum(int(np.size(x)) for x in xs)
    if sum(v.size for v in line.outputs) > max(size, FREE):
        return None
    try:
        with np.errstate(all="ignore"):
            got = line.op.impl(*xs)
    except (ValueError, TypeError, IndexError, ArithmeticError):
        return None  # the program refuses when it runs, as it would have
    parts = tuple([own(y) for y in (got if isinstance(got, tuple) else (got,))])
    if any(Aval.of(y) != v.aval for y, v in zip(parts, line.outputs, strict=True)):
        return None
    return parts


def own(y: Any) -> Any:
    """A value that no later write reaches, in row-major order."""
    y = y[()] if isinstance(y, np.ndarray) and y.ndim == 0 else y
    return np.array(y, order="C") if isinstance(y, np.ndarray) else y
