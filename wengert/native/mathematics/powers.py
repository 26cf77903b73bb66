"""Native powers, roots, lengths and hyperbolic functions.

a^b = e^(b log a), with log a as a pair in float64: 2^-65 of it, as b log a reaches 2^10.

References: T. J. Dekker, 1971; P. Markstein, IA-64 and Elementary Functions, 2000.
"""

from __future__ import annotations

from ..ir import Function, Value
from .coefficients import CBRT, LOG_TAIL, SINH
from .exponential import LN2, log_of_pair, log_sum, power, split, unless_tiny
from .lanes import (
    INF,
    NAN,
    Pair,
    exact,
    fast_two_sum,
    native,
    pair_product,
    rounded,
    two_product,
    two_sum,
)

# ------------------------------------------------------------------ powers


def log_pair(f: Function, x: Value) -> Pair:
    """log x in float64, x > 0, with 65 bits."""
    n, m, _ = split(f, "double", x)
    t = exact(f, "sub", m, 1.0)
    d = exact(f, "add", t, 2.0)
    d_low = exact(f, "sub", t, exact(f, "sub", d, 2.0))
    r = 1.0 / d
    s = exact(f, "mul", t, r)
    p, p_low = two_product(f, s, d)
    left = exact(f, "sub", exact(f, "sub", exact(f, "sub", t, p), p_low), s * d_low)
    s_low = left * r  # s + s_low = t / (2 + t)
    z, z_low = two_product(f, s, s)
    z_low = f.fma(s + s, s_low, z_low)
    c, c_low = fast_two_sum(f, 2 / 3, exact(f, "mul", z, f.polynomial(z, LOG_TAIL["double"])))
    w = pair_product(f, pair_product(f, (z, z_low), (c, c_low + 3.700743415417188e-17)), (s, s_low))
    high, low = fast_two_sum(f, s + s, w[0])
    low = exact(f, "add", low, exact(f, "add", s_low + s_low, w[1]))
    a, b = LN2["double"]
    y, left = two_sum(f, exact(f, "mul", n, a), high)
    return fast_two_sum(f, y, exact(f, "add", left, f.fma(n, b, low)))


@native(2, wide=True)
def pow_(f: Function, goal: str, a: Value, b: Value) -> Value:
    size, limit = f.fabs(a), f.larger(f.smaller(b, 1e30), -1e30)
    if goal == "short":
        n, m, _ = split(f, goal, size)
        y = power(f, goal, limit * log_sum(f, goal, n, m - 1.0)).value()
    else:
        high, low = log_pair(f, size)
        p, left = two_product(f, limit, high)
        left = f.fma(limit, low, left)
        left = f.select(f.compare("olt", f.fabs(p), 2e3), left, 0.0)
        y = power(f, goal, p, left, careful=True).value()
    end = f.compare("oeq", size, 0.0) | f.compare("oeq", size, INF)
    grows = f.compare("olt", b, 0.0) ^ f.compare("oeq", size, INF)
    y = f.select(end, f.select(grows, f.const(INF, a.kind), 0.0), y)
    y = f.select(f.compare("uno", a, b), NAN, y)
    half = b * 0.5
    whole = f.compare("oeq", rounded(f, b), b)
    odd = whole & f.compare("one", rounded(f, half), half)
    y = f.select(odd, f.copysign(y, a), y)
    below = f.compare("olt", a, 0.0) & f.compare("one", a, -INF)
    y = f.select(below & ~whole, NAN, y)
    return f.select(f.compare("oeq", b, 0.0) | f.compare("oeq", a, 1.0), 1.0, y)


# ------------------------------------------------------------------ roots and lengths


@native(wide=True)
def cbrt(f: Function, goal: str, x: Value) -> Value:
    """u y^2 with y = u^(-1/3), |x| = u 8^q and 1 <= u < 8; Newton's steps have no division."""
    a = f.fabs(x)
    small = f.compare("olt", a, 2.0**-1000)
    b = f.select(small, a * 2.0**150, a)
    i = f.bits(b)
    # a third of the biased exponent, rounded down, by a product that is exact enough for 11 bits
    q = f.binary("lshr", f.binary("lshr", i, 52) * 43691, 17)
    u = f.unbits(i - ((q + q + q) << 52) + (1023 << 52))
    y = f.polynomial(u, CBRT["double"])
    for _ in range(1 if goal == "short" else 2):
        y = f.fma(y * (1 / 3), f.fma(-(u * y), y * y, 1.0), y)
    t = u * y * y
    square, low = two_product(f, t, t)
    cube, rest = two_product(f, square, t)
    rest = f.fma(low, t, rest)
    t = f.fma(y * y * (1 / 3), exact(f, "sub", exact(f, "sub", u, cube), rest), t)
    t = f.unbits(f.bits(t) + ((q - 341) << 52))
    t = f.copysign(f.select(small, t * 2.0**-50, t), x)
    end = f.compare("oeq", a, 0.0) | f.compare("uge", a, INF)
    return f.select(end, x, t)


