"""Convolution and its transpose over one, two or three axes. Channels come last."""

from __future__ import annotations

from typing import Any

import numpy as np

from wengert.errors import ArgumentError, OptionError, ShapeError
from wengert.ops.conv import Conv, ConvInput
from wengert.ops.road import plus_bias
from wengert.types import shape_of

__all__ = [
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
]

Ints = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]


def per_axis(what: str, name: str, value: Any, axes: int, least: int = 1) -> Ints:
    """One integer for all axes, or one for each."""
    value = value.tolist() if isinstance(value, np.ndarray) else value
    given = (value,) * axes if isinstance(value, int | np.integer) else value
    listed = isinstance(given, tuple | list) and len(given) == axes
    if listed and all(isinstance(v, int | np.integer) and v >= least for v in given):
        return tuple(int(v) for v in given)
    each = "" if axes == 1 else f", or {axes} of them"
    raise OptionError(f"{what}({name}={value!r})", f"{name} is an integer from {least} on{each}")


def given(what: str, x: Any) -> Any:
    """x, or the array that nested lists of numbers make."""
    if hasattr(x, "shape"):
        return x
    try:
        a = np.asarray(x)
    except ValueError:
        a = np.asarray(None)
    if a.dtype.kind in "fciub":
        return a
    raise ArgumentError(f"{what}(x)", f"x is an array of numbers, not {type(x).__name__}")


def count(what: str, name: str, value: Any, least: int = 0) -> int:
    """A whole number."""
    return per_axis(what, name, value, 1, least)[0]


