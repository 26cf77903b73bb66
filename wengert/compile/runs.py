"""A run of a program: its inputs as they are now, and its outputs where they belong."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import trace, tree
from ..trace import SOLE, Tensor, getrefcount, make, ndarray
from .capture import moved
from .recorded import Program

__all__ = ["effectful", "fetch", "handle", "overlap", "room", "settle", "within"]

Leaves = list[Any]


def effectful(program: Program) -> bool:
    """Whether a run does more than compute: then a transform goes through the function itself."""
    return bool(program.draws or program.after) or any(s.kind != "result" for s in program.sinks)


def overlap(program: Program, leaves: Leaves) -> bool:
    """Whether an array that the program writes is read-only, or has memory that it reads, too."""
    written = [s.place for s in program.sinks if s.kind == "argument"]
    if not written:
        return False
    if not all(leaves[place].flags.writeable for place in written):
        return True
    read = [(s.place, leaves[s.place] if s.kind == "argument" else s.owner)
            for s in program.sources if s.kind in ("argument", "array")]  # fmt: skip
    return any(
        at != place and isinstance(x, ndarray) and np.may_share_memory(leaves[place], x)
        for place in written for at, x in read
    )  # fmt: skip


def within(checks: list[Any], leaves: Leaves) -> bool:
    """Whether labels name classes: a program does not ask at every use."""
    for source, count, spared in checks:
        if source.kind == "live":
            return False  # drawn anew: the function looks at them itself
        x = np.asarray(fetch(source, leaves, []))
        fits = x.size == 0 or bool(x.min() >= 0 and x.max() < count)
        if not fits and (spared is None or not ((x >= 0) & (x < count) | (x == spared)).all()):
            return False
    return True


def handle(x: Any) -> Any:
    """A tensor as it is now, whatever another thread records with it."""
    if isinstance(x, Tensor) and x.level is trace.EAGER and x.__class__ is Tensor:
        return make(x.data, x.node, x.level)
    return x


def fetch(source: Any, leaves: Leaves, drawn: Leaves) -> Any:
    """The array of one input of a program."""
    kind = source.kind
    if kind == "argument":
        x = leaves[source.place]
        return x.value() if isinstance(x, Tensor) else x
    if kind == "tensor":
        return (leaves[source.place] if source.place >= 0 else source.owner).data
    if kind == "gradient":
        t = leaves[source.place] if source.place >= 0 else source.owner
        g = t.node.grad
        return g.data if isinstance(g, Tensor) else g
    if kind == "array":
        return source.owner
    value = drawn[source.place]
    return value[source.owner] if value.__class__ is tuple else value


def room(sink: Any, leaves: Leaves) -> Any:
    """Memory for one output: that of the tensor which it updates, if nobody else holds it."""
    if sink.kind == "array":
        return sink.owner
    if sink.kind == "argument":
        return leaves[sink.place]
    if sink.kind != "tensor":
        return None
    d = (leaves[sink.place] if sink.place >= 0 else sink.owner).data
    # held by the tensor, by the list of inputs and by this name
    if getrefcount(d) <= SOLE + 2 and d.base is None and d.flags.writeable:
        return d
    return None


def settle(program: Program, outputs: Leaves, leaves: Leaves, drawn: Leaves) -> Any:
    """Put every output where it goes, and rebuild what the function returns."""
    results = []
    for sink, y in zip(program.sinks, outputs):
        kind = sink.kind
        if kind == "result":
            if isinstance(y, Tensor):
                results.append(y)
            elif sink.tensor:
                results.append(make(y, None, trace.EAGER))
            elif sink.form == "number":
                results.append(y.item())
            else:
                results.append(y if y.ndim or sink.form == "array" else y[()])
        elif kind == "tensor":
            t = leaves[sink.place] if sink.place >= 0 else sink.owner
            t.data = y
            moved(t)
        elif kind == "gradient":
            t = leaves[sink.place] if sink.place >= 0 else sink.owner
            t.node.grad = make(y, None, trace.EAGER) if sink.tensor and y is not None else y
        else:
            to = leaves[sink.place] if kind == "argument" else sink.owner
            if y is not to:
                to[...] = y
    for act in program.after:
        act()
    return rebuilt(program, results, leaves, drawn)


def rebuilt(program: Program, results: Leaves, leaves: Leaves, drawn: Leaves) -> Any:
    out = []
    for kind, at, value in program.constants:
        if kind == "result":
            out.append(results[at])
        elif kind == "given":
            out.append(leaves[at] if at >= 0 else value)
        elif kind == "number":
            out.append(drawn[-1][at - program.returned])
        else:
            out.append(value.copy() if value.__class__ is ndarray else value)
    return tree.unflatten(program.structure, out)
