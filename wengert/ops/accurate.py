"""Values that NumPy lacks, in NumPy, right to 2 or 3 ulps over the whole range.

A real argument of any shape gives its own floating dtype (integers give float64); arithmetic is in
float64 throughout, so that float32 results are the rounded ones but for one in some hundreds. Two
devices keep the last bits of float64:

* `head(x)` is x without its low 27 bits, so that a product of two heads is exact and x - head(x) is
  what it left out (T. J. Dekker, "A floating-point technique for extending the available
  precision", Numerische Mathematik 18, 1971).
* a value may be a pair `p, q` that stands for p + q, rounded once at the end.

The coefficients are our own: `bench/fit_erf.py` prints them and the error of each fit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from . import gauss_native

Array = Any
Pair = tuple[Array, Array]
Core = Callable[[Array], Array]


def constants(*values: float) -> tuple[Array, ...]:
    """0-d arrays, which NumPy combines with a small array in half the time of Python numbers."""
    return tuple(np.array(v) for v in values)


BLOCK = 8192  # temporaries of this many float64 stay in the second-level cache
HEAD = np.int64(-(1 << 27))
F64 = np.dtype(np.float64)
ONE, TWO, FOUR, HALF, QUARTER = constants(1.0, 2.0, 4.0, 0.5, 0.25)
MINUS_ONE, MINUS_TWO, MINUS_ZERO, MINUS_HALF = constants(-1.0, -2.0, -0.0, -0.5)
SIGN, UNIT = np.array(np.iinfo(np.int64).min), np.array(1.0).view(np.int64)
HUGE32 = 2.0**128  # more than any float32
FORTY, SIXTY, LARGE = constants(40.0, 60.0, 400.0)


def points(x: Array, core: Core, single: Core | None = None) -> Array:
    """`core` over x in float64, a block at a time; `single` where 24 bits of the result count."""
    x = np.asarray(x)
    dtype = x.dtype
    if dtype != F64:
        if dtype.kind == "f":
            core = single if single is not None and dtype.itemsize < 8 else core
        elif dtype.kind in "iub":
            dtype = F64
        else:
            raise TypeError(f"needs real numbers, not {dtype}")
    if not x.ndim:
        return core(x.reshape(1).astype(F64, copy=False)).astype(dtype, copy=False)[0]
    if x.size <= BLOCK:
        return core(x.astype(F64, copy=False)).astype(dtype, copy=False)
    y = np.empty(x.shape, dtype)
    source, target = x.reshape(-1), y.reshape(-1)
    for k in range(0, x.size, BLOCK):
        block = slice(k, k + BLOCK)
        target[block] = core(source[block].astype(F64, copy=False))
    return y


# ------------------------------------------------------------------ logistic and hyperbolic


def sigmoid(x: Array) -> Array:
    """e^x / (1 + e^x); from x = 40 on the quotient is 1, long before e^x overflows."""
    return points(x, _sigmoid, _sigmoid32)


def _sigmoid(x: Array) -> Array:
    e = np.exp(np.minimum(x, FORTY))
    y = e / (e + ONE)
    return np.where(e < QUARTER, e - e * y, y)  # free of the rounding of 1 + e where that counts


def _sigmoid32(x: Array) -> Array:
    e = np.exp(np.minimum(x, FORTY))
    e /= e + ONE
    return e


def silu(x: Array) -> Array:
    """x sigmoid(x)."""
    return points(x, _silu, _silu32)


def _silu(x: Array) -> Array:
    x = np.maximum(x, -800.0)
    y = _sigmoid(x)
    y *= x
    return far_left(x, x, y)


def far_left(x: Array, f: Array, y: Array) -> Array:
    """f e^x where x < -700, by way of e^(x + 64), as e^x loses bits to underflow; y elsewhere."""
    low = x < -700.0
    if low.any():
        y = np.where(low, f * np.exp(np.where(low, x, -700.0) + 64.0) * math.exp(-64.0), y)
    return y


def _silu32(x: Array) -> Array:
    y = _sigmoid32(x)
    y *= np.maximum(x, -800.0)
    return y


def dsigmoid(x: Array) -> Array:
    """sigmoid'(x) = e^-|x| / (1 + e^-|x|)^2, even in x."""
    return points(x, _dsigmoid)


