"""Values defined by an equation: roots, fixed points and linear systems.

    f(x, p) = 0        df/dx dx + df/dp dp = 0

A solver finds x on plain arrays, by any means; nothing that it does is recorded. The derivative is
that of the equation: one linear system with J = df/dx at the solution, or its transpose,

    dx = -J^-1 (df/dp dp),        gp = -(df/dp)^T J^-T gx,

whatever the number of iterations. The system is solved by the same means, so that every order and
mode follow.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import tree
from ..errors import ArgumentError, ConvergenceError, MatrixError, ShapeError, verbatim
from ..given import call, function, number, numeric
from ..trace import Tensor, looked
from ..types import Array, dtype_of, is_inexact, shape_of
from .closure import hoisted
from .custom import is_array
from .jvp import jvp
from .law import LOST, Law, apply, closed_over, filled
from .vjp import vjp
from .vmap import vmap

__all__ = ["custom_fixed_point", "custom_linear_solve", "custom_root"]

DENSE = 1024  # unknowns up to which a linear system is written out as a matrix
Flat = Callable[..., list[Array]]


# ------------------------------------------------------------------ linear systems


class LinearSolve(Law):
    """A(p) x = b:  dx = A^-1 (db - dA x),  gb = A^-T gx,  gp = -(d(A x)/dp)^T gb."""

    def __init__(
        self, matvec: Flat, solve: Any, n: int, transpose: Any = None, symmetric: bool = False,
        tol: float = 1e-4, name: str = "custom_linear_solve",
    ) -> None:  # fmt: skip
        self.matvec, self.solve, self.n, self.tol, self.name = matvec, solve, n, tol, name
        self.symmetric, self.transpose = symmetric, transpose

    def call(self, xs: list[Array], want: bool) -> Any:
        b, ps = xs[: self.n], xs[self.n :]
        x = list(self.solve(lambda v: self.matvec(v, ps), b))
        for v, u in zip(x, b, strict=True):
            if shape_of(v) != shape_of(u):
                raise ShapeError(
                    f"solve of {self.name}", "the solution has the shape of the right-hand side",
                    operands=[("b", u), ("x", v)],
                )  # fmt: skip
        got = self.matvec(x, ps)
        miss = distance([u - v for u, v in zip(got, b)], self.name)
        if not miss <= self.tol * distance(b, self.name):
            raise ConvergenceError(
                f"{self.name}(matvec, b, solve)",
                "what solve returned does not solve the system",
                operands=[("|A x - b|", verbatim(f"{miss:.3g}")),
                          ("|b|", verbatim(f"{distance(b, self.name):.3g}"))],
                fix="solve(matvec, b) has to use the matvec it is given (it may be the transposed "
                "one), or give transpose_solve; a rough solution is let through by tol=...",
            )  # fmt: skip
        return x, tree.flatten(x)[1], list(x) if want else None

    def push(self, xs: list[Array], dxs: list[Array | None], ys: list[Array]) -> list[Array | None]:
        b, ps = xs[: self.n], xs[self.n :]
        rhs = filled(dxs[: self.n], b)
        slope = partial_push(lambda p: self.matvec(ys, p), ps, dxs[self.n :])
        if slope is not None:
            rhs = [u - v for u, v in zip(rhs, slope)]
        return apply(self, [*rhs, *ps])

    def pull(
        self, xs: list[Array], gs: list[Array], live: tuple[int, ...], residuals: Any
    ) -> list[Array | None]:
        ps = xs[self.n :]
        gb = apply(self.transposed(xs[: self.n]), [*gs, *ps])
        found: dict[int, Any] = dict(enumerate(gb))
        inner = [i - self.n for i in live if i >= self.n]
        if inner:
            x = residuals if residuals is not None else apply(self, xs)
            gps = partial_pull(lambda p: self.matvec(x, p), ps, inner, [-g for g in gb])
            found.update(zip([i + self.n for i in inner], gps))
        return [found[i] for i in live]

    def transposed(self, b: list[Array]) -> LinearSolve:
        if self.symmetric:
            return self
        zeros = [np.zeros(shape_of(u), dtype_of(u)) for u in b]

        def matvec(v: list[Array], ps: list[Array]) -> list[Array]:
            return list(vjp(lambda *u: self.matvec(list(u), ps), *zeros)[1](v))

        return LinearSolve(
            matvec, self.transpose or self.solve, self.n, self.solve, False, self.tol, self.name
        )


def partial_push(f: Flat, ps: list[Array], dps: Sequence[Array | None]) -> list[Array] | None:
    """df/dp dp; None if nothing moves."""
    live = [i for i, d in enumerate(dps) if d is not None and is_inexact(dtype_of(ps[i]))]
    if not live:
        return None
    at, along = tuple(ps[i] for i in live), tuple(dps[i] for i in live)
    return jvp(lambda *some: f(replaced(ps, live, some)), at, along)[1]


def partial_pull(f: Flat, ps: list[Array], live: list[int], gs: list[Array]) -> list[Array]:
    """(df/dp)^T g for the parameters that are live."""
    _, back = vjp(lambda *some: f(replaced(ps, live, some)), *[ps[i] for i in live])
    return list(back(gs))


def replaced(ps: Sequence[Array], places: Sequence[int], some: Sequence[Array]) -> list[Array]:
    full = list(ps)
    for i, p in zip(places, some):
        full[i] = p
    return full


def distance(xs: Sequence[Array], name: str) -> float:
    """The norm of a list of arrays, whatever level they live at; the largest among lanes."""
    total = 0.0
    for x in xs:
        x = looked(x)
        while isinstance(x, Tensor):
            if x.requires_grad:
                raise closed_over(name, x)
            x = looked(x.data)
        if hasattr(x, "graph"):
            return 0.0  # not known while a function is staged
        total += float(np.sum(np.abs(x) ** 2))
    return total**0.5


def custom_linear_solve(
    matvec: Callable[..., Any],
    b: Any,
    solve: Callable[..., Any] | None = None,
    transpose_solve: Callable[..., Any] | None = None,
    symmetric: bool = False,
    params: tuple[Any, ...] = (),
    tol: float = 1e-4,
) -> Any:
    """The solution x of A x = b, with A given as x -> A x and solved by any means.

    Args:
        matvec: (x, *params) -> A x, linear in x. Recorded tensors that it closes over are found and
            differentiated as params are, where Python lets them be found; else it is refused.
        b: a pytree of arrays.
        solve: (matvec, b) -> x; dense elimination, or GMRES for many unknowns, if left out.
        transpose_solve: (matvec of A^T, b) -> x; `solve` is used if left out.
        symmetric: A^T = A.
        params: what A depends on.
        tol: how large |A x - b| / |b| may be.

    Raises:
        ConvergenceError: solve did not solve the system, or not the transposed one.

    >>> import numpy as np, wengert as wg
    >>> def f(a):
    ...     return wg.custom_linear_solve(lambda x, a: a * x, np.ones(2), params=(a,))
    >>> wg.jacobian(f)(np.array([1.0, 2.0])) + 0.0
    array([[-1.  ,  0.  ],
           [ 0.  , -0.25]])
    """
    what = "custom_linear_solve(matvec, b)"
    function(what, "matvec", matvec)
    function(what, "solve", solve, optional=True)
    function(what, "transpose_solve", transpose_solve, optional=True)
    number(what, "tol", tol, 0.0)
    matvec, hidden = hoisted(matvec)
    bs, shape = tree.flatten(b)
    if not bs:
        raise ArgumentError(what, "b has no array", operands=[("b", verbatim(str(shape)))])
    numeric(what, lambda: tree.paths(shape, "b"), bs)
    ps, rebuild = taken((*params, *hidden))
    split = solver_of(solve, shape, what)

    def flat(v: list[Array], p: list[Array]) -> list[Array]:
        value = call(what, "matvec", matvec, tree.unflatten(shape, v), *rebuild(p))
        return like(fitted(value, shape, what, "matvec(x)"), v, what, "matvec(x)")

    back = None if transpose_solve is None else solver_of(transpose_solve, shape, what)
    law = LinearSolve(flat, split, len(bs), back, symmetric, tol)
    bs = [floating(x) for x in bs]
    return tree.unflatten(shape, apply(law, [*bs, *ps]))


def floating(x: Any) -> Any:
    """An array of a dtype that has a derivative."""
    if is_inexact(dtype_of(x)) or hasattr(x, "graph"):
        return x
    return x.astype(float) if isinstance(x, Tensor) else np.asarray(x, np.result_type(x, 0.0))


def solver_of(solve: Any, shape: tree.Tree, what: str) -> Any:
    """A solver of pytrees as one of lists."""

    def flat(matvec: Flat, b: list[Array]) -> list[Array]:
        if solve is None:
            return default_solve(matvec, b)
        got = call(
            f"{what}: solve", "solve", solve,
            lambda v: tree.unflatten(shape, matvec(tree.leaves(v))), tree.unflatten(shape, b),
        )  # fmt: skip
        return fitted(got, shape, f"{what}: solve", "x")

    return flat


def fitted(value: Any, shape: tree.Tree, what: str, name: str) -> list[Array]:
    leaves, got = tree.flatten(value)
    if got != shape:
        raise ShapeError(
            what, "the value does not have the structure of the unknown",
            operands=[("unknown", verbatim(str(shape))), (name, verbatim(str(got)))],
        )  # fmt: skip
    numeric(what, lambda: tree.paths(shape, name), leaves)
    return leaves


def like(got: list[Array], xs: list[Array], what: str, name: str) -> list[Array]:
    """The components of an equation, one for each of the unknown's."""
    for a, b in zip(got, xs):
        if shape_of(a) != shape_of(b):
            raise ShapeError(
                what, "the equation has as many components as the unknown",
                operands=[("x", b), (name, a)],
            )  # fmt: skip
    return got


