"""Reductions that leave out nan: a nan gets no gradient, and gives none."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..ops import elementwise as e
from ..trace import bind
from . import reduce as r
from .check import NOTHING, flag, given
from .order import cumprod
from .shape import moveaxis, reshape
from .statistics import on_sorted, positions, sorted_lanes, spread_q
from .table import finish, implements, tensor


def holes(x: Any) -> Any:
    """Where the numbers are nan; None when the dtype has no nan."""
    return e.isnan(x) if x.dtype.kind in "fc" else None


def filled(x: Any, dtype: Any, fill: Any) -> Any:
    """x with a number in place of every nan."""
    x = r.typed(x, dtype)
    nan = holes(x)
    return x if nan is None else e.where(nan, fill, x)


@implements(np.nansum)
def nansum(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False,
    initial: Any = NOTHING, where: Any = True,
) -> Any:  # fmt: skip
    """Sum of the numbers that are not nan."""
    return r.sum(filled(a, dtype, 0), axis, dtype, out, keepdims, initial, where)


@implements(np.nanprod)
def nanprod(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False,
    initial: Any = NOTHING, where: Any = True,
) -> Any:  # fmt: skip
    """Product of the numbers that are not nan."""
    return r.prod(filled(a, dtype, 1), axis, dtype, out, keepdims, initial, where)


@implements(np.nancumsum)
def nancumsum(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    """Running sum, a nan counted as 0."""
    return r.cumsum(filled(a, dtype, 0), axis, dtype, out)


@implements(np.nancumprod)
def nancumprod(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    """Running product, a nan counted as 1."""
    return cumprod(filled(a, dtype, 1), axis, dtype, out)


def _extreme(
    f: Any, worst: float, a: Any, axis: Any, out: Any, keep: Any, initial: Any, where: Any
) -> Any:
    a = tensor(a)
    nan = holes(a)
    if nan is None:
        return f(a, axis, out, keep, initial, where)
    y = f(e.where(nan, worst, a), axis, None, keep, initial, where)
    if not given(initial):
        y = e.where(r.all(nan, axis, keepdims=keep), np.nan, y)
    return finish(y, out)


@implements(np.nanmax)
def nanmax(
    a: Any, axis: Any = None, out: Any = None, keepdims: Any = False, initial: Any = NOTHING,
    where: Any = True,
) -> Any:  # fmt: skip
    """The largest number that is not nan."""
    return _extreme(r.max, -np.inf, a, axis, out, keepdims, initial, where)


@implements(np.nanmin)
def nanmin(
    a: Any, axis: Any = None, out: Any = None, keepdims: Any = False, initial: Any = NOTHING,
    where: Any = True,
) -> Any:  # fmt: skip
    """The smallest number that is not nan."""
    return _extreme(r.min, np.inf, a, axis, out, keepdims, initial, where)


def _arg(f: Any, worst: float, a: Any, axis: Any, out: Any, keepdims: Any) -> Any:
    a = tensor(a)
    nan = holes(a)
    if nan is None:
        return f(a, axis, out, keepdims=keepdims)
    if bool(r.any(r.all(nan, axis))):
        raise ArgumentError("nanargmax(x)", "all numbers of a slice are nan", operands=[("x", a)])
    return f(e.where(nan, worst, a), axis, out, keepdims=keepdims)


@implements(np.nanargmax)
def nanargmax(a: Any, axis: Any = None, out: Any = None, *, keepdims: Any = False) -> Any:
    """Where the largest number that is not nan is."""
    return _arg(r.argmax, -np.inf, a, axis, out, keepdims)


@implements(np.nanargmin)
def nanargmin(a: Any, axis: Any = None, out: Any = None, *, keepdims: Any = False) -> Any:
    """Where the smallest number that is not nan is."""
    return _arg(r.argmin, np.inf, a, axis, out, keepdims)


def _mask(a: Any, where: Any) -> Any:
    """The mask of what counts: given, and not nan."""
    nan = holes(a)
    keep = True if nan is None else e.logical_not(nan)
    if where is True or not given(where):
        return keep
    return r.truth(where) if keep is True else e.logical_and(keep, r.truth(where))


@implements(np.nanmean)
def nanmean(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False, *,
    where: Any = True,
) -> Any:  # fmt: skip
    """Mean of the numbers that are not nan."""
    a = r.typed(a, dtype)
    return r.mean(a, axis, dtype, out, keepdims, where=_mask(a, where))


@implements(np.nanvar)
def nanvar(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: Any = 0,
    keepdims: Any = False, *, where: Any = True, mean: Any = None, correction: Any = None,
) -> Any:  # fmt: skip
    """Variance of the numbers that are not nan."""
    a = r.inexact(a, dtype)
    where = _mask(a, where)
    y = r.var(
        a, axis, dtype, None, ddof, keepdims, where=where, mean=mean, correction=correction
    )  # fmt: skip
    ddof = correction if given(correction) else ddof
    n = r.count("nanvar", a, axis, where, flag(keepdims))
    if not isinstance(n, int):  # too few numbers leave nothing to divide by
        y = e.where(e.gt(n, ddof), y, np.nan)
    return finish(y, out)


@implements(np.nanstd)
def nanstd(
    a: Any, axis: Any = None, dtype: Any = None, out: Any = None, ddof: Any = 0,
    keepdims: Any = False, *, where: Any = True, mean: Any = None, correction: Any = None,
) -> Any:  # fmt: skip
    """Standard deviation of the numbers that are not nan."""
    y = nanvar(a, axis, dtype, None, ddof, keepdims, where=where, mean=mean, correction=correction)
    return finish(bind(e.root, y), out)


@implements(np.nanmedian)
def nanmedian(
    a: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, keepdims: Any = False
) -> Any:
    """Median of the numbers that are not nan."""
    return nanquantile(r.inexact(a), 0.5, axis, out, keepdims=keepdims)


@implements(np.nanquantile)
def nanquantile(
    a: Any, q: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False,
    method: str = "linear", keepdims: Any = False, *, weights: Any = None,
) -> Any:  # fmt: skip
    """Quantiles of the numbers that are not nan."""
    a = tensor(a)
    q, kind = spread_q("nanquantile", a, q, weights, method)
    lanes, lead = sorted_lanes("nanquantile", a, axis)
    n = lanes.shape[-1]
    nan = holes(lanes)
    if nan is None:
        y = on_sorted(lanes, positions(n, q.ravel(), method), kind)
    else:
        table = np.stack(
            [positions(k, q.ravel(), method) if k else 0 * q.ravel() for k in range(n + 1)]
        )
        count = r.sum(e.logical_not(nan), -1)
        at = tensor(table)[count]
        y = on_sorted(lanes, at, kind)
    y = moveaxis(y, -1, 0)
    y = reshape(y, (*q.shape, *y.shape[1:]))
    if flag(keepdims):
        y = reshape(y, (*q.shape, *lead))
    return finish(y, out)


@implements(np.nanpercentile)
def nanpercentile(
    a: Any, q: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False,
    method: str = "linear", keepdims: Any = False, *, weights: Any = None,
) -> Any:  # fmt: skip
    """Percentiles of the numbers that are not nan."""
    q = np.true_divide(q, a.dtype.type(100) if tensor(a).dtype.kind == "f" else 100)
    return nanquantile(a, q, axis, out, overwrite_input, method, keepdims, weights=weights)
