"""The Array API standard, 2024.12, for tensors: its names and signatures over the functions of this
package. Everything keeps the gradient; plain arrays and numbers become tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..errors import ShapeError
from ..ops.order import ArgSort
from ..trace import Tensor, bind
from . import calculus, grid, order, product, reduce, select, shape, values
from .check import axis_of
from .table import plain, tensor
from .ufuncs import vecdot as _vecdot

Op = Callable[..., Any]


# ------------------------------------------------------------------ elementwise
def elementwise(name: str, ufunc: Any) -> Op:
    """A ufunc under the standard's name; one operand at least is a tensor."""

    def one(x: Any, /) -> Any:
        return ufunc(x if isinstance(x, Tensor) else tensor(x))

    def two(x1: Any, x2: Any, /) -> Any:
        if not isinstance(x1, Tensor) and not isinstance(x2, Tensor):
            x1 = tensor(x1)
        return ufunc(x1, x2)

    f = one if ufunc.nin == 1 else two
    f.__name__ = f.__qualname__ = name
    f.__doc__ = f"np.{ufunc.__name__}, point by point."
    return f


NAMES = {
    "abs": np.abs, "acos": np.arccos, "acosh": np.arccosh, "add": np.add, "asin": np.arcsin,
    "asinh": np.arcsinh, "atan": np.arctan, "atan2": np.arctan2, "atanh": np.arctanh,
    "bitwise_and": np.bitwise_and, "bitwise_left_shift": np.left_shift,
    "bitwise_invert": np.invert, "bitwise_or": np.bitwise_or,
    "bitwise_right_shift": np.right_shift, "bitwise_xor": np.bitwise_xor, "ceil": np.ceil,
    "conj": np.conjugate, "copysign": np.copysign, "cos": np.cos, "cosh": np.cosh,
    "divide": np.divide, "equal": np.equal, "exp": np.exp, "expm1": np.expm1, "floor": np.floor,
    "floor_divide": np.floor_divide, "greater": np.greater, "greater_equal": np.greater_equal,
    "hypot": np.hypot, "isfinite": np.isfinite, "isinf": np.isinf, "isnan": np.isnan,
    "less": np.less, "less_equal": np.less_equal, "log": np.log, "log1p": np.log1p,
    "log2": np.log2, "log10": np.log10, "logaddexp": np.logaddexp,
    "logical_and": np.logical_and, "logical_not": np.logical_not, "logical_or": np.logical_or,
    "logical_xor": np.logical_xor, "maximum": np.maximum, "minimum": np.minimum,
    "multiply": np.multiply, "negative": np.negative, "nextafter": np.nextafter,
    "not_equal": np.not_equal, "positive": np.positive, "pow": np.power,
    "reciprocal": np.reciprocal, "remainder": np.remainder, "sign": np.sign,
    "signbit": np.signbit, "sin": np.sin, "sinh": np.sinh, "square": np.square,
    "sqrt": np.sqrt, "subtract": np.subtract, "tan": np.tan, "tanh": np.tanh,
    "trunc": np.trunc, "matmul": np.matmul,
}  # fmt: skip
TABLE: dict[str, Op] = {name: elementwise(name, ufunc) for name, ufunc in NAMES.items()}


def clip(x: Any, /, min: Any = None, max: Any = None) -> Any:
    """x within bounds, in its own dtype; the gradient passes at the bounds and stops outside."""
    x = tensor(x)
    lo, hi = (v if v is None or not hasattr(v, "dtype") else tensor(v) for v in (min, max))
    y = select.clip(x, lo, hi)
    return y if y.dtype == x.dtype else y.astype(x.dtype)


def real(x: Any, /) -> Any:
    """The real part."""
    return values.real(x)


def imag(x: Any, /) -> Any:
    """The imaginary part."""
    return values.imag(x)


def round(x: Any, /) -> Any:
    """To whole numbers, halves to even: piecewise constant."""
    return values.round(x)


# ------------------------------------------------------------------ products
def vecdot(x1: Any, x2: Any, /, *, axis: int = -1) -> Any:
    """Sum over one axis of conj(x1) x2."""
    return _vecdot(x1, x2, axis=axis)


# ------------------------------------------------------------------ shapes
def concat(arrays: Any, /, *, axis: Any = 0) -> Any:
    """Arrays one after another along an axis."""
    return shape.concatenate(arrays, axis)


def permute_dims(x: Any, /, axes: Any) -> Any:
    """Permute the axes."""
    return shape.transpose(x, axes)


def meshgrid(*arrays: Any, indexing: str = "xy") -> list[Any]:
    """Coordinate arrays of a grid."""
    return list(grid.meshgrid(*map(tensor, arrays), indexing=indexing))