def taken(params: Any) -> tuple[list[Array], Callable[[Sequence[Array]], Any]]:
    """The arrays among the leaves, and how to put others in their places."""
    leaves, shape = tree.flatten(params)
    places = [i for i, x in enumerate(leaves) if is_array(x)]
    return [looked(leaves[i]) for i in places], lambda ps: tree.unflatten(
        shape, replaced(leaves, places, ps)
    )


# ------------------------------------------------------------------ solving


def ravel(xs: Sequence[Array]) -> Array:
    return np.concatenate([np.reshape(x, (-1,)) for x in xs])


def unravel(v: Array, like: Sequence[Array]) -> list[Array]:
    out, at = [], 0
    for x in like:
        shape = shape_of(x)
        n = int(np.prod(shape, dtype=int))
        out.append(np.reshape(v[at : at + n], shape))
        at += n
    return out


def default_solve(matvec: Flat, b: list[Array]) -> list[Array]:
    def flat(v: Array) -> Array:
        return ravel(matvec(unravel(v, b)))

    rhs = ravel(b)
    n = shape_of(rhs)[0]
    if not n:
        return b
    if n > DENSE:
        return unravel(gmres(flat, rhs), b)
    a = matrix(flat, n, dtype_of(rhs))
    try:
        return unravel(np.linalg.solve(a, rhs), b)
    except np.linalg.LinAlgError as error:
        raise MatrixError(
            "the solution of A x = b", "A is singular", operands=[("A", a)],
            fix="solve=... with another solver, such as one of least squares",
        ) from error  # fmt: skip


