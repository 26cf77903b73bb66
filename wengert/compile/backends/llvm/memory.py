"""Vectors to and from the row of an operand, whatever its stride; a boolean is a byte there."""

from __future__ import annotations

from ....types import DType
from ...kernel import Operand
from .ir import BYTES, SUFFIX, Function, Value, lanes, vector
from .scalars import KIND

__all__ = ["element_kind", "load", "store"]


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


def each(f: Function, p: Value, stride: int, kind: str, n: int) -> Value:
    """The addresses of n elements, `stride` apart."""
    steps = "<" + ", ".join(f"i64 {j * stride}" for j in range(n)) + ">"
    return f.emit(f"getelementptr {kind}, ptr {p.name}, <{n} x i64> {steps}", vector("ptr", n))


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
) -> Value:
    """`width` elements of a row that begins at p, from the point i + off; 0 outside the mask."""
    inner = element_kind(o.dtype)
    kind, stride = vector(inner, width), o.strides[-1]
    q = place(f, p, o, i, off, inner)
    if width == 1:
        x = f.load(q, inner)
    elif stride == 1:
        x = f.load(q, kind) if mask is None else f.masked_load(q, kind, mask)
    elif stride == -1:
        q = moved(f, q, 1 - width, inner)
        if mask is None:
            x = reverse(f, f.load(q, kind))
        else:
            x = reverse(f, f.masked_load(q, kind, reverse(f, mask)))
    else:
        places, mask = each(f, q, stride, inner, width), all_lanes(f, mask, width)
        name = f"@llvm.masked.gather.v{width}{SUFFIX.get(inner, inner)}.v{width}p0"
        f.module.declare(f"declare {kind} {name}({places.kind}, {mask.kind}, {kind})")
        rest = f.const(0, kind)
        told = f"{places.kind} align {BYTES[inner]} {places.name}, {mask!r}, {rest!r}"
        x = f.emit(f"call {kind} {name}({told})", kind)
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
