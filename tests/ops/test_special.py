"""First and second derivatives of the special functions, in ulps of mpmath's.

The bound is 4 ulp. What misses it stands in `EXCEPTIONS` with the figures that it is held to and
the reason, most often that SciPy's own value is out by more than 2. An oscillating function
is measured against its envelope, not against its own zeros.
"""

import mpmath as mp
import numpy as np
import pytest

import wengert as wg
from wengert.ops import special as s
from wengert.ops import special_values as values

scipy_special = pytest.importorskip("scipy.special")
DPS = 45


def geo(low, high, n):
    return np.geomspace(low, high, n)


def lin(low, high, n):
    return np.linspace(low, high, n)


def spread(seed, n, *ranges):
    """n points with logarithms uniform over each range of decades."""
    rng = np.random.default_rng(seed)
    return [10 ** rng.uniform(low, high, n) for low, high in ranges]


# ------------------------------------------------------------------ the derivatives, written out


def psi(n, x):
    return mp.psi(n, x)


def gap(n, a, b):
    return mp.psi(n, a + b) - mp.psi(n, a)


def erfinv1(y):
    return mp.sqrt(mp.pi) / 2 * mp.exp(y * y)


def solve(f, start):
    return mp.findroot(f, mp.mpf(float(start)))


def erfcinv(x):
    return solve(lambda t: mp.erfc(t) / x - 1, scipy_special.erfcinv(float(x)))


def ndtri(x):
    return solve(lambda t: mp.ncdf(t) / x - 1, scipy_special.ndtri(float(x)))


def ndtri1(y):
    return mp.sqrt(2 * mp.pi) * mp.exp(y * y / 2)


def erfcx(x):
    return mp.exp(x * x) * mp.erfc(x)


def erfcx1(x):
    return 2 * x * erfcx(x) - 2 / mp.sqrt(mp.pi)


def hazard(x):
    return mp.exp(-x * x / 2) / mp.sqrt(2 * mp.pi) / (mp.erfc(-x / mp.sqrt(2)) / 2)


def dawsn(x):
    return mp.sqrt(mp.pi) / 2 * mp.exp(-x * x) * mp.erfi(x)


def dawsn1(x):
    return 1 - 2 * x * dawsn(x)


def central(f, n, sign=-1):
    """The n-th derivative of a Bessel function, from f' = (f_(v-1) + sign f_(v+1)) / 2."""

    def g(v, x):
        if n == 0:
            return f(v, x)
        lower = central(f, n - 1, sign)
        return (lower(v - 1, x) + sign * lower(v + 1, x)) / 2

    return g


def scaled(f, n, sign):
    """The n-th derivative of f(v, x) = e^(sign x) F_v(x)."""

    def g(v, x):
        return (
            sum((-1) ** j * mp.binomial(2 * n, n + j) * f(v + j, x) for j in range(-n, n + 1))
            / mp.mpf(2) ** n
            * sign**n
        )

    return g


def ive(v, x):
    return mp.besseli(v, x) * mp.exp(-x)


def kve(v, x):
    return mp.besselk(v, x) * mp.exp(x)


def kv(n):
    return lambda v, x: (-1) ** n * central(mp.besselk, n, 1)(v, x)


def ellipk1(m):
    return (mp.ellipe(m) - (1 - m) * mp.ellipk(m)) / (2 * m * (1 - m)) if m else mp.pi / 8


def ellipk2(m):
    return (mp.ellipk(m) / 4 - (1 - 2 * m) * ellipk1(m)) / (m * (1 - m)) if m else 9 * mp.pi / 64


def ellipe1(m):
    return (mp.ellipe(m) - mp.ellipk(m)) / (2 * m) if m else -mp.pi / 8


def ellipe2(m):
    return -(mp.ellipe(m) / 4 / (1 - m) + ellipe1(m)) / m if m else -3 * mp.pi / 64


def gamma_pdf(a, x):
    return mp.exp((a - 1) * mp.log(x) - x - mp.loggamma(a))


