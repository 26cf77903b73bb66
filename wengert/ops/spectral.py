"""Eigenvalues and eigenvectors.

The rules hold where eigenvalues are distinct. Where they repeat, within rounding, the eigenvectors
are any basis of a space, and only functions that do not notice which have a derivative. In a
repeated block the reciprocal differences are left out, and the cotangents of values and vectors
must fit together:

* they must not change when the basis is turned, or there is no derivative;
* a function of values alone must treat those of a block alike;
* for V f(diag w) V^H, of which the block is f times the identity, the off-diagonal part of the
  cotangent f' G is lost, but G is seen in V, as f G, and its diagonal in w, as f' G; the ratio of
  the two restores the rest. A sum of several such functions, with different ratios, does not fit.

`Share` does this, and warns (GaugeWarning) when they do not fit. Then, and in forward mode, where
one cannot see what will become of the tangents, the result is that of the basis at hand. A second
order through the eigenvectors of a repeated value is not determined by the first, and is warned of.

Complex vectors have a phase besides. LAPACK makes some component of each real, and the tangents
keep it so (`Anchor`): they are those of the vectors that it returns.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..errors import GaugeWarning, warn
from ..primitive import Constant, op
from ..structural import fit
from ..trace import Tensor
from ..types import Array, Aval, DType, shape_of
from . import elementwise as e
from .contract import matmul, swap
from .linalg import solve
from .linear import Sum
from .matrix import (
    COMPLEX,
    GENERAL,
    HERMITIAN,
    SPD,
    OfMatrix,
    check_square,
    columns,
    concrete,
    conj,
    ct,
    diagonal,
    diagonal_matrix,
    dots,
    float_of,
    hermitian,
    is_complex,
    re,
    real_of,
    rows,
    triangle,
)

LATENT = np.array(
    [[1.0, 2.0, 0.5], [-1.0, 0.5, 0.3], [0.2, 0.1, -2.0]]
)  # two of its eigenvalues complex


# ------------------------------------------------------------------ repeated values


def tolerance(w: Array) -> Array:
    """How far apart values of a spectrum are when they count as one: [.., 1]."""
    size = np.abs(w)
    return (
        8 * max(1, w.shape[-1]) * np.finfo(size.dtype).eps * size.max(-1, keepdims=True, initial=0)
    )


def same_values(w: Array) -> Array:
    """Whether w_i and w_j count as one value: [.., n, n]."""
    near = np.abs(w[..., :, None] - w[..., None, :]) <= tolerance(w)[..., None]
    return near | np.eye(w.shape[-1], dtype=bool)


class Judge(Constant):
    """A decision about a spectrum, taken on its values."""

    def batch(self, xs: Any, dims: Any) -> Array:
        return self(*xs)


@op
class Blocks(Judge):
    """y[i, j]: whether x_i and x_j count as one value."""

    examples: ClassVar[Any] = [((), np.array([1.0, 1.0, 2.0])), ((), (2, 3))]

    def impl(self, x: Array) -> Array:
        return same_values(x)

    def infer(self, x: Aval) -> Aval:
        return Aval((*x.shape, x.shape[-1]), np.dtype(bool))


@op
class Anchor(Judge):
    """Of each column, the component that stays real: that in `row` where the whole row is real and
    its component not tiny, else the largest that is real; none in a column without one.
    """

    row: int | None

    examples: ClassVar[Any] = [((0,), COMPLEX), ((None,), np.eye(2) + 0j), ((-1,), GENERAL)]

    def impl(self, x: Array) -> Array:
        real = np.abs(np.imag(x)) <= 16 * np.finfo(x.dtype).eps  # of vectors of length 1
        size = np.where(real, np.abs(x), 0)
        if size.shape[-2] == 0:
            return real
        if self.row is not None:
            chosen = real[..., self.row, :].all(-1, keepdims=True)[..., None, :]
            chosen = chosen & (size[..., self.row, None, :] > 1e-6)
            at_row = np.zeros(size.shape[-2], bool)
            at_row[self.row] = True
            size = np.where(chosen & at_row[:, None], 2, size)
        top = size.argmax(-2)[..., None, :]
        return (np.arange(size.shape[-2])[:, None] == top) & (size > 0)

    def infer(self, x: Aval) -> Aval:
        return Aval(x.shape, np.dtype(bool))


@op
class Share(Judge):
    """How much of a block's off-diagonal cotangent comes back.

    Given a = v^T gv, b = gw and c = w:  y[i, j] = r / 2 in a block, with b = r Re diag(a) / 2.

    Warns when a and b do not fit together; see above.
    """

    what: str
    values: bool  # whether the values were used at all
    twice: bool  # whether this is itself being differentiated
    args = ("a", "b", "c")

    examples: ClassVar[Any] = [
        (("eigh", True, False), (3, 3), (3,), np.array([1.0, 2.0, 3.0])),
        (("eigh", True, False), np.ones((2, 2)), np.ones(2), np.ones(2)),
    ]

    def impl(self, a: Array, b: Array, c: Array) -> Array:
        off = same_values(c) & ~np.eye(c.shape[-1], dtype=bool)
        shape = np.broadcast_shapes(a.shape, (*b.shape, 1), off.shape)
        if not off.any() and not is_complex(a):
            return np.zeros(shape, b.dtype)
        ah = np.conjugate(a.swapaxes(-1, -2))
        q, d = (a + ah) / 2, np.real(np.diagonal(a, axis1=-2, axis2=-1)) / 2
        size = np.abs(a).max((-2, -1), initial=0) + np.abs(b).max(-1, initial=0)
        tol = (1e3 * a.shape[-1] * np.finfo(c.dtype).eps * size)[..., None]
        turned = (np.abs(a - ah) * same_values(c)).max(-1, initial=0) > tol
        if not off.any():
            self.judge(turned)
            return np.zeros(shape, b.dtype)

        def block(v: Array) -> Array:
            return (same_values(c) * v[..., None, :]).sum(-1)

        norm = block(d * d)
        seen = norm > tol * tol
        r = np.where(seen, block(b * d) / np.where(seen, norm, 1), 0)
        alike = np.abs(b - block(b) / block(np.ones_like(c))) <= tol
        coupled = (np.abs(q) * off).max(-1, initial=0) > tol
        fits = np.where(
            coupled, seen & (np.abs(b - r * d) <= tol), alike | (np.abs(b - r * d) <= tol)
        )
        fits = fits if self.values else np.ones_like(fits)
        repeated = off.any(-1)
        self.judge(turned | (repeated & ~fits) | (repeated & self.twice))
        return np.broadcast_to(np.where(off, (r / 2)[..., None], 0), shape)

    def judge(self, bad: Array) -> None:
        if bad.any():
            if self.twice:
                gauge(
                    self.what, "a second derivative through the vectors of a repeated value is open"
                )
            else:
                gauge(self.what, "the cotangent depends on the basis chosen for a repeated value")

    def infer(self, a: Aval, b: Aval, c: Aval) -> Aval:
        shape = np.broadcast_shapes(a.shape, (*b.shape, 1), (*c.shape, c.shape[-1]))
        return Aval(shape, b.dtype)


def gauge(what: str, why: str) -> None:
    warn(
        f"{what}: {why}; only functions of the matrix that treat a repeated value as one, such "
        "as a projector or a symmetric function of the values, have a derivative here",
        GaugeWarning,
    )


def differentiated(x: Array) -> bool:
    """Whether a derivative is being taken through x: a tape node or a tangent, at any level."""
    while isinstance(x, Tensor):
        if x.node is not None and not isinstance(x.node, int):  # an int is a batch axis
            return True
        x = x.data
    return False


def coupled(what: str, p: Array, w: Array) -> None:
    """Warn of a tangent that splits a repeated value: it turns the basis by a finite angle."""
    values, spectrum = concrete(p), concrete(w)
    if values is None or spectrum is None:
        return
    off = same_values(spectrum) & ~np.eye(spectrum.shape[-1], dtype=bool)
    if off.any():
        tol = 1e3 * np.finfo(spectrum.dtype).eps * np.abs(values).max(initial=0)
        if np.any(
            np.abs(values + np.conjugate(values.swapaxes(-1, -2)))[
                np.broadcast_to(off, values.shape)
            ]
            > tol
        ):
            gauge(what, "the tangent splits a repeated value")


def reciprocal_gaps(w: Array) -> Array:
    """y[i, j] = 1 / (w_j - w_i), and 0 where the two count as one."""
    same = Blocks()(w)
    return e.where(same, 0.0, 1.0 / e.where(same, 1.0, columns(w) - rows(w)))


def per_anchor(v: Array, anchor: Array, x: Array) -> Array:
    """x / v at each column's anchor, where v is real; 0 in a column without one."""
    axis = (len(shape_of(v)) - 2,)
    at = Sum(axis, False)(e.where(anchor, re(v), 0.0))
    none = e.eq(at, 0.0)
    return e.where(none, 0.0, x / e.where(none, 1.0, at))


