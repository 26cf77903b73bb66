"""The methods of ufuncs (reduce, accumulate, reduceat, outer, at), and ufuncs made of others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import ArgumentError, DTypeError, TapeExitError, UnsupportedError
from ..ops import elementwise as e
from ..ops.index import AddAt, GetItem, as_index
from ..owned import own
from ..primitive import UFUNCS
from ..trace import Tensor, bind
from ..transforms.mutate import ELLIPSIS, assign
from ..types import shape_of
from . import reduce as r
from .check import axis_of, flag, given, ordered_axes
from .shape import broadcast_to, concatenate, moveaxis, ravel, reshape, stack
from .table import CALLS, METHODS, finish, plain, recorded, tensor

FULL = slice(None)
Method = Callable[..., Any]


def _pairs(ufunc: Any) -> Callable[[Any, Any], Any]:
    op = UFUNCS[ufunc]
    return lambda a, b: bind(op, a, b)


# ------------------------------------------------------------------ reduce
def by_function(f: Method, name: str, typed: bool = True) -> Method:
    """ufunc.reduce as one of the reductions."""

    def reduce(
        x: Any, axis: Any = 0, dtype: Any = None, out: Any = None, keepdims: Any = False,
        initial: Any = None, where: Any = True,
    ) -> Any:  # fmt: skip
        x = r.typed(x, dtype)
        kwargs = {"dtype": dtype} if typed and given(dtype) else {}
        if given(initial):
            kwargs["initial"] = initial
        if f in (r.any, r.all) and given(initial):
            raise UnsupportedError(
                f"np.{name}.reduce(x, initial)", "this argument is not supported"
            )
        return f(x, axis=axis, keepdims=keepdims, where=where, out=out, **kwargs)

    return reduce


def by_folding(ufunc: Any) -> Method:
    """ufunc.reduce as a fold over the slices along an axis."""
    pair = _pairs(ufunc)

    def reduce(
        x: Any, axis: Any = 0, dtype: Any = None, out: Any = None, keepdims: Any = False,
        initial: Any = None, where: Any = True,
    ) -> Any:  # fmt: skip
        x = r.typed(x, dtype)
        if where is not True:
            raise UnsupportedError(
                f"np.{ufunc.__name__}.reduce(x, where)", "this argument is not supported"
            )
        axes = range(x.ndim) if axis is None else ordered_axes(f"{ufunc.__name__}.reduce", x, axis)
        for a in sorted(axes, reverse=True):
            rows = list(moveaxis(x, a, 0))
            start = (
                [initial]
                if given(initial)
                else []
                if rows or ufunc.identity is None
                else [ufunc.identity]
            )
            if not rows and not start:
                raise ArgumentError(
                    f"np.{ufunc.__name__}.reduce(x)", "no elements, and no identity"
                )
            y, *rest = (*start, *rows)
            for row in rest:
                y = pair(y, row)
            lane = x.shape[:a] + x.shape[a + 1 :]
            y = tensor(y)
            x = y if y.shape == lane else broadcast_to(y, lane)
            x = r.expand_dims(x, a) if flag(keepdims) else x
        return finish(x, out)

    return reduce


# ------------------------------------------------------------------ accumulate, reduceat, outer
def accumulate(ufunc: Any) -> Method:
    """ufunc.accumulate: the running fold along an axis."""
    pair = _pairs(ufunc)

    def method(x: Any, axis: Any = 0, dtype: Any = None, out: Any = None) -> Any:
        x = r.typed(x, dtype)
        a = axis_of(f"{ufunc.__name__}.accumulate", x, axis)
        rows = list(moveaxis(x, a, 0))
        ys = rows[:1]
        for row in rows[1:]:
            ys.append(pair(ys[-1], row))
        return finish(stack(ys, a) if ys else x, out)

    return method


def reduceat(ufunc: Any) -> Method:
    """ufunc.reduceat: one fold for each slice x[indices[i]:indices[i + 1]]."""

    def method(x: Any, indices: Any, axis: Any = 0, dtype: Any = None, out: Any = None) -> Any:
        x = r.typed(x, dtype)
        a = axis_of(f"{ufunc.__name__}.reduceat", x, axis)
        starts = np.asarray(plain(indices)).tolist()
        lead = (FULL,) * a
        ends = [*starts[1:], x.shape[a]]
        parts = []
        for i, j in zip(starts, ends):
            if not 0 <= i < x.shape[a]:
                raise ArgumentError(
                    f"np.{ufunc.__name__}.reduceat(x, indices)", f"no index {i} along the axis"
                )
            part = x[(*lead, slice(i, j if i < j else i + 1))]
            parts.append(METHODS[ufunc, "reduce"](part, axis=a, keepdims=True))
        return finish(concatenate(parts, a), out)

    return method


def outer(ufunc: Any) -> Method:
    """ufunc.outer: f of every pair."""
    pair = _pairs(ufunc)

    def method(a: Any, b: Any, dtype: Any = None) -> Any:
        a, b = r.typed(a, dtype), r.typed(b, dtype)
        return pair(reshape(a, a.shape + (1,) * b.ndim), b)

    return method


# ------------------------------------------------------------------ at
def target_of(name: str, a: Any, b: Any) -> None:
    """Refuse to write a recorded value into a plain array."""
    if not isinstance(a, Tensor) and recorded(b):
        raise TapeExitError(
            f"np.{name}.at(array, index, tensor)",
            "a plain array cannot hold a recorded value",
            operands=[("array", a)],
            fix="a buffer from wg.zeros or wg.tensor",
        )


def index_of(i: Any) -> Any:
    """An index of the tape's own: the user may change the array later."""
    i = plain(i)
    return own(as_index(i)) if isinstance(i, list | np.ndarray) else i