def _dsigmoid(x: Array) -> Array:
    e = np.exp(np.copysign(x, MINUS_ONE))
    w = e + TWO
    w *= e
    w += ONE
    e /= w
    return e


def sech2(x: Array) -> Array:
    """1 / cosh^2 x = 4 e^-2|x| / (1 + e^-2|x|)^2."""
    if np.iscomplexobj(x):
        c = np.cosh(x)
        return 1 / c / c
    return points(x, _sech2, _sech2_32)


def _sech2(x: Array) -> Array:
    a = np.minimum(np.absolute(x), LARGE)
    a *= MINUS_TWO
    e = np.exp(a, out=a)
    w = e + TWO
    w *= e
    w += ONE
    e *= FOUR
    e /= w
    return e


def _sech2_32(x: Array) -> Array:
    c = np.cosh(np.minimum(np.absolute(x), SIXTY))
    c *= c
    return np.divide(ONE, c, out=c)


def softplus(x: Array) -> Array:
    """log(1 + e^x) = max(x, 0) + log(1 + e^-|x|)."""
    return points(x, _softplus)


def _softplus(x: Array) -> Array:
    y = np.exp(np.copysign(x, MINUS_ONE))
    np.log1p(y, out=y)
    y += np.maximum(x, MINUS_ZERO)
    return y


# ------------------------------------------------------------------ pairs


def head(x: Array) -> Array:
    """The leading 26 bits of a float64."""
    return (x.view(np.int64) & HEAD).view(np.float64)


def inside(x: Array, bound: float, near: Core, far: Core) -> Array:
    """near(x) where |x| < bound, far(x) elsewhere (nan goes far)."""
    mask = np.absolute(x) < bound
    i = np.flatnonzero(mask)
    if i.size == x.size:
        return near(x)
    if not i.size:
        return far(x)
    j = np.flatnonzero(~mask)
    y = np.empty(x.shape)
    source, target = x.reshape(-1), y.reshape(-1)
    target[i] = near(source[i])
    target[j] = far(source[j])
    return y


def polynomial(c: tuple[Array, ...], x: Array) -> Array:
    """c[0] + c[1] x + c[2] x^2 + .."""
    y = x * c[-1]
    for k in c[-2:0:-1]:
        y += k
        y *= x
    y += c[0]
    return y


def monic(c: tuple[Array, ...], x: Array) -> Array:
    """c[0] + c[1] x + c[2] x^2 + .. + x^n"""
    y = x + c[-1]
    for k in c[-2::-1]:
        y *= x
        y += k
    return y


def half_square(x: Array, half: Array) -> Pair:
    """half x^2 as a pair, for half 1 or 1/2."""
    h = head(x)
    low = x - h
    low *= x + h
    h *= h
    if half is HALF:
        h *= HALF
        low *= HALF
    high = h + low
    low -= high - h
    return high, low


def minus_exp(high: Array, low: Array) -> Array:
    """e^-(high + low), for a low of at most an ulp of high."""
    y = np.exp(-high)
    y -= y * low
    return y


# ------------------------------------------------------------------ cauchy and gauss


def cauchy(x: Array) -> Array:
    """1 / (1 + x^2)."""
    if np.iscomplexobj(x):
        return 1 / (1 + x * x)
    return points(x, _cauchy, _cauchy32)


def _cauchy(x: Array) -> Array:
    a = np.absolute(x)
    if not (a < 1e150).all():  # a scale of 2^-600 keeps the square from overflowing
        c = np.where(a < 1e150, 1.0, 2.0**-600)
        a *= c
        return c / (c * c + a * a) * c
    high, low = half_square(a, ONE)
    w = high + ONE
    low += np.minimum(high, ONE) - (w - np.maximum(high, ONE))
    w += low
    return np.divide(ONE, w, out=w)


