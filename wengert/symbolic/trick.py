r"""The trace trick: the gradient of a scalar function of a matrix, by differentials.

d tr(..) is brought into the form tr(G^T dX); then G is the gradient (denominator layout, the shape
of X). `RULES` is the whole calculus: the differential of each kind of matrix expression.

    d(A X B) = A dX B          d(X^-1) = -X^-1 dX X^-1       d(X^T) = (dX)^T
    d(X + Y) = dX + dY         d(X o Y) = dX o Y + X o dY
    d tr(X)  = tr(dX)          d det X = det X tr(X^-1 dX)

References:
    J. R. Magnus, H. Neudecker, Matrix Differential Calculus, 3rd ed. (2019), chapters 8 and 9.
    K. B. Petersen, M. S. Pedersen, The Matrix Cookbook (2012), equations 33 to 44.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import ArgumentError, UnsupportedError
from .forms import sp

__all__ = ["Trick", "trace_trick"]

matrices: Any = sp.matrices.expressions
Hadamard: Any = matrices.HadamardProduct
Add, Mul = matrices.MatAdd, matrices.MatMul
Zero: Any = matrices.ZeroMatrix


def of_product(y: Any, d: Callable[[Any], Any]) -> Any:
    """The product rule: each factor in its turn."""
    scalar, factors = y.as_coeff_matrices()
    return total(
        [scalar * sp.MatMul(*factors[:i], d(a), *factors[i + 1 :]) for i, a in enumerate(factors)],
        y.shape,
    )


def of_power(y: Any, d: Callable[[Any], Any]) -> Any:
    """X^n as a product; X^-n as a power of the inverse."""
    n = y.exp
    if not (n.is_Integer and n != 0):
        raise UnsupportedError(f"d({y})", "only whole powers of a matrix have a rule here")
    if n > 0:
        return of_product(sp.MatMul(*[y.base] * int(n), evaluate=False), d)
    return of_product(sp.MatMul(*[y.base.I] * int(-n), evaluate=False), d)


def of_hadamard(y: Any, d: Callable[[Any], Any]) -> Any:
    parts = y.args
    return total(
        [Hadamard(*parts[:i], d(a), *parts[i + 1 :]) for i, a in enumerate(parts)], y.shape
    )


def powered(x: Any, n: Any) -> Any:
    """x to the power n, elementwise."""
    return x if n == 1 else matrices.HadamardPower(x, n)


# kind of matrix expression -> its differential, given that of its parts
RULES: dict[Any, Callable[[Any, Callable[[Any], Any]], Any]] = {
    Add: lambda y, d: total([d(a) for a in y.args], y.shape),
    Mul: of_product,
    matrices.Transpose: lambda y, d: d(y.arg).T,
    matrices.Inverse: lambda y, d: -y * d(y.arg) * y,
    matrices.MatPow: of_power,
    Hadamard: of_hadamard,
    matrices.HadamardPower: lambda y, d: y.exp * Hadamard(powered(y.base, y.exp - 1), d(y.base)),
}
# kind of scalar expression -> (its factor, the matrix expression whose trace the differential is)
SCALARS: dict[Any, Callable[[Any, Callable[[Any], Any]], tuple[Any, Any]]] = {
    matrices.Trace: lambda y, d: (sp.Integer(1), d(y.arg)),
    matrices.Determinant: lambda y, d: (y, y.arg.I * d(y.arg)),
}


def total(parts: list[Any], shape: Any) -> Any:
    left = [p for p in parts if not p.is_ZeroMatrix and not has_zero(p)]
    return sp.MatAdd(*left).doit(deep=False) if left else Zero(*shape)


def has_zero(p: Any) -> bool:
    return any(a.is_ZeroMatrix for a in p.args if isinstance(a, sp.MatrixExpr))


class Trick:
    """The gradient of a scalar function of a matrix, and how it was found.

    Attributes:
        differential: df, a sum of traces.
        collected: terms (factor, M) with df = sum of factor tr(M dX).
        gradient: G in df = tr(G^T dX), in the shape of X.
    """

    def __init__(self, f: Any, x: Any, differential: Any, collected: Any, gradient: Any) -> None:
        self.f, self.x, self.differential = f, x, differential
        self.collected, self.gradient = collected, gradient

    def latex(self) -> str:
        """The steps as an `align*` of LaTeX."""
        d, dx = r"\mathrm{d}", latex_of(differential_of(self.x))
        plain = [trace_text(k, latex_of(m)) for k, m in self.differential if not m.is_ZeroMatrix]
        moved = [trace_text(k, rf"{latex_of(m, product=True)} {dx}") for k, m in self.collected]
        g = latex_of(self.gradient)
        rows = [
            rf"{d} f &= {joined(plain)}",
            rf"&= {joined(moved)}",
            rf"&= \operatorname{{tr}}\left(G^{{T}} {dx}\right), \quad G = {g}",
        ]
        return (
            "\\begin{align*}\n"
            + rf"f &= {latex_of(self.f)} \\"
            + "\n"
            + " \\\\\n".join(rows)
            + "\n\\end{align*}"
        )

    _repr_latex_ = latex

    def __str__(self) -> str:
        return f"d({self.f}) = tr(G.T*d{self.x}),  G = {self.gradient}"


def joined(parts: list[str]) -> str:
    return " + ".join(parts).replace("+ -", "- ") or "0"


def trace_text(k: Any, inside: str) -> str:
    head = "" if k == 1 else "-" if k == -1 else latex_of(k) + " "
    return rf"{head}\operatorname{{tr}}\left({inside}\right)"


def latex_of(y: Any, product: bool = False) -> str:
    text = str(sp.latex(y))
    return rf"\left({text}\right)" if product and isinstance(y, sp.MatAdd) else text


def differential_of(x: Any) -> Any:
    return sp.MatrixSymbol(rf"\mathrm{{d}}{x.name}", *x.shape)


def trace_trick(f: Any, x: Any) -> Trick:
    """The gradient of f with respect to the matrix symbol x, by differentials.

    Args:
        f: a SymPy expression of traces and determinants of matrix expressions, their products,
            powers, and functions; 1 x 1 products such as a^T X b count as their trace.
        x: the MatrixSymbol.

    Returns:
        the differential, the terms tr(M dX) that cyclic permutation and transposition bring it to,
        and the gradient G in the shape of x; `latex()` has the steps.

    Raises:
        UnsupportedError: an expression without a rule; the message names it.

    Example:
        >>> n = sp.Symbol("n", integer=True, positive=True)
        >>> A, B, X = (sp.MatrixSymbol(s, n, n) for s in "ABX")
        >>> trace_trick(sp.Trace(A * X * B), X).gradient
        A.T*B.T
        >>> trace_trick(sp.log(sp.Determinant(X)), X).gradient
        X.T**(-1)
        >>> trace_trick(sp.Trace(X.T * A * X), X).gradient
        A*X + A.T*X
    """
    if not isinstance(x, sp.MatrixSymbol):
        raise ArgumentError("trace_trick(f, x)", f"x is a MatrixSymbol, not {type(x).__name__}")
    if isinstance(f, sp.MatrixExpr):
        if f.shape != (1, 1):
            raise ArgumentError("trace_trick(f, x)", f"f is one number, not a {f.shape} matrix")
        f = sp.Trace(f)
    dx = differential_of(x)

    def d(y: Any) -> Any:
        if y == x:
            return dx
        if not y.has(x):
            return Zero(*y.shape)
        if isinstance(y, Mul) and y.as_coeff_matrices()[0].has(x):
            raise UnsupportedError(
                f"the differential of {y}",
                f"a number in a product depends on {x}",
                fix="take it out: tr(s M) = s tr(M)",
            )
        for kind, rule in RULES.items():
            if isinstance(y, kind):
                return rule(y, d)
        raise UnsupportedError(f"the differential of {y}", f"{type(y).__name__} has no rule")

    # the chain rule of the scalars around the traces and determinants
    inner = [v for v in sp.preorder_traversal(f) if isinstance(v, tuple(SCALARS))]
    names: dict[Any, Any] = {v: sp.Dummy(f"s{i}") for i, v in enumerate(dict.fromkeys(inner))}
    outer: Any = f.xreplace(names)
    if outer.has(x):
        raise UnsupportedError(f"the differential of {f}", "only traces and determinants have one")
    back = {name: v for v, name in names.items()}
    pieces = []
    for v, name in names.items():
        slope = sp.diff(outer, name)
        if slope == 0 or not v.has(x):
            continue
        factor, m = SCALARS[type(v)](v, d)
        pieces.append((sp.simplify((slope * factor.xreplace(names))).xreplace(back), m))
    collected = []
    gradients = []
    for k, m in pieces:
        for scale, term in terms(m):
            moved = solve_for(term, dx)
            collected.append((k * scale, moved))
            gradients.append((k * scale) * tidy(moved.T))
    g = sp.MatAdd(*gradients).doit() if gradients else Zero(*x.shape)
    return Trick(f, x, pieces, collected, g)


def tidy(y: Any) -> Any:
    return y.doit() if hasattr(y, "doit") else y


def terms(m: Any) -> list[tuple[Any, Any]]:
    """The differential as (number, product) terms: sums inside products multiplied out."""
    m = m.expand() if isinstance(m, sp.MatMul | sp.MatAdd) else m
    parts = m.args if isinstance(m, sp.MatAdd) else (m,)
    out = []
    for p in parts:
        if p.is_ZeroMatrix:
            continue
        scale, q = p.as_coeff_mmul() if isinstance(p, sp.MatMul) else (sp.Integer(1), p)
        if isinstance(q, sp.MatMul) and any(isinstance(a, sp.MatAdd) for a in q.args):
            out += (
                [(scale * s, t) for s, t in terms(q.expand())] if q.expand() != q else [(scale, q)]
            )
        else:
            out.append((scale, q))
    return out


def solve_for(y: Any, dx: Any) -> Any:
    """M with tr(y) = tr(M dX), for a product y that is linear in dX: turn it, or transpose it."""
    n = y.shape[0]
    m: Any = sp.Identity(n)  # tr(m y) throughout, y getting smaller
    while y != dx:  # y linear in dX
        if isinstance(y, sp.MatMul):
            factors = list(y.args)
            scale = sp.Mul(*[a for a in factors if not isinstance(a, sp.MatrixExpr)])
            factors = [a for a in factors if isinstance(a, sp.MatrixExpr)]
            at = next(i for i, a in enumerate(factors) if a.has(dx))
            after, before = factors[at + 1 :], factors[:at]
            m = sp.MatMul(scale, *after, m, *before).doit(deep=False)
            y = factors[at]
        elif isinstance(y, matrices.Transpose):
            m, y = m.T.doit(deep=False), y.arg  # tr(M Y^T) = tr(M^T Y)
        elif isinstance(y, Hadamard):
            parts: Any = y.args
            at = next(i for i, a in enumerate(parts) if a.has(dx))
            others = [a for i, a in enumerate(y.args) if i != at]
            m = Hadamard(m, *[a.T for a in others])  # tr(M (Y o A)) = tr((M o A^T) Y)
            y = y.args[at]
        elif isinstance(y, sp.MatAdd):
            parts = [solve_for(sp.MatMul(m, p).doit(deep=False), dx) for p in y.args]
            return sp.MatAdd(*parts).doit(deep=False)
        else:
            raise UnsupportedError(f"tr({y})", f"{type(y).__name__} of dX has no rule")
    return m
