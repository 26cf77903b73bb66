"""Attention as one operation, a tile of scores at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from ..hollow import Hollow, busy, hollow
from ..primitive import General, op
from ..trace import OPS
from ..types import Array, Aval, Shape, shape_of
from . import attention_native
from .contract import matmul
from .elementwise import eq, where
from .fused import Softmax
from .linear import Reshape, Sum

__all__ = ["Attention", "causal_mask"]

TILE = 1 << 20  # bytes of scores at a time
ROWS = 64  # queries of a causal tile, at least


@lru_cache(64)
def causal_mask(queries: int, keys: int) -> Any:
    """Which keys a query may look at: those up to its own place, counted from the end.

    >>> causal_mask(2, 3).astype(int)
    array([[1, 1, 0],
           [1, 1, 1]])
    """
    mask = np.arange(keys) <= np.arange(queries)[:, None] + (keys - queries)
    # of bytes, which nobody can write: a compiled program takes it for a constant
    return np.frombuffer(mask.tobytes(), bool).reshape(queries, keys)


@op
class Attention(General):
    """y = softmax(scale q k^T + b) v,  row by row; with `causal`, later keys are left out.

    Shapes: q `[.., S, D]`, k `[.., T, D]`, v `[.., T, E]`, b broadcastable to `[.., S, T]`, y
    `[.., S, E]`; the axes in front broadcast. b = -inf leaves a key out; a query that no key is
    left to gives 0, with gradient 0.

    The scores are made for a tile of queries at a time and made again in the backward pass, so
    that memory does not grow with S T. With p the softmax:

        gv = p^T gy,   gp = gy v^T,   gs = p (gp - <gp, p>),   gq = scale gs k,
        gk = scale gs^T q,   gb = gs

    References:
        A. Vaswani et al. (2017), Attention Is All You Need, arXiv:1706.03762.
        M. Rabe, C. Staats (2021), Self-attention Does Not Need O(n^2) Memory, arXiv:2112.05682.
        T. Dao et al. (2022), FlashAttention, arXiv:2205.14135.
    """

    scale: float
    causal: bool = False

    variadic = True
    needs = ("impl", "infer", "push", "vjp", "batch")
    examples: ClassVar[Any] = [
        ((0.5,), (3, 2), (4, 2), (4, 3), (3, 4)),
        ((0.7, True), (2, 3, 2), (2, 3, 2), (2, 3, 2), ()),
        ((1.0, True), (2, 2, 2), (1, 4, 2), (2, 4, 3), (4,)),
        ((0.3,), (2, 1, 2, 3), (3, 2, 3), (3, 2, 2), (1, 1, 2, 2)),
    ]

    def argnames(self, n: int) -> tuple[str, ...]:
        return ("q", "k", "v", "bias")

    def impl(self, q: Array, k: Array, v: Array, b: Array) -> Array:
        shape = self._shape(q, k, v, b)
        done = attention_native.forward(self, shape[:-2], q, k, v, b)
        if done is not None:
            return done
        q, k, v, b, _ = leads(q, k, v, b)
        dtype = np.result_type(q, k, v)
        y = np.empty((*q.shape[:2], v.shape[2]), dtype)
        for n, rows, keys in tiles(q, k, self.causal):
            p = self._weights(q, k, b, n, rows, keys)
            np.matmul(p, v[n, keys], out=y[n, rows])
        return y.reshape(shape)

    def _weights(self, q: Array, k: Array, b: Array, n: Any, rows: slice, keys: slice) -> Array:
        """The softmax of one tile of scores."""
        s = np.matmul(q[n, rows], np.swapaxes(k[n, keys], 1, 2))
        s *= s.dtype.type(self.scale)
        if b is not None:
            part = b[n, rows] if b.shape[1] > 1 else b[n]
            s += part[:, :, keys] if b.shape[2] > 1 else part
        if self.causal:
            last = rows.start + k.shape[1] - q.shape[1]  # the last key that the first query sees
            count, edge = s.shape[1], max(0, last + 1)
            later = np.arange(edge, s.shape[2]) > np.arange(last, last + count)[:, None]
            np.copyto(s[:, :, edge:], -np.inf, where=later)
        m = np.maximum.reduce(s, axis=2, keepdims=True, initial=-np.inf)
        m[np.isneginf(m)] = 0
        s -= m
        np.exp(s, out=s)
        total = np.add.reduce(s, axis=2, keepdims=True)
        total[total == 0] = 1
        s /= total
        return s

    def _shape(self, q: Array, k: Array, v: Array, b: Array) -> Shape:
        if any(x.dtype.kind != "f" for x in (q, k, v)):
            raise TypeError("q, k and v must be real and floating point")
        sq, sk, sv, sb = map(shape_of, (q, k, v, b))
        if min(len(sq), len(sk), len(sv)) < 2:
            raise ValueError("q, k and v have an axis of places and one of features")
        if sq[-1] != sk[-1]:
            raise ValueError(f"q has {sq[-1]} features and k has {sk[-1]}")
        if sk[-2] != sv[-2]:
            raise ValueError(f"there are {sk[-2]} keys and {sv[-2]} values")
        lead = np.broadcast_shapes(sq[:-2], sk[:-2], sv[:-2], sb[:-2])
        scores = (sq[-2], sk[-2])
        if any(n not in (1, m) for n, m in zip(sb[:-3:-1], scores[::-1])):
            raise ValueError(f"the bias does not broadcast to the scores {[*lead, *scores]}")
        return (*lead, sq[-2], sv[-1])

    def infer(self, q: Aval, k: Aval, v: Aval, b: Aval) -> Aval:
        return Aval(self._shape(q, k, v, b), np.result_type(q.dtype, k.dtype, v.dtype))

    def weights(self, q: Array, k: Array, b: Array) -> Array:
        """p as a composition of operations, for derivatives of any order."""
        s = matmul(q, k.swapaxes(-1, -2)) * self.scale
        if type(b) is not float or b != 0:
            s = s + b
        shape = shape_of(s)
        if self.causal:
            s = where(causal_mask(*shape[-2:]), s, -np.inf)
        dead = eq(
            OPS["Max"]((len(shape) - 1,), True)(s), -np.inf
        )  # `==` of graph variables is `is`
        return where(dead, 0.0, Softmax(len(shape) - 1)(where(dead, 0.0, s)))

    def push(self, xs: list[Array], dxs: list[Array | None], y: Array) -> Array | None:
        q, k, v, b = xs
        dq, dk, dv, db = dxs
        p = self.weights(q, k, b)
        ds = total = None
        if dq is not None:
            ds = matmul(dq, k.swapaxes(-1, -2)) * self.scale
        if dk is not None:
            term = matmul(q, dk.swapaxes(-1, -2)) * self.scale
            ds = term if ds is None else ds + term
        if db is not None:
            ds = db if ds is None else ds + db
        if ds is not None:
            along = p * ds
            axis = len(shape_of(along)) - 1
            total = matmul(along - p * Sum((axis,), True)(along), v)
        if dv is not None:
            total = matmul(p, dv) if total is None else total + matmul(p, dv)
        return total

    def vjp(self, g: Array, live: tuple[int, ...], xs: Any) -> tuple[Any, ...]:
        q, k, v, b = xs
        if isinstance(q, Hollow):  # as `_sweep` has it
            gs = [hollow(shape_of(xs[i]), q.dtype) for i in live]
            busy(self._room(g, q, k, v, 3 in live))
            return tuple(gs)
        if all(x.__class__ is np.ndarray for x in (g, q, k, v)) and not hasattr(b, "level"):
            return self._sweep(g, live, q, k, v, b)
        p = self.weights(q, k, b)
        gp = matmul(g, v.swapaxes(-1, -2))
        along = gp * p
        axis = len(shape_of(along)) - 1
        gs = along - p * Sum((axis,), True)(along)
        made = {
            0: lambda: matmul(gs, k) * self.scale,
            1: lambda: matmul(gs.swapaxes(-1, -2), q) * self.scale,
            2: lambda: matmul(p.swapaxes(-1, -2), g),
            3: lambda: gs,
        }
        return tuple([summed_to(made[i](), shape_of(xs[i])) for i in live])

    def _room(self, g: Any, q: Any, k: Any, v: Any, biased: bool) -> float:
        """The bytes that the way back works in."""
        sizes, lead = attention_native.sizes_of(q, k, v), shape_of(g)[:-2]
        if not biased and attention_native.worth(lead, sizes, q.dtype):
            return attention_native.scratch("backward", sizes, q.dtype)
        scores = math.prod(shape_of(q)[:-1]) * shape_of(k)[-2] * q.dtype.itemsize
        spread = sum(x.nbytes for x in (g, q, k, v) if isinstance(x, Hollow) and not x.whole)
        return 2.2 * min(scores, TILE) + spread

    def _sweep(
        self, g: Array, live: tuple[int, ...], q: Array, k: Array, v: Array, b: Array
    ) -> tuple[Any, ...]:
        """The cotangents, a tile at a time."""
        shapes = [shape_of(x) for x in (q, k, v, b)]
        done = None
        if 3 not in live:
            done = attention_native.backward(self, g.shape[:-2], g, q, k, v, b)
        if done is not None:
            return tuple([summed_to(done[i], shapes[i]) for i in live])
        q, k, v, b, lead = leads(q, k, v, b)
        g = g.reshape(*q.shape[:2], v.shape[2])
        scores = (q.shape[0], q.shape[1], k.shape[1])
        gq, gk, gv = (np.zeros(x.shape, x.dtype) for x in (q, k, v))
        gb = np.zeros(scores, g.dtype) if 3 in live else None
        for n, rows, keys in tiles(q, k, self.causal):
            p = self._weights(q, k, b, n, rows, keys)
            tile = g[n, rows]
            if 2 in live:
                gv[n, keys] += np.matmul(np.swapaxes(p, 1, 2), tile)
            gs = np.matmul(tile, np.swapaxes(v[n, keys], 1, 2))
            gs *= p
            p *= np.add.reduce(gs, axis=2, keepdims=True)
            gs -= p
            if gb is not None:
                gb[n, rows, keys] = gs
            gs *= gs.dtype.type(self.scale)
            if 0 in live:
                np.matmul(gs, k[n, keys], out=gq[n, rows])
            if 1 in live:
                gk[n, keys] += np.matmul(np.swapaxes(gs, 1, 2), q[n, rows])
        found: dict[int, Any] = {0: gq, 1: gk, 2: gv, 3: gb}
        return tuple(
            [summed_to(found[i].reshape(*lead, *found[i].shape[1:]), shapes[i]) for i in live]
        )

    def batch(self, xs: Any, dims: Any) -> Array:
        rank = max(len(shape_of(x)) - (d is not None) for x, d in zip(xs, dims))
        out = []
        for x, d in zip(xs, dims):
            s = shape_of(x)
            if d is not None and len(s) - 1 < rank:
                x = Reshape((s[0], *(1,) * (rank + 1 - len(s)), *s[1:]))(x)
            out.append(x)
        return self(*out)


def leads(q: Array, k: Array, v: Array, b: Array) -> tuple[Any, ...]:
    """The operands with one axis in front for all that broadcasts, and that axis' own shape."""
    lead = np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2], np.shape(b)[:-2])
    n = math.prod(lead)

    def flat(x: Array) -> Array:
        if x.shape[:-2] != lead:
            x = np.broadcast_to(x, (*lead, *x.shape[-2:]))
        return x.reshape(n, *x.shape[-2:])

    bias = None
    if np.ndim(b) or b:
        b = np.asarray(b)
        wide = b.reshape((1,) * (2 - b.ndim) + b.shape) if b.ndim < 2 else b
        bias = np.broadcast_to(wide, (*lead, *wide.shape[-2:])).reshape(n, *wide.shape[-2:])
    return flat(q), flat(k), flat(v), bias, lead


def tiles(q: Array, k: Array, causal: bool) -> Iterator[tuple[Any, slice, slice]]:
    """(which leads, which queries, which keys): as many scores at a time as stay in cache.

    A causal tile has few queries, so that it leaves out most keys that none of them sees.
    """
    n, queries = q.shape[:2]
    keys = k.shape[1]
    row = max(1, keys * q.dtype.itemsize)
    few = max(1, min(queries, TILE // row))
    if causal:
        few = min(few, max(ROWS, -(-queries // 8)))
    many = max(1, TILE // (row * few))
    for i in range(0, n, many):
        for j in range(0, queries, few):
            seen = max(0, min(keys, j + few + keys - queries)) if causal else keys
            yield slice(i, i + many), slice(j, j + few), slice(0, seen)


def summed_to(g: Array, shape: Shape) -> Array:
    """g summed over the axes that an operand of this shape was broadcast along."""
    s = shape_of(g)
    if s == shape:
        return g
    extra = len(s) - len(shape)
    axes = tuple(range(extra)) + tuple(
        extra + i for i, n in enumerate(shape) if n == 1 and s[extra + i] != 1
    )
    return Reshape(shape)(Sum(axes, True)(g)) if axes else Reshape(shape)(g)
