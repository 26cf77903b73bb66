"""The real elementwise operations and their first two derivatives, in mpmath."""

from __future__ import annotations

import math
from typing import Any

from mpmath import mp, mpf

mp.dps = 60
LN2, LN10 = mp.ln2, mp.ln10
half, one = mpf(1) / 2, mpf(1)


def erfc(x):
    """mpmath's, which fails from about 1e10 on; 0 to any double long before."""
    return mp.erfc(max(min(x, mpf(1000)), mpf(-1000)))


def sg(x):
    return mp.sign(x)


def sigmoid(x):
    return 1 / (1 + mp.exp(-x)) if x > -60 else mp.exp(x) / (1 + mp.exp(x))


def bell(x):
    e = mp.exp(-abs(x))
    return e / (1 + e) ** 2


def sech2(x):
    return 4 * bell(2 * x)


def tail(x):
    return mp.exp(-x * x)


def phi(x):
    return mp.exp(-x * x / 2) / mp.sqrt(2 * mp.pi)


def cdf(x):
    return erfc(-x / mp.sqrt(2)) / 2


def square1(x):
    return 1 + x * x


def softplus(x):
    return mp.log1p(mp.exp(-abs(x))) + max(x, mpf(0))


def sinc(n):
    def f(x):
        if x == 0:
            return mpf((1, 0, -1, 0)[n % 4]) * mp.pi**n / (n + 1)
        with mp.workprec(mp.prec + 200 + n * max(0, -mp.frexp(x)[1]) * 2):
            y = mp.pi * x
            s = mp.sin(y) / y
            for k in range(1, n + 1):
                s = (mp.sin(y + k * mp.pi / 2) - k * s) / y
        return +s * mp.pi**n

    return f


def mish(n):
    """The n-th derivative of x tanh(softplus x)."""

    def f(x):
        x = max(min(x, mpf(10) ** 6), -(mpf(10) ** 6))
        z, other, u0 = sigmoid(x), sigmoid(-x), mp.tanh(softplus(x))
        u = sech2(softplus(x)) * z
        w = other - 2 * u0 * z
        v = -z * other - 2 * (u * z + u0 * z * other)
        return (x * u0, u0 + x * u, u * (2 + x * w), u * (3 * w + x * (w * w + v)))[n]

    return lambda x: f(x) if abs(x) < 10**6 else (max(x, mpf(0)), mpf(x > 0), mpf(0), mpf(0))[n]


def gelu_tanh(n):
    """The n-th derivative of x sigmoid(v), v = 2 sqrt(2 / pi) (x + 0.044715 x^3)."""

    def f(x):
        a = 2 * mp.sqrt(2 / mp.pi)
        b = a * mpf("0.044715")
        v, v1, v2, v3 = a * x + b * x**3, a + 3 * b * x * x, 6 * b * x, 6 * b
        s, s1 = sigmoid(v), bell(v)
        s2, s3 = -mp.tanh(v / 2) * s1, s1 * (1 - 6 * s1)
        return (
            x * s,
            s + x * s1 * v1,
            2 * s1 * v1 + x * (s2 * v1**2 + s1 * v2),
            3 * (s2 * v1**2 + s1 * v2) + x * (s3 * v1**3 + 3 * s2 * v1 * v2 + s1 * v3),
        )[n]

    return lambda x: f(x) if abs(x) < 10**6 else (max(x, mpf(0)), mpf(x > 0), mpf(0), mpf(0))[n]


def shrunk(x):
    """x - tanh x, with the digits that it loses near 0."""
    with mp.workprec(mp.prec + 200 + 2 * max(0, -mp.frexp(x)[1])):
        y = x - mp.tanh(x)
    return +y


