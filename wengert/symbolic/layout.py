"""Numerator and denominator layout: two ways to lay out dy/dx, and the way between them.

`wg.jacobian` has the axes of y first and those of x after them, the numerator layout (Jacobian
formulation). The denominator layout (Hessian formulation, gradients as columns) has the axes of x
first. Between arrays of any rank the two differ by the order of the two groups of axes:

                       numerator               denominator
    y, x numbers       ()                      ()
    y[m] by a number   (m,)                    (m,)
    number by x[n]     (n,)                    (n,)
    y[m] by x[n]       (m, n)                  (n, m)
    Y[m, p] by number  (m, p)                  (m, p)      in a book: Y' and (Y')^T
    number by X[n, q]  (n, q)                  (n, q)      in a book: G^T and G
    y[m] by X[n, q]    (m, n, q)               (n, q, m)
    Y[m, p] by x[n]    (m, p, n)               (n, m, p)
    Y[m, p] by X[n, q] (m, p, n, q)            (n, q, m, p)

Books that have no arrays of higher rank lay a number by X[n, q] out as q x n in the numerator
layout, and stack the columns of matrices: `book` and `flat` give these.

References:
    J. R. Magnus, H. Neudecker, Matrix Differential Calculus, 3rd ed. (2019), chapters 9 and 10:
    D F = d vec F / d (vec X)^T.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..transforms.jacobian import jacobian
from ..types import Array, Shape, shape_of

__all__ = ["LAYOUTS", "book", "convert", "flat", "jacobian_in", "unflat"]

LAYOUTS = ("numerator", "denominator")


def check(layout: str) -> None:
    if layout not in LAYOUTS:
        raise ArgumentError(f"layout={layout!r}", f"it is one of {LAYOUTS}")


def convert(j: Array, ndim: int, layout: str = "denominator") -> Any:
    """A derivative in the other layout.

    Args:
        j: dy/dx, a result of `wg.jacobian` (numerator layout), or its like in the other layout.
        ndim: how many axes of j come first: those of y to reach the denominator layout, those of x
            to come back from it.
        layout: the layout of the result.

    Returns:
        j with the two groups of axes exchanged; the values are the same.

    Example:
        >>> import wengert as wg
        >>> j = wg.jacobian(lambda x: np.ones((3, 2)) @ x)(np.ones(2))
        >>> j.shape, convert(j, 1).shape, convert(convert(j, 1), 1, "numerator").shape
        ((3, 2), (2, 3), (3, 2))
    """
    check(layout)
    n = len(shape_of(j))
    if not 0 <= ndim <= n:
        raise ShapeError(
            "convert(j, ndim)", f"j has {n} axes, and {ndim} of them cannot come first",
            operands=[("j", j)],
        )  # fmt: skip
    return np.transpose(j, (*range(ndim, n), *range(ndim)))


def jacobian_in(f: Any, layout: str = "numerator", argnum: int = 0) -> Any:
    """`wg.jacobian(f)` in a layout, for a function of arrays with one array as its value.

    >>> f = lambda x: np.array([[1.0, 2.0], [0.0, 3.0], [1.0, 1.0]]) @ x
    >>> jacobian_in(f, "denominator")(np.ones(2)).shape
    (2, 3)
    """
    check(layout)
    jac = jacobian(f, argnum)

    def laid_out(*args: Any, **kwargs: Any) -> Any:
        j = jac(*args, **kwargs)
        inner = len(shape_of(args[argnum]))
        return j if layout == "numerator" else convert(j, len(shape_of(j)) - inner)

    return laid_out


def flat(j: Array, y_shape: Shape, layout: str = "numerator") -> Any:
    """The matrix of Magnus and Neudecker:  d vec Y / d (vec X)^T, and its transpose.

    Args:
        j: dY/dX with the axes of Y first, as `wg.jacobian` gives it.
        y_shape: the shape of Y; `vec` stacks the columns.
        layout: "numerator" for d vec Y / d (vec X)^T, "denominator" for its transpose.

    Returns:
        a matrix with a row for each number of Y and a column for each of X, or the other way.

    Example:
        >>> import wengert as wg
        >>> a, b = np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]])
        >>> j = wg.jacobian(lambda x: a @ x @ b)(np.eye(2))
        >>> flat(j, (1, 1)), np.kron(b.T, a)
        (array([[3., 6., 4., 8.]]), array([[3., 6., 4., 8.]]))
    """
    check(layout)
    n, shape = len(y_shape), shape_of(j)
    if shape[:n] != tuple(y_shape):
        raise ShapeError(
            "flat(j, y_shape)", "the first axes of j are not those of y",
            operands=[("j", j)], fix=f"y_shape={shape[: len(y_shape)]}",
        )  # fmt: skip
    perm = (*reversed(range(n)), *reversed(range(n, len(shape))))
    m = np.reshape(np.transpose(j, perm), (math.prod(y_shape), math.prod(shape[n:])))
    return m if layout == "numerator" else m.T


def unflat(m: Array, y_shape: Shape, x_shape: Shape, layout: str = "numerator") -> Any:
    """dY/dX with its own axes, out of the matrix d vec Y / d (vec X)^T: the inverse of `flat`.

    >>> j = np.arange(24.0).reshape(2, 3, 2, 2)
    >>> bool((unflat(flat(j, (2, 3)), (2, 3), (2, 2)) == j).all())
    True
    """
    check(layout)
    m = m if layout == "numerator" else m.T
    y, x = tuple(y_shape), tuple(x_shape)
    t = np.reshape(m, (*y[::-1], *x[::-1]))
    perm = (*reversed(range(len(y))), *reversed(range(len(y), len(y) + len(x))))
    return np.transpose(t, perm)


def book(j: Array, y_shape: Shape, layout: str = "numerator") -> Any:
    """dy/dx as books print it, at most a matrix.

    In numerator layout y is a column and x a row: a number by a vector is a row [1, n], a number by
    X[n, q] is q x n, y[m] by a number a column [m, 1]. The denominator layout is its transpose.

    Raises:
        ShapeError: four axes or three have no such form: `flat` stacks the columns.

    Example:
        >>> import wengert as wg
        >>> g = wg.grad(lambda x: np.sum(x**2))(np.ones((2, 3)))
        >>> book(g, ()).shape, book(g, (), "denominator").shape
        ((3, 2), (2, 3))
    """
    check(layout)
    n, shape = len(y_shape), shape_of(j)
    k = len(shape) - n
    if (n, k) == (0, 2):
        m = np.transpose(j)
    elif (n, k) == (2, 0):
        m = j
    elif n <= 1 and k <= 1:
        m = np.reshape(j, (math.prod(shape[:n]), math.prod(shape[n:])))
    else:
        raise ShapeError(
            "book(j, y_shape)", f"a value of {n} axes by an argument of {k} is no matrix",
            operands=[("j", j)], fix="flat(j, y_shape) stacks the columns",
        )  # fmt: skip
    return m if layout == "numerator" else np.transpose(m)
