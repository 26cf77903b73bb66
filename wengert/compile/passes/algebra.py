"""Identities that hold for every number: nan, inf, -0.0 and overflow among them.

`RULES` is a table: operation -> what a line of it may become. A rule is given the rewriter, the
line and its operands, and gives the simpler value, or None. What is *not* here, because some
number tells the sides apart: x + 0.0 = x (-0.0), x - x = 0 and x * 0 = 0 (inf, nan),
-(a - b) = b - a (-0.0), sums of sums (rounding). x ** 0.5 = sqrt x holds where NumPy makes it so:
it does for an array and one exponent, in those of its versions that `ROOTS` is true for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ...graph import Graph, Line, Var
from ...ops import elementwise as e
from ...ops.linear import Broadcast
from ...primitive import Elementwise
from ...types import Aval, shape_of
from .movement import MOVES, inner, same
from .rewriting import Rewriter, rewrite

__all__ = ["RULES", "algebra"]

Operands = tuple[Any, ...]
with np.errstate(all="ignore"):
    ROOTS = bool(np.isnan(np.power(np.full(2, -np.inf), 0.5)).all())


def algebra(graph: Graph) -> Graph:
    """Lines replaced by simpler ones of the same value.  Bit-exact, but for the payload of a nan.

    >>> import numpy as np
    >>> from wengert.transforms.staging import stage
    >>> print(algebra(stage(lambda x: -(-x) * 1.0 / 4.0, np.ones(3)).graph))
    in   %0: float64[3]
    %1: float64[3] = neg(%0)
    %2: float64[3] = mul(%0, 0.25)
    out  %2
    """
    return rewrite(graph, simplified)


def simplified(r: Rewriter, line: Line, xs: Operands) -> Any:
    rule = RULES.get(line.op) or MOVES.get(type(line.op))
    if rule is not None:
        got = rule(r, line, xs)
        if got is not None:
            return got
    if is_pointwise(line.op):
        return narrowed(r, line, xs)
    return None


def is_pointwise(op: Any) -> bool:
    """Whether an operation acts point by point, broadcasting its operands."""
    return isinstance(op, Elementwise | e.Flat)


# ------------------------------------------------------------------ numbers


def number(x: Any) -> Any:
    """The value of a constant all of whose elements are equal, as a NumPy scalar; else None."""
    if isinstance(x, Var):
        return None
    a = np.asarray(x)
    if a.size == 0 or a.dtype.kind not in "biufc":
        return None
    first = a.reshape(-1)[0]
    if a.size > 1 and (a.tobytes() != np.full(a.shape, first).tobytes()):
        return None
    return first


def is_number(x: Any, value: float) -> bool:
    """Whether x is this constant, the sign of zero included."""
    got = number(x)
    return got is not None and got == value and bool(np.signbit(got.real)) == (
        math.copysign(1.0, value) < 0
    )  # fmt: skip


def is_float(*xs: Any) -> bool:
    return all(getattr(x, "dtype", np.dtype(type(x))).kind == "f" for x in xs)


def typed(line: Line, op: Any, *xs: Any) -> Any:
    """op(*xs), if it has the type of the line's output."""
    avals = [x.aval if isinstance(x, Var) else Aval.of(x) for x in xs]
    return op(*xs) if op.infer(*avals) == line.outputs[0].aval else None


# ------------------------------------------------------------------ arithmetic


def add(r: Rewriter, line: Line, xs: Operands) -> Any:
    for x, y in (xs, xs[::-1]):
        whole = isinstance(x, Var) and x.dtype.kind in "iu"
        if is_number(y, 0.0 if whole else -0.0):
            return same(line, x)
        opposite = inner(r, y, e.neg)
        if opposite is not None and is_float(x, opposite):
            return typed(line, e.sub, x, opposite)
    return None


def sub(r: Rewriter, line: Line, xs: Operands) -> Any:
    x, y = xs
    if is_number(y, 0.0):
        return same(line, x)
    opposite = inner(r, y, e.neg)
    if opposite is not None and is_float(x, opposite):
        return typed(line, e.add, x, opposite)
    return None


def mul(r: Rewriter, line: Line, xs: Operands) -> Any:
    a, b = (inner(r, x, e.neg) for x in xs)
    if a is not None and b is not None and is_float(a, b):
        return typed(line, e.mul, a, b)
    for x, y in (xs, xs[::-1]):
        if not isinstance(x, Var) or x.dtype.kind == "c":
            continue
        if is_number(y, 1.0):
            return same(line, x)
        if is_number(y, -1.0) and x.dtype.kind in "if" and same(line, x) is not None:
            return typed(line, e.neg, x)
    return None


