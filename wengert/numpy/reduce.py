"""Reductions with NumPy's signatures."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..ops import elementwise as e
from ..ops.fused import LogSoftmax, LogSumExp, Softmax
from ..ops.linear import Cumsum, Sum
from ..ops.order import ArgMax, ArgMin, Max, Min, Prod
from ..ops.road import one
from ..trace import Tensor, bind, getframe, told
from ..types import shape_of
from .check import NOTHING, axes_of, axis_of, flag, given, ordered_axes
from .table import finish, implements, tensor


def typed(x: Any, dtype: Any) -> Any:
    """x as a tensor, of the dtype asked for."""
    x = tensor(x)
    return x.astype(dtype) if given(dtype) else x


def masked(x: Any, where: Any, fill: Any) -> Any:
    """x, with `fill` where the mask of a reduction is False."""
    if where is True or not given(where):
        return x
    x = broadcast_with(x, where)
    return e.where(truth(where), x, cast(fill, x.dtype))


def broadcast_with(x: Any, where: Any) -> Any:
    """A mask may not add axes to what it masks: NumPy's rule, which broadcasting x follows."""
    shape = np.broadcast_shapes(shape_of(x), shape_of(where))
    if shape != shape_of(x):
        raise ArgumentError(
            "reduction(x, where=mask)",
            "the mask does not broadcast to x",
            operands=[("x", x), ("where", where)],
        )
    return x


def truth(mask: Any) -> Any:
    """A mask as booleans."""
    mask = mask if isinstance(mask, Tensor) else np.asarray(mask)
    return mask if mask.dtype == bool else e.ne(mask, 0)


@implements(np.sum)
def sum(
    x: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = False,
    initial: Any = None,
    where: Any = True,
) -> Any:
    """Sum over axes.  gx = gy, broadcast back."""
    plain = axis is None and dtype is None and out is None and initial is None and where is True
    if plain and x.__class__ is Tensor:
        return one(Sum(tuple(range(x.ndim)), flag(keepdims)), x, getframe(1))
    x = masked(typed(x, dtype), where, 0)
    y = one(Sum(axes_of("sum", x, axis), flag(keepdims)), x, getframe(1))
    y = cast(y, dtype)
    return finish(y + cast(initial, y.dtype) if given(initial) else y, out)


def cast(y: Any, dtype: Any) -> Any:
    """y in a dtype: small integers asked for by name are not widened."""
    if not given(dtype) or getattr(y, "dtype", None) == dtype:
        return y
    return y.astype(dtype) if isinstance(y, Tensor) else np.asarray(y).astype(dtype)


@implements(np.prod)
def prod(
    x: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = False,
    initial: Any = None,
    where: Any = True,
) -> Any:
    """Product over axes; the gradient is exact with zeros among the factors."""
    x = masked(typed(x, dtype), where, 1)
    y = cast(bind(Prod(axes_of("prod", x, axis), flag(keepdims)), x), dtype)
    return finish(y * cast(initial, y.dtype) if given(initial) else y, out)


def _extreme(
    name: str,
    op: Any,
    pair: Any,
    x: Any,
    axis: Any,
    out: Any,
    keepdims: Any,
    initial: Any,
    where: Any,
) -> Any:
    x = tensor(x)
    axes = axes_of(name, x, axis)
    if where is not True and given(where):
        if not given(initial):
            raise ArgumentError(
                f"{name}(x, where=mask)", "an empty choice has no value: give `initial` too"
            )
        x = masked(x, where, initial)
    if 0 in (x.shape[a] for a in axes):
        if not given(initial):
            raise ArgumentError(
                f"{name}(x)",
                "no elements to choose from",
                operands=[("x", x)],
                fix="give `initial`",
            )
        y = sum(x, axes, keepdims=keepdims).astype(x.dtype) + cast(initial, x.dtype)
    else:
        y = bind(op(axes, flag(keepdims)), x)
        y = bind(pair, y, cast(initial, x.dtype)) if given(initial) else y
    return finish(y, out)


@implements(np.max, np.amax)
def max(
    x: Any,
    axis: Any = None,
    out: Any = None,
    keepdims: Any = False,
    initial: Any = None,
    where: Any = True,
) -> Any:
    """Maximum over axes; ties share the gradient."""
    return _extreme("max", Max, e.maximum, x, axis, out, keepdims, initial, where)


