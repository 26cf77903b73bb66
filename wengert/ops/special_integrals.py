"""More values for derivatives of special functions: elliptic integrals, powers, Lambert's W."""

from __future__ import annotations

import math

import numpy as np

from ..types import Array
from .accurate import head
from .special_values import gauss_legendre, pieces, real, sp

E_HEAD, E_TAIL = 2.718281828459045, 1.4456468917292502e-16


# ------------------------------------------------------------------ complete elliptic integrals


def rising(x: float, n: int) -> float:
    return math.prod(x + k for k in range(n))


def elliptic_series(a: float, n: int, m: Array) -> Array:
    """The n-th derivative of 2F1(a, 1/2; 1; m), |m| <= 1/2, as a power times a series."""
    c = n + 1.0
    p, q = 1 - a, 0.5  # Euler: 2F1(a + n, 1/2 + n; c) = (1 - m)^.. 2F1(1 - a, 1/2; c)
    total, term, k = np.ones_like(m), np.ones_like(m), 0
    while k < 80:
        term = term * ((p + k) * (q + k) / ((c + k) * (1 + k)) * m)
        total = total + term
        k += 1
    scale = rising(a, n) * rising(0.5, n) / math.factorial(n)
    return scale * (1 - m) ** (0.5 - a - n) * total


def elliptic(a: float, n: int, m: Array, p: Array) -> Array:
    """The n-th derivative in m = 1 - p of K (a = 1/2) or E (a = -1/2)."""
    carlson = sp().elliprd
    if n == 0:
        return np.asarray(sp().ellipkm1(p) if a > 0 else sp().ellipe(m))
    if n == 1:
        if a > 0:
            return np.asarray(carlson(0.0, 1.0, p) / 6)
        return np.asarray(-carlson(0.0, p, 1.0) / 6)

    def recurrence(m: Array, p: Array) -> Array:
        y0, y1 = elliptic(a, 0, m, p), elliptic(a, 1, m, p)
        for k in range(n - 1):
            slope = (k + 1) - (a + 1.5 + 2 * k) * m
            y0, y1 = y1, ((k + a) * (k + 0.5) * y0 - slope * y1) / (m * p)
        return np.where(p == 0, np.copysign(np.inf, a), y1)

    near = lambda m, p: math.pi / 2 * elliptic_series(a, n, m)
    return pieces(np.abs(m) < 0.5, near, recurrence, m, p)


def ellipk_n(n: int, m: Array) -> Array:
    """The n-th derivative of the complete elliptic integral K(m)."""
    return real(lambda m: elliptic(0.5, n, m, 1 - m))(m)


def ellipe_n(n: int, m: Array) -> Array:
    """The n-th derivative of the complete elliptic integral E(m)."""
    return real(lambda m: elliptic(-0.5, n, m, 1 - m))(m)


def ellipkm1_n(n: int, p: Array) -> Array:
    """The n-th derivative of K(1 - p) in p."""
    return real(lambda p: (-1) ** n * elliptic(0.5, n, 1 - p, p))(p)


# ------------------------------------------------------------------ logarithms and powers


@real
def log_ratio(a: Array, b: Array) -> Array:
    """log(a / b), right next to a = b and where the quotient overflows."""
    r = a / b
    y = np.where(np.abs(a - b) <= b / 2, np.log1p((a - b) / b), np.log(r))
    wild = (r < 1e-300) | (r > 1e300)
    return np.where(wild & (a > 0) & (b > 0), np.log(a) - np.log(b), y)


@real
def one_plus_log(a: Array, b: Array) -> Array:
    """1 + log(a / b), right next to a = b / e."""
    x = a / b
    h = head(x)
    e = head(np.asarray(E_HEAD))
    p = x * E_HEAD
    low = ((h * e - p) + h * (E_HEAD - e) + (x - h) * e) + (x - h) * (E_HEAD - e)
    low += x * E_TAIL
    z = (p - 1) + low
    y = np.where(np.abs(z) < 0.5, np.log1p(z), 1 + np.log(x))
    wild = (x < 1e-300) | (x > 1e300)
    return np.where(wild & (a > 0) & (b > 0), 1 + (np.log(a) - np.log(b)), y)


