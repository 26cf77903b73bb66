"""Pooling: sums and maxima over windows, channels last.

    SumPool  y[n, o, c] = sum_k x[n, s o + d k - p, c]        <-> SumSpread, its transpose
    MaxPool  y[n, o, c] = max_k x[n, s o + d k - p, c]

with stride s, padding p, dilation d, over one, two or three axes. Places outside of x count for
nothing: they are 0 in a sum and never a maximum. The derivative of a maximum picks the tap k that
won, `TapPick`, and puts back to it, `TapPut`: both linear, and each other's transpose. Where
several taps win it is the first of them in row-major order, as in PyTorch.
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from ..primitive import Constant, General, Linear, op
from ..structural import broadcast
from ..types import Array, Aval, Shape, shape_of
from . import pool_native
from .conv import into_rows, out_of_rows, out_size
from .pool_kernels import (
    BITS,
    along,
    first_taps,
    images,
    over_lines,
    places,
    put_to_first,
    put_to_taps,
)

__all__ = ["MaxPool", "MaxTap", "SumPool", "SumSpread", "TapPick", "TapPut", "flat_places"]

Ints = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]
MANY = 64  # taps from which on numbers are moved one by one instead of tap by tap


@lru_cache(4096)
def line_taps(
    n: int, kernel: int, stride: int, pad: tuple[int, int], dilation: int
) -> tuple[tuple[int, slice, slice], ...]:
    """(k, places o, their s o + d k - p inside of x) along one axis, for each tap that meets x."""
    count = out_size(n, kernel, stride, pad, dilation)
    found = []
    for k in range(kernel):
        shift = dilation * k - pad[0]
        first = max(0, -(shift // stride))
        last = min(count - 1, (n - 1 - shift) // stride)
        if last >= first:
            at = stride * first + shift
            into = slice(at, stride * last + shift + 1, stride)
            found.append((k, slice(first, last + 1), into))
    return tuple(found)


class Pooling:
    """What the operations on windows share; they treat each sample and each channel alone."""

    kernel: Ints
    stride: Ints
    padding: Pads
    dilation: Ints

    @property
    def settings(self) -> tuple[Ints, Ints, Pads, Ints]:
        return self.kernel, self.stride, self.padding, self.dilation

    def lines(self, size: Shape) -> list[Any]:
        """`line_taps` of each axis."""
        return [line_taps(*line) for line in zip(size, *self.settings, strict=True)]

    def places(self, size: Shape) -> Shape:
        """The spatial shape of y; a window without a number in it is refused."""
        if min(lo for lo, _ in self.padding) < 0:
            raise ValueError("padding is not negative")
        each = zip(size, *self.settings, strict=True)
        found = tuple(out_size(*line) for line in each)
        if min(found) < 1:
            raise ValueError(f"the window {list(self.kernel)} is larger than x with its padding")
        for count, taps in zip(found, self.lines(size)):
            met = np.zeros(count, bool)
            for _, o, _ in taps:
                met[o] = True
            if not met.all():
                raise ValueError("a window lies in the padding, with nothing of x in it")
        return found

    def taps(self, size: Shape) -> Any:
        """(number of the tap, index of y, index of x) for every tap."""
        for each in itertools.product(*self.lines(size)):
            number = 0
            for (k, _, _), n in zip(each, self.kernel):
                number = number * n + k
            yield (
                number,
                (slice(None), *[o for _, o, _ in each]),
                (slice(None), *[i for *_, i in each]),
            )


def flat_places(
    taps: Array, size: Shape, kernel: Ints, stride: Ints, padding: Pads, dilation: Ints
) -> tuple[Array, Array]:
    """(row-major places in x of tap numbers `[N, *O, C]`, whether they lie inside)."""
    axes = len(size)
    flat, inside = np.zeros(taps.shape, np.intp), np.ones(taps.shape, bool)
    ks = np.unravel_index(taps.astype(np.intp), kernel)
    for axis, k in enumerate(ks):
        o = np.arange(taps.shape[axis + 1]).reshape((-1,) + (1,) * (axes - axis))
        i = stride[axis] * o + dilation[axis] * k - padding[axis][0]
        inside &= (i >= 0) & (i < size[axis])
        flat = flat * size[axis] + i
    return flat, inside


def pooled_lanes(self: Any, xs: Any, dims: Any) -> Array:
    """Lanes are samples: every rule here treats a sample alone."""
    lanes = next(shape_of(x)[0] for x, d in zip(xs, dims) if d is not None)
    full = [
        into_rows(x if d is not None else broadcast(x, (lanes, *shape_of(x))))
        for x, d in zip(xs, dims)
    ]
    return out_of_rows(self(*full), lanes)


class Window(Pooling, Linear):
    def diagnose(self, xs: Any, error: Exception) -> Any:
        return wrong_rank(self, xs, error)


def wrong_rank(self: Any, xs: Any, error: Exception) -> Any:
    x, axes = shape_of(xs[0]), len(self.kernel)
    if len(x) == axes + 2:
        return str(error).split("\n")[0], None, None
    fix = "x[None] adds a batch axis" if len(x) == axes + 1 else None
    return f"x is [N, {'S, ' * axes}C]", [f"{len(x)} axes"] + [""] * (len(xs) - 1), fix


@op
class SumPool(Window):
    """y[n, o, c] = sum_k x[n, s o + d k - p, c].  Its transpose spreads:  gx[i] = sum gy[o]."""

    kernel: Ints
    stride: Ints
    padding: Pads
    dilation: Ints

    examples: ClassVar[Any] = [
        (((2,), (2,), ((0, 0),), (1,)), (2, 5, 3)),
        (((3, 2), (1, 2), ((1, 1), (0, 1)), (1, 1)), (2, 4, 5, 2)),
        (((2, 2, 2), (2, 1, 1), ((0, 0), (1, 0), (0, 0)), (1, 1, 2)), (1, 4, 3, 4, 2)),
    ]

    @classmethod
    def title(cls) -> str:
        return "sum_pool"

    def impl(self, x: Array) -> Array:
        size = x.shape[1:-1]
        y = np.empty((len(x), *self.places(size), x.shape[-1]), x.dtype)
        for a, b in images(x, y):
            over_lines(np.add, 0, a, b, self)
        return y

    def infer(self, x: Aval) -> Aval:
        return Aval((x.shape[0], *self.places(x.shape[1:-1]), x.shape[-1]), x.dtype)

    def vjp(self, g: Array, x_shape: Shape) -> Array:
        return SumSpread(*self.settings, tuple(x_shape[1:-1]))(g)

    batch = pooled_lanes


@op
class SumSpread(Window):
    """x[n, i, c] = sum of u[n, o, c] over s o + d k - p = i.  The transpose of `SumPool`."""

    kernel: Ints
    stride: Ints
    padding: Pads
    dilation: Ints
    size: Shape

    examples: ClassVar[Any] = [
        (((2,), (2,), ((0, 0),), (1,), (5,)), (2, 2, 3)),
        (((3, 2), (1, 2), ((1, 1), (0, 1)), (1, 1), (4, 5)), (2, 4, 3, 2)),
    ]

    @classmethod
    def title(cls) -> str:
        return "sum_pool_transpose"

    def impl(self, x: Array) -> Array:
        y = np.empty((len(x), *self.size, x.shape[-1]), x.dtype)
        lines = list(enumerate(self.lines(self.size), 1))[::-1]
        for b, u in images(y, x):
            for axis, taps in lines:
                shape = (*u.shape[:axis], self.size[axis - 1], *u.shape[axis + 1 :])
                wide = b if shape == b.shape and axis == 1 else np.empty(shape, x.dtype)
                self.spread(u, wide, axis, taps)
                u = wide
        return y

    def spread(self, u: Array, wide: Array, axis: int, taps: Any) -> None:
        """Along one axis, into `wide`."""
        stride = self.stride[axis - 1]
        reach = self.dilation[axis - 1] * (self.kernel[axis - 1] - 1)
        if sum([o.stop - o.start for _, o, _ in taps]) < wide.shape[axis] or stride <= reach:
            wide.fill(0)
        whole = places(u)
        if stride > reach and whole is not u:  # no two windows meet
            u, wide = whole, places(wide)
        for _, o, i in taps:
            part = wide[along(axis, i)]
            if stride > reach:
                part[...] = u[along(axis, o)]
            else:
                np.add(part, u[along(axis, o)], out=part)

    def infer(self, x: Aval) -> Aval:
        if tuple(x.shape[1:-1]) != self.places(self.size):
            raise ValueError(
                f"x has {list(x.shape[1:-1])} places, not {list(self.places(self.size))}"
            )
        return Aval((x.shape[0], *self.size, x.shape[-1]), x.dtype)

    def vjp(self, g: Array) -> Array:
        return SumPool(*self.settings)(g)

    batch = pooled_lanes


def spread(*shape: int) -> Array:
    """Numbers of which no two are near each other: an example without ties."""
    n = math.prod(shape)
    return (np.random.default_rng(0).permutation(n) / 8 - n / 16).reshape(shape)


@op
class MaxPool(Pooling, General):
    """y[n, o, c] = max_k x[n, s o + d k - p, c].  gx: gy goes to the first k that attains it."""

    kernel: Ints
    stride: Ints
    padding: Pads
    dilation: Ints

    examples: ClassVar[Any] = [
        (((2,), (2,), ((0, 0),), (1,)), spread(2, 5, 3)),
        (((3, 2), (1, 2), ((1, 1), (0, 1)), (1, 1)), spread(2, 4, 5, 2)),
        (((2, 2), (1, 1), ((0, 0), (1, 1)), (2, 1)), spread(1, 4, 3, 2)),
        (((9, 9), (9, 9), ((0, 0), (0, 0)), (1, 1)), spread(1, 9, 9, 1)),
    ]

    @classmethod
    def title(cls) -> str:
        return "max_pool"

    def impl(self, x: Array) -> Array:
        size = x.shape[1:-1]
        y = np.empty((len(x), *self.places(size), x.shape[-1]), x.dtype)
        if pool_native.largest(x, y, self):
            return y
        start = lowest(x.dtype)
        for a, b in images(x, y):
            over_lines(np.maximum, start, a, b, self)
        return y

    def infer(self, x: Aval) -> Aval:
        return Aval((x.shape[0], *self.places(x.shape[1:-1]), x.shape[-1]), x.dtype)

    def jvp(self, dx: Array, x: Array, y: Array) -> Array:
        return TapPick(*self.settings)(dx, MaxTap(*self.settings)(x, y))

    def vjp(self, g: Array, x: Array, y: Array) -> Array:
        if g.__class__ is x.__class__ is y.__class__ is np.ndarray and self.by_lines(g, y):
            return put_to_first(self, g, x, y)
        taps = MaxTap(*self.settings)(x, y)
        return TapPut(*self.settings, tuple(shape_of(x)[1:-1]))(g, taps)

    def diagnose(self, xs: Any, error: Exception) -> Any:
        return wrong_rank(self, xs, error)

    def by_lines(self, g: Array, y: Array) -> bool:
        """Whether the taps are few enough, and g and y such, that the kernels can be used."""
        few = math.prod(self.kernel) <= MANY
        return few and g.dtype.kind == "f" and g.itemsize in BITS and clear(y)

    def ties(self, x: Array, y: Array) -> Array:
        """Where more than one tap attains the maximum."""
        count = np.zeros(y.shape, np.intp)
        for _, o, i in self.taps(x.shape[1:-1]):
            count[o] += x[i] == y[o]
        return count > 1

    batch = pooled_lanes


def clear(y: Array) -> bool:
    """Whether there are numbers, and all can be compared: no nan."""
    return y.dtype.kind == "f" and y.size > 0 and not np.isnan(y.max())


def lowest(dtype: Any) -> Any:
    if dtype.kind == "f":
        return -np.inf
    if dtype.kind not in "iub":
        raise TypeError("a maximum is one of real numbers")
    return np.iinfo(dtype).min if dtype.kind in "iu" else False


@op
class MaxTap(Pooling, Constant):
    """k[n, o, c]: the number of the first tap at which x attains y = max_pool(x); integers."""

    kernel: Ints
    stride: Ints
    padding: Pads
    dilation: Ints

    args = ("x", "y")
    examples: ClassVar[Any] = [
        (((2,), (2,), ((0, 0),), (1,)), np.arange(4.0).reshape(1, 4, 1), np.ones((1, 2, 1))),
    ]

    def impl(self, x: Array, y: Array) -> Array:
        size = x.shape[1:-1]
        if self.dtype != np.uint8:
            exact = self.stride == self.kernel and max(self.dilation) == 1
            if exact and not any(map(any, self.padding)):
                return self.apart(x, y)
        elif clear(y):
            return first_taps(self, x, y)
        taps = np.zeros(y.shape, self.dtype)
        unclear = y.dtype.kind == "f"
        for number, o, i in list(self.taps(size))[::-1]:  # the first tap is written last
            part = x[i]
            won = part == y[o]
            if unclear:
                won |= part != part
            np.copyto(taps[o], number, where=won)
        return taps

    def apart(self, x: Array, y: Array) -> Array:
        """The same for windows side by side."""
        axes = len(self.kernel)
        cut = tuple(slice(o * k) for o, k in zip(y.shape[1:-1], self.kernel))
        split = [n for o, k in zip(y.shape[1:-1], self.kernel) for n in (o, k)]
        x = x[(slice(None), *cut)].reshape(len(x), *split, x.shape[-1])
        x = x.transpose(0, *range(1, 2 * axes, 2), 2 * axes + 1, *range(2, 2 * axes + 1, 2))
        return np.argmax(x.reshape(*y.shape, -1), axis=-1).astype(self.dtype)

    @property
    def dtype(self) -> Any:
        return np.dtype(np.uint8 if math.prod(self.kernel) <= MANY else np.intp)

    def infer(self, x: Aval, y: Aval) -> Aval:
        return Aval(y.shape, self.dtype)

    batch = pooled_lanes


@op
class TapPick(Pooling, General):
    """y[n, o, c] = x[n, s o + d k - p, c] with k = i[n, o, c], and 0 outside of x. Linear in x."""

    kernel: Ints
    stride: Ints
    padding: Pads
    dilation: Ints

    args = ("x", "i")
    examples: ClassVar[Any] = [
        (((2,), (2,), ((1, 0),), (1,)), (1, 4, 2), np.array([[[0, 1], [1, 0]]])),
        (((9, 9), (1, 1), ((1, 0), (1, 0)), (1, 1)), (1, 8, 8, 2), np.array([[[[10, 40]]]])),
    ]

    def impl(self, x: Array, i: Array) -> Array:
        size = x.shape[1:-1]
        y = np.zeros(i.shape, x.dtype)
        if math.prod(self.kernel) > MANY:
            flat, inside = flat_places(i, size, *self.settings)
            n, *_, c = np.nonzero(inside)
            y[inside] = x.reshape(len(x), -1, x.shape[-1])[n, flat[inside], c]
            return y
        for number, o, at in self.taps(size):
            np.copyto(y[o], x[at], where=i[o] == number)
        return y

    def infer(self, x: Aval, i: Aval) -> Aval:
        return Aval(i.shape, x.dtype)

    def jvp_x(self, dx: Array, i: Array) -> Array:
        return self(dx, i)

    def vjp_x(self, g: Array, x_shape: Shape, i: Array) -> Array:
        return TapPut(*self.settings, tuple(x_shape[1:-1]))(g, i)

    batch = pooled_lanes


@op
class TapPut(Pooling, General):
    """x[n, s o + d k - p, c] += u[n, o, c] with k = i[n, o, c]. `TapPick` transposed."""

    kernel: Ints
    stride: Ints
    padding: Pads
    dilation: Ints
    size: Shape

    args = ("u", "i")
    examples: ClassVar[Any] = [
        (((2,), (2,), ((1, 0),), (1,), (4,)), (1, 2, 2), np.array([[[0, 1], [1, 0]]])),
        (((9,) * 2, (1,) * 2, ((1, 0),) * 2, (1,) * 2, (8, 8)), (1, 1, 1, 1), np.array([[[[40]]]])),
    ]

    def impl(self, u: Array, i: Array) -> Array:
        if u.dtype.kind == "f" and u.itemsize in BITS and i.dtype == np.uint8 and u.size:
            return put_to_taps(self, u, i, self.size)
        y = np.zeros((len(u), *self.size, u.shape[-1]), u.dtype)
        if math.prod(self.kernel) > MANY:
            flat, inside = flat_places(i, self.size, *self.settings)
            n, *_, c = np.nonzero(inside)
            np.add.at(y.reshape(len(y), -1, y.shape[-1]), (n, flat[inside], c), u[inside])
            return y
        for number, o, at in self.taps(self.size):
            y[at] += np.where(i[o] == number, u[o], 0)
        return y

    def infer(self, u: Aval, i: Aval) -> Aval:
        return Aval((u.shape[0], *self.size, u.shape[-1]), u.dtype)

    def jvp_u(self, du: Array, i: Array) -> Array:
        return self(du, i)

    def vjp_u(self, g: Array, i: Array) -> Array:
        return TapPick(*self.settings)(g, i)

    batch = pooled_lanes
