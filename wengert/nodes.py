"""What a tape is made of: recorded operations, the leaves that they come from, notes of breaks."""

from __future__ import annotations

from itertools import count
from types import CodeType
from typing import Any, NamedTuple

from .errors import place

__all__ = ["Break", "Leaf", "Node", "line", "seq"]

seq = count(0, -1).__next__  # decreasing, so that a heap pops the youngest node first


class Node:
    """One recorded operation. `parents` and `res` are emptied when a sweep has used it."""

    __slots__ = ("__weakref__", "code", "lasti", "parents", "res", "rule", "seq")

    def __init__(
        self, seq: int, rule: Any, parents: Any, res: Any, code: CodeType, lasti: int
    ) -> None:
        self.seq = seq
        self.rule = rule
        self.parents = parents
        self.res = res
        self.code = code
        self.lasti = lasti

    def __repr__(self) -> str:
        return f"<{self.op!r} at {line(self)}>"

    @property
    def op(self) -> Any:
        """The operation; its class once a sweep has freed the node."""
        return self.res[0] if self.rule.names[:1] == ("op",) and self.res else self.rule.op


class Leaf:
    """Where a gradient is wanted: a value that was not computed from recorded ones."""

    __slots__ = ("__weakref__", "grad", "hooks", "level", "name", "owner", "seq")
    rule = None
    parents: tuple[Any, ...] = ()

    def __init__(self, level: Any, name: str | None = None) -> None:
        self.seq = seq()
        self.grad: Any = None
        self.hooks: Any = None
        self.level = level
        self.name = name
        self.owner: Any = None  # a weak reference to the tensor whose leaf it is, if that is known

    def __repr__(self) -> str:
        return f"<leaf {self.name or ''}>"


def line(node: Any) -> str:
    """`file:line, in function` of a node, resolved only when somebody asks."""
    return place(node.code, node.lasti)


class Break(NamedTuple):
    """Why a recorded value left the derivative, and the nodes that it came from.

    Those of the eager tape are leaves alone, outside of `debug`: a note must not keep a graph.
    """

    why: str
    nodes: tuple[Any, ...]
