"""Gradients found by differentials against wg.grad, at exact rational points."""

import numpy as np
import pytest
import sympy as sp

import wengert as wg
from wengert.errors import ArgumentError, UnsupportedError
from wengert.symbolic import trace_trick

n = sp.Symbol("n", integer=True, positive=True)
A, B, C, X = (sp.MatrixSymbol(s, n, n) for s in "ABCX")
a, b = sp.MatrixSymbol("a", n, 1), sp.MatrixSymbol("b", n, 1)
tr, det, hadamard = sp.Trace, sp.Determinant, sp.HadamardProduct
inv = np.linalg.inv
CASES = [
    (tr(X), lambda X, k: np.trace(X)),
    (tr(A * X * B), lambda X, k: np.trace(k["A"] @ X @ k["B"])),
    (tr(A * X.T * B), lambda X, k: np.trace(k["A"] @ X.T @ k["B"])),
    (tr(X.T * A * X * B), lambda X, k: np.trace(X.T @ k["A"] @ X @ k["B"])),
    (tr(A * X * B * X), lambda X, k: np.trace(k["A"] @ X @ k["B"] @ X)),
    (tr(X**3), lambda X, k: np.trace(X @ X @ X)),
    (tr(X**-2), lambda X, k: np.trace(inv(X) @ inv(X))),
    (tr(X.I * A), lambda X, k: np.trace(inv(X) @ k["A"])),
    (tr((X + A).I), lambda X, k: np.trace(inv(X + k["A"]))),
    (a.T * X * b, lambda X, k: k["a"] @ X @ k["b"]),
    (a.T * X.I * b, lambda X, k: k["a"] @ inv(X) @ k["b"]),
    (a.T * X.T * C * X * b, lambda X, k: k["a"] @ X.T @ k["C"] @ X @ k["b"]),
    (tr((A * X - B).T * (A * X - B)), lambda X, k: np.sum((k["A"] @ X - k["B"]) ** 2)),
    (sp.sqrt(tr(X.T * X)), lambda X, k: np.sqrt(np.sum(X * X))),
    (tr(A * hadamard(X, B)), lambda X, k: np.trace(k["A"] @ (X * k["B"]))),
    (tr(hadamard(X, X) * A), lambda X, k: np.trace((X * X) @ k["A"])),
    (tr(A * hadamard(X * B, X.T)), lambda X, k: np.trace(k["A"] @ ((X @ k["B"]) * X.T))),
    (det(X), lambda X, k: np.linalg.det(X)),
    (sp.log(det(X)), lambda X, k: np.linalg.slogdet(X)[1]),
    (det(A * X * B), lambda X, k: np.linalg.det(k["A"] @ X @ k["B"])),
    (sp.log(det(A + X.T * X)), lambda X, k: np.log(np.linalg.det(k["A"] + X.T @ X))),
    (tr(X) ** 2 * det(X), lambda X, k: np.trace(X) ** 2 * np.linalg.det(X)),
    (sp.exp(tr(A * X) / 9) / det(B), lambda X, k: np.exp(np.trace(k["A"] @ X) / 9)
     / np.linalg.det(k["B"])),
    (2 * tr(A * X) - tr(X * X) / 3, lambda X, k: 2 * np.trace(k["A"] @ X) - np.trace(X @ X) / 3),
    (tr(A * (X + B) * (X - C)), lambda X, k: np.trace(k["A"] @ (X + k["B"]) @ (X - k["C"]))),
]  # fmt: skip


def exact_values():
    """Small rational matrices, X with a positive determinant."""
    rng = np.random.default_rng(3)
    k = {s: rng.integers(-4, 5, (3, 3)) for s in "BC"}
    k["A"] = rng.integers(0, 3, (3, 3)) + 4 * np.eye(3, dtype=int)
    k["X"] = rng.integers(-1, 2, (3, 3)) + 4 * np.eye(3, dtype=int)
    k["B"] += 5 * np.eye(3, dtype=int)
    k |= {s: rng.integers(-3, 4, 3) for s in "ab"}
    return k


def explicit(y, k):
    """A matrix expression at explicit matrices, in exact arithmetic as far as it goes."""
    m = sp.matrices.expressions
    go = lambda v: explicit(v, k)
    if isinstance(y, sp.MatrixSymbol):
        return sp.Matrix(k[y.name])
    if isinstance(y, m.Identity):
        return sp.eye(3)
    if isinstance(y, m.MatAdd):
        return sum(map(go, y.args[1:]), go(y.args[0]))
    if isinstance(y, m.MatMul):
        return sp.prod([go(v) for v in y.args])
    if isinstance(y, m.Transpose):
        return go(y.arg).T
    if isinstance(y, m.MatPow):  # and Inverse
        return go(y.base) ** y.exp
    if isinstance(y, m.HadamardPower):
        return go(y.base).applyfunc(lambda v: v**y.exp)
    if isinstance(y, m.HadamardProduct):
        out = go(y.args[0])
        for v in y.args[1:]:
            out = out.multiply_elementwise(go(v))
        return out
    assert not isinstance(y, sp.MatrixExpr), y
    y = y.replace(sp.Trace, lambda v: go(v).trace())
    return y.replace(sp.Determinant, lambda v: go(v).det())


@pytest.mark.parametrize(
    ("f", "program"), CASES, ids=lambda v: str(v) if isinstance(v, sp.Basic) else ""
)
def test_gradient(f, program):
    k = exact_values()
    found = trace_trick(f, X)
    at = k["X"].astype(float)
    got = wg.grad(lambda X: program(X, {s: v.astype(float) for s, v in k.items()}))(at)
    want = np.array(explicit(found.gradient, k).evalf(30).tolist(), float)
    np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-11 * np.abs(want).max())
    assert found.latex().startswith(r"\begin{align*}")


def test_steps():
    text = trace_trick(tr(A * X * B), X).latex()
    assert r"\mathrm{d} f &= \operatorname{tr}\left(A \mathrm{d}X B\right)" in text
    assert r"\operatorname{tr}\left(B A \mathrm{d}X\right)" in text
    assert r"G = A^{T} B^{T}" in text


def test_oblong():
    m = sp.Symbol("m", integer=True, positive=True)
    Y, D = sp.MatrixSymbol("Y", n, m), sp.MatrixSymbol("D", m, n)
    assert trace_trick(tr(D * Y), Y).gradient == D.T
    assert trace_trick(tr(Y.T * A * Y), Y).gradient.shape == (n, m)


def test_no_dependence():
    assert trace_trick(tr(A), X).gradient == sp.ZeroMatrix(n, n)


def test_refusals():
    with pytest.raises(ArgumentError):
        trace_trick(A * X, X)
    with pytest.raises(ArgumentError):
        trace_trick(tr(X), n)
    with pytest.raises(UnsupportedError, match="KroneckerProduct"):
        trace_trick(tr(sp.KroneckerProduct(A, X)), X)
    with pytest.raises(UnsupportedError):
        trace_trick(X[0, 0], X)
    with pytest.raises(UnsupportedError):
        trace_trick(tr(X**n), X)
    with pytest.raises(UnsupportedError, match="number in a product"):
        trace_trick(tr(sp.MatMul(tr(X), A, X, evaluate=False) + A), X)