def beta_pdf(a, b, x):
    return x ** (a - 1) * (1 - x) ** (b - 1) / mp.beta(a, b)


def moment(n):
    def f(x):
        if abs(x) < mp.mpf(1) / 2:
            return mp.nsum(lambda k: x**k / mp.factorial(k) / (n + k + 1), [0, 40])
        y = mp.expm1(x) / x
        for k in range(1, n + 1):
            y = (mp.exp(x) - k * y) / x
        return y

    return f


def w(k, x):
    return mp.re(mp.lambertw(x, k))


def w1(k, x):
    return mp.exp(-w(k, x)) / (1 + w(k, x))


def w2(k, x):
    return -mp.exp(-2 * w(k, x)) * (2 + w(k, x)) / (1 + w(k, x)) ** 3


def envelope(v, x):
    return mp.sqrt(2 / (mp.pi * max(x, 1)))


def around_branch(n):
    return -np.exp(-1) + geo(1e-14, 0.1, n)


HALF_LINE = np.r_[geo(1e-8, 0.5, 5), lin(0.51, 12.3, 11), geo(13, 160, 4)]
WIDE = np.r_[HALF_LINE, geo(200, 1e12, 4)]
LEFT = -lin(0.07, 8.8, 12)
UNIT = np.r_[geo(1e-12, 0.1, 4), lin(0.12, 0.98, 8), 1 - 2.0 ** -np.arange(8, 40, 8)]
MINUS_ONE_TO_ONE = np.r_[lin(-0.99, 0.99, 13), 1 - geo(1e-14, 0.01, 4), geo(1e-20, 0.01, 4)]
TAIL = np.r_[geo(1e-300, 0.3, 9), lin(0.35, 0.95, 5)]
MODULUS = np.r_[
    -geo(1e-8, 1e6, 9), 0.0, geo(1e-8, 0.3, 4), lin(0.35, 0.99, 6), 1 - geo(1e-12, 5e-3, 4)
]
RADIUS = np.r_[geo(1e-4, 0.5, 3), lin(0.7, 34, 9), geo(36, 300, 3)]
REAL = np.r_[-geo(1e-6, 50, 7), 0, geo(1e-6, 50, 7)]
A, B = spread(0, 14, (-3, 3), (-3, 3))
B[:6] = A[:6] * (1 + geo(1e-12, 0.1, 6))
P, Q = spread(1, 14, (-2, 3), (-2, 3))
G, X = spread(2, 12, (-2, 1), (0, 0))
X = G * np.exp(np.random.default_rng(3).normal(size=12) * 1.2 / np.sqrt(1 + G))
U, V, T = np.array(
    [[0.3, 0.5, 0.2], [0.7, 4.0, 0.1], [2.5, 1.5, 0.8], [5.0, 3.0, 0.6], [9.0, 20.0, 0.3]]
).T
BIG = np.array([[120.0, 80.0, 0.62], [300.0, 3.0, 0.99], [1e4, 2e4, 0.335]]).T


def at(v, x):
    return [np.full(len(x), float(v)), x]


