"""Native error functions, the normal distribution and what is built of them.

erfc a = e^(-a^2) / (sqrt(pi) a + 1/2 + P(a)/Q(a)) as in `wengert/ops/accurate.py`, whose
coefficients these are, with one division in place of two. In float32 with a fused multiply-add,
all but erf are those of `mills`.
"""

from __future__ import annotations

import math
from typing import Any

from ...ops import accurate
from ..ir import Function, Value
from . import mills
from .coefficients import DGELU, DGELU_ZERO, ERF, ERF_FAR, Table
from .exponential import Power, power
from .lanes import exact, fast_two_sum, native, two_product


def numbers(*arrays: Any) -> tuple[float, ...]:
    return tuple(float(x) for x in arrays)


# the highest power first
FAR = {
    "double": (numbers(*accurate.FAR_P[::-1]), numbers(*accurate.FAR_Q[::-1]), 0.5),
    "short": (numbers(*accurate.FAR32_P[::-1]), numbers(*accurate.FAR32_Q[::-1]), 0.0),
}
NEAR = numbers(*accurate.NEAR_P[::-1])
ROOT_PI = 1.772453850905516, -7.666586499825799e-17


def square_power(f: Function, goal: str, a: Value, half: float) -> Power:
    """e^(-half a^2), with the square as a pair."""
    if goal == "short":
        return power(f, goal, a * a * -half)
    high, low = two_product(f, a, a)
    return power(f, goal, high * -half, low * -half, careful=True)


def bottom(
    f: Function, goal: str, a: Value, k: tuple[float, float], middle: float, p: Value, q: Value
) -> Value:
    """(k a + middle) q + p; in float64 k a + middle is a pair, for |k a| >= middle."""
    if goal == "short":
        return f.fma(q, a * k[0], p)
    slope, low = two_product(f, a, k[0])
    slope, left = fast_two_sum(f, slope, middle)
    rest = f.fma(q, left + f.fma(a, k[1], low), p)
    if f.module.fma:
        return f.fma(q, slope, rest)
    high, low = two_product(f, q, slope)
    return high + (low + rest)


def tail(f: Function, goal: str, a: Value) -> tuple[Value, Value]:
    """erfc a = e^(-a^2) times the quotient of the pair, for a >= 0 (3/4 in double)."""
    p, q, middle = FAR[goal]
    top = f.polynomial(a, q)
    return top, bottom(f, goal, a, ROOT_PI, middle, f.polynomial(a, p), top)


def erf_near(f: Function, x: Value) -> Value:
    """erf(x) / x - 1, for |x| <= 3/4 in float64."""
    z = x * x
    c = 2 / ROOT_PI[0]
    return f.fma(z * c, f.polynomial(z, NEAR), c - 1)


@native()
def erf(f: Function, goal: str, x: Value) -> Value:
    a = f.fabs(x)
    if goal == "float":
        z = a * a
        near = f.fma(x, f.polynomial(z, ERF[goal]), x)
        b = f.smaller(a, 4.0)
        e = power(f, goal, -(b * f.polynomial(b, ERF_FAR[goal])))
        far = f.copysign(1.0 - e.value(), x)
        return f.select(f.compare("olt", a, 1.0), near, far)
    near = f.fma(x, erf_near(f, x), x)
    b = f.smaller(a, 7.0)
    p, top = (f.polynomial(b, c) for c in FAR[goal][:2])
    under = f.fma(top, f.fma(b, ROOT_PI[0], FAR[goal][2]), p)  # a part of 1: needs no pair
    far = f.copysign(1.0 - power(f, goal, -(b * b)).value(top / under), x)
    return f.select(f.compare("olt", a, 0.75), near, far)


def minus_where(f: Function, below: Value, y: Value, whole: float) -> Value:
    """whole - y there, y elsewhere."""
    return f.select(below, whole - y, y)


@native(wide=True, fused=True)
def erfc(f: Function, goal: str, x: Value) -> Value:
    if goal == "float":
        return mills.erfc(f, x)
    a = f.smaller(f.fabs(x), 30.0)
    top, under = tail(f, goal, a)
    y = square_power(f, goal, a, 1.0).value(top / under)
    y = minus_where(f, f.compare("olt", x, 0.0), y, 2.0)
    if goal == "short":
        return y
    near = f.fma(-x, erf_near(f, x), 1.0 - x)
    return f.select(f.compare("olt", a, 0.75), near, y)


