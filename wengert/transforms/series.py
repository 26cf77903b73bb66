"""Truncated power series: x(t) = c_0 + c_1 t + .. + c_K t^K, as lists of coefficients.

The recurrences of Griewank & Walther, Evaluating Derivatives (2008), chapter 13: K coefficients of
a product, a quotient or an elementary function cost O(K^2) products of arrays. A coefficient that
is None is zero. Coefficients are whatever can be computed on: arrays, or tensors of another level.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..ops import elementwise as e

Series = list[Any]  # [c_0, .., c_K]

__all__ = ["TABLE", "Series", "cauchy", "derivative", "integral", "plus", "times"]


def plus(a: Any, b: Any) -> Any:
    return b if a is None else a if b is None else a + b


def minus(a: Any, b: Any) -> Any:
    return a if b is None else -b if a is None else a - b


def times(a: Any, b: Any) -> Any:
    return None if a is None or b is None else a * b


def over(a: Any, n: Any) -> Any:
    return None if a is None else a / n


def cauchy(f: Callable[[Any, Any], Any], a: Series, b: Series, k: int, lo: int = 0) -> Any:
    """sum over i + j = k of f(a_i, b_j), with i and j from `lo`, f bilinear."""
    total = None
    for i in range(lo, k + 1 - lo):
        if a[i] is not None and b[k - i] is not None:
            total = plus(total, f(a[i], b[k - i]))
    return total


def own_product(a: Series, k: int, lo: int = 0) -> Any:
    """sum over i + j = k of a_i a_j, each pair once."""
    total = None
    for i in range(lo, (k + 1) // 2):
        total = plus(total, times(a[i], a[k - i]))
    total = None if total is None else total * 2
    if k % 2 == 0 and k // 2 >= lo:
        total = plus(total, times(a[k // 2], a[k // 2]))
    return total


def derivative(a: Series) -> Series:
    """The coefficients of a'(t): one fewer."""
    return [c if c is None or k == 1 else c * k for k, c in enumerate(a) if k]


def integral(da: Series) -> Series:
    """[a_1, .., a_K] from the coefficients of a'(t)."""
    return [c if c is None or k == 0 else c / (k + 1) for k, c in enumerate(da)]


def slope(dx: Series, s: Series, k: int) -> Any:
    """y_k for y' = s(t) x'(t):  k y_k = sum_j j x_j s_(k-j)."""
    return over(cauchy(times, dx, s, k - 1), k)


# ------------------------------------------------------------------ elementary functions
# rule(xs, y): the series of the operands and y_0 -> [y_0, .., y_K]


def mul(xs: list[Series], y: Any) -> Series:
    a, b = xs
    return [y] + [cauchy(times, a, b, k) for k in range(1, len(a))]


def square(xs: list[Series], y: Any) -> Series:
    return [y] + [own_product(xs[0], k) for k in range(1, len(xs[0]))]


def div(xs: list[Series], y: Any) -> Series:
    a, b = xs
    out = [y]
    for k in range(1, len(a)):
        tail = None
        for j in range(1, k + 1):
            tail = plus(tail, times(out[k - j], b[j]))
        out.append(over(minus(a[k], tail), b[0]))
    return out


def reciprocal(xs: list[Series], y: Any) -> Series:
    out = [y]
    for k in range(1, len(xs[0])):
        tail = None
        for j in range(1, k + 1):
            tail = plus(tail, times(out[k - j], xs[0][j]))
        out.append(None if tail is None else -tail * y)
    return out


def sqrt(xs: list[Series], y: Any) -> Series:
    (x,) = xs
    out = [y]
    for k in range(1, len(x)):
        rest = minus(x[k], own_product(out, k, 1))
        out.append(None if rest is None else rest * 0.5 / y)
    return out


def exp(xs: list[Series], y: Any) -> Series:
    dx, out = derivative(xs[0]), [y]
    for k in range(1, len(xs[0])):
        out.append(slope(dx, out, k))
    return out


def expm1(xs: list[Series], y: Any) -> Series:
    dx, s = derivative(xs[0]), [e.exp(xs[0][0])]
    for k in range(1, len(xs[0])):
        s.append(slope(dx, s, k))
    return [y, *s[1:]]


