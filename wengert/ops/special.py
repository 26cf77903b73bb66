"""The derivative table of the special functions; values are SciPy's, asked for at the first call.

A line is a line of `elementwise.py`, with three additions: `refused("v", ..)` stands where a
parameter has no known derivative, and refuses by name when one is asked for; `ufunc` names the
functions of scipy.special that the line answers for; `at` gives operands for the laws.

Where the derivative of a line is not a line itself (or would lose digits as a formula), it is one
of a family `f_n`, made on demand: `family` numbers them, and the derivative of one is the next.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np

from ..primitive import UFUNCS
from ..structural import masked
from ..types import Array
from . import elementwise as e
from . import special_integrals as integrals
from . import special_values as values
from .elementwise import cosine, eq, exp, hypot, log, logical_and, logical_not, pow, where
from .special_lines import SCIPY, Special, family, named, refused
from .special_values import Lazy

# A table kept by hand, one line an operation where it fits, so that rules can be compared.
# fmt: off

ROOT_PI = math.sqrt(math.pi)


S = Special
V = values
HALF_LINE = ((0.4, 3.6),)
ORDERS: list[int] = [0, 1, 3]


def of_scipy(ufunc: Any) -> Any:
    """The operation that answers for one of SciPy's ufuncs, entered in UFUNCS; None for others."""
    name = getattr(ufunc, "__name__", "")
    for place in ("scipy.special", "scipy.special._ufuncs"):  # zeta and lambertw call hidden ones
        module = sys.modules.get(place)
        if module is not None and getattr(module, name, None) is ufunc:
            break
    else:
        return None
    op = SCIPY.get(name)
    if op is not None:
        UFUNCS[ufunc] = op  # type: ignore[index]  # the module has it under its name
    return op


# ------------------------------------------------------------------ the gamma family

gamma = S(
    "gamma", lambda d, x, y: d * (y * digamma(x)), at=HALF_LINE, complex=True,
    doc="the integral of t^(x-1) e^-t over t > 0",
)
rgamma = S(
    "rgamma", lambda d, x, y: -d * (y * digamma(x)), at=HALF_LINE, complex=True, doc="1 / gamma(x)"
)
gammaln = S("gammaln", lambda d, x: d * digamma(x), at=HALF_LINE, doc="log |gamma(x)|")
loggamma = S(
    "loggamma", lambda d, x: d * digamma(right_half(x)), at=HALF_LINE, complex=True,
    doc="log gamma(x), the principal branch; nan for real x < 0",
)
digamma = S(
    "psi", lambda d, x: d * polygamma(1, x), ufunc=("psi", "digamma"), at=HALF_LINE, complex=True,
    doc="gamma'(x) / gamma(x)",
)
polygamma = S(
    "polygamma", refused("n, the order"), lambda d, a, b: d * polygamma(a + 1, b),
    f=values.polygamma, ufunc=(), at=([1, 2, 3], (0.4, 3.6)), doc="the n-th derivative of digamma",
)


def right_half(x: Array) -> Array:
    return x if x.dtype.kind == "c" else where(e.lt(x, 0), np.nan, x).astype(x.dtype)


_gaps: dict[int, Special] = {}


def psi_gap(n: int) -> Special:
    """psi^(n)(a + b) - psi^(n)(a), as a sum without cancellation."""
    if n not in _gaps:
        _gaps[n] = S(
            f"psi_gap_{n}",
            lambda d, a, b: d * psi_gap(n + 1)(a, b),
            lambda d, a, b: d * (polygamma(n + 1, a + b)),
            f=named(f"psi_gap_{n}", lambda a, b: V.psi_gap(n, a, b)), ufunc=(),
        )
    return _gaps[n]


gap = psi_gap(0)
beta = S(
    "beta", lambda d, a, b, y: -d * (y * gap(a, b)), lambda d, a, b, y: -d * (y * gap(b, a)),
    doc="gamma(a) gamma(b) / gamma(a + b)",
)
betaln = S(
    "betaln", lambda d, a, b: -d * gap(a, b), lambda d, a, b: -d * gap(b, a), doc="log |beta(a, b)|"
)
poch = S(
    "poch", lambda d, a, b, y: d * (y * gap(a, b)), lambda d, a, b, y: d * (y * digamma(a + b)),
    doc="gamma(a + b) / gamma(a), the rising factorial",
)
binom = S(
    "binom",
    lambda d, a, b, y: d * (y * gap(a - b + 1, b)),
    lambda d, a, b, y: d * (y * gap(b + 1, a - 2 * b)),
    at=((4.2, 7.4), (0.4, 3.1)), doc="the binomial coefficient of real a, b",
)


