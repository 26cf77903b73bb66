"""Lines of a program that come from functions with derivative rules of their own.

A program is run line by line, and such a function is its lines. A derivative of the program is not
the derivative of those lines: there the function is one line, `Kept`, which brings its rules.
"""

from __future__ import annotations

from typing import Any

from ..graph import Graph, Line, Var, verify
from ..transforms.law import Kept
from ..transforms.staging import Tracer

__all__ = ["Derivation", "Laws"]


class Laws:
    """The calls of such functions, noted while a graph is recorded."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.depth = 0  # of calls within calls: the outermost counts
        self.calls: list[Any] = []  # (first line, last line, law, operands, results)
        self.severed = ""  # why a derivative cannot be taken

    def enter(self) -> int:
        """A call begins; what its lines are is known when it ends."""
        self.depth += 1
        return len(self.graph.lines)

    def leave(self, first: int, law: Any, xs: Any, ys: list[Any]) -> None:
        self.depth -= 1
        if self.depth:
            return
        mine = {x.n for x in xs if isinstance(x, Var)}
        lines = self.graph.lines[first:]
        for line in lines:
            if any(isinstance(x, Var) and x.n not in mine for x in line.inputs):
                self.severed = f"{law.name} reads more than its arguments"
            mine |= {v.n for v in line.outputs}
        if not all(isinstance(y, Var) for y in ys):
            self.severed = f"{law.name} returns a constant"
        self.calls.append((first, first + len(lines), law, tuple(xs), ys))

    def lawful(self) -> Graph | None:
        """The graph with one line for each call; None where it is the same, or there is none."""
        if not self.calls or self.severed:
            return None
        graph = Graph()
        graph.inputs = list(self.graph.inputs)
        graph._count = self.graph._count
        new: dict[int, Var] = {}

        def now(xs: Any) -> tuple[Any, ...]:
            return tuple([new.get(x.n, x) if isinstance(x, Var) else x for x in xs])

        def copied(lines: list[Line]) -> list[Line]:
            return [Line(k.op, now(k.inputs), k.outputs, k.where) for k in lines]

        at = 0
        for first, last, law, xs, ys in self.calls:
            graph.lines += copied(self.graph.lines[at:first])
            outputs = tuple([graph.var(y.aval) for y in ys])
            graph.lines.append(Line(Kept(law, tuple([y.aval for y in ys])), now(xs), outputs))
            new.update({y.n: v for y, v in zip(ys, outputs)})
            inner = {v.n for k in self.graph.lines[first:last] for v in k.outputs}
            inner -= {y.n for y in ys}
            rest = [x for k in self.graph.lines[last:] for x in k.inputs]
            if any(isinstance(x, Var) and x.n in inner for x in (*rest, *self.graph.outputs)):
                self.severed = f"a value inside {law.name} is used outside"
                return None
            at = last
        graph.lines += copied(self.graph.lines[at:])
        graph.outputs = list(now(self.graph.outputs))
        verify(graph)
        return graph


class Derivation(Tracer):
    """Stages a derivative, which may be differentiated again."""

    def __init__(self) -> None:
        super().__init__()
        self.laws = Laws(self.graph)
        self.enter, self.leave = self.laws.enter, self.laws.leave