# name: (operation, which argument, points, first derivative, second derivative[, envelope])
CASES = {
    "gamma": (
        s.gamma, 0, [HALF_LINE], lambda x: mp.gamma(x) * psi(0, x),
        lambda x: mp.gamma(x) * (psi(0, x) ** 2 + psi(1, x)),
    ),
    "gamma, x < 0": (
        s.gamma, 0, [LEFT], lambda x: mp.gamma(x) * psi(0, x),
        lambda x: mp.gamma(x) * (psi(0, x) ** 2 + psi(1, x)),
    ),
    "gammaln": (s.gammaln, 0, [WIDE], lambda x: psi(0, x), lambda x: psi(1, x)),
    "gammaln, x < 0": (s.gammaln, 0, [LEFT], lambda x: psi(0, x), lambda x: psi(1, x)),
    "loggamma": (s.loggamma, 0, [WIDE], lambda x: psi(0, x), lambda x: psi(1, x)),
    "digamma": (s.digamma, 0, [WIDE], lambda x: psi(1, x), lambda x: psi(2, x)),
    "digamma, x < 0": (s.digamma, 0, [LEFT], lambda x: psi(1, x), lambda x: psi(2, x)),
    "polygamma(2, x)": (
        s.polygamma, 1, at(2, HALF_LINE), lambda n, x: psi(3, x), lambda n, x: psi(4, x)
    ),
    "betaln, a": (s.betaln, 0, [P, Q], lambda a, b: -gap(0, a, b), lambda a, b: -gap(1, a, b)),
    "betaln, b": (s.betaln, 1, [P, Q], lambda a, b: -gap(0, b, a), lambda a, b: -gap(1, b, a)),
    "beta, a": (
        s.beta, 0, [G, X], lambda a, b: -mp.beta(a, b) * gap(0, a, b),
        lambda a, b: mp.beta(a, b) * (gap(0, a, b) ** 2 - gap(1, a, b)),
    ),
    "poch, z": (
        s.poch, 0, [G, X], lambda a, b: mp.rf(a, b) * gap(0, a, b),
        lambda a, b: mp.rf(a, b) * (gap(0, a, b) ** 2 + gap(1, a, b)),
    ),
    "poch, m": (
        s.poch, 1, [G, X], lambda a, b: mp.rf(a, b) * psi(0, a + b),
        lambda a, b: mp.rf(a, b) * (psi(0, a + b) ** 2 + psi(1, a + b)),
    ),
    "binom, n": (
        s.binom, 0, [G + X, X], lambda n, k: mp.binomial(n, k) * gap(0, n - k + 1, k),
        lambda n, k: mp.binomial(n, k) * (gap(0, n - k + 1, k) ** 2 + gap(1, n - k + 1, k)),
    ),
    "zeta, q": (
        s.zeta, 1, [A + 1.1, B], lambda x, q: -x * mp.zeta(x + 1, q),
        lambda x, q: x * (x + 1) * mp.zeta(x + 2, q),
    ),
    "gammainc, x": (
        s.gammainc, 1, [G, X], gamma_pdf, lambda a, x: gamma_pdf(a, x) * ((a - 1) / x - 1)
    ),
    "betainc, x": (
        s.betainc, 2, [U, V, T], beta_pdf,
        lambda a, b, x: beta_pdf(a, b, x) * ((a - 1) / x - (b - 1) / (1 - x)),
    ),
    "betainc, x, large": (
        s.betainc, 2, list(BIG), beta_pdf,
        lambda a, b, x: beta_pdf(a, b, x) * ((a - 1) / x - (b - 1) / (1 - x)),
    ),
    "erfcx": (
        s.erfcx, 0, [np.r_[lin(-5, 5, 17), geo(6, 1e6, 5)]], erfcx1,
        lambda x: 2 * erfcx(x) + 2 * x * erfcx1(x),
    ),
    "erfinv": (
        s.erfinv, 0, [MINUS_ONE_TO_ONE], lambda x: erfinv1(mp.erfinv(x)),
        lambda x: 2 * mp.erfinv(x) * erfinv1(mp.erfinv(x)) ** 2,
    ),
    "erfcinv": (
        s.erfcinv, 0, [np.r_[TAIL, 1.4, 1.8]], lambda x: -erfinv1(erfcinv(x)),
        lambda x: 2 * erfcinv(x) * erfinv1(erfcinv(x)) ** 2,
    ),
    "ndtri": (
        s.ndtri, 0, [TAIL[3:]], lambda x: ndtri1(ndtri(x)),
        lambda x: ndtri(x) * ndtri1(ndtri(x)) ** 2
    ),
    "log_ndtr": (
        s.log_ndtr, 0, [np.r_[lin(-30, 30, 13), -geo(31, 1e6, 4)]], hazard,
        lambda x: -hazard(x) * (x + hazard(x)),
    ),
    "dawsn": (
        s.dawsn, 0, [np.r_[geo(1e-5, 0.8, 4), lin(1.05, 12, 13), geo(13, 100, 4)]], dawsn1,
        lambda x: -2 * (dawsn(x) + x * dawsn1(x)),
    ),
    **{
        f"jv({v}, x)": (
            s.jv, 1, at(v, RADIUS), central(mp.besselj, 1), central(mp.besselj, 2), envelope
        )
        for v in (0, 1, 2.5)
    },
    **{
        f"yv({v}, x)": (
            s.yv, 1, at(v, RADIUS), central(mp.bessely, 1), central(mp.bessely, 2), envelope
        )
        for v in (0.5, 2.5)
    },
    **{
        f"iv({v}, x)": (
            s.iv, 1, at(v, RADIUS), central(mp.besseli, 1, 1), central(mp.besseli, 2, 1), None
        )
        for v in (0, 1, 2.5)
    },
    "kv(2.5, x)": (s.kv, 1, at(2.5, RADIUS), kv(1), kv(2)),
    "kv(1, x)": (s.kv, 1, at(1, RADIUS[::3]), kv(1), kv(2)),
    "ive(0, x)": (s.ive, 1, at(0, RADIUS), scaled(ive, 1, -1), scaled(ive, 2, -1)),
    "ive(1, x)": (s.ive, 1, at(1, RADIUS), scaled(ive, 1, -1), scaled(ive, 2, -1)),
    "ive(2.5, x)": (s.ive, 1, at(2.5, RADIUS), scaled(ive, 1, -1), scaled(ive, 2, -1)),
    "kve(2.5, x)": (s.kve, 1, at(2.5, RADIUS), scaled(kve, 1, 1), scaled(kve, 2, 1)),
    "kve(0, x)": (s.kve, 1, at(0, RADIUS[::3]), scaled(kve, 1, 1), scaled(kve, 2, 1)),
    "logit": (
        s.logit, 0, [UNIT], lambda x: 1 / (x * (1 - x)), lambda x: (2 * x - 1) / (x * (1 - x)) ** 2
    ),
    "entr": (
        s.entr, 0,
        [np.r_[geo(1e-300, 0.1, 4), lin(0.3, 0.45, 7), np.exp(-1) + geo(1e-14, 1e-3, 4)]],
        lambda x: -1 - mp.log(x), lambda x: -1 / x,
    ),
    "rel_entr, x": (s.rel_entr, 0, [A, B], lambda a, b: 1 + mp.log(a / b), lambda a, b: 1 / a),
    "rel_entr, y": (s.rel_entr, 1, [A, B], lambda a, b: -a / b, lambda a, b: a / b**2),
    "kl_div, x": (s.kl_div, 0, [A, B], lambda a, b: mp.log(a / b), lambda a, b: 1 / a),
    "kl_div, y": (s.kl_div, 1, [A, B], lambda a, b: (b - a) / b, lambda a, b: a / b**2),
    "xlogy, x": (s.xlogy, 0, [A, B], lambda a, b: mp.log(b), None),
    "xlogy, y": (s.xlogy, 1, [A, B], lambda a, b: a / b, lambda a, b: -a / b**2),
    "xlog1py, y": (s.xlog1py, 1, [A, B], lambda a, b: a / (1 + b), lambda a, b: -a / (1 + b) ** 2),
    "exp1": (
        s.exp1, 0, [WIDE[:20]], lambda x: -mp.exp(-x) / x, lambda x: mp.exp(-x) * (1 + x) / x**2
    ),
    "expi": (
        s.expi, 0, [np.r_[WIDE[:20], -WIDE[:20]]], lambda x: mp.exp(x) / x,
        lambda x: mp.exp(x) * (x - 1) / x**2,
    ),
    "ellipk": (s.ellipk, 0, [MODULUS], ellipk1, ellipk2),
    "ellipe": (s.ellipe, 0, [MODULUS], ellipe1, ellipe2),
    "ellipkm1": (
        s.ellipkm1, 0, [np.r_[geo(1e-12, 0.9, 7), lin(1, 5, 5)]], lambda p: -ellipk1(1 - p),
        lambda p: ellipk2(1 - p),
    ),
    "exprel": (s.exprel, 0, [REAL], moment(1), moment(2)),
    "boxcox, lmbda": (
        s.boxcox, 1, [A, np.r_[0.0, geo(1e-8, 2, 13)]],
        lambda a, b: mp.log(a) ** 2 * moment(1)(b * mp.log(a)),
        lambda a, b: mp.log(a) ** 3 * moment(2)(b * mp.log(a)),
    ),
    "pseudo_huber, r": (
        s.pseudo_huber, 1, [A, B], lambda a, b: a * b / mp.hypot(a, b),
        lambda a, b: a**3 / mp.hypot(a, b) ** 3,
    ),
    "pseudo_huber, delta": (
        s.pseudo_huber, 0, [A, B], lambda a, b: (mp.hypot(a, b) - a) ** 2 / mp.hypot(a, b),
        lambda a, b: 2 * a / mp.hypot(a, b) - 2 + a * b**2 / mp.hypot(a, b) ** 3,
    ),
    "lambertw, 0": (
        s.lambertw[0], 0, [np.r_[around_branch(6), -geo(1e-8, 0.2, 4), geo(1e-10, 1e10, 8)]],
        lambda x: w1(0, x), lambda x: w2(0, x),
    ),
    "lambertw, -1": (
        s.lambertw[-1], 0, [np.r_[around_branch(6)[:-1], -geo(1e-300, 0.2, 6)]],
        lambda x: w1(-1, x), lambda x: w2(-1, x),
    ),
}  # fmt: skip