def gamma_pdf_x(d: Array, a: Array, b: Array, y: Array) -> Array:
    zero = eq(b, 0)
    inner = y * (((a - 1) - b) / where(zero, 1, b))
    return d * where(zero, gamma_pdf(a - 1, b) - gamma_pdf(a, b), inner).astype(y.dtype)


def beta_pdf_x(d: Array, a: Array, b: Array, c: Array, y: Array) -> Array:
    edge = e.logical_or(eq(c, 0), eq(c, 1))
    z = where(edge, 0.5, c).astype(y.dtype)
    inner = y * (((a - 1) * (1 - z) - (b - 1) * z) / (z * (1 - z)))
    ends = (a + b - 1) * (beta_pdf(a - 1, b, c) - beta_pdf(a, b - 1, c))
    return d * where(edge, ends, inner).astype(y.dtype)


gamma_pdf = S(
    "gamma_pdf", lambda d, a, b, y: d * (y * (log(b) - digamma(a))), gamma_pdf_x,
    f=values.gamma_pdf, ufunc=(), doc="b^(a-1) e^-b / gamma(a)",
)
beta_pdf = S(
    "beta_pdf",
    lambda d, a, b, c, y: d * (y * (gap(a, b) + log(c))),
    lambda d, a, b, c, y: d * (y * (gap(b, a) + e.log1p(-c))),
    beta_pdf_x,
    f=values.beta_pdf, ufunc=(), at=((0.4, 3.6), (0.4, 3.6), (0.1, 0.8)),
    doc="c^(a-1) (1 - c)^(b-1) / beta(a, b)",
)
gammainc = S(
    "gammainc", lambda d, a, b: d * gammainc_1(a, b), lambda d, a, b: d * gamma_pdf(a, b),
    doc="the integral of gamma_pdf(a, t) over 0 < t < b",
)
gammaincc = S(
    "gammaincc", lambda d, a, b: -d * gammainc_1(a, b), lambda d, a, b: -d * gamma_pdf(a, b),
    doc="1 - gammainc(a, b)",
)
gammainc_1 = S(
    "gammainc_1",
    lambda d, a, b: d * gammainc_2(a, b),
    lambda d, a, b: d * (gamma_pdf(a, b) * (log(b) - digamma(a))),
    f=named("gammainc_1", lambda a, b: V.gammainc_a(1, a, b)), ufunc=(), at=([1, 2, 3], (0.3, 2.7)),
    doc="the derivative of gammainc in a",
)


def gammainc_2_b(d: Array, a: Array, b: Array) -> Array:
    slope = log(b) - digamma(a)
    return d * (gamma_pdf(a, b) * (slope * slope - polygamma(1, a)))


gammainc_2 = S(
    "gammainc_2", refused("a", "gammainc is differentiated in a twice at most"), gammainc_2_b,
    f=named("gammainc_2", lambda a, b: V.gammainc_a(2, a, b)), ufunc=(), at=([1, 2, 3], (0.3, 2.7)),
    doc="the second derivative of gammainc in a",
)
betainc = S(
    "betainc", refused("a"), refused("b"), lambda d, a, b, c: d * beta_pdf(a, b, c),
    at=([1, 2, 3], [2, 3, 1], (0.1, 0.8)), doc="the integral of beta_pdf(a, b, t) over 0 < t < c",
)
betaincc = S(
    "betaincc", refused("a"), refused("b"), lambda d, a, b, c: -d * beta_pdf(a, b, c),
    at=([1, 2, 3], [2, 3, 1], (0.1, 0.8)), doc="1 - betainc(a, b, c)",
)
zeta = S(
    "zeta", refused("x, the exponent"), lambda d, a, b: d * (-a * zeta(a + 1, b)),
    ufunc=("zeta", "_zeta"), at=([2, 3, 5], (0.4, 3.6)), doc="the sum of (b + k)^-a over k >= 0",
)

riemann_zeta = S(
    "riemann_zeta", refused("x, the exponent"), f=Lazy("zeta"), ufunc=("_riemann_zeta",),
    at=([2, 3, 5],), doc="the sum of k^-x over k > 0",
)

# ------------------------------------------------------------------ the error function's family

