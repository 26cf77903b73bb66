"""TensorFlow's Variable, a leaf whose value is assigned; and the leaves that tapes watch."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import DTypeError, LevelError, ShapeError
from ..trace import HERE, Leaf, Level, Tensor, View, looked, make, stack
from ..types import is_inexact
from .tape import EAGER

__all__ = ["Variable", "mark", "unmark", "variable_of"]

_node: Any = Tensor.__dict__["node"]
_frozen: dict[int, str | None] = {}  # names of the variables that are not trainable
_lock = threading.Lock()
_watches: weakref.WeakKeyDictionary[Leaf, Watch] = weakref.WeakKeyDictionary()


class Variable(Tensor):
    """A value that is trained: an eager leaf that is assigned to, not written in place.

    Args:
        initial_value: a number, an array, a tensor, or a function without arguments that gives
            one. It is copied, and its gradient is not kept.
        trainable: a gradient is wanted; `GradientTape` watches the variable by itself.
        name: shown in messages.
        dtype: NumPy's choice for the value when left out.

    It is a tensor with requires_grad=True: `.backward()`, `wg.grad` of a function that closes over
    it, and the optimizers take it like any other. An assignment is not differentiated: what is
    read afterwards has the derivative of the variable, as in TensorFlow.

    >>> import wengert as wg
    >>> v = wg.Variable([1.0, 2.0], name="v")
    >>> v.assign_add([1.0, 1.0])
    Variable('v', [2., 3.])
    >>> (v * v).sum().backward()
    >>> v.grad
    tensor([4., 6.])
    """

    __slots__ = ()

    def __init__(
        self,
        initial_value: Any,
        trainable: bool = True,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        if callable(initial_value) and not isinstance(initial_value, Tensor):
            initial_value = initial_value()
        data = np.array(plain("Variable(value)", initial_value), dtype)
        if data.dtype.kind not in "fciub" and data.dtype.kind != "V":
            raise DTypeError("Variable(value)", f"numbers are needed, not {data.dtype}")
        Tensor.__init__(self, data, None, EAGER)
        self.store = 0
        if trainable and is_inexact(data.dtype):
            leaf = Leaf(EAGER, name)
            leaf.owner = weakref.ref(self)
            _node.__set__(self, leaf)
        else:
            _frozen[id(self)] = name
            weakref.finalize(self, _frozen.pop, id(self), None)

    @property
    def node(self) -> Any:
        """Its place on the tape. Whoever reads it uses the variable: the open tapes take note."""
        node = _node.__get__(self)
        for tape in getattr(HERE, "tapes", ()):
            tape.accessed(self, node)
        return node

    @node.setter
    def node(self, node: Any) -> None:
        _node.__set__(self, node)

    @property
    def trainable(self) -> bool:
        return id(self) not in _frozen

    @property
    def name(self) -> str | None:
        leaf = _node.__get__(self)
        return leaf.name if type(leaf) is Leaf else _frozen.get(id(self))

    @name.setter
    def name(self, name: str | None) -> None:
        leaf = _node.__get__(self)
        if type(leaf) is Leaf:
            leaf.name = name
        if id(self) in _frozen:
            _frozen[id(self)] = name

    def assign(self, value: Any) -> Variable:
        """Give the variable a new value of its shape and dtype."""
        return self._assign("assign(value)", value, lambda _, v: v)

    def assign_add(self, delta: Any) -> Variable:
        """v + delta is the new value."""
        return self._assign("assign_add(delta)", delta, np.add)

    def assign_sub(self, delta: Any) -> Variable:
        """v - delta is the new value."""
        return self._assign("assign_sub(delta)", delta, np.subtract)

    def _assign(self, what: str, value: Any, f: Callable[[Any, Any], Any]) -> Variable:
        what = f"{self.name or 'v'}.{what}"
        new = np.asarray(plain(what, value))
        bottom: Any = self
        while isinstance(bottom.data, Tensor):  # a tape watches it inside a transform
            bottom = bottom.data
        old: Any = bottom.data
        fits = len(new.shape) <= len(old.shape) and all(
            n in (1, m) for n, m in zip(new.shape[::-1], old.shape[::-1])
        )
        if not fits:
            raise ShapeError(
                what, "the shape of a variable stays", operands=[("v", self), ("value", new)]
            )
        if old.dtype.kind not in "c" and new.dtype.kind == "c":
            raise DTypeError(
                what, "the dtype of a variable stays", operands=[("v", self), ("value", new)],
                fix="value.real",
            )  # fmt: skip
        if old.dtype.kind in "iub" and new.dtype.kind == "f":
            raise DTypeError(
                what, "the dtype of a variable stays", operands=[("v", self), ("value", new)],
                fix=f"np.round(value).astype(np.{old.dtype.name}); or wg.Variable of floats",
            )  # fmt: skip
        made = np.empty(old.shape, old.dtype)  # a tape may keep the old array
        made[...] = f(old, new)
        bottom.data = made
        self.store = self.store + 1
        return self

    def read_value(self) -> Tensor:
        """The value as a tensor; its gradient is the variable's."""
        return self.copy()

    def __repr__(self) -> str:
        name = f"{self.name!r}, " if self.name else ""
        body = np.array2string(np.asarray(self.value()), separator=", ", prefix=f"Variable({name}")
        note = "" if self.trainable else ", trainable=False"
        if str(self.dtype) not in ("float64", "int64", "bool", "complex128"):
            note += f", dtype={self.dtype}"
        return f"Variable({name}{body}{note})"

    def __deepcopy__(self, memo: Any) -> Variable:
        return Variable(np.array(self.value()), self.trainable, self.name)

    def __reduce__(self) -> Any:
        return Variable, (np.array(self.value()), self.trainable, self.name)


