"""Optimisation inside a function: unrolled steps, and meta-learning through them.

An optimiser's step is a function of its parameters like any other, so the result of n steps has a
derivative with respect to where it started, to the learning rate, and to the data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np

from .. import tree
from ..errors import ArgumentError, ShapeError, verbatim
from ..given import call, count, function, items, number, numeric, one_of
from ..trace import Tensor
from ..types import dtype_of, shape_of
from .custom import stop_gradient
from .implicit import custom_root
from .jvp import jvp
from .vjp import grad

__all__ = ["adapt", "conjugate_gradient", "maml", "unroll"]

ORDERS = ("second", "first", "implicit")


def unroll(
    step: Callable[[Any], Any], x: Any, n: int, *, truncate: int | None = None, path: bool = False
) -> Any:
    """n steps x -> step(x), recorded, so that gradients flow back through all of them.

    Args:
        step: a map of a pytree (or module) to its like.
        x: where it starts.
        n: how many steps.
        truncate: gradients flow through the last so many steps alone; None for all. The state
            before them is a constant (Shaban et al. 2019).
        path: return the list of all n + 1 states.

    Example:
        >>> import wengert as wg
        >>> def final_loss(rate):
        ...     w = unroll(lambda w: w - rate * wg.grad(lambda w: w ** 2)(w), 1.0, 3)
        ...     return w ** 2  # (1 - 2 rate)^6
        >>> bool(np.isclose(wg.grad(final_loss)(0.1), -12 * 0.8 ** 5))
        True
    """
    what = "unroll(step, x, n, truncate)"
    function(what, "step", step)
    n = count(what, "n", n)
    truncate = count(what, "truncate", truncate, optional=True)
    states = [x]
    for i in range(n):
        if truncate is not None and i == n - truncate:
            x = stop_gradient(x)
        x = call(what, "step", step, x)
        states.append(x)
    if truncate == 0:
        x = states[-1] = stop_gradient(x)
    return states if path else x


def adapt(
    loss: Callable[..., Any],
    params: Any,
    *data: Any,
    lr: Any = 0.01,
    steps: int = 1,
    order: str = "second",
    lam: float = 1.0,
    tol: float | None = None,
) -> Any:
    """Parameters fitted to data, as a function of the parameters they started from.

        second     steps of  p <- p - lr dloss(p),  differentiated through the gradient (MAML)
        first      the same steps, with their gradients as constants: d adapted / d params = 1
        implicit   argmin_p loss(p) + lam/2 |p - params|^2, by Newton's method; its derivative is
                   (1 + H / lam)^-1, applied by conjugate gradients, whatever the way there (iMAML)

    Args:
        loss: (params, *data) -> one number.
        params: a pytree of arrays, or a module.
        data: what the loss is measured on.
        lr: the rate of a step, a number or a tree of them like params; it may be learned too.
        steps: how many steps (of the orders "second" and "first").
        order: "second", "first" or "implicit".
        lam: how strongly "implicit" holds the parameters where they were.
        tol: how small the gradient of the inner problem becomes ("implicit"); None for 1e-10, or
            1e-5 where there are float32 numbers.

    Returns:
        the adapted parameters, of params' structure.

    Raises:
        ConvergenceError: the inner problem was not solved ("implicit").

    Example:
        >>> import wengert as wg
        >>> loss = lambda w, x: np.sum((w - x) ** 2)
        >>> def outer(w, order):
        ...     return adapt(loss, w, 3.0, lr=0.1, order=order)
        >>> [float(np.round(wg.grad(outer)(1.0, o), 6)) for o in ("second", "first", "implicit")]
        [0.8, 1.0, 0.333333]

    References:
        C. Finn, P. Abbeel, S. Levine: Model-agnostic meta-learning (2017).
        A. Rajeswaran, C. Finn, S. Kakade, S. Levine: Meta-learning with implicit gradients (2019).
    """
    checked(loss, lr, steps, order, lam, tol)
    if order == "implicit":
        return proximal(loss, params, data, lam, tol)
    rates(params, lr)
    slope = grad(loss)

    def step(p: Any) -> Any:
        if order == "second":
            return descended(p, slope(p, *data), lr)
        return descended(p, stop_gradient(slope(stop_gradient(p), *data)), lr)

    return unroll(step, params, steps)


def checked(loss: Any, lr: Any, steps: Any, order: Any, lam: Any, tol: Any) -> None:
    what = "adapt(loss, params, *data)"
    function(what, "loss", loss)
    one_of(what, "order", order, ORDERS)
    count(what, "steps", steps)
    leaves, structure = tree.flatten(lr)
    numeric(what, lambda: tree.paths(structure, "lr"), leaves)
    number(what, "lam", lam, 0.0, strict=True)
    number(what, "tol", tol, 0.0, strict=True, optional=True)


def rates(params: Any, lr: Any) -> None:
    """Refuse rates that are neither one number nor a tree like the parameters."""
    leaves, shape = tree.flatten(lr)
    if len(leaves) == 1 and (shape_of(leaves[0]) == () or tree.structure(params).size == 1):
        ps = tree.leaves(params) if shape_of(leaves[0]) else []
    elif shape == tree.structure(params):
        ps = tree.leaves(params)
    else:
        raise ArgumentError(
            "adapt(loss, params, lr=...)", "lr is one number, or a tree like params",
            operands=[("params", verbatim(str(tree.structure(params)))),
                      ("lr", leaves[0] if shape.kind is None else verbatim(str(shape)))],
        )  # fmt: skip
    for p, r in zip(ps, leaves):
        if shape_of(r) not in ((), shape_of(p)):
            raise ShapeError(
                "adapt(loss, params, lr=...)", "a rate is one number, or one for each parameter",
                operands=[("params", p), ("lr", r)],
            )  # fmt: skip


def descended(params: Any, slope: Any, lr: Any) -> Any:
    if isinstance(lr, Tensor) or len(tree.leaves(lr)) == 1:
        (rate,) = tree.leaves(lr)
        return tree.map(lambda p, g: p - rate * g, params, slope)
    return tree.map(lambda p, g, r: p - r * g, params, slope, lr)


def maml(
    loss: Callable[..., Any],
    *,
    lr: Any = 0.01,
    steps: int = 1,
    order: str = "second",
    lam: float = 1.0,
    tol: float | None = None,
) -> Callable[[Any, Sequence[tuple[tuple[Any, ...], tuple[Any, ...]]]], Any]:
    """The meta-loss of a model that will be adapted: differentiate it to learn to learn.

        meta(params, tasks) = mean over tasks of  loss(adapt(loss, params, *support), *query)

    Args:
        loss: (params, *data) -> one number.
        lr, steps, order, lam, tol: of the adaptation; see `adapt`.

    Returns:
        meta(params, tasks), where tasks is a list of (support, query) and each of the two is the
        tuple of the loss's data.

    Example:
        >>> import wengert as wg
        >>> loss = lambda w, x: np.sum((w - x) ** 2)
        >>> meta = maml(loss, lr=0.1)
        >>> tasks = [((3.0,), (3.0,)), ((-1.0,), (-1.0,))]
        >>> np.round(wg.grad(meta)(2.0, tasks), 6)  # 2 (1 - 2 lr)^2 (w - mean)
        np.float64(1.28)
    """

    checked(loss, lr, steps, order, lam, tol)

    @wraps(loss)
    def meta(params: Any, tasks: Sequence[tuple[tuple[Any, ...], tuple[Any, ...]]]) -> Any:
        losses = []
        for task in items("meta(params, tasks)", "tasks", tasks, "pairs (support, query)"):
            if not isinstance(task, tuple | list) or len(task) != 2:
                raise ArgumentError(
                    "meta(params, tasks)", "a task is a pair (support, query)",
                    operands=[("task", verbatim(str(tree.structure(task))))],
                )  # fmt: skip
            support, query = [items("meta(params, tasks)", "data", d, "arguments") for d in task]
            own = adapt(loss, params, *support, lr=lr, steps=steps, order=order, lam=lam, tol=tol)
            losses.append(call("maml(loss)", "loss", loss, own, *query))
        if not losses:
            raise ArgumentError("meta(params, tasks)", "there is no task")
        return sum(losses[1:], losses[0]) / len(losses)

    return meta


# ------------------------------------------------------------------ the proximal problem


def dot(a: Any, b: Any) -> Any:
    return sum(np.sum(x * y) for x, y in zip(tree.leaves(a), tree.leaves(b), strict=True))


def plus(a: Any, b: Any, scale: Any = 1.0) -> Any:
    return tree.map(lambda x, y: x + scale * y, a, b)


def conjugate_gradient(
    matvec: Callable[[Any], Any], b: Any, tol: float = 1e-12, steps: int | None = None
) -> Any:
    """The solution x of A x = b for a symmetric, positive definite A, given as x -> A x.

    Args:
        matvec: x -> A x on pytrees like b.
        b: a pytree of arrays.
        tol: |A x - b| <= tol |b| ends it; so does a direction in which A is not positive.
        steps: at most so many; None for ten for each number in b.

    Example:
        >>> a = np.array([[2.0, 1.0], [1.0, 3.0]])
        >>> np.round(conjugate_gradient(lambda x: a @ x, np.array([3.0, 4.0])), 12)
        array([1., 1.])

    References:
        M. R. Hestenes, E. Stiefel: Methods of conjugate gradients (1952).
    """
    x = tree.map(lambda v: v * 0.0, b)
    r = d = b
    size = now = dot(r, r)
    limit = 10 * sum(int(np.size(v)) for v in tree.leaves(b)) if steps is None else steps
    for _ in range(limit):
        if not now > tol**2 * size:
            break
        ad = matvec(d)
        curvature = dot(d, ad)
        if not curvature > 0:
            return x if now < size else b
        a = now / curvature
        x, r = plus(x, d, a), plus(r, ad, -a)
        old, now = now, dot(r, r)
        d = plus(r, d, now / old)
    return x


def proximal(loss: Any, params: Any, data: Any, lam: float, tol: float | None) -> Any:
    """argmin_p loss(p) + lam/2 |p - params|^2, differentiated by its equation."""
    slope = grad(loss)
    kinds = [dtype_of(v) or np.dtype(float) for v in tree.leaves(params)]
    coarse = any(d.itemsize < 8 for d in kinds)
    near = tol if tol is not None else 1e-5 if coarse else 1e-10

    def residual(p: Any, anchor: Any, data: Any) -> Any:
        return tree.map(lambda g, x, a: g + lam * (x - a), slope(p, *data), p, anchor)

    def objective(p: Any) -> Any:
        away = plus(p, anchored, -1.0)
        return loss(p, *fixed) + 0.5 * lam * dot(away, away)

    def curved(f: Any, p: Any) -> Callable[[Any], Any]:
        return lambda v: jvp(f, (p,), (v,))[1]

    def solver(f: Any, p: Any) -> Any:
        """Newton's method with conjugate gradients and a line search, on plain numbers."""
        g = f(p)
        for _ in range(100):
            size = np.sqrt(dot(g, g))
            if size <= near:
                break
            d = conjugate_gradient(curved(f, p), g, min(0.1, size))  # quadratic in the end
            start, fall, t = objective(p), dot(g, d), 1.0
            while objective(plus(p, d, -t)) > start - 1e-4 * t * fall + 1e-15 * abs(start):
                t /= 2
                if t < 1e-10:
                    return p
            p = plus(p, d, -t)
            g = f(p)
        return p

    anchored, fixed = stop_gradient(params), stop_gradient(data)
    return custom_root(
        residual, anchored, solver, lambda g, y: conjugate_gradient(g, y),
        params=(params, data), tol=100 * near,
    )  # fmt: skip
