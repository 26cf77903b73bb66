"""First values of weights: how large they must be for signals to keep their size."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wengert import random
from wengert.errors import UnknownNameError

__all__ = ["draw", "he", "stream", "xavier"]

Rng = np.random.Generator | int | None


def stream(rng: Rng) -> np.random.Generator:
    """The generator to draw from: the one given, one with this seed, or that of `wg.random`."""
    return random.default() if rng is None else np.random.default_rng(rng)


def he(rng: Rng, fan_in: int, fan_out: int) -> NDArray[np.float64]:
    """He's normal weights, for layers followed by relu.

        W[i, j] ~ N(0, 2 / fan_in)

    relu sets half of the signal to 0, so each weight carries twice the variance to make up for it.

    Shapes: `float64[fan_in, fan_out]`.

    Example:
        >>> bool(abs(he(0, 400, 400).std() - (2 / 400) ** 0.5) < 1e-3)
        True

    References:
        K. He et al. (2015), Delving Deep into Rectifiers, arXiv:1502.01852.
    """
    return stream(rng).standard_normal((fan_in, fan_out)) * math.sqrt(2 / fan_in)


def xavier(rng: Rng, fan_in: int, fan_out: int) -> NDArray[np.float64]:
    """Glorot's uniform weights, for layers followed by tanh, sigmoid or nothing.

        W[i, j] ~ U(-b, b),   b = sqrt(6 / (fan_in + fan_out))

    The variance 2 / (fan_in + fan_out) is between what keeps the size of the signals going forward
    and what keeps that of the gradients going back.

    Shapes: `float64[fan_in, fan_out]`.

    Example:
        >>> bool(np.abs(xavier(0, 100, 50)).max() <= (6 / 150) ** 0.5)
        True

    References:
        X. Glorot, Y. Bengio (2010), Understanding the difficulty of training deep feedforward
        neural networks.
    """
    bound = math.sqrt(6 / (fan_in + fan_out))
    return stream(rng).uniform(-bound, bound, (fan_in, fan_out))


_RULES = {"he": he, "xavier": xavier}


def draw(rule: str, rng: Rng, fan_in: int, fan_out: int) -> Any:
    """Weights by the name of the rule: `he` or `xavier`."""
    if rule not in _RULES:
        raise UnknownNameError(
            f"Linear(init={rule!r})", "no such rule", fix=f"init={' or '.join(map(repr, _RULES))}"
        )
    return _RULES[rule](rng, fan_in, fan_out)
