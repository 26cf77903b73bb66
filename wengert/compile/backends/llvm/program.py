"""A list of steps as machine code: one function for the whole of it where nothing needs Python.

    void segment_0(ptr table)

`table` holds a pointer for the arena, one for each input, each output and each large constant; all
else are offsets into the arena, which is planned ahead. An operation that has no native code is
called in Python between two segments, on windows of the same memory.
"""

from __future__ import annotations

import ctypes
import math
import weakref
from collections.abc import Sequence
from time import perf_counter
from typing import Any

import numpy as np

from ....graph import Graph, Var
from ....native import cache, gemm, mathematics, pool
from ....native.ir import Function, Module, Value, vector
from ....native.target import Target, target
from ....trace import getrefcount
from ...locks import lock
from ...lower import Call, Loops, Product, Scatter, Steps, lower
from ...schedule import SERIAL, Chain, Region, rows_of, schedule
from ...storage import Private, arranged, same_places
from ...views import View
from . import blas, entry, loops

__all__ = ["Native", "build"]

ENTER, LEAVE = "call void @wg_blas_enter()", "call void @wg_blas_leave()"
ALIGN = 64
MEMORY = """
@memories = internal global [64 x ptr] zeroinitializer, align 64
declare ptr @aligned_alloc(i64, i64)
declare void @free(ptr)
declare void @abort()

define internal ptr @take_memory() nounwind {
entry:
  br label %next
next:
  %i = phi i64 [ 0, %entry ], [ %i1, %more ]
  %slot = getelementptr ptr, ptr @memories, i64 %i
  %seen = load atomic ptr, ptr %slot monotonic, align 8
  %some = icmp ne ptr %seen, null
  br i1 %some, label %grab, label %more
grab:
  %p = atomicrmw xchg ptr %slot, ptr null acquire, align 8
  %got = icmp ne ptr %p, null
  br i1 %got, label %end, label %more
more:
  %i1 = add i64 %i, 1
  %again = icmp slt i64 %i1, 64
  br i1 %again, label %next, label %new
new:
  %q = call ptr @aligned_alloc(i64 64, i64 SIZE)
  %ok = icmp ne ptr %q, null
  br i1 %ok, label %made, label %full
full:
  call void @abort()
  unreachable
made:
  ret ptr %q
end:
  ret ptr %p
}

define internal void @give_memory(ptr %p) nounwind {
entry:
  br label %next
next:
  %i = phi i64 [ 0, %entry ], [ %i1, %more ]
  %slot = getelementptr ptr, ptr @memories, i64 %i
  %put = cmpxchg ptr %slot, ptr null, ptr %p release monotonic, align 8
  %done = extractvalue { ptr, i1 } %put, 1
  br i1 %done, label %end, label %more
more:
  %i1 = add i64 %i, 1
  %again = icmp slt i64 %i1, 64
  br i1 %again, label %next, label %none
none:
  call void @free(ptr %p)
  ret void
end:
  ret void
}

define void @free_memories() nounwind {
entry:
  br label %next
next:
  %i = phi i64 [ 0, %entry ], [ %i1, %next ]
  %slot = getelementptr ptr, ptr @memories, i64 %i
  %p = atomicrmw xchg ptr %slot, ptr null acquire, align 8
  call void @free(ptr %p)
  %i1 = add i64 %i, 1
  %again = icmp slt i64 %i1, 64
  br i1 %again, label %next, label %end
end:
  ret void
}
"""
RELEASE = 20.0  # microseconds of work from which on other Python threads may run meanwhile
KEPT = 2  # arrays handed out for an output that are kept to be handed out again
IDLE = 3  # what getrefcount says of such an array that nobody else holds


