"""What a recorded graph says of the loop that is about to sweep it; reads, and changes nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from wengert.trace import Leaf, Node, Tensor
from wengert.transforms.memory import named, recorded
from wengert.transforms.wrapped import Packed

__all__ = ["Sweep", "Unit"]

SMOOTH = {"sigmoid": 6.0, "tanh": 3.0}  # beyond, the slope is below a hundredth of the steepest


@dataclass
class Unit:
    """An activation in the graph: which, the node, and what it kept (the value, or its operand)."""

    name: str
    place: int  # counted over the graph
    node: Node
    kept: Any


@dataclass
class Sweep:
    """The graph below a result, before it is swept.

    Args:
        root: the node of the result.
        scale: what a loss scaler multiplied it by.
    """

    root: Any
    scale: float = 1.0
    nodes: list[Any] = field(default_factory=list)  # oldest first
    leaves: set[Any] = field(default_factory=set)
    share: float | None = None  # how much of a mean over `count` examples the result is
    count: int = 0
    line: Any = None
    chain: list[Any] = field(default_factory=list)  # the result, and what it is a multiple of

    def __post_init__(self) -> None:
        self.nodes = recorded([self.root])
        self.leaves = {p for n in self.nodes for p in n.parents if type(p) is Leaf}
        if type(self.root) is Node:
            self.line = (self.root.code, self.root.lasti)
            self._mean()

    def _mean(self) -> None:
        """Undo the multiplications by numbers at the top."""
        n, factor = self.root, 1.0 / self.scale
        while type(n) is Node:
            self.chain.append(n)
            kept = residuals(n)
            number = constant(kept.get("b", kept.get("a"))) if len(n.parents) == 1 else None
            if named(n) == "mul" and number is not None:
                factor *= number
            elif named(n) == "div" and number and n.rule.live == (0,):
                factor /= number
            elif named(n) not in ("copy", "Cast", "Reshape"):
                break
            (n,) = n.parents
        if type(n) is not Node:
            return
        kept = residuals(n)
        if named(n) == "MeanCrossEntropy":
            self.share, self.count = factor, kept["a"].shape[0]
        elif named(n) == "Sum" and kept["x_shape"] and whole(kept["op"], kept["x_shape"]):
            self.share = factor * math.prod(kept["x_shape"])
            self.count = kept["x_shape"][0]

    def broadcast(self) -> tuple[Node, tuple[int, ...], tuple[int, ...]] | None:
        """A difference of m recorded numbers and m given ones that became m by m, on its way to a
        sum: (its node, the shape of the recorded operand, that of the difference)."""
        found: dict[Any, tuple[int, ...]] = {}
        for n in self.nodes:
            if named(n) == "sub" and len(n.parents) == 1:
                like = next((v[0] for k, v in residuals(n).items() if k.endswith("_like")), ())
                m = math.prod(like)
                if m > 1 and m in like and len(like) <= 2:
                    found[n] = like
        for n, like in found.items():
            m = math.prod(like)
            if like != (m, m) and self._summed(n, set(found)) == (m, m):
                return n, like, (m, m)
        return None

    def _summed(self, n: Node, mine: set[Any]) -> tuple[int, ...] | None:
        """The shape of a difference that meets only others before it is summed; None if not."""
        mine, shape, below = set(mine), None, {n}
        for c in self.nodes:
            if not below.intersection(c.parents):
                continue
            if not mine.issuperset(c.parents):
                return None
            shape = shape or operand(c)
            if named(c) == "Sum":
                return shape
            mine.add(c)
            below.add(c)
        return None

    def units(self) -> Iterator[Unit]:
        """The hidden activations: those with a parameter between them and the result."""
        hidden: set[Any] = set()
        for n in reversed(self.nodes):
            if n in hidden or any(type(p) is Leaf for p in n.parents):
                hidden.update(n.parents)
        for place, n in enumerate(self.nodes):
            if n not in hidden:
                continue
            name = named(n)
            if name == "maximum" and constant(residuals(n).get("b")) == 0.0:
                name, kept = "relu", residuals(n).get("a")
            elif name == "relu" or name in SMOOTH:
                kept = residuals(n).get("y" if name == "relu" else "x")
            else:
                continue
            kept = kept.unpack() if isinstance(kept, Packed) else kept
            while isinstance(kept, Tensor):
                kept = kept.data
            if isinstance(kept, np.ndarray) and kept.ndim > 1 and kept.size:
                yield Unit(name, place, n, kept)


def residuals(n: Any) -> dict[str, Any]:
    return dict(zip(n.rule.names, n.res or ()))


def constant(x: Any) -> float | None:
    """The value of a real number that is not recorded."""
    if isinstance(x, int | float | np.number) or (isinstance(x, np.ndarray) and not x.shape):
        return float(x) if not np.iscomplexobj(x) else None
    return None


def whole(op: Any, shape: tuple[int, ...]) -> bool:
    """Whether a sum is over all axes."""
    return len(op.axes) == len(shape)


def operand(n: Any) -> tuple[int, ...] | None:
    """The shape of what a node was computed from, as far as the node remembers it."""
    for name, value in residuals(n).items():
        if name.endswith("_shape"):
            return tuple(value)
        if name.endswith("_like"):
            return tuple(value[0])
        if name in ("x", "a", "b") and hasattr(value, "shape") and value.shape:
            return tuple(value.shape)
    return None
