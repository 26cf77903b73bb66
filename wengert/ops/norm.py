"""Normalisation as one operation: what layer, batch, group, instance and RMS norm share."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from ..hollow import Hollow
from ..primitive import General, op
from ..types import Array, Aval, Shape, shape_of
from .elementwise import sqrt
from .linear import Sum, after

__all__ = ["Normalize"]


@op
class Normalize(General):
    """y = (x - mean x) / sqrt(mean (x - mean x)^2 + eps),  means over `axes`.

    Without `center` the mean is left out, in both places (RMS norm).

    With r = 1 / sqrt(variance + eps) the Jacobian r (1 - 1 1^T / n - y y^T / n) is symmetric:
    gx = r (gy - mean gy - y mean(gy y)).  The variance is taken from x - mean x, so that a large
    mean costs no digits. Where all numbers are equal y is 0 and r = 1 / sqrt(eps).

    References:
        S. Ioffe, C. Szegedy (2015), Batch Normalization, arXiv:1502.03167.
        J. Ba, J. Kiros, G. Hinton (2016), Layer Normalization, arXiv:1607.06450.
        B. Zhang, R. Sennrich (2019), Root Mean Square Layer Normalization, arXiv:1910.07467.
    """

    axes: tuple[int, ...]
    eps: float
    center: bool = True

    examples: ClassVar[Any] = [
        (((1,), 1e-5), (3, 4)),
        (((0, 1), 1e-3), (2, 3, 2)),
        (((2,), 1e-5, False), (2, 2, 3)),
        (((1,), 1.0), np.ones((2, 3))),
    ]

    def impl(self, x: Array) -> Array:
        real(x)
        c = x - self._spread(self._average(x), x.shape) if self.center else x
        return np.multiply(c, self._scale(c), out=c if self.center else None)

    def _average(self, x: Array) -> Array:
        """The mean over the axes, which stay as axes of length 1; the first axes first, in rows."""
        n = math.prod([x.shape[a] for a in self.axes])
        for a in self.axes:
            x = np.add.reduce(x, axis=a, keepdims=True)
        return x * x.dtype.type(1 / max(n, 1))

    def _product(self, a: Array, b: Array) -> Array:
        """The mean of a b."""
        if self.axes == (a.ndim - 1,):
            n = max(a.shape[-1], 1)
            return np.einsum("...i,...i->...", a, b)[..., None] * a.dtype.type(1 / n)
        return self._average(a * b)

    def _scale(self, c: Array) -> Array:
        """1 / sqrt(mean c^2 + eps)."""
        v = self._product(c, c)
        v += c.dtype.type(self.eps)
        np.sqrt(v, out=v)
        return self._spread(np.divide(c.dtype.type(1), v, out=v), c.shape)

    def _spread(self, v: Array, shape: Shape) -> Array:
        """Statistics repeated along later runs of axes, so that broadcasting has long rows."""
        if not self.axes:
            return v
        after_first = [i for i in range(self.axes[0], len(shape)) if i not in self.axes]
        if not after_first or self.axes[-1] < after_first[0]:
            return v
        j = after_first[0]
        return np.ascontiguousarray(np.broadcast_to(v, v.shape[:j] + shape[j:]))

    def infer(self, x: Aval) -> Aval:
        real(x)
        return Aval(x.shape, np.sqrt(np.empty(0, x.dtype)).dtype)

    def _mean(self, x: Array) -> Array:
        s = shape_of(x)
        return Sum(self.axes, True)(x) * (1.0 / max(1, math.prod([s[a] for a in self.axes])))

    def jvp(self, dx: Array, x: Array, y: Array) -> Array:
        c = x - self._mean(x) if self.center else x
        root = sqrt(self._mean(c * c) + self.eps)
        d = dx - y * self._mean(dx * y)
        if self.center:
            d = d - self._mean(dx)
        return d / root

    def vjp(self, g: Array, x: Array, y: Array) -> Array:
        if isinstance(x, Hollow):
            return x.like(x.dtype)
        if g.__class__ is not np.ndarray or x.__class__ is not np.ndarray:
            return self.jvp(g, x, y)
        c = x - self._spread(self._average(x), x.shape) if self.center else x
        scale = self._scale(c)
        d = np.multiply(
            y, self._spread(self._product(g, y), x.shape), out=c if self.center else None
        )
        np.subtract(g, d, out=d)
        if self.center:
            d -= self._spread(self._average(g), x.shape)
        d *= scale
        return d

    def batch(self, xs: Any, dims: Any) -> Array:
        return Normalize(after(self.axes), self.eps, self.center)(*xs)


def real(x: Any) -> None:
    """Refuse complex and whole numbers."""
    if x.dtype.kind != "f":
        raise TypeError("the numbers must be real and floating point")