def matrix(f: Callable[[Array], Array], n: int, dtype: Any) -> Array:
    """The matrix of a linear map."""
    try:
        return vmap(f, out_axes=1)(np.eye(n, dtype=dtype))
    except LOST:
        return np.stack([f(row) for row in np.eye(n, dtype=dtype)], 1)


def gmres(f: Callable[[Array], Array], b: Array, restart: int = 64, cycles: int = 200) -> Array:
    """A x = b by minimal residuals in Krylov spaces.   (Saad & Schultz 1986)"""
    x, size = np.zeros_like(b), np.linalg.norm(b)
    for _ in range(cycles):
        r = b - f(x)
        beta = np.linalg.norm(r)
        if beta <= 1e-13 * size:
            break
        basis, h = [r / beta], np.zeros((restart + 1, restart), b.dtype)
        k = 0
        for k in range(restart):
            w = f(basis[k])
            for _ in range(2):  # twice is enough
                for i, v in enumerate(basis):
                    c = np.vdot(v, w)
                    h[i, k] += c
                    w = w - c * v
            h[k + 1, k] = np.linalg.norm(w)
            if abs(h[k + 1, k]) <= 1e-14 * beta:
                break
            basis.append(w / h[k + 1, k])
        e = np.zeros(k + 2, b.dtype)
        e[0] = beta
        y = np.linalg.lstsq(h[: k + 2, : k + 1], e, rcond=None)[0]
        x = x + np.stack(basis[: k + 1], 1) @ y
    return x


