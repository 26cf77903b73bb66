"""Initial value problems  dy/dt = f(y, t, *args),  y(t_0) = y_0."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import tree
from ..errors import (
    ArgumentError,
    ConvergenceError,
    DTypeError,
    LevelError,
    ShapeError,
    UnsupportedError,
    verbatim,
)
from ..given import call, count, function, number, numeric, one_of
from ..trace import Tensor, looked
from ..types import Array, dtype_of, is_inexact, shape_of
from .closure import hoisted
from .custom import custom_vjp
from .vjp import vjp

__all__ = ["odeint"]


class Tableau:
    """A Runge-Kutta method: k_i = f(y + h sum_j a_ij k_j, t + c_i h),  y' = y + h sum b_i k_i.

    `e` are the weights of the error estimate, None for steps of a given size; `order` of the error.
    The last stage of an embedded method is the first of the next step.
    """

    def __init__(self, c: Any, a: Any, b: Any, e: Any = None, order: int = 1) -> None:
        self.c, self.a, self.b, self.e, self.order = c, a, b, e, order


# J. R. Dormand & P. J. Prince, J. Comput. Appl. Math. 6 (1980), table 2
DOPRI5 = Tableau(
    (0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1),
    (
        (),
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
    ),
    (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0),
    (71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40),
    5,
)
# P. Bogacki & L. F. Shampine, Appl. Math. Lett. 2 (1989)
BOSH3 = Tableau(
    (0, 1 / 2, 3 / 4, 1),
    ((), (1 / 2,), (0, 3 / 4), (2 / 9, 1 / 3, 4 / 9)),
    (2 / 9, 1 / 3, 4 / 9, 0),
    (5 / 72, -1 / 12, -1 / 9, 1 / 8),
    3,
)
METHODS = {
    "dopri5": DOPRI5,
    "bosh3": BOSH3,
    "rk4": Tableau(
        (0, 1 / 2, 1 / 2, 1), ((), (1 / 2,), (0, 1 / 2), (0, 0, 1)), (1 / 6, 1 / 3, 1 / 3, 1 / 6)
    ),
    "midpoint": Tableau((0, 1 / 2), ((), (1 / 2,)), (0, 1)),
    "euler": Tableau((0,), ((),), (1,)),
}


def odeint(
    f: Callable[..., Any],
    y0: Any,
    t: Any,
    *args: Any,
    method: str = "dopri5",
    rtol: float = 1e-7,
    atol: float = 1e-9,
    steps: int = 1,
    max_steps: int = 10_000,
    adjoint: str = "discrete",
) -> Any:
    """The solution of dy/dt = f(y, t, *args) at the times t, with y(t[0]) = y0.

    Steps land on the times asked for. The discrete adjoint is the derivative of the numerical
    solution itself, exact to rounding for the steps that were taken (how their size was chosen is
    not differentiated); both modes, every order, and vmap, whose lanes share their steps. The
    continuous adjoint solves a second equation backwards in time: its memory does not grow with the
    number of steps, but the gradient is only as accurate as the two solutions, and can be far off
    where the equation forgets its past.

    Args:
        f: (y, t, *args) -> dy/dt, a pytree like y0. With the continuous adjoint, what it closes
            over is found as in `custom_root`, or refused.
        y0: a pytree of arrays.
        t: shape (n,), increasing or decreasing.
        args: what f depends on.
        method: "dopri5" or "bosh3", with error control; "rk4", "midpoint" or "euler", without.
        rtol, atol: the error allowed in a step is atol + rtol |y|, element by element.
        steps: how many equal steps a method without error control takes between two times.
        max_steps: how many steps an adaptive method may take, in all.
        adjoint: "discrete" or "continuous".

    Returns:
        y at all the times: y0 with a leading axis of length n.

    Raises:
        ConvergenceError: the steps became too small or too many; says which time was reached.

    References: E. Hairer, S. P. Norsett & G. Wanner, Solving Ordinary Differential Equations I
    (1993), II.4. R. T. Q. Chen et al., Neural Ordinary Differential Equations (2018).

    >>> import numpy as np, wengert as wg
    >>> decay = lambda rate: wg.odeint(lambda y, t, k: -k * y, 1.0, np.array([0.0, 2.0]), rate)[-1]
    >>> bool(np.isclose(wg.grad(decay)(0.5), -2 * np.exp(-1.0)))
    True
    """
    what = "odeint(f, y0, t)"
    function(what, "f", f)
    one_of("odeint(method=...)", "method", method, METHODS)
    one_of("odeint(adjoint=...)", "adjoint", adjoint, ("discrete", "continuous"))
    for name, tolerance in (("rtol", rtol), ("atol", atol)):
        number(f"odeint({name}=...)", name, tolerance, 0.0)
    if rtol == atol == 0:
        raise ArgumentError("odeint(rtol=..., atol=...)", "one of the two is positive")
    count("odeint(steps=...)", "steps", steps, 1)
    count("odeint(max_steps=...)", "max_steps", max_steps, 1)
    start, structure = tree.flatten(y0)
    numeric(what, [*tree.paths(structure, "y0"), "t"], [*start, t])
    if not start:
        raise ArgumentError(what, "y0 has no array", operands=[("y0", verbatim(str(structure)))])
    if not isinstance(t, Tensor):
        kind = np.asarray(t).dtype.kind
        numeric(what, ["t"], [np.asarray(t)])
        if kind == "c":
            raise DTypeError(what, "times are real", operands=[("t", t)])
    t = looked(t) if isinstance(t, Tensor) else np.asarray(t, float)
    check_times(t)
    y0 = tree.map(lambda v: looked(v) if isinstance(v, Tensor) else floating(v), y0)
    run = Solver(METHODS[method], rtol, atol, steps, max_steps)
    if adjoint == "discrete":
        return run.solve(f, y0, t, args)
    f, hidden = hoisted(f)
    return continuous(run, f)(y0, t, (*args, *hidden))


def floating(v: Any) -> Any:
    v = np.asarray(v)
    return v if is_inexact(v.dtype) else v.astype(float)


def check_times(t: Any) -> None:
    values = plain(t)
    if len(shape_of(t)) != 1 or not shape_of(t)[0]:
        raise ShapeError("odeint(f, y0, t)", "the times are a vector", operands=[("t", t)])
    if values is not None:
        gaps = np.diff(values, axis=-1)
        if not (np.all(gaps > 0) or np.all(gaps < 0) or not gaps.size):
            raise ArgumentError(
                "odeint(f, y0, t)", "the times increase or decrease, strictly",
                operands=[("t", verbatim(f"{values}"))],
            )  # fmt: skip


def plain(x: Any) -> Any:
    """The numbers of all lanes, without any derivative; None while a function is staged."""
    x = looked(x)
    while isinstance(x, Tensor):
        x = looked(x.data)
    return None if hasattr(x, "graph") else np.asarray(x)


class Solver:
    """One way to solve; time runs from 0 to 1 between two of the times that were asked for."""

    def __init__(
        self, method: Tableau, rtol: float, atol: float, steps: int, max_steps: int
    ) -> None:
        self.method, self.rtol, self.atol = method, rtol, atol
        self.steps, self.max_steps = steps, max_steps

    def solve(self, f: Any, y0: Any, t: Any, args: tuple[Any, ...]) -> Any:
        ys, self.shape = tree.flatten(y0)
        self.f, self.args, self.count = f, args, 0
        self.size: float | None = None  # of the next step, in units of t
        found = [ys]
        for i in range(shape_of(t)[0] - 1):
            found.append(self.interval(found[-1], t[i], t[i + 1]))
        return tree.unflatten(self.shape, [np.stack(list(many)) for many in zip(*found)])

    def slope(self, y: list[Array], t: Any) -> list[Array]:
        what, whole = "odeint(f, y0, t)", tree.unflatten(self.shape, y)
        got, shape = tree.flatten(call(what, "f", self.f, whole, t, *self.args))
        numeric(what, lambda: tree.paths(shape, "f(y, t)"), got)
        if shape != self.shape or any(shape_of(d) != shape_of(v) for d, v in zip(got, y)):
            raise ShapeError(
                "odeint(f, y0, t)", "f(y, t) is a slope, with the structure and shapes of y",
                operands=[("y", verbatim(str([shape_of(v) for v in y]))),
                          ("f(y, t)", verbatim(str([shape_of(v) for v in got])))],
            )  # fmt: skip
        return got

    def step(
        self, y: list[Array], t: Any, h: Any, k0: list[Array] | None
    ) -> tuple[list[Array], list[list[Array]]]:
        """(y at t + h, the stages)."""
        m = self.method
        ks = [k0 if k0 is not None else self.slope(y, t)]
        for c, row in zip(m.c[1:], m.a[1:]):
            ks.append(self.slope(combined(y, h, row, ks), t + c * h))
        if m.e is not None:  # the last stage was taken at the result
            return combined(y, h, m.a[-1], ks), ks
        return combined(y, h, m.b, ks), ks

    def interval(self, y: list[Array], t0: Any, t1: Any) -> list[Array]:
        dt = t1 - t0
        if self.method.e is None:
            for k in range(self.steps):
                y, _ = self.step(y, t0 + (k / self.steps) * dt, dt / self.steps, None)
            return y
        if plain(dt) is None or any(plain(v) is None for v in y):
            raise LevelError(
                "odeint in a staged function",
                "an adaptive method chooses its steps by the values, which are not known yet",
                fix='method="rk4" with steps=..., or adaptive steps outside the staged function',
            )
        length = float(np.max(np.abs(plain(dt))))
        k0 = self.slope(y, t0)
        s, h = 0.0, self.first(y, k0, t0, dt) if self.size is None else self.size / length
        while True:
            last = s + h * (1 + 1e-9) >= 1
            h = 1 - s if last else h
            if self.count >= self.max_steps or h < 4e-16:
                raise self.failure(t0, dt, s, h)
            self.count += 1
            with np.errstate(all="ignore"):
                new, ks = self.step(y, t0 + s * dt, h * dt, k0)
                error = self.error(y, new, h * dt, ks)
            if error <= 1:
                grow = min(10.0, 0.9 * max(error, 1e-12) ** (-1 / self.method.order))
                self.size = max(h * grow, self.size / length if last and self.size else 0) * length
                if last:
                    return new
                y, k0, s, h = new, ks[-1], s + h, h * grow
            else:  # too far, or not finite
                h *= max(0.1, 0.9 * error ** (-1 / self.method.order)) if error < np.inf else 0.1
                self.size = None if self.size is None else h * length

    def failure(self, t0: Any, dt: Any, s: float, h: float) -> ConvergenceError:
        at = np.ravel(plain(t0) + s * plain(dt))[0]
        return ConvergenceError(
            "odeint(f, y0, t)",
            f"the steps became too {'many' if self.count >= self.max_steps else 'small'}: the "
            "equation is stiff, or its solution ends here",
            operands=[("reached", verbatim(f"t = {at:.6g}")),
                      ("last step", verbatim(f"{np.ravel(h * plain(dt))[0]:.3g}")),
                      ("steps", self.count)],
            fix="larger rtol and atol, or max_steps; a stiff equation needs an implicit method: "
            "wg.custom_root for each step",
        )  # fmt: skip

    def error(self, y: list[Array], new: list[Array], h: Any, ks: list[list[Array]]) -> float:
        """The largest error of the step, in units of what is allowed."""
        worst, h = 0.0, plain(h)
        for i, (a, b) in enumerate(zip(y, new)):
            terms = [w * plain(k[i]) for w, k in zip(self.method.e, ks) if w]
            total = sum(terms[1:], terms[0])
            a, b = plain(a), plain(b)
            allowed = self.atol + self.rtol * np.maximum(*np.broadcast_arrays(abs(a), abs(b)))
            e = np.abs(outer(h, total)) / (
                np.max(allowed) if allowed.shape != total.shape else allowed
            )
            if e.size:
                worst = max(worst, float(np.max(e)) if np.all(np.isfinite(e)) else np.inf)
        return worst

    def first(self, y: list[Array], k0: list[Array], t0: Any, dt: Any) -> float:
        """The size of the first step.   (Hairer, Norsett & Wanner, II.4)"""

        def size(vs: Sequence[Any], scaled: bool) -> float:
            out = 0.0
            for v, a in zip(vs, y):
                v = outer(length, plain(v)) if scaled else plain(v)
                unit = self.atol + self.rtol * float(np.max(np.abs(plain(a)), initial=0))
                out = max(out, float(np.max(np.abs(v), initial=0)) / unit)
            return out

        length = float(np.max(np.abs(plain(dt))))
        d0, d1 = size(y, False), size(k0, True)
        h0 = 1e-6 if min(d0, d1) < 1e-5 else min(0.01 * d0 / d1, 1.0)
        with np.errstate(all="ignore"):
            k1 = self.slope(combined(y, h0 * dt, (1,), [k0]), t0 + h0 * dt)
            d2 = size([a - b for a, b in zip(k1, k0)], True) / h0
        if not np.isfinite(d2):
            return h0
        top = max(d1, d2)
        h1 = max(1e-6, h0 * 1e-3) if top <= 1e-15 else (0.01 / top) ** (1 / self.method.order)
        return min(100 * h0, h1, 1.0)


def outer(h: Any, v: Any) -> Any:
    """h v where h may have lanes in front."""
    h = np.asarray(h)
    if h.ndim and v.ndim >= h.ndim and v.shape[: h.ndim] == h.shape:
        return h.reshape(h.shape + (1,) * (v.ndim - h.ndim)) * v
    return np.max(np.abs(h)) * v


def combined(
    y: list[Array], h: Any, weights: Sequence[float], ks: list[list[Array]]
) -> list[Array]:
    """y + h sum_j w_j k_j."""
    out = []
    for i, v in enumerate(y):
        terms = [w * k[i] for w, k in zip(weights, ks) if w]
        total = sum(terms[1:], terms[0])
        dtype = dtype_of(v)
        if dtype is not None and dtype.itemsize < (16 if dtype.kind == "c" else 8):
            total, step = total.astype(dtype), as_dtype(h, dtype)
        else:
            step = h
        out.append(v + total * step)
    return out


def as_dtype(h: Any, dtype: Any) -> Any:
    """A step that does not widen single precision."""
    if isinstance(h, Tensor):
        return h.astype(np.zeros(0, dtype).real.dtype)
    return np.zeros(0, dtype).real.dtype.type(h)


def continuous(run: Solver, f: Any) -> Any:
    """The solution with the adjoint equation as its derivative.

    With a = dL/dy(t):   da/dt = -a df/dy,   dL/dargs' = -a df/dargs,   backwards, from each of
    the times to the one before, where the solution that was kept is taken again.
    """

    def solution(y0: Any, t: Any, args: Any) -> Any:
        return run.solve(f, y0, t, args)

    def fwd(y0: Any, t: Any, args: Any) -> Any:
        ys = run.solve(f, y0, t, args)
        return ys, (ys, t, args)

    def bwd(residuals: Any, g: Any) -> Any:
        ys, t, args = residuals
        places = [i for i, v in enumerate(tree.leaves(args)) if is_inexact(dtype_of(v))]
        leaves, structure = tree.flatten(args)
        live = [leaves[i] for i in places]

        def rebuilt(some: Sequence[Any]) -> Any:
            full = list(leaves)
            for i, v in zip(places, some):
                full[i] = v
            return tree.unflatten(structure, full)

        def augmented(state: Any, s: Any) -> Any:
            y, a = state[0], state[1]
            dy, back = vjp(lambda y, s, *p: f(y, s, *rebuilt(p)), y, s, *live)
            gy, gs, *gp = back(a)
            return dy, tree.map(lambda v: -v, gy), -gs, [-v for v in gp]

        a = tree.map(lambda v: v[-1], g)
        gt0: Any = np.zeros(())
        gp: list[Any] = [np.zeros(shape_of(v), dtype_of(v)) for v in live]
        gts: list[Any] = []
        for i in range(shape_of(t)[0] - 1, 0, -1):
            y = tree.map(lambda v, i=i: v[i], ys)
            slope = f(y, t[i], *args)
            pairs = zip(tree.leaves(slope), tree.leaves(tree.map(lambda v, i=i: v[i], g)))
            gt = sum(np.sum(u * v) for u, v in pairs)
            gts.insert(0, gt)
            gt0 = gt0 - gt
            end = run.solve(augmented, (y, a, gt0, gp), np.stack([t[i], t[i - 1]]), ())
            _, a, gt0, gp = tree.map(lambda v: v[-1], end)
            a = tree.map(lambda v, w, i=i: v + w[i - 1], a, g)
        full: list[Any] = [None] * len(leaves)
        for i, v in zip(places, gp):
            full[i] = v
        return a, np.stack([gt0, *gts]), tree.unflatten(structure, full)

    def rule(*_: Any) -> Any:
        raise UnsupportedError(
            "forward mode through the continuous adjoint", "it is a rule for gradients alone",
            fix='odeint(..., adjoint="discrete")',
        )  # fmt: skip

    made = custom_vjp(solution)
    made.defvjp(fwd, bwd)
    made.rule = rule
    return made
