"""Native activation functions and their derivatives; `wengert/ops/slopes.py` has their meaning.

Far to the left most are a factor times e^x: the factor is multiplied before the scale of the
exponential, as e^x may be subnormal where the product is not.
"""

from __future__ import annotations

import math

from ...ops.slopes import GELU_A, GELU_B
from ..ir import Function, Value
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
from .lanes import (
    INF,
    NAN,
    Pair,
    exact,
    native,
    pair_product,
    pair_sum,
    reciprocal,
    two_product,
    two_sum,
)

# ------------------------------------------------------------------ the logistic function


def logistic(
    f: Function, goal: str, x: Value, low: Value | None = None, top: float = 40.0
) -> tuple[Power, Value]:
    """e^(x + low), up to e^top, and its value."""
    e = power(f, goal, f.smaller(x, top), low, careful=goal == "float" or top != 40.0)
    return e, e.value()


def one_and_product(f: Function, a: Pair, b: Pair) -> Value:
    """1 + a b, whose terms may cancel."""
    p, low = pair_product(f, a, b)
    s, left = two_sum(f, f.const(1.0, p.kind), p)
    return s + (left + low)


def slope(f: Function, e: Power, v: Pair) -> Value:
    """s (1 + v (1 - s)) in float64, with s = e / (1 + e)."""
    high, low = e.pair()
    d, left = two_sum(f, f.const(1.0, high.kind), high)
    t = reciprocal(f, (d, left + low))
    return e.value(t[0] * one_and_product(f, v, t))


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
    return logistic_slope(f, goal, -f.fabs(x)).value()


def logistic_slope(
    f: Function, goal: str, x: Value, extra: int = 0, bottom: float | None = None
) -> Power:
    """e / (1 + e)^2 times 2^extra, with e = e^x <= 1."""
    scaled = power(f, goal, x, careful=goal == "float", extra=extra, bottom=bottom)
    if goal == "float":
        d, low = scaled.more()
        square, left = two_product(f, d, d)
        return scaled.over_pair((square, f.fma(d + d, low, left)))
    value = scaled.value(*([f.const(2.0**-extra, x.kind)] if extra else []))
    return scaled.over(f.fma(value, value + 2.0, 1.0))


@native()
def silu(f: Function, goal: str, x: Value) -> Value:
    """x e / (1 + e)."""
    e, value = logistic(f, goal, x)
    y = e.over_pair(e.more()) if goal == "float" else e.over(value + 1.0)
    return y.value(f.larger(x, -1000.0))


@native(wide=True)
def dsilu(f: Function, goal: str, x: Value) -> Value:
    """s (1 + x (1 - s)) with s = sigmoid(x) = e t, 1 - s = t = 1 / (1 + e)."""
    far = f.larger(f.smaller(x, 1000.0), -1000.0)
    e, value = logistic(f, goal, x, top=300.0)
    if goal == "short":
        t = 1.0 / (value + 1.0)
        y = e.value(t * f.fma(far, t, 1.0))
    else:
        y = slope(f, e, (far, f.const(0.0, x.kind)))
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
    # where cosh b overflows, inf / cosh^2 b is nan
    infinite = f.compare("oeq", f.fabs(a), INF)
    if goal == "short":
        y = logistic_slope(f, goal, c * -2.0, 2).value(a)
        limit = f.select(infinite, f.const(89.41598629223294, b.kind), 340.0)
    else:
        q = logistic_slope(f, goal, c * -2.0, 602, -1460.0)
        near, first = f.compare("olt", c, 345.0), q.high * q.scales[0]
        one, rest = f.const(1.0, b.kind), q.scales[1] * 2.0**-600
        y = f.select(near, first * rest, first) * a * f.select(near, one, q.scales[1])
        y = y * f.select(near, one, 2.0**-600)
        limit = f.select(infinite, f.const(710.4758600739439, b.kind), 760.0)
    return f.select(f.compare("ogt", c, limit), a * 0.0, y)


