"""Dense convolution without columns, where the extra `compile` (llvmlite) is installed.

The machine code of `conv_tiles` reads x where it lies, by a table of where the taps of a place are.
A table serves all images, and its own size is what limits it: an image of few channels and many
places is left to `conv_kernels`, as is what is too small to be worth a compilation.
"""

from __future__ import annotations

import math
from functools import lru_cache, partial
from typing import Any

import numpy as np

from .. import native
from . import conv_tiles

__all__ = ["forward", "weight"]

Array = Any
Ints = tuple[int, ...]
WORTH = 1 << 22  # multiplications from which on it pays to compile
LEAST = 12  # places: the rows of the largest tile
NARROW = 6  # channels out up to which vectors would be mostly empty
KEPT = 1 << 20  # bytes of a table up to which it is kept for the next call
CACHED = 1 << 18  # bytes of x and u at a time, where every tile of w reads them


def offsets(
    size: Ints, places: Ints, kernel: Ints, stride: Ints, lows: Ints, dilation: Ints, c: int
) -> Array:
    """[places, taps]: where in an image a tap of a place lies, in numbers; -1 outside."""
    axes = len(size)
    found: Any = np.zeros((1,) * 2 * axes, np.int32)
    inside: Any = np.ones((1,) * 2 * axes, bool)
    for i in range(axes):
        o, k = np.ogrid[: places[i], : kernel[i]]
        at = o * stride[i] + k * dilation[i] - lows[i]
        shape = [1] * 2 * axes
        shape[i], shape[axes + i] = at.shape
        step = c * math.prod(size[i + 1 :])
        found = found + (at * step).astype(np.int32).reshape(shape)
        inside = inside & ((at >= 0) & (at < size[i])).reshape(shape)
    return np.ascontiguousarray(np.where(inside, found, np.int32(-1))).reshape(
        math.prod(places), math.prod(kernel)
    )


kept_offsets = lru_cache(64)(offsets)


def table(x: Array, places: Ints, kernel: Ints, stride: Ints, padding: Any, dilation: Ints) -> Any:
    """The offsets for x, kept from call to call where they are few."""
    make = kept_offsets if room_of_table(places, kernel) <= KEPT else offsets
    lows = tuple(lo for lo, _ in padding)
    return make(x.shape[1:-1], places, kernel, stride, lows, dilation, x.shape[-1])


def room_of_table(places: Ints, kernel: Ints) -> int:
    return 4 * math.prod(places) * math.prod(kernel)


def suits(shape: Ints, dtype: Any, places: Ints, weight: Ints, groups: int) -> bool:
    """Whether x of a shape is convolved here, with a weight `[*K, C / groups, M]`."""
    n, m = shape[0], weight[-1]
    total, image = n * math.prod(places), math.prod(shape[1:])
    return (
        dtype.char in native.KINDS
        and dtype.isnative
        and total >= LEAST
        and m // groups > NARROW
        and total * math.prod(weight) >= WORTH
        and image < 1 << 31
        and room_of_table(places, weight[:-2]) <= max(KEPT, n * image * dtype.itemsize)
        and native.available()
    )


@lru_cache(64)
def forward_code(kind: str, m: int) -> Any:
    """(the address of @forward, how many panels are full); None without a compiler."""
    return code("forward", kind, m, partial(conv_tiles.forward, kind=kind))


@lru_cache(64)
def weight_code(kind: str, taps: int, c: int, m: int) -> Any:
    return code("weight", kind, m, partial(conv_tiles.weight, kind=kind, taps=taps, c=c))


def code(name: str, kind: str, m: int, write: Any) -> Any:
    full = 0

    def source(target: Any) -> str:
        nonlocal full
        _, full, rest = conv_tiles.panels(m, target, kind)
        return str(write(target, full=full > 0, rest=rest))

    library = native.library(source)
    return None if library is None else (library.address(name), full)


def forward(
    x: Array, w: Array, y: Array, stride: Ints, padding: Any, dilation: Ints, groups: int
) -> bool:
    """y[n, o, m] = sum_{k, c} x[n, s o + d k - p, c] w[k, c, m], into y.

    False if it has to be done otherwise; nothing was touched then.
    """
    *kernel, inner, m = w.shape
    places, total = y.shape[1:-1], y.size // m
    if not suits(x.shape, x.dtype, places, w.shape, groups):
        return False
    made = forward_code(native.KINDS[x.dtype.char], m // groups)
    if made is None:
        return False
    where = table(x, places, tuple(kernel), stride, padding, dilation)
    x, w = np.ascontiguousarray(x), np.ascontiguousarray(w)
    values = {
        "table": where, "zero": np.zeros(inner, x.dtype), "total": total, "image": x[0].size,
        "places": math.prod(places), "taps": math.prod(kernel), "c": inner, "ldw": m, "ldy": m,
        "block": conv_tiles.BLOCK, "full": made[1],
    }  # fmt: skip
    for g in range(groups):
        out = slice(g * (m // groups), None)
        group = {"x": x[..., g * inner :], "w": w[..., out], "y": y[..., out]}
        native.run(made[0], conv_tiles.FORWARD, values | group, -(-total // conv_tiles.BLOCK))
    return True


def weight(
    x: Array, u: Array, w: Array, stride: Ints, padding: Any, dilation: Ints, groups: int
) -> bool:
    """w[k, c, m] += sum_{n, o} x[n, s o + d k - p, c] u[n, o, m].

    False if it has to be done otherwise; nothing was touched then.
    """
    *kernel, inner, m = w.shape
    places, per = u.shape[1:-1], m // groups
    if not suits(x.shape, x.dtype, places, w.shape, groups):
        return False
    made = weight_code(native.KINDS[x.dtype.char], math.prod(kernel), inner, per)
    if made is None:
        return False
    where = table(x, places, tuple(kernel), stride, padding, dilation)
    x, u = np.ascontiguousarray(x), np.ascontiguousarray(u)
    each = math.prod(places)
    image = (x[0].size + u[0].size) * x.itemsize
    few = max(1, CACHED // image)  # images at a time, or if they are large parts of one
    some = -(-each // (1 if few > 1 else -(-image // CACHED)))
    parts = native.threads()
    values = {
        "table": where, "zero": np.zeros(inner, x.dtype), "images": len(x), "image": x[0].size,
        "places": each, "ldw": m, "ldu": m, "full": made[1], "few": few, "some": some,
        "parts": parts,
    }  # fmt: skip
    for g in range(groups):
        out = slice(g * per, None)
        group = {"x": x[..., g * inner :], "u": u[..., out], "w": w[..., out]}
        native.run(made[0], conv_tiles.WEIGHT, values | group, parts)
    return True