def slope(f: Flat, xs: list[Array], v: list[Array]) -> list[Array]:
    return list(jvp(lambda *u: f(list(u)), tuple(xs), tuple(v))[1])


def newton(f: Callable[..., Any], x0: Any, steps: int = 100) -> Any:
    """f(x) = 0 by Newton's method, the step halved while |f| does not fall."""
    xs, shape = tree.flatten(x0)

    def flat(v: list[Array]) -> list[Array]:
        return tree.leaves(f(tree.unflatten(shape, v)))

    xs = [np.asarray(x, np.result_type(x, np.float32)) for x in xs]
    r = flat(xs)
    size = distance(r, "newton")
    for _ in range(steps):
        try:
            step = default_solve(functools.partial(slope, flat, xs), r)
        except MatrixError as error:
            raise ConvergenceError(
                "Newton's method for f(x) = 0", "the derivative of f is singular on the way",
                operands=[("|f(x)|", verbatim(f"{size:.3g}"))],
                fix="another first guess, or a solver of your own: solver=...",
            ) from error  # fmt: skip
        t = 1.0
        while True:
            new = [x - t * d for x, d in zip(xs, step)]
            with np.errstate(all="ignore"):
                r_new = flat(new)
                size_new = distance(r_new, "newton")
            if size_new < size or t < 1e-8:
                break
            t /= 2
        if not size_new < size:
            break
        xs, r, size = new, r_new, size_new
    return tree.unflatten(shape, xs)


def iterate(f: Callable[..., Any], x0: Any, steps: int = 10000) -> Any:
    """x = f(x), again and again until nothing changes."""
    x, last = x0, np.inf
    for _ in range(steps):
        y = f(x)
        pairs = list(zip(tree.leaves(y), tree.leaves(x)))
        gap = distance([a - b for a, b in pairs], "iterate")
        size = distance([a for a, _ in pairs], "iterate")
        x = y
        eps = float(np.finfo(np.result_type(*[dtype_of(a) or float for a, _ in pairs])).eps)
        if gap <= 4 * eps * size or (gap <= 1e3 * eps * size and gap >= last):
            break
        last = gap
    return x


# ------------------------------------------------------------------ roots


