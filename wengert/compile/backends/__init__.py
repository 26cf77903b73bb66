"""How planned programs are run: `numpy` always, `llvm` with the extra `compile`."""

from __future__ import annotations

import re
import threading
from importlib import import_module
from importlib.util import find_spec
from time import perf_counter
from typing import Any

from ...errors import CompileWarning, OptionError, warn
from ...extras import need
from ...graph import Graph
from ..assemble import row_checks
from ..locks import BUILDING
from ..passes.dce import dce
from ..passes.expand import expand, label_checks
from ..passes.pipeline import Explained, optimize
from . import numpy

__all__ = ["aliases", "chosen", "prepare", "runner", "size"]

UNITS = {"": 1, "B": 1, "KB": 1000, "MB": 1000**2, "GB": 1000**3, "KIB": 1024, "MIB": 1024**2,
         "GIB": 1024**3}  # fmt: skip
NATIVE = "wengert.compile.backends.llvm.program"


def chosen(name: str) -> str:
    """The backend that a name means here."""
    if name not in ("auto", "numpy", "llvm"):
        raise OptionError(f"compile(backend={name!r})", "no such backend", fix="'numpy' or 'llvm'")
    if name == "auto":
        return "llvm" if find_spec("llvmlite") is not None else "numpy"
    if name == "llvm":
        need("llvmlite.binding", extra="compile")
    return name


def size(budget: Any) -> int | None:
    """A number of bytes, from a number or text like "200MB"."""
    if budget is None:
        return None
    found = re.fullmatch(r"\s*([0-9.]+)\s*([KMG]?I?B?)\s*", str(budget).upper())
    if found is None or found[2] not in UNITS:
        raise OptionError(
            f"compile(budget={budget!r})", "a budget is a number of bytes", fix='budget="200MB"'
        )
    return int(float(found[1]) * UNITS[found[2]])


class Numpy:
    """A program of NumPy calls: outputs are new arrays, wherever they are wanted."""

    def __init__(self, graph: Graph) -> None:
        start = perf_counter()
        self.graph, self.program = graph, numpy.build(graph)
        self.seconds = {"plan": perf_counter() - start}

    def __call__(self, inputs: list[Any], into: list[Any]) -> list[Any]:
        outputs = self.program(*inputs)
        return [None if y is None else a for y, a in zip(self.graph.outputs, outputs)]


def aliases(program: Any) -> dict[int, int]:
    """The outputs that are the new values of inputs: output -> input."""
    at = {}
    for i, s in enumerate(program.sources):
        if s.kind in ("tensor", "array", "argument"):
            at[s.kind, s.place, id(s.owner) if s.owner is not None else None] = i
    out = {}
    for j, s in enumerate(program.sinks):
        key = s.kind, s.place, id(s.owner) if s.owner is not None else None
        if key in at:
            out[j] = at[key]
    return out


def native(graph: Graph, alias: dict[int, int] | None = None, checks: Any = ()) -> Any:
    with BUILDING:
        return import_module(NATIVE).build(graph, alias, checks=checks)


def prepare(compiled: Any, variant: Any, first: bool) -> None:
    """Give a variant what runs it.

    The first one waits for its machine code. Later ones run on NumPy until theirs is there, unless
    the function was compiled with wait=True.
    """
    program = variant.program
    program.graph = dce(program.graph)
    checks = [*[c[:3] for c in label_checks(program.graph)],
              *[(i, n, None) for i, n in row_checks(program.graph)]]  # fmt: skip
    program.checks = [(program.sources[i], k, spared) for i, k, spared in checks]
    start = perf_counter()
    graph, variant.passes = optimized(program.graph)
    variant.seconds["passes"] = perf_counter() - start
    if compiled.backend == "numpy":
        variant.executable = Numpy(graph)
        return

    def build() -> None:
        try:
            variant.executable = native(graph, aliases(program), checks)
        except Exception as error:
            if variant.executable is None:
                variant.executable = Numpy(graph)
            variant.failure = f"{type(error).__name__}: {error}"
            warn(
                f"{compiled!r} runs on NumPy: machine code for it could not be made "
                f"({variant.failure})",
                CompileWarning,
            )

    if first or compiled.wait:
        build()
    else:
        variant.executable = Numpy(graph)
        # no daemon: LLVM must not be in the middle of something when the process ends
        threading.Thread(target=build, name="wengert-compile", daemon=False).start()


def runner(backend: str, graph: Graph) -> Any:
    """What runs a graph without effects."""
    graph, _ = optimized(graph)
    if backend == "numpy":
        return Numpy(graph)
    try:
        return native(graph)
    except Exception as error:
        warn(
            "a derivative of a compiled function runs on NumPy: machine code for it could not be "
            f"made ({type(error).__name__}: {error})",
            CompileWarning,
        )
        return Numpy(graph)


def optimized(graph: Graph) -> tuple[Graph, Explained]:
    """The graph that backends get, and what each pass did."""
    told = Explained()
    graph = optimize(expand(graph), explain=told)  # a composite may expand into others
    return graph, told
