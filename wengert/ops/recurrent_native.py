"""Recurrent networks by the machine code of `recurrent_tiles`, where llvmlite is installed."""

from __future__ import annotations

from functools import lru_cache, partial
from importlib import import_module
from typing import Any

import numpy as np

from .. import native

__all__ = ["backward", "forward"]

Array = Any
WORTH = 1 << 22  # multiplications from which on it pays to compile


def tiles() -> Any:
    return import_module("wengert.ops.recurrent_tiles")


@lru_cache(64)
def code(name: str, kind: str, cell: str, n: int, rows: int, given: str | None = None) -> Any:
    """The address of the function; None without a compiler."""
    options = {} if given is None else {"given": given}
    write = getattr(tiles(), name)
    library = native.library(partial(write, kind=kind, cell=cell, n=n, rows=rows, **options))
    return None if library is None else library.address(name)


@lru_cache(1)
def most_rows() -> int:
    found = import_module("wengert.native.target")
    most: int = tiles().most_rows(found.target())
    return most


def suits(x: Array, w: Array, arrays: dict[str, Array]) -> bool:
    """Whether sequences `[T, N, ..]` and weights `[H, ..]` are worth it, and can be done here."""
    return (
        x.ndim == 3
        and w.ndim == 2
        and all(a.dtype == x.dtype for a in arrays.values())
        and x.dtype.char in native.KINDS
        and x.dtype.isnative
        and x.size * len(w) >= WORTH
        and native.available()
    )


def run(
    name: str, cell: str, arrays: dict[str, Array], shape: Any, reverse: bool, given: str | None
) -> bool:
    times, count, n, dtype = shape
    rows = min(most_rows(), count)
    address = code(name, native.KINDS[dtype.char], cell, n, rows, given)
    if address is None:
        return False
    parts = max(1, min(native.threads(), count // rows))
    first, step = (times - 1, -1) if reverse else (0, 1)
    counts = {"times": times, "count": count, "first": first, "step": step, "parts": parts}
    native.run(address, getattr(tiles(), name.upper()), arrays | counts, parts)
    return True


def forward(cell: str, reverse: bool, arrays: dict[str, Array]) -> bool:
    """The states and z of all places, into y, cells and z; False if NumPy has to do it.

    Args:
        cell: "tanh", "relu", "lstm" or "gru".
        reverse: whether time runs back.
        arrays: x, w, b, h and c, as far as the cell has them, and what is written.
    """
    x, w = arrays["x"], arrays["w"]
    if not suits(x, w, arrays):
        return False
    held = {k: np.ascontiguousarray(a) for k, a in arrays.items()}
    shape = len(x), x.shape[1], len(w), x.dtype
    return run("forward", cell, held, shape, reverse, None)


def backward(cell: str, reverse: bool, arrays: dict[str, Array]) -> bool:
    """The cotangents of z, into gx and gw, and of the first states, into dh and dc.

    Args:
        cell, reverse: as for `forward`.
        arrays: besides those of `forward` back, the transpose of w; gy and gc, what comes from
            outside, where there is any; dh and dc, which are zero; and what is written.
    """
    x, w = arrays["gx"], arrays["back"].T
    if not suits(x, w, arrays):
        return False
    held = {k: np.ascontiguousarray(a) for k, a in arrays.items()}
    given = "".join(k for k in "yc" if f"g{k}" in arrays)
    times, count, _ = x.shape
    return run("backward", cell, held, (times, count, len(w), x.dtype), reverse, given)
