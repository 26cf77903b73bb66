"""What the native functions are built of: their table, pairs of floats, powers of two.

A function is written once, for any number of lanes, and for a *goal*:

    float    float32 arithmetic
    short    float64 arithmetic for a result of 24 bits
    double   float64 arithmetic for a result of 53 bits

A `wide` function has no float32 arithmetic of its own: its float32 lanes are computed as `short`,
which costs half as much again and rounds once, at the end. One that is `fused` as well is wide only
where there is no fused multiply-add.

A pair `high, low` stands for high + low, |low| at most an ulp of high. Its steps must not be fused
or reordered: they carry no flags.

References: T. J. Dekker, "A floating-point technique for extending the available precision",
Numerische Mathematik 18, 1971; D. E. Knuth, The Art of Computer Programming 2, 4.2.2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..ir import Function, Value, element

Pair = tuple[Value, Value]
Body = Callable[..., Value]

#: name -> (body, number of arguments, wide without a fused multiply-add, wide with it)
FUNCTIONS: dict[str, tuple[Body, int, bool, bool]] = {}

MANTISSA = {"float": 23, "double": 52}
BIAS = {"float": 127, "double": 1023}
# 1.5 times the power of two whose ulp is 1: added to a small number, it rounds it to an integer,
# which then stands in the low bits
MAGIC = {"float": 12582912.0, "double": 6755399441055744.0}
MAGIC_BITS = {"float": 0x4B400000, "double": 0x4338000000000000}
HEAD = {"float": -(1 << 12), "double": -(1 << 27)}  # keeps the leading 12 or 26 bits
INF, NAN = float("inf"), float("nan")


def native(arity: int = 1, *, wide: bool = False, fused: bool = False) -> Callable[[Body], Body]:
    """Enter `body(f, goal, *x)` into the table, under its own name without a last underscore."""

    def enter(body: Body) -> Body:
        FUNCTIONS[body.__name__.rstrip("_")] = body, arity, wide, wide and not fused
        return body

    return enter


def kind_of(goal: str) -> str:
    return "float" if goal == "float" else "double"


def exact(f: Function, op: str, a: Any, b: Any) -> Value:
    """One rounding, fused with nothing."""
    return f.binary(op, a, b, flags="")


def two_sum(f: Function, a: Value, b: Any) -> Pair:
    s = exact(f, "add", a, b)
    t = exact(f, "sub", s, a)
    low = exact(f, "add", exact(f, "sub", a, exact(f, "sub", s, t)), exact(f, "sub", b, t))
    return s, low


def fast_two_sum(f: Function, a: Any, b: Any) -> Pair:
    """For |a| >= |b|, or a = 0."""
    s = exact(f, "add", a, b)
    return s, exact(f, "sub", b, exact(f, "sub", s, a))


def head(f: Function, x: Value) -> Value:
    return f.unbits(f.bits(x) & HEAD[element(x.kind)])


def two_product(f: Function, a: Value, b: Any) -> Pair:
    """a b and what its rounding left out."""
    b = f.const(b, a.kind)
    p = exact(f, "mul", a, b)
    if f.module.fma:
        return p, f.fma(a, b, -p)
    ah, bh = head(f, a), head(f, b)
    al, bl = exact(f, "sub", a, ah), exact(f, "sub", b, bh)
    low = exact(f, "sub", exact(f, "mul", ah, bh), p)
    low = exact(f, "add", low, exact(f, "mul", ah, bl))
    low = exact(f, "add", low, exact(f, "mul", al, bh))
    return p, exact(f, "add", low, exact(f, "mul", al, bl))


def pair_product(f: Function, a: Pair, b: Pair) -> Pair:
    p, low = two_product(f, a[0], b[0])
    low = f.fma(a[0], b[1], f.fma(a[1], b[0], low))
    return fast_two_sum(f, p, low)


def pair_sum(f: Function, a: Pair, b: Pair) -> Pair:
    """For |a| >= |b|, or operands that do not cancel."""
    s, low = two_sum(f, a[0], b[0])
    return fast_two_sum(f, s, exact(f, "add", low, exact(f, "add", a[1], b[1])))


def reciprocal(f: Function, d: Pair) -> Pair:
    """1 / d."""
    t = 1.0 / d[0]
    p, low = two_product(f, t, d[0])
    left = exact(f, "sub", exact(f, "sub", 1.0, p), low) - t * d[1]
    return t, t * left


def to_float(f: Function, i: Value) -> Value:
    """A small non-negative integer as a float, without an instruction that only AVX-512 has."""
    if element(i.kind) == "i32":
        return f.cast("sitofp", i, "float")
    return f.unbits(i | 0x4330000000000000) - 4503599627370496.0


def rounded(f: Function, x: Value) -> Value:
    """The nearest integer, for any x, without a call where the machine lacks the instruction."""
    kind = element(x.kind)
    big = float(1 << MANTISSA[kind])
    a = f.fabs(x)
    y = exact(f, "sub", exact(f, "add", a, big), big)
    return f.select(f.compare("olt", a, big), f.copysign(y, x), x)


def truncated(f: Function, x: Value) -> Value:
    y, a = f.fabs(rounded(f, x)), f.fabs(x)
    return f.copysign(f.select(f.compare("ogt", y, a), y - 1.0, y), x)


def floored(f: Function, x: Value) -> Value:
    y = rounded(f, x)
    return f.copysign(f.select(f.compare("ogt", y, x), y - 1.0, y), x)


def any_lane(f: Function, condition: Value) -> Value:
    return f.across(condition, "or")
