"""Where every storage of a program is: outside, in the shared arena, or in a piece's own memory.

A storage that only one chain touches, each piece its own part of it, need not be there as a whole:
a piece keeps its part in memory of its own, which the next piece on the same thread takes over
while it is still in the cache. Within such memory, and within the arena for a chain of one piece,
places are shared by storages that are not needed at the same step; what regions hand on to each
other is planned by regions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..graph import Var
from .kernel import Fold, Operand
from .lower import Loops, Step, Steps
from .memory import Block, Plan, check, plan
from .schedule import Chain, Partial, Region, touches

__all__ = ["Private", "Storage", "arranged", "same_places"]


@dataclass(slots=True)
class Private:
    """The memory of one piece of a chain: offsets, and bytes of each storage for a row."""

    plan: Plan
    offsets: dict[int, int] = field(default_factory=dict)
    row: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class Storage:
    """The places of all storages, by identity.

    Args:
        outside: what the pointer table names after the arena: inputs, outputs, constants.
        slots: places in the table.
        constants: the arrays among them, in row-major order.
        plan: of the shared arena; offsets in it.
        private: by the identity of a chain.
    """

    outside: list[Any]
    slots: dict[int, int]
    constants: list[Any]
    first_constant: int
    plan: Plan
    offsets: dict[int, int]
    private: dict[int, Private]

    @property
    def own(self) -> int:
        """Bytes of the largest memory of a piece."""
        return max([p.plan.size for p in self.private.values()], default=0)


@dataclass(slots=True)
class Use:
    """Which steps touch a storage, as (region, chain, step in it), and whether by rows alone."""

    base: Any
    at: list[tuple[int, int, int]]
    local: bool = True


def uses(regions: list[Region], slots: dict[int, int]) -> dict[int, Use]:
    out: dict[int, Use] = {}
    for k, region in enumerate(regions):
        chains = [c.steps for c in region.chains] or [region.steps]
        for c, steps in enumerate(chains):
            for n, step in enumerate(steps):
                locals_ = {id(t.base): True for t in touches(step)}
                for t in touches(step):
                    locals_[id(t.base)] &= t.local
                for base in step.args:
                    if id(base) in slots or not isinstance(base, Var | Partial):
                        continue
                    use = out.setdefault(id(base), Use(base, []))
                    use.at.append((k, c, n))
                    use.local &= locals_.get(id(base), False) and not isinstance(base, Partial)
    return out


def arranged(steps: Steps, regions: list[Region]) -> Storage:
    """The places of all storages of scheduled steps."""
    inputs = {id(v): k for k, v in enumerate(steps.inputs)}
    outputs = {id(v): k for k, v in enumerate(steps.outputs) if isinstance(v, Var)}
    outside: list[Any] = [*steps.inputs, *steps.outputs]
    slots = {key: 1 + k for key, k in inputs.items()}
    slots.update({key: 1 + len(inputs) + k for key, k in outputs.items()})
    first_constant = len(outside)
    constants: list[Any] = []
    for region in regions:
        for step in region.steps:
            for base in step.args:
                if id(base) not in slots and not isinstance(base, Var | Partial):
                    slots[id(base)] = 1 + len(outside)
                    outside.append(base)
                    constants.append(np.asarray(base, order="C"))
    found = uses(regions, slots)
    mine: dict[tuple[int, int], list[Use]] = {}
    shared: list[Use] = []
    for use in found.values():
        homes = {(k, c) for k, c, _ in use.at}
        ((k, c), *others) = homes
        region = regions[k]
        chain = region.chains[c] if region.chains else None
        if others or chain is None or not (use.local or chain.pieces == 1):
            shared.append(use)
        else:
            mine.setdefault((k, c), []).append(use)
    blocks = [
        Block(nbytes(u.base), min(k for k, _, _ in u.at), max(k for k, _, _ in u.at))
        for u in shared
    ]
    keys: list[list[tuple[int, int]]] = [[(id(u.base), 0)] for u in shared]
    private: dict[int, Private] = {}
    for (k, c), some in mine.items():
        chain = regions[k].chains[c]
        made = kept(chain, some)
        if chain.pieces == 1:  # alone in its memory: a part of the arena
            blocks.append(Block(made.plan.size, k, k))
            keys.append(list(made.offsets.items()))
        else:
            private[id(chain)] = made
    whole = plan(blocks)
    check(whole)
    offsets = {
        key: start + inner for inside, start in zip(keys, whole.offsets) for key, inner in inside
    }
    return Storage(outside, slots, constants, first_constant, whole, offsets, private)


def kept(chain: Chain, some: list[Use]) -> Private:
    """The memory of a piece of a chain; a kernel may write over what it reads last."""
    spans = {id(u.base): (min(n for *_, n in u.at), max(n for *_, n in u.at)) for u in some}
    over = written_over(chain, some, spans)
    blocks: dict[int, tuple[int, int, int]] = {}  # by the first storage that stands there
    for u in some:
        key = id(u.base)
        root = key
        while root in over:
            root = over[root]
        start, stop = spans[key]
        size, first, last = blocks.get(root, (0, start, stop))
        row = nbytes(u.base) // chain.rows
        blocks[root] = max(size, row * chain.block), min(first, start), max(last, stop)
    made = plan([Block(*b) for b in blocks.values()])
    check(made)
    at = dict(zip(blocks, made.offsets))
    offsets = {}
    for u in some:
        root = id(u.base)
        while root in over:
            root = over[root]
        offsets[id(u.base)] = at[root]
    return Private(made, offsets, {id(u.base): nbytes(u.base) // chain.rows for u in some})


def written_over(
    chain: Chain, some: list[Use], spans: dict[int, tuple[int, int]]
) -> dict[int, int]:
    """Storages that take the place of another: new -> old, which nothing reads afterwards."""
    mine = {id(u.base): u.base for u in some}
    over: dict[int, int] = {}
    taken: set[int] = set()
    for n, step in enumerate(chain.steps):
        if not isinstance(step, Loops):
            continue
        for v in step.writes:
            if id(v) not in mine or spans[id(v)][0] != n:
                continue
            for x in step.reads():
                free = id(x) in mine and id(x) not in taken and spans[id(x)][1] == n
                if free and nbytes(x) == nbytes(v) and same_places(step, x, v):
                    over[id(v)] = id(x)
                    taken.add(id(x))
                    break
    return over


def same_places(step: Step, given: Any, out: Any) -> bool:
    """Whether a kernel reads the one only where it writes the other."""
    if not isinstance(step, Loops):
        return False
    at = [k for k, a in enumerate(step.args) if a is given]
    to = [k for k, a in enumerate(step.args) if a is out]
    kernel = step.kernel
    if any(isinstance(o, Fold) and o.to.arg in to for o in kernel.outputs):
        return False
    written = {(o.to.offset, live(kernel.space, o.to)) for o in kernel.outputs if o.to.arg in to}
    read = {
        (s.operand.offset, live(kernel.space, s.operand))
        for s in kernel.body
        if s.operand is not None and s.operand.arg in at
    }
    return written == read and len(written) == 1


def live(space: tuple[int, ...], o: Operand) -> tuple[int, ...]:
    return tuple([s if n != 1 else 0 for n, s in zip(space, o.strides)])


def nbytes(base: Any) -> int:
    return int(base.size) * int(base.dtype.itemsize)
