"""Native trigonometric functions and their inverses.

x = n pi/2 + r in three steps of 33 bits and a last of 53, exact but for the last, up to n = 2^20;
beyond that by a product of x with a window of the bits of 2/pi, lane by lane.

References: W. J. Cody and W. Waite, 1980; M. Payne and R. Hanek, "Radian reduction for
trigonometric functions", SIGNUM Newsletter 18, 1983.
"""

from __future__ import annotations

import math

from ..ir import Function, Module, Value, lanes
from .coefficients import ASIN, ATAN, COS, SIN
from .lanes import (
    INF,
    MAGIC,
    NAN,
    any_lane,
    exact,
    fast_two_sum,
    native,
    pair_product,
    two_product,
    two_sum,
)

# pi/2 in three parts of 33 bits and the rest
HALF_PI = (
    1.5707963267341256, 6.077100506303966e-11, 2.0222662487111665e-21, 8.4784276603689e-32
)  # fmt: skip
HALF_PI_LOW = 6.123233995736766e-17  # pi/2 - math.pi / 2
FAR = 1.6e6  # about 2^20 pi/2

# the bits of 2/pi, 1216 of them behind the point
TWO_OVER_PI = int(
    "A2F9836E4E441529FC2757D1F534DDC0DB6295993C439041FE5163ABDEBBC561B7246E3A424DD2E006492EEA"
    "09D1921CFE1DEB1CB129A73EE88235F52EBB4484E99C7026B45F7E413991D639835339F49C845F8BBDF9283B"
    "1FF897FFDE05980FEF2F118B5A0A6D1F6D367ECF27CB09B74F463F669E5FEA2D7527BAC7EBE5F17B3D0739F7"
    "8A5292EA6BFB5FB11F8D5D0856033046FC7B6BAB", 16,
)  # fmt: skip


def huge_angles(module: Module) -> str:
    """reduced_angles(x, q, r, low, n): the quadrant and the rest of each huge x[j]; its symbol.

    x = m 2^e. The window holds the bits of 2^e 2/pi from weight 2 down to 2^-190; those above it
    give multiples of 4 quadrants, those below it less than 2^-137.
    """
    name = "reduced_angles"
    if any(f.name == name for f in module.functions):
        return name
    told = "".join(f"\\{b:02X}" for b in TWO_OVER_PI.to_bytes(176, "little"))
    module.globals.append(f'@two_over_pi = internal constant [176 x i8] c"{told}"')
    module.declare("declare i192 @llvm.ctlz.i192(i192, i1)")
    f = Function(
        module, name, [*((n, "ptr") for n in ("x", "q", "r", "low")), ("n", "i64")],
        attributes="noinline cold nounwind", linkage="internal",
    )  # fmt: skip

    def wide(text: str) -> Value:
        return f.emit(text, "i192")

    with f.loop(0, f["n"], 1, unroll=False) as j:
        x = f.load(f["x"], "double", j)
        a = f.fabs(x)
        with f.when(f.compare("oge", a, FAR) & f.compare("olt", a, INF)):
            i = f.bits(a)
            m = (i & ((1 << 52) - 1)) | (1 << 52)
            start = 1026 + 1075 - (i >> 52)
            at = f.at(Value(f, "@two_over_pi", "ptr"), start >> 3, "i8")
            window = f.emit(f"load i256, ptr {at.name}, align 1", "i256")
            shift = f.emit(f"zext i64 {(start & 7).name} to i256", "i256")
            window = f.emit(f"lshr i256 {window.name}, {shift.name}", "i256")
            window = wide(f"trunc i256 {window.name} to i192")
            p = wide(f"mul i192 {window.name}, {wide(f'zext i64 {m.name} to i192').name}")
            up = wide(f"add i192 {p.name}, {1 << 189}")
            q = f.emit(f"lshr i192 {up.name}, 190", "i192")
            whole = wide(f"shl i192 {q.name}, 190")
            left = wide(f"sub i192 {p.name}, {whole.name}")
            sign = wide(f"ashr i192 {left.name}, 191")
            size = wide(f"xor i192 {left.name}, {sign.name}")
            size = wide(f"sub i192 {size.name}, {sign.name}")
            zeros = wide(f"call i192 @llvm.ctlz.i192(i192 {size.name}, i1 false)")
            size = wide(f"shl i192 {size.name}, {zeros.name}")
            scale = f.emit(f"trunc i192 {zeros.name} to i64", "i64")
            scale = f.unbits((1023 - 51 - scale) << 52)  # size has 139 bits below 53, of 190
            parts = []
            for down in (139, 86):
                part = wide(f"lshr i192 {size.name}, {down}")
                part = f.emit(f"trunc i192 {part.name} to i64", "i64") & ((1 << 53) - 1)
                parts.append(f.cast("sitofp", part, "double") * scale)
                scale = scale * 2.0**-53
            half_pi = f.const(math.pi / 2, "double"), f.const(HALF_PI_LOW, "double")
            r, low = pair_product(f, (parts[0], parts[1]), half_pi)
            negative = f.emit(f"trunc i192 {sign.name} to i64", "i64") ^ (f.bits(x) >> 63)
            mask = negative << 63
            f.store(f.unbits(f.bits(r) ^ mask), f["r"], j)
            f.store(f.unbits(f.bits(low) ^ mask), f["low"], j)
            q = f.emit(f"trunc i192 {q.name} to i64", "i64")
            f.store(f.select(f.compare("olt", x, 0.0), -q, q), f["q"], j)
    f.ret()
    return name


