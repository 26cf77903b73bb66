r"""Identities of matrix calculus as data, each with a program to check it by.

A row has the function, its derivative in the denominator layout (the gradient, in the shape of the
argument) and in the numerator layout, both as LaTeX, and as programs of NumPy: the tests hold
`closed` to `wg.jacobian(f)` and to central differences. For a matrix by a matrix the derivative is
d vec Y / d (vec X)^T.

References:
    MC: K. B. Petersen, M. S. Pedersen, The Matrix Cookbook, version of November 15, 2012; the
        number of the equation, or the section.
    MN: J. R. Magnus, H. Neudecker, Matrix Differential Calculus, 3rd ed. (2019); the chapter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from ..numpy.reduce import log_softmax, logsumexp, softmax
from ..ops.elementwise import sigmoid
from ..types import Array

__all__ = ["TABLE", "Identity", "constants_of", "identities"]

inv: Any = np.linalg.inv


def constants_of(seed: int = 0) -> Any:
    """The matrices that the identities name: A, B, C, M any, S symmetric, a, b, c, y vectors."""
    rng = np.random.default_rng(seed)
    k = SimpleNamespace(**{n: rng.standard_normal((3, 3)) for n in "ABCM"})
    k.S = k.M @ k.M.T + np.eye(3)
    for n in "abcy":
        setattr(k, n, rng.standard_normal(3))
    k.t = np.array([0.2, 0.5, 0.3])
    k.I = np.eye(3)
    return k


def vector(rng: Any) -> Any:
    return rng.standard_normal(3)


def positive(rng: Any) -> Any:
    return rng.uniform(0.3, 2.0, 3)


def square(rng: Any) -> Any:
    """Well away from singular, with a positive determinant."""
    return 0.4 * rng.standard_normal((3, 3)) + 2 * np.eye(3)


def definite(rng: Any) -> Any:
    x = rng.standard_normal((3, 3))
    return x @ x.T + np.eye(3)


def tall(rng: Any) -> Any:
    return rng.standard_normal((3, 2))


def number(rng: Any) -> Any:
    return np.float64(rng.uniform(0.3, 1.0))


def commutation(m: int, n: int) -> Any:
    """K with K vec X = vec X^T for X of shape [m, n]."""
    k = np.zeros((m * n, m * n))
    for i in range(m):
        for j in range(n):
            k[i * n + j, j * m + i] = 1
    return k


@dataclass(frozen=True)
class Identity:
    """One row: see the head of the file. `closed` is in numerator layout, as `wg.jacobian`."""

    group: str
    function: str
    derivative: str  # of a number the gradient, of anything else the Jacobian
    f: Callable[[Array, Any], Array]
    closed: Callable[[Array, Any], Array]
    sample: Callable[[Any], Array]
    source: str
    note: str = ""

    @property
    def numerator(self) -> str:
        return turned(self.derivative) if self.group in GRADIENTS else self.derivative

    @property
    def denominator(self) -> str:
        return self.derivative if self.group in GRADIENTS else turned(self.derivative)


SV, SM, VV, MM, MS = (
    "a number by a vector",
    "a number by a matrix",
    "a vector by a vector",
    "a matrix by a matrix",
    "a matrix by a number",
)
GRADIENTS = (SV, SM)


def turned(text: str) -> str:
    """The transpose, in LaTeX."""
    if text in ("I", r"J"):
        return text
    short = len(text) == 1 or (text.startswith("\\") and text[1:].isalpha())
    return f"{text}^T" if short else rf"\left({text}\right)^T"


def outer(a: Array, b: Array) -> Any:
    return a[:, None] * b[None, :]


def kron(a: Array, b: Array) -> Any:
    return np.kron(a, b)


def diag_minus(p: Array) -> Any:
    return np.diag(p) - outer(p, p)


def exp_series(x: Array) -> Any:
    """e^X by its power series, which is exact to a double for the small X it is used on."""
    y = term = np.eye(x.shape[-1])
    for n in range(1, 30):
        term = term @ x / n
        y = y + term
    return y


def integral(s: Array) -> Any:
    """The integral over 0 < u < 1 of e^(u s^T) kron e^((1 - u) s), by Gauss's rule of 20 points."""
    u, w = np.polynomial.legendre.leggauss(20)
    u, w = (u + 1) / 2, w / 2
    return sum(wi * np.kron(exp_series(ui * s.T), exp_series((1 - ui) * s)) for ui, wi in zip(u, w))


