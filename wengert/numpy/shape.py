"""Functions that move numbers: shapes, joining, cutting, indexing. NumPy's signatures."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..ops import elementwise as e
from ..ops.linear import AddAt, Broadcast, Concatenate, GetItem, Pad
from ..ops.order import ArgSort
from ..trace import Tensor, bind, getframe
from ..transforms import mutate
from ..types import RAW, normalize_axes, shape_of
from .reduce import expand_dims, sum
from .table import by_value, implements, into, tensor

FULL = slice(None)


def _axis(x: Any, axis: Any) -> int:
    return normalize_axes(axis, len(shape_of(x)))[0]


@implements(np.reshape)
def reshape(x: Any, /, shape: Any = None, order: str = "C", *, copy: Any = None) -> Any:
    """The same numbers in another shape; -1 stands for what is left over."""
    x = tensor(x)
    if order == "F":
        n = shape if isinstance(shape, tuple | list) else (shape,)
        return transpose(reshape(transpose(x), tuple(n)[::-1]))
    shape = tuple(int(s) for s in shape) if isinstance(shape, tuple | list) else (int(shape),)
    if -1 in shape:
        known = -math.prod(shape)
        if known <= 0 or x.size % known or shape.count(-1) > 1:
            return mutate.reshape(x, shape, getframe(1))  # refuses with the reason
        shape = tuple(x.size // known if s == -1 else s for s in shape)
    return mutate.reshape(x, shape, getframe(1))


@implements(np.ravel)
def ravel(x: Any, order: str = "C") -> Any:
    """All numbers along one axis."""
    return reshape(x, (tensor(x).size,), order)


@implements(np.transpose, np.permute_dims)
def transpose(x: Any, axes: Any = None) -> Any:
    """Permute the axes; reversed by default."""
    x = tensor(x)
    n = x.ndim
    perm = tuple(range(n))[::-1] if axes is None else tuple(a % n for a in axes)
    if axes is not None and len(perm) != n:
        raise ValueError("axes don't match array")
    return mutate.transpose(x, perm, getframe(1))


@implements(np.swapaxes)
def swapaxes(x: Any, axis1: int, axis2: int) -> Any:
    """Exchange two axes."""
    x = tensor(x)
    perm = list(range(x.ndim))
    i, j = _axis(x, axis1), _axis(x, axis2)
    perm[i], perm[j] = j, i
    return mutate.transpose(x, tuple(perm), getframe(1))


@implements(np.moveaxis)
def moveaxis(x: Any, source: Any, destination: Any) -> Any:
    """Move axes to other places."""
    x = tensor(x)
    perm = np.moveaxis(np.empty((0,) * x.ndim + (1,)), source, destination) if False else None
    src = [source] if np.ndim(source) == 0 else list(source)
    dst = [destination] if np.ndim(destination) == 0 else list(destination)
    n = x.ndim
    src, dst = [_axis(x, a) for a in src], [_axis(x, a) for a in dst]
    order = [i for i in range(n) if i not in src]
    for d, s in sorted(zip(dst, src, strict=True)):
        order.insert(d, s)
    del perm
    return mutate.transpose(x, tuple(order), getframe(1))


@implements(np.rollaxis)
def rollaxis(x: Any, axis: int, start: int = 0) -> Any:
    """Move one axis back to a position."""
    n = len(shape_of(x))
    axis, start = _axis(x, axis), start + n if start < 0 else start
    return moveaxis(x, axis, start - 1 if axis < start else start)


implements(np.expand_dims)(expand_dims)


@implements(np.squeeze)
def squeeze(x: Any, axis: Any = None) -> Any:
    """Drop axes of length 1."""
    x = tensor(x)
    drop = [i for i, n in enumerate(x.shape) if n == 1] if axis is None else normalize_axes(axis, x.ndim)
    if any(x.shape[a] != 1 for a in drop):
        raise ValueError("cannot select an axis to squeeze out which has size not equal to one")
    return reshape(x, tuple(n for i, n in enumerate(x.shape) if i not in drop))


@implements(np.broadcast_to)
def broadcast_to(x: Any, shape: Any, subok: bool = False) -> Any:
    """Repeat along axes until the shape is `shape`."""
    shape = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
    return bind(Broadcast(tuple(int(n) for n in shape)), tensor(x))


@implements(np.broadcast_arrays)
def broadcast_arrays(*xs: Any, subok: bool = False) -> Any:
    """All arrays in their common shape."""
    shape = np.broadcast_shapes(*(shape_of(x) for x in xs))
    return tuple(broadcast_to(x, shape) for x in xs)


def _at_least(n: int, where: Any) -> Any:
    def f(*xs: Any) -> Any:
        ys = []
        for x in xs:
            x = tensor(x)
            ys.append(x if x.ndim >= n else reshape(x, where(x.shape)))
        return ys[0] if len(ys) == 1 else tuple(ys)

    return f


atleast_1d = implements(np.atleast_1d)(_at_least(1, lambda s: (1,)))
atleast_2d = implements(np.atleast_2d)(_at_least(2, lambda s: (1, *s) if s else (1, 1)))
atleast_3d = implements(np.atleast_3d)(
    _at_least(3, lambda s: (*s, 1) if len(s) == 2 else (1, *s, 1) if s else (1, 1, 1))
)


@implements(np.concatenate)
def concatenate(xs: Any, /, axis: Any = 0, out: Any = None, *, dtype: Any = None, casting: Any = None) -> Any:
    """Arrays one after another along an axis."""
    xs = [tensor(x) for x in xs]
    if axis is None:
        xs, axis = [ravel(x) for x in xs], 0
    if dtype is not None:
        xs = [x.astype(dtype) for x in xs]
    y = bind(Concatenate(_axis(xs[0], axis)), *xs)
    return y if out is None else into(out, y)


@implements(np.stack)
def stack(xs: Any, axis: int = 0, out: Any = None, *, dtype: Any = None, casting: Any = None) -> Any:
    """Arrays side by side along a new axis."""
    xs = [tensor(x) for x in xs]
    if len({x.shape for x in xs}) > 1:
        raise ValueError("all input arrays must have the same shape")
    return concatenate([expand_dims(x, axis) for x in xs], axis, out, dtype=dtype)


@implements(np.vstack)
def vstack(xs: Any, *, dtype: Any = None, casting: Any = None) -> Any:
    """Rows under each other."""
    return concatenate([atleast_2d(x) for x in xs], 0, dtype=dtype)


@implements(np.hstack)
def hstack(xs: Any, *, dtype: Any = None, casting: Any = None) -> Any:
    """Columns next to each other."""
    xs = [atleast_1d(x) for x in xs]
    return concatenate(xs, 0 if len(shape_of(xs[0])) == 1 else 1, dtype=dtype)


@implements(np.dstack)
def dstack(xs: Any) -> Any:
    """Along the third axis."""
    return concatenate([atleast_3d(x) for x in xs], 2)


@implements(np.column_stack)
def column_stack(xs: Any) -> Any:
    """1-d arrays as the columns of a matrix."""
    return concatenate([reshape(x, (-1, 1)) if len(shape_of(x)) < 2 else x for x in xs], 1)


@implements(np.array_split)
def array_split(x: Any, indices_or_sections: Any, axis: int = 0) -> Any:
    """Cut into parts, of nearly equal size or at the given places."""
    x = tensor(x)
    axis = _axis(x, axis)
    n = x.shape[axis]
    if np.ndim(indices_or_sections) == 0:
        k = int(indices_or_sections)
        if k <= 0:
            raise ValueError("number sections must be larger than 0.")
        sizes = [n // k + 1] * (n % k) + [n // k] * (k - n % k)
        ends = np.cumsum([0, *sizes]).tolist()
    else:
        ends = [0, *(int(i) for i in indices_or_sections), n]
    lead = (FULL,) * axis
    return [x[(*lead, slice(a, b))] for a, b in zip(ends, ends[1:])]


@implements(np.split)
def split(x: Any, indices_or_sections: Any, axis: int = 0) -> Any:
    """Cut into equal parts, or at the given places."""
    if np.ndim(indices_or_sections) == 0 and shape_of(x)[axis] % int(indices_or_sections):
        raise ValueError("array split does not result in an equal division")
    return array_split(x, indices_or_sections, axis)


implements(np.hsplit)(lambda x, n: split(x, n, 0 if len(shape_of(x)) == 1 else 1))
implements(np.vsplit)(lambda x, n: split(x, n, 0))
implements(np.dsplit)(lambda x, n: split(x, n, 2))


@implements(np.unstack)
def unstack(x: Any, /, *, axis: int = 0) -> Any:
    """The slices along an axis."""
    x = moveaxis(x, axis, 0)
    return tuple(x[i] for i in range(x.shape[0]))


@implements(np.flip)
def flip(x: Any, axis: Any = None) -> Any:
    """Reverse the order along axes."""
    x = tensor(x)
    axes = normalize_axes(axis, x.ndim)
    return x[tuple(slice(None, None, -1) if i in axes else FULL for i in range(x.ndim))]


implements(np.fliplr)(lambda x: flip(x, 1))
implements(np.flipud)(lambda x: flip(x, 0))


@implements(np.roll)
def roll(x: Any, shift: Any, axis: Any = None) -> Any:
    """Shift along axes; what falls off at one end comes in at the other."""
    x = tensor(x)
    if axis is None:
        return reshape(roll(ravel(x), shift, 0), x.shape)
    shifts, axes = np.broadcast_arrays(shift, axis)
    for s, a in zip(shifts.ravel().tolist(), axes.ravel().tolist()):
        a = _axis(x, a)
        n = x.shape[a]
        k = s % n if n else 0
        if k:
            lead = (FULL,) * a
            x = concatenate([x[(*lead, slice(n - k, None))], x[(*lead, slice(None, n - k))]], a)
    return x.copy() if isinstance(x, Tensor) else x


@implements(np.pad)
def pad(x: Any, pad_width: Any, mode: str = "constant", **kwargs: Any) -> Any:
    """Add a border, in all of NumPy's modes that copy or are constant."""
    x = tensor(x)
    widths = np.broadcast_to(np.asarray(pad_width), (x.ndim, 2)).tolist() if not isinstance(
        pad_width, dict
    ) else [pad_width.get(i, pad_width.get(i - x.ndim, (0, 0))) for i in range(x.ndim)]
    widths = [(w, w) if isinstance(w, int) else tuple(w) for w in widths]
    if mode == "constant":
        y = bind(Pad(tuple((int(a), int(b)) for a, b in widths)), x)
        values = kwargs.pop("constant_values", 0)
        if kwargs:
            raise ValueError(f"unsupported keyword arguments for mode '{mode}': {set(kwargs)}")
        if np.any(np.asarray(values) != 0):
            border = np.pad(np.zeros(x.shape, x.dtype), widths, constant_values=values)
            inside = np.pad(np.ones(x.shape, bool), widths)
            y = e.where(inside, y, border)
        return y
    if mode not in ("edge", "reflect", "symmetric", "wrap"):
        from ..errors import UnsupportedError

        raise UnsupportedError(
            f"np.pad(tensor, mode={mode!r})",
            "this mode has no derivative here",
            fix="constant, edge, reflect, symmetric or wrap",
        )
    for axis, (a, b) in enumerate(widths):
        index = np.pad(np.arange(x.shape[axis]), (a, b), mode=mode, **kwargs)  # type: ignore[call-overload]
        x = x[(*(FULL,) * axis, index)]
    return x


