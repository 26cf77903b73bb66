"""Pooling whose windows follow from the size of the result: adaptive and global."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from wengert.errors import ShapeError
from wengert.ops.pool import MaxPool, MaxTap, SumPool, flat_places
from wengert.types import shape_of

from .conv import Ints, batched, given, per_axis
from .pool import plain

__all__ = [
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "global_avg_pool",
    "global_max_pool",
]


def wanted(what: str, output_size: Any, size: Ints) -> Ints:
    """The places of y along each axis; None keeps those of x."""
    given = output_size if isinstance(output_size, tuple | list) else (output_size,) * len(size)
    filled = tuple(n if o is None else o for o, n in zip(given, size))
    return per_axis(what, "output_size", filled if len(given) == len(size) else given, len(size))


def bounds(n: int, count: int) -> list[tuple[int, int]]:
    """Window i of `count` is [floor(i n / count), ceil((i + 1) n / count))."""
    return [(i * n // count, -(-(i + 1) * n // count)) for i in range(count)]


def adaptive_avg_pool(axes: int, x: Any, output_size: Any) -> Any:
    what = f"adaptive_avg_pool{axes}d"
    x, single = batched(what, x, axes)
    size = shape_of(x)[1:-1]
    places = wanted(what, output_size, size)
    if min(size) == 0:
        raise ShapeError(f"{what}(x)", "x has nothing to average", operands=[("x", x)])
    if set(places) == {1}:
        y = x.mean(axis=tuple(range(1, axes + 1)), keepdims=True)
    elif all(n % o == 0 for n, o in zip(size, places)):
        kernel = tuple(n // o for n, o in zip(size, places))
        y = SumPool(kernel, kernel, ((0, 0),) * axes, (1,) * axes)(x) / float(math.prod(kernel))
    else:
        y = x
        for axis, (n, o) in enumerate(zip(size, places), 1):
            rows = np.zeros((o, n), x.dtype)
            for i, (a, b) in enumerate(bounds(n, o)):
                rows[i, a:b] = 1 / (b - a)
            s = shape_of(y)
            y = rows @ y.reshape((*s[:axis], n, math.prod(s[axis + 1 :])))
            y = y.reshape((*s[:axis], o, *s[axis + 1 :]))
    return y[0] if single else y


def adaptive_max_pool(axes: int, x: Any, output_size: Any, return_indices: bool) -> Any:
    what = f"adaptive_max_pool{axes}d"
    x, single = batched(what, x, axes)
    size = shape_of(x)[1:-1]
    places = wanted(what, output_size, size)
    if min(size) == 0:
        raise ShapeError(f"{what}(x)", "x has no largest number", operands=[("x", x)])
    kernel, origin = [], []
    for axis, (n, o) in enumerate(zip(size, places), 1):
        windows = bounds(n, o)
        longest = max(b - a for a, b in windows)
        # every window as long as the longest: a number twice is no larger, and never the first
        at = np.array([min(a + j, b - 1) for a, b in windows for j in range(longest)])
        if n % o:
            x = x[(slice(None),) * axis + (at,)]
        kernel.append(longest)
        origin.append(at)
    k = tuple(kernel)
    how = (k, k, ((0, 0),) * axes, (1,) * axes)
    y = MaxPool(*how)(x)
    out = y[0] if single else y
    if not return_indices:
        return out
    taps = MaxTap(*how)(plain(x), plain(y))
    wide = tuple(shape_of(x)[1:-1])
    inside = np.unravel_index(flat_places(taps, wide, *how)[0], wide)
    indices = np.ravel_multi_index([at[i] for at, i in zip(origin, inside)], size)
    return out, indices[0] if single else indices


def adaptive_avg_pool1d(x: Any, output_size: Any) -> Any:
    """The mean of each of `output_size` windows along one axis; see `adaptive_avg_pool2d`.

        y[n, i, c] = mean of x[n, floor(i W / O) : ceil((i + 1) W / O), c]

    Example:
        >>> adaptive_avg_pool1d(np.array([[1.0], [2.0], [6.0]]), 2).ravel()
        array([1.5, 4. ])
    """
    return adaptive_avg_pool(1, x, output_size)


def adaptive_avg_pool2d(x: Any, output_size: Any) -> Any:
    """The mean of each of OH x OW windows that share x out, whatever its size.

        y[n, i, j, c] = mean of x[n, floor(i H / OH) : ceil((i + 1) H / OH), the same of W, c]

    Shapes: x `[N, H, W, C]` or `[H, W, C]`, y `[N, OH, OW, C]`.

    Args:
        output_size: OH = OW, or (OH, OW); None for one of them keeps the size of x.

    Example:
        >>> adaptive_avg_pool2d(np.arange(16.0).reshape(1, 4, 4, 1), 1).item()
        7.5
    """
    return adaptive_avg_pool(2, x, output_size)


def adaptive_avg_pool3d(x: Any, output_size: Any) -> Any:
    """The mean of each of OD x OH x OW windows; see `adaptive_avg_pool2d`.

        y[n, i, c] = mean of x[n, floor(i S / O) : ceil((i + 1) S / O), c]

    Example:
        >>> adaptive_avg_pool3d(np.ones((1, 3, 4, 5, 2)), (1, 2, 3)).shape
        (1, 1, 2, 3, 2)
    """
    return adaptive_avg_pool(3, x, output_size)


def adaptive_max_pool1d(x: Any, output_size: Any, *, return_indices: bool = False) -> Any:
    """The largest number of each of `output_size` windows; see `adaptive_max_pool2d`.

        y[n, i, c] = max of x[n, floor(i W / O) : ceil((i + 1) W / O), c]

    Example:
        >>> adaptive_max_pool1d(np.array([[1.0], [2.0], [6.0]]), 2).ravel()
        array([2., 6.])
    """
    return adaptive_max_pool(1, x, output_size, return_indices)


def adaptive_max_pool2d(x: Any, output_size: Any, *, return_indices: bool = False) -> Any:
    """The largest number of each of OH x OW windows that share x out, whatever its size.

        y[n, i, j, c] = max of x[n, floor(i H / OH) : ceil((i + 1) H / OH), the same of W, c]

    Shapes: x `[N, H, W, C]` or `[H, W, C]`, y `[N, OH, OW, C]`.

    Args:
        output_size: OH = OW, or (OH, OW); None for one of them keeps the size of x.
        return_indices: return (y, places), see `max_pool2d`.

    Example:
        >>> adaptive_max_pool2d(np.arange(9.0).reshape(1, 3, 3, 1), 2).ravel()
        array([4., 5., 7., 8.])
    """
    return adaptive_max_pool(2, x, output_size, return_indices)


def adaptive_max_pool3d(x: Any, output_size: Any, *, return_indices: bool = False) -> Any:
    """The largest number of each of OD x OH x OW windows; see `adaptive_max_pool2d`.

        y[n, i, c] = max of x[n, floor(i S / O) : ceil((i + 1) S / O), c]

    Example:
        >>> adaptive_max_pool3d(np.arange(8.0).reshape(1, 2, 2, 2, 1), 1).item()
        7.0
    """
    return adaptive_max_pool(3, x, output_size, return_indices)


def global_avg_pool(x: Any) -> Any:
    """The mean over all places:  y[n, c] = mean_i x[n, i, c].

    Shapes: x `[N, *S, C]`, y `[N, C]`.

    Example:
        >>> global_avg_pool(np.arange(8.0).reshape(1, 2, 2, 2))
        array([[3., 4.]])
    """
    x = given("global_avg_pool", x)
    return x.mean(axis=between(x, "global_avg_pool"))


def global_max_pool(x: Any) -> Any:
    """The maximum over all places:  y[n, c] = max_i x[n, i, c].

    Places that tie share the gradient equally, as in `np.max`.

    Shapes: x `[N, *S, C]`, y `[N, C]`.

    Example:
        >>> global_max_pool(np.arange(8.0).reshape(1, 2, 2, 2))
        array([[6., 7.]])
    """
    x = given("global_max_pool", x)
    return x.max(axis=between(x, "global_max_pool"))


def between(x: Any, what: str) -> tuple[int, ...]:
    """The axes between the batch and the channels."""
    rank = len(shape_of(x))
    if rank < 3:
        raise ShapeError(
            f"{what}(x)", "x is [N, .., C] with places between", operands=[("x", x, f"{rank} axes")]
        )
    if 0 in shape_of(x)[1:-1]:
        raise ShapeError(f"{what}(x)", "there are no places between", operands=[("x", x)])
    return tuple(range(1, rank - 1))
