"""Value, first and second derivative of every real elementwise operation, in ulps of mpmath's.

Points run from the smallest subnormal to the largest double, with many of ordinary size, both
signs, inside the domain. Values are held to 2 ulps, derivatives to 4 wherever the value is within
2; what does not keep that stands in `EXCEPTIONS`, with a bound just above what was measured at 10^4
points and the reason, or in `DOMAIN`.
"""

from __future__ import annotations

import zlib
from typing import Any, NamedTuple

import numpy as np
import pytest
from exact import (
    BINARY,
    LN2,
    MASKS,
    UNARY,
    bell,
    cdf,
    circle,
    half,
    one,
    phi,
    power,
    sech2,
    sigmoid,
    sinc,
    square1,
    tail,
)
from mpmath import mp, mpf

import wengert as wg
from wengert import native
from wengert.errors import MissingExtraError
from wengert.ops import accurate, elementwise, gauss_native, slopes
from wengert.primitive import Elementwise
from wengert.structural import chosen
from wengert.trace import OPS

# ------------------------------------------------------------------ points

TINY, HUGE = 1e-290, 1e300
DOMAIN: dict[str, Any] = {
    **dict.fromkeys(("log", "log2", "log10", "sqrt", "root"), lambda x: x > 0),
    **dict.fromkeys(
        ("arcsin", "arccos", "arctanh", "lorentz", "lorentz2"), lambda x: np.abs(x) < 1
    ),
    "arccosh": lambda x: x > 1,
    "log1p": lambda x: x > -1,
    **dict.fromkeys(("sin", "cos", "tan", "sinc"), lambda x: np.abs(x) < 1e15),
    **dict.fromkeys(("remainder", "fmod"), lambda a, b: np.abs(a / b) < 1e15),
    # not promised: where 2 x, x^2, 1/a or 1/h^2 overflows, and where b, h or a/b is subnormal
    "gauss": lambda x: np.abs(x) < HUGE,
    "dgelu": lambda x: np.abs(x) < HUGE**0.5,
    **dict.fromkeys(("pow", "float_power"), lambda a, b: (a > TINY) & (np.abs(b) > TINY)),
    **dict.fromkeys(
        ("hypot", "arctan2"),
        lambda a, b: (np.hypot(a, b) > TINY) & (np.abs(np.log10(np.abs(a / b))) < 290),
    ),
    **dict.fromkeys(
        ("cosine", "turn", "unit_vector"),
        lambda a, b: (np.minimum(np.abs(a), np.abs(b)) > 1e-70) & (np.hypot(a, b) < 1e70),
    ),
}
AT_ONE = {"arcsin", "arccos", "arctanh", "lorentz", "lorentz2", "log1p", "arccosh"}