def div(r: Rewriter, line: Line, xs: Operands) -> Any:
    x, y = xs
    a, b = (inner(r, v, e.neg) for v in xs)
    if a is not None and b is not None and is_float(a, b):
        return typed(line, e.div, a, b)
    if not isinstance(x, Var) or not is_float(x):
        return None
    if is_number(y, 1.0):
        return same(line, x)
    c = number(y)
    if c is None or c.dtype.kind not in "iuf":
        return None
    out = line.outputs[0].dtype
    inverse = exact_inverse(float(c), out)
    if inverse is None:
        return None
    factor = inverse if not hasattr(y, "dtype") else np.full(np.shape(y), inverse, out)
    return typed(line, e.mul, x, factor)


def exact_inverse(c: float, dtype: Any) -> float | None:
    """1 / c, if c is a power of two whose inverse is a normal number of the dtype: x / c = x (1/c).

    Both sides are then the rounding of the same real number.
    """
    if c == 0 or not math.isfinite(c) or abs(math.frexp(c)[0]) != 0.5:
        return None
    info = np.finfo(dtype)
    inverse = 1.0 / c
    inside = float(info.tiny) <= abs(inverse) <= float(info.max)
    return inverse if inside and float(info.tiny) <= abs(c) <= float(info.max) else None


def neg(r: Rewriter, line: Line, xs: Operands) -> Any:
    return inner(r, xs[0], e.neg)


def logical_not(r: Rewriter, line: Line, xs: Operands) -> Any:
    x = inner(r, xs[0], e.logical_not)
    return same(line, x) if x is not None else None


def power(r: Rewriter, line: Line, xs: Operands) -> Any:
    x, y = xs
    if not isinstance(x, Var) or not is_float(x):
        return None
    if is_number(y, 1.0):
        return same(line, x)
    if is_number(y, 2.0) and line.outputs[0].aval == x.aval:
        return e.square(x)
    one = np.ndim(y) == 0 and x.aval.shape and x.dtype.char in "fd"
    if ROOTS and one and is_number(y, 0.5) and line.outputs[0].aval == x.aval:
        return e.sqrt(x)
    return None


def unsigned(r: Rewriter, line: Line, xs: Operands) -> Any:
    """abs and square do not see a sign, nor a second abs."""
    if not is_float(xs[0]):
        return None
    for op in (e.neg, e.abs):
        x = inner(r, xs[0], op)
        if x is not None and is_float(x):
            return line.op(x)
    return None


def unchanged(r: Rewriter, line: Line, xs: Operands) -> Any:
    """A copy of a value that nobody writes."""
    return same(line, xs[0])


def of_real(r: Rewriter, line: Line, xs: Operands) -> Any:
    """The conjugate and the real part of a real number."""
    return same(line, xs[0]) if xs[0].dtype.kind != "c" else None


def either(r: Rewriter, line: Line, xs: Operands) -> Any:
    """The greater, or the lesser, of a number and itself."""
    return same(line, xs[0]) if xs[0] is xs[1] else None


def where(r: Rewriter, line: Line, xs: Operands) -> Any:
    c, a, b = xs
    if a is b and isinstance(a, Var):
        return same(line, a)
    known = number(c)
    if known is not None:
        return same(line, a if known else b)
    negated = inner(r, c, e.logical_not)
    if negated is not None:
        return typed(line, e.where, negated, b, a)
    return None


def clip(r: Rewriter, line: Line, xs: Operands) -> Any:
    x, low, high = xs
    if is_number(low, -math.inf) and is_number(high, math.inf):
        return same(line, x)
    return None


# ------------------------------------------------------------------ broadcasting


def narrowed(r: Rewriter, line: Line, xs: Operands) -> Any:
    """An elementwise line of operands before they were broadcast.

    f(broadcast x, y) = f(x, y) where the other operands have the whole shape, and
    f(broadcast x, broadcast y) = broadcast f(x, y) where none has. A constant
    whose elements are all the same counts as a broadcast number.
    """
    sources = [broadcast_source(r, x) for x in xs]
    if all(s is x for s, x in zip(sources, xs)):
        return None
    whole = line.outputs[0].shape
    shape = np.broadcast_shapes(*map(shape_of, sources))
    if shape == whole:
        return line.op(*sources)
    return Broadcast(whole)(line.op(*sources)) if math.prod(shape) < math.prod(whole) else None


def broadcast_source(r: Rewriter, x: Any) -> Any:
    if not isinstance(x, Var):
        first = number(x) if getattr(x, "ndim", 0) else None
        return x if first is None else np.asarray(first)
    made = r.source(x)
    if made is None or type(made.op) is not Broadcast:
        return x
    (source,) = made.inputs
    return source if hasattr(source, "dtype") else np.asarray(source)


RULES: dict[Any, Callable[[Rewriter, Line, Operands], Any]] = {
    e.add: add,
    e.sub: sub,
    e.mul: mul,
    e.div: div,
    e.neg: neg,
    e.pow: power,
    e.abs: unsigned,
    e.square: unsigned,
    e.logical_not: logical_not,
    e.copy: unchanged,
    e.positive: unchanged,
    e.conj: of_real,
    e.real: of_real,
    e.maximum: either,
    e.minimum: either,
    e.fmax: either,
    e.fmin: either,
    e.where: where,
    e.clip: clip,
}