def in_range(f: Function, a: Value, b: Value) -> tuple[Value, Value, Value, Value]:
    """|a| and |b| are large; small; the power of two that keeps the squares of their products
    with it in range; the sum of those squares.
    """
    a, b = f.fabs(a), f.fabs(b)
    top = f.larger(a, b)
    big, small = f.compare("ogt", top, 2.0**500), f.compare("olt", top, 2.0**-400)
    scale = f.select(small, f.const(2.0**600, top.kind), 1.0)
    scale = f.select(big, 2.0**-600, scale)
    a, b = a * scale, b * scale
    return big, small, scale, f.fma(a, a, b * b)


@native(2, wide=True)
def hypot(f: Function, goal: str, a: Value, b: Value) -> Value:
    if goal == "short":
        y = f.sqrt(f.fma(a, a, b * b))
    else:
        big, small, _, square = in_range(f, a, b)
        y = f.sqrt(square)
        y = f.select(big, y * 2.0**600, f.select(small, y * 2.0**-600, y))
    infinite = f.compare("oeq", f.fabs(a), INF) | f.compare("oeq", f.fabs(b), INF)
    return f.select(infinite, INF, y)


@native(2, wide=True)
def cosine(f: Function, goal: str, a: Value, b: Value) -> Value:
    """a / hypot(a, b), and 0 at the origin."""
    if goal == "short":
        y = a / f.sqrt(f.fma(a, a, b * b))
    else:
        big, small, _, square = in_range(f, a, b)
        y = f.select(small, a * 2.0**600, a) / f.sqrt(square)
        y = f.select(big, y * 2.0**-600, y)
    finite = f.compare("olt", f.fabs(a), INF)
    infinite = f.compare("oeq", f.fabs(b), INF)
    y = f.select(infinite & finite, f.copysign(f.const(0.0, a.kind), a), y)
    y = f.select(f.compare("oeq", f.fabs(a), INF), NAN, y)
    return f.select(f.compare("oeq", a, 0.0) & f.compare("oeq", b, 0.0), 0.0, y)


# ------------------------------------------------------------------ hyperbolic


@native(wide=True)
def cosh(f: Function, goal: str, x: Value) -> Value:
    """h + 1 / (4 h) with h = e^|x| / 2."""
    h = power(f, goal, f.fabs(x), extra=-1).value()
    return h + 0.25 / h


@native(wide=True)
def sinh(f: Function, goal: str, x: Value) -> Value:
    a, z = f.fabs(x), x * x
    h = power(f, goal, a, extra=-1).value()
    near = f.fma(x * z, f.polynomial(z, SINH[goal]), x)
    return f.select(f.compare("olt", a, 1.0), near, f.copysign(h - 0.25 / h, x))


LARGE = 2.0**30


def log_of_twice(f: Function, goal: str, a: Value, w: Value) -> Value:
    """log(1 + w), and log(2 a) where a is large."""
    u, low = two_sum(f, f.const(1.0, a.kind), w)
    large = f.compare("ogt", a, LARGE)
    zero = f.const(0.0, a.kind)
    u, low = f.select(large, a, u), f.select(large, zero, low)
    return log_of_pair(f, goal, u, low, f.select(large, f.const(1.0, a.kind), zero))


@native(wide=True)
def arcsinh(f: Function, goal: str, x: Value) -> Value:
    """log(1 + a + a^2 / (1 + sqrt(1 + a^2)))."""
    a = f.fabs(x)
    z = a * a
    y = log_of_twice(f, goal, a, a + z / (f.sqrt(z + 1.0) + 1.0))
    return unless_tiny(f, goal, x, f.copysign(y, x))


@native(wide=True)
def arccosh(f: Function, goal: str, x: Value) -> Value:
    """log(1 + t + sqrt(t (t + 2))) with t = x - 1."""
    t = x - 1.0
    y = log_of_twice(f, goal, x, t + f.sqrt(t * (t + 2.0)))
    return f.select(f.compare("ult", x, 1.0), NAN, y)


@native(wide=True)
def arctanh(f: Function, goal: str, x: Value) -> Value:
    """log(1 + 2 a / (1 - a)) / 2."""
    a = f.fabs(x)
    w = (a + a) / (1.0 - a)
    y = log_of_pair(f, goal, *two_sum(f, f.const(1.0, a.kind), w)) * 0.5
    return f.copysign(f.select(f.compare("ugt", a, 1.0), NAN, y), x)
