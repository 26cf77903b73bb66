"""How NumPy asks: `np.f(tensor)` arrives here, and finds wengert's function of the same name.

`implements(np.f)` enters a function in the table. A NumPy function that is not in it refuses: an
array silently taken out of a tensor would lose its gradient.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np

from .. import trace
from ..errors import LevelError, ShapeError, TapeExitError, UnsupportedError
from ..ops.operators import ROADS
from ..ops.special import of_scipy
from ..owned import own
from ..primitive import UFUNCS
from ..trace import Tensor, bind, make, ndarray
from ..transforms.mutate import ELLIPSIS, assign
from ..types import RAW
from .check import castable, refusal, refuse

F = TypeVar("F", bound=Callable[..., Any])
FUNCTIONS: dict[Any, Callable[..., Any]] = {}
BY_VALUE: set[Any] = set()
CALLS: dict[Any, Callable[..., Any]] = {}  # ufuncs that are compositions of others
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


def known(x: Any) -> Any:
    """The plain array of x, or None where nobody can look: under vmap, and while staging."""
    try:
        y = plain(x)
    except LevelError:
        return None
    return None if hasattr(y, "graph") else y


def recorded(xs: Any) -> bool:
    """Whether a recorded tensor is among the arguments."""
    if isinstance(xs, Tensor):
        return xs.recorded()
    if isinstance(xs, dict):
        xs = xs.values()
    return isinstance(xs, tuple | list | type({}.values())) and any(recorded(x) for x in xs)


def array_function(self: Tensor, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
    f = FUNCTIONS.get(func)
    if f is not None or func in BY_VALUE:
        try:
            return f(*args, **kwargs) if f is not None else func(*plain(args), **plain(kwargs))
        except (ValueError, TypeError, IndexError) as error:
            fault = refusal(func, args, kwargs, error)
            if fault is error:
                raise
            raise fault from error
    name = f"{func.__module__}.{func.__name__}"
    known = {g.__name__: g for g in (*FUNCTIONS, *BY_VALUE)}
    near = nearest(func.__name__, known)
    raise UnsupportedError(
        f"{name}(tensor)",
        "it has no derivative here",
        fix=(f"np.{near} has one; " if near else "")
        + "x.detach().numpy() passes the value without a gradient",
    )


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is a variant of this one, if any; likeness alone would mislead."""
    relatives = [k for k in known if k[:4] == name[:4]]
    return next(iter(difflib.get_close_matches(name, relatives, 1, 0.9)), None)


def array_ufunc(self: Tensor, ufunc: Any, how: str, *xs: Any, **kwargs: Any) -> Any:
    if how == "__call__" and not kwargs:
        road = ROADS.get(ufunc)
        if road is not None:
            try:
                return road(*xs)
            except (ValueError, TypeError) as error:
                fault = refusal(ufunc, xs, kwargs, error)
                if fault is error:
                    raise
                raise fault from error
    try:
        return general(ufunc, how, xs, kwargs)
    except (ValueError, TypeError, IndexError) as error:
        fault = refusal(ufunc, xs, kwargs, error)
        if fault is error:
            raise
        raise fault from error


