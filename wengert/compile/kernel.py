"""Fused loop nests: what one native kernel computes, as pure data.

A kernel runs over the points of a *space*, whose last axis is the *row*. At every point it
evaluates a straight line of scalar statements; some of them reduce along the row and are then one
number for the whole row, which later statements may use. At the end values are stored, one for
every point or for every row, or folded (added up, say) over the axes along which their place in
memory does not move.

    space [32, 512]                        softmax of the rows, and the sums of its columns
    %0 = load x[512, 1]
    %1 = row_max %0
    %2 = sub %0 %1
    %3 = exp %2
    %4 = row_add %3
    %5 = div %3 %4
    store %5 -> y[512, 1]
    fold add %5 -> s[0, 1]

Several floats, integers and booleans may occur together. A kernel is run in pieces, from a point
`lo` of the first axis to a point `hi`; pieces may run at the same time. `evaluate` is the slow,
obvious meaning, and the reference for every backend.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..nest import COMBINE
from ..trace import OPS
from ..types import DType, Shape

__all__ = ["Fold", "Kernel", "Operand", "Statement", "Store", "evaluate", "verify"]

ROW = {f"row_{name}": f for name, f in COMBINE.items()}  # row_add, row_max, row_min, row_mul


@dataclass(frozen=True, slots=True)
class Operand:
    """One element of memory for every point of the space.

    Args:
        arg: which pointer of the kernel.
        dtype: of the elements; a boolean is a byte, 0 or 1.
        offset: of the point 0, in elements.
        strides: how far the element moves along each axis of the space, in elements.
        index: (statement, stride) pairs: the value of an integer statement, the same all along a
            row, times stride is added to the offset.
    """

    arg: int
    dtype: DType
    offset: int
    strides: tuple[int, ...]
    index: tuple[tuple[int, int], ...] = ()

    def __str__(self) -> str:
        moved = "".join(f" + %{s} * {n}" for s, n in self.index)
        start = f" + {self.offset}" if self.offset else ""
        return f"{self.dtype} p{self.arg}[{', '.join(map(str, self.strides))}]{start}{moved}"


@dataclass(frozen=True, slots=True)
class Statement:
    """One value at every point.

    `op` is "load" (from `operand`), "const" (`number`), "place" (the point's position along the
    axis `number` of the space, as an integer), "cast" (to `dtype`), "row_add", "row_max",
    "row_min", "row_mul", or the name of an elementwise operation of the house. The operands of an
    elementwise operation have been cast to the types that it computes in.
    """

    op: str
    args: tuple[int, ...]
    dtype: DType
    operand: Operand | None = None
    number: Any = None

    def __str__(self) -> str:
        told = self.operand if self.op == "load" else "" if self.number is None else self.number
        return f"{self.dtype} {self.op} {' '.join(f'%{a}' for a in self.args)}{told}".rstrip()


@dataclass(frozen=True, slots=True)
class Store:
    """`value` goes to `to`, once for a row if the row's stride is 0.

    `to` may be where a load reads, with the same strides and offset: a row is read before it is
    written. Of that memory only numbers that are one for a row may be read elsewhere, in that row.
    """

    value: int
    to: Operand

    def __str__(self) -> str:
        return f"store %{self.value} -> {self.to}"


@dataclass(frozen=True, slots=True)
class Fold:
    """`value` is combined over every axis along which `to` does not move.

    `partial`: where the first axis is folded, each piece has a result of its own, that many
    elements after the one before. The place is overwritten, not added to; no load may read it.
    `rows`: the value is one number for a row and counts once for it, not once for each point.
    """

    value: int
    combine: str
    to: Operand
    partial: int = 0
    rows: bool = False

    def __str__(self) -> str:
        word = "fold_rows" if self.rows else "fold"
        return f"{word} {self.combine} %{self.value} -> {self.to}"


@dataclass(frozen=True, slots=True)
class Kernel:
    """A fused loop nest; `space` has at least two axes, and the last of them is the row."""

    space: Shape
    body: tuple[Statement, ...]
    outputs: tuple[Store | Fold, ...]

    def __str__(self) -> str:
        lines = [f"space {list(self.space)}"]
        lines += [f"%{i} = {s}" for i, s in enumerate(self.body)]
        return "\n".join([*lines, *map(str, self.outputs)])

    def by_row(self) -> list[bool]:
        """Whether each statement is one number for a whole row."""
        last = len(self.space) - 1
        out: list[bool] = []
        for s in self.body:
            if s.op == "load":
                assert s.operand is not None
                still = s.operand.strides[-1] == 0 or self.space[-1] == 1
                out.append(still and all(out[i] for i, _ in s.operand.index))
            elif s.op == "place":
                out.append(s.number != last)
            else:
                out.append(s.op in ROW or all(out[a] for a in s.args))
        return out


def verify(kernel: Kernel) -> None:
    """Raise ValueError unless every statement uses earlier ones and every operand fits."""
    n = len(kernel.space)
    if n < 2:
        raise ValueError("a space has at least two axes; the last is the row")
    flat = kernel.by_row()
    for i, s in enumerate(kernel.body):
        if any(not 0 <= a < i for a in s.args):
            raise ValueError(f"%{i} = {s} uses a later statement")
        if s.op == "load":
            check_operand(kernel, s.operand, i, flat)
        elif s.op not in ("const", "place", "cast") and s.op not in ROW and s.op not in OPS:
            raise ValueError(f"%{i} = {s}: there is no such operation")
    for out in kernel.outputs:
        if not 0 <= out.value < len(kernel.body):
            raise ValueError(f"{out}: there is no such statement")
        check_operand(kernel, out.to, len(kernel.body), flat)
        if out.to.dtype != kernel.body[out.value].dtype:
            raise ValueError(f"{out}: the value is {kernel.body[out.value].dtype}")
        still = [k for k in range(n) if out.to.strides[k] == 0 and kernel.space[k] != 1]
        if isinstance(out, Store) and still and (still != [n - 1] or not flat[out.value]):
            raise ValueError(f"{out}: several points store to one place")
        if isinstance(out, Fold) and out.combine not in COMBINE:
            raise ValueError(f"{out}: unknown combination")
        if isinstance(out, Fold) and out.to.index:
            raise ValueError(f"{out}: a fold has its place from the loops alone")
        if isinstance(out, Fold) and out.rows and not (flat[out.value] and out.to.strides[-1] == 0):
            raise ValueError(f"{out}: not one number for a row")


def check_operand(kernel: Kernel, operand: Operand | None, before: int, flat: list[bool]) -> None:
    if operand is None or len(operand.strides) != len(kernel.space):
        raise ValueError(f"{operand}: a stride for each axis of {kernel.space}")
    for s, _ in operand.index:
        if not (0 <= s < before and flat[s] and kernel.body[s].dtype.kind in "iu"):
            raise ValueError(f"{operand}: an index is an integer, the same all along a row")


def places(kernel: Kernel, operand: Operand, values: Sequence[Any], lo: int, hi: int) -> Any:
    """The element of every point, as positions in the argument; of length 1 where it stays."""
    at: Any = np.full((1,) * len(kernel.space), operand.offset)
    for axis, (n, stride) in enumerate(zip(kernel.space, operand.strides)):
        shape = [1] * len(kernel.space)
        start, stop = (lo, hi) if axis == 0 else (0, n)
        if stride == 0:
            continue
        shape[axis] = stop - start
        at = at + np.arange(start, stop).reshape(shape) * stride
    for s, stride in operand.index:
        at = at + values[s] * stride
    return at


def evaluate(
    kernel: Kernel, args: Sequence[Any], lo: int = 0, hi: int | None = None, piece: int = 0
) -> None:
    """The slow, obvious meaning: args are one-dimensional arrays, some of which are written.

    >>> f = np.dtype(float)
    >>> x = Statement("load", (), f, Operand(0, f, 0, (3, 1)))
    >>> y = Store(1, Operand(1, f, 0, (1, 0)))
    >>> k = Kernel((2, 3), (x, Statement("row_add", (0,), f)), (y,))
    >>> y = np.zeros(2)
    >>> evaluate(k, [np.arange(6.0), y])
    >>> y
    array([ 3., 12.])
    """
    verify(kernel)
    hi = kernel.space[0] if hi is None else hi
    space = (hi - lo, *kernel.space[1:])
    values: list[Any] = []
    for s in kernel.body:
        xs = [values[a] for a in s.args]
        if s.op == "load":
            assert s.operand is not None
            y = np.asarray(args[s.operand.arg])[places(kernel, s.operand, values, lo, hi)]
        elif s.op == "const":
            y = np.full((1,) * len(space), s.number, s.dtype)
        elif s.op == "place":
            shape = [1] * len(space)
            shape[s.number] = -1
            first = lo if s.number == 0 else 0
            y = np.arange(first, first + space[s.number]).reshape(shape)
        elif s.op == "cast":
            y = xs[0].astype(s.dtype)
        elif s.op in ROW:
            wide = np.broadcast_to(xs[0], (*xs[0].shape[:-1], space[-1]))
            y = ROW[s.op].reduce(wide, axis=-1, keepdims=True)  # type: ignore[attr-defined]
        else:
            with np.errstate(all="ignore"):
                y = OPS[s.op].impl(*xs)
        values.append(np.asarray(y).astype(s.dtype, copy=False))
    for out in kernel.outputs:
        to = places(kernel, out.to, values, lo, hi)
        if isinstance(out, Store):
            args[out.to.arg][to] = np.broadcast_to(values[out.value], to.shape)
            continue
        still = tuple([k for k, n in enumerate(out.to.strides) if n == 0])
        full = np.broadcast_to(values[out.value], (*space[:-1], 1) if out.rows else space)
        total = COMBINE[out.combine].reduce(full, axis=still, keepdims=True)  # type: ignore[attr-defined]
        args[out.to.arg][to + piece * out.partial] = total
