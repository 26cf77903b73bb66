"""L-BFGS: steps from the last few gradients, with a line search."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wengert.errors import OptionError, verbatim
from wengert.trace import Tensor, no_grad
from wengert.transforms.store import writable

from .base import Closure, Optimizer, check, evaluated, loss_value

__all__ = ["LBFGS", "strong_wolfe"]

Vector = NDArray[Any]
Along = Callable[[float], tuple[float, Vector]]  # step length -> value, gradient


class LBFGS(Optimizer):
    """Limited-memory BFGS, for losses without noise: `step(closure)` is many small steps.

        p <- p + a d,    d = -H g

    H is the inverse of the Hessian as the last `history` pairs s = p' - p, y = g' - g have it, and
    a fulfils the strong Wolfe conditions:  f(a) <= f(0) + 1e-4 a f'(0),  |f'(a)| <= 0.9 |f'(0)|.

    Args:
        parameters: the tensors to train, in one group.
        lr: the first length that is tried (that of every step without a line search).
        iterations: steps of one call, at least 1.
        evaluations: of the closure in one call; 5/4 of the iterations when left out.
        tolerance_grad: stop when no number of the gradient is larger.
        tolerance_change: stop when loss and parameters change less.
        history: how many pairs are kept, at least 1.
        line_search: `strong_wolfe`, or None for steps of length lr.

    Raises:
        OptionError: a hyperparameter out of its range, several groups, or a step without a closure.

    Example:
        >>> import wengert as wg
        >>> w = wg.tensor([-1.5, 2.0], requires_grad=True)
        >>> optimizer = LBFGS([w], iterations=50)
        >>> def closure():
        ...     optimizer.zero_grad()
        ...     loss = 100 * (w[1] - w[0] ** 2) ** 2 + (1 - w[0]) ** 2      # Rosenbrock
        ...     loss.backward()
        ...     return loss
        >>> first = optimizer.step(closure)
        >>> w.numpy().round(4)
        array([1., 1.])

    References:
        D. Liu, J. Nocedal (1989), On the limited memory BFGS method for large scale optimization.
        J. Nocedal, S. Wright (2006), Numerical Optimization, algorithms 3.5, 3.6, 7.4.
        M. Schmidt (2005), minFunc.
    """

    traceable = False

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: float = 1.0,
        *,
        iterations: int = 20,
        evaluations: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history: int = 100,
        line_search: str | None = "strong_wolfe",
    ) -> None:
        super().__init__(
            parameters, lr=lr, iterations=iterations, evaluations=evaluations,
            tolerance_grad=tolerance_grad, tolerance_change=tolerance_change, history=history,
            line_search=line_search,
        )  # fmt: skip
        self._forget()

    def _forget(self) -> None:
        self.pairs: list[tuple[Vector, Vector, float]] = []  # (y, s, 1 / y.s)
        self.scale = 1.0
        self.gradient: Vector | None = None  # those of the last step
        self.direction: Vector | None = None
        self.length = 0.0
        self.value = 0.0
        self.done = 0  # steps so far
        self.calls = 0

    def add_group(self, group: Any, defaults: Mapping[str, Any] | None = None) -> None:
        if self.groups:
            raise OptionError(
                "LBFGS(groups)", "a direction is that of all parameters together",
                fix="LBFGS(model.parameters())",
            )  # fmt: skip
        super().add_group(group, defaults)
        self._blocks = []  # nothing is remembered of single parameters

    def checked(self, options: dict[str, Any]) -> dict[str, Any]:
        o = super().checked(options)
        for name in ("tolerance_grad", "tolerance_change"):
            o[name] = check("LBFGS", name, o[name])
        for name in ("iterations", "history", "evaluations"):
            n = o[name]
            if name == "evaluations" and n is None:
                continue
            if isinstance(n, bool) or not isinstance(n, int) or n < 1:
                raise OptionError(f"LBFGS({name}={n!r})", "it must be a whole number, at least 1")
        if str(o["line_search"]) not in ("None", "strong_wolfe"):
            raise OptionError(
                f"LBFGS(line_search={o['line_search']!r})", "there is no such line search",
                operands=[("known", verbatim("'strong_wolfe', None"))],
            )  # fmt: skip
        return o

    # ---- all parameters as one vector
    def _gathered(self) -> Vector:
        return np.concatenate([real(p.value()) for p in self.parameters])

    def _scatter(self, x: Vector) -> None:
        with no_grad():
            start = 0
            for p in self.parameters:
                w = writable(p)
                size = p.size * (2 if w.dtype.kind == "c" else 1)
                part = x[start : start + size].astype(w.real.dtype, copy=False)
                w[...] = part.view(w.dtype).reshape(w.shape)
                start += size

    def _slope(self) -> Vector:
        parts = []
        for p in self.parameters:
            g = getattr(p.node, "grad", None)
            g = g.value() if isinstance(g, Tensor) else g
            parts.append(real(np.zeros(p.shape, p.dtype) if g is None else g))
        return np.concatenate(parts)

    def _along(self, closure: Closure, here: Vector, d: Vector) -> Along:
        def along(t: float) -> tuple[float, Vector]:
            self._scatter(here + t * d)
            value = loss_value("LBFGS.step(closure)", evaluated(closure))
            return (math.inf if math.isnan(value) else value), self._slope()

        return along

    def step(self, closure: Closure | None = None) -> Any:
        """Up to `iterations` steps.

        Args:
            closure: forgets the gradients, computes the loss and its gradients, returns the loss.

        Returns:
            the loss before the first of them.
        """
        if closure is None:
            raise OptionError(
                "LBFGS.step()", "the line search computes the loss at several places",
                fix="step(closure), where closure() does zero_grad, the loss, backward, and "
                "returns the loss",
            )  # fmt: skip
        o = self.groups[0]
        most = o.iterations * 5 // 4 if o.evaluations is None else o.evaluations
        first = evaluated(closure)
        loss, calls = loss_value("LBFGS.step(closure)", first), 1
        self.calls += 1
        g = self._slope()
        if not g.size or np.abs(g).max() <= o.tolerance_grad:
            return first
        for n in range(1, o.iterations + 1):
            self.done += 1
            d = self._direction(g, o.history)
            self.gradient, before = g, loss
            t = min(1.0, 1.0 / float(np.abs(g).sum())) * o.lr if self.done == 1 else o.lr
            slope = float(g @ d)
            self.direction, self.length = d, t
            if slope > -o.tolerance_change:
                break
            here, used = self._gathered(), 0
            if o.line_search is not None:
                loss, g, t, used = strong_wolfe(
                    self._along(closure, here, d), t, loss, g, slope, d,
                    smallest=o.tolerance_change, most=most - calls,
                )  # fmt: skip
                self._scatter(here + t * d)
            else:
                self._scatter(here + t * d)
                if n < o.iterations:  # the next call begins with the loss at this place
                    loss = loss_value("LBFGS.step(closure)", evaluated(closure))
                    used = 1
                    g = self._slope()
            self.length, self.value = t, before
            calls += used
            self.calls += used
            if (
                calls >= most
                or np.abs(g).max() <= o.tolerance_grad
                or np.abs(t * d).max() <= o.tolerance_change
                or abs(loss - before) < o.tolerance_change
            ):
                break
        return first

    def _direction(self, g: Vector, history: int) -> Vector:
        """-H g, after the pair of the last step has been taken in."""
        if self.gradient is None or self.direction is None:
            return -g
        y, s = g - self.gradient, self.direction * self.length
        ys = float(y @ s)
        if ys > 1e-10:
            self.pairs = [*self.pairs, (y, s, 1.0 / ys)][-history:]
            self.scale = ys / float(y @ y)
        q, weights = -g, []
        for y, s, rho in reversed(self.pairs):
            weights.append(float(s @ q) * rho)
            q = q - weights[-1] * y
        d = q * self.scale
        for (y, s, rho), weight in zip(self.pairs, reversed(weights)):
            d = d + s * (weight - float(y @ d) * rho)
        return d

    # ---- state
    def state_dict(self) -> dict[str, Any]:
        """The hyperparameters, and all that the next direction depends on."""
        arrays = {}
        for i, (y, s, _) in enumerate(self.pairs):
            arrays[f"y.{i}"], arrays[f"s.{i}"] = y.copy(), s.copy()
        for name in ("gradient", "direction"):
            row = getattr(self, name)
            if row is not None:
                arrays[name] = row.copy()
        return {
            "optimizer": self._owner,
            "groups": [group.options for group in self.groups],
            "arrays": arrays,
            "numbers": {
                name: getattr(self, name) for name in ("scale", "length", "value", "done", "calls")
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken; nothing is changed unless all of it fits."""
        what = "LBFGS.load_state_dict(state)"
        if state["optimizer"] != self._owner:
            raise OptionError(what, f"it is the state of {state['optimizer']}")
        arrays = state["arrays"]
        size = self._gathered().size
        if any(np.shape(row) != (size,) for row in arrays.values()):
            raise OptionError(what, "it is the state of other parameters",
                              operands=[("numbers here", size)])  # fmt: skip
        self.groups[0].set(state["groups"][0])
        self._forget()
        for name, value in state["numbers"].items():
            setattr(self, name, value)
        self.gradient = copied(arrays.get("gradient"))
        self.direction = copied(arrays.get("direction"))
        n = sum(name.startswith("y.") for name in arrays)
        for i in range(n):
            y, s = np.array(arrays[f"y.{i}"]), np.array(arrays[f"s.{i}"])
            self.pairs.append((y, s, 1.0 / float(y @ s)))


