"""LLVM's assembly, written from Python: modules, functions, values with operators.

Text, because building it is many times faster than building objects. The types are LLVM's own
names: `float`, `double`, `i1`, `i8`, `i32`, `i64`, `ptr`, and vectors of them, `<16 x float>`.

Floating-point operations may be contracted to a fused multiply-add and nothing else, so that inf
and nan keep their meaning; the additions of a reduction may be reordered besides (`reduced`).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

__all__ = ["INT", "Function", "Module", "Value", "element", "lanes", "literal", "vector"]

CONTRACT = "contract"
REORDER = "reassoc nsz contract"
INT = {"float": "i32", "double": "i64"}  # the integer as wide as a float
BYTES = {"float": 4, "double": 8, "i1": 1, "i8": 1, "i32": 4, "i64": 8, "ptr": 8}
SUFFIX = {"float": "f32", "double": "f64"}
FLOATS = ("float", "double")


def vector(kind: str, width: int) -> str:
    return kind if width == 1 else f"<{width} x {kind}>"


def element(kind: str) -> str:
    """The type of one lane."""
    return kind[kind.index(" x ") + 3 : -1] if kind[0] == "<" else kind


def lanes(kind: str) -> int:
    return int(kind[1 : kind.index(" ")]) if kind[0] == "<" else 1


def like(kind: str, other: str) -> str:
    """`kind` with the elements of `other`: a vector as wide, or a scalar."""
    return vector(element(other), lanes(kind))


def literal(x: Any, kind: str) -> str:
    """A number as LLVM writes it in a scalar type."""
    if kind == "ptr":
        return "null"
    if kind not in FLOATS:
        return str(int(x))
    with np.errstate(over="ignore"):
        x = float(np.float32(x)) if kind == "float" else float(x)
    return f"0x{struct.unpack('<Q', struct.pack('<d', x))[0]:016X}"


class Value:
    """An SSA value of a function under construction; arithmetic on it writes instructions."""

    __slots__ = ("f", "kind", "name")

    def __init__(self, f: Function, name: str, kind: str) -> None:
        self.f, self.name, self.kind = f, name, kind

    def __repr__(self) -> str:
        return f"{self.kind} {self.name}"

    def __add__(self, o: Any) -> Value:
        return self.f.binary("add", self, o)

    def __radd__(self, o: Any) -> Value:
        return self.f.binary("add", o, self)

    def __sub__(self, o: Any) -> Value:
        return self.f.binary("sub", self, o)

    def __rsub__(self, o: Any) -> Value:
        return self.f.binary("sub", o, self)

    def __mul__(self, o: Any) -> Value:
        return self.f.binary("mul", self, o)

    def __rmul__(self, o: Any) -> Value:
        return self.f.binary("mul", o, self)

    def __truediv__(self, o: Any) -> Value:
        return self.f.binary("div", self, o)

    def __rtruediv__(self, o: Any) -> Value:
        return self.f.binary("div", o, self)

    def __and__(self, o: Any) -> Value:
        return self.f.binary("and", self, o)

    def __or__(self, o: Any) -> Value:
        return self.f.binary("or", self, o)

    def __xor__(self, o: Any) -> Value:
        return self.f.binary("xor", self, o)

    def __lshift__(self, o: Any) -> Value:
        return self.f.binary("shl", self, o)

    def __rshift__(self, o: Any) -> Value:
        return self.f.binary("ashr", self, o)

    def __neg__(self) -> Value:
        if self.is_float:
            return self.f.emit(f"fneg {self.kind} {self.name}", self.kind)
        return self.f.binary("sub", 0, self)

    def __invert__(self) -> Value:
        return self.f.binary("xor", self, -1 if element(self.kind) != "i1" else 1)

    @property
    def is_float(self) -> bool:
        return element(self.kind) in FLOATS


class Function:
    """One function under construction.

    Args:
        module: where it, and the declarations that it needs, will stand.
        name: without the @.
        args: (name, type or "type attributes") pairs, such as ("x", "ptr noalias").
        result: its return type.
        attributes: such as "alwaysinline nounwind"; `linkage` such as "internal".
    """

    def __init__(
        self,
        module: Module,
        name: str,
        args: list[tuple[str, str]],
        result: str = "void",
        *,
        attributes: str = "nounwind",
        linkage: str = "",
    ) -> None:
        self.module, self.name, self.result = module, name, result
        self.signature = ", ".join(f"{kind} %{n}" for n, kind in args)
        self.args = {n: Value(self, f"%{n}", kind.split(" ")[0] if kind[0] != "<" else kind)
                     for n, kind in args}  # fmt: skip
        self.attributes, self.linkage = attributes, linkage
        self.lines: list[str] = []
        self.slots: list[str] = []  # of the entry block
        self.block = "entry"
        self._n = 0
        module.functions.append(self)

    def __getitem__(self, name: str) -> Value:
        return self.args[name]

    # ---- instructions
    def fresh(self) -> str:
        self._n += 1
        return f"%v{self._n}"

    def emit(self, text: str, kind: str) -> Value:
        name = self.fresh()
        self.lines.append(f"  {name} = {text}")
        return Value(self, name, kind)

    def raw(self, text: str) -> None:
        self.lines.append("  " + text)

    def const(self, x: Any, kind: str) -> Value:
        """A number of a scalar or vector type; a scalar value spread over a vector's lanes."""
        if isinstance(x, Value):
            return self.splat(x, lanes(kind)) if lanes(kind) > lanes(x.kind) else x
        text = literal(x, element(kind))
        if lanes(kind) > 1:
            text = f"splat ({element(kind)} {text})"
        return Value(self, text, kind)

    def splat(self, x: Value, width: int) -> Value:
        if width == 1 or lanes(x.kind) > 1:
            return x
        kind = vector(x.kind, width)
        one = self.emit(f"insertelement {kind} poison, {x.kind} {x.name}, i64 0", kind)
        zeros = f"<{width} x i32> zeroinitializer"
        return self.emit(f"shufflevector {kind} {one.name}, {kind} poison, {zeros}", kind)

    def pair(self, a: Any, b: Any) -> tuple[Value, Value]:
        """Both of one type: numbers take the other's, scalars are spread over lanes."""
        if not isinstance(a, Value):
            return self.const(a, b.kind), b
        if not isinstance(b, Value):
            return a, self.const(b, a.kind)
        width = max(lanes(a.kind), lanes(b.kind))
        return self.splat(a, width), self.splat(b, width)

    def binary(self, op: str, a: Any, b: Any, flags: str = CONTRACT) -> Value:
        a, b = self.pair(a, b)
        assert a.kind == b.kind, f"{op} of {a!r} and {b!r}"
        if a.is_float:
            return self.emit(f"f{op} {flags} {a.kind} {a.name}, {b.name}", a.kind)
        if op == "div":
            op = "sdiv"
        return self.emit(f"{op} {a.kind} {a.name}, {b.name}", a.kind)

    def compare(self, predicate: str, a: Any, b: Any) -> Value:
        """`oeq`, `olt`, `une`, `uno` of floats; `eq`, `slt`, `ult` of integers."""
        a, b = self.pair(a, b)
        op = "fcmp" if a.is_float else "icmp"
        kind = like(a.kind, "i1")
        return self.emit(f"{op} {predicate} {a.kind} {a.name}, {b.name}", kind)

    def select(self, c: Value, a: Any, b: Any) -> Value:
        a, b = self.pair(a, b)
        if lanes(a.kind) > lanes(c.kind) > 1:
            raise AssertionError("select: lanes differ")
        if lanes(c.kind) > lanes(a.kind):
            a, b = self.splat(a, lanes(c.kind)), self.splat(b, lanes(c.kind))
        return self.emit(f"select {c.kind} {c.name}, {a.kind} {a.name}, {b.kind} {b.name}", a.kind)

    def cast(self, op: str, x: Value, to: str) -> Value:
        """`sitofp`, `fptrunc`, `fpext`, `sext`, `zext`, `trunc`, .. lane by lane; `to` a scalar."""
        kind = like(x.kind, to)
        return self.emit(f"{op} {x.kind} {x.name} to {kind}", kind)

    def bits(self, x: Value) -> Value:
        """A float's bits as an integer as wide."""
        return self.cast("bitcast", x, INT[element(x.kind)])

    def unbits(self, x: Value) -> Value:
        return self.cast("bitcast", x, "float" if element(x.kind) == "i32" else "double")

    def intrinsic(self, name: str, *args: Any, flags: str = "") -> Value:
        """`llvm.NAME` of operands that all have one floating type, which is the result's."""
        kind = next(x.kind for x in args if isinstance(x, Value))
        kind = vector(element(kind), max(lanes(x.kind) for x in args if isinstance(x, Value)))
        xs = [self.const(x, kind) for x in args]
        suffix = SUFFIX.get(element(kind), element(kind))
        if lanes(kind) > 1:
            suffix = f"v{lanes(kind)}{suffix}"
        called = f"@llvm.{name}.{suffix}"
        self.module.declare(f"declare {kind} {called}({', '.join([kind] * len(xs))})")
        told = ", ".join(f"{kind} {x.name}" for x in xs)
        return self.emit(f"call {flags} {kind} {called}({told})", kind)

    def fma(self, a: Any, b: Any, c: Any) -> Value:
        """a b + c, rounded once where the machine has the instruction, else twice."""
        return self.intrinsic("fma" if self.module.fma else "fmuladd", a, b, c)

    def sqrt(self, x: Value) -> Value:
        return self.intrinsic("sqrt", x)

    def fabs(self, x: Value) -> Value:
        return self.intrinsic("fabs", x)

    def rint(self, x: Value) -> Value:
        return self.intrinsic("rint", x)

    def floor(self, x: Value) -> Value:
        return self.intrinsic("floor", x)

    def copysign(self, x: Any, sign: Any) -> Value:
        return self.intrinsic("copysign", x, sign)

    def larger(self, a: Any, b: Any) -> Value:
        """b where a < b, else a: nan where a is."""
        a, b = self.pair(a, b)
        return self.select(self.compare("olt" if a.is_float else "slt", a, b), b, a)

    def smaller(self, a: Any, b: Any) -> Value:
        """b where a > b, else a: nan where a is."""
        a, b = self.pair(a, b)
        return self.select(self.compare("ogt" if a.is_float else "sgt", a, b), b, a)

    def polynomial(self, x: Value, coefficients: Any) -> Value:
        """Horner's rule, the highest power first."""
        y = self.const(coefficients[0], x.kind)
        for c in coefficients[1:]:
            y = self.fma(y, x, self.const(c, x.kind))
        return y

    def call(self, name: str, result: str, *args: Value) -> Value:
        told = ", ".join(f"{x.kind} {x.name}" for x in args)
        if result == "void":
            self.raw(f"call void @{name}({told})")
            return Value(self, "", "void")
        return self.emit(f"call {result} @{name}({told})", result)

    def math(self, name: str, *args: Any) -> Value:
        """A function of `mathematics`, of as many lanes as the operands have."""
        kind = next(x.kind for x in args if isinstance(x, Value))
        kind = vector(element(kind), max(lanes(x.kind) for x in args if isinstance(x, Value)))
        xs = [self.const(x, kind) for x in args]
        return self.call(self.module.library(name, element(kind), lanes(kind)), kind, *xs)

    # ---- memory
    def at(self, p: Value, index: Any, kind: str) -> Value:
        """The address of p[index], where p points to elements of a scalar type."""
        if not isinstance(index, Value) and index == 0:
            return p
        i = index.name if isinstance(index, Value) else str(index)
        return self.emit(f"getelementptr inbounds {kind}, ptr {p.name}, i64 {i}", "ptr")

    def load(self, p: Value, kind: str, index: Any = 0) -> Value:
        """A scalar, or a vector of neighbours, from p[index]."""
        q = self.at(p, index, element(kind))
        return self.emit(f"load {kind}, ptr {q.name}, align {BYTES[element(kind)]}", kind)

    def store(self, x: Value, p: Value, index: Any = 0) -> None:
        q = self.at(p, index, element(x.kind))
        self.raw(f"store {x.kind} {x.name}, ptr {q.name}, align {BYTES[element(x.kind)]}")

    def masked_load(
        self, p: Value, kind: str, mask: Value, index: Any = 0, other: Any = 0
    ) -> Value:
        q, inner = self.at(p, index, element(kind)), element(kind)
        name = f"@llvm.masked.load.v{lanes(kind)}{SUFFIX.get(inner, inner)}.p0"
        self.module.declare(f"declare {kind} {name}(ptr, {mask.kind}, {kind})")
        rest = self.const(other, kind)
        told = f"ptr align {BYTES[inner]} {q.name}, {mask!r}, {rest!r}"
        return self.emit(f"call {kind} {name}({told})", kind)

    def masked_store(self, x: Value, p: Value, mask: Value, index: Any = 0) -> None:
        inner = element(x.kind)
        q = self.at(p, index, inner)
        name = f"@llvm.masked.store.v{lanes(x.kind)}{SUFFIX.get(inner, inner)}.p0"
        self.module.declare(f"declare void {name}({x.kind}, ptr, {mask.kind})")
        self.raw(f"call void {name}({x!r}, ptr align {BYTES[inner]} {q.name}, {mask!r})")

    def slot(self, initial: Value) -> Value:
        """A variable in the function's frame; the optimizer turns it into a register."""
        name = self.fresh()
        self.slots.append(f"  {name} = alloca {initial.kind}")
        p = Value(self, name, "ptr")
        self.raw(f"store {initial!r}, ptr {name}")
        return p

    def room(self, kind: str, count: int = 1) -> Value:
        """Memory for `count` elements in the function's frame, on a boundary of 64 bytes."""
        name = self.fresh()
        self.slots.append(f"  {name} = alloca {kind}, i64 {count}, align 64")
        return Value(self, name, "ptr")

    def get(self, p: Value, kind: str) -> Value:
        return self.emit(f"load {kind}, ptr {p.name}", kind)

    def set(self, p: Value, x: Value) -> None:
        self.raw(f"store {x!r}, ptr {p.name}")

    # ---- lanes
    def first_lanes(self, n: Any, width: int) -> Value:
        """True in the first n lanes; n a number or an i64 value."""
        if not isinstance(n, Value):
            told = ", ".join(f"i1 {int(j < n)}" for j in range(width))
            return Value(self, f"<{told}>", vector("i1", width))
        count = self.splat(self.cast("trunc", n, "i32"), width)
        index = "<" + ", ".join(f"i32 {j}" for j in range(width)) + ">"
        kind = vector("i1", width)
        return self.emit(f"icmp slt {count.kind} {index}, {count.name}", kind)

    def across(self, x: Value, op: str) -> Value:
        """All lanes combined: `add`, `mul`, `max`, `min`."""
        if lanes(x.kind) == 1:
            return x
        kind, inner = x.kind, element(x.kind)
        suffix = f"v{lanes(kind)}{SUFFIX.get(inner, inner)}"
        if inner in FLOATS and op in ("add", "mul"):
            name = f"@llvm.vector.reduce.f{op}.{suffix}"
            start = literal(-0.0 if op == "add" else 1.0, inner)
            self.module.declare(f"declare {inner} {name}({inner}, {kind})")
            return self.emit(f"call {REORDER} {inner} {name}({inner} {start}, {x!r})", inner)
        if inner in FLOATS:  # apart from nan, which any lane brings along
            name = f"@llvm.vector.reduce.f{op}.{suffix}"
            self.module.declare(f"declare {inner} {name}({kind})")
            y = self.emit(f"call nnan nsz {inner} {name}({x!r})", inner)
            return self.select(self.across(self.compare("uno", x, x), "or"), math.nan, y)
        if op in ("max", "min"):
            op = f"s{op}"
        name = f"@llvm.vector.reduce.{op}.{suffix}"
        self.module.declare(f"declare {inner} {name}({kind})")
        return self.emit(f"call {inner} {name}({x!r})", inner)

    # ---- control
    def label(self, name: str) -> None:
        self.lines.append(f"{name}:")
        self.block = name

    def mark(self, word: str) -> str:
        self._n += 1
        return f"{word}{self._n}"

    @contextmanager
    def loop(self, start: Any, stop: Any, step: int = 1, unroll: bool = True) -> Iterator[Value]:
        """for i in range(start, stop, step), as i64 values."""
        name = self.mark("loop")
        lo, hi = (x if isinstance(x, Value) else Value(self, str(x), "i64") for x in (start, stop))
        before = self.block
        some = self.emit(f"icmp slt i64 {lo.name}, {hi.name}", "i1")
        self.raw(f"br i1 {some.name}, label %{name}.body, label %{name}.end")
        self.label(f"{name}.body")
        here = len(self.lines)
        self.lines.append("")
        i = Value(self, f"%{name}.i", "i64")
        yield i
        following = self.emit(f"add nsw i64 {i.name}, {step}", "i64")
        more = self.emit(f"icmp slt i64 {following.name}, {hi.name}", "i1")
        note = "" if unroll else f", !llvm.loop !{self.module.no_unroll()}"
        self.raw(f"br i1 {more.name}, label %{name}.body, label %{name}.end{note}")
        phi = f"phi i64 [ {lo.name}, %{before} ], [ {following.name}, %{self.block} ]"
        self.lines[here] = f"  {i.name} = {phi}"
        self.label(f"{name}.end")

    @contextmanager
    def when(self, condition: Value) -> Iterator[None]:
        name = self.mark("when")
        self.raw(f"br i1 {condition.name}, label %{name}.then, label %{name}.end")
        self.label(f"{name}.then")
        yield
        self.raw(f"br label %{name}.end")
        self.label(f"{name}.end")

    def ret(self, x: Value | None = None) -> None:
        self.raw(f"ret {x!r}" if x is not None else "ret void")

    def __str__(self) -> str:
        head = f"define {self.linkage} {self.result} @{self.name}({self.signature})"
        body = "\n".join(["entry:", *self.slots, *self.lines])
        return f"{head} {self.attributes} {{\n{body}\n}}\n"


