"""How a kernel meets a machine: how many lanes, and which way they run."""

from __future__ import annotations

from ...collapse import collapse, flat, operands
from ...kernel import ROW, Fold, Kernel, Operand
from .plan import length
from .turn import turn

__all__ = ["crossed", "crossing", "width"]

SMALL = 12  # statements of a body that is written out for as many rows as there are lanes


def width(kernel: Kernel, native: int = 64) -> int:
    """How many lanes suit a kernel on a machine with vectors of `native` bytes.

    Twice as many as fit a vector of its widest floats, so that two chains of instructions are
    under way; as many as fit where that spares a vector or where rows are swept together; fewer
    for a short row.
    """
    kernel, _ = collapse(kernel)
    turned = turn(kernel)
    kernel = turned or kernel
    wide = [s.dtype for s, flat in zip(kernel.body, kernel.by_row()) if not flat]
    wide += [out.to.dtype for out in kernel.outputs]
    floats = [d.itemsize for d in wide if d.kind == "f"]
    size = max(floats or [d.itemsize for d in wide if d.kind == "i"] or [4])
    one = native // size
    if turned is not None or crossed(kernel, one):
        return one
    row = length(kernel)
    while one > 1 and row <= one // 2:
        one //= 2
    vectors = -(-row // one)
    return one if vectors in (0, 1, 3) or columns(kernel) else 2 * one


def columns(kernel: Kernel) -> bool:
    """Whether columns are combined: a fold keeps the row and the rows meet in it."""
    return kernel.space[-2] > 1 and any(
        isinstance(out, Fold) and out.to.strides[-1] != 0 and out.to.strides[-2] == 0
        for out in kernel.outputs
    )


def crossing(o: Operand) -> bool:
    """Whether neighbours in memory are in different rows."""
    return not o.index and o.strides[-2] == 1 and o.strides[-1] not in (0, 1)


def crossed(kernel: Kernel, width: int) -> bool:
    """Whether squares of a collapsed kernel are transposed on the way from memory or to it."""
    if any(s.op in ROW for s in kernel.body) or flat(kernel) or width == 1:
        return False
    large = min(kernel.space[-2:]) >= width
    return large and len(kernel.body) <= SMALL and any(map(crossing, operands(kernel)))
