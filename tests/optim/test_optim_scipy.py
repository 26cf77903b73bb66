"""SciPy's optimizers with our derivatives of plain NumPy functions."""

import numpy as np
import pytest
from scipy import optimize

import wengert as wg


def valley(x):
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


HESSIAN = ("Newton-CG", "trust-exact", "trust-krylov", "trust-ncg", "dogleg", "trust-constr")
GRADIENT = ("BFGS", "L-BFGS-B", "CG", "TNC", "SLSQP")
START = [1.3, 0.7, 0.8, 1.9]


@pytest.mark.parametrize(
    "x0", [START, tuple(START), np.array(START)], ids=["list", "tuple", "array"]
)
@pytest.mark.parametrize("method", GRADIENT + HESSIAN)
def test_minimize(method, x0):
    if method == "dogleg":  # it needs a convex function
        f, want = lambda x: np.sum(np.cosh(x - 1)), np.ones(4)
    else:
        f, want = valley, np.ones(4)
    hess = {"hess": wg.hessian(f)} if method in HESSIAN else {}
    tol = {} if method in HESSIAN else {"tol": 1e-12}
    found = optimize.minimize(f, x0, jac=wg.grad(f), method=method, **hess, **tol)
    np.testing.assert_allclose(found.x, want, atol=1e-4)


@pytest.mark.parametrize("method", ["Newton-CG", "trust-krylov", "trust-ncg"])
def test_minimize_with_hessian_products(method):
    found = optimize.minimize(
        valley, START, jac=wg.grad(valley), hessp=lambda x, v: wg.hvp(valley, x, v), method=method
    )
    np.testing.assert_allclose(found.x, 1, atol=1e-4)


def test_value_and_gradient_together():
    found = optimize.minimize(wg.value_and_grad(valley), START, jac=True, method="L-BFGS-B")
    np.testing.assert_allclose(found.x, 1, atol=1e-3)


@pytest.mark.parametrize("method", ["BFGS", "L-BFGS-B", "trust-exact"])
def test_one_number(method):
    def f(x):
        return np.sum((x - 2.0) ** 4 + (x - 2.0) ** 2)

    hess = {"hess": wg.hessian(f)} if method == "trust-exact" else {}
    found = optimize.minimize(f, 5.0, jac=wg.grad(f), method=method, **hess)
    np.testing.assert_allclose(found.x, [2.0], atol=1e-5)
    root = optimize.root_scalar(
        lambda x: np.cos(x) - x, x0=1.0, fprime=wg.grad(lambda x: np.cos(x) - x), method="newton"
    )
    assert root.root == pytest.approx(0.7390851332151607, rel=1e-12)


@pytest.mark.parametrize("method", ["trf", "dogbox", "lm"])
def test_least_squares(method):
    t = np.linspace(0, 2, 20)
    y = 3 * np.exp(-1.5 * t)

    def residual(p):
        return p[0] * np.exp(p[1] * t) - y

    found = optimize.least_squares(residual, [1.0, 0.0], jac=wg.jacobian(residual), method=method)
    np.testing.assert_allclose(found.x, [3, -1.5], rtol=1e-6)


@pytest.mark.parametrize("method", ["hybr", "lm"])
def test_roots(method):
    def f(x):
        return np.stack([x[0] + 0.5 * (x[0] - x[1]) ** 3 - 1, 0.5 * (x[1] - x[0]) ** 3 + x[1]])

    found = optimize.root(f, [0.0, 0.0], jac=wg.jacobian(f), method=method)
    np.testing.assert_allclose(f(found.x), 0, atol=1e-9)


def test_constraints_and_bounds():
    def ring(x):
        return np.sum(x**2) - 2

    constraint = {"type": "eq", "fun": ring, "jac": wg.grad(ring)}
    found = optimize.minimize(
        lambda x: np.sum(x), [-1.0, -0.5], jac=wg.grad(np.sum), constraints=[constraint],
        bounds=[(-2, 2)] * 2, method="SLSQP", options={"ftol": 1e-12},
    )  # fmt: skip
    np.testing.assert_allclose(found.x, [-1, -1], atol=1e-6)


def test_a_curve_with_its_jacobian():
    t = np.linspace(0.1, 2, 15)

    def curve(t, a, b):
        return a * np.log(t) + np.sin(b * t)

    def slopes(t, a, b):
        return np.stack(wg.jacobian(curve, argnums=(1, 2))(t, float(a), float(b)), axis=-1)

    found, _ = optimize.curve_fit(curve, t, curve(t, 2.0, 0.7), p0=[1.0, 1.0], jac=slopes)
    np.testing.assert_allclose(found, [2.0, 0.7], rtol=1e-6)
