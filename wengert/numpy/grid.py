"""Grids and ranges, functions applied along axes, sets, and writing under a mask."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError, UnsupportedError
from ..ops import elementwise as e
from ..ops.linear import astype as cast
from ..trace import Tensor
from ..types import shape_of
from . import reduce as r
from .check import axis_of, refuse
from .select import unique
from .shape import broadcast_arrays, concatenate, moveaxis, ravel, reshape, stack
from .table import by_value, implements, known, plain, tensor


# ------------------------------------------------------------------ ranges and grids
@implements(np.linspace)
def linspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, retstep: bool = False,
    dtype: Any = None, axis: int = 0, *, device: Any = None,
) -> Any:  # fmt: skip
    """Evenly spaced from start to stop; the gradient goes to both ends."""
    refuse("linspace", device=None if device == "cpu" else device)
    num = int(num)
    if num < 0:
        raise ArgumentError(f"linspace(a, b, {num})", "the number of points is not negative")
    a, b = broadcast_arrays(start, stop)
    kind = np.result_type(*(getattr(v, "dtype", v) for v in (start, stop)), float(num))
    a, b = a.astype(kind), b.astype(kind)
    parts = num - 1 if endpoint else num
    t = reshape(np.arange(num, dtype=kind if kind.kind == "f" else float), (-1,) + (1,) * a.ndim)
    step = (b - a) / parts if parts > 0 else (b - a) * np.nan
    y = a + t * step if parts > 0 else a + t * (b - a)
    if endpoint and num > 1:
        y = concatenate([y[:-1], b[None]])
    if dtype is not None:
        y = cast(np.floor(y) if np.dtype(dtype).kind in "iu" else y, dtype)
    y = moveaxis(y, 0, axis)
    return (y, step) if retstep else y


@implements(np.logspace)
def logspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, base: Any = 10.0,
    dtype: Any = None, axis: int = 0,
) -> Any:  # fmt: skip
    """base^t for evenly spaced t."""
    if len(shape_of(base)):
        raise UnsupportedError("logspace(a, b, base=array)", "one base is needed")
    y = e.pow(base, linspace(start, stop, num, endpoint, axis=axis))
    return y if dtype is None else cast(y, dtype)


@implements(np.geomspace)
def geomspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, dtype: Any = None, axis: int = 0
) -> Any:
    """Evenly spaced ratios from start to stop, of one sign."""
    a, b = broadcast_arrays(start, stop)
    zero = known(r.any(e.eq(a * b, 0)))
    if a.dtype.kind == "c" or b.dtype.kind == "c" or (zero is not None and zero):
        raise ArgumentError("geomspace(a, b)", "both ends are real and not 0")
    a, b = a.astype(float), b.astype(float)
    logs = linspace(e.log10(abs(a)), e.log10(abs(b)), num, endpoint)
    y = e.where(e.gt(a * b, 0), e.pow(10.0, logs) * e.sign(a), np.nan)
    parts = [a[None], y[1:]] if num > 0 else [y]
    if endpoint and num > 1:
        parts = [a[None], y[1:-1], b[None]]
    y = moveaxis(concatenate(parts), 0, axis)
    return y if dtype is None else cast(y, dtype)


@implements(np.meshgrid)
def meshgrid(*xi: Any, copy: bool = True, sparse: bool = False, indexing: str = "xy") -> Any:
    """Coordinate arrays of a grid, out of one vector per axis."""
    if indexing not in ("xy", "ij"):
        raise ArgumentError(f"meshgrid(.., indexing={indexing!r})", 'the indexing is "xy" or "ij"')
    n = len(xi)
    ys = [reshape(x, (1,) * i + (-1,) + (1,) * (n - 1 - i)) for i, x in enumerate(xi)]
    if indexing == "xy" and n > 1:
        ys = [y.swapaxes(0, 1) for y in ys]
    if not sparse:
        ys = list(broadcast_arrays(*ys))
    return tuple(y.copy() if copy else y for y in ys)


# ------------------------------------------------------------------ functions along axes
@implements(np.apply_along_axis)
def apply_along_axis(func1d: Any, axis: Any, arr: Any, *args: Any, **kwargs: Any) -> Any:
    """func1d of every vector along an axis."""
    x = tensor(arr)
    axis = axis_of("apply_along_axis", x, axis)
    rows = moveaxis(x, axis, -1)
    lead = rows.shape[:-1]
    if 0 in lead:
        raise ArgumentError(
            "apply_along_axis(f, axis, x)", "there is no vector", operands=[("x", x)]
        )
    ys = [tensor(func1d(rows[i], *args, **kwargs)) for i in np.ndindex(*lead)]
    y = reshape(stack(ys), (*lead, *ys[0].shape))
    n = len(lead)
    perm = (*range(axis), *range(n, y.ndim), *range(axis, n))
    return y.transpose(perm) if y.ndim else y


@implements(np.apply_over_axes)
def apply_over_axes(func: Any, a: Any, axes: Any) -> Any:
    """func(x, axis) over one axis after another, with the reduced axes kept."""
    x = tensor(a)
    n = x.ndim
    for axis in [axes] if np.ndim(axes) == 0 else axes:
        axis = axis + n if axis < 0 else axis
        y = tensor(func(x, axis))
        if y.ndim != x.ndim:
            y = r.expand_dims(y, axis)
        if y.ndim != x.ndim:
            raise ShapeError("apply_over_axes(f, x, axes)", "f does not return the right shape")
        x = y
    return x


# ------------------------------------------------------------------ sets
@implements(np.union1d)
def union1d(ar1: Any, ar2: Any) -> Any:
    """The different values of both, increasing."""
    return unique(concatenate([ar1, ar2], None))


@implements(np.intersect1d)
def intersect1d(
    ar1: Any, ar2: Any, assume_unique: bool = False, return_indices: bool = False
) -> Any:
    """The values that both have, increasing."""
    _, i, j = np.intersect1d(plain(ar1), plain(ar2), assume_unique, True)
    found = ravel(ar1)[i]
    return (found, i, j) if return_indices else found


@implements(np.setdiff1d)
def setdiff1d(ar1: Any, ar2: Any, assume_unique: bool = False) -> Any:
    """The values of the first that the second lacks."""
    x = ravel(ar1) if assume_unique else unique(ar1)
    return x[~np.isin(x.value(), plain(ar2))]


@implements(np.setxor1d)
def setxor1d(ar1: Any, ar2: Any, assume_unique: bool = False) -> Any:
    """The values that one of the two has, increasing."""
    return unique(concatenate([setdiff1d(ar1, ar2), setdiff1d(ar2, ar1)]))


@implements(np.trim_zeros)
def trim_zeros(filt: Any, trim: str = "fb", axis: Any = None) -> Any:
    """x without the zeros at its ends."""
    x = tensor(filt)
    refuse("trim_zeros", axis=axis)
    if x.ndim != 1:
        raise ShapeError("trim_zeros(x)", "a vector is needed", operands=[("x", x)])
    (kept,) = np.nonzero(x.value())
    if not len(kept):
        return x[:0]
    lo = kept[0] if "f" in trim.lower() else 0
    return x[lo : kept[-1] + 1 if "b" in trim.lower() else len(x)]


# ------------------------------------------------------------------ under a mask, in place
@implements(np.putmask)
def putmask(a: Any, mask: Any, values: Any) -> None:
    """a[mask] = values, read at the same places of the repeated values."""
    a = _buffer("putmask", a)
    v = ravel(values)
    at = np.flatnonzero(np.broadcast_to(np.asarray(plain(mask), bool), a.shape))
    if at.size and v.size:
        a[np.unravel_index(at, a.shape)] = v[at % v.size].astype(a.dtype)


@implements(np.place)
def place(arr: Any, mask: Any, vals: Any) -> None:
    """arr[mask] = vals, one after another, repeated as needed."""
    arr = _buffer("place", arr)
    v = ravel(vals)
    at = np.flatnonzero(np.asarray(plain(mask), bool))
    if at.size:
        if not v.size:
            raise ArgumentError("place(x, mask, vals)", "there is nothing to place")
        arr[np.unravel_index(at, arr.shape)] = v[np.arange(at.size) % v.size].astype(arr.dtype)


def _buffer(name: str, a: Any) -> Tensor:
    if not isinstance(a, Tensor):
        raise UnsupportedError(
            f"{name}(array, ...)",
            "a plain array cannot hold a tensor",
            fix="a buffer from wg.zeros",
        )
    return a


# ------------------------------------------------------------------ by shape alone
def _from_shape(f: Any) -> Any:
    def g(x: Any, *args: Any, **kwargs: Any) -> Any:
        return f(np.empty(shape_of(x)), *args, **kwargs)

    g.__doc__ = f"np.{f.__name__}: a matter of the shape."
    return g


for _f in (np.tril_indices_from, np.triu_indices_from, np.diag_indices_from):
    implements(_f)(_from_shape(_f))
by_value(np.ix_, np.einsum_path)


@implements(np.astype)
def astype(x: Any, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Any:
    """The same numbers in another dtype."""
    refuse("astype", device=None if device == "cpu" else device)
    return tensor(x).astype(dtype, copy=copy)


@implements(np.matrix_transpose)
def matrix_transpose(x: Any, /) -> Any:
    """The last two axes exchanged."""
    return tensor(x).mT
