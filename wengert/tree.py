"""Pytrees: nested containers of leaves, taken apart and put together again.

Tuples, named tuples, lists, dicts and their subclasses, dataclasses and None (a node without
children) are nodes; so is every registered class; anything else is a leaf. The names are those of
`jax.tree`.

    >>> leaves, tree = flatten({"w": [1.0, 2.0], "b": (3.0,)})
    >>> leaves, unflatten(tree, [x * 10 for x in leaves])
    ([1.0, 2.0, 3.0], {'w': [10.0, 20.0], 'b': (30.0,)})
    >>> paths(tree)
    ["['w'][0]", "['w'][1]", "['b'][0]"]
"""

from __future__ import annotations

import dataclasses
import functools
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .errors import ArgumentError, verbatim

__all__ = [
    "Tree",
    "all",
    "flatten",
    "flatten_up_to",
    "flatten_with_path",
    "leaves",
    "leaves_with_path",
    "map",
    "map_with_path",
    "paths",
    "reduce",
    "register",
    "register_pytree_node",
    "register_pytree_node_class",
    "structure",
    "transpose",
    "unflatten",
]

Flatten = Callable[[Any], tuple[Sequence[Any], Sequence[str], Hashable]]
Unflatten = Callable[[Any, Sequence[Any]], Any]
IsLeaf = Callable[[Any], bool]
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


def register_pytree_node(
    cls: type,
    flatten: Callable[[Any], tuple[Sequence[Any], Hashable]],
    unflatten: Callable[[Any, Sequence[Any]], Any],
) -> type:
    """`register` with JAX's signature: flatten(x) -> (children, rest), without path keys.

    >>> class Pair:
    ...     def __init__(self, a, b):
    ...         self.a, self.b = a, b
    >>> _ = register_pytree_node(Pair, lambda p: ((p.a, p.b), None), lambda _, ab: Pair(*ab))
    >>> leaves(Pair(1, [2, 3]))
    [1, 2, 3]
    """

    def parts(x: Any) -> tuple[Sequence[Any], Sequence[str], Hashable]:
        children, rest = flatten(x)
        children = tuple(children)
        return children, [f"[{i}]" for i in range(len(children))], rest

    return register(cls, parts, unflatten)


def register_pytree_node_class(cls: Any) -> Any:
    """A decorator for a class with tree_flatten(self) and tree_unflatten(cls, rest, children)."""
    return register_pytree_node(cls, cls.tree_flatten, cls.tree_unflatten)


@dataclass(frozen=True, slots=True)
class _Keys:
    """The keys of a dict's subclass, and what is needed to make another of it."""

    keys: tuple[Any, ...]
    factory: Any = None
    attributes: tuple[tuple[str, Any], ...] = field(default=(), compare=False)


def _dict_parts(x: Any) -> _Keys:
    return _Keys(
        tuple(x), getattr(x, "default_factory", None), tuple(getattr(x, "__dict__", {}).items())
    )


def _dict_again(kind: Any, aux: _Keys, parts: Sequence[Any]) -> Any:
    made = kind.__new__(kind)
    for name, value in aux.attributes:
        object.__setattr__(made, name, value)
    if aux.factory is not None:
        made.default_factory = aux.factory
    set_item = OrderedDict.__setitem__ if issubclass(kind, OrderedDict) else dict.__setitem__
    for key, part in zip(aux.keys, parts, strict=True):
        set_item(made, key, part)
    return made


def keys_of(tree: Tree) -> tuple[Any, ...] | None:
    """The keys of a node that is a dict; None for any other."""
    if tree.kind is dict:
        return tuple(tree.aux)
    return tree.aux.keys if type(tree.aux) is _Keys else None


def _parts(x: Any) -> tuple[Sequence[Any], Sequence[str], Any] | None:
    cls = type(x)
    if cls in _registry:
        return _registry[cls][0](x)
    if cls is dict:
        return list(x.values()), [f"[{k!r}]" for k in x], tuple(x)
    if x is None:
        return (), (), None
    if isinstance(x, dict):
        return list(x.values()), [f"[{k!r}]" for k in x], _dict_parts(x)
    if isinstance(x, tuple) and hasattr(cls, "_fields"):
        return x, [f".{f}" for f in cls._fields], None
    if cls is list or cls is tuple:
        return x, [f"[{i}]" for i in range(len(x))], None
    if dataclasses.is_dataclass(cls):
        names = [f.name for f in dataclasses.fields(cls)]
        return [getattr(x, n) for n in names], [f".{n}" for n in names], None
    return None


def flatten(x: Any, is_leaf: IsLeaf | None = None) -> tuple[list[Any], Tree]:
    """The leaves, left to right, and the structure.

    Args:
        is_leaf: whether to stop at a node and call it a leaf.

    >>> flatten({"a": [1, None]}, is_leaf=lambda x: isinstance(x, list))
    ([[1, None]], dict(['a']=*))
    """
    out: list[Any] = []
    return out, _flatten(x, out, is_leaf)


def _flatten(x: Any, out: list[Any], is_leaf: IsLeaf | None = None) -> Tree:
    parts = None if is_leaf is not None and is_leaf(x) else _parts(x)
    if parts is None:
        out.append(x)
        return LEAF
    children, keys, aux = parts
    trees = tuple([_flatten(c, out, is_leaf) for c in children])
    return Tree(type(x), aux, tuple(keys), trees, sum(t.size for t in trees))


