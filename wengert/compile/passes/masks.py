"""Choices that are the same all along an axis are made after the reduction of that axis.

    Max(where(c, k, x)) -> where(c, k, Max(x))      c of length 1 along the axes, k one number
    Sum(where(c, 0, x)) -> where(c, 0, Sum(x))
    where(Sum(where(m, 1, 0)) > 0, Sum(where(m, x, 0)), 0) -> Sum(where(m, x, 0))

so that the maximum of the masked and of the plain scores of an attention is one. The third is what
a mask of cotangents that is summed over a batch comes to; where no number was there the sum is 0
anyway. Bit-exact, but that a sum of no numbers may be -0.0 for 0.0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...graph import Graph, Line, Var
from ...ops import elementwise as e
from ...ops.linear import Sum
from ...ops.order import Max, Min
from .rewriting import Rewriter, rewrite

__all__ = ["masks"]


def masks(graph: Graph) -> Graph:
    """The rewrites above, wherever they fit.

    >>> from wengert.compile.passes.dce import dce
    >>> from wengert.transforms.staging import stage
    >>> f = lambda c, x: np.max(np.where(c, 0.0, x), axis=1, keepdims=True)
    >>> print(dce(masks(stage(f, np.ones((2, 1), bool), np.ones((2, 3))).graph)))
    in   %0: bool[2, 1], %1: float64[2, 3]
    %2: float64[2, 1] = Max(axes=(1,), keepdims=True)(%1)
    %3: float64[2, 1] = where(%0, 0.0, %2)
    out  %3
    """
    makers = {v.n: line for line in graph.lines for v in line.outputs}

    def moved(r: Rewriter, line: Line, xs: tuple[Any, ...]) -> Any:
        if type(line.op) in (Max, Min, Sum) and line.op.keepdims:
            return outside(r, makers, line)
        if line.op is e.where:
            return counted(makers, line, xs)
        return None

    return rewrite(graph, moved)


def outside(r: Rewriter, makers: dict[int, Line], line: Line) -> Any:
    """A reduction of a choice that does not vary along its axes."""
    choice = chosen(makers, line.inputs[0])
    if choice is None:
        return None
    c, k, x = choice.inputs
    if not isinstance(c, Var) or not isinstance(x, Var) or not number(k):
        return None
    shape = line.inputs[0].shape
    if x.shape != shape or x.dtype != choice.outputs[0].dtype:
        return None
    wide = (1,) * (len(shape) - len(c.shape)) + c.shape
    if any(wide[a] != 1 for a in line.op.axes):
        return None
    if isinstance(line.op, Sum) and (float(k) != 0.0 or x.dtype.kind != "f"):
        return None
    y = line.op(r.value(x))
    return e.where(r.value(c), k, y)


def counted(makers: dict[int, Line], line: Line, xs: tuple[Any, ...]) -> Any:
    """A sum that is taken only where something was there to be summed."""
    c, a, b = line.inputs
    if not (isinstance(a, Var) and number(b) and float(b) == 0.0):
        return None
    some = makers.get(c.n) if isinstance(c, Var) else None
    total = makers.get(a.n)
    if some is None or total is None or some.op is not e.gt or not isinstance(total.op, Sum):
        return None
    count, zero = some.inputs
    counts = makers.get(count.n) if isinstance(count, Var) else None
    if counts is None or not number(zero) or float(zero) != 0.0 or counts.op != total.op:
        return None
    ones, values = chosen(makers, counts.inputs[0]), chosen(makers, total.inputs[0])
    if ones is None or values is None or ones.inputs[0] is not values.inputs[0]:
        return None
    if not all(map(number, (*ones.inputs[1:], values.inputs[2]))):
        return None
    if (float(ones.inputs[1]), float(ones.inputs[2]), float(values.inputs[2])) != (1.0, 0.0, 0.0):
        return None
    return xs[1] if line.outputs[0].aval == a.aval else None


def chosen(makers: dict[int, Line], x: Any) -> Line | None:
    """The line of a choice that computes x."""
    line = makers.get(x.n) if isinstance(x, Var) else None
    return line if line is not None and line.op is e.where else None


def number(x: Any) -> bool:
    return not isinstance(x, Var) and np.ndim(x) == 0
