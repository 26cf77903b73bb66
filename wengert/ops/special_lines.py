"""What a line of the table of special functions is: an elementwise operation, and two additions.

A parameter without a known derivative refuses by name, in both modes, when its derivative is asked
for; and a family of operations f_0, f_1, .. is made on demand, each the derivative
of the one before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import UnsupportedError
from ..primitive import Elementwise, live_arguments
from ..types import Array
from .special_values import Lazy

SCIPY: dict[str, Any] = {}  # the name of a ufunc in scipy.special -> its operation


class Refused:
    """Stands for the partial of a parameter whose derivative is not known here: asking raises."""

    def __init__(self, name: str, fix: str = "") -> None:
        self.name, self.fix = name, fix or f"{name.split(',')[0]}.detach() makes it a constant"


refused = Refused


class Special(Elementwise):
    """y = f(x_1, .., x_n) point by point, where some parameters may have no derivative."""

    def __init__(
        self,
        name: str,
        *partials: Callable[..., Any] | Refused | None,
        f: Callable[..., Any] | None = None,
        ufunc: tuple[str, ...] | None = None,
        at: tuple[Any, ...] = (),
        doc: str = "",
        complex: bool = False,
    ) -> None:
        f = f or Lazy(name, complex)
        given = [None if isinstance(p, Refused) else p for p in partials]
        super().__init__(name, f, *given, doc=doc)
        self.refused = {i: p for i, p in enumerate(partials) if isinstance(p, Refused)}
        self.examples = points(at, len(partials))  # type: ignore[misc]
        for u in (name,) if ufunc is None else ufunc:
            SCIPY[u] = self

    def rule(self, mask: int) -> Any:
        for i in live_arguments(mask):
            self.check(i)
        return super().rule(mask)

    def check(self, i: int) -> None:
        if i in self.refused:
            p = self.refused[i]
            raise UnsupportedError(
                f"the derivative of {self.name} in {p.name}",
                f"argument {i + 1} of {self.name} has no derivative here",
                fix=p.fix,
            )

    def push(self, xs: list[Array], dxs: list[Array | None], y: Array) -> Array | None:
        for i, d in enumerate(dxs):
            if d is not None:
                self.check(i)
        return super().push(xs, dxs, y)


def points(at: tuple[Any, ...], n: int) -> tuple[tuple[Any, ...], ...]:
    """Operands for the laws: intervals (low, high) for floats, lists for integers, per argument."""
    if not at:
        at = ((0.3, 2.7),) * n
    rows, single = [], []
    for i, a in enumerate(at):
        if isinstance(a, list):
            rows.append(np.array((a * 3)[:3], np.int16))
            single.append(np.array(a[0], np.int16))
        else:
            low, high = a
            rows.append(low + (high - low) * np.array([0.17, 0.91, 0.53]) ** (1 + i / 3))
            single.append(np.asarray(low + (high - low) * (0.37 + i / 7)))
    if n == 1:
        return ((rows[0],), (single[0],))
    column = rows[0][:, None][:2]
    return (tuple(rows), (column, *rows[1:]), (single[0], *rows[1:]))


def family(
    name: str,
    f: Callable[..., Any],
    *partials: Callable[..., Any] | Refused | None,
    at: tuple[Any, ...] = (),
    **numbered: Any,
) -> Callable[[int], Special]:
    """Operations name_0, name_1, ..: f(n, *xs), whose last partial is d -> d name_(n+1)(*xs).

    `partials` are those of the other arguments, given (n, d, ..).
    """
    made: dict[int, Special] = {}

    def member(n: int) -> Special:
        if n not in made:
            if len(partials) == 0:
                last: Any = lambda d, x: d * member(n + 1)(x)
            elif len(partials) == 1:
                last = lambda d, a, b: d * member(n + 1)(a, b)
            else:
                raise TypeError(name)
            made[n] = Special(
                f"{name}_{n}", *partials, last,
                f=named(f"{name}_{n}", lambda *xs: f(n, *xs)), ufunc=(), at=at,
            )  # fmt: skip
        return made[n]

    member(1)
    member(2)
    return member


def named(name: str, f: Callable[..., Any]) -> Callable[..., Any]:
    f.__name__ = name
    return f
