"""Roots, fixed points and linear systems: the derivative is that of the equation."""

import functools
import tracemalloc

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse.linalg

import wengert as wg
from wengert.testing import check_grads

A = np.array([[3.0, 1.0, 0.2], [0.5, 2.0, -0.3], [0.1, 0.4, 1.5]])
B = np.array([1.0, -2.0, 0.5])


def equation(x, a, b):
    return x + 0.1 * x**3 + np.tanh(a @ x) - b


def root(a, b, **kw):
    return wg.custom_root(equation, np.zeros(3), params=(a, b), **kw)


def bisected(a):
    """x^3 + x = a, in closed form."""
    u = np.cbrt(a / 2 + np.sqrt(a * a / 4 + 1 / 27))
    return u - 1 / (3 * u)


def cubic(a):
    return wg.custom_root(lambda x, a: x**3 + x - a, 0.0, params=(a,))


MODES = {
    "value": lambda f: f(2.0),
    "grad": lambda f: wg.grad(f)(2.0),
    "jvp": lambda f: wg.jvp(f, (2.0,), (0.7,))[1],
    "order 2": lambda f: wg.grad(wg.grad(f))(2.0),
    "order 3": lambda f: wg.grad(wg.grad(wg.grad(f)))(2.0),
    "forward over reverse": lambda f: wg.jvp(wg.grad(f), (2.0,), (1.0,))[1],
    "reverse over forward": lambda f: wg.grad(lambda a: wg.jvp(f, (a,), (1.0,))[1])(2.0),
    "forward over forward": lambda f: wg.jacfwd(wg.jacfwd(f))(2.0),
    "vmap": lambda f: wg.vmap(f)(B + 3),
    "vmap of grad": lambda f: wg.vmap(wg.grad(f))(B + 3),
    "vmap of second": lambda f: wg.vmap(wg.grad(wg.grad(f)))(B + 3),
    "grad of vmap": lambda f: wg.grad(lambda x: np.sum(wg.vmap(f)(x) ** 2))(B + 3),
    "hessian of vmap": lambda f: wg.hessian(lambda x: np.sum(wg.vmap(f)(x) ** 2))(B + 3),
}  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_root_against_closed_form(mode, close):
    close(MODES[mode](cubic), MODES[mode](bisected), rtol=1e-9)


def test_root_against_differences():
    check_grads(root, (A, B))


def test_backward(close):
    a, b = wg.tensor(A, requires_grad=True), wg.tensor(B, requires_grad=True)
    root(a, b).sum().backward()
    ga, gb = wg.grad(lambda a, b: np.sum(root(a, b)), (0, 1))(A, B)
    close(a.grad, ga)
    close(b.grad, gb)


def test_solver_of_anybody(close):
    """SciPy's solver sees plain arrays alone; the tangents go through its GMRES."""
    calls = []

    def solver(f, x0):
        def plain(x):
            calls.append(type(x))
            return f(x)

        return scipy.optimize.root(plain, x0, tol=1e-13).x

    def tangent(g, y):
        op = scipy.sparse.linalg.LinearOperator((3, 3), matvec=lambda v: g(v.reshape(3)))
        return scipy.sparse.linalg.gmres(op, y, rtol=1e-13)[0]

    want = wg.grad(lambda a: np.sum(root(a, B) ** 2))(A)
    got = wg.grad(lambda a: np.sum(root(a, B, solver=solver, tangent_solve=tangent) ** 2))(A)
    close(got, want, rtol=1e-8)
    assert set(calls) == {np.ndarray}


def test_pytrees(close):
    def f(x, p):
        return {"u": x["u"] + x["v"] - p[0], "v": x["u"] * 2 - x["v"] - p[1]}

    def solved(p, q):
        x = wg.custom_root(f, {"u": 0.0, "v": 0.0}, params=((p, q),))
        return x["u"] * 10 + x["v"]

    close(wg.grad(solved, (0, 1))(1.0, 2.0), [4.0, 3.0])


def test_closed_over_values(close):
    """Those in closures, bound methods and partial functions are found."""

    def closure(a):
        inner = lambda x: a * 2 - x
        return wg.custom_root(lambda x: x**3 - inner(x), 0.0)

    class Model:
        def __init__(self, a):
            self.a = a

        def f(self, x):
            return x**3 + x - self.a * 2

    wg.tree.register(Model, lambda m: ((m.a,), (".a",), None), lambda _, c: Model(*c))

    def method(a):
        return wg.custom_root(Model(a).f, 0.0)

    def partial(a):
        return wg.custom_root(functools.partial(lambda c, x: x**3 + x - 2 * c, a), 0.0)

    for f in (closure, method, partial):
        close(wg.grad(f)(1.0), 2 * wg.grad(bisected)(2.0), rtol=1e-9)
        close(wg.grad(wg.grad(f))(1.0), 4 * wg.grad(wg.grad(bisected))(2.0), rtol=1e-9)
        close(wg.vmap(wg.grad(f))(B + 3), 2 * wg.vmap(wg.grad(bisected))(2 * B + 6), rtol=1e-9)


