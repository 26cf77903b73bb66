"""The public special functions: NumPy's and SciPy's answers, levels, dtypes, refusals."""

import subprocess
import sys

import numpy as np
import pytest

import wengert as wg
from wengert.errors import ArgumentError, DTypeError, TapeExitError, UnsupportedError
from wengert.numpy import special

sp = pytest.importorskip("scipy.special")

X = np.array([0.3, 0.55, 0.8])
ONE = [
    "gamma", "rgamma", "gammaln", "loggamma", "digamma", "psi", "erf", "erfc", "erfcx",
    "erfinv", "erfcinv", "ndtr", "ndtri", "log_ndtr", "dawsn", "j0", "j1", "y0", "y1", "i0",
    "i0e", "i1", "i1e", "k0", "k0e", "k1", "k1e", "expit", "logit", "log_expit", "entr",
    "exp1", "expi", "ellipk", "ellipe", "ellipkm1", "exprel", "exp10", "cosm1", "sindg",
    "cosdg", "tandg", "sinc", "expm1", "log1p", "exp2", "cbrt",
]  # fmt: skip
TWO = [
    "beta", "betaln", "gammainc", "gammaincc", "poch", "binom", "jv", "yv", "iv", "kv", "ive",
    "kve", "xlogy", "xlog1py", "rel_entr", "kl_div", "huber", "pseudo_huber", "boxcox",
    "boxcox1p", "inv_boxcox", "inv_boxcox1p", "zeta", "polygamma",
]  # fmt: skip
ORDERS = ("jv", "yv", "iv", "kv", "ive", "kve", "polygamma", "zeta")


def operands(name):
    if name in ONE:
        return (X,)
    return (2 if name in ORDERS else np.array([1.2, 2.5, 0.7]), X)


@pytest.mark.parametrize("name", [*ONE, *TWO])
def test_value_is_scipys(name):
    xs = operands(name)
    np.testing.assert_allclose(getattr(special, name)(*xs), getattr(sp, name)(*xs), rtol=2e-14)


@pytest.mark.parametrize("name", [n for n in (*ONE, *TWO) if isinstance(getattr(sp, n), np.ufunc)])
def test_scipys_ufunc_takes_a_tensor(name):
    xs = operands(name)
    ours = wg.grad(lambda x: np.sum(getattr(special, name)(*xs[:-1], x)))(X)
    theirs = wg.grad(lambda x: np.sum(getattr(sp, name)(*xs[:-1], x)))(X)
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", ["zeta", "sinc"])
def test_scipys_functions_that_work_by_themselves(name):
    xs = operands(name)
    ours = wg.grad(lambda x: np.sum(getattr(special, name)(*xs[:-1], x)))(X)
    theirs = wg.grad(lambda x: np.sum(getattr(sp, name)(*xs[:-1], x)))(X)
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    "name", ["polygamma", "multigammaln", "logsumexp", "softmax", "log_softmax", "comb"]
)
def test_scipys_python_functions_refuse(name):
    t = wg.tensor(X + 2, requires_grad=True)
    args = {"polygamma": (1, t), "multigammaln": (t, 2), "comb": (t, 2)}.get(name, (t,))
    with pytest.raises(TapeExitError, match=name):
        getattr(sp, name)(*args)


def test_scipys_complex_lambertw_names_ours():
    with pytest.raises(UnsupportedError, match=r"wengert\.numpy\.special\.lambertw"):
        sp.lambertw(wg.tensor(X, requires_grad=True))


def test_out_and_where_of_scipys_ufunc():
    x = wg.tensor(X, requires_grad=True)
    out = wg.zeros(3)
    y = sp.gammaln(x, out=out)
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), sp.psi(X))


@pytest.mark.parametrize("name", [*ONE, *TWO])
def test_float32_stays(name):
    xs = [x.astype(np.float32) if isinstance(x, np.ndarray) else x for x in operands(name)]
    x = wg.tensor(xs[-1], requires_grad=True)
    y = getattr(special, name)(*xs[:-1], x)
    y.sum().backward()
    assert y.dtype == x.grad.dtype == np.float32


