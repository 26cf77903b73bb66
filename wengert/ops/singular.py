"""Singular values and what is made of them: pseudoinverse, least squares, rank.

Where singular values repeat, what `spectral` says of eigenvalues holds for them.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..primitive import align, op
from ..structural import fit
from ..types import Array, Aval, DType, shape_of
from . import elementwise as e
from .contract import expand, matmul, swap
from .index import Concatenate
from .linear import Sum
from .matrix import (
    ALL,
    COMPLEX,
    GENERAL,
    HERMITIAN,
    SPD,
    TALL,
    OfMatrix,
    check_matrix,
    columns,
    concrete,
    conj,
    ct,
    cut,
    diagonal,
    diagonal_matrix,
    dots,
    extra_columns,
    float_of,
    hermitian,
    is_complex,
    re,
    real_of,
    rows,
    triangle,
)
from .spectral import (
    Blocks,
    Judge,
    Share,
    block_values,
    coupled,
    differentiated,
    gauge,
    reciprocal_gaps,
    settle,
    settle_pull,
    tolerance,
)


@op
class Negligible(Judge):
    """Which singular values x_i count as zero."""

    examples: ClassVar[Any] = [((), np.array([2.0, 1.0, 0.0])), ((), np.zeros((2, 0)))]

    def impl(self, x: Array) -> Array:
        return np.abs(x) <= tolerance(x)

    def infer(self, x: Aval) -> Aval:
        return Aval(x.shape, np.dtype(bool))


# ------------------------------------------------------------------ singular values


@op
class SVD(OfMatrix):
    """x = u diag(s) vh, s descending, the columns of u and the rows of vh orthonormal, v = vh^H.

    With p = u^H dx v:  ds = Re diag(p),
    a = (p + p^H) / 2 (s_j - s_i),  b = (p - p^H) / 2 (s_i + s_j)  elementwise,
    du = u (a + b) + (1 - u u^H) dx v s^-1,   dv = v (a - b) + (1 - v v^H) dx^H u s^-1.
    Only a knows of repeated values.   (J. Townsend, "Differentiating the singular value
    decomposition", 2016, with its F split into a and b)
    """

    full: bool = False
    name = "svd"
    outputs = 3

    examples: ClassVar[Any] = [
        ((), TALL),
        ((), GENERAL),
        ((), TALL.T),
        ((), COMPLEX),
        ((), COMPLEX[:, :2]),
        ((), COMPLEX[:2]),
        ((True,), GENERAL),
        ((), np.stack([GENERAL, SPD])),
        ((), (0, 3)),
    ]

    def impl(self, x: Array) -> Any:
        return tuple(np.linalg.svd(x, full_matrices=self.full))

    def infer(self, x: Aval) -> Any:
        check_matrix(x)
        *lead, m, n = x.shape
        k, dtype = min(m, n), float_of(x.dtype)
        a, b = (m, n) if self.full else (k, k)
        s = Aval((*lead, k), real_of(x.dtype))
        return Aval((*lead, m, a), dtype), s, Aval((*lead, b, n), dtype)

    @staticmethod
    def _parts(y: Any) -> Any:
        """(u, s, v) of the reduced form, 1 / (s_i + s_j), 1 / s: 0 where s counts as zero."""
        u, s, vh = y
        k = shape_of(s)[-1]
        u, v = cut(u, ALL, slice(k)), ct(cut(vh, slice(k), ALL))
        null = Negligible()(s)
        both = e.logical_and(columns(null), rows(null))
        sums = e.where(both, 0.0, 1.0 / e.where(both, 1.0, columns(s) + rows(s)))
        return u, s, v, sums, e.where(null, 0.0, 1.0 / e.where(null, 1.0, s))

    def jvp(self, dx: Array, y: Any) -> Any:
        u, s, v, sums, inverse = self._parts(y)
        m, n = shape_of(dx)[-2:]
        k = shape_of(s)[-1]
        xv, xu = matmul(dx, v), matmul(ct(dx), u)
        p = matmul(ct(u), xv)
        coupled("svd", p, s)
        null("svd", s, None)
        a = reciprocal_gaps(s) * (p + ct(p)) * 0.5
        b = sums * (p - ct(p)) * 0.5
        du, dv = matmul(u, a + b), matmul(v, a - b)
        if m > k:
            du = du + (xv - matmul(u, p)) * columns(inverse)
        if n > k:
            dv = dv + (xu - matmul(v, ct(p))) * columns(inverse)
        if is_complex(u):
            theta = settle(v, dv, 0) if m >= n else settle(u, du, 0)
            turn = columns(1j * theta)
            du, dv = du + u * turn, dv + v * turn
        return self._widen(du, 1, m), re(diagonal(p)), self._widen(ct(dv), 0, n)

    def _widen(self, d: Array, axis: int, n: int) -> Array:
        """The tangents of the columns that full_matrices adds: there are none, which nan says."""
        s = shape_of(d)
        if not self.full or s[-2 + axis] == n:
            return d
        shape = (*s[:-2], n - s[-2], s[-1]) if axis == 0 else (*s[:-1], n - s[-1])
        return Concatenate(len(s) - 2 + axis)(d, np.full(shape, np.nan, d.dtype))

    def vjp(self, g: Any, y: Any) -> Array:
        gu, gs, gvh = g
        u, s, v, sums, inverse = self._parts(y)
        m, n, k = shape_of(u)[-2], shape_of(v)[-2], shape_of(s)[-1]
        zero = np.zeros((*shape_of(s), k), u.dtype)
        mu, mv, gv = zero, zero, None
        if gu is not None:
            extra_columns("svd(x)[0]", cut(gu, ALL, slice(k, None)))
            gu = cut(gu, ALL, slice(k))
            mu = matmul(swap(u), gu)
        if gvh is not None:
            extra_columns("svd(x)[2]", cut(gvh, slice(k, None), ALL))
            gv = ct(cut(gvh, slice(k), ALL))
            mv = matmul(swap(v), gv)
        vectors = gu is not None or gv is not None
        if vectors and is_complex(u):
            phase = e.imag(diagonal(mu + mv))
            if m >= n:
                turn = settle_pull(v, phase, 0)
                gv = turn if gv is None else gv + turn
                mv = matmul(swap(v), gv)
            else:
                turn = settle_pull(u, phase, 0)
                gu = turn if gu is None else gu + turn
                mu = matmul(swap(u), gu)
        null("svd", s, (gu, gs, gv))
        gw = np.zeros(shape_of(s), s.dtype) if gs is None else gs
        both = mu + mv
        share = Share("svd", gs is not None, vectors and differentiated(s))(both, gw, s)
        q = diagonal_matrix(gw)
        if vectors:
            z = block_values(both, Blocks()(s), share, reciprocal_gaps(s))
            d = sums * (mu - mv)
            q = q + (z + ct(z) + d - ct(d)) * 0.5
        left, right = conj(u), swap(v)
        gx = dots(left, q, right)
        if gu is not None and m > k:
            gx = gx + matmul((gu - matmul(left, mu)) * columns(inverse), right)
        if gv is not None and n > k:
            gx = gx + matmul(left * columns(inverse), ct(gv - matmul(conj(v), mv)))
        return gx


def null(what: str, s: Array, gs: Any) -> None:
    """Warn of vectors that belong to a singular value of zero: they turn by a finite angle."""
    values = concrete(s)
    if values is None:
        return
    zero = np.abs(values) <= tolerance(values)
    if not zero.any():
        return
    load: Any = 1.0
    if gs is not None:
        parts = [concrete(g) for g in gs if g is not None]
        sizes = [
            np.abs(g) if g.ndim == values.ndim else np.abs(g).sum(-2)
            for g in parts
            if g is not None
        ]
        load = sum(sizes) - 1e3 * np.finfo(values.dtype).eps * max(z.max(initial=0) for z in sizes)
    if np.any(zero & (load > 0)):
        gauge(what, "the derivative runs through what belongs to a singular value of zero")


@op
class SVDVals(OfMatrix):
    """The singular values, descending.  ds = Re diag(u^H dx v);  gx = conj(u) diag(g) v^T.

    At a value of zero, a kink, the subgradient 0.
    """

    name = "svdvals"

    examples: ClassVar[Any] = [((), TALL), ((), COMPLEX[:2]), ((), (2, 3, 3)), ((), (3, 0))]

    def impl(self, x: Array) -> Array:
        return np.linalg.svd(x, compute_uv=False)

    def infer(self, x: Aval) -> Aval:
        check_matrix(x)
        return Aval((*x.shape[:-2], min(x.shape[-2:])), real_of(x.dtype))

    def jvp(self, dx: Array, x: Array, y: Array) -> Array:
        u, _, vh = SVD()(x)
        p = dots(ct(u), dx, ct(vh))
        coupled("svdvals", p, y)
        return e.where(Negligible()(y), 0.0, re(diagonal(p)))

    def vjp(self, g: Array, x: Array, y: Array) -> Array:
        u, s, vh = SVD()(x)
        g = e.where(Negligible()(y), 0.0, g)
        k = shape_of(s)[-1]
        Share("svdvals", True, False)(np.zeros((*shape_of(s), k), s.dtype), g, s)
        return matmul(conj(u) * columns(g), conj(vh))


# ------------------------------------------------------------------ pseudoinverse and least squares


@op
class Pinv(OfMatrix):
    """The pseudoinverse y = x^+; singular values up to `rcond` times the largest count as zero.

    dy = -y dx y + y y^H dx^H (1 - x y) + (1 - y x) dx^H y^H y, along matrices of the same rank.
    (G. H. Golub, V. Pereyra, "The differentiation of pseudo-inverses and nonlinear least squares
    problems whose variables separate", 1973)
    """

    rcond: Any = 1e-15
    herm: bool = False
    name = "pinv"

    examples: ClassVar[Any] = [
        ((), TALL),
        ((), TALL.T),
        ((), COMPLEX[:, :2]),
        ((1e-15, True), HERMITIAN),
        ((), (2, 2, 3)),
        ((), (0, 3)),
    ]

    def impl(self, x: Array) -> Array:
        return np.linalg.pinv(x, self.rcond, self.herm)

    def infer(self, x: Aval) -> Aval:
        check_matrix(x)
        return Aval((*x.shape[:-2], x.shape[-1], x.shape[-2]), float_of(x.dtype))

    def _full(self, x: Array) -> Array:
        return hermitian(x, True) if self.herm else x

    def jvp(self, dx: Array, x: Array, y: Array) -> Array:
        x, d = self._full(x), ct(self._full(dx))
        yh = ct(y)
        a, b = dots(y, yh, d), dots(d, yh, y)
        return a - dots(a, x, y) + b - dots(y, x, b) - dots(y, ct(d), y)

    def vjp(self, g: Array, x: Array, y: Array) -> Array:
        x, t = self._full(x), swap(y)
        a, b = dots(conj(y), t, g), dots(g, t, conj(y))
        a = a - dots(a, t, swap(x))
        b = b - dots(swap(x), t, b)
        gx = ct(a + b) - dots(t, g, t)
        return triangle(gx, True) if self.herm else gx


@op
class LstSq(OfMatrix):
    """(x, |b - a x|^2, rank, s), x the shortest of those of least |b - a x|, column by column.

    With p = a^+ and r = b - a x:  dx = p (db - da x) + p p^H da^H r + (1 - p a) da^H p^H x,
    d|r|^2 = 2 Re r^H (db - da x),  ds as in svdvals.   (Golub, Pereyra 1973)
    The residual is 0 here where a has not full column rank or no more rows than columns.
    """

    rcond: float | None = None
    args = ("a", "b")
    needs = ("impl", "infer", "vjp", "batch")
    name = "lstsq"
    outputs = 4

    examples: ClassVar[Any] = [
        ((), TALL, (3, 2)),
        ((), TALL.T, (2, 1)),
        ((), GENERAL, (3, 2)),
        ((), COMPLEX[:, :2], COMPLEX[:, 1:] + 1j),
    ]

    def impl(self, a: Array, b: Array) -> Any:
        lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        if not lead:
            return self._one(a, b)
        a = np.broadcast_to(a, (*lead, *a.shape[-2:]))
        b = np.broadcast_to(b, (*lead, *b.shape[-2:]))
        avals = self.infer(Aval.of(a), Aval.of(b))
        out = tuple(np.empty(v.shape, v.dtype) for v in avals)
        for i in np.ndindex(*lead):
            for y, part in zip(out, self._one(a[i], b[i])):
                y[i] = part
        return out

    def _one(self, a: Array, b: Array) -> Any:
        x, residual, rank, s = np.linalg.lstsq(a, b, self.rcond)
        if residual.size == 0:
            residual = np.zeros(b.shape[-1], s.dtype)
        return x, residual, np.int32(rank), s

    def infer(self, a: Aval, b: Aval) -> Any:
        check_matrix(a)
        lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        (m, n), k = a.shape[-2:], b.shape[-1]
        dtype = float_of(np.result_type(a.dtype, b.dtype))
        real = real_of(dtype)
        shapes = ((n, k), dtype), ((k,), real), ((), np.dtype(np.int32)), ((min(m, n),), real)
        return tuple(Aval((*lead, *s), d) for s, d in shapes)

    def _solved(self, a: Array, b: Array, y: Any) -> tuple[Array, Array, Array]:
        """(a^+, b - a x, whether the residual counts)."""
        x, m, n = y[0], *shape_of(a)[-2:]
        eps = float(np.finfo(real_of(a.dtype)).eps)
        p = Pinv(eps * max(m, n) if self.rcond is None else eps if self.rcond < 0 else self.rcond)(
            a
        )
        counts = expand(e.logical_and(e.eq(y[2], n), m > n), -1)
        return p, b - matmul(a, x), counts

    def push(self, xs: list[Array], dxs: list[Array | None], y: Any) -> Any:
        (a, b), (da, db), x = xs, dxs, y[0]
        p, r, counts = self._solved(a, b, y)
        d = db if da is None else -matmul(da, x) if db is None else db - matmul(da, x)
        dx = matmul(p, d)
        along = 2.0 * Sum((len(shape_of(r)) - 2,), False)(re(conj(r) * d))
        ds = None
        if da is not None:
            dh, ph = ct(da), ct(p)
            c = dots(dh, ph, x)
            dx = dx + dots(p, ph, dh, r) + c - dots(p, a, c)
            ds = SVDVals().jvp(da, a, y[3])
        return dx, e.where(counts, along, 0.0), None, ds

    def _weights(self, g: Any, p: Array, r: Array, counts: Array) -> Any:
        """The cotangent of db - da x."""
        h = None if g[0] is None else matmul(swap(p), g[0])
        if g[1] is not None:
            w = columns(e.where(counts, 2.0 * g[1], 0.0)) * conj(r)
            h = w if h is None else h + w
        return h

    def vjp_a(self, g: Any, a: Array, b: Array, y: Any, a_dtype: DType) -> Array:
        p, r, counts = self._solved(a, b, y)
        x, h = y[0], self._weights(g, p, r, counts)
        ga = np.zeros(shape_of(a), a_dtype) if h is None else -matmul(h, swap(x))
        if g[0] is not None:
            t, px = swap(p), matmul(ct(p), x)
            k = dots(conj(p), t, g[0], swap(r))
            l = matmul(g[0], swap(px))
            ga = ga + ct(k + l - dots(swap(a), t, l))
        if g[3] is not None:
            ga = ga + SVDVals().vjp(g[3], a, y[3])
        return fit(ga, shape_of(a), a_dtype)

    def vjp_b(self, g: Any, a: Array, b: Array, y: Any, b_dtype: DType) -> Array:
        h = self._weights(g, *self._solved(a, b, y))
        return np.zeros(shape_of(b), b_dtype) if h is None else fit(h, shape_of(b), b_dtype)

    def batch(self, xs: Any, dims: Any) -> Any:
        return self(*align(xs, dims))

    def diagnose(self, xs: Any, error: Exception) -> Any:
        a, b = (shape_of(x) for x in xs)
        notes = [f"axis -2 is {a[-2]}", f"axis -2 is {b[-2]}"]
        return "the right-hand side has another number of rows than the matrix", notes, None


@op
class Rank(Judge):
    """The number of singular values above a tolerance."""

    tol: Any = None
    herm: bool = False
    rtol: Any = None

    examples: ClassVar[Any] = [((), TALL), ((), np.ones((2, 3, 3))), ((0.1, True), SPD)]

    def impl(self, x: Array) -> Array:
        if self.rtol is None:
            return np.linalg.matrix_rank(x, self.tol, self.herm)
        return np.linalg.matrix_rank(x, self.tol, self.herm, rtol=self.rtol)

    def infer(self, x: Aval) -> Aval:
        return Aval(x.shape[:-2], np.dtype(np.intp))
