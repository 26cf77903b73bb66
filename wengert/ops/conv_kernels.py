"""How convolutions are computed: columns of a block at a time, so that they stay in cache.

`im2col`: every place's patch becomes a row, and the convolution one product of matrices. All rows
at once would be K times the size of x, far more than a cache holds; so they are made for a few
images, or for a few rows of one, multiplied, and overwritten by the next.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

__all__ = ["backward_input", "backward_weight", "forward"]

COLUMNS = 1 << 20  # bytes of columns at a time: what an L2 cache holds

Array = Any
Ints = tuple[int, ...]


def padded(x: Array, padding: Any) -> Array:
    """x with zeros around its spatial axes; negative padding crops."""
    if all(p == (0, 0) for p in padding):
        return x
    pairs = list(zip(x.shape[1:-1], padding))
    from_ = [slice(max(0, -lo), max(max(0, -lo), n + min(0, hi))) for n, (lo, hi) in pairs]
    x = x[(slice(None), *from_)]
    y = np.zeros((len(x), *[max(0, n + lo + hi) for n, (lo, hi) in pairs], x.shape[-1]), x.dtype)
    inside = [slice(max(0, lo), max(0, lo) + n) for n, (lo, _) in zip(x.shape[1:-1], padding)]
    y[(slice(None), *inside)] = x
    return y


def patches(x: Array, kernel: Ints, stride: Ints, dilation: Ints) -> Array:
    """[N, *O, *K, C]: the patch at every place, as a window on x."""
    n, *size, c = x.shape
    steps = x.strides
    places = [(s - d * (k - 1) - 1) // t + 1 for s, k, t, d in zip(size, kernel, stride, dilation)]
    return as_strided(
        x,
        (n, *places, *kernel, c),
        (
            steps[0],
            *[t * st for t, st in zip(stride, steps[1:-1])],
            *[d * st for d, st in zip(dilation, steps[1:-1])],
            steps[-1],
        ),
        writeable=False,
    )


def blocks(windows: Array, spatial: int) -> Iterator[tuple[Any, Any]]:
    """(where, their patches) for a few images, or a few rows of one image, at a time."""
    n, rows = windows.shape[:2]
    row = math.prod(windows.shape[2:]) * windows.dtype.itemsize
    if row * rows <= COLUMNS:
        many = max(1, COLUMNS // max(1, row * rows))
        for i in range(0, n, many):
            images = slice(i, i + many)
            yield images, windows[images]
        return
    few = max(1, COLUMNS // max(1, row))
    for i in range(n):
        for j in range(0, rows, few):
            where = (i, slice(j, j + few))
            yield where, windows[where]


def forward(x: Array, w: Array, stride: Ints, padding: Any, dilation: Ints, groups: int) -> Array:
    """y[n, o, m] = sum_{k, c} x[n, s o + d k - p, c] w[k, c, m]."""
    *kernel, inner, m = w.shape
    if len(stride) + 2 != x.ndim or w.ndim != x.ndim:
        raise ValueError(f"{len(stride)} spatial axes")
    if inner * groups != x.shape[-1]:
        raise ValueError(f"x has {x.shape[-1]} channels, and w takes {inner * groups}")
    if m % groups:
        raise ValueError(f"{m} channels out are not a multiple of {groups} groups")
    dtype = np.result_type(x.dtype, w.dtype)
    windows = patches(padded(x, padding), tuple(kernel), stride, dilation)
    spatial = len(kernel)
    places = windows.shape[1 : 1 + spatial]
    if min(places, default=1) < 1:
        raise ValueError(f"the kernel {tuple(kernel)} is larger than x with its padding")
    y = np.empty((x.shape[0], *places, m), dtype)
    if not y.size:
        return y
    if groups > 1:
        return grouped(windows, w, y, groups)
    flat = w.reshape(-1, m)
    for where, block in blocks(windows, spatial):
        out = y[where].reshape(-1, m)
        np.matmul(block.reshape(-1, flat.shape[0]), flat, out=out)
    return y


def grouped(windows: Array, w: Array, y: Array, groups: int) -> Array:
    """The same, a group of channels at a time."""
    *kernel, inner, m = w.shape
    per = m // groups
    if inner == per == 1:
        y[...] = 0
        weights = w.reshape(-1, m)
        for k, at in enumerate(np.ndindex(*kernel)):
            y += windows[(..., *at, slice(None))] * weights[k]
        return y
    for g in range(groups):
        channels = windows[..., g * inner : (g + 1) * inner]
        flat = w[..., g * per : (g + 1) * per].reshape(-1, per)
        for where, block in blocks(channels, len(kernel)):
            y[where][..., g * per : (g + 1) * per] = (
                block.reshape(-1, flat.shape[0]) @ flat
            ).reshape(*y[where].shape[:-1], per)
    return y


def backward_input(
    u: Array, w: Array, stride: Ints, padding: Any, dilation: Ints, groups: int, size: Ints
) -> Array:
    """x[n, i, c] = sum over s o + d k - p = i of u[n, o, m] w[k, c, m].

    A convolution of u, with s - 1 zeros between its values, with the kernel turned around.
    """
    *kernel, inner, m = w.shape
    spatial = len(kernel)
    if max(stride) > 1:
        spread = [(n - 1) * s + 1 for n, s in zip(u.shape[1:], stride)]
        wide = np.zeros((u.shape[0], *[max(0, n) for n in spread], u.shape[-1]), u.dtype)
        wide[(slice(None), *[slice(None, None, s) for s in stride])] = u
        u = wide
    pads = [
        (d * (k - 1) - lo, n - (places - 1) - 1 + lo)
        for n, places, k, d, (lo, _) in zip(size, u.shape[1:], kernel, dilation, padding)
    ]
    turned = w[tuple([slice(None, None, -1)] * spatial)]
    if groups > 1:
        per = m // groups
        turned = turned.reshape(*kernel, inner, groups, per)
        turned = np.moveaxis(turned, -1, spatial).reshape(*kernel, per, inner, groups)
        turned = np.swapaxes(turned, -1, -2).reshape(*kernel, per, groups * inner)
    else:
        turned = np.swapaxes(turned, -1, -2)
    turned = np.ascontiguousarray(turned)
    return forward(u, turned, (1,) * spatial, tuple(pads), dilation, groups)


def backward_weight(
    x: Array, u: Array, stride: Ints, padding: Any, dilation: Ints, groups: int, kernel: Ints
) -> Array:
    """w[k, c, m] = sum_{n, o} x[n, s o + d k - p, c] u[n, o, m]."""
    m, c = u.shape[-1], x.shape[-1]
    inner, per = c // groups, m // groups
    spatial = len(kernel)
    dtype = np.result_type(x.dtype, u.dtype)
    windows = patches(padded(x, padding), kernel, stride, dilation)
    windows = windows[(slice(None), *[slice(n) for n in u.shape[1:-1]])]
    w = np.zeros((*kernel, inner, m), dtype)
    if not u.size or not x.size:
        return w
    if groups > 1 and inner == per == 1:
        flat = w.reshape(-1, m)
        axes = "nabc"[: spatial + 1]
        for k, at in enumerate(np.ndindex(*kernel)):
            tap = windows[(..., *at, slice(None))]
            np.einsum(f"{axes}m,{axes}m->m", tap, u, out=flat[k])
        return w
    for g in range(groups):
        channels = windows[..., g * inner : (g + 1) * inner] if groups > 1 else windows
        flat = np.zeros((math.prod(kernel) * inner, per), dtype)
        for where, block in blocks(channels, spatial):
            rows = u[where][..., g * per : (g + 1) * per].reshape(-1, per)
            flat += block.reshape(-1, flat.shape[0]).T @ rows
        w[..., g * per : (g + 1) * per] = flat.reshape(*kernel, inner, per)
    return w