def copied(a: Any) -> Any:
    return None if a is None else np.array(a)


def real(a: Any) -> Vector:
    """The numbers of an array in one row, complex ones as pairs."""
    row = np.array(a, order="C").reshape(-1)
    return row.view(row.real.dtype)


def strong_wolfe(
    along: Along,
    t: float,
    f: float,
    g: Vector,
    slope: float,
    d: Vector,
    *,
    decrease: float = 1e-4,
    curvature: float = 0.9,
    smallest: float = 1e-9,
    most: int = 25,
) -> tuple[float, Vector, float, int]:
    """A step length that fulfils the strong Wolfe conditions, found by cubic interpolation.

        f(t) <= f(0) + decrease t f'(0),    |f'(t)| <= curvature |f'(0)|

    Args:
        along: t -> the value (inf where there is none) and the gradient at x + t d.
        t: the first length to try.
        f, g, slope: value, gradient and g.d at t = 0.
        d: the direction.
        decrease, curvature: as above.
        smallest: a bracket that is narrower (in the largest number of d) is not divided further.
        most: evaluations of the bracketing and of the zoom, at most, each.

    Returns:
        the value and the gradient there, the length, how often `along` was called.

    References:
        J. Nocedal, S. Wright (2006), Numerical Optimization, algorithms 3.5 and 3.6.
    """
    norm = float(np.abs(d).max())
    value, grad = along(t)
    calls, n, done = 1, 0, False
    new = float(grad @ d)
    last = (0.0, f, g, slope)  # the place before: length, value, gradient, slope
    ends: list[tuple[float, float, Vector, float]] = []
    while n < most:
        here = (t, value, grad, new)
        if value > f + decrease * t * slope or (n > 1 and value >= last[1]):
            ends = [last, here]
            break
        if abs(new) <= -curvature * slope:
            ends, done = [here], True
            break
        if new >= 0:
            ends = [last, here]
            break
        low, high = t + 0.01 * (t - last[0]), t * 10
        between = cubic(last[0], last[1], last[3], t, value, new, (low, high))
        last, t = here, between
        value, grad = along(t)
        calls, n = calls + 1, n + 1
        new = float(grad @ d)
    if n == most:
        ends = [(0.0, f, g, slope), (t, value, grad, new)]

    # the bracket `ends` contains a good length: make it smaller
    stuck = False
    lo, hi = (0, 1) if ends[0][1] <= ends[-1][1] else (1, 0)
    while not done and n < most:
        a, b = ends
        if abs(b[0] - a[0]) * norm < smallest:
            break
        t = cubic(a[0], a[1], a[3], b[0], b[1], b[3])
        left, right = min(a[0], b[0]), max(a[0], b[0])
        margin = 0.1 * (right - left)
        if min(right - t, t - left) < margin:
            if stuck or t >= right or t <= left:
                t = right - margin if abs(t - right) < abs(t - left) else left + margin
                stuck = False
            else:
                stuck = True
        else:
            stuck = False
        value, grad = along(t)
        calls, n = calls + 1, n + 1
        new = float(grad @ d)
        here = (t, value, grad, new)
        if value > f + decrease * t * slope or value >= ends[lo][1]:
            ends[hi] = here
            lo, hi = (0, 1) if ends[0][1] <= ends[1][1] else (1, 0)
            continue
        if abs(new) <= -curvature * slope:
            done = True
        elif new * (ends[hi][0] - ends[lo][0]) >= 0:
            ends[hi] = ends[lo]
        ends[lo] = here
    t, value, grad, _ = ends[lo] if len(ends) > 1 else ends[0]
    return value, grad, t, calls


def cubic(
    x1: float, f1: float, g1: float, x2: float, f2: float, g2: float,
    bounds: tuple[float, float] | None = None,
) -> float:  # fmt: skip
    """The minimum, within bounds, of the cubic with these values and slopes at x1 and x2."""
    low, high = bounds or (min(x1, x2), max(x1, x2))
    d1 = g1 + g2 - 3 * (f1 - f2) / (x1 - x2)
    square = d1 * d1 - g1 * g2
    if not 0 <= square < math.inf:  # no minimum, or a value that overflowed: halve
        return (low + high) / 2
    d2 = square**0.5
    if x1 <= x2:
        t = x2 - (x2 - x1) * ((g2 + d2 - d1) / (g2 - g1 + 2 * d2))
    else:
        t = x1 - (x1 - x2) * ((g1 + d2 - d1) / (g1 - g2 + 2 * d2))
    return min(max(t, low), high)