SCIPY = "SciPy's own value is out by more than 2 ulp"
ROOT = "next to a zero of the derivative"
SUM = "the roundings of a sum of several terms"
EXCEPTIONS = {  # name: (first derivative, second derivative, why)
    "gamma, x < 0": (12, 4, ROOT),
    "gammaln, x < 0": (14, 4, ROOT),
    "polygamma(2, x)": (4, 6, SCIPY),
    "beta, a": (30, 30, SCIPY),
    "poch, z": (4, 12, ROOT),
    "poch, m": (4, 6, SCIPY),
    "binom, n": (6, 8, SCIPY),
    "zeta, q": (14, 12, SCIPY),
    "betainc, x": (14, 60, "the second next to its zero; B(a, b) from SciPy in the first"),
    "betainc, x, large": (60, 90, "an exponent of the order of -log of the result"),
    "erfinv": (4, 7, SUM),
    "erfcinv": (6, 8, SUM),
    "ndtri": (5, 8, SUM),
    "dawsn": (6, 60, ROOT),
    "jv(0, x)": (9, 9, SCIPY),
    "jv(1, x)": (9, 9, SCIPY),
    "jv(2.5, x)": (90, 120, SCIPY),
    "yv(0.5, x)": (50, 30, SCIPY),
    "iv(0, x)": (5, 6, SCIPY),
    "iv(1, x)": (6, 6, SCIPY),
    "iv(2.5, x)": (6, 4, SCIPY),
    "kv(2.5, x)": (5, 7, SCIPY),
    "ive(0, x)": (9, 7, SUM),
    "ive(1, x)": (7, 9, SUM),
    "ive(2.5, x)": (250, 6000, "cancels between 1 and 19 where the order is not an integer"),
    "kve(2.5, x)": (5, 5, SUM),
    "ellipe": (4, 6, SUM),
    "ellipkm1": (4, 7, "1 - p is rounded for p > 1"),
    "lambertw, 0": (4, 7, SUM),
}


