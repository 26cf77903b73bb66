"""One step of training, with everything in the one right order."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from wengert.errors import OptionError, ShapeError
from wengert.nn import Module
from wengert.optim import EMA, Optimizer, clip_grad_norm_, clip_grad_value_, global_norm

__all__ = ["Step", "StepReport"]


@dataclass(frozen=True)
class StepReport:
    """What a step did.

    Args:
        loss: the loss before it, the mean over all examples of the batch.
        grad_norm: the length of the whole gradient, unscaled and before clipping.
        skipped: the gradients overflowed in half precision, and nothing was changed.
    """

    loss: float
    grad_norm: float
    skipped: bool = False


class Step:
    """Forget, accumulate, scale, unscale, clip, step: in the one order that is right.

    A call takes one batch. It is cut into `accumulate` parts along the first axis, and the
    gradient is that of the whole batch,

        L = sum_i w_i L_i / sum_i w_i,

    with w_i the number of examples of a part, or of tokens where `weight` says so.

    Args:
        model: the network.
        loss: (model, *batch) -> the mean loss of the batch.
        optimizer: over the model's parameters.
        accumulate: into how many parts a batch is cut; memory falls by that factor.
        clip_norm, clip_value: limits of the whole gradient's length, and of each of its numbers.
        weight: (*batch) -> how much a part counts; the number of examples if left out.
        scaler: a loss scaler, for float16.
        autocast: a function that opens the context of the forward pass.
        noise: called after unscaling, before clipping.
        ema: a running mean of the weights, updated after each step.

    Example:
        >>> from wengert import nn
        >>> from wengert.optim import SGD
        >>> model = nn.Linear(2, 1, rng=0)
        >>> step = Step(model, lambda m, x, y: nn.functional.mse_loss(m(x), y),
        ...             SGD(model.parameters(), lr=0.1), accumulate=2, clip_norm=1.0)
        >>> x, y = np.eye(2, dtype=np.float32), np.ones((2, 1), np.float32)
        >>> losses = [step(x, y).loss for _ in range(50)]
        >>> losses[-1] < 0.02 * losses[0]
        True
    """

    def __init__(
        self,
        model: Module,
        loss: Callable[..., Any],
        optimizer: Optimizer,
        *,
        accumulate: int = 1,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        weight: Callable[..., float] | None = None,
        scaler: Any = None,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
        noise: Callable[[Sequence[Any]], None] | None = None,
        ema: EMA | None = None,
    ) -> None:
        if not isinstance(accumulate, int) or accumulate < 1:
            raise OptionError(
                f"Step(accumulate={accumulate!r})", "it must be a whole number, at least 1"
            )
        self.model, self.loss, self.optimizer = model, loss, optimizer
        self.accumulate, self.clip_norm, self.clip_value = accumulate, clip_norm, clip_value
        self.weight = weight or (lambda *batch: float(len(batch[0])))
        self.scaler, self.autocast, self.noise, self.ema = scaler, autocast, noise, ema

    def __call__(self, *batch: Any) -> StepReport:
        """One step on one batch of arrays that have the examples along their first axis."""
        parameters, scaler = self.optimizer.parameters, self.scaler
        self.optimizer.zero_grad()
        parts = list(self.parts(batch))
        weights = [self.weight(*part) for part in parts]
        value, total = 0.0, sum(weights)
        for part, weight in zip(parts, weights):
            if not weight:
                continue
            with self.autocast():
                loss = self.loss(self.model, *part)
            share = weight / total
            value += float(loss.item()) * share
            loss = loss if share == 1.0 else loss * share
            (loss if scaler is None else scaler.scale(loss)).backward()
        if scaler is not None:
            scaler.unscale_(self.optimizer)
        if self.noise is not None:
            self.noise(parameters)
        if self.clip_norm is None:
            norm = global_norm([p.node.grad for p in parameters if p.node.grad is not None])
        if self.clip_value is not None:
            clip_grad_value_(parameters, self.clip_value)
        if self.clip_norm is not None:
            norm = clip_grad_norm_(parameters, self.clip_norm)
        if scaler is not None:
            skipped = not scaler.step(self.optimizer)
            scaler.update()
        elif not (skipped := not math.isfinite(value)):
            self.optimizer.step()
        if self.ema is not None and not skipped:
            self.ema.update()
        return StepReport(value, norm, skipped)

    def parts(self, batch: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
        """The batch in `accumulate` parts, of sizes that differ by one at most."""
        n = self.accumulate
        if n == 1:
            yield tuple(batch)
            return
        sizes = {np.shape(a)[0] for a in batch}
        if len(sizes) != 1:
            raise ShapeError(
                "Step(*batch)", "the arrays of a batch have its examples along their first axis",
                operands=[(f"batch[{i}]", a) for i, a in enumerate(batch)],
            )  # fmt: skip
        (size,) = sizes
        edges = [size * i // n for i in range(n + 1)]
        for start, stop in pairwise(edges):
            if stop > start:
                yield tuple(a[start:stop] for a in batch)