def spread(rng, n):
    """n numbers of every magnitude, n within 60 octaves of 1 and n of ordinary size, both signs."""
    ordinary = np.concatenate([rng.uniform(0, s, n // 3 + 1) for s in (1.5, 6, 40)])[:n]
    x = [2.0 ** rng.uniform(-1074, 1023.99, n), 2.0 ** rng.uniform(-60, 10, n), ordinary]
    return np.concatenate(x) * rng.choice([-1.0, 1.0], 3 * n)


def points(name, n, seed=0):
    rng = np.random.default_rng(zlib.crc32(name.encode()) + seed)
    xs = [spread(rng, n) for _ in OPS[name].args]
    if name in AT_ONE:
        close = 1 - 2.0 ** rng.uniform(-52, 0, n)
        xs[0] = np.concatenate([xs[0], 1 / close if name == "arccosh" else close, -close])
    with np.errstate(all="ignore"):
        inside = DOMAIN.get(name, lambda *xs: np.ones(xs[0].shape, bool))(*xs)
    return [x[inside] for x in xs]


# ------------------------------------------------------------------ what is held, and what is not


class Exempt(NamedTuple):
    bound: float  # in ulps of `terms`, where given, else of the value
    why: str
    terms: Any = None


NORMAL, TOP = mpf(2) ** -1022, mpf(2) ** 1024
FLOOR = mpf(2) ** -1010  # results below have a factor that lost bits as a subnormal number
ROOT = "terms cancel at a root; ulps of the terms"
TAIL = "a factor is subnormal before the product is; ulps of 1e-304 at least"
BOTH = f"{ROOT}, of 1e-304 at least"
EXPONENT = "the exponent is rounded; ulps of the terms times it, of 1e-304 at least"
POLYNOMIAL = (
    "a polynomial times a subnormal factor; ulps of the terms times the exponent, of 1e-298 at "
    "least"
)
LOST = FLOOR * 2**20
SUM = "several roundings, none magnified"
NUMPY = "NumPy's own value"


def above(f):
    return lambda *x: max(abs(f(*x)), FLOOR)


def cauchy_terms(x):
    return (6 * x * x + 2) / square1(x) ** 3


def sinc_terms(n):
    return lambda x: mp.pi**n / (abs(mp.pi * x) + n + 1)


POWER = {
    "a": above(lambda a, b: power(a, b)[1]),
    "b": above(lambda a, b: power(a, b)[2]),
    "aa": above(lambda a, b: power(a, b)[3]),
    "ab": above(lambda a, b: a**b / a * (1 + abs(b * mp.log(a)))),
    "bb": above(lambda a, b: power(a, b)[5]),
}


def cosine_terms(a, b):
    return 3 * circle(abs(a), abs(b)) ** (-one)


def turn_terms(a, b):
    return 8 * circle(a, b) ** (-3 * half)


def tanh_terms(x):
    """Of gelu_tanh and its derivatives; e^-v magnifies the rounding of v by |v|."""
    x = max(min(x, mpf(50)), mpf(-50))
    a = 2 * mp.sqrt(2 / mp.pi)
    v, v1 = a * x + a * mpf("0.044715") * x**3, a + a * mpf("0.134145") * x * x
    s, s1, v2, x = sigmoid(v), bell(v), a * mpf("0.26829") * abs(x), abs(x)
    first = s + x * s1 * v1
    second = s1 * (2 * v1 + x * (v1**2 + v2))
    third = s1 * (3 * (v1**2 + v2) + x * (3 * v1**3 + 3 * v1 * v2 + 1))
    return [t * (1 + abs(v)) for t in (x * s, first, second, third)]


def mish_terms(x):
    n, z = sigmoid(-x), sigmoid(x)
    u = 4 * z * (n / (1 + n * n)) ** 2
    return 0, z * (1 + n) / (1 + n * n) + abs(x) * u, u * (2 + 3 * abs(x)), u * (9 + 15 * abs(x))


EXCEPTIONS: dict[tuple[str, str], Exempt] = {
    ("arccosh", "aa"): Exempt(6, SUM),
    ("arcsinh", "aa"): Exempt(5, SUM),
    ("arctan", "aa"): Exempt(5, SUM),
    ("arctan2", "aa"): Exempt(6, SUM),
    ("arctanh", "aa"): Exempt(5, SUM),
    ("arctan2", "ab"): Exempt(7, SUM),
    ("arctan2", "bb"): Exempt(6, SUM),
    ("by_cosh2", "y"): Exempt(4, "cosh twice, for speed"),
    ("by_cosh2", "b"): Exempt(5, "cosh twice, for speed"),
    ("by_cosh2", "bb"): Exempt(5, ROOT, lambda a, b: abs(a) * sech2(b) * (4 + 6 * sech2(b))),
    ("cauchy", "a"): Exempt(5, SUM),
    ("cauchy", "aa"): Exempt(9, ROOT, cauchy_terms),
    ("cosine", "a"): Exempt(5, SUM),
    ("cosine", "b"): Exempt(5, SUM),
    ("cosine", "aa"): Exempt(4, ROOT, cosine_terms),
    ("cosine", "ab"): Exempt(4, ROOT, cosine_terms),
    ("cosine", "bb"): Exempt(4, ROOT, cosine_terms),
    ("dcbrt", "aa"): Exempt(5, SUM),
    ("dgelu", "y"): Exempt(4, BOTH, above(lambda x: cdf(x) + abs(x) * phi(x))),
    ("dgelu", "a"): Exempt(4, BOTH, above(lambda x: (2 + x * x) * phi(x))),
    ("dgelu", "aa"): Exempt(12, BOTH, above(lambda x: abs(x) * (4 + x * x) * phi(x))),
    ("dsigmoid", "y"): Exempt(2.6, "five roundings, for speed"),
    ("dsigmoid", "aa"): Exempt(4, ROOT, lambda x: bell(x) * (1 + 6 * bell(x))),
    ("dsilu", "y"): Exempt(4, ROOT, lambda x: sigmoid(x) + abs(x) * bell(x)),
    ("dsilu", "a"): Exempt(4, BOTH, above(lambda x: bell(x) * (2 + abs(x)))),
    ("dsilu", "aa"): Exempt(4, BOTH, above(lambda x: bell(x) * (3 + abs(x)))),
    ("erf", "aa"): Exempt(4, TAIL, above(lambda x: 4 * x * tail(x))),
    ("erfc", "aa"): Exempt(4, TAIL, above(lambda x: 4 * x * tail(x))),
    **{("float_power", k): Exempt(4, BOTH, v) for k, v in POWER.items()},
    ("gauss", "a"): Exempt(4, TAIL, above(lambda x: 2 * x * tail(x))),
    ("gauss", "aa"): Exempt(4, BOTH, above(lambda x: (4 * x * x + 2) * tail(x))),
    ("dgelu_tanh", "y"): Exempt(4, EXPONENT, above(lambda x: tanh_terms(x)[1])),
    ("dgelu_tanh", "a"): Exempt(4, POLYNOMIAL, lambda x: max(tanh_terms(x)[2], LOST)),
    ("dgelu_tanh", "aa"): Exempt(4, POLYNOMIAL, lambda x: max(tanh_terms(x)[3], LOST)),
    ("dmish", "y"): Exempt(4, BOTH, above(lambda x: mish_terms(x)[1])),
    ("dmish", "a"): Exempt(5, BOTH, above(lambda x: mish_terms(x)[2])),
    ("dmish", "aa"): Exempt(5, BOTH, above(lambda x: mish_terms(x)[3])),
    ("gelu", "a"): Exempt(4, BOTH, above(lambda x: cdf(x) + abs(x) * phi(x))),
    ("gelu", "aa"): Exempt(4, BOTH, above(lambda x: (2 + x * x) * phi(x))),
    ("gelu_tanh", "y"): Exempt(4, EXPONENT, above(lambda x: tanh_terms(x)[0])),
    ("gelu_tanh", "a"): Exempt(4, EXPONENT, above(lambda x: tanh_terms(x)[1])),
    ("gelu_tanh", "aa"): Exempt(4, POLYNOMIAL, lambda x: max(tanh_terms(x)[2], LOST)),
    ("hypot", "aa"): Exempt(5, SUM),
    ("hypot", "ab"): Exempt(5, SUM),
    ("hypot", "bb"): Exempt(5, SUM),
    ("logaddexp", "y"): Exempt(np.inf, NUMPY),
    ("logaddexp2", "y"): Exempt(np.inf, NUMPY),
    ("lorentz", "y"): Exempt(2.5, "four roundings"),
    ("lorentz", "aa"): Exempt(7, SUM),
    ("lorentz2", "a"): Exempt(5, SUM),
    ("lorentz2", "aa"): Exempt(8, SUM),
    ("mish", "y"): Exempt(4, SUM),
    ("mish", "a"): Exempt(4, BOTH, above(lambda x: mish_terms(x)[1])),
    ("mish", "aa"): Exempt(5, BOTH, above(lambda x: mish_terms(x)[2])),
    ("normal_cdf", "aa"): Exempt(4, TAIL, above(lambda x: x * phi(x))),
    ("normal_pdf", "a"): Exempt(4, TAIL, above(lambda x: x * phi(x))),
    ("normal_pdf", "aa"): Exempt(4, BOTH, above(lambda x: (x * x + 1) * phi(x))),
    **{("pow", k): Exempt(4, BOTH, v) for k, v in POWER.items()},
    ("root", "aa"): Exempt(5, SUM),
    ("sech2", "y"): Exempt(2.6, "five roundings, for speed"),
    ("sech2", "aa"): Exempt(4, BOTH, above(lambda x: sech2(x) * (4 + 6 * sech2(x)))),
    ("share", "aa"): Exempt(4, ROOT, lambda a, b: bell(a - b)),
    ("share", "ab"): Exempt(4, ROOT, lambda a, b: bell(a - b)),
    ("share", "bb"): Exempt(4, ROOT, lambda a, b: bell(a - b)),
    ("share2", "a"): Exempt(5, SUM),
    ("share2", "b"): Exempt(5, SUM),
    ("share2", "aa"): Exempt(4, ROOT, lambda a, b: bell((a - b) * LN2)),
    ("share2", "ab"): Exempt(4, ROOT, lambda a, b: bell((a - b) * LN2)),
    ("share2", "bb"): Exempt(4, ROOT, lambda a, b: bell((a - b) * LN2)),
    ("silu", "y"): Exempt(3, "five roundings, for speed"),
    ("silu", "a"): Exempt(4, BOTH, above(lambda x: sigmoid(x) + abs(x) * bell(x))),
    ("silu", "aa"): Exempt(4, BOTH, above(lambda x: bell(x) * (2 + abs(x)))),
    ("sinc", "y"): Exempt(np.inf, NUMPY),
    ("sinc", "a"): Exempt(5, ROOT, sinc_terms(1)),
    ("sinc", "aa"): Exempt(5, ROOT, sinc_terms(2)),
    ("softsign", "aa"): Exempt(5, SUM),
    ("sqrt", "aa"): Exempt(5, SUM),
    ("tanh", "a"): Exempt(4.5, "cosh twice, for speed"),
    ("tanh", "aa"): Exempt(5, "cosh twice, for speed"),
    ("tanhshrink", "y"): Exempt(4, SUM),
    ("tanhshrink", "aa"): Exempt(5, "cosh twice, for speed"),
    ("turn", "y"): Exempt(3, SUM),
    ("turn", "a"): Exempt(6, SUM),
    ("turn", "b"): Exempt(7, SUM),
    ("turn", "aa"): Exempt(4, ROOT, turn_terms),
    ("turn", "ab"): Exempt(4, ROOT, turn_terms),
    ("turn", "bb"): Exempt(4, ROOT, turn_terms),
}


def bound(name, which):
    """(the bound in ulps, what the ulps are of) of one value or derivative."""
    held = EXCEPTIONS.get((name, which))
    return (held.bound, held.terms) if held else (2.0 if which == "y" else 4.0, None)


# ------------------------------------------------------------------ measuring


def ulps(got, want, terms=None):
    """|got - want| in units in the last place of `want`, or of `terms`."""
    size = abs(want) if terms is None else abs(terms)
    if not np.isfinite(got):
        return 0.0 if size >= TOP * (1 - mpf(2) ** -50) and (got > 0) == (want > 0) else np.inf
    if abs(want) >= TOP:
        return 0.0 if abs(got) == np.finfo(float).max else np.inf
    exponent = max(mp.frexp(size)[1] - 53, -1074) if size else -1074
    return float(abs(mpf(got) - want) / mpf(2) ** exponent)


def references(name):
    if name in UNARY:
        f, f1, f2 = UNARY[name]
        return lambda x: {"y": f(x), "a": f1(x), "aa": f2(x)}
    return lambda a, b: dict(zip(("y", "a", "b", "aa", "ab", "bb"), BINARY[name](a, b)))


def computed(op, xs):
    """The value and every derivative, forward and reverse: [(which, values), ..]."""
    ones = np.ones_like(xs[0])
    live = [i for i in range(len(xs)) if op.partials[i] is not None]
    out = [("y", op(*xs))]

    def at(ws, i, v):
        return [*ws[:i], v, *ws[i + 1 :]]

    def push(ws, i):
        return wg.jvp(lambda v: op(*at(ws, i, v)), (ws[i],), (ones,))[1]

    def pull(ws, i):
        return wg.vjp(lambda v: op(*at(ws, i, v)), ws[i])[1](ones)[0]

    for i in live:
        out += [("ab"[i], push(xs, i)), ("ab"[i], pull(xs, i))]
        for j in live[live.index(i) :]:
            forward = wg.jvp(lambda v, i=i, j=j: push(at(xs, j, v), i), (xs[j],), (ones,))[1]
            reverse = wg.vjp(lambda v, i=i, j=j: pull(at(xs, j, v), i), xs[j])[1](ones)[0]
            out += [("ab"[i] + "ab"[j], forward), ("ab"[i] + "ab"[j], reverse)]
    return out


def measure(name, n, seed=0):
    """The worst error of an operation's value and of each derivative: {which: (ulps, point)}."""
    xs = points(name, n, seed)
    at = list(zip(*(x.tolist() for x in xs)))
    wants = [references(name)(*(mpf(v) for v in p)) for p in at]
    with np.errstate(all="ignore"):
        results = computed(OPS[name], xs)
    worst: dict[str, tuple[float, Any]] = {}
    trusted = np.ones(len(at), bool)
    for which, values in results:
        limit, terms = bound(name, which)
        for k, got in enumerate(np.asarray(values, float).tolist()):
            want = mpf(wants[k][which])
            y = abs(wants[k]["y"])
            if not trusted[k] or 0 < y < min(NORMAL, abs(want)) or y > TOP > abs(want):
                continue  # a subnormal or infinite value has lost bits, and a slope made of it too
            against = terms(*(mpf(v) for v in at[k])) if terms else None
            error = ulps(got, want, against)
            if which == "y":
                trusted[k] = error <= (2.0 if limit == np.inf else limit)
            if not error <= worst.get(which, (-1.0,))[0]:
                worst[which] = error, at[k]
    return worst


def names():
    return sorted({*UNARY, *BINARY} & set(OPS))


# ------------------------------------------------------------------ tests


def check(name, n, seed=0):
    for which, (error, at) in measure(name, n, seed).items():
        assert error <= bound(name, which)[0], f"{name} {which}: {error:.3g} ulps at {at}"


def test_every_operation_of_the_table_has_a_reference():
    table = {v.name for v in vars(elementwise).values() if isinstance(v, Elementwise)}
    assert table <= {*UNARY, *BINARY, *MASKS}


@pytest.mark.parametrize("name", names())
def test_ulps(name):
    check(name, 50)


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_ulps_at_many_points(name):
    check(name, 500, seed=1)


@pytest.mark.parametrize(
    ("f", "x", "want"),
    [
        (np.tanh, 20.0, sech2),
        (np.tanh, 300.0, sech2),
        (elementwise.sigmoid, 40.0, bell),
        (np.expm1, -40.0, mp.exp),
        (elementwise.erf, 6.0, lambda x: 2 / mp.sqrt(mp.pi) * tail(x)),
        (elementwise.gelu, -12.0, lambda x: cdf(x) + x * phi(x)),
        (lambda x: np.logaddexp(x, 0.1), -700.3, lambda x: sigmoid(x - mpf(0.1))),
        (lambda x: x**0.3, 1e300, lambda x: mpf(0.3) * x ** (mpf(0.3) - 1)),
        (lambda x: np.fmod(0.0794, x), 2.142e-16, lambda x: -mp.floor(mpf(0.0794) / x)),
        (wg.grad(np.arcsin), 1e-20, lambda x: x),
        (wg.grad(lambda x: np.hypot(x, 1.0)), 1e9, lambda x: (1 + x * x) ** (-3 * half)),
    ],
)
def test_what_other_formulas_get_wrong(f, x, want):
    assert ulps(wg.grad(f)(x), want(mpf(x))) <= 4


def test_the_mixed_derivative_of_a_power_at_exponent_0():
    slope = wg.grad(lambda b: wg.grad(lambda a: np.power(a, b))(2.0))
    assert slope(0.0) == 0.5


def test_a_length_has_a_subgradient_and_no_second_derivative_at_0():
    length = lambda x: np.hypot(x[0], x[1])
    assert not wg.grad(length)(np.zeros(2)).any()
    with np.errstate(all="ignore"):
        assert np.isnan(np.diag(wg.hessian(length)(np.zeros(2)))).all()


@pytest.mark.parametrize("n", range(8))
def test_derivatives_of_sinc(n):
    x = points("sinc", 40, seed=n)[0]
    f, terms = sinc(n), sinc_terms(n)
    got = slopes.sinc(x, n).tolist()
    assert max(ulps(g, f(mpf(v)), terms(mpf(v))) for g, v in zip(got, x.tolist())) <= 6


# ------------------------------------------------------------------ the functions themselves

REAL = [
    accurate.erf, accurate.erfc, accurate.gauss, accurate.normal_pdf, accurate.normal_cdf,
    accurate.gelu, accurate.sigmoid, accurate.dsigmoid, accurate.softplus, accurate.silu,
    accurate.sech2, accurate.cauchy, slopes.dsilu, slopes.dgelu, lambda x: slopes.sinc(x, 3),
]  # fmt: skip


@pytest.mark.parametrize("f", REAL)
def test_shapes_dtypes_and_edges_without_a_warning(f):
    for dtype in (np.float16, np.float32, np.float64):
        info = np.finfo(dtype)
        edges = [0, -0.0, np.inf, -np.inf, np.nan, info.max, -info.max, info.tiny]
        x = np.array([*edges, info.smallest_subnormal, 1, -1, 3.5], dtype)
        y = f(x)
        assert y.dtype == dtype
        assert y.base is None
        assert np.isnan(y[4])
        assert not np.isnan(np.delete(y, 4)).any()
        assert f(x[1]) == y[1]
        assert np.array_equal(f(x[::-2]), y[::-2], equal_nan=True)
        assert f(x[:0].reshape(0, 2)).shape == (0, 2)
        grid = np.asfortranarray(np.tile(x, (1000, 1)))
        assert np.array_equal(f(grid), np.tile(y, (1000, 1)), equal_nan=True)
    assert f(2) == f(2.0) == f(np.float64(2)) == f(np.array([2]))[0]
    assert f(np.float32(2)).dtype == np.float32
    assert np.ndim(f(2.0)) == 0
    if f not in (accurate.sech2, accurate.cauchy):
        with pytest.raises(TypeError, match="real"):
            f(1j)


@pytest.mark.parametrize("f", REAL)
def test_float32_is_the_rounded_value(f):
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(-s, s, 3000) for s in (1.5, 15, 110)]).astype(np.float32)
    for slope, root in ((slopes.dgelu, -0.75), (slopes.dsilu, -1.28)):
        if f is slope:
            x = x[np.abs(x - root) > 0.2]
    y, want = f(x), f(x.astype(np.float64))
    assert (np.abs(y - want) <= 0.6 * np.spacing(np.abs(want).astype(np.float32))).all()


@pytest.mark.parametrize("f", [accurate.erf, accurate.gelu, accurate.silu])
def test_the_sign_of_zero(f):
    assert np.array_equal(np.signbit(f(np.array([0.0, -0.0]))), [False, True])


@pytest.mark.parametrize("f", [accurate.gelu, slopes.dgelu])
def test_gelu_of_a_compiler_is_that_of_numpy_to_the_bit(f, monkeypatch):
    pytest.importorskip("llvmlite", reason="the compiled kernels were left out")
    rng = np.random.default_rng(0)
    edges = np.array([0.0, -0.0, 1e-45, -1e-45, 3e38, -3e38, 14.4, -14.4], np.float32)
    for n in (8, 9, 8191, 20_003):
        near = [rng.uniform(-s, s, n) for s in (1, 6, 20, 1e30)]
        x = np.concatenate([*near, edges]).astype(np.float32)
        monkeypatch.setattr(gauss_native, "WORTH", 1 << 60)
        want = f(x)
        monkeypatch.setattr(gauss_native, "WORTH", 1)
        assert np.array_equal(f(x).view(np.int32), want.view(np.int32))
        assert np.array_equal(f(x.reshape(2, -1)), want.reshape(2, -1))
        assert np.array_equal(f(x[::2]), want[::2])
    coefficients = accurate.MILLS32_P, accurate.MILLS32_Q, accurate.ONE_OVER_ROOT[2]
    assert gauss_native.run(f.__name__, x, *coefficients) is not None
    for other in (x.astype(float), x[::2], np.append(x, np.float32(np.inf)), x * np.float32("nan")):
        assert gauss_native.run(f.__name__, other, *coefficients) is None
    monkeypatch.setattr(gauss_native, "WORTH", x.size + 1)
    assert gauss_native.run(f.__name__, x, *coefficients) is None  # too little to be worth it


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i4", "b1"])
def test_relu_by_lines_is_the_maximum(dtype):
    rng = np.random.default_rng(0)
    for n in (0, 5, 8191, 8192, 8193, 20_000):
        x = (3 * rng.standard_normal(n)).astype(dtype)
        if n and x.dtype.kind == "f":
            x[::7], x[1::7], x[2::7] = np.nan, -0.0, -np.inf
        for a in (x, x[::2], x[None]):
            y, want = slopes.rectified(a), np.maximum(a, 0)
            assert y.dtype == want.dtype
            np.testing.assert_array_equal(y, want)
            if x.dtype.kind == "f":
                np.testing.assert_array_equal(np.signbit(y), np.signbit(want))


def test_gelu_without_a_compiler(monkeypatch):
    def missing(module, extra):
        raise MissingExtraError(f"import {module}", "it is not installed")

    x = np.linspace(-5, 5, 100, dtype=np.float32)
    want = accurate.gelu(x)
    gauss_native.compiled.cache_clear()
    monkeypatch.setattr(gauss_native, "WORTH", 1)
    monkeypatch.setattr(native, "need", missing)
    assert np.array_equal(accurate.gelu(x), want)
    gauss_native.compiled.cache_clear()


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "c8", "i4", "g"])
def test_where_by_bits_is_that_of_numpy(dtype):
    """To the bit, on masks of every kind, and of the same dtype."""
    rng = np.random.default_rng(0)
    for n in (10, 4095, 4096, 20_001):
        a, b = (3 * rng.standard_normal((2, n))).astype(dtype)
        if a.dtype.kind == "f":
            for x in (a, b):
                x[::7], x[1::7], x[2::7] = np.nan, -0.0, -np.inf
        for mask in (rng.random(n) < 0.5, np.ones(n, bool), np.zeros(n, bool), rng.random(n)):
            for other in (b, 0.0, -0.0, 0, 1.5, b[::-1], b[:1], b.real.astype("f8"), False):
                y, want = chosen(mask, a, other), np.where(mask, a, other)
                assert y.dtype == want.dtype
                np.testing.assert_array_equal(y, want)
                if y.dtype.kind == "f":
                    np.testing.assert_array_equal(np.signbit(y), np.signbit(want))
        square = a[: n // 2 * 2].reshape(2, -1)
        for x in (square, square.T, np.asfortranarray(square)):
            mask = rng.random(x.shape) < 0.5
            np.testing.assert_array_equal(chosen(mask, x, 0.0), np.where(mask, x, 0.0))
            np.testing.assert_array_equal(chosen(mask, x, -x), np.where(mask, x, -x))
        row = rng.random(square.shape[1]) < 0.5
        np.testing.assert_array_equal(chosen(row, square, 0.0), np.where(row, square, 0.0))
