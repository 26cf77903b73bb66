"""The gradient of a maximum over windows as machine code, where the extra `compile` is installed.

    gx[n, s o + d k] = u[n, o] at the first k with x[n, s o + d k] = y[n, o], and 0 at the others

for windows that do not meet. In NumPy every tap is a pass over memory for each of its steps; here
all taps of a place are looked at in registers. Nothing is rounded: the numbers are the same.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from . import conv_native as native

__all__ = ["put"]

Array = Any


@lru_cache(64)
def compiled(taps: int, code: str) -> Any:
    return native.built(source, ("put",), 4, taps, code)


def source(taps: int, kind: str, v: int) -> str:
    """The function for vectors of v channels, as LLVM's assembly."""
    vec, bits = f"<{v} x {kind}>", f"<{v} x i1>"
    true = "<" + ", ".join(["i1 true"] * v) + ">"
    body = native.PLACE + native.loaded("y", "%y_", "%yw", vec, kind)
    body += native.loaded("u", "%u_", "%yw", vec, kind)
    for t in range(taps):
        body += [f"  %xi{t} = add i64 %xw, %off{t}"]
        body += native.loaded(f"x{t}", "%x", f"%xi{t}", vec, kind)
        before = f"%none{t - 1}" if t else true
        body += [
            f"  %same{t} = fcmp oeq {vec} %x{t}, %y",
            f"  %won{t} = and {bits} %same{t}, {before}",
            f"  %none{t} = xor {bits} {before}, %won{t}",
            f"  %g{t} = select {bits} %won{t}, {vec} %u, {vec} zeroinitializer",
            f"  %g{t}.p = getelementptr {kind}, ptr %gx, i64 %xi{t}",
            f"  store {vec} %g{t}, ptr %g{t}.p, align {4 if kind == 'float' else 8}",
        ]
    arrays = ("y_", "x", "u_", "gx")
    return native.function(f"put_{v}", taps, v, [], [], body, [], arrays)


def put(y: Array, x: Array, u: Array, gx: Array, how: Any) -> bool:
    """Into gx, which is 0 where no window is; False if NumPy has to do it."""
    code, taps = x.dtype.char, 1
    for k in how.kernel:
        taps *= k
    if len(how.kernel) > 2 or taps > native.MOST or code not in native.TYPES:
        return False
    if y.size * taps < native.WORTH or any(map(any, how.padding)):
        return False
    if not all(a.flags.c_contiguous and a.dtype == x.dtype for a in (y, x, u, gx)):
        return False
    made = compiled(taps, code)
    if made is None:
        return False
    native.call(made, "put", (y, x, u, gx), how.kernel, how.stride, how.dilation)
    return True
