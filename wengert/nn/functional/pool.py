"""Pooling over windows of one, two or three axes. Channels come last."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from wengert.errors import DTypeError, OptionError, ShapeError
from wengert.ops.fused import Norm
from wengert.ops.index import HOLE, Concatenate, GetItem, Pad, ScatterAdd
from wengert.ops.linalg import PNorm
from wengert.ops.linear import Reshape, Transpose
from wengert.ops.pool import MaxPool, MaxTap, SumPool, flat_places
from wengert.trace import Tensor
from wengert.types import shape_of

from .conv import Ints, Pads, batched, pads_of, per_axis

__all__ = [
    "avg_pool1d",
    "avg_pool2d",
    "avg_pool3d",
    "lp_pool1d",
    "lp_pool2d",
    "lp_pool3d",
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "max_unpool1d",
    "max_unpool2d",
    "max_unpool3d",
]


class Windows:
    """Where the windows of a call lie: sizes, and how far past the end the last ones reach."""

    def __init__(
        self, what: str, x: Any, axes: int, kernel: Any, stride: Any, padding: Any,
        dilation: Any = 1, ceil_mode: bool = False,
    ) -> None:  # fmt: skip
        self.x, self.single = batched(what, x, axes)
        self.size: Ints = shape_of(self.x)[1:-1]
        self.kernel = per_axis(what, "kernel_size", kernel, axes)
        self.stride = per_axis(what, "stride", kernel if stride is None else stride, axes)
        self.dilation = per_axis(what, "dilation", dilation, axes)
        self.given: Pads = pads_of(
            what, padding, self.size, self.kernel, self.stride, self.dilation
        )
        self.padding = self.given
        if ceil_mode:
            self.padding = tuple(map(rounded_up, self.size, *self.settings))
        if axis := self.short(self.size):
            raise self.refusal(what, x, axis)

    @property
    def settings(self) -> tuple[Ints, Ints, Pads, Ints]:
        return self.kernel, self.stride, self.padding, self.dilation

    def short(self, size: Ints) -> int:
        """The first axis of x that is shorter than a window; 0 if none is."""
        for axis, (n, k, (lo, hi), d) in enumerate(
            zip(size, self.kernel, self.padding, self.dilation), 1
        ):
            if min(lo, hi) >= 0 and n + lo + hi < d * (k - 1) + 1:
                return axis
        return 0

    def refusal(self, what: str, x: Any, axis: int) -> ShapeError:
        """Of a window that does not fit, with what would help if the channels come first."""
        shape = shape_of(x)
        turned = (*shape_of(self.x)[2:], self.size[0])
        order = (*range(2, len(turned) + 1), 1)
        order = tuple(i - 1 for i in order) if self.single else (0, *order)
        axis -= self.single
        return ShapeError(
            f"{what}(x)", f"the window {list(self.kernel)} is larger than x with its padding",
            operands=[("x", x, f"axis {axis} is {shape[axis]}")],
            fix=None
            if self.short(turned[:-1])
            else f"{{x}}.transpose{order} if its channels come first",
        )  # fmt: skip

    def back(self, y: Any) -> Any:
        return y[0] if self.single else y

    def taps(self, what: str) -> Any:
        """Each place of a window for all windows, `[K, N, *O, C]`; 0 in the padding."""
        try:
            places = SumPool(*self.settings).places(self.size)
        except ValueError as error:
            raise ShapeError(f"{what}(x)", str(error), operands=[("x", self.x)]) from None
        widths = ((0, 0), *self.padding, (0, 0))
        x = Pad(widths)(self.x) if any(map(any, widths)) else self.x
        for i, (k, s, o) in enumerate(zip(self.kernel, self.stride, places)):
            x = taps_along(x, 2 * i + 1, k, s, o)
        return Reshape((math.prod(self.kernel), *shape_of(x)[len(places) :]))(x)

    def counts(self, include: bool) -> Any:
        """How many numbers a window holds: an integer, or `[*O, 1]` where they differ."""
        total = np.ones((1,) * len(self.size), np.intp)
        for axis, (n, k, s, (lo, hi), (_, more)) in enumerate(
            zip(self.size, self.kernel, self.stride, self.given, self.padding)
        ):
            start = np.arange((n + lo + more - k) // s + 1) * s - lo
            low, high = (-lo, n + hi) if include else (0, n)
            line = np.minimum(start + k, high) - np.maximum(start, low)
            total = total * line.reshape((-1,) + (1,) * (len(self.size) - axis - 1))
        first = int(total.flat[0]) if total.size else 1
        return first if (total == first).all() else total[..., None]


def taps_along(x: Any, axis: int, k: int, s: int, o: int) -> Any:
    """`[k, .., o, ..]`: the k numbers of each of o windows of an axis, in front."""
    lead, shape = (slice(None),) * axis, shape_of(x)
    if s == k or o == 1:  # side by side
        x = x if shape[axis] == o * k else GetItem((*lead, slice(o * k)))(x)
        x = Reshape((*shape[:axis], o, k, *shape[axis + 1 :]))(x)
        rest = (*range(axis + 1), *range(axis + 2, len(shape) + 1))
        return Transpose((axis + 1, *rest))(x)
    last = s * (o - 1) + 1
    return Concatenate(0)(*[GetItem((None, *lead, slice(i, i + last, s)))(x) for i in range(k)])


def rounded_up(n: int, k: int, s: int, pad: tuple[int, int], d: int) -> tuple[int, int]:
    """The padding that gives a last, incomplete window a place, if it begins inside of x."""
    lo, hi = pad
    count = -(-(n + lo + hi - d * (k - 1) - 1) // s) + 1
    if (count - 1) * s >= n + lo:
        count -= 1
    return lo, max(hi, (count - 1) * s + d * (k - 1) + 1 - n - lo)


def max_pool(
    axes: int, x: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool,
    return_indices: bool,
) -> Any:  # fmt: skip
    w = Windows(f"max_pool{axes}d", x, axes, kernel, stride, padding, dilation, ceil_mode)
    y = MaxPool(*w.settings)(w.x)
    if not return_indices:
        return w.back(y)
    taps = MaxTap(*w.settings)(plain(w.x), plain(y))
    return w.back(y), w.back(flat_places(taps, w.size, *w.settings)[0])


def plain(x: Any) -> Any:
    return x.value() if isinstance(x, Tensor) else np.asarray(x)


def max_pool1d(
    x: Any,
    kernel_size: Any,
    *,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest number of each window of one axis; see `max_pool2d`.

        y[n, o, c] = max_k x[n, s o + d k - p, c]

    Shapes: x `[N, W, C]` or `[W, C]`.

    Example:
        >>> max_pool1d(np.array([[1.0], [3.0], [2.0], [0.0]]), 2).ravel()
        array([3., 2.])
    """
    return max_pool(1, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(
    x: Any,
    kernel_size: Any,
    *,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest number of each window of two axes, channel by channel.

        y[n, o, c] = max_k x[n, s o + d k - p, c]

    Where several are largest, the first of them in row-major order gets the gradient.

    Shapes: x `[N, H, W, C]` or `[H, W, C]`, y `[N, OH, OW, C]`. What has its channels first is
    pooled along the wrong axes, unnoticed wherever a window fits: transpose it first.

    Args:
        kernel_size, dilation: an integer, or one for each axis.
        stride: likewise; None for kernel_size, windows side by side.
        padding: around x, as in `conv2d`; what lies there is never the largest.
        ceil_mode: keep a last window that reaches over the end.
        return_indices: return (y, places): for each number of y its row-major place in its plane of
            x, as `max_unpool2d` takes them.

    Raises:
        ShapeError: a window is larger than x, or has nothing of x in it.
        OptionError: an option out of range.

    Example:
        >>> x = np.arange(16.0).reshape(1, 4, 4, 1)
        >>> y, places = max_pool2d(x, 2, return_indices=True)
        >>> y.ravel(), places.ravel()
        (array([ 5.,  7., 13., 15.]), array([ 5,  7, 13, 15]))
    """
    return max_pool(2, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool3d(
    x: Any,
    kernel_size: Any,
    *,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest number of each window of three axes; see `max_pool2d`.

        y[n, o, c] = max_k x[n, s o + d k - p, c]

    Shapes: x `[N, D, H, W, C]` or `[D, H, W, C]`.

    Example:
        >>> max_pool3d(np.arange(8.0).reshape(1, 2, 2, 2, 1), 2).item()
        7.0
    """
    return max_pool(3, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def avg_pool(
    axes: int, x: Any, kernel: Any, stride: Any, padding: Any, ceil_mode: bool,
    count_include_pad: bool, divisor_override: int | None,
) -> Any:  # fmt: skip
    what = f"avg_pool{axes}d"
    w = Windows(what, x, axes, kernel, stride, padding, 1, ceil_mode)
    y = SumPool(*w.settings)(w.x)
    if divisor_override is not None:
        (divisor_override,) = per_axis(what, "divisor_override", divisor_override, 1)
    n = w.counts(count_include_pad) if divisor_override is None else divisor_override
    return w.back(y / (float(n) if isinstance(n, int) else n.astype(y.dtype)))


def avg_pool1d(
    x: Any,
    kernel_size: Any,
    *,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    """The mean of each window of one axis; see `avg_pool2d`.

        y[n, o, c] = (1 / K) sum_k x[n, s o + k - p, c]

    Shapes: x `[N, W, C]` or `[W, C]`.

    Example:
        >>> avg_pool1d(np.array([[1.0], [3.0], [2.0], [0.0]]), 2).ravel()
        array([2., 1.])
    """
    return avg_pool(
        1, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def avg_pool2d(
    x: Any,
    kernel_size: Any,
    *,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    """The mean of each window of two axes, channel by channel.

        y[n, o, c] = (1 / K) sum_k x[n, s o + k - p, c]

    Shapes: x `[N, H, W, C]` or `[H, W, C]`, y `[N, OH, OW, C]`. What has its channels first is
    pooled along the wrong axes, unnoticed wherever a window fits: transpose it first.

    Args:
        kernel_size: an integer, or one for each axis.
        stride: likewise; None for kernel_size, windows side by side.
        padding: zeros around x, as in `conv2d`.
        ceil_mode: keep a last window that reaches over the end; it holds fewer numbers.
        count_include_pad: whether the zeros of the padding count in K.
        divisor_override: divide by this instead of K.

    Raises:
        ShapeError: a window is larger than x, or has nothing of x in it.
        OptionError: an option out of range.

    Example:
        >>> avg_pool2d(np.arange(16.0).reshape(1, 4, 4, 1), 2).ravel()
        array([ 2.5,  4.5, 10.5, 12.5])
    """
    return avg_pool(
        2, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def avg_pool3d(
    x: Any,
    kernel_size: Any,
    *,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    """The mean of each window of three axes; see `avg_pool2d`.

        y[n, o, c] = (1 / K) sum_k x[n, s o + k - p, c]

    Shapes: x `[N, D, H, W, C]` or `[D, H, W, C]`.

    Example:
        >>> avg_pool3d(np.arange(8.0).reshape(1, 2, 2, 2, 1), 2).item()
        3.5
    """
    return avg_pool(
        3, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def lp_pool(
    axes: int, x: Any, p: float, kernel: Any, stride: Any, padding: Any, ceil_mode: bool
) -> Any:
    what = f"lp_pool{axes}d"
    if not (isinstance(p, int | float) and 1 <= p < math.inf):
        raise OptionError(
            f"{what}(p={p!r})", "p is a number from 1 on",
            fix=f"max_pool{axes}d(abs(x), ...) is its limit" if p == math.inf else None,
        )  # fmt: skip
    w = Windows(what, x, axes, kernel, stride, padding, 1, ceil_mode)
    if p == 1:
        return w.back(SumPool(*w.settings)(abs(w.x)))
    return w.back((Norm((0,), False) if p == 2 else PNorm(float(p), 0))(w.taps(what)))


def lp_pool1d(
    x: Any, p: float, kernel_size: Any, *, stride: Any = None, padding: Any = 0,
    ceil_mode: bool = False,
) -> Any:  # fmt: skip
    """The p-norm of each window of one axis; see `lp_pool2d`.

        y[n, o, c] = (sum_k |x[n, s o + k, c]|^p)^(1/p)

    Example:
        >>> lp_pool1d(np.array([[3.0], [4.0]]), 2, 2).item()
        5.0
    """
    return lp_pool(1, x, p, kernel_size, stride, padding, ceil_mode)


def lp_pool2d(
    x: Any, p: float, kernel_size: Any, *, stride: Any = None, padding: Any = 0,
    ceil_mode: bool = False,
) -> Any:  # fmt: skip
    """The p-norm of each window of two axes: the sum at p = 1, towards the maximum for large p.

        y[n, o, c] = (sum_k |x[n, s o + k, c]|^p)^(1/p)

    Nothing overflows on the way: y is right wherever it fits into its dtype. A window of zeros has
    the gradient 0, and no second derivative (nan).

    Shapes: x `[N, H, W, C]` or `[H, W, C]`, y `[N, OH, OW, C]`.

    Args: p from 1 on; the others as in `avg_pool2d`.

    Raises:
        ShapeError: a window is larger than x.
        OptionError: an option out of range.

    Example:
        >>> lp_pool2d(np.array([[[3.0], [0.0]], [[0.0], [4.0]]]), 2, 2).item()
        5.0
    """
    return lp_pool(2, x, p, kernel_size, stride, padding, ceil_mode)


def lp_pool3d(
    x: Any, p: float, kernel_size: Any, *, stride: Any = None, padding: Any = 0,
    ceil_mode: bool = False,
) -> Any:  # fmt: skip
    """The p-norm of each window of three axes; see `lp_pool2d`.

        y[n, o, c] = (sum_k |x[n, s o + k, c]|^p)^(1/p)

    Example:
        >>> lp_pool3d(np.ones((2, 2, 2, 1)), 3, 2).item()
        2.0
    """
    return lp_pool(3, x, p, kernel_size, stride, padding, ceil_mode)


def max_unpool(
    axes: int, x: Any, indices: Any, kernel: Any, stride: Any, padding: Any, output_size: Any
) -> Any:
    what = f"max_unpool{axes}d"
    x, single = batched(what, x, axes)
    at = plain(indices)
    at = at[None] if single else at
    if at.dtype.kind not in "iu":
        raise DTypeError(
            f"{what}(x, indices)", "indices are integers, places in a plane",
            operands=[("x", x), ("indices", indices)],
            fix=f"y, indices = max_pool{axes}d(x, ..., return_indices=True)",
        )  # fmt: skip
    shape = tuple(shape_of(x))
    if at.shape != shape:
        raise ShapeError(
            f"{what}(x, indices)", "there is one index for each number of x",
            operands=[("x", x), ("indices", indices)],
        )  # fmt: skip
    k = per_axis(what, "kernel_size", kernel, axes)
    s = per_axis(what, "stride", kernel if stride is None else stride, axes)
    pads = pads_of(what, padding, shape[1:-1], k, s, (1,) * axes)
    if output_size is None:
        sizes = [(n - 1) * t - a - b + w for n, t, (a, b), w in zip(shape[1:-1], s, pads, k)]
    else:
        sizes = list(output_size)
    size = per_axis(what, "output_size", sizes, axes)
    n, c, plane = shape[0], shape[-1], math.prod(size)
    if at.size and not 0 <= at.min() <= at.max() < plane:
        raise ShapeError(
            f"{what}(x, indices)",
            f"indices go from {at.min()} to {at.max()}, and y has {plane} places a plane",
            operands=[("x", x), ("indices", indices)],
            fix="output_size=, the spatial shape of what was pooled",
        )
    rows = (np.arange(n)[:, None, None] * plane + at.reshape(n, -1, c)) * c + np.arange(c)
    rows = rows.ravel()
    values = x.reshape((-1,))
    last = np.unique(rows[::-1], return_index=True)[1]
    if len(last) < len(rows):  # of several for one place the last is written
        keep = np.sort(len(rows) - 1 - last)
        rows, values = rows[keep], values[keep]
    y = ScatterAdd((HOLE,), (n * plane * c,))(values, rows).reshape((n, *size, c))
    return y[0] if single else y


def max_unpool1d(
    x: Any, indices: Any, kernel_size: Any, *, stride: Any = None, padding: Any = 0,
    output_size: Any = None,
) -> Any:  # fmt: skip
    """Maxima back at their places in one axis; see `max_unpool2d`.

        y = 0;  y[n, indices[n, o, c], c] = x[n, o, c]

    Example:
        >>> y, at = max_pool1d(np.array([[1.0], [3.0], [2.0], [0.0]]), 2, return_indices=True)
        >>> max_unpool1d(y, at, 2).ravel()
        array([0., 3., 2., 0.])
    """
    return max_unpool(1, x, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(
    x: Any, indices: Any, kernel_size: Any, *, stride: Any = None, padding: Any = 0,
    output_size: Any = None,
) -> Any:  # fmt: skip
    """Maxima back at the places that `max_pool2d` returned, zeros elsewhere.

        y = 0;  y[n, indices[n, o, c], c] = x[n, o, c]

    Shapes: x and indices `[N, OH, OW, C]` or without N, y `[N, H, W, C]`.

    Args:
        indices: the row-major places from `return_indices=True`.
        kernel_size, stride, padding: those of the pooling.
        output_size: (H, W), where those leave it open.

    Raises:
        ShapeError: an index outside of y.

    Example:
        >>> y, at = max_pool2d(np.arange(16.0).reshape(1, 4, 4, 1), 2, return_indices=True)
        >>> max_unpool2d(y, at, 2)[0, :, :, 0]
        array([[ 0.,  0.,  0.,  0.],
               [ 0.,  5.,  0.,  7.],
               [ 0.,  0.,  0.,  0.],
               [ 0., 13.,  0., 15.]])
    """
    return max_unpool(2, x, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(
    x: Any, indices: Any, kernel_size: Any, *, stride: Any = None, padding: Any = 0,
    output_size: Any = None,
) -> Any:  # fmt: skip
    """Maxima back at their places in three axes; see `max_unpool2d`.

        y = 0;  y[n, indices[n, o, c], c] = x[n, o, c]

    Example:
        >>> y, at = max_pool3d(np.arange(8.0).reshape(2, 2, 2, 1), 2, return_indices=True)
        >>> max_unpool3d(y, at, 2).ravel()
        array([0., 0., 0., 0., 0., 0., 0., 7.])
    """
    return max_unpool(3, x, indices, kernel_size, stride, padding, output_size)
