"""Derivatives that are not functions of NumPy, as functions, so that their own are as accurate.

A product or quotient of other functions would do at first order. One order further the sum of its
terms can cancel: d/dx ((1 - x)(1 + x)) is -(1 + x) + (1 - x), which is 0 for every small x.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from . import accurate as acc
from . import gauss_native
from .accurate import F64, FORTY, HALF, ONE, QUARTER, SIXTY, TWO, Array, Core, inside, points

LINE = 4096  # numbers

PI = np.array(math.pi)


def dcbrt(x: Array) -> Array:
    """The slope of the cube root: x^(1/3) / (3 x), and inf at 0."""
    y = np.full(np.shape(x), np.inf, np.cbrt(x).dtype)
    np.divide(np.cbrt(x), x, out=y, where=np.not_equal(x, 0))
    y /= 3
    return y if y.ndim else y[()]


def one_less_square(x: Array) -> Array:
    """1 - x^2, from the one of two forms that does not amplify a rounding error."""
    return np.where(np.absolute(x) < 0.5, 1 - x * x, (1 - x) * (1 + x))


def lorentz2(x: Array) -> Array:
    """1 / (1 - x^2), the square of the Lorentz factor at speed x."""
    return 1 / one_less_square(x)


def lorentz(x: Array) -> Array:
    """1 / sqrt(1 - x^2), the Lorentz factor at speed x."""
    return 1 / np.sqrt(one_less_square(x))


def cosine(a: Array, b: Array) -> Array:
    """a / hypot(a, b), the cosine of the angle of (a, b); 0 at the origin."""
    h = np.hypot(a, b)
    return np.divide(a, h, out=np.zeros_like(h), where=h != 0)


def turn(a: Array, b: Array) -> Array:
    """b / (a^2 + b^2), the slope of the angle of (b, a) in a."""
    return cosine(b, a) / np.hypot(a, b)


def share(a: Array, b: Array) -> Array:
    """e^a / (e^a + e^b), with the rounding error of a - b made good."""
    return _share(a, b, np.exp, 1.0)


def share2(a: Array, b: Array) -> Array:
    """2^a / (2^a + 2^b), with the rounding error of a - b made good."""
    return _share(a, b, np.exp2, math.log(2.0))


def _share(a: Array, b: Array, power: Core, scale: float) -> Array:
    dtype = np.result_type(a, b, np.float16)
    a, b = np.asarray(a, F64), np.asarray(b, F64)
    with np.errstate(over="ignore", invalid="ignore"):  # of huge numbers, where `low` is not used
        z = a - b
        t = z - a
        low = (a - (z - t)) - (b + t)
        e = power(np.minimum(z, SIXTY))
        y = e / (e + ONE)
        y = np.where(e < QUARTER, e - e * y, y)
        y += y * np.where(np.absolute(z) < 1100.0, low * (scale / (e + ONE)), 0.0)
    return y.astype(dtype, copy=False)


def dsilu(x: Array) -> Array:
    """silu'(x) = s (1 + x (1 - s)) with s = sigmoid(x) = e^x t and 1 - s = t = 1 / (1 + e^x)."""
    return points(x, _dsilu, _dsilu32)


def _dsilu(x: Array) -> Array:
    return acc.far_left(x, np.maximum(x, -800.0) + ONE, _dsilu32(x))


def _dsilu32(x: Array) -> Array:
    e = np.exp(np.minimum(x, SIXTY))
    t = ONE / (e + ONE)
    e *= t
    t *= np.maximum(np.minimum(x, 800.0), -800.0)
    t += ONE
    e *= t
    return e


def dgelu(x: Array) -> Array:
    """gelu'(x) = normal_cdf(x) + x normal_pdf(x)."""
    y = gauss_native.run("dgelu", x, acc.MILLS32_P, acc.MILLS32_Q, acc.ONE_OVER_ROOT[2])
    if y is not None:
        return y
    return points(x, lambda x: inside(x, acc.CDF_NEAR, _dgelu_near, _dgelu_far), _dgelu32)


