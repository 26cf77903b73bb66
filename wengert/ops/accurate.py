"""Values that NumPy lacks, in NumPy, right to 2 ulps over the whole range.

A real argument of any shape gives its own floating dtype (integers give float64); arithmetic is in
float64 throughout. Two devices keep the last bits:

* `head(x)` is x without its low 27 bits, so that a product of two heads is exact and x - head(x) is
  what it left out (T. J. Dekker, "A floating-point technique for extending the available precision",
  Numerische Mathematik 18, 1971).
* a value may be a pair `p, q` that stands for p + q, rounded once at the end.

The coefficients are our own: `bench/fit_erf.py` prints them and the error of each fit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Array = Any
Pair = tuple[Array, Array]
Core = Callable[[Array], Array]

BLOCK = 8192  # temporaries of this many float64 stay in the second-level cache
HEAD = np.int64(-(1 << 27))
F64 = np.dtype(np.float64)

# ------------------------------------------------------------------ logistic and hyperbolic


def double(x: Array) -> tuple[Array, Any]:
    """x in float64, and the dtype that the result goes back to."""
    x = np.asarray(x)
    dtype = x.dtype
    if dtype == F64:
        return x, dtype
    if dtype.kind == "f":
        return x.astype(F64), dtype
    if dtype.kind in "iub":
        return x.astype(F64), F64
    raise TypeError(f"a real argument is needed, not {dtype}")


def sigmoid(x: Array) -> Array:
    """e^x / (1 + e^x); from x = 40 on the quotient is 1, long before e^x overflows."""
    x, dtype = double(x)
    e = np.exp(np.minimum(x, 40.0))
    e /= e + 1.0
    return e.astype(dtype, copy=False)


def bell(a: Array) -> Array:
    """e^-a / (1 + e^-a)^2 for a >= 0."""
    e = np.exp(-a)
    w = e + 2.0
    w *= e
    w += 1.0
    e /= w
    return e


def dsigmoid(x: Array) -> Array:
    """sigmoid'(x) = e^-|x| / (1 + e^-|x|)^2, the same on both sides."""
    x, dtype = double(x)
    return bell(np.abs(x)).astype(dtype, copy=False)


def by_cosh2(a: Array, b: Array) -> Array:
    """a / cosh^2 b, in two divisions so that the square does not overflow before the result does."""
    c = np.cosh(b)
    return a / c / c


def sech2(x: Array) -> Array:
    """1 / cosh^2 x = 4 sigmoid'(2x)."""
    if np.iscomplexobj(x):
        c = np.cosh(x)
        return 1 / c / c
    x, dtype = double(x)
    y = bell(2.0 * np.minimum(np.abs(x), 400.0))
    y *= 4.0
    return y.astype(dtype, copy=False)


def softplus(x: Array) -> Array:
    """log(1 + e^x) = max(x, 0) + log(1 + e^-|x|)."""
    x, dtype = double(x)
    y = np.log1p(np.exp(-np.abs(x)))
    y += np.maximum(x, 0.0)
    return y.astype(dtype, copy=False)


def silu(x: Array) -> Array:
    """x / (1 + e^-x), or x e^x where that is the same and e^-x would overflow."""
    x, dtype = double(x)
    y = sigmoid(x)
    y *= x
    return y.astype(dtype, copy=False)


# ------------------------------------------------------------------ pairs


def head(x: Array) -> Array:
    """The leading 26 bits of a float64."""
    return (x.view(np.int64) & HEAD).view(F64)


def points(x: Array, core: Core, single: Core | None = None) -> Array:
    """`core` over x in flat float64 blocks; `single` instead where x has at most 24 bits."""
    x = np.asarray(x)
    dtype = x.dtype if x.dtype.kind == "f" else double(x[:0] if x.ndim else x)[1]
    if dtype.itemsize <= 4 and single is not None:
        core = single
    y = np.empty(x.shape, dtype)
    source, target = x.reshape(-1), y.reshape(-1)
    for k in range(0, x.size, BLOCK):
        block = slice(k, k + BLOCK)
        target[block] = core(source[block].astype(F64, copy=False))
    return y if y.ndim else y[()]


