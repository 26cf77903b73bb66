"""The passes in order, each timed, with a record of what it did."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...graph import Graph, Var, verify
from .algebra import algebra
from .cse import cse
from .dce import dce
from .expand import COMPOSITE, expand
from .fold import fold
from .masks import masks
from .remat import remat
from .rewriting import constant_key

__all__ = ["CLEAN", "Explained", "Stage", "clean", "optimize"]

Pass = Callable[[Graph], Graph]

CLEAN: tuple[tuple[str, Pass], ...] = (
    ("dce", dce),
    ("fold", fold),
    ("algebra", algebra),
    ("masks", masks),
    ("cse", cse),
)
ROUNDS = 8


@dataclass(frozen=True, slots=True)
class Stage:
    """One run of one pass: lines before and after, and seconds."""

    name: str
    before: int
    after: int
    seconds: float


@dataclass
class Explained:
    """What the passes did, in order.

    >>> print(Explained([Stage("dce", 4, 3, 0.0001)]))
    dce            4 lines ->    3     0.10 ms
    """

    stages: list[Stage] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return sum(s.seconds for s in self.stages)

    def __str__(self) -> str:
        return "\n".join(
            f"{s.name:<10} {s.before:>5} lines -> {s.after:>4} {s.seconds * 1e3:>8.2f} ms"
            for s in self.stages
        )


def run(
    graph: Graph, passes: Sequence[tuple[str, Pass]], told: Explained | None, debug: bool
) -> Graph:
    for name, step in passes:
        start = time.perf_counter()
        made = step(graph)
        seconds = time.perf_counter() - start
        if debug:
            try:
                verify(made)
            except ValueError as error:
                raise ValueError(f"after the pass {name}: {error}") from error
        if told is not None:
            told.stages.append(Stage(name, len(graph.lines), len(made.lines), seconds))
        graph = made
    return graph


def clean(graph: Graph, explain: Explained | None = None, debug: bool = False) -> Graph:
    """dce, fold, algebra and cse, again and again until nothing changes.  Bit-exact.

    >>> import numpy as np
    >>> from wengert.transforms.staging import stage
    >>> print(clean(stage(lambda x: -(-np.sin(x)) * np.sin(x * 1.0), np.ones(3)).graph))
    in   %0: float64[3]
    %1: float64[3] = sin(%0)
    %2: float64[3] = mul(%1, %1)
    out  %2
    """
    form = None
    for _ in range(ROUNDS):
        graph = run(graph, CLEAN, explain, debug)
        before, form = form, formed(graph)
        if form == before:
            return graph
    return run(graph, CLEAN[:1], explain, debug)


def formed(graph: Graph) -> list[Any]:
    """Equal for graphs of the same lines in the same order."""
    return [
        (id(line.op), [x.n if isinstance(x, Var) else constant_key(x) for x in line.inputs])
        for line in graph.lines
    ]


def optimize(
    graph: Graph,
    *,
    table: Mapping[Any, Callable[..., Any]] | None = COMPOSITE,
    extra: Sequence[tuple[str, Pass]] = (),
    budget: int | None = None,
    explain: Explained | None = None,
    debug: bool = False,
) -> Graph:
    """The graph with its composite operations expanded, and cleaned.

    Args:
        graph: as it was staged; it is left as it is.
        table: which composites are expanded, and how (see `expand`); None or empty: none is. The
            caller holds labels to their range: `expand.label_checks(graph)`, of this graph.
        extra: further passes, by name, on the clean graph: `scale`, `products`.
        budget: bytes of intermediate values at one step; `remat` tries to stay below.
        explain: a record to append to.
        debug: verify the graph after every pass.

    Rounding: what `expand`, and the passes in `extra`, say.
    """
    first: list[tuple[str, Pass]] = [("dce", dce)]
    if table:
        entries = table
        first.append(("expand", lambda g: expand(g, entries)))
    graph = clean(run(graph, first, explain, debug), explain, debug)
    if extra:
        graph = clean(run(graph, extra, explain, debug), explain, debug)
    if budget is not None:
        most = budget
        graph = run(graph, [("remat", lambda g: remat(g, most))], explain, debug)
    return graph
