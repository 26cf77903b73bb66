"""Transposes go before matrix products, where a library of products takes them for nothing."""

from __future__ import annotations

from typing import Any

from ...graph import Graph, Line, Var
from ...ops.contract import MatMul, matmul
from ...ops.linear import Transpose
from .movement import inner
from .rewriting import Rewriter, rewrite, uses

__all__ = ["products"]


def products(graph: Graph) -> Graph:
    """(a b)^T becomes b^T a^T, where the product is read nowhere else.

    The transposes of the operands are views, which a BLAS reads as flags; that of the product would
    be read with long strides by whatever comes next. A transpose of a transpose is left out.

    Rounding: the same products are added up, but a library may add in another order: up to
    n u sum_k |a_ik b_kj| for n terms, with u the unit roundoff, and mostly nothing.

    >>> import numpy as np
    >>> from wengert.transforms.staging import stage
    >>> from wengert.compile.passes.dce import dce
    >>> f = lambda a, b: (a @ b.T).T
    >>> print(dce(products(stage(f, np.ones((4, 2)), np.ones((3, 2))).graph)))
    in   %0: float64[4, 2], %1: float64[3, 2]
    %2: float64[2, 4] = Transpose(perm=(1, 0))(%0)
    %3: float64[3, 4] = matmul(%1, %2)
    out  %3
    """
    once = {n for n, lines in uses(graph).items() if len(lines) == 1}

    def turned(r: Rewriter, line: Line, xs: tuple[Any, ...]) -> Any:
        if type(line.op) is not Transpose or not swaps_last(line.op.perm):
            return None
        made = r.source(xs[0])
        old = line.inputs[0]
        if made is None or type(made.op) is not MatMul or old.n not in once:
            return None
        a, b = made.inputs
        if not all(isinstance(x, Var) and x.ndim == len(line.op.perm) for x in (a, b)):
            return None
        return matmul(flipped(r, b), flipped(r, a))

    return rewrite(graph, turned)


def swaps_last(perm: tuple[int, ...]) -> bool:
    n = len(perm)
    return n >= 2 and perm == (*range(n - 2), n - 1, n - 2)


def flipped(r: Rewriter, x: Any) -> Any:
    """x with its last axes exchanged."""
    perm = (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2)
    made = r.source(x)
    if made is not None and type(made.op) is Transpose and made.op.perm == perm:
        return inner(r, x, Transpose)
    return Transpose(perm)(x)
