"""Abstract values: the shape and dtype of an array, without its contents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Shape = tuple[int, ...]
Array = Any  # whatever can be computed on: ndarray, NumPy scalar, Python number, graph Var, Tensor
DType = np.dtype[Any]
BOOL = np.dtype(bool)

RAW = (np.ndarray, np.generic, int, float, complex)  # bool is an int


@dataclass(frozen=True, slots=True)
class Aval:
    """An abstract value: `shape` and `dtype`.

    `weak` marks a Python number, whose dtype yields (NEP 50).

    >>> Aval.of(np.ones((2, 3)))
    float64[2, 3]
    >>> Aval.of(2.0).weak
    True
    """

    shape: Shape
    dtype: DType
    weak: bool = False

    @classmethod
    def of(cls, x: Array) -> Aval:
        if isinstance(x, Aval):
            return x
        if hasattr(x, "dtype"):
            return cls(tuple(x.shape), np.dtype(x.dtype))
        return cls(np.shape(x), np.asarray(x).dtype, weak=isinstance(x, int | float | complex))

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    def __repr__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"

    def example(self, shape: Shape | None = None) -> Array:
        """An array (or Python number) of this type for shape and dtype inference."""
        zero = np.zeros(self.shape if shape is None else shape, self.dtype)
        return zero.item() if self.weak else zero


def shape_of(x: Array) -> Shape:
    try:
        return x.shape
    except AttributeError:
        return np.shape(x)


def dtype_of(x: Array) -> DType | None:
    """The dtype, or None for a Python number (it has none of its own: NEP 50)."""
    return getattr(x, "dtype", None)


def is_inexact(dtype: Any) -> bool:
    """Whether values of this dtype have a derivative: floating point or complex."""
    kind = getattr(dtype, "kind", None)
    return kind in ("f", "c") or (kind == "V" and "float" in str(dtype))


def normalize_axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """Sorted, non-negative axes; None means all of them."""
    from_none = axis is None
    axes = range(ndim) if from_none else axis if isinstance(axis, tuple | list) else (axis,)
    out = []
    for a in axes:
        a = int(a.__index__())
        if not -ndim <= a < ndim:
            raise np.exceptions.AxisError(a, ndim)
        out.append(a % ndim)
    if len(set(out)) != len(out):
        raise ValueError("duplicate value in 'axis'")
    return tuple(sorted(out))