def inside(x: Array, bound: float, near: Core, far: Core) -> Array:
    """near(x) where |x| < bound, far(x) elsewhere (nan goes far)."""
    mask = np.abs(x) < bound
    i = np.flatnonzero(mask)
    if i.size == x.size:
        return near(x)
    if not i.size:
        return far(x)
    j = np.flatnonzero(~mask)
    y = np.empty_like(x)
    y[i] = near(x[i])
    y[j] = far(x[j])
    return y


def polynomial(c: Sequence[float], x: Array) -> Array:
    """c[0] + c[1] x + c[2] x^2 + .."""
    y = x * c[-1]
    for k in c[-2:0:-1]:
        y += k
        y *= x
    y += c[0]
    return y


def half_square(x: Array, half: float) -> Pair:
    """half x^2 as a pair, for half 1 or 0.5."""
    h = head(x)
    low = x - h
    low *= x + h
    h *= h
    if half != 1.0:
        h *= half
        low *= half
    high = h + low
    low -= high - h
    return high, low


def minus_exp(high: Array, low: Array) -> Array:
    """e^-(high + low) for a low that is at most an ulp of high."""
    y = np.exp(-high)
    y -= y * low
    return y


# ------------------------------------------------------------------ cauchy and gauss


def cauchy(x: Array) -> Array:
    """1 / (1 + x^2)."""
    if np.iscomplexobj(x):
        return 1 / (1 + x * x)
    return points(x, _cauchy, _cauchy32)


def _cauchy32(x: Array) -> Array:
    x = x * x
    x += 1.0
    return np.divide(1.0, x, out=x)


def _cauchy(x: Array) -> Array:
    a = np.abs(x)
    if not (a < 1e150).all():  # a scale of 2^-600 keeps the square from overflowing
        c = np.where(a < 1e150, 1.0, 2.0**-600)
        a *= c
        return c / (c * c + a * a) * c
    high, low = half_square(a, 1.0)
    w = high + 1.0
    low += np.minimum(high, 1.0) - (w - np.maximum(high, 1.0))
    w += low
    return np.divide(1.0, w, out=w)


def gauss(x: Array) -> Array:
    """e^(-x^2), with the square as a pair."""
    return points(x, _gauss, lambda x: np.exp(-np.square(np.minimum(np.abs(x), 40.0))))


def _gauss(x: Array) -> Array:
    return minus_exp(*half_square(np.minimum(np.abs(x), 40.0), 1.0))


LOG_ROOT, LOG_ROOT_LOW = 0.9189385332046728, -3.8782941580672414e-17  # log(2 pi) / 2


def normal_pdf(x: Array) -> Array:
    """e^(-x^2/2) / sqrt(2 pi), with the factor inside the exponential: one rounding fewer."""
    return points(x, _normal_pdf, _normal_pdf32)


def _normal_pdf32(x: Array) -> Array:
    x = np.square(np.minimum(np.abs(x), 40.0))
    x *= -0.5
    x -= LOG_ROOT
    return np.exp(x, out=x)


def _normal_pdf(x: Array) -> Array:
    high, low = half_square(np.minimum(np.abs(x), 40.0), 0.5)
    s = high + LOG_ROOT
    part = s - high
    low += LOG_ROOT_LOW
    low += high - (s - part)
    low += LOG_ROOT - part
    t = s + low
    low -= t - s
    return minus_exp(t, low)


# ------------------------------------------------------------------ the error function

