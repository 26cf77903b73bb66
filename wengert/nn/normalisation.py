"""Layers that give what passes a mean of 0 and a variance of 1, and then a scale and a shift."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from wengert.create import tensor
from wengert.errors import OptionError, ShapeError
from wengert.trace import no_grad
from wengert.types import shape_of

from . import functional as F
from .functional.conv import count, given
from .module import Module, Parameter

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
    "RMSNorm",
]


class _Affine(Module):
    """What the layers share: y = normalised * weight + bias."""

    def _scale(self, shape: Any, affine: bool, bias: bool, dtype: Any) -> None:
        self.weight = Parameter(np.ones(shape, dtype)) if affine else None
        self.bias = Parameter(np.zeros(shape, dtype)) if affine and bias else None


class LayerNorm(_Affine):
    """Normalises each example over its last axes.

        y = (x - mean x) / sqrt(var x + eps) * weight + bias

    Shapes: x `[..., *shape]`, weight and bias `shape`, y as x.

    Args:
        shape: the lengths of the last axes; an integer for one axis.
        eps: what is added to the variance.
        affine: whether there are a weight, which starts at 1, and a bias, which starts at 0.
        bias: whether there is a bias beside the weight.
        dtype: of both.

    Raises:
        ShapeError: the last axes of x have other lengths.

    Example:
        >>> LayerNorm(4)(np.array([1.0, 2.0, 3.0, 4.0])).numpy().round(3)
        array([-1.342, -0.447,  0.447,  1.342])

    References:
        J. Ba, J. Kiros, G. Hinton (2016), Layer Normalization, arXiv:1607.06450.
    """

    def __init__(
        self,
        shape: int | tuple[int, ...],
        eps: float = 1e-5,
        *,
        affine: bool = True,
        bias: bool = True,
        dtype: Any = np.float32,
    ) -> None:
        given = shape if isinstance(shape, tuple | list) else (shape,)
        self.shape = tuple([count(type(self).__name__, "shape", n) for n in given])
        self.eps = eps
        self._scale(self.shape, affine, bias, dtype)

    def forward(self, x: Any) -> Any:
        return F.layer_norm(x, self.shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        shape = str(self.shape[0]) if len(self.shape) == 1 else str(self.shape)
        parts = [shape] + ([] if self.eps == 1e-5 else [f"eps={self.eps}"])
        if self.weight is None:
            parts.append("affine=False")
        elif self.bias is None and not isinstance(self, RMSNorm):
            parts.append("bias=False")
        return ", ".join(parts)


class RMSNorm(LayerNorm):
    """Divides each example by its root mean square over the last axes.

        y = x / sqrt(mean x^2 + eps) * weight

    Shapes and errors: those of `LayerNorm`.

    Example:
        >>> RMSNorm(2, eps=0.0)(np.array([3.0, 4.0])).numpy().round(3)
        array([0.849, 1.131])

    References:
        B. Zhang, R. Sennrich (2019), Root Mean Square Layer Normalization, arXiv:1910.07467.
    """

    def __init__(
        self,
        shape: int | tuple[int, ...],
        eps: float = 1e-5,
        *,
        affine: bool = True,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__(shape, eps, affine=affine, bias=False, dtype=dtype)

    def forward(self, x: Any) -> Any:
        return F.rms_norm(x, self.shape, self.weight, self.eps)


class _Channels(_Affine):
    """What the layers over channels share: the last axis of x has `n` of them."""

    n: int
    spatial: ClassVar[tuple[int, ...]]  # how many axes may stand between examples and channels

    def _check(self, x: Any) -> Any:
        x = given(type(self).__name__, x)
        s = shape_of(x)
        if len(s) - 2 not in self.spatial:
            axes = " or ".join(str(n + 2) for n in self.spatial)
            raise ShapeError(f"{self!r}(x)", f"x has {axes} axes", operands=[("x", x)])
        if s[-1] != self.n:
            order = (0, *range(2, len(s)), 1)
            fix = f"channels come last: {{x}}.transpose{order}" if s[1] == self.n else None
            raise ShapeError(
                f"{self!r}(x)", f"the last axis of x, its channels, has the length {self.n}",
                operands=[("x", x, f"axis -1 is {s[-1]}")], fix=fix,
            )  # fmt: skip
        return x


class BatchNorm(_Channels):
    """What BatchNorm1d, 2d and 3d share."""

    def __init__(
        self,
        n: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        *,
        affine: bool = True,
        track_running_stats: bool = True,
        dtype: Any = np.float32,
    ) -> None:
        self.n = n = count(type(self).__name__, "n", n)
        self.eps, self.momentum = eps, momentum
        self._scale(n, affine, True, dtype)
        self.running_mean = self.running_var = self.num_batches_tracked = None
        if track_running_stats:
            self.running_mean = tensor(np.zeros(n, dtype))
            self.running_var = tensor(np.ones(n, dtype))
            self.num_batches_tracked = tensor(0)

    def forward(self, x: Any) -> Any:
        x = self._check(x)
        momentum = self.momentum
        if self.training and self.num_batches_tracked is not None:
            with no_grad():
                self.num_batches_tracked += 1
            if momentum is None:
                momentum = 1 / int(self.num_batches_tracked)
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias,
            training=self.training, momentum=momentum or 0.0, eps=self.eps,
        )  # fmt: skip

    def extra_repr(self) -> str:
        parts = [str(self.n)]
        for name, usual in (("eps", 1e-5), ("momentum", 0.1)):
            value = getattr(self, name)
            if value != usual:
                parts.append(f"{name}={value}")
        if self.weight is None:
            parts.append("affine=False")
        if self.running_mean is None:
            parts.append("track_running_stats=False")
        return ", ".join(parts)


class BatchNorm1d(BatchNorm):
    """Batch normalisation of `[N, C]` or `[N, W, C]`; see `BatchNorm2d`.

    Example:
        >>> BatchNorm1d(3)(np.array([[1.0, 2.0, 3.0], [3.0, 6.0, 3.0]])).numpy().round(2)
        array([[-1., -1.,  0.],
               [ 1.,  1.,  0.]])
    """

    spatial = (0, 1)


class BatchNorm2d(BatchNorm):
    """Normalises each channel over the batch and over its places.

        y = (x - mean x) / sqrt(var x + eps) * weight + bias

    In training the mean and the variance are those of the batch, and the running ones move towards
    them; `eval()` takes the running ones.

    Shapes: x and y `[N, H, W, n]`, all others `[n]`. Channels come last.

    Args:
        n: channels.
        eps: what is added to the variance.
        momentum: running = (1 - momentum) running + momentum new; None for the mean of all batches.
        affine: whether there are a weight, which starts at 1, and a bias, which starts at 0.
        track_running_stats: whether there are running values; if not, `eval()` too normalises
            with those of the batch.
        dtype: of all of them.

    Raises:
        ShapeError: x has not n channels in its last axis, or one value for each of them.

    Example:
        >>> norm = BatchNorm2d(3)
        >>> norm(np.ones((2, 4, 4, 3), np.float32)).shape
        (2, 4, 4, 3)
        >>> norm.running_mean.numpy().round(2), int(norm.num_batches_tracked)
        (array([0.1, 0.1, 0.1], dtype=float32), 1)

    References:
        S. Ioffe, C. Szegedy (2015), Batch Normalization, arXiv:1502.03167.
    """

    spatial = (2,)


class BatchNorm3d(BatchNorm):
    """Batch normalisation of `[N, D, H, W, C]`; see `BatchNorm2d`.

    Example:
        >>> BatchNorm3d(2)(np.ones((2, 2, 2, 2, 2), np.float32)).shape
        (2, 2, 2, 2, 2)
    """

    spatial = (3,)


class GroupNorm(_Channels):
    """Normalises each example over its places and over groups of channels.

        y = (x - mean x) / sqrt(var x + eps) * weight + bias

    Shapes: x and y `[N, *places, n]`, weight and bias `[n]`. Channels come last.

    Args:
        groups: into how many the channels are cut; 1 makes a layer norm of it.
        n: channels, a multiple of groups.
        eps, affine, dtype: as in `LayerNorm`.

    Raises:
        OptionError: n is not a multiple of groups.
        ShapeError: x has not n channels in its last axis.

    Example:
        >>> GroupNorm(2, 4)(np.array([[1.0, 3.0, 5.0, 5.0]])).numpy().round(2)
        array([[-1.,  1.,  0.,  0.]])

    References:
        Y. Wu, K. He (2018), Group Normalization, arXiv:1803.08494.
    """

    spatial = (0, 1, 2, 3)

    def __init__(
        self,
        groups: int,
        n: int,
        eps: float = 1e-5,
        *,
        affine: bool = True,
        dtype: Any = np.float32,
    ) -> None:
        groups, n = count("GroupNorm", "groups", groups, 1), count("GroupNorm", "n", n)
        if n % groups:
            raise OptionError(
                f"GroupNorm({groups}, {n})", "the number of channels is a multiple of groups"
            )
        self.groups, self.n, self.eps = groups, n, eps
        self._scale(n, affine, True, dtype)

    def forward(self, x: Any) -> Any:
        x = self._check(x)
        return F.group_norm(x, self.groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        parts = [str(self.groups), str(self.n)] + ([] if self.eps == 1e-5 else [f"eps={self.eps}"])
        return ", ".join(parts + (["affine=False"] if self.weight is None else []))


class InstanceNorm(_Channels):
    """What InstanceNorm1d, 2d and 3d share."""

    def __init__(
        self, n: int, eps: float = 1e-5, *, affine: bool = False, dtype: Any = np.float32
    ) -> None:
        self.n, self.eps = count(type(self).__name__, "n", n), eps
        self._scale(n, affine, True, dtype)

    def forward(self, x: Any) -> Any:
        x = self._check(x)
        return F.instance_norm(x, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        parts = [str(self.n)] + ([] if self.eps == 1e-5 else [f"eps={self.eps}"])
        return ", ".join(parts + (["affine=True"] if self.weight is not None else []))


class InstanceNorm1d(InstanceNorm):
    """Instance normalisation of `[N, W, C]`; see `InstanceNorm2d`."""

    spatial = (1,)


class InstanceNorm2d(InstanceNorm):
    """Normalises each channel of each example over its places.

        y = (x - mean x) / sqrt(var x + eps) * weight + bias

    Shapes: x and y `[N, H, W, n]`, weight and bias `[n]`. Channels come last.

    Args:
        n: channels.
        eps, affine, dtype: as in `LayerNorm`; without a weight unless asked for.

    Raises:
        ShapeError: x has not n channels in its last axis.

    Example:
        >>> x = np.arange(4.0).reshape(1, 2, 2, 1)
        >>> InstanceNorm2d(1)(x).ravel().round(2)
        array([-1.34, -0.45,  0.45,  1.34])

    References:
        D. Ulyanov, A. Vedaldi, V. Lempitsky (2016), Instance Normalization, arXiv:1607.08022.
    """

    spatial = (2,)


class InstanceNorm3d(InstanceNorm):
    """Instance normalisation of `[N, D, H, W, C]`; see `InstanceNorm2d`."""

    spatial = (3,)
