"""Layers that minimise: the minimiser is differentiated by its conditions of optimality."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import tree
from ..errors import ArgumentError, ConvergenceError, KinkError, MatrixError, ShapeError, verbatim
from ..given import call, function, numeric
from ..trace import Tensor, looked
from ..types import Array, dtype_of, is_inexact, shape_of
from .closure import hoisted
from .implicit import Root, default_solve, ravel, root, unravel
from .jacobian import hessian
from .law import apply
from .vjp import grad

__all__ = ["argmin", "quadratic_program", "ridge"]

STEPS = 200
KINK = 1e-6  # a multiplier and its slack that are both smaller leave the derivative open


def argmin(
    f: Callable[..., Any],
    x0: Any,
    *params: Any,
    solver: Callable[..., Any] | None = None,
    tangent_solve: Callable[..., Any] | None = None,
    tol: float | None = None,
) -> Any:
    """The x that minimises f(x, *params), differentiated by  grad_x f(x, *params) = 0.

        dx = -H^-1 d(grad_x f)/dp dp,    H the Hessian of f in x.

    Args:
        f: (x, *params) -> one number, smooth in x. Recorded tensors that it closes over are found
            as in `custom_root`.
        x0: the first guess, a pytree.
        params: what f depends on.
        solver: (f, x0) -> x, on plain arrays; Newton's method with a line search if left out.
        tangent_solve: (v -> H v, y) -> H^-1 y; dense, or GMRES for many unknowns, if left out.
        tol: the gradient allowed at x, in units of the larger of 1 and that at x0.

    Raises:
        ConvergenceError: x is not stationary, or f falls from there.
        MatrixError: the Hessian is singular at the minimum.

    References: S. Gould et al., arXiv:1607.05447 (2016).

    >>> import numpy as np, wengert as wg
    >>> soft = lambda a: wg.argmin(lambda x, a: (x - a) ** 2 + x ** 4, 0.0, a)
    >>> x = soft(1.5)
    >>> bool(np.isclose(wg.grad(soft)(1.5), 2 / (2 + 12 * x ** 2)))
    True
    """
    what = "argmin(f, x0)"
    function(what, "f", f)
    function(what, "solver", solver, optional=True)
    f, hidden = hoisted(f)
    chosen = solver or minimised

    def cost(x: Any, *values: Any) -> Any:
        return call(what, "f", f, x, *values)

    def stationary(x: Any, *values: Any) -> Any:
        return grad(cost, allow_unused=True)(x, *values)

    def find(_: Any, x: Any, *values: Any) -> Any:
        return call(what, "solver", chosen, lambda x: cost(x, *values), x)

    return root(
        stationary, x0, find, tangent_solve, params, tol, "argmin",
        symmetric=True, explicit=True, hidden=hidden,
    )  # fmt: skip


def minimised(f: Callable[[Any], Any], x0: Any) -> Any:
    """A minimum by Newton's method; where f is not convex, downhill along |H|^-1 grad f."""
    xs, shape = tree.flatten(x0)

    def flat(v: Array) -> Array:
        return f(tree.unflatten(shape, unravel(v, xs)))

    x = np.asarray(ravel([np.asarray(v) for v in xs]))
    if x.size > 1024:
        raise ArgumentError(
            "argmin(f, x0)", f"{x.size} unknowns are too many for a dense Hessian",
            fix="argmin(f, x0, solver=..., ...) with a solver of your own",
        )  # fmt: skip
    y, g = flat(x), grad(flat, allow_unused=True)(x)
    values = np.zeros(0)
    for _ in range(STEPS):
        values, vectors = np.linalg.eigh(hessian(flat)(x))
        size = np.maximum(np.abs(values), 1e-12 * np.max(np.abs(values), initial=1e-300))
        step = -vectors @ ((vectors.T @ g) / size)
        t = 1.0
        while True:
            new = x + t * step
            with np.errstate(all="ignore"):
                y_new = flat(new)
                # at the end f no longer tells two points apart, and the gradient decides
                falls = y_new < y or (y_new <= y + 1e-14 * abs(y) and t == 1.0)
                g_new = grad(flat, allow_unused=True)(new) if falls else g
            if falls and (y_new < y or np.linalg.norm(g_new) < np.linalg.norm(g)):
                break
            t /= 2
            if t < 1e-12:
                break
        if t < 1e-12:
            break
        x, y, g = new, y_new, g_new
    if values.size and values[0] < -1e-8 * np.max(np.abs(values)):
        raise ConvergenceError(
            "argmin(f, x0)", "f has no minimum where its gradient vanishes: it falls from there",
            operands=[("x", verbatim(f"{x}")),
                      ("curvature", verbatim(f"{values[0]:.3g} .. {values[-1]:.3g}"))],
            fix="another first guess",
        )  # fmt: skip
    return tree.unflatten(shape, unravel(x, xs))