def _cauchy32(x: Array) -> Array:
    w = x * x
    w += ONE
    return np.divide(ONE, w, out=w)


def gauss(x: Array) -> Array:
    """e^(-x^2), with the square as a pair."""
    return points(x, _gauss, _gauss32)


def _gauss(x: Array) -> Array:
    return minus_exp(*half_square(np.minimum(np.absolute(x), FORTY), ONE))


def _gauss32(x: Array) -> Array:
    a = np.minimum(np.absolute(x), FORTY)
    a *= a
    return np.exp(np.negative(a, out=a), out=a)


LOG_ROOT, LOG_ROOT_LOW = constants(0.9189385332046728, -3.8782941580672414e-17)  # log(2 pi) / 2


def normal_pdf(x: Array) -> Array:
    """e^(-x^2/2) / sqrt(2 pi), with the factor inside the exponential: one rounding fewer."""
    return points(x, _normal_pdf, _normal_pdf32)


def _normal_pdf(x: Array) -> Array:
    high, low = half_square(np.minimum(np.absolute(x), FORTY), HALF)
    s = high + LOG_ROOT
    part = s - high
    low += LOG_ROOT_LOW
    low += high - (s - part)
    low += LOG_ROOT - part
    t = s + low
    low -= t - s
    return minus_exp(t, low)


def _normal_pdf32(x: Array) -> Array:
    a = np.minimum(np.absolute(x), FORTY)
    a *= a
    a *= -0.5
    a -= LOG_ROOT
    return np.exp(a, out=a)


# ------------------------------------------------------------------ the error function

# erf x = 2/sqrt(pi) x (1 + z P(z)), z = x^2, for |x| <= 0.75
NEAR_P = constants(
    -0.3333333333333333, 0.09999999999999998, -0.023809523809522067, 0.004629629629581166,
    -0.0007575757568845753, 0.00010683760108086758, -1.3227483290484633e-05,
    1.4588166736879527e-06, -1.448220442103637e-07, 1.2829706314456342e-08,
    -8.605983634882895e-10,
)  # fmt: skip
# erfc x = e^(-x^2) / (sqrt(pi) x + 1/2 + P(x)/Q(x)), for 0.74 <= x <= 28
FAR_P = constants(
    0.5000000002907213, 0.5152647976564254, 0.10412948875976948, -0.17823645849947634,
    -0.18751575539949053, -0.09633425037891405, -0.03138631175550367, -0.006741551478194487,
    -0.0009038014793429143, -6.0653987513178716e-05,
)  # fmt: skip
FAR_Q = constants(
    1.0, 2.3186789699814314, 2.6485846967620086, 1.923807514810033, 0.972029999257871,
    0.35358497568607716, 0.09281002381782753, 0.017068096010164117, 0.0020226157463866246,
    0.00012130797502484962,
)  # fmt: skip
# erfc x = e^(-x^2) / (sqrt(pi) x + P(x)/Q(x)), for 0 <= x <= 28, in float32
FAR32_P = constants(
    1.0000000009801977, 0.9465245969386262, 0.4574481274172912, 0.12119408510474847,
    0.015091991227568186,
)  # fmt: skip
FAR32_Q = constants(
    1.0, 1.5905994178464338, 1.2086706272175542, 0.5328818694724917, 0.13676694832228367,
    0.01702925375706481,
)  # fmt: skip
# erf x = x P(z)/Q(z), z = x^2, for |x| <= 4, in float32
ERF32_P = constants(
    1.1283791691728586, 0.19319934737052297, 0.05581923328319984, 0.004243452784501344,
    0.00041279690690398913, 6.838166790791774e-06,
)  # fmt: skip
ERF32_Q = constants(
    1.0, 0.504551877271762, 0.1176519092587477, 0.016333788786070103, 0.0014266858830724381,
    7.290362757706728e-05, 2.6323132938752923e-07,
)  # fmt: skip
# normal_cdf(-x) = e^(-x^2/2) P(x)/Q(x), Q with x^6 at its end, for 0 <= x <= 15, in float32
MILLS32_P = constants(
    223.40249276235485, 227.0147991468656, 112.16061679388673, 31.94216984488104,
    5.219077012162997, 0.3989418247510604,
)  # fmt: skip
MILLS32_Q = constants(
    446.804985552144, 810.528395082251, 647.626880650063, 294.18426566446595,
    81.06952800678093, 13.082207708905237,
)  # fmt: skip