@implements(np.take)
def take(x: Any, indices: Any, axis: Any = None, out: Any = None, mode: str = "raise") -> Any:
    """Elements along an axis, by integer indices."""
    x = tensor(x)
    if axis is None:
        x, axis = ravel(x), 0
    n = shape_of(x)[_axis(x, axis)]
    if not isinstance(indices, Tensor):
        indices = np.asarray(indices)
        if mode == "wrap":
            indices = indices % n
        elif mode == "clip":
            indices = np.clip(indices, 0, n - 1)
    y = x[(*(FULL,) * _axis(x, axis), indices)]
    return y if out is None else into(out, y)


@implements(np.take_along_axis)
def take_along_axis(x: Any, indices: Any, axis: Any = -1) -> Any:
    """y[.., i, ..] = x[.., indices[.., i, ..], ..]."""
    x = tensor(x)
    if axis is None:
        return take_along_axis(ravel(x), indices.reshape(-1), 0)
    axis = _axis(x, axis)
    shape = shape_of(indices)
    index: list[Any] = []
    for i, n in enumerate(x.shape):
        if i == axis:
            index.append(indices)
        else:
            ones = [1] * x.ndim
            ones[i] = n
            index.append(np.arange(n).reshape(ones) if shape[i] != 1 or n == 1 else np.arange(n).reshape(ones))
    return x[tuple(index)]


