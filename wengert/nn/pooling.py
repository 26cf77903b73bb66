"""Layers that pool over windows, and the one that joins axes. Channels come last."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from wengert.errors import OptionError, ShapeError
from wengert.types import shape_of

from . import functional as F
from .functional.conv import given, pads_of, per_axis
from .module import Module

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "Flatten",
    "GlobalAvgPool",
    "GlobalMaxPool",
    "LPPool1d",
    "LPPool2d",
    "LPPool3d",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "MaxUnpool1d",
    "MaxUnpool2d",
    "MaxUnpool3d",
]


def shown(layer: Any, first: list[str], usual: dict[str, Any]) -> str:
    """`3, stride=2`: the arguments that are not as they usually are."""
    parts = list(first)
    for name, value in usual.items():
        found = getattr(layer, name)
        if found != value:
            parts.append(f"{name}={brief(found)!r}")
    return ", ".join(parts)


def brief(v: Any) -> Any:
    same = isinstance(v, tuple) and len(set(v)) == 1 and not isinstance(v[0], tuple)
    return v[0] if same else v


class Pool(Module):
    """What layers with windows of a given size share."""

    axes: ClassVar[int]

    def _windows(self, kernel_size: Any, stride: Any, padding: Any, dilation: Any = 1) -> None:
        what = type(self).__name__
        self.kernel_size = per_axis(what, "kernel_size", kernel_size, self.axes)
        given = self.kernel_size if stride is None else stride
        self.stride = per_axis(what, "stride", given, self.axes)
        self.dilation = per_axis(what, "dilation", dilation, self.axes)
        if padding != "same":
            pads_of(what, padding, (), self.kernel_size, self.stride, self.dilation)
        self.padding = padding

    def extra_repr(self) -> str:
        usual = {
            "stride": self.kernel_size,
            "padding": 0,
            "dilation": (1,) * self.axes,
            "ceil_mode": False,
            "count_include_pad": True,
        }
        return shown(
            self,
            [str(brief(self.kernel_size))],
            {k: v for k, v in usual.items() if hasattr(self, k)},
        )


class Max(Pool):
    calls: ClassVar[Any] = (F.max_pool1d, F.max_pool2d, F.max_pool3d)

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        *,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> None:
        self._windows(kernel_size, stride, padding, dilation)
        self.ceil_mode, self.return_indices = ceil_mode, return_indices

    def forward(self, x: Any) -> Any:
        return self.calls[self.axes - 1](
            x, self.kernel_size, stride=self.stride, padding=self.padding, dilation=self.dilation,
            ceil_mode=self.ceil_mode, return_indices=self.return_indices,
        )  # fmt: skip


class Average(Pool):
    calls: ClassVar[Any] = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        *,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        self._windows(kernel_size, stride, padding)
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad
        self.divisor_override = divisor_override

    def forward(self, x: Any) -> Any:
        return self.calls[self.axes - 1](
            x, self.kernel_size, stride=self.stride, padding=self.padding,
            ceil_mode=self.ceil_mode, count_include_pad=self.count_include_pad,
            divisor_override=self.divisor_override,
        )  # fmt: skip


class LP(Pool):
    calls: ClassVar[Any] = (F.lp_pool1d, F.lp_pool2d, F.lp_pool3d)

    def __init__(
        self, p: float, kernel_size: Any, stride: Any = None, *, ceil_mode: bool = False
    ) -> None:
        self._windows(kernel_size, stride, 0)
        if isinstance(p, bool) or not isinstance(p, int | float | np.number) or not p > 0:
            raise OptionError(f"{type(self).__name__}(p={p!r})", "p is a number greater than 0")
        self.p, self.ceil_mode = p, ceil_mode

    def forward(self, x: Any) -> Any:
        return self.calls[self.axes - 1](
            x, self.p, self.kernel_size, stride=self.stride, ceil_mode=self.ceil_mode
        )

    def extra_repr(self) -> str:
        return f"{self.p}, {super().extra_repr()}"


class Adaptive(Module):
    axes: ClassVar[int]
    calls: ClassVar[Any]

    def __init__(self, output_size: Any) -> None:
        given = output_size if isinstance(output_size, tuple | list) else (output_size,) * self.axes
        per_axis(
            type(self).__name__, "output_size", [1 if n is None else n for n in given], self.axes
        )
        self.output_size = tuple(given)

    def forward(self, x: Any) -> Any:
        return self.calls[self.axes - 1](x, self.output_size)

    def extra_repr(self) -> str:
        return str(brief(self.output_size))


class AdaptiveAverage(Adaptive):
    calls = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)


class AdaptiveMax(Adaptive):
    calls = (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)

    def __init__(self, output_size: Any, *, return_indices: bool = False) -> None:
        super().__init__(output_size)
        self.return_indices = return_indices

    def forward(self, x: Any) -> Any:
        f = self.calls[self.axes - 1]
        return f(x, self.output_size, return_indices=self.return_indices)


class Unpool(Pool):
    calls: ClassVar[Any] = (F.max_unpool1d, F.max_unpool2d, F.max_unpool3d)

    def __init__(self, kernel_size: Any, stride: Any = None, *, padding: Any = 0) -> None:
        self._windows(kernel_size, stride, padding)

    def forward(self, x: Any, indices: Any, output_size: Any = None) -> Any:
        return self.calls[self.axes - 1](
            x, indices, self.kernel_size, stride=self.stride, padding=self.padding,
            output_size=output_size,
        )  # fmt: skip


class MaxPool1d(Max):
    """The largest number of each window of one axis; see `MaxPool2d`.

        y[n, o, c] = max_k x[n, s o + d k - p, c]

    Shapes: x `[N, W, C]`, y `[N, O, C]`.

    Example:
        >>> MaxPool1d(2)(np.ones((1, 4, 2))).shape
        (1, 2, 2)
    """

    axes = 1


class MaxPool2d(Max):
    """The largest number of each window of two axes.

        y[n, o, c] = max_k x[n, s o + d k - p, c]

    Shapes: x `[N, H, W, C]`, y `[N, OH, OW, C]`.

    Args:
        kernel_size, dilation: an integer, or one for each axis.
        stride: likewise; None for kernel_size, windows side by side.
        padding: around x; what lies there is never the largest.
        ceil_mode: keep a last window that reaches over the end.
        return_indices: return (y, places) for `MaxUnpool2d`.

    Raises:
        ShapeError: a window is larger than x, or has nothing of x in it.
        OptionError: an option out of range.

    Example:
        >>> MaxPool2d(2)(np.ones((1, 4, 4, 2))).shape
        (1, 2, 2, 2)
    """

    axes = 2


class MaxPool3d(Max):
    """The largest number of each window of three axes; see `MaxPool2d`.

        y[n, o, c] = max_k x[n, s o + d k - p, c]

    Shapes: x `[N, D, H, W, C]`, y `[N, OD, OH, OW, C]`.

    Example:
        >>> MaxPool3d(2)(np.ones((1, 4, 4, 4, 2))).shape
        (1, 2, 2, 2, 2)
    """

    axes = 3


class AvgPool1d(Average):
    """The mean of each window of one axis; see `AvgPool2d`.

        y[n, o, c] = (1 / K) sum_k x[n, s o + k - p, c]

    Shapes: x `[N, W, C]`, y `[N, O, C]`.

    Example:
        >>> AvgPool1d(2)(np.ones((1, 4, 2))).shape
        (1, 2, 2)
    """

    axes = 1


class AvgPool2d(Average):
    """The mean of each window of two axes.

        y[n, o, c] = (1 / K) sum_k x[n, s o + k - p, c]

    Shapes: x `[N, H, W, C]`, y `[N, OH, OW, C]`.

    Args:
        kernel_size, stride, padding, ceil_mode: as in `MaxPool2d`, with zeros in the padding.
        count_include_pad: whether those zeros count in K.
        divisor_override: divide by this instead of K.

    Raises:
        ShapeError: a window is larger than x, or has nothing of x in it.
        OptionError: an option out of range.

    Example:
        >>> AvgPool2d(2)(np.ones((1, 4, 4, 2))).shape
        (1, 2, 2, 2)
    """

    axes = 2


class AvgPool3d(Average):
    """The mean of each window of three axes; see `AvgPool2d`.

        y[n, o, c] = (1 / K) sum_k x[n, s o + k - p, c]

    Shapes: x `[N, D, H, W, C]`, y `[N, OD, OH, OW, C]`.

    Example:
        >>> AvgPool3d(2)(np.ones((1, 4, 4, 4, 2))).shape
        (1, 2, 2, 2, 2)
    """

    axes = 3


class LPPool1d(LP):
    """The p-norm of each window of one axis.

        y[n, o, c] = (sum_k |x[n, s o + k, c]|^p)^(1/p)

    Shapes: x `[N, W, C]`, y `[N, O, C]`.

    Example:
        >>> LPPool1d(2, 2)(np.ones((1, 4, 2))).shape
        (1, 2, 2)
    """

    axes = 1


class LPPool2d(LP):
    """The p-norm of each window of two axes.

        y[n, o, c] = (sum_k |x[n, s o + k, c]|^p)^(1/p)

    Shapes: x `[N, H, W, C]`, y `[N, OH, OW, C]`.

    Example:
        >>> LPPool2d(2, 2)(np.ones((1, 4, 4, 2))).shape
        (1, 2, 2, 2)
    """

    axes = 2


class LPPool3d(LP):
    """The p-norm of each window of three axes.

        y[n, o, c] = (sum_k |x[n, s o + k, c]|^p)^(1/p)

    Shapes: x `[N, D, H, W, C]`, y `[N, OD, OH, OW, C]`.

    Example:
        >>> LPPool3d(2, 2)(np.ones((1, 4, 4, 4, 2))).shape
        (1, 2, 2, 2, 2)
    """

    axes = 3


class AdaptiveAvgPool1d(AdaptiveAverage):
    """The mean of each of output_size windows that share x out along one axis.

        y[n, i, c] = mean of x[n, floor(i S / O) : ceil((i + 1) S / O), c], for each axis

    Shapes: x `[N, W, C]`, y `[N, O, C]`.

    Args:
        output_size: an integer, or one for each axis; None keeps the size of x.

    Example:
        >>> AdaptiveAvgPool1d(2)(np.ones((1, 5, 2))).shape
        (1, 2, 2)
    """

    axes = 1


class AdaptiveAvgPool2d(AdaptiveAverage):
    """The mean of each of output_size windows that share x out along two axes.

        y[n, i, c] = mean of x[n, floor(i S / O) : ceil((i + 1) S / O), c], for each axis

    Shapes: x `[N, H, W, C]`, y `[N, OH, OW, C]`.

    Args:
        output_size: an integer, or one for each axis; None keeps the size of x.

    Example:
        >>> AdaptiveAvgPool2d(2)(np.ones((1, 5, 5, 2))).shape
        (1, 2, 2, 2)
    """

    axes = 2


class AdaptiveAvgPool3d(AdaptiveAverage):
    """The mean of each of output_size windows that share x out along three axes.

        y[n, i, c] = mean of x[n, floor(i S / O) : ceil((i + 1) S / O), c], for each axis

    Shapes: x `[N, D, H, W, C]`, y `[N, OD, OH, OW, C]`.

    Args:
        output_size: an integer, or one for each axis; None keeps the size of x.

    Example:
        >>> AdaptiveAvgPool3d(2)(np.ones((1, 5, 5, 5, 2))).shape
        (1, 2, 2, 2, 2)
    """

    axes = 3


class AdaptiveMaxPool1d(AdaptiveMax):
    """The largest number of each of output_size windows that share x out along one axis.

        y[n, i, c] = max of x[n, floor(i S / O) : ceil((i + 1) S / O), c], for each axis

    Shapes: x `[N, W, C]`, y `[N, O, C]`.

    Args:
        output_size: an integer, or one for each axis; None keeps the size of x.

    Example:
        >>> AdaptiveMaxPool1d(2)(np.ones((1, 5, 2))).shape
        (1, 2, 2)
    """

    axes = 1


class AdaptiveMaxPool2d(AdaptiveMax):
    """The largest number of each of output_size windows that share x out along two axes.

        y[n, i, c] = max of x[n, floor(i S / O) : ceil((i + 1) S / O), c], for each axis

    Shapes: x `[N, H, W, C]`, y `[N, OH, OW, C]`.

    Args:
        output_size: an integer, or one for each axis; None keeps the size of x.

    Example:
        >>> AdaptiveMaxPool2d(2)(np.ones((1, 5, 5, 2))).shape
        (1, 2, 2, 2)
    """

    axes = 2


class AdaptiveMaxPool3d(AdaptiveMax):
    """The largest number of each of output_size windows that share x out along three axes.

        y[n, i, c] = max of x[n, floor(i S / O) : ceil((i + 1) S / O), c], for each axis

    Shapes: x `[N, D, H, W, C]`, y `[N, OD, OH, OW, C]`.

    Args:
        output_size: an integer, or one for each axis; None keeps the size of x.

    Example:
        >>> AdaptiveMaxPool3d(2)(np.ones((1, 5, 5, 5, 2))).shape
        (1, 2, 2, 2, 2)
    """

    axes = 3


class MaxUnpool1d(Unpool):
    """Maxima back at the places that `MaxPool1d(return_indices=True)` returned.

        y = 0;  y[n, indices[n, o, c], c] = x[n, o, c]

    Shapes: x and indices `[N, O, C]`, y `[N, W, C]`.

    Example:
        >>> y, at = MaxPool1d(2, return_indices=True)(np.arange(4.0).reshape(1, 4, 1))
        >>> MaxUnpool1d(2)(y, at).shape
        (1, 4, 1)
    """

    axes = 1


class MaxUnpool2d(Unpool):
    """Maxima back at the places that `MaxPool2d(return_indices=True)` returned.

        y = 0;  y[n, indices[n, o, c], c] = x[n, o, c]

    Shapes: x and indices `[N, OH, OW, C]`, y `[N, H, W, C]`.

    Example:
        >>> y, at = MaxPool2d(2, return_indices=True)(np.arange(16.0).reshape(1, 4, 4, 1))
        >>> MaxUnpool2d(2)(y, at).shape
        (1, 4, 4, 1)
    """

    axes = 2


class MaxUnpool3d(Unpool):
    """Maxima back at the places that `MaxPool3d(return_indices=True)` returned.

        y = 0;  y[n, indices[n, o, c], c] = x[n, o, c]

    Shapes: x and indices `[N, OD, OH, OW, C]`, y `[N, D, H, W, C]`.

    Example:
        >>> y, at = MaxPool3d(2, return_indices=True)(np.arange(64.0).reshape(1, 4, 4, 4, 1))
        >>> MaxUnpool3d(2)(y, at).shape
        (1, 4, 4, 4, 1)
    """

    axes = 3


class GlobalAvgPool(Module):
    """The mean over all places:  y[n, c] = mean_i x[n, i, c].

    Example:
        >>> GlobalAvgPool()(np.ones((2, 5, 5, 3))).shape
        (2, 3)
    """

    def forward(self, x: Any) -> Any:
        return F.global_avg_pool(x)


class GlobalMaxPool(Module):
    """The maximum over all places:  y[n, c] = max_i x[n, i, c].

    Example:
        >>> GlobalMaxPool()(np.ones((2, 5, 5, 3))).shape
        (2, 3)
    """

    def forward(self, x: Any) -> Any:
        return F.global_max_pool(x)


class Flatten(Module):
    """Join axes: y[n, i] has the numbers of x[n, ..] in row-major order.

    Channels come last, so a row has all channels of its first place first: weights of a linear
    layer behind it are not those of a network with channels first.

    Args:
        start, end: the first and the last axis to join.

    Raises:
        OptionError: the last before the first.

    Example:
        >>> Flatten()(np.ones((2, 5, 5, 3))).shape
        (2, 75)
    """

    def __init__(self, start: int = 1, end: int = -1) -> None:
        for name, axis in (("start", start), ("end", end)):
            if isinstance(axis, bool) or not isinstance(axis, int | np.integer):
                raise OptionError(f"Flatten({name}={axis!r})", f"{name} is the number of an axis")
        if (start < 0) == (end < 0) and end < start:
            raise OptionError(f"Flatten({start}, {end})", "the last axis comes after the first")
        self.start, self.end = start, end

    def forward(self, x: Any) -> Any:
        x = given("Flatten", x)
        shape = shape_of(x)
        if not all(-len(shape) <= axis < len(shape) for axis in (self.start, self.end)):
            raise ShapeError(
                f"{self!r}(x)", f"x has the axes {self.start} and {self.end}", operands=[("x", x)]
            )
        start, end = self.start % len(shape), self.end % len(shape)
        return x.reshape((*shape[:start], int(np.prod(shape[start : end + 1])), *shape[end + 1 :]))

    def extra_repr(self) -> str:
        return shown(self, [], {"start": 1, "end": -1})
