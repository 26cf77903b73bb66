"""Layers that convolve: channels last, weights `[*K, C / groups, M]`."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from wengert.errors import OptionError, ShapeError
from wengert.types import shape_of

from . import functional as F
from . import init as initial
from .functional.conv import batched, given, pads_of, per_axis
from .module import Module, Parameter

__all__ = [
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
]

MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
CALLS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
BACK = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


class Convolution(Module):
    """What the six layers share: their weights, what they are called, and what they refuse."""

    axes: ClassVar[int]

    def __init__(
        self,
        n_in: int,
        n_out: int,
        kernel_size: Any,
        *,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        init: str = "he",
        rng: np.random.Generator | int | None = None,
        dtype: Any = np.float32,
        layout: str | None = None,
    ) -> None:
        what, axes = type(self).__name__, self.axes
        self._last(layout)
        (self.n_in,) = per_axis(what, "n_in", n_in, 1)
        (self.n_out,) = per_axis(what, "n_out", n_out, 1)
        self.kernel_size = per_axis(what, "kernel_size", kernel_size, axes)
        self.stride = per_axis(what, "stride", stride, axes)
        self.dilation = per_axis(what, "dilation", dilation, axes)
        (self.groups,) = per_axis(what, "groups", groups, 1)
        if self.n_in % self.groups or self.n_out % self.groups:
            raise OptionError(
                f"{what}({n_in}, {n_out}, groups={self.groups})",
                "both numbers of channels are multiples of groups",
                fix=f"groups={math.gcd(self.n_in, self.n_out, self.groups)}",
            )
        padding = padding.tolist() if isinstance(padding, np.ndarray) else padding
        if padding != "same":
            pads_of(what, padding, (), self.kernel_size, self.stride, self.dilation)
        self.padding = padding
        if not isinstance(padding_mode, str) or padding_mode not in MODES:
            raise OptionError(
                f"{what}(padding_mode={padding_mode!r})",
                f"padding_mode is one of {', '.join(MODES)}",
            )
        self.padding_mode = padding_mode
        self.weight = Parameter(self._draw(init, rng).astype(dtype))
        self.bias = Parameter(np.zeros(self.n_out, dtype)) if bias else None

    def _draw(self, init: str, rng: Any) -> Any:
        """Each y sums over a patch, and each x reaches one: their sizes are the fans."""
        a, b, k = self.n_in // self.groups, self.n_out // self.groups, math.prod(self.kernel_size)
        return draw(init, rng, (k * a, k * b), (*self.kernel_size, a, self.n_out))

    def forward(self, x: Any) -> Any:
        x = self._channels(x)
        padding = self.padding
        if self.padding_mode != "zeros":
            size = shape_of(x)[-1 - self.axes : -1]
            pads = pads_of(
                type(self).__name__, padding, size, self.kernel_size, self.stride, self.dilation
            )
            lead = ((0, 0),) * (len(shape_of(x)) - self.axes - 1)
            x = np.pad(x, (*lead, *pads, (0, 0)), mode=MODES[self.padding_mode])  # type: ignore[call-overload]
            padding = 0
        return CALLS[self.axes](
            x, self.weight, self.bias,
            stride=self.stride, padding=padding, dilation=self.dilation, groups=self.groups,
        )  # fmt: skip

    def _last(self, layout: str | None) -> None:
        spatial = ("D", "H", "W")[3 - self.axes :]
        last, first = f"N{''.join(spatial)}C", f"NC{''.join(spatial)}"
        if layout in (None, last):
            return
        order = (0, *range(2, self.axes + 2), 1)
        raise OptionError(
            f"{type(self).__name__}(layout={layout!r})",
            f"channels come last here: {last} is the one layout",
            fix=f"x.transpose{order} for an x that is {first}" if layout == first else None,
        )

    def _channels(self, x: Any) -> Any:
        x = given(type(self).__name__, x)
        shape = shape_of(x)
        batched(repr(self), x, self.axes)
        if shape[-1] == self.n_in:
            return x
        fix: str | None = f"{type(self).__name__}({shape[-1]}, {self.n_out}, ...) for this x"
        first = len(shape) - self.axes - 1
        if shape[first] == self.n_in:
            order = (*range(first), *range(first + 1, len(shape)), first)
            fix = f"channels come last: {{x}}.transpose{order}"
        raise ShapeError(
            f"{self!r}(x)",
            f"the last axis of x, its channels, has the length {self.n_in}",
            operands=[
                ("x", x, f"axis -1 is {shape[-1]}"),
                (self.weight.name or "weight", self.weight),
            ],
            fix=fix,
        )

    def extra_repr(self) -> str:
        def short(v: Any) -> Any:
            same = isinstance(v, tuple) and len(set(v)) == 1 and not isinstance(v[0], tuple)
            return v[0] if same else v

        parts = [str(self.n_in), str(self.n_out), str(short(self.kernel_size))]
        for name, usual in (
            ("stride", 1),
            ("padding", 0),
            ("output_padding", 0),
            ("dilation", 1),
            ("groups", 1),
            ("padding_mode", "zeros"),
        ):
            value = short(getattr(self, name, usual))
            if value != usual:
                parts.append(f"{name}={value!r}")
        return ", ".join(parts + ([] if self.bias is not None else ["bias=False"]))


def draw(rule: str, rng: Any, fans: tuple[int, int], shape: tuple[int, ...]) -> Any:
    """Weights of a shape by the name of a rule, with the spread that belongs to their fans."""
    found = math.prod(shape[:-1]), shape[-1]
    flat = initial.draw(rule, rng, *found)
    if rule == "xavier":
        return (flat * math.sqrt(sum(found) / sum(fans))).reshape(shape)
    return (flat * math.sqrt(found[0] / fans[0])).reshape(shape)


class Conv1d(Convolution):
    """Convolution over one axis; see `Conv2d`.

        y[n, o, m] = bias[m] + sum_{k, c} x[n, s o + d k - p, c] weight[k, c, m]

    Shapes: x `[N, W, n_in]` or `[W, n_in]`, weight `[K, n_in / groups, n_out]`,
    y `[N, O, n_out]`.

    Example:
        >>> Conv1d(4, 8, 3, rng=0)(np.ones((2, 10, 4), np.float32)).shape
        (2, 8, 8)
    """

    axes = 1


class Conv2d(Convolution):
    """Convolution over two axes.

        y[n, o, m] = bias[m] + sum_{k, c} x[n, s o + d k - p, c] weight[k, c, m]

    Shapes: x `[N, H, W, n_in]` or `[H, W, n_in]`, weight `[KH, KW, n_in / groups, n_out]`,
    bias `[n_out]`, y `[N, OH, OW, n_out]`. Channels come last.

    Args:
        n_in, n_out: channels in and out.
        kernel_size, stride, dilation: an integer, or one for each axis.
        padding: around x: an integer, one for each axis, a pair (before, after) for each axis,
            "valid" for none, or "same" for ceil(size / stride) places.
        groups: the channels are cut into so many groups with weights of their own; n_in of them
            make it depthwise.
        bias: whether to add one; it starts at 0.
        padding_mode: what stands around x: "zeros", "reflect", "replicate" or "circular".
        init: `he` before relu, `xavier` before tanh, sigmoid and the output.
        rng: a generator, or a seed for one; None draws anew each time.
        dtype: of weight and bias.
        layout: "NHWC", the only one, for those who want to say so.

    Raises:
        ShapeError: x has not n_in channels in its last axis, or is smaller than the kernel.
        OptionError: an option out of range.
        UnknownNameError: an `init` that does not exist.

    Example:
        >>> layer = Conv2d(3, 16, 3, padding="same", rng=0)
        >>> layer
        Conv2d(3, 16, 3, padding='same')
        >>> layer(np.ones((8, 32, 32, 3), np.float32)).shape
        (8, 32, 32, 16)
    """

    axes = 2


class Conv3d(Convolution):
    """Convolution over three axes; see `Conv2d`.

        y[n, o, m] = bias[m] + sum_{k, c} x[n, s o + d k - p, c] weight[k, c, m]

    Shapes: x `[N, D, H, W, n_in]`, weight `[KD, KH, KW, n_in / groups, n_out]`,
    y `[N, OD, OH, OW, n_out]`.

    Example:
        >>> Conv3d(1, 2, 3, padding=1, rng=0)(np.ones((1, 4, 4, 4, 1), np.float32)).shape
        (1, 4, 4, 4, 2)
    """

    axes = 3


class Transposed(Convolution):
    """What the transposed layers share. Zeros are the one way to pad what is not x but y."""

    def __init__(
        self,
        n_in: int,
        n_out: int,
        kernel_size: Any,
        *,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        init: str = "he",
        rng: np.random.Generator | int | None = None,
        dtype: Any = np.float32,
        layout: str | None = None,
    ) -> None:
        self.output_padding = per_axis(
            type(self).__name__, "output_padding", output_padding, self.axes, 0
        )
        super().__init__(
            n_in, n_out, kernel_size, stride=stride, padding=padding, dilation=dilation,
            groups=groups, bias=bias, init=init, rng=rng, dtype=dtype, layout=layout,
        )  # fmt: skip

    def _draw(self, init: str, rng: Any) -> Any:
        """Each x reaches a patch of y; a stride leaves each y fewer of them to sum."""
        a, b, k = self.n_in // self.groups, self.n_out // self.groups, math.prod(self.kernel_size)
        met = math.prod(-(-n // s) for n, s in zip(self.kernel_size, self.stride))
        return draw(init, rng, (met * a, k * b), (*self.kernel_size, b, self.n_in))

    def forward(self, x: Any) -> Any:
        x = self._channels(x)
        return BACK[self.axes](
            x, self.weight, self.bias, stride=self.stride, padding=self.padding,
            output_padding=self.output_padding, dilation=self.dilation, groups=self.groups,
        )  # fmt: skip


class ConvTranspose1d(Transposed):
    """The transpose of a convolution over one axis; see `ConvTranspose2d`.

        y[n, i, c] = bias[c] + sum_{o, k, m : s o + d k - p = i} x[n, o, m] weight[k, c, m]

    Shapes: x `[N, W, n_in]`, weight `[K, n_out / groups, n_in]`, y `[N, O, n_out]`.

    Example:
        >>> ConvTranspose1d(4, 8, 2, stride=2, rng=0)(np.ones((2, 5, 4), np.float32)).shape
        (2, 10, 8)
    """

    axes = 1


class ConvTranspose2d(Transposed):
    """The transpose of a convolution over two axes: what its gradient does, as a layer.

        y[n, i, c] = bias[c] + sum_{o, k, m : s o + d k - p = i} x[n, o, m] weight[k, c, m]

    Shapes: x `[N, H, W, n_in]`, weight `[KH, KW, n_out / groups, n_in]`: that of a convolution from
    n_out channels to n_in. bias `[n_out]`, y `[N, OH, OW, n_out]` with
    OH = (H - 1) s - 2 p + d (KH - 1) + 1 + output_padding.

    Args:
        output_padding: rows and columns added at the end, where a stride leaves the size open.
        others: those of `Conv2d`; padding takes away from y.

    Raises:
        ShapeError: x has not n_in channels in its last axis.
        OptionError: an option out of range.

    Example:
        >>> layer = ConvTranspose2d(8, 3, 3, stride=2, padding=1, output_padding=1, rng=0)
        >>> layer
        ConvTranspose2d(8, 3, 3, stride=2, padding=1, output_padding=1)
        >>> layer(np.ones((1, 7, 7, 8), np.float32)).shape
        (1, 14, 14, 3)
    """

    axes = 2


class ConvTranspose3d(Transposed):
    """The transpose of a convolution over three axes; see `ConvTranspose2d`.

        y[n, i, c] = bias[c] + sum_{o, k, m : s o + d k - p = i} x[n, o, m] weight[k, c, m]

    Shapes: x `[N, D, H, W, n_in]`, weight `[KD, KH, KW, n_out / groups, n_in]`,
    y `[N, OD, OH, OW, n_out]`.

    Example:
        >>> ConvTranspose3d(2, 1, 2, rng=0)(np.ones((1, 2, 2, 2, 2), np.float32)).shape
        (1, 3, 3, 3, 1)
    """

    axes = 3
