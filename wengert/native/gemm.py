"""A matrix product generated for the machine.

    C = alpha op(A) op(B) + beta C          op(A) [m, k], op(B) [k, n], C [m, n], row-major

The result is computed in tiles of a few rows by a few vectors that stay in registers while k runs:
in each step a row of the tile of B is loaded and multiplied by one element of A for each row of the
tile. For that, a block of B is copied into panels as wide as a tile, and the rows of A of a tile
are copied with k as the slow axis; on the way they are transposed where that is asked for, so that
NN, NT and TN run at one speed. The blocks are chosen for the caches:

    a row-panel of A, rows x kc, in the first level     a block of B, kc x nc, in the second

What lies in memory as its panels would, and is not used often enough to pay for a copy, is read
from where it is. Nothing beyond the edges of a matrix is read or written.

All tiles take a third of a second to compile: a caller that knows its shapes asks for those they
need (`shapes` of `emit`), in its own module; `prepare` loads all of them, which are kept on disk.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from itertools import product as product_of
from threading import Thread
from typing import Any

from .cache import cached, compiled, kept, key
from .engine import Library, add_symbol, compile_ir, load
from .ir import BYTES, SUFFIX, Function, Module, Value, vector
from .target import Target
from .target import target as find_target

__all__ = ["Blocking", "blocking", "emit", "preferred", "prepare", "scratch", "source", "tiles"]


@dataclass(frozen=True, slots=True)
class Blocking:
    """Sizes of a product of one type on one target.

    Args:
        rows, vectors: of a tile.
        lanes: elements of a vector.
        kc, nc: a block of B.
        masks: whether part of a vector is loaded and stored as fast as all of it.
    """

    rows: int
    vectors: int
    lanes: int
    kc: int
    nc: int
    masks: bool = False

    @property
    def columns(self) -> int:
        return self.vectors * self.lanes

    @property
    def groups(self) -> int:
        """Vectors that hold an element of each row."""
        return -(-self.rows // self.lanes)

    @property
    def stride(self) -> int:
        """From one k to the next in a panel of A."""
        return self.groups * self.lanes

    @property
    def elements(self) -> int:
        """Of the scratch memory: a block of B and a panel of A, with room for whole vectors."""
        k = self.kc + self.lanes
        return k * (self.nc + self.columns) + k * self.stride


FEW, NEAR = 10, 12 << 20  # row blocks, and bytes of B, up to which B is not copied
NARROW = 128  # columns up to which rows of a transposed A are not copied
TILES = {"avx512": (14, 2), "avx2": (6, 2), "sse2": (4, 2), "neon": (8, 2), "generic": (4, 2)}


def blocking(target: Target, kind: str) -> Blocking:
    """The sizes for `float` or `double`."""
    rows, vectors = TILES[target.name]
    wide = target.native_bytes == 64
    nc = (512 if wide else 256) * 4 // BYTES[kind]
    return Blocking(rows, vectors, target.lanes(kind), 256, nc, wide)


BUFFER = 1 << 20  # bytes; only what is used becomes memory
SCRATCH = """
@buffers = internal global [64 x ptr] zeroinitializer, align 64
declare ptr @malloc(i64)
declare void @free(ptr)
declare void @abort()