def settle(v: Array, dv: Array, row: int | None) -> Array:
    """The phase rates theta that keep the anchors of v + dv + i v theta real."""
    anchor = Anchor(row)(v)
    moved = Sum((len(shape_of(v)) - 2,), False)(e.where(anchor, e.imag(dv), 0.0))
    return -per_anchor(v, anchor, moved)


def settle_pull(v: Array, phase: Array, row: int | None) -> Array:
    """What is to be added to v's cotangent, given Im of its component along i v."""
    anchor = Anchor(row)(v)
    return e.where(anchor, columns(-1j * per_anchor(v, anchor, phase)), 0.0)


def block_values(x: Array, same: Array, share: Array, gaps: Array) -> Array:
    """share * herm(x) in a block, gaps * x between blocks."""
    return e.where(same, share * (x + ct(x)) * 0.5, gaps * x)


# ------------------------------------------------------------------ Hermitian eigenvalues


@op
class Eigh(OfMatrix):
    """x = v diag(w) v^H, w ascending, v unitary; x is Hermitian, and one triangle of it is read.

    With p = v^H dx v:  dw = Re diag(p),  dv = v (f * p),  f_ij = 1 / (w_j - w_i).
    gx = conj(v) (diag(gw) + f * (v^T gv)) v^T, folded onto the triangle that is read.   (Giles 3.1)
    """

    uplo: str = "L"
    name = "eigh"
    outputs = 2

    examples: ClassVar[Any] = [
        ((), SPD),
        (("U",), GENERAL),
        ((), (2, 3, 3)),
        ((), HERMITIAN),
        (("U",), HERMITIAN),
        ((), (0, 0)),
        ((), (1, 1)),
    ]

    def impl(self, x: Array) -> Any:
        return tuple(np.linalg.eigh(x, self.uplo))  # type: ignore[call-overload]

    def infer(self, x: Aval) -> Any:
        check_square(x)
        return Aval(x.shape[:-1], real_of(x.dtype)), Aval(x.shape, float_of(x.dtype))

    @property
    def row(self) -> int:
        return 0 if self.uplo == "L" else -1

    def jvp(self, dx: Array, y: Any) -> Any:
        w, v = y
        p = dots(ct(v), hermitian(dx, self.uplo == "L"), v)
        coupled("eigh", p, w)
        dv = matmul(v, reciprocal_gaps(w) * p)
        if is_complex(v):
            dv = dv + v * columns(1j * settle(v, dv, self.row))
        return re(diagonal(p)), dv

    def vjp(self, g: Any, y: Any) -> Array:
        (gw, gv), (w, v) = g, y
        zero = np.zeros(shape_of(w), w.dtype)
        n = np.zeros(shape_of(v), v.dtype)
        if gv is not None:
            n = matmul(swap(v), gv)
            if is_complex(v):
                n = matmul(swap(v), gv + settle_pull(v, e.imag(diagonal(n)), self.row))
        again = gv is not None and differentiated(w)
        share = Share("eigh", gw is not None, again)(n, zero if gw is None else gw, w)
        k = diagonal_matrix(zero if gw is None else gw)
        if gv is not None:
            k = k + block_values(n, Blocks()(w), share, reciprocal_gaps(w))
        return triangle(dots(conj(v), k, swap(v)), self.uplo == "L")


