"""Differences against closed forms and exact derivatives; their error bars against the truth."""

import mpmath
import numpy as np
import pytest

import wengert as wg
from wengert import numeric

METHODS = ("forward", "central", "richardson", "complex")
DIGITS = {"forward": 1e-6, "central": 1e-9, "richardson": 1e-11, "complex": 1e-15}


def wave(x):
    return np.sum(np.sin(x) * np.exp(x))


@pytest.mark.parametrize("method", METHODS)
def test_gradient_has_the_digits_of_its_method(method):
    x = np.array([0.3, -1.2, 2.0, 1e-8, 0.0])
    got = numeric.grad(wave, method=method, full=True)(x)
    truth = np.exp(x) * (np.sin(x) + np.cos(x))
    off = np.abs(got.value - truth)
    assert (off <= DIGITS[method] * (1 + np.abs(truth))).all(), off
    assert (off <= got.error).all(), (off, got.error)
    assert (got.error <= 300 * DIGITS[method]).all()


@pytest.mark.parametrize("method", ["forward", "central", "richardson"])
@pytest.mark.parametrize("x", [1e-8, 1e-3, 1.0, 1e5])
@pytest.mark.parametrize("name", ["log", "reciprocal", "exp(-x)", "sqrt", "x^x"])
def test_error_bars_hold_over_many_scales(method, x, name):
    f, slope = {
        "log": (np.log, lambda x: 1 / x),
        "reciprocal": (lambda x: 1 / x, lambda x: -1 / x**2),
        "exp(-x)": (lambda x: np.exp(-x), lambda x: -mpmath.exp(-x)),
        "sqrt": (np.sqrt, lambda x: 1 / (2 * mpmath.sqrt(x))),
        "x^x": (lambda x: np.exp(-(x**0.5)), lambda x: -mpmath.exp(-mpmath.sqrt(x))
                / (2 * mpmath.sqrt(x))),
    }[name]  # fmt: skip
    truth = float(slope(mpmath.mpf(x)))
    got = numeric.grad(f, method=method, full=True)(x)
    assert abs(got.value - truth) <= got.error + 1e-300
    loose = {"forward": 1e-5, "central": 1e-6, "richardson": 1e-8}[method]
    assert got.error <= loose * max(abs(truth), abs(float(f(x))) / x)


def test_noisy_values_widen_the_error_bars():
    def f(x):  # twelve digits are lost inside
        return (np.sin(x) + 1e6) - 1e6

    got = numeric.grad(f, full=True)(0.7)
    assert abs(got.value - np.cos(0.7)) <= got.error
    assert got.error > 1e-8
    assert numeric.grad(np.sin, full=True)(0.7).error < 1e-9


@pytest.mark.parametrize("method", METHODS)
def test_single_precision_steps(method):
    x = np.array([0.3, -1.2], np.float32)
    got = numeric.grad(wave, method=method, full=True)(x)
    truth = wg.grad(wave)(x.astype(float))
    assert got.value.dtype == np.float32
    assert (np.abs(got.value - truth) <= got.error).all()
    assert (np.abs(got.value - truth) <= 3e-3).all()


def test_a_fixed_step_is_taken_as_it_is():
    seen = []

    def f(x):
        seen.append(float(x))
        return x**2

    assert numeric.grad(f, method="forward", step=0.25)(1.0) == (1.25**2 - 1) / 0.25
    assert seen == [1.0, 1.25]
    got = numeric.grad(f, method="central", step=0.5, full=True)(1.0)
    assert got.value == 2.0
    assert got.evaluations == 14  # at x and two points; for the bar two, and nine for noise


def test_jacobian_of_pytrees_is_laid_out_as_in_reverse_mode():
    def f(p, s):
        return {"a": p["w"] @ p["v"] * s, "b": (np.sum(p["v"] ** 2), 3)}

    rng = np.random.default_rng(0)
    p = {"w": rng.standard_normal((2, 3)), "v": rng.standard_normal(3), "n": 4}
    floats = {k: v for k, v in p.items() if k != "n"}
    want = wg.jacobian(lambda p: f(p, 2.0)["a"])(floats)
    got = numeric.jacobian(f, method="richardson")(p, 2.0)
    for k, j in want.items():
        np.testing.assert_allclose(got["a"][k], j, atol=1e-10)
    np.testing.assert_allclose(got["b"][0]["v"], 2 * p["v"], atol=1e-10)
    both = numeric.jacobian(f, argnums=(0, 1), method="complex")(p, 2.0)
    np.testing.assert_allclose(both["a"][1], p["w"] @ p["v"], rtol=1e-15)


