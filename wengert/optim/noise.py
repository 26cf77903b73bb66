"""Noise: on gradients, and on parameters so that training becomes sampling."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wengert import random
from wengert.trace import Tensor

from .base import Flat, Group, Optimizer, check

__all__ = ["SGLD", "GradientNoise"]


def normal(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Standard normal numbers of a dtype; a complex one has E|z|^2 = 2, one for each part."""
    dtype = np.dtype(dtype)
    if dtype.kind == "c":
        both: NDArray[Any] = normal(rng, (*shape, 2), dtype.type().real.dtype)
        return both.view(dtype)[..., 0]
    draws = np.float32 if dtype.itemsize <= 4 else np.float64
    return rng.standard_normal(shape, dtype=draws).astype(dtype, copy=False)


def stream_state(rng: np.random.Generator) -> Any:
    """Where a stream stands, for a state_dict; nothing of the default one, which belongs to all."""
    return None if rng is random.default() else rng.bit_generator.state


class GradientNoise:
    """Normal noise on every gradient, less and less of it.

        g <- g + N(0, eta / (1 + t)^gamma),    t = 0, 1, ..

    Args:
        eta: the variance of the first noise, at least 0.
        gamma: how fast it falls, at least 0.
        rng: a generator, a seed for one, or None for the default stream.

    Raises:
        OptionError: eta or gamma below 0.

    Example:
        >>> import wengert as wg
        >>> w = wg.tensor([1.0, -2.0], requires_grad=True)
        >>> noise = GradientNoise(0.01, rng=0)
        >>> (w * w).sum().backward()
        >>> noise([w])                          # before optimizer.step()
        >>> w.grad
        tensor([ 1.9794026, -4.0128845])

    References:
        A. Neelakantan et al. (2015), Adding Gradient Noise Improves Learning for Very Deep
        Networks, arXiv:1511.06807.
    """

    def __init__(
        self, eta: float, gamma: float = 0.55, *, rng: np.random.Generator | int | None = None
    ) -> None:
        self.eta = check("GradientNoise", "eta", eta, fix="eta=0.01")
        self.gamma = check("GradientNoise", "gamma", gamma, fix="gamma=0.55")
        self.rng = random.default() if rng is None else random.generator(rng)
        self.t = 0

    @property
    def deviation(self) -> float:
        """The standard deviation of the noise of the next call."""
        return math.sqrt(self.eta / (1 + self.t) ** self.gamma)

    def __call__(self, parameters: Iterable[Tensor]) -> None:
        """Add noise to the gradients of the parameters; one without a gradient gets none."""
        sigma = self.deviation
        self.t += 1
        for p in parameters:
            if p.node is not None and p.node.grad is not None:
                g = p.grad.value()
                p.grad = g + normal(self.rng, g.shape, g.dtype) * g.real.dtype.type(sigma)

    def state_dict(self) -> dict[str, Any]:
        """The step, and where the stream stands unless it is the default one."""
        return {"t": self.t, "rng": stream_state(self.rng)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.t = int(state["t"])
        if state["rng"] is not None:
            self.rng.bit_generator.state = state["rng"]


class SGLD(Optimizer):
    """Stochastic gradient Langevin dynamics: the steps are samples of exp(-L / temperature).

        p <- p - lr/2 * M * g + N(0, lr * temperature * M)
        M = 1, or with `preconditioned`
        M = 1 / (sqrt(v / (1 - alpha^t)) + eps),   v <- alpha v + (1 - alpha) g^2

    L is the negative logarithm of the density that is sampled: for a posterior the sum of the
    losses over all data (the mean over a batch times the number of examples) minus the log-prior.
    The samples have the right distribution in the limit lr -> 0. A preconditioner that follows the
    place spreads them too far, as the term with its derivative is left out, as in the paper: keep
    its memory long. (A normal density comes out 4 % too wide with alpha = 0.999, 50 % with 0.9.)

    Args:
        parameters: the tensors to sample.
        lr: the length of a step, at least 0.
        temperature: 1 samples exp(-L), 0 is plain descent with lr / 2; at least 0.
        preconditioned: let the steps follow the size of past gradients.
        alpha: how much of the running mean of squares to keep, in [0, 1).
        eps: keeps M finite; at least 0.
        weight_decay: a normal prior with this precision: adds weight_decay * p to the gradient.
        rng: a generator, a seed for one, or None for the default stream.

    Raises:
        OptionError: a hyperparameter out of its range.

    Example:
        >>> import wengert as wg
        >>> w = wg.tensor([0.0], requires_grad=True)
        >>> sampler, samples = SGLD([w], lr=0.2, rng=0), []
        >>> for _ in range(2000):
        ...     sampler.zero_grad()
        ...     (0.5 * (w - 3.0) ** 2).sum().backward()         # N(3, 1)
        ...     sampler.step()
        ...     samples.append(w.item())
        >>> bool(abs(np.mean(samples) - 3) < 0.2 and abs(np.var(samples) - 1) < 0.2)
        True

    References:
        M. Welling, Y. W. Teh (2011), Bayesian Learning via Stochastic Gradient Langevin Dynamics.
        C. Li et al. (2016), Preconditioned Stochastic Gradient Langevin Dynamics for Deep Neural
        Networks, arXiv:1512.07666.
    """

    traceable = False

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: float = 1e-3,
        *,
        temperature: float = 1.0,
        preconditioned: bool = False,
        alpha: float = 0.999,
        eps: float = 1e-5,
        weight_decay: float = 0.0,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        self.rng = random.default() if rng is None else random.generator(rng)
        super().__init__(
            parameters, lr=lr, temperature=temperature, preconditioned=preconditioned,
            alpha=alpha, eps=eps, weight_decay=weight_decay,
        )  # fmt: skip

    def checked(self, options: dict[str, Any]) -> dict[str, Any]:
        o = super().checked(options)
        for name in ("temperature", "eps", "weight_decay"):
            o[name] = check("SGLD", name, o[name])
        o["alpha"] = check("SGLD", "alpha", o["alpha"], below=1.0, fix="alpha=0.999")
        return o

    def remembers(self, group: Group) -> tuple[str, ...]:
        return ("square",) if group.preconditioned else ()

    def reads_values(self, group: Group) -> bool:
        return bool(group.weight_decay)

    def update(self, o: Group, t: int, g: Flat, p: Flat, scratch: Flat, *states: Any) -> None:
        if o.weight_decay:
            p *= o.weight_decay
            g += p
        scratch[...] = normal(self.rng, g.shape, g.dtype)
        scratch *= math.sqrt(o.lr * o.temperature)
        if states:
            (v,) = states
            v *= o.alpha
            v += (1 - o.alpha) * (g * g)
            m = np.sqrt(v / (1 - o.alpha**t))
            m += o.eps
            g /= m
            scratch /= np.sqrt(m)
        g *= o.lr / 2
        g -= scratch

    def state_dict(self) -> dict[str, Any]:
        """As every optimizer's, and where the stream stands unless it is the default one."""
        return {**super().state_dict(), "rng": stream_state(self.rng)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken; see `Optimizer.load_state_dict`."""
        super().load_state_dict(state)
        if state["rng"] is not None:
            self.rng.bit_generator.state = state["rng"]