@implements(np.min, np.amin)
def min(
    x: Any,
    axis: Any = None,
    out: Any = None,
    keepdims: Any = False,
    initial: Any = None,
    where: Any = True,
) -> Any:
    """Minimum over axes; ties share the gradient."""
    return _extreme("min", Min, e.minimum, x, axis, out, keepdims, initial, where)


def count(what: str, x: Any, axis: Any, where: Any, keepdims: bool) -> Any:
    """How many elements each sum has: a number, or a tensor of them under a mask."""
    if where is True or not given(where):
        return math.prod(x.shape[a] for a in axes_of(what, x, axis))
    ones = e.where(truth(where), np.ones(x.shape, np.int64), 0)
    return sum(ones, axis, keepdims=keepdims)


def inexact(x: Any, dtype: Any = None) -> Any:
    """x as a floating tensor: integers become float64."""
    x = typed(x, dtype)
    return x if x.dtype.kind in "fc" else x.astype(np.float64)


def over(y: Any, n: Any) -> Any:
    """y / n in the dtype of y."""
    if isinstance(n, int | float):
        return y / n if n else y / np.zeros((), y.dtype)
    return y / n.astype(y.dtype)


def wide(x: Any, dtype: Any) -> tuple[Any, Any]:
    """(x, the dtype of the result): as in NumPy half numbers are added up in float32."""
    if given(dtype) or x.dtype != np.float16:
        return x, dtype
    return x.astype(np.float32), np.dtype(np.float16)


@implements(np.mean)
def mean(
    x: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = False,
    *,
    where: Any = True,
) -> Any:
    """Mean over axes.  gx = gy / n."""
    x, dtype = wide(inexact(x, dtype), dtype)
    keep = flag(keepdims)
    y = over(sum(x, axis, keepdims=keep, where=where), count("mean", x, axis, where, keep))
    return finish(cast(y, dtype), out)


@implements(np.var)
def var(
    x: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    ddof: Any = 0,
    keepdims: Any = False,
    *,
    where: Any = True,
    mean: Any = None,
    correction: Any = None,
) -> Any:
    """Variance over axes: the mean squared distance from the mean."""
    if given(correction):
        if ddof != 0:
            raise ArgumentError(
                "var(x, ddof, correction)", "ddof and correction are two names of one argument"
            )
        ddof = correction
    x, half = wide(inexact(x, dtype), dtype)
    keep = flag(keepdims)
    if given(mean):
        center = mean
    else:
        center = over(sum(x, axis, keepdims=True, where=where), count("var", x, axis, where, True))
    d = x - center
    square = e.real(d * e.conj(d)) if d.dtype.kind == "c" else d * d
    n = count("var", x, axis, where, keep)
    n = e.maximum(n - ddof, 0) if isinstance(n, Tensor) else n - ddof if n > ddof else 0
    y = over(sum(square, axis, keepdims=keep, where=where), n)
    return finish(y if half is dtype else cast(y, half), out)


@implements(np.std)
def std(
    x: Any,
    axis: Any = None,
    dtype: Any = None,
    out: Any = None,
    ddof: Any = 0,
    keepdims: Any = False,
    *,
    where: Any = True,
    mean: Any = None,
    correction: Any = None,
) -> Any:
    """Standard deviation over axes; where it is 0 its subgradient is 0, as for a norm."""
    v = var(x, axis, dtype, None, ddof, keepdims, where=where, mean=mean, correction=correction)
    return finish(bind(e.root, v), out)