# erf x = 2/sqrt(pi) x (1 + z P(z)), z = x^2, for |x| <= 0.8
NEAR_P = (
    -0.3333333333333333, 0.09999999999999991, -0.023809523809518403, 0.0046296296294975215,
    -0.000757575755919123, 0.00010683759470396483, -1.3227457726346677e-05, 1.458753403618312e-06,
    -1.4472760910459852e-07, 1.2751800445973383e-08, -8.333204103977667e-10,
)  # fmt: skip
# erfc x = e^(-x^2) / (sqrt(pi) x + P(x)/Q(x)), for 0.8 <= x <= 28
FAR_P = (
    1.000000001554723, 1.733259133184759, 1.5210902935148658, 0.8578406672378194,
    0.33617864871892517, 0.0934407574361539, 0.018056169387657073, 0.0022449804347196233,
    0.00014224534517845664,
)  # fmt: skip
FAR_Q = (
    1.0, 2.377333834315167, 2.7790311955702123, 2.0659715696664622, 1.0696073178203176,
    0.39947037716532163, 0.10796979521782193, 0.02053471200577494, 0.002533189153906681,
    0.00016050668410980552,
)  # fmt: skip
# the same from 0 on, for float32
FAR32_P = (
    1.0000000009801977, 0.9465245969386262, 0.4574481274172912, 0.12119408510474847,
    0.015091991227568186,
)  # fmt: skip
FAR32_Q = (
    1.0, 1.5905994178464338, 1.2086706272175542, 0.5328818694724917, 0.13676694832228367,
    0.01702925375706481,
)  # fmt: skip
# erf x = x P(z)/Q(z), z = x^2, for |x| <= 4 in float32
ERF32_P = (
    1.1283791691728586, 0.19319934737052297, 0.05581923328319984, 0.004243452784501344,
    0.00041279690690398913, 6.838166790791774e-06,
)  # fmt: skip
ERF32_Q = (
    1.0, 0.504551877271762, 0.1176519092587477, 0.016333788786070103, 0.0014266858830724381,
    7.290362757706728e-05, 2.6323132938752923e-07,
)  # fmt: skip

ERF_NEAR, CDF_NEAR = 0.8, 1.13
ROOT_HALF = math.sqrt(0.5)
# heads and tails of 2/sqrt(pi), 1/sqrt(2 pi), sqrt(pi), sqrt(2 pi)
TWO_OVER_ROOT = (1.1283791661262512, 9.692613531930338e-10)
HALF_OVER_ROOT = (0.3989422619342804, 1.8467152282432133e-08)
ROOT_PI = (1.7724538445472717, 6.358244298782542e-09)
ROOT_TWO_PI = (2.50662824511528, 2.9515720351048578e-08)


def near_zero(x: Array, k: tuple[float, float], half: float) -> Pair:
    """k x (1 + z P(z)), z = half x^2, as a pair: erf x, or normal_cdf x - 1/2."""
    h = head(x)
    z = x * x
    z *= half
    low = polynomial(NEAR_P, z)
    low *= z
    m = x * (k[0] + k[1])
    low *= m
    low += x * k[1]
    low += (x - h) * k[0]
    h *= k[0]
    low += h - m
    return m, low


def far_off(a: Array, k: tuple[float, float], half: float, times_a: bool = False) -> Pair:
    """e^(-half a^2) / (k a + G), as a pair: erfc a, or normal_cdf(-a), or a normal_cdf(-a).

    The division is corrected by its own remainder, and the product with the exponential is taken head
    by head, so that the one error left is that of `exp`.
    """
    a = np.minimum(a, 40.0)
    high, low = half_square(a, half)
    e = np.exp(-high)
    ah = head(a)
    z = a if half == 1.0 else a * ROOT_HALF
    g = polynomial(FAR_P, z)
    g /= polynomial(FAR_Q, z)
    if half != 1.0:
        g *= 2.0
    d = a * (k[0] + k[1])
    d += g
    dh = head(d)  # k a + G = dh + rest
    rest = a * k[1]
    rest += (a - ah) * k[0]
    ah *= k[0]
    ah -= dh
    ah += g
    rest += ah
    n = a if times_a else 1.0
    r = n / d
    rh = head(r)
    left = n - rh * dh
    left -= (r - rh) * dh
    left -= r * rest
    left -= n * low
    left /= d
    left += r - rh  # n (1 - low) / (dh + rest) = rh + left
    eh = head(e)
    left *= e
    left += (e - eh) * rh
    eh *= rh
    return eh, left