def _dgelu_near(x: Array) -> Array:
    y = acc._normal_pdf(x)
    y *= x
    y += acc._cdf_near(x)
    return y


def _dgelu_far(x: Array) -> Array:
    """e^(-x^2/2) (1/D - a/sqrt(2 pi)) at x = -a, and 1 less that at a; D as in `far_off`."""
    a = np.minimum(np.absolute(x), FORTY)
    z = a * acc.ROOT_HALF
    d = acc.polynomial(acc.FAR_P, z)
    d /= acc.polynomial(acc.FAR_Q, z)
    d += HALF
    d *= TWO
    d += a * acc.ROOT_TWO_PI[2]
    y = ONE / d
    y -= a * acc.ONE_OVER_ROOT[2]
    y *= acc.minus_exp(*acc.half_square(a, HALF))
    return acc.reflected(y, -x, HALF)


def _dgelu32(x: Array) -> Array:
    """e^(-a^2/2) (M(a) - a/sqrt(2 pi)) at x = -a, with M of `mills32`, and 1 less that at a."""
    a = np.absolute(x)
    if not acc.finite(a):
        return _dgelu32_far(x)
    y = acc.mills32(a)
    y -= a * acc.ONE_OVER_ROOT[2]
    a *= a
    a *= acc.MINUS_HALF
    y *= np.exp(a, out=a)
    right = np.invert(x.view(np.int64))  # its sign: whether x > 0
    bits = y.view(np.int64)
    bits ^= right & acc.SIGN
    right >>= SHIFT
    right &= acc.UNIT
    y += right.view(np.float64)
    return y


def _dgelu32_far(x: Array) -> Array:
    a = np.minimum(np.absolute(x), FORTY)
    z = a * acc.ROOT_HALF
    d = acc.polynomial(acc.FAR32_P, z)
    d /= acc.polynomial(acc.FAR32_Q, z)
    d *= TWO
    d += a * acc.ROOT_TWO_PI[2]
    y = ONE / d
    y -= a * acc.ONE_OVER_ROOT[2]
    a *= a
    a *= -HALF
    y *= np.exp(a, out=a)
    return acc.reflected(y, -x, HALF)


SHIFT = np.array(63)
GELU_A = 2 * math.sqrt(2 / math.pi)
GELU_B = GELU_A * 0.044715


def gelu_tanh(x: Array) -> Array:
    """x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2 = x sigmoid(a x + b x^3)."""
    return points(x, _gelu_tanh)


def _gelu_tanh(x: Array) -> Array:
    z = np.minimum(np.maximum(x, -FORTY), FORTY)
    v = z * z
    v *= GELU_B
    v += GELU_A
    v *= z
    y = acc._sigmoid(v)
    y *= np.maximum(x, -FORTY)
    return y


def dgelu_tanh(x: Array) -> Array:
    """s(v) + x s'(v) v' with the sigmoid s and v = a x + b x^3."""
    return points(x, _dgelu_tanh)


def _dgelu_tanh(x: Array) -> Array:
    z = np.minimum(np.maximum(x, -FORTY), FORTY)
    square = z * z
    v = (GELU_A + GELU_B * square) * z
    return acc._sigmoid(v) + z * (GELU_A + 3 * GELU_B * square) * acc.dsigmoid(v)


def rectified(x: Array) -> Array:
    """max(x, 0), by lines of zeros: NumPy takes three times as long with a single one."""
    plain = x.__class__ is np.ndarray and x.dtype.kind == "f" and x.flags.c_contiguous
    if not plain or x.size < 2 * LINE:
        return np.maximum(x, 0)
    y = np.empty(x.shape, x.dtype)
    rows = x.size // LINE
    flat, into, whole = x.reshape(-1), y.reshape(-1), rows * LINE
    line = zeros(x.dtype)
    np.maximum(flat[:whole].reshape(rows, LINE), line, out=into[:whole].reshape(rows, LINE))
    np.maximum(flat[whole:], line[: x.size - whole], out=into[whole:])
    return y


@lru_cache(16)
def zeros(dtype: Any) -> Array:
    return np.zeros(LINE, dtype)


