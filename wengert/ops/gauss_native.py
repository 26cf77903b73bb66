"""gelu and its slope in float32 as machine code, where the extra `compile` is installed.

With a = |x|, e = e^(-a^2/2) and the quotient of polynomials M(a) = normal_cdf(-a) / e

    gelu(x) = max(x, 0) - a M(a) e,     gelu'(-a) = (M(a) - a / sqrt(2 pi)) e,  and 1 less that at a

in float64, as `accurate` has them: the same operations in the same order, but for an exponential of
our own, which is within 2 ulps of float64: one in some hundred million numbers is rounded to the
other float32. NumPy alone makes some thirty passes over a block.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np

from .. import native

__all__ = ["run"]

Array = Any
V = 8  # numbers in a vector
PART = 1 << 14  # numbers that a thread takes at a time
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


def source(target: Any, p: tuple[float, ...], q: tuple[float, ...], k: float) -> str:
    """@gelu and @dgelu, functions (context, i) of part i of x."""
    module = import_module("wengert.native.ir").Module(fma=target.fma)
    exp = import_module("wengert.native.mathematics").add(module, "exp", "double", V)

    def start() -> tuple[Lines, str, str, str]:
        """(the lines, x, |x|, e)."""
        b = Lines()
        pointer = b.do("getelementptr float, ptr %x, i64 %i")
        x = b.do(f"load <{V} x float>, ptr {pointer}, align 4")
        x = b.do(f"fpext <{V} x float> {x} to {VEC}")
        t = b.f("fmul", b.f("fmul", x, x), splat(-0.5))
        e = b.do(f"call {VEC} @{exp}({VEC} {t})")
        return b, x, b.do(f"call {VEC} @llvm.fabs.v{V}f64({VEC} {x})"), e

    def store(b: Lines, y: str) -> None:
        y = b.do(f"fptrunc {VEC} {y} to <{V} x float>")
        pointer = b.do("getelementptr float, ptr %y, i64 %i")
        b.lines.append(f"  store <{V} x float> {y}, ptr {pointer}, align 4")

    b, x, a, e = start()
    positive = b.f("fmul", b.f("fadd", x, a), splat(0.5))
    m = b.f("fmul", b.f("fmul", b.mills(a, p, q), a), e)
    y = b.cast(b.f("fsub", positive, m), INT)
    sign = b.bits("and", b.cast(x, INT), SIGN)
    store(b, b.cast(b.bits("or", y, sign), VEC))
    text = [loop("gelu", b)]

    b, x, a, e = start()
    y = b.f("fsub", b.mills(a, p, q), b.f("fmul", a, splat(k)))
    y = b.cast(b.f("fmul", y, e), INT)
    right = b.bits("xor", b.cast(x, INT), whole(-1))
    y = b.cast(b.bits("xor", y, b.bits("and", right, SIGN)), VEC)
    right = b.bits("and", b.bits("ashr", right, whole(63)), UNIT)
    store(b, b.f("fadd", y, b.cast(right, VEC)))
    module.declare(f"declare {VEC} @llvm.fabs.v{V}f64({VEC})")
    return "\n".join([str(module), *text, loop("dgelu", b)])


def loop(name: str, body: Lines) -> str:
    return "\n".join([
        f"define void @{name}(ptr %context, i32 %part) {{",
        "entry:",
        "  %x = load ptr, ptr %context",
        "  %yp = getelementptr ptr, ptr %context, i64 1",
        "  %y = load ptr, ptr %yp",
        "  %np = getelementptr i64, ptr %context, i64 2",
        "  %n = load i64, ptr %np",
        "  %p64 = sext i32 %part to i64",
        f"  %start = mul i64 %p64, {PART}",
        f"  %end = add i64 %start, {PART}",
        "  %less = icmp slt i64 %end, %n",
        "  %stop = select i1 %less, i64 %end, i64 %n",
        "  br label %head",
        "head:",
        "  %i = phi i64 [%start, %entry], [%next, %body]",
        "  %go = icmp slt i64 %i, %stop",
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
    """Its functions' addresses by name; None where there is no compiler."""
    library = native.library(lambda target: source(target, p, q, k))
    if library is None:
        return None
    return {name: library.address(name) for name in ("gelu", "dgelu")}


def run(name: str, x: Array, p: Any, q: Any, k: Any) -> Array | None:
    """The function of that name over x; None if NumPy has to do it."""
    if x.__class__ is not np.ndarray or x.dtype != F32 or x.size < WORTH:
        return None
    if not x.flags.c_contiguous or not (-np.inf < x.min() and x.max() < np.inf):
        return None
    made = compiled(tuple(map(float, p)), tuple(map(float, q)), float(k))
    if made is None:
        return None
    y = np.empty(x.shape, F32)
    rest = x.size % V
    over(made[name], x, y, x.size - rest)
    if rest:
        last, end = np.zeros(V, F32), np.empty(V, F32)
        last[:rest] = x.reshape(-1)[-rest:]
        over(made[name], last, end, V)
        y.reshape(-1)[-rest:] = end[:rest]
    return y


def over(f: int, x: Array, y: Array, size: int) -> None:
    """f over the first numbers of x."""
    context = np.array([x.ctypes.data, y.ctypes.data, size], np.int64)
    native.parallel(f, context.ctypes.data, -(-size // PART))
