"""Indexing, views and in-place writes, with NumPy's meaning and the right gradients.

A view is a window `(root, path)`: reading through it looks again when the root has been written,
and writing through it writes the root. A value that the tape keeps is never changed: a write to a
buffer that anybody else holds copies it first (ownership is the reference count). So filling an
array of n rows in a loop is O(n), and nobody is told that a tensor "was modified by an inplace
operation".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import trace
from ..errors import LevelError, ShapeError, UnsupportedError
from ..ops import elementwise as e
from ..ops.contract import matmul
from ..ops.index import HOLE, Gather, GetItem, is_basic, normal_index
from ..ops.linear import Reshape, Transpose
from ..ops.road import one
from ..owned import own
from ..trace import (
    Leaf,
    Node,
    Tensor,
    View,
    bind,
    fresh,
    generation,
    getframe,
    lens,
    looked,
    make,
    method,
    ndarray,
    new,
    recording,
)
from ..types import RAW, Shape, shape_of
from .store import write
from .tape import Tape, leaf_write
from .wrapped import moved

ELLIPSIS = GetItem((Ellipsis,))


def view(x: Tensor, op: Any, frame: Any) -> Tensor:
    """op(x) as a window on x, for an operation that NumPy answers with a view."""
    if type(x) is View:
        fresh(x)
    window = lens(x)
    root, path = (x, ()) if window is None else window[:2]
    seen = generation(root)
    t = one(op, x, frame) if type(x) is Tensor else bind(op, x.look() if type(x) is View else x)
    if not isinstance(t, Tensor):
        t = make(t, None, trace.EAGER)
    if type(op) is Reshape and not stays_in(root, (*path, op)):
        return t
    if seen and t.data.__class__ is ndarray and t.data.base is not None:
        t.data = t.data.copy("K")  # the root is written in turns: do not pin its buffer
    v = new(View if type(t) is Tensor else type(t))
    v.data, v.node, v.level = t.data, t.node, t.level
    quiet = bool(trace.MODES) and not recording(root.level)
    v.store = (root, (*path, op), seen, quiet if window is None else quiet or window[3])
    return v


def stays_in(root: Tensor, path: tuple[Any, ...]) -> bool:
    """Whether a path leads to a window on the root's own buffer: a reshape may have to copy."""
    buffer = one_lane(root)
    if buffer.__class__ is not ndarray:
        return hasattr(buffer, "graph")
    end = buffer
    for step in path:
        end = step.impl(end)
    return end.size == 0 or np.may_share_memory(end, buffer)


def one_lane(x: Any) -> Any:
    """The array at the bottom of a value, or one lane of it: its strides are what matters."""
    return x.level.lane(x, one_lane(x.data)) if isinstance(x, Tensor) else x


@method("__getitem__")
def getitem(self: Tensor, index: Any) -> Any:
    op, indices = indexing(index, self)
    if indices:
        return bind(op, self, *indices)
    if op.view and not is_number(op.index, self):
        return view(self, op, getframe(1))
    return one(op, self.look() if type(self) is View else self, getframe(1))


def is_number(index: Any, x: Tensor) -> bool:
    """Whether an index picks one number, which NumPy answers with a copy."""
    for i in index:
        if i is None or i is Ellipsis or i.__class__ is slice:
            return False
    return len(index) == x.ndim


def indexing(index: Any, x: Tensor) -> tuple[Any, list[Any]]:
    """(the operation, its index operands): operands only for indices that have no value yet."""
    items = index if index.__class__ is tuple else (index,)
    if is_basic(items):
        return GetItem(items), []
    out: list[Any] = []
    traced: list[Any] = []
    for i in items:
        if isinstance(i, Tensor):
            if trace.MODES and (tracer := trace.recorder()) is not None:
                tracer.touch(i)  # a program reads it at every run
            below = i.look() if type(i) is View else i
            while isinstance(below, Tensor) and isinstance(below.level, Tape):
                below = below.data
            if isinstance(below, Tensor) or not isinstance(below, RAW):
                if i.dtype.kind == "b":
                    many = "under vmap the number of True elements differs from lane to lane"
                    once = "how many elements are True is not known while a program is recorded"
                    raise LevelError(
                        "x[mask]",
                        many if isinstance(below, Tensor) else once,
                        fix="wg.where(mask, x, 0.0) keeps the shape",
                    )
                traced.append(i)
                out.append(HOLE)
                continue
            i = below
        out.append(own(i) if i.__class__ is ndarray else i)
    if traced:
        for k, i in enumerate(out):  # one kind of index array: all of them are operands
            if isinstance(i, ndarray | list):
                traced.insert(sum(1 for j in out[:k] if j is HOLE), np.asarray(i))
                out[k] = HOLE
        return Gather(tuple(out)), traced
    return GetItem(normal_index(tuple(out))), []


@method("__setitem__")
def setitem(self: Tensor, index: Any, value: Any) -> None:
    op, indices = indexing(index, self)
    if indices:
        raise UnsupportedError(
            "x[i] = v", "the index differs from lane to lane under vmap", fix="wg.where(mask, v, x)"
        )
    if isinstance(value, View):
        window = lens(value)
        if window is not None and window[1] and window[1][-1] == op:
            root = window[0]
            mine = lens(self)
            target = self if mine is None else mine[0]
            lead = () if mine is None else mine[1]
            if root is target and window[1] == (*lead, op):
                return  # x[i] += v has written through the view already
        value = value.look()
    elif not isinstance(value, Tensor):
        value = value if isinstance(value, RAW) or hasattr(value, "graph") else np.asarray(value)
    assign(self, (op,), value)