def variable_of(leaf: Any) -> Variable | None:
    owner = getattr(leaf, "owner", None)
    found = None if owner is None else owner()
    return found if isinstance(found, Variable) else None


def plain(what: str, value: Any) -> Any:
    """The array that is assigned; a derivative through it ends here."""
    if not isinstance(value, Tensor):
        return value
    t = looked(value)
    if t.level is not EAGER and t.recorded():
        raise LevelError(
            what,
            "a variable outlives the transform that this value belongs to",
            operands=[("value", t)],
            fix="value.detach() for the number alone; or return the value from the function",
        )
    if t.requires_grad:
        EAGER.broke(f"{what} keeps the number alone")
    return t.value()


# ------------------------------------------------------------------ what tapes watch


class Watch:
    """A leaf that tapes put in place of a tensor, and how the tensor was before."""

    __slots__ = ("before", "count", "data", "leaf", "tensor")

    def __init__(self, t: Tensor) -> None:
        self.tensor = weakref.ref(t)
        self.count = 0
        self.before = (t.data, t.node, t.level, type(t), getattr(t, "store", None))

    def set(self, t: Tensor, level: Level, leaf: Leaf) -> None:
        """Make t a leaf of `level`, holding what it was when that is another level."""
        cls = Variable if isinstance(t, Variable) else Tensor
        if level is not t.level:
            below = make(t.data, t.node, t.level, Tensor if type(t) is View else type(t))
            t.data, t.level = below, level
        t.node = leaf
        if type(t) is not cls:
            t.__class__ = cls
            t.store = 0

    def restore(self) -> None:
        t = self.tensor()
        if t is None:
            return
        data, node, level, cls, store = self.before
        if type(t) is Tensor and cls is View and t.store == 0:
            t.data = data  # a window again; it looks when its root has been written
        elif level is not t.level and isinstance(t.data, Tensor):
            t.data = t.data.data
        t.node, t.level = node, level
        if type(t) is not cls:
            t.__class__ = cls
            if store is not None:
                t.store = store


def mark(t: Tensor, leaf: Any = None) -> Any:
    """The place of t on a tape: its own, or a leaf that stands there until the tape stops.

    Inside a transform the leaf is on the tape of the values that live there.
    """
    looked(t)
    top = stack()[-1] if stack() else EAGER
    odd = t.level.depth & 1
    level = top.ambient() if top.depth > t.level.depth else t.level if odd else t.level.ambient()
    with _lock:
        if level is t.level and t.node is not None:
            watch = _watches.get(t.node)
            if watch is not None:
                watch.count += 1
            return t.node
        if leaf is not None and type(leaf) is not Leaf:
            return leaf
        watch = Watch(t)
        leaf = leaf or Leaf(level, t.name if type(t.node) is Leaf else None)
        watch.count = 1
        watch.set(t, level, leaf)
        _watches[leaf] = watch
    return leaf


def watched(node: Any) -> Any:
    """The tensor in whose place a leaf stands now, or None."""
    watch = _watches.get(node)
    return None if watch is None else watch.tensor()


def unmark(node: Any) -> None:
    with _lock:
        watch = _watches.get(node)
        if watch is None:
            return
        watch.count -= 1
        if watch.count == 0:
            del _watches[node]
            watch.restore()
