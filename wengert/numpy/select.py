"""Functions that pick numbers: by index, by condition, by order, by place in a matrix."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError, UnsupportedError
from ..ops import elementwise as e
from ..ops.index import AddAt, GetItem, Pad
from ..ops.order import ArgSort
from ..trace import Tensor, bind
from ..types import RAW, shape_of
from .check import axis_of, castable, given, refuse
from .reduce import sum
from .shape import (
    FULL,
    broadcast_to,
    concatenate,
    moveaxis,
    ravel,
    reshape,
    sizes,
)
from .table import finish, implements, known, plain, tensor


# ------------------------------------------------------------------ by index
def _modes(indices: Any, n: int, mode: str) -> Any:
    """Indices within 0 .. n - 1, by NumPy's `mode`."""
    if mode not in ("raise", "wrap", "clip"):
        raise ArgumentError(
            f"take(x, indices, mode={mode!r})", 'the mode is "raise", "wrap" or "clip"'
        )
    if not isinstance(indices, Tensor):
        indices = np.asarray(indices)
    if mode == "wrap":
        return indices % n
    return e.clip(indices, 0, n - 1) if mode == "clip" else indices


@implements(np.take)
def take(x: Any, indices: Any, axis: Any = None, out: Any = None, mode: str = "raise") -> Any:
    """Elements along an axis, by integer indices."""
    x = tensor(x)
    if axis is None:
        x, axis = ravel(x), 0
    axis = axis_of("take", x, axis)
    indices = _modes(indices, x.shape[axis], mode)
    if indices.dtype == bool:
        indices = indices.astype(np.intp)
    return finish(x[(*(FULL,) * axis, indices)], out)


@implements(np.take_along_axis)
def take_along_axis(x: Any, indices: Any, axis: Any = -1) -> Any:
    """y[.., i, ..] = x[.., indices[.., i, ..], ..]."""
    x = tensor(x)
    indices = indices if isinstance(indices, Tensor) else np.asarray(indices)
    if axis is None:
        return take_along_axis(ravel(x), indices.reshape(-1), 0)
    axis = axis_of("take_along_axis", x, axis)
    if indices.ndim != x.ndim:
        raise ShapeError(
            "take_along_axis(x, indices)",
            "as many axes are needed",
            operands=[("x", x), ("indices", indices)],
        )
    if indices.dtype.kind not in "iu":
        raise ArgumentError(
            "take_along_axis(x, indices)", "integers are needed", operands=[("indices", indices)]
        )
    return x[tuple(_coordinates(x.shape, axis, indices))]


def _coordinates(shape: tuple[int, ...], axis: int, indices: Any) -> list[Any]:
    """One index array per axis: `indices` for `axis`, every place for the others."""
    out = []
    for i, n in enumerate(shape):
        ones = [1] * len(shape)
        ones[i] = n
        out.append(indices if i == axis else np.arange(n).reshape(ones))
    return out


@implements(np.copyto)
def copyto(dst: Any, src: Any, casting: str = "same_kind", where: Any = True) -> None:
    """dst[...] = src, in place, where the mask holds."""
    if not isinstance(dst, Tensor):
        raise UnsupportedError(
            "copyto(array, tensor)", "a plain array cannot hold it", fix="a buffer from wg.zeros"
        )
    src = tensor(src)
    castable("copyto", src.dtype, dst.dtype, casting)
    dst[...] = src if where is True else e.where(where, src.astype(dst.dtype), dst.copy())


@implements(np.put_along_axis)
def put_along_axis(x: Any, indices: Any, values: Any, axis: Any) -> None:
    """x[.., indices[.., i, ..], ..] = values[.., i, ..], in place."""
    if not isinstance(x, Tensor):
        raise UnsupportedError(
            "put_along_axis(array, ...)",
            "a plain array cannot hold a tensor",
            fix="a buffer from wg.zeros",
        )
    indices = np.asarray(plain(indices))
    if axis is None:
        x[np.unravel_index(indices.ravel(), x.shape)] = values
        return
    x[tuple(_coordinates(x.shape, axis_of("put_along_axis", x, axis), indices))] = values


