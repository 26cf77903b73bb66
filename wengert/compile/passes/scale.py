"""A number in front of a matrix product goes to the smallest of its three arrays."""

from __future__ import annotations

from typing import Any

from ...graph import Graph, Line, Var
from ...ops import elementwise as e
from ...ops.contract import MatMul, matmul
from .rewriting import Rewriter, rewrite, uses

__all__ = ["scale"]


def scale(graph: Graph) -> Graph:
    """(s a) b, a (s b) and s (a b), with a number s, become the one that multiplies the least.

    Rounding: s goes from one side of the sum over k to the other. Each of the n terms, or their
    sum, is rounded once, as before, but elsewhere: the results differ by at most
    2 u sum_k |s a_ik b_kj|, with u the unit roundoff, and where s a or s b over- or underflows and
    s (a b) does not. A power of two changes no bit, short of that.

    Only where the product, or the scaled operand, is read nowhere else.

    >>> import numpy as np
    >>> from wengert.transforms.staging import stage
    >>> f = lambda a, b: (a @ b) * 0.3
    >>> print(scale(stage(f, np.ones((9, 2)), np.ones((2, 9))).graph))
    in   %0: float64[9, 2], %1: float64[2, 9]
    %2: float64[9, 9] = matmul(%0, %1)
    %3: float64[9, 2] = mul(%0, 0.3)
    %4: float64[9, 9] = matmul(%3, %1)
    out  %4
    """
    readers = uses(graph)
    once = {n for n, lines in readers.items() if len(lines) == 1}
    alone: set[int] = set()  # variables of the new graph that stand for those

    def scaled(r: Rewriter, line: Line, xs: tuple[Any, ...]) -> Any:
        alone.update(
            v.n
            for old, x in zip(line.inputs, xs)
            if isinstance(old, Var) and old.n in once
            for v in [x]
            if isinstance(v, Var)
        )
        if line.op is e.mul:
            return into(r, line, xs, alone)
        return out_of(r, line, xs, alone) if type(line.op) is MatMul else None

    return rewrite(graph, scaled)


def factor(x: Any) -> bool:
    """Whether x is one real number, known or not."""
    if isinstance(x, Var):
        return x.ndim == 0 and x.dtype.kind == "f"
    return not getattr(x, "shape", ()) and not isinstance(x, bool | complex)


def scaled_by(r: Rewriter, x: Any, alone: set[int]) -> tuple[Any, Any] | None:
    """(the array, the number) if x is their product, read nowhere else."""
    made = r.source(x)
    if made is None or made.op is not e.mul or x.n not in alone:
        return None
    for a, s in (made.inputs, made.inputs[::-1]):
        if isinstance(a, Var) and a.aval == x.aval and factor(s):
            return a, s
    return None


def into(r: Rewriter, line: Line, xs: tuple[Any, ...], alone: set[int]) -> Any:
    """s (a b), where an operand is smaller than the product."""
    for y, s in (xs, xs[::-1]):
        made = r.source(y)
        if made is None or type(made.op) is not MatMul or y.n not in alone or not factor(s):
            continue
        a, b = made.inputs
        small = min((x for x in (a, b) if isinstance(x, Var)), key=lambda x: x.size)
        if small.size < y.size and small.dtype == y.dtype == line.outputs[0].dtype:
            t = e.mul(small, s)
            if t.aval == small.aval:
                return matmul(t, b) if small is a else matmul(a, t)
    return None


def out_of(r: Rewriter, line: Line, xs: tuple[Any, ...], alone: set[int]) -> Any:
    """(s a) b, where the product or the other operand is smaller than a."""
    a, b = xs
    out = line.outputs[0]
    for x, other in ((a, b), (b, a)):
        found = scaled_by(r, x, alone)
        if found is None or not isinstance(other, Var) or other.dtype != x.dtype:
            continue
        inner, s = found
        if min(other.size, out.size) >= x.size or out.dtype != x.dtype:
            continue
        if out.size <= other.size:
            y = matmul(inner, b) if x is a else matmul(a, inner)
            return e.mul(y, s)
        t = e.mul(other, s)
        return matmul(inner, t) if x is a else matmul(t, inner)
    return None
