"""Taylor mode against nested forward mode over the whole registry, exact series, and JAX."""

import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from conftest import peer

import wengert as wg
from wengert import testing
from wengert.errors import ArgumentError, DTypeError, KinkError, ShapeError, UnsupportedError
from wengert.trace import OPS, bind
from wengert.transforms.taylor import Jet
from wengert.types import is_inexact

RNG = np.random.default_rng(0)


def nested(f, order):
    """f and its derivatives along a line, by jvp of jvp of .."""
    found = [f]
    for _ in range(order):
        found.append(lambda t, g=found[-1]: wg.jvp(g, (t,), (1.0,))[1])
    return found


def against_nested(op, xs, order):
    rng = np.random.default_rng(len(repr(op)))
    live = [i for i, x in enumerate(xs) if is_inexact(x.dtype)]
    terms = {i: [0.3 * rng.standard_normal(xs[i].shape) for _ in range(order)] for i in live}

    def on_curve(t):
        def x(i):
            total = xs[i]
            for k, c in enumerate(terms.get(i, []), 1):
                total = total + c * (t**k / math.factorial(k))
            return total

        return bind(op, *[x(i) for i in range(len(xs))])

    def of_live(*given):
        full = dict(zip(live, given))
        return bind(op, *[full.get(i, x) for i, x in enumerate(xs)])

    refused = False
    try:
        y, ys = wg.jet(of_live, tuple(xs[i] for i in live), [terms[i] for i in live])
    except UnsupportedError:
        refused = True
    for k, f in enumerate(nested(on_curve, order)):
        if refused and k == order:
            with pytest.raises(UnsupportedError):
                f(0.0)
            continue
        if refused:
            continue
        want = f(0.0)
        many = isinstance(y, tuple)
        got = y if k == 0 else tuple(s[k - 1] for s in ys) if many else ys[k - 1]
        for a, b in zip(got if many else (got,), want if many else (want,), strict=True):
            a, b = np.asarray(a), np.asarray(b)
            assert a.dtype == b.dtype
            size = np.nanmax(np.abs(b), initial=1.0)
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10 * size, err_msg=f"{op!r}, {k}")


WITH_SERIES = [
    name
    for name in sorted(OPS)
    if any(any(is_inexact(x.dtype) for x in xs) for _, xs in testing.examples(name))
]


@pytest.mark.filterwarnings("ignore::wengert.errors.GaugeWarning")
@pytest.mark.parametrize("name", WITH_SERIES)
def test_every_operation_to_order_2(name):
    with np.errstate(all="ignore"):
        for op, xs in testing.examples(name):
            against_nested(op, xs, 2)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::wengert.errors.GaugeWarning")
@pytest.mark.parametrize("order", [3, 4])
@pytest.mark.parametrize("name", WITH_SERIES)
def test_every_operation_to_higher_orders(name, order):
    with np.errstate(all="ignore"):
        for op, xs in testing.examples(name):
            against_nested(op, xs, order)


