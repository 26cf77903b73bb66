"""Order statistics, histograms and correlations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import ArgumentError, DTypeError, UnsupportedError
from ..ops import elementwise as e
from ..ops.index import AddAt, GetItem
from ..owned import own
from ..trace import bind
from . import reduce as r
from .check import axes_of, flag, refuse
from .grid import linspace
from .select import sort, take_along_axis
from .shape import atleast_2d, concatenate, moveaxis, reshape, squeeze
from .table import finish, implements, plain, recorded, tensor


# ------------------------------------------------------------------ quantiles
def sorted_lanes(what: str, x: Any, axis: Any) -> tuple[Any, tuple[int, ...]]:
    """x sorted along one last axis made of the reduced ones, and the shape with those kept as 1."""
    axes = axes_of(what, x, axis)
    rest = [i for i in range(x.ndim) if i not in axes]
    lead = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    x = x.transpose((*rest, *axes)) if x.ndim else x
    x = reshape(x, (*x.shape[: len(rest)], math.prod(x.shape[len(rest) :])))
    return sort(x, -1), lead


def positions(n: int, q: Any, method: str) -> Any:
    """Where the quantiles of n sorted numbers stand among them: all methods interpolate."""
    return np.quantile(np.arange(n, dtype=float), q, method=method)  # type: ignore[call-overload]


def on_sorted(x: Any, at: Any, kind: Any) -> Any:
    """Numbers of the last axis at fractional positions: x[lo] (1 - t) + x[hi] t."""
    n = x.shape[-1]
    lo = np.floor(at).astype(np.intp)
    t = at - lo
    lo, hi = e.clip(lo, 0, n - 1), e.clip(lo + 1, 0, n - 1)
    if lo.ndim == 1:
        low, high = x[..., lo], x[..., hi]
    else:
        low, high = take_along_axis(x, lo, -1), take_along_axis(x, hi, -1)
    t = t.astype(kind)
    step = high - low
    y = e.where(t < 0.5, low + step * t, high - step * (1 - t))
    return e.where(e.eq(t, 0), low, y).astype(kind)


def spread_q(what: str, x: Any, q: Any, weights: Any, method: str = "linear") -> tuple[Any, Any]:
    """The fractions as an array, and the dtype of the result."""
    refuse(what, weights=weights)
    if recorded(q):
        raise UnsupportedError(
            f"{what}(x, q)", "q is recorded, and has no derivative here", fix="q.detach()"
        )
    if x.dtype.kind == "c":
        raise DTypeError(f"{what}(x)", "complex numbers have no order", operands=[("x", x)])
    q = plain(q)
    at = np.asarray(q, float)
    if at.size and (at.min() < 0 or at.max() > 1):
        raise ArgumentError(f"{what}(x, q)", "q is between 0 and 1 (percentiles: 100)")
    sample = np.zeros(1, x.dtype if x.dtype.kind != "b" else "f8")
    return at, np.quantile(sample, q, method=method).dtype  # type: ignore[call-overload]


@implements(np.quantile)
def quantile(
    a: Any, q: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False,
    method: str = "linear", keepdims: Any = False, *, weights: Any = None,
) -> Any:  # fmt: skip
    """Quantiles, by all of NumPy's methods; the gradient goes to the numbers beside each."""
    a = tensor(a)
    q, kind = spread_q("quantile", a, q, weights, method)
    lanes, lead = sorted_lanes("quantile", a, axis)
    if lanes.shape[-1] == 0:
        raise ArgumentError("quantile(x)", "no elements", operands=[("x", a)])
    y = on_sorted(lanes, positions(lanes.shape[-1], q.ravel(), method), kind)
    if a.dtype.kind == "f":
        y = e.where(e.isnan(lanes[..., -1:]), np.nan, y)
    y = moveaxis(y, -1, 0)
    return finish(reshape(y, (*q.shape, *(lead if flag(keepdims) else y.shape[1:]))), out)


@implements(np.percentile)
def percentile(
    a: Any, q: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False,
    method: str = "linear", keepdims: Any = False, *, weights: Any = None,
) -> Any:  # fmt: skip
    """Percentiles: quantiles of q / 100."""
    if recorded(q):
        spread_q("percentile", tensor(a), q, weights)
    q = np.true_divide(q, tensor(a).dtype.type(100) if tensor(a).dtype.kind == "f" else 100)
    return quantile(a, q, axis, out, overwrite_input, method, keepdims, weights=weights)


