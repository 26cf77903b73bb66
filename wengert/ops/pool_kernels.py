"""How windows are pooled: in whole lines of memory, a few images at a time.

`how` is an operation of `pool`, with kernel, stride, padding and dilation. Lines are long where x
is first sorted by the remainder of its last spatial axis by the stride: for every tap a line of y,
all its places and channels, is then one run of memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..types import Array, Shape
from . import pool_native

CACHE = 1 << 20  # bytes of x at a time
SHORT = 1 << 8  # bytes of the channels of a place up to which places are sorted first
BITS = {2: np.dtype(np.int16), 4: np.dtype(np.int32), 8: np.dtype(np.int64)}


def images(x: Array, *others: Array) -> Iterator[tuple[Array, ...]]:
    """The arrays a few samples at a time, so that those stay in cache."""
    few = max(1, CACHE // max(1, x[:1].nbytes))
    for i in range(0, len(x), few):
        yield tuple(a[i : i + few] for a in (x, *others))


def along(axis: int, cut: slice) -> tuple[slice, ...]:
    return (slice(None),) * axis + (cut,)


def tap_lines(shape: Shape, how: Any) -> list[tuple[int, Any]]:
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


def over_lines(f: Any, start: Any, x: Array, out: Array, how: Any) -> None:
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


class Sorted:
    """Images with their padding, sorted by the remainder of their last axis: in, or out."""

    def __init__(self, how: Any, size: Shape, shape: Shape, dtype: Any) -> None:
        """`size` is that of x, `shape` that of y."""
        self.stride, self.c, self.dtype, self.size = how.stride[-1], shape[-1], dtype, size
        kernel, stride, _, dilation = how.settings
        each = zip(size, how.padding, stride, shape[1:-1], dilation, kernel)
        # with its padding, and as much more as the taps need to be lines
        self.wide = tuple(
            max(n + sum(p), t * (o - 1) + d * (k - 1) + 1) for n, p, t, o, d, k in each
        )
        self.inner = tuple(slice(lo, lo + n) for n, (lo, _) in zip(size, how.padding))
        self.taps = tap_lines(shape, how)
        reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel)]
        self.apart = all(s >= r for s, r in zip(stride, reach))  # no two windows meet
        covered = tuple(o * k for o, k in zip(shape[1:-1], kernel)) == self.wide
        self.covered = self.apart and stride == kernel and covered  # a window everywhere
        self.full: Any = None
        self.parts: list[Array] = []

    def into(self, x: Array) -> list[Array]:
        """x in its parts; padding of nan equals nothing, so that it never wins."""
        if self.wide != self.size:
            if self.full is None:  # the first block is the largest
                self.full = np.full((len(x), *self.wide, self.c), np.nan, self.dtype)
            self.full[(slice(len(x)), *self.inner)] = x
            x = self.full[: len(x)]
        return sorted_lines(x, self.stride)

    def empty(self, count: int) -> list[Array]:
        """Parts to be written to."""
        s = self.stride
        if not self.parts:
            lengths = [len(range(r, self.wide[-1], s)) * self.c for r in range(s)]
            self.parts = [np.empty((count, *self.wide[:-1], n), self.dtype) for n in lengths]
        parts = [p[:count] for p in self.parts]
        if not self.covered:
            for part in parts:
                part.fill(0)
        return parts

    def back(self, parts: list[Array], x: Array) -> None:
        """The parts together, into x."""
        into = x
        if self.wide != self.size:
            if self.full is None:
                self.full = np.empty((len(x), *self.wide, self.c), self.dtype)
            into = self.full[: len(x)]
        whole = places(into)
        for r, part in enumerate(parts):
            whole[..., r :: self.stride] = places(part.reshape(*part.shape[:-1], -1, self.c))
        if into is not x:
            x[...] = into[(slice(None), *self.inner)]

    def put(self, parts: list[Array], tap: Any, u: Array, won: Array, mask: Array) -> None:
        """u where the tap won; by masks of all bits, as inf * 0 is nan."""
        part = parts[tap[0]][tap[1]]
        np.negative(won.view(np.int8), out=mask)
        if self.apart:
            np.bitwise_and(u.view(mask.dtype), mask, out=part.view(mask.dtype))
        else:
            np.bitwise_and(u.view(mask.dtype), mask, out=mask)
            np.add(part, mask.view(u.dtype), out=part)


def flat_lines(y: Array) -> Array:
    """`[N, *O, C]` as `[N, .., O C]`."""
    return np.ascontiguousarray(y).reshape(*y.shape[:-2], -1)


def first_taps(how: Any, x: Array, y: Array) -> Array:
    """The number of the first tap at which x attains y, where nothing is nan and there are some."""
    found = np.empty(y.shape, np.uint8)
    lines = Sorted(how, x.shape[1:-1], y.shape, x.dtype)
    work: Any = None
    for a, b, t in images(x, flat_lines(y), flat_lines(found)):
        if work is None:
            work = np.empty((2, *b.shape), bool)
        parts, (lost, none) = lines.into(a), work[:, : len(b)]
        t.fill(0)
        none.fill(True)
        for r, at in lines.taps[:-1]:  # counts the taps before the first that wins
            np.not_equal(parts[r][at], b, out=lost)
            np.logical_and(none, lost, out=none)
            np.add(t, none.view(np.uint8), out=t)
    return found


def put_to_taps(how: Any, u: Array, i: Array, size: Shape) -> Array:
    """u at the taps i of an x of this size, 0 elsewhere."""
    x = np.empty((len(u), *size, u.shape[-1]), u.dtype)
    lines = Sorted(how, size, u.shape, u.dtype)
    mask: Any = None
    for a, v, t in images(x, flat_lines(u), flat_lines(i)):
        if mask is None:
            mask = np.empty(v.shape, BITS[u.itemsize])
        parts = lines.empty(len(a))
        for k, tap in enumerate(lines.taps):
            lines.put(parts, tap, v, np.equal(t, k), mask[: len(v)])
        lines.back(parts, a)
    return x


def put_to_first(how: Any, u: Array, x: Array, y: Array) -> Array:
    """u at the first tap at which x attains y: `put_to_taps` of `first_taps`, without those."""
    read = Sorted(how, x.shape[1:-1], y.shape, x.dtype)
    gx = np.empty(x.shape, u.dtype) if read.covered else np.zeros(x.shape, u.dtype)
    if pool_native.put(y, x, u, gx, how, read.apart):
        return gx
    write = Sorted(how, x.shape[1:-1], y.shape, u.dtype)
    work: Any = None
    mask: Any = None
    for a, b, v, ga in images(x, flat_lines(y), flat_lines(u), gx):
        if work is None:
            work, mask = np.empty((3, *b.shape), bool), np.empty(b.shape, BITS[u.itemsize])
        found, parts = read.into(a), write.empty(len(a))
        lost, none, won = work[:, : len(b)]
        none.fill(True)
        for r, at in read.taps:
            np.not_equal(found[r][at], b, out=lost)
            np.greater(none, lost, out=won)
            np.logical_and(none, lost, out=none)
            write.put(parts, (r, at), v, won, mask[: len(b)])
        write.back(parts, ga)
    return gx
