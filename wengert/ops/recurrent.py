"""Recurrent networks as operations: one for a whole sequence."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..primitive import op
from ..types import Array, Shape, shape_of
from .contract import matmul
from .elementwise import by_cosh2, dsigmoid, sigmoid, tanh
from .linear import Sum
from .recurrence import (
    Recurrent,
    capped,
    hold,
    joined,
    parts,
    plain_sigmoid,
    quotients,
    spread,
    through,
)

__all__ = ["GRU", "LSTM", "RNN", "Recurrent"]

TRUE = np.array(True)
LATE = np.array([[True, True], [True, False], [False, True]])


@op
class RNN(Recurrent):
    """h[t] = f(z[t]),  z[t] = x[t] + h[t-1] w,  f = tanh or relu.  Gives (h, z).

    gz = f'(z) gh,  gx = gz,  gw = sum h[t-1]^T gz[t],  gh[t-1] += gz w^T.

    Shapes: x `[T, N, H]`, w `[H, H]`, h `[N, H]`, m `[T, N]` or True; (h, z) `[T, N, H]`.
    """

    reverse: bool = False
    relu: bool = False

    wide, kept, sides, states, outputs = 1, 1, 1, 1, 2
    operands = ("x", "w", "h", "m")
    examples: ClassVar[Any] = [
        ((), (3, 2, 2), (2, 2), (2, 2), TRUE),
        ((True,), (3, 2, 2), (2, 2), (2, 2), LATE),
        ((False, True), (2, 1, 2), (2, 2), (1, 2), TRUE),
    ]

    def impl(self, x: Array, w: Array, h: Array, m: Array) -> Any:
        (y, z), (old,) = self._ahead((x, w, h, m))
        if self._done((x, w, h, m), (old,), (y, z)):
            return y, z
        for t in self._times(len(x)):
            through(old, w, z[t])
            z[t] += x[t]
            new = np.maximum(z[t], 0, out=y[t]) if self.relu else np.tanh(z[t], out=y[t])
            if m.ndim:
                hold([new], [old], m[t])
            old = new
        return y, z

    def _cell(self) -> str:
        return "relu" if self.relu else "tanh"

    def _slope(self, d: Array, z: Array) -> Array:
        return d * (z > 0) if self.relu else by_cosh2(d, z)

    def along(self, olds: Any, ds: Any, now: Any, dz: Array) -> list[Array]:
        return [self._slope(dz, now[1])]

    def back(self, olds: Any, ds: Any, now: Any, into: Any) -> tuple[list[Array], list[Any]]:
        row = self._slope(ds[0], now[1])
        if into:
            into[0][...] = row
            row = into[0]
        return [row], [0.0]


@op
class LSTM(Recurrent):
    """Long short-term memory over a sequence; gives (h, c, z).

        z[t] = x[t] + h[t-1] w,  cut into i, f, o, g along the last axis
        c[t] = sigmoid(f) c[t-1] + sigmoid(i) tanh(g)
        h[t] = sigmoid(o) tanh(c[t])

    Back from gh and gc, which come from outside and from t + 1:

        gc += gh sigmoid(o) tanh'(c),    go = gh tanh(c) sigmoid'(o),   gf = gc c[t-1] sigmoid'(f),
        gi = gc tanh(g) sigmoid'(i),     gg = gc sigmoid(i) tanh'(g),
        gx = gz,   gw = sum h[t-1]^T gz[t],   gh[t-1] = gz w^T,   gc[t-1] = gc sigmoid(f)

    Shapes: x `[T, N, 4 H]`, w `[H, 4 H]`, h, c `[N, H]`, m `[T, N]` or True;
    (h, c) `[T, N, H]`, z `[T, N, 4 H]`.

    References:
        S. Hochreiter, J. Schmidhuber (1997), Long Short-Term Memory, Neural Computation 9.
        F. Gers, J. Schmidhuber, F. Cummins (2000), Learning to Forget, Neural Computation 12.
    """

    reverse: bool = False

    wide, kept, sides, states, outputs = 4, 4, 1, 2, 3
    operands = ("x", "w", "h", "c", "m")
    examples: ClassVar[Any] = [
        ((), (2, 2, 8), (2, 8), (2, 2), (2, 2), TRUE),
        ((True,), (3, 2, 4), (1, 4), (2, 1), (2, 1), LATE),
    ]

    def impl(self, x: Array, w: Array, h: Array, c: Array, m: Array) -> Any:
        (y, cells, z), (old, cell) = self._ahead((x, w, h, c, m))
        if self._done((x, w, h, c, m), (old, cell), (y, cells, z)):
            return y, cells, z
        n = w.shape[-2]
        for t in self._times(len(x)):
            now = z[t]
            through(old, w, now)
            now += x[t]
            s = plain_sigmoid(now[..., : 3 * n])
            g = np.tanh(now[..., 3 * n :])
            g *= s[..., :n]
            to = np.multiply(s[..., n : 2 * n], cell, out=cells[t])
            to += g
            new = np.tanh(to, out=y[t])
            new *= s[..., 2 * n :]
            if m.ndim:
                hold([new, to], [old, cell], m[t])
            old, cell = new, to
        return y, cells, z

    def along(self, olds: Any, ds: Any, now: Any, dz: Array) -> list[Array]:
        _, c, z = now
        i, f, o, g = parts(z, 4)
        di, df, do, dg = parts(dz, 4)
        dc = ds[1] * sigmoid(f) + olds[1] * (dsigmoid(f) * df)
        dc = dc + tanh(g) * (dsigmoid(i) * di) + by_cosh2(sigmoid(i) * dg, g)
        return [tanh(c) * (dsigmoid(o) * do) + by_cosh2(sigmoid(o) * dc, c), dc]

    def back(self, olds: Any, ds: Any, now: Any, into: Any) -> tuple[list[Array], list[Any]]:
        dh, dc = ds
        _, c, z = now
        if into:
            return self._back(olds[1], dh, dc, c, z, into[0])
        i, f, o, g = parts(z, 4)
        dc = dc + by_cosh2(dh * sigmoid(o), c)
        row = joined(
            dsigmoid(i) * (dc * tanh(g)),
            dsigmoid(f) * (dc * olds[1]),
            dsigmoid(o) * (dh * tanh(c)),
            by_cosh2(dc * sigmoid(i), g),
        )
        return [row], [0.0, dc * sigmoid(f)]

    def _back(self, old: Array, dh: Array, dc: Array, c: Array, z: Array, row: Array) -> Any:
        n = c.shape[-1]
        s = z.copy()
        s[..., 3 * n :] += z[..., 3 * n :]
        q, s = quotients(s, s)
        slope = np.divide(s, q, out=q)  # of g a quarter
        qc, sc = capped(c, c.dtype.type(2))
        sc /= qc
        sc *= 4
        sc *= s[..., 2 * n : 3 * n]
        sc *= dh
        sc += dc
        np.multiply(sc, np.tanh(z[..., 3 * n :]), out=row[..., :n])
        np.multiply(sc, old, out=row[..., n : 2 * n])
        np.multiply(dh, np.tanh(c, out=qc), out=row[..., 2 * n : 3 * n])
        np.multiply(np.multiply(sc, 4, out=qc), s[..., :n], out=row[..., 3 * n :])
        row *= slope
        sc *= s[..., n : 2 * n]
        return [row], [0.0, sc]


@op
class GRU(Recurrent):
    """A gated recurrent unit over a sequence; gives (h, z).

        (r, u) = x[t] + h[t-1] w and n = x[t], k = h[t-1] w + b, in three equal parts of both;
        a = tanh(n + sigmoid(r) k),   h[t] = (1 - sigmoid(u)) a + sigmoid(u) h[t-1]

    and z[t] = (r, u, n, k). Back:

        gn = gh (1 - sigmoid(u)) tanh'(n + sigmoid(r) k),   gk = gn sigmoid(r),
        gr = gn k sigmoid'(r),   gu = gh (h[t-1] - a) sigmoid'(u),   gx = (gr, gu, gn),
        gw = sum h[t-1]^T (gr, gu, gk),  gb = sum gk,  gh[t-1] = gh sigmoid(u) + (gr, gu, gk) w^T

    Shapes: x `[T, N, 3 H]`, w `[H, 3 H]`, b `[1, H]`, h `[N, H]`, m `[T, N]` or True;
    h `[T, N, H]`, z `[T, N, 4 H]`.

    References:
        K. Cho et al. (2014), Learning Phrase Representations using RNN Encoder-Decoder,
        arXiv:1406.1078; with the reset after the product, as in cuDNN and PyTorch.
    """

    reverse: bool = False

    wide, kept, sides, states, outputs = 3, 4, 2, 1, 2
    operands = ("x", "w", "b", "h", "m")
    examples: ClassVar[Any] = [
        ((), (2, 2, 6), (2, 6), (1, 2), (2, 2), TRUE),
        ((True,), (3, 2, 3), (1, 3), (1, 1), (2, 1), LATE),
    ]

    def impl(self, x: Array, w: Array, b: Array, h: Array, m: Array) -> Any:
        (y, z), (old,) = self._ahead((x, w, b, h, m))
        if self._done((x, w, b, h, m), (old,), (y, z)):
            return y, z
        n = w.shape[-2]
        for t in self._times(len(x)):
            now, p = z[t], through(old, w)
            now[..., : 3 * n] = x[t]
            now[..., : 2 * n] += p[..., : 2 * n]
            np.add(p[..., 2 * n :], b, out=now[..., 3 * n :])
            s = plain_sigmoid(now[..., : 2 * n])
            a = s[..., :n] * now[..., 3 * n :]
            a += now[..., 2 * n : 3 * n]
            np.tanh(a, out=a)
            new = np.subtract(old, a, out=y[t])
            new *= s[..., n:]
            new += a
            if m.ndim:
                hold([new], [old], m[t])
            old = new
        return y, z

    def _inward(self, t: int, h: Array, dh: Array, xs: Any, dxs: Any, shape: Shape) -> Array:
        n = shape_of(h)[-1]
        d = matmul(dh, xs[1])
        if dxs[1] is not None:
            d = d + matmul(h, dxs[1])
        d = spread(d, (*shape[:-1], 3 * n))
        first, k = d[..., : 2 * n], d[..., 2 * n :]
        if dxs[2] is not None:
            k = k + dxs[2]
        if dxs[0] is None:
            return joined(first, np.zeros(shape, d.dtype), k)
        dx = spread(dxs[0][t], (*shape[:-1], 3 * n))
        return joined(dx[..., : 2 * n] + first, dx[..., 2 * n :], k)

    def along(self, olds: Any, ds: Any, now: Any, dz: Array) -> list[Array]:
        r, u, n, k = parts(now[1], 4)
        dr, du, dn, dk = parts(dz, 4)
        inner = n + sigmoid(r) * k
        da = by_cosh2(dn + sigmoid(r) * dk + k * (dsigmoid(r) * dr), inner)
        return [
            sigmoid(-u) * da
            + (olds[0] - tanh(inner)) * (dsigmoid(u) * du)
            + sigmoid(u) * ds[0]
        ]  # fmt: skip

    def back(self, olds: Any, ds: Any, now: Any, into: Any) -> tuple[list[Array], list[Any]]:
        (dh,), (old,), z = ds, olds, now[1]
        if into:
            return self._back(old, dh, z, into)
        r, u, n, k = parts(z, 4)
        inner = n + sigmoid(r) * k
        gn = by_cosh2(dh * sigmoid(-u), inner)
        gr, gk = dsigmoid(r) * (gn * k), gn * sigmoid(r)
        gu = dsigmoid(u) * (dh * (old - tanh(inner)))
        return [joined(gr, gu, gn), joined(gr, gu, gk)], [dh * sigmoid(u)]

    def _back(self, old: Array, dh: Array, z: Array, into: Any) -> Any:
        gx, gw = into
        n = dh.shape[-1]
        q, s = capped(z[..., : 2 * n])
        k = z[..., 3 * n :]
        inner = s[..., :n] * k
        inner += z[..., 2 * n : 3 * n]
        qa, sa = capped(inner, inner.dtype.type(2))
        sa /= qa
        sa *= 4
        sa *= dh
        sa /= q[..., n:]  # 1 - sigmoid(u) = 1 / (1 + e^u)
        slope = np.divide(s, q, out=q)
        np.multiply(sa, k, out=gx[..., :n])
        np.subtract(old, np.tanh(inner, out=inner), out=gx[..., n : 2 * n])
        gx[..., n : 2 * n] *= dh
        gx[..., : 2 * n] *= slope
        gx[..., 2 * n :] = sa
        gw[..., : 2 * n] = gx[..., : 2 * n]
        np.multiply(sa, s[..., :n], out=gw[..., 2 * n :])
        return [gx, gw], [dh * s[..., n:]]

    def add(self, row: Any, gz: Array) -> list[Array]:
        n = shape_of(gz)[-1] // 4
        r_u, gn, gk = gz[..., : 2 * n], gz[..., 2 * n : 3 * n], gz[..., 3 * n :]
        more = joined(r_u, gn), joined(r_u, gk)
        if row[0].__class__ is np.ndarray:
            for a, b in zip(row, more):
                a += b
            return list(row)
        return [a + b for a, b in zip(row, more)]

    def collected(self, sides: Any, h0: Any, xs: Any, y: Any, live: Any) -> dict[int, Any]:
        found = super().collected(sides, h0, xs, y, live)
        if 2 in live:
            n = shape_of(h0)[-1]
            found[2] = Sum((0,), False)(sides[1][..., 2 * n :])
        return found