def test_jvp_and_hessian(x, v):
    y, dy = numeric.jvp(lambda x: np.tanh(x) * x[0], x, v, method="richardson")
    want = wg.jvp(lambda x: np.tanh(x) * x[0], (x,), (v,))
    np.testing.assert_allclose(y, want[0])
    np.testing.assert_allclose(dy, want[1], atol=1e-11)

    def f(x):
        return np.sum(np.exp(x) * x[0]) * x[1]

    truth = wg.hessian(f)(x)
    for method, tol in {
        "forward": 1e-3, "central": 1e-6, "richardson": 1e-8, "complex": 1e-9
    }.items():  # fmt: skip
        got = numeric.hessian(f, method=method, full=True)(x)
        np.testing.assert_allclose(got.value, truth, atol=tol)
        assert (np.abs(got.value - truth) <= got.error).all()


def test_complex_arguments_follow_the_convention_of_grad():
    z = np.array([0.3 + 0.4j, -1.0 + 0.2j])
    f = lambda z: np.sum(np.abs(z) ** 2 * np.real(z))
    np.testing.assert_allclose(numeric.grad(f, method="richardson")(z), wg.grad(f)(z), atol=1e-10)
    with wg.conventions(complex="torch"):
        np.testing.assert_allclose(
            numeric.grad(f, method="richardson")(z), wg.grad(f)(z), atol=1e-10
        )
    with pytest.raises(wg.errors.DTypeError, match="richardson"):
        numeric.grad(f, method="complex")(z)


def real_buffer(x):
    out = np.zeros(2)
    out[:] = x
    return out


@pytest.mark.parametrize(
    ("name", "f"),
    [
        ("np.absolute", lambda x: np.abs(x)),
        ("np.maximum", lambda x: np.maximum(x, 0.5)),
        ("np.greater", lambda x: x if x[0] > 0 else -x),
        ("np.linalg.norm", lambda x: np.linalg.norm(x)),
        ("real", lambda x: x.real * 2),
        ("np.real", lambda x: np.real(x)),
        ("np.conjugate", lambda x: x * np.conj(x)),
        ("float", lambda x: float(x[0])),
        ("max", lambda x: x.max()),
        ("imaginary part is lost", lambda x: np.asarray(x).view(np.ndarray).real.copy()),
        ("real differences", lambda x: x * np.asarray(x).view(np.ndarray).real),
        ("complex", real_buffer),
    ],
)
def test_the_complex_step_refuses_what_is_not_analytic(name, f):
    with pytest.raises(wg.errors.UnsupportedError, match=name):
        numeric.jacobian(f, method="complex")(np.array([-0.3, 0.8]))


def test_the_complex_step_runs_through_linear_algebra(x):
    a = np.arange(9.0).reshape(3, 3) + 5 * np.eye(3)

    def f(x):
        return np.linalg.solve(a + np.outer(x, x), np.tanh(x)).sum() + np.linalg.det(a * x)

    np.testing.assert_allclose(numeric.grad(f, method="complex")(x), wg.grad(f)(x), rtol=1e-13)


def test_tensors_and_refusals(x):
    got = numeric.grad(lambda t: (np.exp(t) * 2).sum(), method="central")(wg.tensor(x))
    assert isinstance(got, wg.Tensor)
    np.testing.assert_allclose(got.value(), 2 * np.exp(x), rtol=1e-8)
    with pytest.raises(wg.errors.NonScalarError, match="jacobian"):
        numeric.grad(np.sin)(x)
    with pytest.raises(wg.errors.DTypeError, match="astype"):
        numeric.grad(np.sum)(np.array([1, 2]))
    with pytest.raises(wg.errors.ArgumentError, match="richardson"):
        numeric.grad(np.sum, method="backward")(x)
    with pytest.raises(wg.errors.ArgumentError, match="positive"):
        numeric.grad(np.sum, step=-1.0)(x)
    with pytest.raises(wg.errors.ArgumentError, match="not finite"):
        numeric.grad(np.log)(-1.0)
    with pytest.raises(wg.errors.UnsupportedError, match="another structure"):
        numeric.jacobian(lambda x: x[x > 0.3], step=1e-3)(x)
