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

from .. import trace, tree
from ..errors import GENERATED, UnsupportedError
from ..primitive import UFUNCS
from ..trace import HERE, OPS, make
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

    def __init__(self, tracer: Any = None) -> None:
        self.tracer = tracer
        self.made: dict[Any, Num] = {}
        self.order: list[Num] = []
        self.branches: dict[int, bool] = {}  # which way it went, by the place of the number
        self.used: dict[tuple[int, bool, bool], Any] = {}  # see `Capture.number`
        self.returned: list[int] = []
        self.asked = False  # whether Python wanted a mere number

    def read(self, key: Any, get: Callable[[], Any]) -> Num:
        """A number that is read from outside, by `get`, at every run."""
        return self.node(("read", key), "{0}()", (get,), get())

    def argument(self, place: int, value: Any) -> Num:
        """A plain number among the arguments."""
        return self.node(("argument", place), f"leaves[{place}]", (), value)

    def node(self, key: Any, form: str, args: tuple[Any, ...], value: Any) -> Num:
        if key not in self.made:
            self.made[key] = Num(self, len(self.order), form, args, value)
            self.order.append(self.made[key])
        return self.made[key]

    def function(self) -> tuple[Any, Any, tuple[Any, ...]]:
        """(values, holds, first): those that are used or returned, whether every branch goes as it
        did, and what the values are now.

        The first two are functions of the leaves of the arguments, or None where none is needed.
        """
        scope: dict[str, Any] = {}

        def word(x: Any) -> str:
            if type(x) is Num:
                return f"n{x.at}"
            if type(x) in (int, bool) or (type(x) is float and abs(x) < float("inf")):
                return f"({x!r})"
            name = f"c{len(scope)}"
            scope[name] = x
            return name

        def needed(goals: Any) -> list[Num]:
            want: set[int] = set()
            todo = list(goals)
            while todo:
                n = todo.pop()
                if n not in want:
                    want.add(n)
                    todo += [a.at for a in self.order[n].args if type(a) is Num]
            return [n for n in self.order if n.at in want]

        def body(goals: Any) -> list[str]:
            return [f"    n{n.at} = {n.form.format(*map(word, n.args))}" for n in needed(goals)]

        def word_of(n: int, real: bool) -> str:
            return f"float(n{n})" if real and type(self.order[n].value) is not float else f"n{n}"

        out = [*[key[:2] for key in self.used], *[(n, False) for n in self.returned]]
        kinds = [(n, type(self.order[n].value)) for n, real, _ in self.used
                 if not real and self.order[n].varies]  # fmt: skip
        tests = [f"{'' if way else 'not '}n{n}" for n, way in self.branches.items()]
        for n, kind in kinds:
            tests.append(f"n{n}.__class__ is {kind.__name__}")
            if kind is int:
                tests.append(f"{-(2**63)} <= n{n} < {2**63}")
        words = "".join(f"{word_of(*n)}, " for n in out)
        lines = ["def values(leaves):", *body([n for n, _ in out]), f"    return ({words})"]
        lines += ["def holds(leaves):", *body([*self.branches, *[n for n, _ in kinds]])]
        lines.append(f"    return {' and '.join(tests) or 'True'}")
        exec(compile("\n".join(lines), GENERATED, "exec"), scope)
        first = tuple([float(self.order[n].value) if real else self.order[n].value
                       for n, real in out])  # fmt: skip
        return (scope["values"] if out else None, scope["holds"] if tests else None, first)


class Num:
    """A number that is not known until a program runs; now it is `value`.

    It says that it is of the class of its value, and computes as Python does. A branch on it is
    remembered. Where a mere number is needed it refuses; the function is then recorded for this
    value alone.
    """

    __slots__ = ("args", "at", "form", "numbers", "value")

    def __init__(self, numbers: Numbers, at: int, form: str, args: Any, value: Any) -> None:
        self.numbers, self.at, self.form, self.args, self.value = numbers, at, form, args, value

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(self.value)

    @property
    def varies(self) -> bool:
        """Whether its class or size may be another for other values."""
        return type(self.value) is int or self.form.find("**") >= 0 or bool(self.args)

    def __bool__(self) -> bool:
        way = bool(self.value)
        self.numbers.branches[self.at] = way
        return way

    def __neg__(self) -> Num:
        return self.numbers.node(("neg", self.at), "-{0}", (self,), -self.value)

    def __pos__(self) -> Num:
        return self

    def __abs__(self) -> Num:
        return self.numbers.node(("abs", self.at), "abs({0})", (self,), abs(self.value))

    def __copy__(self) -> Num:
        return self

    def __deepcopy__(self, memo: Any) -> Num:
        return self

    def plain(self, *args: Any) -> Any:
        self.numbers.asked = True
        raise UnsupportedError(
            "a plain number in a compiled function",
            "Python needs its value, which is another at every run",
            fix="wengert.compile.live.apply(f, number)",
        )

    __float__ = __int__ = __index__ = __complex__ = __hash__ = __str__ = __format__ = plain
    __repr__ = plain
    __round__ = __trunc__ = __floor__ = __ceil__ = __array__ = __reduce_ex__ = plain

    def variable(self, boxed: bool = False) -> Any:
        """The variable of the graph that stands for it, as a tensor."""
        return make(self.numbers.tracer.number(self, boxed=boxed), None, trace.EAGER)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if any(isinstance(x, Cell) for x in inputs):
            return cell_ufunc(ufunc, method, inputs, kwargs)
        alone = all(x.__class__ in (bool, int, float, complex) for x in inputs)
        xs = [x.variable(boxed=alone) if type(x) is Num else x for x in inputs]
        return getattr(ufunc, method)(*xs, **kwargs)

    def __array_function__(self, f: Any, types: Any, args: Any, kwargs: Any) -> Any:
        args, kwargs = tree.map(lifted, (args, kwargs))
        return f(*args, **kwargs)


def lifted(x: Any) -> Any:
    return x.variable() if type(x) is Num else x


def valued(x: Any) -> Any:
    return x.value if type(x) is Num else x


def key_of(x: Any) -> Any:
    """What tells an operand from others: 0.0 is not -0.0, and 1 is not True."""
    return x.at if type(x) is Num else (type(x), repr(x))


def arithmetic(word: str, sign: str, swap: bool) -> Callable[[Num, Any], Any]:
    f = getattr(operator, word)

    def method(self: Num, other: Any) -> Any:
        if type(other) not in (int, float, complex, bool, Num):
            return NotImplemented
        pair = (other, self) if swap else (self, other)
        key = word, *map(key_of, pair)
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
    known = next((a for a in args if type(a) is Num), None)
    if known is None:
        return f(*args)
    key = "call", id(f), *map(key_of, args)
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
    return tracer.number(x, real=True) if type(x) is Num else x


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
    return Aval.of(int(value) if isinstance(value, int) else value)
