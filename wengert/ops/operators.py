"""Tensor's arithmetic: every operator is an operation of the table, on the fast road."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..primitive import UFUNCS, Elementwise
from ..trace import OPS, Tensor, bind
from . import elementwise as e
from .contract import matmul
from .fused import Length, squared
from .road import binary, matmul_method, matmul_raw, unary
from .special import of_scipy

SYMBOLS = {"add": "+", "sub": "-", "mul": "*", "truediv": "/"}
TABLE: dict[str, Elementwise] = {"add": e.add, "sub": e.sub, "mul": e.mul, "truediv": e.div}


def arithmetic(name: str, reflected: bool) -> Callable[[Any, Any], Any]:
    """A stand-in that builds the fast road when the operator is first used, and gives way to it."""
    slot = f"__{'r' if reflected else ''}{name}__"

    def first_use(self: Any, other: Any) -> Any:
        road = binary(TABLE[name], SYMBOLS[name], reflected)
        setattr(Tensor, slot, road)
        return road(self, other)

    return first_use


for _name in SYMBOLS:
    setattr(Tensor, f"__{_name}__", arithmetic(_name, reflected=False))
    setattr(Tensor, f"__r{_name}__", arithmetic(_name, reflected=True))
UFUNCS[np.matmul] = matmul


def general(op: Any, reflected: bool = False) -> Callable[[Any, Any], Any]:
    """An operator that takes the general road."""

    def method(self: Any, other: Any) -> Any:
        if other is None or isinstance(other, str | dict | set):
            return NotImplemented
        return bind(op, other, self) if reflected else bind(op, self, other)

    return method


_square = unary(e.square)


_abs = unary(e.abs, 2)


def absolute(x: Any) -> Any:
    """|x|; inside a transform it remembers x, as a length does."""
    y = _abs(x)
    if y.__class__ is not Tensor and isinstance(y, Tensor):
        y.store = Length(e.abs, x)
    return y


def square(self: Any) -> Any:
    y = squared(self)
    return _square(self) if y is None else y


def power(self: Any, other: Any) -> Any:
    if other.__class__ is int and other == 2:
        return square(self)
    return bind(e.pow, self, other)


def equal(self: Any, other: Any) -> Any:
    if other is None or isinstance(other, str):
        return False
    return bind(e.eq, self, other)


def unequal(self: Any, other: Any) -> Any:
    if other is None or isinstance(other, str):
        return True
    return bind(e.ne, self, other)


T: Any = Tensor
T.__neg__ = unary(e.neg)
T.__pos__ = unary(e.positive)
T.__abs__ = absolute
T.__matmul__ = matmul_method()
T.__rmatmul__ = lambda b, a: matmul_raw(a, b, 2)
T.__pow__, T.__rpow__ = power, general(e.pow, reflected=True)
T.__eq__, T.__ne__ = equal, unequal
T.__invert__ = lambda x: bind(e.invert, x)
for _name, _op in {
    "mod": e.remainder,
    "floordiv": e.floor_divide,
    "and": e.bitwise_and,
    "or": e.bitwise_or,
    "xor": e.bitwise_xor,
    "lshift": e.left_shift,
    "rshift": e.right_shift,
}.items():
    setattr(Tensor, f"__{_name}__", general(_op))
    setattr(Tensor, f"__r{_name}__", general(_op, reflected=True))
for _name in ("lt", "le", "gt", "ge"):
    setattr(Tensor, f"__{_name}__", general(OPS[_name]))
T.__divmod__ = lambda a, b: (a // b, a % b)
T.__rdivmod__ = lambda a, b: (b // a, b % a)
T.__hash__ = object.__hash__


class Roads(dict[Any, Callable[..., Any]]):
    """ufunc -> how np.f(tensor) is evaluated: a fast road, built when first asked for."""

    def get(self, ufunc: Any, default: Any = None) -> Any:
        road = dict.get(self, ufunc)
        if road is None and (ufunc in UFUNCS or of_scipy(ufunc) is not None):
            road = self[ufunc] = self.build(ufunc, UFUNCS[ufunc])
        return road

    def build(self, ufunc: Any, op: Any) -> Callable[..., Any]:
        if op is e.square:
            return square
        if op is e.abs:
            return absolute
        if isinstance(op, Elementwise) and len(op.args) == 1 and op.rules[1] is not None:
            return unary(op, 2)
        if op is matmul:
            return lambda a, b: matmul_raw(a, b, 2)
        name = {v: k for k, v in TABLE.items()}.get(op) if isinstance(op, Elementwise) else None
        if name is None:
            return lambda *xs: bind(op, *xs)
        slot, mirrored = f"__{name}__", f"__r{name}__"

        def road(a: Any, b: Any) -> Any:
            if a.__class__ is Tensor:
                return getattr(Tensor, slot)(a, b)
            if b.__class__ is Tensor:
                return getattr(Tensor, mirrored)(b, a)
            return bind(op, a, b)

        return road


ROADS = Roads()
