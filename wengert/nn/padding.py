"""Layers that put numbers around a picture. Channels come last: they and the batch stay as is."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from wengert.errors import OptionError

from . import functional as F
from .functional.conv import batched
from .module import Module
from .options import number
from .pooling import brief

__all__ = [
    "CircularPad1d",
    "CircularPad2d",
    "CircularPad3d",
    "ConstantPad1d",
    "ConstantPad2d",
    "ConstantPad3d",
    "ReflectionPad1d",
    "ReflectionPad2d",
    "ReflectionPad3d",
    "ReplicationPad1d",
    "ReplicationPad2d",
    "ReplicationPad3d",
    "ZeroPad1d",
    "ZeroPad2d",
    "ZeroPad3d",
]

Pairs = tuple[tuple[int, int], ...]


def pairs_of(what: str, padding: Any, axes: int) -> Pairs:
    """(before, after) for each axis, out of one number, pairs, or PyTorch's numbers in a row."""
    given = padding.tolist() if isinstance(padding, np.ndarray | np.generic) else padding
    each = list(given) if isinstance(given, tuple | list) else [(given, given)] * axes
    if len(each) == 2 * axes and not any(isinstance(p, tuple | list) for p in each):
        each = list(zip(each[-2::-2], each[::-2]))
    if len(each) == axes and all(isinstance(p, tuple | list) and len(p) == 2 for p in each):
        numbers = [n for p in each for n in p]
        if all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in numbers):
            return tuple((int(a), int(b)) for a, b in each)
    raise OptionError(
        f"{what}(padding={padding!r})",
        f"padding is a whole number, {axes} pair{'s' * (axes > 1)} (before, after) in the order of "
        f"the axes, or {2 * axes} numbers in a row, those of the last axis first",
    )


class Padding(Module):
    """What layers share that pad all axes of space."""

    axes: ClassVar[int]
    mode: ClassVar[str]
    value: float = 0.0

    def __init__(self, padding: Any) -> None:
        self.padding = pairs_of(type(self).__name__, padding, self.axes)

    def forward(self, x: Any) -> Any:
        x, single = batched(type(self).__name__, x, self.axes)
        y = F.pad(x, self.padding, self.mode, self.value)
        return y[0] if single else y

    def extra_repr(self) -> str:
        same = brief(tuple(n for pair in self.padding for n in pair))
        return str(self.padding if isinstance(same, tuple) else same)


class Constant(Padding):
    """What ConstantPad1d, 2d and 3d share."""

    mode = "constant"

    def __init__(self, padding: Any, value: float) -> None:
        super().__init__(padding)
        if not number(value):
            raise OptionError(f"{type(self).__name__}(value={value!r})", "value is a number")
        self.value = value

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, {self.value}"


class ZeroPad1d(Padding):
    """Zeros around pictures of one axis; see `ZeroPad2d`.

        y[n, o, c] = x[n, o - before, c], and 0 outside x

    Shapes: x `[N, W, C]`, channels last, or `[W, C]` for one sample; y likewise.

    Example:
        >>> ZeroPad1d((2, 1))(np.arange(1.0, 4.0).reshape(1, 3, 1)).ravel()
        array([0., 0., 1., 2., 3., 0.])
    """

    axes = 1
    mode = "constant"


class ZeroPad2d(Padding):
    """Zeros around pictures of two axes.

        y[n, o, c] = x[n, o - before, c], and 0 outside x

    Shapes: x `[N, H, W, C]`, channels last, or `[H, W, C]` for one sample; y likewise.

    Args:
        padding: a whole number for all sides; a pair (before, after) for each axis, in order; or
            PyTorch's numbers in a row, those of the last axis first, as (left, right, top, bottom).
            A negative one cuts off.

    Raises:
        ShapeError: x has another number of axes.
        OptionError: padding of another form.

    Example:
        >>> ZeroPad2d(1)(np.arange(1.0, 5.0).reshape(1, 2, 2, 1))[0, :, :, 0]
        array([[0., 0., 0., 0.],
               [0., 1., 2., 0.],
               [0., 3., 4., 0.],
               [0., 0., 0., 0.]])
        >>> ZeroPad2d((1, 0, 2, 3))
        ZeroPad2d(((2, 3), (1, 0)))
    """

    axes = 2
    mode = "constant"