ERF_NEAR, CDF_NEAR = 0.75, 1.06
ROOT_HALF = np.array(math.sqrt(0.5))


def split(high: float, low: float) -> tuple[Array, ...]:
    """A number as its head, its tail and their rounded sum."""
    return constants(high, low, high + low)


TWO_OVER_ROOT = split(1.1283791661262512, 9.692613531930338e-10)  # 2 / sqrt(pi)
ONE_OVER_ROOT = split(0.3989422619342804, 1.8467152282432133e-08)  # 1 / sqrt(2 pi)
ROOT_PI = split(1.7724538445472717, 6.358244298782542e-09)  # sqrt(pi)
ROOT_TWO_PI = split(2.50662824511528, 2.9515720351048578e-08)  # sqrt(2 pi)


def near_zero(x: Array, k: tuple[Array, ...], half: Array) -> Pair:
    """k x (1 + z P(z)), z = half x^2, as a pair: erf x, or normal_cdf x - 1/2."""
    h = head(x)
    z = x * x
    z *= half
    low = polynomial(NEAR_P, z)
    low *= z
    m = x * k[2]
    low *= m
    low += x * k[1]
    low += (x - h) * k[0]
    h *= k[0]
    h -= m
    low += h
    return m, low


def far_off(a: Array, k: tuple[Array, ...], half: Array, times_a: bool = False) -> Pair:
    """e^(-half a^2) / (k a + G), as a pair: erfc a, or normal_cdf(-a), or a normal_cdf(-a).

    The division is corrected by its own remainder and the product with the exponential is taken
    head by head, so that the error of `exp` is the one that is left.
    """
    a = np.minimum(a, FORTY)
    high, low = half_square(a, half)
    e = np.exp(-high)
    ah = head(a)
    z = a if half is ONE else a * ROOT_HALF
    g = polynomial(FAR_P, z)
    g /= polynomial(FAR_Q, z)
    if half is HALF:
        g *= TWO
    middle = HALF if half is ONE else ONE
    d = a * k[2]
    d += middle
    d += g
    dh = head(d)  # k a + G = dh + rest
    rest = a * k[1]
    rest += (a - ah) * k[0]
    ah *= k[0]
    ah -= dh
    ah += middle
    ah += g
    rest += ah
    n = a if times_a else ONE
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


def far32(a: Array, k: tuple[Array, ...], half: Array) -> Array:
    """e^(-half a^2) / (k a + G) for a >= 0, to 2^-27."""
    a = np.minimum(a, FORTY)
    z = a if half is ONE else a * ROOT_HALF
    d = polynomial(FAR32_P, z)
    d /= polynomial(FAR32_Q, z)
    if half is HALF:
        d *= TWO
    d += a * k[2]
    a *= a
    a *= -half
    np.exp(a, out=a)
    a /= d
    return a


def mills32(a: Array) -> Array:
    """normal_cdf(-a) / e^(-a^2/2) for a >= 0, to 2^-32 where that is a number of float32."""
    y = polynomial(MILLS32_P, a)
    y /= monic(MILLS32_Q, a)
    return y


def finite(a: Array) -> bool:
    """Whether all of a >= 0 are; NumPy's minimum and copysign, which the others need, are slow."""
    return bool(a.max(initial=0.0) < HUGE32)


def one_minus(c: Array, m: Array, low: Array) -> Array:
    """c - (m + low), for |m| < c."""
    y = c - m
    low += m - (c - y)
    y -= low
    return y


def reflected(y: Array, x: Array, half: Array) -> Array:
    """y where x > 0, 2 half - y where x < 0."""
    s = np.copysign(ONE, x)
    y *= s
    s -= ONE
    s *= half
    y -= s
    return y


