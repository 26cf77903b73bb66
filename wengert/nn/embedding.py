"""Tables of vectors, and where in a sequence something stands."""

from __future__ import annotations

from typing import Any

import numpy as np

from wengert.create import tensor
from wengert.errors import OptionError, ShapeError
from wengert.trace import Tensor
from wengert.types import shape_of

from . import functional as F
from . import init as initial
from .functional.conv import count
from .module import Module, Parameter

__all__ = ["Embedding", "EmbeddingBag", "PositionalEncoding", "TiedLinear", "sinusoids"]


class Embedding(Module):
    """A vector for each of n things.

        y[..] = weight[x[..]]

    The gradient of a row is the sum of those of all places that read it.

    Shapes: x whole numbers `[...]`, weight `[n, d]`, y `[..., d]`.

    Args:
        n: how many things, d: how long their vectors are.
        padding: the number of a thing whose vector starts at 0 and has no gradient.
        std: of the normal distribution that the vectors are drawn from.
        rng: a generator, or a seed for one; None draws from `wg.random`.
        dtype: of weight.

    Raises:
        AxisError: a number outside [0, n).
        DTypeError: x is not made of whole numbers.

    Example:
        >>> table = Embedding(10, 3, rng=0)
        >>> table(np.array([[1, 2], [1, 7]])).shape
        (2, 2, 3)
    """

    def __init__(
        self,
        n: int,
        d: int,
        *,
        padding: int | None = None,
        std: float = 1.0,
        rng: np.random.Generator | int | None = None,
        dtype: Any = np.float32,
    ) -> None:
        what = type(self).__name__
        self.n, self.d = n, d = count(what, "n", n), count(what, "d", d)
        self.padding = None if padding is None else count(what, "padding", padding)
        if self.padding is not None and self.padding >= n:
            raise OptionError(f"{what}({n}, {d}, padding={padding})", f"padding is less than {n}")
        if isinstance(std, bool) or not isinstance(std, int | float | np.number) or not std >= 0:
            raise OptionError(f"{what}(std={std!r})", "std is a number, at least 0")
        first = initial.normal((n, d), rng=rng) * std
        if padding is not None:
            first[padding] = 0
        self.weight = Parameter(first.astype(dtype))

    def forward(self, x: Any) -> Any:
        return F.embedding(x, self.weight, self.padding)

    def extra_repr(self) -> str:
        return f"{self.n}, {self.d}" + ("" if self.padding is None else f", padding={self.padding}")


class EmbeddingBag(Embedding):
    """The mean or the sum of the vectors of a bag of things.

        y[j] = mean_{i in bag j} weight[x[i]]

    Shapes: x `[N, L]`, a bag a row, or `[M]` with offsets `[N]` where each bag starts; y `[N, d]`.

    Args:
        mode: "mean" or "sum".
        others: those of `Embedding`.

    Example:
        >>> EmbeddingBag(10, 3, rng=0)(np.array([[1, 2, 4], [0, 0, 7]])).shape
        (2, 3)
    """

    def __init__(self, n: int, d: int, *, mode: str = "mean", **options: Any) -> None:
        super().__init__(n, d, **options)
        self.mode = mode

    def forward(self, x: Any, offsets: Any = None, weight: Any = None) -> Any:
        return F.embedding_bag(x, self.weight, offsets, self.mode, weight, self.padding)

    def extra_repr(self) -> str:
        return super().extra_repr() + f", mode={self.mode!r}"


class TiedLinear(Module):
    """The linear map with the transpose of a parameter that stands elsewhere too.

        y = x @ weight.T

    The gradients of both uses add up; the parameter is listed, saved and trained once.

    Shapes: x `[..., d]`, weight `[n, d]`, y `[..., n]`.

    Args:
        weight: a parameter, such as that of an `Embedding`.

    Example:
        >>> table = Embedding(10, 3, rng=0)
        >>> head = TiedLinear(table.weight)
        >>> head(table(np.array([4]))).shape
        (1, 10)
    """

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight

    def forward(self, x: Any) -> Any:
        s = shape_of(x)
        if not s or s[-1] != self.weight.shape[1]:
            raise ShapeError(
                "TiedLinear(weight)(x)",
                "the last axis of x is as long as that of weight",
                operands=[("x", x), (getattr(self.weight, "name", None) or "weight", self.weight)],
            )
        return x @ self.weight.T

    def extra_repr(self) -> str:
        n, d = self.weight.shape
        return f"{d}, {n}"


def sinusoids(n: int, d: int, base: float = 10000.0) -> Any:
    """Waves that tell places apart:  y[t, 2i] = sin(t / base^(2i/d)),  y[t, 2i+1] = cos(same).

    Shapes: `float64[n, d]`.

    Example:
        >>> sinusoids(2, 4).round(3)
        array([[0.   , 1.   , 0.   , 1.   ],
               [0.841, 0.54 , 0.01 , 1.   ]])

    References:
        A. Vaswani et al. (2017), Attention Is All You Need, arXiv:1706.03762, section 3.5.
    """
    angle = np.arange(n)[:, None] / base ** (np.arange(0, d, 2) / d)
    y = np.empty((n, d))
    y[:, 0::2] = np.sin(angle)
    y[:, 1::2] = np.cos(angle)[:, : d // 2]
    return y


class PositionalEncoding(Module):
    """Adds to each place of a sequence a vector of its own.

        y[.., t, :] = x[.., t, :] + weight[start + t]

    Shapes: x and y `[..., T, d]`, T up to n; weight `[n, d]`.

    Args:
        n: the longest sequence.
        d: how long the vectors are.
        learned: a parameter, drawn with a small variance; else fixed waves, see `sinusoids`.
        rng, dtype: as in `Embedding`.

    Raises:
        ShapeError: the sequence is longer than n.

    Example:
        >>> PositionalEncoding(100, 4)(np.zeros((2, 3, 4), np.float32)).shape
        (2, 3, 4)
    """

    def __init__(
        self,
        n: int,
        d: int,
        *,
        learned: bool = False,
        rng: np.random.Generator | int | None = None,
        dtype: Any = np.float32,
    ) -> None:
        what = "PositionalEncoding"
        self.n, self.d = n, d = count(what, "n", n), count(what, "d", d)
        self.learned = learned
        if learned:
            self.weight = Parameter((initial.normal((n, d), rng=rng) * 0.02).astype(dtype))
        else:
            self.weight = tensor(sinusoids(n, d).astype(dtype))

    def forward(self, x: Any, start: int = 0) -> Any:
        s = shape_of(x)
        if len(s) < 2 or s[-1] != self.d or start + s[-2] > self.n:
            raise ShapeError(
                f"{self!r}(x)", f"x ends with up to {self.n} places of {self.d} numbers each",
                operands=[("x", x)],
            )  # fmt: skip
        return x + self.weight[start : start + s[-2]]

    def extra_repr(self) -> str:
        return f"{self.n}, {self.d}" + (", learned=True" if self.learned else "")
