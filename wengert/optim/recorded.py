"""A step of an optimizer as lines of a program that is being recorded.

The rule of the optimizer runs as it stands, once for every parameter, on cells in place of rows and
on numbers that are read anew at every run (`wengert.compile.live`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from wengert import trace
from wengert.compile import live
from wengert.compile.live import Cell
from wengert.errors import UnsupportedError
from wengert.ops.elementwise import neg, sub, where
from wengert.trace import EAGER, OPS, Tensor, generation, make, no_grad

__all__ = [
    "only_if", "recorded_clip", "recorded_mean", "recorded_norm", "recorded_step", "taken_back",
    "unrecorded",
]  # fmt: skip


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
        g = getattr(p.node, "grad", None)
        gradients.append(g.data if isinstance(g, Tensor) else g)
    present = [i for i, g in enumerate(gradients) if g is not None]
    if not present:
        return
    rows = dict(block.states)
    tracer.conditions.append(lambda: all(block.states[k] is row for k, row in rows.items()))
    options = Options(block.group, tracer)
    only = tracer.memo.get(only_if)
    reads = optimizer.reads_values(options)
    runs = list(block.runs(present))
    for first, last in runs:
        if last > first:
            tracer.conditions.append(
                lambda a=first, b=last: (
                    block.steps.count(block.steps[a]) == len(block.steps)
                    or len(set(block.steps[a : b + 1])) == 1
                )
            )
        more = tracer.memo[id(block), first] = tracer.memo.get((id(block), first), 0) + 1
        t = tracer.numbers.read(
            (id(block), first, more), lambda a=first, more=more: block.steps[a] + more
        )
        for i in range(first, last + 1):
            p, g = block.parameters[i], Cell(tracer, gradients[i])
            if getattr(options, "maximize", False):
                g.put(neg(g.value))
            views = [block.view(k, i) for k in rows]
            cells = [Cell(tracer, tracer.state(v)) for v in views]
            value = Cell(tracer, p.data) if reads else None
            optimizer.update(options, t, g, value, Cell(tracer, None, p.data), *cells)
            for v, c in zip(views, cells):
                tracer.change(v, c.value if only is None else where(only, c.value, tracer.state(v)))
            new = sub(p.data, g.value)
            p.data = new if only is None else where(only, new, p.data)
            p.store = generation(p) + 1

    def counted() -> None:
        steps = block.steps
        for first, last in runs:
            steps[first : last + 1] = [steps[first] + 1] * (last + 1 - first)

    tracer.after.append(counted)


@contextmanager
def only_if(condition: Tensor) -> Iterator[None]:
    """Inside, recorded steps and running means change nothing in a run where this is False.

    They are counted all the same: see `taken_back`.
    """
    memo = live.recording().memo
    memo[only_if] = condition.data
    try:
        yield
    finally:
        del memo[only_if]


def taken_back(optimizer: Any, ema: Any = None) -> None:
    """The last step of an optimizer, and of running means, was counted and changed nothing."""
    if ema is not None:
        ema.steps -= 1
    for block in optimizer._blocks:
        for i, p in enumerate(block.parameters):
            block.steps[i] -= getattr(p.node, "grad", None) is not None


def recorded_mean(ema: Any, tracer: Any) -> None:
    """An update of running means: e <- e + (p - e) share, with the share of that step."""
    more = tracer.memo[id(ema)] = tracer.memo.get(id(ema), 0) + 1  # updates in one run
    share = tracer.numbers.read((id(ema), more), lambda: ema._share(ema.steps + more))
    only = tracer.memo.get(only_if)
    with no_grad():
        for e, p in zip(ema.values, ema.parameters):
            tracer.touch(p)
            old = tracer.state(e)
            mean: Any = Cell(tracer, old)
            now: Any = Cell(tracer, p.data)
            if e.dtype.kind in "fc":
                mean += (now - mean) * share
            new = mean.value if e.dtype.kind in "fc" else p.data
            tracer.change(e, new if only is None else where(only, new, old))
    values = list(ema.values)
    tracer.conditions.append(lambda: all(a is b for a, b in zip(ema.values, values)))
    tracer.after.append(lambda: setattr(ema, "steps", ema.steps + 1))


def recorded_norm(gradients: list[Any], tracer: Any, p: float = 2.0) -> Any:
    """The p-norm of gradients as one vector, which a run hands out as a number."""
    parts = []
    with no_grad():
        for g in gradients:
            tracer.touch(g)
            g = g.data if isinstance(g, Tensor) else g
            wide = OPS["Cast"](np.dtype(np.complex128 if g.dtype.kind == "c" else np.float64))(g)
            size: Any = np.abs(make(wide, None, EAGER))
            if p == np.inf:
                parts.append(np.max(size, initial=0.0))
            elif p in (1, 2):
                parts.append(np.sum(size if p == 1 else np.square(size)))
            else:
                parts.append(np.linalg.norm(size.reshape(-1), p))
        if p in (1, 2):
            total: Any = sum(parts, 0.0)
            return tracer.number_of(np.sqrt(total) if p == 2 else total)
        joined: Any = np.stack(parts)
        return tracer.number_of(np.max(joined) if p == np.inf else np.linalg.norm(joined, p))


def recorded_clip(leaves: list[Tensor], limit: float, eps: float, p: float, tracer: Any) -> Any:
    """Gradients scaled as by `clip_grad_norm_`, and the norm, which a run hands out."""
    for leaf in leaves:
        tracer.touch(leaf)
    norm = recorded_norm([leaf.node.grad for leaf in leaves], tracer, p)
    if limit == np.inf:
        return norm
    with no_grad():
        factor = np.where(norm + eps <= limit, 1.0, limit / (norm + eps))
        for leaf in leaves:
            g = leaf.node.grad
            g = g if isinstance(g, Tensor) else make(g, None, EAGER)
            leaf.grad = g * factor.astype(g.real.dtype)
    return norm


def unrecorded(what: str, fix: str) -> None:
    """Refuse, while a program is recorded, what is decided by numbers in Python."""
    if trace.MODES and live.recording() is not None:
        raise UnsupportedError(f"{what} in a compiled function", "it changes numbers in Python",
                               fix=fix)  # fmt: skip