@pytest.mark.parametrize("name", ORDERS)
def test_an_order_refuses_in_both_modes(name):
    f = getattr(special, name)
    with pytest.raises(UnsupportedError, match=rf"the derivative of {name} in [vnx], the"):
        wg.grad(lambda v: f(v, 0.5))(2.0)
    with pytest.raises(UnsupportedError, match=rf"the derivative of {name} in [vnx], the"):
        wg.jvp(lambda v: f(v, 0.5), (2.0,), (1.0,))
    v = wg.tensor(2.0, requires_grad=True)
    assert f(v.detach(), 0.5) == f(2.0, 0.5)
    with wg.no_grad():
        assert f(v, 0.5) == f(2.0, 0.5)


@pytest.mark.parametrize("i", [0, 1])
def test_betainc_refuses_in_its_parameters(i):
    xs = [2.0, 3.0, 0.4]

    def f(v):
        return special.betainc(*xs[:i], v, *xs[i + 1 :])

    with pytest.raises(UnsupportedError, match=rf"the derivative of betainc in {'ab'[i]}"):
        wg.grad(f)(xs[i])
    with pytest.raises(UnsupportedError, match=rf"the derivative of betainc in {'ab'[i]}"):
        wg.jvp(f, (xs[i],), (1.0,))


def test_gammainc_in_a_has_two_derivatives():
    def f(a):
        return special.gammainc(a, 1.5)

    third = wg.grad(wg.grad(wg.grad(f)))
    with pytest.raises(UnsupportedError, match="twice"):
        third(2.0)


def test_riemann_zeta_refuses():
    assert special.zeta(2.0) == sp.zeta(2.0)
    for f in (special.zeta, sp.zeta):
        with pytest.raises(UnsupportedError, match="exponent"):
            wg.grad(lambda x, f=f: f(x))(2.0)


COMPLEX = ("gamma", "rgamma", "loggamma", "exp1", "expi", "jv", "yv", "iv", "kv")


@pytest.mark.parametrize("name", COMPLEX)
def test_complex(name):
    z = np.array([0.4 + 0.7j, 1.3 - 0.2j])
    f = getattr(special, name)
    xs = (2,) if name in ORDERS else ()
    h = 1e-5
    want = (f(*xs, z + h) - f(*xs, z - h)) / (2 * h)
    got = wg.jvp(lambda z: f(*xs, z), (z,), (np.ones_like(z),))[1]
    np.testing.assert_allclose(got, want, rtol=1e-8)


@pytest.mark.parametrize("name", sorted({*ONE, *TWO} - {*COMPLEX, "zeta"}))
def test_complex_is_refused_or_right(name):
    xs = (*operands(name)[:-1], X + 0.1j)
    f = getattr(special, name)
    try:
        got = wg.jvp(lambda z: f(*xs[:-1], z), (xs[-1],), (np.ones(3, complex),))[1]
    except (DTypeError, TypeError):
        return
    want = (f(*xs[:-1], xs[-1] + 1e-5) - f(*xs[:-1], xs[-1] - 1e-5)) / 2e-5
    np.testing.assert_allclose(got, want, rtol=1e-8)


def test_numpy_i0():
    np.testing.assert_allclose(np.i0(wg.tensor(X)).numpy(), np.i0(X))
    np.testing.assert_allclose(wg.grad(lambda x: np.sum(np.i0(x)))(X), sp.i1(X), rtol=1e-14)


def test_levels():
    x = np.array([[0.3, 0.7], [1.1, 1.9]])
    np.testing.assert_array_equal(wg.vmap(lambda x: special.jv(2, x))(x), sp.jv(2, x))
    h = wg.hessian(lambda x: np.sum(special.gammaln(x)))(X)
    np.testing.assert_allclose(h, np.diag(sp.polygamma(1, X)), rtol=1e-14)


def test_lambertw():
    np.testing.assert_allclose(special.lambertw(X), sp.lambertw(X).real, rtol=1e-15)
    np.testing.assert_allclose(special.lambertw(-0.2, -1), sp.lambertw(-0.2, -1).real, rtol=1e-15)
    assert special.lambertw(-np.exp(-1)) == -1
    assert np.isnan(special.lambertw(np.array([-0.5, 0.1]), -1)).all()
    with pytest.raises(UnsupportedError, match="real branches"):
        special.lambertw(X, 1)
    with pytest.raises(DTypeError, match="real"):
        special.lambertw(X + 0j)


