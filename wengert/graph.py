"""A traced program: typed SSA, printed for people to read, verified, and run slowly as oracle.

in   %0: float64[3]
%1: float64[3] = tanh(%0)
%2: float64[] = Sum(axes=(0,), keepdims=False)(%1)
out  %2
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .errors import LevelError, user_frame
from .trace import OPS, Tensor, bind, getframe
from .types import RAW, Array, Aval, DType, Shape, is_inexact

# what Python's operators do to plain numbers, whose results are plain numbers again (NEP 50)
PLAIN = {"add", "sub", "mul", "div", "pow", "neg", "positive", "abs", "remainder", "floor_divide"}


def inferred(op: Any, avals: Sequence[Aval]) -> Any:
    """The types of op's value; of plain numbers the operators give plain numbers."""
    out = op.infer(*avals)
    if avals and all(a.weak for a in avals) and getattr(op, "name", None) in PLAIN:
        return Aval(out.shape, out.dtype, weak=True)
    return out


class Var:
    """A value that has a shape and a dtype and, while a function is being staged, no contents."""

    __slots__ = ("aval", "graph", "n")
    __array_ufunc__ = None

    def __init__(self, graph: Graph, n: int, aval: Aval) -> None:
        self.graph, self.n, self.aval = graph, n, aval

    @property
    def shape(self) -> Shape:
        return self.aval.shape

    @property
    def dtype(self) -> DType:
        return self.aval.dtype

    @property
    def ndim(self) -> int:
        return len(self.aval.shape)

    @property
    def size(self) -> int:
        return self.aval.size

    def __repr__(self) -> str:
        return f"%{self.n}: {self.aval}"

    def _no_value(self) -> Any:
        self.graph.asked = True
        raise LevelError(
            f"the value of {self!r}",
            "it is not known while the function is being staged",
            fix="wg.where(condition, a, b) in place of a branch on it",
        )

    __bool__ = __float__ = __int__ = __index__ = __complex__ = _no_value

    def item(self, *index: Any) -> Any:
        self._no_value()

    tolist = item

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        self._no_value()

    # The few array methods that rules use, common to arrays, tensors and graph variables.
    @property
    def T(self) -> Any:
        return OPS["Transpose"](tuple(range(self.ndim))[::-1])(self)

    def __getitem__(self, index: Any) -> Any:
        return OPS["GetItem"](index if isinstance(index, tuple) else (index,))(self)

    def swapaxes(self, i: int, j: int) -> Any:
        perm = list(range(self.ndim))
        perm[i], perm[j] = perm[j], perm[i]
        return OPS["Transpose"](tuple(perm))(self)

    def sum(self, axis: int) -> Any:
        return OPS["Sum"]((axis % self.ndim,), False)(self)

    def astype(self, dtype: Any) -> Any:
        if self.dtype == dtype:
            return self
        return OPS["Cast" if is_inexact(np.dtype(dtype)) else "CastConstant"](np.dtype(dtype))(self)


def _operator(name: str) -> Any:
    def method(self: Var, *args: Any) -> Any:
        if args and isinstance(args[0], Tensor):
            return NotImplemented  # the tensor's own operator knows its level
        return getattr(Tensor, name)(self, *args)

    return method


for _name in [
    "add",
    "radd",
    "sub",
    "rsub",
    "mul",
    "rmul",
    "truediv",
    "rtruediv",
    "pow",
    "rpow",
    "matmul",
    "rmatmul",
    "neg",
    "abs",
    "lt",
    "le",
    "gt",
    "ge",
]:
    setattr(Var, f"__{_name}__", _operator(f"__{_name}__"))


class Line:
    """One evaluation: outputs = op(inputs). `where` is the user's (code, instruction), if known."""

    __slots__ = ("inputs", "op", "outputs", "where")

    def __init__(
        self, op: Any, inputs: tuple[Any, ...], outputs: tuple[Var, ...], where: Any = None
    ) -> None:
        self.op, self.inputs, self.outputs, self.where = op, inputs, outputs, where

    def __repr__(self) -> str:
        args = ", ".join(_text(x) for x in self.inputs)
        return f"{', '.join(map(repr, self.outputs))} = {self.op!r}({args})"


