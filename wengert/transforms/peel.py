"""A value with one level taken out of it, and put back: what a loop keeps of its state.

A value may stand at several levels at once: a tangent whose parts are recorded, lanes of recorded
arrays. `strip` takes the tensors of one tape out, wherever they stand, and notes their nodes;
`attach` puts that level back with other nodes, in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..structural import densify
from ..trace import Level, Tensor, looked, make
from .jvp import JVP
from .tape import Tape
from .vmap import VMap

BARE: Any = object()  # in place of a node: the value was no tensor of the level


def rebuilt(x: Tensor, f: Callable[[Any], Any]) -> Tensor:
    """A value of a deeper level with what is below it mapped by f."""
    node = x.node
    if isinstance(x.level, JVP):
        node = None if node is None else f(densify(node))
    elif isinstance(node, list):
        node = [None if c is None else f(c) for c in node]
    return make(f(x.data), node, x.level, x.level.cls)


def strip(x: Any, level: Level, nodes: list[Any]) -> Any:
    """x without `level`: what stood there goes to `nodes`, in the order of `attach`."""
    x = looked(x)
    if not isinstance(x, Tensor) or x.level.depth < level.depth:
        nodes.append(BARE)
        return x
    if x.level is level:
        nodes.append(x.node)
        return x.data
    return rebuilt(x, lambda v: strip(v, level, nodes))


def attach(x: Any, level: Level, nodes: Iterator[Any]) -> Any:
    """x with the level put back."""
    if not isinstance(x, Tensor) or x.level.depth < level.depth:
        node = next(nodes)
        return x if node is BARE else make(x, node, level)
    return rebuilt(x, lambda v: attach(v, level, nodes))


def stripped(xs: Sequence[Any], level: Level) -> tuple[list[Any], list[Any]]:
    nodes: list[Any] = []
    return [strip(x, level, nodes) for x in xs], nodes


def attached(xs: Sequence[Any], level: Level, nodes: Sequence[Any]) -> list[Any]:
    it = iter(nodes)
    return [attach(x, level, it) for x in xs]


def tapes(x: Any) -> Iterator[Level]:
    """The tapes on which a value is recorded."""
    x = looked(x)
    while isinstance(x, Tensor):
        if isinstance(x.level, Tape):
            if x.node is not None:
                yield x.level
        elif isinstance(x.level, JVP) and x.node is not None:
            yield from tapes(densify(x.node))
        elif isinstance(x.node, list):
            for c in x.node:
                yield from tapes(c)
        x = x.data


def deepest(xs: Sequence[Any]) -> Level | None:
    return max((t for x in xs for t in tapes(x)), key=lambda t: t.depth, default=None)


def lanes_above(x: Any, level: Level) -> list[int]:
    """For each place where `level` stands in x: how many batch axes are in front of it there."""
    out: list[int] = []
    places(x, level, 0, lambda v, n: out.append(n))
    return out


def parts_of(x: Any, level: Level) -> list[Any]:
    """What stands below `level` in a stripped value, in the order of `attach`."""
    out: list[Any] = []
    places(x, level, 0, lambda v, n: out.append(v))
    return out


def places(v: Any, level: Level, n: int, visit: Callable[[Any, int], None]) -> Any:
    """visit(value, batch axes in front of it) for each place where `level` stands in v."""
    if not isinstance(v, Tensor) or v.level.depth < level.depth:
        visit(v, n)
        return v
    more = isinstance(v.level, VMap) and v.node is not None
    return rebuilt(v, lambda w: places(w, level, n + more, visit))
