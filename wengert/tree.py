"""Pytrees: nested containers of leaves, taken apart and put together again.

Tuples, named tuples, lists, dicts, dataclasses and None are nodes; so is every registered class;
anything else is a leaf.

    >>> leaves, tree = flatten({"w": [1.0, 2.0], "b": (3.0,)})
    >>> leaves, unflatten(tree, [x * 10 for x in leaves])
    ([1.0, 2.0, 3.0], {'w': [10.0, 20.0], 'b': (30.0,)})
    >>> paths(tree)
    ["['w'][0]", "['w'][1]", "['b'][0]"]
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import ArgumentError

__all__ = ["Tree", "flatten", "leaves", "map", "paths", "register", "unflatten"]

Flatten = Callable[[Any], tuple[Sequence[Any], Sequence[str], Hashable]]
Unflatten = Callable[[Any, Sequence[Any]], Any]
_registry: dict[type, tuple[Flatten, Unflatten]] = {}


@dataclass(frozen=True, slots=True)
class Tree:
    """The structure of a pytree: a leaf (kind None), or a node with named children."""

    kind: type | None
    aux: Any
    keys: tuple[str, ...]
    children: tuple[Tree, ...]
    size: int

    def __repr__(self) -> str:
        if self.kind is None:
            return "*"
        inside = ", ".join(f"{k}={c!r}" for k, c in zip(self.keys, self.children, strict=True))
        return f"{self.kind.__name__}({inside})"


LEAF = Tree(None, None, (), (), 1)


def register(cls: type, flatten: Flatten, unflatten: Unflatten) -> type:
    """Make instances of `cls` nodes.

    Args:
        cls: the class (exactly; subclasses register themselves).
        flatten: instance -> (children, their path keys such as ".weight", hashable rest).
        unflatten: (rest, children) -> instance.
    """
    _registry[cls] = (flatten, unflatten)
    return cls


def _parts(x: Any) -> tuple[Sequence[Any], Sequence[str], Any] | None:
    cls = type(x)
    if cls in _registry:
        return _registry[cls][0](x)
    if cls is dict:
        return list(x.values()), [f"[{k!r}]" for k in x], tuple(x)
    if x is None:
        return (), (), None
    if isinstance(x, tuple) and hasattr(cls, "_fields"):
        return x, [f".{f}" for f in cls._fields], None
    if cls is list or cls is tuple:
        return x, [f"[{i}]" for i in range(len(x))], None
    if dataclasses.is_dataclass(cls):
        names = [f.name for f in dataclasses.fields(cls)]
        return [getattr(x, n) for n in names], [f".{n}" for n in names], None
    return None


def flatten(x: Any) -> tuple[list[Any], Tree]:
    """The leaves, left to right, and the structure."""
    out: list[Any] = []
    return out, _flatten(x, out)


def _flatten(x: Any, out: list[Any]) -> Tree:
    parts = _parts(x)
    if parts is None:
        out.append(x)
        return LEAF
    children, keys, aux = parts
    trees = tuple([_flatten(c, out) for c in children])
    return Tree(type(x), aux, tuple(keys), trees, sum(t.size for t in trees))


def unflatten(tree: Tree, leaves: Sequence[Any]) -> Any:
    """Put leaves back into a structure."""
    if len(leaves) != tree.size:
        raise ArgumentError(
            "unflatten(tree, leaves)", f"the structure has {tree.size} leaves, not {len(leaves)}"
        )
    return _unflatten(tree, iter(leaves))


def _unflatten(tree: Tree, it: Any) -> Any:
    kind = tree.kind
    if kind is None:
        return next(it)
    parts = [_unflatten(c, it) for c in tree.children]
    if kind in _registry:
        return _registry[kind][1](tree.aux, parts)
    if kind is dict:
        return dict(zip(tree.aux, parts, strict=True))
    if kind is type(None):
        return None
    if kind is list or kind is tuple:
        return kind(parts)
    if hasattr(kind, "_fields"):
        return kind(*parts)
    made: Any = object.__new__(kind)
    for key, part in zip(tree.keys, parts, strict=True):
        object.__setattr__(made, key[1:], part)
    return made


def leaves(x: Any) -> list[Any]:
    return flatten(x)[0]


def map(f: Callable[..., Any], x: Any, *rest: Any) -> Any:
    """Apply f leaf by leaf to trees of one structure.

    >>> map(lambda a, b: a + b, {"x": 1, "y": [2]}, {"x": 10, "y": [20]})
    {'x': 11, 'y': [22]}
    """
    first, tree = flatten(x)
    others = []
    for r in rest:
        got, other = flatten(r)
        if other != tree:
            raise ArgumentError(
                "tree.map(f, a, b)",
                "the structures differ",
                operands=[("a", str(tree)), ("b", str(other))],
            )
        others.append(got)
    return unflatten(tree, [f(*xs) for xs in zip(first, *others, strict=True)])


def paths(tree: Tree, prefix: str = "") -> list[str]:
    """How to reach each leaf: `['w'][0]`, `.layers[1].weight`."""
    if tree.kind is None:
        return [prefix]
    return [
        p for key, c in zip(tree.keys, tree.children, strict=True) for p in paths(c, prefix + key)
    ]
