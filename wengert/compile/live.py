"""Numbers and rows that an optimizer computes with while a step is recorded.

The rule of an optimizer is written for flat rows of memory and plain numbers: `v *= o.momentum`,
`np.sqrt(v, out=scratch)`, `1 - beta1**t`. While a program is recorded a row is a `Cell`, whose
writes become lines of the graph, and a number is a `Num`: an expression that is evaluated anew,
in Python, at every run. A learning rate that a schedule moves and a count of steps are so never
frozen. A branch on such a number is remembered, and a run for which it would go the other way is
recorded anew.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import GENERATED, UnsupportedError
from ..primitive import UFUNCS
from ..trace import HERE, OPS
from ..types import Aval

__all__ = ["Cell", "Num", "Numbers", "apply", "recording"]

BINARY = {
    "add": "+", "sub": "-", "mul": "*", "truediv": "/", "pow": "**", "floordiv": "//", "mod": "%",
}  # fmt: skip
COMPARE = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}


def recording() -> Any:
    """The recording in progress that takes cells and numbers; None outside."""
    tracer = getattr(HERE, "trace", None)
    return tracer if hasattr(tracer, "numbers") else None


class Numbers:
    """All numbers of one recording: expressions, each distinct one kept once."""

    def __init__(self) -> None:
        self.made: dict[Any, Num] = {}
        self.order: list[Num] = []
        self.branches: dict[Num, bool] = {}
        self.used: dict[Num, Any] = {}  # those that meet an array, and their variables

    def read(self, key: Any, get: Callable[[], Any]) -> Num:
        """A number that is read from outside, by `get`, at every run."""
        return self.node(("read", key), "{0}()", (get,), get())

    def node(self, key: Any, form: str, args: tuple[Any, ...], value: Any) -> Num:
        if key not in self.made:
            self.made[key] = Num(self, len(self.order), form, args, value)
            self.order.append(self.made[key])
        return self.made[key]

    def function(self) -> tuple[Callable[[], Any], Callable[[], bool]]:
        """(the values of those that are used, whether every branch goes as it did)."""
        scope: dict[str, Any] = {}

        def word(x: Any) -> str:
            if isinstance(x, Num):
                return f"n{x.at}"
            if type(x) in (int, float, bool):
                return repr(x) if x == x and abs(x) < float("inf") else f"float('{x}')"
            name = f"c{len(scope)}"
            scope[name] = x
            return name

        def needed(goals: Any) -> list[Num]:
            want: set[Num] = set()
            todo = list(goals)
            while todo:
                n = todo.pop()
                if n not in want:
                    want.add(n)
                    todo += [a for a in n.args if isinstance(a, Num)]
            return [n for n in self.order if n in want]

        def body(goals: Any) -> list[str]:
            return [f"    n{n.at} = {n.form.format(*map(word, n.args))}" for n in needed(goals)]

        values = ", ".join(f"float(n{n.at})" for n in self.used)
        lines = ["def values():", *body(self.used), f"    return ({values},)", "def holds():"]
        lines += body(self.branches)
        tests = [f"{'' if way else 'not '}n{n.at}" for n, way in self.branches.items()]
        lines.append(f"    return {' and '.join(tests) or 'True'}")
        exec(compile("\n".join(lines), GENERATED, "exec"), scope)
        return scope["values"], scope["holds"]


class Num:
    """A number that is not known until a program runs; now it is `value`."""

    __slots__ = ("args", "at", "form", "numbers", "value")

    def __init__(self, numbers: Numbers, at: int, form: str, args: Any, value: Any) -> None:
        self.numbers, self.at, self.form, self.args, self.value = numbers, at, form, args, value

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        way = bool(self.value)
        self.numbers.branches[self] = way
        return way

    def __neg__(self) -> Num:
        return self.numbers.node(("neg", self), "-{0}", (self,), -self.value)

    def __float__(self) -> float:
        raise UnsupportedError(
            "float(number)", "a number of an optimizer would be frozen in a compiled step",
            fix="wengert.compile.live.apply(f, number)",
        )  # fmt: skip

    __int__ = __index__ = __float__  # type: ignore[assignment]

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if any(isinstance(x, Cell) for x in inputs):
            return cell_ufunc(ufunc, method, inputs, kwargs)
        return NotImplemented


def valued(x: Any) -> Any:
    return x.value if isinstance(x, Num) else x


def arithmetic(word: str, sign: str, swap: bool) -> Callable[[Num, Any], Any]:
    f = getattr(operator, word)

    def method(self: Num, other: Any) -> Any:
        if not isinstance(other, int | float | Num):
            return NotImplemented
        pair = (other, self) if swap else (self, other)
        key = word, *[(type(x), x) if not isinstance(x, Num) else x for x in pair]
        return self.numbers.node(key, f"{{0}} {sign} {{1}}", pair, f(*map(valued, pair)))

    return method


for _word, _sign in BINARY.items():
    setattr(Num, f"__{_word}__", arithmetic(_word, _sign, False))
    setattr(Num, f"__r{_word}__", arithmetic(_word, _sign, True))
for _word, _sign in COMPARE.items():
    setattr(Num, f"__{_word}__", arithmetic(_word, _sign, False))


def apply(f: Callable[..., Any], *args: Any) -> Any:
    """f(*args) of plain numbers; with a `Num` among them, f is called at every run.

    >>> import math
    >>> apply(math.sqrt, 4.0)
    2.0
    """
    known = next((a for a in args if isinstance(a, Num)), None)
    if known is None:
        return f(*args)
    key = "call", f, *args
    form = f"{{0}}({', '.join(f'{{{i + 1}}}' for i in range(len(args)))})"
    return known.numbers.node(key, form, (f, *args), f(*map(valued, args)))


class Cell:
    """A row of memory in a recording: `value` is what stands in it now."""

    __slots__ = ("dtype", "shape", "tracer", "value")
    __array_priority__ = 2000

    def __init__(self, tracer: Any, value: Any, like: Any = None) -> None:
        self.tracer, self.value = tracer, value
        like = value if like is None else like
        self.shape, self.dtype = like.shape, like.dtype

    def put(self, value: Any) -> Cell:
        if value.dtype != self.dtype:
            value = OPS["Cast"](self.dtype)(value)
        self.value = value
        return self


def operand(tracer: Any, x: Any) -> Any:
    if isinstance(x, Cell):
        return x.value
    return tracer.number(x) if isinstance(x, Num) else x


def cell_ufunc(ufunc: Any, method: str, inputs: Any, kwargs: Any) -> Any:
    out = kwargs.pop("out", None)
    tracer = next(x.tracer for x in (*inputs, *(out or ())) if isinstance(x, Cell))
    op = UFUNCS.get(ufunc)
    if method != "__call__" or kwargs or op is None:
        return NotImplemented
    y = op(*[operand(tracer, x) for x in inputs])
    if out is None:
        return Cell(tracer, y)
    return out[0].put(y)


def unbound(self: Cell, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
    return cell_ufunc(ufunc, method, inputs, kwargs)


Cell.__array_ufunc__ = unbound  # type: ignore[attr-defined]


def cell_method(ufunc: Any, swap: bool, inplace: bool) -> Callable[[Cell, Any], Any]:
    op = UFUNCS[ufunc]

    def method(self: Cell, other: Any) -> Any:
        x = operand(self.tracer, other)
        y = op(x, self.value) if swap else op(self.value, x)
        return self.put(y) if inplace else Cell(self.tracer, y)

    return method


for _word, _ufunc in (
    ("add", np.add), ("sub", np.subtract), ("mul", np.multiply), ("truediv", np.true_divide),
    ("pow", np.power),
):  # fmt: skip
    setattr(Cell, f"__{_word}__", cell_method(_ufunc, False, False))
    setattr(Cell, f"__r{_word}__", cell_method(_ufunc, True, False))
    setattr(Cell, f"__i{_word}__", cell_method(_ufunc, False, True))


def weak(value: Any) -> Aval:
    """The type of a plain number."""
    return Aval.of(float(value))
