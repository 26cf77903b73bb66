"""Identities of the operations that only move or convert numbers: part of `algebra`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ...graph import Line, Var
from ...ops import elementwise as e
from ...ops.index import Concatenate, GetItem, Pad, Write
from ...ops.linear import Broadcast, Cast, CastConstant, Reshape, Sum, Transpose, keep
from ...types import DType, Shape, shape_of
from .rewriting import Rewriter

__all__ = ["MOVES", "inner", "same"]

Operands = tuple[Any, ...]


def same(line: Line, x: Any) -> Any:
    """x, if it is a variable and has the type of the line's output."""
    return x if isinstance(x, Var) and x.aval == line.outputs[0].aval else None


def inner(r: Rewriter, x: Any, op: Any) -> Any:
    """The operand of x, if x is `op` of one operand, `op` an operation or a class; else None."""
    made = r.source(x)
    if made is None or (made.op is not op and type(made.op) is not op):
        return None
    return made.inputs[0]


def squeezed(shape: Shape) -> Shape:
    return tuple(n for n in shape if n != 1)


def only_ones(before: Shape, after: Shape) -> bool:
    """Whether a broadcast adds nothing but axes of length 1."""
    return math.prod(before) == math.prod(after) and squeezed(before) == squeezed(after)


def reshape(r: Rewriter, line: Line, xs: Operands) -> Any:
    (x,) = xs
    shape = line.outputs[0].shape
    if shape_of(x) == shape:
        return same(line, x)
    source = inner(r, x, Reshape)
    if source is not None:
        return same(line, source) if shape_of(source) == shape else Reshape(shape)(source)
    source = inner(r, x, Broadcast)
    if source is not None and math.prod(shape_of(source)) == 1 and len(shape_of(source)) <= 1:
        return Broadcast(shape)(source)
    return Reshape(shape)(x) if line.op.lanes else None


def transpose(r: Rewriter, line: Line, xs: Operands) -> Any:
    (x,), perm = xs, line.op.perm
    if perm == tuple(range(len(perm))):
        return same(line, x)
    made = r.source(x)
    if made is not None and type(made.op) is Transpose:
        (source,), first = made.inputs, made.op.perm
        both = tuple(first[p] for p in perm)
        if both == tuple(range(len(both))):
            return same(line, source)
        return Transpose(both)(source)
    moved = [p for p in perm if x.shape[p] != 1]
    if moved == sorted(moved):  # only axes of length 1 change places
        return Reshape(line.outputs[0].shape)(x)
    source = inner(r, x, Broadcast)
    if source is not None and math.prod(shape_of(source)) == 1 and len(shape_of(source)) <= 1:
        return Broadcast(line.outputs[0].shape)(source)
    return None


def broadcast(r: Rewriter, line: Line, xs: Operands) -> Any:
    (x,), shape = xs, line.op.shape
    if shape_of(x) == shape:
        return same(line, x)
    source = inner(r, x, Broadcast)
    if source is not None:
        return Broadcast(shape)(source)
    if isinstance(x, Var) and only_ones(x.shape, shape):
        return Reshape(shape)(x)
    source = inner(r, x, Reshape)
    if source is not None:
        before = (1,) * (x.ndim - len(shape_of(source))) + shape_of(source)
        if before == x.shape:  # the axes that broadcasting puts in front anyway
            return Broadcast(shape)(source)
    return None


def lossless(a: DType, b: DType) -> bool:
    """Whether every number of dtype a is one of b."""
    if a.kind in "fc" and b.kind in "fc":
        return bool(np.can_cast(a, b, "safe"))
    if a.kind in "biu" and b.kind in "biu":
        return bool(np.can_cast(a, b, "safe"))
    if a.kind in "biu" and b.kind == "f":
        return a.kind == "b" or a.itemsize * 8 <= np.finfo(b).nmant + 1
    return False


def cast(r: Rewriter, line: Line, xs: Operands) -> Any:
    (x,), dtype = xs, line.op.dtype
    if isinstance(x, Var) and x.dtype == dtype:
        return same(line, x)
    for kind in (Cast, CastConstant):
        source = inner(r, x, kind)
        if isinstance(source, Var) and lossless(source.dtype, x.dtype):
            if source.dtype == dtype:
                return same(line, source)
            return line.op(source)
    return None


