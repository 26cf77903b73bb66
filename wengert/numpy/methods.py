"""NumPy's array methods and attributes on Tensor: each is the function of the same name."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ops import elementwise as e
from ..ops.linear import astype as cast
from ..trace import Tensor, bind, getframe, method
from ..transforms import mutate
from . import product, reduce, shape

T: Any = Tensor
for _f in (
    reduce.sum, reduce.prod, reduce.max, reduce.min, reduce.mean, reduce.var, reduce.std, reduce.cumsum,
    reduce.argmax, reduce.argmin, shape.ravel, shape.swapaxes, shape.squeeze, shape.take, shape.argsort,
    shape.diagonal, shape.trace, shape.clip, shape.copy, shape.nonzero, product.dot,
):
    setattr(T, _f.__name__, _f)
T.any, T.all = reduce.any, reduce.all
T.conj = T.conjugate = lambda x: e.conj(x) if x.dtype.kind == "c" else x
T.flatten = lambda x, order="C": shape.copy(shape.ravel(x, order))
T.real = property(lambda x: shape.np.real(x))
T.imag = property(lambda x: shape.np.imag(x))
T.__copy__ = T.__deepcopy__ = lambda x, memo=None: _duplicate(x)


def _duplicate(x: Tensor) -> Tensor:
    """copy.copy and deepcopy: a leaf becomes another leaf, a result is copied with its gradient."""
    if x.is_leaf:
        y = x.detach().copy()
        return y.requires_grad_() if x.requires_grad else y
    return shape.copy(x)


@method("reshape")
def reshape(self: Tensor, *s: Any, order: str = "C") -> Tensor:
    return shape.reshape(self, s[0] if len(s) == 1 else s, order)


@method("transpose")
def transpose(self: Tensor, *axes: Any) -> Tensor:
    if len(axes) == 1 and (axes[0] is None or isinstance(axes[0], tuple | list)):
        axes = axes[0]
    return shape.transpose(self, axes or None)


T.T = property(lambda x: mutate.transpose(x, tuple(range(x.ndim))[::-1], getframe(1)))


@property  # type: ignore[misc]
def mT(self: Tensor) -> Tensor:
    """The last two axes exchanged."""
    if self.ndim < 2:
        raise ValueError("matrix transpose with ndim < 2 is undefined")
    return shape.swapaxes(self, -1, -2)


T.mT = mT


@method("astype")
def astype(self: Tensor, dtype: Any, order: Any = None, casting: Any = None, copy: bool = True) -> Tensor:
    """The same numbers in another dtype; an integer dtype leaves the tape."""
    return cast(self, dtype)


@method("round")
def round(self: Tensor, decimals: int = 0) -> Tensor:
    """Rounded values: piecewise constant, no derivative."""
    return shape.tensor(np.round(self.value(), decimals)) if decimals else bind(e.rint, self)


@method("fill")
def fill(self: Tensor, value: Any) -> None:
    """Write one value everywhere."""
    self[...] = value


@method("sort")
def sort(self: Tensor, axis: int = -1, kind: Any = None, order: Any = None, *, stable: Any = None) -> None:
    """Sort in place along an axis."""
    self[...] = shape.sort(self, axis)


@method("repeat")
def repeat(self: Tensor, repeats: Any, axis: Any = None) -> Tensor:
    """Repeat elements: np.repeat."""
    return np.repeat(self, repeats, axis)  # type: ignore[call-overload,no-any-return]


@method("__array_namespace__")
def array_namespace(self: Tensor, *, api_version: str | None = None) -> Any:
    import wengert.numpy as namespace

    return namespace
