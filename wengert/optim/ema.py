"""Running means of the weights, which often test better than the weights themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from wengert import trace
from wengert.compile import live
from wengert.errors import OptionError
from wengert.trace import Tensor, no_grad
from wengert.transforms.store import writable

from .base import check
from .recorded import recorded_mean

__all__ = ["EMA", "SWA"]


class EMA:
    """Exponential moving average of parameters.

        e <- decay_t e + (1 - decay_t) p,    decay_t = min(decay, (1 + t) / (10 + t))

    The shorter memory at the beginning lets go of the first weights.

    Args:
        parameters: what to average.
        decay: how much to keep at a step, in [0, 1).
        warm: let decay_t grow as above; else decay_t = decay.
        buffers: what to average besides, such as `[b for _, b in model.named_buffers()]`. Whole
            numbers are not averaged: the last ones are kept.

    Example:
        >>> import wengert as wg
        >>> w = wg.tensor([1.0], requires_grad=True)
        >>> ema = EMA([w], decay=0.5, warm=False)
        >>> with wg.no_grad():
        ...     w[...] = 3.0
        >>> ema.update()
        >>> with ema.applied():
        ...     print(w.item())
        2.0
        >>> w.item()
        3.0

    References:
        B. Polyak, A. Juditsky (1992), Acceleration of stochastic approximation by averaging.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        decay: float = 0.999,
        *,
        warm: bool = True,
        buffers: Iterable[Tensor] = (),
    ) -> None:
        self.decay = check("EMA", "decay", decay, below=1.0, fix="decay=0.999")
        self.warm = warm
        try:
            self.parameters = [*parameters, *buffers]
        except TypeError:
            self.parameters = []
        if not all(isinstance(p, Tensor) for p in self.parameters) or not self.parameters:
            raise OptionError(
                f"{type(self).__name__}(parameters, buffers=...)", "both are lists of tensors",
                fix="model.parameters(), buffers=[b for _, b in model.named_buffers()]",
            )  # fmt: skip
        self.values = [np.array(p.value()) for p in self.parameters]
        self.steps = 0

    def update(self) -> None:
        """Take in the parameters as they are now, after a step of the optimizer."""
        tracer = live.recording() if trace.MODES else None
        if tracer is not None:
            return recorded_mean(self, tracer)
        self.steps += 1
        share = self._share(self.steps)
        for e, p in zip(self.values, self.parameters):
            if e.dtype.kind in "fc":
                e += (p.value() - e) * e.dtype.type(share)
            else:
                e[...] = p.value()

    def _share(self, t: int) -> float:
        """How much of the parameters the average takes in at its t-th step."""
        return 1 - (min(self.decay, (1 + t) / (10 + t)) if self.warm else self.decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside the block the parameters are the averages."""
        now = [np.array(p.value()) for p in self.parameters]
        self._put(self.values)
        try:
            yield
        finally:
            self._put(now)

    def _put(self, values: list[Any]) -> None:
        with no_grad():
            for p, value in zip(self.parameters, values):
                writable(p)[...] = value

    def state_dict(self) -> dict[str, Any]:
        """The averages and how many steps they have seen."""
        return {"steps": self.steps, "values": [e.copy() for e in self.values]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        if [np.shape(v) for v in state["values"]] != [e.shape for e in self.values]:
            raise OptionError(
                f"{type(self).__name__}.load_state_dict(state)",
                "it is the state of other parameters",
            )
        self.steps = int(state["steps"])
        for e, value in zip(self.values, state["values"]):
            e[...] = value


class SWA(EMA):
    """Stochastic weight averaging: the mean of the weights at all calls of `update`.

        e_t = (p_1 + .. + p_t) / t

    Meant for the end of a run, once an epoch, with a learning rate that does not fall to 0. The
    running statistics of normalisation layers belong to other weights: average them as `buffers`,
    or let the model run over the training data once more inside `applied()`.

    Args:
        parameters: what to average.
        buffers: what to average besides.

    Example:
        >>> import wengert as wg
        >>> w = wg.tensor([5.0], requires_grad=True)
        >>> swa = SWA([w])
        >>> for value in (1.0, 2.0, 6.0):
        ...     with wg.no_grad():
        ...         w[...] = value
        ...     swa.update()
        >>> swa.values
        [array([3.])]

    References:
        P. Izmailov et al. (2018), Averaging Weights Leads to Wider Optima and Better
        Generalization, arXiv:1803.05407.
    """

    def __init__(self, parameters: Iterable[Tensor], *, buffers: Iterable[Tensor] = ()) -> None:
        super().__init__(parameters, buffers=buffers)

    def _share(self, t: int) -> float:
        return 1 / t