UNARY: dict[str, tuple[Any, Any, Any]] = {
    "abs": (abs, sg, lambda x: mpf(0)),
    "abs2": (lambda x: x * x, lambda x: 2 * x, lambda x: mpf(2)),
    "arccos": (
        mp.acos,
        lambda x: -1 / mp.sqrt((1 - x) * (1 + x)),
        lambda x: -x / ((1 - x) * (1 + x)) ** 1.5,
    ),
    "arccosh": (
        mp.acosh,
        lambda x: 1 / mp.sqrt((x - 1) * (x + 1)),
        lambda x: -x / ((x - 1) * (x + 1)) ** 1.5,
    ),
    "arcsin": (
        mp.asin,
        lambda x: 1 / mp.sqrt((1 - x) * (1 + x)),
        lambda x: x / ((1 - x) * (1 + x)) ** 1.5,
    ),
    "arcsinh": (mp.asinh, lambda x: 1 / mp.sqrt(square1(x)), lambda x: -x / square1(x) ** 1.5),
    "arctan": (mp.atan, lambda x: 1 / square1(x), lambda x: -2 * x / square1(x) ** 2),
    "arctanh": (
        mp.atanh,
        lambda x: 1 / ((1 - x) * (1 + x)),
        lambda x: 2 * x / ((1 - x) * (1 + x)) ** 2,
    ),
    "cauchy": (
        lambda x: 1 / square1(x),
        lambda x: -2 * x / square1(x) ** 2,
        lambda x: (6 * x * x - 2) / square1(x) ** 3,
    ),
    "cbrt": (
        lambda x: sg(x) * mp.cbrt(abs(x)),
        lambda x: 1 / (3 * mp.cbrt(abs(x)) ** 2),
        lambda x: -2 * sg(x) / (9 * mp.cbrt(abs(x)) ** 5),
    ),
    "conj": (lambda x: x, lambda x: mpf(1), lambda x: mpf(0)),
    "copy": (lambda x: x, lambda x: mpf(1), lambda x: mpf(0)),
    "cos": (mp.cos, lambda x: -mp.sin(x), lambda x: -mp.cos(x)),
    "cosh": (mp.cosh, mp.sinh, mp.cosh),
    "dcbrt": (
        lambda x: 1 / (3 * mp.cbrt(abs(x)) ** 2),
        lambda x: -2 * sg(x) / (9 * mp.cbrt(abs(x)) ** 5),
        lambda x: 10 / (27 * mp.cbrt(abs(x)) ** 8),
    ),
    "deg2rad": (lambda x: x * mp.pi / 180, lambda x: mp.pi / 180, lambda x: mpf(0)),
    "degrees": (lambda x: x / mp.pi * 180, lambda x: 180 / mp.pi, lambda x: mpf(0)),
    "dsigmoid": (bell, lambda x: -mp.tanh(x / 2) * bell(x), lambda x: bell(x) * (1 - 6 * bell(x))),
    "dgelu": (
        lambda x: cdf(x) + x * phi(x),
        lambda x: (2 - x * x) * phi(x),
        lambda x: x * (x * x - 4) * phi(x),
    ),
    "dsilu": (
        lambda x: sigmoid(x) + x * bell(x),
        lambda x: bell(x) * (2 - x * mp.tanh(x / 2)),
        lambda x: bell(x) * (x * (1 - 6 * bell(x)) - 3 * mp.tanh(x / 2)),
    ),
    "dgelu_tanh": (gelu_tanh(1), gelu_tanh(2), gelu_tanh(3)),
    "dmish": (mish(1), mish(2), mish(3)),
    "elu": (
        lambda x: x if x > 0 else mp.expm1(x),
        lambda x: mp.exp(min(x, mpf(0))),
        lambda x: mpf(0) if x > 0 else mp.exp(x),
    ),
    "erf": (
        mp.erf,
        lambda x: 2 / mp.sqrt(mp.pi) * tail(x),
        lambda x: -4 * x / mp.sqrt(mp.pi) * tail(x),
    ),
    "erfc": (
        erfc,
        lambda x: -2 / mp.sqrt(mp.pi) * tail(x),
        lambda x: 4 * x / mp.sqrt(mp.pi) * tail(x),
    ),
    "exp": (mp.exp, mp.exp, mp.exp),
    "exp2": (lambda x: mpf(2) ** x, lambda x: mpf(2) ** x * LN2, lambda x: mpf(2) ** x * LN2**2),
    "expm1": (mp.expm1, mp.exp, mp.exp),
    "gauss": (tail, lambda x: -2 * x * tail(x), lambda x: (4 * x * x - 2) * tail(x)),
    "gelu": (
        lambda x: x * cdf(x),
        lambda x: cdf(x) + x * phi(x),
        lambda x: (2 - x * x) * phi(x),
    ),
    "gelu_tanh": (gelu_tanh(0), gelu_tanh(1), gelu_tanh(2)),
    "imag": (lambda x: mpf(0), lambda x: mpf(0), lambda x: mpf(0)),
    "log": (mp.log, lambda x: 1 / x, lambda x: -1 / x**2),
    "log10": (mp.log10, lambda x: 1 / (x * LN10), lambda x: -1 / (x**2 * LN10)),
    "log1p": (mp.log1p, lambda x: 1 / (1 + x), lambda x: -1 / (1 + x) ** 2),
    "log2": (lambda x: mp.log(x) / LN2, lambda x: 1 / (x * LN2), lambda x: -1 / (x**2 * LN2)),
    "log_sigmoid": (lambda x: -softplus(-x), lambda x: sigmoid(-x), lambda x: -bell(x)),
    "lorentz": (
        lambda x: 1 / mp.sqrt((1 - x) * (1 + x)),
        lambda x: x / ((1 - x) * (1 + x)) ** 1.5,
        lambda x: (1 + 2 * x * x) / ((1 - x) * (1 + x)) ** 2.5,
    ),
    "lorentz2": (
        lambda x: 1 / ((1 - x) * (1 + x)),
        lambda x: 2 * x / ((1 - x) * (1 + x)) ** 2,
        lambda x: (2 + 6 * x * x) / ((1 - x) * (1 + x)) ** 3,
    ),
    "mish": (mish(0), mish(1), mish(2)),
    "neg": (lambda x: -x, lambda x: mpf(-1), lambda x: mpf(0)),
    "normal_cdf": (cdf, phi, lambda x: -x * phi(x)),
    "normal_pdf": (phi, lambda x: -x * phi(x), lambda x: (x * x - 1) * phi(x)),
    "positive": (lambda x: x, lambda x: mpf(1), lambda x: mpf(0)),
    "rad2deg": (lambda x: x / mp.pi * 180, lambda x: 180 / mp.pi, lambda x: mpf(0)),
    "radians": (lambda x: x * mp.pi / 180, lambda x: mp.pi / 180, lambda x: mpf(0)),
    "real": (lambda x: x, lambda x: mpf(1), lambda x: mpf(0)),
    "reciprocal": (lambda x: 1 / x, lambda x: -1 / x**2, lambda x: 2 / x**3),
    "relu": (lambda x: max(x, mpf(0)), lambda x: mpf(x > 0), lambda x: mpf(0)),
    "root": (mp.sqrt, lambda x: half / mp.sqrt(x), lambda x: -1 / (4 * x * mp.sqrt(x))),
    "sech2": (
        sech2,
        lambda x: -2 * mp.tanh(x) * sech2(x),
        lambda x: sech2(x) * (4 - 6 * sech2(x)),
    ),
    "sigmoid": (sigmoid, bell, lambda x: -mp.tanh(x / 2) * bell(x)),
    "silu": (
        lambda x: x * sigmoid(x),
        lambda x: sigmoid(x) + x * bell(x),
        lambda x: bell(x) * (2 - x * mp.tanh(x / 2)),
    ),
    "sin": (mp.sin, mp.cos, lambda x: -mp.sin(x)),
    "sinc": (sinc(0), sinc(1), sinc(2)),
    "sinh": (mp.sinh, mp.cosh, mp.sinh),
    "softplus": (softplus, sigmoid, bell),
    "softsign": (
        lambda x: x / (1 + abs(x)),
        lambda x: 1 / (1 + abs(x)) ** 2,
        lambda x: -2 * sg(x) / (1 + abs(x)) ** 3,
    ),
    "sqrt": (mp.sqrt, lambda x: half / mp.sqrt(x), lambda x: -1 / (4 * x * mp.sqrt(x))),
    "square": (lambda x: x * x, lambda x: 2 * x, lambda x: mpf(2)),
    "tan": (
        mp.tan,
        lambda x: 1 + mp.tan(x) ** 2,
        lambda x: 2 * mp.tan(x) * (1 + mp.tan(x) ** 2),
    ),
    "tanhshrink": (
        shrunk,
        lambda x: mp.tanh(x) ** 2,
        lambda x: 2 * mp.tanh(x) * sech2(x),
    ),
    "tanh": (mp.tanh, sech2, lambda x: -2 * mp.tanh(x) * sech2(x)),
}


