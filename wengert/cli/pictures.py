"""The pictures in a run folder."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, ClassVar

import numpy as np

from wengert import viz
from wengert.errors import ArgumentError
from wengert.nn import watch
from wengert.random import rewound, states
from wengert.trace import Tensor, no_grad
from wengert.train import Outcome, Run, Watcher
from wengert.train.state import streams

__all__ = ["Pictures"]


class Pictures(Watcher):
    """Draws the graph of a step before the first, and the curves after the last."""

    FILES: ClassVar[dict[str, str]] = {
        "curves.svg": "the loss and the measures",
        "gradients.svg": "gradient norm per layer",
        "graph.svg": "the computational graph of one step",
    }

    def begin(self, run: Run) -> None:
        with suppress(ArgumentError):  # more nodes than anybody would look at
            run.folder.write("graph.svg", graph_of_step(run).encode())

    def end(self, run: Run, outcome: Outcome | None) -> None:
        if outcome is None:
            return
        name = run.recipe.name
        if run.recipe.pictures is not None:
            run.model.eval()
            for title, grids in run.recipe.pictures(run.model, run.parts).items():
                run.folder.write(f"{title}.png", viz.grid(grids))
        run.folder.write("curves.svg", viz.accuracy_and_loss(run.rows, name).encode())
        run.folder.write("gradients.svg", viz.gradient_norms(run.rows, name).encode())


def graph_of_step(run: Run) -> str:
    """The graph of the first step, from a forward pass of its own that trains nothing."""
    rows = np.arange(min(run.options.batch_size, len(run.parts.train)))
    first, *others = run.parts.train.batch(rows)
    data: dict[Any, str] = {}
    if np.asarray(first).dtype.kind == "f":
        first = Tensor(first).requires_grad_()
        data = {first: run.recipe.inputs}
    shapes: dict[Any, tuple[int, ...]] = {p.node: p.shape for p in run.model.parameters()}
    outputs: list[Tensor] = []

    drawn = [s for _, s in streams(run.model)]  # the picture must not use up the run's numbers
    kept = [(b, b.value().copy()) for b in run.model.buffers()]  # nor count as a step

    def note(module: Any, y: Any) -> None:
        if isinstance(y, Tensor):
            shapes[y.node] = y.shape
            if module is run.model:
                outputs.append(y)

    with watch(note), rewound(states(drawn), drawn):
        loss = run.recipe.loss(run.model, first, *others)
    with no_grad():
        for buffer, value in kept:
            buffer[...] = value
    also = {"labels": (np.shape(others[0]), outputs[-1])} if others and outputs else {}
    return viz.graph(
        loss,
        shapes=shapes,
        data=data,
        also=also,
        title=f"One training step of {run.recipe.name}",
    )
