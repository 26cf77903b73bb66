"""Kin of Adam: NAdam, RAdam and Lion."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np

from wengert.compile.live import apply

from .base import Flat, Group, check
from .rms import Decayed, both_betas

__all__ = ["Lion", "NAdam", "RAdam"]


class NAdam(Decayed):
    """Adam with Nesterov's look ahead.

        g <- dL/dp + weight_decay * p
        mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2),     P_t = mu_1 .. mu_t
        m <- beta1 * m + (1 - beta1) * g
        v <- beta2 * v + (1 - beta2) * g^2
        m^ = mu_(t+1) m / (1 - P_(t+1)) + (1 - mu_t) g / (1 - P_t)
        p <- p - lr * m^ / (sqrt(v / (1 - beta2^t)) + eps)

    Args:
        parameters: the tensors to train.
        lr: the learning rate, at least 0.
        betas: how much of the two running means to keep, each in [0, 1).
        eps: keeps the quotient finite; at least 0.
        weight_decay: the strength of the penalty, at least 0.
        momentum_decay: how fast mu_t rises, at least 0.
        maximize: climb instead, as if the gradients had the other sign.

    Example:
        >>> import wengert as wg
        >>> w = wg.tensor([1.0, -2.0], requires_grad=True)
        >>> optimizer = NAdam([w], lr=0.1)
        >>> (w * w).sum().backward(); optimizer.step()
        >>> bool(w.numpy()[0] < 1 and w.numpy()[1] > -2)
        True

    References:
        T. Dozat (2016), Incorporating Nesterov Momentum into Adam.
    """

    names = ("mean", "square")

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: float = 2e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            parameters,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            momentum_decay=momentum_decay,
            maximize=maximize,
        )

    def checked(self, options: dict[str, Any]) -> dict[str, Any]:
        o = super().checked(options)
        o["betas"] = both_betas(self._owner, o["betas"])
        o["momentum_decay"] = check(
            self._owner, "momentum_decay", o["momentum_decay"], fix="momentum_decay=4e-3"
        )
        return o

    def update(self, o: Group, t: int, g: Flat, p: Flat, scratch: Flat, *states: Any) -> None:
        self.penalty(o, g, p)
        m, v = states
        beta1, beta2 = o.betas
        mu = apply(momentum, beta1, o.momentum_decay, t)
        product = apply(momenta_product, beta1, o.momentum_decay, t)
        after = beta1 * (1 - 0.5 * 0.96 ** ((t + 1) * o.momentum_decay))
        m *= beta1
        np.multiply(g, 1 - beta1, out=scratch)
        m += scratch
        v *= beta2
        np.multiply(g, g, out=scratch)
        scratch *= 1 - beta2
        v += scratch
        np.divide(v, 1 - beta2**t, out=scratch)
        np.sqrt(scratch, out=scratch)
        scratch += o.eps
        g *= (1 - mu) / (1 - product)
        g += m * (after / (1 - product * after))
        g /= scratch
        g *= o.lr


@lru_cache(maxsize=64)
def momenta(beta1: float, decay: float, t: int) -> tuple[float, float]:
    """mu_t and the product mu_1 .. mu_t; once for all parameters of a step."""
    steps = beta1 * (1 - 0.5 * 0.96 ** (np.arange(1, t + 1) * decay))
    with np.errstate(under="ignore"):
        return float(steps[-1]), float(np.prod(steps))


def momentum(beta1: float, decay: float, t: int) -> float:
    return momenta(beta1, decay, t)[0]


def momenta_product(beta1: float, decay: float, t: int) -> float:
    return momenta(beta1, decay, t)[1]


class RAdam(Decayed):
    """Adam that begins as SGD with momentum, until its running means can be trusted.

        g, m, v as in Adam;   m^ = m / (1 - beta1^t)
        rho_inf = 2 / (1 - beta2) - 1,   rho_t = rho_inf - 2 t beta2^t / (1 - beta2^t)
        r = sqrt((rho_t - 4) (rho_t - 2) rho_inf / ((rho_inf - 4) (rho_inf - 2) rho_t))
        p <- p - lr * m^ r sqrt(1 - beta2^t) / (sqrt(v) + eps)      if rho_t > 5
        p <- p - lr * m^                                            otherwise

    Args:
        parameters: the tensors to train.
        lr: the learning rate, at least 0.
        betas: how much of the two running means to keep, each in [0, 1).
        eps: keeps the quotient finite; at least 0.
        weight_decay: the strength of the penalty, at least 0.
        maximize: climb instead, as if the gradients had the other sign.

    Example:
        >>> import wengert as wg
        >>> w = wg.tensor([1.0, -2.0], requires_grad=True)
        >>> optimizer = RAdam([w], lr=0.25)
        >>> (w * w).sum().backward(); optimizer.step()
        >>> w.numpy().round(6)
        array([ 0.5, -1. ])

    References:
        L. Liu et al. (2020), On the Variance of the Adaptive Learning Rate and Beyond,
        arXiv:1908.03265.
    """

    names = ("mean", "square")

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            parameters, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, maximize=maximize
        )

    def checked(self, options: dict[str, Any]) -> dict[str, Any]:
        o = super().checked(options)
        o["betas"] = both_betas(self._owner, o["betas"])
        return o

    def update(self, o: Group, t: int, g: Flat, p: Flat, scratch: Flat, *states: Any) -> None:
        self.penalty(o, g, p)
        m, v = states
        beta1, beta2 = o.betas
        m *= beta1
        np.multiply(g, 1 - beta1, out=scratch)
        m += scratch
        v *= beta2
        g *= g
        g *= 1 - beta2
        v += g
        left = 1 - beta2**t
        most = 2 / (1 - beta2) - 1
        rho = most - 2 * t * beta2**t / left
        np.multiply(m, o.lr / (1 - beta1**t), out=g)
        if rho > 5:
            r = (rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho)
            np.sqrt(v, out=scratch)
            scratch += o.eps
            g /= scratch
            g *= apply(math.sqrt, r * left)


class Lion(Decayed):
    """Steps of one size everywhere: the sign of a mean of gradients.

        p <- p - lr * (sign(beta1 * m + (1 - beta1) * g) + weight_decay * p)
        m <- beta2 * m + (1 - beta2) * g

    Args:
        parameters: the tensors to train.
        lr: the length of a step in every direction, at least 0; a tenth of Adam's is usual.
        betas: each in [0, 1).
        weight_decay: the relative shrinking per unit of learning rate, at least 0.
        maximize: climb instead, as if the gradients had the other sign.

    Example:
        >>> import wengert as wg
        >>> w = wg.tensor([1.0, -2.0], requires_grad=True)
        >>> optimizer = Lion([w], lr=0.5)
        >>> (w * w).sum().backward(); optimizer.step()
        >>> w.numpy()
        array([ 0.5, -1.5])

    References:
        X. Chen et al. (2023), Symbolic Discovery of Optimization Algorithms, arXiv:2302.06675.
    """

    names = ("mean",)

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: float = 1e-4,
        *,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            parameters, lr=lr, betas=betas, weight_decay=weight_decay, maximize=maximize
        )

    def checked(self, options: dict[str, Any]) -> dict[str, Any]:
        o = super().checked(options)
        o["betas"] = both_betas(self._owner, o["betas"], "betas=(0.9, 0.99)")
        return o

    def update(self, o: Group, t: int, g: Flat, p: Flat, scratch: Flat, *states: Any) -> None:
        (m,) = states
        beta1, beta2 = o.betas
        np.multiply(m, beta1, out=scratch)
        m *= beta2
        m += g * (1 - beta2)
        g *= 1 - beta1
        g += scratch
        np.sign(g, out=g)
        if o.weight_decay:
            p *= o.weight_decay
            g += p
        g *= o.lr
