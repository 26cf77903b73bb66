"""What a model is made of: a table of its modules, the shapes that they give, their parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from wengert import tree
from wengert.errors import WengertError
from wengert.trace import Tensor, no_grad
from wengert.transforms.memory import columns, size
from wengert.transforms.staging import stage
from wengert.types import shape_of

from .module import Module, watch

__all__ = ["Summary", "SummaryRow", "summary"]


@dataclass(frozen=True)
class SummaryRow:
    """One module: `shape` is that of what it gives, None if it was not called."""

    path: str
    kind: str
    shape: Any
    parameters: int  # of its own, not those of modules below
    trained: int
    bytes: int
    output_bytes: int


class Summary:
    """The report of `summary`: `str()` is a table.

    Attributes:
        rows: a SummaryRow for each module.
        parameters, trained: how many numbers there are, each counted once, and how many of them
            require a gradient.
        parameter_bytes: what the parameters take; buffer_bytes: the buffers.
        output_bytes: what the modules that have none below give in one call.
    """

    def __init__(self, model: Module, rows: list[SummaryRow]) -> None:
        own = [t for _, t in model.named_parameters()]
        self.rows = rows
        self.parameters = sum(t.size for t in own)
        self.trained = sum(t.size for t in own if t.requires_grad)
        self.parameter_bytes = sum(t.nbytes for t in own)
        self.buffer_bytes = sum(t.nbytes for t in model.buffers())
        self.output_bytes = sum(r.output_bytes for r in rows)

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        table = [("module", "class", "output", "parameters", "bytes")]
        for r in self.rows:
            count = f"{r.parameters:,}" if r.parameters else "-"
            frozen = " (frozen)" if r.parameters and not r.trained else ""
            table.append((
                r.path or ".", r.kind, shown(r.shape), count + frozen,
                size(r.bytes) if r.bytes else "-",
            ))  # fmt: skip
        lines = columns(table, left=(0, 1, 2))
        lines.append(
            f"  {self.parameters:,} parameters ({size(self.parameter_bytes)}), {self.trained:,} of "
            f"them trained"
        )
        if self.buffer_bytes:
            lines.append(f"  {size(self.buffer_bytes)} of buffers")
        if self.output_bytes:
            lines.append(f"  {size(self.output_bytes)} of outputs in one call")
        return "\n".join(lines)


def shown(shape: Any) -> str:
    if shape is None:
        return "-"
    if isinstance(shape, tuple) and all(isinstance(n, int) for n in shape):
        return str(list(shape))
    return " ".join(map(shown, shape))


def summary(model: Module, *inputs: Any, dtype: Any = np.float32) -> Summary:
    """A table of the modules of a model.

    With inputs, the shapes of what every module gives are found by tracing one call of the model,
    after `eval()` and with nothing recorded; where shapes are given in place of arrays nothing of
    that size is computed, unless the model asks for values. The model is left as it was.

    Args:
        model: the model.
        inputs: arrays, or shapes as tuples of integers. None of them: no shapes are shown.
        dtype: of the inputs that are given as shapes; an integer one for tokens.

    Example:
        >>> from wengert import nn
        >>> model = nn.Sequential(nn.Linear(64, 128, rng=0), nn.ReLU(), nn.Linear(128, 10, rng=0))
        >>> print(summary(model, (32, 64)))
          module    class       output     parameters     bytes
          .         Sequential  [32, 10]            -         -
          layers.0  Linear      [32, 128]       8,320  32.5 KiB
          layers.1  ReLU        [32, 128]           -         -
          layers.2  Linear      [32, 10]        1,290   5.0 KiB
          9,610 parameters (37.5 KiB), 9,610 of them trained
          33.2 KiB of outputs in one call
    """
    shapes = _shapes(model, inputs, np.dtype(dtype)) if inputs else {}
    rows, counted = [], set()
    for path, module in model.named_modules():
        own = []
        for name in module._trained:
            t = module.__dict__.get(name)
            if isinstance(t, Tensor) and id(t) not in counted:
                counted.add(id(t))
                own.append(t)
        shape, nbytes = shapes.get(id(module), (None, 0))
        leaf = next(module.named_children(), None) is None
        rows.append(
            SummaryRow(
                path,
                type(module).__name__,
                shape,
                sum(t.size for t in own),
                sum(t.size for t in own if t.requires_grad),
                sum(t.nbytes for t in own),
                nbytes if leaf else 0,
            )
        )
    return Summary(model, rows)


def _shapes(model: Module, inputs: tuple[Any, ...], dtype: Any) -> dict[int, tuple[Any, int]]:
    """(the shapes of what it gives, their bytes) for every module that was called, by its id."""
    found: dict[int, tuple[Any, int]] = {}

    def note(module: Module, y: Any) -> None:
        leaves = [v for v in tree.leaves(y) if hasattr(v, "shape")]
        shapes = [shape_of(v) for v in leaves]
        nbytes = sum(int(np.prod(s)) * v.dtype.itemsize for s, v in zip(shapes, leaves))
        before = found.get(id(module), (None, 0))[1]
        found[id(module)] = (shapes[0] if len(shapes) == 1 else tuple(shapes), before + nbytes)

    given = [_like(x, dtype) for x in inputs]
    modes = [(m, m.training) for m in model.modules()]
    model.eval()
    try:
        with no_grad(), watch(note):
            if any(_is_shape(x) for x in inputs):
                try:  # on shapes alone
                    stage(lambda *xs: _tensors(model(*xs)), *given)
                    return found
                except (WengertError, TypeError, ValueError, AttributeError):
                    found.clear()  # it looks at values
            model(
                *[np.zeros(x.shape, x.dtype) if _is_shape(i) else x for x, i in zip(given, inputs)]
            )
    finally:
        for module, mode in modes:
            module.training = mode
    return found


def _is_shape(x: Any) -> bool:
    return isinstance(x, tuple) and all(isinstance(n, int | np.integer) for n in x)


def _like(x: Any, dtype: Any) -> Any:
    """An array of a shape that takes no memory; anything else as it is."""
    return np.broadcast_to(np.zeros((), dtype), x) if _is_shape(x) else x


def _tensors(y: Any) -> list[Any]:
    return [v for v in tree.leaves(y) if isinstance(v, Tensor)]
