"""Least squares: the method of Levenberg and Marquardt."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wengert import tree
from wengert.errors import ArgumentError, DTypeError, OptionError
from wengert.trace import Tensor, no_grad
from wengert.transforms.jacobian import jacobian

from .base import check

__all__ = ["Fitted", "levenberg_marquardt"]


@dataclass(frozen=True)
class Fitted:
    """What `levenberg_marquardt` found.

    Args:
        x: the parameters, of the structure of the first guess.
        cost: half the sum of squares of the residuals there.
        residuals: the residuals there, in one row.
        jacobian: their derivatives in the numbers of x, `[residuals, numbers]`.
        iterations: how many steps were tried.
        converged: whether one of the tolerances was reached.
        reason: which one, in words.
    """

    x: Any
    cost: float
    residuals: NDArray[Any]
    jacobian: NDArray[Any]
    iterations: int
    converged: bool
    reason: str

    @property
    def covariance(self) -> NDArray[Any]:
        """The covariance of the parameters:  s^2 (J^T J)^-1,  s^2 = 2 cost / (m - n)."""
        m, n = self.jacobian.shape
        if m <= n:
            raise ArgumentError(
                "Fitted.covariance", "it takes more residuals than parameters",
                operands=[("residuals", m), ("numbers", n)],
            )  # fmt: skip
        inverse = np.linalg.pinv(self.jacobian)
        return inverse @ inverse.T * (2 * self.cost / (m - n))


def levenberg_marquardt(
    residual: Callable[[Any], Any],
    x0: Any,
    *,
    iterations: int = 100,
    damping: float = 1e-3,
    tolerance_cost: float = 1e-12,
    tolerance_step: float = 1e-10,
    tolerance_grad: float = 1e-10,
) -> Fitted:
    """The minimum of  |r(x)|^2 / 2  by steps between Gauss-Newton's and steepest descent.

        (J^T J + mu D^2) d = -J^T r,    D_i the largest length of column i of J so far

    mu follows the ratio of the real and the predicted decrease (Nielsen 1999). The system is solved
    as the least squares problem [J; sqrt(mu) D] d = [-r; 0], so that J^T J with its squared
    condition is not formed. J is `wg.jacobian(residual)`, by whichever mode is cheaper.

    Args:
        residual: parameters -> array of residuals, any shape.
        x0: the first guess: a number, an array, or a pytree of them.
        iterations: how many steps may be tried.
        damping: mu at first.
        tolerance_cost: stop when a step lowers the cost by less than this part of it.
        tolerance_step: stop when a step is shorter than this part of x.
        tolerance_grad: stop when the cosine between r and every column of J is smaller.

    Raises:
        OptionError: an option out of its range.
        ArgumentError: the residuals at x0 are not finite, or there are none.
        DTypeError: complex residuals.

    Example:
        >>> t = np.linspace(0, 2, 9)
        >>> y = 3.0 * np.exp(-1.5 * t)
        >>> fit = levenberg_marquardt(lambda p: p["a"] * np.exp(p["k"] * t) - y,
        ...                           {"a": 1.0, "k": 0.0})
        >>> bool(np.isclose(fit.x["a"], 3.0)), bool(np.isclose(fit.x["k"], -1.5)), fit.converged
        (True, True, True)

    References:
        K. Levenberg (1944); D. Marquardt (1963), An Algorithm for Least-Squares Estimation of
        Nonlinear Parameters.
        J. Moré (1978), The Levenberg-Marquardt algorithm: implementation and theory.
        H. Nielsen (1999), Damping parameter in Marquardt's method.
    """
    what = "levenberg_marquardt"
    mu = check(what, "damping", damping, fix="damping=1e-3")
    tols = {"tolerance_cost": tolerance_cost, "tolerance_step": tolerance_step,
            "tolerance_grad": tolerance_grad}  # fmt: skip
    for name, value in tols.items():
        check(what, name, value)
    if isinstance(iterations, bool) or not isinstance(iterations, int) or iterations < 1:
        raise OptionError(f"{what}(iterations={iterations!r})", "a whole number, at least 1")

    leaves, structure = tree.flatten(x0)
    starts = [np.asarray(v.value() if isinstance(v, Tensor) else v) for v in leaves]
    shapes = [v.shape for v in starts]
    edges = np.cumsum([0, *(v.size for v in starts)]).tolist()
    for path, v in zip(tree.paths(structure), starts, strict=True):
        if v.dtype.kind not in "fiub":
            raise DTypeError(
                f"{what}(residual, x0)", "the parameters are real numbers",
                operands=[(f"x0{path}", v)],
            )  # fmt: skip

    def unpacked(x: Any) -> Any:
        parts = [x[a:b].reshape(s) for a, b, s in zip(edges, edges[1:], shapes)]
        return tree.unflatten(structure, parts)

    def flat(x: Any) -> Any:
        return np.ravel(residual(unpacked(x)))

    def values(x: NDArray[Any]) -> NDArray[Any]:
        with no_grad(), np.errstate(all="ignore"):
            r = flat(x)
        r = np.asarray(r.value() if isinstance(r, Tensor) else r)
        if r.dtype.kind == "c":
            raise DTypeError(
                f"{what}(residual, x0)", "the residuals are real numbers",
                operands=[("residuals", r)],
                fix="np.concatenate([np.real(r), np.imag(r)])",
            )  # fmt: skip
        return r

    slopes = jacobian(flat)
    x = np.concatenate([v.ravel() for v in starts]) if starts else np.zeros(0)
    x = x.astype(np.result_type(x, np.float64))
    r = values(x)
    if not r.size or not x.size or not np.isfinite(r).all():
        raise ArgumentError(
            f"{what}(residual, x0)", "it needs parameters, and residuals that are finite at x0",
            operands=[("x0", x), ("residuals", r)],
        )  # fmt: skip
    cost, nu, reason = float(r @ r) / 2, 2.0, ""
    j = np.asarray(slopes(x))
    lengths = np.linalg.norm(j, axis=0)
    scale = np.where(lengths > 0, lengths, 1.0)
    done = 0
    while not reason and done < iterations:
        g = j.T @ r
        size = math.sqrt(2 * cost)
        lengths = np.linalg.norm(j, axis=0)
        cosines = np.abs(g) / np.where(lengths > 0, lengths, 1.0)
        if cosines.max() <= tolerance_grad * size:
            reason = "the residuals are orthogonal to the columns of the Jacobian"
            break
        done += 1
        tall = np.concatenate([j, np.diag(math.sqrt(mu) * scale)])
        d = np.linalg.lstsq(tall, np.concatenate([-r, np.zeros(x.size)]), rcond=None)[0]
        short = np.linalg.norm(d) <= tolerance_step * (tolerance_step + np.linalg.norm(x))
        new = values(x + d)
        new_cost = float(new @ new) / 2 if np.isfinite(new).all() else math.inf
        predicted = float(d @ (mu * scale**2 * d - g)) / 2
        gain = (cost - new_cost) / predicted if predicted > 0 else -1.0
        if gain > 0:
            small = cost - new_cost <= tolerance_cost * cost and predicted <= tolerance_cost * cost
            x, r, cost = x + d, new, new_cost
            j = np.asarray(slopes(x))
            scale = np.maximum(scale, np.linalg.norm(j, axis=0))
            mu, nu = mu * max(1 / 3, 1 - (2 * gain - 1) ** 3), 2.0
            if small:
                reason = "the sum of squares no longer falls"
        else:
            mu, nu = max(mu, 1e-15) * nu, nu * 2
        if not reason and short:
            reason = "the steps are short"
    return Fitted(
        unpacked(x), cost, r, j, done, bool(reason),
        reason or f"not converged after {done} iterations",
    )  # fmt: skip