@op
class EigvalsH(OfMatrix):
    """The eigenvalues of a Hermitian matrix, ascending.

    dw_i = v_i^H dx v_i;  gx = conj(v) diag(g) v^T, folded onto the triangle that is read.
    """

    uplo: str = "L"
    name = "eigvalsh"

    examples: ClassVar[Any] = [((), SPD), (("U",), HERMITIAN), ((), (2, 3, 3)), ((), (0, 0))]

    def impl(self, x: Array) -> Array:
        return np.linalg.eigvalsh(x, self.uplo)  # type: ignore[call-overload]

    def infer(self, x: Aval) -> Aval:
        check_square(x)
        return Aval(x.shape[:-1], real_of(x.dtype))

    def jvp(self, dx: Array, x: Array) -> Array:
        w, v = Eigh(self.uplo)(x)
        p = dots(ct(v), hermitian(dx, self.uplo == "L"), v)
        coupled("eigvalsh", p, w)
        return re(diagonal(p))

    def vjp(self, g: Array, x: Array) -> Array:
        w, v = Eigh(self.uplo)(x)
        Share("eigvalsh", True, False)(np.zeros(shape_of(v), v.dtype), g, w)
        return triangle(matmul(conj(v) * columns(g), swap(v)), self.uplo == "L")


# ------------------------------------------------------------------ general eigenvalues


def complex_of(dtype: DType) -> DType:
    return np.result_type(float_of(dtype), np.complex64)