@implements(np.put)
def put(x: Any, ind: Any, v: Any, mode: str = "raise") -> None:
    """Write into the flat array, in place; values are repeated as needed."""
    if not isinstance(x, Tensor):
        raise UnsupportedError(
            "put(array, ...)", "a plain array cannot hold a tensor", fix="a buffer from wg.zeros"
        )
    ind = np.asarray(_modes(plain(ind), x.size, mode)).ravel()
    v = ravel(v)
    if ind.size:
        x[np.unravel_index(ind % x.size if mode == "raise" else ind, x.shape)] = v[
            np.arange(ind.size) % v.size
        ]


@implements(np.compress)
def compress(condition: Any, x: Any, axis: Any = None, out: Any = None) -> Any:
    """The slices along an axis where the condition holds."""
    x = tensor(x)
    if axis is None:
        x, axis = ravel(x), 0
    (index,) = np.nonzero(np.asarray(plain(condition)))
    return take(x, index, axis, out)


@implements(np.extract)
def extract(condition: Any, x: Any) -> Any:
    """The elements of the flat array where the condition holds."""
    return ravel(x)[np.nonzero(np.ravel(plain(condition)))[0]]


@implements(np.delete)
def delete(x: Any, obj: Any, axis: Any = None) -> Any:
    """x without some of its slices along an axis."""
    x = tensor(x)
    if axis is None:
        x, axis = ravel(x), 0
    axis = axis_of("delete", x, axis)
    left = np.delete(np.arange(x.shape[axis]), plain(obj))
    return take(x, left, axis)


@implements(np.insert)
def insert(x: Any, obj: Any, values: Any, axis: Any = None) -> Any:
    """Values put in before the given indices along an axis."""
    x = tensor(x)
    if axis is None:
        x, axis = ravel(x), 0
    axis = axis_of("insert", x, axis)
    n = x.shape[axis]
    at = np.arange(*obj.indices(n)) if isinstance(obj, slice) else np.asarray(plain(obj))
    at = np.flatnonzero(at) if at.dtype == bool else at
    values = _at_rank(tensor(values).astype(x.dtype), x.ndim)
    k = at.size
    if k == 1:
        values = moveaxis(values, 0, axis) if at.ndim == 0 else values
        k = values.shape[axis]
    values = broadcast_to(values, (*x.shape[:axis], k, *x.shape[axis + 1 :]))
    place = np.insert(np.arange(n), at.item() if at.size == 1 else at, n + np.arange(k))
    return take(concatenate([x, values], axis), place, axis)


def _at_rank(x: Any, n: int) -> Any:
    return reshape(x, (1,) * (n - x.ndim) + x.shape)


@implements(np.repeat)
def repeat(x: Any, repeats: Any, axis: Any = None) -> Any:
    """Every element, or slice along an axis, several times over."""
    x = tensor(x)
    if axis is None:
        x, axis = ravel(x), 0
    axis = axis_of("repeat", x, axis)
    return take(x, np.repeat(np.arange(x.shape[axis]), plain(repeats)), axis)


@implements(np.tile)
def tile(x: Any, reps: Any) -> Any:
    """The whole array several times over, along each axis."""
    x = tensor(x)
    times = sizes(reps)
    n = max(x.ndim, len(times))
    x, times = _at_rank(x, n), (1,) * (n - len(times)) + times
    for axis, k in enumerate(times):
        x = take(x, np.tile(np.arange(x.shape[axis]), k), axis) if k != 1 else x
    return x.copy()


@implements(np.resize)
def resize(x: Any, new_shape: Any) -> Any:
    """The flat array, repeated as needed, in another shape."""
    flat, shape = ravel(x), sizes(new_shape)
    n = int(np.prod(shape))
    if n < 0 or min(shape, default=0) < 0:
        raise ArgumentError(f"resize(x, {list(shape)})", "lengths are not negative")
    if flat.size == 0:
        return tensor(np.zeros(shape, flat.dtype))
    return reshape(flat[np.arange(n) % flat.size], shape)


