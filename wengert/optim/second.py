"""Hessian-free training: Newton's step by conjugate gradients, from products alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wengert import tree
from wengert.errors import ArgumentError, DTypeError, OptionError
from wengert.trace import Tensor, no_grad
from wengert.transforms.curvature import gauss_newton_product
from wengert.transforms.jacobian import hvp
from wengert.transforms.store import writable
from wengert.transforms.vjp import value_and_grad

from .base import check

__all__ = ["HessianFree", "HessianFreeReport", "conjugate_gradients"]

Vector = NDArray[Any]


@dataclass(frozen=True)
class HessianFreeReport:
    """What a step of `HessianFree` did.

    Args:
        loss: the loss before it.
        new_loss: the loss after it.
        products: how many products with the curvature were computed.
        ratio: the real decrease over that of the quadratic model, for the whole step d.
        length: how much of d was taken; 0 if no part of it lowers the loss.
        damping: lambda for the next step.
    """

    loss: float
    new_loss: float
    products: int
    ratio: float
    length: float
    damping: float


class HessianFree:
    """Newton's method for many parameters, with the damping of Levenberg and Marquardt.

        (B + lambda) d = -g         about, by conjugate gradients from products B v
        p <- p + a d                a = 1, or less if that does not lower the loss

    B is the Hessian with `step(loss)`, and the Gauss-Newton matrix J^T H J, which has no negative
    curvature for convex losses, with `step(outputs, loss)`. lambda falls by 2/3 where the quadratic
    model predicts the decrease (ratio above 3/4) and rises by 3/2 where it does not (below 1/4).

    Args:
        params: a pytree: a Module or tensors, which are changed in place, or arrays; `params` is
            where they are now.
        damping: lambda at first, at least 0.
        iterations: of conjugate gradients in a step, at least 1.
        tolerance: stop them when the model falls by less than this part per iteration (Martens), or
            the residual is below this part of the gradient's length squared.
        decay: conjugate gradients begin at the last d times this; 0 begins at 0.

    Raises:
        OptionError: a hyperparameter out of its range.
        ArgumentError: no parameters; a loss that is not finite to begin with.

    Example:
        >>> def rosenbrock(x):
        ...     return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2
        >>> newton = HessianFree(np.array([-1.2, 1.0]), damping=1e-2)
        >>> for _ in range(30):
        ...     report = newton.step(rosenbrock)
        >>> newton.params.round(6)
        array([1., 1.])

    With a model, `step(lambda m: m(x), lambda z: F.cross_entropy(z, labels))`.

    References:
        J. Martens (2010), Deep learning via Hessian-free optimization.
        N. Schraudolph (2002), Fast curvature matrix-vector products.
        B. Pearlmutter (1994), Fast exact multiplication by the Hessian.
    """

    def __init__(
        self,
        params: Any,
        *,
        damping: float = 1.0,
        iterations: int = 50,
        tolerance: float = 5e-4,
        decay: float = 0.95,
    ) -> None:
        name = type(self).__name__
        self.damping = check(name, "damping", damping, fix="damping=1.0")
        self.tolerance = check(name, "tolerance", tolerance, fix="tolerance=5e-4")
        self.decay = check(name, "decay", decay, below=1.0 + 1e-12, fix="decay=0.95")
        if isinstance(iterations, bool) or not isinstance(iterations, int) or iterations < 1:
            raise OptionError(
                f"{name}(iterations={iterations!r})", "it must be a whole number, at least 1"
            )
        self.iterations = iterations
        self.params = params
        leaves = tree.leaves(params)
        if not leaves:
            raise ArgumentError(f"{name}(params)", "there is nothing to train: no parameters",
                                operands=[("params", params)])  # fmt: skip
        for path, x in zip(tree.paths(tree.structure(params)), leaves, strict=True):
            if np.asarray(raw(x)).dtype.kind != "f":
                raise DTypeError(
                    f"{name}(params)", "the parameters are real floating-point numbers",
                    operands=[(f"params{path}", np.asarray(raw(x)))],
                )  # fmt: skip
        self.last: Vector = np.zeros(sum(np.size(raw(x)) for x in leaves))

    def step(
        self, f: Callable[[Any], Any], loss: Callable[[Any], Any] | None = None
    ) -> HessianFreeReport:
        """One step.

        Args:
            f: params -> the loss; or, if `loss` is given, params -> outputs.
            loss: outputs -> the loss.
        """
        leaves, structure = tree.flatten(self.params)
        outer = loss or (lambda z: z)

        def outputs(xs: list[Any]) -> Any:
            return f(tree.unflatten(structure, xs))

        def total(xs: list[Any]) -> Any:
            return outer(outputs(xs))

        before, slope = value_and_grad(total)(leaves)
        value, g = float(raw(before)), flat(slope)
        if not math.isfinite(value) or not np.isfinite(g).all():
            raise ArgumentError(
                "HessianFree.step(loss)", "the loss and its gradient must be finite",
                operands=[("loss", value), ("largest gradient", float(np.abs(g).max()))],
            )  # fmt: skip

        def product(v: Vector) -> Vector:
            vs = apart(v, leaves)
            if loss is None:
                return flat(hvp(total, leaves, vs))
            return flat(gauss_newton_product(outputs, loss, leaves, vs))

        d, products = conjugate_gradients(
            lambda v: product(v) + self.damping * v, g, self.decay * self.last,
            iterations=self.iterations, tolerance=self.tolerance,
        )  # fmt: skip
        model = float(g @ d + d @ product(d) / 2)
        self.last = d
        ratio, length, new = math.nan, 0.0, value
        a, along = 1.0, float(g @ d)
        here = [np.array(raw(x)) for x in leaves]
        while a > 1e-6 and along < 0:
            now = self._put(structure, leaves, here, a * d)
            with no_grad(), np.errstate(over="ignore", invalid="ignore"):
                new = float(raw(outer(f(now))))
            if a == 1.0:
                ratio = (new - value) / model if model < 0 else -math.inf
            if new <= value + 1e-2 * a * along:
                length = a
                break
            a *= 0.8
        if not length:
            self._put(structure, leaves, here, 0 * d)
            self.last, new = np.zeros_like(d), value
        if ratio > 0.75:
            self.damping *= 2 / 3
        elif not ratio >= 0.25 and along:
            self.damping = max(self.damping, 1e-12) * 3 / 2
        return HessianFreeReport(value, new, products + 1, ratio, length, self.damping)

    def _put(self, structure: Any, leaves: list[Any], here: list[Any], d: Vector) -> Any:
        """The parameters moved by d from `here`."""
        made = []
        for x, old, step in zip(leaves, here, apart(d, leaves), strict=True):
            new = (old + step).astype(old.dtype, copy=False)
            if isinstance(x, Tensor):
                with no_grad():
                    writable(x)[...] = new
                made.append(x)
            else:
                made.append(new)
        if any(not isinstance(x, Tensor) for x in leaves):
            self.params = tree.unflatten(structure, made)
        return self.params

    def state_dict(self) -> dict[str, Any]:
        """The damping and the last direction; the parameters are the caller's to save."""
        return {"damping": self.damping, "last": self.last.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        if np.shape(state["last"]) != self.last.shape:
            raise OptionError(
                "HessianFree.load_state_dict(state)", "it is the state of other parameters"
            )
        self.damping, self.last = float(state["damping"]), np.array(state["last"])


def conjugate_gradients(
    product: Callable[[Vector], Vector],
    g: Vector,
    start: Vector | None = None,
    *,
    iterations: int,
    tolerance: float = 0.0,
) -> tuple[Vector, int]:
    """About the minimum of  q(d) = g.d + d.A d / 2,  by conjugate gradients.

    Where a direction of negative curvature turns up, the way ends: with what was found until then,
    or with that direction if it is the first one.

    Args:
        product: v -> A v, for a symmetric A.
        g: the gradient of q at 0.
        start: the first d; 0 if left out, or if q is not below 0 there.
        iterations: at most so many.
        tolerance: stop when the last k = max(10, i / 10) iterations have lowered q by less than
            k * tolerance * |q|.

    Returns:
        d, with q(d) <= 0, and how many products were computed.

    Example:
        >>> a = np.array([[4.0, 1.0], [1.0, 3.0]])
        >>> d, n = conjugate_gradients(lambda v: a @ v, np.array([-1.0, -2.0]), iterations=5)
        >>> d.round(6), np.linalg.solve(a, [1.0, 2.0]).round(6)
        (array([0.090909, 0.636364]), array([0.090909, 0.636364]))

    References:
        M. Hestenes, E. Stiefel (1952), Methods of conjugate gradients for solving linear systems.
        J. Martens (2010), section 4.4.
    """
    d, r, n = np.zeros_like(g), -g, 0
    if start is not None and start.any():
        product_there, n = product(start), 1
        if g @ start + start @ product_there / 2 < 0:
            d, r = start.copy(), -g - product_there
    q = [float(-(r - g) @ d) / 2 if d.any() else 0.0]
    p, square = r.copy(), float(r @ r)
    small = np.finfo(g.dtype).eps ** 2 * float(g @ g)
    for i in range(1, iterations + 1):
        if square <= small:
            break
        ap = product(p)
        n += 1
        bend = float(p @ ap)
        if bend <= 0 or not math.isfinite(bend):
            if not d.any():
                d = p
            break
        step = square / bend
        d = d + step * p
        r = r - step * ap
        q.append(float(-(r - g) @ d) / 2)
        k = max(10, i // 10)
        if len(q) > k and q[-1] < 0 and q[-1] - q[-1 - k] > k * tolerance * q[-1]:
            break
        old, square = square, float(r @ r)
        p = r + (square / old) * p
    return d, n


def raw(x: Any) -> Any:
    return x.value() if isinstance(x, Tensor) else x


def flat(xs: Any) -> Vector:
    return np.concatenate([np.ravel(raw(x)).astype(np.float64) for x in tree.leaves(xs)])


def apart(v: Vector, leaves: list[Any]) -> list[Any]:
    """A vector cut into arrays like the leaves."""
    out, start = [], 0
    for x in leaves:
        like = np.asarray(raw(x))
        part = v[start : start + like.size].reshape(like.shape)
        out.append(part.astype(like.dtype))
        start += like.size
    return out
