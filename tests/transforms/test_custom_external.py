"""External code: C through ctypes, Fortran through SciPy, black boxes by differences."""

import ctypes
import ctypes.util
import math
import shutil
import subprocess

import numpy as np
import pytest
import scipy.linalg.lapack
import scipy.optimize
import scipy.special

import wengert as wg
from wengert.testing import check_grads
from wengert.transforms.staging import stage

X, Y = np.array([0.3, 0.5, 0.9]), np.array([2.0, 3.0, -1.0])


def product(a, b):
    return np.sin(a) * b


def product_vjp(args, g):
    a, b = args
    return g * np.cos(a) * b, g * np.sin(a)


def product_jvp(args, dargs):
    (a, b), (da, db) = args, dargs
    return np.cos(a) * da * b + np.sin(a) * db


WAYS = {
    "central": {"differences": "central"},
    "complex": {"differences": "complex"},
    "vjp": {"vjp": product_vjp, "differences": "central"},
    "jvp": {"jvp": product_jvp, "differences": "central"},
    "both": {"vjp": product_vjp, "jvp": product_jvp, "differences": "central"},
}
MODES = {
    "grad": lambda f: wg.grad(lambda x: np.sum(f(x, Y) ** 2))(X),
    "both arguments": lambda f: wg.grad(lambda x: np.sum(f(x, x) ** 2))(X),
    "jvp": lambda f: wg.jvp(f, (X, Y), (Y, X))[1],
    "vmap": lambda f: wg.vmap(f)(X, Y),
    "vmap of grad": lambda f: wg.vmap(wg.grad(f))(X, Y),
    "grad of vmap, shared": lambda f: wg.grad(
        lambda s: np.sum(wg.vmap(f, in_axes=(None, 0))(s, Y) ** 2)
    )(0.4),
    "jvp of vmap": lambda f: wg.jvp(wg.vmap(f), (X, Y), (Y, X))[1],
}
SECOND = {
    "hessian": lambda f: wg.hessian(lambda x: np.sum(f(x, x) ** 2))(X),
    "forward over reverse": lambda f: wg.jvp(wg.grad(lambda x: f(x, x)), (0.4,), (1.0,))[1],
    "reverse over forward": lambda f: wg.jacrev(wg.jacfwd(lambda x: f(x, x)))(X),
    "forward over forward": lambda f: wg.jacfwd(wg.jacfwd(lambda x: f(x, x)))(X),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mode", MODES)
def test_first_order(way, mode, close):
    f = wg.external(product, **WAYS[way])
    close(MODES[mode](f), MODES[mode](product), rtol=1e-11)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mode", SECOND)
def test_second_order(way, mode, close):
    f = wg.external(product, **WAYS[way])
    close(SECOND[mode](f), SECOND[mode](product), rtol=1e-7, atol=1e-9)


def test_it_is_called_with_plain_arrays_in_c_order():
    seen = []

    def f(a, s):
        seen.append((type(a), a.flags.c_contiguous, type(s)))
        return np.sum(a) * s

    g = wg.external(f, vjp=lambda args, g: (np.full(args[0].shape, g * args[1]), None))
    a = np.arange(6.0).reshape(2, 3).T
    wg.grad(lambda a: g(a, np.float64(2.0)))(a)
    wg.vmap(g, in_axes=(1, None))(a, 2.0)
    assert seen
    assert all(t is np.ndarray and c and issubclass(s, float) for t, c, s in seen)


def test_no_derivative():
    f = wg.external(math.sin)
    assert f(0.5) == math.sin(0.5)
    np.testing.assert_allclose(wg.vmap(f)(X), np.sin(X))
    with pytest.raises(wg.errors.UnsupportedError, match="no derivative was given"):
        wg.grad(f)(0.5)
    with pytest.raises(wg.errors.UnsupportedError, match="no derivative was given"):
        wg.jvp(f, (0.5,), (1.0,))
    g = wg.external(math.sin, vjp=lambda args, g: (g * math.cos(args[0]),))
    with pytest.raises(wg.errors.UnsupportedError, match="no derivative was given"):
        wg.grad(wg.grad(g))(0.5)


def test_third_difference_is_refused():
    f = wg.external(math.sin, differences="central")
    assert abs(wg.grad(wg.grad(f))(0.5) + math.sin(0.5)) < 1e-8
    with pytest.raises(wg.errors.UnsupportedError, match="third derivative"):
        wg.grad(wg.grad(wg.grad(f)))(0.5)


@pytest.mark.parametrize("x", [1e-4, 1.0, 1e6])
def test_step_stays_inside_the_domain(x):
    f = wg.external(math.log, differences="central")

    def quiet(x):
        return math.log(x) if x > 0 else math.nan

    f = wg.external(quiet, differences="central")
    assert abs(wg.grad(f)(x) * x - 1) < 1e-9


def test_a_kink_is_refused():
    f = wg.external(lambda x: np.floor(x * 1e3) % 7, differences="central")
    with pytest.raises(wg.errors.UnsupportedError, match="do not settle"):
        wg.grad(f)(0.5)


def test_complex_step_of_code_that_drops_it():
    f = wg.external(lambda x: np.sin(np.real(x)), differences="complex")
    with pytest.raises(wg.errors.UnsupportedError, match="real values for complex"):
        wg.grad(f)(0.5)


def test_complex_arguments(close):
    z = np.array([1 + 2j, 0.5 - 1j])
    f = wg.external(np.exp, differences="central")
    close(wg.vjp(f, z)[1](z)[0], z * np.exp(z), rtol=1e-9)
    close(wg.jvp(f, (z,), (z,))[1], z * np.exp(z), rtol=1e-9)


def test_pytrees_and_several_outputs(close):
    f = wg.external(
        lambda p: {"s": p["a"] + p["b"], "n": np.arange(2)},
        vjp=lambda args, g: ({"a": g["s"], "b": g["s"]},),
    )
    g = wg.grad(lambda a, b: np.sum(f({"a": a, "b": b})["s"] ** 2), (0, 1))(X, Y)
    close(g[0], 2 * (X + Y))
    close(g[1], 2 * (X + Y))


def test_staging():
    f = wg.external(product, vjp=product_vjp)
    with pytest.raises(wg.errors.UnsupportedError, match="out="):
        stage(lambda x: f(x, x), X)
    f = wg.external(product, vjp=product_vjp, out=lambda a, b: a)
    assert "product" in str(stage(lambda x: np.sum(f(x, x)), X))
    f = wg.external(product, vjp=product_vjp, out=np.zeros(2))
    with pytest.raises(wg.errors.ShapeError, match="promised"):
        f(X, Y)


def test_rules_that_disagree():
    f = wg.external(
        product, vjp=product_vjp, jvp=lambda p, t: 1.001 * np.asarray(product_jvp(p, t))
    )
    with pytest.raises(wg.errors.ArgumentError, match="disagree"):
        wg.grad(lambda x: np.sum(f(x, Y)))(X)


def test_keywords(close):
    f = wg.external(product, vjp=product_vjp)
    close(wg.grad(lambda x: np.sum(f(b=Y, a=x)))(X), np.cos(X) * Y)


def test_options():
    with pytest.raises(wg.errors.ArgumentError, match="central"):
        wg.external(math.sin, differences="forward")


# ------------------------------------------------------------------ real libraries


def test_c_library():
    name = ctypes.util.find_library("m")
    if name is None:
        pytest.skip("no C library of mathematics was found")
    erf = ctypes.CDLL(name).erf
    erf.restype, erf.argtypes = ctypes.c_double, [ctypes.c_double]

    f = wg.external(erf, vjp=lambda args, g: (g * 2 / np.sqrt(np.pi) * np.exp(-(args[0] ** 2)),),
                    differences="central")  # fmt: skip
    np.testing.assert_allclose(wg.vmap(f)(X), scipy.special.erf(X))
    check_grads(wg.vmap(f), (X,))


SOURCE = """
void rosenbrock(const double *x, int n, double *y) {
    *y = 0;
    for (int i = 0; i + 1 < n; i++) {
        double a = 1 - x[i], b = x[i + 1] - x[i] * x[i];
        *y += a * a + 100 * b * b;
    }
}
void rosenbrock_vjp(const double *x, int n, double g, double *gx) {
    for (int i = 0; i < n; i++) gx[i] = 0;
    for (int i = 0; i + 1 < n; i++) {
        double a = 1 - x[i], b = x[i + 1] - x[i] * x[i];
        gx[i] += g * (-2 * a - 400 * b * x[i]);
        gx[i + 1] += g * 200 * b;
    }
}
"""


def test_compiled_c(tmp_path):
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler")
    (tmp_path / "f.c").write_text(SOURCE)
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-o", tmp_path / "f.so", tmp_path / "f.c"], check=True
    )
    lib = ctypes.CDLL(str(tmp_path / "f.so"))
    pointer = ctypes.POINTER(ctypes.c_double)

    def value(x):
        y = ctypes.c_double()
        lib.rosenbrock(x.ctypes.data_as(pointer), x.size, ctypes.byref(y))
        return y.value

    def vjp(args, g):
        (x,) = args
        gx = np.empty_like(x)
        lib.rosenbrock_vjp(
            x.ctypes.data_as(pointer), x.size, ctypes.c_double(g), gx.ctypes.data_as(pointer)
        )
        return (gx,)

    f = wg.external(value, vjp=vjp, differences="central")
    at = np.array([0.7, 0.9, 1.3])
    np.testing.assert_allclose(wg.grad(f)(at), scipy.optimize.rosen_der(at), rtol=1e-13, atol=1e-12)
    np.testing.assert_allclose(wg.hessian(f)(at), scipy.optimize.rosen_hess(at), rtol=1e-7)
    check_grads(f, (at,))


def test_fortran():
    """LAPACK's dgesv through f2py:  x = a^-1 b,  dx = a^-1 (db - da x)."""

    def solve(a, b):
        return scipy.linalg.lapack.dgesv(a, b)[2]

    def jvp(args, dargs):
        (a, b), (da, db) = args, dargs
        return solve(a, db - da @ solve(a, b))

    def vjp(args, g):
        a, b = args
        gb = solve(a.T, g)
        return -np.outer(gb, solve(a, b)), gb

    a = np.array([[3.0, 1.0], [0.5, 2.0]])
    b = np.array([1.0, -2.0])
    f = wg.external(solve, jvp=jvp, vjp=vjp, differences="central")
    check_grads(f, (a, b))
    for other in (wg.external(solve, jvp=jvp), wg.external(solve, vjp=vjp)):
        check_grads(other, (a, b), order=1)


def test_a_function_without_a_value():
    seen = []
    f = wg.external(lambda x: seen.append(x), differences="central")
    assert f(2.0) is None
    for transform in (wg.grad, lambda f: wg.vmap(f, axis_size=1)):
        with pytest.raises(wg.errors.ArgumentError, match="returned no numbers"):
            transform(f)(np.ones(1) if transform is not wg.grad else 1.0)
