"""Regenerate `wengert/native/mathematics/coefficients.py`:  python bench/fit_native.py

Needs mpmath. Every fit is a weighted least-squares fit in 50 digits over Chebyshev nodes, which is
within a small factor of the best uniform one. The coefficients are rounded from the lowest power
up, each time with a new fit of those above it, so that the rounding of one is made good by the
next. Over each stand its interval and its largest error, relative to the value that it serves.

Three goals: `float`, float32 arithmetic; `short`, float64 arithmetic for a result of 24 bits;
`double`, float64 arithmetic for a result of 53 bits.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
from mpmath import cos, erf, erfc, exp, log, log1p, lu_solve, matrix, mp, mpf, nstr, pi, sinh, sqrt

mp.dps = 50
Real = Any
F = Callable[[Real], Real]
GOALS = ("float", "short", "double")


def rounded(x: Real, goal: str) -> Real:
    return mpf(float(np.float32(float(x)))) if goal == "float" else mpf(float(x))


def nodes(a: Real, b: Real, n: int) -> list[Real]:
    return [(a + b) / 2 + (b - a) / 2 * cos(pi * (2 * k + 1) / (2 * n)) for k in range(n)]


def horner(c: list[Real], x: Real) -> Real:
    """c, the lowest power first."""
    y = mpf(0)
    for k in c[::-1]:
        y = y * x + k
    return y


def fit(f: F, a: Real, b: Real, degree: int, share: F, goal: str) -> tuple[list[Real], Real]:
    """The lowest power first, and the largest |p - f| share."""
    xs = nodes(a, b, 3 * degree + 12)
    values, weights = [f(x) for x in xs], [share(x) for x in xs]
    done: list[Real] = []
    while len(done) <= degree:
        m = degree + 1 - len(done)
        system = matrix(len(xs), m)
        known = matrix(len(xs), 1)
        for i, x in enumerate(xs):
            known[i] = (values[i] - horner(done, x)) * weights[i]
            for j in range(m):
                system[i, j] = weights[i] * x ** (len(done) + j)
        solved = lu_solve(system.T * system, system.T * known)
        done.append(rounded(solved[0], goal))
    grid = nodes(a, b, 301)
    return done, max(abs(horner(done, x) - f(x)) * share(x) for x in grid)


def quotient(
    f: F, b: Real, degree: int, share: F, goal: str
) -> tuple[tuple[list[Real], Real], tuple[list[Real], Real]]:
    """P and Q of one degree, Q(0) = 1, the lowest power first; each with the largest
    |P/Q - f| share for 0 <= x <= b.

    Linear fits of P - f Q over the Q of the last one, weighted towards where the error was large.
    """
    xs = [b * x**2 for x in nodes(mpf(0), mpf(1), 6 * degree + 20)]
    values, shares = [f(x) for x in xs], [share(x) for x in xs]
    count = 2 * degree + 1  # P0, P1, Q1, P2, Q2, ..
    done: list[Real] = []
    weights = shares

    def parts(c: list[Real]) -> tuple[list[Real], list[Real]]:
        return [c[0], *c[1::2]], [mpf(1), *c[2::2]]

    def solved() -> list[Real]:
        m = count - len(done)
        system, known = matrix(len(xs), m), matrix(len(xs), 1)
        for i, (x, v, w) in enumerate(zip(xs, values, weights)):
            terms = [x ** ((j + 1) // 2) * (1 if j % 2 or not j else -v) * w for j in range(count)]
            known[i] = v * w - sum(c * t for c, t in zip(done, terms))
            for j in range(m):
                system[i, j] = terms[len(done) + j]
        return [*done, *lu_solve(system.T * system, system.T * known)]

    def errors(c: list[Real], points: list[Real]) -> list[Real]:
        p, q = parts(c)
        return [abs(horner(p, x) / horner(q, x) - f(x)) * share(x) for x in points]

    lean = [mpf(1)] * len(xs)
    for _ in range(12):
        c = solved()
        found = errors(c, xs)
        lean = [k * sqrt(sqrt(e / max(found) + mpf("0.01"))) for k, e in zip(lean, found)]
        lean = [k / max(lean) for k in lean]
        q = parts(c)[1]
        weights = [s * k / horner(q, x) for s, k, x in zip(shares, lean, xs)]
    while len(done) < count:
        done.append(rounded(solved()[len(done)], goal))
    error = max(errors(done, [b * (mpf(i) / 400) ** 2 for i in range(401)]))
    p, q = parts(done)
    return (p, error), (q, error)


LINES: list[str] = []


def show(name: str, note: str, table: dict[str, tuple[list[Real], Real]]) -> None:
    errors = ", ".join(f"2^{nstr(log(v[1], 2), 4)} {g}" for g, v in table.items())
    LINES.append(f"# {note}\n# error {errors}\n{name}: Table = {{")
    for goal, (c, _) in table.items():
        told = ", ".join(repr(float(x)) for x in c[::-1])
        LINES.append(f'    "{goal}": (')
        LINES.extend(
            textwrap.wrap(told + ",", 96, initial_indent=" " * 8, subsequent_indent=" " * 8)
        )
        LINES.append("    ),")
    LINES.append("}")
    print(name, errors, file=sys.stderr, flush=True)


def polynomials(
    name: str, note: str, f: F, a: Any, b: Any, share: F, degrees: dict[str, int]
) -> None:
    a, b = mpf(a), mpf(b)
    show(name, note, {g: fit(f, a, b, n, share, g) for g, n in degrees.items()})


TINY = mpf(10) ** -12


def small(f: F, c: list[Real]) -> F:
    """f, and near 0 its series, the lowest power first."""
    return lambda x: horner(c, x) if abs(x) < mpf("0.01") else f(x)


def factorials(start: int, step: int, sign: int) -> list[Real]:
    return [mpf(sign) ** k / mpmath.factorial(start + step * k) for k in range(14)]


def exponential() -> None:
    half = log(mpf(2)) / 2 * mpf("1.002")
    polynomials(
        "EXP", "(e^r - 1 - r) / r^2, |r| <= log(2) / 2",
        small(lambda r: (exp(r) - 1 - r) / r**2, factorials(2, 1, 1)), -half, half,
        lambda r: r**2 / exp(r), {"float": 4, "short": 5, "double": 9},
    )  # fmt: skip
    polynomials(
        "EXP_NEAR", "(e^r - 1 - r) / r^2, |r| <= log(2) / 4",
        small(lambda r: (exp(r) - 1 - r) / r**2, factorials(2, 1, 1)), -half / 2, half / 2,
        lambda r: r**2 / exp(r), {"float": 3},
    )  # fmt: skip
    polynomials(
        "EXPM1", "(e^r - 1 - r) / r^2, relative to (e^r - 1) / r^2, |r| <= log(2) / 2",
        small(lambda r: (exp(r) - 1 - r) / r**2, factorials(2, 1, 1)), -half, half,
        lambda r: r**2 / (exp(r) - 1) if abs(r) > TINY else mpf(0),
        {"float": 5, "short": 6, "double": 10},
    )  # fmt: skip
    low, high = sqrt(mpf(1) / 2) - 1, sqrt(mpf(2)) - 1
    polynomials(
        "LOG", "(log(1 + f) - f + f^2 / 2) / f^3, sqrt(1/2) <= 1 + f <= sqrt 2",
        small(lambda f: (log(1 + f) - f + f**2 / 2) / f**3,
              [mpf(-1) ** k / (k + 3) for k in range(25)]),
        low, high, lambda f: abs(f**3 / log(1 + f)) if abs(f) > TINY else mpf(0),
        {"float": 8, "short": 10},
    )  # fmt: skip
    z = (high / (2 + high)) ** 2
    polynomials(
        "LOG_ODD", "(2 artanh(s) - 2 s) / s^3 in s^2, |s| <= 3 - sqrt 8",
        small(lambda z: (log((1 + sqrt(z)) / (1 - sqrt(z))) / sqrt(z) - 2) / z,
              [mpf(2) / (2 * k + 3) for k in range(20)]),
        0, z, lambda z: z / 2, {"double": 6},
    )  # fmt: skip
    polynomials(
        "LOG_TAIL", "((2 artanh(s) - 2 s) / s^3 - 2/3) / s^2 in s^2, for a pair",
        small(lambda z: ((log((1 + sqrt(z)) / (1 - sqrt(z))) / sqrt(z) - 2) / z - mpf(2) / 3) / z,
              [mpf(2) / (2 * k + 5) for k in range(20)]),
        0, z, lambda z: z**2 / 2, {"double": 8},
    )  # fmt: skip
    polynomials(
        "LOG1P", "(log(1 + u) - u) / u^2, 0 <= u <= 1",
        small(lambda u: (log1p(u) - u) / u**2, [mpf(-1) ** (k + 1) / (k + 2) for k in range(25)]),
        0, 1, lambda u: u**2 / log1p(u) if abs(u) > TINY else mpf(0),
        {"float": 9, "short": 11, "double": 19},
    )  # fmt: skip
    polynomials(
        "SINH", "(sinh(x) / x - 1) / x^2 in x^2, |x| <= 1",
        small(lambda z: (sinh(sqrt(z)) / sqrt(z) - 1) / z, factorials(3, 2, 1)),
        0, 1, lambda z: z, {"short": 3, "double": 7},
    )  # fmt: skip

    polynomials(
        "TANH", "(tanh(x) / x - 1) / x^2 in x^2, |x| <= 0.6",
        small(lambda z: (mpmath.tanh(sqrt(z)) / sqrt(z) - 1) / z,
              mpmath.taylor(mpmath.tanh, 0, 41)[3::2]),
        0, mpf("0.36"), lambda z: z, {"float": 4},
    )  # fmt: skip


def gaussian() -> None:
    root = sqrt(pi)
    bend = [2 / root * mpf(-1) ** k / (mpmath.factorial(k) * (2 * k + 1)) for k in range(20)]
    polynomials(
        "ERF", "erf(x) / x - 1 in x^2, |x| <= 1 in float, 3/4 in double",
        small(lambda z: erf(sqrt(z)) / sqrt(z) - 1, [bend[0] - 1, *bend[1:]]),
        0, 1, lambda z: mpf(1), {"float": 6},
    )  # fmt: skip
    polynomials(
        "ERF_FAR", "-log(erfc a) / a, 1 <= a <= 4, relative to erf a",
        lambda a: -log(erfc(a)) / a, 1, 4, lambda a: a * erfc(a), {"float": 8},
    )  # fmt: skip


def mills(a: Real) -> Real:
    return sqrt(pi / 2) * exp(a * a / 2) * erfc(a / sqrt(mpf(2)))


def scaled(a: Real) -> Real:
    return sqrt(pi) * exp(a * a) * erfc(a)


def near_root(a: Real) -> Real:
    """M, or up to 7 times as much where M - a is small, which dgelu has as a factor."""
    m = mills(a)
    return m * max(mpf(1), min(mpf(7), m / (abs(m - a) + TINY)))


def normal() -> None:
    for name, told, f, k, b, degree, share in (
        ("MILLS", "sqrt(pi/2) e^(a^2/2) erfc(a/sqrt 2)", mills, mpf(37) / 64, mpf(15), 4,
         near_root),
        ("ERFC", "sqrt(pi) e^(a^2) erfc a", scaled, mpf(1) / 2, mpf("10.6"), 4, scaled),
    ):  # fmt: skip
        p, q = quotient(lambda a, f=f, k=k: 1 / f(a) - a - k, b, degree, share, "float")
        LINES.append(f"{name}_SHIFT = {float(k)!r}")
        show(f"{name}_P", f"P of P/Q = 1 / ({told}) - a - shift, 0 <= a <= {nstr(b)}",
             {"float": p})  # fmt: skip
        show(f"{name}_Q", "Q of it", {"float": q})
    root = mpmath.findroot(gelu_slope, mpf("-0.75"))
    x = rounded(root, "float")
    y = rounded(gelu_slope(x), "float")
    c = mpmath.taylor(gelu_slope, x, 30)
    LINES.append(f"DGELU_ROOT = {float(x)!r}, {float(y)!r}  # a float, and the function there")
    polynomials(
        "DGELU_RISE", "(the function - its value at the float) / d, d = x - the float, |d| <= 0.08",
        lambda d: (horner(c, d) - y) / d if abs(d) > TINY else c[1], -0.08, 0.08,
        lambda d: abs(d / horner(c, d)), {"float": 4},
    )  # fmt: skip


def trigonometric() -> None:
    z = (pi / 4 * mpf("1.001")) ** 2
    polynomials(
        "SIN", "(sin(r) / r - 1) / r^2 in r^2, |r| <= pi / 4",
        small(lambda z: (mpmath.sin(sqrt(z)) / sqrt(z) - 1) / z,
              [-c for c in factorials(3, 2, -1)]),
        0, z, lambda z: z, {"short": 3, "double": 5},
    )  # fmt: skip
    polynomials(
        "COS", "(cos r - 1 + r^2 / 2) / r^4 in r^2, |r| <= pi / 4",
        small(lambda z: (cos(sqrt(z)) - 1 + z / 2) / z**2, factorials(4, 2, -1)),
        0, z, lambda z: z**2 * sqrt(mpf(2)), {"short": 2, "double": 5},
    )  # fmt: skip
    polynomials(
        "ASIN", "(arcsin(s) / s - 1) / s^2 in s^2, s <= 1/2",
        small(lambda z: (mpmath.asin(sqrt(z)) / sqrt(z) - 1) / z, arcsine_series()[1:]),
        0, mpf(1) / 4, lambda z: z, {"short": 5, "double": 11},
    )  # fmt: skip
    polynomials(
        "ATAN", "(arctan(t) / t - 1) / t^2 in t^2, t <= tan(pi / 8)",
        small(lambda z: (mpmath.atan(sqrt(z)) / sqrt(z) - 1) / z,
              [mpf(-1) ** (k + 1) / (2 * k + 3) for k in range(25)]),
        0, mpmath.tan(pi / 8) ** 2 * mpf("1.001"), lambda z: z, {"short": 5, "double": 10},
    )  # fmt: skip


def arcsine_series() -> list[Real]:
    return [mpmath.binomial(2 * k, k) / (mpf(4) ** k * (2 * k + 1)) for k in range(25)]


def roots() -> None:
    polynomials(
        "CBRT", "u^(-1/3), 1 <= u <= 8, to start from",
        lambda u: u ** (-mpf(1) / 3), 1, 8, lambda u: u ** (mpf(1) / 3), {"double": 8},
    )  # fmt: skip
    polynomials(
        "TANHSHRINK", "(1 - tanh(x) / x) / x^2 in x^2, |x| <= 1",
        small(lambda z: (1 - mpmath.tanh(sqrt(z)) / sqrt(z)) / z,
              [-c for c in mpmath.taylor(mpmath.tanh, 0, 41)[3::2]]),
        0, 1, lambda z: 3, {"short": 8, "double": 18},
    )  # fmt: skip
    for name, f, start in SLOPES:
        root = mpmath.findroot(f, mpf(start))
        print(name, nstr(root, 20), file=sys.stderr)
        high = mpf(float(root))
        LINES.append(f"{name}_ZERO = {float(high)!r}, {float(root - high)!r}")
        c = mpmath.taylor(f, root, 30)[1:]
        polynomials(
            name, f"the function over x - root, |x - root| <= {NEAR}, relative to itself",
            lambda d, c=c: horner(c, d), -NEAR, NEAR, lambda d, c=c: 1 / abs(horner(c, d)),
            {"short": 8, "double": 15},
        )  # fmt: skip


NEAR = 0.3


def gelu_slope(x: Real) -> Real:
    return mpmath.ncdf(x) + x * mpmath.npdf(x)


def silu_slope(x: Real) -> Real:
    s = 1 / (1 + exp(-x))
    return s + x * s * (1 - s)


def mish_slope(x: Real) -> Real:
    t = mpmath.tanh(log1p(exp(x)))
    return t + x * (1 - t * t) / (1 + exp(-x))


def gelu_tanh_slope(x: Real) -> Real:
    a = 2 * sqrt(2 / pi)
    b = a * mpf("0.044715")
    s = 1 / (1 + exp(-(a * x + b * x**3)))
    return s + x * s * (1 - s) * (a + 3 * b * x * x)


SLOPES: list[tuple[str, F, str]] = [
    ("DGELU", gelu_slope, "-0.75"), ("DSILU", silu_slope, "-1.28"),
    ("DMISH", mish_slope, "-1.19"), ("DGELU_TANH", gelu_tanh_slope, "-0.75"),
]  # fmt: skip


if __name__ == "__main__":
    exponential()
    gaussian()
    normal()
    trigonometric()
    roots()
    print('"""Coefficients of the native functions, the highest power first.')
    print('\n`bench/fit_native.py` prints this file.\n"""')
    print("\nfrom __future__ import annotations\n\nTable = dict[str, tuple[float, ...]]\n")
    print("# fmt: off")
    print("\n".join(LINES))
