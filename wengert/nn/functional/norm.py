"""Normalisation. Channels come last."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from wengert.errors import OptionError, ShapeError
from wengert.hollow import Hollow, busy
from wengert.ops.norm import Normalize
from wengert.trace import EAGER, Tensor, bind, looked, make, no_grad
from wengert.transforms.vmap import VMap
from wengert.types import RAW, dtype_of, shape_of

from .conv import given

__all__ = ["batch_norm", "group_norm", "instance_norm", "layer_norm", "normalize", "rms_norm"]


def scaled(what: str, y: Any, weight: Any, bias: Any, shape: tuple[int, ...]) -> Any:
    """y weight + bias, where they are given, of this shape."""
    for name, v in (("weight", weight), ("bias", bias)):
        if v is not None and shape_of(v) != shape:
            raise ShapeError(
                f"{what}({name})",
                f"{name} has the shape of the axes that are normalised or scaled, {list(shape)}",
                operands=[(name, v)],
            )
    if weight is not None:
        y = y * weight
    return y if bias is None else y + bias


def last_axes(what: str, x: Any, shape: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(the axes that `shape` stands for, `shape` as a tuple)."""
    shape = (int(shape),) if isinstance(shape, int | np.integer) else tuple(map(int, shape))
    have = shape_of(x)
    if not shape or have[-len(shape) :] != shape:
        raise ShapeError(
            f"{what}(x, shape={shape})",
            "the last axes of x are normalised, and shape says how long they are",
            operands=[("x", x)],
        )
    return tuple(range(len(have) - len(shape), len(have))), shape


def normalized(op: Normalize, x: Any) -> Any:
    """op(x); half numbers are squared and summed in float32, as float16 ends at 65504."""
    if dtype_of(x) != np.float16:
        return bind(op, x)
    return bind(op, x.astype(np.float32)).astype(np.float16)


