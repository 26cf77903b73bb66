"""Choosing what counts as a derivative where there is none, and how complex gradients point."""

from __future__ import annotations

from contextlib import ContextDecorator
from typing import Any

import numpy as np

from .. import trace
from ..errors import KinkError, OptionError
from ..ops import elementwise as e
from ..ops.kinks import KINKS, Kink
from ..primitive import Rule
from ..structural import At, Masked, densify, fit
from ..trace import HERE, Tensor, modes

__all__ = ["conventions"]

CHOICES = {"kinks": ("subgradient", "nan", "raise"), "complex": ("torch", "jax")}


class conventions(ContextDecorator):
    """Choose the derivative at kinks, and the complex convention, for what is recorded inside.

    Args:
        kinks: "subgradient" (the default: the table in `wengert.ops.kinks`), "nan", or "raise" when
            an operation that is being differentiated is evaluated at a kink.
        complex: "torch": the gradient of a real function of complex numbers is conjugate, so that a
            step against it goes downhill, dL/d(conj z); "jax": it is not. By default `.backward()`
            follows PyTorch and `wg.grad` follows JAX.

    >>> import numpy as np, wengert as wg
    >>> wg.grad(np.abs)(0.0)
    np.float64(0.0)
    >>> with conventions(kinks="nan"):
    ...     wg.grad(np.abs)(0.0)
    np.float64(nan)
    """

    def __init__(self, kinks: str | None = None, complex: str | None = None) -> None:
        for name, value in (("kinks", kinks), ("complex", complex)):
            if value is not None and value not in CHOICES[name]:
                raise OptionError(
                    f"conventions({name}={value!r})",
                    "no such convention",
                    fix=f"one of {', '.join(map(repr, CHOICES[name]))}",
                )
        self.chosen = {k: v for k, v in (("kinks", kinks), ("complex", complex)) if v is not None}

    def __enter__(self) -> None:
        old = getattr(HERE, "conventions", {})
        HERE.__dict__.setdefault("older_conventions", []).append(old)
        HERE.conventions = {**old, **self.chosen}
        modes(1)

    def __exit__(self, *exc: object) -> None:
        HERE.conventions = HERE.older_conventions.pop()
        modes(-1)


def chosen(name: str) -> str | None:
    """The convention in force in this thread; None for the default."""
    return getattr(HERE, "conventions", {}).get(name) if trace.MODES else None


def kink_of(op: Any) -> tuple[str, Kink] | None:
    """(what to do, the table's row) when op has a kink and the subgradient is not wanted."""
    choice = chosen("kinks")
    if choice is None or choice == "subgradient":
        return None
    row = KINKS.get(getattr(op, "name", type(op).__name__))
    return None if row is None else (choice, row)


def kink_mask(op: Any, values: Any, y: Any) -> Any:
    """Where a derivative must be nan; None if nowhere or not asked for. Raises if asked to."""
    found = kink_of(op)
    if found is None:
        return None
    choice, row = found
    mask = row.at(op, values, y)
    plain = mask
    while isinstance(plain, Tensor):
        plain = plain.data
    if choice == "raise" and isinstance(plain, np.ndarray | np.generic) and np.any(plain):
        at = [int(i) for i in np.argwhere(plain)[0]]
        raise KinkError(
            f"{op!r}",
            f"it has no derivative where {row.place}, and that is so at {at}",
            operands=[("value", y)],
            fix=f'wg.conventions(kinks="subgradient") takes {row.convention}',
        )
    return mask


def guarded(rule: Rule | None, op: Any) -> Rule:
    """A rule that answers nan where its last residual, the mask of kinks, is true."""
    names = (*(rule.names if rule else ()), "kink")

    def pull(g: Any, *res: Any) -> Any:
        *kept, mask = res
        g = g.masked() if isinstance(g, At) else g
        if isinstance(g, Masked):
            mask = e.logical_and(mask, g.mask)
        g = densify(g)
        if rule is None:
            return e.where(mask, np.nan, 0.0) * g
        if not rule.diagonal:
            return rule.pull(e.where(mask, np.nan, g), *kept)
        inner = rule.base or rule
        k = len(inner.names)
        out = inner.pull(g, *kept[:k])
        parts = [e.where(mask, np.nan, densify(v)) for v in ((out,) if rule.single else out)]
        if rule.base is not None:
            parts = [fit(v, *like) for v, like in zip(parts, kept[k:])]
        return parts[0] if rule.single else tuple(parts)

    made = Rule(op, rule.live if rule else (0,), names, pull)
    made.keeps_mask = True
    return made


def kinked_tangent(dy: Any, mask: Any, y: Any) -> Any:
    """The tangent with nan where the mask of kinks is true."""
    return e.where(mask, np.nan, np.zeros((), y.dtype) if dy is None else densify(dy))
