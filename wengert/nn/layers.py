"""The layers that a multilayer perceptron needs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from wengert.errors import ShapeError

from . import functional as F
from . import init as initial
from .module import Module, Parameter

__all__ = ["GELU", "Linear", "ReLU", "Sequential", "Sigmoid", "Softplus", "Tanh"]


class Linear(Module):
    """An affine map of the last axis.

        y = x @ weight + bias

    Shapes: x `[..., n_in]`, weight `[n_in, n_out]`, bias `[n_out]`, y `[..., n_out]`.

    Args:
        n_in, n_out: how many numbers go in and come out.
        bias: whether to add one.
        init: `he` before relu, `xavier` before tanh, sigmoid and the output. The bias starts at 0.
        rng: a generator, or a seed for one; None draws anew each time.
        dtype: of weight and bias.

    Raises:
        ShapeError: the last axis of x is not n_in long.
        UnknownNameError: an `init` that does not exist.

    Example:
        >>> layer = Linear(3, 2, rng=0)
        >>> layer(np.ones((5, 3), np.float32)).shape
        (5, 2)
        >>> layer
        Linear(3, 2)
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        bias: bool = True,
        init: str = "he",
        rng: np.random.Generator | int | None = None,
        dtype: Any = np.float32,
    ) -> None:
        self.n_in, self.n_out = n_in, n_out
        self.weight = Parameter(initial.draw(init, rng, n_in, n_out).astype(dtype))
        self.bias = Parameter(np.zeros(n_out, dtype)) if bias else None

    def forward(self, x: Any) -> Any:
        shape = x.shape
        if not shape or shape[-1] != self.n_in:
            raise self._refusal(x, shape)
        if self.bias is None:
            return x @ self.weight
        return F.linear(x, self.weight, self.bias)

    def _refusal(self, x: Any, shape: tuple[int, ...]) -> ShapeError:
        if not shape:
            note, fix = "has no axis", None
        else:
            note = f"axis -1 is {shape[-1]}"
            if len(shape) > 2 and math.prod(shape[1:]) == self.n_in:
                fix = f"x.reshape({shape[0]}, {self.n_in})"
            elif len(shape) == 2 and shape[0] == self.n_in:
                fix = "x.T"
            else:
                fix = f"Linear({shape[-1]}, {self.n_out}) for this x"
        return ShapeError(
            f"Linear({self.n_in}, {self.n_out})(x)",
            f"the last axis of x must have length {self.n_in}",
            operands=[
                ("x", x, note),
                (self.weight.name or "weight", self.weight, f"axis -2 is {self.n_in}"),
            ],
            fix=fix,
        )

    def extra_repr(self) -> str:
        return f"{self.n_in}, {self.n_out}" + ("" if self.bias is not None else ", bias=False")


class Sequential(Module):
    """Modules one after the other.

        y = layers[-1](... layers[1](layers[0](x)))

    Example:
        >>> Sequential(Linear(64, 10, rng=0), ReLU())
        Sequential(
          layers.0    Linear(64, 10)          650
          layers.1    ReLU()
          parameters                          650
        )
    """

    def __init__(self, *layers: Module) -> None:
        self.layers = list(layers)

    def forward(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer(x)
        return x

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, i: int) -> Module:
        return self.layers[i]


class ReLU(Module):
    """y = max(x, 0)"""

    def forward(self, x: Any) -> Any:
        return F.relu(x)


class Sigmoid(Module):
    """y = 1 / (1 + exp(-x))"""

    def forward(self, x: Any) -> Any:
        return F.sigmoid(x)


class Tanh(Module):
    """y = tanh(x)"""

    def forward(self, x: Any) -> Any:
        return F.tanh(x)


class GELU(Module):
    """y = x * P(N(0, 1) <= x)"""

    def forward(self, x: Any) -> Any:
        return F.gelu(x)


class Softplus(Module):
    """y = log(1 + exp(x))"""

    def forward(self, x: Any) -> Any:
        return F.softplus(x)