define ptr @take() nounwind {
entry:
  br label %next
next:
  %i = phi i64 [ 0, %entry ], [ %i1, %more ]
  %slot = getelementptr ptr, ptr @buffers, i64 %i
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
  %q = call ptr @malloc(i64 1048576)
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

define void @give(ptr %p) nounwind {
entry:
  br label %next
next:
  %i = phi i64 [ 0, %entry ], [ %i1, %more ]
  %slot = getelementptr ptr, ptr @buffers, i64 %i
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
"""


def transposed(f: Function, rows: list[Value]) -> list[Value]:
    """A square of vectors, transposed: within 16 bytes first, then the 16-byte parts."""
    kind = rows[0].kind
    width = len(rows)
    part = 16 // BYTES["float" if "float" in kind else "double"]  # elements of 16 bytes

    def pick(a: Value, b: Value, places: list[int]) -> Value:
        told = ", ".join(f"i32 {p}" for p in places)
        return f.emit(f"shufflevector {a!r}, {b!r}, <{width} x i32> <{told}>", kind)

    def zipped(a: Value, b: Value, run: int) -> tuple[Value, Value]:
        """Runs of elements of a and b in turns, from the lower and from the upper halves of each
        16-byte part."""
        out = []
        for half in (0, 1):
            places = []
            for start in range(0, width, part):
                for r in range(0, part // 2, run):
                    at = start + half * (part // 2) + r
                    places += [*range(at, at + run), *range(width + at, width + at + run)]
            out.append(pick(a, b, places))
        return out[0], out[1]

    run = 1
    while run < part:  # rows i and i + run of a group of 2 run
        new: list[Value] = list(rows)
        for start in range(0, width, part):
            group = rows[start : start + part]
            made: list[Value] = []
            half = part // 2
            if part == 4 and run == 1:
                a, b = zipped(group[0], group[1], 1)
                c, d = zipped(group[2], group[3], 1)
                made = [a, c, b, d]
            elif part == 4:
                made = [*zipped(group[0], group[1], 2), *zipped(group[2], group[3], 2)]
            else:
                made = list(zipped(group[0], group[1], 1))
            assert len(made) == 2 * half
            new[start : start + part] = made
        rows, run = new, run * 2
    parts = width // part
    # now rows[part g + q] has, in its l-th part, column part l + q of the rows of group g
    out: list[Value] = list(rows)
    for q in range(part):
        line = [rows[part * g + q] for g in range(parts)]
        for place, v in enumerate(turned(line, pick, part, parts)):
            out[part * place + q] = v
    return out


def turned(line: list[Value], pick: Any, part: int, parts: int) -> list[Value]:
    """parts x parts parts of 16 bytes, transposed."""
    if parts == 1:
        return line
    whole = part * parts

    def parts_of(a: Value, b: Value, places: list[tuple[int, int]]) -> Value:
        return pick(
            a, b, [which * whole + part * at + e for which, at in places for e in range(part)]
        )

    if parts == 2:
        a, b = line
        return [parts_of(a, b, [(0, p), (1, p)]) for p in (0, 1)]
    a, b, c, d = line
    even, odd = [(0, 0), (0, 2), (1, 0), (1, 2)], [(0, 1), (0, 3), (1, 1), (1, 3)]
    ab0, ab1 = parts_of(a, b, even), parts_of(a, b, odd)
    cd0, cd1 = parts_of(c, d, even), parts_of(c, d, odd)
    return [
        parts_of(ab0, cd0, even), parts_of(ab1, cd1, even),
        parts_of(ab0, cd0, odd), parts_of(ab1, cd1, odd),
    ]  # fmt: skip


# ---- a tile
def tile(module: Module, name: str, kind: str, rows: int, vectors: int, by: Blocking) -> None:
    """C = alpha A B + beta C for one tile; the last vector has `columns` - (vectors - 1) lanes."""
    vec, width = vector(kind, by.lanes), by.lanes
    f = Function(
        module, name,
        [("a", "ptr"), ("sa", "i64"), ("b", "ptr"), ("sb", "i64"), ("c", "ptr"), ("ldc", "i64"),
         ("k", "i64"), ("columns", "i64"), ("alpha", kind), ("beta", kind)],
        linkage="internal", attributes="noinline nounwind",
    )  # fmt: skip
    sums = [[f.slot(f.const(0.0, vec)) for _ in range(vectors)] for _ in range(rows)]
    a, b = f.slot(f["a"]), f.slot(f["b"])

    def steps(n: int) -> None:
        pa, pb = f.get(a, "ptr"), f.get(b, "ptr")
        for _ in range(n):
            right = [f.load(pb, vec, v * width) for v in range(vectors)]
            for i, line in enumerate(sums):
                left = f.splat(f.load(pa, kind, i), width)
                for s, x in zip(line, right):
                    f.set(s, f.fma(left, x, f.get(s, vec)))
            pa, pb = f.at(pa, f["sa"], kind), f.at(pb, f["sb"], kind)
        f.set(a, pa)
        f.set(b, pb)

    # at once: with one a large step takes 4 % longer, and with four no less
    many = 4 if width * BYTES[kind] == 16 else 2
    most = f["k"] & -many
    with f.loop(0, most, many, unroll=False):
        steps(many)
    with f.loop(most, f["k"], 1, unroll=False):
        steps(1)

    alpha, beta = f.splat(f["alpha"], width), f.splat(f["beta"], width)

    def finish(whole: bool, old: bool) -> None:
        last = None if whole else f.first_lanes(f["columns"] - (vectors - 1) * width, width)
        for i in range(rows):
            line = f.at(f["c"], f["ldc"] * i, kind)
            for v in range(vectors):
                y = f.get(sums[i][v], vec) * alpha
                mask = last if v == vectors - 1 else None
                at = v * width
                if old:
                    was = (
                        f.load(line, vec, at) if mask is None
                        else f.masked_load(line, vec, mask, at)
                    )  # fmt: skip
                    y = f.fma(was, beta, y)
                if mask is None:
                    f.store(y, line, at)
                else:
                    f.masked_store(y, line, mask, at)

    zero = f.compare("oeq", f["beta"], 0.0)
    full = f.compare("eq", f["columns"], vectors * width)
    cases = [(None, False)] if by.masks else [(full, True), (~full, False)]
    for condition, whole in cases:
        with f.when(condition) if condition is not None else nullcontext():
            with f.when(zero):
                finish(whole, False)
            with f.when(~zero):
                finish(whole, True)
    f.ret()


# ---- copies
def copy_a(module: Module, name: str, kind: str, across: bool, by: Blocking) -> None:
    """Rows of op(A) into a panel [k, stride]; `across`: A is stored [k, m]."""
    vec, width = vector(kind, by.lanes), by.lanes
    f = Function(
        module, name,
        [("to", "ptr"), ("a", "ptr"), ("lda", "i64"), ("rows", "i64"), ("k", "i64"),
         ("room", "i64")],
        linkage="internal", attributes="noinline nounwind",
    )  # fmt: skip
    if across:  # room: elements that may be read from a line
        for g in range(by.groups):
            enough = f.compare("sge", f["room"], (g + 1) * width)
            some = f.compare("sgt", f["rows"], g * width)
            for whole in (True, False):
                with f.when((enough if whole else ~enough) & some):
                    mask = None if whole else f.first_lanes(f["rows"] - g * width, width)
                    with f.loop(0, f["k"], 1) as p:
                        line = f.at(f["a"], p * f["lda"] + g * width, kind)
                        x = f.load(line, vec) if mask is None else f.masked_load(line, vec, mask)
                        f.store(x, f["to"], p * by.stride + g * width)
        f.ret()
        return
    squares(f, kind, by.groups, by.stride, f["a"], f["lda"], f["rows"], by)
    f.ret()


def squares(
    f: Function, kind: str, groups: int, stride: int, x: Value, ld: Value, rows: Value, by: Blocking
) -> None:
    """to[k, stride] = x[rows, k]^T, square by square."""
    for g in range(groups):
        with f.when(f.compare("sgt", rows, g * by.lanes)):
            last = f.smaller(rows - (g * by.lanes + 1), by.lanes - 1)
            line = f.at(x, ld * (g * by.lanes), kind)
            with f.loop(0, f["k"], by.lanes, unroll=False) as p:
                to, source = f.at(f["to"], p * stride + g * by.lanes, kind), f.at(line, p, kind)
                f.raw(
                    f"call void @{square_name(f.name)}({to!r}, i64 {stride}, {source!r}, {ld!r}, "
                    f"{last!r}, {f['k'] - p!r})"
                )


def square_name(name: str) -> str:
    return name.rpartition("_")[0] + "_square"


def square(module: Module, name: str, kind: str, by: Blocking) -> None:
    """to[:, :] = x^T of one square; lines beyond `last` repeat it, columns from k on are zero."""
    vec, width = vector(kind, by.lanes), by.lanes
    f = Function(
        module, name,
        [("to", "ptr"), ("stride", "i64"), ("x", "ptr"), ("ld", "i64"), ("last", "i64"),
         ("k", "i64")],
        linkage="internal", attributes="noinline nounwind",
    )  # fmt: skip
    lines = [f.at(f["x"], f.smaller(f["last"], i) * f["ld"], kind) for i in range(width)]

    def turn(mask: Value | None) -> None:
        rows = [
            f.load(line, vec) if mask is None else f.masked_load(line, vec, mask) for line in lines
        ]
        for q, v in enumerate(transposed(f, rows)):
            f.store(v, f["to"], f["stride"] * q)

    if by.masks:
        turn(f.first_lanes(f["k"], width))
    else:
        whole = f.compare("sge", f["k"], width)
        with f.when(whole):
            turn(None)
        with f.when(~whole):
            turn(f.first_lanes(f["k"], width))
    f.ret()


def copy_b(module: Module, name: str, kind: str, across: bool, by: Blocking) -> None:
    """One panel of op(B), [k, columns]; `across`: B is stored [n, k]."""
    vec, width = vector(kind, by.lanes), by.lanes
    f = Function(
        module, name,
        [("to", "ptr"), ("b", "ptr"), ("ldb", "i64"), ("columns", "i64"), ("k", "i64")],
        linkage="internal", attributes="noinline nounwind",
    )  # fmt: skip
    if across:
        squares(f, kind, by.vectors, by.columns, f["b"], f["ldb"], f["columns"], by)
        f.ret()
        return
    full = f.compare("sge", f["columns"], by.columns)
    for whole in (True, False):
        with f.when(full if whole else ~full):
            masks = [
                None if whole else f.first_lanes(f["columns"] - v * width, width)
                for v in range(by.vectors)
            ]
            with f.loop(0, f["k"], 1) as p:
                line, to = f.at(f["b"], p * f["ldb"], kind), f.at(f["to"], p * by.columns, kind)
                for v, mask in enumerate(masks):
                    x = (
                        f.load(line, vec, v * width) if mask is None
                        else f.masked_load(line, vec, mask, v * width)
                    )  # fmt: skip
                    f.store(x, to, v * width)
    f.ret()


# ---- the product
def tiles(m: int, n: int, by: Blocking) -> set[tuple[int, int]]:
    """(rows, vectors) of the tiles that a product of m rows and n columns is made of."""
    if m < 1 or n < 1:
        return set()
    blocks = -(-m // by.rows)
    vectors = {by.vectors} if n >= by.columns else set()
    if n % by.columns:
        vectors.add(-(-(n % by.columns) // by.lanes))
    return {(r, v) for r in (m // blocks, -(-m // blocks)) for v in vectors}


def emit(
    module: Module,
    name: str,
    kind: str,
    target: Target,
    shapes: Iterable[tuple[int, int]] | None = None,
    by: Blocking | None = None,
) -> None:
    """The function @name, with the signature of `blas.wrappers`, and what it needs.

    `scratch` must have been called when the module is loaded.

    Args:
        module, name: where it goes.
        kind: `float` or `double`.
        target: the machine.
        shapes: the (m, n) of all the products that it will be called for; None: of any.
        by: other sizes than `blocking` gives.
    """
    by = by or blocking(target, kind)
    assert by.elements * BYTES[kind] + 64 <= BUFFER
    for line in ("ptr @wg_scratch_take()", "void @wg_scratch_give(ptr)"):
        module.declare(f"declare {line}")
    square(module, f"{name}_square", kind, by)
    for across in (False, True):
        copy_a(module, f"{name}_a{int(across)}", kind, across, by)
        copy_b(module, f"{name}_b{int(across)}", kind, across, by)
    all_tiles = set(product_of(range(1, by.rows + 1), range(1, by.vectors + 1)))
    made = all_tiles if shapes is None else set().union(*(tiles(m, n, by) for m, n in shapes))
    table = []
    for rows, vectors in sorted(all_tiles):
        if (rows, vectors) in made:
            tile(module, f"{name}_{rows}_{vectors}", kind, rows, vectors, by)
        table.append(f"ptr @{name}_{rows}_{vectors}" if (rows, vectors) in made else "ptr null")
    count = len(table)
    module.globals.append(f"@{name}_tiles = internal constant [{count} x ptr] [{', '.join(table)}]")
    f = Function(
        module, name,
        [("ta", "i32"), ("tb", "i32"), ("m", "i64"), ("n", "i64"), ("k", "i64"), ("alpha", kind),
         ("a", "ptr"), ("lda", "i64"), ("b", "ptr"), ("ldb", "i64"), ("beta", kind), ("c", "ptr"),
         ("ldc", "i64")],
        attributes="nounwind",
    )  # fmt: skip
    m, n, k = f["m"], f["n"], f["k"]
    some = f.compare("sgt", k, 0)
    with f.when(~some):  # C = beta C
        zero = f.compare("oeq", f["beta"], 0.0)
        with f.loop(0, m, 1) as i, f.loop(0, n, 1) as j:
            place = f.at(f["c"], i * f["ldc"] + j, kind)
            f.store(f.select(zero, 0.0, f.load(place, kind) * f["beta"]), place)
    with f.when(some & f.compare("sgt", m, 0) & f.compare("sgt", n, 0)):
        blocked(f, name, kind, by)
    f.ret()


def ceil_div(f: Function, a: Value, b: int) -> Value:
    return (a + (b - 1)) / b


def blocked(f: Function, name: str, kind: str, by: Blocking) -> None:
    m, n, k = f["m"], f["n"], f["k"]
    raw = f.emit("call ptr @wg_scratch_take()", "ptr")
    address = (f.emit(f"ptrtoint ptr {raw.name} to i64", "i64") + 63) & -64
    panels = f.emit(f"inttoptr i64 {address.name} to ptr", "ptr")
    panel_a = f.at(panels, (by.kc + by.lanes) * (by.nc + by.columns), kind)
    ta, tb = f.compare("ne", f["ta"], 0), f.compare("ne", f["tb"], 0)
    parts = ceil_div(f, k, by.kc)
    step_k = f.binary("sdiv", k + parts - 1, parts)  # equal parts
    blocks = ceil_div(f, m, by.rows)
    few = f.compare("sle", blocks, FEW) & f.compare("sle", k * n, NEAR // BYTES[kind])
    one, lda, ldb = Value(f, "1", "i64"), f["lda"], f["ldb"]
    a_row, a_k = f.select(ta, one, lda), f.select(ta, lda, one)
    b_k, b_column = f.select(tb, one, ldb), f.select(tb, ldb, one)
    copy_a = f.emit(f"select i1 {ta.name}, ptr @{name}_a1, ptr @{name}_a0", "ptr")
    copy_b = f.emit(f"select i1 {tb.name}, ptr @{name}_b1, ptr @{name}_b0", "ptr")
    unit = f.const(1.0, kind)
    with f.loop(0, n, by.nc, unroll=False) as jc:
        nb = f.smaller(n - jc, by.nc)
        # full panels of a B that is not transposed stay where they are when one row block uses them
        in_place = f.select(few & ~tb, nb - f.binary("srem", nb, by.columns), 0)
        with f.loop(0, parts, 1, unroll=False) as part:
            pc = part * step_k
            kb = f.smaller(k - pc, step_k)
            room = kb + (by.lanes - 1) & -by.lanes
            beta = f.select(f.compare("eq", pc, 0), f["beta"], unit)
            b0 = f.at(f["b"], pc * b_k + jc * b_column, kind)
            with f.loop(in_place, nb, by.columns, unroll=False) as j:
                to, source = f.at(panels, j * room, kind), f.at(b0, j * b_column, kind)
                f.raw(f"call void {copy_b.name}({to!r}, {source!r}, {ldb!r}, {nb - j!r}, {kb!r})")
            # an A that lies as its panels do, and that one panel of B uses, stays as well
            lies = ta & f.compare("sle", nb, NARROW)
            with f.loop(0, blocks, 1, unroll=False) as i:
                start = f.binary("sdiv", i * m, blocks)
                rows = f.binary("sdiv", (i + 1) * m, blocks) - start
                source = f.at(f["a"], start * a_row + pc * a_k, kind)
                a, sa = f.select(lies, source, panel_a), f.select(lies, lda, by.stride)
                with f.when(~lies):
                    f.raw(
                        f"call void {copy_a.name}({panel_a!r}, {source!r}, {lda!r}, {rows!r}, "
                        f"{kb!r}, {m - start!r})"
                    )
                line = f.at(f["c"], start * f["ldc"] + jc, kind)
                with f.loop(0, nb, by.columns, unroll=False) as j:
                    columns = f.smaller(nb - j, by.columns)
                    vectors = ceil_div(f, columns, by.lanes)
                    which = (rows - 1) * by.vectors + vectors - 1
                    slot = f.at(Value(f, f"@{name}_tiles", "ptr"), which, "ptr")
                    run = f.emit(f"load ptr, ptr {slot.name}", "ptr")
                    here = f.compare("slt", j, in_place)
                    packed, lying = f.at(panels, j * room, kind), f.at(b0, j, kind)
                    b = f.select(here, lying, packed)
                    sb = f.select(here, ldb, by.columns)
                    c = f.at(line, j, kind)
                    f.raw(
                        f"call void {run.name}({a!r}, {sa!r}, {b!r}, {sb!r}, {c!r}, {f['ldc']!r}, "
                        f"{kb!r}, {columns!r}, {f['alpha']!r}, {beta!r})"
                    )
    f.raw(f"call void @wg_scratch_give({raw!r})")


def source(target: Target, kind: str) -> str:
    """The assembly of `gemm_f32` or `gemm_f64`, for any shape."""
    module = Module(fma=target.fma)
    emit(module, f"gemm_{SUFFIX[kind]}", kind, target)
    return str(module)


def preferred(target: Target, m: int, n: int, k: int, tb: bool = False) -> bool:
    """Whether this product, and not a library's, is the faster one for a shape.

    Measured against OpenBLAS: a library has better ways for a vector or two, for a few columns and
    for small squares. It also looks at the processor by itself, so that it wins at a level below
    what the processor has.

    Args:
        target: the machine.
        m, n, k: the sizes.
        tb: whether B is transposed.
    """
    if target.name not in ("avx512", "avx2") or m < 4:
        return False
    return n >= 32 if tb else n >= 64 and m * n * k >= 64**3


@lru_cache(1)
def scratch() -> None:
    """The memory that products copy blocks into: a buffer for each thread that is in one."""
    library = compiled(SCRATCH, find_target()).forever()
    add_symbol("wg_scratch_take", library.address("take"))
    add_symbol("wg_scratch_give", library.address("give"))


def key_of(kind: str, here: Target) -> str:
    """The name of the product for any shape among kept object code."""
    return key(f"product of {kind}, any shape", here)


def at_hand(kind: str) -> bool:
    """Whether the product for any shape need not be compiled first."""
    return kind in _loaded or kept(key_of(kind, find_target()))


_loaded: dict[str, Library] = {}


def prepare(kind: str = "float") -> Library:
    """`wg_gemm_f32` (`float`) or `wg_gemm_f64` (`double`), for any shape, known to later libraries.

    Raises:
        MissingExtraError: llvmlite is not installed.
    """
    if kind not in _loaded:
        scratch()
        here = find_target()
        code = cached(key_of(kind, here), lambda: compile_ir(source(here, kind), here))
        library = load(code).forever()
        add_symbol(f"wg_gemm_{SUFFIX[kind]}", library.address(f"gemm_{SUFFIX[kind]}"))
        _loaded[kind] = library
    return _loaded[kind]


def prepare_later(kind: str) -> None:
    """Compile the product for any shape on a thread of its own, for programs to come.

    No daemon: LLVM must not be in the middle of something when the process ends.
    """
    if kind not in _asked:
        _asked.add(kind)
        Thread(target=prepare, args=(kind,), name="wengert-product", daemon=False).start()


_asked: set[str] = set()
