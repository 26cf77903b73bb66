"""Depthwise convolution as machine code, where the extra `compile` (llvmlite) is installed.

One channel in a group leaves no product of matrices; NumPy then makes a pass over memory for every
tap, several times what the arithmetic takes. Here the taps of a place are added in registers:

    forward  y[n, h, w, c] = sum_t x[n, h, w, c + off_t] weight[t, c]
    weight   g[t, c] += sum_{n, h, w} x[n, h, w, c + off_t] u[n, h, w, c]

The products are rounded before they are added, in the order of the taps, as NumPy does: the forward
map has the same bits with and without. The sums over places are added up line by line.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any

import numpy as np

from .. import native

__all__ = ["forward", "weight"]

Array = Any
TYPES = {"f": ("float", (16, 4, 1)), "d": ("double", (8, 2, 1))}  # widths of vectors, largest first
MOST = 27  # taps whose sums fit into registers, or nearly
WORTH = 1 << 17  # products from which on it pays to compile


@lru_cache(64)
def compiled(taps: int, code: str) -> Any:
    return built(source, ("forward", "weight"), 3, taps, code)


def built(source: Any, names: Any, arrays: int, taps: int, code: str) -> Any:
    """Its functions by (name, width); None where there is no compiler."""
    kind, widths = TYPES[code]
    library = native.library("\n".join([PREFETCH, *[source(taps, kind, v) for v in widths]]))
    if library is None:
        return None
    types = [ctypes.c_void_p] * (arrays + 1) + [ctypes.c_int64] * 12
    return {
        (name, v): library.function(f"{name}_{v}", None, *types) for name in names for v in widths
    }


LOOPS = (("n", "0", "%N"), ("h", "0", "%H"), ("c", "%c0", "%c1"))  # outermost first


PREFETCH = "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)"
PLACE = [
    "  %xw.m = mul i64 %w, %xsw", "  %xw = add i64 %xc, %xw.m",
    "  %yw.m = mul i64 %w, %ysw", "  %yw = add i64 %yc, %yw.m",
]  # fmt: skip


def loaded(name: str, pointer: str, place: str, vec: str, kind: str) -> list[str]:
    """Lines that make %name of the numbers at a place."""
    return [
        f"  %{name}.p = getelementptr {kind}, ptr {pointer}, i64 {place}",
        f"  %{name} = load {vec}, ptr %{name}.p, align {4 if kind == 'float' else 8}",
    ]


def source(taps: int, kind: str, v: int) -> str:
    """Both functions for vectors of v channels, as LLVM's assembly."""
    vec = f"<{v} x {kind}>"
    size = 4 if kind == "float" else 8

    def load(name: str, pointer: str, place: str) -> list[str]:
        return loaded(name, pointer, place, vec, kind)

    def weights(name: str) -> list[str]:
        out = []
        for t in range(taps):
            out += [f"  %{name}m{t} = mul i64 %C, {t}", f"  %{name}i{t} = add i64 %{name}m{t}, %c"]
        return out

    def terms(name: str, with_: str) -> list[str]:
        out = []
        for t in range(taps):
            out += [f"  %xi{t} = add i64 %xw, %off{t}", *load(f"x{t}", "%x", f"%xi{t}")]
            out.append(f"  %{name}{t} = fmul {vec} %x{t}, {with_.format(t=t)}")
        return out

    def add(s: str, a: str, b: str) -> str:
        return f"  %{s} = fadd {vec} %{a}, %{b}"

    before = weights("k")
    for t in range(taps):
        before += load(f"w{t}", "%w_", f"%ki{t}")
    body = PLACE + terms("t", "%w{t}")
    total = "t0"
    for t in range(1, taps):
        body.append(add(f"s{t}", total, f"t{t}"))
        total = f"s{t}"
    body += [
        f"  %y.p = getelementptr {kind}, ptr %y_, i64 %yw",
        f"  store {vec} %{total}, ptr %y.p, align {size}",
    ]
    first = function(f"forward_{v}", taps, v, [], before, body, [])

    sums = [
        f"  %a{t} = phi {vec} [zeroinitializer, %c.body], [%b{t}, %w.body]" for t in range(taps)
    ]
    body = PLACE + load("u", "%y_", "%yw") + terms("t", "%u")
    body += [  # the next line of u is on its way while this one is added up: half the time
        "  %next = add i64 %yw, %ysh",
        f"  %next.p = getelementptr {kind}, ptr %y_, i64 %next",
        "  call void @llvm.prefetch.p0(ptr %next.p, i32 0, i32 2, i32 1)",
    ]
    body += [add(f"b{t}", f"a{t}", f"t{t}") for t in range(taps)]
    after = weights("k")
    for t in range(taps):
        after += [*load(f"g{t}", "%w_", f"%ki{t}"), add(f"r{t}", f"g{t}", f"a{t}")]
        after.append(f"  store {vec} %r{t}, ptr %g{t}.p, align {size}")
    return first + "\n" + function(f"weight_{v}", taps, v, sums, [], body, after)


