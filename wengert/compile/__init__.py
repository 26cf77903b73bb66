"""Floor 5: programs recorded once, rewritten, planned and compiled.

`wg.compile` is this package, called: `wg.compile(f)` is `wengert.compile.jit.compile(f)`.

    jit         variants, guards, calls           passes/     rewrites of a graph
    dispatch    the short way of a call           lower       fused kernels, products, calls
    capture     a run on graph variables          schedule    chains, regions
    recorded    what it comes to: a program       memory      one arena
    live        numbers computed at every run     backends/   NumPy; LLVM
    world       what a function reads, changes    apply       compiled functions differentiated
    effects     calls that no program repeats     lawful      rules of custom functions kept
    walk        what goes into the guards         partition   what the tape keeps
    guards      whether it is as it was           report      what `.explain()` says
    runs        inputs in, outputs out            locks       threads and forks
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
    import_module("wengert.native.pool").set_threads(n)


class Room(ModuleType):
    """A package that is a function too."""

    def __call__(self, f: Any = None, **options: Any) -> Any:
        return import_module("wengert.compile.jit").compile(f, **options)


sys.modules[__name__].__class__ = Room
