"""Minimisers are differentiated by their conditions of optimality."""

import numpy as np
import pytest
import scipy.optimize

import wengert as wg
from wengert.testing import check_grads

A = np.array([[1.0, 0.5], [-0.3, 2.0], [0.7, -1.0]])
B = np.array([1.0, -2.0, 0.5])


def closed(a, b, lam):
    return np.linalg.solve(a.T @ a + lam * np.eye(2), a.T @ b)


def fitted(a, b, lam):
    return wg.argmin(
        lambda x, a, b, lam: np.sum((a @ x - b) ** 2) + lam * np.sum(x**2), np.zeros(2), a, b, lam
    )


@pytest.mark.parametrize("f", [fitted, wg.ridge])
def test_ridge_against_closed_form(f, close):
    lam = np.float64(0.7)
    close(f(A, B, lam), closed(A, B, lam), rtol=1e-12)
    for i in range(3):
        got = wg.jacobian(lambda v, i=i: f(*put(i, v)))((A, B, lam)[i])
        want = wg.jacobian(lambda v, i=i: closed(*put(i, v)))((A, B, lam)[i])
        close(got, want, rtol=1e-9)
    got = wg.hessian(lambda lam: np.sum(f(A, B, lam)))(0.7)
    close(got, wg.hessian(lambda lam: np.sum(closed(A, B, lam)))(0.7), rtol=1e-9)
    close(wg.jvp(lambda a: f(a, B, lam), (A,), (A,))[1],
          wg.jvp(lambda a: closed(a, B, lam), (A,), (A,))[1], rtol=1e-9)  # fmt: skip
    lams = np.array([0.1, 1.0, 10.0])
    got = wg.vmap(wg.grad(lambda lam: np.sum(f(A, B, lam))))(lams)
    close(got, wg.vmap(wg.grad(lambda lam: np.sum(closed(A, B, lam))))(lams), rtol=1e-9)


def put(i, v):
    full = [A, B, np.float64(0.7)]
    full[i] = v
    return full


def test_ridge_without_a_unique_minimum():
    for f in (wg.ridge, wg.grad(lambda *args: np.sum(wg.ridge(*args)))):
        with pytest.raises(wg.errors.MatrixError, match="full rank") as e:
            f(np.ones((4, 2)), np.ones(4), 0.0)
        assert e.value.fix == "a positive lam"


def test_wide_ridge(close):
    a, b = A.T, B[:2]
    want = np.linalg.solve(a.T @ a + 0.7 * np.eye(3), a.T @ b)
    close(wg.ridge(a, b, 0.7), want)
    check_grads(wg.ridge, (a, b, np.float64(0.7)))
    with pytest.raises(wg.errors.ShapeError):
        wg.ridge(A, B[:2], 1.0)


