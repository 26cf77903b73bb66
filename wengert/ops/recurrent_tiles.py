"""The code of recurrent networks over a whole sequence, forwards and back.

At each place in time a product with the weights, in tiles that stay in registers, and then the
gates, a vector of the state at a time. The examples are apart from each other: each thread takes
some of them through all places. The equations are those of `recurrent`, whose values z before the
gates are kept here too; their functions are those of `native.mathematics`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..native import mathematics
from ..native.ir import Function, Module, Value, vector
from ..native.target import Target
from ..native.tiles import product, registers

__all__ = ["BACKWARD", "CELLS", "FORWARD", "backward", "forward", "most_rows"]

COUNTS = ("times", "count", "first", "step", "parts")
FORWARD = ("x", "w", "b", "h", "c", "y", "cells", "z", *COUNTS)
BACKWARD = (
    "gy",
    "gc",
    "back",
    "h",
    "c",
    "y",
    "cells",
    "z",
    "gx",
    "gw",
    "dh",
    "dc",
    "carry",
    *COUNTS,
)
CAP = {"float": 85.0, "double": 700.0}  # whose exponential is finite


def most_rows(target: Target) -> int:
    """Of a tile."""
    return 8 if registers(target) == 32 else 4


@dataclass(frozen=True)
class At:
    """A vector of the state of one example: where it is, and how it is read and written."""

    f: Function
    kind: str
    lanes: int
    column: Value
    mask: Value | None

    def load(self, p: Value, offset: int = 0) -> Value:
        """From a line of the parts of the state, from the part at `offset`."""
        at, vec = self.column + offset, vector(self.kind, self.lanes)
        if self.mask is None:
            return self.f.load(p, vec, at)
        return self.f.masked_load(p, vec, self.mask, at)

    def store(self, x: Value, p: Value, offset: int = 0) -> None:
        at = self.column + offset
        if self.mask is None:
            self.f.store(x, p, at)
        else:
            self.f.masked_store(x, p, self.mask, at)

    # ---- functions
    def quotients(self, x: Value) -> tuple[Value, Value]:
        """(1 + e^x, e^x / (1 + e^x)); the quotient of the two is sigmoid'(x)."""
        e = self.f.math("exp", self.f.smaller(x, CAP[self.kind]))
        q = e + 1.0
        return q, e / q

    def dtanh(self, x: Value) -> Value:
        q, s = self.quotients(x + x)
        return s / q * 4.0

    def sigmoid(self, x: Value) -> Value:
        return 1.0 / (self.f.math("exp", -x) + 1.0)

    def tanh(self, x: Value) -> Value:
        return self.f.math("tanh", x)


Lines = dict[str, Value]  # where the lines of an example begin, by the names of the arrays


class Cell:
    """What is particular to RNN, LSTM and GRU; n is the size of the state."""

    wide: ClassVar[int]  # parts of x and w
    kept: ClassVar[int]  # parts of z

    def products(self, n: int) -> list[tuple[int, int, str, int]]:
        """(first column of w, columns, what the sum begins with, where it goes in z)."""
        return [(0, self.wide * n, "x", 0)]

    def gates(self, at: At, on: Lines, n: int) -> None:
        """The new states, from z."""
        raise NotImplementedError

    def back(self, at: At, on: Lines, n: int, dh: Value, dc: Value | None) -> None:
        """gx and gw, and what of the old states' cotangents does not go through w."""
        raise NotImplementedError


@dataclass(frozen=True)
class Simple(Cell):
    """h' = f(z)."""

    relu: bool
    wide, kept = 1, 1

    def gates(self, at: At, on: Lines, n: int) -> None:
        z = at.load(on["z"])
        at.store(at.f.larger(z, 0.0) if self.relu else at.tanh(z), on["y"])

    def back(self, at: At, on: Lines, n: int, dh: Value, dc: Value | None) -> None:
        z = at.load(on["z"])
        if self.relu:
            row = at.f.select(at.f.compare("ogt", z, 0.0), dh, 0.0)
        else:
            row = dh * at.dtanh(z)
        at.store(row, on["gx"])