def elu(x: Array) -> Array:
    """x where x > 0, else e^x - 1."""
    y: Array = np.where(np.greater(x, 0), x, np.expm1(np.minimum(x, 0)))
    return y if y.ndim else y[()]


def mish(x: Array) -> Array:
    """x tanh(log(1 + e^x)) = x n / (n + 2) with n = e^x (e^x + 2)."""
    return points(x, _mish)


def _mish(x: Array) -> Array:
    e = np.exp(np.minimum(x, FORTY))
    n = e * (e + TWO)
    n /= n + TWO
    n *= np.maximum(x, -800.0)
    return acc.far_left(x, np.maximum(x, -800.0), n)


def dmish(x: Array) -> Array:
    """t + x t' with t = tanh(softplus x), t' = 4 e^x (1 + e^x) / (n + 2)^2."""
    return points(x, _dmish)


def _dmish(x: Array) -> Array:
    e = np.exp(np.minimum(x, FORTY))
    n = e * (e + TWO)
    z = np.minimum(np.maximum(x, -800.0), 800.0)
    y = n + z * (4 * e) * ((ONE + e) / (n + TWO))
    y /= n + TWO
    return acc.far_left(x, np.maximum(x, -800.0) + ONE, y)


def softsign(x: Array) -> Array:
    """x / (1 + |x|), and the sign of x where it is infinite."""
    if np.result_type(x).kind == "c":
        raise TypeError("softsign takes real numbers")
    size = np.abs(x)
    with np.errstate(invalid="ignore"):
        y = np.where(np.isinf(size), np.sign(x), x / (1 + size))
    return y if y.ndim else y[()]


def tanhshrink(x: Array) -> Array:
    """x - tanh x; near 0 x r / (1 + r) with r = x^2 / (3 + x^2 / (5 + ..)), where that cancels."""
    return points(x, lambda x: inside(x, 1.0, _tanhshrink_near, lambda x: x - np.tanh(x)))


def _tanhshrink_near(x: Array) -> Array:
    square = x * x
    r = square / 19.0
    for k in range(17, 1, -2):
        r = square / (k + r)
    return x * (r / (ONE + r))


def sinc(x: Array, n: int) -> Array:
    """The n-th derivative of s(x) = sin(pi x) / (pi x).

    With y = pi x and s_k the k-th derivative in y, differentiating y s = sin y gives
    y s_k + k s_(k-1) = sin(y + k pi/2): upwards from s_0 where y > n + 1, downwards from a far k,
    whose error dies out, where y < n + 1 (the Miller recurrence, DLMF 3.6). An error is a few ulps
    of the largest |s_n| near by.
    """
    bound = (n + 1) / math.pi
    scale = math.pi**n * (1.0 + n * 3.9e-17)  # pi is 3.9e-17 of itself above math.pi

    def core(x: Array) -> Array:
        y = inside(np.absolute(x), bound, lambda a: _sinc_down(a, n), lambda a: _sinc_up(a, n))
        y *= np.copysign(scale, x) if n % 2 else scale
        return y

    return points(x, core)


def _waves(a: Array) -> tuple[Array, ...]:
    """sin(pi a + k pi/2) for k = 0, 1, 2, 3, from a reduced exactly."""
    r = np.minimum(a, 2.0**60)
    r = r - TWO * np.rint(r * HALF)
    q = np.absolute(r)
    sin = np.sin(PI * np.where(q > HALF, np.copysign(ONE, r) - r, r))
    cos = np.sin(PI * (HALF - q))
    return sin, cos, -sin, -cos


def _sinc_up(a: Array, n: int) -> Array:
    wave, w = _waves(a), 1.0 / math.pi / a
    s = wave[0] * w
    for k in range(1, n + 1):
        s = (wave[k % 4] - k * s) * w
    return s


def _sinc_down(a: Array, n: int) -> Array:
    wave, y = _waves(a), PI * a
    top, error = n, 1.0
    while error > 1e-19:
        top += 1
        error *= (n + 1) / top
    s = np.zeros_like(a)
    for k in range(top, n, -1):
        s = (wave[k % 4] - y * s) / k
    return s
