"""First values of weights: how large they must be for signals to keep their size.

Each rule takes a shape and gives an array, or takes a parameter and fills it:

    init.orthogonal((3, 4), rng=0)                  init.orthogonal(layer.weight, gain=2.0)

A weight has the axes `[n_in, n_out]`, or `[*kernel, n_in, n_out]`. With k the numbers of a kernel,
fan_in = k n_in is how many terms each output sums, and fan_out = k n_out how many outputs each
input reaches.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wengert import random
from wengert.errors import OptionError, ShapeError, UnknownNameError, verbatim
from wengert.hollow import Hollow, hollow, unallocating
from wengert.trace import Tensor, no_grad
from wengert.types import shape_of

__all__ = [
    "calculate_gain",
    "constant",
    "dirac",
    "draw",
    "eye",
    "fans",
    "he",
    "he_normal",
    "he_uniform",
    "lecun_normal",
    "lecun_uniform",
    "normal",
    "ones",
    "orthogonal",
    "sparse",
    "stream",
    "truncated_normal",
    "uniform",
    "xavier",
    "xavier_normal",
    "xavier_uniform",
    "zeros",
]

Rng = np.random.Generator | int | None
Shape = tuple[int, ...]
Array = NDArray[np.float64]


def stream(rng: Rng) -> np.random.Generator:
    """The generator to draw from: the one given, one with this seed, or that of `wg.random`."""
    try:
        return random.default() if rng is None else np.random.default_rng(rng)
    except (TypeError, ValueError):
        raise random.not_a_seed(rng) from None


def fans(shape: Shape) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight `[*kernel, n_in, n_out]`.

    Raises:
        ShapeError: there are fewer than two axes.

    Example:
        >>> fans((64, 10)), fans((3, 3, 16, 32))
        ((64, 10), (144, 288))
    """
    if len(shape) < 2:
        raise ShapeError(
            "init.fans(shape)", "a weight has the axes [*kernel, n_in, n_out]",
            operands=[("shape", verbatim(list(shape)))],
        )  # fmt: skip
    k = math.prod(shape[:-2])
    return k * shape[-2], k * shape[-1]


GAINS: dict[str, Callable[[float], float]] = {
    "linear": lambda a: 1.0,
    **{f"conv{t}{n}d": lambda a: 1.0 for t in ("", "_transpose") for n in (1, 2, 3)},
    "sigmoid": lambda a: 1.0,
    "tanh": lambda a: 5 / 3,
    "relu": lambda a: math.sqrt(2.0),
    "leaky_relu": lambda a: math.sqrt(2 / (1 + a * a)),
    "selu": lambda a: 3 / 4,
}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """By how much weights grow to make up for what a function takes away, as in PyTorch.

    Args:
        nonlinearity: "linear", "sigmoid", "tanh", "relu", "leaky_relu" or "selu".
        param: the slope of a leaky relu on the left; None for 0.01.

    Raises:
        UnknownNameError: another function.

    Example:
        >>> calculate_gain("tanh"), round(calculate_gain("leaky_relu", 0.2), 4)
        (1.6666666666666667, 1.3868)
    """
    if nonlinearity not in GAINS:
        raise UnknownNameError(
            f"calculate_gain({nonlinearity!r})", "no gain is known for this function",
            operands=[("known", verbatim(", ".join(GAINS)))],
        )  # fmt: skip
    return GAINS[nonlinearity](0.01 if param is None else param)


def rule(f: Any) -> Any:
    """A rule for shapes, made one for parameters too."""

    @functools.wraps(f)
    def either(x: Any, *args: Any, **options: Any) -> Any:
        if not isinstance(x, Tensor):
            shape = (int(x),) if isinstance(x, int | np.integer) else tuple(x)
            return hollow(shape, float) if unallocating() else f(shape, *args, **options)
        if isinstance(x.data, Hollow):
            return x
        value = f(shape_of(x), *args, **options)
        with no_grad():
            x[...] = value.astype(x.dtype)
        return x

    return either


# ------------------------------------------------------------------ distributions


@rule
def uniform(x: Any, low: float = 0.0, high: float = 1.0, *, rng: Rng = None) -> Array:
    """W ~ U(low, high).

    >>> uniform((2, 2), -1, 1, rng=0).round(2)
    array([[ 0.27, -0.46],
           [-0.92, -0.97]])
    """
    return stream(rng).uniform(low, high, x)


@rule
def normal(x: Any, mean: float = 0.0, std: float = 1.0, *, rng: Rng = None) -> Array:
    """W ~ N(mean, std^2).

    >>> normal((2,), std=0.1, rng=0).round(3)
    array([ 0.013, -0.013])
    """
    return mean + std * stream(rng).standard_normal(x)