class Long(Cell):
    """LSTM."""

    wide, kept = 4, 4

    def gates(self, at: At, on: Lines, n: int) -> None:
        i, f, o, g = (at.load(on["z"], k * n) for k in range(4))
        c = at.sigmoid(f) * at.load(on["old_c"]) + at.sigmoid(i) * at.tanh(g)
        at.store(c, on["cells"])
        at.store(at.sigmoid(o) * at.tanh(c), on["y"])

    def back(self, at: At, on: Lines, n: int, dh: Value, dc: Value | None) -> None:
        i, f, o, g = (at.load(on["z"], k * n) for k in range(4))
        (qi, si), (qf, sf), (qo, so) = map(at.quotients, (i, f, o))
        c = at.load(on["cells"])
        assert dc is not None
        dc = at.dtanh(c) * so * dh + dc
        at.store(dc * at.tanh(g) * (si / qi), on["gx"])
        at.store(dc * at.load(on["old_c"]) * (sf / qf), on["gx"], n)
        at.store(dh * at.tanh(c) * (so / qo), on["gx"], 2 * n)
        at.store(dc * si * at.dtanh(g), on["gx"], 3 * n)
        at.store(dc * sf, on["dc"])


class Gated(Cell):
    """GRU."""

    wide, kept = 3, 4

    def products(self, n: int) -> list[tuple[int, int, str, int]]:
        return [(0, 2 * n, "x", 0), (2 * n, n, "b", 3 * n)]

    def gates(self, at: At, on: Lines, n: int) -> None:
        r, u = (at.sigmoid(at.load(on["z"], k * n)) for k in range(2))
        x = at.load(on["x"], 2 * n)
        at.store(x, on["z"], 2 * n)
        a = at.tanh(r * at.load(on["z"], 3 * n) + x)
        at.store((at.load(on["old_h"]) - a) * u + a, on["y"])

    def back(self, at: At, on: Lines, n: int, dh: Value, dc: Value | None) -> None:
        r, u, x, k = (at.load(on["z"], k * n) for k in range(4))
        (qr, sr), (qu, su) = at.quotients(r), at.quotients(u)
        inner = sr * k + x
        gn = at.dtanh(inner) * dh / qu  # 1 - sigmoid(u) = 1 / (1 + e^u)
        gr = gn * k * (sr / qr)
        gu = (at.load(on["old_h"]) - at.tanh(inner)) * dh * (su / qu)
        for g in ("gx", "gw"):
            at.store(gr, on[g])
            at.store(gu, on[g], n)
        at.store(gn, on["gx"], 2 * n)
        at.store(gn * sr, on["gw"], 2 * n)
        at.store(dh * su, on["carry"])


CELLS: dict[str, Cell] = {
    "tanh": Simple(False), "relu": Simple(True), "lstm": Long(), "gru": Gated(),
}  # fmt: skip


class Walk:
    """A function over time for a part of the examples."""

    def __init__(self, target: Target, kind: str, name: str, n: int, fields: Sequence[str]) -> None:
        self.target, self.kind, self.n = target, kind, n
        self.module = Module(mathematics.add, target.fma)
        self.f = f = Function(self.module, name, [("context", "ptr"), ("i", "i32")])
        self.of = {
            k: f.load(f["context"], "i64" if k in COUNTS else "ptr", j)
            for j, k in enumerate(fields)
        }
        i, count, parts = f.cast("sext", f["i"], "i64"), self.of["count"], self.of["parts"]
        self.start = i * count / parts
        self.rows = (i + 1) * count / parts - self.start

    def line(self, name: str, time: Value | None, row: Value, wide: int) -> Value:
        """Of `[T, N, wide]`, or of `[N, wide]`."""
        at = row if time is None else time * self.of["count"] + row
        return self.f.at(self.of[name], at * wide, self.kind)

    def old(self, array: str, first: str, i: Value, time: Value, row: Value) -> Value:
        """The line of a state before this place in time, which is place i."""
        before = self.line(array, time - self.of["step"], row, self.n)
        return self.f.select(
            self.f.compare("eq", i, 0), self.line(first, None, row, self.n), before
        )

    def vectors(self) -> Iterator[At]:
        """All of the state: a loop over whole vectors, and the rest."""
        f, lanes = self.f, self.target.lanes(self.kind)
        whole = self.n // lanes * lanes
        if whole:
            with f.loop(0, whole, lanes, unroll=False) as column:
                yield At(f, self.kind, lanes, column, None)
        if whole < self.n:
            mask = f.first_lanes(self.n - whole, lanes)
            yield At(f, self.kind, lanes, f.const(whole, "i64"), mask)


