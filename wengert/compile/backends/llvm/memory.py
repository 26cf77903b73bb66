"""Vectors to and from the row of an operand, whatever its stride; a boolean is a byte there."""

from __future__ import annotations

from ....native.ir import BYTES, SUFFIX, Function, Value, lanes, vector
from ....types import DType
from ...kernel import Operand
from .scalars import KIND

__all__ = ["element_kind", "load", "load_square", "store", "store_square"]


def element_kind(dtype: DType) -> str:
    """The type of an element in memory."""
    kind = KIND[dtype.name]
    return "i8" if kind == "i1" else kind


def moved(f: Function, p: Value, steps: Value | int, kind: str) -> Value:
    """p[steps], which may lie outside the array where lanes are masked."""
    told = steps.name if isinstance(steps, Value) else str(steps)
    return f.emit(f"getelementptr {kind}, ptr {p.name}, i64 {told}", "ptr")


def place(f: Function, p: Value, o: Operand, i: Value | None, off: int, kind: str) -> Value:
    """The address of the point i + off of the row."""
    stride = o.strides[-1]
    if i is not None:
        p = f.at(p, i * stride if stride != 1 else i, kind)
    return f.at(p, off * stride, kind)


def reverse(f: Function, x: Value) -> Value:
    n = lanes(x.kind)
    order = "<" + ", ".join(f"i32 {j}" for j in reversed(range(n))) + ">"
    return f.emit(f"shufflevector {x!r}, {x.kind} poison, <{n} x i32> {order}", x.kind)


def each(
    f: Function, p: Value, stride: int, kind: str, n: int, shift: Value | None = None
) -> Value:
    """The addresses of n elements, `stride` apart and each by its own shift further on."""
    told = "<" + ", ".join(f"i64 {j * stride}" for j in range(n)) + ">"
    steps = Value(f, told, vector("i64", n))
    if shift is not None:
        steps = steps + shift
    return f.emit(f"getelementptr {kind}, ptr {p.name}, {steps!r}", vector("ptr", n))


def gather(f: Function, places: Value, mask: Value | None, kind: str) -> Value:
    n = lanes(places.kind)
    mask, wide = all_lanes(f, mask, n), vector(kind, n)
    name = f"@llvm.masked.gather.v{n}{SUFFIX.get(kind, kind)}.v{n}p0"
    f.module.declare(f"declare {wide} {name}({places.kind}, {mask.kind}, {wide})")
    told = f"{places.kind} align {BYTES[kind]} {places.name}, {mask!r}, {f.const(0, wide)!r}"
    return f.emit(f"call {wide} {name}({told})", wide)


# ------------------------------------------------------------------ squares


def transposed(f: Function, rows: list[Value], count: int) -> list[Value]:
    """The first `count` columns of as many rows as there are lanes.

    Each step shuffles the halves of the rows like cards; log2 of the lanes of them transpose.
    """
    n, kind = len(rows), rows[0].kind
    half = n // 2
    order = [m for j in range(half) for m in (j, n + j)]
    low = "<" + ", ".join(f"i32 {m}" for m in order) + ">"
    high = "<" + ", ".join(f"i32 {m + half}" for m in order) + ">"
    for _ in range(n.bit_length() - 1):
        pairs = zip(rows[:half], rows[half:])
        rows = [
            f.emit(f"shufflevector {a!r}, {b!r}, <{n} x i32> {which}", kind)
            for a, b in pairs
            for which in (low, high)
        ]
    return rows[:count]


def load_square(
    f: Function, p: Value, o: Operand, i: Value | None, off: int, count: int, width: int
) -> list[Value]:
    """Neighbours j < count of each of `width` points of the row, as one vector for each j."""
    inner, rows = element_kind(o.dtype), []
    kind, mask = vector(inner, width), f.first_lanes(count, width)
    for lane in range(width):
        q = place(f, p, o, i, off + lane, inner)
        rows.append(f.load(q, kind) if count == width else f.masked_load(q, kind, mask))
    columns = transposed(f, rows, count)
    return [f.compare("ne", x, 0) for x in columns] if o.dtype.kind == "b" else columns


def store_square(
    f: Function, xs: list[Value], p: Value, o: Operand, i: Value | None, off: int
) -> None:
    """The other way: xs[j] are the neighbours j of points of the row."""
    inner, width, count = element_kind(o.dtype), lanes(xs[0].kind), len(xs)
    if o.dtype.kind == "b":
        xs = [f.cast("zext", x, "i8") for x in xs]
    kind, mask = vector(inner, width), f.first_lanes(count, width)
    columns = [*xs, *[Value(f, "poison", kind)] * (width - count)]
    for lane, x in enumerate(transposed(f, columns, width)):
        q = place(f, p, o, i, off + lane, inner)
        if count == width:
            f.store(x, q)
        else:
            f.masked_store(x, q, mask)


def all_lanes(f: Function, mask: Value | None, n: int) -> Value:
    return mask if mask is not None else f.const(1, vector("i1", n))


def load(
    f: Function,
    p: Value,
    o: Operand,
    i: Value | None = None,
    off: int = 0,
    mask: Value | None = None,
    width: int = 1,
    shift: Value | None = None,
) -> Value:
    """`width` elements of a row that begins at p, from the point i + off; 0 outside the mask.

    `shift`: each lane's element is that many elements further on.
    """
    inner = element_kind(o.dtype)
    kind, stride = vector(inner, width), o.strides[-1]
    q = place(f, p, o, i, off, inner)
    if width == 1:
        x = f.load(q, inner, shift if shift is not None else 0)
    elif shift is not None:
        x = gather(f, each(f, q, stride, inner, width, shift), mask, inner)
    elif stride == 1:
        x = f.load(q, kind) if mask is None else f.masked_load(q, kind, mask)
    elif stride == -1:
        q = moved(f, q, 1 - width, inner)
        if mask is None:
            x = reverse(f, f.load(q, kind))
        else:
            x = reverse(f, f.masked_load(q, kind, reverse(f, mask)))
    else:
        x = gather(f, each(f, q, stride, inner, width), mask, inner)
    return f.compare("ne", x, 0) if o.dtype.kind == "b" else x


def store(
    f: Function,
    x: Value,
    p: Value,
    o: Operand,
    i: Value | None = None,
    off: int = 0,
    mask: Value | None = None,
) -> None:
    """The lanes of x to a row that begins at p, from the point i + off on."""
    inner, stride = element_kind(o.dtype), o.strides[-1]
    if o.dtype.kind == "b":
        x = f.cast("zext", x, "i8")
    q = place(f, p, o, i, off, inner)
    width = lanes(x.kind)
    if width == 1:
        f.store(x, q)
    elif stride == 1:
        if mask is None:
            f.store(x, q)
        else:
            f.masked_store(x, q, mask)
    elif stride == -1:
        q, x = moved(f, q, 1 - width, inner), reverse(f, x)
        if mask is None:
            f.store(x, q)
        else:
            f.masked_store(x, q, reverse(f, mask))
    else:
        places, mask = each(f, q, stride, inner, width), all_lanes(f, mask, width)
        name = f"@llvm.masked.scatter.v{width}{SUFFIX.get(inner, inner)}.v{width}p0"
        f.module.declare(f"declare void {name}({x.kind}, {places.kind}, {mask.kind})")
        told = f"{x!r}, {places.kind} align {BYTES[inner]} {places.name}, {mask!r}"
        f.raw(f"call void {name}({told})")
