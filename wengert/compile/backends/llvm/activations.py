"""Native activation functions and their derivatives; `wengert/ops/slopes.py` has their meaning.

Far to the left most are a factor times e^x: the factor is multiplied before the scale of the
exponential, as e^x may be subnormal where the product is not.
"""

from __future__ import annotations

import math

from ....ops.slopes import GELU_A, GELU_B
from .coefficients import (
    DGELU_TANH,
    DGELU_TANH_ZERO,
    DMISH,
    DMISH_ZERO,
    DSILU,
    DSILU_ZERO,
    LOG1P,
    TANHSHRINK,
)
from .exponential import Power, power
from .gaussian import around_zero
from .ir import Function, Value
from .lanes import (
    INF,
    NAN,
    Pair,
    exact,
    fast_two_sum,
    native,
    pair_product,
    two_product,
    two_sum,
)

# ------------------------------------------------------------------ the logistic function


def logistic(
    f: Function, goal: str, x: Value, low: Value | None = None, top: float = 40.0
) -> tuple[Power, Value]:
    """e^(x + low), up to e^top, and its value."""
    e = power(f, goal, f.smaller(x, top), low, careful=goal == "float")
    return e, e.value()


def odds(f: Function, e: Value) -> Value:
    """e / (1 + e): e - e y where that is more accurate."""
    y = e / (e + 1.0)
    return f.select(f.compare("olt", e, 0.25), f.fma(-e, y, e), y)


@native()
def sigmoid(f: Function, goal: str, x: Value) -> Value:
    return odds(f, logistic(f, goal, x)[1])


@native()
def dsigmoid(f: Function, goal: str, x: Value) -> Value:
    """e / (1 + e)^2 with e = e^-|x|."""
    e = power(f, goal, -f.fabs(x), careful=goal == "float").value()
    return e / f.fma(e, e + 2.0, 1.0)


@native()
def silu(f: Function, goal: str, x: Value) -> Value:
    """x e / (1 + e)."""
    e, value = logistic(f, goal, x)
    far = f.larger(x, -1000.0)
    return e.value(1.0 / (value + 1.0), far) if goal != "float" else e.value(far / (value + 1.0))


@native(wide=True)
def dsilu(f: Function, goal: str, x: Value) -> Value:
    """s (1 + x (1 - s)) with s = sigmoid(x) = e t, 1 - s = t = 1 / (1 + e)."""
    e, value = logistic(f, goal, x, top=300.0)
    t = 1.0 / (value + 1.0)
    far = f.larger(f.smaller(x, 1000.0), -1000.0)
    y = e.value(t * f.fma(far, t, 1.0))
    return around_zero(f, goal, x, DSILU_ZERO, DSILU, y)


def log1p_below(f: Function, goal: str, u: Value) -> Value:
    """log(1 + u) for 0 <= u <= 1."""
    return f.fma(u * u, f.polynomial(u, LOG1P[goal]), u)


@native()
def softplus(f: Function, goal: str, x: Value) -> Value:
    """max(x, 0) + log(1 + e^-|x|)."""
    e = power(f, goal, -f.fabs(x), careful=goal == "float").value()
    return f.larger(x, 0.0) + log1p_below(f, goal, e)


@native()
def log_sigmoid(f: Function, goal: str, x: Value) -> Value:
    return -softplus(f, goal, -x)


@native(2, wide=True)
def logaddexp(f: Function, goal: str, a: Value, b: Value) -> Value:
    top, bottom = f.larger(a, b), f.smaller(a, b)
    d = exact(f, "sub", bottom, top)
    y = top + log1p_below(f, goal, power(f, goal, d).value())
    y = f.select(f.compare("oeq", a, b), a + math.log(2.0), y)
    return f.select(f.compare("uno", a, b), NAN, y)


def share_of(
    f: Function, goal: str, a: Value, b: Value, scale: float = 1.0, scale_low: float = 0.0
) -> Value:
    z, low = two_sum(f, a, -b)
    low = f.select(f.compare("olt", f.fabs(z), 2000.0), low, 0.0)
    if scale != 1.0:
        z0 = f.larger(f.smaller(z, 4000.0), -4000.0)
        z, left = two_product(f, z0, scale)
        low = f.fma(z0, scale_low, f.fma(low, scale, left))
    return odds(f, logistic(f, goal, z, low)[1])


LN2 = math.log(2.0), 2.3190468138462996e-17


@native(2, wide=True)
def share(f: Function, goal: str, a: Value, b: Value) -> Value:
    """e^a / (e^a + e^b), with the rounding error of a - b made good."""
    return share_of(f, goal, a, b)


@native(2, wide=True)
def share2(f: Function, goal: str, a: Value, b: Value) -> Value:
    return share_of(f, goal, a, b, *LN2)