def ridge(a: Array, b: Array, lam: Array) -> Array:
    """The x that minimises |a x - b|^2 + lam |x|^2:   x = (a^T a + lam)^-1 a^T b.

    Args:
        a: shape (m, n).
        b: shape (m,) or (m, k).
        lam: a positive number.

    >>> import numpy as np, wengert as wg
    >>> a, b = np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([1.0, 2.0])
    >>> wg.ridge(a, b, 1.0)
    array([0.5, 0.8])
    >>> wg.jacobian(lambda lam: wg.ridge(a, b, lam))(1.0)
    array([-0.25, -0.16])
    """
    numeric("ridge(a, b, lam)", ["a", "b", "lam"], [a, b, lam])
    if len(shape_of(a)) != 2 or not shape_of(b) or shape_of(a)[0] != shape_of(b)[0]:
        raise ShapeError(
            "ridge(a, b, lam)", "a has shape (m, n), and b as many rows",
            operands=[("a", a), ("b", b)],
        )  # fmt: skip
    value = bottom_of(lam)
    real = getattr(dtype_of(lam) or np.asarray(lam).dtype, "kind", "f") != "c"
    positive = real and (value is None or bool(np.all(value >= 0)))
    if shape_of(lam) != () or not positive:
        raise ArgumentError(
            "ridge(a, b, lam)", "lam is one number that is not negative: else there is no minimum",
            operands=[("lam", lam if value is None or value.ndim else value.item())],
        )  # fmt: skip
    m, n = shape_of(a)
    at = np.swapaxes(a, 0, 1)
    try:
        if n <= m:
            return np.linalg.solve(at @ a + lam * np.eye(n), at @ b)
        return at @ np.linalg.solve(a @ at + lam * np.eye(m), b)
    except np.linalg.LinAlgError as error:
        raise MatrixError(
            "ridge(a, b, lam)", "a does not have full rank: there are many minima where lam is 0",
            operands=[("a", a)], fix="a positive lam",
        ) from error  # fmt: skip


# ------------------------------------------------------------------ quadratic programs


def quadratic_program(
    Q: Array,
    q: Array,
    G: Array | None = None,
    h: Array | None = None,
    A: Array | None = None,
    b: Array | None = None,
    duals: bool = False,
) -> Any:
    """The x that minimises  x^T Q x / 2 + q^T x  subject to  G x <= h,  A x = b.

    Found by an interior-point method, and differentiated by the conditions of optimality

        Q x + q + G^T u + A^T v = 0,    u (G x - h) = 0,    A x = b.

    Args:
        Q: shape (n, n), positive semidefinite.
        q: shape (n,).
        G, h: shapes (m, n) and (m,); may be left out.
        A, b: shapes (k, n) and (k,); may be left out.
        duals: return (x, u, v) with the multipliers (None for constraints that were left out).

    Raises:
        ArgumentError: the problem is not convex.
        ConvergenceError: it has no solution: infeasible or unbounded.
        KinkError: a derivative where a constraint holds with equality and a multiplier of 0: the
            solution has a kink there, as x = max(a, 0) has at a = 0.
        MatrixError: a derivative where the solution, or the multiplier, is not unique.

    References: B. Amos & J. Z. Kolter, OptNet, ICML 2017. S. Mehrotra, SIAM J. Optim. 2 (1992).

    >>> import numpy as np, wengert as wg
    >>> def project(a):                 # on the simplex
    ...     n = len(a)
    ...     return wg.quadratic_program(np.eye(n), -a, -np.eye(n), np.zeros(n), np.ones((1, n)),
    ...                                 np.ones(1))
    >>> x = project(np.array([0.9, 0.5, -3.0]))
    >>> np.round(x, 12) + 0
    array([0.7, 0.3, 0. ])
    >>> np.round(wg.jacobian(project)(np.array([0.9, 0.5, -3.0])), 12) + 0
    array([[ 0.5, -0.5,  0. ],
           [-0.5,  0.5,  0. ],
           [ 0. ,  0. ,  0. ]])
    """
    if (G is None) != (h is None) or (A is None) != (b is None):
        raise ArgumentError(
            "quadratic_program(Q, q, G, h, A, b)", "G and h go together, A and b too"
        )
    n = shape_of(q)[0] if len(shape_of(q)) == 1 else -1
    for name, v in (("Q", Q), ("q", q), ("G", G), ("h", h), ("A", A), ("b", b)):
        if v is not None:
            numeric("quadratic_program(Q, q, G, h, A, b)", [name], [v])
    names = [("Q", Q, (n, n)), ("q", q, (n,))]
    if G is not None:
        m = shape_of(G)[0] if shape_of(G) else -1
        names += [("G", G, (m, n)), ("h", h, (m,))]
    if A is not None:
        k = shape_of(A)[0] if shape_of(A) else -1
        names += [("A", A, (k, n)), ("b", b, (k,))]
    if any(shape_of(v) != s for _, v, s in names):
        raise ShapeError(
            "quadratic_program(Q, q, G, h, A, b)",
            "Q is (n, n), q (n,), G (m, n), h (m,), A (k, n), b (k,)",
            operands=[(name, v) for name, v, _ in names],
        )
    law = program(n, None if G is None else m, None if A is None else k)
    guess = [np.zeros(size) for size in law.sizes]
    ps = [looked(v) for _, v, _ in names]
    ps = [p if is_inexact(dtype_of(p)) else np.asarray(p, float) for p in ps]
    x, *rest = apply(law, [*guess, *ps])
    if not duals:
        return x
    u = rest.pop(0) if G is not None else None
    return x, u, rest[0] if rest else None