class ZeroPad3d(Padding):
    """Zeros around pictures of three axes; see `ZeroPad2d`.

        y[n, o, c] = x[n, o - before, c], and 0 outside x

    Shapes: x `[N, D, H, W, C]`, channels last, or `[D, H, W, C]` for one sample; y likewise.

    Example:
        >>> ZeroPad3d(1)(np.ones((1, 2, 2, 2, 1))).shape
        (1, 4, 4, 4, 1)
    """

    axes = 3
    mode = "constant"


class ConstantPad1d(Constant):
    """A number around pictures of one axis; see `ConstantPad2d`.

        y[n, o, c] = x[n, o - before, c], and value outside x

    Shapes: x `[N, W, C]`, channels last, or `[W, C]` for one sample; y likewise.

    Example:
        >>> ConstantPad1d((2, 1), 0.5)(np.arange(1.0, 4.0).reshape(1, 3, 1)).ravel()
        array([0.5, 0.5, 1. , 2. , 3. , 0.5])
    """

    axes = 1


class ConstantPad2d(Constant):
    """A number around pictures of two axes.

        y[n, o, c] = x[n, o - before, c], and value outside x

    Shapes: x `[N, H, W, C]`, channels last, or `[H, W, C]` for one sample; y likewise.

    Args:
        padding: a whole number for all sides; a pair (before, after) for each axis, in order; or
            PyTorch's numbers in a row, those of the last axis first, as (left, right, top, bottom).
            A negative one cuts off.
        value: the number.

    Raises:
        ShapeError: x has another number of axes.
        OptionError: padding of another form.

    Example:
        >>> ConstantPad2d(1, 0.5)(np.arange(1.0, 5.0).reshape(1, 2, 2, 1))[0, :, :, 0]
        array([[0.5, 0.5, 0.5, 0.5],
               [0.5, 1. , 2. , 0.5],
               [0.5, 3. , 4. , 0.5],
               [0.5, 0.5, 0.5, 0.5]])
        >>> ConstantPad2d((1, 0, 2, 3), 0.5)
        ConstantPad2d(((2, 3), (1, 0)), 0.5)
    """

    axes = 2


class ConstantPad3d(Constant):
    """A number around pictures of three axes; see `ConstantPad2d`.

        y[n, o, c] = x[n, o - before, c], and value outside x

    Shapes: x `[N, D, H, W, C]`, channels last, or `[D, H, W, C]` for one sample; y likewise.

    Example:
        >>> ConstantPad3d(1, 0.5)(np.ones((1, 2, 2, 2, 1))).shape
        (1, 4, 4, 4, 1)
    """

    axes = 3


class ReflectionPad1d(Padding):
    """Each picture mirrored at its edges, over one axis; see `ReflectionPad2d`.

        y[n, o, c] = x[n, |o - before|, c] in front, likewise behind: an edge comes once

    Shapes: x `[N, W, C]`, channels last, or `[W, C]` for one sample; y likewise.

    Example:
        >>> ReflectionPad1d((2, 1))(np.arange(1.0, 4.0).reshape(1, 3, 1)).ravel()
        array([3., 2., 1., 2., 3., 2.])
    """

    axes = 1
    mode = "reflect"


class ReflectionPad2d(Padding):
    """Each picture mirrored at its edges, over two axes.

        y[n, o, c] = x[n, |o - before|, c] in front, likewise behind: an edge comes once

    Shapes: x `[N, H, W, C]`, channels last, or `[H, W, C]` for one sample; y likewise.

    Args:
        padding: a whole number for all sides; a pair (before, after) for each axis, in order; or
            PyTorch's numbers in a row, those of the last axis first, as (left, right, top, bottom).
            A negative one cuts off.

    Raises:
        ShapeError: x has another number of axes, or too few places to mirror.
        OptionError: padding of another form.

    Example:
        >>> ReflectionPad2d(1)(np.arange(1.0, 5.0).reshape(1, 2, 2, 1))[0, :, :, 0]
        array([[4., 3., 4., 3.],
               [2., 1., 2., 1.],
               [4., 3., 4., 3.],
               [2., 1., 2., 1.]])
        >>> ReflectionPad2d((1, 0, 2, 3))
        ReflectionPad2d(((2, 3), (1, 0)))
    """

    axes = 2
    mode = "reflect"


class ReflectionPad3d(Padding):
    """Each picture mirrored at its edges, over three axes; see `ReflectionPad2d`.

        y[n, o, c] = x[n, |o - before|, c] in front, likewise behind: an edge comes once

    Shapes: x `[N, D, H, W, C]`, channels last, or `[D, H, W, C]` for one sample; y likewise.

    Example:
        >>> ReflectionPad3d(1)(np.ones((1, 2, 2, 2, 1))).shape
        (1, 4, 4, 4, 1)
    """

    axes = 3
    mode = "reflect"


