"""The normal distribution in float32, for machines with a fused multiply-add.

For a >= 0 normal_cdf(-a) = g(a) M(a), with the density g and Mills' ratio M, and erfc(a) likewise:

    g(a) = 2^(n/2) c (1 + p)   c = 1 / sqrt(2 pi), |p| < 0.2, from the square of a unrounded
    M(a) = t (1 + share)       t = Q / (Q s + P), s = a + shift, so that 1/M = s + P/Q

P is small beside Q s, so that what is rounded in P and Q counts little, and `share` is what t is
short of M: 1 - t s - t P/Q. A product of both is rounded once, but for a fraction of an ulp. P is
smallest where M(a) = a, the root of gelu's slope: there M is right to far more than 24 bits.

Functions of the same x have these parts in common; the optimizer finds them again, since they are
written by the same steps.

Reference: J. P. Mills, "Table of the ratio: area to bounding ordinate, for any portion of normal
curve", Biometrika 18, 1926.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..ir import Function, Value
from .coefficients import (
    DGELU_RISE,
    DGELU_ROOT,
    ERFC_P,
    ERFC_Q,
    ERFC_SHIFT,
    EXP_NEAR,
    MILLS_P,
    MILLS_Q,
    MILLS_SHIFT,
)
from .exponential import LOG2E
from .lanes import MAGIC, MAGIC_BITS, MANTISSA, Pair, exact, fast_two_sum, two_sum

KIND = "float"
# c and sqrt(2) c, each as two floats
Factor = tuple[tuple[float, float], tuple[float, float]]
ONE = (1.0, 0.0), (1.4142135381698608, 2.420323420895794e-08)
BY_ROOT_PI = (
    (0.564189612865448, -2.9317691711098796e-08), (0.7978845834732056, -2.267034021052636e-08),
)  # fmt: skip
BY_ROOT_TWO_PI = (
    (0.3989422917366028, -1.133517010526318e-08), (0.564189612865448, -2.9317691711098796e-08),
)  # fmt: skip
# log(2) / 2 as a head of 15 bits, whose products with n are exact, and a small rest
STEP = 0.3465728759765625, 7.143034101547086e-07
# from here on all is 0
NORMAL_TOP, ERFC_TOP = 15.0, 10.6
# 2^(n/2) is kept as 2^(n/2 + UP), a normal number, so that only the last operation underflows
UP = 64
DOWN = 2.0**-UP


@dataclass
class Bell:
    """2^UP c e^(-half a^2) = high + low; whole is their rounded sum."""

    f: Function
    high: Value
    low: Value
    whole: Value

    def times(self, high: Value, low: Value) -> Value:
        """The product with high + low."""
        return self.f.fma(high, self.high, self.f.fma(high, self.low, low * self.whole))


def bell(f: Function, a: Value, half: float, c: Factor) -> Bell:
    """For 0 <= a, half a^2 < 113; half a power of two."""
    t = f.fma(exact(f, "mul", a, a), -2 * half * LOG2E, MAGIC[KIND])
    n = exact(f, "sub", t, MAGIC[KIND])
    head, tail = (k / half for k in STEP)
    r = f.fma(n, tail, f.fma(a, a, exact(f, "mul", n, head)))  # half a^2 = -n log(2) / 2 + half r
    order = len(EXP_NEAR[KIND]) + 1
    bend = tuple(k * (-half) ** (order - i) for i, k in enumerate(EXP_NEAR[KIND]))
    i = f.bits(t)
    odd = f.compare("ne", i & 1, 0)
    rest = f.select(odd, c[1][1] / c[1][0], f.const(c[0][1] / c[0][0], a.kind))
    p = f.fma(r, -half, f.fma(r * r, f.polynomial(r, bend), rest))
    start = f.select(odd, scaled(c[1][0]), f.const(scaled(c[0][0]), i.kind))
    main = f.unbits(((i & -2) << (MANTISSA[KIND] - 1)) + start)
    low = exact(f, "mul", main, p)
    return Bell(f, main, low, exact(f, "add", main, low))


def scaled(c: float) -> int:
    """The bits of 2^UP c, less those that a shifted exponent brings along."""
    bits = int(np.float32(c * 2.0**UP).view(np.int32))
    return (bits - (MAGIC_BITS[KIND] << (MANTISSA[KIND] - 1))) % (1 << 32)


def quotient(
    f: Function, a: Value, shift: float, p: tuple[float, ...], q: tuple[float, ...]
) -> Pair:
    """t and share, with t (1 + share) = 1 / (a + shift + P/Q)."""
    top, small = f.polynomial(a, q), f.polynomial(a, p)
    s, low = fast_two_sum(f, f.const(shift, a.kind), a)  # exact for any a: shift has few bits
    c = 1.0 / f.fma(top, s, small)
    t = exact(f, "mul", top, c)
    left = f.fma(-t, low, f.fma(-t, s, f.const(1.0, a.kind)))
    return t, f.fma(-small, c, left)


def parts(f: Function, x: Value) -> tuple[Value, Bell, Value, Value]:
    """a = |x|, g(a), and t and share of M(a)."""
    a = f.smaller(f.fabs(x), NORMAL_TOP)
    g = bell(f, a, 0.5, BY_ROOT_TWO_PI)
    return a, g, *quotient(f, a, MILLS_SHIFT, MILLS_P[KIND], MILLS_Q[KIND])


def beyond(f: Function, there: Value, y: Value, whole: float) -> Value:
    """whole - y there, y elsewhere, of 2^UP y."""
    zero, down = f.const(0.0, y.kind), f.const(DOWN, y.kind)
    return f.fma(y, f.select(there, -DOWN, down), f.select(there, whole, zero))


def normal_cdf(f: Function, x: Value) -> Value:
    _, g, t, share = parts(f, x)
    return beyond(f, f.compare("ogt", x, 0.0), g.times(t, t * share), 1.0)


def gelu(f: Function, x: Value) -> Value:
    """max(x, 0) - a g(a) M(a)."""
    a, g, t, share = parts(f, x)
    high = exact(f, "mul", a, t)
    y = g.times(high, f.fma(high, share, f.fma(a, t, -high)))
    return f.copysign(f.fma(y, -DOWN, f.larger(x, 0.0)), x)


def dgelu(f: Function, x: Value) -> Value:
    """g(a) (M(a) - a) at -a, 1 less it at a; around its root a polynomial."""
    a, g, t, share = parts(f, x)
    slope, left = two_sum(f, t, -a)
    y = g.times(slope, f.fma(t, share, left))
    y = beyond(f, f.compare("ogt", x, 0.0), y, 1.0)
    root, value = DGELU_ROOT
    d = exact(f, "sub", x, root)
    near = f.fma(d, f.polynomial(d, DGELU_RISE[KIND]), value)
    return f.select(f.compare("olt", f.fabs(d), 0.08), near, y)


def erfc(f: Function, x: Value) -> Value:
    a = f.smaller(f.fabs(x), ERFC_TOP)
    g = bell(f, a, 1.0, BY_ROOT_PI)
    t, share = quotient(f, a, ERFC_SHIFT, ERFC_P[KIND], ERFC_Q[KIND])
    return beyond(f, f.compare("olt", x, 0.0), g.times(t, t * share), 2.0)


def normal_pdf(f: Function, x: Value) -> Value:
    return bell(f, f.smaller(f.fabs(x), NORMAL_TOP), 0.5, BY_ROOT_TWO_PI).whole * DOWN


def gauss(f: Function, x: Value) -> Value:
    return bell(f, f.smaller(f.fabs(x), ERFC_TOP), 1.0, ONE).whole * DOWN