def _log(x: Series, y: Any) -> Series:
    out: Series = [y]
    dy: Series = []
    for k in range(1, len(x)):
        tail = None
        for j in range(1, k):
            tail = plus(tail, times(dy[j - 1], x[k - j]))
        out.append(over(minus(x[k], over(tail, k)), x[0]))
        dy.append(times(out[k], k))
    return out


def log(xs: list[Series], y: Any) -> Series:
    return _log(xs[0], y)


def log1p(xs: list[Series], y: Any) -> Series:
    return _log([1 + xs[0][0], *xs[0][1:]], y)


def waves(x: Series, s: Any, c: Any, sign: float) -> tuple[Series, Series]:
    """(s, c) with s' = c x' and c' = sign s x'."""
    dx, ss, cs = derivative(x), [s], [c]
    for k in range(1, len(x)):
        new = slope(dx, cs, k)
        turned = slope(dx, ss, k)
        cs.append(turned if turned is None or sign > 0 else -turned)
        ss.append(new)
    return ss, cs


def sin(xs: list[Series], y: Any) -> Series:
    return waves(xs[0], y, e.cos(xs[0][0]), -1.0)[0]


def cos(xs: list[Series], y: Any) -> Series:
    return waves(xs[0], e.sin(xs[0][0]), y, -1.0)[1]


def sinh(xs: list[Series], y: Any) -> Series:
    return waves(xs[0], y, e.cosh(xs[0][0]), 1.0)[0]


def cosh(xs: list[Series], y: Any) -> Series:
    return waves(xs[0], e.sinh(xs[0][0]), y, 1.0)[1]


def by_own_slope(x: Series, y: Any, s: Any, more: Callable[[Series, int], Any]) -> Series:
    """y' = s x' where s is a polynomial of y: s_0 is given, `more` the others."""
    dx, out, ss = derivative(x), [y], [s]
    for k in range(1, len(x)):
        out.append(slope(dx, ss, k))
        ss.append(more(out, k))
    return out


def tan(xs: list[Series], y: Any) -> Series:
    return by_own_slope(xs[0], y, 1 + y * y, own_product)


def tanh(xs: list[Series], y: Any) -> Series:
    """s = 1 - y^2, of which only s_0 would cancel."""
    (x,) = xs
    return by_own_slope(x, y, e.sech2(x[0]), lambda a, k: minus(None, own_product(a, k)))


def sigmoid(xs: list[Series], y: Any) -> Series:
    """s = y - y^2."""
    (x,) = xs
    return by_own_slope(x, y, e.dsigmoid(x[0]), lambda a, k: minus(a[k], own_product(a, k)))


def gauss(xs: list[Series], y: Any) -> Series:
    """e^q with q = -x^2."""
    (x,) = xs
    return exp([[None] + [minus(None, own_product(x, k)) for k in range(1, len(x))]], y)


def normal_pdf(xs: list[Series], y: Any) -> Series:
    (x,) = xs
    q = [own_product(x, k) for k in range(1, len(x))]
    return exp([[None] + [None if c is None else c * -0.5 for c in q]], y)


def power(xs: list[Series], y: Any) -> Series | None:
    """y = a^b for a plain number b and a without zeros: a y' = b a' y; None for anything else."""
    a, b = xs
    n: Any = b[0]
    first: Any = a[0]
    if any(c is not None for c in b[1:]) or np.ndim(n) or not isinstance(n, int | float):
        return None
    if not isinstance(first, np.ndarray | np.generic) or first.dtype.kind != "f":
        return None
    if not np.all(first) or not np.all(np.isfinite(y)) or not np.all(y):
        return None
    out = [y]
    for k in range(1, len(a)):
        total = None
        for j in range(1, k + 1):
            if a[j] is not None and out[k - j] is not None:
                total = plus(total, a[j] * out[k - j] * (n * j - (k - j)))
        out.append(None if total is None else total / (a[0] * k))
    return out


TABLE: dict[Any, Callable[[list[Series], Any], Any]] = {
    e.mul: mul,
    e.square: square,
    e.div: div,
    e.reciprocal: reciprocal,
    e.sqrt: sqrt,
    e.exp: exp,
    e.expm1: expm1,
    e.log: log,
    e.log1p: log1p,
    e.sin: sin,
    e.cos: cos,
    e.sinh: sinh,
    e.cosh: cosh,
    e.tan: tan,
    e.tanh: tanh,
    e.sigmoid: sigmoid,
    e.gauss: gauss,
    e.normal_pdf: normal_pdf,
    e.pow: power,
}