def reduced(f: Function, goal: str, x: Value) -> tuple[Value, Value, Value]:
    """x = q pi/2 + r + low: the quadrant q in the low bits of an integer, and |r| <= pi/4."""
    magic = MAGIC["double"]
    t = f.fma(x, 2 / math.pi, magic)
    n = t - magic
    r = f.fma(n, -HALF_PI[0], x)
    if goal == "short":
        r, low = f.fma(n, -(HALF_PI[1] + HALF_PI[2]), r), f.const(0.0, x.kind)
    else:
        r, b = two_sum(f, r, exact(f, "mul", n, -HALF_PI[1]))
        r, c = two_sum(f, r, exact(f, "mul", n, -HALF_PI[2]))
        low = f.fma(n, -HALF_PI[3], exact(f, "add", b, c))
        r, low = fast_two_sum(f, r, low)
    q, a = f.bits(t), f.fabs(x)
    kept = [f.slot(v) for v in (q, r, low)]
    with f.when(any_lane(f, f.compare("oge", a, FAR) & f.compare("olt", a, INF))):
        passed = [f.slot(v) for v in (x, q, r, low)]
        told = ", ".join(f"ptr {p.name}" for p in passed)
        f.raw(f"call void @{huge_angles(f.module)}({told}, i64 {lanes(x.kind)})")
        for keep, p, v in zip(kept, passed[1:], (q, r, low)):
            f.set(keep, f.get(p, v.kind))
    q, r, low = (f.get(p, v.kind) for p, v in zip(kept, (q, r, low)))
    return q, r, low


def sine_and_cosine(f: Function, goal: str, r: Value, low: Value) -> tuple[Value, Value]:
    """Of r + low, |r| <= pi/4."""
    z = r * r
    half = exact(f, "mul", z, 0.5)
    p, q = f.polynomial(z, SIN[goal]), f.polynomial(z, COS[goal])
    if goal == "short":
        return f.fma(r * z, p, r), f.fma(z * z, q, 1.0 - half)
    sine = r + f.fma(r * z, p, low * (1.0 - half))
    w = exact(f, "sub", 1.0, half)
    left = exact(f, "sub", exact(f, "sub", 1.0, w), half)
    return sine, w + (left + f.fma(z * z, q, -(r * low)))


def turned(f: Function, y: Value, q: Value) -> Value:
    """y, negative in quadrants 2 and 3."""
    return f.unbits(f.bits(y) ^ ((q & 2) << 62))


@native(wide=True)
def sin(f: Function, goal: str, x: Value) -> Value:
    q, r, low = reduced(f, goal, x)
    s, c = sine_and_cosine(f, goal, r, low)
    y = turned(f, f.select(f.compare("eq", q & 1, 0), s, c), q)
    return f.select(f.compare("oeq", x, 0.0), x, y)


@native(wide=True)
def cos(f: Function, goal: str, x: Value) -> Value:
    q, r, low = reduced(f, goal, x)
    s, c = sine_and_cosine(f, goal, r, low)
    return turned(f, f.select(f.compare("eq", q & 1, 0), c, s), q + 1)


@native(wide=True)
def tan(f: Function, goal: str, x: Value) -> Value:
    q, r, low = reduced(f, goal, x)
    s, c = sine_and_cosine(f, goal, r, low)
    even = f.compare("eq", q & 1, 0)
    y = f.select(even, s, -c) / f.select(even, c, s)
    return f.select(f.compare("oeq", x, 0.0), x, y)


# ------------------------------------------------------------------ inverses

