"""How planned programs are run: `numpy` always, `llvm` with the extra `compile`."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import OptionError
from ...graph import Graph, evaluate

__all__ = ["chosen", "prepare", "size"]

UNITS = {"B": 1, "KB": 1000, "MB": 1000**2, "GB": 1000**3, "KIB": 1024, "MIB": 1024**2,
         "GIB": 1024**3}  # fmt: skip


def chosen(name: str) -> str:
    """The backend that a name means here."""
    if name not in ("auto", "numpy", "llvm"):
        raise OptionError(f"compile(backend={name!r})", "no such backend", fix="'numpy' or 'llvm'")
    return "numpy" if name == "auto" else name


def size(budget: Any) -> int | None:
    """A number of bytes, from a number or text like "200MB"."""
    return None if budget is None else int(budget)


class Reference:
    """Runs a graph line by line."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def __call__(self, inputs: list[Any], into: list[Any]) -> list[Any]:
        with np.errstate(all="ignore"):
            ys = evaluate(self.graph, *inputs)
        return [np.array(y) if y is not None else None for y in ys]


def prepare(compiled: Any, variant: Any, first: bool) -> None:
    """Give a variant what runs it."""
    variant.executable = Reference(variant.program.graph)
