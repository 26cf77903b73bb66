"""Products of matrices, and of their transposes in the reverse pass, as fast as the machine allows.

A library of linear algebra is at its best for a large a b; a smaller one, or one with a factor
transposed, takes a tenth to a quarter more, and there `native.gemm` stands in. Small products, and
all of them without a compiler, are NumPy's own.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np

from .. import native
from ..trace import ndarray

__all__ = ["by_transpose", "plainly", "transpose_by"]

Array = Any
WORTH = 1 << 22  # multiplications from which on it pays to compile
PART = 1 << 20  # multiplications of a part
EACH = 3  # parts for a thread
ROWS, COLUMNS = 56, 64  # of which a part has multiples: whole tiles
SMALL = 1 << 16  # numbers of a factor whose copy costs less than it saves
FEW = 16  # rows from which on that is so


def plainly(a: Array, b: Array, out: Array | None = None) -> Array:
    """a b, of arrays, as np.matmul; `out` shares no memory with them."""
    y = product(a, b, False, False, out)
    return np.matmul(a, b, out) if y is None else y


def by_transpose(g: Any, b: Any) -> Any:
    """g b^T."""
    if b.__class__ is ndarray:
        y = product(g, b, False, True)
        if y is not None:
            return y
        if b.size <= SMALL and g.shape[0] >= FEW:
            return g @ np.ascontiguousarray(b.T)
    return g @ b.T


def transpose_by(a: Any, g: Any) -> Any:
    """a^T g."""
    if a.__class__ is ndarray:
        y = product(a, g, True, False)
        if y is not None:
            return y
    return a.T @ g


def product(a: Any, b: Any, ta: bool, tb: bool, out: Any = None) -> Array | None:
    """op(a) op(b) of matrices, into `out` if that is given; None if NumPy has to do it."""
    if a.__class__ is not ndarray or b.__class__ is not ndarray or not a.ndim == b.ndim == 2:
        return None
    if a.size * max(b.shape) < WORTH:
        return None
    a, ta = (a, ta) if by_rows(a) else (a.T, not ta)
    b, tb = (b, tb) if by_rows(b) else (b.T, not tb)
    m, k = a.shape[::-1] if ta else a.shape
    inner, n = b.shape[::-1] if tb else b.shape
    if (
        m * n * k < WORTH
        or k != inner
        or a.dtype is not b.dtype
        or a.dtype.char not in native.KINDS
    ):
        return None
    if not (by_rows(a) and by_rows(b) and native.available() and faster(m, n, k, tb)):
        return None
    c = np.empty((m, n), a.dtype) if out is None else out
    if c.shape != (m, n) or c.dtype is not a.dtype or not by_rows(c):
        return None
    across = n > m
    unit = COLUMNS if across else ROWS
    units = -(-max(m, n) // unit)
    # more parts than threads: one that wakes up late takes fewer
    parts = max(1, min(EACH * native.threads(), units, m * n * k // PART))
    parts = parts if native.threads() > 1 else 1
    lda, ldb, ldc = (x.strides[0] // x.itemsize for x in (a, b, c))
    places = [x.ctypes.data for x in (a, b, c)]
    fields = [ta, tb, m, n, k, lda, ldb, ldc, parts, across, unit, *places]
    context = np.array(fields, np.int64)
    native.parallel(address(native.KINDS[a.dtype.char]), context.ctypes.data, parts)
    return c


def by_rows(x: Array) -> bool:
    step, size = x.strides[0], x.itemsize
    return x.strides[1] == size and step >= x.shape[1] * size and step % size == 0


@lru_cache(256)
def faster(m: int, n: int, k: int, tb: bool) -> bool:
    """Whether the machine-made product is the faster one for a shape."""
    here = import_module("wengert.native.target").target()
    good: bool = import_module("wengert.native.gemm").preferred(here, m, n, k, tb)
    return good


def address(kind: str) -> int:
    found: int = import_module("wengert.native.multiply").address(kind)
    return found
