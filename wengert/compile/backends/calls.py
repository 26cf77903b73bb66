"""How each operation is written as calls of NumPy into given memory.

`CALLS` is the table: an operation, or its class -> a function that appends the calls and says
whether it could.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...graph import Line, Var
from ...ops import elementwise as e
from ...ops.contract import Affine, MatMul
from ...ops.embedding import Embedding, check_rows
from ...ops.index import AddAt, Concatenate, GetItem, Pad, ScatterAdd, Write, filled, put
from ...ops.linear import Broadcast, Cast, CastConstant, Cumsum, Reshape, Sum, Transpose
from ...ops.order import Max, Min
from ...ops.products import plainly
from ...types import BOOL
from .layout import windowed

__all__ = ["CALLS", "Value", "Writer", "call_impl", "call_pointwise", "call_ufunc"]


class Value:
    """An operand of a call: its name, and an array of its layout.

    `static`: the array is the very one, at every call.
    """

    __slots__ = ("array", "static", "text")

    def __init__(self, text: str, array: Any, static: bool) -> None:
        self.text, self.array, self.static = text, array, static


class Writer:
    """The source of a program, line by line, and the objects that it names."""

    def __init__(self) -> None:
        self.scope: dict[str, Any] = {"copyto": np.copyto, "broadcast_to": np.broadcast_to}
        self.names: dict[Any, str] = {}
        self.counts: dict[str, int] = {}
        self.code: list[str] = []
        self.line_of: dict[int, int] = {}  # line of the source -> line of the graph
        self.operands: dict[int, list[str]] = {}
        self.allocating: dict[str, None] = {}
        self.at: int | None = None
        self.ends: list[str] = []

    def begin(self, k: int | None) -> None:
        self.at = k

    def add(self, text: str) -> None:
        self.code.append(text)
        if self.at is not None:
            self.line_of[len(self.code) + 1] = self.at

    def last(self, text: str) -> None:
        """After everything else."""
        self.ends.append(text)

    def fresh(self, prefix: str) -> str:
        n = self.counts.get(prefix, 0)
        self.counts[prefix] = n + 1
        return f"{prefix}{n}"

    def name(self, x: Any, prefix: str, exact: bool = False) -> str:
        """What the source calls an object."""
        known = self.names.get(id(x))
        if known is not None:
            return known
        name = prefix if exact else self.fresh(prefix)
        self.names[id(x)] = name
        self.scope[name] = x  # which keeps it, and its id, alive
        return name

    def made(self, x: Any, prefix: str) -> Value:
        return Value(self.name(x, prefix), x, True)

    def local(self, text: str) -> str:
        name = self.fresh("t")
        self.add(f"{name} = {text}")
        return name

    def derive(self, x: Value, method: str, *args: Any) -> Value:
        """A view of a value: made now, or at each call if the value is another array each time."""
        y = getattr(x.array, method)(*args)
        if x.static:
            return self.made(y, "w")
        names = ", ".join(self.name(a, "a") for a in args)
        return Value(self.local(f"{x.text}.{method}({names})"), y, False)

    def window(self, line: Line, x: Value) -> Value:
        op: Any = line.op
        if type(op) is GetItem:
            return self.derive(x, "__getitem__", windowed(op.index))
        if type(op) is Transpose:
            return self.derive(x, "transpose", op.perm)
        return self.derive(x, "reshape", line.outputs[0].aval.shape)

    def source(self, inputs: int, outputs: int) -> str:
        names = [f"x{i}" for i in range(inputs)] + [f"r{i}" for i in range(outputs)]
        body = self.code + self.ends or ["pass"]
        return "\n".join([f"def run({', '.join(names)}):", *(f"    {c}" for c in body)])


# ------------------------------------------------------------------ point by point


def call_ufunc(w: Writer, line: Line, xs: list[Value], outs: list[Value]) -> bool:
    f = line.op.f
    if f.nout != 1 or f.nin != len(xs):
        return False
    texts = [x.text for x in settled(w, f, yielding(w, line, xs))]
    given = "out=" if f in (np.maximum, np.minimum) else ""  # their third is deprecated
    w.add(f"{w.name(f, 'f')}({', '.join(texts)}, {given}{outs[0].text})")
    return True


def yielding(w: Writer, line: Line, xs: list[Value]) -> list[Value]:
    """Operands with variables that are plain numbers in the dtype that they yield to."""
    weak = [isinstance(v, Var) and v.aval.weak for v in line.inputs]
    if not any(weak) or all(weak):
        return xs
    kinds = {"f": float, "i": int, "c": complex}
    given: Any = [
        kinds[x.array.dtype.kind] if yields else getattr(x.array, "dtype", type(x.array))
        for x, yields in zip(xs, weak)
    ]
    chosen = line.op.f.resolve_dtypes((*given, None))
    return [
        w.derive(x, "astype", dtype) if yields and x.array.dtype != dtype else x
        for x, yields, dtype in zip(xs, weak, chosen)
    ]


def settled(w: Writer, f: np.ufunc, xs: list[Value]) -> list[Value]:
    """Operands with Python numbers as arrays of the dtype that the ufunc computes in."""
    if all(hasattr(x.array, "dtype") for x in xs):
        return xs
    kinds: Any = [getattr(x.array, "dtype", type(x.array)) for x in xs]
    try:
        chosen = f.resolve_dtypes((*kinds, None))
        found = []
        for x, dtype in zip(xs, chosen):
            if not hasattr(x.array, "dtype"):
                a = np.array(x.array, dtype)
                x = w.made(a, "c")
            found.append(x)
        again = f.resolve_dtypes((*[x.array.dtype for x in found], None))
    except (TypeError, ValueError, OverflowError):
        return xs
    return found if again == chosen else xs


def in_place(x: Value, out: Value) -> bool:
    """Whether the value is to be written over this operand, whose numbers are there already."""
    a, b = x.array, out.array
    if not (x.static and out.static and isinstance(a, np.ndarray)) or a.dtype != b.dtype:
        return False
    same = a.__array_interface__["data"] == b.__array_interface__["data"]
    return same and a.shape == b.shape and a.strides == b.strides and a.size > 0


BLOCK = 8192  # elements, as in ops.accurate: what stays in the second-level cache


def in_blocks(f: Callable[..., Any], out: Any, *xs: Any) -> None:
    """out = f(*xs), elementwise, a piece at a time; all in one run of memory, or one number."""
    flat = [x.reshape(-1) if x.ndim else x for x in xs]
    target = out.reshape(-1)
    for k in range(0, target.size, BLOCK):
        piece = slice(k, k + BLOCK)
        target[piece] = f(*[x[piece] if x.ndim else x for x in flat])


def call_pointwise(w: Writer, line: Line, xs: list[Value], outs: list[Value]) -> bool:
    """A function that is no ufunc, of large arrays: its temporaries stay small."""
    (out,) = outs
    plain = all(
        isinstance(x.array, np.ndarray)
        and (x.array.ndim == 0 or (x.array.shape == out.array.shape and x.array.flags.c_contiguous))
        for x in xs
    )
    if not plain or not out.array.flags.c_contiguous or out.array.size <= BLOCK:
        return False
    w.allocating[line.op.title()] = None
    operands = ", ".join(x.text for x in xs)
    w.add(f"{w.name(in_blocks, 'f')}({w.name(line.op.f, 'f')}, {out.text}, {operands})")
    return True


def call_where(w: Writer, line: Line, xs: list[Value], outs: list[Value]) -> bool:
    c, a, b = xs
    (out,) = outs
    if getattr(c.array, "dtype", None) != BOOL:
        return False
    if not in_place(b, out):
        w.add(f"copyto({out.text}, {b.text}, 'unsafe')")
    w.add(f"copyto({out.text}, {a.text}, 'unsafe', {c.text})")
    return True


def call_clip(w: Writer, line: Line, xs: list[Value], outs: list[Value]) -> bool:
    a, b, c = (x.text for x in xs)
    w.add(f"{w.name(np.clip, 'f')}({a}, {b}, {c}, {outs[0].text})")
    return True


def call_copy(w: Writer, line: Line, xs: list[Value], outs: list[Value]) -> bool:
    if not in_place(xs[0], outs[0]):
        w.add(f"copyto({outs[0].text}, {xs[0].text}, 'unsafe')")
    return True


def call_reshape(w: Writer, line: Line, xs: list[Value], outs: list[Value]) -> bool:
    """A copy: of the numbers in the operand's order, into memory that is seen in its shape."""
    shape = np.shape(xs[0].array)
    target = w.derive(outs[0], "reshape", shape)
    w.add(f"copyto({target.text}, {xs[0].text})")
    return True


