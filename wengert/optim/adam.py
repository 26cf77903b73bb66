"""Adam, and Adam with decoupled weight decay."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np

from wengert.compile.live import apply

from .base import Flat, Group, Optimizer, check

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
        amsgrad: divide by the largest v^ so far (Reddi, Kale, Kumar 2018).
        maximize: climb instead, as if the gradients had the other sign.

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

    names = ("mean", "square")
    decoupled: ClassVar[bool] = False

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            parameters,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            amsgrad=amsgrad,
            maximize=maximize,
        )

    def checked(self, options: dict[str, Any]) -> dict[str, Any]:
        o = super().checked(options)
        name, fix = self._owner, "betas=(0.9, 0.999)"
        o["betas"] = (
            check(name, "beta1", o["betas"][0], below=1.0, fix=fix),
            check(name, "beta2", o["betas"][1], below=1.0, fix=fix),
        )
        o["eps"] = check(name, "eps", o["eps"], fix="eps=1e-8")
        o["weight_decay"] = check(name, "weight_decay", o["weight_decay"], fix="weight_decay=0.01")
        return o

    def remembers(self, group: Group) -> tuple[str, ...]:
        return ("mean", "square", "largest") if group.amsgrad else ("mean", "square")

    def reads_values(self, group: Group) -> bool:
        return bool(group.weight_decay)

    def update(self, o: Group, t: int, g: Flat, p: Flat, scratch: Flat, *states: Any) -> None:
        m, v = states[:2]
        beta1, beta2 = o.betas
        if o.weight_decay and not self.decoupled:
            p *= o.weight_decay
            g += p
        # the rows hold m / (1 - beta1) and v / (1 - beta2): two passes over memory fewer
        m *= beta1
        m += g
        v *= beta2
        g *= g
        v += g
        if o.amsgrad:
            v = np.maximum(states[2], v, out=states[2])
        # m^ / (sqrt(v^) + eps), with both sides of the quotient over `root`
        root = apply(math.sqrt, (1 - beta2) / (1 - beta2**t))
        np.sqrt(v, out=scratch)
        scratch += o.eps / root
        np.divide(m, scratch, out=g)
        g *= o.lr * (1 - beta1) / (1 - beta1**t) / root
        if o.weight_decay and self.decoupled:
            p *= o.lr * o.weight_decay
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
        amsgrad: divide by the largest v^ so far.
        maximize: climb instead, as if the gradients had the other sign.

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
        parameters: Iterable[Any],
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        amsgrad: bool = False,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            parameters,
            lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            amsgrad=amsgrad,
            maximize=maximize,
        )
