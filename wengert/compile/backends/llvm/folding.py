"""The instructions of folds: before, in, after the loops that they run over."""

from __future__ import annotations

from functools import partial

from ....native.ir import Value, vector
from . import scalars
from .folds import Accumulator, Folding, Scalar, tree
from .frame import Frame, Spot
from .memory import load, store

__all__ = ["Folder"]


class Folder(Frame):
    """Folds of the kernel whose function is written."""

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