class ReplicationPad1d(Padding):
    """The edges of each picture repeated, over one axis; see `ReplicationPad2d`.

        y[n, o, c] = x[n, min(max(o - before, 0), S - 1), c]

    Shapes: x `[N, W, C]`, channels last, or `[W, C]` for one sample; y likewise.

    Example:
        >>> ReplicationPad1d((2, 1))(np.arange(1.0, 4.0).reshape(1, 3, 1)).ravel()
        array([1., 1., 1., 2., 3., 3.])
    """

    axes = 1
    mode = "replicate"


class ReplicationPad2d(Padding):
    """The edges of each picture repeated, over two axes.

        y[n, o, c] = x[n, min(max(o - before, 0), S - 1), c]

    Shapes: x `[N, H, W, C]`, channels last, or `[H, W, C]` for one sample; y likewise.

    Args:
        padding: a whole number for all sides; a pair (before, after) for each axis, in order; or
            PyTorch's numbers in a row, those of the last axis first, as (left, right, top, bottom).
            A negative one cuts off.

    Raises:
        ShapeError: x has another number of axes.
        OptionError: padding of another form.

    Example:
        >>> ReplicationPad2d(1)(np.arange(1.0, 5.0).reshape(1, 2, 2, 1))[0, :, :, 0]
        array([[1., 1., 2., 2.],
               [1., 1., 2., 2.],
               [3., 3., 4., 4.],
               [3., 3., 4., 4.]])
        >>> ReplicationPad2d((1, 0, 2, 3))
        ReplicationPad2d(((2, 3), (1, 0)))
    """

    axes = 2
    mode = "replicate"


class ReplicationPad3d(Padding):
    """The edges of each picture repeated, over three axes; see `ReplicationPad2d`.

        y[n, o, c] = x[n, min(max(o - before, 0), S - 1), c]

    Shapes: x `[N, D, H, W, C]`, channels last, or `[D, H, W, C]` for one sample; y likewise.

    Example:
        >>> ReplicationPad3d(1)(np.ones((1, 2, 2, 2, 1))).shape
        (1, 4, 4, 4, 1)
    """

    axes = 3
    mode = "replicate"


class CircularPad1d(Padding):
    """Each picture goes on at its other side, over one axis; see `CircularPad2d`.

        y[n, o, c] = x[n, (o - before) mod S, c]

    Shapes: x `[N, W, C]`, channels last, or `[W, C]` for one sample; y likewise.

    Example:
        >>> CircularPad1d((2, 1))(np.arange(1.0, 4.0).reshape(1, 3, 1)).ravel()
        array([2., 3., 1., 2., 3., 1.])
    """

    axes = 1
    mode = "circular"


class CircularPad2d(Padding):
    """Each picture goes on at its other side, over two axes.

        y[n, o, c] = x[n, (o - before) mod S, c]

    Shapes: x `[N, H, W, C]`, channels last, or `[H, W, C]` for one sample; y likewise.

    Args:
        padding: a whole number for all sides; a pair (before, after) for each axis, in order; or
            PyTorch's numbers in a row, those of the last axis first, as (left, right, top, bottom).
            A negative one cuts off.

    Raises:
        ShapeError: x has another number of axes, or fewer places than are asked for.
        OptionError: padding of another form.

    Example:
        >>> CircularPad2d(1)(np.arange(1.0, 5.0).reshape(1, 2, 2, 1))[0, :, :, 0]
        array([[4., 3., 4., 3.],
               [2., 1., 2., 1.],
               [4., 3., 4., 3.],
               [2., 1., 2., 1.]])
        >>> CircularPad2d((1, 0, 2, 3))
        CircularPad2d(((2, 3), (1, 0)))
    """

    axes = 2
    mode = "circular"


class CircularPad3d(Padding):
    """Each picture goes on at its other side, over three axes; see `CircularPad2d`.

        y[n, o, c] = x[n, (o - before) mod S, c]

    Shapes: x `[N, D, H, W, C]`, channels last, or `[D, H, W, C]` for one sample; y likewise.

    Example:
        >>> CircularPad3d(1)(np.ones((1, 2, 2, 2, 1))).shape
        (1, 4, 4, 4, 1)
    """

    axes = 3
    mode = "circular"
