"""Where the numbers of a value stand: its storage, and strides into it.

A reshape, a transpose, a basic index and a broadcast move no number: their values are windows on
the storage of another. `settled` rewrites a graph so that every one of them is a window indeed
(a copy goes before a reshape that is none), and every output a value with storage of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..graph import Graph, Var
from ..ops.contract import MatMul
from ..ops.elementwise import copy
from ..ops.index import GetItem, is_basic
from ..ops.linear import Broadcast, Reshape, Transpose
from ..types import Aval, Shape

__all__ = ["View", "is_window", "settled", "views", "window"]


@dataclass(frozen=True, slots=True)
class View:
    """A value as a window: element i is base[offset + sum_k i_k strides_k], counted in elements."""

    base: Any  # a Var with storage of its own, or a constant array
    offset: int
    strides: tuple[int, ...]
    shape: Shape

    @property
    def contiguous(self) -> bool:
        """Whether it is all of its storage, in order."""
        return self.offset == 0 and self.strides == compact(self.shape, self.strides)


def compact(shape: Shape, like: tuple[int, ...] | None = None) -> tuple[int, ...]:
    """The strides of an array in row-major order; those of axes of length 1 as in `like`."""
    out, step = [], 1
    for i in reversed(range(len(shape))):
        out.append(like[i] if like is not None and shape[i] == 1 else step)
        step *= shape[i]
    return tuple(out[::-1])


def is_window(op: Any) -> bool:
    """Whether an operation may be a window on its operand."""
    if isinstance(op, Reshape | Transpose | Broadcast):
        return True
    return isinstance(op, GetItem) and is_basic(op.index)


def window(op: Any, x: View) -> View | None:
    """op(x) as a window, or None where the numbers would have to move."""
    if isinstance(op, Transpose):
        return View(
            x.base, x.offset, tuple([x.strides[p] for p in op.perm]),
            tuple([x.shape[p] for p in op.perm]),
        )  # fmt: skip
    if isinstance(op, Broadcast):
        lead = len(op.shape) - len(x.shape)
        strides = [0] * lead + [
            0 if n == 1 and m != 1 else s for n, m, s in zip(x.shape, op.shape[lead:], x.strides)
        ]
        return View(x.base, x.offset, tuple(strides), op.shape)
    if isinstance(op, Reshape):
        shape = x.shape[: op.lanes] + op.shape
        found = reshaped(x.shape, x.strides, shape)
        return None if found is None else View(x.base, x.offset, found, shape)
    return indexed(op.index, x)


def reshaped(old: Shape, strides: tuple[int, ...], new: Shape) -> tuple[int, ...] | None:
    """The strides of a reshape, if there are any."""
    if 0 in old:
        return compact(new)
    old_pairs = [(n, s) for n, s in zip(old, strides) if n != 1]
    out: list[int] = []
    i, left, step = 0, 1, 0  # of the run of old axes that is being handed out, innermost first
    runs: list[list[int]] = []  # [size, stride of the innermost] of axes that lie end to end
    for n, s in old_pairs:
        if runs and runs[-1][1] == n * s:
            runs[-1][0] *= n
            runs[-1][1] = s
        else:
            runs.append([n, s])
    i = len(runs)
    for n in reversed(new):
        if n == 1:
            out.append(0)
            continue
        if left == 1:
            i -= 1
            left, step = runs[i]
        if left % n:
            return None
        out.append(step)
        left //= n
        step *= n
    return tuple(out[::-1])


def indexed(index: tuple[Any, ...], x: View) -> View | None:
    offset, strides, shape, axis = x.offset, [], [], 0
    rest = len(x.shape) - sum(1 for i in index if i is not None and i is not Ellipsis)
    items: list[Any] = []
    seen = False
    for i in index:
        if i is Ellipsis:
            items += [slice(None)] * rest
            seen = True
        else:
            items.append(i)
    if not seen:
        items += [slice(None)] * rest
    for i in items:
        if i is None:
            strides.append(0)
            shape.append(1)
            continue
        n, s = x.shape[axis], x.strides[axis]
        axis += 1
        if isinstance(i, slice):
            start, stop, step = i.indices(n)
            count = len(range(start, stop, step))
            offset += start * s if count else 0
            strides.append(step * s)
            shape.append(count)
        elif isinstance(i, int | np.integer) and not isinstance(i, bool):
            offset += (int(i) + n if i < 0 else int(i)) * s
        else:
            return None
    return View(x.base, offset, tuple(strides), tuple(shape))


def matrix(x: View) -> bool:
    """Whether a product can take the last two axes as they lie: one of them without gaps."""
    if len(x.shape) < 2 or x.base.__class__ is np.ndarray:
        return True
    (rows, cols), (s, t) = x.shape[-2:], x.strides[-2:]
    plain = (t == 1 or cols == 1) and (s >= max(1, cols) or rows == 1)
    turned = (s == 1 or rows == 1) and (t >= max(1, rows) or cols == 1)
    return plain or turned


def own(v: Any) -> View:
    shape = v.shape
    return View(v, 0, compact(shape), shape)


def views(graph: Graph) -> dict[int, View]:
    """The window of every variable, of a settled graph."""
    out = {v.n: own(v) for v in graph.inputs}
    for line in graph.lines:
        if is_window(line.op):
            x = line.inputs[0]
            seen = window(line.op, out[x.n] if isinstance(x, Var) else own(np.asarray(x)))
            assert seen is not None, line
            out[line.outputs[0].n] = seen
        else:
            out.update({v.n: own(v) for v in line.outputs})
    return out


def settled(graph: Graph) -> Graph:
    """The same graph, whose window operations are windows and whose outputs have storage."""
    new = Graph()
    known: dict[int, Any] = {}
    seen: dict[int, View] = {}

    def emit(op: Any, xs: list[Any], where: Any = None) -> Any:
        y = new.emit(op, xs)
        new.lines[-1].where = where
        many = y if isinstance(y, tuple) else (y,)
        for v in many:
            found = None
            if is_window(op):
                x = xs[0]
                found = window(op, seen[x.n] if isinstance(x, Var) else own(np.asarray(x)))
            seen[v.n] = found if found is not None else own(v)
        return y

    for v in graph.inputs:
        known[v.n] = new.input(v.aval)
        seen[known[v.n].n] = own(known[v.n])
    for line in graph.lines:
        xs = [known[x.n] if isinstance(x, Var) else x for x in line.inputs]
        if is_window(line.op):
            x = xs[0]
            at = seen[x.n] if isinstance(x, Var) else own(np.asarray(x))
            if window(line.op, at) is None:
                xs = [emit(copy, [x], line.where)]
        elif isinstance(line.op, MatMul):
            xs = [
                x if not isinstance(x, Var) or matrix(seen[x.n]) else emit(copy, [x], line.where)
                for x in xs
            ]
        y = emit(line.op, xs, line.where)
        for v, w in zip(line.outputs, y if isinstance(y, tuple) else (y,)):
            known[v.n] = w
    taken: set[int] = set()
    for y in graph.outputs:
        if not isinstance(y, Var):
            new.outputs.append(y)
            continue
        w = known[y.n]
        at = seen[w.n]
        whole = at.base is w and w not in new.inputs and w.n not in taken
        if not whole:
            w = emit(copy, [w])
        taken.add(w.n)
        new.outputs.append(w)
    return new


def bytes_of(a: Aval) -> int:
    return math.prod(a.shape) * a.dtype.itemsize