def test_multigammaln():
    a = X + 2
    np.testing.assert_allclose(special.multigammaln(a, 3), sp.multigammaln(a, 3), rtol=1e-14)
    want = sum(sp.psi(a - j / 2) for j in range(3))
    got = wg.grad(lambda a: np.sum(special.multigammaln(a, 3)))(a)
    np.testing.assert_allclose(got, want, rtol=1e-14)
    with pytest.raises(ArgumentError, match="above"):
        special.multigammaln(np.array([0.5]), 2)
    with pytest.raises(ArgumentError, match="dimension"):
        special.multigammaln(a, 1.5)


@pytest.mark.parametrize("axis", [None, 0, 1, (0, 1)])
@pytest.mark.parametrize("b", [None, np.array([[1.0, 2.0, 0.5], [0.0, 1.5, 3.0]])])
def test_logsumexp(axis, b):
    x = np.array([[0.3, 900.0, -2.0], [1.0, 2.0, -1e3]])
    got = special.logsumexp(x, axis, b)
    np.testing.assert_allclose(got, sp.logsumexp(x, axis, b), rtol=1e-15)
    x[0, 1] = 1.0
    g = wg.grad(lambda x: np.sum(special.logsumexp(x, axis, b)))(x)
    e = np.exp(x) * (1 if b is None else b)
    np.testing.assert_allclose(g, e / e.sum(axis=axis, keepdims=True), rtol=1e-14)


def test_logsumexp_signed():
    x, b = np.array([0.3, 0.5, 0.7]), np.array([1.0, -2.0, 0.3])
    y, sign = special.logsumexp(x, b=b, return_sign=True)
    want = sp.logsumexp(x, b=b, return_sign=True)
    np.testing.assert_allclose((y, sign), want, rtol=1e-15)
    g = wg.grad(lambda b: special.logsumexp(x, b=b, return_sign=True)[0])(b)
    np.testing.assert_allclose(g, np.exp(x) / (b * np.exp(x)).sum(), rtol=1e-14)


@pytest.mark.parametrize("axis", [None, 0, -1, (0, 1)])
def test_softmax(axis):
    x = np.array([[0.3, 1.0, -2.0], [1.0, 2.0, -1e3]])
    np.testing.assert_allclose(special.softmax(x, axis), sp.softmax(x, axis), rtol=1e-14)
    np.testing.assert_allclose(special.log_softmax(x, axis), sp.log_softmax(x, axis), rtol=1e-14)
    w = np.arange(6.0).reshape(2, 3)
    p = sp.softmax(x, axis)
    g = wg.grad(lambda x: np.sum(w * special.softmax(x, axis)))(x)
    want = p * (w - (w * p).sum(axis=axis, keepdims=True))
    np.testing.assert_allclose(g, want, rtol=1e-12, atol=1e-14)


def test_arguments():
    assert special.gammaln([1.0, 2.0]).tolist() == [0.0, 0.0]
    assert special.gammaln(3) == np.log(2.0)
    with pytest.raises(TypeError, match=r"jv\(v, x, /\) takes 2"):
        special.jv(5)
    with pytest.raises(UnsupportedError, match="binom"):
        special.comb(5, 2)


WITHOUT = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "scipy":
            raise ModuleNotFoundError(name, name="scipy")
sys.meta_path.insert(0, Block())
import numpy as np, wengert as wg
from wengert.numpy import special
print(special.erf(0.0), wg.grad(lambda x: special.expit(x))(0.0))
try:
    special.gammaln(np.array([2.0]))
except wg.errors.MissingExtraError as error:
    print("wengert[special]" in str(error))
"""


def test_without_scipy():
    code = "import sys, wengert.numpy.special; print('scipy' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
    lines = subprocess.check_output([sys.executable, "-c", WITHOUT], text=True).split()
    assert lines == ["0.0", "0.25", "True"]
