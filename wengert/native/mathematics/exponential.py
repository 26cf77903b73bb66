"""Native exponentials, logarithms, powers and hyperbolic functions.

e^x is 2^n e^r with |r| <= log(2) / 2, in which r is x - n log 2 in two steps and e^r a polynomial.
log x is n log 2 + log m with sqrt(1/2) <= m <= sqrt 2; in float64 log m = 2 artanh s with
s = (m - 1) / (m + 1).

References: W. J. Cody and W. Waite, Software Manual for the Elementary Functions, 1980; P. T. P.
Tang, "Table-driven implementation of the exponential function", ACM TOMS 15, 1989; the FDLIBM
notes of K. C. Ng.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..ir import Function, Value, element
from .coefficients import EXP, EXPM1, LOG, LOG_ODD, TANH
from .lanes import (
    BIAS,
    INF,
    MAGIC,
    MAGIC_BITS,
    MANTISSA,
    NAN,
    Pair,
    exact,
    fast_two_sum,
    head,
    kind_of,
    native,
    to_float,
    two_product,
    two_sum,
)

LOG2E = 1.4426950408889634
# log 2 as a head, whose products with an exponent are exact, and the rest
LN2 = {
    "float": (0.693359375, -2.12194440e-4),
    "double": (6.93147180369123816490e-01, 1.90821492927058770002e-10),
}
RANGE = {"float": (-140.0, 120.0), "short": (-690.0, 690.0), "double": (-1400.0, 1400.0)}


@dataclass
class Power:
    """(high + low) times the scales, a power of two in parts that are all normal numbers."""

    f: Function
    high: Value
    low: Value | None
    scales: tuple[Value, ...]
    i: Value | None = None  # n + MAGIC_BITS, of a power 2^n e^r

    def value(self, *factors: Value) -> Value:
        """The power times the factors; the scales last, so that only they underflow."""
        f, y, rest = self.f, self.high, [*factors, *self.scales]
        if self.low is not None and factors:
            first = rest.pop(0)
            y = f.fma(y, first, self.low * first)
        elif self.low is not None:
            y = exact(f, "add", y, self.low)
        for x in rest:
            y = y * x
        return y

    def over(self, d: Value, times: Value | None = None) -> Power:
        """The power times `times`, divided by d."""
        y = Power(self.f, self.high, self.low, ()).value(*([] if times is None else [times]))
        return Power(self.f, y / d, None, self.scales)

    def more(self) -> Pair:
        """1 + the power, which is careful."""
        e, left = self.pair()
        d, rest = two_sum(self.f, self.f.const(1.0, e.kind), e)
        return d, rest + left

    def over_pair(self, d: Pair) -> Power:
        """The careful power over d, to little more than the rounding."""
        assert self.low is not None
        f, c = self.f, 1.0 / d[0]
        q = exact(f, "mul", self.high, c)
        p, low = two_product(f, q, d[0])
        rest = f.fma(-q, d[1], self.low) + exact(f, "sub", exact(f, "sub", self.high, p), low)
        return Power(f, f.fma(rest, c, q), None, self.scales)

    def pair(self) -> Pair:
        """e^x itself, at least the smallest normal number, and what its rounding left out."""
        assert self.low is not None
        assert self.i is not None
        f, y = self.f, exact(self.f, "add", self.high, self.low)
        left = exact(f, "add", exact(f, "sub", self.high, y), self.low)
        kind = element(y.kind)
        away = BIAS[kind] - MAGIC_BITS[kind]
        scale = f.unbits((f.larger(self.i, 1 - away) + away) << MANTISSA[kind])
        return y * scale, left * scale


def reduction(f: Function, goal: str, x: Value) -> tuple[Value, Value, Value, Value]:
    """x = n log 2 + r: the integer n + MAGIC_BITS, n, and r before and after its second step."""
    kind = kind_of(goal)
    t = f.fma(x, LOG2E, MAGIC[kind])
    n = t - MAGIC[kind]
    high, low = LN2[kind]
    r = f.fma(n, -high, x)
    return f.bits(t), n, r, f.fma(n, -low, r)


def exponent_scales(f: Function, goal: str, i: Value, extra: int) -> tuple[Value, ...]:
    """2^(n + extra) in two factors (one if short), of i = n + MAGIC_BITS."""
    kind = kind_of(goal)
    bias, shift = BIAS[kind], MANTISSA[kind]
    if goal == "short":
        return (f.unbits((i + (bias + extra - MAGIC_BITS[kind])) << shift),)
    u = i + (2 * bias + extra - MAGIC_BITS[kind])
    half = f.binary("lshr", u, 1)
    return f.unbits(half << shift), f.unbits((u - half) << shift)


def power(
    f: Function,
    goal: str,
    x: Value,
    low: Value | None = None,
    *,
    careful: bool = False,
    extra: int = 0,
    bottom: float | None = None,
) -> Power:
    """e^(x + low) 2^extra; `careful` leaves only the final rounding, for a third more."""
    kind = kind_of(goal)
    least, top = RANGE[goal]
    bottom = least if bottom is None else bottom
    x = f.larger(f.smaller(x, top), bottom)
    i, n, first, r = reduction(f, goal, x)
    scales = exponent_scales(f, goal, i, extra)
    if not careful:
        if low is not None:
            r = exact(f, "add", r, low)
        return Power(f, f.fma(r * r, f.polynomial(r, EXP[goal]), r) + 1.0, None, scales)
    rest = f.fma(n, -LN2[kind][1], exact(f, "sub", first, r))
    if low is not None:
        r, rest = fast_two_sum(f, r, rest + low)
    p = f.fma(r * r, f.polynomial(r, EXP[goal]), rest)
    high, left = fast_two_sum(f, f.const(1.0, r.kind), r)
    return Power(f, high, exact(f, "add", left, p), scales, i)


@native()
def exp(f: Function, goal: str, x: Value) -> Value:
    return power(f, goal, x).value()


@native()
def exp2(f: Function, goal: str, x: Value) -> Value:
    kind = kind_of(goal)
    bottom, top = RANGE[goal]
    x = f.larger(f.smaller(x, top * 1.44), bottom * 1.44)
    t = exact(f, "add", x, MAGIC[kind])
    r = (x - (t - MAGIC[kind])) * 0.6931471805599453
    p = f.fma(r * r, f.polynomial(r, EXP[goal]), r) + 1.0
    return Power(f, p, None, exponent_scales(f, goal, f.bits(t), 0)).value()


def half_expm1(f: Function, goal: str, x: Value) -> Value:
    """(e^x - 1) / 2, which overflows no earlier than e^x / 2."""
    kind = kind_of(goal)
    x = f.larger(f.smaller(x, 88.9 if kind == "float" else 709.9), -50.0)
    i, _, _, r = reduction(f, goal, x)
    p = f.fma(r * r, f.polynomial(r, EXPM1[goal]), r)
    s = f.unbits((i + (BIAS[kind] - 1 - MAGIC_BITS[kind])) << MANTISSA[kind])
    return f.fma(s, p, s - 0.5)


def unless_tiny(f: Function, goal: str, x: Value, y: Value) -> Value:
    """x where x + x^2 rounds to x, else y: halves and sums would lose the last subnormal bit."""
    small = f.compare("olt", f.fabs(x), 2.0**-26 if goal == "float" else 2.0**-55)
    return f.select(small, x, y)


@native()
def expm1(f: Function, goal: str, x: Value) -> Value:
    y = half_expm1(f, goal, x)
    return unless_tiny(f, goal, x, y + y)


@native()
def tanh(f: Function, goal: str, x: Value) -> Value:
    """q / (q + 2) with q = e^(2|x|) - 1; in float32 1 - 2 / (q + 2), but a polynomial near 0."""
    if goal != "float":
        a = f.smaller(f.fabs(x), 20.0)
        h = half_expm1(f, goal, a + a)
        return f.copysign(h / (h + 1.0), x)
    a, z = f.smaller(f.fabs(x), 10.0), x * x
    near = f.fma(a * z, f.polynomial(z, TANH[goal]), a)
    far = 1.0 - 2.0 / (power(f, goal, a + a).value() + 1.0)
    return f.copysign(f.select(f.compare("olt", a, 0.6), near, far), x)


# ------------------------------------------------------------------ logarithms

ROOT_HALF_BITS = {"float": 0x3F3504F3, "double": 0x3FE6A09E667F3BCD}
ONE_BITS = {"float": 0x3F800000, "double": 0x3FF0000000000000}


def split(f: Function, goal: str, x: Value) -> tuple[Value, Value, Value | None]:
    """x = 2^n m: the float n, m, and the integer n + bias."""
    kind = kind_of(goal)
    shift, off = MANTISSA[kind], ROOT_HALF_BITS[kind]
    scale = None
    if goal != "short":
        scale = f.compare("olt", x, 2.0 ** (2 - BIAS[kind]))
        x = f.select(scale, x * 2.0 ** (shift + 2), x)
    i = f.bits(x) + (ONE_BITS[kind] - off)
    m = f.unbits((i & ((1 << shift) - 1)) + off)
    biased = f.binary("lshr", i, shift)
    n = to_float(f, biased)
    away = f.const(float(BIAS[kind]), x.kind)
    if scale is not None:
        away = f.select(scale, float(BIAS[kind] + shift + 2), away)
    return n - away, m, biased


def log_near(f: Function, goal: str, t: Value) -> Pair:
    """log(1 + t) = t - the pair's sum: t^2 / 2 and what is left of it."""
    square = exact(f, "mul", t, t)
    half = exact(f, "mul", square, 0.5)
    if goal == "double":
        s = t / (t + 2.0)
        z = s * s
        return half, s * f.fma(z, f.polynomial(z, LOG_ODD[goal]), half)
    return half, square * t * f.polynomial(t, LOG[goal])


