"""Tensors from nothing and from data, and what dtypes are: the Array API standard's signatures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..create import buffer
from ..errors import ArgumentError, TapeExitError
from ..trace import Tensor, method
from ..transforms.store import writable
from .check import castable
from .grid import linspace as between
from .shape import FUNCTIONS_LIKE
from .table import plain, recorded, tensor


def _cpu(what: str, device: Any) -> None:
    if device not in (None, "cpu"):
        raise ArgumentError(f"{what}(device={device!r})", 'the only device is "cpu"')


def fresh(a: Any) -> Tensor:
    """A tensor around an array that nobody else has."""
    return buffer(a)


def asarray(
    obj: Any, /, *, dtype: Any = None, device: Any = None, copy: bool | None = None
) -> Tensor:
    """A tensor for an array, a number or nested sequences; a tensor keeps its gradient."""
    _cpu("asarray", device)
    if isinstance(obj, Tensor):
        if dtype is not None and obj.dtype != dtype:
            if copy is False:
                raise ArgumentError("asarray(x, dtype, copy=False)", "another dtype is a copy")
            return obj.astype(dtype)
        return obj.copy() if copy else obj
    if isinstance(obj, tuple | list) and recorded(obj):
        y = tensor(obj)
        return y if dtype is None else y.astype(dtype)
    if isinstance(obj, tuple | list):
        obj = plain(obj)
    if copy is False:
        raise ArgumentError("asarray(x, copy=False)", "the buffer of a tensor is its own")
    return fresh(np.array(obj, dtype=dtype))


def _shape(shape: Any) -> Any:
    return plain(shape)


def zeros(shape: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Zeros: a buffer that recorded values can be written into."""
    _cpu("zeros", device)
    return fresh(np.zeros(_shape(shape), dtype or float))