erfcx_n = family("erfcx", V.erfcx_n, at=((-1.6, 3.4),))
mills = family("mills", V.mills, at=((-1.6, 3.4),))
erfcx = S("erfcx", lambda d, x: d * erfcx_n(1)(x), at=((-1.6, 3.4),), doc="e^(x^2) erfc x")
erfinv = S("erfinv", lambda d, x: d * erfinv_1(x), at=((-0.9, 0.9),), doc="the inverse of erf")
erfinv_1 = S(
    "erfinv_1",
    lambda d, x, y: d * (2 * erfinv(x) * y * y),
    f=V.erfinv_slope,
    ufunc=(),
    at=((-0.9, 0.9),),
)
erfcinv = S("erfcinv", lambda d, x: d * erfcinv_1(x), at=((0.1, 1.9),), doc="the inverse of erfc")
erfcinv_1 = S(
    "erfcinv_1",
    lambda d, x, y: d * (2 * erfcinv(x) * y * y),
    f=V.erfcinv_slope,
    ufunc=(),
    at=((0.1, 1.9),),
)
ndtri = S("ndtri", lambda d, x: d * ndtri_1(x), at=((0.05, 0.95),), doc="the inverse of ndtr")
ndtri_1 = S(
    "ndtri_1", lambda d, x, y: d * (ndtri(x) * y * y), f=V.ndtri_slope, ufunc=(), at=((0.05, 0.95),)
)


def hazard_rule(d: Array, x: Array, y: Array) -> Array:
    """-y (x + y), and y^2 m'(-x) with m the Mills ratio where x + y cancels."""
    low = e.lt(x, 0)
    z = e.maximum(-1e15, e.minimum(x, 40.0))  # further out the answers are -1 and 0
    h = e.minimum(y, 1e15)
    left = mills(1)(where(low, -z, 0.0).astype(x.dtype))
    return d * where(low, h * (h * left), -y * (where(low, 0.0, z) + y)).astype(y.dtype)


log_ndtr = S(
    "log_ndtr", lambda d, x: d * hazard(x), f=V.log_ndtr, at=((-3.6, 3.4),), doc="log of normal_cdf"
)
hazard = S(
    "hazard", hazard_rule, f=V.hazard, ufunc=(), at=((-3.6, 3.4),), doc="normal_pdf / normal_cdf"
)
dawsn_n = family("dawsn", V.dawsn_n, at=((-3.6, 3.4),))
dawsn = S(
    "dawsn", lambda d, x: d * dawsn_n(1)(x), at=((-3.6, 3.4),),
    doc="e^(-x^2) times the integral of e^(t^2) over 0 < t < x",
)

# ------------------------------------------------------------------ Bessel functions

ORDER = refused("v, the order")
BESSEL: Any = (ORDERS, (0.4, 6.6))
jv = S(
    "jv", ORDER, lambda d, a, b: d * ((jv(a - 1, b) - jv(a + 1, b)) * 0.5),
    ufunc=("jv", "jn"), at=BESSEL, complex=True, doc="the Bessel function J of order a",
)
yv = S(
    "yv", ORDER, lambda d, a, b: d * ((yv(a - 1, b) - yv(a + 1, b)) * 0.5), at=BESSEL, complex=True,
    doc="the Bessel function Y of order a",
)
iv = S(
    "iv", ORDER, lambda d, a, b: d * ((iv(a - 1, b) + iv(a + 1, b)) * 0.5), at=BESSEL, complex=True,
    doc="the modified Bessel function I of order a",
)
kv = S(
    "kv", ORDER, lambda d, a, b: d * ((kv(a - 1, b) + kv(a + 1, b)) * -0.5), at=BESSEL,
    complex=True,
    doc="the modified Bessel function K of order a",
)
ive_n = family("ive", V.ive_n, ORDER, at=BESSEL)
kve_n = family("kve", V.kve_n, ORDER, at=BESSEL)
ive = S("ive", ORDER, lambda d, a, b: d * ive_n(1)(a, b), at=BESSEL, doc="e^-|b| iv(a, b)")
kve = S("kve", ORDER, lambda d, a, b: d * kve_n(1)(a, b), at=BESSEL, doc="e^b kv(a, b)")
BESSEL_0: Any = ((0.4, 6.6),)
j0 = S("j0", lambda d, x: d * -j1(x), at=BESSEL_0)
j1 = S("j1", lambda d, x: d * ((j0(x) - jv(2, x)) * 0.5), at=BESSEL_0)
y0 = S("y0", lambda d, x: d * -y1(x), at=BESSEL_0)
y1 = S("y1", lambda d, x: d * ((y0(x) - yv(2, x)) * 0.5), at=BESSEL_0)
i0 = S("i0", lambda d, x: d * i1(x), at=BESSEL_0)
i1 = S("i1", lambda d, x: d * ((i0(x) + iv(2, x)) * 0.5), at=BESSEL_0)
k0 = S("k0", lambda d, x: d * -k1(x), at=BESSEL_0)
k1 = S("k1", lambda d, x: d * ((k0(x) + kv(2, x)) * -0.5), at=BESSEL_0)
i0e = S("i0e", lambda d, x: d * ive_n(1)(0, x), at=BESSEL_0)
i1e = S("i1e", lambda d, x: d * ive_n(1)(1, x), at=BESSEL_0)
k0e = S("k0e", lambda d, x: d * kve_n(1)(0, x), at=BESSEL_0)
k1e = S("k1e", lambda d, x: d * kve_n(1)(1, x), at=BESSEL_0)
np_i0 = S("np_i0", lambda d, x: d * i1(x), f=np.i0, ufunc=(), at=BESSEL_0, doc="np.i0")

