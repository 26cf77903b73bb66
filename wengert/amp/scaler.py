"""Loss scaling: small gradients are lifted into the range of float16 and put back afterwards."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np

from wengert.errors import OptionError, verbatim
from wengert.optim import Optimizer
from wengert.optim.base import check
from wengert.optim.events import LISTENERS, tell
from wengert.optim.recorded import unrecorded

__all__ = ["GradScaler"]

LARGEST = 2.0**127


class GradScaler:
    """A loss scale that finds its own size.

        backward of scale * loss;   g <- g / scale;   step, unless a g is infinite or nan

    After `growth_interval` steps without an overflow the scale grows; at every overflow the step is
    skipped and the scale falls. Multiplying by a power of 2 is exact, so that gradients that do not
    underflow or overflow come out as they would without.

    The one right order:

        scaler.scale(loss).backward()        # for every part of a batch, if it is accumulated
        scaler.unscale_(optimizer)           # only if gradients are looked at or clipped
        clip_grad_norm_(parameters, 1.0)
        scaler.step(optimizer)
        scaler.update()

    Args:
        scale: at first.
        growth: the factor by which it grows, at least 1.
        backoff: the factor by which it falls, below 1.
        growth_interval: how many steps in a row without an overflow make it grow.
        enabled: False passes everything through.

    Raises:
        OptionError: `unscale_` twice, after `step`, or `step` twice without an `update`.

    Example:
        >>> import wengert as wg
        >>> from wengert.optim import SGD
        >>> w = wg.tensor(np.ones(1, np.float32), requires_grad=True)
        >>> optimizer, scaler = SGD([w], lr=0.5), GradScaler(scale=4.0)
        >>> scaler.scale((w * w).sum()).backward()
        >>> w.grad, scaler.step(optimizer), w
        (tensor([8.], dtype=float32), True, tensor([0.], dtype=float32, requires_grad=True))
        >>> scaler.update()

    References:
        P. Micikevicius et al. (2018), Mixed Precision Training, arXiv:1710.03740.
    """

    def __init__(
        self,
        scale: float = 2.0**16,
        *,
        growth: float = 2.0,
        backoff: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ) -> None:
        self.scale_now = check("GradScaler", "scale", scale, low=2.0**-126, fix="scale=2.0**16")
        self.growth = check("GradScaler", "growth", growth, low=1.0, fix="growth=2.0")
        self.backoff = check("GradScaler", "backoff", backoff, below=1.0, fix="backoff=0.5")
        self.growth_interval = growth_interval
        whole = isinstance(growth_interval, int) and not isinstance(growth_interval, bool)
        if not whole or growth_interval < 1:
            raise OptionError(
                f"GradScaler(growth_interval={growth_interval!r})",
                "it must be a whole number, at least 1", fix="growth_interval=2000",
            )  # fmt: skip
        self.enabled = enabled
        self.good_steps = 0
        self.skipped = 0
        self._stages: weakref.WeakKeyDictionary[Optimizer, tuple[str, bool]] = (
            weakref.WeakKeyDictionary()
        )

    def scale(self, loss: Any) -> Any:
        """scale * loss, to call `.backward()` on."""
        if not self.enabled:
            return loss
        scaled = loss * loss.dtype.type(self.scale_now)
        if LISTENERS:
            tell("scale", self, scaled)
        return scaled

    def unscale_(self, optimizer: Optimizer) -> None:
        """Divide the gradients of the optimizer's parameters by the scale, in place."""
        if not self.enabled:
            return
        unrecorded("scaler.unscale_(optimizer)", "compile what comes before, and step outside")
        stage = self._stages.get(optimizer, ("ready", True))[0]
        if stage != "ready":
            after = "step()" if stage == "stepped" else "unscale_()"
            raise OptionError(
                "scaler.unscale_(optimizer)",
                f"the gradients were unscaled already, {after} was called since the last update()",
                fix="scaler.update() at the end of every step",
            )
        if LISTENERS:
            tell("unscale", self, optimizer)
        finite = True
        factor = 1.0 / self.scale_now
        for p in optimizer.parameters:
            if getattr(p.node, "grad", None) is None:
                continue
            g = p.grad.value()
            with np.errstate(over="ignore", invalid="ignore"):
                g = g * g.dtype.type(factor)
            finite = finite and bool(np.isfinite(g).all())
            p.grad = g
        self._stages[optimizer] = ("unscaled", finite)

    def step(self, optimizer: Optimizer) -> bool:
        """`optimizer.step()`, unless a gradient overflowed; whether it was made."""
        if not self.enabled:
            optimizer.step()
            return True
        stage, _ = self._stages.get(optimizer, ("ready", True))
        if stage == "stepped":
            raise OptionError(
                "scaler.step(optimizer)", "step() was called already since the last update()",
                fix="scaler.update() at the end of every step",
            )  # fmt: skip
        if stage == "ready":
            self.unscale_(optimizer)
        finite = self._stages[optimizer][1]
        self._stages[optimizer] = ("stepped", finite)
        if finite:
            optimizer.step()
        return finite

    def update(self) -> None:
        """Let the scale grow or fall, after the step."""
        if not self.enabled:
            return
        unrecorded("scaler.update()", "call it after the compiled step")
        if all(finite for _, finite in self._stages.values()):
            self.good_steps += bool(self._stages)  # without a step nothing was learned
            if self.good_steps >= self.growth_interval:
                self.scale_now = min(self.scale_now * self.growth, LARGEST)
                self.good_steps = 0
        else:
            self.scale_now = max(self.scale_now * self.backoff, 2.0**-126)
            self.good_steps = 0
            self.skipped += 1
        self._stages.clear()

    def forget(self, optimizer: Optimizer) -> None:
        """Give up the step in progress, after an error: the gradients are no longer of use."""
        self._stages.pop(optimizer, None)

    def state_dict(self) -> dict[str, Any]:
        """The scale, and how many steps went well or were skipped."""
        return {"scale": self.scale_now, "good_steps": self.good_steps, "skipped": self.skipped}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken.

        Raises:
            OptionError: it is not the state of a scaler.
        """
        if not self.state_dict().keys() <= state.keys():
            raise OptionError(
                "GradScaler.load_state_dict(state)", "it is not the state of a scaler",
                operands=[("state", verbatim(", ".join(map(str, state)) or "empty"))],
            )  # fmt: skip
        self.scale_now = float(state["scale"])
        self.good_steps, self.skipped = int(state["good_steps"]), int(state["skipped"])
