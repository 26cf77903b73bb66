"""Native code of a fused loop nest.

    void name(ptr args, i64 lo, i64 hi, i64 piece)

computes the points lo <= i < hi of the first axis of a kernel. All sizes and strides are numbers in
the code. The row is swept in vectors of `width` lanes, several at a time where the body is light,
with its end masked; where columns are folded, several rows are swept together.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from ...collapse import collapse
from ...kernel import ROW, Fold, Kernel, Operand, Store
from . import scalars
from .folds import Accumulator, Folding, Scalar, tree
from .ir import Function, Module, Value, lanes, vector
from .memory import element_kind, load, store
from .plan import Pass, Plan, length
from .scalars import KIND

__all__ = ["emit", "supported", "width"]

supported = scalars.supported
Pointer = Callable[[Function, int], Value]
BLOCK = 64  # vectors that a sum adds in one level before they go to the next
UNROLLED = ((5, 4), (14, 2))  # (price of the body, vectors at a time)
TOGETHER = ((4, 8), (16, 4))  # (price of the body, rows at a time)


class Spot(NamedTuple):
    """A vector of the row: at i + off, with the lanes of `mask`; the n-th of its block."""

    i: Value | None
    off: int
    mask: Value | None
    n: int


def table(f: Function, arg: int) -> Value:
    """args[arg] of the pointer table."""
    return f.load(f["args"], "ptr", arg)


def width(kernel: Kernel, native: int = 64) -> int:
    """How many lanes suit a kernel on a machine with vectors of `native` bytes.

    Twice as many as fit a vector of its widest floats, so that two chains of instructions are
    under way; as many as fit where that spares a vector; fewer for a short row.
    """
    kernel, _ = collapse(kernel)
    wide = [s.dtype for s, flat in zip(kernel.body, kernel.by_row()) if not flat]
    wide += [out.to.dtype for out in kernel.outputs]
    floats = [d.itemsize for d in wide if d.kind == "f"]
    size = max(floats or [d.itemsize for d in wide if d.kind == "i"] or [4])
    one = native // size
    row = length(kernel)
    while one > 1 and row <= one // 2:
        one //= 2
    vectors = -(-row // one)
    return one if vectors in (0, 1, 3) else 2 * one


def emit(
    module: Module, name: str, kernel: Kernel, *, width: int, pointer: Pointer = table
) -> None:
    """Write the function of a kernel into a module.

    Args:
        width: lanes of its vectors, as from `width(kernel, native)`.
        pointer: writes where an argument is found; by default in the table %args.
    """
    Nest(module, name, kernel, width, pointer).write()


class Nest:
    """The function of one kernel under construction.

    A value that is one number for a row is held once for each row that is swept with others, or
    once for all of them if it does not depend on the row.
    """

    def __init__(
        self, module: Module, name: str, kernel: Kernel, width: int, pointer: Pointer
    ) -> None:
        small, self.unit = collapse(kernel)
        self.plan = Plan(small, width)
        self.kernel, self.width, self.pointer = self.plan.kernel, width, pointer
        arguments = [("args", "ptr"), ("lo", "i64"), ("hi", "i64"), ("piece", "i64")]
        self.f = Function(module, name, arguments)
        self.value: dict[int, list[Value]] = {}
        self.index: dict[int, list[Value]] = {}
        self.base: dict[Operand | int, list[Value]] = {}
        self.place: dict[tuple[Operand | int, int], Value] = {}
        self.spread: dict[tuple[int, int], Value] = {}
        self.rows = 1
        folds = [n for n, out in enumerate(self.kernel.outputs) if isinstance(out, Fold)]
        self.folds = {n: Folding(self.plan, n) for n in folds}
        self.running: dict[int, Accumulator] = {}
        self.counted: dict[int, Scalar] = {}
        self.stayed: dict[tuple[int, int, int], Value] = {}
        self.held: dict[int, list[Accumulator]] = {}

    # ---- the nest
    def write(self) -> None:
        f, body = self.f, self.kernel.body
        self.lo, self.hi = (f[n] * self.unit if self.unit != 1 else f[n] for n in ("lo", "hi"))
        pointers: dict[int, Value] = {}
        for key, operand, start in self.operands():
            if operand.arg not in pointers:
                pointers[operand.arg] = self.pointer(f, operand.arg)
            p = f.at(pointers[operand.arg], start, element_kind(operand.dtype))
            self.base[key] = [p]
        self.together = self.rows_together()
        self.buffers = {
            (s, r): f.room(self.memory_kind(s), -(-self.plan.row // self.width) * self.width)
            for s, lent in self.plan.scratch.items()
            if lent is None
            for r in range(self.together)
        }
        self.outer = [s for s in range(len(body)) if self.plan.live[s] and self.plan.by_row[s]]
        self.scalars(-1, 0)
        self.loops(0)
        f.ret()

    def operands(self) -> list[tuple[Operand | int, Operand, Value | int]]:
        """(key, operand, offset) of everything that is loaded, stored or folded."""
        out: dict[Operand | int, tuple[Operand, Value | int]] = {}
        for s, alive in zip(self.kernel.body, self.plan.live):
            if alive and s.operand is not None:
                out[s.operand] = s.operand, s.operand.offset
        for n, o in enumerate(self.kernel.outputs):
            if isinstance(o, Fold):
                start: Value | int = o.to.offset
                if o.partial:
                    start = self.f["piece"] * o.partial + o.to.offset
                out[n] = o.to, start
            else:
                out[o.to] = o.to, o.to.offset
        return [(key, operand, start) for key, (operand, start) in out.items()]

    def rows_together(self) -> int:
        """How many rows are swept at a time: several where columns are added up."""
        plan = self.plan
        if (
            plan.moving
            or plan.resident
            or not any(x.form == "columns" and x.over and x.rows_meet for x in self.folds.values())
        ):
            return 1
        cost = max(self.cost(p) for p in plan.passes)
        return next((rows for limit, rows in TOGETHER if cost <= limit), 2)

    def cost(self, step: Pass) -> int:
        priced = sum(scalars.price(self.kernel.body[s].op) for s in step.order)
        return priced + len(step.stores) + len(step.reductions) + len(step.folds)

    def loops(self, k: int) -> None:
        """The loop over the axis k, with all that is inside it."""
        f, plan = self.f, self.plan
        starting = [x for x in self.folds.values() if x.axis == k and x.over]
        for x in starting:
            self.begin(x)
        if plan.moving:
            self.row_of(1)
        else:
            start: Value | int = self.lo if k == 0 else 0
            stop: Value | int = self.hi if k == 0 else self.kernel.space[k]
            if k < plan.axis:
                with f.loop(start, stop, unroll=False) as i:
                    saved = self.enter(k, i, 1)
                    self.scalars(k, 0)
                    self.loops(k + 1)
                    self.leave(saved)
            else:
                self.innermost(start, stop)
        for x in starting:
            self.end(x)

    def innermost(self, start: Value | int, stop: Value | int) -> None:
        f, n = self.f, self.together
        if n > 1:
            if isinstance(stop, Value):
                count = f.binary("sub", stop, start)
                middle: Value | int = count - (count & (n - 1)) + start
            else:
                middle = stop - stop % n
            self.some_rows(start, middle, n)
            if middle == stop:
                return
            start = middle
        self.some_rows(start, stop, 1)

    def some_rows(self, start: Value | int, stop: Value | int, n: int) -> None:
        with self.f.loop(start, stop, n, unroll=False) as i:
            saved = self.enter(self.plan.axis, i, n)
            self.row_of(n)
            self.leave(saved)

    def enter(self, k: int, i: Value, rows: int) -> tuple[dict, dict, dict]:  # type: ignore[type-arg]
        saved = self.base, self.value, self.index
        self.base, self.value, self.index = dict(self.base), dict(self.value), dict(self.index)
        self.index[k] = [i + r if r else i for r in range(rows)]
        for key, (p,) in list(self.base.items()):
            operand = self.operand_of(key)
            stride, inner = operand.strides[k], element_kind(operand.dtype)
            if stride:
                p = self.f.at(p, i * stride if stride != 1 else i, inner)
                self.base[key] = [self.f.at(p, r * stride, inner) for r in range(rows)]
        return saved

    def leave(self, saved: tuple[dict, dict, dict]) -> None:  # type: ignore[type-arg]
        self.base, self.value, self.index = saved

    def operand_of(self, key: Operand | int) -> Operand:
        return self.kernel.outputs[key].to if isinstance(key, int) else key

    # ---- one row, or some together
    def row_of(self, rows: int) -> None:
        f, plan = self.f, self.plan
        self.rows, self.place, self.spread, self.stayed = rows, {}, {}, {}
        for p, step in enumerate(plan.passes):
            self.scalars(plan.axis, p)
            self.sweep(p, step)
        self.scalars(plan.axis, len(plan.passes))
        for x in self.folds.values():
            if x.scalar:
                self.fold_scalar(x)
            elif x.form == "total":
                self.running[x.n].spill()
        for out in self.kernel.outputs:
            if isinstance(out, Store) and plan.at_end(out):
                several = self.several(out.to) or len(self.value[out.value]) > 1
                for r in range(rows if several else 1):
                    store(f, self.at(out.value, r), self.address(out.to, r), out.to)

    def scalars(self, level: int, stage: int) -> None:
        """The statements that are one number for a row and are due here."""
        plan, body = self.plan, self.kernel.body
        for s in self.outer:
            own = max(plan.depends[s], default=-1)
            last = stage == len(plan.passes) and plan.stage[s] >= stage
            if body[s].op in ROW or (plan.stage[s] != stage and not last):
                continue
            if own == level or (stage and level == plan.axis):
                several = plan.axis in plan.depends[s]
                self.value[s] = [self.scalar(s, r) for r in range(self.rows if several else 1)]

    def scalar(self, s: int, r: int) -> Value:
        f, statement = self.f, self.kernel.body[s]
        kind = KIND[statement.dtype.name]
        if statement.op == "load":
            assert statement.operand is not None
            return load(f, self.address(statement.operand, r), statement.operand)
        if statement.op == "const":
            return scalars.const(f, statement.number, kind)
        if statement.op == "place":
            at = self.index[statement.number]
            return scalars.cast(f, at[r if len(at) > 1 else 0], kind)
        xs = [self.at(a, r) for a in statement.args]
        if statement.op == "cast":
            return scalars.cast(f, xs[0], kind)
        return scalars.cast(f, scalars.apply(f, statement.op, *xs), kind)

    def at(self, s: int, r: int) -> Value:
        held = self.value[s]
        return held[r if len(held) > 1 else 0]

    def several(self, operand: Operand) -> bool:
        """Whether it is another place in each row that is swept together."""
        return bool(operand.strides[self.plan.axis]) or any(
            len(self.value[s]) > 1 for s, _ in operand.index
        )

    def address(self, key: Operand | int, r: int) -> Value:
        """Of the beginning of a row."""
        held, operand = self.base[key], self.operand_of(key)
        p = held[r if len(held) > 1 else 0]
        if not operand.index:
            return p
        if (key, r) not in self.place:
            for s, stride in operand.index:
                i = scalars.cast(self.f, self.at(s, r), "i64")
                p = self.f.at(p, i * stride, element_kind(operand.dtype))
            self.place[key, r] = p
        return self.place[key, r]

    # ---- a sweep along the row
    def sweep(self, p: int, step: Pass) -> None:
        if not (step.reductions or step.stores or step.folds):
            return
        f, plan, w = self.f, self.plan, self.width
        cost = self.cost(step)
        many = next((n for limit, n in UNROLLED if cost <= limit), 1)
        many = -(-plan.row // w) if plan.resident else max(1, many // self.together)
        many = max(many, 1)
        long = plan.moving or plan.row > BLOCK * many * w
        self.open(step, many, long)
        self.prepare(step)
        block = partial(self.block, p, step)
        spill = partial(self.spill, step)
        if plan.moving:
            self.moving_sweep(block, spill, many)
        else:
            done = 0
            if plan.row // (w * many) > 1:
                done = plan.row // (w * many) * (w * many)
                self.whole(f.const(0, "i64"), f.const(done, "i64"), block, spill, many, long)
            spots = []
            for n, off in enumerate(range(done, plan.row, w)):
                left = plan.row - off
                mask = f.first_lanes(left, w) if left < w else None
                spots.append(Spot(None, off, mask, n))
            if spots:
                block(spots)
        for s in step.reductions:
            self.value[s] = [
                scalars.cast(f, self.sums[~s, r].total(), KIND[self.kernel.body[s].dtype.name])
                for r in range(self.rows)
            ]
        for n in step.folds:
            if self.folds[n].form == "cell":
                totals = [self.sums[n, r].total() for r in range(self.rows)]
                self.cell(self.folds[n], totals)

    def whole(
        self,
        lo: Value,
        hi: Value,
        block: Callable[[list[Spot]], None],
        spill: Callable[[], None],
        many: int,
        long: bool,
    ) -> None:
        """The part of the row that is whole vectors; a long one in blocks."""
        f, step = self.f, self.width * many

        def run(start: Value, stop: Value) -> None:
            with f.loop(start, stop, step, unroll=False) as i:
                block([Spot(i, n * self.width, None, n) for n in range(many)])

        if not long or not self.deep:
            run(lo, hi)
            return
        with f.loop(lo, hi, BLOCK * step, unroll=False) as start:
            stop = start + BLOCK * step
            run(start, f.smaller(stop, hi))
            spill()

    def moving_sweep(
        self, block: Callable[[list[Spot]], None], spill: Callable[[], None], many: int
    ) -> None:
        """The row is a piece of the first axis; only its end is masked."""
        f, w = self.f, self.width
        n = f.binary("sub", self.hi, self.lo)
        middle = self.lo + (n & -(w * many))
        self.whole(self.lo, middle, block, spill, many, True)
        if w == 1:
            with f.loop(middle, self.hi, unroll=False) as i:
                block([Spot(i, 0, None, 0)])
            return
        with f.loop(middle, self.hi, w, unroll=False) as i:
            left = f.binary("sub", self.hi, i)
            block([Spot(i, 0, f.first_lanes(f.smaller(left, w), w), 0)])

    def open(self, step: Pass, many: int, long: bool) -> None:
        """Accumulators of the reductions and row folds of a sweep."""
        body = self.kernel.body
        self.sums: dict[tuple[int, int], Accumulator] = {}
        made = [(~s, body[s].op[4:], self.sum_kind(s)) for s in step.reductions]
        for n in step.folds:
            x = self.folds[n]
            if x.form == "cell":
                made.append((n, x.how, x.kind))
        for key, how, kind in made:
            for r in range(self.rows):
                a = Accumulator(self.f, how, kind, self.width, many, long)
                a.open()
                self.sums[key, r] = a
        self.deep = any(a.deep is not None for a in self.sums.values()) or any(
            self.folds[n].form == "total" for n in step.folds
        )

    def sum_kind(self, s: int) -> str:
        """In which type a row is added up: that of the result, unless it is a truth value."""
        statement = self.kernel.body[s]
        one = self.kernel.body[statement.args[0]].dtype
        return KIND[(one if statement.dtype.kind == "b" else statement.dtype).name]

    def spill(self, step: Pass) -> None:
        for a in self.sums.values():
            a.spill()
        for n in step.folds:
            if self.folds[n].form == "total":
                self.running[n].spill()

    def prepare(self, step: Pass) -> None:
        """Addresses and spread numbers that a sweep uses, before its loop."""
        body, outputs = self.kernel.body, self.kernel.outputs
        places: list[Operand | int] = [outputs[n].to for n in step.stores]
        places += [n for n in step.folds if self.folds[n].form == "columns"]
        used = [outputs[n].value for n in (*step.stores, *step.folds)]
        used += [body[s].args[0] for s in step.reductions]
        for s in step.order:
            if s not in step.kept:
                used += body[s].args
                operand = body[s].operand
                if operand is not None:
                    places.append(operand)
        for key in places:
            for r in range(self.rows if self.several(self.operand_of(key)) else 1):
                self.address(key, r)
        for s in used:
            if self.plan.by_row[s]:
                for r in range(len(self.value[s])):
                    if (s, r) not in self.spread:
                        self.spread[s, r] = self.wide(self.value[s][r])

    def wide(self, x: Value) -> Value:
        """In all lanes."""
        if lanes(x.kind) > 1 or self.width == 1:
            return x
        kind = vector(x.kind, self.width)
        if x.name[0] != "%":
            return Value(self.f, f"splat ({x.kind} {x.name})", kind)
        return self.f.splat(x, self.width)

    def block(self, p: int, step: Pass, spots: list[Spot]) -> None:
        """All of a pass at some vectors of the row, in each of the rows that are swept together."""
        f, plan, body = self.f, self.plan, self.kernel.body
        values: dict[tuple[int, int, int], Value] = self.stayed if plan.resident else {}
        rows = range(self.rows)

        def get(s: int, r: int, spot: Spot) -> Value:
            if plan.by_row[s]:
                return self.spread[s, r if len(self.value[s]) > 1 else 0]
            return values[s, r if plan.axis in plan.depends[s] else 0, spot.n]

        for s in step.order:
            for r in rows if plan.axis in plan.depends[s] else (0,):
                for spot in spots:
                    if s in step.kept:
                        x = self.recall(s, r, spot)
                    else:
                        x = self.point(s, r, spot, partial(get, r=r, spot=spot))
                    values[s, r, spot.n] = self.wide(x)
        for s in step.reductions:
            for r in rows:
                for spot in spots:
                    x = get(body[s].args[0], r, spot)
                    x = scalars.cast(f, x, self.sum_kind(s))
                    self.sums[~s, r].add(spot.n, x, spot.mask)
        for n in step.folds:
            value = self.kernel.outputs[n].value
            for spot in spots:
                self.fold(self.folds[n], [get(value, r, spot) for r in rows], spot)
        for s in step.keep:
            for r in rows if plan.axis in plan.depends[s] else (0,):
                for spot in spots:
                    self.remember(s, r, spot, values[s, r, spot.n])
        for n in step.stores:
            out = self.kernel.outputs[n]
            for r in rows if self.several(out.to) else (0,):
                for spot in spots:
                    y = get(out.value, r, spot)
                    store(f, y, self.address(out.to, r), out.to, spot.i, spot.off, spot.mask)

    def point(self, s: int, r: int, spot: Spot, get: Callable[[int], Value]) -> Value:
        """One statement at one vector."""
        f, statement, w = self.f, self.kernel.body[s], self.width
        kind = KIND[statement.dtype.name]
        if statement.op == "load":
            o = statement.operand
            assert o is not None
            return load(f, self.address(o, r), o, spot.i, spot.off, spot.mask, w)
        if statement.op == "place":
            count = "<" + ", ".join(f"i64 {spot.off + j}" for j in range(w)) + ">"
            x = f.const(spot.off, "i64") if w == 1 else Value(f, count, vector("i64", w))
            return scalars.cast(f, x if spot.i is None else x + spot.i, kind)
        xs = [get(a) for a in statement.args]
        if statement.op == "cast":
            return scalars.cast(f, xs[0], kind)
        return scalars.cast(f, scalars.apply(f, statement.op, *xs), kind)

    # ---- rows kept for a later pass
    def memory_kind(self, s: int) -> str:
        return element_kind(self.kernel.body[s].dtype)

    def scratch(self, s: int, r: int, spot: Spot) -> tuple[Value, Value | None, Operand]:
        """(beginning, mask, the row as an operand) of where a value is kept."""
        lent = self.plan.scratch[s]
        if lent is None:
            o = Operand(-1, self.kernel.body[s].dtype, 0, (1,))
            return self.buffers[s, r], None, o
        to = self.kernel.outputs[lent].to
        return self.address(to, r), spot.mask, to

    def remember(self, s: int, r: int, spot: Spot, x: Value) -> None:
        p, mask, o = self.scratch(s, r, spot)
        store(self.f, x, p, o, spot.i, spot.off, mask)

    def recall(self, s: int, r: int, spot: Spot) -> Value:
        p, mask, o = self.scratch(s, r, spot)
        return load(self.f, p, o, spot.i, spot.off, mask, self.width)

    # ---- folds
    def begin(self, x: Folding) -> None:
        """Before the loop over the first axis that is folded."""
        f = self.f
        if x.form == "held":
            count = -(-self.plan.row // self.width)
            self.held[x.n] = [Accumulator(f, x.how, x.kind, self.width, 1) for _ in range(count)]
            for a in self.held[x.n]:
                a.open()
        elif x.form == "total":
            if x.scalar:
                self.counted[x.n] = Scalar(f, x.how, x.kind)
                self.counted[x.n].open()
            else:
                self.running[x.n] = Accumulator(f, x.how, x.kind, self.width, 4, True)
                self.running[x.n].open()
        else:
            x.fill(f, self.plan, self.base[x.n][0], partial(self.fill_row, x))

    def fill_row(self, x: Folding, p: Value) -> None:
        f, w, row = self.f, self.width, self.plan.row
        zero = scalars.neutral(f, x.how, vector(x.kind, w))
        whole = row - row % w
        with f.loop(0, whole, w, unroll=False) as i:
            store(f, zero, p, x.out.to, i, 0, None)
        if row % w:
            store(f, zero, p, x.out.to, None, whole, f.first_lanes(row % w, w))

    def end(self, x: Folding) -> None:
        """After that loop."""
        if x.form == "held":
            for n, a in enumerate(self.held[x.n]):
                left = self.plan.row - n * self.width
                mask = self.f.first_lanes(left, self.width) if left < self.width else None
                p, o = self.base[x.n][0], x.out.to
                store(self.f, a.gather(), p, o, None, n * self.width, mask)
        elif x.form == "total":
            total = (self.counted if x.scalar else self.running)[x.n].total()
            store(self.f, total, self.base[x.n][0], x.out.to)

    def fold(self, x: Folding, values: list[Value], spot: Spot) -> None:
        """Take a vector of each row into the running value."""
        f = self.f
        if x.form == "cell":
            for r, v in enumerate(values):
                self.sums[x.n, r].add(spot.n, v, spot.mask)
            return
        if x.form == "total":
            for r, v in enumerate(values):
                self.running[x.n].add(spot.n + r, v, spot.mask)
            return
        if x.form == "held":
            self.held[x.n][spot.n].add(0, tree(f, x.how, values), spot.mask)
            return
        for r, v in enumerate([tree(f, x.how, values)] if x.rows_meet else values):
            p, o = self.address(x.n, r), x.out.to
            if x.over:
                old = load(f, p, o, spot.i, spot.off, spot.mask, self.width)
                v = scalars.combine(f, x.how, old, v)
            store(f, v, p, o, spot.i, spot.off, spot.mask)

    def fold_scalar(self, x: Folding) -> None:
        values = [self.at(x.out.value, r) for r in range(self.rows)]
        if x.form == "total":
            for v in values:
                self.counted[x.n].add(v)
        else:
            self.cell(x, values)

    def cell(self, x: Folding, values: list[Value]) -> None:
        """One number of each row, into memory."""
        f = self.f
        for r, v in enumerate([tree(f, x.how, values)] if x.rows_meet else values):
            p = self.address(x.n, r)
            if x.over:
                v = scalars.combine(f, x.how, load(f, p, x.out.to), v)
            store(f, v, p, x.out.to)
