"""What every optimizer shares: the parameters, and memory for all of them end to end.

The update rules are elementwise, so they do not care where one parameter ends and the next begins.
Gradients are copied into one flat buffer and the rule runs once over it, instead of once for every
parameter: the time of a step is then that of the arithmetic, not that of a hundred small calls.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wengert.errors import OptionError, verbatim
from wengert.nn.module import Module
from wengert.trace import Tensor, no_grad
from wengert.transforms.store import writable

__all__ = ["Optimizer", "check"]

Flat = NDArray[Any]


def check(
    owner: str, name: str, value: Any, *, low: float = 0.0, below: float = math.inf, fix: str = ""
) -> float:
    """`value` as a float, if low <= value < below.

    Example:
        >>> check("SGD", "lr", 0.1)
        0.1
        >>> check("SGD", "lr", float("nan"), fix="lr=0.1")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        wengert.OptionError: [WG301] SGD(lr=nan): lr must be a finite number, at least 0
          fix: lr=0.1
          at:  ...
    """
    try:
        number = math.nan if isinstance(value, str | bytes) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if low <= number < below:
        return number
    kind = "a finite number" if below == math.inf else f"a number below {below:g}"
    raise OptionError(
        f"{owner}({name}={value!r})", f"{name} must be {kind}, at least {low:g}", fix=fix or None
    )


class _Block:
    """The parameters of one dtype, with rows of memory as long as all of them together."""

    def __init__(self, parameters: list[Tensor], states: int) -> None:
        self.parameters = parameters
        self.steps = [0] * len(parameters)
        self.stops = np.cumsum([p.size for p in parameters]).tolist()
        self.starts = [0, *self.stops[:-1]]
        dtype = parameters[0].dtype
        self.gradient = np.zeros(self.stops[-1], dtype)
        self.value = np.zeros(self.stops[-1], dtype)
        self.scratch = np.zeros(self.stops[-1], dtype)
        self.states = [np.zeros(self.stops[-1], dtype) for _ in range(states)]
        self.gradients = self.shaped(self.gradient)
        self.values = self.shaped(self.value)

    def shaped(self, row: Flat) -> list[NDArray[Any]]:
        return [
            row[start:stop].reshape(p.shape)
            for p, start, stop in zip(self.parameters, self.starts, self.stops)
        ]

    def runs(self, present: list[int]) -> Iterator[tuple[int, int]]:
        """Neighbours that have a gradient and have made equally many steps: [first, last] pairs."""
        first = last = present[0]
        for i in present[1:]:
            if i == last + 1 and self.steps[i] == self.steps[first]:
                last = i
                continue
            yield first, last
            first = last = i
        yield first, last


class Optimizer:
    """The base of every optimizer: an elementwise update rule over parameters.

    A subclass gives `update`, and says in `states` how many numbers it remembers per parameter and
    in `reads_values` whether the rule looks at the parameters themselves.

    Args:
        parameters: the tensors to train, such as `model.parameters()`.
        lr: the learning rate; may be set between steps, `optimizer.lr = 0.01`.

    Raises:
        OptionError: no parameters, a module in their place, something that is not a leaf with
            `requires_grad`, or a learning rate that is negative, infinite, nan or no number.
    """

    states = 0

    def __init__(self, parameters: Iterable[Tensor], lr: float) -> None:
        self._owner = type(self).__name__
        if isinstance(parameters, Module):
            raise OptionError(
                f"{self._owner}(model)",
                "an optimizer takes the parameters of a model, not the model",
                operands=[("model", verbatim(type(parameters).__name__))],
                fix=f"{self._owner}(model.parameters(), ...)",
            )
        self.parameters = list(parameters)
        self.lr = lr
        if not self.parameters:
            raise OptionError(
                f"{self._owner}(parameters)",
                "there is nothing to train: no parameters",
                fix="pass model.parameters() of a model that has some",
            )
        blocks: dict[Any, list[Tensor]] = {}
        seen: set[int] = set()
        for i, p in enumerate(self.parameters):
            self._check_parameter(i, p, id(p) in seen)
            seen.add(id(p))
            blocks.setdefault(p.dtype, []).append(p)
        self._blocks = [_Block(ps, self.states) for ps in blocks.values()]

    def _check_parameter(self, i: int, p: Any, twice: bool) -> None:
        if isinstance(p, Tensor) and p.is_leaf and p.requires_grad and not twice:
            return
        if twice:
            rule, fix = "the same tensor is given twice", "pass every parameter once"
        elif isinstance(p, Tensor) and not p.is_leaf:
            rule, fix = "a result of an operation is not a parameter", "p.detach().requires_grad_()"
        else:
            rule = "a parameter is a tensor with requires_grad=True"
            fix = "wg.tensor(p, requires_grad=True), or model.parameters()"
        value = p if hasattr(p, "shape") else verbatim(type(p).__name__)
        raise OptionError(
            f"{self._owner}(parameters)", rule, operands=[(f"parameters[{i}]", value)], fix=fix
        )

    @property
    def lr(self) -> float:
        """The learning rate."""
        return self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        self._lr = check(self._owner, "lr", value, fix=f"{self._owner}(parameters, lr=0.01)")

    def zero_grad(self) -> None:
        """Forget the gradients: `p.grad = None` for every parameter."""
        for p in self.parameters:
            p.node.grad = None

    def step(self) -> None:
        """One update of every parameter that has a gradient; the others stay as they are."""
        with no_grad():
            for block in self._blocks:
                self._step(block)

    def _step(self, block: _Block) -> None:
        gradients = [p.node.grad for p in block.parameters]
        present = [i for i, g in enumerate(gradients) if g is not None]
        gradients = [g.value() if isinstance(g, Tensor) else g for g in gradients if g is not None]
        if len(present) == len(block.parameters):
            np.concatenate(gradients, None, block.gradient)
            if self.reads_values:
                np.concatenate([p.data for p in block.parameters], None, block.value)
        else:
            for i, g in zip(present, gradients):
                np.copyto(block.gradients[i], g)
                if self.reads_values:
                    np.copyto(block.values[i], block.parameters[i].data)
            if not present:
                return
        for first, last in block.runs(present):
            part = slice(block.starts[first], block.stops[last])
            rows = [row[part] for row in block.states]
            t = block.steps[first] + 1
            self.update(t, block.gradient[part], block.value[part], block.scratch[part], *rows)
            block.steps[first : last + 1] = [t] * (last + 1 - first)
        for i in present:
            w = writable(block.parameters[i])
            w -= block.gradients[i]

    @property
    def reads_values(self) -> bool:
        """Whether the update rule looks at the parameters."""
        return False

    def update(self, t: int, g: Flat, p: Flat, scratch: Flat, *states: Flat) -> None:
        """Turn the gradient g into what is to be subtracted, in place.

        Args:
            t: which step of these parameters this is, from 1.
            g: the gradient; on return, the step to subtract.
            p: a copy of the parameters if `reads_values`, else undefined; may be overwritten.
            scratch: as long as g, undefined; may be overwritten.
            *states: what the rule remembers, zeros at first.
        """
        raise NotImplementedError
