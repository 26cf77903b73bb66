"""How NumPy asks: `np.f(tensor)` arrives here, and finds wengert's function of the same name.

`implements(np.f)` enters a function in the table. A NumPy function that is not in it refuses, and names
the nearest thing that works: an array silently taken out of a tensor would lose its gradient.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from .. import trace
from ..errors import TapeExitError, UnsupportedError
from ..ops.operators import ROADS
from ..primitive import UFUNCS
from ..trace import Tensor, bind, make, ndarray
from ..transforms.mutate import ELLIPSIS, assign, cast_to
from ..types import RAW

F = TypeVar("F", bound=Callable[..., Any])
FUNCTIONS: dict[Any, Callable[..., Any]] = {}
BY_VALUE: set[Any] = set()
METHODS: dict[tuple[Any, str], Callable[..., Any]] = {}  # (ufunc, "reduce") -> function


def implements(*functions: Any) -> Callable[[F], F]:
    """Enter a function as the answer to one or more NumPy functions."""

    def enter(f: F) -> F:
        for g in functions:
            FUNCTIONS[g] = f
        return f

    return enter


def by_value(*functions: Any) -> None:
    """NumPy functions whose result has no derivative: they get the plain arrays."""
    for g in functions:
        BY_VALUE.add(g)


def plain(x: Any) -> Any:
    """x without tensors: the values underneath."""
    if isinstance(x, Tensor):
        return x.value()
    if isinstance(x, tuple | list):
        return type(x)(plain(v) for v in x)
    if isinstance(x, dict):
        return {k: plain(v) for k, v in x.items()}
    return x


def array_function(self: Tensor, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
    f = FUNCTIONS.get(func)
    if f is not None:
        return f(*args, **kwargs)
    if func in BY_VALUE:
        return func(*plain(args), **plain(kwargs))
    name = f"{func.__module__}.{func.__name__}"
    known = {g.__name__: g for g in (*FUNCTIONS, *BY_VALUE)}
    near = difflib.get_close_matches(func.__name__, known, 1, 0.5)
    raise UnsupportedError(
        f"{name}(tensor)",
        "it has no derivative here",
        fix=(f"np.{near[0]} has one; " if near else "")
        + "x.detach().numpy() passes the value without a gradient",
    )


def array_ufunc(self: Tensor, ufunc: Any, how: str, *xs: Any, **kwargs: Any) -> Any:
    if how == "__call__" and not kwargs:
        road = ROADS.get(ufunc)
        if road is not None:
            return road(*xs)
    return _ufunc(ufunc, how, xs, kwargs)


def _ufunc(ufunc: Any, how: str, xs: Any, kwargs: dict[str, Any]) -> Any:
    out = kwargs.pop("out", None)
    if how != "__call__":
        f = METHODS.get((ufunc, how))
        if f is None:
            raise UnsupportedError(f"np.{ufunc.__name__}.{how}(tensor)", "it has no derivative here")
        y = f(*xs, **kwargs)
        return y if out is None else into(out, y)
    op = UFUNCS.get(ufunc)
    if op is None:
        if not any(isinstance(x, Tensor) and x.recorded() for x in xs):
            return ufunc(*plain(xs), **kwargs)
        near = difflib.get_close_matches(ufunc.__name__, [u.__name__ for u in UFUNCS], 1, 0.5)
        raise UnsupportedError(
            f"{ufunc.__name__}(tensor)",
            "this ufunc has no derivative here",
            fix=(f"np.{near[0]} has one; " if near else "")
            + "x.detach().numpy() passes the value without a gradient",
        )
    where = kwargs.pop("where", True)
    dtype = kwargs.pop("dtype", None)
    kwargs.pop("casting", None)
    kwargs.pop("order", None)
    if kwargs:
        raise UnsupportedError(f"np.{ufunc.__name__}(tensor, ...)", f"the arguments {sorted(kwargs)}")
    if dtype is not None:
        xs = tuple(x.astype(dtype) if hasattr(x, "astype") else x for x in xs)
    y = bind(op, *xs)
    if where is not True:
        if out is None:
            raise UnsupportedError(
                f"np.{ufunc.__name__}(x, where=mask)",
                "without out= the other elements are whatever was in memory",
                fix="np.where(mask, f(x), other)",
            )
        y = bind(trace.OPS["where"], where, y, out[0])
    return y if out is None else into(out, y)


def into(out: Any, y: Any) -> Any:
    """Write a result into `out=`, keeping its gradient."""
    (target,) = out if isinstance(out, tuple) else (out,)
    if not isinstance(target, Tensor):
        if isinstance(y, Tensor) and y.recorded():
            raise TapeExitError(
                "f(x, out=array)",
                "a plain array cannot hold a recorded value",
                operands=[("out", target)],
                fix="out from wg.zeros, or y = f(x)",
            )
        target[...] = plain(y)
        return target
    y = cast_to(y, target)
    assign(target, (ELLIPSIS,), y)
    return target


Tensor.__array_ufunc__ = array_ufunc
Tensor.__array_function__ = array_function


def tensor(x: Any) -> Tensor:
    """A tensor for anything array-like; tensors as they are."""
    if isinstance(x, Tensor):
        return x
    return make(x if isinstance(x, ndarray) else np.asarray(x), None, trace.EAGER)


def is_raw(x: Any) -> bool:
    return isinstance(x, RAW)


__all__ = ["by_value", "implements", "into", "plain", "tensor"]