@implements(np.median)
def median(
    a: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, keepdims: Any = False
) -> Any:
    """The number in the middle, or the mean of the two there."""
    a = tensor(a)
    lanes, lead = sorted_lanes("median", a, axis)
    n = lanes.shape[-1]
    if n == 0:
        return r.mean(a, axis, out=out, keepdims=keepdims)
    y = r.mean(lanes[..., (n - 1) // 2 : n // 2 + 1], -1)
    if a.dtype.kind in "fc":
        y = e.where(e.isnan(lanes[..., -1]), np.nan, y)
    return finish(reshape(y, lead) if flag(keepdims) else y, out)


# ------------------------------------------------------------------ histograms
@implements(np.bincount)
def bincount(x: Any, /, weights: Any = None, minlength: int = 0) -> Any:
    """How often each integer occurs, or the sum of its weights."""
    x = own(np.asarray(plain(x)))
    if weights is None:
        return tensor(np.bincount(x, minlength=minlength))
    w = tensor(weights).astype(np.float64)
    if w.shape != x.shape:
        raise ArgumentError(
            "bincount(x, weights)", "one weight each", operands=[("x", x), ("weights", w)]
        )
    empty = np.zeros_like(np.bincount(x, minlength=minlength), np.float64)
    return bind(AddAt(GetItem((x,))), empty, w)


def _edges(x: Any, bins: Any, span: Any, weights: Any) -> Any:
    """The edges of the bins; between the extremes of x, they depend on x."""
    edges = np.histogram_bin_edges(plain(x), plain(bins), plain(span), plain(weights))
    if np.ndim(plain(bins)) or span is not None or x.size == 0 or not x.recorded():
        return tensor(bins) if np.ndim(plain(bins)) else tensor(edges)
    lo, hi = r.min(x), r.max(x)
    if bool(lo == hi):
        lo, hi = lo - 0.5, hi + 0.5
    return linspace(lo, hi, len(edges))


@implements(np.histogram_bin_edges)
def histogram_bin_edges(a: Any, bins: Any = 10, range: Any = None, weights: Any = None) -> Any:
    """The edges that np.histogram would use."""
    return _edges(reshape(a, -1), bins, range, weights)


@implements(np.histogram)
def histogram(
    a: Any, bins: Any = 10, range: Any = None, density: Any = None, weights: Any = None
) -> Any:
    """Counts per bin; the gradient goes to the weights, the edges and the density."""
    x = reshape(a, -1)
    edges = _edges(x, bins, range, weights)
    plain_edges = np.histogram_bin_edges(x.value(), plain(bins), plain(range), plain(weights))
    if weights is None:
        counts: Any = tensor(np.histogram(x.value(), plain_edges)[0])
    else:
        w = reshape(weights, -1)
        v, n = x.value(), len(plain_edges) - 1
        at = np.searchsorted(plain_edges, v, "right") - 1
        at = np.where(v == plain_edges[-1], n - 1, at)
        inside = np.flatnonzero((at >= 0) & (at < n) & (v == v))
        counts = bind(AddAt(GetItem((at[inside],))), np.zeros(n, w.dtype), w[inside])
    if density:
        counts = counts / (edges[1:] - edges[:-1]) / r.sum(counts)
    return counts, edges


# ------------------------------------------------------------------ correlations
@implements(np.cov)
def cov(
    m: Any, y: Any = None, rowvar: bool = True, bias: bool = False, ddof: Any = None,
    fweights: Any = None, aweights: Any = None, *, dtype: Any = None,
) -> Any:  # fmt: skip
    """Covariances of the rows:  sum_k w_k (x_i - mean_i) conj(x_j - mean_j) / norm."""
    kind = np.result_type(tensor(m).dtype, *([] if y is None else [tensor(y).dtype]), np.float64)
    x = _rows(m, rowvar).astype(dtype or kind)
    if y is not None:
        x = concatenate([x, _rows(y, rowvar).astype(dtype or kind)], 0)
    if x.shape[0] == 0:
        return tensor(np.zeros((0, 0), x.dtype))
    ddof = (0 if bias else 1) if ddof is None else ddof
    w: Any = None
    if fweights is not None:
        w = np.asarray(plain(fweights), float)
    if aweights is not None:
        aweights = tensor(aweights)
        w = aweights if w is None else aweights * w
    if w is None:
        d, norm = x - r.mean(x, 1, keepdims=True), x.shape[1] - ddof
        y = d @ _adjoint(d)
        return squeeze(y / norm if norm > 0 else y / np.zeros((), d.dtype))
    total = r.sum(w)
    center = r.sum(x * w, 1, keepdims=True) / total
    norm = total - ddof * (r.sum(w * aweights) / total if aweights is not None else 1)
    d = x - center
    return squeeze(d @ _adjoint(d * w) / norm)


def _adjoint(x: Any) -> Any:
    return e.conj(x).T if x.dtype.kind == "c" else x.T


def _rows(x: Any, rowvar: bool) -> Any:
    x = tensor(x)
    if x.ndim > 2:
        raise ArgumentError("cov(m)", "m has more than two axes", operands=[("m", x)])
    x = atleast_2d(x)
    return x.T if not rowvar and x.shape[0] != 1 else x


@implements(np.corrcoef)
def corrcoef(x: Any, y: Any = None, rowvar: bool = True, *, dtype: Any = None) -> Any:
    """Correlations: covariances over the standard deviations, within -1 and 1."""
    c = cov(x, y, rowvar, dtype=dtype)
    if c.ndim == 0:
        return c / c
    s = bind(e.sqrt, e.real(_diag(c)) if c.dtype.kind == "c" else _diag(c))
    c = c / s[:, None] / s[None, :]
    if c.dtype.kind == "c":
        return e.clip(e.real(c), -1, 1) + 1j * e.clip(e.imag(c), -1, 1)
    return e.clip(c, -1, 1)


def _diag(c: Any) -> Any:
    return c[np.arange(len(c)), np.arange(len(c))]