@implements(np.cumsum)
def cumsum(x: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    """Running sum."""
    x = typed(x, dtype)
    if axis is None:
        x, axis = x.reshape(-1), 0
    return finish(cast(bind(Cumsum(axis_of("cumsum", x, axis)), x), dtype), out)


def _where(name: str, op: Any, x: Any, axis: Any, out: Any, keepdims: Any) -> Any:
    x = tensor(x)
    flat, ndim = axis is None, x.ndim
    if flat:
        x, axis = x.reshape(-1), 0
    axis = axis_of(name, x, axis)
    if x.shape[axis] == 0:
        raise ArgumentError(f"{name}(x)", "no elements to choose from", operands=[("x", x)])
    y = bind(op(axis), x)
    if flag(keepdims):
        y = y.reshape((1,) * ndim) if flat else expand_dims(y, axis)
    return finish(y, out)


@implements(np.expand_dims)
def expand_dims(x: Any, axis: Any) -> Any:
    """New axes of length 1."""
    x = tensor(x)
    axes = axis if isinstance(axis, tuple | list) else (axis,)
    n = x.ndim + len(axes)
    new = set(ordered_axes("expand_dims", x, axes, n))
    sizes = iter(x.shape)
    return x.reshape(tuple(1 if i in new else next(sizes) for i in range(n)))


@implements(np.argmax)
def argmax(x: Any, axis: Any = None, out: Any = None, *, keepdims: Any = False) -> Any:
    """Where the maximum is: no derivative."""
    return _where("argmax", ArgMax, x, axis, out, keepdims)


@implements(np.argmin)
def argmin(x: Any, axis: Any = None, out: Any = None, *, keepdims: Any = False) -> Any:
    """Where the minimum is: no derivative."""
    return _where("argmin", ArgMin, x, axis, out, keepdims)


@implements(np.ptp)
def ptp(x: Any, axis: Any = None, out: Any = None, keepdims: Any = False) -> Any:
    """Maximum minus minimum."""
    return finish(max(x, axis, keepdims=keepdims) - min(x, axis, keepdims=keepdims), out)


@implements(np.average)
def average(
    x: Any, axis: Any = None, weights: Any = None, returned: bool = False, *, keepdims: Any = False
) -> Any:
    """Weighted mean:  sum(w x) / sum(w)."""
    x = tensor(x)
    keep = flag(keepdims)
    if weights is None:
        y = mean(x, axis, keepdims=keep)
        total: Any = np.asarray(count("average", x, axis, True, keep), y.dtype)
    else:
        w = tensor(weights)
        kind = np.result_type(x.dtype, w.dtype, *([] if x.dtype.kind in "fc" else ["f8"]))
        if w.shape != x.shape:
            w = _spread(x, axis, w)
        w = w.astype(kind)
        total = sum(e.add(w, np.zeros(x.shape, kind)), axis, keepdims=keep)
        y = sum(x * w, axis, keepdims=keep) / total
    return (y, e.add(total, np.zeros(y.shape, y.dtype))) if returned else y


def _spread(x: Any, axis: Any, w: Any) -> Any:
    """Weights along some axes, in the rank of x."""
    if axis is None:
        raise ArgumentError(
            "average(x, weights)",
            "weights of another shape need an axis",
            operands=[("x", x), ("weights", w)],
        )
    axes = ordered_axes("average", x, axis)
    if w.shape != tuple(x.shape[a] for a in axes):
        raise ArgumentError(
            f"average(x, axis={axis!r}, weights)", "the weights do not match the axis",
            operands=[("x", x), ("weights", w)],
        )  # fmt: skip
    order = sorted(range(len(axes)), key=lambda i: axes[i])
    return w.transpose(order).reshape(tuple(n if i in axes else 1 for i, n in enumerate(x.shape)))


def logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """log sum e^x over axes, without overflow.  gx = gy softmax(x)."""
    x = inexact(x)
    return told(bind(LogSumExp(axes_of("logsumexp", x, axis), flag(keepdims)), x))


def softmax(x: Any, axis: int = -1) -> Any:
    """e^x / sum e^x along an axis.  gx = y (gy - <gy, y>)."""
    x = inexact(x)
    return told(bind(Softmax(axis_of("softmax", x, axis)), x))


def log_softmax(x: Any, axis: int = -1) -> Any:
    """x - logsumexp(x) along an axis.  gx = gy - softmax(x) sum gy."""
    x = inexact(x)
    return told(bind(LogSoftmax(axis_of("log_softmax", x, axis)), x))


@implements(np.count_nonzero)
def count_nonzero(x: Any, axis: Any = None, *, keepdims: Any = False) -> Any:
    """How many elements are not zero: no derivative."""
    return sum(truth(tensor(x)).astype(np.intp), axis, keepdims=keepdims)


@implements(np.any)
def any(
    x: Any, axis: Any = None, out: Any = None, keepdims: Any = NOTHING, *, where: Any = True
) -> Any:
    """Whether some element is not zero: no derivative."""
    return finish(e.gt(sum(truth(tensor(x)), axis, keepdims=keepdims, where=where), 0), out)


@implements(np.all)
def all(
    x: Any, axis: Any = None, out: Any = None, keepdims: Any = NOTHING, *, where: Any = True
) -> Any:
    """Whether no element is zero: no derivative."""
    zeros = sum(e.logical_not(truth(tensor(x))), axis, keepdims=keepdims, where=where)
    return finish(e.eq(zeros, 0), out)