def circle(a, b):
    return a * a + b * b


def greater(a, b):
    return max(a, b), mpf(a > b) + half * mpf(a == b), mpf(b > a) + half * mpf(a == b), 0, 0, 0


def lesser(a, b):
    return min(a, b), mpf(a < b) + half * mpf(a == b), mpf(b < a) + half * mpf(a == b), 0, 0, 0


def power(a, b):
    y, g = a**b, mp.log(a)
    return y, b * y / a, y * g, b * (b - 1) * y / a**2, y / a * (1 + b * g), y * g * g


def arctan2(a, b):
    r = circle(a, b)
    aa, ab = -2 * a * b / r**2, (a - b) * (a + b) / r**2
    return mp.atan2(a, b), b / r, -a / r, aa, ab, -aa


def hypot(a, b):
    r = mp.sqrt(circle(a, b))
    return r, a / r, b / r, b * b / r**3, -a * b / r**3, a * a / r**3


def cosine(a, b):
    r = mp.sqrt(circle(a, b))
    aa, ab, bb = -3 * a * b * b, b * (2 * a * a - b * b), a * (2 * b * b - a * a)
    return a / r, b * b / r**3, -a * b / r**3, aa / r**5, ab / r**5, bb / r**5


def turn(a, b):
    r = circle(a, b)
    y, u, v = b / r, -2 * a * b / r**2, (a - b) * (a + b) / r**2
    bb = 2 * b * (b * b - 3 * a * a) / r**3
    return y, u, v, -bb, 2 * a * (3 * b * b - a * a) / r**3, bb


