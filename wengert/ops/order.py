"""Reductions that choose: max and min; and the integer argmax, argsort, which have no derivative.

Where several elements tie, they share the cotangent equally: the average of the one-sided choices.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..nest import Nest
from ..primitive import Constant, General, op
from ..structural import broadcast, masked
from ..trace import OPS
from ..types import Array, Aval, Shape, shape_of
from .index import Concatenate, GetItem
from .linear import Reshape, Sum, Transpose, after, drop, inverse, keep


class Extreme(General):
    """y[k] = the chosen x[i, k] over i in `axes`.

    gx = gy / (number of ties) where x = y; no gradient elsewhere.
    """

    axes: tuple[int, ...]
    keepdims: bool

    def _share(self, x: Array, y: Array) -> tuple[Array, Array]:
        """(mask of the chosen elements, how many tie), reduced axes kept. A nan chooses all."""
        y = y if self.keepdims else Reshape(keep(shape_of(x), self.axes))(y)
        mask = OPS["logical_not"](OPS[self.beaten](x, y))
        return mask, Sum(self.axes, True)(OPS["where"](mask, 1.0, 0.0)).astype(y.dtype)

    beaten = ""

    def infer(self, x: Aval) -> Aval:
        shape = keep(x.shape, self.axes) if self.keepdims else drop(x.shape, self.axes)
        return Aval(shape, x.dtype)

    def jvp(self, dx: Array, x: Array, y: Array) -> Array:
        mask, count = self._share(x, y)
        total = Sum(self.axes, True)(OPS["where"](mask, dx, 0.0)) / count
        return total if self.keepdims else Reshape(drop(shape_of(x), self.axes))(total)

    def vjp(self, g: Array, x: Array, y: Array) -> Any:
        mask, count = self._share(x, y)
        g = g if self.keepdims else Reshape(keep(shape_of(x), self.axes))(g)
        return masked(broadcast(g / count, shape_of(x)), mask)

    def batch(self, xs: Any, dims: Any) -> Array:
        same: Any = type(self)
        return same(after(self.axes), self.keepdims)(*xs)


@op
class Max(Extreme):
    """y[k] = max_i x[i, k], i over `axes`.  gx = gy / (number of ties) where x = y."""

    axes: tuple[int, ...]
    keepdims: bool
    beaten = "lt"

    examples: ClassVar[Any] = [(((0,), False), (3, 4)), (((0, 1), True), (2, 3))]

    def impl(self, x: Array) -> Array:
        reduce: Any = np.maximum.reduce
        return reduce(x, axis=self.axes, keepdims=self.keepdims)

    def lower(self, x: Aval) -> Nest | None:
        if self.keepdims or 0 in x.shape:
            return None
        labels = tuple(range(x.ndim))
        return Nest(x.shape, (labels,), drop(labels, self.axes), "max" if self.axes else None)


@op
class Min(Extreme):
    """y[k] = min_i x[i, k], i over `axes`.  gx = gy / (number of ties) where x = y."""

    axes: tuple[int, ...]
    keepdims: bool
    beaten = "gt"

    examples: ClassVar[Any] = [(((0,), False), (3, 4)), (((0, 1), True), (2, 3))]

    def impl(self, x: Array) -> Array:
        reduce: Any = np.minimum.reduce
        return reduce(x, axis=self.axes, keepdims=self.keepdims)

    def lower(self, x: Aval) -> Nest | None:
        if self.keepdims or 0 in x.shape:
            return None
        labels = tuple(range(x.ndim))
        return Nest(x.shape, (labels,), drop(labels, self.axes), "min" if self.axes else None)


class ByIndex(Constant):
    """Integers that say where: no derivative."""

    axis: int

    def batch(self, xs: Any, dims: Any) -> Array:
        same: Any = type(self)
        return same(self.axis + 1)(*xs)


@op
class ArgMax(ByIndex):
    """The first index of the maximum along `axis`."""

    axis: int

    examples: ClassVar[Any] = [((0,), (3, 4))]

    def impl(self, x: Array) -> Array:
        return np.argmax(x, axis=self.axis)

    def infer(self, x: Aval) -> Aval:
        return Aval(drop(x.shape, (self.axis,)), np.dtype(np.intp))


@op
class ArgMin(ByIndex):
    """The first index of the minimum along `axis`."""

    axis: int

    examples: ClassVar[Any] = [((1,), (3, 4))]

    def impl(self, x: Array) -> Array:
        return np.argmin(x, axis=self.axis)

    def infer(self, x: Aval) -> Aval:
        return Aval(drop(x.shape, (self.axis,)), np.dtype(np.intp))


@op
class ArgSort(ByIndex):
    """The indices that sort along `axis`, stably."""

    axis: int

    examples: ClassVar[Any] = [((0,), (3, 4))]

    def impl(self, x: Array) -> Array:
        return np.argsort(x, axis=self.axis, kind="stable")

    def infer(self, x: Aval) -> Aval:
        return Aval(x.shape, np.dtype(np.intp))


@op
class Prod(General):
    """y[k] = prod_i x[i, k],  i over `axes`.

    gx[i, k] = gy[k] prod_{j != i} x[j, k]: the products without one factor come from a tree of
    products, never from y / x, and are right with zeros among the factors, at every order.
    """

    axes: tuple[int, ...]
    keepdims: bool

    examples: ClassVar[Any] = [
        (((0,), False), (3, 4)),
        (((0, 1), True), (2, 3)),
        (((0,), False), np.array([0.0, 0.0, 2.0])),
        (((1,), False), (2, 0)),
    ]

    def impl(self, x: Array) -> Array:
        reduce: Any = np.multiply.reduce
        return reduce(x, axis=self.axes, keepdims=self.keepdims)

    def infer(self, x: Aval) -> Aval:
        shape = keep(x.shape, self.axes) if self.keepdims else drop(x.shape, self.axes)
        return Aval(shape, np.multiply.reduce(np.empty(0, x.dtype)).dtype)

    def jvp(self, dx: Array, x: Array) -> Array:
        return Sum(self.axes, self.keepdims)(dx * without_one(x, self.axes))

    def vjp(self, g: Array, x: Array) -> Array:
        g = g if self.keepdims else Reshape(keep(shape_of(x), self.axes))(g)
        return g * without_one(x, self.axes)

    def batch(self, xs: Any, dims: Any) -> Array:
        return Prod(after(self.axes), self.keepdims)(*xs)

    def lower(self, x: Aval) -> Nest | None:
        if self.keepdims:
            return None
        labels = tuple(range(x.ndim))
        return Nest(x.shape, (labels,), drop(labels, self.axes), "mul" if self.axes else None)


def without_one(x: Array, axes: tuple[int, ...]) -> Array:
    """out[i] = product of all x along `axes` but x[i]."""
    s = shape_of(x)
    perm = (*(i for i in range(len(s)) if i not in axes), *axes)
    moved = Transpose(perm)(x)
    ms = shape_of(moved)
    lead: Shape = ms[: len(ms) - len(axes)]
    rows = Reshape((int(np.prod(lead)), int(np.prod(ms[len(lead) :]))))(moved)
    return Transpose(inverse(perm))(Reshape(ms)(_without_one(rows)))


def _without_one(x: Array) -> Array:
    rows, n = shape_of(x)
    if n <= 1:
        return np.ones((rows, n), x.dtype)
    if n % 2:
        x = Concatenate(1)(x, np.ones((rows, 1), x.dtype))
    a, b = (GetItem((slice(None), slice(k, None, 2)))(x) for k in (0, 1))
    rest = _without_one(a * b)
    half = (rows, (n + 1) // 2, 1)
    both = Concatenate(2)(Reshape(half)(rest * b), Reshape(half)(rest * a))
    flat = Reshape((rows, n + n % 2))(both)
    return GetItem((slice(None), slice(0, n)))(flat) if n % 2 else flat
