"""A training step as one program: a part's gradient, and the last one with the update.

What decides in Python stays outside: the loss scaler, noise, running means, schedules.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from wengert.amp import GradScaler
from wengert.compile import live
from wengert.errors import ArgumentError
from wengert.given import call
from wengert.optim import EMA, Optimizer, clip_grad_norm_, clip_grad_value_, global_norm
from wengert.optim.events import LISTENERS
from wengert.optim.recorded import only_if, taken_back
from wengert.trace import Tensor
from wengert.transforms.tape import SWEPT

__all__ = ["Programs", "heard", "limited", "no_loss", "scaling"]


class Programs:
    """The programs of one step, for as long as what they are made of is the same.

    Args:
        loss, model, optimizer, autocast, clip_norm, clip_value, ema: see `Step`.

    `sweep` adds the gradient of a part; `last` does so with the last part of a batch, clips, and
    updates where the whole loss and the gradient are finite.
    """

    def __init__(self, *made_of: Any) -> None:
        self.made_of = made_of
        from wengert.compile.jit import compile  # half as long to import as all the rest

        loss, model, optimizer, autocast, clip_norm, clip_value, ema = made_of
        self.optimizer, self.ema = optimizer, ema

        def update() -> None:
            optimizer.step()
            if ema is not None:
                ema.update()

        def sweep(share: float, scale: float, *part: Any) -> Any:
            with autocast():
                y = call("Step: loss(model, *batch)", "loss", loss, model, *part)
            if not isinstance(y, Tensor) or y.node is None or y.size != 1:
                raise no_loss(y)
            (y * share * scale).backward()
            return y

        def last(share: float, before: float, *part: Any) -> Any:
            y = sweep(share, 1.0, *part)
            norm: Any = limited(optimizer.parameters, clip_norm, clip_value)
            if live.recording() is None:
                finite = math.isfinite(before + float(y.value()) * share) and math.isfinite(norm)
                if finite:
                    update()
                return y, norm, finite
            value = y.detach().astype(np.float64) * share + before
            with only_if(np.isfinite(value).reshape(()) & np.isfinite(norm)):
                update()
            return y, norm, None

        for f in (sweep, last):
            f.__qualname__ = "Step(compile=True)"
        self._first, self._sweep = compile(sweep, wait=True), compile(sweep, wait=True)
        self._last = compile(last, wait=True)  # each is called with the same shapes mostly
        self.whole = whole(optimizer) and (ema is None or type(ema).update is EMA.update)

    def sweep(self, i: int, share: float, scale: float, part: Sequence[Any]) -> float:
        """Add the gradient of the i-th part; its loss."""
        sweep = self._sweep if i else self._first
        return float(sweep(share, scale, *part).value())

    def last(self, share: float, before: float, part: Sequence[Any]) -> tuple[float, float, bool]:
        """One step after the other parts; (loss of this one, length of the gradient, done)."""
        y, norm, done = self._last(share, before, *part)
        y, norm = float(y.value()), float(norm)
        if done is None:
            done = math.isfinite(before + y * share) and math.isfinite(norm)
            if not done:
                taken_back(self.optimizer, self.ema)
        return y, norm, done

    def explain(self) -> str:
        """Everything that was compiled."""
        called = [f for f in (self._first, self._sweep, self._last) if f.variants or f.refused]
        return "\n\n".join(f.explain() for f in called)


def heard() -> bool:
    """Whether somebody listens to a training loop: then every event has to happen."""
    return bool(LISTENERS or SWEPT)


def scaling(scaler: GradScaler | None) -> float:
    """What a scaler multiplies a loss by."""
    return scaler.scale_now if scaler is not None and scaler.enabled else 1.0


def whole(optimizer: Any) -> bool:
    """Whether the update can be recorded: its rule is elementwise, on real numbers."""
    return (
        isinstance(optimizer, Optimizer)
        and type(optimizer).step is Optimizer.step
        and optimizer.traceable
        and all(p.dtype.kind == "f" for p in optimizer.parameters)
    )


def limited(
    parameters: Sequence[Tensor], clip_norm: float | None, clip_value: float | None
) -> float:
    """Clip the gradients; their length as one vector, before it is limited."""
    if clip_norm is None:
        gradients = [getattr(p.node, "grad", None) for p in parameters]
        norm = global_norm([g for g in gradients if g is not None])
    if clip_value is not None:
        clip_grad_value_(parameters, clip_value)
    if clip_norm is not None:
        norm = clip_grad_norm_(parameters, clip_norm)
    return norm


def no_loss(loss: Any) -> ArgumentError:
    """The error for what is not the mean loss of a part."""
    if isinstance(loss, Tensor) and loss.size != 1:
        rule, fix = "a loss is one number for the batch", "return the mean, such as loss.mean()"
    elif isinstance(loss, Tensor) and not loss.requires_grad:
        rule, fix = "the loss does not depend on a parameter that is trained", None
    else:
        rule, fix = "a loss is a recorded tensor", None
    return ArgumentError("Step: loss(model, *batch)", rule, operands=[("loss", loss)], fix=fix)