# ------------------------------------------------------------------ the normal distribution

ROOT_HALF = math.sqrt(0.5)
ROOT_TWO_PI = 2.5066282746310007, -1.8328579980459167e-16
DENSITY = 0.3989422804014327, -2.49232720227773e-17  # 1 / sqrt(2 pi)
CDF_NEAR = 1.05


def normal_tail(f: Function, goal: str, a: Value) -> tuple[Value, Value]:
    """normal_cdf(-a) = e^(-a^2/2) times the quotient of the pair; a is not divided by sqrt 2."""
    p, q, middle = FAR[goal]
    z = a * ROOT_HALF
    top = f.polynomial(z, q)
    twice = f.polynomial(z, tuple(2 * c for c in p))
    return top, bottom(f, goal, a, ROOT_TWO_PI, 2 * middle, twice, top)


def cdf_near(f: Function, x: Value) -> Value:
    """normal_cdf for |x| <= 1.05 in float64."""
    z = x * x * 0.5
    k, low = DENSITY
    return f.fma(x, k, 0.5) + x * f.fma(z * k, f.polynomial(z, NEAR), low)


@native(wide=True, fused=True)
def normal_cdf(f: Function, goal: str, x: Value) -> Value:
    if goal == "float":
        return mills.normal_cdf(f, x)
    a = f.smaller(f.fabs(x), 45.0)
    top, under = normal_tail(f, goal, a)
    y = square_power(f, goal, a, 0.5).value(top / under)
    y = minus_where(f, f.compare("ogt", x, 0.0), y, 1.0)
    if goal == "short":
        return y
    return f.select(f.compare("olt", a, CDF_NEAR), cdf_near(f, x), y)


@native(wide=True, fused=True)
def gelu(f: Function, goal: str, x: Value) -> Value:
    """x normal_cdf(x)."""
    if goal == "float":
        return mills.gelu(f, x)
    a = f.smaller(f.fabs(x), 45.0)
    top, under = normal_tail(f, goal, a)
    y = square_power(f, goal, a, 0.5).value(a * top / under)
    y = f.larger(x, 0.0) - y
    if goal == "short":
        return f.select(f.compare("oeq", x, 0.0), x, y)
    return f.copysign(f.select(f.compare("olt", a, CDF_NEAR), x * cdf_near(f, x), y), x)


@native(wide=True, fused=True)
def normal_pdf(f: Function, goal: str, x: Value) -> Value:
    if goal == "float":
        return mills.normal_pdf(f, x)
    a = f.smaller(f.fabs(x), 45.0)
    return square_power(f, goal, a, 0.5).value(f.const(DENSITY[0], x.kind))


@native(wide=True, fused=True)
def gauss(f: Function, goal: str, x: Value) -> Value:
    if goal == "float":
        return mills.gauss(f, x)
    return square_power(f, goal, f.smaller(f.fabs(x), 30.0), 1.0).value()


def around_zero(
    f: Function, goal: str, x: Value, zero: tuple[float, float], table: Table, y: Value
) -> Value:
    """y, but near a root of the function a polynomial in the distance from it."""
    d = exact(f, "sub", exact(f, "sub", x, zero[0]), zero[1])
    near = d * f.polynomial(d, table[goal])
    return f.select(f.compare("olt", f.fabs(d), 0.3), near, y)


@native(wide=True, fused=True)
def dgelu(f: Function, goal: str, x: Value) -> Value:
    """normal_cdf(x) + x normal_pdf(x) = e^(-a^2/2) (1/D - a/sqrt(2 pi)) at -a, 1 less it at a."""
    if goal == "float":
        return mills.dgelu(f, x)
    a = f.smaller(f.fabs(x), 45.0)
    top, under = normal_tail(f, goal, a)
    e = square_power(f, goal, a, 0.5)
    p, low = two_product(f, a, DENSITY[0])
    y = e.value(exact(f, "sub", top / under, p) - f.fma(a, DENSITY[1], low))
    y = minus_where(f, f.compare("ogt", x, 0.0), y, 1.0)
    if goal != "short":
        near = f.fma(x, e.value(f.const(DENSITY[0], x.kind)), cdf_near(f, x))
        y = f.select(f.compare("olt", a, CDF_NEAR), near, y)
    return around_zero(f, goal, x, DGELU_ZERO, DGELU, y)
