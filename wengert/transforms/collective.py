"""Sums, means and gathers over the lanes of a `vmap` that has a name.

A collective is linear, and its transpose is a collective: the one who differentiates inside the
`vmap` sums the cotangents of all lanes, as in JAX.

    psum        y_i = sum_j x_j           gx_i = sum_j gy_j
    all_gather  y_i = (x_1, .., x_n)      gx_i = sum_j gy_j[i]
    spread      y_i = sum_j x_j[i]        gx_i = (gy_1, .., gy_n)
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar, dataclass_transform

import numpy as np

from .. import tree
from ..errors import LevelError
from ..ops.linear import Broadcast, Sum
from ..primitive import Linear, as_value
from ..trace import Level, Tensor, make, stack
from ..types import Array, Aval, shape_of
from .vmap import Batched, VMap

__all__ = ["all_gather", "axis_index", "axis_size", "pmax", "pmean", "pmin", "psum"]


C = TypeVar("C", bound=type)


class Collective(Linear):
    """Linear over the lanes of `axis`. At other levels each value is one lane's."""

    axis: VMap
    n: int

    def across(self, level: Level, x: Array, d: int | None) -> Tensor:
        """The value at the level of the axis itself: x has the lanes along d = 0, or d is None."""
        raise NotImplementedError

    def batch(self, xs: list[Array], dims: list[int | None]) -> Array:
        raise NotImplementedError


@dataclass_transform(frozen_default=True)
def collective(cls: C) -> C:
    made: Any = as_value(cls)
    made.rules = {}
    return made


@collective
class PSum(Collective):
    """y_i = sum_j x_j, the same in every lane i."""

    axis: VMap

    def impl(self, x: Array) -> Array:
        return x * self.axis.n

    def infer(self, x: Aval) -> Aval:
        return x

    def vjp(self, g: Array) -> Array:
        return self(g)

    def batch(self, xs: list[Array], dims: list[int | None]) -> Array:
        return self(xs[0])

    def across(self, level: Level, x: Array, d: int | None) -> Tensor:
        y = self(x) if d is None else Sum((0,), False)(x)
        return make(y, None, level, Batched)


@collective
class AllGather(Collective):
    """y_i = (x_1, .., x_n), the same in every lane i."""

    axis: VMap

    def impl(self, x: Array) -> Array:
        return np.broadcast_to(x, (self.axis.n, *np.shape(x)))

    def infer(self, x: Aval) -> Aval:
        return Aval((self.axis.n, *x.shape), x.dtype)

    def vjp(self, g: Array) -> Array:
        return Spread(self.axis)(g)

    def batch(self, xs: list[Array], dims: list[int | None]) -> Array:
        x = xs[0]
        return np.swapaxes(self(x), 0, 1)

    def across(self, level: Level, x: Array, d: int | None) -> Tensor:
        y = Broadcast((self.axis.n, *shape_of(x)))(x) if d is None else x
        return make(y, None, level, Batched)


@collective
class Spread(Collective):
    """y_i = sum_j x_j[i]: lane i gets its row of the sum."""

    axis: VMap

    def impl(self, x: Array) -> Array:
        return make(x * self.axis.n, 0, self.axis, Batched)

    def infer(self, x: Aval) -> Aval:
        return Aval(x.shape[1:], x.dtype)

    def vjp(self, g: Array) -> Array:
        return AllGather(self.axis)(g)

    def batch(self, xs: list[Array], dims: list[int | None]) -> Array:
        return self(np.swapaxes(xs[0], 0, 1))

    def across(self, level: Level, x: Array, d: int | None) -> Tensor:
        y = x * self.axis.n if d is None else Sum((0,), False)(x)
        return make(y, 0, level, Batched)


def axis_of(what: str, name: Hashable) -> VMap:
    """The innermost `vmap` in progress whose axis has this name."""
    known = []
    for level in reversed(stack()):
        if isinstance(level, VMap) and level.name is not None:
            if level.name == name:
                return level
            known.append(repr(level.name))
    names = ", ".join(dict.fromkeys(known))
    raise LevelError(
        f"wg.{what}(x, axis_name={name!r})",
        f"no vmap in progress has an axis of that name; there is {names or 'none'}",
        fix=f"wg.vmap(f, axis_name={name!r})",
    )


def over(what: str, op: Callable[[VMap], Any], x: Any, axis_name: Any) -> Any:
    for name in axis_name if isinstance(axis_name, tuple) else (axis_name,):
        f = op(axis_of(what, name))
        x = tree.map(lambda v, f=f: f(v) if isinstance(v, Tensor) else f(np.asarray(v))[()], x)
    return x


def psum(x: Any, axis_name: Any) -> Any:
    """The sum over all lanes, in every lane:  y_i = sum_j x_j.

    Args:
        x: a pytree of arrays.
        axis_name: the `axis_name` of a `vmap` around, or a tuple of such names.

    Raises:
        LevelError: no vmap in progress has an axis of that name.

    >>> import numpy as np, wengert as wg
    >>> wg.vmap(lambda x: x / psum(x, "i"), axis_name="i")(np.array([1.0, 2.0, 5.0]))
    array([0.125, 0.25 , 0.625])
    """
    return over("psum", PSum, x, axis_name)


def pmean(x: Any, axis_name: Any) -> Any:
    """The mean over all lanes, in every lane.

    >>> import numpy as np, wengert as wg
    >>> wg.vmap(lambda x: x - pmean(x, "batch"), axis_name="batch")(np.array([1.0, 2.0, 6.0]))
    array([-2., -1.,  3.])
    """
    n = axis_size(axis_name)
    return tree.map(lambda v: v / n, psum(x, axis_name))


def pmax(x: Any, axis_name: Any) -> Any:
    """The greatest over all lanes, in every lane. The gradient goes to where it was found."""
    return extreme("pmax", np.max, x, axis_name)


def pmin(x: Any, axis_name: Any) -> Any:
    """The least over all lanes, in every lane. The gradient goes to where it was found."""
    return extreme("pmin", np.min, x, axis_name)


def extreme(what: str, f: Callable[..., Any], x: Any, axis_name: Any) -> Any:
    return over(what, lambda level: lambda v: f(gathered(level)(v), axis=0), x, axis_name)


def gathered(level: VMap) -> Callable[[Array], Array]:
    def gather(v: Array) -> Array:
        if isinstance(v, Tensor) and v.level.depth >= level.depth:
            return AllGather(level)(v)
        return Broadcast((level.n, *shape_of(v)))(v)  # the same in every lane, and outlives them

    return gather


def all_gather(x: Any, axis_name: Any) -> Any:
    """The values of all lanes, stacked in front, in every lane.

    >>> import numpy as np, wengert as wg
    >>> f = wg.vmap(lambda x: x - np.median(all_gather(x, "i")), axis_name="i")
    >>> f(np.array([1.0, 2.0, 6.0]))
    array([-1.,  0.,  4.])
    """
    return over("all_gather", gathered, x, axis_name)


def axis_index(axis_name: Hashable) -> Any:
    """The number of the lane.

    >>> import numpy as np, wengert as wg
    >>> wg.vmap(lambda x: x * axis_index("i"), axis_name="i")(np.ones(3))
    array([0., 1., 2.])
    """
    level = axis_of("axis_index", axis_name)
    return make(np.arange(level.n), 0, level, Batched)


def axis_size(axis_name: Any) -> int:
    """The number of lanes."""
    n = 1
    for name in axis_name if isinstance(axis_name, tuple) else (axis_name,):
        n *= axis_of("axis_size", name).n
    return n
