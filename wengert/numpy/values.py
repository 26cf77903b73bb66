"""Functions whose results are integers, truth values, text or types; small ones of one array."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..ops import elementwise as e
from ..trace import bind
from .methods import rounded
from .reduce import any, inexact
from .select import argsort
from .table import by_value, finish, implements, tensor

by_value(
    np.argwhere,
    np.flatnonzero,
    np.allclose,
    np.array_equal,
    np.array_equiv,
    np.array2string,
    np.array_repr,
    np.array_str,
    np.searchsorted,
    np.digitize,
    np.result_type,
    np.min_scalar_type,
    np.common_type,
    np.shares_memory,
    np.may_share_memory,
    np.lexsort,
    np.isin,
    np.unravel_index,
    np.ravel_multi_index,
)


@implements(np.isclose)
def isclose(a: Any, b: Any, rtol: Any = 1e-5, atol: Any = 1e-8, equal_nan: bool = False) -> Any:
    """|a - b| <= atol + rtol |b|, and infinities equal themselves."""
    a, b = tensor(a), tensor(b)
    finite = e.logical_and(e.isfinite(a), e.isfinite(b))
    difference = e.where(finite, a, 0.0) - e.where(finite, b, 0.0)
    near = e.logical_and(finite, e.le(abs(difference), atol + rtol * abs(e.where(finite, b, 0.0))))
    y = e.logical_or(near, e.eq(a, b))
    return e.logical_or(y, e.logical_and(e.isnan(a), e.isnan(b))) if equal_nan else y


@implements(np.iscomplex)
def iscomplex(x: Any) -> Any:
    """Where the imaginary part is not 0."""
    x = tensor(x)
    return e.ne(e.imag(x), 0) if x.dtype.kind == "c" else tensor(np.zeros(x.shape, bool))


@implements(np.isreal)
def isreal(x: Any) -> Any:
    """Where the imaginary part is 0."""
    return e.logical_not(iscomplex(x))


@implements(np.iscomplexobj)
def iscomplexobj(x: Any) -> bool:
    """Whether the dtype is complex."""
    return bool(tensor(x).dtype.kind == "c")


@implements(np.isrealobj)
def isrealobj(x: Any) -> bool:
    """Whether the dtype is not complex."""
    return bool(tensor(x).dtype.kind != "c")


@implements(np.isposinf)
def isposinf(x: Any, out: Any = None) -> Any:
    """Where x is +infinity."""
    return finish(e.logical_and(e.isinf(x), e.logical_not(e.signbit(x))), out)


@implements(np.isneginf)
def isneginf(x: Any, out: Any = None) -> Any:
    """Where x is -infinity."""
    return finish(e.logical_and(e.isinf(x), e.signbit(x)), out)


@implements(np.argpartition)
def argpartition(x: Any, kth: Any, axis: Any = -1, kind: Any = None, order: Any = None) -> Any:
    """The indices that sort, which partition for every kth."""
    return argsort(x, axis, kind, order)


# ------------------------------------------------------------------ small functions of one array
@implements(np.round, np.around)
def round(x: Any, decimals: int = 0, out: Any = None) -> Any:
    """To a number of decimals, halves to even: piecewise constant."""
    return finish(rounded(x, decimals), out)


@implements(np.fix)
def fix(x: Any, out: Any = None) -> Any:
    """Towards 0 to a whole number: piecewise constant."""
    return finish(bind(e.trunc, tensor(x)), out)


@implements(np.real)
def real(x: Any) -> Any:
    """The real part."""
    x = tensor(x)
    return e.real(x) if x.dtype.kind == "c" else x


@implements(np.imag)
def imag(x: Any) -> Any:
    """The imaginary part."""
    return e.imag(tensor(x))


@implements(np.angle)
def angle(z: Any, deg: bool = False) -> Any:
    """The argument of a complex number."""
    z = inexact(z)
    y = bind(e.arctan2, imag(z), real(z))
    return y * (180 / np.pi) if deg else y


@implements(np.real_if_close)
def real_if_close(x: Any, tol: float = 100) -> Any:
    """The real part, if all imaginary parts are tiny."""
    x = tensor(x)
    if x.dtype.kind != "c":
        return x
    limit = tol * np.finfo(x.dtype).eps if tol > 1 else tol
    return x if bool(any(e.gt(abs(e.imag(x)), limit))) else e.real(x)


@implements(np.sinc)
def sinc(x: Any) -> Any:
    """sin(pi x) / (pi x), and 1 at 0."""
    return bind(e.sinc, inexact(x))


@implements(np.nan_to_num)
def nan_to_num(
    x: Any, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None
) -> Any:
    """Finite numbers in place of nan and the infinities, where there is no gradient."""
    x = tensor(x)
    if x.dtype.kind == "c":
        return nan_to_num(e.real(x), copy, nan, posinf, neginf) + 1j * nan_to_num(
            e.imag(x), copy, nan, posinf, neginf
        )
    if x.dtype.kind != "f":
        return x.copy()
    info = np.finfo(x.dtype)
    high = info.max if posinf is None else posinf
    low = info.min if neginf is None else neginf
    y = e.where(e.isnan(x), nan, x)
    return e.where(isposinf(x), high, e.where(isneginf(x), low, y)).astype(x.dtype)