def add_at(sign: Any) -> Method:
    """a[index] += b, where an index that occurs twice is added to twice."""

    def method(a: Any, index: Any, b: Any) -> None:
        name = "subtract" if sign is np.negative else "add"
        target_of(name, a, (b,))
        if not isinstance(a, Tensor):
            getattr(np, name).at(a, plain(index), plain(b))
            return
        items = index if isinstance(index, tuple) else (index,)
        at = GetItem(tuple(index_of(i) for i in items))
        b = tensor(b)
        b = b if sign is None else sign(b)
        assign(a, (ELLIPSIS,), bind(AddAt(at), a, b.astype(a.dtype)))

    return method


def at(ufunc: Any) -> Method:
    """a[index] = f(a[index], b), one occurrence of an index after another."""
    op = UFUNCS[ufunc]

    def method(a: Any, index: Any, *b: Any) -> None:
        target_of(ufunc.__name__, a, b)
        if not isinstance(a, Tensor):
            ufunc.at(a, plain(index), *plain(b))
            return
        places = np.arange(a.size).reshape(a.shape)[plain(index)]
        flat = ravel(a)
        values = [ravel(broadcast_to(v, places.shape)) for v in b]
        places = places.ravel()
        turn = np.empty(len(places), np.intp)  # which occurrence of its index each one is
        order = np.argsort(places, kind="stable")
        first = np.searchsorted(places[order], places[order])
        turn[order] = np.arange(len(places)) - first
        for k in range(turn.max(initial=-1) + 1):
            now = turn == k
            y = bind(op, flat[places[now]], *(v[now] for v in values))
            flat = flat.copy()
            flat[places[now]] = y.astype(a.dtype)
        assign(a, (ELLIPSIS,), reshape(flat, a.shape))

    return method


REDUCTIONS: dict[Any, tuple[Method, bool]] = {
    np.add: (r.sum, True),
    np.multiply: (r.prod, True),
    np.maximum: (r.max, False),
    np.minimum: (r.min, False),
    np.logical_and: (r.all, False),
    np.logical_or: (r.any, False),
}


