"""How planned programs are run: `numpy` always, `llvm` with the extra `compile`."""

from __future__ import annotations

import re
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from ...errors import OptionError
from ...extras import need
from ...graph import Graph, evaluate
from ..passes.algebra import algebra
from ..passes.cse import cse
from ..passes.dce import dce
from ..passes.expand import expand, label_checks
from ..passes.fold import fold

__all__ = ["aliases", "chosen", "prepare", "size"]

UNITS = {"": 1, "B": 1, "KB": 1000, "MB": 1000**2, "GB": 1000**3, "KIB": 1024, "MIB": 1024**2,
         "GIB": 1024**3}  # fmt: skip


def chosen(name: str) -> str:
    """The backend that a name means here."""
    if name not in ("auto", "numpy", "llvm"):
        raise OptionError(f"compile(backend={name!r})", "no such backend", fix="'numpy' or 'llvm'")
    if name == "auto":
        return "llvm" if find_spec("llvmlite") is not None else "numpy"
    if name == "llvm":
        need("wengert.compile.backends.llvm.target", extra="compile").llvm()
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


class Reference:
    """Runs a graph line by line."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def __call__(self, inputs: list[Any], into: list[Any]) -> list[Any]:
        with np.errstate(all="ignore"):
            ys = evaluate(self.graph, *inputs)
        return [np.array(y) if y is not None else None for y in ys]


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


def prepare(compiled: Any, variant: Any, first: bool) -> None:
    """Give a variant what runs it."""
    program = variant.program
    program.graph = dce(program.graph)
    program.checks = [(program.sources[i], k) for i, k, _ in label_checks(program.graph)]
    graph = optimized(program.graph)
    if compiled.backend == "llvm":
        native = import_module("wengert.compile.backends.llvm.program")
        variant.executable = native.build(graph, aliases(variant.program))
    else:
        variant.executable = Reference(graph)


def runner(backend: str, graph: Graph) -> Any:
    """What runs a graph without effects."""
    graph = optimized(graph)
    if backend == "llvm":
        return import_module("wengert.compile.backends.llvm.program").build(graph)
    return Reference(graph)


def optimized(graph: Graph) -> Graph:
    for step in (dce, cse, expand, fold, algebra, cse, dce):
        graph = step(graph)
    return graph
