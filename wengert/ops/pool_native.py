"""Maxima over windows and their gradient as machine code, where llvmlite is installed.

    y[n, o] = max_k x[n, s o + d k]
    gx[n, s o + d k] += u[n, o] at the first k with x[n, s o + d k] = y[n, o]

In NumPy every tap is a pass over memory for each of its steps; here all taps of a place are looked
at in registers. Nothing is rounded but the sums of windows that meet.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np

from .. import native
from . import conv_native

__all__ = ["largest", "put"]

Array = Any
IMAGES = 1 << 20  # bytes of x at a time to which padding is added
PREFIX = {"float": "f32", "double": "f64"}


@lru_cache(64)
def compiled(name: str, taps: int, code: str) -> Any:
    arrays = ("y_", "x") if name == "largest" else ("y_", "x", "u_", "gx")
    write = largest_source if name == "largest" else put_source
    return conv_native.built(
        lambda taps, kind, v: write(name, taps, kind, v, arrays), (name,), len(arrays), taps, code
    )


def largest_source(name: str, taps: int, kind: str, v: int, arrays: Any) -> str:
    """The maximum for vectors of v channels, as LLVM's assembly."""
    vec, most = f"<{v} x {kind}>", f"@llvm.maximum.v{v}{PREFIX[kind]}"
    body, found = list(conv_native.PLACE), "%x0"
    for t in range(taps):
        body += [f"  %xi{t} = add i64 %xw, %off{t}"]
        body += conv_native.loaded(f"x{t}", "%x", f"%xi{t}", vec, kind)
        if t:
            body += [f"  %m{t} = call {vec} {most}({vec} {found}, {vec} %x{t})"]
            found = f"%m{t}"
    body += [
        f"  %y.p = getelementptr {kind}, ptr %y_, i64 %yw",
        f"  store {vec} {found}, ptr %y.p, align {size_of(kind)}",
    ]
    text = conv_native.function(f"{name}_{v}", taps, v, [], [], body, [], arrays)
    return f"declare {vec} {most}({vec}, {vec})\n{text}"


def put_source(name: str, taps: int, kind: str, v: int, arrays: Any) -> str:
    """The gradient; `put` for windows that are apart, `put_sums` for any."""
    vec, bits = f"<{v} x {kind}>", f"<{v} x i1>"
    true = "<" + ", ".join(["i1 true"] * v) + ">"
    body = conv_native.PLACE + conv_native.loaded("y", "%y_", "%yw", vec, kind)
    body += conv_native.loaded("u", "%u_", "%yw", vec, kind)
    for t in range(taps):
        body += [f"  %xi{t} = add i64 %xw, %off{t}"]
        body += conv_native.loaded(f"x{t}", "%x", f"%xi{t}", vec, kind)
        before = f"%none{t - 1}" if t else true
        body += [
            f"  %same{t} = fcmp oeq {vec} %x{t}, %y",
            f"  %won{t} = and {bits} %same{t}, {before}",
            f"  %none{t} = xor {bits} {before}, %won{t}",
            f"  %g{t} = select {bits} %won{t}, {vec} %u, {vec} zeroinitializer",
        ]
        new = f"%g{t}"
        if name == "put_sums":
            body += conv_native.loaded(f"old{t}", "%gx", f"%xi{t}", vec, kind)
            body += [f"  %sum{t} = fadd {vec} %old{t}, %g{t}"]
            new = f"%sum{t}"
        body += [
            f"  %to{t}.p = getelementptr {kind}, ptr %gx, i64 %xi{t}",
            f"  store {vec} {new}, ptr %to{t}.p, align {size_of(kind)}",
        ]
    return conv_native.function(f"{name}_{v}", taps, v, [], [], body, [], arrays)


def size_of(kind: str) -> int:
    return 4 if kind == "float" else 8


def worth(how: Any, size: int, dtype: Any) -> bool:
    """Whether so many maxima are worth it, and can be had here."""
    taps = math.prod(how.kernel)
    return (
        len(how.kernel) <= 2
        and taps <= conv_native.MOST
        and dtype.char in conv_native.TYPES
        and size * taps >= conv_native.WORTH
        and native.available()
    )


def code_for(name: str, how: Any, y: Array, arrays: tuple[Array, ...]) -> Any:
    """The functions; None if NumPy has to do it."""
    if not worth(how, y.size, y.dtype):
        return None
    if not all(a.flags.c_contiguous and a.dtype == y.dtype for a in (y, *arrays)):
        return None
    return compiled(name, math.prod(how.kernel), y.dtype.char)


def bordered(x: Array, padding: Any, value: float, count: int) -> Iterator[Any]:
    """(which images, `count` of them with a border of `value`, where in those x is)."""
    few = max(1, IMAGES // max(1, x[:1].nbytes))
    inside = (slice(None), *[slice(lo, lo + n) for n, (lo, _) in zip(x.shape[1:-1], padding)])
    size = [n + lo + hi for n, (lo, hi) in zip(x.shape[1:-1], padding)]
    wide = native.aligned((count, min(few, len(x)), *size, x.shape[-1]), x.dtype)
    wide[0] = value
    for i in range(0, len(x), few):
        some = slice(i, i + few)
        rows = len(x[some])
        wide[0, :rows][inside] = x[some]
        yield some, wide[:, :rows], inside


def largest(x: Array, y: Array, how: Any) -> bool:
    """The maxima of all windows, into y; False if NumPy has to do it."""
    made = code_for("largest", how, y, (x,))
    if made is None:
        return False
    at = how.kernel, how.stride, how.dilation
    if not any(map(any, how.padding)):
        conv_native.call(made, "largest", (y, x), *at)
        return True
    for some, (wide,), _ in bordered(x, how.padding, -np.inf, 1):
        conv_native.call(made, "largest", (y[some], wide), *at)
    return True


def put(y: Array, x: Array, u: Array, gx: Array, how: Any, apart: bool = True) -> bool:
    """Into gx, which is 0 where no window is; False if NumPy has to do it.

    Args:
        apart: whether no two windows meet; otherwise gx is 0.
    """
    name = "put" if apart else "put_sums"
    made = code_for(name, how, y, (x, u, gx))
    if made is None:
        return False
    at = how.kernel, how.stride, how.dilation
    if not any(map(any, how.padding)):
        conv_native.call(made, name, (y, x, u, gx), *at)
        return True
    for some, (wide, back), inside in bordered(x, how.padding, np.nan, 2):
        back[...] = 0
        conv_native.call(made, name, (y[some], wide, u[some], back), *at)
        gx[some] = back[inside]
    return True
