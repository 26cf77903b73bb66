"""Native error functions, the normal distribution and what is built of them.

erfc a = e^(-a^2) / (sqrt(pi) a + 1/2 + P(a)/Q(a)) as in `wengert/ops/accurate.py`, whose
coefficients these are, with one division in place of two.
"""

from __future__ import annotations

import math
from typing import Any

from ....ops import accurate
from .coefficients import ERF, ERF_FAR
from .exponential import Power, power
from .ir import Function, Value
from .lanes import native, two_product


def numbers(*arrays: Any) -> tuple[float, ...]:
    return tuple(float(x) for x in arrays)


# the highest power first
FAR = {
    "double": (numbers(*accurate.FAR_P[::-1]), numbers(*accurate.FAR_Q[::-1]), 0.5),
    "short": (numbers(*accurate.FAR32_P[::-1]), numbers(*accurate.FAR32_Q[::-1]), 0.0),
}
NEAR = numbers(*accurate.NEAR_P[::-1])
ROOT_PI = math.sqrt(math.pi)
ERF_LINEAR = (2 / ROOT_PI - 1, 3.4893679729544577e-18)


def square_power(f: Function, goal: str, a: Value, half: float) -> Power:
    """e^(-half a^2), with the square as a pair."""
    if goal == "short":
        return power(f, goal, a * a * -half)
    high, low = two_product(f, a, a)
    return power(f, goal, high * -half, low * -half, careful=True)


def tail(f: Function, goal: str, a: Value) -> tuple[Value, Value]:
    """erfc a = e^(-a^2) times the quotient of the pair, for a >= 0 (3/4 in double)."""
    p, q, middle = FAR[goal]
    top = f.polynomial(a, q)
    slope = f.fma(a, ROOT_PI, middle) if middle else a * ROOT_PI
    return top, f.fma(top, slope, f.polynomial(a, p))


def erf_near(f: Function, x: Value) -> Value:
    """erf(x) / x - 1, for |x| <= 3/4 in float64."""
    z = x * x
    c = 2 / ROOT_PI
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
    top, bottom = tail(f, goal, b)
    far = f.copysign(1.0 - power(f, goal, -(b * b)).value(top / bottom), x)
    return f.select(f.compare("olt", a, 0.75), near, far)


@native(wide=True)
def erfc(f: Function, goal: str, x: Value) -> Value:
    a = f.smaller(f.fabs(x), 30.0)
    top, bottom = tail(f, goal, a)
    y = square_power(f, goal, a, 1.0).value(top / bottom)
    y = f.select(f.compare("olt", x, 0.0), 2.0 - y, y)
    if goal == "short":
        return y
    near = f.fma(-x, erf_near(f, x), 1.0 - x)
    return f.select(f.compare("olt", a, 0.75), near, y)