@native()
def sech2(f: Function, goal: str, x: Value) -> Value:
    return logistic_slope(f, goal, f.fabs(x) * -2.0, 2).value()


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
    return e.over(f.fma(value, w, 2.0), w).value(f.larger(x, -1000.0))


@native(wide=True)
def dmish(f: Function, goal: str, x: Value) -> Value:
    """(n + 4 x e (1 + e) / (n + 2)) / (n + 2)."""
    far = f.larger(f.smaller(x, 1000.0), -1000.0)
    if goal == "short":
        e, value = logistic(f, goal, x)
        w = value + 2.0
        d = 1.0 / f.fma(value, w, 2.0)
        y = e.value(f.fma(4.0 * far, (value + 1.0) * d, w) * d)
    else:
        e = power(f, goal, f.smaller(x, 40.0), careful=True)
        high, low = e.pair()
        one, two = f.const(1.0, x.kind), f.const(2.0, x.kind)
        (a, a_low), (b, b_low) = two_sum(f, one, high), two_sum(f, two, high)
        a_low, b_low = a_low + low, b_low + low
        n, n_low = pair_product(f, (high, low), (b, b_low))
        n, left = two_sum(f, n, two)
        d, d_low = reciprocal(f, (n, left + n_low))
        p, p_low = pair_product(f, (a, a_low), (d, d_low))
        p, p_low = pair_product(f, (p, p_low), (4.0 * far, f.const(0.0, x.kind)))
        s, left = two_sum(f, b, p)
        y = e.value((s + (left + (b_low + p_low))) * d)
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


# what 2 sqrt(2 / pi) and 0.044715 of it are more than their doubles
GELU_A_LOW, GELU_B_LOW = -9.96930880911092e-17, -6.175149918155315e-19


def cubic(f: Function, x: Value) -> tuple[Pair, Pair]:
    """v = A x + B x^3 and x v' as pairs in float64: e^v would show their rounding."""
    zero = f.const(0.0, x.kind)
    a, b, three = (f.const(k, x.kind) for k in (GELU_A, GELU_B, 3.0))
    a_low, b_low = (f.const(k, x.kind) for k in (GELU_A_LOW, GELU_B_LOW))
    inner = pair_product(f, two_product(f, x, x), (b, b_low))
    outer = pair_product(f, inner, (three, zero))
    v = pair_product(f, pair_sum(f, (a, a_low), inner), (x, zero))
    return v, pair_product(f, pair_sum(f, (a, a_low), outer), (x, zero))


def short_cubic(f: Function, x: Value, b: float) -> Value:
    return x * f.fma(x * x, b, GELU_A)


@native(wide=True)
def gelu_tanh(f: Function, goal: str, x: Value) -> Value:
    """x sigmoid(A x + B x^3)."""
    z = f.larger(f.smaller(x, 40.0), -40.0)
    v = (short_cubic(f, z, GELU_B), None) if goal == "short" else cubic(f, z)[0]
    e, value = logistic(f, goal, *v)
    return e.over(value + 1.0).value(f.larger(x, -40.0))


@native(wide=True)
def dgelu_tanh(f: Function, goal: str, x: Value) -> Value:
    """s (1 + x (1 - s) v') with s = sigmoid(v)."""
    z = f.larger(f.smaller(x, 40.0), -40.0)
    if goal == "short":
        e, value = logistic(f, goal, short_cubic(f, z, GELU_B), top=300.0)
        t = 1.0 / (value + 1.0)
        y = e.value(t * f.fma(short_cubic(f, z, 3 * GELU_B), t, 1.0))
    else:
        v, xv = cubic(f, z)
        y = slope(f, logistic(f, goal, *v, 300.0)[0], xv)
    return around_zero(f, goal, x, DGELU_TANH_ZERO, DGELU_TANH, y)
