"""Tensors from nothing and from data."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import trace
from .errors import ArgumentError, DTypeError, ShapeError, verbatim
from .trace import Tensor, make
from .types import Shape, shape_of


def tensor(data: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor with a copy of the data.

    Args:
        data: an array, a number, nested lists, or a tensor (whose gradient passes through).
        dtype: NumPy's choice for the data when left out.
        requires_grad: make it a leaf, whose gradient `backward()` accumulates.

    Raises:
        DTypeError: requires_grad of integers or booleans.
        ShapeError: nested lists whose rows differ in length.

    >>> tensor([[1.0, 2.0], [3.0, 4.0]])
    tensor([[1., 2.],
            [3., 4.]])
    """
    if isinstance(data, Tensor):
        t = data.copy() if dtype is None else data.astype(dtype).copy()
        t = trace.told(t.detach() if requires_grad and t.level is trace.EAGER else t)
    else:
        try:
            a = np.array(data, dtype=dtype)
        except ValueError as error:
            nested_shape(data, "data")
            raise ArgumentError("tensor(data, dtype)", str(error).rstrip(".")) from error
        if a.dtype.kind not in "fciub" and a.dtype.kind != "V":
            raise DTypeError(
                "tensor(data)",
                f"numbers are needed, not {a.dtype}",
                operands=[("data", a)],
                fix="{data}.astype(float) if they are all numbers",
            )
        t = buffer(a)
    return t.requires_grad_() if requires_grad else t


def buffer(a: np.ndarray[Any, Any]) -> Tensor:
    """A tensor that is an array and not a result: one of no axes may be changed in place."""
    t = make(a, None, trace.EAGER)
    t.store = 0
    if trace.MODES and (tracer := trace.recorder()) is not None:
        tracer.born(t)
    return t


def nested_shape(x: Any, path: str) -> Shape:
    """The shape of nested lists; rows that differ are refused by their places."""
    if not isinstance(x, list | tuple):
        return shape_of(x)
    shapes = [nested_shape(v, f"{path}[{i}]") for i, v in enumerate(x)]
    for i, s in enumerate(shapes):
        if s != shapes[0]:
            raise ShapeError(
                "tensor(data)",
                "rows of different shapes do not make an array",
                operands=[
                    (f"{path}[0]", verbatim(f"shape {list(shapes[0])}")),
                    (f"{path}[{i}]", verbatim(f"shape {list(s)}")),
                ],
                fix="fill the short rows up, or keep a list with a tensor for each row",
            )
    return (len(x), *shapes[0]) if shapes else (0,)


def _shape(shape: tuple[Any, ...]) -> Any:
    return shape[0] if len(shape) == 1 else shape


def zeros(*shape: Any, dtype: Any = float) -> Tensor:
    """A tensor of zeros: a buffer that recorded values can be written into.

    >>> z = zeros(3)
    >>> z[1] = 5.0
    >>> z
    tensor([0., 5., 0.])
    """
    return buffer(np.zeros(_shape(shape), dtype))


def ones(*shape: Any, dtype: Any = float) -> Tensor:
    """A tensor of ones."""
    return buffer(np.ones(_shape(shape), dtype))


def full(shape: Any, value: float, dtype: Any = None) -> Tensor:
    """A tensor of one value."""
    return buffer(np.full(shape, value, dtype))
