"""Sums (products, maxima, minima): of one row, over rows, and of columns.

What a fold keeps decides where its running value is:

    total      nothing is kept behind the first folded axis: in registers over all those loops
    cell       the row is folded, another axis behind a folded one is kept: one number in memory
    columns    the row is kept: a row in memory, or in registers where it is short

Sums of floats are taken in two levels: rows, or blocks of a long row, are added lane by lane, and
their totals go to float64 lanes; for float64 these have a second vector with what was rounded away.
"""

from __future__ import annotations

from collections.abc import Callable

from ....native.ir import FLOATS, Function, Value, vector
from ...kernel import Fold
from . import scalars
from .plan import Plan
from .scalars import KIND, combine, neutral

__all__ = ["Accumulator", "Folding", "Scalar", "tree"]


def tree(f: Function, how: str, xs: list[Value]) -> Value:
    """Neighbours combined, then their results, in a fixed order."""
    while len(xs) > 1:
        pairs = [combine(f, how, a, b) for a, b in zip(xs[::2], xs[1::2])]
        xs = pairs + xs[len(pairs) * 2 :]
    return xs[0]


class Accumulator:
    """Vectors that take turns, and for sums of floats one of float64 behind them.

    Args:
        count: how many vectors; a loop over as many independent ones hides the latency.
        deep: with the second level, into which `spill` empties the first.
    """

    def __init__(
        self, f: Function, how: str, kind: str, width: int, count: int, deep: bool = False
    ) -> None:
        self.f, self.how, self.inner = f, how, kind
        self.kind = vector(kind, width)
        self.slots = [f.room(self.kind) for _ in range(count)]
        self.deep = f.room(vector("double", width)) if deep and two_levels(how, kind) else None
        self.deep_kind = vector("double", width)
        exact = self.deep is not None and kind == "double"
        self.lost = f.room(self.deep_kind) if exact else None  # what the sums have rounded away

    def open(self) -> None:
        self.reset()
        for slot in (self.deep, self.lost):
            if slot is not None:
                self.f.set(slot, neutral(self.f, self.how, self.deep_kind))

    def reset(self) -> None:
        for slot in self.slots:
            self.f.set(slot, neutral(self.f, self.how, self.kind))

    def add(self, n: int, x: Value, mask: Value | None = None) -> None:
        """Combine x into the vector n; the lanes outside the mask change nothing."""
        f = self.f
        x = f.const(x, self.kind)
        if mask is not None:
            x = f.select(mask, x, neutral(f, self.how, self.kind))
        slot = self.slots[n % len(self.slots)]
        f.set(slot, combine(f, self.how, f.get(slot, self.kind), x))

    def gather(self) -> Value:
        return tree(self.f, self.how, [self.f.get(s, self.kind) for s in self.slots])

    def spill(self) -> None:
        """Empty the first level into the second."""
        if self.deep is not None:
            x = scalars.cast(self.f, self.gather(), "double")
            so_far = self.f.get(self.deep, self.deep_kind)
            total = combine(self.f, self.how, so_far, x)
            if self.lost is not None:
                total = self.f.binary("add", so_far, x, "")
                rounded = two_sum_error(self.f, so_far, x, total)
                lost = self.f.get(self.lost, self.deep_kind)
                self.f.set(self.lost, self.f.binary("add", lost, rounded, ""))
            self.f.set(self.deep, total)
            self.reset()

    def total(self) -> Value:
        """One number of the whole; the accumulator is then of no more use."""
        if self.deep is not None:
            self.spill()
            x = self.f.get(self.deep, self.deep_kind)
            if self.lost is not None:
                lost = self.f.get(self.lost, self.deep_kind)
                x = self.f.select(self.f.compare("uno", lost, lost), x, x + lost)
            return scalars.cast(self.f, scalars.across(self.f, self.how, x), self.inner)
        return scalars.across(self.f, self.how, self.gather())


def two_sum_error(f: Function, a: Value, b: Value, total: Value) -> Value:
    """a + b - total, exactly; nan where the total is infinite (D. E. Knuth, TAOCP 2, 4.2.2)."""
    part = f.binary("sub", total, a, "")
    left = f.binary("sub", a, f.binary("sub", total, part, ""), "")
    return f.binary("add", left, f.binary("sub", b, part, ""), "")


def two_levels(how: str, kind: str) -> bool:
    return how == "add" and kind in FLOATS


class Scalar:
    """One running number, of float64 for sums of float32."""

    def __init__(self, f: Function, how: str, kind: str) -> None:
        self.f, self.how, self.inner = f, how, kind
        self.kind = "double" if two_levels(how, kind) else kind
        self.slot = f.room(self.kind)

    def open(self) -> None:
        self.f.set(self.slot, neutral(self.f, self.how, self.kind))

    def add(self, x: Value) -> None:
        x = scalars.cast(self.f, x, self.kind)
        self.f.set(self.slot, combine(self.f, self.how, self.f.get(self.slot, self.kind), x))

    def total(self) -> Value:
        return scalars.cast(self.f, self.f.get(self.slot, self.kind), self.inner)


class Folding:
    """Where one fold of a plan has its running value, and over which loops.

    `axis`: the loop at whose beginning it starts; that of the row if no other axis is folded.
    """

    def __init__(self, plan: Plan, n: int) -> None:
        kernel, last = plan.kernel, plan.axis + 1
        out = kernel.outputs[n]
        assert isinstance(out, Fold)
        self.n, self.out = n, out
        self.how, self.kind = out.combine, KIND[out.to.dtype.name]
        kept = [k for k in range(last + 1) if out.to.strides[k] and kernel.space[k] != 1]
        folded = [k for k in range(last + 1) if k not in kept and kernel.space[k] != 1]
        self.axis = min(folded, default=last)
        self.over = self.axis < last  # more than one row meets in one place
        self.scalar = plan.at_end(out)
        self.inner_kept = [k for k in kept if self.axis < k < last]
        self.rows_meet = plan.axis in folded  # the rows of the innermost loop
        if last in kept:
            held = plan.resident and self.over and not self.inner_kept
            self.form = "held" if held else "columns"
        else:
            self.form = "total" if self.over and not self.inner_kept else "cell"

    def fill(self, f: Function, plan: Plan, base: Value, write: Callable[..., None]) -> None:
        """Set the running values in memory to the neutral element."""

        def axes(left: list[int], p: Value) -> None:
            if left:
                stride = self.out.to.strides[left[0]]
                with f.loop(0, plan.kernel.space[left[0]], unroll=False) as i:
                    inner = "i8" if self.kind == "i1" else self.kind
                    axes(left[1:], f.at(p, i * stride, inner))
            elif self.form == "columns":
                write(p)
            else:
                x = neutral(f, self.how, self.kind)
                f.store(scalars.cast(f, x, "i8") if self.kind == "i1" else x, p)

        axes(self.inner_kept, base)
