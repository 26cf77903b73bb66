"""The table of conventions: where a function has no derivative, and what is taken for one.

Each row names an operation, says where its kink or jump lies, which subgradient is taken there by
default, and has a function that finds such places: (operation, operands, value) -> a mask of the
value's shape. `wg.conventions(kinks=...)` chooses between the subgradient, nan, and an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..structural import broadcast
from ..trace import Tensor
from ..types import Array, shape_of
from . import elementwise as e
from .linear import Reshape, Sum, keep


class Kink(NamedTuple):
    """One row of the table."""

    place: str
    convention: str
    at: Callable[[Any, Any, Array], Array]


def zero(op: Any, xs: Any, y: Array) -> Array:
    return e.eq(xs[0], 0)


def tie(op: Any, xs: Any, y: Array) -> Array:
    return broadcast(e.eq(xs[0], xs[1]), shape_of(y))


def bound(op: Any, xs: Any, y: Array) -> Array:
    at_bound = e.logical_or(e.eq(xs[0], xs[1]), e.eq(xs[0], xs[2]))
    return broadcast(at_bound, shape_of(y))


def jump(op: Any, xs: Any, y: Array) -> Array:
    return e.eq(xs[0], e.rint(xs[0]))


def half(op: Any, xs: Any, y: Array) -> Array:
    return jump(op, (xs[0] + 0.5,), y)


def wrap(op: Any, xs: Any, y: Array) -> Array:
    return e.eq(y, 0)


def ratio(op: Any, xs: Any, y: Array) -> Array:
    q = xs[0] / xs[1]
    return e.eq(q, e.rint(q))


def several(op: Any, xs: Any, y: Array) -> Array:
    """More than one element equals the extreme value."""
    (x,) = xs
    kept = y if op.keepdims else Reshape(keep(shape_of(x), op.axes))(y)
    count = Sum(op.axes, op.keepdims)(e.where(e.eq(x, kept), 1.0, 0.0))
    return e.gt(count, 1)


def tied(op: Any, xs: Any, y: Array) -> Array:
    """More than one element of a window equals its largest."""
    return op.ties(value_of(xs[0]), value_of(y))


def equals(op: Any, xs: Any, y: Array) -> Array:
    """Neighbours in the sorted order that are equal: which of them comes first is a convention."""
    x = np.sort(value_of(xs[0]), op.axis)
    return np.diff(x, axis=op.axis) == 0


def value_of(x: Any) -> Any:
    return x.value() if isinstance(x, Tensor) else x


def origin(op: Any, xs: Any, y: Array) -> Array:
    return e.eq(y, 0)


def both_zero(op: Any, xs: Any, y: Array) -> Array:
    return broadcast(e.logical_and(e.eq(xs[0], 0), e.eq(xs[1], 0)), shape_of(y))


KINKS: dict[str, Kink] = {
    "abs": Kink("x = 0", "0, at every order; abs(x)**2 is smooth", zero),
    "relu": Kink("x = 0", "0", zero),
    "sign": Kink("x = 0", "0, as everywhere", zero),
    "maximum": Kink("a = b", "1/2 to each", tie),
    "minimum": Kink("a = b", "1/2 to each", tie),
    "fmax": Kink("a = b", "1/2 to each", tie),
    "fmin": Kink("a = b", "1/2 to each", tie),
    "clip": Kink("x at a bound", "1 to x, 0 to the bound", bound),
    "hypot": Kink("a = b = 0", "0", origin),
    "root": Kink("x = 0 (std of equal numbers)", "0; the second derivative is nan", origin),
    "arctan2": Kink("a = b = 0", "nan", both_zero),
    "copysign": Kink("x = 0", "0", zero),
    "floor": Kink("x an integer", "0, as everywhere", jump),
    "ceil": Kink("x an integer", "0, as everywhere", jump),
    "trunc": Kink("x an integer", "0, as everywhere", jump),
    "rint": Kink("x halfway between integers", "0, as everywhere", half),
    "remainder": Kink("a a multiple of b", "1 to a, -floor(a/b) to b", wrap),
    "fmod": Kink("a a multiple of b", "1 to a, -trunc(a/b) to b", wrap),
    "floor_divide": Kink("a a multiple of b", "0, as everywhere", ratio),
    "heaviside": Kink("x = 0", "0, as everywhere", zero),
    "Max": Kink("several elements are largest", "shared equally among them", several),
    "Min": Kink("several elements are smallest", "shared equally among them", several),
    "MaxPool": Kink("several numbers of a window are largest", "1 to the first of them", tied),
    "ArgSort": Kink("equal numbers, in sort", "each has the gradient of its own place", equals),
    "Norm": Kink("x = 0", "0; the second derivative is nan there", origin),
}
