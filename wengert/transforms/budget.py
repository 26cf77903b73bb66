"""A memory budget: what the tape keeps is chosen while the program runs.

Every array that an operation computes inside the block is a *cell*: it knows its operation and the
cells of its operands, so that it can be computed again. The tape holds cells in place of arrays.
When the cells hold more than the budget, the array that is the cheapest to compute again, for its
size and the time since it was used, is dropped:

    h = (cost + cost of the dropped neighbours) / (size * age)

When the sweep asks for a dropped array it is computed from its operands, which may have to be
computed first. An operation gives the same bits for the same operands, so gradients are those
without a budget, bit for bit.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from typing import Any
from weakref import ref

import numpy as np

from ..errors import OptionError, WengertWarning, warn
from ..ops.index import Write
from ..trace import HERE, Tensor, getrefcount, ndarray
from ..types import RAW
from .inside import Whole, packed
from .replay import twin
from .residuals import Packed, packing

__all__ = ["Report", "memory_budget"]

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
SAMPLE = 128  # how many candidates are compared before one is dropped
PATIENCE = 20.0  # forward passes of work done again, before a little more than the limit is taken


def amount(limit: Any) -> int:
    """Bytes, out of a number or a text such as "200MB", "1.5 GiB"."""
    if isinstance(limit, str):
        found = re.fullmatch(r"\s*([0-9.]+(?:e[0-9]+)?)\s*([KMGT]?)(i?)B?\s*", limit, re.IGNORECASE)
        try:
            assert found
            number, unit, binary = float(found[1]), found[2].upper(), found[3]
            power = list(UNITS).index(unit)
            return int(number * (1024**power if binary else UNITS[unit]))
        except (AssertionError, ValueError):
            pass
    elif isinstance(limit, int | np.integer | float) and limit >= 0 and not isinstance(limit, bool):
        return int(limit)
    raise OptionError(
        f"memory_budget({limit!r})",
        "a budget is a number of bytes, or a text with a unit",
        fix='memory_budget("200MB") or memory_budget(200_000_000)',
    )


class Part:
    """Dropped cells that hang together, as a union-find tree, and what all of them would cost."""

    __slots__ = ("cost", "up")

    def __init__(self, cost: float) -> None:
        self.cost = cost
        self.up: Part | None = None

    def root(self) -> Part:
        p = self
        while p.up is not None:
            if p.up.up is not None:
                p.up = p.up.up
            p = p.up
        return p


class Made:
    """One evaluation, y = op(inputs): inputs are cells, or values that are always there."""

    __slots__ = ("inputs", "op", "outputs")

    def __init__(self, op: Any, inputs: tuple[Any, ...]) -> None:
        self.op, self.inputs = op, inputs
        self.outputs: list[Any] = []  # weakly

    def run(self, values: list[Any]) -> tuple[Any, ...]:
        with np.errstate(all="ignore"):
            y = self.op(*values)
        return y if self.op.outputs > 1 else (y,)


class Cell:
    """A value: its array, or how to compute it."""

    __slots__ = (
        "__weakref__", "alias", "array", "budget", "cost", "live", "made", "number", "part", "pins",
        "size", "used", "users",
    )  # fmt: skip

    def __init__(self, budget: memory_budget, a: Any, made: Made | None, number: int = 0) -> None:
        self.budget, self.made, self.number = budget, made, number
        self.array: Any = None  # held here
        self.live: Any = ref(a)  # while somebody else holds it
        self.size = a.nbytes
        self.cost = 0.0
        self.used = 0
        self.pins = 0
        self.alias = False  # a window on its first input
        self.part: Part | None = None
        self.users: list[Any] = []  # cells computed from this one, weakly

    def __del__(self) -> None:
        if self.array is not None and self.made is not None:
            self.budget.forget(self)

    def there(self) -> Any:
        """The array if it need not be computed."""
        return self.live() if self.array is None else self.array

    def inputs(self) -> Iterator[Cell]:
        for x in self.made.inputs if self.made is not None else ():
            if x.__class__ is Cell:
                yield x


class Held(Packed):
    """What the tape holds of a cell."""

    __slots__ = ("cell",)

    def __init__(self, cell: Cell) -> None:
        self.cell = cell

    def unpack(self) -> Any:
        return self.cell.budget.value(self.cell)


class Report:
    """What a budget did.

    Args:
        limit: the budget in bytes.
        peak: the most bytes that were held for the tape at a time.
        least: the most that could not be dropped at a time: a budget that could be met.
        evictions: how many arrays were dropped.
        recomputed: how many operations ran again.
        recomputed_cost: the part of the forward pass that this was, by estimated work.
    """

    def __init__(self, b: memory_budget) -> None:
        self.limit, self.peak, self.least = b.limit, b.peak, b.least
        self.evictions, self.recomputed = b.evictions, b.recomputed
        self.recomputed_cost = b.again / b.work if b.work else 0.0

    def __repr__(self) -> str:
        mega = 1e-6
        return (
            f"Report(limit={self.limit * mega:.6g} MB, peak={self.peak * mega:.6g} MB, "
            f"evictions={self.evictions}, recomputed={self.recomputed} operations, "
            f"{self.recomputed_cost:.0%} of the forward pass)"
        )


class memory_budget(packing):
    """Inside the block, what the tape keeps for backward stays within so many bytes, if it can.

    Beyond the budget, values are dropped and computed again when the sweep wants them. Gradients
    are the same bit for bit. A budget that is too small for the program is exceeded as far as it
    must be, or would take many times the forward pass, and a warning says what would do. Inputs,
    parameters, and arrays that the program holds itself do not count. What is recorded inside keeps
    to the budget also when `backward()` is called later.

    Args:
        limit: bytes, as a number or such as "200MB", "1.5GiB".

    Raises:
        OptionError: a limit that is no number of bytes.

    >>> import numpy as np, wengert as wg
    >>> x = wg.tensor(np.ones((100, 100)), requires_grad=True)
    >>> h = x
    >>> with wg.memory_budget("320KB") as budget:
    ...     for _ in range(20):
    ...         h = np.sin(h)
    ...     h.sum().backward()
    >>> budget.report().peak <= 320_000, budget.report().evictions > 0
    (True, True)

    References:
        Kirisame, Lyubomirsky, Haan, Brennan, He, Roesch, Chen & Tatlock, Dynamic tensor
        rematerialization (2021).
    """

    __module__ = "wengert"

    def __init__(self, limit: int | float | str) -> None:
        self.limit = amount(limit)
        self.lock = threading.RLock()
        # by the identity of an array that lives: the array and its cell, both weakly, and the cell
        # if nobody else may hold it
        self.cells: dict[int, tuple[Any, Any, Cell | None]] = {}
        self.full: dict[int, Any] = {}  # the cells that hold an array, weakly
        self.bytes = self.peak = self.least = 0
        self.evictions = self.recomputed = 0
        self.work = self.again = 0.0
        self.room, self.patience = float(self.limit), PATIENCE
        self.clock = 0
        self.warned = False
        self.open = 0
        self.before: list[Any] = []
        self.pending: Any = None

    def __enter__(self) -> memory_budget:
        old = getattr(HERE, "trace", None)
        self.before.append(old)
        if not hasattr(old, "graph"):
            HERE.trace = Writes(self, old)
        self.open += 1
        packing.__enter__(self)
        return self

    def __exit__(self, *exc: object) -> None:
        packing.__exit__(self, *exc)
        HERE.trace = self.before.pop()
        self.open -= 1
        if self.least > self.limit:
            self.complain()

    def report(self) -> Report:
        """What happened so far: `peak`, `evictions`, `recomputed` and more."""
        return Report(self)

    # ---- what the tape tells
    def computed(self, op: Any, xs: Any, values: Any, y: Any) -> None:
        """y = op(values) has been evaluated by a tape."""
        with self.lock:
            before, self.pending = self.pending, None
            if isinstance(op, Write):
                values = (before, values[1])
            inputs = [self.input(x, v) for x, v in zip(xs, values)]
            ys = y if op.outputs > 1 else (y,)
            if None in inputs or not all(v.__class__ is ndarray for v in ys):
                return
            made = Made(op, tuple(inputs))
            self.clock += 1
            cost = work(op, values, ys)
            self.work += cost
            for i, v in enumerate(ys):
                if any(v is x for x in values):
                    made.outputs.append(None)
                    continue
                cell = self.enter(v, made, i)
                cell.cost = cost
                made.outputs.append(ref(cell))
                first = inputs[0]
                if v.base is not None and first.__class__ is Cell:
                    cell.alias = np.may_share_memory(v, values[0])
            for x in inputs:
                if x.__class__ is Cell:
                    x.users += [o for o in made.outputs if o is not None]

    def input(self, x: Any, v: Any) -> Any:
        """What a second evaluation takes: a cell, or a number; None if there is neither."""
        if v.__class__ is Cell:
            return v
        if v.__class__ is ndarray:
            known = self.known(v)
            if known is not None:
                return known
            return self.enter(v if isinstance(x, Tensor) else twin(v), None)
        return v if isinstance(v, RAW) else None

    def known(self, a: Any) -> Cell | None:
        found = self.cells.get(id(a))
        return found[1]() if found is not None and found[0]() is a else None

    def enter(self, a: Any, made: Made | None, number: int = 0) -> Cell:
        cell = Cell(self, a, made, number)
        if made is None:
            cell.array = a  # from outside: always there
        self.watch(a, cell)
        return cell

    def watch(self, a: Any, cell: Cell) -> None:
        """Know the array by its identity, for as long as it lives."""
        key, cells, mine = id(a), self.cells, ref(cell)

        def gone(at: Any) -> None:
            if cells.get(key, (None,))[0] is at:
                del cells[key]
            lost = mine()
            if lost is not None and lost.array is None and lost.made is not None:
                join(lost)

        cell.live = ref(a, gone)
        cells[key] = cell.live, mine, cell if cell.array is None else None

    def wrote(self, t: Tensor) -> None:
        """t is about to be written: its buffer, unless a cell holds it, will be another value."""
        a = t.data
        if a.__class__ is not ndarray:
            self.pending = None
            return
        cell = self.known(a)
        self.pending = cell or self.enter(a.copy("K"), None)
        if cell is not None and cell.array is None:
            del self.cells[id(a)]
            cell.live = _nothing
            join(cell)

    def pack(self, rule: Any, name: str, value: Any) -> Any:
        if value.__class__ is ndarray:
            return self.keep(value)
        parts = packed(value, self.keep)
        return value if parts is value else Whole(parts)

    def keep(self, a: Any) -> Any:
        with self.lock:
            cell = self.known(a)
            if cell is None or cell.made is None:
                return a
            self.hold(cell, a)
            self.shrink()
            return Held(cell)

    # ---- holding and dropping
    def hold(self, cell: Cell, a: Any) -> None:
        while cell.alias:
            cell = next(cell.inputs())
            a = cell.there()
        cell.used = self.clock
        if cell.array is None and a is not None and cell.made is not None:
            cell.array = a
            self.cells[id(a)] = cell.live, ref(cell), None
            if cell.part is not None:
                cell.part.root().cost -= cell.cost
                cell.part = None
            self.full[id(cell)] = ref(cell)
            self.bytes += cell.size

    def forget(self, cell: Cell) -> None:
        """A cell that holds an array is gone."""
        with self.lock:
            if self.full.pop(id(cell), None) is not None:
                self.bytes -= cell.size

    def shrink(self) -> None:
        """Drop arrays until the budget is met."""
        if self.bytes > self.limit:
            while self.bytes > self.room:
                cell = self.cheapest()
                if cell is None:
                    break
                cell.array = None
                self.full.pop(id(cell), None)
                self.bytes -= cell.size
                self.evictions += 1
                join(cell)
            if self.bytes > max(self.limit, self.least):
                self.least = self.bytes
                if not self.open:
                    self.complain()
        self.peak = max(self.peak, self.bytes)

    def cheapest(self) -> Cell | None:
        """The cell to drop next. One whose array somebody else holds would free nothing."""
        best, least = None, float("inf")
        looked = 0
        for at in list(self.full.values()):
            cell = at()
            if cell is None or cell.pins or getrefcount(cell.array) > ALONE:
                continue
            looked += 1
            age = self.clock - cell.used + 1
            parts = {id(p): p for p in neighbours(cell)}
            h = (cell.cost + sum([p.cost for p in parts.values()])) / (max(cell.size, 1) * age)
            if h < least:
                best, least = cell, h
            if looked >= SAMPLE:
                break
        return best

    def complain(self) -> None:
        if not self.warned:
            self.warned = True
            warn(
                f"memory_budget({self.limit}): {self.least} bytes were needed at once; "
                f"memory_budget({self.least}) is the least that would do",
                WengertWarning,
            )

    # ---- computing again
    def value(self, cell: Cell) -> Any:
        """The array of a cell. Deep chains of dropped cells take no recursion."""
        with self.lock:
            self.clock += 1
            a = cell.there()
            if a is None:
                a = self.compute(cell)
            cell.used = self.clock
            return a

    def compute(self, wanted: Cell) -> Any:
        stack = [wanted]
        pinned: list[Cell] = []
        values: dict[int, Any] = {}  # of the inputs of what waits
        out = None
        try:
            self.pin(wanted, pinned, values)
            while stack:
                cell = stack[-1]
                missing = [x for x in cell.inputs() if values.get(id(x)) is None]
                missing = [x for x in missing if not self.found(x, values)]
                if missing:
                    stack.append(missing[-1])
                    self.pin(missing[-1], pinned, values)
                    continue
                made: Any = cell.made
                ys = made.run([values[id(x)] if x.__class__ is Cell else x for x in made.inputs])
                self.recomputed += 1
                self.again += cell.cost
                if self.again > self.patience * self.work:  # it does little but drop and compute
                    self.room = max(self.room * 1.25, self.bytes)
                    self.patience += PATIENCE / 4
                self.clock += 1
                for at, y in zip(made.outputs, ys):
                    other = at and at()
                    if other is not None and other.there() is None:
                        self.watch(y, other)
                        if other is cell or other.array is None:
                            self.hold(other, y)
                y = ys[cell.number]
                values[id(cell)] = y
                if cell is wanted:
                    out = y
                stack.pop()
                for x in cell.inputs():  # no longer needed for this one
                    x.pins -= 1
                    pinned.remove(x)
                    if not x.pins:
                        values.pop(id(x), None)
                made = ys = y = other = None
                self.shrink()
        finally:
            for x in pinned:
                x.pins -= 1
        return out

    def pin(self, cell: Cell, pinned: list[Cell], values: dict[int, Any]) -> None:
        for x in cell.inputs():
            x.pins += 1
            pinned.append(x)
            self.found(x, values)

    def found(self, x: Cell, values: dict[int, Any]) -> bool:
        a = x.there()
        if a is not None:
            values[id(x)] = a
        return a is not None


class Writes:
    """Tells a budget which buffers are about to be written."""

    def __init__(self, budget: memory_budget, old: Any) -> None:
        self.budget, self.old = budget, old

    def touch(self, t: Tensor) -> None:
        if self.old is not None:
            self.old.touch(t)

    def wrote(self, t: Tensor) -> None:
        if self.old is not None:
            self.old.wrote(t)
        self.budget.wrote(t)


def _nothing() -> None:
    return None


def neighbours(cell: Cell) -> Iterator[Part]:
    """The parts of dropped cells right beside this one."""
    for x in cell.inputs():
        if x.part is not None:
            yield x.part.root()
    for at in cell.users:
        x = at()
        if x is not None and x.part is not None:
            yield x.part.root()


def join(cell: Cell) -> None:
    """A cell has lost its array: with the dropped cells beside it, it costs what all of them do."""
    mine = cell.part = Part(cell.cost)
    for other in list(neighbours(cell)):
        other = other.root()
        if other is not mine:
            other.up = mine
            mine.cost += other.cost


def _alone() -> int:
    cell = Cell.__new__(Cell)
    cell.made = None
    cell.array = np.empty(1)
    return getrefcount(cell.array)


ALONE = _alone()
CONTRACTIONS = ("MatMul", "Affine", "Einsum", "Convolution", "Conv")


def work(op: Any, values: Any, ys: Any) -> float:
    """Roughly, in multiplications: m n k of a product, which is the root of the three sizes."""
    sizes = [v.size for v in values if v.__class__ is ndarray]
    size = sum([y.size for y in ys])
    if type(op).__name__ in CONTRACTIONS and len(sizes) > 1:
        return float(sizes[0] * sizes[1] * size) ** 0.5
    return 16.0 * (size + sum(sizes))