FUNCTIONS = {
    "exp": mpmath.exp,
    "log": mpmath.log,
    "sqrt": mpmath.sqrt,
    "tanh": mpmath.tanh,
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "tan": mpmath.tan,
    "erf": mpmath.erf,
    "arctan": mpmath.atan,
    "sinh": mpmath.sinh,
    "gelu": lambda x: x * mpmath.ncdf(x),
    "reciprocal": lambda x: 1 / x,
    "log1p": lambda x: mpmath.log(1 + x),
    "expm1": mpmath.expm1,
    "arcsin": mpmath.asin,
    "cbrt": mpmath.cbrt,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_ten_derivatives_of_elementary_functions(name):
    x, order = 0.625, 10
    _, got = wg.jet(lambda v: bind(OPS[name], v), (x,), ([1.0] + [0.0] * (order - 1),))
    with mpmath.workdps(60):
        taylor = mpmath.taylor(FUNCTIONS[name], mpmath.mpf(x), order)
        for k in range(1, order + 1):
            want = float(taylor[k] * mpmath.factorial(k))
            scale = math.factorial(k) * 0.2**-k if abs(want) < 1 else abs(want)
            assert abs(got[k - 1] - want) < 1e-12 * max(abs(want), min(scale, 1.0)), (name, k)


def test_tanh_far_out_keeps_its_relative_accuracy():
    _, got = wg.jet(np.tanh, (30.0,), ([1.0, 0.0, 0.0],))
    with mpmath.workdps(60):
        want = [float(mpmath.diff(mpmath.tanh, 30, k)) for k in (1, 2, 3)]
    np.testing.assert_allclose(got, want, rtol=1e-14)


def test_a_polynomial_is_exact_and_ends():
    def p(x):
        return 3.0 * x**4 - x**3 + 2.0 * x

    y, ys = wg.jet(p, (2.0,), ([1.0] + [0.0] * 6,))
    assert float(y) == 44.0
    assert [float(v) for v in ys] == [86.0, 132.0, 138.0, 72.0, 0.0, 0.0, 0.0]
    _, at_zero = wg.jet(p, (0.0,), ([1.0] + [0.0] * 4,))
    assert [float(v) for v in at_zero] == [2.0, 0.0, -6.0, 72.0, 0.0]


def test_the_convention_is_faa_di_bruno():
    x, x1, x2, x3 = 0.3, 0.7, -1.1, 0.4
    _, (y1, y2, y3) = wg.jet(np.exp, (x,), ([x1, x2, x3],))
    e = np.exp(x)
    np.testing.assert_allclose(
        [y1, y2, y3], [e * x1, e * (x1**2 + x2), e * (x1**3 + 3 * x1 * x2 + x3)], rtol=1e-15
    )
    _, scaled = wg.jet(np.exp, (x,), ([x1, x2 / 2, x3 / 6],), factorial_scaled=False)
    np.testing.assert_allclose(scaled, [y1, y2 / 2, y3 / 6], rtol=1e-15)


def test_bernoulli_numbers():
    """x / (e^x - 1) around 0 by a quotient of series."""

    def f(x):  # x / expm1(x) with the factor x taken out of both by hand
        total = 1.0
        for k in range(2, 13):
            total = total + x ** (k - 1) / math.factorial(k)
        return 1.0 / total

    _, got = wg.jet(f, (0.0,), ([1.0] + [0.0] * 9,))
    want = [Fraction(-1, 2), Fraction(1, 6), 0, Fraction(-1, 30), 0, Fraction(1, 42), 0]
    np.testing.assert_allclose(got[:7], [float(w) for w in want], rtol=1e-13, atol=1e-14)


def network(w, x):
    h = np.tanh(x @ w)
    return np.sum(np.exp(-h * h) / (1.0 + h**2) + np.sin(h))


W, X, V = RNG.standard_normal((3, 3)), RNG.standard_normal(3), RNG.standard_normal(3)


def third(w, x):
    return wg.jet(lambda x: network(w, x), (x,), ([V, 0 * V, 0 * V],))[1][2]


def third_nested(w, x):
    return nested(lambda t: network(w, x + t * V), 3)[3](0.0)


def test_nests_with_grad_jvp_vmap_and_itself(close):
    close(third(W, X), third_nested(W, X), rtol=1e-9)
    close(wg.grad(third)(W, X), wg.grad(third_nested)(W, X), rtol=1e-8)
    close(wg.jvp(third, (W, X), (W, V))[1], wg.jvp(third_nested, (W, X), (W, V))[1], rtol=1e-8)
    xs = RNG.standard_normal((4, 3))
    close(wg.vmap(third, in_axes=(None, 0))(W, xs), [third(W, x) for x in xs], rtol=1e-12)
    _, (s1, _) = wg.jet(lambda x: wg.grad(network, 1)(W, x), (X,), ([V, 0 * V],))
    close(s1, wg.hvp(lambda x: network(W, x), X, V), rtol=1e-10)
    close(
        wg.jet(lambda x: wg.jet(lambda z: network(W, z), (x,), ([V, 0 * V],))[1][1], (X,), ([V],))[
            1
        ][0],
        third(W, X),
        rtol=1e-9,
    )
    w = wg.tensor(W, requires_grad=True)
    third(w, X).backward()
    close(w.grad, wg.grad(third)(W, X), rtol=1e-10)


def test_writing_views_and_branches(close):
    def f(x):
        y = wg.zeros(4) * x[0]
        for i in range(4):
            y[i] = x[0] ** i if i else np.cos(x[0])
        y[1:3] *= np.exp(x[0])
        return np.sum(y)

    want = [g(0.0) for g in nested(lambda t: f(np.array([0.4]) + t), 4)]
    y, ys = wg.jet(f, (np.array([0.4]),), ([np.ones(1)] + [np.zeros(1)] * 3,))
    close([y, *ys], want, rtol=1e-11)


def test_trees_in_and_out():
    y, ys = wg.jet(
        lambda p: {"s": p["a"] * p["b"], "c": 1.5},
        ({"a": 2.0, "b": np.ones(2)},),
        ([{"a": 1.0, "b": np.zeros(2)}, {"a": 0.0, "b": np.ones(2)}],),
    )
    assert y["s"].tolist() == [2.0, 2.0]
    assert [v.tolist() for v in ys["s"]] == [[1.0, 1.0], [2.0, 2.0]]
    assert [float(v) for v in ys["c"]] == [0.0, 0.0]


def test_single_precision_stays_single():
    x = np.float32([0.5, 1.5])
    y, ys = wg.jet(lambda x: np.log(x) / x + x**2.5, (x,), ([x, x, x],))
    assert {v.dtype for v in (y, *ys)} == {np.dtype(np.float32)}


def test_kinks_follow_the_convention():
    with wg.conventions(kinks="nan"):
        _, ys = wg.jet(np.abs, (np.array([0.0, 1.0]),), ([np.ones(2), np.ones(2)],))
        assert np.isnan(ys[0]).tolist() == [True, False]
        assert np.isnan(ys[1]).tolist() == [True, False]
    with wg.conventions(kinks="raise"), pytest.raises(KinkError):
        wg.jet(np.abs, (0.0,), ([1.0],))
    _, ys = wg.jet(np.abs, (0.0,), ([1.0, 1.0],))
    assert [float(v) for v in ys] == [0.0, 0.0]


def test_what_leaves_the_level_is_refused_or_its_value():
    kept = []
    wg.jet(lambda x: kept.append(x) or x * x, (2.0,), ([1.0],))
    assert isinstance(kept[0], Jet)
    assert float(kept[0] + 1.0) == 3.0
    with pytest.raises(wg.errors.TapeExitError):
        wg.jet(lambda x: math.sin(x), (2.0,), ([1.0],))


def test_jax_agrees():
    jax = peer("jax", "the comparison with JAX's jet was left out")
    jet = pytest.importorskip("jax.experimental.jet").jet
    jnp = jax.numpy
    x, w = RNG.random(3), RNG.standard_normal((3, 3))
    series = [RNG.standard_normal(3) for _ in range(4)]

    def f(np):
        return lambda x: np.sum(np.tanh(w @ x) * np.exp(-x) / (1.0 + np.sin(x) ** 2) + np.log(x))

    with jax.enable_x64(True):
        want, wants = jet(f(jnp), (jnp.asarray(x),), ([jnp.asarray(s) for s in series],))
    got, gots = wg.jet(f(np), (x,), (series,))
    np.testing.assert_allclose(got, want, rtol=1e-13)
    np.testing.assert_allclose(gots, wants, rtol=1e-10)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: wg.jet(np.sin, (1.0,), [1.0]), ArgumentError, "list"),
        (lambda: wg.jet(np.sin, (1.0,), ([],)), ArgumentError, "lengths"),
        (lambda: wg.jet(np.add, (1.0, 2.0), ([1.0],)), ArgumentError, "each of the 2"),
        (lambda: wg.jet(np.add, (1.0, 2.0), ([1.0], [1.0, 2.0])), ArgumentError, r"\[1, 2\]"),
        (lambda: wg.jet(np.sin, (1.0,), ([np.ones(2)],)), ShapeError, "shape of its primal"),
        (lambda: wg.jet(np.sin, (1,), ([1.0],)), DTypeError, "floating-point"),
        (lambda: wg.jet(np.sin, ({"a": 1.0},), ([{"b": 1.0}],)), ArgumentError, "structure"),
    ],
)
def test_refusals(call, error, match):
    with pytest.raises(error, match=match):
        call()
