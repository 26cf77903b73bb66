"""Layers that change the size of a picture, or cut it up. Channels come last."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import numpy as np

from wengert.errors import OptionError

from . import functional as F
from .functional.conv import batched, count, per_axis
from .functional.shape import MODES, scales
from .module import Module
from .options import Optioned
from .pooling import brief, shown

__all__ = [
    "Fold",
    "PixelShuffle",
    "PixelUnshuffle",
    "Unfold",
    "Upsample",
    "UpsamplingBilinear2d",
    "UpsamplingNearest2d",
]


def axes_of(value: Any) -> int:
    """How many axes an option is for, by the numbers that it has."""
    return len(value) if isinstance(value, tuple | list) else 1


def each(what: str, name: str, value: Any, least: int = 1) -> Any:
    """An integer for all axes, or a tuple with one for each."""
    value = value.tolist() if isinstance(value, np.ndarray) else value
    found = per_axis(what, name, value, axes_of(value), least)
    return found if isinstance(value, tuple | list) else found[0]


class Upsample(Optioned):
    """A picture of another size; see `F.interpolate`.

        y[o] = sum_i w(o, i) x[i],  axis by axis

    Shapes: x `[N, *S, C]`, channels last, with one to three axes of space; y `[N, *size, C]`.

    Args:
        size: the new lengths: one for all axes, or one for each.
        scale_factor: in place of size: so many places of y to one of x.
        mode: "nearest", "nearest-exact", "linear", "bilinear", "trilinear", "bicubic", "area".
        align_corners: whether the outermost places of x and y lie on each other.

    Raises:
        OptionError: both of size and scale_factor or neither; another mode.
        ShapeError: x has another number of axes.

    Example:
        >>> Upsample(scale_factor=2)(np.array([[[1.0], [3.0]]])).ravel()
        array([1., 1., 3., 3.])
        >>> Upsample(size=(8, 8), mode="bilinear")
        Upsample(size=(8, 8), mode='bilinear')
    """

    size: Any
    scale_factor: Any
    call = staticmethod(F.interpolate)
    options: ClassVar = {
        "size": None, "scale_factor": None, "mode": "nearest", "align_corners": False,
    }  # fmt: skip
    rules: ClassVar = {
        "mode": (
            lambda v: isinstance(v, str) and v in MODES,
            "mode is one of " + ", ".join(f'"{m}"' for m in MODES),
        ),
        "align_corners": (
            lambda v: v is None or isinstance(v, bool | np.bool_), "it is True or False",
        ),
    }  # fmt: skip

    def __init__(self, *values: Any, **named: Any) -> None:
        super().__init__(*values, **named)
        what = type(self).__name__
        if (self.size is None) == (self.scale_factor is None):
            raise OptionError(f"{what}(size, scale_factor)", "one of the two is given")
        if self.size is not None:
            self.size = each(what, "size", self.size)
        else:
            scales(what, self.scale_factor, axes_of(self.scale_factor))


class Upsampling(Upsample):
    """What layers share that enlarge pictures in one way."""

    options: ClassVar = {"size": None, "scale_factor": None}

    def forward(self, x: Any) -> Any:
        x, single = batched(type(self).__name__, x, 2)
        y = super().forward(x)
        return y[0] if single else y


class UpsamplingNearest2d(Upsampling):
    """`Upsample` of `[N, H, W, C]` with the nearest pixels.

        y[n, o, c] = x[n, floor(o S / size), c]

    Shapes: x `[N, H, W, C]`, channels last, y `[N, OH, OW, C]`.

    Args:
        size, scale_factor: as in `Upsample`.

    Example:
        >>> UpsamplingNearest2d(scale_factor=2)(np.ones((1, 2, 3, 1))).shape
        (1, 4, 6, 1)
    """

    call = staticmethod(F.interpolate)


class UpsamplingBilinear2d(Upsampling):
    """`Upsample` of `[N, H, W, C]`, bilinear, with corners on corners.

        y[n, o] = x at o (S - 1) / (size - 1), between its four pixels

    Shapes: x `[N, H, W, C]`, channels last, y `[N, OH, OW, C]`.

    Args:
        size, scale_factor: as in `Upsample`.

    Example:
        >>> UpsamplingBilinear2d(size=(1, 3))(np.array([[[[0.0], [2.0]]]])).ravel()
        array([0., 1., 2.])
    """

    call = staticmethod(partial(F.interpolate, mode="bilinear", align_corners=True))


class PixelShuffle(Module):
    """Channels moved into space: a picture r times as large; see `F.pixel_shuffle`.

        y[n, h r + i, w r + j, c] = x[n, h, w, c r^2 + i r + j]

    Shapes: x `[N, H, W, C r^2]`, channels last, y `[N, H r, W r, C]`.

    Args:
        upscale_factor: r.

    Raises:
        ShapeError: the channels are no multiple of r^2.

    Example:
        >>> PixelShuffle(2)(np.arange(4.0).reshape(1, 1, 1, 4))[0, :, :, 0]
        array([[0., 1.],
               [2., 3.]])

    References:
        W. Shi et al. (2016), arXiv:1609.05158.
    """

    def __init__(self, upscale_factor: int) -> None:
        self.upscale_factor = count("PixelShuffle", "upscale_factor", upscale_factor, 1)

    def forward(self, x: Any) -> Any:
        return F.pixel_shuffle(x, self.upscale_factor)

    def extra_repr(self) -> str:
        return str(self.upscale_factor)


class PixelUnshuffle(Module):
    """Space moved into channels: the inverse of `PixelShuffle`; see `F.pixel_unshuffle`.

        y[n, h, w, c r^2 + i r + j] = x[n, h r + i, w r + j, c]

    Shapes: x `[N, H r, W r, C]`, channels last, y `[N, H, W, C r^2]`.

    Args:
        downscale_factor: r.

    Raises:
        ShapeError: height or width is no multiple of r.

    Example:
        >>> PixelUnshuffle(2)(np.arange(4.0).reshape(1, 2, 2, 1)).ravel()
        array([0., 1., 2., 3.])
    """

    def __init__(self, downscale_factor: int) -> None:
        self.downscale_factor = count("PixelUnshuffle", "downscale_factor", downscale_factor, 1)

    def forward(self, x: Any) -> Any:
        return F.pixel_unshuffle(x, self.downscale_factor)

    def extra_repr(self) -> str:
        return str(self.downscale_factor)


class Unfold(Module):
    """The windows of a picture, one row each; see `F.unfold`.

        y[n, o, (k, c)] = x[n, s o + d k - p, c]

    Shapes: x `[N, *S, C]`, channels last, y `[N, L, K C]` with L windows of K places, where PyTorch
    has `[N, C K, L]`.

    Args:
        kernel_size, dilation, padding, stride: an integer, or one for each axis of space.

    Raises:
        OptionError: sizes that are none.
        ShapeError: a window is larger than x.

    Example:
        >>> Unfold(2)(np.arange(4.0).reshape(1, 4, 1))[0]
        array([[0., 1.],
               [1., 2.],
               [2., 3.]])
    """

    def __init__(
        self, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
    ) -> None:
        what = type(self).__name__
        self.kernel_size = each(what, "kernel_size", kernel_size)
        self.dilation = each(what, "dilation", dilation)
        self.padding = each(what, "padding", padding, 0)
        self.stride = each(what, "stride", stride)

    def _windows(self) -> dict[str, Any]:
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}

    def forward(self, x: Any) -> Any:
        return F.unfold(x, self.kernel_size, **self._windows())

    def extra_repr(self) -> str:
        usual = {"dilation": 1, "padding": 0, "stride": 1}
        return shown(self, [str(brief(self.kernel_size))], usual)


class Fold(Unfold):
    """Windows added up into a picture: the transpose of `Unfold`; see `F.fold`.

        y[n, s o + d k - p, c] += x[n, o, (k, c)]

    Shapes: x `[N, L, K C]`, where PyTorch has `[N, C K, L]`; y `[N, *output_size, C]`.

    Args:
        output_size: a length for each axis of space; one integer is for two axes.
        kernel_size, dilation, padding, stride: those of `Unfold`.

    Raises:
        OptionError: sizes that are none.
        ShapeError: x has not the windows of such a picture.

    Example:
        >>> Fold((4,), 2)(np.ones((1, 3, 2))).ravel()
        array([1., 2., 2., 1.])
    """

    def __init__(
        self,
        output_size: Any,
        kernel_size: Any,
        dilation: Any = 1,
        padding: Any = 0,
        stride: Any = 1,
    ) -> None:
        super().__init__(kernel_size, dilation, padding, stride)
        size = each("Fold", "output_size", output_size)
        self.output_size = size if isinstance(size, tuple) else (size, size)

    def forward(self, x: Any) -> Any:
        return F.fold(x, self.output_size, self.kernel_size, **self._windows())

    def extra_repr(self) -> str:
        return f"{self.output_size}, {super().extra_repr()}"