def layer_norm(x: Any, shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """Each sample is centred and scaled on its own, over the last axes.

        y = (x - mean x) / sqrt(var x + eps) * weight + bias

    Shapes: x `[.., *shape]`; weight and bias of `shape`, or None.

    Args:
        shape: the length of the last axis, or a tuple with those of the last axes.
        eps: keeps the quotient finite where all numbers are equal; y is 0 there.

    Raises:
        ShapeError: x does not end in `shape`, or weight or bias has another.

    Example:
        >>> np.round(layer_norm(np.array([[1.0, 2.0, 3.0]]), 3), 4)
        array([[-1.2247,  0.    ,  1.2247]])

    References:
        J. Ba, J. Kiros, G. Hinton (2016), Layer Normalization, arXiv:1607.06450.
    """
    x = given("layer_norm", x)
    axes, shape = last_axes("layer_norm", x, shape)
    return scaled("layer_norm", normalized(Normalize(axes, eps), x), weight, bias, shape)


def rms_norm(x: Any, shape: Any, weight: Any = None, eps: float | None = None) -> Any:
    """Each sample is divided by its root mean square over the last axes.

        y = x / sqrt(mean x^2 + eps) * weight

    Shapes: x `[.., *shape]`; weight of `shape`, or None.

    Args:
        eps: None for that of x's dtype, 2.2e-16 in float64 and 1.2e-7 in float32.

    Raises:
        ShapeError: as `layer_norm`.

    Example:
        >>> np.round(rms_norm(np.array([3.0, 4.0]), 2), 4)
        array([0.8485, 1.1314])

    References:
        B. Zhang, R. Sennrich (2019), Root Mean Square Layer Normalization, arXiv:1910.07467.
    """
    x = given("rms_norm", x)
    axes, shape = last_axes("rms_norm", x, shape)
    if eps is None:
        dtype = dtype_of(x)
        eps = float(np.finfo(dtype).eps) if dtype is not None and dtype.kind == "f" else 0.0
    return scaled("rms_norm", normalized(Normalize(axes, eps, False), x), weight, None, shape)


def group_norm(x: Any, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """The channels are cut into groups, and each sample is normalised over each group and space.

        y = (x - mean x) / sqrt(var x + eps) * weight + bias

    Shapes: x `[N, .., C]`, channels last; weight and bias `[C]`, or None.

    Raises:
        OptionError: the channels cannot be cut into so many groups.

    Example:
        >>> np.round(group_norm(np.array([[1.0, 2.0, 5.0, 7.0]]), 2), 3)
        array([[-1.,  1., -1.,  1.]])

    References:
        Y. Wu, K. He (2018), Group Normalization, arXiv:1803.08494.
    """
    x = given("group_norm", x)
    s = shape_of(x)
    if len(s) < 2:
        raise ShapeError("group_norm(x)", "x is [N, .., C], channels last", operands=[("x", x)])
    c = s[-1]
    if not isinstance(groups, int | np.integer) or groups < 1 or c % groups:
        fits = [g for g in range(1, c + 1) if c % g == 0]
        raise OptionError(
            f"group_norm(groups={groups!r})",
            f"{c} channels are cut into groups of equal size: {', '.join(map(str, fits))}",
        )
    groups = int(groups)
    cut = x.reshape((s[0], math.prod(s[1:-1]), groups, c // groups))
    y = normalized(Normalize((1, 3), eps), cut).reshape(s)
    return scaled("group_norm", y, weight, bias, (c,))


def instance_norm(x: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """Each channel of each sample is normalised over space.

        y = (x - mean x) / sqrt(var x + eps) * weight + bias

    Shapes: x `[N, .., C]`, channels last; weight and bias `[C]`, or None.

    Example:
        >>> np.round(instance_norm(np.array([[[1.0, 5.0], [2.0, 7.0]]])), 3)
        array([[[-1., -1.],
                [ 1.,  1.]]])

    References:
        D. Ulyanov, A. Vedaldi, V. Lempitsky (2016), Instance Normalization, arXiv:1607.08022.
    """
    s = shape_of(x)
    if len(s) < 3:
        raise ShapeError(
            "instance_norm(x)", "x is [N, .., C] with space in between", operands=[("x", x)]
        )
    y = normalized(Normalize(tuple(range(1, len(s) - 1)), eps), x)
    return scaled("instance_norm", y, weight, bias, s[-1:])


def batch_norm(
    x: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """Each channel is normalised over the batch and space; outside training by running statistics.

        y = (x - mean x) / sqrt(var x + eps) * weight + bias
        running <- (1 - momentum) running + momentum (mean x, var x n / (n - 1))    in training

    The running statistics are written in place and take no part in derivatives.

    Shapes: x `[N, .., C]`, channels last; everything else `[C]`, or None.

    Args:
        running_mean, running_var: arrays or tensors; None: the batch's own, always.
        training: take the statistics from x, and update the running ones.
        momentum: the weight of the new statistics.

    Raises:
        ShapeError: x has no batch axis; in training, a channel has one number only, and no
            variance.
        UnsupportedError: an update under `vmap`, where every lane has statistics of its own.

    Example:
        >>> mean, var = np.zeros(1), np.ones(1)
        >>> np.round(batch_norm(np.array([[1.0], [3.0]]), mean, var, training=True), 3)
        array([[-1.],
               [ 1.]])
        >>> mean, var
        (array([0.2]), array([1.1]))

    References:
        S. Ioffe, C. Szegedy (2015), Batch Normalization, arXiv:1502.03167.
    """
    x = given("batch_norm", x)
    s = shape_of(x)
    if len(s) < 2:
        raise ShapeError("batch_norm(x)", "x is [N, .., C], channels last", operands=[("x", x)])
    if not training and running_mean is not None and running_var is not None:
        # a bare rsqrt: the statistics are constants here
        root = np.sqrt(running_var + eps)
        return scaled("batch_norm", (x - running_mean) / root, weight, bias, s[-1:])
    n = math.prod(s[:-1])
    if training and n < 2:
        raise ShapeError(
            "batch_norm(x, training=True)",
            "a channel needs more than one number to have a variance",
            operands=[("x", x)],
        )
    axes = tuple(range(len(s) - 1))
    y = normalized(Normalize(axes, eps), x)
    if training and running_mean is not None and running_var is not None:
        update(x, axes, n, running_mean, running_var, momentum)
    return scaled("batch_norm", y, weight, bias, s[-1:])


def update(x: Any, axes: Any, n: int, mean: Any, var: Any, momentum: float) -> None:
    """Move the running statistics towards those of x."""
    a = looked(x)
    while isinstance(a, Tensor):
        if isinstance(a.level, VMap) and a.node is not None:
            raise ShapeError(
                "batch_norm(x, training=True) under vmap",
                "every lane has statistics of its own, and the running ones are shared",
                operands=[("x", x)],
                fix="running_mean=None, running_var=None",
            )
        a = looked(a.data)
    if isinstance(a, Hollow):
        busy(a.nbytes)  # c
        return
    with no_grad():
        if isinstance(a, RAW):
            now = np.add.reduce(a, axis=axes) / n
            c = a - now
            spread = np.einsum("ij,ij->j", *(2 * (c.reshape(n, -1),))) / (n - 1)
        else:  # while a program is recorded
            a = make(a, None, EAGER)
            now = np.sum(a, axes) / n
            spread = np.sum(np.square(a - now), axes) / (n - 1)
        for old, new in ((mean, now), (var, spread)):
            old *= 1 - momentum
            old += (momentum * new).astype(old.dtype)


def normalize(x: Any, p: float = 2.0, axis: int = -1, eps: float = 1e-12) -> Any:
    """Vectors of length 1 along an axis.

        y = x / max(|x|_p, eps)

    Example:
        >>> normalize(np.array([3.0, 4.0]))
        array([0.6, 0.8])
    """
    size = np.linalg.norm(x, p, axis=axis, keepdims=True)
    return x / np.maximum(size, eps)