# ------------------------------------------------------------------ logistic, entropies

logit = S("logit", lambda d, x: d * logit_1(x), at=((0.1, 0.9),), doc="log(x / (1 - x))")
logit_1 = S(
    "logit_1", lambda d, x, y: d * ((2 * x - 1) * y * y),
    f=named("logit_1", V.real(lambda x: 1 / (x * (1 - x)))), ufunc=(), at=((0.1, 0.9),),
)


def both_zero(a: Array, b: Array) -> Array:
    return logical_and(eq(a, 0), eq(b, 0))


def over(a: Array, b: Array) -> Array:
    """a / b, and a 0 for 0 / 0 that `masked` takes out."""
    return a / where(both_zero(a, b), 1, b).astype(b.dtype)


xlogy = S(
    "xlogy", lambda d, b: d * log(b),
    lambda d, a, b: masked(d * over(a, b), logical_not(both_zero(a, b))),
    doc="a log b, and 0 for a = 0",
)
xlog1py = S(
    "xlog1py", lambda d, b: d * e.log1p(b),
    lambda d, a, b: masked(d * over(a, 1 + b), logical_not(both_zero(a, 1 + b))),
    doc="a log(1 + b), and 0 for a = 0",
)
one_plus_log = S(
    "one_plus_log", lambda d, a: d / a, lambda d, b: -d / b, f=integrals.one_plus_log, ufunc=(),
    doc="1 + log(a / b)",
)
log_ratio = S(
    "log_ratio", lambda d, a: d / a, lambda d, b: -d / b, f=integrals.log_ratio, ufunc=(),
    doc="log(a / b)",
)
entr = S(
    "entr",
    lambda d, x: -d * one_plus_log(x, 1.0),
    at=((0.2, 2.2),),
    doc="-x log x, and 0 for x = 0",
)


