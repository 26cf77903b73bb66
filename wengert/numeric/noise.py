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

    References:
        J. J. More, S. M. Wild: Estimating computational noise. SIAM J. Sci. Comput. 33 (2011).
    """
    rng = np.random.default_rng(seed)
    d = rng.choice([-1.0, 1.0], program.x.size) * rng.uniform(0.5, 1.0, program.x.size)
    size = np.where(np.abs(program.x) > 1e-3, np.abs(program.x), 1.0)
    found = np.full(program.y.shape, np.nan)
    for h in 32 * program.eps * 1000.0 ** np.arange(3):
        values = np.array([program.at(program.x + (i - 3) * h * size * d) for i in range(7)])
        ordered = np.sort(values, axis=0)
        resolved = (np.diff(ordered, axis=0) > 0).sum(axis=0) >= 3  # else the steps drown in noise
        found = np.where(np.isnan(found) & resolved, measured(values), found)
        if not np.isnan(found).any():
            break
    found = np.where(np.isfinite(found), found, 0.0)
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
