"""How much of a computed value is rounding."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .point import Program

__all__ = ["noise_of"]


def noise_of(program: Program, seed: int = 0) -> Any:
    """The size of the rounding errors in each number of the value, never below half an ulp.

    Seven values on a line so short that the function is a polynomial of low degree there: its
    differences of order 4 to 6 hold nothing but noise.  sigma_k^2 = (k!)^2 / (2k)! mean(T_k^2).
    The line begins beside x, where there may be a kink or a jump.

    References:
        J. J. More, S. M. Wild: Estimating computational noise. SIAM J. Sci. Comput. 33 (2011).
    """
    rng = np.random.default_rng(seed)
    d = rng.choice([-1.0, 1.0], program.x.size) * rng.uniform(0.5, 1.0, program.x.size)
    size = np.where(np.abs(program.x) > 1e-3, np.abs(program.x), 1.0)
    far = [program.at(program.x + t * size * d) for t in (2.0**-3, 2.0**-10)]
    constant = (far[0] == program.y) & (far[1] == program.y)  # nothing to measure
    found = np.where(constant, 0.0, np.nan)
    coarse = np.zeros(program.y.shape)  # the jump between neighbouring values, where it shows
    flat = np.zeros(program.y.shape, bool)
    for h in 32 * program.eps * 32.0 ** np.arange(9):
        if h > 1e-2 or not np.isnan(found).any():
            break
        values = np.array([program.at(program.x + i * h * size * d) for i in range(1, 8)])
        gaps = np.diff(np.sort(values, axis=0), axis=0)
        moves = (gaps > 0).sum(axis=0)
        least = np.where(gaps > 0, gaps, np.inf).min(axis=0)
        jumps = (moves > 0) & ((moves < 6) | flat)
        coarse = np.where(jumps & (coarse == 0), least, coarse)
        level = np.maximum(measured(values), 0.3 * coarse)
        found = np.where(np.isnan(found) & (moves >= 3), level, found)
        flat = moves == 0
    found = np.where(np.isfinite(found), found, 0.3 * coarse)
    return np.maximum(found, 0.5 * program.eps * np.abs(program.y))


def measured(values: Any) -> Any:
    """The noise in 7 equidistant values, from their differences of order 4 to 6."""
    with np.errstate(all="ignore"):
        table, sigmas = values, []
        for k in range(1, 7):
            table = np.diff(table, axis=0)
            gamma = math.factorial(k) ** 2 / math.factorial(2 * k)
            if k >= 4:
                sigmas.append(np.sqrt(gamma * np.mean(table**2, axis=0)))
        return np.median(sigmas, axis=0)