def ulps(got, want, envelope=0):
    want = mp.re(want)
    exact = float(want)
    if not np.isfinite(exact) or abs(exact) < 1e-290:
        return 0.0 if got == exact or abs(got - exact) < 1e-300 else np.inf
    if not np.isfinite(got):
        return np.inf
    return float(
        abs(mp.mpf(float(got)) - want) / mp.mpf(float(np.spacing(max(abs(exact), envelope))))
    )


def derivative(op, i, xs, n):
    def f(x):
        return op(*xs[:i], x, *xs[i + 1 :])

    def slope(f):
        return lambda x: wg.jvp(f, (x,), (np.ones_like(x),))[1]

    for _ in range(n):
        f = slope(f)
    with np.errstate(all="ignore"):
        return f(xs[i])


def worst(name):
    op, i, xs, *wants = CASES[name]
    scale = wants.pop() if len(wants) > 2 else None
    xs = [np.asarray(x, float) for x in xs]
    figures = []
    with mp.workdps(DPS):
        for n, want in enumerate(wants, 1):
            if want is None:
                figures.append(0.0)
                continue
            got = derivative(op, i, xs, n)
            points = [[mp.mpf(float(v)) for v in row] for row in zip(*xs)]
            sizes = [float(scale(*p)) if scale else 0 for p in points]
            figures.append(max(ulps(g, want(*p), z) for g, p, z in zip(got, points, sizes)))
    return figures


