"""Running products, and NumPy's names for running sums and products."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..ops.scan import Cumprod
from ..trace import bind
from . import reduce as r
from .check import axis_of
from .shape import concatenate
from .table import METHODS, finish, implements, tensor


@implements(np.cumprod)
def cumprod(a: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    """Running product; the gradient is exact with zeros among the factors."""
    x = r.typed(a, dtype)
    if axis is None:
        x, axis = x.reshape(-1), 0
    return finish(r.cast(bind(Cumprod(axis_of("cumprod", x, axis)), x), dtype), out)


def _cumulative(name: str, f: Any, first: int) -> Any:
    def run(
        x: Any,
        /,
        *,
        axis: Any = None,
        dtype: Any = None,
        out: Any = None,
        include_initial: bool = False,
    ) -> Any:
        x = tensor(x)
        if axis is None:
            if x.ndim > 1:
                raise ArgumentError(f"{name}(x)", "of several axes, say which", operands=[("x", x)])
            axis, x = 0, x if x.ndim else x.reshape(1)
        axis = axis_of(name, x, axis)
        y = f(x, axis, dtype)
        if include_initial:
            shape = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
            y = concatenate([np.full(shape, first, y.dtype), y], axis)
        return finish(y, out)

    run.__doc__ = (
        f"Running {'sum' if first == 0 else 'product'}, starting at the empty one if asked."
    )
    return run


cumulative_sum = _cumulative("cumulative_sum", r.cumsum, 0)
cumulative_prod = _cumulative("cumulative_prod", cumprod, 1)
for _name, _f in (("cumulative_sum", cumulative_sum), ("cumulative_prod", cumulative_prod)):
    if hasattr(np, _name):  # NumPy 2.1
        implements(getattr(np, _name))(_f)


def _accumulate(x: Any, axis: Any = 0, dtype: Any = None, out: Any = None) -> Any:
    return cumprod(x, axis, dtype, out)


METHODS[np.multiply, "accumulate"] = _accumulate
