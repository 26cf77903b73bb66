"""Numbers left out by a mask of booleans, in one pass."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..primitive import General, align, op
from ..structural import BITS, unbroadcast
from ..trace import OPS
from ..types import Array, Aval, Shape, shape_of

__all__ = ["Dropout"]


@op
class Dropout(General):
    """y = a scale where b, and 0 elsewhere, whatever a is there.  ga = gy scale where b, else 0.

    Linear in a, and its own transpose; the tape keeps the booleans alone. b may be broadcast.
    """

    scale: float

    args = ("a", "b")
    shown = ("x", "mask")
    examples: ClassVar[Any] = [
        ((2.0,), (2, 3), np.array([[True, False, True], [False, True, True]])),
        ((1.25,), (2, 2, 2), np.array([[[True, False]], [[False, True]]])),
        ((1.0,), (2,), np.array(False)),
    ]

    def impl(self, a: Array, b: Array) -> Array:
        if b.dtype != bool:
            raise TypeError("the mask is an array of booleans")
        bits = BITS.get(a.dtype)
        if bits is None or a.ndim == 0:
            return np.where(b, a * a.dtype.type(self.scale), a.dtype.type(0))
        y = np.multiply(a, a.dtype.type(self.scale), order="C")
        if np.broadcast_shapes(y.shape, b.shape) != y.shape:
            raise ValueError("the mask does not broadcast to x")
        whole = y.view(bits)
        np.bitwise_and(whole, -b.view(np.int8), out=whole)  # -1 keeps every bit, 0 clears them
        return y

    def infer(self, a: Aval, b: Aval) -> Aval:
        if np.broadcast_shapes(a.shape, b.shape) != a.shape:
            raise ValueError("the mask does not broadcast to x")
        return Aval(a.shape, a.dtype)

    def jvp_a(self, da: Array, b: Array) -> Array:
        return self(da, b)

    def vjp_a(self, g: Array, a_shape: Shape, b: Array) -> Array:
        return unbroadcast(self(g, b), a_shape)

    def batch(self, xs: Any, dims: Any) -> Array:
        a, b = align(xs, dims)
        if dims[0] is None:
            a = OPS["Broadcast"]((shape_of(b)[0], *shape_of(a)))(a)
        return self(a, b)