def forward(target: Target, kind: str, cell: str, n: int, rows: int) -> str:
    """@forward(context, i): all places for part i of the examples, at least `rows` of them.

    Args:
        target, kind: the machine, and `float` or `double`.
        cell: of `CELLS`.
        n: the size of the state.
        rows: examples in a tile.
    """
    its = CELLS[cell]
    walk = Walk(target, kind, "forward", n, FORWARD)
    f, of = walk.f, walk.of
    x, z = its.wide * n, its.kept * n
    products = []
    for k, (at, wide, begin, to) in enumerate(its.products(n)):
        strides = n, x, x if begin == "x" else 0, z
        name = f"product{k}"
        call = product(walk.module, name, kind, target, (rows, wide, n), strides, begin=True)
        products.append((call, at, begin, to))
    with f.loop(0, of["times"], unroll=False) as i:
        t = of["first"] + i * of["step"]
        h = walk.old("y", "h", i, t, walk.start)
        for call, at, begin, to in products:
            start = walk.line("x", t, walk.start, x) if begin == "x" else of["b"]
            start = f.at(start, at, kind) if begin == "x" else start
            out = f.at(walk.line("z", t, walk.start, z), to, kind)
            call(f, h, f.at(of["w"], at, kind), start, out, walk.rows)
        with f.loop(0, walk.rows, unroll=False) as j:
            row = walk.start + j
            on = {"x": walk.line("x", t, row, x), "z": walk.line("z", t, row, z),
                  "y": walk.line("y", t, row, n), "cells": walk.line("cells", t, row, n),
                  "old_h": walk.old("y", "h", i, t, row),
                  "old_c": walk.old("cells", "c", i, t, row)}  # fmt: skip
            for vectors in walk.vectors():
                its.gates(vectors, on, n)
    f.ret()
    return str(walk.module)


def backward(target: Target, kind: str, cell: str, n: int, rows: int, given: str) -> str:
    """@backward(context, i): back through all places for part i of the examples.

    Args:
        target, kind, cell, n, rows: as for `forward`.
        given: which cotangents come from outside, of "y" and "c".
    """
    its = CELLS[cell]
    walk = Walk(target, kind, "backward", n, BACKWARD)
    f, of = walk.f, walk.of
    x, z = its.wide * n, its.kept * n
    side, begin = ("gw", True) if cell == "gru" else ("gx", False)
    through = product(walk.module, "through", kind, target, (rows, n, x), (x, n, n, n), begin=begin)
    with f.loop(0, of["times"], unroll=False) as k:
        i = of["times"] - 1 - k
        t = of["first"] + i * of["step"]
        with f.loop(0, walk.rows, unroll=False) as j:
            row = walk.start + j
            on = {
                name: walk.line(name, t, row, wide)
                for name, wide in (
                    ("z", z),
                    ("y", n),
                    ("cells", n),
                    ("gx", x),
                    ("gw", x),
                    ("gy", n),
                    ("gc", n),
                )
            }
            on |= {name: walk.line(name, None, row, n) for name in ("dh", "dc", "carry")}
            on |= {
                "old_h": walk.old("y", "h", i, t, row),
                "old_c": walk.old("cells", "c", i, t, row),
            }
            for at in walk.vectors():
                dh = at.load(on["dh"])
                dc = at.load(on["dc"]) if cell == "lstm" else None
                dh = dh + at.load(on["gy"]) if "y" in given else dh
                dc = dc + at.load(on["gc"]) if dc is not None and "c" in given else dc
                its.back(at, on, n, dh, dc)
        args = [walk.line(side, t, walk.start, x), of["back"]]
        args += [walk.line(name, None, walk.start, n) for name in ("carry", "dh")]
        through(f, *args, walk.rows)
    f.ret()
    return str(walk.module)
