"""Fewer, longer axes: neighbouring axes of a kernel become one where every operand allows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from .kernel import ROW, Fold, Kernel, Operand, Statement, Store

__all__ = ["by_rows", "collapse", "flat", "operands"]


def operands(kernel: Kernel) -> Iterator[Operand]:
    """Of its loads, stores and folds."""
    for s in kernel.body:
        if s.operand is not None:
            yield s.operand
    for out in kernel.outputs:
        yield out.to


def flat(kernel: Kernel) -> bool:
    """Whether its only axis longer than 1 is the first, along which no row is told apart."""
    return kernel.space[1:] == (1,) and not any(o.index for o in operands(kernel))


def collapse(kernel: Kernel) -> tuple[Kernel, int]:
    """An equal kernel of fewer axes, with the number of its points for one of the first axis.

    Two axes become one where each operand steps from the end of the inner one to its next start
    as it steps within it. A space that becomes one axis is (n, 1). The pieces of both agree: with
    (k, unit) = collapse(kernel),

        evaluate(kernel, args, lo, hi, piece) = evaluate(k, args, lo * unit, hi * unit, piece)

    >>> import numpy as np
    >>> f = np.dtype(float)
    >>> x, y = (Operand(n, f, 0, (12, 4, 1)) for n in range(2))
    >>> body = Statement("load", (), f, x), Statement("exp", (0,), f)
    >>> print(*collapse(Kernel((2, 3, 4), body, (Store(1, y),))))
    space [24, 1]
    %0 = float64 load float64 p0[1, 0]
    %1 = float64 exp %0
    store %1 -> float64 p1[1, 0] 12
    """
    kernel = shorten(kernel)
    unit = 1
    k = len(kernel.space) - 2
    while k >= 0:
        if mergeable(kernel, k):
            if k == 0:
                unit *= kernel.space[1]
            kernel = merge(kernel, k)
        k -= 1
    if len(kernel.space) == 1:
        kernel = rebuild(kernel, (*kernel.space, 1), lambda t: (*t, 0), lambda a: a)
    return kernel, unit


def shorten(kernel: Kernel) -> Kernel:
    """Places along an axis of length 1 are 0; a row of length 1 is its own sum."""
    short = kernel.space[-1] == 1
    body = []
    for s in kernel.body:
        if s.op == "place" and kernel.space[s.number] == 1:
            s = Statement("const", (), s.dtype, None, 0)
        elif s.op in ROW and short:
            same = kernel.body[s.args[0]].dtype == s.dtype
            s = Statement("copy" if same else "cast", s.args, s.dtype)
        body.append(s)
    outputs = tuple(
        replace(out, rows=False) if isinstance(out, Fold) and short else out
        for out in kernel.outputs
    )
    return Kernel(kernel.space, tuple(body), outputs)


def mergeable(kernel: Kernel, k: int) -> bool:
    """Whether the axes k and k + 1 can be one."""
    outer, inner = kernel.space[k], kernel.space[k + 1]
    last = k + 2 == len(kernel.space)
    if last and inner == 1 and any(o.index for o in operands(kernel)):
        return False
    if 1 in (outer, inner):
        return k > 0 or not last or not by_rows(kernel)
    if any(s.op == "place" and s.number in (k, k + 1) for s in kernel.body):
        return False
    if last and by_rows(kernel):
        return False
    return all(o.strides[k] == o.strides[k + 1] * inner for o in operands(kernel))


def by_rows(kernel: Kernel) -> bool:
    """Whether something is meant once for each row."""
    return (
        any(s.op in ROW for s in kernel.body)
        or any(o.index for o in operands(kernel))
        or any(out.rows if isinstance(out, Fold) else once(kernel, out) for out in kernel.outputs)
    )


def once(kernel: Kernel, out: Store) -> bool:
    """Whether a store is made once for a row of several points."""
    return out.to.strides[-1] == 0 and kernel.space[-1] != 1


def merge(kernel: Kernel, k: int) -> Kernel:
    outer, inner = kernel.space[k : k + 2]

    def strides(t: tuple[int, ...]) -> tuple[int, ...]:
        both = t[k + 1] if inner != 1 else t[k] if outer != 1 else 0
        return (*t[:k], both, *t[k + 2 :])

    space = (*kernel.space[:k], outer * inner, *kernel.space[k + 2 :])
    return rebuild(kernel, space, strides, lambda axis: axis - (axis > k))


def rebuild(
    kernel: Kernel,
    space: tuple[int, ...],
    strides: Callable[[tuple[int, ...]], tuple[int, ...]],
    axis: Callable[[int], int],
) -> Kernel:
    """The same over another space: strides and axes are mapped."""

    def moved(o: Operand) -> Operand:
        return replace(o, strides=strides(o.strides))

    body = tuple(
        replace(s, operand=moved(s.operand))
        if s.operand is not None
        else replace(s, number=axis(s.number))
        if s.op == "place"
        else s
        for s in kernel.body
    )
    return Kernel(space, body, tuple(replace(out, to=moved(out.to)) for out in kernel.outputs))