def erf(x: Array) -> Array:
    """2/sqrt(pi) times the integral of e^(-t^2) from 0 to x."""
    return points(x, lambda x: inside(x, ERF_NEAR, _erf_near, _erf_far), _erf32)


def _erf_near(x: Array) -> Array:
    m, low = near_zero(x, TWO_OVER_ROOT, ONE)
    m += low
    return np.copysign(m, x, out=m)


def _erf_far(x: Array) -> Array:
    a = np.minimum(np.absolute(x), FORTY)
    d = polynomial(FAR_P, a)
    d /= polynomial(FAR_Q, a)
    d += HALF
    d += a * ROOT_PI[2]
    a *= a
    np.negative(a, out=a)
    np.exp(a, out=a)
    a /= d
    return np.copysign(np.subtract(ONE, a, out=a), x, out=a)


def _erf32(x: Array) -> Array:
    x = np.minimum(np.maximum(x, -FOUR), FOUR)
    z = x * x
    x *= polynomial(ERF32_P, z)
    x /= polynomial(ERF32_Q, z)
    return x


def erfc(x: Array) -> Array:
    """1 - erf x, right in the far tail."""
    return points(x, lambda x: inside(x, ERF_NEAR, _erfc_near, _erfc_far), _erfc32)


def _erfc_near(x: Array) -> Array:
    return one_minus(ONE, *near_zero(x, TWO_OVER_ROOT, ONE))


def _erfc_far(x: Array) -> Array:
    y, low = far_off(np.absolute(x), ROOT_PI, ONE)
    return reflected(y + low, x, ONE)


def _erfc32(x: Array) -> Array:
    return reflected(far32(np.absolute(x), ROOT_PI, ONE), x, ONE)


# ------------------------------------------------------------------ the normal distribution


def normal_cdf(x: Array) -> Array:
    """erfc(-x / sqrt 2) / 2, from x itself: the rounding of x / sqrt 2 would cost x^2 ulps."""
    return points(x, lambda x: inside(x, CDF_NEAR, _cdf_near, _cdf_far), _cdf32)


def _cdf_near(x: Array) -> Array:
    return one_minus(HALF, *near_zero(-x, ONE_OVER_ROOT, HALF))


def _cdf_far(x: Array) -> Array:
    y, low = far_off(np.absolute(x), ROOT_TWO_PI, HALF)
    return reflected(y + low, -x, HALF)


def _cdf32(x: Array) -> Array:
    return reflected(far32(np.absolute(x), ROOT_TWO_PI, HALF), -x, HALF)


def gelu(x: Array) -> Array:
    """x normal_cdf(x)."""
    y = gauss_native.run("gelu", x, MILLS32_P, MILLS32_Q, ONE_OVER_ROOT[2])
    if y is not None:
        return y
    return points(x, lambda x: inside(x, CDF_NEAR, _gelu_near, _gelu_far), _gelu32)


def _gelu_near(x: Array) -> Array:
    m, low = near_zero(x, ONE_OVER_ROOT, HALF)
    c = m + HALF
    low += m - (c - HALF)
    ch, xh = head(c), head(x)
    low += c - ch
    low *= x
    low += (x - xh) * ch
    ch *= xh
    ch += low
    return np.copysign(ch, x)


def _gelu_far(x: Array) -> Array:
    y, low = far_off(np.absolute(x), ROOT_TWO_PI, HALF, times_a=True)
    y += low
    return np.maximum(x, MINUS_ZERO) - y


def _gelu32(x: Array) -> Array:
    """max(x, 0) - a normal_cdf(-a), a = |x|."""
    a = np.absolute(x)
    if not finite(a):
        y = _cdf32(x)
        y *= np.maximum(x, -FORTY)
        return y
    y = x + a
    y *= HALF
    m = mills32(a)
    m *= a
    a *= a
    a *= MINUS_HALF
    m *= np.exp(a, out=a)
    y -= m
    bits = y.view(np.int64)
    bits |= x.view(np.int64) & SIGN  # the sign of a zero
    return y
