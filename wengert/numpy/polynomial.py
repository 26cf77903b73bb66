"""Polynomials by their coefficients, the highest power first: NumPy's poly family."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..ops import elementwise as e
from ..ops.index import Pad
from ..trace import bind
from . import reduce as r
from .calculus import convolve
from .check import refuse
from .linalg import eigvals, lstsq
from .select import diag
from .shape import concatenate, ravel, reshape, stack
from .table import implements, tensor


@implements(np.polyval)
def polyval(p: Any, x: Any) -> Any:
    """p[0] x^(n-1) + .. + p[n-1], by Horner's rule."""
    p, x = tensor(p), tensor(x)
    y = x * 0
    for i in range(len(p)):
        y = y * x + p[i]
    return y


def _aligned(a: Any, b: Any) -> tuple[Any, Any]:
    """Coefficients of one length, with zeros in front."""
    a, b = ravel(a), ravel(b)
    n = max(a.size, b.size)
    return tuple(bind(Pad(((n - v.size, 0),)), v) for v in (a, b))


@implements(np.polyadd)
def polyadd(a1: Any, a2: Any) -> Any:
    """Sum of two polynomials."""
    a, b = _aligned(a1, a2)
    return a + b


@implements(np.polysub)
def polysub(a1: Any, a2: Any) -> Any:
    """Difference of two polynomials."""
    a, b = _aligned(a1, a2)
    return a - b


@implements(np.polymul)
def polymul(a1: Any, a2: Any) -> Any:
    """Product of two polynomials."""
    a, b = (_trimmed(ravel(v)) for v in (a1, a2))
    return convolve(a, b)


def _trimmed(p: Any) -> Any:
    """Coefficients without the zeros in front, as NumPy's polynomials drop them."""
    (kept,) = np.nonzero(p.value())
    return p[kept[0] :] if len(kept) else p[-1:]


@implements(np.polyder)
def polyder(p: Any, m: int = 1) -> Any:
    """The m-th derivative of a polynomial."""
    p = tensor(p)
    for _ in range(m):
        n = len(p) - 1
        p = p[:-1] * np.arange(n, 0, -1)
    return p


@implements(np.polyint)
def polyint(p: Any, m: int = 1, k: Any = None) -> Any:
    """The m-th antiderivative of a polynomial, with constants k."""
    p = tensor(p)
    constants = np.zeros(m) if k is None else ravel(k)
    for i in range(m):
        c = constants[i if len(constants) > 1 else 0]
        p = concatenate([p / np.arange(len(p), 0, -1), reshape(c, 1)])
    return p


@implements(np.vander)
def vander(x: Any, N: Any = None, increasing: bool = False) -> Any:
    """The powers of x, a column each."""
    x = tensor(x)
    if x.ndim != 1:
        raise ShapeError("vander(x)", "a vector is needed", operands=[("x", x)])
    n = len(x) if N is None else int(N)
    x = x.astype(np.promote_types(x.dtype, int))
    columns: list[Any] = [tensor(np.ones(x.shape, x.dtype))]
    for _ in range(n - 1):
        columns.append(columns[-1] * x)
    columns = columns[:n] if increasing else columns[:n][::-1]
    return stack(columns, 1) if n else tensor(np.zeros((len(x), 0), x.dtype))


@implements(np.polyfit)
def polyfit(
    x: Any, y: Any, deg: Any, rcond: Any = None, full: bool = False, w: Any = None, cov: Any = False
) -> Any:
    """The polynomial of least squares, by the scaled powers of x."""
    refuse("polyfit", full=full or None, cov=cov or None)
    x, y = r.inexact(x), r.inexact(y)
    if np.ndim(deg):
        raise ArgumentError("polyfit(x, y, deg)", "one degree is needed")
    if deg < 0 or x.ndim != 1 or not x.size or y.ndim not in (1, 2) or len(x) != len(y):
        raise ShapeError(
            f"polyfit(x, y, {deg})",
            "a vector, and as many values, are needed",
            operands=[("x", x), ("y", y)],
        )
    powers = vander(x, int(deg) + 1)
    if w is not None:
        w = r.inexact(w)
        powers = powers * w[:, None]
        y = y * (w[:, None] if y.ndim == 2 else w)
    rcond = len(x) * np.finfo(x.dtype).eps if rcond is None else rcond
    scale = bind(e.sqrt, r.sum(powers * powers, 0))
    c = lstsq(powers / scale, y, rcond)[0]
    return c / (scale[:, None] if c.ndim == 2 else scale)


@implements(np.poly)
def poly(seq_of_zeros: Any) -> Any:
    """The polynomial with given roots, or the characteristic one of a matrix."""
    z = tensor(seq_of_zeros)
    z = eigvals(z) if z.ndim == 2 and z.shape[0] == z.shape[1] and z.size else z
    z = reshape(z, 1) if z.ndim == 0 else z
    if z.ndim != 1:
        raise ShapeError(
            "poly(roots)", "a vector or a square matrix is needed", operands=[("roots", z)]
        )
    z = z.astype(np.promote_types(z.dtype, float)) if z.dtype.kind not in "fc" else z
    p: Any = tensor(np.ones(1, z.dtype))
    for i in range(len(z)):
        p = concatenate([p, np.zeros(1, z.dtype)]) - concatenate([np.zeros(1, z.dtype), p * z[i]])
    return p


@implements(np.roots)
def roots(p: Any) -> Any:
    """The roots of a polynomial: the eigenvalues of its companion matrix, and zeros."""
    p = ravel(r.inexact(p))
    (kept,) = np.nonzero(p.value())
    if not len(kept):
        return tensor(np.zeros(0))
    tail = p.shape[0] - int(kept[-1]) - 1
    p = p[int(kept[0]) : int(kept[-1]) + 1]
    n = len(p) - 1
    if n == 0:
        return tensor(np.zeros(tail, p.dtype))
    top = -p[1:] / p[0]
    below = diag(np.ones(n - 1, p.dtype), -1) if n > 1 else np.zeros((1, 1), p.dtype)
    found = eigvals(concatenate([reshape(top, (1, n)), below[1:]]))
    return concatenate([found, np.zeros(tail, found.dtype)]) if tail else found