def test_hidden_values_are_refused():
    class Hidden:
        pass

    def f(a):
        hidden = Hidden()
        hidden.a = a
        return wg.custom_root(lambda x: x**3 + x - hidden.a, 0.0)

    with pytest.raises(wg.errors.UnsupportedError, match="pass the value as an argument"):
        wg.grad(f)(2.0)
    with pytest.raises(wg.errors.UnsupportedError, match="pass the value as an argument"):
        wg.jvp(f, (2.0,), (1.0,))


def test_a_function_that_counts():
    """What it writes to from inside is the caller's, though its tensors are replaced."""
    n = 0

    def run(a):
        def f(x):
            nonlocal n
            n += 1
            return x**3 + x - a

        return wg.custom_root(f, 0.0)

    np.testing.assert_allclose(wg.grad(run)(2.0), wg.grad(bisected)(2.0), rtol=1e-9)
    assert n > 3


LAYER = wg.nn.Linear(3, 3, rng=0, dtype=float)
INPUT = wg.tensor(B, requires_grad=True)


def global_layer(z):
    return np.tanh(0.3 * LAYER(z) + INPUT)


def test_modules_and_globals(close):
    """What a function reads from its module is found, too, with the parameters of modules."""
    z = wg.custom_fixed_point(global_layer, np.zeros(3))
    z.sum().backward()
    w, b = (p.value() for p in LAYER.parameters())

    def explicit(w, b, x):
        return np.sum(wg.custom_fixed_point(
            lambda z, w, b, x: np.tanh(0.3 * (z @ w + b) + x), np.zeros(3), params=(w, b, x)
        ))  # fmt: skip

    got = [p.grad for p in (*LAYER.parameters(), INPUT)]
    for u, v in zip(got, wg.grad(explicit, (0, 1, 2))(w, b, B)):
        close(u, v, rtol=1e-9)


def test_solver_that_stops_early():
    with pytest.raises(wg.errors.ConvergenceError, match=r"residual\s*: 2, at the first guess 2"):
        wg.custom_root(lambda x, a: x**3 + x - a, 0.0, lambda f, x: x, params=(2.0,))
    x = wg.custom_root(lambda x, a: x - a, 0.0, lambda f, x: x, params=(2.0,), tol=np.inf)
    assert x == 0.0


def test_singular_root():
    f = lambda a: wg.custom_root(lambda x, a: x**2 - a, 0.0, lambda f, x: x, params=(a,))
    with pytest.raises(wg.errors.MatrixError, match="singular"):
        wg.grad(f)(0.0)


def test_shapes():
    with pytest.raises(wg.errors.ShapeError, match="as many components"):
        wg.custom_root(lambda x: x[:2], np.zeros(3))


def test_the_iterations_are_not_recorded():
    """Backward calls f a few times, however long the solver took, and memory stays the same."""

    def run(steps):
        calls = []

        def f(x, a):
            calls.append(1)
            return np.tanh(a * x) + 1.0

        def solver(f, x):
            for _ in range(steps):
                x = f(x)
            return x

        a = wg.tensor(np.full(20_000, 0.3), requires_grad=True)
        out = wg.custom_fixed_point(f, np.zeros(20_000), solver, lambda g, y: neumann(g, y),
                                    params=(a,)).sum()  # fmt: skip
        forward = len(calls)
        tracemalloc.start()
        out.backward()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return forward, len(calls) - forward, peak, a.grad.numpy()

    few, many = run(60), run(600)
    assert many[0] - few[0] == 540
    assert many[1] == few[1]
    assert abs(many[2] - few[2]) < 0.05 * few[2]
    np.testing.assert_allclose(few[3], many[3], rtol=1e-12)


def neumann(g, y):
    """(1 - J) x = y as a series, with g = 1 - J."""
    x = y
    for _ in range(40):
        x = x + (y - g(x))
    return x


def test_fixed_point(close):
    def f(w):
        return wg.custom_fixed_point(lambda x, w: np.tanh(w @ x + B), np.zeros(3), params=(w,))

    check_grads(f, (0.3 * A,))
    x = f(0.3 * A)
    close(x, np.tanh(0.3 * A @ x + B), rtol=1e-14)


def test_fixed_point_of_a_closure(close):
    f = lambda a: wg.custom_fixed_point(lambda x: np.cos(a * x), 0.5)
    x = f(0.9)
    close(wg.grad(f)(0.9), -np.sin(0.9 * x) * x / (1 + 0.9 * np.sin(0.9 * x)), rtol=1e-10)


def test_fixed_point_that_is_not_reached():
    with pytest.raises(wg.errors.ConvergenceError):
        wg.custom_fixed_point(lambda x: 3.9 * x * (1 - x), 0.3)


# ------------------------------------------------------------------ linear systems


