"""Arguments as NumPy means them, and the four-part errors for those that have no meaning."""

from __future__ import annotations

import functools
import inspect
import os
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import (
    LIBRARY,
    ArgumentError,
    AxisError,
    DTypeError,
    ShapeError,
    UnsupportedError,
    WengertError,
)
from ..types import shape_of

NOTHING: Any = np._NoValue
_SHAPES = re.compile(
    "shape|dimension|broadcast|size|equal division|ndim|1-?d|2-?d|axes", re.IGNORECASE
)
_NUMPY = os.path.dirname(np.__file__)
_KEYWORD = re.compile(r"unexpected keyword argument '(\w+)'")


def given(v: Any) -> bool:
    """Whether an optional argument was passed: neither None nor NumPy's marker."""
    return v is not None and v is not NOTHING


def flag(v: Any) -> bool:
    """A boolean argument, such as keepdims, which NumPy may hand over as its marker."""
    return v is not NOTHING and bool(v)


def axes_of(what: str, x: Any, axis: Any) -> tuple[int, ...]:
    """Sorted, non-negative axes; None means all of them."""
    ndim = len(shape_of(x))
    if axis is None:
        return tuple(range(ndim))
    return tuple(sorted(ordered_axes(what, x, axis)))


def ordered_axes(what: str, x: Any, axis: Any, ndim: int | None = None) -> tuple[int, ...]:
    """Non-negative axes in the order given."""
    ndim = len(shape_of(x)) if ndim is None else ndim
    out = []
    for a in axis if isinstance(axis, tuple | list) else (axis,):
        try:
            i = int(a.__index__())
        except (AttributeError, TypeError) as error:
            raise ArgumentError(f"{what}(x, axis={axis!r})", "an axis is an integer") from error
        if not -ndim <= i < ndim:
            has = f"x has the axes {-ndim} to {ndim - 1}" if ndim else "x has no axes"
            raise AxisError(
                f"{what}(x, axis={axis!r})", f"axis {i} does not exist: {has}", operands=[("x", x)]
            )
        out.append(i % ndim)
    if len(set(out)) != len(out):
        raise ArgumentError(
            f"{what}(x, axis={axis!r})", "an axis occurs twice", operands=[("x", x)]
        )
    return tuple(out)


def axis_of(what: str, x: Any, axis: Any) -> int:
    """One axis, non-negative."""
    return ordered_axes(what, x, axis)[0]


def refuse(what: str, fix: str | None = None, **kwargs: Any) -> None:
    """Refuse arguments that have no answer here, unless they have their default."""
    left = {k: v for k, v in kwargs.items() if given(v)}
    if left:
        text = ", ".join(f"{k}={v!r}" if np.ndim(v) == 0 else k for k, v in left.items())
        raise UnsupportedError(f"{what}(x, {text})", "this argument is not supported", fix=fix)


def castable(what: str, have: Any, want: Any, casting: str) -> None:
    """NumPy's rule for `casting=`, as a DTypeError."""
    if not np.can_cast(have, want, casting):  # type: ignore[arg-type]
        raise DTypeError(f"{what}(x, dtype={np.dtype(want)})", f"no '{casting}' cast from {have}")


def foreign(error: BaseException) -> bool:
    """Whether an exception came out of the user's own code, called back from inside."""
    tb = error.__traceback__
    while tb is not None and tb.tb_next is not None:
        tb = tb.tb_next
    name = tb.tb_frame.f_code.co_filename if tb else ""
    return name not in LIBRARY and not name.startswith((_NUMPY, "<"))


def refusal(func: Any, args: Any, kwargs: Any, error: Exception) -> Exception:
    """The four-part error for whatever NumPy said about the arguments of a function."""
    if isinstance(error, WengertError) or foreign(error):
        return error
    name = getattr(func, "__name__", str(func))
    try:
        bound = inspect.signature(func).bind(*args, **kwargs).arguments
    except (TypeError, ValueError):
        bound = {f"x{i}": a for i, a in enumerate(args)} | kwargs
    flat: dict[str, Any] = {}
    for k, v in bound.items():
        if isinstance(v, tuple | list) and any(hasattr(u, "shape") for u in v):
            flat |= {f"{k}[{i}]": u for i, u in enumerate(v)}
        else:
            flat[k] = v
    rule = str(error).split("\n")[0].rstrip(". ")
    cls: type[WengertError]
    if isinstance(error, IndexError | np.exceptions.AxisError):
        cls = AxisError
    elif isinstance(error, TypeError):
        unknown = _KEYWORD.search(rule)
        cls = UnsupportedError if unknown else DTypeError
        rule = f"the argument {unknown[1]} is not supported" if unknown else rule
    else:
        cls = ShapeError if _SHAPES.search(rule) else ArgumentError
    return cls(f"{name}({', '.join(bound)})", rule, operands=list(flat.items()))


def guarded(f: Callable[..., Any]) -> Callable[..., Any]:
    """f, with NumPy's own complaints turned into four-part errors."""

    @functools.wraps(f)
    def method(*args: Any, **kwargs: Any) -> Any:
        try:
            return f(*args, **kwargs)
        except (ValueError, TypeError, IndexError) as error:
            fault = refusal(f, args, kwargs, error)
            if fault is error:
                raise
            raise fault from error

    return method
