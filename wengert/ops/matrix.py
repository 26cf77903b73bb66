"""The vocabulary of the rules for matrices, and the class of operations on them.

Stacks of matrices stand in the last two axes. Cotangents pair with tangents as Re(sum(g * dx)),
without conjugation; hence the transpose of X -> A X B is G -> A^T G B^T with plain transposes, and
that of X -> X^H is G -> G^H.

A decomposition that reads one triangle of its argument is a function of that triangle, and so is
its derivative: the other triangle gets none. Pass (A + A^H) / 2 for a symmetric gradient.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..errors import MatrixError, UnsupportedError, WengertError
from ..primitive import General
from ..trace import Tensor, fresh
from ..types import RAW, Array, Aval, DType, shape_of
from . import elementwise as e
from .contract import expand, matmul, swap
from .index import GetItem
from .linear import Sum

ALL = slice(None)

# where the laws are run
SPD = np.array([[2.0, 0.3, 0.1], [0.3, 1.5, -0.2], [0.1, -0.2, 1.0]])
HERMITIAN = SPD + 1j * np.array([[0.0, -0.4, 0.2], [0.4, 0.0, 0.1], [-0.2, -0.1, 0.0]])
GENERAL = np.array([[1.5, 0.2, -0.3], [0.4, -1.0, 0.5], [0.1, 0.7, 0.8]])
COMPLEX = GENERAL + 1j * np.array([[0.3, -0.4, 0.2], [0.1, 0.2, 0.1], [-0.2, 0.5, -0.3]])
TALL = np.array([[1.0, 0.2], [0.3, -1.2], [0.5, 0.4]])


def is_complex(x: Array) -> bool:
    return bool(x.dtype.kind == "c")


def ct(x: Array) -> Array:
    """The conjugate transpose."""
    return e.conj(swap(x)) if is_complex(x) else swap(x)


def conj(x: Array) -> Array:
    return e.conj(x) if is_complex(x) else x


def re(x: Array) -> Array:
    return e.real(x) if is_complex(x) else x


def dots(*xs: Array) -> Array:
    """The product of several matrices, from the left."""
    y = xs[0]
    for x in xs[1:]:
        y = matmul(y, x)
    return y


def diagonal(x: Array) -> Array:
    """y[.., i] = x[.., i, i]"""
    i = np.arange(min(shape_of(x)[-2:]))
    return GetItem((Ellipsis, i, i))(x)


def eye(n: int) -> Array:
    return np.eye(n, dtype=bool)


def diagonal_matrix(v: Array) -> Array:
    return e.where(eye(shape_of(v)[-1]), expand(v, -2), 0.0)


def columns(v: Array) -> Array:
    """v as a factor of the columns:  a * columns(v) = a diag(v)."""
    return expand(v, -2)


def rows(v: Array) -> Array:
    """v as a factor of the rows:  rows(v) * a = diag(v) a."""
    return expand(v, -1)


def below(n: int) -> Array:
    return np.tri(n, k=-1, dtype=bool)


def hermitian(x: Array, lower: bool) -> Array:
    """The Hermitian matrix of which x holds one triangle and the real part of the diagonal."""
    n = shape_of(x)[-1]
    s = e.where(below(n) if lower else below(n).T, x, 0.0)
    return s + ct(s) + e.where(eye(n), re(x), 0.0)


def triangle(g: Array, lower: bool) -> Array:
    """The transpose of `hermitian`."""
    n = shape_of(g)[-1]
    return e.where(below(n) if lower else below(n).T, g + ct(g), e.where(eye(n), re(g), 0.0))


def antihermitian(x: Array) -> Array:
    """tril(x, -1) - tril(x, -1)^H + i Im diag(x): the antihermitian matrix with x's lower triangle.

    It is its own kind of transpose: see `antihermitian_pull`.
    """
    n = shape_of(x)[-1]
    s = e.where(below(n), x, 0.0)
    y = s - ct(s)
    return y + e.where(eye(n), 1j * e.imag(x), 0.0) if is_complex(x) else y


def antihermitian_pull(z: Array) -> Array:
    n = shape_of(z)[-1]
    y = e.where(below(n), z - ct(z), 0.0)
    return y + e.where(eye(n), 1j * e.imag(z), 0.0) if is_complex(z) else y


def total(x: Array) -> Array:
    """Sum over the last two axes."""
    n = len(shape_of(x))
    return Sum((n - 2, n - 1), False)(x)


def cut(x: Array, rows: slice, cols: slice) -> Array:
    return GetItem((Ellipsis, rows, cols))(x)


def concrete(x: Array) -> Any:
    """The plain array at the bottom, with every batch axis; None while staging."""
    while isinstance(x, Tensor):
        x = fresh(x).data
    return np.asarray(x) if isinstance(x, RAW) else None


def extra_columns(what: str, g: Array) -> None:
    """Refuse a cotangent of columns that the matrix does not determine."""
    value = concrete(g)
    if value is not None and np.any(value):
        raise UnsupportedError(
            what,
            "the columns beyond those of the reduced form are any basis of what is left, "
            "and have no derivative",
            fix="full_matrices=False, or mode='reduced'",
        )


def float_of(dtype: DType) -> DType:
    """The dtype of a decomposition: integers become float64."""
    return dtype if dtype.kind in "fc" else np.dtype(np.float64)


def real_of(dtype: DType) -> DType:
    return np.empty(0, float_of(dtype)).real.dtype


def check_square(x: Aval) -> None:
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise np.linalg.LinAlgError("Last 2 dimensions of the array must be square")


def check_matrix(x: Aval) -> None:
    if x.ndim < 2:
        raise np.linalg.LinAlgError(f"{x.ndim}-dimensional array given")


class OfMatrix(General):
    """An operation on the matrices in the last two axes: batched by standing in a stack."""

    name: ClassVar[str] = ""
    needs: ClassVar[Any] = General.needs
    instead: ClassVar[str | None] = None  # what to write for a singular or oblong matrix

    @classmethod
    def title(cls) -> str:
        return cls.name or cls.__name__

    def batch(self, xs: Any, dims: Any) -> Any:
        (x,) = xs
        s = shape_of(x)
        if len(s) < 3:
            raise self.refusal((np.empty(s[1:]),), np.linalg.LinAlgError("not a matrix"))
        return self(x)

    def refusal(self, xs: tuple[Array, ...], error: Exception) -> Exception:
        if isinstance(error, WengertError) or not isinstance(error, np.linalg.LinAlgError):
            return super().refusal(xs, error)
        names = self.argnames(len(xs))
        if "Incompatible" in str(error):
            rule, notes, fix = self.diagnose(xs, error)
        else:
            rule, note, fix = why(xs[0], error, self.instead)
            notes = [note] + [""] * (len(xs) - 1)
        operands = [(n, np.asarray(x), t) for n, x, t in zip(names, xs, notes or [])]
        return MatrixError(f"{self.title()}({', '.join(names)})", rule, operands=operands, fix=fix)


def why(x: Array, error: Exception, instead: str | None) -> tuple[str, str, str | None]:
    """(the rule broken, a note on the matrix, the fix) for a matrix that LAPACK refused."""
    x = np.asarray(x)
    text = str(error)
    if x.ndim < 2:
        return "it takes a matrix, or a stack of them in the last two axes", f"{x.ndim}-d", None
    m, n = x.shape[-2:]
    if m != n and "quare" in text:
        return "the matrix is not square", f"axis -2 is {m}, axis -1 is {n}", instead
    try:
        if "Singular" in text:
            ranks = np.asarray(np.linalg.matrix_rank(x))
            bad = np.argwhere(ranks < n)
            place = f"number {bad[0].tolist()} of the stack has " if bad.size else ""
            note = f"{place}rank {ranks.min()} of {n}" if len(bad) else ""
            return "the matrix is singular", note, instead
        if "positive definite" in text:
            low = np.linalg.eigvalsh(x).min()
            return "the matrix is not positive definite", f"smallest eigenvalue {low:.3g}", None
    except np.linalg.LinAlgError:
        pass
    return text.split("\n")[0].rstrip(". "), "", None
