"""Recurrent networks: RNN, LSTM and GRU, in layers, in both directions, for any lengths."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from wengert.errors import ArgumentError, OptionError, ShapeError
from wengert.ops import recurrent as ops
from wengert.ops.index import Concatenate
from wengert.trace import Tensor, bind
from wengert.types import dtype_of, shape_of

from . import functional as F
from . import init as initial
from .functional.conv import count, given
from .functional.dropout import probability
from .init import stream
from .module import Module, Parameter

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell"]

EVERYWHERE = np.array(True)


class Cell(Module):
    """One layer in one direction: its weights, and the operation that runs over time.

    The input weights are uniform with Glorot's bound, those of the state orthogonal.
    """

    gates: ClassVar[tuple[str, ...]]  # in the order of the columns of the weights
    states: ClassVar[int] = 1

    def __init__(
        self,
        n_in: int,
        n: int,
        *,
        bias: bool = True,
        rng: np.random.Generator | int | None = None,
        dtype: Any = np.float32,
    ) -> None:
        what = type(self).__name__
        self.n_in, self.n = n_in, n = count(what, "n_in", n_in), count(what, "n", n, 1)
        draw, gates = stream(rng), len(self.gates)
        bound = math.sqrt(6 / (n_in + n))
        first = initial.uniform((n_in, gates * n), -bound, bound, rng=draw)
        self.weight_x = Parameter(first.astype(dtype))
        square = [initial.orthogonal((n, n), rng=draw) for _ in range(gates)]
        self.weight_h = Parameter(bind(Concatenate(1), *square).astype(dtype))
        self._bias(bias, gates * n, dtype)

    def _bias(self, bias: bool, n: int, dtype: Any) -> None:
        self.bias = Parameter(np.zeros(n, dtype)) if bias else None

    def _operands(self) -> tuple[Any, ...]:
        return (self.weight_h,)

    def _op(self, back: bool) -> Any:
        raise NotImplementedError

    def run(self, x: Any, states: tuple[Any, ...], m: Any, back: bool) -> tuple[Any, ...]:
        """The states at all places, `[T, N, n]` each, of x `[T, N, n_in]`.

        Args:
            m: `[T, N]`, False where an example has ended; or True.
        """
        x = x @ self.weight_x if self.bias is None else F.linear(x, self.weight_x, self.bias)
        found = bind(self._op(back), x, *self._operands(), *states, m)
        return tuple(found[: self.states])

    def zeros(self, n: int, dtype: Any) -> tuple[Any, ...]:
        return (np.zeros((n, self.n), dtype),) * self.states

    def forward(self, x: Any, state: Any = None) -> Any:
        """The new state, of x `[N, n_in]` and the old one `[N, n]`."""
        x = given(type(self).__name__, x)
        s = shape_of(x)
        if len(s) != 2 or s[-1] != self.n_in:
            raise ShapeError(
                f"{self!r}(x)", f"x has the axes example and {self.n_in} numbers",
                operands=[("x", x)],
            )  # fmt: skip
        start = self.zeros(s[0], dtype_of(x)) if state is None else state
        start = start if self.states > 1 or state is None else (start,)
        y = self.run(x.reshape(1, *s), tuple(start), EVERYWHERE, False)
        return y[0][0] if self.states == 1 else tuple([v[0] for v in y])

    def extra_repr(self) -> str:
        return f"{self.n_in}, {self.n}"


class RNNCell(Cell):
    """One step of a recurrent network:  h' = tanh(x weight_x + h weight_h + bias).

    Shapes: x `[N, n_in]`, h `[N, n]`, weight_x `[n_in, n]`, weight_h `[n, n]`, bias `[n]`.

    Args:
        n_in, n: numbers of x and of the state.
        nonlinearity: "tanh" or "relu".
        bias, rng, dtype: as in `Linear`.

    Example:
        >>> RNNCell(3, 4, rng=0)(np.ones((2, 3), np.float32)).shape
        (2, 4)
    """

    gates = ("h",)

    def __init__(self, n_in: int, n: int, *, nonlinearity: str = "tanh", **options: Any) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise OptionError(f"RNN(nonlinearity={nonlinearity!r})", '"tanh" or "relu"')
        super().__init__(n_in, n, **options)
        self.nonlinearity = nonlinearity

    def _op(self, back: bool) -> Any:
        return ops.RNN(back, self.nonlinearity == "relu")


class LSTMCell(Cell):
    """One step of a long short-term memory.

        i, f, o, g = x weight_x + h weight_h + bias,  in this order along the last axis
        c' = sigmoid(f) c + sigmoid(i) tanh(g),   h' = sigmoid(o) tanh(c')

    The bias of f starts at 1, so that the memory lasts at first.

    Shapes: x `[N, n_in]`, h and c `[N, n]`, weight_x `[n_in, 4 n]`, weight_h `[n, 4 n]`, bias
    `[4 n]`.

    Example:
        >>> h, c = LSTMCell(3, 4, rng=0)(np.ones((2, 3), np.float32))
        >>> h.shape, c.shape
        ((2, 4), (2, 4))

    References:
        R. Jozefowicz, W. Zaremba, I. Sutskever (2015), An Empirical Exploration of Recurrent
        Network Architectures, for the bias.
    """

    gates = ("i", "f", "o", "g")
    states = 2

    def _bias(self, bias: bool, n: int, dtype: Any) -> None:
        first = np.zeros(n, dtype)
        first[n // 4 : n // 2] = 1
        self.bias = Parameter(first) if bias else None

    def _op(self, back: bool) -> Any:
        return ops.LSTM(back)


class GRUCell(Cell):
    """One step of a gated recurrent unit.

        r, u, n = x weight_x + bias;   a, b, k = h weight_h + (0, 0, bias_h)
        h' = (1 - sigmoid(u + b)) tanh(n + sigmoid(r + a) k) + sigmoid(u + b) h

    Shapes: x `[N, n_in]`, h `[N, n]`, weight_x `[n_in, 3 n]`, weight_h `[n, 3 n]`, bias `[3 n]`,
    bias_h `[n]`.

    Example:
        >>> GRUCell(3, 4, rng=0)(np.ones((2, 3), np.float32)).shape
        (2, 4)
    """

    gates = ("r", "u", "n")

    def _bias(self, bias: bool, n: int, dtype: Any) -> None:
        super()._bias(bias, n, dtype)
        self.bias_h = Parameter(np.zeros(n // 3, dtype)) if bias else None

    def _operands(self) -> tuple[Any, ...]:
        if self.bias_h is None:
            return self.weight_h, np.zeros((1, self.n), self.weight_h.dtype)
        return self.weight_h, self.bias_h.reshape(1, self.n)

    def _op(self, back: bool) -> Any:
        return ops.GRU(back)


class Recurrent(Module):
    """What RNN, LSTM and GRU share."""

    cell: ClassVar[type[Cell]]

    def __init__(
        self,
        n_in: int,
        n: int,
        layers: int = 1,
        *,
        bidirectional: bool = False,
        dropout: float = 0.0,
        batch_first: bool = True,
        rng: np.random.Generator | int | None = None,
        **options: Any,
    ) -> None:
        what = type(self).__name__
        self.n_in, self.n = n_in, n = count(what, "n_in", n_in), count(what, "n", n, 1)
        layers = count(what, "layers", layers, 1)
        probability(what, dropout, "dropout")
        self.bidirectional, self.dropout, self.batch_first = bidirectional, dropout, batch_first
        draw = stream(rng)
        self.rng = None if rng is None else draw
        ways = ("forward", "backward") if bidirectional else ("forward",)
        self.layers = [
            {way: self.cell(n if i else n_in, n, rng=draw, **options) for way in ways}
            if not (i and bidirectional)
            else {way: self.cell(2 * n, n, rng=draw, **options) for way in ways}
            for i in range(layers)
        ]

    def forward(self, x: Any, state: Any = None, lengths: Any = None) -> Any:
        """(the last layer's states at all places, the last state of every layer).

        Args:
            x: `[N, T, n_in]`, or `[T, n_in]` for one sequence.
            state: the first state, `[layers, N, n]`, both directions counted; None for zeros. For
                an LSTM a pair of them.
            lengths: how many places each example has, `[N]`; the others are not looked at, and
                the result is 0 there. The last state is that of the last place there is.

        Raises:
            ShapeError: x, the state or lengths have other shapes.
        """
        x = given(type(self).__name__, x)
        s = shape_of(x)
        if len(s) not in (2, 3) or s[-1] != self.n_in:
            order = "example, place" if self.batch_first else "place, example"
            raise ShapeError(
                f"{self!r}(x)", f"x has the axes {order} and {self.n_in} numbers",
                operands=[("x", x)],
            )  # fmt: skip
        one = len(s) == 2
        if one:
            x = x.reshape(s[0], 1, s[1])
        elif self.batch_first:
            x = x.swapaxes(0, 1)
        t, n, _ = shape_of(x)
        if not t:
            raise ShapeError(
                f"{self!r}(x)", "a sequence has one place at least", operands=[("x", x)]
            )
        starts = self._starts(x, state, n, one)
        m = EVERYWHERE if lengths is None else self._within(lengths, t, n)
        x = self._there(x, m)  # padding may be anything, nan too
        ends: list[Any] = []
        for i, ways in enumerate(self.layers):
            if i and self.dropout:
                x = F.dropout(x, self.dropout, self.training, self.rng)
            outs = []
            for way, cell in ways.items():
                back = way == "backward"
                states = cell.run(x, starts[len(ends)], m, back)
                ends.append([v[0 if back else -1] for v in states])
                outs.append(states[0])
            x = outs[0] if len(outs) == 1 else np.concatenate(outs, axis=-1)
            x = self._there(x, m)
        last = [np.stack(v) for v in zip(*ends)]
        if one:
            x, last = x[:, 0], [v[:, 0] for v in last]
        elif self.batch_first:
            x = x.swapaxes(0, 1)
        return x, (last[0] if len(last) == 1 else tuple(last))

    def _there(self, x: Any, m: Any) -> Any:
        return x if m is EVERYWHERE else np.where(m[..., None], x, x.dtype.type(0))

    def _starts(self, x: Any, state: Any, n: int, one: bool) -> list[tuple[Any, ...]]:
        """The first states of every layer and direction."""
        count, cell = len(self.layers) * (2 if self.bidirectional else 1), self.cell
        if state is None:
            return [(np.zeros((n, self.n), dtype_of(x)),) * cell.states] * count
        given = tuple(state) if cell.states > 1 else (state,)
        want = (count, self.n) if one else (count, n, self.n)
        if len(given) != cell.states or any(shape_of(v) != want for v in given):
            pair = "a pair of states, each" if cell.states > 1 else "a state"
            raise ShapeError(
                f"{self!r}(x, state)", f"state is {pair} of shape {list(want)}",
                operands=[("x", x), *[(f"state[{i}]", v) for i, v in enumerate(given)]],
            )  # fmt: skip
        if one:
            given = tuple([v.reshape(count, 1, self.n) for v in given])
        return [tuple([v[i] for v in given]) for i in range(count)]

    def _within(self, lengths: Any, t: int, n: int) -> Any:
        lengths = np.asarray(lengths.value() if isinstance(lengths, Tensor) else lengths)
        if lengths.shape != (n,) or lengths.dtype.kind not in "iu":
            raise ShapeError(
                f"{self!r}(x, lengths=lengths)", f"lengths has a whole number for each of {n}",
                operands=[("lengths", lengths)],
            )  # fmt: skip
        if lengths.size and not (lengths.min() >= 0 and lengths.max() <= t):
            raise ArgumentError(
                f"{self!r}(x, lengths=lengths)", f"lengths are from 0 to {t}, the places of x",
                operands=[("lengths", lengths)],
            )  # fmt: skip
        return np.arange(t)[:, None] < lengths

    def extra_repr(self) -> str:
        parts = [str(self.n_in), str(self.n)]
        if len(self.layers) > 1:
            parts.append(f"layers={len(self.layers)}")
        for name, usual in (("bidirectional", False), ("dropout", 0.0), ("batch_first", True)):
            if getattr(self, name) != usual:
                parts.append(f"{name}={getattr(self, name)}")
        return ", ".join(parts)


class RNN(Recurrent):
    """A recurrent network:  h[t] = tanh(x[t] weight_x + h[t-1] weight_h + bias).

    Shapes, arguments and errors: those of `LSTM`, with one state; `nonlinearity="relu"` takes the
    place of tanh.

    Example:
        >>> y, h = RNN(3, 4, rng=0)(np.ones((2, 5, 3), np.float32))
        >>> y.shape, h.shape
        ((2, 5, 4), (1, 2, 4))
    """

    cell = RNNCell


class LSTM(Recurrent):
    """Long short-term memory over sequences; the equations are those of `LSTMCell`.

    The batch comes first here. The input's product is taken for all places at once, and a whole
    sequence is one recorded operation.

    Shapes: x `[N, T, n_in]`, y `[N, T, n]`, or `[N, T, 2 n]` in both directions; states
    `[layers, N, n]`, both directions counted.

    Args:
        n_in, n: numbers of x, and of the state.
        layers: how many, one on the other.
        bidirectional: whether each layer runs back too; what both give stands side by side.
        dropout: the probability of leaving out between layers, in training.
        batch_first: False for x and y `[T, N, ...]`.
        bias: whether there are any.
        rng: a generator, or a seed for one; None draws from `wg.random`.
        dtype: of the parameters.

    Raises:
        ShapeError: the last axis of x is not n_in long, or a state has another shape.

    Example:
        >>> y, (h, c) = LSTM(3, 4, layers=2, rng=0)(np.ones((2, 5, 3), np.float32), lengths=[5, 2])
        >>> y.shape, h.shape, c.shape
        ((2, 5, 4), (2, 2, 4), (2, 2, 4))
        >>> bool((y[1, 2:] == 0).all())
        True

    References:
        S. Hochreiter, J. Schmidhuber (1997), Long Short-Term Memory, Neural Computation 9.
    """

    cell = LSTMCell


class GRU(Recurrent):
    """Gated recurrent units over sequences; the equations are those of `GRUCell`.

    Shapes, arguments and errors: those of `LSTM`, with one state.

    Example:
        >>> y, h = GRU(3, 4, bidirectional=True, rng=0)(np.ones((2, 5, 3), np.float32))
        >>> y.shape, h.shape
        ((2, 5, 8), (2, 2, 4))

    References:
        K. Cho et al. (2014), Learning Phrase Representations using RNN Encoder-Decoder,
        arXiv:1406.1078.
    """

    cell = GRUCell
