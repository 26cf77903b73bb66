"""Optimizers that divide by the size of past gradients: RMSprop, Adagrad, Adadelta, Adamax."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from .base import Flat, Group, Optimizer, check

__all__ = ["Adadelta", "Adagrad", "Adamax", "RMSprop"]


class Decayed(Optimizer):
    """What they share: weight decay as a part of the gradient, and its check."""

    def checked(self, options: dict[str, Any]) -> dict[str, Any]:
        o = super().checked(options)
        for name in ("weight_decay", "eps"):
            if name in o:
                o[name] = check(self._owner, name, o[name])
        return o

    def reads_values(self, group: Group) -> bool:
        return bool(group.weight_decay)

    @staticmethod
    def penalty(o: Group, g: Flat, p: Flat) -> None:
        """g <- g + weight_decay p; p may be overwritten."""
        if o.weight_decay:
            p *= o.weight_decay
            g += p


class RMSprop(Decayed):
    """The gradient over the root of a running mean of its square.

        g <- dL/dp + weight_decay * p
        v <- alpha * v + (1 - alpha) * g^2
        m <- alpha * m + (1 - alpha) * g                    with centered:  v^ = v - m^2, else v
        s <- g / (sqrt(v^) + eps)
        b <- momentum * b + s                               with momentum:  s = b
        p <- p - lr * s

    Args:
        parameters: the tensors to train.
        lr: the learning rate, at least 0.
        alpha: how much of the running means to keep, in [0, 1).
        eps: keeps the quotient finite; at least 0.
        weight_decay: the strength of the penalty weight_decay / 2 * |p|^2, at least 0.
        momentum: how much of the last step to keep, in [0, 1).
        centered: divide by the standard deviation instead of the root mean square.
        maximize: climb instead, as if the gradients had the other sign.

    Example:
        >>> import wengert as wg
        >>> w = wg.tensor([1.0, -2.0], requires_grad=True)
        >>> optimizer = RMSprop([w], lr=0.1)
        >>> (w * w).sum().backward(); optimizer.step()
        >>> w.numpy().round(6)
        array([ 0., -1.])

    References:
        T. Tieleman, G. Hinton (2012), Lecture 6.5: RMSprop, Neural Networks for Machine Learning.
        A. Graves (2013), Generating Sequences with Recurrent Neural Networks, arXiv:1308.0850.
    """

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: float = 0.01,
        *,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            parameters,
            lr=lr,
            alpha=alpha,
            eps=eps,
            weight_decay=weight_decay,
            momentum=momentum,
            centered=centered,
            maximize=maximize,
        )

    def checked(self, options: dict[str, Any]) -> dict[str, Any]:
        o = super().checked(options)
        o["alpha"] = check(self._owner, "alpha", o["alpha"], below=1.0, fix="alpha=0.99")
        o["momentum"] = check(self._owner, "momentum", o["momentum"], below=1.0, fix="momentum=0.9")
        return o

    def remembers(self, group: Group) -> tuple[str, ...]:
        names = ["square"]
        names += ["mean"] if group.centered else []
        return (*names, "velocity") if group.momentum else tuple(names)

    def update(self, o: Group, t: int, g: Flat, p: Flat, scratch: Flat, *states: Any) -> None:
        self.penalty(o, g, p)
        v = states[0]
        v *= o.alpha
        np.multiply(g, g, out=scratch)
        scratch *= 1 - o.alpha
        v += scratch
        if o.centered:
            m = states[1]
            m *= o.alpha
            np.multiply(g, 1 - o.alpha, out=scratch)
            m += scratch
            np.multiply(m, m, out=scratch)
            np.subtract(v, scratch, out=scratch)
            np.sqrt(scratch, out=scratch)
        else:
            np.sqrt(v, out=scratch)
        scratch += o.eps
        g /= scratch
        if o.momentum:
            b = states[-1]
            b *= o.momentum
            b += g
            np.multiply(b, o.lr, out=g)
        else:
            g *= o.lr


class Adagrad(Decayed):
    """The gradient over the root of the sum of all its squares.

        g <- dL/dp + weight_decay * p
        s <- s + g^2                                        (s = initial at first)
        p <- p - lr / (1 + (t - 1) lr_decay) * g / (sqrt(s) + eps)

    Args:
        parameters: the tensors to train.
        lr: the learning rate, at least 0.
        lr_decay: how fast it falls, at least 0.
        weight_decay: the strength of the penalty, at least 0.
        initial: what the sums start from, at least 0.
        eps: keeps the quotient finite; at least 0.
        maximize: climb instead, as if the gradients had the other sign.

    Example:
        >>> import wengert as wg
        >>> w = wg.tensor([1.0, -2.0], requires_grad=True)
        >>> optimizer = Adagrad([w], lr=0.5)
        >>> (w * w).sum().backward(); optimizer.step()
        >>> w.numpy().round(6)
        array([ 0.5, -1.5])

    References:
        J. Duchi, E. Hazan, Y. Singer (2011), Adaptive Subgradient Methods, JMLR 12.
    """

    names = ("sum",)

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: float = 0.01,
        *,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial: float = 0.0,
        eps: float = 1e-10,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            parameters,
            lr=lr,
            lr_decay=lr_decay,
            weight_decay=weight_decay,
            initial=initial,
            eps=eps,
            maximize=maximize,
        )

    def checked(self, options: dict[str, Any]) -> dict[str, Any]:
        o = super().checked(options)
        for name in ("lr_decay", "initial"):
            o[name] = check(self._owner, name, o[name])
        return o

    def update(self, o: Group, t: int, g: Flat, p: Flat, scratch: Flat, *states: Any) -> None:
        self.penalty(o, g, p)
        (s,) = states
        if t == 1:
            s += o.initial
        np.multiply(g, g, out=scratch)
        s += scratch
        np.sqrt(s, out=scratch)
        scratch += o.eps
        g /= scratch
        g *= o.lr / (1 + (t - 1) * o.lr_decay)


class Adadelta(Decayed):
    """Steps in the units of the parameters: past steps over past gradients, as root mean squares.

        g <- dL/dp + weight_decay * p
        v <- rho * v + (1 - rho) * g^2
        d <- sqrt(u + eps) / sqrt(v + eps) * g
        u <- rho * u + (1 - rho) * d^2
        p <- p - lr * d

    Args:
        parameters: the tensors to train.
        lr: a factor of the step, at least 0.
        rho: how much of the running means to keep, in [0, 1).
        eps: what starts the first steps; at least 0.
        weight_decay: the strength of the penalty, at least 0.
        maximize: climb instead, as if the gradients had the other sign.

    Example:
        >>> import wengert as wg
        >>> w = wg.tensor([1.0], requires_grad=True)
        >>> optimizer = Adadelta([w], rho=0.5, eps=1.0)
        >>> (w * w).sum().backward(); optimizer.step()
        >>> round(w.item(), 6)
        -0.154701

    References:
        M. Zeiler (2012), ADADELTA: An Adaptive Learning Rate Method, arXiv:1212.5701.
    """

    names = ("square", "step")

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: float = 1.0,
        *,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            parameters, lr=lr, rho=rho, eps=eps, weight_decay=weight_decay, maximize=maximize
        )

    def checked(self, options: dict[str, Any]) -> dict[str, Any]:
        o = super().checked(options)
        o["rho"] = check(self._owner, "rho", o["rho"], below=1.0, fix="rho=0.9")
        return o

    def update(self, o: Group, t: int, g: Flat, p: Flat, scratch: Flat, *states: Any) -> None:
        self.penalty(o, g, p)
        v, u = states
        v *= o.rho
        np.multiply(g, g, out=scratch)
        scratch *= 1 - o.rho
        v += scratch
        np.add(u, o.eps, out=scratch)
        np.sqrt(scratch, out=scratch)
        g *= scratch
        np.add(v, o.eps, out=scratch)
        np.sqrt(scratch, out=scratch)
        g /= scratch
        u *= o.rho
        np.multiply(g, g, out=scratch)
        scratch *= 1 - o.rho
        u += scratch
        g *= o.lr


class Adamax(Decayed):
    """Adam with the largest past gradient in the place of the root mean square.

        g <- dL/dp + weight_decay * p
        m <- beta1 * m + (1 - beta1) * g
        u <- max(beta2 * u, |g| + eps)
        p <- p - lr / (1 - beta1^t) * m / u

    Args:
        parameters: the tensors to train.
        lr: the learning rate, at least 0.
        betas: how much of the mean and of the maximum to keep, each in [0, 1).
        eps: keeps the quotient finite; at least 0.
        weight_decay: the strength of the penalty, at least 0.
        maximize: climb instead, as if the gradients had the other sign.

    Example:
        >>> import wengert as wg
        >>> w = wg.tensor([1.0, -2.0], requires_grad=True)
        >>> optimizer = Adamax([w], lr=0.5)
        >>> (w * w).sum().backward(); optimizer.step()
        >>> w.numpy().round(6)
        array([ 0.5, -1.5])

    References:
        D. Kingma, J. Ba (2015), Adam: A Method for Stochastic Optimization, section 7.1.
    """

    names = ("mean", "largest")

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: float = 2e-3,
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
        m, u = states
        beta1, beta2 = o.betas
        m *= beta1
        np.multiply(g, 1 - beta1, out=scratch)
        m += scratch
        u *= beta2
        np.abs(g, out=scratch)
        scratch += o.eps
        np.maximum(u, scratch, out=u)
        np.divide(m, u, out=g)
        g *= o.lr / (1 - beta1**t)


def both_betas(owner: str, betas: Any, fix: str = "betas=(0.9, 0.999)") -> tuple[float, float]:
    """Two factors in [0, 1)."""
    first, second = betas
    return (
        check(owner, "beta1", first, below=1.0, fix=fix),
        check(owner, "beta2", second, below=1.0, fix=fix),
    )
