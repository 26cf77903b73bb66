"""Why a difference quotient and a derivative disagree: kink, jump, edge, infinite slope, rounding.

On a smooth function the two one-sided slopes close in on each other in proportion to the step. At
a kink they stay apart; at a jump they run away like 1/h; at an infinite slope they grow more slowly
than that. So a few more steps tell which it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .point import Program
from .slopes import Ladder, ladder

__all__ = ["diagnose", "suspicious"]

WINDOW = 5


def suspicious(steps: Ladder, noise: Any, eps: float) -> Any:
    """The numbers of the value whose one-sided slopes do not close in on each other."""
    with np.errstate(all="ignore"):
        gap = steps.right - steps.left  # jump of the slope + h f'' + O(h^3)
        jump = 2 * gap[1:] - gap[:-1]
        size = np.maximum(noise, eps * np.abs(steps.up[-1]))
        slopes = np.maximum(np.abs(steps.right[-1]), np.abs(steps.left[-1]))
        real = (np.abs(jump[-1]) > 32 * size / steps.h[-1]) & (np.abs(jump[-1]) > 1e-7 * slopes)
        return real & (np.abs(jump[-1]) > 0.6 * np.abs(jump[-2]))


def diagnose(program: Program, d: Any, noise: Any, outputs: Any) -> dict[int, tuple[str, Any, Any]]:
    """output number -> (kind, slope on the left, slope on the right), for those with a reason."""
    steps = ladder(program.line(d), program.y, program.scale(d) / 64, 18)
    with np.errstate(all="ignore"):
        found = {}
        for m in outputs:
            reason = _reason(steps, int(m), float(noise[m]), program.eps)
            if reason is not None:
                found[int(m)] = reason
        return found


def _reason(steps: Ladder, m: int, noise: float, eps: float) -> tuple[str, Any, Any] | None:
    up, down, y = steps.up[:, m], steps.down[:, m], steps.y[m]
    left, right = steps.left[:, m], steps.right[:, m]
    fine_up, fine_down = np.isfinite(up), np.isfinite(down)
    if not fine_up[-WINDOW:].all() or not fine_down[-WINDOW:].all():
        side = right if fine_up[-WINDOW:].all() else left
        return "edge", side[-1], side[-1]
    size = np.maximum(noise, eps * np.maximum(np.abs(up), np.abs(down)))
    for away in (np.abs(up - y), np.abs(down - y)):
        ratio = away[1:] / away[:-1]
        if (away[-WINDOW:] > 50 * size[-WINDOW:]).all() and (ratio[-WINDOW:] > 0.95).all():
            return "discontinuous", left[-1], right[-1]
    steep = np.maximum(np.abs(left), np.abs(right))
    trusted = np.flatnonzero(20 * size / steps.h < 0.05 * steep)
    if len(trusted) < WINDOW + 1:
        return None
    last = trusted[-WINDOW - 1 :]
    growth = steep[last][1:] / steep[last][:-1]
    if (growth > 1.1).all():
        return "singular", left[last[-1]], right[last[-1]]
    gap = (right - left)[last]
    ratio = gap[1:] / gap[:-1]
    apart = (np.abs(gap) > 20 * size[last] / steps.h[last]) & (np.abs(gap) > 1e-6 * steep[last])
    if apart.all() and (ratio > 0.8).all() and (ratio < 1.25).all():
        a, b = last[-2], last[-1]
        return "kink", 2 * left[b] - left[a], 2 * right[b] - right[a]
    return None