def general(ufunc: Any, how: str, xs: Any, kwargs: dict[str, Any]) -> Any:
    """A ufunc with arguments, one of its methods, or one without a rule of its own."""
    name = f"np.{ufunc.__name__}"
    out = kwargs.pop("out", None)
    if how != "__call__":
        f = METHODS.get((ufunc, how))
        if f is None:
            raise UnsupportedError(f"{name}.{how}(tensor)", "it has no derivative here")
        y = f(*xs, **kwargs)
        return y if out is None else into(out, y)
    where = kwargs.pop("where", True)
    dtype = kwargs.pop("dtype", None)
    casting = kwargs.pop("casting", "same_kind")
    for layout in ("order", "subok"):  # where the numbers lie is not what they are
        kwargs.pop(layout, None)
    axis = {"axis": kwargs.pop("axis")} if ufunc in CALLS and "axis" in kwargs else {}
    refuse(name, **kwargs)
    if dtype is not None:
        xs = loop_inputs(ufunc, xs, dtype, casting)
    if ufunc in UFUNCS or of_scipy(ufunc) is not None:
        y = bind(UFUNCS[ufunc], *xs)
    elif ufunc in CALLS:
        y = CALLS[ufunc](*xs, **axis)
    elif not recorded(xs):
        y = ufunc(*plain(xs))
        y = tuple(map(tensor, y)) if isinstance(y, tuple) else tensor(y)
    else:
        known = {u.__name__: f"np.{u.__name__}" for u in UFUNCS}
        if not hasattr(np, ufunc.__name__):
            known = {"_lambertw": "wengert.numpy.special.lambertw"}
        near = nearest(ufunc.__name__, known)
        raise UnsupportedError(
            f"{ufunc.__name__}(tensor)",
            "this ufunc has no derivative here",
            fix=(f"{known[near]} has one; " if near else "")
            + "x.detach().numpy() passes the value without a gradient",
        )
    if isinstance(y, tuple) and (out is not None or where is not True):
        raise UnsupportedError(f"{name}(x, out=, where=)", "it has several results")
    if where is not True:
        if out is None:
            raise UnsupportedError(
                f"{name}(x, where=mask)",
                "without out= the other elements are whatever was in memory",
                fix="np.where(mask, f(x), other)",
            )
        y = bind(trace.OPS["where"], where, y, out[0])
    return y if out is None else into(out, y, casting)


def loop_inputs(ufunc: Any, xs: Any, dtype: Any, casting: str) -> tuple[Any, ...]:
    """The operands in the dtypes of the loop that NumPy would choose for `dtype=`."""
    kinds = tuple(x.dtype if hasattr(x, "dtype") else type(x) for x in xs)
    free = (None,) * ufunc.nout
    signature = (*(None for _ in xs), *(np.dtype(dtype) for _ in free))
    loop = ufunc.resolve_dtypes((*kinds, *free), signature=signature, casting=casting)
    return tuple(x.astype(t) if hasattr(x, "astype") else t.type(x) for x, t in zip(xs, loop))


def into(out: Any, y: Any, casting: str = "same_kind") -> Any:
    """Write a result into `out=`, keeping its gradient."""
    (target,) = out if isinstance(out, tuple) else (out,)
    y = tensor(y)
    if not isinstance(target, Tensor):
        if y.recorded():
            raise TapeExitError(
                "f(x, out=array)",
                "a plain array cannot hold a recorded value",
                operands=[("out", target)],
                fix="out from wg.zeros, or y = f(x)",
            )
        castable("out", y.dtype, target.dtype, casting)
        if target.shape != y.shape:
            raise ShapeError(
                "f(x, out=array)",
                "the result does not fit",
                operands=[("out", target), ("f(x)", y)],
            )
        target[...] = plain(y)
        return target
    if target.shape != y.shape:
        raise ShapeError(
            "f(x, out=tensor)", "the result does not fit", operands=[("out", target), ("f(x)", y)]
        )
    if y.dtype != target.dtype:
        castable("out", y.dtype, target.dtype, casting)
        y = y.astype(target.dtype)
    assign(target, (ELLIPSIS,), y)
    return target


def finish(y: Any, out: Any) -> Any:
    """y, or `out` with y written into it."""
    return y if out is None else into(out, y)


Tensor.__array_ufunc__ = array_ufunc
Tensor.__array_function__ = array_function


def tensor(x: Any) -> Tensor:
    """A tensor for anything array-like; tensors as they are, lists of tensors stacked.

    An array is copied: the tape may keep the tensor's buffer, and the user may change the array.
    """
    if isinstance(x, Tensor):
        return x
    if isinstance(x, tuple | list) and recorded(x):
        return FUNCTIONS[np.stack]([tensor(v) for v in x])
    return make(own(np.asarray(x)) if isinstance(x, ndarray) else np.asarray(x), None, trace.EAGER)


def is_raw(x: Any) -> bool:
    return isinstance(x, RAW)


__all__ = ["by_value", "finish", "implements", "into", "plain", "recorded", "tensor"]