def _text(x: Any) -> str:
    if isinstance(x, Var):
        return f"%{x.n}"
    if isinstance(x, np.ndarray):
        return f"const {Aval.of(x)}"
    return repr(x)


class Graph:
    """A straight line of evaluations, from inputs to outputs."""

    def __init__(self) -> None:
        self.inputs: list[Var] = []
        self.lines: list[Line] = []
        self.outputs: list[Any] = []
        self.asked = False  # whether somebody wanted the number behind a variable
        self.places = False  # note where the user's code asks for each line
        self._count = 0

    def var(self, aval: Aval) -> Var:
        v = Var(self, self._count, aval)
        self._count += 1
        return v

    def input(self, aval: Aval) -> Var:
        v = self.var(aval)
        self.inputs.append(v)
        return v

    def emit(self, op: Any, xs: Sequence[Array]) -> Any:
        """Append op(xs); its shapes and dtypes are inferred, and its errors raised, here."""
        for x in xs:
            if isinstance(x, Var) and x.graph is not self:
                raise LevelError(f"{op!r}", f"{x!r} belongs to another graph")
        try:
            avals = inferred(op, [x.aval if isinstance(x, Var) else Aval.of(x) for x in xs])
        except (ValueError, TypeError, IndexError) as error:
            raise op.refusal(tuple(xs), error) from error
        many = isinstance(avals, tuple)
        outputs = tuple([self.var(a) for a in (avals if many else (avals,))])
        frame = user_frame(getframe(2)) if self.places else None
        where = (frame.f_code, frame.f_lasti) if frame is not None else None
        self.lines.append(Line(op, tuple(xs), outputs, where))
        return outputs if many else outputs[0]

    def __str__(self) -> str:
        out = ", ".join(_text(v) for v in self.outputs)
        lines = [f"in   {', '.join(map(repr, self.inputs))}", *map(repr, self.lines), f"out  {out}"]
        return "\n".join(lines)


def verify(graph: Graph) -> None:
    """Raise ValueError unless every variable is defined once, before use, of the inferred type."""
    defined = {v.n for v in graph.inputs}
    for line in graph.lines:
        for x in line.inputs:
            if isinstance(x, Var) and x.n not in defined:
                raise ValueError(f"%{x.n} is used before it is defined, in {line!r}")
            if not isinstance(x, Var) and not isinstance(x, RAW):
                raise ValueError(f"an operand is neither a variable nor a constant: {x!r}")
        operands = [x.aval if isinstance(x, Var) else Aval.of(x) for x in line.inputs]
        avals = inferred(line.op, operands)
        for v, aval in zip(
            line.outputs, avals if isinstance(avals, tuple) else (avals,), strict=True
        ):
            if v.n in defined:
                raise ValueError(f"%{v.n} is defined twice, in {line!r}")
            if v.aval != aval:
                raise ValueError(f"{v!r} should be {aval}, in {line!r}")
            defined.add(v.n)
    for v in graph.outputs:
        if isinstance(v, Var) and v.n not in defined:
            raise ValueError(f"the output %{v.n} is never defined")


def evaluate(graph: Graph, *arrays: Array) -> list[Any]:
    """The slow, obvious meaning of a graph: one line after the other. Arrays or tensors alike."""
    env: dict[int, Any] = {v.n: a for v, a in zip(graph.inputs, arrays, strict=True)}

    def value(x: Any) -> Any:
        return env[x.n] if isinstance(x, Var) else x

    for line in graph.lines:
        xs = [value(x) for x in line.inputs]
        y = line.op.again(*xs) if hasattr(line.op, "again") else bind(line.op, *xs)
        for v, part in zip(line.outputs, y if isinstance(y, tuple) else (y,), strict=True):
            env[v.n] = part
    return [value(v) for v in graph.outputs]