def assign(x: Tensor, path: tuple[Any, ...], value: Any) -> None:
    """x[path] = value, written to the root when x is a view."""
    window = lens(x)
    value = looked(value)
    if window is not None:
        write(window[0], (*window[1], *path), value)
        fresh(x)
    else:
        write(x, path, value)


def inplace(op: Any, ufunc: Callable[..., Any]) -> Callable[[Any, Any], Any]:
    """x OP= o: into a view's root; into a leaf's own buffer under no_grad; rebinding otherwise."""

    def method(self: Any, other: Any) -> Any:
        if lens(self) is not None:
            assign(self, (ELLIPSIS,), cast_to(op(fresh(self), other), self))
            return self
        if is_scalar(self):
            return op(self, other)
        if type(self.node) is Leaf and isinstance(self.level, Tape):
            if recording(self.level):
                raise leaf_write(self)
            value = other.look() if type(other) is View else other
            value = value.data if isinstance(value, Tensor) and value.level is self.level else value
            self.data = updated(self, op, ufunc, value)
            self.store = generation(self) + 1
            return self
        z = cast_to(op(self, other), self)
        if not z.shape and one_lane(self).__class__ is ndarray:
            z = boxed(z)
        if self.node is not None and z.level is self.level and not recording(self.level):
            trace.sever("a recorded value is written under no_grad")
            self.data = z.data  # under no_grad the value changes and its place on the tape stays
        else:
            if self.node.__class__ is Node and z.level is self.level:
                moved(self.node, z.node)
            self.data, self.node, self.level = z.data, z.node, z.level
            self.__class__ = type(z)
        self.store = generation(self) + 1
        return self

    return method


def is_scalar(x: Tensor) -> bool:
    """Whether NumPy would have a scalar here, which cannot change: what a reduction or an indexing
    gives. A tensor of no axes that was made as a buffer has been given a `store`."""
    made = getattr(x, "store", None).__class__ is int
    return not x.shape and type(x.node) is not Leaf and not made


def boxed(d: Any) -> Any:
    """A number as an array of no axes, which has windows: NumPy's operators give a mere number."""
    if not isinstance(d, Tensor):
        return np.asarray(d) if isinstance(d, RAW) else d
    return make(boxed(d.data), d.node, d.level, type(d))


def updated(x: Tensor, op: Any, ufunc: Callable[..., Any], value: Any) -> Any:
    """The new data of a leaf, in its own buffer when nobody else holds it."""
    tracer = getattr(trace.HERE, "trace", None) if trace.MODES else None
    if tracer is not None:
        tracer.wrote(x)
    d = x.data
    if d.__class__ is ndarray and isinstance(value, RAW):
        x.data = None
        try:
            alone = trace.getrefcount(d) <= trace.SOLE and d.base is None and d.flags.writeable
            if not alone:
                d = d.copy(order="K")
            ufunc(d, value, out=d, casting="same_kind")
        except (ValueError, TypeError) as error:
            raise op.refusal((d, value), error) from error
        finally:
            x.data = d
        return d
    z = op(d, value)
    if shape_of(z) != shape_of(d):
        raise ShapeError("x op= v", "the result does not fit", operands=[("x", d), ("v", value)])
    if z.dtype != d.dtype:
        fitting(z, d)
        z = trace.OPS["Cast"](d.dtype)(z)
    return z


def cast_to(z: Any, x: Tensor) -> Tensor:
    """The result of an in-place operation keeps the shape and the dtype of its target."""
    if not isinstance(z, Tensor):
        z = make(z, None, trace.EAGER)
    if z.shape != x.shape:
        raise ShapeError(
            "x op= v",
            f"the result has shape {list(z.shape)} and does not fit into x",
            operands=[("x", x)],
            fix="x = x op v makes a new tensor",
        )
    if z.dtype != x.dtype:
        fitting(z, x)
        z = z.astype(x.dtype)
    return z


def fitting(z: Any, x: Any) -> None:
    if not np.can_cast(z.dtype, x.dtype, "same_kind"):
        raise UnsupportedError(
            "x op= v",
            f"{z.dtype} does not fit into {x.dtype}",
            fix="x = x op v makes a new tensor",
        )


T: Any = Tensor
for _name, _op, _ufunc in (
    ("add", e.add, np.add),
    ("sub", e.sub, np.subtract),
    ("mul", e.mul, np.multiply),
    ("truediv", e.div, np.true_divide),
    ("pow", e.pow, np.power),
    ("mod", e.remainder, np.remainder),
    ("floordiv", e.floor_divide, np.floor_divide),
    ("matmul", matmul, np.matmul),
    ("and", e.bitwise_and, np.bitwise_and),
    ("or", e.bitwise_or, np.bitwise_or),
    ("xor", e.bitwise_xor, np.bitwise_xor),
):
    setattr(T, f"__i{_name}__", inplace(_op, _ufunc))


def reshape(x: Tensor, shape: Shape, frame: Any) -> Tensor:
    return view(x, Reshape(shape), frame)


def transpose(x: Tensor, perm: tuple[int, ...], frame: Any) -> Tensor:
    return view(x, Transpose(perm), frame)
