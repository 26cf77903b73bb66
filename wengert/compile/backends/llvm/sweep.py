"""One pass over a row in vectors: loads, statements, sums, stores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from ....native.ir import Value, lanes, vector
from ...kernel import Operand, Statement
from . import scalars
from .division import Divisor, divide, divisor
from .folding import Folder
from .folds import Accumulator
from .frame import Spot
from .memory import element_kind, load, load_square, store, store_square
from .plan import Pass
from .scalars import KIND
from .shape import crossing

__all__ = ["Sweep"]

SQUARE = 3  # more neighbours than that are loaded together
BLOCK = 64  # vectors that a sum adds in one level before they go to the next
UNROLLED = ((5, 4), (11, 2))  # (price of the body, vectors at a time)


# b OP a for a OP b
MIRRORED = {"lt": "gt", "gt": "lt", "le": "ge", "ge": "le", "eq": "eq", "ne": "ne"}


class Sweep(Folder):
    """Passes of the kernel whose function is written."""

    def cost(self, step: Pass) -> int:
        priced = sum(scalars.price(self.kernel.body[s].op) for s in step.order)
        return priced + len(step.stores) + len(step.reductions) + len(step.folds)

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

        self.divisors(step)

    def divisors(self, step: Pass) -> None:
        """Inverses of numbers by which whole vectors are divided."""
        if not self.f.module.fma or self.width == 1 or self.plan.resident:
            return
        for s in step.order:
            statement = self.kernel.body[s]
            if statement.op == "div" and s not in step.kept:
                x, d = statement.args
                if self.plan.by_row[d] and not self.plan.by_row[x]:
                    for r, value in enumerate(self.value[d]):
                        if (d, r) not in self.inverse:
                            parts = divisor(self.f, value)
                            self.inverse[d, r] = Divisor(*map(self.wide, parts))

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

        squares = self.squares(step, values, spots)
        for s in step.order:
            for r in rows if plan.axis in plan.depends[s] else (0,):
                for spot in spots:
                    if (s, r, spot.n) in values and s in squares:
                        continue
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
        done = self.store_squares(step, get, spots)
        for n in step.stores:
            if n in done:
                continue
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
            shift = None
            for i, stride in o.index:
                if not self.plan.by_row[i]:
                    part = scalars.cast(f, get(i), "i64") * stride
                    shift = part if shift is None else shift + part
            return load(f, self.address(o, r), o, spot.i, spot.off, spot.mask, w, shift)
        if statement.op == "place":
            count = "<" + ", ".join(f"i64 {spot.off + j}" for j in range(w)) + ">"
            x = f.const(spot.off, "i64") if w == 1 else Value(f, count, vector("i64", w))
            return scalars.cast(f, x if spot.i is None else x + spot.i, kind)
        if statement.op in MIRRORED and w > 1:
            told = self.position(statement, r, spot)
            if told is not None:
                return told
        xs = [get(a) for a in statement.args]
        if statement.op == "div":
            which = statement.args[1]
            by = self.inverse.get((which, r if len(self.value.get(which, ())) > 1 else 0))
            if by is not None:
                return divide(f, xs[0], by)
        if statement.op == "cast":
            return scalars.cast(f, xs[0], kind)
        return scalars.cast(f, scalars.apply(f, statement.op, *xs), kind)

    def position(self, statement: Statement, r: int, spot: Spot) -> Value | None:
        """A position along the row compared with a number of the row, in integers of 32 bits."""
        f, body, (a, b) = self.f, self.kernel.body, statement.args
        op = statement.op
        if body[b].op == "place":
            a, b, op = b, a, MIRRORED[op]
        last = self.plan.axis + 1
        along = body[a].op == "place" and body[a].number == last and body[a].dtype.kind == "i"
        if not along or not self.plan.by_row[b]:
            return None
        start = f.const(spot.off, "i64") if spot.i is None else spot.i + spot.off
        at = scalars.cast(f, self.at(b, r), "i64")
        at = f.larger(f.smaller(at, self.plan.row), -1)  # far off is as good as just outside
        lane = f.larger(f.smaller(f.binary("sub", at, start), self.width), -1)
        count = ", ".join(f"i32 {j}" for j in range(self.width))
        places = Value(f, f"<{count}>", vector("i32", self.width))
        return scalars.apply(f, op, places, self.wide(f.cast("trunc", lane, "i32")))

    # ---- squares: what is apart along the row is next to each other in another direction
    def squares(
        self, step: Pass, values: dict[tuple[int, int, int], Value], spots: list[Spot]
    ) -> set[int]:
        """Load neighbours of every lane together; which statements have their values so."""
        if any(spot.mask is not None for spot in spots):
            return set()
        loads = {s: self.kernel.body[s].operand for s in step.order if s not in step.kept}
        done = set()
        for s, o in loads.items():
            if o is not None and self.crosses(o):
                done.add(s)
                for spot in spots:
                    p = self.address(o, 0)
                    xs = load_square(self.f, p, o, spot.i, spot.off, self.rows, self.width)
                    values.update({(s, r, spot.n): x for r, x in enumerate(xs)})
        for group in self.neighbours({s: o for s, o in loads.items() if o is not None}):
            done |= set(group)
            o = loads[group[0]]
            assert o is not None
            for spot in spots:
                p = self.address(o, 0)
                xs = load_square(self.f, p, o, spot.i, spot.off, len(group), self.width)
                values.update({(s, 0, spot.n): x for s, x in zip(group, xs)})
        return done

    def store_squares(
        self, step: Pass, get: Callable[[int, int, Spot], Value], spots: list[Spot]
    ) -> set[int]:
        if any(spot.mask is not None for spot in spots):
            return set()
        outputs = self.kernel.outputs
        done = set()
        for n in step.stores:
            o = outputs[n].to
            if self.crosses(o):
                done.add(n)
                for spot in spots:
                    xs = [get(outputs[n].value, r, spot) for r in range(self.rows)]
                    store_square(self.f, xs, self.address(o, 0), o, spot.i, spot.off)
        for group in self.neighbours({n: outputs[n].to for n in step.stores}):
            done |= set(group)
            o = outputs[group[0]].to
            for spot in spots:
                xs = [get(outputs[n].value, 0, spot) for n in group]
                store_square(self.f, xs, self.address(o, 0), o, spot.i, spot.off)
        return done

    def crosses(self, o: Operand) -> bool:
        """Whether the rows that are swept together are neighbours in memory at each point."""
        return not self.turned and self.rows == self.width > 1 and crossing(o)

    def neighbours(self, places: dict[int, Operand]) -> list[list[int]]:
        """Those that are next to each other in memory at every point, in order."""
        if not self.turned or self.rows > 1 or self.width == 1:
            return []
        groups: dict[Operand, list[tuple[int, int]]] = {}
        for n, o in places.items():
            if not o.index and o.strides[-1] not in (0, 1):
                groups.setdefault(replace(o, offset=0), []).append((o.offset, n))
        out = []
        for group in groups.values():
            group.sort()
            one = [n for _, n in group]
            first, last = group[0][0], group[-1][0]
            if len({at for at, _ in group}) == len(group) == last - first + 1 > SQUARE:
                out.append(one[: self.width])
        return out

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