def build(
    graph: Graph,
    alias: dict[int, int] | None = None,
    level: str | None = None,
    checks: Sequence[tuple[int, int, int | None]] = (),
) -> Native:
    """Machine code for a graph.

    Args:
        graph: what to compute.
        alias: outputs that may be given the memory of an input: output -> input.
        level: of the processor; the highest it has, if left out.
        checks: (input, count, spared): its integers must be at least 0 and less than count, or the
            one that is spared, if not None. The short way into the code asks that; callers of the
            long way do themselves.
    """
    made = target(level)
    blas.prepare()
    pool.prepare()
    steps = lower(graph, loops.supported, ("f", "d"), alias or {})
    return Native(steps, made, alias or {}, checks)


class Native:
    """Steps as machine code: `native(inputs, into) -> outputs`."""

    def __init__(
        self,
        steps: Steps,
        made: Target,
        alias: dict[int, int],
        checks: Sequence[tuple[int, int, int | None]] = (),
    ) -> None:
        start = perf_counter()
        self.checks = list(dict.fromkeys(checks))
        self.steps, self.target = steps, made
        self.alias = safe(steps, alias)
        self.regions = schedule(steps, self.alias)
        self.storage = arranged(steps, self.regions)
        self.plan = self.storage.plan
        self.private: Private | None = None  # of the chain that is being written
        self.segments: list[Any] = []  # names of functions, and calls of Python
        self.text = self.source()
        written = perf_counter()
        found = blas.find()
        interface = found.name if self.library_used and found is not None else ""
        self.library = cache.compiled(self.text, made, blas=interface)
        self.segments = [
            self.library.function(s, None, ctypes.c_void_p) if isinstance(s, str) else s
            for s in self.segments
        ]
        self.seconds = {"write": written - start, "compile": perf_counter() - written}
        for kind in self.later:
            gemm.prepare_later(kind)
        self.table = np.zeros(1 + len(self.storage.outside), np.int64)
        self.address = self.table.ctypes.data
        raw = np.empty(self.plan.size + 4096, np.uint8)
        self.arena = raw[-raw.ctypes.data % 4096 :][: self.plan.size]
        self.table[0] = self.arena.ctypes.data
        for k, a in enumerate(self.storage.constants):
            self.table[1 + self.storage.first_constant + k] = a.ctypes.data
        self.spare: list[list[Any]] = [[] for _ in steps.outputs]
        self.lock = lock()  # runs share the arena
        if self.storage.private:
            weakref.finalize(self, self.library.function("free_memories"))
        self.entry = self.entered() if self.short else None
        self.calls = [self.prepared(s) if isinstance(s, Call) else s for s in self.segments]

    # ---- memory
    def pointer(self, f: Function, table: Value, base: Any) -> Value:
        """The address of a storage."""
        at = self.storage
        slot = at.slots.get(id(base))
        if slot is not None:
            return f.load(table, "ptr", slot)
        if self.private is not None and id(base) in self.private.offsets:
            # a piece has its own part alone: the address of what would be the whole
            start = f["piece"] * (self.chain_now.block * self.private.row[id(base)])
            here = f.emit(f"ptrtoint ptr {self.own_memory.name} to i64", "i64")
            here = here + self.private.offsets[id(base)] - start
            return f.emit(f"inttoptr i64 {here.name} to ptr", "ptr")
        return f.at(f.load(table, "ptr", 0), at.offsets[id(base)], "i8")

    # ---- code
    def source(self) -> str:
        module = Module(mathematics.add, self.target.fma)
        self.module = module
        found = blas.find()
        self.kernels: dict[Any, str] = {}  # the functions of kernels
        f: Function | None = None
        self.library_used = False
        self.later: list[str] = []
        self.own: dict[str, set[tuple[int, int]]] = {}  # our own products: kind -> (rows, columns)

        def close() -> None:
            if f is not None:
                f.raw(LEAVE)
                f.ret()

        for k, region in enumerate(self.regions):
            if region.call is not None:
                close()
                f = None
                self.segments.append(region.call)
                continue
            if f is None:
                name = f"segment_{len(self.segments)}"
                f = Function(module, name, [("table", "ptr")])
                self.segments.append(name)
                f.raw(ENTER)
            self.region(f, k, region)
        close()
        self.work = sum(r.work for r in self.regions)
        self.releases = self.work > RELEASE
        self.short = entry.possible() and len(self.segments) == 1
        self.short = self.short and isinstance(self.segments[0], str)
        out = self.steps.outputs
        self.scalar = (
            self.short and len(out) == 1 and isinstance(out[0], Var) and out[0].shape == ()
            and out[0].dtype.char == "d" and not self.checks and not self.releases
        )  # fmt: skip
        if self.short:
            entry.write(module, self)
            if self.checks:
                entry.write_check(module, self)
        self.products()
        if self.library_used:
            module.declare("declare void @wg_blas_enter()")
            module.declare("declare void @wg_blas_leave()")
        module.part()
        text = str(module)
        if self.storage.private:
            text = text.replace("declare ptr @take_memory()\n", "")
            text = MEMORY.replace("SIZE", str(self.storage.own)) + text
        if not self.library_used:
            return text.replace(f"  {ENTER}\n", "").replace(f"  {LEAVE}\n", "")
        assert found is not None
        return blas.wrappers(found) + text

    def region(self, f: Function, k: int, region: Region) -> None:
        """One piece after the other, or all of them on the pool."""
        units = region.units()
        name = f"region_{k}"
        g = Function(self.module, name, [("table", "ptr"), ("unit", "i32")], linkage="internal")
        for c, chain in enumerate(region.chains):
            self.chain(k, c, chain)
        first = 0
        for c, chain in enumerate(region.chains):
            g.raw(f"%in{c} = icmp ult i32 %unit, {first + chain.pieces}")
            g.raw(f"br i1 %in{c}, label %chain{c}, label %after{c}")
            g.label(f"chain{c}")
            g.raw(f"%piece{c} = sub i32 %unit, {first}")
            g.raw(f"%wide{c} = zext i32 %piece{c} to i64")
            g.raw(f"call void @chain_{k}_{c}(ptr %table, i64 %wide{c})")
            g.raw("ret void")
            g.label(f"after{c}")
            first += chain.pieces
        g.ret()
        if len(units) > 1 and region.work > SERIAL:
            self.module.declare("declare void @wg_parallel(ptr, ptr, i32)")
            f.raw(f"call void @wg_parallel(ptr @{name}, ptr %table, i32 {len(units)})")
        elif len(units) == 1:
            f.raw(f"call void @{name}(ptr %table, i32 0)")
        else:
            with f.loop(0, len(units)) as i:
                unit = f.cast("trunc", i, "i32")
                f.raw(f"call void @{name}(ptr %table, {unit!r})")

    def chain(self, k: int, c: int, chain: Chain) -> None:
        """A function of one piece of a chain."""
        f = Function(
            self.module, f"chain_{k}_{c}", [("table", "ptr"), ("piece", "i64")], linkage="internal"
        )
        piece = f["piece"]
        self.private, self.chain_now = self.storage.private.get(id(chain)), chain
        if self.private is not None:
            self.module.declare("declare ptr @take_memory()")
            self.own_memory = f.emit("call ptr @take_memory()", "ptr")
        for step in chain.steps:
            rows = rows_of(step)
            each = rows // chain.rows * chain.block
            if chain.pieces == 1:
                lo, hi = f.const(0, "i64"), f.const(rows, "i64")
            else:
                lo = piece * each
                hi = lo + each
                if rows % each:
                    hi = f.smaller(hi, rows)
            if isinstance(step, Loops):
                self.loops(f, step, lo, hi, piece)
            elif isinstance(step, Scatter):
                self.scatter(f, step)
            else:
                assert isinstance(step, Product)
                self.product(f, step, lo, hi, each)
        if self.private is not None:
            f.raw(f"call void @give_memory({self.own_memory!r})")
        self.private = None
        f.ret()

    def scatter(self, f: Function, step: Scatter) -> None:
        """Zeros, and then one row after the other added where it belongs."""
        kind = {"f": "float", "d": "double"}[step.dtype.char]
        each, size = step.each, step.dtype.itemsize
        out, rows, at = (
            self.pointer(f, f["table"], x) for x in (step.out, step.rows.base, step.at.base)
        )
        self.module.declare("declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)")
        total = step.out.size * size
        f.raw(f"call void @llvm.memset.p0.i64(ptr {out.name}, i8 0, i64 {total}, i1 false)")
        width = self.target.native_bytes // size
        with f.loop(0, step.count) as i:
            k = f.load(at, f"i{8 * step.kind.itemsize}", i)
            k = k if step.kind.itemsize == 8 else f.cast("sext", k, "i64")
            to, row = f.at(out, k * each, kind), f.at(rows, i * each, kind)
            many = each // width * width
            if many:
                with f.loop(0, many, width) as j:
                    v = vector(kind, width)
                    f.store(f.load(to, v, j) + f.load(row, v, j), to, j)
            if each > many:
                with f.loop(many, each) as j:
                    f.store(f.load(to, kind, j) + f.load(row, kind, j), to, j)

    def loops(self, f: Function, step: Loops, lo: Value, hi: Value, piece: Value) -> None:
        """A call of the kernel's function, which equal kernels share, with its pointers."""
        name = self.kernels.get(step.kernel)
        if name is None:
            name = self.kernels[step.kernel] = f"loops_{len(self.kernels)}"
            first = len(self.module.functions)
            loops.emit(
                self.module, name, step.kernel,
                width=loops.width(step.kernel, self.target.native_bytes),
            )  # fmt: skip
            made = self.module.functions[first]  # those of numbers that it calls follow
            made.linkage, made.attributes = "internal", "noinline nounwind"
        args = f.fresh()
        f.slots.append(f"  {args} = alloca [{max(1, len(step.args))} x ptr]")
        for n, base in enumerate(step.args):
            f.store(self.pointer(f, f["table"], base), Value(f, args, "ptr"), n)
        f.raw(f"call void @{name}(ptr {args}, {lo!r}, {hi!r}, {piece!r})")

    def product(self, f: Function, step: Product, lo: Value, hi: Value, block: int) -> None:
        """Rows lo to hi of a product, or matrices lo to hi of a batch."""
        kind = {"f": "float", "d": "double"}[step.dtype.char]
        a, b = step.a, step.b
        m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
        lead = step.out.shape[:-2]
        (ta, lda), (tb, ldb) = transposed(a), transposed(b)
        whole = math.prod(lead) > 1
        rest = m % block if not whole else 0
        sizes = {m if whole else min(block, m), *([rest] if rest else [])}
        name = self.multiplier(kind, sizes, n, k, bool(tb))
        pa, pb, pc = (self.pointer(f, f["table"], x) for x in (a.base, b.base, step.out))
        pa, pb = f.at(pa, a.offset, kind), f.at(pb, b.offset, kind)
        steps_a, steps_b = batch_strides(a, lead), batch_strides(b, lead)
        one, zero = "0x3FF0000000000000", "0x0000000000000000"

        def call(rows: Value, pa: Value, pb: Value, pc: Value) -> None:
            f.raw(
                f"call void @{name}(i32 {ta}, i32 {tb}, {rows!r}, i64 {n}, i64 {k}, {kind} {one}, "
                f"ptr {pa.name}, i64 {lda}, ptr {pb.name}, i64 {ldb}, {kind} {zero}, "
                f"ptr {pc.name}, i64 {n})"
            )

        def nest(axis: int, pa: Value, pb: Value, pc: Value) -> None:
            if axis == len(lead):
                return call(f.const(m, "i64"), pa, pb, pc)
            step_c = math.prod(lead[axis + 1 :]) * m * n
            ends = (lo, hi) if axis == 0 and lead[0] > 1 else (0, lead[axis])
            with f.loop(*ends) as i:
                nest(
                    axis + 1,
                    f.at(pa, i * steps_a[axis], kind) if steps_a[axis] else pa,
                    f.at(pb, i * steps_b[axis], kind) if steps_b[axis] else pb,
                    f.at(pc, i * step_c, kind),
                )
            return None

        if math.prod(lead) > 1:
            nest(0, pa, pb, pc)
        else:
            rows = hi - lo
            call(rows, f.at(pa, lo * a.strides[-2], kind), pb, f.at(pc, lo * n, kind))

    def multiplier(self, kind: str, rows: set[int], n: int, k: int, tb: bool) -> str:
        """The function for products of such a size: our own, or the library's."""
        m = max(rows)
        suffix = "f32" if kind == "float" else "f64"
        if blas.find() is not None and not gemm.preferred(self.target, m, n, k, tb):
            self.library_used = True
            return f"gemm_{suffix}"
        shapes = self.own.setdefault(kind, set())
        shapes.update((r, n) for r in rows)
        return f"wg_gemm_{suffix}"

    def products(self) -> None:
        """Our own products: those of the process, or a few in the module until those are there."""
        sizes = "i32, i32, i64, i64, i64"
        for kind, shapes in sorted(self.own.items()):
            name = f"wg_gemm_{'f32' if kind == 'float' else 'f64'}"
            if gemm.at_hand(kind):
                gemm.prepare(kind)
                told = f"{sizes}, {kind}, ptr, i64, ptr, i64, {kind}, ptr, i64"
                self.module.declare(f"declare void @{name}({told})")
            else:
                gemm.scratch()
                gemm.emit(self.module, name, kind, self.target, sorted(shapes))
                self.module.functions[-1].linkage = "internal"
                self.later.append(kind)

    # ---- Python's part
    def entered(self) -> Any:
        """A function of Python's that takes the arrays themselves."""
        if self.scalar:
            self.number = np.zeros(1)
            self.table[1 + len(self.steps.inputs)] = self.number.ctypes.data
        return entry.function(self.library, self.table)

    def asked(self) -> Any:
        """A function that takes the labels alone, in the order of `checks`: true if one is none."""
        return entry.function(self.library, self.table, "check")

    def prepared(self, step: Call) -> Any:
        """A function that evaluates one operation on windows of the arena."""
        impl = step.op.impl
        weak = [isinstance(v, Var) and v.aval.weak for v in step.lines[0].inputs]

        def evaluate() -> None:
            xs = [self.array(x) if isinstance(x, View) else x for x in step.inputs]
            xs = [x.item() if yields else x for x, yields in zip(xs, weak)]
            try:
                ys = impl(*xs)
            except (ValueError, TypeError, IndexError) as error:
                raise step.op.refusal(tuple(xs), error) from error
            for v, y in zip(step.outputs, ys if isinstance(ys, tuple) else (ys,)):
                self.numbers(v).reshape(v.shape)[...] = y

        return evaluate

    def numbers(self, base: Any) -> Any:
        """A storage that Python sees, as an array of one axis."""
        at = self.storage
        slot = at.slots.get(id(base))
        if slot is None:
            size = base.size * base.dtype.itemsize
            start = at.offsets[id(base)]
            return self.arena[start : start + size].view(base.dtype)
        if isinstance(base, Var):
            return self.now[slot - 1].reshape(-1)
        return at.constants[slot - 1 - at.first_constant].reshape(-1)

    def array(self, view: View) -> Any:
        a = self.numbers(view.base)
        item = a.itemsize
        return np.lib.stride_tricks.as_strided(
            a[view.offset :] if view.offset else a, view.shape, [s * item for s in view.strides]
        )

    # ---- a run
    def __call__(self, inputs: Sequence[Any], into: Sequence[Any]) -> list[Any]:
        """One run. into[j]: memory for output j, or None for new memory."""
        with self.lock:
            return self.run(inputs, into)

    def run(self, inputs: Sequence[Any], into: Sequence[Any]) -> list[Any]:
        table = self.table
        held = []
        for k, (v, x) in enumerate(zip(self.steps.inputs, inputs)):
            if x.__class__ is not np.ndarray or x.dtype != v.dtype or not x.flags.c_contiguous:
                x = np.ascontiguousarray(x, v.dtype)
            held.append(x)
            table[1 + k] = x.ctypes.data
        n = len(held)
        outputs: list[Any] = []
        for j, (v, given) in enumerate(zip(self.steps.outputs, into)):
            if not isinstance(v, Var):
                outputs.append(np.array(v) if v is not None else None)
                continue
            if given is not None and not self.takes(given, v, j, inputs):
                given = None
            y = given if given is not None else self.fresh(j, v)
            outputs.append(y)
            table[1 + n + j] = y.ctypes.data
        if self.entry is not None and not any(
            v.aval.weak and v.dtype.char != "d" for v in self.steps.inputs
        ):
            return self.enter(held, outputs)
        self.now = held + outputs
        with np.errstate(all="ignore"):
            for s in self.calls:
                s(self.address) if not callable_of_python(s) else s()
        self.now = []
        if self.scalar:
            self.table[1 + n] = self.number.ctypes.data
        return outputs

    def enter(self, held: list[Any], outputs: list[Any]) -> list[Any]:
        """A run all in one, as on the short way, which may be on its way in another thread."""
        assert self.entry is not None
        xs = [x.item() if v.aval.weak else x for v, x in zip(self.steps.inputs, held)]
        if self.scalar:
            self.table[1 + len(held)] = self.number.ctypes.data
            outputs[0][...] = self.entry(*xs)
        elif self.entry(*xs, *outputs):
            raise IndexError("a label names no class")
        return outputs

    def takes(self, given: Any, v: Var, j: int, inputs: Sequence[Any]) -> bool:
        """Whether an output can go right there."""
        if given.dtype != v.dtype or given.shape != v.shape or not given.flags.carray:
            return False  # carray: of a piece, aligned, and writeable
        i = self.alias.get(j)
        return all(x is not given or k == i for k, x in enumerate(inputs))

    def fresh(self, j: int, v: Var) -> Any:
        """New memory, or that of an earlier output which nobody holds any more."""
        kept = self.spare[j]
        for a in kept:
            if getrefcount(a) <= IDLE:
                return a
        a = np.empty(v.shape, v.dtype)
        if len(kept) < KEPT and a.nbytes >= 4096:
            kept.append(a)
        return a


