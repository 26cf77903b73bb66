"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from wengert.errors import OptionError
from wengert.trace import Tensor

from .base import Flat, Optimizer, check

__all__ = ["SGD"]


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum if asked.

        g <- dL/dp + weight_decay * p
        v <- momentum * v + g                   (v = 0 at first)
        p <- p - lr * v                         or, with nesterov,  p - lr * (g + momentum * v)

    Args:
        parameters: the tensors to train.
        lr: the learning rate, at least 0.
        momentum: how much of the last step to keep, in [0, 1).
        nesterov: look ahead along the momentum.
        weight_decay: the strength of the penalty weight_decay / 2 * |p|^2, at least 0.

    Raises:
        OptionError: a hyperparameter out of its range.

    Example:
        >>> import wengert as wg
        >>> w = wg.tensor([1.0, -2.0], requires_grad=True)
        >>> optimizer = SGD([w], lr=0.25)
        >>> (w * w).sum().backward()
        >>> optimizer.step()
        >>> w
        tensor([ 0.5, -1. ], requires_grad=True)

    References:
        B. Polyak (1964), Some methods of speeding up the convergence of iteration methods.
        I. Sutskever et al. (2013), On the importance of initialization and momentum in deep
        learning.
    """

    states = 1

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 0.01,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        self.momentum = check("SGD", "momentum", momentum, below=1.0, fix="momentum=0.9")
        self.weight_decay = check("SGD", "weight_decay", weight_decay, fix="weight_decay=1e-4")
        self.nesterov = nesterov
        if nesterov and not self.momentum:
            raise OptionError(
                "SGD(nesterov=True)",
                "looking ahead along the momentum needs momentum",
                fix="SGD(parameters, lr, momentum=0.9, nesterov=True)",
            )
        self.states = 1 if self.momentum else 0  # plain SGD remembers nothing
        super().__init__(parameters, lr)

    @property
    def reads_values(self) -> bool:
        return self.weight_decay != 0

    def update(self, t: int, g: Flat, p: Flat, scratch: Flat, *states: Any) -> None:
        if self.weight_decay:
            p *= self.weight_decay
            g += p
        if self.momentum:
            (v,) = states
            v *= self.momentum
            v += g
            if self.nesterov:
                np.multiply(v, self.momentum, out=scratch)
                g += scratch
            else:
                np.multiply(v, self.lr, out=g)
                return
        g *= self.lr
