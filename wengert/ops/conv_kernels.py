"""How convolutions are computed: columns of a block at a time, so that they stay in cache.

`im2col`: every place's patch becomes a row, and the convolution one product of matrices. All rows
at once would be K times the size of x, far more than a cache holds; so they are made for a few
images, or for a few rows of one, multiplied, and overwritten by the next.

On images with many places only the kernel's last axis is laid out, which makes columns that are
shorter by the kernel's height; each row of the kernel is then a product with the same columns, read
some rows of the image further down. One channel in a group (depthwise) has nothing to multiply as
matrices: there whole lines of an image are multiplied by a weight repeated along the line.

Where llvmlite is installed, `conv_direct` does without columns, and this is for what it leaves.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from .. import native
from . import conv_direct, conv_native

__all__ = ["backward_input", "backward_weight", "forward"]

COLUMNS = 1 << 19  # bytes of columns at a time: half of an L2 cache, the products need the rest
SUMMED = 1 << 20  # the same where each block adds to a whole array of weights
LINES = 1 << 17  # bytes of y at a time where lines are multiplied
SMALL = 1_000_000  # multiplications up to which OpenBLAS has a faster product
ENOUGH = 128  # rows of such a product from which on it pays
IMAGES = 1 << 20  # bytes of x at a time to which padding is added
FEW = 3  # channels up to which columns are made of planes, whose lines are longer
PLACES = 512  # places of an image from which on the columns are those of one row of the kernel

Array = Any
Ints = tuple[int, ...]


def padded(x: Array, padding: Any) -> Array:
    """x with zeros around its spatial axes; negative padding crops."""
    if all(p == (0, 0) for p in padding):
        return x
    pairs = list(zip(x.shape[1:-1], padding))
    from_ = [slice(max(0, -lo), max(max(0, -lo), n + min(0, hi))) for n, (lo, hi) in pairs]
    x = x[(slice(None), *from_)]
    shape = (len(x), *[max(0, n + lo + hi) for n, (lo, hi) in pairs], x.shape[-1])
    pairs = list(zip(x.shape[1:-1], padding))
    if x.shape == shape:
        return x
    y = np.zeros(shape, x.dtype)
    y[(slice(None), *[slice(max(0, lo), max(0, lo) + n) for n, (lo, _) in pairs])] = x
    return y


def padded_images(x: Array, padding: Any) -> Iterator[tuple[slice, Array]]:
    """(which images, they with their padding): a few at a time, so that they stay in cache.

    All in one buffer, whose zeros are written once: what is yielded lasts until the next.
    """
    if all(p == (0, 0) for p in padding):
        yield slice(None), x
        return
    few = max(1, IMAGES // max(1, x[:1].nbytes))
    if any(p < 0 for pair in padding for p in pair):
        for i in range(0, len(x), few):
            yield slice(i, i + few), padded(x[i : i + few], padding)
        return
    size = [n + lo + hi for n, (lo, hi) in zip(x.shape[1:-1], padding)]
    buffer = native.aligned((min(few, len(x)), *size, x.shape[-1]), x.dtype)
    inside = buffer[
        (slice(None), *[slice(lo, lo + n) for n, (lo, _) in zip(x.shape[1:-1], padding)])
    ]
    buffer[...] = 0
    for i in range(0, len(x), few):
        some = x[i : i + few]
        inside[: len(some)] = some
        yield slice(i, i + few), buffer[: len(some)]


def places_of(size: Ints, kernel: Ints, stride: Ints, dilation: Ints) -> Ints:
    each = zip(size, kernel, stride, dilation)
    return tuple((n - d * (k - 1) - 1) // s + 1 for n, k, s, d in each)


def patches(x: Array, kernel: Ints, stride: Ints, dilation: Ints) -> Array:
    """[N, *O, .., C]: the patch at every place, as a window on x.

    The last axis of the kernel is joined with the channels where they follow each other in memory:
    copies then move longer runs.
    """
    n, *size, c = x.shape
    first, *steps, last = x.strides
    places = places_of(tuple(size), kernel, stride, dilation)
    inner: list[int] = [*kernel, c]
    inner_steps = [*[d * st for d, st in zip(dilation, steps)], last]
    if inner_steps[-2] == c * last:
        inner[-2:], inner_steps[-2:] = [kernel[-1] * c], [last]
    return as_strided(
        x,
        (n, *places, *inner),
        (first, *[t * st for t, st in zip(stride, steps)], *inner_steps),
        writeable=False,
    )


def best(limit: int, k: int, m: int, itemsize: int) -> int:
    """The bytes of columns at a time, each of k numbers, that are to be multiplied by k x m."""
    rows = SMALL // max(1, k * m)
    return min(limit, rows * k * itemsize) if rows >= ENOUGH else limit


def blocks(lead: Ints, size: int, limit: int) -> Iterator[tuple[Any, ...]]:
    """Indices that cut the axes `lead` into parts of at most `limit` bytes, if `size` is one's."""
    axis, inside = len(lead) - 1, size
    while axis and inside * lead[axis] <= limit:
        inside *= lead[axis]
        axis -= 1
    most = max(1, limit // max(1, inside))
    parts = -(-lead[axis] // most)
    step = -(-lead[axis] // max(1, parts))  # of even size, not a small one at the end
    for outer in np.ndindex(*lead[:axis]):
        for i in range(0, lead[axis], max(1, step)):
            yield (*outer, slice(i, i + step))


def columns(windows: Array, axes: int, limit: int) -> Iterator[tuple[Any, Array]]:
    """(where in y, the patches there as rows) a block at a time, all in one buffer."""
    lead, k = windows.shape[: axes + 1], math.prod(windows.shape[axes + 1 :])
    buffer = None
    for where in blocks(lead, k * windows.dtype.itemsize, limit):
        part = windows[where]
        if buffer is None:
            buffer = np.empty(part.size, windows.dtype)
        block = buffer[: part.size].reshape(part.shape)
        block[...] = part
        yield where, block.reshape(-1, k)


def row_columns(
    x: Array, kernel: Ints, stride: Ints, dilation: Ints, places: Ints, limit: int
) -> Iterator[tuple[Any, Array, int]]:
    """(where in y, columns of one row of the kernel, how many belong to y), for images.

    The columns go on below the rows of y as far as the kernel reaches.
    """
    view = patches(x, (1, kernel[1]), (1, stride[1]), dilation)
    high, wide = places
    k = kernel[1] * x.shape[-1]
    reach = dilation[0] * (kernel[0] - 1)
    rows = min(high, max(1, reach, limit // (wide * k * x.itemsize) - reach))
    rows = -(-high // -(-high // rows))
    buffer = np.empty((rows + reach, *view.shape[2:]), x.dtype)
    for i in range(len(x)):
        for j in range(0, high, rows):
            end = min(high, j + rows)
            block = buffer[: end - j + reach]
            block[...] = view[i, j : end + reach]
            yield (i, slice(j, end)), block.reshape(-1, k), (end - j) * wide


def plane_columns(
    x: Array, kernel: Ints, stride: Ints, dilation: Ints, places: Ints, limit: int
) -> Iterator[tuple[Any, Array]]:
    """(where in y, the patches there as columns), where rows would be short copies."""
    planes = np.ascontiguousarray(np.moveaxis(x, -1, 0))
    first, second, *steps = planes.strides
    moves = [d * st for d, st in zip(dilation, steps)]
    view = as_strided(
        planes,
        (*kernel, len(planes), len(x), *places),
        (*moves, first, second, *[t * st for t, st in zip(stride, steps)]),
        writeable=False,
    )
    k, axes = math.prod(kernel) * len(planes), len(kernel)
    buffer = None
    for where in blocks((len(x), *places), k * x.itemsize, limit):
        part = view[(slice(None),) * (axes + 1) + where]
        if buffer is None:
            buffer = np.empty(part.size, x.dtype)
        block = buffer[: part.size].reshape(part.shape)
        block[...] = part
        yield where, block.reshape(k, -1)


def by_row(kernel: Ints, stride: Ints, places: Ints) -> bool:
    many = len(kernel) == 2 and math.prod(places) >= PLACES
    return many and stride[0] == 1 and kernel[0] > 1


def forward(x: Array, w: Array, stride: Ints, padding: Any, dilation: Ints, groups: int) -> Array:
    """y[n, o, m] = sum_{k, c} x[n, s o + d k - p, c] w[k, c, m]. The shapes have been checked."""
    *kernel, inner, m = w.shape
    dtype = np.result_type(x.dtype, w.dtype)
    x, w = x.astype(dtype, copy=False), w.astype(dtype, copy=False)
    size = tuple(n + lo + hi for n, (lo, hi) in zip(x.shape[1:-1], padding))
    y = np.empty((len(x), *places_of(size, tuple(kernel), stride, dilation), m), dtype)
    if not y.size or not w.size:
        y[...] = 0
        return y
    how = stride, padding, dilation, groups
    if (inner > 1 or groups == 1) and conv_direct.forward(x, w, y, *how):
        return y
    for some, wide in padded_images(x, padding):
        out = y[some]
        if groups == 1:
            dense(wide, w, out, stride, dilation)
        elif inner == 1:
            wide = np.repeat(wide, m // groups, axis=-1) if m > groups else wide
            depthwise(wide, w, out, stride, dilation)
        else:
            grouped(wide, w, out, stride, dilation)
    return y


def grouped(x: Array, w: Array, y: Array, stride: Ints, dilation: Ints) -> None:
    """One group of channels after the other, into y."""
    inner, m = w.shape[-2:]
    groups = x.shape[-1] // inner
    per = m // groups
    part = np.empty((*y.shape[:-1], per), y.dtype)
    for g in range(groups):
        out = slice(g * per, (g + 1) * per)
        dense(x[..., g * inner : (g + 1) * inner], w[..., out], part, stride, dilation)
        y[..., out] = part


def dense(x: Array, w: Array, y: Array, stride: Ints, dilation: Ints) -> None:
    """One group, into y."""
    *kernel, c, m = w.shape
    places = y.shape[1:-1]
    if math.prod(kernel) == 1:
        x = x[(slice(None), *[slice(0, s * (o - 1) + 1, s) for s, o in zip(stride, places)])]
        np.matmul(x.reshape(-1, c), w.reshape(c, m), out=y.reshape(-1, m))
        return
    if c <= FEW:
        flat = w.reshape(-1, m)
        limit = best(COLUMNS, len(flat), m, x.itemsize)
        for where, cols in plane_columns(x, tuple(kernel), stride, dilation, places, limit):
            np.matmul(cols.T, flat, out=y[where].reshape(-1, m))
        return
    if by_row(tuple(kernel), stride, places):
        flat = w.reshape(kernel[0], -1, m)
        step = dilation[0] * places[1]
        buffer = None
        for where, rows, n in row_columns(x, tuple(kernel), stride, dilation, places, COLUMNS):
            out = y[where].reshape(-1, m)
            buffer = np.empty_like(out) if buffer is None else buffer  # the first is the largest
            more = buffer[:n]
            np.matmul(rows[:n], flat[0], out=out)
            for k in range(1, kernel[0]):
                np.matmul(rows[k * step : k * step + n], flat[k], out=more)
                np.add(out, more, out=out)
        return
    flat = w.reshape(-1, m)
    limit = best(COLUMNS, len(flat), m, x.itemsize)
    for where, rows in columns(patches(x, tuple(kernel), stride, dilation), len(kernel), limit):
        np.matmul(rows, flat, out=y[where].reshape(-1, m))


def lines(x: Array, kernel: Ints, stride: Ints, dilation: Ints, places: Ints) -> list[Array]:
    """For each tap the x of every place, `[N, *O[:-1], O[-1] C]`, as windows with long lines.

    With a stride in the last axis, x is first sorted by its remainder.
    """
    c, s = x.shape[-1], stride[-1]
    parts = [np.ascontiguousarray(x[..., r::s, :]) for r in range(s)]
    parts = [p.reshape(*p.shape[:-2], -1) for p in parts]
    found = []
    for tap in np.ndindex(*kernel):
        at = [
            slice(d * k, d * k + t * (o - 1) + 1, t)
            for d, k, t, o in zip(dilation, tap, stride, places)
        ]
        start = dilation[-1] * tap[-1]
        line = slice(start // s * c, (start // s + places[-1]) * c)
        found.append(parts[start % s][(slice(None), *at[:-1], line)])
    return found


def depthwise(x: Array, w: Array, y: Array, stride: Ints, dilation: Ints) -> None:
    """As many groups as channels, into y."""
    *kernel, _, c = w.shape
    places = y.shape[1:-1]
    flat = np.ascontiguousarray(w.reshape(-1, c))
    if conv_native.forward(np.ascontiguousarray(x), flat, y, kernel, stride, dilation):
        return
    taps = lines(x, tuple(kernel), stride, dilation, places)
    weights = np.tile(flat[:, None], (1, places[-1], 1)).reshape(len(taps), -1)
    out = y.reshape(*y.shape[:-2], -1)
    buffer = None
    for where in blocks(out.shape[:-1], out.shape[-1] * y.itemsize, LINES):
        total = out[where]
        buffer = np.empty_like(total) if buffer is None else buffer
        term = buffer[: len(total)]
        np.multiply(taps[0][where], weights[0], out=total)
        for tap, weight in zip(taps[1:], weights[1:]):
            np.multiply(tap[where], weight, out=term)
            np.add(total, term, out=total)


def residues(
    size: int, count: int, kernel: int, stride: int, lo: int, dilation: int
) -> list[tuple[slice, slice, tuple[int, int], int]]:
    """For each remainder of i by the stride: (its i, its taps, padding and dilation of u), an axis.

    i = s o + d k - p fixes k up to multiples of s / gcd(s, d): with those taps alone, turned
    around, the sum over o is a convolution of stride 1.
    """
    common = math.gcd(stride, dilation)
    step, wide = stride // common, dilation // common
    found = []
    for r in range(min(stride, size)):
        first = next(
            (k for k in range(min(step, kernel)) if (r + lo - dilation * k) % stride == 0), None
        )
        n = len(range(r, size, stride))
        if first is None:
            found.append((slice(r, None, stride), slice(0, 0), (0, 0), 1))
            continue
        taps = len(range(first, kernel, step))
        before = (taps - 1) * wide - (r + lo - dilation * first) // stride
        after = n - count - before + wide * (taps - 1)
        found.append((slice(r, None, stride), slice(first, None, step), (before, after), wide))
    return found


def backward_input(
    u: Array, w: Array, stride: Ints, padding: Any, dilation: Ints, groups: int, size: Ints
) -> Array:
    """x[n, i, c] = sum over s o + d k - p = i of u[n, o, m] w[k, c, m].

    Convolutions of u with the kernel turned around, one for each remainder of i by the stride.
    """
    *kernel, inner, m = w.shape
    axes, per = len(kernel), m // groups
    turned = w[(slice(None, None, -1),) * axes].reshape(*kernel, inner, groups, per)
    turned = np.moveaxis(turned, -1, axes)  # [*K, per, inner, groups]
    turned = np.ascontiguousarray(np.swapaxes(turned, -1, -2))
    turned = turned.reshape(*kernel, per, groups * inner)
    lows = [lo for lo, _ in padding]
    each = [residues(*line) for line in zip(size, u.shape[1:-1], kernel, stride, lows, dilation)]
    if all(len(line) == 1 for line in each):
        pads, wide = tuple(line[0][2] for line in each), tuple(line[0][3] for line in each)
        if all(line[0][1] == slice(0, None, 1) for line in each):
            return forward(u, turned, (1,) * axes, pads, wide, groups)
    x = np.zeros((len(u), *size, inner * groups), np.result_type(u.dtype, w.dtype))
    if not u.size:
        return x
    for parts in itertools.product(*each):
        taps = tuple(slice(*k.indices(n)) for (_, k, _, _), n in zip(parts, kernel))
        # the turned kernel counts taps from the other end
        some = turned[tuple([range_of(k, n) for k, n in zip(taps, kernel)])]
        if some.size:
            pads, wide = tuple(p for _, _, p, _ in parts), tuple(d for *_, d in parts)
            part = forward(u, np.ascontiguousarray(some), (1,) * axes, pads, wide, groups)
            x[(slice(None), *[i for i, *_ in parts])] = part
    return x


def range_of(taps: slice, n: int) -> slice:
    """The places of `taps` in the reversed axis, in ascending order."""
    count = len(range(taps.start, taps.stop, taps.step))
    if not count:
        return slice(0, 0)
    last = taps.start + (count - 1) * taps.step
    return slice(n - 1 - last, n - taps.start, taps.step)


def backward_weight(
    x: Array, u: Array, stride: Ints, padding: Any, dilation: Ints, groups: int, kernel: Ints
) -> Array:
    """w[k, c, m] = sum_{n, o} x[n, s o + d k - p, c] u[n, o, m]."""
    m, c = u.shape[-1], x.shape[-1]
    inner, per = c // groups, m // groups
    dtype = np.result_type(x.dtype, u.dtype)
    w = np.zeros((*kernel, inner, m), dtype)
    if not u.size or not x.size:
        return w
    x, u = x.astype(dtype, copy=False), u.astype(dtype, copy=False)
    how = stride, padding, dilation, groups
    if (inner > 1 or groups == 1) and conv_direct.weight(x, u, w, *how):
        return w
    for some, wide in padded_images(x, padding):
        part = u[some]
        if groups == 1:
            dense_weight(wide, part, w, stride, dilation)
        elif inner == 1:
            wide = np.repeat(wide, per, axis=-1) if per > 1 else wide
            depthwise_weight(wide, part, w, stride, dilation)
        else:
            for g in range(groups):
                out = slice(g * per, (g + 1) * per)
                one = np.zeros((*kernel, inner, per), dtype)
                rows = np.ascontiguousarray(part[..., out])
                dense_weight(wide[..., g * inner : (g + 1) * inner], rows, one, stride, dilation)
                w[..., out] += one
    return w


def dense_weight(x: Array, u: Array, w: Array, stride: Ints, dilation: Ints) -> None:
    """One group; adds to w."""
    *kernel, c, m = w.shape
    places = u.shape[1:-1]
    if math.prod(kernel) == 1:
        x = x[(slice(None), *[slice(0, s * (o - 1) + 1, s) for s, o in zip(stride, places)])]
        w += (x.reshape(-1, c).T @ u.reshape(-1, m)).reshape(w.shape)
        return
    if c <= FEW:
        flat = w.reshape(-1, m)
        limit = best(SUMMED, len(flat), m, x.itemsize)
        for where, cols in plane_columns(x, tuple(kernel), stride, dilation, places, limit):
            flat += cols @ u[where].reshape(-1, m)
        return
    if by_row(tuple(kernel), stride, places):
        flat = w.reshape(kernel[0], -1, m)
        step, term = dilation[0] * places[1], np.empty_like(flat[0])
        for where, rows, n in row_columns(x, tuple(kernel), stride, dilation, places, SUMMED):
            part = u[where].reshape(-1, m)
            for k in range(kernel[0]):
                np.matmul(rows[k * step : k * step + n].T, part, out=term)
                flat[k] += term
        return
    flat = w.reshape(-1, m)
    term = np.empty_like(flat)
    limit = best(SUMMED, len(flat), m, x.itemsize)
    for where, rows in columns(patches(x, tuple(kernel), stride, dilation), len(kernel), limit):
        np.matmul(rows.T, u[where].reshape(-1, m), out=term)
        flat += term


def depthwise_weight(x: Array, u: Array, w: Array, stride: Ints, dilation: Ints) -> None:
    """As many groups as channels; adds to w."""
    *kernel, _, c = w.shape
    places = u.shape[1:-1]
    x, u = np.ascontiguousarray(x), np.ascontiguousarray(u)
    if conv_native.weight(x, u, w.reshape(-1, c), kernel, stride, dilation):
        return
    taps = lines(x, tuple(kernel), stride, dilation, places)
    flat = u.reshape(*u.shape[:-2], -1)
    total = np.zeros((len(taps), flat.shape[-1]), w.dtype)
    axes, buffer = tuple(range(flat.ndim - 1)), None
    for where in blocks(flat.shape[:-1], flat.shape[-1] * w.itemsize, LINES):
        part = flat[where]
        buffer = np.empty(part.shape, w.dtype) if buffer is None else buffer
        product = buffer[: len(part)]
        for tap, line in zip(taps, total):
            np.multiply(tap[where], part, out=product)
            line += np.add.reduce(product, axis=axes[: part.ndim - 1])
    w.reshape(len(taps), c)[...] += total.reshape(len(taps), -1, c).sum(axis=1)