# ------------------------------------------------------------------ sums and products


def call_reduce(f: Any) -> Callable[..., bool]:
    def call(w: Writer, line: Line, xs: list[Value], outs: list[Value]) -> bool:
        op: Any = line.op
        axes, dtype = w.name(op.axes, "a"), w.name(line.outputs[0].aval.dtype, "d")
        name = w.name(f, "f")
        w.add(f"{name}({xs[0].text}, {axes}, {dtype}, {outs[0].text}, {bool(op.keepdims)})")
        return True

    return call


def call_cumsum(w: Writer, line: Line, xs: list[Value], outs: list[Value]) -> bool:
    op: Any = line.op
    x, out = xs[0], outs[0]
    if op.reverse:
        flip = (slice(None),) * op.axis + (slice(None, None, -1),)
        x, out = w.derive(x, "__getitem__", flip), w.derive(out, "__getitem__", flip)
    dtype = w.name(line.outputs[0].aval.dtype, "d")
    f = w.name(np.add.accumulate, "f")
    w.add(f"{f}({x.text}, {op.axis}, {dtype}, {out.text})")
    return True


def call_matmul(w: Writer, line: Line, xs: list[Value], outs: list[Value]) -> bool:
    a, b = xs
    (out,) = outs
    if not all(isinstance(x.array, np.ndarray) for x in xs):
        return False
    if b.array.ndim == 2 and a.array.ndim > 2 and a.array.flags.c_contiguous and a.array.size:
        a = w.derive(a, "reshape", (-1, a.array.shape[-1]))
        out = w.derive(out, "reshape", (-1, b.array.shape[1]))
    w.add(f"{w.name(plainly, 'f')}({a.text}, {b.text}, {out.text})")
    return True


