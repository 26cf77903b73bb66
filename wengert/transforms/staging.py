"""Staging: run a function once on graph variables in place of arrays, and keep what it did.

The variables stand below every tape, so that derivatives taken inside, and updates of tensors that
the function closes over, are ordinary lines of the graph. Those tensors become inputs, and outputs
where they are written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import trace, tree
from ..graph import Graph, Var, verify
from ..trace import HERE, Leaf, Tensor, View, make, modes
from ..types import RAW, Aval
from .jvp import inward

__all__ = ["Staged", "Tracer", "stage"]


class Tracer:
    """Collects one trace, and the eager tensors that it touched."""

    def __init__(self) -> None:
        self.graph = Graph()
        self.touched: dict[int, tuple[Tensor, Any, Var, Any, Any]] = {}

    def touch(self, t: Any) -> None:
        """A tensor is about to be read: its array may stand some levels below."""
        while isinstance(t, Tensor):
            if t.level is trace.EAGER:
                return self.wrote(t)
            t = t.data

    def wrote(self, t: Tensor) -> None:
        """First touch of an outside tensor: its array becomes an input of the graph."""
        if t.level is not trace.EAGER or not isinstance(t.data, RAW) or id(t) in self.touched:
            return
        v = self.graph.input(Aval.of(t.data))
        gradient = t.node.grad if type(t.node) is Leaf else None
        self.touched[id(t)] = (t, t.data, v, gradient, t.node)
        t.data = v

    def restore(self) -> None:
        for t, data, _, gradient, node in self.touched.values():
            t.data, t.node = data, node
            if type(node) is Leaf:
                node.grad = gradient


class Staged:
    """A graph with the tensors it reads and writes (state) and the structure of its result."""

    def __init__(self, graph: Graph, state: list[Tensor], written: list[Tensor], out: Any) -> None:
        self.graph, self.state, self.written, self.out = graph, state, written, out

    def __repr__(self) -> str:
        return str(self.graph)


def stage(f: Callable[..., Any], *args: Any, tracer: Tracer | None = None) -> Staged:
    """The graph of f at arguments of these shapes and dtypes; `tracer` collects it.

    >>> import numpy as np
    >>> print(stage(lambda x: np.sum(np.tanh(x)), np.ones(3)))
    in   %0: float64[3]
    %1: float64[3] = tanh(%0)
    %2: float64[] = Sum(axes=(0,), keepdims=False)(%1)
    out  %2
    """
    leaves, structure = tree.flatten(args)
    tracer = tracer or Tracer()
    old = getattr(HERE, "trace", None)
    HERE.trace = tracer
    modes(1)
    try:
        ts = [make(tracer.graph.input(Aval.of(inward(x))), None, trace.EAGER) for x in leaves]
        ys, out = tree.flatten(f(*tree.unflatten(structure, ts)))
        ys = [y.look() if type(y) is View else y for y in ys]
        results = [y.data if isinstance(y, Tensor) else y for y in ys]
        changed = [(t, t.data) for t, _, v, *_ in tracer.touched.values() if t.data is not v]
        tracer.graph.outputs = results + [d for _, d in changed]
        state = [t for t, *_ in tracer.touched.values()]
    finally:
        HERE.trace = old
        modes(-1)
        tracer.restore()
    verify(tracer.graph)
    return Staged(tracer.graph, state, [t for t, _ in changed], out)
