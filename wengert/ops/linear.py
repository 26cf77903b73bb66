"""Linear maps that keep every number: each stands beside its transpose.

    Sum <-> Broadcast        Reshape, Transpose, Cumsum, Cast <-> their own inverses

A linear map is its own tangent map, so a rule here is the transpose alone.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from ..nest import Nest
from ..primitive import Constant, Linear, op
from ..structural import At, Masked, densify, unbroadcast
from ..trace import OPS
from ..types import Array, Aval, DType, Shape, is_inexact, shape_of

add_reduce: Any = np.add.reduce


def drop(seq: Any, axes: tuple[int, ...]) -> tuple[Any, ...]:
    return tuple(s for i, s in enumerate(seq) if i not in axes)


def keep(shape: Shape, axes: tuple[int, ...]) -> Shape:
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


def after(axes: tuple[int, ...]) -> tuple[int, ...]:
    """The same axes once a batch axis stands in front."""
    return tuple(a + 1 for a in axes)


@op
class Sum(Linear):
    """Sum over axes:  y[k] = sum_i x[i, k],  i over `axes`.

    Linear, so it is its own JVP; its transpose is a broadcast:  gx[i, k] = gy[k].
    """

    axes: tuple[int, ...]  # sorted, non-negative
    keepdims: bool

    examples: ClassVar[Any] = [
        (((0,), False), (3, 4)),
        (((0, 1), True), (3, 4)),
        (((), False), (2,)),
        (((1,), False), (2, 0)),
    ]

    def impl(self, x: Array) -> Array:
        return add_reduce(x, axis=self.axes, keepdims=self.keepdims)

    def infer(self, x: Aval) -> Aval:
        shape = keep(x.shape, self.axes) if self.keepdims else drop(x.shape, self.axes)
        return Aval(shape, np.add.reduce(np.empty(0, x.dtype)).dtype)

    def vjp(self, g: Array, x_shape: Shape) -> Array:
        if not self.keepdims and len(self.axes) < len(x_shape):
            g = Reshape(keep(x_shape, self.axes))(g)
        return Broadcast(x_shape)(g)

    def batch(self, xs: Any, dims: Any) -> Array:
        return Sum(after(self.axes), self.keepdims)(*xs)

    def lower(self, x: Aval) -> Nest | None:
        if self.keepdims:
            return None
        labels = tuple(range(x.ndim))
        return Nest(x.shape, (labels,), drop(labels, self.axes), "add" if self.axes else None)


@op
class Broadcast(Linear):
    """Repeat along new or length-1 axes until the shape is `shape`, aligned at the right.

    y[i, k] = x[k];  its transpose is a sum:  gx[k] = sum_i gy[i, k].
    """

    shape: Shape

    examples: ClassVar[Any] = [
        (((2, 3),), (3,)),
        (((2, 3),), (2, 1)),
        (((4,),), ()),
        (((0, 2),), (2,)),
    ]

    def impl(self, x: Array) -> Array:
        y = np.empty(self.shape, getattr(x, "dtype", None) or np.asarray(x).dtype)
        y[...] = x
        return y

    def infer(self, x: Aval) -> Aval:
        np.broadcast_shapes(x.shape, self.shape)
        return Aval(self.shape, x.dtype)

    def vjp(self, g: Array, x_shape: Shape) -> Array:
        return unbroadcast(g, x_shape)

    def batch(self, xs: Any, dims: Any) -> Array:
        (x,) = xs
        s = shape_of(x)
        ones = (1,) * (len(self.shape) - len(s) + 1)
        return Broadcast((s[0], *self.shape))(Reshape((s[0], *ones, *s[1:]))(x))

    def lower(self, x: Aval) -> Nest | None:
        n = len(self.shape)
        load = tuple(None if k == 1 else n - x.ndim + i for i, k in enumerate(x.shape))
        return Nest(self.shape, (load,), tuple(range(n)))


def rearranged(move: Any, g: Any) -> Any:
    """A structured cotangent with its numbers moved: the mask moves with them."""
    if isinstance(g, At):
        g = g.masked()
    if isinstance(g, Masked):
        g = g.even()
        return Masked(move(g.value), move(g.mask))
    return move(densify(g))


@op
class Reshape(Linear):
    """The same numbers, in row-major order, in another shape.  gx = gy in the shape of x.

    The first `lanes` axes are batch axes and stay.
    """

    shape: Shape
    lanes: int = 0
    view = True
    keeps_mask = True

    examples: ClassVar[Any] = [
        (((6,),), (2, 3)),
        (((2, 1, 3),), (3, 2)),
        (((),), (1, 1)),
        (((2, 2), 1), (3, 4)),
    ]

    def impl(self, x: Array) -> Array:
        shape = x.shape[: self.lanes] + self.shape if self.lanes else self.shape
        return np.reshape(x, shape)

    def infer(self, x: Aval) -> Aval:
        shape = x.shape[: self.lanes] + self.shape
        if math.prod(shape) != x.size:
            raise ValueError(f"cannot reshape {x} into shape {shape}")
        return Aval(shape, x.dtype)

    def vjp(self, g: Any, x_shape: Shape) -> Any:
        return rearranged(Reshape(x_shape), g)

    def batch(self, xs: Any, dims: Any) -> Array:
        return Reshape(self.shape, self.lanes + 1)(*xs)

    def diagnose(self, xs: Any, error: Exception) -> Any:
        size = math.prod(shape_of(xs[0]))
        return f"{size} elements do not fill shape {list(self.shape)}", None, None


@op
class Transpose(Linear):
    """Permute the axes:  y[i_p(0), i_p(1), ..] = x[i_0, i_1, ..].

    Its transpose permutes them back.
    """

    perm: tuple[int, ...]
    view = True
    keeps_mask = True

    examples: ClassVar[Any] = [(((1, 0),), (2, 3)), (((2, 0, 1),), (2, 3, 4)), (((),), ())]

    def impl(self, x: Array) -> Array:
        return np.transpose(x, self.perm)

    def infer(self, x: Aval) -> Aval:
        return Aval(tuple(x.shape[p] for p in self.perm), x.dtype)

    def vjp(self, g: Any) -> Any:
        return rearranged(Transpose(inverse(self.perm)), g)

    def batch(self, xs: Any, dims: Any) -> Array:
        return Transpose((0, *after(self.perm)))(*xs)

    def lower(self, x: Aval) -> Nest | None:
        sizes = tuple(x.shape[p] for p in self.perm)
        return Nest(sizes, (inverse(self.perm),), tuple(range(x.ndim)))


def inverse(perm: tuple[int, ...]) -> tuple[int, ...]:
    out = [0] * len(perm)
    for i, p in enumerate(perm):
        out[p] = i
    return tuple(out)


def moveaxis(x: Array, source: int, to: int) -> Array:
    if source == to:
        return x
    perm = [i for i in range(len(shape_of(x))) if i != source]
    perm.insert(to, source)
    return Transpose(tuple(perm))(x)


@op
class Cast(Linear):
    """The same numbers in another floating dtype.  gx = gy in the dtype of x."""

    dtype: DType

    examples: ClassVar[Any] = [((np.dtype(np.float64),), (3,))]

    def impl(self, x: Array) -> Array:
        return np.asarray(x).astype(self.dtype)

    def infer(self, x: Aval) -> Aval:
        return Aval(x.shape, self.dtype)

    def vjp(self, g: Array, x_dtype: DType) -> Array:
        if g.dtype.kind == "c" and x_dtype.kind != "c":
            g = OPS["real"](g)
        return g if g.dtype == x_dtype else Cast(x_dtype)(g)

    def batch(self, xs: Any, dims: Any) -> Array:
        return self(*xs)


@op
class CastConstant(Constant):
    """The same numbers as integers or booleans: no derivative."""

    dtype: DType

    examples: ClassVar[Any] = [((np.dtype(np.int64),), (3,)), ((np.dtype(bool),), (2, 2))]

    def impl(self, x: Array) -> Array:
        return np.asarray(x).astype(self.dtype)

    def infer(self, x: Aval) -> Aval:
        return Aval(x.shape, self.dtype)

    def batch(self, xs: Any, dims: Any) -> Array:
        return self(*xs)


def astype(x: Array, dtype: Any) -> Array:
    dtype = np.dtype(dtype)
    if x.dtype == dtype:
        return x
    return (Cast if is_inexact(dtype) else CastConstant)(dtype)(x)


@op
class Cumsum(Linear):
    """Running sum along an axis:  y[i] = sum_{j <= i} x[j];  with `reverse`, over j >= i.

    Its transpose runs the other way:  gx[j] = sum_{i >= j} gy[i].
    """

    axis: int
    reverse: bool = False

    examples: ClassVar[Any] = [((0,), (3, 2)), ((1, True), (2, 3)), ((0,), (0,))]

    def impl(self, x: Array) -> Array:
        if not self.reverse:
            return np.add.accumulate(x, axis=self.axis)
        flip = (slice(None),) * self.axis + (slice(None, None, -1),)
        return np.add.accumulate(x[flip], axis=self.axis)[flip]

    def infer(self, x: Aval) -> Aval:
        return Aval(x.shape, np.add.accumulate(np.empty(0, x.dtype)).dtype)

    def vjp(self, g: Array) -> Array:
        return Cumsum(self.axis, not self.reverse)(g)

    def batch(self, xs: Any, dims: Any) -> Array:
        return Cumsum(self.axis + 1, self.reverse)(*xs)