@rule
def truncated_normal(
    x: Any,
    mean: float = 0.0,
    std: float = 1.0,
    low: float = -2.0,
    high: float = 2.0,
    *,
    rng: Rng = None,
) -> Array:
    """W ~ N(mean, std^2), drawn again where it falls outside [low, high].

    The bounds are values, as in PyTorch, not multiples of std.

    >>> bool(abs(truncated_normal((1000,), rng=0)).max() <= 2)
    True
    """
    a, b = (low - mean) / std, (high - mean) / std
    if not a < b:
        raise OptionError(f"truncated_normal(low={low}, high={high})", "low is less than high")
    mass = 0.5 * (math.erf(b / math.sqrt(2)) - math.erf(a / math.sqrt(2)))
    if mass < 1e-3:
        raise OptionError(
            f"truncated_normal(mean={mean}, std={std}, low={low}, high={high})",
            "a thousandth of the normal distribution or more lies between the bounds",
        )
    generator = stream(rng)
    y = generator.standard_normal(x)
    while (out := (y < a) | (y > b)).any():
        y[out] = generator.standard_normal(int(out.sum()))
    return mean + std * y


@rule
def constant(x: Any, value: float) -> Array:
    """W = value.

    >>> constant((2,), 0.5)
    array([0.5, 0.5])
    """
    return np.full(x, float(value))


@rule
def zeros(x: Any) -> Array:
    """W = 0."""
    return np.zeros(x)


@rule
def ones(x: Any) -> Array:
    """W = 1."""
    return np.ones(x)


# ------------------------------------------------------------------ by the fans


@rule
def xavier_uniform(x: Any, gain: float = 1.0, *, rng: Rng = None) -> Array:
    """W ~ U(-b, b),  b = gain sqrt(6 / (fan_in + fan_out)); for tanh, sigmoid and outputs.

    The variance 2 / (fan_in + fan_out) is between what keeps the size of the signals going forward
    and what keeps that of the gradients going back.

    >>> bool(abs(xavier_uniform((100, 50), rng=0)).max() <= (6 / 150) ** 0.5)
    True

    References:
        X. Glorot, Y. Bengio (2010), Understanding the difficulty of training deep feedforward
        neural networks.
    """
    b = gain * math.sqrt(6 / max(1, sum(fans(x))))
    return stream(rng).uniform(-b, b, x)


@rule
def xavier_normal(x: Any, gain: float = 1.0, *, rng: Rng = None) -> Array:
    """W ~ N(0, 2 gain^2 / (fan_in + fan_out)); see `xavier_uniform`."""
    return stream(rng).standard_normal(x) * (gain * math.sqrt(2 / max(1, sum(fans(x)))))


def _he(x: Shape, nonlinearity: str, a: float | None, mode: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise OptionError(f"init.he(mode={mode!r})", '"fan_in" or "fan_out"')
    return calculate_gain(nonlinearity, a) / math.sqrt(max(1, fans(x)[mode == "fan_out"]))


@rule
def he_normal(
    x: Any,
    nonlinearity: str = "relu",
    a: float | None = None,
    mode: str = "fan_in",
    *,
    rng: Rng = None,
) -> Array:
    """W ~ N(0, gain^2 / fan_in),  2 / fan_in before relu.

    relu sets half of the signal to 0, so each weight carries twice the variance to make up for it.

    Args:
        nonlinearity, a: what follows the layer, see `calculate_gain`.
        mode: "fan_in" keeps the size of the signals, "fan_out" that of the gradients.

    >>> bool(abs(he_normal((400, 400), rng=0).std() - (2 / 400) ** 0.5) < 1e-3)
    True

    References:
        K. He et al. (2015), Delving Deep into Rectifiers, arXiv:1502.01852.
    """
    return stream(rng).standard_normal(x) * _he(x, nonlinearity, a, mode)


@rule
def he_uniform(
    x: Any,
    nonlinearity: str = "relu",
    a: float | None = None,
    mode: str = "fan_in",
    *,
    rng: Rng = None,
) -> Array:
    """W ~ U(-b, b),  b = gain sqrt(3 / fan_in); see `he_normal`."""
    b = math.sqrt(3) * _he(x, nonlinearity, a, mode)
    return stream(rng).uniform(-b, b, x)


@rule
def lecun_normal(x: Any, *, rng: Rng = None) -> Array:
    """W ~ N(0, 1 / fan_in); before selu.

    References:
        Y. LeCun et al. (1998), Efficient BackProp.
        G. Klambauer et al. (2017), Self-Normalizing Neural Networks, arXiv:1706.02515.
    """
    return stream(rng).standard_normal(x) / math.sqrt(max(1, fans(x)[0]))


@rule
def lecun_uniform(x: Any, *, rng: Rng = None) -> Array:
    """W ~ U(-b, b),  b = sqrt(3 / fan_in); see `lecun_normal`."""
    b = math.sqrt(3 / max(1, fans(x)[0]))
    return stream(rng).uniform(-b, b, x)


# ------------------------------------------------------------------ matrices of a kind


@rule
def orthogonal(x: Any, gain: float = 1.0, *, rng: Rng = None) -> Array:
    """gain Q with Q^T Q = 1, or Q Q^T = 1 if it is wide, uniform among those.

    A kernel counts as a matrix `[k n_in, n_out]`.

    >>> q = orthogonal((4, 3), rng=0)
    >>> bool(np.allclose(q.T @ q, np.eye(3)))
    True

    References:
        A. Saxe, J. McClelland, S. Ganguli (2013), Exact solutions to the nonlinear dynamics of
        learning in deep linear neural networks, arXiv:1312.6120.
        F. Mezzadri (2007), How to generate random matrices from the classical compact groups, for
        the signs that make it uniform.
    """
    rows, columns = math.prod(x[:-1]), fans(x) and x[-1]
    a = stream(rng).standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(a)
    q = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)
    return np.asarray(gain * (q if rows >= columns else q.T)).reshape(x)