class Root(Law):
    """f(x, p) = 0, from a first guess that the solution does not depend on."""

    def __init__(
        self, f: Flat, n: int, solver: Any, tangent: Any, tol: float | None, name: str,
        regular: Any = None, symmetric: bool = False,
    ) -> None:  # fmt: skip
        self.f, self.n, self.solver, self.tol, self.name = f, n, solver, tol, name
        self.tangent, self.regular, self.symmetric = tangent, regular, symmetric

    def call(self, xs: list[Array], want: bool) -> Any:
        x0, ps = xs[: self.n], xs[self.n :]
        x = list(self.solver(x0, ps))
        at_start = distance(self.f(x0, ps), self.name)
        miss = distance(self.f(x, ps), self.name)
        tol = self.tol
        if tol is None:
            tol = float(np.finfo(np.result_type(*[dtype_of(v) or float for v in x])).eps) ** 0.4
        bound = tol * max(1.0, at_start if np.isfinite(at_start) else 1.0)
        if not miss <= bound:
            raise ConvergenceError(
                f"{self.name}(...)",
                "the solver stopped where the equation, and so its derivative, does not hold",
                operands=[("residual", verbatim(f"{miss:.3g}, at the first guess {at_start:.3g}")),
                          ("allowed", verbatim(f"{bound:.3g}"))],
                fix="more iterations or a better first guess; tol=... allows more",
            )  # fmt: skip
        return x, tree.flatten(x)[1], list(x) if want else None

    def linear(self) -> LinearSolve:
        def matvec(v: list[Array], q: list[Array]) -> list[Array]:
            x, ps = q[: self.n], q[self.n :]
            return slope(lambda u: self.f(u, ps), x, v)

        def solve(matvec: Flat, b: list[Array]) -> list[Array]:
            try:
                return self.tangent(matvec, b)
            except np.linalg.LinAlgError as error:
                raise MatrixError(
                    f"the derivative of {self.name}",
                    "the linearised equation is singular at the solution, which is then no "
                    "differentiable function of the parameters",
                ) from error

        name = f"the linearised equation of {self.name}"
        return LinearSolve(matvec, solve, self.n, None, self.symmetric, name=name)

    def push(self, xs: list[Array], dxs: list[Array | None], ys: list[Array]) -> list[Array | None]:
        ps = xs[self.n :]
        slope = partial_push(lambda p: self.f(ys, p), ps, dxs[self.n :])
        if slope is None:
            return [None] * self.n
        self.check(ys, ps)
        return apply(self.linear(), [*[-v for v in slope], *ys, *ps])

    def pull(
        self, xs: list[Array], gs: list[Array], live: tuple[int, ...], residuals: Any
    ) -> list[Array | None]:
        ps, inner = xs[self.n :], [i - self.n for i in live if i >= self.n]
        if not inner:
            return [None] * len(live)
        x = residuals if residuals is not None else apply(self, xs)
        self.check(x, ps)
        w = apply(self.linear().transposed(x), [*gs, *x, *ps])
        gps = iter(partial_pull(lambda p: self.f(x, p), ps, inner, [-v for v in w]))
        return [next(gps) if i >= self.n else None for i in live]

    def check(self, x: list[Array], ps: list[Array]) -> None:
        if self.regular is not None:
            self.regular(x, ps)


def root(
    f: Callable[..., Any], x0: Any, solver: Any, tangent_solve: Any, params: tuple[Any, ...],
    tol: float | None, name: str, symmetric: bool = False, explicit: bool = False,
    hidden: Any = None,
) -> Any:  # fmt: skip
    """The common part; an explicit solver is given the parameters too."""
    what = f"{name}(f, x0)"
    function(what, "tangent_solve", tangent_solve, optional=True)
    number(what, "tol", tol, 0.0, optional=True)
    if hidden is None:
        f, hidden = hoisted(f)
    guess, shape = tree.flatten(x0)
    if not guess:
        raise ArgumentError(what, "the first guess has no array")
    numeric(what, lambda: tree.paths(shape, "x0"), guess)
    guess = [x.detach() if isinstance(x, Tensor) else x for x in map(looked, guess)]
    guess = [floating(x) for x in guess]
    ps, rebuild = taken((*params, *hidden))

    def flat(x: list[Array], p: list[Array]) -> list[Array]:
        value = call(what, "f", f, tree.unflatten(shape, x), *rebuild(p))
        return like(fitted(value, shape, what, "f(x)"), x, what, "f(x)")

    def found(x: list[Array], p: list[Array]) -> list[Array]:
        got = call(
            f"solver of {name}", "solver", solver,
            lambda v: tree.unflatten(shape, flat(fitted(v, shape, f"solver of {name}", "x"), p)),
            tree.unflatten(shape, x),
            *(rebuild(p) if explicit else ()),
        )  # fmt: skip
        return fitted(got, shape, f"solver of {name}", "x")

    tangent = solver_of(tangent_solve, shape, f"tangent of {name}")
    law = Root(flat, len(guess), found, tangent, tol, name, symmetric=symmetric)
    return tree.unflatten(shape, apply(law, [*guess, *ps]))