def pads_of(
    what: str, padding: Any, size: Ints, kernel: Ints, stride: Ints, dilation: Ints
) -> Pads:
    """(before, after) for each axis, out of "same", "valid", an integer, one or two per axis."""
    padding = padding.tolist() if isinstance(padding, np.ndarray) else padding
    if padding == "valid":
        return ((0, 0),) * len(kernel)
    if padding == "same":
        pads = []
        for n, k, s, d in zip(size, kernel, stride, dilation):
            total = max(0, (-(-n // s) - 1) * s + d * (k - 1) + 1 - n)
            pads.append((total // 2, total - total // 2))
        return tuple(pads)
    if isinstance(padding, tuple | list) and all(
        isinstance(p, tuple | list) and len(p) == 2 for p in padding
    ):
        flat = per_axis(what, "padding", [v for p in padding for v in p], 2 * len(kernel), 0)
        return tuple(zip(flat[::2], flat[1::2]))
    if isinstance(padding, str):
        raise OptionError(f"{what}(padding={padding!r})", 'padding in words is "same" or "valid"')
    return tuple((p, p) for p in per_axis(what, "padding", padding, len(kernel), 0))


def batched(what: str, x: Any, axes: int) -> tuple[Any, bool]:
    """x with a batch axis, and whether it was added."""
    x = given(what, x)
    rank = len(shape_of(x))
    if rank not in (axes + 1, axes + 2):
        spatial = ", ".join(("D", "H", "W")[3 - axes :])
        raise ShapeError(
            f"{what}(x)",
            f"x is [N, {spatial}, C], channels last, or [{spatial}, C] for one sample",
            operands=[("x", x, f"{rank} ax{'i' if rank == 1 else 'e'}s")],
        )
    return (x[None], True) if rank == axes + 1 else (x, False)


def conv(
    axes: int, x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int
) -> Any:
    what = f"conv{axes}d"
    x, single = batched(what, x, axes)
    stride = per_axis(what, "stride", stride, axes)
    dilation = per_axis(what, "dilation", dilation, axes)
    (groups,) = per_axis(what, "groups", groups, 1)
    kernel = shape_of(weight)[:-2]
    if len(kernel) == axes:  # else the operation refuses
        padding = pads_of(what, padding, shape_of(x)[1:-1], kernel, stride, dilation)
    else:
        padding = ((0, 0),) * axes
    y = Conv(stride, padding, dilation, groups)(x, weight)
    return biased(what, y, bias, single)


def biased(what: str, y: Any, bias: Any, single: bool) -> Any:
    """y + bias, without the batch axis if there was none."""
    if bias is not None:
        channels = shape_of(y)[-1]
        if shape_of(bias) != (channels,):
            raise ShapeError(
                f"{what}(x, weight, bias)",
                f"bias is one number for each of the {channels} channels out",
                operands=[("bias", bias)],
            )
        y = plus_bias(y, bias)
    return y[0] if single else y


def conv1d(
    x: Any,
    weight: Any,
    bias: Any = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    """Convolution over one axis.

        y[n, o, m] = bias[m] + sum_{k, c} x[n, s o + d k - p, c] weight[k, c, m]

    Shapes: x `[N, W, C]` or `[W, C]`, weight `[K, C / groups, M]`, bias `[M]`, y `[N, O, M]`.

    Args: see `conv2d`.

    Example:
        >>> conv1d(np.array([[1.0], [2.0], [4.0]]), np.array([[[-1.0]], [[1.0]]])).ravel()
        array([1., 2.])
    """
    return conv(1, x, weight, bias, stride, padding, dilation, groups)


def conv2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    """Convolution over two axes, in the sense of networks: the kernel is not reversed.

        y[n, o, m] = bias[m] + sum_{k, c} x[n, s o + d k - p, c] weight[k, c, m]

    with stride s, dilation d and padding p; o and k have two parts.

    Shapes: x `[N, H, W, C]` or `[H, W, C]`, weight `[KH, KW, C / groups, M]`, bias `[M]`,
    y `[N, OH, OW, M]`. Channels come last, in images and in weights.

    Args:
        stride, dilation: an integer, or one for each axis.
        padding: zeros around x: an integer, one for each axis, a pair (before, after) for each
            axis, "valid" for none, or "same" for ceil(size / stride) places.
        groups: the channels are cut into so many groups, each with weights of its own.

    Raises:
        ShapeError: x has other channels than the weight takes, or the kernel is larger than x.
        OptionError: an option out of range.

    Example:
        >>> x = np.arange(16.0).reshape(1, 4, 4, 1)
        >>> conv2d(x, np.ones((2, 2, 1, 1)), stride=2)[0, :, :, 0]
        array([[10., 18.],
               [42., 50.]])

    References:
        V. Dumoulin, F. Visin (2016), A guide to convolution arithmetic for deep learning,
        arXiv:1603.07285.
    """
    return conv(2, x, weight, bias, stride, padding, dilation, groups)


def conv3d(
    x: Any,
    weight: Any,
    bias: Any = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    """Convolution over three axes; see `conv2d`.

        y[n, o, m] = bias[m] + sum_{k, c} x[n, s o + d k - p, c] weight[k, c, m]

    Shapes: x `[N, D, H, W, C]` or `[D, H, W, C]`, weight `[KD, KH, KW, C / groups, M]`, bias `[M]`.

    Example:
        >>> conv3d(np.ones((1, 3, 3, 3, 1)), np.ones((3, 3, 3, 1, 1))).item()
        27.0
    """
    return conv(3, x, weight, bias, stride, padding, dilation, groups)


def transposed(
    axes: int,
    x: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    dilation: Any,
    groups: int,
) -> Any:
    what = f"conv_transpose{axes}d"
    x, single = batched(what, x, axes)
    stride = per_axis(what, "stride", stride, axes)
    dilation = per_axis(what, "dilation", dilation, axes)
    extra = per_axis(what, "output_padding", output_padding, axes, 0)
    (groups,) = per_axis(what, "groups", groups, 1)
    kernel = shape_of(weight)[:-2]
    size: Ints = (1,) * axes
    pads: Pads = ((0, 0),) * axes
    if len(kernel) == axes:  # else the operation refuses
        if padding == "same":
            raise OptionError(
                f'{what}(padding="same")',
                "the size of a transposed convolution is set by integers",
                fix=f"padding={tuple(d * (k - 1) // 2 for k, d in zip(kernel, dilation))}",
            )
        pads = pads_of(what, padding, (), kernel, stride, dilation)
        for e, s, d in zip(extra, stride, dilation):
            if e >= max(s, d):
                raise OptionError(
                    f"{what}(output_padding={output_padding!r})",
                    f"it is less than the stride or the dilation, {max(s, d)}",
                )
        pads = tuple((lo, hi - e) for (lo, hi), e in zip(pads, extra))
        size = tuple(
            (n - 1) * s - lo - hi + d * (k - 1) + 1
            for n, s, (lo, hi), d, k in zip(shape_of(x)[1:-1], stride, pads, dilation, kernel)
        )
        if min(size) < 1:
            raise ShapeError(
                f"{what}(x, weight)",
                f"nothing is left: with this padding y has the size {list(size)}",
                operands=[("x", x), ("weight", weight)],
            )
    y = ConvInput(stride, pads, dilation, groups, size)(x, weight)
    return biased(what, y, bias, single)


def conv_transpose1d(
    x: Any,
    weight: Any,
    bias: Any = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    """The transpose of `conv1d` with the same weight; see `conv_transpose2d`.

        y[n, i, c] = bias[c] + sum_{o, k, m : s o + d k - p = i} x[n, o, m] weight[k, c, m]

    Shapes: x `[N, W, M]` or `[W, M]`, weight `[K, C / groups, M]`, bias `[C]`.

    Example:
        >>> conv_transpose1d(np.array([[1.0], [2.0]]), np.ones((2, 1, 1)), stride=2).ravel()
        array([1., 1., 2., 2.])
    """
    return transposed(1, x, weight, bias, stride, padding, output_padding, dilation, groups)


def conv_transpose2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    """The transpose of `conv2d` with the same weight, as a map of its own.

        y[n, i, c] = bias[c] + sum_{o, k, m : s o + d k - p = i} x[n, o, m] weight[k, c, m]

    It is what the gradient of `conv2d` does to a cotangent: with stride s it enlarges s times.

    Shapes: x `[N, H, W, M]` or `[H, W, M]`, weight `[KH, KW, C / groups, M]` (that of the
    convolution it transposes), bias `[C]`, y `[N, OH, OW, C]` with
    OH = (H - 1) s - p_lo - p_hi + d (KH - 1) + 1 + output_padding.

    Args:
        stride, dilation, groups, padding: those of the convolution; padding takes away from y.
        output_padding: rows and columns added at the end, for one of the sizes that a stride maps
            to the same.

    Raises:
        ShapeError: x has other channels than the weight takes, or nothing is left.
        OptionError: an option out of range.

    Example:
        >>> conv_transpose2d(np.ones((1, 8, 8, 4)), np.ones((3, 3, 2, 4)), stride=2).shape
        (1, 17, 17, 2)
    """
    return transposed(2, x, weight, bias, stride, padding, output_padding, dilation, groups)


def conv_transpose3d(
    x: Any,
    weight: Any,
    bias: Any = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    """The transpose of `conv3d` with the same weight; see `conv_transpose2d`.

        y[n, i, c] = bias[c] + sum_{o, k, m : s o + d k - p = i} x[n, o, m] weight[k, c, m]

    Shapes: x `[N, D, H, W, M]` or `[D, H, W, M]`, weight `[KD, KH, KW, C / groups, M]`, bias `[C]`.

    Example:
        >>> conv_transpose3d(np.ones((1, 1, 1, 1, 2)), np.ones((2, 2, 2, 1, 2))).shape
        (1, 2, 2, 2, 1)
    """
    return transposed(3, x, weight, bias, stride, padding, output_padding, dilation, groups)
