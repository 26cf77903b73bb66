"""Linear maps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from wengert.errors import ShapeError
from wengert.types import shape_of

from . import functional as F
from . import init as initial
from .functional.conv import count, given
from .module import Module, Parameter

__all__ = ["Bilinear", "Linear"]


class Linear(Module):
    """An affine map of the last axis.

        y = x @ weight + bias

    Shapes: x `[..., n_in]`, weight `[n_in, n_out]`, bias `[n_out]`, y `[..., n_out]`.

    Args:
        n_in, n_out: how many numbers go in and come out.
        bias: whether to add one.
        init: `he` before relu, `xavier` before tanh, sigmoid and the output, or another rule of
            `nn.init` by its name. The bias starts at 0.
        rng: a generator, or a seed for one; None draws from `wg.random`.
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
        self.n_in = n_in = count("Linear", "n_in", n_in)
        self.n_out = n_out = count("Linear", "n_out", n_out)
        self.weight = Parameter(initial.draw(init, rng, n_in, n_out).astype(dtype))
        self.bias = Parameter(np.zeros(n_out, dtype)) if bias else None

    def forward(self, x: Any) -> Any:
        try:
            shape = x.shape
        except AttributeError:
            x = given("Linear", x)
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


class Bilinear(Module):
    """A form that is linear in each of two arguments.

        y[.., k] = sum_{i, j} a[.., i] weight[i, j, k] b[.., j] + bias[k]

    Shapes: a `[..., n_a]`, b `[..., n_b]`, weight `[n_a, n_b, n_out]`, bias `[n_out]`,
    y `[..., n_out]`.

    Args:
        n_a, n_b, n_out: how many numbers go in and come out.
        bias, rng, dtype: as in `Linear`.

    Raises:
        ShapeError: a or b has another last axis, or they differ in the others.

    Example:
        >>> Bilinear(3, 4, 2, rng=0)(np.ones((5, 3), np.float32), np.ones((5, 4), np.float32)).shape
        (5, 2)
    """

    def __init__(
        self,
        n_a: int,
        n_b: int,
        n_out: int,
        *,
        bias: bool = True,
        rng: np.random.Generator | int | None = None,
        dtype: Any = np.float32,
    ) -> None:
        self.n_a = n_a = count("Bilinear", "n_a", n_a)
        self.n_b = n_b = count("Bilinear", "n_b", n_b)
        self.n_out = n_out = count("Bilinear", "n_out", n_out)
        bound = math.sqrt(3 / max(1, n_a * n_b))
        first = initial.uniform((n_a, n_b, n_out), -bound, bound, rng=rng)
        self.weight = Parameter(first.astype(dtype))
        self.bias = Parameter(np.zeros(n_out, dtype)) if bias else None

    def forward(self, a: Any, b: Any) -> Any:
        sa, sb = shape_of(a), shape_of(b)
        if sa[-1:] != (self.n_a,) or sb[-1:] != (self.n_b,) or sa[:-1] != sb[:-1]:
            raise ShapeError(
                f"{self!r}(a, b)",
                f"a and b end with {self.n_a} and {self.n_b} numbers; their other axes are equal",
                operands=[("a", a), ("b", b)],
            )
        h = a @ self.weight.reshape(self.n_a, self.n_b * self.n_out)
        h = h.reshape(*sa[:-1], self.n_b, self.n_out)
        y = (b.reshape(*sb[:-1], 1, self.n_b) @ h).reshape(*sa[:-1], self.n_out)
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        ends = "" if self.bias is not None else ", bias=False"
        return f"{self.n_a}, {self.n_b}, {self.n_out}{ends}"
