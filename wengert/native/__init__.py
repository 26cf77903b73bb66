"""Machine code by way of LLVM, where the extra `compile` (llvmlite) is installed.

    ir        LLVM's assembly, written from Python      target   the machine, as it is found
    engine    from assembly to addresses                cache    object code, kept on disk
    pool      threads that all generated code shares

Operations use it for what NumPy has no fast words for, and `wengert.compile` for whole programs.
Nothing here is imported before somebody asks for code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np

from ..errors import MissingExtraError
from ..extras import need

LINE = 64  # bytes of a line of the cache

KINDS = {"f": "float", "d": "double"}  # types of LLVM, by the characters of NumPy's

__all__ = ["KINDS", "aligned", "available", "library", "parallel", "run", "threads"]


def available() -> bool:
    """Whether there is a compiler. It is looked for once: a search in vain takes a while."""
    return there(need)


@lru_cache(8)
def there(need: Callable[..., Any]) -> bool:
    try:
        need("llvmlite.binding", extra="compile")
    except MissingExtraError:
        return False
    return True


def library(source: str | Callable[[Any], str]) -> Any:
    """The functions of a module; None without a compiler, or without code for this machine.

    Args:
        source: LLVM's assembly, or what writes it for a `target.Target`.
    """
    if not available():
        return None
    here = import_module("wengert.native.target").target()
    compiled = import_module("wengert.native.cache").compiled
    try:
        return compiled(source if isinstance(source, str) else source(here), here).forever()
    except (OSError, RuntimeError):  # no code for this machine
        return None


def parallel(fn: int, ctx: int, n: int) -> None:
    """fn(ctx, i) for every i below n, on the threads of `pool`: a native function's address."""
    import_module("wengert.native.pool").parallel(fn, ctx, n)


def run(fn: int, fields: Iterable[str], values: dict[str, Any], n: int) -> None:
    """`parallel` on a context of 8 bytes a field: of an array its address, 0 for one not given."""
    given = (values.get(field, 0) for field in fields)
    context = np.array([v.ctypes.data if isinstance(v, np.ndarray) else v for v in given], np.int64)
    parallel(fn, context.ctypes.data, n)


def threads() -> int:
    """How many threads `parallel` has."""
    n: int = import_module("wengert.native.pool").threads()
    return n


def aligned(shape: tuple[int, ...], dtype: Any) -> Any:
    """An empty array that starts with a line of the cache, so that no vector lies across two."""
    count = math.prod(shape) * np.dtype(dtype).itemsize
    raw = np.empty(count + LINE, np.uint8)
    start = -raw.ctypes.data % LINE
    return raw[start : start + count].view(dtype).reshape(shape)
