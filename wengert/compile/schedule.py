"""Steps gathered into regions: what can run at the same time, and what must wait.

A *chain* is a list of steps that go through the same rows, piece by piece: when a piece has gone
through one step, it goes through the next, while its numbers are in the cache. A *region* is a set
of chains that need nothing of each other; all their pieces may run at once, and a barrier ends it.

How a chain is cut depends on its work alone, never on the number of threads, and partial sums
belong to pieces: the same numbers come out of one thread and of many.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from ..graph import Var
from ..types import DType
from .kernel import Fold, Kernel, Operand, Statement, Store
from .lower import Call, Loops, Product, Scatter, Step, Steps

__all__ = ["Chain", "Partial", "Region", "cost", "schedule"]

GRAIN = 25.0  # microseconds that a piece should take, at least
SERIAL = 30.0  # microseconds of work that are not worth waking other threads for
MOST = 64  # pieces of a chain
ROWS = 8  # rows of a matrix product that stay together; 4 and 16 times as many with a large matrix
FLOPS = 8e4  # of a product, in a microsecond
POINT = 2.5e-4  # microseconds for one cheap statement at one point, vectors and all
DEAR = {"exp", "log", "tanh", "erf", "erfc", "pow", "sin", "cos", "gelu", "dgelu", "sigmoid",
        "div", "sqrt", "softplus", "normal_cdf"}  # fmt: skip


class Partial:
    """Storage for the folds of pieces: `count` results of `size` elements, one after the other."""

    __slots__ = ("count", "dtype", "n", "of", "size")

    def __init__(self, of: Var, count: int) -> None:
        self.of, self.count = of, count
        self.size, self.dtype, self.n = of.size * count, of.dtype, of.n

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.size,)


@dataclass(slots=True)
class Chain:
    """Steps that go piece by piece through the same rows: `rows` of them, `block` to a piece."""

    steps: list[Step]
    rows: int
    block: int = 0

    @property
    def pieces(self) -> int:
        return -(-self.rows // self.block)


@dataclass(slots=True)
class Region:
    """Chains that run at once; or one call of Python."""

    chains: list[Chain] = field(default_factory=list)
    call: Call | None = None

    @property
    def steps(self) -> list[Step]:
        if self.call is not None:
            return [self.call]
        return [s for c in self.chains for s in c.steps]

    @property
    def work(self) -> float:
        """Microseconds on one thread, roughly."""
        return sum(cost(s) for s in self.steps)

    def units(self) -> list[tuple[Chain, int]]:
        """(chain, piece), in the order in which they are begun."""
        return [(c, p) for c in self.chains for p in range(c.pieces)]


# ------------------------------------------------------------------ what a step touches


def rows_of(step: Step) -> int:
    """How many rows a step can be cut into."""
    if isinstance(step, Loops):
        return step.kernel.space[0]
    if isinstance(step, Scatter):
        return 1
    assert isinstance(step, Product)
    lead = step.out.shape[:-2]
    return (
        int(lead[0])
        if math.prod(lead) > 1 and lead[0] > 1
        else (int(step.out.shape[-2]) if math.prod(lead) == 1 else 1)
    )


@dataclass(frozen=True, slots=True)
class Touch:
    """One storage that a step reads or writes; `local`: each row its own part, in order."""

    base: Any
    writes: bool
    local: bool


def touches(step: Step) -> list[Touch]:
    if isinstance(step, Call | Scatter):
        return [Touch(b, False, False) for b in step.reads()] + [
            Touch(b, True, False) for b in step.writes
        ]
    out = []
    if isinstance(step, Loops):
        k = step.kernel
        for s in k.body:
            if s.operand is not None:
                base = step.args[s.operand.arg]
                out.append(Touch(base, False, slab(k, s.operand, base)))
        for o in k.outputs:
            base = step.args[o.to.arg]
            local = slab(k, o.to, base) and not (isinstance(o, Fold) and o.to.strides[0] == 0)
            out.append(Touch(base, True, local or (k.space[0] == 1)))
        return out
    lead = step.out.shape[:-2]
    a, b = step.a, step.b
    if math.prod(lead) > 1:
        return [
            Touch(a.base, False, first_axis(a, lead)),
            Touch(b.base, False, first_axis(b, lead)),
            Touch(step.out, True, lead[0] > 1),
        ]
    rows = a.shape[-2]
    mine = a.strides[-2] * rows == a.base.size and a.strides[-1] >= 0
    inside = a.offset + (a.shape[-1] - 1) * a.strides[-1] < a.strides[-2]
    return [
        Touch(a.base, False, mine and inside), Touch(b.base, False, False),
        Touch(step.out, True, True),
    ]  # fmt: skip


def slab(kernel: Kernel, o: Operand, base: Any) -> bool:
    """Whether row i of the kernel stays within the i-th of equal parts of a storage."""
    rows = kernel.space[0]
    if rows == 1:
        return o.strides[0] == 0 or True
    if o.index or o.strides[0] * rows != base.size or any(s < 0 for s in o.strides):
        return False
    reach = sum(s * (n - 1) for s, n in zip(o.strides[1:], kernel.space[1:]))
    return o.offset + reach < o.strides[0]


def first_axis(view: Any, lead: tuple[int, ...]) -> bool:
    if len(view.shape) - 2 < len(lead) or view.shape[0] != lead[0]:
        return False
    if view.strides[0] * lead[0] != view.base.size or any(s < 0 for s in view.strides):
        return False
    reach = sum(s * (n - 1) for s, n in zip(view.strides[1:], view.shape[1:]))
    return bool(view.offset + reach < view.strides[0])


def cost(step: Step) -> float:
    """Microseconds on one thread, roughly."""
    if isinstance(step, Call):
        return 5.0
    if isinstance(step, Scatter):
        return 1e-3 * step.count + 3e-4 * step.count * step.each
    if isinstance(step, Product):
        return 2.0 * step.out.size * step.a.shape[-1] / FLOPS * (1 if step.dtype.char == "f" else 2)
    k = step.kernel
    points = math.prod(k.space)
    once = [False] * len(k.body) if k.space[-1] == 1 else k.by_row()
    price = sum(4 if s.op in DEAR else 1 for s, rowwise in zip(k.body, once) if not rowwise)
    return points * max(1, price) * POINT


# ------------------------------------------------------------------ regions


def schedule(steps: Steps, alias: dict[int, int] | None = None) -> list[Region]:
    """Regions in the order in which they run; folds of several pieces get a step that adds up.

    alias: outputs that stand where an input stands: output -> input.
    """
    todo = list(steps.steps)
    stands = {id(steps.outputs[j]): steps.inputs[i] for j, i in (alias or {}).items()}
    marks = [
        [Touch(stands.get(id(t.base), t.base), t.writes, t.local) for t in touches(s)] for s in todo
    ]
    before = predecessors(todo, marks)
    done: set[int] = set()
    regions: list[Region] = []
    left = list(range(len(todo)))
    while left:
        region = Region()
        member: dict[int, int] = {}  # of a step, the chain
        again = True
        while again:
            again = False
            for k in left:
                if k in member:
                    continue
                near = {p for p in before[k] if p not in done}
                if not near <= member.keys():
                    continue
                step = todo[k]
                if isinstance(step, Call):
                    if not member and not near:
                        region.call = step
                        member[k] = -1
                        break
                    continue
                chain = chosen(region, step, marks, k, near, member)
                if chain is None:
                    continue
                member[k] = chain
                again = True
            if region.call is not None:
                break
        region.chains = [c for c in region.chains if c.steps]
        done |= member.keys()
        left = [k for k in left if k not in member]
        cut(region)
        regions.append(region)
        regions += added_up(region)
    return regions


def predecessors(todo: list[Step], marks: list[list[Touch]]) -> list[set[int]]:
    """For each step those that come first: it reads what they write, or writes what they touch."""
    readers: dict[int, list[int]] = {}
    writers: dict[int, list[int]] = {}
    out: list[set[int]] = []
    for k, touched in enumerate(marks):
        mine: set[int] = set()
        for t in touched:
            mine.update(writers.get(id(t.base), ()))
            if t.writes:
                mine.update(readers.get(id(t.base), ()))
        mine.discard(k)
        out.append(mine)
        for t in touched:
            (writers if t.writes else readers).setdefault(id(t.base), []).append(k)
    return out


def chosen(
    region: Region, step: Step, marks: Any, k: int, near: set[int], member: dict[int, int]
) -> int | None:
    """The chain that a step joins, perhaps a new one; None if it has to wait.

    Chains that the step needs together become one.
    """
    rows = rows_of(step)
    if not near:
        region.chains.append(Chain([step], rows))
        return len(region.chains) - 1
    if not aligned(marks[k], [marks[p] for p in near]):
        return None
    first, *others = sorted({member[p] for p in near})
    sizes = [region.chains[c].rows for c in (first, *others)] + [rows]
    common = math.gcd(*sizes)
    if common < min(sizes) or (common == 1 and max(sizes) > 1):
        return None
    chain = region.chains[first]
    for c in others:
        chain.steps += region.chains[c].steps
        region.chains[c].steps = []
        for p, home in member.items():
            if home == c:
                member[p] = first
    chain.steps.append(step)
    chain.rows = common
    return first


def aligned(mine: list[Touch], others: list[list[Touch]]) -> bool:
    """Whether pieces never meet: where both touch a storage and one writes, both are local."""
    for touched in others:
        for t in touched:
            for u in mine:
                if t.base is u.base and (t.writes or u.writes) and not (t.local and u.local):
                    return False
    return True


def cut(region: Region) -> None:
    """How many rows of each chain are a piece."""
    for chain in region.chains:
        work = sum(cost(s) for s in chain.steps)
        pieces = max(1, min(MOST, int(work / GRAIN), chain.rows))
        block = -(-chain.rows // pieces)
        least = 1
        for s in chain.steps:
            if isinstance(s, Product) and math.prod(s.out.shape[:-2]) == 1:
                each = rows_of(s) // chain.rows
                other = s.a.shape[-1] * s.out.shape[-1] * s.dtype.itemsize
                together = ROWS * (1 if other < 1 << 19 else 4 if other < 1 << 22 else 16)
                least = max(least, together // max(1, each))
        chain.block = min(chain.rows, max(block, least))


def added_up(region: Region) -> list[Region]:
    """The step that adds up the folds of several pieces, in the order of the pieces."""
    out = Region()
    for chain in region.chains:
        if chain.pieces == 1:
            continue
        for at, step in enumerate(chain.steps):
            if not isinstance(step, Loops):
                continue
            folds = [
                (n, o) for n, o in enumerate(step.kernel.outputs)
                if isinstance(o, Fold) and o.to.strides[0] == 0 and step.kernel.space[0] > 1
            ]  # fmt: skip
            if not folds:
                continue
            args, outputs = list(step.args), list(step.kernel.outputs)
            for n, o in folds:
                v = step.args[o.to.arg]
                partial = Partial(v, chain.pieces)
                args.append(partial)
                to = Operand(len(args) - 1, o.to.dtype, o.to.offset, o.to.strides, o.to.index)
                outputs[n] = Fold(o.value, o.combine, to, v.size, o.rows)
                out.chains.append(Chain([adding(partial, v, o.combine)], 1, 1))
            kernel = Kernel(step.kernel.space, step.kernel.body, tuple(outputs))
            chain.steps[at] = Loops(kernel, args, step.lines, step.writes)
    return [out] if out.chains else []


def adding(partial: Partial, v: Var, combine: str) -> Loops:
    """v = the parts of `partial`, combined."""
    dtype: DType = v.dtype
    word = {"add": "add", "max": "maximum", "min": "minimum", "mul": "mul"}[combine]
    body: list[Statement] = []
    total = -1
    for p in range(partial.count):
        body.append(Statement("load", (), dtype, Operand(0, dtype, p * v.size, (0, 1))))
        if total < 0:
            total = 0
        else:
            body.append(Statement(word, (total, len(body) - 1), dtype))
            total = len(body) - 1
    kernel = Kernel((1, v.size), tuple(body), (Store(total, Operand(1, dtype, 0, (0, 1))),))
    return Loops(kernel, [partial, v], [], [v])
