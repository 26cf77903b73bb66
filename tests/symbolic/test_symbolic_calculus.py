"""Programs as formulas and back, against the program."""

import numpy as np
import pytest
import sympy as sp

import wengert as wg
from wengert import symbolic
from wengert.errors import ArgumentError, DTypeError, LevelError, NonScalarError, UnsupportedError

W = np.array([[0.3, -0.5, 1.2], [0.7, 0.1, -0.4]])
PROGRAMS = {
    "sum of tanh": (lambda x: np.sum(np.tanh(x) ** 2), (3,)),
    "layer": (lambda x: np.tanh(W @ x + 0.5), (3,)),
    "softmax": (lambda x: wg.softmax(x), (3,)),
    "log_softmax": (lambda x: wg.log_softmax(x), (2, 3)),
    "logsumexp": (lambda x: wg.logsumexp(x), (3,)),
    "cross_entropy": (lambda x: wg.cross_entropy(x, np.array([0, 2])), (2, 3)),
    "einsum": (lambda x: np.einsum("ij,kj->ik", x, W), (2, 3)),
    "indices": (lambda x: np.concatenate([x[::-1], x[[0, 2]] * x[1]]), (3,)),
    "where": (lambda x: np.where(x > 0.2, x**3, np.exp(x)), (3,)),
    "choices": (lambda x: np.maximum(x, 0.1) * np.minimum(x, x[::-1]) + np.abs(x), (3,)),
    "max": (lambda x: np.max(x) * np.min(x), (3,)),
    "prod": (lambda x: np.prod(x) + np.cumsum(x)[-1] + np.mean(x), (3,)),
    "det": (lambda x: np.linalg.det(x) + np.linalg.inv(x)[0, 1], (2, 2)),
    "solve": (lambda x: np.linalg.solve(x, np.array([1.0, 2.0])), (2, 2)),
    "norm": (lambda x: np.linalg.norm(x), (3,)),
    "cholesky": (lambda x: np.linalg.cholesky(x @ x.T), (2, 2)),
    "std": (lambda x: np.std(x), (3,)),
    "loop": (lambda x: sum(x**k / (k + 1) for k in range(4)), ()),
    "special": (lambda x: wg.erf(x) + wg.sigmoid(x) * wg.gelu(x) + wg.softplus(x), ()),
    "relu": (lambda x: wg.relu(x) ** 2, (3,)),
}


def point(shape, seed=0):
    rng = np.random.default_rng(seed)
    return (
        rng.uniform(0.4, 1.3, shape) * rng.choice([-1.0, 1.0], shape)
        + np.eye(*shape[-2:])[: shape[0]]
        if len(shape) == 2
        else rng.uniform(-1.3, 1.3, shape)
    )


def at(y, symbols, x):
    """A formula's number(s) at x, in 30 digits, as doubles."""
    table = dict(zip(np.ravel(np.array(symbols.tolist(), object)) if x.shape else [symbols],
                     [sp.Float(float(v), 40) for v in np.ravel(x)]))  # fmt: skip
    if not hasattr(y, "tolist"):
        return float(sp.N(y.xreplace(table), 30))
    flat = [float(sp.N(v.xreplace(table), 30)) for v in np.ravel(np.array(y.tolist(), object))]
    return np.reshape(flat, y.shape)