@implements(np.pad)
def pad(x: Any, pad_width: Any, mode: Any = "constant", **kwargs: Any) -> Any:
    """Add a border, in all of NumPy's modes that copy or are constant."""
    x = tensor(x)
    if isinstance(pad_width, dict):
        pairs: list[Any] = [pad_width.get(i, pad_width.get(i - x.ndim, 0)) for i in range(x.ndim)]
        pad_width = [(w, w) if np.ndim(w) == 0 else tuple(w) for w in pairs]
    widths = np.broadcast_to(np.asarray(pad_width), (x.ndim, 2)).tolist()
    if [w for pair in widths for w in pair if w < 0]:
        raise ArgumentError("pad(x, pad_width)", "widths are not negative")
    if mode == "constant":
        values = kwargs.pop("constant_values", 0)
        refuse("pad", **kwargs)
        y = bind(Pad(tuple((a, b) for a, b in widths)), x)
        if isinstance(values, Tensor) or np.any(np.asarray(values) != 0):
            inside = np.pad(np.ones(x.shape, bool), widths)
            if not isinstance(values, Tensor):
                values = np.pad(np.zeros(x.shape, x.dtype), widths, constant_values=values)
            y = e.where(inside, y, values)
        return y
    if mode not in ("edge", "reflect", "symmetric", "wrap"):
        raise UnsupportedError(
            f"np.pad(tensor, mode={mode!r})",
            "this mode has no derivative here",
            fix="constant, edge, reflect, symmetric or wrap",
        )
    if kwargs.get("reflect_type") == "even":
        kwargs.pop("reflect_type")
    refuse("pad", **kwargs)
    for axis, (a, b) in enumerate(widths):
        if a or b:
            x = take(x, np.pad(np.arange(x.shape[axis]), (a, b), mode=mode), axis)
    return x.copy()


# ------------------------------------------------------------------ by condition
@implements(np.where)
def where(condition: Any, x: Any = None, y: Any = None, /) -> Any:
    """x where the condition holds, else y. The branch not taken gets no gradient, not 0 of it."""
    if x is None and y is None:
        return nonzero(condition)
    if x is None or y is None:
        raise ArgumentError("where(condition, x, y)", "give both x and y, or neither")
    return e.where(_condition(condition), _branch(x), _branch(y))


def _condition(c: Any) -> Any:
    c = c if isinstance(c, Tensor) or hasattr(c, "graph") else np.asarray(c)
    return c if c.dtype == bool else e.ne(c, 0)


def _branch(v: Any) -> Any:
    return v if isinstance(v, (Tensor, *RAW)) or hasattr(v, "graph") else tensor(v)


@implements(np.nonzero)
def nonzero(x: Any) -> Any:
    """The indices of the elements that are not zero, as plain arrays."""
    return np.nonzero(tensor(x).value())


@implements(np.select)
def select(condlist: Any, choicelist: Any, default: Any = 0) -> Any:
    """The choice that belongs to the first condition that holds."""
    if len(condlist) != len(choicelist) or not len(condlist):
        raise ArgumentError(
            "select(condlist, choicelist)", "as many conditions as choices are needed"
        )
    kind = np.result_type(*(getattr(v, "dtype", v) for v in (*choicelist, default)))
    y = tensor(default).astype(kind)
    for c, v in list(zip(condlist, choicelist))[::-1]:
        c = tensor(c)
        if c.dtype != bool:
            raise ArgumentError(
                "select(condlist, choicelist)",
                "a condition is boolean",
                operands=[("condition", c)],
            )
        y = e.where(c, tensor(v).astype(kind), y)
    return y