def ones(shape: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Ones."""
    _cpu("ones", device)
    return fresh(np.ones(_shape(shape), dtype or float))


def empty(shape: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """A buffer; its numbers are zeros, and nobody should rely on that."""
    return zeros(shape, dtype=dtype, device=device)


def full(shape: Any, fill_value: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """One value everywhere; a recorded value keeps its gradient."""
    _cpu("full", device)
    if isinstance(fill_value, Tensor):
        x = fill_value if dtype is None else fill_value.astype(dtype)
        return np.broadcast_to(x, _shape(shape))  # type: ignore[return-value]
    return fresh(np.full(_shape(shape), fill_value, dtype))


def eye(
    n_rows: int, n_cols: int | None = None, /, *, k: int = 0, dtype: Any = None, device: Any = None
) -> Tensor:
    """Ones on the k-th diagonal."""
    _cpu("eye", device)
    return fresh(np.eye(n_rows, n_cols, k, dtype or float))


def arange(
    start: Any, /, stop: Any = None, step: Any = 1, *, dtype: Any = None, device: Any = None
) -> Tensor:
    """start, start + step, .. below stop."""
    _cpu("arange", device)
    if stop is None:
        start, stop = 0, start
    start, stop, step = plain(start), plain(stop), plain(step)
    n = int(np.ceil((stop - start) / step)) if isinstance(step, float | int) and step else None
    if n is not None and n <= 0:
        kind = dtype or np.result_type(start, stop, step)
        return fresh(np.zeros(0, kind))
    return fresh(np.arange(start, stop, step, dtype))  # type: ignore[call-overload]


def linspace(
    start: Any,
    stop: Any,
    /,
    num: int,
    *,
    dtype: Any = None,
    device: Any = None,
    endpoint: bool = True,
) -> Tensor:
    """Evenly spaced from start to stop; the gradient goes to both ends."""
    _cpu("linspace", device)
    return between(start, stop, num, endpoint, dtype=dtype)


def _like(name: str) -> Any:
    def f(x: Any, /, *args: Any, dtype: Any = None, device: Any = None) -> Tensor:
        _cpu(name, device)
        return FUNCTIONS_LIKE[name](x, *args, dtype=dtype)

    f.__name__ = name
    f.__doc__ = FUNCTIONS_LIKE[name].__doc__
    return f


zeros_like, ones_like, empty_like = map(_like, ("zeros_like", "ones_like", "empty_like"))


def full_like(x: Any, /, fill_value: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """One value everywhere, in the shape and dtype of x."""
    _cpu("full_like", device)
    return FUNCTIONS_LIKE["full_like"](x, fill_value, dtype=dtype)


def from_dlpack(x: Any, /, *, device: Any = None, copy: bool | None = None) -> Tensor:
    """A tensor with the numbers of another library's array."""
    _cpu("from_dlpack", device)
    if copy is False and not isinstance(x, Tensor):
        raise ArgumentError("from_dlpack(x, copy=False)", "the buffer of a tensor is its own")
    return fresh(np.from_dlpack(x).copy())


@method("__dlpack__")
def dlpack(
    self: Tensor,
    *,
    stream: Any = None,
    max_version: Any = None,
    dl_device: Any = None,
    copy: Any = None,
) -> Any:
    """The numbers for another library: a copy, or with copy=False a window or the buffer itself.

    A recorded tensor refuses.
    """
    if self.recorded():
        raise TapeExitError(
            "x.__dlpack__()",
            "another library would lose the gradient without a word",
            operands=[("x", self)],
            fix="x.detach()",
        )
    a = np.asarray(self.value())
    if copy is not False:
        a = a.copy()
    elif max_version is not None and tuple(max_version) >= (1, 0):
        a = a.view()  # a window that cannot be written; a later write to the tensor copies first
        a.flags.writeable = False
    else:  # that protocol has no read-only windows: the buffer is given away, the tensor has a copy
        a = writable(self)
        self.data = a.copy("K")
    return a.__dlpack__(stream=stream, max_version=max_version, dl_device=dl_device, copy=False)


@method("__dlpack_device__")
def dlpack_device(self: Tensor) -> tuple[int, int]:
    """The CPU."""
    return (1, 0)


# ------------------------------------------------------------------ dtypes
def _kind(x: Any) -> Any:
    return x.dtype if hasattr(x, "dtype") and not isinstance(x, np.dtype | type) else x


def astype(x: Any, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Tensor:
    """The same numbers in another dtype."""
    _cpu("astype", device)
    x = tensor(x)
    if x.dtype.kind == "c" and np.dtype(dtype).kind in "fiu":
        castable("astype", x.dtype, dtype, "same_kind")
    return x.astype(dtype, copy=copy)


def can_cast(from_: Any, to: Any, /) -> bool:
    """Whether every value survives a cast."""
    return np.can_cast(_kind(from_), to)


def result_type(*arrays_and_dtypes: Any) -> Any:
    """The dtype of an operation on all of them."""
    return np.result_type(*map(_kind, arrays_and_dtypes))


def isdtype(dtype: Any, kind: Any) -> bool:
    """Whether a dtype is of a kind: "real floating", "integral", .., or one of several."""
    return np.isdtype(dtype, kind)


@dataclass(frozen=True)
class FInfo:
    """The limits of a floating dtype."""

    bits: int
    eps: float
    max: float
    min: float
    smallest_normal: float
    dtype: Any


@dataclass(frozen=True)
class IInfo:
    """The limits of an integer dtype."""

    bits: int
    max: int
    min: int
    dtype: Any


def finfo(type: Any, /) -> FInfo:
    """The limits of a floating dtype, or of a tensor's."""
    i = np.finfo(_kind(type))
    eps, high, low, small = (float(v) for v in (i.eps, i.max, i.min, i.smallest_normal))
    return FInfo(i.bits, eps, high, low, small, i.dtype)


def iinfo(type: Any, /) -> IInfo:
    """The limits of an integer dtype, or of a tensor's."""
    i = np.iinfo(_kind(type))
    return IInfo(i.bits, int(i.max), int(i.min), i.dtype)
