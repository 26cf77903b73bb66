"""One step of training, with everything in the one right order."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from wengert import tree
from wengert.amp import GradScaler
from wengert.errors import ArgumentError, OptionError, ShapeError, verbatim
from wengert.given import call
from wengert.nn import Module
from wengert.optim import EMA, Optimizer
from wengert.optim.events import LISTENERS, tell
from wengert.optim.schedules import Plateau
from wengert.trace import Tensor
from wengert.types import shape_of

from .compiled import Programs, heard, limited, no_loss, scaling

__all__ = ["Step", "StepReport", "tokens"]

Part = tuple[Any, ...]


@dataclass(frozen=True)
class StepReport:
    """What a step did.

    Args:
        loss: the loss before it, the weighted mean over the parts of the batch.
        grad_norm: the length of the whole gradient, unscaled and before clipping.
        skipped: the loss or the gradient was not finite, and no parameter was changed.
        lr: the learning rate of the first group, as it was used.
        scale: what the loss was multiplied by against underflow; 1 without a scaler.
        weight: what the whole batch counted, in examples or tokens.
    """

    loss: float
    grad_norm: float
    skipped: bool = False
    lr: float = math.nan
    scale: float = 1.0
    weight: float = math.nan


def tokens(ignore: int = -100, labels: int = -1) -> Callable[..., float]:
    """The `weight` of a language model's batch: how many labels are not to be ignored.

    Args:
        ignore: the label that does not count.
        labels: which array of the batch has the labels.

    Example:
        >>> tokens()(np.zeros((2, 3)), np.array([[1, 2, -100], [3, -100, -100]]))
        3.0
    """

    def counted(*batch: Any) -> float:
        if not -len(batch) <= labels < len(batch):
            raise ArgumentError(f"tokens(labels={labels})", f"the batch has {len(batch)} arrays")
        return float(np.count_nonzero(np.asarray(_plain(batch[labels])) != ignore))

    return counted


class Step:
    """Forget, accumulate, scale, unscale, clip, step: in the one order that is right.

    A call takes one batch: arrays, or dicts and other trees of them, that have the examples along
    their first axis; single numbers go to every part. It is cut into `accumulate` parts (as many
    as there are examples, if those are fewer), and the gradient is that of the whole batch,

        L = sum_i w_i L_i / sum_i w_i,      g = sum_i grad(scale w_i / W L_i) / scale,

    with w_i the number of examples of a part, or of tokens where `weight` says so; clipping sees g.
    Parts of any size give the gradient of the whole batch up to rounding: with W = sum_i w_i,

        |g - g_whole| <= c eps sum_n w_n |g_n| / W      number by number, over the examples n,

    with eps of the dtype and c below 4 in the tests. That holds for a loss that is a mean over
    examples. Batch norm in training is not: its statistics are those of a part.
    `step.micro(parts)` takes the parts as they come.

    A step whose loss or gradient is not finite changes no parameter and says so; one that is broken
    off by an error before the update leaves the parameters, the optimizer and the scaler as they
    were, and no gradients. Buffers, such as running means, have then seen the parts before it.

    Args:
        model: the network.
        loss: (model, *batch) -> the mean loss of the batch.
        optimizer: over the model's parameters.
        accumulate: into how many parts a batch is cut; memory falls by that factor.
        clip_norm, clip_value: limits of the whole gradient's length, and of each of its numbers.
        weight: (*batch) -> how much a part counts; the number of examples if left out. See
            `tokens`.
        scaler: a loss scaler, for float16.
        autocast: a function that opens the context of the forward pass.
        noise: called after unscaling, before clipping.
        ema: a running mean of the weights, updated after each step.
        schedule: of the learning rate, its `step()` is called after each step of the optimizer.
        compile: record the loss, its gradient and, where nothing stands against it, clipping and
            the update as one program, by `wg.compile`: the same numbers up to rounding, sooner. A
            loss that cannot be recorded is said in one warning, and runs as it does without.

    Raises:
        OptionError: an option out of range; an optimizer that evaluates the loss by itself.
        ShapeError: the arrays of a batch have different numbers of examples.
        ArgumentError: the batch counts for nothing, or the loss is not a recorded number.

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
        schedule: Any = None,
        compile: bool = False,
    ) -> None:
        if isinstance(accumulate, bool) or not isinstance(accumulate, int) or accumulate < 1:
            raise OptionError(
                f"Step(accumulate={accumulate!r})", "it must be a whole number, at least 1"
            )
        if not callable(autocast) or isinstance(autocast, AbstractContextManager):
            raise OptionError(
                f"Step(autocast={autocast!r})", "it is a function that opens the context",
                fix="autocast=lambda: wg.amp.autocast('bfloat16')",
            )  # fmt: skip
        if compile and not isinstance(scaler, GradScaler | None):
            raise OptionError(
                f"Step(compile=True, scaler={type(scaler).__name__}(...))",
                "what it does to a loss is not known, so it cannot be recorded",
                fix="scaler=wg.amp.GradScaler()",
            )
        check_parts(loss, optimizer, weight=weight, noise=noise, ema=ema, schedule=schedule,
                    scaler=scaler, compile=compile)  # fmt: skip
        _refuse_closure(optimizer)
        if isinstance(schedule, Plateau):
            raise OptionError(
                "Step(schedule=Plateau(...))",
                "a plateau is found in a measure of the validation part, not step by step",
                fix="plateau.step(measure) after every epoch",
            )
        self.model, self.loss, self.optimizer = model, loss, optimizer
        self.accumulate, self.clip_norm, self.clip_value = accumulate, clip_norm, clip_value
        self.weight = weight or _examples
        self.scaler, self.autocast, self.noise, self.ema = scaler, autocast, noise, ema
        self.schedule, self.compile = schedule, compile
        self.programs: Programs | None = None

    def __call__(self, *batch: Any) -> StepReport:
        """One step on one batch."""
        return self.micro(self.parts(batch))

    def micro(self, parts: Iterable[Any]) -> StepReport:
        """One step on a batch that comes in parts: tuples of arguments of the loss, or single ones.

        The parts are drawn first and held until the step is done; a generator has to end.

        Example:
            >>> from wengert import nn
            >>> from wengert.optim import SGD
            >>> model = nn.Linear(1, 1, rng=0)
            >>> step = Step(model, lambda m, x: m(x).mean(), SGD(model.parameters(), lr=0.1))
            >>> step.micro(np.ones((n, 1), np.float32) for n in (3, 5)).weight
            8.0
        """
        if not np.iterable(parts):
            raise ArgumentError(
                "Step.micro(parts)", "parts are tuples of arguments of the loss, one after the "
                "other",
                operands=[("parts", parts)],
            )  # fmt: skip
        listed = [p if isinstance(p, tuple | list) else (p,) for p in parts]
        weights = [self._counts(part) for part in listed]
        total = sum(weights)
        if not (0.0 < total < math.inf and min(weights) >= 0.0):
            raise ArgumentError(
                "Step(*batch)",
                "the weights of the parts of a batch are at least 0, and not all of them 0",
                operands=[("weights", verbatim(weights[:8]))],
                fix="leave out a batch in which nothing counts" if not total else None,
            )
        try:
            if self.compile and not heard():
                return self._compiled(listed, weights, total)
            value = self._gradient(listed, weights, total)
            return self._step(value, total)
        except BaseException:
            self.optimizer.zero_grad()
            if self.scaler is not None and hasattr(self.scaler, "forget"):
                self.scaler.forget(self.optimizer)
            raise

    def _counts(self, part: Sequence[Any]) -> float:
        """How much a part counts."""
        counted = call("Step(weight=f)", "f", self.weight, *part)
        try:
            return float(counted)
        except (TypeError, ValueError):
            raise ArgumentError(
                "Step(weight=f)", "the weight of a part is one number",
                operands=[("f(*part)", counted)],
            ) from None  # fmt: skip

    def _gradient(self, parts: list[Any], weights: list[float], total: float) -> float:
        """Add up the scaled gradient of the whole batch, and give its loss."""
        scaler, value = self.scaler, 0.0
        self.optimizer.zero_grad()
        if LISTENERS:
            tell("weighted", self)
        for part, weight in zip(parts, weights):
            if not weight:
                continue
            with self.autocast():
                loss = call("Step: loss(model, *batch)", "loss", self.loss, self.model, *part)
            if not isinstance(loss, Tensor) or loss.node is None or loss.size != 1:
                raise no_loss(loss)
            share = weight / total
            value += float(loss.value()) * share
            loss = loss if share == 1.0 else loss * share
            (loss if scaler is None else scaler.scale(loss)).backward()
        if all(p.grad is None for p in self.optimizer.parameters):
            raise ArgumentError(
                "Step: loss(model, *batch)",
                "the loss does not depend on a parameter of the optimizer",
                fix="an optimizer over model.parameters() of this very model",
            )
        return value

    def _compiled(self, parts: list[Any], weights: list[float], total: float) -> StepReport:
        """The same by programs: the whole of it, or the gradient where the rest needs Python."""
        made_of = (
            self.loss, self.model, self.optimizer, self.autocast, self.clip_norm, self.clip_value,
            self.ema,
        )  # fmt: skip
        if self.programs is None or self.programs.made_of != made_of:
            self.programs = Programs(*made_of)
        programs, value, scale = self.programs, 0.0, scaling(self.scaler)
        lr, whole = self.optimizer.lr, programs.whole and self.scaler is None and self.noise is None
        self.optimizer.zero_grad()
        counted = [(part, w / total) for part, w in zip(parts, weights) if w]
        for i, (part, share) in enumerate(counted[: len(counted) - whole]):
            value += programs.sweep(i, share, scale, part) * share
        if not whole:
            return self._step(value, total)
        part, share = counted[-1]
        loss, norm, done = programs.last(share, value, part)
        if done and self.schedule is not None:
            self.schedule.step()
        return StepReport(value + loss * share, norm, not done, lr, 1.0, total)

    def _step(self, value: float, weight: float) -> StepReport:
        """Everything after the gradient."""
        parameters, scaler = self.optimizer.parameters, self.scaler
        lr, scale = self.optimizer.lr, getattr(scaler, "scale_now", 1.0)
        if scaler is not None:
            scaler.unscale_(self.optimizer)
        if self.noise is not None:
            self.noise(parameters)
        norm = limited(parameters, self.clip_norm, self.clip_value)
        finite = math.isfinite(value) and math.isfinite(norm)
        if scaler is not None:
            skipped = not scaler.step(self.optimizer)
            scaler.update()
        elif not (skipped := not finite):
            self.optimizer.step()
        if not skipped:
            if self.ema is not None:
                self.ema.update()
            if self.schedule is not None:
                self.schedule.step()
        return StepReport(value, norm, skipped, lr, scale, weight)

    def parts(self, batch: Sequence[Any]) -> Iterator[Part]:
        """The batch in `accumulate` parts, of sizes that differ by one at most."""
        n = self.accumulate
        if n == 1:
            yield tuple(batch)
            return
        leaves, structure = tree.flatten(tuple(batch))
        sizes = {shape_of(a)[0] for a in leaves if shape_of(a)}
        if len(sizes) != 1:
            raise ShapeError(
                "Step(*batch)", "the arrays of a batch have its examples along their first axis",
                operands=[
                    (f"batch{path}", a) for path, a in zip(tree.paths(structure), leaves)
                ],
            )  # fmt: skip
        (size,) = sizes
        edges = [size * i // n for i in range(n + 1)]
        for start, stop in pairwise(edges):
            if stop > start:
                cut = [a[start:stop] if shape_of(a) else a for a in leaves]
                yield tuple(tree.unflatten(structure, cut))


def check_parts(loss: Any, optimizer: Any, **parts: Any) -> None:
    """Refuse what a step could not use, before it has changed anything."""
    needed = {"optimizer": ("step", "zero_grad"), "ema": ("update",), "schedule": ("step",),
              "scaler": ("scale", "unscale_", "step", "update")}  # fmt: skip
    for name, value in {"loss": loss, "optimizer": optimizer, **parts}.items():
        if value is None and name in parts:
            continue
        if name == "compile":
            fits = isinstance(value, bool | np.bool_)
        elif name in needed:
            fits = not isinstance(value, type) and all(hasattr(value, n) for n in needed[name])
        else:
            fits = callable(value)
        if not fits:
            kind = {"compile": "True or False", "optimizer": "one of wg.optim, over parameters"}
            has = f"something with {' and '.join(needed.get(name, ()))}"
            rule = kind.get(name, has if name in needed else "a function")
            raise OptionError(f"Step({name}=...)", f"it is {rule}", operands=[(name, value)])


def _plain(x: Any) -> Any:
    return x.value() if isinstance(x, Tensor) else x


def _examples(*batch: Any) -> float:
    """How many examples a part has: the length of its first array."""
    for a in tree.leaves(batch):
        if shape_of(a):
            return float(shape_of(a)[0])
    return 1.0


def _refuse_closure(optimizer: Any) -> None:
    takes = inspect.signature(optimizer.step).parameters.values()
    needed = [p.name for p in takes if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    if needed:
        raise OptionError(
            f"Step(model, loss, {type(optimizer).__name__}(...))",
            "this optimizer evaluates the loss several times in a step, by itself",
            fix=f"optimizer.step({', '.join(needed)}) in a loop of your own",
        )
