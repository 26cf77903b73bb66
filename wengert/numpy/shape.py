"""Functions that change an array's shape or the order of its axes. NumPy's signatures."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..ops.index import Concatenate
from ..ops.linear import Broadcast
from ..trace import bind, getframe
from ..transforms import mutate
from ..types import shape_of
from .check import axis_of, castable, ordered_axes, refuse
from .reduce import expand_dims
from .table import finish, implements, tensor

FULL = slice(None)


def sizes(shape: Any) -> tuple[int, ...]:
    """A shape argument, an int or a sequence of them."""
    if isinstance(shape, tuple | list | np.ndarray):
        return tuple(int(n.__index__()) for n in shape)
    return (int(shape.__index__()),)


@implements(np.reshape)
def reshape(x: Any, /, shape: Any = None, order: str = "C", *, copy: Any = None) -> Any:
    """The same numbers in another shape; -1 stands for what is left over."""
    x = tensor(x)
    shape = sizes(shape)
    if order not in ("C", "F", "A"):
        raise ArgumentError(f"reshape(x, order={order!r})", 'the order is "C", "F" or "A"')
    if order == "F":
        x, shape = mutate.transpose(x, tuple(range(x.ndim))[::-1], getframe(1)), shape[::-1]
    if -1 in shape:
        known = -math.prod(shape)
        if known > 0 and not x.size % known and shape.count(-1) == 1:
            shape = tuple(x.size // known if s == -1 else s for s in shape)
    if math.prod(shape) != x.size or -1 in shape:
        rest = math.prod(shape[1:])
        whole = -1 not in shape and rest > 0 and x.size % rest == 0
        words = ", ".join(map(str, (-1, *shape[1:])))
        raise ShapeError(
            f"reshape(x, {list(shape)})",
            f"{x.size} elements do not fill it",
            operands=[("x", x)],
            fix=f"{{x}}.reshape({words})"
            if whole
            else "-1 for a length that follows from the rest",
        )
    y = mutate.reshape(x, shape, getframe(1))
    if order == "F":
        y = mutate.transpose(y, tuple(range(y.ndim))[::-1], getframe(1))
    return y.copy() if copy else y


@implements(np.ravel)
def ravel(x: Any, order: str = "C") -> Any:
    """All numbers along one axis."""
    x = tensor(x)
    return reshape(x, (x.size,), "C" if order in ("A", "K") else order)


@implements(np.transpose, np.permute_dims)
def transpose(x: Any, axes: Any = None) -> Any:
    """Permute the axes; reversed by default."""
    x = tensor(x)
    perm = tuple(range(x.ndim))[::-1]
    if axes is not None:
        perm = ordered_axes(
            "transpose", x, tuple(axes) if isinstance(axes, list | np.ndarray) else axes
        )
        if len(perm) != x.ndim:
            raise ArgumentError(
                f"transpose(x, {list(perm)})",
                f"an order of {x.ndim} axes is needed",
                operands=[("x", x)],
            )
    return mutate.transpose(x, perm, getframe(1))


@implements(np.swapaxes)
def swapaxes(x: Any, axis1: int, axis2: int) -> Any:
    """Exchange two axes."""
    x = tensor(x)
    perm = list(range(x.ndim))
    i, j = axis_of("swapaxes", x, axis1), axis_of("swapaxes", x, axis2)
    perm[i], perm[j] = j, i
    return mutate.transpose(x, tuple(perm), getframe(1))


@implements(np.moveaxis)
def moveaxis(x: Any, source: Any, destination: Any) -> Any:
    """Move axes to other places."""
    x = tensor(x)
    src = ordered_axes("moveaxis", x, source)
    dst = ordered_axes("moveaxis", x, destination)
    if len(src) != len(dst):
        raise ArgumentError("moveaxis(x, source, destination)", "different numbers of axes")
    order = [i for i in range(x.ndim) if i not in src]
    for d, s in sorted(zip(dst, src)):
        order.insert(d, s)
    return mutate.transpose(x, tuple(order), getframe(1))


@implements(np.rollaxis)
def rollaxis(x: Any, axis: int, start: int = 0) -> Any:
    """Move one axis back to a position."""
    x = tensor(x)
    axis, n = axis_of("rollaxis", x, axis), x.ndim
    if not -n <= start <= n:
        ordered_axes("rollaxis", x, start)
    start = start + n if start < 0 else start
    return moveaxis(x, axis, start - 1 if axis < start else start)


@implements(np.squeeze)
def squeeze(x: Any, axis: Any = None) -> Any:
    """Drop axes of length 1."""
    x = tensor(x)
    drop = [i for i, n in enumerate(x.shape) if n == 1]
    if axis is not None:
        drop = list(ordered_axes("squeeze", x, axis))
    if [a for a in drop if x.shape[a] != 1]:
        raise ShapeError(f"squeeze(x, axis={axis!r})", "its length is not 1", operands=[("x", x)])
    return mutate.reshape(x, tuple(n for i, n in enumerate(x.shape) if i not in drop), getframe(1))


@implements(np.broadcast_to)
def broadcast_to(x: Any, shape: Any, subok: bool = False) -> Any:
    """Repeat along axes until the shape is `shape`."""
    x, shape = tensor(x), sizes(shape)
    if len(shape) < x.ndim or any(n not in (1, m) for n, m in zip(x.shape[::-1], shape[::-1])):
        raise ShapeError(
            f"broadcast_to(x, {list(shape)})", "x does not broadcast to it", operands=[("x", x)]
        )
    return x.copy() if x.shape == shape else bind(Broadcast(shape), x)


@implements(np.broadcast_arrays)
def broadcast_arrays(*xs: Any, subok: bool = False) -> Any:
    """All arrays in their common shape."""
    shape = np.broadcast_shapes(*(shape_of(x) for x in xs))
    return tuple(broadcast_to(x, shape) for x in xs)


def _at_least(n: int, where: Any) -> Any:
    def f(*xs: Any) -> Any:
        ys = [reshape(x, where(x.shape)) if x.ndim < n else x for x in map(tensor, xs)]
        return ys[0] if len(ys) == 1 else tuple(ys)

    f.__doc__ = f"Arrays with {n} axes or more."
    return f


atleast_1d = implements(np.atleast_1d)(_at_least(1, lambda s: (1,)))
atleast_2d = implements(np.atleast_2d)(_at_least(2, lambda s: (1, *s) if s else (1, 1)))
atleast_3d = implements(np.atleast_3d)(
    _at_least(3, lambda s: (*s, 1) if len(s) == 2 else (1, *s, 1) if s else (1, 1, 1))
)


# ------------------------------------------------------------------ joining
def tensors(what: str, xs: Any) -> list[Any]:
    """A sequence of arrays as tensors: at least one."""
    out = [tensor(x) for x in xs]
    if not out:
        raise ArgumentError(f"{what}([])", "at least one array is needed")
    return out


@implements(np.concatenate)
def concatenate(
    xs: Any, /, axis: Any = 0, out: Any = None, *, dtype: Any = None, casting: Any = None
) -> Any:
    """Arrays one after another along an axis."""
    xs = tensors("concatenate", xs)
    if axis is None:
        xs, axis = [ravel(x) for x in xs], 0
    if dtype is not None:
        for x in xs:
            castable("concatenate", x.dtype, dtype, casting or "same_kind")
        xs = [x.astype(dtype) for x in xs]
    if xs[0].ndim == 0:
        raise ShapeError("concatenate(xs)", "a number has no axis", fix="np.stack(xs)")
    return finish(bind(Concatenate(axis_of("concatenate", xs[0], axis)), *xs), out)


@implements(np.stack)
def stack(
    xs: Any, axis: int = 0, out: Any = None, *, dtype: Any = None, casting: Any = None
) -> Any:
    """Arrays side by side along a new axis."""
    xs = tensors("stack", xs)
    if len({x.shape for x in xs}) > 1:
        names = [(f"xs[{i}]", x) for i, x in enumerate(xs[:8])]
        raise ShapeError("stack(xs)", "the shapes differ", operands=names)
    return concatenate([expand_dims(x, axis) for x in xs], axis, out, dtype=dtype, casting=casting)


@implements(np.vstack)
def vstack(xs: Any, *, dtype: Any = None, casting: Any = None) -> Any:
    """Rows under each other."""
    xs = [atleast_2d(x) for x in tensors("vstack", xs)]
    return concatenate(xs, 0, dtype=dtype, casting=casting)


@implements(np.hstack)
def hstack(xs: Any, *, dtype: Any = None, casting: Any = None) -> Any:
    """Columns next to each other."""
    xs = [atleast_1d(x) for x in tensors("hstack", xs)]
    return concatenate(xs, 0 if xs[0].ndim == 1 else 1, dtype=dtype, casting=casting)


@implements(np.dstack)
def dstack(xs: Any) -> Any:
    """Along the third axis."""
    return concatenate([atleast_3d(x) for x in tensors("dstack", xs)], 2)


@implements(np.column_stack)
def column_stack(xs: Any) -> Any:
    """1-d arrays as the columns of a matrix."""
    xs = tensors("column_stack", xs)
    return concatenate([reshape(x, (-1, 1)) if x.ndim < 2 else x for x in xs], 1)


@implements(np.append)
def append(x: Any, values: Any, axis: Any = None) -> Any:
    """x, then values; both flat when no axis is given."""
    return concatenate([x, values], axis)


@implements(np.block)
def block(xs: Any) -> Any:
    """An array out of nested lists of blocks: the innermost lists along the last axis."""
    levels = _depth(xs)
    full = max(levels, _rank(xs))
    return _joined(xs, -levels, full) if levels else tensor(xs).copy()


def _depth(x: Any) -> int:
    return 1 + max(map(_depth, x), default=0) if isinstance(x, list) else 0


def _rank(x: Any) -> int:
    return max(map(_rank, x), default=0) if isinstance(x, list) else len(shape_of(x))


def _joined(x: Any, axis: int, full: int) -> Any:
    if isinstance(x, list):
        if not x:
            raise ArgumentError("block(xs)", "a list of blocks is empty")
        return concatenate([_joined(v, axis + 1, full) for v in x], axis)
    if axis:
        raise ArgumentError("block(xs)", "the lists are not all equally deep")
    x = tensor(x)
    return reshape(x, (1,) * (full - x.ndim) + x.shape)


# ------------------------------------------------------------------ cutting
@implements(np.array_split)
def array_split(x: Any, indices_or_sections: Any, axis: int = 0) -> Any:
    """Cut into parts, of nearly equal size or at the given places."""
    x = tensor(x)
    axis = axis_of("array_split", x, axis)
    n = x.shape[axis]
    if np.ndim(indices_or_sections) == 0:
        k = int(indices_or_sections)
        if k <= 0:
            raise ArgumentError(f"array_split(x, {k})", "at least one part is needed")
        ends = [i * (n // k) + min(i, n % k) for i in range(k + 1)]
    else:
        ends = [0, *(int(i) for i in indices_or_sections), n]
    lead = (FULL,) * axis
    return [x[(*lead, slice(a, b))] for a, b in pairwise(ends)]


@implements(np.split)
def split(x: Any, indices_or_sections: Any, axis: int = 0) -> Any:
    """Cut into equal parts, or at the given places."""
    x = tensor(x)
    if np.ndim(indices_or_sections) == 0:
        k, n = int(indices_or_sections), x.shape[axis_of("split", x, axis)]
        if k <= 0 or n % k:
            raise ShapeError(
                f"split(x, {k}, axis={axis})", f"{n} is not a multiple of {k}", operands=[("x", x)],
                fix=f"np.array_split(x, {k}, axis={axis})" if k > 0 else None,
            )  # fmt: skip
    return array_split(x, indices_or_sections, axis)


@implements(np.hsplit)
def hsplit(x: Any, indices_or_sections: Any) -> Any:
    """Cut along the second axis, or along the only one."""
    return split(x, indices_or_sections, 0 if len(shape_of(x)) == 1 else 1)


@implements(np.vsplit)
def vsplit(x: Any, indices_or_sections: Any) -> Any:
    """Cut along the first axis, of two or more."""
    if len(shape_of(x)) < 2:
        raise ShapeError("vsplit(x)", "two axes or more are needed", operands=[("x", x)])
    return split(x, indices_or_sections, 0)


@implements(np.dsplit)
def dsplit(x: Any, indices_or_sections: Any) -> Any:
    """Cut along the third axis."""
    if len(shape_of(x)) < 3:
        raise ShapeError("dsplit(x)", "three axes or more are needed", operands=[("x", x)])
    return split(x, indices_or_sections, 2)


def unstack(x: Any, /, *, axis: int = 0) -> Any:
    """The slices along an axis."""
    x = moveaxis(x, axis, 0)
    return tuple(x[i] for i in range(x.shape[0]))


if hasattr(np, "unstack"):  # NumPy 2.1
    implements(np.unstack)(unstack)


# ------------------------------------------------------------------ turning
@implements(np.flip)
def flip(x: Any, axis: Any = None) -> Any:
    """Reverse the order along axes."""
    x = tensor(x)
    axes = range(x.ndim) if axis is None else ordered_axes("flip", x, axis)
    return x[tuple(slice(None, None, -1) if i in axes else FULL for i in range(x.ndim))]


@implements(np.fliplr)
def fliplr(x: Any) -> Any:
    """Reverse the second axis."""
    return flip(x, 1)


@implements(np.flipud)
def flipud(x: Any) -> Any:
    """Reverse the first axis."""
    return flip(x, 0)


@implements(np.rot90)
def rot90(x: Any, k: int = 1, axes: Any = (0, 1)) -> Any:
    """Turn by k right angles in the plane of two axes, from the first towards the second."""
    x = tensor(x)
    if len(axes) != 2:
        raise ArgumentError("rot90(x, axes)", "two axes are needed")
    i, j = ordered_axes("rot90", x, tuple(axes))
    k %= 4
    if k == 0:
        return x[...]
    if k == 2:
        return flip(x, (i, j))
    return swapaxes(flip(x, j), i, j) if k == 1 else flip(swapaxes(x, i, j), j)


@implements(np.roll)
def roll(x: Any, shift: Any, axis: Any = None) -> Any:
    """Shift along axes; what falls off at one end comes in at the other."""
    x = tensor(x)
    if axis is None:
        return reshape(roll(ravel(x), np.sum(shift), 0), x.shape)
    shifts, axes = np.broadcast_arrays(shift, axis)
    if shifts.ndim > 1:
        raise ShapeError("roll(x, shift, axis)", "shift and axis are numbers or 1-d sequences")
    total = [0] * x.ndim
    for s, a in zip(shifts.ravel().tolist(), axes.ravel().tolist()):
        total[axis_of("roll", x, a)] += s
    for a, s in enumerate(total):
        n = x.shape[a]
        k = s % n if n else 0
        if k:
            lead = (FULL,) * a
            x = concatenate([x[(*lead, slice(n - k, None))], x[(*lead, slice(None, n - k))]], a)
    return x.copy()


@implements(np.copy)
def copy(x: Any, order: Any = None, subok: Any = None) -> Any:
    """A tensor with a buffer of its own; the gradient passes through."""
    return tensor(x).copy()


# ------------------------------------------------------------------ like another array
def _like(make: Any, doc: str) -> Any:
    def like(
        x: Any, dtype: Any = None, order: Any = None, subok: Any = None, shape: Any = None, *,
        device: Any = None,
    ) -> Any:  # fmt: skip
        x = tensor(x)
        refuse("like", device=None if device == "cpu" else device)
        return tensor(make(x.shape if shape is None else shape, dtype or x.dtype))

    like.__doc__ = doc
    return like


zeros_like = implements(np.zeros_like)(_like(np.zeros, "Zeros, in the shape and dtype of x."))
ones_like = implements(np.ones_like)(_like(np.ones, "Ones, in the shape and dtype of x."))
empty_like = implements(np.empty_like)(_like(np.zeros, "A buffer, in the shape and dtype of x."))


@implements(np.full_like)
def full_like(
    x: Any, fill_value: Any, dtype: Any = None, order: Any = None, subok: Any = None,
    shape: Any = None, *, device: Any = None,
) -> Any:  # fmt: skip
    """One value everywhere; the gradient goes to that value."""
    x = tensor(x)
    refuse("full_like", device=None if device == "cpu" else device)
    fill = tensor(fill_value).astype(dtype or x.dtype)
    return broadcast_to(fill, x.shape if shape is None else shape)


# ------------------------------------------------------------------ what it is
implements(np.shape)(shape_of)


@implements(np.ndim)
def ndim(x: Any) -> int:
    """How many axes."""
    return len(shape_of(x))


@implements(np.size)
def size(x: Any, axis: Any = None) -> int:
    """How many numbers, or how many along an axis."""
    s = shape_of(x)
    return math.prod(s) if axis is None else math.prod(s[a] for a in ordered_axes("size", x, axis))


FUNCTIONS_LIKE = {
    "zeros_like": zeros_like,
    "ones_like": ones_like,
    "empty_like": empty_like,
    "full_like": full_like,
}
