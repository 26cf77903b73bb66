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
from .lower import Steps
from .memory import Block, Plan, check, plan
from .schedule import Chain, Partial, Region, touches

__all__ = ["Private", "Storage", "arranged"]


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
    """The memory of a piece of a chain."""
    rows = [nbytes(u.base) // chain.rows for u in some]
    made = plan([
        Block(row * chain.block, min(n for *_, n in u.at), max(n for *_, n in u.at))
        for u, row in zip(some, rows)
    ])  # fmt: skip
    check(made)
    return Private(
        made,
        {id(u.base): at for u, at in zip(some, made.offsets)},
        {id(u.base): row for u, row in zip(some, rows)},
    )


def nbytes(base: Any) -> int:
    return int(base.size) * int(base.dtype.itemsize)