def part(a: Array, b: Array) -> Array:
    """1 - a / b, and 1 for 0 / 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where((a == 0) & (b == 0), 1, (b - a) / b).astype(np.result_type(a, b, 0.0))[()]


one_minus_ratio = S(
    "one_minus_ratio", lambda d, b: -d / b, lambda d, a, b: d * over(a, b) / b, f=part, ufunc=()
)
rel_entr = S(
    "rel_entr", lambda d, a, b: d * one_plus_log(a, b),
    lambda d, a, b: masked(-d * over(a, b), logical_not(both_zero(a, b))), doc="a log(a / b)",
)
kl_div = S(
    "kl_div", lambda d, a, b: d * log_ratio(a, b), lambda d, a, b: d * one_minus_ratio(a, b),
    doc="a log(a / b) - a + b",
)

# ------------------------------------------------------------------ integrals

exp1 = S(
    "exp1", lambda d, x: d * (-exp(-x) / x), at=HALF_LINE, complex=True,
    doc="the integral of e^-t / t over t > x",
)
expi = S(
    "expi", lambda d, x: d * (exp(x) / x), at=HALF_LINE, complex=True,
    doc="the principal value of the integral of e^t / t over t < x",
)
ellipk_n = family("ellipk", integrals.ellipk_n, at=((-2.2, 0.9),))
ellipe_n = family("ellipe", integrals.ellipe_n, at=((-2.2, 0.9),))
ellipkm1_n = family("ellipkm1", integrals.ellipkm1_n, at=((0.1, 2.2),))
ellipk = S("ellipk", lambda d, x: d * ellipk_n(1)(x), at=((-2.2, 0.9),))
ellipe = S("ellipe", lambda d, x: d * ellipe_n(1)(x), at=((-2.2, 0.9),))
ellipkm1 = S("ellipkm1", lambda d, x: d * ellipkm1_n(1)(x), at=((0.1, 2.2),), doc="ellipk(1 - x)")

# ------------------------------------------------------------------ elementary ones, powers, losses

DEGREE = math.pi / 180
exp10 = S("exp10", lambda d, y: d * (y * e.LN10))
cosm1 = S("cosm1", lambda d, x: d * -e.sin(x), doc="cos x - 1")
sindg = S("sindg", lambda d, x: d * (cosdg(x) * DEGREE), doc="the sine of degrees")
cosdg = S("cosdg", lambda d, x: d * (sindg(x) * -DEGREE), doc="the cosine of degrees")
tandg = S("tandg", lambda d, y: d * ((1 + y * y) * DEGREE), doc="the tangent of degrees")

exprel_n = family("exprel", integrals.exp_moment, at=((-2.6, 2.8),))
log_moment_n = family("log_moment", integrals.log_moment, at=((-0.5, 3.1),))
exprel = S(
    "exprel",
    lambda d, x: d * exprel_n(1)(x),
    at=((-2.6, 2.8),),
    doc="(e^x - 1) / x, and 1 for x = 0",
)


def boxcox_b(d: Array, a: Array, b: Array) -> Array:
    return d * (e.square(log(a)) * exprel_n(1)(b * log(a)))


boxcox = S(
    "boxcox", lambda d, a, b: d * pow(a, b - 1), boxcox_b, at=((0.4, 2.6), (-0.8, 1.7)),
    doc="(a^b - 1) / b, and log a for b = 0",
)
inv_boxcox = S(
    "inv_boxcox",
    lambda d, a, b, y: d * (y / (1 + a * b)),
    lambda d, a, b, y: -d * (y * e.square(a) * log_moment_n(0)(a * b)),
    at=((0.1, 1.6), (-0.4, 1.7)), doc="(1 + a b)^(1/b), and e^a for b = 0",
)
inv_boxcox1p = S(
    "inv_boxcox1p",
    lambda d, a, b, y: d * ((1 + y) / (1 + a * b)),
    lambda d, a, b, y: -d * ((1 + y) * e.square(a) * log_moment_n(0)(a * b)),
    at=((0.1, 1.6), (-0.4, 1.7)), doc="inv_boxcox(a, b) - 1",
)
boxcox1p = S(
    "boxcox1p",
    lambda d, a, b: d * exp((b - 1) * e.log1p(a)),
    lambda d, a, b: d * (e.square(e.log1p(a)) * exprel_n(1)(b * e.log1p(a))),
    at=((-0.4, 1.6), (-0.8, 1.7)), doc="boxcox(1 + a, b)",
)
huber = S(
    "huber",
    lambda d, a, b: masked(d * (e.abs(b) - a), e.gt(e.abs(b), a)),
    lambda d, a, b: d * e.clip(b, -a, a),
    at=((0.9, 1.2), (-0.6, 0.6)), doc="b^2 / 2 where |b| <= a, and a (|b| - a/2) beyond",
)


def pseudo_huber_a(d: Array, a: Array, b: Array) -> Array:
    h = hypot(a, b)
    gain = b * (b / (h + a))  # h - a
    return d * (gain * (gain / h))


pseudo_huber = S(
    "pseudo_huber", pseudo_huber_a, lambda d, a, b: d * (a * cosine(b, a)),
    doc="a^2 (sqrt(1 + (b/a)^2) - 1)",
)

# ------------------------------------------------------------------ Lambert's W


def lambert(k: int, at: Any) -> Special:
    """One real branch: w' = e^-w / (1 + w), and w'' = -w'^2 (2 + w) / (1 + w)."""
    name = f"lambertw_{'m1' if k else '0'}"

    def curve(d: Array, x: Array, y: Array) -> Array:
        w = op(x)
        near = e.lt(e.abs(w + 1), 0.5)
        inverse = where(near, exp(w) * y, 1 / (where(near, 1, w) + 1)).astype(y.dtype)
        return d * (-(y * y) * inverse * (2 + w))

    slope = S(
        f"{name}_1", curve, f=named(name, lambda x: integrals.lambertw_slope(k, x)), ufunc=(), at=at
    )
    op = S(
        name,
        lambda d, x: d * slope(x),
        f=named(name, lambda x: integrals.lambertw(k, x)),
        ufunc=(),
        at=at,
    )
    return op


lambertw = {0: lambert(0, ((-0.2, 2.8),)), -1: lambert(-1, ((-0.33, -0.08),))}

# ------------------------------------------------------------------ lines of NumPy's table

SCIPY |= {
    "erf": e.erf, "erfc": e.erfc, "ndtr": e.normal_cdf, "expit": e.sigmoid,
    "log_expit": e.log_sigmoid, "expm1": e.expm1, "log1p": e.log1p, "exp2": e.exp2, "cbrt": e.cbrt,
    "kn": kv, "yn": yv,
}
# fmt: on