@implements(np.piecewise)
def piecewise(x: Any, condlist: Any, funclist: Any, *args: Any, **kw: Any) -> Any:
    """Each function on the elements where its condition holds; one more function is the default."""
    x = tensor(x)
    conds = condlist if isinstance(condlist, list | tuple) else [condlist]
    if x.ndim and len(conds) and np.ndim(plain(conds[0])) == 0:
        conds = [conds]
    masks = [np.asarray(plain(c), bool) for c in conds]
    if len(funclist) == len(masks) + 1:
        masks.append(~reduce(operator.or_, masks))
    if len(funclist) != len(masks):
        raise ArgumentError(
            "piecewise(x, condlist, funclist)",
            f"{len(masks)} conditions, {len(funclist)} functions",
        )
    y = tensor(np.zeros(x.shape, x.dtype))
    for mask, f in zip(masks, funclist):
        mask = np.broadcast_to(mask, x.shape)
        if mask.any():
            value = f(x[mask], *args, **kw) if isinstance(f, Callable) else f  # type: ignore[arg-type]
            y[mask] = tensor(value).astype(x.dtype)
    return y


@implements(np.choose)
def choose(a: Any, choices: Any, out: Any = None, mode: str = "raise") -> Any:
    """y[i] = choices[a[i]][i]."""
    stacked = [*choices] if not isinstance(choices, Tensor) else list(choices)
    n = len(stacked)
    a, vs = tensor(_modes(a, n, mode)), [tensor(v) for v in stacked]
    shape = np.broadcast_shapes(a.shape, *(v.shape for v in vs))
    index = known(a)
    if index is not None and index.size and not (index.min() >= 0 and index.max() < n):
        raise ArgumentError("choose(a, choices)", f"an entry of a is not one of the {n} choices")
    kind = np.result_type(*(v.dtype for v in vs))
    y: Any = np.zeros((), kind)
    for i, v in enumerate(vs):
        y = e.where(e.eq(a, i), v.astype(kind), y)
    y = y if y.shape == shape else broadcast_to(y, shape)
    return finish(y, out)


@implements(np.clip)
def clip(
    x: Any, a_min: Any = None, a_max: Any = None, out: Any = None, *, min: Any = None,
    max: Any = None, **kwargs: Any,
) -> Any:  # fmt: skip
    """x within bounds; the gradient passes at the bounds and stops outside."""
    refuse("clip", **kwargs)
    if (given(a_min) and given(min)) or (given(a_max) and given(max)):
        raise ArgumentError("clip(x, a_min, a_max, min, max)", "a bound is given twice")
    lo, hi = a_min if given(a_min) else min, a_max if given(a_max) else max
    x = tensor(x)
    if given(lo) and given(hi):
        y = bind(e.clip, x, _branch(lo), _branch(hi))
    elif given(lo):
        y = bind(e.clip, x, _branch(lo), _limit(x, 1))
    elif given(hi):
        y = bind(e.clip, x, _limit(x, -1), _branch(hi))
    else:
        y = x.copy()
    return finish(y, out)


def _limit(x: Any, sign: int) -> Any:
    if x.dtype.kind in "fc":
        return sign * np.inf
    if x.dtype.kind == "b":
        return sign > 0
    info = np.iinfo(x.dtype)
    return int(info.max if sign > 0 else info.min)


# ------------------------------------------------------------------ by order
def _sortable(name: str, x: Any, axis: Any, order: Any) -> tuple[Any, int]:
    refuse(name, order=order)
    x = tensor(x)
    if axis is None:
        return ravel(x), 0
    return x, axis_of(name, x, axis)


@implements(np.argsort)
def argsort(
    x: Any, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None
) -> Any:
    """The indices that sort, stably: no derivative."""
    x, axis = _sortable("argsort", x, axis, order)
    return bind(ArgSort(axis), x)


@implements(np.sort)
def sort(x: Any, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None) -> Any:
    """In increasing order along an axis; the gradient goes back to where each number came from."""
    x, axis = _sortable("sort", x, axis, order)
    return take_along_axis(x, bind(ArgSort(axis), x), axis)


@implements(np.partition)
def partition(
    x: Any, kth: Any, axis: Any = -1, kind: str = "introselect", order: Any = None
) -> Any:
    """Sorted, which is a partition for every kth."""
    x, axis = _sortable("partition", x, axis, order)
    n = x.shape[axis]
    if [k for k in np.ravel(kth).tolist() if not -n <= k < n]:
        raise ArgumentError(f"partition(x, {kth!r})", f"kth is outside an axis of length {n}")
    return take_along_axis(x, bind(ArgSort(axis), x), axis)


