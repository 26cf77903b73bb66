"""Layers that leave a part of the signal out while the model is trained."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from wengert import random

from . import functional as F
from .functional.dropout import probability
from .module import Module

__all__ = [
    "AlphaDropout",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "FeatureAlphaDropout",
    "StochasticDepth",
]


class Dropout(Module):
    """Leaves numbers out at random, each with probability p, and enlarges the others.

        y = x / (1 - p) with probability 1 - p, else 0          in training
        y = x                                                   after `eval()`

    Args:
        p: the probability, from 0 to 1.
        rng: a generator, or a seed for one; None draws from `wg.random`.

    Raises:
        OptionError: p is not a probability.

    Example:
        >>> layer = Dropout(0.5, rng=0)
        >>> layer(np.ones(8))
        array([0., 0., 2., 0., 0., 0., 2., 0.])
        >>> layer.eval()(np.ones(3))
        array([1., 1., 1.])

    References:
        N. Srivastava et al. (2014), Dropout, Journal of Machine Learning Research 15.
    """

    call: ClassVar[Any] = staticmethod(F.dropout)

    def __init__(self, p: float = 0.5, *, rng: np.random.Generator | int | None = None) -> None:
        probability(type(self).__name__, p)
        self.p = p
        self.rng = None if rng is None else random.generator(rng)

    def forward(self, x: Any) -> Any:
        return type(self).call(x, self.p, self.training, self.rng)

    def extra_repr(self) -> str:
        return str(self.p)


class Dropout1d(Dropout):
    """Leaves whole channels of `[N, W, C]` out; see `Dropout`."""

    call = staticmethod(F.dropout1d)


class Dropout2d(Dropout):
    """Leaves whole channels of `[N, H, W, C]` out; see `Dropout`."""

    call = staticmethod(F.dropout2d)


class Dropout3d(Dropout):
    """Leaves whole channels of `[N, D, H, W, C]` out; see `Dropout`."""

    call = staticmethod(F.dropout3d)


class AlphaDropout(Dropout):
    """Dropout that keeps a mean of 0 and a variance of 1, for networks of selu.

    References:
        G. Klambauer et al. (2017), Self-Normalizing Neural Networks, arXiv:1706.02515.
    """

    call = staticmethod(F.alpha_dropout)


class FeatureAlphaDropout(Dropout):
    """`AlphaDropout` of whole channels."""

    call = staticmethod(F.feature_alpha_dropout)


class StochasticDepth(Dropout):
    """Leaves whole examples out: those that do not take a residual branch.

    Example:
        >>> StochasticDepth(0.5, rng=0)(np.ones((4, 2)))[:, 0]
        array([0., 0., 2., 0.])

    References:
        G. Huang et al. (2016), Deep Networks with Stochastic Depth, arXiv:1603.09382.
    """

    call = staticmethod(F.stochastic_depth)
