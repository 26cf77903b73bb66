"""The pictures in a run folder."""

from __future__ import annotations

from typing import Any, ClassVar

from wengert import viz
from wengert.nn import watch
from wengert.trace import Tensor
from wengert.train import Outcome, Run, Watcher

__all__ = ["Pictures"]


class Pictures(Watcher):
    """Draws the graph of a step before the first, and the curves after the last."""

    FILES: ClassVar[dict[str, str]] = {
        "curves.svg": "loss and accuracy",
        "gradients.svg": "gradient norm per layer",
        "graph.svg": "the computational graph of one step",
    }

    def begin(self, run: Run) -> None:
        run.folder.write("graph.svg", graph_of_step(run).encode())

    def end(self, run: Run, outcome: Outcome | None) -> None:
        if outcome is None:
            return
        name = run.recipe.name
        run.folder.write("curves.svg", viz.accuracy_and_loss(run.rows, name).encode())
        run.folder.write("gradients.svg", viz.gradient_norms(run.rows, name).encode())


def graph_of_step(run: Run) -> str:
    """The graph of the first step, from a forward pass of its own that trains nothing."""
    batch = run.parts.train[: run.options.batch_size]
    inputs = Tensor(batch.images).requires_grad_()
    shapes: dict[Any, tuple[int, ...]] = {p.node: p.shape for p in run.model.parameters()}

    def note(module: Any, y: Tensor) -> None:
        shapes[y.node] = y.shape

    with watch(note):
        prediction = run.model(inputs)
    loss = run.recipe.loss(prediction, batch.labels)
    return viz.graph(
        loss,
        shapes=shapes,
        data={inputs: run.recipe.inputs},
        also={"labels": (batch.labels.shape, prediction)},
        title=f"One training step of {run.recipe.name}",
    )
