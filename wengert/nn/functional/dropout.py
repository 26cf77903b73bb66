"""Numbers, channels or whole branches left out at random in training."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from wengert import random
from wengert.draws import live
from wengert.errors import OptionError, ShapeError
from wengert.hollow import Hollow
from wengert.ops.dropout import Dropout
from wengert.trace import Tensor, bind, looked, make
from wengert.transforms.vmap import VMap
from wengert.types import shape_of

__all__ = [
    "alpha_dropout",
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "feature_alpha_dropout",
    "stochastic_depth",
]

Rng = np.random.Generator | int | None


def stream(rng: Rng) -> np.random.Generator:
    return random.default() if rng is None else random.generator(rng)


def drawn(x: Any, draw: Any, dtype: Any = None) -> Any:
    """draw(shape of the plain array in x): lanes of a vmap are drawn for one by one."""
    x = looked(x)
    if isinstance(x, Hollow):
        return x.like(dtype)
    if not isinstance(x, Tensor):
        return draw(shape_of(x))
    inner = drawn(x.data, draw, dtype)
    lanes = isinstance(x.level, VMap) and x.node is not None
    return make(inner, x.node, x.level, type(x)) if lanes else inner


def kept(x: Any, p: float, rng: Rng, axes: tuple[int, ...] = ()) -> Any:
    """True with probability 1 - p, one draw for all places along `axes` (negative)."""
    generator = stream(rng)
    anew = rng is not None and generator is not rng  # a seed: the same numbers at every call

    def draw(shape: tuple[int, ...]) -> Any:
        sizes = tuple(1 if i - len(shape) in axes else n for i, n in enumerate(shape))
        if anew:
            return generator.random(sizes, np.float32) >= np.float32(p)
        return live(lambda: generator.random(sizes, np.float32) >= np.float32(p), generator)

    return drawn(x, draw, bool)


def probability(what: str, p: Any, name: str = "p") -> None:
    if not (isinstance(p, int | float | np.number) and 0 <= p <= 1):
        raise OptionError(f"{what}({name}={p!r})", f"{name} is a probability, from 0 to 1")


def dropped(what: str, x: Any, p: float, training: bool, rng: Rng, axes: Any = ()) -> Any:
    probability(what, p)
    if not training or p == 0:
        return x
    scale = 0.0 if p == 1 else 1 / (1 - p)
    return bind(Dropout(float(scale)), x, kept(x, p, rng, axes))


def dropout(x: Any, p: float = 0.5, training: bool = True, rng: Rng = None) -> Any:
    """Each number is left out with probability p, and the others grow so that the mean stays.

        y = x / (1 - p) with probability 1 - p, else 0          outside training y = x

    The numbers come from a generator, so an activation checkpoint leaves out the same places when
    it runs again. Under `vmap` each lane of an x that differs from lane to lane has a mask of its
    own, as the rows of a batch have; an x that the lanes share has one.

    Args:
        p: the probability of being left out, from 0 to 1.
        training: False gives x back.
        rng: a generator or a seed; None for `wengert.random.default()`.

    Raises:
        OptionError: p is not a probability.

    Example:
        >>> dropout(np.ones(8), 0.5, rng=0)
        array([0., 0., 2., 0., 0., 0., 2., 0.])

    References:
        N. Srivastava et al. (2014), Dropout, Journal of Machine Learning Research 15.
    """
    return dropped("dropout", x, p, training, rng)


def channels(what: str, axes: int, x: Any, p: float, training: bool, rng: Rng) -> Any:
    rank = len(shape_of(x))
    if rank not in (axes + 1, axes + 2):
        spatial = ", ".join(("D", "H", "W")[3 - axes :])
        raise ShapeError(
            f"{what}(x)",
            f"x is [N, {spatial}, C], channels last, or [{spatial}, C]",
            operands=[("x", x)],
        )
    return dropped(what, x, p, training, rng, tuple(range(-axes - 1, -1)))


def dropout1d(x: Any, p: float = 0.5, training: bool = True, rng: Rng = None) -> Any:
    """Whole channels are left out: one draw for each sample and channel.

    Shapes: x `[N, W, C]` or `[W, C]`. See `dropout`.
    """
    return channels("dropout1d", 1, x, p, training, rng)


def dropout2d(x: Any, p: float = 0.5, training: bool = True, rng: Rng = None) -> Any:
    """Whole channels are left out: one draw for each sample and channel.

    Shapes: x `[N, H, W, C]` or `[H, W, C]`. See `dropout`.

    References:
        J. Tompson et al. (2015), Efficient Object Localization Using Convolutional Networks,
        arXiv:1411.4280.
    """
    return channels("dropout2d", 2, x, p, training, rng)


def dropout3d(x: Any, p: float = 0.5, training: bool = True, rng: Rng = None) -> Any:
    """Whole channels are left out: one draw for each sample and channel.

    Shapes: x `[N, D, H, W, C]` or `[D, H, W, C]`. See `dropout`.
    """
    return channels("dropout3d", 3, x, p, training, rng)


SATURATION = -1.7580993408473766  # -scale alpha of selu, its value far to the left


def alpha(what: str, x: Any, p: float, training: bool, rng: Rng, axes: Any) -> Any:
    probability(what, p)
    if not training or p == 0:
        return x
    mask = kept(x, p, rng, axes)
    if p == 1:
        return bind(Dropout(0.0), x, mask)
    a = 1 / math.sqrt((1 - p) * (1 + p * SATURATION**2))
    return bind(Dropout(a), x - SATURATION, mask) + (a * SATURATION - a * p * SATURATION)


def alpha_dropout(x: Any, p: float = 0.5, training: bool = True, rng: Rng = None) -> Any:
    """Dropout that keeps mean 0 and variance 1: what is left out takes selu's value far left.

        y = a (x m + s (1 - m)) + b,   m drawn as in `dropout`,   s = -1.7581

    with a = ((1 - p) (1 + p s^2))^(-1/2) and b = -a p s. See `dropout` for the arguments.

    References:
        G. Klambauer et al. (2017), Self-Normalizing Neural Networks, arXiv:1706.02515.
    """
    return alpha("alpha_dropout", x, p, training, rng, ())


def feature_alpha_dropout(x: Any, p: float = 0.5, training: bool = True, rng: Rng = None) -> Any:
    """`alpha_dropout` of whole channels.

    Shapes: x `[N, .., C]`, channels last.
    """
    return alpha(
        "feature_alpha_dropout", x, p, training, rng, tuple(range(1 - len(shape_of(x)), -1))
    )


def stochastic_depth(x: Any, p: float, training: bool = True, rng: Rng = None) -> Any:
    """Whole samples are left out: a residual branch that some of a batch do not take.

        y[n] = x[n] / (1 - p) with probability 1 - p, else 0

    Shapes: x `[N, ..]`.

    References:
        G. Huang et al. (2016), Deep Networks with Stochastic Depth, arXiv:1603.09382.
    """
    return dropped("stochastic_depth", x, p, training, rng, tuple(range(1 - len(shape_of(x)), 0)))
