"""numpy.linalg for tensors: NumPy's signatures and result types. No rules here: see wengert.ops."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numpy.linalg._linalg import EighResult, EigResult, QRResult, SlogdetResult, SVDResult

from ..errors import ArgumentError, MatrixError, ShapeError, UnsupportedError
from ..ops import elementwise as e
from ..ops.contract import expand, swap
from ..ops.contract import matmul as product
from ..ops.fused import Norm, length
from ..ops.linalg import QR, Cholesky, Det, Inv, PNorm, SlogDet, Solve
from ..ops.matrix import concrete, ct
from ..ops.singular import SVD, LstSq, Pinv, Rank, SVDVals
from ..ops.spectral import Eig, Eigh, Eigvals, EigvalsH
from ..trace import bind, recorder
from ..types import shape_of
from .check import ordered_axes
from .product import dot
from .reduce import max, min, sum
from .shape import reshape, transpose
from .table import implements, into, tensor
from .ufuncs import vecdot as _vecdot

LinAlgError = np.linalg.LinAlgError


def _float(x: Any) -> Any:
    return x if x.dtype.kind in "fc" else x.astype(np.float64)


def _first(y: Any) -> Any:
    """y without its last axis, which has length 1."""
    return reshape(y, shape_of(y)[:-1])


# ------------------------------------------------------------------ inverse and systems


@implements(np.linalg.inv)
def inv(a: Any) -> Any:
    """Inverse matrices."""
    return bind(Inv(), tensor(a))


@implements(np.linalg.solve)
def solve(a: Any, b: Any) -> Any:
    """The solution of a y = b: a vector when b has one axis, else column by column."""
    a, b = tensor(a), tensor(b)
    if b.ndim == 0:
        raise ShapeError("solve(a, b)", "b is a number", operands=[("a", a), ("b", b)])
    return _first(bind(Solve(), a, expand(b, -1))) if b.ndim == 1 else bind(Solve(), a, b)


@implements(np.linalg.lstsq)
def lstsq(a: Any, b: Any, rcond: Any = None) -> Any:
    """Least squares: (solution, residuals, rank, singular values)."""
    a, b = tensor(a), tensor(b)
    column = b.ndim == 1
    b = expand(b, -1) if column else b
    for name, m in (("a", a), ("b", b)):
        if m.ndim != 2:
            note = f"{m.ndim}-d"
            raise MatrixError(
                "lstsq(a, b)", "it takes one matrix, not a stack", operands=[(name, m, note)],
                fix="wg.vmap(lambda a, b: np.linalg.lstsq(a, b)[0])(a, b)",
            )  # fmt: skip
    m, n = a.shape
    x, residuals, rank, s = bind(LstSq(None if rcond is None else float(rcond)), a, b)
    known = concrete(rank)
    if m <= n or (known is not None and known.ndim == 0 and known != n):
        residuals = residuals[:0]
    return (_first(x) if column else x), residuals, rank, s


@implements(np.linalg.pinv)
def pinv(a: Any, rcond: Any = None, hermitian: bool = False, *, rtol: Any = np._NoValue) -> Any:
    """Pseudoinverse; its derivative is that along matrices of the same rank."""
    a = tensor(a)
    if rcond is not None and rtol is not np._NoValue:
        raise ArgumentError("pinv(a, rcond, rtol=...)", "`rtol` and `rcond` can't be both set")
    if rcond is None:
        rcond = 1e-15 if rtol is np._NoValue else rtol
    if rcond is None:
        rcond = float(np.max(a.shape[-2:]) * np.finfo(_float(a).dtype).eps)
    rcond = concrete(rcond)
    return bind(Pinv(rcond.item() if rcond.ndim == 0 else rcond, bool(hermitian)), a)


@implements(np.linalg.tensorinv)
def tensorinv(a: Any, ind: int = 2) -> Any:
    """The inverse of a map between tensors: the first `ind` axes as one, and the rest as one."""
    a = tensor(a)
    if ind <= 0:
        raise ArgumentError("tensorinv(a, ind)", "ind is a positive integer")
    first, last = a.shape[:ind], a.shape[ind:]
    n = int(np.prod(last))
    return reshape(inv(reshape(a, (n, a.size // n if n else 0))), (*last, *first))


@implements(np.linalg.tensorsolve)
def tensorsolve(a: Any, b: Any, axes: Any = None) -> Any:
    """The solution x of tensordot(a, x, x.ndim) = b."""
    a, b = tensor(a), tensor(b)
    if axes is not None:
        order = list(range(a.ndim))
        for k in axes:
            order.remove(k)
            order.append(k)
        a = transpose(a, tuple(order))
    shape = a.shape[-(a.ndim - b.ndim) :]
    n = int(np.prod(shape))
    if a.size != n**2:
        raise MatrixError(
            "tensorsolve(a, b)", "prod(a.shape[b.ndim:]) must be prod(a.shape[:b.ndim])",
            operands=[("a", a), ("b", b)],
        )  # fmt: skip
    return reshape(solve(reshape(a, (n, n)), reshape(b, (b.size,))), shape)


# ------------------------------------------------------------------ decompositions


@implements(np.linalg.cholesky)
def cholesky(a: Any, /, *, upper: bool = False) -> Any:
    """Cholesky factor of a positive definite matrix, of which one triangle is read."""
    return bind(Cholesky(bool(upper)), tensor(a))


@implements(np.linalg.qr)
def qr(a: Any, mode: str = "reduced") -> Any:
    """Orthonormal columns times upper triangle."""
    full = {"full": "reduced", "f": "reduced"}.get(mode, mode)
    if full == "reduced":
        return QRResult(*bind(QR(), tensor(a)))
    if full == "complete":
        return QRResult(*bind(QR(True), tensor(a)))
    if full == "r":
        return bind(QR(), tensor(a))[1]
    if full in ("raw", "economic", "e"):
        raise UnsupportedError(
            f"qr(a, {mode!r})", "LAPACK's packed form has no derivative here", fix="mode='reduced'"
        )
    raise ArgumentError(f"qr(a, {mode!r})", "unknown mode", fix="mode='reduced'")


@implements(np.linalg.svd)
def svd(
    a: Any, full_matrices: bool = True, compute_uv: bool = True, hermitian: bool = False
) -> Any:
    """Singular value decomposition. The columns that full_matrices adds have no derivative."""
    a = tensor(a)
    if not hermitian:
        if not compute_uv:
            return bind(SVDVals(), a)
        oblong = a.ndim >= 2 and a.shape[-1] != a.shape[-2]
        return SVDResult(*bind(SVD(bool(full_matrices) and oblong), a))
    if not compute_uv:
        return np.flip(np.sort(abs(eigvalsh(a))), -1)
    w, v = eigh(a)
    order = np.argsort(abs(w))[..., ::-1]
    sign = np.take_along_axis(np.sign(w), order, -1)
    u = np.take_along_axis(v, order[..., None, :], -1)
    return SVDResult(u, np.take_along_axis(abs(w), order, -1), ct(u * sign[..., None, :]))


@implements(np.linalg.svdvals)
def svdvals(x: Any, /) -> Any:
    """Singular values, descending."""
    return bind(SVDVals(), tensor(x))


def _uplo(what: str, uplo: str) -> str:
    if uplo.upper() not in ("L", "U"):
        raise ArgumentError(f"{what}(a, {uplo!r})", "UPLO argument must be 'L' or 'U'")
    return uplo.upper()


@implements(np.linalg.eigh)
def eigh(a: Any, UPLO: str = "L") -> Any:
    """Ascending eigenvalues, and eigenvectors, of a Hermitian matrix; one triangle is read."""
    return EighResult(*bind(Eigh(_uplo("eigh", UPLO)), tensor(a)))


@implements(np.linalg.eigvalsh)
def eigvalsh(a: Any, UPLO: str = "L") -> Any:
    """Eigenvalues of a Hermitian matrix, ascending."""
    return bind(EigvalsH(_uplo("eigvalsh", UPLO)), tensor(a))


def _all_real(a: Any, w: Any) -> bool:
    """Whether NumPy would give real eigenvalues; while staging they are complex."""
    value = concrete(w)
    if value is None and a.dtype.kind != "c" and recorder() is not None:
        raise UnsupportedError(
            "eig(a)", "whether its values are real is not known while a program is recorded",
            fix="np.linalg.eigh of a symmetric matrix, or a.astype(complex)",
        )  # fmt: skip
    return a.dtype.kind != "c" and value is not None and not np.any(value.imag)


@implements(np.linalg.eig)
def eig(a: Any) -> Any:
    """Eigenvalues and eigenvectors of a general matrix; real where none is complex."""
    a = tensor(a)
    w, v = bind(Eig(), a)
    return EigResult(e.real(w), e.real(v)) if _all_real(a, w) else EigResult(w, v)


@implements(np.linalg.eigvals)
def eigvals(a: Any) -> Any:
    """Eigenvalues of a general matrix; real where none is complex."""
    a = tensor(a)
    w = bind(Eigvals(), a)
    return e.real(w) if _all_real(a, w) else w


# ------------------------------------------------------------------ numbers


@implements(np.linalg.det)
def det(a: Any) -> Any:
    """Determinant; the gradient of a singular matrix is right as well."""
    return bind(Det(), tensor(a))


@implements(np.linalg.slogdet)
def slogdet(a: Any) -> Any:
    """(sign, log|det|)."""
    return SlogdetResult(*bind(SlogDet(), tensor(a)))


@implements(np.linalg.matrix_rank)
def matrix_rank(A: Any, tol: Any = None, hermitian: bool = False, *, rtol: Any = None) -> Any:
    """The number of singular values above a tolerance: no derivative."""
    A = tensor(A)
    if tol is not None and rtol is not None:
        raise ArgumentError("matrix_rank(A, tol, rtol=...)", "`tol` and `rtol` can't be both set")
    if A.ndim < 2:
        return int(bool(concrete(A).any()))
    tol, rtol = (v if v is None else concrete(v) for v in (tol, rtol))
    tol, rtol = (v.item() if v is not None and v.ndim == 0 else v for v in (tol, rtol))
    return bind(Rank(tol, bool(hermitian), rtol), A)


@implements(np.linalg.cond)
def cond(x: Any, p: Any = None) -> Any:
    """Condition number: the norm times the norm of the inverse."""
    x = tensor(x)
    if x.ndim >= 2 and 0 in x.shape[-2:]:
        raise MatrixError("cond(x)", "cond is not defined on empty arrays", operands=[("x", x)])
    with np.errstate(all="ignore"):
        if p is None or p in (2, -2):
            s = svdvals(x)
            y = s[..., -1] / s[..., 0] if p == -2 else s[..., 0] / s[..., -1]
        else:
            double = x.astype(np.complex128 if x.dtype.kind == "c" else np.float64)
            y = norm(x, p, (-2, -1)) * norm(bind(Inv(True), double), p, (-2, -1))
            y = y.astype(abs(_float(x)).dtype)
    lost = np.isnan(y) & ~np.any(np.isnan(x), axis=(-2, -1))
    value = concrete(lost)
    return y if value is not None and not value.any() else e.where(lost, np.inf, y)


@implements(np.linalg.norm)
def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    """Norms of vectors and matrices, of every order; the subgradient at 0 is 0."""
    x = _float(tensor(x))
    keepdims, n = bool(keepdims), x.ndim
    if axis is None:
        axes = tuple(range(n))
        if ord is None or (ord in ("f", "fro") and n == 2) or (ord == 2 and n == 1):
            return length(Norm(axes, keepdims, True), x)
    else:
        axes = ordered_axes("norm", x, axis)
    if len(axes) == 1:
        return _vector(x, ord, axes[0], keepdims)
    if len(axes) == 2:
        return _matrix(x, ord, axes, keepdims)
    raise ArgumentError(
        f"norm(x, {ord!r})", "Improper number of dimensions to norm: a vector or a matrix",
        operands=[("x", x)],
    )  # fmt: skip


def _vector(x: Any, ord: Any, axis: int, keepdims: bool) -> Any:
    if isinstance(ord, str):
        raise ArgumentError(
            f"norm(x, {ord!r})", f"Invalid norm order '{ord}' for vectors", operands=[("x", x)]
        )
    if ord is None or ord == 2:
        return length(Norm((axis,), keepdims), x)
    if ord == np.inf:
        return max(abs(x), axis=axis, keepdims=keepdims, initial=0)
    if ord == -np.inf:
        return min(abs(x), axis=axis, keepdims=keepdims)
    if ord == 0:
        return sum((x != 0).astype(abs(x).dtype), axis=axis, keepdims=keepdims)
    if ord == 1:
        return sum(abs(x), axis=axis, keepdims=keepdims)
    return bind(PNorm(float(ord), axis, keepdims), x)


def _matrix(x: Any, ord: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    row, col = axes
    if ord in (None, "fro", "f"):
        return length(Norm(tuple(sorted(axes)), keepdims), x)
    if ord in (2, -2, "nuc"):
        s = svdvals(np.moveaxis(x, (row, col), (-2, -1)))
        if ord == "nuc":
            y = sum(s, axis=-1)
        else:
            y = max(s, axis=-1, initial=0) if ord == 2 else min(s, axis=-1)
    elif ord in (1, -1, np.inf, -np.inf):
        inner, outer = (row, col) if ord in (1, -1) else (col, row)
        sums = sum(abs(x), axis=inner)
        outer -= outer > inner
        y = max(sums, axis=outer, initial=0) if ord > 0 else min(sums, axis=outer)
    else:
        raise ArgumentError(
            f"norm(x, {ord!r})", "Invalid norm order for matrices.", operands=[("x", x)]
        )
    if not keepdims:
        return y
    return reshape(y, tuple(1 if i in axes else n for i, n in enumerate(x.shape)))


@implements(np.linalg.matrix_norm)
def matrix_norm(x: Any, /, *, keepdims: bool = False, ord: Any = "fro") -> Any:
    """Norm of the matrices in the last two axes."""
    return norm(x, ord, (-2, -1), keepdims)


@implements(np.linalg.vector_norm)
def vector_norm(x: Any, /, *, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> Any:
    """Norm of all numbers along some axes, as one vector."""
    x = tensor(x)
    axes = tuple(range(x.ndim)) if axis is None else ordered_axes("vector_norm", x, axis)
    if len(axes) == 1:
        return norm(x, ord, axes[0], keepdims)
    rest = [i for i in range(x.ndim) if i not in axes]
    v = transpose(x, (*axes, *rest))
    y = norm(reshape(v, (int(np.prod(v.shape[: len(axes)])), *v.shape[len(axes) :])), ord, 0)
    return (
        reshape(y, tuple(1 if i in axes else n for i, n in enumerate(x.shape))) if keepdims else y
    )


# ------------------------------------------------------------------ products


@implements(np.linalg.matrix_power)
def matrix_power(a: Any, n: Any) -> Any:
    """a a .. a, n times; of the inverse for a negative n."""
    a = tensor(a)
    if a.ndim < 2 or a.shape[-1] != a.shape[-2]:
        rule = "the matrix is not square" if a.ndim > 1 else "it takes a matrix"
        raise MatrixError("matrix_power(a, n)", rule, operands=[("a", a)])
    try:
        n = operator.index(n)
    except TypeError as error:
        raise ArgumentError(f"matrix_power(a, {n!r})", "exponent must be an integer") from error
    if n == 0:
        return tensor(np.broadcast_to(np.eye(a.shape[-1], dtype=a.dtype), a.shape).copy())
    if n < 0:
        a, n = inv(a), -n
    if n == 3:
        return bind(product, bind(product, a, a), a)
    power = y = None
    while n > 0:
        power = a if power is None else bind(product, power, power)
        n, bit = divmod(n, 2)
        if bit:
            y = power if y is None else bind(product, y, power)
    return y


@implements(np.linalg.multi_dot)
def multi_dot(arrays: Any, *, out: Any = None) -> Any:
    """The product of several matrices, in the order that costs least."""
    xs = [tensor(x) for x in arrays]
    if len(xs) < 2:
        raise ArgumentError("multi_dot(arrays)", "Expecting at least two arrays.")
    row, column = xs[0].ndim == 1, xs[-1].ndim == 1
    if len(xs) > 2:
        xs[0] = reshape(xs[0], (1, -1)) if row else xs[0]
        xs[-1] = reshape(xs[-1], (-1, 1)) if column else xs[-1]
        for i, x in enumerate(xs):
            if x.ndim != 2:
                raise MatrixError(
                    "multi_dot(arrays)", "it takes matrices", operands=[(f"arrays[{i}]", x)]
                )
        y = _three(*xs) if len(xs) == 3 else _chain(xs)
        y = y[0, 0] if row and column else reshape(y, (y.size,)) if row or column else y
    else:
        y = dot(*xs)
    return y if out is None else into(out, y)


def _three(a: Any, b: Any, c: Any) -> Any:
    (m, k), (l, n) = a.shape, c.shape
    return dot(dot(a, b), c) if m * l * (k + n) < k * n * (m + l) else dot(a, dot(b, c))


def _chain(xs: list[Any]) -> Any:
    """Cormen et al., "Introduction to Algorithms", 15.2: the cheapest split of every run i .. j."""
    n = len(xs)
    p = [x.shape[0] for x in xs] + [xs[-1].shape[1]]
    cost: dict[tuple[int, int], float] = {(i, i): 0.0 for i in range(n)}
    split: dict[tuple[int, int], int] = {}
    for width in range(1, n):
        for i in range(n - width):
            j = i + width
            best = [cost[i, k] + cost[k + 1, j] + p[i] * p[k + 1] * p[j + 1] for k in range(i, j)]
            cost[i, j] = np.min(best)
            split[i, j] = i + best.index(cost[i, j])
    return _product(xs, split, 0, n - 1)


def _product(xs: list[Any], split: dict[tuple[int, int], int], i: int, j: int) -> Any:
    k = split.get((i, j))
    return xs[i] if k is None else dot(_product(xs, split, i, k), _product(xs, split, k + 1, j))


@implements(np.linalg.cross)
def cross(x1: Any, x2: Any, /, *, axis: int = -1) -> Any:
    """Cross product of vectors of length 3."""
    x1, x2 = tensor(x1), tensor(x2)
    if x1.shape[axis] != 3 or x2.shape[axis] != 3:
        raise ShapeError(
            "cross(x1, x2)", "both must be arrays of vectors of length 3",
            operands=[("x1", x1), ("x2", x2)],
        )  # fmt: skip
    return np.cross(x1, x2, axis=axis)


@implements(np.linalg.outer)
def outer(x1: Any, x2: Any, /) -> Any:
    """y[i, j] = x1[i] x2[j] of two vectors."""
    x1, x2 = tensor(x1), tensor(x2)
    if x1.ndim != 1 or x2.ndim != 1:
        raise ShapeError(
            "outer(x1, x2)",
            "both must be vectors",
            operands=[("x1", x1), ("x2", x2)],
            fix="np.outer(x1, x2)",
        )
    return np.outer(x1, x2)


@implements(np.linalg.vecdot)
def vecdot(x1: Any, x2: Any, /, *, axis: int = -1) -> Any:
    """sum conj(x1) x2 along an axis."""
    return _vecdot(x1, x2, axis=axis)


@implements(np.linalg.matmul)
def matmul(x1: Any, x2: Any, /) -> Any:
    """Matrix product of the last two axes."""
    return bind(product, tensor(x1), tensor(x2))


@implements(np.linalg.tensordot)
def tensordot(x1: Any, x2: Any, /, *, axes: Any = 2) -> Any:
    """Sum over pairs of axes."""
    return np.tensordot(tensor(x1), tensor(x2), axes)


@implements(np.linalg.matrix_transpose)
def matrix_transpose(x: Any, /) -> Any:
    """The last two axes exchanged."""
    x = tensor(x)
    if x.ndim < 2:
        raise ShapeError("matrix_transpose(x)", "x has no two axes", operands=[("x", x)])
    return swap(x)


@implements(np.linalg.diagonal)
def diagonal(x: Any, /, *, offset: int = 0) -> Any:
    """The diagonals of the matrices in the last two axes."""
    return np.diagonal(tensor(x), offset, -2, -1)


@implements(np.linalg.trace)
def trace(x: Any, /, *, offset: int = 0, dtype: Any = None) -> Any:
    """The sums of the diagonals of the matrices in the last two axes."""
    return np.trace(tensor(x), offset, -2, -1, dtype)
