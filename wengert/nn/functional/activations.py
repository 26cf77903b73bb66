"""Activations, the ones with parameters; those without stand in the derivative table.

At a kink the slope is the subgradient nearest to 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from wengert.errors import OptionError, ShapeError
from wengert.numpy.reduce import softmax
from wengert.ops import elementwise as e
from wengert.ops.elementwise import where
from wengert.trace import Tensor
from wengert.transforms.estimators import straight_through
from wengert.types import shape_of

from .dropout import Rng, drawn, stream

__all__ = [
    "celu",
    "elu",
    "geglu",
    "gelu",
    "glu",
    "gumbel_softmax",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "mish",
    "prelu",
    "relu6",
    "selu",
    "softmin",
    "softplus",
    "softshrink",
    "softsign",
    "swiglu",
    "swish",
    "tanhshrink",
    "threshold",
]

SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805

mish, softsign, tanhshrink, swish = e.mish, e.softsign, e.tanhshrink, e.silu


def array(x: Any) -> Any:
    return x if isinstance(x, Tensor) else np.asarray(x)


def between(x: Any, low: float, high: float) -> Any:
    """x, low or high, flat at both ends."""
    return where(e.le(x, low), low, where(e.ge(x, high), high, x))


def relu6(x: Any) -> Any:
    """y = min(max(x, 0), 6)"""
    return between(array(x), 0.0, 6.0)


def hardtanh(x: Any, low: float = -1.0, high: float = 1.0) -> Any:
    """y = min(max(x, low), high)"""
    if not low < high:
        raise OptionError(f"hardtanh(low={low}, high={high})", "low is less than high")
    return between(array(x), low, high)


def hardsigmoid(x: Any) -> Any:
    """y = min(max(x / 6 + 1/2, 0), 1)"""
    return between(array(x), -3.0, 3.0) / 6 + 0.5


def hardswish(x: Any) -> Any:
    """y = x min(max(x / 6 + 1/2, 0), 1), which is 0 below -3 and x above 3"""
    x = array(x)
    inside = where(e.lt(e.abs(x), 3.0), x, 0.0)
    return where(e.ge(x, 3.0), x, inside * (inside / 6 + 0.5))


def leaky_relu(x: Any, slope: float = 0.01) -> Any:
    """y = x where x > 0, else slope x"""
    x = array(x)
    return where(e.gt(x, 0.0), x, x * slope)


def prelu(x: Any, weight: Any) -> Any:
    """y = x where x > 0, else weight x; one weight, or one for each channel, the last axis.

    Raises:
        ShapeError: weight is neither one number nor as many as there are channels.
    """
    x = array(x)
    if shape_of(weight) not in ((), (1,), shape_of(x)[-1:]):
        raise ShapeError(
            "prelu(x, weight)",
            "weight is one number or one for each channel, the last axis of x",
            operands=[("x", x), ("weight", weight)],
        )
    return where(e.gt(x, 0.0), x, x * weight)


def elu(x: Any, alpha: float = 1.0) -> Any:
    """y = x where x > 0, else alpha (e^x - 1)

    References:
        D. Clevert, T. Unterthiner, S. Hochreiter (2016), arXiv:1511.07289.
    """
    y = e.elu(array(x))
    return y if alpha == 1 else where(e.gt(x, 0.0), y, y * alpha)


def selu(x: Any) -> Any:
    """y = 1.0507 x where x > 0, else 1.0507 * 1.6733 (e^x - 1): keeps mean 0 and variance 1

    References:
        G. Klambauer et al. (2017), Self-Normalizing Neural Networks, arXiv:1706.02515.
    """
    y = e.elu(array(x)) * SELU_SCALE
    return where(e.gt(x, 0.0), y, y * SELU_ALPHA)


def celu(x: Any, alpha: float = 1.0) -> Any:
    """y = x where x > 0, else alpha (e^(x / alpha) - 1)

    References:
        J. Barron (2017), Continuously Differentiable Exponential Linear Units, arXiv:1704.07483.
    """
    if not alpha > 0:
        raise OptionError(f"celu(alpha={alpha!r})", "alpha is positive")
    x = array(x)
    return where(e.gt(x, 0.0), x, e.elu(x / alpha) * alpha)


def gelu(x: Any, approximate: str = "none") -> Any:
    """y = x P(N(0, 1) <= x); with approximate="tanh" x sigmoid(1.5958 (x + 0.044715 x^3))

    References:
        D. Hendrycks, K. Gimpel (2016), Gaussian Error Linear Units, arXiv:1606.08415.
    """
    if approximate == "none":
        return e.gelu(x)
    if approximate == "tanh":
        return e.gelu_tanh(x)
    raise OptionError(f"gelu(approximate={approximate!r})", 'approximate is "none" or "tanh"')


def softplus(x: Any, beta: float = 1.0) -> Any:
    """y = log(1 + e^(beta x)) / beta"""
    if beta == 1:
        return e.softplus(x)
    if beta == 0:
        raise OptionError("softplus(beta=0)", "beta is not 0")
    return e.softplus(x * beta) / beta


def softshrink(x: Any, size: float = 0.5) -> Any:
    """y = x - size where x > size, x + size where x < -size, else 0"""
    x = array(x)
    return where(e.gt(x, size), x - size, where(e.lt(x, -size), x + size, x * 0.0))


def hardshrink(x: Any, size: float = 0.5) -> Any:
    """y = x where |x| > size, else 0"""
    x = array(x)
    return where(e.le(e.abs(x), size), 0.0, x)


def threshold(x: Any, limit: float, value: float) -> Any:
    """y = x where x > limit, else value"""
    x = array(x)
    return where(e.le(x, limit), value, x)


def softmin(x: Any, axis: int = -1) -> Any:
    """y_i = e^(-x_i) / sum_j e^(-x_j) along an axis"""
    return softmax(-array(x), axis)


def gated(name: str, gate: Any, x: Any, axis: int) -> Any:
    x = array(x)
    shape = shape_of(x)
    n = shape[axis] if shape else 1
    if n % 2:
        raise ShapeError(
            f"{name}(x, axis={axis})",
            "the axis is cut into halves",
            operands=[("x", x, f"axis {axis} is {n}" if shape else "")],
        )
    lead = (slice(None),) * (axis % len(shape))
    return x[(*lead, slice(0, n // 2))] * gate(x[(*lead, slice(n // 2, n))])


def glu(x: Any, axis: int = -1) -> Any:
    """y = a sigmoid(b), with the halves a and b of x along an axis

    References:
        Y. Dauphin et al. (2017), arXiv:1612.08083.
        N. Shazeer (2020), GLU Variants Improve Transformer, arXiv:2002.05202.
    """
    return gated("glu", e.sigmoid, x, axis)


def swiglu(x: Any, axis: int = -1) -> Any:
    """y = a silu(b), with the halves a and b of x along an axis; see `glu`"""
    return gated("swiglu", e.silu, x, axis)


def geglu(x: Any, axis: int = -1) -> Any:
    """y = a gelu(b), with the halves a and b of x along an axis; see `glu`"""
    return gated("geglu", e.gelu, x, axis)


def gumbel_softmax(
    logits: Any, tau: float = 1.0, hard: bool = False, axis: int = -1, rng: Rng = None
) -> Any:
    """A sample of a categorical distribution, relaxed so that it has a derivative.

        y = softmax((logits + g) / tau),   g = -log(-log u),   u uniform

    Args:
        tau: the temperature; the samples come near to one-hot as it falls.
        hard: the one-hot sample itself, with the derivative of the relaxed one (straight-through).
        rng: a generator or a seed.

    Example:
        >>> gumbel_softmax(np.zeros(3), hard=True, rng=0)
        tensor([1., 0., 0.])

    References:
        E. Jang, S. Gu, B. Poole (2017), arXiv:1611.01144.
        C. Maddison, A. Mnih, Y. Teh (2017), arXiv:1611.00712.
    """
    if not tau > 0:
        raise OptionError(f"gumbel_softmax(tau={tau!r})", "a temperature is positive")
    logits = array(logits)
    generator = stream(rng)
    dtype = logits.dtype if logits.dtype.kind == "f" else np.dtype(float)
    noise = drawn(logits, lambda shape: np.asarray(generator.gumbel(size=shape), dtype), dtype)
    y = softmax((logits + noise) / tau, axis)
    if not hard:
        return y
    last = np.moveaxis(y, axis, -1)
    ones: Any = e.eq(np.argmax(last, axis=-1)[..., None], np.arange(shape_of(last)[-1]))
    chosen: Any = np.moveaxis(ones, -1, axis)
    return straight_through(chosen.astype(dtype), y)
