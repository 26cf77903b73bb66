"""Common subexpressions: of equal lines, the first stands for all."""

from __future__ import annotations

from typing import Any

from ...graph import Graph, Line, Var
from ...ops import elementwise as e
from .rewriting import Rewriter, constant_key, pure

__all__ = ["cse"]

# f(a, b) = f(b, a) to the bit; not maximum, which gives its first operand of 0.0 and -0.0
COMMUTE = {
    *(e.add, e.mul, e.eq, e.ne, e.logical_and, e.logical_or, e.logical_xor),
    *(e.bitwise_and, e.bitwise_or, e.bitwise_xor),
}


def cse(graph: Graph) -> Graph:
    """One line in place of several that are the same operation of the same operands.  Bit-exact.

    Constants are the same if they are one object, or small and equal in every bit.

    >>> import numpy as np
    >>> from wengert.transforms.staging import stage
    >>> print(cse(stage(lambda x: np.sin(x) * np.sin(x), np.ones(3)).graph))
    in   %0: float64[3]
    %1: float64[3] = sin(%0)
    %2: float64[3] = mul(%1, %1)
    out  %2
    """
    r = Rewriter(graph)
    seen: dict[Any, Line] = {}
    for line in graph.lines:
        xs = r.values(line)
        key = line_key(line, xs)
        first = seen.get(key) if key is not None else None
        if first is not None:
            r.replace(line, first.outputs, len(r.new.lines))
            continue
        made = r.keep(line, xs)
        if key is not None:
            seen[key] = made
    return r.finish()


def line_key(line: Line, xs: tuple[Any, ...]) -> Any:
    """Equal for lines that give the same; None where that is not known."""
    if not pure(line.op):
        return None
    keys = [("var", x.n) if isinstance(x, Var) else constant_key(x) for x in xs]
    real = all(x.dtype.kind != "c" for x in xs if hasattr(x, "dtype"))
    if len(keys) == 2 and line.op in COMMUTE and real and not any(type(x) is complex for x in xs):
        keys.sort(key=repr)
    key = (line.op, *keys)
    try:
        hash(key)
    except TypeError:  # an array among the parameters
        return None
    return key