@rule
def eye(x: Any) -> Array:
    """W[i, j] = 1 if i = j else 0.

    >>> eye((2, 3))
    array([[1., 0., 0.],
           [0., 1., 0.]])
    """
    if len(x) != 2:
        raise ShapeError(
            "init.eye(x)", "a weight of two axes", operands=[("shape", verbatim(list(x)))]
        )
    return np.eye(*x)


@rule
def dirac(x: Any, groups: int = 1) -> Array:
    """A kernel that hands its channels on:  W[middle, i, o] = 1 where channel o is i of its group.

    Shapes: `[*kernel, n_in / groups, n_out]`.

    >>> dirac((3, 1, 1)).ravel()
    array([0., 1., 0.])
    """
    if len(x) < 3 or groups < 1 or x[-1] % groups:
        raise ShapeError(
            "init.dirac(x)", "the axes are [*kernel, n_in / groups, n_out]",
            operands=[("shape", verbatim(list(x))), ("groups", groups)],
        )  # fmt: skip
    y = np.zeros(x)
    each = x[-1] // groups
    middle = tuple(k // 2 for k in x[:-2])
    for o in range(x[-1]):
        if o % each < x[-2]:
            y[(*middle, o % each, o)] = 1
    return y


@rule
def sparse(x: Any, sparsity: float, std: float = 0.01, *, rng: Rng = None) -> Array:
    """W ~ N(0, std^2), and 0 in a part `sparsity` of each column, what feeds one output.

    >>> (sparse((10, 2), 0.8, rng=0) == 0).sum(axis=0)
    array([8, 8])

    References:
        J. Martens (2010), Deep learning via Hessian-free optimization.
    """
    if len(x) != 2 or not 0 <= sparsity <= 1:
        raise OptionError(f"init.sparse({x}, {sparsity})", "two axes, and a part from 0 to 1")
    generator = stream(rng)
    y = generator.standard_normal(x) * std
    none = math.ceil(sparsity * x[0])
    order = generator.random(x).argsort(axis=0)[:none]
    np.put_along_axis(y, order, 0.0, axis=0)
    return y


# ------------------------------------------------------------------ by name


def he(rng: Rng, fan_in: int, fan_out: int) -> Array:
    """`he_normal` of a matrix `[fan_in, fan_out]`.

    >>> bool(abs(he(0, 400, 400).std() - (2 / 400) ** 0.5) < 1e-3)
    True
    """
    return np.asarray(he_normal((fan_in, fan_out), rng=rng))


def xavier(rng: Rng, fan_in: int, fan_out: int) -> Array:
    """`xavier_uniform` of a matrix `[fan_in, fan_out]`.

    >>> bool(np.abs(xavier(0, 100, 50)).max() <= (6 / 150) ** 0.5)
    True
    """
    return np.asarray(xavier_uniform((fan_in, fan_out), rng=rng))


RULES: dict[str, Callable[..., Any]] = {
    "he": he_normal,
    "xavier": xavier_uniform,
    "he_normal": he_normal,
    "he_uniform": he_uniform,
    "xavier_normal": xavier_normal,
    "xavier_uniform": xavier_uniform,
    "lecun_normal": lecun_normal,
    "lecun_uniform": lecun_uniform,
    "orthogonal": orthogonal,
}


def draw(rule: str, rng: Rng, fan_in: int, fan_out: int) -> Any:
    """Weights `[fan_in, fan_out]` by the name of the rule: `he`, `xavier`, `orthogonal`, ..."""
    if not isinstance(rule, str) or rule not in RULES:
        raise UnknownNameError(
            f"Linear(init={rule!r})", "no such rule",
            operands=[("known", verbatim(", ".join(RULES)))], fix="init='he' or 'xavier'",
        )  # fmt: skip
    return RULES[rule]((fan_in, fan_out), rng=rng)