@pytest.mark.parametrize("name", PROGRAMS)
def test_value_and_jacobian(name):
    f, shape = PROGRAMS[name]
    x = np.asarray(point(shape))
    s = symbolic.symbols(f, x)
    np.testing.assert_allclose(at(symbolic.expression(f, x), s, x), f(x), rtol=1e-14, atol=1e-15)
    got = at(symbolic.jacobian(f, x), s, x)
    np.testing.assert_allclose(wg.jacobian(f)(x), got, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("name", PROGRAMS)
def test_back_to_a_program(name):
    """f -> formula -> g: the same values and gradients, and g's formula is the formula."""
    f, shape = PROGRAMS[name]
    x = np.asarray(point(shape, 1))
    y, s = symbolic.expression(f, x), symbolic.symbols(f, x)
    g = symbolic.function(y, s if shape == () else np.array(s.tolist(), object))
    np.testing.assert_allclose(g(x), f(x), rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(wg.jacobian(g)(x), wg.jacobian(f)(x), rtol=1e-12, atol=1e-13)
    again = symbolic.expression(lambda x: g(x), s if shape == () else np.array(s.tolist(), object))
    flat = [np.ravel(np.array(v.tolist(), object)) if hasattr(v, "tolist") else [v]
            for v in (y, again)]  # fmt: skip
    for a, b in zip(*flat, strict=True):
        assert a == b or at(a - b, s, x) == pytest.approx(0, abs=1e-13)


FORMULAS = ["sin(x)*exp(-x**2)", "1/(1 + exp(-x))", "Max(x, 1/3)*Abs(x)", "erf(x)/sqrt(1 + x**2)",
            "gamma(x + 3)", "atan2(x, 2) + log(x + 4)", "Piecewise((x**2, x > 1/2), (x**3, True))",
            "x**Rational(5, 2)", "besselj(0, x) + polygamma(0, x + 5)", "LambertW(x + 1)",
            "Heaviside(x)*x", "tan(x)*sinh(x) - acosh(x + 3)", "Mod(x, 1)"]  # fmt: skip


@pytest.mark.parametrize("text", FORMULAS)
def test_formula_to_program_and_back(text):
    x = sp.Symbol("x", real=True)
    y = sp.sympify(text, locals={"x": x})
    f = symbolic.function(y, x)
    back = symbolic.expression(f, x)
    for v in (0.7, 1.9):
        want = float(sp.N(y.subs(x, v), 30))
        assert float(sp.N(back.subs(x, v), 30)) == pytest.approx(want, rel=1e-14)
        assert f(v) == pytest.approx(want, rel=1e-14)
        slope = float(sp.N(symbolic.differentiate(y, x).subs(x, v), 30))
        assert wg.grad(f)(np.float64(v)) == pytest.approx(slope, rel=1e-13)


def test_gradient_and_hessian_of_a_function_of_two_arguments():
    def f(x, a):
        return np.sum(np.sin(x * a)) * a

    g = symbolic.gradient(f, (2,), 1.0, wrt=1)
    x, a = symbolic.symbols(f, (2,), 1.0)
    assert sp.simplify(g - sum(sp.sin(v * a) + a * v * sp.cos(v * a) for v in x)) == 0
    h = symbolic.hessian(f, (2,), 1.0)
    assert h.shape == (2, 2)
    assert h[0, 0] == -(a**3) * sp.sin(a * x[0])
    assert h[0, 1] == 0


def test_a_traced_derivative_is_a_formula_too():
    f = lambda x: np.sum(np.tanh(x) ** 3) + x[0] * x[1]
    x = point((3,))
    s = symbolic.symbols(f, x)
    program = symbolic.expression(wg.grad(f), x)
    formula = symbolic.gradient(f, x)
    np.testing.assert_allclose(at(program, s, x), at(formula, s, x), rtol=1e-14)


def test_symbols_of_ones_own_and_containers():
    t = sp.Symbol("t", positive=True)
    assert symbolic.expression(lambda x: np.log(np.exp(x)) + np.sqrt(x * x), t) == 2 * t
    y = symbolic.expression(lambda p: p["w"] @ p["b"], {"w": np.ones(2), "b": np.ones(2)})
    assert str(y) == "p_b0*p_w0 + p_b1*p_w1"
    w = wg.tensor([2.0, 0.5])
    assert str(symbolic.expression(lambda x: np.sum(w * x), (2,))) == "2*x0 + x1/2"


def test_a_branch_is_refused():
    def branch(x):
        if x > 0:
            return x
        return -x

    def loop(x):
        while x < 10:
            x = x * 2
        return x

    for f, line in ((branch, branch), (loop, loop)):
        with pytest.raises(LevelError, match=r"branch on a value.*(\n.*)*wg\.where") as caught:
            symbolic.expression(f, 1.0)
        assert f"in {line.__name__}" in str(caught.value)


def test_refusals_name_the_operation_and_the_line():
    def f(x):
        return np.linalg.svd(x)[1]

    with pytest.raises(UnsupportedError, match="svd") as caught:
        symbolic.expression(f, (2, 2))
    assert "in f" in str(caught.value)
    with pytest.raises(UnsupportedError, match="ArgMax"):
        symbolic.expression(lambda x: x[np.argmax(x)], (3,))
    with pytest.raises(DTypeError):
        symbolic.expression(lambda x: x, 1j)
    with pytest.raises(NonScalarError):
        symbolic.gradient(lambda x: x, (2,))
    with pytest.raises(ArgumentError):
        symbolic.gradient(lambda x: x, 1.0, wrt=3)
    with pytest.raises(ArgumentError):
        symbolic.function(sp.Symbol("x") + sp.Symbol("y"), sp.Symbol("x"))


def test_a_refusal_leaves_no_trace_behind():
    w = wg.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(UnsupportedError):
        symbolic.expression(lambda x: np.linalg.svd(np.outer(x, w))[1], (2,))
    np.sum(w * w).backward()
    np.testing.assert_array_equal(np.asarray(w.grad), [2.0, 4.0])


def test_derivation_of_a_small_network():
    def f(w, x):
        return np.sum((wg.sigmoid(w * x) - 1) ** 2)

    d = symbolic.derivation(f, 0.5, 2.0)
    w, x = symbolic.symbols(f, 0.5, 2.0)
    assert sp.simplify(d.result[w] - symbolic.gradient(f, 0.5, 2.0)) == 0
    assert sp.simplify(d.result[x] - symbolic.gradient(f, 0.5, 2.0, wrt=1)) == 0
    text = d.latex()
    assert text.startswith(r"\begin{align*}")
    assert r"\frac{\partial v_{1}}{\partial w} &= x" in text


@pytest.mark.parametrize("name", ["sum of tanh", "logsumexp", "max", "norm", "prod"])
def test_derivations_compose_to_the_gradient(name):
    f, shape = PROGRAMS[name]
    x = point(shape, 2)
    s = symbolic.symbols(f, x)
    d = symbolic.derivation(f, x)
    got = [at(sp.sympify(v), s, x) for v in d.result.values()]
    np.testing.assert_allclose(got, wg.grad(f)(x), rtol=1e-13, atol=1e-15)


def test_names_that_would_meet_are_kept_apart():
    f = lambda x, x0: np.sum(x * x0)
    y = symbolic.gradient(f, (2,), 1.0, wrt=1)
    assert str(y) == "x0 + x1"
    x, x0 = symbolic.symbols(f, (2,), 1.0)
    assert x0 not in list(x)
    assert symbolic.expression(f, (2,), sp.Symbol("x0", real=True)).free_symbols >= {
        sp.Symbol("x0", real=True)
    }
    assert len(symbolic.expression(f, (2,), sp.Symbol("x0", real=True)).free_symbols) == 3


def test_one_symbol_for_two_arguments_is_refused():
    t = sp.Symbol("t", real=True)
    assert symbolic.expression(lambda a, b: a * b, t, t) == t**2
    with pytest.raises(ArgumentError, match="no other place"):
        symbolic.derivative(lambda a, b: a * b, t, t)
    with pytest.raises(ArgumentError, match="no other place"):
        symbolic.derivative(lambda a: a * 2, t**2)
    with pytest.raises(ArgumentError, match="real=True"):
        symbolic.derivative(lambda a: a * 2, sp.Symbol("z"))


def test_conditions_count_as_numbers_and_integers_are_cut():
    x = sp.Symbol("x", real=True)
    cases = {
        "sum of conditions": lambda x: (x > 0) + 1.0 + np.sum(np.stack([x > 1, x > 2])),
        "cut": lambda x: x.astype(np.int64) * 1.0,
        "truth": lambda x: np.where(np.logical_and(x, x - 1.0), x, 7.0),
        "bool": lambda x: x.astype(bool) * x,
        "all": lambda x: np.where(np.logical_or(x > 2, ~(x > -1)), x * x, -x),
    }
    for name, f in cases.items():
        y = symbolic.expression(f, x)
        for v in (-1.7, 0.0, 0.4, 1.0, 1.5, 2.5):
            assert float(y.subs(x, v)) == pytest.approx(float(f(np.float64(v)))), (name, v)


KINKS = {
    "abs": (np.abs, 0.0), "relu": (wg.relu, 0.0), "maximum": (lambda x: np.maximum(x, 1.0), 1.0),
    "minimum": (lambda x: np.minimum(x, 1.0), 1.0), "low": (lambda x: np.clip(x, 0, 1), 0.0),
    "high": (lambda x: np.clip(x, 0, 1), 1.0), "step": (lambda x: x * np.sign(x), 0.0),
    "floor": (lambda x: x * np.floor(x), 1.0),
}  # fmt: skip


@pytest.mark.parametrize("name", KINKS)
def test_kinks_have_the_slope_of_the_program(name):
    f, x = KINKS[name]
    s = symbolic.symbols(f, 1.0)
    assert float(symbolic.derivative(f, 1.0).subs(s, sp.Rational(x))) == wg.grad(f)(np.float64(x))
    assert float(symbolic.derivative(f, 1.0, order=2).subs(s, sp.Rational(x))) == 0.0


def test_control_flow():
    x = sp.Symbol("x", real=True)
    y = symbolic.expression(lambda x: wg.cond(x > 0, lambda x: x, lambda x: x * x, x), x)
    assert y == sp.Piecewise((x, x > 0), (x**2, True))
    with pytest.raises(LevelError, match="while_loop"):
        symbolic.expression(lambda x: wg.while_loop(lambda x: x < 9, lambda x: x * 2, x), x)
