"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from wengert.errors import OptionError

from .base import Flat, Group, Optimizer, check

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
        maximize: climb instead, as if the gradients had the other sign.

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

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: float = 0.01,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            parameters,
            lr=lr,
            momentum=momentum,
            nesterov=nesterov,
            weight_decay=weight_decay,
            maximize=maximize,
        )

    def checked(self, options: dict[str, Any]) -> dict[str, Any]:
        o = super().checked(options)
        o["momentum"] = check("SGD", "momentum", o["momentum"], below=1.0, fix="momentum=0.9")
        o["weight_decay"] = check("SGD", "weight_decay", o["weight_decay"], fix="weight_decay=1e-4")
        if o["nesterov"] and not o["momentum"]:
            raise OptionError(
                "SGD(nesterov=True)",
                "looking ahead along the momentum needs momentum",
                fix="SGD(parameters, lr, momentum=0.9, nesterov=True)",
            )
        return o

    def remembers(self, group: Group) -> tuple[str, ...]:
        return ("velocity",) if group.momentum else ()  # plain SGD remembers nothing

    def reads_values(self, group: Group) -> bool:
        return bool(group.weight_decay)

    def update(self, o: Group, t: int, g: Flat, p: Flat, scratch: Flat, *states: Any) -> None:
        if o.weight_decay:
            p *= o.weight_decay
            g += p
        if states:
            (v,) = states
            v *= o.momentum
            v += g
            if o.nesterov:
                np.multiply(v, o.momentum, out=scratch)
                g += scratch
            else:
                np.multiply(v, o.lr, out=g)
                return
        g *= o.lr