def callable_of_python(s: Any) -> bool:
    return not hasattr(s, "library")


def transposed(x: View) -> tuple[int, int]:
    """(whether BLAS must transpose, the leading dimension) of the last two axes."""
    (rows, cols), (s, t) = x.shape[-2:], x.strides[-2:]
    if (t == 1 or cols == 1) and (s >= max(1, cols) or rows == 1):
        return 0, max(s if rows > 1 else cols, cols, 1)
    if (s == 1 or rows == 1) and (t >= max(1, rows) or cols == 1):
        return 1, max(t if cols > 1 else rows, rows, 1)
    raise AssertionError(f"{x} is no operand of a product")


def batch_strides(x: View, lead: tuple[int, ...]) -> list[int]:
    shape, strides = x.shape[:-2], x.strides[:-2]
    more = len(lead) - len(shape)
    return [0] * more + [0 if n == 1 else s for n, s in zip(shape, strides)]


def safe(steps: Steps, alias: dict[int, int]) -> dict[int, int]:
    """The outputs that may be written over their inputs: nobody reads those afterwards."""
    writers: dict[int, list[int]] = {}
    readers: dict[int, list[int]] = {}
    for k, s in enumerate(steps.steps):
        for v in s.writes:
            writers.setdefault(id(v), []).append(k)
        for v in s.reads():
            readers.setdefault(id(v), []).append(k)
    found = {}
    for j, i in alias.items():
        out, given = steps.outputs[j], steps.inputs[i]
        if not isinstance(out, Var) or (out.shape, out.dtype) != (given.shape, given.dtype):
            continue
        first = min(writers.get(id(out), [-1]))
        late = [k for k in readers.get(id(given), ()) if k >= first]
        if first >= 0 and all(k == first and same_places(steps.steps[k], given, out) for k in late):
            found[j] = i
    return found