class Program(Root):
    """The conditions of optimality of a quadratic program, as equations for (x, u, v)."""

    sizes: list[int]


def program(n: int, m: int | None, k: int | None) -> Program:
    def parts(z: list[Array], p: list[Array]) -> Any:
        z, p = list(z[1:]), list(p[2:])
        u, G, h = (z.pop(0), p.pop(0), p.pop(0)) if m is not None else (None, None, None)
        v, A, b = (z.pop(0), p.pop(0), p.pop(0)) if k is not None else (None, None, None)
        return u, G, h, v, A, b

    def optimality(z: list[Array], p: list[Array]) -> list[Array]:
        x, Q, q = z[0], p[0], p[1]
        u, G, h, v, A, b = parts(z, p)
        slope = (Q @ x + x @ Q) / 2 + q
        out = []
        if u is not None:
            slope = slope + u @ G
            out.append(u * (G @ x - h))
        if v is not None:
            slope = slope + v @ A
            out.append(A @ x - b)
        return [slope, *out]

    def solver(z: list[Array], p: list[Array]) -> list[Array]:
        _, G, h, _, A, b = parts(z, p)
        none = np.zeros((0, n)), np.zeros(0)
        plain = [v.value() if isinstance(v, Tensor) else v for v in p[:2]]
        pairs = []
        for pair in ((G, h), (A, b)):
            values = none if pair[0] is None else pair
            pairs += [v.value() if isinstance(v, Tensor) else v for v in values]
        x, u, v = interior(plain[0], plain[1], *pairs)
        return [x, *([u] if m is not None else []), *([v] if k is not None else [])]

    def regular(z: list[Array], p: list[Array]) -> None:
        u, G, h, *_ = parts(z, p)
        if u is None:
            return
        u, slack = bottom_of(u), bottom_of(h - G @ z[0])
        if u is None or slack is None or not u.size:
            return
        open_ = np.maximum(u / max(1.0, np.abs(u).max()), slack) < KINK
        if np.any(open_):
            i = int(np.argwhere(open_)[0][-1])
            raise KinkError(
                "the derivative of a quadratic program",
                f"constraint {i} holds with equality and its multiplier is 0: the solution has a "
                "kink there",
                operands=[("multiplier", verbatim(f"{u[..., i].min():.3g}")),
                          ("slack", verbatim(f"{slack[..., i].min():.3g}"))],
                fix="move the parameters a little, or leave the constraint out",
            )  # fmt: skip

    sizes = [n] + [s for s in (m, k) if s is not None]
    law = Program(optimality, len(sizes), solver, default_solve, 1e-6, "quadratic_program", regular)
    law.sizes = sizes
    return law


def bottom_of(x: Any) -> Any:
    x = looked(x)
    while isinstance(x, Tensor):
        x = looked(x.data)
    return None if hasattr(x, "graph") else np.asarray(x)