class Module:
    """Functions with what they declare. `fma`: the machine has a fused multiply-add.

    `mathematics(module, name, kind, width) -> symbol` adds a function of the vector library; each
    is added once.
    """

    def __init__(self, mathematics: Callable[..., str] | None = None, fma: bool = True) -> None:
        self.functions: list[Function] = []
        self.declarations: dict[str, None] = {}
        self.globals: list[str] = []
        self.notes: list[str] = []
        self.fma = fma
        self._mathematics = mathematics
        self._library: dict[tuple[str, str, int], str] = {}
        self._no_unroll: int | None = None

    def declare(self, text: str) -> None:
        self.declarations[text] = None

    def library(self, name: str, kind: str, width: int) -> str:
        key = name, kind, width
        if key not in self._library:
            assert self._mathematics is not None
            self._library[key] = self._mathematics(self, name, kind, width)
        return self._library[key]

    def part(self, most: int = 16) -> None:
        """Functions of the library that are called in more places stay out of line.

        Otherwise a long chain of them is all the time there is to compile.
        """
        code = "\n".join([line for f in self.functions for line in f.lines if " call " in line])
        for f in self.functions:
            if f.name in self._library.values() and code.count(f" @{f.name}(") > most:
                f.attributes = f.attributes.replace("alwaysinline", "noinline")

    def no_unroll(self) -> int:
        """The number of the note that keeps a loop from being unrolled."""
        if self._no_unroll is None:
            n = self._no_unroll = len(self.notes)
            self.notes += [
                f"!{n} = distinct !{{!{n}, !{n + 1}}}",
                f'!{n + 1} = !{{!"llvm.loop.unroll.disable"}}',
            ]
        return self._no_unroll

    def __str__(self) -> str:
        parts = [*self.globals, *self.declarations, *map(str, self.functions), *self.notes]
        return "\n".join(parts) + "\n"
