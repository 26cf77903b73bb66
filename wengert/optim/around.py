"""Optimizers around an optimizer: SAM and Lookahead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wengert.errors import ArgumentError, OptionError
from wengert.trace import Tensor, no_grad
from wengert.transforms.store import writable

from .base import Closure, Group, Optimizer, check, evaluated
from .clip import global_norm

__all__ = ["SAM", "Lookahead"]


class Around:
    """What both have of the optimizer inside: its parameters, groups, learning rate and state."""

    def __init__(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer | Around):
            raise OptionError(
                f"{type(self).__name__}(optimizer)", "it goes around an optimizer",
                operands=[("optimizer", optimizer)],
                fix=f"{type(self).__name__}(SGD(model.parameters(), lr=0.1))",
            )  # fmt: skip
        self.optimizer = optimizer

    @property
    def parameters(self) -> list[Tensor]:
        """Those of the optimizer inside."""
        return self.optimizer.parameters

    @property
    def groups(self) -> list[Group]:
        """Those of the optimizer inside."""
        return self.optimizer.groups

    @property
    def lr(self) -> float:
        """The learning rate of the first group; setting it sets it for all of them."""
        return self.optimizer.lr

    @lr.setter
    def lr(self, value: float) -> None:
        self.optimizer.lr = value

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        self.optimizer.zero_grad(set_to_none)

    def copies(self) -> list[NDArray[Any]]:
        """The parameters as they are now."""
        return [np.array(p.value()) for p in self.parameters]

    def put(self, values: list[NDArray[Any]]) -> None:
        """Write values into the parameters."""
        with no_grad():
            for p, value in zip(self.parameters, values, strict=True):
                writable(p)[...] = value


class SAM(Around):
    """Sharpness-aware minimisation: the gradient at the worst place nearby.

        e = rho * g / |g|                           or, adaptive,  e = rho * p^2 g / |p g|
        p <- p + e;   g' = dL/dp there;   p <- p - e;   a step of the optimizer with g'

    It finds minima whose surroundings are low as well, for two gradients a step.

    Args:
        optimizer: makes the step.
        rho: how far away, at least 0.
        adaptive: measure the distance relative to the size of each number.

    Raises:
        OptionError: rho below 0; a second step without the first.

    Example:
        >>> import wengert as wg
        >>> from wengert.optim import SGD
        >>> w = wg.tensor([3.0, 4.0], requires_grad=True)
        >>> optimizer = SAM(SGD([w], lr=0.5), rho=5.0)
        >>> def closure():
        ...     optimizer.zero_grad()
        ...     loss = (w * w).sum() / 2
        ...     loss.backward()
        ...     return loss
        >>> optimizer.step(closure)             # g = w, e = w, g' = 2 w
        tensor(12.5, grad_fn=...)
        >>> w
        tensor([0., 0.], requires_grad=True)

    The two halves by themselves: `loss.backward(); first_step()`, then the gradients at the new
    place, then `second_step()`.

    References:
        P. Foret et al. (2021), Sharpness-Aware Minimization for Efficiently Improving
        Generalization, arXiv:2010.01412.
        J. Kwon et al. (2021), ASAM, arXiv:2102.11600.
    """

    def __init__(self, optimizer: Optimizer, rho: float = 0.05, *, adaptive: bool = False) -> None:
        super().__init__(optimizer)
        self.rho = check("SAM", "rho", rho, fix="rho=0.05")
        self.adaptive = adaptive
        self._here: list[NDArray[Any]] = []

    def first_step(self) -> None:
        """From the gradients here to the worst place nearby; the gradients are forgotten."""
        present = [p for p in self.parameters if getattr(p.node, "grad", None) is not None]
        gradients = [p.grad.value() for p in present]
        values = [p.value() for p in present]
        if self.adaptive:
            gradients = [g * np.abs(w) for g, w in zip(gradients, values)]
        norm = global_norm(gradients)
        self._here = self.copies()
        with no_grad():
            for p, g in zip(present, gradients):
                e = g * g.real.dtype.type(self.rho / norm if norm else 0.0)
                w = writable(p)
                w += e * np.abs(w) if self.adaptive else e
        self.zero_grad()

    def second_step(self) -> None:
        """Back to where `first_step` was called, and a step with the gradients there are now."""
        if not self._here:
            raise OptionError(
                "SAM.second_step()", "there was no first step",
                fix="loss.backward(); first_step(); the gradients again; second_step()",
            )  # fmt: skip
        self.put(self._here)
        self._here = []
        self.optimizer.step()

    def step(self, closure: Closure | None = None) -> Any:
        """Both halves.

        Args:
            closure: forgets the gradients, computes the loss and its gradients, returns the loss.

        Returns:
            the loss here.
        """
        if closure is None:
            raise OptionError(
                "SAM.step()", "it needs the gradients at two places",
                fix="step(closure), where closure() does zero_grad, the loss, backward, and "
                "returns the loss",
            )  # fmt: skip
        loss = evaluated(closure)
        self.first_step()
        try:
            evaluated(closure)
        except BaseException:
            self.put(self._here)
            self._here = []
            raise
        self.second_step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The state of the optimizer inside; between the two halves there is none."""
        if self._here:
            raise ArgumentError("SAM.state_dict()", "the parameters are not where they belong",
                                fix="after second_step()")  # fmt: skip
        return {"optimizer": "SAM", "inside": self.optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        if state["optimizer"] != "SAM":
            raise OptionError(
                "SAM.load_state_dict(state)", f"it is the state of {state['optimizer']}"
            )
        self.optimizer.load_state_dict(state["inside"])


class Lookahead(Around):
    """Slow weights that follow the fast ones of an optimizer, a part of the way every k steps.

        every k steps:   s <- s + alpha (p - s);   p <- s

    Args:
        optimizer: makes the fast steps.
        k: how many of them, at least 1.
        alpha: which part of the way, from 0 to 1.

    Raises:
        OptionError: k or alpha out of its range.

    Example:
        >>> import wengert as wg
        >>> from wengert.optim import SGD
        >>> w = wg.tensor([8.0], requires_grad=True)
        >>> optimizer = Lookahead(SGD([w], lr=0.25), k=2, alpha=0.5)
        >>> for _ in range(2):
        ...     optimizer.zero_grad()
        ...     (w * w).sum().backward()
        ...     optimizer.step()                # 8 -> 4 -> 2, and half of the way back
        >>> w
        tensor([5.], requires_grad=True)

    References:
        M. Zhang et al. (2019), Lookahead Optimizer: k steps forward, 1 step back, arXiv:1907.08610.
    """

    def __init__(self, optimizer: Optimizer, k: int = 5, alpha: float = 0.5) -> None:
        super().__init__(optimizer)
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise OptionError(f"Lookahead(k={k!r})", "it must be a whole number, at least 1")
        self.alpha = check("Lookahead", "alpha", alpha, below=1.0 + 1e-12, fix="alpha=0.5")
        self.k, self.t = k, 0
        self.slow = self.copies()

    def step(self, closure: Closure | None = None) -> Any:
        """A fast step, and every k-th time a slow one."""
        loss = self.optimizer.step(closure)
        self.t += 1
        if self.t % self.k == 0:
            for s, p in zip(self.slow, self.parameters, strict=True):
                s += (p.value() - s) * s.real.dtype.type(self.alpha)
            self.put(self.slow)
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The state of the optimizer inside, the slow weights and the step."""
        return {
            "optimizer": "Lookahead",
            "inside": self.optimizer.state_dict(),
            "t": self.t,
            "slow": [s.copy() for s in self.slow],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken; nothing is changed unless all of it fits."""
        what = "Lookahead.load_state_dict(state)"
        if state["optimizer"] != "Lookahead":
            raise OptionError(what, f"it is the state of {state['optimizer']}")
        if [np.shape(s) for s in state["slow"]] != [s.shape for s in self.slow]:
            raise OptionError(what, "it is the state of other parameters")
        self.optimizer.load_state_dict(state["inside"])
        self.t = int(state["t"])
        for s, value in zip(self.slow, state["slow"], strict=True):
            s[...] = value