def function(
    name: str,
    taps: int,
    v: int,
    phis: list[str],
    before: list[str],
    body: list[str],
    after: list[str],
    arrays: tuple[str, ...] = ("y_", "x", "w_"),
) -> str:
    """Loops over images, rows, channels and places, with code before, in and after the last."""
    pointers = ", ".join(f"ptr noalias %{a}" for a in arrays)
    lines = [
        f"define void @{name}({pointers}, ptr %off,",
        "  i64 %N, i64 %H, i64 %W, i64 %c0, i64 %c1, i64 %C,",
        "  i64 %xsn, i64 %xsh, i64 %xsw, i64 %ysn, i64 %ysh, i64 %ysw) {",
        "entry:",
    ]
    for t in range(taps):
        lines.append(f"  %off{t}.p = getelementptr i64, ptr %off, i64 {t}")
        lines.append(f"  %off{t} = load i64, ptr %off{t}.p")
    above = "entry"
    for loop, start, stop in LOOPS:
        step = v if loop == "c" else 1
        lines += [
            f"  br label %{loop}.head",
            f"{loop}.head:",
            f"  %{loop} = phi i64 [{start}, %{above}], [%{loop}.next, %{loop}.latch]",
            f"  %{loop}.next = add i64 %{loop}, {step}",
            f"  %{loop}.go = icmp slt i64 %{loop}, {stop}",
            f"  br i1 %{loop}.go, label %{loop}.body, label %{loop}.exit",
            f"{loop}.body:",
        ]
        above = f"{loop}.body"
    for a, s in (("x", "xs"), ("y", "ys")):
        lines += [
            f"  %{a}n = mul i64 %n, %{s}n", f"  %{a}h.m = mul i64 %h, %{s}h",
            f"  %{a}h = add i64 %{a}n, %{a}h.m", f"  %{a}c = add i64 %{a}h, %c",
        ]  # fmt: skip
    lines += [
        *before,
        "  br label %w.head",
        "w.head:",
        "  %w = phi i64 [0, %c.body], [%w.next, %w.body]",
        *phis,
        "  %w.go = icmp slt i64 %w, %W",
        "  br i1 %w.go, label %w.body, label %w.exit",
        "w.body:",
        *body,
        "  %w.next = add i64 %w, 1",
        "  br label %w.head",
        "w.exit:",
        *after,
    ]
    for loop, *_ in LOOPS[::-1]:
        lines += [f"  br label %{loop}.latch", f"{loop}.latch:", f"  br label %{loop}.head"]
        lines.append(f"{loop}.exit:")
    return "\n".join([*lines, "  ret void", "}"])


def run(name: str, y: Array, x: Array, w: Array, kernel: Any, stride: Any, dilation: Any) -> bool:
    """Whether it was computed; if not, nothing was touched. y and x `[N, *S, C]`, w `[taps, C]`."""
    axes, taps = len(kernel), len(w)
    code = x.dtype.char
    if axes > 2 or taps > MOST or code not in TYPES or y.size * taps < WORTH:
        return False
    if not all(a.flags.c_contiguous and a.dtype == x.dtype for a in (x, y, w)):
        return False
    made = compiled(taps, code)
    if made is None:
        return False
    call(made, name, (y, x, w), kernel, stride, dilation)
    return True


def call(made: Any, name: str, arrays: Any, kernel: Any, stride: Any, dilation: Any) -> None:
    """A function on y, x and what else it takes, by blocks of channels as wide as vectors."""
    y, x = arrays[:2]
    axes = len(kernel)
    steps = [s // x.itemsize for s in x.strides]
    size = [s // y.itemsize for s in y.strides]
    at = np.array(
        [
            sum(d * k * s for d, k, s in zip(dilation, tap, steps[1:]))
            for tap in np.ndindex(*kernel)
        ],
        np.int64,
    )
    n, *places, c = y.shape
    if axes == 1:
        places, stride = [1, *places], (1, *stride)
        steps, size = [steps[0], 0, *steps[1:]], [size[0], 0, *size[1:]]
    moves = steps[0], steps[1] * stride[0], steps[2] * stride[1], *size[:3]
    pointers = [a.ctypes.data for a in (*arrays, at)]
    start = 0
    for v in TYPES[x.dtype.char][1]:
        stop = start + (c - start) // v * v
        if stop > start:
            made[name, v](*pointers, n, *places, start, stop, c, *moves)
        start = stop


def forward(x: Array, w: Array, y: Array, kernel: Any, stride: Any, dilation: Any) -> bool:
    """y[n, o, c] = sum_k x[n, s o + d k, c] w[k, c], into y; False if NumPy has to do it."""
    return run("forward", y, x, w, kernel, stride, dilation)


def weight(x: Array, u: Array, w: Array, kernel: Any, stride: Any, dilation: Any) -> bool:
    """w[k, c] += sum_{n, o} x[n, s o + d k, c] u[n, o, c]; False if NumPy has to do it."""
    return run("weight", u, x, w, kernel, stride, dilation)