def solved(a, b, **kw):
    return wg.custom_linear_solve(lambda x, a: a @ x, b, params=(a,), **kw)


@pytest.mark.parametrize("solve", [None, lambda f, b: neumann_scaled(f, b)])
def test_linear_solve(solve, close):
    f = functools.partial(solved, solve=solve)
    check_grads(f, (A, B), order=2)
    close(f(A, B), np.linalg.solve(A, B), rtol=1e-11)
    close(wg.vmap(f, in_axes=(None, 0))(A, A), np.linalg.solve(A, A.T).T, rtol=1e-11)
    got = wg.hessian(lambda a: np.sum(f(a, B) ** 2))(A)
    close(got, wg.hessian(lambda a: np.sum(np.linalg.solve(a, B) ** 2))(A), rtol=1e-8, atol=1e-10)


def neumann_scaled(f, b):
    x = b / 2
    for _ in range(200):
        x = x + (b - f(x)) / 3
    return x


def test_symmetric_conjugate_gradients():
    s = A @ A.T

    def cg(f, b):
        op = scipy.sparse.linalg.LinearOperator((3, 3), matvec=lambda v: f(v.reshape(3)))
        return scipy.sparse.linalg.cg(op, b, rtol=1e-14)[0]

    def f(t, b):
        return wg.custom_linear_solve(lambda x, t: t * (s @ x) + x, b, cg, symmetric=True,
                                      params=(t,))  # fmt: skip

    check_grads(f, (np.float64(1.3), B))


def test_a_solve_that_ignores_its_matvec():
    """A factorisation kept from the forward pass solves the wrong system when transposed."""
    f = lambda b: solved(A, b, solve=lambda f, b: np.linalg.solve(A, b))
    with pytest.raises(wg.errors.ConvergenceError, match="transposed"):
        wg.grad(lambda b: f(b)[0])(B)
    g = lambda b: solved(
        A, b, solve=lambda f, b: np.linalg.solve(A, b),
        transpose_solve=lambda f, b: np.linalg.solve(A.T, b),
    )  # fmt: skip
    check_grads(g, (B,))


def test_linear_solve_of_pytrees_and_closures(close):
    def f(a, b):
        x = wg.custom_linear_solve(lambda x: (a * x[0] + x[1], x[0] - x[1]), (b, 2.0))
        return x[0]

    close(wg.grad(f, (0, 1))(3.0, 1.0), [-3 / 16, 1 / 4])


def test_many_unknowns():
    """Without a matrix: GMRES."""
    n = 1500
    rng = np.random.default_rng(0)
    d, b = 2 + rng.random(n), rng.standard_normal(n)

    def matvec(x, d):
        return d * x + 0.3 * np.roll(x, 1)

    got = wg.grad(lambda d: np.sum(wg.custom_linear_solve(matvec, b, params=(d,)) ** 2))(d)
    m = np.diag(d) + 0.3 * np.roll(np.eye(n), 1, 0)
    x = np.linalg.solve(m, b)
    np.testing.assert_allclose(got, -2 * np.linalg.solve(m.T, x) * x, rtol=1e-8, atol=1e-11)


def test_single_precision():
    x = root(A.astype("f4"), B.astype("f4"))
    assert wg.grad(lambda a: np.sum(root(a, B.astype("f4"))))(A.astype("f4")).dtype == np.float32
    assert np.asarray(x).dtype.kind == "f"


@pytest.mark.parametrize(
    "solve",
    [
        lambda x: wg.custom_root(lambda y: y**3 + y - x, np.ones(2)),
        lambda x: wg.custom_fixed_point(lambda y: 0.5 * y + 0.5 * np.sin(x), np.ones(2)),
        lambda x: wg.custom_linear_solve(lambda v: v * np.exp(x), np.ones(2)),
        lambda x: wg.argmin(lambda y: np.sum((y - np.sin(x)) ** 2 + 0.1 * y**4), np.ones(2)),
    ],
    ids=["root", "fixed point", "linear system", "minimum"],
)
def test_what_a_tape_watched_is_closed_over_in_the_sweep_too(solve, close):
    """A tape lets go of it when it stops; the equation is differentiated after that."""
    at = np.array([0.3, 0.7])
    x = wg.tensor(at)
    with wg.GradientTape() as outer:
        outer.watch(x)
        with wg.GradientTape() as inner:
            inner.watch(x)
            y = np.sum(solve(x))
        g = inner.gradient(y, x)
        z = np.sum(g)
    close(g, wg.grad(lambda x: np.sum(solve(x)))(at), rtol=1e-6)
    close(outer.gradient(z, x), np.sum(wg.hessian(lambda x: np.sum(solve(x)))(at), 0), rtol=1e-6)
    with wg.GradientTape() as tape:
        tape.watch(x)
        y = np.sum(solve(x))
    close(tape.gradient(y, x), g.detach().numpy(), rtol=1e-6)
