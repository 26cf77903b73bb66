"""NumPy's array methods and attributes on Tensor: each is the function of the same name."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import trace
from ..errors import ArgumentError, ShapeError, UnsupportedError
from ..ops import elementwise as e
from ..ops.linear import astype as cast
from ..trace import Tensor, bind, getframe, method
from ..transforms import mutate
from . import order, product, reduce, select, shape
from .check import castable, guarded, refuse
from .table import finish, plain, tensor

T: Any = Tensor
T.sum, T.max, T.min, T.mean = reduce.sum, reduce.max, reduce.min, reduce.mean
T.copy = lambda x, order="C": own_buffer(bind(e.copy, x))
for _f in (
    reduce.prod, reduce.var, reduce.std, reduce.cumsum, reduce.argmax, reduce.argmin,
    reduce.any, reduce.all, order.cumprod,
    shape.ravel, shape.swapaxes, shape.squeeze, select.take, select.argsort, select.diagonal,
    select.trace, select.clip, select.nonzero, select.put, product.dot,
):  # fmt: skip
    setattr(T, _f.__name__, guarded(_f))
T.conj = T.conjugate = lambda x: e.conj(x) if x.dtype.kind == "c" else x
T.flatten = lambda x, order="C": shape.ravel(x, order).copy()
T.real = property(lambda x: e.real(x) if x.dtype.kind == "c" else x)
T.imag = property(lambda x: e.imag(x))
T.__copy__ = T.__deepcopy__ = lambda x, memo=None: _duplicate(x)
T.__contains__ = lambda x, v: bool(reduce.any(e.eq(x, v)))


def own_buffer(y: Tensor) -> Tensor:
    """A copy is an array even without axes, and may be changed in place."""
    if not y.shape:
        y.store = 0
    return y


def _duplicate(x: Tensor) -> Tensor:
    """copy.copy and deepcopy: a leaf becomes another leaf, a result is copied with its gradient."""
    if x.is_leaf and x.level is trace.EAGER:
        y = x.detach().copy()
        return y.requires_grad_() if x.requires_grad else y
    return x.copy()


@method("reshape")
def reshape(self: Tensor, *s: Any, order: str = "C", copy: Any = None) -> Tensor:
    """The same numbers in another shape."""
    return shape.reshape(self, s[0] if len(s) == 1 else s, order, copy=copy)


@method("transpose")
def transpose(self: Tensor, *axes: Any) -> Tensor:
    """Permute the axes; reversed by default."""
    if len(axes) == 1 and (axes[0] is None or isinstance(axes[0], tuple | list)):
        return shape.transpose(self, axes[0])
    return shape.transpose(self, axes or None)


T.T = property(lambda x: mutate.transpose(x, tuple(range(x.ndim))[::-1], getframe(1)))


@property  # type: ignore[misc]
def mT(self: Tensor) -> Tensor:
    """The last two axes exchanged."""
    if self.ndim < 2:
        raise ShapeError("x.mT", "two axes or more are needed", operands=[("x", self)])
    return shape.swapaxes(self, -1, -2)


T.mT = mT


@method("astype")
def astype(
    self: Tensor,
    dtype: Any,
    order: Any = None,
    casting: str = "unsafe",
    subok: bool = True,
    copy: bool = True,
) -> Tensor:
    """The same numbers in another dtype; an integer dtype leaves the tape."""
    if casting != "unsafe":
        castable("astype", self.dtype, dtype, casting)
    y = cast(self, dtype)
    return y.copy() if y is self and copy else y


@method("round")
def round(self: Tensor, decimals: int = 0, out: Any = None) -> Tensor:
    """Rounded values: piecewise constant, no derivative."""
    return finish(rounded(self, decimals), out)


def rounded(x: Any, decimals: int = 0) -> Any:
    """To a number of decimals, halves to even: piecewise constant."""
    x = tensor(x)
    if x.dtype.kind == "c":
        return rounded(e.real(x), decimals) + 1j * rounded(e.imag(x), decimals)
    if x.dtype.kind != "f":
        return (
            x.copy()
            if decimals >= 0 and x.dtype.kind != "b"
            else tensor(np.round(x.value(), decimals))
        )
    if decimals == 0:
        return bind(e.rint, x)
    scale = float(10 ** abs(decimals))
    return e.rint(x * scale) / scale if decimals > 0 else e.rint(x / scale) * scale


@method("fill")
def fill(self: Tensor, value: Any) -> None:
    """Write one value everywhere."""
    if np.ndim(plain(value)):
        raise ArgumentError("x.fill(value)", "one number is needed")
    self[...] = value


@method("sort")
def sort(
    self: Tensor, axis: int = -1, kind: Any = None, order: Any = None, *, stable: Any = None
) -> None:
    """Sort in place along an axis."""
    self[...] = select.sort(self, axis, kind, order, stable=stable)


@method("partition")
def partition(
    self: Tensor, kth: Any, axis: int = -1, kind: str = "introselect", order: Any = None
) -> None:
    """Partition in place along an axis."""
    self[...] = select.partition(self, kth, axis, kind, order)


@method("repeat")
def repeat(self: Tensor, repeats: Any, axis: Any = None) -> Tensor:
    """Every element, or slice along an axis, several times over."""
    return select.repeat(self, repeats, axis)


@method("compress")
def compress(self: Tensor, condition: Any, axis: Any = None, out: Any = None) -> Tensor:
    """The slices along an axis where the condition holds."""
    return select.compress(condition, self, axis, out)


@method("choose")
def choose(self: Tensor, choices: Any, out: Any = None, mode: str = "raise") -> Tensor:
    """y[i] = choices[self[i]][i]."""
    return select.choose(self, choices, out, mode)


@method("argpartition")
def argpartition(
    self: Tensor, kth: Any, axis: Any = -1, kind: Any = None, order: Any = None
) -> Any:
    """The indices that partition: no derivative."""
    return select.argsort(self, axis, kind, order)


@method("searchsorted")
def searchsorted(self: Tensor, v: Any, side: Any = "left", sorter: Any = None) -> Any:
    """Where values would go to keep the order: no derivative."""
    return np.searchsorted(self.value(), plain(v), side, plain(sorter))


@method("tobytes")
def tobytes(self: Tensor, order: Any = "C") -> bytes:
    """The numbers as bytes."""
    return np.asarray(self.value()).tobytes(order)


@method("view")
def view(self: Tensor, *args: Any, **kwargs: Any) -> Any:
    """Other readings of the same memory have no derivative."""
    raise UnsupportedError(
        "x.view(dtype)", "the bits of a number have no derivative", fix="x.astype(dtype)"
    )


@method("resize")
def resize(self: Tensor, *new_shape: Any, **kwargs: Any) -> None:
    """Resizing in place would change a recorded value's shape."""
    raise UnsupportedError(
        "x.resize(shape)", "in place, it changes what was recorded", fix="np.resize(x, shape)"
    )


T.flat = property(lambda x: iter(shape.ravel(x)))
T.device = "cpu"


@method("to_device")
def to_device(self: Tensor, device: Any, /, *, stream: Any = None) -> Tensor:
    """The tensor itself: there is one device, "cpu"."""
    refuse("to_device", stream=stream)
    if device != "cpu":
        raise ArgumentError(f"x.to_device({device!r})", 'the only device is "cpu"')
    return self


for _name in (
    "reshape", "transpose", "astype", "round", "fill", "sort", "partition", "repeat", "compress",
    "choose", "argpartition", "searchsorted",
):  # fmt: skip
    setattr(T, _name, guarded(getattr(T, _name)))
