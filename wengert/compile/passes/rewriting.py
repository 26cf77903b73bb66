"""What passes share: a new graph made line by line beside the old one, and who uses what."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...graph import Graph, Line, Var
from ...transforms.law import Custom
from ...types import Aval

__all__ = ["Rewriter", "constant_key", "pure", "rewrite", "uses"]

SMALL = 1024  # bytes of a constant array that is compared by its contents


class Rewriter:
    """A graph under construction, and what the variables of the old one are called in it."""

    def __init__(self, old: Graph) -> None:
        self.old, self.new = old, Graph()
        self.of: dict[int, Any] = {v.n: self.new.input(v.aval) for v in old.inputs}
        self.made: dict[int, Line] = {}  # the line of the new graph that gives a variable

    def value(self, x: Any) -> Any:
        return self.of[x.n] if isinstance(x, Var) else x

    def values(self, line: Line) -> tuple[Any, ...]:
        return tuple([self.value(x) for x in line.inputs])

    def source(self, x: Any) -> Line | None:
        """The line of the new graph that gives x; None for an input or a constant."""
        return self.made.get(x.n) if isinstance(x, Var) else None

    def keep(self, line: Line, xs: tuple[Any, ...] | None = None) -> Line:
        """The line as it is, of new operands of the same types."""
        new = self.new
        outputs = tuple([new.var(v.aval) for v in line.outputs])
        made = Line(line.op, self.values(line) if xs is None else xs, outputs)
        new.lines.append(made)
        self.placed(line, len(new.lines) - 1)
        for old, v in zip(line.outputs, outputs):
            self.of[old.n] = v
        return made

    def replace(self, line: Line, values: Sequence[Any], start: int) -> None:
        """The line's outputs are `values`, for which lines from `start` on were appended."""
        for old, v in zip(line.outputs, values, strict=True):
            if Aval.of(v) != old.aval:
                raise ValueError(f"{old!r} was replaced by {Aval.of(v)}, in {line!r}")
            self.of[old.n] = v
        self.placed(line, start)

    def placed(self, line: Line, start: int) -> None:
        """Lines from `start` on are known, and say where the user wrote `line`."""
        where = getattr(line, "where", None)
        lines: list[Any] = self.new.lines[start:]
        for made in lines:
            if where is not None and getattr(made, "where", None) is None:
                made.where = where
            for v in made.outputs:
                self.made[v.n] = made

    def finish(self) -> Graph:
        self.new.outputs = [self.value(v) for v in self.old.outputs]
        return self.new


def pure(op: Any) -> bool:
    """Whether an operation does nothing but compute: not code of the user's, which may print."""
    return not isinstance(op, Custom)


Rule = Callable[[Rewriter, Line, tuple[Any, ...]], Any]


def rewrite(graph: Graph, rule: Rule) -> Graph:
    """A graph in which `rule(rewriter, line, operands)` says what each line becomes.

    The rule gives the value, a tuple of values for an operation of several outputs, or None for the
    line as it is. It may append lines by applying operations to the operands.
    """
    r = Rewriter(graph)
    for line in graph.lines:
        xs, start = r.values(line), len(r.new.lines)
        got = rule(r, line, xs)
        if got is None:
            r.keep(line, xs)
        else:
            r.replace(line, got if isinstance(got, tuple) else (got,), start)
    return r.finish()


def uses(graph: Graph) -> dict[int, list[int]]:
    """For every variable, the places of the lines that read it; len(lines) stands for the outputs.

    A line that reads it twice stands there twice.
    """
    table: dict[int, list[int]] = {v.n: [] for v in graph.inputs}
    for k, line in enumerate(graph.lines):
        for x in line.inputs:
            if isinstance(x, Var):
                table[x.n].append(k)
        for v in line.outputs:
            table[v.n] = []
    for v in graph.outputs:
        if isinstance(v, Var):
            table[v.n].append(len(graph.lines))
    return table


def constant_key(x: Any) -> Any:
    """Equal for constants that are the same in every bit; large arrays are the same as themselves.

    Python numbers and arrays differ, since the dtype of the first yields.
    """
    if isinstance(x, np.ndarray | np.generic):
        if x.nbytes > SMALL or x.dtype.hasobject:
            return ("object", id(x))
        return ("array", x.shape, x.dtype.str, x.tobytes())
    if isinstance(x, float):
        return ("float", struct.pack("d", x))
    if isinstance(x, complex):
        return ("complex", struct.pack("dd", x.real, x.imag))
    return (type(x).__name__, x)