# 0, pi/4, .., pi, each as two doubles
EIGHTHS = {k: (k * math.pi / 4, k * HALF_PI_LOW / 2) for k in (1, 2, 4)}


def angle(f: Function, goal: str, a: Value, b: Value, left: Value | None) -> Value:
    """The angle of (b, a), a and b >= 0; pi less it where `left`.

    With t = low / high in [0, 1], or (t - 1) / (t + 1) beside pi/4, |t| <= tan(pi/8).
    """
    swap = f.compare("ogt", a, b)
    high, low = f.select(swap, a, b), f.select(swap, b, a)
    both = f.compare("oeq", low, INF)
    high, low = f.select(both, 1.0, high), f.select(both, 1.0, low)
    high = f.select(f.compare("oeq", high, 0.0), 1.0, high)
    middle = f.compare("ogt", low, high * 0.41421356)
    half = f.select(f.compare("ogt", high, 2.0**1000), f.const(0.5, a.kind), 1.0)
    top = f.select(middle, low * half - high * half, low)
    t = top / f.select(middle, low * half + high * half, high)
    z = t * t
    p = t * z * f.polynomial(z, ATAN[goal])
    zero = f.const(0.0, a.kind)
    c, c_low = (f.select(middle, k, zero) for k in EIGHTHS[1])
    turns = [(swap, EIGHTHS[2])] + ([(left, EIGHTHS[4])] if left is not None else [])
    for where, (k, k_low) in turns:  # k less the angle
        c, c_low = f.select(where, k - c, c), f.select(where, k_low - c_low, c_low)
        t, p = f.select(where, -t, t), f.select(where, -p, p)
    s, rest = fast_two_sum(f, c, t)  # c = 0 or |c| > |t|
    return s + (rest + (p + c_low))


@native(wide=True)
def arctan(f: Function, goal: str, x: Value) -> Value:
    one = f.const(1.0, x.kind)
    return f.copysign(angle(f, goal, f.fabs(x), one, None), x)


@native(2, wide=True)
def arctan2(f: Function, goal: str, a: Value, b: Value) -> Value:
    y = angle(f, goal, f.fabs(a), f.fabs(b), f.compare("slt", f.bits(b), 0))
    y = f.select(f.compare("uno", a, b), NAN, y)
    return f.copysign(y, a)


def arc(f: Function, goal: str, x: Value) -> tuple[Value, Value, Value, Value]:
    """|x| > 1/2; s and what arcsin s is more than s, for s = x there, else sqrt((1 - |x|) / 2).

    The last is what the square root lacks.
    """
    a = f.fabs(x)
    far = f.compare("ogt", a, 0.5)
    z = f.select(far, (1.0 - a) * 0.5, a * a)
    root = f.sqrt(z)
    s = f.select(far, root, a)
    p = s * z * f.polynomial(z, ASIN[goal])
    if goal == "short":
        return far, s, p, f.const(0.0, x.kind)
    square, low = two_product(f, root, root)
    lack = exact(f, "sub", exact(f, "sub", z, square), low) / (root + root)
    return far, s, p, f.select(far & f.compare("ogt", root, 0.0), lack, 0.0)


@native(wide=True)
def arcsin(f: Function, goal: str, x: Value) -> Value:
    """x + ..; pi/2 - 2 arcsin sqrt((1 - x) / 2) from 1/2 on."""
    far, s, p, lack = arc(f, goal, x)
    k, low = EIGHTHS[2]
    w, rest = fast_two_sum(f, k, -(s + s))
    beyond = w + (rest + (low - 2.0 * (p + lack)))
    y = f.select(far, beyond, s + p)
    return f.copysign(f.select(f.compare("ugt", f.fabs(x), 1.0), NAN, y), x)


@native(wide=True)
def arccos(f: Function, goal: str, x: Value) -> Value:
    """2 arcsin sqrt((1 - x) / 2) from 1/2 on, and pi less that on the other side."""
    far, s, p, lack = arc(f, goal, x)
    negative = f.compare("olt", x, 0.0)
    right = 2.0 * (s + (p + lack))
    (k, k_low), (half, half_low) = EIGHTHS[4], EIGHTHS[2]
    w, rest = fast_two_sum(f, k, -(s + s))
    left = w + (rest + (k_low - 2.0 * (p + lack)))
    signed, signed_p = f.copysign(s, x), f.copysign(p, x)
    w, rest = fast_two_sum(f, half, -signed)
    middle = w + (rest + (half_low - signed_p))
    y = f.select(far, f.select(negative, left, right), middle)
    return f.select(f.compare("ugt", f.fabs(x), 1.0), NAN, y)
