"""Native code of a fused loop nest.

    void name(ptr args, i64 lo, i64 hi, i64 piece)

computes the points lo <= i < hi of the first axis of a kernel. All sizes and strides are numbers in
the code. The row is swept in vectors of `width` lanes, several at a time where the body is light,
with its end masked; where columns are folded, several rows are swept together. Short rows lie side
by side in the lanes (`turn`), and what is transposed goes through squares of registers.
"""

from __future__ import annotations

from ....native.ir import Function, Module, Value
from ...kernel import ROW, Kernel, Store
from . import scalars
from .frame import Pointer
from .memory import element_kind, store
from .shape import crossed, width
from .sweep import Sweep

__all__ = ["emit", "supported", "width"]

supported = scalars.supported
TOGETHER = ((4, 8), (16, 4))  # (price of the body, rows at a time)


def table(f: Function, arg: int) -> Value:
    """args[arg] of the pointer table."""
    return f.load(f["args"], "ptr", arg)


def emit(
    module: Module, name: str, kernel: Kernel, *, width: int, pointer: Pointer = table
) -> None:
    """Write the function of a kernel into a module.

    Args:
        width: lanes of its vectors, as from `width(kernel, native)`.
        pointer: writes where an argument is found; by default in the table %args.
    """
    Nest(module, name, kernel, width, pointer).write()


class Nest(Sweep):
    """The loops over all axes but the row, and what is done once for a row."""

    def write(self) -> None:
        f, body = self.f, self.kernel.body
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

    def rows_together(self) -> int:
        """How many rows are swept at a time: several where columns are added up."""
        plan = self.plan
        if crossed(self.kernel, self.width) and not self.turned and plan.count == 1:
            return self.width
        if (
            plan.moving
            or plan.resident
            or not any(x.form == "columns" and x.over and x.rows_meet for x in self.folds.values())
        ):
            return 1
        cost = max(self.cost(p) for p in plan.passes)
        most = plan.most_rows()
        return min(most, next((rows for limit, rows in TOGETHER if cost <= limit), 2))

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

    def row_of(self, rows: int) -> None:
        f, plan = self.f, self.plan
        self.rows, self.place, self.spread, self.stayed = rows, {}, {}, {}
        self.inverse = {}
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
