"""Convolution as three operations that are each other's transposes.

    Conv        y[n, o, m]  = sum_{k, c} x[n, s o + d k - p, c] w[k, c, m]
    ConvInput   x[n, i, c]  = sum_{o, k, m : s o + d k - p = i} u[n, o, m] w[k, c, m]
    ConvWeight  w[k, c, m]  = sum_{n, o} x[n, s o + d k - p, c] u[n, o, m]

with stride s, padding p and dilation d; o, k and i run over one, two or three axes. Each is linear
in both of its operands, and the transpose of one is another:

              in its first operand     in its second
    Conv      ConvInput                ConvWeight
    ConvInput Conv                     ConvWeight
    ConvWeight ConvInput               Conv

so that they are closed under differentiation, at every order and in every mode. `ConvInput` is what
is called a transposed convolution.

Layout: channels last. x `[N, *S, C]`, w `[*K, C / groups, M]`, y `[N, *O, M]`. This is the
cross-correlation that networks mean by the word: the kernel is not reversed.

References:
    V. Dumoulin, F. Visin (2016), A guide to convolution arithmetic for deep learning,
    arXiv:1603.07285.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..primitive import Multilinear, op
from ..types import Array, Aval, Shape, shape_of
from .conv_kernels import backward_input, backward_weight, forward
from .linear import Broadcast, Reshape, moveaxis

__all__ = ["Conv", "ConvInput", "ConvWeight", "out_size"]

Pads = tuple[tuple[int, int], ...]
Ints = tuple[int, ...]


def out_size(size: int, kernel: int, stride: int, pad: tuple[int, int], dilation: int) -> int:
    """How many places a kernel has: floor((size + p_lo + p_hi - d (kernel - 1) - 1) / s) + 1."""
    return (size + pad[0] + pad[1] - dilation * (kernel - 1) - 1) // stride + 1


class Convolution(Multilinear):
    """What the three share: their parameters, and how lanes are laid out.

    A lane of its own weights is a group of its own: lanes become groups of channels.
    """

    stride: Ints
    padding: Pads
    dilation: Ints
    groups: int

    @property
    def settings(self) -> tuple[Ints, Pads, Ints, int]:
        return self.stride, self.padding, self.dilation, self.groups

    def ranks(self, *shapes: Shape) -> None:
        axes = len(self.stride)
        if any(len(s) != axes + 2 for s in shapes):
            raise ValueError(f"both have {axes + 2} axes, {axes} of them spatial")

    def many(self, lanes: int) -> tuple[Ints, Pads, Ints, int]:
        """The settings with `lanes` times as many groups."""
        return (*self.settings[:3], self.groups * lanes)

    def places(self, size: Shape, kernel: Shape) -> Shape:
        """The spatial shape of y."""
        return tuple(
            out_size(*args)
            for args in zip(size, kernel, self.stride, self.padding, self.dilation, strict=True)
        )


def wrong_channels(op: Any, xs: Any, error: Exception, has: int) -> Any:
    """(rule, notes, fix) for an x with other channels than axis `has` of the weight takes."""
    x, w = (shape_of(a) for a in xs)
    axes = len(op.stride)
    if len(x) != axes + 2 or len(w) != axes + 2:
        fix = "{x}[None] adds a batch axis" if (len(x), len(w)) == (axes + 1, axes + 2) else None
        notes = [f"{len(x)} axes", f"{len(w)} axes"]
        return f"x is [N, {'S, ' * axes}C] and weight [{'K, ' * axes}C, M]", notes, fix
    inner = w[has] * (op.groups if has == -2 else 1)
    if x[-1] == inner:
        return str(error).split("\n")[0], None, None
    within = f", in {op.groups} groups" if op.groups > 1 else ""
    notes = [f"axis -1 is {x[-1]}", f"axis {has} is {w[has]}{within}"]
    fix = None
    last, turned = (0, *range(2, axes + 2), 1), (*range(2, axes + 2), 1, 0)
    channels = w[1] * op.groups if has == -2 else w[0]  # that a weight [M, C, *K] would take
    if x[1] == inner:
        fix = f"channels come last: {{x}}.transpose{last}"
    elif x[-1] == channels:
        fix = f"channels come last: {{weight}}.transpose{turned}"
    elif x[1] == channels:
        fix = f"channels come last: {{x}}.transpose{last} and {{weight}}.transpose{turned}"
    return "x has other channels than weight takes", notes, fix


def into_rows(x: Array) -> Array:
    """[lanes, N, ..] as [lanes N, ..]."""
    s = shape_of(x)
    return Reshape((s[0] * s[1], *s[2:]))(x)


def out_of_rows(y: Array, lanes: int) -> Array:
    s = shape_of(y)
    return Reshape((lanes, s[0] // lanes, *s[1:]))(y)


def into_channels(x: Array, axes: int) -> Array:
    """[lanes, .., C] as [.., lanes C], with `axes` axes between."""
    x = moveaxis(x, 0, axes)
    s = shape_of(x)
    return Reshape((*s[:-2], s[-2] * s[-1]))(x)


def out_of_channels(y: Array, lanes: int) -> Array:
    s = shape_of(y)
    y = Reshape((*s[:-1], lanes, s[-1] // lanes))(y)
    return moveaxis(y, len(s) - 1, 0)


def repeated(x: Array, lanes: int) -> Array:
    """[.., C] as [.., lanes C]: the same channels for every lane."""
    s = shape_of(x)
    x = Broadcast((*s[:-1], lanes, s[-1]))(Reshape((*s[:-1], 1, s[-1]))(x))
    return Reshape((*s[:-1], lanes * s[-1]))(x)


@op
class Conv(Convolution):
    """y[n, o, m] = sum_{k, c} x[n, s o + d k - p, c] w[k, c, m]."""

    stride: Ints
    padding: Pads
    dilation: Ints
    groups: int

    args = ("x", "w")
    shown = ("x", "weight")
    examples: ClassVar[Any] = [
        (((1,), ((0, 0),), (1,), 1), (2, 5, 3), (3, 3, 2)),
        (((2, 1), ((1, 0), (0, 2)), (1, 2), 1), (2, 5, 4, 2), (2, 2, 2, 3)),
        (((1, 1), ((1, 1), (1, 1)), (1, 1), 2), (1, 4, 3, 4), (3, 3, 2, 2)),
        (((1, 2), ((1, 1), (0, 0)), (1, 1), 3), (2, 3, 4, 3), (2, 3, 1, 3)),
        (((1, 1, 2), ((0, 0),) * 3, (1, 1, 1), 1), (1, 3, 2, 3, 2), (2, 1, 2, 2, 2)),
    ]

    @classmethod
    def title(cls) -> str:
        return "conv"

    def impl(self, x: Array, w: Array) -> Array:
        self.shape(x.shape, w.shape)
        return forward(x, w, *self.settings)

    def infer(self, x: Aval, w: Aval) -> Aval:
        return Aval(self.shape(x.shape, w.shape), np.result_type(x.dtype, w.dtype))

    def shape(self, x: Shape, w: Shape) -> Shape:
        self.ranks(x, w)
        n, *size, c = x
        *kernel, inner, m = w
        places = self.places(tuple(size), tuple(kernel))
        if inner * self.groups != c:
            raise ValueError(f"x has {c} channels, and w takes {inner * self.groups}")
        if m % self.groups:
            raise ValueError(f"{m} channels out are not a multiple of {self.groups} groups")
        if min(places, default=1) < 1:
            raise ValueError(f"the kernel {tuple(kernel)} is larger than x with its padding")
        return (n, *places, m)

    def vjp_x(self, g: Array, x_shape: Shape, w: Array) -> Array:
        return ConvInput(*self.settings, tuple(x_shape[1:-1]))(g, w)

    def vjp_w(self, g: Array, x: Array, w_shape: Shape) -> Array:
        return ConvWeight(*self.settings, tuple(w_shape[:-2]))(x, g)

    def batch(self, xs: Any, dims: Any) -> Array:
        (x, w), (dx, dw) = xs, dims
        if dw is None:
            lanes = shape_of(x)[0]
            return out_of_rows(self(into_rows(x), w), lanes)
        lanes = shape_of(w)[0]
        wide = into_channels(x, len(shape_of(x)) - 2) if dx is not None else repeated(x, lanes)
        y = Conv(*self.many(lanes))(wide, into_channels(w, len(shape_of(w)) - 2))
        return out_of_channels(y, lanes)

    def diagnose(self, xs: Any, error: Exception) -> Any:
        return wrong_channels(self, xs, error, -2)


@op
class ConvInput(Convolution):
    """x[n, i, c] = sum over s o + d k - p = i of u[n, o, m] w[k, c, m]; `size` is that of i.

    The transpose of `Conv` in x: a transposed convolution.
    """

    stride: Ints
    padding: Pads
    dilation: Ints
    groups: int
    size: Shape

    args = ("u", "w")
    shown = ("x", "weight")
    examples: ClassVar[Any] = [
        (((1,), ((0, 0),), (1,), 1, (5,)), (2, 3, 2), (3, 3, 2)),
        (((2, 1), ((1, 0), (0, 2)), (1, 2), 1, (5, 4)), (2, 3, 4, 3), (2, 2, 2, 3)),
        (((1, 1), ((1, 1), (1, 1)), (1, 1), 2, (4, 3)), (1, 4, 3, 2), (3, 3, 2, 2)),
        (((1, 2), ((1, 1), (0, 0)), (1, 1), 3, (3, 4)), (2, 4, 1, 3), (2, 3, 1, 3)),
    ]

    @classmethod
    def title(cls) -> str:
        return "conv_transpose"

    def impl(self, u: Array, w: Array) -> Array:
        self.shape(u.shape, w.shape)
        return backward_input(u, w, *self.settings, self.size)

    def infer(self, u: Aval, w: Aval) -> Aval:
        return Aval(self.shape(u.shape, w.shape), np.result_type(u.dtype, w.dtype))

    def shape(self, u: Shape, w: Shape) -> Shape:
        self.ranks(u, w)
        n, *places, m = u
        *kernel, inner, out = w
        found = self.places(self.size, tuple(kernel))
        if found != tuple(places) or m != out:
            raise ValueError(f"u has shape {(*places, m)}, and w takes {(*found, out)}")
        if m % self.groups:
            raise ValueError(f"{m} channels in are not a multiple of {self.groups} groups")
        return (n, *self.size, inner * self.groups)

    def vjp_u(self, g: Array, w: Array) -> Array:
        return Conv(*self.settings)(g, w)

    def vjp_w(self, g: Array, u: Array, w_shape: Shape) -> Array:
        return ConvWeight(*self.settings, tuple(w_shape[:-2]))(g, u)

    def batch(self, xs: Any, dims: Any) -> Array:
        (u, w), (du, dw) = xs, dims
        if dw is None:
            return out_of_rows(self(into_rows(u), w), shape_of(u)[0])
        lanes = shape_of(w)[0]
        wide = into_channels(u, len(shape_of(u)) - 2) if du is not None else repeated(u, lanes)
        made = ConvInput(*self.many(lanes), self.size)
        x = made(wide, into_channels(w, len(shape_of(w)) - 2))
        return out_of_channels(x, lanes)

    def diagnose(self, xs: Any, error: Exception) -> Any:
        return wrong_channels(self, xs, error, -1)


@op
class ConvWeight(Convolution):
    """w[k, c, m] = sum_{n, o} x[n, s o + d k - p, c] u[n, o, m]; `kernel` is the shape of k.

    The transpose of `Conv` in w.
    """

    stride: Ints
    padding: Pads
    dilation: Ints
    groups: int
    kernel: Shape

    args = ("x", "u")
    examples: ClassVar[Any] = [
        (((1,), ((0, 0),), (1,), 1, (3,)), (2, 5, 3), (2, 3, 2)),
        (((2, 1), ((1, 0), (0, 2)), (1, 2), 1, (2, 2)), (2, 5, 4, 2), (2, 3, 4, 3)),
        (((1, 1), ((1, 1), (1, 1)), (1, 1), 2, (3, 3)), (1, 4, 3, 4), (1, 4, 3, 2)),
    ]

    @classmethod
    def title(cls) -> str:
        return "conv_weight"

    def impl(self, x: Array, u: Array) -> Array:
        self.shape(x.shape, u.shape)
        return backward_weight(x, u, *self.settings, self.kernel)

    def infer(self, x: Aval, u: Aval) -> Aval:
        return Aval(self.shape(x.shape, u.shape), np.result_type(x.dtype, u.dtype))

    def shape(self, x: Shape, u: Shape) -> Shape:
        self.ranks(x, u)
        n, *size, c = x
        rows, *places, m = u
        found = self.places(tuple(size), self.kernel)
        if found != tuple(places) or n != rows:
            raise ValueError(f"u has shape {(rows, *places, m)}, and x makes {(n, *found)}")
        if c % self.groups or m % self.groups:
            raise ValueError(f"{c} and {m} channels are not multiples of {self.groups} groups")
        return (*self.kernel, c // self.groups, m)

    def vjp_x(self, g: Array, x_shape: Shape, u: Array) -> Array:
        return ConvInput(*self.settings, tuple(x_shape[1:-1]))(u, g)

    def vjp_u(self, g: Array, x: Array) -> Array:
        return Conv(*self.settings)(x, g)

    def batch(self, xs: Any, dims: Any) -> Array:
        (x, u), (dx, du) = xs, dims
        lanes = shape_of(x if dx is not None else u)[0]
        wide_x = into_channels(x, len(shape_of(x)) - 2) if dx is not None else repeated(x, lanes)
        wide_u = into_channels(u, len(shape_of(u)) - 2) if du is not None else repeated(u, lanes)
        made = ConvWeight(*self.many(lanes), self.kernel)
        return out_of_channels(made(wide_x, wide_u), lanes)