@implements(np.sort_complex)
def sort_complex(x: Any) -> Any:
    """Complex numbers by real part, then by imaginary part."""
    x = sort(x)
    return x if x.dtype.kind == "c" else x.astype(np.result_type(x.dtype, np.complex64))


@implements(np.unique)
def unique(
    x: Any, return_index: bool = False, return_inverse: bool = False, return_counts: bool = False,
    axis: Any = None, *, equal_nan: bool = True, sorted: bool = True,
) -> Any:  # fmt: skip
    """The different values, increasing; the gradient goes to the first of each."""
    x = tensor(x)
    _, index, inverse, counts = np.unique(x.value(), True, True, True, axis, equal_nan=equal_nan)
    y = ravel(x)[index] if axis is None else take(x, index, axis)
    flags = ((return_index, index), (return_inverse, inverse), (return_counts, counts))
    more = tuple(v for wanted, v in flags if wanted)
    return (y, *more) if more else y


# ------------------------------------------------------------------ by place in a matrix
def _plane(name: str, x: Any) -> Any:
    x = tensor(x)
    if x.ndim < 2:
        raise ShapeError(f"{name}(x)", "two axes or more are needed", operands=[("x", x)])
    return x


@implements(np.diagonal)
def diagonal(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """The elements x[i, i + offset], as the last axis."""
    x = moveaxis(_plane("diagonal", x), (axis1, axis2), (-2, -1))
    n, m = x.shape[-2:]
    i = np.arange(max(0, min(n, m - offset) if offset >= 0 else min(n + offset, m)))
    return x[(Ellipsis, i + max(-offset, 0), i + max(offset, 0))]


@implements(np.trace)
def trace(
    x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: Any = None
) -> Any:
    """The sum of the diagonal."""
    return sum(diagonal(x, offset, axis1, axis2), -1, dtype, out)


@implements(np.diag)
def diag(v: Any, k: int = 0) -> Any:
    """A diagonal matrix from a vector, or the diagonal of a matrix."""
    v = tensor(v)
    if v.ndim == 2:
        return diagonal(v, k)
    if v.ndim != 1:
        raise ShapeError("diag(v)", "one axis or two are needed", operands=[("v", v)])
    n = v.shape[0] + abs(k)
    i = np.arange(v.shape[0])
    at = GetItem((i + max(-k, 0), i + max(k, 0)))
    return bind(AddAt(at), np.zeros((n, n), v.dtype), v)


@implements(np.diagflat)
def diagflat(v: Any, k: int = 0) -> Any:
    """A diagonal matrix from all the numbers."""
    return diag(ravel(v), k)


@implements(np.fill_diagonal)
def fill_diagonal(x: Any, val: Any, wrap: bool = False) -> None:
    """Write the main diagonal, in place."""
    if not isinstance(x, Tensor):
        raise UnsupportedError(
            "fill_diagonal(array, tensor)",
            "a plain array cannot hold a tensor",
            fix="a buffer from wg.zeros",
        )
    x = _plane("fill_diagonal", x)
    marks = np.zeros(x.shape, bool)
    np.fill_diagonal(marks, True, wrap)
    places = np.nonzero(marks)
    v = ravel(val)
    x[places] = v[np.arange(len(places[0])) % v.size]


def _below(name: str, x: Any, k: int) -> Any:
    """The mask of the elements on the k-th diagonal and below."""
    s = shape_of(x)[-2:]
    if not s:
        raise ShapeError(f"{name}(x)", "an axis is needed", operands=[("x", x)])
    return np.tri(s[0], s[-1], k, dtype=bool)


@implements(np.tril)
def tril(m: Any, k: int = 0) -> Any:
    """Zeros above the k-th diagonal."""
    m = tensor(m)
    return e.where(_below("tril", m, k), m, np.zeros((), m.dtype))


@implements(np.triu)
def triu(m: Any, k: int = 0) -> Any:
    """Zeros below the k-th diagonal."""
    m = tensor(m)
    return e.where(_below("triu", m, k - 1), np.zeros((), m.dtype), m)
