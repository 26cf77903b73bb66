"""The plain arrays inside a tensor of any level, kept in another way and put back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..trace import Level, Tensor, lens, make, ndarray
from .wrapped import Packed

__all__ = ["Shell", "Whole", "opened", "packed"]


class Shell:
    """A tensor of some level whose arrays are packed."""

    __slots__ = ("cls", "data", "level", "node")

    def __init__(self, cls: Any, data: Any, node: Any, level: Level) -> None:
        self.cls, self.data, self.node, self.level = cls, data, node, level


def packed(x: Any, pack: Callable[[Any], Any]) -> Any:
    """x with every plain array in it packed: a tensor keeps its node and its level."""
    if x.__class__ is ndarray:
        return pack(x)
    if isinstance(x, Tensor):
        if lens(x) is not None:
            x = make(x.data, x.node, x.level, Tensor if x.level.cls is Tensor else type(x))
        data = packed(x.data, pack)
        node = x.node
        if isinstance(node, Tensor | ndarray):
            node = packed(node, pack)
        if data is not x.data or node is not x.node:
            return Shell(type(x), data, node, x.level)
    elif x.__class__ is tuple:
        return tuple([packed(v, pack) for v in x])
    return x


def opened(x: Any) -> Any:
    """The inverse of `packed`."""
    if x.__class__ is Shell:
        return make(opened(x.data), opened(x.node), x.level, x.cls)
    if isinstance(x, Packed):
        return opened(x.unpack())
    if x.__class__ is tuple:
        return tuple([opened(v) for v in x])
    return x


class Whole(Packed):
    """A residual in which something was packed."""

    __slots__ = ("parts",)

    def __init__(self, parts: Any) -> None:
        self.parts = parts

    def unpack(self) -> Any:
        return opened(self.parts)