# ------------------------------------------------------------------ hyperbolic


@native(2, wide=True)
def by_cosh2(f: Function, goal: str, a: Value, b: Value) -> Value:
    """a / cosh^2 b = a 4 e / (1 + e)^2 with e = e^-2|b|."""
    c = f.fabs(b)
    y = four_powers(f, goal, f.larger(c * -2.0, -1390.0)).value(a)
    return f.select(f.compare("ogt", c, 340.0 if goal == "short" else 760.0), a * 0.0, y)


def four_powers(f: Function, goal: str, x: Value) -> Power:
    """4 e / (1 + e)^2 with e = e^x."""
    four = power(f, goal, x, careful=goal == "float", extra=2)
    e = four.value() * 0.25
    return four.over(f.fma(e, e + 2.0, 1.0))


@native()
def sech2(f: Function, goal: str, x: Value) -> Value:
    return four_powers(f, goal, f.fabs(x) * -2.0).value()


@native(wide=True)
def tanhshrink(f: Function, goal: str, x: Value) -> Value:
    """x - tanh x."""
    a, z = f.fabs(x), x * x
    near = x * z * f.polynomial(z, TANHSHRINK[goal])
    e = power(f, goal, a * -2.0).value()
    far = exact(f, "sub", a, 1.0) + 2.0 * e / (1.0 + e)
    return f.copysign(f.select(f.compare("olt", a, 1.0), near, far), x)


@native(wide=True)
def mish(f: Function, goal: str, x: Value) -> Value:
    """x n / (n + 2) with n = e (e + 2)."""
    e, value = logistic(f, goal, x)
    w = value + 2.0
    return e.value(w / f.fma(value, w, 2.0), f.larger(x, -1000.0))


@native(wide=True)
def dmish(f: Function, goal: str, x: Value) -> Value:
    """(n + 4 x e (1 + e) / (n + 2)) / (n + 2)."""
    e, value = logistic(f, goal, x)
    w = value + 2.0
    d = 1.0 / f.fma(value, w, 2.0)
    far = f.larger(f.smaller(x, 1000.0), -1000.0)
    y = e.value(f.fma(4.0 * far, (value + 1.0) * d, w) * d)
    return around_zero(f, goal, x, DMISH_ZERO, DMISH, y)


@native()
def elu(f: Function, goal: str, x: Value) -> Value:
    """x where x > 0, else e^x - 1."""
    return f.select(f.compare("ogt", x, 0.0), x, f.math("expm1", f.smaller(x, 0.0)))


@native()
def softsign(f: Function, goal: str, x: Value) -> Value:
    a = f.fabs(x)
    return f.select(f.compare("oeq", a, INF), f.copysign(1.0, x), x / (a + 1.0))


# ------------------------------------------------------------------ the cubic in tanh or sigmoid


def cubic(f: Function, goal: str, x: Value) -> Pair:
    """v = A x + B x^3, as a pair in float64: e^v would show its rounding."""
    if goal == "short":
        return x * f.fma(x * x, GELU_B, GELU_A), f.const(0.0, x.kind)
    z = two_product(f, x, x)
    b, a = (f.const(k, x.kind) for k in (GELU_B, GELU_A))
    inner, low = pair_product(f, z, (b, f.const(GELU_B_LOW, x.kind)))
    s, left = two_sum(f, a, inner)
    s, left = fast_two_sum(f, s, left + (low + GELU_A_LOW))
    return pair_product(f, (s, left), (x, f.const(0.0, x.kind)))


# what 2 sqrt(2 / pi) and 0.044715 of it are more than their doubles
GELU_A_LOW, GELU_B_LOW = -9.96930880911092e-17, -6.175149918155315e-19


@native(wide=True)
def gelu_tanh(f: Function, goal: str, x: Value) -> Value:
    """x sigmoid(A x + B x^3)."""
    v, low = cubic(f, goal, f.larger(f.smaller(x, 40.0), -40.0))
    e, value = logistic(f, goal, v, None if goal == "short" else low)
    return e.value(1.0 / (value + 1.0), f.larger(x, -40.0))


@native(wide=True)
def dgelu_tanh(f: Function, goal: str, x: Value) -> Value:
    """s (1 + x (1 - s) v') with s = sigmoid(v)."""
    z = f.larger(f.smaller(x, 40.0), -40.0)
    v, low = cubic(f, goal, z)
    e, value = logistic(f, goal, v, None if goal == "short" else low, 300.0)
    t = 1.0 / (value + 1.0)
    slope = f.fma(z * z, 3 * GELU_B, GELU_A)
    y = e.value(t * f.fma(z * slope, t, 1.0))
    return around_zero(f, goal, x, DGELU_TANH_ZERO, DGELU_TANH, y)
