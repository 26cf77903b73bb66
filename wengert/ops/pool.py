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
from .conv import into_rows, out_of_rows, out_size

__all__ = ["MaxPool", "MaxTap", "SumPool", "SumSpread", "TapPick", "TapPut", "flat_places"]

Ints = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]
CACHE = 1 << 19  # bytes of x at a time
SHORT = 1 << 8  # bytes of the channels of a place up to which places are sorted first
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


def images(x: Array, *others: Array) -> Any:
    """The arrays a few samples at a time, so that those stay in cache."""
    few = max(1, CACHE // max(1, x[:1].nbytes))
    for i in range(0, len(x), few):
        yield tuple(a[i : i + few] for a in (x, *others))


def along(axis: int, cut: slice) -> tuple[slice, ...]:
    return (slice(None),) * axis + (cut,)


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


def tap_lines(shape: Shape, how: Pooling) -> list[tuple[int, Any]]:
    """(part, index in it) of each tap, if x with its padding is sorted by the remainder of its last
    spatial axis: a line of y, all its channels, is then one run of memory for every tap.
    """
    *_, last, c = shape
    stride, dilation = how.stride, how.dilation
    found = []
    for tap in np.ndindex(*how.kernel):
        rows = [
            slice(d * k, d * k + t * (o - 1) + 1, t)
            for d, k, t, o in zip(dilation[:-1], tap, stride, shape[1:-2])
        ]
        start = dilation[-1] * tap[-1]
        line = slice(start // stride[-1] * c, (start // stride[-1] + last) * c)
        found.append((start % stride[-1], (slice(None), *rows, line)))
    return found


def padded_size(size: Shape, places: Shape, how: Pooling) -> Shape:
    """The size of x with its padding, and as much more as the taps need to be lines."""
    kernel, stride, _, dilation = how.settings
    return tuple(
        max(n + p[0], t * (o - 1) + d * (k - 1) + t)
        for n, p, t, o, d, k in zip(size, how.padding, stride, places, dilation, kernel)
    )


def inner_part(size: Shape, how: Pooling) -> tuple[slice, ...]:
    return (slice(None), *[slice(lo, lo + n) for n, (lo, _) in zip(size, how.padding)])


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


def over_lines(f: Any, start: Any, x: Array, out: Array, how: Pooling) -> None:
    """f over every window into out, one axis after the other: k + k taps instead of k k.

    The first axis goes first, since its slices are long runs of memory.
    """
    each = enumerate(zip(out.shape[1:-1], how.lines(x.shape[1:-1]), how.stride), 1)
    lines = [
        (axis, count, taps, stride)
        for axis, (count, taps, stride) in each
        if not len(taps) == count == x.shape[axis] == 1
    ]
    if not lines:
        out[...] = x
    for n, (axis, count, taps, stride) in enumerate(lines, 1):
        shape = (*x.shape[:axis], count, *x.shape[axis + 1 :])
        y = out if n == len(lines) else np.empty(shape, x.dtype)
        over_line(f, start, x, y, axis, taps, stride)
        x = y


def over_line(f: Any, start: Any, x: Array, y: Array, axis: int, taps: Any, stride: int) -> None:
    """The same along one axis, into y."""
    c, count = x.shape[-1], y.shape[axis]
    if stride > 1 and axis == x.ndim - 2 and 0 < c * x.itemsize <= SHORT:
        parts = sorted_lines(x, stride)
        y = y.reshape(*y.shape[:-2], -1)
        terms = []
        for _, o, i in taps:
            first = i.start // stride
            run = slice(first * c, (first + o.stop - o.start) * c)
            into = y[..., o.start * c : o.stop * c]
            terms.append((o.stop - o.start == count, into, parts[i.start % stride][..., run]))
    else:
        terms = [
            (o.stop - o.start == count, y[along(axis, o)], x[along(axis, i)]) for _, o, i in taps
        ]
    terms.sort(key=lambda term: not term[0])  # those that reach all of y first
    at = sum([term[0] for term in terms[:2]])
    if at == 2:
        f(terms[0][2], terms[1][2], out=y)
    elif at == 1:
        y[...] = terms[0][2]
    else:
        y.fill(start)
    for _, into, term in terms[at:]:
        f(into, term, out=into)


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
        if stride > reach:  # no two windows meet
            u, wide = places(u), places(wide)
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
        start = lowest(x.dtype)
        for a, b in images(x, y):
            over_lines(np.maximum, start, a, b, self)
        return y

    def infer(self, x: Aval) -> Aval:
        return Aval((x.shape[0], *self.places(x.shape[1:-1]), x.shape[-1]), x.dtype)

    def jvp(self, dx: Array, x: Array, y: Array) -> Array:
        return TapPick(*self.settings)(dx, MaxTap(*self.settings)(x, y))

    def vjp(self, g: Array, x: Array, y: Array) -> Array:
        taps = MaxTap(*self.settings)(x, y)
        return TapPut(*self.settings, tuple(shape_of(x)[1:-1]))(g, taps)

    def diagnose(self, xs: Any, error: Exception) -> Any:
        return wrong_rank(self, xs, error)

    def ties(self, x: Array, y: Array) -> Array:
        """Where more than one tap attains the maximum."""
        count = np.zeros(y.shape, np.intp)
        for _, o, i in self.taps(x.shape[1:-1]):
            count[o] += x[i] == y[o]
        return count > 1

    batch = pooled_lanes


def lowest(dtype: Any) -> Any:
    if dtype.kind == "f":
        return -np.inf
    if dtype.kind not in "iub":
        raise TypeError("a maximum is one of real numbers")
    return np.iinfo(dtype).min if dtype.kind in "iu" else False


def places(x: Array) -> Array:
    """x `[.., C]` as an array of places, `[..]`: all channels move as one, if they lie together."""
    size = x.shape[-1] * x.itemsize
    if not size or x.strides[-1] != x.itemsize:
        return x
    return x.view(f"V{size}")[..., 0]


def sorted_lines(x: Array, stride: int) -> list[Array]:
    """x `[N, *S, C]` by the remainder of its last spatial axis, joined with the channels."""
    axis, whole = x.ndim - 2, places(x)
    parts = [
        np.ascontiguousarray(whole[along(axis, slice(r, None, stride))]) for r in range(stride)
    ]
    return [p.view(x.dtype).reshape(*x.shape[:-2], -1) for p in parts]


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
        elif y.dtype.kind == "f" and y.size and not np.isnan(y.max()):
            return self.by_lines(x, y)
        taps = np.zeros(y.shape, self.dtype)
        unclear = y.dtype.kind == "f"
        for number, o, i in list(self.taps(size))[::-1]:  # the first tap is written last
            part = x[i]
            won = part == y[o]
            if unclear:
                won |= part != part
            np.copyto(taps[o], number, where=won)
        return taps

    def by_lines(self, x: Array, y: Array) -> Array:
        """The same where nothing is nan: padding of nan equals nothing, so that it never wins."""
        size, c = x.shape[1:-1], x.shape[-1]
        found = np.empty((*y.shape[:-2], y.shape[-2] * c), np.uint8)
        wide = padded_size(size, y.shape[1:-1], self)
        index, inner = tap_lines(y.shape, self), inner_part(size, self)
        full = None if wide == size else np.full((0, *wide, c), np.nan, x.dtype)
        work = np.empty((0, *found.shape[1:]), bool), np.empty((0, *found.shape[1:]), bool)
        for a, b, t in images(x, y.reshape(found.shape), found):
            if len(work[0]) < len(a):  # the first block is the largest
                work = np.empty(b.shape, bool), np.empty(b.shape, bool)
                full = full if full is None else np.full((len(a), *wide, c), np.nan, x.dtype)
            if full is not None:
                full[: len(a)][inner] = a
                a = full[: len(a)]
            parts = sorted_lines(a, self.stride[-1])
            lost, none = work[0][: len(a)], work[1][: len(a)]
            t.fill(0)
            none.fill(True)
            for r, at in index[:-1]:  # counts the taps before the first that wins
                np.not_equal(parts[r][at], b, out=lost)
                np.logical_and(none, lost, out=none)
                np.add(t, none.view(np.uint8), out=t)
        return found.reshape(y.shape)

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
        whole = {2: np.int16, 4: np.int32, 8: np.int64}.get(u.itemsize)
        if u.dtype.kind == "f" and whole is not None and i.dtype == np.uint8 and u.size:
            return self.by_lines(u, i, np.dtype(whole))
        y = np.zeros((len(u), *self.size, u.shape[-1]), u.dtype)
        if math.prod(self.kernel) > MANY:
            flat, inside = flat_places(i, self.size, *self.settings)
            n, *_, c = np.nonzero(inside)
            np.add.at(y.reshape(len(y), -1, y.shape[-1]), (n, flat[inside], c), u[inside])
            return y
        for number, o, at in self.taps(self.size):
            y[at] += np.where(i[o] == number, u[o], 0)
        return y

    def by_lines(self, u: Array, i: Array, whole: Any) -> Array:
        """The same by whole lines, with masks: all bits where a tap won, as inf * 0 is nan."""
        apart = all(s >= d * (k - 1) + 1 for k, s, _, d in zip(*self.settings))
        s, c = self.stride[-1], u.shape[-1]
        y = np.empty((len(u), *self.size, c), u.dtype)
        wide = padded_size(self.size, u.shape[1:-1], self)
        index, inner = tap_lines(u.shape, self), inner_part(self.size, self)
        shape = (*u.shape[:-2], u.shape[-2] * c)
        lines, taps = np.ascontiguousarray(u).reshape(shape), np.ascontiguousarray(i).reshape(shape)
        few = 0
        for b, v, t in images(y, lines, taps):
            if few < len(b):  # the first block is the largest
                few = len(b)
                lengths = [len(range(r, wide[-1], s)) * c for r in range(s)]
                made = [np.empty((few, *wide[:-1], n), u.dtype) for n in lengths]
                bits = np.empty(v.shape, whole)
                full = None if wide == self.size else np.empty((few, *wide, c), u.dtype)
            parts, mask = [p[: len(b)] for p in made], bits[: len(b)]
            for part in parts:
                part.fill(0)
            for k, (r, at) in enumerate(index):
                np.negative(np.equal(t, k).view(np.int8), out=mask)
                part = parts[r][at]
                if apart:
                    np.bitwise_and(v.view(whole), mask, out=part.view(whole))
                else:
                    np.bitwise_and(v.view(whole), mask, out=mask)
                    np.add(part, mask.view(u.dtype), out=part)
            into = b if full is None else full[: len(b)]
            for r, part in enumerate(parts):
                places(into)[:, ..., r::s] = places(part.reshape(*part.shape[:-1], -1, c))
            if full is not None:
                b[...] = full[: len(b)][inner]
        return y

    def infer(self, u: Aval, i: Aval) -> Aval:
        return Aval((u.shape[0], *self.size, u.shape[-1]), u.dtype)

    def jvp_u(self, du: Array, i: Array) -> Array:
        return self(du, i)

    def vjp_u(self, g: Array, i: Array) -> Array:
        return TapPick(*self.settings)(g, i)

    batch = pooled_lanes