def share(a, b, k=one):
    s, e = sigmoid((a - b) * k), bell((a - b) * k) * k
    t = -mp.tanh((a - b) * k / 2) * e * k
    return s, e, -e, t, -t, t


def logaddexp(a, b, k=one):
    s, e = sigmoid((a - b) * k), bell((a - b) * k) * k
    return max(a, b) + mp.log1p(mp.exp(-abs(a - b) * k)) / k, s, sigmoid((b - a) * k), e, -e, e


def by_cosh2(a, b):
    y, t = sech2(b), mp.tanh(b)
    return a * y, y, -2 * a * t * y, 0, -2 * t * y, a * y * (4 - 6 * y)


def fmod(a, b):
    return sg(a) * mp.fmod(abs(a), abs(b)), 1, -sg(a) * sg(b) * mp.floor(abs(a / b)), 0, 0, 0


def copysign(a, b):
    return abs(a) * sg(b), sg(a) * sg(b), 0, 0, 0, 0


# value, d/da, d/db, d2/da2, d2/dadb, d2/db2
BINARY: dict[str, Any] = {
    "add": lambda a, b: (a + b, 1, 1, 0, 0, 0),
    "arctan2": arctan2,
    "by_cosh2": by_cosh2,
    "copysign": copysign,
    "cosine": cosine,
    "div": lambda a, b: (a / b, 1 / b, -a / b**2, 0, -1 / b**2, 2 * a / b**3),
    "float_power": power,
    "fmax": greater,
    "fmin": lesser,
    "fmod": fmod,
    "hypot": hypot,
    "logaddexp": logaddexp,
    "logaddexp2": lambda a, b: logaddexp(a, b, LN2),
    "maximum": greater,
    "minimum": lesser,
    "mul": lambda a, b: (a * b, b, a, 0, 1, 0),
    "mul_mask": lambda a, b: (a * b, b, a, 0, 1, 0),
    "nextafter": lambda a, b: (mpf(math.nextafter(float(a), float(b))), 1, 0, 0, 0, 0),
    "pow": power,
    "remainder": lambda a, b: (a - b * mp.floor(a / b), 1, -mp.floor(a / b), 0, 0, 0),
    "share": share,
    "share2": lambda a, b: share(a, b, LN2),
    "sub": lambda a, b: (a - b, 1, -1, 0, 0, 0),
    "turn": turn,
    "unit_vector": lambda a, b: (a / b, 1 / b, -a / b**2, 0, -1 / b**2, 2 * a / b**3),
}
MASKS = {"where", "clip"}  # three arguments, and a derivative of 0 or 1
