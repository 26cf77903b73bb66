"""Values put together from parts: joined, padded, written into, gathered by row.

Each is a few kernels that copy one part to its place. Rows are gathered where their numbers are an
input of the program that is held to its range before a run (`row_checks`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..graph import Graph, Line, Var
from ..ops.embedding import AddRows, Embedding
from ..ops.index import AddAt, Concatenate, GetItem, Pad, Write, is_basic
from ..ops.linear import Reshape, Transpose
from ..types import DType
from .kernel import Kernel, Operand, Statement, Store
from .views import View, own, window

__all__ = ["Part", "parts", "row_checks"]


class Part:
    """One kernel of an assembly: `kernel` on the storages `args`."""

    __slots__ = ("args", "kernel")

    def __init__(self, kernel: Kernel, args: list[Any]) -> None:
        self.kernel, self.args = kernel, args


def parts(line: Line, seen: Any, checked: set[int]) -> list[Part] | None:
    """The kernels of a line, in order; None if it is not put together so.

    Args:
        seen: operand -> its window.
        checked: numbers of variables whose values are rows that exist.
    """
    op, out = line.op, line.outputs[0]
    if out.size == 0 or out.dtype.char not in "fdilq?":
        return None
    whole = own(out)
    if isinstance(op, Concatenate):
        made, at = [], 0
        for x in line.inputs:
            n = x.shape[op.axis]
            index = (slice(None),) * op.axis + (slice(at, at + n),)
            at += n
            if n:
                made.append(copied(seen(x), x.dtype, cut(whole, index), out.dtype))
        return made
    if isinstance(op, Pad):
        (x,) = line.inputs
        inside = tuple(slice(a, a + n) for n, (a, _) in zip(x.shape, op.widths))
        made = [filled(whole, out.dtype)] if out.size != x.size else []
        return (
            [*made, copied(seen(x), out.dtype, cut(whole, inside), out.dtype)] if x.size else made
        )
    if isinstance(op, Write | AddAt):
        x, v = [v if hasattr(v, "dtype") else np.asarray(v, out.dtype) for v in line.inputs]
        path = op.path if isinstance(op, Write) else (op.at,)
        place: View | None = whole
        for step in path:
            if isinstance(step, GetItem) and not is_basic(step.index):
                return None
            place = window(step, place) if place is not None else None
        if place is None or v.dtype.kind == "c":
            return None
        made = [copied(seen(x), dtype_of(x, out), whole, out.dtype)]
        if math.prod(place.shape):
            add = isinstance(op, AddAt)
            made.append(copied(seen(v), dtype_of(v, out), place, out.dtype, add))
        return made
    if isinstance(op, Embedding):
        table, rows = line.inputs
        return gathered(seen(table), seen(rows), rows, whole, out.dtype, checked)
    return None


def dtype_of(x: Any, out: Var) -> DType:
    return x.dtype if hasattr(x, "dtype") else out.dtype


def cut(view: View, index: tuple[Any, ...]) -> View:
    found = window(GetItem(index), view)
    assert found is not None
    return found


def spaces(shape: tuple[int, ...]) -> tuple[list[int], tuple[int, ...]]:
    """(the axes longer than 1, the space of a kernel over them)."""
    axes = [i for i, n in enumerate(shape) if n != 1]
    sizes = tuple([shape[i] for i in axes])
    return axes, (1,) * (2 - len(sizes)) + sizes


def operand(arg: int, dtype: DType, view: View, axes: list[int], shape: Any) -> Operand:
    lead = len(shape) - len(view.shape)
    steps = [0] * lead + [0 if n == 1 else s for n, s in zip(view.shape, view.strides)]
    strides = (0,) * (2 - len(axes)) + tuple([steps[i] for i in axes])
    return Operand(arg, dtype, view.offset, strides)


def copied(x: View | Any, kind: DType, to: View, dtype: DType, add: bool = False) -> Part:
    """to = x, or to += x."""
    axes, space = spaces(to.shape)
    body: list[Statement] = []
    args: list[Any] = [to.base]
    if isinstance(x, View):
        args.append(x.base)
        body.append(Statement("load", (), kind, operand(1, kind, x, axes, to.shape)))
        if kind != dtype:
            body.append(Statement("cast", (0,), dtype))
    else:
        body.append(Statement("const", (), dtype, None, np.asarray(x).astype(dtype)[()]))
    place = operand(0, dtype, to, axes, to.shape)
    if add:
        n = len(body)
        body.append(Statement("load", (), dtype, place))
        body.append(Statement("add", (n, n - 1), dtype))
    return Part(Kernel(space, tuple(body), (Store(len(body) - 1, place),)), args)


def filled(to: View, dtype: DType) -> Part:
    return copied(0, dtype, to, dtype)


def gathered(
    table: View, at: View, rows: Any, to: View, dtype: DType, checked: set[int]
) -> list[Part] | None:
    """to[i] = table[at[i]]."""
    if not isinstance(at, View) or not isinstance(table, View):
        return None
    if isinstance(rows, Var) and rows.n not in checked:
        return None
    many, each = math.prod(at.shape), math.prod(table.shape[1:])
    inner = table.strides[1:]
    flat = own_strides(table.shape[1:])
    places = View(at.base, at.offset, at.strides, at.shape)
    line = window(Reshape((many,)), places)
    if line is None or any(n != 1 and a != b for n, a, b in zip(table.shape[1:], inner, flat)):
        return None
    kind = rows.dtype
    index = Statement("load", (), kind, Operand(1, kind, line.offset, (line.strides[0], 0)))
    value = Statement(
        "load", (), dtype, Operand(2, dtype, table.offset, (0, 1), ((0, table.strides[0]),))
    )
    store = Store(1, Operand(0, dtype, 0, (each, 1)))
    return [Part(Kernel((many, each), (index, value), (store,)), [to.base, at.base, table.base])]


def own_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    out, step = [], 1
    for n in reversed(shape):
        out.append(step)
        step *= n
    return tuple(out[::-1])


def sources(graph: Graph) -> dict[int, int]:
    """For variables that are inputs, rearranged or not: which input."""
    found = {v.n: i for i, v in enumerate(graph.inputs)}
    for line in graph.lines:
        x = line.inputs[0] if line.inputs else None
        if type(line.op) in (Reshape, Transpose) and isinstance(x, Var) and x.n in found:
            found[line.outputs[0].n] = found[x.n]
    return found


def row_checks(graph: Graph) -> list[tuple[int, int]]:
    """(input, number of rows) of every gathering whose refusal the kernels take away."""
    known = sources(graph)
    out = []
    for line in graph.lines:
        if isinstance(line.op, Embedding | AddRows):
            rows = line.inputs[1]
            n = line.op.n if isinstance(line.op, AddRows) else line.inputs[0].shape[0]
            if isinstance(rows, Var) and rows.n in known and rows.dtype.kind in "iu":
                out.append((known[rows.n], n))
    return list(dict.fromkeys(out))
