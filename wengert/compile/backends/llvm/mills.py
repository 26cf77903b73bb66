"""The normal distribution in float32, on machines with a fused multiply-add.

For a >= 0, normal_cdf(-a) = g(a) M(a) with the density g and Mills' ratio M, both as pairs:

    g(a) = e^(-a^2/2) / sqrt(2 pi)    2^n (c + d), c the constant
    M(a) = normal_cdf(-a) / g(a)      t + rest, t = Q / (Q s + P) with s = a + K

K makes P small beside Q s, so that what is rounded in P and Q hardly counts: 1/M = s + P/Q. What is
rounded in t is made good by the residual of the division. A product of both is then rounded once,
but for a fraction of an ulp.

Functions that are written from the same parts of the same x share them where they meet in a kernel.

Reference: J. P. Mills, "Table of the ratio: area to bounding ordinate, for any portion of normal
curve", Biometrika 18, 1926.
"""

from __future__ import annotations

import numpy as np
from dataclasses import dataclass

from .coefficients import DGELU_FLOAT, EXP, MILLS_P, MILLS_Q
from .exponential import LN2, LOG2E
from .ir import Function, Value
from .lanes import BIAS, MAGIC, MAGIC_BITS, MANTISSA, Pair, exact, fast_two_sum, two_sum

KIND = "float"
UP = 64  # 2^n is kept as 2^(n + UP), a normal number, so that only the last operation underflows
DOWN = 2.0**-UP


@dataclass
class Bell:
    """main + rest = whole = 2^UP c e^(-half a^2), main = 2^(n + UP) c."""

    f: Function
    main: Value
    rest: Value
    whole: Value

    def times(self, high: Value, low: Value) -> Value:
        """The product with high + low, times 2^UP."""
        y = self.f.fma(high, self.rest, low * self.whole)
        return self.f.fma(high, self.main, y)


def bell(f: Function, a: Value, half: float, c: tuple[float, float]) -> Bell:
    """c e^(-half a^2), for 0 <= a and half a^2 < 130; half a power of two."""
    t = f.fma(exact(f, "mul", a, a), -half * LOG2E, MAGIC[KIND])
    n = exact(f, "sub", t, MAGIC[KIND])
    high, low = (k / half for k in LN2[KIND])
    r = f.fma(a, a, exact(f, "mul", n, high))  # the square is not rounded
    r = f.fma(n, low, r)  # -half r is what is left of -half a^2
    bend = tuple(k * (-half) ** (len(EXP[KIND]) + 1 - i) for i, k in enumerate(EXP[KIND]))
    p = f.fma(r * r, f.polynomial(r, bend), f.fma(r, -half, c[1] / c[0]))
    bits = literal_bits(c[0] * 2.0**UP) - (MAGIC_BITS[KIND] << MANTISSA[KIND])
    main = f.unbits((f.bits(t) << MANTISSA[KIND]) + bits % 2**32)
    rest = exact(f, "mul", main, p)
    return Bell(f, main, rest, exact(f, "add", main, rest))


def literal_bits(x):
    return int(np.float32(x).view(np.int32))


def ratio(f: Function, a: Value, k: float, p: tuple[float, ...], q: tuple[float, ...]) -> Pair:
    """1 / (a + k + P/Q) = t (1 + share)."""
    top, small = f.polynomial(a, q), f.polynomial(a, p)
    s, low = fast_two_sum(f, f.const(k, a.kind), a)  # exact for any a: k has few bits
    c = f.binary("div", 1.0, f.fma(top, s, small), flags=FLAGS)
    t = exact(f, "mul", top, c)
    left = f.fma(-t, low, f.fma(-t, s, f.const(1.0, a.kind)))
    return t, f.fma(-small, c, left)

import os
FLAGS=os.environ.get('FL','contract')
K = 37 / 64
DENSITY = 0.3989422917366028, -1.13351701e-08
ROOT, AT_ROOT = -0.7517915368080139, -5.227311916655708e-09


def normal(f: Function, x: Value) -> tuple[Value, Bell, Pair]:
    """a = |x|, g(a) and M(a)."""
    a = f.smaller(f.fabs(x), 15.0)
    return a, bell(f, a, 0.5, DENSITY), ratio(f, a, K, MILLS_P[KIND], MILLS_Q[KIND])


def beyond(f: Function, there: Value, y: Value, whole: float = 1.0) -> Value:
    """whole - y there, y elsewhere; y is given times 2^UP."""
    return f.fma(y, f.select(there, -DOWN, f.const(DOWN, y.kind)), f.select(there, whole, f.const(0.0, y.kind)))


def gelu(f: Function, x: Value) -> Value:
    a, g, (t, share) = normal(f, x)
    high = exact(f, "mul", a, t)
    low = f.fma(high, share, f.fma(a, t, -high))
    y = f.fma(g.times(high, low), -DOWN, f.larger(x, 0.0))
    return f.copysign(y, x)


def dgelu(f: Function, x: Value) -> Value:
    a, g, (t, share) = normal(f, x)
    slope, left = two_sum(f, t, -a)
    y = g.times(slope, f.fma(t, share, left))
    y = beyond(f, f.compare("ogt", x, 0.0), y)
    d = exact(f, "sub", x, ROOT)
    near = f.fma(d, f.polynomial(d, DGELU_FLOAT), AT_ROOT)
    return f.select(f.compare("olt", f.fabs(d), 0.08), near, y)


def normal_cdf(f: Function, x: Value) -> Value:
    _, g, (t, share) = normal(f, x)
    y = g.times(t, t * share)
    return beyond(f, f.compare("ogt", x, 0.0), y)