@pytest.mark.parametrize("name", CASES)
def test_derivatives_in_ulps(name):
    first, second, _ = EXCEPTIONS.get(name, (4, 4, ""))
    got = worst(name)
    assert got[0] <= first, f"first derivative {got[0]:.3g} ulp"
    assert got[1] <= second, f"second derivative {got[1]:.3g} ulp"


def test_exceptions_are_cases():
    assert set(EXCEPTIONS) <= set(CASES)


def slopes_of_gammainc(a, x):
    a, h = mp.mpf(a), mp.mpf(a) * mp.mpf(10) ** -18

    def f(a):
        if x > a:  # the small one of the two parts keeps its digits
            return -mp.gammainc(a, mp.mpf(x), mp.inf, regularized=True)
        return mp.gammainc(a, 0, mp.mpf(x), regularized=True)

    up, here, down = f(a + h), f(a), f(a - h)
    return (up - down) / (2 * h), (up - 2 * here + down) / h**2


@pytest.mark.parametrize(
    ("a", "x"),
    [(1e-3, 1e-30), (0.02, 0.5), (0.3, 0.2), (0.02, 0.67), (2.3, 7.4), (7.0, 6.9),
     (48.0, 30.0), (55.0, 1e-3), (60.0, 75.0)],
)  # fmt: skip
def test_gammainc_in_a(a, x):
    with mp.workdps(60):
        first, second = map(float, slopes_of_gammainc(a, x))
    np.testing.assert_allclose(values.gammainc_a(1, a, x), first, rtol=1e-13)
    got = values.gammainc_a(2, a, x)
    assert abs(got - second) <= 1e-12 * max(abs(second), abs(first) / np.sqrt(a * (1 + a)))


@pytest.mark.slow
def test_gammainc_in_a_over_decades():
    rng = np.random.default_rng(5)
    for low, high, n, tolerance in ((-3, 0, 60, 1e-13), (0, 2, 60, 1e-13), (2, 4, 20, 2e-13)):
        a = 10 ** rng.uniform(low, high, n)
        x = a * np.exp(rng.normal(size=n) * 2 / np.sqrt(1 + a))
        with mp.workdps(60):
            want = [float(slopes_of_gammainc(*p)[0]) for p in zip(a, x)]
        np.testing.assert_allclose(values.gammainc_a(1, a, x), want, rtol=tolerance)


def test_values_that_are_ours():
    x = np.r_[lin(-10, 8, 30), 20.0]
    with mp.workdps(DPS):
        want = [mp.log1p(-mp.erfc(mp.mpf(v) / mp.sqrt(2)) / 2) for v in x.tolist()]
        assert max(map(ulps, values.log_ndtr(x), want)) <= 4
        for k in (0, -1):
            x = around_branch(9)
            want = [w(k, mp.mpf(v)) for v in x.tolist()]
            assert max(map(ulps, s.lambertw[k](x), want)) <= 4
        want = [mp.psi(1, mp.mpf(v)) for v in LEFT.tolist()]
        assert max(map(ulps, values.polygamma_n(1, LEFT), want)) <= 4