def call_affine(w: Writer, line: Line, xs: list[Value], outs: list[Value]) -> bool:
    a, b, c = xs
    (out,) = outs
    same = np.result_type(a.array, b.array) == out.array.dtype == c.array.dtype
    full = (*np.shape(a.array)[:-1], np.shape(b.array)[-1]) == out.array.shape
    if not same or not full or not call_matmul(w, line, [a, b], outs):
        return False
    w.add(f"{w.name(np.add, 'f')}({out.text}, {c.text}, {out.text})")
    return True


# ------------------------------------------------------------------ picking and placing


def call_getitem(w: Writer, line: Line, xs: list[Value], outs: list[Value]) -> bool:
    """Rows by one array of known integers."""
    index, shape = line.op.index, np.shape(xs[0].array)
    if len(index) != 1 or not isinstance(index[0], np.ndarray) or index[0].dtype.kind not in "iu":
        return False
    places = np.where(index[0] < 0, index[0] + shape[0], index[0]).astype(np.intp)
    if places.size and not (places.min() >= 0 and places.max() < shape[0]):
        return False
    w.add(f"{xs[0].text}.take({w.name(places, 'a')}, 0, {outs[0].text}, 'clip')")
    return True


def call_embedding(w: Writer, line: Line, xs: list[Value], outs: list[Value]) -> bool:
    table, places = xs
    if not isinstance(places.array, np.ndarray):
        return False
    w.add(f"{w.name(check_rows, 'f')}({table.text}, {places.text})")
    w.add(f"{table.text}.take({places.text}, 0, {outs[0].text}, 'clip')")
    return True


def call_add_at(w: Writer, line: Line, xs: list[Value], outs: list[Value]) -> bool:
    call_copy(w, line, xs, outs)
    w.add(f"{w.name(line.op.at.add_into, 'f')}({outs[0].text}, {xs[1].text})")
    return True


def call_write(w: Writer, line: Line, xs: list[Value], outs: list[Value]) -> bool:
    call_copy(w, line, xs, outs)
    path = w.name(line.op.path, "a")
    w.add(f"{w.name(put, 'f')}({outs[0].text}, {path}, {xs[1].text})")
    return True


def call_scatter(w: Writer, line: Line, xs: list[Value], outs: list[Value]) -> bool:
    w.add(f"{outs[0].text}.fill(0)")
    template, places = w.name(line.op.template, "a"), "".join(f"{x.text}, " for x in xs[1:])
    index = f"{w.name(filled, 'f')}({template}, ({places}))"
    w.add(f"{w.name(np.add.at, 'f')}({outs[0].text}, {index}, {xs[0].text})")
    return True


def call_concatenate(w: Writer, line: Line, xs: list[Value], outs: list[Value]) -> bool:
    parts = "".join(f"{x.text}, " for x in xs)
    w.add(f"{w.name(np.concatenate, 'f')}(({parts}), {line.op.axis}, {outs[0].text})")
    return True


def call_pad(w: Writer, line: Line, xs: list[Value], outs: list[Value]) -> bool:
    shape = np.shape(xs[0].array)
    inside = tuple(slice(a, a + n) for n, (a, _) in zip(shape, line.op.widths))
    w.add(f"{outs[0].text}.fill(0)")
    target = w.derive(outs[0], "__getitem__", windowed(inside))
    w.add(f"copyto({target.text}, {xs[0].text})")
    return True


def call_impl(w: Writer, line: Line, xs: list[Value], outs: list[Value]) -> bool:
    """The operation's own function, and a copy of what it made."""
    w.allocating[line.op.title()] = None
    call = f"{w.name(line.op.impl, 'i')}({', '.join(x.text for x in xs)})"
    if len(outs) == 1:
        w.add(f"copyto({outs[0].text}, {call})")
        return True
    name = w.local(call)
    for i, out in enumerate(outs):
        w.add(f"copyto({out.text}, {name}[{i}])")
    w.add(f"{name} = None")
    return True


CALLS: dict[Any, Callable[[Writer, Line, list[Value], list[Value]], bool]] = {
    Sum: call_reduce(np.add.reduce),
    Max: call_reduce(np.maximum.reduce),
    Min: call_reduce(np.minimum.reduce),
    Cumsum: call_cumsum,
    MatMul: call_matmul,
    Affine: call_affine,
    Broadcast: call_copy,
    Cast: call_copy,
    CastConstant: call_copy,
    Reshape: call_reshape,
    GetItem: call_getitem,
    Embedding: call_embedding,
    AddAt: call_add_at,
    Write: call_write,
    ScatterAdd: call_scatter,
    Concatenate: call_concatenate,
    Pad: call_pad,
    e.where: call_where,
    e.clip: call_clip,
    e.copy: call_copy,
}
