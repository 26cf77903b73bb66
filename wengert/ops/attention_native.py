"""Attention by the machine code of `attention_tiles`, where llvmlite is installed."""

from __future__ import annotations

import math
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np

from .. import native
from ..types import Shape

__all__ = ["backward", "forward"]

Array = Any
WORTH = 1 << 22  # multiplications from which on it pays to compile
FEWEST = 8  # queries: the rows of a tile
BLOCK, CACHED = 32, 1 << 18  # queries at a time at most, and bytes of their scores


def tiles() -> Any:
    return import_module("wengert.ops.attention_tiles")


@lru_cache(64)
def code(name: str, kind: str, d: int, e: int, causal: bool, biased: bool) -> Any:
    """(the address of the function, rows and columns of a tile); None without a compiler."""
    grid = None

    def source(target: Any) -> str:
        nonlocal grid
        grid = tiles().grid(target, kind)
        write = getattr(tiles(), name)
        return str(write(target, kind, d, e, causal, biased))

    library = native.library(source)
    return None if library is None or grid is None else (library.address(name), *grid)


def rows_apart(x: Array) -> bool:
    """Whether the features of a row lie side by side."""
    beside = x.shape[-1] == 1 or x.strides[-1] == x.itemsize
    return beside and all(s % x.itemsize == 0 for s in x.strides)


def starts(x: Array, lead: Shape) -> Array:
    """Where the matrices of x, broadcast to `lead`, begin, in numbers."""
    wide = np.broadcast_to(x, (*lead, *x.shape[-2:]))
    at: Any = np.zeros((1,) * len(lead), np.int64)
    for axis, (n, step) in enumerate(zip(lead, wide.strides)):
        shape = [1] * len(lead)
        shape[axis] = n
        at = at + (np.arange(n, dtype=np.int64) * (step // x.itemsize)).reshape(shape)
    return np.ascontiguousarray(np.broadcast_to(at, lead)).reshape(-1)


def worth(lead: Shape, sizes: tuple[int, int, int, int], dtype: Any) -> bool:
    """Whether S queries and T keys of D and E features are worth it, and can be done here."""
    s, t, d, e = sizes
    return (
        math.prod(lead) * s * t * (d + e) >= WORTH
        and s >= FEWEST
        and dtype.char in native.KINDS
        and dtype.isnative
        and native.available()
    )


def sizes_of(q: Any, k: Any, v: Any) -> tuple[int, int, int, int]:
    return q.shape[-2], k.shape[-2], q.shape[-1], v.shape[-1]


def suits(lead: Shape, operands: dict[str, Array]) -> bool:
    q, k, v = (operands[x] for x in "qkv")
    alike = all(x.dtype == q.dtype and rows_apart(x) for x in operands.values())
    return alike and worth(lead, sizes_of(q, k, v), q.dtype)


def blocks(name: str, sizes: tuple[int, int, int, int], grid: Any, size: int) -> tuple[int, int]:
    """(queries at a time, numbers that a thread works in)."""
    queries, keys, d, e = sizes
    rows, width = grid
    across = -(-keys // width) * width
    block = max(1, min(BLOCK, queries + rows - 1, CACHED // (across * size)) // rows) * rows
    rooms = getattr(tiles(), f"{name}_rooms")(across, block, d, e)
    return block, sum(-(-n // width) * width for n in rooms)


def scratch(name: str, sizes: tuple[int, int, int, int], dtype: Any) -> int:
    """The bytes that "forward" or "backward" works in."""
    grid = tiles().grid(import_module("wengert.native.target").target(), native.KINDS[dtype.char])
    return native.threads() * blocks(name, sizes, grid, dtype.itemsize)[1] * int(dtype.itemsize)


def operands_of(lead: Shape, q: Array, k: Array, v: Array, b: Any) -> dict[str, Array]:
    found = {"q": q, "k": k, "v": v}
    if np.ndim(b) or b:
        b = np.asarray(b)
        b = b.reshape((1,) * (2 - b.ndim) + b.shape) if b.ndim < 2 else b
        found["bias"] = np.broadcast_to(b, (*b.shape[:-2], q.shape[-2], k.shape[-2]))
    return found


def run(
    name: str, how: Any, lead: Shape, operands: dict[str, Array], results: dict[str, Array]
) -> bool:
    q, k, v = (operands[x] for x in "qkv")
    queries, keys, d, e = sizes = sizes_of(q, k, v)
    made = code(name, native.KINDS[q.dtype.char], d, e, how.causal, "bias" in operands)
    if made is None:
        return False
    leads, (block, size) = math.prod(lead), blocks(name, sizes, made[1:], q.itemsize)
    parts = max(1, min(native.threads(), leads))
    room = native.aligned((parts * size,), q.dtype)
    scale = np.array([how.scale], q.dtype)
    counts = {"leads": leads, "queries": queries, "keys": keys, "block": block, "parts": parts}
    arrays = operands | results | {"scratch": room, "scale": scale}
    arrays |= {f"{x}_at": starts(a, lead) for x, a in operands.items()}
    steps = {f"{x}_row": a.strides[-2] // a.itemsize for x, a in operands.items()}
    values = arrays | counts | steps | {"size": size}
    native.run(made[0], tiles().FIELDS, values, parts)
    return True


def forward(how: Any, lead: Shape, q: Array, k: Array, v: Array, b: Any) -> Array | None:
    """softmax(scale q k^T + b) v, `[*lead, S, E]`; None if NumPy has to do it.

    Args:
        how: the operation, with `scale` and `causal`.
        lead: what the axes in front broadcast to.
    """
    operands = operands_of(lead, q, k, v, b)
    if not suits(lead, operands):
        return None
    y = np.empty((*lead, q.shape[-2], v.shape[-1]), q.dtype)
    return y if run("forward", how, lead, operands, {"y": y}) else None


def backward(
    how: Any, lead: Shape, g: Array, q: Array, k: Array, v: Array, b: Any
) -> list[Array] | None:
    """The cotangents of q, k and v for each lead; None if NumPy has to do it."""
    operands = operands_of(lead, q, k, v, b) | {"g": g}
    if not suits(lead, operands):
        return None
    results = {f"g{n}": np.empty((*lead, *x.shape[-2:]), x.dtype) for n, x in zip("qkv", (q, k, v))}
    return list(results.values()) if run("backward", how, lead, operands, results) else None