def log_sum(f: Function, goal: str, n: Value, t: Value) -> Value:
    """n log 2 + log(1 + t)."""
    high, low = LN2[kind_of(goal)]
    half, rest = log_near(f, goal, t)
    y = f.fma(n, low, rest)
    return f.fma(n, high, exact(f, "add", exact(f, "sub", y, half), t))


def log_limits(f: Function, x: Value, y: Value) -> Value:
    """y, but for inf, 0, and what has no logarithm."""
    y = f.select(f.compare("oeq", x, INF), x, y)
    y = f.select(f.compare("ult", x, 0.0), NAN, y)
    return f.select(f.compare("oeq", x, 0.0), -INF, y)


@native()
def log(f: Function, goal: str, x: Value) -> Value:
    n, m, _ = split(f, goal, x)
    return log_limits(f, x, log_sum(f, goal, n, m - 1.0))


def log_of_pair(f: Function, goal: str, u: Value, low: Value, extra: Value | None = None) -> Value:
    """log(u + low) + extra log 2, for a normal u > 0; inf and nan pass."""
    kind = kind_of(goal)
    shift, off = MANTISSA[kind], ROOT_HALF_BITS[kind]
    i = f.bits(u) + (ONE_BITS[kind] - off)
    m = f.unbits((i & ((1 << shift) - 1)) + off)
    biased = f.binary("lshr", i, shift)
    scale = f.unbits((f.const(2 * BIAS[kind] + 1, biased.kind) - biased) << shift)  # 2^(1 - n)
    t = exact(f, "add", exact(f, "sub", m, 1.0), exact(f, "mul", low * 0.5, scale))
    n = to_float(f, biased) - float(BIAS[kind])
    y = log_sum(f, goal, n if extra is None else n + extra, t)
    return f.select(f.compare("uge", u, INF), u, y)


