"""Truncation against rounding: the error of each difference formula over the step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import UnsupportedError
from ..transforms.jvp import jvp
from .check import Closed, seeds, vector_of
from .differences import complex_step, refuse_complex
from .picture import COLOURS, axes_of, saved
from .point import Program, some_numbers
from .slopes import ladder

__all__ = ["Steps", "plot_steps", "steps"]


@dataclass(frozen=True)
class Steps:
    """`error[method][i]` is the relative error of the slope along one direction at step `h[i]`."""

    h: Any
    error: dict[str, Any]
    exact: float

    def best(self, method: str) -> tuple[float, float]:
        """(the step with the smallest error, that error)."""
        i = int(np.nanargmin(self.error[method]))
        return float(self.h[i]), float(self.error[method][i])


def steps(f: Callable[..., Any], x: Any, h: Any = None, seed: int = 0) -> Steps:
    """The error of four formulas over the step, against forward mode.

    The slope is that of a random weighting of f's values, along a random direction. Forward
    differences fall as h and rise as 1/h; central ones fall as h^2; Richardson's (h, h/2, h/4, h/8)
    as h^8; the complex step as h^2, and it never rises. It is left out where f is not analytic.

    Args:
        f: a function of one argument.
        x: the point.
        h: the steps; by default 61 from 10^-15 to 1.
        seed: of the direction.

    Example:
        >>> s = steps(lambda x: np.sum(np.sin(x)), np.array([0.3, 1.0]))
        >>> h, error = s.best("central")
        >>> bool(1e-7 < h < 1e-3), bool(error < 1e-9), bool(s.best("complex")[1] < 1e-15)
        (True, True, True)
    """
    program = Program(f, (x,), None, "wg.numeric.steps(f, x)")
    some_numbers(program)
    rng = np.random.default_rng(seed)
    d = rng.uniform(0.5, 1.5, program.x.size) * rng.choice([-1.0, 1.0], program.x.size)
    d /= np.abs(d).max()
    u = rng.uniform(0.5, 1.5, program.y.size)
    closed = Closed(program)
    xs, dxs = tuple(closed.live(program.x)), tuple(seeds(program.input, d))
    exact = float(u @ vector_of(program.output, list(jvp(closed, xs, dxs)[1])))
    h = np.logspace(-15, 0, 61) if h is None else np.asarray(h, float)

    def phi(t: float) -> Any:
        return np.array([u @ program.at(program.x + t * d)])

    y = np.array([u @ program.y])
    found: dict[str, Any] = {"forward": [], "central": [], "richardson": []}
    for t in h:
        found["forward"].append((phi(t) - y)[0] / t)
        rungs = ladder(phi, y, t, 4)
        found["central"].append(rungs.central[0, 0])
        column = rungs.central
        for j in range(1, 4):
            column = column[1:] + (column[1:] - column[:-1]) / (4.0**j - 1)
        found["richardson"].append(column[0, 0])
    try:
        refuse_complex(program)
        found["complex"] = [float(u @ complex_step(program, d, t)) for t in h]
    except (TypeError, UnsupportedError):
        pass
    size = abs(exact) or 1.0
    return Steps(h, {m: np.abs(np.array(v) - exact) / size for m, v in found.items()}, exact)


def plot_steps(f: Callable[..., Any], x: Any, path: Any = None, h: Any = None) -> str:
    """Draw `steps` with logarithmic axes: two slopes that meet at the best step.

    Args:
        f: a function of one argument.
        x: the point.
        path: where to write the SVG file; None only returns its text.
        h: the steps.

    Raises:
        MissingExtraError: matplotlib is not installed (extra `train`).
    """
    got = steps(f, x, h)
    with axes_of("Error of a difference over its step", (6.4, 4.2)) as (figure, axes):
        for i, (method, error) in enumerate(got.error.items()):
            axes.loglog(got.h, np.maximum(error, 1e-17), color=COLOURS[i], label=method)
        axes.set(xlabel="step h", ylabel="relative error", ylim=(3e-18, 30))
        axes.legend(loc="upper center", ncols=4, fontsize=9)
        return saved(figure, path)