def interior(
    Q: Array, q: Array, G: Array, h: Array, A: Array, b: Array
) -> tuple[Array, Array, Array]:
    """(x, multipliers of G x <= h, of A x = b) by Mehrotra's predictor and corrector."""
    Q = (Q + Q.T) / 2
    n, m, k = len(q), len(h), len(b)
    low = np.linalg.eigvalsh(Q)[0] if n else 0.0
    if low < -1e-9 * max(1.0, float(np.abs(Q).max(initial=0))):
        raise ArgumentError(
            "quadratic_program(Q, ...)", "not convex: Q is not positive semidefinite",
            operands=[("smallest eigenvalue", verbatim(f"{low:.3g}"))],
        )  # fmt: skip
    scale = 1.0 + max(float(np.abs(v).max(initial=0)) for v in (q, h, b))
    x, u, v = np.zeros(n), np.ones(m), np.zeros(k)
    s = np.maximum(h - G @ x, 1.0)
    gap = miss = np.inf
    for _ in range(STEPS):
        rd, rp, re = Q @ x + q + G.T @ u + A.T @ v, G @ x + s - h, A @ x - b
        gap = float(s @ u) / max(m, 1)
        miss = max(float(np.abs(r).max(initial=0)) for r in (rd, rp, re))
        if gap <= 1e-13 * scale and miss <= 1e-11 * scale:
            break
        if not np.isfinite(miss) or max(np.abs(x).max(initial=0), np.abs(u).max(initial=0)) > 1e14:
            break
        w = u / s
        system = np.block([[Q + (G.T * w) @ G, A.T], [A, np.zeros((k, k))]])

        state = (system, G, rd, rp, re, s, u)
        with np.errstate(all="ignore"):
            _, _, ds, du = move(*state, s * u)
            t = min(far(s, ds), far(u, du))
            sigma = (float((s + t * ds) @ (u + t * du)) / max(m, 1) / gap) ** 3 if gap > 0 else 0.0
            dx, dv, ds, du = move(*state, s * u + ds * du - sigma * gap)
            t = min(1.0, 0.995 * min(far(s, ds), far(u, du))) if m else 1.0
        x, v, s, u = x + t * dx, v + t * dv, s + t * ds, u + t * du
    if not (gap <= 1e-7 * scale and miss <= 1e-7 * scale):
        raise ConvergenceError(
            "quadratic_program(Q, q, G, h, A, b)",
            "no solution was found: the constraints contradict each other, or the objective falls "
            "without end",
            operands=[("equations violated by", verbatim(f"{miss:.3g}")),
                      ("duality gap", verbatim(f"{gap:.3g}"))],
        )  # fmt: skip
    return polished(Q, q, G, h, A, b, (x, u, v), u > s)


def move(
    system: Array, G: Array, rd: Array, rp: Array, re: Array, s: Array, u: Array, rc: Array
) -> tuple[Array, ...]:
    """Newton's step (dx, dv, ds, du) towards s u = s u - rc and zero residuals."""
    n = len(rd)
    rhs = np.concatenate([-rd - G.T @ ((u * rp - rc) / s), -re])
    try:
        d = np.linalg.solve(system, rhs)
    except np.linalg.LinAlgError:
        d = np.linalg.lstsq(system, rhs, rcond=None)[0]
    ds = -rp - G @ d[:n]
    return d[:n], d[n:], ds, (-rc - u * ds) / s


def far(v: Array, dv: Array) -> float:
    """How far v may go along dv and stay positive; at most 1."""
    down = dv < 0
    return float(min(1.0, np.min(-v[down] / dv[down]))) if np.any(down) else 1.0


def polished(
    Q: Array, q: Array, G: Array, h: Array, A: Array, b: Array, found: Any, active: Array
) -> tuple[Array, Array, Array]:
    """The last digits: the equations of the constraints that hold, solved once."""
    x, u, v = found
    n, c = len(q), np.concatenate([G[active], A])
    k = len(c)
    system = np.block([[Q, c.T], [c, np.zeros((k, k))]])
    try:
        d = np.linalg.solve(system, np.concatenate([-q, h[active], b]))
    except np.linalg.LinAlgError:
        return x, u, v
    new, multipliers = d[:n], np.zeros_like(u)
    multipliers[active] = d[n : n + int(active.sum())]
    near = np.abs(new - x).max(initial=0) <= 1e-4 * (1 + np.abs(x).max(initial=0))
    if near and np.all(G @ new - h <= 1e-12 * (1 + np.abs(h))) and np.all(multipliers >= 0):
        return new, multipliers, d[n + int(active.sum()) :]
    return x, u, v
