"""Differences, integrals, interpolation and convolution on a grid."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..ops import elementwise as e
from ..ops.index import Pad
from ..trace import bind
from ..types import shape_of
from . import reduce as r
from .check import axis_of, given, ordered_axes
from .shape import FULL, broadcast_to, concatenate, moveaxis, ravel, reshape
from .table import implements, known, plain, tensor


def cut(x: Any, axis: int, *bounds: Any) -> Any:
    """x[.., start:stop:step, ..] along an axis."""
    return x[(*(FULL,) * axis, slice(*bounds))]


# ------------------------------------------------------------------ differences
@implements(np.diff)
def diff(a: Any, n: int = 1, axis: Any = -1, prepend: Any = None, append: Any = None) -> Any:
    """Differences of neighbours, n times over."""
    x = tensor(a)
    if n < 0:
        raise ArgumentError(f"diff(x, {n})", "n is not negative")
    axis = axis_of("diff", x, axis)
    if n == 0:
        return x
    ends = []
    for end in (prepend, append):
        if given(end):
            end = tensor(end)
            shape = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
            ends.append(broadcast_to(end, shape) if end.ndim == 0 else end)
        else:
            ends.append(None)
    parts = [p for p in (ends[0], x, ends[1]) if p is not None]
    x = concatenate(parts, axis) if len(parts) > 1 else x
    for _ in range(n):
        b, a = cut(x, axis, 1, None), cut(x, axis, None, -1)
        x = e.ne(b, a) if x.dtype == bool else b - a
    return x


@implements(np.ediff1d)
def ediff1d(ary: Any, to_end: Any = None, to_begin: Any = None) -> Any:
    """Differences of neighbours of the flat array, with numbers put before and after."""
    x = ravel(ary)
    y = x[1:] - x[:-1]
    parts = [ravel(to_begin).astype(y.dtype)] if to_begin is not None else []
    parts += [y]
    parts += [ravel(to_end).astype(y.dtype)] if to_end is not None else []
    return concatenate(parts) if len(parts) > 1 else y


@implements(np.gradient)
def gradient(f: Any, *varargs: Any, axis: Any = None, edge_order: int = 1) -> Any:
    """Slopes by second-order differences; recorded spacings get a gradient too."""
    x = tensor(f)
    x = x if x.dtype.kind in "fc" else x.astype(np.float64)
    axes = range(x.ndim) if axis is None else ordered_axes("gradient", x, axis)
    if edge_order not in (1, 2):
        raise ArgumentError(f"gradient(f, edge_order={edge_order!r})", "the order is 1 or 2")
    spacing = list(varargs) or [1.0]
    if len(spacing) == 1 and len(shape_of(spacing[0])) == 0:
        spacing = spacing * len(axes)
    if len(spacing) != len(axes):
        raise ArgumentError("gradient(f, ...)", f"{len(spacing)} spacings for {len(axes)} axes")
    ys = [_slope(x, a, h, edge_order) for a, h in zip(axes, spacing)]
    return ys[0] if len(ys) == 1 else tuple(ys)


def _slope(x: Any, axis: int, h: Any, order: int) -> Any:
    n = x.shape[axis]
    if n < order + 1:
        raise ShapeError(
            "gradient(f)", f"an axis of {order + 1} or more is needed", operands=[("f", x)]
        )
    x = moveaxis(x, axis, -1)
    if len(shape_of(h)) > 1 or (len(shape_of(h)) == 1 and shape_of(h)[0] != n):
        raise ShapeError(
            "gradient(f, x)", "as many places are needed", operands=[("f", x), ("x", h)]
        )
    if len(shape_of(h)) == 1:
        h = tensor(h)
        step = (h if h.dtype.kind in "fc" else h.astype(np.float64))[1:] - h[:-1]
    else:
        step = broadcast_to(h, (n - 1,))
    p, q = step[:-1], step[1:]
    inner = (-q / (p * (p + q))) * x[..., :-2] + ((q - p) / (p * q)) * x[..., 1:-1]
    inner = inner + (p / (q * (p + q))) * x[..., 2:]
    if order == 1:
        first = (x[..., 1:2] - x[..., :1]) / step[:1]
        last = (x[..., -1:] - x[..., -2:-1]) / step[-1:]
    else:
        a, b = step[:1], step[1:2]
        first = (-(2 * a + b) / (a * (a + b))) * x[..., :1] + ((a + b) / (a * b)) * x[..., 1:2]
        first = first - (a / (b * (a + b))) * x[..., 2:3]
        a, b = step[-2:-1], step[-1:]
        last = (b / (a * (a + b))) * x[..., -3:-2] - ((b + a) / (a * b)) * x[..., -2:-1]
        last = last + ((2 * b + a) / (b * (a + b))) * x[..., -1:]
    y = concatenate([first, inner, last], -1)
    return moveaxis(y.astype(x.dtype) if y.dtype != x.dtype else y, -1, axis)


@implements(np.unwrap)
def unwrap(p: Any, discont: Any = None, axis: Any = -1, *, period: float = 2 * np.pi) -> Any:
    """Multiples of the period added, so that neighbours differ by half of it or less."""
    p = tensor(p)
    axis = axis_of("unwrap", p, axis)
    discont = period / 2 if discont is None else discont
    d = diff(p, axis=axis)
    whole = d.dtype.kind in "iu" and isinstance(period, int)
    low, odd = -(period // 2) if whole else -period / 2, period % 2 if whole else 0
    wrapped = bind(e.remainder, d - low, period) + low
    if not odd:
        wrapped = e.where(e.logical_and(e.eq(wrapped, low), e.gt(d, 0)), -low, wrapped)
    jump = e.where(e.lt(abs(d), discont), 0, wrapped - d)
    y = cut(p, axis, 1, None) + r.cumsum(jump, axis)
    return concatenate([cut(p, axis, None, 1), y], axis)


# ------------------------------------------------------------------ integrals and interpolation
def trapezoid(y: Any, x: Any = None, dx: Any = 1.0, axis: Any = -1) -> Any:
    """Integral by the trapezoidal rule:  sum dx (y[i] + y[i+1]) / 2."""
    y = tensor(y)
    axis = axis_of("trapezoid", y, axis)
    step = dx
    if x is not None:
        x = tensor(x)
        if x.ndim == 1:
            step = reshape(diff(x), tuple(-1 if i == axis else 1 for i in range(y.ndim)))
        else:
            step = diff(x, axis=axis)
    return r.sum(step * (cut(y, axis, 1, None) + cut(y, axis, None, -1)) / 2.0, axis)


for _name in ("trapezoid", "trapz"):
    if hasattr(np, _name):
        implements(getattr(np, _name))(trapezoid)


@implements(np.interp)
def interp(
    x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None
) -> Any:
    """Piecewise linear through (xp, fp); the gradient goes to x, to xp and to fp."""
    x, xp = (tensor(v).astype(np.float64) for v in (x, xp))
    fp = tensor(fp)
    fp = fp.astype(np.complex128 if fp.dtype.kind == "c" else np.float64)
    if xp.ndim != 1 or fp.ndim != 1 or xp.shape != fp.shape or not len(xp):
        raise ShapeError(
            "interp(x, xp, fp)",
            "two vectors of one length are needed",
            operands=[("xp", xp), ("fp", fp)],
        )
    if period is not None:
        if period == 0:
            raise ArgumentError("interp(x, xp, fp, period=0)", "a period is not 0")
        period = abs(period)
        x, xp = bind(e.remainder, x, period), bind(e.remainder, xp, period)
        order = np.argsort(plain(xp))
        xp, fp = xp[order], fp[order]
        xp = concatenate([xp[-1:] - period, xp, xp[:1] + period])
        fp = concatenate([fp[-1:], fp, fp[:1]])
        left = right = None
    n = len(xp)
    if n == 1:
        y = broadcast_to(fp[0], x.shape)
    else:
        i = e.clip(_place(x, xp), 0, n - 2)
        slope = (fp[1:] - fp[:-1]) / (xp[1:] - xp[:-1])
        y = slope[i] * (x - xp[i]) + fp[i]
        y = e.where(e.eq(x, xp[n - 1]), fp[n - 1], y)
    y = e.where(e.lt(x, xp[0]), fp[0] if left is None else left, y)
    y = e.where(e.gt(x, xp[n - 1]), fp[n - 1] if right is None else right, y)
    return e.where(e.isnan(x), x, y) if n == 1 else y


def _place(x: Any, xp: Any) -> Any:
    """The interval of each x: by search, or lane by lane by counting the xp below it."""
    v, vp = known(x), known(xp)
    if v is None or vp is None:
        return r.sum(e.ge(x[..., None], xp), -1) - 1
    return np.searchsorted(vp, v, "right") - 1


# ------------------------------------------------------------------ convolution
def _vectors(name: str, a: Any, v: Any) -> tuple[Any, Any]:
    a, v = tensor(a), tensor(v)
    a, v = (reshape(u, 1) if u.ndim == 0 else u for u in (a, v))
    if a.ndim != 1 or v.ndim != 1 or not a.size or not v.size:
        raise ShapeError(
            f"{name}(a, v)", "two vectors, not empty, are needed", operands=[("a", a), ("v", v)]
        )
    return a, v


def _full(a: Any, v: Any) -> Any:
    """y[k] = sum_j v[j] a[k - j], everywhere that the two overlap."""
    n, m = a.shape[0], v.shape[0]
    if n < m:
        a, v, n, m = v, a, m, n
    padded = bind(Pad(((m - 1, m - 1),)), a)
    rows = np.arange(n + m - 1)[:, None] + np.arange(m)[None, ::-1]
    return padded[rows] @ v


def _part(name: str, y: Any, n: int, m: int, mode: str, mirrored: bool) -> Any:
    """The part of a full convolution that a mode asks for; from the other end when mirrored."""
    mode = {"f": "full", "s": "same", "v": "valid"}.get(str(mode)[:1].lower(), str(mode))
    if mode not in ("full", "same", "valid"):
        raise ArgumentError(f"{name}(a, v, mode={mode!r})", 'the mode is "full", "same" or "valid"')
    long, short = max(n, m), min(n, m)
    start, size = {"full": (0, n + m - 1), "same": ((short - 1) // 2, long)}.get(
        mode, (short - 1, long - short + 1)
    )
    if mirrored:
        start = len(y) - start - size
    return y[start : start + size]


@implements(np.convolve)
def convolve(a: Any, v: Any, mode: str = "full") -> Any:
    """y[k] = sum_j v[j] a[k - j]."""
    a, v = _vectors("convolve", a, v)
    return _part("convolve", _full(a, v), a.shape[0], v.shape[0], mode, False)


@implements(np.correlate)
def correlate(a: Any, v: Any, mode: str = "valid") -> Any:
    """y[k] = sum_j a[j + k] conj(v[j])."""
    a, v = _vectors("correlate", a, v)
    n, m = a.shape[0], v.shape[0]
    flipped = (e.conj(v) if v.dtype.kind == "c" else v)[::-1]
    return _part("correlate", _full(a, flipped), n, m, mode, m > n)
