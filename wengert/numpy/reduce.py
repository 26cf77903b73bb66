"""Reductions with NumPy's signatures."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ops import elementwise as e
from ..ops.fused import LogSoftmax, LogSumExp, Norm, Softmax
from ..ops.linear import Cumsum, Sum
from ..ops.order import ArgMax, ArgMin, Max, Min, Prod
from ..ops.road import one
from ..trace import Tensor, bind, getframe
from ..types import normalize_axes, shape_of
from .table import METHODS, by_value, implements, into, tensor

NOTHING: Any = np._NoValue if hasattr(np, "_NoValue") else None


def _axes(x: Any, axis: Any) -> tuple[int, ...]:
    return normalize_axes(axis, len(shape_of(x)))


def _finish(y: Any, out: Any) -> Any:
    return y if out is None else into(out, y)


def _given(v: Any) -> bool:
    return v is not None and v is not NOTHING


def _masked(x: Any, where: Any, fill: Any) -> Any:
    return x if where is True or not _given(where) else e.where(where, x, fill)


@implements(np.sum)
def sum(
    x: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False,
    initial: Any = None, where: Any = True,
) -> Any:
    """Sum over axes.  gx = gy, broadcast back."""
    if x.__class__ is Tensor and axis is None and out is None and initial is None and where is True:
        if dtype is None:
            return one(Sum(tuple(range(x.ndim)), keepdims is True), x, getframe(1))
    x = tensor(x)
    if dtype is not None:
        x = x.astype(dtype)
    x = _masked(x, where, 0)
    y = one(Sum(_axes(x, axis), keepdims is True), x, getframe(1))
    if _given(initial):
        y = y + initial
    return _finish(y, out)


@implements(np.prod)
def prod(
    x: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False,
    initial: Any = None, where: Any = True,
) -> Any:
    """Product over axes; the gradient is exact with zeros among the factors."""
    x = tensor(x)
    if dtype is not None:
        x = x.astype(dtype)
    y = bind(Prod(_axes(x, axis), keepdims is True), _masked(x, where, 1))
    return _finish(y * initial if _given(initial) else y, out)


def _extreme(op: Any, pair: Any, x: Any, axis: Any, out: Any, keepdims: Any, initial: Any, where: Any) -> Any:
    x = tensor(x)
    if where is not True and _given(where):
        x = e.where(where, x, initial)
    if _given(initial) and 0 in (shape_of(x)[a] for a in _axes(x, axis)):
        y = sum(x, axis, keepdims=keepdims) + initial
    else:
        y = bind(op(_axes(x, axis), keepdims is True), x)
        y = pair(y, initial) if _given(initial) else y
    return _finish(y, out)


@implements(np.max, np.amax)
def max(
    x: Any, axis: Any = None, out: Any = None, keepdims: Any = False, initial: Any = None,
    where: Any = True,
) -> Any:
    """Maximum over axes; ties share the gradient."""
    return _extreme(Max, e.maximum, x, axis, out, keepdims, initial, where)


@implements(np.min, np.amin)
def min(
    x: Any, axis: Any = None, out: Any = None, keepdims: Any = False, initial: Any = None,
    where: Any = True,
) -> Any:
    """Minimum over axes; ties share the gradient."""
    return _extreme(Min, e.minimum, x, axis, out, keepdims, initial, where)


def _count(x: Any, axis: Any, where: Any) -> Any:
    if where is True or not _given(where):
        n = 1
        for a in _axes(x, axis):
            n *= shape_of(x)[a]
        return n
    return np.broadcast_to(where, shape_of(x)).sum(axis=axis, keepdims=True)


def _float(x: Any) -> Any:
    return x if x.dtype.kind in "fc" else x.astype(np.float64)


@implements(np.mean)
def mean(
    x: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, *,
    where: Any = True,
) -> Any:
    """Mean over axes.  gx = gy / n."""
    x = _float(tensor(x) if dtype is None else tensor(x).astype(dtype))
    y = sum(x, axis, keepdims=keepdims, where=where)
    n = _count(x, axis, where)
    return _finish(y / (n if isinstance(n, int) or keepdims else n.reshape(shape_of(y))), out)


@implements(np.var)
def var(
    x: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: Any = 0, keepdims: Any = False,
    *, where: Any = True, mean: Any = None, correction: Any = None,
) -> Any:
    """Variance over axes: the mean squared distance from the mean."""
    ddof = ddof if correction is None or correction is NOTHING else correction
    x = _float(tensor(x) if dtype is None else tensor(x).astype(dtype))
    n = _count(x, axis, where)
    center = mean if _given(mean) else sum(x, axis, keepdims=True, where=where) / n
    d = x - center
    square = e.real(d * e.conj(d)) if d.dtype.kind == "c" else d * d
    y = sum(square, axis, keepdims=keepdims, where=where)
    n = n - ddof
    return _finish(y / (n if not isinstance(n, np.ndarray) or keepdims else n.reshape(shape_of(y))), out)


@implements(np.std)
def std(
    x: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: Any = 0, keepdims: Any = False,
    *, where: Any = True, mean: Any = None, correction: Any = None,
) -> Any:
    """Standard deviation over axes; where it is 0 its subgradient is 0, as for a norm."""
    v = var(x, axis, dtype, None, ddof, keepdims, where=where, mean=mean, correction=correction)
    return _finish(e.root(v), out)


@implements(np.cumsum)
def cumsum(x: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    """Running sum."""
    x = tensor(x)
    x = x if dtype is None else x.astype(dtype)
    if axis is None:
        x, axis = x.reshape(-1), 0
    return _finish(bind(Cumsum(_axes(x, axis)[0]), x), out)


def _where(op: Any, x: Any, axis: Any, out: Any, keepdims: Any) -> Any:
    x = tensor(x)
    flat = axis is None
    ndim = x.ndim
    if flat:
        x, axis = x.reshape(-1), 0
    y = bind(op(_axes(x, axis)[0]), x)
    if keepdims is True:
        y = y.reshape((1,) * ndim) if flat else expand_dims(y, axis)
    return _finish(y, out)


def expand_dims(x: Any, axis: Any) -> Any:
    """New axes of length 1."""
    axes = axis if isinstance(axis, tuple) else (axis,)
    n = len(shape_of(x)) + len(axes)
    new = {a + n if a < 0 else a for a in axes}
    if len(new) != len(axes) or not all(0 <= a < n for a in new):
        raise np.exceptions.AxisError(axis, n)
    sizes = iter(shape_of(x))
    return tensor(x).reshape(tuple(1 if i in new else next(sizes) for i in range(n)))


@implements(np.argmax)
def argmax(x: Any, axis: Any = None, out: Any = None, *, keepdims: Any = False) -> Any:
    """Where the maximum is: no derivative."""
    return _where(ArgMax, x, axis, out, keepdims)


@implements(np.argmin)
def argmin(x: Any, axis: Any = None, out: Any = None, *, keepdims: Any = False) -> Any:
    """Where the minimum is: no derivative."""
    return _where(ArgMin, x, axis, out, keepdims)


@implements(np.ptp)
def ptp(x: Any, axis: Any = None, out: Any = None, keepdims: Any = False) -> Any:
    """Maximum minus minimum."""
    return _finish(max(x, axis, keepdims=keepdims) - min(x, axis, keepdims=keepdims), out)


@implements(np.average)
def average(x: Any, axis: Any = None, weights: Any = None, returned: bool = False, *, keepdims: Any = False) -> Any:
    """Weighted mean:  sum(w x) / sum(w)."""
    x = tensor(x)
    if weights is None:
        y, total = mean(x, axis, keepdims=keepdims), float(_count(x, axis, True))
    else:
        w = tensor(weights)
        if w.shape != x.shape:
            (a,) = _axes(x, axis)
            w = w.reshape(tuple(n if i == a else 1 for i, n in enumerate(x.shape)))
        total = sum(w * (x * 0 + 1) if w.shape != x.shape else w, axis, keepdims=keepdims)
        y = sum(x * w, axis, keepdims=keepdims) / total
    return (y, total + y * 0) if returned else y


@implements(np.linalg.norm)
def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    """Vector norms of every order, and the Frobenius norm; the subgradient at 0 is 0."""
    x = _float(tensor(x))
    if axis is None and ord is not None and x.ndim not in (1, 2):
        raise ValueError("Improper number of dimensions to norm.")
    axes = _axes(x, axis)
    matrix = len(axes) == 2 and (axis is not None or ord is not None)
    if ord is None or (ord == 2 and not matrix) or (ord == "fro" and matrix):
        return bind(Norm(axes, bool(keepdims)), x)
    if matrix or isinstance(ord, str):
        raise UnsupportedMatrixNorm(ord)
    size = abs(x)
    if ord == np.inf:
        return max(size, axes, keepdims=bool(keepdims))
    if ord == -np.inf:
        return min(size, axes, keepdims=bool(keepdims))
    if ord == 0:
        return sum((x != 0).astype(x.dtype), axes, keepdims=bool(keepdims))
    if ord == 1:
        return sum(size, axes, keepdims=bool(keepdims))
    return sum(size**ord, axes, keepdims=bool(keepdims)) ** (1.0 / ord)


def UnsupportedMatrixNorm(ord: Any) -> Exception:
    from ..errors import UnsupportedError

    return UnsupportedError(
        f"np.linalg.norm(matrix, {ord!r})", "this matrix norm has no derivative here", fix="ord='fro'"
    )


def logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """log sum e^x over axes, without overflow.  gx = gy softmax(x)."""
    x = _float(tensor(x))
    return bind(LogSumExp(_axes(x, axis), keepdims), x)


def softmax(x: Any, axis: int = -1) -> Any:
    """e^x / sum e^x along an axis.  gx = y (gy - <gy, y>)."""
    x = _float(tensor(x))
    return bind(Softmax(_axes(x, axis)[0]), x)


def log_softmax(x: Any, axis: int = -1) -> Any:
    """x - logsumexp(x) along an axis.  gx = gy - softmax(x) sum gy."""
    x = _float(tensor(x))
    return bind(LogSoftmax(_axes(x, axis)[0]), x)


def _ufunc_axis(f: Any) -> Any:
    def reduce(x: Any, axis: Any = 0, dtype: Any = None, keepdims: bool = False, initial: Any = None, where: Any = True) -> Any:
        kwargs = {} if dtype is None else {"dtype": dtype}
        return f(x, axis=axis, keepdims=keepdims, initial=initial, where=where, **kwargs)

    return reduce


METHODS[np.add, "reduce"] = _ufunc_axis(sum)
METHODS[np.multiply, "reduce"] = _ufunc_axis(prod)
METHODS[np.maximum, "reduce"] = _ufunc_axis(max)
METHODS[np.minimum, "reduce"] = _ufunc_axis(min)
METHODS[np.add, "accumulate"] = lambda x, axis=0, dtype=None: cumsum(x, axis, dtype)
by_value(np.any, np.all, np.count_nonzero)


def any(x: Tensor, axis: Any = None, out: Any = None, keepdims: Any = False) -> Any:
    return tensor(np.any(x.value(), axis=axis, keepdims=keepdims is True))


def all(x: Tensor, axis: Any = None, out: Any = None, keepdims: Any = False) -> Any:
    return tensor(np.all(x.value(), axis=axis, keepdims=keepdims is True))