def sum_(r: Rewriter, line: Line, xs: Operands) -> Any:
    """A sum of one number each adds it to 0.0; of n equal whole numbers it is a product with n."""
    (x,), op, out = xs, line.op, line.outputs[0]
    if not isinstance(x, Var) or x.dtype != out.dtype:
        return None
    if all(x.shape[a] == 1 for a in op.axes):
        y = x if x.shape == out.shape else Reshape(out.shape)(x)
        if x.dtype.kind in "iu":
            return y
        return e.add(y, 0.0) if x.dtype.kind == "f" else None
    source = inner(r, x, Broadcast)
    if isinstance(source, Var) and x.dtype.kind in "iu":
        start = x.ndim - source.ndim
        added = [a for a in op.axes if a < start or source.shape[a - start] == 1]
        if len(added) == len(op.axes):
            count = np.asarray(math.prod(x.shape[a] for a in op.axes)).astype(x.dtype)
            y = e.mul(source, count)
            kept = keep(x.shape, op.axes)
            if y.shape != kept:
                y = Broadcast(kept)(y)
            return y if kept == out.shape else Reshape(out.shape)(y)
    return None


def whole(i: Any, n: int) -> bool:
    return isinstance(i, slice) and i.indices(n) == (0, n, 1)


def getitem(r: Rewriter, line: Line, xs: Operands) -> Any:
    (x,), index = xs, line.op.index
    slices = [i for i in index if i is not Ellipsis]
    if len(index) - len(slices) <= 1 and all(isinstance(i, slice) for i in slices):
        if shape_of(x) == line.outputs[0].shape and not any(
            (i.step or 1) < 0 for i in slices
        ):  # a slice of the whole length with a positive step is the whole
            return same(line, x)
        part = of_concatenation(r, x, index)
        if part is not None:
            return same(line, part)
    return None


def of_concatenation(r: Rewriter, x: Any, index: tuple[Any, ...]) -> Any:
    """The operand of a concatenation that the slices cut out again."""
    made = r.source(x)
    if made is None or type(made.op) is not Concatenate or Ellipsis in index:
        return None
    axis, start = made.op.axis, 0
    if len(index) <= axis:
        return None
    if not all(whole(i, n) for k, (i, n) in enumerate(zip(index, x.shape)) if k != axis):
        return None
    low, high, step = index[axis].indices(x.shape[axis])
    for part in made.inputs:
        n = shape_of(part)[axis]
        if (start, start + n, 1) == (low, high, step) and n:
            return part
        start += n
    return None


def concatenate(r: Rewriter, line: Line, xs: Operands) -> Any:
    if len(xs) == 1:
        return same(line, xs[0])
    full = [x for x in xs if shape_of(x)[line.op.axis]]
    if len(full) == 1:
        return same(line, full[0])
    if (
        0 < len(full) < len(xs)
        and np.result_type(*(x.dtype for x in full)) == line.outputs[0].dtype
    ):
        return Concatenate(line.op.axis)(*full)
    return None


def pad(r: Rewriter, line: Line, xs: Operands) -> Any:
    return same(line, xs[0]) if all(w == (0, 0) for w in line.op.widths) else None


def write(r: Rewriter, line: Line, xs: Operands) -> Any:
    """Where all of x is written, what is written is all there is."""
    x, v = xs
    for op in line.op.path:
        if type(op) is not GetItem or not all(
            i is Ellipsis or isinstance(i, slice) for i in op.index
        ):
            return None
        slices = [i for i in op.index if i is not Ellipsis]
        if op.index[:1] == (Ellipsis,) and slices:
            return None
        if not all(whole(i, n) for i, n in zip(slices, x.shape)):
            return None
    if not isinstance(v, Var) or v.dtype.kind != x.dtype.kind:
        return None
    if v.dtype != x.dtype:
        v = Cast(x.dtype)(v)
    return v if v.aval == line.outputs[0].aval else Broadcast(x.shape)(v)


MOVES: dict[type, Callable[[Rewriter, Line, Operands], Any]] = {
    Reshape: reshape,
    Transpose: transpose,
    Broadcast: broadcast,
    Cast: cast,
    CastConstant: cast,
    Sum: sum_,
    GetItem: getitem,
    Concatenate: concatenate,
    Pad: pad,
    Write: write,
}
