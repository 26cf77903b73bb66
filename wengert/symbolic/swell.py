"""Expression swell: how large a derivative gets as a formula, and as a tape.

A formula of a derivative repeats its parts: the product rule copies both factors. The tape names
every intermediate value once, so its length grows with the program.

References:
    A. G. Baydin et al., "Automatic differentiation in machine learning: a survey" (2018), table 1:
    the logistic map l_{n+1} = 4 l_n (1 - l_n). B. Speelpenning (1980): the product x_1 .. x_n.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..given import function, one_of
from ..transforms.staging import stage
from ..transforms.vjp import value_and_grad
from .calculus import argument, slopes
from .forms import sp
from .reading import read

__all__ = ["FAMILIES", "Swell", "dag", "swell", "tree_size"]


def logistic(depth: int) -> Callable[[Any], Any]:
    def f(x: Any) -> Any:
        for _ in range(depth - 1):
            x = 4 * x * (1 - x)
        return x

    return f


def speelpenning(depth: int) -> Callable[[Any], Any]:
    def f(x: Any) -> Any:
        y = x[0]
        for i in range(1, depth):
            y = y * x[i]
        return y

    return f


def nested(depth: int) -> Callable[[Any], Any]:
    def f(x: Any) -> Any:
        for i in range(depth):
            x = np.exp(x) if i % 2 else np.sin(x)
        return x

    return f


# name -> (depth -> program, depth -> its argument)
FAMILIES: dict[str, tuple[Callable[[int], Any], Callable[[int], Any]]] = {
    "logistic map": (logistic, lambda n: 0.3),
    "Speelpenning's product": (speelpenning, lambda n: np.full(n, 0.9)),
    "nested sin(exp(..))": (nested, lambda n: 0.3),
}


def dag(ys: Iterable[Any]) -> int:
    """How many different nodes formulas have: what is left with common subexpressions named."""
    seen: set[Any] = set()
    stack = list(ys)
    while stack:
        y = stack.pop()
        if y not in seen:
            seen.add(y)
            stack.extend(y.args)
    return len(seen)


def tree_size(ys: Iterable[Any]) -> int:
    """How many nodes formulas have when they are written out.

    >>> x = sp.Symbol("x")
    >>> tree_size([x * (x + 1)]), dag([x * (x + 1)])
    (5, 4)
    """
    sizes: dict[Any, int] = {}

    def size(y: Any) -> int:
        if y not in sizes:
            sizes[y] = 1 + sum(size(a) for a in y.args)
        return sizes[y]

    return sum(size(y) for y in ys)


class Swell:
    """The measurement: a row for each depth.

    Attributes:
        rows: dicts with `depth`; `formula`, the nodes of f; `derivative`, those of its derivatives
            written out; `shared`, with common subexpressions named; `simplified` (None: not tried,
            the formula is longer than the limit); `tape`, the operations of f and its gradient.
    """

    COLUMNS = ("depth", "formula", "derivative", "shared", "simplified", "tape")

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def __str__(self) -> str:
        lines = [f"{'':>2}".join(f"{c:>10}" for c in self.COLUMNS)]
        for row in self.rows:
            cells = ["-" if row[c] is None else str(row[c]) for c in self.COLUMNS]
            lines.append(f"{'':>2}".join(f"{c:>10}" for c in cells))
        return "\n".join(lines)

    __repr__ = __str__

    def markdown(self) -> str:
        """The rows as a table of Markdown."""
        lines = ["| " + " | ".join(self.COLUMNS) + " |", "|" + " ---: |" * len(self.COLUMNS)]
        for row in self.rows:
            cells = ["-" if row[c] is None else str(row[c]) for c in self.COLUMNS]
            lines.append("| " + " | ".join(cells) + " |")
        return "\n".join(lines)


def swell(
    family: str | Callable[[int], Callable[..., Any]],
    depths: Iterable[int],
    x: Any = None,
    limit: int = 400,
) -> Swell:
    """Measure how the derivative of a family of programs grows with the depth.

    Args:
        family: a name of `FAMILIES`, or a function from the depth to a program of one argument
            with one number as its value.
        depths: which depths.
        x: the argument (an array, a shape), or a function from the depth to it; 1.0 if left out.
        limit: `sympy.simplify` is tried on derivatives of at most so many nodes.

    Returns:
        a table: its `rows`, and `markdown()`.

    Example:
        >>> print(swell("nested sin(exp(..))", (1, 2, 4)))
             depth     formula  derivative      shared  simplified        tape
                 1           2           2           2           2           3
                 2           3           6           5           6           5
                 4           5          15           8          15          10
    """
    if isinstance(family, str):
        one_of("swell(family, depths)", "family", family, FAMILIES)
        family, x = FAMILIES[family]
    rows = []
    for depth in depths:
        f = function("swell(family, depths)", "family(depth)", family(depth))
        at = x(depth) if callable(x) else 1.0 if x is None else x
        reading = read(f, at)
        (y,) = reading.leaves[0].flat
        ds = list(slopes(np.array(y, object), argument(reading, 0)).flat)
        written = tree_size(ds)
        short = tree_size([sp.simplify(d) for d in ds]) if written <= limit else None
        example = np.ones(at) if isinstance(at, tuple) else at
        tape = len(stage(value_and_grad(f), example).graph.lines)
        rows.append(
            {
                "depth": depth,
                "formula": tree_size([y]),
                "derivative": written,
                "shared": dag(ds),
                "simplified": short,
                "tape": tape,
            }
        )
    return Swell(rows)