# ------------------------------------------------------------------ searching and sorting
def where(condition: Any, x1: Any, x2: Any, /) -> Any:
    """x1 where the condition holds, else x2."""
    if not isinstance(x1, Tensor) and not isinstance(x2, Tensor):
        x1 = tensor(x1) if hasattr(x1, "dtype") or not hasattr(x2, "dtype") else x1
    return tensor(select.where(condition, x1, x2))


def nonzero(x: Any, /) -> tuple[Any, ...]:
    """The indices of the elements that are not zero."""
    x = tensor(x)
    if x.ndim == 0:
        raise ShapeError("nonzero(x)", "a number has no index", operands=[("x", x)])
    return tuple(map(tensor, select.nonzero(x)))


def searchsorted(x1: Any, x2: Any, /, *, side: Any = "left", sorter: Any = None) -> Any:
    """Where the values x2 would go to keep x1 sorted: no derivative."""
    y = np.searchsorted(tensor(x1).value(), tensor(x2).value(), side, plain(sorter))
    return tensor(np.asarray(y))


def argsort(x: Any, /, axis: int = -1, *, descending: bool = False, stable: bool = True) -> Any:
    """The indices that sort, stably in either direction: no derivative."""
    x = tensor(x)
    axis = axis_of("argsort", x, axis)
    if not descending:
        return bind(ArgSort(axis), x)
    last = x.shape[axis] - 1
    return shape.flip(last - bind(ArgSort(axis), shape.flip(x, axis)), axis)


def sort(x: Any, /, axis: int = -1, *, descending: bool = False, stable: bool = True) -> Any:
    """In order along an axis; the gradient goes back to where each number came from."""
    x = tensor(x)
    return select.take_along_axis(x, argsort(x, axis=axis, descending=descending), axis)


class UniqueAll(NamedTuple):
    """The result of unique_all."""

    values: Any
    indices: Any
    inverse_indices: Any
    counts: Any


class UniqueCounts(NamedTuple):
    """The result of unique_counts."""

    values: Any
    counts: Any


class UniqueInverse(NamedTuple):
    """The result of unique_inverse."""

    values: Any
    inverse_indices: Any


def unique_all(x: Any, /) -> UniqueAll:
    """The different values, where they first are, where each went, and how many there are."""
    x = tensor(x)
    y, index, inverse, counts = select.unique(x, True, True, True, equal_nan=False)
    return UniqueAll(y, tensor(index), tensor(inverse.reshape(x.shape)), tensor(counts))


def unique_counts(x: Any, /) -> UniqueCounts:
    """The different values, and how many there are of each."""
    y = unique_all(x)
    return UniqueCounts(y.values, y.counts)


def unique_inverse(x: Any, /) -> UniqueInverse:
    """The different values, and which of them each element is."""
    y = unique_all(x)
    return UniqueInverse(y.values, y.inverse_indices)


def unique_values(x: Any, /) -> Any:
    """The different values."""
    return unique_all(x).values


# ------------------------------------------------------------------ as they are
all, any, count_nonzero = reduce.all, reduce.any, reduce.count_nonzero
sum, prod, diff, tensordot = reduce.sum, reduce.prod, calculus.diff, product.tensordot
reshape, stack, roll, flip = shape.reshape, shape.stack, shape.roll, shape.flip
repeat, take, take_along_axis = select.repeat, select.take, select.take_along_axis
max, min, mean, var, std = reduce.max, reduce.min, reduce.mean, reduce.var, reduce.std
argmax, argmin, expand_dims = reduce.argmax, reduce.argmin, reduce.expand_dims
broadcast_to, moveaxis, squeeze, unstack = (
    shape.broadcast_to,
    shape.moveaxis,
    shape.squeeze,
    shape.unstack,
)
tril, triu, tile = select.tril, select.triu, select.tile
cumulative_sum, cumulative_prod = order.cumulative_sum, order.cumulative_prod
matrix_transpose = grid.matrix_transpose


def broadcast_arrays(*arrays: Any) -> list[Any]:
    """All arrays in their common shape."""
    return list(shape.broadcast_arrays(*arrays))


globals().update(TABLE)
__all__ = [
    *TABLE, "all", "any", "argmax", "argmin", "argsort", "broadcast_arrays", "broadcast_to", "clip",
    "concat", "count_nonzero", "cumulative_prod", "cumulative_sum", "diff", "expand_dims", "flip",
    "imag", "matrix_transpose", "max", "mean", "meshgrid", "min", "moveaxis", "nonzero",
    "permute_dims", "prod", "real", "repeat", "reshape", "roll", "round", "searchsorted", "sort",
    "squeeze", "stack", "std", "sum", "take", "take_along_axis", "tensordot", "tile", "tril",
    "triu", "unique_all", "unique_counts", "unique_inverse", "unique_values", "unstack", "var",
    "vecdot", "where",
]  # fmt: skip