def flatten_up_to(tree: Tree, x: Any, path: str = "tree") -> list[Any]:
    """What stands in x where the structure has its leaves; dicts are matched by their keys.

    >>> flatten_up_to(structure({"a": 0, "b": 0}), {"b": [1, 2], "a": 3})
    [3, [1, 2]]
    """
    if tree.kind is None:
        return [x]
    parts = None if type(x) is not tree.kind else _parts(x)
    if parts is None:
        raise _differ(path, tree, f"a {type(x).__name__}")
    children, _, aux = parts
    keys = keys_of(tree)
    if keys is not None:
        if set(keys) != set(x):
            missing = [f"lacks {k!r}" for k in keys if k not in x]
            extra = [f"has {k!r} besides" for k in x if k not in keys]
            raise _differ(path, tree, "a dict that " + ", ".join(missing + extra))
        children = [x[k] for k in keys]
    elif len(children) != len(tree.children) or aux != tree.aux:
        other = f"a {type(x).__name__} of {len(children)}"
        raise _differ(path, tree, other if len(children) != len(tree.children) else repr(aux))
    return [
        leaf
        for key, child, part in zip(tree.keys, tree.children, children, strict=True)
        for leaf in flatten_up_to(child, part, path + key)
    ]


def _differ(path: str, tree: Tree, found: str) -> ArgumentError:
    return ArgumentError(
        "tree.map(f, a, b)",
        "the structures differ",
        operands=[("wanted", verbatim(repr(tree))), (f"at {path}", verbatim(found))],
    )


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
    if type(tree.aux) is _Keys:
        return _dict_again(kind, tree.aux, parts)
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


def leaves(x: Any, is_leaf: IsLeaf | None = None) -> list[Any]:
    """The leaves, left to right."""
    return flatten(x, is_leaf)[0]


def structure(x: Any, is_leaf: IsLeaf | None = None) -> Tree:
    """The structure without the leaves."""
    return flatten(x, is_leaf)[1]


def map(f: Callable[..., Any], x: Any, *rest: Any, is_leaf: IsLeaf | None = None) -> Any:
    """Apply f leaf by leaf to trees; the first gives the structure.

    Where the first has a leaf the others may have a whole tree, which f then gets. Dicts are
    matched by their keys, in whatever order they stand.

    >>> map(lambda a, b: a + b, {"x": 1, "y": [2]}, {"y": [20], "x": 10})
    {'x': 11, 'y': [22]}
    """
    first, tree = flatten(x, is_leaf)
    others = [flatten_up_to(tree, r, f"tree {i}") for i, r in enumerate(rest, 2)]
    return unflatten(tree, [f(*xs) for xs in zip(first, *others, strict=True)])


def map_with_path(f: Callable[..., Any], x: Any, *rest: Any, is_leaf: IsLeaf | None = None) -> Any:
    """`map` of a function that is given the path of each leaf first.

    >>> map_with_path(lambda path, w: f"{path}: {w}", {"a": [1, 2]})
    {'a': ["['a'][0]: 1", "['a'][1]: 2"]}
    """
    first, tree = flatten(x, is_leaf)
    others = [flatten_up_to(tree, r, f"tree {i}") for i, r in enumerate(rest, 2)]
    return unflatten(tree, [f(*xs) for xs in zip(paths(tree), first, *others, strict=True)])


def flatten_with_path(x: Any, is_leaf: IsLeaf | None = None) -> tuple[list[tuple[str, Any]], Tree]:
    """[(path, leaf), ..] and the structure."""
    found, tree = flatten(x, is_leaf)
    return list(zip(paths(tree), found, strict=True)), tree


def leaves_with_path(x: Any, is_leaf: IsLeaf | None = None) -> list[tuple[str, Any]]:
    """[(path, leaf), ..]

    >>> leaves_with_path({"w": [1.0], "b": None})
    [("['w'][0]", 1.0)]
    """
    return flatten_with_path(x, is_leaf)[0]


_MISSING = object()


def reduce(
    f: Callable[[Any, Any], Any],
    x: Any,
    initializer: Any = _MISSING,
    is_leaf: IsLeaf | None = None,
) -> Any:
    """Fold the leaves from the left:  f(f(f(start, a), b), c).

    >>> reduce(lambda a, b: a + b, {"x": 1, "y": [2, 3]})
    6
    """
    start = () if initializer is _MISSING else (initializer,)
    return functools.reduce(f, leaves(x, is_leaf), *start)


def all(x: Any, is_leaf: IsLeaf | None = None) -> bool:
    """Whether every leaf is true."""
    return not [leaf for leaf in leaves(x, is_leaf) if not leaf]


def transpose(outer: Tree, inner: Tree | None, x: Any) -> Any:
    """A tree of trees inside out: the outer structure becomes the inner one.

    Args:
        outer: the structure of x, with a tree of structure `inner` at each leaf.
        inner: None for that of the first such tree.

    >>> transpose(structure([0, 0]), structure({"a": 0}), [{"a": 1}, {"a": 2}])
    {'a': [1, 2]}
    """
    rows = flatten_up_to(outer, x)
    if inner is None:
        inner = structure(rows[0])
    table = [flatten_up_to(inner, row) for row in rows]
    return unflatten(inner, [unflatten(outer, column) for column in zip(*table, strict=True)])


def paths(tree: Tree, prefix: str = "") -> list[str]:
    """How to reach each leaf: `['w'][0]`, `.layers[1].weight`."""
    if tree.kind is None:
        return [prefix]
    return [
        p for key, c in zip(tree.keys, tree.children, strict=True) for p in paths(c, prefix + key)
    ]
