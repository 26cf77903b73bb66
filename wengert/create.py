"""Tensors from nothing and from data."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import trace
from .errors import DTypeError
from .trace import Tensor, make


def tensor(data: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor with a copy of the data.

    Args:
        data: an array, a number, nested lists, or a tensor (whose gradient passes through).
        dtype: NumPy's choice for the data when left out.
        requires_grad: make it a leaf, whose gradient `backward()` accumulates.

    Raises:
        DTypeError: requires_grad of integers or booleans.

    >>> tensor([[1.0, 2.0], [3.0, 4.0]])
    tensor([[1., 2.],
            [3., 4.]])
    """
    if isinstance(data, Tensor):
        t = data.copy() if dtype is None else data.astype(dtype).copy()
        t = t.detach() if requires_grad and t.level is trace.EAGER else t
    else:
        a = np.array(data, dtype=dtype)
        if a.dtype.kind not in "fciub" and a.dtype.kind != "V":
            raise DTypeError("tensor(data)", f"numbers are needed, not {a.dtype}")
        t = buffer(a)
    return t.requires_grad_() if requires_grad else t


def buffer(a: np.ndarray[Any, Any]) -> Tensor:
    """A tensor that is an array and not a result: one of no axes may be changed in place."""
    t = make(a, None, trace.EAGER)
    t.store = 0
    return t


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
