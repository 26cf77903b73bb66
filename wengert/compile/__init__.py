"""Floor 5: programs recorded once, rewritten, planned and compiled.

`wg.compile` is this package, called: `wg.compile(f)` is `wengert.compile.jit.compile(f)`.

    jit         variants, guards, calls           passes/     rewrites of a graph
    capture     a run on graph variables          lower       fused kernels, products, calls
    guards      what a program depends on         schedule    chains, regions
    apply       compiled functions differentiated  memory      one arena
    report      what `.explain()` says            backends/   NumPy; LLVM
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

from ..extras import need

__all__ = ["set_threads"]


def set_threads(n: int) -> None:
    """Run compiled programs on n threads from now on; the numbers do not depend on it.

    Without it they are as many as `WENGERT_NUM_THREADS` says, or else OMP_NUM_THREADS, or else the
    cores that this process may use.

    Raises:
        OptionError: n is not a number of threads.
        MissingExtraError: llvmlite is not installed; calls of NumPy have threads of their own.
    """
    need("llvmlite.binding", extra="compile")
    import_module("wengert.compile.backends.llvm.pool").set_threads(n)


class Room(ModuleType):
    """A package that is a function too."""

    def __call__(self, f: Any = None, **options: Any) -> Any:
        return import_module("wengert.compile.jit").compile(f, **options)


sys.modules[__name__].__class__ = Room
