"""Running products and first-order linear recurrences: each is the other's derivative."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..primitive import General, op
from ..types import Array, Aval, Shape, shape_of
from .index import GetItem, Pad
from .linear import Broadcast


def shift(x: Array, axis: int, by: int) -> Array:
    """y[i] = x[i - by] along an axis, by = 1 or -1, and 0 where there is none."""
    s = shape_of(x)
    lead = (slice(None),) * axis
    cut = slice(0, s[axis] - 1) if by > 0 else slice(1, None)
    widths = [(0, 0)] * len(s)
    widths[axis] = (1, 0) if by > 0 else (0, 1)
    return Pad(tuple(widths))(GetItem((*lead, cut))(x)) if s[axis] else x


@op
class Recurrence(General):
    """y[i] = a[i] y[i-1] + b[i] along an axis, y[-1] = 0; with `reverse`, from the other end.

    dy is the same recurrence with db[i] + da[i] y[i-1] for b. Its transpose runs the other way:
    gb[i] = gy[i] + a[i+1] gb[i+1],  ga[i] = gb[i] y[i-1].
    """

    axis: int
    reverse: bool = False
    args = ("a", "b")

    examples: ClassVar[Any] = [
        ((0,), (5,), (5,)),
        ((1, True), (2, 4), (2, 4)),
        ((0,), (3, 2), (3, 2)),
        ((0,), (0,), (0,)),
    ]

    def impl(self, a: Array, b: Array) -> Array:
        y = np.empty(np.broadcast_shapes(a.shape, b.shape), np.result_type(a, b))
        rows, ra, rb = (np.moveaxis(v, self.axis, 0) for v in (y, a, b))
        past: Any = None
        n = len(rows)
        for i in range(n - 1, -1, -1) if self.reverse else range(n):
            rows[i] = past = rb[i] if past is None else ra[i] * past + rb[i]
        return y

    def infer(self, a: Aval, b: Aval) -> Aval:
        return Aval(np.broadcast_shapes(a.shape, b.shape), np.result_type(a.dtype, b.dtype))

    def _past(self, y: Array) -> Array:
        return shift(y, self.axis, -1 if self.reverse else 1)

    def jvp_a(self, da: Array, a: Array, y: Array) -> Array:
        return self(a, da * self._past(y))

    def jvp_b(self, db: Array, a: Array) -> Array:
        return self(a, db)

    def vjp_a(self, g: Array, a: Array, y: Array) -> Array:
        return self.vjp_b(g, a) * self._past(y)

    def vjp_b(self, g: Array, a: Array) -> Array:
        following = shift(a, self.axis, 1 if self.reverse else -1)
        return Recurrence(self.axis, not self.reverse)(following, g)

    def batch(self, xs: Any, dims: Any) -> Array:
        lanes = next(shape_of(x)[0] for x, d in zip(xs, dims) if d is not None)
        xs = [x if d == 0 else Broadcast((lanes, *shape_of(x)))(x) for x, d in zip(xs, dims)]
        return Recurrence(self.axis + 1, self.reverse)(*xs)


@op
class Cumprod(General):
    """Running product:  y[i] = prod_{j <= i} x[j], and x[0] = y[0].

    dy[i] = x[i] dy[i-1] + y[i-1] dx[i], a recurrence that never divides: exact with zeros among the
    factors.
    """

    axis: int

    examples: ClassVar[Any] = [
        ((0,), (4,)),
        ((1,), (2, 3)),
        ((0,), np.array([2.0, 0.0, 3.0, 0.0, 1.5])),
        ((0,), (0,)),
    ]

    def impl(self, x: Array) -> Array:
        return np.multiply.accumulate(x, axis=self.axis)

    def infer(self, x: Aval) -> Aval:
        return Aval(x.shape, np.multiply.accumulate(np.empty(0, x.dtype)).dtype)

    def _before(self, y: Array) -> Array:
        """The product of all factors before each: 1 for the first."""
        s: Shape = shape_of(y)
        first = np.zeros(s, y.dtype)
        first[(slice(None),) * self.axis + (slice(0, 1),)] = 1
        return shift(y, self.axis, 1) + first

    def jvp(self, dx: Array, x: Array, y: Array) -> Array:
        return Recurrence(self.axis)(x, self._before(y) * dx)

    def vjp(self, g: Array, x: Array, y: Array) -> Array:
        return Recurrence(self.axis, True)(shift(x, self.axis, -1), g) * self._before(y)

    def batch(self, xs: Any, dims: Any) -> Array:
        return Cumprod(self.axis + 1)(*xs)


__all__ = ["Cumprod", "Recurrence"]
