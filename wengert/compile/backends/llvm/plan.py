"""In which order a kernel is computed: what once for a row and what at every point, in which pass.

A reduction along the row ends a pass, as its value is known only then. A statement has a `stage`,
the first pass that can compute it. A later pass that needs it again computes it again where that is
cheap, and reads it from a scratch row where it is not.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ...collapse import flat, rebuild
from ...kernel import ROW, Fold, Kernel, Operand, Store
from . import scalars

__all__ = ["Pass", "Plan", "length"]

SCRATCH = 32768  # bytes of a thread's stack that the scratch rows of a kernel may take
CHEAP = 1  # a statement of a higher price is kept for the next pass


@dataclass
class Pass:
    """One sweep over the row: statements in order, and what becomes of them."""

    order: list[int] = field(default_factory=list)
    kept: set[int] = field(default_factory=set)  # read from scratch
    keep: set[int] = field(default_factory=set)  # written to it
    reductions: list[int] = field(default_factory=list)
    stores: list[int] = field(default_factory=list)  # positions among the outputs
    folds: list[int] = field(default_factory=list)


def length(kernel: Kernel) -> int:
    """Of its row, which is the first axis if that is the only one."""
    return kernel.space[0] if flat(kernel) else kernel.space[-1]


class Plan:
    """Levels, stages and passes of a collapsed kernel.

    `moving`: the row is the first axis, of which a piece has a part; the kernel is then rewritten
    with it as the last. `resident`: a row is so few vectors that its values stay in registers.
    """

    def __init__(self, kernel: Kernel, width: int, lanes_are_rows: bool = False) -> None:
        self.moving = flat(kernel) and kernel.space[0] > 1
        if lanes_are_rows and kernel.space[1:] == (1,):
            self.moving = True
        if self.moving:
            space = (1, kernel.space[0])
            kernel = rebuild(kernel, space, lambda t: (0, t[0]), lambda axis: 1)
        self.kernel, self.width = kernel, width
        self.axis = len(kernel.space) - 2  # whose points are the rows of one loop
        self.row = kernel.space[-1]
        self.resident = not self.moving and self.row <= 2 * width
        self.by_row = kernel.by_row()
        self.live = self.used()
        self.depends = [frozenset[int]()] * len(kernel.body)
        self.stage = [0] * len(kernel.body)
        for i, s in enumerate(kernel.body):
            told = [*s.args, *(self.indices(s.operand) if s.operand else ())]
            axes = frozenset[int]().union(*(self.depends[a] for a in told))
            self.stage[i] = max((self.stage[a] for a in told), default=0)
            if s.operand is not None:
                n = kernel.space
                axes |= {k for k, d in enumerate(s.operand.strides) if d and n[k] > 1}
            elif s.op == "place":
                axes |= {s.number}
            elif s.op in ROW:
                axes |= {self.axis}
                self.stage[i] += 1
            self.depends[i] = axes - {self.axis + 1}
        self.arrange()

    @staticmethod
    def indices(operand: Operand) -> list[int]:
        return [s for s, _ in operand.index]

    def used(self) -> list[bool]:
        """Which statements an output needs."""
        body = self.kernel.body
        live = [False] * len(body)
        for out in self.kernel.outputs:
            for s in (out.value, *self.indices(out.to)):
                live[s] = True
        for i in range(len(body) - 1, -1, -1):
            if live[i]:
                operand = body[i].operand
                for a in (*body[i].args, *(self.indices(operand) if operand else ())):
                    live[a] = True
        return live

    def wide(self, s: int) -> bool:
        """Whether a statement is computed at every point."""
        return not self.by_row[s]

    # ---- passes
    def arrange(self) -> None:
        body, outputs = self.kernel.body, self.kernel.outputs
        reductions = [i for i, s in enumerate(body) if s.op in ROW and self.live[i]]
        stages = [self.stage[out.value] for out in outputs]
        last = [max((self.stage[s] for s in self.indices(o.to)), default=0) for o in outputs]
        when = [0 if self.at_end(out) else max(pair) for out, *pair in zip(outputs, stages, last)]
        self.count = 1 + max([self.stage[i] - 1 for i in reductions] + when, default=0)
        self.refused: set[int] = set()  # outputs that may not lend their memory
        while True:
            self.schedule(reductions, when)
            late, lender = self.clashes(when), self.lost()
            if late is not None:
                when[late] += 1
                self.count = max(self.count, when[late] + 1)
            elif lender is not None:
                self.refused.add(lender)
            else:
                return

    def schedule(self, reductions: list[int], when: list[int]) -> None:
        body, outputs = self.kernel.body, self.kernel.outputs
        self.passes = [Pass() for _ in range(self.count)]
        self.scratch: dict[int, int | None] = {}  # statement -> the output that holds it, or None
        first: dict[int, int] = {}
        self.when, self.first = when, first
        for p, step in enumerate(self.passes):
            roots = []
            for i in reductions:
                if self.stage[i] == p + 1:
                    step.reductions.append(i)
                    roots.append(body[i].args[0])
            for n, out in enumerate(outputs):
                if when[n] == p and not self.at_end(out):
                    (step.folds if isinstance(out, Fold) else step.stores).append(n)
                    roots.append(out.value)
            self.visit(roots, p, step, first)
        for step in self.passes:
            step.order.sort()

    def at_end(self, out: Store | Fold) -> bool:
        """Whether it is one number for a row, stored or folded when the row is done."""
        if self.row == 1:
            return True
        return out.rows if isinstance(out, Fold) else out.to.strides[-1] == 0

    def visit(self, roots: list[int], p: int, step: Pass, first: dict[int, int]) -> None:
        """Add what a pass computes: all that the roots need and that is not kept."""
        body, todo, seen = self.kernel.body, list(roots), set[int]()
        while todo:
            s = todo.pop()
            if s in seen or not self.wide(s):
                continue
            seen.add(s)
            if first.setdefault(s, p) < p and (self.resident or self.reserve(s)):
                if not self.resident:
                    self.passes[first[s]].keep.add(s)
                    step.kept.add(s)
                    step.order.append(s)
                continue
            step.order.append(s)
            operand = body[s].operand
            todo += [*body[s].args, *(self.indices(operand) if operand else ())]

    def reserve(self, s: int) -> bool:
        """Whether a value of an earlier pass is kept rather than computed again."""
        if s in self.scratch:
            return True
        statement = self.kernel.body[s]
        if scalars.price(statement.op) <= CHEAP:
            return False
        if self.taken() + statement.dtype.itemsize * self.row <= SCRATCH:
            self.scratch[s] = None
            return True
        for n, out in enumerate(self.kernel.outputs):
            if self.lends(n, out, s):
                self.scratch[s] = n
                return True
        return False

    def taken(self) -> int:
        """Bytes of the scratch rows of one row."""
        sizes = [self.kernel.body[s].dtype.itemsize for s, n in self.scratch.items() if n is None]
        return sum(sizes) * self.row

    def most_rows(self) -> int:
        """How many rows at a time have room for their scratch rows: a power of two."""
        return 1 << (max(1, 2 * SCRATCH // max(self.taken(), 1)).bit_length() - 1)

    def lends(self, n: int, out: Store | Fold, s: int) -> bool:
        """Whether an output that is stored in the last pass can hold a value until then."""
        return (
            isinstance(out, Store)
            and n not in self.refused
            and n not in self.scratch.values()
            and self.when[n] == self.count - 1
            and out.to.strides[-1] == 1
            and not out.to.index
            and out.to.dtype == self.kernel.body[s].dtype
        )

    def lost(self) -> int | None:
        """An output that holds a value where a later pass may read the same memory."""
        for s, n in self.scratch.items():
            if n is not None and self.reads(self.kernel.outputs[n].to, self.first[s] + 1):
                return n
        return None

    # ---- memory that is read and written
    def clashes(self, when: list[int]) -> int | None:
        """An output that is stored before a pass that may read the same memory."""
        for n, out in enumerate(self.kernel.outputs):
            early = isinstance(out, Store) and not self.at_end(out)
            if early and self.reads(out.to, when[n] + 1):
                return n
        return None

    def reads(self, place: Operand, start: int) -> bool:
        """Whether a pass from `start` on loads what may be this place."""
        for step in self.passes[start:]:
            for s in step.order:
                operand = self.kernel.body[s].operand
                if operand is not None and self.same(operand, place):
                    return True
        size = place.dtype.itemsize
        for n, statement in enumerate(self.kernel.body):  # loads whose index a reduction decides
            o, late = statement.operand, self.by_row[n] and self.stage[n] >= start
            if o is not None and late and self.live[n] and size == o.dtype.itemsize:
                return True
        return False

    @staticmethod
    def same(a: Operand, b: Operand) -> bool:
        """Whether they may be one place: arguments may be one buffer, used again in place."""
        return a.arg == b.arg or (a.strides == b.strides and a.dtype.itemsize == b.dtype.itemsize)
