"""Adam, and Adam with decoupled weight decay."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np

from wengert.trace import Tensor

from .base import Flat, Optimizer, check

__all__ = ["Adam", "AdamW"]


class Adam(Optimizer):
    """Adam: a step size for every number, from running means of the gradient and of its square.

        g <- dL/dp + weight_decay * p
        m <- beta1 * m + (1 - beta1) * g
        v <- beta2 * v + (1 - beta2) * g^2
        p <- p - lr * m^ / (sqrt(v^) + eps),    m^ = m / (1 - beta1^t),  v^ = v / (1 - beta2^t)

    Args:
        parameters: the tensors to train.
        lr: the learning rate, at least 0.
        betas: how much of the two running means to keep, each in [0, 1).
        eps: keeps the quotient finite where v is 0; at least 0.
        weight_decay: the strength of the penalty weight_decay / 2 * |p|^2, at least 0.

    Raises:
        OptionError: a hyperparameter out of its range.

    Example:
        >>> import wengert as wg
        >>> w = wg.tensor([1.0, -2.0], requires_grad=True)
        >>> optimizer = Adam([w], lr=0.5)
        >>> (w * w).sum().backward()
        >>> optimizer.step()                    # the first step has length lr in every direction
        >>> w.numpy().round(6)
        array([ 0.5, -1.5])

    References:
        D. Kingma, J. Ba (2015), Adam: A Method for Stochastic Optimization, arXiv:1412.6980.
    """

    states = 2
    decoupled: ClassVar[bool] = False

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        name = type(self).__name__
        self.betas = (
            check(name, "beta1", betas[0], below=1.0, fix="betas=(0.9, 0.999)"),
            check(name, "beta2", betas[1], below=1.0, fix="betas=(0.9, 0.999)"),
        )
        self.eps = check(name, "eps", eps, fix="eps=1e-8")
        self.weight_decay = check(name, "weight_decay", weight_decay, fix="weight_decay=0.01")
        super().__init__(parameters, lr)

    @property
    def reads_values(self) -> bool:
        return self.weight_decay != 0

    def update(self, t: int, g: Flat, p: Flat, scratch: Flat, *states: Any) -> None:
        m, v = states
        beta1, beta2 = self.betas
        if self.weight_decay and not self.decoupled:
            p *= self.weight_decay
            g += p
        # the rows hold m / (1 - beta1) and v / (1 - beta2): two passes over memory fewer
        m *= beta1
        m += g
        v *= beta2
        g *= g
        v += g
        # m^ / (sqrt(v^) + eps), with both sides of the quotient over `root`
        root = math.sqrt((1 - beta2) / (1 - beta2**t))
        np.sqrt(v, out=scratch)
        scratch += self.eps / root
        np.divide(m, scratch, out=g)
        g *= self.lr * (1 - beta1) / (1 - beta1**t) / root
        if self.weight_decay and self.decoupled:
            p *= self.lr * self.weight_decay
            g += p


class AdamW(Adam):
    """Adam whose weight decay is a shrinking of its own, not a part of the gradient.

        p <- (1 - lr * weight_decay) * p        and then Adam's step for the plain gradient

    The penalty is then not divided by sqrt(v^), so that it acts on every parameter alike.

    Args:
        parameters: the tensors to train.
        lr: the learning rate, at least 0.
        betas: how much of the two running means to keep, each in [0, 1).
        eps: keeps the quotient finite where v is 0; at least 0.
        weight_decay: the relative shrinking per unit of learning rate, at least 0.

    Raises:
        OptionError: a hyperparameter out of its range.

    Example:
        >>> import wengert as wg
        >>> w = wg.tensor([1.0, -2.0], requires_grad=True)
        >>> optimizer = AdamW([w], lr=0.5, weight_decay=0.1)
        >>> (w * w).sum().backward()
        >>> optimizer.step()
        >>> w.numpy().round(6)
        array([ 0.45, -1.4 ])

    References:
        I. Loshchilov, F. Hutter (2019), Decoupled Weight Decay Regularization, arXiv:1711.05101.
    """

    decoupled = True

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(parameters, lr, betas=betas, eps=eps, weight_decay=weight_decay)