def far32(a: Array, k: float, half: float) -> Array:
    """e^(-half a^2) / (k a + G) for a >= 0, to 2^-27."""
    a = np.minimum(a, 40.0)
    z = a if half == 1.0 else a * ROOT_HALF
    d = polynomial(FAR32_P, z)
    d /= polynomial(FAR32_Q, z)
    if half != 1.0:
        d *= 2.0
    d += a * k
    a *= a
    a *= -half
    np.exp(a, out=a)
    a /= d
    return a


def erf(x: Array) -> Array:
    """2/sqrt(pi) times the integral of e^(-t^2) from 0 to x."""
    return points(x, lambda x: inside(x, ERF_NEAR, _erf_near, _erf_far), _erf32)


def _erf_near(x: Array) -> Array:
    m, low = near_zero(x, TWO_OVER_ROOT, 1.0)
    m += low
    return np.copysign(m, x, out=m)


def _erf_far(x: Array) -> Array:
    a = np.minimum(np.abs(x), 28.0)
    d = polynomial(FAR_P, a)
    d /= polynomial(FAR_Q, a)
    d += a * (ROOT_PI[0] + ROOT_PI[1])
    a *= a
    np.negative(a, out=a)
    np.exp(a, out=a)
    a /= d
    return np.copysign(1.0 - a, x)


def _erf32(x: Array) -> Array:
    x = np.clip(x, -4.0, 4.0)
    z = x * x
    x *= polynomial(ERF32_P, z)
    x /= polynomial(ERF32_Q, z)
    return x


def erfc(x: Array) -> Array:
    """1 - erf x, right in the far tail."""
    return points(x, lambda x: inside(x, ERF_NEAR, _erfc_near, _erfc_far), _erfc32)


def one_minus(c: float, m: Array, low: Array) -> Array:
    """c - (m + low) for |m| < c."""
    y = c - m
    low += m - (c - y)
    y -= low
    return y


def _erfc_near(x: Array) -> Array:
    return one_minus(1.0, *near_zero(x, TWO_OVER_ROOT, 1.0))


def reflected(y: Array, x: Array, total: float) -> Array:
    """y where x > 0, total - y where x < 0."""
    s = np.copysign(1.0, x)
    y *= s
    s *= -0.5 * total
    s += 0.5 * total
    y += s
    return y


def _erfc_far(x: Array) -> Array:
    y, low = far_off(np.abs(x), ROOT_PI, 1.0)
    y += low
    return reflected(y, x, 2.0)


def _erfc32(x: Array) -> Array:
    return reflected(far32(np.abs(x), sum(ROOT_PI), 1.0), x, 2.0)


# ------------------------------------------------------------------ the normal distribution


def normal_cdf(x: Array) -> Array:
    """erfc(-x / sqrt 2) / 2, from x itself: the rounding of x / sqrt 2 would cost x^2 ulps."""
    return points(x, lambda x: inside(x, CDF_NEAR, _cdf_near, _cdf_far), _cdf32)


def _cdf_near(x: Array) -> Array:
    return one_minus(0.5, *near_zero(-x, HALF_OVER_ROOT, 0.5))


def _cdf_far(x: Array) -> Array:
    y, low = far_off(np.abs(x), ROOT_TWO_PI, 0.5)
    y += low
    return reflected(y, -x, 1.0)


def _cdf32(x: Array) -> Array:
    return reflected(far32(np.abs(x), sum(ROOT_TWO_PI), 0.5), -x, 1.0)


def gelu(x: Array) -> Array:
    """x normal_cdf(x)."""
    return points(x, lambda x: inside(x, CDF_NEAR, _gelu_near, _gelu_far), _gelu32)


def _gelu_near(x: Array) -> Array:
    m, low = near_zero(x, HALF_OVER_ROOT, 0.5)
    c = m + 0.5
    low += m - (c - 0.5)
    ch, xh = head(c), head(x)
    low += c - ch
    low *= x
    low += (x - xh) * ch
    ch *= xh
    ch += low
    return np.copysign(ch, x, out=ch)


def _gelu_far(x: Array) -> Array:
    y, low = far_off(np.abs(x), ROOT_TWO_PI, 0.5, times_a=True)
    y += low
    return np.subtract(np.maximum(x, -0.0), y, out=y)


def _gelu32(x: Array) -> Array:
    return x * _cdf32(x)
