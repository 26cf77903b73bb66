"""gelu and its slope in float32 as machine code, where the extra `compile` is installed.

With a = |x|, e = e^(-a^2/2) and the quotient of polynomials M(a) = normal_cdf(-a) / e

    gelu(x) = max(x, 0) - a M(a) e,     gelu'(-a) = (M(a) - a / sqrt(2 pi)) e,  and 1 less that at a

in float64, as `accurate` has them: the same operations in the same order, with NumPy's exponential
between two loops, so that the numbers are the same to the bit. NumPy alone makes some thirty
passes over a block.
"""

from __future__ import annotations

import ctypes
import struct
from functools import lru_cache
from typing import Any

import numpy as np

from .. import native

__all__ = ["run"]

Array = Any
V = 8  # numbers in a vector
BLOCK = 8192  # as many float64 stay in cache
WORTH = 1 << 14  # numbers from which on it pays to compile
F32 = np.dtype(np.float32)
VEC, INT = f"<{V} x double>", f"<{V} x i64>"


def splat(c: float) -> str:
    (bits,) = struct.unpack("<Q", struct.pack("<d", c))
    return "<" + ", ".join([f"double 0x{bits:016X}"] * V) + ">"


def whole(n: int) -> str:
    return "<" + ", ".join([f"i64 {n}"] * V) + ">"


SIGN, UNIT = whole(-(1 << 63)), whole(0x3FF << 52)


class Lines:
    """The lines of a loop's body; every operation gives its result a name."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def do(self, text: str) -> str:
        name = f"%t{len(self.lines)}"
        self.lines.append(f"  {name} = {text}")
        return name

    def f(self, what: str, a: str, b: str) -> str:
        return self.do(f"{what} {VEC} {a}, {b}")

    def bits(self, what: str, a: str, b: str) -> str:
        return self.do(f"{what} {INT} {a}, {b}")

    def cast(self, a: str, to: str) -> str:
        return self.do(f"bitcast {INT if to == VEC else VEC} {a} to {to}")

    def mills(self, a: str, p: tuple[float, ...], q: tuple[float, ...]) -> str:
        """P(a) / Q(a), by Horner's rule; Q has 1 for its last coefficient."""
        y = self.f("fmul", a, splat(p[-1]))
        for k in p[-2:0:-1]:
            y = self.f("fmul", self.f("fadd", y, splat(k)), a)
        y = self.f("fadd", y, splat(p[0]))
        z = self.f("fadd", a, splat(q[-1]))
        for k in q[-2::-1]:
            z = self.f("fadd", self.f("fmul", z, a), splat(k))
        return self.f("fdiv", y, z)


def source(p: tuple[float, ...], q: tuple[float, ...], k: float) -> str:
    def start() -> tuple[Lines, str]:
        b = Lines()
        pointer = b.do("getelementptr float, ptr %x, i64 %i")
        x = b.do(f"load <{V} x float>, ptr {pointer}, align 4")
        return b, b.do(f"fpext <{V} x float> {x} to {VEC}")

    def size(b: Lines, x: str) -> str:
        return b.do(f"call {VEC} @llvm.fabs.v{V}f64({VEC} {x})")

    def e_of(b: Lines) -> str:
        pointer = b.do("getelementptr double, ptr %e, i64 %i")
        return b.do(f"load {VEC}, ptr {pointer}, align 8")

    def store(b: Lines, y: str) -> None:
        y = b.do(f"fptrunc {VEC} {y} to <{V} x float>")
        pointer = b.do("getelementptr float, ptr %y, i64 %i")
        b.lines.append(f"  store <{V} x float> {y}, ptr {pointer}, align 4")

    b, x = start()
    t = b.f("fmul", b.f("fmul", x, x), splat(-0.5))
    pointer = b.do("getelementptr double, ptr %e, i64 %i")
    b.lines.append(f"  store {VEC} {t}, ptr {pointer}, align 8")
    text = [f"declare {VEC} @llvm.fabs.v{V}f64({VEC})", loop("exponent", b)]

    b, x = start()
    a = size(b, x)
    positive = b.f("fmul", b.f("fadd", x, a), splat(0.5))
    m = b.f("fmul", b.f("fmul", b.mills(a, p, q), a), e_of(b))
    y = b.cast(b.f("fsub", positive, m), INT)
    sign = b.bits("and", b.cast(x, INT), SIGN)
    store(b, b.cast(b.bits("or", y, sign), VEC))
    text.append(loop("gelu", b))

    b, x = start()
    a = size(b, x)
    y = b.f("fsub", b.mills(a, p, q), b.f("fmul", a, splat(k)))
    y = b.cast(b.f("fmul", y, e_of(b)), INT)
    right = b.bits("xor", b.cast(x, INT), whole(-1))
    y = b.cast(b.bits("xor", y, b.bits("and", right, SIGN)), VEC)
    right = b.bits("and", b.bits("ashr", right, whole(63)), UNIT)
    store(b, b.f("fadd", y, b.cast(right, VEC)))
    return "\n".join([*text, loop("dgelu", b)])


def loop(name: str, body: Lines) -> str:
    return "\n".join([
        f"define void @{name}(ptr noalias %x, ptr noalias %e, ptr noalias %y, i64 %n) {{",
        "entry:",
        "  br label %head",
        "head:",
        "  %i = phi i64 [0, %entry], [%next, %body]",
        "  %go = icmp slt i64 %i, %n",
        "  br i1 %go, label %body, label %exit",
        "body:",
        *body.lines,
        f"  %next = add i64 %i, {V}",
        "  br label %head",
        "exit:",
        "  ret void",
        "}",
    ])  # fmt: skip


@lru_cache(1)
def compiled(p: tuple[float, ...], q: tuple[float, ...], k: float) -> Any:
    """Its functions by name; None where there is no compiler."""
    library = native.library(source(p, q, k))
    if library is None:
        return None
    types = [ctypes.c_void_p] * 3 + [ctypes.c_int64]
    return {name: library.function(name, None, *types) for name in ("exponent", "gelu", "dgelu")}


def run(name: str, x: Array, p: Any, q: Any, k: Any) -> Array | None:
    """The function of that name over x; None if NumPy has to do it."""
    if x.__class__ is not np.ndarray or x.dtype != F32 or x.size < WORTH:
        return None
    if not x.flags.c_contiguous or not (-np.inf < x.min() and x.max() < np.inf):
        return None
    made = compiled(tuple(map(float, p)), tuple(map(float, q)), float(k))
    if made is None:
        return None
    exponent, f = made["exponent"], made[name]
    y, e = np.empty(x.shape, F32), np.empty(BLOCK)
    rest = x.size % V
    over(exponent, f, x, e, y, x.size - rest)
    if rest:
        last, end = np.zeros(V, F32), np.empty(V, F32)
        last[:rest] = x.reshape(-1)[-rest:]
        over(exponent, f, last, e, end, V)
        y.reshape(-1)[-rest:] = end[:rest]
    return y


def over(exponent: Any, f: Any, x: Array, e: Array, y: Array, size: int) -> None:
    """f over the first numbers of x, a block at a time."""
    start, place, end = (a.ctypes.data for a in (x, e, y))
    for i in range(0, size, BLOCK):
        n, at = min(BLOCK, size - i), i * F32.itemsize
        exponent(start + at, place, end + at, n)
        part = e[:n]
        np.exp(part, out=part)
        f(start + at, place, end + at, n)
