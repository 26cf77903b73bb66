"""What a program depends on outside of itself, and whether that is still so.

A program holds what the function computed from the globals, closures, attributes and containers of
the moment in which it was recorded (`world` finds them). `Watch` compares them before every later
run, by identity first, and by value where a value is all there is to a thing.
"""

from __future__ import annotations

import enum
import operator
from collections import deque
from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType
from typing import Any

import numpy as np

__all__ = ["MISSING", "PLAIN", "Watch", "copied", "read", "same", "unlike"]

PLAIN = (int, float, complex, bool, str, bytes, type(None), type, np.generic, np.dtype, enum.Enum,
         BuiltinFunctionType, FunctionType, slice, range)  # fmt: skip


class Missing:
    def __repr__(self) -> str:
        return "nothing"


MISSING = Missing()


def same(a: Any, b: Any) -> bool:
    """Whether two values are one, or equal and of a kind that cannot change."""
    if a is b:
        return True
    if a.__class__ is not b.__class__ or not isinstance(a, PLAIN):
        if a.__class__ is tuple and b.__class__ is tuple and len(a) == len(b):
            return all(map(same, a, b))
        return False
    if isinstance(a, float | complex | np.inexact):
        return repr(a) == repr(b)  # tells 0.0 from -0.0, and nan is nan
    return bool(a == b)


def copied(x: Any) -> Any:
    """The items of a container, to compare it with later; None for anything else."""
    if isinstance(x, list | deque):
        return list(x)
    if isinstance(x, dict):
        return dict(x)
    if isinstance(x, set | frozenset):
        return set(x)
    if isinstance(x, bytearray):
        return bytes(x)
    return None


def unlike(x: Any, before: Any) -> Any:
    """Where a container differs from its items of before: a key, an index, "" or None."""
    if isinstance(x, bytearray | set | frozenset):
        return None if before == x else ""
    if len(x) != len(before):
        if isinstance(x, dict):
            return next(iter(x.keys() ^ before.keys()), "")
        return ""
    if isinstance(x, dict):
        if all(map(operator.is_, x.values(), before.values())) and all(map(same, x, before)):
            return None
        other = next((k for k in before if k not in x or not same(x[k], before[k])), None)
        return other if other is not None or all(map(same, x, before)) else ""
    if all(map(operator.is_, x, before)):
        return None
    return next((i for i, (a, b) in enumerate(zip(x, before)) if not same(a, b)), None)


def put_back(x: Any, before: Any) -> None:
    """Give a container the items of before."""
    if isinstance(x, (list, bytearray)):
        x[:] = before
    elif isinstance(x, deque):
        x.clear()
        x.extend(before)
    elif isinstance(x, dict | set):
        x.clear()
        x.update(before)


def read(space: Any, key: Any) -> Any:
    """The content of a cell (key None), an item of a namespace, or an attribute."""
    if key is None:
        try:
            return space.cell_contents
        except ValueError:
            return MISSING
    if hasattr(space, "get"):
        return space.get(key, MISSING)
    return getattr(space, key, MISSING)


class Watch:
    """Values outside that a program depends on; `holds` is asked before every run."""

    __slots__ = ("cells", "conditions", "containers", "contents", "flat", "gradients", "slots",
                 "tensors")  # fmt: skip

    def __init__(self) -> None:
        self.flat: list[tuple[Any, str, Any, str]] = []  # (namespace, name, value, what it is)
        self.cells: list[tuple[Any, Any, str]] = []
        self.slots: list[tuple[Any, str, Any, str]] = []  # (object, attribute, value, what it is)
        self.containers: list[tuple[Any, Any, str]] = []  # (container, items, what it is)
        self.contents: list[tuple[Content, str]] = []  # arrays that plain code may have read
        self.conditions: list[Callable[[], bool]] = []
        self.gradients: list[tuple[Any, bool]] = []  # leaves, and whether they had a gradient
        self.tensors: list[tuple[Any, Any, Any, Any]] = []  # (tensor, shape, dtype, class of node)

    def holds(self) -> bool:
        for space, name, value, _ in self.flat:
            now = space.get(name, MISSING)
            if now is not value and not same(now, value):
                return False
        for leaf, had in self.gradients:
            if leaf.node.__class__ is type(None) or (leaf.node.grad is not None) is not had:
                return False
        for t, shape, dtype, node in self.tensors:
            d = t.data
            if d.shape != shape or d.dtype != dtype or t.node.__class__ is not node:
                return False
        if not self.deeply():
            return False
        for x, name, value, _ in self.slots:
            if not same(getattr(x, name, MISSING), value):
                return False
        for content, _ in self.contents:
            if not content():
                return False
        return all(holds() for holds in self.conditions)

    def deeply(self) -> bool:
        """The same, of what has to be compared by its items."""
        return self.cells_hold() and all(
            unlike(x, items) is None for x, items, _ in self.containers
        )

    def cells_hold(self) -> bool:
        return all(same(read(cell, None), value) for cell, value, _ in self.cells)

    def broken(self) -> str | None:
        """What has changed, as the user wrote it; None if nothing has."""
        for space, name, value, told in (*self.flat, *self.slots):
            if not same(read(space, name), value):
                return f"`{told}` has changed"
        for cell, value, told in self.cells:
            if not same(read(cell, None), value):
                return f"`{told}` has changed"
        for x, items, told in self.containers:
            at = unlike(x, items)
            if at is not None:
                return f"`{told}{f'[{at!r}]' if at != '' else ''}` has changed"
        for content, told in self.contents:
            if not content():
                return f"the numbers in `{told}` have changed"
        for t, shape, dtype, node in self.tensors:
            name = t.name or "a tensor"
            if t.node.__class__ is not node:
                return f"{name} is to be differentiated, and was not, or the other way round"
            if t.data.shape != shape or t.data.dtype != dtype:
                return f"{name} has another shape or dtype"
        if any(t.node is None or (t.node.grad is not None) is not had for t, had in self.gradients):
            return "a parameter has a gradient where it had none, or none where it had one"
        if not all(holds() for holds in self.conditions):
            return "an option of the optimizer, or a number that is branched on, has changed"
        return None


class Content:
    """The numbers of an array, to be compared with later: bit for bit, if they lie in a row."""

    __slots__ = ("array", "bits", "copy", "live", "now", "shape")

    def __init__(self, array: Any, copy: Any, live: bool) -> None:
        self.array, self.copy, self.live, self.shape = array, copy, live, array.shape
        flat = array.flags.c_contiguous and copy.flags.c_contiguous and array.dtype.kind in "fiubc"
        self.now: Any = memoryview(array.reshape(-1).view(np.uint8)) if flat else None
        # a bytearray compares with memory as a whole, a memoryview item by item
        self.bits = bytearray(copy.reshape(-1).view(np.uint8)) if flat else None

    def __call__(self) -> bool:
        if self.now is None:
            return equal(self.array, self.copy)
        return self.bits == self.now and self.array.shape == self.shape


def equal(a: Any, b: Any) -> bool:
    """Whether two arrays hold the same numbers."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return bool(np.array_equal(a, b, equal_nan=a.dtype.kind in "fc"))


def alike(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return all(alike(a[k], b[k]) for k in a)
    if isinstance(a, np.ndarray):
        return bool(np.array_equal(a, b))
    return bool(a == b)
