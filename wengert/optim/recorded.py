"""A step of an optimizer as lines of a program that is being recorded.

The rule of the optimizer runs as it stands, once for every parameter, on cells in place of rows and
on numbers that are read anew at every run (`wengert.compile.live`).
"""

from __future__ import annotations

from typing import Any

from wengert.compile.live import Cell
from wengert.errors import UnsupportedError
from wengert.ops.elementwise import neg, sub
from wengert.trace import Tensor, generation

__all__ = ["recorded_step"]


class Options:
    """The hyperparameters of a group while a step is recorded: floats are read at every run."""

    def __init__(self, group: Any, tracer: Any) -> None:
        self._group, self._tracer = group, tracer
        self._same: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        group, tracer = self._group, self._tracer
        value = getattr(group, name)
        if isinstance(value, tuple):
            return tuple([self._number(name, i, v) for i, v in enumerate(value)])
        if isinstance(value, float | int) and not isinstance(value, bool):
            return tracer.numbers.read((id(group), name), lambda: getattr(group, name))
        if name not in self._same:
            self._same.add(name)
            tracer.conditions.append(lambda: getattr(group, name) == value)
        return value

    def _number(self, name: str, i: int, value: Any) -> Any:
        group = self._group
        return self._tracer.numbers.read((id(group), name, i), lambda: getattr(group, name)[i])


def recorded_step(optimizer: Any, block: Any, tracer: Any) -> None:
    """The update of one block's parameters that have a gradient."""
    name = type(optimizer).__name__
    if not optimizer.traceable or block.gradient.dtype.kind != "f":
        raise UnsupportedError(
            f"{name}.step() in a compiled function",
            "its rule is not elementwise, or reads numbers in Python",
            fix=f"compile what comes before, and call {name}.step() outside",
        )
    gradients = []
    for p in block.parameters:
        tracer.touch(p)
        g = p.node.grad
        gradients.append(g.data if isinstance(g, Tensor) else g)
    present = [i for i, g in enumerate(gradients) if g is not None]
    if not present:
        return
    rows = dict(block.states)
    tracer.conditions.append(lambda: all(block.states[k] is row for k, row in rows.items()))
    options = Options(block.group, tracer)
    reads = optimizer.reads_values(options)
    runs = list(block.runs(present))
    steps = block.steps
    for first, last in runs:
        if last > first:
            tracer.conditions.append(
                lambda a=first, b=last: (
                    steps.count(steps[a]) == len(steps) or len(set(steps[a : b + 1])) == 1
                )
            )
        t = tracer.numbers.read((id(block), first), lambda a=first: steps[a] + 1)
        for i in range(first, last + 1):
            p, g = block.parameters[i], Cell(tracer, gradients[i])
            if getattr(options, "maximize", False):
                g.put(neg(g.value))
            views = [block.view(k, i) for k in rows]
            cells = [Cell(tracer, tracer.state(v)) for v in views]
            value = Cell(tracer, p.data) if reads else None
            optimizer.update(options, t, g, value, Cell(tracer, None, p.data), *cells)
            for v, c in zip(views, cells):
                tracer.change(v, c.value)
            p.data = sub(p.data, g.value)
            p.store = generation(p) + 1

    def counted() -> None:
        for first, last in runs:
            steps[first : last + 1] = [steps[first] + 1] * (last + 1 - first)

    tracer.after.append(counted)