@op
class Eig(OfMatrix):
    """x v = v diag(w), w and v complex, each column of v of length 1, its largest component real.

    With p = v^-1 dx v:  dw = diag(p),  dv = v (f * p + diag(c)),  f_ij = 1 / (w_j - w_i), and c
    keeps length and phase.  gx = v^-T (diag(gw) + f * (v^T gv)) v^T, gv without its part along c.
    (C. Boeddeker et al., "On the computation of complex-valued gradients", 2017)
    """

    name = "eig"
    outputs = 2

    examples: ClassVar[Any] = [
        ((), LATENT),
        ((), GENERAL),
        ((), COMPLEX),
        ((), np.stack([LATENT, GENERAL])),
        ((), (0, 0)),
    ]

    def impl(self, x: Array) -> Any:
        dtype = complex_of(x.dtype)
        w, v = np.linalg.eig(x)
        return w.astype(dtype, copy=False), v.astype(dtype, copy=False)

    def infer(self, x: Aval) -> Any:
        check_square(x)
        dtype = complex_of(x.dtype)
        return Aval(x.shape[:-1], dtype), Aval(x.shape, dtype)

    def jvp(self, dx: Array, y: Any) -> Any:
        w, v = y
        p = solve(v, matmul(dx, v))
        coupled("eig", p, w)
        dv = matmul(v, reciprocal_gaps(w) * p)
        stretch = e.real(Sum((len(shape_of(v)) - 2,), False)(conj(v) * dv))
        return diagonal(p), dv + v * columns(1j * settle(v, dv, None) - stretch)

    def vjp(self, g: Any, y: Any, x_dtype: DType) -> Array:
        (gw, gv), (w, v) = g, y
        zero = np.zeros(shape_of(w), w.dtype)
        k = diagonal_matrix(zero if gw is None else gw)
        if gv is not None:
            m = diagonal(matmul(swap(v), gv))
            gv = gv - conj(v) * columns(e.real(m)) + settle_pull(v, e.imag(m), None)
            k = k + reciprocal_gaps(w) * matmul(swap(v), gv)
        unequal(gw, w, gv is not None)
        gx = solve(swap(v), matmul(k, swap(v)))
        return fit(gx, shape_of(gx), x_dtype)


def unequal(gw: Any, w: Array, vectors: bool) -> None:
    """Warn of a cotangent that tells repeated eigenvalues of a general matrix apart."""
    values, spectrum = concrete(gw) if gw is not None else None, concrete(w)
    if spectrum is None:
        return
    off = same_values(spectrum) & ~np.eye(spectrum.shape[-1], dtype=bool)
    if not off.any():
        return
    if not vectors and values is not None:
        tol = 1e3 * np.finfo(spectrum.dtype).eps * np.abs(values).max(initial=0)
        vectors = bool(np.any((np.abs(values[..., None] - values[..., None, :]) * off) > tol))
    if vectors:
        gauge("eig", "the cotangent tells the vectors, or the copies, of a repeated value apart")


@op
class Pairing(Judge):
    """y[i, j] = 1 where a_i is the eigenvalue b_j: each a_i takes the nearest b_j that is left."""

    args = ("a", "b")

    examples: ClassVar[Any] = [((), np.array([1.0, 2.0]), np.array([2.0, 1.0]))]

    def impl(self, a: Array, b: Array) -> Array:
        gap = np.abs(a[..., :, None] - b[..., None, :])
        y = np.zeros(gap.shape, gap.dtype)
        for k in np.ndindex(*gap.shape[:-2]):
            left = gap[k].copy()
            for i in range(left.shape[0]):
                j = left[i].argmin()
                y[(*k, i, j)] = 1
                left[:, j] = np.inf
        return y

    def infer(self, a: Aval, b: Aval) -> Aval:
        shape = np.broadcast_shapes((*a.shape, 1), (*b.shape[:-1], 1, b.shape[-1]))
        return Aval(shape, real_of(a.dtype))


@op
class Eigvals(OfMatrix):
    """The eigenvalues of a general matrix.  dw = diag(v^-1 dx v),  gx = v^-T diag(g) v^T."""

    name = "eigvals"

    examples: ClassVar[Any] = [((), LATENT), ((), COMPLEX), ((), (2, 3, 3)), ((), (0, 0))]

    def impl(self, x: Array) -> Array:
        return np.linalg.eigvals(x).astype(complex_of(x.dtype), copy=False)

    def infer(self, x: Aval) -> Aval:
        check_square(x)
        return Aval(x.shape[:-1], complex_of(x.dtype))

    def _vectors(self, x: Array, y: Array) -> Array:
        w, v = Eig()(x)
        return matmul(v, swap(Pairing()(y, w)))

    def jvp(self, dx: Array, x: Array, y: Array) -> Array:
        v = self._vectors(x, y)
        p = solve(v, matmul(dx, v))
        coupled("eigvals", p, y)
        return diagonal(p)

    def vjp(self, g: Array, x: Array, y: Array, x_dtype: DType) -> Array:
        v = self._vectors(x, y)
        unequal(g, y, False)
        gx = solve(swap(v), rows(g) * swap(v))
        return fit(gx, shape_of(gx), x_dtype)