@pytest.mark.parametrize(
    ("op", "x", "slope", "curve"),
    [
        (s.entr, 0.0, np.inf, -np.inf),
        (s.erfinv, 1.0, np.inf, np.inf),
        (s.erfcinv, 0.0, -np.inf, np.inf),
        (s.ndtri, 0.0, np.inf, -np.inf),
        (s.ndtri, 1.0, np.inf, np.inf),
        (s.logit, 0.0, np.inf, -np.inf),
        (s.log_ndtr, -np.inf, np.inf, -1.0),
        (s.log_ndtr, np.inf, 0.0, 0.0),
        (s.log_ndtr, -1e200, 1e200, -1.0),
        (s.gamma, 0.0, -np.inf, np.inf),
        (s.digamma, -0.0, np.inf, np.inf),
        (s.ellipk, 1.0, np.inf, np.inf),
        (s.ellipe, 1.0, -np.inf, -np.inf),
        (s.lambertw[0], -np.exp(-1), np.inf, -np.inf),
        (s.erfcx, np.inf, 0.0, 0.0),
        (s.dawsn, np.inf, 0.0, 0.0),
        (s.k0e, np.inf, 0.0, 0.0),
        (s.i0e, 0.0, 0.0, 1.5),
        (s.exp1, np.inf, 0.0, 0.0),
    ],
)
def test_ends(op, x, slope, curve):
    np.testing.assert_allclose(derivative(op, 0, [np.array(x)], 1), slope)
    np.testing.assert_allclose(derivative(op, 0, [np.array(x)], 2), curve, rtol=1e-12)


@pytest.mark.parametrize(
    ("op", "xs", "i", "slope", "curve"),
    [
        (s.xlogy, (0.0, 0.0), 1, 0.0, 0.0),
        (s.xlogy, (0.0, 2.0), 0, np.log(2.0), 0.0),
        (s.xlog1py, (0.0, -1.0), 1, 0.0, 0.0),
        (s.rel_entr, (0.0, 2.0), 0, -np.inf, np.inf),
        (s.rel_entr, (0.0, 2.0), 1, 0.0, 0.0),
        (s.rel_entr, (0.0, 0.0), 1, 0.0, 0.0),
        (s.kl_div, (0.0, 2.0), 1, 1.0, 0.0),
        (s.gammainc, (1.0, 0.0), 1, 1.0, -1.0),
        (s.gammainc, (2.0, 0.0), 1, 0.0, 1.0),
        (s.gammainc, (2.0, 0.0), 0, 0.0, 0.0),
        (s.betainc, (2.0, 3.0, 0.0), 2, 0.0, 12.0),
        (s.boxcox, (2.0, 0.0), 1, np.log(2.0) ** 2 / 2, np.log(2.0) ** 3 / 3),
        (s.jv, (1.0, 0.0), 1, 0.5, 0.0),
        (s.pseudo_huber, (0.0, 2.0), 0, 2.0, -2.0),
    ],
)
def test_structural_zeros(op, xs, i, slope, curve):
    xs = [np.array(x) for x in xs]
    np.testing.assert_allclose(derivative(op, i, xs, 1), slope, rtol=1e-14)
    np.testing.assert_allclose(derivative(op, i, xs, 2), curve, rtol=1e-12, atol=1e-300)
    with np.errstate(all="ignore"):
        g = wg.grad(lambda x: op(*xs[:i], x, *xs[i + 1 :]))(xs[i])
    np.testing.assert_allclose(g, slope, rtol=1e-14)


def test_mixed_derivative_survives_the_zero():
    h = wg.hessian(lambda x: s.xlogy(x[0], x[1]))(np.array([0.0, 2.0]))
    np.testing.assert_allclose(h, [[0.0, 0.5], [0.5, 0.0]], atol=0)


if __name__ == "__main__":
    import sys
    import time

    for name in sys.argv[1:] or CASES:
        start = time.time()
        print(f"{name:24}", *[f"{u:9.3g}" for u in worst(name)], f"{time.time() - start:6.2f} s")
