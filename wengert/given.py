"""What a transform is given: functions, numbers, arrays; refused by name where they are not.

A function is called through `call`, which answers a wrong number of arguments in the words of the
transform; whatever the function raises itself passes through.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from .errors import ArgumentError, DTypeError, WengertError, describe, verbatim

__all__ = ["call", "count", "function", "items", "number", "numeric", "one_of"]


def function(what: str, name: str, f: Any, optional: bool = False) -> Any:
    """f, if it can be called."""
    if callable(f) or (optional and f is None):
        return f
    raise ArgumentError(what, f"{name} is a function, not {describe(f)}", operands=[(name, f)])


def call(what: str, name: str, f: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """f(*args, **kwargs), refused in words where f takes other arguments."""
    try:
        return f(*args, **kwargs)
    except TypeError as error:
        if error.__traceback__ is None or error.__traceback__.tb_next is not None:
            raise  # from inside f
        refusal = mismatch(what, name, f, args, kwargs)
        if refusal is None:
            raise
        raise refusal from None


def mismatch(what: str, name: str, f: Any, args: Any, kwargs: Any) -> ArgumentError | None:
    """The error for arguments that f does not take; None if it takes them, or does not say."""
    if not callable(f):
        return ArgumentError(what, f"{name} is a function, not {describe(f)}", operands=[(name, f)])
    n = len(args) + len(kwargs)
    given = f"{name} is called with {n} argument{'s' * (n != 1)}"
    if isinstance(f, np.ufunc):
        if len(args) == f.nin:
            return None
        return ArgumentError(what, f"{given}, and np.{f.__name__} takes {f.nin}")
    try:
        signature = inspect.signature(f)
    except (TypeError, ValueError):
        return None
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        called = getattr(f, "__name__", type(f).__name__)
        return ArgumentError(
            what, f"{given}: {error}", operands=[(name, verbatim(f"{called}{signature}"))]
        )
    return None


def number(
    what: str, name: str, x: Any, low: float | None = None, *, strict: bool = False,
    optional: bool = False, error: type[WengertError] = ArgumentError,
) -> Any:  # fmt: skip
    """x, if it is one real number, and not below `low` (or, `strict`, above it)."""
    if optional and x is None:
        return x
    kind = getattr(getattr(x, "dtype", None), "kind", None)
    plain = isinstance(x, int | float) and not isinstance(x, bool)
    if not plain and (kind is None or kind not in "iuf" or np.shape(x) != ()):
        raise ArgumentError(what, f"{name} is one real number", operands=[(name, x)])
    if low is not None and not (x > low if strict else x >= low):
        rule = f"{name} is positive" if strict and low == 0 else f"{name} is not below {low:g}"
        raise error(what, rule, operands=[(name, x)])
    return x


def count(what: str, name: str, n: Any, low: int | None = 0, *, optional: bool = False) -> Any:
    """n as an int of at least `low`."""
    if optional and n is None:
        return n
    whole = isinstance(n, int | np.integer) and not isinstance(n, bool)
    if not whole:
        fix = f"int({describe(n)})" if isinstance(n, float) and n == n // 1 else None
        raise ArgumentError(what, f"{name} is a whole number", operands=[(name, n)], fix=fix)
    if low is not None and n < low:
        raise ArgumentError(what, f"{name} is {low} or more", operands=[(name, n)])
    return int(n)


def one_of(
    what: str, name: str, x: Any, known: Iterable[Any],
    error: type[WengertError] = ArgumentError,
) -> Any:  # fmt: skip
    """x, if it is among the known names."""
    known = list(known)
    if isinstance(x, str | None) and x in known:
        return x
    raise error(
        what, f"no such {name}", operands=[(name, x)], fix=f"one of {', '.join(map(repr, known))}"
    )


def items(what: str, name: str, x: Any, of: str) -> list[Any]:
    """x as a list, if it is a tuple, a list or another iterable that is no text."""
    if isinstance(x, str | bytes | dict) or not isinstance(x, Iterable):
        raise ArgumentError(what, f"{name} is a list of {of}", operands=[(name, x)])
    try:
        return list(x)
    except TypeError:  # an array of no axes
        raise ArgumentError(what, f"{name} is a list of {of}", operands=[(name, x)]) from None


def numeric(
    what: str, names: Sequence[str] | Callable[[], Sequence[str]], xs: Sequence[Any]
) -> None:
    """Refuse what is no array of numbers among the leaves of a tree."""
    for i, x in enumerate(xs):
        dtype = getattr(x, "dtype", None)
        if dtype is None:
            good = isinstance(x, bool | int | float | complex | list) or hasattr(x, "graph")
        else:
            good = getattr(dtype, "kind", "f") in "biufcV"
        if not good:
            name = (names() if callable(names) else names)[i]
            raise DTypeError(what, f"{name} is not made of numbers", operands=[(name, x)])