R = Identity
# fmt: off
TABLE: tuple[Identity, ...] = (
    # ---- a number by a vector: the gradient
    R(SV, r"a^T x", r"a", lambda x, k: k.a @ x, lambda x, k: k.a, vector, "MC 69"),
    R(SV, r"x^T x", r"2 x", lambda x, k: x @ x, lambda x, k: 2 * x, vector, "MC 131"),
    R(SV, r"x^T A x", r"\left(A + A^T\right) x", lambda x, k: x @ k.A @ x,
      lambda x, k: (k.A + k.A.T) @ x, vector, "MC 81"),
    R(SV, r"x^T S x", r"2 S x", lambda x, k: x @ k.S @ x, lambda x, k: 2 * k.S @ x, vector,
      "MC 81", "S symmetric"),
    R(SV, r"\|A x - b\|^2", r"2 A^T \left(A x - b\right)",
      lambda x, k: np.sum((k.A @ x - k.b) ** 2), lambda x, k: 2 * k.A.T @ (k.A @ x - k.b), vector,
      "MC 84"),
    R(SV, r"\left(A x + a\right)^T C \left(B x + b\right)",
      r"A^T C \left(B x + b\right) + B^T C^T \left(A x + a\right)",
      lambda x, k: (k.A @ x + k.a) @ k.C @ (k.B @ x + k.b),
      lambda x, k: k.A.T @ k.C @ (k.B @ x + k.b) + k.B.T @ k.C.T @ (k.A @ x + k.a), vector,
      "MC 78"),
    R(SV, r"\left(x - b\right)^T S \left(x - b\right)", r"2 S \left(x - b\right)",
      lambda x, k: (x - k.b) @ k.S @ (x - k.b), lambda x, k: 2 * k.S @ (x - k.b), vector, "MC 85",
      "S symmetric"),
    R(SV, r"\|x - a\|", r"\frac{x - a}{\|x - a\|}", lambda x, k: np.linalg.norm(x - k.a),
      lambda x, k: (x - k.a) / np.linalg.norm(x - k.a), vector, "MC 129"),
    R(SV, r"\log \sum_i e^{x_i}", r"\operatorname{softmax}(x)", lambda x, k: logsumexp(x),
      lambda x, k: np.exp(x) / np.sum(np.exp(x)), vector, "MN 13"),
    R(SV, r"-\sum_i y_i \log \operatorname{softmax}(x)_i", r"\operatorname{softmax}(x) - y",
      lambda x, k: -np.sum(k.t * log_softmax(x)),
      lambda x, k: np.exp(x) / np.sum(np.exp(x)) - k.t, vector, "chain rule",
      r"\(\sum_i y_i = 1\)"),
    R(SV, r"\sum_i x_i \log x_i", r"\log x + 1", lambda x, k: np.sum(x * np.log(x)),
      lambda x, k: np.log(x) + 1, positive, "elementwise"),
    R(SV, r"f(A x), f = \textstyle\sum \sin", r"A^T \cos(A x)",
      lambda x, k: np.sum(np.sin(k.A @ x)), lambda x, k: k.A.T @ np.cos(k.A @ x), vector,
      "chain rule"),
    R(SV, r"\frac{x^T S x}{x^T x}", r"\frac{2}{x^T x} \left(S x - \frac{x^T S x}{x^T x} x\right)",
      lambda x, k: (x @ k.S @ x) / (x @ x),
      lambda x, k: 2 / (x @ x) * (k.S @ x - (x @ k.S @ x) / (x @ x) * x), vector, "MN 8",
      "the Rayleigh quotient"),
    # ---- a number by a matrix: the gradient, in the shape of X
    R(SM, r"a^T X b", r"a b^T", lambda x, k: k.a @ x @ k.b, lambda x, k: outer(k.a, k.b), square,
      "MC 70"),
    R(SM, r"a^T X^T b", r"b a^T", lambda x, k: k.a @ x.T @ k.b, lambda x, k: outer(k.b, k.a),
      square, "MC 71"),
    R(SM, r"a^T X^T X b", r"X \left(a b^T + b a^T\right)", lambda x, k: k.a @ x.T @ x @ k.b,
      lambda x, k: x @ (outer(k.a, k.b) + outer(k.b, k.a)), square, "MC 77"),
    R(SM, r"a^T X^T C X b", r"C^T X a b^T + C X b a^T",
      lambda x, k: k.a @ x.T @ k.C @ x @ k.b,
      lambda x, k: k.C.T @ x @ outer(k.a, k.b) + k.C @ x @ outer(k.b, k.a), square, "MC 82"),
    R(SM, r"\left(X b + c\right)^T C \left(X b + c\right)",
      r"\left(C + C^T\right) \left(X b + c\right) b^T",
      lambda x, k: (x @ k.b + k.c) @ k.C @ (x @ k.b + k.c),
      lambda x, k: outer((k.C + k.C.T) @ (x @ k.b + k.c), k.b), square, "MC 83"),
    R(SM, r"\|y - X b\|^2", r"-2 \left(y - X b\right) b^T",
      lambda x, k: np.sum((k.y - x @ k.b) ** 2), lambda x, k: -2 * outer(k.y - x @ k.b, k.b),
      square, "MC 88"),
    R(SM, r"\operatorname{tr} X", r"I", lambda x, k: np.trace(x), lambda x, k: k.I, square,
      "MC 100"),
    R(SM, r"\operatorname{tr}(X A)", r"A^T", lambda x, k: np.trace(x @ k.A), lambda x, k: k.A.T,
      square, "MC 101"),
    R(SM, r"\operatorname{tr}(A X B)", r"A^T B^T", lambda x, k: np.trace(k.A @ x @ k.B),
      lambda x, k: k.A.T @ k.B.T, square, "MC 102"),
    R(SM, r"\operatorname{tr}(A X^T B)", r"B A", lambda x, k: np.trace(k.A @ x.T @ k.B),
      lambda x, k: k.B @ k.A, square, "MC 103"),
    R(SM, r"\operatorname{tr}(X^T A)", r"A", lambda x, k: np.trace(x.T @ k.A), lambda x, k: k.A,
      square, "MC 104"),
    R(SM, r"\operatorname{tr}(X^2)", r"2 X^T", lambda x, k: np.trace(x @ x), lambda x, k: 2 * x.T,
      square, "MC 107"),
    R(SM, r"\operatorname{tr}(X^2 B)", r"\left(X B + B X\right)^T",
      lambda x, k: np.trace(x @ x @ k.B), lambda x, k: (x @ k.B + k.B @ x).T, square, "MC 108"),
    R(SM, r"\operatorname{tr}(X^T B X)", r"B X + B^T X", lambda x, k: np.trace(x.T @ k.B @ x),
      lambda x, k: k.B @ x + k.B.T @ x, tall, "MC 109"),
    R(SM, r"\operatorname{tr}(X^T A X B)", r"A X B + A^T X B^T",
      lambda x, k: np.trace(x.T @ k.A @ x @ k.B), lambda x, k: k.A @ x @ k.B + k.A.T @ x @ k.B.T,
      square, "MC 118"),
    R(SM, r"\operatorname{tr}(A X B X)", r"A^T X^T B^T + B^T X^T A^T",
      lambda x, k: np.trace(k.A @ x @ k.B @ x),
      lambda x, k: k.A.T @ x.T @ k.B.T + k.B.T @ x.T @ k.A.T, square, "MC 115"),
    R(SM, r"\|A X B + C\|_F^2", r"2 A^T \left(A X B + C\right) B^T",
      lambda x, k: np.sum((k.A @ x @ k.B + k.C) ** 2),
      lambda x, k: 2 * k.A.T @ (k.A @ x @ k.B + k.C) @ k.B.T, square, "MC 120"),
    R(SM, r"\operatorname{tr}(X^3)", r"3 \left(X^2\right)^T", lambda x, k: np.trace(x @ x @ x),
      lambda x, k: 3 * (x @ x).T, square, "MC 122"),
    R(SM, r"\operatorname{tr}(A \otimes X)", r"\operatorname{tr}(A) I",
      lambda x, k: np.trace(np.kron(k.A, x)), lambda x, k: np.trace(k.A) * k.I, square, "MC 106"),
    R(SM, r"\operatorname{tr}(X^{-1} A)", r"-X^{-T} A^T X^{-T}",
      lambda x, k: np.trace(inv(x) @ k.A), lambda x, k: -inv(x).T @ k.A.T @ inv(x).T, square,
      "MC 124"),
    R(SM, r"\operatorname{tr}\left((X + A)^{-1}\right)", r"-\left((X + A)^{-2}\right)^T",
      lambda x, k: np.trace(inv(x + k.S)), lambda x, k: -(inv(x + k.S) @ inv(x + k.S)).T, square,
      "MC 64", "run with A = S"),
    R(SM, r"a^T X^{-1} b", r"-X^{-T} a b^T X^{-T}", lambda x, k: k.a @ inv(x) @ k.b,
      lambda x, k: -inv(x).T @ outer(k.a, k.b) @ inv(x).T, square, "MC 61"),
    R(SM, r"\det X", r"\det(X) X^{-T}", lambda x, k: np.linalg.det(x),
      lambda x, k: np.linalg.det(x) * inv(x).T, square, "MC 49"),
    R(SM, r"\det(A X B)", r"\det(A X B) X^{-T}", lambda x, k: np.linalg.det(k.A @ x @ k.B),
      lambda x, k: np.linalg.det(k.A @ x @ k.B) * inv(x).T, square, "MC 51"),
    R(SM, r"\det(X^{-1})", r"-\det(X^{-1}) X^{-T}", lambda x, k: np.linalg.det(inv(x)),
      lambda x, k: -np.linalg.det(inv(x)) * inv(x).T, square, "MC 62"),
    R(SM, r"\det(X^T S X)", r"2 \det(X^T S X) S X \left(X^T S X\right)^{-1}",
      lambda x, k: np.linalg.det(x.T @ k.S @ x),
      lambda x, k: 2 * np.linalg.det(x.T @ k.S @ x) * k.S @ x @ inv(x.T @ k.S @ x), tall, "MC 53",
      "S symmetric, X tall"),
    R(SM, r"\det(X^2)", r"2 \det(X^2) X^{-T}", lambda x, k: np.linalg.det(x @ x),
      lambda x, k: 2 * np.linalg.det(x @ x) * inv(x).T, square, "MC 58"),
    R(SM, r"\log |\det X|", r"X^{-T}", lambda x, k: np.linalg.slogdet(x)[1],
      lambda x, k: inv(x).T, square, "MC 57"),
    R(SM, r"\log \det(X^T X)", r"2 \left(X^{+}\right)^T",
      lambda x, k: np.linalg.slogdet(x.T @ x)[1], lambda x, k: 2 * np.linalg.pinv(x).T, tall,
      "MC 55", "X tall"),
    R(SM, r"\|X\|_F^2", r"2 X", lambda x, k: np.sum(x * x), lambda x, k: 2 * x, tall, "MC 132"),
    R(SM, r"\|X\|_F", r"\frac{X}{\|X\|_F}", lambda x, k: np.linalg.norm(x),
      lambda x, k: x / np.sqrt(np.sum(x * x)), tall, "chain rule"),
    R(SM, r"\operatorname{tr}\left(A (X \circ B)\right)", r"A^T \circ B",
      lambda x, k: np.trace(k.A @ (x * k.B)), lambda x, k: k.A.T * k.B, square, "MC 38"),
    R(SM, r"\lambda_{\max}(X)", r"v v^T", lambda x, k: np.linalg.eigvalsh((x + x.T) / 2)[-1],
      lambda x, k: outer(*[np.linalg.eigh(x)[1][:, -1]] * 2), definite, "MC 67",
      "of the symmetric part; v its unit eigenvector"),
    R(SM, r"\|X\|_*", r"U V^T", lambda x, k: np.sum(np.linalg.svd(x, compute_uv=False)),
      lambda x, k: np.matmul(*np.linalg.svd(x, full_matrices=False)[::2]), tall, "MN 8",
      r"\(X = U \Sigma V^T\), of full rank"),
    R(SM, r"\sigma_{\max}(X)", r"u v^T", lambda x, k: np.linalg.svd(x, compute_uv=False)[0],
      lambda x, k: outer(np.linalg.svd(x)[0][:, 0], np.linalg.svd(x)[2][0]), square, "MN 8",
      "u, v the first singular vectors"),
    R(SM, r"f(X + X^T - \operatorname{diag} X), f = \operatorname{tr}(A \,\cdot)",
      r"A + A^T - A \circ I",
      lambda x, k: np.trace(k.A @ (x + x.T - x * k.I)), lambda x, k: k.A + k.A.T - k.A * k.I,
      square, "MC 141", "by the free entries of a symmetric matrix"),
    R(SM, r"\log\det(X + X^T - \operatorname{diag} X)", r"2 Y^{-1} - Y^{-1} \circ I",
      lambda x, k: np.linalg.slogdet(x + x.T - x * k.I)[1],
      lambda x, k: 2 * inv(x + x.T - x * k.I) - inv(x + x.T - x * k.I) * k.I, square, "MC 143",
      r"by the free entries of the symmetric \(Y = X + X^T - \operatorname{diag} X\)"),
    # ---- a vector by a vector: the Jacobian
    R(VV, r"A x", r"A", lambda x, k: k.A @ x, lambda x, k: k.A, vector, "MN 9"),
    R(VV, r"x^T A", r"A^T", lambda x, k: x @ k.A, lambda x, k: k.A.T, vector, "MN 9"),
    R(VV, r"\sigma(x)", r"\operatorname{diag}\left(\sigma(x) \circ (1 - \sigma(x))\right)",
      lambda x, k: sigmoid(x), lambda x, k: np.diag(np.exp(-x) / (1 + np.exp(-x)) ** 2), vector,
      "elementwise"),
    R(VV, r"a \circ x", r"\operatorname{diag}(a)", lambda x, k: k.a * x, lambda x, k: np.diag(k.a),
      vector, "elementwise"),
    R(VV, r"p = \operatorname{softmax}(x)", r"\operatorname{diag}(p) - p p^T",
      lambda x, k: softmax(x), lambda x, k: diag_minus(np.exp(x) / np.sum(np.exp(x))), vector,
      "quotient rule"),
    R(VV, r"\log \operatorname{softmax}(x)", r"I - \mathbf{1} \operatorname{softmax}(x)^T",
      lambda x, k: log_softmax(x),
      lambda x, k: k.I - outer(np.ones(3), np.exp(x) / np.sum(np.exp(x))), vector, "chain rule"),
    R(VV, r"\frac{x - a}{\|x - a\|}", r"\frac{I}{\|x - a\|} - \frac{(x - a)(x - a)^T}{\|x - a\|^3}",
      lambda x, k: (x - k.a) / np.linalg.norm(x - k.a),
      lambda x, k: k.I / np.linalg.norm(x - k.a)
      - outer(x - k.a, x - k.a) / np.linalg.norm(x - k.a) ** 3, vector, "MC 130"),
    R(VV, r"x x^T b", r"x b^T + x^T b\, I", lambda x, k: x * (x @ k.b),
      lambda x, k: outer(x, k.b) + (x @ k.b) * k.I, vector, "product rule"),
    R(VV, r"g(A x), g = \tanh", r"\operatorname{diag}\left(1 - \tanh^2(A x)\right) A",
      lambda x, k: np.tanh(k.A @ x), lambda x, k: (1 - np.tanh(k.A @ x) ** 2)[:, None] * k.A,
      vector, "chain rule"),
    # ---- a matrix by a matrix: d vec Y / d (vec X)^T
    R(MM, r"A X B", r"B^T \otimes A", lambda x, k: k.A @ x @ k.B, lambda x, k: kron(k.B.T, k.A),
      square, "MN 9"),
    R(MM, r"X^T", r"K", lambda x, k: x.T, lambda x, k: commutation(3, 2), tall, "MN 9",
      "K the commutation matrix"),
    R(MM, r"X^{-1}", r"-X^{-T} \otimes X^{-1}", lambda x, k: inv(x),
      lambda x, k: -kron(inv(x).T, inv(x)), square, "MC 40"),
    R(MM, r"X^2", r"X^T \otimes I + I \otimes X", lambda x, k: x @ x,
      lambda x, k: kron(x.T, k.I) + kron(k.I, x), square, "MN 9"),
    R(MM, r"X^T X", r"\left(I + K\right) \left(I \otimes X^T\right)", lambda x, k: x.T @ x,
      lambda x, k: (np.eye(4) + commutation(2, 2)) @ kron(np.eye(2), x.T), tall, "MN 9"),
    R(MM, r"X \circ B", r"\operatorname{diag}(\operatorname{vec} B)", lambda x, k: x * k.B,
      lambda x, k: np.diag(k.B.T.ravel()), square, "MN 9"),
    R(MM, r"e^X", r"\int_0^1 e^{u X^T} \otimes e^{(1 - u) X} \,\mathrm{d}u",
      lambda x, k: exp_series(x), lambda x, k: integral(x), square, "MN 13",
      "e^X as its power series"),
    # ---- a matrix by a number
    R(MS, r"x A", r"A", lambda x, k: x * k.A, lambda x, k: k.A, number, "MC 34"),
    R(MS, r"\left(x A + S\right)^{-1}", r"-\left(x A + S\right)^{-1} A \left(x A + S\right)^{-1}",
      lambda x, k: inv(x * k.A / 9 + k.S),
      lambda x, k: -inv(x * k.A / 9 + k.S) @ (k.A / 9) @ inv(x * k.A / 9 + k.S), number, "MC 59",
      "run with A / 9"),
    R(MS, r"e^{x A}", r"A e^{x A}", lambda x, k: exp_series(x * k.A),
      lambda x, k: k.A @ exp_series(x * k.A), number, "MN 8"),
)
# fmt: on


