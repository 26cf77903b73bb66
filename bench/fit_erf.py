"""Regenerate the coefficients of `wengert/ops/accurate.py`:  python bench/fit_erf.py

Needs mpmath. Every fit interpolates at the Chebyshev nodes of t = (x - a) / (x + a), which is
within a small factor of the best uniform approximation, in 60 digits; under each stands the error
of the fit, relative to the value that it serves, before rounding to float64.

    NEAR   erf x = 2/sqrt(pi) x (1 + z P(z)),  z = x^2,             |x| <= 0.75
    FAR    erfc x = e^(-x^2) / (sqrt(pi) x + 1/2 + P(x)/Q(x)),      0.74 <= x <= 28
    FAR32  erfc x = e^(-x^2) / (sqrt(pi) x + P(x)/Q(x)),            0 <= x <= 28, for float32
    ERF32  erf x = x P(z)/Q(z),  z = x^2,                           |x| <= 4
    MILLS32  normal_cdf(-x) = e^(-x^2/2) P(x)/Q(x),                 0 <= x <= 15, for float32

The second form is the continued fraction of erfc (DLMF 7.9.1) with its tail replaced by a rational
function: sqrt(pi) x carries the growth and is exact to any precision, the tail falls from 1 to 0.
Around x = 0.75, where its rounding counts most, the tail is near 1/2.
"""

from __future__ import annotations

from collections.abc import Callable

from mpmath import erf, erfc, exp, log, lu_solve, matrix, mp, mpf, pi, polyval, sqrt

mp.dps = 60


def tail(x: mpf) -> mpf:
    """e^(-x^2) / erfc x - sqrt(pi) x."""
    return exp(-x * x) / erfc(x) - sqrt(pi) * x


def part(x: mpf) -> mpf:
    """1 / (sqrt(pi) x + tail): what an error of the tail is relative to."""
    return 1 / (sqrt(pi) * x + tail(x))


def bend(z: mpf) -> mpf:
    """(erf(x) / (2/sqrt(pi) x) - 1) / z at x = sqrt z."""
    return (erf(sqrt(z)) / sqrt(z) * sqrt(pi) / 2 - 1) / z if z > mpf(10) ** -25 else -mpf(1) / 3


def slope(z: mpf) -> mpf:
    return erf(sqrt(z)) / sqrt(z) if z > mpf(10) ** -50 else 2 / sqrt(pi)


def mills(x: mpf) -> mpf:
    return erfc(x / sqrt(2)) / 2 * exp(x * x / 2)


def fit(
    name: str,
    f: Callable[[mpf], mpf],
    share: Callable[[mpf], mpf],
    low: str,
    high: str,
    m: int,
    n: int,
    a: str,
    monic: bool = False,
) -> None:
    """Print P (degree m) and Q (degree n), lowest power first; `share` weighs the error.

    Where Q is monic, its last coefficient is 1 and is not printed.
    """
    mid, ends = mpf(a), [mpf(low), mpf(high)]
    left, right = ((x - mid) / (x + mid) for x in ends)
    count = m + n + 1
    ts = [mp.cos(pi * (2 * k + 1) / (2 * count)) for k in range(count)]
    xs = [
        mid * (1 + t) / (1 - t) for t in ((left + right) / 2 + (right - left) / 2 * t for t in ts)
    ]
    system, known = matrix(count, count), matrix(count, 1)
    for i, x in enumerate(xs):
        known[i] = f(x)
        for j in range(m + 1):
            system[i, j] = x**j
        for j in range(1, n + 1):
            system[i, m + j] = -known[i] * x**j
    solved = list(lu_solve(system, known))
    p, q = solved[: m + 1], [mpf(1), *solved[m + 1 :]]
    grid = [ends[0] + (ends[1] - ends[0]) * (mpf(k) / 400) ** 2 for k in range(401)]
    worst = max(abs(polyval(p[::-1], x) / polyval(q[::-1], x) - f(x)) * share(x) for x in grid)
    if monic:
        p, q = [c / q[-1] for c in p], [c / q[-1] for c in q]
        q = q[:-1]
    print(f"{name}_P = ({', '.join(repr(float(c)) for c in p)})")
    if n:
        print(f"{name}_Q = ({', '.join(repr(float(c)) for c in q)})")
    print(f"# 2^{mp.nstr(log(worst, 2), 4)}")


if __name__ == "__main__":
    fit("NEAR", bend, lambda z: z, "0", "0.5625", 10, 0, "1000")
    half = mpf(1) / 2
    fit("FAR", lambda x: tail(x) - half, part, "0.74", "28", 9, 9, "1.7")
    fit("FAR32", tail, part, "0", "28", 4, 5, "1.45")
    fit("ERF32", slope, lambda z: 1 / slope(z), "0", "16", 5, 6, "11")
    fit("MILLS32", mills, lambda x: 1 / mills(x), "0", "15", 5, 6, "3.3", monic=True)
    root = sqrt(pi)
    for name, k in {
        "2/r": 2 / root,
        "1/r2": 1 / sqrt(2 * pi),
        "r": root,
        "r2": sqrt(2 * pi),
    }.items():
        high = mpf(int(k * 2**25)) / 2**25
        print(name, "with r = sqrt(pi), r2 = sqrt(2 pi):", float(high), float(k - high))
    c = log(2 * pi) / 2
    print("log(2 pi)/2", repr(float(c)), repr(float(c - mpf(float(c)))))
