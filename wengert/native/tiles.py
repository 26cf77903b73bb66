"""Sums of products that stay in registers: a tile of some rows by some vectors of columns.

In each step a few vectors are loaded and multiplied by one number for each row of the tile; nothing
but the sums is kept, and they are written once at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .ir import Function, Module, Value, vector
from .target import Target

__all__ = ["Tile", "helper", "panels", "product", "registers"]


def registers(target: Target) -> int:
    """Vector registers of the machine."""
    return 32 if target.name in ("avx512", "neon") else 16


class Tile:
    """Sums, `rows` by as many vectors as `columns` take; the last vector may be a part."""

    def __init__(self, f: Function, kind: str, rows: int, columns: int, lanes: int) -> None:
        self.f, self.vec, self.lanes = f, vector(kind, lanes), lanes
        self.starts = range(0, columns, lanes)
        self.masks = [
            f.first_lanes(columns - v, lanes) if columns - v < lanes else None for v in self.starts
        ]
        zero = f.const(0.0, self.vec)
        self.sums = [[f.slot(zero) for _ in self.starts] for _ in range(rows)]

    def load(self, p: Value) -> list[Value]:
        f = self.f
        return [
            f.load(p, self.vec, v) if mask is None else f.masked_load(p, self.vec, mask, v)
            for v, mask in zip(self.starts, self.masks)
        ]

    def begin(self, row: int, p: Value) -> None:
        """The sums of a row begin with what lies at p."""
        for s, x in zip(self.sums[row], self.load(p)):
            self.f.set(s, x)

    def add(self, row: int, left: Value, right: Sequence[Value]) -> None:
        """left times the vectors of right."""
        f, left = self.f, self.f.splat(left, self.lanes)
        for s, x in zip(self.sums[row], right):
            f.set(s, f.fma(left, x, f.get(s, self.vec)))

    def store(self, row: int, p: Value, old: bool = False) -> None:
        """A row to p; `old`: added to what is there."""
        was = self.load(p) if old else [None] * len(self.starts)
        for s, v, mask, x in zip(self.sums[row], self.starts, self.masks, was):
            y = self.f.get(s, self.vec)
            y = y if x is None else x + y
            if mask is None:
                self.f.store(y, p, v)
            else:
                self.f.masked_store(y, p, mask, v)


def helper(module: Module, name: str, pointers: str, numbers: str) -> Function:
    """A function for use within the module, of pointers and then of i64 numbers."""
    args = [(n, "ptr") for n in pointers.split()] + [(n, "i64") for n in numbers.split()]
    return Function(module, name, args, linkage="internal", attributes="noinline nounwind")


def panels(columns: int, width: int) -> list[tuple[int, int]]:
    """(first column, columns) of the parts of a row.

    >>> panels(100, 48)
    [(0, 48), (48, 48), (96, 4)]
    """
    return [(at, min(width, columns - at)) for at in range(0, columns, width)]


def product(
    module: Module,
    name: str,
    kind: str,
    target: Target,
    sizes: tuple[int, int, int],
    strides: tuple[int, int, int, int],
    begin: bool,
) -> Callable[..., Any]:
    """out = start + a w for as many rows as a call says, at least those of a tile.

    Args:
        module, name, kind, target: where it goes, and for what.
        sizes: rows of a tile, columns of w, rows of w.
        strides: from one row to the next of a, w, start and out.
        begin: whether there is a start, which must not be the memory of out.

    Returns:
        (a, w, start, out, rows) -> None, which writes a call into a function.
    """
    rows, columns, depth = sizes
    la, lw, ls, lo = strides
    lanes = target.lanes(kind)
    made: dict[int, str] = {}
    parts = panels(columns, lanes * (3 if registers(target) == 32 else 2))
    for wide in {n for _, n in parts}:
        made[wide] = f"{name}_{wide}"
        f = helper(module, made[wide], "a w start out", "")
        tile = Tile(f, kind, rows, wide, lanes)
        if begin:
            for i in range(rows):
                tile.begin(i, f.at(f["start"], i * ls, kind))
        with f.loop(0, depth, unroll=False) as k:
            right = tile.load(f.at(f["w"], k * lw, kind))
            for i in range(rows):
                tile.add(i, f.load(f.at(f["a"], i * la, kind), kind, k), right)
        for i in range(rows):
            tile.store(i, f.at(f["out"], i * lo, kind))
        f.ret()

    def call(f: Function, a: Value, w: Value, start: Value, out: Value, count: Value) -> None:
        for at, wide in parts:
            with f.loop(0, (count + (rows - 1)) / rows, unroll=False) as k:
                r = f.smaller(k * rows, count - rows)  # the last begins earlier
                args = a, w, start, out
                steps = r * la, at, r * ls + at, r * lo + at
                f.call(made[wide], "void", *[f.at(p, s, kind) for p, s in zip(args, steps)])

    return call