def install() -> None:
    """The methods of every ufunc that has a rule."""
    for ufunc in UFUNCS:
        if ufunc.signature is not None:
            continue
        METHODS[ufunc, "at"] = at(ufunc)
        if ufunc.nin == 2:
            f = REDUCTIONS.get(ufunc)
            METHODS[ufunc, "reduce"] = (
                by_function(f[0], ufunc.__name__, f[1]) if f else by_folding(ufunc)
            )
            METHODS[ufunc, "accumulate"] = accumulate(ufunc)
            METHODS[ufunc, "reduceat"] = reduceat(ufunc)
            METHODS[ufunc, "outer"] = outer(ufunc)
    METHODS[np.add, "accumulate"] = lambda x, axis=0, dtype=None, out=None: r.cumsum(
        x, axis, dtype, out
    )
    METHODS[np.add, "at"] = add_at(None)
    METHODS[np.subtract, "at"] = add_at(np.negative)


install()


# ------------------------------------------------------------------ ufuncs made of others
def fabs(x: Any) -> Any:
    """The size of a real number, as a floating one."""
    x = r.inexact(x)
    if x.dtype.kind == "c":
        raise DTypeError("fabs(x)", "real numbers only", operands=[("x", x)], fix="np.abs(x)")
    return abs(x)


def modf(x: Any) -> Any:
    """Fractional and integral parts; the gradient goes to the first."""
    x = r.inexact(x)
    whole = e.trunc(x)
    part = e.where(e.isinf(x), e.copysign(np.zeros((), x.dtype), x), e.copysign(x - whole, x))
    return part, whole


def divmod_(a: Any, b: Any) -> Any:
    """Quotient and remainder of floor division; the gradient goes to the second."""
    return bind(e.floor_divide, a, b), bind(e.remainder, a, b)


def ldexp(x: Any, n: Any) -> Any:
    """x 2^n, in two halves so that neither power overflows."""
    x = r.inexact(x)
    n = np.asarray(plain(n))
    half = n // 2
    one = np.ones((), x.dtype)
    return x * np.ldexp(one, half) * np.ldexp(one, n - half)


def frexp(x: Any) -> Any:
    """Mantissa and exponent; the gradient goes to the mantissa."""
    x = r.inexact(x)
    n = np.frexp(x.value())[1]
    return ldexp(x, -n), tensor(n)


def vecdot(a: Any, b: Any, /, *, axis: int = -1) -> Any:
    """Sum over one axis of conj(a) b."""
    a, b = tensor(a), tensor(b)
    a, b = moveaxis(a, axis, -1), moveaxis(b, axis, -1)
    if a.shape[-1] != b.shape[-1]:
        raise bad_pair("vecdot", a, b)
    return bind(UFUNCS[np.matmul], _row(e.conj(a) if a.dtype.kind == "c" else a), b[..., None])[
        ..., 0, 0
    ]


def matvec(a: Any, v: Any) -> Any:
    """A matrix times a vector, over leading axes."""
    return bind(UFUNCS[np.matmul], a, tensor(v)[..., None])[..., 0]


def vecmat(v: Any, a: Any) -> Any:
    """conj(v) times a matrix, over leading axes."""
    v = tensor(v)
    v = e.conj(v) if v.dtype.kind == "c" else v
    return bind(UFUNCS[np.matmul], _row(v), a)[..., 0, :]


def _row(v: Any) -> Any:
    return v[..., None, :]


def bad_pair(name: str, a: Any, b: Any) -> Exception:
    n, m = shape_of(a)[-1], shape_of(b)[-1]
    return ArgumentError(
        f"{name}(a, b)", f"axes of lengths {n} and {m}", operands=[("a", a), ("b", b)]
    )


CALLS.update({np.fabs: fabs, np.modf: modf, np.divmod: divmod_, np.ldexp: ldexp, np.frexp: frexp})
for _name, _f in (("vecdot", vecdot), ("matvec", matvec), ("vecmat", vecmat)):
    if hasattr(np, _name):
        CALLS[getattr(np, _name)] = _f
