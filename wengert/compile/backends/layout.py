"""How NumPy would lay out every value of a graph, worked out without computing one.

The result of an elementwise function has its axes in the order of its operands' strides, and the
order in which a sum adds up follows the strides. A program that writes its values elsewhere keeps
these layouts, so that it rounds as an eager run does.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from ...graph import Graph, Line, Var
from ...ops.contract import MatMul
from ...ops.index import GetItem, is_basic
from ...ops.linear import Broadcast, Reshape, Transpose
from ...types import Aval, DType, Shape
from ..passes.rewriting import pure

__all__ = ["Layouts", "compact", "in_one", "is_view_of"]

WINDOWS = (Reshape, Transpose, GetItem)


def compact(shape: Shape, dtype: DType, like: Shape, buffer: Any, offset: int = 0) -> Any:
    """An array on a buffer without gaps, with its axes in the order, and the direction, of strides.

    >>> compact((2, 3), np.dtype(float), (8, 16), bytearray(48)).strides
    (8, 16)
    """
    order = sorted(range(len(shape)), key=lambda i: -abs(like[i]))
    strides, step = [0] * len(shape), dtype.itemsize
    for i in reversed(order):
        strides[i] = step if like[i] >= 0 else -step
        step *= max(shape[i], 1)
    start = offset + sum(-s * (n - 1) for s, n in zip(strides, shape) if s < 0 and n)
    return np.ndarray(shape, dtype, buffer, start, strides)


def in_one(shape: Shape, dtype: DType) -> Shape:
    """The strides of an array in row-major order."""
    strides, step = [], dtype.itemsize
    for n in reversed(shape):
        strides.append(step)
        step *= max(n, 1)
    return tuple(reversed(strides))


def is_view_of(y: Any, x: Any) -> bool:
    return isinstance(y, np.ndarray) and np.may_share_memory(y, x)


class Layouts:
    """A model of every variable: an array of zeros of its shape, dtype and strides.

    They all lie on one another, in memory that is never written, and mostly never touched.
    `views` holds the lines whose value NumPy gives as a window on the operand.
    """

    def __init__(self, graph: Graph) -> None:
        every = [*graph.inputs, *(v for line in graph.lines for v in line.outputs)]
        avals = [v.aval for v in every] + [Aval.of(v) for v in graph.outputs]
        most = max([a.size * a.dtype.itemsize for a in avals], default=0)
        self.zeros = np.zeros(max(most, 64), np.uint8)
        self.of: dict[int, Any] = {}
        self.views: set[int] = set()
        for v in graph.inputs:
            self.of[v.n] = self.rows(v.aval.shape, v.aval.dtype)
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for k, line in enumerate(graph.lines):
                self.line(k, line)

    def rows(self, shape: Shape, dtype: DType) -> Any:
        return compact(shape, dtype, in_one(shape, dtype), self.zeros.data)

    def value(self, x: Any) -> Any:
        return self.of[x.n] if isinstance(x, Var) else np.asarray(x)

    def line(self, k: int, line: Line) -> None:
        xs = [self.value(x) for x in line.inputs]
        if type(line.op) in WINDOWS and isinstance(line.inputs[0], Var):
            y = self.window(line, xs[0])
            if y is not None:
                self.views.add(k)
                self.of[line.outputs[0].n] = y
                return
        strides = self.strides(line, xs)
        for v, s in zip(line.outputs, strides):
            shape, dtype = v.aval.shape, v.aval.dtype
            if s is None or len(s) != len(shape):
                self.of[v.n] = self.rows(shape, dtype)
            else:
                self.of[v.n] = compact(shape, dtype, s, self.zeros.data)

    def window(self, line: Line, x: Any) -> Any:
        """The value as a window on x, or None where it is a copy."""
        op = line.op
        if type(op) is GetItem:
            return x[windowed(op.index)] if is_basic(op.index) else None
        if type(op) is Transpose:
            return x.transpose(op.perm)
        y = x.reshape(line.outputs[0].aval.shape)
        return y if y.size == 0 or is_view_of(y, self.zeros) else None

    def strides(self, line: Line, xs: list[Any]) -> list[Any]:
        """The strides of each result in an eager run; None stands for row-major order."""
        op, none = line.op, [None] * len(line.outputs)
        f = getattr(op, "f", None)
        if type(op) in (Broadcast, Reshape) or not pure(op):
            return none
        if isinstance(f, np.ufunc) and f.nout == 1 and f.nin == len(xs):
            if all(x.flags.c_contiguous for x in xs):
                return none
            return [allocated(xs)]
        if type(op) is MatMul:
            a, b = xs
            if a.ndim <= 2 and b.ndim <= 2:
                return none
            if b.ndim == 2 and a.flags.c_contiguous:
                return none
            return [np.matmul(a[..., :0], b[..., :0, :] if b.ndim > 1 else b[:0]).strides]
        try:
            y = op.impl(*[x if not isinstance(x, Var) else self.of[x.n] for x in line.inputs])
        except (ValueError, TypeError, IndexError, ArithmeticError):
            return none  # refused: zeros are not among its operands
        return [np.asarray(part).strides for part in (y if isinstance(y, tuple) else (y,))]


def windowed(index: Any) -> Any:
    """An index whose result is an array even where it picks one number."""
    return index if any(i is Ellipsis for i in index) else (*index, Ellipsis)


def allocated(xs: list[Any]) -> Any:
    """The strides of what a ufunc allocates for operands of these strides."""
    flags: Any = [["readonly"]] * len(xs) + [["writeonly", "allocate"]]
    loop: Any = np.nditer([*xs, None], ["zerosize_ok"], flags, order="K")
    return loop.operands[-1].strides