def test_argmin_of_a_hard_function():
    """Rosenbrock's valley, whose minimum (a, a^2) is known."""
    f = lambda x, a: (a - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
    at = lambda a: wg.argmin(f, np.array([-1.2, 1.0]), a)
    np.testing.assert_allclose(at(1.0), [1, 1], rtol=1e-8)
    np.testing.assert_allclose(wg.jacobian(at)(1.0), [1, 2], rtol=1e-7)
    np.testing.assert_allclose(wg.jacfwd(wg.jacfwd(at))(1.0), [0, 2], atol=1e-6)


def test_argmin_with_a_solver_of_anybody_and_closures(close):
    def solver(f, x0):
        return scipy.optimize.minimize(f, x0, method="BFGS", options={"gtol": 1e-9}).x

    def f(a):
        return wg.argmin(lambda x: np.sum((x - a) ** 2 + x**4), np.zeros(2), solver=solver)

    a = np.array([0.3, -1.0])
    x = f(a)
    close(wg.jacobian(f)(a), np.diag(2 / (2 + 12 * x**2)), rtol=1e-6)


def test_argmin_refusals():
    with pytest.raises(wg.errors.ConvergenceError, match="falls from there"):
        wg.argmin(lambda x: -(x**2), 0.0)
    with pytest.raises(wg.errors.ConvergenceError, match="stopped"):
        wg.argmin(lambda x, a: (x - a) ** 2, 0.0, 3.0, solver=lambda f, x: x)


# ------------------------------------------------------------------ quadratic programs

Q = np.array([[2.0, 0.5, 0.1], [0.5, 1.0, -0.2], [0.1, -0.2, 1.5]])
LIN = np.array([-1.0, 0.4, -2.0])
G = np.array([[1.0, 1.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, -1.0]])
H = np.array([0.9, 0.0, 0.0, 0.0])
E, F = np.array([[1.0, -1.0, 0.5]]), np.array([0.2])


def by_scipy(*p):
    Q, q, G, h, *rest = p
    cons = [{"type": "ineq", "fun": lambda x: h - G @ x}]
    if rest:
        cons.append({"type": "eq", "fun": lambda x: rest[0] @ x - rest[1]})
    return scipy.optimize.minimize(
        lambda x: x @ Q @ x / 2 + q @ x, np.zeros(3), jac=lambda x: Q @ x + q, constraints=cons,
        method="SLSQP", options={"ftol": 1e-15, "maxiter": 500},
    ).x  # fmt: skip


@pytest.mark.parametrize("p", [(Q, LIN, G, H), (Q, LIN, G, H, E, F)])
def test_program(p, close):
    close(wg.quadratic_program(*p), by_scipy(*p), rtol=1e-6, atol=1e-7)
    x, u, v = wg.quadratic_program(*p, duals=True)
    assert np.all(u >= -1e-12)
    close(u * (G @ x - H), np.zeros(4))
    stationary = Q @ x + LIN + G.T @ u + (0 if v is None else E.T @ v)
    close(stationary, np.zeros(3))


@pytest.mark.parametrize("p", [(Q, LIN, G, H), (Q, LIN, G, H, E, F)])
def test_program_against_differences(p):
    check_grads(wg.quadratic_program, p, order=2)


def test_program_without_inequalities(close):
    f = lambda q, e: wg.quadratic_program(Q, q, A=E, b=e)
    check_grads(f, (LIN, F))
    close(wg.quadratic_program(Q, LIN), -np.linalg.solve(Q, LIN))


def test_program_under_vmap(close):
    qs = np.stack([LIN, LIN * 2, -LIN])
    f = lambda q: wg.quadratic_program(Q, q, G, H)
    close(wg.vmap(f)(qs), np.stack([f(q) for q in qs]))
    close(wg.vmap(wg.jacobian(f))(qs), np.stack([wg.jacobian(f)(q) for q in qs]))
    close(wg.jacobian(lambda q: wg.vmap(f)(q))(qs)[1, :, 1], wg.jacobian(f)(qs[1]))


def test_linear_program(close):
    """Q = 0: a vertex, which moves with h alone."""
    g = np.array([[1.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    f = lambda q, h: wg.quadratic_program(np.zeros((2, 2)), q, g, h)
    q, h = np.array([-1.0, -2.0]), np.array([1.0, 0.0, 0.0])
    close(f(q, h), [0, 1], atol=1e-9)
    close(wg.jacobian(f, 1)(q, h), [[0, -1, 0], [1, 1, 0]], atol=1e-9)
    close(wg.jacobian(f, 0)(q, h), np.zeros((2, 2)), atol=1e-9)


def test_a_kink_is_refused():
    """x = max(a, 0) as a program: at a = 0 the constraint holds with a multiplier of 0."""
    f = lambda a: wg.quadratic_program(np.eye(1), -a, -np.eye(1), np.zeros(1))
    for a, slope in ((0.5, 1.0), (-0.5, 0.0)):
        np.testing.assert_allclose(wg.jacobian(f)(np.array([a])), [[slope]], atol=1e-9)
    np.testing.assert_allclose(f(np.zeros(1)), 0, atol=1e-6)
    for mode in (wg.jacrev, wg.jacfwd):
        with pytest.raises(wg.errors.KinkError, match="multiplier is 0"):
            mode(f)(np.zeros(1))


def test_program_refusals():
    with pytest.raises(wg.errors.ArgumentError, match="convex"):
        wg.quadratic_program(-np.eye(2), np.zeros(2))
    with pytest.raises(wg.errors.ConvergenceError, match="no solution"):
        wg.quadratic_program(
            np.eye(1), np.zeros(1), np.array([[1.0], [-1.0]]), np.array([-1.0, -1.0])
        )
    with pytest.raises(wg.errors.ConvergenceError, match="no solution"):
        wg.quadratic_program(np.zeros((1, 1)), np.ones(1), np.eye(1), np.ones(1))
    with pytest.raises(wg.errors.ShapeError, match=r"G \(m, n\)"):
        wg.quadratic_program(Q, LIN, G[:, :2], H)
    with pytest.raises(wg.errors.ArgumentError, match="go together"):
        wg.quadratic_program(Q, LIN, G)
