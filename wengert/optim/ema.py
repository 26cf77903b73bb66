"""A running mean of the weights, which often tests better than the weights themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from wengert.errors import OptionError
from wengert.trace import Tensor, no_grad
from wengert.transforms.store import writable

from .base import check

__all__ = ["EMA"]


class EMA:
    """Exponential moving average of parameters.

        e <- decay_t e + (1 - decay_t) p,    decay_t = min(decay, (1 + t) / (10 + t))

    The shorter memory at the beginning lets go of the first weights.

    Args:
        parameters: what to average.
        decay: how much to keep at a step, in [0, 1).
        warm: let decay_t grow as above; else decay_t = decay.

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
        self, parameters: Iterable[Tensor], decay: float = 0.999, *, warm: bool = True
    ) -> None:
        self.decay = check("EMA", "decay", decay, below=1.0, fix="decay=0.999")
        self.warm = warm
        self.parameters = list(parameters)
        self.values = [np.array(p.value()) for p in self.parameters]
        self.steps = 0

    def update(self) -> None:
        """Take in the parameters as they are now, after a step of the optimizer."""
        t = self.steps = self.steps + 1
        decay = min(self.decay, (1 + t) / (10 + t)) if self.warm else self.decay
        for e, p in zip(self.values, self.parameters):
            e += (p.value() - e) * e.dtype.type(1 - decay)

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
            raise OptionError("EMA.load_state_dict(state)", "it is the state of other parameters")
        self.steps = int(state["steps"])
        for e, value in zip(self.values, state["values"]):
            e[...] = value