def exp_moment(n: int, x: Array) -> Array:
    """The integral of t^n e^(x t) over (0, 1): the n-th derivative of (e^x - 1) / x."""

    def near(x: Array) -> Array:
        a = np.abs(x)
        up, down = np.zeros_like(x), np.ones_like(x)
        for k in range(60, -1, -1):
            up = 1 / (n + k + 1) + x / (k + 1) * up
            down = 1 + a / (n + 2 + k) * down
        return np.where(x < 0, np.exp(x) * down / (n + 1), up)

    def far(x: Array) -> Array:
        y = np.expm1(x) / x
        for k in range(1, n + 1):
            y = (np.exp(x) - k * y) / x
        return y

    return real(lambda x: pieces(np.abs(x) < 2 * n + 3, near, far, x))(x)


def log_moment(n: int, x: Array) -> Array:
    """The n-th derivative of (log(1 + x) - x / (1 + x)) / x^2.

    It is (-1)^n (n+1)! (1 + x)^-(n+1) times the integral of s^(n+1) / (1 + x (1 - s)) over (0, 1).
    """

    def near(x: Array) -> Array:
        t, w = gauss_legendre(24)
        s, w = t.reshape(-1, *[1] * x.ndim), w.reshape(-1, *[1] * x.ndim)
        return np.asarray((w * s ** (n + 1) / (1 + x * (1 - s))).sum(axis=0))

    def far(x: Array) -> Array:
        y = np.log1p(x) / x
        for k in range(1, n + 2):
            y = ((1 + x) * y - 1 / k) / x
        return y

    def moment(x: Array) -> Array:
        y = pieces((x > -0.6) & (x < n + 2), near, far, x)
        return (-1) ** n * math.factorial(n + 1) * (1 + x) ** -(n + 1.0) * y

    return real(moment)(x)


@real
def boxcox(a: Array, b: Array) -> Array:
    """(a^b - 1) / b, and log a for b = 0."""
    return np.asarray(sp().boxcox(a, b))


# ------------------------------------------------------------------ Lambert's W


def branch_gap(k: int, x: Array) -> Array:
    """v = 1 + w next to the branch point, where SciPy's w has lost its digits.

    It solves 1 + (v - 1) e^v = 1 + e x, whose left side is v^2/2 + v^3/3 + ...
    """
    h = head(x)
    e = head(np.asarray(E_HEAD))
    p = x * E_HEAD
    low = ((h * e - p) + h * (E_HEAD - e) + (x - h) * e) + (x - h) * (E_HEAD - e)
    r = (1 + p) + (low + x * E_TAIL)
    r = np.where((r < 0) & (r > -1e-16), 0, r)  # -exp(-1) is meant to be the branch point
    v = np.sqrt(2 * r) * (-1 if k else 1)
    v = v - v * v / 3
    for _ in range(6):
        f = np.zeros_like(v)
        for j in range(26, 1, -1):
            f = f * v + (j - 1) / math.factorial(j)
        step = (f * v * v - r) / (v * np.exp(v))
        v = v - np.where(v == 0, 0, step / (1 - step * (1 + v) / (2 * v)))
    return v


def lambertw(k: int, x: Array) -> Array:
    """The real branches of w e^w = x: k = 0 and k = -1; nan outside of them."""

    def far(x: Array) -> Array:
        y = np.where((x >= -0.4) & ((x < 0) | (k == 0)), sp().lambertw(x, k).real, np.nan)
        return np.where((k == -1) & (x == 0), -np.inf, y)

    @real
    def w(x: Array) -> Array:
        return pieces(np.abs(x * E_HEAD + 1) < 0.2, lambda x: branch_gap(k, x) - 1, far, x)

    return w(x)


def lambertw_slope(k: int, x: Array) -> Array:
    """w' = e^-w / (1 + w) = w / (x (1 + w))."""

    def near(x: Array) -> Array:
        v = branch_gap(k, x)
        return np.exp(1 - v) / v

    def far(x: Array) -> Array:
        w = lambertw(k, x)
        small = (np.abs(x) < 0.1) & (k == 0)
        return np.where(small, np.exp(-w), w / np.where(small, 1, x)) / (1 + w)

    @real
    def slope(x: Array) -> Array:
        return pieces(np.abs(x * E_HEAD + 1) < 0.2, near, far, x)

    return slope(x)