def custom_root(
    f: Callable[..., Any],
    x0: Any,
    solver: Callable[..., Any] | None = None,
    tangent_solve: Callable[..., Any] | None = None,
    params: tuple[Any, ...] = (),
    tol: float | None = None,
) -> Any:
    """The solution x of f(x, *params) = 0, found by any means and differentiated by the equation.

    Args:
        f: (x, *params) -> a value like x. Recorded tensors that it closes over are found and
            differentiated as params are, where Python lets them be found; else it is refused.
        x0: the first guess, a pytree; the solution does not depend on it.
        solver: (f, x0) -> x, on plain arrays; Newton's method if left out.
        tangent_solve: (g, y) -> the solution of g(x) = y for linear g, or its transpose; dense, or
            GMRES for many unknowns, if left out.
        params: what the equation depends on.
        tol: the residual allowed, in units of the larger of 1 and that at x0.

    Raises:
        ConvergenceError: the solver stopped where the equation does not hold.
        MatrixError: the equation is singular at the solution.

    References: A. Griewank & A. Walther, Evaluating Derivatives (2008), ch. 15.

    >>> import wengert as wg
    >>> sqrt = lambda a: wg.custom_root(lambda x, a: x * x - a, 1.0, params=(a,))
    >>> wg.grad(sqrt)(4.0), wg.grad(wg.grad(sqrt))(4.0)
    (np.float64(0.25), np.float64(-0.03125))
    """
    what = "custom_root(f, x0)"
    function(what, "f", f)
    function(what, "solver", solver, optional=True)
    return root(f, x0, solver or newton, tangent_solve, params, tol, "custom_root")


def custom_fixed_point(
    f: Callable[..., Any],
    x0: Any,
    solver: Callable[..., Any] | None = None,
    tangent_solve: Callable[..., Any] | None = None,
    params: tuple[Any, ...] = (),
    tol: float | None = None,
) -> Any:
    """The solution of x = f(x, *params), as `custom_root` of x - f(x, *params).

    Args:
        f: (x, *params) -> a value like x.
        x0: the first guess.
        solver: (f, x0) -> x; f is applied until nothing changes, if left out.
        tangent_solve, params, tol: as in `custom_root`.

    >>> import numpy as np, wengert as wg
    >>> kepler = lambda e: wg.custom_fixed_point(lambda x, e: 1 + e * np.sin(x), 1.0, params=(e,))
    >>> x, dx = wg.jvp(kepler, (0.3,), (1.0,))
    >>> bool(np.isclose(dx, np.sin(x) / (1 - 0.3 * np.cos(x))))
    True
    """
    what = "custom_fixed_point(f, x0)"
    function(what, "f", f)
    function(what, "solver", solver, optional=True)
    f, hidden = hoisted(f)
    chosen = solver or iterate
    shape = tree.structure(x0)

    def residual(x: Any, *values: Any) -> Any:
        next_ = fitted(call(what, "f", f, x, *values), shape, what, "f(x)")
        next_ = like(next_, tree.leaves(x), what, "f(x)")
        return tree.unflatten(shape, [a - b for a, b in zip(tree.leaves(x), next_)])

    def solve(g: Any, x: Any) -> Any:
        return chosen(lambda v: tree.map(lambda a, b: a - b, v, g(v)), x)

    return root(
        residual, x0, solve, tangent_solve, params, tol, "custom_fixed_point", hidden=hidden
    )  # fmt: skip
