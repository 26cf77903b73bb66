"""Rows of a table by number, and the sum of rows that go to one place: each other's transpose."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from ..primitive import General, op
from ..structural import broadcast
from ..trace import OPS, Tensor
from ..types import Array, Aval, Shape, shape_of
from .index import HOLE

__all__ = ["AddRows", "Embedding"]


@op
class Embedding(General):
    """y[i] = a[b[i]]:  row b[i] of the table a, for an array b of integers.

    Linear in a; the transpose adds the cotangents of the places that read the same row:
    ga[k] = sum_{i: b[i] = k} gy[i].

    Shapes: a `[n, *F]`, b `[*B]`, y `[*B, *F]`.
    """

    args = ("a", "b")
    shown = ("table", "index")
    examples: ClassVar[Any] = [
        ((), (4, 3), np.array([2, 0, 2])),
        ((), (3, 2, 2), np.array([[0, 1], [2, 2]])),
        ((), (3, 2), np.array(1)),
        ((), (3, 2), np.zeros((0,), int)),
    ]

    def impl(self, a: Array, b: Array) -> Array:
        check_rows(a, b)
        return np.take(a, b, axis=0)

    def infer(self, a: Aval, b: Aval) -> Aval:
        return Aval((*b.shape, *a.shape[1:]), a.dtype)

    def jvp_a(self, da: Array, b: Array) -> Array:
        return self(da, b)

    def vjp_a(self, g: Array, a_shape: Shape, b: Array) -> Array:
        return AddRows(a_shape[0])(g, b)

    def batch(self, xs: Any, dims: Any) -> Array:
        a, b = xs
        if dims[0] is None:
            return self(a, b)
        lanes, n = shape_of(a)[:2]
        try:
            check_rows(np.broadcast_to(0, (n,)), plain(b))
        except (IndexError, TypeError) as error:
            raise self.refusal((a, plain(b)), error) from error
        if dims[1] is None:
            return OPS["GetItem"]((slice(None), plain(b)))(a)
        lane = np.arange(lanes).reshape((lanes,) + (1,) * (len(shape_of(b)) - 1))
        return OPS["Gather"]((HOLE, HOLE))(a, lane, b)

    def diagnose(self, xs: Any, error: Exception) -> Any:
        b = xs[1]
        fix = None
        if isinstance(error, IndexError) and b.min() >= 0:
            fix = f"a table of {int(b.max()) + 1} rows"
        elif b.dtype.kind == "f" and bool(np.all(b == np.round(b))):
            fix = "{index}.astype(int)"
        return str(error), None, fix

    @classmethod
    def title(cls) -> str:
        return "embedding"


def plain(b: Any) -> Any:
    return b.value() if isinstance(b, Tensor) else b


def check_rows(a: Array, b: Array) -> None:
    if b.dtype.kind not in "iu":
        raise TypeError("the numbers of rows are integers")
    if a.ndim == 0:
        raise ValueError("a table has an axis of rows")
    if b.size and (b.max() >= a.shape[0] or b.min() < 0):
        wrong = (b >= a.shape[0]) | (b < 0)
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        where = f" at {list(at)}" if at else ""
        raise IndexError(f"row {b[at]}{where} is outside the table of {a.shape[0]} rows")


@op
class AddRows(General):
    """y[k] = sum_{i: b[i] = k} a[i]  for k < n: rows added up by number. Transpose of Embedding.

    Shapes: a `[*B, *F]`, b `[*B]`, y `[n, *F]`.
    """

    n: int

    args = ("a", "b")
    shown = ("rows", "index")
    examples: ClassVar[Any] = [
        ((4,), (3, 2), np.array([2, 0, 2])),
        ((3,), (2, 2, 2), np.array([[0, 1], [2, 2]])),
        ((2,), (2,), np.array(1)),
    ]

    def impl(self, a: Array, b: Array) -> Array:
        check_rows(np.broadcast_to(0, (self.n,)), b)
        shape = a.shape[b.ndim :]
        y = np.zeros((self.n, *shape), a.dtype)
        rows, places = a.reshape(b.size, math.prod(shape)), b.reshape(-1)
        order = np.argsort(places, kind="stable")
        places = places[order]
        starts = np.flatnonzero(np.r_[True, places[1:] != places[:-1]]) if b.size else order
        if b.size and rows.shape[1]:
            sums = np.add.reduceat(rows[order], starts, axis=0)
            y.reshape(self.n, -1)[places[starts]] = sums
        return y

    def infer(self, a: Aval, b: Aval) -> Aval:
        return Aval((self.n, *a.shape[b.ndim :]), a.dtype)

    def jvp_a(self, da: Array, b: Array) -> Array:
        return self(da, b)

    def vjp_a(self, g: Array, b: Array) -> Array:
        return Embedding()(g, b)

    def batch(self, xs: Any, dims: Any) -> Array:
        a, b = xs
        lanes = shape_of(a if dims[0] is not None else b)[0]
        a = a if dims[0] is not None else broadcast(a, (lanes, *shape_of(a)))
        rank = len(shape_of(b)) - (dims[1] is not None)
        shape = (lanes, self.n, *shape_of(a)[1 + rank :])
        check_rows(np.broadcast_to(0, (self.n,)), plain(b))
        lane = np.arange(lanes).reshape((lanes,) + (1,) * rank)
        b = b if dims[1] is not None else broadcast(b, (lanes, *shape_of(b)))
        return OPS["ScatterAdd"]((HOLE, HOLE), shape)(a, lane, b)