@native()
def log1p(f: Function, goal: str, x: Value) -> Value:
    y = log_of_pair(f, goal, *two_sum(f, f.const(1.0, x.kind), x))
    y = f.select(f.compare("ult", x, -1.0), NAN, y)
    y = f.select(f.compare("oeq", x, -1.0), -INF, y)
    return unless_tiny(f, goal, x, y)


# 1 / log b and log 2 / log b, each as two doubles
BASE = {
    2: ((1.4426950408889634, 2.0355273740931033e-17), (1.0, 0.0)),
    10: ((0.4342944819032518, 1.098319650216765e-17),
         (0.3010299956639812, -2.8037281277851704e-18)),
}  # fmt: skip


def heads(number: tuple[float, float], kind: str, bits: dict[str, int]) -> tuple[float, float]:
    """The leading bits of a number, and the rest."""
    fraction, exponent = math.frexp(number[0])
    top = math.ldexp(math.floor(math.ldexp(fraction, bits[kind])), exponent - bits[kind])
    return top, (number[0] - top) + number[1]


def log_base(f: Function, goal: str, x: Value, base: int) -> Value:
    """n M + K log m, in which both large products are exact."""
    kind = kind_of(goal)
    (kh, kl), (mh, ml) = (
        heads(BASE[base][0], kind, {"float": 12, "double": 26}),
        heads(BASE[base][1], kind, {"float": 16, "double": 42}),
    )
    n, m, _ = split(f, goal, x)
    t = m - 1.0
    half, rest = log_near(f, goal, t)
    high = head(f, exact(f, "sub", t, half))
    low = exact(f, "add", exact(f, "sub", exact(f, "sub", t, high), half), rest)
    top = exact(f, "mul", high, kh)
    y, left = fast_two_sum(f, exact(f, "mul", n, mh), top)
    tail = f.fma(low + high, kl, f.fma(low, kh, n * ml))
    return log_limits(f, x, y + (left + tail))


@native()
def log2(f: Function, goal: str, x: Value) -> Value:
    return log_base(f, goal, x, 2)


@native()
def log10(f: Function, goal: str, x: Value) -> Value:
    return log_base(f, goal, x, 10)