@implements(np.argsort)
def argsort(x: Any, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None) -> Any:
    """The indices that sort: no derivative."""
    x = tensor(x)
    if axis is None:
        x, axis = ravel(x), 0
    return bind(ArgSort(_axis(x, axis)), x)


@implements(np.sort)
def sort(x: Any, axis: Any = -1, kind: Any = None, order: Any = None, *, stable: Any = None) -> Any:
    """In increasing order along an axis; the gradient goes back to where each number came from."""
    x = tensor(x)
    if axis is None:
        x, axis = ravel(x), 0
    return take_along_axis(x, argsort(x, axis), axis)


@implements(np.diagonal)
def diagonal(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """The elements x[i, i + offset], as the last axis."""
    x = moveaxis(x, (axis1, axis2), (-2, -1))
    i = np.arange(len(np.diagonal(np.empty(x.shape[-2:]), offset)))
    return x[(Ellipsis, i + builtin_max(-offset, 0), i + builtin_max(offset, 0))]


def builtin_max(a: int, b: int) -> int:
    return a if a > b else b


@implements(np.trace)
def trace(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: Any = None) -> Any:
    """The sum of the diagonal."""
    return sum(diagonal(x, offset, axis1, axis2), -1, dtype, out)


@implements(np.diag)
def diag(v: Any, k: int = 0) -> Any:
    """A diagonal matrix from a vector, or the diagonal of a matrix."""
    v = tensor(v)
    if v.ndim == 2:
        return diagonal(v, k)
    n = v.shape[0] + abs(k)
    rows = np.arange(v.shape[0]) + builtin_max(-k, 0)
    cols = np.arange(v.shape[0]) + builtin_max(k, 0)
    at = GetItem((rows, cols))
    return bind(AddAt(at), np.zeros((n, n), v.dtype), v)


@implements(np.diagflat)
def diagflat(v: Any, k: int = 0) -> Any:
    """A diagonal matrix from all the numbers."""
    return diag(ravel(v), k)


@implements(np.tril)
def tril(x: Any, k: int = 0) -> Any:
    """Zeros above the k-th diagonal."""
    s = shape_of(x)
    return e.where(np.tri(*s[-2:], k=k, dtype=bool), x, np.zeros((), x.dtype))


@implements(np.triu)
def triu(x: Any, k: int = 0) -> Any:
    """Zeros below the k-th diagonal."""
    s = shape_of(x)
    return e.where(~np.tri(*s[-2:], k=k - 1, dtype=bool), x, np.zeros((), x.dtype))


@implements(np.where)
def where(condition: Any, x: Any = None, y: Any = None, /) -> Any:
    """x where the condition holds, else y. The branch not taken gets no gradient, not 0 times it."""
    if x is None and y is None:
        return nonzero(condition)
    condition = condition if isinstance(condition, Tensor) or hasattr(condition, "graph") else np.asarray(condition)
    if condition.dtype != bool:
        condition = e.ne(condition, 0)
    return e.where(condition, *(v if isinstance(v, Tensor) or isinstance(v, RAW) else np.asarray(v) for v in (x, y)))


@implements(np.nonzero)
def nonzero(x: Any) -> Any:
    """The indices of the elements that are not zero, as plain arrays."""
    return np.nonzero(tensor(x).value())


@implements(np.clip)
def clip(x: Any, a_min: Any = None, a_max: Any = None, out: Any = None, *, min: Any = None, max: Any = None, **kw: Any) -> Any:
    """x within bounds; the gradient passes at the bounds and stops outside."""
    lo, hi = (a_min if a_min is not None else min), (a_max if a_max is not None else max)
    x = tensor(x)
    if lo is not None and hi is not None:
        y = e.clip(x, lo, hi)
    elif lo is not None:
        y = e.clip(x, lo, _limit(x, 1))
    elif hi is not None:
        y = e.clip(x, _limit(x, -1), hi)
    else:
        y = x.copy()
    return y if out is None else into(out, y)


def _limit(x: Any, sign: int) -> Any:
    if x.dtype.kind in "fc":
        return sign * np.inf
    info = np.iinfo(x.dtype)
    return int(info.max if sign > 0 else info.min)


@implements(np.copy)
def copy(x: Any, order: Any = None, subok: Any = None) -> Any:
    """A tensor with a buffer of its own; the gradient passes through."""
    return bind(e.copy, tensor(x))


def _like(make: Any) -> Any:
    def like(x: Any, dtype: Any = None, order: Any = None, subok: Any = None, shape: Any = None, *, device: Any = None) -> Any:
        t = tensor(x)
        return tensor(make(t.shape if shape is None else shape, dtype or t.dtype))

    return like


zeros_like = implements(np.zeros_like)(_like(np.zeros))
ones_like = implements(np.ones_like)(_like(np.ones))
empty_like = implements(np.empty_like)(_like(np.zeros))


@implements(np.full_like)
def full_like(x: Any, fill_value: Any, dtype: Any = None, order: Any = None, subok: Any = None, shape: Any = None, *, device: Any = None) -> Any:
    """One value everywhere; the gradient goes to that value."""
    t = tensor(x)
    fill = tensor(fill_value).astype(dtype or t.dtype)
    return broadcast_to(fill, t.shape if shape is None else shape)


implements(np.shape)(shape_of)
implements(np.ndim)(lambda x: len(shape_of(x)))


@implements(np.size)
def size(x: Any, axis: Any = None) -> int:
    """How many numbers, or how many along an axis."""
    s = shape_of(x)
    return math.prod(s) if axis is None else s[axis]


implements(np.real)(lambda x: e.real(tensor(x)) if tensor(x).dtype.kind == "c" else tensor(x))
implements(np.imag)(lambda x: e.imag(tensor(x)))
implements(np.sinc)(lambda x: bind(e.sinc, tensor(x)))


@implements(np.angle)
def angle(z: Any, deg: bool = False) -> Any:
    """The argument of a complex number."""
    z = tensor(z)
    y = np.arctan2(np.imag(z), np.real(z))
    return np.rad2deg(y) if deg else y


by_value(
    np.argwhere, np.flatnonzero, np.allclose, np.isclose, np.array_equal, np.array_equiv,
    np.array2string, np.array_repr, np.array_str, np.iscomplexobj, np.isrealobj, np.iscomplex, np.isreal,
    np.searchsorted, np.digitize, np.histogram, np.bincount, np.unique, np.result_type, np.can_cast,
    np.min_scalar_type, np.common_type, np.shares_memory, np.may_share_memory, np.argpartition, np.lexsort,
    np.isin, np.isposinf, np.isneginf,
)