def identities(form: str = "markdown") -> str:
    r"""The table of identities, as Markdown (with LaTeX inside) or as one LaTeX `tabular`.

    Args:
        form: "markdown" or "latex".

    Example:
        >>> print(identities().splitlines()[0])
        ### a number by a vector
        >>> r"X^{-T}" in identities("latex")
        True
    """
    if form == "latex":
        rows = [
            rf"${i.function}$ & ${i.numerator}$ & ${i.denominator}$ & {i.source} \\" for i in TABLE
        ]
        head = "function & numerator layout & denominator layout & source \\\\ \\hline"
        return "\n".join([r"\begin{tabular}{llll}", head, *rows, r"\end{tabular}"])
    parts = []
    for group in dict.fromkeys(i.group for i in TABLE):
        lines = [
            f"### {group}",
            "",
            "| function | numerator layout | denominator layout | source | |",
            "| --- | --- | --- | --- | --- |",
        ]
        lines += [
            f"| {math(i.function)} | {math(i.numerator)} | {math(i.denominator)} | {i.source} | "
            f"{i.note.replace(chr(92) + '(', '$').replace(chr(92) + ')', '$')} |"
            for i in TABLE
            if i.group == group
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def math(text: str) -> str:
    r"""Inline mathematics for a cell of a table, where a bar would end the cell."""
    return "$" + text.replace(r"\|", r"\Vert ").replace("|", r"\vert ") + "$"
