"""The code of dense convolution: tiles of numbers that stay in registers while a sum runs.

    forward  y[q, m]    = sum_{t, c} x[table[q, t] + c] w[t, c, m]      a tile is some q by some m
    weight   w[t, c, m] += sum_q x[table[q, t] + c] u[q, m]             a tile is some t, c by m

`table` says where in an image the tap t of a place q lies; -1 is outside, where a line of zeros is
read. So there are no columns and no padded copy, and stride, dilation and padding cost nothing. In
each step some vectors of w or u are loaded, and multiplied by one number of x for each row of the
tile. Both are functions (ptr context, i32 i) for the pool of threads; the context's fields are
`FORWARD` and `WEIGHT`, 8 bytes each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from ..native.ir import Function, Module, Value
from ..native.target import Target
from ..native.tiles import Tile, helper, registers

__all__ = ["FORWARD", "WEIGHT", "forward", "panels", "weight"]

FORWARD = (
    "x", "table", "zero", "w", "y", "total", "places", "image", "taps", "c", "block", "ldw", "ldy",
    "full",
)  # fmt: skip
WEIGHT = (
    "x", "table", "zero", "u", "w", "images", "places", "image", "ldw", "ldu", "full", "few",
    "some", "parts",
)  # fmt: skip
POINTERS = {"x", "table", "zero", "w", "y", "u"}
WIDE, NARROW = {4: 5, 3: 6, 2: 8, 1: 12}, {2: 6, 1: 12}  # rows by vectors: 32 and 16 registers
WIDE_SUMS = {4: 6, 3: 8, 2: 12, 1: 12}  # the same where nothing but sums is written
BLOCK = 120  # places at a time, a multiple of all rows


def panels(m: int, target: Target, kind: str) -> tuple[int, int, int]:
    """(channels of a full panel, how many of them m channels fill, what is left)."""
    width = target.lanes(kind) * (4 if registers(target) == 32 else 2)
    return width, m // width, m % width


def entry(module: Module, name: str, fields: Sequence[str]) -> tuple[Function, dict[str, Value]]:
    f = Function(module, name, [("context", "ptr"), ("i", "i32")])
    found = {
        field: f.load(f["context"], "ptr" if field in POINTERS else "i64", k)
        for k, field in enumerate(fields)
    }
    return f, found


def quotient(f: Function, a: Value, b: Any, up: bool = False) -> Value:
    return (a + (b - 1) if up else a) / b


def patch(f: Function, kind: str, x: Value, line: Value, tap: Any, zero: Value) -> Value:
    """Where the tap of a place is, whose line of the table is given."""
    at = f.load(line, "i32", tap)
    there = f.at(x, f.cast("sext", at, "i64"), kind)
    return f.select(f.compare("slt", at, 0), zero, there)


# ---- forward
def forward_rows(target: Target, kind: str, columns: int) -> int:
    vectors = -(-columns // target.lanes(kind))
    return (WIDE if registers(target) == 32 else NARROW)[vectors]


def forward_tile(module: Module, kind: str, columns: int, target: Target) -> None:
    f = helper(module, f"forward_{columns}", "x lines zero w y", "taps c ldw ldy")
    rows = forward_rows(target, kind, columns)
    tile = Tile(f, kind, rows, columns, target.lanes(kind))
    w = f.slot(f["w"])
    images = [f.load(f["x"], "ptr", p) for p in range(rows)]
    lines = [f.load(f["lines"], "ptr", p) for p in range(rows)]
    with f.loop(0, f["taps"], unroll=False) as t:
        places = [patch(f, kind, x, line, t, f["zero"]) for x, line in zip(images, lines)]
        with f.loop(0, f["c"], unroll=False) as c:
            here = f.get(w, "ptr")
            right = tile.load(here)
            for p, place in enumerate(places):
                tile.add(p, f.load(place, kind, c), right)
            f.set(w, f.at(here, f["ldw"], kind))
    for p in range(rows):
        tile.store(p, f.at(f["y"], f["ldy"] * p, kind))
    f.ret()


def forward(target: Target, kind: str, full: bool, rest: int) -> str:
    """@forward(context, i): the places of block i, for all channels.

    Args:
        target, kind: the machine, and `float` or `double`.
        full: whether there are full panels of channels.
        rest: channels beside them.
    """
    module = Module(fma=target.fma)
    width, _, _ = panels(0, target, kind)
    widths = [*([width] if full else []), *([rest] if rest else [])]
    for columns in widths:
        forward_tile(module, kind, columns, target)
    f, of = entry(module, "forward", FORWARD)
    most = max(forward_rows(target, kind, columns) for columns in widths)
    images, lines = f.room("ptr", most), f.room("ptr", most)
    start = f.cast("sext", f["i"], "i64") * of["block"]
    stop = f.smaller(start + of["block"], of["total"])

    def panel(first: Value, columns: int) -> None:
        rows = forward_rows(target, kind, columns)
        with f.loop(0, quotient(f, stop - start, rows, up=True), unroll=False) as k:
            # the last tile of all begins earlier, and repeats some places
            q = f.smaller(start + k * rows, of["total"] - rows)
            image = quotient(f, q, of["places"])
            place = q - image * of["places"]
            for p in range(rows):
                f.store(f.at(of["x"], image * of["image"], kind), images, p)
                f.store(f.at(of["table"], place * of["taps"], "i32"), lines, p)
                place = place + 1
                over = f.compare("eq", place, of["places"])
                image, place = f.select(over, image + 1, image), f.select(over, 0, place)
            w, y = f.at(of["w"], first, kind), f.at(of["y"], q * of["ldy"] + first, kind)
            args = images, lines, of["zero"], w, y, *(of[n] for n in ("taps", "c", "ldw", "ldy"))
            f.call(f"forward_{columns}", "void", *args)

    each_panel(f, of, width, full, rest, panel)
    f.ret()
    return str(module)


def each_panel(
    f: Function,
    of: dict[str, Value],
    width: int,
    full: bool,
    rest: int,
    panel: Callable[[Value, int], None],
) -> None:
    if full:
        with f.loop(0, of["full"], unroll=False) as k:
            panel(k * width, width)
    if rest:
        panel(of["full"] * width, rest)


# ---- weight
def weight_rows(target: Target, kind: str, columns: int) -> int:
    vectors = -(-columns // target.lanes(kind))
    return (WIDE_SUMS if registers(target) == 32 else NARROW)[vectors]


def weight_tile(
    module: Module, kind: str, taps: int, c: int, shape: tuple[int, int], columns: int,
    target: Target,
) -> str:  # fmt: skip
    some, channels = shape
    name = f"weight_{some}_{channels}_{columns}"
    f = helper(
        module, name, "x table zero u w", "n0 n1 r0 r1 places image ldw ldu"
    )  # fmt: skip
    tile = Tile(f, kind, some * channels, columns, target.lanes(kind))
    with f.loop(f["n0"], f["n1"], unroll=False) as n:
        x = f.at(f["x"], n * f["image"], kind)
        u = f.at(f["u"], n * f["places"] * f["ldu"], kind)
        with f.loop(f["r0"], f["r1"], unroll=False) as r:
            line = f.at(f["table"], r * taps, "i32")
            right = tile.load(f.at(u, r * f["ldu"], kind))
            for i in range(some):
                place = patch(f, kind, x, line, i, f["zero"])
                for j in range(channels):
                    tile.add(i * channels + j, f.load(place, kind, j), right)
    for i in range(some):
        for j in range(channels):
            tile.store(i * channels + j, f.at(f["w"], f["ldw"] * (i * c + j), kind), old=True)
    f.ret()
    return name


def weight(target: Target, kind: str, taps: int, c: int, full: bool, rest: int) -> str:
    """@weight(context, i): part i of the rows of w, for all channels.

    Args:
        target, kind: the machine, and `float` or `double`.
        taps, c: of the kernel, and the channels of x that a place of it reads.
        full, rest: as for `forward`.
    """
    module = Module(fma=target.fma)
    width, _, _ = panels(0, target, kind)
    f, of = entry(module, "weight", WEIGHT)
    i = f.cast("sext", f["i"], "i64")

    @lru_cache(None)
    def tile(shape: tuple[int, int], columns: int) -> str:
        return weight_tile(module, kind, taps, c, shape, columns, target)

    def panel(first: Value, columns: int) -> None:
        most = weight_rows(target, kind, columns)
        within = c >= most  # a tile has channels of one tap, and otherwise all of some taps
        size, parts = (c, -(-c // most)) if within else (taps, -(-taps // (most // c)))
        count = parts * taps if within else parts
        begin, end = (quotient(f, (i + j) * count, of["parts"]) for j in (0, 1))
        with f.loop(begin, end, unroll=False) as task:
            tap = quotient(f, task, parts) if within else None
            part = task if tap is None else task - tap * parts
            low, high = (quotient(f, (part + j) * size, parts) for j in (0, 1))
            tap, channel = (low, f.const(0, "i64")) if tap is None else (tap, low)
            row = (tap * c + channel) * of["ldw"] + first
            args = (
                f.at(of["x"], channel, kind), f.at(of["table"], tap, "i32"), of["zero"],
                f.at(of["u"], first, kind), f.at(of["w"], row, kind), n0, n1, r0, r1,
                *(of[n] for n in ("places", "image", "ldw", "ldu")),
            )  # fmt: skip
            for few in {size // parts, -(-size // parts)}:
                shape = (1, few) if within else (few, c)
                with f.when(f.compare("eq", high - low, few)):
                    f.call(tile(shape, columns), "void", *args)

    with f.loop(0, quotient(f, of["images"], of["few"], up=True), unroll=False) as b:
        n0 = b * of["few"]
        n1 = f.smaller(n0 + of["few"], of["images"])
        with f.loop(0, quotient(f, of["places"], of["some"], up=True), unroll=False) as d:
            r0 = d * of["some"]
            r1 = f.smaller(r0 + of["some"], of["places"])
            each_panel(f, of, width, full, rest, panel)
    f.ret()
    return str(module)
