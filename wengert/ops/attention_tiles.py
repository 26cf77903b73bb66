"""The code of attention, forwards and back, for some queries at a time.

The keys of a lead (a head of an example) are transposed once, and so are the values on the way
back. Then for a block of queries the scores, their softmax and what follows from it stay in the
cache: products are tiles in registers, and all else is a row of scores, a vector at a time. The
equations are those of `attention`; blocks are padded with zeros to whole tiles.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

from ..native import mathematics
from ..native.ir import Function, Module, Value, vector
from ..native.target import Target
from ..native.tiles import Tile, helper, panels, registers

__all__ = ["FIELDS", "backward", "backward_rooms", "forward", "forward_rooms", "grid"]

POINTERS = (
    "q", "k", "v", "bias", "g", "y", "gq", "gk", "gv", "scratch", "scale",
    "q_at", "k_at", "v_at", "bias_at", "g_at",
)  # fmt: skip
FIELDS = (
    *POINTERS, "leads", "queries", "keys", "block", "parts", "size", "q_row", "k_row", "v_row",
    "bias_row", "g_row",
)  # fmt: skip


def grid(target: Target, kind: str) -> tuple[int, int]:
    """(queries, keys) of a tile of scores; blocks are multiples of them."""
    rows, vectors = (8, 3) if registers(target) == 32 else (4, 2)
    return rows, vectors * target.lanes(kind)


class Code:
    """A function over a part of the leads."""

    def __init__(self, target: Target, kind: str, name: str, causal: bool, biased: bool) -> None:
        self.target, self.kind, self.causal, self.biased = target, kind, causal, biased
        self.lanes = target.lanes(kind)
        self.vec = vector(kind, self.lanes)
        self.rows, self.width = grid(target, kind)
        self.module = Module(mathematics.add, target.fma)
        self.tile = lru_cache(None)(self._tile)
        self.f = f = Function(self.module, name, [("context", "ptr"), ("i", "i32")])
        self.of = {
            k: f.load(f["context"], "ptr" if k in POINTERS else "i64", j)
            for j, k in enumerate(FIELDS)
        }
        self.scale = f.load(self.of["scale"], kind)
        i = f.cast("sext", f["i"], "i64")
        self.first, self.last = (self.of["leads"] * (i + j) / self.of["parts"] for j in (0, 1))
        self.room = f.at(self.of["scratch"], i * self.of["size"], kind)
        self.across = self.padded(self.of["keys"], self.width)  # scores from row to row

    def padded(self, n: Value, step: int) -> Value:
        return (n + (step - 1)) / step * step

    def take(self, counts: Any) -> list[Value]:
        """Parts of the scratch memory, in whole vectors."""
        found = []
        for count in counts:
            found.append(self.room)
            self.room = self.f.at(self.room, self.padded(count, self.lanes), self.kind)
        return found

    def lead(self, name: str, n: Value) -> Value:
        """Where an operand of a lead begins."""
        at = self.f.load(self.of[f"{name}_at"], "i64", n)
        return self.f.at(self.of[name], at, self.kind)

    # ---- products
    def _tile(self, wide: int, add: bool) -> str:
        name = f"tile_{wide}_{int(add)}"
        f = helper(self.module, name, "a w out", "la da lw lo depth")
        tile = Tile(f, self.kind, self.rows, wide, self.lanes)
        with f.loop(0, f["depth"], unroll=False) as k:
            right = tile.load(f.at(f["w"], k * f["lw"], self.kind))
            here = f.at(f["a"], k * f["da"], self.kind)
            for i in range(self.rows):
                tile.add(i, f.load(here, self.kind, f["la"] * i), right)
        for i in range(self.rows):
            tile.store(i, f.at(f["out"], f["lo"] * i, self.kind), old=add)
        f.ret()
        return name

    def product(
        self, out: Value, a: Value, w: Value, strides: Any, depth: Value, rows: Value,
        columns: Value | int, add: bool = False,
    ) -> None:  # fmt: skip
        """out = a w, or added to it: whole tiles of rows, and of columns if those are a value.

        Args:
            strides: of a from row to row and from one k to the next, of w and of out.
        """
        f, kind = self.f, self.kind
        la, da, lw, lo = (f.const(s, "i64") for s in strides)

        def call(wide: int, at: Any) -> None:
            with f.loop(0, rows, self.rows, unroll=False) as r:
                args = f.at(a, r * la, kind), f.at(w, at, kind), f.at(out, r * lo + at, kind)
                f.call(self.tile(wide, add), "void", *args, la, da, lw, lo, depth)

        if isinstance(columns, int):
            for first, wide in panels(columns, self.width):
                call(wide, first)
        else:
            with f.loop(0, columns, self.width, unroll=False) as at:
                call(self.width, at)

    # ---- copies
    def turned(self, out: Value, x: Value, step: Value, features: int) -> None:
        """x^T of the keys, with zeros up to whole tiles."""
        f, kind = self.f, self.kind
        with f.loop(0, self.of["keys"], unroll=False) as t, f.loop(0, features) as d:
            f.store(f.load(x, kind, t * step + d), out, d * self.across + t)
        zero = f.const(0.0, kind)
        with f.loop(self.of["keys"], self.across, unroll=False) as t, f.loop(0, features) as d:
            f.store(zero, out, d * self.across + t)

    def copied(
        self, out: Value, x: Value, lo: Any, lx: Any, rows: Value, columns: int, by: Value | None
    ) -> None:
        """Rows of x, times a number, to out."""
        f, kind = self.f, self.kind
        with f.loop(0, rows, unroll=False) as r:
            to, source = f.at(out, r * lo, kind), f.at(x, r * lx, kind)
            for at in range(0, columns, self.lanes):
                some = columns - at
                mask = f.first_lanes(some, self.lanes) if some < self.lanes else None
                v = (
                    f.load(source, self.vec, at) if mask is None
                    else f.masked_load(source, self.vec, mask, at)
                )  # fmt: skip
                v = v if by is None else v * by
                if mask is None:
                    f.store(v, to, at)
                else:
                    f.masked_store(v, to, mask, at)

    def cleared(self, out: Value, start: Any, count: Value) -> None:
        """Zeros, whole vectors."""
        f, zero = self.f, self.f.const(0.0, self.vec)
        with f.loop(start, count, self.lanes, unroll=False) as at:
            f.store(zero, out, at)

    def block(
        self, out: Value, x: Value, step: Value, start: Value, count: Value, features: int,
        by: Value | None,
    ) -> None:  # fmt: skip
        """The queries of a block, and zeros up to whole tiles."""
        self.cleared(out, 0, self.padded(self.of["block"] * features, self.lanes))
        here = self.f.at(x, start * step, self.kind)
        self.copied(out, here, features, step, count, features, by)

    # ---- rows of scores
    def seen(self, query: Value) -> Value:
        """How many keys a query sees."""
        f, keys = self.f, self.of["keys"]
        if not self.causal:
            return keys
        n = query + keys - self.of["queries"] + 1
        return f.larger(f.smaller(n, keys), 0)

    def each(self, count: Value, body: Any) -> None:
        """body(at, mask) for the vectors of a row of so many numbers; the last may be a part."""
        f = self.f
        whole = count & -self.lanes
        with f.loop(0, whole, self.lanes, unroll=False) as at:
            body(at, None)
        with f.when(f.compare("slt", whole, count)):
            body(whole, f.first_lanes(count - whole, self.lanes))

    def softmax(self, row: Value, count: Value, wide: Value, bias: Value | None) -> Value:
        """e^(s - max) in the place of the scores s, 0 beyond `count`; and their sum."""
        f, vec = self.f, self.vec
        least = f.const(-math.inf, vec)
        most, total = f.slot(least), f.slot(f.const(0.0, vec))

        def first(at: Value, mask: Value | None) -> None:
            x = f.load(row, vec, at)
            if bias is not None:
                more = f.load(bias, vec, at) if mask is None else f.masked_load(bias, vec, mask, at)
                x = x + more
                f.store(x, row, at)
            x = x if mask is None else f.select(mask, x, least)
            f.set(most, f.larger(f.get(most, vec), x))

        self.each(count, first)
        m = f.across(f.get(most, vec), "max")
        m = f.select(f.compare("oeq", m, -math.inf), 0.0, m)

        def second(at: Value, mask: Value | None) -> None:
            e = f.math("exp", f.load(row, vec, at) - m)
            e = e if mask is None else f.select(mask, e, 0.0)
            f.store(e, row, at)
            f.set(total, f.get(total, vec) + e)

        self.each(count, second)
        self.cleared(row, self.padded(count, self.lanes), wide)
        found = f.across(f.get(total, vec), "add")
        return f.select(f.compare("oeq", found, 0.0), 1.0, found)

    def bias_line(self, bias: Value | None, query: Value) -> Value | None:
        if bias is None:
            return None
        line = self.f.smaller(query, self.of["queries"] - 1)
        return self.f.at(bias, line * self.of["bias_row"], self.kind)

    def blocks(self) -> Any:
        """A loop over blocks of queries: (its context manager)."""
        of = self.of
        return self.f.loop(0, (of["queries"] + of["block"] - 1) / of["block"], unroll=False)

    def reach(self, start: Value) -> tuple[Value, Value, Value, Value]:
        """(queries of a block, the same in whole tiles, keys it sees, the same in whole tiles)."""
        f, of = self.f, self.of
        count = f.smaller(of["queries"] - start, of["block"])
        keys = self.seen(start + count - 1)
        return count, self.padded(count, self.rows), keys, self.padded(keys, self.width)


def forward_rooms(across: Any, block: Any, d: int, e: int) -> list[Any]:
    """Numbers in the parts of the scratch memory: k^T, q, scores, their sums, y."""
    return [across * d, block * d, block * across, block * 1, block * e]


def backward_rooms(across: Any, block: Any, d: int, e: int) -> list[Any]:
    """The same for k^T, v^T, gk, gv, q, g, gq, p, gs."""
    return [*(across * m for m in (d, e, d, e)), *(block * m for m in (d, e, d, across, across))]


def forward(target: Target, kind: str, d: int, e: int, causal: bool, biased: bool) -> str:
    """@forward(context, i): y of the leads of part i.

    Args:
        target, kind: the machine, and `float` or `double`.
        d, e: features of a key and of a value.
        causal, biased: what is done to the scores.
    """
    code = Code(target, kind, "forward", causal, biased)
    f, of = code.f, code.of
    flipped, q, s, sums, out = code.take(forward_rooms(code.across, of["block"], d, e))
    with f.loop(code.first, code.last, unroll=False) as n:
        k, v = code.lead("k", n), code.lead("v", n)
        code.turned(flipped, k, of["k_row"], d)
        bias = code.lead("bias", n) if biased else None
        with code.blocks() as j:
            start = j * of["block"]
            count, rows, keys, wide = code.reach(start)
            code.block(q, code.lead("q", n), of["q_row"], start, count, d, code.scale)
            code.product(s, q, flipped, (d, 1, code.across, code.across), f.const(d, "i64"),
                         rows, wide)  # fmt: skip
            with f.loop(0, rows, unroll=False) as r:
                row = f.at(s, r * code.across, kind)
                some = f.smaller(code.seen(start + r), keys)
                total = code.softmax(row, some, wide, code.bias_line(bias, start + r))
                f.store(total, sums, r)
            code.product(out, s, v, (code.across, 1, of["v_row"], e), keys, rows, e)
            y = f.at(of["y"], (n * of["queries"] + start) * e, kind)
            with f.loop(0, count, unroll=False) as r:
                by = 1.0 / f.load(sums, kind, r)
                line = f.at(y, r * e, kind), f.at(out, r * e, kind)
                code.copied(*line, e, e, f.const(1, "i64"), e, by)
    f.ret()
    return str(code.module)


def backward(target: Target, kind: str, d: int, e: int, causal: bool, biased: bool) -> str:
    """@backward(context, i): gq, gk and gv of the leads of part i; as `forward`."""
    code = Code(target, kind, "backward", causal, biased)
    f, of, across = code.f, code.of, code.across
    block = of["block"]
    k_t, v_t, gk, gv, q, g, gq, p, gs = code.take(backward_rooms(across, block, d, e))
    with f.loop(code.first, code.last, unroll=False) as n:
        k, v = code.lead("k", n), code.lead("v", n)
        code.turned(k_t, k, of["k_row"], d)
        code.turned(v_t, v, of["v_row"], e)
        code.cleared(gk, 0, across * d)
        code.cleared(gv, 0, across * e)
        bias = code.lead("bias", n) if biased else None
        with code.blocks() as j:
            start = j * block
            count, rows, keys, wide = code.reach(start)
            code.block(q, code.lead("q", n), of["q_row"], start, count, d, code.scale)
            code.block(g, code.lead("g", n), of["g_row"], start, count, e, None)
            code.product(p, q, k_t, (d, 1, across, across), f.const(d, "i64"), rows, wide)
            code.product(gs, g, v_t, (e, 1, across, across), f.const(e, "i64"), rows, wide)
            with f.loop(0, rows, unroll=False) as r:
                row, line = f.at(p, r * across, kind), f.at(gs, r * across, kind)
                some = f.smaller(code.seen(start + r), keys)
                total = code.softmax(row, some, wide, code.bias_line(bias, start + r))
                slopes(code, row, line, wide, total)
            by_key = 1, across
            code.product(gv, p, g, (*by_key, e, e), rows, wide, e, add=True)
            code.product(gk, gs, q, (*by_key, d, d), rows, wide, d, add=True)
            code.product(gq, gs, k, (across, 1, of["k_row"], d), keys, rows, d)
            to = f.at(of["gq"], (n * of["queries"] + start) * d, kind)
            code.copied(to, gq, d, d, count, d, code.scale)
        for name, x, m in (("gk", gk, d), ("gv", gv, e)):
            to = f.at(of[name], n * of["keys"] * m, kind)
            code.copied(to, x, m, m, of["keys"], m, None)
    f.ret()
    return str(code.module)


def slopes(code: Code, row: Value, line: Value, wide: Value, total: Value) -> None:
    """p / total in the place of p, and gs = p (gp - <gp, p>) in the place of gp."""
    f, vec = code.f, code.vec
    along = f.slot(f.const(0.0, vec))
    with f.loop(0, wide, code.lanes, unroll=False) as at:
        p = f.load(row, vec, at) / total
        f.store(p, row, at)
        f.set(along, f.fma(p, f.load(line, vec, at), f.get(along, vec)))
    inner = f.across(f.get(along, vec), "add")
    with f.loop(0, wide, code.lanes, unroll=False) as at:
        p, gp = f.load(row, vec, at), f.load(line, vec, at)
        f.store(p * (gp - inner), line, at)
