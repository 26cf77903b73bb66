"""Slopes along a line from values alone: four formulas, their steps and their error bars.

    forward      (f(h) - f(0)) / h                  error  h |f''| / 2    +  2 noise / h
    central      (f(h) - f(-h)) / 2h                error  h^2 |f'''| / 6 +    noise / h
    complex      Im f(i h) / h                      error  h^2 |f'''| / 6, and no difference taken
    richardson   central at h, h/2, h/4, .., extrapolated to h = 0

A smaller step leaves out less of the Taylor series and loses more digits to rounding: the best one
balances the two, and depends on the function.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["METHODS", "Ladder", "Slope", "extrapolated", "ladder", "slope"]

Line = Callable[[float], Any]
TINY = 1e-300


@dataclass
class Slope:
    """The derivative along a line, its error bar, and the step that gave it."""

    value: Any
    error: Any
    step: float


def slope(method: str, phi: Line, y: Any, noise: Any, eps: float, scale: float) -> Slope:
    """The slope of phi at 0, with a step chosen from the values.

    Args:
        method: "forward", "central" or "richardson".
        phi: t -> the value, a vector.
        y: phi(0).
        noise: the rounding errors in the value.
        eps: the unit roundoff.
        scale: the t that changes the argument by its own size.
    """
    return METHODS[method](phi, y, noise, eps, scale)


def fixed(method: str, phi: Line, y: Any, h: float) -> Any:
    """The plain formula at one step."""
    if method == "forward":
        return (phi(h) - y) / h
    if method == "central":
        return (phi(h) - phi(-h)) / (2 * h)
    return extrapolated(ladder(phi, y, h, 4), 0.0, 0.0).value


def _curved(measure: Callable[[float], Any], p: float, best: Callable[[float], float]) -> Any:
    """A higher derivative, measured at a pilot step that is not far above the step it asks for."""
    floor = p * 2.0**-60
    for _ in range(12):
        found = measure(p)
        if not np.isfinite(found).all():
            p /= 64
            if p < floor:
                break
            continue
        h = best(float(np.max(found, initial=0.0)))
        if not 0 < h < p / 64:
            return found, min(h, 16 * p)
        p = h
    return np.full_like(found, np.nan), p


def forward(phi: Line, y: Any, noise: Any, eps: float, scale: float) -> Slope:
    level = float(np.max(noise, initial=0.0))
    f2, h = _curved(
        lambda p: (np.abs(phi(p) - 2 * y + phi(-p)) + 2 * noise) / p**2,
        eps**0.25 * scale,
        lambda f2: 2 * np.sqrt(max(level, TINY) / max(f2, TINY)),
    )
    h = _power(max(h, 4 * eps * scale))
    up = phi(h)
    size = np.maximum(noise, 0.5 * eps * np.abs(up))
    return Slope((up - y) / h, f2 * h / 2 + 2 * size / h, h)


def central(phi: Line, y: Any, noise: Any, eps: float, scale: float) -> Slope:
    level = float(np.max(noise, initial=0.0))
    f3, h = _curved(
        lambda p: (
            (np.abs(phi(2 * p) - 2 * phi(p) + 2 * phi(-p) - phi(-2 * p)) + 3 * noise) / (2 * p**3)
        ),
        eps**0.2 * scale,
        lambda f3: np.cbrt(3 * max(level, TINY) / max(f3, TINY)),
    )
    h = _power(max(h, 4 * eps * scale))
    up, down = phi(h), phi(-h)
    size = np.maximum(noise, 0.5 * eps * np.maximum(np.abs(up), np.abs(down)))
    return Slope((up - down) / (2 * h), f3 * h**2 / 6 + size / h, h)


def _power(h: float) -> float:
    """The nearest power of two: adding it to x, or dividing by it, rounds least."""
    return float(2.0 ** np.round(np.log2(h)))


@dataclass
class Ladder:
    """Values on both sides at halving steps h[0] > h[1] > ..: up[i] = phi(h[i])."""

    y: Any
    h: Any
    up: Any
    down: Any

    @property
    def central(self) -> Any:
        return (self.up - self.down) / (2 * self.h[:, None])

    @property
    def right(self) -> Any:
        return (self.up - self.y) / self.h[:, None]

    @property
    def left(self) -> Any:
        return (self.y - self.down) / self.h[:, None]


def ladder(phi: Line, y: Any, h: float, rungs: int) -> Ladder:
    hs = h * 0.5 ** np.arange(rungs)
    return Ladder(y, hs, np.array([phi(t) for t in hs]), np.array([phi(-t) for t in hs]))


def extrapolated(values: Ladder, noise: Any, eps: float) -> Slope:
    """Central differences extrapolated to step 0 (Romberg's tableau), the best entry of each.

    The error bar of an entry is its distance to its neighbours plus its share of rounding.

    References:
        C. J. F. Ridders: Accurate computation of F'(x) and F'(x) F''(x). Adv. Eng. Software 4
        (1982).
    """
    h = values.h[:, None]
    with np.errstate(all="ignore"):
        size = np.maximum(noise, 0.5 * eps * np.maximum(np.abs(values.up), np.abs(values.down)))
        rounding = 2 * size / h
        column, best = values.central, None
        value = np.full(column.shape[1:], np.nan)
        error = np.full(column.shape[1:], np.inf)
        step = float(values.h[-1])
        for j in range(1, len(values.h)):
            old = column
            column = old[1:] + (old[1:] - old[:-1]) / (4.0**j - 1)
            rounding = rounding[1:] * (1 + 2 / (4.0**j - 1))
            far = np.maximum(np.abs(column - old[1:]), np.abs(column - old[:-1])) + rounding
            far = np.where(np.isfinite(far), far, np.inf)
            best = np.argmin(far, axis=0)
            here = np.take_along_axis(far, best[None], 0)[0]
            better = here < error
            value = np.where(better, np.take_along_axis(column, best[None], 0)[0], value)
            error = np.where(better, here, error)
    return Slope(value, error, step)


def richardson(
    phi: Line, y: Any, noise: Any, eps: float, scale: float, rungs: int = 6, goal: float = 1e-9
) -> Slope:
    """Ladders of halving steps, each starting lower, until the error bars are small."""
    return climbed(phi, y, noise, eps, scale, rungs, goal)[0]


def climbed(
    phi: Line, y: Any, noise: Any, eps: float, scale: float, rungs: int = 6, goal: float = 1e-9
) -> tuple[Slope, Ladder, Any]:
    """The best slope, the ladder that was climbed last, and how steep the values are around x."""
    goal = max(goal, eps**0.6)
    h = scale / 16
    kept: Slope | None = None
    around = np.abs(y) / scale
    while True:
        steps = ladder(phi, y, h, rungs)
        if kept is None:  # what does not move at all has no noise along this line
            still = (steps.up == y).all(axis=0) & (steps.down == y).all(axis=0)
            noise = np.where(still, 0.5 * eps * np.abs(y), noise)
        got = extrapolated(steps, noise, eps)
        if kept is None:
            with np.errstate(all="ignore"):
                steep = np.maximum(np.abs(steps.left), np.abs(steps.right)).max(axis=0)
            around = around + np.where(np.isfinite(steep), steep, 0.0)
        else:
            better = got.error < kept.error
            got = Slope(
                np.where(better, got.value, kept.value),
                np.where(better, got.error, kept.error),
                got.step if better.any() else kept.step,
            )
        kept = got
        fine = kept.error <= goal * (np.abs(kept.value) + 1e-2 * around)
        h /= 2.0**rungs
        if fine.all() or h < scale * 2.0**-34:
            return kept, steps, around


METHODS: dict[str, Callable[..., Slope]] = {
    "forward": forward,
    "central": central,
    "richardson": richardson,
}
